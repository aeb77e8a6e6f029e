/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Groups against everything at once: tasks that start tasks, on threads, a pool, the caller and a pool that
 * refuses some; limits; errors; a parent that ends; waiters beside those who start; the free at once after.
 * Each task runs once, no more than the limit at a time, and all it did is seen after the wait.
 */
#include "executors.h"

#include <cctx/group.h>

enum { TASKS = 64, STARTERS = 3 };

typedef struct round {
    cctx_group_t *group;
    cctx_t *parent;
    size_t limit;
    unsigned children; /* of a task, at most */
    unsigned failing;  /* one task in so many fails; 0: none */
    rng_t rng;
    unsigned started, active, errors; /* atomic */
} round_t;

/* What a task gets. */
typedef struct slot {
    round_t *round;
    unsigned index, ran; /* plain: one task each */
} slot_t;

static uint64_t seed;
static pool_t pool, refusing;
static slot_t slots[TASKS];

static void start_some(round_t *round, unsigned n);

static int run_task(const cctx_t *ctx, void *arg)
{
    slot_t *slot = arg;
    round_t *round = slot->round;
    rng_t rng = rng_make(seed, round->rng.state ^ slot->index);
    unsigned active = __atomic_add_fetch(&round->active, 1, __ATOMIC_RELAXED);
    CHECK(round->limit == 0 || active <= round->limit);
    CHECK(++slot->ran == 1);
    if (rng_below(&rng, 4) == 0)
        cctx_wait_for(ctx, (int64_t)rng_below(&rng, 20000));
    if (round->children > 0)
        start_some(round, (unsigned)rng_below(&rng, round->children + 1));
    bool fails = round->failing > 0 && rng_below(&rng, round->failing) == 0;
    if (fails)
        __atomic_add_fetch(&round->errors, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&round->active, 1, __ATOMIC_RELAXED);
    return fails ? (int)slot->index + 1 : 0;
}

static void start_some(round_t *round, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned index = __atomic_fetch_add(&round->started, 1, __ATOMIC_RELAXED);
        if (index >= TASKS)
            return;
        slots[index] = (slot_t){round, index, 0};
        CHECK(cctx_group_go(round->group, run_task, &slots[index]) == 0);
    }
}

/* The first of them ends the parent, now and then; each starts tasks, and waits. */
static void start_and_wait(unsigned index, void *arg)
{
    round_t *round = arg;
    rng_t rng = rng_make(seed, round->rng.state + index);
    start_some(round, (unsigned)rng_below(&rng, TASKS / STARTERS + 1));
    if (index == 0 && rng_below(&rng, 4) == 0)
        cctx_cancel(round->parent);
    int err = cctx_group_wait(round->group);
    CHECK(err >= 0 && err <= TASKS);
}

static void play(uint64_t number)
{
    round_t round = {.rng = rng_make(seed, number)};
    cctx_executor_t *executors[] = {NULL, &pool.later.executor, &refusing.later.executor, refuses(), inline_run()};
    unsigned way = (unsigned)rng_below(&round.rng, 5);
    round.limit = rng_below(&round.rng, 3) ? 1 + (size_t)rng_below(&round.rng, 6) : 0;
    /* With a limit, tasks that start tasks may wait for ever. */
    round.children = round.limit ? 0 : (unsigned)rng_below(&round.rng, 3);
    round.failing = (unsigned)rng_below(&round.rng, 40);
    round.parent = cctx_with_timeout(cctx_background(), rng_below(&round.rng, 4) ? CCTX_NEVER : CCTX_US(200));
    round.group = cctx_group_new(round.parent, executors[way], round.limit);
    CHECK(round.group != NULL);
    bool crowd = rng_below(&round.rng, 2) == 0, waits = rng_below(&round.rng, 4) != 0;
    const cctx_t *ctx = cctx_ref(cctx_group_context(round.group));
    if (crowd)
        threads_run(STARTERS, start_and_wait, &round);
    else
        start_some(&round, TASKS / 2);
    int err = waits || crowd ? cctx_group_wait(round.group) : 0;
    cctx_group_free(round.group);
    CHECK(cctx_is_done(ctx) && __atomic_load_n(&round.active, __ATOMIC_RELAXED) == 0);
    unsigned started = round.started < TASKS ? round.started : TASKS, failed = round.errors;
    for (unsigned i = 0; i < started; i++)
        CHECK(slots[i].ran == 1);
    if (waits || crowd)
        CHECK((err != 0) == (failed != 0));
    cctx_unref(ctx);
    cctx_unref(round.parent);
}

static void each_task_runs_once_and_is_over_when_its_group_is(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < (uint64_t)SCALED(1000); i++)
        play(i);
}

/* C22: nothing is left of forty thousand tasks. */
static int nothing(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    (void)arg;
    return 0;
}

static void a_group_that_lives_on_does_not_grow(void **state)
{
    (void)state;
    cctx_group_t *group = cctx_group_new(cctx_background(), &pool.later.executor, 16);
    assert_non_null(group);
    size_t before = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < SCALED(20000); i++)
            CHECK(cctx_group_go(group, nothing, NULL) == 0);
        CHECK(cctx_group_wait(group) == 0);
        if (turn == 0)
            before = memory_in_use();
    }
    assert_true(memory_in_use() < before + 64 * 1024);
    cctx_group_free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_runs_once_and_is_over_when_its_group_is),
        cmocka_unit_test(a_group_that_lives_on_does_not_grow),
    };
    seed = test_seed();
    watchdog(100);
    pool_start(&pool, 3);
    pool_start(&refusing, 2);
    refusing.later.refuse_every = 3;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop(&pool);
    pool_stop(&refusing);
    return failed;
}
