/* Layer 2, machine. futex: park on a word until it changes or a time comes; wake.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_FUTEX_H
#define CCTXI_FUTEX_H

#include "sync.h"

/* Sleeps while *word is seen, until a wake, a signal, or until (ns on CLOCK_MONOTONIC; INT64_MAX: for ever).
 * Returns false when the time has come, never before; true in all other cases, spurious ones included: look again.
 * The kernel lets a timed sleep run over by the thread's timer slack (50 us unless the program changed it): the sleep
 * is asked for that much shorter, and goes on if it ends early. The kernel
 * compares and queues in one step, ordered against a wake by its own full barriers. Leaves errno alone. */
bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until);

/* Wakes all that sleep on word. The caller keeps the word's memory alive. Leaves errno alone. */
void futex_wake(sync_u32 *word);

#endif
