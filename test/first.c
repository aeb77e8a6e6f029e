/* SPDX-License-Identifier: BSD-2-Clause */
/* first - a first program: a thread works until its context ends, and says why it ended. */
/* [first] */
#include <cctx/cctx.h>
#include <pthread.h>
#include <stdio.h>

static void *work(void *arg)
{
    const cctx_t *ctx = arg; /* const: it may look, wait and derive, but not cancel */

    while (!cctx_wait_for(ctx, CCTX_MS(10)))
        puts("working");
    printf("stopped: %s\n", cctx_cause(ctx)->text);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(5));

    if (!ctx || pthread_create(&thread, NULL, work, ctx) != 0)
        return 1;
    cctx_cancel_causef(ctx, 0, "%s closed the window", "the user");
    pthread_join(thread, NULL);
    cctx_unref(ctx);
    return 0;
}
/* [first end] */
