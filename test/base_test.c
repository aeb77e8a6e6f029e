/* SPDX-License-Identifier: BSD-2-Clause */
/* base.h: time saturates instead of wrapping, and a member leads back to its object. */
#include "support.h"

#include "base.h"

static const int64_t edges[] = {
    INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX / 2 + 1, INT64_MAX - 1, INT64_MAX};

static int64_t saturated(int64_t a, int64_t b)
{
    if (b > 0 && a > INT64_MAX - b)
        return INT64_MAX;
    if (b < 0 && a < INT64_MIN - b)
        return INT64_MIN;
    return a + b;
}

static void a_sum_of_times_never_wraps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        for (size_t j = 0; j < sizeof edges / sizeof *edges; j++)
            assert_int_equal(time_add(edges[i], edges[j]), saturated(edges[i], edges[j]));
    rng_t rng = rng_make(test_seed(), 0);
    for (int i = 0; i < 100000; i++) {
        int64_t a = (int64_t)rng_next(&rng) >> rng_below(&rng, 63);
        int64_t b = (int64_t)rng_next(&rng) >> rng_below(&rng, 63);
        assert_int_equal(time_add(a, b), saturated(a, b));
    }
}

static void the_lesser_time_is_the_least(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        for (size_t j = 0; j < sizeof edges / sizeof *edges; j++) {
            int64_t least = time_min(edges[i], edges[j]);
            assert_true(least == edges[i] || least == edges[j]);
            assert_true(least <= edges[i] && least <= edges[j]);
        }
}

static void a_member_leads_back_to_its_object(void **state)
{
    (void)state;
    struct {
        char first;
        int64_t member[3];
    } object;
    assert_ptr_equal(container_of(&object.member, __typeof__(object), member), &object);
    assert_ptr_equal(container_of(&object.first, __typeof__(object), first), &object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_of_times_never_wraps),
        cmocka_unit_test(the_lesser_time_is_the_least),
        cmocka_unit_test(a_member_leads_back_to_its_object),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
