// any_model.cc: merged nodes: one node below two parents, that are canceled, closed and left at once.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as tree_model.cc.
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

struct merge : scenario {
    cctx_t *p[3], *m, *kid;
    merge(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void parents(unsigned n)
    {
        p[2] = m = kid = NULL;
        for (unsigned i = 0; i < n; i++) p[i] = cctx_with_cancel(cctx_background());
    }
    void join(cctx_t *a, cctx_t *b)
    {
        const cctx_t *both[] = {a, b};
        m = cctx_with_any(both, 2);
    }
    void before() { parents(2); join(p[0], p[1]); }
    void after()
    {
        cctx_unref(kid);
        cctx_unref(m);
        for (int i = 0; i < 3; i++) cctx_unref(p[i]);
    }
};
#define MERGE(name, threads, bound) struct name : merge { name() : merge(#name, threads, bound) {}

// Either parent's cancel ends it, and all below it, before the cancel returns.
MERGE(cancel_both, 2, 3)
    void before() { merge::before(); kid = cctx_with_cancel(m); }
    void thread(unsigned i) { cctx_cancel(p[i]); RL_ASSERT(is_done(m) && is_done(kid)); }
} cancel_both;
// The cause is one of the two, and stays: what the one who looks reads was written before.
MERGE(cause_both, 3, 1)
    told *c[2];
    void before() { merge::before(); c[0] = c[1] = NULL; }
    void thread(unsigned i)
    {
        if (i < 2) {
            c[i] = tell();
            cctx_cancel_cause(p[i], c[i]);
            RL_ASSERT(is_done(m));
        }
        if (is_done(m)) hear(m, c[0], c[1]);
    }
    void after()
    {
        RL_ASSERT(cause_of(m) == c[0] || cause_of(m) == c[1]);
        merge::after();
        model_free(c[0]);
        model_free(c[1]);
    }
} cause_both;
// Merged while a parent is canceled: it is done, as a derived one would be.
MERGE(merge_cancel_first, 2, 3)
    void before() { parents(2); }
    void thread(unsigned i) { if (i) join(p[0], p[1]); else cctx_cancel(p[0]); }
    void after() { RL_ASSERT(is_done(m)); merge::after(); }
} merge_cancel_first;
MERGE(merge_cancel_second, 2, 3)
    void before() { parents(2); }
    void thread(unsigned i) { if (i) join(p[0], p[1]); else cctx_cancel(p[1]); }
    void after() { RL_ASSERT(is_done(m)); merge::after(); }
} merge_cancel_second;
// A child is derived from it meanwhile.
MERGE(derive_cancel, 2, 3)
    void thread(unsigned i) { if (i) kid = cctx_with_cancel(m); else cctx_cancel(p[1]); }
    void after() { RL_ASSERT(is_done(kid)); merge::after(); }
} derive_cancel;
// It dies under the walk that has come by its leg.
MERGE(leg_free, 2, 3)
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(p[1]);
        else {
            cctx_unref(m);
            m = NULL;
        }
    }
} leg_free;
MERGE(leg_free_kid, 3, 1)
    void before() { merge::before(); kid = cctx_with_cancel(m); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(p[1]);
        else cctx_unref(i == 1 ? m : kid);
    }
    void after() { m = kid = NULL; merge::after(); }
} leg_free_kid;
// Its parents are closed before it goes: each is freed once.
MERGE(leave, 3, 1)
    void thread(unsigned i) { cctx_unref(i < 2 ? p[i] : m); }
    void after() {}
} leave;
// Two merges of the same parents in opposite order, canceled from both sides: the walks meet.
MERGE(crossed, 2, 2)
    void before()
    {
        merge::before();
        kid = m;
        join(p[1], p[0]);
    }
    void thread(unsigned i) { cctx_cancel(p[i]); RL_ASSERT(is_done(m) && is_done(kid)); }
} crossed;
// A ladder of merges, deeper than the walk's first stack.
MERGE(ladder, 2, 2)
    cctx_t *step[2];
    void before()
    {
        merge::before();
        for (int i = 0; i < 2; i++) {
            step[i] = m;
            join(p[0], m);
        }
        kid = cctx_with_cancel(m);
    }
    void thread(unsigned i) { cctx_cancel(p[i]); RL_ASSERT(is_done(m) && is_done(kid)); }
    void after()
    {
        merge::after();
        for (int i = 0; i < 2; i++) cctx_unref(step[i]);
    }
} ladder;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
