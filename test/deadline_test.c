/* SPDX-License-Identifier: BSD-2-Clause */
/* deadline: which contexts are armed, where, until when, and whose deadline a waiter fires. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include "clock.h"
#include "deadline.h"

#include <sys/resource.h>

static const cctx_key_t key = {"key", NULL};
#define HOUR CCTX_S(3600)

static cctx_t *timed(const cctx_t *parent, int64_t timeout)
{
    cctx_t *n = cctx_with_timeout(parent, timeout);
    assert_non_null(n);
    return n;
}

static bool is_armed(cctx_t *n)
{
    sync_ptr *slot = node_tslot(n);
    return slot && (sync_load_acq(slot, slot) & ~(uintptr_t)SLOT_MASK) == (uintptr_t)n;
}

/* One slot for a deadline that is earlier than the parent's, and none for any other. */
static void only_a_deadline_that_can_come_first_is_armed(void **state)
{
    (void)state;
    cctx_t *n = timed(cctx_background(), HOUR), *later = timed(n, 2 * HOUR), *sooner = timed(n, HOUR / 2);
    cctx_t *equal = cctx_with_deadline(n, n->deadline);
    cctx_t *never = cctx_with_deadline(cctx_background(), CCTX_NEVER);
    cctx_t *plain = cctx_with_cancel(n), *passed = timed(n, 0);
    assert_true(is_armed(n) && is_armed(sooner));
    cctx_t *idle[] = {later, equal, never, plain, passed};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) assert_false(is_armed(idle[i]));
    cctx_cancel(n);
    cctx_t *born_done = timed(n, 1);
    assert_false(is_armed(born_done));
    cctx_t *all[] = {born_done, passed, plain, never, equal, sooner, later, n};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cctx_unref(all[i]);
}

/* A node has its slot in the word of its family until it has one, and in the family then. */
static void the_timer_slot_moves_into_the_family(void **state)
{
    (void)state;
    cctx_t *n = timed(cctx_background(), HOUR);
    sync_ptr *slot = node_tslot(n);
    assert_null(node_family(n));
    assert_int_equal(sync_load_acq(&n->family, family), (uintptr_t)slot | FAMILY_TIMER);
    cctx_t *c = cctx_with_cancel(n);
    assert_non_null(node_family(n));
    assert_ptr_equal(node_tslot(n), slot);
    assert_true(is_armed(n));
    cctx_unref(c);
    cctx_unref(n);
}

/* Claim I16: a cancel leaves the slot, death empties it. Slots of the timer are for ever, so it can be
 * looked at. */
static void death_alone_disarms(void **state)
{
    (void)state;
    cctx_t *n = timed(cctx_background(), HOUR), *c = cctx_with_cancel(n);
    sync_ptr *slot = node_tslot(n);
    cctx_cancel(n);
    assert_true(is_armed(n));
    cctx_unref(n);
    assert_true(is_armed(n));           /* its child keeps it */
    cctx_unref(c);
    assert_int_equal(sync_load_acq(slot, slot), 0);
    n = timed(cctx_background(), HOUR);
    slot = node_tslot(n);
    cctx_close(n);
    assert_int_equal(sync_load_acq(slot, slot), 0);
}

/* A waiter fires the ancestor's deadline that it inherits, and nothing above that. */
static void a_waiter_fires_the_deadline_of_its_origin(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    cctx_t *above = timed(cctx_background(), 2 * HOUR), *origin = timed(above, HOUR);
    cctx_t *c = cctx_with_cancel(origin);
    const cctx_t *value = cctx_with_value(c, &key, NULL);
    cctx_t *below = timed(value, 3 * HOUR), *other = cctx_with_cancel(above);
    deadline_fire(below);
    assert_int_equal(cctx_err(origin), ETIMEDOUT);
    assert_int_equal(cctx_err(below), ETIMEDOUT);
    assert_int_equal(cctx_err(above), 0);
    assert_int_equal(cctx_err(other), 0);
    cctx_t *all[] = {other, below, (cctx_t *)(uintptr_t)value, c, origin, above};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cctx_unref(all[i]);
    thread_end(t);
}

/* The deadline of a merge is that of one of its parents, whichever; the others go on. */
static void a_waiter_on_a_merge_fires_the_parent_whose_deadline_it_is(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    for (int earliest = 0; earliest < 3; earliest++) {
        cctx_t *p[3];
        for (int i = 0; i < 3; i++) p[i] = timed(cctx_background(), i == earliest ? HOUR : 2 * HOUR);
        cctx_t *any = cctx_with_any((const cctx_t *[]){p[0], p[1], p[2]}, 3), *below = cctx_with_cancel(any);
        assert_null(node_tslot(any));
        assert_int_equal(any->deadline, p[earliest]->deadline);
        deadline_fire(below);
        assert_int_equal(cctx_err(below), ETIMEDOUT);
        for (int i = 0; i < 3; i++) assert_int_equal(cctx_err(p[i]), i == earliest ? ETIMEDOUT : 0);
        cctx_unref(below);
        cctx_unref(any);
        for (int i = 0; i < 3; i++) cctx_unref(p[i]);
    }
    thread_end(t);
}

/* Claim T2 through the whole path: seen done, the time has come by the same clock. */
static void nothing_is_seen_done_before_its_deadline(void **state)
{
    (void)state;
    watchdog(100);
    for (int64_t ns = 1000; ns < 40000000; ns = ns * 3 / 2) {
        cctx_t *n = timed(cctx_background(), ns);
        while (!cctx_is_done(n)) {}
        assert_true(clock_now() >= n->deadline);
        assert_int_equal(cctx_err(n), ETIMEDOUT);
        cctx_unref(n);
    }
    watchdog(0);
}

static long sleeps(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_nvcsw;
}

/* Four thousand deadlines in a tenth of a second do not wake the timer thread one by one: it sleeps for a burst of
 * them as they come, then for 2 ms at least. This thread does not sleep, and rings once. */
static void deadlines_that_crowd_are_fired_together(void **state)
{
    (void)state;
    enum { N = 4000 };
    static cctx_t *n[N];
    watchdog(100);
    int64_t began = clock_now(), first = began + CCTX_MS(100);
    for (int i = 0; i < N; i++) assert_non_null(n[i] = cctx_with_deadline(cctx_background(), first + i * CCTX_US(25)));
    long before = sleeps();
    while (!cctx_is_done(n[N - 1])) {}
    assert_in_range(sleeps() - before, 1, 64 + (clock_now() - began) / CCTX_MS(2) + 16);
    for (int i = 0; i < N; i++) {
        cctx_wait(n[i]);
        assert_int_equal(cctx_err(n[i]), ETIMEDOUT);
        cctx_unref(n[i]);
    }
    watchdog(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_deadline_that_can_come_first_is_armed),
        cmocka_unit_test(the_timer_slot_moves_into_the_family),
        cmocka_unit_test(death_alone_disarms),
        cmocka_unit_test(a_waiter_fires_the_deadline_of_its_origin),
        cmocka_unit_test(a_waiter_on_a_merge_fires_the_parent_whose_deadline_it_is),
        cmocka_unit_test(nothing_is_seen_done_before_its_deadline),
        cmocka_unit_test(deadlines_that_crowd_are_fired_together),
    };
    return cmocka_run_group_tests_name("deadline", tests, NULL, NULL);
}
