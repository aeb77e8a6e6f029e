// SPDX-License-Identifier: BSD-2-Clause
// What a context costs from derivation to release, in several surroundings, in one thread and in two.
#include "harness.h"

using namespace bench;

namespace
{

const int64_t HOUR = CCTX_S(3600);

void life(cctx_t *ctx)
{
    need(ctx);
    cctx_cancel(ctx);
    cctx_unref(ctx);
}

void under_root(benchmark::State &state)
{
    for (auto _ : state)
        life(cctx_with_cancel(cctx_background()));
}

void under_parent(benchmark::State &state)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    for (auto _ : state)
        life(cctx_with_cancel(parent));
    cctx_close(parent);
}

void closed(benchmark::State &state)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    for (auto _ : state)
        cctx_close(need(cctx_with_cancel(parent)));
    cctx_close(parent);
}

void among_siblings(benchmark::State &state)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    std::vector<cctx_t *> siblings(1000);
    for (auto &s : siblings)
        s = need(cctx_with_cancel(parent));
    for (auto _ : state)
        life(cctx_with_cancel(parent));
    for (auto *s : siblings)
        cctx_close(s);
    cctx_close(parent);
}

void with_timeout(benchmark::State &state)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    for (auto _ : state)
        life(cctx_with_timeout(parent, HOUR));
    cctx_close(parent);
}

// The others hang below another parent, so that the row shows the timers alone.
void among_timeouts(benchmark::State &state)
{
    cctx_t *elsewhere = need(cctx_with_cancel(cctx_background()));
    std::vector<cctx_t *> others(100000);
    uint64_t seed = 1;
    for (auto &o : others) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        o = need(cctx_with_timeout(elsewhere, HOUR + int64_t(seed >> 33) % HOUR));
    }
    with_timeout(state);
    for (auto *o : others)
        cctx_close(o);
    cctx_close(elsewhere);
}

void with_value(benchmark::State &state)
{
    static const cctx_key_t key = {"key", nullptr};
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    for (auto _ : state)
        cctx_unref(need(cctx_with_value(parent, &key, parent)));
    cctx_close(parent);
}

void floor_malloc_clock(benchmark::State &state)
{
    for (auto _ : state) {
        void *p = std::malloc(128);
        benchmark::DoNotOptimize(p);
        benchmark::DoNotOptimize(now());
        forget();
        std::free(p);
    }
}

enum { LIVES = 250000 };

void two_threads(benchmark::State &state)
{
    if (!has_two_cpus(state))
        return;
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    auto lives = [parent] {
        for (int i = 0; i < LIVES; i++)
            life(cctx_with_cancel(parent));
    };
    report(state, {{"value", two_over_one(lives, reps(7, 5))}});
    cctx_close(parent);
}

void two_threads_floor(benchmark::State &state)
{
    if (!has_two_cpus(state))
        return;
    auto lives = [] {
        for (int i = 0; i < 4 * LIVES; i++) {
            void *p = std::malloc(128);
            benchmark::DoNotOptimize(p);
            forget();
            std::free(p);
        }
    };
    report(state, {{"value", two_over_one(lives, reps(7, 5))}});
}

} // namespace

void bench::register_all()
{
    timed("create_root/cctx", under_root);
    timed("create_root/floor", floor_malloc);
    timed("create_child/cctx", under_parent);
    timed("create_child/floor", floor_malloc);
    timed("create_close/cctx", closed);
    timed("create_close/floor", floor_malloc);
    timed("create_siblings/cctx", among_siblings);
    timed("create_siblings/floor", floor_malloc);
    timed("create_value/cctx", with_value);
    timed("create_value/floor", floor_malloc);
    timed("create_timeout/cctx", with_timeout);
    timed("create_timeout/floor", floor_malloc_clock);
    timed("create_timeouts/cctx", among_timeouts);
    timed("create_timeouts/floor", floor_malloc_clock);
    once("two_threads/cctx", two_threads);
    once("two_threads/floor", two_threads_floor);
}
