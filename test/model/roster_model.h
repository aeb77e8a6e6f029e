/* roster_model.h: the memory of src/roster.c in a model; a slot finds its chunk by search.
 * SPDX-License-Identifier: BSD-2-Clause */
static struct chunk *chunk_new(struct roster *) { return model_make<struct chunk>(); }
static void chunk_free(struct roster *, struct chunk *k) { model_free(k); }
static struct roster *roster_alloc(const struct allocator *, unsigned) { return model_make<struct roster>(); }
static void roster_dealloc(struct roster *r) { model_free(r); }
struct chunk *chunk_of(sync_ptr *slot) { return (struct chunk *)(void *)model_block_of(slot)->memory; }
