// async_model.cc: cancels from signal handlers, on threads of their own, against what spreads them.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as deadline_model.cc.
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

struct hook {
    struct callback cb;
    cctx_callback_t *storage() { return (cctx_callback_t *)(void *)&cb; }
};
static unsigned ran;
static cctx_t *below;           /* done when the callback runs (contract, C28) */
static void call(void *)
{
    RL_ASSERT(!below || is_done(below));
    ran++;
}

struct handlers : scenario {
    cctx_t *root, *kid, *leaf;
    unsigned wins;
    handlers(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        timer_init(&node_timer, &node_ops);
        ran = wins = 0;
        below = NULL;
        root = cctx_with_cancel(cctx_background());
        kid = cctx_with_cancel(root);
        leaf = NULL;
    }
    void async(cctx_t *n)
    {
        if (cancel_async(n)) wins++;
        RL_ASSERT(is_done(n));
    }
    void after()
    {
        cancel_catch_up();
        queue_run(thread_current);
        RL_ASSERT(!root || is_done(root));
        RL_ASSERT(!kid || is_done(kid));
        RL_ASSERT(!leaf || is_done(leaf));
        cctx_unref(leaf);
        cctx_unref(kid);
        cctx_unref(root);
        RL_ASSERT(sync_load_relaxed(&async_stack, owned) == 0);
    }
};
#define HANDLERS(name, threads, bound) struct name : handlers { name() : handlers(#name, threads, bound) {}

// B2: what is pushed is spread, by whomever: the drain sees all that was derived before.
HANDLERS(push_drain, 2, 4)
    void thread(unsigned i) { if (i == 0) async(root); else cancel_catch_up(); }
} push_drain;
HANDLERS(derive_push_drain, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { leaf = cctx_with_cancel(kid); async(kid); async(root); }
        else cancel_catch_up();
    }
} derive_push_drain;
// A1: two are pushed, and either drain has each once.
HANDLERS(push_push_drain, 3, 2)
    void before() { handlers::before(); leaf = cctx_with_cancel(kid); }
    void thread(unsigned i) { if (i < 2) async(i ? root : kid); else cancel_catch_up(); }
} push_push_drain;
HANDLERS(push_drain_drain, 3, 2)
    void before() { handlers::before(); leaf = cctx_with_cancel(kid); async(kid); }
    void thread(unsigned i) { if (i == 0) async(root); else cancel_catch_up(); }
    void after() { RL_ASSERT(wins == 2); handlers::after(); }
} push_drain_drain;
// C3: a cancel that loses to it sees to all below; C1: one of the two wins.
HANDLERS(push_cancel, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { async(root); return; }
        if (cctx_cancel(root)) wins++;
        RL_ASSERT(is_done(kid));
    }
    void after() { RL_ASSERT(wins == 1); handlers::after(); }
} push_cancel;
HANDLERS(push_cancel_above, 2, 3)
    void before() { handlers::before(); leaf = cctx_with_cancel(kid); }
    void thread(unsigned i)
    {
        if (i == 0) { async(kid); return; }
        cctx_cancel(root);
        RL_ASSERT(is_done(kid) && is_done(leaf));
    }
} push_cancel_above;
// A claim that stands is refuted by it, or it has lost.
HANDLERS(push_cancel_cause, 2, 4)
    told *a;
    void before() { handlers::before(); a = tell(); }
    void thread(unsigned i)
    {
        if (i == 0) { async(root); return; }
        if (cctx_cancel_cause(root, a)) wins++;
    }
    void after()
    {
        RL_ASSERT(wins == 1);
        cancel_catch_up();
        RL_ASSERT(cause_of(root) == cause_of(kid) && (cause_of(root) == a || cause_of(root) == &cctx_canceled));
        model_free(a);
        handlers::after();
    }
} push_cancel_cause;
// C3, I9: against a derivation, the first child among them.
HANDLERS(push_derive, 2, 4)
    void thread(unsigned i) { if (i == 0) async(kid); else leaf = cctx_with_cancel(kid); }
    void after() { cctx_cancel(root); handlers::after(); }
} push_derive;
HANDLERS(push_derive_second, 2, 4)
    void thread(unsigned i) { if (i == 0) async(root); else leaf = cctx_with_cancel(root); }
} push_derive_second;
// C21: the handles go meanwhile; what is pushed keeps its node.
HANDLERS(push_unref_drain, 3, 2)
    void thread(unsigned i)
    {
        if (i == 0) {
            async(root);
            cctx_unref(root);
        } else if (i == 1) {
            cctx_unref(kid);
        } else {
            cancel_catch_up();
        }
    }
    void after() { root = kid = NULL; handlers::after(); }
} push_unref_drain;
// C28: a callback of the node itself runs once, after all below is done, whoever walks; a stop may win until then.
HANDLERS(push_cancel_callback, 2, 3)
    hook *h;
    void before()
    {
        handlers::before();
        h = model_make<hook>();
        below = kid;
        cctx_after_func(root, h->storage(), call, NULL);
    }
    void thread(unsigned i) { if (i == 0) async(root); else cctx_cancel(root); }
    void after() { cancel_catch_up(); queue_run(thread_current); RL_ASSERT(ran == 1); model_free(h); handlers::after(); }
} push_cancel_callback;
HANDLERS(push_above_callback, 3, 1)
    hook *h;
    void before()
    {
        handlers::before();
        h = model_make<hook>();
        cctx_after_func(kid, h->storage(), call, NULL);
        leaf = cctx_with_cancel(kid);
        below = leaf;
    }
    void thread(unsigned i) { if (i == 0) async(kid); else if (i == 1) cctx_cancel(root); else cancel_catch_up(); }
    void after() { cancel_catch_up(); queue_run(thread_current); RL_ASSERT(ran == 1); model_free(h); handlers::after(); }
} push_above_callback;
HANDLERS(push_callback_stop, 3, 1)
    hook *h;
    bool stopped;
    void before()
    {
        handlers::before();
        h = model_make<hook>();
        cctx_after_func(root, h->storage(), call, NULL);
    }
    void thread(unsigned i)
    {
        if (i == 0) async(root);
        else if (i == 1) stopped = cctx_stop_wait(h->storage());
        else { cancel_catch_up(); queue_run(thread_current); }
    }
    void after() { cancel_catch_up(); queue_run(thread_current); RL_ASSERT(ran + stopped == 1); model_free(h); handlers::after(); }
} push_callback_stop;
// B2: the timer's role is rung: it sleeps with nothing left.
HANDLERS(push_role, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { async(root); return; }
        for (;;) {                      /* as timer_main, which never ends */
            uint32_t b = timer_bell(&node_timer);
            cancel_catch_up();
            if (is_done(kid)) break;
            timer_sleep(&node_timer, b, 0, INT64_MIN);
        }
    }
} push_role;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
