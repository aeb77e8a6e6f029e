/* SPDX-License-Identifier: BSD-2-Clause */
/* pools: what pools_tests.h asks of each bridge to a pool of threads. For C and C++. */
#ifndef CCTX_TEST_BRIDGE_POOLS_H
#define CCTX_TEST_BRIDGE_POOLS_H

#include <cctx/executor.h>
#include <cctx/group.h>

enum { POOL_THREADS = 4 };

#ifdef __cplusplus
extern "C" {
#endif

/* Runs body(executor, arg), which waits for what it submits. POOL_THREADS threads beside the caller's. */
void pool_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg);

/* Is this a thread of the pool? */
bool pool_mine(void);

/* Does it take tasks of any thread? */
extern const bool pool_outside;

/* Has the pool run fn(arg) n times, without cctx, and calls wait(arg), which returns when it has. */
void pool_bare(unsigned n, void (*fn)(void *arg), void (*wait)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
