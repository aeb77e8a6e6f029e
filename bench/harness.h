// SPDX-License-Identifier: BSD-2-Clause
// What the benchmark programs share: a clock, two pinned CPUs, the futex, order statistics, and the way to
// report.
//
// A benchmark is named OPERATION/WHO. WHO is cctx, or floor: the least that the machine itself asks for the
// same effect, by malloc, atomics and the futex; or another library, which peers/ measures. What Google
// Benchmark measures per iteration is divided by the counter `ops` where there is one; a benchmark that has a
// harness of its own reports its figures as counters (`value`, `p50`, `p99`) instead.
//
// The headers beside this one measure any library by the same code. It is a class T that stands for one
// context:
//
//   T()                           a root
//   T(T *parent)                  a child
//   T(T *parent, int64_t timeout) a child that ends after so many nanoseconds, where the library has that
//   ~T()                          frees
//   void cancel()                 ends it and what is below it
//   bool done()                   whether it has ended
//   void wait()                   sleeps until it has
//   T::who                        the name of the library in reports
//   T::recurses                   whether a cancel calls itself for each level and so ends with the stack
#ifndef CCTX_BENCH_HARNESS_H
#define CCTX_BENCH_HARNESS_H

#include <cctx/cctx.h>

#include <benchmark/benchmark.h>

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench
{

const int64_t HOUR = INT64_C(3600000000000);

inline int64_t now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

inline void sleep_us(long us)
{
    timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, nullptr);
}

inline void relax()
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

template <class T> T load(const T *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
template <class T> void store(T *p, T v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

// The compiler forgets all that it knows of memory, so that a load before and one after are two loads.
inline void forget()
{
    __asm__ volatile("" ::: "memory");
}

[[noreturn]] inline void broken(const char *what)
{
    std::fprintf(stderr, "benchmark: %s: errno %d\n", what, errno);
    std::exit(1);
}

template <class T> T *need(T *p)
{
    if (__builtin_expect(p == nullptr, 0))
        broken("a derivation failed");
    return p;
}

// A short run for a first impression; the sizes stay, the repetitions shrink.
inline bool quick()
{
    const char *v = std::getenv("CCTX_BENCH_QUICK");
    return v != nullptr && *v == '1';
}
inline int reps(int full, int short_run)
{
    return quick() ? short_run : full;
}

// ---- order statistics

// The p-th percentile, by nearest rank.
inline double percentile(std::vector<double> v, double p)
{
    if (v.empty())
        broken("no sample");
    std::sort(v.begin(), v.end());
    return v[size_t(p / 100.0 * double(v.size() - 1) + 0.5)];
}
inline double median(const std::vector<double> &v)
{
    return percentile(v, 50);
}

// Raw samples go to a file per operation, from which the report draws distributions.
inline void keep_samples(const std::string &operation, const char *who, const std::vector<double> &v)
{
    const char *folder = std::getenv("CCTX_BENCH_SAMPLES");
    if (folder == nullptr)
        return;
    std::ofstream out(std::string(folder) + "/" + operation + "." + who);
    for (double x : v)
        out << x << '\n';
}

// ---- CPUs: two that the process may use, of two cores where the machine tells cores apart

inline std::string siblings(int cpu)
{
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string line;
    std::getline(in, line);
    return line;
}

// The number of CPUs found (1 or 2); they are in cpu[].
inline int two_cpus(int cpu[2])
{
    static int found, chosen[2];
    if (found == 0) {
        cpu_set_t allowed;
        sched_getaffinity(0, sizeof allowed, &allowed);
        for (int c = 0; c < CPU_SETSIZE && found < 2; c++)
            if (CPU_ISSET(size_t(c), &allowed) &&
                (found == 0 || siblings(c).empty() || siblings(c) != siblings(chosen[0])))
                chosen[found++] = c;
        for (int c = 0; c < CPU_SETSIZE && found < 2; c++)
            if (CPU_ISSET(size_t(c), &allowed) && c != chosen[0])
                chosen[found++] = c;
    }
    cpu[0] = chosen[0], cpu[1] = chosen[1];
    return found;
}

// Pins the calling thread to the first or the second of the two CPUs, until the object goes.
class pinned
{
    cpu_set_t before;

  public:
    explicit pinned(int which)
    {
        int cpu[2];
        two_cpus(cpu);
        sched_getaffinity(0, sizeof before, &before);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(size_t(cpu[which]), &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    ~pinned() { sched_setaffinity(0, sizeof before, &before); }
    pinned(const pinned &) = delete;
    pinned &operator=(const pinned &) = delete;
};

// Benchmarks that need two CPUs say so instead of measuring something else.
inline bool has_two_cpus(benchmark::State &state)
{
    int cpu[2];
    if (two_cpus(cpu) == 2)
        return true;
    state.SkipWithError("needs two CPUs");
    return false;
}

// ---- the futex

inline long futex(const uint32_t *word, int operation, uint32_t value, const timespec *until = nullptr)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, until, nullptr,
                   FUTEX_BITSET_MATCH_ANY);
}
inline void futex_wait(const uint32_t *word, uint32_t value)
{
    futex(word, FUTEX_WAIT, value);
}
inline void futex_wake(const uint32_t *word)
{
    futex(word, FUTEX_WAKE, INT_MAX);
}
// Absolute time, so that nothing is lost between reading the clock and falling asleep.
inline void futex_wait_until(const uint32_t *word, uint32_t value, int64_t until)
{
    timespec t = {time_t(until / 1000000000), long(until % 1000000000)};
    futex(word, FUTEX_WAIT_BITSET, value, &t);
}

// ---- threads

// Nanoseconds that body() takes in each of so many threads at once, one to a CPU.
template <class F> double wall(F body, int threads)
{
    uint32_t gate = 0, ready = 0;
    auto run = [&](int which) {
        pinned here(which);
        __atomic_fetch_add(&ready, 1u, __ATOMIC_ACQ_REL);
        while (load(&gate) == 0)
            relax();
        body();
    };
    std::vector<std::thread> running;
    for (int which = 0; which < threads; which++)
        running.emplace_back(run, which);
    while (load(&ready) < uint32_t(threads))
        sleep_us(100);
    int64_t t0 = now();
    store(&gate, 1u);
    for (auto &t : running)
        t.join();
    return double(now() - t0);
}

// Runs body() in one thread, then in two at once: the throughput of both over that of one.
template <class F> double two_over_one(F body, int trials)
{
    std::vector<double> ratios;
    for (int k = 0; k < trials; k++) {
        double one = wall(body, 1), two = wall(body, 2);
        ratios.push_back(2.0 * one / two);
    }
    return median(ratios);
}

// Million operations per second of two threads together; body() does so many of them.
template <class F> double rate_of_two(F body, int operations, int trials)
{
    std::vector<double> rates;
    for (int k = 0; k < trials; k++)
        rates.push_back(2e3 * operations / wall(body, 2));
    return median(rates);
}

// A process-wide default: a thousand threads fit into a small machine.
inline void small_stacks()
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    pthread_setattr_default_np(&small);
    pthread_attr_destroy(&small);
}

// ---- reporting from a harness of one's own

using figures = std::initializer_list<std::pair<const char *, double>>;

// For a harness that does all its work in one iteration: the time of that iteration is of no interest.
inline void report(benchmark::State &state, figures f)
{
    for (const auto &[name, value] : f)
        state.counters[name] = value;
}

// What a program has to measure, in the order of its asking.
struct entry {
    std::string name;
    std::function<void(benchmark::State &)> body;
    bool once;
};
inline std::vector<entry> &entries()
{
    static std::vector<entry> all;
    return all;
}

// Adds a benchmark whose body runs once, does its own timing and ends in report().
template <class F> void once(const std::string &name, F body)
{
    auto timed_as_a_whole = [body](benchmark::State &state) {
        for (auto _ : state) {
            int64_t t0 = now();
            body(state);
            state.SetIterationTime(double(now() - t0) / 1e9);
        }
    };
    entries().push_back({name, timed_as_a_whole, true});
}

// Adds a benchmark that Google Benchmark itself times, `ops` operations to an iteration.
template <class F> void timed(const std::string &name, F body, int ops = 1)
{
    auto counted = [body, ops](benchmark::State &state) {
        body(state);
        state.counters["ops"] = ops;
    };
    entries().push_back({name, counted, false});
}

// Hands all to Google Benchmark. All that do one operation run one after the other, since the ratio of their
// figures is what counts, and the machine changes with time.
inline void register_entries()
{
    auto operation = [](const entry &e) { return e.name.substr(0, e.name.find('/')); };
    auto &all = entries();
    for (auto first = all.begin(); first != all.end();) {
        const std::string which = operation(*first);
        auto end = std::stable_partition(first, all.end(),
                                         [&](const entry &e) { return operation(e) == which; });
        for (; first != end; ++first) {
            auto *made = benchmark::RegisterBenchmark(first->name.c_str(), first->body);
            if (first->once)
                made->Iterations(1)->UseManualTime();
        }
    }
}

// Each program defines this one.
void register_all();

// ---- floors that several programs compare with

// The life of a block: what a library that keeps nothing for itself pays for memory alone.
inline void block_life()
{
    void *p = std::malloc(128);
    benchmark::DoNotOptimize(p);
    forget();
    std::free(p);
}
inline void floor_malloc(benchmark::State &state)
{
    for (auto _ : state)
        block_life();
}

// A compare-and-swap in each of n cells of the size of a context.
struct cell {
    uint32_t word;
    cell *next;
    char rest[128 - 2 * sizeof(void *)];
};
static_assert(sizeof(cell) == 128, "the cells of the floor have the size of a context");

inline bool end(cell *c)
{
    uint32_t old = 0;
    return __atomic_compare_exchange_n(&c->word, &old, 1u, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// Makes all of the cells, each with a link to the next, and frees them; the nanoseconds that body takes to end them.
template <class Walk> int64_t cells_once(std::vector<cell *> &cells, Walk body)
{
    for (auto &c : cells)
        c = new cell();
    for (size_t i = 0; i + 1 < cells.size(); i++)
        cells[i]->next = cells[i + 1];
    int64_t t0 = now();
    long ended = body(cells);
    int64_t t1 = now();
    if (ended != long(cells.size()))
        broken("a cell was done already");
    for (auto c = cells.rbegin(); c != cells.rend(); ++c)
        delete *c;
    return t1 - t0;
}

// Through an array of pointers, in the order of allocation.
inline long end_by_array(const std::vector<cell *> &cells)
{
    long ended = 0;
    for (cell *c : cells)
        ended += end(c);
    return ended;
}

// From cell to cell: where the next one is, only the present one knows.
inline long end_by_links(const std::vector<cell *> &cells)
{
    long ended = 0;
    for (cell *c = cells.front(); c != nullptr; c = c->next)
        ended += end(c);
    return ended;
}

} // namespace bench

#endif
