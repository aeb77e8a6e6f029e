/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guards of several threads on few contexts that others end: after each disarm the handle is poisoned and freed, and
 * no interrupt finds it so (G2, G3, G4). Some interrupts disarm their guard themselves.
 */
#include "support.h"

#include <cctx/guard.h>
#include <sched.h>

enum { THREADS = 4, ALIVE = 0x11223344 };

typedef struct handle {
    cctx_guard_t guard;
    unsigned alive;
    unsigned calls; /* atomic: for the owner to wait for */
    bool disarms;
    bool gone;
} handle_t;

static cctx_t *ends[2];
static pthread_barrier_t barrier;
static unsigned long interrupts;

static void interrupt(void *arg)
{
    handle_t *handle = arg;
    CHECK(handle->alive == ALIVE);
    __atomic_add_fetch(&interrupts, 1, __ATOMIC_RELAXED);
    if (handle->disarms) {
        cctx_guard_disarm(&handle->guard);
        memset(&handle->guard, 0xa5, sizeof handle->guard);
        __atomic_store_n(&handle->gone, true, __ATOMIC_RELEASE);
    } else {
        __atomic_add_fetch(&handle->calls, 1, __ATOMIC_RELAXED);
    }
}

static void guard_once(rng_t *rng)
{
    handle_t *handle = calloc(1, sizeof *handle);
    CHECK(handle != NULL);
    handle->alive = ALIVE;
    handle->disarms = rng_below(rng, 4) == 0;
    cctx_t *own = rng_below(rng, 2) ? cctx_with_timeout(ends[0], (int64_t)rng_below(rng, 200000)) : NULL;
    const cctx_t *ctx = own ? own : ends[rng_below(rng, 2)];
    CHECK(cctx_guard_arm(&handle->guard, ctx, interrupt, handle) == 0);
    if (rng_below(rng, 16) == 0) /* until it has come again */
        while (cctx_is_done(ctx) && !handle->disarms && __atomic_load_n(&handle->calls, __ATOMIC_RELAXED) < 2)
            usleep(100);
    for (uint64_t n = rng_below(rng, 6); n > 0; n--)
        sched_yield();
    if (!handle->disarms) {
        cctx_guard_disarm(&handle->guard);
    } else {
        /* It ends, and nobody but interrupt disarms it. */
        if (own)
            cctx_cancel(own);
        else
            cctx_wait(ctx);
        while (!__atomic_load_n(&handle->gone, __ATOMIC_ACQUIRE))
            usleep(10);
    }
    cctx_unref(own);
    handle->alive = 0;
    memset(handle, 0xa5, sizeof *handle);
    free(handle);
}

static void race(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed_value, 20 + index);
    for (int round = 0; round < *(int *)arg; round++) {
        if (index == 0)
            for (int i = 0; i < 2; i++)
                ends[i] = cctx_with_cancel(cctx_background());
        pthread_barrier_wait(&barrier);
        if (index < 2) {
            for (uint64_t n = rng_below(&rng, 8); n > 0; n--)
                sched_yield();
            cctx_cancel(ends[index]);
        }
        for (int i = 0; i < 2; i++)
            guard_once(&rng);
        pthread_barrier_wait(&barrier);
        if (index == 0)
            for (int i = 0; i < 2; i++)
                cctx_unref(ends[i]);
    }
}

/* B4 */
static void no_interrupt_finds_a_handle_whose_guard_is_disarmed(void **state)
{
    (void)state;
    int rounds = SCALED(400);
    test_seed();
    watchdog(200);
    pthread_barrier_init(&barrier, NULL, THREADS);
    threads_run(THREADS, race, &rounds);
    pthread_barrier_destroy(&barrier);
    watchdog(0);
    print_message("%lu interrupts, %d guards\n", interrupts, rounds * THREADS * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_interrupt_finds_a_handle_whose_guard_is_disarmed),
    };
    return cmocka_run_group_tests_name("guard_stress", tests, NULL, NULL);
}
