/* Layer 3, mechanism. arena: tokens in memory that processes share: made, ended, told of; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "arena.h"
#include "clock.h"
#include "peer.h"
#include <errno.h>

/* The word: the state, how the generation before ended, TOLD, the owner's place, the generation. */
enum { LAST_SHIFT = 3, OWNER_SHIFT = 8, GENERATION_SHIFT = 64 - 44 };
#define STATE_MASK     ((uint64_t)7)
#define LAST_MASK      ((uint64_t)3 << LAST_SHIFT)
#define TOLD           ((uint64_t)1 << 5)
#define OWNER_MASK     ((uint64_t)1023 << OWNER_SHIFT)
#define GENERATION_ONE ((uint64_t)1 << GENERATION_SHIFT)
#define GENERATION_MAX (UINT64_MAX >> GENERATION_SHIFT)
#define ALL_BITS       (STATE_MASK | LAST_MASK | TOLD | OWNER_MASK | ~(GENERATION_ONE - 1))

#define MAGIC ((uint64_t)0x6e65726178746363)    /* "cctxaren", where the low byte is first */
enum { VERSION = 1 };

#ifndef SYNC_RELACY
_Static_assert(sizeof(struct arena_slot) == 16 && sizeof(struct arena_head) % 64 == 0 &&
               offsetof(struct arena_head, bell) == 64 && offsetof(struct arena_head, process) == 192,
               "one layout for all processes, whatever they were compiled by");
_Static_assert((int)GENERATION_SHIFT == (int)ARENA_INDEX_BITS && (int)ARENA_PROCESSES <= 1024, "see the word and the token");
#endif

static enum arena_state word_state(uint64_t w) { return (enum arena_state)(w & STATE_MASK); }
static enum arena_state word_last(uint64_t w) { return (enum arena_state)(((w & LAST_MASK) >> LAST_SHIFT) + ARENA_LIVE); }
static unsigned word_owner(uint64_t w) { return (unsigned)((w & OWNER_MASK) >> OWNER_SHIFT); }
static uint64_t word_generation(uint64_t w) { return w >> GENERATION_SHIFT; }
static bool word_ended(uint64_t w) { return word_state(w) >= ARENA_CANCELED || w == 0; }
static uint64_t word_end(uint64_t w, enum arena_state end) { return (w & ~STATE_MASK) | (uint64_t)end; }

/* Is it one that the rules can give? */
static bool word_sound(uint64_t w)
{
    if (w == 0) return true;
    bool first = word_generation(w) == 1, follows = (w & LAST_MASK) != 0, told = (w & TOLD) != 0;
    return (w & ~ALL_BITS) == 0 && word_state(w) != ARENA_VOID && word_state(w) <= ARENA_DIED &&
           word_generation(w) != 0 && first != follows && word_owner(w) < ARENA_PROCESSES &&
           (!told || word_ended(w));
}

size_t arena_size(uint32_t capacity) { return sizeof(struct arena_head) + capacity * sizeof(struct arena_slot); }

void arena_make(struct arena *a, void *memory, uint32_t capacity)
{
    a->head = (struct arena_head *)memory;
    a->slot = (struct arena_slot *)(void *)(a->head + 1);
    a->capacity = capacity;
    sync_init(&a->head->magic, MAGIC);
    sync_init(&a->head->version, (uint32_t)VERSION);
    sync_init(&a->head->capacity, capacity);
    sync_init(&a->head->space, peer_space());
}

/* Does the head say still what it did when the arena was opened? */
static bool arena_sound(struct arena *a)
{
    return sync_load_relaxed(&a->head->magic, alone) == MAGIC &&
           sync_load_relaxed(&a->head->version, alone) == VERSION &&
           sync_load_relaxed(&a->head->capacity, alone) == a->capacity;
}

int arena_open(struct arena *a, void *memory, size_t size)
{
    if (size < sizeof(struct arena_head)) return EBADMSG;
    a->head = (struct arena_head *)memory;
    a->slot = (struct arena_slot *)(void *)(a->head + 1);
    a->capacity = sync_load_relaxed(&a->head->capacity, alone);
    if (!arena_sound(a) || a->capacity == 0 || a->capacity > ARENA_MOST || size != arena_size(a->capacity)) return EBADMSG;
    uint64_t space = sync_load_relaxed(&a->head->space, alone), here = peer_space();
    return space && here && space != here ? EXDEV : 0;
}

void arena_ring(struct arena *a)
{
    sync_add_acqrel(&a->head->bell, 1u, bell, none);
    peer_wake(&a->head->bell);
}

/* Tells of the end that slot's word w has, and notes that it is told: who sees that sees the bell rung, by the kernel's
 * barrier in a wake. */
static void arena_tell(struct arena *a, struct arena_slot *slot, uint64_t w)
{
    if (w & TOLD) return;
    arena_ring(a);
    sync_cas_relaxed(&slot->word, &w, w | TOLD, alone);
}

/* Ends the generation of w, which is the slot's word or was a moment ago; true: this call did. */
static bool arena_end(struct arena_slot *slot, uint64_t *w, enum arena_state end)
{
    uint64_t seen = *w;
    *w = word_end(seen, end);
    return sync_cas_hs(&slot->word, &seen, *w, attach, b, token, token);
}

/* ------------------------------------------------------------------------------------------------ processes */

/* The place of who in the process table, or -1: there is none left. */
static int arena_place(struct arena *a, uint64_t who)
{
    for (int i = 0; i < ARENA_PROCESSES; i++)
        if (sync_load_relaxed(&a->head->process[i], alone) == who) return i;
    for (int i = 0; i < ARENA_PROCESSES; i++) {
        uint64_t none = 0;
        if (sync_load_relaxed(&a->head->process[i], hint) == 0 &&
            sync_cas_relaxed(&a->head->process[i], &none, who, alone))
            return i;
    }
    return -1;
}

/* What the owner in this place has left. The place is looked at after the word (S3). */
static void arena_sweep(struct arena *a, unsigned place, uint64_t who)
{
    for (uint32_t i = 0; i < a->capacity; i++) {
        uint64_t w = sync_load_acq(&a->slot[i].word, token);
        bool holds = (word_state(w) == ARENA_LIVE || word_state(w) == ARENA_CLAIMED) && word_owner(w) == place;
        if (holds && word_sound(w) && sync_load_relaxed(&a->head->process[place], alone) == who)
            arena_end(&a->slot[i], &w, ARENA_DIED);
    }
}

void arena_bury(struct arena *a, uint64_t who)
{
    for (unsigned i = 0; i < ARENA_PROCESSES; i++) {
        if (sync_load_relaxed(&a->head->process[i], alone) != who) continue;
        arena_sweep(a, i, who);
        uint64_t seen = who;
        sync_cas_acqrel(&a->head->process[i], &seen, (uint64_t)0, record, none);
    }
    arena_ring(a);              /* also where another one has ended them, and died before it rang */
}

/* Buries all that are dead; true if there was one. */
static bool arena_reap(struct arena *a)
{
    bool found = false;
    for (unsigned i = 0; i < ARENA_PROCESSES; i++) {
        uint64_t who = sync_load_relaxed(&a->head->process[i], alone);
        if (who == 0 || !peer_dead(who)) continue;
        arena_bury(a, who);
        found = true;
    }
    return found;
}

/* ------------------------------------------------------------------------------------------------ tokens */

/* The word of the slot that follows w's generation, claimed by the owner in this place. */
static uint64_t word_next(uint64_t w, unsigned place)
{
    uint64_t last = w == 0 ? 0 : (uint64_t)word_state(w) - ARENA_LIVE;
    return (word_generation(w) + 1) << GENERATION_SHIFT | (uint64_t)place << OWNER_SHIFT | last << LAST_SHIFT | ARENA_CLAIMED;
}

/* Takes slot i, if it can be had; 0: not. */
static uint64_t arena_take(struct arena *a, uint32_t i, unsigned place, int64_t deadline, int64_t now)
{
    struct arena_slot *slot = &a->slot[i];
    uint64_t w = sync_load_acq(&slot->word, token);
    if (!word_sound(w) || word_generation(w) == GENERATION_MAX) return 0;
    if (word_state(w) == ARENA_LIVE && sync_load_relaxed(&slot->deadline, alone) <= now)
        if (!arena_end(slot, &w, ARENA_TIMEDOUT)) return 0;
    if (!word_ended(w)) return 0;
    uint64_t next = word_next(w, place);
    if (w != 0 && word_state(w) != ARENA_TIMEDOUT && !(w & TOLD)) {
        arena_tell(a, slot, w);
        w |= TOLD;              /* by arena_tell, or by another */
    }
    if (!sync_cas_acqrel(&slot->word, &w, next, token, none)) return 0;
    sync_store_rel(&slot->deadline, deadline, token);
    if (!sync_cas_acqrel(&slot->word, &next, word_end(next, ARENA_LIVE), token, none)) return 0;
    sync_store_relaxed(&a->head->next, i + 1, hint);
    return word_generation(next) << ARENA_INDEX_BITS | i;
}

/* The first slot that can be had, from the hint on; 0: none. */
static uint64_t arena_search(struct arena *a, unsigned place, int64_t deadline)
{
    int64_t now = clock_now();
    uint32_t i = sync_load_relaxed(&a->head->next, hint) % a->capacity;
    for (uint32_t n = 0; n < a->capacity; n++, i = i + 1 < a->capacity ? i + 1 : 0) {
        uint64_t token = arena_take(a, i, place, deadline, now);
        if (token != 0) return token;
    }
    return 0;
}

/* Is there a slot that no process can ever have made? */
static bool arena_unsound(struct arena *a)
{
    for (uint32_t i = 0; i < a->capacity; i++)
        if (!word_sound(sync_load_relaxed(&a->slot[i].word, alone))) return true;
    return false;
}

int arena_claim(struct arena *a, uint64_t who, int64_t deadline, uint64_t *token)
{
    *token = 0;
    if (!arena_sound(a)) return EBADMSG;
    for (bool again = false;; again = true) {
        int place = arena_place(a, who);
        if (place >= 0 && (*token = arena_search(a, (unsigned)place, deadline)) != 0) return 0;
        if (again || !arena_reap(a)) return arena_unsound(a) ? EBADMSG : ENOSPC;
    }
}

/* The slot of a token; NULL: there is none. */
static struct arena_slot *arena_find(struct arena *a, uint64_t token)
{
    uint32_t i = (uint32_t)(token & (ARENA_MOST - 1));
    return token >> ARENA_INDEX_BITS != 0 && i < a->capacity ? &a->slot[i] : NULL;
}

bool arena_cancel(struct arena *a, uint64_t token)
{
    struct arena_slot *slot = arena_find(a, token);
    if (!slot || !arena_sound(a)) return false;
    uint64_t w = sync_load_acq(&slot->word, token);
    if (!word_sound(w) || word_generation(w) != token >> ARENA_INDEX_BITS) return false;
    bool won = false;
    if (word_state(w) == ARENA_LIVE) {
        bool late = sync_load_relaxed(&slot->deadline, alone) <= clock_now();
        won = arena_end(slot, &w, late ? ARENA_TIMEDOUT : ARENA_CANCELED) && !late;
        if (!won) w = sync_load_acq(&slot->word, token);
    }
    if (word_sound(w) && (word_state(w) == ARENA_CANCELED || word_state(w) == ARENA_DIED)) arena_tell(a, slot, w);
    return won;
}

/* What the word says of a generation. */
static enum arena_state word_tells(uint64_t w, uint64_t generation)
{
    if (!word_sound(w)) return ARENA_CORRUPT;
    if (word_generation(w) == generation + 1) return word_last(w);
    return word_generation(w) == generation && word_state(w) != ARENA_CLAIMED ? word_state(w) : ARENA_STALE;
}

enum arena_state arena_look(struct arena *a, uint64_t token, struct arena_sight *sight)
{
    struct arena_slot *slot = arena_find(a, token);
    if (!slot) return ARENA_NONE;
    if (!arena_sound(a)) return ARENA_CORRUPT;
    uint64_t w = sync_load_hs(&slot->word, attach, a, token), generation = token >> ARENA_INDEX_BITS;
    if (word_tells(w, generation) != ARENA_LIVE) return word_tells(w, generation);
    sight->deadline = sync_load_acq(&slot->deadline, token);
    sight->owner = sync_load_acq(&a->head->process[word_owner(w)], record);
    /* Both are of this generation if it is live still: then its owner's place cannot be empty (S3). */
    uint64_t again = sync_load_acq(&slot->word, token);
    enum arena_state state = word_tells(again, generation);
    bool owned = sight->owner != 0 && sight->owner >> PEER_BITS == 0;
    return state == ARENA_LIVE && (again != w || !owned) ? ARENA_CORRUPT : state;
}
