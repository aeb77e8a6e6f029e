/* Layer 5, mechanism. timer: deadlines to function calls; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Most deadlines never fire, so arming pays for no order: an occupant is put into the armed set (rosters of slots,
 * by how far off it is) by one compare-and-swap, and taken out by one exchange. Order is the business of the one
 * thread that has the role: it moves what is marked FRESH into a private heap of (deadline, slot), which are
 * guesses: the set is the truth.
 *
 *   T1  Arm and disarm are O(1) at any number armed; disarm leaves nothing of the occupant behind.
 *   T2  Nothing fires before its time by clock_now.
 *   T3  Whatever is armed is in the heap, or FRESH in a chunk whose dirty bit is set or that is being drained, or
 *       its armer is still inside timer_arm.
 *   T4  When the role sleeps, it wakes no later than the earliest deadline, or an armer is about to ring.
 *
 * Far tiers are looked at rarely: by then most of what was armed in them has been disarmed. */
#ifndef CCTXI_TIMER_H
#define CCTXI_TIMER_H

#include "epoch.h"
#include "roster.h"

struct timer;
struct timer_ops {
    int64_t (*key)(uintptr_t occupant);         /* its deadline; called in a section */
    bool (*pin)(uintptr_t occupant);            /* keeps it, or false: it is going; called in a section */
    void (*fire)(uintptr_t occupant);           /* its time has come; drops the pin. In no section */
};

enum { TIMER_TIERS = 3 };

struct timer_tier {
    sync_ptr set;               /* the roster of slots, made on first use */
    sync_ptr directories;       /* push-only */
    sync_i64 next_drain;        /* far tiers: when to look at it again */
    sync_plain(int64_t) horizon;
};

struct timer_entry {
    int64_t key;
    sync_ptr *slot;
};

struct timer {
    const struct timer_ops *ops;
    void (*ring)(struct timer *t);      /* tells the role in place of the bell; or NULL. Set before the timer is used: it
                                 * may be rung before it is made. In no section */
    const struct allocator *memory;     /* NULL: the library's own; set before the first arm */
    struct timer_tier tier[TIMER_TIERS];
    sync_i64 next_wake;         /* the role sleeps no longer than this */
    sync_u32 bell;              /* the futex word of the role */
    /* owned by the role */
    struct timer_entry *heap;
    size_t count, capacity, limit;
    int64_t starved;            /* the least deadline for which there was no memory in the heap */
    bool rebuild;               /* the heap is of another process: begin anew from the set */
};

void timer_init(struct timer *t, const struct timer_ops *ops);
/* Gives all memory back. Nothing is armed, and nobody uses t any more. */
void timer_free(struct timer *t);

/* Arms occupant (its low three bits clear) for deadline, which is later than now; or, for a role that is to know each
 * deadline exactly, with the deadline for now: then it is in the near tier. *place is set to its slot before it is published.
 * false without memory. Any thread. */
bool timer_arm(struct timer *t, struct thread *self, uintptr_t occupant, int64_t now, int64_t deadline,
               sync_plain(sync_ptr *) *place);
/* Empties the slot. After it nothing calls key, pin or fire on the occupant, but a section that is open. */
void timer_disarm(sync_ptr *slot);

/* The role, one thread at a time: fires what is due at now. Returns how many. */
size_t timer_work(struct timer *t, struct thread *self, int64_t now);
/* When to work next, for a role that does not sleep in timer_sleep. */
int64_t timer_next(struct timer *t);
/* The bell, read before the role looks for work: what comes after the look has rung it since. */
uint32_t timer_bell(struct timer *t);
/* Parks until there may be work, and until `least` unless the bell has rung since it was read. */
void timer_sleep(struct timer *t, uint32_t bell, int64_t now, int64_t least);
/* Rings it: the role has something to see to beside deadlines. Async-signal-safe. Ordering: edge bell. */
void timer_ring(struct timer *t);
/* How many are armed: a look at each slot there ever was. Any thread. */
size_t timer_armed(struct timer *t);
/* In the child of a fork, where the role's thread is gone. */
void timer_forked(struct timer *t);

#endif
