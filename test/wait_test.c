/* SPDX-License-Identifier: BSD-2-Clause */
/* wait: waiters are counted in their owner's word, and counted out again. */
#include "support.h"

#include <sched.h>

#include "node.h"

static const cctx_key_t key = {"key", NULL};

static uint32_t state_of(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->state, done); }

static void *wait_on(void *ctx)
{
    int err = cctx_wait(ctx);
    CHECK(err == ECANCELED);
    return NULL;
}

static void a_waiter_on_a_value_is_counted_in_the_owner(void **state)
{
    (void)state;
    watchdog(100);
    cctx_t *n = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(n, &key, NULL);
    pthread_t waiter = thread_start(wait_on, (void *)(uintptr_t)value);
    while (state_of(n) < DONE_WAITER) sched_yield();
    assert_int_equal(state_of(n) & DONE_MANY, DONE_WAITER);
    assert_int_equal(state_of(value) & DONE_MANY, 0);
    cctx_cancel(n);
    thread_join(waiter);
    cctx_unref(value);
    cctx_unref(n);
    watchdog(0);
}

static void a_wait_that_is_over_leaves_no_count(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_cancel(cctx_background());
    uint32_t before = state_of(n);
    for (int i = 0; i < 300; i++) assert_false(cctx_wait_for(n, i % 3 ? 1000 : 0));
    assert_int_equal(state_of(n), before);
    cctx_unref(n);
}

/* The word that was given out is marked, the owner's for a value context; that of what can never be done
 * is not. */
static void a_word_that_is_given_out_is_marked(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(n, &key, NULL);
    assert_false(state_of(n) & EXPOSED);
    assert_ptr_equal(cctx_done(value), &n->state);
    assert_true(state_of(n) & EXPOSED);
    assert_ptr_equal(cctx_done(n), &n->state);
    assert_null(cctx_done(cctx_background()));
    assert_int_equal(sync_load_acq(&node_never, done), 0);
    cctx_cancel(n);
    assert_true(state_of(n) & WOKEN);
    cctx_unref(value);
    cctx_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_waiter_on_a_value_is_counted_in_the_owner),
        cmocka_unit_test(a_wait_that_is_over_leaves_no_count),
        cmocka_unit_test(a_word_that_is_given_out_is_marked),
    };
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
