/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that come and go: each uses the library without having registered anywhere, also while it ends,
 * from destructors of thread-specific data in any order; what it leaves behind is the next one's.
 */
#include "support.h"

#include <sched.h>

#define HOUR CCTX_S(3600)

static const cctx_key_t key = {"key", NULL};

static void count(void *arg)
{
    ++*(int *)arg;
}

/* A bit of everything: derive, values, wait, cancel, callbacks, deadlines, free. */
static void use_everything(const cctx_t *parent)
{
    int ran = 0, value = 7;
    cctx_callback_t stopped, run;
    cctx_t *ctx = cctx_with_cancel(parent), *timed = cctx_with_timeout(ctx, HOUR);
    const cctx_t *with = cctx_with_value(timed, &key, &value);
    cctx_t *last = cctx_with_cancel(with);
    CHECK(ctx && timed && with && last);
    CHECK(cctx_value(last, &key) == &value);
    CHECK(cctx_after_func(last, &run, count, &ran) == 0);
    CHECK(cctx_after_func(timed, &stopped, count, &ran) == 0);
    CHECK(cctx_stop(&stopped));
    CHECK(!cctx_wait_for(last, CCTX_US(1)));
    CHECK(cctx_cancel(ctx));
    CHECK(ran == 1);
    CHECK(cctx_wait(last) == ECANCELED);
    cctx_unref(ctx);
    cctx_unref(timed);
    cctx_unref(with);
    cctx_unref(last);
    cctx_t *soon = cctx_with_timeout(parent, CCTX_US(20));
    CHECK(cctx_wait(soon) == ETIMEDOUT);
    cctx_unref(soon);
}

static void *use_main(void *arg)
{
    use_everything(arg);
    return NULL;
}

static void come_and_go(const cctx_t *parent, int threads)
{
    enum { AT_ONCE = 8 };
    for (int i = 0; i < threads; i += AT_ONCE) {
        pthread_t batch[AT_ONCE];
        for (int j = 0; j < AT_ONCE; j++)
            batch[j] = thread_start(use_main, (void *)(uintptr_t)parent);
        for (int j = 0; j < AT_ONCE; j++)
            thread_join(batch[j]);
    }
}

/* C22, C23 */
static void thousands_of_threads_come_and_go_and_leave_no_memory_behind(void **state)
{
    (void)state;
    const int threads = SCALED(8000);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    come_and_go(parent, threads / 4);
    size_t before = memory_in_use();
    come_and_go(parent, threads);
    size_t after = memory_in_use();
    print_message("%d threads: %zu bytes before, %zu after\n", threads, before, after);
    /* A record left by each thread would be more than 64 bytes. */
    assert_true(after < before + (size_t)threads * 64);
    assert_int_equal(cctx_err(parent), 0);
    cctx_close(parent);
}

typedef struct estate {
    cctx_t *parent;
    cctx_t *contexts[100];
    cctx_callback_t callbacks[100];
    int ran;
} estate_t;

static void *leave_contexts(void *arg)
{
    estate_t *estate = arg;
    for (size_t i = 0; i < 100; i++) {
        const cctx_t *above = i % 10 ? estate->contexts[i - 1] : estate->parent;
        estate->contexts[i] = i % 3 ? cctx_with_cancel(above) : cctx_with_timeout(above, HOUR);
        CHECK(cctx_after_func(estate->contexts[i], &estate->callbacks[i], count, &estate->ran) == 0);
    }
    return NULL;
}

static void *free_contexts(void *arg)
{
    estate_t *estate = arg;
    for (size_t i = 0; i < 100; i++)
        cctx_unref(estate->contexts[i]);
    return NULL;
}

/* C20, C23, C28 */
static void contexts_outlive_the_thread_that_made_them_and_are_freed_by_another(void **state)
{
    (void)state;
    const int rounds = SCALED(500);
    size_t before = 0;
    estate_t *estate = calloc(1, sizeof *estate);
    assert_non_null(estate);
    for (int round = -50; round < rounds; round++) {
        if (round == 0)
            before = memory_in_use();
        *estate = (estate_t){.parent = cctx_with_cancel(cctx_background())};
        thread_join(thread_start(leave_contexts, estate));
        for (size_t i = 0; i < 100; i++)
            assert_int_equal(cctx_err(estate->contexts[i]), 0);
        if (round % 2) {
            assert_true(cctx_cancel(estate->parent));
            assert_int_equal(estate->ran, 100);
        } else {
            for (size_t i = 0; i < 100; i++)
                assert_true(cctx_stop_wait(&estate->callbacks[i]));
            assert_int_equal(estate->ran, 0);
        }
        thread_join(thread_start(free_contexts, estate));
        cctx_unref(estate->parent);
    }
    size_t after = memory_in_use();
    print_message("%d rounds of 100 contexts: %zu bytes before, %zu after\n", rounds, before, after);
    assert_true(after < before + 512 * 1024);
    free(estate);
}

/* ---- at the end of a thread ---- */

enum { KEYS = 6 };

static pthread_key_t keys[KEYS];
static unsigned ended, ends;

typedef struct legacy {
    cctx_t *ctx;
    unsigned key, turns;
} legacy_t;

/* Comes back for several turns, so that some uses follow whatever the library itself does at the end. */
static void end_of_thread(void *arg)
{
    legacy_t *legacy = arg;
    use_everything(legacy->ctx);
    if (legacy->turns-- > 1) {
        pthread_setspecific(keys[legacy->key], legacy);
        return;
    }
    cctx_close(legacy->ctx);
    free(legacy);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
}

static void leave_legacy(rng_t *rng, unsigned i)
{
    legacy_t *legacy = malloc(sizeof *legacy);
    CHECK(legacy != NULL);
    *legacy = (legacy_t){cctx_with_timeout(cctx_background(), HOUR), i, 1 + (unsigned)rng_below(rng, 3)};
    CHECK(pthread_setspecific(keys[i], legacy) == 0);
    __atomic_add_fetch(&ends, 1, __ATOMIC_RELAXED);
}

static uint64_t next_stream;

static void *live_and_end(void *arg)
{
    rng_t rng = rng_make(test_seed_value, __atomic_add_fetch(&next_stream, 1, __ATOMIC_RELAXED));
    if (rng_below(&rng, 2))
        use_everything(arg);
    for (unsigned i = 0; i < KEYS; i++) {
        if (rng_below(&rng, 2))
            leave_legacy(&rng, i);
    }
    if (rng_below(&rng, 2))
        use_everything(arg);
    return NULL;
}

/* Half of the keys are older than the library's first use in this process, half are younger; see main. C23 */
static void destructors_of_thread_specific_data_use_the_library(void **state)
{
    (void)state;
    const int rounds = SCALED(400);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    test_seed();
    size_t before = 0;
    for (int round = -100; round < rounds; round++) {
        pthread_t threads[4];
        if (round == 0)
            before = memory_in_use();
        for (size_t i = 0; i < 4; i++)
            threads[i] = thread_start(live_and_end, parent);
        for (size_t i = 0; i < 4; i++)
            thread_join(threads[i]);
    }
    size_t after = memory_in_use();
    print_message("%u destructors: %zu bytes before, %zu after\n", ended, before, after);
    assert_true(ends > 0);
    assert_int_equal(ended, ends);
    assert_true(after < before + 256 * 1024);
    cctx_close(parent);
}

/* What a C++ compiler calls for a thread_local object with a destructor. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

typedef struct object {
    cctx_t *ctx;
} object_t;

static unsigned destroyed;

static void object_destroy(void *arg)
{
    object_t *object = arg;
    use_everything(object->ctx);
    cctx_close(object->ctx);
    free(object);
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
}

static void object_make(void)
{
    object_t *object = malloc(sizeof *object);
    CHECK(object != NULL);
    object->ctx = cctx_with_cancel(cctx_background());
    CHECK(__cxa_thread_atexit_impl(object_destroy, object, &__dso_handle) == 0);
}

static void *live_with_objects(void *arg)
{
    rng_t rng = rng_make(test_seed_value, __atomic_add_fetch(&next_stream, 1, __ATOMIC_RELAXED));
    object_make();
    use_everything(arg);
    leave_legacy(&rng, 0);
    object_make();
    leave_legacy(&rng, KEYS - 1);
    object_make();
    return NULL;
}

/* C23 */
static void destructors_of_thread_local_objects_use_the_library(void **state)
{
    (void)state;
    const int threads = SCALED(1000);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    test_seed();
    ended = ends = destroyed = 0;
    for (int i = 0; i < threads; i++)
        thread_join(thread_start(live_with_objects, parent));
    assert_int_equal(destroyed, 3 * threads);
    assert_int_equal(ended, 2 * threads);
    cctx_close(parent);
}

static void *wait_and_end(void *arg)
{
    CHECK(cctx_wait(arg) == ECANCELED);
    cctx_unref(arg);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* C23, C24 */
static void detached_threads_that_wait_end_with_their_context(void **state)
{
    (void)state;
    enum { N = 50 };
    for (int round = 0; round < 20; round++) {
        int ran = 0;
        cctx_callback_t cb;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        __atomic_store_n(&ended, 0, __ATOMIC_RELAXED);
        for (size_t i = 0; i < N; i++) {
            cctx_t *child = cctx_with_cancel(ctx);
            pthread_t thread = thread_start(wait_and_end, child);
            CHECK(pthread_detach(thread) == 0);
        }
        assert_int_equal(cctx_after_func(ctx, &cb, count, &ran), 0);
        cctx_close(ctx);
        assert_int_equal(ran, 1);
        while (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) < N)
            sched_yield();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destructors_of_thread_specific_data_use_the_library),
        cmocka_unit_test(destructors_of_thread_local_objects_use_the_library),
        cmocka_unit_test(thousands_of_threads_come_and_go_and_leave_no_memory_behind),
        cmocka_unit_test(contexts_outlive_the_thread_that_made_them_and_are_freed_by_another),
        cmocka_unit_test(detached_threads_that_wait_end_with_their_context),
    };
    watchdog(100);
    for (unsigned i = 0; i < KEYS / 2; i++)
        CHECK(pthread_key_create(&keys[i], end_of_thread) == 0);
    use_everything(cctx_background());
    for (unsigned i = KEYS / 2; i < KEYS; i++)
        CHECK(pthread_key_create(&keys[i], end_of_thread) == 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
