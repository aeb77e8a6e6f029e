/* SPDX-License-Identifier: BSD-2-Clause */
/* handle: a close skips the cancel only where nobody could have seen it, and what cannot be canceled is
 * left alone. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include "node.h"

static const cctx_key_t key = {"key", NULL};

static uint32_t state_of(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->state, done); }

/* Closes a child and returns its last state word: it is retired, and nobody polls before it is read. */
static uint32_t state_after_close(cctx_t *n)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 10; i++) epoch_poll(t);         /* so that one retirement does not make a poll */
    cctx_close(n);
    assert_true(epoch_limbo() > 0);
    uint32_t s = state_of(n);
    thread_end(t);
    return s;
}

static void the_only_handle_of_a_leaf_is_closed_without_a_flip(void **state)
{
    (void)state;
    cctx_t *p = cctx_with_cancel(cctx_background());
    assert_false(state_after_close(cctx_with_cancel(p)) & DONE);
    cctx_t *exposed = cctx_with_cancel(p);
    assert_non_null(cctx_done(exposed));
    assert_true(state_after_close(exposed) & DONE);
    cctx_unref(p);
}

/* Another handle, a child or a callback could tell: then a close is a cancel. */
static void whoever_can_tell_sees_the_cancel_of_a_close(void **state)
{
    (void)state;
    cctx_t *p = cctx_with_cancel(cctx_background()), *n = cctx_with_cancel(p);
    const cctx_t *second = cctx_ref(n);
    cctx_close(n);
    assert_int_equal(cctx_err(second), ECANCELED);
    cctx_unref(second);
    n = cctx_with_cancel(p);
    cctx_t *c = cctx_with_cancel(n);
    cctx_close(n);
    assert_int_equal(cctx_err(c), ECANCELED);
    cctx_unref(c);
    n = cctx_with_cancel(p);
    const cctx_t *value = cctx_with_value(n, &key, NULL);
    cctx_close(n);
    assert_int_equal(cctx_err(value), ECANCELED);
    cctx_unref(value);
    cctx_unref(p);
}

/* A cast that takes const away gives no right to cancel. */
static void what_has_another_ones_word_is_not_canceled(void **state)
{
    (void)state;
    static const cctx_cause_t cause = {1, "no"};
    cctx_t *p = cctx_with_cancel(cctx_background());
    cctx_t *value = (cctx_t *)(uintptr_t)cctx_with_value(p, &key, NULL);
    cctx_t *apart = (cctx_t *)(uintptr_t)cctx_without_cancel(p);
    cctx_t *none[] = {value, apart, (cctx_t *)(uintptr_t)cctx_background(), NULL};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_false(cctx_cancel(none[i]));
        assert_false(cctx_cancel_cause(none[i], &cause));
        assert_false(cctx_cancel_causef(none[i], 1, "%s", "no"));
        if (none[i]) assert_int_equal(state_of(none[i]) & (DONE | CAUSED), 0);
    }
    assert_int_equal(cctx_err(p), 0);
    cctx_close(value);                  /* an unref, for one */
    assert_int_equal(cctx_err(p), 0);
    cctx_close(apart);
    cctx_close(none[2]);
    cctx_close(NULL);
    cctx_unref(p);
}

/* C10: a text that cannot be made is as one for which there is no memory: the cancel holds. */
static void a_text_that_cannot_be_formatted_cancels_all_the_same(void **state)
{
    (void)state;
    static const wchar_t no_character[] = {0x7fffffff, 0};
    cctx_t *n = cctx_with_cancel(cctx_background());
    errno = 77;
    assert_true(cctx_cancel_causef(n, 5, "%ls", no_character));
    assert_int_equal(errno, 77);
    assert_int_equal(cctx_cause(n)->code, ENOMEM);
    assert_string_equal(cctx_cause(n)->text, "out of memory");
    cctx_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_only_handle_of_a_leaf_is_closed_without_a_flip),
        cmocka_unit_test(whoever_can_tell_sees_the_cancel_of_a_close),
        cmocka_unit_test(what_has_another_ones_word_is_not_canceled),
        cmocka_unit_test(a_text_that_cannot_be_formatted_cancels_all_the_same),
    };
    return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
