/* SPDX-License-Identifier: BSD-2-Clause */
/* futex: no sleep on a word that has changed, none beyond its time, and a wake reaches all. */
#include "support.h"

#include "clock.h"
#include "futex.h"

static void a_word_that_differs_is_not_slept_on(void **state)
{
    (void)state;
    sync_u32 word = {7};
    watchdog(60);
    errno = 77;
    assert_true(futex_wait(&word, 6, INT64_MAX));
    assert_true(futex_wait(&word, 6, clock_now() + CCTX_S(3600)));
    assert_int_equal(errno, 77);
}

static void a_time_that_has_passed_ends_the_sleep(void **state)
{
    (void)state;
    sync_u32 word = {0};
    const int64_t passed[] = {INT64_MIN, -1, 0, 1, clock_now()};
    watchdog(60);
    errno = 77;
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) assert_false(futex_wait(&word, 0, passed[i]));
    assert_int_equal(errno, 77);
}

static void a_time_to_come_is_waited_out(void **state)
{
    (void)state;
    sync_u32 word = {0};
    watchdog(60);
    for (int64_t ns = 1; ns < 20000000; ns *= 7) {
        int64_t until = clock_now() + ns;
        while (futex_wait(&word, 0, until)) {}
        assert_true(clock_now() >= until);
    }
}

enum { SLEEPERS = 8, ROUNDS = 300 };
static sync_u32 round_word;
static sync_u32 awake;

static void sleep_through_rounds(unsigned index, void *arg)
{
    (void)arg;
    if (index == 0) {
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            sync_add_acqrel(&round_word, 1u, done, none);
            futex_wake(&round_word);
            uint32_t n;
            while ((n = sync_load_acq(&awake, done)) < round * SLEEPERS) futex_wait(&awake, n, INT64_MAX);
        }
        return;
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        while (sync_load_acq(&round_word, done) == round) futex_wait(&round_word, round, INT64_MAX);
        sync_add_acqrel(&awake, 1u, done, none);
        futex_wake(&awake);
    }
}

/* A sleeper that is missed hangs the round. */
static void a_wake_reaches_every_sleeper(void **state)
{
    (void)state;
    watchdog(100);
    threads_run(SLEEPERS + 1, sleep_through_rounds, NULL);
    assert_int_equal(sync_load_acq(&awake, done), SLEEPERS * ROUNDS);
    errno = 77;
    futex_wake(&round_word);
    assert_int_equal(errno, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_that_differs_is_not_slept_on),
        cmocka_unit_test(a_time_that_has_passed_ends_the_sleep),
        cmocka_unit_test(a_time_to_come_is_waited_out),
        cmocka_unit_test(a_wake_reaches_every_sleeper),
    };
    return cmocka_run_group_tests_name("futex", tests, NULL, NULL);
}
