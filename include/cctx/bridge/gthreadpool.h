/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/gthreadpool.h - GLib's GThreadPool as an executor. */
#ifndef CCTX_BRIDGE_GTHREADPOOL_H
#define CCTX_BRIDGE_GTHREADPOOL_H

#include <cctx/executor.h>

#include <glib.h>
#include <stdlib.h>

/*
 *     static cctx_gthreadpool_t pool;
 *     int err = cctx_gthreadpool_open(&pool, 8);
 *     cctx_group_t *group = cctx_group_new(ctx, &pool.executor, 0);
 *     ... cctx_group_go, cctx_after_func_on ...
 *     cctx_gthreadpool_close(&pool);
 *
 * TRAPS: g_thread_pool_push says FALSE where it cannot make a thread, and has queued its task: to hand that
 * on as a refusal would run the task twice. A pool that has no thread yet may never run it; this one is
 * exclusive and has one from the start. A task that waits for its context keeps a thread of the pool.
 */
typedef struct cctx_gthreadpool {
    cctx_executor_t executor;
    GThreadPool *pool;
} cctx_gthreadpool_t;

typedef struct cctx_gthreadpool_task {
    void (*fn)(void *arg);
    void *arg;
} cctx_gthreadpool_task_t;

static inline void cctx_gthreadpool_run(gpointer data, gpointer unused)
{
    cctx_gthreadpool_task_t task = *(cctx_gthreadpool_task_t *)data;

    (void)unused;
    free(data);
    task.fn(task.arg);
}

/* Refuses, with ENOMEM, only where there is no memory for the task. */
static inline int cctx_gthreadpool_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    cctx_gthreadpool_task_t *task = (cctx_gthreadpool_task_t *)malloc(sizeof *task);

    if (!task)
        return ENOMEM;
    task->fn = fn;
    task->arg = arg;
    g_thread_pool_push(((cctx_gthreadpool_t *)(void *)self)->pool, task, NULL); /* queued, even if FALSE */
    return 0;
}

/*
 * cctx_gthreadpool_open - make a pool of so many threads, which stay until it is closed; or of fewer.
 *
 * Errors     EINVAL: threads is less than 1. EAGAIN: not one could be made. GLib aborts without memory.
 */
static inline CCTX_MUST_USE int cctx_gthreadpool_open(cctx_gthreadpool_t *pool, int threads)
{
    if (threads < 1)
        return EINVAL;
    pool->executor.submit = cctx_gthreadpool_submit;
    pool->pool = g_thread_pool_new(cctx_gthreadpool_run, NULL, threads, TRUE, NULL);
    if (g_thread_pool_get_num_threads(pool->pool) == 0) {
        g_thread_pool_free(pool->pool, TRUE, FALSE);
        return EAGAIN;
    }
    return 0;
}

/*
 * cctx_gthreadpool_close - run what is queued, and end the threads.
 *
 * Groups on the pool are freed before, and callbacks stopped by cctx_stop_wait: that is enough, as a push is
 * through with the pool when its task begins. Not from a thread of the pool.
 *
 * Blocking   until all has run.
 */
static inline void cctx_gthreadpool_close(cctx_gthreadpool_t *pool)
{
    g_thread_pool_free(pool->pool, FALSE, TRUE);
}

#endif
