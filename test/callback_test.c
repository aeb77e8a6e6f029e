/* SPDX-License-Identifier: BSD-2-Clause */
/* callback: the storage, its slot and its state, from registration to the end, seen from inside. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include <sched.h>

#include "callback.h"
#include "futex.h"

static const cctx_key_t key = {"key", NULL};

static struct callback *inside(cctx_callback_t *storage) { return (struct callback *)(void *)storage; }
static uint32_t state_of(cctx_callback_t *cb) { return sync_load_acq(&inside(cb)->state, hook_run); }
static uint32_t refs(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->refs, last_ref); }

static void count_up(void *arg) { sync_add_acqrel((sync_u32 *)arg, 1u, hook_end, none); }
static uint32_t count_of(sync_u32 *count) { return sync_load_acq(count, hook_end); }

static cctx_t *top(void)
{
    cctx_t *n = cctx_with_cancel(cctx_background());
    assert_non_null(n);
    return n;
}

/* Claim K1: the slot holds the registration until a claim or a stop empties it, and that decides. */
static void whoever_empties_the_slot_decides(void **state)
{
    (void)state;
    enum { N = 60 };
    static cctx_callback_t cb[N];
    sync_u32 ran = {0};
    cctx_t *ctx = top();
    for (int i = 0; i < N; i++) {
        assert_int_equal(cctx_after_func(ctx, &cb[i], count_up, &ran), 0);
        assert_int_equal(state_of(&cb[i]), CALLBACK_REGISTERED);
        assert_int_equal(sync_load_acq(inside(&cb[i])->slot, slot), (uintptr_t)&cb[i]);
    }
    assert_ptr_equal(inside(&cb[0])->slot, &node_family(ctx)->hook);
    for (int i = 0; i < N; i += 3) {
        sync_ptr *slot = inside(&cb[i])->slot;
        assert_true(cctx_stop(&cb[i]));
        assert_int_equal(state_of(&cb[i]), CALLBACK_IDLE);
        assert_int_equal(sync_load_acq(slot, slot), 0);
        assert_false(cctx_stop(&cb[i]));
        assert_false(cctx_stop_wait(&cb[i]));
    }
    assert_true(cctx_cancel(ctx));
    assert_int_equal(count_of(&ran), N - N / 3);
    for (int i = 0; i < N; i++) {
        assert_int_equal(state_of(&cb[i]), i % 3 ? CALLBACK_FINISHED : CALLBACK_IDLE);
        assert_false(cctx_stop_wait(&cb[i]));
    }
    assert_false(cctx_cancel(ctx));
    assert_int_equal(count_of(&ran), N - N / 3);
    cctx_unref(ctx);
}

static void a_done_context_runs_it_in_no_slot(void **state)
{
    (void)state;
    cctx_callback_t cb = {{0}};
    sync_u32 ran = {0};
    cctx_t *ctx = top();
    cctx_cancel(ctx);
    assert_int_equal(cctx_after_func(ctx, &cb, count_up, &ran), 0);
    assert_int_equal(count_of(&ran), 1);
    assert_int_equal(state_of(&cb), CALLBACK_FINISHED);
    assert_null(inside(&cb)->slot);
    assert_int_equal(refs(ctx), 1);
    cctx_unref(ctx);
}

/* The slot pins the node; what the registration came through is pinned by a reference, and dropped in the
 * end. */
static void a_registration_keeps_its_context(void **state)
{
    (void)state;
    cctx_callback_t cb = {{0}}, other = {{0}};
    sync_u32 ran = {0};
    cctx_t *ctx = top();
    const cctx_t *value = cctx_with_value(ctx, &key, &ran);
    assert_int_equal(cctx_after_func(ctx, &cb, count_up, &ran), 0);
    assert_int_equal(refs(ctx), 2);
    assert_int_equal(cctx_after_func(value, &other, count_up, &ran), 0);
    assert_int_equal(refs(value), 2);
    assert_ptr_equal(inside(&other)->via, value);
    assert_ptr_equal(inside(&other)->node, ctx);
    cctx_unref(value);
    assert_true(cctx_stop(&other));                     /* the value context and its pin go */
    assert_int_equal(refs(ctx), 1);
    cctx_unref(ctx);
    assert_int_equal(refs(ctx), REFS_CLOSED | 1);
    assert_int_equal(sync_load_acq(inside(&cb)->slot, slot), (uintptr_t)&cb | SLOT_TAG);
    assert_true(cctx_stop_wait(&cb));
    assert_int_equal(count_of(&ran), 0);
}

/* With no slot to be taken from, the state alone decides; the context is kept by a reference. */
static void on_a_context_that_can_never_be_done_only_a_stop_ends_it(void **state)
{
    (void)state;
    cctx_callback_t cb = {{0}};
    const cctx_t *value = cctx_with_value(cctx_background(), &key, NULL);
    assert_int_equal(cctx_after_func(value, &cb, count_up, NULL), 0);
    assert_null(inside(&cb)->slot);
    assert_int_equal(state_of(&cb), CALLBACK_REGISTERED);
    assert_int_equal(refs(value), 2);
    assert_true(cctx_stop(&cb));
    assert_false(cctx_stop(&cb));
    assert_int_equal(refs(value), 1);
    cctx_unref(value);
}

static void stop_itself(void *arg)
{
    cctx_callback_t *cb = arg;
    CHECK(state_of(cb) == CALLBACK_RUNNING);
    CHECK(!cctx_stop(cb));
    CHECK(!cctx_stop_wait(cb));         /* returns at once */
    CHECK(state_of(cb) == CALLBACK_IDLE);
    memset(cb, 0xee, sizeof *cb);       /* the storage is fn's from here: the library looks no more */
}

/* Claim K2: after fn has given its storage away the library neither reads nor writes it. */
static void storage_that_fn_gave_away_is_not_touched(void **state)
{
    (void)state;
    cctx_callback_t cb = {{0}}, poison;
    cctx_t *ctx = top();
    assert_int_equal(cctx_after_func(ctx, &cb, stop_itself, &cb), 0);
    cctx_cancel(ctx);
    memset(&poison, 0xee, sizeof poison);
    assert_memory_equal(&cb, &poison, sizeof cb);
    cctx_unref(ctx);
}

static cctx_callback_t slow;
static sync_u32 running, ended;

/* Goes on until somebody waits for it, so the wait is sure to have begun before the end. */
static void run_until_waited_for(void *arg)
{
    (void)arg;
    sync_store_rel(&running, 1u, hook_run);
    while (!(state_of(&slow) & CALLBACK_WAITED)) sched_yield();
    sync_store_rel(&ended, 1u, hook_end);
}

static void *cancel_it(void *ctx)
{
    bool won = cctx_cancel(ctx);
    CHECK(won);
    return NULL;
}

static void a_stop_waits_for_a_running_callback_to_end(void **state)
{
    (void)state;
    watchdog(100);
    for (int i = 0; i < 50; i++) {
        sync_store_relaxed(&running, 0u, owned);
        sync_store_relaxed(&ended, 0u, owned);
        cctx_t *ctx = top();
        assert_int_equal(cctx_after_func(ctx, &slow, run_until_waited_for, NULL), 0);
        pthread_t canceler = thread_start(cancel_it, ctx);
        while (!sync_load_acq(&running, hook_run)) sched_yield();
        assert_false(cctx_stop(&slow));                 /* does not wait */
        assert_false(cctx_stop_wait(&slow));
        assert_int_equal(sync_load_acq(&ended, hook_end), 1);
        memset(&slow, 0xee, sizeof slow);               /* the caller's again */
        thread_join(canceler);
        memset(&slow, 0, sizeof slow);
        cctx_unref(ctx);
    }
    watchdog(0);
}

static char runner_name[16];
static void tell_thread(void *arg)
{
    pthread_getname_np(pthread_self(), runner_name, sizeof runner_name);
    count_up(arg);
    futex_wake(arg);
}

/* A run list that is handed over runs on the runner thread, each callback once, and its pins are dropped. */
static void what_is_handed_over_runs_on_the_runner(void **state)
{
    (void)state;
    enum { N = 5 };
    static cctx_callback_t cb[N];
    static sync_u32 ran;
    cctx_t *ctx[N], *first = NULL;
    for (int i = 0; i < N; i++) {
        ctx[i] = top();
        assert_int_equal(cctx_after_func(ctx[i], &cb[i], tell_thread, &ran), 0);
        node_ref(ctx[i]);
        sync_set(node_family(ctx[i])->link, first);
        first = ctx[i];
    }
    callback_hand_over(NULL);
    callback_hand_over(first);
    for (uint32_t n; (n = count_of(&ran)) < N;) futex_wait(&ran, n, INT64_MAX);
    assert_string_equal(runner_name, "cctx-runner");
    for (int i = 0; i < N; i++) {
        assert_false(cctx_stop_wait(&cb[i]));
        cctx_unref(ctx[i]);
    }
    assert_int_equal(count_of(&ran), N);
}

/* Storage may come from anywhere: what it held before means nothing, in a build that checks neither. */
static void the_storage_need_not_be_zeroed(void **state)
{
    (void)state;
    static cctx_callback_t cb;
    for (int fill = 0; fill < 256; fill++) {
        sync_u32 ran = {0};
        cctx_t *ctx = top();
        memset(&cb, fill, sizeof cb);
        assert_int_equal(cctx_after_func(ctx, &cb, count_up, &ran), 0);
        assert_int_equal(state_of(&cb), CALLBACK_REGISTERED);
        assert_true(cctx_cancel(ctx));
        assert_int_equal(count_of(&ran), 1);
        cctx_unref(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_empties_the_slot_decides),
        cmocka_unit_test(a_done_context_runs_it_in_no_slot),
        cmocka_unit_test(a_registration_keeps_its_context),
        cmocka_unit_test(on_a_context_that_can_never_be_done_only_a_stop_ends_it),
        cmocka_unit_test(storage_that_fn_gave_away_is_not_touched),
        cmocka_unit_test(a_stop_waits_for_a_running_callback_to_end),
        cmocka_unit_test(what_is_handed_over_runs_on_the_runner),
        cmocka_unit_test(the_storage_need_not_be_zeroed),
    };
    return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
