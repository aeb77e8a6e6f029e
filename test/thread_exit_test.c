/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of threads: every call on every state of a context from destructors that run before and after the
 * library's own, with a cancellation of the thread pending, and after the main thread is gone; threads that
 * end after each step of a use. C22, C23.
 */
#include "calls.h"

#include <sched.h>

static world_t world; /* for what one thread does alone */
static long calls_made;

static void run_call(world_t *w, int c, int s)
{
    call_in_world(&call_table[c], w, &state_table[s]);
    __atomic_fetch_add(&calls_made, 1, __ATOMIC_RELAXED);
}

/* ---- destructors ---- */

/* POSIX runs the destructors again, up to four times, while values are set anew: so each of the library's
 * turns, before, between and after, is met. Keys of both sides: older than the library's own key, and
 * younger. */
enum {
    TURNS = TEST_TSAN ? 3 : 4,
    OLDER = 0,
    YOUNGER = 1
}; /* in the fourth ThreadSanitizer itself has ended */

typedef struct ending {
    pthread_key_t key;
    int call, state, turns;
    bool done;
    world_t *world;
} ending_t;

static pthread_key_t keys[2];

static void end_with_a_call(void *arg)
{
    ending_t *ending = arg;
    run_call(ending->world, ending->call, ending->state);
    if (--ending->turns > 0) {
        int err = pthread_setspecific(ending->key, ending);
        CHECK(err == 0);
    } else {
        ending->done = true;
    }
}

typedef struct end_plan {
    ending_t ending[2], object;
    bool used_before; /* the thread has the library's destructor, too */
    pthread_t thread;
    world_t world;
} end_plan_t;

enum { AT_ONCE = 4 }; /* so that the record that one gives back is another's while the first still calls */
static end_plan_t plans[AT_ONCE];

/* What a C++ compiler calls for a thread_local object with a destructor; those run before all keys'
 * destructors. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

static void end_object(void *arg)
{
    ending_t *ending = arg;
    run_call(ending->world, ending->call, ending->state);
    ending->done = true;
}

static void *live_and_end(void *arg)
{
    end_plan_t *plan = arg;
    if (plan->used_before)
        cctx_close(cctx_with_cancel(cctx_background()));
    int err = __cxa_thread_atexit_impl(end_object, &plan->object, &__dso_handle);
    for (int i = 0; i < 2 && err == 0; i++)
        err = pthread_setspecific(keys[i], &plan->ending[i]);
    CHECK(err == 0);
    return NULL;
}

/* C22, C23 */
static void every_call_works_in_destructors_before_and_after_the_librarys_own(void **state)
{
    (void)state;
    calls_made = 0;
    int step = TEST_SANITIZED ? 5 : 1;
    size_t before = 0;
    for (int i = 0; i < CALLS * STATES; i += step) {
        if (i / step == CALLS * STATES / step / 3)
            before = memory_in_use();
        int c = i % CALLS, s = i / CALLS;
        if (state_table[s].alike)
            continue;
        for (int n = 0; n < AT_ONCE; n++) {
            end_plan_t *plan = &plans[n];
            plan->used_before = (i / step + n) % 2;
            plan->object = (ending_t){.call = c, .state = s, .world = &plan->world};
            for (int k = 0; k < 2; k++)
                plan->ending[k] = (ending_t){keys[k], c, s, TURNS - k, false, &plan->world};
            plan->thread = thread_start(live_and_end, plan);
        }
        for (int n = 0; n < AT_ONCE; n++) {
            thread_join(plans[n].thread);
            CHECK(plans[n].object.done && plans[n].ending[0].done && plans[n].ending[1].done);
        }
    }
    size_t after = memory_in_use();
    print_message("%ld calls from destructors: %zu bytes before, %zu after\n", calls_made, before, after);
    assert_true(calls_made > SCALED(16000));
    assert_true(after < before + 256 * 1024);
}

/* ---- a cancellation of the thread ---- */

static bool cancel_state(bool on)
{
    int before = 0;
    pthread_setcancelstate(on ? PTHREAD_CANCEL_ENABLE : PTHREAD_CANCEL_DISABLE, &before);
    return before == PTHREAD_CANCEL_ENABLE;
}

static bool came_to_the_end;

static void *call_with_cancellation_pending(void *arg)
{
    (void)arg;
    cancel_state(false);
    int err = pthread_cancel(pthread_self());
    CHECK(err == 0);
    for (int s = 0; s < STATES; s++)
        for (int c = 0; c < CALLS; c++) {
            if (state_table[s].alike)
                continue;
            const call_t *call = &call_table[c];
            world_make(&world, &state_table[s]);
            call_prepare(call, &world);
            cancel_state(true);
            err = call_run(call, &world);
            cancel_state(false);
            CHECK(err == 0);
            call->after(&world);
            world_end(&world);
        }
    came_to_the_end = true;
    cancel_state(true);
    pthread_testcancel();
    came_to_the_end = false;
    return NULL;
}

/* C23: a deferred cancellation waits for a cancellation point, and none of the library's functions is one. */
static void no_call_is_a_cancellation_point(void **state)
{
    (void)state;
    void *result = NULL;
    pthread_t thread = thread_start(call_with_cancellation_pending, NULL);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_true(came_to_the_end);
    assert_ptr_equal(result, PTHREAD_CANCELED);
}

typedef struct waiting {
    cctx_t *ctx;
    cctx_callback_t *callback; /* to stop_wait on, or NULL */
    int how;
    bool returned;
    gate_t ready;
} waiting_t;

static void *wait_for_it(void *arg)
{
    waiting_t *waiting = arg;
    gate_open(&waiting->ready);
    switch (waiting->how) {
    case 0:
        CHECK(cctx_wait(waiting->ctx) == ECANCELED);
        break;
    case 1:
        CHECK(cctx_wait_until(waiting->ctx, cctx_now() + HOUR));
        break;
    case 2:
        CHECK(cctx_wait_for(waiting->ctx, CCTX_NEVER));
        break;
    default:
        CHECK(!cctx_stop_wait(waiting->callback));
        break;
    }
    __atomic_store_n(&waiting->returned, true, __ATOMIC_RELEASE);
    cctx_unref(waiting->ctx);
    pthread_testcancel();
    return NULL;
}

static gate_t callback_began, callback_may_end;

static void last_until_told(void *arg)
{
    (void)arg;
    gate_open(&callback_began);
    gate_wait(&callback_may_end);
}

static void *cancel_main(void *arg)
{
    cctx_cancel(arg);
    return NULL;
}

/* A parked thread that is canceled waits on, and its wait ends as it should. */
static void a_cancellation_ends_no_wait(void **state)
{
    (void)state;
    for (int round = 0; round < 24; round++) {
        cctx_callback_t callback;
        waiting_t waiting = {
            .ctx = cctx_with_cancel(cctx_background()), .how = round % 4, .callback = &callback};
        cctx_t *other = cctx_with_cancel(cctx_background());
        pthread_t canceler = pthread_self();
        cctx_ref(waiting.ctx);
        if (waiting.how == 3) {
            callback_began = callback_may_end = (gate_t){0};
            int err = cctx_after_func(other, &callback, last_until_told, NULL);
            CHECK(err == 0);
            canceler = thread_start(cancel_main, other);
            gate_wait(&callback_began);
        }
        pthread_t thread = thread_start(wait_for_it, &waiting);
        gate_wait(&waiting.ready);
        for (int i = 0; i < round; i++)
            sched_yield();
        assert_int_equal(pthread_cancel(thread), 0);
        for (int i = 0; i < 50; i++)
            sched_yield();
        assert_false(__atomic_load_n(&waiting.returned, __ATOMIC_ACQUIRE));
        if (waiting.how == 3)
            gate_open(&callback_may_end);
        else
            assert_true(cctx_cancel(waiting.ctx));
        void *result = NULL;
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_true(waiting.returned);
        assert_ptr_equal(result, PTHREAD_CANCELED);
        if (waiting.how == 3)
            thread_join(canceler);
        cctx_unref(waiting.ctx);
        cctx_unref(other);
    }
}

/* ---- after each step ---- */

typedef struct steps {
    cctx_t *top, *mid, *timed, *any;
    const cctx_t *value;
    cctx_callback_t stopped, run, never;
    int stopped_ran, ran, never_ran, last;
    bool expired;
} steps_t;

static int steps_ended;

static void steps_end(void *value)
{
    (void)value;
    __atomic_fetch_add(&steps_ended, 1, __ATOMIC_RELAXED);
}

static const cctx_key_t steps_key = {"steps", steps_end};

/* The n-th step of a use of everything. */
static void step(steps_t *u, int n)
{
    switch (n) {
    case 0:
        u->top = cctx_with_cancel(cctx_background());
        break;
    case 1:
        u->mid = cctx_with_cancel(u->top);
        break;
    case 2:
        u->timed = cctx_with_timeout(u->mid, HOUR);
        break;
    case 3:
        u->value = cctx_with_value(u->timed, &steps_key, u);
        break;
    case 4:
        u->any = cctx_with_any((const cctx_t *[]){u->value, cctx_todo(), u->mid}, 3);
        break;
    case 5:
        CHECK(cctx_after_func(u->any, &u->run, calls_count, &u->ran) == 0);
        break;
    case 6:
        CHECK(cctx_after_func(u->timed, &u->stopped, calls_count, &u->stopped_ran) == 0);
        break;
    case 7:
        CHECK(cctx_after_func(cctx_todo(), &u->never, calls_count, &u->never_ran) == 0);
        break;
    case 8:
        CHECK(cctx_stop(&u->stopped));
        break;
    case 9:
        CHECK(!cctx_wait_for(u->any, CCTX_US(20)));
        break;
    case 10:
        CHECK(cctx_done(u->any) != NULL);
        break;
    case 11:
        CHECK(cctx_cancel_causef(u->mid, 1, "step %d", n));
        break;
    case 12:
        CHECK(cctx_wait(u->any) == ECANCELED);
        break;
    case 13:
        cctx_unref(u->mid);
        u->mid = NULL;
        break;
    case 14:
        CHECK(cctx_stop_wait(&u->never));
        break;
    case 15:
        cctx_unref(u->any);
        u->any = NULL;
        break;
    default:
        cctx_unref(u->value);
        u->value = NULL;
        break;
    }
}
enum { STEPS = 17 };

static void *live_for_some_steps(void *arg)
{
    steps_t *u = arg;
    for (int n = 0; n < u->last; n++)
        step(u, n);
    pthread_exit(NULL);
}

/* C23: whatever a thread was about to do, another one goes on with it, and nothing is lost with the
 * thread. */
static void a_thread_may_end_after_each_step_and_another_goes_on(void **state)
{
    (void)state;
    const int rounds = SCALED(150);
    size_t before = 0;
    for (int round = -rounds / 3; round < rounds; round++) {
        if (round == 0)
            before = memory_in_use();
        for (int last = 0; last <= STEPS; last++) {
            steps_t u;
            memset(&u, 0, sizeof u);
            u.last = last;
            steps_ended = 0;
            thread_join(thread_start(live_for_some_steps, &u));
            for (int n = last; n < STEPS; n++)
                step(&u, n);
            CHECK(u.ran == 1 && u.stopped_ran == 0 && u.never_ran == 0);
            CHECK(cctx_err(u.top) == 0 && cctx_err(u.timed) == ECANCELED);
            CHECK(strcmp(cctx_cause(u.timed)->text, "step 11") == 0);
            cctx_unref(u.timed);
            cctx_unref(u.top);
            CHECK(__atomic_load_n(&steps_ended, __ATOMIC_RELAXED) == 1);
        }
    }
    size_t after = memory_in_use();
    print_message("%d threads: %zu bytes before, %zu after\n", rounds * (STEPS + 1), before, after);
    assert_true(after < before + 128 * 1024);
}

/* ---- the end of the process ---- */

static pthread_t main_thread;

static void *go_on_alone(void *arg)
{
    (void)arg;
    int err = pthread_join(main_thread, NULL);
    CHECK(err == 0);
    for (int c = 0; c < CALLS; c++)
        run_call(&world, c, (int)(state_of(make_timed) - state_table));
    exit(0); /* with the handlers of atexit */
}

static void call_everything_at_exit(void)
{
    for (int s = 0; s < STATES; s++)
        for (int c = 0; c < CALLS; c++)
            if (!state_table[s].alike)
                run_call(&world, c, s);
    _exit(77);
}

static void leave_main(void *arg)
{
    (void)arg;
    alarm(60);
    main_thread = pthread_self();
    int err = atexit(call_everything_at_exit);
    CHECK(err == 0);
    thread_start(go_on_alone, NULL);
    pthread_exit(NULL);
}

/* C23: the first thread of a process is a thread like others; and handlers of exit may call everything. */
static void all_goes_on_after_the_main_thread_and_in_handlers_of_exit(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer cannot join the first thread");
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    int status = run_in_child(leave_main, NULL);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_works_in_destructors_before_and_after_the_librarys_own),
        cmocka_unit_test(no_call_is_a_cancellation_point),
        cmocka_unit_test(a_cancellation_ends_no_wait),
        cmocka_unit_test(a_thread_may_end_after_each_step_and_another_goes_on),
        cmocka_unit_test(all_goes_on_after_the_main_thread_and_in_handlers_of_exit),
    };
    watchdog(200);
    calls_are_complete();
    int err = pthread_key_create(&keys[OLDER], end_with_a_call);
    cctx_close(cctx_with_cancel(cctx_background()));
    err |= pthread_key_create(&keys[YOUNGER], end_with_a_call);
    CHECK(err == 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
