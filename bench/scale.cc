// SPDX-License-Identifier: BSD-2-Clause scale: throughput against threads, one thread to a CPU: contexts
// below ONE parent, which is where they could meet.
//
// A point is the median of a few short runs; the series take turns, so that a mood of the machine meets all
// of them. Each run has new threads and a new parent.
#include <cctx/cctx.h>

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>
#if __has_include(<nsync.h>)
#include <nsync.h>
#define HAVE_NSYNC 1
#endif

namespace
{

double now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

template <class T> T *need(T *p)
{
    if (p == nullptr) {
        std::fputs("scale: a derivation failed\n", stderr);
        std::exit(1);
    }
    return p;
}

// ---- CPUs: those that the process may use, one of each core first

std::vector<int> cpus()
{
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    std::vector<int> first, others;
    std::vector<std::string> cores;
    for (int c = 0; c < CPU_SETSIZE; c++) {
        if (!CPU_ISSET(size_t(c), &allowed))
            continue;
        std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(c);
        std::ifstream in(folder + "/topology/thread_siblings_list");
        std::string core;
        if (!std::getline(in, core))
            core = std::to_string(c);
        bool known = std::find(cores.begin(), cores.end(), core) != cores.end();
        cores.push_back(core);
        (known ? others : first).push_back(c);
    }
    first.insert(first.end(), others.begin(), others.end());
    return first;
}

void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(size_t(cpu), &one);
    sched_setaffinity(0, sizeof one, &one);
}

// ---- the series: make() gives what all threads share, run() is one operation of a thread, drop() ends it

struct series {
    const char *operation, *who;
    std::function<void *()> make;
    void (*batch)(void *shared);        // BATCH operations
    std::function<void(void *)> drop;
};
enum { BATCH = 64 };

template <void (*one)(void *)> void batch_of(void *shared)
{
    for (int i = 0; i < BATCH; i++)
        one(shared);
}

const int64_t HOUR = CCTX_S(3600);
const cctx_key_t key = {"key", nullptr};

cctx_t *parent_of(void *shared)
{
    return static_cast<cctx_t *>(shared);
}
void life(cctx_t *ctx)
{
    cctx_cancel(need(ctx));
    cctx_unref(ctx);
}
void *make_parent()
{
    return need(cctx_with_cancel(cctx_background()));
}
void drop_parent(void *shared)
{
    cctx_close(parent_of(shared));
}

void child(void *shared)
{
    life(cctx_with_cancel(parent_of(shared)));
}
void root(void *)
{
    life(cctx_with_cancel(cctx_background()));
}
void timeout(void *shared)
{
    life(cctx_with_timeout(parent_of(shared), HOUR));
}
void value(void *shared)
{
    cctx_unref(need(cctx_with_value(parent_of(shared), &key, shared)));
}

// The usual design: each child writes one word of its parent, here a counter, and nothing else that is
// shared.
struct alignas(64) word {
    std::atomic<uint64_t> n{0};
};
void fetch_add(void *shared)
{
    static_cast<word *>(shared)->n.fetch_add(1, std::memory_order_relaxed);
}
void counted(void *shared)
{
    fetch_add(shared);
    root(nullptr);
}
void *make_word()
{
    return new word;
}
void drop_word(void *shared)
{
    delete static_cast<word *>(shared);
}

void allocate(void *)
{
    void *p = std::malloc(128);
    __asm__ volatile("" : "+r"(p) : : "memory");
    std::free(p);
}

// std::stop_token has no tree: a child is a stop_source of its own, linked to its parent by a stop_callback.
struct stopper {
    std::stop_source *source;
    void operator()() const { source->request_stop(); }
};
struct linked {
    std::stop_source source;
    std::stop_callback<stopper> link;
    explicit linked(const std::stop_source &above) : link(above.get_token(), stopper{&source}) {}
};
void stop_child(void *shared)
{
    linked c(*static_cast<std::stop_source *>(shared));
    c.source.request_stop();
    __asm__ volatile("" : : : "memory");
}
void stop_root(void *)
{
    std::stop_source s;
    s.request_stop();
    __asm__ volatile("" : : : "memory");
}

#ifdef HAVE_NSYNC
nsync::nsync_note note_of(void *shared)
{
    return static_cast<nsync::nsync_note>(shared);
}
void note_life(nsync::nsync_note above, nsync::nsync_time deadline)
{
    nsync::nsync_note n = need(nsync::nsync_note_new(above, deadline));
    nsync::nsync_note_notify(n);
    nsync::nsync_note_free(n);
}
void note_child(void *shared)
{
    note_life(note_of(shared), nsync::nsync_time_no_deadline);
}
void note_root(void *)
{
    note_life(nullptr, nsync::nsync_time_no_deadline);
}
// Its deadline is a field that waiters look at: nothing is armed.
void note_timeout(void *shared)
{
    note_life(note_of(shared), nsync::nsync_time_add(nsync::nsync_time_now(), nsync::nsync_time_ms(3600000)));
}
void *make_note()
{
    return need(nsync::nsync_note_new(nullptr, nsync::nsync_time_no_deadline));
}
void drop_note(void *shared)
{
    nsync::nsync_note_free(note_of(shared));
}
#endif

void *make_nothing()
{
    return nullptr;
}
void drop_nothing(void *) {}

const series all[] = {
    {"create_child", "cctx", make_parent, batch_of<child>, drop_parent},
    {"create_child", "one_shared_write", make_word, batch_of<counted>, drop_word},
    {"create_child", "stop_token", [] { return new std::stop_source; }, batch_of<stop_child>,
     [](void *s) { delete static_cast<std::stop_source *>(s); }},
#ifdef HAVE_NSYNC
    {"create_child", "nsync", make_note, batch_of<note_child>, drop_note},
#endif
    {"create_child", "floor", make_nothing, batch_of<allocate>, drop_nothing},
    {"create_root", "cctx", make_nothing, batch_of<root>, drop_nothing},
    {"create_root", "stop_token", make_nothing, batch_of<stop_root>, drop_nothing},
#ifdef HAVE_NSYNC
    {"create_root", "nsync", make_nothing, batch_of<note_root>, drop_nothing},
#endif
    {"create_timeout", "cctx", make_parent, batch_of<timeout>, drop_parent},
#ifdef HAVE_NSYNC
    {"create_timeout", "nsync", make_note, batch_of<note_timeout>, drop_note},
#endif
    {"create_value", "cctx", make_parent, batch_of<value>, drop_parent},
    {"fetch_add", "floor", make_word, batch_of<fetch_add>, drop_word},
};

// ---- one run

// Million operations per second of so many threads together.
double run(const series &s, const std::vector<int> &cpu, int threads, double seconds)
{
    struct alignas(64) state {
        std::atomic<uint64_t> batches{0};
    };
    std::vector<state> states(static_cast<size_t>(threads));
    std::vector<std::thread> running;
    std::atomic<int> ready{0};
    alignas(64) std::atomic<int> phase{0};      // 0 nobody runs yet, 1 go, 2 stop
    void *shared = s.make();
    for (int i = 0; i < threads; i++)
        running.emplace_back([&, i] {
            pin(cpu[size_t(i)]);
            s.batch(shared);
            ready.fetch_add(1);
            while (phase.load(std::memory_order_acquire) == 0)
                std::this_thread::yield();
            uint64_t n = 0;
            while (phase.load(std::memory_order_relaxed) != 2) {
                s.batch(shared);
                states[size_t(i)].batches.store(++n, std::memory_order_relaxed);
            }
        });
    auto sum = [&] {
        uint64_t n = 0;
        for (auto &w : states)
            n += w.batches.load(std::memory_order_relaxed);
        return double(n * BATCH);
    };
    // The first fifth is a warm-up: by then a crowd has been recognized.
    auto rest = [](double length) { std::this_thread::sleep_for(std::chrono::duration<double>(length)); };
    while (ready.load() < threads)
        rest(0.0002);
    phase.store(1, std::memory_order_release);
    rest(seconds / 5);
    double n0 = sum(), t0 = now();
    rest(seconds);
    double n1 = sum(), t1 = now();
    phase.store(2);
    for (auto &t : running)
        t.join();
    s.drop(shared);
    return (n1 - n0) / (t1 - t0) * 1e-6;
}

// A line from one CPU to the other and nothing else: two threads count by turns. Million such moves per
// second.
double handoff(const std::vector<int> &cpu, double seconds)
{
    word w;
    std::atomic<bool> stop{false};
    uint64_t moves[2] = {0, 0};
    auto count = [&](int me) {
        pin(cpu[size_t(me)]);
        uint64_t n = 0;
        while (!stop.load(std::memory_order_relaxed))
            if ((w.n.load(std::memory_order_relaxed) & 1) == uint64_t(me)) {
                w.n.fetch_add(1, std::memory_order_relaxed);
                n++;
            }
        moves[me] = n;
    };
    double t0 = now();
    std::thread a(count, 0), b(count, 1);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop.store(true);
    a.join();
    b.join();
    return double(moves[0] + moves[1]) / (now() - t0) * 1e-6;
}

} // namespace

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? std::atof(argv[1]) : 0.05;
    int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
    std::vector<int> cpu = cpus(), points;
    int most = int(cpu.size());
    for (int t = 1; t < most; t *= 2)
        points.push_back(t);
    points.push_back(most);

    const size_t count = sizeof all / sizeof all[0];
    using figures = std::vector<double>;
    std::vector<std::vector<figures>> figure(count, std::vector<figures>(points.size()));
    std::vector<double> moves;
    for (int r = 0; r < rounds; r++) {
        for (int k = 0; k < 10 && most > 1; k++)
            moves.push_back(handoff(cpu, seconds / 10));
        for (size_t p = 0; p < points.size(); p++)
            for (size_t i = 0; i < count; i++)
                figure[i][p].push_back(run(all[i], cpu, points[p], seconds));
    }
    auto median = [](std::vector<double> &v) {
        std::sort(v.begin(), v.end());
        return v[v.size() / 2];
    };
    std::puts("operation\twho\tthreads\tmillion_per_s");
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; p < points.size(); p++)
            std::printf("%s\t%s\t%d\t%.4f\n", all[i].operation, all[i].who, points[p], median(figure[i][p]));
    if (most > 1)
        std::printf("handoff\tfloor\t2\t%.4f\n", median(moves));
    return 0;
}
