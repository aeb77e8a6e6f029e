/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to libuv, on real loops and the real pool. */
#include "figure.h"

#include <uv.h>

/* The bridge's call: a test can keep it from returning. */
static int send_slowly(uv_async_t *async);
#define uv_async_send send_slowly
#include <cctx/bridge/uv.h>
#include <cctx/bridge/uv_domain.h>
#undef uv_async_send
#include <cctx/signal.h>

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>

/* ---- a loop of a test ---- */

static uv_loop_t loop;
static cctx_uv_t uv;
static int loop_tid;

static int loop_open(void **state)
{
    (void)state;
    watchdog(120);
    loop_tid = gettid();
    memset(&uv, 0xa5, sizeof uv);
    return uv_loop_init(&loop) == 0 && cctx_uv_open(&uv, &loop, cctx_background()) == 0 ? 0 : -1;
}

static unsigned closed_calls;

static void count_closed(cctx_uv_t *closed)
{
    CHECK(closed == &uv && !uv.ctx);
    closed_calls++;
}

/* Each test ends here: the bridge closes, and leaves a loop without a handle. */
static int loop_close(void **state)
{
    (void)state;
    closed_calls = 0;
    cctx_uv_close(&uv, count_closed);
    cctx_uv_close(&uv, count_closed);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(closed_calls == 1);
    CHECK(uv_loop_close(&loop) == 0);
    watchdog(0);
    return 0;
}

typedef struct slow {
    gate_t sent, leave;
    bool left;
} slow_t;

static slow_t *slow;

static int send_slowly(uv_async_t *async)
{
    int err = uv_async_send(async);
    if (slow) {
        gate_open(&slow->sent);
        gate_wait(&slow->leave);
        __atomic_store_n(&slow->left, true, __ATOMIC_RELEASE);
    }
    return err;
}

/* What a watcher of a test was told. Its watcher is its data's. */
typedef struct seen {
    cctx_uv_watcher_t watcher;
    unsigned calls;
    int status, tid;
    cctx_uv_watcher_t *other; /* to take back */
} seen_t;

static void see(cctx_uv_watcher_t *watcher, int status)
{
    seen_t *seen = watcher->data;
    seen->calls++;
    seen->status = status;
    seen->tid = gettid();
    if (seen->other)
        CHECK(cctx_uv_unwatch(seen->other));
}

static void watch(seen_t *seen, const cctx_t *ctx)
{
    seen->watcher.data = seen;
    assert_int_equal(cctx_uv_watch(&uv, &seen->watcher, ctx, see), 0);
}

static void *cancel_it(void *ctx)
{
    cctx_cancel(ctx);
    return NULL;
}

/* ---- watchers ---- */

static void a_cancel_by_another_thread_is_called_on_the_loop(void **state)
{
    (void)state;
    seen_t seen = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    watch(&seen, ctx);
    pthread_t thread = thread_start(cancel_it, ctx);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    thread_join(thread);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.status, UV_ECANCELED);
    assert_int_equal(seen.tid, loop_tid);
    cctx_unref(ctx);
}

static void a_deadline_is_called_on_the_loop_with_etimedout_and_not_early(void **state)
{
    (void)state;
    seen_t seen = {0};
    cctx_time_t deadline = cctx_now() + CCTX_MS(20);
    cctx_t *ctx = cctx_with_deadline(uv.ctx, deadline);
    watch(&seen, ctx);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.status, UV_ETIMEDOUT);
    assert_int_equal(seen.tid, loop_tid);
    assert_true(cctx_now() >= deadline);
    cctx_unref(ctx);
}

static void a_watcher_of_a_done_context_is_called_in_a_turn_of_its_own(void **state)
{
    (void)state;
    seen_t seen = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    cctx_cancel(ctx);
    watch(&seen, ctx);
    assert_int_equal(seen.calls, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.calls, 1);
    cctx_unref(ctx);
}

static void a_cancel_on_the_loop_itself_calls_nothing_inside_of_it(void **state)
{
    (void)state;
    seen_t seen = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    watch(&seen, ctx);
    cctx_cancel(ctx);
    assert_int_equal(seen.calls, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.calls, 1);
    cctx_unref(ctx);
}

static void a_watcher_keeps_the_context_alive_and_the_loop_running(void **state)
{
    (void)state;
    seen_t seen = {0};
    assert_int_equal(uv_loop_alive(&loop), 0);
    cctx_t *ctx = cctx_with_timeout(uv.ctx, CCTX_MS(5));
    watch(&seen, ctx);
    cctx_unref(ctx);
    assert_int_not_equal(uv_loop_alive(&loop), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.status, UV_ETIMEDOUT);
}

static void a_watcher_that_is_taken_back_is_not_called_and_lets_the_loop_go(void **state)
{
    (void)state;
    seen_t seen = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    watch(&seen, ctx);
    assert_true(cctx_uv_unwatch(&seen.watcher));
    assert_false(cctx_uv_unwatch(&seen.watcher));
    cctx_cancel(ctx);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.calls, 0);
    cctx_unref(ctx);
}

static void a_watcher_that_has_fired_can_be_taken_back_until_the_loop_turns(void **state)
{
    (void)state;
    seen_t seen[3] = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    for (int i = 0; i < 3; i++)
        watch(&seen[i], ctx);
    cctx_cancel(ctx);
    assert_true(cctx_uv_unwatch(&seen[1].watcher));
    memset(&seen[1], 0xa5, sizeof seen[1]);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen[0].calls, 1);
    assert_int_equal(seen[2].calls, 1);
    cctx_unref(ctx);
}

static void a_watcher_that_is_called_can_take_back_one_that_fired_beside_it(void **state)
{
    (void)state;
    seen_t seen[2] = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    watch(&seen[0], ctx);
    watch(&seen[1], ctx);
    seen[0].other = &seen[1].watcher;
    seen[1].other = &seen[0].watcher;
    cctx_cancel(ctx);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen[0].calls + seen[1].calls, 1);
    cctx_unref(ctx);
}

static void unwatch_of_nothing_is_false(void **state)
{
    (void)state;
    cctx_uv_watcher_t zeroed = {0};
    assert_false(cctx_uv_unwatch(NULL));
    assert_false(cctx_uv_unwatch(&zeroed));
}

static void arguments_that_are_null_are_einval(void **state)
{
    (void)state;
    cctx_uv_watcher_t watcher;
    cctx_uv_work_t work;
    cctx_uv_t other;
    assert_int_equal(cctx_uv_open(NULL, &loop, cctx_background()), UV_EINVAL);
    assert_int_equal(cctx_uv_open(&other, NULL, cctx_background()), UV_EINVAL);
    assert_int_equal(cctx_uv_open(&other, &loop, NULL), UV_EINVAL);
    assert_int_equal(cctx_uv_watch(NULL, &watcher, uv.ctx, see), UV_EINVAL);
    assert_int_equal(cctx_uv_watch(&uv, NULL, uv.ctx, see), UV_EINVAL);
    assert_int_equal(cctx_uv_watch(&uv, &watcher, NULL, see), UV_EINVAL);
    assert_int_equal(cctx_uv_watch(&uv, &watcher, uv.ctx, NULL), UV_EINVAL);
    assert_int_equal(cctx_uv_queue_work(&uv, &work, uv.ctx, NULL, NULL), UV_EINVAL);
    assert_int_equal(cctx_uv_status(NULL), UV_EINVAL);
    assert_int_equal(cctx_uv_status(uv.ctx), 0);
    cctx_uv_close(NULL, NULL);
}

/* Without a thread for callbacks the registration is refused; what follows shows that nothing is held. */
static void watch_without_a_runner(void *arg)
{
    seen_t seen = {0};
    (void)arg;
    cctx_t *ctx = cctx_with_timeout(uv.ctx, CCTX_S(3600));
    CHECK(ctx);
    CHECK(refuse_call(SYS_clone3, EAGAIN) && refuse_call(SYS_clone, EAGAIN));
    CHECK(cctx_uv_watch(&uv, &seen.watcher, ctx, see) == UV_EAGAIN);
    CHECK(!cctx_uv_unwatch(&seen.watcher));
    CHECK(!uv_loop_alive(&loop));
    cctx_unref(ctx);
    cctx_uv_close(&uv, NULL);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&loop) == 0);
}

static void open_and_watch_without_a_runner(void *arg)
{
    CHECK(loop_open(NULL) == 0);
    watch_without_a_runner(arg);
}

static void a_registration_that_is_refused_leaves_nothing_behind(void **state)
{
    (void)state;
    if (TEST_SANITIZED)
        NOT_APPLICABLE("the sanitizer's own thread is refused, too");
    assert_int_equal(run_in_child(open_and_watch_without_a_runner, NULL), 0);
}

/* ---- many at once ---- */

enum { STORM = 2000, STORM_THREADS = 4 };

static cctx_t *storm[STORM];
static unsigned storm_calls;

static void free_on_call(cctx_uv_watcher_t *watcher, int status)
{
    CHECK(status == UV_ECANCELED && gettid() == loop_tid);
    storm_calls++;
    memset(watcher, 0xa5, sizeof *watcher); /* for who still looks at it, without a sanitizer */
    free(watcher);
}

static void *cancel_a_part(void *part)
{
    for (size_t i = (size_t)part; i < STORM; i += STORM_THREADS)
        cctx_cancel(storm[i]);
    return NULL;
}

static void each_of_many_is_called_once_and_may_be_freed_while_threads_cancel(void **state)
{
    (void)state;
    pthread_t threads[STORM_THREADS];
    storm_calls = 0;
    for (int i = 0; i < STORM; i++) {
        cctx_uv_watcher_t *watcher = malloc(sizeof *watcher);
        storm[i] = cctx_with_cancel(uv.ctx);
        assert_int_equal(cctx_uv_watch(&uv, watcher, storm[i], free_on_call), 0);
    }
    for (size_t i = 0; i < STORM_THREADS; i++)
        threads[i] = thread_start(cancel_a_part, (void *)i);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(storm_calls, STORM);
    for (int i = 0; i < STORM_THREADS; i++)
        thread_join(threads[i]);
    for (int i = 0; i < STORM; i++)
        cctx_unref(storm[i]);
}

static void *let_it_leave(void *arg)
{
    (void)arg;
    await_sleep(loop_tid);
    gate_open(&slow->leave);
    return NULL;
}

static bool left_when_called;

static void note_who_left(cctx_uv_watcher_t *watcher, int status)
{
    (void)watcher, (void)status;
    left_when_called = __atomic_load_n(&slow->left, __ATOMIC_ACQUIRE);
}

/* The send of another thread has done its work and has not returned: it still has watcher and handle. */
static void nothing_is_given_back_while_a_thread_is_inside_of_the_send(void **state)
{
    (void)state;
    for (int taken_back = 0; taken_back < 2; taken_back++) {
        slow_t one = {{0}, {0}, false};
        cctx_uv_watcher_t watcher = {0};
        cctx_t *ctx = cctx_with_cancel(uv.ctx);
        assert_int_equal(cctx_uv_watch(&uv, &watcher, ctx, note_who_left), 0);
        left_when_called = false;
        slow = &one;
        pthread_t cancels = thread_start(cancel_it, ctx);
        gate_wait(&one.sent);
        pthread_t lets = thread_start(let_it_leave, NULL);
        if (taken_back) {
            assert_true(cctx_uv_unwatch(&watcher));
            left_when_called = __atomic_load_n(&one.left, __ATOMIC_ACQUIRE);
        } else {
            uv_run(&loop, UV_RUN_DEFAULT);
        }
        assert_true(left_when_called);
        thread_join(cancels);
        thread_join(lets);
        slow = NULL;
        cctx_unref(ctx);
    }
}

/* The loop takes back and frees what another thread is just ending. */
static void a_watcher_can_be_taken_back_while_a_thread_cancels(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(5000); i++) {
        seen_t *seen = calloc(1, sizeof *seen);
        cctx_t *ctx = cctx_with_cancel(uv.ctx);
        watch(seen, ctx);
        if (i % 100 == 0) { /* a thread each is slow: now and then one that really runs beside */
            pthread_t thread = thread_start(cancel_it, ctx);
            uv_run(&loop, UV_RUN_NOWAIT);
            assert_int_equal(cctx_uv_unwatch(&seen->watcher), !seen->calls);
            thread_join(thread);
        } else {
            cctx_cancel(ctx);
            cctx_uv_unwatch(&seen->watcher);
        }
        memset(seen, 0xa5, sizeof *seen);
        free(seen);
        cctx_unref(ctx);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
}

/* ---- work ---- */

typedef struct job {
    cctx_uv_work_t work;
    gate_t started, leave;
    int result;
    bool ran;
    unsigned overs;
    int status, tid, over_tid;
    unsigned order;
} job_t;

static unsigned overs; /* of all jobs of a test */

static int until_its_context_ends(const cctx_t *ctx, cctx_uv_work_t *work)
{
    job_t *job = work->data;
    job->ran = true;
    job->tid = gettid();
    gate_open(&job->started);
    cctx_wait(ctx);
    return cctx_uv_status(ctx);
}

static int until_it_may_leave(const cctx_t *ctx, cctx_uv_work_t *work)
{
    job_t *job = work->data;
    (void)ctx;
    job->ran = true;
    job->tid = gettid();
    gate_open(&job->started);
    gate_wait(&job->leave);
    return job->result;
}

static void over(cctx_uv_work_t *work, int status)
{
    job_t *job = work->data;
    job->overs++;
    job->status = status;
    job->over_tid = gettid();
    job->order = ++overs;
}

static void queue(job_t *job, const cctx_t *ctx, int (*fn)(const cctx_t *ctx, cctx_uv_work_t *work))
{
    job->work.data = job;
    assert_int_equal(cctx_uv_queue_work(&uv, &job->work, ctx, fn, over), 0);
}

static void work_runs_in_the_pool_and_its_result_comes_to_the_loop(void **state)
{
    (void)state;
    job_t job = {.result = UV_ENOENT, .leave = {1}};
    queue(&job, uv.ctx, until_it_may_leave);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(job.ran);
    assert_int_not_equal(job.tid, loop_tid);
    assert_int_equal(job.over_tid, loop_tid);
    assert_int_equal(job.overs, 1);
    assert_int_equal(job.status, UV_ENOENT);
}

static void work_that_runs_sees_the_end_of_its_context(void **state)
{
    (void)state;
    job_t job = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx);
    queue(&job, ctx, until_its_context_ends);
    gate_wait(&job.started);
    cctx_cancel(ctx);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(job.overs, 1);
    assert_int_equal(job.status, UV_ECANCELED);
    cctx_unref(ctx);
}

static void work_that_runs_ends_with_a_deadline(void **state)
{
    (void)state;
    job_t job = {0};
    cctx_t *ctx = cctx_with_timeout(uv.ctx, CCTX_MS(20));
    queue(&job, ctx, until_its_context_ends);
    cctx_unref(ctx);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(job.status, UV_ETIMEDOUT);
}

enum { POOL = 4 };

static job_t busy[POOL];

static void fill_the_pool(void)
{
    memset(busy, 0, sizeof busy);
    for (int i = 0; i < POOL; i++)
        queue(&busy[i], cctx_background(), until_it_may_leave);
    for (int i = 0; i < POOL; i++)
        gate_wait(&busy[i].started);
}

static void empty_the_pool(void)
{
    for (int i = 0; i < POOL; i++)
        gate_open(&busy[i].leave);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < POOL; i++)
        assert_int_equal(busy[i].overs, 1);
}

static void work_in_the_queue_is_over_while_the_pool_is_still_busy(void **state)
{
    (void)state;
    job_t canceled = {0}, late = {0};
    cctx_t *ctx = cctx_with_cancel(uv.ctx), *timed = cctx_with_timeout(uv.ctx, CCTX_MS(10));
    fill_the_pool();
    queue(&canceled, ctx, until_its_context_ends);
    queue(&late, timed, until_its_context_ends);
    pthread_t thread = thread_start(cancel_it, ctx);
    while (!canceled.overs || !late.overs)
        uv_run(&loop, UV_RUN_ONCE);
    assert_false(canceled.ran);
    assert_int_equal(canceled.status, UV_ECANCELED);
    assert_false(late.ran);
    assert_int_equal(late.status, UV_ETIMEDOUT);
    thread_join(thread);
    empty_the_pool();
    cctx_unref(ctx);
    cctx_unref(timed);
}

static void work_does_not_start_on_a_context_that_is_done(void **state)
{
    (void)state;
    job_t job = {0}, next = {.leave = {1}};
    cctx_t *ctx = cctx_with_timeout(uv.ctx, 0);
    queue(&job, ctx, until_its_context_ends);
    queue(&next, uv.ctx, until_it_may_leave);
    gate_wait(&next.started); /* so the pool has the first one, too, and uv_cancel comes too late */
    assert_int_equal(job.overs, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_false(job.ran);
    assert_int_equal(job.overs, 1);
    assert_int_equal(job.status, UV_ETIMEDOUT);
    cctx_unref(ctx);
}

static void a_uv_cancel_of_the_programs_own_is_told(void **state)
{
    (void)state;
    job_t job = {0};
    fill_the_pool();
    queue(&job, uv.ctx, until_its_context_ends);
    assert_int_equal(uv_cancel((uv_req_t *)&job.work.req), 0);
    empty_the_pool();
    assert_false(job.ran);
    assert_int_equal(job.overs, 1);
    assert_int_equal(job.status, UV_ECANCELED);
}

static void free_after(cctx_uv_work_t *work, int status)
{
    CHECK(status == UV_ECANCELED || status == 0);
    overs++;
    memset(work, 0xa5, sizeof *work);
    free(work);
}

static int nothing(const cctx_t *ctx, cctx_uv_work_t *work)
{
    (void)ctx, (void)work;
    return 0;
}

static void work_may_be_freed_when_it_is_over_whatever_ended_it(void **state)
{
    (void)state;
    int n = SCALED(2000);
    overs = 0;
    for (int i = 0; i < n; i++) {
        cctx_t *ctx = cctx_with_cancel(uv.ctx);
        cctx_uv_work_t *work = malloc(sizeof *work);
        assert_int_equal(cctx_uv_queue_work(&uv, work, ctx, nothing, free_after), 0);
        if (i % 3 != 0)
            cctx_cancel(ctx);
        if (i % 7 == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
        cctx_unref(ctx);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(overs, n);
}

/* ---- the end of a loop ---- */

static job_t last_jobs[2];
static seen_t last_seen;

static void all_is_over(cctx_uv_t *closed)
{
    CHECK(closed == &uv);
    CHECK(last_seen.calls == 1 && last_jobs[0].overs == 1 && last_jobs[1].overs == 1);
    closed_calls++;
}

static void close_ends_what_waits_and_works_and_is_told_last(void **state)
{
    (void)state;
    memset(last_jobs, 0, sizeof last_jobs);
    memset(&last_seen, 0, sizeof last_seen);
    closed_calls = 0;
    cctx_t *ctx = cctx_with_timeout(uv.ctx, CCTX_S(3600));
    watch(&last_seen, ctx);
    queue(&last_jobs[0], ctx, until_its_context_ends);
    queue(&last_jobs[1], uv.ctx, until_it_may_leave); /* it does not look */
    gate_wait(&last_jobs[0].started);
    gate_wait(&last_jobs[1].started);
    cctx_uv_close(&uv, all_is_over);
    assert_string_equal(cctx_cause(ctx)->text, "the loop is closed");
    assert_int_equal(closed_calls, 0);
    while (!last_seen.calls || !last_jobs[0].overs)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(closed_calls, 0);
    gate_open(&last_jobs[1].leave);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(closed_calls, 1);
    cctx_unref(ctx);
    assert_int_equal(cctx_uv_open(&uv, &loop, cctx_background()), 0); /* the storage is free for another */
}

static void a_closed_bridge_takes_nothing_more(void **state)
{
    (void)state;
    cctx_uv_watcher_t watcher = {0};
    job_t job = {0};
    seen_t holds = {0};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    watch(&holds, ctx); /* of no context of the loop's: it delays the end */
    cctx_uv_close(&uv, NULL);
    assert_int_equal(uv_run(&loop, UV_RUN_NOWAIT) != 0, 1);
    assert_int_equal(cctx_uv_watch(&uv, &watcher, cctx_background(), see), UV_ECANCELED);
    assert_int_equal(cctx_uv_queue_work(&uv, &job.work, cctx_background(), nothing, over), UV_ECANCELED);
    assert_true(cctx_uv_unwatch(&holds.watcher));
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    cctx_unref(ctx);
    assert_int_equal(cctx_uv_open(&uv, &loop, cctx_background()), 0);
}

static void the_loops_context_ends_with_its_parent(void **state)
{
    (void)state;
    cctx_uv_t below;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_uv_open(&below, &loop, parent), 0);
    cctx_cancel(parent);
    assert_int_equal(cctx_uv_status(below.ctx), UV_ECANCELED);
    cctx_uv_close(&below, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    cctx_unref(parent);
}

/* ---- a domain ---- */

typedef struct ended {
    int64_t at;
    int tid;
} ended_t;

static void note_the_end(void *arg)
{
    ended_t *ended = arg;
    ended->at = cctx_now();
    ended->tid = gettid();
}

static void *derive_an_earlier_one(void *background)
{
    cctx_t **ctx = background;
    ctx[1] = cctx_with_timeout(ctx[0], CCTX_MS(20));
    return NULL;
}

static cctx_t *handler_ctx;

static void cancel_in_a_handler(int number)
{
    (void)number;
    cctx_cancel_async(handler_ctx);
}

static void drive_a_domain(void *arg)
{
    cctx_uv_domain_t domain;
    cctx_callback_t callback = {{0}};
    ended_t ended = {0, 0};
    (void)arg;
    watchdog(60);
    loop_tid = gettid();
    unsigned threads = threads_now();
    CHECK(uv_loop_init(&loop) == 0);
    CHECK(cctx_uv_domain_open(&domain, &loop) == 0);
    CHECK(cctx_uv_open(&uv, &loop, cctx_domain_background(domain.domain)) == 0);
    CHECK(!uv_loop_alive(&loop));

    /* A deadline: on the loop, and never early; of several, each at its time. */
    seen_t seen[3] = {0};
    cctx_time_t deadlines[3];
    cctx_t *ctx[3];
    for (int i = 0; i < 3; i++) {
        deadlines[i] = cctx_now() + CCTX_MS(30 - 10 * i) + 1;
        ctx[i] = cctx_with_deadline(uv.ctx, deadlines[i]);
        seen[i].watcher.data = &seen[i];
        CHECK(cctx_uv_watch(&uv, &seen[i].watcher, ctx[i], see) == 0);
    }
    CHECK(cctx_after_func(ctx[1], &callback, note_the_end, &ended) == 0);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(ended.tid == loop_tid && ended.at >= deadlines[1]);
    for (int i = 0; i < 3; i++) {
        CHECK(seen[i].calls == 1 && seen[i].status == UV_ETIMEDOUT);
        cctx_unref(ctx[i]);
    }

    /* A loop that sleeps for an hour is woken by an earlier deadline that another thread arms. */
    cctx_t *pair[2] = {cctx_with_timeout(uv.ctx, CCTX_S(3600)), NULL};
    seen_t hour = {0}, soon = {0};
    hour.watcher.data = &hour;
    CHECK(cctx_uv_watch(&uv, &hour.watcher, pair[0], see) == 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(uv_backend_timeout(&loop) > 1000000);
    thread_join(thread_start(derive_an_earlier_one, pair));
    soon.watcher.data = &soon;
    soon.other = &hour.watcher;
    CHECK(cctx_uv_watch(&uv, &soon.watcher, pair[1], see) == 0);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(soon.calls == 1 && hour.calls == 0);
    cctx_unref(pair[0]);
    cctx_unref(pair[1]);

    /* So is it by a cancel from a signal handler, whose descendants and callbacks are the loop's work. */
    handler_ctx = cctx_with_cancel(uv.ctx);
    cctx_t *child = cctx_with_cancel(handler_ctx);
    seen_t signaled = {0};
    signaled.watcher.data = &signaled;
    CHECK(cctx_uv_watch(&uv, &signaled.watcher, child, see) == 0);
    signal(SIGUSR1, cancel_in_a_handler);
    raise(SIGUSR1);
    CHECK(signaled.calls == 0);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(signaled.calls == 1 && signaled.status == UV_ECANCELED);
    cctx_unref(child);

    CHECK(TEST_TSAN || threads_now() == threads); /* ThreadSanitizer has a thread of its own */
    cctx_uv_close(&uv, NULL);
    CHECK(cctx_uv_domain_close(&domain) == UV_EBUSY);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(cctx_uv_domain_close(&domain) == UV_EBUSY); /* handler_ctx lives */
    cctx_unref(handler_ctx);
    CHECK(cctx_uv_domain_close(&domain) == 0);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(uv_loop_close(&loop) == 0);
    CHECK(cctx_uv_domain_close(NULL) == UV_EINVAL);
    CHECK(cctx_uv_domain_open(NULL, &loop) == UV_EINVAL);
}

/* In a child, where no test before has made the library's threads. */
static void a_loop_drives_a_domain_without_any_thread(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(drive_a_domain, NULL), 0);
}

/* ---- the program ---- */

typedef struct server {
    pid_t pid;
    FILE *out;
    int port;
} server_t;

static void server_start(server_t *server, const char *limit, const char *milliseconds)
{
    int ends[2];
    watchdog(60);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    fflush(NULL);
    server->pid = fork();
    CHECK(server->pid >= 0);
    if (server->pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("./uv_server", "uv_server", limit, milliseconds, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    server->out = fdopen(ends[0], "r");
    CHECK(server->out && fscanf(server->out, "port %d", &server->port) == 1 && fgetc(server->out) == '\n');
}

static int server_connect(const server_t *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void server_expect(FILE *from, const char *line)
{
    char text[128] = "";
    CHECK(fgets(text, sizeof text, from));
    assert_string_equal(text, line);
}

static void client_expect(int fd, const char *line)
{
    FILE *client = fdopen(fd, "r");
    CHECK(client);
    server_expect(client, line);
    fclose(client);
}

/* It has been told to stop. */
static void server_end(server_t *server)
{
    int status = -1;
    CHECK(waitpid(server->pid, &status, 0) == server->pid);
    fclose(server->out);
    assert_int_equal(status, 0);
    watchdog(0);
}

static void server_stop(server_t *server)
{
    kill(server->pid, SIGTERM);
    server_end(server);
}

static void the_server_answers_and_gives_up_at_its_limit_of_time(void **state)
{
    (void)state;
    server_t server;
    server_start(&server, "1000", "60000");
    client_expect(server_connect(&server), "168 primes\n");
    server_stop(&server);
    server_start(&server, "4000000000", "30");
    client_expect(server_connect(&server), "ended: context deadline exceeded\n");
    server_stop(&server);
}

static void the_servers_work_ends_when_the_client_hangs_up_and_when_it_stops(void **state)
{
    (void)state;
    server_t server;
    server_start(&server, "4000000000", "3600000");
    int fds[6]; /* more than the pool has threads */
    for (int i = 0; i < 6; i++)
        fds[i] = server_connect(&server);
    close(fds[0]);
    close(fds[5]);
    server_expect(server.out, "ended: the client hung up\n");
    server_expect(server.out, "ended: the client hung up\n");
    kill(server.pid, SIGTERM);
    for (int i = 1; i < 5; i++)
        client_expect(fds[i], "ended: the loop is closed\n");
    server_end(&server);
}

/* ---- the figure ---- */

enum { ROUNDS = 2000 };

typedef struct race {
    sem_t armed;
    cctx_t *ctx;
    cctx_uv_watcher_t watcher;
    int64_t canceled, ns[ROUNDS];
    size_t round, rounds;
} race_t;

static void next_round(race_t *race);

static void take_the_time(cctx_uv_watcher_t *watcher, int status)
{
    race_t *race = watcher->data;
    (void)status;
    race->ns[race->round++] = now_ns() - race->canceled;
    cctx_unref(race->ctx);
    if (race->round < race->rounds)
        next_round(race);
}

static void next_round(race_t *race)
{
    race->ctx = cctx_with_cancel(uv.ctx);
    CHECK(race->ctx && cctx_uv_watch(&uv, &race->watcher, race->ctx, take_the_time) == 0);
    sem_post(&race->armed);
}

static void *cancel_each_round(void *arg)
{
    race_t *race = arg;
    for (size_t i = 0; i < race->rounds; i++) {
        CHECK(sem_wait(&race->armed) == 0);
        cctx_t *ctx = race->ctx;
        await_sleep(loop_tid);
        cctx_ref(ctx);
        race->canceled = now_ns();
        cctx_cancel(ctx);
        cctx_unref(ctx);
    }
    return NULL;
}

static void a_sleeping_loop_hears_of_a_cancel(void **state)
{
    (void)state;
    static race_t race;
    race.rounds = SCALED(ROUNDS);
    race.watcher.data = &race;
    sem_init(&race.armed, 0, 0);
    next_round(&race);
    pthread_t thread = thread_start(cancel_each_round, &race);
    uv_run(&loop, UV_RUN_DEFAULT);
    thread_join(thread);
    assert_int_equal(race.round, race.rounds);
    figure_report("cancel to a sleeping loop's callback", race.ns, race.round);
    sem_destroy(&race.armed);
}

#define ON_A_LOOP(test) cmocka_unit_test_setup_teardown(test, loop_open, loop_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_drives_a_domain_without_any_thread),
        cmocka_unit_test(a_registration_that_is_refused_leaves_nothing_behind),
        ON_A_LOOP(a_cancel_by_another_thread_is_called_on_the_loop),
        ON_A_LOOP(a_deadline_is_called_on_the_loop_with_etimedout_and_not_early),
        ON_A_LOOP(a_watcher_of_a_done_context_is_called_in_a_turn_of_its_own),
        ON_A_LOOP(a_cancel_on_the_loop_itself_calls_nothing_inside_of_it),
        ON_A_LOOP(a_watcher_keeps_the_context_alive_and_the_loop_running),
        ON_A_LOOP(a_watcher_that_is_taken_back_is_not_called_and_lets_the_loop_go),
        ON_A_LOOP(a_watcher_that_has_fired_can_be_taken_back_until_the_loop_turns),
        ON_A_LOOP(a_watcher_that_is_called_can_take_back_one_that_fired_beside_it),
        ON_A_LOOP(unwatch_of_nothing_is_false),
        ON_A_LOOP(arguments_that_are_null_are_einval),
        ON_A_LOOP(each_of_many_is_called_once_and_may_be_freed_while_threads_cancel),
        ON_A_LOOP(nothing_is_given_back_while_a_thread_is_inside_of_the_send),
        ON_A_LOOP(a_watcher_can_be_taken_back_while_a_thread_cancels),
        ON_A_LOOP(work_runs_in_the_pool_and_its_result_comes_to_the_loop),
        ON_A_LOOP(work_that_runs_sees_the_end_of_its_context),
        ON_A_LOOP(work_that_runs_ends_with_a_deadline),
        ON_A_LOOP(work_in_the_queue_is_over_while_the_pool_is_still_busy),
        ON_A_LOOP(work_does_not_start_on_a_context_that_is_done),
        ON_A_LOOP(a_uv_cancel_of_the_programs_own_is_told),
        ON_A_LOOP(work_may_be_freed_when_it_is_over_whatever_ended_it),
        ON_A_LOOP(close_ends_what_waits_and_works_and_is_told_last),
        ON_A_LOOP(a_closed_bridge_takes_nothing_more),
        ON_A_LOOP(the_loops_context_ends_with_its_parent),
        cmocka_unit_test(the_server_answers_and_gives_up_at_its_limit_of_time),
        cmocka_unit_test(the_servers_work_ends_when_the_client_hangs_up_and_when_it_stops),
        ON_A_LOOP(a_sleeping_loop_hears_of_a_cancel),
    };
    setenv("UV_THREADPOOL_SIZE", "4", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
