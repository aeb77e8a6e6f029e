/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks by an executor, as a caller sees them: that fn runs there, once, or was stopped; what submitted means; and
 * when the storage is the caller's again. Storage that is given back is poisoned and freed at once.
 */
#include "pool.h"

#include <sched.h>

#define HOUR CCTX_S(3600)

typedef struct call {
    cctx_callback_t cb;
    const cctx_t *ctx;
    int runs; /* plain: whoever reads it must have been told of the end */
    int err;  /* of ctx, as fn saw it */
    pthread_t thread;
    gate_t started;
} call_t;

static void call_main(void *arg)
{
    call_t *call = arg;
    call->err = cctx_err(call->ctx);
    call->thread = pthread_self();
    call->runs++;
    gate_open(&call->started);
}

static call_t *call_new(const cctx_t *ctx, cctx_executor_t *ex)
{
    call_t *call = malloc(sizeof *call);
    CHECK(call != NULL);
    memset(call, 0, sizeof *call);
    memset(&call->cb, 0x5a, sizeof call->cb);
    call->ctx = ctx;
    CHECK(cctx_after_func_on(ctx, &call->cb, ex, call_main, call) == 0);
    return call;
}

static void call_free(call_t *call)
{
    memset(call, 0xa5, sizeof *call);
    free(call);
}

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_non_null(ctx);
    return ctx;
}

static late_t late;
static cctx_executor_t never = {submit_never}, at_once = {submit_inline};

static int late_setup(void **state)
{
    (void)state;
    memset(&late, 0, sizeof late);
    late.executor.submit = late_submit;
    watchdog(100);
    return 0;
}

static int late_teardown(void **state)
{
    (void)state;
    watchdog(0);
    return 0;
}

/* ---- where ---- */

/* C28, B0 */
static void fn_runs_once_on_the_pool(void **state)
{
    (void)state;
    pool_t *pool = pool_new();
    for (int i = 0; i < 100; i++) {
        cctx_t *parent = live(), *child = cctx_with_cancel(parent);
        call_t *call[] = {call_new(parent, &pool->executor), call_new(child, &pool->executor)};
        assert_true(cctx_cancel(parent));
        for (int k = 0; k < 2; k++) {
            assert_false(cctx_stop_wait(&call[k]->cb));
            assert_int_equal(call[k]->runs, 1);
            assert_int_equal(call[k]->err, ECANCELED);
            assert_false(pthread_equal(call[k]->thread, pthread_self()));
        }
        assert_false(cctx_cancel(parent));
        for (int k = 0; k < 2; k++)
            call_free(call[k]);
        cctx_unref(child);
        cctx_unref(parent);
    }
    pool_free(pool);
}

/* The executor runs nothing before the test does: were cancel to wait for fn, it would wait for ever. B0 */
static void a_cancel_does_not_wait_for_what_it_submits(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    call_t *call = call_new(ctx, &late.executor);
    assert_null(late.task.fn);
    assert_true(cctx_cancel(ctx));
    assert_non_null(late.task.fn);
    assert_int_equal(call->runs, 0);
    late_run(&late);
    assert_int_equal(call->runs, 1);
    assert_false(cctx_stop_wait(&call->cb));
    call_free(call);
    cctx_unref(ctx);
}

/* B0 */
static void where_submit_fails_fn_runs_in_the_thread_that_cancels_before_cancel_returns(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    call_t *call[3];
    for (int i = 0; i < 3; i++)
        call[i] = call_new(ctx, &never);
    assert_true(cctx_cancel(ctx));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(call[i]->runs, 1);
        assert_int_equal(call[i]->err, ECANCELED);
        assert_true(pthread_equal(call[i]->thread, pthread_self()));
        assert_false(cctx_stop_wait(&call[i]->cb));
        call_free(call[i]);
    }
    cctx_unref(ctx);
}

static void submit_and_look(cctx_executor_t *ex, int runs)
{
    cctx_t *canceled = live(), *expired = cctx_with_timeout(cctx_background(), 0);
    assert_true(cctx_cancel(canceled));
    const cctx_t *value = cctx_with_value(canceled, &(cctx_key_t){"key", NULL}, NULL);
    const cctx_t *contexts[] = {canceled, expired, value};
    for (int i = 0; i < 3; i++) {
        call_t *call = call_new(contexts[i], ex);
        assert_int_equal(call->runs, runs);
        assert_false(cctx_stop(&call->cb));
        if (!runs)
            late_run(&late);
        assert_int_equal(call->runs, 1);
        assert_int_equal(call->err, i == 1 ? ETIMEDOUT : ECANCELED);
        assert_false(cctx_stop_wait(&call->cb));
        call_free(call);
    }
    cctx_unref(value);
    cctx_unref(canceled);
    cctx_unref(expired);
}

/* C28, B0 */
static void on_a_done_context_it_is_submitted_before_the_return_and_runs_here_only_if_that_fails(void **state)
{
    (void)state;
    submit_and_look(&late.executor, 0);
    submit_and_look(&never, 1);
    submit_and_look(&at_once, 1);
}

/* C28 */
static void for_a_deadline_it_is_submitted_on_the_runner_thread(void **state)
{
    (void)state;
    cctx_t *ctx;
    call_t *call;
    for (int64_t timeout = CCTX_MS(2);; timeout *= 2) { /* registered before the deadline */
        ctx = cctx_with_timeout(cctx_background(), timeout);
        call = call_new(ctx, &late.executor);
        gate_wait(&late.submitted);
        if (strcmp(late.thread, "cctx-runner") == 0)
            break;
        late_run(&late);
        call_free(call);
        cctx_unref(ctx);
        memset(&late.submitted, 0, sizeof late.submitted);
    }
    assert_int_equal(call->runs, 0);
    late_run(&late);
    assert_int_equal(call->err, ETIMEDOUT);
    assert_false(cctx_stop_wait(&call->cb));
    call_free(call);
    cctx_unref(ctx);
}

typedef struct published {
    int plain, seen;
    cctx_t *ctx;
} published_t;

static void read_published(void *arg)
{
    published_t *published = arg;
    published->seen = published->plain;
}

static void *publish_and_cancel(void *arg)
{
    published_t *published = arg;
    published->plain = 42;
    CHECK(cctx_cancel(published->ctx));
    return NULL;
}

/* C5, C28 */
static void fn_sees_what_the_canceling_thread_did_before(void **state)
{
    (void)state;
    pool_t *pool = pool_new();
    for (int i = 0; i < SCALED(500); i++) {
        published_t published = {0, 0, live()};
        cctx_callback_t cb;
        pthread_t thread = thread_start(publish_and_cancel, &published);
        assert_int_equal(cctx_after_func_on(published.ctx, &cb, &pool->executor, read_published, &published), 0);
        if (cctx_stop_wait(&cb))
            published.seen = 42;
        assert_int_equal(published.seen, 42);
        thread_join(thread);
        cctx_unref(published.ctx);
    }
    pool_free(pool);
}

/* ---- stop ---- */

/* B0, C29 */
static void a_stop_before_the_end_wins_and_nothing_is_submitted(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    for (int i = 0; i < 100; i++) {
        call_t *call = call_new(ctx, &late.executor);
        assert_true(i % 2 ? cctx_stop(&call->cb) : cctx_stop_wait(&call->cb));
        assert_false(cctx_stop_wait(&call->cb));
        call_free(call);
    }
    assert_true(cctx_cancel(ctx));
    assert_null(late.task.fn);
    cctx_unref(ctx);
    const cctx_t *context = cctx_without_cancel(cctx_background());
    call_t *call = call_new(context, &late.executor);
    assert_true(cctx_stop_wait(&call->cb));
    call_free(call);
    cctx_unref(context);
}

/* B0 */
static void submitted_counts_as_started(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    call_t *call = call_new(ctx, &late.executor);
    assert_true(cctx_cancel(ctx));
    assert_false(cctx_stop(&call->cb));
    assert_int_equal(call->runs, 0);
    late_run(&late);
    assert_int_equal(call->runs, 1);
    assert_false(cctx_stop(&call->cb));
    call_free(call); /* late_run ran it in this thread: the storage is ours */
    cctx_unref(ctx);
}

typedef struct stopper {
    call_t *call;
    gate_t about_to_stop;
    int runs_seen;
} stopper_t;

static void *stop_and_wait(void *arg)
{
    stopper_t *stopper = arg;
    gate_open(&stopper->about_to_stop);
    CHECK(!cctx_stop_wait(&stopper->call->cb));
    stopper->runs_seen = stopper->call->runs;
    call_free(stopper->call);
    return NULL;
}

/* B0, C29, C30 */
static void stop_wait_waits_for_what_was_submitted(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(200); i++) {
        cctx_t *ctx = live();
        call_t *call = call_new(ctx, &late.executor);
        assert_true(cctx_cancel(ctx));
        cctx_unref(ctx);
        call->ctx = NULL; /* fn's look is EINVAL */
        stopper_t stopper = {.call = call};
        pthread_t thread = thread_start(stop_and_wait, &stopper);
        gate_wait(&stopper.about_to_stop);
        for (int k = 0; k < i % 8; k++)
            sched_yield();
        late_run(&late);
        thread_join(thread);
        assert_int_equal(stopper.runs_seen, 1);
    }
}

/* ---- what may happen inside ---- */

static void *run_late(void *arg)
{
    late_run(arg);
    return NULL;
}

static void free_itself(void *arg)
{
    cctx_callback_t *cb = arg;
    CHECK(!cctx_stop(cb));
    CHECK(!cctx_stop_wait(cb)); /* returns at once */
    memset(cb, 0xa5, sizeof *cb);
    free(cb);
}

/* The storage is gone before submit returns, or before the thread that submitted goes on, or later. C29, C30 */
static void fn_may_give_its_own_storage_away(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        cctx_executor_t *ex = i % 3 == 0 ? &at_once : i % 3 == 1 ? &never : &late.executor;
        cctx_t *ctx = live();
        cctx_callback_t *cb = malloc(sizeof *cb);
        assert_non_null(cb);
        memset(cb, 0, sizeof *cb);
        assert_int_equal(cctx_after_func_on(ctx, cb, ex, free_itself, cb), 0);
        assert_true(cctx_cancel(ctx));
        if (i % 3 == 2)
            thread_join(thread_start(run_late, &late));
        cctx_unref(ctx);
    }
}

typedef struct mixed {
    cctx_executor_t executor;
    cctx_t *other;
    cctx_callback_t *prevented;
    cctx_callback_t *elsewhere;
    int prevented_by_it, ran_below, calls;
} mixed_t;

static void count(void *arg)
{
    ++*(int *)arg;
}

static int mixed_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    mixed_t *mixed = (mixed_t *)self;
    if (mixed->calls++ == 0) {
        CHECK(cctx_cancel(mixed->other));
        CHECK(mixed->ran_below == 1);
        mixed->prevented_by_it += cctx_stop(mixed->prevented);
        mixed->prevented_by_it += cctx_stop_wait(mixed->elsewhere);
        cctx_unref(mixed->other);
    }
    fn(arg);
    return 0;
}

/* C6, C30 */
static void submit_may_cancel_and_stop_others(void **state)
{
    (void)state;
    cctx_callback_t cb[4];
    int ran = 0;
    cctx_t *ctx = live(), *elsewhere = live();
    mixed_t mixed = {.executor = {mixed_submit}, .other = cctx_with_cancel(cctx_background())};
    mixed.prevented = &cb[2];
    mixed.elsewhere = &cb[3];
    assert_int_equal(cctx_after_func(mixed.other, &cb[0], count, &mixed.ran_below), 0);
    assert_int_equal(cctx_after_func_on(ctx, &cb[1], &mixed.executor, count, &ran), 0);
    assert_int_equal(cctx_after_func_on(elsewhere, &cb[2], &mixed.executor, count, &ran), 0);
    assert_int_equal(cctx_after_func_on(elsewhere, &cb[3], &mixed.executor, count, &ran), 0);
    assert_true(cctx_cancel(ctx));
    assert_int_equal(ran, 1);
    assert_int_equal(mixed.calls, 1);
    assert_int_equal(mixed.prevented_by_it, 2);
    assert_true(cctx_cancel(elsewhere));
    assert_int_equal(ran, 1);
    cctx_unref(ctx);
    cctx_unref(elsewhere);
}

/* ---- lifetime ---- */

static void count_freed(void *value)
{
    ++*(int *)value;
}
static const cctx_key_t counted_key = {"counted", count_freed};

/* C28 */
static void the_registration_keeps_its_context_until_fn_has_run(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        int freed = 0;
        cctx_t *top = live(), *below = NULL;
        const cctx_t *value = cctx_with_value(top, &counted_key, &freed), *ctx = value;
        if (i == 1)
            ctx = below = cctx_with_cancel(value);
        if (i == 2)
            assert_true(cctx_cancel(top));
        call_t *call = call_new(ctx, &late.executor);
        if (below)
            cctx_unref(value);
        cctx_unref(ctx);
        assert_int_equal(freed, 0);
        if (i < 2)
            assert_true(cctx_cancel(top));
        cctx_unref(top);
        assert_int_equal(freed, 0);
        late_run(&late); /* looks at the context */
        assert_int_equal(call->err, ECANCELED);
        assert_int_equal(freed, 1);
        call_free(call);
    }
}

/* ---- the rest ---- */

/* C32 */
static void odd_arguments_are_einval(void **state)
{
    (void)state;
    cctx_callback_t cb = {{0}};
    cctx_executor_t none = {NULL};
    cctx_t *ctx = live();
    int ran = 0;
    errno = E2BIG;
    assert_int_equal(cctx_after_func_on(NULL, &cb, &late.executor, count, &ran), EINVAL);
    assert_int_equal(cctx_after_func_on(ctx, NULL, &late.executor, count, &ran), EINVAL);
    assert_int_equal(cctx_after_func_on(ctx, &cb, NULL, count, &ran), EINVAL);
    assert_int_equal(cctx_after_func_on(ctx, &cb, &none, count, &ran), EINVAL);
    assert_int_equal(cctx_after_func_on(ctx, &cb, &late.executor, NULL, &ran), EINVAL);
    assert_int_equal(errno, E2BIG);
    assert_false(cctx_stop(&cb));
    assert_true(cctx_cancel(ctx));
    assert_int_equal(ran, 0);
    cctx_unref(ctx);
}

static void stop_wait_in_the_child(void *arg)
{
    call_t *call = arg;
    alarm(20);
    CHECK(!cctx_stop(&call->cb));
    CHECK(!cctx_stop_wait(&call->cb)); /* nobody will run it here: were it waited for, it would be for ever */
    CHECK(call->runs == 0);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    memset(&late, 0, sizeof late);
    late.executor.submit = late_submit;
    CHECK(cctx_after_func_on(ctx, &call->cb, &late.executor, call_main, call) == 0);
    call->ctx = ctx;
    CHECK(cctx_cancel(ctx));
    CHECK(!cctx_stop(&call->cb));
    late_run(&late);
    CHECK(call->runs == 1 && !cctx_stop_wait(&call->cb));
    cctx_unref(ctx);
}

/* C23 */
static void in_the_child_of_a_fork_what_was_submitted_is_not_waited_for(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    call_t *call = call_new(ctx, &late.executor);
    assert_true(cctx_cancel(ctx));
    assert_int_equal(run_in_child(stop_wait_in_the_child, call), 0);
    late_run(&late);
    assert_int_equal(call->runs, 1);
    assert_false(cctx_stop_wait(&call->cb));
    call_free(call);
    cctx_unref(ctx);
}

static void cancel_in_the_child(void *arg)
{
    call_t *call = arg;
    alarm(20);
    CHECK(cctx_cancel((cctx_t *)(uintptr_t)call->ctx));
    CHECK(!cctx_stop(&call->cb));
    late_run(&late);
    CHECK(call->runs == 1 && !cctx_stop_wait(&call->cb));
}

/* C23 */
static void what_was_registered_before_a_fork_is_submitted_in_the_child(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    call_t *call = call_new(ctx, &late.executor);
    assert_int_equal(run_in_child(cancel_in_the_child, call), 0);
    assert_null(late.task.fn);
    assert_true(cctx_stop_wait(&call->cb));
    call_free(call);
    cctx_unref(ctx);
}

#define LATE(test) cmocka_unit_test_setup_teardown(test, late_setup, late_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LATE(fn_runs_once_on_the_pool),
        LATE(a_cancel_does_not_wait_for_what_it_submits),
        LATE(where_submit_fails_fn_runs_in_the_thread_that_cancels_before_cancel_returns),
        LATE(on_a_done_context_it_is_submitted_before_the_return_and_runs_here_only_if_that_fails),
        LATE(for_a_deadline_it_is_submitted_on_the_runner_thread),
        LATE(fn_sees_what_the_canceling_thread_did_before),
        LATE(a_stop_before_the_end_wins_and_nothing_is_submitted),
        LATE(submitted_counts_as_started),
        LATE(stop_wait_waits_for_what_was_submitted),
        LATE(fn_may_give_its_own_storage_away),
        LATE(submit_may_cancel_and_stop_others),
        LATE(the_registration_keeps_its_context_until_fn_has_run),
        LATE(odd_arguments_are_einval),
        LATE(in_the_child_of_a_fork_what_was_submitted_is_not_waited_for),
        LATE(what_was_registered_before_a_fork_is_submitted_in_the_child),
    };
    return cmocka_run_group_tests_name("executor_clause", tests, NULL, NULL);
}
