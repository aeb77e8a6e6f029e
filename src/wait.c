/* Layer 11, face. wait: parking until a context is done.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "cancel.h"
#include "clock.h"
#include "deadline.h"
#include "futex.h"
#include <errno.h>

const uint32_t *cctx_done(const cctx_t *ctx)
{
    node_check(ctx, "cctx_done");
    struct cctx *n = ctx ? node_owner(ctx) : NULL;
    if (!n) return NULL;
    done_expose(&n->state);
    return (const uint32_t *)(const void *)&n->state;
}

/* True: n is done. A deadline that passes meanwhile is fired from here, in case the timer thread is starved. */
static bool wait_node(struct cctx *n, int64_t deadline, int64_t until)
{
    deadline_wait();
    while (!done_wait(&n->state, time_min(until, deadline))) {
        int64_t now = clock_now();      /* the kernel's idea of the time may run ahead by some nanoseconds */
        if (now >= deadline) break;
        if (now >= until) return false;
    }
    if (sync_load_acq(&n->state, done) & DONE) return true;
    deadline_fire(n);
    /* Whoever fired it, n is done by now. */
    return done_wait(&n->state, until);
}

/* By a clock that nobody sleeps by: until a cctx_domain_run has come to `until`, for which a context stands. */
static bool wait_by_run(const cctx_t *ctx, int64_t until)
{
    struct cctx *end = cctx_with_deadline(ctx, until);
    if (!end) return false;
    done_wait(&end->state, INT64_MAX);
    cctx_unref(end);
    return cctx_is_done(ctx);
}

int cctx_wait(const cctx_t *ctx)
{
    if (!ctx) return EINVAL;
    node_check(ctx, "cctx_wait");
    cancel_catch_up();
    struct cctx *n = node_owner(ctx);
    if (!n) return EDEADLK;
    if (cctx_is_done(ctx)) return cctx_err(ctx);
    if (unlikely(node_own_clock(ctx))) done_wait(&n->state, INT64_MAX);
    else wait_node(n, sync_get(ctx->deadline), INT64_MAX);
    return cctx_err(ctx);
}

bool cctx_wait_until(const cctx_t *ctx, cctx_time_t until)
{
    if (!ctx) return false;
    node_check(ctx, "cctx_wait_until");
    cancel_catch_up();
    struct cctx *n = node_owner(ctx);
    if (unlikely(node_own_clock(ctx))) return cctx_is_done(ctx) || wait_by_run(ctx, until);
    if (!n) {
        deadline_wait();
        sync_u32 nothing = {0};
        while (futex_wait(&nothing, 0, until)) {}
        return false;
    }
    return cctx_is_done(ctx) || wait_node(n, sync_get(ctx->deadline), until);
}

bool cctx_wait_for(const cctx_t *ctx, int64_t timeout)
{
    if (!ctx) return false;
    if (cctx_is_done(ctx)) {
        cancel_catch_up();
        return true;
    }
    return cctx_wait_until(ctx, time_add(node_now(ctx), timeout));
}
