// SPDX-License-Identifier: BSD-2-Clause
// What can be counted exactly of any library: allocations and bytes.
//
// Each count is taken in a process of its own, with a heap that nothing else has touched. Handles are kept in
// memory that is there before, and a few first contexts pay for what is made once.
#ifndef CCTX_BENCH_COUNTED_H
#define CCTX_BENCH_COUNTED_H

#include "harness.h"

#include <dlfcn.h>
#include <malloc.h>

#include <optional>

namespace bench
{

// ---- bytes per live context

// What malloc has handed out, its own headers included.
inline double in_use()
{
    struct mallinfo2 m = mallinfo2();
    return double(m.uordblks) + double(m.hblkhd);
}

// Resident memory, for what may have come from elsewhere than malloc.
inline double resident()
{
    long pages = 0, all;
    std::FILE *f = std::fopen("/proc/self/statm", "r");
    if (f == nullptr || std::fscanf(f, "%ld %ld", &all, &pages) != 2)
        broken("/proc/self/statm");
    std::fclose(f);
    return double(pages) * double(sysconf(_SC_PAGESIZE));
}

// fill(slot) makes one context more and keeps it in slot. Nothing is freed: the process is about to end.
template <class Slot, class Fill> double bytes_each(double (*measure)(), Fill fill)
{
    const size_t n = size_t(reps(1000000, 200000));
    auto &first = *new std::vector<Slot>(1000), &kept = *new std::vector<Slot>(n);
    for (auto &slot : first)
        fill(slot);
    double before = measure();
    for (auto &slot : kept)
        fill(slot);
    return (measure() - before) / double(n);
}

// ---- allocations per context

// By allocations.cc, if that is here.
inline long allocations()
{
    static const auto count = reinterpret_cast<long (*)()>(dlsym(RTLD_DEFAULT, "bench_allocations"));
    if (count == nullptr)
        broken("no count of allocations");
    return count();
}

template <class Slot, class Fill> double allocations_each(Fill fill, bool warm)
{
    const int n = 10000;
    auto &kept = *new std::vector<Slot>(n);
    if (warm)
        for (auto &slot : kept)
            fill(slot);
    long before = allocations();
    for (auto &slot : kept)
        fill(slot);
    return double(allocations() - before) / n;
}

// ---- both for a library of which only T is known, in a program that measures times, too

// A second run of the program does this and nothing else. It has allocations.so, which stands beside the
// program, preloaded: to count slows malloc down, so the first run does without.
template <class F> void counted_in_a_second_run(const std::string &name, F f)
{
    static const char variable[] = "CCTX_BENCH_ALLOCATIONS";
    const char *asked = std::getenv(variable);
    if (asked != nullptr && name == asked) {
        std::printf("%g\n", f());
        std::fflush(stdout);
        _exit(0);
    }
    once(name, [name](benchmark::State &state) {
        char program[PATH_MAX] = "";
        if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
            broken("/proc/self/exe");
        const std::string path = program, folder = path.substr(0, path.rfind('/'));
        const std::string command = std::string(variable) + "='" + name + "' LD_PRELOAD='" + folder +
                                    "/allocations.so' '" + path + "'";
        std::FILE *answer = popen(command.c_str(), "r");
        double value;
        if (answer == nullptr || std::fscanf(answer, "%lf", &value) != 1 || pclose(answer) != 0)
            broken("a second run that counts allocations");
        report(state, {{"value", value}});
    });
}

// What is more than a handle in T, the user keeps, so it counts.
template <class T, class... How> void register_bytes(const std::string &operation, How... how)
{
    counted_in_a_second_run(operation + "/" + T::who, [how...] {
        auto *parent = new T;
        auto fill = [&](std::optional<T> &slot) { slot.emplace(parent, how...); };
        return bytes_each<std::optional<T>>(in_use, fill) + double(sizeof(T) - sizeof(void *));
    });
}

template <class T> void register_counted()
{
    const std::string who = std::string("/") + T::who;
    counted_in_a_second_run("allocs_cold" + who, [] {
        auto *parent = new T;
        return allocations_each<std::optional<T>>([&](std::optional<T> &s) { s.emplace(parent); }, false);
    });
    counted_in_a_second_run("allocs_warm" + who, [] {
        auto *parent = new T;
        auto live_and_free = [&](char &) {
            T ctx(parent);
            ctx.cancel();
        };
        return allocations_each<char>(live_and_free, true);
    });
    register_bytes<T>("bytes_child");
}

} // namespace bench

#endif
