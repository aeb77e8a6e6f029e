/* SPDX-License-Identifier: BSD-2-Clause */
/* Cancellation: once done for ever, downward, complete when the call returns, nothing held. C1-C6, C8. */
#include "support.h"

#include <sched.h>

static const cctx_cause_t cause_a = {1, "a"};
static const cctx_cause_t cause_b = {2, "b"};

/* C1, C2 */
static void a_context_is_live_then_done_for_ever(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_non_null(ctx);
    assert_int_equal(cctx_err(ctx), 0);
    assert_false(cctx_is_done(ctx));
    assert_true(cctx_cancel(ctx));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cctx_err(ctx), ECANCELED);
        assert_true(cctx_is_done(ctx));
        assert_false(cctx_cancel(ctx));
    }
    cctx_unref(ctx);
}

/* C1 */
static void whoever_is_first_wins_and_the_others_change_nothing(void **state)
{
    (void)state;
    /* The own cancel before the ancestor's. */
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *mid = cctx_with_cancel(top);
    cctx_t *leaf = cctx_with_timeout(mid, CCTX_S(3600));
    assert_true(cctx_cancel_cause(mid, &cause_a));
    assert_true(cctx_cancel_cause(top, &cause_b));
    assert_false(cctx_cancel_cause(mid, &cause_b));
    assert_false(cctx_cancel_cause(leaf, &cause_b));
    assert_ptr_equal(cctx_cause(mid), &cause_a);
    assert_ptr_equal(cctx_cause(leaf), &cause_a);
    assert_ptr_equal(cctx_cause(top), &cause_b);
    assert_int_equal(cctx_err(leaf), ECANCELED);
    cctx_unref(leaf);
    cctx_unref(mid);
    cctx_unref(top);

    /* A deadline that was first stays the reason. */
    top = cctx_with_cancel(cctx_background());
    cctx_t *late = cctx_with_timeout(top, 0);
    assert_int_equal(cctx_err(late), ETIMEDOUT);
    assert_false(cctx_cancel_cause(late, &cause_a));
    assert_true(cctx_cancel_cause(top, &cause_b));
    assert_int_equal(cctx_err(late), ETIMEDOUT);
    assert_ptr_equal(cctx_cause(late), &cctx_deadline_exceeded);
    cctx_unref(late);
    cctx_unref(top);
}

/* C1: a deadline that passes after the cancel changes nothing, whichever of the two came first here. */
static void a_deadline_and_a_cancel_agree_on_one_winner(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        int64_t timeout = CCTX_US(20 * round);
        cctx_t *ctx = cctx_with_timeout(cctx_background(), timeout);
        cctx_t *child = cctx_with_cancel(ctx);
        cctx_time_t deadline;
        assert_true(cctx_deadline(ctx, &deadline));
        bool won = cctx_cancel_cause(ctx, &cause_a);
        int err = cctx_err(ctx);
        assert_int_equal(err, won ? ECANCELED : ETIMEDOUT);
        /* Nothing to wait for tells that the time has passed, but the time. */
        while (now_ns() <= deadline)
            sched_yield();
        assert_int_equal(cctx_err(ctx), err);
        assert_int_equal(cctx_err(child), err);
        assert_ptr_equal(cctx_cause(ctx), won ? &cause_a : &cctx_deadline_exceeded);
        cctx_unref(child);
        cctx_unref(ctx);
    }
}

enum { RACERS = 4 };

typedef struct race {
    cctx_t *ctx;
    cctx_t *below;
    int wins;
    unsigned winner;
} race_t;

static const cctx_cause_t racer_cause[RACERS] = {{10, "0"}, {11, "1"}, {12, "2"}, {13, "3"}};

static void race_to_cancel(unsigned index, void *arg)
{
    race_t *race = arg;
    if (cctx_cancel_cause(race->ctx, &racer_cause[index])) {
        __atomic_fetch_add(&race->wins, 1, __ATOMIC_RELAXED);
        race->winner = index;
    }
    CHECK(cctx_err(race->ctx) == ECANCELED);
    CHECK(cctx_err(race->below) == ECANCELED);
    CHECK(cctx_cause(race->below) == cctx_cause(race->ctx));
}

/* C1, C9 */
static void exactly_one_of_many_cancelers_wins(void **state)
{
    (void)state;
    for (int round = 0; round < SCALED(2000); round++) {
        race_t race = {.ctx = cctx_with_cancel(cctx_background())};
        race.below = cctx_with_cancel(race.ctx);
        threads_run(RACERS, race_to_cancel, &race);
        assert_int_equal(race.wins, 1);
        assert_ptr_equal(cctx_cause(race.ctx), &racer_cause[race.winner]);
        cctx_unref(race.below);
        cctx_unref(race.ctx);
    }
}

/* C2 */
static void the_error_agrees_with_the_done_word(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *late = cctx_with_timeout(ctx, -1);
    const uint32_t *word = cctx_done(ctx);
    const uint32_t *late_word = cctx_done(late);
    assert_non_null(word);
    assert_non_null(late_word);
    assert_int_equal(__atomic_load_n(word, __ATOMIC_ACQUIRE) & 1, 0);
    assert_int_equal(__atomic_load_n(late_word, __ATOMIC_ACQUIRE) & 3, 3);
    cctx_cancel(ctx);
    assert_int_equal(__atomic_load_n(word, __ATOMIC_ACQUIRE) & 3, 1);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    cctx_unref(late);
    cctx_unref(ctx);
}

/* ---- complete when it returns ---- */

enum { TREE = 1500 };

typedef struct tree {
    const cctx_t *node[TREE]; /* node[0] is the top; a parent comes before its children */
    cctx_t *handle[TREE];     /* what can be canceled, else NULL */
    unsigned parent[TREE];
    unsigned canceled[RACERS]; /* whom each thread cancels */
} tree_t;

static const cctx_key_t tree_key = {"tree", NULL};

static void tree_make(tree_t *tree, rng_t *rng)
{
    unsigned shape = (unsigned)rng_below(rng, 3);
    for (unsigned i = 0; i < TREE; i++) {
        unsigned up = i == 0 ? 0 : shape == 0 ? i - 1 : (unsigned)rng_below(rng, shape == 1 ? i : i / 20 + 1);
        const cctx_t *parent = i == 0 ? cctx_background() : tree->node[up];
        tree->parent[i] = up;
        tree->handle[i] = NULL;
        if (i > 0 && rng_below(rng, 8) == 0) {
            tree->node[i] = cctx_with_value(parent, &tree_key, tree);
        } else if (i > 0 && rng_below(rng, 16) == 0) {
            tree->node[i] = tree->handle[i] = cctx_with_timeout(parent, CCTX_S(3600));
        } else {
            tree->node[i] = tree->handle[i] = cctx_with_cancel(parent);
        }
        assert_non_null(tree->node[i]);
    }
}

static void tree_free(tree_t *tree, rng_t *rng)
{
    bool forward = rng_below(rng, 2) == 0;
    for (unsigned i = 0; i < TREE; i++)
        cctx_unref(tree->node[forward ? i : TREE - 1 - i]);
}

static bool tree_is_below(const tree_t *tree, unsigned node, unsigned top)
{
    while (node > top)
        node = tree->parent[node];
    return node == top;
}

static void cancel_and_look_at_all_below(unsigned index, void *arg)
{
    tree_t *tree = arg;
    unsigned top = tree->canceled[index];
    cctx_cancel(tree->handle[top]);
    for (unsigned i = top; i < TREE; i++)
        if (tree_is_below(tree, i, top))
            CHECK(cctx_is_done(tree->node[i]));
}

/* C3 */
static void a_cancel_returns_with_all_below_done_even_if_another_is_in_the_middle(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    tree_t *tree = malloc(sizeof *tree);
    for (uint64_t round = 0; round < SCALED(600); round++) {
        rng_t rng = rng_make(seed, round);
        tree_make(tree, &rng);
        for (unsigned i = 0; i < RACERS; i++) {
            unsigned pick = i < 2 ? 0 : (unsigned)rng_below(&rng, i == 2 ? 20 : TREE);
            while (!tree->handle[pick])
                pick = tree->parent[pick];
            tree->canceled[i] = pick;
        }
        threads_run(RACERS, cancel_and_look_at_all_below, tree);
        tree_free(tree, &rng);
    }
    free(tree);
}

/* C3 */
static void a_child_of_a_done_parent_is_born_done_with_its_error_and_cause(void **state)
{
    (void)state;
    cctx_t *canceled = cctx_with_cancel(cctx_background());
    cctx_cancel_cause(canceled, &cause_a);
    cctx_t *late = cctx_with_timeout_cause(cctx_background(), 0, &cause_b);
    const cctx_t *parents[] = {canceled, late};
    const cctx_cause_t *causes[] = {&cause_a, &cause_b};
    for (int i = 0; i < 2; i++) {
        const cctx_t *children[] = {
            cctx_with_cancel(parents[i]),
            cctx_with_timeout(parents[i], CCTX_S(3600)),
            cctx_with_timeout_cause(parents[i], CCTX_S(3600), &cctx_canceled),
            cctx_with_value(parents[i], &tree_key, NULL),
            cctx_with_any(&parents[i], 1),
        };
        for (size_t k = 0; k < sizeof children / sizeof *children; k++) {
            assert_non_null(children[k]);
            assert_int_equal(cctx_err(children[k]), cctx_err(parents[i]));
            assert_ptr_equal(cctx_cause(children[k]), causes[i]);
            cctx_t *grandchild = cctx_with_cancel(children[k]);
            assert_int_equal(cctx_err(grandchild), cctx_err(parents[i]));
            assert_ptr_equal(cctx_cause(grandchild), causes[i]);
            assert_false(cctx_cancel(grandchild));
            cctx_unref(grandchild);
            cctx_unref(children[k]);
        }
    }
    cctx_unref(canceled);
    cctx_unref(late);
}

enum { BROOD = 400 };

typedef struct brood {
    cctx_t *parent;
    cctx_t *child[RACERS][BROOD];
} brood_t;

static void derive_or_cancel(unsigned index, void *arg)
{
    brood_t *brood = arg;
    if (index == 0) {
        cctx_cancel(brood->parent);
        return;
    }
    for (int i = 0; i < BROOD; i++) {
        brood->child[index][i] = cctx_with_cancel(brood->parent);
        CHECK(brood->child[index][i] != NULL);
    }
}

/* C3: a child that is derived during the cancel is either found by it or born done. */
static void no_child_slips_through_a_cancel(void **state)
{
    (void)state;
    brood_t *brood = malloc(sizeof *brood);
    for (int round = 0; round < SCALED(600); round++) {
        brood->parent = cctx_with_cancel(cctx_background());
        threads_run(RACERS, derive_or_cancel, brood);
        for (int t = 1; t < RACERS; t++)
            for (int i = 0; i < BROOD; i++) {
                assert_int_equal(cctx_err(brood->child[t][i]), ECANCELED);
                cctx_unref(brood->child[t][i]);
            }
        cctx_unref(brood->parent);
    }
    free(brood);
}

/* ---- downward ---- */

enum { CHAIN = 200 };

typedef struct chain {
    cctx_t *node[CHAIN];
    int payload; /* written before the cancel, read after it was seen: no atomics */
} chain_t;

static void cancel_or_watch_from_below(unsigned index, void *arg)
{
    chain_t *chain = arg;
    if (index == 0) {
        chain->payload = 42;
        cctx_cancel(chain->node[0]);
        return;
    }
    /* One watcher looks at the deepest, the others on the way: the first to be seen done starts the climb. */
    int at = CHAIN - 1 - (int)(index - 1) * (CHAIN / 4);
    while (!cctx_is_done(chain->node[at]))
        sched_yield();
    CHECK(chain->payload == 42);
    for (int i = at; i >= 0; i--)
        CHECK(cctx_err(chain->node[i]) == ECANCELED);
}

/* C4, C5 */
static void who_sees_a_descendant_done_sees_all_above_it_done(void **state)
{
    (void)state;
    for (int round = 0; round < SCALED(1000); round++) {
        chain_t chain = {.payload = 0};
        for (int i = 0; i < CHAIN; i++)
            chain.node[i] = cctx_with_cancel(i == 0 ? cctx_background() : chain.node[i - 1]);
        threads_run(RACERS, cancel_or_watch_from_below, &chain);
        for (int i = 0; i < CHAIN; i++)
            cctx_unref(chain.node[i]);
    }
}

typedef struct handoff {
    cctx_t *top;
    cctx_t *leaf;
    cctx_callback_t callback;
    int payload;
    int seen_by_callback;
} handoff_t;

static void read_payload(void *arg)
{
    handoff_t *handoff = arg;
    handoff->seen_by_callback = handoff->payload;
}

static void cancel_after_writing_or_wait_and_read(unsigned index, void *arg)
{
    handoff_t *handoff = arg;
    switch (index) {
    case 0:
        handoff->payload = 7;
        cctx_cancel_causef(handoff->top, 5, "number %d", 7);
        break;
    case 1:
        CHECK(cctx_wait(handoff->leaf) == ECANCELED);
        CHECK(handoff->payload == 7);
        break;
    case 2:
        CHECK(cctx_wait_until(handoff->leaf, CCTX_NEVER));
        CHECK(handoff->payload == 7);
        CHECK(strcmp(cctx_cause(handoff->leaf)->text, "number 7") == 0);
        break;
    default:
        while (cctx_cause(handoff->leaf) == NULL)
            sched_yield();
        CHECK(handoff->payload == 7);
        CHECK(cctx_cause(handoff->leaf)->code == 5);
        /* A loser is behind the winner, too. */
        CHECK(!cctx_cancel(handoff->top));
    }
}

/* C5 */
static void what_was_done_before_a_cancel_is_seen_after_it(void **state)
{
    (void)state;
    for (int round = 0; round < SCALED(1000); round++) {
        handoff_t handoff = {.payload = 0};
        handoff.top = cctx_with_cancel(cctx_background());
        handoff.leaf = cctx_with_cancel(handoff.top);
        assert_int_equal(cctx_after_func(handoff.leaf, &handoff.callback, read_payload, &handoff), 0);
        threads_run(RACERS, cancel_after_writing_or_wait_and_read, &handoff);
        assert_false(cctx_stop_wait(&handoff.callback));
        assert_int_equal(handoff.seen_by_callback, 7);
        cctx_unref(handoff.leaf);
        cctx_unref(handoff.top);
    }
}

/* ---- nothing held ---- */

typedef struct visit {
    cctx_t *ctx;
    cctx_t *other;
    cctx_callback_t callback;
    cctx_callback_t inner_callback;
    int inner_ran;
    int destroyed;
} visit_t;

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void use_everything(visit_t *visit)
{
    cctx_t *child = cctx_with_timeout(visit->ctx, CCTX_S(3600));
    CHECK(child != NULL);
    CHECK(cctx_wait_for(child, 0) == cctx_is_done(child));
    cctx_cancel(visit->ctx);
    CHECK(cctx_err(child) == ECANCELED);
    cctx_close(child);
    CHECK(cctx_after_func(visit->ctx, &visit->inner_callback, count_up, &visit->inner_ran) == 0);
    CHECK(!cctx_stop(&visit->inner_callback));
    child = cctx_with_cancel(visit->other);
    cctx_close(visit->other);
    CHECK(cctx_err(child) == ECANCELED);
    cctx_unref(child);
    CHECK(cctx_print(visit->ctx, NULL, 0) > 0);
}

static void use_everything_in_callback(void *arg)
{
    use_everything(arg);
}

static void use_everything_in_destructor(void *value)
{
    visit_t *visit = value;
    visit->destroyed++;
    use_everything(visit);
}

/* C6 */
static void a_callback_and_a_destructor_may_use_everything(void **state)
{
    (void)state;
    static const cctx_key_t key = {"visit", use_everything_in_destructor};
    visit_t visit = {.inner_ran = 0};
    visit.ctx = cctx_with_cancel(cctx_background());
    visit.other = cctx_with_cancel(visit.ctx);
    assert_int_equal(cctx_after_func(visit.ctx, &visit.callback, use_everything_in_callback, &visit), 0);
    assert_true(cctx_cancel(visit.ctx));
    assert_int_equal(visit.inner_ran, 1);

    visit.other = cctx_with_cancel(visit.ctx);
    const cctx_t *carrier = cctx_with_value(visit.ctx, &key, &visit);
    cctx_unref(carrier);
    assert_int_equal(visit.destroyed, 1);
    assert_int_equal(visit.inner_ran, 2);
    cctx_unref(visit.ctx);
}

/* C8 */
static void canceling_null_is_false_and_does_nothing(void **state)
{
    (void)state;
    assert_false(cctx_cancel(NULL));
    assert_false(cctx_cancel_cause(NULL, &cause_a));
    assert_false(cctx_cancel_causef(NULL, 1, "%d", 1));
    cctx_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_context_is_live_then_done_for_ever),
        cmocka_unit_test(whoever_is_first_wins_and_the_others_change_nothing),
        cmocka_unit_test(a_deadline_and_a_cancel_agree_on_one_winner),
        cmocka_unit_test(exactly_one_of_many_cancelers_wins),
        cmocka_unit_test(the_error_agrees_with_the_done_word),
        cmocka_unit_test(a_cancel_returns_with_all_below_done_even_if_another_is_in_the_middle),
        cmocka_unit_test(a_child_of_a_done_parent_is_born_done_with_its_error_and_cause),
        cmocka_unit_test(no_child_slips_through_a_cancel),
        cmocka_unit_test(who_sees_a_descendant_done_sees_all_above_it_done),
        cmocka_unit_test(what_was_done_before_a_cancel_is_seen_after_it),
        cmocka_unit_test(a_callback_and_a_destructor_may_use_everything),
        cmocka_unit_test(canceling_null_is_false_and_does_nothing),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
