/* SPDX-License-Identifier: BSD-2-Clause */
/* rival: what is decided by who comes first is decided both ways, at each point where another thread can come
 * between; and what only a machine without memory or threads does, on one. */
#include "rival.h"

#include "binding.h"
#include "peer.h"
#include <cctx/shared.h>
#include <poll.h>

#include "callback.h"
#include "cancel.h"
#include "deadline.h"
#include "futex.h"
#include "handler.h"
#include <cctx/wait.h>

#include "../two_tasks.h"
#include <cctx/domain.h>

#include <cctx/executor.h>
#include <cctx/guard.h>
#include <cctx/signal.h>

/* ---- the ground of the scenes */

enum { MOST = 80 };
static cctx_t *p, *c[MOST], *d;
static const cctx_t *v;
static cctx_callback_t cb, cb2;
static bool a_won, b_won;
static int ran, ran2, destroyed;
static const cctx_cause_t cause_a = {1, "a"}, cause_b = {2, "b"};

static void destroy(void *value) { ++*(int *)value; }
static const cctx_key_t key = {"key", destroy};
static void count_up(void *arg) { ++*(int *)arg; }

static void plant_parent(void)
{
    p = cctx_with_cancel(cctx_background());
    for (unsigned i = 0; i < scene->children; i++) c[i] = cctx_with_cancel(p);
    d = NULL;
    v = NULL;
    a_won = b_won = false;
    ran = ran2 = destroyed = 0;
    memset(&cb, 0, sizeof cb);
    memset(&cb2, 0, sizeof cb2);
}
static void drop(cctx_t **ctx)
{
    cctx_unref(*ctx);
    *ctx = NULL;
}
static void drop_children(void)
{
    for (unsigned i = 0; i < scene->children; i++) drop(&c[i]);
}
static void drop_all(void)
{
    drop_children();
    drop(&d);
    cctx_unref(v);
    v = NULL;
    drop(&p);
}
static void all_done(void)
{
    CHECK(cctx_is_done(p));
    for (unsigned i = 0; i < scene->children; i++) CHECK(!c[i] || cctx_is_done(c[i]));
}
static void sweep_all(const struct scene *scenes, size_t count)
{
    signal(SIGABRT, scene_tell);
    for (size_t i = 0; i < count; i++) sweep(&scenes[i]);
    signal(SIGABRT, SIG_DFL);
}
#define SWEEP(scenes) sweep_all(scenes, sizeof(scenes) / sizeof *(scenes))

static void nothing(void) {}
static void cancel_p(void) { b_won |= cctx_cancel(p); }
static void cancel_a(void)
{
    a_won = cctx_cancel_cause(p, &cause_a);
    all_done();
}
static void cancel_b(void)
{
    b_won = cctx_cancel_cause(p, &cause_b);
    all_done();
}

/* ---- derivations */

static void derive_d(void) { d = cctx_with_cancel(p); }
static void derive_v(void) { v = cctx_with_cancel(p); }
static void check_two(void)
{
    CHECK(d && v && d->slot != v->slot);
    CHECK(cctx_cancel(p) && cctx_is_done(d) && cctx_is_done(v));
    drop_all();
}
static void check_derived_done(void)
{
    CHECK(b_won && cctx_err(d) == ECANCELED && cctx_cause(d) == &cctx_canceled);
    drop_all();
}
/* Every other child goes: there are holes in full chunks. */
static void plant_holes(void)
{
    plant_parent();
    for (unsigned i = 0; i < scene->children; i += 2) drop(&c[i]);
    polls();
}
static void plant_crowd(void)
{
    plant_parent();
    sync_store_relaxed(&node_family(p)->turns, (uint32_t)FAMILY_CROWD, hint);
}
static void derive_many_v(void)
{
    for (unsigned i = 40; i < 48; i++) c[i] = cctx_with_cancel(p);
    derive_v();
}
static void drop_many(void)
{
    for (unsigned i = 40; i < 48; i++) drop(&c[i]);
}
static void check_two_and_many(void)
{
    CHECK(d && v && d->slot != v->slot);
    for (unsigned i = 40; i < 48; i++) CHECK(c[i]->slot != d->slot && c[i]->slot != v->slot);
    CHECK(cctx_cancel(p) && cctx_is_done(d) && cctx_is_done(v));
    for (unsigned i = 40; i < 48; i++) CHECK(cctx_is_done(c[i]));
    drop_many();
    drop_all();
}
/* A rival that takes what it needs and gives it back: hints are stale then. */
static void derive_many_and_drop(void)
{
    derive_many_v();
    drop_many();
}
static void drop_two(void)
{
    drop(&c[0]);
    drop(&c[1]);
}
/* By the stripe that the test's thread takes from. */
static unsigned my_stripe;
static void derive_many_beside(void)
{
    struct thread *t = thread_begin();
    t->ordinal = my_stripe;
    derive_many_v();
}
static void drop_c2(void) { drop(&c[2]); }
static void drop_c3(void) { drop(&c[3]); }
static void derive_two(void)
{
    derive_d();
    c[50] = cctx_with_cancel(p);
}
static void plant_beside(void)
{
    plant_parent();
    my_stripe = thread_begin()->ordinal;
}
static void plant_holes_beside(void)
{
    plant_holes();
    my_stripe = thread_begin()->ordinal;
}
/* A crowd that came late: the first roster, the narrow one, is full of holes, and the wider one is in use. */
static void plant_crowd_beside(void)
{
    plant_crowd();
    my_stripe = thread_begin()->ordinal;
    for (unsigned i = 60; i < 64; i++) c[i] = cctx_with_cancel(p);
    for (unsigned i = 2; i < scene->children; i += 3) drop(&c[i]);
}
static void check_crowd(void)
{
    for (unsigned i = 60; i < 64; i++) drop(&c[i]);
    check_two_and_many();
}
static void check_three(void)
{
    CHECK(d && c[50] && d->slot != c[50]->slot && cctx_cancel(p) && cctx_is_done(d) && cctx_is_done(c[50]));
    drop(&c[50]);
    drop_many();
    drop_all();
}
static void check_one(void)
{
    CHECK(d && cctx_cancel(p) && cctx_is_done(d));
    drop_all();
}

/* R1, I4: two derivations never get one slot, whatever room there is. C3: nor does one escape a cancel. */
static void a_derivation_among_others_has_a_slot_of_its_own(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"derive two, no family", 0, plant_parent, derive_d, derive_v, check_two, NULL},
        {"derive two, a slot of the family", 1, plant_parent, derive_d, derive_v, check_two, NULL},
        {"derive two, no roster", 2, plant_parent, derive_d, derive_v, check_two, NULL},
        {"derive two, a roster", 3, plant_parent, derive_d, derive_v, check_two, NULL},
        {"derive two, a full chunk", 4, plant_parent, derive_d, derive_v, check_two, NULL},
        {"derive two, holes", 40, plant_holes, derive_d, derive_v, check_two, NULL},
        {"derive many, no roster", 2, plant_parent, derive_d, derive_many_v, check_two_and_many, NULL},
        {"derive many, a full chunk", 4, plant_parent, derive_d, derive_many_v, check_two_and_many, NULL},
        {"derive many, holes", 20, plant_holes, derive_d, derive_many_v, check_two_and_many, NULL},
        {"derive many, a crowd", 3, plant_crowd, derive_d, derive_many_v, check_two_and_many, NULL},
        {"derive many and drop them, holes", 20, plant_holes, derive_d, derive_many_and_drop, check_two,
         NULL},
        {"derive many and drop them", 4, plant_parent, derive_d, derive_many_and_drop, check_two, NULL},
        {"derive two, a crowd", 3, plant_crowd, derive_d, derive_v, check_two, NULL},
        {"derive many, by the same stripe", 4, plant_beside, derive_d, derive_many_beside,
         check_two_and_many, NULL},
        {"derive many, by the same stripe, one goes", 3, plant_beside, derive_two, drop_c2, check_three,
         derive_many_beside},
        {"derive two, one goes from a full chunk", 4, plant_beside, derive_two, drop_c2, check_three,
         derive_many_beside},
        {"derive many, by the same stripe, holes", 20, plant_holes_beside, derive_d, derive_many_beside,
         check_two_and_many, NULL},
        {"derive many, by the same stripe, a crowd", 9, plant_crowd_beside, derive_d, derive_many_beside,
         check_crowd,
         NULL},
        {"two go from a full chunk", 5, plant_parent, drop_c2, drop_c3, drop_all, NULL},
        {"derive, two go", 6, plant_parent, derive_d, drop_two, check_one, NULL},
        {"derive, cancel", 0, plant_parent, derive_d, cancel_p, check_derived_done, NULL},
        {"derive, cancel, a roster", 3, plant_parent, derive_d, cancel_p, check_derived_done, NULL},
    };
    SWEEP(scenes);
}

/* ---- cancels */

static void plant_grandchildren(void)
{
    plant_parent();
    for (unsigned i = 0; i + 1 < scene->children; i += 2) {
        cctx_unref(c[i + 1]);
        c[i + 1] = cctx_with_cancel(c[i]);
    }
}
static void check_one_won(void)
{
    const cctx_cause_t *cause = cctx_cause(p);
    CHECK(a_won != b_won && cause == (a_won ? &cause_a : &cause_b));
    for (unsigned i = 0; i < scene->children; i++) CHECK(cctx_cause(c[i]) == cause);
    drop_all();
}
static void cancel_text(void) { a_won = cctx_cancel_causef(p, 1, "%s", "a"); }
static void check_one_text(void)
{
    CHECK(a_won != b_won && cctx_cause(p)->code == (a_won ? 1 : 2));
    drop_all();
}
static void drop_children_and_poll(void)
{
    drop_children();
    polls();
}
static void plant_exposed(void)
{
    plant_grandchildren();
    for (unsigned i = 0; i < scene->children; i++) CHECK(cctx_done(c[i]));
}
/* A sleeper that waits to be woken, and beside it a node that dies while the walk is below it. */
static void plant_sleeper_beside(void)
{
    plant_parent();
    CHECK(cctx_done(c[0]));
    cctx_unref(c[2]);
    c[2] = cctx_with_cancel(c[1]);
}
static void drop_below(void)
{
    drop(&c[2]);
    drop(&c[1]);
}
static void plant_hooked(void)
{
    plant_grandchildren();
    CHECK(cctx_after_func(c[0], &cb, count_up, &ran) == 0);
}
static void stop_and_drop(void)
{
    a_won = cctx_stop(&cb);
    drop_children_and_poll();
}
static void check_canceled(void)
{
    CHECK(b_won && cctx_err(p) == ECANCELED);
    drop_all();
}
static void check_canceled_or_stopped(void)
{
    CHECK(ran == !a_won);
    check_canceled();
}
static void plant_merge(void)
{
    plant_parent();
    d = cctx_with_any((const cctx_t *[]){c[0], p, c[1]}, 3);
    v = cctx_with_cancel(d);
}
static void drop_merge(void)
{
    cctx_unref(v);
    v = NULL;
    drop(&d);
    polls();
}
static void check_merge(void)
{
    CHECK(b_won && (!d || (cctx_is_done(d) && cctx_is_done(v))));
    drop_all();
}
static void cancel_c0(void) { a_won = cctx_cancel_cause(c[0], &cause_a); }
static void check_both(void)
{
    CHECK(a_won || cctx_cause(c[0]) == &cctx_canceled);
    check_canceled();
}

/* C1, C3, C9, I5, I10: whoever wins, one does, and what dies meanwhile is not touched. */
static void a_cancel_among_others_is_the_only_one_or_none(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"two cancels", 5, plant_grandchildren, cancel_a, cancel_b, check_one_won, NULL},
        {"a text and a cause", 0, plant_parent, cancel_text, cancel_b, check_one_text, NULL},
        {"cancel, the children go", 7, plant_grandchildren, cancel_p, drop_children_and_poll, check_canceled,
         NULL},
        {"cancel, many children go", 12, plant_grandchildren, cancel_p, drop_children_and_poll,
         check_canceled, NULL},
        {"cancel, children whose word was taken go", 7, plant_exposed, cancel_p, drop_children_and_poll,
         check_canceled, NULL},
        {"cancel, one with a callback goes", 4, plant_hooked, cancel_p, stop_and_drop,
         check_canceled_or_stopped, NULL},
        {"cancel, one beside a sleeper goes", 3, plant_sleeper_beside, cancel_p, drop_below, check_canceled,
         NULL},
        {"cancel, a merge goes", 2, plant_merge, cancel_p, drop_merge, check_merge, NULL},
        {"cancel, cancel below", 4, plant_grandchildren, cancel_p, cancel_c0, check_both, NULL},
        {"cancel below, cancel", 4, plant_grandchildren, cancel_c0, cancel_p, check_both, NULL},
        {"merged, cancel both", 2, plant_merge, cancel_c0, cancel_p, check_both, NULL},
    };
    SWEEP(scenes);
}

/* ---- references */

static void drop_parent(void)
{
    drop(&p);
    polls();
}
static void plant_two_handles(void)
{
    plant_parent();
    cctx_ref(p);
}
static void drop_c0(void) { drop(&c[0]); }
static void drop_handle(void) { cctx_unref(p); }
static void plant_value(void)
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
    d = cctx_with_cancel(v);
}
static void drop_value(void)
{
    drop(&d);
    cctx_unref(v);
    v = NULL;
}
static void check_destroyed(void)
{
    drop_all();
    CHECK(destroyed == 1);
}
static void check_handles(void)
{
    p = NULL;
    drop_all();
}
/* The second to last handle and the last, one of which closes. */
static void derive_and_drop(void)
{
    cctx_t *n = cctx_with_cancel(p);
    CHECK(n);
    cctx_unref(p);
    cctx_unref(n);
}

/* C17, C20, I6, I7: whoever drops the last reference, it is freed once. */
static void the_last_of_several_references_frees_it_once(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"two handles", 0, plant_two_handles, drop_handle, drop_handle, check_handles, NULL},
        {"two handles of one with children", 3, plant_two_handles, drop_handle, drop_handle, check_handles,
         NULL},
        {"two handles, one derives", 0, plant_two_handles, drop_handle, derive_and_drop, check_handles, NULL},
        {"two handles, one derives, and children", 3, plant_two_handles, derive_and_drop, drop_handle,
         check_handles, NULL},
        {"an inner one that somebody wakes", 2, plant_exposed, drop_c0, cancel_p, check_canceled,
         rival_pauses},
        {"the parent, the children", 6, plant_grandchildren, drop_parent, drop_children_and_poll, drop_all,
         NULL},
        {"the children, the parent", 6, plant_grandchildren, drop_children_and_poll, drop_parent, drop_all,
         NULL},
        {"the owner, its value's child", 0, plant_value, drop_parent, drop_value, check_destroyed, NULL},
        {"a value's child, the owner", 0, plant_value, drop_value, drop_parent, check_destroyed, NULL},
    };
    SWEEP(scenes);
}

/* ---- callbacks */

static void plant_callback(void)
{
    plant_parent();
    CHECK(cctx_after_func(p, &cb, count_up, &ran) == 0);
}
static void plant_callback_on_value(void)
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
    CHECK(cctx_after_func(v, &cb, count_up, &ran) == 0);
}
static void register_it(void) { CHECK(cctx_after_func(p, &cb, count_up, &ran) == 0); }
static void register_on_value(void) { CHECK(cctx_after_func(v, &cb, count_up, &ran) == 0); }
static void plant_value_alone(void)
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
}
static void stop_a(void) { a_won = cctx_stop(&cb); }
static void stop_b(void) { b_won = cctx_stop(&cb); }
static void stop_wait_a(void)
{
    a_won = cctx_stop_wait(&cb);
    CHECK(ran == !a_won);
}
static void stop_wait_only(void) { a_won = cctx_stop_wait(&cb); }
static void stop_wait_b(void)
{
    b_won = cctx_stop_wait(&cb);
}
static void check_ran_once(void)
{
    CHECK(ran == 1);
    drop_all();
}
static void check_ran_or_stopped(void)
{
    CHECK(ran == !a_won && b_won);
    drop_all();
}
static void check_one_stopped(void)
{
    CHECK(a_won != b_won && ran == 0);
    drop_all();
}
static void plant_registered_on_never(void)
{
    plant_parent();
    CHECK(cctx_after_func(cctx_background(), &cb, count_up, &ran) == 0);
}
static void drop_owner_then_value(void)
{
    drop(&p);
    cctx_unref(v);
    v = NULL;
    polls();
}
static void check_stopped_alone(void)
{
    CHECK(a_won && ran == 0);
    drop_all();
    CHECK(destroyed == 1);
}

/* C28, C29, K1: it runs once or is stopped once. */
static void a_callback_runs_or_is_stopped_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"register, cancel", 1, plant_parent, register_it, cancel_p, check_ran_once, NULL},
        {"register on a value, cancel", 0, plant_value_alone, register_on_value, cancel_p, check_ran_once,
         NULL},
        {"stop, cancel", 0, plant_callback, stop_a, cancel_p, check_ran_or_stopped, NULL},
        {"cancel, stop", 0, plant_callback, cancel_p, stop_a, check_ran_or_stopped, NULL},
        {"stop on a value, cancel", 0, plant_callback_on_value, stop_a, cancel_p, check_ran_or_stopped, NULL},
        {"cancel, stop on a value", 0, plant_callback_on_value, cancel_p, stop_a, check_ran_or_stopped, NULL},
        {"stop, stop", 0, plant_callback, stop_a, stop_b, check_one_stopped, NULL},
        {"stop, stop, never done", 0, plant_registered_on_never, stop_a, stop_b, check_one_stopped, NULL},
        {"stop and wait, cancel", 0, plant_callback, stop_wait_a, cancel_p, check_ran_or_stopped, NULL},
        {"cancel, stop and wait", 0, plant_callback, cancel_p, stop_wait_a, check_ran_or_stopped, NULL},
        {"stop and wait, twice", 0, plant_callback, stop_wait_only, stop_wait_b, check_one_stopped, NULL},
        {"stop, the value and its owner go", 0, plant_callback_on_value, stop_a, drop_owner_then_value,
         check_stopped_alone, NULL},
    };
    SWEEP(scenes);
}

/* ---- callbacks by an executor: its queue has one place, and is run when somebody is there to run it */

static struct {
    void (*fn)(void *arg);
    void *arg;
} queued;
static int submit_later(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    CHECK(!queued.fn);
    queued.arg = arg;
    queued.fn = fn;
    return 0;
}
static void run_queued(void)
{
    void (*fn)(void *) = queued.fn;
    queued.fn = NULL;
    if (fn) fn(queued.arg);
}
static int submit_to_rival(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    submit_later(self, fn, arg);
    rival_comes(run_queued);            /* through, unless it sleeps, when submit returns */
    return 0;
}
static int submit_refused(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    (void)fn;
    (void)arg;
    return EAGAIN;
}
static cctx_executor_t executor;
static void plant_executor(int (*submit)(cctx_executor_t *, void (*)(void *), void *))
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
    executor.submit = submit;
    queued.fn = NULL;
}
static void register_on_executor(void) { CHECK(cctx_after_func_on(v, &cb, &executor, count_up, &ran) == 0); }
static void plant_to_register_later(void) { plant_executor(submit_later); }
static void plant_to_rival(void)
{
    plant_executor(submit_to_rival);
    register_on_executor();
}
static void plant_refused(void)
{
    plant_executor(submit_refused);
    register_on_executor();
}
static void plant_submitted(void)
{
    plant_executor(submit_later);
    register_on_executor();
    b_won = cctx_cancel(p);
    CHECK(queued.fn && ran == 0);
}
static void drop_v_and_p(void)
{
    cctx_unref(v);
    v = NULL;
    drop(&p);
    polls();
}
static void check_submitted_or_stopped(void)
{
    run_queued();
    CHECK(ran == !a_won && b_won);
    drop_all();
    CHECK(destroyed == 1);
}
static void check_submitted(void)
{
    run_queued();
    CHECK(ran == 1);
    drop_all();
    CHECK(destroyed == 1);
}
/* The other one runs the queue, when it comes or while this one waits. */
static void stop_wait_for_queue(void)
{
    in_sleep = run_queued;
    a_won = cctx_stop_wait(&cb);
    in_sleep = NULL;
    CHECK(ran == !a_won);
    memset(&cb, POISON, sizeof cb);
}

/* C28, C29, B0: submitted, it runs once, and keeps its context until then. */
static void a_callback_is_submitted_or_stopped_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"register, cancel, submit", 0, plant_to_register_later, register_on_executor, cancel_p, check_submitted, NULL},
        {"stop, cancel, to a rival", 0, plant_to_rival, stop_a, cancel_p, check_submitted_or_stopped, NULL},
        {"cancel, to a rival, stop", 0, plant_to_rival, cancel_p, stop_a, check_submitted_or_stopped, NULL},
        {"stop and wait, cancel, to a rival", 0, plant_to_rival, stop_wait_a, cancel_p, check_submitted_or_stopped, NULL},
        {"stop and wait, cancel, refused", 0, plant_refused, stop_wait_a, cancel_p, check_submitted_or_stopped, NULL},
        {"cancel, refused, stop and wait", 0, plant_refused, cancel_p, stop_wait_only, check_submitted_or_stopped, NULL},
        {"stop and wait, the queue", 0, plant_submitted, stop_wait_for_queue, run_queued, check_submitted, NULL},
        {"the queue, the context goes", 0, plant_submitted, run_queued, drop_v_and_p, check_submitted, NULL},
        {"the context goes, the queue", 0, plant_submitted, drop_v_and_p, run_queued, check_submitted, NULL},
    };
    SWEEP(scenes);
}

static void stop_itself(void *arg)
{
    ++*(int *)arg;
    CHECK(!cctx_stop_wait(&cb));
    /* Another thread waits for the end of this function: it is still waiting. */
    CHECK(!b_won);
}
static bool waited;
static void wait_for_the_end(void)
{
    CHECK(!cctx_stop_wait(&cb));
    waited = true;
}
static void plant_self_stopper(void)
{
    plant_parent();
    waited = false;
    CHECK(cctx_after_func(p, &cb, stop_itself, &ran) == 0);
}
static void check_waited(void)
{
    CHECK(ran == 1 && waited);
    drop_all();
}
static void wait_or_stop(void)
{
    a_won = cctx_stop_wait(&cb);
    waited = true;
}
static void check_waited_or_stopped(void)
{
    CHECK(ran == !a_won && waited);
    drop_all();
}
static void the_rival_waits(void *arg)
{
    ++*(int *)arg;
    rival_comes(wait_for_the_end);
    CHECK(!waited);
    CHECK(!cctx_stop_wait(&cb));        /* from inside: returns, and takes nothing from who waits */
    CHECK(!waited);
}
static void plant_waited_for(void)
{
    plant_parent();
    waited = false;
    CHECK(cctx_after_func(p, &cb, the_rival_waits, &ran) == 0);
}

/* C29: a fn that gives its storage away keeps nobody waiting for ever. */
static void a_stop_from_inside_leaves_none_waiting(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"fn stops itself, another waits", 0, plant_self_stopper, cancel_p, wait_or_stop,
         check_waited_or_stopped, NULL},
        {"fn stops itself while another waits", 0, plant_waited_for, cancel_p, nothing, check_waited, NULL},
    };
    SWEEP(scenes);
}

/* ---- waits */

static void wait_p(void) { CHECK(cctx_wait(p) == ECANCELED); }
static void wait_in_time(void) { a_won = cctx_wait_until(p, fake_now + 50); }
static void expose_and_go_on(void) { CHECK(cctx_done(p)); }
static void wait_with_a_rival_in_sleep(void)
{
    in_sleep = cancel_p;
    wait_p();
}
static void plant_ready(void)
{
    plant_parent();
    in_sleep = NULL;
}
static void wait_timed_rival_waits(void) { CHECK(cctx_wait(p) == ECANCELED); }
static void check_no_count(void)
{
    CHECK(!a_won && sync_load_acq(&p->state, done) < DONE_WAITER);
    drop_all();
}
static void check_done_waits(void)
{
    in_sleep = NULL;
    CHECK(b_won && cctx_is_done(p));
    drop_all();
}
static void wait_then_cancel(void)
{
    wait_in_time();
    CHECK(!a_won);
    cancel_p();
}

/* C24, C25, D1: nobody oversleeps, and who has gone is not counted. */
static void a_waiter_is_woken_by_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"wait, canceled asleep", 0, plant_ready, wait_with_a_rival_in_sleep, expose_and_go_on,
         check_done_waits, NULL},
        {"wait, cancel", 0, plant_ready, wait_with_a_rival_in_sleep, cancel_p, check_done_waits, NULL},
        {"wait in time, cancel", 0, plant_ready, wait_in_time, cancel_p, check_done_waits, NULL},
        {"wait in time, the word is taken", 0, plant_ready, wait_in_time, expose_and_go_on, check_no_count,
         NULL},
        {"wait in time, another waits", 0, plant_ready, wait_then_cancel, wait_timed_rival_waits,
         check_done_waits, NULL},
    };
    SWEEP(scenes);
}

/* ---- time on a machine that says what it is */

/* C12 and look: a deadline that has passed and was not fired yet leaves no time, and no negative one. */
static void a_passed_deadline_leaves_no_time_before_it_is_fired(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_timeout(cctx_background(), 100);
    fake_now += 99;
    assert_int_equal(cctx_remaining(n), 1);
    fake_now += 1;
    assert_int_equal(cctx_remaining(n), 0);
    fake_now += 1000;
    assert_int_equal(cctx_remaining(n), 0);
    assert_int_equal(cctx_err(n), 0);
    cctx_unref(n);
}

static void whole_seconds_print_without_a_point(void **state)
{
    (void)state;
    static const struct {
        int64_t left;
        const char *text;
    } prints[] = {{0, "+0s"}, {CCTX_S(2), "+2s"}, {CCTX_S(-100), "-100s"}, {CCTX_MS(1500), "+1.5s"},
                  {-1, "-0.000000001s"}};
    for (size_t i = 0; i < sizeof prints / sizeof *prints; i++) {
        char text[100], expected[100];
        cctx_t *n = cctx_with_deadline(cctx_background(), fake_now + CCTX_S(200));
        snprintf(expected, sizeof expected, "cctx.Background.WithDeadline(%s)", prints[i].text);
        fake_now += CCTX_S(200) - prints[i].left;
        assert_int_equal(cctx_print(n, text, sizeof text), strlen(expected));
        assert_string_equal(text, expected);
        cctx_unref(n);
    }
}

/* C13, C27: a waiter fires the deadline of the ancestor that has it, whatever stands between, and not before
 * it. */
static void a_waiter_fires_the_deadline_where_it_is(void **state)
{
    (void)state;
    cctx_t *other = cctx_with_cancel(cctx_background());
    cctx_t *late = cctx_with_timeout(cctx_background(), CCTX_S(5000));
    for (int way = 0; way < 6; way++) {
        cctx_t *n = cctx_with_timeout(cctx_background(), 1000);
        const cctx_t *value = cctx_with_value(n, &key, &destroyed);
        const cctx_t *ways[6][3] = {{n, NULL, NULL},
                                    {cctx_background(), n, NULL},
                                    {other, value, NULL},
                                    {late, cctx_background(), value},
                                    {n, late, other},
                                    {late, n, cctx_background()}};
        size_t count = ways[way][2] ? 3 : ways[way][1] ? 2 : 1;
        cctx_t *merged = cctx_with_any(ways[way], count);
        cctx_t *below = cctx_with_cancel(merged);
        int64_t deadline = fake_now + 1000;
        runs_ahead = way % 2 != 0;
        assert_int_equal(cctx_wait(below), ETIMEDOUT);
        assert_true(fake_now == deadline);
        assert_int_equal(cctx_err(n), ETIMEDOUT);
        assert_int_equal(cctx_err(late), 0);
        cctx_unref(below);
        cctx_unref(merged);
        cctx_unref(value);
        cctx_unref(n);
    }
    cctx_unref(late);
    cctx_unref(other);
}

/* C26: neither a clock that runs ahead nor a sleep that ends by itself ends a wait before its time. */
static void a_wait_is_as_long_as_it_says(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_cancel(cctx_background());
    for (int way = 0; way < 4; way++) {
        int64_t until = fake_now + 100;
        runs_ahead = way % 2 != 0;
        spurious = way / 2 != 0;
        assert_false(cctx_wait_until(n, until));
        assert_true(fake_now == until);
        until += 100;
        spurious = way / 2 != 0;
        assert_false(cctx_wait_until(cctx_background(), until));
        assert_true(fake_now == until);
    }
    cctx_unref(n);
}

static void work(void)
{
    struct thread *t = thread_begin();
    if (fake_now >= timer_next(&node_timer)) timer_work(&node_timer, t, fake_now);
    thread_end(t);
}

/* C28: what could not be handed to a thread waits for the next that is handed over, and none is lost. */
static void callbacks_wait_for_a_runner_that_cannot_be_made(void **state)
{
    (void)state;
    cctx_t *n[2] = {cctx_with_timeout(cctx_background(), 100), cctx_with_timeout(cctx_background(), 200)};
    ran = ran2 = 0;
    memset(&cb, 0, sizeof cb);
    memset(&cb2, 0, sizeof cb2);
    assert_int_equal(cctx_after_func(n[0], &cb, count_up, &ran), 0);
    assert_int_equal(cctx_after_func(n[1], &cb2, count_up, &ran2), 0);
    no_service = true;
    fake_now += 100;
    work();
    assert_int_equal(cctx_err(n[0]), ETIMEDOUT);
    no_service = false;
    fake_now += 100;
    work();
    assert_int_equal(cctx_err(n[1]), ETIMEDOUT);
    assert_int_equal(ran + ran2, 0);
    service_comes("cctx-runner");
    assert_int_equal(ran, 1);
    assert_int_equal(ran2, 1);
    cctx_unref(n[0]);
    cctx_unref(n[1]);
    polls();
}

/* ---- guards */

static cctx_guard_t guard;
static bool inside_disarms, may_come;
static void interrupted(void *arg)
{
    CHECK(may_come);
    ++*(int *)arg;
    if (!inside_disarms) return;
    cctx_guard_disarm(&guard);
    memset(&guard, POISON, sizeof guard);
    inside_disarms = false;
}
static void plant_guard(void)
{
    plant_parent();
    inside_disarms = false;
    may_come = true;
    memset(&guard, 0, sizeof guard);
    CHECK(cctx_guard_arm(&guard, p, interrupted, &ran) == 0);
}
static void runner_comes(void) { service_comes("cctx-runner"); }
static void beat(void)
{
    fake_now += 100000000;
    work();
    runner_comes();
}
static void plant_guard_done(void)
{
    plant_guard();
    b_won = cctx_cancel(p);
    CHECK(ran == 1);
}
static void plant_guard_beating(void)
{
    plant_guard_done();
    runner_comes();
    CHECK(ran == 1);
}
static void plant_guard_due(void)
{
    plant_guard_beating();
    beat();
    CHECK(ran == 2);
    fake_now += 100000000;
    work();
}
static void plant_guard_inside(void)
{
    plant_guard();
    inside_disarms = true;
}
static void plant_guard_due_inside(void)
{
    plant_guard_due();
    inside_disarms = true;
}
static void disarm(void)
{
    cctx_guard_disarm(&guard);
    may_come = false;
    memset(&guard, POISON, sizeof guard);
}
static void time_passes(void) { fake_now += 100000000; }
static void check_disarmed(void)
{
    may_come = false;
    for (int i = 0; i < 3; i++) beat();
    for (size_t i = 0; i < sizeof guard; i++) CHECK(((unsigned char *)&guard)[i] == POISON);
    drop_all();
}
static void check_goes_on(void)
{
    runner_comes();
    for (int i = 0, before = ran; i < 3; i++, before = ran) {
        beat();
        CHECK(ran == before + 1);
    }
    disarm();
    check_disarmed();
}

/* B4: after the disarm nothing comes, and nothing is left. */
static void a_guard_is_disarmed_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"disarm, cancel", 0, plant_guard, disarm, cancel_p, check_disarmed, NULL},
        {"cancel, disarm", 0, plant_guard, cancel_p, disarm, check_disarmed, NULL},
        {"disarm, it begins", 0, plant_guard_done, disarm, runner_comes, check_disarmed, NULL},
        {"it begins, disarm", 0, plant_guard_done, runner_comes, disarm, check_disarmed, NULL},
        {"disarm, an interrupt", 0, plant_guard_due, disarm, runner_comes, check_disarmed, NULL},
        {"an interrupt, disarm", 0, plant_guard_due, runner_comes, disarm, check_disarmed, NULL},
        {"cancel, it disarms itself, it begins", 0, plant_guard_inside, cancel_p, runner_comes, check_disarmed, NULL},
        {"it disarms itself, time passes", 0, plant_guard_due_inside, runner_comes, work, check_disarmed, NULL},
        {"cancel, it begins", 0, plant_guard, cancel_p, runner_comes, check_goes_on, NULL},
        {"an interrupt, time passes", 0, plant_guard_due, runner_comes, time_passes, check_goes_on, NULL},
    };
    SWEEP(scenes);
}

/* What the runner finds no memory for: all cells are taken but so many, and none is to be had. */
enum { HOARD = 4000 };
static cctx_t *store[HOARD];
static int hoarded, leave;
static void hoard_at_first(void *arg)
{
    if (++*(int *)arg == 2) {           /* the first one on the runner */
        fail_in = -1;
        while ((store[hoarded] = cctx_with_cancel(cctx_background())) != NULL) CHECK(++hoarded < HOARD);
        for (int i = 0; i < leave; i++) cctx_unref(store[--hoarded]);
    } else {
        fail_in = 0;
        while (hoarded > 0) cctx_unref(store[--hoarded]);
    }
}
/* B4: no memory for the next one: the runner waits, and comes again. */
static void without_memory_the_runner_waits_for_the_next_interrupt_itself(void **state)
{
    (void)state;
    static const struct scene one = {"no memory", 0, NULL, NULL, NULL, NULL, NULL};
    scene = &one;
    for (leave = 0; leave < 2; leave++) {
        plant_parent();
        CHECK(cctx_guard_arm(&guard, p, hoard_at_first, &ran) == 0);
        CHECK(cctx_cancel(p) && ran == 1);
        runner_comes();
        CHECK(ran == 1);
        rests = 0;
        int64_t before = fake_now + 100000000;
        beat();
        CHECK(rests == 1 && ran == 3 && hoarded == 0 && fake_now >= before + 2000000);
        rests = -1;
        beat();
        CHECK(ran == 4);
        disarm();
        check_disarmed();
    }
    scene = NULL;
}

/* B4: where it waits, a disarm wakes it. */
static void a_runner_that_waits_for_an_interrupt_is_woken_by_the_disarm(void **state)
{
    (void)state;
    static const struct scene one = {"no memory, disarm", 0, NULL, NULL, NULL, NULL, NULL};
    scene = &one;
    leave = 0;
    plant_parent();
    CHECK(cctx_guard_arm(&guard, p, hoard_at_first, &ran) == 0);
    CHECK(cctx_cancel(p) && ran == 1);
    runner_comes();
    rests = 0;
    in_rest = disarm;
    beat();
    rivals_end();
    rests = -1;
    fail_in = 0;
    while (hoarded > 0) cctx_unref(store[--hoarded]);
    check_disarmed();
    CHECK(ran == 2);
    scene = NULL;
}

/* ---- two who fire at once */

static void plant_two_due(void)
{
    plant_parent();
    c[0] = cctx_with_timeout(cctx_background(), 100);
    c[1] = cctx_with_timeout(cctx_background(), 100);
    CHECK(cctx_after_func(c[0], &cb, count_up, &ran) == 0);
    CHECK(cctx_after_func(c[1], &cb2, count_up, &ran2) == 0);
    fake_now += 100;
}
static void fire_first(void) { deadline_fire(c[0]); }
static void fire_second(void) { deadline_fire(c[1]); }
static void check_both_run(void)
{
    service_comes("cctx-runner");
    CHECK(ran == 1 && ran2 == 1);
    drop(&c[0]);
    drop(&c[1]);
    drop_all();
}
static void plant_one_due(void)
{
    plant_parent();
    d = cctx_with_timeout_cause(p, 100, &cause_b);
    fake_now += 100;
}
static void fire_d(void) { deadline_fire(d); }
static void cancel_d(void) { a_won = cctx_cancel_cause(d, &cause_a); }
static void check_fired_or_canceled(void)
{
    CHECK(cctx_err(d) == (a_won ? ECANCELED : ETIMEDOUT) && cctx_cause(d) == (a_won ? &cause_a : &cause_b));
    drop_all();
}
static void drop_d(void) { drop(&d); }

/* C1, C9, C28: deadlines that come at once hand over all their callbacks; a deadline and a cancel are not
 * both. */
static void deadlines_come_among_others(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"two deadlines", 0, plant_two_due, fire_first, fire_second, check_both_run, NULL},
        {"a deadline, a cancel", 0, plant_one_due, fire_d, cancel_d, check_fired_or_canceled, NULL},
        {"a cancel, a deadline", 0, plant_one_due, cancel_d, fire_d, check_fired_or_canceled, NULL},
        {"a deadline, its context goes", 0, plant_one_due, work, drop_d, drop_all, NULL},
        {"a context goes, its deadline", 0, plant_one_due, drop_d, work, drop_all, NULL},
        {"a context goes, its deadline stays", 0, plant_one_due, drop_d, work, drop_all, rival_pauses},
    };
    SWEEP(scenes);
}

/* ---- the timer */

enum { ITEMS = 600 };
struct item {
    int64_t deadline;
    sync_ptr *slot;
    int fired;
    bool dying;                 /* its last reference is gone, and it is not disarmed yet */
    int pinned;
} __attribute__((aligned(8)));
static struct item items[ITEMS];
static struct timer timer;
static int64_t timer_now;

static int64_t item_key(uintptr_t occupant) { return ((struct item *)occupant)->deadline; }
static bool item_pin(uintptr_t occupant)
{
    struct item *item = (struct item *)occupant;
    item->pinned += !item->dying;
    return !item->dying;
}
static void item_fire(uintptr_t occupant)
{
    struct item *item = (struct item *)occupant;
    CHECK(item->deadline <= timer_now && item->pinned-- > 0);
    item->fired++;
}
static const struct timer_ops ops = {item_key, item_pin, item_fire};

static bool arm_item(int i, int64_t left)
{
    struct thread *t = thread_begin();
    items[i] = (struct item){.deadline = timer_now + left};
    bool armed = timer_arm(&timer, t, (uintptr_t)&items[i], timer_now, items[i].deadline, &items[i].slot);
    if (!armed) items[i].slot = NULL;
    thread_end(t);
    return armed;
}
static void arm_items(int from, int to, int64_t left)
{
    for (int i = from; i < to; i++) CHECK(arm_item(i, left));
}
static void disarm_item(int i)
{
    if (items[i].slot) timer_disarm(items[i].slot);
    items[i].slot = NULL;
}
static size_t work_timer(void)
{
    struct thread *t = thread_begin();
    size_t fired = timer_work(&timer, t, timer_now);
    thread_end(t);
    return fired;
}
static void plant_timer(void)
{
    timer_now = 1000;
    memset(items, 0, sizeof items);
    memset(&timer, 0, sizeof timer);
    timer_init(&timer, &ops);
}
/* Lets time go on until nothing is armed that has not fired, and looks that each fired, in its time. (Where
 * the last occupant of its slot had the same deadline it may be told twice: a node is canceled once.) */
static void check_items(void)
{
    for (int64_t next; (next = timer_next(&timer)) != INT64_MAX;) {
        for (int i = 0; i < ITEMS; i++)
            CHECK(!items[i].slot || items[i].dying || items[i].fired > 0 || items[i].deadline >= next);
        if (next > timer_now) timer_now = next;
        work_timer();
    }
    for (int i = 0; i < ITEMS; i++) CHECK(!items[i].slot || items[i].dying || items[i].fired > 0);
    for (int i = 0; i < ITEMS; i++) disarm_item(i);
    for (int i = 0; i < TIMER_TIERS; i++) {
        roster_free((struct roster *)sync_load_relaxed(&timer.tier[i].set, unpublished));
        /* A directory begins with the link to the next. */
        sync_ptr *g = (sync_ptr *)sync_load_relaxed(&timer.tier[i].directories, unpublished);
        for (sync_ptr *next; g; g = next) {
            next = (sync_ptr *)sync_load_relaxed(g, unpublished);
            alloc_put(g);
        }
    }
    alloc_put(timer.heap);
}
static void plant_timer_armed(void)
{
    plant_timer();
    arm_items(0, 6, 500);
}
static void plant_timer_worked(void)
{
    plant_timer();
    arm_items(0, 9, 500);
    work_timer();
}
static void plant_timer_due(void)
{
    plant_timer_worked();
    arm_items(9, 12, 400);
    timer_now += 500;
}
static void plant_timer_forked(void)
{
    plant_timer_worked();
    alloc_put(timer.heap);              /* the library leaves it, as it may be in the middle of a change */
    timer_forked(&timer);
}
static void plant_timer_stale(void)
{
    plant_timer_worked();
    for (int i = 0; i < 7; i++) disarm_item(i);
    arm_items(50, 54, 500);             /* by slots and times as those that are stale */
    timer_now += 10;
}
static void arm_near(void) { CHECK(arm_item(20, 300)); }
static void arm_nearer(void) { CHECK(arm_item(21, 200)); }
static void arm_many(void) { arm_items(30, 40, 100); }
static void arm_far(void) { CHECK(arm_item(22, CCTX_S(2))); }
static void arm_less_far(void) { CHECK(arm_item(23, CCTX_S(2) - 1)); }
static void work_only(void) { work_timer(); }
static void plant_timer_far(void)
{
    plant_timer();
    arm_items(0, 3, CCTX_S(2));
    arm_items(3, 6, CCTX_MS(2200));
    arm_items(6, 9, CCTX_S(20));
    timer_now += CCTX_S(2);
}
static void disarm_some(void)
{
    for (int i = 0; i < 12; i += 2) disarm_item(i);
}
static void disarm_and_arm(void)
{
    long scarce = fail_in;
    fail_in = 0;
    disarm_some();                      /* others take their slots: an item is not used again in a section */
    for (int i = 0; i < 12; i += 2) CHECK(arm_item(100 + i, 500));
    fail_in = scarce;
}
static void disarm_all(void)
{
    for (int i = 0; i < ITEMS; i++) disarm_item(i);
}
static void some_die(void)
{
    for (int i = 0; i < 12; i += 3) items[i].dying = true;
}
static void work_without_memory(void)
{
    fail_in = -1;
    work_timer();
    fail_in = 0;
}

/* T1, T2, T3: each deadline fires and not before its time, whoever arms, disarms, works or dies between. */
static void the_timer_keeps_its_times_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"the first two", 0, plant_timer, arm_near, arm_nearer, check_items, NULL},
        {"the first and many", 0, plant_timer, arm_near, arm_many, check_items, NULL},
        {"one more and many", 0, plant_timer_armed, arm_near, arm_many, check_items, NULL},
        {"two far", 0, plant_timer, arm_far, arm_less_far, check_items, NULL},
        {"one far more", 0, plant_timer_armed, arm_far, arm_less_far, check_items, NULL},
        {"arm, work", 0, plant_timer_armed, arm_near, work_only, check_items, NULL},
        {"work, arm", 0, plant_timer_armed, work_only, arm_near, check_items, NULL},
        {"work, arm far", 0, plant_timer_armed, work_only, arm_less_far, check_items, NULL},
        {"work, disarm", 0, plant_timer_armed, work_only, disarm_some, check_items, NULL},
        {"work, disarm all", 0, plant_timer_armed, work_only, disarm_all, check_items, NULL},
        {"work, disarm and arm", 0, plant_timer_armed, work_only, disarm_and_arm, check_items, NULL},
        {"work with due ones, disarm", 0, plant_timer_due, work_only, disarm_some, check_items, NULL},
        {"work with due ones, some die", 0, plant_timer_due, work_only, some_die, check_items, NULL},
        {"work with stale ones, disarm", 0, plant_timer_stale, work_only, disarm_some, check_items, NULL},
        {"work with stale ones, disarm all", 0, plant_timer_stale, work_only, disarm_all, check_items, NULL},
        {"work with stale ones, disarm and arm", 0, plant_timer_stale, work_only, disarm_and_arm,
         check_items, NULL},
        {"work after a fork, disarm", 0, plant_timer_forked, work_only, disarm_some, check_items, NULL},
        {"work far without memory, disarm", 0, plant_timer_far, work_without_memory, disarm_some,
         check_items, NULL},
        {"work far, arm far", 0, plant_timer_far, work_only, arm_less_far, check_items, NULL},
        {"work without memory, disarm", 0, plant_timer_armed, work_without_memory, disarm_some, check_items,
         NULL},
        {"work without memory, disarm and arm", 0, plant_timer_armed, work_without_memory, disarm_and_arm,
         check_items,
         NULL},
    };
    SWEEP(scenes);
}

/* T3: an earlier deadline wakes the role, a later one lets it sleep. */
static void an_earlier_deadline_wakes_the_role(void **state)
{
    (void)state;
    plant_timer();
    wakes = 0;
    const struct {
        int64_t left;
        long wakes;
    } arms[] = {{CCTX_S(100), 1}, {CCTX_S(200), 1}, {CCTX_S(2), 2}, {CCTX_S(2), 2},
                {500, 3}, {501, 3}, {499, 4}};
    for (int i = 0; i < 7; i++) {
        assert_true(arm_item(i, arms[i].left));
        assert_int_equal(wakes, arms[i].wakes);
        assert_true(timer_next(&timer) <= timer_now + arms[i].left);
    }
    check_items();
}

/* T4, C14: what was disarmed leaves the heap, whose memory is given back, if that can be; else later. */
static void the_heap_gives_back_what_was_disarmed(void **state)
{
    (void)state;
    enum { LIVE = ITEMS / 2 };
    for (int scarce = 0; scarce < 2; scarce++) {
        plant_timer();
        arm_items(0, ITEMS, CCTX_MS(5));
        work_timer();
        assert_int_equal(timer.count, ITEMS);
        for (int i = 0; i < ITEMS; i++) disarm_item(i);
        size_t most = 0;
        for (bool full = false; !full;) {
            for (int i = 0; i < LIVE; i++) disarm_item(i);
            arm_items(0, LIVE, CCTX_MS(4));             /* these are on top, and keep the stale ones */
            full = timer.count + LIVE > timer.limit;
            most = timer.capacity;
            fail_in = full && scarce ? -1 : 0;
            work_timer();
            fail_in = 0;
        }
        assert_int_equal(timer.count, LIVE);
        size_t least = timer.capacity;
        for (bool full = false; !full; work_timer()) {  /* and once more: who lives stays */
            for (int i = LIVE; i < ITEMS; i++) disarm_item(i);
            arm_items(LIVE, ITEMS, CCTX_MS(5));
            full = timer.count + LIVE > timer.limit;
        }
        assert_int_equal(timer.count, ITEMS);
        assert_true(scarce ? least == most : least < most);
        check_items();
    }
}

/* ---- cells */

enum { CELLS = 400, PAGE_CELLS = CELL_END - 1 };
static struct magazine mag_a, mag_b, mag_c;
static void *held[CELLS];
static unsigned pages_before;

static void give_all(void)
{
    for (int i = 0; i < CELLS; i++)
        if (held[i]) {
            cell_put(&mag_c, held[i]);
            held[i] = NULL;
        }
    cell_drain(&mag_a);
    cell_drain(&mag_b);
    cell_drain(&mag_c);
}
/* Each cell is in use once: what is written to it stays. */
static void check_cells(void)
{
    for (int i = 0; i < CELLS; i++)
        if (held[i]) memset(held[i], i & 127, CELL_SIZE);
    for (int i = 0; i < CELLS; i++)
        for (int b = 0; held[i] && b < CELL_SIZE; b++) CHECK(((char *)held[i])[b] == (i & 127));
    give_all();
    CHECK(cell_pages() == pages_before);
}
static void plant_cells(void)
{
    pages_before = cell_pages();
    memset(&mag_a, 0, sizeof mag_a);
    mag_b = mag_c = mag_a;
}
static void take(struct magazine *m, int from, int to)
{
    for (int i = from; i < to; i++) CHECK((held[i] = cell_get(m)) != NULL);
}
/* Three pages with cells of both in each; the rest is given back. */
static void plant_shared_cells(void)
{
    plant_cells();
    for (int i = 0; i < 9; i++) take(i % 2 ? &mag_a : &mag_c, i, i + 1);
    for (int i = 0; i < 9; i += 3) {
        cell_put(&mag_b, held[i]);
        held[i] = NULL;
    }
}
static void plant_given_cells(void)
{
    plant_shared_cells();
    cell_drain(&mag_a);
    cell_drain(&mag_b);
    cell_drain(&mag_c);
}
static void take_a(void) { take(&mag_a, 20, 24); }
static void take_b(void) { take(&mag_b, 30, 36); }
static void give(struct magazine *m, int i)
{
    if (held[i]) cell_put(m, held[i]);
    held[i] = NULL;
    cell_drain(m);
}
static void give_first(void) { give(&mag_a, 1); }
static void give_rest(void)
{
    for (int i = 2; i < 9; i++) give(&mag_b, i);
}
static void take_and_give_b(void)
{
    take(&mag_b, 30, 36);
    for (int i = 30; i < 36; i++) give(&mag_b, i);
}
static void take_c(void) { take(&mag_c, 40, 43); }

/* The three cells of one page. */
static void plant_one_page(void)
{
    plant_cells();
    for (int i = 100;; i++) {           /* others have left some cells of theirs on the shelves */
        take(&mag_b, i, i + 1);
        if (mag_b.count < PAGE_CELLS - 1) continue;
        held[0] = held[i];
        held[i] = NULL;
        break;
    }
    take(&mag_b, 1, PAGE_CELLS);
}
static void give_one_of_page(void) { give(&mag_a, 0); }
static void give_others_of_page(void)
{
    for (int i = 1; i < PAGE_CELLS; i++) give(&mag_b, i);
}
static void take_one(void) { take(&mag_c, 40, 41); }

static const struct scene first_shelf = {
    "the first shelf", 0, plant_cells, take_a, take_b, check_cells, NULL};
static const struct scene first_cells = {
    "the first page on a shelf", 0, plant_shared_cells, give_first, take_and_give_b, check_cells, NULL};

/* Claims C1, C2, C3: a cell is in one place, and a page that is whole goes back. */
static void a_cell_is_in_one_place_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"take, take", 0, plant_given_cells, take_a, take_b, check_cells, NULL},
        {"take new ones, take", 0, plant_cells, take_a, take_b, check_cells, NULL},
        {"take, give", 0, plant_given_cells, take_a, give_rest, check_cells, NULL},
        {"take, take and give", 0, plant_given_cells, take_a, take_and_give_b, check_cells, NULL},
        {"give, give", 0, plant_shared_cells, give_first, give_rest, check_cells, NULL},
        {"give, take", 0, plant_shared_cells, give_first, take_b, check_cells, NULL},
        {"give the rest, take", 0, plant_given_cells, give_rest, take_b, check_cells, NULL},
        {"give of one page, give the rest", 0, plant_one_page, give_one_of_page, give_others_of_page,
         check_cells,
         take_one},
        {"give, give and take", 0, plant_shared_cells, give_first, give_rest, check_cells, take_c},
        {"take, take, give", 0, plant_given_cells, take_a, take_b, check_cells, give_rest},
    };
    SWEEP(scenes);
}

/* Shelves are added when there are too few places, and when those that are free were taken meanwhile. */
enum { SHELF = 58, SHELF_LIMIT = SHELF / 8 * 7 };
static int taken;

static void take_page(void)
{
    struct magazine m = {0};
    for (int i = 0; i < PAGE_CELLS; i++) CHECK((held[taken + i] = cell_get(&m)) != NULL);
    CHECK(m.count == 0);
    taken += PAGE_CELLS;
}
static int depth;
static void take_page_while_others_do(void)
{
    if (--depth > 0) expect_in("shelf_hint", take_page_while_others_do);
    struct magazine m = {0};
    void *cell = cell_get(&m);
    CHECK(cell);
    met();
    held[taken++] = cell;
    while (m.count > 0) held[taken++] = m.cell[--m.count];
}
static void places_run_out(void *arg)
{
    (void)arg;
    while (taken < (SHELF_LIMIT - 1) * PAGE_CELLS) take_page();
    CHECK(cell_pages() == SHELF_LIMIT - 1);
    long before = live_blocks;
    depth = SHELF - (SHELF_LIMIT - 1) + 1;
    int more = depth;
    take_page_while_others_do();
    CHECK(depth == 0 && live_blocks == before + more + 1);      /* the pages, and a shelf */
    check_cells();
}
static void give_page(int page)
{
    for (int i = page * PAGE_CELLS; i < (page + 1) * PAGE_CELLS; i++) give(&mag_b, i);
}
static void a_shelf_fills_up(void *arg)
{
    (void)arg;
    while (taken < 2 * SHELF_LIMIT * PAGE_CELLS) take_page();
    CHECK(live_blocks == 2 * SHELF_LIMIT + 2);          /* the pages, and two shelves */
    for (int page = SHELF_LIMIT; page < SHELF_LIMIT + 20; page++) give_page(page);
    give_page(3);                                       /* where the search begins now */
    CHECK(live_blocks == 2 * SHELF_LIMIT - 21 + 2);
    for (int i = 0; i < 21; i++) take_page();
    CHECK(live_blocks == 2 * SHELF_LIMIT + 2);
    check_cells();
}

static void pages_find_places_or_make_them(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(places_run_out, NULL), 0);
    assert_int_equal(run_in_child(a_shelf_fills_up, NULL), 0);
    sweep_anew(&first_shelf);
    sweep_anew(&first_cells);
}

/* ---- records */

static void use_a_record(void)
{
    struct thread *t = thread_begin();
    CHECK(t && t->transient == 0 && !t->inside);
    t->inside = true;                   /* as its owner's mark */
    CHECK(thread_begin() == t);
    t->inside = false;
    thread_end(t);
}
/* And keeps it while the other goes on. */
static void hold_a_record(void)
{
    struct thread *t = thread_begin();
    CHECK(t && !t->inside);
    t->inside = true;
    rival_yields();
    CHECK(t->inside);
    t->inside = false;
    thread_end(t);
}
static struct thread *own;
static void plant_record(void) { own = thread_begin(); }
static void first_use_between(void)
{
    expect(hold_a_record, nth);
    use_a_record();
    first_came = met();
}
static bool between;
static void first_use(void)
{
    first_use_between();
    between = first_came;
}
static bool one_is_idle;
static void two_first_uses(void *arg)
{
    nth = *(long *)arg;
    plant_record();
    if (one_is_idle) rival_comes(use_a_record);
    rival_comes(first_use);
    rivals_end();
    if (!between) _exit(1);
}
static void two_threads_have_two_records(void **state)
{
    (void)state;
    for (int idle = 0; idle < 2; idle++) {
        one_is_idle = idle;
        int status = 0;
        for (long n = 1; status == 0; n++) {
            status = run_in_child(two_first_uses, &n);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        }
    }
}

static void nested_calls_without_memory(void)
{
    struct thread *t = thread_begin();
    CHECK(t->transient == 1);
    if (--depth > 0) rival_comes(nested_calls_without_memory);
    struct thread *again = thread_begin();
    CHECK(again == t && t->transient == 2);
    thread_end(again);
    thread_end(t);
    CHECK(thread_current == NULL);
}
static void more_calls_than_reserves(void *arg)
{
    (void)arg;
    fail_in = -1;
    depth = 12;
    rival_comes(nested_calls_without_memory);
    rivals_end();
    CHECK(depth == 0);
}
static void calls_without_memory_wait_for_a_reserve(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(more_calls_than_reserves, NULL), 0);
}

/* Calls of fn nest in the one that runs it. */
static void call_inside(void *arg)
{
    ++*(int *)arg;
    CHECK(thread_current != NULL && thread_current->transient == 1);
    cctx_unref(cctx_with_value(p, &key, &destroyed));
    cctx_unref(cctx_with_cancel(p));
    CHECK(!cctx_stop(&cb2));
    CHECK(thread_current != NULL && thread_current->transient == 1);
}
static void no_key_and_a_tree(void *arg)
{
    (void)arg;
    p = cctx_with_cancel(cctx_background());
    CHECK(p && thread_current == NULL);
    CHECK(cctx_after_func(p, &cb, call_inside, &ran) == 0);
    cctx_t *n = cctx_with_cancel(p);
    CHECK(cctx_cancel(p) && cctx_is_done(n) && ran == 1 && destroyed == 1 && thread_current == NULL);
    cctx_unref(n);
    cctx_unref(p);
    polls();
    CHECK(epoch_limbo() == 0 && cell_pages() == 0);
}
static bool no_key, no_specific;
int __real_pthread_key_create(pthread_key_t *made, void (*destructor)(void *));
int __wrap_pthread_key_create(pthread_key_t *made, void (*destructor)(void *));
int __wrap_pthread_key_create(pthread_key_t *made, void (*destructor)(void *))
{
    return no_key ? EAGAIN : __real_pthread_key_create(made, destructor);
}
int __real_pthread_setspecific(pthread_key_t of, const void *value);
int __wrap_pthread_setspecific(pthread_key_t of, const void *value);
int __wrap_pthread_setspecific(pthread_key_t of, const void *value)
{
    return no_specific ? ENOMEM : __real_pthread_setspecific(of, value);
}
/* A thread that could not give its record back at its end takes one for each call, and keeps nothing. */
static void without_a_key_each_call_takes_a_record_and_gives_it_back(void **state)
{
    (void)state;
    no_key = true;
    assert_int_equal(run_in_child(no_key_and_a_tree, NULL), 0);
    no_key = false;
    no_specific = true;
    assert_int_equal(run_in_child(no_key_and_a_tree, NULL), 0);
    no_specific = false;
}

static void retire_and_go(void)
{
    cctx_t *n = cctx_with_cancel(p);
    cctx_unref(n);
}
/* A thread leaves with what it retired while another is in a section. */
static void plant_left_behind(void)
{
    plant_parent();
    struct thread *t = thread_begin();
    epoch_enter(t);
    rival_comes(retire_and_go);
    epoch_leave(t);
    CHECK(epoch_limbo() > 0);
}
static void poll_once(void)
{
    for (int i = 0; i < 4; i++) epoch_poll(thread_begin());
}
/* Keeps its record, which may be the one that was left behind, until the other goes on. */
static void linger(void)
{
    struct thread *t = thread_begin();
    rival_yields();
    thread_end(t);
}
static void poll_as_rival(void)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 4; i++) epoch_poll(t);
    thread_end(t);
}

/* Claim E3: what a thread left behind is reclaimed by one of those that poll. */
static void what_a_thread_left_behind_is_reclaimed_once(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"poll, poll", 0, plant_left_behind, poll_once, poll_as_rival, drop_all, NULL},
        {"poll, another takes the record", 0, plant_left_behind, poll_once, linger, drop_all, NULL},
    };
    SWEEP(scenes);
}

/* ---- scarcity */

/* Takes all cells that can be had without the allocator, but one: then a context can be had, a family below
 * it not. */
static int hoard(void)
{
    struct thread *t = thread_begin();
    int n = 0;
    fail_in = -1;
    while (n < CELLS && (held[n] = cell_get(&t->cells)) != NULL) n++;
    if (n == 0) {
        fail_in = 0;
        held[n++] = cell_get(&t->cells);
        while (t->cells.count > 0) held[n++] = cell_get(&t->cells);
        fail_in = -1;
    }
    cell_put(&t->cells, held[--n]);
    return n;
}
static void give_hoard(int n)
{
    fail_in = 0;
    while (n > 0) cell_put(&thread_begin()->cells, held[--n]);
    memset(held, 0, sizeof held);
}

/* C32: a derivation that finds no memory leaves its parent as it was, and that dies as any other does. */
static void a_parent_without_a_family_dies_of_its_last_handle(void **state)
{
    (void)state;
    for (int canceled = 0; canceled < 2; canceled++) {
        p = cctx_with_cancel(cctx_background());
        v = cctx_with_value(p, &key, &destroyed);
        destroyed = 0;
        int n = hoard();
        void *last = cell_get(&thread_begin()->cells);
        assert_int_equal(cctx_after_func(v, &cb, count_up, &ran), ENOMEM);
        cell_put(&thread_begin()->cells, last);
        errno = 0;
        assert_null(cctx_with_cancel(v));
        assert_int_equal(errno, ENOMEM);
        give_hoard(n);
        if (canceled) assert_true(cctx_cancel(p));
        cctx_unref(p);
        cctx_unref(v);
        polls();
        assert_int_equal(epoch_limbo(), 0);
        assert_int_equal(destroyed, 1);
    }
}

/* Where a wider roster cannot be had the narrow one serves. */
static void a_crowd_without_memory_shares_one_roster(void **state)
{
    (void)state;
    static const struct scene three = {"a crowd", 3, NULL, NULL, NULL, NULL, NULL};
    scene = &three;
    plant_crowd();
    struct magazine *cells = &thread_begin()->cells;
    cell_put(cells, cell_get(cells));   /* a cell for the child is there */
    failures = 0;
    fail_in = 1;
    d = cctx_with_cancel(p);
    fail_in = 0;
    assert_int_equal(failures, 1);
    assert_non_null(d);
    assert_true(cctx_cancel(p) && cctx_is_done(d));
    cctx_unref(d);
    d = NULL;
    drop_all();
    scene = NULL;
}

/* C16, C32: each allocation of each table fails once: then there is no table, and nothing is left of it. The
 * keys are numbers, so that the same ones share a path in each run. */
static void a_table_without_memory_is_not_made_and_leaves_nothing(void **state)
{
    (void)state;
    enum { TABLES = 60 };
    static struct table *tables[TABLES];
    static char values[TABLES];
    long deepest = 0;
    for (uintptr_t i = 0; i < TABLES; i++) {
        const struct table *base = i ? tables[i - 1] : NULL;
        const void *number = (const void *)(0x1000 + i * 16);
        tables[i] = alloc_get(table_size(base, number));
        long before = live_blocks, fails = 0;
        do {
            failures = 0;
            fail_in = ++fails;
            assert_true(table_make(NULL, tables[i], base, number, &values[i]) == (failures == 0));
            fail_in = 0;
            if (failures) assert_int_equal(live_blocks, before);
        } while (failures);
        if (fails > deepest) deepest = fails;
        for (uintptr_t j = 0; j < TABLES; j++)
            assert_ptr_equal(table_get(tables[i], (const void *)(0x1000 + j * 16)),
                             j <= i ? &values[j] : NULL);
    }
    assert_true(deepest > 3);           /* some path was of several pieces */
    for (int i = TABLES - 1; i >= 0; i--) {
        table_drop(NULL, tables[i]);
        alloc_put(tables[i]);
    }
}

/* Two ladders of merges, deeper than the walk's stack. C3, C7 */
enum { RUNGS = 9 };
static void a_deep_ladder_of_merges_needs_no_memory(void **state)
{
    (void)state;
    for (int scarce = 0; scarce < 3; scarce++) {
        cctx_t *top = cctx_with_cancel(cctx_background()), *side = cctx_with_cancel(cctx_background());
        cctx_t *rung[2][RUNGS], *below[2][RUNGS];
        for (int l = 0; l < 2; l++)
            for (int i = 0; i < RUNGS; i++) {
                cctx_t *above = i ? rung[l][i - 1] : top;
                rung[l][i] = cctx_with_any((const cctx_t *[]){side, above}, 2);
                below[l][i] = cctx_with_any((const cctx_t *[]){side, rung[l][i]}, 2);
                assert_non_null(below[l][i]);
            }
        cctx_t *leaf = cctx_with_cancel(below[0][RUNGS - 1]);
        fail_in = scarce == 0 ? 0 : scarce == 1 ? -1 : 2;
        failures = 0;
        assert_true(cctx_cancel_cause(top, &cause_a));
        assert_int_equal(failures > 0, scarce > 0);
        fail_in = 0;
        for (int l = 0; l < 2; l++)
            for (int i = 0; i < RUNGS; i++) {
                assert_ptr_equal(cctx_cause(rung[l][i]), &cause_a);
                assert_ptr_equal(cctx_cause(below[l][i]), &cause_a);
                cctx_unref(rung[l][i]);
                cctx_unref(below[l][i]);
            }
        assert_ptr_equal(cctx_cause(leaf), &cause_a);
        assert_int_equal(cctx_err(side), 0);
        cctx_unref(leaf);
        cctx_unref(side);
        cctx_unref(top);
        polls();
    }
}

/* ---- forks */

static void wait_without_a_timer(void *arg)
{
    cctx_t *n = arg;
    no_service = true;
    CHECK(cctx_err(n) == 0);
    CHECK(cctx_wait(n) == ETIMEDOUT && fake_now == n->deadline);
    no_service = false;
    CHECK(!cctx_wait_for(cctx_background(), 10));
}
/* C23, C27: in the child of a fork a waiter fires the deadline that it waits for, with a timer thread or
 * without. */
static void a_waiter_in_the_child_needs_no_timer_thread(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_timeout(cctx_background(), 1000);
    assert_int_equal(run_in_child(wait_without_a_timer, n), 0);
    assert_int_equal(cctx_err(n), 0);
    cctx_unref(n);
}

static int forked_status;
static void fn_forks(void *arg)
{
    ++*(int *)arg;
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    forked_status = -1;
    if (pid > 0) CHECK(waitpid(pid, &forked_status, 0) == pid);
}
/* C23: a cancel that forks in a callback ends in the child with that callback; the others are the next
 * cancel's. */
static void a_callback_that_forks_leaves_the_rest_to_the_next_cancel(void **state)
{
    (void)state;
    static const struct scene one = {"a fork", 1, NULL, NULL, NULL, NULL, NULL};
    scene = &one;
    plant_parent();
    assert_int_equal(cctx_after_func(p, &cb, fn_forks, &ran), 0);
    assert_int_equal(cctx_after_func(c[0], &cb2, count_up, &ran2), 0);
    assert_true(cctx_cancel(p));
    if (forked_status == -1) {
        CHECK(ran == 1 && ran2 == 0);
        CHECK(!cctx_cancel(p));
        CHECK(ran == 1 && ran2 == 1);
        _exit(0);
    }
    assert_int_equal(forked_status, 0);
    assert_int_equal(ran, 1);
    assert_int_equal(ran2, 1);
    drop_all();
    scene = NULL;
}

/* The rival forks: in the child it is the one thread, and the other is gone where it was come between. */
static void in_a_fork(void (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        me = NULL;                      /* a sleep that nobody ends is seen */
        fn();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}
/* C29: after a stop_wait fn is not running, and never will. */
static void stop_and_cancel_in_child(void)
{
    bool stopped = cctx_stop_wait(&cb);
    int before = ran;
    CHECK(!stopped || before == 0);
    cctx_cancel(p);
    CHECK(cctx_is_done(p) && ran == before);
    CHECK(!cctx_stop(&cb) && !cctx_stop_wait(&cb));
    CHECK(ran == before);
    drop_all();
}
/* C23: nor does fn run twice when the cancel is finished in the child. */
static void cancel_and_stop_in_child(void)
{
    cctx_cancel(p);
    CHECK(cctx_is_done(p) && ran <= 1);
    int before = ran;
    CHECK(!cctx_stop_wait(&cb));
    CHECK(ran == before);
    drop_all();
}
static void fork_and_stop(void) { in_a_fork(stop_and_cancel_in_child); }
static void fork_and_cancel(void) { in_a_fork(cancel_and_stop_in_child); }
static void stop_in_time(void)
{
    a_won = cctx_stop_wait(&cb);
    CHECK(a_won && ran == 0);
}
static void check_stopped(void)
{
    CHECK(a_won && ran == 0);
    drop_all();
}
static void check_ran(void)
{
    CHECK(b_won && ran == 1);
    drop_all();
}

static void a_fork_amid_a_stop_or_a_cancel_leaves_none_waiting(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"stop, fork and stop", 0, plant_callback, stop_in_time, fork_and_stop, check_stopped, NULL},
        {"stop, fork and cancel", 0, plant_callback, stop_in_time, fork_and_cancel, check_stopped, NULL},
        {"stop on a value, fork and stop", 0, plant_callback_on_value, stop_in_time, fork_and_stop,
         check_stopped, NULL},
        {"cancel, fork and stop", 0, plant_callback, cancel_p, fork_and_stop, check_ran, NULL},
        {"cancel, fork and cancel", 0, plant_callback, cancel_p, fork_and_cancel, check_ran, NULL},
        {"cancel, a value, fork and stop", 0, plant_callback_on_value, cancel_p, fork_and_stop, check_ran,
         NULL},
    };
    SWEEP(scenes);
}

/* ---- signals */

static void async_p(void)
{
    a_won = cctx_cancel_async(p);
    CHECK(cctx_is_done(p));
}
static void async_d(void)
{
    b_won = cctx_cancel_async(d);
    CHECK(cctx_is_done(d));
}
static void plant_two_trees(void)
{
    plant_parent();
    d = cctx_with_cancel(cctx_background());
    v = cctx_with_cancel(d);
}
/* The rest is seen to: by this thread, and by the runner. */
static void see_to_the_rest(void)
{
    CHECK(callback_service());
    cancel_catch_up();
    runner_comes();
    rivals_end();
}
static void check_two_trees(void)
{
    CHECK(a_won && b_won);
    see_to_the_rest();
    CHECK(cctx_is_done(c[0]) && cctx_is_done(v));
    drop_all();
}
static void check_async_or_cancel(void)
{
    CHECK(a_won != b_won);
    see_to_the_rest();
    CHECK(cctx_is_done(c[0]));
    drop_all();
}
static void check_async_ran(void)
{
    CHECK(a_won != b_won);
    see_to_the_rest();
    CHECK(ran == 1);
    drop_all();
}

/* B2, C3, C28 */
static void a_cancel_in_a_handler_is_spread_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"cancel in a handler, and in another", 1, plant_two_trees, async_p, async_d, check_two_trees, NULL},
        {"cancel in a handler, cancel", 1, plant_parent, async_p, cancel_p, check_async_or_cancel, NULL},
        {"cancel, cancel in a handler", 1, plant_parent, cancel_p, async_p, check_async_or_cancel, NULL},
        {"cancel in a handler, cancel, a callback", 0, plant_callback, async_p, cancel_p, check_async_ran, NULL},
    };
    SWEEP(scenes);
}

static cctx_t *with_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    cctx_t *ctx = cctx_with_signals(cctx_background(), &set);
    CHECK(ctx != NULL);
    return ctx;
}
static void plant_signal(void)
{
    plant_parent();
    drop(&p);
    p = with_signal();
    d = with_signal();          /* the handler stays */
}
static void plant_signal_and_child(void)
{
    plant_signal();
    c[0] = cctx_with_cancel(p);
}
static void raise_it(void) { raise(SIGUSR1); }
static void drop_p_and_poll(void)
{
    drop(&p);
    polls();
}
static void drop_p_and_ask(void)
{
    drop_p_and_poll();
    v = with_signal();
}
static void ref_p(void) { v = cctx_ref(p); }
static void check_signaled(void)
{
    cancel_catch_up();
    CHECK(cctx_is_done(d) && (!p || cctx_is_done(p)));
    drop_all();
}
static void check_child_signaled(void)
{
    cancel_catch_up();
    CHECK(cctx_is_done(d) && (!c[0] || !p || cctx_is_done(c[0])));
    cctx_unref(c[0]);
    c[0] = NULL;
    drop_all();
}

/* B2, H1, H2, H3 */
static void a_signal_ends_a_context_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"a signal, its context goes", 0, plant_signal, raise_it, drop_p_and_poll, check_signaled, NULL},
        {"a signal, its context goes, another comes", 0, plant_signal, raise_it, drop_p_and_ask, check_signaled, NULL},
        {"a signal, a cancel", 0, plant_signal, raise_it, cancel_p, check_signaled, NULL},
        {"a signal, a reference", 0, plant_signal, raise_it, ref_p, check_signaled, NULL},
        {"a signal, a cancel, a child", 0, plant_signal_and_child, raise_it, cancel_p, check_child_signaled, NULL},
    };
    SWEEP(scenes);
}

static void *place_a, *place_b;
static void take_place_a(void) { place_a = handler_get(NULL); }
static void take_place_b(void) { place_b = handler_get(NULL); }
static void plant_place(void)
{
    plant_parent();
    drop(&p);
    handler_put(handler_get(NULL));
}
static void plant_no_place(void)
{
    plant_parent();
    drop(&p);
}
static void plant_no_place_left(void)
{
    plant_no_place();
    for (int i = 0; i < 32; i++) CHECK(handler_get(NULL));      /* in a child, which ends with them */
}
static void check_places(void)
{
    CHECK(place_a && place_b && place_a != place_b);
    handler_put(place_a);
    handler_put(place_b);
}

/* H2 */
static void two_that_ask_get_two_places(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"ask, ask", 0, plant_place, take_place_a, take_place_b, check_places, NULL},
    };
    static const struct scene anew = {"ask, ask, anew", 0, plant_no_place_left, take_place_a, take_place_b, check_places,
                                      NULL};
    SWEEP(scenes);
    sweep_anew(&anew);
}

static void ask_d(void) { d = with_signal(); }
static void use_signals_in_child(void)
{
    struct sigaction now;
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);  /* this thread was made by one that had them blocked */
    bool told = sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler != SIG_DFL;
    p = with_signal();
    raise(SIGUSR1);
    CHECK(cctx_is_done(p));
    drop(&p);
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && (now.sa_handler != SIG_DFL) == told);
}
static void fork_and_ask(void) { in_a_fork(use_signals_in_child); }
static void check_asked(void) { drop_all(); }

/* C23, H4: what a thread that is gone was about to ask for nobody asks for. */
static void a_fork_amid_asking_leaves_no_handler_behind(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"ask, fork and ask", 0, plant_no_place, ask_d, fork_and_ask, check_asked, NULL},
    };
    SWEEP(scenes);
}

static void stop_and_drop_all(void)
{
    CHECK(cctx_stop(&cb));
    drop_all();
}

/* C29, K4: in the child what a thread of its own is about is waited for, and what one of the parent's took is
 * not. */
static void a_stop_in_the_child_tells_the_living_from_the_gone(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"in a fork: cancel, stop and wait", 0, plant_callback, cancel_p, stop_wait_a, check_ran_or_stopped,
         rival_pauses},
        {"in a fork: stop, stop and wait", 0, plant_callback, stop_a, stop_wait_b, check_one_stopped,
         rival_pauses},
        {"in a fork: stop and wait, cancel", 0, plant_callback, stop_wait_a, cancel_p, check_ran_or_stopped,
         rival_pauses},
    };
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) sweep_in_forks(&scenes[i], stop_and_drop_all);
}

static pid_t fork_from_a_new_thread_pid;
static void fork_from_here(void)
{
    CHECK(thread_current == NULL);
    fork_from_a_new_thread_pid = fork();
    if (fork_from_a_new_thread_pid == 0) {
        CHECK(cctx_err(p) == 0 && cctx_cancel(p));
        cctx_unref(p);
        polls();
        CHECK(epoch_limbo() == 0);
        _exit(0);
    }
}
/* C23: a thread that never called the library may fork. */
static void a_thread_without_a_record_forks(void **state)
{
    (void)state;
    p = cctx_with_cancel(cctx_background());
    rival_comes(fork_from_here);
    int status = -1;
    assert_true(waitpid(fork_from_a_new_thread_pid, &status, 0) == fork_from_a_new_thread_pid);
    assert_int_equal(status, 0);
    cctx_unref(p);
}

/* ---- descriptors, and sleeps on a word and a context where there is no futex_waitv */

static int a_fd, b_fd;
static sync_u32 word;
static bool is_told(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0);
    return poll(&one, 1, 0) == 1 && one.revents == POLLIN;
}
static void plant_word(void)
{
    plant_parent();
    sync_store_relaxed(&word, 0u, owned);
}
static void ask_a(void) { a_fd = cctx_fd(p); }
static void ask_b(void) { b_fd = cctx_fd(p); }
static void check_one_descriptor(void)
{
    CHECK(a_fd == b_fd && !is_told(a_fd));
    cctx_cancel(p);
    CHECK(is_told(a_fd));
    drop_all();
    CHECK(!is_told(a_fd));
}
static void check_told(void)
{
    CHECK(is_told(a_fd));
    drop_all();
}
static int futex_wait_p(void) { return cctx_futex_wait(p, (const uint32_t *)(const void *)&word, 0); }
static void change(void) { sync_store_relaxed(&word, 1u, alone); }
static void change_and_wake(void)
{
    change();
    futex_wake(&word);
}
static void cancel_second(void) { cctx_cancel(c[1]); }
static void wait_for_either(void)
{
    size_t which = 9;
    in_sleep = cancel_second;
    CHECK(cctx_wait_any((const cctx_t *[]){c[0], c[1]}, 2, CCTX_NEVER, &which) == 0 && which == 1);
    in_sleep = NULL;
}

static void a_descriptor_and_a_wait_see_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"ask, ask", 0, plant_parent, ask_a, ask_b, check_one_descriptor, NULL},
        {"ask, cancel", 0, plant_parent, ask_a, cancel_p, check_told, NULL},
        {"wait for either, cancel", 2, plant_word, wait_for_either, cancel_second, drop_all, NULL},
    };
    SWEEP(scenes);
}

/* ---- domains */

static cctx_domain_t *own_domain, *other_domain;
static void plant_domain(void)
{
    own_domain = cctx_domain_new(NULL);
    CHECK(own_domain);
    p = cctx_with_cancel(cctx_domain_background(own_domain));
    for (unsigned i = 0; i < scene->children; i++) c[i] = cctx_with_cancel(p);
}
static void make_domain(void) { own_domain = cctx_domain_new(NULL); }
static void make_other_domain(void) { other_domain = cctx_domain_new(NULL); }
static void drop_first(void) { drop(&c[0]); }
static void drop_second(void) { drop(&c[1]); }
static void check_domain(void)
{
    drop_all();
    CHECK(cctx_domain_free(own_domain) == 0);
}
static void check_domains(void)
{
    CHECK(own_domain && other_domain && own_domain->index != other_domain->index);
    CHECK(cctx_domain_free(own_domain) == 0 && cctx_domain_free(other_domain) == 0);
}

static void domains_are_made_and_emptied_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"two domains are made", 0, nothing, make_domain, make_other_domain, check_domains, NULL},
        {"two retire to one home", 3, plant_domain, drop_first, drop_second, check_domain, NULL},
    };
    SWEEP(scenes);
}

/* B3, C27 */
static void ends_by_its_deadline(void *arg)
{
    (void)arg;
    p = cctx_with_timeout(cctx_background(), CCTX_S(7));
    CHECK(futex_wait_p() == ETIMEDOUT);
}
static void a_futex_wait_is_ended_by_a_wake_a_change_a_cancel_and_a_deadline(void **state)
{
    (void)state;
    static const struct scene none = {"a futex wait", 0, NULL, NULL, NULL, NULL, NULL};
    static const struct { void (*fn)(void); int result; } ends[] = {
        {change_and_wake, 0}, {change, 0}, {cancel_p, ECANCELED}};
    scene = &none;
    /* In a child, since its callback stays with a runner that does not run here. */
    assert_int_equal(run_in_child(ends_by_its_deadline, NULL), 0);
    for (int i = 0; i < 3; i++) {
        plant_word();
        drop(&p);
        p = cctx_with_timeout(cctx_background(), CCTX_S(7));
        in_sleep = ends[i].fn;
        CHECK(futex_wait_p() == ends[i].result);
        rivals_end();
        drop_all();
    }
    plant_word();
    no_service = true;
    p->deadline = CCTX_S(3600);         /* as in the child of a fork */
    CHECK(futex_wait_p() == EAGAIN);
    no_service = false;
    drop_all();
    polls();
    cell_drain(&thread_begin()->cells);
    scene = NULL;
}

static void a_domain_without_memory_is_not_made(void **state)
{
    (void)state;
    enum { TAKEN = 20 };                /* more than there are records that nobody has */
    cctx_domain_t *domains[TAKEN], *made;
    for (int i = 0; i < TAKEN; i++) domains[i] = cctx_domain_new(NULL);
    long before = live_blocks;
    for (long failing = 1;; failing++) {
        fail_in = failing;
        errno = 0;
        made = cctx_domain_new(NULL);
        fail_in = 0;
        if (made) break;
        assert_int_equal(errno, ENOMEM);
        assert_in_range(live_blocks - before, 0, 1);        /* a record is for ever */
        assert_in_range(failing, 1, 3);
    }
    assert_int_equal(cctx_domain_free(made), 0);
    for (int i = 0; i < TAKEN; i++) assert_int_equal(cctx_domain_free(domains[i]), 0);
}

#ifdef SYNC_SMALL
enum { SMALL = 1 };
#else
enum { SMALL = 0 };
#endif

/* ---- groups: B0, G2, G3 of src/group.c */

/* If it does not come between, it comes when the other sleeps. */
static void end_first_once(void)
{
    if (results == 0) end_first();
}
static void wait_until_it_ends(void)
{
    in_sleep = end_first_once;
    wait_for_group();
    in_sleep = NULL;
}
static void free_when_it_ends(void)
{
    in_sleep = end_first_once;
    free_group();
    in_sleep = NULL;
}
static void go_when_it_ends(void)
{
    in_sleep = end_first_once;
    go_third();
    in_sleep = NULL;
}

static void a_task_that_ends_lets_go_of_its_group_whoever_comes_between(void **state)
{
    (void)state;
    static const struct scene scenes[] = {
        {"a task ends, wait", 0, plant_task, end_first, wait_for_group, check_group_gone, NULL},
        {"wait, a task ends", 0, plant_task, wait_until_it_ends, end_first_once, check_group_gone, NULL},
        {"a task ends, free", 0, plant_task, end_first, free_group, check_group_gone, NULL},
        {"free, a task ends", 0, plant_task, free_when_it_ends, end_first_once, check_group_gone, NULL},
        {"a task ends, go at the limit", 0, plant_two_tasks, end_first, go_third, check_third, NULL},
        {"go at the limit, a task ends", 0, plant_two_tasks, go_when_it_ends, end_first_once, check_third, NULL},
        {"two tasks fail", 0, plant_two_tasks, end_first, end_second, check_two_ended, NULL},
    };
    SWEEP(scenes);
}

/* ---- arenas */

static struct arena arena;
static struct bindings bindings;
static cctx_shared_t *whole;
static uint64_t arena_token, arena_made[2];
static enum arena_state arena_seen;
static const cctx_t *arena_bound[2];
static bool arena_won[2];

/* Processes that are no more. */
static uint64_t arena_who(unsigned i) { return (uint64_t)i << PEER_NUMBER_BITS | (((uint64_t)1 << PEER_NUMBER_BITS) - 1); }

static uint64_t arena_claims(unsigned who, int64_t deadline)
{
    uint64_t token;
    return arena_claim(&arena, arena_who(who), deadline, &token) == 0 ? token : 0;
}

static void arena_begin(uint32_t capacity, int64_t deadline)
{
    static char memory[sizeof(struct arena_head) + 4 * sizeof(struct arena_slot)] __attribute__((aligned(64)));
    memset(memory, 0, sizeof memory);
    arena_make(&arena, memory, capacity);
    arena_token = arena_claims(1, deadline);
    CHECK(arena_token != 0);
    for (int i = 0; i < 2; i++) {
        arena_made[i] = 0;
        arena_bound[i] = NULL;
        arena_won[i] = false;
    }
}

static void arena_looks(void)
{
    struct arena_sight sight;
    arena_seen = arena_look(&arena, arena_token, &sight);
    if (arena_seen == ARENA_LIVE) CHECK(sight.owner == arena_who(1) && sight.deadline == CCTX_NEVER);
}
static void arena_claims_0(void) { arena_made[0] = arena_claims(2, CCTX_NEVER); }
static void arena_claims_1(void) { arena_made[1] = arena_claims(3, CCTX_NEVER); }
static void arena_claims_as_0(void) { arena_made[1] = arena_claims(2, CCTX_NEVER); }
static void arena_cancels_0(void) { arena_won[0] = arena_cancel(&arena, arena_token); }
static void arena_cancels_1(void) { arena_won[1] = arena_cancel(&arena, arena_token); }
static void arena_buries(void) { arena_bury(&arena, arena_who(1)); }
static void arena_is_used_again(void)
{
    arena_bury(&arena, arena_who(1));
    arena_made[1] = arena_claims(3, 77);
}
static void arena_is_damaged(void)
{
    atomic_store(&arena.slot[0].word.raw, UINT64_MAX);
}
static void arena_changes_hands(void)
{
    atomic_fetch_xor(&arena.slot[0].word.raw, (uint64_t)1 << 10);       /* the owner's place: no process does that */
}

/* The rival comes at each point of act in turn, and after the last. */
#define BETWEEN(act, rival, begin, ...) \
    do {                                \
        bool came = true;               \
        for (long n = 1; came; n++) {   \
            begin;                      \
            expect(rival, n);           \
            act();                      \
            came = met();               \
            if (!came) rival();         \
            __VA_ARGS__;                \
        }                               \
    } while (0)

/* S1 to S4 of arena.h. */
static void a_token_is_one_processs_whoever_comes_between(void **state)
{
    (void)state;
    BETWEEN(arena_claims_0, arena_claims_as_0, arena_begin(4, CCTX_NEVER),
            CHECK(arena_made[0] && arena_made[1] && arena_made[0] != arena_made[1]));
    BETWEEN(arena_claims_0, arena_claims_1, arena_begin(2, CCTX_NEVER), CHECK(arena_made[0] || arena_made[1]));
    BETWEEN(arena_claims_0, arena_claims_1, arena_begin(1, fake_now), CHECK(arena_made[0] || arena_made[1]));
    BETWEEN(arena_claims_0, arena_buries, arena_begin(2, CCTX_NEVER), CHECK(arena_made[0]));
    BETWEEN(arena_claims_0, arena_is_damaged, arena_begin(1, fake_now), arena_looks(); CHECK(arena_seen == ARENA_CORRUPT));
    BETWEEN(arena_cancels_0, arena_cancels_1, arena_begin(1, CCTX_NEVER), CHECK(arena_won[0] != arena_won[1]));
    BETWEEN(arena_cancels_0, arena_is_damaged, arena_begin(1, CCTX_NEVER), CHECK(!arena_cancel(&arena, arena_token)));
    BETWEEN(arena_looks, arena_is_used_again, arena_begin(1, CCTX_NEVER),
            CHECK(arena_seen == ARENA_LIVE || arena_seen == ARENA_DIED));
    BETWEEN(arena_looks, arena_changes_hands, arena_begin(1, CCTX_NEVER),
            CHECK(arena_seen == ARENA_LIVE || arena_seen == ARENA_CORRUPT));
    BETWEEN(arena_buries, arena_is_used_again, arena_begin(1, CCTX_NEVER),
            CHECK(arena_made[1] && arena_look(&arena, arena_made[1], &(struct arena_sight){0}) == ARENA_LIVE));
}

static void bindings_last(struct bindings *b) { (void)b; }
static void bindings_begin(void)
{
    arena_begin(1, CCTX_NEVER);
    bindings = (struct bindings){.arena = arena, .last = bindings_last, .roster = roster_new(NULL, 2, NULL, NULL, NULL)};
    sync_init(&bindings.refs, 1u);
}
static void bindings_bind(void) { arena_bound[0] = binding_new(&bindings, arena_token, CCTX_NEVER); }
static void bindings_drop(void) { cctx_unref(arena_bound[1]); }
static void bindings_scans(void) { bindings_scan(&bindings); }
static void bindings_ended(void)
{
    bindings_begin();
    arena_bound[1] = binding_new(&bindings, arena_token, CCTX_NEVER);
    arena_cancel(&arena, arena_token);
}
static void bindings_end(void)
{
    cctx_unref(arena_bound[0]);
    CHECK(sync_load_relaxed(&bindings.refs, stat) == 1);
    roster_free(bindings.roster);
    polls();
}

/* N1, N2 of binding.h. */
static void a_binding_misses_no_end_whoever_comes_between(void **state)
{
    (void)state;
    BETWEEN(bindings_bind, arena_cancels_0, bindings_begin(),
            bindings_scans(); CHECK(cctx_is_done(arena_bound[0])); bindings_end());
    BETWEEN(bindings_scans, bindings_drop, bindings_ended(), bindings_end());
    BETWEEN(bindings_scans, bindings_scans, bindings_ended(),
            CHECK(cctx_is_done(arena_bound[1])); bindings_drop(); bindings_end());
}

static void whole_binds(void)
{
    arena_bound[0] = cctx_with_shared(cctx_background(), whole, arena_token);
    CHECK(arena_bound[0]);
}
static void whole_binds_too(void)
{
    arena_bound[1] = cctx_with_shared(cctx_background(), whole, arena_token);
    CHECK(arena_bound[1]);
}
static pid_t whole_owner;
static void whole_begin(void)
{
    int ready[2];
    whole = cctx_shared_create(1);
    CHECK(whole && pipe(ready) == 0);
    whole_owner = fork();
    CHECK(whole_owner >= 0);
    if (whole_owner == 0) {             /* another process's, so that it is watched for */
        arena_token = cctx_shared_token(whole, CCTX_NEVER);
        CHECK(write(ready[1], &arena_token, sizeof arena_token) == sizeof arena_token);
        for (;;) pause();
    }
    CHECK(read(ready[0], &arena_token, sizeof arena_token) == sizeof arena_token);
    close(ready[0]);
    close(ready[1]);
}
static void whole_end(void)
{
    CHECK(cctx_shared_cancel(whole, arena_token));
    for (int i = 0; i < 2; i++) {
        while (!cctx_is_done(arena_bound[i])) poll(NULL, 0, 1);         /* its threads are none of the rivals */
        cctx_unref(arena_bound[i]);
    }
    cctx_shared_free(whole);
    kill(whole_owner, SIGKILL);
    CHECK(waitpid(whole_owner, NULL, 0) == whole_owner);
}

/* B5: two that bind first make one pair of eyes. */
static void an_arena_is_watched_once_whoever_comes_between(void **state)
{
    (void)state;
    if (TEST_TSAN) NOT_APPLICABLE("its threads are real ones, whose records the forks of other scenes take over");
    BETWEEN(whole_binds, whole_binds_too, whole_begin(), whole_end());
}

int main(void)
{
    watchdog(100);
    signal(SIGABRT, scene_tell);
    /* These are about sizes that only a small build has. */
    const struct CMUnitTest small_anew[] = {
        cmocka_unit_test(pages_find_places_or_make_them),
    };
    const struct CMUnitTest small[] = {
        cmocka_unit_test(a_cell_is_in_one_place_whoever_comes_between),
        cmocka_unit_test(the_heap_gives_back_what_was_disarmed),
        cmocka_unit_test(a_parent_without_a_family_dies_of_its_last_handle),
        cmocka_unit_test(a_deep_ladder_of_merges_needs_no_memory),
    };
    const struct CMUnitTest tests[] = {
        /* In processes that have not called the library yet. */
        cmocka_unit_test(two_threads_have_two_records),
        cmocka_unit_test(calls_without_memory_wait_for_a_reserve),
        cmocka_unit_test(without_a_key_each_call_takes_a_record_and_gives_it_back),

        cmocka_unit_test(a_derivation_among_others_has_a_slot_of_its_own),
        cmocka_unit_test(a_cancel_among_others_is_the_only_one_or_none),
        cmocka_unit_test(the_last_of_several_references_frees_it_once),
        cmocka_unit_test(a_callback_runs_or_is_stopped_whoever_comes_between),
        cmocka_unit_test(a_callback_is_submitted_or_stopped_whoever_comes_between),
        cmocka_unit_test(a_guard_is_disarmed_whoever_comes_between),
        cmocka_unit_test(without_memory_the_runner_waits_for_the_next_interrupt_itself),
        cmocka_unit_test(a_runner_that_waits_for_an_interrupt_is_woken_by_the_disarm),
        cmocka_unit_test(a_stop_from_inside_leaves_none_waiting),
        cmocka_unit_test(a_task_that_ends_lets_go_of_its_group_whoever_comes_between),
        cmocka_unit_test(a_waiter_is_woken_by_whoever_comes_between),
        cmocka_unit_test(a_futex_wait_is_ended_by_a_wake_a_change_a_cancel_and_a_deadline),
        cmocka_unit_test(a_descriptor_and_a_wait_see_whoever_comes_between),
        cmocka_unit_test(a_passed_deadline_leaves_no_time_before_it_is_fired),
        cmocka_unit_test(whole_seconds_print_without_a_point),
        cmocka_unit_test(a_waiter_fires_the_deadline_where_it_is),
        cmocka_unit_test(a_wait_is_as_long_as_it_says),
        cmocka_unit_test(callbacks_wait_for_a_runner_that_cannot_be_made),
        cmocka_unit_test(deadlines_come_among_others),
        cmocka_unit_test(the_timer_keeps_its_times_whoever_comes_between),
        cmocka_unit_test(an_earlier_deadline_wakes_the_role),
        cmocka_unit_test(what_a_thread_left_behind_is_reclaimed_once),
        cmocka_unit_test(a_crowd_without_memory_shares_one_roster),
        cmocka_unit_test(a_table_without_memory_is_not_made_and_leaves_nothing),
        cmocka_unit_test(a_waiter_in_the_child_needs_no_timer_thread),
        cmocka_unit_test(a_callback_that_forks_leaves_the_rest_to_the_next_cancel),
        cmocka_unit_test(a_fork_amid_a_stop_or_a_cancel_leaves_none_waiting),
        cmocka_unit_test(a_stop_in_the_child_tells_the_living_from_the_gone),
        cmocka_unit_test(a_cancel_in_a_handler_is_spread_whoever_comes_between),
        cmocka_unit_test(a_signal_ends_a_context_whoever_comes_between),
        cmocka_unit_test(two_that_ask_get_two_places),
        cmocka_unit_test(a_fork_amid_asking_leaves_no_handler_behind),
        cmocka_unit_test(a_thread_without_a_record_forks),
        cmocka_unit_test(a_token_is_one_processs_whoever_comes_between),
        cmocka_unit_test(a_binding_misses_no_end_whoever_comes_between),
        cmocka_unit_test(an_arena_is_watched_once_whoever_comes_between),
        cmocka_unit_test(domains_are_made_and_emptied_whoever_comes_between),
        cmocka_unit_test(a_domain_without_memory_is_not_made),
    };
    int failed = SMALL ? cmocka_run_group_tests_name("rival, in small, anew", small_anew, NULL, NULL) : 0;
    failed += cmocka_run_group_tests_name("rival", tests, NULL, NULL);
    if (SMALL) failed += cmocka_run_group_tests_name("rival, in small", small, NULL, NULL);
    return failed;
}
