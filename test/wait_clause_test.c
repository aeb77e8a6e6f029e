/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting: by the library's calls and by the bare futex word, by one thread and by a thousand, under signals
 * and spurious wakes, and with every thread of the library's stopped as a debugger stops one.
 */
#include "support.h"

#include <dirent.h>
#include <sched.h>
#include <sys/ptrace.h>

#define HOUR CCTX_S(3600)
/* More waiters at once than any small counter holds. */
#define CROWD (TEST_SANITIZED ? 300u : 1000u)

static const cctx_key_t key = {"key", NULL};

/* The protocol that the contract gives to programs which wait on the word themselves. */
static void raw_wait(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    CHECK(word != NULL);
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1u) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

typedef enum how {
    WAIT,
    WAIT_UNTIL,
    WAIT_FOR,
    RAW,
    HOWS,
} how_t;

typedef struct waiter {
    const cctx_t *ctx;
    how_t how;
    cctx_time_t until; /* for WAIT_UNTIL; WAIT_FOR takes an hour */
    pthread_t thread;
    pid_t tid;    /* 0 until it is about to wait; release and acquire */
    int err;      /* what it found; read after the join */
    int returned; /* 1 once the wait is over */
} waiter_t;

static void *waiter_main(void *arg)
{
    waiter_t *waiter = arg;
    bool done = true;
    __atomic_store_n(&waiter->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    switch (waiter->how) {
    case WAIT:
        waiter->err = cctx_wait(waiter->ctx);
        CHECK(waiter->err == cctx_err(waiter->ctx));
        break;
    case WAIT_UNTIL: done = cctx_wait_until(waiter->ctx, waiter->until); break;
    case WAIT_FOR: done = cctx_wait_for(waiter->ctx, HOUR); break;
    default: raw_wait(waiter->ctx); break;
    }
    cctx_time_t now = cctx_now();
    __atomic_store_n(&waiter->returned, 1, __ATOMIC_RELEASE);
    waiter->err = cctx_err(waiter->ctx);
    if (done)
        CHECK(waiter->err != 0);
    else
        CHECK(now >= waiter->until);
    return NULL;
}

static pid_t waiter_tid(waiter_t *waiter)
{
    pid_t tid;
    while ((tid = __atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE)) == 0)
        sched_yield();
    return tid;
}

static void waiter_start(waiter_t *waiter, const cctx_t *ctx, how_t how)
{
    pthread_attr_t attr;
    *waiter = (waiter_t){.ctx = ctx, .how = how, .until = cctx_now() + HOUR};
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    CHECK(pthread_create(&waiter->thread, &attr, waiter_main, waiter) == 0);
    pthread_attr_destroy(&attr);
}

static void waiter_park(waiter_t *waiter)
{
    await_sleep(waiter_tid(waiter));
    CHECK(__atomic_load_n(&waiter->returned, __ATOMIC_ACQUIRE) == 0);
}

static void waiter_join(waiter_t *waiter, int err)
{
    thread_join(waiter->thread);
    assert_int_equal(waiter->err, err);
}

/* ---- the word ---- */

/* C24, C18 */
static void the_done_word_is_the_same_every_time_and_shared_by_values(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(ctx, &key, NULL);
    const uint32_t *word = cctx_done(ctx);
    assert_non_null(word);
    assert_ptr_equal(cctx_done(ctx), word);
    assert_ptr_equal(cctx_done(value), word);
    assert_int_equal(__atomic_load_n(word, __ATOMIC_ACQUIRE) & 1u, 0);
    assert_true(cctx_cancel(ctx));
    assert_ptr_equal(cctx_done(ctx), word);
    assert_ptr_equal(cctx_done(value), word);
    assert_int_equal(__atomic_load_n(word, __ATOMIC_ACQUIRE) & 1u, 1);
    cctx_unref(value);
    cctx_unref(ctx);
}

/* C24, C26 */
static void what_can_never_be_done_has_no_done_word(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *never[] = {
        cctx_background(),
        cctx_todo(),
        cctx_without_cancel(ctx),
        cctx_with_value(cctx_background(), &key, NULL),
        NULL,
    };
    never[4] = cctx_with_value(never[2], &key, NULL);
    for (size_t i = 0; i < 5; i++) {
        assert_null(cctx_done(never[i]));
        assert_int_equal(cctx_wait(never[i]), EDEADLK);
        cctx_time_t until = cctx_now() + CCTX_MS(2);
        assert_false(cctx_wait_until(never[i], until));
        assert_true(cctx_now() >= until);
        until = cctx_now() + CCTX_MS(1);
        assert_false(cctx_wait_for(never[i], CCTX_MS(1)));
        assert_true(cctx_now() >= until);
        assert_false(cctx_wait_until(never[i], INT64_MIN));
        assert_false(cctx_wait_for(never[i], 0));
        assert_false(cctx_wait_for(never[i], INT64_MIN));
    }
    cctx_t *below = cctx_with_cancel(never[4]);
    assert_non_null(cctx_done(below));
    cctx_close(below);
    for (size_t i = 4; i > 1; i--)
        cctx_unref(never[i]);
    cctx_close(ctx);
}

/* C24, C28 */
static void a_wait_on_a_done_context_returns_at_once(void **state)
{
    (void)state;
    cctx_t *canceled = cctx_with_cancel(cctx_background()), *late = cctx_with_timeout(cctx_background(), 0);
    assert_true(cctx_cancel(canceled));
    assert_int_equal(cctx_wait(canceled), ECANCELED);
    assert_int_equal(cctx_wait(late), ETIMEDOUT);
    assert_true(cctx_wait_until(canceled, INT64_MIN));
    assert_true(cctx_wait_until(late, CCTX_NEVER));
    assert_true(cctx_wait_for(canceled, -1));
    assert_true(cctx_wait_for(late, INT64_MAX));
    raw_wait(canceled);
    raw_wait(late);
    cctx_unref(canceled);
    cctx_unref(late);
}

/* ---- timed waits ---- */

/* C1, C13 */
static void a_timed_wait_ends_with_its_time_or_the_deadline_whichever_is_first(void **state)
{
    (void)state;
    cctx_t *live = cctx_with_cancel(cctx_background());
    for (int64_t timeout = -CCTX_MS(1); timeout < CCTX_MS(3); timeout += CCTX_US(370)) {
        cctx_time_t until = cctx_now() + timeout;
        assert_false(cctx_wait_until(live, until));
        assert_true(cctx_now() >= until);
        until = cctx_now() + timeout;
        assert_false(cctx_wait_for(live, timeout));
        assert_true(cctx_now() >= until);
    }
    assert_false(cctx_wait_for(live, INT64_MIN));
    assert_false(cctx_wait_until(live, INT64_MIN));
    assert_false(cctx_wait_until(live, 0));

    cctx_t *timed = cctx_with_timeout(live, HOUR);
    assert_false(cctx_wait_for(timed, CCTX_MS(1)));
    cctx_t *soon = cctx_with_timeout(timed, CCTX_MS(2));
    cctx_time_t deadline = 0;
    assert_true(cctx_deadline(soon, &deadline));
    assert_true(cctx_wait_for(soon, HOUR));
    assert_true(cctx_now() >= deadline);
    assert_int_equal(cctx_err(soon), ETIMEDOUT);
    assert_int_equal(cctx_err(timed), 0);
    cctx_unref(soon);
    cctx_unref(timed);
    cctx_close(live);
}

/* ---- wakes ---- */

/* C3, C24 */
static void a_cancel_of_any_ancestor_wakes_a_parked_waiter(void **state)
{
    (void)state;
    enum { DEPTH = 40 };
    rng_t rng = rng_make(test_seed(), 20);
    for (int round = 0; round < 200; round++) {
        const cctx_t *chain[DEPTH];
        cctx_t *cancelable[DEPTH];
        size_t cancelables = 0, waits_at = DEPTH - 1 - (size_t)rng_below(&rng, 5);
        for (size_t i = 0; i < DEPTH; i++) {
            const cctx_t *above = i ? chain[i - 1] : cctx_background();
            if (i % 3 == 1) {
                chain[i] = cctx_with_value(above, &key, NULL);
            } else {
                cctx_t *ctx = i % 3 ? cctx_with_timeout(above, HOUR) : cctx_with_cancel(above);
                chain[i] = ctx;
                if (i <= waits_at)
                    cancelable[cancelables++] = ctx;
            }
        }
        waiter_t waiter;
        waiter_start(&waiter, chain[waits_at], (how_t)(round % HOWS));
        waiter_park(&waiter);
        assert_true(cctx_cancel(cancelable[rng_below(&rng, cancelables)]));
        waiter_join(&waiter, ECANCELED);
        for (size_t i = DEPTH; i-- > 0;)
            cctx_unref(chain[i]);
    }
}

/* The cancel falls anywhere between the start of a waiter and its sleep. C24 */
static void a_cancel_wakes_a_waiter_that_is_just_arriving(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 21);
    for (int round = 0; round < SCALED(4000); round++) {
        waiter_t waiter;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        waiter_start(&waiter, ctx, (how_t)(round % HOWS));
        (void)waiter_tid(&waiter);
        for (uint64_t spin = rng_below(&rng, 3000); spin > 0; spin--)
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        assert_true(cctx_cancel(ctx));
        waiter_join(&waiter, ECANCELED);
        cctx_unref(ctx);
    }
}

static void crowd_waits(size_t n, bool raw)
{
    waiter_t *waiters = calloc(n, sizeof *waiters);
    assert_non_null(waiters);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *ctx = cctx_with_cancel(parent);
    const cctx_t *value = cctx_with_value(ctx, &key, NULL);
    for (size_t i = 0; i < n; i++)
        waiter_start(&waiters[i], i % 5 ? ctx : value, raw ? (how_t)(i % HOWS) : (how_t)(i % RAW));
    for (size_t i = 0; i < n; i++)
        waiter_park(&waiters[i]);
    assert_int_equal(cctx_err(ctx), 0);
    assert_true(cctx_cancel(parent));
    for (size_t i = 0; i < n; i++)
        waiter_join(&waiters[i], ECANCELED);
    cctx_unref(value);
    cctx_unref(ctx);
    cctx_unref(parent);
    free(waiters);
}

/* C24 */
static void one_cancel_wakes_two_hundred_and_fifty_four_to_seven_waiters(void **state)
{
    (void)state;
    for (size_t n = 254; n <= 257; n++)
        crowd_waits(n, false);
}

/* C24 */
static void one_cancel_wakes_three_hundred_and_a_thousand_waiters(void **state)
{
    (void)state;
    crowd_waits(300, true);
    crowd_waits(CROWD, false);
    crowd_waits(CROWD, true);
}

/* Whatever the crowd leaves in the word when it goes, the next waiter must be woken. C24 */
static void a_waiter_is_woken_after_a_crowd_came_and_timed_out(void **state)
{
    (void)state;
    const size_t crowds[] = {3, 255, 300};
    for (size_t k = 0; k < 3; k++) {
        waiter_t *waiters = calloc(crowds[k], sizeof *waiters), last;
        assert_non_null(waiters);
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        cctx_time_t until = cctx_now() + CCTX_MS(60);
        for (size_t i = 0; i < crowds[k]; i++) {
            waiters[i] = (waiter_t){.ctx = ctx, .how = WAIT_UNTIL, .until = until};
            waiters[i].thread = thread_start(waiter_main, &waiters[i]);
        }
        for (size_t i = 0; i < crowds[k]; i++)
            waiter_join(&waiters[i], 0);
        for (int how = 0; how < 2; how++) {
            cctx_t *child = cctx_with_cancel(ctx);
            waiter_start(&last, how ? ctx : child, WAIT);
            waiter_park(&last);
            assert_true(how ? cctx_cancel(ctx) : cctx_cancel(child));
            waiter_join(&last, ECANCELED);
            cctx_unref(child);
        }
        cctx_unref(ctx);
        free(waiters);
    }
}

/* C11, C13, C24 */
static void a_crowd_that_waits_on_an_inherited_deadline_is_woken_by_it(void **state)
{
    (void)state;
    enum { N = 120 };
    static waiter_t waiters[N];
    const cctx_t *contexts[N];
    cctx_t *parent = cctx_with_timeout(cctx_background(), CCTX_MS(60));
    cctx_time_t deadline = 0;
    assert_true(cctx_deadline(parent, &deadline));
    for (size_t i = 0; i < N; i++) {
        const cctx_t *above = i < 3 ? parent : contexts[i - 3];
        switch (i % 3) {
        case 0: contexts[i] = cctx_with_cancel(above); break;
        case 1: contexts[i] = cctx_with_value(above, &key, NULL); break;
        default: contexts[i] = cctx_with_timeout(above, HOUR); break;
        }
        waiter_start(&waiters[i], contexts[i], (how_t)(i / 3 % HOWS));
    }
    for (size_t i = 0; i < N; i++)
        waiter_join(&waiters[i], ETIMEDOUT);
    assert_true(cctx_now() >= deadline);
    assert_int_equal(cctx_err(parent), ETIMEDOUT);
    for (size_t i = N; i-- > 0;)
        cctx_unref(contexts[i]);
    cctx_unref(parent);
}

/* C24 */
static void futex_waitv_takes_the_done_words_of_several_contexts(void **state)
{
    (void)state;
#if defined(SYS_futex_waitv) && defined(FUTEX_32)
    cctx_t *contexts[3];
    for (size_t i = 0; i < 3; i++)
        contexts[i] = cctx_with_timeout(cctx_background(), i == 1 ? CCTX_MS(3) : HOUR);
    for (;;) {
        struct futex_waitv words[3];
        bool any = false;
        memset(words, 0, sizeof words);
        for (size_t i = 0; i < 3; i++) {
            const uint32_t *word = cctx_done(contexts[i]);
            words[i].val = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            words[i].uaddr = (uintptr_t)word;
            words[i].flags = FUTEX_32 | FUTEX_PRIVATE_FLAG;
            any = any || (words[i].val & 1u) != 0;
        }
        if (any)
            break;
        if (syscall(SYS_futex_waitv, words, 3, 0, NULL, CLOCK_MONOTONIC) < 0 && errno == ENOSYS) {
            print_message("this kernel has no futex_waitv: it was not tried\n");
            for (size_t i = 0; i < 3; i++)
                cctx_close(contexts[i]);
            skip();
        }
    }
    assert_int_equal(cctx_err(contexts[0]), 0);
    assert_int_equal(cctx_err(contexts[1]), ETIMEDOUT);
    assert_int_equal(cctx_err(contexts[2]), 0);
    for (size_t i = 0; i < 3; i++)
        cctx_close(contexts[i]);
#else
    print_message("the system's headers have no futex_waitv: it was not tried\n");
    skip();
#endif
}

/* ---- what must not end a wait ---- */

static unsigned interrupts;

static void on_interrupt(int sig)
{
    (void)sig;
    __atomic_add_fetch(&interrupts, 1, __ATOMIC_SEQ_CST);
}

/* C24 */
static void signals_do_not_end_a_wait(void **state)
{
    (void)state;
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt; /* no SA_RESTART: system calls end with EINTR */
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    for (int how = 0; how < HOWS; how++) {
        waiter_t waiter;
        cctx_t *ctx = cctx_with_timeout(cctx_background(), how % 2 ? HOUR : CCTX_NEVER);
        waiter_start(&waiter, ctx, (how_t)how);
        for (int i = 0; i < 100; i++) {
            waiter_park(&waiter);
            unsigned before = __atomic_load_n(&interrupts, __ATOMIC_SEQ_CST);
            assert_int_equal(pthread_kill(waiter.thread, SIGUSR1), 0);
            while (__atomic_load_n(&interrupts, __ATOMIC_SEQ_CST) == before)
                sched_yield();
        }
        waiter_park(&waiter);
        assert_true(cctx_cancel(ctx));
        waiter_join(&waiter, ECANCELED);
        cctx_unref(ctx);
    }
    sigaction(SIGUSR1, &old, NULL);
}

/* C24 */
static void wakes_of_the_word_by_others_do_not_end_a_wait(void **state)
{
    (void)state;
    for (int how = 0; how < HOWS; how++) {
        waiter_t waiters[3];
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        const uint32_t *word = cctx_done(ctx);
        for (size_t i = 0; i < 3; i++)
            waiter_start(&waiters[i], ctx, (how_t)how);
        for (int i = 0; i < 300; i++) {
            for (size_t j = 0; j < 3; j++)
                waiter_park(&waiters[j]);
            syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        }
        assert_int_equal(cctx_err(ctx), 0);
        assert_true(cctx_cancel(ctx));
        for (size_t i = 0; i < 3; i++)
            waiter_join(&waiters[i], ECANCELED);
        cctx_unref(ctx);
    }
}

/* ---- without the library's threads ---- */

enum { TASKS = 64 };

static pid_t tasks_at_start[TASKS];
static int to_tracer = -1, from_tracer = -1;
static pid_t tracer;

static size_t list_tasks(pid_t tasks[TASKS])
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] != '.') {
            CHECK(n < TASKS);
            tasks[n++] = (pid_t)atoi(entry->d_name);
        }
    }
    closedir(dir);
    return n;
}

/* Stops the thread it reads from the pipe and answers 0 or an errno value; a 0 lets them all go on. */
static void trace(int in, int out)
{
    pid_t stopped[TASKS], tid;
    size_t n = 0;
    while (read(in, &tid, sizeof tid) == (ssize_t)sizeof tid) {
        int answer = 0;
        if (tid == 0) {
            while (n > 0)
                ptrace(PTRACE_DETACH, stopped[--n], NULL, NULL);
        } else if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
                   ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0) {
            answer = errno;
        } else {
            while (waitpid(tid, NULL, __WALL) != tid)
                continue;
            stopped[n++] = tid;
        }
        if (write(out, &answer, sizeof answer) != (ssize_t)sizeof answer)
            break;
    }
    _exit(0);
}

static int ask_tracer(pid_t tid)
{
    int answer = -1;
    CHECK(write(to_tracer, &tid, sizeof tid) == (ssize_t)sizeof tid);
    CHECK(read(from_tracer, &answer, sizeof answer) == (ssize_t)sizeof answer);
    return answer;
}

/* Forked while the process has one thread, so that the child may run whatever it likes. */
static void tracer_start(void)
{
    int down[2], back[2];
    CHECK(pipe(down) == 0 && pipe(back) == 0);
    tracer = fork();
    CHECK(tracer >= 0);
    if (tracer == 0) {
        close(down[1]);
        close(back[0]);
        trace(down[0], back[1]);
    }
    close(down[0]);
    close(back[1]);
    to_tracer = down[1];
    from_tracer = back[0];
    prctl(PR_SET_PTRACER, tracer, 0, 0, 0);
    list_tasks(tasks_at_start);
}

static void tracer_end(void)
{
    close(to_tracer);
    close(from_tracer);
    while (waitpid(tracer, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void note_thread(void *arg)
{
    __atomic_store_n((pid_t *)arg, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static pid_t await_note(pid_t *note)
{
    pid_t tid;
    while ((tid = __atomic_load_n(note, __ATOMIC_ACQUIRE)) == 0)
        sched_yield();
    return tid;
}

static pid_t self(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* A callback is registered before the deadline, or a longer deadline is tried. */
static cctx_t *timeout_with_note(int64_t timeout, cctx_callback_t *cb, pid_t *note)
{
    for (;; timeout *= 2) {
        cctx_t *ctx = cctx_with_timeout(cctx_background(), timeout);
        CHECK(cctx_after_func(ctx, cb, note_thread, note) == 0);
        if (__atomic_load_n(note, __ATOMIC_ACQUIRE) != self())
            return ctx;
        __atomic_store_n(note, 0, __ATOMIC_RELAXED);
        cctx_unref(ctx);
    }
}

static void make_the_librarys_threads(void)
{
    pid_t ran_on = 0;
    cctx_callback_t cb = {0};
    cctx_t *ctx = timeout_with_note(CCTX_US(100), &cb, &ran_on);
    CHECK(await_note(&ran_on) != self());
    CHECK(!cctx_stop_wait(&cb));
    cctx_unref(ctx);
}

/* Stops all threads but this one and those of the start. How many, or 0 where ptrace is forbidden. */
static size_t stop_the_librarys_threads(void)
{
    pid_t now[TASKS];
    size_t n = list_tasks(now), stopped = 0;
    for (size_t i = 0; i < n; i++) {
        bool own = false;
        for (size_t j = 0; j < TASKS; j++)
            own = own || tasks_at_start[j] == now[i];
        if (own)
            continue;
        int err = ask_tracer(now[i]);
        if (err != 0) {
            print_message("ptrace is forbidden here (%s): the library's threads were not stopped\n",
                          strerror(err));
            ask_tracer(0);
            return 0;
        }
        stopped++;
    }
    return stopped;
}

/* With every thread of the library's stopped, a deadline fires for those who wait; its callbacks are still
   not theirs to run. C6, C27, C28 */
static void waiters_see_their_deadline_pass_though_the_librarys_threads_are_stopped(void **state)
{
    (void)state;
    enum { N = 12 };
    waiter_t waiters[N];
    const cctx_t *contexts[N];
    pid_t ran_on = 0;
    cctx_callback_t cb = {0};
    make_the_librarys_threads();
    if (stop_the_librarys_threads() == 0)
        skip();
    cctx_t *parent = timeout_with_note(CCTX_MS(10), &cb, &ran_on);
    cctx_t *other = cctx_with_cancel(cctx_background());
    const cctx_t *both[] = {other, parent};
    for (size_t i = 0; i < N; i++) {
        switch (i % 4) {
        case 0: contexts[i] = cctx_with_cancel(parent); break;
        case 1: contexts[i] = cctx_with_value(parent, &key, NULL); break;
        case 2: contexts[i] = cctx_with_timeout(parent, HOUR); break;
        default: contexts[i] = cctx_with_any(both, 2); break;
        }
        waiter_start(&waiters[i], contexts[i], (how_t)(i / 4 % RAW));
    }
    for (size_t i = 0; i < N; i++)
        waiter_join(&waiters[i], ETIMEDOUT);
    assert_int_equal(cctx_err(parent), ETIMEDOUT);
    assert_int_equal(cctx_err(other), 0);

    /* Everything else goes on as well: deadlines are armed, disarmed, canceled and waited for. */
    for (int i = 0; i < 300; i++) {
        cctx_t *a = cctx_with_timeout(other, HOUR), *b = cctx_with_timeout(a, CCTX_US(100));
        if (i % 3 == 0)
            assert_int_equal(cctx_wait(b), ETIMEDOUT);
        else if (i % 3 == 1)
            assert_true(cctx_cancel(b));
        cctx_unref(b);
        cctx_unref(a);
    }
    assert_int_equal(ask_tracer(0), 0);

    pid_t ran = await_note(&ran_on);
    assert_int_not_equal(ran, self());
    for (size_t i = 0; i < N; i++)
        assert_int_not_equal(ran, waiters[i].tid);
    assert_false(cctx_stop_wait(&cb));
    for (size_t i = 0; i < N; i++)
        cctx_unref(contexts[i]);
    cctx_close(other);
    cctx_unref(parent);
}

/* The thread that fires deadlines goes on where it was stopped. C13, C27 */
static void deadlines_fire_by_themselves_again_once_the_librarys_threads_go_on(void **state)
{
    (void)state;
    cctx_t *contexts[100];
    make_the_librarys_threads();
    if (stop_the_librarys_threads() == 0)
        skip();
    for (size_t i = 0; i < 100; i++)
        contexts[i] = cctx_with_timeout(cctx_background(), CCTX_US(100) * (int64_t)(i + 1));
    for (size_t i = 0; i < 100; i += 10)
        assert_int_equal(cctx_wait(contexts[i]), ETIMEDOUT);
    assert_int_equal(ask_tracer(0), 0);
    for (size_t i = 0; i < 100; i++) {
        raw_wait(contexts[i]);
        assert_int_equal(cctx_err(contexts[i]), ETIMEDOUT);
        cctx_unref(contexts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_done_word_is_the_same_every_time_and_shared_by_values),
        cmocka_unit_test(what_can_never_be_done_has_no_done_word),
        cmocka_unit_test(a_wait_on_a_done_context_returns_at_once),
        cmocka_unit_test(a_timed_wait_ends_with_its_time_or_the_deadline_whichever_is_first),
        cmocka_unit_test(a_cancel_of_any_ancestor_wakes_a_parked_waiter),
        cmocka_unit_test(a_cancel_wakes_a_waiter_that_is_just_arriving),
        cmocka_unit_test(one_cancel_wakes_two_hundred_and_fifty_four_to_seven_waiters),
        cmocka_unit_test(one_cancel_wakes_three_hundred_and_a_thousand_waiters),
        cmocka_unit_test(a_waiter_is_woken_after_a_crowd_came_and_timed_out),
        cmocka_unit_test(a_crowd_that_waits_on_an_inherited_deadline_is_woken_by_it),
        cmocka_unit_test(futex_waitv_takes_the_done_words_of_several_contexts),
        cmocka_unit_test(signals_do_not_end_a_wait),
        cmocka_unit_test(wakes_of_the_word_by_others_do_not_end_a_wait),
        cmocka_unit_test(waiters_see_their_deadline_pass_though_the_librarys_threads_are_stopped),
        cmocka_unit_test(deadlines_fire_by_themselves_again_once_the_librarys_threads_go_on),
    };
    tracer_start();
    watchdog(100);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tracer_end();
    return failed;
}
