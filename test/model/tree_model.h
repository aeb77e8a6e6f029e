/* tree_model.h: what a model of contexts needs beside the sources that it includes.
 * SPDX-License-Identifier: BSD-2-Clause */
/* As the public header's inline functions read it. */
static bool is_done(const cctx_t *n) { return sync_load_acq(sync_get(n->done), done) & DONE; }
static const cctx_cause_t *cause_of(cctx_t *n) { return cancel_cause(node_owner(n)); }

/* A cause whose text is written by the one who cancels: to read it too early is a data race. */
struct told : cctx_cause_t { sync_plain(int) written; };
static told *tell()
{
    told *c = model_make<told>();
    sync_set(c->written, 7);
    return c;
}
static void hear(cctx_t *n, told *a, told *b)
{
    const cctx_cause_t *c = cause_of(n);
    RL_ASSERT(c && (c == a || c == b));
    RL_ASSERT(sync_get(((told *)c)->written) == 7);
}

/* A table of one pair: tables are immutable, and have a test of their own. */
size_t table_size(const struct table *, const void *) { return sizeof(struct table); }
bool table_make(const struct allocator *, struct table *t, const struct table *, const void *key, void *value)
{
    t->own.key = key;
    t->own.value = value;
    return true;
}
void table_drop(const struct allocator *, struct table *) {}

/* The public header's inline functions, for the sources that call them. */
static int err_of(const cctx_t *n)
{
    uint32_t s = sync_load_acq(sync_get(((struct cctx *)(uintptr_t)n)->done), done);
    return !(s & DONE) ? 0 : s & TIMEDOUT ? ETIMEDOUT : ECANCELED;
}
#define cctx_is_done is_done
#define cctx_err err_of

#ifndef TREE_MODEL_TIMER
void timer_disarm(sync_ptr *) { abort(); }
void timer_ring(struct timer *) {}
int deadline_arm(struct thread *, struct cctx *, int64_t) { abort(); }
void deadline_fire(struct cctx *) {}
void deadline_wait(void) {}
#endif

#ifndef TREE_MODEL_EVENT
void event_tell(sync_u64 *) { abort(); }
void event_close(sync_u64 *) { abort(); }
#endif
