// SPDX-License-Identifier: BSD-2-Clause
// What it costs to look whether a context has ended, for any library: sixteen looks to an iteration, so that
// the loop around them does not hide a load.
#ifndef CCTX_BENCH_LOOKS_H
#define CCTX_BENCH_LOOKS_H

#include "harness.h"

namespace bench
{

enum { UNROLL = 16 };

template <class Look> void poll(benchmark::State &state, Look look)
{
    int sum = 0;
    for (auto _ : state) {
#pragma GCC unroll 16
        for (int i = 0; i < UNROLL; i++) {
            sum += look();
            forget();
        }
    }
    benchmark::DoNotOptimize(sum);
}

template <class T> void register_looks()
{
    const std::string who = std::string("/") + T::who;
    auto look = [](bool ended) {
        return [ended](benchmark::State &state) {
            T parent, ctx(&parent);
            if (ended)
                ctx.cancel();
            benchmark::DoNotOptimize(&ctx);
            poll(state, [&ctx] { return int(ctx.done()); });
        };
    };
    timed("poll_err" + who, look(false), UNROLL);
    timed("poll_done_err" + who, look(true), UNROLL);
}

} // namespace bench

#endif
