/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cell: the magazine and the pages, single-threaded. The room is compiled in here under other names and with
 * its magazine at work, so that it is tested also where a sanitizer makes the library do without.
 */
#include "support.h"

#define CELL_DIRECT 0
#define cell_refill cell_refill_here
#define cell_spill  cell_spill_here
#define cell_drain  cell_drain_here
#define cell_pages  cell_pages_here
#include "cell.c"

enum { PER_PAGE = CELL_END - 1, MOST = 40 * PER_PAGE };

static struct magazine magazine;
static void *cells[MOST];

static void take(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        cells[i] = cell_get(&magazine);
        assert_non_null(cells[i]);
    }
}

static int by_address(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return x < y ? -1 : x > y;
}

/* What all tests begin and end with: nothing in use, nothing held from the allocator, nothing on a shelf. */
static int nothing_is_left(void **state)
{
    (void)state;
    cell_drain(&magazine);
    assert_int_equal(cell_pages(), 0);
    assert_int_equal(sync_load_relaxed(&stock, stat), 0);
    for (struct shelf *s = (struct shelf *)sync_load_relaxed(&shelves, owned); s;
         s = (struct shelf *)sync_load_relaxed(&s->next, owned)) {
        assert_int_equal(sync_load_relaxed(&s->avail, hint), 0);
        for (unsigned i = 0; i < SHELF_PAGES; i++) assert_int_equal(sync_load_relaxed(&s->page[i], hint), 0);
    }
    return 0;
}

/* Claim C1 of the room: no cell is handed out twice; none is the header of its page, and each is a line. */
static void cells_in_use_are_lines_apart(void **state)
{
    (void)state;
    take(0, MOST);
    for (unsigned i = 0; i < MOST; i++) {
        assert_int_equal((uintptr_t)cells[i] % CELL_SIZE, 0);
        assert_int_not_equal((uintptr_t)cells[i] % CELL_PAGE, 0);
        memset(cells[i], (int)(i % 251), CELL_SIZE);
    }
    for (unsigned i = 0; i < MOST; i++)
        for (unsigned j = 0; j < CELL_SIZE; j++) assert_int_equal(((unsigned char *)cells[i])[j], i % 251);
    qsort(cells, MOST, sizeof *cells, by_address);
    for (unsigned i = 1; i < MOST; i++) assert_ptr_not_equal(cells[i], cells[i - 1]);
    assert_int_equal(cell_pages(), MOST / PER_PAGE);
    for (unsigned i = 0; i < MOST; i++) cell_put(&magazine, cells[i]);
}

static void the_cell_put_last_is_got_next(void **state)
{
    (void)state;
    take(0, 3);
    for (unsigned i = 0; i < 3; i++) cell_put(&magazine, cells[i]);
    for (unsigned i = 3; i-- > 0;) assert_ptr_equal(cell_get(&magazine), cells[i]);
    for (unsigned i = 0; i < 3; i++) cell_put(&magazine, cells[i]);
}

/* Claim C3 of the room: with its last cell a page goes back, in whatever order they come. */
static void a_page_goes_back_with_its_last_cell(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 1);
    for (int round = 0; round < 20; round++) {
        unsigned count = (unsigned)rng_below(&rng, MOST) + 1;
        take(0, count);
        for (unsigned i = 0; i < count; i++) {
            unsigned j = i + (unsigned)rng_below(&rng, count - i);
            void *swap = cells[i];
            cells[i] = cells[j];
            cells[j] = swap;
        }
        cell_drain(&magazine);          /* what refills left there, so that cell_back alone decides */
        unsigned pages_left = cell_pages();
        qsort(cells + count / 2, count - count / 2, sizeof *cells, by_address);
        for (unsigned i = 0; i < count; i++) {
            uintptr_t page = (uintptr_t)cells[i] / CELL_PAGE;
            bool more = false;
            for (unsigned j = i + 1; j < count && !more; j++) more = (uintptr_t)cells[j] / CELL_PAGE == page;
            cell_back(cells[i]);
            if (!more) pages_left--;
            assert_int_equal(cell_pages(), pages_left);
        }
        assert_int_equal(pages_left, 0);
    }
}

/* A full magazine keeps the half that was used last, and the rest goes back to the pages. */
static void a_full_magazine_keeps_its_youngest_half(void **state)
{
    (void)state;
    enum { N = MAGAZINE_SIZE + 1 };
    take(0, N);
    unsigned had = magazine.count;
    for (unsigned i = 0; i < had; i++) cells[N + i] = cell_get(&magazine);
    for (unsigned i = 0; i < N; i++) cell_put(&magazine, cells[i]);
    assert_int_equal(magazine.count, MAGAZINE_HALF + 1);
    for (unsigned i = N; i-- > N - MAGAZINE_HALF - 1;) assert_ptr_equal(cell_get(&magazine), cells[i]);
    for (unsigned i = N - MAGAZINE_HALF - 1; i < N; i++) cell_put(&magazine, cells[i]);
    for (unsigned i = 0; i < had; i++) cell_put(&magazine, cells[N + i]);
}

/* Claim C2 of the room: free cells of a page in use are found again before a page is asked for. */
static void holes_are_filled_before_a_page_is_added(void **state)
{
    (void)state;
    take(0, MOST);
    unsigned most = cell_pages();
    for (unsigned i = 0; i < MOST; i += 2) cell_back(cells[i]);
    for (unsigned i = 0; i < MOST; i += 2) cells[i] = cell_get(&magazine);
    assert_int_equal(cell_pages(), most);
    cell_drain(&magazine);
    for (unsigned i = 0; i < MOST; i++) cell_back(cells[i]);
}

/* Shelves are never freed, so their places are used again: seven in eight at least at the widest moment. */
static void shelves_do_not_grow_by_waves(void **state)
{
    (void)state;
    uint32_t first = 0;
    for (int wave = 0; wave < 30; wave++) {
        take(0, MOST);
        if (wave == 0) first = sync_load_relaxed(&places, stat);
        for (unsigned i = 0; i < MOST; i++) cell_put(&magazine, cells[i]);
        cell_drain(&magazine);
    }
    assert_int_equal(sync_load_relaxed(&places, stat), first);
}

/* Any order of gets, puts, spills and drains: a cell is in use once (claim C1 of the room). */
static void any_history_hands_out_each_cell_once(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 2);
    unsigned count = 0;
    for (int step = 0; step < SCALED(400000); step++) {
        bool grow = rng_below(&rng, MOST) >= count;
        if (grow && count < MOST) {
            uintptr_t *cell = cells[count++] = cell_get(&magazine);
            assert_non_null(cell);
            cell[0] = (uintptr_t)cell;
            cell[7] = count;
        } else if (count > 0) {
            unsigned i = (unsigned)rng_below(&rng, count);
            uintptr_t *cell = cells[i];
            assert_int_equal(cell[0], (uintptr_t)cell);
            assert_int_equal(cell[7], i + 1);
            cells[i] = cells[--count];
            ((uintptr_t *)cells[i])[7] = i + 1;
            cell[0] = 0;
            cell_put(&magazine, cell);
        }
        if (rng_below(&rng, 4096) == 0) cell_drain(&magazine);
    }
    while (count > 0) cell_put(&magazine, cells[--count]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(cells_in_use_are_lines_apart, nothing_is_left),
        cmocka_unit_test_teardown(the_cell_put_last_is_got_next, nothing_is_left),
        cmocka_unit_test_teardown(a_page_goes_back_with_its_last_cell, nothing_is_left),
        cmocka_unit_test_teardown(a_full_magazine_keeps_its_youngest_half, nothing_is_left),
        cmocka_unit_test_teardown(holes_are_filled_before_a_page_is_added, nothing_is_left),
        cmocka_unit_test_teardown(shelves_do_not_grow_by_waves, nothing_is_left),
        cmocka_unit_test_teardown(any_history_hands_out_each_cell_once, nothing_is_left),
    };
    return cmocka_run_group_tests_name("cell", tests, NULL, NULL);
}
