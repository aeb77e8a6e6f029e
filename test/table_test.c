/* SPDX-License-Identifier: BSD-2-Clause */
/* table: it answers as a list of pairs would, shares its base, and a lookup is bounded whatever the keys. */
#include "support.h"

#include "table.h"

enum { ARRAY_MOST = 8 };                /* keys of an array; from the next one on it is a trie */

/* A table that the test owns; the base is kept by whoever made it. */
static struct table *table_new(const struct table *base, const void *key, void *value)
{
    struct table *t = malloc(table_size(base, key));
    assert_non_null(t);
    assert_true(table_make(NULL, t, base, key, value));
    assert_ptr_equal(t->own.key, key);
    assert_ptr_equal(t->own.value, value);
    return t;
}

static void table_free(struct table *t)
{
    table_drop(NULL, t);
    free(t);
}

static unsigned path_length(const struct table *t)
{
    unsigned n = 0;
    const void *node = t->path;
    for (; node; node = *(void *const *)node) n++;
    return n;
}

static void the_empty_table_has_nothing(void **state)
{
    (void)state;
    assert_null(table_get(NULL, state));
}

static void a_value_may_be_null_and_hides_the_one_below(void **state)
{
    (void)state;
    static char key[20];
    struct table *t[20];
    for (int i = 0; i < 20; i++) t[i] = table_new(i ? t[i - 1] : NULL, &key[i], &key[i]);
    struct table *hides = table_new(t[4], &key[2], NULL), *hides_in_trie = table_new(t[19], &key[2], NULL);
    assert_null(table_get(hides, &key[2]));
    assert_null(table_get(hides_in_trie, &key[2]));
    assert_ptr_equal(table_get(t[19], &key[2]), &key[2]);
    table_free(hides);
    table_free(hides_in_trie);
    for (int i = 0; i < 20; i++) table_free(t[i]);
}

/* Each table of a long history goes on to answer as the list of pairs did when it was made. */
static void every_table_answers_as_its_list_of_pairs(void **state)
{
    (void)state;
    enum { TABLES = 400, KEYS = 120 };
    static char key[KEYS], value[TABLES];
    static struct table *t[TABLES];
    static unsigned base[TABLES], added[TABLES];
    rng_t rng = rng_make(test_seed(), 0);
    for (unsigned i = 0; i < TABLES; i++) {
        base[i] = i < 5 ? 0 : i - 1 - (unsigned)rng_below(&rng, 5);     /* a tree of histories */
        added[i] = (unsigned)rng_below(&rng, KEYS);
        t[i] = table_new(i ? t[base[i]] : NULL, &key[added[i]], &value[i]);
    }
    for (unsigned i = 0; i < TABLES; i++)
        for (unsigned k = 0; k < KEYS; k++) {
            void *expected = NULL;
            for (unsigned j = i;; j = base[j]) {
                if (added[j] == k) expected = &value[j];
                if (expected || j == 0) break;
            }
            assert_ptr_equal(table_get(t[i], &key[k]), expected);
        }
    for (unsigned i = 0; i < TABLES; i++) table_free(t[i]);
}

/* Claim V2: to replace a key takes no more than the base has, however often. */
static void a_key_that_is_replaced_takes_no_more(void **state)
{
    (void)state;
    static char key[60];
    struct table *t[60];
    for (unsigned i = 0; i < 60; i++) t[i] = table_new(i ? t[i - 1] : NULL, &key[i], &key[i]);
    for (unsigned i = 0; i < 60; i++) {
        struct table *chain[30];
        unsigned most = 0;
        for (unsigned j = 0; j <= i; j++) {
            assert_true(table_size(t[i], &key[j]) <= table_size(i ? t[i - 1] : NULL, &key[i]));
            for (unsigned again = 0; again < 30; again++) {
                chain[again] = table_new(again ? chain[again - 1] : t[i], &key[j], &key[again]);
                assert_int_equal(chain[again]->count, t[i]->count);
                if (again == 0) most = path_length(chain[0]);
                assert_int_equal(path_length(chain[again]), most);
            }
            for (unsigned again = 0; again < 30; again++) table_free(chain[again]);
        }
    }
    for (unsigned i = 0; i < 60; i++) table_free(t[i]);
}

static uint64_t inverse(uint64_t odd)
{
    uint64_t x = odd;
    for (int i = 0; i < 6; i++) x *= 2 - odd * x;
    return x;
}

/* The key whose mix is h: the mix is a bijection, so it can be undone. Never dereferenced. */
static const void *key_of_mix(uint64_t h)
{
    return (const void *)(uintptr_t)(h * inverse(0x9e3779b97f4a7c15u));
}

/* Claim V1 at its worst: keys that differ in the lowest four bits of the mix alone part on the 16th level. */
static void the_worst_keys_part_within_sixteen_levels(void **state)
{
    (void)state;
    if (sizeof(void *) < sizeof(uint64_t))
        NOT_APPLICABLE("addresses of 32 bits cannot be chosen by their mix of 64");
    enum { N = 16 };
    const void *key[N + ARRAY_MOST];
    struct table *t[N + ARRAY_MOST];
    for (unsigned i = 0; i < ARRAY_MOST; i++) key[i] = key_of_mix((uint64_t)(i + 1) << 60);
    for (unsigned i = 0; i < N; i++)
        key[ARRAY_MOST + i] = key_of_mix(0x123456789abcde0u + i);
    for (unsigned i = 0; i < N + ARRAY_MOST; i++) {
        t[i] = table_new(i ? t[i - 1] : NULL, key[i], &key[i]);
        assert_true(path_length(t[i]) <= 16 + (i == ARRAY_MOST ? ARRAY_MOST : 0));
        for (unsigned j = 0; j < N + ARRAY_MOST; j++)
            assert_ptr_equal(table_get(t[i], key[j]), j <= i ? &key[j] : NULL);
    }
    assert_int_equal(path_length(t[N + ARRAY_MOST - 1]), 16);
    for (unsigned i = 0; i < N + ARRAY_MOST; i++) table_free(t[i]);
}

/* One key differs from the next in the uppermost bit of the mix alone, the next two in the lowest: no four bits tell all of
 * them apart. */
static void keys_that_no_bits_tell_apart_are_found(void **state)
{
    (void)state;
    static const uint64_t h[] = {1, ((uint64_t)1 << 63) + 1, 0x0123456789abcde0, 0x0123456789abcde1};
    struct table *t[4];
    const void *key[4];
    for (unsigned i = 0; i < 4; i++) key[i] = sizeof(void *) < sizeof(uint64_t) ? (const void *)&h[i] : key_of_mix(h[i]);
    for (unsigned i = 0; i < 4; i++) {
        t[i] = table_new(i ? t[i - 1] : NULL, key[i], &key[i]);
        for (unsigned j = 0; j < 4; j++) assert_ptr_equal(table_get(t[i], key[j]), j <= i ? &key[j] : NULL);
    }
    for (unsigned i = 0; i < 4; i++) table_free(t[i]);
}

/* Up to eight keys are an array of just these pairs, in the table's own memory. */
static void few_keys_are_an_array(void **state)
{
    (void)state;
    static char key[9];
    struct table *t[9];
    for (unsigned i = 0; i < 9; i++) {
        t[i] = table_new(i ? t[i - 1] : NULL, &key[i], NULL);
        assert_int_equal(t[i]->root == NULL, i < ARRAY_MOST);
        if (i < ARRAY_MOST)
            assert_int_equal(table_size(i ? t[i - 1] : NULL, &key[i]),
                             sizeof(struct table) + (i + 1) * sizeof(struct pair));
    }
    for (unsigned i = 0; i < 9; i++) table_free(t[i]);
}

/* What stands behind the array is another's. */
static void a_search_ends_with_the_array(void **state)
{
    (void)state;
    static char key[2];
    struct table *t = malloc(table_size(NULL, &key[0]) + sizeof(struct pair));
    assert_non_null(t);
    assert_true(table_make(NULL, t, NULL, &key[0], &key[0]));
    t->pair[1] = (struct pair){&key[1], &key[1]};
    t->shift = 59;              /* no index */
    assert_ptr_equal(table_get(t, &key[0]), &key[0]);
    assert_null(table_get(t, &key[1]));
    table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_table_has_nothing),
        cmocka_unit_test(a_value_may_be_null_and_hides_the_one_below),
        cmocka_unit_test(every_table_answers_as_its_list_of_pairs),
        cmocka_unit_test(a_key_that_is_replaced_takes_no_more),
        cmocka_unit_test(the_worst_keys_part_within_sixteen_levels),
        cmocka_unit_test(keys_that_no_bits_tell_apart_are_found),
        cmocka_unit_test(few_keys_are_an_array),
        cmocka_unit_test(a_search_ends_with_the_array),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
