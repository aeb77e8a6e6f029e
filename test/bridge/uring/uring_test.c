/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cctx/bridge/uring.h against this kernel's io_uring. Each test runs with what the kernel has, then with the
 * descriptor of the context in the place of a futex request. Where there is no io_uring, or no futex request,
 * it says so.
 */
#include "figure.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cctx/bridge/uring.h>
#include <cctx/domain.h>

#define HOUR CCTX_S(3600)

/* ---- rings ---- */

static int no_ring; /* why */

static void ring_open(struct io_uring *ring, cctx_uring_t *uring, bool futex)
{
    int err = io_uring_queue_init(16, ring, 0);
    assert_int_equal(err, 0);
    cctx_uring_init(uring, ring);
    uring->futex = uring->futex && futex;
}

/* Nothing is left of what was performed. */
static void ring_close(struct io_uring *ring)
{
    assert_int_equal(io_uring_cq_ready(ring), 0);
    assert_int_equal(io_uring_sq_ready(ring), 0);
    io_uring_queue_exit(ring);
}

/* The body of a test runs with `ring` and `uring`, in each of the two ways to watch a context. */
#define EACH_WAY                                                                                             \
    struct io_uring ring;                                                                                    \
    cctx_uring_t uring;                                                                                      \
    (void)state;                                                                                             \
    if (no_ring)                                                                                             \
        NOT_APPLICABLE(strerror(no_ring));                                                                   \
    for (int way = 0; way < 2 && (ring_open(&ring, &uring, way == 0), true); ring_close(&ring), way++)

static int setup(void **state)
{
    struct io_uring ring;
    cctx_uring_t uring;
    (void)state;
    watchdog(120);
    no_ring = -io_uring_queue_init(8, &ring, 0);
    if (no_ring)
        return 0;
    cctx_uring_init(&uring, &ring);
    if (!uring.futex)
        print_message("not applicable: futex requests: this kernel has none\n");
    io_uring_queue_exit(&ring);
    return 0;
}

/* ---- contexts, pipes and who cancels ---- */

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_non_null(ctx);
    return ctx;
}

static void pipe_open(int ends[2])
{
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
}

static void pipe_close(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static int perform_read(const cctx_t *ctx, const cctx_uring_t *uring, int fd, char *to, int *got)
{
    struct io_uring_sqe request = {0};
    io_uring_prep_read(&request, fd, to, 1, (__u64)-1);
    return cctx_uring_perform(ctx, uring, &request, got);
}

/* Cancels ctx, or does something else first, when a thread sleeps. */
typedef struct canceler {
    pthread_t thread;
    cctx_t *ctx;
    pid_t sleeper;
    pthread_t signaled; /* gets SIGUSR1 each time that it sleeps, so many times */
    int signals;
    bool apart; /* on another CPU than the one that sleeps: else it hands its own over, and wakes none */
    int cpu;
    int64_t at;
} canceler_t;

static atomic_int signals_come;

static void signal_come(int sig)
{
    (void)sig;
    atomic_fetch_add(&signals_come, 1);
}

static void *canceler_main(void *arg)
{
    canceler_t *c = arg;
    if (c->apart)
        leave_cpu(c->cpu);
    for (int i = 0; i < c->signals; i++) {
        await_sleep(c->sleeper);
        CHECK(pthread_kill(c->signaled, SIGUSR1) == 0);
        while (atomic_load(&signals_come) <= i)
            sched_yield();
    }
    await_sleep(c->sleeper);
    c->at = now_ns();
    CHECK(cctx_cancel(c->ctx));
    return NULL;
}

static void cancel_when_asleep(canceler_t *c, cctx_t *ctx)
{
    *c = (canceler_t){.ctx = ctx, .sleeper = gettid()};
    c->thread = thread_start(canceler_main, c);
}

/* ---- one request ---- */

static void a_request_that_completes_is_told_with_its_result(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = live(), *timed = cctx_with_timeout(ctx, HOUR);
        const cctx_t *ctxs[] = {ctx, timed, cctx_background()};
        int ends[2];
        pipe_open(ends);
        for (size_t i = 0; i < 3; i++) {
            char byte = 0;
            int got = -1;
            CHECK(write(ends[1], "x", 1) == 1);
            assert_int_equal(perform_read(ctxs[i], &uring, ends[0], &byte, &got), 0);
            assert_int_equal(got, 1);
            assert_int_equal(byte, 'x');
        }
        pipe_close(ends);
        cctx_close(timed);
        cctx_close(ctx);
    }
}

typedef struct writer {
    pid_t sleeper;
    int fd;
} writer_t;

static void *write_when_asleep(void *arg)
{
    writer_t *w = arg;
    await_sleep(w->sleeper);
    CHECK(write(w->fd, "x", 1) == 1);
    return NULL;
}

static void a_request_that_completes_later_is_told_and_nothing_watches_the_context_any_more(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = live(), *timed = cctx_with_timeout(ctx, HOUR);
        const cctx_t *ctxs[] = {ctx, timed, cctx_background()};
        int ends[2];
        pipe_open(ends);
        for (size_t i = 0; i < 3; i++) {
            char byte = 0;
            int got = -1;
            writer_t w = {gettid(), ends[1]};
            pthread_t thread = thread_start(write_when_asleep, &w);
            assert_int_equal(perform_read(ctxs[i], &uring, ends[0], &byte, &got), 0);
            thread_join(thread);
            assert_int_equal(got, 1);
            assert_int_equal(byte, 'x');
        }
        cctx_cancel(ctx);
        assert_int_equal(io_uring_cq_ready(&ring), 0);
        pipe_close(ends);
        cctx_close(timed);
        cctx_close(ctx);
    }
}

/* After the return what comes through the pipe is not the request's any more, and its buffer the caller's. */
static void a_cancel_ends_a_request_and_the_kernel_has_done_with_its_buffer(void **state)
{
    EACH_WAY
    {
        cctx_t *root = live(), *ctx = live();
        const cctx_t *below = cctx_with_timeout(ctx, HOUR);
        const cctx_t *ctxs[] = {root, below};
        cctx_t *ends_it[] = {root, ctx};
        for (size_t i = 0; i < 2; i++) {
            char buffer = 'b', byte = 0;
            int ends[2], got = -1;
            canceler_t c;
            pipe_open(ends);
            cancel_when_asleep(&c, ends_it[i]);
            assert_int_equal(perform_read(ctxs[i], &uring, ends[0], &buffer, &got), ECANCELED);
            thread_join(c.thread);
            assert_int_equal(got, -1);
            CHECK(write(ends[1], "x", 1) == 1);
            assert_int_equal(read(ends[0], &byte, 1), 1);
            assert_int_equal(byte, 'x');
            assert_int_equal(buffer, 'b');
            pipe_close(ends);
        }
        cctx_unref(below);
        cctx_close(ctx);
        cctx_close(root);
    }
}

static void a_deadline_ends_a_request_and_never_early(void **state)
{
    EACH_WAY
    {
        char byte;
        int ends[2];
        pipe_open(ends);
        for (int i = 0; i < 20; i++) {
            int64_t start = cctx_now();
            cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(2));
            assert_int_equal(perform_read(ctx, &uring, ends[0], &byte, NULL), ETIMEDOUT);
            assert_true(cctx_now() - start >= CCTX_MS(2));
            assert_int_equal(cctx_err(ctx), ETIMEDOUT);
            cctx_close(ctx);
        }
        pipe_close(ends);
    }
}

static void nothing_is_submitted_for_a_context_that_is_done(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = live(), *late = cctx_with_timeout(cctx_background(), 0);
        char byte = 0;
        int ends[2];
        pipe_open(ends);
        CHECK(write(ends[1], "x", 1) == 1);
        cctx_cancel(ctx);
        assert_int_equal(perform_read(ctx, &uring, ends[0], &byte, NULL), ECANCELED);
        assert_int_equal(perform_read(late, &uring, ends[0], &byte, NULL), ETIMEDOUT);
        assert_int_equal(byte, 0);
        assert_int_equal(perform_read(cctx_background(), &uring, ends[0], &byte, NULL), 0);
        assert_int_equal(byte, 'x');
        pipe_close(ends);
        cctx_close(ctx);
        cctx_close(late);
    }
}

static void a_signal_does_not_end_it(void **state)
{
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = signal_come; /* without SA_RESTART */
    sigaction(SIGUSR1, &action, &before);
    EACH_WAY
    {
        cctx_t *ctx = live();
        char byte;
        int ends[2];
        pipe_open(ends);
        atomic_store(&signals_come, 0);
        canceler_t c = {.ctx = ctx, .sleeper = gettid(), .signaled = pthread_self(), .signals = 10};
        c.thread = thread_start(canceler_main, &c);
        assert_int_equal(perform_read(ctx, &uring, ends[0], &byte, NULL), ECANCELED);
        assert_int_equal(atomic_load(&signals_come), 10);
        thread_join(c.thread);
        pipe_close(ends);
        cctx_close(ctx);
    }
    sigaction(SIGUSR1, &before, NULL);
}

typedef struct race {
    cctx_t *ctx;
    int fd;
    gate_t start;
    unsigned turns;
} race_t;

static void *race_write(void *arg)
{
    race_t *race = arg;
    gate_wait(&race->start);
    CHECK(write(race->fd, "x", 1) == 1);
    return NULL;
}

static void *race_cancel(void *arg)
{
    race_t *race = arg;
    gate_wait(&race->start);
    for (unsigned i = 0; i < race->turns; i++)
        sched_yield();
    CHECK(cctx_cancel(race->ctx));
    return NULL;
}

/* Whatever comes first: a byte has been read, and that is told, or it is in the pipe. */
static void no_byte_is_lost_in_a_race_of_data_and_cancel(void **state)
{
    unsigned told = 0, kept = 0;
    EACH_WAY
    {
        int ends[2];
        pipe_open(ends);
        for (int i = 0; i < SCALED(1000); i++) {
            race_t race = {.ctx = live(), .fd = ends[1], .turns = (unsigned)i % 4};
            pthread_t writer = thread_start(race_write, &race), canceler = thread_start(race_cancel, &race);
            char byte = 0;
            gate_open(&race.start);
            int err = perform_read(race.ctx, &uring, ends[0], &byte, NULL);
            thread_join(writer);
            thread_join(canceler);
            if (err == 0) {
                told++;
                struct pollfd fd = {.fd = ends[0], .events = POLLIN};
                CHECK(poll(&fd, 1, 0) == 0);
            } else {
                kept++;
                CHECK(err == ECANCELED && byte == 0);
                CHECK(read(ends[0], &byte, 1) == 1);
            }
            CHECK(byte == 'x');
            cctx_close(race.ctx);
        }
        pipe_close(ends);
    }
    print_message("%u read, %u kept\n", told, kept);
}

/* The cancel meets the request anywhere on its way: one that came once only would be lost now and then. */
static void a_request_that_a_thread_of_the_kernel_works_on_ends_too(void **state)
{
    EACH_WAY
    {
        for (int i = 0; i < SCALED(2000); i++) {
            struct io_uring_sqe request = {0};
            char byte;
            int ends[2];
            race_t race = {.ctx = live(), .turns = (unsigned)i % 32};
            pthread_t canceler = thread_start(race_cancel, &race);
            pipe_open(ends);
            io_uring_prep_read(&request, ends[0], &byte, 1, (__u64)-1);
            request.flags = IOSQE_ASYNC;
            gate_open(&race.start);
            assert_int_equal(cctx_uring_perform(race.ctx, &uring, &request, NULL), ECANCELED);
            thread_join(canceler);
            pipe_close(ends);
            cctx_close(race.ctx);
        }
    }
}

/* ---- refusals ---- */

static void what_is_refused_is_told_and_leaves_the_ring_free(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = live();
        struct io_uring_sqe request = {0};
        char byte = 0;
        int ends[2];
        pipe_open(ends);
        io_uring_prep_read(&request, ends[0], &byte, 1, (__u64)-1);
        assert_int_equal(cctx_uring_perform(NULL, &uring, &request, NULL), EINVAL);
        assert_int_equal(cctx_uring_perform(ctx, NULL, &request, NULL), EINVAL);
        assert_int_equal(cctx_uring_perform(ctx, &uring, NULL, NULL), EINVAL);
        request.flags = IOSQE_CQE_SKIP_SUCCESS; /* its completion would never come */
        assert_int_equal(cctx_uring_perform(ctx, &uring, &request, NULL), EINVAL);
        assert_int_equal(perform_read(ctx, &uring, -1, &byte, NULL), EBADF);
        assert_int_equal(perform_read(cctx_background(), &uring, -1, &byte, NULL), EBADF);
        cctx_t *timed = cctx_with_timeout(ctx, HOUR);
        assert_int_equal(perform_read(timed, &uring, -1, &byte, NULL), EBADF);
        memset(&request, 0, sizeof request);
        request.opcode = 255; /* which no kernel knows: what is linked to it is submitted later, alone */
        assert_int_equal(cctx_uring_perform(timed, &uring, &request, NULL), EINVAL);
        cctx_close(timed);

        struct io_uring small;
        assert_int_equal(io_uring_queue_init(4, &small, 0), 0);
        cctx_uring_t other = {&small, uring.futex};
        assert_int_equal(perform_read(ctx, &other, ends[0], &byte, NULL), ENOBUFS);
        ring_close(&small);
        pipe_close(ends);
        cctx_close(ctx);
    }
}

static void a_request_is_ended_if_no_descriptor_is_left_to_watch_the_context_by(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = live();
        struct rlimit limit, none;
        char buffer = 'b', byte = 0;
        int ends[2];
        if (uring.futex) {
            cctx_close(ctx);
            continue; /* it needs none */
        }
        pipe_open(ends);
        CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        none = limit;
        none.rlim_cur = 3;
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        int err = perform_read(ctx, &uring, ends[0], &buffer, NULL);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        assert_int_equal(err, EMFILE);
        CHECK(write(ends[1], "x", 1) == 1);
        assert_int_equal(read(ends[0], &byte, 1), 1);
        assert_int_equal(buffer, 'b');
        pipe_close(ends);
        cctx_close(ctx);
    }
}

static void it_works_on_rings_of_other_setups(void **state)
{
    static const struct {
        const char *name;
        unsigned flags;
    } setups[] = {{"IORING_SETUP_SQPOLL", IORING_SETUP_SQPOLL},
                  {"IORING_SETUP_COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN},
                  {"IORING_SETUP_DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN},
                  {"IORING_SETUP_CQE32", IORING_SETUP_CQE32}};
    (void)state;
    if (no_ring)
        NOT_APPLICABLE(strerror(no_ring));
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        struct io_uring ring;
        cctx_uring_t uring;
        if (io_uring_queue_init(8, &ring, setups[i].flags) != 0) {
            print_message("not applicable: %s\n", setups[i].name);
            continue;
        }
        cctx_uring_init(&uring, &ring);
        for (int way = 0; way < 2; way++) {
            cctx_t *ctx = live(), *timed = cctx_with_timeout(cctx_background(), CCTX_MS(2));
            char byte = 0;
            int ends[2];
            canceler_t c;
            pipe_open(ends);
            uring.futex = uring.futex && way == 0;
            assert_int_equal(perform_read(timed, &uring, ends[0], &byte, NULL), ETIMEDOUT);
            cancel_when_asleep(&c, ctx);
            assert_int_equal(perform_read(ctx, &uring, ends[0], &byte, NULL), ECANCELED);
            thread_join(c.thread);
            CHECK(write(ends[1], "x", 1) == 1);
            assert_int_equal(perform_read(cctx_background(), &uring, ends[0], &byte, NULL), 0);
            pipe_close(ends);
            cctx_close(ctx);
            cctx_close(timed);
        }
        ring_close(&ring);
    }
}

/* ---- the parts, as a loop has them ---- */

/* No request watches the context, and nobody cancels: it is the kernel that ends the read. */
static void a_linked_timeout_is_the_contexts_deadline(void **state)
{
    EACH_WAY
    {
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
        struct __kernel_timespec time;
        struct io_uring_cqe *cqe;
        cctx_time_t deadline;
        char byte;
        int ends[2], results[2] = {0, 0};
        pipe_open(ends);
        struct io_uring_sqe *request = io_uring_get_sqe(&ring), *timeout = io_uring_get_sqe(&ring);
        io_uring_prep_read(request, ends[0], &byte, 1, (__u64)-1);
        assert_true(cctx_uring_prep_deadline(request, timeout, ctx, &time));
        request->user_data = 0;
        timeout->user_data = 1;
        assert_int_equal(io_uring_submit(&ring), 2);
        for (int i = 0; i < 2; i++) {
            int waited;
            do
                waited = io_uring_wait_cqe(&ring, &cqe);
            while (waited == -EINTR);
            assert_int_equal(waited, 0);
            results[cqe->user_data] = cqe->res;
            io_uring_cqe_seen(&ring, cqe);
        }
        assert_true(cctx_deadline(ctx, &deadline) && cctx_now() >= deadline);
        assert_int_equal(results[0], -ECANCELED);
        assert_int_equal(results[1], -ETIME);
        assert_int_equal(cctx_uring_errno(ctx, results[0]), ETIMEDOUT);
        pipe_close(ends);
        cctx_close(ctx);
    }
}

static cctx_time_t standing_clock(void *user)
{
    (void)user;
    return 1000;
}

static void there_is_no_timeout_without_a_deadline_or_by_another_clock(void **state)
{
    cctx_domain_options_t options;
    struct io_uring_sqe request, timeout;
    struct __kernel_timespec time;
    (void)state;
    memset(&options, 0, sizeof options);
    memset(&request, 0, sizeof request);
    memset(&timeout, 0, sizeof timeout);
    options.size = sizeof options;
    options.now = standing_clock;
    cctx_domain_t *domain = cctx_domain_new(&options);
    assert_non_null(domain);
    cctx_t *ctx = live(), *own = cctx_with_timeout(cctx_domain_background(domain), CCTX_S(1));
    assert_false(cctx_uring_prep_deadline(&request, &timeout, ctx, &time));
    assert_false(cctx_uring_prep_deadline(&request, &timeout, own, &time));
    assert_int_equal(timeout.opcode, IORING_OP_NOP);
    assert_int_equal(request.flags, 0);
    cctx_close(own);
    cctx_close(ctx);
    cctx_domain_free(domain);
}

static void an_error_of_the_contexts_is_told_apart_from_the_requests_own(void **state)
{
    cctx_t *ctx = live();
    (void)state;
    assert_int_equal(cctx_uring_errno(ctx, 7), 0);
    assert_int_equal(cctx_uring_errno(ctx, -EINTR), EINTR);
    assert_int_equal(cctx_uring_errno(ctx, -ECANCELED), ECANCELED);
    cctx_cancel(ctx);
    assert_int_equal(cctx_uring_errno(ctx, -EINTR), ECANCELED);
    assert_int_equal(cctx_uring_errno(ctx, -EIO), EIO);
    assert_int_equal(cctx_uring_errno(ctx, 7), 0);
    cctx_close(ctx);
}

enum { READS = 8 };

/* [loop] */
/* READS reads in flight on one ring, and one request for the end of ctx beside them. How many that ended. */
static int loop(const cctx_t *ctx, const cctx_uring_t *uring, int fds[READS], char bytes[READS])
{
    enum { ENDED = READS, CANCEL };
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe;
    int reads = READS, others = 0, ended = 0;
    bool watched = false, canceled = false;

    for (int i = 0; i < READS; i++) {
        sqe = io_uring_get_sqe(uring->ring);
        io_uring_prep_read(sqe, fds[i], &bytes[i], 1, (__u64)-1);
        sqe->user_data = (__u64)i;
    }
    while (reads + others > 0) {
        if (reads > 0 && !watched && !cctx_err(ctx)) {
            sqe = io_uring_get_sqe(uring->ring);
            if (cctx_uring_prep_done(uring, sqe, ctx) != 0)
                cctx_uring_prep_done(uring, sqe, cctx_background());
            sqe->user_data = ENDED;
            watched = true;
            others++;
        }
        if (!canceled && (reads == 0 || cctx_err(ctx))) { /* ends the reads, or the request beside them */
            sqe = io_uring_get_sqe(uring->ring);
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
            sqe->user_data = CANCEL;
            canceled = true;
            others++;
        }
        io_uring_submit_and_wait(uring->ring, 1);
        while (io_uring_peek_cqe(uring->ring, &cqe) == 0) {
            if (cqe->user_data < READS) {
                reads--;
                ended += cctx_uring_errno(ctx, cqe->res) == ECANCELED;
            } else
                others--;
            if (cqe->user_data == ENDED)
                watched = false;
            io_uring_cqe_seen(uring->ring, cqe);
        }
    }
    return ended;
}
/* [loop end] */

static void a_loop_of_many_requests_ends_by_one_beside_them(void **state)
{
    EACH_WAY
    {
        for (int i = 0; i < SCALED(200); i++) {
            cctx_t *ctx = live();
            int ends[READS][2], fds[READS];
            char bytes[READS] = {0};
            canceler_t c;
            for (int k = 0; k < READS; k++) {
                pipe_open(ends[k]);
                fds[k] = ends[k][0];
            }
            CHECK(write(ends[i % READS][1], "x", 1) == 1);
            cancel_when_asleep(&c, ctx);
            assert_int_equal(loop(ctx, &uring, fds, bytes), READS - 1);
            thread_join(c.thread);
            assert_int_equal(bytes[i % READS], 'x');
            for (int k = 0; k < READS; k++)
                CHECK(write(ends[k][1], "x", 1) == 1);
            assert_int_equal(loop(cctx_background(), &uring, fds, bytes), 0);
            for (int k = 0; k < READS; k++)
                pipe_close(ends[k]);
            cctx_close(ctx);
        }
    }
}

/* ---- the program ---- */

/* Its exit status. It reads `input`, which stays open unless `end`; what it says is in text. */
static int copy(const char *ms, const char *input, bool end, int sig, char *text, size_t size)
{
    int in[2], out[2], status;
    size_t got = 0;
    ssize_t n;
    pipe_open(in);
    pipe_open(out);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        execl(COPY, "copy", ms, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    CHECK(write(in[1], input, strlen(input)) == (ssize_t)strlen(input));
    if (end)
        close(in[1]);
    while ((n = read(out[0], text + got, size - 1 - got)) > 0) {
        got += (size_t)n;
        text[got] = '\0';
        if (sig && strcmp(text, input) == 0) { /* what it was given is through: now it waits */
            CHECK(kill(pid, sig) == 0);
            sig = 0;
        }
    }
    close(out[0]);
    close(in[0]);
    if (!end)
        close(in[1]);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_program_copies_and_ends_with_its_time_and_with_a_signal(void **state)
{
    char text[512];
    (void)state;
    if (no_ring)
        NOT_APPLICABLE(strerror(no_ring));
    assert_int_equal(copy("60000", "hello\n", true, 0, text, sizeof text), 0);
    assert_string_equal(text, "hello\n");
    assert_int_equal(copy("50", "hello\n", false, 0, text, sizeof text), 1);
    assert_non_null(strstr(text, "context deadline exceeded"));
    assert_int_equal(copy("60000", "hello\n", false, SIGINT, text, sizeof text), 1);
    assert_non_null(strstr(text, "interrupt signal received"));
}

/* ---- the figures ---- */

static void the_figures_of_a_cancel_until_a_read_has_completed(void **state)
{
    enum { ROUNDS = 2000 };
    static int64_t ns[ROUNDS];
    int rounds = SCALED(ROUNDS);
    EACH_WAY
    {
        int ends[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        for (int i = 0; i < rounds; i++) {
            cctx_t *ctx = live();
            struct io_uring_sqe request = {0};
            char byte;
            canceler_t c;
            io_uring_prep_recv(&request, ends[0], &byte, 1, 0);
            c = (canceler_t){.ctx = ctx, .sleeper = gettid(), .apart = true, .cpu = sched_getcpu()};
            c.thread = thread_start(canceler_main, &c);
            assert_int_equal(cctx_uring_perform(ctx, &uring, &request, NULL), ECANCELED);
            ns[i] = now_ns();
            thread_join(c.thread);
            ns[i] -= c.at;
            cctx_close(ctx);
        }
        pipe_close(ends);
        if (way == 1 || uring.futex)
            figure_report(uring.futex ? "cancel to recv completed, by the futex" : "by the descriptor", ns,
                          (size_t)rounds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_that_completes_is_told_with_its_result),
        cmocka_unit_test(a_request_that_completes_later_is_told_and_nothing_watches_the_context_any_more),
        cmocka_unit_test(a_cancel_ends_a_request_and_the_kernel_has_done_with_its_buffer),
        cmocka_unit_test(a_deadline_ends_a_request_and_never_early),
        cmocka_unit_test(nothing_is_submitted_for_a_context_that_is_done),
        cmocka_unit_test(a_signal_does_not_end_it),
        cmocka_unit_test(no_byte_is_lost_in_a_race_of_data_and_cancel),
        cmocka_unit_test(a_request_that_a_thread_of_the_kernel_works_on_ends_too),
        cmocka_unit_test(what_is_refused_is_told_and_leaves_the_ring_free),
        cmocka_unit_test(a_request_is_ended_if_no_descriptor_is_left_to_watch_the_context_by),
        cmocka_unit_test(it_works_on_rings_of_other_setups),
        cmocka_unit_test(a_linked_timeout_is_the_contexts_deadline),
        cmocka_unit_test(there_is_no_timeout_without_a_deadline_or_by_another_clock),
        cmocka_unit_test(an_error_of_the_contexts_is_told_apart_from_the_requests_own),
        cmocka_unit_test(a_loop_of_many_requests_ends_by_one_beside_them),
        cmocka_unit_test(the_program_copies_and_ends_with_its_time_and_with_a_signal),
        cmocka_unit_test(the_figures_of_a_cancel_until_a_read_has_completed),
    };
    return cmocka_run_group_tests_name("uring", tests, setup, NULL);
}
