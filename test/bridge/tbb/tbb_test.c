/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to oneTBB. */
#include "pools_tests.h"

#include "tbb_pool.h"

const bool pool_outside = true;

bool pool_mine(void)
{
    return marked;
}

typedef struct with {
    void (*body)(cctx_executor_t *executor, void *arg);
    void *arg;
} with_t;

static void mark_and_run(cctx_executor_t *executor, void *arg)
{
    with_t *with = arg;
    pool_mark(executor);
    with->body(executor, with->arg);
}

void pool_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg)
{
    with_t with = {body, arg};
    tbb_with(mark_and_run, &with);
}

static void without_memory(cctx_executor_t *executor, void *arg)
{
    called_t *called = arg;
    cctx_callback_t callback = {{0}};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(cctx_after_func_on(ctx, &callback, executor, called_back, called) == 0);
    refuse_memory = true;
    CHECK(executor->submit(executor, called_back, called) == ENOMEM);
    CHECK(called->times == 0);
    cctx_cancel(ctx);
    refuse_memory = false;
    CHECK(called->times == 1);
    CHECK(pthread_equal(called->thread, pthread_self()));
    cctx_unref(ctx);
}

static void a_task_without_memory_runs_once_where_it_is_started(void **state)
{
    called_t called = {0};
    (void)state;
    pool_with(without_memory, &called);
    assert_int_equal(called.times, 1);
}

/* ---- the end of the executor ---- */

static gate_t enqueued, enqueue_may_return, leaving;
static pthread_t canceler;
static pid_t closer;
static bool held;

static void *cancel_and_drop(void *ctx)
{
    cctx_close(ctx);
    return NULL;
}

static void hold_enqueue(void)
{
    __atomic_store_n(&held, true, __ATOMIC_SEQ_CST);
    gate_open(&enqueued);
    gate_wait(&enqueue_may_return);
    __atomic_store_n(&held, false, __ATOMIC_SEQ_CST);
}

static void none_inside(void)
{
    CHECK(!__atomic_load_n(&held, __ATOMIC_SEQ_CST));
}

static void leave_one_inside(cctx_executor_t *executor, void *arg)
{
    called_t *called = arg;
    static cctx_callback_t callback;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(cctx_after_func_on(ctx, &callback, executor, called_back, called) == 0);
    after_enqueue = hold_enqueue;
    after_executor = none_inside;
    canceler = thread_start(cancel_and_drop, ctx);
    gate_wait(&enqueued);
    gate_wait(&called->done);
    CHECK(!cctx_stop_wait(&callback));
    closer = (pid_t)syscall(SYS_gettid);
    gate_open(&leaving);
}

static void *close_it(void *arg)
{
    pool_with(leave_one_inside, arg);
    return NULL;
}

static void the_end_waits_for_a_submit_whose_task_has_run(void **state)
{
    called_t called = {0};
    (void)state;
    pthread_t thread = thread_start(close_it, &called);
    gate_wait(&leaving);
    await_sleep(closer);
    gate_open(&enqueue_may_return);
    thread_join(thread);
    thread_join(canceler);
    after_enqueue = after_executor = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOLS_TESTS,
        cmocka_unit_test(a_task_without_memory_runs_once_where_it_is_started),
        cmocka_unit_test(the_end_waits_for_a_submit_whose_task_has_run),
    };
    watchdog(200);
    return cmocka_run_group_tests_name("tbb", tests, NULL, NULL);
}
