/* SPDX-License-Identifier: BSD-2-Clause */
/* Odd arguments are answered, by EINVAL or by the documented no-op, and never by a crash. C32, C8. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#define CCTX_ARRAY(access_mode, array, count) /* arrays and counts that do not match are passed on purpose */
#include "support.h"

static const cctx_cause_t cause = {5, "cause"};
static const cctx_key_t key = {"key", NULL};
static int ran;

static void run(void *arg)
{
    (void)arg;
    ran++;
}

#define EXPECT_NULL_EINVAL(call)                                                                             \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        assert_null(call);                                                                                   \
        assert_int_equal(errno, EINVAL);                                                                     \
    } while (0)

/* C32 */
static void deriving_from_null_is_einval(void **state)
{
    (void)state;
    EXPECT_NULL_EINVAL(cctx_with_cancel(NULL));
    EXPECT_NULL_EINVAL(cctx_with_deadline(NULL, cctx_now() + CCTX_S(3600)));
    EXPECT_NULL_EINVAL(cctx_with_deadline(NULL, 0));
    EXPECT_NULL_EINVAL(cctx_with_timeout(NULL, CCTX_S(3600)));
    EXPECT_NULL_EINVAL(cctx_with_timeout(NULL, -1));
    EXPECT_NULL_EINVAL(cctx_with_deadline_cause(NULL, CCTX_NEVER, &cause));
    EXPECT_NULL_EINVAL(cctx_with_timeout_cause(NULL, 0, NULL));
    EXPECT_NULL_EINVAL(cctx_with_value(NULL, &key, &ran));
    EXPECT_NULL_EINVAL(cctx_with_value(cctx_background(), NULL, &ran));
    EXPECT_NULL_EINVAL(cctx_with_value(NULL, NULL, NULL));
    EXPECT_NULL_EINVAL(cctx_without_cancel(NULL));
}

/* C32, B1 */
static void merging_nothing_or_null_is_einval(void **state)
{
    (void)state;
    cctx_t *live = cctx_with_cancel(cctx_background());
    const cctx_t *good[] = {live, cctx_background(), live};
    const cctx_t *none[3] = {NULL};
    EXPECT_NULL_EINVAL(cctx_with_any(NULL, 0));
    EXPECT_NULL_EINVAL(cctx_with_any(NULL, 3));
    EXPECT_NULL_EINVAL(cctx_with_any(good, 0));
    EXPECT_NULL_EINVAL(cctx_with_any(none, 1));
    EXPECT_NULL_EINVAL(cctx_with_any(none, 3));
    for (int hole = 0; hole < 3; hole++) {
        const cctx_t *holed[] = {good[0], good[1], good[2]};
        holed[hole] = NULL;
        EXPECT_NULL_EINVAL(cctx_with_any(holed, 3));
    }
    /* A negative number that became a size is refused before the array is read. */
    errno = 0;
    assert_null(cctx_with_any(good, (size_t)-1));
    assert_true(errno == EINVAL || errno == ENOMEM);
    errno = 0;
    assert_null(cctx_with_any(good, (size_t)PTRDIFF_MIN));
    assert_true(errno == EINVAL || errno == ENOMEM);
    assert_int_equal(cctx_err(live), 0);
    cctx_unref(live);
}

/* C32, C8 */
static void looks_and_cancels_of_null_are_answered(void **state)
{
    (void)state;
    cctx_time_t deadline = 123;
    errno = E2BIG;
    assert_int_equal(cctx_err(NULL), EINVAL);
    assert_false(cctx_is_done(NULL));
    assert_null(cctx_cause(NULL));
    assert_false(cctx_deadline(NULL, &deadline));
    assert_false(cctx_deadline(NULL, NULL));
    assert_true(deadline == 123);
    assert_true(cctx_remaining(NULL) == 0);
    assert_null(cctx_value(NULL, &key));
    assert_null(cctx_value(cctx_background(), NULL));
    assert_null(cctx_value(NULL, NULL));
    assert_int_equal(cctx_print(NULL, NULL, 0), 0);
    assert_null(cctx_done(NULL));
    assert_int_equal(cctx_wait(NULL), EINVAL);
    assert_false(cctx_wait_until(NULL, CCTX_NEVER));
    assert_false(cctx_wait_until(NULL, INT64_MIN));
    assert_false(cctx_wait_for(NULL, CCTX_NEVER));
    assert_false(cctx_wait_for(NULL, INT64_MIN));
    assert_null(cctx_ref(NULL));
    cctx_unref(NULL);
    cctx_close(NULL);
    assert_false(cctx_cancel(NULL));
    assert_false(cctx_cancel_cause(NULL, &cause));
    assert_false(cctx_cancel_cause(NULL, NULL));
    assert_false(cctx_cancel_causef(NULL, 1, "%s", "text"));
    assert_int_equal(errno, E2BIG);
}

/* C32: functions that return an int keep errno, in failure and in success. */
static void functions_that_return_int_leave_errno_alone(void **state)
{
    (void)state;
    cctx_callback_t callback = {{0}};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *done = cctx_with_timeout(ctx, 0);
    errno = E2BIG;
    assert_int_equal(cctx_after_func(NULL, &callback, run, NULL), EINVAL);
    assert_int_equal(cctx_after_func(ctx, &callback, run, NULL), 0);
    assert_true(cctx_stop(&callback));
    assert_int_equal(cctx_wait(cctx_background()), EDEADLK);
    assert_int_equal(cctx_wait(done), ETIMEDOUT);
    assert_int_equal(cctx_err(done), ETIMEDOUT);
    assert_false(cctx_wait_for(ctx, 1000));
    cctx_unref(done);
    cctx_unref(ctx);
    assert_int_equal(errno, E2BIG);
}

/* C32 */
static void callbacks_with_null_are_einval_and_do_not_run(void **state)
{
    (void)state;
    cctx_callback_t callback = {{0}};
    cctx_t *live = cctx_with_cancel(cctx_background());
    cctx_t *done = cctx_with_timeout(live, 0);
    const cctx_t *ctx[] = {live, done, cctx_background()};
    ran = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cctx_after_func(ctx[i], NULL, run, NULL), EINVAL);
        assert_int_equal(cctx_after_func(ctx[i], &callback, NULL, NULL), EINVAL);
        assert_int_equal(cctx_after_func(ctx[i], NULL, NULL, NULL), EINVAL);
    }
    assert_int_equal(cctx_after_func(NULL, &callback, run, NULL), EINVAL);
    assert_false(cctx_stop(&callback)); /* nothing was registered by that */
    cctx_cancel(live);
    assert_int_equal(ran, 0);
    cctx_unref(done);
    cctx_unref(live);
}

/* C32, C29 */
static void stopping_null_or_zeroed_storage_is_false(void **state)
{
    (void)state;
    cctx_callback_t zeroed = {{0}};
    assert_false(cctx_stop(NULL));
    assert_false(cctx_stop_wait(NULL));
    assert_false(cctx_stop(&zeroed));
    assert_false(cctx_stop_wait(&zeroed));
}

/* C32, C26: a registration on what never ends is accepted and only stopped. */
static void a_callback_on_a_root_never_runs(void **state)
{
    (void)state;
    cctx_callback_t callback = {{0}};
    ran = 0;
    assert_int_equal(cctx_after_func(cctx_background(), &callback, run, NULL), 0);
    assert_true(cctx_stop(&callback));
    assert_false(cctx_stop(&callback));
    assert_int_equal(cctx_after_func(cctx_todo(), &callback, run, NULL), 0);
    assert_true(cctx_stop_wait(&callback));
    assert_int_equal(ran, 0);
}

static void expect_late(cctx_t *ctx)
{
    assert_non_null(ctx);
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    assert_true(cctx_remaining(ctx) == 0);
    assert_true(cctx_deadline(ctx, NULL));
    assert_ptr_equal(cctx_cause(ctx), &cctx_deadline_exceeded);
    assert_false(cctx_cancel(ctx));
    cctx_unref(ctx);
}

static void expect_endless(cctx_t *ctx)
{
    cctx_time_t deadline = 123;
    assert_non_null(ctx);
    assert_int_equal(cctx_err(ctx), 0);
    assert_false(cctx_deadline(ctx, &deadline));
    assert_true(deadline == 123);
    assert_true(cctx_remaining(ctx) == CCTX_NEVER);
    assert_true(cctx_cancel(ctx));
    assert_true(cctx_remaining(ctx) == 0);
    cctx_unref(ctx);
}

/* C32, C12 */
static void timeouts_and_deadlines_of_every_size_are_answered(void **state)
{
    (void)state;
    const cctx_t *root = cctx_background();
    const int64_t past[] = {INT64_MIN, INT64_MIN + 1, -CCTX_S(1), -1, 0};
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        expect_late(cctx_with_timeout(root, past[i]));
        expect_late(cctx_with_timeout_cause(root, past[i], NULL));
        expect_late(cctx_with_deadline(root, past[i]));
        expect_late(cctx_with_deadline_cause(root, past[i], NULL));
    }
    expect_endless(cctx_with_timeout(root, INT64_MAX));
    expect_endless(cctx_with_timeout(root, INT64_MAX - 1)); /* it saturates */
    expect_endless(cctx_with_timeout_cause(root, INT64_MAX, &cause));
    expect_endless(cctx_with_deadline(root, INT64_MAX));
    expect_endless(cctx_with_deadline_cause(root, CCTX_NEVER, &cause));

    cctx_time_t deadline;
    cctx_t *far = cctx_with_deadline(root, INT64_MAX - 1);
    assert_int_equal(cctx_err(far), 0);
    assert_true(cctx_deadline(far, &deadline));
    assert_true(deadline == INT64_MAX - 1);
    assert_true(cctx_remaining(far) > CCTX_S(3600));
    cctx_unref(far);
    cctx_t *ancient = cctx_with_deadline(root, INT64_MIN);
    assert_true(cctx_deadline(ancient, &deadline));
    assert_true(deadline == INT64_MIN);
    cctx_unref(ancient);
}

/* C32 */
static void waits_until_any_time_are_answered(void **state)
{
    (void)state;
    cctx_t *live = cctx_with_cancel(cctx_background());
    cctx_t *done = cctx_with_timeout(live, 0);
    const cctx_t *never = cctx_background();
    const int64_t past[] = {INT64_MIN, INT64_MIN + 1, -1, 0};
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        assert_false(cctx_wait_for(live, past[i]));
        assert_false(cctx_wait_until(live, past[i]));
        assert_false(cctx_wait_for(never, past[i]));
        assert_false(cctx_wait_until(never, past[i]));
        assert_true(cctx_wait_for(done, past[i]));
        assert_true(cctx_wait_until(done, past[i]));
    }
    assert_true(cctx_wait_for(done, INT64_MAX));
    assert_true(cctx_wait_for(done, INT64_MAX - 1));
    assert_true(cctx_wait_until(done, INT64_MAX));
    cctx_unref(done);
    cctx_unref(live);
}

/* C32 */
static void a_null_deadline_pointer_asks_for_the_answer_only(void **state)
{
    (void)state;
    cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    assert_true(cctx_deadline(timed, NULL));
    assert_false(cctx_deadline(cctx_background(), NULL));
    cctx_unref(timed);
}

/* C32, C9: a NULL cause and a NULL format cancel all the same. */
static void null_causes_and_formats_cancel(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_cause(ctx, NULL));
    assert_ptr_equal(cctx_cause(ctx), &cctx_canceled);
    cctx_unref(ctx);
    const char *volatile none = NULL; /* the compiler would object to a plain NULL */
    ctx = cctx_with_cancel(cctx_background());
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    assert_true(cctx_cancel_causef(ctx, 8, none));
#pragma GCC diagnostic pop
    assert_int_equal(cctx_err(ctx), ECANCELED);
    assert_int_equal(cctx_cause(ctx)->code, 8);
    assert_string_equal(cctx_cause(ctx)->text, "");
    cctx_unref(ctx);
}

/* C32 */
static void errors_have_a_text_whatever_their_number(void **state)
{
    (void)state;
    assert_string_equal(cctx_strerror(ECANCELED), "context canceled");
    assert_string_equal(cctx_strerror(ETIMEDOUT), "context deadline exceeded");
    const int other[] = {0, -1, EINVAL, EDEADLK, INT_MIN, INT_MAX, 100000};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        assert_non_null(cctx_strerror(other[i]));
        assert_ptr_equal(cctx_strerror(other[i]), cctx_strerror(other[i]));
        assert_string_not_equal(cctx_strerror(other[i]), "context canceled");
        assert_string_not_equal(cctx_strerror(other[i]), "context deadline exceeded");
    }
}

static int ended;

static void note_end(void *value)
{
    (void)value;
    ended++;
}

static const cctx_key_t ending_key = {"ending", note_end};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"

static void expect_cancels_nothing(const cctx_t *ctx)
{
    cctx_t *cast = (cctx_t *)ctx;
    cctx_t *below = cctx_with_cancel(ctx);
    assert_false(cctx_cancel(cast));
    assert_false(cctx_cancel_cause(cast, &cause));
    assert_false(cctx_cancel_causef(cast, 1, "%d", 1));
    cctx_ref(cast);
    cctx_close(cast);
    assert_int_equal(cctx_err(ctx), 0);
    assert_null(cctx_cause(ctx));
    assert_int_equal(cctx_err(below), 0);
    cctx_unref(below);
}

/* C32 */
static void a_const_that_was_cast_away_cancels_nothing(void **state)
{
    (void)state;
    ended = 0;
    cctx_t *parent = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    const cctx_t *value = cctx_with_value(parent, &ending_key, NULL);
    const cctx_t *value_of_value = cctx_with_value(value, &key, NULL);
    const cctx_t *value_of_root = cctx_with_value(cctx_background(), &key, NULL);
    const cctx_t *apart = cctx_without_cancel(value);
    const cctx_t *value_of_apart = cctx_with_value(apart, &key, NULL);
    const cctx_t *each[] = {value,          value_of_value,    value_of_root, apart,
                            value_of_apart, cctx_background(), cctx_todo()};
    enum { EACH = sizeof each / sizeof *each };
    for (int i = 0; i < EACH; i++)
        expect_cancels_nothing(each[i]);
    assert_int_equal(cctx_err(parent), 0);
    cctx_unref(value_of_value);
    cctx_unref(value_of_root);
    cctx_unref(value_of_apart);
    cctx_unref(apart);
    assert_int_equal(ended, 0);
    /* The close of a cast value context is its unref. */
    cctx_close((cctx_t *)value);
    assert_int_equal(ended, 1);
    assert_int_equal(cctx_err(parent), 0);

    /* On a done parent it says false, too, and keeps the cause. */
    cctx_cancel_cause(parent, &cause);
    value = cctx_with_value(parent, &key, NULL);
    assert_false(cctx_cancel((cctx_t *)value));
    assert_ptr_equal(cctx_cause(value), &cause);
    cctx_unref(value);
    cctx_unref(parent);
}

#pragma GCC diagnostic pop

/* C32: a size that was negative is a large one, and no more is written than there is to write. */
static void a_print_into_a_size_that_was_negative_writes_the_text_only(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    char text[100];
    memset(text, '#', sizeof text);
    size_t length = cctx_print(ctx, text, (size_t)-1);
    assert_int_equal(length, strlen("cctx.Background.WithCancel"));
    assert_string_equal(text, "cctx.Background.WithCancel");
    assert_int_equal(text[length + 1], '#');
    cctx_unref(ctx);
}

/* C32, C1: what failed has changed nothing. */
static void a_failed_derivation_leaves_the_parent_as_it_was(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *child = cctx_with_cancel(parent);
    size_t length = cctx_print(parent, NULL, 0);
    EXPECT_NULL_EINVAL(cctx_with_value(parent, NULL, NULL));
    EXPECT_NULL_EINVAL(cctx_with_any((const cctx_t *[]){parent, child, NULL}, 3));
    assert_int_equal(cctx_err(parent), 0);
    assert_int_equal(cctx_print(parent, NULL, 0), length);
    assert_true(cctx_cancel(parent));
    assert_int_equal(cctx_err(child), ECANCELED);
    cctx_unref(child);
    cctx_unref(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deriving_from_null_is_einval),
        cmocka_unit_test(merging_nothing_or_null_is_einval),
        cmocka_unit_test(looks_and_cancels_of_null_are_answered),
        cmocka_unit_test(functions_that_return_int_leave_errno_alone),
        cmocka_unit_test(callbacks_with_null_are_einval_and_do_not_run),
        cmocka_unit_test(stopping_null_or_zeroed_storage_is_false),
        cmocka_unit_test(a_callback_on_a_root_never_runs),
        cmocka_unit_test(timeouts_and_deadlines_of_every_size_are_answered),
        cmocka_unit_test(waits_until_any_time_are_answered),
        cmocka_unit_test(a_null_deadline_pointer_asks_for_the_answer_only),
        cmocka_unit_test(null_causes_and_formats_cancel),
        cmocka_unit_test(errors_have_a_text_whatever_their_number),
        cmocka_unit_test(a_const_that_was_cast_away_cancels_nothing),
        cmocka_unit_test(a_print_into_a_size_that_was_negative_writes_the_text_only),
        cmocka_unit_test(a_failed_derivation_leaves_the_parent_as_it_was),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
