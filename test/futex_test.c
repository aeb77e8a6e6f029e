/* SPDX-License-Identifier: BSD-2-Clause */
/* futex: no sleep on a word that has changed, none beyond its time, and a wake reaches all. */
#include "support.h"

#include <dlfcn.h>

#include "clock.h"
#include "futex.h"

static void a_word_that_differs_is_not_slept_on(void **state)
{
    (void)state;
    sync_u32 word = {7};
    watchdog(60);
    errno = 77;
    assert_true(futex_wait(&word, 6, INT64_MAX));
    assert_true(futex_wait(&word, 6, clock_now() + CCTX_S(3600)));
    assert_int_equal(errno, 77);
}

static void a_time_that_has_passed_ends_the_sleep(void **state)
{
    (void)state;
    sync_u32 word = {0};
    const int64_t passed[] = {INT64_MIN, -1, 0, 1, clock_now()};
    watchdog(60);
    errno = 77;
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) assert_false(futex_wait(&word, 0, passed[i]));
    assert_int_equal(errno, 77);
}

static void a_time_to_come_is_waited_out(void **state)
{
    (void)state;
    sync_u32 word = {0};
    watchdog(60);
    for (int64_t ns = 1; ns < 20000000; ns *= 7) {
        int64_t until = clock_now() + ns;
        while (futex_wait(&word, 0, until)) {}
        assert_true(clock_now() >= until);
    }
}

enum { SLEEPERS = 8, ROUNDS = 300 };
static sync_u32 round_word;
static sync_u32 awake;

static void sleep_through_rounds(unsigned index, void *arg)
{
    (void)arg;
    if (index == 0) {
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            sync_add_acqrel(&round_word, 1u, done, none);
            futex_wake(&round_word);
            uint32_t n;
            while ((n = sync_load_acq(&awake, done)) < round * SLEEPERS) futex_wait(&awake, n, INT64_MAX);
        }
        return;
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        while (sync_load_acq(&round_word, done) == round) futex_wait(&round_word, round, INT64_MAX);
        sync_add_acqrel(&awake, 1u, done, none);
        futex_wake(&awake);
    }
}

/* A sleeper that is missed hangs the round. */
static void a_wake_reaches_every_sleeper(void **state)
{
    (void)state;
    watchdog(100);
    threads_run(SLEEPERS + 1, sleep_through_rounds, NULL);
    assert_int_equal(sync_load_acq(&awake, done), SLEEPERS * ROUNDS);
    errno = 77;
    futex_wake(&round_word);
    assert_int_equal(errno, 77);
}

/* In place of libc's: what the kernel answers to the next calls of futex, and until when they sleep. */
enum { ANSWERS = 2 };
static struct {
    unsigned left, asked;
    int error[ANSWERS];         /* 0: woken */
    int64_t until[ANSWERS];
} kernel;
long syscall(long number, ...)
{
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
    va_end(args);
    if (number == TEST_SYS_FUTEX && kernel.left > 0) {
        int64_t t[2];           /* seconds and nanoseconds, of 64 bits on every machine */
        memcpy(t, (const void *)a[3], sizeof t);
        kernel.until[kernel.asked] = t[0] * 1000000000 + t[1];
        kernel.left--;
        errno = kernel.error[kernel.asked++];
        return errno ? -1 : 0;
    }
    static long (*real)(long, ...);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The kernel is asked to end the sleep earlier by what it may be late, and if it was not late, once more for
 * the rest: whoever is woken in either sleep is told so, and the time has come when it has. */
static void a_sleep_that_ends_early_goes_on(void **state)
{
    (void)state;
    static const struct {
        int error[ANSWERS];
        unsigned asked;
        bool woken;
    } cases[] = {{{0, 0}, 1, true},
                 {{EINTR, 0}, 1, true},
                 {{EAGAIN, 0}, 1, true},
                 {{ETIMEDOUT, 0}, 2, true},
                 {{ETIMEDOUT, EINTR}, 2, true},
                 {{ETIMEDOUT, ETIMEDOUT}, 2, false}};
    int slack = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    assert_true(slack >= 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sync_u32 word = {0};
        int64_t until = clock_now() + CCTX_S(3600);
        memset(&kernel, 0, sizeof kernel);
        memcpy(kernel.error, cases[i].error, sizeof kernel.error);
        kernel.left = ANSWERS;
        errno = 77;
        bool woken = futex_wait(&word, 0, until);
        kernel.left = 0;
        assert_int_equal(errno, 77);
        assert_true(woken == cases[i].woken);
        assert_int_equal(kernel.asked, cases[i].asked);
        assert_true(kernel.until[0] == until - slack);
        if (kernel.asked == 2) assert_true(kernel.until[1] == until);
    }
}

static void sleep_without_prctl(void *arg)
{
    bool *refused = arg;
    *refused = refuse_call(SYS_prctl, EPERM) && prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == -1;
    if (!*refused) return;
    sync_u32 word = {0};
    errno = 77;
    for (int64_t ns = 1; ns < 2000000; ns *= 7) {
        int64_t until = clock_now() + ns;
        while (futex_wait(&word, 0, until)) {}
        CHECK(clock_now() >= until);
    }
    CHECK(errno == 77);
}

/* A sandbox may refuse the question: the sleep is not shortened then, and is as long as it says. */
static void a_sleep_does_without_the_slack_where_it_is_not_told(void **state)
{
    (void)state;
    watchdog(60);
    bool *refused = mmap(NULL, sizeof *refused, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(refused != MAP_FAILED);
    assert_int_equal(run_in_child(sleep_without_prctl, refused), 0);
    if (!*refused) NOT_APPLICABLE("there is no seccomp here to refuse prctl by");
    munmap(refused, sizeof *refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_that_differs_is_not_slept_on),
        cmocka_unit_test(a_time_that_has_passed_ends_the_sleep),
        cmocka_unit_test(a_time_to_come_is_waited_out),
        cmocka_unit_test(a_wake_reaches_every_sleeper),
        cmocka_unit_test(a_sleep_that_ends_early_goes_on),
        cmocka_unit_test(a_sleep_does_without_the_slack_where_it_is_not_told),
    };
    return cmocka_run_group_tests_name("futex", tests, NULL, NULL);
}
