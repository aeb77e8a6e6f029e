/* Layer 3, mechanism. arena: tokens in memory that processes share: made, ended, told of; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * No byte of the memory is trusted. What is needed to find one's way in it is kept outside (struct arena), each number
 * that is read from it is checked before it is used, no address is in it, and no loop depends on it. Nobody waits in it
 * for another process: each change is one compare-and-swap of one word, so a process that is killed at any point leaves
 * nothing half done but what others end for it.
 *
 * A slot is a word and a deadline. The word has the generation, which only grows, the owner and the state; a token is
 * the slot's number and the generation. Rules:
 *
 *   S1  A generation is claimed, then live, then ended, for ever; a later one follows. Who claimed it alone makes it
 *       live; the first to end it wins. A generation that ran out is the slot's last.
 *   S2  CLAIMED: the deadline is the claimant's to write. Else it is constant as long as the word's generation is.
 *   S3  The owner's place in the process table is that process's while the word is CLAIMED or LIVE: the place is given
 *       up once the process is dead and each such slot of it is ended. So who finds the process in its place after it
 *       has read the word knows whose the slot is.
 *   S4  TOLD: legal to be clear after the bell was rung for the end; illegal to be set before. Who finds an end untold
 *       rings the bell.
 *   S5  last: how the generation before ended, so that who looks a little late still learns it. */
#ifndef CCTXI_ARENA_H
#define CCTXI_ARENA_H

#include "sync.h"

enum {
    ARENA_INDEX_BITS = 20,
    ARENA_MOST = 1 << ARENA_INDEX_BITS,         /* slots */
#ifdef SYNC_SMALL
    ARENA_PROCESSES = 2
#else
    ARENA_PROCESSES = 1024                      /* that own tokens at one time */
#endif
};

enum arena_state {              /* of a token; the first six are a word's, too */
    ARENA_VOID,                 /* a word that is 0: never used */
    ARENA_CLAIMED,
    ARENA_LIVE,
    ARENA_CANCELED,
    ARENA_TIMEDOUT,
    ARENA_DIED,                 /* its owner did */
    ARENA_STALE,                /* its slot was used again, and how it ended is forgotten; or it was never given out */
    ARENA_NONE,                 /* no token at all: there is no such slot */
    ARENA_CORRUPT
};

struct arena_slot {
    sync_u64 word;
    sync_i64 deadline;
};

struct arena_head {             /* of the shared memory, each part on a line of its own. The slots follow */
    sync_u64 magic;
    sync_u32 version, capacity;
    sync_u64 space;             /* see peer_space; 0: unknown */
    __attribute__((aligned(64))) sync_u32 bell;         /* rung after an end: who is bound to a token sleeps on it */
    __attribute__((aligned(64))) sync_u32 next;         /* where the search for a slot begins: a hint */
    __attribute__((aligned(64))) sync_u64 process[ARENA_PROCESSES];    /* who (see peer), or 0 */
};

struct arena {                  /* this process's view of it. Constant */
    struct arena_head *head;
    struct arena_slot *slot;
    uint32_t capacity;
};

struct arena_sight {            /* what was seen of a live token */
    int64_t deadline;
    uint64_t owner;             /* who (see peer) */
};

/* The bytes of an arena; capacity is 1 … ARENA_MOST. */
size_t arena_size(uint32_t capacity);
/* Makes an arena out of zeroed memory that nobody else has. */
void arena_make(struct arena *a, void *memory, uint32_t capacity);
/* Finds one in memory of size bytes. 0; EBADMSG: it is none; EXDEV: of another namespace of processes or of time. */
int arena_open(struct arena *a, void *memory, size_t size);

/* A live token of the process who. 0; ENOSPC: all slots, or all places of the process table, are in use; EBADMSG.
 * Ends what dead processes left only where there is no room.
 * Cost: O(1) while there is room, or else O(capacity). */
int arena_claim(struct arena *a, uint64_t who, int64_t deadline, uint64_t *token);
/* Ends the token: true, this call did. False: it was ended before, and the bell was rung, or it is no live token.
 * Ordering: release and acquire (edge token). */
bool arena_cancel(struct arena *a, uint64_t token);
/* How the token is: ARENA_LIVE, or any from ARENA_CANCELED on. Ordering: acquire; side A get of the handshake attach. */
enum arena_state arena_look(struct arena *a, uint64_t token, struct arena_sight *sight);
/* A process is dead: ends its tokens, gives up its place, and rings the bell. O(capacity). */
void arena_bury(struct arena *a, uint64_t who);

/* Rings the bell. */
void arena_ring(struct arena *a);

#endif
