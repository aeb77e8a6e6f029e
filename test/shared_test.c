/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared and watch from inside: what the system refuses, descriptors that run out, many owners and many bindings, and
 * threads that are there only when they are needed. B5, C32.
 */
#include "support.h"

#include "watch.h"
#include <cctx/shared.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

enum { LONG = 40 };

static void in_child(void (*fn)(void *arg), void *arg)
{
    assert_int_equal(run_in_child(fn, arg), 0);
}

/* ---- another process that owns tokens ---- */

static struct shared_page {
    cctx_token_t token[2];
    uint32_t ready, stopped;
} *page;

static void tell(uint32_t *word)
{
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}
static void await(uint32_t *word)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0) syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static pid_t owner_start(cctx_shared_t *arena)
{
    page->ready = 0;
    await_rest();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < 2; i++) page->token[i] = cctx_shared_token(arena, CCTX_NEVER);
        tell(&page->ready);
        for (;;) pause();
    }
    await(&page->ready);
    return pid;
}
static void owner_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static int setup(void **state)
{
    (void)state;
    watchdog(LONG);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    watchdog(0);
    return munmap(page, sizeof *page);
}

/* ---- what the system refuses ---- */

/* A processor of 32 bits has second calls, of which libc makes use. */
#ifdef SYS_mmap2
enum { CALL_MMAP = SYS_mmap2, CALL_FCNTL = SYS_fcntl64, CALL_FSTATFS = SYS_fstatfs64 };
#else
enum { CALL_MMAP = SYS_mmap, CALL_FCNTL = SYS_fcntl, CALL_FSTATFS = SYS_fstatfs };
#endif
/* Where in seccomp's 64 bits an argument has its lower half. */
enum { LOWER_HALF = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0 };

struct refusal {
    int call;                   /* its number */
    int argument;               /* which of its words must be value; -1: any */
    uint32_t value;
    int error;
    int result;                 /* what the function says */
};

static void refuse(const struct refusal *r)
{
    unsigned skip = r->argument < 0 ? 0 : 2;
    size_t where = offsetof(struct seccomp_data, args) + 8 * (size_t)(skip ? r->argument : 0) + LOWER_HALF;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)where),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value, 0, skip ? 1 : 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)r->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    /* By its own number: test/coverage takes the other call for the end of all calls. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        _exit(0);               /* not here */
}

static void create_refused(void *arg)
{
    const struct refusal *r = arg;
    refuse(r);
    errno = 0;
    cctx_shared_t *arena = cctx_shared_create(4);
    CHECK(r->result == 0 ? arena != NULL : !arena && errno == r->result);
    CHECK(!arena || cctx_shared_token(arena, CCTX_NEVER) != 0);
    cctx_shared_free(arena);
}

/* C32 */
static void what_is_refused_to_a_create_is_said(void **state)
{
    (void)state;
    const struct refusal all[] = {
        {SYS_memfd_create, -1, 0, ENOSYS, ENOSYS},
        {SYS_memfd_create, -1, 0, EINVAL, EINVAL},
        {SYS_memfd_create, 1, 11, EINVAL, 0},           /* before Linux 6.3: without MFD_NOEXEC_SEAL */
        {SYS_read, -1, 0, EACCES, 0},                   /* when it started is unknown */
        {SYS_fallocate, -1, 0, ENOSPC, ENOMEM},
        {SYS_fallocate, -1, 0, EINTR, EINTR},
        {CALL_FCNTL, 1, F_ADD_SEALS, EPERM, EPERM},
        {CALL_MMAP, 3, MAP_SHARED, EAGAIN, EAGAIN},
    };
    if (TEST_SANITIZED)
        NOT_APPLICABLE("a sanitizer makes calls of its own");
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) in_child(create_refused, (void *)(uintptr_t)&all[i]);
}

static void attach_refused(void *arg)
{
    const struct refusal *r = arg;
    cctx_shared_t *arena = cctx_shared_create(4);
    refuse(r);
    errno = 0;
    cctx_shared_t *again = cctx_shared_attach(cctx_shared_fd(arena));
    CHECK(r->result == 0 ? again != NULL : !again && errno == r->result);
    cctx_shared_free(again);
    cctx_shared_free(arena);
}
static void what_is_refused_to_an_attach_is_said(void **state)
{
    (void)state;
    const struct refusal all[] = {
        {CALL_FCNTL, 1, F_GET_SEALS, EACCES, EACCES},
        {CALL_FSTATFS, -1, 0, ENOSYS, ENOSYS},
#ifdef SYS_newfstatat
        {SYS_newfstatat, 3, AT_EMPTY_PATH, EACCES, EACCES},
        {SYS_newfstatat, 3, 0, EACCES, 0},              /* the namespaces are unknown */
#endif
        {CALL_MMAP, 3, MAP_SHARED, ENOMEM, ENOMEM},
    };
    if (TEST_SANITIZED)
        NOT_APPLICABLE("a sanitizer makes calls of its own");
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) in_child(attach_refused, (void *)(uintptr_t)&all[i]);
}

static void bind_refused(void *arg)
{
    const struct refusal *r = arg;
    cctx_shared_t *arena = cctx_shared_create(4);
    pid_t owner = owner_start(arena);
    refuse(r);
    for (int i = 0; i < 3; i++) {
        errno = 0;
        CHECK(cctx_with_shared(cctx_background(), arena, page->token[0]) == NULL && errno == r->result);
    }
    owner_kill(owner);
    cctx_shared_free(arena);
}
static void what_is_refused_to_a_binding_is_said(void **state)
{
    (void)state;
    const struct refusal all[] = {
        {SYS_epoll_create1, -1, 0, EMFILE, EMFILE}, {SYS_eventfd2, -1, 0, ENFILE, ENFILE},
        {SYS_pidfd_open, -1, 0, ENOSYS, ENOSYS},    {SYS_pidfd_open, -1, 0, EMFILE, EMFILE},
        {SYS_epoll_ctl, -1, 0, ENOSPC, ENOSPC},
    };
    if (TEST_SANITIZED)
        NOT_APPLICABLE("a sanitizer makes calls of its own");
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) in_child(bind_refused, (void *)(uintptr_t)&all[i]);
}

static void another_refused(void *arg)
{
    cctx_shared_t *arena = cctx_shared_create(4);
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, cctx_shared_token(arena, CCTX_NEVER));
    CHECK(ctx != NULL);
    bind_refused(arg);          /* in another arena */
    pid_t owner = owner_start(arena);
    errno = 0;
    CHECK(cctx_with_shared(cctx_background(), arena, page->token[0]) == NULL && errno == ENOSPC);
    CHECK(cctx_err(ctx) == 0);
    owner_kill(owner);
    cctx_unref(ctx);
    cctx_shared_free(arena);
}
static void a_refused_owner_leaves_the_arena_as_it_was(void **state)
{
    (void)state;
    struct refusal refusal = {SYS_epoll_ctl, -1, 0, ENOSPC, ENOSPC};
    if (TEST_SANITIZED)
        NOT_APPLICABLE("a sanitizer makes calls of its own");
    in_child(another_refused, &refusal);
}

#ifdef SYS_epoll_wait
static void wait_refused(void *arg)
{
    cctx_shared_t *arena = cctx_shared_create(4);
    pid_t owner = owner_start(arena);
    refuse(arg);
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, page->token[0]);
    CHECK(ctx != NULL);
    CHECK(cctx_shared_cancel(arena, page->token[0]));   /* the bell is heard in any case */
    CHECK(cctx_wait(ctx) == ECANCELED);
    owner_kill(owner);
    cctx_unref(ctx);
    cctx_shared_free(arena);
    while (threads_now() > 1) poll(NULL, 0, 1);
}
#endif
/* The program has closed the library's descriptors; or something interrupts. */
static void a_thread_that_cannot_sleep_ends_and_one_that_is_interrupted_goes_on(void **state)
{
    (void)state;
    if (TEST_SANITIZED)
        NOT_APPLICABLE("a sanitizer makes calls of its own");
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
#ifdef SYS_epoll_wait
    struct refusal closed = {SYS_epoll_wait, -1, 0, EBADF, 0}, interrupted = {SYS_epoll_wait, -1, 0, EINTR, 0};
    in_child(wait_refused, &closed);
    in_child(wait_refused, &interrupted);
#endif
}

static int open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void descriptors_run_out(void *arg)
{
    (void)arg;
    for (int fd = 3; fd < 1024; fd++) close(fd);        /* so that there are no holes */
    cctx_shared_t *arena = cctx_shared_create(4);
    pid_t owner = owner_start(arena);
    int files = open_files(), need = 0;
    struct rlimit all;
    getrlimit(RLIMIT_NOFILE, &all);
    for (cctx_t *ctx = NULL; !ctx; need++) {
        struct rlimit few = {(rlim_t)(files + need), all.rlim_max};
        CHECK(need < 8 && setrlimit(RLIMIT_NOFILE, &few) == 0);
        errno = 0;
        ctx = cctx_with_shared(cctx_background(), arena, page->token[0]);
        CHECK(ctx || errno == EMFILE);
        if (need == 0) CHECK(!cctx_shared_create(4) && errno == EMFILE && !cctx_shared_attach(cctx_shared_fd(arena)) && errno == EMFILE);
        if (ctx) {
            owner_kill(owner);
            CHECK(cctx_wait(ctx) == ECANCELED);
            CHECK(strcmp(cctx_cause(ctx)->text, "owner died") == 0);
            cctx_unref(ctx);
        }
    }
    CHECK(need >= 3);
    cctx_shared_free(arena);
}
/* C32 */
static void where_no_descriptor_is_left_it_is_said_and_works_later(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
    in_child(descriptors_run_out, NULL);
}

/* ---- a fork, a stop ---- */

static cctx_shared_t *inherited;
static cctx_t *inherited_ctx;

static void child_frees(void *arg)
{
    (void)arg;
    cctx_unref(inherited_ctx);
    cctx_shared_free(inherited);
}

/* The owner dies before the child binds anything, and so before anybody here could see it. */
static void child_binds_when_the_owner_is_dead(void *arg)
{
    pid_t owner = *(pid_t *)arg;
    kill(getppid(), SIGSTOP);           /* which would see it; it is told once each of its threads stands */
    await(&page->stopped);
    int fd = (int)syscall(SYS_pidfd_open, owner, 0);
    struct pollfd death = {fd, POLLIN, 0};
    kill(owner, SIGKILL);
    CHECK(poll(&death, 1, -1) == 1);
    cctx_t *ctx = cctx_with_shared(cctx_background(), inherited, cctx_shared_token(inherited, CCTX_NEVER));
    CHECK(ctx != NULL);
    CHECK(cctx_wait(inherited_ctx) == ECANCELED && strcmp(cctx_cause(inherited_ctx)->text, "owner died") == 0);
    cctx_unref(ctx);
    child_frees(NULL);
    kill(getppid(), SIGCONT);
}

static void child_has_a_child(void *arg)
{
    (void)arg;
    inherited = cctx_shared_create(4);
    pid_t owner = owner_start(inherited);
    inherited_ctx = cctx_with_shared(cctx_background(), inherited, page->token[0]);
    cctx_token_t over = cctx_shared_token(inherited, CCTX_NEVER);
    cctx_t *ended = cctx_with_shared(cctx_background(), inherited, over);
    CHECK(cctx_shared_cancel(inherited, over) && cctx_wait(ended) == ECANCELED);
    CHECK(run_in_child(child_frees, NULL) == 0);
    CHECK(cctx_err(inherited_ctx) == 0);
    CHECK(run_in_child(child_binds_when_the_owner_is_dead, &owner) == 0);
    owner_kill(owner);
    CHECK(cctx_wait(inherited_ctx) == ECANCELED);
    cctx_unref(ended);
    child_frees(NULL);
}

/* A forked child that runs fn; returns once all its threads stand still. */
static pid_t child_until_stopped(void (*fn)(void *arg))
{
    await_rest();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fn(NULL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    return pid;
}

/* C23 */
static void a_child_may_free_what_it_inherited_or_go_on_with_it(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
    pid_t pid = child_until_stopped(child_has_a_child);
    int status;
    tell(&page->stopped);
    CHECK(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

static void child_is_stopped(void *arg)
{
    cctx_t *ctx = cctx_with_shared(cctx_background(), inherited, page->token[0]);
    (void)arg;
    CHECK(ctx != NULL);
    raise(SIGSTOP);             /* what sleeps in the kernel is interrupted by it */
    CHECK(cctx_wait(ctx) == ECANCELED && strcmp(cctx_cause(ctx)->text, "owner died") == 0);
    cctx_unref(ctx);
}

static void a_process_that_was_stopped_sees_deaths_still(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
    inherited = cctx_shared_create(4);
    pid_t owner = owner_start(inherited);
    pid_t pid = child_until_stopped(child_is_stopped);
    int status;
    kill(pid, SIGCONT);
    owner_kill(owner);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    cctx_shared_free(inherited);
}

/* ---- many ---- */

enum { OWNERS = 20, BOUND = 300 };

static void many_owners_die_one_by_one(void **state)
{
    (void)state;
    cctx_shared_t *arena = cctx_shared_create(64);
    pid_t owner[OWNERS];
    cctx_t *ctx[OWNERS][2];
    for (int i = 0; i < OWNERS; i++) {
        owner[i] = owner_start(arena);
        for (int k = 0; k < 2; k++) CHECK((ctx[i][k] = cctx_with_shared(cctx_background(), arena, page->token[k])) != NULL);
    }
    for (int i = 0; i < OWNERS; i++) {
        for (int n = i; n < OWNERS; n++) assert_int_equal(cctx_err(ctx[n][0]), 0);
        owner_kill(owner[i]);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(cctx_wait(ctx[i][k]), ECANCELED);
            assert_string_equal(cctx_cause(ctx[i][k])->text, "owner died");
            cctx_unref(ctx[i][k]);
        }
    }
    cctx_shared_free(arena);
}

static void many_are_bound_to_one_token_and_some_to_others(void **state)
{
    (void)state;
    cctx_shared_t *arena = cctx_shared_create(4);
    cctx_token_t one = cctx_shared_token(arena, CCTX_NEVER), other = cctx_shared_token(arena, CCTX_NEVER);
    cctx_t *ctx[BOUND];
    for (int i = 0; i < BOUND; i++) CHECK((ctx[i] = cctx_with_shared(cctx_background(), arena, i % 3 ? one : other)) != NULL);
    for (int i = 0; i < BOUND; i += 5) {
        cctx_unref(ctx[i]);
        ctx[i] = NULL;
    }
    assert_true(cctx_shared_cancel(arena, one));
    for (int i = 0; i < BOUND; i++)
        if (ctx[i] && i % 3) assert_int_equal(cctx_wait(ctx[i]), ECANCELED);
    for (int i = 0; i < BOUND; i += 3)
        if (ctx[i]) assert_int_equal(cctx_err(ctx[i]), 0);
    arena_ring(&arena->bindings.arena);         /* nothing more has ended: a scan of what is done */
    assert_true(cctx_shared_cancel(arena, other));
    for (int i = 0; i < BOUND; i++) {
        if (ctx[i]) assert_int_equal(cctx_wait(ctx[i]), ECANCELED);
        cctx_unref(ctx[i]);
    }
    cctx_shared_free(arena);
}

/* ---- a damaged arena ---- */

/* A word that says timed out, before it was time. */
static void a_token_that_timed_out_too_early_is_corrupt(void **state)
{
    (void)state;
    cctx_shared_t *arena = cctx_shared_create(1);
    cctx_token_t token = cctx_shared_token(arena, cctx_now() + CCTX_S(1000));
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, token);
    uint64_t *word = (uint64_t *)&arena->bindings.arena.slot[0].word;
    __atomic_store_n(word, (*word & ~(uint64_t)7) | ARENA_TIMEDOUT, __ATOMIC_RELEASE);
    arena_ring(&arena->bindings.arena);
    assert_int_equal(cctx_wait(ctx), ECANCELED);
    assert_int_equal(cctx_cause(ctx)->code, EBADMSG);
    cctx_unref(ctx);
    cctx_shared_free(arena);
}

static void a_token_that_timed_out_is_left_to_its_deadline(void **state)
{
    (void)state;
    cctx_shared_t *arena = cctx_shared_create(1);
    cctx_token_t token = cctx_shared_token(arena, cctx_now() + CCTX_MS(20));
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, token);
    assert_int_equal(cctx_wait(ctx), ETIMEDOUT);
    assert_false(cctx_shared_cancel(arena, token));
    arena_ring(&arena->bindings.arena);         /* the scan finds it timed out */
    bindings_scan(&arena->bindings);
    assert_ptr_equal(cctx_cause(ctx), &cctx_deadline_exceeded);
    cctx_unref(ctx);
    cctx_shared_free(arena);
}

/* An owner that is dead, and whose token cannot be ended, since the place is another one's, too. */
static void an_owner_in_two_places_is_buried_in_both(void **state)
{
    (void)state;
    cctx_shared_t *arena = cctx_shared_create(4);
    struct arena *a = &arena->bindings.arena;
    cctx_token_t mine = cctx_shared_token(arena, CCTX_NEVER);
    pid_t owner = owner_start(arena);
    uint64_t *place = (uint64_t *)(void *)a->head->process;
    place[0] = place[1];                        /* mine is theirs now */
    owner_kill(owner);
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, page->token[0]);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    cctx_unref(ctx);
    ctx = cctx_with_shared(cctx_background(), arena, mine);
    assert_string_equal(cctx_cause(ctx)->text, "owner died");
    cctx_unref(ctx);
    assert_true(place[0] == 0 && place[1] == 0);
    cctx_shared_free(arena);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(what_is_refused_to_a_create_is_said),
        ROW(what_is_refused_to_an_attach_is_said),
        ROW(what_is_refused_to_a_binding_is_said),
        ROW(a_refused_owner_leaves_the_arena_as_it_was),
        ROW(a_thread_that_cannot_sleep_ends_and_one_that_is_interrupted_goes_on),
        ROW(a_token_that_timed_out_is_left_to_its_deadline),
        ROW(where_no_descriptor_is_left_it_is_said_and_works_later),
        ROW(a_child_may_free_what_it_inherited_or_go_on_with_it),
        ROW(a_process_that_was_stopped_sees_deaths_still),
        ROW(many_owners_die_one_by_one),
        ROW(many_are_bound_to_one_token_and_some_to_others),
        ROW(a_token_that_timed_out_too_early_is_corrupt),
        ROW(an_owner_in_two_places_is_buried_in_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
