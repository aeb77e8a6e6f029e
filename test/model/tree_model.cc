// tree_model.cc: the tree itself: derive, cancel with helping, the walk, closing, death.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: roster.c, node.c, done.c, callback.c, cancel.c, derive.c, handle.c, wait.c.
#include "model.h"
#include "roster.c"
#include "node.c"
#include "done.c"
#include "async.c"
#include "callback.c"
#include "cancel.c"
#include "derive.c"
#undef alloc_get
#undef alloc_get_aligned
#include "handle.c"
#include "tree_model.h"
#include "wait.c"

/* Tree of the scenarios: root, kid, grandkid. Each has one handle. */
struct tree : scenario {
    cctx_t *root, *kid, *grandkid, *other;
    tree(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before() { root = cctx_with_cancel(cctx_background()); kid = grandkid = other = NULL; }
    void before_kid() { tree::before(); kid = cctx_with_cancel(root); }
    void before_grandkid() { before_kid(); grandkid = cctx_with_cancel(kid); }
    void after()
    {
        cctx_unref(other);
        cctx_unref(grandkid);
        cctx_unref(kid);
        cctx_unref(root);
    }
};
#define TREE(name, threads, bound) struct name : tree { name() : tree(#name, threads, bound) {}

// C3, I9: derive against cancel: the child is done once both have returned, whoever was first.
TREE(derive_cancel, 2, 3)
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(root); else cctx_cancel(root); }
    void after() { RL_ASSERT(is_done(kid)); tree::after(); }
} derive_cancel;

// The same below a context that is in the tree and has a child already: no first family.
TREE(second_child_cancel, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i) { if (i) other = cctx_with_cancel(kid); else cctx_cancel(root); }
    void after() { RL_ASSERT(is_done(other)); RL_ASSERT(is_done(grandkid)); tree::after(); }
} second_child_cancel;

// The first chunk of a roster against the walk.
TREE(chunk_cancel, 2, 3)
    cctx_t *more[2];
    void before()
    {
        tree::before();
        for (int i = 0; i < 2; i++) more[i] = cctx_with_cancel(root);
    }
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(root); else cctx_cancel(root); }
    void after()
    {
        RL_ASSERT(is_done(kid));
        for (int i = 0; i < 2; i++) cctx_unref(more[i]);
        tree::after();
    }
} chunk_cancel;

// A second chunk against the walk.
TREE(chunk_next_cancel, 2, 2)
    cctx_t *more[4];
    void before()
    {
        tree::before();
        for (int i = 0; i < 4; i++) more[i] = cctx_with_cancel(root);
    }
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(root); else cctx_cancel(root); }
    void after()
    {
        RL_ASSERT(is_done(kid));
        for (int i = 0; i < 4; i++) cctx_unref(more[i]);
        tree::after();
    }
} chunk_next_cancel;

// A wide roster against the walk; one child is in the narrow one.
TREE(widen_cancel, 2, 2)
    cctx_t *more[3];
    void before()
    {
        tree::before();
        for (int i = 0; i < 3; i++) more[i] = cctx_with_cancel(root);
        sync_init(&node_family(root)->turns, (uint32_t)FAMILY_CROWD);
    }
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(root); else cctx_cancel(root); }
    void after()
    {
        RL_ASSERT(is_done(kid));
        for (int i = 0; i < 3; i++) cctx_unref(more[i]);
        tree::after();
    }
} widen_cancel;

// Two threads widen at once, or one uses what the other has made; who asks for the roster has it whole.
TREE(widen_widen, 3, 1)
    cctx_t *more[3];
    void before()
    {
        tree::before();
        for (int i = 0; i < 3; i++) more[i] = cctx_with_cancel(root);
        sync_init(&node_family(root)->turns, (uint32_t)FAMILY_CROWD);
    }
    void thread(unsigned i)
    {
        struct roster *r = (struct roster *)sync_load_acq(&node_family(root)->roster, chunk);
        if (i == 2) RL_ASSERT(sync_get(r->stripes) > 0);
        else (i ? kid : other) = cctx_with_cancel(root);
    }
    void after()
    {
        cctx_cancel(root);
        RL_ASSERT(is_done(kid) && is_done(other));
        for (int i = 0; i < 3; i++) cctx_unref(more[i]);
        tree::after();
    }
} widen_widen;

// Two threads derive at once: one family, one roster, one chunk more; both children are in the set.
TREE(derive_derive, 2, 3)
    void thread(unsigned i) { (i ? kid : other) = cctx_with_cancel(root); }
    void after()
    {
        cctx_cancel(root);
        RL_ASSERT(is_done(kid) && is_done(other));
        tree::after();
    }
} derive_derive;
TREE(derive_derive_chunk, 2, 2)
    cctx_t *more[2];
    void before()
    {
        tree::before();
        for (int i = 0; i < 2; i++) more[i] = cctx_with_cancel(root);
    }
    void thread(unsigned i) { (i ? kid : other) = cctx_with_cancel(root); }
    void after()
    {
        cctx_cancel(root);
        RL_ASSERT(is_done(kid) && is_done(other));
        for (int i = 0; i < 2; i++) cctx_unref(more[i]);
        tree::after();
    }
} derive_derive_chunk;
TREE(first_child_cancel, 3, 1)
    void thread(unsigned i)
    {
        if (i == 2) cctx_cancel(root);
        else (i ? kid : other) = cctx_with_cancel(root);
    }
    void after() { RL_ASSERT(is_done(kid) && is_done(other)); tree::after(); }
} first_child_cancel;

// A slot is emptied in a full chunk and filled by another thread: hints, and the hole that is found again.
TREE(hole, 2, 2)
    cctx_t *more[4];
    void before()
    {
        tree::before();
        for (int i = 0; i < 4; i++) more[i] = cctx_with_cancel(root);
    }
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(root); else cctx_unref(more[3]); }
    void after()
    {
        cctx_cancel(root);
        RL_ASSERT(is_done(kid));
        for (int i = 0; i < 3; i++) cctx_unref(more[i]);
        tree::after();
    }
} hole;

// ... in the stripe of another thread, in chunks that it has just pushed; the first of the search, or where the last one
// ended.
struct elsewhere : tree {
    cctx_t *more[8];
    unsigned pushed;
    elsewhere(const char *name, unsigned n) : tree(name, 2, 2), pushed(n) {}
    void before()
    {
        before_kid();
        sync_init(&node_family(root)->turns, (uint32_t)FAMILY_CROWD);
        for (int i = 0; i < 2; i++) model_threads[i].ordinal = 1;
        for (int i = 0; i < 8; i++) more[i] = i < 2 ? cctx_with_cancel(root) : NULL;
        model_threads[0].ordinal = 0;
    }
    void thread(unsigned i)
    {
        if (i) {
            cctx_unref(cctx_with_cancel(root));
            return;
        }
        MODEL_AT_ONCE;
        cctx_t *own[6];
        for (unsigned j = 0; j < pushed; j++) own[j] = cctx_with_cancel(root);
        for (unsigned j = 0; j < pushed; j++) {
            if (j % 2 == 0 && j < pushed - 2) cctx_unref(own[j]);       /* a hole in each chunk but the last */
            else more[j + 2] = own[j];
        }
        if (pushed > 4) other = cctx_with_cancel(root);                 /* goes into one of them */
    }
    void after()
    {
        cctx_cancel(root);
        for (int i = 0; i < 8; i++) {
            RL_ASSERT(!more[i] || is_done(more[i]));
            cctx_unref(more[i]);
        }
        tree::after();
    }
};
static elsewhere hole_elsewhere("hole_elsewhere", 4), hole_elsewhere_next("hole_elsewhere_next", 6);

// C3: two cancels of one tree: each returns only when the grandchild is done.
TREE(cancel_cancel, 2, 3)
    bool won[2];
    void before() { before_grandkid(); }
    void thread(unsigned i) { won[i] = cctx_cancel(root); RL_ASSERT(is_done(grandkid)); }
    void after() { RL_ASSERT(won[0] != won[1]); tree::after(); }
} cancel_cancel;
TREE(cancel_three, 3, 1)
    void before() { before_grandkid(); other = cctx_with_cancel(grandkid); }
    void thread(unsigned i)
    {
        cctx_cancel(i == 0 ? root : i == 1 ? kid : grandkid);
        RL_ASSERT(is_done(other));
    }
} cancel_three;
TREE(cancel_above, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i) { cctx_cancel(i ? kid : root); RL_ASSERT(is_done(grandkid)); }
} cancel_above;

// C4, C5: a walk through a child that another thread has just attached; a look up from what is done.
TREE(walk_fresh, 3, 1)
    void before() { before_kid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) cctx_unref(cctx_with_cancel(kid));
        else cctx_cancel(kid);
    }
    void after() { RL_ASSERT(is_done(kid)); tree::after(); }
} walk_fresh;
TREE(look_up, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (is_done(grandkid))
            RL_ASSERT(is_done(kid) && is_done(root) && cause_of(grandkid) == &cctx_canceled);
    }
} look_up;

// A leaf dies under the walk, as it is; a node with a child is closed under it.
TREE(cancel_unref, 2, 4)
    void before() { before_kid(); }
    void thread(unsigned i) { if (i) cctx_unref(kid); else cctx_cancel(root); }
    void after() { kid = NULL; tree::after(); }
} cancel_unref;
TREE(cancel_unref_inner, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i) { if (i) cctx_unref(kid); else cctx_cancel(root); }
    void after() { RL_ASSERT(is_done(grandkid)); kid = NULL; tree::after(); }
} cancel_unref_inner;
TREE(cancel_unref_self, 2, 4)
    void before() { before_kid(); cctx_ref(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(kid);
        cctx_unref(kid);
    }
    void after() { kid = NULL; tree::after(); }
} cancel_unref_self;
// The walk stands on nodes that die under it, and climbs from them.
TREE(walk_free, 3, 1)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else cctx_unref(i == 1 ? kid : grandkid);
    }
    void after() { kid = grandkid = NULL; tree::after(); }
} walk_free;
TREE(walk_free_grandkid, 2, 3)
    void before() { before_grandkid(); cctx_unref(kid); kid = NULL; }
    void thread(unsigned i) { if (i) cctx_unref(grandkid); else cctx_cancel(root); }
    void after() { grandkid = NULL; tree::after(); }
} walk_free_grandkid;
// The walk is cut on a node that dies: pins by try_pin, and a wake.
TREE(walk_cut_free, 2, 3)
    cctx_t *more[2];
    void before()
    {
        before_grandkid();
        for (int i = 0; i < 2; i++) more[i] = cctx_with_cancel(kid);
        cctx_unref(kid);
        kid = NULL;
        done_expose(&more[1]->state);
    }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else for (int j = 0; j < 2; j++) cctx_unref(more[j]);
    }
    void after() { RL_ASSERT(is_done(grandkid)); tree::after(); }
} walk_cut_free;
TREE(pin_close, 3, 1)
    void before() { before_grandkid(); done_expose(&kid->state); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else cctx_unref(i == 1 ? kid : grandkid);
    }
    void after() { kid = grandkid = NULL; tree::after(); }
} pin_close;

// C9, C10: two causes race, a third thread looks: what it reads was written before, and stays.
TREE(cause_race, 3, 1)
    told *c[2];
    bool won[2];
    void before() { tree::before(); c[0] = c[1] = NULL; }
    void thread(unsigned i)
    {
        if (i < 2) {
            c[i] = tell();
            won[i] = cctx_cancel_cause(root, c[i]);
        }
        if (i < 2 || is_done(root)) hear(root, c[0], c[1]);
    }
    void after()
    {
        RL_ASSERT(won[0] != won[1]);
        RL_ASSERT(cause_of(root) == c[won[1]]);
        model_free(c[0]);
        model_free(c[1]);
        tree::after();
    }
} cause_race;
// A cancel with a cause against one without: a refuted claim is not won.
TREE(cause_refuted, 2, 4)
    told *c;
    bool won[2];
    void thread(unsigned i)
    {
        if (i == 0) {
            c = tell();
            won[i] = cctx_cancel_cause(root, c);
        } else {
            won[i] = cctx_cancel(root);
        }
        if (cause_of(root) != &cctx_canceled) hear(root, c, c);
    }
    void after()
    {
        RL_ASSERT(won[0] != won[1]);
        RL_ASSERT(cause_of(root) == (won[0] ? c : &cctx_canceled));
        model_free(c);
        tree::after();
    }
} cause_refuted;
// An owned cause is freed with its node, or at once if it is not used.
TREE(cause_owned, 2, 4)
    told *c[2];
    void before() { before_kid(); c[0] = c[1] = NULL; }
    void thread(unsigned i)
    {
        c[i] = tell();
        cancel_node(root, c[i], CAUSE_OWNED);
        hear(kid, c[0], c[1]);
    }
} cause_owned;

// C20, C21: the last references go at the same time: freed once, and not early.
TREE(unref_unref, 2, 4)
    void before() { before_kid(); }
    void thread(unsigned i) { cctx_unref(i ? kid : root); }
    void after() {}
} unref_unref;
TREE(unref_three, 3, 2)
    void before() { before_kid(); other = cctx_with_cancel(root); }
    void thread(unsigned i) { cctx_unref(i == 0 ? root : i == 1 ? kid : other); }
    void after() {}
} unref_three;
TREE(unref_chunk, 2, 3)
    cctx_t *more[2];
    void before()
    {
        before_kid();
        for (int i = 0; i < 2; i++) more[i] = cctx_with_cancel(root);
        cctx_unref(kid);
        cctx_unref(more[0]);
        kid = NULL;
    }
    void thread(unsigned i) { cctx_unref(i ? more[1] : root); }
    void after() {}
} unref_chunk;
TREE(handles, 2, 4)
    void before() { before_kid(); cctx_ref(kid); cctx_unref(root); }
    void thread(unsigned) { is_done(kid); cctx_unref(kid); }
    void after() {}
} handles;
TREE(handles_inner, 2, 3)
    void before() { before_grandkid(); cctx_ref(kid); cctx_unref(grandkid); cctx_unref(root); }
    void thread(unsigned) { cctx_cancel(kid); cctx_unref(kid); }
    void after() {}
} handles_inner;
TREE(close_derive, 2, 3)
    void before() { before_kid(); cctx_ref(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_close(kid);
        else {
            grandkid = cctx_with_cancel(kid);
            cctx_unref(kid);
        }
    }
    void after() { RL_ASSERT(is_done(grandkid)); kid = NULL; tree::after(); }
} close_derive;

// Each handle is closed: the descendants are done when both are.
TREE(close_close, 2, 3)
    void before() { before_grandkid(); cctx_ref(kid); }
    void thread(unsigned) { cctx_close(kid); }
    void after() { RL_ASSERT(is_done(grandkid)); kid = NULL; tree::after(); }
} close_close;
TREE(close_cancel, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_close(kid);
        else cctx_cancel(root);
        RL_ASSERT(is_done(grandkid));
    }
    void after() { kid = NULL; tree::after(); }
} close_cancel;

// C25, C26: a waiter deep below the canceled one is woken, by the walk or by a helper.
TREE(wait_cancel, 2, 4)
    void thread(unsigned i) { if (i) RL_ASSERT(cctx_wait(root) == ECANCELED); else cctx_cancel(root); }
} wait_cancel;
// The waiter wakes, and drops the last handle while the waker is not back from its wake.
TREE(late_wake, 2, 3)
    void before() { before_kid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else {
            cctx_wait(kid);
            cctx_unref(kid);
        }
    }
    void after() { kid = NULL; tree::after(); }
} late_wake;
TREE(late_wake_two, 3, 1)
    void before() { before_kid(); cctx_ref(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else {
            cctx_wait(kid);
            cctx_unref(kid);
        }
    }
    void after() { kid = NULL; tree::after(); }
} late_wake_two;
// One that sleeps by the word that cctx_done gave out, of a context or of a value below it, and then lets go.
TREE(exposed_walk, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        RL_ASSERT(cctx_done(grandkid) == (const uint32_t *)(const void *)&grandkid->state);
        for (uint32_t s; !((s = sync_load_acq(&grandkid->state, done)) & DONE);)
            futex_wait(&grandkid->state, s, INT64_MAX);
        RL_ASSERT(is_done(kid));
        cctx_unref(grandkid);
    }
    void after() { grandkid = NULL; tree::after(); }
} exposed_walk;
TREE(exposed_cancel_cancel, 3, 1)
    void before() { before_kid(); }
    void thread(unsigned i)
    {
        if (i < 2) { cctx_cancel(i ? kid : root); return; }
        cctx_done(kid);
        for (uint32_t s; !((s = sync_load_acq(&kid->state, done)) & DONE);)
            futex_wait(&kid->state, s, INT64_MAX);
    }
} exposed_cancel_cancel;
TREE(wait_walk, 2, 3)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else RL_ASSERT(done_wait(&grandkid->state, INT64_MAX));
    }
} wait_walk;
TREE(wait_walk_walk, 3, 1)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i < 2) cctx_cancel(i ? kid : root);
        else RL_ASSERT(done_wait(&grandkid->state, INT64_MAX));
    }
} wait_walk_walk;
TREE(wait_walk_unref, 3, 1)
    void before() { before_grandkid(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) cctx_unref(kid);
        else {
            RL_ASSERT(done_wait(&grandkid->state, INT64_MAX));
            cctx_unref(grandkid);
        }
    }
    void after() { kid = grandkid = NULL; tree::after(); }
} wait_walk_unref;

// Value contexts: a child that came through one pins it, and its owner by it; the walk passes over it.
static const cctx_key_t key = {};
TREE(value_walk, 2, 3)
    const cctx_t *value;
    void before() { before_kid(); value = cctx_with_value(kid, &key, NULL); cctx_unref(kid); kid = NULL; }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        cctx_t *n = cctx_with_cancel(value);
        cctx_unref(value);
        cctx_unref(n);
    }
} value_walk;
TREE(value_close, 2, 3)
    const cctx_t *value;
    void before()
    {
        tree::before();
        value = cctx_with_value(root, &key, NULL);
        kid = cctx_with_cancel(value);
        cctx_unref(value);
    }
    void thread(unsigned i) { cctx_unref(i ? kid : root); }
    void after() {}
} value_close;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
