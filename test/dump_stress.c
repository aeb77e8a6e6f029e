/* SPDX-License-Identifier: BSD-2-Clause */
/* A tree of 100,000 contexts is dumped while other threads derive, cancel and free in it: each that stays is told
 * exactly once, the dump ends, and nothing is left. P1, P2. */
#include "support.h"

#include <cctx/inspect.h>

enum { STAY = 100000, CHURNERS = 3, DUMPS = 3, HELD = 64 };

static const cctx_key_t key = {"key", NULL};
static const cctx_cause_t borrowed = {5, "borrowed"};
static cctx_t *stays[STAY];
static size_t stay;
static uint32_t over;

/* Derives and drops below what stays, in all ways, until it is over. */
static void churn(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed_value, index);
    cctx_t *held[HELD] = {NULL};
    FILE *out = arg;
    if (index == CHURNERS) { /* the one that dumps */
        for (int i = 0; i < DUMPS; i++) {
            fprintf(out, "dump %d\n", i);
            CHECK(cctx_dump(stays[0], out, CCTX_DUMP_TEXT) == 0);
        }
        __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
        return;
    }
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        size_t i = (size_t)rng_below(&rng, HELD), n = (size_t)rng_below(&rng, HELD);
        const cctx_t *parent = n != i && held[n] && rng_below(&rng, 2) ? held[n] : stays[rng_below(&rng, stay)];
        if (held[i] && rng_below(&rng, 3) == 0)
            cctx_cancel_causef(held[i], (int)i, "cause %zu", i);
        else if (held[i] && rng_below(&rng, 3) == 0)
            cctx_cancel_cause(held[i], &borrowed);
        cctx_unref(held[i]);
        const cctx_t *value = NULL;
        switch (rng_below(&rng, 5)) {
        case 0:
            held[i] = cctx_with_any((const cctx_t *[]){parent, stays[rng_below(&rng, stay)], cctx_background()}, 3);
            break;
        case 1:
            value = cctx_with_value(parent, &key, NULL);
            held[i] = cctx_with_timeout(value, CCTX_MS((int64_t)rng_below(&rng, 50)));
            cctx_unref(value);
            break;
        case 2: held[i] = cctx_with_any((const cctx_t *[]){cctx_background(), parent}, 2); break;
        default: held[i] = cctx_with_cancel(parent);
        }
        CHECK(held[i]);
    }
    for (int i = 0; i < HELD; i++)
        cctx_unref(held[i]);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* B7 */
static void what_stays_is_told_exactly_once_under_churn(void **state)
{
    (void)state;
    cctx_stats_t before = {.size = sizeof before}, after = {.size = sizeof after};
    cctx_stats(&before);
    rng_t rng = rng_make(test_seed(), 99);
    char *text = NULL, *line, *next;
    size_t size = 0;
    stay = SCALED(STAY);
    FILE *out = open_memstream(&text, &size);
    stays[0] = cctx_with_cancel(cctx_background());
    for (size_t i = 1; i < stay; i++) /* wide here, deep there */
        stays[i] = cctx_with_cancel(stays[rng_below(&rng, 4) ? rng_below(&rng, i) : rng_below(&rng, 3) ? i - 1 : 0]);
    threads_run(CHURNERS + 1, churn, out);
    fclose(out);

    uintptr_t *told = malloc(size / 16 * sizeof *told), *known = malloc(stay * sizeof *known);
    size_t n = 0;
    for (size_t i = 0; i < stay; i++)
        known[i] = (uintptr_t)stays[i];
    qsort(known, stay, sizeof *known, by_address);
    for (line = text; (next = strchr(line, '\n')) != NULL; line = next + 1) {
        *next = '\0';
        char *id = strstr(line, " 0x");
        if (!id) {
            assert_int_equal(strncmp(line, "dump ", 5), 0);
            n = 0;
        } else if (!strstr(line, "stands elsewhere")) {
            told[n++] = (uintptr_t)strtoull(id, NULL, 0);
        }
        if (next[1] != '\0' && strncmp(next + 1, "dump ", 5) != 0)
            continue;
        if (n == 0)
            continue;
        qsort(told, n, sizeof *told, by_address);
        size_t t = 0;
        for (size_t i = 0; i < stay; i++) {
            while (t < n && told[t] < known[i])
                t++;
            assert_true(t < n && told[t] == known[i]);
            assert_true(t + 1 == n || told[t + 1] != known[i]);
        }
    }
    free(told);
    free(known);
    free(text);
    for (size_t i = stay; i-- > 0;)
        cctx_unref(stays[i]);
    cctx_stats(&after);
    assert_int_equal(after.live, before.live);
    assert_int_equal(after.armed, before.armed);
    assert_int_equal(after.waiters, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_stays_is_told_exactly_once_under_churn)};
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
