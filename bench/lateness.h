// SPDX-License-Identifier: BSD-2-Clause
// How late deadlines are, for any library.
#ifndef CCTX_BENCH_LATENESS_H
#define CCTX_BENCH_LATENESS_H

#include "harness.h"

namespace bench
{

// Deadlines 1 to 4 ms off, one after the other; seen(deadline) returns the moment that the end was seen.
template <class Seen> void lateness(benchmark::State &state, const char *name, const char *who, Seen seen)
{
    const int n = reps(400, 200);
    std::vector<double> late;
    uint64_t seed = 12345;
    for (int i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t deadline = now() + 1000000 + int64_t(seed >> 33) % 3000000;
        late.push_back(double(seen(deadline) - deadline));
        if (late.back() < 0)
            broken("a deadline fired early");
    }
    keep_samples(name, who, late);
    report(state, {{"p50", percentile(late, 50)}, {"p99", percentile(late, 99)}});
}

} // namespace bench

#endif
