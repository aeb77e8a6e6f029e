/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread that is stopped anywhere inside the library, the allocator apart, delays no other. C6. */
#include "support.h"

#include <sched.h>

#if TEST_SANITIZED

int main(void)
{
    puts("stopped_thread_test: does not apply under a sanitizer, which delays signals to points of its own: "
         "others_go_on_while_a_thread_is_stopped_inside_a_call");
    return 0;
}

#else

/* The allocator has locks. These wrappers tell the handler that the thread is in there. */
static _Thread_local int in_allocator;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *p);

#define INSIDE(expression)                                                                                   \
    do {                                                                                                     \
        ++*(volatile int *)&in_allocator;                                                                    \
        expression;                                                                                          \
        --*(volatile int *)&in_allocator;                                                                    \
    } while (0)

void *malloc(size_t size)
{
    void *p;
    INSIDE(p = __libc_malloc(size));
    return p;
}

void *calloc(size_t n, size_t size)
{
    void *p;
    INSIDE(p = __libc_calloc(n, size));
    return p;
}

void *realloc(void *old, size_t size)
{
    void *p;
    INSIDE(p = __libc_realloc(old, size));
    return p;
}

void *memalign(size_t alignment, size_t size)
{
    void *p;
    INSIDE(p = __libc_memalign(alignment, size));
    return p;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
    void *got = memalign(alignment, size);
    if (!got)
        return ENOMEM;
    *p = got;
    return 0;
}

void free(void *p)
{
    INSIDE(__libc_free(p));
}

static const cctx_key_t key = {"key", NULL};
static cctx_t *shared;       /* both sides derive from it, cancel below it */
static cctx_t *slot[64];     /* contexts that pass from thread to thread, by exchange */
static uint32_t stopped;     /* 1 while the victim stands still in its handler */
static uint32_t released;    /* how often it was let go */
static volatile uint32_t refused; /* signals that met the victim in the allocator */
static volatile bool over;

static void stand_still(int sig)
{
    (void)sig;
    if (in_allocator) {
        refused++;
        return;
    }
    int before = errno;
    uint32_t turn = __atomic_load_n(&released, __ATOMIC_ACQUIRE);
    __atomic_store_n(&stopped, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&released, __ATOMIC_ACQUIRE) == turn)
        syscall(SYS_futex, &released, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
    errno = before;
}

static void run_nothing(void *arg)
{
    (void)arg;
}

/* A step of everything that is promised to be lock-free, on shared contexts. */
static void step(rng_t *rng)
{
    cctx_t **place = &slot[rng_below(rng, 64)];
    cctx_t *mine = __atomic_exchange_n(place, NULL, __ATOMIC_ACQ_REL);
    if (!mine)
        mine = cctx_with_cancel(shared);
    CHECK(mine != NULL);
    cctx_t *child = rng_below(rng, 3) ? cctx_with_cancel(mine) : cctx_with_timeout(mine, CCTX_S(3600));
    CHECK(child != NULL);
    const cctx_t *value = cctx_with_value(child, &key, rng);
    cctx_callback_t own = {{0}};
    int err = cctx_after_func(mine, &own, run_nothing, NULL);
    CHECK(err == 0);
    CHECK(cctx_value(value, &key) == rng);
    cctx_stop_wait(&own);
    if (rng_below(rng, 4) == 0)
        cctx_cancel(mine);
    (void)cctx_cause(child);
    cctx_unref(value);
    bool keep = rng_below(rng, 2) && !cctx_is_done(child);
    cctx_unref(keep ? mine : child);
    mine = __atomic_exchange_n(place, keep ? child : mine, __ATOMIC_ACQ_REL);
    cctx_unref(mine);
}

static void *victim_main(void *arg)
{
    rng_t rng = rng_make(*(uint64_t *)arg, 1);
    while (!over)
        step(&rng);
    return NULL;
}

/*
 * What the main thread does while the victim stands still; the watchdog catches it if it hangs. The victim
 * may have been stopped while it ran one of these callbacks: their storage is reused only after it went on.
 */
static cctx_callback_t callback[200];

static void main_steps(rng_t *rng)
{
    for (int i = 0; i < 200; i++) {
        cctx_t **place = &slot[rng_below(rng, 64)];
        cctx_t *mine = __atomic_exchange_n(place, NULL, __ATOMIC_ACQ_REL);
        if (!mine)
            mine = cctx_with_cancel(shared);
        CHECK(mine != NULL);
        cctx_t *child = cctx_with_timeout(mine, CCTX_S(3600) + i);
        cctx_t *top = cctx_with_cancel(shared);
        cctx_t *below = cctx_with_any((const cctx_t *[]){top, mine, child}, 3);
        CHECK(child != NULL && top != NULL && below != NULL);
        int err = cctx_after_func(below, &callback[i], run_nothing, NULL);
        CHECK(err == 0);
        bool done = cctx_wait_for(below, 0);
        CHECK(!done || cctx_is_done(mine));
        if (i % 2)
            CHECK(cctx_stop(&callback[i]) || cctx_is_done(below));
        cctx_cancel(top);
        CHECK(cctx_is_done(below));
        if (i % 3 == 0)
            cctx_cancel(mine);
        cctx_unref(below);
        cctx_unref(top);
        bool keep = !cctx_is_done(child);
        cctx_unref(keep ? mine : child);
        mine = __atomic_exchange_n(place, keep ? child : mine, __ATOMIC_ACQ_REL);
        cctx_unref(mine);
    }
}

/* C6: derive, cancel, unref, look, stop, arm and disarm while another stands still inside of one of them. */
static void others_go_on_while_a_thread_is_stopped_inside_a_call(void **state)
{
    (void)state;
    enum { ROUNDS = 400 };
    uint64_t seed = test_seed();
    rng_t rng = rng_make(seed, 0);
    struct sigaction action = {.sa_handler = stand_still, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    shared = cctx_with_cancel(cctx_background());
    pthread_t victim = thread_start(victim_main, &seed);
    for (int round = 0; round < ROUNDS; round++) {
        watchdog(30);
        for (uint64_t i = rng_below(&rng, 30); i > 0; i--)
            sched_yield();
        do {
            uint32_t before = refused;
            CHECK(pthread_kill(victim, SIGUSR1) == 0);
            while (!__atomic_load_n(&stopped, __ATOMIC_ACQUIRE) && refused == before)
                sched_yield();
        } while (!__atomic_load_n(&stopped, __ATOMIC_ACQUIRE));
        main_steps(&rng);
        __atomic_store_n(&stopped, 0, __ATOMIC_RELEASE);
        __atomic_fetch_add(&released, 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &released, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        for (int i = 0; i < 200; i++)
            cctx_stop_wait(&callback[i]);
    }
    over = true;
    thread_join(victim);
    for (int i = 0; i < 64; i++)
        cctx_unref(slot[i]);
    assert_true(cctx_cancel(shared));
    cctx_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_go_on_while_a_thread_is_stopped_inside_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
