/* Layer 11, face. look: what a context says of itself.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "cancel.h"
#include "clock.h"
#include <errno.h>

#ifndef SYNC_RELACY
_Static_assert(ECANCELED < 256 && ETIMEDOUT < 256, "see cctx_err");
#endif

cctx_time_t cctx_now(void) { return clock_now(); }

const cctx_cause_t *cctx_cause(const cctx_t *ctx)
{
    node_check(ctx, "cctx_cause");
    struct cctx *n = ctx ? node_owner(ctx) : NULL;
    return n && (sync_load_acq(&n->state, done) & DONE) ? cancel_cause(n) : NULL;
}

bool cctx_deadline(const cctx_t *ctx, cctx_time_t *deadline)
{
    node_check(ctx, "cctx_deadline");
    int64_t d = ctx ? sync_get(ctx->deadline) : CCTX_NEVER;
    if (d == CCTX_NEVER) return false;
    if (deadline) *deadline = d;
    return true;
}

int64_t cctx_remaining(const cctx_t *ctx)
{
    node_check(ctx, "cctx_remaining");
    if (!ctx || cctx_is_done(ctx)) return 0;
    int64_t d = sync_get(ctx->deadline);
    if (d == CCTX_NEVER) return CCTX_NEVER;
    int64_t left = time_add(d, -node_now(ctx));
    return left > 0 ? left : 0;
}

void *cctx_value(const cctx_t *ctx, const cctx_key_t *key)
{
    node_check(ctx, "cctx_value");
    return ctx ? table_get(sync_get(ctx->values), key) : NULL;         /* no table has a key NULL */
}

const char *cctx_strerror(int err)
{
    switch (err) {
    case 0: return "context live";
    case ECANCELED: return cctx_canceled.text;
    case ETIMEDOUT: return cctx_deadline_exceeded.text;
    case EINVAL: return "invalid argument";
    case ENOMEM: return "out of memory";
    case EAGAIN: return "a library thread could not be made";
    case EDEADLK: return "context can never be done";
    default: return "unknown error";
    }
}
