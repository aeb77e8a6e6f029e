/* SPDX-License-Identifier: BSD-2-Clause */
/* done: one flip decides, a waiter is counted in the word it waits for, and nobody is woken for nothing. */
#include "support.h"

#include <sched.h>

#include "clock.h"
#include "done.h"

static uint32_t now_in(sync_u32 *word) { return sync_load_acq(word, done); }

static void the_first_flip_decides_for_ever(void **state)
{
    (void)state;
    sync_u32 word = {5u << 12};
    assert_int_equal(done_flip(&word, TIMEDOUT | 4u), 5u << 12);
    assert_int_equal(now_in(&word), DONE | TIMEDOUT | 4u | 5u << 12);
    assert_int_equal(done_flip(&word, 8u), DONE | TIMEDOUT | 4u | 5u << 12);
    assert_int_equal(now_in(&word), DONE | TIMEDOUT | 4u | 5u << 12);
}

static void only_who_may_sleep_is_worth_a_wake(void **state)
{
    (void)state;
    assert_false(done_sleepers(0));
    assert_false(done_sleepers(DONE | TIMEDOUT | 15u << 12));
    assert_true(done_sleepers(DONE_WAITER));
    assert_true(done_sleepers(DONE_MANY | DONE));
    assert_true(done_sleepers(EXPOSED));
    assert_false(done_sleepers(DONE_WAITER | WOKEN));
    assert_false(done_sleepers(EXPOSED | DONE | WOKEN));
}

static void a_done_word_is_not_waited_for(void **state)
{
    (void)state;
    sync_u32 word = {DONE};
    assert_true(done_wait(&word, INT64_MAX));
    assert_true(done_wait(&word, INT64_MIN));
    assert_int_equal(now_in(&word), DONE);
}

static void a_waiter_whose_time_has_come_is_counted_out(void **state)
{
    (void)state;
    sync_u32 word = {3u << 12};
    assert_false(done_wait(&word, INT64_MIN));
    int64_t until = clock_now() + CCTX_MS(5);
    assert_false(done_wait(&word, until));
    assert_true(clock_now() >= until);
    assert_int_equal(now_in(&word), 3u << 12);
}

/* Beyond 254 nobody knows how many there are, so the count stays for ever. */
static void many_waiters_are_many_for_ever(void **state)
{
    (void)state;
    sync_u32 word = {253u * DONE_WAITER};
    assert_false(done_wait(&word, clock_now() + CCTX_MS(1)));
    assert_int_equal(now_in(&word), 253u * DONE_WAITER);
    sync_add_acqrel(&word, DONE_WAITER, none, none);
    assert_false(done_wait(&word, 0));          /* a look, without being counted */
    assert_int_equal(now_in(&word), 254u * DONE_WAITER);
    assert_false(done_wait(&word, clock_now() + CCTX_MS(1)));
    assert_int_equal(now_in(&word), DONE_MANY);
    assert_false(done_wait(&word, clock_now() + CCTX_MS(1)));
    assert_int_equal(now_in(&word), DONE_MANY);
    assert_true(done_sleepers(done_flip(&word, 0)));
}

static void an_exposed_word_stays_exposed(void **state)
{
    (void)state;
    sync_u32 word = {3u << 12};
    done_expose(&word);
    done_expose(&word);
    assert_int_equal(now_in(&word), EXPOSED | 3u << 12);
    assert_true(done_sleepers(done_flip(&word, 0)));
    done_wake(&word);
    assert_int_equal(now_in(&word), DONE | WOKEN | EXPOSED | 3u << 12);
    assert_false(done_sleepers(now_in(&word)));
}

static void *wait_for_it(void *arg)
{
    bool is_done = done_wait(arg, INT64_MAX);
    CHECK(is_done && (now_in(arg) & DONE));
    return NULL;
}

/* Claim D1: other bits come and go under a sleeper; it returns when the word is done. */
static void a_sleeper_returns_once_the_word_is_done(void **state)
{
    (void)state;
    watchdog(100);
    for (int round = 0; round < 100; round++) {
        sync_u32 word = {0};
        pthread_t waiter = thread_start(wait_for_it, &word);
        while (now_in(&word) < DONE_WAITER) sched_yield();
        if (round % 2)
            sync_or_acqrel(&word, 1u << 5, none, none);      /* it wakes by the change, or sleeps on */
        if (round % 4 == 3) done_expose(&word);
        uint32_t old = done_flip(&word, 0);
        assert_true(done_sleepers(old));
        done_wake(&word);
        thread_join(waiter);
    }
}

static void flip_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        sync_u32 word = {0};
        if (done_sleepers(done_flip(&word, 0))) done_wake(&word);
    }
}

static void wake_one(void *arg)
{
    (void)arg;
    sync_u32 word = {EXPOSED};
    if (done_sleepers(done_flip(&word, 0))) done_wake(&word);
}

/* Claim D2; and one call where somebody may sleep. */
static void a_flip_that_nobody_waits_for_makes_no_system_call(void **state)
{
    (void)state;
    syscall_log_t none = syscalls_of(flip_many, flip_many, NULL), one = syscalls_of(wake_one, wake_one, NULL);
    if (none.count < 0 || one.count < 0) {
        print_message("not applicable: system calls cannot be counted here\n");
        return;
    }
    assert_int_equal(none.count, 0);
    assert_int_equal(one.count, 1);
    assert_int_equal(one.first, TEST_SYS_FUTEX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_flip_decides_for_ever),
        cmocka_unit_test(only_who_may_sleep_is_worth_a_wake),
        cmocka_unit_test(a_done_word_is_not_waited_for),
        cmocka_unit_test(a_waiter_whose_time_has_come_is_counted_out),
        cmocka_unit_test(many_waiters_are_many_for_ever),
        cmocka_unit_test(an_exposed_word_stays_exposed),
        cmocka_unit_test(a_sleeper_returns_once_the_word_is_done),
        cmocka_unit_test(a_flip_that_nobody_waits_for_makes_no_system_call),
    };
    return cmocka_run_group_tests_name("done", tests, NULL, NULL);
}
