/* SPDX-License-Identifier: BSD-2-Clause */
/* Depth and width are bounded by memory alone: 1,000,000 either way on a stack of 64 KiB. C7. */
#include "support.h"

enum { COUNT = TEST_TSAN ? 50000 : SCALED(1000000) };

typedef enum { TOP_FIRST, LEAF_FIRST } freeing_t;

typedef struct tower {
    const char *name;
    const cctx_t *(*derive)(struct tower *tower, const cctx_t *parent, int level);
    const char *printed[2];   /* what the even and the odd levels print */
    bool reached;             /* a cancel of the top reaches the lowest */
    freeing_t freeing;
    cctx_t *side;             /* lives for all levels */
    cctx_t *top;
    const cctx_t **level;
    int destroyed;
} tower_t;

static const cctx_key_t top_key = {"top", NULL};

static void count_destroyed(void *value)
{
    ++*(int *)value;
}

static const cctx_key_t level_key = {"level", count_destroyed};

static const cctx_t *derive_cancel(tower_t *tower, const cctx_t *parent, int level)
{
    (void)tower;
    (void)level;
    return cctx_with_cancel(parent);
}

/* Each has a deadline of its own that is earlier than its parent's, so each is armed. */
static const cctx_t *derive_timed(tower_t *tower, const cctx_t *parent, int level)
{
    (void)tower;
    return cctx_with_deadline(parent, CCTX_NEVER - 1 - level);
}

static const cctx_t *derive_value(tower_t *tower, const cctx_t *parent, int level)
{
    (void)level;
    return cctx_with_value(parent, &level_key, &tower->destroyed);
}

static const cctx_t *derive_cancel_and_value(tower_t *tower, const cctx_t *parent, int level)
{
    return level % 2 ? derive_value(tower, parent, level) : derive_cancel(tower, parent, level);
}

static const cctx_t *derive_cancel_and_without(tower_t *tower, const cctx_t *parent, int level)
{
    (void)tower;
    return level % 2 ? cctx_without_cancel(parent) : cctx_with_cancel(parent);
}

static const cctx_t *derive_any_first(tower_t *tower, const cctx_t *parent, int level)
{
    (void)level;
    return cctx_with_any((const cctx_t *[]){parent, tower->side}, 2);
}

/* The way up leads through the second parent, and only there. */
static const cctx_t *derive_any_second(tower_t *tower, const cctx_t *parent, int level)
{
    (void)level;
    return cctx_with_any((const cctx_t *[]){tower->side, parent}, 2);
}

static const cctx_t *derive_any_only(tower_t *tower, const cctx_t *parent, int level)
{
    (void)tower;
    (void)level;
    return cctx_with_any(&parent, 1);
}

static void check_print(tower_t *tower)
{
    size_t part[2] = {strlen(tower->printed[0]), strlen(tower->printed[1])};
    const char root[] = "cctx.Background.WithCancel.WithValue(top)";
    size_t length = sizeof root - 1;
    for (int i = 0; i < COUNT; i++)
        length += part[i % 2];
    const cctx_t *leaf = tower->level[COUNT - 1];
    CHECK(cctx_print(leaf, NULL, 0) == length);
    char *text = malloc(length + 1);
    CHECK(cctx_print(leaf, text, length + 1) == length);
    CHECK(text[length] == '\0');
    CHECK(memcmp(text, root, sizeof root - 1) == 0);
    const char *at = text + sizeof root - 1;
    for (int i = 0; i < COUNT; at += part[i % 2], i++)
        CHECK(memcmp(at, tower->printed[i % 2], part[i % 2]) == 0);
    free(text);
}

static void build_and_fell(void *arg)
{
    tower_t *tower = arg;
    int value = 0;
    tower->side = cctx_with_cancel(cctx_background());
    tower->top = cctx_with_cancel(cctx_background());
    tower->level = calloc(COUNT, sizeof *tower->level);
    const cctx_t *carrier = cctx_with_value(tower->top, &top_key, &value);
    for (int i = 0; i < COUNT; i++) {
        tower->level[i] = tower->derive(tower, i == 0 ? carrier : tower->level[i - 1], i);
        CHECK(tower->level[i] != NULL);
    }
    cctx_unref(carrier);
    const cctx_t *leaf = tower->level[COUNT - 1];
    if (tower->derive != derive_any_second)
        CHECK(cctx_value(leaf, &top_key) == &value);
    CHECK(cctx_err(leaf) == 0);
    CHECK(cctx_remaining(leaf) > 0);
    if (tower->printed[0])
        check_print(tower);
    CHECK(cctx_cancel_causef(tower->top, 7, "top"));
    if (tower->reached) {
        for (int i = 0; i < COUNT; i++)
            CHECK(cctx_err(tower->level[i]) == ECANCELED);
        CHECK(cctx_cause(leaf) == cctx_cause(tower->top));
    } else {
        CHECK(cctx_err(tower->level[0]) == ECANCELED);
        CHECK(cctx_err(leaf) == 0);
    }
    CHECK(!cctx_cancel(tower->top));
    cctx_t *child = cctx_with_cancel(leaf);
    CHECK(cctx_err(child) == cctx_err(leaf));
    cctx_unref(child);
    if (tower->freeing == LEAF_FIRST) {
        for (int i = COUNT; i-- > 0;)
            cctx_unref(tower->level[i]);
        cctx_unref(tower->top);
    } else {
        cctx_unref(tower->top);
        for (int i = 0; i < COUNT - 1; i++)
            cctx_unref(tower->level[i]);
        cctx_unref(leaf); /* this one call frees them all */
    }
    cctx_unref(tower->side);
    free(tower->level);
}

static void raise_towers(tower_t tower)
{
    for (freeing_t freeing = TOP_FIRST; freeing <= LEAF_FIRST; freeing++) {
        tower.freeing = freeing;
        tower.destroyed = 0;
        run_on_small_stack(build_and_fell, &tower);
        int values = tower.derive == derive_value              ? COUNT
                     : tower.derive == derive_cancel_and_value ? COUNT / 2
                                                               : 0;
        assert_int_equal(tower.destroyed, values);
    }
}

/* C7, C20 */
static void a_million_cancel_contexts_deep(void **state)
{
    (void)state;
    raise_towers((tower_t){
        .derive = derive_cancel, .reached = true, .printed = {".WithCancel", ".WithCancel"}});
}

/* C7 */
static void a_million_armed_deadlines_deep(void **state)
{
    (void)state;
    raise_towers((tower_t){.derive = derive_timed, .reached = true});
}

/* C7, C16, C17 */
static void a_million_values_deep(void **state)
{
    (void)state;
    raise_towers((tower_t){
        .derive = derive_value, .reached = true, .printed = {".WithValue(level)", ".WithValue(level)"}});
    raise_towers((tower_t){
        .derive = derive_cancel_and_value, .reached = true, .printed = {".WithCancel", ".WithValue(level)"}});
}

/* C7, C19 */
static void a_million_deep_with_cancellation_cut_off(void **state)
{
    (void)state;
    raise_towers((tower_t){
        .derive = derive_cancel_and_without, .reached = false, .printed = {".WithCancel", ".WithoutCancel"}});
}

/* C7, B1 */
static void a_million_merges_deep(void **state)
{
    (void)state;
    raise_towers((tower_t){
        .derive = derive_any_only, .reached = true, .printed = {".WithAny(1)", ".WithAny(1)"}});
    raise_towers((tower_t){
        .derive = derive_any_first, .reached = true, .printed = {".WithAny(2)", ".WithAny(2)"}});
}

/* C7, B1: each level hangs from the one above by its second parent. */
static void a_million_merges_deep_by_their_second_parents(void **state)
{
    (void)state;
    raise_towers((tower_t){.derive = derive_any_second, .reached = true});
}

static void cancel_the_side(void *arg)
{
    tower_t *tower = arg;
    const cctx_t **level = calloc(COUNT, sizeof *level);
    tower->side = cctx_with_cancel(cctx_background());
    tower->top = cctx_with_cancel(cctx_background());
    for (int i = 0; i < COUNT; i++)
        level[i] = tower->derive(tower, i == 0 ? tower->top : level[i - 1], i);
    CHECK(cctx_cancel(tower->side));
    for (int i = 0; i < COUNT; i++)
        CHECK(cctx_err(level[i]) == ECANCELED);
    CHECK(cctx_err(tower->top) == 0);
    cctx_unref(tower->side);
    cctx_unref(tower->top);
    for (int i = 0; i < COUNT; i++)
        cctx_unref(level[i]);
    free(level);
}

/* C7, B1: one context is a parent of each level of a chain, so that each level is met twice. */
static void a_parent_of_every_level_of_a_million_merges(void **state)
{
    (void)state;
    tower_t tower = {.derive = derive_any_first};
    run_on_small_stack(cancel_the_side, &tower);
    tower.derive = derive_any_second;
    run_on_small_stack(cancel_the_side, &tower);
}

static void wait_for_the_deadline_above(void *arg)
{
    (void)arg;
    int count = COUNT / 10;
    const cctx_t **level = calloc((size_t)count, sizeof *level);
    cctx_t *top = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    for (int i = 0; i < count; i++)
        level[i] = cctx_with_cancel(i == 0 ? top : level[i - 1]);
    CHECK(cctx_wait(level[count - 1]) == ETIMEDOUT);
    for (int i = 0; i < count; i++)
        CHECK(cctx_err(level[i]) == ETIMEDOUT);
    for (int i = 0; i < count; i++)
        cctx_unref(level[i]);
    cctx_unref(top);
    free(level);
}

/* C7, C27: a waiter may have to end the whole tree itself. */
static void a_waiter_ends_a_deep_tree_on_a_small_stack(void **state)
{
    (void)state;
    run_on_small_stack(wait_for_the_deadline_above, NULL);
}

typedef struct plain {
    bool cancel_first, parent_first;
    int ran;
} plain_t;

static void count_run(void *arg)
{
    ++*(int *)arg;
}

static void spread_and_fell(void *arg)
{
    plain_t *plain = arg;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t **child = calloc(COUNT, sizeof *child);
    cctx_callback_t *callback = calloc(COUNT, sizeof *callback);
    for (int i = 0; i < COUNT; i++) {
        child[i] = i % 3 == 0   ? cctx_with_timeout(top, CCTX_S(3600))
                   : i % 3 == 1 ? cctx_with_cancel(top)
                                : cctx_with_cancel(child[i - 1]);
        CHECK(child[i] != NULL);
        int err = cctx_after_func(child[i], &callback[i], count_run, &plain->ran);
        CHECK(err == 0);
    }
    if (plain->cancel_first) {
        CHECK(cctx_cancel(top));
        CHECK(plain->ran == COUNT);
        for (int i = 0; i < COUNT; i++)
            CHECK(cctx_err(child[i]) == ECANCELED && !cctx_stop(&callback[i]));
    } else {
        for (int i = 0; i < COUNT; i++)
            CHECK(cctx_stop(&callback[i]));
        CHECK(plain->ran == 0);
    }
    if (plain->parent_first)
        cctx_unref(top);
    for (int i = 0; i < COUNT; i++)
        cctx_unref(child[i]);
    if (!plain->parent_first)
        cctx_unref(top);
    free(callback);
    free(child);
}

/* C7, C3 */
static void a_million_wide(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        plain_t plain = {.cancel_first = i % 2, .parent_first = i / 2};
        run_on_small_stack(spread_and_fell, &plain);
    }
}

static void many_on_one(void *arg)
{
    plain_t *plain = arg;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_callback_t *callback = calloc(COUNT, sizeof *callback);
    for (int i = 0; i < COUNT; i++) {
        int err = cctx_after_func(top, &callback[i], count_run, &plain->ran);
        CHECK(err == 0);
    }
    cctx_close(top);
    CHECK(plain->ran == COUNT);
    free(callback);
}

/* C7, C28 */
static void a_million_callbacks_on_one_context(void **state)
{
    (void)state;
    plain_t plain = {.ran = 0};
    run_on_small_stack(many_on_one, &plain);
}

static void merge_many(void *arg)
{
    (void)arg;
    cctx_t **parent = calloc(COUNT, sizeof *parent);
    for (int i = 0; i < COUNT; i++)
        parent[i] = cctx_with_cancel(cctx_background());
    cctx_t *any = cctx_with_any((const cctx_t *const *)parent, COUNT);
    CHECK(any != NULL);
    CHECK(cctx_err(any) == 0);
    CHECK(cctx_cancel_causef(parent[COUNT - 1], 3, "the last"));
    CHECK(strcmp(cctx_cause(any)->text, "the last") == 0);
    for (int i = 0; i < COUNT; i++)
        cctx_unref(parent[i]);
    cctx_unref(any);
    free(parent);
}

/* C7, B1 */
static void a_merge_of_a_million_parents(void **state)
{
    (void)state;
    run_on_small_stack(merge_many, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_cancel_contexts_deep),
        cmocka_unit_test(a_million_armed_deadlines_deep),
        cmocka_unit_test(a_million_values_deep),
        cmocka_unit_test(a_million_deep_with_cancellation_cut_off),
        cmocka_unit_test(a_million_merges_deep),
        cmocka_unit_test(a_million_merges_deep_by_their_second_parents),
        cmocka_unit_test(a_parent_of_every_level_of_a_million_merges),
        cmocka_unit_test(a_waiter_ends_a_deep_tree_on_a_small_stack),
        cmocka_unit_test(a_million_wide),
        cmocka_unit_test(a_million_callbacks_on_one_context),
        cmocka_unit_test(a_merge_of_a_million_parents),
    };
    watchdog(115);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
