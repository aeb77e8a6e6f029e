/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread that cancels the context of each round, some steps after the round has begun: what a bridge does meanwhile
 * is to be stopped, or to end by itself, and nothing that comes after it is to be hit.
 *
 *     duel_begin(&duel);
 *     for (each round) {
 *         duel.ctx = ..., duel.steps = ...;
 *         pthread_barrier_wait(&duel.barrier);
 *         ...
 *         pthread_barrier_wait(&duel.barrier);         the cancel has returned
 *     }
 *     duel_end(&duel);
 */
#ifndef CCTX_TEST_BRIDGE_DUEL_H
#define CCTX_TEST_BRIDGE_DUEL_H

#include "support.h"

typedef struct duel {
    pthread_barrier_t barrier;
    pthread_t thread;
    cctx_t *ctx;    /* NULL: no more */
    unsigned steps; /* to take before the cancel */
} duel_t;

static inline void *duel_cancel(void *arg)
{
    duel_t *duel = arg;
    for (;;) {
        pthread_barrier_wait(&duel->barrier);
        if (!duel->ctx)
            return NULL;
        for (volatile unsigned n = duel->steps; n > 0; n--)
            continue;
        cctx_cancel(duel->ctx);
        pthread_barrier_wait(&duel->barrier);
    }
}

static inline void duel_begin(duel_t *duel)
{
    duel->ctx = NULL;
    pthread_barrier_init(&duel->barrier, NULL, 2);
    duel->thread = thread_start(duel_cancel, duel);
}

static inline void duel_end(duel_t *duel)
{
    duel->ctx = NULL;
    pthread_barrier_wait(&duel->barrier);
    thread_join(duel->thread);
    pthread_barrier_destroy(&duel->barrier);
}

#endif
