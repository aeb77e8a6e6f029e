/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cell: four threads take cells, write them, hand them to each other and give them back; threads come and
 * go. Asserts the room's claims: no cell has two owners (C1), and when all are back so are all pages (C3).
 * The room is compiled in here under other names and with its magazine at work, also under sanitizers.
 */
#include "support.h"

#define CELL_DIRECT 0
#define cell_refill cell_refill_here
#define cell_spill  cell_spill_here
#define cell_drain  cell_drain_here
#define cell_pages  cell_pages_here
#include "cell.c"

enum { THREADS = 4, OWN = 500, TABLE = 256, WAVES = 12 };

static sync_ptr table[TABLE];           /* cells on their way from one thread to another */
static uint64_t seed;
static unsigned wave;

static void sign(uint64_t *cell, uint64_t mark)
{
    for (int i = 0; i < 8; i++) {
        CHECK(cell[0] != (uintptr_t)cell);      /* in use already */
        if (i > 0) cell[i] = mark + (uint64_t)i;
    }
    cell[0] = (uintptr_t)cell;
}

static void unsign(uint64_t *cell)
{
    CHECK(cell[0] == (uintptr_t)cell);
    for (int i = 2; i < 8; i++) CHECK(cell[i] == cell[1] + (uint64_t)i - 1);
    cell[0] = 0;
}

static void work(unsigned index, void *arg)
{
    (void)arg;
    static _Thread_local struct magazine m;
    static _Thread_local uint64_t *own[OWN];
    unsigned count = 0, most = OWN >> (index + wave) % 3;
    rng_t rng = rng_make(seed, wave * THREADS + index);
    m.count = 0;
    for (int step = 0; step < SCALED(300000); step++) {
        uint64_t dice = rng_next(&rng);
        if (dice % 3 == 0 && count > 0) {       /* hand one over, and take what lay there */
            uint64_t *cell = own[--count];
            uintptr_t other = sync_swap_acqrel(&table[dice / 3 % TABLE], (uintptr_t)cell, slot, slot);
            if (other) own[count++] = (uint64_t *)other;
        } else if (dice % 3 == 1 ? count > 0 : count >= most) {
            uint64_t *cell = own[--count];
            unsign(cell);
            cell_put(&m, cell);
        } else {
            uint64_t *cell = cell_get(&m);
            CHECK(cell != NULL);
            sign(cell, dice);
            own[count++] = cell;
        }
        if (dice >> 48 == 0) cell_drain(&m);
    }
    while (count > 0) {
        unsign(own[--count]);
        cell_put(&m, own[count]);
    }
    cell_drain(&m);
}

static void no_cell_has_two_owners_and_all_pages_come_back(void **state)
{
    (void)state;
    seed = test_seed();
    watchdog(280);
    for (wave = 0; wave < WAVES; wave++) {
        threads_run(THREADS, work, NULL);
        /* What is left is what lies in the table: a page for each of its cells at most. */
        CHECK(cell_pages() <= TABLE);
    }
    struct magazine m = {0};
    for (unsigned i = 0; i < TABLE; i++) {
        uint64_t *cell = (uint64_t *)sync_swap_acqrel(&table[i], (uintptr_t)0, slot, slot);
        if (!cell) continue;
        unsign(cell);
        cell_put(&m, cell);
    }
    cell_drain(&m);
    assert_int_equal(cell_pages(), 0);
    assert_int_equal(sync_load_relaxed(&stock, stat), 0);
    for (struct shelf *s = (struct shelf *)sync_load_acq(&shelves, shelf); s;
         s = (struct shelf *)sync_load_relaxed(&s->next, owned)) {
        assert_int_equal(sync_load_relaxed(&s->avail, hint), 0);
        for (unsigned i = 0; i < SHELF_PAGES; i++) assert_int_equal(sync_load_relaxed(&s->page[i], hint), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_cell_has_two_owners_and_all_pages_come_back)};
    return cmocka_run_group_tests_name("cell_stress", tests, NULL, NULL);
}
