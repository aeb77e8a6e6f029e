/* Layer 4, mechanism. roster: a lock-free set of words with O(1) add and remove and a walk.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A slot is one word: 0, or an occupant with tags in its low bits. One compare-and-swap fills it and one
 * exchange empties it; the slot is the truth and everything else here is a hint where an empty one may be. Slots
 * stand in chunks, chunks hang in push-only lists, one list a stripe; a roster that several threads fill at once gets a
 * wider one with a stripe for each in front of it. Nothing moves, and all goes with the roster.
 *
 *   R1  A slot holds 0 or one occupant, and its address does not change while it does.
 *   R2  Whoever walks sees each occupant that was there from before the walk until after.
 *   R3  A chunk is added only while fewer than one chunk in eight has a known hole: the slots number at most
 *       8/7 of the widest moment, and one chunk a stripe. */
#ifndef CCTXI_ROSTER_H
#define CCTXI_ROSTER_H

#include "block.h"
#include "sync.h"

#ifdef SYNC_SMALL
enum { CHUNK_SLOTS = 2, ROSTER_STRIPES_MAX = 2 };
#else
enum { CHUNK_SLOTS = 56, ROSTER_STRIPES_MAX = 256 };
#endif
enum {
    SLOT_TAG = 1,               /* the owner is closed and counts this occupant */
    SLOT_LEG = 2,               /* the occupant is a leg of a merged node, not a child */
    SLOT_FRESH = 2,             /* in the timer: not in the index yet */
    SLOT_SEEN = 4,              /* in the timer: the role has met an entry for it in this pass */
    SLOT_MASK = 7,              /* of the timer, whose occupants are cells */
    SLOT_NODE_MASK = SLOT_TAG | SLOT_LEG        /* of the tree: a leg or a callback may stand at any multiple of 4 */
};

struct stripe;
struct chunk {                  /* at a multiple of CHUNK_ALIGN, so that a slot finds it */
    sync_ptr next;              /* constant after the push */
    sync_plain(struct stripe *) stripe;
    sync_plain(void *) directory;       /* the timer's; constant after the push */
    sync_plain(uint32_t) index;         /* in the directory */
    sync_u32 fill;              /* CHUNK_LIVE, CHUNK_FULL or CHUNK_HOLE */
    sync_u64 free;              /* bit i: slot i may be empty. A hint; lost updates are found by a rebuild */
    sync_ptr slot[CHUNK_SLOTS];
};
enum chunk_fill {
    CHUNK_LIVE,                 /* a stripe takes slots from it */
    CHUNK_FULL,                 /* no empty slot was found */
    CHUNK_HOLE                  /* was full, and one was emptied since: counted in its stripe's holes */
};

struct roster;
struct stripe {                 /* a line of its own */
    sync_ptr head;              /* chunks, push-only */
    sync_ptr live;              /* the chunk to take slots from: a hint */
    sync_ptr turn;              /* where the search for a hole goes on: a hint */
    sync_u32 chunks, holes;
    sync_plain(struct roster *) roster;
    sync_plain(unsigned) index;
} __attribute__((aligned(64)));

struct roster {
    sync_plain(unsigned) stripes;       /* a power of two */
    sync_plain(struct roster *) narrower;       /* the one before: its holes are filled first. Constant */
    /* Called on a new chunk before it is pushed; false refuses it. NULL: nothing to do. */
    bool (*enter)(void *arg, struct chunk *k);
    void *arg;
    sync_u64 note;              /* of the owner's own; see node_note */
    const struct allocator *memory;     /* of all of it; NULL: the library's own */
#ifdef SYNC_RELACY
    struct stripe stripe[ROSTER_STRIPES_MAX];
#else
    struct stripe stripe[];
#endif
};

struct roster *roster_new(const struct allocator *memory, unsigned stripes, bool (*enter)(void *, struct chunk *),
                          void *arg, struct roster *narrower);
/* Frees r, those before it, and their chunks. The caller is the last. */
void roster_free(struct roster *r);
/* How many stripes suit this machine: a power of two, at least 2. */
unsigned roster_width(void);

/* Fills the first slot of hint, which are some of k's; NULL if another thread was faster. */
static inline sync_ptr *chunk_take(struct chunk *k, uint64_t hint, uintptr_t word, sync_plain(sync_ptr *) *place,
                                   unsigned *misses)
{
    sync_ptr *x = &k->slot[__builtin_ctzll(hint)];
    uintptr_t none = 0;
    sync_store_relaxed(&k->free, hint & (hint - 1), hint);
    sync_set(*place, x);
    if (likely(sync_cas_hs2(x, &none, word, attach, arm, a, slot, empty))) return x;
    ++*misses;
    return NULL;
}

sync_ptr *roster_add_slow(struct roster *r, unsigned ordinal, uintptr_t word, sync_plain(sync_ptr *) *place,
                          unsigned *misses);
/* Fills a slot with word. *place is set to the slot before it is published. Each lost race adds one to *misses.
 * NULL without memory: nothing has changed. */
static inline sync_ptr *roster_add(struct roster *r, unsigned ordinal, uintptr_t word, sync_plain(sync_ptr *) *place,
                                   unsigned *misses)
{
    struct chunk *k = (struct chunk *)sync_load_acq(&r->stripe[ordinal & (sync_get(r->stripes) - 1)].live, chunk);
    uint64_t hint = likely(k != NULL) ? sync_load_relaxed(&k->free, hint) : 0;
    sync_ptr *x = likely(hint != 0) ? chunk_take(k, hint, word, place, misses) : NULL;
    return likely(x != NULL) ? x : roster_add_slow(r, ordinal, word, place, misses);
}
/* Tells that a slot of a chunk is about to be emptied. The last touch of the chunk is the caller's own exchange. */
void roster_vacate(sync_ptr *slot);

/* The slots in their order: the first of r, the one after slot; NULL at the end of the narrowest. */
sync_ptr *roster_first(struct roster *r);
sync_ptr *roster_next(sync_ptr *slot);

#ifdef SYNC_RELACY
struct chunk *chunk_of(sync_ptr *slot);
#else
enum { CHUNK_ALIGN = 512, CHUNK_USABLE = 496 };
_Static_assert(sizeof(struct chunk) <= CHUNK_USABLE, "a chunk and the allocator's header are 512 bytes");
static inline struct chunk *chunk_of(sync_ptr *slot)
{
    return (struct chunk *)((uintptr_t)slot & ~(uintptr_t)(CHUNK_ALIGN - 1));
}
#endif

#endif
