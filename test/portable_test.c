/* SPDX-License-Identifier: BSD-2-Clause */
/* What a processor may do differently: alignment, the size of a pointer and of a second, the order of bytes, locks. */
#include "support.h"

#include <link.h>
#include <sched.h>

static const cctx_cause_t cause = {7, "cause"};

static void note_run(void *arg)
{
    ++*(int *)arg;
}

/* C28, C29, C31: the storage of a callback stands wherever its type may; on i386 that is at each multiple of 4. */
static void a_callback_runs_from_any_address_that_its_type_allows(void **state)
{
    (void)state;
    enum { STEP = _Alignof(cctx_callback_t), PLACES = 64 / STEP };
    static struct {
        _Alignas(64) char byte[PLACES * (sizeof(cctx_callback_t) + STEP)];
    } storage;
    for (int stopped = 0; stopped < 2; stopped++) {
        cctx_callback_t *cb[PLACES];
        int ran[PLACES] = {0};
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        memset(&storage, 0, sizeof storage);
        for (size_t i = 0; i < PLACES; i++) {
            cb[i] = (cctx_callback_t *)(void *)(storage.byte + i * (sizeof(cctx_callback_t) + STEP));
            assert_int_equal(cctx_after_func(ctx, cb[i], note_run, &ran[i]), 0);
        }
        for (size_t i = 0; i < PLACES; i++)
            if (stopped)
                assert_true(cctx_stop(cb[i]));
        assert_true(cctx_cancel(ctx));
        for (size_t i = 0; i < PLACES; i++) {
            assert_int_equal(ran[i], !stopped);
            assert_false(cctx_stop_wait(cb[i]));
        }
        cctx_unref(ctx);
    }
}

/* B1: the legs of a merge stand side by side, at multiples of a pointer's alignment. */
static void a_merge_ends_by_each_of_its_parents_and_lets_go_of_the_others(void **state)
{
    (void)state;
    enum { MOST = 12 };
    for (size_t n = 2; n <= MOST; n++)
        for (size_t ends = 0; ends < n; ends++) {
            cctx_t *parent[MOST];
            for (size_t i = 0; i < n; i++)
                parent[i] = cctx_with_cancel(cctx_background());
            cctx_t *any = cctx_with_any((const cctx_t *const *)parent, n);
            assert_int_equal(cctx_err(any), 0);
            assert_true(cctx_cancel_cause(parent[ends], &cause));
            assert_ptr_equal(cctx_cause(any), &cause);
            cctx_unref(any);
            for (size_t i = 0; i < n; i++)
                cctx_close(parent[i]);
        }
}

/* The frozen part of the ABI is a pointer to a 32-bit word, of which bits are meant, not bytes. C24, C31. */
static void the_done_word_is_the_first_one_and_has_its_bits_in_any_order_of_bytes(void **state)
{
    (void)state;
    cctx_t *canceled = cctx_with_cancel(cctx_background());
    cctx_t *late = cctx_with_timeout(cctx_background(), 0);
    const uint32_t *first;
    memcpy(&first, canceled, sizeof first);
    assert_ptr_equal(first, cctx_done(canceled));
    assert_int_equal(*first & 3u, 0);
    cctx_cancel(canceled);
    assert_int_equal(*first & 3u, 1);
    memcpy(&first, late, sizeof first);
    assert_int_equal(*first & 3u, 3);
    assert_int_equal(cctx_err(late), ETIMEDOUT);
    cctx_unref(canceled);
    cctx_unref(late);
}

static pid_t waiter;        /* 0 until it is about to wait; -1 when it has returned */

static void *wait_far(void *until)
{
    __atomic_store_n(&waiter, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    cctx_wait_until(cctx_background(), *(cctx_time_t *)until);
    __atomic_store_n(&waiter, -1, __ATOMIC_RELEASE);
    return NULL;
}

/* Ends when the kernel says that the waiter sleeps; that may be late, and is not a question of time. */
static void sleep_far(void *until)
{
    char path[64], line[512];
    alarm(60);
    thread_start(wait_far, until);
    for (;;) {
        pid_t tid = __atomic_load_n(&waiter, __ATOMIC_ACQUIRE);
        CHECK(tid != -1);
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
        FILE *file = tid ? fopen(path, "r") : NULL;
        size_t n = file ? fread(line, 1, sizeof line - 1, file) : 0;
        if (file)
            fclose(file);
        line[n] = '\0';
        const char *paren = strrchr(line, ')');
        if (paren && paren[1] == ' ' && paren[2] == 'S')
            break;
        sched_yield();
    }
    _exit(0);
}

/* 2^32 seconds are 136 years. A wait that cuts off the upper half of such a number ends at once, or never sleeps. */
static void a_wait_may_be_longer_than_32_bits_of_seconds(void **state)
{
    (void)state;
    static cctx_time_t until[] = {CCTX_S(((int64_t)1 << 31) + 2), CCTX_S((int64_t)1 << 32),
                                  CCTX_S(((int64_t)1 << 32) + 2), CCTX_S(((int64_t)1 << 33) - 2)};
    for (size_t i = 0; i < sizeof until / sizeof *until; i++)
        assert_int_equal(run_in_child(sleep_far, &until[i]), 0);
}

static void cancel_it(void *arg)
{
    cctx_cancel_cause(arg, &cause);
}

/* C13 */
static void a_deadline_may_be_further_off_than_32_bits_of_seconds(void **state)
{
    (void)state;
    for (int64_t seconds = ((int64_t)1 << 32) + 2; seconds < (int64_t)1 << 33; seconds += (int64_t)1 << 30) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        cctx_t *far = cctx_with_timeout(cctx_background(), CCTX_S(seconds));
        cctx_t *soon = cctx_with_timeout(cctx_background(), CCTX_MS(20));
        cctx_callback_t cb = {{0}};
        assert_int_equal(cctx_after_func(soon, &cb, cancel_it, ctx), 0);
        assert_true(cctx_wait_until(ctx, CCTX_S(seconds)));
        assert_ptr_equal(cctx_cause(ctx), &cause);
        assert_int_equal(cctx_err(far), 0);
        assert_true(cctx_remaining(far) > CCTX_S(seconds - 3600));
        cctx_stop_wait(&cb);
        cctx_unref(soon);
        cctx_close(far);
        cctx_unref(ctx);
    }
}

static int find_libatomic(struct dl_phdr_info *info, size_t size, void *found)
{
    (void)size;
    if (info->dlpi_name && strstr(info->dlpi_name, "libatomic"))
        *(bool *)found = true;
    return 0;
}

/* A word of two halves would be changed under a lock of libatomic's, which a stopped thread holds. */
static void nothing_brings_in_the_locks_of_libatomic(void **state)
{
    (void)state;
    bool found = false;
    dl_iterate_phdr(find_libatomic, &found);
    assert_false(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_may_be_longer_than_32_bits_of_seconds),
        cmocka_unit_test(a_callback_runs_from_any_address_that_its_type_allows),
        cmocka_unit_test(a_merge_ends_by_each_of_its_parents_and_lets_go_of_the_others),
        cmocka_unit_test(the_done_word_is_the_first_one_and_has_its_bits_in_any_order_of_bytes),
        cmocka_unit_test(a_deadline_may_be_further_off_than_32_bits_of_seconds),
        cmocka_unit_test(nothing_brings_in_the_locks_of_libatomic),
    };
    watchdog(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
