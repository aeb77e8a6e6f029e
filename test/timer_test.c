/* SPDX-License-Identifier: BSD-2-Clause */
/* timer: deadlines fire in time and not before it, on a clock of the test's own; disarm leaves nothing
 * behind. */
#include "support.h"

#include "timer.h"

enum { MOST = 20000 };

struct item {
    int64_t deadline;
    sync_ptr *slot;             /* NULL: not armed */
    unsigned fired;
    bool gone;                  /* disarmed: nobody is to call for it */
} __attribute__((aligned(8)));

static struct item items[MOST];
static struct timer timer;
static struct thread *self;
static int64_t now;

static struct item *item_of(uintptr_t occupant)
{
    struct item *item = (struct item *)occupant;
    assert_int_equal(occupant & SLOT_MASK, 0);
    assert_false(item->gone);           /* claim T1 */
    return item;
}
static int64_t item_key(uintptr_t occupant)
{
    assert_true(self->inside);
    return item_of(occupant)->deadline;
}
static bool item_pin(uintptr_t occupant)
{
    assert_true(self->inside);
    return item_of(occupant) != NULL;
}
static void item_fire(uintptr_t occupant)
{
    assert_false(self->inside);
    assert_true(item_of(occupant)->deadline <= now);    /* claim T2 */
    item_of(occupant)->fired++;
}
static const struct timer_ops ops = {item_key, item_pin, item_fire};

static void arm(struct item *item, int64_t deadline)
{
    *item = (struct item){.deadline = deadline};
    assert_true(timer_arm(&timer, self, (uintptr_t)item, now, deadline, &item->slot));
    assert_int_equal(sync_load_acq(item->slot, slot) & ~(uintptr_t)SLOT_MASK, (uintptr_t)item);
    assert_true(timer_next(&timer) <= deadline);        /* claim T4 */
}

static void disarm(struct item *item)
{
    timer_disarm(item->slot);
    item->gone = true;
    item->slot = NULL;
}

/* Works at each time that the timer asks for, up to the end. Returns how often. */
static unsigned work_until(int64_t end)
{
    unsigned times = 0;
    for (int64_t next; (next = timer_next(&timer)) <= end; times++) {
        if (next > now) now = next;
        timer_work(&timer, self, now);
    }
    now = end;
    return times;
}

/* The sets stay, since the slots of a timer are for ever: they are the test's memory until it ends. */
static int fresh(void **state)
{
    (void)state;
    self = thread_begin();
    free(timer.heap);
    timer_init(&timer, &ops);
    now = 1000;
    return 0;
}

static int away(void **state)
{
    (void)state;
    for (int i = 0; i < TIMER_TIERS; i++) {
        roster_free((struct roster *)sync_load_acq(&timer.tier[i].set, chunk));
        for (uintptr_t g = sync_load_acq(&timer.tier[i].directories, directory), next; g; g = next) {
            next = sync_load_acq((sync_ptr *)g, directory);     /* a directory begins with the next one */
            free((void *)g);
        }
    }
    free(timer.heap);
    timer.heap = NULL;
    thread_end(self);
    return 0;
}

/* Claims T2, T3: whatever the distance, each fires at its time and none before. */
static void each_fires_in_its_time(void **state)
{
    (void)state;
    enum { N = 3000 };
    rng_t rng = rng_make(test_seed(), 0);
    int64_t last = 0;
    for (unsigned i = 0; i < N; i++) {
        arm(&items[i], now + 1 + (int64_t)(rng_next(&rng) >> (24 + rng_below(&rng, 39))));
        if (items[i].deadline > last) last = items[i].deadline;
    }
    for (int64_t at = now + 1; at < last; at += 1 + (at - 1000) / 3) {
        work_until(at);
        for (unsigned i = 0; i < N; i++) assert_int_equal(items[i].fired > 0, items[i].deadline <= at);
    }
    work_until(last);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(items[i].fired, 1);
        disarm(&items[i]);
    }
    work_until(last + CCTX_S(100));
    assert_int_equal(timer_next(&timer), INT64_MAX);
}

/* Claim T4: at its exact time the role is not asleep, though a nanosecond before there was nothing to do. */
static void the_role_wakes_at_the_very_time(void **state)
{
    (void)state;
    arm(&items[0], now + 12345);
    work_until(now + 12344);
    assert_int_equal(timer_next(&timer), items[0].deadline);
    assert_int_equal(items[0].fired, 0);
    now = items[0].deadline;
    assert_int_equal(timer_work(&timer, self, now), 1);
    assert_int_equal(items[0].fired, 1);
}

/* Claim T1: neither key nor pin nor fire is called for what was disarmed (item_of asserts it), drained or
 * not. */
static void disarm_leaves_nothing_behind(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 1);
    for (int round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 1000; i++)
            arm(&items[i], now + 1 + (int64_t)rng_below(&rng, (uint64_t)CCTX_S(40)));
        if (round % 2) timer_work(&timer, self, now);
        for (unsigned i = 0; i < 1000; i++)
            if (i % 10 < (unsigned)round) disarm(&items[i]);
        work_until(now + CCTX_S(41));
        for (unsigned i = 0; i < 1000; i++)
            if (!items[i].gone) {
                assert_int_equal(items[i].fired, 1);
                disarm(&items[i]);
            }
    }
}

/* An entry of the heap is a guess: the next occupant of its slot fires at its own time. */
static void a_slot_that_is_used_again_fires_for_its_new_occupant(void **state)
{
    (void)state;
    arm(&items[0], now + 100);
    timer_work(&timer, self, now);
    sync_ptr *slot = items[0].slot;
    disarm(&items[0]);
    unsigned i = 1;
    do arm(&items[i], now + 200);
    while (items[i].slot != slot && ++i < 200);
    assert_ptr_equal(items[i].slot, slot);
    work_until(now + 150);
    assert_int_equal(items[i].fired, 0);
    work_until(now + 50);
    for (unsigned j = 1; j <= i; j++) assert_int_equal(items[j].fired, 1);
}

/* Far tiers are read rarely: a deadline that is disarmed by then never enters the heap. */
static void a_far_deadline_that_is_disarmed_soon_is_never_sorted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MOST; i++) {
        arm(&items[i], now + CCTX_S(60));
        if (i % 1000 == 0) timer_work(&timer, self, now);
        disarm(&items[i]);
        now += 1000;
    }
    assert_true(timer.count <= 1024);
    assert_in_range(timer.capacity, 0, 4096);
}

/* Stale entries number no more than those of the widest moment and a constant, however many come and go. */
static void churn(int64_t spread)
{
    enum { CROWD = MOST / 4 };
    for (unsigned i = 0; i < 40 * CROWD; i++) {
        struct item *item = &items[i % CROWD];
        if (i >= CROWD && i % 100) disarm(item);
        if (i < CROWD || i % 100) arm(item, now + CCTX_MS(500) + spread * i);
        if (i % CROWD == CROWD - 1) timer_work(&timer, self, now);
        assert_true(timer.count <= 3 * CROWD + 1024);
    }
    assert_true(timer.capacity <= 8 * CROWD);
    work_until(now + CCTX_S(1));
    for (unsigned i = 0; i < CROWD; i++) assert_true(items[i].fired > 0);
    assert_int_equal(timer.count, 0);
}

static void the_heap_is_bounded_by_the_widest_moment(void **state)
{
    (void)state;
    churn(1000);
}

/* Here a stale entry looks just like that of the slot's next occupant. */
static void the_heap_is_bounded_also_where_all_deadlines_are_one(void **state)
{
    (void)state;
    churn(0);
}

static void an_earlier_deadline_rings(void **state)
{
    (void)state;
    arm(&items[0], now + CCTX_S(100));
    timer_work(&timer, self, now);
    uint32_t bell = sync_load_acq(&timer.bell, bell);
    arm(&items[1], now + CCTX_S(200));
    assert_int_equal(sync_load_acq(&timer.bell, bell), bell);
    arm(&items[2], now + CCTX_S(1));
    assert_int_equal(sync_load_acq(&timer.bell, bell), bell + 1);
    assert_true(timer_next(&timer) <= now + CCTX_S(1));
    watchdog(60);
    timer_sleep(&timer, timer_bell(&timer), timer_next(&timer), INT64_MIN);    /* the time has come: it returns at once */
    watchdog(0);
}

/* A backlog is drained before anything is due, so that one burst does not delay the first that is. */
static void a_backlog_rings_before_anything_is_due(void **state)
{
    (void)state;
    timer_work(&timer, self, now);
    unsigned i = 0;
    while (timer_next(&timer) > now && i < MOST) {
        arm(&items[i], now + CCTX_MS(900));
        i++;
    }
    assert_true(i < MOST);
    timer_work(&timer, self, now);
    assert_int_equal(timer.count, i);
    assert_int_equal(timer_next(&timer), items[0].deadline);
}

/* After a fork what was in the heap, or on its way there, is found in the set again. */
static void all_that_is_armed_fires_in_the_child_of_a_fork(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        arm(&items[i], now + CCTX_MS(1) * (1 + i * 7 % 40000));
        if (i == 1000) timer_work(&timer, self, now);
        if (i % 5 == 4) disarm(&items[i]);
    }
    void *lost = timer.heap;            /* it may have been in the middle of a move: the child gives it up */
    timer_forked(&timer);
    work_until(now + CCTX_S(41));
    for (unsigned i = 0; i < 3000; i++) assert_int_equal(items[i].fired, i % 5 != 4);
    free(lost);
}

/* What the role had moved into the heap is in its far tier again, which it had put off. */
static void a_far_deadline_fires_in_its_time_in_the_child_of_a_fork(void **state)
{
    (void)state;
    arm(&items[0], now + CCTX_MS(1100));
    arm(&items[1], now + CCTX_MS(1150));
    work_until(items[0].deadline);
    assert_int_equal(items[0].fired, 1);
    disarm(&items[0]);
    void *lost = timer.heap;
    timer_forked(&timer);
    work_until(items[1].deadline);
    assert_int_equal(items[1].fired, 1);
    free(lost);
}

int main(void)
{
#define TIMER_TEST(name) cmocka_unit_test_setup_teardown(name, fresh, away)
    const struct CMUnitTest tests[] = {
        TIMER_TEST(each_fires_in_its_time),
        TIMER_TEST(the_role_wakes_at_the_very_time),
        TIMER_TEST(disarm_leaves_nothing_behind),
        TIMER_TEST(a_slot_that_is_used_again_fires_for_its_new_occupant),
        TIMER_TEST(a_far_deadline_that_is_disarmed_soon_is_never_sorted),
        TIMER_TEST(the_heap_is_bounded_by_the_widest_moment),
        TIMER_TEST(the_heap_is_bounded_also_where_all_deadlines_are_one),
        TIMER_TEST(an_earlier_deadline_rings),
        TIMER_TEST(a_backlog_rings_before_anything_is_due),
        TIMER_TEST(all_that_is_armed_fires_in_the_child_of_a_fork),
        TIMER_TEST(a_far_deadline_fires_in_its_time_in_the_child_of_a_fork),
    };
    return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
