// SPDX-License-Identifier: BSD-2-Clause
// A cctx context in the form that the templates of the benchmarks take.
#ifndef CCTX_BENCH_CONTEXT_H
#define CCTX_BENCH_CONTEXT_H

#include "harness.h"

namespace bench
{

struct context {
    static constexpr const char *who = "cctx";
    static constexpr bool recurses = false;
    cctx_t *ctx;

    context() : ctx(need(cctx_with_cancel(cctx_background()))) {}
    explicit context(context *parent) : ctx(need(cctx_with_cancel(parent->ctx))) {}
    context(context *parent, int64_t timeout) : ctx(need(cctx_with_timeout(parent->ctx, timeout))) {}
    context(const context &) = delete;
    context &operator=(const context &) = delete;
    ~context() { cctx_unref(ctx); }

    void cancel() { cctx_cancel(ctx); }
    bool done() const { return cctx_is_done(ctx); }
    void wait() { cctx_wait(ctx); }
};

} // namespace bench

#endif
