// SPDX-License-Identifier: BSD-2-Clause
// <cctx/cctx.hpp> in C++17 and C++20: who owns what, what throws, waits, and does not allocate.
#include <cctx/cctx.hpp>
#include <cctx/domain.h>
#include <cctx/inspect.h>

#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;

namespace
{

int failures;

#define EXPECT(expression)                                                                                   \
    do {                                                                                                     \
        if (!(expression)) {                                                                                 \
            std::fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #expression);      \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

/* True if f throws an Exception that looks as it must. */
template <class Exception, class F, class Look> bool throws(F f, Look look)
{
    try {
        f();
    } catch (const Exception &e) {
        return look(e);
    } catch (...) {
    }
    return false;
}
template <class Exception, class F> bool throws(F f)
{
    return throws<Exception>(f, [](const Exception &) { return true; });
}

bool says(const std::system_error &e, std::errc code, const char *words)
{
    return e.code() == code && std::strstr(e.what(), words) != nullptr;
}

/* A flag that a thread waits for; what was done before set is seen after wait. */
class flag
{
  public:
    void set()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        set_ = true;
        changed_.notify_all();
    }
    void wait()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return set_; });
    }

  private:
    std::mutex mutex_{};
    std::condition_variable changed_{};
    bool set_{false};
};

std::atomic<long> allocations;   /* by new, in the whole program */
thread_local bool refuse_memory; /* to this thread's new */

/* A domain whose allocator can be told to refuse: what the library does without memory. */
class poor
{
  public:
    poor() : domain_(make(this)) {}
    poor(const poor &) = delete;
    poor &operator=(const poor &) = delete;
    ~poor() { EXPECT(cctx_domain_free(domain_) == 0); }

    cctxx::context background() const { return cctxx::context(cctx_domain_background(domain_)); }

    std::atomic<bool> refuses{false};

  private:
    static cctx_domain_t *make(poor *self)
    {
        cctx_domain_options_t options = {};
        options.size = sizeof options;
        options.user = self;
        options.allocate = [](void *user, std::size_t size, std::size_t align) {
            const std::size_t whole = (size + align - 1) / align * align;
            return static_cast<poor *>(user)->refuses ? nullptr : std::aligned_alloc(align, whole);
        };
        options.release = [](void *, void *p) { std::free(p); };
        return cctx_domain_new(&options);
    }

    cctx_domain_t *domain_;
};

/* How many contexts there are. */
std::uint64_t live()
{
    cctx_stats_t stats = {};
    stats.size = sizeof stats;
    cctx_stats(&stats);
    return stats.live;
}

constexpr cctx_cause_t closed{EPIPE, "the client closed"};
constexpr cctx_cause_t slow{EIO, "the disk is slow"};

/* ---- types ------------------------------------------------------------------------------------- */

using cctxx::cancelable_context;
using cctxx::context;

/* The handles cost what the C handles do. */
static_assert(sizeof(context) == sizeof(void *) && sizeof(cancelable_context) == sizeof(void *), "");
static_assert(sizeof(cctxx::canceler) == sizeof(void *), "");
static_assert(sizeof(cctxx::key<int>) == sizeof(cctx_key_t), "");
struct one_pointer {
    void operator()() const noexcept { cctx_cancel(ctx); }
    cctx_t *ctx;
};
struct storage_and_callable {
    cctx_callback_t storage;
    one_pointer f;
};
static_assert(sizeof(cctxx::after_func<one_pointer>) == sizeof(storage_and_callable), "it is inside");
static_assert(sizeof(cctxx::guard<one_pointer>) == sizeof(storage_and_callable) + 256 - 64, "");
static_assert(std::is_standard_layout_v<context> && std::is_standard_layout_v<cancelable_context>, "");

static_assert(std::is_nothrow_default_constructible_v<context>, "");
static_assert(std::is_nothrow_copy_constructible_v<context>, "");
static_assert(std::is_nothrow_move_constructible_v<context>, "");
static_assert(std::is_nothrow_move_assignable_v<context>, "");
static_assert(std::is_nothrow_copy_assignable_v<context> && std::is_nothrow_swappable_v<context>, "");
static_assert(std::is_nothrow_move_constructible_v<cancelable_context>, "");
static_assert(std::is_nothrow_move_assignable_v<cancelable_context>, "");
static_assert(!std::is_copy_constructible_v<cancelable_context>, "one owner");
static_assert(!std::is_copy_assignable_v<cancelable_context>, "one owner");
static_assert(!std::is_move_constructible_v<cctxx::after_func<one_pointer>>, "the library has its address");
static_assert(!std::is_move_constructible_v<cctxx::guard<one_pointer>>, "the library has its address");
static_assert(!std::is_move_constructible_v<cctxx::group>, "the tasks have its address");
static_assert(!std::is_copy_constructible_v<cctxx::key<int>>, "the address is the key");

/* The const rule. */
template <class T, class = void> struct can_cancel : std::false_type {
};
template <class T> struct can_cancel<T, std::void_t<decltype(std::declval<T>().cancel())>> : std::true_type {
};
static_assert(can_cancel<cancelable_context &>::value && !can_cancel<const cancelable_context &>::value, "");
static_assert(!can_cancel<context &>::value && !can_cancel<const context &>::value, "");
static_assert(std::is_same_v<decltype(std::declval<cancelable_context &>().get()), cctx_t *>, "");
static_assert(std::is_same_v<decltype(std::declval<const cancelable_context &>().get()), const cctx_t *>, "");
static_assert(std::is_same_v<decltype(std::declval<context &>().get()), const cctx_t *>, "");
static_assert(std::is_convertible_v<cancelable_context &, const context &>, "");
static_assert(std::is_convertible_v<const cancelable_context &, const context &>, "");
static_assert(!std::is_convertible_v<cancelable_context &, context &>, "");
static_assert(!std::is_convertible_v<cancelable_context, const context &>, "canceled before it is used");
static_assert(!std::is_convertible_v<cancelable_context, context>, "canceled before it is used");
static_assert(!std::is_constructible_v<cancelable_context, context>, "");
static_assert(!std::is_constructible_v<cctxx::canceler, const context &>, "");
static_assert(!std::is_constructible_v<cctxx::canceler, const cancelable_context &>, "");
static_assert(!std::is_constructible_v<cctxx::canceler, context &>, "");

/* ---- handles ----------------------------------------------------------------------------------- */

std::error_code asks(const context &ctx)
{
    return ctx.err();
}

/* C1, C8 */
void the_end_of_the_scope_cancels()
{
    context seen;
    {
        auto ctx = cctxx::with_cancel(cctxx::background());
        seen = ctx;
        EXPECT(!asks(ctx) && !seen.is_done() && seen == ctx);
    }
    EXPECT(seen.is_done() && seen.err() == std::errc::operation_canceled && seen.cause() == &cctx_canceled);
    EXPECT(seen.cause_text() == "context canceled");
}

void what_was_moved_from_is_the_background()
{
    auto a = cctxx::with_cancel(cctxx::background());
    auto b = std::move(a);
    EXPECT(static_cast<const context &>(a) == cctxx::background());
    EXPECT(!a.cancel() && !b.is_done() && b.cancel());
    context c = b, d = std::move(c);
    EXPECT(c == cctxx::background() && d == b && d != c);
    context &same = d;
    d = std::move(same);
    EXPECT(d == b);
    d = same;
    EXPECT(d == b && cctxx::background() != cctxx::todo());
    cancelable_context none;
    EXPECT(!none.cancel() && !none.is_done() && none.cause_text().empty());
}

void assigning_closes_what_was_owned()
{
    auto a = cctxx::with_cancel(cctxx::background());
    auto b = cctxx::with_cancel(cctxx::background());
    const context was_a = a, was_b = b;
    a = std::move(b);
    EXPECT(was_a.is_done() && !was_b.is_done() && static_cast<const context &>(a) == was_b);
    swap(a, b);
    EXPECT(static_cast<const context &>(b) == was_b);
    b.close();
    EXPECT(was_b.is_done() && static_cast<const context &>(b) == cctxx::background());
}

/* C20, C21 */
void detached_it_is_not_canceled_and_released_it_is_the_callers()
{
    auto parent = cctxx::with_cancel(cctxx::background());
    context kept;
    {
        auto ctx = cctxx::with_cancel(parent);
        kept = ctx.detach();
    }
    EXPECT(!kept.is_done());
    auto other = cctxx::with_cancel(parent);
    cctx_t *raw = other.release();
    other.close();
    EXPECT(!cctx_is_done(raw));
    auto again = cancelable_context::adopt(raw);
    EXPECT(again.get() == raw && again.cancel());
    parent.cancel();
    EXPECT(kept.is_done() && kept.cause() == &cctx_canceled);
}

void every_reference_is_given_back()
{
    const auto before = live();
    {
        auto top = cctxx::with_cancel(cctxx::background());
        const context copy = top;
        context again = copy;
        again = cctxx::without_cancel(again);
        const context from_c(again.get());
        const cctxx::canceler cancel(top);
        const cctxx::canceler twice = cancel;
        auto any = cctxx::with_any(copy, top, again);
        any = cctxx::with_cancel(any);
        EXPECT(twice() && !cancel() && any.is_done());
    }
    EXPECT(live() == before);
}

/* C1, C9, C10 */
void a_cause_is_told()
{
    auto top = cctxx::with_cancel(cctxx::background());
    auto a = cctxx::with_cancel(top), b = cctxx::with_cancel(top), c = cctxx::with_cancel(top);
    EXPECT(top.cause() == nullptr && top.cause_text().empty());
    top.throw_if_done();
    EXPECT(a.cancel(closed) && !a.cancel(slow));
    EXPECT(a.cause() == &closed && a.cause_text() == "the client closed");
    const std::string words = "client 7 hung up";
    EXPECT(b.cancel(EPIPE, std::string_view(words).substr(0, 8)));
    EXPECT(b.cause_text() == "client 7" && b.cause()->code == EPIPE);
    EXPECT(c.cancel(7, std::string_view()) && c.cause_text().empty() && c.cause()->code == 7);
    EXPECT(throws<std::system_error>([&] { a.throw_if_done(); }, [](const std::system_error &e) {
        return says(e, std::errc::operation_canceled, "the client closed");
    }));
    const cctxx::canceler cancel(top);
    EXPECT(cancel(slow) && !cancel() && top.cause() == &slow);
    static constexpr cctx_cause_t silent{1, nullptr};
    auto d = cctxx::with_cancel(cctxx::background());
    EXPECT(d.cancel(silent) && d.cause_text().empty() && d.cause() == &silent);
}

/* ---- time -------------------------------------------------------------------------------------- */

/* A clock that says when it was asked. */
struct wall {
    using duration = std::chrono::duration<std::int64_t, std::nano>;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<wall>;
    static time_point now()
    {
        asked = cctx_now();
        return time_point(duration(says));
    }
    static std::int64_t says, asked;
};
std::int64_t wall::says, wall::asked;

void durations_round_up_and_saturate()
{
    using cctxx::detail::nanoseconds;
    using days = std::chrono::duration<std::int64_t, std::ratio<86400>>;
    using picoseconds = std::chrono::duration<std::int64_t, std::pico>;
    using years = std::chrono::duration<float, std::ratio<31556952>>;
    static_assert(nanoseconds(5ms) == CCTX_MS(5) && nanoseconds(-3s) == CCTX_S(-3), "");
    static_assert(nanoseconds(std::chrono::nanoseconds::max()) == CCTX_NEVER, "");
    EXPECT(nanoseconds(picoseconds(1)) == 1 && nanoseconds(picoseconds(1000)) == 1);
    EXPECT(nanoseconds(picoseconds(-1)) == 0);
    EXPECT(nanoseconds(0.25s) == CCTX_MS(250) && nanoseconds(1e-10s) == 1);
    EXPECT(nanoseconds(days::max()) == CCTX_NEVER && nanoseconds(days::min()) == INT64_MIN);
    EXPECT(nanoseconds(years(300)) == CCTX_NEVER && nanoseconds(years(-300)) == INT64_MIN);
    EXPECT(nanoseconds(years(NAN)) == CCTX_NEVER);
    EXPECT(nanoseconds(days(3650)) == CCTX_S(std::int64_t{86400} * 3650));
}

void the_time_of_another_clock_is_never_early()
{
    using cctxx::detail::time_of;
    const auto at = [](std::int64_t ns) { return wall::time_point(wall::duration(ns)); };
    for (int i = 0; i < 1000; i++) {
        wall::says = CCTX_S(1000000);
        EXPECT(time_of(at(wall::says + 5000)) - 5000 >= wall::asked);
    }
    EXPECT(time_of(wall::time_point::max()) == CCTX_NEVER);
    wall::says = CCTX_S(-1000000);
    EXPECT(time_of(at(INT64_MAX - 1)) == CCTX_NEVER);
    wall::says = CCTX_S(1000000);
    EXPECT(time_of(wall::time_point::min()) == INT64_MIN && time_of(at(INT64_MIN + 1)) == INT64_MIN);
    EXPECT(time_of(at(wall::says - 1)) < cctx_now());
    EXPECT(time_of(std::chrono::steady_clock::time_point::max()) == CCTX_NEVER);
}

/* C11, C12, C15 */
void deadlines_go_by_steady_clock()
{
    const auto before = std::chrono::steady_clock::now();
    const cctx_time_t now = cctx_now();
    const auto after = std::chrono::steady_clock::now();
    EXPECT(before.time_since_epoch().count() <= now && now <= after.time_since_epoch().count());

    const auto when = after + 1h;
    auto ctx = cctxx::with_deadline(cctxx::background(), when);
    EXPECT(ctx.deadline() == when && ctx.remaining() <= 1h && ctx.remaining() > 0h);
    auto late = cctxx::with_timeout(ctx, 2h);
    EXPECT(late.deadline() == when);
    auto early = cctxx::with_timeout(ctx, 1min, slow);
    EXPECT(early.deadline() < when && !early.is_done());
    auto past = cctxx::with_timeout(ctx, -1ns, slow);
    EXPECT(past.err() == std::errc::timed_out && past.cause() == &slow && past.remaining() == 0ns);
    auto gone = cctxx::with_deadline(ctx, std::chrono::system_clock::now() - 1ms, slow);
    EXPECT(gone.cause_text() == "the disk is slow" && gone.err() == std::errc::timed_out);
    auto open = cctxx::with_timeout(cctxx::background(), std::chrono::hours::max());
    EXPECT(!open.deadline() && open.remaining() == std::chrono::nanoseconds::max());
}

/* C13 */
void a_deadline_ends_it_and_is_never_early()
{
    const auto start = std::chrono::steady_clock::now();
    auto ctx = cctxx::with_timeout(cctxx::background(), 2500us);
    auto dated = cctxx::with_deadline(cctxx::background(), std::chrono::system_clock::now() + 2ms);
    EXPECT(ctx.wait() == std::errc::timed_out && std::chrono::steady_clock::now() - start >= 2500us);
    EXPECT(dated.wait() == std::errc::timed_out);
    EXPECT(ctx.cause() == &cctx_deadline_exceeded);
    EXPECT(throws<std::system_error>([&] { ctx.throw_if_done(); }, [](const std::system_error &e) {
        return says(e, std::errc::timed_out, "context deadline exceeded");
    }));
}

/* C26, C27 */
void waits_end_with_the_context_or_the_time()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    const auto start = std::chrono::steady_clock::now();
    EXPECT(!ctx.wait_for(1ms) && !ctx.wait_until(start) && !ctx.sleep_for(1.5ms));
    EXPECT(!ctx.wait_until(std::chrono::system_clock::now() + 1ms));
    EXPECT(std::chrono::steady_clock::now() - start >= 3500us);
    EXPECT(cctxx::background().wait() == std::errc::resource_deadlock_would_occur);
    std::thread other([&] { ctx.cancel(closed); });
    EXPECT(ctx.sleep_for(std::chrono::hours::max()) == std::errc::operation_canceled);
    EXPECT(ctx.wait() == std::errc::operation_canceled && ctx.cause() == &closed);
    EXPECT(ctx.wait_for(0s) && ctx.wait_until(start));
    other.join();
}

void it_prints_as_in_c()
{
    static constexpr cctxx::key<int> number{"number"};
    const context ctx = cctxx::with_value(cctxx::background(), number, 7);
    auto top = cctxx::with_cancel(ctx);
    EXPECT(top.to_string() == "cctx.Background.WithValue(number).WithCancel");
    EXPECT(cctxx::todo().to_string() == "cctx.TODO");
}

/* ---- values ------------------------------------------------------------------------------------ */

struct counted {
    explicit counted(int *n) : destroyed(n) {}
    counted(const counted &) = delete;
    counted &operator=(const counted &) = delete;
    ~counted() { ++*destroyed; }
    int *destroyed;
};

struct point {
    int x, y;
};

inline constexpr cctxx::key<std::string> user{"user"};
inline constexpr cctxx::key<std::string> group_name{"user"};
inline constexpr cctxx::key<counted> counter;
inline constexpr cctxx::key<point> where{"where"};
inline constexpr cctxx::key<std::unique_ptr<int>> owned{"owned"};

/* C16, C17 */
void a_value_has_its_type_and_goes_with_its_context()
{
    int destroyed = 0;
    {
        const context ada = cctxx::with_value(cctxx::background(), user, "ada");
        const context here = cctxx::with_value(ada, where, 3, 4);
        auto ctx = cctxx::with_cancel(cctxx::with_value(here, counter, &destroyed));
        EXPECT(*ctx.value(user) == "ada" && ctx.value(where)->y == 4 && ctx.value(group_name) == nullptr);
        const context bob = cctxx::with_value(ctx, user, std::string("bob"));
        EXPECT(*bob.value(user) == "bob" && *ctx.value(user) == "ada");
        const context moved = cctxx::with_value(bob, owned, std::make_unique<int>(5));
        EXPECT(**moved.value(owned) == 5);
        static_assert(std::is_same_v<decltype(moved.value(user)), const std::string *>, "threads share it");
        ctx.cancel();
        EXPECT(moved.is_done() && *moved.value(user) == "bob" && destroyed == 0);
    }
    EXPECT(destroyed == 1);
}

/* C19, B1 */
void with_any_ends_with_each_and_without_cancel_with_none()
{
    std::vector<cancelable_context> parents;
    for (int i = 0; i < 3; i++)
        parents.push_back(cctxx::with_cancel(cctxx::background()));
    auto all = cctxx::with_any(parents.begin(), parents.end());
    auto some = cctxx::with_any(parents[0], parents[2], cctxx::background());
    auto one = cctxx::with_any(parents[1]);
    const context apart = cctxx::without_cancel(parents[0]);
    parents[2].cancel(closed);
    EXPECT(all.cause() == &closed && some.cause() == &closed && !one.is_done());
    parents.clear();
    EXPECT(one.is_done() && !apart.is_done());
    const std::vector<context> none;
    EXPECT(throws<std::system_error>([&] { (void)cctxx::with_any(none.begin(), none.end()); }));
}

/* ---- callbacks --------------------------------------------------------------------------------- */

/* C28, C29 */
void a_callback_runs_once_or_is_stopped()
{
    int ran = 0;
    auto ctx = cctxx::with_cancel(cctxx::background());
    auto count = [&ran] { ran++; };
    {
        cctxx::after_func gone(ctx, count);
        cctxx::after_func stopped(ctx, count);
        EXPECT(stopped.stop() && !stopped.stop() && !stopped.stop_wait());
    }
    cctxx::after_func once(ctx, count);
    cctxx::after_func<decltype(count) &> by_reference(ctx, count);
    auto number = std::make_unique<int>(40);
    cctxx::after_func move_only(ctx, [&ran, n = std::move(number)]() mutable {
        ran += *n;
        n.reset();
    });
    EXPECT(ran == 0);
    ctx.cancel();
    EXPECT(ran == 42 && !once.stop() && !once.stop_wait());
    cctxx::after_func at_once(ctx, count);
    EXPECT(ran == 43);
}

/* C29, C30 */
void the_destructor_waits_for_a_callback_that_runs()
{
    for (int i = 0; i < 20; i++) {
        auto ctx = cctxx::with_cancel(cctxx::background());
        flag started, leaving;
        bool ended = false;
        std::thread other;
        {
            cctxx::after_func callback(ctx, [&] {
                started.set();
                leaving.wait();
                std::this_thread::sleep_for(1ms); /* time to go wrong: the destructor is about to begin */
                ended = true;
            });
            other = std::thread([&] { ctx.cancel(); });
            started.wait();
            leaving.set();
        }
        EXPECT(ended);
        other.join();
    }
}

/* C29 */
void a_callback_may_destroy_its_own_registration()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    using function = void (*)();
    static std::unique_ptr<cctxx::after_func<function>> self;
    static int ran;
    self = std::make_unique<cctxx::after_func<function>>(ctx, [] {
        ran++;
        self.reset();
    });
    ctx.cancel();
    EXPECT(ran == 1 && !self);
}

void a_canceler_links_two_contexts()
{
    auto a = cctxx::with_cancel(cctxx::background());
    auto b = cctxx::with_cancel(cctxx::background());
    cctxx::after_func link(a, cctxx::canceler(b));
    const context seen = b;
    a.cancel(closed);
    EXPECT(seen.is_done() && seen.cause() == &cctx_canceled);
}

struct inline_executor : cctx_executor_t {
    inline_executor() : cctx_executor_t{run} {}
    static int run(cctx_executor_t *self, void (*fn)(void *), void *arg)
    {
        static_cast<inline_executor *>(self)->submitted++;
        fn(arg);
        return 0;
    }
    std::atomic<int> submitted{0};
};

void an_executor_runs_callbacks_and_tasks()
{
    inline_executor pool;
    int ran = 0;
    auto ctx = cctxx::with_cancel(cctxx::background());
    cctxx::after_func callback(ctx, pool, [&] { ran++; });
    ctx.cancel();
    EXPECT(ran == 1 && pool.submitted == 1);
    cctxx::group group(cctxx::background(), pool, 2);
    group.go([&] { ran++; });
    EXPECT(!group.wait() && ran == 2 && pool.submitted == 2);
}

void registrations_and_looks_allocate_nothing()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    char large[256] = "large";
    const long before = allocations;
    {
        cctxx::after_func callback(ctx, [large] { EXPECT(large[0] == 'l'); });
        cctxx::guard interrupt(ctx, [large] { EXPECT(large[0] == 'l'); });
        auto child = cctxx::with_timeout(ctx, 1h);
        const context copy = child;
        EXPECT(!copy.err() && copy.cause_text().empty() && copy.deadline());
        child.cancel();
        EXPECT(copy.err() && !copy.cause_text().empty());
    }
    EXPECT(allocations == before);
}

/* B4 */
void a_guard_interrupts_until_it_is_disarmed()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    std::atomic<int> calls{0};
    flag thrice;
    {
        cctxx::guard interrupt(ctx, [&] {
            if (++calls == 3)
                thrice.set();
        });
        EXPECT(calls == 0);
        ctx.cancel();
        thrice.wait();
    }
    const int last = calls;
    cctxx::guard born_late(ctx, [&] { ++calls; });
    born_late.disarm();
    const int then = calls;
    EXPECT(last >= 3 && then > last);
    std::this_thread::sleep_for(5ms);
    EXPECT(calls == then);
}

/* ---- groups ------------------------------------------------------------------------------------ */

void the_first_failure_is_the_groups()
{
    cctxx::group group(cctxx::background());
    std::atomic<int> ran{0};
    group.go([&] { ran++; });
    group.go([&]() -> int { return ran++ * 0; });
    group.go([&](const context &ctx) {
        EXPECT(ctx.wait() == std::errc::operation_canceled);
        ran++;
        return EBUSY; /* dropped: it is not the first */
    });
    EXPECT(!group.ctx().is_done());
    group.go([] { return std::make_error_code(std::errc::no_link); });
    EXPECT(group.wait() == std::errc::no_link && group.wait() == std::errc::no_link && ran == 3);
    EXPECT(group.ctx().cause()->code == ENOLINK);

    cctxx::group other(cctxx::background());
    other.go([](const context &ctx) {
        (void)ctx.wait();
        throw std::runtime_error("dropped: it is not the first");
    });
    other.go([] { return std::make_error_code(std::future_errc::no_state); });
    EXPECT(other.wait() == std::future_errc::no_state && other.ctx().cause()->code == -1);
}

void a_group_without_failure_is_done_after_its_wait()
{
    cctxx::group group(cctxx::background(), 2);
    std::atomic<int> now{0}, most{0}, ran{0};
    for (int i = 0; i < 20; i++)
        group.go([&] {
            const int n = ++now;
            int seen = most;
            while (n > seen && !most.compare_exchange_weak(seen, n))
                ;
            ran++;
            now--;
        });
    EXPECT(!group.wait() && ran == 20 && most <= 2 && group.ctx().is_done());
}

void an_exception_cancels_the_group_and_is_thrown_by_wait()
{
    const auto code_of = [](auto what) {
        cctxx::group group(cctxx::background());
        group.go([](const context &ctx) {
            (void)ctx.wait();
            throw std::logic_error("dropped: it is not the first");
        });
        group.go([what] { throw what; });
        for (int i = 0; i < 2; i++) /* each wait throws it */
            try {
                (void)group.wait();
                return 0;
            } catch (const decltype(what) &) {
            } catch (...) {
                return 0;
            }
        return group.ctx().cause()->code;
    };
    EXPECT(code_of(std::runtime_error("no route")) == -1);
    EXPECT(code_of(std::system_error(EPIPE, std::system_category())) == EPIPE);
    EXPECT(code_of(std::system_error(std::make_error_code(std::future_errc::no_state))) == -1);
    EXPECT(code_of(std::bad_alloc()) == ENOMEM);
    EXPECT(code_of(7) == -1);
}

void a_task_that_waits_for_its_group_is_told()
{
    cctxx::group group(cctxx::background());
    std::error_code told;
    group.go([&] { told = group.wait(); });
    EXPECT(!group.wait() && told == std::errc::resource_deadlock_would_occur);
}

void the_groups_destructor_cancels_and_waits()
{
    std::atomic<bool> ended{false};
    auto token = std::make_shared<int>(1);
    {
        cctxx::group group(cctxx::background());
        group.go([&ended, token](const context &ctx) {
            (void)ctx.wait();
            ended = true;
            throw std::runtime_error("nobody asks");
        });
    }
    EXPECT(ended && token.use_count() == 1);
}

void what_a_task_captured_is_gone_when_wait_returns()
{
    auto token = std::make_shared<int>(1);
    cctxx::group group(cctxx::background());
    for (int i = 0; i < 8; i++)
        group.go([token] {});
    EXPECT(!group.wait() && token.use_count() == 1);
    auto only = std::make_unique<int>(3);
    group.go([n = std::move(only)] { return *n - 3; });
    EXPECT(!group.wait());
}

/* ---- failure ----------------------------------------------------------------------------------- */

/* C32 */
void what_fails_throws_and_leaves_nothing()
{
    EXPECT(throws<std::system_error>([] { context ctx(static_cast<const cctx_t *>(nullptr)); },
                                     [](const std::system_error &e) {
                                         return says(e, std::errc::invalid_argument, "cctxx::context");
                                     }));
    EXPECT(throws<std::system_error>([] { (void)cancelable_context::adopt(cctx_with_cancel(nullptr)); },
                                     [](const std::system_error &e) {
                                         return says(e, std::errc::invalid_argument, "adopt");
                                     }));
    poor domain, other;
    auto ctx = cctxx::with_cancel(domain.background());
    auto kept = cctxx::with_cancel(domain.background());
    int destroyed = 0;
    EXPECT(throws<std::system_error>([&] { (void)cctxx::with_any(ctx, other.background()); }));
    domain.refuses = true;
    EXPECT(throws<std::bad_alloc>([&] { (void)cctxx::with_cancel(ctx); }));
    EXPECT(throws<std::bad_alloc>([&] { (void)cctxx::with_timeout(ctx, 1h); }));
    EXPECT(throws<std::bad_alloc>([&] { (void)cctxx::with_value(ctx, counter, &destroyed); }));
    EXPECT(destroyed == 1);
    EXPECT(throws<std::bad_alloc>([&] { kept = cctxx::with_cancel(ctx); }) && !kept.is_done());
    EXPECT(throws<std::bad_alloc>([&] { cctxx::after_func callback(ctx, [] { std::abort(); }); }));
    EXPECT(throws<std::bad_alloc>([&] { cctxx::guard interrupt(ctx, [] { std::abort(); }); }));
    EXPECT(throws<std::bad_alloc>([&] { cctxx::group group(ctx); }));
    domain.refuses = false;
    EXPECT(!ctx.is_done());
    {
        cctxx::group group(ctx);
        refuse_memory = true;
        EXPECT(throws<std::bad_alloc>([&] { group.go([] { std::abort(); }); }));
        EXPECT(throws<std::bad_alloc>([&] { (void)cctxx::with_value(ctx, user, "ada"); }));
        refuse_memory = false;
        EXPECT(!group.wait());
    }
}

/* An exception that leaves a callable ends the program. */
void a_callable_that_throws_terminates()
{
    const pid_t child = fork();
    if (child == 0) {
        std::set_terminate([] { _exit(42); });
        auto ctx = cctxx::with_cancel(cctxx::background());
        cctxx::after_func callback(ctx, [] { throw 1; });
        try {
            cctx_cancel(ctx.get());
        } catch (...) {
        }
        _exit(0);
    }
    int status = 0;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

/* ---- threads ----------------------------------------------------------------------------------- */

/* C3, C5, C29 */
void a_registration_ends_while_its_context_does()
{
    for (int i = 0; i < 500; i++) {
        auto ctx = cctxx::with_cancel(cctxx::background());
        std::atomic<int> ran{0};
        int written = 0;
        std::thread other([&] {
            written = 1;
            ctx.cancel();
        });
        bool prevented = false;
        {
            cctxx::after_func callback(ctx, [&] { ran += written; });
            cctxx::guard interrupt(ctx, [&] { EXPECT(written == 1); });
            prevented = i % 2 == 0 && callback.stop_wait();
        }
        const int seen = ran;
        EXPECT(prevented ? seen == 0 : true);
        (void)ctx.wait();
        EXPECT(ran == seen && written == 1);
        other.join();
    }
}

#ifdef __cpp_lib_jthread

/* ---- std::stop_token --------------------------------------------------------------------------- */

static_assert(std::is_convertible_v<cctxx::with_stop_token &, const context &>, "");
static_assert(!std::is_convertible_v<cctxx::with_stop_token, const context &>, "");
static_assert(!can_cancel<const cctxx::with_stop_token &>::value, "");
static_assert(can_cancel<cctxx::with_stop_token &>::value, "");

void a_stop_token_ends_a_context()
{
    auto parent = cctxx::with_cancel(cctxx::background());
    std::stop_source source;
    context seen;
    {
        cctxx::with_stop_token ctx(parent, source.get_token());
        auto child = cctxx::with_cancel(ctx);
        seen = child;
        EXPECT(!child.is_done());
        source.request_stop();
        EXPECT(ctx.is_done() && child.cause() == &cctxx::stop_requested && !parent.is_done());
        cctxx::with_stop_token late(parent, source.get_token());
        EXPECT(late.is_done() && late.cause_text() == "stop requested");
    }
    {
        cctxx::with_stop_token ctx(parent, std::stop_token());
        seen = ctx;
    }
    EXPECT(seen.is_done() && seen.cause() == &cctx_canceled);
    std::stop_source unused;
    cctxx::with_stop_token own(parent, unused.get_token());
    EXPECT(own.cancel(closed) && !unused.stop_requested());
    cctxx::with_stop_token below(parent, unused.get_token());
    parent.cancel(slow);
    EXPECT(below.cause() == &slow && cctx_is_done(below.get()));
}

void the_end_of_a_context_stops_a_token()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    std::stop_token outlives;
    {
        cctxx::stop_on_done stop(ctx);
        outlives = stop.token();
    }
    cctxx::stop_on_done stop(ctx);
    const std::stop_token token = stop.token();
    EXPECT(!token.stop_requested() && token.stop_possible());
    ctx.cancel();
    EXPECT(token.stop_requested() && !outlives.stop_requested());
    cctxx::stop_on_done late(ctx);
    EXPECT(late.token().stop_requested());
}

void a_stop_callback_may_destroy_what_stops_it()
{
    auto ctx = cctxx::with_cancel(cctxx::background());
    struct {
        std::unique_ptr<cctxx::stop_on_done> stop;
        std::optional<std::stop_callback<std::function<void()>>> left, right;
        int ran = 0;
    } all{std::make_unique<cctxx::stop_on_done>(ctx), {}, {}};
    const auto destroy_all = [&all] {
        auto &still = all; /* what the callable holds goes with it */
        still.ran++;
        still.left.reset();
        still.right.reset();
        still.stop.reset();
    };
    all.left.emplace(all.stop->token(), destroy_all);
    all.right.emplace(all.stop->token(), destroy_all);
    ctx.cancel();
    EXPECT(all.ran == 1 && !all.stop);

    std::stop_source source;
    auto linked = std::make_unique<cctxx::with_stop_token>(cctxx::background(), source.get_token());
    cctxx::after_func destroy(*linked, [&] { linked.reset(); });
    source.request_stop();
    EXPECT(!linked);
}

void a_condition_variable_waits_with_a_context()
{
    auto ctx = cctxx::with_timeout(cctxx::background(), 2ms);
    cctxx::stop_on_done stop(ctx);
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    EXPECT(!changed.wait(lock, stop.token(), [] { return false; }) && ctx.err() == std::errc::timed_out);
}

void bridges_end_while_both_sides_do()
{
    for (int i = 0; i < 300; i++) {
        auto parent = cctxx::with_cancel(cctxx::background());
        std::stop_source source;
        std::thread a([&] { parent.cancel(); });
        std::thread b([&] { source.request_stop(); });
        {
            cctxx::with_stop_token ctx(parent, source.get_token());
            cctxx::stop_on_done stop(ctx);
            const std::stop_token token = stop.token();
            (void)ctx.wait();
            EXPECT(ctx.is_done());
        }
        a.join();
        b.join();
    }
}

#endif

#define TEST(name) {#name, name}
const struct {
    const char *name;
    void (*run)();
} tests[] = {
    TEST(a_callable_that_throws_terminates), /* first, while there is one thread to fork */
    TEST(the_end_of_the_scope_cancels),
    TEST(what_was_moved_from_is_the_background),
    TEST(assigning_closes_what_was_owned),
    TEST(detached_it_is_not_canceled_and_released_it_is_the_callers),
    TEST(every_reference_is_given_back),
    TEST(a_cause_is_told),
    TEST(durations_round_up_and_saturate),
    TEST(the_time_of_another_clock_is_never_early),
    TEST(deadlines_go_by_steady_clock),
    TEST(a_deadline_ends_it_and_is_never_early),
    TEST(waits_end_with_the_context_or_the_time),
    TEST(it_prints_as_in_c),
    TEST(a_value_has_its_type_and_goes_with_its_context),
    TEST(with_any_ends_with_each_and_without_cancel_with_none),
    TEST(a_callback_runs_once_or_is_stopped),
    TEST(the_destructor_waits_for_a_callback_that_runs),
    TEST(a_callback_may_destroy_its_own_registration),
    TEST(a_canceler_links_two_contexts),
    TEST(an_executor_runs_callbacks_and_tasks),
    TEST(registrations_and_looks_allocate_nothing),
    TEST(a_guard_interrupts_until_it_is_disarmed),
    TEST(the_first_failure_is_the_groups),
    TEST(a_group_without_failure_is_done_after_its_wait),
    TEST(an_exception_cancels_the_group_and_is_thrown_by_wait),
    TEST(a_task_that_waits_for_its_group_is_told),
    TEST(the_groups_destructor_cancels_and_waits),
    TEST(what_a_task_captured_is_gone_when_wait_returns),
    TEST(what_fails_throws_and_leaves_nothing),
    TEST(a_registration_ends_while_its_context_does),
#ifdef __cpp_lib_jthread
    TEST(a_stop_token_ends_a_context),
    TEST(the_end_of_a_context_stops_a_token),
    TEST(a_stop_callback_may_destroy_what_stops_it),
    TEST(a_condition_variable_waits_with_a_context),
    TEST(bridges_end_while_both_sides_do),
#endif
};

} // namespace

__attribute__((noinline)) void *operator new(std::size_t size)
{
    allocations++;
    void *p = refuse_memory ? nullptr : std::malloc(size);
    if (!p)
        throw std::bad_alloc();
    return p;
}
__attribute__((noinline)) void operator delete(void *p) noexcept
{
    std::free(p);
}
__attribute__((noinline)) void operator delete(void *p, std::size_t) noexcept
{
    std::free(p);
}

int main()
{
    for (const auto &test : tests) {
        const int before = failures;
        test.run();
        std::printf("%s: %s\n", test.name, failures == before ? "passed" : "failed");
    }
#ifndef __cpp_lib_jthread
    std::puts("not applicable: std::stop_token, which this C++ does not have");
#endif
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
