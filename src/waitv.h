/* Layer 3, mechanism. waitv: park on one of several words, and learn which one was woken.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_WAITV_H
#define CCTXI_WAITV_H

#include "sync.h"

enum { WAITV_MOST = 128 };      /* the kernel's own limit */

struct waitv_word {
    sync_u32 *word;
    uint32_t seen;
};

enum waitv_end {                /* or the index of a word that was woken: of several, the last */
    WAITV_LOOK = -1,            /* a word is not what was seen, or a signal came */
    WAITV_TIME = -2,            /* the time has come, never before */
    WAITV_NONE = -3             /* more than one word, and the kernel cannot do that: it is older than 5.16, a sandbox
                                 * refuses it, or it has no memory */
};

/* Sleeps while each word is what was seen, until one of them is woken, or until (ns on CLOCK_MONOTONIC, not
 * negative; INT64_MAX: for ever). A wake that this sleep has taken from its word is never reported as anything else. As exact as futex_wait.
 * Leaves errno alone. */
int waitv(const struct waitv_word *words, unsigned n, int64_t until);

#endif
