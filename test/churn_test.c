/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory under churn: a parent that lives for ever while millions of children come and go beneath it does
 * not grow, nor do the deadlines that are armed and disarmed meanwhile, nor what one thread makes and another
 * frees.
 */
#include "support.h"

#include <sched.h>

#define HOUR CCTX_S(3600)
#define KIB ((size_t)1024)

typedef struct memory {
    size_t in_use, rss;
} memory_t;

static memory_t memory_now(void)
{
    malloc_trim(0);
    return (memory_t){memory_in_use(), memory_rss()};
}

/* The allocator's count is exact everywhere; what is resident says something only without a sanitizer, which
   keeps freed memory back on purpose. */
static void grew_less_than(const char *what, memory_t before, memory_t after, size_t bound)
{
    print_message("%s: in use %zu KiB before, %zu KiB after; resident %zu KiB before, %zu KiB after\n", what,
                  before.in_use / KIB, after.in_use / KIB, before.rss / KIB, after.rss / KIB);
    assert_true(after.in_use < before.in_use + bound);
    if (!TEST_SANITIZED)
        assert_true(after.rss < before.rss + bound + 2048 * KIB);
}

typedef struct churn {
    const cctx_t *parent;
    int64_t children;  /* for each thread */
    unsigned widest;   /* of one thread, at a time */
    unsigned timeouts; /* of 4 children, how many have one */
    bool cancels;
    uint64_t stream;
} churn_t;

/* Waves of every width up to the widest, freed in another order than that in which they were made. */
static void churn(unsigned index, void *arg)
{
    const churn_t *churn = arg;
    rng_t rng = rng_make(test_seed_value, churn->stream + index);
    cctx_t **wave = calloc(churn->widest, sizeof *wave);
    CHECK(wave != NULL);
    for (int64_t made = 0; made < churn->children;) {
        size_t width = 1 + (size_t)rng_below(&rng, churn->widest), step = 1 + 2 * (size_t)rng_below(&rng, 50);
        for (size_t i = 0; i < width; i++) {
            int64_t timeout = CCTX_S(1) * (int64_t)(2 + 5 * i);
            wave[i] = i % 4 < churn->timeouts ? cctx_with_timeout(churn->parent, timeout)
                                              : cctx_with_cancel(churn->parent);
            CHECK(wave[i] != NULL);
        }
        for (size_t start = 0; start < step && start < width; start++) {
            for (size_t i = start; i < width; i += step) {
                if (churn->cancels)
                    cctx_close(wave[i]);
                else
                    cctx_unref(wave[i]);
            }
        }
        made += (int64_t)width;
    }
    free(wave);
}

static void churn_under(const char *what, const cctx_t *parent, int64_t children, unsigned widest,
                        unsigned timeouts, bool cancels)
{
    churn_t job = {parent, children / 20, widest, timeouts, cancels, 1000};
    test_seed();
    threads_run(2, churn, &job); /* every wave's width and every cache has been seen once */
    memory_t before = memory_now();
    job.children = children / 2;
    job.stream = 2000;
    threads_run(2, churn, &job);
    grew_less_than(what, before, memory_now(), 512 * KIB);
}

/* C22, C21 */
static void ten_million_children_of_one_parent_leave_it_as_it_was(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    churn_under("waves of 1,000, dropped", parent, SCALED(8000000), 1000, 0, false);
    churn_under("waves of 1,000, closed", parent, SCALED(1000000), 1000, 0, true);
    churn_under("one at a time", parent, SCALED(1000000), 1, 0, false);
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(parent);
}

/* C14, C22 */
static void millions_of_timeouts_armed_and_disarmed_leave_nothing(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_timeout(cctx_background(), 10 * HOUR);
    churn_under("timeouts, waves of 1,000", parent, SCALED(2000000), 1000, 4, false);
    churn_under("one in two with a timeout", parent, SCALED(1000000), 300, 2, true);
    churn_under("timeouts under the root", cctx_background(), SCALED(1000000), 1000, 4, false);
    cctx_close(parent);
}

/* C22 */
static void a_grandparent_that_lives_for_ever_does_not_grow_under_families(void **state)
{
    (void)state;
    const int families = SCALED(200000);
    cctx_t *grandparent = cctx_with_cancel(cctx_background());
    memory_t before = {0, 0};
    for (int i = -families / 20; i < families; i++) {
        if (i == 0)
            before = memory_now();
        cctx_t *parent = cctx_with_cancel(grandparent), *children[5];
        for (size_t j = 0; j < 5; j++)
            children[j] = cctx_with_cancel(parent);
        cctx_unref(parent);
        if (i % 2)
            cctx_cancel(children[2]);
        for (size_t j = 0; j < 5; j++)
            cctx_unref(children[j]);
    }
    grew_less_than("families of six", before, memory_now(), 512 * KIB);
    cctx_close(grandparent);
}

enum { BELT = 256 };

typedef struct belt {
    cctx_t *contexts[BELT];
    const cctx_t *parent;
    int64_t items;
    bool timeouts;
} belt_t;

/* Thread 0 derives, thread 1 frees: a free list that only its own thread uses again would grow for ever. */
static void belt_run(unsigned index, void *arg)
{
    belt_t *belt = arg;
    for (int64_t i = 0; i < belt->items; i++) {
        cctx_t **place = &belt->contexts[i % BELT], *ctx;
        if (index == 0) {
            ctx = belt->timeouts ? cctx_with_timeout(belt->parent, HOUR) : cctx_with_cancel(belt->parent);
            CHECK(ctx != NULL);
            while (__atomic_load_n(place, __ATOMIC_ACQUIRE))
                sched_yield();
            __atomic_store_n(place, ctx, __ATOMIC_RELEASE);
        } else {
            while (!(ctx = __atomic_load_n(place, __ATOMIC_ACQUIRE)))
                sched_yield();
            __atomic_store_n(place, NULL, __ATOMIC_RELEASE);
            cctx_unref(ctx);
        }
    }
}

/* C22 */
static void what_one_thread_makes_and_another_frees_does_not_pile_up(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    for (int kind = 0; kind < 3; kind++) {
        belt_t belt = {.parent = kind == 1 ? cctx_background() : parent, .timeouts = kind == 2};
        belt.items = SCALED(50000);
        threads_run(2, belt_run, &belt);
        memory_t before = memory_now();
        belt.items = SCALED(1000000);
        threads_run(2, belt_run, &belt);
        grew_less_than(kind == 2 ? "passed on, with timeouts" : "passed on", before, memory_now(), 512 * KIB);
    }
    cctx_close(parent);
}

/* C21, C22 */
static void the_memory_of_a_wide_moment_comes_back_with_its_parent(void **state)
{
    (void)state;
    const size_t width = (size_t)SCALED(500000);
    cctx_t **children = calloc(width, sizeof *children);
    assert_non_null(children);
    memset(children, 1, width * sizeof *children);
    memory_t before = {0, 0};
    for (int round = 0; round < 4; round++) {
        if (round == 1)
            before = memory_now();
        cctx_t *parent = cctx_with_cancel(cctx_background());
        for (size_t i = 0; i < width; i++)
            children[i] = cctx_with_cancel(parent);
        memory_t wide = memory_now();
        assert_true(wide.in_use > before.in_use + width * 32); /* else the measure sees nothing */
        if (round % 2)
            cctx_cancel(parent);
        for (size_t i = 0; i < width; i++)
            cctx_unref(children[i]);
        cctx_unref(parent);
    }
    grew_less_than("half a million at once, and gone", before, memory_now(), 512 * KIB);
    free(children);
}

/* The slots of a wide moment are kept while the parent lives, and the next wide moment uses them. C22 */
static void a_second_wide_moment_needs_no_more_than_the_first(void **state)
{
    (void)state;
    const size_t width = (size_t)SCALED(200000);
    cctx_t **children = calloc(width, sizeof *children);
    assert_non_null(children);
    memset(children, 1, width * sizeof *children);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    memory_t first = {0, 0};
    for (int round = 0; round < 8; round++) {
        for (size_t i = 0; i < width; i++)
            children[i] = round % 3 == 2 ? cctx_with_timeout(parent, HOUR) : cctx_with_cancel(parent);
        for (size_t i = 0; i < width; i++)
            cctx_unref(children[i]);
        if (round == 3)
            first = memory_now();
    }
    memory_t after = memory_now();
    grew_less_than("wide moments", first, after, 512 * KIB);
    free(children);
    cctx_close(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_million_children_of_one_parent_leave_it_as_it_was),
        cmocka_unit_test(millions_of_timeouts_armed_and_disarmed_leave_nothing),
        cmocka_unit_test(a_grandparent_that_lives_for_ever_does_not_grow_under_families),
        cmocka_unit_test(what_one_thread_makes_and_another_frees_does_not_pile_up),
        cmocka_unit_test(the_memory_of_a_wide_moment_comes_back_with_its_parent),
        cmocka_unit_test(a_second_wide_moment_needs_no_more_than_the_first),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
