// SPDX-License-Identifier: BSD-2-Clause
// The allocator, counted: these definitions come before those of libc, for shared libraries, too.
//
// It is part of the program that counts, or preloaded; a program that measures times does without.
#include <cerrno>
#include <cstddef>

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static long allocations;
static void count()
{
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
}
long bench_allocations()
{
    return __atomic_load_n(&allocations, __ATOMIC_RELAXED);
}

void *malloc(size_t n)
{
    count();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    count();
    return __libc_realloc(p, n);
}
void *memalign(size_t alignment, size_t n)
{
    count();
    return __libc_memalign(alignment, n);
}
void *aligned_alloc(size_t alignment, size_t n)
{
    count();
    return __libc_memalign(alignment, n);
}
int posix_memalign(void **p, size_t alignment, size_t n)
{
    count();
    void *got = __libc_memalign(alignment, n);
    if (got == nullptr)
        return ENOMEM;
    *p = got;
    return 0;
}
}
