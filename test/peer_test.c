/* SPDX-License-Identifier: BSD-2-Clause */
/* peer: who a process is, whether it lives, and a futex that processes share. */
#include "support.h"

#include "peer.h"
#include <poll.h>

static uint64_t *told;          /* memory that a child shares */

static int setup(void **state)
{
    (void)state;
    told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(told != MAP_FAILED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    return munmap(told, 4096);
}

static void child_tells(void *arg)
{
    (void)arg;
    *told = peer_self();
}

/* A child that says who it is, and stays. */
static pid_t child_stays(const char *name)
{
    *told = 0;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, name);
        uint64_t who = peer_self();
        __atomic_store_n(told, who, __ATOMIC_RELEASE);
        peer_wake((sync_u32 *)(void *)told);
        for (;;) pause();
    }
    while (__atomic_load_n(told, __ATOMIC_ACQUIRE) == 0) peer_wait((sync_u32 *)(void *)told, 0);
    return pid;
}

static void a_process_is_itself_and_no_other(void **state)
{
    (void)state;
    uint64_t who = peer_self();
    assert_true(who != 0 && who >> PEER_BITS == 0);
    assert_true(peer_self() == who);
    assert_true((who & (((uint64_t)1 << PEER_NUMBER_BITS) - 1)) == (uint64_t)getpid());
    assert_false(peer_dead(who));
    assert_int_equal(run_in_child(child_tells, NULL), 0);
    assert_true(*told != who && *told != 0);
    assert_true(peer_dead(*told));
}

/* The words of /proc are counted from the end of the name, whatever is in it. */
static void a_process_is_known_whatever_its_name(void **state)
{
    (void)state;
    const char *names[] = {"plain", "a b) c", ") R 1 2 3", "((", ""};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        pid_t pid = child_stays(names[i]);
        uint64_t who = *told;
        int fd = peer_open(who);
        struct pollfd death = {fd, POLLIN, 0};
        assert_true(fd >= 0);
        assert_int_equal(poll(&death, 1, 0), 0);
        assert_false(peer_dead(who));
        kill(pid, SIGKILL);
        assert_int_equal(poll(&death, 1, -1), 1);
        errno = 7;
        assert_true(peer_dead(who));            /* its number is still taken: it is a zombie */
        assert_int_equal(errno, 7);
        assert_int_equal(peer_open(who), -1);
        assert_int_equal(errno, ESRCH);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(peer_dead(who));
        close(fd);
    }
}

static void a_number_that_is_used_again_is_another_process(void **state)
{
    (void)state;
    uint64_t who = peer_self(), tick = (uint64_t)1 << PEER_NUMBER_BITS;
    if (who < tick)
        NOT_APPLICABLE("/proc tells of no process");
    assert_true(peer_dead(who + tick));
    assert_true(peer_dead(who - tick));
    assert_false(peer_dead(who % tick));        /* its start is not known */
}

static void *say_id(void *arg)
{
    __atomic_store_n((pid_t *)arg, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    gate_wait((gate_t *)(void *)((char *)arg + 8));
    return NULL;
}

static void what_is_no_process_is_dead(void **state)
{
    (void)state;
    struct { pid_t id; char pad[4]; gate_t gate; } other = {0, {0}, {0}};
    assert_true(peer_dead(0));
    assert_true(peer_dead(((uint64_t)1 << PEER_NUMBER_BITS) - 1));
    assert_true(peer_dead(UINT64_MAX));
    pthread_t thread = thread_start(say_id, &other);
    while (__atomic_load_n(&other.id, __ATOMIC_ACQUIRE) == 0) sched_yield();
    assert_true(peer_dead((uint64_t)other.id));         /* a thread has the number */
    gate_open(&other.gate);
    thread_join(thread);
}

static void opens_nothing(void *arg)
{
    uint64_t who = *(uint64_t *)arg;
    while (dup(0) >= 0) {}
    CHECK(peer_open(who) == -1 && errno == EMFILE);
    CHECK(!peer_dead(who));             /* not for certain */
    close(3);
    CHECK(!peer_dead(who) && !peer_dead(who + ((uint64_t)1 << PEER_NUMBER_BITS)));  /* one: its start cannot be read */
    for (int fd = 3; fd < 1024; fd++) close(fd);
}
static void without_a_descriptor_nobody_is_said_to_be_dead(void **state)
{
    (void)state;
    uint64_t who = peer_self();
    assert_int_equal(run_in_child(opens_nothing, &who), 0);
}

/* In the place of the C library's. */
static bool reads_nothing;
ssize_t read(int fd, void *into, size_t size)
{
    return reads_nothing ? 0 : syscall(SYS_read, fd, into, size);
}

/* So it is with a process that is reaped between the opening and the reading. */
static void a_line_without_words_tells_nothing(void **state)
{
    (void)state;
    uint64_t who = peer_self(), tick = (uint64_t)1 << PEER_NUMBER_BITS;
    reads_nothing = true;
    bool dead = peer_dead(who), other = peer_dead(who + tick);
    reads_nothing = false;
    assert_false(dead);
    assert_false(other);
}

enum { NOT_ROOT = 9 };
static void in_an_empty_root(void *arg)
{
    uint64_t who = *(uint64_t *)arg;
    char folder[] = "peer_test.XXXXXX";
    CHECK(chdir("/tmp") == 0 && mkdtemp(folder) != NULL);
    int err = chroot(folder);
    CHECK(rmdir(folder) == 0);                  /* the working folder stays outside */
    if (err != 0) _exit(NOT_ROOT);
    CHECK(peer_space() == 0);
    CHECK(peer_self() == (uint64_t)getpid());
    CHECK(!peer_dead(who) && !peer_dead(who + ((uint64_t)1 << PEER_NUMBER_BITS)));
    CHECK(peer_dead(((uint64_t)1 << PEER_NUMBER_BITS) - 1));
}
static void where_proc_cannot_be_read_the_number_alone_tells(void **state)
{
    (void)state;
    uint64_t who = peer_self();
    int status = run_in_child(in_an_empty_root, &who);
    if (status == NOT_ROOT << 8)
        NOT_APPLICABLE("chroot is refused");
    assert_int_equal(status, 0);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(a_process_is_itself_and_no_other),
        ROW(a_process_is_known_whatever_its_name),
        ROW(a_number_that_is_used_again_is_another_process),
        ROW(what_is_no_process_is_dead),
        ROW(without_a_descriptor_nobody_is_said_to_be_dead),
        ROW(a_line_without_words_tells_nothing),
        ROW(where_proc_cannot_be_read_the_number_alone_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
