/* SPDX-License-Identifier: BSD-2-Clause */
/* table_fuzz: each table of any history answers as the list of its pairs does, for as long as it and its
 * bases live.
 *
 * The keys are chosen by where they stand in the trie: those of one family share so many of the low bits of
 * the mixed key that their paths part as late as they can. */
#include "property.h"
#include "scarce.h"

#include "table.h"
#include <string.h>

enum { MOST_TABLES = 160, MOST_KEYS = 64, ARRAY_MOST = 8, LEVELS = 16, MOST_STEPS = 400 };

struct version {                /* a table, and what the model knows of it: a pair and a base */
    struct table *table;        /* NULL: none, or freed */
    struct version *base;       /* NULL: the empty table */
    const void *key;
    void *value;
    unsigned refs;              /* itself while it lives, and those that have it as their base */
};

static struct version versions[MOST_TABLES];
static const void *keys[MOST_KEYS];
static unsigned version_count, key_count;

/* The inverse of an odd number modulo 2^64: each step of Newton's doubles the bits that are right. */
static uint64_t inverse(uint64_t odd)
{
    uint64_t x = odd;
    for (int i = 0; i < 6; i++) x *= 2 - odd * x;
    return x;
}

/* The key that the table's mix takes to h. Were the mix another one, these keys would be as good as any. */
static const void *key_of(uint64_t h) { return (const void *)(uintptr_t)(h * inverse(0x9e3779b97f4a7c15u)); }

static bool list_has(const struct version *v, const void *key)
{
    for (; v; v = v->base)
        if (v->key == key) return true;
    return false;
}

static void *list_get(const struct version *v, const void *key)
{
    for (; v; v = v->base)
        if (v->key == key) return v->value;
    return NULL;
}

/* The number of keys that v has. */
static unsigned list_count(const struct version *v)
{
    unsigned n = 0;
    for (; v; v = v->base) n += !list_has(v->base, v->key);
    return n;
}

/* The nodes that a table owns are linked by their first words. */
static unsigned path_length(const struct table *t)
{
    unsigned n = 0;
    for (const void *node = t->path; node; node = *(const void *const *)node) n++;
    return n;
}

static void compare(const struct version *v)
{
    for (unsigned i = 0; i < key_count; i++) PROPERTY(table_get(v->table, keys[i]) == list_get(v, keys[i]));
}

static void add(struct version *base, const void *key, void *value)
{
    if (version_count == MOST_TABLES) return;
    struct version v = {.base = base, .key = key, .value = value, .refs = 1};
    const struct table *below = base ? base->table : NULL;
    bool replaces = list_has(base, key);
    unsigned count = list_count(base) + !replaces;
    size_t size = table_size(below, key), blocks = scarce_blocks();
    PROPERTY(size == sizeof(struct table) +
                         (count <= ARRAY_MOST && !(below && below->root) ? count : 0) * sizeof(struct pair));
    struct table *t = malloc(size);         /* of its very size: what is written beyond it is seen */
    if (!t) abort();
    memset(t, 0xa5, size);
    if (!table_make(NULL, t, below, key, value)) {
        PROPERTY(scarce_refused() && scarce_blocks() == blocks);
        free(t);
        return;
    }
    PROPERTY(t->own.key == key && t->own.value == value);
    /* An array that becomes a trie takes its pairs along, each with a path of its own at the most. */
    bool grows = count > ARRAY_MOST && !(below && below->root);
    PROPERTY(path_length(t) <= (grows ? ARRAY_MOST + 1 : 1) * (LEVELS + 1));
    if (replaces && below->root) PROPERTY(path_length(t) <= LEVELS);
    PROPERTY(scarce_blocks() == blocks + path_length(t));
    v.table = t;
    if (base) base->refs++;
    versions[version_count++] = v;
}

static void drop(struct version *v)
{
    while (v && --v->refs == 0) {
        table_drop(NULL, v->table);
        PROPERTY(v->table->path == NULL);
        free(v->table);
        v->table = NULL;
        v = v->base;
    }
}

/* A version whose own reference is still there, or NULL. */
static struct version *pick(struct input *in, const bool *held)
{
    unsigned b = take(in);
    if (b == 0 || version_count == 0) return NULL;
    unsigned i = b < 128 ? b % version_count : version_count - 1 - b % version_count;
    for (unsigned left = version_count; left > 0; left--, i = i > 0 ? i - 1 : version_count - 1)
        if (held[i]) return &versions[i];
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    bool held[MOST_TABLES];
    memset(held, true, sizeof held);
    version_count = key_count = 0;
    size_t before = scarce_blocks();
    keys[key_count++] = NULL;                   /* an address like any other */
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) {
        struct version *v = pick(&in, held);
        unsigned op = take_below(&in, 8);
        switch (op) {
        case 0: {                               /* one more key: near an old one in the trie, or anywhere */
            if (key_count == MOST_KEYS) break;
            static uint64_t hash[MOST_KEYS];
            unsigned shared = take_below(&in, 64);
            uint64_t old = hash[take_below(&in, key_count)], low = ((uint64_t)1 << shared) - 1;
            uint64_t h = (old & low) | (take_u64(&in) & ~low);
            if (h == old) h ^= (uint64_t)1 << 63;
            hash[0] = 0;
            hash[key_count] = h;
            keys[key_count++] = key_of(h);
            break;
        }
        case 1:
            if (v) held[v - versions] = false;
            drop(v);
            break;
        case 2:                                 /* refuses in the midst */
            scarce_refuse(take_below(&in, 24), true);
            add(v, keys[take_below(&in, key_count)], &versions[take_below(&in, MOST_TABLES)]);
            scarce_relent();
            break;
        case 3:                                 /* many keys at a time */
            for (unsigned i = take_below(&in, key_count), n = take_below(&in, 20); n > 0; n--, i++) {
                unsigned was = version_count;
                add(v, keys[i % key_count], &versions[i]);
                if (version_count == was) break;
                v = &versions[version_count - 1];
            }
            break;
        default: {
            unsigned value = take(&in);
            add(v, keys[take_below(&in, key_count)], value < MOST_TABLES ? &versions[value] : NULL);
        }
        }
        for (unsigned i = 0; i < version_count; i++)
            if (versions[i].table && (i % 16 == property_step % 16 || i + 2 > version_count))
                compare(&versions[i]);
    }
    PROPERTY(table_get(NULL, keys[0]) == NULL);
    for (unsigned i = 0; i < version_count; i++)
        if (versions[i].table) compare(&versions[i]);
    for (unsigned i = version_count; i-- > 0;)
        if (held[i]) drop(&versions[i]);
    PROPERTY(scarce_blocks() == before);
    return 0;
}
