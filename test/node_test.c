/* SPDX-License-Identifier: BSD-2-Clause */
/* node: slots, references, closing and death, seen from inside. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include "node.h"

static struct thread *t;

static uint32_t refs(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->refs, last_ref); }
static uint32_t state_of(const cctx_t *n) { return sync_load_acq(&((cctx_t *)(uintptr_t)n)->state, done); }
static cctx_t *child(const cctx_t *parent)
{
    cctx_t *n = cctx_with_cancel(parent);
    assert_non_null(n);
    return n;
}
static cctx_t *top(void) { return child(cctx_background()); }

static unsigned occupied(cctx_t *n)
{
    unsigned count = 0;
    struct family *f = node_family(n);
    for (sync_ptr *x = f ? node_first(f) : NULL; x; x = node_next(f, x)) count += sync_load_acq(x, slot) != 0;
    return count;
}

/* Claim I4: an occupant's slot is one address for its life, and that slot holds it. */
static void a_child_stands_in_the_slot_that_it_names(void **state)
{
    (void)state;
    enum { N = 200 };
    cctx_t *p = top(), *c[N];
    assert_false(state_of(p) & INNER);
    assert_null(node_family(p));
    for (int i = 0; i < N; i++) {
        c[i] = child(p);
        assert_true(state_of(p) & INNER);
        assert_int_equal(sync_load_acq(c[i]->slot, slot), (uintptr_t)c[i]);
        assert_ptr_equal(node_up(c[i]), p);
    }
    struct family *f = node_family(p);
    assert_ptr_equal(c[0]->slot, &f->kid[0]);
    assert_ptr_equal(c[1]->slot, &f->kid[1]);
    assert_int_equal(occupied(p), N);
    for (int i = 0; i < N; i += 2) cctx_unref(c[i]);
    assert_int_equal(occupied(p), N / 2);
    for (int i = 1; i < N; i += 2) assert_int_equal(sync_load_acq(c[i]->slot, slot), (uintptr_t)c[i]);
    cctx_t *again = child(p);
    assert_true(again->slot == &f->kid[0]);             /* inline ones first, while there is no crowd */
    cctx_unref(again);
    for (int i = 1; i < N; i += 2) cctx_unref(c[i]);
    assert_int_equal(occupied(p), 0);
    cctx_unref(p);
}

/* An occupied slot pins the owner, so no count moves; a value context that a child came through is pinned
 * by it. */
static void a_child_moves_no_count_of_its_owner(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    cctx_t *p = top(), *c = child(p);
    assert_int_equal(refs(p), 1);
    const cctx_t *value = cctx_with_value(p, &key, p);
    assert_int_equal(refs(p), 2);
    assert_false(state_of(value) & VIA);
    cctx_t *through = child(value);
    assert_int_equal(refs(p), 2);
    assert_int_equal(refs(value), 2);
    assert_true(state_of(value) & VIA);
    assert_ptr_equal(node_up(through), p);
    cctx_unref(value);
    assert_int_equal(refs(value), 1);
    cctx_unref(through);
    assert_int_equal(refs(p), 1);
    cctx_unref(c);
    cctx_unref(p);
}

/* Polls until all that can be reclaimed is; returns what is left. */
static unsigned reclaimed(void)
{
    for (int i = 0; i < 10; i++) epoch_poll(t);
    return epoch_limbo();
}

static bool try_pin(cctx_t *n)
{
    epoch_enter(t);
    bool pinned = node_try_pin(n);
    epoch_leave(t);
    return pinned;
}

/* Claims I5, I6: the last handle closes the owner, which then counts its occupants; the last of them
 * buries it. */
static void a_closed_owner_lives_until_its_last_occupant_leaves(void **state)
{
    (void)state;
    enum { N = 50 };            /* less than makes a poll */
    cctx_t *p = top(), *c[N];
    assert_int_equal(reclaimed(), 0);
    for (int i = 0; i < N; i++) c[i] = child(p);
    cctx_unref(p);
    assert_int_equal(refs(p), REFS_CLOSED | N);
    for (int i = 0; i < N; i++) assert_int_equal(sync_load_acq(c[i]->slot, slot), (uintptr_t)c[i] | SLOT_TAG);
    assert_true(try_pin(p));            /* it is alive, by its occupants */
    assert_int_equal(refs(p), REFS_CLOSED | (N + 1));
    node_unref(t, p);
    for (int i = 0; i < N - 1; i++) {
        cctx_unref(c[i]);
        assert_int_equal(refs(p), REFS_CLOSED | (uint32_t)(N - 1 - i));
    }
    cctx_unref(c[N - 1]);
    assert_int_equal(reclaimed(), 0);
}

/* Claim I7: a dead node gets no pin. A section keeps its memory, as it does for a walker. */
static void a_dead_node_is_not_pinned(void **state)
{
    (void)state;
    cctx_t *p = top(), *c = child(p), *held = child(p);
    cctx_done(c);               /* a sleeper may be there, so a walker pins it to wake */
    assert_int_equal(reclaimed(), 0);
    assert_true(try_pin(c));
    node_unref(t, c);
    sync_ptr *place = c->slot;
    cctx_unref(c);
    assert_int_equal(epoch_limbo(), 1);
    assert_int_equal(refs(c) & ~REFS_CLOSED, 0);        /* in limbo still: nobody has polled */
    assert_false(node_try_pin(c));
    assert_int_equal(sync_load_acq(place, slot), 0);
    cctx_unref(held);
    cctx_unref(p);
}

/* What nobody but its handle could reach is freed at once; all else waits for a grace period. */
static void only_what_was_published_waits_for_a_grace_period(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    reclaimed();
    cctx_unref(top());
    assert_int_equal(epoch_limbo(), 0);
    cctx_unref(cctx_with_value(cctx_background(), &key, t));
    assert_int_equal(epoch_limbo(), 0);
    cctx_t *p = top();
    cctx_unref(child(p));
    assert_int_equal(epoch_limbo(), 1);
    cctx_unref(p);
    assert_int_equal(epoch_limbo(), 2);
    assert_int_equal(reclaimed(), 0);
    p = top();
    const cctx_t *value = cctx_with_value(p, &key, t);
    cctx_unref(child(value));           /* a walker may pass over value now */
    cctx_unref(value);
    assert_true(epoch_limbo() == 2);
    cctx_unref(p);
    assert_int_equal(reclaimed(), 0);
}

/* A node that took much with it is reclaimed soon: it counts for many. */
static void a_node_with_a_roster_does_not_wait_for_company(void **state)
{
    (void)state;
    reclaimed();
    for (int round = 0; round < 20; round++) {
        cctx_t *p = top(), *c[5];
        for (int i = 0; i < 5; i++) c[i] = child(p);
        for (int i = 0; i < 5; i++) cctx_unref(c[i]);
        cctx_unref(p);
        assert_true(epoch_limbo() <= 5 * 6);
    }
    assert_int_equal(reclaimed(), 0);
}

/* Callback slots are apart from child slots: one inline, then a roster of their own. */
static void callback_slots_are_walked_apart_from_children(void **state)
{
    (void)state;
    enum { N = 70 };
    static sync_ptr *place[N];
    cctx_t *p = top(), *c = child(p);
    for (unsigned i = 0; i < N; i++) assert_true(node_admit_hook(t, p, (uintptr_t)(i + 1) * 8, &place[i]));
    struct family *f = node_family(p);
    assert_ptr_equal(place[0], &f->hook);
    assert_int_equal(occupied(p), 1);
    unsigned met = 0;
    for (sync_ptr *x = &f->hook; x; x = node_next_hook(f, x)) met += sync_load_acq(x, slot) != 0;
    assert_int_equal(met, N);
    cctx_unref(p);
    assert_int_equal(refs(p), REFS_CLOSED | (N + 1));   /* they are counted, too */
    for (unsigned i = 0; i < N; i++) {
        node_vacate(p, place[i]);
        uintptr_t was = sync_swap_acqrel(place[i], (uintptr_t)0, empty, slot);
        assert_int_equal(was, (uintptr_t)(i + 1) * 8 | SLOT_TAG);
        node_unref(t, p);
    }
    assert_int_equal(refs(p), REFS_CLOSED | 1);
    cctx_unref(c);
}

/* After enough turns the children go to a roster with a stripe for each thread, and none is in two. */
static void a_crowd_gets_a_wider_roster(void **state)
{
    (void)state;
    enum { N = 300 };
    cctx_t *p = top(), *c[N];
    for (int i = 0; i < 10; i++) c[i] = child(p);
    struct family *f = node_family(p);
    struct roster *first = (struct roster *)sync_load_acq(&f->roster, chunk);
    assert_int_equal(first->stripes, 1);
    sync_store_relaxed(&f->turns, (uint32_t)FAMILY_CROWD, hint);
    for (int i = 10; i < N; i++) c[i] = child(p);
    struct roster *wide = (struct roster *)sync_load_acq(&f->roster, chunk);
    assert_ptr_equal(wide->narrower, first);
    assert_int_equal(wide->stripes, roster_width());
    assert_int_equal(occupied(p), N);
    cctx_cancel(p);
    for (int i = 0; i < N; i++) {
        assert_int_equal(cctx_err(c[i]), ECANCELED);
        cctx_unref(c[i]);
    }
    cctx_unref(p);
}

/* The chain below the last handle goes with it, in a loop. */
static void a_chain_dies_with_its_last_handle(void **state)
{
    (void)state;
    reclaimed();
    cctx_t *n = top();
    for (int i = 0; i < SCALED(100000); i++) {
        cctx_t *next = child(n);
        cctx_unref(n);
        assert_int_equal(refs(n), REFS_CLOSED | 1);
        n = next;
    }
    cctx_unref(n);
    assert_int_equal(reclaimed(), 0);
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
        cmocka_unit_test(a_child_stands_in_the_slot_that_it_names),
        cmocka_unit_test(a_child_moves_no_count_of_its_owner),
        cmocka_unit_test(a_closed_owner_lives_until_its_last_occupant_leaves),
        cmocka_unit_test(a_dead_node_is_not_pinned),
        cmocka_unit_test(only_what_was_published_waits_for_a_grace_period),
        cmocka_unit_test(a_node_with_a_roster_does_not_wait_for_company),
        cmocka_unit_test(callback_slots_are_walked_apart_from_children),
        cmocka_unit_test(a_crowd_gets_a_wider_roster),
        cmocka_unit_test(a_chain_dies_with_its_last_handle),
    };
    return cmocka_run_group_tests_name("node", tests, begin, NULL);
}
