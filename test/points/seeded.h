/* SPDX-License-Identifier: BSD-2-Clause */
/* seeded: what torture's build with SYNC_SEEDED gives the library's sources: a point before each atomic operation, on
 * the system's own threads. */
#ifndef CCTX_TEST_POINTS_SEEDED_H
#define CCTX_TEST_POINTS_SEEDED_H

void sched_point(const char *function, int line);

/* Who runs, told by an address of its own. */
static inline const void *thread_here(void)
{
    static _Thread_local char here;
    return &here;
}

#endif
