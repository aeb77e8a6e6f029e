// SPDX-License-Identifier: BSD-2-Clause
// How long after a cancel another thread runs, for any library: one that sleeps, one that looks all the time,
// a thousand that sleep.
//
// The canceler is pinned to one CPU and stays busy until the waiter has run; the waiter is pinned to another.
// Left to itself, the kernel at times runs the waiter on the canceler's CPU, and the figure is that of
// another event.
#ifndef CCTX_BENCH_WAITERS_H
#define CCTX_BENCH_WAITERS_H

#include "harness.h"

#include <mutex>

namespace bench
{

// ---- what is waited for: an Event is made, waited for by others, and fired

template <class T> struct parked : T {
    void fire() { this->cancel(); }
};
template <class T> struct looked_at : T {
    void fire() { this->cancel(); }
    void wait()
    {
        while (!this->done())
            relax();
    }
};

// The floor: a word of one's own, on which threads sleep.
struct bare_word {
    alignas(64) uint32_t word = 0;
};
struct bare_parked : bare_word {
    void fire()
    {
        store(&word, 1u);
        futex_wake(&word);
    }
    void wait()
    {
        while (load(&word) == 0)
            futex_wait(&word, 0);
    }
};

// ---- one waiter

// Lines of their own, and the lines beside them, which processors fetch as well: what two threads share shall be the
// event's own affair.
template <class T> struct alignas(128) apart {
    T value{};
};

// Times from just before fire() to the waiter running, in ns. A waiter that shall sleep gets 200 us to do so.
template <class Event> std::vector<double> one_waiter(int rounds, bool asleep)
{
    std::vector<double> late;
    struct {
        apart<Event *> event;
        apart<int> round, ready, ran;
        apart<int64_t> seen;
    } shared;
    auto &event = shared.event.value;
    int &round = shared.round.value, &ready = shared.ready.value, &ran = shared.ran.value;
    int64_t &seen = shared.seen.value;
    pinned here(0);
    std::thread waiter([&] {
        pinned there(1);
        for (int r = 1; r <= rounds; r++) {
            while (load(&round) < r)
                relax();
            Event *e = event;
            store(&ready, r);
            e->wait();
            seen = now();
            store(&ran, r);
        }
    });
    for (int r = 1; r <= rounds; r++) {
        apart<Event> own;
        Event &e = own.value;
        event = &e;
        store(&round, r);
        while (load(&ready) < r)
            relax();
        if (asleep) {
            sleep_us(200);
        } else {
            for (int64_t t = now(); now() - t < 2000;)
                relax();
        }
        int64_t t0 = now();
        e.fire();
        while (load(&ran) < r)
            relax();
        late.push_back(double(seen - t0));
    }
    waiter.join();
    return late;
}

template <class Event>
void measure_one(benchmark::State &state, const char *name, const char *who, int rounds, bool asleep)
{
    if (!has_two_cpus(state))
        return;
    std::vector<double> late = one_waiter<Event>(rounds, asleep);
    keep_samples(name, who, late);
    report(state, {{"p50", percentile(late, 50)}, {"p99", percentile(late, 99)}});
}

// ---- a thousand waiters

enum { CROWD = 1000 };

// From fire() to the last of the waiters running, in ns. Those that ran are held until all have: the exit of
// a thread costs more than its wake.
template <class Event> double crowd_once()
{
    Event event;
    int ready = 0, ran = 0;
    int64_t last = 0;
    std::mutex gate;
    gate.lock();
    auto wait = [&] {
        __atomic_fetch_add(&ready, 1, __ATOMIC_ACQ_REL);
        event.wait();
        int64_t t = now(), old = load(&last);
        while (old < t &&
               !__atomic_compare_exchange_n(&last, &old, t, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            ;
        __atomic_fetch_add(&ran, 1, __ATOMIC_ACQ_REL);
        std::lock_guard<std::mutex> held(gate);
    };
    std::vector<std::thread> threads;
    try {
        for (int i = 0; i < CROWD; i++)
            threads.emplace_back(wait);
    } catch (const std::exception &) {
        // Those that exist end as usual.
    }
    while (load(&ready) < int(threads.size()))
        sleep_us(1000);
    sleep_us(40000);
    int64_t t0 = now();
    event.fire();
    while (load(&ran) < int(threads.size()))
        sleep_us(1000);
    gate.unlock();
    for (auto &t : threads)
        t.join();
    return threads.size() == CROWD ? double(last - t0) : -1;
}

template <class Event> void crowd(benchmark::State &state)
{
    small_stacks();
    std::vector<double> v;
    for (int k = 0; k < reps(3, 2); k++) {
        v.push_back(crowd_once<Event>());
        if (v.back() < 0) {
            state.SkipWithError("this process may not have 1,000 threads");
            return;
        }
    }
    report(state, {{"value", median(v)}});
}

template <class Parked, class LookedAt> void register_waiters(const char *who)
{
    const std::string suffix = std::string("/") + who;
    once("wake_parked" + suffix, [who](benchmark::State &state) {
        measure_one<Parked>(state, "wake_parked", who, reps(1500, 800), true);
    });
    once("wake_spin" + suffix, [who](benchmark::State &state) {
        measure_one<LookedAt>(state, "wake_spin", who, reps(10000, 4000), false);
    });
    once("wake_crowd" + suffix, crowd<Parked>);
}

} // namespace bench

#endif
