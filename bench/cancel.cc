// SPDX-License-Identifier: BSD-2-Clause
// What a cancel costs for each context that it ends: many children, deep chains, callbacks.
//
// Both sides free in the order opposite to that of allocation, so that an allocator that hands out last what
// it got back first lays the next tree out like the one before.
#include "harness.h"

using namespace bench;

namespace
{

// Runs trial() so often and reports the median of what it returns: nanoseconds for the whole tree of n.
template <class Trial> void each(benchmark::State &state, long n, int trials, Trial trial)
{
    std::vector<double> v;
    for (int k = 0; k < trials; k++)
        v.push_back(double(trial()) / double(n));
    report(state, {{"value", median(v)}});
}

int trials(long n)
{
    return n >= 1000000 ? reps(3, 2) : n >= 100000 ? reps(9, 5) : n >= 10000 ? reps(31, 15) : reps(151, 61);
}

int64_t cancel_and_free(cctx_t *root, std::vector<cctx_t *> &tree)
{
    int64_t t0 = now();
    cctx_cancel(root);
    int64_t t1 = now();
    for (auto c = tree.rbegin(); c != tree.rend(); ++c) {
        if (!cctx_is_done(*c))
            broken("a cancel returned while a descendant is live");
        cctx_unref(*c);
    }
    cctx_unref(root);
    return t1 - t0;
}

void fan_out(benchmark::State &state, long n)
{
    std::vector<cctx_t *> child(static_cast<size_t>(n));
    each(state, n, trials(n), [&] {
        cctx_t *root = need(cctx_with_cancel(cctx_background()));
        for (auto &c : child)
            c = need(cctx_with_cancel(root));
        return cancel_and_free(root, child);
    });
}

void chain(benchmark::State &state, long n)
{
    std::vector<cctx_t *> level(static_cast<size_t>(n));
    each(state, n, trials(n), [&] {
        cctx_t *root = need(cctx_with_cancel(cctx_background())), *above = root;
        for (auto &c : level)
            c = above = need(cctx_with_cancel(above));
        return cancel_and_free(root, level);
    });
}

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
    for (long n : {1000L, 10000L, 100000L, 1000000L}) {
        std::string fan = "fanout_" + std::to_string(n), deep = "chain_" + std::to_string(n);
        once(fan + "/cctx", [n](benchmark::State &state) { fan_out(state, n); });
        once(fan + "/floor", [n](benchmark::State &state) { walk_array(state, n); });
        once(deep + "/cctx", [n](benchmark::State &state) { chain(state, n); });
        once(deep + "/floor", [n](benchmark::State &state) { walk_links(state, n); });
    }
    once("callbacks/cctx", callbacks);
    once("callbacks/floor", callbacks_floor);
}
