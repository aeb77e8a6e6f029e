/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waits of every kind against cancel, deadline and their own time, in thousands of rounds: no wake is lost,
 * none is early, and all waiters of a round agree on what ended it. A lost wake hangs a round: the watchdog
 * then ends the test.
 */
#include "support.h"

#include <sched.h>

enum { WAITERS = 3, DEPTH = 6 };

#define HOUR CCTX_S(3600)

static const cctx_key_t key = {"key", NULL};
static const cctx_cause_t canceled = {1, "canceled in the race"}, expired = {2, "expired in the race"};

static uint64_t seed;
static pthread_barrier_t barrier;
static const cctx_t *chain[DEPTH];
static cctx_t *top;

static void meet(void)
{
    pthread_barrier_wait(&barrier);
}

static void spin(rng_t *rng, uint64_t most)
{
    for (uint64_t i = rng_below(rng, most + 1); i > 0; i--)
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void raw_wait(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    CHECK(word != NULL);
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1u) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

/* What a done context must look like, whoever ended it. */
static void check_done(const cctx_t *ctx)
{
    cctx_time_t deadline = 0, now = cctx_now();
    int err = cctx_err(ctx);
    CHECK(cctx_is_done(ctx));
    CHECK(err == ECANCELED || err == ETIMEDOUT);
    CHECK(cctx_cause(ctx) == (err == ECANCELED ? &canceled : &expired));
    CHECK(cctx_err(top) == err && cctx_cause(top) == cctx_cause(ctx));
    if (err == ETIMEDOUT)
        CHECK(cctx_deadline(ctx, &deadline) && now >= deadline);
}

/* Waits until done, by one call or by any number of timed ones that are too short. */
static void wait_somehow(rng_t *rng, const cctx_t *ctx)
{
    for (;;) {
        cctx_time_t until;
        switch (rng_below(rng, 5)) {
        case 0: {
            int err = cctx_wait(ctx);
            CHECK(err == cctx_err(ctx));
            return;
        }
        case 1: raw_wait(ctx); return;
        case 2: CHECK(cctx_wait_until(ctx, cctx_now() + HOUR)); return;
        case 3:
            until = cctx_now() + (int64_t)rng_below(rng, CCTX_US(60));
            if (cctx_wait_until(ctx, until))
                return;
            CHECK(cctx_now() >= until);
            break;
        default: {
            int64_t timeout = (int64_t)rng_below(rng, CCTX_US(60));
            until = cctx_now() + timeout;
            if (cctx_wait_for(ctx, timeout))
                return;
            CHECK(cctx_now() >= until);
            break;
        }
        }
    }
}

static const int rounds = TEST_SANITIZED ? 6000 : 20000;

/* Thread 0 makes a chain with a deadline, near or far, and cancels it; the others wait somewhere in it. */
static void wait_race(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, index);
    (void)arg;
    for (int round = 0; round < rounds; round++) {
        if (index == 0) {
            int64_t timeout = rng_below(&rng, 2) ? HOUR : 1 + (int64_t)rng_below(&rng, CCTX_US(150));
            top = cctx_with_timeout_cause(cctx_background(), timeout, &expired);
            for (size_t i = 0; i < DEPTH; i++) {
                const cctx_t *above = i ? chain[i - 1] : top;
                switch (rng_below(&rng, 3)) {
                case 0: chain[i] = cctx_with_cancel(above); break;
                case 1: chain[i] = cctx_with_value(above, &key, NULL); break;
                default: chain[i] = cctx_with_timeout(above, HOUR + 1); break;
                }
            }
        }
        meet();
        spin(&rng, rng_below(&rng, 4) ? 300 : 20000);
        if (index == 0) {
            bool never_canceled = false;
            cctx_time_t deadline = 0;
            CHECK(cctx_deadline(top, &deadline));
            if (deadline - cctx_now() < CCTX_MS(1))
                never_canceled = rng_below(&rng, 2);
            if (!never_canceled)
                cctx_cancel_cause(top, &canceled);
        } else {
            const cctx_t *ctx = chain[rng_below(&rng, DEPTH)];
            wait_somehow(&rng, ctx);
            check_done(ctx);
        }
        meet();
        if (index == 0) {
            for (size_t i = DEPTH; i-- > 0;) {
                raw_wait(chain[i]);
                check_done(chain[i]);
                cctx_unref(chain[i]);
            }
            cctx_unref(top);
        }
    }
}

/* C1, C2, C4, C13, C24 */
static void no_wake_is_lost_between_wait_cancel_and_deadline(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(100);
    CHECK(pthread_barrier_init(&barrier, NULL, 1 + WAITERS) == 0);
    threads_run(1 + WAITERS, wait_race, NULL);
    pthread_barrier_destroy(&barrier);
}

static const int crowd_rounds = TEST_SANITIZED ? 400 : 1500;

/* Waiters come and go on one context, leaving by their own time, until a cancel catches them anywhere. */
static void coming_and_going(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, 100 + index);
    (void)arg;
    for (int round = 0; round < crowd_rounds; round++) {
        if (index == 0)
            top = cctx_with_timeout_cause(cctx_background(), HOUR, &expired);
        meet();
        if (index == 0) {
            struct timespec pause = {0, (long)rng_below(&rng, 400000)};
            nanosleep(&pause, NULL);
            CHECK(cctx_cancel_cause(top, &canceled));
        } else {
            for (;;) {
                int64_t timeout = (int64_t)rng_below(&rng, CCTX_US(4));
                cctx_time_t until = cctx_now() + timeout;
                if (cctx_wait_for(top, timeout))
                    break;
                CHECK(cctx_now() >= until);
                if (rng_below(&rng, 8) == 0) {
                    CHECK(cctx_wait(top) == ECANCELED);
                    break;
                }
            }
            check_done(top);
        }
        meet();
        if (index == 0)
            cctx_unref(top);
    }
}

/* C24 */
static void no_wake_is_lost_where_waiters_come_and_go(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(100);
    CHECK(pthread_barrier_init(&barrier, NULL, 5) == 0);
    threads_run(5, coming_and_going, NULL);
    pthread_barrier_destroy(&barrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_is_lost_between_wait_cancel_and_deadline),
        cmocka_unit_test(no_wake_is_lost_where_waiters_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
