// shared_model.cc: tokens in an arena: claimed, canceled, buried, used again and bound, by threads that stand for processes.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: arena.c, roster.c and binding.c. The contexts below are retold: a word that is done, and a value whose
// destructor runs with the last reference.
#include "model.h"
#include "peer.h"

enum { A = 1, B = 2, C = 3 };           /* processes */
uint64_t peer_space(void) { return 0; }
bool peer_dead(uint64_t) { return false; }
void peer_wait(sync_u32 *bell, uint32_t seen) { futex_wait(bell, seen, INT64_MAX); }
void peer_wake(sync_u32 *bell) { futex_wake(bell); }
#include "arena.c"

static sync_plain(int) payload;         /* what the canceler did before */
static bool paid;

#include "cctx/cctx.h"
struct cctx {                   /* a hub, or a value below one */
    sync_u32 ended, refs;
    struct cctx *hub;
    const cctx_key_t *key;
    void *value;
};
const cctx_t *cctx_background(void) { return NULL; }
cctx_t *cctx_with_cancel(const cctx_t *)
{
    struct cctx *n = model_make<struct cctx>();
    sync_init(&n->refs, 1u);
    n->hub = NULL;
    return n;
}
cctx_t *cctx_with_deadline(const cctx_t *parent, cctx_time_t) { return cctx_with_cancel(parent); }
const cctx_t *cctx_with_value(const cctx_t *parent, const cctx_key_t *k, void *value)
{
    struct cctx *n = cctx_with_cancel(NULL);
    n->hub = (struct cctx *)(uintptr_t)parent;
    n->key = k;
    n->value = value;
    sync_add_relaxed(&n->hub->refs, 1u, alone);
    return n;
}
void cctx_unref(const cctx_t *ctx)
{
    struct cctx *n = (struct cctx *)(uintptr_t)ctx;
    while (n && sync_add_acqrel(&n->refs, (uint32_t)-1, last_ref, last_ref) == 1) {
        struct cctx *hub = n->hub;
        if (hub) n->key->destroy(n->value);
        model_free(n);
        n = hub;
    }
}
bool cctx_cancel(cctx_t *n)
{
    if (paid) RL_ASSERT(sync_get(payload) == 7);
    sync_store_rel(&n->ended, 1u, done);
    return true;
}
bool cctx_cancel_cause(cctx_t *n, const cctx_cause_t *) { return cctx_cancel(n); }
int64_t cctx_remaining(const cctx_t *) { return 0; }
static bool ended(const cctx_t *value)
{
    return sync_load_acq(&((struct cctx *)(uintptr_t)value)->hub->ended, done) != 0;
}

#include "roster.c"
#include "binding.c"

static struct arena_head head;
static struct arena_slot slots[2];
static struct bindings s;
static struct arena *const a = &s.arena;
static struct arena_sight sight;
static void last(struct bindings *) {}

struct shares : scenario {
    uint64_t token, made[2];
    shares(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    uint64_t claim(uint64_t who, int64_t deadline)
    {
        uint64_t t;
        return arena_claim(a, who, deadline, &t) == 0 ? t : 0;
    }
    void arena(unsigned capacity)
    {
        arena_make(a, &head, capacity);
        a->slot = slots;
        s.last = last;
        s.roster = roster_new(NULL, 1, NULL, NULL, NULL);
        sync_init(&s.refs, 1u);
        token = made[0] = made[1] = 0;
        paid = false;
    }
    void before() { arena(1); token = claim(A, 5); }
    enum arena_state look(uint64_t t, struct arena_sight *seen) { return arena_look(a, t, seen); }
    enum arena_state look() { return arena_look(a, token, &sight); }
    void cancel()
    {
        sync_set(payload, 7);
        paid = true;
        RL_ASSERT(arena_cancel(a, token));
    }
    void after() { roster_free(s.roster); }
};
#define SHARES(name, threads, bound) struct name : shares { name() : shares(#name, threads, bound) {}

// What is seen of a live token is its own.
SHARES(claim_look, 2, 4)
    void before() { arena(1); }
    void thread(unsigned i)
    {
        struct arena_sight seen;
        if (i == 0) token = claim(A, 5);
        else if (look((uint64_t)1 << ARENA_INDEX_BITS, &seen) == ARENA_LIVE) RL_ASSERT(seen.deadline == 5 && seen.owner == A);
    }
    void after() { RL_ASSERT(look() == ARENA_LIVE); shares::after(); }
} claim_look;
// S2: a slot that is used again while it is looked at.
SHARES(look_reuse, 2, 4)
    void thread(unsigned i)
    {
        struct arena_sight seen;
        if (i == 0) {
            arena_cancel(a, token);
            made[0] = claim(C, 9);
        } else {
            enum arena_state state = look(token, &seen);
            if (state == ARENA_LIVE) RL_ASSERT(seen.deadline == 5 && seen.owner == A);
            else RL_ASSERT(state == ARENA_CANCELED);
        }
    }
    void after() { RL_ASSERT(made[0] && look() == ARENA_CANCELED); shares::after(); }
} look_reuse;
// S2: the same where its deadline has passed, so that nobody rings in between.
SHARES(look_expired, 2, 4)
    void before() { shares::before(); model_now = 6; }
    void thread(unsigned i)
    {
        struct arena_sight seen;
        if (i == 0) made[0] = claim(C, 9);
        else if (look(token, &seen) == ARENA_LIVE) RL_ASSERT(seen.deadline == 5 && seen.owner == A);
    }
    void after() { RL_ASSERT(made[0] && look() == ARENA_TIMEDOUT); shares::after(); }
} look_expired;
// S3: the owner is buried while it is looked at.
SHARES(look_bury, 2, 4)
    void thread(unsigned i)
    {
        struct arena_sight seen;
        if (i == 0) {
            arena_bury(a, A);
            return;
        }
        enum arena_state state = look(token, &seen);
        RL_ASSERT(state == ARENA_DIED || (state == ARENA_LIVE && seen.owner == A));
    }
    void after() { RL_ASSERT(look() == ARENA_DIED); shares::after(); }
} look_bury;
// S3: it is buried twice, and another process has its place and its slot before the second burial is over.
SHARES(bury_bury_claim, 2, 3)
    void thread(unsigned i)
    {
        arena_bury(a, A);
        if (i) made[0] = claim(C, 9);
    }
    void after() { RL_ASSERT(made[0] && look(made[0], &sight) == ARENA_LIVE && sight.owner == C); shares::after(); }
} bury_bury_claim;
SHARES(bury_bury_claimer, 3, 2)
    void before() { arena(2); token = claim(A, 5); sync_init(&head.process[1], (uint64_t)B); }
    void thread(unsigned i)
    {
        if (i < 2) arena_bury(a, A);
        else made[0] = claim(C, 9);
    }
    void after()
    {
        RL_ASSERT((sync_load_relaxed(&head.process[0], stat) == C) == (made[0] != 0));
        if (made[0]) RL_ASSERT(look(made[0], &sight) == ARENA_LIVE && sight.owner == C);
        shares::after();
    }
} bury_bury_claimer;
// S1: two that claim one slot.
SHARES(claim_claim, 2, 4)
    void before() { arena(1); }
    void thread(unsigned i) { made[i] = claim(A + i, 5 + i); }
    void after()
    {
        RL_ASSERT(!made[0] != !made[1]);
        unsigned who = made[1] ? 1 : 0;
        RL_ASSERT(look(made[who], &sight) == ARENA_LIVE && sight.owner == A + who && sight.deadline == 5 + who);
        shares::after();
    }
} claim_claim;
// One wins; who loses returns when the bell was rung (S4).
SHARES(cancel_cancel, 2, 4)
    bool won[2];
    void thread(unsigned i)
    {
        won[i] = arena_cancel(a, token);
        if (!won[i]) RL_ASSERT(sync_load_relaxed(&head.bell, stat) != 0);
    }
    void after() { RL_ASSERT(won[0] != won[1] && look() == ARENA_CANCELED); shares::after(); }
} cancel_cancel;
// N1: bound while it is canceled; who hears the bell, or who binds, ends it.
struct binds : shares {
    const cctx_t *ctx;
    binds(const char *name, unsigned threads, unsigned bound) : shares(name, threads, bound) {}
    void before() { shares::before(); ctx = NULL; }
    void listen(uint32_t rings)
    {
        for (uint32_t heard;;) {
            heard = sync_load_acq(&head.bell, bell);
            bindings_scan(&s);
            if (heard == rings) return;
            peer_wait(&head.bell, heard);
        }
    }
    void after()
    {
        RL_ASSERT(ended(ctx));
        cctx_unref(ctx);
        shares::after();
    }
};
#define BINDS(name, threads, bound) struct name : binds { name() : binds(#name, threads, bound) {}
BINDS(bind_cancel_listen, 3, 2)
    void thread(unsigned i)
    {
        if (i == 0) ctx = binding_new(&s, token, CCTX_NEVER);
        else if (i == 1) cancel();
        else listen(1);
    }
} bind_cancel_listen;
BINDS(bound_cancel_listen, 2, 5)
    void before() { binds::before(); ctx = binding_new(&s, token, CCTX_NEVER); }
    void thread(unsigned i) { if (i) cancel(); else listen(1); }
} bound_cancel_listen;
BINDS(bound_bury_listen, 2, 5)
    void before() { binds::before(); ctx = binding_new(&s, token, CCTX_NEVER); }
    void thread(unsigned i) { if (i) arena_bury(a, A); else listen(1); }
} bound_bury_listen;
// N2: dropped while it is ended.
BINDS(drop_scan, 2, 4)
    void before() { binds::before(); ctx = binding_new(&s, token, CCTX_NEVER); arena_cancel(a, token); }
    void thread(unsigned i) { if (i) cctx_unref(ctx); else bindings_scan(&s); }
    void after() { RL_ASSERT(sync_load_relaxed(&s.refs, stat) == 1); shares::after(); }
} drop_scan;
BINDS(drop_scan_scan, 3, 2)
    void before() { binds::before(); ctx = binding_new(&s, token, CCTX_NEVER); arena_cancel(a, token); }
    void thread(unsigned i) { if (i == 2) cctx_unref(ctx); else bindings_scan(&s); }
    void after() { RL_ASSERT(sync_load_relaxed(&s.refs, stat) == 1); shares::after(); }
} drop_scan_scan;
BINDS(bind_drop_listen, 3, 2)
    void thread(unsigned i)
    {
        if (i == 0) {
            cctx_unref(binding_new(&s, token, CCTX_NEVER));
            ctx = binding_new(&s, token, CCTX_NEVER);
        } else if (i == 1) cancel();
        else listen(1);
    }
} bind_drop_listen;
// The last one to go frees what the others have used.
BINDS(drop_drop_last, 2, 4)
    const cctx_t *both[2];
    static void free_roster(struct bindings *b) { roster_free(b->roster); }
    void before()
    {
        binds::before();
        s.last = free_roster;
        for (int i = 0; i < 2; i++) both[i] = binding_new(&s, token, CCTX_NEVER);
        bindings_unref(&s);
    }
    void thread(unsigned i) { cctx_unref(both[i]); }
    void after() {}
} drop_drop_last;
// The owners of what is bound meanwhile.
static void owner_is(void *, uint64_t who) { RL_ASSERT(who == A); }
BINDS(bind_owners, 2, 4)
    void thread(unsigned i)
    {
        if (i) bindings_owners(&s, owner_is, NULL);
        else ctx = binding_new(&s, token, CCTX_NEVER);
    }
    void after() { cctx_unref(ctx); shares::after(); }
} bind_owners;
// The bell tells of what came before it: that the listener is to end.
SHARES(ring_listen, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) {
            sync_set(payload, 7);
            arena_ring(a);
            return;
        }
        while (sync_load_acq(&head.bell, bell) == 0) peer_wait(&head.bell, 0);
        RL_ASSERT(sync_get(payload) == 7);
    }
} ring_listen;

int main(int argc, char **argv) { return model_main(argc, argv); }
