/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * executors: what a program may have to run its tasks on.
 *
 *   pool_t       threads that take the oldest function from a queue
 *   later_t      an event loop: what is submitted runs when later_run is called
 *   inline_run   runs it before submit returns
 *   refuses      runs nothing
 */
#ifndef CCTX_TEST_EXECUTORS_H
#define CCTX_TEST_EXECUTORS_H

#include "support.h"

#include <cctx/executor.h>

typedef struct job {
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
} job_t;

typedef struct later {
    cctx_executor_t executor;
    pthread_mutex_t lock;
    pthread_cond_t more;
    job_t *first, **last;
    bool closed;
    unsigned submitted;
    int refuse_every; /* one in so many is refused with EAGAIN; 0: none */
} later_t;

static inline int later_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    later_t *later = (later_t *)(void *)self;
    job_t *job = malloc(sizeof *job);
    CHECK(job != NULL);
    *job = (job_t){NULL, fn, arg};
    pthread_mutex_lock(&later->lock);
    bool refused = later->refuse_every > 0 && ++later->submitted % (unsigned)later->refuse_every == 0;
    if (!refused) {
        *later->last = job;
        later->last = &job->next;
        pthread_cond_signal(&later->more);
    }
    pthread_mutex_unlock(&later->lock);
    if (refused)
        free(job);
    return refused ? EAGAIN : 0;
}

static inline void later_init(later_t *later)
{
    *later = (later_t){.executor = {later_submit}};
    later->last = &later->first;
    pthread_mutex_init(&later->lock, NULL);
    pthread_cond_init(&later->more, NULL);
}

/* Runs the oldest function; false if there is none, or, if it sleeps until there is one, none will come. */
static inline bool later_run(later_t *later, bool sleeps)
{
    pthread_mutex_lock(&later->lock);
    while (sleeps && !later->first && !later->closed)
        pthread_cond_wait(&later->more, &later->lock);
    job_t *job = later->first;
    if (job && !(later->first = job->next))
        later->last = &later->first;
    pthread_mutex_unlock(&later->lock);
    if (!job)
        return false;
    job->fn(job->arg);
    free(job);
    return true;
}

/* Nothing is submitted any more. */
static inline void later_close(later_t *later)
{
    pthread_mutex_lock(&later->lock);
    later->closed = true;
    pthread_cond_broadcast(&later->more);
    pthread_mutex_unlock(&later->lock);
}

static inline void later_end(later_t *later)
{
    CHECK(later->first == NULL);
    pthread_mutex_destroy(&later->lock);
    pthread_cond_destroy(&later->more);
}

enum { POOL_MOST = 8 };

typedef struct pool {
    later_t later; /* first, so that the executor is */
    unsigned threads;
    pthread_t thread[POOL_MOST];
} pool_t;

static inline void *pool_main(void *pool)
{
    while (later_run(pool, true)) {
    }
    return NULL;
}

static inline cctx_executor_t *pool_start(pool_t *pool, unsigned threads)
{
    later_init(&pool->later);
    pool->threads = threads;
    for (unsigned i = 0; i < threads; i++)
        pool->thread[i] = thread_start(pool_main, pool);
    return &pool->later.executor;
}

static inline void pool_stop(pool_t *pool)
{
    later_close(&pool->later);
    for (unsigned i = 0; i < pool->threads; i++)
        thread_join(pool->thread[i]);
    later_end(&pool->later);
}

static inline int inline_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    errno = EXDEV; /* as if something in it had failed */
    fn(arg);
    return 0;
}

static inline int refusing_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    (void)fn;
    (void)arg;
    errno = EXDEV;
    return EAGAIN;
}

static inline cctx_executor_t *inline_run(void)
{
    static cctx_executor_t executor = {inline_submit};
    return &executor;
}

static inline cctx_executor_t *refuses(void)
{
    static cctx_executor_t executor = {refusing_submit};
    return &executor;
}

#endif
