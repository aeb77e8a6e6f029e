/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of what lives, in a build with CCTX_CHECK=1. G1, G2. */
#include "support.h"

#include "registry.h"

#if CCTX_CHECK

static bool take_all(void *arg, struct made *e)
{
    (void)arg;
    (void)e;
    return true;
}

static void a_search_ends_where_it_began(void **state)
{
    (void)state;
    static struct made a, b, c;
    registry_add(&a);
    registry_add(&b);
    uint64_t last = registry_last();
    registry_add(&c);
    assert_ptr_equal(registry_next(NULL, last, take_all, NULL), &a);
    assert_ptr_equal(registry_next(&a, last, take_all, NULL), &b);
    assert_null(registry_next(&b, last, take_all, NULL));
    registry_remove(&b);
    registry_remove(&b);
    assert_ptr_equal(registry_next(&a, registry_last(), take_all, NULL), &c);
    registry_remove(&a);
    registry_remove(&c);
    assert_null(registry_next(NULL, registry_last(), take_all, NULL));
}

static void an_address_of_no_program_is_a_number(void **state)
{
    (void)state;
    char text[64];
    registry_place(0x1234, text, sizeof text);
    assert_string_equal(text, "0x1234");
    registry_place((uintptr_t)an_address_of_no_program_is_a_number, text, sizeof text);
    assert_int_equal(strncmp(text, "registry_test", 13), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_ends_where_it_began),
        cmocka_unit_test(an_address_of_no_program_is_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    puts("registry_test: does not apply, this build has no CCTX_CHECK=1: a_search_ends_where_it_began, "
         "an_address_of_no_program_is_a_number");
    return 0;
}

#endif
