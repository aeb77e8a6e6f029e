/* derive_model.h: the roots of src/derive.c in a model, and the memory of its kinds of context.
 * SPDX-License-Identifier: BSD-2-Clause */
static struct cctx background, todo;
static void derive_boot()
{
    struct cctx *root[] = {&background, &todo};
    for (unsigned i = 0; i < 2; i++) {
        sync_set(root[i]->done, &node_never);
        sync_init(&root[i]->state, (uint32_t)i << KIND_SHIFT);
        sync_init(&root[i]->refs, 1u);
        sync_set(root[i]->deadline, CCTX_NEVER);
    }
}
static struct value *value_get(struct cctx *, size_t size)
{
    return model_make<struct value>(size - sizeof(struct value));
}
static void value_put(struct cctx *, struct value *v) { model_free(v); }
static struct any *any_get(struct cctx_domain *, size_t) { return model_make<struct any>(); }
