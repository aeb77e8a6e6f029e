/* Layer 5, mechanism. timer: deadlines to function calls; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "timer.h"
#include "futex.h"

#ifdef SYNC_SMALL
enum { DIRECTORY_CHUNKS = 2, STALE = 4 };
#else
enum {
    DIRECTORY_CHUNKS = 61,
    STALE = 1024                /* entries of the heap that are kept unlooked at */
};
#endif
enum {
    ARITY = 4,                  /* of the heap */
    BATCH = 64,                 /* slots looked at in one section */
    RING_AT = 16                /* chunks dirty in a directory: then the role drains before anything is due */
};

struct directory {
    sync_ptr next;              /* constant after the push */
    sync_u64 dirty;             /* bit i: chunk i has FRESH occupants */
    sync_u32 used;              /* places given out */
    sync_ptr chunk[DIRECTORY_CHUNKS];
};

#ifdef SYNC_RELACY
#include "timer_model.h"
#else
static struct directory *directory_new(const struct allocator *a)
{
    return (struct directory *)block_get_aligned(a, CACHE_LINE, sizeof(struct directory));
}
static void directory_free(const struct allocator *a, struct directory *g) { block_put(a, g); }
#endif

void timer_init(struct timer *t, const struct timer_ops *ops)
{
    t->ops = ops;
    t->memory = NULL;
    for (int i = 0; i < TIMER_TIERS; i++) {
        sync_init(&t->tier[i].set, (uintptr_t)0);
        sync_init(&t->tier[i].directories, (uintptr_t)0);
        sync_init(&t->tier[i].next_drain, INT64_MAX);
        sync_set(t->tier[i].horizon, i == 0 ? INT64_MIN : (int64_t)1 << (26 + 4 * i));
    }
    sync_init(&t->next_wake, INT64_MAX);
    sync_init(&t->bell, 0u);
    t->heap = NULL;
    t->count = t->capacity = 0;
    t->limit = STALE;
    t->starved = INT64_MAX;
    t->rebuild = false;
}

/* ------------------------------------------------------------------------------------------------ armers */

/* Enters a new chunk into a directory of the tier, before its roster publishes it. */
static bool directory_enter(void *arg, struct chunk *k)
{
    struct timer_tier *tier = (struct timer_tier *)arg;
    const struct allocator *a = sync_get(sync_get(k->stripe)->roster)->memory;
    for (;;) {
        uintptr_t head = sync_load_acq(&tier->directories, directory);
        struct directory *g = (struct directory *)head;
        if (g) {
            uint32_t i = sync_add_relaxed(&g->used, 1u, owned);
            if (i < DIRECTORY_CHUNKS) {
                sync_set(k->directory, (void *)g);
                sync_set(k->index, i);
                sync_store_rel(&g->chunk[i], (uintptr_t)k, directory);
                return true;
            }
        }
        struct directory *more = directory_new(a);
        if (!more) return false;
        sync_init(&more->next, head);
        if (!sync_cas_hs(&tier->directories, &head, (uintptr_t)more, doze, a, directory, none)) directory_free(a, more);
    }
}

static struct roster *tier_set(struct timer *t, struct timer_tier *tier)
{
    uintptr_t r = sync_load_acq(&tier->set, chunk);
    if (likely(r != 0)) return (struct roster *)r;
    struct roster *made = roster_new(t->memory, roster_width(), directory_enter, tier, NULL);
    if (!made) return NULL;
    if (sync_cas_acqrel(&tier->set, &r, (uintptr_t)made, chunk, chunk)) return made;
    roster_free(made);
    return (struct roster *)r;
}

/* Lowers next_wake to when; true if that is earlier than it was. */
static bool lower_wake(struct timer *t, int64_t when)
{
    int64_t w = sync_load_hs(&t->next_wake, doze, a, none);
    while (when < w)
        if (sync_cas_relaxed(&t->next_wake, &w, when, alone)) return true;
    return false;
}

void timer_ring(struct timer *t)
{
    sync_add_acqrel(&t->bell, 1u, bell, none);
    if (t->ring) t->ring(t);
    else futex_wake(&t->bell);
}

static void wake_by(struct timer *t, int64_t when)
{
    if (lower_wake(t, when)) timer_ring(t);
}

static void drain_by(struct timer_tier *tier, int64_t when)
{
    int64_t w = sync_load_hs(&tier->next_drain, doze, a, none);
    while (when < w)
        if (sync_cas_hs(&tier->next_drain, &w, when, doze, a, none, none)) return;
}

bool timer_arm(struct timer *t, struct thread *self, uintptr_t occupant, int64_t now, int64_t deadline,
               sync_plain(sync_ptr *) *place)
{
    int64_t left = deadline - now;
    int i = TIMER_TIERS - 1;
    while (left < sync_get(t->tier[i].horizon)) i--;
    struct timer_tier *tier = &t->tier[i];
    struct roster *set = tier_set(t, tier);
    unsigned misses = 0;
    sync_ptr *x = set ? roster_add(set, self->ordinal, occupant | SLOT_FRESH, place, &misses) : NULL;
    if (!x) return false;
    if (unlikely(misses > 0)) self->ordinal++;  /* another thread takes from the same stripe: move on */

    struct chunk *k = chunk_of(x);
    struct directory *g = (struct directory *)sync_get(k->directory);
    uint64_t bit = (uint64_t)1 << sync_get(k->index), dirty = sync_load_hs2(&g->dirty, arm, doze, a, none);
    bool backlog = false;
    if (!(dirty & bit)) {
        dirty = sync_or_hs2(&g->dirty, bit, arm, doze, a, directory, none) | bit;
        backlog = i == 0 && __builtin_popcountll(dirty) == RING_AT && !t->ring;
    }
    if (i > 0) drain_by(tier, deadline);
    wake_by(t, backlog ? INT64_MIN : deadline);
    return true;
}

void timer_disarm(sync_ptr *slot)
{
    roster_vacate(slot);
    sync_swap_acqrel(slot, (uintptr_t)0, none, none);           /* the set is never freed: nothing to carry */
}

/* -------------------------------------------------------------------------------------------- the heap */

/* The i-th entry. Those below one fill a cache line: the first stands three entries into the memory, which is aligned. */
enum { HEAP_PAD = ARITY - 1 };
static struct timer_entry *heap_at(struct timer *t, size_t i) { return &t->heap[i + HEAP_PAD]; }

/* Moves the heap into memory for `room` entries; false without memory: nothing has changed. */
static bool heap_resize(struct timer *t, size_t room)
{
    struct timer_entry *memory =
        (struct timer_entry *)block_get_aligned(t->memory, CACHE_LINE, (room + HEAP_PAD) * sizeof *memory);
    if (!memory) return false;
    for (size_t i = 0; i < t->count; i++) memory[i + HEAP_PAD] = *heap_at(t, i);
    block_put(t->memory, t->heap);
    t->heap = memory;
    t->capacity = room;
    return true;
}

static void heap_up(struct timer *t, size_t i, struct timer_entry e)
{
    for (size_t up; i > 0 && heap_at(t, up = (i - 1) / ARITY)->key > e.key; i = up) *heap_at(t, i) = *heap_at(t, up);
    *heap_at(t, i) = e;
}

static void heap_down(struct timer *t, size_t i, struct timer_entry e)
{
    for (;;) {
        size_t least = i * ARITY + 1, end = least + ARITY, below = least * ARITY + 1;
        if (end > t->count) end = t->count;
        /* Of the four times four below one is next, and a large heap is in no cache. */
        if (below + ARITY * ARITY <= t->count)
            for (size_t c = 0; c < ARITY; c++) prefetch(heap_at(t, below + c * ARITY));
        for (size_t c = least + 1; c < end; c++)
            if (heap_at(t, c)->key < heap_at(t, least)->key) least = c;
        if (least >= t->count || heap_at(t, least)->key >= e.key) break;
        *heap_at(t, i) = *heap_at(t, least);
        i = least;
    }
    *heap_at(t, i) = e;
}

static bool heap_push(struct timer *t, struct timer_entry e)
{
    if (t->count == t->capacity && !heap_resize(t, t->capacity ? t->capacity * 2 : 256)) return false;
    heap_up(t, t->count++, e);
    return true;
}

static void heap_pop(struct timer *t)
{
    struct timer_entry last = *heap_at(t, --t->count);
    if (t->count > 0) heap_down(t, 0, last);
}

/* The occupant that e speaks of, or 0: it was disarmed, or the slot holds another. In a section. */
static uintptr_t entry_occupant(struct timer *t, struct timer_entry e)
{
    uintptr_t w = sync_load_relaxed(e.slot, owned);     /* what is not FRESH the role has seen when it was */
    if (w == 0 || (w & SLOT_FRESH)) return 0;
    return t->ops->key(w & ~(uintptr_t)SLOT_MASK) == e.key ? w & ~(uintptr_t)SLOT_MASK : 0;
}

/* Takes the role's mark off, and puts fresh on. */
static void slot_unsee(sync_ptr *slot, uintptr_t fresh)
{
    uintptr_t w = sync_load_relaxed(slot, cas_seed);
    while (w != 0 && !sync_cas_acqrel(slot, &w, (w & ~(uintptr_t)SLOT_SEEN) | fresh, none, none)) {}
}

/* Is e the first entry met in this pass for an occupant? With one deadline for many, a stale entry looks like that of
 * the slot's next occupant; SLOT_SEEN, the role's own, tells them apart. In a section. */
static bool entry_keep(struct timer *t, struct timer_entry e)
{
    uintptr_t w = entry_occupant(t, e);
    return w && sync_cas_acqrel(e.slot, &w, w | SLOT_SEEN, none, none);
}

/* Drops what was disarmed when it may be more than half, and gives memory back: amortized O(1) per entry. */
static void heap_filter(struct timer *t, struct thread *self)
{
    if (t->count <= t->limit) return;
    size_t kept = 0;
    for (size_t i = 0; i < t->count;) {
        epoch_enter(self);
        for (size_t end = i + BATCH; i < end && i < t->count; i++)
            if (entry_keep(t, *heap_at(t, i))) *heap_at(t, kept++) = *heap_at(t, i);
        epoch_leave(self);
    }
    t->count = kept;
    for (size_t i = 0; i < kept; i++) slot_unsee(heap_at(t, i)->slot, 0);
    for (size_t i = kept / ARITY + 1; i-- > 0;)
        if (i < kept) heap_down(t, i, *heap_at(t, i));
    t->limit = 2 * kept + STALE;
    if (t->capacity > 2 * t->limit) heap_resize(t, t->limit);
}

/* -------------------------------------------------------------------------------------------- the role */

struct due {                    /* pinned in a section, fired after it */
    uintptr_t occupant[BATCH];
    unsigned count;
};

static size_t fire_all(struct timer *t, struct due *due)
{
    size_t fired = due->count;
    for (unsigned i = 0; i < due->count; i++) t->ops->fire(due->occupant[i]);
    due->count = 0;
    return fired;
}

/* Moves the FRESH of one chunk into the heap, or fires them. *least falls to the least deadline moved. */
static size_t drain_chunk(struct timer *t, struct thread *self, struct timer_tier *tier, struct chunk *k,
                          int64_t now, int64_t *least)
{
    struct due due = {{0}, 0};
    struct timer_entry found[CHUNK_SLOTS];
    unsigned n = 0;
    epoch_enter(self);
    for (unsigned i = 0; i < CHUNK_SLOTS; i++) {
        uintptr_t w = sync_load_hs(&k->slot[i], arm, b, slot);
        if (!(w & SLOT_FRESH)) continue;
        uintptr_t occupant = w & ~(uintptr_t)SLOT_MASK;
        int64_t key = t->ops->key(occupant);
        if (!sync_cas_acqrel(&k->slot[i], &w, w & ~(uintptr_t)SLOT_FRESH, none, none)) continue;
        if (key <= now) {
            if (t->ops->pin(occupant)) due.occupant[due.count++] = occupant;
        } else {
            found[n].key = key;
            found[n++].slot = &k->slot[i];
        }
    }
    epoch_leave(self);
    for (unsigned i = 0; i < n; i++) {
        *least = time_min(*least, found[i].key);
        if (heap_push(t, found[i])) continue;
        /* No memory: the set keeps it, and it is looked at again when it is due. */
        uintptr_t w = sync_load_relaxed(found[i].slot, cas_seed);
        while (w != 0 && !sync_cas_acqrel(found[i].slot, &w, w | SLOT_FRESH, none, none)) {}
        struct directory *g = (struct directory *)sync_get(k->directory);
        sync_or_acqrel(&g->dirty, (uint64_t)1 << sync_get(k->index), none, none);       /* this thread looks at it next */
        drain_by(tier, found[i].key);
        t->starved = time_min(t->starved, found[i].key);
    }
    return fire_all(t, &due);
}

static size_t drain_tier(struct timer *t, struct thread *self, struct timer_tier *tier, int64_t now, int64_t *least)
{
    size_t fired = 0;
    for (struct directory *g = (struct directory *)sync_load_hs(&tier->directories, doze, b, directory); g;
         g = (struct directory *)sync_load_relaxed(&g->next, owned)) {
        if (sync_load_hs(&g->dirty, doze, b, none) == 0) continue;
        uint64_t bits = sync_swap_hs2(&g->dirty, (uint64_t)0, arm, doze, b, none, directory);
        for (; bits; bits &= bits - 1) {
            struct chunk *k = (struct chunk *)sync_load_relaxed(&g->chunk[__builtin_ctzll(bits)], owned);
            fired += drain_chunk(t, self, tier, k, now, least);
        }
    }
    return fired;
}

static bool tier_dirty(struct timer_tier *tier)
{
    for (struct directory *g = (struct directory *)sync_load_hs(&tier->directories, doze, b, directory); g;
         g = (struct directory *)sync_load_relaxed(&g->next, owned))
        if (sync_load_hs(&g->dirty, doze, b, none) != 0) return true;
    return false;
}

/* Pins the occupants of entries that were popped in their time. What they stand in is seldom in a cache, so all of one
 * step is asked for before the next. In a section. */
static void due_pin(struct timer *t, struct due *due, const struct timer_entry *popped, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        prefetch(sync_load_relaxed(popped[i].slot, hint) & ~(uintptr_t)SLOT_MASK);
    for (unsigned i = 0; i < count; i++) {
        uintptr_t occupant = entry_occupant(t, popped[i]);
        if (occupant && t->ops->pin(occupant)) due->occupant[due->count++] = occupant;
    }
}

/* Fires the heap's due entries, in their order, and drops stale ones from its top. */
static size_t fire_due(struct timer *t, struct thread *self, int64_t now)
{
    size_t fired = 0;
    struct due due = {{0}, 0};
    for (bool more = t->count > 0; more;) {
        struct timer_entry popped[BATCH];
        unsigned count = 0;
        epoch_enter(self);
        for (unsigned looked = 0; looked < BATCH && more; looked++) {
            bool due_now = heap_at(t, 0)->key <= now;
            more = due_now || !entry_occupant(t, *heap_at(t, 0));
            if (!more) break;
            if (due_now) {
                prefetch(heap_at(t, 0)->slot);
                popped[count++] = *heap_at(t, 0);
            }
            heap_pop(t);
            more = t->count > 0;
        }
        due_pin(t, &due, popped, count);
        epoch_leave(self);
        fired += fire_all(t, &due);
    }
    return fired;
}

/* After a fork the set is whole and the heap is not to be trusted: all that is armed is FRESH again. */
static void rebuild(struct timer *t)
{
    t->rebuild = false;
    t->heap = NULL;                 /* the thread that is gone may have been in the middle of moving it */
    t->count = t->capacity = 0;
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct timer_tier *tier = &t->tier[i];
        sync_store_relaxed(&tier->next_drain, INT64_MIN, alone);
        for (struct directory *g = (struct directory *)sync_load_acq(&tier->directories, directory); g;
             g = (struct directory *)sync_load_relaxed(&g->next, owned))
            for (unsigned c = 0; c < DIRECTORY_CHUNKS; c++) {
                struct chunk *k = (struct chunk *)sync_load_acq(&g->chunk[c], directory);
                if (!k) continue;
                for (unsigned s = 0; s < CHUNK_SLOTS; s++) slot_unsee(&k->slot[s], SLOT_FRESH);
                sync_or_acqrel(&g->dirty, (uint64_t)1 << c, none, none);        /* this thread looks at it next */
            }
    }
}

size_t timer_work(struct timer *t, struct thread *self, int64_t now)
{
    size_t fired = 0;
    int64_t least = INT64_MAX;
    if (unlikely(t->rebuild)) rebuild(t);
    t->starved = INT64_MAX;
    for (int i = 1; i < TIMER_TIERS; i++)
        if (sync_load_relaxed(&t->tier[i].next_drain, hint) <= now) {
            /* Raise, then drain: who armed by the old value has set its dirty bit before. An armer that has stopped
             * since it read the clock may bring a deadline that is nearer than the raised one. */
            sync_store_hs(&t->tier[i].next_drain, time_add(now, sync_get(t->tier[i].horizon) / 2), doze, b, none);
            fired += drain_tier(t, self, &t->tier[i], now, &least);
        }
    fired += drain_tier(t, self, &t->tier[0], now, &least);
    fired += fire_due(t, self, now);
    heap_filter(t, self);

    int64_t m = time_min(t->starved, t->count > 0 ? heap_at(t, 0)->key : INT64_MAX);
    for (int i = 1; i < TIMER_TIERS; i++)
        if (tier_dirty(&t->tier[i])) m = time_min(m, sync_load_relaxed(&t->tier[i].next_drain, hint));
    sync_store_hs(&t->next_wake, m, doze, b, bell);

    /* The second look: an armer that compared with the old next_wake has set its dirty bit before. */
    least = INT64_MAX;
    fired += drain_tier(t, self, &t->tier[0], now, &least);
    for (int i = 1; i < TIMER_TIERS; i++)
        if (tier_dirty(&t->tier[i])) least = time_min(least, sync_load_hs(&t->tier[i].next_drain, doze, b, none));
    lower_wake(t, least);
    return fired;
}

size_t timer_armed(struct timer *t)
{
    size_t armed = 0;
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct roster *set = (struct roster *)sync_load_acq(&t->tier[i].set, chunk);
        for (sync_ptr *x = set ? roster_first(set) : NULL; x; x = roster_next(x))
            armed += sync_load_relaxed(x, stat) != 0;
    }
    return armed;
}

void timer_free(struct timer *t)
{
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct directory *g = (struct directory *)sync_load_relaxed(&t->tier[i].directories, unpublished), *next;
        for (; g; g = next) {
            next = (struct directory *)sync_load_relaxed(&g->next, unpublished);
            directory_free(t->memory, g);
        }
        roster_free((struct roster *)sync_load_relaxed(&t->tier[i].set, unpublished));
    }
    block_put(t->memory, t->heap);
}

int64_t timer_next(struct timer *t) { return sync_load_relaxed(&t->next_wake, hint); }

uint32_t timer_bell(struct timer *t) { return sync_load_acq(&t->bell, bell); }

void timer_sleep(struct timer *t, uint32_t bell, int64_t now, int64_t least)
{
    int64_t w = sync_load_relaxed(&t->next_wake, hint);          /* if it is lowered yet, the bell has moved */
    if (now < w) futex_wait(&t->bell, bell, w > least ? w : least);
}

void timer_forked(struct timer *t)
{
    t->rebuild = true;
    sync_store_relaxed(&t->next_wake, INT64_MIN, owned);
}
