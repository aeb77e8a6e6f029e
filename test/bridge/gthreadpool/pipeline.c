/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipeline: adds up numbers that GLib's threads take from a queue, until SIGINT, a time-out or the end.
 * usage: pipeline NUMBERS MILLISECONDS
 */
#include <cctx/bridge/gthreadpool.h>
#include <cctx/group.h>
#include <cctx/signal.h>
#include <stdio.h>

#include "queue.h"

static queue_t queue = {.holes = QUEUE_ROOM, .lock = PTHREAD_MUTEX_INITIALIZER};

/* [pool] */
/* A task: takes numbers until 0 comes, or the context ends. */
static int add(const cctx_t *ctx, void *arg)
{
    long number;
    int err;
    while ((err = queue_get(&queue, ctx, &number)) == 0 && number != 0)
        __atomic_fetch_add((long *)arg, number, __ATOMIC_RELAXED);
    return err;
}

static int add_all(const cctx_t *ctx, long n, long *sum)
{
    static cctx_gthreadpool_t pool;
    int err = cctx_gthreadpool_open(&pool, 4);
    if (err != 0)
        return err;
    cctx_group_t *group = cctx_group_new(ctx, &pool.executor, 0);
    for (int i = 0; group && i < 4; i++)
        cctx_group_go(group, add, sum);
    for (; group && n > -4 && err == 0; n--)
        err = queue_put(&queue, cctx_group_context(group), n > 0 ? n : 0);
    int first = group ? cctx_group_wait(group) : ENOMEM;
    cctx_group_free(group);
    cctx_gthreadpool_close(&pool);
    return first;
}
/* [pool end] */

int main(int argc, char **argv)
{
    long sum = 0;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    cctx_t *root = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = root && argc == 3 ? cctx_with_timeout(root, CCTX_MS(atol(argv[2]))) : NULL;
    if (!ctx)
        return 2;
    int err = add_all(ctx, atol(argv[1]), &sum);
    printf("%ld: %s\n", sum, err ? cctx_strerror(err) : "all");
    cctx_close(ctx);
    cctx_close(root);
    return err != 0;
}
