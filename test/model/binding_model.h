/* binding_model.h: the memory of src/binding.c in a model.
 * SPDX-License-Identifier: BSD-2-Clause */
static struct binding *binding_alloc(void) { return model_make<struct binding>(); }
static void binding_free(struct epoch_link *link) { model_free(container_of(link, struct binding, link)); }
