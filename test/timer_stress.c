/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timer: three threads arm and disarm while one has the role, on a clock that the role moves. Asserts the
 * room's claims: after disarm the occupant is left alone (T1); nothing fires early (T2); at each moment the
 * role has fired all that was armed and is due, though it works only when timer_next says so (T3, T4).
 * Occupants are freed through epochs, as contexts are, so a sanitizer sees each one that is touched too
 * late.
 */
#include "support.h"

#include <sched.h>

#include "timer.h"

enum { ARMERS = 3, OWN = 100, STEPS = 500000 };

struct item {
    struct epoch_link link;
    int64_t deadline;
    sync_ptr *slot;
    sync_u32 refs;              /* the armer's and pins; 0: dead */
    sync_u32 fired;
    uint64_t canary;
} __attribute__((aligned(8)));

static struct timer timer;
static sync_i64 clock_word;             /* written by the role alone */
static sync_u32 armers;                 /* that are at work */
static sync_ptr armed[ARMERS][OWN];     /* what timer_arm has returned for and nobody is disarming */
static uint64_t seed;
#define CANARY ((uint64_t)0x7e57ab1e7e57ab1e)

static void reclaim(struct epoch_link *link)
{
    struct item *item = container_of(link, struct item, link);
    CHECK(item->canary == CANARY);
    item->canary = 0;
    free(item);
}

static void drop(struct thread *t, struct item *item)
{
    if (sync_add_acqrel(&item->refs, (uint32_t)-1, last_ref, last_ref) == 1)
        epoch_retire(t, &item->link, reclaim, 1);
}

static bool pin(struct item *item)
{
    uint32_t r = sync_load_relaxed(&item->refs, cas_seed);
    while (r)
        if (sync_cas_relaxed(&item->refs, &r, r + 1, stat)) return true;
    return false;
}

static int64_t item_key(uintptr_t occupant)
{
    CHECK(((struct item *)occupant)->canary == CANARY);
    return ((struct item *)occupant)->deadline;
}
static bool item_pin(uintptr_t occupant) { return pin((struct item *)occupant); }
static void item_fire(uintptr_t occupant)
{
    struct item *item = (struct item *)occupant;
    CHECK(item->canary == CANARY);
    CHECK(item->deadline <= sync_load_relaxed(&clock_word, owned));
    sync_store_rel(&item->fired, 1u, done);
    struct thread *t = thread_begin();
    drop(t, item);
    thread_end(t);
}
static const struct timer_ops ops = {item_key, item_pin, item_fire};

static sync_ptr *arm_one(struct thread *t, sync_ptr *cell, int64_t left)
{
    struct item *item = calloc(1, sizeof *item);
    CHECK(item != NULL);
    int64_t now = sync_load_acq(&clock_word, done);
    item->deadline = now + left;
    item->canary = CANARY;
    sync_init(&item->refs, 1u);
    bool ok = timer_arm(&timer, t, (uintptr_t)item, now, item->deadline, &item->slot);
    CHECK(ok);
    sync_store_rel(cell, (uintptr_t)item, slot);
    return cell;
}

static void disarm_one(struct thread *t, sync_ptr *cell)
{
    struct item *item = (struct item *)sync_swap_acqrel(cell, (uintptr_t)0, slot, slot);
    timer_disarm(item->slot);
    drop(t, item);
}

static void arm_and_disarm(unsigned index)
{
    rng_t rng = rng_make(seed, index);
    for (int step = 0; step < SCALED(STEPS); step++) {
        struct thread *t = thread_begin();
        sync_ptr *cell = &armed[index][rng_below(&rng, OWN)];
        if (sync_load_relaxed(cell, owned)) disarm_one(t, cell);
        else arm_one(t, cell, 1 + (int64_t)rng_below(&rng, rng_below(&rng, 3) ? 2000 : (uint64_t)CCTX_S(40)));
        thread_end(t);
    }
    sync_add_acqrel(&armers, (uint32_t)-1, done, none);
}

/* One look of the role: what is armed and due by now is fired after the work of now, or on its way out. */
static void look(struct thread *t, int64_t now)
{
    static struct item *due[ARMERS * OWN];
    static sync_ptr *cell[ARMERS * OWN];
    unsigned n = 0;
    epoch_enter(t);
    for (unsigned i = 0; i < ARMERS * OWN; i++) {
        sync_ptr *c = &armed[i / OWN][i % OWN];
        struct item *item = (struct item *)sync_load_acq(c, slot);
        if (!item || item->deadline > now || sync_load_acq(&item->fired, done) || !pin(item)) continue;
        cell[n] = c;
        due[n++] = item;
    }
    epoch_leave(t);
    if (now >= timer_next(&timer)) timer_work(&timer, t, now);
    for (unsigned i = 0; i < n; i++) {
        bool fired = sync_load_acq(&due[i]->fired, done);
        bool there = sync_load_acq(cell[i], slot) == (uintptr_t)due[i];
        CHECK(fired || !there);         /* being disarmed: its cell was emptied before */
        drop(t, due[i]);
    }
}

static void play_the_role(void)
{
    rng_t rng = rng_make(seed, ARMERS);
    int64_t now = sync_load_relaxed(&clock_word, owned);
    while (sync_load_acq(&armers, done) > 0) {
        now += (int64_t)rng_below(&rng, rng_below(&rng, 20) ? 300 : (uint64_t)CCTX_MS(50));
        sync_store_rel(&clock_word, now, done);
        struct thread *t = thread_begin();
        look(t, now);
        thread_end(t);
        if (rng_below(&rng, 8) == 0) sched_yield();
    }
}

static void act(unsigned index, void *arg)
{
    (void)arg;
    if (index < ARMERS) arm_and_disarm(index);
    else play_the_role();
}

static void nothing_fires_early_and_nothing_is_missed(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(280);
    timer_init(&timer, &ops);
    sync_store_relaxed(&clock_word, (int64_t)1, owned);
    for (int wave = 0; wave < 4; wave++) {
        sync_store_relaxed(&armers, (uint32_t)ARMERS, owned);
        threads_run(ARMERS + 1, act, NULL);
    }
    struct thread *t = thread_begin();
    int64_t now = sync_load_relaxed(&clock_word, owned), next;
    while ((next = timer_next(&timer)) != INT64_MAX) {
        if (next > now) now = next;
        sync_store_rel(&clock_word, now, done);
        look(t, now);
    }
    for (unsigned i = 0; i < ARMERS * OWN; i++) {
        struct item *item = (struct item *)sync_load_acq(&armed[i / OWN][i % OWN], slot);
        if (!item) continue;
        assert_true(sync_load_acq(&item->fired, done));
        disarm_one(t, &armed[i / OWN][i % OWN]);
    }
    for (int i = 0; i < 100; i++) epoch_poll(t);
    assert_int_equal(epoch_limbo(), 0);
    thread_end(t);
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct roster *set = (struct roster *)sync_load_acq(&timer.tier[i].set, chunk);
        for (sync_ptr *x = set ? roster_first(set) : NULL; x; x = roster_next(x))
            assert_int_equal(sync_load_acq(x, slot), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_fires_early_and_nothing_is_missed)};
    return cmocka_run_group_tests_name("timer_stress", tests, NULL, NULL);
}
