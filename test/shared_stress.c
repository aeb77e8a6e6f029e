/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that make, cancel, bind and drop tokens of one arena at once: S1, S3, N1, N2 of arena.h and binding.h. Then
 * the same while another one writes whatever it likes into the arena's bytes: nothing crashes or hangs, and what is
 * bound ends. B5.
 */
#include "support.h"

#include "watch.h"
#include <cctx/shared.h>

enum { THREADS = 4, CAPACITY = 24, TOKENS = 16, KEPT = 8, LONG = 60 };

static cctx_shared_t *arena;
static uint64_t tokens[TOKENS];
static uint64_t won, made;
static uint32_t busy;
static bool damaged;

static uint64_t *token_at(rng_t *rng) { return &tokens[rng_below(rng, TOKENS)]; }
static uint64_t token_get(rng_t *rng) { return __atomic_load_n(token_at(rng), __ATOMIC_ACQUIRE); }

static void cancel(uint64_t token)
{
    if (cctx_shared_cancel(arena, token))
        __atomic_fetch_add(&won, 1, __ATOMIC_RELAXED);
}

static void make(rng_t *rng)
{
    uint64_t token = cctx_shared_token(arena, CCTX_NEVER);
    CHECK(token != 0 || errno == ENOSPC || (damaged && errno == EBADMSG));
    if (token == 0)
        return;
    __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
    cancel(__atomic_exchange_n(token_at(rng), token, __ATOMIC_ACQ_REL));
}

static void end(cctx_t **ctx, uint64_t token)
{
    if (*ctx && !damaged) {
        cancel(token);
        CHECK(cctx_wait(*ctx) == ECANCELED);
    }
    cctx_unref(*ctx);
    *ctx = NULL;
}

static void work(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed_value, index);
    cctx_t *kept[KEPT] = {NULL};
    uint64_t bound[KEPT] = {0};
    int rounds = *(int *)arg;
    for (int i = 0; i < rounds; i++) {
        unsigned k = (unsigned)rng_below(&rng, KEPT);
        switch (rng_below(&rng, 6)) {
        case 0:
        case 1: make(&rng); break;
        case 2: cancel(token_get(&rng)); break;
        case 3:
            cctx_unref(kept[k]);
            bound[k] = token_get(&rng);
            kept[k] = bound[k] ? cctx_with_shared(cctx_background(), arena, bound[k]) : NULL;
            CHECK(kept[k] || !bound[k] || damaged);
            break;
        case 4: end(&kept[k], bound[k]); break;
        default:
            if (kept[k] && cctx_is_done(kept[k]))
                CHECK(cctx_cause(kept[k]) != NULL);
        }
    }
    for (int k = 0; k < KEPT; k++) end(&kept[k], bound[k]);
    __atomic_fetch_sub(&busy, 1, __ATOMIC_ACQ_REL);
}

static void begin(unsigned threads, bool damage)
{
    test_seed();
    watchdog(LONG);
    memset(tokens, 0, sizeof tokens);
    won = made = 0;
    busy = threads;
    damaged = damage;
    arena = cctx_shared_create(CAPACITY);
    CHECK(arena != NULL);
}

static void each_token_is_canceled_once_and_each_binding_ends(void **state)
{
    (void)state;
    int rounds = SCALED(20000);
    begin(THREADS, false);
    threads_run(THREADS, work, &rounds);
    for (int i = 0; i < TOKENS; i++) cancel(tokens[i]);
    assert_true(won == made);
    cctx_shared_free(arena);
    watchdog(0);
}

/* Thread 0 writes, the others work. Its words are of all kinds: noise, one bit, what stands elsewhere. */
static void work_or_damage(unsigned index, void *arg)
{
    if (index > 0) {
        work(index, arg);
        return;
    }
    rng_t rng = rng_make(test_seed_value, 99);
    size_t words = arena->size / 8;
    uint64_t *at = (uint64_t *)(void *)arena->bindings.arena.head;
    while (__atomic_load_n(&busy, __ATOMIC_ACQUIRE) > 0) {
        /* The head rarely, since with that all is corrupt; the slots mostly. */
        size_t i = (size_t)(rng_below(&rng, 64) ? words - 1 - rng_below(&rng, 2 * CAPACITY) : rng_below(&rng, words));
        uint64_t word = rng_below(&rng, 2) ? rng_next(&rng) >> rng_below(&rng, 64)
                                           : __atomic_load_n(&at[i], __ATOMIC_RELAXED) ^ (uint64_t)1 << rng_below(&rng, 64);
        uint64_t before = __atomic_exchange_n(&at[i], word, __ATOMIC_RELAXED);
        if (i < 24 || rng_below(&rng, 2))
            __atomic_store_n(&at[i], before, __ATOMIC_RELAXED);
    }
}

static void whatever_is_written_into_it_nothing_crashes_or_hangs(void **state)
{
    (void)state;
    int rounds = SCALED(2000);
    for (int i = 0; i < 8; i++) {
        begin(THREADS - 1, true);
        cctx_token_t token = cctx_shared_token(arena, CCTX_NEVER);
        cctx_t *ctx = cctx_with_shared(cctx_background(), arena, token);
        threads_run(THREADS, work_or_damage, &rounds);
        sync_store_relaxed(&arena->bindings.arena.head->magic, 0u, alone);           /* corrupt, for certain */
        arena_ring(&arena->bindings.arena);
        assert_int_equal(cctx_wait(ctx), ECANCELED);
        cctx_unref(ctx);
        cctx_shared_free(arena);
    }
    watchdog(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_token_is_canceled_once_and_each_binding_ends),
        cmocka_unit_test(whatever_is_written_into_it_nothing_crashes_or_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
