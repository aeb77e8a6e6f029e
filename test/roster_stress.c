/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roster: four threads add, remove and walk. Asserts the room's claims: a slot has one occupant and keeps
 * its address (R1); a walk sees all that were there before it began and after it ended (R2); the slots are
 * bounded by the widest moment and do not grow by churn (R3).
 */
#include "support.h"

#include "roster.h"

enum { THREADS = 4, OWN = 1000, STEADY = 200, WAVES = 150 };

static struct roster *roster;
static uint64_t seed;
static unsigned wave, stripes;
static sync_ptr *steady[STEADY];        /* occupants that are there all the time */

/* Owner and number in one word, low three bits clear. */
static uintptr_t word_of(unsigned owner, unsigned i) { return ((uintptr_t)(owner + 1) << 16) + i * 8; }

static sync_ptr *add(unsigned ordinal, uintptr_t word)
{
    unsigned misses = 0;
    sync_ptr *place = NULL, *x = roster_add(roster, ordinal, word, &place, &misses);
    CHECK(x != NULL && x == place);
    return x;
}

static void drop(sync_ptr *x, uintptr_t word)
{
    CHECK(sync_load_acq(x, slot) == word);
    roster_vacate(x);
    uintptr_t was = sync_swap_acqrel(x, (uintptr_t)0, empty, slot);
    CHECK(was == word);
}

static void walk(void)
{
    unsigned met = 0;
    for (sync_ptr *x = roster_first(roster); x; x = roster_next(x)) {
        uintptr_t w = sync_load_acq(x, slot);
        if (w >> 16 != THREADS + 1) continue;
        CHECK(steady[(w & UINT16_MAX) / 8] == x);
        met++;
    }
    CHECK(met == STEADY);
}

static void add_and_remove(unsigned index, void *arg)
{
    (void)arg;
    static _Thread_local sync_ptr *own[OWN];
    unsigned count = 0;
    rng_t rng = rng_make(seed, wave * THREADS + index);
    memset(own, 0, sizeof own);
    for (int step = 0; step < SCALED(20000); step++) {
        unsigned i = (unsigned)rng_below(&rng, OWN);
        if (own[i]) {
            drop(own[i], word_of(index, i));
            own[i] = NULL;
            count--;
        } else {
            own[i] = add(index, word_of(index, i));
            count++;
        }
        if (rng_below(&rng, 4096) == 0) walk();
    }
    for (unsigned i = 0; i < OWN; i++)
        if (own[i]) drop(own[i], word_of(index, i));
}

static unsigned slots(void)
{
    unsigned n = 0;
    for (sync_ptr *x = roster_first(roster); x; x = roster_next(x)) n++;
    return n;
}

/*
 * No more than this is in at a time. A slot that is freed just as its chunk is declared full stays hidden
 * until the next one of that chunk is: one for each thread and chunk. And two threads may add a chunk at one
 * moment.
 */
static unsigned bound(void)
{
    unsigned widest = THREADS * OWN + STEADY;
    return widest * 8 / 7 * CHUNK_SLOTS / (CHUNK_SLOTS - THREADS) + (stripes + THREADS) * 64;
}

static void run(unsigned width)
{
    stripes = width;
    roster = roster_new(NULL, width, NULL, NULL, NULL);
    assert_non_null(roster);
    for (unsigned i = 0; i < STEADY; i++) steady[i] = add(i, word_of(THREADS, i));
    for (wave = 0; wave < WAVES; wave++) {
        threads_run(THREADS, add_and_remove, NULL);
        assert_in_range(slots(), 1, bound());
    }
    for (unsigned i = 0; i < STEADY; i++) drop(steady[i], word_of(THREADS, i));
    for (sync_ptr *x = roster_first(roster); x; x = roster_next(x))
        assert_int_equal(sync_load_acq(x, slot), 0);
    roster_free(roster);
}

static void occupants_are_neither_lost_nor_doubled_in_one_stripe(void **state)
{
    (void)state;
    run(1);
}

static void occupants_are_neither_lost_nor_doubled_in_a_stripe_each(void **state)
{
    (void)state;
    run(4);
}

int main(void)
{
    seed = test_seed();
    watchdog(280);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(occupants_are_neither_lost_nor_doubled_in_one_stripe),
        cmocka_unit_test(occupants_are_neither_lost_nor_doubled_in_a_stripe_each),
    };
    return cmocka_run_group_tests_name("roster_stress", tests, NULL, NULL);
}
