/* ck_epoch.h: what src/epoch.c uses of ConcurrencyKit 0.7.1, told again in relacy's operations, as on a machine that is
 * not TSO. It stands before the installed header in a model's include path, and is to be read against ck_epoch.c again
 * with each of its versions.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * C11 has no name for what a full fence does on a machine where a store is seen by all other threads at once (x86,
 * arm64, riscv64): who learns a new epoch, by whomever, sees what was stored before a fence whose thread then read
 * the old one. Here the fence before a deferral is a read-modify-write of the epoch beside, which gives C11 as much. */
#ifndef MODEL_CK_EPOCH_H
#define MODEL_CK_EPOCH_H

#define CK_FENCE(mo) rl::atomic_thread_fence(rl::mo, RL_INFO)
#define CK_GET(x)    (x).load(rl::mo_relaxed, RL_INFO)
#define CK_PUT(x, v) (x).store((v), rl::mo_relaxed, RL_INFO)
enum { CK_EPOCH_LENGTH = 4 };

/* What a scenario leaves out of the fences that CK's user owes it, or has in place of them. */
static enum {
    CK_AS_WRITTEN, CK_NO_FENCE_LOAD, CK_NO_FENCE_MEMORY, CK_NO_FENCE_ACQUIRE,
    CK_C11_ALONE,               /* no more than C11 says of a fence */
    CK_C11_FULL_LOAD            /* the same, and the fence after begin is a full one */
} ck_variant;

typedef struct ck_stack_entry { struct ck_stack_entry *next; } ck_stack_entry_t;
typedef struct ck_stack { sync_plain(ck_stack_entry_t *) head; } ck_stack_t;
#define CK_STACK_INITIALIZER {}
#define CK_STACK_FIRST(s) sync_get((s)->head)
#define CK_STACK_NEXT(e)  ((e)->next)
static void ck_stack_init(ck_stack_t *s) { sync_set(s->head, (ck_stack_entry_t *)NULL); }
static void ck_stack_push(ck_stack_t *s, ck_stack_entry_t *e)
{
    e->next = sync_get(s->head);
    sync_set(s->head, e);
}

struct ck_epoch_entry;
typedef void ck_epoch_cb_t(struct ck_epoch_entry *);
typedef struct ck_epoch_entry {
    ck_epoch_cb_t *function;
    ck_stack_entry_t stack_entry;
} ck_epoch_entry_t;

struct ck_word : sync_u32 { void operator=(uint32_t v) { CK_PUT(*this, v); } };
typedef struct ck_epoch_record {
    struct ck_epoch_record *next;
    struct ck_epoch *global;
    ck_word active, epoch;
    ck_stack_t pending[CK_EPOCH_LENGTH];
} ck_epoch_record_t;
typedef struct ck_epoch {
    sync_u32 epoch;
    sync_ptr records;
} ck_epoch_t;
static ck_epoch_t *ck_global;

static void ck_epoch_init(ck_epoch_t *g)
{
    ck_global = g;
    g->epoch.init(1);
    g->records.init(0);
}
static void ck_epoch_register(ck_epoch_t *g, ck_epoch_record_t *r, void *)
{
    r->global = g;
    r->active.init(0);
    r->epoch.init(0);
    uintptr_t head = CK_GET(g->records);
    do r->next = (ck_epoch_record_t *)head;
    while (!g->records.compare_exchange_strong(head, (uintptr_t)r, rl::mo_release, RL_INFO));
}
static void ck_epoch_begin(ck_epoch_record_t *r, void *)
{
    CK_PUT(r->active, 1u);
    CK_FENCE(mo_seq_cst);
    CK_PUT(r->epoch, CK_GET(r->global->epoch));
}
static void ck_epoch_end(ck_epoch_record_t *r, void *)
{
    CK_FENCE(mo_release);
    CK_PUT(r->active, 0u);
}
static void ck_epoch_call(ck_epoch_record_t *r, ck_epoch_entry_t *e, ck_epoch_cb_t *function)
{
    e->function = function;
    ck_stack_push(&r->pending[CK_GET(r->global->epoch) & (CK_EPOCH_LENGTH - 1)], &e->stack_entry);
}
static void ck_epoch_dispatch(ck_epoch_record_t *r, uint32_t epoch, ck_stack_t *ripe)
{
    ck_stack_t *s = &r->pending[epoch & (CK_EPOCH_LENGTH - 1)];
    ck_stack_entry_t *e = sync_get(s->head), *next;
    if (!e) return;
    ck_stack_init(s);
    for (; e; e = next) {
        next = e->next;
        ck_stack_push(ripe, e);
    }
}
static bool ck_epoch_poll_deferred(ck_epoch_record_t *r, ck_stack_t *ripe)
{
    ck_epoch_t *g = r->global;
    uint32_t e = CK_GET(g->epoch), seen = e, any = 0;
    CK_FENCE(mo_seq_cst);
    ck_epoch_dispatch(r, e - 2, ripe);
    /* The list of records is followed by data dependencies. */
    for (ck_epoch_record_t *o = (ck_epoch_record_t *)g->records.load(rl::mo_acquire, RL_INFO); o; o = o->next) {
        uint32_t active = CK_GET(o->active);
        any |= active;
        if (active && CK_GET(o->epoch) != e) return false;
    }
    if (any) {
        g->epoch.compare_exchange_strong(seen, e + 1, rl::mo_relaxed, RL_INFO);
        ck_epoch_dispatch(r, e - 1, ripe);
    } else for (uint32_t i = 0; i < CK_EPOCH_LENGTH; i++) ck_epoch_dispatch(r, i, ripe);
    return true;
}

static void ck_pr_fence_load()
{
    if (ck_variant == CK_C11_FULL_LOAD) CK_FENCE(mo_seq_cst);
    else if (ck_variant != CK_NO_FENCE_LOAD) CK_FENCE(mo_acquire);
}
static void ck_pr_fence_memory()
{
    if (ck_variant == CK_NO_FENCE_MEMORY) return;
    CK_FENCE(mo_seq_cst);
    if (ck_variant < CK_C11_ALONE) ck_global->epoch.fetch_add(0, rl::mo_acq_rel, RL_INFO);
}
static void ck_pr_fence_acquire()
{
    if (ck_variant != CK_NO_FENCE_ACQUIRE) CK_FENCE(mo_acquire);
}

#endif
