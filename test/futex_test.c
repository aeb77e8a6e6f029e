/* SPDX-License-Identifier: BSD-2-Clause */
/* futex: no sleep on a word that has changed, none beyond its time, and a wake reaches all. */
#include "support.h"

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

static sync_u32 lax_word;
/* A thread inherits its maker's slack; this one is not to be lax. */
static void *wake_again_and_again(void *go_on)
{
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    for (; __atomic_load_n((uint32_t *)go_on, __ATOMIC_ACQUIRE) != 0; usleep(1000)) futex_wake(&lax_word);
    return NULL;
}

/* However late this thread's timers may be by its own wish, which shortens what the kernel is asked for: here to
 * a time that has passed. */
static void a_lax_thread_sleeps_no_shorter(void **state)
{
    (void)state;
    sync_u32 word = {0};
    watchdog(60);
    assert_int_equal(prctl(PR_SET_TIMERSLACK, 40000000UL, 0UL, 0UL, 0UL), 0);
    for (int i = 0; i < 5; i++) {
        int64_t until = clock_now() + 20000000;
        while (futex_wait(&word, 0, until)) {}
        assert_true(clock_now() >= until);
    }
    uint32_t go_on = 1;
    assert_int_equal(prctl(PR_SET_TIMERSLACK, 2000000000UL, 0UL, 0UL, 0UL), 0);
    pthread_t waker = thread_start(wake_again_and_again, &go_on);
    /* In the second sleep, but for a wake that comes in the middle of the first. */
    for (int woken = 0; woken < 20;)
        woken += futex_wait(&lax_word, 0, clock_now() + CCTX_S(1));
    __atomic_store_n(&go_on, 0, __ATOMIC_RELEASE);
    thread_join(waker);
    assert_int_equal(prctl(PR_SET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL), 0);
}

static void sleep_without_prctl(void *arg)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    bool *refused = arg;
    *refused = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 &&
               prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == -1;
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
        cmocka_unit_test(a_lax_thread_sleeps_no_shorter),
        cmocka_unit_test(a_sleep_does_without_the_slack_where_it_is_not_told),
    };
    return cmocka_run_group_tests_name("futex", tests, NULL, NULL);
}
