/* SPDX-License-Identifier: BSD-2-Clause */
/* A cancel that nobody waits for makes no system call; nor do the others once they are warm. C25. */
#include "support.h"

#include <sched.h>

enum { CHILDREN = 1000, TURNS = 20000 };

static const cctx_key_t key[20] = {{"key", NULL}};
static const cctx_cause_t cause = {5, "cause"};

/* Counts the calls of work after warm, in a forked child, and fails with the number of the first one. */
static void expect_no_system_call(void (*warm)(void *), void (*work)(void *), const char *what)
{
    syscall_log_t log = syscalls_of(warm, work, NULL);
    if (log.count < 0) {
        print_message("not applicable: %s: calls cannot be counted here (no seccomp, or a sanitizer)\n", what);
        return;
    }
    if (log.count > 0)
        print_error("%s: %ld system calls, the first is number %d\n", what, log.count, log.first);
    assert_int_equal(log.count, 0);
}

/* The allocator may give memory back or ask for more; that is not the library's call. */
static void calm_the_allocator(void)
{
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_MMAP_THRESHOLD, INT_MAX);
    void *pad = malloc(1);
    free(pad);
}

static cctx_t *top;
static const cctx_t *leaf[CHILDREN];
static cctx_callback_t callback[CHILDREN];
static int ran;

static void run(void *arg)
{
    (void)arg;
    ran++;
}

static void make_tree(void *arg)
{
    (void)arg;
    calm_the_allocator();
    top = cctx_with_cancel(cctx_background());
    for (int i = 0; i < CHILDREN; i++) {
        const cctx_t *parent = i < 10 ? top : leaf[i % 3 == 0 ? i - 1 : i / 2];
        switch (i % 5) {
        case 0: leaf[i] = cctx_with_value(parent, &key[0], NULL); break;
        case 1: leaf[i] = cctx_with_timeout(parent, CCTX_S(3600)); break;
        case 2: leaf[i] = cctx_with_any((const cctx_t *[]){cctx_background(), parent, top}, 3); break;
        default: leaf[i] = cctx_with_cancel(parent); break;
        }
        CHECK(leaf[i] != NULL);
        int err = i % 4 == 0 ? cctx_after_func(leaf[i], &callback[i], run, NULL) : 0;
        CHECK(err == 0);
    }
}

static void cancel_tree(void *arg)
{
    (void)arg;
    CHECK(cctx_cancel_cause(top, &cause));
    for (int i = 0; i < CHILDREN; i++)
        CHECK(cctx_err(leaf[i]) == ECANCELED);
    CHECK(ran == CHILDREN / 4);
}

/* C25 */
static void a_cancel_of_a_tree_that_nobody_waits_for_makes_no_system_call(void **state)
{
    (void)state;
    expect_no_system_call(make_tree, cancel_tree, __func__);
}

static cctx_t *chain[CHILDREN];

static void make_chain(void *arg)
{
    (void)arg;
    calm_the_allocator();
    for (int i = 0; i < CHILDREN; i++) {
        chain[i] = cctx_with_cancel(i ? chain[i - 1] : cctx_background());
        CHECK(chain[i] != NULL);
    }
}

static void cancel_chain_from_below(void *arg)
{
    (void)arg;
    for (int i = CHILDREN; i-- > 0;)
        CHECK(cctx_cancel(chain[i]));
    for (int i = 0; i < CHILDREN; i++)
        CHECK(!cctx_cancel(chain[i]));
}

/* C25 */
static void many_small_cancels_make_no_system_call(void **state)
{
    (void)state;
    expect_no_system_call(make_chain, cancel_chain_from_below, __func__);
}

/* Waiters that have given up are no waiters. */
static void wait_a_little(unsigned index, void *arg)
{
    (void)arg;
    CHECK(!cctx_wait_for(chain[index * 7], CCTX_US(100)));
    CHECK(!cctx_wait_for(chain[CHILDREN - 1], CCTX_US(100)));
}

static void make_chain_and_wait_in_vain(void *arg)
{
    make_chain(arg);
    threads_run(4, wait_a_little, NULL);
}

static void cancel_chain_from_above(void *arg)
{
    (void)arg;
    CHECK(cctx_cancel(chain[0]));
    CHECK(cctx_err(chain[CHILDREN - 1]) == ECANCELED);
}

/* C25 */
static void a_wait_that_has_timed_out_costs_a_later_cancel_nothing(void **state)
{
    (void)state;
    expect_no_system_call(make_chain_and_wait_in_vain, cancel_chain_from_above, __func__);
}

static void cancel_one_by_deadline(void *arg)
{
    (void)arg;
    cctx_t *late = cctx_with_timeout(chain[0], 0);
    CHECK(cctx_err(late) == ETIMEDOUT);
    cctx_unref(late);
    CHECK(cctx_wait_for(chain[0], 0) == false);
    cancel_chain_from_above(NULL);
    CHECK(cctx_wait(chain[CHILDREN - 1]) == ECANCELED);
    CHECK(cctx_wait_for(chain[CHILDREN - 1], CCTX_S(1)));
    CHECK(cctx_wait_until(chain[CHILDREN - 1], CCTX_NEVER));
}

/* C25: a wait on what is done, or for no time, does not sleep. */
static void a_wait_that_need_not_sleep_makes_no_system_call(void **state)
{
    (void)state;
    expect_no_system_call(make_chain, cancel_one_by_deadline, __func__);
}

static void live_and_die(void *arg)
{
    (void)arg;
    static cctx_callback_t cb;
    for (int i = 0; i < TURNS; i++) {
        cctx_t *child = cctx_with_cancel(top);
        CHECK(child != NULL);
        CHECK(cctx_err(child) == 0 && !cctx_is_done(child) && cctx_cause(child) == NULL);
        CHECK(cctx_remaining(child) == CCTX_NEVER && !cctx_deadline(child, NULL));
        const cctx_t *value = cctx_with_value(child, &key[i % 20], &ran);
        CHECK(cctx_value(value, &key[i % 20]) == &ran);
        cctx_t *below = cctx_with_cancel(value);
        int err = cctx_after_func(below, &cb, run, NULL);
        CHECK(err == 0);
        CHECK(cctx_stop(&cb));
        cctx_unref(cctx_ref(below));
        if (i % 2)
            cctx_cancel(child);
        cctx_unref(value);
        cctx_unref(child);
        cctx_close(below);
        cctx_close(cctx_with_cancel(cctx_background()));
    }
}

static void warm_up(void *arg)
{
    make_tree(arg);
    live_and_die(arg);
}

/* C25: after the first turns the thread has what it needs. */
static void a_warm_life_of_contexts_makes_no_system_call(void **state)
{
    (void)state;
    expect_no_system_call(warm_up, live_and_die, __func__);
}

static void cancel_where_done_was_taken(void *arg)
{
    (void)arg;
    cctx_cancel(chain[0]);
}

static void make_chain_and_take_done(void *arg)
{
    make_chain(arg);
    CHECK(cctx_done(chain[CHILDREN / 2]) != NULL);
}

static void call_the_system_twice(void *arg)
{
    (void)arg;
    syscall(SYS_getppid);
    sched_yield();
}

/* C25: the count counts; and where cctx_done was taken the library wakes, since it cannot know who waits. */
static void the_count_sees_calls_that_are_made(void **state)
{
    (void)state;
    syscall_log_t log = syscalls_of(NULL, call_the_system_twice, NULL);
    if (log.count < 0) {
        print_message("not applicable: %s: no calls are counted here (no seccomp, or a sanitizer)\n", __func__);
        return;
    }
    assert_int_equal(log.count, 2);
    assert_int_equal(log.first, SYS_getppid);
    log = syscalls_of(make_chain_and_take_done, cancel_where_done_was_taken, NULL);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.first, TEST_SYS_FUTEX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_count_sees_calls_that_are_made),
        cmocka_unit_test(a_cancel_of_a_tree_that_nobody_waits_for_makes_no_system_call),
        cmocka_unit_test(many_small_cancels_make_no_system_call),
        cmocka_unit_test(a_wait_that_has_timed_out_costs_a_later_cancel_nothing),
        cmocka_unit_test(a_wait_that_need_not_sleep_makes_no_system_call),
        cmocka_unit_test(a_warm_life_of_contexts_makes_no_system_call),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
