// SPDX-License-Identifier: BSD-2-Clause
// What a cancel costs for each context that it ends: many children, deep chains, callbacks.
#include "context.h"
#include "trees.h"

using namespace bench;

namespace
{

template <class Walk> void walk(benchmark::State &state, long n, Walk body)
{
    std::vector<cell *> cells(static_cast<size_t>(n));
    each(state, n, trials(n), [&] { return cells_once(cells, body); });
}

// ---- callbacks

long called;
void call(void *)
{
    called++;
}

void callbacks(benchmark::State &state)
{
    const size_t n = 1000;
    std::vector<cctx_callback_t> cb(n);
    each(state, long(n), trials(1000), [&] {
        cctx_t *ctx = need(cctx_with_cancel(cctx_background()));
        called = 0;
        for (auto &c : cb)
            if (cctx_after_func(ctx, &c, call, nullptr) != 0)
                broken("cctx_after_func");
        int64_t t0 = now();
        cctx_cancel(ctx);
        int64_t t1 = now();
        if (called != long(n))
            broken("a callback has not run when its cancel returned");
        cctx_unref(ctx);
        return t1 - t0;
    });
}

void callbacks_floor(benchmark::State &state)
{
    void (*volatile fn)(void *) = call;
    walk(state, 1000, [&](const std::vector<cell *> &cells) {
        long ended = 0;
        for (cell *c : cells)
            if (end(c)) {
                fn(c);
                ended++;
            }
        return ended;
    });
}

} // namespace

void bench::register_all()
{
    register_trees<context>();
    for (long n : {1000L, 10000L, 100000L, 1000000L}) {
        std::string size = std::to_string(n);
        once("fanout_" + size + "/floor", [n](benchmark::State &state) { walk(state, n, end_by_array); });
        once("chain_" + size + "/floor", [n](benchmark::State &state) { walk(state, n, end_by_links); });
    }
    once("callbacks/cctx", callbacks);
    once("callbacks/floor", callbacks_floor);
}
