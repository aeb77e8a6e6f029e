/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoch: readers look at shared objects in sections while writers replace and retire them, in waves of
 * threads. Asserts the room's claims: an object in a section is whole (E1), none is lost with its thread
 * (E3), and the records number no more than the threads that lived at once and the reserve.
 */
#include "support.h"

#include "epoch.h"

enum { THREADS = 4, PLACES = 64, WAVES = 15, LOOKS = 8, RECORDS_MOST = THREADS + 1 + 8 };
#define LIVE ((uint64_t)0x11fe11fe11fe11fe)
#define DEAD ((uint64_t)0xdeaddeaddeaddead)

struct object {
    struct epoch_link link;
    uint64_t canary[6];
};

static sync_ptr place[PLACES];
static sync_u64 made, freed;
static sync_u32 ordinal_most;
static uint64_t seed;
static unsigned wave;

static void reclaim(struct epoch_link *link)
{
    struct object *o = container_of(link, struct object, link);
    CHECK(!thread_current->inside);
    for (int i = 0; i < 6; i++) {
        CHECK(o->canary[i] == LIVE);            /* reclaimed once */
        o->canary[i] = DEAD;
    }
    sync_add_relaxed(&freed, 1u, stat);
    free(o);
}

static void replace(struct thread *t, unsigned i, bool by_none)
{
    struct object *o = NULL;
    if (!by_none) {
        o = malloc(sizeof *o);
        CHECK(o != NULL);
        for (int j = 0; j < 6; j++) o->canary[j] = LIVE;
        sync_add_relaxed(&made, 1u, stat);
    }
    struct object *old = (struct object *)sync_swap_acqrel(&place[i], (uintptr_t)o, slot, slot);
    if (old) epoch_retire(t, &old->link, reclaim, 1 + (i == 0) * EPOCH_HEAVY);
}

static void look(struct thread *t, rng_t *rng)
{
    struct object *seen[LOOKS];
    epoch_enter(t);
    for (int i = 0; i < LOOKS; i++)
        seen[i] = (struct object *)sync_load_acq(&place[rng_below(rng, PLACES)], slot);
    for (int again = 0; again < 3; again++)
        for (int i = 0; i < LOOKS; i++)
            for (int j = 0; seen[i] && j < 6; j++) CHECK(seen[i]->canary[j] == LIVE);
    epoch_leave(t);
}

static void read_and_replace(unsigned index, void *arg)
{
    (void)arg;
    rng_t rng = rng_make(seed, wave * THREADS + index);
    for (int step = 0; step < SCALED(40000); step++) {
        struct thread *t = thread_begin();
        uint32_t most = sync_load_relaxed(&ordinal_most, stat);
        while (t->ordinal > most && !sync_cas_relaxed(&ordinal_most, &most, t->ordinal, stat)) {}
        if (rng_below(&rng, 4) < 2 + index % 2) look(t, &rng);
        else replace(t, (unsigned)rng_below(&rng, PLACES), rng_below(&rng, 8) == 0);
        if (rng_below(&rng, 1000) == 0) epoch_poll(t);
        thread_end(t);
    }
}

static void nothing_is_freed_under_a_reader_and_nothing_is_lost(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(280);
    for (wave = 0; wave < WAVES; wave++) threads_run(THREADS, read_and_replace, NULL);
    assert_true(sync_load_relaxed(&ordinal_most, stat) < RECORDS_MOST);
    struct thread *t = thread_begin();
    for (unsigned i = 0; i < PLACES; i++) replace(t, i, true);
    for (int i = 0; i < 10 * RECORDS_MOST; i++) epoch_poll(t);
    thread_end(t);
    assert_int_equal(sync_load_relaxed(&freed, stat), sync_load_relaxed(&made, stat));
    assert_int_equal(epoch_limbo(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_freed_under_a_reader_and_nothing_is_lost)};
    return cmocka_run_group_tests_name("epoch_stress", tests, NULL, NULL);
}
