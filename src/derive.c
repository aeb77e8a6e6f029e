/* Layer 11, face. derive: the public functions that make contexts, and the roots.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "alloc.h"
#include "cancel.h"
#include "deadline.h"
#include "derive.h"
#include <errno.h>

#ifdef SYNC_RELACY
#include "derive_model.h"       /* the roots, and objects with constructors */
#else
static struct cctx background = {
    .done = &node_never, .state = {(uint32_t)KIND_BACKGROUND << KIND_SHIFT}, .refs = {1}, .deadline = CCTX_NEVER};
static struct cctx todo = {
    .done = &node_never, .state = {(uint32_t)KIND_TODO << KIND_SHIFT}, .refs = {1}, .deadline = CCTX_NEVER};
static struct value *value_get(struct cctx *parent, size_t size)
{
    struct cctx_domain *d = node_domain(parent);
    return (struct value *)(d ? domain_get(d, size) : alloc_get(size));
}
static void value_put(struct cctx *parent, struct value *v)
{
    struct cctx_domain *d = node_domain(parent);
    if (d) domain_put(d, v);
    else alloc_put(v);
    if (d) domain_drop(d);
}
static struct any *any_get(struct cctx_domain *d, size_t size)
{
    return (struct any *)(d ? domain_get(d, size) : alloc_get_aligned(CACHE_LINE, size));
}
#endif

const cctx_t *cctx_background(void) { return &background; }
const cctx_t *cctx_todo(void) { return &todo; }

/* n was made by the public function call, for the code that called it; or NULL. */
#define MADE(n, call) node_made((n), __builtin_return_address(0), (call))

static struct cctx *fail(int error)
{
    errno = error;
    return NULL;
}

/* Puts word into a slot of p, the owner of parent: the slot pins p, and a reference the context it came through, which
 * a walker may pass over from then on. */
static bool derive_admit(struct thread *t, uintptr_t word, struct cctx *parent, struct cctx *p,
                         sync_plain(sync_ptr *) *slot)
{
    if (parent != p) {
        node_ref(parent);
        if (!(sync_load_relaxed(&parent->state, hint) & VIA)) sync_or_acqrel(&parent->state, (uint32_t)VIA, none, none);
    }
    if (likely(node_admit(t, p, word, slot) != NULL)) return true;
    if (parent != p) node_unref(t, parent);
    return false;
}

bool derive_attach(struct thread *t, struct cctx *n, struct cctx *parent)
{
    struct cctx *p = node_owner(parent);
    uint32_t s = p ? sync_load_acq(&p->state, done) : 0;
    if (!p || (s & DONE)) {
        if (s & DONE) cancel_inherit(n, s);
        node_ref(parent);
        return true;
    }
    if (!derive_admit(t, (uintptr_t)n, parent, p, &n->slot)) return false;
    s = sync_load_hs(&p->state, attach, a, done);
    if (s & DONE) cancel_inherit(n, s);
    return true;
}

cctx_t *cctx_with_cancel(const cctx_t *ctx)
{
    struct cctx *parent = (struct cctx *)(uintptr_t)ctx;
    if (!parent) return fail(EINVAL);
    node_check(ctx, "cctx_with_cancel");
    cancel_catch_up();
    struct thread *t = thread_begin();
    struct cctx *n = node_new(t, KIND_CANCEL, parent);
    if (likely(n != NULL) && unlikely(!derive_attach(t, n, parent))) {
        node_discard(t, n);
        n = NULL;
    }
    thread_end(t);
    return likely(n != NULL) ? MADE(n, "cctx_with_cancel") : fail(ENOMEM);
}

/* now is the one reading of the clock. */
static struct cctx *derive_deadline(struct cctx *parent, int64_t deadline, const cctx_cause_t *cause, int64_t now)
{
    cancel_catch_up();
    struct thread *t = thread_begin();
    int error = ENOMEM;
    struct cctx *n = node_new(t, KIND_DEADLINE, parent);
    if (n) {
        bool earlier = deadline < sync_get(parent->deadline);
        if (earlier) sync_set(n->deadline, deadline);
        if (cause) sync_init(&n->cause, (uintptr_t)cause | CAUSE_OWN);
        if (!derive_attach(t, n, parent)) {
            node_discard(t, n);
            n = NULL;
        } else if (deadline <= now) {
            cancel_deadline(n);
        } else if (earlier && !(sync_load_relaxed(&n->state, hint) & DONE) && (error = deadline_arm(t, n, now)) != 0) {
            node_unref(t, n);
            n = NULL;
        }
    }
    thread_end(t);
    return n ? n : fail(error);
}

static struct cctx *derive_until(const cctx_t *ctx, cctx_time_t deadline, const cctx_cause_t *cause)
{
    if (!ctx) return fail(EINVAL);
    node_check(ctx, "cctx_with_deadline");
    return derive_deadline((struct cctx *)(uintptr_t)ctx, deadline, cause, node_now(ctx));
}

static struct cctx *derive_for(const cctx_t *ctx, int64_t timeout, const cctx_cause_t *cause)
{
    if (!ctx) return fail(EINVAL);
    node_check(ctx, "cctx_with_timeout");
    int64_t now = node_now(ctx);
    return derive_deadline((struct cctx *)(uintptr_t)ctx, time_add(now, timeout), cause, now);
}

cctx_t *cctx_with_deadline_cause(const cctx_t *ctx, cctx_time_t deadline, const cctx_cause_t *cause)
{
    return MADE(derive_until(ctx, deadline, cause), "cctx_with_deadline_cause");
}

cctx_t *cctx_with_timeout_cause(const cctx_t *ctx, int64_t timeout, const cctx_cause_t *cause)
{
    return MADE(derive_for(ctx, timeout, cause), "cctx_with_timeout_cause");
}

cctx_t *cctx_with_deadline(const cctx_t *ctx, cctx_time_t deadline)
{
    return MADE(derive_until(ctx, deadline, NULL), "cctx_with_deadline");
}

cctx_t *cctx_with_timeout(const cctx_t *ctx, int64_t timeout)
{
    return MADE(derive_for(ctx, timeout, NULL), "cctx_with_timeout");
}

const cctx_t *cctx_without_cancel(const cctx_t *ctx)
{
    struct cctx *parent = (struct cctx *)(uintptr_t)ctx;
    if (!parent) return fail(EINVAL);
    node_check(ctx, "cctx_without_cancel");
    cancel_catch_up();
    struct thread *t = thread_begin();
    struct cctx *n = node_new(t, KIND_WITHOUT, parent);
    if (n) {
        sync_set(n->done, &node_never);
        sync_set(n->deadline, CCTX_NEVER);
        node_ref(parent);
    }
    thread_end(t);
    return n ? MADE(n, "cctx_without_cancel") : fail(ENOMEM);
}

const cctx_t *cctx_with_value(const cctx_t *ctx, const cctx_key_t *key, void *value)
{
    struct cctx *parent = (struct cctx *)(uintptr_t)ctx;
    if (!parent || !key) return fail(EINVAL);
    cancel_catch_up();
    node_check(ctx, "cctx_with_value");
    struct table *base = sync_get(parent->values);
    struct value *v = value_get(parent, sizeof *v + table_size(base, key));
    if (!v) return fail(ENOMEM);
    v->key = key;
    v->table = (struct table *)(void *)(v + 1);
    if (!table_make(node_memory(parent), v->table, base, key, value)) {
        value_put(parent, v);
        return fail(ENOMEM);
    }
    node_init(&v->node, KIND_VALUE, parent, sync_get(parent->done), node_domain_bits(parent));
    sync_set(v->node.values, v->table);
    node_ref(parent);
    thread_count_here(COUNT_MADE + (unsigned)KIND_VALUE, 1);
    return MADE(&v->node, "cctx_with_value");
}

/* ------------------------------------------------------------------------------------------------- the merge */

/* Hangs n below one more parent: in a slot of its owner, or by a reference if that can never be done, is done already,
 * or is the first parent's too. False without memory. */
static bool derive_leg(struct thread *t, struct cctx *n, struct leg *leg, struct cctx *parent, struct cctx *known)
{
    struct cctx *p = node_owner(parent);
    leg->node = n;
    leg->parent = parent;
    sync_set(leg->slot, (sync_ptr *)NULL);
    uint32_t s = p ? sync_load_acq(&p->state, done) : 0;
    if (!p || p == known || (s & DONE)) {
        node_ref(parent);
    } else {
        if (!derive_admit(t, (uintptr_t)leg | SLOT_LEG, parent, p, &leg->slot)) return false;
        s = sync_load_hs(&p->state, attach, a, done);
    }
    if (s & DONE) cancel_node(n, cancel_cause(p), s & TIMEDOUT ? CAUSE_DEADLINE : CAUSE_BORROWED);
    return true;
}

cctx_t *cctx_with_any(const cctx_t *const parents[], size_t count)
{
    if (!parents || count == 0 || count > UINT_MAX || !parents[0]) return fail(EINVAL);
    cancel_catch_up();
    struct cctx *first = (struct cctx *)(uintptr_t)parents[0];
    uint32_t domain = node_domain_bits(first);
    for (size_t i = 1; i < count; i++)
        if (!parents[i] || node_domain_bits(parents[i]) != domain) return fail(EINVAL);
    struct any *a = any_get(node_domain(first), sizeof *a + (count - 1) * sizeof a->leg[0]);
    if (!a) return fail(ENOMEM);
    struct cctx *n = &a->node;
    struct thread *t = thread_begin();
    node_init(n, KIND_ANY, first, &n->state, domain);
    thread_count(t, COUNT_MADE + (unsigned)KIND_ANY, 1);
    for (size_t i = 1; i < count; i++) {
        node_check(parents[i], "cctx_with_any");
        int64_t d = sync_get(((struct cctx *)(uintptr_t)parents[i])->deadline);
        if (d < sync_get(n->deadline)) sync_set(n->deadline, d);
    }
    if (!derive_attach(t, n, first)) {
        node_discard(t, n);
        n = NULL;
    }
    for (; n && a->legs < count - 1; a->legs++) {
        struct cctx *parent = (struct cctx *)(uintptr_t)parents[a->legs + 1];
        if (derive_leg(t, n, &a->leg[a->legs], parent, node_owner(first))) continue;
        node_unref(t, n);               /* leaves each slot it is in */
        n = NULL;
        break;
    }
    thread_end(t);
    return n ? MADE(n, "cctx_with_any") : fail(ENOMEM);
}
