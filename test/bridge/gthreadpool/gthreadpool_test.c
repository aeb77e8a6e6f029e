/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to GLib's GThreadPool. */
#include "pools_tests.h"

#include <cctx/bridge/gthreadpool.h>
#include <dlfcn.h>

/* ---- what is refused ---- */

static bool refuse_malloc;
static uint32_t pushes_refused;
static int threads_allowed = INT_MAX;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return refuse_malloc ? NULL : __real_malloc(size);
}

gboolean __real_g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error);
gboolean __wrap_g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error);
gboolean __wrap_g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    gboolean result = __real_g_thread_pool_push(pool, data, error);
    if (!result)
        tasks_add(&pushes_refused);
    return result;
}

/* GLib makes its threads by this one. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return threads_allowed-- > 0 ? real(thread, attr, fn, arg) : EAGAIN;
}

/* ---- what the tests of all pools ask for ---- */

const bool pool_outside = true;

bool pool_mine(void)
{
    return marked;
}

void pool_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg)
{
    cctx_gthreadpool_t pool;
    CHECK(cctx_gthreadpool_open(&pool, POOL_THREADS) == 0);
    pool_mark(&pool.executor);
    body(&pool.executor, arg);
    cctx_gthreadpool_close(&pool);
}

typedef struct bare {
    void (*fn)(void *arg);
} bare_t;

static void bare_run(gpointer data, gpointer user)
{
    ((bare_t *)user)->fn(data);
}

void pool_bare(unsigned n, void (*fn)(void *arg), void (*wait)(void *arg), void *arg)
{
    bare_t bare = {fn};
    GThreadPool *pool = g_thread_pool_new(bare_run, &bare, POOL_THREADS, TRUE, NULL);
    for (unsigned i = 0; i < n; i++)
        g_thread_pool_push(pool, arg, NULL);
    wait(arg);
    g_thread_pool_free(pool, FALSE, TRUE);
}

/* ---- the tests of this one ---- */

static void a_task_without_memory_runs_once_where_it_is_started(void **state)
{
    cctx_gthreadpool_t pool;
    counted_t counted = {0};
    (void)state;
    assert_int_equal(cctx_gthreadpool_open(&pool, 1), 0);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    called_t called = {0};
    cctx_callback_t callback = {{0}};
    assert_int_equal(cctx_after_func_on(ctx, &callback, &pool.executor, called_back, &called), 0);
    refuse_malloc = true;
    int err = pool.executor.submit(&pool.executor, bare_count, &counted);
    cctx_cancel(ctx);
    refuse_malloc = false;
    assert_int_equal(err, ENOMEM);
    assert_int_equal(called.times, 1);
    assert_true(pthread_equal(called.thread, pthread_self()));
    cctx_gthreadpool_close(&pool);
    assert_int_equal(counted.ran, 0);
    assert_int_equal(called.times, 1);
    cctx_unref(ctx);
}

static void a_push_that_makes_no_thread_runs_its_task_once(void **state)
{
    cctx_gthreadpool_t pool;
    tasks_t tasks = {0};
    (void)state;
    threads_allowed = 1;
    assert_int_equal(cctx_gthreadpool_open(&pool, POOL_THREADS), 0);
    cctx_group_t *group = cctx_group_new(cctx_background(), &pool.executor, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(cctx_group_go(group, task_count, &tasks), 0);
    assert_int_equal(cctx_group_wait(group), 0);
    threads_allowed = INT_MAX;
    assert_true(pushes_refused > 0);
    assert_int_equal(tasks.ran, 100);
    cctx_group_free(group);
    cctx_gthreadpool_close(&pool);
    assert_int_equal(tasks.ran, 100);
}

static void a_close_runs_what_is_queued(void **state)
{
    cctx_gthreadpool_t pool;
    counted_t counted = {0};
    (void)state;
    assert_int_equal(cctx_gthreadpool_open(&pool, 1), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(pool.executor.submit(&pool.executor, bare_count, &counted), 0);
    cctx_gthreadpool_close(&pool);
    assert_int_equal(counted.ran, 1000);
}

static void a_pool_without_a_thread_is_none(void **state)
{
    cctx_gthreadpool_t pool;
    (void)state;
    threads_allowed = 0;
    int err = cctx_gthreadpool_open(&pool, POOL_THREADS);
    threads_allowed = INT_MAX;
    assert_int_equal(err, EAGAIN);
    assert_int_equal(cctx_gthreadpool_open(&pool, 0), EINVAL);
    assert_int_equal(cctx_gthreadpool_open(&pool, -1), EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOLS_TESTS,
        cmocka_unit_test(a_task_without_memory_runs_once_where_it_is_started),
        cmocka_unit_test(a_push_that_makes_no_thread_runs_its_task_once),
        cmocka_unit_test(a_close_runs_what_is_queued),
        cmocka_unit_test(a_pool_without_a_thread_is_none),
    };
    watchdog(200);
    g_thread_pool_set_max_unused_threads(0); /* a pool gets no thread that another one has left */
    return cmocka_run_group_tests_name("gthreadpool", tests, NULL, NULL);
}
