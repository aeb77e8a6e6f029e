/* SPDX-License-Identifier: BSD-2-Clause */
/* pool: a small pool of threads as a program has one, and other executors that tests need. */
#ifndef CCTX_TEST_POOL_H
#define CCTX_TEST_POOL_H

#include "support.h"

#include <cctx/executor.h>

typedef struct task {
    void (*fn)(void *arg);
    void *arg;
} task_t;

/* [pool] */
typedef struct pool {
    cctx_executor_t executor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    task_t queue[1024];
    unsigned taken, put;
    bool closed;
    pthread_t threads[2];
} pool_t;

static inline int pool_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    pool_t *pool = (pool_t *)self;
    int err = EAGAIN;
    pthread_mutex_lock(&pool->lock);
    if (pool->put - pool->taken < 1024) {
        pool->queue[pool->put++ % 1024] = (task_t){fn, arg};
        pthread_cond_signal(&pool->changed);
        err = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

static inline void *pool_main(void *arg)
{
    pool_t *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->taken == pool->put && !pool->closed)
            pthread_cond_wait(&pool->changed, &pool->lock);
        if (pool->taken == pool->put)
            break;
        task_t task = pool->queue[pool->taken++ % 1024];
        pthread_mutex_unlock(&pool->lock);
        task.fn(task.arg);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}
/* [pool end] */

static inline pool_t *pool_new(void)
{
    pool_t *pool = calloc(1, sizeof *pool);
    CHECK(pool != NULL);
    pool->executor.submit = pool_submit;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    for (int i = 0; i < 2; i++)
        pool->threads[i] = thread_start(pool_main, pool);
    return pool;
}

/* What was submitted is run first. All who submit have returned from it. */
static inline void pool_free(pool_t *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < 2; i++)
        thread_join(pool->threads[i]);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->changed);
    free(pool);
}

static inline int submit_inline(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    fn(arg);
    return 0;
}

static inline int submit_never(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    (void)fn;
    (void)arg;
    return EAGAIN;
}

/* Keeps one task until the test runs it. */
typedef struct late {
    cctx_executor_t executor;
    task_t task;
    gate_t submitted;
    char thread[16]; /* the name of the one that submitted */
} late_t;

static inline int late_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    late_t *late = (late_t *)self;
    CHECK(!late->task.fn);
    pthread_getname_np(pthread_self(), late->thread, sizeof late->thread);
    late->task = (task_t){fn, arg};
    gate_open(&late->submitted);
    return 0;
}

static inline void late_run(late_t *late)
{
    task_t task = late->task;
    late->task.fn = NULL;
    task.fn(task.arg);
}

#endif
