/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Deadlines as a caller sees them: which one is effective, that none fires early and each fires although no
 * thread of the program calls the library meanwhile, and what an armed and disarmed one leaves behind.
 */
#include "support.h"

#define HOUR CCTX_S(3600)

/* How often this thread has read a clock: the library's reads come through here too. */
static __thread unsigned clock_reads;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    clock_reads++;
    /* Times of 64 bits on a processor of 32 have a call of their own. */
#ifdef SYS_clock_gettime64
    if (sizeof ts->tv_sec > sizeof(long))
        return (int)syscall(SYS_clock_gettime64, id, ts);
#endif
    return (int)syscall(SYS_clock_gettime, id, ts);
}

/* Waits for the done word with the system call alone: the library does not know that anybody waits. */
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

static void raw_wait_and_check(const cctx_t *ctx)
{
    raw_wait(ctx);
    cctx_time_t now = cctx_now();
    CHECK(now >= deadline_of(ctx));
    CHECK(cctx_err(ctx) == ETIMEDOUT);
    CHECK(cctx_cause(ctx) == &cctx_deadline_exceeded);
    CHECK(cctx_remaining(ctx) == 0);
}

static void shuffle(rng_t *rng, cctx_t **contexts, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(rng, i);
        cctx_t *swap = contexts[i - 1];
        contexts[i - 1] = contexts[j];
        contexts[j] = swap;
    }
}

static cctx_t **array_of(size_t n)
{
    cctx_t **array = calloc(n, sizeof *array);
    assert_non_null(array);
    return array;
}

/* ---- which deadline ---- */

/* C11 */
static void the_earlier_of_both_deadlines_is_effective(void **state)
{
    (void)state;
    cctx_time_t now = cctx_now();
    cctx_t *parent = cctx_with_deadline(cctx_background(), now + HOUR);
    cctx_t *earlier = cctx_with_deadline(parent, now + HOUR - 1);
    cctx_t *equal = cctx_with_deadline(parent, now + HOUR);
    cctx_t *later = cctx_with_deadline(parent, now + HOUR + 1);
    cctx_t *none = cctx_with_cancel(later);
    assert_int_equal(deadline_of(parent), now + HOUR);
    assert_int_equal(deadline_of(earlier), now + HOUR - 1);
    assert_int_equal(deadline_of(equal), now + HOUR);
    assert_int_equal(deadline_of(later), now + HOUR);
    assert_int_equal(deadline_of(none), now + HOUR);
    assert_true(cctx_remaining(none) > 0 && cctx_remaining(none) <= HOUR);
    cctx_t *all[] = {none, later, equal, earlier, parent};
    for (size_t i = 0; i < 5; i++)
        cctx_close(all[i]);
}

/* Were a child's timer armed, it might be the first to fire, and its cause would tell. C9, C11 */
static void a_deadline_no_earlier_than_the_parents_is_the_parents_to_fire(void **state)
{
    (void)state;
    enum { N = 300 };
    static const cctx_cause_t parents = {1, "the parent's"}, childs = {2, "the child's"};
    cctx_t *parent[N], *equal[N], *later[N];
    bool in_time = false;
    /* Where the machine is so slow that the deadline passes during the derivations, a longer one is tried. */
    for (int64_t timeout = CCTX_MS(50); !in_time; timeout *= 2) {
        cctx_time_t deadline = cctx_now() + timeout;
        for (size_t i = 0; i < N; i++) {
            parent[i] = cctx_with_deadline_cause(cctx_background(), deadline, &parents);
            equal[i] = cctx_with_deadline_cause(parent[i], deadline, &childs);
            later[i] = cctx_with_deadline_cause(parent[i], deadline + 1, &childs);
        }
        in_time = cctx_now() < deadline;
        for (size_t i = N; i-- > 0;) {
            raw_wait(later[i]);
            raw_wait(equal[i]);
            assert_true(cctx_now() >= deadline);
            if (in_time) {
                assert_ptr_equal(cctx_cause(parent[i]), &parents);
                assert_ptr_equal(cctx_cause(equal[i]), &parents);
                assert_ptr_equal(cctx_cause(later[i]), &parents);
            }
            cctx_unref(later[i]);
            cctx_unref(equal[i]);
            cctx_unref(parent[i]);
        }
    }
}

/* C9, C11 */
static void a_child_with_an_earlier_deadline_ends_alone_with_its_own_cause(void **state)
{
    (void)state;
    static const cctx_cause_t parents = {1, "the parent's"}, childs = {2, "the child's"};
    cctx_t *parent = cctx_with_timeout_cause(cctx_background(), HOUR, &parents);
    cctx_t *child = cctx_with_timeout_cause(parent, CCTX_MS(2), &childs);
    cctx_t *grandchild = cctx_with_cancel(child);
    raw_wait(grandchild);
    assert_int_equal(cctx_err(grandchild), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(grandchild), &childs);
    assert_ptr_equal(cctx_cause(child), &childs);
    assert_int_equal(cctx_err(parent), 0);
    assert_null(cctx_cause(parent));
    cctx_unref(grandchild);
    cctx_unref(child);
    cctx_close(parent);
}

/* C12 */
static void a_deadline_that_has_passed_gives_a_context_born_done(void **state)
{
    (void)state;
    static const cctx_cause_t cause = {3, "too late"};
    const int64_t timeouts[] = {0, -1, -CCTX_S(1), INT64_MIN + 1, INT64_MIN};
    cctx_t *live = cctx_with_timeout(cctx_background(), HOUR);
    for (size_t i = 0; i < 5; i++) {
        for (int under = 0; under < 2; under++) {
            const cctx_t *parent = under ? live : cctx_background();
            cctx_time_t at = timeouts[i] < -CCTX_S(3600) ? INT64_MIN : cctx_now() + timeouts[i];
            cctx_t *all[] = {
                cctx_with_timeout(parent, timeouts[i]),
                cctx_with_deadline(parent, at),
                cctx_with_timeout_cause(parent, timeouts[i], &cause),
                cctx_with_deadline_cause(parent, at, &cause),
            };
            for (size_t j = 0; j < 4; j++) {
                assert_non_null(all[j]);
                assert_int_equal(cctx_err(all[j]), ETIMEDOUT);
                assert_ptr_equal(cctx_cause(all[j]), j < 2 ? &cctx_deadline_exceeded : &cause);
                assert_int_equal(cctx_remaining(all[j]), 0);
                assert_false(cctx_cancel(all[j]));
                assert_int_equal(cctx_err(all[j]), ETIMEDOUT);
                assert_int_equal(cctx_wait(all[j]), ETIMEDOUT);
                cctx_t *child = cctx_with_cancel(all[j]);
                assert_int_equal(cctx_err(child), ETIMEDOUT);
                assert_ptr_equal(cctx_cause(child), cctx_cause(all[j]));
                cctx_unref(child);
                cctx_unref(all[j]);
            }
        }
    }
    assert_int_equal(cctx_err(live), 0);
    cctx_close(live);
}

/* C3, C12 */
static void a_deadline_below_a_canceled_parent_is_born_canceled(void **state)
{
    (void)state;
    static const cctx_cause_t parents = {1, "the parent's"}, childs = {2, "the child's"};
    cctx_t *parent = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_cause(parent, &parents));
    const int64_t timeouts[] = {-1, 0, 1, HOUR, INT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        cctx_t *child = cctx_with_timeout_cause(parent, timeouts[i], &childs);
        assert_int_equal(cctx_err(child), ECANCELED);
        assert_ptr_equal(cctx_cause(child), &parents);
        cctx_unref(child);
    }
    cctx_unref(parent);
}

/* C11, C12, C14 */
static void time_saturates_at_never(void **state)
{
    (void)state;
    cctx_time_t deadline = 0;
    cctx_t *forever[] = {
        cctx_with_timeout(cctx_background(), INT64_MAX),
        cctx_with_timeout(cctx_background(), INT64_MAX - 1),
        cctx_with_deadline(cctx_background(), CCTX_NEVER),
    };
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(forever[i]);
        assert_int_equal(cctx_err(forever[i]), 0);
        assert_false(cctx_deadline(forever[i], &deadline));
        assert_int_equal(cctx_remaining(forever[i]), CCTX_NEVER);
        assert_false(cctx_wait_for(forever[i], CCTX_US(10)));
        cctx_t *child = cctx_with_timeout(forever[i], HOUR);
        assert_true(cctx_deadline(child, &deadline));
        cctx_unref(child);
        assert_true(cctx_cancel(forever[i]));
        cctx_unref(forever[i]);
    }
    cctx_t *last = cctx_with_deadline(cctx_background(), CCTX_NEVER - 1);
    assert_int_equal(deadline_of(last), CCTX_NEVER - 1);
    assert_int_equal(cctx_err(last), 0);
    assert_true(cctx_remaining(last) > CCTX_S(1000000));
    cctx_close(last);
}

/* C15 */
static void a_derivation_reads_the_monotonic_clock_once(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_timeout(cctx_background(), HOUR);
    unsigned before = clock_reads;
    cctx_time_t low = cctx_now();
    assert_int_equal(clock_reads - before, 1);
    before = clock_reads;
    cctx_t *a = cctx_with_timeout(cctx_background(), HOUR);
    assert_int_equal(clock_reads - before, 1);
    before = clock_reads;
    cctx_t *b = cctx_with_timeout(parent, CCTX_S(60));
    assert_int_equal(clock_reads - before, 1);
    before = clock_reads;
    cctx_t *c = cctx_with_deadline(parent, low + CCTX_S(60));
    assert_true(clock_reads - before <= 1);
    before = clock_reads;
    cctx_t *d = cctx_with_cancel(parent);
    assert_int_equal(clock_reads - before, 0);
    int64_t high = now_ns();
    assert_in_range(deadline_of(a) - HOUR, low, high);
    assert_in_range(deadline_of(b) - CCTX_S(60), low, high);
    cctx_t *all[] = {d, c, b, a, parent};
    for (size_t i = 0; i < 5; i++)
        cctx_close(all[i]);
}

/* ---- when it fires ---- */

/* C13 */
static void no_deadline_is_ever_seen_to_fire_early(void **state)
{
    (void)state;
    enum { N = 4000 };
    rng_t rng = rng_make(test_seed(), 10);
    cctx_t **contexts = array_of(N);
    for (size_t i = 0; i < N; i++)
        contexts[i] = cctx_with_timeout(cctx_background(), (int64_t)rng_below(&rng, CCTX_MS(60)));
    for (size_t left = N; left > 0;) {
        for (size_t i = 0; i < left; i++) {
            if (cctx_is_done(contexts[i])) {
                cctx_time_t now = cctx_now();
                assert_true(now >= deadline_of(contexts[i]));
                assert_int_equal(cctx_err(contexts[i]), ETIMEDOUT);
                cctx_unref(contexts[i]);
                contexts[i--] = contexts[--left];
            }
        }
        sched_yield();
    }
    free(contexts);
}

/* C13, C14 */
static void a_hundred_thousand_deadlines_all_fire_though_no_thread_looks(void **state)
{
    (void)state;
    const size_t n = (size_t)SCALED(100000);
    rng_t rng = rng_make(test_seed(), 11);
    cctx_t **contexts = array_of(n);
    for (size_t i = 0; i < n; i++) {
        contexts[i] = cctx_with_timeout(cctx_background(), (int64_t)rng_below(&rng, CCTX_MS(400)));
        assert_non_null(contexts[i]);
    }
    shuffle(&rng, contexts, n);
    for (size_t i = 0; i < n; i++) {
        raw_wait_and_check(contexts[i]);
        cctx_unref(contexts[i]);
    }
    free(contexts);
}

/* C13, C14 */
static void the_deadlines_that_are_left_fire_after_the_others_were_disarmed(void **state)
{
    (void)state;
    enum { N = 20000 };
    rng_t rng = rng_make(test_seed(), 12);
    cctx_t **contexts = array_of(N);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    size_t left = 0;
    for (size_t i = 0; i < N; i++) {
        contexts[i] = cctx_with_timeout(i % 2 ? parent : cctx_background(),
                                        (int64_t)(CCTX_MS(20) + rng_below(&rng, CCTX_MS(80))));
    }
    for (size_t i = 0; i < N; i++) {
        if (rng_below(&rng, 2))
            contexts[left++] = contexts[i];
        else
            cctx_unref(contexts[i]);
    }
    for (size_t i = 0; i < left; i++) {
        raw_wait_and_check(contexts[i]);
        cctx_unref(contexts[i]);
    }
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(parent);
    free(contexts);
}

/* C13 */
static void thousands_of_deadlines_due_at_one_moment_all_fire(void **state)
{
    (void)state;
    enum { N = 10000 };
    cctx_t **contexts = array_of(N);
    for (int round = 0; round < 3; round++) {
        cctx_time_t deadline = cctx_now() + CCTX_MS(30);
        for (size_t i = 0; i < N; i++)
            contexts[i] = cctx_with_deadline(cctx_background(), deadline);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(deadline_of(contexts[i]), deadline);
            raw_wait_and_check(contexts[i]);
            cctx_unref(contexts[i]);
        }
    }
    free(contexts);
}

/* Whether the service sleeps for the later deadline or is still on its way there, each earlier one must reach
   it: were one missed, this test would wait for an hour. C13 */
static void an_earlier_deadline_fires_though_a_later_one_is_slept_for(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 13);
    for (int i = 0; i < 300; i++) {
        int64_t timeout = (int64_t)rng_below(&rng, CCTX_US(500));
        cctx_t *late = cctx_with_timeout(cctx_background(), HOUR);
        cctx_t *middle = cctx_with_timeout(late, CCTX_S(60));
        struct timespec pause = {0, (long)rng_below(&rng, 300000)};
        nanosleep(&pause, NULL);
        cctx_t *soon = cctx_with_timeout(i % 2 ? middle : cctx_background(), timeout);
        raw_wait_and_check(soon);
        assert_int_equal(cctx_err(late), 0);
        assert_int_equal(cctx_err(middle), 0);
        cctx_unref(soon);
        cctx_unref(middle);
        cctx_unref(late);
    }
}

/* C13 */
static void deadlines_beyond_a_second_fire_too(void **state)
{
    (void)state;
    enum { N = 60 };
    rng_t rng = rng_make(test_seed(), 14);
    cctx_t *contexts[N];
    for (size_t i = 0; i < N; i++)
        contexts[i] =
            cctx_with_timeout(cctx_background(), CCTX_S(1) + (int64_t)rng_below(&rng, CCTX_MS(700)));
    for (size_t i = 0; i < 1000; i++)
        cctx_unref(cctx_with_timeout(cctx_background(), CCTX_S(1) + (int64_t)rng_below(&rng, CCTX_S(100))));
    for (size_t i = 0; i < N; i++) {
        raw_wait_and_check(contexts[i]);
        cctx_unref(contexts[i]);
    }
}

/* C3, C11, C13 */
static void the_deadline_of_a_parent_reaches_all_its_descendants(void **state)
{
    (void)state;
    enum { N = 2000 };
    static const cctx_key_t key = {"key", NULL};
    static const cctx_cause_t cause = {4, "the day is over"};
    const cctx_t *contexts[N];
    cctx_t *parent = cctx_with_timeout_cause(cctx_background(), CCTX_MS(30), &cause);
    rng_t rng = rng_make(test_seed(), 15);
    for (size_t i = 0; i < N; i++) {
        const cctx_t *above = i ? contexts[rng_below(&rng, i)] : parent;
        switch (i % 3) {
        case 0: contexts[i] = cctx_with_cancel(above); break;
        case 1: contexts[i] = cctx_with_timeout(above, HOUR); break;
        default: contexts[i] = cctx_with_value(above, &key, NULL); break;
        }
    }
    for (size_t i = N; i-- > 0;) {
        raw_wait(contexts[i]);
        assert_true(cctx_now() >= deadline_of(parent));
        assert_int_equal(cctx_err(contexts[i]), ETIMEDOUT);
        assert_ptr_equal(cctx_cause(contexts[i]), &cause);
        assert_int_equal(deadline_of(contexts[i]), deadline_of(parent));
        assert_int_equal(cctx_err(parent), ETIMEDOUT);
    }
    for (size_t i = 0; i < N; i++)
        cctx_unref(contexts[i]);
    cctx_unref(parent);
}

/* C13, C20 */
static void a_deadline_fires_below_though_the_handle_that_set_it_is_gone(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_timeout(cctx_background(), CCTX_MS(5));
    cctx_time_t deadline = deadline_of(parent);
    cctx_t *child = cctx_with_cancel(parent);
    cctx_unref(parent);
    raw_wait(child);
    assert_true(cctx_now() >= deadline);
    assert_int_equal(cctx_err(child), ETIMEDOUT);
    cctx_unref(child);
}

/* C1, C2, C9 */
static void a_cancel_before_the_deadline_wins_for_ever(void **state)
{
    (void)state;
    static const cctx_cause_t too_slow = {5, "too slow"}, enough = {6, "enough"};
    bool in_time = false;
    for (int64_t timeout = CCTX_MS(20); !in_time; timeout *= 2) {
        cctx_t *plain = cctx_with_timeout(cctx_background(), timeout);
        cctx_t *caused = cctx_with_timeout_cause(cctx_background(), timeout, &too_slow);
        bool plain_won = cctx_cancel(plain), caused_won = cctx_cancel_cause(caused, &enough);
        cctx_t *later = cctx_with_timeout(cctx_background(), timeout);
        in_time = plain_won && caused_won;
        raw_wait(later);
        assert_true(cctx_now() >= deadline_of(plain) && cctx_now() >= deadline_of(caused));
        assert_int_equal(cctx_err(plain), plain_won ? ECANCELED : ETIMEDOUT);
        assert_ptr_equal(cctx_cause(plain), plain_won ? &cctx_canceled : &cctx_deadline_exceeded);
        assert_int_equal(cctx_err(caused), caused_won ? ECANCELED : ETIMEDOUT);
        assert_ptr_equal(cctx_cause(caused), caused_won ? &enough : &too_slow);
        cctx_unref(later);
        cctx_unref(caused);
        cctx_unref(plain);
    }
}

/* C1, C2 */
static void a_cancel_after_the_deadline_changes_nothing(void **state)
{
    (void)state;
    static const cctx_cause_t too_slow = {5, "too slow"}, enough = {6, "enough"};
    cctx_t *ctx = cctx_with_timeout_cause(cctx_background(), CCTX_MS(1), &too_slow);
    raw_wait(ctx);
    assert_false(cctx_cancel_cause(ctx, &enough));
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(ctx), &too_slow);
    cctx_unref(ctx);
}

/* The waiter's own clock and the library's thread reach the deadline at about the same time, each first now
   and then; a third of the time a cancel comes too, at that moment or before. C1, C9, C27 */
static void whoever_ends_a_context_at_its_deadline_gives_it_the_same_cause(void **state)
{
    (void)state;
    static const cctx_cause_t too_slow = {7, "too slow"};
    rng_t rng = rng_make(test_seed(), 18);
    for (int i = 0; i < SCALED(20000); i++) {
        cctx_t *ctx = cctx_with_timeout_cause(cctx_background(), CCTX_US(40), &too_slow);
        bool canceled = false;
        if (rng_below(&rng, 3) == 0) {
            cctx_wait_for(ctx, (int64_t)rng_below(&rng, CCTX_US(60)));
            canceled = cctx_cancel(ctx);
        }
        assert_int_equal(cctx_wait(ctx), canceled ? ECANCELED : ETIMEDOUT);
        assert_ptr_equal(cctx_cause(ctx), canceled ? &cctx_canceled : &too_slow);
        cctx_unref(ctx);
    }
}

/* ---- what it leaves behind ---- */

/* C14, C21, C22 */
static void a_million_disarmed_deadlines_leave_nothing_behind(void **state)
{
    (void)state;
    enum { WAVE = 1000 };
    const int64_t distances[] = {CCTX_S(2), CCTX_S(20), HOUR, 1000 * HOUR, CCTX_NEVER / 2};
    const int waves = SCALED(1000);
    cctx_t *contexts[WAVE];
    rng_t rng = rng_make(test_seed(), 16);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    size_t before = 0;
    for (int wave = -10; wave < waves; wave++) {
        if (wave == 0)
            before = memory_in_use();
        for (size_t i = 0; i < WAVE; i++)
            contexts[i] = cctx_with_timeout(i % 2 ? parent : cctx_background(),
                                            distances[rng_below(&rng, 5)]);
        shuffle(&rng, contexts, WAVE);
        for (size_t i = 0; i < WAVE; i++)
            cctx_unref(contexts[i]);
    }
    size_t after = memory_in_use();
    print_message("%d waves of %d: %zu bytes before, %zu after\n", waves, (int)WAVE, before, after);
    assert_true(after < before + 512 * 1024);
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(parent);
}

/* In each wave a deadline fires: the service has looked at the others before they are disarmed. C14, C22 */
static void disarmed_deadlines_leave_nothing_behind_in_the_service_that_saw_them(void **state)
{
    (void)state;
    enum { WAVE = 1000 };
    const int64_t distances[] = {CCTX_MS(1500), CCTX_S(20), HOUR, 1000 * HOUR};
    const int waves = SCALED(1000);
    cctx_t *contexts[WAVE];
    rng_t rng = rng_make(test_seed(), 17);
    size_t before = 0;
    for (int wave = -100; wave < waves; wave++) {
        if (wave == 0)
            before = memory_in_use();
        for (size_t i = 0; i < WAVE; i++)
            contexts[i] = cctx_with_timeout(cctx_background(), distances[rng_below(&rng, 4)]);
        cctx_t *soon = cctx_with_timeout(cctx_background(), CCTX_US(1));
        raw_wait_and_check(soon);
        cctx_unref(soon);
        shuffle(&rng, contexts, WAVE);
        for (size_t i = 0; i < WAVE; i++)
            cctx_unref(contexts[i]);
    }
    size_t after = memory_in_use();
    print_message("%d waves of %d: %zu bytes before, %zu after\n", waves, (int)WAVE, before, after);
    assert_true(after < before + 1024 * 1024);
}

/* C14, C21 */
static void fired_deadlines_leave_nothing_behind(void **state)
{
    (void)state;
    enum { WAVE = 1000 };
    const int waves = SCALED(100);
    cctx_t *contexts[WAVE];
    size_t before = 0;
    for (int wave = -5; wave < waves; wave++) {
        if (wave == 0)
            before = memory_in_use();
        for (size_t i = 0; i < WAVE; i++)
            contexts[i] = cctx_with_timeout(cctx_background(), CCTX_US(200));
        for (size_t i = 0; i < WAVE; i++) {
            raw_wait_and_check(contexts[i]);
            cctx_unref(contexts[i]);
        }
    }
    size_t after = memory_in_use();
    print_message("%d waves of %d: %zu bytes before, %zu after\n", waves, (int)WAVE, before, after);
    assert_true(after < before + 512 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_earlier_of_both_deadlines_is_effective),
        cmocka_unit_test(a_deadline_no_earlier_than_the_parents_is_the_parents_to_fire),
        cmocka_unit_test(a_child_with_an_earlier_deadline_ends_alone_with_its_own_cause),
        cmocka_unit_test(a_deadline_that_has_passed_gives_a_context_born_done),
        cmocka_unit_test(a_deadline_below_a_canceled_parent_is_born_canceled),
        cmocka_unit_test(time_saturates_at_never),
        cmocka_unit_test(a_derivation_reads_the_monotonic_clock_once),
        cmocka_unit_test(no_deadline_is_ever_seen_to_fire_early),
        cmocka_unit_test(a_hundred_thousand_deadlines_all_fire_though_no_thread_looks),
        cmocka_unit_test(the_deadlines_that_are_left_fire_after_the_others_were_disarmed),
        cmocka_unit_test(thousands_of_deadlines_due_at_one_moment_all_fire),
        cmocka_unit_test(an_earlier_deadline_fires_though_a_later_one_is_slept_for),
        cmocka_unit_test(deadlines_beyond_a_second_fire_too),
        cmocka_unit_test(the_deadline_of_a_parent_reaches_all_its_descendants),
        cmocka_unit_test(a_deadline_fires_below_though_the_handle_that_set_it_is_gone),
        cmocka_unit_test(a_cancel_before_the_deadline_wins_for_ever),
        cmocka_unit_test(a_cancel_after_the_deadline_changes_nothing),
        cmocka_unit_test(whoever_ends_a_context_at_its_deadline_gives_it_the_same_cause),
        cmocka_unit_test(a_million_disarmed_deadlines_leave_nothing_behind),
        cmocka_unit_test(disarmed_deadlines_leave_nothing_behind_in_the_service_that_saw_them),
        cmocka_unit_test(fired_deadlines_leave_nothing_behind),
    };
    watchdog(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
