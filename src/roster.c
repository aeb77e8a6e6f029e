/* Layer 4, mechanism. roster: a lock-free set of words with O(1) add and remove and a walk.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "roster.h"
#include <errno.h>
#include <unistd.h>

#ifdef SYNC_RELACY
#include "roster_model.h"       /* new and delete of objects with constructors; chunk_of by search */
#else
static struct chunk *chunk_new(struct roster *r)
{
    return (struct chunk *)block_get_aligned(r->memory, CHUNK_ALIGN, CHUNK_USABLE);
}
static void chunk_free(struct roster *r, struct chunk *k) { block_put(r->memory, k); }
static struct roster *roster_alloc(const struct allocator *a, unsigned stripes)
{
    return (struct roster *)block_get_aligned(a, CACHE_LINE, sizeof(struct roster) + stripes * sizeof(struct stripe));
}
static void roster_dealloc(struct roster *r) { block_put(r->memory, r); }
#endif

#define CHUNK_ALL (~(uint64_t)0 >> (64 - CHUNK_SLOTS))

unsigned roster_width(void)
{
    static sync_u32 width;              /* 0: not asked yet; asking reads files */
    unsigned n = sync_load_relaxed(&width, stat);
    if (n > 0) return n;
    int saved = errno;
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    errno = saved;
    for (n = 2; n < ROSTER_STRIPES_MAX && (long)n < cpus;) n *= 2;
    sync_store_relaxed(&width, n, stat);
    return n;
}

struct roster *roster_new(const struct allocator *memory, unsigned stripes, bool (*enter)(void *, struct chunk *),
                          void *arg, struct roster *narrower)
{
    struct roster *r = roster_alloc(memory, stripes);
    if (!r) return NULL;
    r->memory = memory;
    sync_set(r->stripes, stripes);
    sync_set(r->narrower, narrower);
    r->enter = enter;
    r->arg = arg;
    sync_init(&r->note, (uint64_t)0);
    for (unsigned i = 0; i < stripes; i++) {
        sync_set(r->stripe[i].roster, r);
        sync_set(r->stripe[i].index, i);
    }
    return r;
}

void roster_free(struct roster *r)
{
    while (r) {
        struct roster *narrower = sync_get(r->narrower);
        for (unsigned i = 0; i < sync_get(r->stripes); i++) {
            struct chunk *k = (struct chunk *)sync_load_relaxed(&r->stripe[i].head, unpublished);
            while (k) {
                struct chunk *next = (struct chunk *)sync_load_relaxed(&k->next, unpublished);
                chunk_free(r, k);
                k = next;
            }
        }
        roster_dealloc(r);
        r = narrower;
    }
}

/* The bits of the slots that are empty just now. */
static uint64_t chunk_look(struct chunk *k)
{
    uint64_t empty = 0;
    for (unsigned i = 0; i < CHUNK_SLOTS; i++)
        if (sync_load_relaxed(&k->slot[i], hint) == 0) empty |= (uint64_t)1 << i;
    return empty;
}

/* Fills a slot of k: by its hint, then once more after a look at all of them. */
static sync_ptr *chunk_add(struct chunk *k, uintptr_t word, sync_plain(sync_ptr *) *place, unsigned *misses)
{
    uint64_t hint = sync_load_relaxed(&k->free, hint);
    for (bool looked = false;; hint = sync_load_relaxed(&k->free, hint)) {
        if (!hint) {
            if (looked || !(hint = chunk_look(k))) return NULL;
            looked = true;
        }
        sync_ptr *x = chunk_take(k, hint, word, place, misses);
        if (x) return x;
    }
}

/* Leaves k where a search finds it, if its fill is still what the caller saw. */
static void chunk_leave(struct chunk *k, uint32_t fill)
{
    if (sync_load_relaxed(&k->fill, hint) == fill && sync_cas_relaxed(&k->fill, &fill, (uint32_t)CHUNK_HOLE, hint))
        sync_add_relaxed(&sync_get(k->stripe)->holes, 1u, stat);
}

/* Declares k full. What was emptied before nobody has told of, so it is looked at once more. */
static void chunk_fill_up(struct chunk *k)
{
    uint32_t live = CHUNK_LIVE;
    if (sync_cas_relaxed(&k->fill, &live, (uint32_t)CHUNK_FULL, hint) && chunk_look(k) != 0)
        chunk_leave(k, CHUNK_FULL);
}

/* s takes slots from k in place of the exhausted one, unless another thread was first. Whichever of them is not taken
 * from any more must not stay LIVE: no search would find its empty slots. */
static void stripe_go_on(struct stripe *s, struct chunk *exhausted, struct chunk *k)
{
    uintptr_t old = (uintptr_t)exhausted;
    if (!sync_cas_acqrel(&s->live, &old, (uintptr_t)k, chunk, none)) chunk_leave(k, CHUNK_LIVE);
    else if (exhausted && exhausted != k) chunk_leave(exhausted, CHUNK_LIVE);   /* claimed again after it was declared full */
}

/* A chunk with word in its first slot, pushed on s. */
static sync_ptr *chunk_push(struct stripe *s, struct chunk *exhausted, uintptr_t word, sync_plain(sync_ptr *) *place)
{
    struct roster *r = sync_get(s->roster);
    struct chunk *k = chunk_new(r);
    if (!k) return NULL;
    sync_set(k->stripe, s);
    sync_init(&k->free, CHUNK_ALL & ~(uint64_t)1);
    if (r->enter && !r->enter(r->arg, k)) {
        chunk_free(r, k);
        return NULL;
    }
    sync_set(*place, &k->slot[0]);
    sync_store_hs(&k->slot[0], word, arm, a, slot);
    uintptr_t head = sync_load_relaxed(&s->head, cas_seed);
    do sync_store_relaxed(&k->next, head, unpublished);
    while (!sync_cas_hs2(&s->head, &head, (uintptr_t)k, attach, arm, a, chunk, none));
    sync_add_relaxed(&s->chunks, 1u, stat);
    stripe_go_on(s, exhausted, k);
    return &k->slot[0];
}

/* The next chunk of s with a hole, counting from where the last search ended. */
static struct chunk *stripe_hole(struct stripe *s)
{
    if (sync_load_relaxed(&s->holes, hint) == 0) return NULL;
    struct chunk *k = (struct chunk *)sync_load_acq(&s->turn, chunk);
    for (uint32_t left = sync_load_relaxed(&s->chunks, stat) + 1; left > 0; left--) {
        if (!k) k = (struct chunk *)sync_load_acq(&s->head, chunk);
        if (!k) return NULL;
        struct chunk *next = (struct chunk *)sync_load_relaxed(&k->next, owned);
        uint32_t hole = CHUNK_HOLE;
        if (sync_load_relaxed(&k->fill, hint) == CHUNK_HOLE && sync_cas_relaxed(&k->fill, &hole, (uint32_t)CHUNK_LIVE, hint)) {
            sync_add_relaxed(&s->holes, (uint32_t)-1, stat);
            sync_store_rel(&s->turn, (uintptr_t)next, chunk);
            return k;
        }
        k = next;
    }
    return NULL;
}

/* A chunk to go on with in place of the exhausted one, from own's stripe, from others, from the rosters before; or
 * NULL: then one is to be added (R3). */
static struct chunk *roster_hole(struct roster *widest, struct stripe *own)
{
    uint64_t holes = 0, chunks = 0;
    for (struct roster *r = widest; r; r = sync_get(r->narrower))
        for (unsigned i = 0; i < sync_get(r->stripes); i++) {
            holes += sync_load_relaxed(&r->stripe[i].holes, stat);
            chunks += sync_load_relaxed(&r->stripe[i].chunks, stat);
        }
    if (8 * holes < chunks) return NULL;        /* with no holes, too: the caller has seen a chunk */
    for (struct roster *r = widest; r; r = sync_get(r->narrower)) {
        unsigned n = sync_get(r->stripes), from = r == widest ? sync_get(own->index) : 0;
        for (unsigned i = 0; i < n; i++) {
            struct chunk *k = stripe_hole(&r->stripe[(from + i) & (n - 1)]);
            if (k) return k;
        }
    }
    return NULL;
}

sync_ptr *roster_add_slow(struct roster *r, unsigned ordinal, uintptr_t word, sync_plain(sync_ptr *) *place,
                          unsigned *misses)
{
    struct stripe *s = &r->stripe[ordinal & (sync_get(r->stripes) - 1)];
    struct chunk *k, *next;
    while ((k = (struct chunk *)sync_load_acq(&s->live, chunk)) != NULL) {
        sync_ptr *x = chunk_add(k, word, place, misses);
        if (likely(x != NULL)) return x;
        chunk_fill_up(k);
        if ((struct chunk *)sync_load_relaxed(&s->live, hint) != k) continue;      /* another thread went on already */
        next = roster_hole(r, s);
        if (!next) break;
        stripe_go_on(s, k, next);
    }
    return chunk_push(s, k, word, place);
}

void roster_vacate(sync_ptr *slot)
{
    struct chunk *k = chunk_of(slot);
    uint64_t bit = (uint64_t)1 << (slot - k->slot);
    sync_store_relaxed(&k->free, sync_load_relaxed(&k->free, hint) | bit, hint);
    chunk_leave(k, CHUNK_FULL);
}

/* The first slot of the stripes from i on, or of the rosters before. */
static sync_ptr *roster_from(struct roster *r, unsigned i)
{
    for (; r; i = 0, r = sync_get(r->narrower))
        for (; i < sync_get(r->stripes); i++) {
            struct chunk *k = (struct chunk *)sync_load_hs(&r->stripe[i].head, attach, b, chunk);
            if (k) return &k->slot[0];
        }
    return NULL;
}

sync_ptr *roster_first(struct roster *r) { return roster_from(r, 0); }

sync_ptr *roster_next(sync_ptr *slot)
{
    struct chunk *k = chunk_of(slot);
    if (slot != &k->slot[CHUNK_SLOTS - 1]) return slot + 1;
    struct chunk *next = (struct chunk *)sync_load_relaxed(&k->next, owned);
    if (next) return &next->slot[0];
    struct stripe *s = sync_get(k->stripe);
    return roster_from(sync_get(s->roster), sync_get(s->index) + 1);
}
