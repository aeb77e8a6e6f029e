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
#define alloc_get(size) model_make<struct value>((size) - sizeof(struct value))
#define alloc_get_aligned(align, size) model_make<struct any>()
