/* SPDX-License-Identifier: BSD-2-Clause */
/* alloc: memory is zeroed and aligned, a failure is NULL alone, and errno is nobody's business here. */
#define __tsan_default_options support_tsan_options     /* this test has more to ask */
#include "support.h"
#undef __tsan_default_options

#include "alloc.h"

#define TOO_MUCH ((size_t)PTRDIFF_MAX + 4096)

/* Sanitizers end the process for a request like that unless they are told. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
const char *__tsan_default_options(void) { return "allocator_may_return_null=1"; }

static bool zeroed(const void *memory, size_t size)
{
    const char *byte = memory;
    for (size_t i = 0; i < size; i++)
        if (byte[i] != 0) return false;
    return true;
}

static void memory_is_zeroed_also_where_it_was_used_before(void **state)
{
    (void)state;
    for (size_t size = 1; size < 5000; size = size * 3 + 1)
        for (int again = 0; again < 3; again++) {
            char *p = alloc_get(size), *q = alloc_get_aligned(64, size);
            assert_non_null(p);
            assert_non_null(q);
            assert_true(zeroed(p, size) && zeroed(q, size));
            memset(p, 0xa5, size);
            memset(q, 0xa5, size);
            alloc_put(p);
            alloc_put(q);
        }
}

static void aligned_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t align = sizeof(void *); align <= 4096; align *= 2) {
        void *p = alloc_get_aligned(align, align - 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        alloc_put(p);
    }
}

static void without_memory_they_return_null_and_keep_errno(void **state)
{
    (void)state;
    errno = 77;
    assert_null(alloc_get(TOO_MUCH));
    assert_null(alloc_get_aligned(64, TOO_MUCH));
    assert_int_equal(errno, 77);
}

static void an_array_that_cannot_grow_stays_as_it_was(void **state)
{
    (void)state;
    char *array = alloc_resize(NULL, 16);
    assert_non_null(array);
    memcpy(array, "0123456789abcde", 16);
    array = alloc_resize(array, 100000);
    assert_string_equal(array, "0123456789abcde");
    errno = 77;
    assert_null(alloc_resize(array, TOO_MUCH));
    assert_int_equal(errno, 77);
    assert_string_equal(array, "0123456789abcde");
    array = alloc_resize(array, 16);
    assert_string_equal(array, "0123456789abcde");
    alloc_put(array);
    alloc_put(NULL);
    assert_int_equal(errno, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_also_where_it_was_used_before),
        cmocka_unit_test(aligned_memory_is_aligned),
        cmocka_unit_test(without_memory_they_return_null_and_keep_errno),
        cmocka_unit_test(an_array_that_cannot_grow_stays_as_it_was),
    };
    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
