// SPDX-License-Identifier: BSD-2-Clause
// What a cancel costs for each context that it ends: many children, deep chains, callbacks.
#include "context.h"
#include "trees.h"

using namespace bench;

namespace
{

// ---- floors: one compare-and-swap in each of n cells of the size of a context

struct cell {
    uint32_t word;
    cell *next;
    char rest[128 - 2 * sizeof(void *)];
};
static_assert(sizeof(cell) == 128, "the cells of the floor have the size of a context");

bool end(cell *c)
{
    uint32_t old = 0;
    return __atomic_compare_exchange_n(&c->word, &old, 1u, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

template <class Walk> void walk(benchmark::State &state, long n, Walk body)
{
    std::vector<cell *> cells(static_cast<size_t>(n));
    each(state, n, trials(n), [&] {
        for (auto &c : cells)
            c = new cell();
        for (size_t i = 0; i + 1 < cells.size(); i++)
            cells[i]->next = cells[i + 1];
        int64_t t0 = now();
        long ended = body(cells);
        int64_t t1 = now();
        if (ended != n)
            broken("a cell was done already");
        for (auto c = cells.rbegin(); c != cells.rend(); ++c)
            delete *c;
        return t1 - t0;
    });
}

// Through an array of pointers, in the order of allocation.
void walk_array(benchmark::State &state, long n)
{
    walk(state, n, [](const std::vector<cell *> &cells) {
        long ended = 0;
        for (cell *c : cells)
            ended += end(c);
        return ended;
    });
}

// From cell to cell: where the next level is, only the present one knows.
void walk_links(benchmark::State &state, long n)
{
    walk(state, n, [](const std::vector<cell *> &cells) {
        long ended = 0;
        for (cell *c = cells.front(); c != nullptr; c = c->next)
            ended += end(c);
        return ended;
    });
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
        once("fanout_" + size + "/floor", [n](benchmark::State &state) { walk_array(state, n); });
        once("chain_" + size + "/floor", [n](benchmark::State &state) { walk_links(state, n); });
    }
    once("callbacks/cctx", callbacks);
    once("callbacks/floor", callbacks_floor);
}
