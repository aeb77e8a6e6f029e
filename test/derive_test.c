/* SPDX-License-Identifier: BSD-2-Clause */
/* derive: how a new context hangs below its parents: by a slot, by a reference, or as one that is born
 * done. */
#include "support.h"

#include "node.h"

static const cctx_key_t key = {"key", NULL};

static uint32_t refs(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->refs, last_ref); }
static uint32_t state_of(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->state, done); }

/* A root is no node of the walk and counts nothing: what is below it stands in no slot. */
static void below_a_root_there_is_no_slot_and_no_count(void **state)
{
    (void)state;
    cctx_t *n = cctx_with_cancel(cctx_background()), *m = cctx_with_cancel(cctx_todo());
    assert_null(n->slot);
    assert_null(m->slot);
    assert_int_equal(refs(cctx_background()), 1);
    assert_ptr_equal(n->done, &n->state);
    assert_ptr_equal(cctx_background()->done, &node_never);
    assert_int_equal(sync_load_acq(&node_never, done), 0);
    cctx_unref(n);
    cctx_unref(m);
}

/* What can never be done is pinned by a reference instead. */
static void below_a_context_that_can_never_be_done_a_reference_pins_it(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t *apart = cctx_without_cancel(top);
    assert_int_equal(refs(top), 2);
    assert_ptr_equal(apart->done, &node_never);
    cctx_t *n = cctx_with_cancel(apart);
    assert_null(n->slot);
    assert_int_equal(refs(apart), 2);
    cctx_unref(n);
    assert_int_equal(refs(apart), 1);
    cctx_unref(apart);
    assert_int_equal(refs(top), 1);
    cctx_unref(top);
}

/* Born done it needs no walk: it pins its parent by a reference, and inherits. Claim I2. */
static void below_a_done_context_one_is_born_done_in_no_slot(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_cancel(top);
    cctx_t *n = cctx_with_cancel(top), *timed = cctx_with_timeout(top, CCTX_S(3600));
    assert_null(n->slot);
    assert_int_equal(refs(top), 3);
    assert_int_equal(state_of(n) & (DONE | INHERITED | CAUSED | TIMEDOUT), DONE | INHERITED);
    assert_int_equal(state_of(timed) & (DONE | INHERITED | CAUSED | TIMEDOUT), DONE | INHERITED);
    assert_false(state_of(top) & INNER);
    cctx_unref(timed);
    cctx_unref(n);
    cctx_unref(top);
}

/* A value context has its owner's done word and stands in no slot: the walk never meets it. */
static void a_value_context_shares_its_owners_word(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    const cctx_t *a = cctx_with_value(top, &key, top), *b = cctx_with_value(a, &key, NULL);
    assert_ptr_equal(a->done, &top->state);
    assert_ptr_equal(b->done, &top->state);
    assert_ptr_equal(node_owner(b), top);
    assert_null(b->slot);
    assert_false(state_of(top) & INNER);
    cctx_unref(b);
    cctx_unref(a);
    cctx_unref(top);
}

/* A merge has one leg for each parent but the first: a slot in its owner, or a reference where one does. */
static void a_merge_has_a_leg_in_each_further_parent(void **state)
{
    (void)state;
    cctx_t *p[3];
    for (int i = 0; i < 3; i++) p[i] = cctx_with_cancel(cctx_background());
    const cctx_t *never = cctx_without_cancel(p[0]), *value = cctx_with_value(p[2], &key, NULL);
    cctx_t *n = cctx_with_any((const cctx_t *[]){p[0], p[1], value, never, p[0]}, 5);
    struct any *any = (struct any *)(void *)n;
    assert_int_equal(sync_load_acq(n->slot, slot), (uintptr_t)n);
    assert_int_equal(any->legs, 4);
    assert_int_equal(sync_load_acq(any->leg[0].slot, slot), (uintptr_t)&any->leg[0] | SLOT_LEG);
    assert_int_equal(sync_load_acq(any->leg[1].slot, slot), (uintptr_t)&any->leg[1] | SLOT_LEG);
    assert_int_equal(refs(value), 2);
    assert_true(state_of(value) & VIA);
    assert_null(any->leg[2].slot);
    assert_int_equal(refs(never), 2);
    assert_null(any->leg[3].slot);
    sync_ptr *places[] = {n->slot, any->leg[0].slot, any->leg[1].slot};
    cctx_unref(n);
    for (int i = 0; i < 3; i++) assert_int_equal(sync_load_acq(places[i], slot), 0);
    assert_int_equal(refs(value), 1);
    assert_int_equal(refs(never), 1);
    cctx_unref(value);
    cctx_unref(never);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(refs(p[i]), 1);
        cctx_unref(p[i]);
    }
}

/* A merge takes the cause for its own word, since it has many who might have it. */
static void a_merge_claims_the_cause_of_the_parent_that_ends_it(void **state)
{
    (void)state;
    static const cctx_cause_t cause = {7, "seven"};
    for (int born_done = 0; born_done < 2; born_done++) {
        cctx_t *p[2] = {cctx_with_cancel(cctx_background()), cctx_with_cancel(cctx_background())};
        if (born_done) cctx_cancel_cause(p[1], &cause);
        cctx_t *n = cctx_with_any((const cctx_t *[]){p[0], p[1]}, 2), *c = cctx_with_cancel(n);
        if (!born_done) cctx_cancel_cause(p[1], &cause);
        assert_int_equal(state_of(n) & (DONE | CAUSED | INHERITED | TIMEDOUT), DONE | CAUSED);
        assert_int_equal(state_of(c) & (DONE | CAUSED | INHERITED | TIMEDOUT), DONE | INHERITED);
        assert_ptr_equal(cctx_cause(c), &cause);
        assert_int_equal(cctx_err(p[0]), 0);
        cctx_unref(c);
        cctx_unref(n);
        cctx_unref(p[0]);
        cctx_unref(p[1]);
    }
}

/* B1: a merge below a parent whose deadline has passed is born with that error, whichever parent it is. */
static void a_merge_is_born_timed_out_by_any_parent(void **state)
{
    (void)state;
    static const cctx_cause_t cause = {7, "late"};
    for (size_t late = 0; late < 3; late++) {
        const cctx_t *p[3];
        for (size_t i = 0; i < 3; i++)
            p[i] = i == late ? cctx_with_timeout_cause(cctx_background(), 0, &cause)
                             : cctx_with_cancel(cctx_background());
        cctx_t *n = cctx_with_any(p, 3);
        assert_int_equal(cctx_err(n), ETIMEDOUT);
        assert_ptr_equal(cctx_cause(n), &cause);
        cctx_unref(n);
        for (size_t i = 0; i < 3; i++) cctx_unref(p[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(below_a_root_there_is_no_slot_and_no_count),
        cmocka_unit_test(below_a_context_that_can_never_be_done_a_reference_pins_it),
        cmocka_unit_test(below_a_done_context_one_is_born_done_in_no_slot),
        cmocka_unit_test(a_value_context_shares_its_owners_word),
        cmocka_unit_test(a_merge_has_a_leg_in_each_further_parent),
        cmocka_unit_test(a_merge_claims_the_cause_of_the_parent_that_ends_it),
        cmocka_unit_test(a_merge_is_born_timed_out_by_any_parent),
    };
    return cmocka_run_group_tests_name("derive", tests, NULL, NULL);
}
