/* Layer 2, mechanism. cell: 64-byte cells of one cache line, from a thread's own magazine over shared pages.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A cell is a line of its own, so that two threads never write one line for two contexts. Pages of 62 cells come
 * from the allocator; a page goes back as soon as all its cells are back, whoever brings the last.
 *
 *   C1  A cell is in use, in one magazine, or marked free in its page: never two of these.
 *   C2  A page with free cells is on its shelf, or one thread holds it. (The bit HELD of its free word.)
 *   C3  A page all of whose cells are free is freed, once; nobody touches it after.
 *
 * Nothing blocks and nothing here is a lock: a thread that stops between two steps keeps one page at most.
 * Under a sanitizer each cell is an allocation of its own, so that the tools see each use after free. */
#ifndef CCTXI_CELL_H
#define CCTXI_CELL_H

#include "sync.h"

#ifdef SYNC_SMALL
enum { CELL_END = 4, MAGAZINE_SIZE = 4 };
#else
enum {
    CELL_END = 63,              /* cell 0 is the page's header; what would be cell 63 is not whole */
    MAGAZINE_SIZE = 256         /* with CELL_PAGE the constant per thread: 1 MiB, were each in a page of its own */
};
#endif
enum {
    CELL_SIZE = 64,
    CELL_PAGE = 4096,           /* the alignment of a page, by which a cell finds it */
    CELL_PAGE_USABLE = 4080,    /* see alloc_get_aligned */
    MAGAZINE_HALF = MAGAZINE_SIZE / 2
};

struct magazine {
    unsigned count;
    void *cell[MAGAZINE_SIZE];
};

/* A cell whose bytes are not set; NULL without memory. O(1), amortized one allocator call per 62 misses. */
void *cell_refill(struct magazine *m);
/* Takes half of a full magazine back to the pages, then keeps the cell. */
void cell_spill(struct magazine *m, void *cell);
/* Takes all back: the thread goes. */
void cell_drain(struct magazine *m);
/* Pages now held from the allocator: for tests and statistics. */
unsigned cell_pages(void);

#if !defined CELL_DIRECT
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || CCTX_CHECK
#define CELL_DIRECT 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CELL_DIRECT 1
#endif
#endif
#endif
#ifndef CELL_DIRECT
#define CELL_DIRECT 0
#endif

static inline void *cell_get(struct magazine *m)
{
    if (likely(m->count > 0)) return m->cell[--m->count];
    return cell_refill(m);
}

static inline void cell_put(struct magazine *m, void *cell)
{
    if (!CELL_DIRECT && likely(m->count < MAGAZINE_SIZE)) m->cell[m->count++] = cell;
    else cell_spill(m, cell);
}

#endif
