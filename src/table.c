/* Layer 4, mechanism. table: an immutable map from the address of a key to a value; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "table.h"
#include "alloc.h"

enum { ARRAY_MAX = 8, BITS = 4, WIDTH = 1 << BITS };

/* A child is NULL, a node, or a pair whose address has its low bit set. */
struct trie {
    struct trie *next;          /* in the path of the table that owns it */
    const void *child[WIDTH];
};

/* The finalizer of MurmurHash3: a bijection of 64 bits that spreads the low entropy of addresses. */
static uint64_t mix(const void *key)
{
    uint64_t h = (uintptr_t)key;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

static bool is_pair(const void *c) { return ((uintptr_t)c & 1) != 0; }
static const struct pair *pair_of(const void *c) { return (const struct pair *)((uintptr_t)c - 1); }
static const void *child_of(const struct pair *p) { return (const void *)((uintptr_t)p + 1); }

static bool array_has(const struct table *t, const void *key)
{
    for (unsigned i = 0; i < t->count; i++)
        if (t->pair[i].key == key) return true;
    return false;
}

/* The number of pairs in an array that adds key to base; more than ARRAY_MAX: it is to be a trie. */
static unsigned array_count(const struct table *base, const void *key)
{
    if (!base) return 1;
    if (base->root) return ARRAY_MAX + 1;
    return base->count + !array_has(base, key);
}

size_t table_size(const struct table *base, const void *key)
{
    unsigned n = array_count(base, key);
    return sizeof(struct table) + (n > ARRAY_MAX ? 0 : n) * sizeof(struct pair);
}

static struct trie *trie_copy(struct table *t, const struct trie *from)
{
    struct trie *n = (struct trie *)alloc_get(sizeof *n);
    if (!n) return NULL;
    if (from) *n = *from;
    n->next = t->path;
    t->path = n;
    return n;
}

/* Adds p to t's trie, whose root t owns: goes down by the mixed key and copies what it does not own. */
static bool trie_add(struct table *t, struct trie *root, const struct pair *p)
{
    struct trie *n = root;
    uint64_t h = mix(p->key);
    for (unsigned level = 0;; level++) {
        const void **c = &n->child[h >> level * BITS & (WIDTH - 1)];
        if (!*c || (is_pair(*c) && pair_of(*c)->key == p->key)) {
            *c = child_of(p);
            return true;
        }
        const struct pair *other = is_pair(*c) ? pair_of(*c) : NULL;
        struct trie *down = trie_copy(t, other ? NULL : (const struct trie *)*c);
        if (!down) return false;
        if (other) down->child[mix(other->key) >> (level + 1) * BITS & (WIDTH - 1)] = *c;
        *c = down;
        n = down;
    }
}

bool table_make(struct table *t, const struct table *base, const void *key, void *value)
{
    t->own.key = key;
    t->own.value = value;
    t->root = NULL;
    t->path = NULL;
    t->count = array_count(base, key);
    if (t->count <= ARRAY_MAX) {
        unsigned n = 0;
        t->pair[n++] = t->own;
        for (unsigned i = 0; base && i < base->count; i++)
            if (base->pair[i].key != key) t->pair[n++] = base->pair[i];
        return true;
    }
    struct trie *root = trie_copy(t, base->root);
    bool made = root != NULL;
    for (unsigned i = 0; made && !base->root && i < base->count; i++) made = trie_add(t, root, &base->pair[i]);
    made = made && trie_add(t, root, &t->own);
    t->root = root;
    if (!made) table_drop(t);
    return made;
}

void table_drop(struct table *t)
{
    for (struct trie *n = t->path, *next; n; n = next) {
        next = n->next;
        alloc_put(n);
    }
    t->path = NULL;
}

void *table_get(const struct table *t, const void *key)
{
    if (!t) return NULL;
    if (!t->root) {
        for (unsigned i = 0; i < t->count; i++)
            if (t->pair[i].key == key) return t->pair[i].value;
        return NULL;
    }
    const void *c = t->root;
    for (uint64_t h = mix(key); c && !is_pair(c); h >>= BITS) c = ((const struct trie *)c)->child[h & (WIDTH - 1)];
    return c && pair_of(c)->key == key ? pair_of(c)->value : NULL;
}
