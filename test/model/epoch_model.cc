// epoch_model.cc: the epoch algorithm of ConcurrencyKit 0.7.1 in relaxed operations: what its user owes it.
// SPDX-License-Identifier: BSD-2-Clause
//
// src/epoch.c is that user, and has the three fences of three_fences_in_c11; the scenarios before that lack one
// each. The retelling is to be read against ck_epoch.c again with each of its versions.
#include "model.h"

struct object { sync_plain(int) data; };
#define FENCE(mo) rl::atomic_thread_fence(rl::mo, RL_INFO)
#define GET(x)    (x).load(rl::mo_relaxed, RL_INFO)
#define PUT(x, v) (x).store((v), rl::mo_relaxed, RL_INFO)

static sync_u32 global, active[3], at[3];
static sync_ptr slot;

enum fence { NONE, ACQUIRE, FULL, RMW };
struct reclaim : scenario {
    bool section;               /* unlink and defer inside a section of the writer's own */
    fence before_defer, after_begin, in_reclaim;
    struct object *pending[4];  /* thread 1 defers one object */

    reclaim(const char *name, bool wrong, bool in_section, fence defer, fence begin, fence free)
        : scenario(name, 3, 1, wrong), section(in_section), before_defer(defer), after_begin(begin), in_reclaim(free)
    {
    }
    void before()
    {
        memset(pending, 0, sizeof pending);
        PUT(global, 1);
        struct object *x = model_make<struct object>();
        sync_set(x->data, 1);
        PUT(slot, (uintptr_t)x);
    }
    void fence_of(fence f)
    {
        if (f == ACQUIRE) FENCE(mo_acquire);
        if (f == FULL) FENCE(mo_seq_cst);
        if (f == RMW) global.fetch_add(0, rl::mo_acq_rel, RL_INFO);
    }
    void begin(int t)
    {
        PUT(active[t], 1);
        FENCE(mo_seq_cst);
        PUT(at[t], GET(global));
        fence_of(after_begin);
    }
    void end(int t)
    {
        FENCE(mo_release);
        PUT(active[t], 0);
    }
    void dispatch(int t, unsigned e)
    {
        struct object *x = t == 1 ? pending[e & 3] : NULL;
        if (!x) return;
        pending[e & 3] = NULL;
        fence_of(in_reclaim);
        model_free(x);
    }
    void poll(int t)
    {
        uint32_t e = GET(global), seen = e, any = 0;
        FENCE(mo_seq_cst);
        dispatch(t, e - 2);
        for (int i = 0; i < 3; i++) {
            uint32_t a = GET(active[i]);
            any |= a;
            if (a && GET(at[i]) != e) return;
        }
        if (any) {
            global.compare_exchange_strong(seen, e + 1, rl::mo_relaxed, RL_INFO);
            dispatch(t, e - 1);
        } else for (unsigned i = 0; i < 4; i++) dispatch(t, i);
    }
    void thread(unsigned t)
    {
        for (int k = 0; t == 0 && k < 2; k++) {         /* a reader, twice */
            begin(0);
            struct object *x = (struct object *)slot.load(rl::mo_acquire, RL_INFO);
            if (x) RL_ASSERT(sync_get(x->data) == 1);
            end(0);
        }
        if (t == 1) {                                   /* unlinks and defers */
            if (section) begin(1);
            struct object *x = (struct object *)slot.exchange(0, rl::mo_acq_rel, RL_INFO);
            fence_of(before_defer);
            pending[GET(global) & 3] = x;
            if (section) end(1);
        }
        for (int k = 0; t > 0 && k < 3; k++) poll((int)t);      /* another thread moves the epoch too */
    }
    void after()
    {
        for (int i = 0; i < 4; i++) model_free(pending[i]);
    }
};
// Nothing orders the unlink before the deferral, and a section around both does not.
static reclaim no_fence_before_deferral("no_fence_before_deferral", true, false, NONE, ACQUIRE, ACQUIRE);
static reclaim section_is_no_fence("section_is_no_fence", true, true, NONE, ACQUIRE, ACQUIRE);
// The free is not ordered after the reader's last load.
static reclaim no_fence_in_reclaim("no_fence_in_reclaim", true, false, FULL, ACQUIRE, NONE);
// Loads of the section run before the epoch is read.
static reclaim no_fence_after_begin("no_fence_after_begin", true, false, FULL, NONE, ACQUIRE);
// The three fences: C11 lets a reader learn the new epoch from a third thread and still read the old slot. Machines
// on which a store is seen by all other threads at once (x86, arm64, riscv64) do not; src/epoch.c relies on that.
static reclaim three_fences_in_c11("three_fences_in_c11", true, false, FULL, ACQUIRE, ACQUIRE);
// Two ways that hold in C11: full fences on both sides, or a read-modify-write of the epoch first.
static reclaim full_fences("full_fences", false, false, FULL, FULL, ACQUIRE);
static reclaim epoch_rmw("epoch_rmw", false, false, RMW, ACQUIRE, ACQUIRE);

int main(int argc, char **argv) { return model_main(argc, argv, 60000); }
