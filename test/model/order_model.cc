// order_model.cc: what is ordered with what: the table at the head of the public header, each pair of its rows alone.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as tree_model.cc, and timer.c, deadline.c, wait.c, look.c. One thread writes `past` and ends a context;
// the other learns of it in one way, and reads: a way that does not acquire is a data race.
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
#define forked deadline_forked
#include "derive.c"
#undef alloc_get
#undef alloc_get_aligned
#include "handle.c"
#include "tree_model.h"
#include "wait.c"
void *table_get(const struct table *, const void *) { return NULL; }
#include "look.c"

enum { NOW = 10, WHEN = 50 };
static sync_plain(int) past;
static const cctx_cause_t own = {1, "own"};

struct order : scenario {
    cctx_t *root, *n, *kid;
    order(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        timer_init(&node_timer, &node_ops);
        model_now = NOW;
        sync_set(past, 1);
        root = cctx_with_cancel(cctx_background());
        n = kid = NULL;
    }
    void before_kid() { order::before(); n = cctx_with_cancel(root); kid = cctx_with_cancel(n); }
    void before_armed() { order::before(); n = cctx_with_deadline_cause(root, WHEN, &own); }
    void write() { sync_set(past, 2); }
    static void told() { RL_ASSERT(sync_get(past) == 2); }
    void end() { write(); cctx_cancel(root); }
    void fire()
    {
        if (model_now < WHEN) model_now = WHEN;
        timer_work(&node_timer, thread_current, WHEN);
    }
    void after()
    {
        cctx_unref(kid);
        cctx_unref(n);
        cctx_unref(root);
        for (unsigned i = 0; i < model_block_count; i++)        /* the armed set's memory is never freed */
            if (model_blocks[i].alive) model_free(model_blocks[i].memory);
    }
};
#define ORDER(name, threads, bound) struct name : order { name() : order(#name, threads, bound) {}

// ---- the end of a context -> a look
ORDER(is_done_self, 2, 4)
    void thread(unsigned i) { if (i == 0) end(); else if (is_done(root)) told(); }
} is_done_self;
ORDER(is_done_below, 2, 4)
    void before() { before_kid(); }
    void thread(unsigned i) { if (i == 0) end(); else if (is_done(kid)) told(); }
} is_done_below;
ORDER(cause_below, 2, 4)
    void before() { before_kid(); }
    void thread(unsigned i)
    {
        if (i == 0) end();
        else if (const cctx_cause_t *c = cctx_cause(kid)) {
            RL_ASSERT(c == &cctx_canceled);
            told();
        }
    }
} cause_below;
// The cause itself, by one who has finished the claimant's cancel, or was finished for.
ORDER(cause_claimed, 2, 4)
    struct told *c[2];
    void before() { order::before(); c[0] = c[1] = NULL; }
    void thread(unsigned i)
    {
        c[i] = tell();
        cctx_cancel_cause(root, c[i]);
        hear(root, c[0], c[1]);
    }
    void after() { model_free(c[0]); model_free(c[1]); c[0] = c[1] = NULL; order::after(); }
} cause_claimed;
ORDER(cause_claimed_look, 3, 1)
    struct told *c[2];
    void before() { order::before(); c[0] = c[1] = NULL; }
    void thread(unsigned i)
    {
        if (i < 2) {
            c[i] = tell();
            cctx_cancel_cause(root, c[i]);
        } else if (is_done(root)) hear(root, c[0], c[1]);
    }
    void after() { model_free(c[0]); model_free(c[1]); c[0] = c[1] = NULL; order::after(); }
} cause_claimed_look;

// ---- -> a wait
ORDER(wait_self, 2, 4)
    void thread(unsigned i) { if (i == 0) end(); else if (cctx_wait(root) == ECANCELED) told(); }
} wait_self;
ORDER(wait_below, 2, 3)
    void before() { before_kid(); }
    void thread(unsigned i) { if (i == 0) end(); else if (cctx_wait_until(kid, NOW + 5)) told(); }
} wait_below;
// Its time has come before it waits, or the time of the context.
ORDER(wait_too_late, 2, 4)
    void thread(unsigned i) { if (i == 0) end(); else if (cctx_wait_until(root, NOW - 1)) told(); }
} wait_too_late;
ORDER(wait_deadline, 2, 3)
    void before() { before_armed(); model_now = WHEN; }
    void thread(unsigned i)
    {
        if (i == 0) {
            write();
            cctx_cancel(n);
        } else if (cctx_wait_until(n, WHEN + 5) && !(sync_load_relaxed(&n->state, owned) & TIMEDOUT)) told();
    }
} wait_deadline;
ORDER(wait_word, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { end(); return; }
        cctx_done(root);
        for (uint32_t s; !((s = sync_load_acq(&root->state, done)) & DONE);) futex_wait(&root->state, s, INT64_MAX);
        told();
    }
} wait_word;

// ---- -> a cancel that returns false; it is true for one alone
ORDER(cancel_false, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) end();
        else if (!cctx_cancel(root)) told();
    }
} cancel_false;
ORDER(cancel_cause_false, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) end();
        else if (!cctx_cancel_cause(root, &own)) told();
    }
} cancel_cause_false;
ORDER(cancel_false_below, 2, 3)
    void before() { before_kid(); }
    void thread(unsigned i)
    {
        if (i == 0) end();
        else if (!cctx_cancel(kid)) told();
    }
} cancel_false_below;

// ---- -> what is born done, and what is seen done by it
ORDER(born_done, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { end(); return; }
        kid = cctx_with_cancel(root);
        if (is_done(kid)) told();
    }
} born_done;
ORDER(born_done_merged, 2, 3)
    void before() { order::before(); n = cctx_with_cancel(cctx_background()); }
    void thread(unsigned i)
    {
        if (i == 0) { end(); return; }
        const cctx_t *parents[] = {n, root};
        kid = cctx_with_any(parents, 2);
        if (is_done(kid)) told();
    }
} born_done_merged;

// ---- -> a callback
static void heard(void *) { order::told(); }
struct after_func : order {
    cctx_callback_t *storage;
    after_func(const char *name, unsigned threads, unsigned bound) : order(name, threads, bound) {}
    void begin() { storage = (cctx_callback_t *)(void *)model_make<callback>(); }
    void before() { before_kid(); begin(); }
    void after() { order::after(); }
};
struct after_func_late : after_func {
    after_func_late() : after_func("after_func_late", 2, 4) {}
    void thread(unsigned i)
    {
        if (i == 0) end();
        else cctx_after_func(root, storage, heard, NULL);
    }
} after_func_late;
struct after_func_below : after_func {
    after_func_below() : after_func("after_func_below", 2, 3) {}
    void thread(unsigned i)
    {
        if (i == 0) end();
        else cctx_after_func(kid, storage, heard, NULL);
    }
} after_func_below;
// A loser runs what the winner was to run.
struct after_func_helped : after_func {
    after_func_helped() : after_func("after_func_helped", 2, 3) {}
    void before() { after_func::before(); cctx_after_func(kid, storage, heard, NULL); }
    void thread(unsigned i)
    {
        if (i == 0) end();
        else if (is_done(root)) cctx_cancel(n);
    }
} after_func_helped;

// ---- a deadline -> those
ORDER(deadline_is_done, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) {
            write();
            fire();
        } else if (is_done(n)) told();
    }
} deadline_is_done;
ORDER(deadline_cancel_false, 2, 3)
    void before() { before_armed(); }
    void thread(unsigned i)
    {
        if (i == 0) {
            write();
            fire();
        } else if (!cctx_cancel_cause(n, &own)) told();
    }
} deadline_cancel_false;

// ---- a use and an unref -> the destructor of the value
static sync_plain(int) uses[2];
static unsigned destroyed;
static void destroy(void *)
{
    RL_ASSERT(sync_get(uses[0]) == 2 && sync_get(uses[1]) == 2);
    destroyed++;
}
static const cctx_key_t key = {"key", destroy};
ORDER(unref_destroy, 2, 4)
    const cctx_t *value;
    void before()
    {
        order::before();
        destroyed = 0;
        for (int i = 0; i < 2; i++) sync_set(uses[i], 1);
        value = cctx_with_value(root, &key, NULL);
        cctx_ref(value);
    }
    void thread(unsigned i)
    {
        sync_set(uses[i], 2);
        cctx_unref(value);
    }
    void after() { RL_ASSERT(destroyed == 1); order::after(); }
} unref_destroy;
ORDER(unref_destroy_child, 2, 4)
    const cctx_t *value;
    void before()
    {
        order::before();
        destroyed = 0;
        for (int i = 0; i < 2; i++) sync_set(uses[i], 1);
        value = cctx_with_value(root, &key, NULL);
        kid = cctx_with_cancel(value);
    }
    void thread(unsigned i)
    {
        sync_set(uses[i], 2);
        cctx_unref(i ? kid : value);
    }
    void after() { RL_ASSERT(destroyed == 1); kid = NULL; order::after(); }
} unref_destroy_child;
// One derives and lets go, the other closes: the child is done.
ORDER(close_sees, 2, 4)
    void before() { order::before(); cctx_ref(root); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_close(root);
        else {
            MODEL_AT_ONCE;
            kid = cctx_with_cancel(root);
            cctx_unref(root);
        }
    }
    void after() { RL_ASSERT(is_done(kid)); root = NULL; order::after(); }
} close_sees;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
