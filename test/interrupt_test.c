/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals during every call: a handler that runs after each single instruction of each call, in each state of
 * a context, and looks at contexts there; and storms of signals from another thread, with SA_RESTART and
 * without. C2, C4, C24, C26, C31.
 */
#include "calls.h"

#include <sched.h>

static world_t world;

/* ---- in the handler ---- */

static const cctx_t *watched[3]; /* from the leaf to the top; the test has a reference to each */
static int seen[3];
static long handled, ends_seen;

static long count_of(long *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* What the header says is async-signal-safe. What is done stays so, and is done above. The leaf is looked at
 * first: who sees it done by an ancestor's cancel sees that ancestor done. */
static void look_from_handler(void)
{
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++) {
        if (!watched[i])
            continue;
        int err = cctx_err(watched[i]);
        CHECK(seen[i] == 0 || err == seen[i]);
        CHECK(err == 0 || cctx_is_done(watched[i]));
        __atomic_fetch_add(&ends_seen, err != seen[i], __ATOMIC_RELAXED);
        seen[i] = err;
    }
    CHECK(cctx_background() != NULL && cctx_todo() != NULL);
    CHECK(cctx_strerror(ECANCELED)[0] == 'c');
    CHECK(cctx_now() > 0);
}

static void on_signal(int sig)
{
    (void)sig;
    int saved = errno;
    look_from_handler();
    close(-1);
    errno = saved;
}

static void handle(int sig, int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    int err = sigaction(sig, &action, NULL);
    CHECK(err == 0);
}

/* ---- after each instruction ---- */

#if defined(__x86_64__) && !TEST_TSAN
#define STEPS 1
static void watch(world_t *w)
{
    watched[0] = w->kids ? cctx_ref(w->kid[w->kids - 1]) : NULL;
    watched[1] = cctx_ref(w->on);
    watched[2] = cctx_ref(w->top);
    for (int i = 0; i < 3; i++)
        seen[i] = watched[i] ? cctx_err(watched[i]) : 0;
}

static void unwatch(void)
{
    for (int i = 0; i < 3; i++) {
        cctx_unref(watched[i]);
        watched[i] = NULL;
    }
}

/* The trap flag makes the processor trap after each instruction; the kernel clears it for the handler. */
static inline void steps_begin(void)
{
    __asm__ volatile("subq $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
}

static inline void steps_end(void)
{
    __asm__ volatile("subq $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
}
#else
#define STEPS 0
#endif

/* C2, C4, C31 */
static void each_call_is_interrupted_after_each_instruction(void **state)
{
    (void)state;
#if STEPS
    handle(SIGTRAP, 0);
    long before = count_of(&handled), ends = count_of(&ends_seen);
    for (int s = 0; s < STATES; s++)
        for (int c = 0; c < CALLS; c++) {
            const call_t *call = &call_table[c];
            /* A step takes some 20 us; and a sanitizer's allocator takes thousands of them for each block. */
            if (state_table[s].alike ||
                (TEST_ASAN && (state_table[s].make != make_timed || call_table[c].prepare)))
                continue;
            world_make(&world, &state_table[s]);
            call_prepare(call, &world);
            bool sole = call->run == run_unref || call->run == run_close;
            if (!sole)
                watch(&world);
            errno = CALLS_ERRNO;
            steps_begin();
            int err = call->run(&world);
            steps_end();
            CHECK(err == 0);
            unwatch();
            call->after(&world);
            world_end(&world);
        }
    signal(SIGTRAP, SIG_DFL);
    print_message("%d calls on %d states: %ld instructions were followed by a handler, which saw %ld ends\n",
                  CALLS, STATES, count_of(&handled) - before, count_of(&ends_seen) - ends);
    assert_true(count_of(&handled) - before > SCALED(1000L) * CALLS);
    assert_true(count_of(&ends_seen) > ends);
#else
    NOT_APPLICABLE("it needs x86-64's trap flag, and no ThreadSanitizer, which delays signals");
#endif
}

/* ---- a cancel after each instruction ---- */

#if STEPS
/* What the handler cancels: contexts that have nothing to do with the call, each with a child. */
enum { SHOTS = 30000 };
static cctx_t *shot[SHOTS], *shot_kid[SHOTS];
static volatile int shots, hits;

static void cancel_from_handler(int sig)
{
    (void)sig;
    if (shots == 0)
        return;
    shots = shots - 1;
    int before = errno;
    CHECK(cctx_cancel_async(shot[shots]) && cctx_is_done(shot[shots]) && errno == before);
    hits = hits + 1;
}

static void shots_make(int from)
{
    for (int i = from; i < SHOTS; i++) {
        shot[i] = cctx_with_cancel(cctx_background());
        shot_kid[i] = cctx_with_cancel(shot[i]);
        CHECK(shot_kid[i] != NULL);
    }
    shots = SHOTS;
}

/* Those that were hit: what is below them has ended, at the latest now, since a context is derived. */
static void shots_check(int from)
{
    cctx_unref(cctx_with_cancel(cctx_background()));
    for (int i = from; i < SHOTS; i++) {
        CHECK(cctx_err(shot[i]) == ECANCELED);
        CHECK(cctx_wait(shot_kid[i]) == ECANCELED);
        cctx_unref(shot_kid[i]);
        cctx_unref(shot[i]);
    }
}
#endif

/* B2, C6: whatever it interrupts, the allocator or this library. The call is as good as if nothing had been. */
static void each_call_is_interrupted_by_a_cancel_after_each_instruction(void **state)
{
    (void)state;
#if STEPS
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = cancel_from_handler;
    sigaction(SIGTRAP, &action, NULL);
    hits = 0;
    shots_make(0);
    for (int c = 0; c < CALLS; c++) {
        const call_t *call = &call_table[c];
        if (TEST_ASAN && call->prepare)
            continue;
        world_make(&world, state_of(make_timed));
        call_prepare(call, &world);
        errno = CALLS_ERRNO;
        steps_begin();
        int err = call->run(&world);
        steps_end();
        CHECK(err == 0);
        int left = shots;
        shots = 0;
        call->after(&world);
        world_end(&world);
        shots_check(left);
        shots_make(left);
    }
    signal(SIGTRAP, SIG_DFL);
    shots = 0;
    for (int i = 0; i < SHOTS; i++) {
        CHECK(!cctx_is_done(shot[i]) && !cctx_is_done(shot_kid[i]));
        cctx_unref(shot_kid[i]);
        cctx_unref(shot[i]);
    }
    print_message("%d instructions were followed by a cancel in a handler\n", hits);
    assert_true(hits > 5000);
#else
    NOT_APPLICABLE("it needs x86-64's trap flag, and no ThreadSanitizer, which delays signals");
#endif
}

/* ---- storms ---- */

typedef struct storm {
    pthread_t target, thread;
    bool over;
} storm_t;

static void *storm_main(void *arg)
{
    storm_t *storm = arg;
    while (!__atomic_load_n(&storm->over, __ATOMIC_ACQUIRE)) {
        int err = pthread_kill(storm->target, SIGUSR1);
        CHECK(err == 0);
        struct timespec some = {0, 20000};
        nanosleep(&some, NULL);
    }
    return NULL;
}

static void storm_begin(storm_t *storm)
{
    *storm = (storm_t){.target = pthread_self()};
    storm->thread = thread_start(storm_main, storm);
}

static void storm_end(storm_t *storm)
{
    __atomic_store_n(&storm->over, true, __ATOMIC_RELEASE);
    thread_join(storm->thread);
}

static void run_in_storm(int flags)
{
    storm_t storm;
    watchdog(140);
    handle(SIGUSR1, flags);
    long before = count_of(&handled);
    storm_begin(&storm);
    for (int round = 0; round < 2 || count_of(&handled) - before < 1000; round++)
        for (int s = 0; s < STATES; s++)
            for (int c = 0; c < CALLS; c++)
                if (state_table[s].kids < MOST || round == 0)
                    call_in_world(&call_table[c], &world, &state_table[s]);
    storm_end(&storm);
    print_message("%ld signals\n", count_of(&handled) - before);
    signal(SIGUSR1, SIG_DFL);
}

/* C24, C26: SA_RESTART or not */
static void each_call_works_in_a_storm_of_signals(void **state)
{
    (void)state;
    run_in_storm(0);
    run_in_storm(SA_RESTART);
}

typedef struct sleeper {
    const cctx_t *ctx;
    uint32_t done;
    long signals_at_least;
    pthread_t canceler;
} sleeper_t;

/* Cancels once so many signals have met the sleeper. */
static void *cancel_after_signals(void *arg)
{
    sleeper_t *sleeper = arg;
    while (count_of(&handled) < sleeper->signals_at_least)
        sched_yield();
    __atomic_store_n(&sleeper->done, 1, __ATOMIC_RELEASE);
    cctx_cancel((cctx_t *)(uintptr_t)sleeper->ctx);
    return NULL;
}

/* C24, C26: neither the untimed nor the timed waits end by a signal, and the timed ones not early. errno is
 * kept. */
static void sleep_in_storm(int flags)
{
    storm_t storm;
    watchdog(100);
    handle(SIGUSR1, flags);
    storm_begin(&storm);
    for (int round = 0; round < 12; round++) {
        cctx_t *ctx =
            round % 2 ? cctx_with_timeout(cctx_background(), HOUR) : cctx_with_cancel(cctx_background());
        sleeper_t sleeper = {.ctx = ctx, .signals_at_least = count_of(&handled) + 50};
        sleeper.canceler = thread_start(cancel_after_signals, &sleeper);
        errno = CALLS_ERRNO;
        switch (round % 3) {
        case 0:
            CHECK(cctx_wait(ctx) == ECANCELED);
            break;
        case 1:
            CHECK(cctx_wait_until(ctx, cctx_now() + HOUR));
            break;
        default:
            CHECK(cctx_wait_for(ctx, CCTX_NEVER));
            break;
        }
        CHECK(errno == CALLS_ERRNO);
        CHECK(__atomic_load_n(&sleeper.done, __ATOMIC_ACQUIRE) == 1);
        thread_join(sleeper.canceler);
        cctx_unref(ctx);

        const cctx_t *live = round % 2 ? cctx_background() : cctx_with_timeout(cctx_background(), HOUR);
        cctx_time_t until = cctx_now() + CCTX_MS(2);
        CHECK(!cctx_wait_until(live, until) && cctx_now() >= until);
        until = cctx_now() + CCTX_MS(2);
        CHECK(!cctx_wait_for(live, CCTX_MS(2)) && cctx_now() >= until);
        CHECK(errno == CALLS_ERRNO);
        cctx_unref(live);
    }
    storm_end(&storm);
    signal(SIGUSR1, SIG_DFL);
}

/* C24, C26 */
static void a_storm_of_signals_ends_no_wait(void **state)
{
    (void)state;
    if (TEST_TSAN) /* until the thread calls what it intercepts, and a wait calls nothing of that */
        NOT_APPLICABLE("ThreadSanitizer delays signals past the wait");
    sleep_in_storm(0);
    sleep_in_storm(SA_RESTART);
}

typedef struct running {
    gate_t began, may_end;
    bool ended;
} running_t;

static void run_until_told(void *arg)
{
    running_t *running = arg;
    gate_open(&running->began);
    gate_wait(&running->may_end);
    __atomic_store_n(&running->ended, true, __ATOMIC_RELEASE);
}

static void *cancel_main(void *arg)
{
    cctx_cancel(arg);
    return NULL;
}

typedef struct release {
    running_t *running;
    long after;
} release_t;

static void *release_main(void *arg)
{
    release_t *release = arg;
    while (count_of(&handled) < release->after)
        sched_yield();
    gate_open(&release->running->may_end);
    return NULL;
}

/* C29 */
static void a_storm_of_signals_does_not_end_a_stop_wait_before_the_callback(void **state)
{
    (void)state;
    if (TEST_TSAN) /* until the thread calls what it intercepts, and a wait calls nothing of that */
        NOT_APPLICABLE("ThreadSanitizer delays signals past the wait");
    storm_t storm;
    watchdog(100);
    handle(SIGUSR1, 0);
    storm_begin(&storm);
    for (int round = 0; round < 5; round++) {
        running_t running = {{0}, {0}, false};
        cctx_callback_t callback;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        int err = cctx_after_func(ctx, &callback, run_until_told, &running);
        CHECK(err == 0);
        pthread_t canceler = thread_start(cancel_main, ctx);
        gate_wait(&running.began);
        release_t release = {&running, count_of(&handled) + 30};
        pthread_t releaser = thread_start(release_main, &release);
        errno = CALLS_ERRNO;
        CHECK(!cctx_stop_wait(&callback));
        CHECK(errno == CALLS_ERRNO);
        CHECK(__atomic_load_n(&running.ended, __ATOMIC_ACQUIRE));
        thread_join(canceler);
        thread_join(releaser);
        cctx_unref(ctx);
    }
    storm_end(&storm);
    signal(SIGUSR1, SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_is_interrupted_after_each_instruction),
        cmocka_unit_test(each_call_is_interrupted_by_a_cancel_after_each_instruction),
        cmocka_unit_test(each_call_works_in_a_storm_of_signals),
        cmocka_unit_test(a_storm_of_signals_ends_no_wait),
        cmocka_unit_test(a_storm_of_signals_does_not_end_a_stop_wait_before_the_callback),
    };
    watchdog(250);
    calls_are_complete();
    /* Both threads of the library's are made here: while a thread is made its signals are blocked, a trap
     * too. */
    call_in_world(&call_table[0], &world, state_of(make_timed));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
