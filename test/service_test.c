/* SPDX-License-Identifier: BSD-2-Clause */
/* service: one thread is made on the first need, with its name and all signals blocked, and once more
 * after a fork. */
#include "support.h"

#include <dirent.h>
#include <sched.h>

#include "futex.h"
#include "service.h"

static sync_u32 runs;
static char name_seen[16];
static sigset_t blocked_seen;

/* As a library thread does, it never returns. */
static void serve(void)
{
    CHECK(pthread_getname_np(pthread_self(), name_seen, sizeof name_seen) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &blocked_seen) == 0);
    sync_add_acqrel(&runs, 1u, queue, none);
    futex_wake(&runs);
    static sync_u32 forever;
    for (;;) futex_wait(&forever, 0, INT64_MAX);
}

static struct service servant = {"test-servant", serve, {0}, {0}};

static void wait_for_run(uint32_t n)
{
    uint32_t seen;
    while ((seen = sync_load_acq(&runs, queue)) < n) futex_wait(&runs, seen, INT64_MAX);
}

static void ask(unsigned index, void *arg)
{
    (void)index;
    (void)arg;
    for (int i = 0; i < 1000; i++) CHECK(service_start(&servant));
}

static void many_who_ask_at_once_get_one_thread(void **state)
{
    (void)state;
    sigset_t before, after;         /* the kernel fills just as much as it has signals */
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    watchdog(60);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    errno = 77;
    threads_run(4, ask, NULL);
    assert_true(service_start(&servant));
    assert_int_equal(errno, 77);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_memory_equal(&before, &after, sizeof before);
    wait_for_run(1);
    assert_int_equal(sync_load_acq(&runs, queue), 1);
}

/* The thread of the test before has said what it is. */
static void it_has_its_name_and_takes_no_signal(void **state)
{
    (void)state;
    assert_string_equal(name_seen, "test-servant");
    const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGPROF, SIGRTMIN + 1};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        assert_int_equal(sigismember(&blocked_seen, signals[i]), 1);
}

static void start_in_child(void *arg)
{
    (void)arg;
    service_forked(&servant);
    CHECK(service_start(&servant));
    wait_for_run(2);
}

static void the_child_of_a_fork_gets_one_of_its_own(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    int status = run_in_child(start_in_child, NULL);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Two who made a thread each at one moment: the second thread finds the role taken and ends. */
static void a_second_thread_for_one_role_ends(void **state)
{
    (void)state;
    watchdog(60);
    uint32_t before = sync_load_acq(&runs, queue);
    unsigned threads = threads_now();
    sync_store_rel(&servant.made, 0u, queue);
    assert_true(service_start(&servant));
    while (threads_now() > threads) sched_yield();
    assert_int_equal(sync_load_acq(&runs, queue), before);
    assert_int_equal(sync_load_acq(&servant.taken, queue), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_who_ask_at_once_get_one_thread),
        cmocka_unit_test(it_has_its_name_and_takes_no_signal),
        cmocka_unit_test(a_second_thread_for_one_role_ends),
        cmocka_unit_test(the_child_of_a_fork_gets_one_of_its_own),
    };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
