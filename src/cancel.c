/* Layer 9, verb. cancel: the only writer of a terminal state; the walk.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "cancel.h"
#include "callback.h"
#include "handler.h"
#include <errno.h>

const cctx_cause_t cctx_canceled = {ECANCELED, "context canceled"};
const cctx_cause_t cctx_deadline_exceeded = {ETIMEDOUT, "context deadline exceeded"};

const cctx_cause_t *cancel_cause(struct cctx *n)
{
    uint32_t s = sync_load_relaxed(&n->state, owned);
    for (; s & INHERITED; s = sync_load_relaxed(&n->state, owned)) n = node_up(n);
    if (s & CAUSED) return (const cctx_cause_t *)(sync_load_relaxed(&n->cause, owned) & ~(uintptr_t)CAUSE_TAG);
    return s & TIMEDOUT ? &cctx_deadline_exceeded : &cctx_canceled;
}

/* --------------------------------------------------------------------------------------------------- the walk */

#ifdef SYNC_SMALL
enum { VISITS = 3, BATCH = 1, STACK = 2 };
#else
enum {
    VISITS = 256,               /* slots per section: a walker that is preempted in one stalls reclamation */
    BATCH = 32,                 /* pins taken per section */
    STACK = 16                  /* merged nodes entered by their legs; deeper, it grows by the allocator */
};
#endif

struct entry {
    struct leg *leg;                            /* by which a merged node was entered; it is pinned */
    const cctx_cause_t *cause;                  /* of the parent it hangs below */
};

struct walk {
    struct thread *t;
    struct cctx *wake[BATCH], *drop[BATCH];     /* pinned: to be woken, to be let go, outside the section */
    unsigned wakes, drops, visits;
    struct cctx *cut;                           /* pinned: where the section was cut last */
    struct cctx *run, *run_last;                /* pinned: the run list */
    struct entry *leg, few[STACK];
    unsigned depth, room;
    struct cctx *later;                         /* pinned: one for which there was no room */
    uintptr_t wins;                             /* flips that are not counted yet */
    bool skipped;                               /* some of the subtree was not entered */
    const cctx_cause_t *cause;                  /* of the node where the walk stands; NULL: not asked for yet */
};

static void walk_flush(struct walk *w)
{
    for (unsigned i = 0; i < w->wakes; i++) {
        node_wake(w->wake[i]);
        node_unref(w->t, w->wake[i]);
    }
    for (unsigned i = 0; i < w->drops; i++) node_unref(w->t, w->drop[i]);
    thread_count(w->t, COUNT_DONE, w->wins);
    w->wins = 0;
    w->wakes = w->drops = w->visits = 0;
}

static void walk_grow(struct walk *w, const struct allocator *a)
{
    bool first = w->leg == w->few;
    struct entry *more = (struct entry *)block_resize(a, first ? NULL : w->leg, w->room * sizeof *more, w->room * 2 * sizeof *more);
    if (!more) return;
    for (unsigned i = 0; first && i < w->depth; i++) more[i] = w->few[i];
    w->leg = more;
    w->room *= 2;
}

/* Leaves the section and enters a new one, with room in all batches. n, where the walk stands, is pinned over the gap and so are its
 * ancestors; if that fails n is dead and has no occupant left that could need room, and the walk
 * goes on to where it can be cut. */
static void walk_cut(struct walk *w, struct cctx *n)
{
    if (!node_try_pin(n)) return;
    epoch_leave(w->t);
    walk_flush(w);
    if (w->depth == w->room) walk_grow(w, node_memory(n));
    if (w->cut) node_unref(w->t, w->cut);
    w->cut = n;
    epoch_enter(w->t);
}

/* Puts n on the run list if it has callbacks that nobody has undertaken to run. */
static void walk_enter(struct walk *w, struct cctx *n, struct family *f)
{
    if (!callback_any(f) || sync_swap_acqrel(&f->queued, node_mark(), none, none) == node_mark()) return;
    if (!node_try_pin(n)) return;               /* dying: a registration would keep it */
    sync_set(f->link, (struct cctx *)NULL);
    if (w->run_last) sync_set(node_family(w->run_last)->link, n);
    else w->run = n;
    w->run_last = n;
}

/* Does the subtree of c, whose state word was old, need a visit? */
static inline struct family *walk_descends(struct cctx *c, uint32_t old)
{
    if (!(old & INNER)) return NULL;
    struct family *f = node_family(c);
    return f && sync_load_acq(&f->swept, swept) != node_mark() ? f : NULL;
}

static inline void walk_wakes(struct walk *w, struct cctx *c, uint32_t old)
{
    if (unlikely(done_sleepers(old)) && node_try_pin(c)) w->wake[w->wakes++] = c;
}

/* Flips n; the old word. *wins counts those that were won. */
static inline uint32_t flip(struct cctx *n, uint32_t bits, uintptr_t *wins)
{
    uint32_t old;
    if (done_win(&n->state, bits, &old)) {
        ++*wins;
        probe2(done, n, old | DONE | bits);
    }
    return old;
}

static uintptr_t claim(struct cctx *n, uintptr_t word, bool *mine);

/* A parent n of a merged node is done: so is that node, with n's error and cause. Returns its family if it is to be
 * entered; then its leg is on the stack and it is pinned. */
static struct family *walk_leg(struct walk *w, struct cctx *n, struct leg *leg)
{
    struct cctx *m = leg->node;
    if (!node_try_pin(m)) return NULL;
    uint32_t s = sync_load_relaxed(&n->state, owned);           /* shows DONE, as in walk_once */
    if (!w->cause) w->cause = cancel_cause(n);
    bool mine;
    uintptr_t word = claim(m, (uintptr_t)w->cause | (s & TIMEDOUT ? CAUSE_DEADLINE : CAUSE_BORROWED), &mine);
    uint32_t old = flip(m, CAUSED | ((word & CAUSE_TAG) == CAUSE_DEADLINE ? (uint32_t)TIMEDOUT : 0), &w->wins);
    walk_wakes(w, m, old);
    struct family *f = walk_descends(m, old);
    if (f && w->depth < w->room) {
        w->leg[w->depth].leg = leg;
        w->leg[w->depth++].cause = w->cause;
        w->cause = NULL;
        return f;
    }
    if (f) w->skipped = true;
    if (f && !w->later) w->later = m;
    else w->drop[w->drops++] = m;
    return NULL;
}

/* The end of the run of slots that x is in: the inline ones, or a chunk. */
static inline sync_ptr *run_end(struct family *f, sync_ptr *x)
{
    return x == &f->kid[0] || x == &f->kid[1] ? &f->kid[2] : &chunk_of(x)->slot[CHUNK_SLOTS];
}

/* The walk goes between n and its parent: n's cause is the parent's, or is to be asked for. (A chain is not climbed
 * for each leg that hangs from it.) */
static inline void walk_cause(struct walk *w, struct cctx *n)
{
    if (!(sync_load_relaxed(&n->state, owned) & INHERITED)) w->cause = NULL;
}

/* Flips every descendant of top, which is done and pinned. */
static void walk_once(struct walk *w, struct cctx *top, struct family *f)
{
    struct cctx *n = top;
    sync_ptr *x = node_first(f), *end = run_end(f, x);
    w->cause = NULL;
    epoch_enter(w->t);
    walk_enter(w, n, f);
    for (;;) {
        while (x == end) {                      /* of a run, or of all n's slots: then n is finished, climb */
            x = node_next(f, end - 1);
            if (x) {
                end = run_end(f, x);
                continue;
            }
            /* Others pass by what is swept, and run callbacks then (C28): who sleeps below is woken before. */
            if (w->wakes > 0) walk_cut(w, n);
            if (!w->skipped && w->wakes == 0) sync_store_rel(&f->swept, node_mark(), swept);
            if (n == top) goto out;
            if (w->depth > 0 && w->leg[w->depth - 1].leg->node == n) {
                if (w->drops == BATCH) walk_cut(w, n);          /* n is pinned: this cuts */
                struct leg *leg = w->leg[--w->depth].leg;
                w->cause = w->leg[w->depth].cause;
                w->drop[w->drops++] = n;
                x = sync_get(leg->slot);
                n = node_owner(leg->parent);
            } else {
                walk_cause(w, n);
                if (++w->visits >= VISITS) walk_cut(w, n);
                x = sync_get(n->slot);
                n = node_up(n);
            }
            f = node_family(n);
            end = run_end(f, x);
            x++;
        }
        if (unlikely(++w->visits >= VISITS || w->wakes == BATCH || w->drops == BATCH || w->depth == w->room))
            walk_cut(w, n);
        uintptr_t word = sync_load_hs(x, attach, b, slot);
        if (x + 8 < end) prefetch(sync_load_relaxed(x + 8, hint) & ~(uintptr_t)SLOT_NODE_MASK);
        x++;
        uintptr_t occupant = word & ~(uintptr_t)SLOT_NODE_MASK;
        if (!occupant) continue;
        struct family *down;
        struct cctx *c;
        if (unlikely(word & SLOT_LEG)) {
            c = ((struct leg *)occupant)->node;
            down = walk_leg(w, n, (struct leg *)occupant);
        } else {
            c = (struct cctx *)occupant;
            /* n shows DONE here: its flip, by whomever, was acquired on the way down. */
            uint32_t old = flip(c, INHERITED | (sync_load_relaxed(&n->state, owned) & TIMEDOUT), &w->wins);
            walk_wakes(w, c, old);
            down = walk_descends(c, old);
            if (down) walk_cause(w, c);
        }
        if (down) {
            n = c;
            f = down;
            x = node_first(f);
            end = run_end(f, x);
            walk_enter(w, n, f);
        }
    }
out:
    epoch_leave(w->t);
    walk_flush(w);
    if (w->cut) node_unref(w->t, w->cut);
    w->cut = NULL;
}

/* Sees to it that every descendant of top is done, whoever began. top is done, and pinned by the caller. */
static void finish(struct cctx *top, uint32_t old, enum cancel_where where)
{
    struct family *f = walk_descends(top, old);
    if (!f && where != CANCEL_ASYNC) return;
    struct thread *t = thread_begin();
    struct walk w = {0};
    w.t = t;
    w.leg = w.few;
    w.room = STACK;
    if (where == CANCEL_ASYNC) {
        sync_set(node_family(top)->link, (struct cctx *)NULL);
        w.run = w.run_last = top;
    }
    while (f) {
        w.skipped = false;
        walk_once(&w, top, f);
        if (!w.skipped) break;
        /* No memory for a deep ladder of merged nodes: each turn settles the lowest ones, then all is seen again. */
        for (struct cctx *m; (m = w.later) != NULL; node_unref(t, m)) {
            w.later = NULL;
            w.skipped = false;
            walk_once(&w, m, node_family(m));
        }
    }
    if (w.leg != w.few) block_put(node_memory(top), w.leg);
    if (where == CANCEL_ASYNC && !callback_any(node_family(top))) {
        w.run = sync_get(node_family(top)->link);
        node_unref(t, top);
    }
    if (where == CANCEL_HERE) callback_run_list(t, w.run);
    else if (!callback_hand_over(w.run)) async_owe();
    thread_end(t);
}

/* ------------------------------------------------------------------------------------------------- the decision */

/* Claims n's cause with word, unless another claim stands. Returns the claim that stands. */
static uintptr_t claim(struct cctx *n, uintptr_t word, bool *mine)
{
    uintptr_t c = sync_load_acq(&n->cause, claim);
    *mine = false;
    while (c == 0 || (c & CAUSE_TAG) == CAUSE_OWN)
        if (sync_cas_acqrel(&n->cause, &c, word, claim, claim)) {
            *mine = true;
            return word;
        }
    return c;
}

/* Flips n: with the claim that stands if there is a word to claim with, else for the reason. */
static uint32_t decide(struct cctx *n, uintptr_t word, uint32_t reason, bool *mine)
{
    *mine = false;
    if (word != 0) {
        uintptr_t stands = claim(n, word, mine);
        reason = CAUSED | ((stands & CAUSE_TAG) == CAUSE_DEADLINE ? (uint32_t)TIMEDOUT : 0);
    }
    uintptr_t wins = 0;
    uint32_t old = flip(n, reason, &wins);
    thread_count_here(COUNT_DONE, wins);
    return old;
}

void cancel_spread(struct cctx *n, uint32_t old, enum cancel_where where)
{
    if (unlikely(done_sleepers(old))) node_wake(n);
    if (old & INNER) finish(n, old, where);
}

bool cancel_rest(struct cctx *n, uint32_t old)
{
    bool won = !(old & DONE);
    if (won) {
        thread_count_here(COUNT_DONE, 1);
        probe2(done, n, old | DONE);
    }
    cancel_spread(n, old, CANCEL_HERE);
    return won;
}

void cancel_inherit(struct cctx *n, uint32_t s)
{
    uintptr_t wins = 0;
    flip(n, INHERITED | (s & TIMEDOUT), &wins);
    thread_count_here(COUNT_DONE, wins);
}

bool cancel_node(struct cctx *n, const cctx_cause_t *cause, unsigned tag)
{
    bool mine;
    if (!cause) return cancel_plain(n);
    probe1(cancel, n);
    uint32_t old = decide(n, (uintptr_t)cause | tag, 0, &mine);
    if (!mine && tag == CAUSE_OWNED) block_put(node_memory(n), (void *)(uintptr_t)cause);
    cancel_spread(n, old, CANCEL_HERE);
    return mine && (!(old & DONE) || (old & CAUSED));           /* a helper may have flipped for us */
}

void cancel_deadline(struct cctx *n)
{
    bool mine;
    uintptr_t word = sync_load_relaxed(&n->cause, cas_seed);
    /* A cancel that has claimed is finished, not refuted: it may have taken the place of the deadline's own cause. */
    if ((word & CAUSE_TAG) == CAUSE_OWN) word = word - CAUSE_OWN + CAUSE_DEADLINE;
    probe1(fire, n);
    uint32_t old = decide(n, word, TIMEDOUT, &mine);
    if (!(old & DONE) && (sync_load_relaxed(&n->state, owned) & TIMEDOUT)) thread_count_here(COUNT_FIRED, 1);
    cancel_spread(n, old, CANCEL_HAND_OVER);
}

/* ------------------------------------------------------------------------------------------------- from a handler */

bool cancel_async(struct cctx *n)
{
    uint32_t old = done_flip_sig(&n->state);
    if (old & DONE) return false;
    if (done_sleepers(old)) node_wake(n);
    struct family *f = old & INNER ? node_family(n) : NULL;
    /* If it is queued, a walk from above has come by: it goes on below n, and its thread has the callbacks. */
    if (f && sync_swap_acqrel(&f->queued, node_mark(), none, none) != node_mark()) {
        node_ref(n);
        async_push(n);
    }
    return true;
}

bool cancel_told(struct cctx *n, const cctx_cause_t *cause)
{
    bool mine;
    if ((sync_load_relaxed(&n->state, hint) & DONE) || !node_try_pin(n)) return false;
    uint32_t old = decide(n, (uintptr_t)cause | CAUSE_BORROWED, 0, &mine);
    if (done_sleepers(old)) node_wake(n);
    /* Without children there is nothing left to do; nor where another one won. */
    return ((old & INNER) && !(old & DONE)) || !node_unpin_sig(n);
}

static void told_settle(void *who, uint32_t times)
{
    struct cctx *n = (struct cctx *)who;
    cancel_spread(n, sync_load_acq(&n->state, done), CANCEL_HAND_OVER);
    struct thread *t = thread_begin();
    while (times-- > 0) node_unref(t, n);
    thread_end(t);
}

static void drain(bool service)
{
    bool noted;
    unsigned began = thread_generation();
    for (struct cctx *n = async_take(&noted), *next; n; n = next) {
        next = sync_get(node_family(n)->link);
        finish(n, INNER, CANCEL_ASYNC);
        if (thread_generation() != began) return;       /* a destructor forked: in the child the rest is the next cancel's */
    }
    if (noted) handler_settle(told_settle);
    if (likely(!callback_stranded())) return;
    if (service) {
        async_owe();                    /* the service thread runs no callback */
        return;
    }
    struct thread *t = thread_begin();
    callback_run_stranded(t);
    thread_end(t);
}

void cancel_drain(void) { drain(false); }
void cancel_serve(void)
{
    if (async_waiting()) drain(true);
}
