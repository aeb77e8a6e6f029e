// deadline_model.cc: contexts with deadlines, armed, fired, canceled, buried, against the timer's role.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as tree_model.cc, and timer.c, deadline.c, wait.c.
#define TREE_MODEL_TIMER
#include "model.h"
#include "roster.c"
#include "node.c"
#include "done.c"
#include "async.c"
#include "callback.c"
#include "cancel.c"
#define BATCH TIMER_BATCH       /* cancel.c has a constant of this name */
#include "timer.c"
#undef BATCH
#define pthread_once(once, setup) 0
#include "deadline.c"
#include "derive.c"
#undef alloc_get
#undef alloc_get_aligned
#include "handle.c"
#include "tree_model.h"
#include "wait.c"

enum { NOW = 10, WHEN = 50 };
static const cctx_cause_t own = {1, "own"}, other = {2, "other"};

struct deadlines : scenario {
    cctx_t *root, *n, *kid;
    deadlines(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        timer_init(&node_timer, &node_ops);
        node_timer.limit = 1;
        model_now = NOW;
        root = cctx_with_cancel(cctx_background());
        n = kid = NULL;
    }
    void before_armed() { deadlines::before(); n = cctx_with_deadline_cause(root, WHEN, &own); }
    void role(int64_t now)
    {
        if (model_now < now) model_now = now;
        timer_work(&node_timer, thread_current, now);
    }
    void after()
    {
        queue_run(thread_current);
        cctx_unref(kid);
        cctx_unref(n);
        cctx_unref(root);
        /* T1, C22: nothing of a context is left in the set, whose memory is for ever. */
        for (int i = 0; i < TIMER_TIERS; i++) {
            struct roster *r = (struct roster *)sync_load_relaxed(&node_timer.tier[i].set, owned);
            for (sync_ptr *x = r ? roster_first(r) : NULL; x; x = roster_next(x))
                RL_ASSERT(sync_load_relaxed(x, owned) == 0);
            roster_free(r);
            for (uintptr_t g = sync_load_relaxed(&node_timer.tier[i].directories, owned), next; g; g = next) {
                next = sync_load_relaxed(&((struct directory *)g)->next, owned);
                model_free((void *)g);
            }
        }
        alloc_put(node_timer.heap);
    }
};
#define DEADLINES(name, threads, bound) struct name : deadlines { name() : deadlines(#name, threads, bound) {}

// Armed while its parent is canceled: done, and buried with its timer.
DEADLINES(arm_cancel, 2, 2)
    void thread(unsigned i) { if (i) n = cctx_with_deadline(root, WHEN); else cctx_cancel(root); }
    void after() { RL_ASSERT(is_done(n)); deadlines::after(); }
} arm_cancel;
// ... with the set there already.
DEADLINES(arm_again_cancel, 2, 3)
    void before() { before_armed(); kid = n; }
    void thread(unsigned i) { if (i) n = cctx_with_deadline(root, WHEN); else cctx_cancel(root); }
    void after() { RL_ASSERT(is_done(n) && is_done(kid)); deadlines::after(); }
} arm_again_cancel;
// Fired while its last handle goes.
DEADLINES(fire_unref, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else {
            cctx_unref(n);
            n = NULL;
        }
    }
} fire_unref;
DEADLINES(fire_indexed_unref, 2, 3)
    void before() { before_armed(); role(NOW); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else {
            cctx_unref(n);
            n = NULL;
        }
    }
} fire_indexed_unref;
// C5, C9: the deadline against a cancel: one of the two causes, with the reason that goes with it.
DEADLINES(fire_cancel, 2, 3)
    bool won;
    void before() { before_armed(); }
    void thread(unsigned i) { if (i) won = cctx_cancel_cause(n, &other); else role(WHEN); }
    void after()
    {
        RL_ASSERT(cause_of(n) == (won ? &other : &own));
        RL_ASSERT(!(sync_load_relaxed(&n->state, owned) & TIMEDOUT) == won);
        deadlines::after();
    }
} fire_cancel;
DEADLINES(fire_cancel_look, 3, 1)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else if (i == 1) cctx_cancel(n);
        else {
            uint32_t s = sync_load_acq(&n->state, done);
            if (s & DONE) RL_ASSERT(cause_of(n) == (s & TIMEDOUT ? &own : &cctx_canceled));
        }
    }
} fire_cancel_look;
// C27: the role against a waiter that fires it.
DEADLINES(fire_fire, 2, 3)
    void before() { before_armed(); kid = cctx_with_cancel(n); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else {
            deadline_fire(kid);
            RL_ASSERT(is_done(kid) && cause_of(kid) == &own);
        }
    }
} fire_fire;
// It gets its first child, and with it a family that keeps the timer's slot.
DEADLINES(fire_derive, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(n); else role(WHEN); }
    void after() { RL_ASSERT(is_done(kid)); deadlines::after(); }
} fire_derive;
DEADLINES(derive_derive, 2, 3)
    cctx_t *more[2];
    void before() { before_armed(); }
    void thread(unsigned i) { more[i] = cctx_with_cancel(n); }
    void after()
    {
        role(WHEN);
        RL_ASSERT(is_done(more[0]) && is_done(more[1]));
        cctx_unref(more[0]);
        cctx_unref(more[1]);
        deadlines::after();
    }
} derive_derive;
DEADLINES(fire_derive_unref, 3, 1)
    void before() { before_armed(); cctx_ref(n); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else if (i == 1) cctx_unref(n);
        else {
            kid = cctx_with_cancel(n);
            cctx_unref(n);
        }
    }
    void after() { RL_ASSERT(is_done(kid)); n = NULL; deadlines::after(); }
} fire_derive_unref;
// The walk from above, the role, and the last handle.
DEADLINES(cancel_fire_unref, 3, 1)
    void before() { before_armed(); kid = cctx_with_cancel(n); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else if (i == 1) cctx_cancel(root);
        else cctx_unref(n);
    }
    void after() { RL_ASSERT(is_done(kid)); n = NULL; deadlines::after(); }
} cancel_fire_unref;

// ---- waits, with a deadline of the context's own or an ancestor's, of the caller's, or none.
// C25, C27: canceled, fired by the role, or by the waiter itself, the wait ends, and says for what reason.
DEADLINES(wait_fire_cancel, 3, 1)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) {
            int err = cctx_wait(n);
            RL_ASSERT(cause_of(n) == (err == ETIMEDOUT ? &own : &other));
        } else if (i == 1) cctx_cancel_cause(n, &other);
        else role(WHEN);
    }
} wait_fire_cancel;
DEADLINES(wait_cancel_above, 2, 3)
    void before() { before_armed(); kid = cctx_with_cancel(n); }
    void thread(unsigned i)
    {
        if (i == 0) {
            int err = cctx_wait(kid);
            RL_ASSERT(cause_of(kid) == (err == ETIMEDOUT ? &own : &other));
        } else cctx_cancel_cause(root, &other);
    }
} wait_cancel_above;
// The role never runs: the waiter fires an ancestor's deadline, whose last handle goes meanwhile.
DEADLINES(wait_starved_unref, 2, 3)
    void before() { before_armed(); kid = cctx_with_cancel(n); }
    void thread(unsigned i)
    {
        if (i == 0) RL_ASSERT(cctx_wait(kid) == ETIMEDOUT && cause_of(kid) == &own);
        else cctx_unref(n);
    }
    void after() { n = NULL; deadlines::after(); }
} wait_starved_unref;
// It has its first child meanwhile, and with it a family that keeps the timer's slot.
DEADLINES(wait_starved_derive, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) RL_ASSERT(cctx_wait(n) == ETIMEDOUT);
        else kid = cctx_with_cancel(n);
    }
    void after() { RL_ASSERT(is_done(kid)); deadlines::after(); }
} wait_starved_derive;
// The caller's own time comes first, or the cancel: whichever, it is told.
DEADLINES(wait_until_cancel, 2, 3)
    void before() { before_armed(); kid = cctx_with_cancel(n); }
    void thread(unsigned i)
    {
        if (i == 0) {
            bool done = cctx_wait_until(kid, NOW + 10);
            RL_ASSERT(done ? is_done(kid) : model_now >= NOW + 10);
        } else cctx_cancel(root);
    }
} wait_until_cancel;
// Two wait, of whom one gives up; the role fires for the other.
DEADLINES(wait_until_wait_fire, 3, 1)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else if (i == 1) cctx_wait_until(n, NOW + 10);
        else RL_ASSERT(cctx_wait(n) == ETIMEDOUT);
    }
} wait_until_wait_fire;
// The waiter drops the last handle as soon as it wakes, while the role is not back from its wake.
DEADLINES(wait_fire_unref, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) role(WHEN);
        else {
            cctx_wait(n);
            cctx_unref(n);
        }
    }
    void after() { n = NULL; deadlines::after(); }
} wait_fire_unref;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
