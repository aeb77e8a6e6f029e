/* Layer 2, mechanism. cell: 64-byte cells of one cache line, from a thread's own magazine over shared pages.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The free cells of a page are bits of one word. Whoever frees the first of them (finds HELD clear) holds the
 * page and puts it on its shelf: a bit in the shelf's avail word. Whoever clears that bit holds the page again,
 * takes all its free cells by one exchange, and with the same exchange lets go of it. Whoever frees the last cell
 * marks the page whole on its shelf and tries to claim it, to free it; if the holder has not put it there yet,
 * the holder sees the mark after it has (edge mark: both changed the avail word, one after the other). Shelves are never freed: 512 bytes for 58 pages of
 * the widest moment, 1/460 of it. */
#include "cell.h"
#include "alloc.h"

#define HELD    ((uint64_t)1)
#define ALL     (((uint64_t)1 << CELL_END) - 1)

#ifdef SYNC_RELACY
#include "cell_model.h"         /* objects with constructors */
enum { SHELF_PAGES = 2 };
#else
enum { SHELF_PAGES = 58 };
#endif

struct shelf {
    sync_ptr next;                  /* set before the push, then constant */
    sync_u64 avail;                 /* page i has free cells and nobody holds it */
    sync_u64 whole;                 /* page i had all its cells back: whoever claims it looks */
    sync_ptr page[SHELF_PAGES];     /* 0, or a page; owned by whoever holds the page */
};

struct page {                       /* cell 0 of the page */
    sync_u64 free;                  /* bit i: cell i is free; bit 0: HELD */
    struct shelf *shelf;            /* constant while the page lives */
    unsigned index;
};

static sync_ptr shelves;            /* push-only */
static sync_ptr turn;               /* where a page was put or found last: the search for one begins there */
static sync_ptr room;               /* where a place became free or was found last: likewise */
static sync_u32 stock;              /* bits set in all avail words: a hint where looking is worth it */
static sync_u32 pages;              /* pages that live */
static sync_u32 places;             /* places on all shelves */

static struct page *page_of(void *cell) { return (struct page *)((uintptr_t)cell & ~(uintptr_t)(CELL_PAGE - 1)); }
static uint64_t bit_of(void *cell) { return (uint64_t)1 << ((uintptr_t)cell / CELL_SIZE % (CELL_PAGE / CELL_SIZE)); }
static void *cell_of(struct page *p, unsigned i) { return (char *)p + (size_t)i * CELL_SIZE; }

unsigned cell_pages(void) { return sync_load_relaxed(&pages, stat); }

static void page_settle(struct page *p);

static struct shelf *shelf_first(sync_ptr *hint)
{
    struct shelf *s = (struct shelf *)sync_load_acq(hint, shelf);
    return s ? s : (struct shelf *)sync_load_acq(&shelves, shelf);
}

/* The next in the round; NULL when it is over. */
static struct shelf *shelf_next(struct shelf *s, struct shelf *first)
{
    struct shelf *next = (struct shelf *)sync_load_relaxed(&s->next, owned);
    if (!next) next = (struct shelf *)sync_load_acq(&shelves, shelf);
    return next == first ? NULL : next;
}

static void shelf_hint(sync_ptr *hint, struct shelf *s)
{
    if (sync_load_relaxed(hint, hint) != (uintptr_t)s) sync_store_rel(hint, (uintptr_t)s, shelf);
}

/* Tries to become the holder of page i of s. */
static bool shelf_claim(struct shelf *s, unsigned i)
{
    uint64_t bit = (uint64_t)1 << i;
    if (!(sync_and_acqrel(&s->avail, ~bit, mark, shelf) & bit)) return false;
    sync_add_relaxed(&stock, (uint32_t)-1, stat);
    return true;
}

/* The page was seen whole by whoever freed its last cell; it may be gone by now, its place on the shelf is not. */
static void shelf_reclaim(struct shelf *s, unsigned i)
{
    sync_or_acqrel(&s->whole, (uint64_t)1 << i, page, none);
    if (shelf_claim(s, i)) page_settle((struct page *)sync_load_relaxed(&s->page[i], owned));
}

/* The caller holds p: it frees it if it is whole, else puts it on its shelf. */
static void page_settle(struct page *p)
{
    struct shelf *s = p->shelf;
    unsigned i = p->index;
    uint64_t bit = (uint64_t)1 << i;
    do {
        /* Acquire: a mark that this erases came after the last cell, which the next load must see. */
        sync_and_acqrel(&s->whole, ~bit, none, page);
        if (sync_load_acq(&p->free, page) == ALL) {
            sync_store_rel(&s->page[i], (uintptr_t)0, shelf);
            sync_add_relaxed(&pages, (uint32_t)-1, stat);
            shelf_hint(&room, s);
            alloc_put(p);
            return;
        }
        sync_or_acqrel(&s->avail, bit, shelf, mark);
        sync_add_relaxed(&stock, 1u, stat);
        shelf_hint(&turn, s);
        if (!(sync_load_relaxed(&s->whole, owned) & bit) || !shelf_claim(s, i)) return;
        p = (struct page *)sync_load_relaxed(&s->page[i], owned);
    } while (true);
}

static void cell_back(void *cell)
{
    struct page *p = page_of(cell);
    struct shelf *s = p->shelf;     /* read before the cell is back: the page may be gone after */
    unsigned i = p->index;
    uint64_t mine = bit_of(cell), old = sync_or_acqrel(&p->free, mine | HELD, page, page);
    if (!(old & HELD)) page_settle(p);
    else if ((old | mine) == ALL) shelf_reclaim(s, i);
}

/* Gives p a place on a shelf. */
static bool page_place(struct page *p)
{
    /* One place in eight is free, or a shelf is added: a search meets eight taken places per free one at most. */
    if (sync_load_relaxed(&pages, stat) + 1 <= sync_load_relaxed(&places, stat) / 8 * 7)
        for (struct shelf *first = shelf_first(&room), *s = first; s; s = shelf_next(s, first))
            for (unsigned i = 0; i < SHELF_PAGES; i++) {
                uintptr_t none = 0;
                p->shelf = s;
                p->index = i;
                if (sync_load_relaxed(&s->page[i], hint) != 0 ||
                    !sync_cas_acqrel(&s->page[i], &none, (uintptr_t)p, none, shelf))
                    continue;
                shelf_hint(&room, s);
                return true;
            }
    struct shelf *s = (struct shelf *)alloc_get(sizeof *s);
    if (!s) return false;
    p->shelf = s;
    p->index = 0;
    sync_init(&s->page[0], (uintptr_t)p);
    sync_add_relaxed(&places, (uint32_t)SHELF_PAGES, stat);
    uintptr_t head = sync_load_relaxed(&shelves, cas_seed);
    /* Acquire: this thread goes on from s to the one below it without a look at shelves. */
    do sync_store_relaxed(&s->next, head, unpublished);
    while (!sync_cas_acqrel(&shelves, &head, (uintptr_t)s, shelf, shelf));
    shelf_hint(&room, s);
    return true;
}

/* A page off a shelf that has free cells, or NULL. */
static struct page *page_claim(void)
{
    if (sync_load_relaxed(&stock, hint) == 0) return NULL;
    for (struct shelf *first = shelf_first(&turn), *s = first; s; s = shelf_next(s, first))
        for (uint64_t a = sync_load_relaxed(&s->avail, hint); a; a &= a - 1) {
            unsigned i = (unsigned)__builtin_ctzll(a);
            if (!shelf_claim(s, i)) continue;
            shelf_hint(&turn, s);
            return (struct page *)sync_load_relaxed(&s->page[i], owned);
        }
    return NULL;
}

static void *cell_direct(void) { return alloc_get_aligned(CELL_SIZE, CELL_SIZE); }

void *cell_refill(struct magazine *m)
{
    if (CELL_DIRECT) return cell_direct();
    struct page *p = page_claim();
    uint64_t got;
    if (p) {
        got = sync_swap_acqrel(&p->free, (uint64_t)0, page, page) & ~HELD;
    } else {
        p = (struct page *)alloc_get_aligned(CELL_PAGE, CELL_PAGE_USABLE);
        if (!p) return NULL;
        if (!page_place(p)) {
            alloc_put(p);
            return NULL;
        }
        sync_add_relaxed(&pages, 1u, stat);
        got = ALL & ~HELD;
    }
    while (got) {                   /* the lowest cell ends on top */
        unsigned i = 63u - (unsigned)__builtin_clzll(got);
        got &= ~((uint64_t)1 << i);
        m->cell[m->count++] = cell_of(p, i);
    }
    return m->cell[--m->count];
}

void cell_spill(struct magazine *m, void *cell)
{
    if (CELL_DIRECT) {
        alloc_put(cell);
        return;
    }
    /* The oldest half goes: what was used last is still in this CPU's cache. */
    for (unsigned i = 0; i < MAGAZINE_HALF; i++) cell_back(m->cell[i]);
    m->count -= MAGAZINE_HALF;
    for (unsigned i = 0; i < m->count; i++) m->cell[i] = m->cell[i + MAGAZINE_HALF];
    m->cell[m->count++] = cell;
}

void cell_drain(struct magazine *m)
{
    while (m->count > 0) cell_back(m->cell[--m->count]);
}
