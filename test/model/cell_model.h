/* cell_model.h: the memory of src/cell.c in a model. A cell finds its page by its address, so pages are aligned.
 * SPDX-License-Identifier: BSD-2-Clause */
struct shelf;
struct page;
static struct shelf *model_shelf();
static struct page *model_page(size_t align);
#define alloc_get(size) model_shelf()
#define alloc_get_aligned(align, size) model_page(align)
