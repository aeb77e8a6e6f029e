/* Layer 9, verb. cancel: the only writer of a terminal state; the walk.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * One flip of the state word decides. A cause is claimed in a second word before; whoever flips with CAUSED finishes
 * the claimant's cancel, whoever that is, and whoever flips without has refuted it. So no canceler waits for one
 * that is stopped between the two.
 *
 * The walk keeps no list and no mark that one walker owns: down by slot, up by (parent, slot). Any number of threads
 * walk one subtree at a time, and each returns when it has itself seen every descendant done: losers help.
 *
 *   I3  A child that is DONE by inheritance has each node up to the canceled one DONE.
 *   I8  swept(n): every descendant that was attached before n's DONE is done; one that comes later is born done.
 *   I9  n is DONE and a deriver has returned its child: the child is done.
 *   I17 No section is open during user code, a system call or an allocation. */
#ifndef CCTXI_CANCEL_H
#define CCTXI_CANCEL_H

#include "async.h"

/* Where the callbacks of a cancel run. */
enum cancel_where {
    CANCEL_HERE,                /* on this thread, before the return */
    CANCEL_HAND_OVER,           /* on the runner thread */
    CANCEL_ASYNC                /* there, too. n's queued is the caller's, and a pin that goes with it */
};

/* What follows a flip that found old, whoever won: the winner may be stopped. */
void cancel_spread(struct cctx *n, uint32_t old, enum cancel_where where);
/* The same, counted, for a cancel: true if this call did it. */
bool cancel_rest(struct cctx *n, uint32_t old);
/* Cancels n with the constant cause. True: this call did it. The caller has a reference. */
static inline bool cancel_plain(struct cctx *n)
{
    probe1(cancel, n);
    uint32_t old = done_flip(&n->state, 0);
    struct thread *t = thread_current;
    if (unlikely((old & (DONE | EXPOSED | INNER | DONE_MANY)) != 0 || t == NULL)) return cancel_rest(n, old);
    thread_count(t, COUNT_DONE, 1);
    probe2(done, n, old | DONE);
    return true;
}
/* The same with a cause, which has CAUSE_BORROWED or CAUSE_OWNED for its tag. An owned one that is not used is freed. */
bool cancel_node(struct cctx *n, const cctx_cause_t *cause, unsigned tag);
/* The deadline of n has come. */
void cancel_deadline(struct cctx *n);

/* Async-signal-safe, both: n is done when they return, what is below it and the callbacks after the next
 * cancel_catch_up. The first: true, this call did it; the caller has a reference. The second: true, n is pinned
 * until a drain drops that; n's memory is kept over the call. */
bool cancel_async(struct cctx *n);
bool cancel_told(struct cctx *n, const cctx_cause_t *cause);
/* Sees to it that what handlers canceled before the call is spread. In public functions, before they begin: callbacks
 * run here if there is no thread for them and none can be made. The second is for the thread of the timer. */
void cancel_drain(void);
void cancel_serve(void);
static inline void cancel_catch_up(void)
{
    if (unlikely(async_waiting())) cancel_drain();
}

/* n is being born below a done node whose state word is s. */
void cancel_inherit(struct cctx *n, uint32_t s);
/* The cause of a node that the caller has seen done, with acquire: with that it has seen the cause, and each ancestor on
 * the way there done. Never NULL. In a section or with a reference. */
const cctx_cause_t *cancel_cause(struct cctx *n);

#endif
