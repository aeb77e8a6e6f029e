/* SPDX-License-Identifier: BSD-2-Clause */
/* tbb_pool: what the test, which is in C, asks of the bridge to oneTBB, which is in C++. */
#ifndef CCTX_TEST_BRIDGE_TBB_POOL_H
#define CCTX_TEST_BRIDGE_TBB_POOL_H

#include "pools.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As pool_with, but for the threads' marks. */
void tbb_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg);

/* While it is true, TBB has no memory. */
extern bool refuse_memory;

/* Unless NULL, called by a thread that has enqueued a task and not yet returned. */
extern void (*after_enqueue)(void);

/* Unless NULL, called where the executor is gone and its arena is still there. */
extern void (*after_executor)(void);

#ifdef __cplusplus
}
#endif

#endif
