/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to OpenMP's tasks. */
#include "pools_tests.h"

#include <cctx/bridge/openmp.h>

/* ---- what the tests of all pools ask for ---- */

const bool pool_outside = false;

bool pool_mine(void)
{
    return omp_in_parallel() != 0;
}

/* The threads beside the one that runs body are at the barrier of single, where they run tasks. */
void pool_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg)
{
#pragma omp parallel num_threads(POOL_THREADS + 1)
#pragma omp single
    {
        CHECK(omp_get_num_threads() == POOL_THREADS + 1);
        body(cctx_openmp(), arg);
    }
}

void pool_bare(unsigned n, void (*fn)(void *arg), void (*wait)(void *arg), void *arg)
{
#pragma omp parallel num_threads(POOL_THREADS + 1)
#pragma omp single
    {
        for (unsigned i = 0; i < n; i++)
#pragma omp task firstprivate(fn, arg)
            fn(arg);
        wait(arg);
    }
}

/* ---- the tests of this one ---- */

static void outside_of_a_region_it_refuses(void **state)
{
    counted_t counted = {0};
    tasks_t tasks = {0};
    (void)state;
    assert_int_equal(cctx_openmp()->submit(cctx_openmp(), bare_count, &counted), EAGAIN);
    assert_int_equal(counted.ran, 0);
    each_once(cctx_openmp(), &tasks);
    assert_int_equal(tasks.ran, 10000);
    assert_int_equal(tasks.mine, 0);
}

/* A tree of tasks: each starts two more. */
typedef struct branch {
    cctx_group_t *group;
    uint32_t *ran;
    int depth;
} branch_t;

static branch_t branches[11];

static int grow(const cctx_t *ctx, void *arg)
{
    branch_t *branch = arg;
    (void)ctx;
    tasks_add(branch->ran);
    if (branch->depth > 0) {
        cctx_group_go(branch->group, grow, branch - 1);
        cctx_group_go(branch->group, grow, branch - 1);
    }
    return 0;
}

static void the_end_of_a_taskgroup_has_run_all_that_tasks_started(void **state)
{
    uint32_t ran = 0, before = 0;
    (void)state;
    for (int threads = 1; threads <= POOL_THREADS; threads++) {
        ran = 0;
#pragma omp parallel num_threads(threads)
#pragma omp single
        {
            cctx_group_t *group = cctx_group_new(cctx_background(), cctx_openmp(), 0);
            for (int i = 0; i <= 10; i++)
                branches[i] = (branch_t){group, &ran, i};
#pragma omp taskgroup
            cctx_group_go(group, grow, &branches[10]);
            before = __atomic_load_n(&ran, __ATOMIC_RELAXED);
            CHECK(cctx_group_wait(group) == 0);
            cctx_group_free(group);
        }
        assert_int_equal(before, 2047);
        assert_int_equal(ran, 2047);
    }
}

static void cancel_inside(cctx_executor_t *executor, void *arg)
{
    called_t *called = arg;
    cctx_callback_t callback = {{0}};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(cctx_after_func_on(ctx, &callback, executor, called_back, called) == 0);
#pragma omp taskgroup
    cctx_cancel(ctx);
    CHECK(!cctx_stop_wait(&callback));
    CHECK(called->mine && called->times == 1);
    cctx_unref(ctx);
}

static void a_cancel_inside_of_the_region_makes_a_task(void **state)
{
    called_t called = {0};
    (void)state;
    pool_with(cancel_inside, &called);
    assert_int_equal(called.times, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOLS_TESTS,
        cmocka_unit_test(outside_of_a_region_it_refuses),
        cmocka_unit_test(the_end_of_a_taskgroup_has_run_all_that_tasks_started),
        cmocka_unit_test(a_cancel_inside_of_the_region_makes_a_task),
    };
    watchdog(200);
    return cmocka_run_group_tests_name("openmp", tests, NULL, NULL);
}
