/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Contexts that several processes see: tokens of an arena, bound, canceled, timed out, orphaned, stale, forged.
 * A process here is the child of a fork, or this program run anew with the arena's descriptor and a token.
 */
#include "support.h"

#include <cctx/shared.h>
#include <fcntl.h>
#include <poll.h>

enum { LONG = 20 };             /* seconds: more than anything here takes */

/* ---- processes ---- */

struct process {
    pid_t pid;
    int to, from;               /* bytes: steps */
};

/* In the child: its ends of the pipes. */
static int step_in, step_out;

static void tell(int fd)
{
    char byte = 1;
    ssize_t n = write(fd, &byte, 1);
    CHECK(n == 1);
}
static void hear(int fd)
{
    char byte;
    ssize_t n;
    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    CHECK(n == 1);
}

static struct process process_start(void (*fn)(void *arg), void *arg)
{
    int down[2], up[2];
    CHECK(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0);
    fflush(NULL);
    await_rest();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        step_in = down[0];
        step_out = up[1];
        close(down[1]);
        close(up[0]);
        watchdog(LONG);
        fn(arg);
        fflush(NULL);
        hear(step_in);          /* one at a time, so that what each has counted is written whole */
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    return (struct process){pid, down[1], up[0]};
}

static int process_status(struct process *p)
{
    int status = 0;
    pid_t waited;
    do
        waited = waitpid(p->pid, &status, 0);
    while (waited < 0 && errno == EINTR);
    CHECK(waited == p->pid);
    close(p->to);
    close(p->from);
    return status;
}
static void process_end(struct process *p)
{
    tell(p->to);
    assert_int_equal(process_status(p), 0);
}
static void process_kill(struct process *p)
{
    kill(p->pid, SIGKILL);
    process_status(p);
}

/* What a child works with: memory that all have. */
struct board {
    cctx_shared_t *arena;
    cctx_token_t token[8];
    int seen;
};
static struct board *board;

static int setup(void **state)
{
    (void)state;
    watchdog(LONG);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
    board->arena = cctx_shared_create(8);
    CHECK(board->arena != NULL);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    cctx_shared_free(board->arena);
    munmap(board, sizeof *board);
    watchdog(0);
    return 0;
}

static cctx_t *bind_token(cctx_token_t token)
{
    cctx_t *ctx = cctx_with_shared(cctx_background(), board->arena, token);
    CHECK(ctx != NULL);
    return ctx;
}

static void check_ended(cctx_t *ctx, int err, int code, const char *text)
{
    assert_int_equal(cctx_wait(ctx), err);
    assert_int_equal(cctx_cause(ctx)->code, code);
    assert_string_equal(cctx_cause(ctx)->text, text);
    cctx_unref(ctx);
}

/* ---- one process ---- */

/* B5 */
static void a_token_that_is_canceled_ends_each_context_bound_to_it_and_no_other(void **state)
{
    (void)state;
    cctx_token_t one = cctx_shared_token(board->arena, CCTX_NEVER), other = cctx_shared_token(board->arena, CCTX_NEVER);
    assert_true(one != 0 && other != 0 && one != other);
    cctx_t *a = bind_token(one), *b = bind_token(one), *c = bind_token(other);
    assert_int_equal(cctx_err(a), 0);
    assert_true(cctx_shared_cancel(board->arena, one));
    assert_false(cctx_shared_cancel(board->arena, one));
    check_ended(a, ECANCELED, ECANCELED, "context canceled");
    check_ended(b, ECANCELED, ECANCELED, "context canceled");
    assert_false(cctx_wait_for(c, CCTX_MS(20)));
    cctx_unref(c);
}

/* B5: what is bound to a token that is done is born done. */
static void a_token_that_is_done_gives_a_context_that_is_born_done(void **state)
{
    (void)state;
    cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER), late = cctx_shared_token(board->arena, cctx_now());
    assert_true(cctx_shared_cancel(board->arena, token));
    cctx_t *ctx = bind_token(token);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    check_ended(ctx, ECANCELED, ECANCELED, "context canceled");
    assert_false(cctx_shared_cancel(board->arena, late));
    ctx = bind_token(late);
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    check_ended(ctx, ETIMEDOUT, ETIMEDOUT, "context deadline exceeded");
}

/* B5, C11: the effective deadline is the earlier one, and it fires in the process itself. */
static void the_deadline_is_the_earlier_of_the_parents_and_the_tokens(void **state)
{
    (void)state;
    cctx_time_t now = cctx_now(), seen = 0;
    cctx_token_t soon = cctx_shared_token(board->arena, now + CCTX_MS(30)), never = cctx_shared_token(board->arena, CCTX_NEVER);
    cctx_t *parent = cctx_with_deadline(cctx_background(), now + CCTX_S(LONG));
    cctx_t *a = cctx_with_shared(parent, board->arena, soon), *b = cctx_with_shared(parent, board->arena, never);
    assert_true(cctx_deadline(a, &seen) && seen == now + CCTX_MS(30));
    assert_true(cctx_deadline(b, &seen) && seen == now + CCTX_S(LONG));
    check_ended(a, ETIMEDOUT, ETIMEDOUT, "context deadline exceeded");
    assert_true(cctx_now() >= now + CCTX_MS(30));
    assert_false(cctx_shared_cancel(board->arena, soon));
    cctx_cancel(parent);
    check_ended(b, ECANCELED, ECANCELED, "context canceled");
    cctx_unref(parent);
}

static const cctx_key_t color = {"color", NULL};

/* B5: the token's child and the parent's: its cancel ends neither, its values are the parent's. */
static void a_bound_context_is_canceled_alone_and_has_its_parents_values(void **state)
{
    (void)state;
    static const cctx_cause_t enough = {7, "enough"};
    char text[200];
    int blue;
    cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER);
    const cctx_t *parent = cctx_with_value(cctx_background(), &color, &blue);
    cctx_t *a = cctx_with_shared(parent, board->arena, token), *b = bind_token(token);
    assert_ptr_equal(cctx_value(a, &color), &blue);
    assert_true(cctx_print(a, text, sizeof text) < sizeof text);
    assert_string_equal(text, "cctx.Background.WithValue(color).WithAny(2)");
    assert_true(cctx_cancel_cause(a, &enough));
    check_ended(a, ECANCELED, 7, "enough");
    assert_int_equal(cctx_err(b), 0);
    assert_true(cctx_shared_cancel(board->arena, token));
    check_ended(b, ECANCELED, ECANCELED, "context canceled");
    cctx_unref(parent);
}

/* B5: a stale token reads as done and cancels nothing. */
static void a_stale_token_reads_as_done_and_cancels_nothing(void **state)
{
    (void)state;
    cctx_token_t old = cctx_shared_token(board->arena, CCTX_NEVER), last = 0;
    assert_true(cctx_shared_cancel(board->arena, old));
    for (int i = 0; i < 100; i++) {
        last = cctx_shared_token(board->arena, CCTX_NEVER);
        assert_true(last != 0 && last != old);
        if (i < 99)
            assert_true(cctx_shared_cancel(board->arena, last));
    }
    cctx_t *live = bind_token(last);
    assert_false(cctx_shared_cancel(board->arena, old));
    check_ended(bind_token(old), ECANCELED, ESTALE, "stale token");
    assert_false(cctx_wait_for(live, CCTX_MS(20)));
    assert_true(cctx_shared_cancel(board->arena, last));
    cctx_unref(live);
}

/* B5: no number that was not given out ends anything. */
static void a_forged_token_cancels_nothing(void **state)
{
    (void)state;
    cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER);
    cctx_t *ctx = bind_token(token);
    rng_t rng = rng_make(test_seed(), 0);
    for (int i = 0; i < 100000; i++) {
        cctx_token_t forged = i < 64 ? token ^ (cctx_token_t)1 << i : rng_next(&rng) >> rng_below(&rng, 64);
        if (forged == token)
            continue;
        assert_false(cctx_shared_cancel(board->arena, forged));
        if (i >= 1000)
            continue;
        errno = 0;
        cctx_t *other = cctx_with_shared(cctx_background(), board->arena, forged);
        assert_true(other ? cctx_err(other) == ECANCELED : errno == EINVAL);
        cctx_unref(other);
    }
    assert_int_equal(cctx_err(ctx), 0);
    assert_true(cctx_shared_cancel(board->arena, token));
    check_ended(ctx, ECANCELED, ECANCELED, "context canceled");
}

/* B5: an arena holds capacity live tokens; what is done makes room. */
static void a_full_arena_says_so_and_what_is_done_makes_room(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        assert_true((board->token[i] = cctx_shared_token(board->arena, CCTX_NEVER)) != 0);
    errno = 0;
    assert_true(cctx_shared_token(board->arena, CCTX_NEVER) == 0);
    assert_int_equal(errno, ENOSPC);
    assert_true(cctx_shared_cancel(board->arena, board->token[3]));
    cctx_token_t token = cctx_shared_token(board->arena, cctx_now() + CCTX_MS(1));
    assert_true(token != 0);
    assert_true(cctx_shared_token(board->arena, CCTX_NEVER) == 0);
    cctx_t *ctx = bind_token(token);
    assert_int_equal(cctx_wait(ctx), ETIMEDOUT);
    cctx_unref(ctx);
    assert_true(cctx_shared_token(board->arena, CCTX_NEVER) != 0);
}

/* B5: a bound context keeps the memory, and the handle may go first. */
static void the_handle_may_go_before_the_contexts(void **state)
{
    (void)state;
    cctx_shared_t *again = cctx_shared_attach(cctx_shared_fd(board->arena));
    assert_non_null(again);
    cctx_token_t token = cctx_shared_token(again, CCTX_NEVER);
    cctx_t *ctx = cctx_with_shared(cctx_background(), again, token);
    cctx_shared_free(again);
    assert_int_equal(cctx_err(ctx), 0);
    assert_true(cctx_shared_cancel(board->arena, token));
    check_ended(ctx, ECANCELED, ECANCELED, "context canceled");
}

static int freed[2];            /* a pipe */

static void free_all(void *arg)
{
    cctx_unref(arg);
    cctx_shared_free(board->arena);
    tell(freed[1]);
}

/* C30, B5: a callback of a bound context may drop all there is. */
static void a_callback_on_a_bound_context_may_free_the_arena(void **state)
{
    (void)state;
    CHECK(pipe(freed) == 0);
    cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER);
    cctx_shared_t *again = cctx_shared_attach(cctx_shared_fd(board->arena));
    cctx_t *ctx = bind_token(token), *child = cctx_with_cancel(ctx);
    cctx_callback_t callback = {{0}};
    assert_int_equal(cctx_after_func(ctx, &callback, free_all, ctx), 0);
    assert_true(cctx_shared_cancel(again, token));
    assert_int_equal(cctx_wait(child), ECANCELED);
    hear(freed[0]);
    assert_false(cctx_stop_wait(&callback));
    cctx_unref(child);
    close(freed[0]);
    close(freed[1]);
    board->arena = again;
}

/* ---- several processes ---- */

static void child_waits(void *arg)
{
    (void)arg;
    cctx_t *ctx = bind_token(board->token[0]);
    tell(step_out);
    CHECK(cctx_wait(ctx) == ECANCELED);
    CHECK(board->seen == 42);           /* C5, between processes */
    CHECK(strcmp(cctx_cause(ctx)->text, "context canceled") == 0);
    cctx_unref(ctx);
}

/* B5 */
static void a_cancel_in_one_process_wakes_the_waiters_in_the_others(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    struct process p[4];
    board->token[0] = cctx_shared_token(board->arena, CCTX_NEVER);
    for (int i = 0; i < 4; i++) {
        p[i] = process_start(child_waits, NULL);
        hear(p[i].from);
    }
    board->seen = 42;
    assert_true(cctx_shared_cancel(board->arena, board->token[0]));
    for (int i = 0; i < 4; i++)
        process_end(&p[i]);
}

static void child_owns(void *arg)
{
    (void)arg;
    board->token[0] = cctx_shared_token(board->arena, CCTX_NEVER);
    board->token[1] = cctx_shared_token(board->arena, CCTX_NEVER);
    board->token[2] = cctx_shared_token(board->arena, cctx_now() + CCTX_S(LONG));
    CHECK(cctx_shared_cancel(board->arena, board->token[1]));
    tell(step_out);
    hear(step_in);
}

/* B5 */
static void a_token_ends_with_the_process_that_made_it(void **state)
{
    (void)state;
    struct process p = process_start(child_owns, NULL);
    hear(p.from);
    cctx_token_t mine = cctx_shared_token(board->arena, CCTX_NEVER);
    cctx_t *a = bind_token(board->token[0]), *b = bind_token(board->token[2]), *c = bind_token(mine);
    assert_int_equal(cctx_err(a), 0);
    process_kill(&p);
    check_ended(a, ECANCELED, ECANCELED, "owner died");
    check_ended(b, ECANCELED, ECANCELED, "owner died");
    check_ended(bind_token(board->token[0]), ECANCELED, ECANCELED, "owner died");
    check_ended(bind_token(board->token[1]), ECANCELED, ECANCELED, "context canceled");
    assert_int_equal(cctx_err(c), 0);
    assert_false(cctx_shared_cancel(board->arena, board->token[0]));
    cctx_unref(c);
}

/* B5: nobody was bound, so nobody saw it die. */
static void an_owner_that_died_unseen_is_found_dead(void **state)
{
    (void)state;
    struct process p = process_start(child_owns, NULL);
    hear(p.from);
    kill(p.pid, SIGKILL);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)p.pid, &info, WEXITED | WNOWAIT) == 0);   /* dead, and its number still taken */
    check_ended(bind_token(board->token[0]), ECANCELED, ECANCELED, "owner died");
    process_status(&p);
}

static void child_fills(void *arg)
{
    (void)arg;
    while (cctx_shared_token(board->arena, CCTX_NEVER) != 0) {}
    CHECK(errno == ENOSPC);
}

/* B5: the capacity comes back. */
static void what_a_dead_process_held_is_used_again(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct process p = process_start(child_fills, NULL);
        process_end(&p);
        cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER);
        assert_true(token != 0);
        assert_true(cctx_shared_cancel(board->arena, token));
    }
}

static void child_binds_again(void *arg)
{
    cctx_t *inherited = arg, *ctx = bind_token(board->token[1]);
    tell(step_out);
    CHECK(cctx_wait(inherited) == ECANCELED);
    CHECK(strcmp(cctx_cause(inherited)->text, "owner died") == 0);
    tell(step_out);
    CHECK(cctx_wait(ctx) == ECANCELED);
    CHECK(strcmp(cctx_cause(ctx)->text, "context canceled") == 0);
    cctx_unref(ctx);
    cctx_unref(inherited);
    board->token[3] = cctx_shared_token(board->arena, CCTX_NEVER);      /* the child's own */
    cctx_shared_free(board->arena);
}

/* C23, B5: a child's inherited contexts follow their tokens once it binds one. */
static void the_child_of_a_fork_goes_on_with_the_arena(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
    struct process owner = process_start(child_owns, NULL);
    hear(owner.from);
    cctx_t *ctx = bind_token(board->token[0]);
    board->token[1] = cctx_shared_token(board->arena, CCTX_NEVER);
    struct process p = process_start(child_binds_again, ctx);
    hear(p.from);
    process_kill(&owner);
    hear(p.from);
    check_ended(ctx, ECANCELED, ECANCELED, "owner died");
    assert_true(cctx_shared_cancel(board->arena, board->token[1]));
    process_end(&p);
    check_ended(bind_token(board->token[3]), ECANCELED, ECANCELED, "owner died");
}

/* Run anew: attach FD, bind TOKEN, cancel OTHER once it is bound. */
static int run_anew(char **argv)
{
    watchdog(LONG);
    cctx_shared_t *arena = cctx_shared_attach(atoi(argv[2]));
    CHECK(arena != NULL);
    cctx_t *ctx = cctx_with_shared(cctx_background(), arena, strtoull(argv[3], NULL, 0));
    CHECK(ctx != NULL);
    CHECK(cctx_shared_cancel(arena, strtoull(argv[4], NULL, 0)));
    CHECK(cctx_wait(ctx) == ECANCELED);
    cctx_unref(ctx);
    cctx_shared_free(arena);
    return 0;
}

static void child_execs(void *arg)
{
    char fd[20], token[24], other[24], self[] = "/proc/self/exe", name[] = "anew";
    snprintf(fd, sizeof fd, "%d", dup(cctx_shared_fd(board->arena)));
    snprintf(token, sizeof token, "%" PRIu64, board->token[0]);
    snprintf(other, sizeof other, "%" PRIu64, board->token[1]);
    char *argv[] = {arg, name, fd, token, other, NULL};
    execv(self, argv);
    CHECK(!"execv");
}

static char *program;

/* B5: an arena goes by its descriptor, a token as a number. */
static void another_program_attaches_the_arena_by_its_descriptor(void **state)
{
    (void)state;
    if (TEST_EMULATED)
        NOT_APPLICABLE("a program run by an emulator is not run by exec");
    board->token[0] = cctx_shared_token(board->arena, CCTX_NEVER);
    board->token[1] = cctx_shared_token(board->arena, CCTX_NEVER);
    cctx_t *ctx = bind_token(board->token[1]);
    struct process p = process_start(child_execs, program);
    check_ended(ctx, ECANCELED, ECANCELED, "context canceled");
    assert_true(cctx_shared_cancel(board->arena, board->token[0]));
    assert_int_equal(process_status(&p), 0);
}

/* ---- what is no arena, what is no argument ---- */

static int memory(size_t size, const void *bytes, size_t n, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void check_no_arena(int fd, int error)
{
    errno = 0;
    assert_null(cctx_shared_attach(fd));
    assert_int_equal(errno, error);
    close(fd);
}

/* B5, C32 */
static void what_is_no_arena_is_not_attached(void **state)
{
    (void)state;
    char bytes[20000];
    ssize_t size = pread(cctx_shared_fd(board->arena), bytes, sizeof bytes, 0);
    assert_true(size > 0 && (size_t)size < sizeof bytes);
    size_t n = (size_t)size;
    int seals = F_SEAL_SHRINK | F_SEAL_GROW, ends[2];
    CHECK(pipe(ends) == 0);
    close(ends[1]);
    check_no_arena(-1, EBADF);
    check_no_arena(ends[0], EINVAL);
    check_no_arena(open("/proc/self/exe", O_RDONLY), EINVAL);
    check_no_arena(memory(n, bytes, n, 0), EINVAL);
    check_no_arena(memory(n, bytes, n, F_SEAL_GROW), EINVAL);
    check_no_arena(memory(n, bytes, n, F_SEAL_SHRINK), EINVAL);
    check_no_arena(memory(n, bytes, n, seals | F_SEAL_WRITE), EPERM);
    int huge = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (huge >= 0) {            /* there may be none at the moment of a touch */
        CHECK(fcntl(huge, F_ADD_SEALS, seals) == 0);
        check_no_arena(huge, EINVAL);
    }
    check_no_arena(memory(0, bytes, 0, seals), EBADMSG);
    check_no_arena(memory(10, bytes, 10, seals), EBADMSG);
    check_no_arena(memory(n - 16, bytes, n - 16, seals), EBADMSG);
    check_no_arena(memory(n + 1, bytes, n, seals), EBADMSG);
    check_no_arena(memory((size_t)1 << 30, bytes, n, seals), EBADMSG);
    for (size_t i = 0; i < 16; i++) {           /* magic, version, capacity */
        bytes[i] ^= 1;
        check_no_arena(memory(n, bytes, n, seals), EBADMSG);
        bytes[i] ^= 1;
    }
    bytes[16] ^= 1;                             /* another namespace */
    if (access("/proc/self/ns/pid", F_OK) == 0)
        check_no_arena(memory(n, bytes, n, seals), EXDEV);
    bytes[16] ^= 1;
    int fd = memory(n, bytes, n, seals);
    cctx_shared_t *copy = cctx_shared_attach(fd);
    close(fd);
    assert_non_null(copy);
    assert_true(cctx_shared_token(copy, CCTX_NEVER) != 0);
    cctx_shared_free(copy);
}

/* C32 */
static void null_and_impossible_arguments_are_answered(void **state)
{
    (void)state;
    cctx_token_t token = cctx_shared_token(board->arena, CCTX_NEVER);
    size_t bad[] = {0, (size_t)CCTX_SHARED_MAX + 1, SIZE_MAX};
    for (int i = 0; i < 3; i++) {
        errno = 0;
        assert_null(cctx_shared_create(bad[i]));
        assert_int_equal(errno, EINVAL);
    }
    cctx_shared_t *most = cctx_shared_create(CCTX_SHARED_MAX);
    assert_non_null(most);
    assert_true(cctx_shared_token(most, CCTX_NEVER) != 0);
    cctx_shared_free(most);
    errno = 0;
    assert_int_equal(cctx_shared_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_true(cctx_shared_token(NULL, CCTX_NEVER) == 0);
    assert_int_equal(errno, EINVAL);
    assert_false(cctx_shared_cancel(NULL, token));
    assert_false(cctx_shared_cancel(board->arena, 0));
    cctx_shared_free(NULL);
    errno = 0;
    assert_null(cctx_with_shared(NULL, board->arena, token));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_shared(cctx_background(), NULL, token));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_shared(cctx_background(), board->arena, 0));
    assert_int_equal(errno, EINVAL);
    errno = 5;
    assert_true(cctx_shared_cancel(board->arena, token));
    assert_int_equal(errno, 5);
}

/* ---- corruption ---- */

/* B5: whatever the bytes are, the answer is EBADMSG or one that the bytes justify. */
static void a_corrupt_arena_is_said_to_be_corrupt(void **state)
{
    (void)state;
    static const unsigned char fill[] = {0xff, 0x00, 0xaa, 0x55, 0x01, 0x80};
    size_t head = 64 + 64 + 64 + 8 * 1024, size = head + 8 * 16;
    for (unsigned i = 0; i < sizeof fill; i++)
        for (int part = 0; part < 2; part++) {
            cctx_shared_t *arena = cctx_shared_create(8);
            cctx_token_t token = cctx_shared_token(arena, CCTX_NEVER);
            cctx_t *ctx = cctx_with_shared(cctx_background(), arena, token);
            cctx_shared_t *other = cctx_shared_attach(cctx_shared_fd(arena));
            unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cctx_shared_fd(arena), 0);
            CHECK(ctx && other && bytes != MAP_FAILED);
            if (part == 0)
                memset(bytes, fill[i], size);
            else
                memset(bytes + head, fill[i], size - head);
            errno = 0;
            cctx_t *none = cctx_with_shared(cctx_background(), arena, token);
            assert_true(none ? cctx_is_done(none) : errno == EBADMSG);
            assert_true(!none || (part == 1 && fill[i] == 0));
            cctx_unref(none);
            assert_false(cctx_shared_cancel(arena, token));
            if (part == 0 || fill[i] != 0) {
                errno = 0;
                assert_true(cctx_shared_token(arena, CCTX_NEVER) == 0);
                assert_int_equal(errno, EBADMSG);
            }
            if (part == 0) {
                errno = 0;
                assert_null(cctx_shared_attach(cctx_shared_fd(arena)));
                assert_int_equal(errno, EBADMSG);
            }
            (*(uint32_t *)(void *)(bytes + 64))++;
            syscall(SYS_futex, bytes + 64, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
            assert_int_equal(cctx_wait(ctx), ECANCELED);
            if (part == 0 || fill[i] != 0) {
                assert_int_equal(cctx_cause(ctx)->code, EBADMSG);
                assert_string_equal(cctx_cause(ctx)->text, "shared arena corrupt");
            }
            munmap(bytes, size);
            cctx_unref(ctx);
            cctx_shared_free(other);
            cctx_shared_free(arena);
        }
}

/* ---- nothing is left ---- */

static int open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void come_and_go(void *arg)
{
    (void)arg;
    cctx_unref(cctx_with_timeout(cctx_background(), CCTX_S(1000)));     /* the timer thread */
    int files = open_files();
    unsigned running = threads_now();
    size_t before = 0;
    for (int round = 0; round < 12; round++) {
        cctx_shared_t *arena = cctx_shared_create(100);
        board->arena = arena;
        struct process p = process_start(child_owns, NULL);
        hear(p.from);
        for (int i = 0; i < 300; i++) {
            cctx_t *ctx = bind_token(board->token[0]), *child = cctx_with_cancel(ctx);
            cctx_unref(ctx);
            cctx_unref(child);
        }
        cctx_t *last = bind_token(board->token[0]);
        process_kill(&p);
        CHECK(cctx_wait(last) == ECANCELED && strcmp(cctx_cause(last)->text, "owner died") == 0);
        cctx_unref(last);
        cctx_shared_free(arena);
        /* The arena's threads end by themselves, and then its memory goes. */
        while (threads_now() > running || open_files() > files)
            poll(NULL, 0, 1);
        CHECK(open_files() == files && threads_now() == running);
        if (round == 3)
            before = memory_in_use();
    }
    CHECK(TEST_TSAN || memory_in_use() <= before + 65536);
}

/* B5, C22: contexts that come and go leave nothing, nor do arenas, nor owners. In a process that has no more threads
 * of earlier tests. */
static void contexts_owners_and_arenas_come_and_go_and_leave_nothing(void **state)
{
    (void)state;
    cctx_shared_t *arena = board->arena;
    if (!threads_after_fork())
        NOT_APPLICABLE("no threads after a fork here");
    struct process p = process_start(come_and_go, NULL);
    process_end(&p);
    board->arena = arena;
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc == 5 && strcmp(argv[1], "anew") == 0)
        return run_anew(argv);
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(a_token_that_is_canceled_ends_each_context_bound_to_it_and_no_other),
        ROW(a_token_that_is_done_gives_a_context_that_is_born_done),
        ROW(the_deadline_is_the_earlier_of_the_parents_and_the_tokens),
        ROW(a_bound_context_is_canceled_alone_and_has_its_parents_values),
        ROW(a_stale_token_reads_as_done_and_cancels_nothing),
        ROW(a_forged_token_cancels_nothing),
        ROW(a_full_arena_says_so_and_what_is_done_makes_room),
        ROW(the_handle_may_go_before_the_contexts),
        ROW(a_callback_on_a_bound_context_may_free_the_arena),
        ROW(a_cancel_in_one_process_wakes_the_waiters_in_the_others),
        ROW(a_token_ends_with_the_process_that_made_it),
        ROW(an_owner_that_died_unseen_is_found_dead),
        ROW(what_a_dead_process_held_is_used_again),
        ROW(the_child_of_a_fork_goes_on_with_the_arena),
        ROW(another_program_attaches_the_arena_by_its_descriptor),
        ROW(what_is_no_arena_is_not_attached),
        ROW(null_and_impossible_arguments_are_answered),
        ROW(a_corrupt_arena_is_said_to_be_corrupt),
        ROW(contexts_owners_and_arenas_come_and_go_and_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
