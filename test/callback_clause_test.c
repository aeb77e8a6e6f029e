/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks as a caller sees them: that fn runs once or was stopped, where and when it runs, what it may do,
 * and when the storage is the caller's again. Storage that is given back is poisoned and freed at once.
 */
#include "support.h"

#include <sched.h>

#define HOUR CCTX_S(3600)

static void raw_wait(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    CHECK(word != NULL);
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1u) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

/*
 * A callback in memory of its own: what it did, and the gates by which a test holds it. It is never held in
 * the thread that registers it, where it runs if a deadline has passed already.
 */
typedef struct call {
    cctx_callback_t cb;
    const cctx_t *ctx;
    pid_t registrar;
    bool ran_here; /* in after_func */
    int runs;      /* plain: whoever reads it must have been told of the end */
    pid_t ran_on;
    int err; /* of ctx, as fn saw it */
    gate_t started, release;
    bool holds;
} call_t;

static pid_t self(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void call_main(void *arg)
{
    call_t *call = arg;
    call->err = cctx_err(call->ctx);
    call->ran_on = self();
    if (call->ran_on == call->registrar)
        call->ran_here = true;
    gate_open(&call->started);
    if (call->holds && call->ran_on != call->registrar)
        gate_wait(&call->release);
    call->runs++;
}

static call_t *call_new(const cctx_t *ctx, bool holds)
{
    call_t *call = malloc(sizeof *call);
    CHECK(call != NULL);
    memset(call, 0, sizeof *call);
    memset(&call->cb, 0x5a, sizeof call->cb); /* registering needs no prior value */
    call->ctx = ctx;
    call->registrar = self();
    call->holds = holds;
    CHECK(cctx_after_func(ctx, &call->cb, call_main, call) == 0);
    return call;
}

static void call_free(call_t *call)
{
    memset(call, 0xa5, sizeof *call);
    free(call);
}

/* Registered before the deadline; where the machine is too slow for one, a longer one is tried. */
static call_t *call_with_timeout(cctx_t **ctx, int64_t timeout, bool holds)
{
    for (;; timeout *= 2) {
        *ctx = cctx_with_timeout(cctx_background(), timeout);
        call_t *call = call_new(*ctx, holds);
        if (!call->ran_here)
            return call;
        call_free(call);
        cctx_unref(*ctx);
    }
}

static void *cancel_it(void *arg)
{
    CHECK(cctx_cancel(arg));
    return NULL;
}

/* A context that counts in *freed when its memory goes: by a value of its own. */
static void count_freed(void *value)
{
    __atomic_add_fetch((int *)value, 1, __ATOMIC_SEQ_CST);
}

static const cctx_key_t counted_key = {"counted", count_freed};

/* ---- when and where ---- */

/* C28 */
static void fn_runs_once_in_the_thread_that_cancels_before_cancel_returns(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *child = cctx_with_timeout(parent, HOUR);
    call_t *own = call_new(parent, false), *inherited = call_new(child, false);
    assert_int_equal(own->runs + inherited->runs, 0);
    assert_true(cctx_cancel(parent));
    assert_int_equal(own->runs, 1);
    assert_int_equal(inherited->runs, 1);
    assert_int_equal(own->ran_on, self());
    assert_int_equal(inherited->ran_on, self());
    assert_int_equal(own->err, ECANCELED);
    assert_int_equal(inherited->err, ECANCELED);
    assert_false(cctx_cancel(parent));
    assert_false(cctx_cancel(child));
    assert_int_equal(own->runs, 1);
    assert_int_equal(inherited->runs, 1);
    call_free(own);
    call_free(inherited);
    cctx_unref(child);
    cctx_unref(parent);
}

/* C28 */
static void on_a_done_context_fn_runs_in_the_caller_before_after_func_returns(void **state)
{
    (void)state;
    cctx_t *canceled = cctx_with_cancel(cctx_background()), *late = cctx_with_timeout(cctx_background(), 0);
    assert_true(cctx_cancel(canceled));
    const cctx_t *value = cctx_with_value(canceled, &(cctx_key_t){"key", NULL}, NULL);
    const cctx_t *contexts[] = {canceled, late, value};
    for (size_t i = 0; i < 3; i++) {
        call_t *call = call_new(contexts[i], false);
        assert_int_equal(call->runs, 1);
        assert_int_equal(call->ran_on, self());
        assert_int_equal(call->err, i == 1 ? ETIMEDOUT : ECANCELED);
        assert_false(cctx_stop(&call->cb));
        assert_false(cctx_stop_wait(&call->cb));
        call_free(call);
    }
    cctx_unref(value);
    cctx_unref(canceled);
    cctx_unref(late);
}

typedef struct family {
    const cctx_t *members[300];
    unsigned live;
} family_t;

static void count_live(void *arg)
{
    family_t *family = arg;
    for (size_t i = 0; i < 300; i++)
        family->live += cctx_err(family->members[i]) != ECANCELED;
}

/* C28, C3 */
static void fn_runs_after_every_descendant_is_done(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 30);
    for (int round = 0; round < 20; round++) {
        family_t family = {.live = 0};
        cctx_callback_t cb;
        cctx_t *top = cctx_with_cancel(cctx_background()), *root = cctx_with_cancel(top);
        assert_int_equal(cctx_after_func(root, &cb, count_live, &family), 0);
        for (size_t i = 0; i < 300; i++) {
            const cctx_t *above = i ? family.members[rng_below(&rng, i)] : root;
            family.members[i] = i % 2 ? cctx_with_cancel(above) : cctx_with_timeout(above, HOUR);
        }
        assert_true(cctx_cancel(round % 2 ? top : root));
        assert_int_equal(family.live, 0);
        for (size_t i = 0; i < 300; i++)
            cctx_unref(family.members[i]);
        cctx_unref(root);
        cctx_unref(top);
    }
}

typedef struct waiting {
    const cctx_t *ctx;
    gate_t returned;
    pthread_t thread;
    bool raw;
} waiting_t;

static void *waiting_main(void *arg)
{
    waiting_t *waiting = arg;
    if (waiting->raw)
        raw_wait(waiting->ctx);
    else
        CHECK(cctx_wait(waiting->ctx) != 0);
    gate_open(&waiting->returned);
    return NULL;
}

enum { WAITERS = 8 };

/* The last element is fn's own: its gate says that fn has started. */
static void wait_for_the_waiters(void *arg)
{
    waiting_t *waiting = arg;
    gate_open(&waiting[WAITERS].returned);
    for (size_t i = 0; i < WAITERS; i++)
        gate_wait(&waiting[i].returned);
}

/* Were fn to run first, it would wait for waiters that nobody has woken, for ever. C28 */
static void fn_runs_after_every_waiter_is_woken(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        waiting_t waiting[WAITERS + 1];
        cctx_callback_t cb;
        bool by_deadline = round % 2;
        cctx_t *root = cctx_with_timeout(cctx_background(), by_deadline ? CCTX_MS(2) : HOUR);
        cctx_t *child = cctx_with_cancel(root);
        memset(waiting, 0, sizeof waiting);
        for (size_t i = 0; i < WAITERS; i++) {
            waiting[i].ctx = i % 2 ? child : root;
            waiting[i].raw = i % 4 < 2;
            waiting[i].thread = thread_start(waiting_main, &waiting[i]);
        }
        assert_int_equal(cctx_after_func(root, &cb, wait_for_the_waiters, waiting), 0);
        if (by_deadline)
            raw_wait(child);
        else
            assert_true(cctx_cancel(root));
        for (size_t i = 0; i < WAITERS; i++)
            thread_join(waiting[i].thread);
        gate_wait(&waiting[WAITERS].returned);
        assert_false(cctx_stop_wait(&cb));
        cctx_unref(child);
        cctx_unref(root);
    }
}

/* C28, C30, C13 */
static void a_deadlines_callbacks_run_on_a_library_thread_that_fires_no_deadlines(void **state)
{
    (void)state;
    cctx_t *ctx, *second;
    call_t *blocked = call_with_timeout(&ctx, CCTX_MS(1), true);
    gate_wait(&blocked->started);
    call_t *behind = call_with_timeout(&second, CCTX_MS(1), false);
    assert_int_not_equal(blocked->ran_on, self());
    assert_int_equal(blocked->err, ETIMEDOUT);
    for (int i = 0; i < 300; i++) {
        cctx_t *other = cctx_with_timeout(cctx_background(), CCTX_US(50));
        raw_wait(other);
        assert_int_equal(cctx_err(other), ETIMEDOUT);
        cctx_unref(other);
    }
    raw_wait(second);
    gate_open(&blocked->release);
    assert_false(cctx_stop_wait(&blocked->cb));
    gate_wait(&behind->started);
    assert_false(cctx_stop_wait(&behind->cb));
    assert_int_equal(blocked->runs, 1);
    assert_int_equal(behind->runs, 1);
    call_free(blocked);
    call_free(behind);
    cctx_unref(ctx);
    cctx_unref(second);
}

typedef struct deadline_waiter {
    const cctx_t *ctx;
    pid_t tid;
} deadline_waiter_t;

static void wait_out_deadline(unsigned index, void *arg)
{
    deadline_waiter_t *waiters = arg;
    waiters[index].tid = self();
    CHECK(cctx_wait(waiters[index].ctx) == ETIMEDOUT);
}

/* The waiters reach the deadline by their own clock, often before the library's thread does. C27, C28 */
static void a_waiter_never_runs_a_callback(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        deadline_waiter_t waiters[4];
        cctx_t *ctx;
        call_t *call = call_with_timeout(&ctx, CCTX_MS(1), false);
        for (size_t i = 0; i < 4; i++)
            waiters[i].ctx = ctx;
        threads_run(4, wait_out_deadline, waiters);
        assert_int_equal(cctx_wait(ctx), ETIMEDOUT);
        gate_wait(&call->started);
        assert_false(cctx_stop_wait(&call->cb));
        assert_int_equal(call->runs, 1);
        assert_int_not_equal(call->ran_on, self());
        for (size_t i = 0; i < 4; i++)
            assert_int_not_equal(call->ran_on, waiters[i].tid);
        call_free(call);
        cctx_unref(ctx);
    }
}

static void count(void *arg)
{
    __atomic_add_fetch((unsigned char *)arg, 1, __ATOMIC_SEQ_CST);
}

/* C28, C29 */
static void of_ten_thousand_callbacks_of_a_context_each_runs_once_or_was_stopped(void **state)
{
    (void)state;
    enum { N = 10000 };
    cctx_callback_t *callbacks = malloc(N * sizeof *callbacks);
    unsigned char *ran = calloc(N, 1), *stopped = calloc(N, 1);
    assert_true(callbacks && ran && stopped);
    rng_t rng = rng_make(test_seed(), 31);
    for (int round = 0; round < 2; round++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        memset(ran, 0, N);
        memset(stopped, 0, N);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(cctx_after_func(ctx, &callbacks[i], count, &ran[i]), 0);
        for (size_t i = 0; i < N; i++) {
            if (round && rng_below(&rng, 2)) {
                stopped[i] = i % 2 ? cctx_stop(&callbacks[i]) : cctx_stop_wait(&callbacks[i]);
                assert_int_equal(stopped[i], 1);
                memset(&callbacks[i], 0xa5, sizeof callbacks[i]);
            }
        }
        assert_true(cctx_cancel(ctx));
        for (size_t i = 0; i < N; i++)
            assert_int_equal(ran[i] + stopped[i], 1);
        cctx_unref(ctx);
    }
    free(callbacks);
    free(ran);
    free(stopped);
}

typedef struct published {
    int plain;
    int seen;
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
    for (int i = 0; i < 200; i++) {
        published_t published = {0, 0, cctx_with_cancel(cctx_background())};
        cctx_t *child = cctx_with_cancel(published.ctx);
        cctx_callback_t cb;
        pthread_t thread = thread_start(publish_and_cancel, &published);
        /* Registered before, while or after the context is canceled: here or there, fn sees the same. */
        assert_int_equal(cctx_after_func(child, &cb, read_published, &published), 0);
        if (cctx_stop_wait(&cb))
            published.seen = 42;
        assert_int_equal(published.seen, 42);
        thread_join(thread);
        cctx_unref(child);
        cctx_unref(published.ctx);
    }
}

/* ---- stop ---- */

/* C28, C29 */
static void a_stop_before_the_start_wins_and_gives_the_storage_back_at_once(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    for (int i = 0; i < 1000; i++) {
        call_t *call = call_new(ctx, false);
        assert_true(i % 2 ? cctx_stop(&call->cb) : cctx_stop_wait(&call->cb));
        assert_false(cctx_stop(&call->cb));
        assert_false(cctx_stop_wait(&call->cb));
        assert_int_equal(call->runs, 0);
        call_free(call);
    }
    assert_true(cctx_cancel(ctx));
    cctx_unref(ctx);
}

/* C29 */
static void stopping_zeroed_storage_is_false(void **state)
{
    (void)state;
    static cctx_callback_t zeroed;
    cctx_callback_t local = {0};
    assert_false(cctx_stop(&zeroed));
    assert_false(cctx_stop_wait(&zeroed));
    assert_false(cctx_stop(&local));
    assert_false(cctx_stop_wait(&local));
}

/* C28, C29 */
static void a_callback_of_a_context_that_is_never_done_can_only_be_stopped(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *never[] = {cctx_background(), cctx_todo(), cctx_without_cancel(ctx)};
    for (size_t i = 0; i < 3; i++) {
        call_t *call = call_new(never[i], false);
        if (i == 2)
            assert_true(cctx_cancel(ctx));
        assert_int_equal(call->runs, 0);
        assert_true(i ? cctx_stop(&call->cb) : cctx_stop_wait(&call->cb));
        assert_false(cctx_stop(&call->cb));
        call_free(call);
    }
    cctx_unref(never[2]);
    cctx_unref(ctx);
}

/* C29 */
static void stop_does_not_wait_for_a_running_fn(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        call_t *call = call_new(ctx, true);
        pthread_t thread = thread_start(cancel_it, ctx);
        gate_wait(&call->started);
        assert_false(cctx_stop(&call->cb)); /* were it to wait, it would wait for the gate below */
        assert_false(cctx_stop(&call->cb));
        gate_open(&call->release);
        assert_false(cctx_stop_wait(&call->cb));
        assert_int_equal(call->runs, 1);
        call_free(call);
        thread_join(thread);
        cctx_unref(ctx);
    }
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
    return NULL;
}

/* C29 */
static void stop_wait_returns_after_the_end_of_a_running_fn(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        cctx_t *ctx;
        call_t *call = call_with_timeout(&ctx, i % 2 ? HOUR : CCTX_US(50), true);
        stopper_t stoppers[3] = {{.call = call}, {.call = call}, {.call = call}};
        pthread_t threads[3], canceler = 0;
        if (i % 2)
            canceler = thread_start(cancel_it, ctx);
        gate_wait(&call->started);
        for (size_t j = 0; j < 3; j++)
            threads[j] = thread_start(stop_and_wait, &stoppers[j]);
        for (size_t j = 0; j < 3; j++)
            gate_wait(&stoppers[j].about_to_stop);
        sched_yield();
        gate_open(&call->release);
        for (size_t j = 0; j < 3; j++) {
            thread_join(threads[j]);
            assert_int_equal(stoppers[j].runs_seen, 1);
        }
        call_free(call);
        if (i % 2)
            thread_join(canceler);
        cctx_unref(ctx);
    }
}

typedef struct rival {
    cctx_callback_t cb;
    struct rival *all;
    int n, ran, stopped;
    bool waits;
} rival_t;

static void stop_the_others(void *arg)
{
    rival_t *rival = arg;
    rival->ran++;
    for (int i = 0; i < rival->n; i++) {
        rival_t *other = &rival->all[i];
        if (other != rival && (rival->waits ? cctx_stop_wait(&other->cb) : cctx_stop(&other->cb)))
            other->stopped++;
    }
}

/* C29, C30 */
static void a_callback_stops_others_that_have_not_started(void **state)
{
    (void)state;
    for (int n = 2; n <= 100; n += 7) {
        rival_t rivals[100];
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        int ran = 0, stopped = 0;
        for (int i = 0; i < n; i++) {
            rivals[i] = (rival_t){.all = rivals, .n = n, .waits = n % 2};
            assert_int_equal(cctx_after_func(ctx, &rivals[i].cb, stop_the_others, &rivals[i]), 0);
        }
        assert_true(cctx_cancel(ctx));
        for (int i = 0; i < n; i++) {
            assert_int_equal(rivals[i].ran + rivals[i].stopped, 1);
            ran += rivals[i].ran;
            stopped += rivals[i].stopped;
        }
        assert_int_equal(ran, 1);
        assert_int_equal(stopped, n - 1);
        cctx_unref(ctx);
    }
}

/* C29, C30 */
static void stop_wait_does_not_wait_for_a_callback_that_runs_before_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        bool by_deadline = i % 2;
        cctx_t *ctx, *second;
        pthread_t canceler = 0;
        call_t *held = call_with_timeout(&ctx, by_deadline ? CCTX_US(100) : HOUR, true);
        call_t *behind = call_new(ctx, false), *other;
        if (by_deadline) {
            other = call_with_timeout(&second, CCTX_US(100), false);
        } else {
            second = cctx_with_cancel(ctx);
            other = call_new(second, false);
            canceler = thread_start(cancel_it, ctx);
        }
        gate_wait(&held->started);
        raw_wait(second);
        /* The held one holds its thread. What is behind it is stopped, unless it was run before it. */
        bool stopped = cctx_stop_wait(&other->cb);
        assert_int_equal(other->runs, !stopped);
        stopped = cctx_stop_wait(&behind->cb);
        assert_int_equal(behind->runs, !stopped);
        gate_open(&held->release);
        assert_false(cctx_stop_wait(&held->cb));
        assert_int_equal(held->runs, 1);
        call_free(held);
        call_free(behind);
        call_free(other);
        if (!by_deadline)
            thread_join(canceler);
        cctx_unref(second);
        cctx_unref(ctx);
    }
}

/* ---- from inside fn ---- */

typedef struct inside {
    cctx_callback_t cb;
    cctx_t *ctx, *other;
    bool stop, stop_wait, canceled_own, canceled_other;
    int child_err, other_runs, nested_runs;
    cctx_callback_t nested, on_other;
    int freed;
    gate_t ended;
} inside_t;

static void stop_itself(void *arg)
{
    inside_t *inside = arg;
    inside->stop = cctx_stop(&inside->cb);
    inside->stop_wait = cctx_stop_wait(&inside->cb);
    gate_open(&inside->ended);
}

/* C29, C30 */
static void a_callback_that_stops_itself_gets_false_at_once(void **state)
{
    (void)state;
    for (int by_deadline = 0; by_deadline < 2; by_deadline++) {
        inside_t inside = {.stop = true, .stop_wait = true};
        cctx_t *ctx = cctx_with_timeout(cctx_background(), by_deadline ? CCTX_MS(1) : HOUR);
        assert_int_equal(cctx_after_func(ctx, &inside.cb, stop_itself, &inside), 0);
        if (!by_deadline)
            assert_true(cctx_cancel(ctx));
        /* It has stopped itself: nobody can wait for its end by its storage any more. */
        gate_wait(&inside.ended);
        assert_false(inside.stop);
        assert_false(inside.stop_wait);
        cctx_unref(ctx);
    }
}

typedef struct gift {
    cctx_callback_t cb;
    uint32_t *freed; /* outlives the gift */
} gift_t;

static void free_itself(void *arg)
{
    gift_t *gift = arg;
    uint32_t *freed = gift->freed;
    CHECK(!cctx_stop_wait(&gift->cb));
    memset(gift, 0xa5, sizeof *gift);
    free(gift);
    __atomic_add_fetch(freed, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, freed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* C29, C30 */
static void a_callback_frees_its_own_storage_after_stop_wait_on_itself(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        uint32_t freed = 0, seen;
        cctx_t *ctx = cctx_with_timeout(cctx_background(), kind == 0 ? CCTX_MS(1) : HOUR);
        if (kind == 2)
            assert_true(cctx_cancel(ctx));
        for (int i = 0; i < 100; i++) {
            gift_t *gift = malloc(sizeof *gift);
            assert_non_null(gift);
            gift->freed = &freed;
            assert_int_equal(cctx_after_func(ctx, &gift->cb, free_itself, gift), 0);
        }
        if (kind == 1)
            assert_true(cctx_cancel(ctx));
        while ((seen = __atomic_load_n(&freed, __ATOMIC_SEQ_CST)) < 100)
            syscall(SYS_futex, &freed, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        assert_int_equal(seen, 100);
        cctx_unref(ctx);
    }
}

static void count_plain(void *arg)
{
    ++*(int *)arg;
}

static void do_everything(void *arg)
{
    inside_t *inside = arg;
    inside->canceled_own = cctx_cancel(inside->ctx);
    cctx_t *child = cctx_with_timeout(inside->ctx, HOUR);
    inside->child_err = cctx_err(child);
    cctx_close(child);
    child = cctx_with_timeout(cctx_background(), HOUR);
    cctx_close(child);
    CHECK(cctx_after_func(inside->ctx, &inside->nested, count_plain, &inside->nested_runs) == 0);
    CHECK(cctx_after_func(inside->other, &inside->on_other, count_plain, &inside->other_runs) == 0);
    CHECK(inside->nested_runs == 1 && inside->other_runs == 0);
    inside->canceled_other = cctx_cancel(inside->other);
    CHECK(inside->other_runs == 1);
}

/* C28, C30 */
static void a_callback_cancels_derives_and_registers(void **state)
{
    (void)state;
    inside_t inside = {0};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    inside.ctx = ctx;
    inside.other = cctx_with_cancel(cctx_background());
    inside.canceled_own = true;
    assert_int_equal(cctx_after_func(ctx, &inside.cb, do_everything, &inside), 0);
    assert_true(cctx_cancel(ctx));
    assert_false(inside.canceled_own);
    assert_true(inside.canceled_other);
    assert_int_equal(inside.child_err, ECANCELED);
    assert_int_equal(inside.nested_runs, 1);
    assert_int_equal(inside.other_runs, 1);
    cctx_unref(inside.other);
    cctx_unref(ctx);
}

static void unref_it(void *arg)
{
    inside_t *inside = arg;
    cctx_unref(inside->ctx);
    cctx_unref(inside->other);
}

/* Here the thread that cancels gives its own reference to the callback. C17, C28, C30 */
static void a_callback_drops_the_last_references_of_the_context_that_is_canceled(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        inside_t inside = {.freed = 0};
        const cctx_t *counted = cctx_with_value(cctx_background(), &counted_key, &inside.freed);
        cctx_t *parent = cctx_with_cancel(counted);
        cctx_unref(counted);
        cctx_t *child = cctx_with_cancel(parent);
        inside.ctx = parent;
        inside.other = child;
        assert_int_equal(cctx_after_func(kind == 1 ? child : parent, &inside.cb, unref_it, &inside), 0);
        assert_int_equal(inside.freed, 0);
        assert_true(cctx_cancel(kind == 2 ? child : parent));
        if (kind == 2)
            assert_true(cctx_cancel(parent));
        assert_int_equal(inside.freed, 1);
    }
}

static void cancel_next(void *arg)
{
    cctx_t **next = arg;
    if (*next)
        CHECK(cctx_cancel(*next));
}

/* C30 */
static void callbacks_cancel_one_context_after_the_other_nested(void **state)
{
    (void)state;
    enum { N = 200 };
    cctx_t *contexts[N + 1] = {NULL};
    cctx_callback_t callbacks[N];
    for (size_t i = N; i-- > 0;)
        contexts[i] = cctx_with_cancel(cctx_background());
    for (size_t i = 0; i < N; i++)
        assert_int_equal(cctx_after_func(contexts[i], &callbacks[i], cancel_next, &contexts[i + 1]), 0);
    assert_true(cctx_cancel(contexts[0]));
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cctx_err(contexts[i]), ECANCELED);
        cctx_unref(contexts[i]);
    }
}

/* C30 */
static void a_blocked_callback_holds_up_nobody_but_its_own_thread(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *children[20];
    for (size_t i = 0; i < 20; i++)
        children[i] = cctx_with_cancel(ctx);
    call_t *blocked = call_new(ctx, true);
    pthread_t thread = thread_start(cancel_it, ctx);
    gate_wait(&blocked->started);
    assert_false(cctx_cancel(ctx)); /* a loser waits for the descendants, not for the callbacks */
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(cctx_wait(children[i]), ECANCELED);
        cctx_t *below = cctx_with_cancel(children[i]);
        assert_int_equal(cctx_err(below), ECANCELED);
        call_t *call = call_new(below, false);
        assert_int_equal(call->runs, 1);
        call_free(call);
        cctx_unref(below);
        cctx_unref(children[i]);
    }
    cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_US(100));
    call_t *elsewhere = call_new(timed, false);
    gate_wait(&elsewhere->started);
    assert_false(cctx_stop_wait(&elsewhere->cb));
    call_free(elsewhere);
    cctx_unref(timed);
    gate_open(&blocked->release);
    thread_join(thread);
    assert_int_equal(blocked->runs, 1);
    call_free(blocked);
    cctx_unref(ctx);
}

/* ---- the context and the storage ---- */

/* C17, C28 */
static void a_registration_keeps_its_context_alive_until_it_ran_or_was_stopped(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        int freed = 0;
        cctx_t *parent = cctx_with_cancel(cctx_background());
        cctx_t *ctx = cctx_with_timeout(parent, kind == 2 ? CCTX_MS(2) : HOUR);
        const cctx_t *counted = cctx_with_value(ctx, &counted_key, &freed);
        call_t *call = call_new(counted, false);
        cctx_unref(counted);
        cctx_unref(ctx);
        switch (kind) {
        case 0:
            assert_int_equal(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 0);
            assert_true(cctx_cancel(parent));
            break;
        case 1:
            assert_int_equal(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 0);
            assert_true(cctx_stop(&call->cb));
            break;
        case 2: /* the deadline fires, though the registration alone holds the context */
            gate_wait(&call->started);
            assert_false(cctx_stop_wait(&call->cb));
            while (__atomic_load_n(&freed, __ATOMIC_SEQ_CST) == 0)
                sched_yield();
            break;
        default:
            assert_int_equal(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 0);
            assert_true(cctx_stop_wait(&call->cb));
            break;
        }
        assert_int_equal(__atomic_load_n(&freed, __ATOMIC_SEQ_CST), 1);
        assert_int_equal(call->runs, kind % 2 == 0);
        if (call->runs)
            assert_int_equal(call->err, kind ? ETIMEDOUT : ECANCELED);
        call_free(call);
        cctx_close(parent);
    }
}

/* C28, C29 */
static void storage_is_registered_again_after_it_ran_or_was_stopped(void **state)
{
    (void)state;
    cctx_callback_t cb = {0};
    int runs = 0, want = 0;
    rng_t rng = rng_make(test_seed(), 32);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    for (int i = 0; i < 20000; i++) {
        uint64_t kind = rng_below(&rng, 4);
        cctx_t *ctx = cctx_with_cancel(i % 2 ? parent : cctx_background());
        if (kind == 0)
            assert_true(cctx_cancel(ctx));
        assert_int_equal(cctx_after_func(ctx, &cb, count_plain, &runs), 0);
        if (kind == 1)
            assert_true(cctx_stop(&cb));
        else if (kind == 2)
            assert_true(cctx_stop_wait(&cb));
        want += kind == 0 || kind == 3;
        cctx_close(ctx);
        assert_int_equal(runs, want);
    }
    cctx_close(parent);
}

typedef struct again {
    cctx_callback_t cb;
    cctx_t *contexts[50];
    size_t next;
} again_t;

static void register_again(void *arg)
{
    again_t *again = arg;
    CHECK(!cctx_stop_wait(&again->cb));
    again->next++;
    if (again->next < 50)
        CHECK(cctx_after_func(again->contexts[again->next], &again->cb, register_again, again) == 0);
}

/* C29, C30 */
static void a_callback_registers_its_own_storage_again_from_inside(void **state)
{
    (void)state;
    again_t again = {.next = 0};
    for (size_t i = 0; i < 50; i++)
        again.contexts[i] = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_after_func(again.contexts[0], &again.cb, register_again, &again), 0);
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(again.next, i);
        assert_true(cctx_cancel(again.contexts[i]));
        cctx_unref(again.contexts[i]);
    }
    assert_int_equal(again.next, 50);
    assert_false(cctx_stop(&again.cb));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fn_runs_once_in_the_thread_that_cancels_before_cancel_returns),
        cmocka_unit_test(on_a_done_context_fn_runs_in_the_caller_before_after_func_returns),
        cmocka_unit_test(fn_runs_after_every_descendant_is_done),
        cmocka_unit_test(fn_runs_after_every_waiter_is_woken),
        cmocka_unit_test(a_deadlines_callbacks_run_on_a_library_thread_that_fires_no_deadlines),
        cmocka_unit_test(a_waiter_never_runs_a_callback),
        cmocka_unit_test(of_ten_thousand_callbacks_of_a_context_each_runs_once_or_was_stopped),
        cmocka_unit_test(fn_sees_what_the_canceling_thread_did_before),
        cmocka_unit_test(a_stop_before_the_start_wins_and_gives_the_storage_back_at_once),
        cmocka_unit_test(stopping_zeroed_storage_is_false),
        cmocka_unit_test(a_callback_of_a_context_that_is_never_done_can_only_be_stopped),
        cmocka_unit_test(stop_does_not_wait_for_a_running_fn),
        cmocka_unit_test(stop_wait_returns_after_the_end_of_a_running_fn),
        cmocka_unit_test(a_callback_stops_others_that_have_not_started),
        cmocka_unit_test(stop_wait_does_not_wait_for_a_callback_that_runs_before_its_own),
        cmocka_unit_test(a_callback_that_stops_itself_gets_false_at_once),
        cmocka_unit_test(a_callback_frees_its_own_storage_after_stop_wait_on_itself),
        cmocka_unit_test(a_callback_cancels_derives_and_registers),
        cmocka_unit_test(a_callback_drops_the_last_references_of_the_context_that_is_canceled),
        cmocka_unit_test(callbacks_cancel_one_context_after_the_other_nested),
        cmocka_unit_test(a_blocked_callback_holds_up_nobody_but_its_own_thread),
        cmocka_unit_test(a_registration_keeps_its_context_alive_until_it_ran_or_was_stopped),
        cmocka_unit_test(storage_is_registered_again_after_it_ran_or_was_stopped),
        cmocka_unit_test(a_callback_registers_its_own_storage_again_from_inside),
    };
    watchdog(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
