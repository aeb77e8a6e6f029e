/* Layer 1, machine. alloc: the only door to the allocator.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "alloc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* clang takes a store to errno after an allocation for a dead one: it knows that calloc writes no memory that the
 * program sees, and forgets errno. */
static void errno_restore(int saved)
{
    __asm__ volatile("" ::: "memory");
    errno = saved;
}

void *alloc_get(size_t size)
{
    int saved = errno;
    void *p = calloc(1, size);
    errno_restore(saved);
    return p;
}

void *alloc_get_aligned(size_t align, size_t size)
{
    int saved = errno;
    void *p;
    if (posix_memalign(&p, align, size) != 0) p = NULL;
    errno_restore(saved);
    return p ? memset(p, 0, size) : NULL;
}

void *alloc_resize(void *old, size_t size)
{
    int saved = errno;
    void *p = realloc(old, size);
    errno_restore(saved);
    return p;
}

void alloc_put(void *p)
{
    int saved = errno;
    free(p);
    errno_restore(saved);
}
