// SPDX-License-Identifier: BSD-2-Clause
// How costs grow: each figure is taken at several sizes, from which the report fits an exponent.
//
// An operation is named grow_WHAT:SIZE. Caches make nearly everything grow a little with the size of the
// memory it touches, so each has a floor that touches as much: the report fits the ratio to it, too.
//
//   siblings  derive and unref, among SIZE live siblings     armed     arm and disarm, among SIZE armed
//   depth     a lookup, SIZE contexts below the value        values    lookups of all of SIZE keys, shuffled
//   waiters   from the cancel to the last of SIZE sleepers   children  a cancel of SIZE children, each
//   levels    a cancel of a chain of SIZE, each              threads   million lives a second of SIZE threads
#include "context.h"
#include "trees.h"
#include "waiters.h"

using namespace bench;

namespace
{

// Nanoseconds per call of f: the median of many short batches, which a burst of other work does not move.
template <class F> double ns_each(F f)
{
    enum { CALLS = 2000 };
    std::vector<double> v;
    for (int batch = reps(41, 21); batch > 0; batch--) {
        int64_t t0 = now();
        for (int i = 0; i < CALLS; i++)
            f();
        v.push_back(double(now() - t0) / CALLS);
    }
    return median(v);
}

template <class F> void grow(const std::string &what, long size, const char *who, F figure)
{
    once("grow_" + what + ":" + std::to_string(size) + "/" + who, [size, figure](benchmark::State &state) {
        if (has_two_cpus(state))
            report(state, {{"value", figure(size)}});
    });
}

// ---- one more among many

double among_siblings(long n)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    std::vector<cctx_t *> siblings(static_cast<size_t>(n));
    for (auto &s : siblings)
        s = need(cctx_with_cancel(parent));
    double ns = ns_each([parent] { cctx_unref(need(cctx_with_cancel(parent))); });
    for (auto s = siblings.rbegin(); s != siblings.rend(); ++s)
        cctx_unref(*s);
    cctx_unref(parent);
    return ns;
}

// The armed ones hang below another parent and end at various times: the figure shows the timers alone.
double among_armed(long n)
{
    cctx_t *elsewhere = need(cctx_with_cancel(cctx_background()));
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    std::vector<cctx_t *> armed(static_cast<size_t>(n));
    uint64_t seed = 1;
    for (auto &a : armed) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        a = need(cctx_with_timeout(elsewhere, HOUR + int64_t(seed >> 33) % HOUR));
    }
    double ns = ns_each([parent] { cctx_unref(need(cctx_with_timeout(parent, HOUR))); });
    for (auto a = armed.rbegin(); a != armed.rend(); ++a)
        cctx_unref(*a);
    cctx_unref(parent);
    cctx_unref(elsewhere);
    return ns;
}

// One block more among n that malloc has handed out.
template <bool CLOCK> double among_blocks(long n)
{
    std::vector<void *> blocks(static_cast<size_t>(n));
    for (auto &b : blocks)
        b = need(std::malloc(128));
    double ns = ns_each([] {
        void *p = std::malloc(128);
        benchmark::DoNotOptimize(p);
        if (CLOCK)
            benchmark::DoNotOptimize(now());
        forget();
        std::free(p);
    });
    for (auto b = blocks.rbegin(); b != blocks.rend(); ++b)
        std::free(*b);
    return ns;
}

// ---- lookups

double at_depth(long n)
{
    static const cctx_key_t key = {"key", nullptr};
    const cctx_t *leaf = need(cctx_with_value(cctx_background(), &key, &leaf));
    for (long i = 1; i < n; i++) {
        const cctx_t *next = need(cctx_with_cancel(leaf));
        cctx_unref(leaf);
        leaf = next;
    }
    if (cctx_value(leaf, &key) == nullptr)
        broken("the value is not found");
    double ns = ns_each([leaf] {
        void *v = cctx_value(leaf, &key);
        benchmark::DoNotOptimize(v);
    });
    cctx_unref(leaf);
    return ns;
}

// n keys, and the order in which they are asked for: all in turn, shuffled, for cctx and its floor alike.
struct key_ring {
    std::vector<cctx_key_t> keys;
    std::vector<const cctx_key_t *> order;
    size_t at = 0;

    explicit key_ring(long n) : keys(static_cast<size_t>(n), cctx_key_t{"key", nullptr})
    {
        uint64_t seed = 3;
        for (auto &k : keys)
            order.push_back(&k);
        for (size_t i = order.size(); i > 1; i--) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            std::swap(order[i - 1], order[(seed >> 33) % i]);
        }
    }
    const cctx_key_t *next()
    {
        const cctx_key_t *k = order[at];
        at = at + 1 < order.size() ? at + 1 : 0;
        return k;
    }
};

double among_values(long n)
{
    key_ring ring(n);
    const cctx_t *leaf = cctx_background();
    for (const auto &k : ring.keys) {
        const cctx_t *next = need(cctx_with_value(leaf, &k, const_cast<cctx_key_t *>(&k)));
        cctx_unref(leaf);
        leaf = next;
    }
    double ns = ns_each([&] {
        void *v = cctx_value(leaf, ring.next());
        benchmark::DoNotOptimize(v);
    });
    for (const auto &k : ring.keys)
        if (cctx_value(leaf, &k) != &k)
            broken("a key has another's value");
    cctx_unref(leaf);
    return ns;
}

// Cells of the size of a context, in which a key's place is known: a call, one access, a compare.
struct pair {
    const cctx_key_t *key;
    const void *value;
    char rest[128 - 2 * sizeof(void *)];
};
__attribute__((noinline)) const void *look(const pair *table, const cctx_key_t *first, const cctx_key_t *key)
{
    const pair *p = &table[key - first];
    return p->key == key ? p->value : nullptr;
}
double one_access(long n)
{
    key_ring ring(n);
    std::vector<pair> table;
    for (const auto &k : ring.keys)
        table.push_back({&k, &k, {}});
    return ns_each([&] {
        forget();
        const void *v = look(table.data(), ring.keys.data(), ring.next());
        benchmark::DoNotOptimize(v);
    });
}
double one_access_one_key(long)
{
    return one_access(1);
}

// ---- cancels: nanoseconds for each of n

template <class Trial> double ns_of_each(long n, Trial trial)
{
    int trials = n >= 1000000 ? 2 : n >= 100000 ? reps(7, 5) : n >= 10000 ? reps(21, 11) : reps(101, 51);
    std::vector<double> v;
    for (; trials > 0; trials--)
        v.push_back(double(trial()) / double(n));
    return median(v);
}

template <bool CHAIN> double cancel_of(long n)
{
    std::vector<std::optional<context>> tree(static_cast<size_t>(n));
    return ns_of_each(n, [&] { return CHAIN ? chain_once(tree) : fan_once(tree); });
}

template <bool CHAIN> double walk_of(long n)
{
    std::vector<cell *> cells(static_cast<size_t>(n));
    return ns_of_each(n, [&] { return cells_once(cells, CHAIN ? end_by_links : end_by_array); });
}

// ---- waiters: from the cancel to the last of n threads that slept on the one context running

// The canceler has one CPU and the waiters another, as a single waiter has. Those that ran are held until all
// have: the exit of a thread costs more than its wake.
template <class Event> double last_of(long n)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    pthread_setattr_default_np(&small);
    pinned here(0);
    std::vector<double> v;
    for (int trial = n >= 1000 ? reps(3, 2) : reps(15, 9); trial > 0; trial--) {
        Event event;
        long ready = 0, ran = 0;
        int64_t last = 0;
        std::mutex gate;
        gate.lock();
        std::vector<std::thread> threads;
        for (long i = 0; i < n; i++)
            threads.emplace_back([&] {
                pinned there(1);
                __atomic_fetch_add(&ready, 1, __ATOMIC_ACQ_REL);
                event.wait();
                int64_t t = now(), old = load(&last);
                while (old < t && !__atomic_compare_exchange_n(&last, &old, t, false, __ATOMIC_ACQ_REL,
                                                               __ATOMIC_ACQUIRE))
                    ;
                __atomic_fetch_add(&ran, 1, __ATOMIC_ACQ_REL);
                std::lock_guard<std::mutex> held(gate);
            });
        while (load(&ready) < n)
            sleep_us(500);
        sleep_us(2000 + 20 * n);
        int64_t t0 = now();
        event.fire();
        while (load(&ran) < n)
            relax();
        gate.unlock();
        for (auto &t : threads)
            t.join();
        v.push_back(double(last - t0));
    }
    return median(v);
}

// ---- threads: million lives a second of n threads together, each pinned, all under ONE parent

std::vector<int> allowed_cpus()
{
    cpu_set_t set;
    std::vector<int> cpus;
    sched_getaffinity(0, sizeof set, &set);
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(size_t(c), &set))
            cpus.push_back(c);
    return cpus;
}

template <class Life> double throughput(long n, int lives, Life life)
{
    const std::vector<int> cpus = allowed_cpus();
    std::vector<double> v;
    for (int trial = 0; trial < 3; trial++) {
        uint32_t gate = 0;
        long ready = 0;
        std::vector<int64_t> began(static_cast<size_t>(n)), ended(static_cast<size_t>(n));
        std::vector<std::thread> threads;
        for (size_t i = 0; i < began.size(); i++)
            threads.emplace_back([&, i] {
                cpu_set_t one;
                CPU_ZERO(&one);
                CPU_SET(size_t(cpus[i % cpus.size()]), &one);
                sched_setaffinity(0, sizeof one, &one);
                life();
                __atomic_fetch_add(&ready, 1, __ATOMIC_ACQ_REL);
                while (load(&gate) == 0)
                    sched_yield();
                began[i] = now();
                for (int k = 0; k < lives; k++)
                    life();
                ended[i] = now();
            });
        while (load(&ready) < n)
            sleep_us(100);
        store(&gate, 1u);
        for (auto &t : threads)
            t.join();
        int64_t wall = *std::max_element(ended.begin(), ended.end()) -
                       *std::min_element(began.begin(), began.end());
        v.push_back(double(n) * lives * 1e3 / double(wall));
    }
    return median(v);
}

double one_parent(long n)
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    auto life = [parent] { cctx_close(need(cctx_with_cancel(parent))); };
    double rate = throughput(n, reps(400000, 200000), life);
    cctx_unref(parent);
    return rate;
}

double own_malloc(long n)
{
    return throughput(n, reps(1600000, 800000), block_life);
}

} // namespace

void bench::register_all()
{
    for (long n = 100; n <= 1000000; n *= 10) {
        grow("siblings", n, "cctx", among_siblings);
        grow("siblings", n, "floor", among_blocks<false>);
        grow("armed", n, "cctx", among_armed);
        grow("armed", n, "floor", among_blocks<true>);
        grow("children", n, "cctx", cancel_of<false>);
        grow("children", n, "floor", walk_of<false>);
        grow("levels", n, "cctx", cancel_of<true>);
        grow("levels", n, "floor", walk_of<true>);
    }
    for (long n = 1; n <= 1000000; n *= 10) {
        grow("depth", n, "cctx", at_depth);
        grow("depth", n, "floor", one_access_one_key);
    }
    for (long n = 1; n <= 10000; n *= 10) {
        grow("values", n, "cctx", among_values);
        grow("values", n, "floor", one_access);
    }
    for (long n = 1; n <= 1000; n *= 10) {
        grow("waiters", n, "cctx", last_of<parked<context>>);
        grow("waiters", n, "floor", last_of<bare_parked>);
    }
    const long cpus = long(allowed_cpus().size());
    std::vector<long> counts;
    for (long n = 1; n < cpus; n *= 2)
        counts.push_back(n);
    for (long n : {cpus, 2 * cpus})
        counts.push_back(n);
    for (long n : counts) {
        grow("threads", n, "cctx", one_parent);
        grow("threads", n, "floor", own_malloc);
    }
}
