/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * done: waiters, timed waiters, exposers and flippers meet on one word, round after round. Asserts: one flip
 * wins (the word's rules), a waiter returns once the word is done (claim D1), a timed one is not early, and
 * all who gave up are counted out. A lost wake hangs its round: the watchdog then ends the test.
 */
#include "support.h"

#include "clock.h"
#include "done.h"

enum { THREADS = 4, ROUNDS = 20000 };

static pthread_barrier_t barrier;
static sync_u32 word, winners, gave_up;
static uint64_t seed;

static void flip(uint32_t bits)
{
    uint32_t old = done_flip(&word, bits);
    if (!(old & DONE)) sync_add_relaxed(&winners, 1u, stat);
    if (done_sleepers(old)) done_wake(&word);
    CHECK(sync_load_acq(&word, done) & DONE);
}

static void wait_until(int64_t until)
{
    bool is_done = done_wait(&word, until);
    if (is_done) {
        CHECK(sync_load_acq(&word, done) & DONE);
    } else {
        CHECK(clock_now() >= until);
        sync_add_relaxed(&gave_up, 1u, stat);
    }
}

/* In one round of three nobody flips: then all waits end by their time, and no count is left. */
static void take_part(unsigned index, void *arg)
{
    (void)arg;
    rng_t rng = rng_make(seed, index);
    for (unsigned round = 0; round < SCALED(ROUNDS); round++) {
        bool flipped = round % 3 != 0, flipper = flipped && index == round % THREADS;
        pthread_barrier_wait(&barrier);
        for (uint64_t pause = rng_below(&rng, 300); pause > 0; pause--)
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        uint64_t dice = rng_below(&rng, 8);
        if (flipper || (flipped && dice == 0)) flip(index % 2 ? (uint32_t)TIMEDOUT : 0);
        else if (dice == 1) done_expose(&word);
        else if (dice < 4 && flipped) wait_until(INT64_MAX);
        else wait_until(clock_now() + (int64_t)rng_below(&rng, 30000));
        pthread_barrier_wait(&barrier);
        if (index != 0) continue;
        uint32_t s = sync_load_acq(&word, done);
        CHECK(sync_load_relaxed(&winners, stat) == flipped);
        CHECK(flipped ? (s & DONE) != 0 : s < DONE_WAITER);
        sync_store_relaxed(&word, 0u, owned);
        sync_store_relaxed(&winners, 0u, stat);
    }
}

static void no_wake_is_lost_and_one_flip_wins(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(280);
    pthread_barrier_init(&barrier, NULL, THREADS);
    threads_run(THREADS, take_part, NULL);
    pthread_barrier_destroy(&barrier);
    assert_true(sync_load_relaxed(&gave_up, stat) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_wake_is_lost_and_one_flip_wins)};
    return cmocka_run_group_tests_name("done_stress", tests, NULL, NULL);
}
