// SPDX-License-Identifier: BSD-2-Clause
// What a context costs from derivation to release, for any library: in several surroundings, in two threads.
#ifndef CCTX_BENCH_LIVES_H
#define CCTX_BENCH_LIVES_H

#include "harness.h"

#include <optional>

namespace bench
{

// Derived, ended and freed.
template <class T, class... How> void life(How... how)
{
    T c(how...);
    c.cancel();
}

template <class T> void lives_of_roots(benchmark::State &state)
{
    for (auto _ : state)
        life<T>();
}

template <class T> void lives(benchmark::State &state)
{
    T parent;
    for (auto _ : state)
        life<T>(&parent);
}

template <class T> void lives_among_siblings(benchmark::State &state)
{
    T parent;
    std::vector<std::optional<T>> siblings(1000);
    for (auto &s : siblings)
        s.emplace(&parent);
    for (auto _ : state)
        life<T>(&parent);
}

template <class T> void timed_lives(benchmark::State &state)
{
    T parent;
    for (auto _ : state)
        life<T>(&parent, HOUR);
}

// The others hang below another parent, so that the row shows the timers alone.
template <class T> void timed_lives_among_others(benchmark::State &state)
{
    T elsewhere;
    std::vector<std::optional<T>> others(100000);
    uint64_t seed = 1;
    for (auto &o : others) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        o.emplace(&elsewhere, HOUR + int64_t(seed >> 33) % HOUR);
    }
    timed_lives<T>(state);
}

enum { LIVES = 250000 };

template <class Lives> void two_threads(benchmark::State &state, Lives lives)
{
    if (has_two_cpus(state))
        report(state, {{"value", two_over_one(lives, reps(7, 5))}});
}

template <class Lives> void two_threads_rate(benchmark::State &state, Lives lives, int operations)
{
    if (has_two_cpus(state))
        report(state, {{"value", rate_of_two(lives, operations, reps(7, 5))}});
}

// So many lives that a slow library does not take all the time of a measurement: 25 ms, or LIVES.
template <class T> int lives_of_a_trial(T *parent)
{
    const int n = 1000;
    const int64_t t0 = now();
    for (int i = 0; i < n; i++)
        life<T>(parent);
    return int(std::min<int64_t>(LIVES, n * INT64_C(25000000) / (now() - t0)));
}

template <class T> auto many_lives(T *parent, int n)
{
    return [parent, n] {
        for (int i = 0; i < n; i++)
            life<T>(parent);
    };
}

template <class T> void register_lives()
{
    const std::string who = std::string("/") + T::who;
    timed("create_root" + who, lives_of_roots<T>);
    timed("create_child" + who, lives<T>);
    timed("create_siblings" + who, lives_among_siblings<T>);
    once("two_threads" + who, [](benchmark::State &state) {
        T parent;
        two_threads(state, many_lives(&parent, lives_of_a_trial(&parent)));
    });
    once("two_threads_rate" + who, [](benchmark::State &state) {
        T parent;
        const int n = lives_of_a_trial(&parent);
        two_threads_rate(state, many_lives(&parent, n), n);
    });
}

template <class T> void register_timed_lives()
{
    const std::string who = std::string("/") + T::who;
    timed("create_timeout" + who, timed_lives<T>);
    timed("create_timeouts" + who, timed_lives_among_others<T>);
}

} // namespace bench

#endif
