/* Layer 11, face. handle: references and cancel.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "cancel.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const cctx_t *cctx_ref(const cctx_t *ctx)
{
    node_check(ctx, "cctx_ref");
    if (!ctx) return NULL;
    node_ref((struct cctx *)(uintptr_t)ctx);
    node_handle(ctx, 1);
    return ctx;
}

void cctx_unref(const cctx_t *ctx)
{
    struct cctx *n = (struct cctx *)(uintptr_t)ctx;
    if (!n || node_is_root(n)) return;
    node_check(ctx, "cctx_unref");
    node_handle(ctx, (uint32_t)-1);
    struct thread *t = thread_begin();
    node_unref(t, n);
    thread_end(t);
}

/* A context that is done by its own word; the cast out of a value or without_cancel context is not. */
static bool can_cancel(struct cctx *ctx, const char *call)
{
    node_check(ctx, call);
    return ctx && (sync_load_relaxed(&ctx->state, owned) & KIND_MASK) >= (uint32_t)KIND_CANCEL << KIND_SHIFT;
}

static inline void close_one(cctx_t *ctx)
{
    node_check(ctx, "cctx_close");
    node_handle(ctx, (uint32_t)-1);
    /* The last handle of a leaf: nobody can see it done any more, so the flip would be for nobody. */
    bool unseen = sync_load_acq(&ctx->refs, last_ref) == 1 &&      /* first: it orders what other handles did */
                  !(sync_load_relaxed(&ctx->state, owned) & (INNER | EXPOSED));
    if (!unseen && can_cancel(ctx, "cctx_close")) cancel_plain(ctx);
    struct thread *t = thread_begin();
    node_unref(t, ctx);
    thread_end(t);
}

/* Out of line, and called last, as cancel_late: the common way saves no register for it. */
static __attribute__((noinline)) void close_late(cctx_t *ctx)
{
    cancel_drain();
    close_one(ctx);
}

void cctx_close(cctx_t *ctx)
{
    if (!ctx || node_is_root(ctx)) return;
    if (unlikely(async_waiting())) close_late(ctx);
    else close_one(ctx);
}

bool cctx_cancel_cause(cctx_t *ctx, const cctx_cause_t *cause)
{
    cancel_catch_up();
    return can_cancel(ctx, "cctx_cancel_cause") && cancel_node(ctx, cause, CAUSE_BORROWED);
}

static inline bool cancel_one(cctx_t *ctx) { return can_cancel(ctx, "cctx_cancel") && cancel_plain(ctx); }

/* Out of line, and called last: the common way saves no register for it. */
static __attribute__((noinline)) bool cancel_late(cctx_t *ctx)
{
    cancel_drain();
    return cancel_one(ctx);
}

bool cctx_cancel(cctx_t *ctx) { return unlikely(async_waiting()) ? cancel_late(ctx) : cancel_one(ctx); }

static const cctx_cause_t out_of_memory = {ENOMEM, "out of memory"};

/* The cause and its text in one block, or NULL without memory. */
static cctx_cause_t *cause_format(const struct allocator *a, int code, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    cctx_cause_t *cause = length < 0 ? NULL : (cctx_cause_t *)block_get(a, sizeof *cause + (size_t)length + 1);
    if (cause) {
        char *text = (char *)(cause + 1);
        vsnprintf(text, (size_t)length + 1, format, again);
        cause->code = code;
        cause->text = text;
    }
    va_end(again);
    return cause;
}

bool cctx_cancel_causef(cctx_t *ctx, int code, const char *format, ...)
{
    cancel_catch_up();
    if (!can_cancel(ctx, "cctx_cancel_causef")) return false;
    va_list args;
    va_start(args, format);
    int saved = errno;
    bool done = sync_load_relaxed(&ctx->state, hint) & DONE;
    cctx_cause_t *cause = done ? NULL : cause_format(node_memory(ctx), code, format ? format : "", args);
    errno = saved;
    va_end(args);
    return cause ? cancel_node(ctx, cause, CAUSE_OWNED) : cancel_node(ctx, &out_of_memory, CAUSE_BORROWED);
}
