/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx_with_any: done when any parent is, by whatever graph it hangs in, and gone without a trace. B1. */
#include "support.h"

#include <sched.h>

static const cctx_cause_t cause[] = {{0, "zero"}, {1, "one"}, {2, "two"}, {3, "three"}, {4, "four"}};
static const cctx_key_t key = {"key", NULL};
static int ended;

static void note_end(void *value)
{
    (void)value;
    ended++;
}

static const cctx_key_t ending_key = {"ending", note_end};

#define ANY(...)                                                                                             \
    cctx_with_any((const cctx_t *[]){__VA_ARGS__},                                                           \
                  sizeof(const cctx_t *[]){__VA_ARGS__} / sizeof(const cctx_t *))

/* B1, C9 */
static void it_ends_with_any_parent_by_that_parents_error_and_cause(void **state)
{
    (void)state;
    enum { PARENTS = 5 };
    for (int who = 0; who < PARENTS; who++) {
        cctx_t *parent[PARENTS];
        for (int i = 0; i < PARENTS; i++)
            parent[i] = cctx_with_cancel(cctx_background());
        cctx_t *any = cctx_with_any((const cctx_t *const *)parent, PARENTS);
        cctx_t *below = cctx_with_cancel(any);
        cctx_t *deeper = cctx_with_timeout(below, CCTX_S(3600));
        assert_int_equal(cctx_err(any), 0);
        assert_null(cctx_cause(deeper));
        assert_true(cctx_cancel_cause(parent[who], &cause[who]));
        const cctx_t *line[] = {any, below, deeper};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(cctx_err(line[i]), ECANCELED);
            assert_ptr_equal(cctx_cause(line[i]), &cause[who]);
        }
        /* The later ends of the others change nothing, and its own end reached no parent. */
        for (int i = 0; i < PARENTS; i++) {
            assert_int_equal(cctx_err(parent[i]), i == who ? ECANCELED : 0);
            cctx_cancel_cause(parent[i], &cause[i]);
            assert_ptr_equal(cctx_cause(deeper), &cause[who]);
        }
        assert_false(cctx_cancel(any));
        for (int i = 0; i < PARENTS; i++)
            cctx_unref(parent[i]);
        assert_ptr_equal(cctx_cause(deeper), &cause[who]);
        cctx_unref(any);
        cctx_unref(below);
        cctx_unref(deeper);
    }
}

/* B1 */
static void its_own_cancel_reaches_no_parent(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_cancel(cctx_background());
    cctx_t *b = cctx_with_cancel(cctx_background());
    cctx_t *any = ANY(a, b);
    cctx_t *below = cctx_with_cancel(any);
    assert_true(cctx_cancel_causef(any, 9, "own"));
    assert_string_equal(cctx_cause(below)->text, "own");
    assert_int_equal(cctx_err(a), 0);
    assert_int_equal(cctx_err(b), 0);
    cctx_cancel(b);
    assert_string_equal(cctx_cause(any)->text, "own");
    cctx_unref(below);
    cctx_unref(any);
    cctx_unref(a);
    cctx_unref(b);
}

/* B1, C13 */
static void a_parents_deadline_ends_it_as_a_deadline(void **state)
{
    (void)state;
    for (int place = 0; place < 2; place++) {
        cctx_t *timed = cctx_with_timeout_cause(cctx_background(), CCTX_MS(5), &cause[1]);
        cctx_t *other = cctx_with_cancel(cctx_background());
        cctx_t *any = place == 0 ? ANY(timed, other) : ANY(other, timed);
        cctx_t *below = cctx_with_cancel(any);
        cctx_time_t deadline;
        assert_true(cctx_deadline(any, &deadline));
        assert_int_equal(cctx_wait(below), ETIMEDOUT);
        assert_true(cctx_now() >= deadline);
        assert_int_equal(cctx_err(any), ETIMEDOUT);
        assert_ptr_equal(cctx_cause(below), &cause[1]);
        assert_int_equal(cctx_err(other), 0);
        cctx_unref(below);
        cctx_unref(any);
        cctx_unref(other);
        cctx_unref(timed);
    }
}

/* B1, C11: the earliest, wherever it stands; nobody looks and nobody waits on the merge. */
static void the_deadline_is_the_earliest(void **state)
{
    (void)state;
    cctx_time_t now = cctx_now(), deadline;
    cctx_t *near = cctx_with_deadline(cctx_background(), now + CCTX_S(1000));
    cctx_t *far = cctx_with_deadline(cctx_background(), now + CCTX_S(2000));
    cctx_t *never = cctx_with_cancel(cctx_background());
    cctx_t *merge[] = {ANY(near, far, never), ANY(never, far, near), ANY(far, near), ANY(near)};
    for (size_t i = 0; i < sizeof merge / sizeof *merge; i++) {
        assert_true(cctx_deadline(merge[i], &deadline));
        assert_true(deadline == now + CCTX_S(1000));
        cctx_t *child = cctx_with_deadline(merge[i], now + CCTX_S(1500));
        assert_true(cctx_deadline(child, &deadline));
        assert_true(deadline == now + CCTX_S(1000));
        cctx_unref(child);
        cctx_unref(merge[i]);
    }
    cctx_t *none = ANY(never, cctx_background());
    assert_false(cctx_deadline(none, NULL));
    assert_true(cctx_remaining(none) == CCTX_NEVER);
    cctx_unref(none);
    cctx_unref(near);
    cctx_unref(far);
    cctx_unref(never);
}

/* B1, C16 */
static void the_values_are_the_first_parents(void **state)
{
    (void)state;
    int x, y;
    const cctx_t *a = cctx_with_value(cctx_background(), &key, &x);
    const cctx_t *b = cctx_with_value(cctx_background(), &key, &y);
    const cctx_t *c = cctx_with_value(cctx_background(), &ending_key, &y);
    cctx_t *ab = ANY(a, b), *bc = ANY(b, c), *ca = ANY(c, a);
    assert_ptr_equal(cctx_value(ab, &key), &x);
    assert_ptr_equal(cctx_value(bc, &key), &y);
    assert_null(cctx_value(bc, &ending_key));
    assert_null(cctx_value(ca, &key));
    assert_ptr_equal(cctx_value(ca, &ending_key), &y);
    const cctx_t *released[] = {ab, bc, ca, a, b, c};
    for (size_t i = 0; i < sizeof released / sizeof *released; i++)
        cctx_unref(released[i]);
}

/* B1 */
static void one_parent_is_enough(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *any = ANY(parent);
    cctx_t *own = ANY(parent);
    assert_true(cctx_cancel(own));
    assert_int_equal(cctx_err(any), 0);
    cctx_cancel_cause(parent, &cause[2]);
    assert_ptr_equal(cctx_cause(any), &cause[2]);
    cctx_unref(own);
    cctx_unref(any);
    cctx_unref(parent);
}

/* B1 */
static void a_parent_may_stand_there_twice(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_cancel(cctx_background());
    cctx_t *b = cctx_with_cancel(cctx_background());
    const cctx_t *through = cctx_with_value(b, &key, &ended);
    cctx_t *same = ANY(a, a, a);
    cctx_t *mixed = ANY(a, b, a, b, through, through);
    cctx_t *gone = ANY(b, b);
    cctx_unref(gone);
    cctx_cancel_cause(b, &cause[1]);
    assert_ptr_equal(cctx_cause(mixed), &cause[1]);
    assert_int_equal(cctx_err(same), 0);
    cctx_cancel_cause(a, &cause[2]);
    assert_ptr_equal(cctx_cause(same), &cause[2]);
    assert_ptr_equal(cctx_cause(mixed), &cause[1]);
    cctx_unref(through);
    cctx_unref(a);
    cctx_unref(same);
    cctx_unref(b);
    cctx_unref(mixed);
}

/* B1, C26: with parents that never end it has still its own end. */
static void parents_that_never_end_are_fine(void **state)
{
    (void)state;
    cctx_t *live = cctx_with_cancel(cctx_background());
    const cctx_t *apart = cctx_without_cancel(live);
    const cctx_t *value = cctx_with_value(cctx_todo(), &key, &ended);
    cctx_t *never = ANY(cctx_background(), cctx_todo(), apart, value);
    assert_int_equal(cctx_err(never), 0);
    assert_non_null(cctx_done(never));
    cctx_cancel(live);
    assert_int_equal(cctx_err(never), 0);
    assert_true(cctx_cancel_cause(never, &cause[3]));
    assert_ptr_equal(cctx_cause(never), &cause[3]);
    cctx_unref(never);

    cctx_t *late = cctx_with_cancel(cctx_background());
    cctx_t *mixed = ANY(cctx_background(), value, late, apart);
    assert_null(cctx_value(mixed, &key));
    cctx_cancel_cause(late, &cause[4]);
    assert_ptr_equal(cctx_cause(mixed), &cause[4]);
    cctx_unref(mixed);
    cctx_unref(late);
    cctx_unref(value);
    cctx_unref(apart);
    cctx_unref(live);
}

/* B1, C3 */
static void with_a_parent_that_is_done_it_is_born_done(void **state)
{
    (void)state;
    for (int at = 0; at < 3; at++)
        for (int timed = 0; timed < 2; timed++) {
            cctx_t *parent[3];
            for (int i = 0; i < 3; i++)
                parent[i] = i == at && timed ? cctx_with_timeout_cause(cctx_background(), 0, &cause[1])
                                             : cctx_with_cancel(cctx_background());
            if (!timed)
                cctx_cancel_cause(parent[at], &cause[1]);
            cctx_t *any = cctx_with_any((const cctx_t *const *)parent, 3);
            assert_int_equal(cctx_err(any), timed ? ETIMEDOUT : ECANCELED);
            assert_ptr_equal(cctx_cause(any), &cause[1]);
            assert_false(cctx_cancel_cause(any, &cause[2]));
            cctx_t *below = cctx_with_cancel(any);
            assert_ptr_equal(cctx_cause(below), &cause[1]);
            for (int i = 0; i < 3; i++)
                cctx_cancel_cause(parent[i], &cause[3]);
            for (int i = 0; i < 3; i++)
                cctx_unref(parent[i]);
            assert_ptr_equal(cctx_cause(any), &cause[1]);
            cctx_unref(any);
            assert_ptr_equal(cctx_cause(below), &cause[1]);
            cctx_unref(below);
        }

    /* Two are done: it has the error and the cause of one of them, and of the same one. */
    cctx_t *late = cctx_with_timeout_cause(cctx_background(), 0, &cause[1]);
    cctx_t *canceled = cctx_with_cancel(cctx_background());
    cctx_cancel_cause(canceled, &cause[2]);
    cctx_t *any = ANY(cctx_background(), late, canceled);
    assert_true(cctx_err(any) == ETIMEDOUT ? cctx_cause(any) == &cause[1]
                                           : cctx_err(any) == ECANCELED && cctx_cause(any) == &cause[2]);
    cctx_unref(any);
    cctx_unref(late);
    cctx_unref(canceled);
}

/* B1, C20: it keeps all its parents, with their values and their texts. */
static void it_keeps_all_its_parents_alive(void **state)
{
    (void)state;
    ended = 0;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t *a = cctx_with_value(top, &ending_key, NULL);
    cctx_t *mid = cctx_with_cancel(top);
    const cctx_t *b = cctx_with_value(mid, &ending_key, NULL);
    cctx_t *any = ANY(a, b);
    cctx_t *below = cctx_with_cancel(any);
    cctx_unref(a);
    cctx_unref(b);
    cctx_unref(any);
    assert_int_equal(ended, 0);
    cctx_cancel_causef(mid, 1, "by the second parent's parent");
    cctx_unref(mid);
    cctx_unref(top);
    assert_string_equal(cctx_cause(below)->text, "by the second parent's parent");
    cctx_unref(below);
    assert_int_equal(ended, 2);
}

/* B1, C20: several that share one done word are several parents. */
static void it_keeps_parents_that_share_a_done_word(void **state)
{
    (void)state;
    ended = 0;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t *value[4];
    for (int i = 0; i < 4; i++)
        value[i] = cctx_with_value(top, &ending_key, NULL);
    cctx_t *any = ANY(top, value[0], value[1], value[1], value[2], value[3]);
    cctx_unref(top);
    for (int i = 0; i < 4; i++)
        cctx_unref(value[i]);
    assert_int_equal(ended, 0);
    cctx_unref(any);
    assert_int_equal(ended, 4);
}

/* B1, C20: one that never ends is a parent like another. */
static void it_keeps_parents_that_never_end(void **state)
{
    (void)state;
    ended = 0;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t *apart = cctx_without_cancel(top);
    const cctx_t *a = cctx_with_value(apart, &ending_key, NULL);
    const cctx_t *b = cctx_with_value(cctx_background(), &ending_key, NULL);
    cctx_t *any = ANY(top, a, b);
    cctx_t *first = ANY(a, top);
    cctx_unref(apart);
    cctx_unref(a);
    cctx_unref(b);
    cctx_unref(top);
    assert_int_equal(ended, 0);
    cctx_unref(any);
    assert_int_equal(ended, 1);
    cctx_unref(first);
    assert_int_equal(ended, 2);
}

/* B1, C20: born done, it is as much a child of them all. */
static void born_done_it_keeps_its_parents(void **state)
{
    (void)state;
    for (int at = 0; at < 3; at++) {
        ended = 0;
        const cctx_t *parent[3];
        for (int i = 0; i < 3; i++) {
            cctx_t *owner = cctx_with_cancel(cctx_background());
            if (i == at)
                cctx_cancel_causef(owner, 1, "done %d", at);
            parent[i] = cctx_with_value(owner, &ending_key, NULL);
            cctx_unref(owner);
        }
        cctx_t *any = cctx_with_any(parent, 3);
        for (int i = 0; i < 3; i++)
            cctx_unref(parent[i]);
        assert_int_equal(cctx_cause(any)->text[5], '0' + at);
        assert_int_equal(ended, 0);
        cctx_unref(any);
        assert_int_equal(ended, 3);
    }
}

/* B1, C32: the array is read during the call only. */
static void the_array_may_be_reused(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_cancel(cctx_background());
    cctx_t *b = cctx_with_cancel(cctx_background());
    const cctx_t **parents = malloc(2 * sizeof *parents);
    parents[0] = a;
    parents[1] = b;
    cctx_t *any = cctx_with_any(parents, 2);
    parents[0] = parents[1] = NULL;
    free(parents);
    cctx_cancel(b);
    assert_int_equal(cctx_err(any), ECANCELED);
    cctx_unref(any);
    cctx_unref(a);
    cctx_unref(b);
}

/* ---- nothing left behind ---- */

/* B1, C22, C14 */
static void released_merges_leave_nothing_in_parents_that_live(void **state)
{
    (void)state;
    enum { PARENTS = 20, HELD = 30, TURNS = 20 };
    cctx_t *parent[PARENTS];
    cctx_t *held[HELD] = {NULL};
    for (int i = 0; i < PARENTS; i++)
        parent[i] = i % 5 == 4 ? cctx_with_timeout(cctx_background(), CCTX_S(3600) + i)
                               : cctx_with_cancel(i % 3 ? parent[i / 2] : cctx_background());
    rng_t rng = rng_make(test_seed(), 1);
    size_t base = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < SCALED(50000); i++) {
            const cctx_t *pick[6];
            size_t n = 1 + (size_t)rng_below(&rng, 6);
            for (size_t k = 0; k < n; k++)
                pick[k] = parent[rng_below(&rng, PARENTS)];
            cctx_t **place = &held[rng_below(&rng, HELD)];
            if (rng_below(&rng, 3) == 0)
                cctx_cancel(*place);
            cctx_unref(*place);
            *place = cctx_with_any(pick, n);
            assert_non_null(*place);
            assert_int_equal(cctx_err(*place), 0);
        }
        size_t now = memory_in_use();
        if (turn == 1)
            base = now;
        if (turn > 1)
            assert_in_range(now > base ? now - base : 0, 0, 256 * 1024);
    }
    for (int i = 0; i < HELD; i++)
        cctx_unref(held[i]);
    for (int i = PARENTS; i-- > 0;) {
        assert_int_equal(cctx_err(parent[i]), 0);
        cctx_unref(parent[i]);
    }
}

/* ---- graphs ---- */

/* B1, C3: a diamond: by both sides, and by each alone. */
static void a_diamond_ends_by_either_side(void **state)
{
    (void)state;
    for (int who = 0; who < 4; who++) {
        cctx_t *top = cctx_with_cancel(cctx_background());
        cctx_t *left = cctx_with_cancel(top);
        cctx_t *right = cctx_with_cancel(top);
        cctx_t *bottom = ANY(left, right);
        cctx_t *below = cctx_with_cancel(bottom);
        cctx_t *node[] = {top, left, right, bottom};
        assert_true(cctx_cancel_cause(node[who], &cause[who]));
        assert_ptr_equal(cctx_cause(below), &cause[who]);
        assert_int_equal(cctx_is_done(left), who <= 1);
        assert_int_equal(cctx_is_done(right), who == 0 || who == 2);
        for (int i = 0; i < 4; i++)
            cctx_unref(node[i]);
        cctx_unref(below);
    }
}

/* B1, C7: a ladder has 2^levels ways from its top to its foot; each rung is settled once. */
static void a_ladder_does_not_take_all_its_ways(void **state)
{
    (void)state;
    enum { LEVELS = 2000 };
    static cctx_t *side[2][LEVELS];
    static cctx_callback_t callback[2][LEVELS];
    for (int who = 0; who < 2; who++) {
        ended = 0;
        for (int i = 0; i < LEVELS; i++)
            for (int s = 0; s < 2; s++) {
                side[s][i] = i == 0 ? cctx_with_cancel(cctx_background())
                                    : ANY(side[s][i - 1], side[!s][i - 1]);
                assert_non_null(side[s][i]);
                assert_int_equal(cctx_after_func(side[s][i], &callback[s][i], note_end, NULL), 0);
            }
        assert_int_equal(cctx_err(side[0][LEVELS - 1]), 0);
        assert_true(cctx_cancel_cause(side[who][0], &cause[who]));
        for (int i = 1; i < LEVELS; i++)
            for (int s = 0; s < 2; s++) {
                assert_int_equal(cctx_err(side[s][i]), ECANCELED);
                assert_ptr_equal(cctx_cause(side[s][i]), &cause[who]);
            }
        assert_int_equal(cctx_err(side[!who][0]), 0);
        assert_true(cctx_stop(&callback[!who][0]));
        assert_int_equal(ended, 2 * LEVELS - 1);
        for (int i = 0; i < LEVELS; i++)
            for (int s = 0; s < 2; s++)
                cctx_unref(side[s][who ? LEVELS - 1 - i : i]);
    }
}

/* ---- seeded graphs against a plain model ---- */

enum { NODES = 120, MOST_PARENTS = 5 };

typedef struct graph {
    cctx_t *node[NODES];
    int parents[NODES];
    int parent[NODES][MOST_PARENTS];
    int canceled[4];
    int turn;
} graph_t;

static void graph_make(graph_t *graph, rng_t *rng)
{
    for (int i = 0; i < NODES; i++) {
        const cctx_t *pick[MOST_PARENTS];
        graph->parents[i] = i < 3 ? 0 : 1 + (int)rng_below(rng, MOST_PARENTS);
        for (int k = 0; k < graph->parents[i]; k++) {
            graph->parent[i][k] = rng_below(rng, 2) ? (int)rng_below(rng, (uint64_t)i)
                                                    : i - 1 - (int)rng_below(rng, i < 10 ? (uint64_t)i : 10);
            pick[k] = graph->node[graph->parent[i][k]];
        }
        graph->node[i] = graph->parents[i] == 0   ? cctx_with_cancel(cctx_background())
                         : graph->parents[i] == 1 ? cctx_with_cancel(pick[0])
                                                  : cctx_with_any(pick, (size_t)graph->parents[i]);
        assert_non_null(graph->node[i]);
    }
}

static void graph_free(graph_t *graph, rng_t *rng)
{
    int order = (int)rng_below(rng, 3);
    for (int i = 0; i < NODES; i++)
        cctx_unref(graph->node[order == 0 ? i : order == 1 ? NODES - 1 - i : (i * 7 + 3) % NODES]);
}

/* below[i]: node i hangs, by whatever way, below one of those marked. */
static void graph_below(const graph_t *graph, bool below[NODES])
{
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < graph->parents[i]; k++)
            below[i] = below[i] || below[graph->parent[i][k]];
}

/* B1, C1, C3: after each cancel just those below are done, with the cause that came first. */
static void a_random_graph_ends_as_the_model_says(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    static graph_t graph;
    for (uint64_t round = 0; round < SCALED(3000); round++) {
        rng_t rng = rng_make(seed, round);
        const cctx_cause_t *expected[NODES] = {NULL};
        graph_make(&graph, &rng);
        for (int step = 0; step < 5; step++) {
            int who = (int)rng_below(&rng, NODES);
            bool below[NODES] = {false};
            below[who] = true;
            graph_below(&graph, below);
            assert_int_equal(cctx_cancel_cause(graph.node[who], &cause[step]), expected[who] == NULL);
            for (int i = 0; i < NODES; i++) {
                if (below[i] && !expected[i])
                    expected[i] = &cause[step];
                assert_ptr_equal(cctx_cause(graph.node[i]), expected[i]);
            }
        }
        graph_free(&graph, &rng);
    }
}

static void cancel_one_and_look_below(unsigned index, void *arg)
{
    graph_t *graph = arg;
    bool below[NODES] = {false};
    below[graph->canceled[index]] = true;
    graph_below(graph, below);
    cctx_cancel_cause(graph->node[graph->canceled[index]], &cause[index]);
    for (int i = 0; i < NODES; i++) {
        if (below[i])
            CHECK(cctx_is_done(graph->node[i]));
        /* A done merge has a done parent, or was canceled itself. */
        const cctx_cause_t *why = cctx_cause(graph->node[i]);
        if (!why)
            continue;
        bool explained = graph->node[i] == graph->node[graph->canceled[why - cause]];
        for (int k = 0; k < graph->parents[i]; k++)
            explained = explained || cctx_is_done(graph->node[graph->parent[i][k]]);
        CHECK(explained);
    }
}

/* B1, C3, C4: cancels by several threads meet in the graph. */
static void cancels_that_meet_in_a_graph_leave_nothing_live(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    static graph_t graph;
    for (uint64_t round = 0; round < SCALED(3000); round++) {
        rng_t rng = rng_make(seed, 1000000 + round);
        graph_make(&graph, &rng);
        for (int i = 0; i < 4; i++)
            graph.canceled[i] = (int)rng_below(&rng, i < 2 ? 10 : NODES);
        threads_run(4, cancel_one_and_look_below, &graph);
        graph_free(&graph, &rng);
    }
}

typedef struct meeting {
    cctx_t *parent[3];
    cctx_t *any[40];
    uint64_t seed;
} meeting_t;

static void cancel_or_release_or_derive(unsigned index, void *arg)
{
    meeting_t *meeting = arg;
    rng_t rng = rng_make(meeting->seed, index);
    if (index < 2) {
        for (uint64_t i = rng_below(&rng, 200); i > 0; i--)
            sched_yield();
        cctx_cancel_cause(meeting->parent[index], &cause[index]);
    } else if (index == 2) {
        for (int i = 0; i < 40; i++)
            cctx_unref(meeting->any[i]);
    } else {
        for (int i = 0; i < 40; i++) {
            cctx_t *any = ANY(meeting->parent[2], meeting->parent[i % 2], meeting->parent[1 - i % 2]);
            CHECK(any != NULL);
            cctx_t *below = cctx_with_cancel(any);
            const cctx_cause_t *why = cctx_cause(below);
            CHECK(!why || why == &cause[0] || why == &cause[1]);
            cctx_unref(any);
            if (i % 3 == 0) {
                int err = cctx_wait(below);
                CHECK(err == ECANCELED);
                why = cctx_cause(below);
                CHECK(why == &cause[0] || why == &cause[1]);
            }
            cctx_unref(below);
        }
    }
}

/* B1, C6: cancels of two parents against releases and derivations of merges of them. */
static void cancels_releases_and_derivations_may_meet(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (uint64_t round = 0; round < SCALED(2000); round++) {
        meeting_t meeting = {.seed = seed + round};
        for (int i = 0; i < 3; i++)
            meeting.parent[i] = cctx_with_cancel(cctx_background());
        for (int i = 0; i < 40; i++)
            meeting.any[i] = ANY(meeting.parent[i % 3], meeting.parent[(i + 1) % 3], meeting.parent[i % 2]);
        threads_run(4, cancel_or_release_or_derive, &meeting);
        assert_int_equal(cctx_err(meeting.parent[2]), 0);
        for (int i = 0; i < 3; i++)
            cctx_unref(meeting.parent[i]);
    }
}

/* B1: it costs no thread. A sanitizer and an emulator have some of their own. */
static void no_thread_is_made(void *arg)
{
    (void)arg;
    unsigned before = threads_now();
    CHECK(before == 1 || TEST_SANITIZED || TEST_EMULATED);
    cctx_t *a = cctx_with_cancel(cctx_background());
    cctx_t *any = ANY(a, cctx_todo());
    CHECK(threads_now() == before);
    cctx_close(a);
    CHECK(cctx_err(any) == ECANCELED);
    cctx_unref(any);
}

/* B1 */
static void a_merge_costs_no_thread(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(no_thread_is_made, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_costs_no_thread),
        cmocka_unit_test(it_ends_with_any_parent_by_that_parents_error_and_cause),
        cmocka_unit_test(its_own_cancel_reaches_no_parent),
        cmocka_unit_test(a_parents_deadline_ends_it_as_a_deadline),
        cmocka_unit_test(the_deadline_is_the_earliest),
        cmocka_unit_test(the_values_are_the_first_parents),
        cmocka_unit_test(one_parent_is_enough),
        cmocka_unit_test(a_parent_may_stand_there_twice),
        cmocka_unit_test(parents_that_never_end_are_fine),
        cmocka_unit_test(with_a_parent_that_is_done_it_is_born_done),
        cmocka_unit_test(it_keeps_all_its_parents_alive),
        cmocka_unit_test(it_keeps_parents_that_share_a_done_word),
        cmocka_unit_test(it_keeps_parents_that_never_end),
        cmocka_unit_test(born_done_it_keeps_its_parents),
        cmocka_unit_test(the_array_may_be_reused),
        cmocka_unit_test(released_merges_leave_nothing_in_parents_that_live),
        cmocka_unit_test(a_diamond_ends_by_either_side),
        cmocka_unit_test(a_ladder_does_not_take_all_its_ways),
        cmocka_unit_test(a_random_graph_ends_as_the_model_says),
        cmocka_unit_test(cancels_that_meet_in_a_graph_leave_nothing_live),
        cmocka_unit_test(cancels_releases_and_derivations_may_meet),
    };
    watchdog(115);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
