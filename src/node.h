/* Layer 7, node. node: the context: its fields, its state word, its references, how it hangs in the tree and dies.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A context that can be canceled has an owner: itself. A value context's owner is the nearest ancestor that can be
 * canceled: they share the done word. A child sits in a slot of its parent's owner, and the occupied slot pins the
 * owner, so no count moves when a child is derived. A context that is in no slot (its parent can never be done, or
 * was done already, or it is itself no node of the walk) pins its parent by a reference.
 *
 * refs counts handles and pins while the node is open. The drop that would take a node with slots from 1 to 0 closes
 * it instead: the occupants still there are tagged and counted, and the last of them to leave buries it.
 *
 *   I1  state goes from live to done once, by done_flip only; TIMEDOUT, CAUSED, INHERITED are written by it too.
 *   I2  CAUSED: the cause word is claimed and constant. INHERITED: up(n) is DONE.
 *   I4  A slot holds 0 or one live occupant, whose slot is that address for its life; its death alone (for a
 *       callback: stop or claim) empties it.
 *   I5  A slot is occupied: its owner's memory is not freed. For:
 *   I6  Each occupant is counted by close, or came through a context that pins the owner, or the owner is open.
 *   I7  count(refs) = 0: dead; a dead node gets no reference, no pin, no occupant. (A leaf that nobody could pin dies
 *       with its last handle as it is, at 1.)
 *   I10 No pointer that was read in a section is used after it, unless pinned in it.
 *   I11 Between a flip and its wake the waker holds a reference or a pin on the node.
 *   I13 queued: one thread alone has the node on a run list, pinned, or has run it; it alone uses link.
 *   I16 A timer slot is emptied by its node's death alone. */
#ifndef CCTXI_NODE_H
#define CCTXI_NODE_H

#include "domain.h"
#include "done.h"
#include "epoch.h"
#include "event.h"
#include "probe.h"
#include "registry.h"
#include "roster.h"
#include "table.h"
#include "timer.h"
#include <cctx/cctx.h>

/* The state word, beside DONE, TIMEDOUT, EXPOSED, WOKEN and the waiters (done.h). One-sided rules:
 *   CAUSED     the cause is in this node's cause word; set by the flip.
 *   INHERITED  the cause is up(n)'s; set by the flip. Neither: the library's constant for the reason.
 *   INNER      legal with empty slots; illegal to be clear while a child or callback slot is occupied.
 *   VIA        on a value context: a node in a slot came through it, so a walker may pass over it.
 *   NOTED      legal with a note of another process; illegal to be clear once cctx_fd returned. Set together with
 *              EXPOSED after the note was: who sees it sees the note, and who sets it on a done node tells it. */
enum {
    CAUSED = 1u << 2,
    INHERITED = 1u << 3,
    INNER = 1u << 5,
    VIA = 1u << 8,
    NOTED = 1u << 9,
    KIND_SHIFT = 12,
    KIND_MASK = 15u << KIND_SHIFT,
    DOMAIN_SHIFT = 16           /* the number of its domain; 0 in the default one. Constant, as the kind */
};
#define DOMAIN_BITS (255u << DOMAIN_SHIFT)
enum node_kind { KIND_BACKGROUND, KIND_TODO, KIND_WITHOUT, KIND_VALUE, KIND_CANCEL, KIND_DEADLINE, KIND_ANY, KIND_SIGNALS };

/* The state of a leaf that nobody could pin without a reference: one of two kinds, done or not. */
#define LEAF_MUST ((uint32_t)KIND_CANCEL << KIND_SHIFT)
#define LEAF_MAY  ((uint32_t)DONE | TIMEDOUT | INHERITED | 1u << KIND_SHIFT)

/* The cause word: 0 or p|CAUSE_OWN is unclaimed, the rest is claimed for ever. */
enum {
    CAUSE_BORROWED = 0,         /* claimed by a cancel */
    CAUSE_OWNED = 1,            /* claimed by a cancel; freed with the node */
    CAUSE_DEADLINE = 2,         /* claimed by the deadline */
    CAUSE_OWN = 3,              /* unclaimed: what the deadline will claim. Set before publication */
    CAUSE_TAG = 3
};

#define REFS_CLOSED ((uint32_t)1 << 31)         /* no handle is left: the rest counts occupants and pins */
#define REFS_BIAS   ((uint32_t)1 << 30)         /* while closing: not zero before all are counted */

struct cctx {                   /* one cell, one line */
    sync_plain(sync_u32 *) done;        /* the owner's state, or node_never. Constant. Frozen ABI: first */
    sync_u32 state;             /* the futex word. Its kind bits are constant */
    sync_u32 refs;
    sync_plain(struct cctx *) parent;   /* as given to the derivation. Constant */
    sync_plain(int64_t) deadline;       /* effective. Constant */
    sync_plain(struct table *) values;  /* visible from here; borrowed from the ancestor that made it. Constant;
                                         * with cause it is the link of a retired node */
    sync_ptr cause;             /* see above; in a dead node the link of those to bury */
    sync_plain(sync_ptr *) slot;        /* in the owner of parent; NULL: parent is pinned by a reference. Constant */
    sync_ptr family;            /* 0; a struct family; or the node's timer slot | FAMILY_TIMER */
#if CCTX_CHECK
    struct made entry;         /* in this build a context is an allocation of its own */
#endif
};
enum { FAMILY_TIMER = 1 };
enum { FAMILY_TURNS = 255, FAMILY_CROWD = 64 };        /* so many turns: many threads fill the slots */

struct family {                 /* a second cell, for nodes with children or callbacks. All but tslot: 0 at first */
    sync_ptr roster;            /* children beyond the inline ones */
    sync_ptr kid[2];
    sync_ptr hook;              /* a callback; more of them in hooks */
    sync_ptr hooks;
    sync_plain(struct cctx *) link;     /* of a run list; I13 */
    sync_plain(sync_ptr *) tslot;       /* the timer slot. Constant */
    sync_u16 swept;             /* the process's mark: every descendant derived before the node's DONE is done */
    sync_u16 queued;            /* the process's mark: I13. Set once, after DONE */
    sync_u32 turns;             /* who filled a slot last (its ordinal) and how often that changed (the low
                                 * FAMILY_TURNS): a hint when to widen */
};

struct leg {                    /* how a merged node hangs below a parent that is not its first */
    struct cctx *node;
    struct cctx *parent;
    sync_plain(sync_ptr *) slot;        /* in the owner of parent; NULL: parent is pinned by a reference */
};
struct any {                    /* the memory of a merged node */
    struct cctx node;
    unsigned legs;              /* one for each parent but the first */
#ifdef SYNC_RELACY
    struct leg leg[2];
#else
    struct leg leg[];
#endif
};

struct value {                  /* the memory of a value context */
    struct cctx node;
    const cctx_key_t *key;
    struct table *table;        /* behind it */
};

extern sync_u32 node_never;     /* the done word of all that can never be done; stays 0 */
extern struct timer node_timer; /* of all armed nodes of the default domain */

static inline enum node_kind node_kind(const struct cctx *n)
{
    return (enum node_kind)((sync_load_relaxed(&((struct cctx *)(uintptr_t)n)->state, owned) & KIND_MASK) >> KIND_SHIFT);
}
static inline bool node_is_root(const struct cctx *n) { return node_kind(n) <= KIND_TODO; }

static inline uint32_t node_domain_bits(const struct cctx *n)
{
    return sync_load_relaxed(&((struct cctx *)(uintptr_t)n)->state, owned) & DOMAIN_BITS;
}
/* NULL for the default domain. */
static inline struct cctx_domain *node_domain(const struct cctx *n)
{
    uint32_t in = node_domain_bits(n);
    return unlikely(in != 0) ? domain_at(in >> DOMAIN_SHIFT) : NULL;
}
static inline const struct allocator *node_memory(const struct cctx *n)
{
    struct cctx_domain *d = node_domain(n);
    return d ? &d->memory : NULL;
}
static inline int64_t node_now(const struct cctx *n)
{
    struct cctx_domain *d = node_domain(n);
    return d ? domain_now(d) : clock_now();
}
/* Does n's time pass by a clock that nobody sleeps by? */
static inline bool node_own_clock(const struct cctx *n)
{
    struct cctx_domain *d = node_domain(n);
    return d && d->clock;
}
/* When a sleep on n is to end for its deadline; never where its host alone fires it. */
static inline int64_t node_alarm(const struct cctx *n)
{
    return node_own_clock(n) ? INT64_MAX : sync_get(((struct cctx *)(uintptr_t)n)->deadline);
}

/* Whose done word n has; NULL if it can never be done. */
static inline struct cctx *node_owner(const struct cctx *n)
{
    sync_u32 *word = sync_get(((struct cctx *)(uintptr_t)n)->done);
    return word == &node_never ? NULL : container_of(word, struct cctx, state);
}
/* The node whose slot n is in. */
static inline struct cctx *node_up(struct cctx *n)
{
    return container_of(sync_get(sync_get(n->parent)->done), struct cctx, state);
}

static inline struct family *node_family(struct cctx *n)
{
    uintptr_t f = sync_load_hs(&n->family, attach, b, family);
    return f & FAMILY_TIMER ? NULL : (struct family *)f;
}
/* Its slot in the timer, or NULL: not armed. By a thread that has a reference to n or to a descendant. */
sync_ptr *node_tslot(struct cctx *n);

/* What swept and queued hold once they are set. In the child of a fork the parent's marks do not count: the threads
 * that were in the middle of a walk or of callbacks are gone (contract, C23). */
static inline uint16_t node_mark(void) { return (uint16_t)(thread_generation() % UINT16_MAX + 1); }

/* Sets the fields of memory that is to be a context of kind below parent, in its domain, with one reference, in no
 * slot yet. */
static inline void node_init(struct cctx *n, enum node_kind kind, struct cctx *parent, sync_u32 *done, uint32_t domain)
{
    sync_set(n->done, done);
    sync_init(&n->state, (uint32_t)kind << KIND_SHIFT | domain);
    sync_init(&n->refs, 1u);
    sync_set(n->parent, parent);
    sync_set(n->deadline, sync_get(parent->deadline));
    sync_set(n->values, sync_get(parent->values));
    sync_init(&n->cause, (uintptr_t)0);
    sync_set(n->slot, (sync_ptr *)NULL);
    sync_init(&n->family, (uintptr_t)0);
}

#if defined SYNC_RELACY || CCTX_CHECK
struct cctx *core_new(struct thread *t);
#else
static inline struct cctx *core_new(struct thread *t) { return (struct cctx *)cell_get(&t->cells); }
#endif
enum { NODE_SIZE = CCTX_CHECK ? sizeof(struct cctx) : CELL_SIZE };
struct cctx *node_new_in(struct cctx_domain *d, enum node_kind kind, struct cctx *parent);
/* A context that can be canceled; NULL without memory. */
static inline struct cctx *node_new(struct thread *t, enum node_kind kind, struct cctx *parent)
{
    if (unlikely(node_domain_bits(parent) != 0)) return node_new_in(node_domain(parent), kind, parent);
    struct cctx *n = core_new(t);
    if (unlikely(n == NULL)) return NULL;
    node_init(n, kind, parent, &n->state, 0);
    thread_count(t, COUNT_MADE + (unsigned)kind, 1);
    return n;
}

/* Puts a word into a child slot of p, or a callback slot. The caller has a reference to p or to a context that pins
 * it. *place is set before the slot is. Ordering: edge slot, side A put of the handshake attach: the caller
 * looks at p's state next. The slot, or NULL without memory: nothing has changed. */
sync_ptr *node_admit(struct thread *t, struct cctx *p, uintptr_t word, sync_plain(sync_ptr *) *place);
sync_ptr *node_admit_hook(struct thread *t, struct cctx *p, uintptr_t word, sync_plain(sync_ptr *) *place);
/* Tells that a slot of p is about to be emptied. */
void node_vacate(struct cctx *p, sync_ptr *slot);

/* The child slots of a family in their order, and its callback slots. NULL: no more. */
static inline sync_ptr *node_first(struct family *f) { return &f->kid[0]; }
sync_ptr *node_next(struct family *f, sync_ptr *slot);
sync_ptr *node_next_hook(struct family *f, sync_ptr *slot);

/* Where the number of a node's descriptor stands (event.h): in the roster of its callbacks that was made first, which is
 * there as long as the node. The first makes what is missing, and is NULL without memory; the second is for a node that
 * the caller has seen to be NOTED, and is async-signal-safe. */
sync_u64 *node_note_make(struct thread *t, struct cctx *n);
sync_u64 *node_note(struct cctx *n);
/* Wakes all that sleep on n, and makes its descriptor readable. n is done, and the caller has a reference or a pin.
 * Async-signal-safe. */
void node_wake(struct cctx *n);

/* References. Roots have none. */
void node_ref(struct cctx *n);
/* In a section, or with anything else that keeps n's memory, and for one of the reasons that node_pinnable in node.c
 * knows: a reference, or false, n is dead. Orders nothing: what
 * led to n did, and what follows is ordered by last_ref. */
bool node_try_pin(struct cctx *n);
/* Drops a pin in a signal handler: false, it is the last one and stays. */
bool node_unpin_sig(struct cctx *n);
/* Drops a reference, a pin, or the count of an occupant that was tagged, and buries what dies of it: no recursion.
 * Runs key->destroy. Outside sections. */
void node_unref(struct thread *t, struct cctx *n);
/* n was never published and nobody else has it: gives back what it holds. */
void node_discard(struct thread *t, struct cctx *n);

#if CCTX_CHECK
void node_check(const struct cctx *n, const char *call);
/* A public function, call, made n (or could not: NULL) for the code at site. The entry's top is the nearest ancestor that
 * can never be done and has no values of its own: a root, or one without cancel; its root is the root. */
struct cctx *node_made(struct cctx *n, const void *site, const char *call);
/* The user has one more handle, or one less. */
void node_handle(const struct cctx *n, uint32_t change);
#else
static inline void node_check(const struct cctx *n, const char *call) { (void)n; (void)call; }
static inline struct cctx *node_made(struct cctx *n, const void *site, const char *call)
{
    (void)site, (void)call;
#if PROBES
    if (likely(n != NULL)) probe2(derive, n, sync_get(n->parent));
#endif
    return n;
}
static inline void node_handle(const struct cctx *n, uint32_t change) { (void)n; (void)change; }
#endif

#endif
