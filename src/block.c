/* Layer 2, machine. block: memory from an allocator of the program's, or from the library's own.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "block.h"
#include <errno.h>
#include <string.h>

void *block_take(const struct allocator *a, size_t align, size_t size)
{
    int saved = errno;
    void *p = a->allocate(a->user, size, align);
    errno = saved;
    return p ? memset(p, 0, size) : NULL;
}

void block_give(const struct allocator *a, void *p)
{
    int saved = errno;
    if (p) a->release(a->user, p);
    errno = saved;
}

void *block_move(const struct allocator *a, void *old, size_t had, size_t size)
{
    void *p = block_take(a, BLOCK_ALIGN, size);
    if (p && old) memcpy(p, old, had);
    if (p) block_give(a, old);
    return p;
}
