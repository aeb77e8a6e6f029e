/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A context as a file descriptor, and poll that a context ends, as a user sees them.
 */
#define CCTX_ARRAY(access_mode, array, count) /* arrays and counts that do not match are passed on purpose */
#include "blocked.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

static const cctx_key_t key = {"key", NULL};

static bool readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int n = poll(&one, 1, 0);
    CHECK(n >= 0 && (one.revents & ~POLLIN) == 0);
    return n == 1;
}

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* ---- cctx_fd ---- */

/* C18, C24 */
static void the_descriptor_is_the_same_each_time_and_shared_by_values(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(ctx, &key, NULL);
    errno = 4711;
    int fd = cctx_fd(value);
    assert_true(fd >= 0);
    assert_int_equal(cctx_fd(ctx), fd);
    assert_int_equal(cctx_fd(value), fd);
    assert_int_equal(errno, 4711);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_false(readable(fd));
    assert_true(cctx_cancel(ctx));
    assert_true(readable(fd));
    assert_int_equal(cctx_fd(ctx), fd);
    assert_true(readable(fd));
    cctx_unref(ctx);
    assert_true(is_open(fd));
    cctx_unref(value);
    assert_false(is_open(fd));
}

/* C32, C26 */
static void null_is_einval_and_what_can_never_be_done_is_edeadlk(void **state)
{
    (void)state;
    struct pollfd one = {.fd = -1, .events = POLLIN};
    int ready = 7;
    errno = 0;
    assert_int_equal(cctx_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(cctx_fd(cctx_background()), -1);
    assert_int_equal(errno, EDEADLK);
    assert_int_equal(cctx_poll(NULL, &one, 1, &ready), EINVAL);
    assert_int_equal(cctx_poll(cctx_background(), NULL, 1, &ready), EINVAL);
    assert_int_equal(cctx_poll(cctx_background(), &one, (nfds_t)-1, &ready), EINVAL);
    assert_int_equal(cctx_poll(cctx_background(), NULL, 0, &ready), EDEADLK);
    assert_int_equal(ready, 7);
}

static cctx_t *made(int how, const cctx_t *parent)
{
    switch (how % 4) {
    case 0: return cctx_with_cancel(parent);
    case 1: return cctx_with_timeout(parent, HOUR);
    case 2: return cctx_with_any((const cctx_t *[]){cctx_background(), parent}, 2);
    default: return cctx_with_timeout(parent, INT64_MAX);
    }
}

/* Whichever kind, with whatever hangs from it already, canceled from itself or above, before the first call or after it. */
/* C3, C24 */
static void the_descriptor_of_each_kind_becomes_readable_however_it_ends(void **state)
{
    (void)state;
    int before = open_files();
    for (int how = 0; how < 64; how++) {
        cctx_callback_t cb[70] = {0};
        cctx_t *top = cctx_with_cancel(cctx_background()), *ctx = made(how, top), *child = NULL;
        int callbacks = how / 16 == 3 ? 70 : how / 16;
        for (int i = 0; i < callbacks; i++)
            assert_int_equal(cctx_after_func(ctx, &cb[i], free, calloc(1, 1)), 0);
        if (how & 4)
            child = cctx_with_cancel(ctx);
        if (how & 8)
            cctx_cancel(how % 3 ? top : ctx);
        int fd = cctx_fd(ctx), below = child ? cctx_fd(child) : fd;
        assert_true(fd >= 0 && below >= 0);
        assert_int_equal(readable(fd), (how & 8) != 0);
        cctx_cancel(how % 3 ? top : ctx);
        assert_true(readable(fd));
        assert_true(readable(below));
        cctx_unref(child);
        cctx_unref(top);
        cctx_unref(ctx);
        assert_false(is_open(fd));
    }
    assert_int_equal(open_files(), before);
}

static cctx_callback_t crowd[160];
static uint32_t crowd_ran;
static void crowd_count(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&crowd_ran, 1, __ATOMIC_RELAXED);
}
static void *crowd_registers(void *arg)
{
    CHECK(cctx_after_func(arg, &crowd[crowd_ran++], crowd_count, NULL) == 0);
    return NULL;
}

/* Threads that register by turns make the list of callbacks a wider one, before the first call and after it. */
/* C24, C28 */
static void a_crowd_of_callbacks_changes_nothing_of_the_descriptor(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        int fd = after ? -1 : cctx_fd(ctx);
        crowd_ran = 0;
        for (int i = 0; i < 160; i++) {
            if (i % 2)
                crowd_registers(ctx);
            else
                thread_join(thread_start(crowd_registers, ctx));
        }
        assert_true(cctx_fd(ctx) == fd || after);
        fd = cctx_fd(ctx);
        assert_false(readable(fd));
        crowd_ran = 0;
        cctx_cancel(ctx);
        assert_int_equal(crowd_ran, 160);
        assert_true(readable(fd));
        cctx_unref(ctx);
        assert_false(is_open(fd));
    }
}

/* C13, C21: the deadline makes it readable by itself; a live one that is dropped closes it. */
static void epoll_takes_the_descriptors_of_many_contexts(void **state)
{
    (void)state;
    enum { N = 100 };
    cctx_t *ctxs[N];
    int epoll = epoll_create1(EPOLL_CLOEXEC), before = open_files();
    unsigned seen = 0;
    for (unsigned i = 0; i < N; i++) {
        ctxs[i] = cctx_with_timeout(cctx_background(), i % 2 ? CCTX_MS(1) + CCTX_US(10) * i : HOUR);
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = i};
        assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, cctx_fd(ctxs[i]), &event), 0);
    }
    while (seen < N / 2) {
        struct epoll_event events[7];
        int n = epoll_wait(epoll, events, 7, -1);
        assert_true(n > 0);
        for (int k = 0; k < n; k++) {
            assert_int_equal(events[k].data.u32 % 2, 1);
            assert_int_equal(cctx_err(ctxs[events[k].data.u32]), ETIMEDOUT);
            seen++;
        }
    }
    for (unsigned i = 0; i < N; i++)
        cctx_unref(ctxs[i]);
    int64_t end = now_ns() + INT64_C(10000000000);
    while (open_files() != before && now_ns() < end) /* the last deadline is just passing through its context */
        sched_yield();
    assert_int_equal(open_files(), before);
    close(epoll);
}

static void with_no_more_files(void (*fn)(cctx_t *ctx))
{
    struct rlimit old, none;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    int before = open_files();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    while (is_open((int)none.rlim_cur))
        none.rlim_cur++;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    fn(ctx);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(open_files(), before);
    assert_true(cctx_fd(ctx) >= 0);
    cctx_close(ctx);
    assert_int_equal(open_files(), before);
}

static void asks_for_a_descriptor(cctx_t *ctx)
{
    struct pollfd one = {.fd = 0, .events = 0};
    int ready = 7;
    errno = 0;
    assert_int_equal(cctx_fd(ctx), -1);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(cctx_poll(ctx, &one, 1, &ready), EMFILE);
    assert_int_equal(ready, 7);
    /* Nothing else is broken by it. */
    assert_int_equal(cctx_sleep(ctx, CCTX_US(100)), 0);
    cctx_t *child = cctx_with_timeout(ctx, CCTX_MS(1));
    assert_int_equal(cctx_wait(child), ETIMEDOUT);
    assert_int_equal(cctx_wait_any((const cctx_t *[]){ctx, child}, 2, CCTX_NEVER, NULL), 0);
    cctx_unref(child);
}

/* C32 */
static void without_a_descriptor_to_be_had_it_is_emfile_and_nothing_else_breaks(void **state)
{
    (void)state;
    with_no_more_files(asks_for_a_descriptor);
}

static cctx_t *inherited;
static int inherited_fd;

static void uses_it_in_the_child(void *arg)
{
    (void)arg;
    alarm(60);
    int fd = cctx_fd(inherited);
    CHECK(fd >= 0 && fd != inherited_fd && cctx_fd(inherited) == fd);
    CHECK(!readable(fd));
    cctx_cancel(inherited);
    CHECK(readable(fd) && !readable(inherited_fd));
    cctx_unref(inherited);
    CHECK(!is_open(fd) && is_open(inherited_fd));
}

static void ends_it_in_the_child(void *arg)
{
    (void)arg;
    alarm(60);
    cctx_cancel(inherited);
    CHECK(!readable(inherited_fd));
    int fd = cctx_fd(inherited);
    CHECK(fd != inherited_fd && readable(fd));
    cctx_close(inherited);
    CHECK(!is_open(fd) && is_open(inherited_fd));
}

static void drops_it_in_the_child(void *arg)
{
    (void)arg;
    cctx_close(inherited);
    CHECK(is_open(inherited_fd));
}

/* C23 */
static void the_child_of_a_fork_gets_a_descriptor_of_its_own_and_leaves_the_parents_alone(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("no fork under ThreadSanitizer");
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    inherited = cctx_with_cancel(cctx_background());
    inherited_fd = cctx_fd(inherited);
    assert_int_equal(run_in_child(uses_it_in_the_child, NULL), 0);
    assert_int_equal(run_in_child(ends_it_in_the_child, NULL), 0);
    assert_int_equal(run_in_child(drops_it_in_the_child, NULL), 0);
    assert_false(readable(inherited_fd));
    assert_int_equal(cctx_fd(inherited), inherited_fd);
    cctx_cancel(inherited);
    assert_true(readable(inherited_fd));
    cctx_unref(inherited);
}

/* ---- cctx_poll ---- */

typedef struct on_poll {
    const cctx_t *ctx;
    struct pollfd *fds;
    nfds_t n;
    int ready;
} on_poll_t;

static int polls(void *arg)
{
    on_poll_t *o = arg;
    return cctx_poll(o->ctx, o->fds, o->n, &o->ready);
}

enum { PIPES = 40 };
static int pipes[PIPES][2];
static struct pollfd fds[PIPES];

static void make_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        fds[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN, .revents = 0x55};
    }
}
static void drop_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

/* B3 */
static void poll_tells_how_many_are_ready_with_any_number_of_descriptors(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background()), *timed = cctx_with_timeout(ctx, HOUR);
    const cctx_t *contexts[] = {ctx, timed, cctx_background()};
    make_pipes();
    for (int i = 0; i < 3; i++)
        for (nfds_t n = 1; n <= PIPES; n += 3) {
            on_poll_t o = {contexts[i], fds, n, -1};
            blocked_t b;
            blocked_start(&b, polls, &o);
            if (n % 2)
                blocked_await(&b);
            assert_int_equal(write(pipes[n - 1][1], "x", 1), 1);
            assert_int_equal(blocked_join(&b), 0);
            assert_int_equal(o.ready, 1);
            for (nfds_t k = 0; k < n; k++)
                assert_int_equal(fds[k].revents, k == n - 1 ? POLLIN : 0);
            assert_int_equal(write(pipes[0][1], "x", 1), 1);
            assert_int_equal(cctx_poll(contexts[i], fds, n, &o.ready), 0);
            assert_int_equal(o.ready, n == 1 ? 1 : 2);
            assert_int_equal(cctx_poll(contexts[i], fds, n, NULL), 0);
            char buffer[2];
            assert_true(read(pipes[n - 1][0], buffer, n == 1 ? 2 : 1) > 0 && (n == 1 || read(pipes[0][0], buffer, 1) == 1));
        }
    drop_pipes();
    cctx_unref(timed);
    cctx_close(ctx);
}

/* C1, C24 */
static void the_end_of_the_context_ends_a_poll_and_leaves_the_array_as_it_was(void **state)
{
    (void)state;
    make_pipes();
    for (nfds_t n = 0; n <= PIPES; n += 5) {
        cctx_t *top = cctx_with_cancel(cctx_background()), *ctx = cctx_with_timeout(top, n % 2 ? HOUR : CCTX_NEVER);
        cctx_t *soon = cctx_with_timeout(top, CCTX_MS(1));
        on_poll_t o = {ctx, n == 0 ? NULL : fds, n, -1};
        blocked_t b;
        blocked_start(&b, polls, &o);
        interrupt_blocked(&b);
        cctx_cancel(top);
        assert_int_equal(blocked_join(&b), ECANCELED);
        o.ctx = soon;
        assert_true(polls(&o) != 0);
        assert_int_equal(o.ready, -1);
        for (nfds_t k = 0; k < n; k++)
            assert_int_equal(fds[k].revents, 0x55);
        cctx_unref(soon);
        cctx_unref(ctx);
        cctx_unref(top);
    }
    drop_pipes();
}

/* A level is not lost: of both the context wins. */
/* C13 */
static void a_deadline_ends_a_poll_and_wins_over_readiness(void **state)
{
    (void)state;
    int ready = 7;
    make_pipes();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(2));
    cctx_time_t deadline = 0;
    assert_true(cctx_deadline(ctx, &deadline));
    assert_int_equal(cctx_poll(ctx, fds, 3, &ready), ETIMEDOUT);
    assert_true(cctx_now() >= deadline);
    assert_int_equal(write(pipes[0][1], "x", 1), 1);
    assert_int_equal(cctx_poll(ctx, fds, 3, &ready), ETIMEDOUT);
    assert_int_equal(ready, 7);
    cctx_unref(ctx);
    drop_pipes();
}

/* C32 */
static void more_descriptors_than_there_can_be_are_einval(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    nfds_t n = limit.rlim_cur < 100000 ? (nfds_t)limit.rlim_cur : 0;
    if (n == 0)
        NOT_APPLICABLE("no limit of open files worth the name");
    struct pollfd *all = calloc(n + 1, sizeof *all);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_poll(ctx, all, n, NULL), EINVAL);
    assert_int_equal(cctx_poll(cctx_background(), all, n + 1, NULL), EINVAL);
    cctx_close(ctx);
    free(all);
}

static cctx_t *due;

static void polls_without_threads(void *arg)
{
    (void)arg;
    alarm(60);
    if (!refuse_threads())
        _exit(77);
    CHECK(cctx_poll(due, NULL, 0, NULL) == ETIMEDOUT);
    CHECK(readable(cctx_fd(due)));
}

/* C23, C27 */
static void a_deadline_ends_a_poll_though_the_library_has_no_thread(void **state)
{
    (void)state;
    if (TEST_TSAN || !threads_after_fork())
        NOT_APPLICABLE("no fork with threads here");
    due = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    int status = run_in_child(polls_without_threads, NULL);
    cctx_close(due);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        NOT_APPLICABLE("no seccomp filters");
    assert_int_equal(status, 0);
}

/* ---- many threads ---- */

static cctx_t *shared;
static int first_fd;

static void asks_and_polls(unsigned index, void *arg)
{
    (void)arg;
    if (index == 0) {
        cctx_cancel(shared);
        return;
    }
    int fd = cctx_fd(shared), none = -1;
    CHECK(fd >= 0);
    if (!__atomic_compare_exchange_n(&first_fd, &none, fd, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        CHECK(none == fd);
    struct pollfd one = {.fd = fd, .events = POLLIN};
    CHECK(poll(&one, 1, -1) == 1);
    CHECK(cctx_err(shared) == ECANCELED);
}

/* C24 */
static void all_who_ask_at_once_get_one_descriptor_and_a_cancel_reaches_it(void **state)
{
    (void)state;
    int before = open_files();
    for (int round = 0; round < SCALED(150); round++) {
        cctx_t *top = cctx_with_cancel(cctx_background());
        shared = cctx_with_cancel(top);
        first_fd = -1;
        threads_run(4, asks_and_polls, NULL);
        cctx_unref(shared);
        assert_false(is_open(first_fd));
        cctx_close(top);
    }
    assert_int_equal(open_files(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_descriptor_is_the_same_each_time_and_shared_by_values),
        cmocka_unit_test(null_is_einval_and_what_can_never_be_done_is_edeadlk),
        cmocka_unit_test(the_descriptor_of_each_kind_becomes_readable_however_it_ends),
        cmocka_unit_test(a_crowd_of_callbacks_changes_nothing_of_the_descriptor),
        cmocka_unit_test(epoll_takes_the_descriptors_of_many_contexts),
        cmocka_unit_test(without_a_descriptor_to_be_had_it_is_emfile_and_nothing_else_breaks),
        cmocka_unit_test(the_child_of_a_fork_gets_a_descriptor_of_its_own_and_leaves_the_parents_alone),
        cmocka_unit_test(poll_tells_how_many_are_ready_with_any_number_of_descriptors),
        cmocka_unit_test(the_end_of_the_context_ends_a_poll_and_leaves_the_array_as_it_was),
        cmocka_unit_test(a_deadline_ends_a_poll_and_wins_over_readiness),
        cmocka_unit_test(more_descriptors_than_there_can_be_are_einval),
        cmocka_unit_test(a_deadline_ends_a_poll_though_the_library_has_no_thread),
        cmocka_unit_test(all_who_ask_at_once_get_one_descriptor_and_a_cancel_reaches_it),
    };
    watchdog(100);
    return cmocka_run_group_tests_name("descriptor_clause", tests, NULL, NULL);
}
