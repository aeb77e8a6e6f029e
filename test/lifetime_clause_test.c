/* SPDX-License-Identifier: BSD-2-Clause */
/* Lifetime: contexts keep their ancestors, leave at once, and memory follows what is alive. C17, C20-C22. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

/*
 * What a thread may keep for itself, in bytes: cells for later and nodes that wait for a grace period. The
 * rests that an allocator's own caches count as in use are in it.
 */
#ifndef CCTX_CHECK
#define CCTX_CHECK 0
#endif
enum { THREAD_CONSTANT = (CCTX_CHECK ? 768 : 256) * 1024 };    /* a checked build keeps the last 1,024 that were freed */

/* A child's place in its parent, and what its chunk adds, for the widest moment of that parent. */
enum { SLOT_BYTES = 16 };

static int order[64];
static int order_length;

static void note_order(void *value)
{
    order[order_length++ % 64] = (int)(intptr_t)value;
}

static const cctx_key_t order_key = {"order", note_order};

static void *tag(int number)
{
    return (void *)(intptr_t)number;
}

/* C20 */
static void a_child_keeps_its_ancestors_when_their_handles_go_first(void **state)
{
    (void)state;
    order_length = 0;
    const cctx_t *value = cctx_with_value(cctx_background(), &order_key, tag(1));
    cctx_t *top = cctx_with_cancel(value);
    cctx_t *keeper = cctx_with_cancel(top);
    cctx_t *mid = cctx_with_timeout(keeper, CCTX_S(3600));
    cctx_t *leaf = cctx_with_cancel(mid);
    cctx_unref(value);
    cctx_unref(mid);
    cctx_unref(keeper);
    assert_ptr_equal(cctx_value(leaf, &order_key), tag(1));
    assert_true(cctx_deadline(leaf, NULL));
    assert_int_equal(cctx_err(leaf), 0);
    assert_true(cctx_print(leaf, NULL, 0) > 0);
    assert_true(cctx_cancel_causef(top, 3, "from %s", "above"));
    cctx_unref(top);
    assert_int_equal(cctx_err(leaf), ECANCELED);
    assert_string_equal(cctx_cause(leaf)->text, "from above");
    assert_int_equal(order_length, 0);
    cctx_unref(leaf);
    assert_int_equal(order_length, 1);
}

/* C17, C20: a context is freed with the last reference to it or to what is below: the lowest goes first. */
static void freeing_runs_from_the_leaf_to_the_top(void **state)
{
    (void)state;
    enum { DEPTH = 40 };
    order_length = 0;
    const cctx_t *line[DEPTH];
    for (int i = 0; i < DEPTH; i++)
        line[i] = cctx_with_value(i == 0 ? cctx_background() : line[i - 1], &order_key, tag(i));
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(order_length, 0);
        cctx_unref(line[i]);
    }
    assert_int_equal(order_length, DEPTH);
    for (int i = 0; i < DEPTH; i++)
        assert_int_equal(order[i], DEPTH - 1 - i);
}

/* C21 */
static void dropping_the_last_reference_is_not_a_cancel(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *mid = cctx_with_timeout(top, CCTX_S(3600));
    cctx_t *leaf = cctx_with_cancel(mid);
    cctx_t *sibling = cctx_with_cancel(mid);
    cctx_unref(mid);
    assert_int_equal(cctx_err(leaf), 0);
    cctx_unref(sibling);
    assert_int_equal(cctx_err(leaf), 0);
    assert_int_equal(cctx_err(top), 0);
    cctx_cancel(top);
    assert_int_equal(cctx_err(leaf), ECANCELED);
    cctx_unref(leaf);
    cctx_unref(top);
}

/* C21: what the context held above it goes in the same call; so it was detached and disarmed in that call. */
static void dropping_the_last_reference_detaches_at_once(void **state)
{
    (void)state;
    order_length = 0;
    const cctx_t *value = cctx_with_value(cctx_background(), &order_key, tag(1));
    cctx_t *plain = cctx_with_cancel(value);
    cctx_t *timed = cctx_with_timeout(value, CCTX_S(3600));
    cctx_t *far = cctx_with_deadline(value, INT64_MAX - 1);
    cctx_t *done = cctx_with_cancel(value);
    cctx_t *child = cctx_with_cancel(timed);
    cctx_cancel(done);
    cctx_unref(value);
    cctx_unref(plain);
    cctx_unref(timed);
    cctx_unref(far);
    cctx_unref(done);
    assert_int_equal(order_length, 0);
    cctx_unref(child);
    assert_int_equal(order_length, 1);
}

/* C21, C28: a registration is a reference; a stop drops it. */
static void a_registration_keeps_the_context_until_it_is_stopped(void **state)
{
    (void)state;
    order_length = 0;
    cctx_callback_t callback = {{0}};
    const cctx_t *value = cctx_with_value(cctx_background(), &order_key, tag(1));
    cctx_t *ctx = cctx_with_cancel(value);
    assert_int_equal(cctx_after_func(ctx, &callback, note_order, tag(2)), 0);
    cctx_unref(value);
    cctx_unref(ctx);
    assert_int_equal(order_length, 0);
    assert_true(cctx_stop(&callback));
    assert_int_equal(order_length, 1);
    assert_int_equal(order[0], 1);
}

/* C21 */
static void references_are_counted_and_the_roots_are_immortal(void **state)
{
    (void)state;
    order_length = 0;
    const cctx_t *value = cctx_with_value(cctx_background(), &order_key, tag(1));
    for (int i = 0; i < 1000; i++)
        assert_ptr_equal(cctx_ref(value), value);
    for (int i = 0; i < 1000; i++)
        cctx_unref(value);
    assert_int_equal(order_length, 0);
    cctx_unref(value);
    assert_int_equal(order_length, 1);

    for (int i = 0; i < 1000; i++) {
        cctx_unref(cctx_background());
        cctx_unref(cctx_todo());
    }
    assert_ptr_equal(cctx_ref(cctx_background()), cctx_background());
    assert_ptr_not_equal(cctx_background(), cctx_todo());
    cctx_t *child = cctx_with_cancel(cctx_todo());
    assert_int_equal(cctx_err(child), 0);
    cctx_unref(child);
}

/* C21, C3 */
static void close_cancels_and_drops(void **state)
{
    (void)state;
    order_length = 0;
    const cctx_t *value = cctx_with_value(cctx_background(), &order_key, tag(1));
    cctx_t *ctx = cctx_with_cancel(value);
    cctx_t *child = cctx_with_cancel(ctx);
    cctx_unref(value);
    cctx_close(ctx);
    assert_int_equal(cctx_err(child), ECANCELED);
    assert_int_equal(order_length, 0);
    cctx_close(child);
    assert_int_equal(order_length, 1);

    /* Another's reference sees the cancel. */
    ctx = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    const cctx_t *other = cctx_ref(ctx);
    cctx_close(ctx);
    assert_int_equal(cctx_err(other), ECANCELED);
    cctx_unref(other);
}

/* ---- memory ---- */

static size_t above(size_t now, size_t before)
{
    return now > before ? now - before : 0;
}

/* One round of a life under a parent. What it makes it frees. */
static void live_once(const cctx_t *parent, uint64_t choice)
{
    cctx_t *child = choice % 8 == 1 ? cctx_with_timeout(parent, CCTX_S(3600)) : cctx_with_cancel(parent);
    if (choice % 8 == 2 || choice % 8 == 1) {
        cctx_t *grandchild = cctx_with_cancel(child);
        cctx_unref(child);
        child = grandchild;
    } else if (choice % 8 == 3) {
        const cctx_t *value = cctx_with_value(child, &order_key, tag(1));
        cctx_unref(child);
        cctx_unref(value);
        return;
    }
    if (choice % 2)
        cctx_cancel(child);
    cctx_unref(child);
}

/* C22 */
static void a_parent_that_lives_does_not_grow_under_a_churn_of_children(void **state)
{
    (void)state;
    enum { TURNS = 100, HELD = 50 };
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *held[HELD] = {NULL};
    rng_t rng = rng_make(test_seed(), 22);
    size_t base = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < SCALED(100000); i++) {
            uint64_t choice = rng_next(&rng);
            if (choice % 4 == 0) {
                cctx_t **place = &held[choice / 8 % HELD];
                cctx_unref(*place);
                *place = cctx_with_cancel(parent);
            } else {
                live_once(parent, choice / 8);
            }
        }
        if (turn == 0)
            base = memory_in_use();
        else
            assert_in_range(above(memory_in_use(), base), 0, THREAD_CONSTANT);
    }
    for (int i = 0; i < HELD; i++)
        cctx_unref(held[i]);
    assert_int_equal(cctx_err(parent), 0);
    cctx_unref(parent);
}

/* Derives n children below parent, of a kind, and frees them in a given order. */
static void widen(const cctx_t *parent, cctx_t **child, int n, int order_of_freeing)
{
    for (int i = 0; i < n; i++) {
        child[i] = cctx_with_cancel(parent);
        assert_non_null(child[i]);
    }
    for (int i = 0; i < n; i++) {
        int inward = i % 2 ? i / 2 : n - 1 - i / 2;
        int at = order_of_freeing == 0 ? i : order_of_freeing == 1 ? n - 1 - i : inward;
        cctx_unref(child[at]);
    }
}

/* C22 */
static void a_fan_out_that_is_freed_returns_its_memory(void **state)
{
    (void)state;
    int n = SCALED(1000000);
    cctx_t **child = calloc((size_t)n, sizeof *child);
    live_once(cctx_background(), 1);
    size_t base = memory_in_use();
    for (int order_of_freeing = 0; order_of_freeing < 3; order_of_freeing++) {
        cctx_t *parent = cctx_with_cancel(cctx_background());
        widen(parent, child, n, order_of_freeing);
        /* The parent keeps the slots of its widest moment, and no context. */
        assert_in_range(above(memory_in_use(), base), 0, (size_t)n * SLOT_BYTES + THREAD_CONSTANT);
        cctx_unref(parent);
        assert_in_range(above(memory_in_use(), base), 0, THREAD_CONSTANT);
    }
    /* Canceled, and freed by the last of its children. */
    cctx_t *parent = cctx_with_cancel(cctx_background());
    for (int i = 0; i < n; i++)
        child[i] = cctx_with_cancel(parent);
    cctx_close(parent);
    for (int i = 0; i < n; i++)
        cctx_unref(child[i]);
    assert_in_range(above(memory_in_use(), base), 0, THREAD_CONSTANT);
    free(child);
}

/* C22 */
static void a_parent_is_bounded_by_its_widest_moment(void **state)
{
    (void)state;
    int n = SCALED(100000);
    cctx_t **child = calloc((size_t)n, sizeof *child);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    rng_t rng = rng_make(test_seed(), 23);
    for (int i = 0; i < n; i++)
        child[i] = cctx_with_cancel(parent);
    size_t widest = memory_in_use();
    /* Ever new children in the places of random ones; the number of live ones is never higher. */
    for (int i = 0; i < 20 * n; i++) {
        cctx_t **place = &child[rng_below(&rng, (uint64_t)n)];
        cctx_unref(*place);
        *place = cctx_with_cancel(parent);
    }
    /* Pages of cells that are half empty, and one slot in seven, are within the bound. */
    assert_in_range(above(memory_in_use(), widest), 0, (size_t)n * SLOT_BYTES + THREAD_CONSTANT);
    size_t settled = memory_in_use();
    for (int wave = 0; wave < 10; wave++) {
        for (int i = 0; i < n; i++)
            cctx_unref(child[wave % 2 ? i : n - 1 - i]);
        for (int i = 0; i < n; i++)
            child[i] = cctx_with_cancel(parent);
        assert_in_range(above(memory_in_use(), settled), 0, THREAD_CONSTANT);
    }
    for (int i = 0; i < n; i++)
        cctx_unref(child[i]);
    cctx_unref(parent);
    free(child);
}

/* C22: value contexts, merges, contexts apart and deep chains leave nothing either. */
static void every_kind_of_context_returns_its_memory(void **state)
{
    (void)state;
    enum { LINE = 60 };
    static cctx_key_t key[LINE];
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *second = cctx_with_cancel(cctx_background());
    size_t base = 0;
    for (int round = 0; round < SCALED(20000); round++) {
        const cctx_t *line[LINE];
        line[0] = cctx_with_cancel(parent);
        for (int i = 1; i < LINE; i++)
            switch (i % 6) {
            case 0: line[i] = cctx_with_cancel(line[i - 1]); break;
            case 1: line[i] = cctx_with_value(line[i - 1], &key[i], &line); break;
            case 2: line[i] = cctx_with_any((const cctx_t *[]){line[i - 1], second, parent}, 3); break;
            case 3: line[i] = cctx_with_timeout(line[i - 1], CCTX_S(3600) - i); break;
            case 4: line[i] = cctx_without_cancel(line[i - 1]); break;
            default: line[i] = cctx_with_value(line[i - 1], &key[1], &line); break;
            }
        if (round % 3 == 0)
            for (int i = 0; i < LINE; i++)
                cctx_unref(line[i]);
        else
            for (int i = LINE; i-- > 0;)
                cctx_unref(line[i]);
        if (round == SCALED(20000) / 20)
            base = memory_in_use();
    }
    assert_in_range(above(memory_in_use(), base), 0, THREAD_CONSTANT);
    cctx_unref(second);
    cctx_unref(parent);
}

/* C22, C10: formatted causes are freed with their contexts, and those of losers at once. */
static void formatted_causes_return_their_memory(void **state)
{
    (void)state;
    size_t base = 0;
    for (int round = 0; round < SCALED(100000); round++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        cctx_t *child = cctx_with_cancel(ctx);
        cctx_cancel_causef(ctx, round, "%0100d", round);
        cctx_cancel_causef(ctx, round, "%0100d", round);
        cctx_cancel_causef(child, round, "%0100d", round);
        cctx_unref(ctx);
        cctx_unref(child);
        if (round == SCALED(100000) / 10)
            base = memory_in_use();
    }
    assert_in_range(above(memory_in_use(), base), 0, THREAD_CONSTANT);
}

static void derive_here(unsigned index, void *arg)
{
    cctx_t ***child = arg;
    for (int i = 0; i < SCALED(100000); i++) {
        child[1 + index][i] = cctx_with_cancel(*child[0]);
        CHECK(child[1 + index][i] != NULL);
    }
}

static void free_there(unsigned index, void *arg)
{
    cctx_t ***child = arg;
    for (int i = 0; i < SCALED(100000); i++)
        cctx_unref(child[2 - index][i]);
}

/* C22: what one thread made and another freed does not pile up. */
static void memory_returns_when_others_free_it(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t **child[3] = {&parent, calloc(100000, sizeof(cctx_t *)), calloc(100000, sizeof(cctx_t *))};
    size_t base = 0;
    for (int round = 0; round < 10; round++) {
        threads_run(2, derive_here, child);
        threads_run(2, free_there, child);
        if (round == 1)
            base = memory_in_use();
    }
    assert_in_range(above(memory_in_use(), base), 0, 2 * THREAD_CONSTANT);
    cctx_unref(parent);
    free(child[1]);
    free(child[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_keeps_its_ancestors_when_their_handles_go_first),
        cmocka_unit_test(freeing_runs_from_the_leaf_to_the_top),
        cmocka_unit_test(dropping_the_last_reference_is_not_a_cancel),
        cmocka_unit_test(dropping_the_last_reference_detaches_at_once),
        cmocka_unit_test(a_registration_keeps_the_context_until_it_is_stopped),
        cmocka_unit_test(references_are_counted_and_the_roots_are_immortal),
        cmocka_unit_test(close_cancels_and_drops),
        cmocka_unit_test(a_parent_that_lives_does_not_grow_under_a_churn_of_children),
        cmocka_unit_test(a_fan_out_that_is_freed_returns_its_memory),
        cmocka_unit_test(a_parent_is_bounded_by_its_widest_moment),
        cmocka_unit_test(every_kind_of_context_returns_its_memory),
        cmocka_unit_test(formatted_causes_return_their_memory),
        cmocka_unit_test(memory_returns_when_others_free_it),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
