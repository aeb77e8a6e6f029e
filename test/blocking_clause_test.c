/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A sleep, a futex and a choice of contexts that a context ends, as a user sees them. Then the same on a kernel without
 * futex_waitv, where each promise is the same.
 */
#define CCTX_ARRAY(access_mode, array, count) /* arrays and counts that do not match are passed on purpose */
#include "blocked.h"

static const cctx_key_t key = {"key", NULL};

static void wake(uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* ---- cctx_sleep ---- */

/* C13, C26 */
static void a_sleep_lasts_its_duration_and_is_0(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background()), *timed = cctx_with_timeout(ctx, HOUR);
    const cctx_t *contexts[] = {cctx_background(), ctx, timed};
    for (size_t i = 0; i < 3; i++) {
        for (int64_t duration = 0; duration < CCTX_MS(3); duration += CCTX_US(700)) {
            cctx_time_t before = cctx_now();
            assert_int_equal(cctx_sleep(contexts[i], duration), 0);
            assert_true(cctx_now() >= before + duration);
        }
        assert_int_equal(cctx_sleep(contexts[i], -1), 0);
        assert_int_equal(cctx_sleep(contexts[i], INT64_MIN), 0);
    }
    cctx_unref(timed);
    cctx_close(ctx);
}

/* C32 */
static void null_arguments_are_einval(void **state)
{
    (void)state;
    _Alignas(8) uint32_t words[2] = {0};
    const uint32_t *odd = (const uint32_t *)(const void *)((const char *)words + 2);
    const cctx_t *none[] = {cctx_background(), NULL};
    size_t which = 7;
    assert_int_equal(cctx_sleep(NULL, 1), EINVAL);
    assert_int_equal(cctx_futex_wait(NULL, words, 1), EINVAL);
    assert_int_equal(cctx_futex_wait(cctx_background(), NULL, 1), EINVAL);
    assert_int_equal(cctx_futex_wait(cctx_background(), odd, 1), EINVAL);
    assert_int_equal(cctx_wait_any(NULL, 1, CCTX_NEVER, &which), EINVAL);
    assert_int_equal(cctx_wait_any(none, 0, CCTX_NEVER, &which), EINVAL);
    assert_int_equal(cctx_wait_any(none, 2, CCTX_NEVER, &which), EINVAL);
    assert_int_equal(cctx_wait_any(none, (size_t)-1, CCTX_NEVER, &which), EINVAL);
    assert_int_equal(which, 7);
}

static int sleeps(void *ctx)
{
    return cctx_sleep(ctx, HOUR);
}

/* C1, C24 */
static void a_cancel_and_a_deadline_end_a_sleep_and_signals_do_not(void **state)
{
    (void)state;
    blocked_t b;
    cctx_t *ctx = cctx_with_cancel(cctx_background()), *soon = cctx_with_timeout(ctx, CCTX_MS(3));
    assert_int_equal(cctx_sleep(soon, HOUR), ETIMEDOUT);
    assert_int_equal(cctx_sleep(soon, 0), ETIMEDOUT);
    blocked_start(&b, sleeps, ctx);
    interrupt_blocked(&b);
    assert_true(cctx_cancel(ctx));
    assert_int_equal(blocked_join(&b), ECANCELED);
    assert_int_equal(cctx_sleep(ctx, INT64_MAX), ECANCELED);
    cctx_unref(soon);
    cctx_unref(ctx);
}

/* ---- cctx_futex_wait ---- */

typedef struct on_word {
    const cctx_t *ctx;
    uint32_t *word;
} on_word_t;

static int waits_on_word(void *arg)
{
    on_word_t *o = arg;
    return cctx_futex_wait(o->ctx, o->word, 0);
}

/* B3 */
static void a_word_that_is_not_expected_is_0_even_on_a_done_context(void **state)
{
    (void)state;
    uint32_t word = 1;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_futex_wait(ctx, &word, 0), 0);
    assert_int_equal(cctx_futex_wait(cctx_background(), &word, 0), 0);
    cctx_cancel(ctx);
    assert_int_equal(cctx_futex_wait(ctx, &word, 0), 0);
    assert_int_equal(cctx_futex_wait(ctx, &word, 1), ECANCELED);
    cctx_unref(ctx);
}

/* B3, C18 */
static void a_wake_of_the_word_ends_the_wait_with_0_on_each_kind_of_context(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background()), *timed = cctx_with_timeout(ctx, HOUR);
    const cctx_t *value = cctx_with_value(timed, &key, NULL), *never = cctx_without_cancel(ctx);
    const cctx_t *contexts[] = {ctx, timed, value, never, cctx_background()};
    for (size_t i = 0; i < 5; i++) {
        uint32_t word = 0;
        blocked_t b;
        blocked_start(&b, waits_on_word, &(on_word_t){contexts[i], &word});
        blocked_await(&b);
        /* The word may be as it was: the wake alone says so. A wake may come too early for one that just arrives. */
        while (!__atomic_load_n(&b.over, __ATOMIC_ACQUIRE)) {
            wake(&word, 1);
            sched_yield();
        }
        assert_int_equal(blocked_join(&b), 0);
    }
    cctx_unref(never);
    cctx_unref(value);
    cctx_unref(timed);
    cctx_close(ctx);
}

/* B3, C1 */
static void a_cancel_of_an_ancestor_and_a_deadline_end_a_futex_wait(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 1);
    for (int round = 0; round < SCALED(150); round++) {
        uint32_t word = 0;
        blocked_t b;
        cctx_t *top = cctx_with_cancel(cctx_background()), *ctx = cctx_with_cancel(top);
        const cctx_t *value = cctx_with_value(ctx, &key, NULL);
        blocked_start(&b, waits_on_word, &(on_word_t){round % 2 ? value : ctx, &word});
        if (round % 3 == 0)
            blocked_await(&b);
        for (uint64_t spin = rng_below(&rng, 4000); spin > 0; spin--)
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        assert_true(cctx_cancel(round % 5 ? top : ctx));
        assert_int_equal(blocked_join(&b), ECANCELED);
        cctx_unref(value);
        cctx_unref(ctx);
        cctx_close(top);
    }
    uint32_t word = 0;
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_US(100) * i + 1);
        cctx_time_t deadline = 0;
        assert_true(cctx_deadline(ctx, &deadline));
        assert_int_equal(cctx_futex_wait(ctx, &word, 0), ETIMEDOUT);
        assert_true(cctx_now() >= deadline);
        cctx_unref(ctx);
    }
}

/* B3, C24 */
static void signals_do_not_end_a_futex_wait(void **state)
{
    (void)state;
    uint32_t word = 0;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *contexts[] = {ctx, cctx_background()};
    for (int i = 0; i < 2; i++) {
        blocked_t b;
        blocked_start(&b, waits_on_word, &(on_word_t){contexts[i], &word});
        interrupt_blocked(&b);
        __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
        wake(&word, 1);
        assert_int_equal(blocked_join(&b), 0);
        __atomic_store_n(&word, 0, __ATOMIC_RELEASE);
    }
    cctx_close(ctx);
}

/* A change without a wake is seen at the next look, which a signal makes. B3 */
static void a_change_of_the_word_is_seen_by_who_looks_again(void **state)
{
    (void)state;
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *contexts[] = {ctx, cctx_background()};
    for (int i = 0; i < 2; i++) {
        uint32_t word = 0;
        blocked_t b;
        blocked_start(&b, waits_on_word, &(on_word_t){contexts[i], &word});
        blocked_await(&b);
        __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
        while (!__atomic_load_n(&b.over, __ATOMIC_ACQUIRE)) {
            pthread_kill(b.thread, SIGUSR1);
            sched_yield();
        }
        assert_int_equal(blocked_join(&b), 0);
    }
    sigaction(SIGUSR1, &old, NULL);
    cctx_close(ctx);
}

/* Leaves no waiter counted, so that the next cancel makes no system call. C25 */
static void a_futex_wait_that_is_over_leaves_nothing_in_the_context(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        uint32_t word = 0;
        cctx_t *ctx = cctx_with_timeout(cctx_background(), HOUR);
        blocked_t b;
        blocked_start(&b, waits_on_word, &(on_word_t){ctx, &word});
        if (i % 2)
            blocked_await(&b);
        __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
        wake(&word, 1);
        assert_int_equal(blocked_join(&b), 0);
        assert_int_equal(**(const uint32_t *const *)(const void *)ctx >> 24, 0);
        cctx_close(ctx);
    }
}

/* ---- cctx_wait_any ---- */

enum { MANY = 5000 };
static cctx_t *ctxs[MANY];
static const cctx_t *const *looked_at(void)
{
    return (const cctx_t *const *)ctxs;
}

static void make(size_t n)
{
    for (size_t i = 0; i < n; i++)
        ctxs[i] = cctx_with_cancel(cctx_background());
}

static void drop(size_t n)
{
    while (n > 0)
        cctx_close(ctxs[--n]);
}

typedef struct on_any {
    size_t n, which;
} on_any_t;

static int waits_for_any(void *arg)
{
    on_any_t *o = arg;
    return cctx_wait_any(looked_at(), o->n, CCTX_NEVER, &o->which);
}

/* B1, C24 */
static void the_one_that_is_canceled_ends_a_wait_for_one_to_five_thousand(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 2, 3, 127, 128, 129, 1000, MANY};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        make(n);
        const size_t chosen[] = {0, n / 2, n - 1};
        for (int j = 0; j < 3; j++) {
            blocked_t b;
            on_any_t o = {n, n};
            if (cctx_is_done(ctxs[chosen[j]]))
                continue;
            for (size_t i = 0; i < n; i++) {
                if (!cctx_is_done(ctxs[i]))
                    continue;
                cctx_unref(ctxs[i]);
                ctxs[i] = cctx_with_cancel(cctx_background());
            }
            blocked_start(&b, waits_for_any, &o);
            if (j % 2 == 0)
                blocked_await(&b);
            assert_true(cctx_cancel(ctxs[chosen[j]]));
            assert_int_equal(blocked_join(&b), 0);
            assert_int_equal(o.which, chosen[j]);
        }
        drop(n);
    }
}

/* C25: after a wait of many nobody is counted in. */
static void a_wait_for_many_that_is_over_leaves_nothing_in_them(void **state)
{
    (void)state;
    make(200);
    for (size_t n = 1; n < 200; n += 9) {
        cctx_time_t until = cctx_now() + CCTX_US(300);
        size_t which = 1000;
        assert_int_equal(cctx_wait_any(looked_at(), n, until, &which), ETIMEDOUT);
        assert_true(cctx_now() >= until);
        assert_int_equal(which, 1000);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(**(const uint32_t *const *)(const void *)ctxs[i] >> 24, 0);
    }
    drop(200);
}

/* C1, C26 */
static void the_first_index_that_is_done_is_told_and_what_can_never_be_done_is_passed_over(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_cancel(cctx_background()), *b = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(b, &key, NULL);
    const cctx_t *list[] = {cctx_background(), a, a, value, b, cctx_todo()};
    size_t which = 9;
    assert_int_equal(cctx_wait_any(list, 6, 0, &which), ETIMEDOUT);
    assert_int_equal(cctx_wait_any(list, 6, INT64_MIN, NULL), ETIMEDOUT);
    assert_int_equal(cctx_wait_any(list, 6, cctx_now() + CCTX_MS(1), &which), ETIMEDOUT);
    assert_int_equal(which, 9);
    cctx_cancel(b);
    assert_int_equal(cctx_wait_any(list, 6, CCTX_NEVER, &which), 0);
    assert_int_equal(which, 3);
    cctx_cancel(a);
    assert_int_equal(cctx_wait_any(list, 6, INT64_MIN, &which), 0);
    assert_int_equal(which, 1);
    assert_int_equal(cctx_wait_any(list, 6, CCTX_NEVER, NULL), 0);

    const cctx_t *never[] = {cctx_background(), cctx_todo()};
    assert_int_equal(cctx_wait_any(never, 2, CCTX_NEVER, &which), EDEADLK);
    cctx_time_t until = cctx_now() + CCTX_MS(2);
    assert_int_equal(cctx_wait_any(never, 2, until, &which), ETIMEDOUT);
    assert_true(cctx_now() >= until);
    assert_int_equal(which, 1);
    cctx_unref(value);
    cctx_unref(a);
    cctx_unref(b);
}

/* C13 */
static void the_earliest_deadline_of_many_ends_the_wait(void **state)
{
    (void)state;
    for (size_t n = 3; n <= 300; n += 99) {
        for (size_t i = 0; i < n; i++)
            ctxs[i] = cctx_with_timeout(cctx_background(), i == n - 2 ? CCTX_MS(2) : HOUR + (int64_t)i);
        cctx_time_t deadline = 0;
        size_t which = 0;
        assert_true(cctx_deadline(ctxs[n - 2], &deadline));
        assert_int_equal(cctx_wait_any(looked_at(), n, CCTX_NEVER, &which), 0);
        assert_true(cctx_now() >= deadline);
        assert_int_equal(which, n - 2);
        assert_int_equal(cctx_err(ctxs[which]), ETIMEDOUT);
        drop(n);
    }
}

/* C24 */
static void signals_do_not_end_a_wait_for_many(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 200; n += 66) {
        blocked_t b;
        on_any_t o = {n, n};
        make(n);
        blocked_start(&b, waits_for_any, &o);
        interrupt_blocked(&b);
        cctx_cancel(ctxs[n / 2]);
        assert_int_equal(blocked_join(&b), 0);
        assert_int_equal(o.which, n / 2);
        drop(n);
    }
}

/* ---- without the library's threads ---- */

static cctx_t *due[3], *others[200];

static void waits_without_threads(void *arg)
{
    (void)arg;
    uint32_t word = 0;
    size_t which = 0;
    alarm(60);
    if (!refuse_threads())
        _exit(77);
    /* Its callback, where there is no futex_waitv, needs the runner's thread. */
    int err = cctx_futex_wait(due[0], &word, 0);
    CHECK(err == ETIMEDOUT || err == EAGAIN);
    CHECK(cctx_sleep(due[1], HOUR) == ETIMEDOUT);
    for (size_t i = 0; i < 199; i++)
        others[i] = cctx_with_cancel(cctx_background());
    others[199] = due[2];
    CHECK(cctx_wait_any((const cctx_t *const *)others + 198, 2, CCTX_NEVER, &which) == 0 && which == 1);
    CHECK(cctx_wait_any((const cctx_t *const *)others, 200, CCTX_NEVER, &which) == 0 && which == 199);

}

/* In the child of a fork that can make no thread a deadline is fired by who waits for it. C23, C27 */
static void deadlines_end_each_wait_though_the_library_has_no_thread(void **state)
{
    (void)state;
    if (TEST_TSAN || !threads_after_fork())
        NOT_APPLICABLE("no fork with threads here");
    for (size_t i = 0; i < 3; i++)
        due[i] = cctx_with_timeout(cctx_background(), CCTX_MS(20) * (int64_t)(i + 1));
    int status = run_in_child(waits_without_threads, NULL);
    for (size_t i = 0; i < 3; i++)
        cctx_close(due[i]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        NOT_APPLICABLE("no seccomp filters");
    assert_int_equal(status, 0);
}

static void waits_in_a_sandbox(void *arg)
{
    (void)arg;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *both[] = {ctx, ctx};
    alarm(60);
    if (!refuse_call(449, EPERM))
        _exit(77);
    for (int i = 0; i < 3; i++)
        CHECK(cctx_wait_any(both, 2, cctx_now() + CCTX_US(100), NULL) == ETIMEDOUT);
    cctx_cancel(ctx);
    CHECK(cctx_wait_any(both, 2, CCTX_NEVER, NULL) == 0);
    cctx_unref(ctx);
}

/* B3 */
static void a_sandbox_that_does_not_know_futex_waitv_takes_nothing_away(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("no fork under ThreadSanitizer");
    int status = run_in_child(waits_in_a_sandbox, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        NOT_APPLICABLE("no seccomp filters");
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sleep_lasts_its_duration_and_is_0),
        cmocka_unit_test(null_arguments_are_einval),
        cmocka_unit_test(a_cancel_and_a_deadline_end_a_sleep_and_signals_do_not),
        cmocka_unit_test(a_word_that_is_not_expected_is_0_even_on_a_done_context),
        cmocka_unit_test(a_wake_of_the_word_ends_the_wait_with_0_on_each_kind_of_context),
        cmocka_unit_test(a_cancel_of_an_ancestor_and_a_deadline_end_a_futex_wait),
        cmocka_unit_test(signals_do_not_end_a_futex_wait),
        cmocka_unit_test(a_change_of_the_word_is_seen_by_who_looks_again),
        cmocka_unit_test(a_futex_wait_that_is_over_leaves_nothing_in_the_context),
        cmocka_unit_test(the_one_that_is_canceled_ends_a_wait_for_one_to_five_thousand),
        cmocka_unit_test(a_wait_for_many_that_is_over_leaves_nothing_in_them),
        cmocka_unit_test(the_first_index_that_is_done_is_told_and_what_can_never_be_done_is_passed_over),
        cmocka_unit_test(the_earliest_deadline_of_many_ends_the_wait),
        cmocka_unit_test(signals_do_not_end_a_wait_for_many),
        cmocka_unit_test(a_sandbox_that_does_not_know_futex_waitv_takes_nothing_away),
        cmocka_unit_test(deadlines_end_each_wait_though_the_library_has_no_thread),
    };
    watchdog(100);
    int failed = cmocka_run_group_tests_name("blocking_clause", tests, NULL, NULL);
    if (!refuse_call(449, ENOSYS))
        print_message("not applicable: no seccomp filters: futex_waitv was not taken away\n");
    else
        failed += cmocka_run_group_tests_name("blocking_clause without futex_waitv", tests, NULL, NULL);
    return failed;
}
