/* SPDX-License-Identifier: BSD-2-Clause */
/* Causes: the winner's, inherited, one of two constants without one; borrowed or formatted. C9, C10. */
#include "support.h"

#include <sched.h>

static const cctx_cause_t cause_a = {100, "a"};
static const cctx_cause_t cause_b = {101, "b"};
static const cctx_key_t key = {"key", NULL};

/* C9 */
static void there_is_no_cause_while_live(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_timeout_cause(cctx_background(), CCTX_S(3600), &cause_a);
    assert_null(cctx_cause(ctx));
    assert_null(cctx_cause(cctx_background()));
    assert_null(cctx_cause(cctx_todo()));
    cctx_unref(ctx);
}

/* C9 */
static void without_a_cause_it_is_a_constant_of_the_library(void **state)
{
    (void)state;
    assert_int_equal(cctx_canceled.code, ECANCELED);
    assert_string_equal(cctx_canceled.text, "context canceled");
    assert_int_equal(cctx_deadline_exceeded.code, ETIMEDOUT);
    assert_string_equal(cctx_deadline_exceeded.text, "context deadline exceeded");

    cctx_t *plain = cctx_with_cancel(cctx_background());
    cctx_cancel(plain);
    assert_ptr_equal(cctx_cause(plain), &cctx_canceled);
    cctx_t *null = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_cause(null, NULL));
    assert_ptr_equal(cctx_cause(null), &cctx_canceled);
    cctx_t *late = cctx_with_timeout_cause(cctx_background(), 0, NULL);
    assert_ptr_equal(cctx_cause(late), &cctx_deadline_exceeded);
    cctx_unref(plain);
    cctx_unref(null);
    cctx_unref(late);
}

/* C9 */
static void descendants_of_every_kind_inherit_the_cause(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *mid = cctx_with_timeout_cause(top, CCTX_S(3600), &cause_b);
    const cctx_t *value = cctx_with_value(mid, &key, NULL);
    const cctx_t *any = cctx_with_any((const cctx_t *[]){cctx_background(), value}, 2);
    const cctx_t *free_one = cctx_without_cancel(value);
    assert_true(cctx_cancel_cause(top, &cause_a));
    const cctx_t *done[] = {top, mid, value, any};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++) {
        assert_int_equal(cctx_err(done[i]), ECANCELED);
        assert_ptr_equal(cctx_cause(done[i]), &cause_a);
    }
    assert_null(cctx_cause(free_one));
    cctx_unref(free_one);
    cctx_unref(any);
    cctx_unref(value);
    cctx_unref(mid);
    cctx_unref(top);
}

/* C9: the cause of a deadline is given by that deadline only. */
static void the_cause_of_a_deadline_is_for_that_deadline_only(void **state)
{
    (void)state;
    cctx_t *canceled = cctx_with_timeout_cause(cctx_background(), CCTX_S(3600), &cause_a);
    assert_true(cctx_cancel(canceled));
    assert_ptr_equal(cctx_cause(canceled), &cctx_canceled);
    cctx_unref(canceled);

    canceled = cctx_with_timeout_cause(cctx_background(), CCTX_S(3600), &cause_a);
    assert_true(cctx_cancel_cause(canceled, &cause_b));
    assert_int_equal(cctx_err(canceled), ECANCELED);
    assert_ptr_equal(cctx_cause(canceled), &cause_b);
    cctx_unref(canceled);

    /* The parent's earlier deadline ends the child without the child's own cause. */
    cctx_t *parent = cctx_with_timeout(cctx_background(), CCTX_MS(5));
    cctx_t *child = cctx_with_timeout_cause(parent, CCTX_S(3600), &cause_a);
    assert_int_equal(cctx_wait(child), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(child), &cctx_deadline_exceeded);
    cctx_unref(child);
    cctx_unref(parent);

    /* One that fires in its time, and one that had passed. */
    cctx_t *fired = cctx_with_timeout_cause(cctx_background(), CCTX_MS(5), &cause_a);
    child = cctx_with_cancel(fired);
    assert_int_equal(cctx_wait(child), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(child), &cause_a);
    assert_ptr_equal(cctx_cause(fired), &cause_a);
    cctx_unref(child);
    cctx_unref(fired);
    cctx_t *late = cctx_with_deadline_cause(cctx_background(), cctx_now() - 1, &cause_a);
    assert_int_equal(cctx_err(late), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(late), &cause_a);
    cctx_unref(late);
}

/* C9 */
static void the_error_is_one_of_two_whatever_the_cause(void **state)
{
    (void)state;
    static const cctx_cause_t timeout_like = {ETIMEDOUT, "looks like a deadline"};
    static const cctx_cause_t zero = {0, NULL};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_cancel_cause(ctx, &timeout_like);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    cctx_unref(ctx);
    ctx = cctx_with_cancel(cctx_background());
    cctx_cancel_cause(ctx, &zero);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    assert_ptr_equal(cctx_cause(ctx), &zero);
    cctx_unref(ctx);
    ctx = cctx_with_timeout_cause(cctx_background(), -5, &cctx_canceled);
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(ctx), &cctx_canceled);
    cctx_unref(ctx);
}

/* C10 */
static void a_formatted_cause_has_its_code_and_its_text(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *child = cctx_with_cancel(ctx);
    char text[] = "disk";
    assert_true(cctx_cancel_causef(ctx, EIO, "%s %d of %s", text, 3, "many"));
    memset(text, 'x', sizeof text - 1); /* it is formatted, not borrowed */
    assert_int_equal(cctx_err(ctx), ECANCELED);
    assert_int_equal(cctx_cause(ctx)->code, EIO);
    assert_string_equal(cctx_cause(ctx)->text, "disk 3 of many");
    assert_ptr_equal(cctx_cause(child), cctx_cause(ctx));

    /* A loser's text changes nothing. */
    assert_false(cctx_cancel_causef(ctx, 1, "late"));
    assert_false(cctx_cancel_causef(child, 1, "late"));
    assert_string_equal(cctx_cause(child)->text, "disk 3 of many");

    /* The descendant keeps the text of a parent whose handle is gone. */
    cctx_unref(ctx);
    assert_string_equal(cctx_cause(child)->text, "disk 3 of many");
    cctx_unref(child);
}

/* C10 */
static void a_formatted_cause_may_be_empty_or_long(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_causef(ctx, 1, "%s", ""));
    assert_string_equal(cctx_cause(ctx)->text, "");
    cctx_unref(ctx);
    ctx = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_causef(ctx, -7, "%0*d", 20000, 1));
    assert_int_equal(cctx_cause(ctx)->code, -7);
    assert_int_equal(strlen(cctx_cause(ctx)->text), 20000);
    assert_int_equal(cctx_cause(ctx)->text[19999], '1');
    cctx_unref(ctx);
}

enum { CANCELERS = 4, READERS = 2 };

typedef struct contest {
    cctx_t *ctx;
    const cctx_t *leaf;
    bool won[CANCELERS];
} contest_t;

static void cancel_or_read(unsigned index, void *arg)
{
    contest_t *contest = arg;
    switch (index) {
    case 0: contest->won[0] = cctx_cancel(contest->ctx); return;
    case 1: contest->won[1] = cctx_cancel_cause(contest->ctx, &cause_a); return;
    case 2: contest->won[2] = cctx_cancel_causef(contest->ctx, 102, "text %d", 102); return;
    case 3: contest->won[3] = cctx_cancel_cause(contest->ctx, &cause_a); return;
    default: break;
    }
    int err;
    while ((err = cctx_err(contest->leaf)) == 0)
        sched_yield();
    const cctx_cause_t *cause = cctx_cause(contest->leaf);
    CHECK(cause != NULL);
    CHECK((err == ETIMEDOUT) == (cause == &cause_b));
    CHECK(cause->code != 102 || strcmp(cause->text, "text 102") == 0);
    CHECK(cctx_cause(contest->leaf) == cause && cctx_cause(contest->ctx) == cause);
    CHECK(cctx_err(contest->leaf) == err && cctx_err(contest->ctx) == err);
}

/* C9, C1: a plain cancel, two equal causes, a text and a deadline race; error, cause and winner agree. */
static void the_cause_is_that_of_whoever_won(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 9);
    for (int round = 0; round < SCALED(3000); round++) {
        contest_t contest = {.ctx = NULL};
        /* The threads take about this long to get going, so that the deadline wins at times. */
        int64_t timeout = (int64_t)rng_below(&rng, 300000);
        contest.ctx = cctx_with_timeout_cause(cctx_background(), timeout, &cause_b);
        contest.leaf = cctx_with_cancel(contest.ctx);
        threads_run(CANCELERS + READERS, cancel_or_read, &contest);
        const cctx_cause_t *cause = cctx_cause(contest.leaf);
        int wins = 0;
        for (int i = 0; i < CANCELERS; i++)
            wins += contest.won[i];
        assert_int_equal(wins, cctx_err(contest.ctx) == ETIMEDOUT ? 0 : 1);
        if (wins == 0)
            assert_ptr_equal(cause, &cause_b);
        else if (contest.won[0])
            assert_ptr_equal(cause, &cctx_canceled);
        else if (contest.won[2])
            assert_int_equal(cause->code, 102);
        else
            assert_ptr_equal(cause, &cause_a);
        cctx_unref(contest.leaf);
        cctx_unref(contest.ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_no_cause_while_live),
        cmocka_unit_test(without_a_cause_it_is_a_constant_of_the_library),
        cmocka_unit_test(descendants_of_every_kind_inherit_the_cause),
        cmocka_unit_test(the_cause_of_a_deadline_is_for_that_deadline_only),
        cmocka_unit_test(the_error_is_one_of_two_whatever_the_cause),
        cmocka_unit_test(a_formatted_cause_has_its_code_and_its_text),
        cmocka_unit_test(a_formatted_cause_may_be_empty_or_long),
        cmocka_unit_test(the_cause_is_that_of_whoever_won),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
