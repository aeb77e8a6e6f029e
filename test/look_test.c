/* SPDX-License-Identifier: BSD-2-Clause */
/* look: what a context says comes from its owner's word and no other. */
#include "support.h"

#include "clock.h"
#include "node.h"

static const cctx_key_t key = {"key", NULL};
static const cctx_cause_t cause = {9, "nine"};

/* A look at a live node whose cause is claimed already sees nothing of it: the flip decides. Claim I2. */
static void a_claimed_cause_is_not_seen_before_the_flip(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_cancel(cctx_background());
    sync_store_rel(&n->cause, (uintptr_t)&cause, claim);
    assert_null(cctx_cause(n));
    assert_int_equal(cctx_err(n), 0);
    done_flip(&n->state, CAUSED);
    assert_ptr_equal(cctx_cause(n), &cause);
    cctx_unref(n);
}

/* However far below, by whatever kinds of context, the cause is that of the node that was canceled. */
static void a_cause_is_found_up_the_inherited_levels(void **state)
{
    (void)state;
    enum { N = 50 };
    const cctx_t *n[N];
    cctx_t *top = cctx_with_cancel(cctx_background());
    for (int i = 0; i < N; i++) {
        const cctx_t *above = i ? n[i - 1] : top;
        n[i] = i % 2 ? cctx_with_value(above, &key, NULL) : cctx_with_cancel(above);
    }
    cctx_cancel_cause(top, &cause);
    for (int i = 0; i < N; i++) assert_ptr_equal(cctx_cause(n[i]), &cause);
    for (int i = 0; i < N; i++) cctx_unref(n[i]);
    cctx_unref(top);
}

static void time_left_is_by_the_librarys_clock_and_never_negative(void **state)
{
    (void)state;
    int64_t before = clock_now();
    cctx_t *n = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    int64_t left = cctx_remaining(n), after = clock_now();
    assert_true(n->deadline >= before + CCTX_S(3600));
    assert_true(left <= n->deadline - before && left >= n->deadline - after);
    cctx_t *far = cctx_with_deadline(cctx_background(), CCTX_NEVER - 1);
    assert_true(cctx_remaining(far) > 0);
    cctx_cancel(n);
    assert_int_equal(cctx_remaining(n), 0);
    cctx_unref(far);
    cctx_unref(n);
}

/* C32: a look at nothing says so. */
static void nothing_is_an_invalid_context_that_is_not_done(void **state)
{
    (void)state;
    assert_int_equal(cctx_err(NULL), EINVAL);
    assert_false(cctx_is_done(NULL));
    assert_null(cctx_cause(NULL));
    assert_null(cctx_done(NULL));
    assert_false(cctx_deadline(NULL, NULL));
    assert_int_equal(cctx_remaining(NULL), 0);
}

/* Each code that the library gives has words of its own, as has what it never gives. */
static void each_error_has_words_of_its_own(void **state)
{
    (void)state;
    const int codes[] = {0, ECANCELED, ETIMEDOUT, EINVAL, ENOMEM, EAGAIN, EDEADLK, -1};
    enum { CODES = sizeof codes / sizeof *codes };
    for (int i = 0; i < CODES; i++)
        for (int j = 0; j < i; j++) assert_string_not_equal(cctx_strerror(codes[i]), cctx_strerror(codes[j]));
    assert_string_equal(cctx_strerror(ECANCELED), cctx_canceled.text);
    assert_string_equal(cctx_strerror(ETIMEDOUT), cctx_deadline_exceeded.text);
    assert_string_equal(cctx_strerror(12345), cctx_strerror(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claimed_cause_is_not_seen_before_the_flip),
        cmocka_unit_test(a_cause_is_found_up_the_inherited_levels),
        cmocka_unit_test(time_left_is_by_the_librarys_clock_and_never_negative),
        cmocka_unit_test(nothing_is_an_invalid_context_that_is_not_done),
        cmocka_unit_test(each_error_has_words_of_its_own),
    };
    return cmocka_run_group_tests_name("look", tests, NULL, NULL);
}
