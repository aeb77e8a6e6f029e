/* SPDX-License-Identifier: BSD-2-Clause */
/* scenarios: short races of two threads on a small tree: what stands before, what either does, what must hold
 * after. */
#ifndef CCTX_TEST_SCENARIOS_H
#define CCTX_TEST_SCENARIOS_H

#include "../support.h"
#include "../two_tasks.h"
#include "machine.h"

#include "callback.h"
#include "cancel.h"
#include "deadline.h"
#include "futex.h"
#include <cctx/wait.h>

#include <cctx/domain.h>
#include <cctx/executor.h>

enum { POISON = 0xdb };

enum { MANY = 70 };             /* children: more than stand inline and in one chunk */
static cctx_t *p, *again, *c[MANY], *d;
static const cctx_t *v;
static unsigned children;       /* before the race; a parameter of the scenarios */
static bool a_won, b_won;
static bool registered;         /* cb may be stopped */
static cctx_callback_t cb;
static int ran, destroyed;
static const cctx_cause_t cause_a = {1, "a"}, cause_b = {2, "b"};

static void destroy(void *value) { ++*(int *)value; }
static const cctx_key_t key = {"key", destroy};

/* fn sees what its context promises: everything below is done. */
static void call(void *arg)
{
    (void)arg;
    ran++;
    CHECK(cctx_is_done(p));
    for (unsigned i = 0; i < children; i++) CHECK(!c[i] || cctx_is_done(c[i]));
}

static void call_alone(void *arg)
{
    (void)arg;
    ran++;
}

static void polls(void)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 4; i++) epoch_poll(t);
    thread_end(t);
}

static void plant_parent(void)
{
    p = cctx_with_cancel(cctx_background());
    for (unsigned i = 0; i < children; i++) c[i] = cctx_with_cancel(p);
}

static void plant_grandchildren(void)
{
    plant_parent();
    for (unsigned i = 0; i + 1 < children; i += 2) {
        cctx_unref(c[i + 1]);
        c[i + 1] = cctx_with_cancel(c[i]);
    }
}

/* Whoever lets go of a handle has it no more when the call begins. */
static void drop(cctx_t **hand)
{
    cctx_t *ctx = *hand;
    *hand = NULL;
    cctx_unref(ctx);
}
static void drop_v(void)
{
    const cctx_t *ctx = v;
    v = NULL;
    cctx_unref(ctx);
}
static void drop_children(void)
{
    for (unsigned i = 0; i < children; i++) drop(&c[i]);
}
static void drop_all(void)
{
    drop_children();
    drop(&d);
    drop_v();
    drop(&p);
}

static void all_done(void)
{
    CHECK(cctx_is_done(p));
    for (unsigned i = 0; i < children; i++) CHECK(!c[i] || cctx_is_done(c[i]));
}

/* ---- derive against cancel. C3, I9 ---- */

static void derive(void) { d = cctx_with_cancel(p); }
static void cancel_all(void)
{
    a_won = cctx_cancel(p);
    all_done();
}
static void check_derived(void)
{
    CHECK(a_won);
    all_done();
    CHECK(cctx_err(d) == ECANCELED && cctx_cause(d) == &cctx_canceled);
    drop_all();
}

/* ---- two derivations: each child has a slot of its own. R1, I4 ---- */

static void derive_other(void) { v = cctx_with_cancel(p); }
static void check_two_derived(void)
{
    CHECK(v->slot != d->slot);
    cctx_cancel(p);
    CHECK(cctx_is_done(v) && cctx_is_done(d));
    drop_all();
}

/* ---- two cancels: when either returns, all is done; one has won. C1, C3, I8 ---- */

static void cancel_as_a(void)
{
    a_won = cctx_cancel_cause(p, &cause_a);
    all_done();
}
static void cancel_as_b(void)
{
    b_won = cctx_cancel_cause(p, &cause_b);
    all_done();
}
static void cancel_plainly(void)
{
    b_won = cctx_cancel(p);
    all_done();
}
static void check_one_won(void)
{
    const cctx_cause_t *cause = cctx_cause(p);
    CHECK(a_won != b_won);
    CHECK((cause == &cause_a) == a_won);
    for (unsigned i = 0; i < children; i++) CHECK(cctx_cause(c[i]) == cause);
    drop_all();
}

/* ---- cancel from above while one below cancels its own. C4 ---- */

static void cancel_below(void)
{
    cctx_cancel(c[0]);
    CHECK(cctx_is_done(c[0]) && cctx_is_done(c[1]));
}

static void check_all_done(void)
{
    all_done();
    drop_all();
}

/* ---- cancel while what it walks dies. I5, I10 ---- */

static void drop_as_b(void)
{
    drop_children();
    polls();
}
static void cancel_only(void) { a_won = cctx_cancel(p); }
static void check_canceled(void)
{
    CHECK(a_won && cctx_err(p) == ECANCELED);
    drop_all();
}

/* ---- the last handles of parent and children at once. I5, I6 ---- */

static void drop_parent(void)
{
    drop(&p);
    polls();
}
static void check_nothing(void) { drop_all(); }

/* ---- derive through a value context while the owner is closed; the value goes once. C17, I6 ---- */

static void plant_value(void)
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
}
static void derive_through_value(void)
{
    d = cctx_with_cancel(v);
    drop_v();
    drop(&d);
    polls();
}
static void check_destroyed(void)
{
    drop_all();
    CHECK(destroyed == 1);
}
static void drop_value(void)
{
    drop(&d);
    drop_v();
    polls();
}
static void plant_value_with_child(void)
{
    plant_value();
    d = cctx_with_cancel(v);
}

/* ---- a close of one handle while the other one derives, and lets go. C3 ---- */

static void plant_two_handles(void)
{
    plant_parent();
    cctx_ref(p);
    again = p;
}
static void close_one(void)
{
    cctx_t *ctx = p;
    p = NULL;
    cctx_close(ctx);
}
static void derive_and_let_go(void)
{
    d = cctx_with_cancel(again);
    drop(&again);
}
static void check_closed(void)
{
    CHECK(cctx_err(d) == ECANCELED);
    drop_all();
}

/* ---- callbacks: register, stop, stop and wait, against cancel. C28, C29, K1, K2, K3 ---- */

static void plant_callback(void)
{
    plant_parent();
    CHECK(cctx_after_func(p, &cb, call, NULL) == 0);
    registered = true;
}
/* On a context that was done by then it runs at once, whatever its cancel has still to do. */
static void register_it(void)
{
    CHECK(cctx_after_func(p, &cb, call_alone, NULL) == 0);
    registered = true;
}
static void check_ran_once(void)
{
    CHECK(ran == 1);
    CHECK(!cctx_stop_wait(&cb));
    drop_all();
}
static void stop_a(void) { a_won = cctx_stop(&cb); }
static void stop_b(void) { b_won = cctx_stop(&cb); }
static void cancel_b(void) { cctx_cancel(p); }
static void check_ran_or_stopped(void)
{
    CHECK(ran == !a_won);
    drop_all();
}
static void check_one_stopped(void)
{
    CHECK(a_won != b_won && ran == 0);
    drop_all();
}
/* The storage is the caller's when stop_wait returns: what the library writes there later is seen. */
static void stop_wait_and_poison(void)
{
    a_won = cctx_stop_wait(&cb);
    registered = false;
    CHECK(ran == !a_won);
    memset(&cb, 0, sizeof cb);
    memset(&cb, POISON, sizeof cb);
}
static void check_poisoned(void)
{
    const unsigned char *byte = (const unsigned char *)&cb;
    for (size_t i = 0; i < sizeof cb; i++) CHECK(byte[i] == POISON);
    CHECK(ran == !a_won);
    drop_all();
}
static void cancel_and_drop(void)
{
    cctx_cancel(p);
    drop_children();
    drop(&p);
    polls();
}
static void plant_callback_alone(void)
{
    plant_parent();
    CHECK(cctx_after_func(p, &cb, call_alone, NULL) == 0);
    registered = true;
}
static void cancel_in_part(void)
{
    b_won = cctx_cancel(p);
}
/* Two cancels and a callback: both return, the callback has run or is being run by the other one. */
static void check_ran_once_by_either(void)
{
    CHECK(ran == 1 && a_won != b_won);
    drop_all();
}

/* ---- callbacks by an executor: it is submitted or was stopped, and is waited for. B0, C29, K5 ---- */

static struct {
    void (*fn)(void *arg);
    void *arg;
} queued;
static int submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    queued.arg = arg;
    queued.fn = fn;
    return 0;
}
static cctx_executor_t executor = {submit};
static void plant_on_executor(void)
{
    plant_parent();
    queued.fn = NULL;
    CHECK(cctx_after_func_on(p, &cb, &executor, call_alone, NULL) == 0);
    registered = true;
}
static void register_on_executor(void)
{
    CHECK(cctx_after_func_on(p, &cb, &executor, call_alone, NULL) == 0);
    registered = true;
}
static void run_queue(void)
{
    void (*fn)(void *) = queued.fn;
    queued.fn = NULL;
    if (fn) fn(queued.arg);
}
/* The context's last handle goes before the queue is run. */
static void cancel_drop_and_run_queue(void)
{
    cctx_cancel(p);
    drop_children();
    drop(&p);
    polls();
    run_queue();
}
static void check_submitted_once(void)
{
    run_queue();
    check_ran_once();
}

/* ---- waits. C24, D1, I11 ---- */

static void wait_a(void) { CHECK(cctx_wait(p) == ECANCELED); }
static void wait_below(void) { CHECK(cctx_wait(c[0]) == ECANCELED); }
/* One who was stopped after its flip left the sleepers to whoever comes next. */
static void flip_and_cancel(void)
{
    done_flip(&p->state, 0);
    CHECK(!cctx_cancel(p));
}
static void wait_in_time(void) { a_won = cctx_wait_until(p, machine_now() + 50); }
static void check_waited(void)
{
    CHECK(cctx_is_done(p));
    drop_all();
}
static void nothing(void) {}
static void check_timed_out(void)
{
    CHECK(!a_won && sync_load_acq(&p->state, done) >> 24 == 0);
    drop_all();
}

/* ---- a futex and a choice that a context ends, where there is no futex_waitv. B3 ---- */

static sync_u32 word;
static int futex_wait_on_p(void) { return cctx_futex_wait(p, (const uint32_t *)(const void *)&word, 0); }
static void futex_wait_canceled(void) { CHECK(futex_wait_on_p() == ECANCELED); }
static void futex_wait_woken(void)
{
    while (sync_load_relaxed(&word, alone) == 0) CHECK(futex_wait_on_p() == 0);
}
static void change_and_wake(void)
{
    sync_store_relaxed(&word, 1u, alone);
    futex_wake(&word);
}
static void check_not_waited(void)
{
    CHECK(!cctx_is_done(p) && sync_load_acq(&p->state, done) >> 24 == 0);
    drop_all();
}
static void wait_for_either(void)
{
    size_t which = 9;
    CHECK(cctx_wait_any((const cctx_t *[]){c[0], c[1]}, 2, CCTX_NEVER, &which) == 0);
    CHECK(which == 1);
}
static void cancel_the_second(void) { cctx_cancel(c[1]); }

/* ---- descriptors: asked for by two, while it is canceled, and while it goes. C24 ---- */

static int a_fd, b_fd;
static bool is_told(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0);
    return poll(&one, 1, 0) == 1 && one.revents == POLLIN;
}
static void ask_a(void) { a_fd = cctx_fd(p); }
static void ask_below(void) { a_fd = cctx_fd(c[0]); }
static void ask_b_and_cancel(void)
{
    b_fd = cctx_fd(p);
    cctx_cancel(p);
    CHECK(is_told(b_fd));
}
static void check_told(void)
{
    CHECK(is_told(a_fd) && (b_fd == 0 || b_fd == a_fd));
    drop_all();
    CHECK(!is_told(a_fd));
}
static void ask_and_cancel_a(void)
{
    ask_a();
    cctx_cancel(p);
    CHECK(is_told(a_fd));
}
static void check_told_and_ran(void)
{
    CHECK(ran == 1);
    check_told();
}
static void plant_exposed(void)
{
    plant_parent();
    CHECK(cctx_done(p) != NULL);
}
static void ask_and_let_go(void)
{
    a_fd = cctx_fd(again);
    CHECK(a_fd >= 0);
    drop(&again);
}
static void check_given_back(void)
{
    drop_all();
    CHECK(!is_told(a_fd));
}

/* ---- deadlines: arm against the role; the role against the last reference. T2, T3, T4 ---- */

static void role(void)
{
    struct thread *t = thread_begin();
    if (machine_now() >= timer_next(&node_timer)) timer_work(&node_timer, t, machine_now());
    thread_end(t);
}
/* Works until the time given, as the timer thread would: no oftener than it must. */
static void role_until(int64_t end)
{
    while (timer_next(&node_timer) <= end) {
        if (timer_next(&node_timer) > machine_now()) machine_set_now(timer_next(&node_timer));
        role();
    }
    machine_set_now(end);
}
static void plant_timed(void)
{
    plant_parent();
    d = cctx_with_timeout(p, 1000);
}
static int64_t far;
static void arm(void) { v = cctx_with_timeout(p, far); }
static void role_now(void)
{
    role();
    CHECK(cctx_err(d) == 0);
}
static void role_due(void)
{
    machine_set_now(d->deadline);
    role();
    CHECK(cctx_err(d) == ETIMEDOUT);
}
static void check_fires(void)
{
    role_until(v->deadline - 1);
    CHECK(cctx_err(v) == 0);
    role_until(v->deadline);
    CHECK(cctx_err(v) == ETIMEDOUT);
    drop_all();
}
static void plant_due(void)
{
    plant_timed();
    role();
    machine_set_now(machine_now() + 1000);
}
static void drop_timed(void)
{
    drop(&d);
    polls();
}
static void role_of_the_dying(void) { role(); }

/* ---- a merge: two parents end at once; it dies while one ends. B1 ---- */

static void plant_merge(void)
{
    plant_parent();
    d = cctx_with_any((const cctx_t *[]){c[0], c[1], c[2]}, 3);
    v = cctx_with_cancel(d);
}
static void cancel_second(void)
{
    a_won = cctx_cancel_cause(c[1], &cause_a);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void cancel_third(void)
{
    b_won = cctx_cancel_cause(c[2], &cause_b);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void cancel_first(void)
{
    b_won = cctx_cancel_cause(c[0], &cause_b);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void check_merged(void)
{
    const cctx_cause_t *cause = cctx_cause(d);
    CHECK(a_won && b_won);
    CHECK(cause == &cause_a || cause == &cause_b);
    CHECK(cctx_cause(v) == cause);
    drop_all();
}
static void drop_merge(void)
{
    drop_v();
    drop(&d);
    polls();
}
static void cancel_second_only(void) { a_won = cctx_cancel(c[1]); }
static void merge(void) { d = cctx_with_any((const cctx_t *[]){c[0], c[1]}, 2); }
static void check_merge_done(void)
{
    CHECK(a_won && cctx_err(d) == ECANCELED && cctx_err(c[0]) == 0);
    drop_all();
}

/* ---- a cancel from a handler: the context is done, the rest follows in the next call. B2, A1, C3 ---- */

static bool handed_over;        /* p's callbacks are the runner's */
static void cancel_in_handler(void)
{
    handed_over = true;
    a_won = cancel_async(p);
    CHECK(cctx_is_done(p));
}
static void cancel_other_in_handler(void)
{
    b_won = cancel_async(c[0]);
    CHECK(cctx_is_done(c[0]));
}
static void cancel_in_handler_and_go(void)
{
    cancel_in_handler();
    drop_parent();
}
static void catch_up_and_go(void)
{
    cancel_catch_up();
    drop_as_b();
}
static void cancel_after(void)
{
    b_won = cctx_cancel(p);
    all_done();
}
static void check_async_won(void)
{
    CHECK(a_won != b_won);
    cancel_catch_up();
    check_all_done();
}
/* Whoever has the callback, it runs once. */
static void check_called(void)
{
    CHECK(a_won != b_won);
    machine_let_services();
    CHECK(callback_service());
    cancel_catch_up();
    all_done();
    cctx_wait_until(cctx_background(), machine_now() + 10);
    CHECK(ran == 1 && !cctx_stop_wait(&cb));
    machine_end_services();
    drop_all();
}
static void check_followed(void)
{
    CHECK(a_won);
    cancel_catch_up();
    if (p) all_done();
    CHECK(!d || cctx_is_done(d));
    drop_all();
    polls();
}

struct scenario {
    const char *name;
    unsigned children;
    int64_t far;
    void (*plant)(void), (*a)(void), (*b)(void), (*check)(void);
};

/* ---- a domain, its contexts and its host. B6, M1 ---- */

static cctx_domain_t *domain;
static cctx_time_t asked;
static int woken;
static bool freed;
static cctx_time_t domain_clock(void *user)
{
    (void)user;
    return 1;
}
static void domain_rings(void *user)
{
    (void)user;
    woken++;
}
static void plant_domain(void)
{
    cctx_domain_options_t o = {sizeof o, NULL, NULL, NULL, domain_clock, domain_rings, 0};
    domain = cctx_domain_new(&o);
    CHECK(domain);
    p = cctx_with_cancel(cctx_domain_background(domain));
    c[0] = cctx_with_deadline(p, 900);
    CHECK(c[0] && cctx_domain_next(domain) == 900);
    woken = ran = 0;
    freed = false;
}
static void free_domain(void)
{
    drop_all();
    CHECK(freed || cctx_domain_free(domain) == 0);
}
static void arm_earlier(void) { d = cctx_with_deadline(p, 500); }
static void host_asks(void) { asked = cctx_domain_next(domain); }
static void host_runs(void) { cctx_domain_run(domain, 900); }
static void check_not_overslept(void)
{
    CHECK(d && (asked <= 500 || woken > 0));
    CHECK(cctx_domain_next(domain) == 500);
    free_domain();
}
static void check_all_fired(void)
{
    CHECK(cctx_err(c[0]) == ETIMEDOUT);
    CHECK(cctx_is_done(d) || woken > 0);
    size_t left = !cctx_is_done(d);
    CHECK(cctx_domain_run(domain, 500) == left);
    CHECK(cctx_err(d) == ETIMEDOUT);
    free_domain();
}
static void plant_domain_callback(void)
{
    plant_domain();
    int err = cctx_after_func(c[0], &cb, call_alone, NULL);
    CHECK(err == 0);
}
static void cancel_in_domain(void) { b_won = cctx_cancel(c[0]); }
static void check_ran_in_domain(void)
{
    cctx_domain_run(domain, 900);
    CHECK(ran == 1 && !cctx_stop_wait(&cb));
    free_domain();
}
static void plant_last(void)
{
    plant_domain();
    d = cctx_with_cancel(p);
    drop(&p);
    drop(&c[0]);
}
static void drop_last(void) { drop(&d); }
static void try_free(void) { freed = cctx_domain_free(domain) == 0; }

enum { OF_DOMAINS = 4 };
static const struct scenario scenarios[] = {
    {"derive the first child, cancel", 0, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the second child, cancel", 1, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the child that needs a roster, cancel", 2, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the child that needs a chunk, cancel", 58, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive, derive", 2, 0, plant_parent, derive, derive_other, check_two_derived},
    {"cancel, cancel, two causes", 3, 0, plant_grandchildren, cancel_as_a, cancel_as_b, check_one_won},
    {"cancel, cancel, one cause", 4, 0, plant_grandchildren, cancel_as_a, cancel_plainly, check_one_won},
    {"cancel in a handler, cancel", 4, 0, plant_grandchildren, cancel_in_handler, cancel_after, check_async_won},
    {"cancel in a handler, derive", 1, 0, plant_parent, cancel_in_handler, derive, check_followed},
    {"cancel in a handler, derive the first child", 0, 0, plant_parent, cancel_in_handler, derive, check_followed},
    {"cancel in a handler, catch up", 4, 0, plant_grandchildren, cancel_in_handler, cancel_catch_up, check_followed},
    {"cancel in a handler, cancel, a callback", 2, 0, plant_callback, cancel_in_handler, cancel_in_part,
     check_called},
    {"cancel in two handlers", 4, 0, plant_grandchildren, cancel_in_handler, cancel_other_in_handler, check_followed},
    {"cancel in a handler and go, catch up and go", 4, 0, plant_grandchildren, cancel_in_handler_and_go,
     catch_up_and_go, check_followed},
    {"cancel, cancel below", 4, 0, plant_grandchildren, cancel_all, cancel_below, check_all_done},
    {"cancel, the children go", 4, 0, plant_grandchildren, cancel_only, drop_as_b, check_canceled},
    {"cancel, many children go", 12, 0, plant_parent, cancel_only, drop_as_b, check_canceled},
    {"the parent goes, the child goes", 1, 0, plant_parent, drop_parent, drop_as_b, check_nothing},
    {"the parent goes, the children go", 6, 0, plant_grandchildren, drop_parent, drop_as_b, check_nothing},
    {"the owner goes, derive", 1, 0, plant_value, drop_parent, derive_through_value, check_destroyed},
    {"cancel, derive by a value", 1, 0, plant_value, cancel_only, derive_through_value, check_destroyed},
    {"cancel, a value goes", 1, 0, plant_value_with_child, cancel_only, drop_value, check_destroyed},
    {"close, derive by another handle", 0, 0, plant_two_handles, close_one, derive_and_let_go, check_closed},
    {"register, cancel", 1, 0, plant_parent, register_it, cancel_b, check_ran_once},
    {"stop, cancel", 1, 0, plant_callback, stop_a, cancel_b, check_ran_or_stopped},
    {"stop, stop", 0, 0, plant_callback, stop_a, stop_b, check_one_stopped},
    {"stop and wait, cancel", 1, 0, plant_callback, stop_wait_and_poison, cancel_b, check_poisoned},
    {"stop, cancel, go", 1, 0, plant_callback_alone, stop_wait_and_poison, cancel_and_drop, check_poisoned},
    {"two cancels, a callback", 2, 0, plant_callback, cancel_only, cancel_in_part, check_ran_once_by_either},
    {"register by an executor, cancel", 0, 0, plant_parent, register_on_executor, cancel_b, check_submitted_once},
    {"stop and wait, cancel, the queue", 1, 0, plant_on_executor, stop_wait_and_poison, cancel_drop_and_run_queue,
     check_poisoned},
    {"wait, cancel", 0, 0, plant_parent, wait_a, cancel_b, check_waited},
    {"wait, cancel after one that was stopped", 0, 0, plant_parent, wait_a, flip_and_cancel, check_waited},
    {"wait below, cancel", 1, 0, plant_parent, wait_below, cancel_b, check_waited},
    {"wait in time, cancel", 0, 0, plant_parent, wait_in_time, cancel_b, check_waited},
    {"wait in time, nothing", 0, 0, plant_parent, wait_in_time, nothing, check_timed_out},
    {"futex wait, cancel", 0, 0, plant_parent, futex_wait_canceled, cancel_b, check_waited},
    {"futex wait, a wake", 0, 0, plant_parent, futex_wait_woken, change_and_wake, check_not_waited},
    {"wait for either, cancel", 2, 0, plant_parent, wait_for_either, cancel_the_second, check_not_waited},
    {"ask for a descriptor, cancel", 0, 0, plant_parent, ask_a, cancel_b, check_told},
    {"ask for a descriptor, cancel above", 1, 0, plant_parent, ask_below, cancel_b, check_told},
    {"ask for a descriptor of an exposed one, cancel", 0, 0, plant_exposed, ask_a, cancel_b, check_told},
    {"ask for a descriptor, ask and cancel", 0, 0, plant_parent, ask_a, ask_b_and_cancel, check_told},
    {"ask for a descriptor, register", 0, 0, plant_parent, ask_and_cancel_a, register_it, check_told_and_ran},
    {"ask for a descriptor and go, close", 0, 0, plant_two_handles, ask_and_let_go, close_one, check_given_back},
    {"arm near, the role", 0, 500, plant_timed, arm, role_now, check_fires},
    {"arm near, the role with one due", 0, 1500, plant_timed, arm, role_due, check_fires},
    {"arm far, the role", 0, CCTX_S(2), plant_timed, arm, role_now, check_fires},
    {"arm farther, the role", 0, CCTX_S(60), plant_timed, arm, role_now, check_fires},
    {"a deadline comes, its context goes", 0, 0, plant_due, role_of_the_dying, drop_timed, check_nothing},
    {"two parents of a merge end", 3, 0, plant_merge, cancel_second, cancel_third, check_merged},
    {"the first of a merge ends, and another", 3, 0, plant_merge, cancel_second, cancel_first, check_merged},
    {"one of a merge ends, the merge goes", 3, 0, plant_merge, cancel_second_only, drop_merge, check_nothing},
    {"merge, a parent ends", 2, 0, plant_parent, merge, cancel_second_only, check_merge_done},
    {"a task ends, wait", 0, 0, plant_task, end_first, wait_for_group, check_group_gone},
    {"a task ends, free its group", 0, 0, plant_task, end_first, free_group, check_group_gone},
    {"a task ends, go at the limit", 0, 0, plant_two_tasks, end_first, go_third, check_third},
    {"two tasks fail", 0, 0, plant_two_tasks, end_first, end_second, check_two_ended},
    /* The last ones: what forks.c does in a child waits for the library's threads. */
    {"arm in a domain, its host asks", 1, 0, plant_domain, arm_earlier, host_asks, check_not_overslept},
    {"arm in a domain, its host runs", 1, 0, plant_domain, arm_earlier, host_runs, check_all_fired},
    {"a host runs, cancel", 1, 0, plant_domain_callback, host_runs, cancel_in_domain, check_ran_in_domain},
    {"the last one goes, its domain is freed", 1, 0, plant_last, drop_last, try_free, free_domain},
};

#endif
