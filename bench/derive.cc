// SPDX-License-Identifier: BSD-2-Clause
// What a context costs from derivation to release, in several surroundings, in one thread and in two.
#include "context.h"
#include "lives.h"

using namespace bench;

namespace
{

void closed(benchmark::State &state)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    for (auto _ : state)
        cctx_close(need(cctx_with_cancel(parent)));
    cctx_close(parent);
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

enum { FLOOR_LIVES = 4 * LIVES };

void floor_lives()
{
    for (int i = 0; i < FLOOR_LIVES; i++)
        block_life();
}

} // namespace

void bench::register_all()
{
    register_lives<context>();
    register_timed_lives<context>();
    timed("create_close/cctx", closed);
    timed("create_value/cctx", with_value);
    for (const char *what : {"root", "child", "close", "siblings", "value"})
        timed(std::string("create_") + what + "/floor", floor_malloc);
    timed("create_timeout/floor", floor_malloc_clock);
    timed("create_timeouts/floor", floor_malloc_clock);
    once("two_threads/floor", [](benchmark::State &state) { two_threads(state, floor_lives); });
    once("two_threads_rate/floor",
         [](benchmark::State &state) { two_threads_rate(state, floor_lives, FLOOR_LIVES); });
}
