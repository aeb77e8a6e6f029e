/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel at its worst: futex calls that return for nothing, a wall clock that is stepped, a monotonic clock
 * that leaps ahead, library threads that do not get to run. The program defines syscall, clock_gettime and
 * pthread_create itself, so that the library's calls come here.
 */
#include "support.h"

#include <dlfcn.h>
#include <sched.h>

#define HOUR CCTX_S(3600)

/* ---- the kernel, as the library sees it ---- */

static long (*real_syscall)(long number, ...);
static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static bool unreliable; /* futex waits end for nothing, by the seed */
static uint64_t dice;
static long spurious[3], waited; /* 0, EINTR, EAGAIN; and those that were let through */
static long strange_futexes, strange_clocks, clock_reads;
static int64_t wall_step, leap; /* added to the wall clock; to the monotonic clock */
static gate_t *start_gate;      /* new threads wait here before they run */
static long delayed;            /* how many did */

__attribute__((constructor)) static void find_the_real_ones(void)
{
    *(void **)&real_syscall = dlsym(RTLD_NEXT, "syscall");
    *(void **)&real_create = dlsym(RTLD_NEXT, "pthread_create");
}

static long counted(long *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static uint64_t roll(uint64_t sides)
{
    uint64_t turn = __atomic_fetch_add(&dice, 1, __ATOMIC_RELAXED);
    rng_t rng = rng_make(test_seed_value, turn);
    return rng_below(&rng, sides);
}

/* What sleeps by a leaping clock, so that a leap can find it. */
enum { SLEEPERS = 64 };
static uint32_t *sleeping[SLEEPERS];

static int sleeper_enter(uint32_t *word)
{
    for (int i = 0;; i = (i + 1) % SLEEPERS) {
        uint32_t *none = NULL;
        if (__atomic_compare_exchange_n(&sleeping[i], &none, word, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return i;
    }
}

/* A timed wait, by a clock that is ahead of the machine's by leap. */
static long wait_by_leaping_clock(uint32_t *word, int op, uint32_t seen, const struct timespec *until,
                                  uint32_t bits)
{
    int place = sleeper_enter(word);
    long result;
    int64_t at = (int64_t)until->tv_sec * 1000000000 + until->tv_nsec;
    int64_t by = at - __atomic_load_n(&leap, __ATOMIC_SEQ_CST);
    if (by < 0)
        by = 0;
    struct timespec moved = {(time_t)(by / 1000000000), (long)(by % 1000000000)};
    result = real_syscall(SYS_futex, word, op, seen, &moved, NULL, bits);
    int error = errno;
    __atomic_store_n(&sleeping[place], NULL, __ATOMIC_SEQ_CST);
    errno = error;
    return result;
}

/* A woken sleeper looks at its clock again; one that was just about to sleep is woken by the next turn. */
static void leap_by(int64_t ns)
{
    __atomic_fetch_add(&leap, ns, __ATOMIC_SEQ_CST);
}

static void wake_leapt(void)
{
    for (int i = 0; i < SLEEPERS; i++) {
        uint32_t *word = __atomic_load_n(&sleeping[i], __ATOMIC_SEQ_CST);
        if (word)
            real_syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

long syscall(long number, ...)
{
    va_list args;
    va_start(args, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    int op = (int)a[1];
    if (number != SYS_futex)
        return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    /* The library waits by WAIT_BITSET alone; this file's own gates wait by WAIT. Never by the wall clock. */
    bool waits = (op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET || (op & FUTEX_CMD_MASK) == FUTEX_WAIT;
    if ((op & FUTEX_CLOCK_REALTIME) || (!waits && (op & FUTEX_CMD_MASK) != FUTEX_WAKE))
        __atomic_fetch_add(&strange_futexes, 1, __ATOMIC_RELAXED);
    if (waits && __atomic_load_n(&unreliable, __ATOMIC_RELAXED)) {
        uint64_t side = roll(4);
        if (side < 3) {
            __atomic_fetch_add(&spurious[side], 1, __ATOMIC_RELAXED);
            errno = side == 1 ? EINTR : side == 2 ? EAGAIN : errno;
            return side == 0 ? 0 : -1;
        }
        __atomic_fetch_add(&waited, 1, __ATOMIC_RELAXED);
    }
    if ((op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && a[3])
        return wait_by_leaping_clock((uint32_t *)a[0], op, (uint32_t)a[2], (const struct timespec *)a[3],
                                     (uint32_t)a[5]);
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static bool watch_clocks;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int result = (int)real_syscall(SYS_clock_gettime, id, ts);
    if (__atomic_load_n(&watch_clocks, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&clock_reads, 1, __ATOMIC_RELAXED);
        if (id != CLOCK_MONOTONIC)
            __atomic_fetch_add(&strange_clocks, 1, __ATOMIC_RELAXED);
    }
    int64_t step = __atomic_load_n(id == CLOCK_REALTIME ? &wall_step : &leap, __ATOMIC_SEQ_CST);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_MONOTONIC)) {
        int64_t now = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec + step;
        ts->tv_sec = (time_t)(now / 1000000000);
        ts->tv_nsec = (long)(now % 1000000000);
    }
    return result;
}

time_t time(time_t *to)
{
    struct timespec ts = {0, 0};
    clock_gettime(CLOCK_REALTIME, &ts);
    if (to)
        *to = ts.tv_sec;
    return ts.tv_sec;
}

typedef struct delayed_start {
    void *(*fn)(void *);
    void *arg;
    gate_t *gate;
} delayed_start_t;

static void *start_late(void *arg)
{
    delayed_start_t start = *(delayed_start_t *)arg;
    free(arg);
    __atomic_fetch_add(&delayed, 1, __ATOMIC_RELAXED);
    gate_wait(start.gate);
    return start.fn(start.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    gate_t *gate = __atomic_load_n(&start_gate, __ATOMIC_ACQUIRE);
    if (!gate)
        return real_create(thread, attr, fn, arg);
    delayed_start_t *start = malloc(sizeof *start);
    CHECK(start != NULL);
    *start = (delayed_start_t){fn, arg, gate};
    return real_create(thread, attr, start_late, start);
}

/* Sleeps on the word itself, so that nothing but a library thread can end it. */
static void sleep_on_word(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1) == 0)
        real_syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

/* ---- library threads that do not get to run ---- */

static void note_thread(void *arg)
{
    __atomic_store_n((pid_t *)arg, (pid_t)real_syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static void *wait_main(void *arg)
{
    CHECK(cctx_wait(arg) == ETIMEDOUT);
    return NULL;
}

/* First of all: the process has none of the library's threads yet, and they start when the gate opens. C27,
 * C28, C13 */
static void waiters_see_their_deadline_though_the_librarys_threads_have_not_started(void **state)
{
    (void)state;
    static gate_t gate;
    static cctx_callback_t callback;
    pid_t ran_on = 0;
    pthread_t waiter[4];
    __atomic_store_n(&start_gate, &gate, __ATOMIC_RELEASE);
    cctx_t *unattended = cctx_with_timeout(cctx_background(), CCTX_MS(20)); /* due before the other */
    cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    cctx_t *kid = cctx_with_cancel(timed), *canceled = cctx_with_timeout(timed, CCTX_MS(10));
    assert_non_null(timed);
    assert_int_equal(cctx_after_func(kid, &callback, note_thread, &ran_on), 0);
    __atomic_store_n(&start_gate, NULL, __ATOMIC_RELEASE);
    assert_true(cctx_cancel(canceled));
    for (int i = 0; i < 4; i++)
        waiter[i] = thread_start(wait_main, i % 2 ? kid : timed);
    assert_true(cctx_wait_until(kid, CCTX_NEVER));
    assert_int_equal(cctx_err(kid), ETIMEDOUT);
    assert_int_equal(cctx_err(timed), ETIMEDOUT);
    assert_int_equal(cctx_err(canceled), ECANCELED);
    for (int i = 0; i < 4; i++)
        thread_join(waiter[i]);
    /* Whoever looks at what a waiter ended sees it; what nobody waited for is late, and its time over. */
    assert_int_equal(cctx_err(unattended), 0);
    assert_int_equal(cctx_remaining(unattended), 0);
    assert_int_equal(__atomic_load_n(&ran_on, __ATOMIC_ACQUIRE), 0);
    assert_true(counted(&delayed) <= 2);
    gate_open(&gate);
    sleep_on_word(unattended);
    assert_int_equal(cctx_err(unattended), ETIMEDOUT);
    while (__atomic_load_n(&ran_on, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    assert_int_not_equal(ran_on, real_syscall(SYS_gettid));
    assert_false(cctx_stop_wait(&callback));
    assert_int_equal(counted(&delayed), 2);
    cctx_unref(timed);
    cctx_unref(unattended);
    cctx_unref(kid);
    cctx_unref(canceled);
}

/* ---- futex calls that return for nothing ---- */

typedef struct round {
    cctx_t *ctx;
    const cctx_t *on;
    int64_t deadline; /* CCTX_NEVER: it is canceled */
    bool canceled;
    cctx_callback_t callback;
    bool began, ended;
} round_t;

static void wait_in_round(unsigned index, round_t *round)
{
    int err = round->deadline == CCTX_NEVER ? ECANCELED : ETIMEDOUT;
    int64_t until = cctx_now() + CCTX_US(300);
    errno = E2BIG;
    switch (index % 4) {
    case 0:
        CHECK(cctx_wait(round->on) == err);
        break;
    case 1:
        CHECK(cctx_wait_until(round->on, cctx_now() + HOUR) && cctx_err(round->on) == err);
        break;
    case 2:
        CHECK(cctx_wait_for(round->on, CCTX_NEVER) && cctx_err(round->on) == err);
        break;
    default:
        if (!cctx_wait_until(round->on, until))
            CHECK(cctx_now() >= until);
        CHECK(!cctx_wait_for(cctx_background(), CCTX_US(50)));
        CHECK(cctx_wait(round->on) == err);
    }
    CHECK(errno == E2BIG);
    CHECK(round->deadline == CCTX_NEVER ? __atomic_load_n(&round->canceled, __ATOMIC_ACQUIRE)
                                        : cctx_now() >= round->deadline);
}

static void run_slowly(void *arg)
{
    round_t *round = arg;
    CHECK(!__atomic_exchange_n(&round->began, true, __ATOMIC_ACQ_REL));
    CHECK(round->deadline == CCTX_NEVER || cctx_now() >= round->deadline);
    for (int i = 0; i < 20; i++)
        sched_yield();
    __atomic_store_n(&round->ended, true, __ATOMIC_RELEASE);
}

enum { ACTORS = 6 };

static void act(unsigned index, void *arg)
{
    round_t *round = arg;
    if (index > 1) {
        wait_in_round(index, round);
    } else if (index == 1) {
        while (!__atomic_load_n(&round->began, __ATOMIC_ACQUIRE))
            sched_yield();
        CHECK(!cctx_stop_wait(&round->callback));
        CHECK(__atomic_load_n(&round->ended, __ATOMIC_ACQUIRE));
    } else if (round->deadline == CCTX_NEVER) {
        for (uint64_t i = roll(60); i > 0; i--)
            sched_yield();
        __atomic_store_n(&round->canceled, true, __ATOMIC_RELEASE);
        CHECK(cctx_cancel(round->ctx));
    }
}

/* C13, C24, C26, C28, C29: three of four waits end for nothing; no public call does, and nothing hangs.
 * Seeded. */
static void futex_calls_that_return_for_nothing_end_no_wait_and_lose_nothing(void **state)
{
    (void)state;
    __atomic_store_n(&unreliable, true, __ATOMIC_RELEASE);
    for (int i = 0; i < SCALED(300); i++) {
        watchdog(60);
        round_t round = {.deadline = CCTX_NEVER};
        if (i % 2)
            round.deadline = cctx_now() + CCTX_US(200) + (int64_t)roll(CCTX_MS(1));
        round.ctx = cctx_with_deadline(cctx_background(), round.deadline);
        round.on = i % 5 ? cctx_with_cancel(round.ctx) : cctx_ref(round.ctx);
        int err = cctx_after_func(round.on, &round.callback, run_slowly, &round);
        CHECK(err == 0);
        threads_run(ACTORS, act, &round);
        cctx_unref(round.on);
        cctx_unref(round.ctx);
    }
    __atomic_store_n(&unreliable, false, __ATOMIC_RELEASE);
    print_message("waits that ended for nothing: %ld as if woken, %ld EINTR, %ld EAGAIN; %ld slept\n",
                  counted(&spurious[0]), counted(&spurious[1]), counted(&spurious[2]), counted(&waited));
    for (int i = 0; i < 3; i++)
        assert_true(counted(&spurious[i]) > 100);
    assert_int_equal(counted(&strange_futexes), 0);
}

/* ---- clocks ---- */

/* C13, C15: the library reads no clock but the monotonic one, and no sleep of its is by another. */
static void steps_of_the_wall_clock_move_no_deadline(void **state)
{
    (void)state;
    const int64_t step[] = {HOUR * 24 * 365, -HOUR * 24 * 365 * 20, HOUR, -1, -CCTX_S(1), CCTX_NEVER / 4};
    cctx_t *far = cctx_with_timeout(cctx_background(), HOUR);
    long before = counted(&clock_reads);
    __atomic_store_n(&watch_clocks, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 60; i++) {
        cctx_time_t due = cctx_now() + CCTX_MS(3);
        cctx_t *timed =
            i % 2 ? cctx_with_deadline(cctx_background(), due) : cctx_with_timeout(far, CCTX_MS(3));
        __atomic_store_n(&wall_step, step[i % 6], __ATOMIC_SEQ_CST);
        if (i % 3 == 0)
            sleep_on_word(timed);
        else if (i % 3 == 1)
            assert_int_equal(cctx_wait(timed), ETIMEDOUT);
        else
            assert_false(cctx_wait_until(far, due));
        assert_true(cctx_now() >= due);
        assert_int_equal(cctx_err(far), 0);
        assert_true(cctx_remaining(far) > HOUR / 2);
        cctx_unref(timed);
    }
    __atomic_store_n(&watch_clocks, false, __ATOMIC_RELEASE);
    __atomic_store_n(&wall_step, 0, __ATOMIC_SEQ_CST);
    print_message("%ld clock reads, %ld of another clock than the monotonic\n",
                  counted(&clock_reads) - before, counted(&strange_clocks));
    assert_true(counted(&clock_reads) - before >= 60);
    assert_int_equal(counted(&strange_clocks), 0);
    assert_int_equal(counted(&strange_futexes), 0);
    cctx_unref(far);
}

static void *leap_waker(void *arg)
{
    while (!__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE)) {
        wake_leapt();
        sched_yield();
    }
    return NULL;
}

static void *wait_until_main(void *arg)
{
    CHECK(cctx_wait_until(arg, CCTX_NEVER - 1));
    return NULL;
}

/* C13: as on a machine that is resumed with a clock that ran on. What is due then fires, in the order of
 * time, and nothing that is not. */
static void a_leap_of_the_monotonic_clock_fires_what_became_due(void **state)
{
    (void)state;
    enum { N = 40 };
    cctx_t *timed[N];
    pthread_t waiter[4];
    bool over = false;
    pthread_t waker = thread_start(leap_waker, &over);
    for (int i = 0; i < N; i++)
        timed[i] = cctx_with_timeout(cctx_background(), (i + 1) * HOUR);
    for (int i = 0; i < 4; i++)
        waiter[i] = thread_start(wait_until_main, timed[i * 5]);
    for (int i = 0; i < N; i++) {
        for (int j = i; j < N; j++)
            assert_int_equal(cctx_err(timed[j]), 0);
        leap_by(HOUR);
        sleep_on_word(timed[i]);
        assert_int_equal(cctx_err(timed[i]), ETIMEDOUT);
    }
    for (int i = 0; i < 4; i++)
        thread_join(waiter[i]);
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    thread_join(waker);
    for (int i = 0; i < N; i++)
        cctx_unref(timed[i]);
    leap_by(-__atomic_load_n(&leap, __ATOMIC_SEQ_CST));
}

enum { NO_NAMESPACE = 50, NEWTIME = 0x80 /* CLONE_NEWTIME */ };

static void live_two_hours_later(void *arg)
{
    cctx_t **timed = arg;
    alarm(60);
    CHECK(cctx_now() >= 2 * HOUR);
    CHECK(cctx_remaining(timed[0]) == 0 && cctx_remaining(timed[1]) > HOUR / 2);
    CHECK(cctx_wait(timed[0]) == ETIMEDOUT);
    CHECK(cctx_err(timed[1]) == 0);
    cctx_time_t due = cctx_now() + CCTX_MS(5);
    cctx_t *soon = cctx_with_deadline(timed[1], due);
    sleep_on_word(soon);
    CHECK(cctx_err(soon) == ETIMEDOUT && cctx_now() >= due && cctx_err(timed[1]) == 0);
    cctx_unref(soon);
}

/* A time namespace is entered by the next child of the process that made it. */
static void enter_another_time(void *arg)
{
    if (unshare(NEWTIME) != 0)
        _exit(NO_NAMESPACE);
    FILE *offsets = fopen("/proc/self/timens_offsets", "w");
    if (!offsets || fprintf(offsets, "monotonic 7200 0\n") < 0 || fclose(offsets) != 0)
        _exit(NO_NAMESPACE);
    int status = run_in_child(live_two_hours_later, arg);
    CHECK(status == 0);
}

/* C13, C23: the kernel's own leap, for a process that moves to another time namespace with deadlines
 * inherited. */
static void a_process_in_another_time_namespace_fires_what_became_due(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    cctx_t *timed[2] = {cctx_with_timeout(cctx_background(), HOUR),
                        cctx_with_timeout(cctx_background(), 3 * HOUR)};
    int status = run_in_child(enter_another_time, timed);
    cctx_unref(timed[0]);
    cctx_unref(timed[1]);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_NAMESPACE)
        NOT_APPLICABLE("time namespaces are not allowed here");
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    if (sizeof(long) < 8) { /* there the library's calls have times of 64 bits, by other names than these */
        puts("not applicable: kernel_test: its kernel is one of 64 bits");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiters_see_their_deadline_though_the_librarys_threads_have_not_started),
        cmocka_unit_test(futex_calls_that_return_for_nothing_end_no_wait_and_lose_nothing),
        cmocka_unit_test(steps_of_the_wall_clock_move_no_deadline),
        cmocka_unit_test(a_leap_of_the_monotonic_clock_fires_what_became_due),
        cmocka_unit_test(a_process_in_another_time_namespace_fires_what_became_due),
    };
    test_seed();        /* before there is a library thread, which throws dice, too */
    watchdog(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
