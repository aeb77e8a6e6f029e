/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four threads arm, disarm, cancel, pass on and wait for deadlines, near and far, while the library fires
 * them: none is lost, none is early, and what was canceled before its time never reads as expired.
 */
#include "support.h"

#include <sched.h>

enum { THREADS = 4, SHELF = 64 };

#define HOUR CCTX_S(3600)

static const cctx_cause_t expired = {1, "expired in the race"};

static uint64_t seed;
/* Contexts on their way from one thread to another; exchanged. */
static cctx_t *shelf[SHELF];
static cctx_t *parent;
static unsigned armed, waited_for, fired_callbacks, stopped_callbacks, registered_callbacks;

static void add(unsigned *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static void raw_wait(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    CHECK(word != NULL);
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1u) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static cctx_time_t deadline_of(const cctx_t *ctx)
{
    cctx_time_t deadline = 0;
    CHECK(cctx_deadline(ctx, &deadline));
    return deadline;
}

/* Looks: if the context is done by its deadline, that has passed, and the cause is the one it was given. */
static void check_not_early(const cctx_t *ctx)
{
    int err = cctx_err(ctx);
    cctx_time_t now = cctx_now();
    CHECK(err == 0 || err == ECANCELED || err == ETIMEDOUT);
    if (err == ETIMEDOUT) {
        CHECK(now >= deadline_of(ctx));
        CHECK(cctx_cause(ctx) == &expired);
    }
    if (err == ECANCELED)
        CHECK(cctx_cause(ctx) == &cctx_canceled);
}

static int64_t some_timeout(rng_t *rng)
{
    switch (rng_below(rng, 6)) {
    case 0: return (int64_t)rng_below(rng, CCTX_US(20));
    case 1: return (int64_t)rng_below(rng, CCTX_US(200));
    case 2: return (int64_t)rng_below(rng, CCTX_MS(3));
    case 3: return CCTX_S(2);
    case 4: return CCTX_S(1) + (int64_t)rng_below(rng, CCTX_S(30));
    default: return HOUR;
    }
}

typedef struct call {
    cctx_callback_t cb;
    const cctx_t *ctx;
    cctx_time_t deadline;
    unsigned runs;
} call_t;

static void on_done(void *arg)
{
    call_t *call = arg;
    check_not_early(call->ctx);
    CHECK(cctx_err(call->ctx) != 0);
    call->runs++;
    add(&fired_callbacks);
}

static void wait_and_check(cctx_t *ctx)
{
    if (deadline_of(ctx) - cctx_now() < CCTX_MS(10)) {
        raw_wait(ctx);
        add(&waited_for);
    }
    check_not_early(ctx);
}

static const int turns = TEST_SANITIZED ? 8000 : 40000;

static void arm_and_disarm(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, index);
    (void)arg;
    for (int turn = 0; turn < turns; turn++) {
        const cctx_t *above = rng_below(&rng, 3) ? cctx_background() : parent;
        cctx_t *ctx = cctx_with_timeout_cause(above, some_timeout(&rng), &expired);
        CHECK(ctx != NULL);
        add(&armed);
        switch (rng_below(&rng, 8)) {
        case 0: /* dropped at once */
            cctx_unref(ctx);
            break;
        case 1: {
            bool won = cctx_cancel(ctx);
            CHECK(cctx_err(ctx) == (won ? ECANCELED : ETIMEDOUT));
            check_not_early(ctx);
            cctx_unref(ctx);
            break;
        }
        case 2: /* waited for, if that is not for long */
            if (deadline_of(ctx) - cctx_now() < CCTX_US(300))
                wait_and_check(ctx);
            cctx_unref(ctx);
            break;
        case 3: { /* a callback that runs or is stopped */
            call_t call = {.ctx = ctx};
            CHECK(cctx_after_func(ctx, &call.cb, on_done, &call) == 0);
            add(&registered_callbacks);
            /* Often the stop comes just when the deadline has passed and fn is about to start. */
            if (rng_below(&rng, 4) && deadline_of(ctx) - cctx_now() < CCTX_US(300))
                raw_wait(ctx);
            if (rng_below(&rng, 2))
                sched_yield();
            bool stopped = cctx_stop_wait(&call.cb);
            CHECK(call.runs == !stopped);
            if (stopped)
                add(&stopped_callbacks);
            cctx_close(ctx);
            break;
        }
        case 4: { /* children, which outlive it */
            cctx_t *child = cctx_with_timeout_cause(ctx, some_timeout(&rng), &expired);
            CHECK(deadline_of(child) <= deadline_of(ctx));
            cctx_unref(ctx);
            check_not_early(child);
            if (deadline_of(child) - cctx_now() < CCTX_US(300))
                wait_and_check(child);
            cctx_close(child);
            break;
        }
        default: { /* passed on: whoever takes it looks, cancels, waits or drops it */
            ctx = __atomic_exchange_n(&shelf[rng_below(&rng, SHELF)], ctx, __ATOMIC_ACQ_REL);
            if (!ctx)
                break;
            check_not_early(ctx);
            uint64_t kind = rng_below(&rng, 4);
            if (kind == 0)
                cctx_cancel(ctx);
            else if (kind == 1 && deadline_of(ctx) - cctx_now() < CCTX_US(300))
                wait_and_check(ctx);
            cctx_unref(ctx);
            break;
        }
        }
    }
}

/* C9, C11, C13, C14, C21, C28 */
static void four_threads_arm_disarm_and_cancel_and_no_deadline_is_lost_or_early(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(100);
    parent = cctx_with_timeout(cctx_background(), HOUR);
    threads_run(THREADS, arm_and_disarm, NULL);
    for (size_t i = 0; i < SHELF; i++) {
        if (shelf[i]) {
            wait_and_check(shelf[i]);
            cctx_unref(shelf[i]);
            shelf[i] = NULL;
        }
    }
    assert_int_equal(fired_callbacks + stopped_callbacks, registered_callbacks);
    assert_int_equal(cctx_err(parent), 0);
    print_message("%u deadlines, %u of them waited for; of %u callbacks %u ran\n", armed, waited_for,
                  registered_callbacks, fired_callbacks);
    cctx_close(parent);
}

static const int bell_rounds = TEST_SANITIZED ? 2000 : 8000;

/* Each thread arms a deadline that is earlier than the others' and waits, often by the word alone. */
static void overtake(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, 50 + index);
    (void)arg;
    for (int round = 0; round < bell_rounds; round++) {
        int64_t more = CCTX_MS(2) + (int64_t)rng_below(&rng, CCTX_S(3));
        int64_t less = (int64_t)rng_below(&rng, CCTX_US(120));
        cctx_t *late = cctx_with_timeout_cause(cctx_background(), more, &expired);
        cctx_t *soon = cctx_with_timeout_cause(cctx_background(), less, &expired);
        if (rng_below(&rng, 2)) {
            cctx_unref(late);
            late = NULL;
        }
        if (rng_below(&rng, 2))
            raw_wait(soon);
        else
            CHECK(cctx_wait(soon) == ETIMEDOUT);
        CHECK(cctx_err(soon) == ETIMEDOUT);
        check_not_early(soon);
        if (late)
            check_not_early(late);
        cctx_unref(soon);
        cctx_unref(late);
    }
}

/* C9, C13, C27 */
static void the_earliest_of_four_threads_deadlines_is_never_slept_through(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(100);
    threads_run(THREADS, overtake, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_threads_arm_disarm_and_cancel_and_no_deadline_is_lost_or_early),
        cmocka_unit_test(the_earliest_of_four_threads_deadlines_is_never_slept_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
