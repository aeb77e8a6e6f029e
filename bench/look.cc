// SPDX-License-Identifier: BSD-2-Clause
// What it costs to look: has it ended, what is the value for a key; and to leave a callback and take it back.
#include "looks.h"

#include <memory>

using namespace bench;

namespace
{

// ---- polls

template <class Make> auto poll_err(Make make)
{
    return [make](benchmark::State &state) {
        cctx_t *ctx = need(make());
        poll(state, [ctx] { return cctx_err(ctx); });
        cctx_close(ctx);
    };
}

template <class Make> auto poll_is_done(Make make)
{
    return [make](benchmark::State &state) {
        cctx_t *ctx = need(make());
        poll(state, [ctx] { return int(cctx_is_done(ctx)); });
        cctx_close(ctx);
    };
}

void poll_floor(benchmark::State &state)
{
    static uint32_t word;
    benchmark::DoNotOptimize(&word);
    poll(state, [] { return int(load(&word)); });
}

cctx_t *live()
{
    return cctx_with_cancel(cctx_background());
}
cctx_t *timed_live()
{
    return cctx_with_timeout(cctx_background(), CCTX_S(3600));
}
cctx_t *ended()
{
    cctx_t *ctx = live();
    cctx_cancel(ctx);
    return ctx;
}

// ---- values

// A value, and above it depth - 1 contexts that have none. Trees are kept: a run asks for them several times.
const cctx_t *deep_value(long depth, const cctx_key_t *key)
{
    const cctx_t *leaf = need(cctx_with_value(cctx_background(), key, &leaf));
    for (long i = 1; i < depth; i++) {
        const cctx_t *next = need(cctx_with_cancel(leaf));
        cctx_unref(leaf);
        leaf = next;
    }
    return leaf;
}

// The key asked for is the oldest of n.
const cctx_t *many_values(const std::vector<cctx_key_t> &keys)
{
    const cctx_t *leaf = cctx_background();
    for (const auto &k : keys) {
        const cctx_t *next = need(cctx_with_value(leaf, &k, const_cast<cctx_key_t *>(&k)));
        cctx_unref(leaf);
        leaf = next;
    }
    return leaf;
}

void look_up(benchmark::State &state, const cctx_t *leaf, const cctx_key_t *key)
{
    for (auto _ : state) {
        void *v = cctx_value(leaf, key);
        benchmark::DoNotOptimize(v);
    }
    if (cctx_value(leaf, key) == nullptr)
        state.SkipWithError("the value is not found");
}

auto at_depth(long depth)
{
    static const cctx_key_t key = {"key", nullptr};
    auto kept = std::make_shared<const cctx_t *>(nullptr);
    return [depth, kept](benchmark::State &state) {
        if (*kept == nullptr)
            *kept = deep_value(depth, &key);
        look_up(state, *kept, &key);
    };
}

auto among_keys(size_t n)
{
    auto keys = std::make_shared<std::vector<cctx_key_t>>(n, cctx_key_t{"key", nullptr});
    auto kept = std::make_shared<const cctx_t *>(nullptr);
    return [keys, kept](benchmark::State &state) {
        if (*kept == nullptr)
            *kept = many_values(*keys);
        look_up(state, *kept, keys->data());
    };
}

// The least that finds a value by its key: a call, the way from a context to its table, a compare, the value.
struct pair {
    const cctx_key_t *key;
    void *value;
};
struct holder {
    const pair *table;
};
__attribute__((noinline)) void *one_value(const holder *h, const cctx_key_t *key)
{
    const pair *p = load(&h->table);
    return p->key == key ? p->value : nullptr;
}
void value_floor(benchmark::State &state)
{
    cctx_key_t key = {"key", nullptr};
    pair table = {&key, &key};
    holder h = {&table};
    for (auto _ : state) {
        forget();
        void *v = one_value(&h, &key);
        benchmark::DoNotOptimize(v);
    }
}

// ---- callbacks

void after_stop(benchmark::State &state)
{
    cctx_t *ctx = need(live());
    cctx_callback_t cb;
    for (auto _ : state) {
        if (cctx_after_func(ctx, &cb, [](void *) {}, nullptr) != 0 || !cctx_stop(&cb))
            broken("cctx_after_func, cctx_stop");
    }
    cctx_close(ctx);
}

void xchg_floor(benchmark::State &state)
{
    uint32_t word = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(__atomic_exchange_n(&word, 1u, __ATOMIC_ACQ_REL));
}

} // namespace

void bench::register_all()
{
    timed("poll_err/cctx", poll_err(live), UNROLL);
    timed("poll_err/floor", poll_floor, UNROLL);
    timed("poll_is_done/cctx", poll_is_done(live), UNROLL);
    timed("poll_is_done/floor", poll_floor, UNROLL);
    timed("poll_deadline/cctx", poll_err(timed_live), UNROLL);
    timed("poll_deadline/floor", poll_floor, UNROLL);
    timed("poll_done_err/cctx", poll_err(ended), UNROLL);
    timed("poll_done_err/floor", poll_floor, UNROLL);
    timed("poll_done_is_done/cctx", poll_is_done(ended), UNROLL);
    timed("poll_done_is_done/floor", poll_floor, UNROLL);
    for (long depth : {1L, 16L, 64L, 1000000L}) {
        std::string name = "value_depth_" + std::to_string(depth);
        timed(name + "/cctx", at_depth(depth));
        timed(name + "/floor", value_floor);
    }
    for (size_t n : {8u, 64u, 1000u}) {
        std::string name = "value_keys_" + std::to_string(n);
        timed(name + "/cctx", among_keys(n));
        timed(name + "/floor", value_floor);
    }
    timed("after_stop/cctx", after_stop);
    timed("after_stop/floor", xchg_floor);
}
