/* Layer 0, words. base.h: the few words that every room uses.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_BASE_H
#define CCTXI_BASE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CACHE_LINE = 64 };

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define prefetch(p) __builtin_prefetch((const void *)(p), 1)

/* A build with CCTX_CHECK=1 looks for misuse and aborts with one line; otherwise it costs nothing. */
#ifndef CCTX_CHECK
#define CCTX_CHECK 0
#endif

/* On a declaration: what is this library's own needs no load of its address. */
#define LOCAL __attribute__((visibility("hidden")))

#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

/* Time arithmetic saturates (contract, conventions): no sum of two times wraps. */
static inline int64_t time_add(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return b < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

static inline int64_t time_min(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
