// SPDX-License-Identifier: BSD-2-Clause
// pipeline: adds up numbers that oneTBB's threads take from a queue, until SIGINT, a time-out or the end.
// usage: pipeline NUMBERS MILLISECONDS
#include <cctx/bridge/tbb.h>
#include <cctx/group.h>
#include <cctx/signal.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <tbb/global_control.h>

#include "queue.h"

static queue_t queue = {0, QUEUE_ROOM, PTHREAD_MUTEX_INITIALIZER, 0, 0, {0}};

/* [tbb] */
// A task: takes numbers until 0 comes, or the context ends.
static int add(const cctx_t *ctx, void *sum)
{
    long number;
    int err;
    while ((err = queue_get(&queue, ctx, &number)) == 0 && number != 0)
        static_cast<std::atomic<long> *>(sum)->fetch_add(number);
    return err;
}

static int add_all(const cctx_t *ctx, long n, std::atomic<long> &sum)
{
    // Tasks that wait need threads, more than TBB has where processors are few.
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, 5);
    tbb::task_arena arena(4, 0);
    cctx_tbb_t pool(arena);
    cctx_group_t *group = cctx_group_new(ctx, &pool, 0);
    for (int i = 0; group && i < 4; i++)
        cctx_group_go(group, add, &sum);
    for (int err = 0; group && n > -4 && err == 0; n--)
        err = queue_put(&queue, cctx_group_context(group), n > 0 ? n : 0);
    int err = group ? cctx_group_wait(group) : ENOMEM;
    cctx_group_free(group);
    return err;
}
/* [tbb end] */

int main(int argc, char **argv)
{
    std::atomic<long> sum(0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    cctx_t *root = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = root && argc == 3 ? cctx_with_timeout(root, CCTX_MS(std::atol(argv[2]))) : nullptr;
    if (!ctx)
        return 2;
    int err = add_all(ctx, std::atol(argv[1]), sum);
    std::printf("%ld: %s\n", sum.load(), err ? cctx_strerror(err) : "all");
    cctx_close(ctx);
    cctx_close(root);
    return err != 0;
}
