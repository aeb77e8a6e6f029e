/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancel: the flip decides and losers help. A canceler that was stopped in the middle is played by taking
 * its first steps by hand; whoever comes next must finish its work.
 */
#include "support.h"

#include <sched.h>

#include "cancel.h"

static struct thread *t;
static const cctx_cause_t first = {1, "first"}, second = {2, "second"};

static uint32_t state_of(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->state, done); }
static cctx_t *child(const cctx_t *parent)
{
    cctx_t *n = cctx_with_cancel(parent);
    assert_non_null(n);
    return n;
}
static cctx_t *top(void) { return child(cctx_background()); }

enum { FAN = 6, DEPTH = 4, TREE = 1 + FAN * DEPTH };

/* A top, and below it FAN chains of DEPTH. */
static void plant_tree(cctx_t *n[TREE])
{
    n[0] = top();
    for (int i = 1; i < TREE; i++) n[i] = child(n[(i - 1) % DEPTH ? i - 1 : 0]);
}

static void fell_tree(cctx_t *n[TREE])
{
    for (int i = 0; i < TREE; i++) cctx_unref(n[i]);
}

/* Claims I1, I2, I3: the canceled node has the cause, and each below it says that it inherits. */
static void descendants_inherit_from_the_one_that_was_canceled(void **state)
{
    (void)state;
    cctx_t *n[TREE];
    plant_tree(n);
    assert_true(cctx_cancel_cause(n[0], &first));
    assert_int_equal(state_of(n[0]) & (DONE | TIMEDOUT | CAUSED | INHERITED), DONE | CAUSED);
    for (int i = 1; i < TREE; i++) {
        assert_int_equal(state_of(n[i]) & (DONE | TIMEDOUT | CAUSED | INHERITED), DONE | INHERITED);
        assert_ptr_equal(cancel_cause(n[i]), &first);
    }
    fell_tree(n);
}

/* Claim I8: each inner node is marked once all below it is done; a leaf has nothing to mark. */
static void a_subtree_that_was_walked_says_so(void **state)
{
    (void)state;
    cctx_t *n[TREE];
    plant_tree(n);
    cctx_cancel(n[0]);
    for (int i = 0; i < TREE; i++) {
        struct family *f = node_family(n[i]);
        assert_int_equal(f != NULL, i == 0 || i % DEPTH);
        if (f) assert_int_equal(sync_load_acq(&f->swept, swept), node_mark());
    }
    fell_tree(n);
}

/* Claims I8, I9: the winner is stopped right after its flip. The loser's cancel returns with everything
 * done. */
static void a_loser_finishes_what_a_stopped_winner_began(void **state)
{
    (void)state;
    for (int at = 0; at < TREE; at++) {
        cctx_t *n[TREE];
        plant_tree(n);
        uint32_t old = done_flip(&n[0]->state, 0);
        assert_false(old & DONE);
        if (at > 0) done_flip(&n[at]->state, INHERITED);        /* it had got so far, in whatever order */
        assert_false(cctx_cancel_cause(n[0], &second));
        for (int i = 0; i < TREE; i++) {
            assert_int_equal(cctx_err(n[i]), ECANCELED);
            assert_ptr_equal(cctx_cause(n[i]), &cctx_canceled);
        }
        fell_tree(n);
    }
}

/* The same from below: a cancel of an inner node whose ancestor's cancel was stopped. */
static void a_loser_below_finishes_its_own_subtree(void **state)
{
    (void)state;
    cctx_t *n[TREE];
    plant_tree(n);
    done_flip(&n[0]->state, 0);
    done_flip(&n[1]->state, INHERITED);
    assert_false(cctx_cancel(n[1]));
    for (int i = 1; i <= DEPTH; i++) assert_int_equal(cctx_err(n[i]), ECANCELED);
    assert_int_equal(cctx_err(n[DEPTH + 1]), 0);
    assert_false(cctx_cancel(n[0]));
    for (int i = 0; i < TREE; i++) assert_int_equal(cctx_err(n[i]), ECANCELED);
    fell_tree(n);
}

static void count_up(void *arg) { ++*(int *)arg; }

/* The stopped winner had not run the callbacks: the loser does, once. Claim I13. */
static void a_loser_runs_the_callbacks_that_nobody_has_undertaken(void **state)
{
    (void)state;
    cctx_t *n[TREE];
    cctx_callback_t cb[TREE] = {{{0}}};
    int ran = 0;
    plant_tree(n);
    for (int i = 0; i < TREE; i++) assert_int_equal(cctx_after_func(n[i], &cb[i], count_up, &ran), 0);
    done_flip(&n[0]->state, 0);
    assert_int_equal(ran, 0);
    cctx_cancel(n[0]);
    assert_int_equal(ran, TREE);
    for (int i = 0; i < TREE; i++)
        assert_int_equal(sync_load_acq(&node_family(n[i])->queued, slot), node_mark());
    cctx_cancel(n[0]);
    assert_int_equal(ran, TREE);
    fell_tree(n);
}

static void *wait_on(void *ctx)
{
    int err = cctx_wait(ctx);
    CHECK(err == ECANCELED);
    return NULL;
}

/* The stopped winner had flipped and not woken: the sleeper does not hang on it. Claim I11's other side. */
static void a_loser_wakes_those_whom_the_winner_left_asleep(void **state)
{
    (void)state;
    watchdog(100);
    for (int deep = 0; deep < 2; deep++)
        for (int i = 0; i < 20; i++) {
            cctx_t *n = top(), *c = child(n), *sleeps_on = deep ? c : n;
            pthread_t waiter = thread_start(wait_on, sleeps_on);
            while (state_of(sleeps_on) < DONE_WAITER) sched_yield();
            done_flip(&n->state, 0);
            done_flip(&c->state, INHERITED);
            cctx_cancel(n);
            thread_join(waiter);
            assert_true(state_of(sleeps_on) & WOKEN);
            cctx_unref(c);
            cctx_unref(n);
        }
    watchdog(0);
}

/* More sleepers in one walk than it pins at a time. */
static void more_sleepers_than_a_walk_pins_are_all_woken(void **state)
{
    (void)state;
    enum { N = 80 };
    cctx_t *n = top(), *c[N];
    pthread_t waiter[N];
    watchdog(100);
    for (int i = 0; i < N; i++) {
        c[i] = child(i % 2 ? c[i - 1] : n);
        waiter[i] = thread_start(wait_on, c[i]);
    }
    for (int i = 0; i < N; i++)
        while (state_of(c[i]) < DONE_WAITER) sched_yield();
    assert_true(cctx_cancel(n));
    for (int i = 0; i < N; i++) {
        thread_join(waiter[i]);
        cctx_unref(c[i]);
    }
    cctx_unref(n);
    watchdog(0);
}

static uintptr_t cause_word(cctx_t *n) { return sync_load_acq(&n->cause, claim); }

/* A claimant is stopped between its claim and its flip. The next one with a cause finishes that cancel for
 * it. */
static void a_claim_is_finished_by_the_next_who_brings_a_cause(void **state)
{
    (void)state;
    cctx_t *n = top();
    sync_store_rel(&n->cause, (uintptr_t)&first | CAUSE_BORROWED, claim);
    assert_int_equal(cctx_err(n), 0);
    assert_null(cctx_cause(n));
    assert_false(cctx_cancel_cause(n, &second));
    assert_ptr_equal(cctx_cause(n), &first);
    assert_int_equal(cctx_err(n), ECANCELED);
    assert_int_equal(cause_word(n), (uintptr_t)&first);
    cctx_unref(n);
}

/* A claim of the deadline is finished as a deadline, also by a cancel. */
static void a_claim_of_the_deadline_ends_it_as_a_deadline(void **state)
{
    (void)state;
    cctx_t *n = top();
    sync_store_rel(&n->cause, (uintptr_t)&first | CAUSE_DEADLINE, claim);
    assert_false(cctx_cancel_causef(n, 3, "too %s", "late"));
    assert_int_equal(cctx_err(n), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(n), &first);
    cctx_unref(n);
}

/* One who brings none refutes the claim for ever: the constant is the cause, and the claim is never seen. */
static void a_claim_is_refuted_by_the_next_who_brings_none(void **state)
{
    (void)state;
    cctx_t *n = top();
    sync_store_rel(&n->cause, (uintptr_t)&first | CAUSE_BORROWED, claim);
    assert_true(cctx_cancel(n));
    assert_false(state_of(n) & CAUSED);
    assert_ptr_equal(cctx_cause(n), &cctx_canceled);
    assert_false(cctx_cancel_cause(n, &second));
    assert_ptr_equal(cctx_cause(n), &cctx_canceled);
    cctx_unref(n);
}

/* The deadline's own cause stands unclaimed until the deadline claims it; a cancel may take its place. */
static void the_cause_of_a_deadline_is_claimed_by_the_deadline_alone(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_timeout_cause(cctx_background(), CCTX_S(3600), &first);
    cctx_t *b = cctx_with_timeout_cause(cctx_background(), CCTX_S(3600), &first);
    assert_int_equal(cause_word(a), (uintptr_t)&first | CAUSE_OWN);
    assert_true(cctx_cancel_cause(a, &second));
    assert_ptr_equal(cctx_cause(a), &second);
    assert_int_equal(cctx_err(a), ECANCELED);
    cancel_deadline(b);
    assert_ptr_equal(cctx_cause(b), &first);
    assert_int_equal(cctx_err(b), ETIMEDOUT);
    assert_int_equal(cause_word(b), (uintptr_t)&first | CAUSE_DEADLINE);
    cctx_unref(a);
    cctx_unref(b);
}

/* A formatted cause belongs to the node from the claim on; one that is refused is freed at once (leaks are
 * looked for). */
static void a_formatted_cause_goes_with_its_node(void **state)
{
    (void)state;
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        if (i == 100) before = memory_in_use();
        cctx_t *n = top();
        sync_store_rel(&n->cause, i % 2 ? (uintptr_t)&first : 0, claim);
        assert_int_equal(cctx_cancel_causef(n, i, "%d %0500d", i, i), !(i % 2));
        assert_int_equal(cctx_cause(n)->code, i % 2 ? 1 : i);
        cctx_unref(n);
    }
    assert_true(memory_in_use() <= before + 4096);
}

/* A walk is cut every so many slots, and goes on where it was: all of a wide and deep tree is done. */
static void a_walk_that_is_cut_misses_none(void **state)
{
    (void)state;
    enum { WIDE = 1000, N = 3 * WIDE };
    static cctx_t *c[N];
    cctx_t *n = top();
    for (int i = 0; i < N; i++) c[i] = child(i < WIDE ? n : c[i - WIDE]);
    /* Some of the walk's ground is dead: closed parents, and holes. */
    for (int i = 0; i < N; i += 7) {
        cctx_unref(c[i]);
        c[i] = NULL;
    }
    cctx_cancel(n);
    for (int i = 0; i < N; i++) {
        if (!c[i]) continue;
        assert_int_equal(cctx_err(c[i]), ECANCELED);
        cctx_unref(c[i]);
    }
    cctx_unref(n);
    for (int i = 0; i < 100; i++) epoch_poll(t);
    assert_int_equal(epoch_limbo(), 0);
}

static int begin(void **state)
{
    (void)state;
    t = thread_begin();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descendants_inherit_from_the_one_that_was_canceled),
        cmocka_unit_test(a_subtree_that_was_walked_says_so),
        cmocka_unit_test(a_loser_finishes_what_a_stopped_winner_began),
        cmocka_unit_test(a_loser_below_finishes_its_own_subtree),
        cmocka_unit_test(a_loser_runs_the_callbacks_that_nobody_has_undertaken),
        cmocka_unit_test(a_loser_wakes_those_whom_the_winner_left_asleep),
        cmocka_unit_test(more_sleepers_than_a_walk_pins_are_all_woken),
        cmocka_unit_test(a_claim_is_finished_by_the_next_who_brings_a_cause),
        cmocka_unit_test(a_claim_of_the_deadline_ends_it_as_a_deadline),
        cmocka_unit_test(a_claim_is_refuted_by_the_next_who_brings_none),
        cmocka_unit_test(the_cause_of_a_deadline_is_claimed_by_the_deadline_alone),
        cmocka_unit_test(a_formatted_cause_goes_with_its_node),
        cmocka_unit_test(a_walk_that_is_cut_misses_none),
    };
    return cmocka_run_group_tests_name("cancel", tests, begin, NULL);
}
