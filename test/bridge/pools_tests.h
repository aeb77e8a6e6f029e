/* SPDX-License-Identifier: BSD-2-Clause */
/* pools_tests: the tests that all bridges to pools of threads have in common; POOLS_TESTS lists them. */
#ifndef CCTX_TEST_BRIDGE_POOLS_TESTS_H
#define CCTX_TEST_BRIDGE_POOLS_TESTS_H

#include "pools.h"
#include "queue.h"
#include "support.h"

/* ---- the threads of a pool ---- */

static __thread bool marked;

typedef struct mark {
    uint32_t met;
    gate_t all;
} mark_t;

static int mark_one(const cctx_t *ctx, void *arg)
{
    mark_t *mark = arg;
    (void)ctx;
    marked = true;
    if (__atomic_add_fetch(&mark->met, 1, __ATOMIC_ACQ_REL) == POOL_THREADS)
        gate_open(&mark->all);
    gate_wait(&mark->all);
    return 0;
}

/* Has each of its POOL_THREADS threads meet the others: from here on they are marked. */
static inline void pool_mark(cctx_executor_t *executor)
{
    mark_t mark = {0};
    cctx_group_t *group = cctx_group_new(cctx_background(), executor, 0);
    CHECK(group != NULL);
    for (int i = 0; i < POOL_THREADS; i++)
        CHECK(cctx_group_go(group, mark_one, &mark) == 0);
    CHECK(cctx_group_wait(group) == 0);
    cctx_group_free(group);
}

/* ---- tasks ---- */

typedef struct tasks {
    uint32_t ran, mine, canceled;
} tasks_t;

static inline void tasks_add(uint32_t *count)
{
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

static int task_count(const cctx_t *ctx, void *arg)
{
    tasks_t *tasks = arg;
    (void)ctx;
    tasks_add(&tasks->ran);
    if (pool_mine())
        tasks_add(&tasks->mine);
    return 0;
}

static void each_once(cctx_executor_t *executor, void *arg)
{
    cctx_group_t *group = cctx_group_new(cctx_background(), executor, 0);
    CHECK(group != NULL);
    for (int i = 0; i < 10000; i++)
        CHECK(cctx_group_go(group, task_count, arg) == 0);
    CHECK(cctx_group_wait(group) == 0);
    cctx_group_free(group);
}

static void each_task_runs_once_and_on_the_pool(void **state)
{
    tasks_t tasks = {0};
    (void)state;
    pool_with(each_once, &tasks);
    assert_int_equal(tasks.ran, 10000);
    assert_int_equal(tasks.mine, 10000);
}

static int task_until_done(const cctx_t *ctx, void *arg)
{
    tasks_t *tasks = arg;
    if (cctx_wait(ctx) == ECANCELED)
        tasks_add(&tasks->canceled);
    return 0;
}

static int task_fails(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    (void)arg;
    return EIO;
}

static void first_error(cctx_executor_t *executor, void *arg)
{
    cctx_group_t *group = cctx_group_new(cctx_background(), executor, 0);
    CHECK(group != NULL);
    for (int i = 0; i < POOL_THREADS - 1; i++)
        CHECK(cctx_group_go(group, task_until_done, arg) == 0);
    CHECK(cctx_group_go(group, task_fails, arg) == 0);
    CHECK(cctx_group_wait(group) == EIO);
    cctx_group_free(group);
}

static void the_first_error_ends_the_tasks_that_wait(void **state)
{
    tasks_t tasks = {0};
    (void)state;
    pool_with(first_error, &tasks);
    assert_int_equal(tasks.canceled, POOL_THREADS - 1);
}

/* ---- callbacks ---- */

typedef struct called {
    gate_t done;
    pthread_t thread;
    bool mine;
    uint32_t times;
} called_t;

static void called_back(void *arg)
{
    called_t *called = arg;
    called->thread = pthread_self();
    called->mine = pool_mine();
    tasks_add(&called->times);
    gate_open(&called->done);
}

static void *cancel_it(void *ctx)
{
    cctx_cancel(ctx);
    return NULL;
}

/* Another thread cancels: none of the pool's. */
static void cancel_outside(cctx_executor_t *executor, void *arg)
{
    called_t *called = arg;
    cctx_callback_t callback = {{0}};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(cctx_after_func_on(ctx, &callback, executor, called_back, called) == 0);
    pthread_t thread = thread_start(cancel_it, ctx);
    thread_join(thread);
    gate_wait(&called->done);
    CHECK(!cctx_stop_wait(&callback));
    CHECK(called->mine == pool_outside);
    cctx_unref(ctx);
}

static void a_callback_leaves_the_thread_that_cancels(void **state)
{
    called_t called = {0};
    (void)state;
    pool_with(cancel_outside, &called);
    assert_int_equal(called.times, 1);
}

static void deadline(cctx_executor_t *executor, void *arg)
{
    called_t *called = arg;
    cctx_callback_t callback = {{0}};
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(2));
    CHECK(cctx_after_func_on(ctx, &callback, executor, called_back, called) == 0);
    gate_wait(&called->done);
    CHECK(!cctx_stop_wait(&callback));
    CHECK(called->mine || !pool_outside);
    cctx_unref(ctx);
}

static void a_deadline_runs_its_callback_once(void **state)
{
    called_t called = {0};
    (void)state;
    pool_with(deadline, &called);
    assert_int_equal(called.times, 1);
}

/* ---- the queue ---- */

typedef struct flow {
    queue_t queue;
    cctx_t *ctx;
    uint64_t put, got;
    uint32_t ended;
} flow_t;

/* Takes items until its context ends, and only then. */
static int consume(const cctx_t *ctx, void *arg)
{
    flow_t *flow = arg;
    long item;
    int err;
    while ((err = queue_get(&flow->queue, ctx, &item)) == 0)
        __atomic_fetch_add(&flow->got, (uint64_t)item, __ATOMIC_RELAXED);
    CHECK(err == cctx_err(ctx) && err == ECANCELED);
    tasks_add(&flow->ended);
    return 0;
}

static void *produce(void *arg)
{
    flow_t *flow = arg;
    for (long i = 0; i < SCALED(20000); i++) {
        CHECK(queue_put(&flow->queue, flow->ctx, i) == 0);
        flow->put += (uint64_t)i;
    }
    /* All is taken where each hole is there again. */
    for (int i = 0; i < QUEUE_ROOM; i++)
        CHECK(queue_take(&flow->queue.holes, cctx_background()) == 0);
    cctx_cancel(flow->ctx);
    return NULL;
}

static void flows(cctx_executor_t *executor, void *arg)
{
    flow_t *flow = arg;
    cctx_group_t *group = cctx_group_new(flow->ctx, executor, 0);
    CHECK(group != NULL);
    pthread_t producer = thread_start(produce, flow);
    for (int i = 0; i < POOL_THREADS; i++)
        CHECK(cctx_group_go(group, consume, flow) == 0);
    CHECK(cctx_group_wait(group) == 0);
    thread_join(producer);
    cctx_group_free(group);
}

static void a_queue_loses_no_item_and_ends_with_the_context(void **state)
{
    flow_t flow = {.queue = {.holes = QUEUE_ROOM, .lock = PTHREAD_MUTEX_INITIALIZER}};
    (void)state;
    flow.ctx = cctx_with_cancel(cctx_background());
    pool_with(flows, &flow);
    assert_int_equal(flow.ended, POOL_THREADS);
    assert_true(flow.put == flow.got);
    assert_int_equal(flow.queue.used, 0);
    cctx_unref(flow.ctx);
}

/* ---- the figure ---- */

enum { POOL_TASKS = SCALED(200000) };

typedef struct counted {
    uint32_t ran;
    gate_t all;
} counted_t;

static void bare_count(void *arg)
{
    counted_t *counted = arg;
    if (__atomic_add_fetch(&counted->ran, 1, __ATOMIC_ACQ_REL) == POOL_TASKS)
        gate_open(&counted->all);
}

static void bare_wait(void *arg)
{
    counted_t *counted = arg;
    gate_wait(&counted->all);
}

static int group_count(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    bare_count(arg);
    return 0;
}

static void submit_only(cctx_executor_t *executor, void *arg)
{
    for (unsigned i = 0; i < POOL_TASKS; i++)
        if (executor->submit(executor, bare_count, arg) != 0)
            bare_count(arg);
    bare_wait(arg);
}

static void group_tasks(cctx_executor_t *executor, void *arg)
{
    cctx_group_t *group = cctx_group_new(cctx_background(), executor, 0);
    CHECK(group != NULL);
    for (unsigned i = 0; i < POOL_TASKS; i++)
        CHECK(cctx_group_go(group, group_count, arg) == 0);
    CHECK(cctx_group_wait(group) == 0);
    cctx_group_free(group);
}

/* The best of some rounds, as other programs take their share of the processors. */
static void how_many_tasks_a_second(void **state)
{
    double best[3] = {0};
    (void)state;
    for (int round = 0; round < 15; round++) {
        counted_t counted = {0};
        int64_t begin = now_ns();
        switch (round % 3) {
        case 0: pool_bare(POOL_TASKS, bare_count, bare_wait, &counted); break;
        case 1: pool_with(submit_only, &counted); break;
        default: pool_with(group_tasks, &counted); break;
        }
        double rate = (double)POOL_TASKS * 1e3 / (double)(now_ns() - begin);
        assert_int_equal(counted.ran, POOL_TASKS);
        if (rate > best[round % 3])
            best[round % 3] = rate;
    }
    print_message("figure: million tasks a second: bare pool %.3g, executor %.3g, group %.3g (%d tasks)\n",
                  best[0], best[1], best[2], POOL_TASKS);
}

#define POOLS_TESTS                                                                                          \
    cmocka_unit_test(each_task_runs_once_and_on_the_pool),                                                   \
        cmocka_unit_test(the_first_error_ends_the_tasks_that_wait),                                          \
        cmocka_unit_test(a_callback_leaves_the_thread_that_cancels),                                         \
        cmocka_unit_test(a_deadline_runs_its_callback_once),                                                 \
        cmocka_unit_test(a_queue_loses_no_item_and_ends_with_the_context),                                   \
        cmocka_unit_test(how_many_tasks_a_second)

#endif
