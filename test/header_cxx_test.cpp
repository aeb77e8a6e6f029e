// SPDX-License-Identifier: BSD-2-Clause
// The header serves C++17: every function, type, macro and constant of it is used from C++. C31, C32.
#include <cctx/cctx.h>
#include <cctx/cctx.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

static int failures;

#define EXPECT(expression)                                                                                   \
    do {                                                                                                     \
        if (!(expression)) {                                                                                 \
            std::fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #expression);      \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

/* C31 */
static_assert(sizeof(cctx_callback_t) == 64, "the storage of a callback");
static_assert(std::is_standard_layout<cctx_callback_t>::value, "it is the caller's, in any memory");
static_assert(std::is_trivially_copyable<cctx_key_t>::value, "a static object");
static_assert(std::is_same<cctx_time_t, int64_t>::value, "nanoseconds");
static_assert(CCTX_NEVER == INT64_MAX, "no deadline");
static_assert(CCTX_US(1) == 1000 && CCTX_MS(1) == 1000000 && CCTX_S(1) == 1000000000, "units");
static_assert(CCTX_S(-3) == -3000000000, "durations may be negative");
static_assert(CCTX_VERSION_MAJOR >= 0 && CCTX_VERSION_MINOR >= 0 && CCTX_VERSION_PATCH >= 0, "numbers");

/* Deriving gives what may be canceled, or a const; looks take a const. C31 */
static_assert(std::is_same<decltype(cctx_with_cancel(nullptr)), cctx_t *>::value, "");
static_assert(std::is_same<decltype(cctx_with_value(nullptr, nullptr, nullptr)), const cctx_t *>::value, "");
static_assert(std::is_same<decltype(cctx_without_cancel(nullptr)), const cctx_t *>::value, "");
static_assert(std::is_same<decltype(cctx_with_any(nullptr, 0)), cctx_t *>::value, "");
static_assert(std::is_same<decltype(cctx_cancel(nullptr)), bool>::value, "");
static_assert(std::is_same<decltype(cctx_done(nullptr)), const uint32_t *>::value, "");
static_assert(!std::is_convertible<const cctx_t *, cctx_t *>::value, "a const context cannot be canceled");

static int ran, destroyed;

extern "C" {
static void run(void *arg)
{
    ran += *static_cast<int *>(arg);
}

static void destroy(void *value)
{
    destroyed += *static_cast<int *>(value);
}
}

/* C31, C32: each function links and does its work from C++. */
static void everything_is_callable_from_cxx()
{
    static const cctx_key_t key = {"key", destroy};
    static const cctx_cause_t own = {7, "own"};
    static int one = 1;
    cctx_callback_t callback = {};
    cctx_time_t deadline = 0;

    EXPECT(cctx_now() > 0);
    EXPECT(std::strlen(CCTX_VERSION) >= 5);
    EXPECT(cctx_background() != cctx_todo());

    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *timed = cctx_with_timeout(top, CCTX_S(3600));
    cctx_t *dated = cctx_with_deadline(top, cctx_now() + CCTX_S(3600));
    cctx_t *timed_cause = cctx_with_timeout_cause(top, CCTX_MS(-1), &own);
    cctx_t *dated_cause = cctx_with_deadline_cause(top, CCTX_NEVER, &own);
    const cctx_t *value = cctx_with_value(timed, &key, &one);
    const cctx_t *apart = cctx_without_cancel(value);
    const cctx_t *const parents[] = {dated, value};
    cctx_t *any = cctx_with_any(parents, 2);

    EXPECT(cctx_err(top) == 0 && !cctx_is_done(top) && cctx_cause(top) == nullptr);
    EXPECT(cctx_deadline(any, &deadline) && deadline > cctx_now());
    EXPECT(cctx_remaining(dated_cause) == CCTX_NEVER);
    EXPECT(cctx_value(apart, &key) == &one);
    EXPECT(std::strcmp(cctx_strerror(ETIMEDOUT), "context deadline exceeded") == 0);
    char text[64];
    EXPECT(cctx_print(top, text, sizeof text) == std::strlen("cctx.Background.WithCancel"));

    EXPECT(cctx_after_func(any, &callback, run, &one) == 0);
    EXPECT(cctx_stop(&callback));
    EXPECT(cctx_after_func(any, &callback, run, &one) == 0);
    EXPECT(!cctx_wait_for(top, 0) && !cctx_wait_until(top, 1));
    EXPECT(cctx_done(top) != nullptr && (*cctx_done(top) & 1) == 0);

    EXPECT(cctx_cause(timed_cause) == &own && cctx_err(timed_cause) == ETIMEDOUT);
    EXPECT(!cctx_cancel_cause(timed_cause, &cctx_canceled));
    EXPECT(cctx_cancel_causef(top, 3, "%s %d", "number", 3));
    EXPECT(cctx_wait(any) == ECANCELED && cctx_is_done(value));
    EXPECT(std::strcmp(cctx_cause(any)->text, "number 3") == 0);
    EXPECT(!cctx_cancel(top) && !cctx_stop_wait(&callback) && ran == 1);
    const cctx_t *held = cctx_ref(apart);
    EXPECT(held == apart);
    cctx_unref(held);
    EXPECT(cctx_deadline_exceeded.code == ETIMEDOUT && cctx_canceled.code == ECANCELED);

    const cctx_t *const rest[] = {timed, dated, timed_cause, dated_cause, value, apart, any};
    for (const cctx_t *ctx : rest)
        cctx_unref(ctx);
    cctx_close(top);
    EXPECT(destroyed == 1);
    EXPECT(cctx_err(nullptr) == EINVAL && !cctx_is_done(nullptr));
}

int main()
{
    everything_is_callable_from_cxx();
    if (failures == 0)
        std::puts("everything_is_callable_from_cxx: passed");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
