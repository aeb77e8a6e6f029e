/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to gRPC: contexts in two and three processes, over loopback sockets. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "call.h"
#include "figure.h"

#include <grpc/grpc_security.h>
#include <fcntl.h>
#include <spawn.h>

/* ---- what is refused, or held up ---- */

static bool refuse_after_func, refuse_derivation, refuse_batch;
static gate_t cancel_entered, cancel_may_go;
static bool cancel_is_held;
static uint32_t cancels;

int __real_cctx_after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg), void *arg);
int __wrap_cctx_after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg), void *arg);
int __wrap_cctx_after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg), void *arg)
{
    return refuse_after_func ? ENOMEM : __real_cctx_after_func(ctx, cb, fn, arg);
}

cctx_t *__real_cctx_with_deadline(const cctx_t *parent, cctx_time_t deadline);
cctx_t *__wrap_cctx_with_deadline(const cctx_t *parent, cctx_time_t deadline);
cctx_t *__wrap_cctx_with_deadline(const cctx_t *parent, cctx_time_t deadline)
{
    if (!refuse_derivation)
        return __real_cctx_with_deadline(parent, deadline);
    errno = ENOMEM;
    return NULL;
}

grpc_call_error __real_grpc_call_cancel_with_status(grpc_call *rpc, grpc_status_code status, const char *text,
                                                             void *no);
grpc_call_error __wrap_grpc_call_cancel_with_status(grpc_call *rpc, grpc_status_code status, const char *text,
                                                             void *no);
grpc_call_error __wrap_grpc_call_cancel_with_status(grpc_call *rpc, grpc_status_code status, const char *text,
                                                             void *no)
{
    __atomic_fetch_add(&cancels, 1, __ATOMIC_RELAXED);
    if (cancel_is_held) {
        gate_open(&cancel_entered);
        gate_wait(&cancel_may_go);
    }
    return __real_grpc_call_cancel_with_status(rpc, status, text, no);
}

grpc_call_error __real_grpc_call_start_batch(grpc_call *rpc, const grpc_op *ops, size_t n, void *tag,
                                                     void *no);
grpc_call_error __wrap_grpc_call_start_batch(grpc_call *rpc, const grpc_op *ops, size_t n, void *tag,
                                                     void *no);
grpc_call_error __wrap_grpc_call_start_batch(grpc_call *rpc, const grpc_op *ops, size_t n, void *tag,
                                                     void *no)
{
    return refuse_batch ? GRPC_CALL_ERROR : __real_grpc_call_start_batch(rpc, ops, n, tag, no);
}

/* ---- the other process ---- */

typedef struct process {
    pid_t pid;
    FILE *says;
    char address[64];
    grpc_channel *channel;
} process_t;

static process_t server, relay; /* the second hands what it gets on to the first */

/* The path of a program beside this one. */
static const char *beside(const char *name)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(n > 0);
    path[n] = '\0';
    snprintf(strrchr(path, '/') + 1, sizeof path - (size_t)(strrchr(path, '/') + 1 - path), "%s", name);
    return path;
}

/* The next line of the process, which begins with word. */
static const char *said(process_t *process, const char *word)
{
    static char line[128];
    CHECK(fgets(line, sizeof line, process->says) != NULL);
    if (strncmp(line, word, strlen(word)) != 0)
        fprintf(stderr, "not \"%s\": %s", word, line);
    CHECK(strncmp(line, word, strlen(word)) == 0);
    return line + strlen(word);
}

/* A call has begun there: how much time its context has. */
static int64_t began_in(process_t *process)
{
    return strtoll(said(process, "began "), NULL, 10);
}

/* It has ended there: how; *at, unless at is NULL, is when. */
static int ended_in(process_t *process, int64_t *at)
{
    char *rest;
    int64_t when = strtoll(said(process, "ended "), &rest, 10);
    if (at)
        *at = when;
    return (int)strtol(rest, NULL, 10);
}

static void process_start(process_t *process, const char *next)
{
    int fds[2];
    const char *path = beside("grpc_serve");
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    process->pid = fork();
    CHECK(process->pid >= 0);
    if (process->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDOUT_FILENO);
        execl(path, path, next, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    process->says = fdopen(fds[0], "r");
    CHECK(process->says != NULL);
    snprintf(process->address, sizeof process->address, "127.0.0.1:%d",
             (int)strtol(said(process, "port "), NULL, 10));
}

static void process_connect(process_t *process)
{
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    process->channel = grpc_channel_create(process->address, credentials, NULL);
    grpc_channel_credentials_release(credentials);
}

static int process_end(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

/* gRPC asks for the forks to come first. */
static int set_up(void **state)
{
    (void)state;
    process_start(&server, NULL);
    process_start(&relay, server.address);
    grpc_init();
    process_connect(&server);
    process_connect(&relay);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    grpc_channel_destroy(server.channel);
    grpc_channel_destroy(relay.channel);
    grpc_shutdown();
    fclose(server.says);
    fclose(relay.says);
    return 0;
}

/* A call on a thread of its own. */
typedef struct calling {
    process_t *callee;
    const cctx_t *ctx;
    int err;
    char text[128];
    pthread_t thread;
} calling_t;

static void *calling_main(void *arg)
{
    calling_t *calling = arg;
    calling->err = call(calling->ctx, calling->callee->channel, "/wait", calling->text, sizeof calling->text);
    return NULL;
}

static void calling_start(calling_t *calling, process_t *callee, const cctx_t *ctx)
{
    calling->callee = callee;
    calling->ctx = ctx;
    calling->thread = thread_start(calling_main, calling);
}

/* The program grpc_call, which calls /wait. */
static pid_t client_start(const char *milliseconds)
{
    pid_t pid;
    const char *path = beside("grpc_call");
    const char *argv[] = {path, server.address, "/wait", milliseconds, NULL};
    CHECK(posix_spawn(&pid, path, NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0);
    return pid;
}

/* ---- the tests ---- */

static void a_call_that_is_answered_returns_0(void **state)
{
    char text[64] = "?";
    (void)state;
    assert_int_equal(call(cctx_background(), server.channel, "/now", text, sizeof text), 0);
    assert_string_equal(text, "");
    began_in(&server);
    assert_int_equal(ended_in(&server, NULL), 0);
}

static void a_cancel_here_ends_the_context_in_the_server(void **state)
{
    static const cctx_cause_t closed = {EPIPE, "the window was closed"};
    calling_t calling;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    (void)state;
    calling_start(&calling, &server, ctx);
    assert_true(began_in(&server) == CCTX_NEVER);
    cctx_cancel_cause(ctx, &closed);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    thread_join(calling.thread);
    assert_int_equal(calling.err, ECANCELED);
    assert_string_equal(calling.text, "the window was closed");
    cctx_unref(ctx);
}

static void a_deadline_here_is_a_deadline_in_the_server(void **state)
{
    calling_t calling;
    int64_t begin = cctx_now();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    (void)state;
    calling_start(&calling, &server, ctx);
    int64_t left = began_in(&server);
    /* A little later than ours, as gRPC rounds up: by up to a hundredth, where there are three digits. */
    assert_true(left > CCTX_S(100) - (cctx_now() - begin));
    assert_true(left <= CCTX_S(102));
    cctx_cancel(ctx);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    thread_join(calling.thread);
    assert_int_equal(calling.err, ECANCELED);
    cctx_unref(ctx);
}

static void a_deadline_ends_both(void **state)
{
    calling_t calling;
    int64_t begin = cctx_now(), at;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(2));
    (void)state;
    calling_start(&calling, &server, ctx);
    began_in(&server);
    int err = ended_in(&server, &at);
    assert_true(err == ETIMEDOUT || err == ECANCELED);
    assert_true(at - begin >= CCTX_S(2));
    thread_join(calling.thread);
    assert_int_equal(calling.err, ETIMEDOUT);
    cctx_unref(ctx);
}

static void a_client_that_is_killed_ends_the_context_in_the_server(void **state)
{
    pid_t client = client_start("100000");
    (void)state;
    assert_in_range(began_in(&server), CCTX_S(90), CCTX_S(102));
    kill(client, SIGKILL);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    process_end(client);
}

static void a_client_that_is_interrupted_ends_the_context_in_the_server(void **state)
{
    pid_t client = client_start("100000");
    (void)state;
    began_in(&server);
    kill(client, SIGINT);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    int status = process_end(client);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static void the_servers_own_deadline_needs_no_client(void **state)
{
    pid_t client = client_start("5000");
    (void)state;
    began_in(&server);
    kill(client, SIGSTOP);
    assert_int_equal(ended_in(&server, NULL), ETIMEDOUT);
    kill(client, SIGKILL);
    process_end(client);
}

static void a_context_that_is_done_ends_its_call_at_once(void **state)
{
    char text[128];
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    (void)state;
    cctx_cancel_causef(ctx, 0, "%s", "never mind");
    assert_int_equal(call(ctx, server.channel, "/wait", text, sizeof text), ECANCELED);
    assert_string_equal(text, "never mind");
    cctx_unref(ctx);
    ctx = cctx_with_timeout(cctx_background(), 0);
    assert_int_equal(call(ctx, server.channel, "/wait", text, sizeof text), ETIMEDOUT);
    cctx_unref(ctx);
}

/* A call that is never started: what is armed and disarmed. */
static grpc_completion_queue *idle_cq;
static grpc_call *idle_call(void)
{
    idle_cq = grpc_completion_queue_create_for_pluck(NULL);
    return grpc_channel_create_call(server.channel, NULL, 0, idle_cq, grpc_slice_from_static_string("/now"),
                                    NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

static void idle_end(grpc_call *rpc)
{
    grpc_call_unref(rpc);
    grpc_completion_queue_shutdown(idle_cq);
    grpc_completion_queue_destroy(idle_cq);
}

static void after_a_disarm_no_cancel_comes(void **state)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    grpc_call *rpc = idle_call();
    cctx_grpc_t armed;
    (void)state;
    assert_int_equal(cctx_grpc_arm(&armed, ctx, rpc), 0);
    cctx_grpc_disarm(&armed);
    idle_end(rpc);
    uint32_t before = __atomic_load_n(&cancels, __ATOMIC_RELAXED);
    cctx_close(ctx);
    assert_int_equal(__atomic_load_n(&cancels, __ATOMIC_RELAXED), before);
}

static void *canceling(void *ctx)
{
    cctx_cancel(ctx);
    return NULL;
}

typedef struct disarming {
    cctx_grpc_t armed;
    pid_t tid;
    gate_t started;
    uint32_t returned;
} disarming_t;

static void *disarming_main(void *arg)
{
    disarming_t *disarming = arg;
    disarming->tid = (pid_t)syscall(SYS_gettid);
    gate_open(&disarming->started);
    cctx_grpc_disarm(&disarming->armed);
    __atomic_store_n(&disarming->returned, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void a_disarm_waits_for_the_cancel_that_runs(void **state)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    grpc_call *rpc = idle_call();
    disarming_t disarming = {0};
    (void)state;
    cancel_is_held = true;
    assert_int_equal(cctx_grpc_arm(&disarming.armed, ctx, rpc), 0);
    pthread_t canceler = thread_start(canceling, ctx);
    gate_wait(&cancel_entered);
    pthread_t disarmer = thread_start(disarming_main, &disarming);
    gate_wait(&disarming.started);
    await_sleep(disarming.tid);
    assert_int_equal(__atomic_load_n(&disarming.returned, __ATOMIC_ACQUIRE), 0);
    gate_open(&cancel_may_go);
    thread_join(disarmer);
    idle_end(rpc);
    thread_join(canceler);
    cancel_is_held = false;
    cctx_unref(ctx);
}

static void a_refused_registration_arms_nothing(void **state)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    grpc_call *rpc = idle_call();
    cctx_grpc_t armed;
    char text[64];
    (void)state;
    refuse_after_func = true;
    int err = cctx_grpc_arm(&armed, ctx, rpc);
    int called = call(ctx, server.channel, "/wait", text, sizeof text);
    refuse_after_func = false;
    assert_int_equal(err, ENOMEM);
    assert_int_equal(called, ENOMEM);
    cctx_grpc_disarm(&armed);
    assert_int_equal(cctx_grpc_arm(&armed, ctx, NULL), EINVAL);
    assert_int_equal(cctx_grpc_arm(&armed, NULL, rpc), EINVAL);
    assert_int_equal(cctx_grpc_arm(NULL, ctx, rpc), EINVAL);
    idle_end(rpc);
    cctx_close(ctx);
}

static void a_refused_accept_leaves_nothing(void **state)
{
    cctx_grpc_peer_t peer;
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    cctx_t *parent = cctx_with_cancel(cctx_background());
    (void)state;
    refuse_derivation = true;
    errno = 0;
    assert_null(cctx_grpc_accept(&peer, parent, NULL, never, NULL));
    assert_int_equal(errno, ENOMEM);
    refuse_derivation = false;
    refuse_batch = true;
    assert_null(cctx_grpc_accept(&peer, parent, NULL, never, NULL));
    assert_int_equal(errno, EINVAL);
    refuse_batch = false;
    cctx_close(parent);
}

/* Where gRPC is a moment before the context's own timer: contexts without one show who ends them. */
static void after_the_deadline_it_is_the_deadline_that_ends_the_context(void **state)
{
    const struct {
        gpr_timespec deadline;
        int gone, err;
    } cases[] = {
        {gpr_now(GPR_CLOCK_MONOTONIC), 1, 0},
        {gpr_inf_future(GPR_CLOCK_MONOTONIC), 1, ECANCELED},
        {gpr_inf_future(GPR_CLOCK_MONOTONIC), 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        cctx_grpc_peer_t peer = {ctx, cases[i].deadline, cases[i].gone};
        cctx_ref(ctx);
        cctx_grpc_closed(&peer);
        assert_int_equal(cctx_err(ctx), cases[i].err);
        cctx_close(ctx);
    }
}

static void times_are_converted_both_ways(void **state)
{
    cctx_t *ctx;
    (void)state;
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    assert_int_equal(gpr_time_cmp(cctx_grpc_deadline(cctx_background()), never), 0);
    assert_true(cctx_grpc_time(never) == CCTX_NEVER);
    assert_true(cctx_grpc_time(gpr_inf_future(GPR_CLOCK_REALTIME)) == CCTX_NEVER);
    gpr_timespec in_400_years = gpr_time_from_hours(INT64_C(24) * 366 * 400, GPR_CLOCK_MONOTONIC);
    assert_true(cctx_grpc_time(in_400_years) == CCTX_NEVER);

    cctx_time_t before = cctx_now(), time = cctx_grpc_time(gpr_inf_past(GPR_CLOCK_MONOTONIC));
    assert_true(time >= before && time <= cctx_now());

    /* From our clock to gRPC's and back: never earlier, and later by what passes here. */
    const int64_t spans[] = {1, CCTX_MS(1), CCTX_S(1), CCTX_S(86400) * 365 * 200};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        before = cctx_now();
        ctx = cctx_with_deadline(cctx_background(), before + spans[i]);
        cctx_time_t back = cctx_grpc_time(cctx_grpc_deadline(ctx));
        assert_true(back >= before + spans[i]);
        assert_true(back <= cctx_now() + spans[i]);
        cctx_close(ctx);
    }
    before = cctx_now();
    gpr_timespec wall = gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_hours(1, GPR_TIMESPAN));
    assert_in_range(cctx_grpc_time(wall) - before, CCTX_S(3500), CCTX_S(3700));

    /* A cancel leaves the deadline as it was: the call ends as canceled, not as late. */
    ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    cctx_cancel(ctx);
    assert_true(cctx_grpc_time(cctx_grpc_deadline(ctx)) >= before + CCTX_S(100));
    cctx_close(ctx);

    ctx = cctx_with_deadline(cctx_background(), INT64_MIN);
    assert_true(cctx_grpc_time(cctx_grpc_deadline(ctx)) <= cctx_now());
    cctx_close(ctx);
}

static void a_status_says_what_the_context_says(void **state)
{
    static const cctx_cause_t silent = {5, NULL};
    grpc_slice text;
    cctx_t *live = cctx_with_cancel(cctx_background()), *late = cctx_with_timeout(live, 0);
    (void)state;
    assert_int_equal(cctx_grpc_status(live, &text), GRPC_STATUS_OK);
    assert_int_equal(GRPC_SLICE_LENGTH(text), 0);
    assert_int_equal(cctx_grpc_status(late, &text), GRPC_STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(grpc_slice_str_cmp(text, "context deadline exceeded"), 0);
    grpc_slice_unref(text);

    assert_int_equal(cctx_grpc_err(live, GRPC_STATUS_OK), 0);
    assert_int_equal(cctx_grpc_err(live, GRPC_STATUS_CANCELLED), ECANCELED);
    assert_int_equal(cctx_grpc_err(live, GRPC_STATUS_DEADLINE_EXCEEDED), ETIMEDOUT);
    assert_int_equal(cctx_grpc_err(live, GRPC_STATUS_UNAVAILABLE), EIO);
    assert_int_equal(cctx_grpc_err(late, GRPC_STATUS_CANCELLED), ETIMEDOUT);
    assert_int_equal(cctx_grpc_err(late, GRPC_STATUS_OK), 0);
    cctx_cancel_cause(live, &silent);
    assert_int_equal(cctx_grpc_status(live, &text), GRPC_STATUS_CANCELLED);
    assert_int_equal(GRPC_SLICE_LENGTH(text), 0);
    assert_int_equal(cctx_grpc_err(live, GRPC_STATUS_DEADLINE_EXCEEDED), ECANCELED);
    cctx_unref(late);
    cctx_unref(live);
}

static void how_long_a_cancel_takes_to_the_other_process(void **state)
{
    enum { ROUNDS = SCALED(1000) };
    static int64_t there[ROUNDS], here[ROUNDS];
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        calling_t calling;
        int64_t at;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        calling_start(&calling, &server, ctx);
        began_in(&server);
        int64_t begin = cctx_now();
        cctx_cancel(ctx);
        thread_join(calling.thread);
        here[i] = cctx_now() - begin;
        assert_int_equal(ended_in(&server, &at), ECANCELED);
        there[i] = at - begin;
        assert_int_equal(calling.err, ECANCELED);
        cctx_unref(ctx);
    }
    figure_report("cancel to the context done in the other process", there, ROUNDS);
    figure_report("cancel to the call's return", here, ROUNDS);
}

/* Three processes: this one, the relay, and the server, which it calls with the context of what it serves. */
static void a_tree_goes_on_from_server_to_server(void **state)
{
    calling_t calling;
    int64_t begin = cctx_now();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    (void)state;
    calling_start(&calling, &relay, ctx);
    began_in(&relay);
    int64_t left = began_in(&server);
    assert_true(left > CCTX_S(100) - (cctx_now() - begin));
    assert_true(left <= CCTX_S(104));
    cctx_cancel(ctx);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    assert_int_equal(ended_in(&relay, NULL), ECANCELED);
    thread_join(calling.thread);
    assert_int_equal(calling.err, ECANCELED);
    cctx_unref(ctx);

    ctx = cctx_with_cancel(cctx_background());
    calling_start(&calling, &relay, ctx);
    began_in(&relay);
    began_in(&server);
    kill(relay.pid, SIGTERM); /* the one in the middle ends: both sides learn of it */
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    assert_int_equal(ended_in(&relay, NULL), ECANCELED);
    thread_join(calling.thread);
    assert_int_equal(calling.err, ECANCELED);
    assert_string_equal(calling.text, "terminated signal received");
    assert_int_equal(process_end(relay.pid), 0);
    cctx_close(ctx);
}

/* The last: the server is gone after it. */
static void a_server_that_ends_says_why(void **state)
{
    calling_t calling;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    (void)state;
    calling_start(&calling, &server, ctx);
    began_in(&server);
    kill(server.pid, SIGTERM);
    assert_int_equal(ended_in(&server, NULL), ECANCELED);
    thread_join(calling.thread);
    assert_int_equal(calling.err, ECANCELED);
    assert_string_equal(calling.text, "terminated signal received");
    assert_int_equal(cctx_err(ctx), 0);
    cctx_close(ctx);
    assert_int_equal(process_end(server.pid), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_is_answered_returns_0),
        cmocka_unit_test(a_cancel_here_ends_the_context_in_the_server),
        cmocka_unit_test(a_deadline_here_is_a_deadline_in_the_server),
        cmocka_unit_test(a_deadline_ends_both),
        cmocka_unit_test(a_client_that_is_killed_ends_the_context_in_the_server),
        cmocka_unit_test(a_client_that_is_interrupted_ends_the_context_in_the_server),
        cmocka_unit_test(the_servers_own_deadline_needs_no_client),
        cmocka_unit_test(a_context_that_is_done_ends_its_call_at_once),
        cmocka_unit_test(after_a_disarm_no_cancel_comes),
        cmocka_unit_test(a_disarm_waits_for_the_cancel_that_runs),
        cmocka_unit_test(a_refused_registration_arms_nothing),
        cmocka_unit_test(a_refused_accept_leaves_nothing),
        cmocka_unit_test(after_the_deadline_it_is_the_deadline_that_ends_the_context),
        cmocka_unit_test(times_are_converted_both_ways),
        cmocka_unit_test(a_status_says_what_the_context_says),
        cmocka_unit_test(how_long_a_cancel_takes_to_the_other_process),
        cmocka_unit_test(a_tree_goes_on_from_server_to_server),
        cmocka_unit_test(a_server_that_ends_says_why),
    };
    watchdog(200);
    return cmocka_run_group_tests_name("grpc", tests, set_up, tear_down);
}
