/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * search: looks for the divisors of a number by OpenMP's threads. The first that finds one ends the others;
 * SIGINT and a time-out end all. usage: search NUMBER MILLISECONDS
 */
#include <cctx/bridge/openmp.h>
#include <cctx/group.h>
#include <cctx/signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTS = 8, FOUND = EEXIST };

typedef struct part {
    unsigned long long number, from, divisor;
} part_t;

/* [openmp] */
/* A task: tries one number in so many. FOUND is an error for the group: it ends the other tasks. */
static int look(const cctx_t *ctx, void *arg)
{
    part_t *part = arg;
    for (unsigned long long i = part->from; i <= part->number / i; i += PARTS) {
        if (part->number % i == 0) {
            part->divisor = i;
            return FOUND;
        }
        if (cctx_is_done(ctx)) /* two loads */
            return cctx_err(ctx);
    }
    return 0;
}

static int search(const cctx_t *ctx, part_t *parts)
{
    int err = 0;
#pragma omp parallel
#pragma omp single
    {
        cctx_group_t *group = cctx_group_new(ctx, cctx_openmp(), 0);
#pragma omp taskgroup /* its end runs tasks, a wait for the group would only sleep */
        for (int i = 0; i < PARTS; i++)
            cctx_group_go(group, look, &parts[i]);
        err = group ? cctx_group_wait(group) : ENOMEM;
        cctx_group_free(group);
    }
    return err;
}
/* [openmp end] */

int main(int argc, char **argv)
{
    part_t parts[PARTS];
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    cctx_t *root = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = root && argc == 3 ? cctx_with_timeout(root, CCTX_MS(atol(argv[2]))) : NULL;
    if (!ctx)
        return 2;
    for (unsigned i = 0; i < PARTS; i++)
        parts[i] = (part_t){strtoull(argv[1], NULL, 10), i + 2, 0};
    int err = search(ctx, parts);
    for (int i = 0; i < PARTS; i++)
        if (parts[i].divisor != 0)
            printf("divided by %llu\n", parts[i].divisor);
    if (err != FOUND)
        puts(err ? cctx_strerror(err) : "a prime");
    cctx_close(ctx);
    cctx_close(root);
    return err != 0 && err != FOUND;
}
