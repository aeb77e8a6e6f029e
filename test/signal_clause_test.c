/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cancel from a signal handler, and contexts that signals end, as a user sees them: contract B2, and C1, C3, C9, C11,
 * C21, C23, C25, C28, C32 where they speak of these. What needs a process without threads of the library's, or with a
 * signal's action of its own, is done in a child.
 */
#include "support.h"

#include <cctx/signal.h>

#include <sched.h>

static sigset_t set_of(int sig, int other)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    if (other)
        sigaddset(&set, other);
    return set;
}

static cctx_t *with_signals(const cctx_t *parent, int sig, int other)
{
    sigset_t set = set_of(sig, other);
    return cctx_with_signals(parent, &set);
}

static void in_child(void (*fn)(void *arg))
{
    int status = run_in_child(fn, NULL);
    if (status != 0)
        print_error("the child: status %#x\n", (unsigned)status);
    assert_int_equal(status, 0);
}

static void count(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_RELEASE);
}
static int counted(int *n)
{
    return __atomic_load_n(n, __ATOMIC_ACQUIRE);
}

static cctx_t *target;
static volatile int won, calls;
static void cancel_target(int sig)
{
    (void)sig;
    errno = E2BIG;
    won = won + cctx_cancel_async(target);
    CHECK(errno == E2BIG);
    CHECK(cctx_is_done(target));
    calls = calls + 1;
}

static void handle(int sig, void (*fn)(int sig))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = fn;
    int err = sigaction(sig, &action, NULL);
    CHECK(err == 0);
}

/* ---- cctx_cancel_async ---- */

/* B2, C1 */
static void a_context_is_done_when_a_cancel_from_a_handler_returns(void **state)
{
    (void)state;
    target = cctx_with_cancel(cctx_background());
    won = calls = 0;
    handle(SIGUSR1, cancel_target);
    raise(SIGUSR1);
    raise(SIGUSR1);
    assert_int_equal(calls, 2);
    assert_int_equal(won, 1);
    assert_int_equal(cctx_err(target), ECANCELED);
    assert_ptr_equal(cctx_cause(target), &cctx_canceled);
    assert_false(cctx_cancel(target));
    cctx_unref(target);
    signal(SIGUSR1, SIG_DFL);
}

/* C8, C32 */
static void a_cancel_from_a_handler_of_what_cannot_be_canceled_is_false(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(ctx, &key, NULL), *without = cctx_without_cancel(ctx);
    assert_false(cctx_cancel_async(NULL));
    assert_false(cctx_cancel_async((cctx_t *)(uintptr_t)cctx_background()));
    assert_false(cctx_cancel_async((cctx_t *)(uintptr_t)value));
    assert_false(cctx_cancel_async((cctx_t *)(uintptr_t)without));
    assert_false(cctx_is_done(ctx));
    cctx_unref(value);
    cctx_unref(without);
    cctx_unref(ctx);
}

enum { CALLS_DERIVE = 7, CALLS_CANCEL = 4, CALLS_WAIT = 5, CALLS_ALL = CALLS_DERIVE + CALLS_CANCEL + CALLS_WAIT };

/* One of the calls that derive, cancel or wait, on a context that has nothing to do with the others. */
static void make_call(int i, cctx_t *other)
{
    static const cctx_key_t key = {"key", NULL};
    static const cctx_cause_t cause = {1, "cause"};
    const cctx_t *made = NULL, *root = cctx_background();
    switch (i) {
    case 0: made = cctx_with_cancel(root); break;
    case 1: made = cctx_with_deadline(root, cctx_now() - 1); break;
    case 2: made = cctx_with_timeout(root, 0); break;
    case 3: made = cctx_with_value(root, &key, NULL); break;
    case 4: made = cctx_without_cancel(root); break;
    case 5: made = cctx_with_any(&root, 1); break;
    case 6: made = cctx_with_timeout_cause(root, CCTX_NEVER, &cause); break;
    case 7: cctx_cancel(other); break;
    case 8: cctx_cancel_cause(other, &cause); break;
    case 9: cctx_cancel_causef(other, 1, "cause"); break;
    case 10:
        cctx_ref(other);
        cctx_close(other);
        break;
    case 11: cctx_wait_for(other, 0); break;
    case 12: cctx_wait_until(other, 0); break;
    case 13: cctx_wait_for(root, 0); break;
    case 14:
        cctx_cancel(other);
        cctx_wait(other);
        break;
    default:
        cctx_cancel(other);
        cctx_wait_for(other, 1);
        break;
    }
    cctx_unref(made);
}

static void follow_in_the_next_call(void *arg)
{
    (void)arg;
    unsigned before = threads_now();
    CHECK(before == 1 || TEST_TSAN || TEST_EMULATED);
    for (int i = 0; i < CALLS_ALL; i++) {
        cctx_t *other = cctx_with_cancel(cctx_background());
        cctx_t *top = cctx_with_cancel(cctx_background());
        cctx_t *kid = cctx_with_cancel(top), *leaf = cctx_with_cancel(kid);
        CHECK(cctx_cancel_async(top));
        CHECK(cctx_is_done(top) && !cctx_is_done(kid) && !cctx_is_done(leaf));
        CHECK(cctx_err(leaf) == 0 && cctx_cause(leaf) == NULL && cctx_remaining(leaf) == CCTX_NEVER);
        make_call(i, other);
        CHECK(cctx_err(kid) == ECANCELED && cctx_err(leaf) == ECANCELED && cctx_cause(leaf) == &cctx_canceled);
        cctx_unref(leaf);
        cctx_unref(kid);
        cctx_unref(top);
        cctx_unref(other);
    }
    CHECK(TEST_TSAN || threads_now() == before);
}

/* B2: no thread runs, and none is made for it. */
static void descendants_are_done_in_the_next_call_that_derives_cancels_or_waits(void **state)
{
    (void)state;
    in_child(follow_in_the_next_call);
}

static void wait_for_what_follows(void *arg)
{
    (void)arg;
    cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
    cctx_cancel_async(top);
    alarm(20);
    CHECK(cctx_wait(kid) == ECANCELED);
    cctx_unref(kid);
    cctx_unref(top);
}

/* B2 */
static void a_wait_that_begins_afterwards_sees_the_descendant_done(void **state)
{
    (void)state;
    in_child(wait_for_what_follows);
}

/* B2 */
static void descendants_are_done_by_the_timer_thread_if_it_runs(void **state)
{
    (void)state;
    assert_int_equal(cctx_service_start(), 0);
    for (int i = 0; i < 50; i++) {
        cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
        assert_true(cctx_cancel_async(top));
        while (!cctx_is_done(kid)) /* a look is none of the calls that would see to it */
            sched_yield();
        cctx_unref(kid);
        cctx_unref(top);
    }
}

typedef struct waiting {
    cctx_t *ctx;
    int err;
} waiting_t;

static void *wait_main(void *arg)
{
    waiting_t *waiting = arg;
    waiting->err = cctx_wait(waiting->ctx);
    return NULL;
}

/* B2: of the context itself, and of a descendant. */
static void waiters_are_woken(void **state)
{
    (void)state;
    assert_int_equal(cctx_service_start(), 0);
    for (int i = 0; i < 30; i++) {
        cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
        waiting_t waiting[2] = {{top, 0}, {kid, 0}};
        pthread_t thread[2];
        for (int j = 0; j < 2; j++)
            thread[j] = thread_start(wait_main, &waiting[j]);
        sched_yield();
        assert_true(cctx_cancel_async(top));
        for (int j = 0; j < 2; j++) {
            thread_join(thread[j]);
            assert_int_equal(waiting[j].err, ECANCELED);
        }
        cctx_unref(kid);
        cctx_unref(top);
    }
}

static pthread_t ran_on;
static gate_t ran;
static void tell_thread(void *arg)
{
    CHECK(!arg || cctx_is_done(arg));
    ran_on = pthread_self();
    gate_open(&ran);
}

static void callbacks_elsewhere(void *arg)
{
    (void)arg;
    for (int on_top = 0; on_top < 2; on_top++) {
        cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
        cctx_callback_t cb;
        ran = (gate_t){0};
        CHECK(cctx_after_func(on_top ? top : kid, &cb, tell_thread, kid) == 0);
        CHECK(cctx_cancel_async(top));
        cctx_t *other = cctx_with_cancel(cctx_background());
        alarm(20);
        gate_wait(&ran);
        CHECK(!pthread_equal(ran_on, pthread_self()));
        CHECK(!cctx_stop_wait(&cb));
        cctx_unref(other);
        cctx_unref(kid);
        cctx_unref(top);
    }
}

/* C28: never in the derivation that sees to it; after every descendant is done. */
static void callbacks_run_on_a_thread_of_the_library(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork");
    in_child(callbacks_elsewhere);
}

static void *nothing(void *arg) { return arg; }
enum next_call { BY_DERIVE, BY_WAIT, AFTER_THE_TIMER_THREAD, NEXT_CALLS };
static void callbacks_without_a_thread(void *arg)
{
    enum next_call by = *(enum next_call *)arg;
    pthread_t thread;
    if (by == AFTER_THE_TIMER_THREAD) cctx_unref(cctx_with_timeout(cctx_background(), CCTX_S(3600)));
    if (!refuse_call_to_all(SYS_clone3, EAGAIN) || !refuse_call_to_all(SYS_clone, EAGAIN) ||
        pthread_create(&thread, NULL, nothing, NULL) == 0)
        _exit(77);              /* no filters here */
    cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
    cctx_t *other = cctx_with_cancel(cctx_background()), *last = cctx_with_cancel(other);
    cctx_callback_t cb[2];
    int n = 0;
    CHECK(cctx_after_func(top, &cb[0], count, &n) == 0 && cctx_after_func(kid, &cb[1], count, &n) == 0);
    CHECK(cctx_cancel_async(top));
    CHECK(n == 0 && cctx_err(top) == ECANCELED);
    if (by == BY_WAIT) CHECK(cctx_wait(kid) == ECANCELED);
    if (by == BY_DERIVE) cctx_unref(cctx_with_cancel(cctx_background()));
    if (by == AFTER_THE_TIMER_THREAD) {
        /* It is at work, and comes by once more. */
        alarm(10);
        while (cctx_err(kid) == 0) sched_yield();
        CHECK(cctx_cancel_async(other));
        while (cctx_err(last) == 0) sched_yield();
        while (n == 0) cctx_unref(cctx_with_cancel(cctx_background()));
    }
    CHECK(n == 2 && cctx_err(kid) == ECANCELED);
    cctx_unref(last);
    cctx_unref(other);
    cctx_unref(kid);
    cctx_unref(top);
}

/* B2: where no thread for them runs and none can be made, in the next derive or wait. */
static void callbacks_run_in_the_next_call_where_no_thread_can_be_made(void **state)
{
    (void)state;
    for (enum next_call by = 0; by < NEXT_CALLS; by++) {
        if (by == AFTER_THE_TIMER_THREAD && !threads_after_fork()) continue;
        int status = run_in_child(callbacks_without_a_thread, &by);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            NOT_APPLICABLE("system calls cannot be refused here");
        assert_int_equal(status, 0);
    }
}

/* C28, C29 */
static void a_stop_wins_until_the_callback_has_started(void *arg)
{
    (void)arg;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_callback_t cb;
    int n = 0;
    CHECK(cctx_after_func(top, &cb, count, &n) == 0);
    CHECK(cctx_cancel_async(top));
    CHECK(cctx_stop(&cb));
    cctx_t *other = cctx_with_cancel(cctx_background());
    CHECK(n == 0);
    cctx_unref(other);
    cctx_unref(top);
}
static void a_callback_can_be_stopped_after_the_cancel_from_a_handler(void **state)
{
    (void)state;
    in_child(a_stop_wins_until_the_callback_has_started);
}

/* C3: what a cancel promises it keeps, though the context is done. */
static void a_cancel_after_it_sees_to_every_descendant(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
    cctx_t *leaf = cctx_with_timeout(kid, CCTX_S(3600));
    assert_true(cctx_cancel_async(top));
    assert_false(cctx_cancel(top));
    assert_int_equal(cctx_err(kid), ECANCELED);
    assert_int_equal(cctx_err(leaf), ECANCELED);
    cctx_unref(leaf);
    cctx_unref(kid);
    cctx_unref(top);
}

/* C3, C28: born done; a callback on it runs at once, here. */
static void what_is_derived_afterwards_is_born_done(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top);
    int n = 0;
    cctx_callback_t cb;
    assert_true(cctx_cancel_async(top));
    assert_int_equal(cctx_after_func(top, &cb, count, &n), 0);
    assert_int_equal(n, 1);
    cctx_t *late = cctx_with_cancel(top);
    assert_int_equal(cctx_err(late), ECANCELED);
    cctx_unref(late);
    cctx_unref(kid);
    cctx_unref(top);
}

/* C21: nobody has a handle any more when the rest is seen to. */
static void drop_everything_first(void *arg)
{
    (void)arg;
    int n = 0;
    cctx_callback_t cb;
    cctx_t *top = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(top), *leaf = cctx_with_cancel(kid);
    CHECK(cctx_after_func(leaf, &cb, count, &n) == 0);
    CHECK(cctx_cancel_async(top));
    cctx_unref(top);
    cctx_unref(kid);
    cctx_unref(leaf);
    cctx_unref(cctx_with_cancel(cctx_background()));
    alarm(20);
    while (counted(&n) == 0)
        sched_yield();
}
static void the_handles_may_go_before_the_rest_is_seen_to(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork");
    in_child(drop_everything_first);
}

static void many_are_pushed(void *arg)
{
    enum { MANY = 300 };
    static cctx_t *top[MANY], *kid[MANY];
    (void)arg;
    cctx_t *all = cctx_with_cancel(cctx_background());
    for (int i = 0; i < MANY; i++) {
        top[i] = cctx_with_cancel(all);
        kid[i] = cctx_with_cancel(i % 2 && i > 10 ? kid[i - 2] : top[i]);
    }
    for (int i = 0; i < MANY; i++)
        CHECK(cctx_cancel_async(top[i]));
    CHECK(cctx_cancel_async(all) && !cctx_cancel_async(all));
    cctx_unref(cctx_with_cancel(cctx_background()));
    for (int i = 0; i < MANY; i++) {
        CHECK(cctx_is_done(kid[i]));
        cctx_unref(kid[i]);
        cctx_unref(top[i]);
    }
    cctx_unref(all);
}

/* B2 */
static void any_number_of_them_may_wait_for_the_next_call(void **state)
{
    (void)state;
    in_child(many_are_pushed);
}

static void ends_through_a_merge(void *arg)
{
    (void)arg;
    cctx_t *a = cctx_with_cancel(cctx_background()), *b = cctx_with_cancel(cctx_background());
    const cctx_t *parents[] = {a, b};
    cctx_t *any = cctx_with_any(parents, 2), *kid = cctx_with_cancel(any);
    CHECK(cctx_cancel_async(b));
    cctx_unref(cctx_without_cancel(a));
    CHECK(cctx_is_done(any) && cctx_is_done(kid) && !cctx_is_done(a));
    cctx_unref(kid);
    cctx_unref(any);
    cctx_unref(b);
    cctx_unref(a);
}
/* B1, B2 */
static void a_merge_follows(void **state)
{
    (void)state;
    in_child(ends_through_a_merge);
}

static cctx_t *tree[3];
static cctx_callback_t tree_callback;
static int tree_ran;
static void in_the_child_of_a_fork(void *arg)
{
    (void)arg;
    alarm(20);
    cctx_unref(cctx_with_cancel(cctx_background()));
    CHECK(cctx_is_done(tree[1]) && cctx_is_done(tree[2]));
    while (counted(&tree_ran) == 0)
        sched_yield();
    CHECK(!cctx_stop_wait(&tree_callback));
    for (int i = 0; i < 3; i++)
        cctx_unref(tree[i]);
}
static void cancel_in_the_child_of_a_fork(void *arg)
{
    (void)arg;
    alarm(20);
    CHECK(!cctx_cancel(tree[0]));
    CHECK(cctx_is_done(tree[1]) && cctx_is_done(tree[2]));
    while (counted(&tree_ran) == 0)
        sched_yield();
    for (int i = 0; i < 3; i++)
        cctx_unref(tree[i]);
}
static void fork_with_something_left(void *arg)
{
    tree[0] = cctx_with_cancel(cctx_background());
    tree[1] = cctx_with_cancel(tree[0]);
    tree[2] = cctx_with_cancel(tree[1]);
    CHECK(cctx_after_func(tree[0], &tree_callback, count, &tree_ran) == 0);
    CHECK(cctx_cancel_async(tree[0]));
    CHECK(run_in_child(arg ? in_the_child_of_a_fork : cancel_in_the_child_of_a_fork, NULL) == 0);
    in_the_child_of_a_fork(NULL);
}

/* C23 */
static void what_is_left_at_a_fork_is_done_in_both_processes(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork");
    assert_int_equal(run_in_child(fork_with_something_left, NULL), 0);
    assert_int_equal(run_in_child(fork_with_something_left, tree), 0);
}

static cctx_t *alone;
static void cancel_alone(void *arg)
{
    (void)arg;
    cctx_cancel_async(alone);
}
/* C25 */
static void without_waiters_and_children_it_makes_no_system_call(void **state)
{
    (void)state;
    alone = cctx_with_cancel(cctx_background());
    syscall_log_t log = syscalls_of(NULL, cancel_alone, NULL);
    if (log.count >= 0)
        assert_int_equal(log.count, 0);
    cctx_unref(alone);
}

/* ---- cctx_service_start ---- */

static void start_threads(void *arg)
{
    (void)arg;
    CHECK(TEST_TSAN || threads_now() == 1);
    errno = E2BIG;
    CHECK(cctx_service_start() == 0 && cctx_service_start() == 0);
    CHECK(errno == E2BIG);
    CHECK(TEST_TSAN || threads_now() == 3);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    alarm(20);
    while (!cctx_is_done(ctx))
        sched_yield();
    cctx_unref(ctx);
}
static void start_threads_again(void *arg)
{
    start_threads(arg);
    CHECK(run_in_child(start_threads, NULL) == 0);
}

/* B2, C23 */
static void the_threads_are_made_now_and_once_in_each_process(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork");
    in_child(start_threads_again);
}

/* ---- cctx_with_signals ---- */

/* False: the signal cannot be sent. qemu-user keeps the last two for itself. */
static bool raised(int sig)
{
    bool sent = raise(sig) == 0;
    assert_true(sent || TEST_EMULATED);
    if (!sent)
        print_message("not applicable: signal %d: this emulator keeps it for itself\n", sig);
    return sent;
}

/* B2, C9: the handler itself has done it. */
static void a_signal_ends_the_context_and_the_cause_names_it(void **state)
{
    (void)state;
    static const struct {
        int sig;
        const char *text;
    } row[] = {
        {SIGINT, "interrupt signal received"},
        {SIGTERM, "terminated signal received"},
        {SIGHUP, "hangup signal received"},
        {SIGUSR1, "user defined signal 1 signal received"},
        {SIGWINCH, "window changed signal received"},
        {40, "signal 40 received"},
        {64, "signal 64 received"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        errno = E2BIG;
        cctx_t *ctx = with_signals(cctx_background(), row[i].sig, SIGUSR2);
        assert_non_null(ctx);
        assert_int_equal(errno, E2BIG);
        assert_int_equal(cctx_err(ctx), 0);
        if (!raised(row[i].sig)) {
            cctx_close(ctx);
            continue;
        }
        assert_int_equal(errno, E2BIG);
        assert_int_equal(cctx_err(ctx), ECANCELED);
        assert_int_equal(cctx_cause(ctx)->code, row[i].sig);
        assert_string_equal(cctx_cause(ctx)->text, row[i].text);
        raise(SIGUSR2);
        assert_int_equal(cctx_cause(ctx)->code, row[i].sig);
        cctx_unref(ctx);
    }
}

/* Each signal that can be handled has a text of its own. */
static void each_signal_has_a_text(void **state)
{
    (void)state;
    int with = 0;
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        if (sig == SIGKILL || sig == SIGSTOP || (sig >= 32 && sig < SIGRTMIN))
            continue;
        cctx_t *ctx = with_signals(cctx_background(), sig, 0);
        assert_non_null(ctx);
        if (!raised(sig)) {
            cctx_close(ctx);
            continue;
        }
        assert_int_equal(cctx_err(ctx), ECANCELED);
        assert_int_equal(cctx_cause(ctx)->code, sig);
        size_t length = strlen(cctx_cause(ctx)->text);
        assert_true(length > 9 && strcmp(cctx_cause(ctx)->text + length - 9, " received") == 0);
        cctx_close(ctx);
        with++;
    }
    assert_true(with > 50);
}

static bool is_default(int sig)
{
    struct sigaction now;
    int err = sigaction(sig, NULL, &now);
    CHECK(err == 0);
    return now.sa_handler == SIG_DFL;
}

/* B2, C32 */
static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    sigset_t empty, all, set = set_of(SIGINT, 0);
    sigemptyset(&empty);
    sigfillset(&all);
    errno = 0;
    assert_null(cctx_with_signals(NULL, &set));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_signals(cctx_background(), NULL));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_signals(cctx_background(), &empty));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_signals(cctx_background(), &all));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(with_signals(cctx_background(), SIGINT, SIGKILL));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(with_signals(cctx_background(), SIGSTOP, SIGTERM));
    assert_int_equal(errno, EINVAL);
    /* A signal of libc's own, which sigaddset would not put in. */
    memset(&set, 0, sizeof set);
    ((unsigned char *)&set)[3 + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? -3 + (int)sizeof(long) - 4 : 0)] = 0x80;
    if (sigismember(&set, 32) == 1) {
        errno = 0;
        assert_null(cctx_with_signals(cctx_background(), &set));
        assert_int_equal(errno, EINVAL);
    }
    assert_true(is_default(SIGINT) && is_default(SIGTERM));
}

static int forks;
static void fork_in_destructor(void *value)
{
    (void)value;
    if (forks++ == 0) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid > 0) {
            int status = 0;
            CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        }
    }
}
static void drain_that_forks(void *arg)
{
    static const cctx_key_t key = {"key", fork_in_destructor};
    pid_t parent = getpid();
    (void)arg;
    cctx_t *late = cctx_with_cancel(cctx_background()), *kid = cctx_with_cancel(late);
    const cctx_t *value = cctx_with_value(cctx_background(), &key, NULL);
    cctx_t *top = cctx_with_cancel(value), *below = cctx_with_cancel(top);
    CHECK(cctx_cancel_async(top) && cctx_cancel_async(late));
    cctx_unref(below);
    cctx_unref(top);
    cctx_unref(value); /* now the pin is the last to go */
    cctx_unref(cctx_with_cancel(cctx_background()));
    CHECK(forks == 1);
    if (getpid() != parent)
        CHECK(!cctx_cancel(late)); /* what the drain had taken is this cancel's */
    CHECK(cctx_is_done(kid));
    cctx_unref(kid);
    cctx_unref(late);
    if (getpid() != parent)
        _exit(0);
}
/* C17, C23 */
static void a_destructor_may_fork_in_the_middle_of_it(void **state)
{
    (void)state;
    in_child(drain_that_forks);
}

static volatile int others;
static void another_handler(int sig)
{
    (void)sig;
    others = others + 1;
}

/* The handler of before is there again when the last context has gone, and not before. */
static void the_action_of_before_comes_back_with_the_last_context(void **state)
{
    (void)state;
    struct sigaction before, after;
    sigset_t masked = set_of(SIGCHLD, 0);
    memset(&before, 0, sizeof before);
    before.sa_handler = another_handler;
    before.sa_mask = masked;
    before.sa_flags = SA_RESTART;
    assert_int_equal(sigaction(SIGTERM, &before, NULL), 0);
    others = 0;
    cctx_t *first = with_signals(cctx_background(), SIGTERM, SIGINT);
    cctx_t *second = with_signals(cctx_background(), SIGTERM, 0);
    raise(SIGTERM);
    assert_int_equal(others, 0);
    cctx_unref(first);
    assert_true(is_default(SIGINT));
    raise(SIGTERM);
    assert_int_equal(others, 0);
    cctx_close(second);
    raise(SIGTERM);
    assert_int_equal(others, 1);
    assert_int_equal(sigaction(SIGTERM, NULL, &after), 0);
    assert_int_equal(after.sa_flags & ~0x04000000, SA_RESTART); /* SA_RESTORER is libc's */
    assert_true(sigismember(&after.sa_mask, SIGCHLD));
    signal(SIGTERM, SIG_DFL);
}

/* What the program sets meanwhile is its own: it stays. */
static void an_action_that_the_program_sets_meanwhile_stays(void **state)
{
    (void)state;
    cctx_t *ctx = with_signals(cctx_background(), SIGTERM, 0);
    handle(SIGTERM, another_handler);
    others = 0;
    raise(SIGTERM);
    assert_int_equal(others, 1);
    assert_false(cctx_is_done(ctx));
    /* A new context asks anew, and takes it for what was there before. */
    cctx_t *again = with_signals(cctx_background(), SIGTERM, 0);
    raise(SIGTERM);
    assert_true(cctx_is_done(ctx) && cctx_is_done(again));
    cctx_unref(ctx);
    cctx_unref(again);
    raise(SIGTERM);
    assert_int_equal(others, 2);
    signal(SIGTERM, SIG_DFL);
    ctx = with_signals(cctx_background(), SIGTERM, 0);
    handle(SIGTERM, another_handler);
    cctx_unref(ctx);
    raise(SIGTERM);
    assert_int_equal(others, 3);
    signal(SIGTERM, SIG_DFL);
}

/* Two contexts on one signal. */
static void one_signal_ends_each_context_that_asks_for_it(void **state)
{
    (void)state;
    cctx_t *a = with_signals(cctx_background(), SIGUSR1, 0), *b = with_signals(cctx_background(), SIGUSR1, SIGUSR2);
    cctx_t *c = with_signals(cctx_background(), SIGUSR2, 0);
    raise(SIGUSR1);
    assert_true(cctx_is_done(a) && cctx_is_done(b) && !cctx_is_done(c));
    raise(SIGUSR2);
    assert_true(cctx_is_done(c));
    assert_int_equal(cctx_cause(b)->code, SIGUSR1);
    cctx_unref(a);
    cctx_unref(b);
    cctx_unref(c);
}

/* C1, C9: whoever is first. */
static void a_cancel_before_the_signal_has_its_own_cause(void **state)
{
    (void)state;
    static const cctx_cause_t cause = {7, "first"};
    cctx_t *ctx = with_signals(cctx_background(), SIGUSR1, 0);
    assert_true(cctx_cancel_cause(ctx, &cause));
    raise(SIGUSR1);
    assert_ptr_equal(cctx_cause(ctx), &cause);
    cctx_unref(ctx);
    ctx = with_signals(cctx_background(), SIGUSR1, 0);
    raise(SIGUSR1);
    assert_false(cctx_cancel_cause(ctx, &cause));
    assert_int_equal(cctx_cause(ctx)->code, SIGUSR1);
    cctx_unref(ctx);
    ctx = with_signals(cctx_background(), SIGUSR1, 0);
    assert_true(cctx_cancel_async(ctx));
    raise(SIGUSR1);
    assert_ptr_equal(cctx_cause(ctx), &cctx_canceled);
    cctx_unref(ctx);
}

/* C3, C11, C16, C20: it is a context as any other. */
static void it_is_a_child_as_any_other(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    int value;
    char text[200];
    cctx_t *top = cctx_with_timeout(cctx_background(), CCTX_S(1000));
    const cctx_t *middle = cctx_with_value(top, &key, &value);
    cctx_t *ctx = with_signals(middle, SIGUSR1, SIGUSR2);
    cctx_time_t deadline;
    assert_true(cctx_deadline(ctx, &deadline));
    assert_ptr_equal(cctx_value(ctx, &key), &value);
    snprintf(text, sizeof text, ".WithValue(key).WithSignals(%d,%d)", SIGUSR1 < SIGUSR2 ? SIGUSR1 : SIGUSR2,
             SIGUSR1 < SIGUSR2 ? SIGUSR2 : SIGUSR1);
    char all[300];
    cctx_print(ctx, all, sizeof all);
    assert_non_null(strstr(all, text));
    cctx_t *kid = cctx_with_cancel(ctx);
    cctx_unref(middle);
    cctx_cancel(top);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    assert_int_equal(cctx_err(kid), ECANCELED);
    assert_ptr_equal(cctx_cause(ctx), &cctx_canceled);
    cctx_t *late = with_signals(top, SIGUSR1, 0);
    assert_true(cctx_is_done(late));
    raise(SIGUSR1);
    assert_ptr_equal(cctx_cause(late), &cctx_canceled);
    cctx_unref(late);
    cctx_unref(kid);
    cctx_unref(ctx);
    cctx_unref(top);
    assert_true(is_default(SIGUSR1) && is_default(SIGUSR2));
}

/* A long set is cut short. */
static void a_long_set_is_printed_as_far_as_there_is_room(void **state)
{
    (void)state;
    sigset_t set;
    char text[300];
    sigfillset(&set);
    sigdelset(&set, SIGKILL);
    sigdelset(&set, SIGSTOP);
    cctx_t *ctx = cctx_with_signals(cctx_background(), &set);
    assert_non_null(ctx);
    cctx_print(ctx, text, sizeof text);
    assert_non_null(strstr(text, ".WithSignals(1,2,3,"));
    assert_string_equal(text + strlen(text) - 5, ",...)");
    cctx_unref(ctx);
}

/* B2, C28 */
static void what_is_derived_follows_and_callbacks_run(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = with_signals(cctx_background(), SIGUSR1, 0), *kid = cctx_with_cancel(ctx);
        waiting_t waiting = {kid, 0};
        cctx_callback_t cb[2];
        int n = 0;
        assert_int_equal(cctx_after_func(ctx, &cb[0], count, &n), 0);
        assert_int_equal(cctx_after_func(kid, &cb[1], count, &n), 0);
        pthread_t thread = thread_start(wait_main, &waiting);
        raise(SIGUSR1);
        thread_join(thread);
        assert_int_equal(waiting.err, ECANCELED);
        while (counted(&n) < 2)
            sched_yield();
        assert_false(cctx_stop_wait(&cb[0]));
        assert_false(cctx_stop_wait(&cb[1]));
        assert_int_equal(cctx_cause(kid)->code, SIGUSR1);
        cctx_unref(kid);
        cctx_unref(ctx);
    }
}

/* C21: the last reference goes in a cancel of an ancestor, or with the context's child. */
static void the_action_comes_back_however_the_context_dies(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *ctx = with_signals(top, SIGUSR1, 0), *kid = cctx_with_cancel(ctx);
    cctx_unref(ctx);
    assert_false(is_default(SIGUSR1));
    raise(SIGUSR1);
    while (!cctx_is_done(kid))
        sched_yield();
    assert_int_equal(cctx_cause(kid)->code, SIGUSR1);
    cctx_unref(kid);
    cctx_unref(top);
    /* The thread that saw to the child may be the last to let go. */
    while (!is_default(SIGUSR1))
        sched_yield();
}

/* C22: the memory of one is the next one's. */
static void a_million_of_them_need_the_memory_of_one(void **state)
{
    (void)state;
    cctx_unref(with_signals(cctx_background(), SIGUSR1, 0));
    for (int i = 0; i < 1000; i++)
        cctx_close(with_signals(cctx_background(), SIGUSR1, 0));
    size_t before = memory_in_use();
    for (int i = 0; i < SCALED(20000); i++) {
        cctx_t *ctx = with_signals(cctx_background(), SIGUSR1, 0);
        if (i % 2)
            raise(SIGUSR1);
        cctx_unref(ctx);
    }
    assert_true(memory_in_use() < before + 65536);
}

static cctx_t *inherited, *inherited_kid;
static void signal_in_the_child(void *arg)
{
    (void)arg;
    alarm(20);
    raise(SIGUSR1);
    CHECK(cctx_err(inherited) == ECANCELED && cctx_cause(inherited)->code == SIGUSR1);
    cctx_t *more = with_signals(cctx_background(), SIGUSR1, SIGUSR2);
    CHECK(more && cctx_is_done(inherited_kid));
    cctx_unref(inherited_kid);
    cctx_unref(inherited);
    CHECK(!is_default(SIGUSR1));
    cctx_unref(more);
    CHECK(is_default(SIGUSR1) && is_default(SIGUSR2));
}

/* C23 */
static void the_child_of_a_fork_has_them_too(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork");
    inherited = with_signals(cctx_background(), SIGUSR1, 0);
    inherited_kid = cctx_with_cancel(inherited);
    assert_int_equal(run_in_child(signal_in_the_child, NULL), 0);
    assert_false(cctx_is_done(inherited));
    raise(SIGUSR1);
    assert_true(cctx_is_done(inherited));
    cctx_unref(inherited_kid);
    cctx_unref(inherited);
}

/* A signal that comes to a thread of the program's while another waits, untimed and timed. */
static void *raise_at(void *arg)
{
    int err = pthread_kill(*(pthread_t *)arg, SIGUSR1);
    CHECK(err == 0);
    return NULL;
}
static void a_thread_that_waits_is_woken_by_its_own_handler(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer delays signals past the wait");
    for (int i = 0; i < 20; i++) {
        pthread_t me = pthread_self();
        cctx_t *ctx = with_signals(cctx_background(), SIGUSR1, 0), *kid = cctx_with_cancel(ctx);
        pthread_t thread = thread_start(raise_at, &me);
        if (i % 2)
            assert_int_equal(cctx_wait(i % 4 == 1 ? ctx : kid), ECANCELED);
        else
            assert_true(cctx_wait_for(i % 4 == 0 ? ctx : kid, CCTX_S(100)));
        thread_join(thread);
        cctx_unref(kid);
        cctx_unref(ctx);
    }
}

/* What waits for something that does not come. */
static int watch(void **state)
{
    (void)state;
    watchdog(20);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_context_is_done_when_a_cancel_from_a_handler_returns, watch),
        cmocka_unit_test_setup(a_cancel_from_a_handler_of_what_cannot_be_canceled_is_false, watch),
        cmocka_unit_test_setup(descendants_are_done_in_the_next_call_that_derives_cancels_or_waits, watch),
        cmocka_unit_test_setup(a_wait_that_begins_afterwards_sees_the_descendant_done, watch),
        cmocka_unit_test_setup(callbacks_run_on_a_thread_of_the_library, watch),
        cmocka_unit_test_setup(callbacks_run_in_the_next_call_where_no_thread_can_be_made, watch),
        cmocka_unit_test_setup(a_callback_can_be_stopped_after_the_cancel_from_a_handler, watch),
        cmocka_unit_test_setup(the_handles_may_go_before_the_rest_is_seen_to, watch),
        cmocka_unit_test_setup(any_number_of_them_may_wait_for_the_next_call, watch),
        cmocka_unit_test_setup(a_merge_follows, watch),
        cmocka_unit_test_setup(a_destructor_may_fork_in_the_middle_of_it, watch),
        cmocka_unit_test_setup(what_is_left_at_a_fork_is_done_in_both_processes, watch),
        cmocka_unit_test_setup(without_waiters_and_children_it_makes_no_system_call, watch),
        cmocka_unit_test_setup(a_cancel_after_it_sees_to_every_descendant, watch),
        cmocka_unit_test_setup(what_is_derived_afterwards_is_born_done, watch),
        cmocka_unit_test_setup(the_threads_are_made_now_and_once_in_each_process, watch),
        cmocka_unit_test_setup(descendants_are_done_by_the_timer_thread_if_it_runs, watch),
        cmocka_unit_test_setup(waiters_are_woken, watch),
        cmocka_unit_test_setup(a_signal_ends_the_context_and_the_cause_names_it, watch),
        cmocka_unit_test_setup(each_signal_has_a_text, watch),
        cmocka_unit_test_setup(wrong_arguments_are_refused, watch),
        cmocka_unit_test_setup(the_action_of_before_comes_back_with_the_last_context, watch),
        cmocka_unit_test_setup(an_action_that_the_program_sets_meanwhile_stays, watch),
        cmocka_unit_test_setup(one_signal_ends_each_context_that_asks_for_it, watch),
        cmocka_unit_test_setup(a_cancel_before_the_signal_has_its_own_cause, watch),
        cmocka_unit_test_setup(it_is_a_child_as_any_other, watch),
        cmocka_unit_test_setup(a_long_set_is_printed_as_far_as_there_is_room, watch),
        cmocka_unit_test_setup(what_is_derived_follows_and_callbacks_run, watch),
        cmocka_unit_test_setup(the_action_comes_back_however_the_context_dies, watch),
        cmocka_unit_test_setup(a_million_of_them_need_the_memory_of_one, watch),
        cmocka_unit_test_setup(the_child_of_a_fork_has_them_too, watch),
        cmocka_unit_test_setup(a_thread_that_waits_is_woken_by_its_own_handler, watch),
    };
    /* A shell may have left some of them ignored. */
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
