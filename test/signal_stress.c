/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals in numbers: a million of them interrupt threads that derive, cancel, free and allocate, and each cancels a
 * context that was made for it: none is lost, and what hangs below each has ended, once. Cancels from handlers
 * against those of the program's, derivations, last references and walks. Contexts that signals end, made and freed
 * while signals come. A1, H1, H2, H3; C1, C3, C28.
 */
#include "support.h"

#include <cctx/signal.h>

#include <sched.h>

static void count(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_RELEASE);
}

static void handle(int sig, void (*fn)(int sig))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = fn;
    action.sa_flags = SA_RESTART;
    int err = sigaction(sig, &action, NULL);
    CHECK(err == 0);
}

/* ---- a million signals ---- */

enum { WORKERS = 2, RING = 1024 };

typedef struct shot { /* what one signal is to hit */
    cctx_t *ctx, *kid;
    cctx_callback_t callback;
    int ran;
    bool has_kid, has_callback, won;
} shot_t;

typedef struct worker {
    shot_t ring[RING];
    uint32_t made, hit, checked; /* made and checked are the thread's, hit is its handler's */
    long raised, wins, kids, callbacks, spared;
    pthread_t thread;
} worker_t;

static worker_t workers[WORKERS];
static _Thread_local worker_t *here __attribute__((tls_model("initial-exec")));
static long signals_due, signals_met;

static void hit_one(int sig)
{
    worker_t *w = here;
    (void)sig;
    uint32_t hit = __atomic_load_n(&w->hit, __ATOMIC_RELAXED);
    if (hit == __atomic_load_n(&w->made, __ATOMIC_RELAXED)) {
        w->spared++; /* it came too soon: nothing was made for it yet */
        return;
    }
    shot_t *shot = &w->ring[hit % RING];
    shot->won = cctx_cancel_async(shot->ctx);
    __atomic_store_n(&w->hit, hit + 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&signals_met, 1, __ATOMIC_RELAXED);
}

static void make_shot(worker_t *w, const cctx_t *below, uint64_t random)
{
    shot_t *shot = &w->ring[w->made % RING];
    shot->ctx = cctx_with_cancel(below);
    shot->has_kid = random % 16 == 0;
    shot->has_callback = random % 64 < 3;
    shot->kid = shot->has_kid ? cctx_with_cancel(shot->ctx) : NULL;
    shot->ran = 0;
    shot->won = false;
    if (shot->has_callback) {
        int err = cctx_after_func(shot->has_kid ? shot->kid : shot->ctx, &shot->callback, count, &shot->ran);
        CHECK(err == 0);
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&w->made, w->made + 1, __ATOMIC_RELAXED);
}

/* The signal's one cancel has won; all that hung below has ended by it. */
static void check_shot(worker_t *w)
{
    shot_t *shot = &w->ring[w->checked % RING];
    CHECK(shot->won && cctx_err(shot->ctx) == ECANCELED);
    w->wins++;
    if (shot->has_kid) {
        CHECK(cctx_wait(shot->kid) == ECANCELED);
        w->kids++;
    }
    cctx_unref(shot->kid);
    cctx_unref(shot->ctx);
    if (shot->has_callback) {
        while (__atomic_load_n(&shot->ran, __ATOMIC_ACQUIRE) == 0)
            sched_yield();
        CHECK(!cctx_stop_wait(&shot->callback) && shot->ran == 1);
        w->callbacks++;
    }
    w->checked++;
}

/* A signal to this thread each 50 us: it may interrupt anything. */
static timer_t interrupt_me(void)
{
    timer_t timer;
    struct sigevent event;
    struct itimerspec each = {{0, 50000}, {0, 50000}};
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    int err = timer_create(CLOCK_MONOTONIC, &event, &timer);
    CHECK(err == 0);
    err = timer_settime(timer, 0, &each, NULL);
    CHECK(err == 0);
    return timer;
}

static void *work(void *arg)
{
    worker_t *w = arg;
    rng_t rng = rng_make(test_seed_value, (uint64_t)(w - workers));
    cctx_t *below = cctx_with_cancel(cctx_background());
    sigset_t set;
    here = w;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    timer_t timer = interrupt_me();
    while (__atomic_load_n(&signals_met, __ATOMIC_RELAXED) < signals_due) {
        if (w->made - w->checked < RING) {
            make_shot(w, rng_below(&rng, 8) ? below : cctx_background(), rng_next(&rng));
            if (w->made - __atomic_load_n(&w->hit, __ATOMIC_RELAXED) > 32) { /* the rest is for those that come by themselves */
                w->raised++;
                raise(SIGUSR1);
            }
        } else { /* what else a signal may interrupt */
            void *block = malloc(1 + (size_t)rng_below(&rng, 5000));
            cctx_t *ctx = cctx_with_cancel(below), *kid = cctx_with_timeout(ctx, CCTX_S(100));
            if (rng_below(&rng, 2))
                cctx_cancel(ctx);
            free(block);
            cctx_unref(kid);
            cctx_close(ctx);
        }
        /* By then most of what hung below has ended. */
        if (__atomic_load_n(&w->hit, __ATOMIC_RELAXED) - w->checked > RING / 2)
            while (w->checked != __atomic_load_n(&w->hit, __ATOMIC_RELAXED))
                check_shot(w);
    }
    timer_delete(timer);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (w->checked != w->hit)
        check_shot(w);
    for (; w->checked != w->made; w->checked++) {
        shot_t *shot = &w->ring[w->checked % RING];
        if (shot->has_callback)
            CHECK(cctx_stop(&shot->callback));
        CHECK(!cctx_is_done(shot->ctx));
        cctx_unref(shot->kid);
        cctx_unref(shot->ctx);
    }
    cctx_close(below);
    return NULL;
}

/* A1, B2 */
static void a_million_signals_lose_nothing(void **state)
{
    (void)state;
    long raised = 0, wins = 0, kids = 0, callbacks = 0, spared = 0;
    sigset_t set;
    signals_due = SCALED(1000000);
    signals_met = 0;
    memset(workers, 0, sizeof workers);
    watchdog(250);
    handle(SIGUSR1, hit_one);
    int err = cctx_service_start();
    assert_int_equal(err, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < WORKERS; i++)
        workers[i].thread = thread_start(work, &workers[i]);
    for (int i = 0; i < WORKERS; i++) {
        thread_join(workers[i].thread);
        raised += workers[i].raised;
        wins += workers[i].wins;
        kids += workers[i].kids;
        callbacks += workers[i].callbacks;
        spared += workers[i].spared;
    }
    print_message("%ld signals, %ld of them at any instruction, canceled %ld contexts, below which %ld ended, and "
                  "%ld callbacks ran; %ld more came too soon\n",
                  signals_met, signals_met - raised, wins, kids, callbacks, spared);
    if (SCALED(10) != 10)
        print_message("a tenth of a million, under a sanitizer or an emulator\n");
    assert_true(wins == signals_met && wins >= signals_due);
    assert_true(kids > wins / 32 && callbacks > wins / 64);
    signal(SIGUSR1, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    watchdog(0);
}

/* ---- against everything else ---- */

enum { NODES = 12, RACERS = 4 };

typedef struct forest {
    cctx_t *node[NODES];
    cctx_callback_t callback[NODES];
    int ran[NODES], wins[NODES];
    uint64_t seed;
} forest_t;

static void race(unsigned index, void *arg)
{
    forest_t *f = arg;
    rng_t rng = rng_make(f->seed, index);
    for (int step = 0; step < 12; step++) {
        unsigned i = (unsigned)rng_below(&rng, NODES);
        switch (rng_below(&rng, 5)) {
        case 0:
        case 1:
            if (cctx_cancel_async(f->node[i]))
                __atomic_fetch_add(&f->wins[i], 1, __ATOMIC_RELAXED);
            CHECK(cctx_is_done(f->node[i]));
            break;
        case 2: {
            if (cctx_cancel(f->node[i]))
                __atomic_fetch_add(&f->wins[i], 1, __ATOMIC_RELAXED);
            for (unsigned j = 2 * i + 1; j < NODES; j = 2 * j + 1) /* C3 */
                CHECK(cctx_is_done(f->node[j]));
            break;
        }
        case 3: {
            cctx_t *kid = cctx_with_cancel(f->node[i]);
            if (cctx_cancel_async(kid))
                CHECK(cctx_is_done(kid));
            cctx_unref(kid);
            break;
        }
        default: {
            cctx_callback_t cb;
            int ran = 0;
            cctx_t *top = cctx_with_cancel(f->node[i]), *kid = cctx_with_cancel(top);
            int err = cctx_after_func(kid, &cb, count, &ran);
            CHECK(err == 0);
            cctx_cancel_async(top);
            cctx_unref(top);
            cctx_unref(kid);
            bool stopped = cctx_stop_wait(&cb);
            CHECK(__atomic_load_n(&ran, __ATOMIC_ACQUIRE) + stopped == 1);
            break;
        }
        }
    }
}

/* C1, C3, C28: each node is ended once, and at the end all is. */
static void a_cancel_from_a_handler_races_with_all_else(void **state)
{
    (void)state;
    static forest_t f;
    watchdog(250);
    for (int round = 0; round < SCALED(2500); round++) {
        memset(&f, 0, sizeof f);
        f.seed = test_seed() + (uint64_t)round;
        for (unsigned i = 0; i < NODES; i++) {
            f.node[i] = cctx_with_cancel(i ? f.node[(i - 1) / 2] : cctx_background());
            int err = cctx_after_func(f.node[i], &f.callback[i], count, &f.ran[i]);
            CHECK(err == 0);
        }
        threads_run(RACERS, race, &f);
        f.wins[0] += cctx_cancel(f.node[0]);
        CHECK(f.wins[0] == 1);
        for (unsigned i = 0; i < NODES; i++) {
            CHECK(cctx_is_done(f.node[i]) && f.wins[i] <= 1);
            cctx_unref(f.node[i]);
        }
        for (unsigned i = 0; i < NODES; i++) {
            while (__atomic_load_n(&f.ran[i], __ATOMIC_ACQUIRE) == 0)
                sched_yield();
            CHECK(!cctx_stop_wait(&f.callback[i]) && f.ran[i] == 1);
        }
    }
    watchdog(0);
}

/* ---- contexts that signals end ---- */

static void ask_and_raise(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed(), index + 100);
    cctx_t *shared = arg;
    sigset_t set;
    for (int round = 0; round < SCALED(4000); round++) {
        int sig = rng_below(&rng, 2) ? SIGUSR2 : SIGTERM;
        sigemptyset(&set);
        sigaddset(&set, sig);
        if (rng_below(&rng, 2))
            sigaddset(&set, SIGHUP);
        cctx_t *top = cctx_with_cancel(shared), *ctx = cctx_with_signals(top, &set), *kid = NULL;
        CHECK(ctx != NULL);
        if (rng_below(&rng, 2))
            kid = cctx_with_cancel(ctx);
        if (rng_below(&rng, 3)) { /* its own, or another thread's did it before: whoever comes is too late */
            raise(sig);
            CHECK(cctx_is_done(ctx) && cctx_cause(ctx)->code == sig);
            if (kid)
                CHECK(cctx_wait(kid) == ECANCELED);
        } else if (rng_below(&rng, 2)) {
            cctx_cancel(top);
            CHECK(cctx_is_done(ctx));
        }
        cctx_unref(ctx);
        cctx_unref(kid);
        cctx_unref(top);
    }
}

/* H1, H2, H4 */
static void contexts_that_signals_end_come_and_go(void **state)
{
    (void)state;
    struct sigaction now;
    watchdog(250);
    cctx_t *shared = cctx_with_cancel(cctx_background());
    threads_run(3, ask_and_raise, shared);
    cctx_unref(shared);
    /* The thread that saw to the last one's children may be the one to let go. */
    for (int i = 0; i < 3; i++) {
        int sig = i == 0 ? SIGUSR2 : i == 1 ? SIGTERM : SIGHUP;
        do
            sched_yield();
        while (sigaction(sig, NULL, &now) != 0 || now.sa_handler != SIG_DFL);
    }
    watchdog(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_signals_lose_nothing),
        cmocka_unit_test(a_cancel_from_a_handler_races_with_all_else),
        cmocka_unit_test(contexts_that_signals_end_come_and_go),
    };
    test_seed();
    for (int sig = 1; sig < NSIG; sig++) /* a shell may have left some of them ignored */
        signal(sig, SIG_DFL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
