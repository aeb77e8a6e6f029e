/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Groups, as a user sees them: errgroup's cases by their names, then what C adds: executors that run tasks
 * at once, later, elsewhere or not at all, waits from inside, forks.
 */
#include "executors.h"

#include <cctx/group.h>

static const cctx_cause_t asked = {7, "asked to"};

typedef int task_t(const cctx_t *ctx, void *arg);

static int returns(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    return (int)(intptr_t)arg;
}

static void *result(int error)
{
    return (void *)(intptr_t)error;
}

static int counts(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
    return 0;
}

static int waits(const cctx_t *ctx, void *arg)
{
    (void)arg;
    return cctx_wait(ctx);
}

static int looks(const cctx_t *ctx, void *arg)
{
    *(int *)arg = cctx_err(ctx);
    return 0;
}

static int stays(const cctx_t *ctx, void *gate)
{
    (void)ctx;
    gate_wait(gate);
    return 0;
}

static void go(cctx_group_t *group, task_t *fn, void *arg)
{
    CHECK(cctx_group_go(group, fn, arg) == 0);
}

static cctx_group_t *new_group(cctx_executor_t *executor, size_t limit)
{
    cctx_group_t *group = cctx_group_new(cctx_background(), executor, limit);
    CHECK(group != NULL);
    return group;
}

/* Each way in which a task may come to run. */
enum { WAYS = 4 };
static pool_t pool;

static cctx_executor_t *way(unsigned i)
{
    cctx_executor_t *all[WAYS] = {NULL, inline_run(), refuses(), &pool.later.executor};
    return all[i];
}

static int pool_setup(void **state)
{
    (void)state;
    pool_start(&pool, 3);
    return 0;
}

static int pool_teardown(void **state)
{
    (void)state;
    pool_stop(&pool);
    return 0;
}

/* ---- errgroup's own cases ---- */

static void go_test_zero_group(void **state)
{
    (void)state;
    static const struct {
        int n, errs[3];
    } cases[] = {{0, {0}}, {1, {0}}, {1, {11}}, {2, {11, 0}}, {3, {11, 0, 22}}, {3, {0, 22, 11}}};
    for (unsigned w = 0; w < WAYS; w++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            cctx_group_t *group = new_group(way(w), 0);
            int first = 0;
            for (int j = 0; j < cases[i].n; j++) {
                go(group, returns, result(cases[i].errs[j]));
                if (first == 0)
                    first = cases[i].errs[j];
                assert_int_equal(cctx_group_wait(group), first);
            }
            cctx_group_free(group);
        }
}

/* With and without an error the context is done after the wait; its cause is the error, if there is one. */
static void go_test_with_context_and_cancel_cause(void **state)
{
    (void)state;
    static const struct {
        int n, errs[2], want;
    } cases[] = {{0, {0}, 0}, {1, {0}, 0}, {1, {11}, 11}, {2, {11, 0}, 11}, {2, {0, -11}, -11}};
    for (unsigned w = 0; w < WAYS; w++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            cctx_group_t *group = new_group(way(w), 0);
            const cctx_t *ctx = cctx_group_context(group);
            assert_int_equal(cctx_err(ctx), 0);
            for (int j = 0; j < cases[i].n; j++)
                go(group, returns, result(cases[i].errs[j]));
            assert_int_equal(cctx_group_wait(group), cases[i].want);
            assert_int_equal(cctx_err(ctx), ECANCELED);
            if (cases[i].want == 0)
                assert_ptr_equal(cctx_cause(ctx), &cctx_canceled);
            else
                assert_int_equal(cctx_cause(ctx)->code, cases[i].want);
            cctx_group_free(group);
        }
}

typedef struct active {
    int limit, now, most, all;
} active_t;

static int is_active(const cctx_t *ctx, void *arg)
{
    active_t *active = arg;
    int now = __atomic_add_fetch(&active->now, 1, __ATOMIC_RELAXED);
    int most = __atomic_load_n(&active->most, __ATOMIC_RELAXED);
    while (most < now && !__atomic_compare_exchange_n(&active->most, &most, now, false, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED)) {
    }
    cctx_wait_for(ctx, CCTX_US(1));
    __atomic_add_fetch(&active->all, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&active->now, 1, __ATOMIC_RELAXED);
    return now > active->limit ? ERANGE : 0;
}

static void go_test_go_limit(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++)
        for (int limit = 1; limit <= 10; limit += 9) {
            active_t active = {.limit = limit};
            cctx_group_t *group = new_group(way(w), (size_t)limit);
            for (int i = 0; i < SCALED(512); i++)
                go(group, is_active, &active);
            assert_int_equal(cctx_group_wait(group), 0);
            assert_int_equal(active.all, SCALED(512));
            assert_in_range(active.most, 1, limit);
            cctx_group_free(group);
        }
}

/* ---- results ---- */

static int fails_when_told(const cctx_t *ctx, void *gate)
{
    (void)ctx;
    gate_wait(gate);
    return 22;
}

/* A task's error ends the context of those that run; what they return because of it is dropped. */
static void the_first_error_cancels_the_others_and_is_the_groups(void **state)
{
    (void)state;
    gate_t gate = {0};
    cctx_group_t *group = new_group(NULL, 0);
    for (int i = 0; i < 4; i++)
        go(group, waits, NULL);
    go(group, fails_when_told, &gate);
    assert_int_equal(cctx_err(cctx_group_context(group)), 0);
    gate_open(&gate);
    assert_int_equal(cctx_group_wait(group), 22);
    const cctx_cause_t *cause = cctx_cause(cctx_group_context(group));
    assert_int_equal(cause->code, 22);
    assert_string_equal(cause->text, "a task of the group returned 22");
    cctx_group_free(group);
}

static void any_number_but_0_is_an_error(void **state)
{
    (void)state;
    static const int errors[] = {1, -1, INT_MAX, INT_MIN, ECANCELED};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        cctx_group_t *group = new_group(way((unsigned)i % WAYS), 0);
        go(group, returns, result(errors[i]));
        assert_int_equal(cctx_group_wait(group), errors[i]);
        assert_int_equal(cctx_cause(cctx_group_context(group))->code, errors[i]);
        cctx_group_free(group);
    }
}

static void a_task_that_is_started_late_runs_and_finds_its_context_done(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        int err = -1;
        cctx_group_t *group = new_group(way(w), 0);
        go(group, returns, result(5));
        cctx_wait(cctx_group_context(group));
        go(group, looks, &err);
        assert_int_equal(cctx_group_wait(group), 5);
        assert_int_equal(err, ECANCELED);
        err = -1;
        go(group, looks, &err); /* also after a wait */
        go(group, returns, result(6));
        assert_int_equal(cctx_group_wait(group), 5);
        assert_int_equal(err, ECANCELED);
        cctx_group_free(group);
    }
}

typedef struct seen {
    const cctx_t *ctx;
    void *arg;
    pthread_t thread;
    sigset_t mask;
} seen_t;

static int sees(const cctx_t *ctx, void *arg)
{
    *(seen_t *)arg = (seen_t){.ctx = ctx, .arg = arg, .thread = pthread_self()};
    pthread_sigmask(SIG_BLOCK, NULL, &((seen_t *)arg)->mask);
    return 0;
}

static void a_task_gets_the_groups_context_and_its_argument(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        seen_t seen = {0};
        cctx_group_t *group = new_group(way(w), 0);
        go(group, sees, &seen);
        assert_int_equal(cctx_group_wait(group), 0);
        assert_ptr_equal(seen.ctx, cctx_group_context(group));
        assert_ptr_equal(seen.arg, &seen);
        assert_int_equal(pthread_equal(seen.thread, pthread_self()) != 0, w == 1 || w == 2);
        cctx_group_free(group);
    }
}

static void a_thread_of_its_own_has_the_signal_mask_of_the_caller(void **state)
{
    (void)state;
    sigset_t one, before;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &one, &before);
    seen_t seen = {0};
    cctx_group_t *group = new_group(NULL, 0);
    go(group, sees, &seen);
    cctx_group_wait(group);
    assert_true(sigismember(&seen.mask, SIGUSR2));
    assert_false(sigismember(&seen.mask, SIGUSR1));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    cctx_group_free(group);
}

/* ---- the context ---- */

static void below_a_done_parent_tasks_run_with_its_error(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        cctx_t *parent = cctx_with_cancel(cctx_background());
        cctx_cancel_cause(parent, &asked);
        cctx_group_t *group = cctx_group_new(parent, way(w), 0);
        cctx_unref(parent);
        assert_int_equal(cctx_err(cctx_group_context(group)), ECANCELED);
        int err = -1;
        go(group, looks, &err);
        assert_int_equal(cctx_group_wait(group), 0);
        assert_int_equal(err, ECANCELED);
        go(group, waits, NULL);
        assert_int_equal(cctx_group_wait(group), ECANCELED);
        assert_ptr_equal(cctx_cause(cctx_group_context(group)), &asked);
        cctx_group_free(group);
    }
}

static void a_cancel_or_a_deadline_of_the_parent_reaches_the_tasks(void **state)
{
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        cctx_t *parent = cctx_with_timeout_cause(cctx_background(), timed ? CCTX_MS(1) : CCTX_NEVER, &asked);
        cctx_group_t *group = cctx_group_new(parent, NULL, 0);
        cctx_time_t theirs = 0, ours = 0;
        assert_int_equal(cctx_deadline(parent, &theirs), timed);
        assert_int_equal(cctx_deadline(cctx_group_context(group), &ours), timed);
        assert_int_equal(theirs, ours);
        for (int i = 0; i < 3; i++)
            go(group, waits, NULL);
        if (!timed)
            cctx_cancel_cause(parent, &asked);
        assert_int_equal(cctx_group_wait(group), timed ? ETIMEDOUT : ECANCELED);
        assert_ptr_equal(cctx_cause(cctx_group_context(group)), &asked);
        cctx_group_free(group);
        cctx_unref(parent);
    }
}

static void an_error_ends_the_group_and_not_its_parent(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_group_t *group = cctx_group_new(parent, NULL, 0);
    go(group, returns, result(3));
    assert_int_equal(cctx_group_wait(group), 3);
    cctx_group_free(group);
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(parent);
}

static void the_context_and_its_cause_outlive_the_group_by_a_reference(void **state)
{
    (void)state;
    cctx_group_t *group = new_group(NULL, 0);
    const cctx_t *ctx = cctx_ref(cctx_group_context(group));
    cctx_t *child = cctx_with_cancel(ctx);
    go(group, returns, result(41));
    assert_int_equal(cctx_group_wait(group), 41);
    cctx_group_free(group);
    assert_int_equal(cctx_err(child), ECANCELED);
    assert_string_equal(cctx_cause(child)->text, "a task of the group returned 41");
    cctx_unref(ctx);
    assert_int_equal(cctx_cause(child)->code, 41);
    cctx_unref(child);
}

/* ---- waits ---- */

static void without_tasks_a_wait_only_cancels(void **state)
{
    (void)state;
    cctx_group_t *group = new_group(NULL, 1);
    assert_int_equal(cctx_group_wait(group), 0);
    assert_int_equal(cctx_group_wait(group), 0);
    assert_ptr_equal(cctx_cause(cctx_group_context(group)), &cctx_canceled);
    cctx_group_free(group);
    cctx_group_free(new_group(NULL, 0));
}

typedef struct crowd {
    cctx_group_t *group;
    gate_t gate;
    int waiting;
} crowd_t;

static void wait_in_a_crowd(unsigned index, void *arg)
{
    crowd_t *crowd = arg;
    if (index == 0) {
        gate_open(&crowd->gate);
    } else {
        CHECK(cctx_group_wait(crowd->group) == 22);
        CHECK(cctx_group_wait(crowd->group) == 22);
    }
}

static void several_threads_may_wait_and_all_get_the_error(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(100); i++) {
        crowd_t crowd = {.group = new_group(NULL, 0)};
        go(crowd.group, fails_when_told, &crowd.gate);
        threads_run(4, wait_in_a_crowd, &crowd);
        cctx_group_free(crowd.group);
    }
}

typedef struct family {
    cctx_group_t *group;
    int ran, depth;
} family_t;

static int has_children(const cctx_t *ctx, void *arg)
{
    family_t *family = arg;
    (void)ctx;
    __atomic_add_fetch(&family->ran, 1, __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&family->depth, 1, __ATOMIC_RELAXED) > 0)
        for (int i = 0; i < 2; i++)
            go(family->group, has_children, family);
    return 0;
}

static void a_wait_waits_for_what_tasks_start_too(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        family_t family = {.group = new_group(way(w), 0), .depth = 20};
        go(family.group, has_children, &family);
        assert_int_equal(cctx_group_wait(family.group), 0);
        assert_int_equal(family.ran, 1 + 2 * 19);
        cctx_group_free(family.group);
    }
}

static int waits_for_its_group(const cctx_t *ctx, void *arg)
{
    cctx_group_t *group = *(cctx_group_t **)arg;
    CHECK(cctx_err(ctx) == 0);
    CHECK(cctx_group_wait(group) == EDEADLK);
    CHECK(cctx_err(ctx) == 0);
    cctx_group_free(group);
    CHECK(cctx_err(ctx) == ECANCELED);
    return 8;
}

static void a_task_that_waits_for_its_own_group_is_told_so(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        cctx_group_t *group = new_group(way(w), 0);
        go(group, waits_for_its_group, &group);
        assert_int_equal(cctx_group_wait(group), 8);
        cctx_group_free(group);
    }
}

typedef struct nested {
    cctx_group_t *outer;
    cctx_executor_t *executor;
    bool joined; /* the inner task runs inside of the outer one */
} nested_t;

static int waits_for_the_outer_group(const cctx_t *ctx, void *arg)
{
    nested_t *nested = arg;
    (void)ctx;
    return nested->joined ? cctx_group_wait(nested->outer) : 9;
}

static int has_a_group(const cctx_t *ctx, void *arg)
{
    nested_t *nested = arg;
    cctx_group_t *inner = cctx_group_new(ctx, nested->executor, 2);
    for (int i = 0; i < 3; i++)
        go(inner, waits_for_the_outer_group, nested);
    int err = cctx_group_wait(inner);
    CHECK(err == (nested->joined ? EDEADLK : 9));
    CHECK(cctx_group_wait(nested->outer) == EDEADLK);
    cctx_group_free(inner);
    return err;
}

static void a_task_may_wait_for_a_group_of_its_own(void **state)
{
    (void)state;
    for (unsigned outer = 0; outer < WAYS; outer++)
        for (unsigned inner = 0; inner < 3; inner++) {
            nested_t nested = {new_group(way(outer), 0), way(inner), inner > 0};
            go(nested.outer, has_a_group, &nested);
            assert_int_equal(cctx_group_wait(nested.outer), inner > 0 ? EDEADLK : 9);
            cctx_group_free(nested.outer);
        }
}

static void a_free_ends_and_waits_for_what_still_runs(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(100); i++) {
        cctx_group_t *group = new_group(i % 2 ? NULL : &pool.later.executor, 0);
        int ran = 0;
        go(group, waits, NULL);
        go(group, counts, &ran);
        cctx_group_free(group);
        assert_int_equal(ran, 1);
    }
}

static void nothing_happens(int sig)
{
    (void)sig;
}

static int interrupts(const cctx_t *ctx, void *thread)
{
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_kill(*(pthread_t *)thread, SIGUSR1) == 0);
        cctx_wait_for(ctx, CCTX_US(100));
    }
    return 17;
}

static void a_signal_handler_does_not_end_a_wait(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = nothing_happens}, before;
    sigaction(SIGUSR1, &action, &before);
    pthread_t self = pthread_self();
    cctx_group_t *group = new_group(NULL, 0);
    go(group, interrupts, &self);
    assert_int_equal(cctx_group_wait(group), 17);
    cctx_group_free(group);
    sigaction(SIGUSR1, &before, NULL);
}

/* ---- executors ---- */

/* B0: submitted counts as started: a wait waits for what has not begun to run. */
static void a_submitted_task_counts_as_started(void **state)
{
    (void)state;
    later_t later;
    later_init(&later);
    cctx_group_t *group = new_group(&later.executor, 3);
    int ran = 0;
    for (int i = 0; i < 3; i++)
        go(group, counts, &ran);
    assert_int_equal(ran, 0);
    pthread_t loop = thread_start(pool_main, &later);
    assert_int_equal(cctx_group_wait(group), 0);
    assert_int_equal(ran, 3);
    cctx_group_free(group);
    later_close(&later);
    thread_join(loop);
    later_end(&later);
}

/* B0: with the limit reached by what only waits in a queue, go sleeps until one of them has run. */
static int opens(const cctx_t *ctx, void *gate)
{
    (void)ctx;
    gate_open(gate);
    return 0;
}

static void *starts_one_too_many(void *arg)
{
    crowd_t *crowd = arg;
    go(crowd->group, opens, &crowd->gate);
    __atomic_store_n(&crowd->waiting, 2, __ATOMIC_RELEASE);
    return NULL;
}

static void at_the_limit_go_sleeps_until_a_task_has_ended(void **state)
{
    (void)state;
    later_t later;
    later_init(&later);
    crowd_t crowd = {.group = new_group(&later.executor, 2)};
    int ran = 0;
    go(crowd.group, counts, &ran);
    go(crowd.group, counts, &ran);
    pthread_t thread = thread_start(starts_one_too_many, &crowd);
    cctx_wait_for(cctx_background(), CCTX_MS(1)); /* time to fall asleep; right without it */
    assert_int_equal(__atomic_load_n(&crowd.waiting, __ATOMIC_ACQUIRE), 0);
    pthread_mutex_lock(&later.lock);
    assert_null(later.first->next->next);
    pthread_mutex_unlock(&later.lock);
    assert_true(later_run(&later, false));
    thread_join(thread);
    assert_true(later_run(&later, false));
    assert_int_equal(ran, 2);
    assert_true(later_run(&later, false));
    assert_int_equal(crowd.gate.open, 1);
    assert_int_equal(cctx_group_wait(crowd.group), 0);
    cctx_group_free(crowd.group);
    later_end(&later);
}

/* B0: refused tasks run on the thread that called go, before it returns, and each counts in the limit. */
static void a_refused_task_runs_in_go(void **state)
{
    (void)state;
    seen_t seen = {0};
    active_t active = {.limit = 1};
    cctx_group_t *group = new_group(refuses(), 1);
    go(group, sees, &seen);
    assert_true(pthread_equal(seen.thread, pthread_self()));
    go(group, is_active, &active);
    assert_int_equal(active.all, 1);
    go(group, returns, result(4));
    assert_int_equal(cctx_cause(cctx_group_context(group))->code, 4);
    assert_int_equal(cctx_group_wait(group), 4);
    cctx_group_free(group);
}

/* B0: a pool whose queue is full now and then. */
static void a_pool_that_refuses_some_runs_each_task_once(void **state)
{
    (void)state;
    enum { TASKS = 3000 };
    static int ran[TASKS];
    pool_t refusing;
    memset(ran, 0, sizeof ran);
    cctx_executor_t *executor = pool_start(&refusing, 4);
    refusing.later.refuse_every = 5;
    for (size_t limit = 0; limit < 8; limit += 7) {
        cctx_group_t *group = new_group(executor, limit);
        for (int i = 0; i < SCALED(TASKS); i++)
            go(group, counts, &ran[i]);
        assert_int_equal(cctx_group_wait(group), 0);
        for (int i = 0; i < SCALED(TASKS); i++)
            assert_int_equal(ran[i], limit ? 2 : 1);
        cctx_group_free(group);
    }
    pool_stop(&refusing);
}

/* With a limit of 1 each task sees what the one before it did, though nothing else orders them. */
static int adds(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    ++*(long *)arg;
    return 0;
}

static void the_end_of_a_task_comes_before_the_start_of_the_one_in_its_place(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        long sum = 0;
        cctx_group_t *group = new_group(way(w), 1);
        for (int i = 0; i < SCALED(1000); i++)
            go(group, adds, &sum);
        cctx_group_wait(group);
        assert_int_equal(sum, SCALED(1000));
        cctx_group_free(group);
    }
}

/* ---- what is wrong, and errno ---- */

/* C32 */
static void wrong_arguments_are_told_and_nothing_runs(void **state)
{
    (void)state;
    cctx_executor_t none = {NULL};
    errno = 0;
    assert_null(cctx_group_new(NULL, NULL, 0));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_group_new(cctx_background(), &none, 0));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_group_context(NULL));
    assert_int_equal(errno, EINVAL);
    cctx_group_t *group = new_group(NULL, SIZE_MAX);
    errno = EXDEV;
    int ran = 0;
    assert_int_equal(cctx_group_go(NULL, counts, &ran), EINVAL);
    assert_int_equal(cctx_group_go(group, NULL, &ran), EINVAL);
    assert_int_equal(cctx_group_wait(NULL), EINVAL);
    cctx_group_free(NULL);
    assert_int_equal(errno, EXDEV);
    assert_int_equal(cctx_err(cctx_group_context(group)), 0);
    assert_int_equal(cctx_group_wait(group), 0);
    assert_int_equal(ran, 0);
    cctx_group_free(group);
}

static int breaks_errno(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    errno = EXDEV;
    return (int)(intptr_t)arg;
}

static void errno_is_left_alone(void **state)
{
    (void)state;
    for (unsigned w = 0; w < WAYS; w++) {
        errno = E2BIG;
        cctx_group_t *group = new_group(way(w), 1);
        for (int i = 0; i < 3; i++)
            assert_int_equal(cctx_group_go(group, breaks_errno, result(i)), 0);
        assert_int_equal(cctx_group_wait(group), 1);
        cctx_group_free(group);
        assert_int_equal(errno, E2BIG);
    }
}

/* ---- forks ---- */

typedef struct inherited {
    cctx_group_t *group;
    gate_t gate;
    int ran;
    int status;
} inherited_t;

/* The task of the parent stands still there; here it is gone. */
static void uses_what_it_inherited(void *arg)
{
    inherited_t *inherited = arg;
    cctx_group_t *group = inherited->group;
    alarm(20);
    if (inherited->ran == 0)
        CHECK(cctx_group_wait(group) == 0);
    else if (inherited->ran == 1)
        cctx_cancel((cctx_t *)(uintptr_t)cctx_group_context(group));
    int ran = 0;
    for (int i = 0; i < 3; i++)
        go(group, counts, &ran); /* two at a time, though two ran in the parent */
    CHECK(cctx_group_wait(group) == 0 && ran == 3);
    go(group, returns, result(6));
    CHECK(cctx_group_wait(group) == 6);
    cctx_group_free(group);
}

/* C23 */
static void a_child_waits_for_no_task_of_the_parent(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer sees no order in the child of a fork");
    if (!threads_after_fork())
        NOT_APPLICABLE("the child of a process with threads may make none");
    for (int how = 0; how < 3; how++) {
        inherited_t inherited = {.group = new_group(NULL, 2), .ran = how};
        go(inherited.group, stays, &inherited.gate);
        go(inherited.group, stays, &inherited.gate);
        assert_int_equal(run_in_child(uses_what_it_inherited, &inherited), 0);
        gate_open(&inherited.gate);
        assert_int_equal(cctx_group_wait(inherited.group), 0);
        cctx_group_free(inherited.group);
    }
}

static void frees_what_it_inherited(void *arg)
{
    alarm(20);
    cctx_group_free(((inherited_t *)arg)->group);
}

/* C23 */
static void a_child_may_free_a_group_with_tasks_of_the_parent(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer sees no order in the child of a fork");
    inherited_t inherited = {.group = new_group(NULL, 0)};
    go(inherited.group, stays, &inherited.gate);
    assert_int_equal(run_in_child(frees_what_it_inherited, &inherited), 0);
    gate_open(&inherited.gate);
    cctx_group_free(inherited.group);
}

/* In the child it may wait for the group, and free it, for there it is no task of it. */
static int forks(const cctx_t *ctx, void *arg)
{
    inherited_t *inherited = arg;
    (void)ctx;
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(20);
        go(inherited->group, counts, &inherited->ran);
        CHECK(cctx_group_wait(inherited->group) == 0);
        CHECK(inherited->ran == 1);
        cctx_group_free(inherited->group);
        return 13; /* dropped */
    }
    CHECK(waitpid(pid, &inherited->status, 0) == pid);
    return 14;
}

/* C23 */
static void in_the_child_a_task_that_forks_is_no_task_any_more(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer sees no order in the child of a fork");
    pid_t self = getpid();
    inherited_t inherited = {.group = new_group(inline_run(), 0), .status = -1};
    go(inherited.group, forks, &inherited);
    if (getpid() != self)
        _exit(inherited.ran == 1 ? 0 : 1);
    assert_int_equal(inherited.status, 0);
    assert_int_equal(cctx_group_wait(inherited.group), 14);
    cctx_group_free(inherited.group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(go_test_zero_group),
        cmocka_unit_test(go_test_with_context_and_cancel_cause),
        cmocka_unit_test(go_test_go_limit),
        cmocka_unit_test(the_first_error_cancels_the_others_and_is_the_groups),
        cmocka_unit_test(any_number_but_0_is_an_error),
        cmocka_unit_test(a_task_that_is_started_late_runs_and_finds_its_context_done),
        cmocka_unit_test(a_task_gets_the_groups_context_and_its_argument),
        cmocka_unit_test(a_thread_of_its_own_has_the_signal_mask_of_the_caller),
        cmocka_unit_test(below_a_done_parent_tasks_run_with_its_error),
        cmocka_unit_test(a_cancel_or_a_deadline_of_the_parent_reaches_the_tasks),
        cmocka_unit_test(an_error_ends_the_group_and_not_its_parent),
        cmocka_unit_test(the_context_and_its_cause_outlive_the_group_by_a_reference),
        cmocka_unit_test(without_tasks_a_wait_only_cancels),
        cmocka_unit_test(several_threads_may_wait_and_all_get_the_error),
        cmocka_unit_test(a_wait_waits_for_what_tasks_start_too),
        cmocka_unit_test(a_task_that_waits_for_its_own_group_is_told_so),
        cmocka_unit_test(a_task_may_wait_for_a_group_of_its_own),
        cmocka_unit_test(a_free_ends_and_waits_for_what_still_runs),
        cmocka_unit_test(a_signal_handler_does_not_end_a_wait),
        cmocka_unit_test(a_submitted_task_counts_as_started),
        cmocka_unit_test(at_the_limit_go_sleeps_until_a_task_has_ended),
        cmocka_unit_test(a_refused_task_runs_in_go),
        cmocka_unit_test(a_pool_that_refuses_some_runs_each_task_once),
        cmocka_unit_test(the_end_of_a_task_comes_before_the_start_of_the_one_in_its_place),
        cmocka_unit_test(wrong_arguments_are_told_and_nothing_runs),
        cmocka_unit_test(errno_is_left_alone),
        cmocka_unit_test(a_child_waits_for_no_task_of_the_parent),
        cmocka_unit_test(a_child_may_free_a_group_with_tasks_of_the_parent),
        cmocka_unit_test(in_the_child_a_task_that_forks_is_no_task_any_more),
    };
    watchdog(100);
    return cmocka_run_group_tests(tests, pool_setup, pool_teardown);
}
