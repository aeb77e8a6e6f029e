// SPDX-License-Identifier: BSD-2-Clause
// What a cancel costs for each context that it ends, for any library: many children, deep chains.
//
// All sides free in the order opposite to that of allocation, so that an allocator that hands out last what
// it got back first lays the next tree out like the one before.
#ifndef CCTX_BENCH_TREES_H
#define CCTX_BENCH_TREES_H

#include "harness.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <optional>

namespace bench
{

// Runs trial() so often and reports the median of what it returns: nanoseconds for the whole tree of n.
template <class Trial> void each(benchmark::State &state, long n, int trials, Trial trial)
{
    std::vector<double> v;
    for (int k = 0; k < trials; k++)
        v.push_back(double(trial()) / double(n));
    report(state, {{"value", median(v)}});
}

inline int trials(long n)
{
    return n >= 1000000 ? reps(3, 2) : n >= 100000 ? reps(9, 5) : n >= 10000 ? reps(31, 15) : reps(151, 61);
}

template <class T> int64_t cancel_and_free(T &root, std::vector<std::optional<T>> &tree)
{
    int64_t t0 = now();
    root.cancel();
    int64_t t1 = now();
    for (auto c = tree.rbegin(); c != tree.rend(); ++c) {
        if (!(*c)->done())
            broken("a cancel returned while a descendant is live");
        c->reset();
    }
    return t1 - t0;
}

template <class T> int64_t fan_once(std::vector<std::optional<T>> &child)
{
    T root;
    for (auto &c : child)
        c.emplace(&root);
    return cancel_and_free(root, child);
}

template <class T> void fan_out(benchmark::State &state, long n)
{
    std::vector<std::optional<T>> child(static_cast<size_t>(n));
    each(state, n, trials(n), [&] { return fan_once(child); });
}

template <class T> int64_t chain_once(std::vector<std::optional<T>> &level)
{
    T root, *above = &root;
    for (auto &c : level)
        above = &c.emplace(above);
    return cancel_and_free(root, level);
}

// Whether f() comes to its end within the stack; tried out in a child process, which may die of it.
template <class F> bool fits_the_stack(F f)
{
    pid_t child = fork();
    if (child < 0)
        broken("fork");
    if (child == 0) {
        rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        f();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
        return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        broken("a chain in a child process");
    return true;
}

template <class T> void chain(benchmark::State &state, long n)
{
    std::vector<std::optional<T>> level(static_cast<size_t>(n));
    if (T::recurses && !fits_the_stack([&] { chain_once(level); }))
        state.SkipWithError("stack overflow");
    else
        each(state, n, trials(n), [&] { return chain_once(level); });
}

template <class T> void register_trees()
{
    const std::string who = std::string("/") + T::who;
    for (long n : {1000L, 10000L, 100000L, 1000000L}) {
        once("fanout_" + std::to_string(n) + who, [n](benchmark::State &state) { fan_out<T>(state, n); });
        once("chain_" + std::to_string(n) + who, [n](benchmark::State &state) { chain<T>(state, n); });
    }
}

} // namespace bench

#endif
