/* Layer 4, mechanism. table: an immutable map from the address of a key to a value; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A table adds one pair to another one, its base, and shares the base's memory: whoever keeps a table keeps its
 * base. Up to eight keys are an array, copied, with an index of one word; from the ninth on a 16-way trie over a mixed
 * key, of which the new table owns just the copied path.
 *
 *   V1  Lookup takes one comparison (eight where no four bits of the mixed keys tell them apart), or 16 steps: the mix
 *       is a bijection, so two keys part somewhere in its 64 bits.
 *   V2  A table that replaces a key is no larger than its base. */
#ifndef CCTXI_TABLE_H
#define CCTXI_TABLE_H

#include "block.h"

struct pair {
    const void *key;
    void *value;
};

struct trie;

struct table {
    struct pair own;            /* what this table adds */
    const struct trie *root;    /* NULL: the pairs are in the array */
    struct trie *path;          /* the nodes of the trie that this table owns */
    uint64_t at;                /* of an array: 16 numbers of pairs, by four bits of the mixed key */
    unsigned shift;             /* which bits they are */
    unsigned count;
    struct pair pair[];         /* newest first */
};

/* The bytes of a table that adds key to base (NULL: the empty table). */
size_t table_size(const struct table *base, const void *key);
/* Makes t, of table_size bytes; false without memory: t is not to be used. What it owns comes from a. */
bool table_make(const struct allocator *a, struct table *t, const struct table *base, const void *key, void *value);
/* Frees what t owns, but for t itself. */
void table_drop(const struct allocator *a, struct table *t);
/* NULL where the key is not there, as NULL never is. */
void *table_get(const struct table *t, const void *key);

#endif
