/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * coming_from_stop_token - what C++20 does with std::stop_token, and the same with a context. Regions std_...
 * and ctx_... stand side by side in README; the checks after them assert that both do it. The worker at the
 * head is made of both: the threads are std::jthread's, the jobs have contexts.
 */
#include <cctx/cctx.hpp>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

using namespace std::chrono_literals;

#define CHECK(expression)                                                                                    \
    do {                                                                                                     \
        if (!(expression)) {                                                                                 \
            std::fprintf(stderr, "coming_from_stop_token: line %d: %s\n", __LINE__, #expression);            \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

/* ---- a worker ---------------------------------------------------------------------------------- */

/* [worker] */
using job = std::function<void(const cctxx::context &)>;

class queue
{
  public:
    void push(job j)
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(j));
        changed_.notify_one();
    }

    /* The next job; none once ctx is done. */
    std::optional<job> pop(const cctxx::context &ctx)
    {
        cctxx::stop_on_done stop(ctx);
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop.token(), [this] { return !jobs_.empty(); }))
            return std::nullopt;
        job next = std::move(jobs_.front());
        jobs_.pop_front();
        return next;
    }

  private:
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<job> jobs_;
};

/* Ends with its thread's stop or with the server, and so does the job that it is in the middle of. */
void work(std::stop_token token, const cctxx::context &server, queue &jobs)
{
    cctxx::with_stop_token ctx(server, token);
    while (const auto next = jobs.pop(ctx)) {
        auto limit = cctxx::with_timeout(ctx, 5s);
        (*next)(limit);
    }
}
/* [worker end] */

static void a_worker_ends_by_its_stop_or_by_the_server(bool by_server)
{
    auto server = cctxx::with_cancel(cctxx::background());
    queue jobs;
    std::atomic<int> done{0};
    std::jthread worker(work, std::cref(static_cast<const cctxx::context &>(server)), std::ref(jobs));
    cctxx::context seen;
    auto begun = cctxx::with_cancel(cctxx::background());
    for (int i = 0; i < 3; i++)
        jobs.push([&](const cctxx::context &ctx) { done += ctx.is_done() ? 0 : 1; });
    jobs.push([&](const cctxx::context &ctx) {
        seen = ctx;
        begun.cancel();
        (void)ctx.wait();
    });
    (void)begun.wait();
    if (by_server)
        server.cancel();
    else
        worker.request_stop();
    worker.join();
    CHECK(done == 3);
    CHECK(seen.cause() == (by_server ? &cctx_canceled : &cctxx::stop_requested));
}

/* ---- side by side ------------------------------------------------------------------------------ */

static void source(const cctxx::context &parent)
{
    {
        /* [std_source] */
        std::stop_source source;
        std::stop_token token = source.get_token();
        /* [std_source end] */
        CHECK(token.stop_possible());
        /* [std_stop] */
        bool first = source.request_stop();
        /* [std_stop end] */
        CHECK(first && token.stop_requested());
    }
    cctxx::context seen;
    {
        /* [ctx_source] */
        auto owner = cctxx::with_cancel(parent); // canceled at the end of its scope
        const cctxx::context &ctx = owner;       // has no way to cancel
        /* [ctx_source end] */
        seen = ctx;
    }
    CHECK(seen.is_done());
    auto owner = cctxx::with_cancel(parent);
    /* [ctx_stop] */
    bool first = owner.cancel();
    /* [ctx_stop end] */
    CHECK(first && owner.is_done());
}

static void look(const cctxx::context &parent)
{
    std::stop_source source;
    std::stop_token token = source.get_token();
    auto owner = cctxx::with_cancel(parent);
    const cctxx::context &ctx = owner;
    int steps = 0;
    auto step = [&] {
        if (++steps == 3)
            source.request_stop();
        if (steps == 5)
            owner.cancel();
    };
    /* [std_look] */
    while (!token.stop_requested())
        step();
    /* [std_look end] */
    CHECK(steps == 3);
    /* [ctx_look] */
    while (!ctx.is_done())
        step();
    /* [ctx_look end] */
    CHECK(steps == 5);
}

static void callback(const cctxx::context &parent)
{
    std::stop_source source;
    std::stop_token token = source.get_token();
    auto owner = cctxx::with_cancel(parent);
    const cctxx::context &ctx = owner;
    struct {
        void shutdown() { shut++; }
        int shut = 0;
    } socket;
    {
        /* [std_callback] */
        std::stop_callback hang_up(token, [&] { socket.shutdown(); });
        /* [std_callback end] */
        source.request_stop();
    }
    CHECK(socket.shut == 1);
    {
        /* [ctx_callback] */
        cctxx::after_func hang_up(ctx, [&] { socket.shutdown(); });
        /* [ctx_callback end] */
        owner.cancel();
    }
    CHECK(socket.shut == 2);
}

static void sleep(const cctxx::context &parent)
{
    std::stop_source source;
    std::stop_token token = source.get_token();
    auto owner = cctxx::with_cancel(parent);
    const cctxx::context &ctx = owner;
    source.request_stop();
    owner.cancel();
    std::mutex mutex;
    {
        /* [std_sleep] */
        std::condition_variable_any never;
        std::unique_lock lock(mutex);
        never.wait_for(lock, token, 1h, [] { return false; });
        /* [std_sleep end] */
    }
    /* [ctx_sleep] */
    ctx.sleep_for(1h);
    /* [ctx_sleep end] */
}

static void wait(const cctxx::context &parent)
{
    std::stop_source source;
    std::stop_token token = source.get_token();
    auto owner = cctxx::with_cancel(parent);
    const cctxx::context &ctx = owner;
    std::mutex mutex;
    std::condition_variable_any changed;
    auto ready = [] { return false; };
    source.request_stop();
    owner.cancel();
    std::unique_lock lock(mutex);
    {
        /* [std_wait] */
        bool found = changed.wait(lock, token, ready);
        /* [std_wait end] */
        CHECK(!found);
    }
    {
        /* [ctx_wait] */
        cctxx::stop_on_done stop(ctx);
        bool found = changed.wait(lock, stop.token(), ready);
        /* [ctx_wait end] */
        CHECK(!found);
    }
}

static void thread(const cctxx::context &parent)
{
    std::atomic<int> ended{0};
    {
        auto work = [&](std::stop_token token) {
            while (!token.stop_requested())
                std::this_thread::yield();
            ended++;
        };
        /* [std_thread] */
        std::jthread worker(work);
        /* [std_thread end] */
    }
    CHECK(ended == 1);
    {
        auto work = [&](const cctxx::context &ctx) {
            (void)ctx.wait();
            ended++;
        };
        /* [ctx_thread] */
        std::jthread worker([&](std::stop_token token) {
            cctxx::with_stop_token ctx(parent, token);
            work(ctx);
        });
        /* [ctx_thread end] */
    }
    CHECK(ended == 2);
}

static void either(const cctxx::context &parent)
{
    {
        std::stop_source left, right;
        std::stop_token request = left.get_token(), server = right.get_token();
        /* [std_either] */
        std::stop_source either;
        auto stop = [&] { either.request_stop(); };
        std::stop_callback of_request(request, stop);
        std::stop_callback of_server(server, stop);
        /* [std_either end] */
        right.request_stop();
        CHECK(either.stop_requested());
    }
    auto request = cctxx::with_cancel(parent), server = cctxx::with_cancel(parent);
    /* [ctx_either] */
    auto either = cctxx::with_any(request, server);
    /* [ctx_either end] */
    server.cancel();
    CHECK(either.is_done() && !request.is_done());
}

/* [ctx_key] */
inline constexpr cctxx::key<std::string> user{"user"};
/* [ctx_key end] */

static void more(const cctxx::context &parent)
{
    {
        /* [ctx_timeout] */
        auto ctx = cctxx::with_timeout(parent, 5s);
        /* [ctx_timeout end] */
        CHECK(ctx.remaining() > 0s && ctx.remaining() <= 5s);
    }
    {
        auto ctx = cctxx::with_cancel(parent);
        /* [ctx_cause] */
        ctx.cancel(EPIPE, "the client closed");
        std::string_view why = ctx.cause_text();
        /* [ctx_cause end] */
        CHECK(why == "the client closed" && ctx.err() == std::errc::operation_canceled);
    }
    {
        /* [ctx_value] */
        cctxx::context ctx = cctxx::with_value(parent, user, "ada");
        const std::string *name = ctx.value(user);
        /* [ctx_value end] */
        CHECK(*name == "ada");
    }
    auto ctx = cctxx::with_cancel(parent);
    std::atomic<int> fetched{0};
    auto fetch = [&](const cctxx::context &, int) { fetched++; };
    int left = 1, right = 2;
    /* [ctx_group] */
    cctxx::group group(ctx, 8);
    group.go([&](const cctxx::context &c) { fetch(c, left); });
    group.go([&](const cctxx::context &c) { fetch(c, right); });
    group.wait(); // throws what the first of them threw
    /* [ctx_group end] */
    CHECK(fetched == 2);
}

int main()
{
    const cctxx::context parent = cctxx::background();

    a_worker_ends_by_its_stop_or_by_the_server(false);
    a_worker_ends_by_its_stop_or_by_the_server(true);
    source(parent);
    look(parent);
    callback(parent);
    sleep(parent);
    wait(parent);
    thread(parent);
    either(parent);
    more(parent);
    return 0;
}
