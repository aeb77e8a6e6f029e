/* SPDX-License-Identifier: BSD-2-Clause */
/* roster: slots keep their address and their one occupant, a walk sees all, and the slots are bounded by
 * the crowd. */
#include "support.h"

#include <dlfcn.h>

#include "roster.h"

enum { MOST = 20000 };

static sync_ptr *place[MOST];

/* An occupant is any word with its low three bits clear. */
static uintptr_t word_of(unsigned i) { return (uintptr_t)(i + 1) * 8; }

static sync_ptr *add(struct roster *r, unsigned ordinal, unsigned i)
{
    unsigned misses = 0;
    sync_ptr *x = roster_add(r, ordinal, word_of(i), &place[i], &misses);
    assert_non_null(x);
    assert_ptr_equal(x, place[i]);
    assert_int_equal(misses, 0);
    assert_int_equal(sync_load_acq(x, slot), word_of(i));
    return x;
}

static void remove_one(unsigned i)
{
    roster_vacate(place[i]);
    assert_int_equal(sync_swap_acqrel(place[i], (uintptr_t)0, empty, slot), word_of(i));
    place[i] = NULL;
}

static unsigned slots_of(struct roster *r)
{
    unsigned n = 0;
    for (sync_ptr *x = roster_first(r); x; x = roster_next(x)) n++;
    return n;
}

/* Claims R1, R2: each occupant stands in its one place for its time, and a walk meets each of them once. */
static void a_walk_meets_each_occupant_once(void **state)
{
    (void)state;
    static unsigned met[MOST];
    rng_t rng = rng_make(test_seed(), 0);
    for (unsigned stripes = 1; stripes <= 16; stripes *= 4) {
        struct roster *r = roster_new(NULL, stripes, NULL, NULL, NULL);
        assert_non_null(r);
        assert_null(roster_first(r));
        unsigned count = stripes * 300;
        for (unsigned i = 0; i < count; i++) add(r, (unsigned)rng_below(&rng, 64), i);
        for (unsigned i = 0; i < count; i += 3) remove_one(i);
        memset(met, 0, sizeof met);
        for (sync_ptr *x = roster_first(r); x; x = roster_next(x)) {
            uintptr_t w = sync_load_acq(x, slot);
            if (!w) continue;
            assert_ptr_equal(place[w / 8 - 1], x);
            met[w / 8 - 1]++;
        }
        for (unsigned i = 0; i < count; i++) assert_int_equal(met[i], i % 3 != 0);
        roster_free(r);
    }
}

static void a_slot_is_used_again(void **state)
{
    (void)state;
    struct roster *r = roster_new(NULL, 1, NULL, NULL, NULL);
    for (unsigned i = 0; i < CHUNK_SLOTS; i++) add(r, 0, i);
    for (unsigned turn = 0; turn < 10000; turn++) {
        unsigned i = turn * 7 % CHUNK_SLOTS;
        remove_one(i);
        add(r, 0, i);
    }
    assert_int_equal(slots_of(r), CHUNK_SLOTS);
    roster_free(r);
}

/* Claim R3, exactly as it says with one stripe: 8/7 of the widest moment and one chunk. */
static void the_slots_are_bounded_by_the_widest_moment(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 1);
    for (unsigned stripes = 1; stripes <= 4; stripes *= 4) {
        struct roster *r = roster_new(NULL, stripes, NULL, NULL, NULL);
        unsigned count = 0, widest = 0;
        for (int wave = 0; wave < SCALED(60); wave++) {
            unsigned aim = (unsigned)rng_below(&rng, MOST >> rng_below(&rng, 8));
            while (count < aim) add(r, (unsigned)rng_next(&rng), count++);
            if (count > widest) widest = count;
            while (count > aim) {               /* a random one leaves; the last takes its number */
                unsigned i = (unsigned)rng_below(&rng, count--);
                roster_vacate(place[i]);
                sync_swap_acqrel(place[i], (uintptr_t)0, empty, slot);
                place[i] = place[count];
                if (i != count) sync_store_rel(place[i], word_of(i), slot);
            }
            unsigned bound = widest * 8 / 7 + (stripes == 1 ? CHUNK_SLOTS : stripes * 64);
            assert_in_range(slots_of(r), count, bound);
        }
        roster_free(r);
    }
}

/* What came before the widening stays where it is, and a walk goes on from the wide one to the narrow. */
static void a_wide_roster_stands_before_the_first(void **state)
{
    (void)state;
    struct roster *r = roster_new(NULL, 1, NULL, NULL, NULL);
    for (unsigned i = 0; i < 100; i++) add(r, i, i);
    struct roster *wide = roster_new(NULL, 4, NULL, NULL, r);
    for (unsigned i = 100; i < 500; i++) add(wide, i, i);
    unsigned met = 0;
    for (sync_ptr *x = roster_first(wide); x; x = roster_next(x)) met += sync_load_acq(x, slot) != 0;
    assert_int_equal(met, 500);
    met = 0;
    for (sync_ptr *x = roster_first(r); x; x = roster_next(x)) met += sync_load_acq(x, slot) != 0;
    assert_int_equal(met, 100);
    unsigned before = slots_of(wide);
    for (unsigned i = 0; i < 56; i++) remove_one(i);    /* of a chunk of the first that was full */
    for (unsigned i = 0; i < 56; i++) add(wide, i, i);
    assert_in_range(slots_of(wide), before, before + 4 * CHUNK_SLOTS);
    roster_free(wide);                  /* both */
}

/* A walk from any slot sees all that follows it, whatever it began with. */
static void a_slot_knows_its_chunk(void **state)
{
    (void)state;
    struct roster *r = roster_new(NULL, 2, NULL, NULL, NULL);
    for (unsigned i = 0; i < 1000; i++) add(r, i, i);
    for (unsigned i = 0; i < 1000; i++) {
        struct chunk *k = chunk_of(place[i]);
        assert_true(place[i] >= k->slot && place[i] < k->slot + CHUNK_SLOTS);
        assert_ptr_equal(k->stripe->roster, r);
        assert_ptr_equal(&r->stripe[k->stripe->index], k->stripe);
        assert_int_equal(k->stripe->index, i % 2);
    }
    roster_free(r);
}

static unsigned entered;

static bool enter_three(void *arg, struct chunk *k)
{
    assert_ptr_equal(arg, &entered);
    assert_int_equal(sync_load_acq(&k->slot[0], slot), 0);      /* before the occupant is there to be seen */
    return entered < 3 && ++entered;
}

/* The hook sees each chunk before it is pushed, and may refuse it: then nothing has changed. */
static void a_chunk_that_is_refused_is_not_there(void **state)
{
    (void)state;
    unsigned misses = 0, i = 0;
    sync_ptr *mine;
    struct roster *r = roster_new(NULL, 1, enter_three, &entered, NULL);
    for (; i < 3 * CHUNK_SLOTS; i++) add(r, 0, i);
    assert_int_equal(entered, 3);
    assert_null(roster_add(r, 0, word_of(i), &mine, &misses));
    assert_int_equal(slots_of(r), 3 * CHUNK_SLOTS);
    remove_one(60);
    place[60] = NULL;
    add(r, 0, 60);
    roster_free(r);
}

/* In place of libc's: how many processors this machine says it has; 0: as many as it has. (ThreadSanitizer
 * calls sysconf before instrumented code may run.) */
static long processors;
#if !TEST_TSAN
long sysconf(int name)
{
    if (name == _SC_NPROCESSORS_CONF && processors != 0) return processors;
    static long (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}
#endif

struct machine {
    long processors;
    unsigned width;
};
static void ask_for_the_width(void *arg)
{
    const struct machine *machine = arg;
    processors = machine->processors;
    CHECK(roster_width() == machine->width);
    processors = 1;
    CHECK(roster_width() == machine->width);        /* it is asked for once */
}

/* As many stripes as processors, in a power of two, but never one or too many; each in a new process. */
static void the_width_follows_the_processors(void **state)
{
    (void)state;
    if (TEST_TSAN) NOT_APPLICABLE("ThreadSanitizer and the test would both replace sysconf");
    static const struct machine machines[] = {{-1, 2}, {1, 2}, {2, 2}, {3, 4}, {4, 4}, {5, 8},
                                              {16, 16}, {17, 32}, {256, 256}, {4096, 256}};
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        assert_int_equal(run_in_child(ask_for_the_width, (void *)(uintptr_t)&machines[i]), 0);
}

static void the_width_suits_the_machine(void **state)
{
    (void)state;
    unsigned width = roster_width();
    assert_in_range(width, 2, ROSTER_STRIPES_MAX);
    assert_int_equal(width & (width - 1), 0);
    assert_int_equal(roster_width(), width);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_meets_each_occupant_once),
        cmocka_unit_test(a_slot_is_used_again),
        cmocka_unit_test(the_slots_are_bounded_by_the_widest_moment),
        cmocka_unit_test(a_wide_roster_stands_before_the_first),
        cmocka_unit_test(a_slot_knows_its_chunk),
        cmocka_unit_test(a_chunk_that_is_refused_is_not_there),
        cmocka_unit_test(the_width_follows_the_processors),
        cmocka_unit_test(the_width_suits_the_machine),
    };
    return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
