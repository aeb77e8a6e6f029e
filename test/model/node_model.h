/* node_model.h: the memory of src/node.c in a model. A context's cell is not zeroed, a family's is; a link does not
 * stand inside the node, for its two words are variables of the checker.
 * SPDX-License-Identifier: BSD-2-Clause */
/* No context that signals end: handler_model.cc is about these. */
void handler_put(void *) { abort(); }
void handler_remove(void *) { abort(); }
void handler_settle(void (*)(void *, uint32_t)) { abort(); }
struct cctx *core_new(struct thread *) { return model_make<struct cctx>(0, false); }
static void core_free(struct thread *, struct cctx *n) { model_free(n); }
static struct family *family_new(struct thread *, struct cctx_domain *) { return model_make<struct family>(); }
static void family_free(struct thread *, struct cctx_domain *, struct family *f) { model_free(f); }
static bool slot_is_inline(struct family *f, sync_ptr *slot) { return (uintptr_t)slot - (uintptr_t)f < sizeof *f; }
static struct cctx *node_of(struct epoch_link *link) { return (struct cctx *)(void *)link; }
static struct epoch_link *link_of(struct cctx *n) { return (struct epoch_link *)(void *)n; }

/* The models have the default domain alone. */
void *domain_get(struct cctx_domain *, size_t) { abort(); }
void domain_drop(struct cctx_domain *) { abort(); }
void domain_retire(struct cctx_domain *, struct thread *, struct epoch_link *, void (*)(struct epoch_link *), unsigned)
{
    abort();
}
int64_t domain_now(struct cctx_domain *) { abort(); }
void domain_wake(struct cctx_domain *) { abort(); }
void domain_alarm(struct cctx_domain *) { abort(); }
