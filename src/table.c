/* Layer 4, mechanism. table: an immutable map from the address of a key to a value; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "table.h"

enum {
    ARRAY_MAX = 8,
    BITS = 4,
    WIDTH = 1 << BITS,
    INDEX_NONE = 59             /* shifts are less */
};

/* A child is a node, or a pair (or `none`) whose address has its low bit set. */
struct trie {
    struct trie *next;          /* in the path of the table that owns it */
    const void *child[WIDTH];
};

/* Multiplication by the golden ratio's odd number (Knuth's multiplicative hashing): a bijection of 64 bits whose upper
 * ones spread the low entropy of addresses. */
static uint64_t mix(const void *key) { return (uintptr_t)key * (uint64_t)0x9e3779b97f4a7c15u; }

/* The four bits at a level of the trie, the uppermost first. */
static unsigned digit(uint64_t h, unsigned level) { return h >> (60 - level * BITS) & (WIDTH - 1); }

/* Where four bits of the mix from shift + 2 on stand in the index. */
static unsigned place(uint64_t h, unsigned shift) { return h >> shift & 60; }

static bool is_pair(const void *c) { return ((uintptr_t)c & 1) != 0; }
static const struct pair *pair_of(const void *c) { return (const struct pair *)((uintptr_t)c - 1); }
static const void *child_of(const struct pair *p) { return (const void *)((uintptr_t)p + 1); }

static const struct pair none;          /* where no key leads; no key is NULL */

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

static struct trie *trie_copy(const struct allocator *a, struct table *t, const struct trie *from)
{
    struct trie *n = (struct trie *)block_get(a, sizeof *n);
    if (!n) return NULL;
    for (unsigned i = 0; i < WIDTH; i++) n->child[i] = from ? from->child[i] : child_of(&none);
    n->next = t->path;
    t->path = n;
    return n;
}

/* Adds p to t's trie, whose root t owns: goes down by the mixed key and copies what it does not own. */
static bool trie_add(const struct allocator *a, struct table *t, struct trie *root, const struct pair *p)
{
    struct trie *n = root;
    uint64_t h = mix(p->key);
    for (unsigned level = 0;; level++) {
        const void **c = &n->child[digit(h, level)];
        if (*c == child_of(&none) || (is_pair(*c) && pair_of(*c)->key == p->key)) {
            *c = child_of(p);
            return true;
        }
        const struct pair *other = is_pair(*c) ? pair_of(*c) : NULL;
        struct trie *down = trie_copy(a, t, other ? NULL : (const struct trie *)*c);
        if (!down) return false;
        if (other) down->child[digit(mix(other->key), level + 1)] = *c;
        *c = down;
        n = down;
    }
}

/* Finds four bits of the mix by which the pairs differ. Without such the search goes by one pair after the other. */
static void array_index(struct table *t, unsigned shift)
{
    for (unsigned tries = 0; tries < INDEX_NONE; tries++, shift = (shift + 1) % INDEX_NONE) {
        uint64_t taken = 0;
        unsigned i = 0;
        for (t->at = 0; i < t->count; i++) {
            unsigned p = place(mix(t->pair[i].key), shift);
            if (taken >> p & 1) break;
            taken |= (uint64_t)1 << p;
            t->at |= (uint64_t)i << p;
        }
        t->shift = shift;
        if (i == t->count) return;
    }
    t->shift = INDEX_NONE;
}

bool table_make(const struct allocator *a, struct table *t, const struct table *base, const void *key, void *value)
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
        array_index(t, base && base->shift != INDEX_NONE ? base->shift : 0);
        return true;
    }
    struct trie *root = trie_copy(a, t, base->root);
    bool made = root != NULL;
    for (unsigned i = 0; made && !base->root && i < base->count; i++) made = trie_add(a, t, root, &base->pair[i]);
    made = made && trie_add(a, t, root, &t->own);
    t->root = root;
    if (!made) table_drop(a, t);
    return made;
}

void table_drop(const struct allocator *a, struct table *t)
{
    for (struct trie *n = t->path, *next; n; n = next) {
        next = n->next;
        block_put(a, n);
    }
    t->path = NULL;
}

void *table_get(const struct table *t, const void *key)
{
    if (!t) return NULL;
    uint64_t h = mix(key);
    if (!t->root) {
        const struct pair *p = t->pair, *end = p + t->count;
        if (likely(t->shift != INDEX_NONE)) {
            p += t->at >> place(h, t->shift) & (WIDTH - 1);
            return p->key == key ? p->value : NULL;
        }
        while (p < end && p->key != key) p++;
        return p < end ? p->value : NULL;
    }
    const void *c = t->root;
    do {
        c = ((const struct trie *)c)->child[digit(h, 0)];
        h <<= BITS;
    } while (!is_pair(c));
    return pair_of(c)->key == key ? pair_of(c)->value : NULL;
}
