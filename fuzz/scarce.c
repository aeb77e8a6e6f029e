/* SPDX-License-Identifier: BSD-2-Clause */
/* scarce: in place of the library's allocator, one that counts what is out and refuses when it is told to. */
#include "scarce.h"

#include "alloc.h"
#include "cell.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static size_t blocks;
static bool refusing, stays, refused;
static unsigned grants;

void scarce_refuse(unsigned after, bool stay)
{
    refusing = true;
    stays = stay;
    refused = false;
    grants = after;
}

bool scarce_relent(void)
{
    bool was = refused;
    refusing = refused = false;
    return was;
}

bool scarce_refused(void) { return refused; }
bool scarce_refusing(void) { return refusing || refused; }
size_t scarce_blocks(void) { return blocks; }

static bool refuse(void)
{
    if (!refusing) return false;
    if (grants > 0) {
        grants--;
        return false;
    }
    refusing = stays;
    refused = true;
    return true;
}

static void *out(void *p)
{
    if (!p) abort();                    /* the machine itself has no memory: nothing is learned from that */
    blocks++;
    return p;
}

void *alloc_get(size_t size)
{
    if (refuse()) return NULL;
    return out(calloc(1, size));
}

void *alloc_get_aligned(size_t align, size_t size)
{
    if (refuse()) return NULL;
    void *p;
    if (posix_memalign(&p, align, size) != 0) abort();
    return memset(out(p), align == CELL_SIZE && size == CELL_SIZE ? 0xa5 : 0, size);
}

void *alloc_resize(void *old, size_t size)
{
    if (refuse()) return NULL;
    void *p = malloc(size);
    if (!p) abort();
    if (!old) return out(p);
    size_t before = malloc_usable_size(old);
    memcpy(p, old, before < size ? before : size);
    free(old);
    return p;
}

void alloc_put(void *p)
{
    if (!p) return;
    blocks--;
    free(p);
}
