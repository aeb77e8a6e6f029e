/* Layer 2, machine. peer: other processes of this machine: who they are, whether they live, and a futex shared with them.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A process is known by its number and the time of its start, since numbers are used again: one word, that no two
 * processes of a machine share. Where /proc cannot be read the time is 0, unknown, and the number alone tells. */
#ifndef CCTXI_PEER_H
#define CCTXI_PEER_H

#include "sync.h"

enum { PEER_NUMBER_BITS = 22, PEER_BITS = 63 };         /* Linux has no process numbers beyond 2^22 */

/* This process. Never 0, and below 2^PEER_BITS. The first call of a process reads /proc. */
uint64_t peer_self(void);

/* A descriptor that polls readable once the process has died; or -1 with errno: ESRCH: it is dead. What is no process
 * at all is dead, too. Reads /proc. */
int peer_open(uint64_t who);
/* True: it is dead for certain. Leaves errno alone. */
bool peer_dead(uint64_t who);

/* The namespaces by which process numbers and the clock are told here, as one number; 0: unknown. */
uint64_t peer_space(void);

/* A futex in memory that processes share. Sleeps while *bell is seen, until a wake or a signal: look again. The
 * memory must stay mapped. Both leave errno alone. */
void peer_wait(sync_u32 *bell, uint32_t seen);
void peer_wake(sync_u32 *bell);

#endif
