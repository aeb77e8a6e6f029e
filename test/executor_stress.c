/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks by a pool, racing with cancels, stops and the last handle: each runs once or was stopped once, and its
 * storage, freed as soon as it is its caller's, is not touched after (K2, K5).
 */
#include "pool.h"

enum { THREADS = 4, CALLS = 16 };

typedef struct call {
    cctx_callback_t cb;
    const cctx_t *ctx;
    unsigned runs, stopped;
} call_t;

static cctx_t *root, *branch[2];
static call_t *calls[CALLS];
static pool_t *pool;
static pthread_barrier_t barrier;
static cctx_executor_t at_once = {submit_inline}, never = {submit_never};
static unsigned long ran, prevented;

static void call_main(void *arg)
{
    call_t *call = arg;
    CHECK(cctx_err(call->ctx) == ECANCELED);
    __atomic_add_fetch(&call->runs, 1, __ATOMIC_RELAXED);
}

/* Who stops it for good frees it. */
static void call_end(call_t *call)
{
    call->stopped += cctx_stop_wait(&call->cb);
    CHECK(call->runs + call->stopped == 1);
    __atomic_add_fetch(&ran, call->runs, __ATOMIC_RELAXED);
    __atomic_add_fetch(&prevented, call->stopped, __ATOMIC_RELAXED);
    memset(call, 0xa5, sizeof *call);
    free(call);
}

static void make(rng_t *rng)
{
    root = cctx_with_cancel(cctx_background());
    for (int i = 0; i < 2; i++)
        branch[i] = cctx_with_cancel(root);
    for (int i = 0; i < CALLS; i++) {
        call_t *call = calls[i] = calloc(1, sizeof *call);
        CHECK(call != NULL);
        cctx_executor_t *ex = i % 4 == 0 ? &at_once : i % 4 == 1 ? &never : &pool->executor;
        call->ctx = i % 3 ? branch[rng_below(rng, 2)] : root;
        CHECK(cctx_after_func_on(call->ctx, &call->cb, ex, call_main, call) == 0);
    }
}

static void race(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed_value, 10 + index);
    for (int round = 0; round < *(int *)arg; round++) {
        if (index == 0)
            make(&rng);
        pthread_barrier_wait(&barrier);
        if (index < 2)
            cctx_cancel(rng_below(&rng, 2) ? root : branch[index]);
        for (unsigned i = index; i < CALLS; i += THREADS) {
            if (rng_below(&rng, 4) == 0)
                calls[i]->stopped += cctx_stop(&calls[i]->cb);
            call_end(calls[i]);
        }
        pthread_barrier_wait(&barrier);
        if (index == 0) {
            for (int i = 0; i < 2; i++)
                cctx_unref(branch[i]);
            cctx_close(root);
        }
    }
}

/* B0, C29 */
static void each_runs_once_or_was_stopped_and_its_storage_is_free(void **state)
{
    (void)state;
    int rounds = SCALED(5000);
    test_seed();
    watchdog(200);
    pool = pool_new();
    pthread_barrier_init(&barrier, NULL, THREADS);
    threads_run(THREADS, race, &rounds);
    pthread_barrier_destroy(&barrier);
    pool_free(pool);
    watchdog(0);
    print_message("%lu ran, %lu were stopped\n", ran, prevented);
    assert_true(ran + prevented == (unsigned long)rounds * CALLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_runs_once_or_was_stopped_and_its_storage_is_free),
    };
    return cmocka_run_group_tests_name("executor_stress", tests, NULL, NULL);
}
