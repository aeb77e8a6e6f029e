/* SPDX-License-Identifier: BSD-2-Clause */
/* CCTX_SCOPED closes on every way out of a scope, and CCTX_SCOPED_REF drops without a cancel. */
#include "support.h"

#include <cctx/cctx.h>

enum way { AT_THE_END, BY_RETURN, BY_GOTO, BY_BREAK, BY_CONTINUE };

static void count(void *ended)
{
    ++*(int *)ended;
}

/* Makes a context, leaves a callback on it that counts, and goes out by one of the ways. */
static int leave(enum way way, int *ended)
{
    static cctx_callback_t callbacks[3];
    for (int i = 0; i < 3; i++) {
        CCTX_SCOPED cctx_t *ctx = cctx_with_cancel(cctx_background());
        assert_int_equal(cctx_after_func(ctx, &callbacks[i], count, ended), 0);
        if (way == BY_RETURN)
            return i;
        if (way == BY_GOTO)
            goto out;
        if (way == BY_BREAK)
            break;
        if (way == BY_CONTINUE)
            continue;
        assert_int_equal(*ended, i);
    }
out:
    return -1;
}

static void it_is_closed_at_the_end_of_each_round_of_a_loop(void **state)
{
    (void)state;
    int ended = 0;
    leave(AT_THE_END, &ended);
    assert_int_equal(ended, 3);
}

static void it_is_closed_by_an_early_return(void **state)
{
    (void)state;
    int ended = 0;
    assert_int_equal(leave(BY_RETURN, &ended), 0);
    assert_int_equal(ended, 1);
}

static void it_is_closed_by_goto_and_break_and_continue(void **state)
{
    (void)state;
    int ended = 0;
    leave(BY_GOTO, &ended);
    assert_int_equal(ended, 1);
    leave(BY_BREAK, &ended);
    assert_int_equal(ended, 2);
    leave(BY_CONTINUE, &ended);
    assert_int_equal(ended, 5);
}

static void nothing_is_no_trouble(void **state)
{
    (void)state;
    errno = 0;
    {
        CCTX_SCOPED cctx_t *ctx = cctx_with_cancel(NULL);
        CCTX_SCOPED_REF const cctx_t *value = cctx_with_value(ctx, NULL, NULL);
        assert_null(ctx);
        assert_null(value);
    }
    assert_int_equal(errno, EINVAL);
}

static cctx_t *handed_on(void)
{
    CCTX_SCOPED cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *made = ctx;
    ctx = NULL;
    return made;
}

static void what_is_handed_on_stays_live(void **state)
{
    (void)state;
    cctx_t *ctx = handed_on();
    assert_non_null(ctx);
    assert_int_equal(cctx_err(ctx), 0);
    cctx_close(ctx);
}

static void forget(void *freed)
{
    ++*(int *)freed;
}

static const cctx_key_t key = {"key", forget};

static void a_scoped_reference_is_dropped_and_nothing_is_canceled(void **state)
{
    (void)state;
    int freed = 0;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *child;
    {
        CCTX_SCOPED_REF const cctx_t *value = cctx_with_value(parent, &key, &freed);
        CCTX_SCOPED_REF const cctx_t *held = cctx_ref(parent);
        child = cctx_with_cancel(value);
        assert_ptr_equal(held, parent);
    }
    assert_int_equal(freed, 0); /* the child keeps it */
    assert_int_equal(cctx_err(child), 0);
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(child);
    assert_int_equal(freed, 1);
    cctx_close(parent);
}

static const cctx_t *watched;
static int parent_was_done;

static void look_at_parent(void *arg)
{
    (void)arg;
    parent_was_done = cctx_is_done(watched);
}

static void the_last_variable_goes_first(void **state)
{
    (void)state;
    cctx_callback_t callback = {{0}};
    {
        CCTX_SCOPED cctx_t *parent = cctx_with_cancel(cctx_background());
        CCTX_SCOPED cctx_t *child = cctx_with_cancel(parent);
        watched = parent;
        parent_was_done = -1;
        assert_int_equal(cctx_after_func(child, &callback, look_at_parent, NULL), 0);
    }
    assert_int_equal(parent_was_done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_closed_at_the_end_of_each_round_of_a_loop),
        cmocka_unit_test(it_is_closed_by_an_early_return),
        cmocka_unit_test(it_is_closed_by_goto_and_break_and_continue),
        cmocka_unit_test(nothing_is_no_trouble),
        cmocka_unit_test(what_is_handed_on_stays_live),
        cmocka_unit_test(a_scoped_reference_is_dropped_and_nothing_is_canceled),
        cmocka_unit_test(the_last_variable_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
