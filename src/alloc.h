/* Layer 1, machine. alloc: the only door to the allocator.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_ALLOC_H
#define CCTXI_ALLOC_H

#include "base.h"

/* NULL when there is no memory; errno is left alone, the public function that fails says ENOMEM. Zeroed. */
void *alloc_get(size_t size);
/* The same at a multiple of align, a power of two and a multiple of sizeof(void *). glibc puts 16 bytes before
 * a block: a size of 16 less than a multiple of align leaves no hole between neighbours. */
void *alloc_get_aligned(size_t align, size_t size);
/* Grows or shrinks an array; NULL leaves it as it was. */
void *alloc_resize(void *old, size_t size);
void alloc_put(void *p);

#endif
