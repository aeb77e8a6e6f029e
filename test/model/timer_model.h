/* timer_model.h: the memory of src/timer.c in a model.
 * SPDX-License-Identifier: BSD-2-Clause */
static struct directory *directory_new(const struct allocator *) { return model_make<struct directory>(); }
static void directory_free(const struct allocator *, struct directory *g) { model_free(g); }
