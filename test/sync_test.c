/* SPDX-License-Identifier: BSD-2-Clause */
/* sync.h: each operation has the order that its edge or handshake asks for, and the result of its C11
 * twin. */
#include "support.h"

#include "sync.h"

/* Both halves of an edge in one read-modify-write are acquire and release; a handshake is seq_cst whatever
 * else is named with it; no half is relaxed. */
static void an_operation_is_as_strong_as_what_it_names(void **state)
{
    (void)state;
    assert_int_equal(SYNC_RMW(SYNC_rel_done, SYNC_acq_done, SYNC_hs_none), memory_order_acq_rel);
    assert_int_equal(SYNC_RMW(SYNC_rel_done, SYNC_acq_none, SYNC_hs_none), memory_order_release);
    assert_int_equal(SYNC_RMW(SYNC_rel_none, SYNC_acq_done, SYNC_hs_none), memory_order_acquire);
    assert_int_equal(SYNC_RMW(SYNC_rel_none, SYNC_acq_none, SYNC_hs_none), memory_order_relaxed);
    assert_int_equal(SYNC_RMW(SYNC_rel_none, SYNC_acq_none, SYNC_hs_attach_a_put), memory_order_seq_cst);
    assert_int_equal(SYNC_GET(SYNC_acq_slot, SYNC_hs_none), memory_order_acquire);
    assert_int_equal(SYNC_GET(SYNC_acq_none, SYNC_hs_none), memory_order_relaxed);
    assert_int_equal(SYNC_GET(SYNC_acq_none, SYNC_hs_doze_b_get), memory_order_seq_cst);
    assert_int_equal(SYNC_PUT(SYNC_rel_swept, SYNC_hs_none), memory_order_release);
    assert_int_equal(SYNC_PUT(SYNC_rel_none, SYNC_hs_none), memory_order_relaxed);
    assert_int_equal(SYNC_PUT(SYNC_rel_none, SYNC_hs_doze_b_put), memory_order_seq_cst);
    assert_int_equal(SYNC_WHY(hint), SYNC_acq_none);
    assert_int_equal(SYNC_WHY(owned), SYNC_acq_none);
}

/* The model weakens a half by its number, so each has one of its own, and the names for none have none. */
static void each_half_has_a_number_of_its_own(void **state)
{
    (void)state;
    static const int halves[] = {
#define E(n) SYNC_rel_##n, SYNC_acq_##n,
#define H(n) SYNC_hs_##n##_a_put, SYNC_hs_##n##_a_get, SYNC_hs_##n##_b_put, SYNC_hs_##n##_b_get,
        SYNC_EDGES(E) SYNC_HANDSHAKES(H)
#undef E
#undef H
    };
    size_t count = sizeof halves / sizeof *halves;
    assert_int_equal(count, SYNC_COUNT);
    for (size_t i = 0; i < count; i++) assert_int_equal(halves[i], i);
    assert_true(SYNC_rel_none < 0 && SYNC_acq_none < 0 && SYNC_hs_none < 0);
}

/* gcc aligns such a struct to 4 on i386: across two cache lines its load is two. */
static void a_word_of_64_bits_is_aligned_to_them(void **state)
{
    (void)state;
    struct {
        sync_u32 before;
        sync_u64 u;
        sync_u32 between;
        sync_i64 i;
    } word;
    assert_int_equal((uintptr_t)&word.u % 8, 0);
    assert_int_equal((uintptr_t)&word.i % 8, 0);
    assert_true(_Alignof(sync_u64) == 8 && _Alignof(sync_i64) == 8);
}

static void operations_give_the_old_value_and_leave_the_new_one(void **state)
{
    (void)state;
    sync_u32 u;
    sync_init(&u, 5u);
    assert_int_equal(sync_add_relaxed(&u, 2u, stat), 5);
    assert_int_equal(sync_or_acqrel(&u, 8u, done, done), 7);
    assert_int_equal(sync_and_acqrel(&u, 12u, none, slot), 15);
    assert_int_equal(sync_xor_acqrel(&u, 3u, hook_run, none), 12);
    assert_int_equal(sync_swap_acqrel(&u, 1u, slot, slot), 15);
    sync_store_rel(&u, 2u, done);
    assert_int_equal(sync_load_acq(&u, done), 2);
    sync_store_relaxed(&u, 3u, owned);
    assert_int_equal(sync_load_relaxed(&u, owned), 3);
    sync_store_hs(&u, 4u, doze, b, none);
    assert_int_equal(sync_load_hs(&u, doze, b, none), 4);
    assert_int_equal(sync_or_hs2(&u, 1u, arm, doze, a, none, none), 4);
    assert_int_equal(sync_swap_hs2(&u, 9u, arm, doze, b, none, none), 5);
    assert_int_equal(sync_load_hs2(&u, arm, doze, a, none), 9);
}

static void a_compare_and_swap_that_fails_tells_what_it_found(void **state)
{
    (void)state;
    sync_ptr p;
    uintptr_t seen = 1;
    sync_init(&p, (uintptr_t)2);
    assert_false(sync_cas_acqrel(&p, &seen, (uintptr_t)3, slot, slot));
    assert_int_equal(seen, 2);
    assert_true(sync_cas_acqrel(&p, &seen, (uintptr_t)3, slot, slot));
    assert_true(seen == 2 && sync_load_relaxed(&p, owned) == 3);
    assert_false(sync_cas_hs(&p, &seen, (uintptr_t)4, attach, a, slot, empty));
    assert_true(sync_cas_hs(&p, &seen, (uintptr_t)4, attach, a, slot, empty));
    assert_false(sync_cas_hs2(&p, &seen, (uintptr_t)5, attach, arm, a, slot, empty));
    assert_true(sync_cas_hs2(&p, &seen, (uintptr_t)5, attach, arm, a, slot, empty));
    assert_false(sync_cas_relaxed(&p, &seen, (uintptr_t)6, hint));
    assert_int_equal(seen, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_is_as_strong_as_what_it_names),
        cmocka_unit_test(each_half_has_a_number_of_its_own),
        cmocka_unit_test(a_word_of_64_bits_is_aligned_to_them),
        cmocka_unit_test(operations_give_the_old_value_and_leave_the_new_one),
        cmocka_unit_test(a_compare_and_swap_that_fails_tells_what_it_found),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
