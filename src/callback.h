/* Layer 8, relations. callback: run once or stopped.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A registration is an occupant of a callback slot, which pins the node. Whoever empties the slot by a
 * compare-and-swap decides: a claim runs it, a stop prevents it. It is claimed when it is started, not when the
 * context is canceled: until then a stop wins, and no callback waits in a queue behind another one with a stop_wait
 * waiting for it.
 *
 *   K1  fn runs iff a claim emptied the slot; at most one thread empties it.
 *   K2  The library reads the storage only in its registrar, in the claimer after its compare-and-swap, in the task
 *       that an executor was given, and in callers of stop; the claimer not once it has submitted the task; and after
 *       FINISHED was exchanged in, or frame->gone was set, nobody does.
 *   K3  The claimer keeps the node pinned until the state has left REGISTERED, so a stop that reads REGISTERED in
 *       a section may touch the slot in that section. A stop that wins pins it as long by its mark in the slot, for the
 *       sake of a second one.
 *   K4  Who empties a slot claims the callback from before that until its state tells (thread_claim). So in the
 *       child of a fork a registration whose slot was emptied and that nobody claims was taken by a thread that is
 *       gone: fn will not run.
 *   K5  With an executor the claim is the start: the state goes from REGISTERED to SUBMITTED, and no stop prevents fn
 *       any more. The task has a reference of its own to the context, since the slot pins it no longer. */
#ifndef CCTXI_CALLBACK_H
#define CCTXI_CALLBACK_H

#include "node.h"

struct frame {                  /* on the stack of the thread that runs fn */
    bool gone;                  /* fn gave its storage away */
};

typedef void (*callback_fn)(void *arg);

struct callback {               /* what cctx_callback_t holds */
    sync_plain(callback_fn) fn;
    sync_plain(void *) arg;
    sync_plain(struct cctx *) node;     /* whose slot it is in; NULL: a context that can never be done */
    sync_plain(struct cctx *) via;      /* the context it was registered on; pinned if it is not node */
    sync_plain(sync_ptr *) slot;
    sync_u32 state;
    sync_u32 generation;        /* of the process that registered it, then of the one that runs it */
    sync_plain(const void *) runner;    /* the thread that runs it; set before RUNNING */
    sync_plain(void *) frame;           /* its struct frame; until it is claimed the executor, or NULL */
};
enum {
    CALLBACK_IDLE = 0,
    CALLBACK_REGISTERED = 1,
    CALLBACK_RUNNING = 2,
    CALLBACK_FINISHED = 4,
    CALLBACK_WAITED = 8,        /* somebody parks for FINISHED */
    CALLBACK_SUBMITTED = 16,    /* an executor has it */
    CALLBACK_STARTED = CALLBACK_SUBMITTED | CALLBACK_RUNNING
};

/* Is there a callback slot in use, or was there? (A roster without slots keeps a note.) In a section or with a reference. */
static inline bool callback_any(struct family *f)
{
    return sync_load_hs(&f->hook, attach, b, none) != 0 ||
           (sync_load_hs(&f->hooks, attach, b, none) != 0 && node_next_hook(f, &f->hook) != NULL);
}

/* Runs the callbacks of the nodes on a run list (linked by family->link, each pinned) and drops the pins. */
void callback_run_list(struct thread *t, struct cctx *first);
/* The same on the runner thread, which was made when the first callback was registered below a deadline. For others,
 * and in the child of a fork, it is made here; false: it cannot be, and they are stranded. In a domain without threads
 * they wait for its host. */
bool callback_hand_over(struct cctx *first);
/* Does something wait for a runner that cannot be made, even now? Then a thread that may run callbacks does it. */
bool callback_stranded(void);
void callback_run_stranded(struct thread *t);
/* Makes the runner thread now; false if it cannot be made. */
bool callback_service(void);
/* Takes what waits for the host of d, for callback_run_list. */
struct cctx *callback_host_take(struct cctx_domain *d);
/* In the child of a fork: what waits is the child's host's, too. */
void callback_host_forked(struct cctx_domain *d);

/* Does this thread run fn of that storage, at any nesting? The start of fn happens-before. */
bool callback_inside(cctx_callback_t *storage);

#endif
