// SPDX-License-Identifier: BSD-2-Clause
// How late deadlines are, seen in three ways, and how much work a second full of them is.
//
//   late_wait   by a thread that sleeps in cctx_wait and looks at nothing else.
//               Floor: a thread that sleeps on a futex until that time itself, with the least timer slack.
//   late_flip   by a thread that looks all the time: when the word says done.
//               Floor: a thread that sleeps until that time and stores a word.
//   late_futex  by a thread that sleeps on the bare word of cctx_done, so that the library wakes it.
//               Floor: one thread sleeps until the time and wakes a second.
#include "lateness.h"

#include <sys/prctl.h>
#include <sys/resource.h>

using namespace bench;

namespace
{

void least_slack()
{
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

template <class Wait> int64_t with_deadline(int64_t deadline, Wait wait)
{
    cctx_t *ctx = need(cctx_with_deadline(cctx_background(), deadline));
    wait(ctx);
    int64_t t = now();
    cctx_unref(ctx);
    return t;
}

// ---- seen in cctx_wait

void late_wait(benchmark::State &state)
{
    lateness(state, "late_wait", "cctx", [](int64_t deadline) { return with_deadline(deadline, cctx_wait); });
}

void late_wait_floor(benchmark::State &state)
{
    std::thread([&] {
        least_slack();
        lateness(state, "late_wait", "floor", [](int64_t deadline) {
            uint32_t word = 0;
            futex_wait_until(&word, 0, deadline);
            return now();
        });
    }).join();
}

// ---- seen by looking, and on the bare futex word: the floors need a thread that sleeps for another

class sleeper
{
    int64_t deadline = 0;
    uint32_t asked = 0, stop = 0, never = 0;

  public:
    alignas(64) uint32_t done = 0;

  private:
    std::thread t;

  public:
    explicit sleeper(bool wake)
        : t([this, wake] {
              least_slack();
              for (uint32_t turn = 0;; turn++) {
                  while (load(&asked) == turn)
                      futex_wait(&asked, turn);
                  if (load(&stop) != 0)
                      return;
                  futex_wait_until(&never, 0, deadline);
                  store(&done, 1u);
                  if (wake)
                      futex_wake(&done);
              }
          })
    {
    }
    ~sleeper()
    {
        store(&stop, 1u);
        ask(0);
        t.join();
    }
    void ask(int64_t when)
    {
        store(&done, 0u);
        deadline = when;
        __atomic_fetch_add(&asked, 1u, __ATOMIC_ACQ_REL);
        futex_wake(&asked);
    }
};

void late_flip(benchmark::State &state)
{
    lateness(state, "late_flip", "cctx", [](int64_t deadline) {
        return with_deadline(deadline, [](const cctx_t *ctx) {
            while (!cctx_is_done(ctx))
                relax();
        });
    });
}

void late_flip_floor(benchmark::State &state)
{
    sleeper s(false);
    lateness(state, "late_flip", "floor", [&](int64_t deadline) {
        s.ask(deadline);
        while (load(&s.done) == 0)
            relax();
        return now();
    });
}

void late_futex(benchmark::State &state)
{
    lateness(state, "late_futex", "cctx", [](int64_t deadline) {
        return with_deadline(deadline, [](const cctx_t *ctx) {
            const uint32_t *word = cctx_done(ctx);
            for (uint32_t w; ((w = load(word)) & 1) == 0;)
                futex_wait(word, w);
        });
    });
}

void late_futex_floor(benchmark::State &state)
{
    sleeper s(true);
    lateness(state, "late_futex", "floor", [&](int64_t deadline) {
        s.ask(deadline);
        while (load(&s.done) == 0)
            futex_wait(&s.done, 0);
        return now();
    });
}

// ---- 100,000 deadlines spread over one second: CPU time of the whole process

enum { STORM = 100000 };

double cpu_ms()
{
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    auto ms = [](const timeval &t) { return double(t.tv_sec) * 1e3 + double(t.tv_usec) / 1e3; };
    return ms(u.ru_utime) + ms(u.ru_stime);
}

void sleep_until(int64_t t)
{
    static uint32_t never;
    while (now() < t)
        futex_wait_until(&never, 0, t);
}

void storm(benchmark::State &state)
{
    std::vector<cctx_t *> ctx(STORM);
    const int64_t start = now() + CCTX_MS(300);
    uint64_t seed = 7;
    for (auto &c : ctx) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        c = need(cctx_with_deadline(cctx_background(), start + int64_t(seed >> 33) % CCTX_S(1)));
    }
    if (now() > start)
        broken("making 100,000 contexts took longer than 300 ms");
    sleep_until(start);
    double before = cpu_ms();
    sleep_until(start + CCTX_MS(1050));
    double spent = cpu_ms() - before;
    for (auto *c : ctx) {
        if (!cctx_is_done(c))
            broken("a deadline is more than 50 ms late");
        cctx_unref(c);
    }
    report(state, {{"value", spent * 1e6}});
}

// One thread that has all times in order sleeps to the next and ends whatever is due when it wakes.
void storm_floor(benchmark::State &state)
{
    struct alignas(64) timer {
        int64_t deadline;
        uint32_t done;
    };
    const int64_t start = now() + CCTX_MS(300);
    std::vector<int64_t> times(STORM);
    uint64_t seed = 7;
    for (auto &t : times) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        t = start + int64_t(seed >> 33) % CCTX_S(1);
    }
    std::sort(times.begin(), times.end());
    std::vector<timer> timers;
    for (int64_t t : times)
        timers.push_back({t, 0});
    std::thread service([&] {
        least_slack();
        uint32_t never = 0;
        for (size_t i = 0; i < timers.size();) {
            futex_wait_until(&never, 0, timers[i].deadline);
            for (int64_t t = now(); i < timers.size() && timers[i].deadline <= t; i++)
                __atomic_exchange_n(&timers[i].done, 1u, __ATOMIC_ACQ_REL);
        }
    });
    sleep_until(start);
    double before = cpu_ms();
    sleep_until(start + CCTX_MS(1050));
    double spent = cpu_ms() - before;
    service.join();
    report(state, {{"value", spent * 1e6}});
}

} // namespace

void bench::register_all()
{
    once("late_wait/cctx", late_wait);
    once("late_wait/floor", late_wait_floor);
    once("late_flip/cctx", late_flip);
    once("late_flip/floor", late_flip_floor);
    once("late_futex/cctx", late_futex);
    once("late_futex/floor", late_futex_floor);
    once("storm/cctx", storm);
    once("storm/floor", storm_floor);
}
