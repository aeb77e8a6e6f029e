/* Layer 2, machine. block: memory from an allocator of the program's, or from the library's own.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_BLOCK_H
#define CCTXI_BLOCK_H

#include "alloc.h"

struct allocator {              /* the program's: cctx_domain_options_t */
    void *user;
    void *(*allocate)(void *user, size_t size, size_t align);
    void (*release)(void *user, void *p);
};

/* By the hooks: as alloc_get_aligned and alloc_put. */
void *block_take(const struct allocator *a, size_t align, size_t size);
void block_give(const struct allocator *a, void *p);
/* Moves a block of `had` bytes, or NULL, into a larger one; NULL leaves it as it was. */
void *block_move(const struct allocator *a, void *old, size_t had, size_t size);

/* The same with a NULL for the library's own. What one allocator gave goes back to it. */
enum { BLOCK_ALIGN = 16 };     /* as malloc's */
static inline void *block_get(const struct allocator *a, size_t size)
{
    return unlikely(a != NULL) ? block_take(a, BLOCK_ALIGN, size) : alloc_get(size);
}
static inline void *block_get_aligned(const struct allocator *a, size_t align, size_t size)
{
    return unlikely(a != NULL) ? block_take(a, align, size) : alloc_get_aligned(align, size);
}
static inline void block_put(const struct allocator *a, void *p)
{
    if (unlikely(a != NULL)) block_give(a, p);
    else alloc_put(p);
}
static inline void *block_resize(const struct allocator *a, void *old, size_t had, size_t size)
{
    return unlikely(a != NULL) ? block_move(a, old, had, size) : alloc_resize(old, size);
}

#endif
