/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/cctx.hpp - C++17 and C++20: handles that close themselves, chrono, callables, std::stop_token. */
#ifndef CCTX_CCTX_HPP
#define CCTX_CCTX_HPP

/*
 * WHAT IT IS
 *
 * <cctx/cctx.h> is the reference: what a context is, what is ordered with what, what each function costs.
 * This header gives it the types of C++, in the namespace cctxx (cctx is the tag of the type in C):
 *
 *     context               a reference to a context. Who has one may look, wait and derive. Copies share it.
 *     cancelable_context    the owner of a derived context: it may cancel, and does so at the end of its
 *                           scope: Go's `defer cancel()`. It moves and is not copied.
 *     canceler              a copyable function object that cancels: Go's `cancel`.
 *     key<T>                the key of a typed value.
 *     after_func, guard     a registration, with the callable inside; gone when the destructor has returned.
 *     group                 tasks that share a context, which the first error or exception cancels.
 *     with_stop_token, stop_on_done    C++20: from and to std::stop_token.
 *
 *     void handle(const cctxx::context &parent, request &r)
 *     {
 *         using namespace std::chrono_literals;
 *         auto ctx = cctxx::with_timeout(parent, 5s);
 *         cctxx::after_func hang_up(ctx, [&] { r.socket.shutdown(); });
 *         while (!ctx.is_done() && r.more())
 *             r.step(ctx);
 *     }
 *
 * THE CONST RULE. A function that takes a `const context &` cannot cancel its caller's work: there is no way
 * from it, nor from a `const cancelable_context &`, to a cancel. A cancelable_context is passed to it as it
 * is, at no cost. A temporary one is not: what it owns would be canceled before anybody could use it, so that
 * does not compile.
 *
 * DEFAULTS: those of cctx.h hold, and unless a function says otherwise,
 *
 *   Errors     a derivation or a registration that fails throws: std::bad_alloc for ENOMEM, or else
 *              std::system_error with the errno value in std::generic_category() (EAGAIN: a thread of the
 *              library could not be made). Nothing has changed then. What is noexcept does not fail. In a
 *              program compiled without exceptions the same calls end it by std::abort(); who has to go on
 *              without memory there calls the C function and gives what it returned to adopt.
 *   Callables  what the library calls does not throw: an exception that leaves it ends the program
 *              (std::terminate), as with std::stop_callback. Tasks of a group may throw.
 *   Threads    any function of any of these types may be called on different objects at one time, also where
 *              they are handles of one context; on one object, the const ones, and cancel.
 *   Empty      no handle is: one that is made by default, or was moved from, stands for background(), and
 *              there is nothing to cancel.
 *   Cost       that of the C function. The handles are one pointer, nothing allocates but what says so, and
 *              all is inline: there is no ABI here and no state.
 *
 * All that this header does not repeat (poll, futex, descriptors, signals, shared arenas, domains, dumps) is
 * there by get(), which is the context of C, and by adopt:
 *
 *     auto ctx = cctxx::cancelable_context::adopt(cctx_with_signals(cctxx::background().get(), &signals));
 *     int fd = cctx_fd(ctx.get());
 */

#include <cctx/cctx.h>
#include <cctx/executor.h>
#include <cctx/group.h>
#include <cctx/guard.h>
#include <cctx/wait.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_jthread
#include <stop_token>
#endif

namespace cctxx
{

class context;
class cancelable_context;

/* A point in time on the clock of deadlines. In a domain with its own clock its count is that clock's. */
using time_point = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

namespace detail
{

[[noreturn]] inline void fail(int err, const char *what)
{
#ifdef __cpp_exceptions
    if (err == ENOMEM)
        throw std::bad_alloc();
    throw std::system_error(err, std::generic_category(), what);
#else
    (void)err;
    (void)what;
    std::abort();
#endif
}

inline std::error_code code(int err) noexcept
{
    return std::error_code(err, std::generic_category());
}

/* Rounds up, so that nothing is early; beyond 291 years, and for what is not a number, it is never. */
template <class Rep, class Period>
constexpr std::int64_t nanoseconds(const std::chrono::duration<Rep, Period> &d)
{
    using to = std::chrono::nanoseconds;
    if constexpr (std::is_same_v<std::chrono::duration<Rep, Period>, to>) {
        return d.count();
    } else {
        constexpr double most = 9.2e18;
        const double about = std::chrono::duration<double, std::nano>(d).count();
        if (!(about < most))
            return CCTX_NEVER;
        return about > -most ? std::chrono::ceil<to>(d).count() : INT64_MIN;
    }
}

/* The other clock is read first: what passes between the two reads makes the result later, not earlier. */
template <class Clock, class Duration>
cctx_time_t time_of(const std::chrono::time_point<Clock, Duration> &t)
{
    if constexpr (std::is_same_v<Clock, std::chrono::steady_clock>) {
        return nanoseconds(t.time_since_epoch());
    } else {
        const std::int64_t then = nanoseconds(t.time_since_epoch());
        const std::int64_t other = nanoseconds(Clock::now().time_since_epoch());
        std::int64_t left = 0;
        std::int64_t sum = 0;
        if (then == CCTX_NEVER || __builtin_sub_overflow(then, other, &left))
            return then < other ? INT64_MIN : CCTX_NEVER;
        if (__builtin_add_overflow(left, cctx_now(), &sum))
            return left < 0 ? INT64_MIN : CCTX_NEVER;
        return sum;
    }
}

} // namespace detail

/* ---- values ------------------------------------------------------------------------------------ */

/*
 * key - the identity of a value of type T: one static object per key.
 *
 *     inline constexpr cctxx::key<std::string> user{"user"};
 *
 * The address is the key. name is for to_string, static, and may be nullptr.
 */
template <class T> class key
{
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "the key of an object");

  public:
    constexpr explicit key(const char *name = nullptr) noexcept : key_{name, destroy} {}
    key(const key &) = delete;
    key &operator=(const key &) = delete;
    ~key() = default;

    const cctx_key_t *get() const noexcept { return &key_; }

  private:
    static void destroy(void *value) noexcept { delete static_cast<T *>(value); }

    cctx_key_t key_;
};

/* ---- look and wait ----------------------------------------------------------------------------- */

/*
 * looks - what context and cancelable_context have in common: all that a const context can be asked.
 */
template <class Handle> class looks
{
  public:
    /* Has the context ended? Two loads. */
    [[nodiscard]] bool is_done() const noexcept { return cctx_is_done(c()); }

    /* And how? No error while it is live; then std::errc::operation_canceled or std::errc::timed_out. */
    [[nodiscard]] std::error_code err() const noexcept { return detail::code(cctx_err(c())); }

    /* Why it ended: nullptr while it is live; never after. Causes are compared by their address. */
    [[nodiscard]] const cctx_cause_t *cause() const noexcept { return cctx_cause(c()); }

    /* The text of the cause, empty while there is none; it lives as long as the context. */
    [[nodiscard]] std::string_view cause_text() const noexcept
    {
        const cctx_cause_t *why = cctx_cause(c());
        return why && why->text ? std::string_view(why->text) : std::string_view();
    }

    /* Throws, if the context is done, a std::system_error with err() and the text of the cause. */
    void throw_if_done() const
    {
        if (const int err = cctx_err(c()); err != 0) {
            const cctx_cause_t *why = cctx_cause(c());
            detail::fail(err, why && why->text ? why->text : cctx_strerror(err));
        }
    }

    /* When it will end at the latest; std::nullopt without a deadline. */
    [[nodiscard]] std::optional<time_point> deadline() const noexcept
    {
        cctx_time_t t = 0;
        return cctx_deadline(c(), &t) ? std::optional(time_point(std::chrono::nanoseconds(t))) : std::nullopt;
    }

    /* How much time is left: 0 if it is done, nanoseconds::max() without a deadline. */
    [[nodiscard]] std::chrono::nanoseconds remaining() const noexcept
    {
        return std::chrono::nanoseconds(cctx_remaining(c()));
    }

    /* The value for a key: nullptr without one. It lives as long as the context. */
    template <class T> [[nodiscard]] const T *value(const key<T> &k) const noexcept
    {
        return static_cast<const T *>(cctx_value(c(), k.get()));
    }

    /* How the context was derived, for people: cctx_print. */
    [[nodiscard]] std::string to_string() const
    {
        std::string text(cctx_print(c(), nullptr, 0), '\0');
        for (;;) { /* what a deadline has left may grow by a digit between the two */
            const std::size_t length = cctx_print(c(), &text[0], text.size() + 1);
            const bool whole = length <= text.size();
            text.resize(length);
            if (whole)
                return text;
        }
    }

    /* Sleeps until it is done: err(), or std::errc::resource_deadlock_would_occur if it can never be. */
    std::error_code wait() const noexcept { return detail::code(cctx_wait(c())); }

    /* Sleeps until it is done, true, or the time is over, false. */
    template <class Rep, class Period> bool wait_for(const std::chrono::duration<Rep, Period> &timeout) const
    {
        return cctx_wait_for(c(), detail::nanoseconds(timeout));
    }

    /* The same, to a point in time. Other clocks than steady_clock are read once, at the call. */
    template <class Clock, class Duration>
    bool wait_until(const std::chrono::time_point<Clock, Duration> &until) const
    {
        return cctx_wait_until(c(), detail::time_of(until));
    }

    /* Sleeps for a duration: no error; or until it is done: err(). */
    template <class Rep, class Period>
    std::error_code sleep_for(const std::chrono::duration<Rep, Period> &duration) const
    {
        return detail::code(cctx_sleep(c(), detail::nanoseconds(duration)));
    }

  protected:
    looks() = default;
    looks(const looks &) = default;
    looks &operator=(const looks &) = default;
    ~looks() = default;

  private:
    const cctx_t *c() const noexcept { return static_cast<const Handle &>(*this).get(); }
};

/* ---- handles ----------------------------------------------------------------------------------- */

/*
 * context - a reference to a context, counted; what functions take as `const cctxx::context &`.
 *
 * To drop the last one is not a cancel. A copy counts one reference up, and shares one cache line with all
 * who do: pass it by reference, copy it where it has to outlive the caller.
 */
class context : public looks<context>
{
  public:
    context() noexcept : ctx_(cctx_background()) {}

    /* Takes a reference of its own. Errors: EINVAL for NULL. */
    explicit context(const cctx_t *ctx) : ctx_(cctx_ref(ctx))
    {
        if (!ctx)
            detail::fail(EINVAL, "cctxx::context");
    }

    /* Takes over the caller's reference, to what a C function has just returned. Errors: errno, for NULL. */
    [[nodiscard]] static context adopt(const cctx_t *ctx)
    {
        if (!ctx)
            detail::fail(errno, "cctxx::context::adopt");
        return context(ctx, owned());
    }

    context(const context &other) noexcept : looks(other), ctx_(cctx_ref(other.ctx_)) {}
    context(context &&other) noexcept : looks(), ctx_(std::exchange(other.ctx_, cctx_background())) {}
    context &operator=(const context &other) noexcept
    {
        context(other).swap(*this);
        return *this;
    }
    context &operator=(context &&other) noexcept
    {
        context(std::move(other)).swap(*this);
        return *this;
    }
    ~context()
    {
        if (ctx_)
            cctx_unref(ctx_);
    }

    void swap(context &other) noexcept { std::swap(ctx_, other.ctx_); }

    /* The context of C, borrowed. */
    [[nodiscard]] const cctx_t *get() const noexcept { return ctx_; }

    /* Are they the same context? */
    friend bool operator==(const context &a, const context &b) noexcept { return a.ctx_ == b.ctx_; }
    friend bool operator!=(const context &a, const context &b) noexcept { return a.ctx_ != b.ctx_; }
    friend void swap(context &a, context &b) noexcept { a.swap(b); }

  private:
    friend class cancelable_context;
    struct owned {
    };
    context(const cctx_t *ctx, owned) noexcept : ctx_(ctx) {}

    const cctx_t *ctx_; /* null only in the destructor of what has closed it */
};

/*
 * cancelable_context - the owner of a context: may cancel it, and does so at the end of the scope.
 *
 * It converts to a `const context &`, which is valid as long as it is; a context that is made of that
 * outlives it, and is done then. Assigning to it closes what it owned.
 */
class [[nodiscard]] cancelable_context : public looks<cancelable_context>
{
  public:
    cancelable_context() noexcept = default;

    /* Takes over the caller's reference, to what a C function has just returned. Errors: errno, for NULL. */
    static cancelable_context adopt(cctx_t *ctx)
    {
        if (!ctx)
            detail::fail(errno, "cctxx::cancelable_context::adopt");
        return cancelable_context(ctx);
    }

    cancelable_context(cancelable_context &&) noexcept = default;
    cancelable_context &operator=(cancelable_context &&other) noexcept
    {
        cancelable_context(std::move(other)).swap(*this);
        return *this;
    }
    ~cancelable_context()
    {
        cctx_close(get());
        ctx_.ctx_ = nullptr;
    }

    operator const context &() const & noexcept { return ctx_; }
    operator const context &() const && = delete; /* it is canceled at the end of the expression */

    /*
     * Ends the context and all that is derived from it; callbacks run here, before the return.
     *
     * cause is static: it is borrowed until the context and all derived from it are freed, so no temporary
     * will do. With a code and a text the cause is copied into memory of the context; without memory for it
     * the context ends all the same, with the cause {ENOMEM, "out of memory"}.
     *
     * Returns    true: this call ended it. false: it was done already.
     */
    bool cancel() noexcept { return cctx_cancel(get()); }
    bool cancel(const cctx_cause_t &cause) noexcept { return cctx_cancel_cause(get(), &cause); }
    bool cancel(const cctx_cause_t &&) = delete;
    bool cancel(int code, std::string_view text) noexcept
    {
        const int length = text.size() < INT_MAX ? static_cast<int>(text.size()) : INT_MAX;
        return cctx_cancel_causef(get(), code, "%.*s", length, length > 0 ? text.data() : "");
    }

    /* Cancels and lets go now, as the end of the scope does. */
    void close() noexcept { const cancelable_context closed(std::move(*this)); }

    /* Lets go without a cancel: the context ends by its deadline, its parent, or a canceler that is left. */
    [[nodiscard]] context detach() noexcept { return std::move(ctx_); }

    /* Gives the reference to the caller, who calls cctx_close. */
    [[nodiscard]] cctx_t *release() noexcept
    {
        cctx_t *ctx = get();
        ctx_.ctx_ = cctx_background();
        return ctx;
    }

    void swap(cancelable_context &other) noexcept { ctx_.swap(other.ctx_); }
    friend void swap(cancelable_context &a, cancelable_context &b) noexcept { a.swap(b); }

    /* The context of C, borrowed; const where this is. */
    [[nodiscard]] const cctx_t *get() const noexcept { return ctx_.get(); }
    [[nodiscard]] cctx_t *get() noexcept { return const_cast<cctx_t *>(ctx_.get()); }

  private:
    explicit cancelable_context(cctx_t *ctx) noexcept : ctx_(ctx, context::owned()) {}

    context ctx_{}; /* it came as a cctx_t *, or is the background, which a cancel leaves as it is */
};

/*
 * canceler - cancels a context when it is called; copies share it. For who may cancel and does not own.
 *
 *     cctxx::after_func link(other, cctxx::canceler(ctx));      other's end ends ctx, too
 *
 * It holds a reference, and may be called after the owner's scope: then it returns false.
 */
class canceler
{
  public:
    explicit canceler(cancelable_context &ctx) noexcept : ctx_(ctx) {}

    bool operator()() const noexcept { return cctx_cancel(get()); }
    bool operator()(const cctx_cause_t &cause) const noexcept { return cctx_cancel_cause(get(), &cause); }
    bool operator()(const cctx_cause_t &&) const = delete;

  private:
    cctx_t *get() const noexcept { return const_cast<cctx_t *>(ctx_.get()); }

    context ctx_; /* of a cancelable_context that was not const */
};

/* ---- derive ------------------------------------------------------------------------------------ */

/* The roots: never done, without deadline or value. */
[[nodiscard]] inline context background() noexcept
{
    return context();
}
[[nodiscard]] inline context todo() noexcept
{
    return context(cctx_todo());
}

[[nodiscard]] inline cancelable_context with_cancel(const context &parent)
{
    return cancelable_context::adopt(cctx_with_cancel(parent.get()));
}

/*
 * with_timeout   - a context that ends after a duration from now, or with its parent.
 * with_deadline  - a context that ends at a point in time, or with its parent.
 *
 * Durations are rounded up to nanoseconds and saturate at never. A point in time of another clock than
 * steady_clock, such as system_clock, is turned into one of steady_clock at the call: who sets that clock
 * later does not move the deadline. cause, what cause() says if this deadline ends the context, is static.
 */
template <class Rep, class Period>
[[nodiscard]] cancelable_context with_timeout(const context &parent,
                                              const std::chrono::duration<Rep, Period> &timeout)
{
    return cancelable_context::adopt(cctx_with_timeout(parent.get(), detail::nanoseconds(timeout)));
}
template <class Rep, class Period>
[[nodiscard]] cancelable_context with_timeout(const context &parent,
                                              const std::chrono::duration<Rep, Period> &timeout,
                                              const cctx_cause_t &cause)
{
    const std::int64_t ns = detail::nanoseconds(timeout);
    return cancelable_context::adopt(cctx_with_timeout_cause(parent.get(), ns, &cause));
}
template <class Rep, class Period>
cancelable_context with_timeout(const context &, const std::chrono::duration<Rep, Period> &,
                                const cctx_cause_t &&) = delete;

template <class Clock, class Duration>
[[nodiscard]] cancelable_context with_deadline(const context &parent,
                                               const std::chrono::time_point<Clock, Duration> &deadline)
{
    return cancelable_context::adopt(cctx_with_deadline(parent.get(), detail::time_of(deadline)));
}
template <class Clock, class Duration>
[[nodiscard]] cancelable_context with_deadline(const context &parent,
                                               const std::chrono::time_point<Clock, Duration> &deadline,
                                               const cctx_cause_t &cause)
{
    const cctx_time_t when = detail::time_of(deadline);
    return cancelable_context::adopt(cctx_with_deadline_cause(parent.get(), when, &cause));
}
template <class Clock, class Duration>
cancelable_context with_deadline(const context &, const std::chrono::time_point<Clock, Duration> &,
                                 const cctx_cause_t &&) = delete;

/*
 * with_value - a context that carries a value: a T made of args, destroyed with the context.
 *
 * It is shared by all who have the context or one derived from it, on any thread: it is found as a const T.
 *
 * Cost       one allocation for the T, by new, and that of cctx_with_value.
 */
template <class T, class... Args>
[[nodiscard]] context with_value(const context &parent, const key<T> &k, Args &&...args)
{
    std::unique_ptr<T> value;
    if constexpr (std::is_constructible_v<T, Args...>)
        value.reset(new T(std::forward<Args>(args)...));
    else
        value.reset(new T{std::forward<Args>(args)...}); /* an aggregate */
    context child = context::adopt(cctx_with_value(parent.get(), k.get(), value.get()));
    (void)value.release();
    return child;
}

template <class T, class... Args> context with_value(const context &, const key<T> &&, Args &&...) = delete;

/* A context with the values of its parent and nothing else of it: it is never done. */
[[nodiscard]] inline context without_cancel(const context &parent)
{
    return context::adopt(cctx_without_cancel(parent.get()));
}

/*
 * with_any - a context that ends when any of several does: of those named, or of a range of contexts.
 *
 * Cost       O(n); for a range, an allocation.
 */
template <class... Contexts>
[[nodiscard]] std::enable_if_t<(std::is_convertible_v<Contexts, const context &> && ...), cancelable_context>
with_any(const context &first, Contexts &&...others)
{
    const cctx_t *const parents[] = {first.get(), static_cast<const context &>(others).get()...};
    return cancelable_context::adopt(cctx_with_any(parents, 1 + sizeof...(others)));
}
template <class Iterator, class = typename std::iterator_traits<Iterator>::iterator_category>
[[nodiscard]] cancelable_context with_any(Iterator first, Iterator last)
{
    static_assert(std::is_reference_v<typename std::iterator_traits<Iterator>::reference>,
                  "the range has the contexts: what an iterator made would be gone");
    std::vector<const cctx_t *> parents;
    for (; first != last; ++first)
        parents.push_back(static_cast<const context &>(*first).get());
    return cancelable_context::adopt(cctx_with_any(parents.data(), parents.size()));
}

/* ---- callbacks --------------------------------------------------------------------------------- */

/*
 * after_func - call f() once the context is done: Go's context.AfterFunc, in the shape of std::stop_callback.
 *
 *     cctxx::after_func hang_up(ctx, [&] { socket.shutdown(); });
 *
 * f is inside the object, which therefore stays where it is; it is called once, unless a stop wins, on the
 * thread that cancels, for a deadline on the library's runner, with an executor there, and by the constructor
 * if the context is done already. It may do all that a callback of cctx_after_func may.
 *
 * The destructor stops it; if f runs on another thread it waits for f's end. In f itself it does not wait,
 * and f touches nothing of its own after that. f does not wait for the thread that runs the destructor.
 */
template <class F> class after_func
{
    static_assert(std::is_invocable_v<F>, "f is called without arguments");

  public:
    template <class G, class = std::enable_if_t<std::is_constructible_v<F, G>>>
    explicit after_func(const context &ctx, G &&f) : f_(std::forward<G>(f))
    {
        if (const int err = cctx_after_func(ctx.get(), &callback_, run, this); err != 0)
            detail::fail(err, "cctxx::after_func");
    }
    template <class G, class = std::enable_if_t<std::is_constructible_v<F, G>>>
    explicit after_func(const context &ctx, cctx_executor_t &executor, G &&f) : f_(std::forward<G>(f))
    {
        if (const int err = cctx_after_func_on(ctx.get(), &callback_, &executor, run, this); err != 0)
            detail::fail(err, "cctxx::after_func");
    }
    after_func(const after_func &) = delete;
    after_func &operator=(const after_func &) = delete;
    ~after_func() { cctx_stop_wait(&callback_); }

    /* True: f will never run. False: it runs, has run, or was stopped before. */
    bool stop() noexcept { return cctx_stop(&callback_); }

    /* The same; and when it returns f is not running, unless it is f that calls. */
    bool stop_wait() noexcept { return cctx_stop_wait(&callback_); }

  private:
    static void run(void *self) noexcept
    {
        (void)std::forward<F>(static_cast<after_func *>(self)->f_)();
    }

    cctx_callback_t callback_{};
    F f_;
};
template <class F> after_func(const context &, F) -> after_func<F>;
template <class F> after_func(const context &, cctx_executor_t &, F) -> after_func<F>;

/*
 * guard - call f() when the context is done, and again until the guard is gone: interrupts another's API.
 *
 *     cctxx::guard interrupt(ctx, [db] { sqlite3_interrupt(db); });
 *     return sqlite3_step(statement);
 *
 * f is called again after 1 ms, 2 ms, ... 100 ms; two calls never overlap; see cctx_guard_arm. When disarm,
 * or the destructor, has returned f is not called any more, and the handle may be closed or used anew.
 */
template <class F> class guard
{
    static_assert(std::is_invocable_v<F &>, "f is called without arguments");

  public:
    template <class G, class = std::enable_if_t<std::is_constructible_v<F, G>>>
    explicit guard(const context &ctx, G &&f) : f_(std::forward<G>(f))
    {
        if (const int err = cctx_guard_arm(&guard_, ctx.get(), run, this); err != 0)
            detail::fail(err, "cctxx::guard");
    }
    guard(const guard &) = delete;
    guard &operator=(const guard &) = delete;
    ~guard() { cctx_guard_disarm(&guard_); }

    void disarm() noexcept { cctx_guard_disarm(&guard_); }

  private:
    static void run(void *self) noexcept { (void)static_cast<guard *>(self)->f_(); }

    cctx_guard_t guard_{};
    F f_;
};
template <class F> guard(const context &, F) -> guard<F>;

/* ---- groups ------------------------------------------------------------------------------------ */

/*
 * group - tasks that share a context: Go's errgroup. The first error or exception cancels the rest.
 *
 *     cctxx::group group(ctx, 8);                              at most 8 at a time
 *     for (const url &u : urls)
 *         group.go([&u](const cctxx::context &c) { fetch(c, u); });
 *     group.wait();                                           throws what the first of them threw
 *
 * A task is called as f(ctx), ctx the group's context, or as f(); it returns nothing, an errno value as an
 * int, or a std::error_code. Not 0, or an exception, is a failure, and the first one is the group's: its code
 * is that of the cause (-1 for an exception, or an error, that is of no errno value). The failures of others
 * are dropped.
 *
 * The destructor cancels the context and waits for the tasks; a failure that no wait has asked for is dropped
 * with it. No task destroys its own group.
 */
class group
{
  public:
    /* Each task has a thread of its own, or is submitted to the executor, which outlives the group.
     * Of limit tasks none more is started before one has ended; 0 is no limit. */
    explicit group(const context &parent, std::size_t limit = 0) : group(parent, nullptr, limit) {}
    explicit group(const context &parent, cctx_executor_t &executor, std::size_t limit = 0)
        : group(parent, &executor, limit)
    {
    }
    group(const group &) = delete;
    group &operator=(const group &) = delete;
    ~group() { cctx_group_free(group_); }

    /* The context that the tasks get: it ends with the first failure, the parent, wait, or the group. */
    [[nodiscard]] const context &ctx() const noexcept { return ctx_; }

    /*
     * Starts a task, which gets a copy of f, or what was moved there, and destroys it at its end, before a
     * wait returns.
     *
     * Errors     what copying f throws; std::bad_alloc. Then no task was started.
     * Blocking   with a limit, while so many tasks have not ended. Where no thread can be had, f runs here.
     * Cost       two allocations.
     */
    template <class F> void go(F &&f)
    {
        using task_type = task<std::decay_t<F>>;
        std::unique_ptr<task_type> t(new task_type(*this, std::forward<F>(f)));
        if (const int err = cctx_group_go(group_, task_type::run, t.get()); err != 0)
            detail::fail(err, "cctxx::group::go");
        (void)t.release();
    }

    /*
     * Sleeps until all tasks have ended, and cancels the context.
     *
     * Returns    no error; the first error; std::errc::resource_deadlock_would_occur, at once, in a task of
     *            this group.
     * Errors     throws the exception, if a task's was the first failure; each time, and to each who waits.
     */
    std::error_code wait()
    {
        const int err = cctx_group_wait(group_);
        if (err == 0 || state_.load(std::memory_order_acquire) != settled || err != errno_)
            return detail::code(err);
#ifdef __cpp_exceptions
        if (thrown_)
            std::rethrow_exception(thrown_);
#endif
        return error_;
    }

  private:
    enum state { open, settling, settled };

    template <class F> struct task {
        template <class G> task(group &g, G &&given) : owner(g), f(std::forward<G>(given)) {}

        static int run(const cctx_t *, void *arg) noexcept
        {
            std::unique_ptr<task> t(static_cast<task *>(arg));
#ifdef __cpp_exceptions
            try {
                return t->call();
            } catch (const std::system_error &e) {
                return t->owner.failed(e.code(), std::current_exception());
            } catch (const std::bad_alloc &) {
                return t->owner.failed(detail::code(ENOMEM), std::current_exception());
            } catch (...) {
                return t->owner.failed(detail::code(-1), std::current_exception());
            }
#else
            return t->call();
#endif
        }

        int call()
        {
            if constexpr (std::is_invocable_v<F &, const context &>)
                return settle([this] { return f(owner.ctx()); });
            else
                return settle(f);
        }

        template <class Call> int settle(Call &&call)
        {
            using result = std::invoke_result_t<Call &>;
            static_assert(std::is_void_v<result> || std::is_same_v<result, int> ||
                              std::is_same_v<result, std::error_code>,
                          "a task returns nothing, an errno value or a std::error_code");
            std::error_code error;
            if constexpr (std::is_void_v<result>)
                call();
            else if constexpr (std::is_same_v<result, int>)
                error = detail::code(call());
            else
                error = call();
            return error ? owner.failed(error) : 0;
        }

        group &owner;
        F f;
    };

    group(const context &parent, cctx_executor_t *executor, std::size_t limit)
        : group_(cctx_group_new(parent.get(), executor, limit))
    {
        if (!group_)
            detail::fail(errno, "cctxx::group");
        context(cctx_group_context(group_)).swap(ctx_);
    }

    int failed(std::error_code error, std::exception_ptr thrown = nullptr) noexcept
    {
        int expected = open;
        if (!state_.compare_exchange_strong(expected, settling))
            return 0; /* another was the first, and returns or has returned its code */
        const bool is_errno =
            error.category() == std::generic_category() || error.category() == std::system_category();
        errno_ = is_errno && error.value() != 0 ? error.value() : -1;
        error_ = error;
        thrown_ = std::move(thrown);
        state_.store(settled, std::memory_order_release);
        return errno_;
    }

    context ctx_{};
    cctx_group_t *group_;
    std::atomic<int> state_{open};
    int errno_{0}; /* this and the next two: written by who has made it settling, final when it is settled */
    std::error_code error_{};
    std::exception_ptr thrown_{};
};

/* ---- std::stop_token --------------------------------------------------------------------------- */

#ifdef __cpp_lib_jthread

/* The cause of a context that a std::stop_token ended. */
inline constexpr cctx_cause_t stop_requested{ECANCELED, "stop requested"};

/*
 * with_stop_token - a context that a std::stop_token ends, too.
 *
 *     std::jthread worker([&](std::stop_token token) {
 *         cctxx::with_stop_token ctx(parent, token);
 *         work(ctx);
 *     });
 *
 * When the return of request_stop comes the context is done, with the cause stop_requested. Otherwise it is a
 * cancelable_context that stays where it is: at the end of the scope it is canceled, and the token is let go.
 */
class with_stop_token : public looks<with_stop_token>
{
  public:
    with_stop_token(const context &parent, std::stop_token token)
        : ctx_(with_cancel(parent)), callback_(std::move(token), end{ctx_.get()})
    {
    }
    with_stop_token(const with_stop_token &) = delete;
    with_stop_token &operator=(const with_stop_token &) = delete;

    operator const context &() const & noexcept { return ctx_; }
    operator const context &() const && = delete;

    bool cancel() noexcept { return ctx_.cancel(); }
    bool cancel(const cctx_cause_t &cause) noexcept { return ctx_.cancel(cause); }
    bool cancel(const cctx_cause_t &&) = delete;
    bool cancel(int code, std::string_view text) noexcept { return ctx_.cancel(code, text); }

    [[nodiscard]] const cctx_t *get() const noexcept { return ctx_.get(); }
    [[nodiscard]] cctx_t *get() noexcept { return ctx_.get(); }

  private:
    struct end {
        void operator()() const noexcept { cctx_cancel_cause(ctx, &stop_requested); }
        cctx_t *ctx;
    };

    cancelable_context ctx_;
    std::stop_callback<end> callback_; /* goes first, and waits for a cancel that it is in the middle of */
};

/*
 * stop_on_done - a std::stop_token that the end of a context stops, for condition_variable_any and others.
 *
 *     cctxx::stop_on_done stop(ctx);
 *     changed.wait(lock, stop.token(), [&] { return ready; });
 *
 * A token taken from it may outlive it, and is not stopped then.
 *
 * Cost       an after_func, and the allocation of a std::stop_source.
 */
class stop_on_done
{
  public:
    explicit stop_on_done(const context &ctx) : callback_(ctx, end{source_}) {}
    stop_on_done(const stop_on_done &) = delete;
    stop_on_done &operator=(const stop_on_done &) = delete;

    [[nodiscard]] std::stop_token token() const noexcept { return source_.get_token(); }

  private:
    struct end {
        /* A stop_callback may destroy the stop_on_done: the state lives until request_stop has returned. */
        void operator()() const noexcept
        {
            std::stop_source still = source;
            still.request_stop();
        }
        const std::stop_source &source;
    };

    std::stop_source source_{};
    after_func<end> callback_;
};

#endif

} // namespace cctxx

#endif
