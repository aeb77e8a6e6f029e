// SPDX-License-Identifier: BSD-2-Clause
// The peer stop_token: std::stop_source and std::stop_callback of C++20.
//
// They have no tree: a child is a source of its own that a callback links to its parent's, as a user writes
// it. It stands where its user keeps it, so only the state of its source is allocated. They have no
// deadlines. A thread sleeps in std::atomic::wait until a callback of its own has run, which is quicker than
// std::condition_variable_any.
#include "../../counted.h"
#include "../../lives.h"
#include "../../load.h"
#include "../../looks.h"
#include "../../trees.h"
#include "../../waiters.h"

#include <atomic>
#include <stop_token>

using namespace bench;

namespace
{

struct stopper {
    std::stop_source *source;
    void operator()() const { source->request_stop(); }
};

class source
{
    std::stop_source s;
    std::stop_callback<stopper> link;

  public:
    static constexpr const char *who = "stop_token";
    static constexpr bool recurses = true;

    source() : link(std::stop_token(), stopper{&s}) {}
    explicit source(source *parent) : link(parent->s.get_token(), stopper{&s}) {}

    std::stop_token token() const { return s.get_token(); }
    void cancel() { s.request_stop(); }
    bool done() const { return s.stop_requested(); }
    void wait()
    {
        std::atomic<int> stopped = 0;
        std::stop_callback wake(s.get_token(), [&stopped] {
            stopped = 1;
            stopped.notify_one();
        });
        stopped.wait(0);
    }
};

// ---- callbacks

long called;
struct counter {
    void operator()() const { called++; }
};
using callback = std::stop_callback<counter>;

void callbacks(benchmark::State &state)
{
    const size_t n = 1000;
    std::vector<std::optional<callback>> cb(n);
    each(state, long(n), trials(1000), [&] {
        source ctx;
        called = 0;
        for (auto &c : cb)
            c.emplace(ctx.token(), counter{});
        int64_t t0 = now();
        ctx.cancel();
        int64_t t1 = now();
        if (called != long(n))
            broken("a callback has not run when its cancel returned");
        for (auto &c : cb)
            c.reset();
        return t1 - t0;
    });
}

void after_stop(benchmark::State &state)
{
    source ctx;
    const std::stop_token token = ctx.token();
    for (auto _ : state) {
        callback c(token, counter{});
        forget();
    }
}

} // namespace

void bench::register_all()
{
    register_looks<source>();
    register_lives<source>();
    register_trees<source>();
    register_waiters<parked<source>, looked_at<source>>(source::who);
    register_load<forest<source>>(source::who);
    register_counted<source>();
    once("callbacks/stop_token", callbacks);
    timed("after_stop/stop_token", after_stop);
}
