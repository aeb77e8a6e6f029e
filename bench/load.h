// SPDX-License-Identifier: BSD-2-Clause
// How long after a cancel each of a thousand sleepers runs while the machine is busy, for any library.
//
// One root, 100 children, 100 grandchildren under each. A waiter sleeps on every tenth grandchild. As many
// busy threads as the process has CPUs each derive a child of a branch of their own, look at it sixteen times
// and end it, over and over. The main thread cancels the root; a waiter's latency is the time at which it
// runs less the moment before that call. No thread is pinned.
#ifndef CCTX_BENCH_LOAD_H
#define CCTX_BENCH_LOAD_H

#include "harness.h"

#include <mutex>
#include <optional>
#include <system_error>

namespace bench
{

enum { BRANCHES = 100, LEAVES = 10000, SLEEPERS = 1000, LOOKS = 16 };

template <class T> class forest
{
    T root;
    std::vector<std::optional<T>> branch, leaf;

  public:
    forest() : branch(BRANCHES), leaf(LEAVES)
    {
        for (auto &b : branch)
            b.emplace(&root);
        for (size_t i = 0; i < LEAVES; i++)
            leaf[i].emplace(&*branch[i / (LEAVES / BRANCHES)]);
    }
    void fire() { root.cancel(); }
    void wait(size_t sleeper) { leaf[sleeper * (LEAVES / SLEEPERS)]->wait(); }
    void turn(size_t worker)
    {
        T ctx(&*branch[worker % BRANCHES]);
        int sum = 0;
        for (int i = 0; i < LOOKS; i++) {
            sum += ctx.done();
            forget();
        }
        benchmark::DoNotOptimize(sum);
        ctx.cancel();
    }
};

inline size_t cpus()
{
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    return size_t(CPU_COUNT(&allowed));
}

// Adds the latencies of one round; false if the process may not have so many threads. Threads that ran are
// held until all have: the exit of a thread costs more than its wake.
template <class Scene> bool load_round(std::vector<double> &late)
{
    Scene scene;
    std::vector<int64_t> seen(SLEEPERS);
    std::vector<std::thread> sleepers, workers;
    size_t ready = 0, ran = 0, busy = 0;
    uint32_t stop = 0;
    std::mutex gate;
    gate.lock();
    auto sleep = [&](size_t i) {
        __atomic_fetch_add(&ready, 1, __ATOMIC_ACQ_REL);
        scene.wait(i);
        seen[i] = now();
        __atomic_fetch_add(&ran, 1, __ATOMIC_ACQ_REL);
        std::lock_guard<std::mutex> held(gate);
    };
    auto work = [&](size_t i) {
        scene.turn(i);
        __atomic_fetch_add(&busy, 1, __ATOMIC_ACQ_REL);
        while (load(&stop) == 0)
            scene.turn(i);
    };
    bool complete = true;
    try {
        for (size_t i = 0; i < SLEEPERS; i++)
            sleepers.emplace_back(sleep, i);
        while (load(&ready) < sleepers.size())
            sleep_us(1000);
        sleep_us(40000);
        for (size_t i = 0; i < cpus(); i++)
            workers.emplace_back(work, i);
    } catch (const std::system_error &) {
        complete = false; // Those that exist end as usual.
    }
    while (load(&busy) < workers.size())
        sleep_us(1000);
    sleep_us(20000);
    const size_t early = load(&ran);
    const int64_t t0 = now();
    scene.fire();
    while (load(&ran) < sleepers.size())
        sleep_us(1000);
    store(&stop, 1u);
    gate.unlock();
    for (auto *threads : {&sleepers, &workers})
        for (auto &t : *threads)
            t.join();
    if (early != 0)
        broken("a waiter ran before the cancel");
    for (int64_t t : seen)
        late.push_back(double(t - t0));
    return complete;
}

template <class Scene> void register_load(const char *who)
{
    once(std::string("load/") + who, [who](benchmark::State &state) {
        small_stacks();
        std::vector<double> late;
        for (int k = 0; k < reps(10, 3); k++)
            if (!load_round<Scene>(late)) {
                state.SkipWithError("this process may not have 1,000 threads");
                return;
            }
        keep_samples("load", who, late);
        report(state, {{"p50", percentile(late, 50)},
                       {"p99", percentile(late, 99)},
                       {"p999", percentile(late, 99.9)},
                       {"max", percentile(late, 100)}});
    });
}

} // namespace bench

#endif
