/* SPDX-License-Identifier: BSD-2-Clause */
/* seeded: what the library's sources call before each atomic operation, in a build with SYNC_SEEDED. */
#ifndef CCTX_TEST_SEEDED_H
#define CCTX_TEST_SEEDED_H

void sched_point(const char *function, int line);

#endif
