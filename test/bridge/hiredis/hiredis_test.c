/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bridge to hiredis against a Redis server that this program starts in a temporary folder, on a free port
 * of the loopback and on a socket in that folder, and stops. SIGPIPE keeps its default action: none may come.
 */
#include "figure.h"
#include "server.h"

#include <cctx/bridge/hiredis.h>

#include <sys/resource.h>

/* ---- the server ---- */

static char folder[64], path[96];
static int port;
static pid_t server;
static FILE *says; /* the server's log, which is a few lines: its pipe never fills */

static bool server_start(void)
{
    char number[16];
    const char *const argv[] = {REDIS_SERVER, "--port", number, "--bind", "127.0.0.1", "--unixsocket", path,
                                "--dir", folder, "--save", "", "--daemonize", "no", NULL};
    int ends[2];

    port = port_free();
    snprintf(number, sizeof number, "%d", port);
    snprintf(path, sizeof path, "%s/socket", folder);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    CHECK(server > 0);
    close(ends[1]);
    says = fdopen(ends[0], "r");
    return await_line(says, "at", path); /* the last thing that it opens */
}

static void server_stop(void)
{
    if (server) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        server = 0;
    }
    fclose(says);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cctx_hiredis.XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int attempt = 1; !server_start(); attempt++) { /* somebody else took the port meanwhile */
        assert_true(attempt < 5);
        server_stop();
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop();
    return folder_remove(folder);
}

/* ---- what the tests have in common ---- */

static redisContext *connected(void)
{
    redisContext *c = cctx_redis_connect_unix(cctx_background(), path);

    assert_non_null(c);
    if (c->err)
        fail_msg("%s", c->errstr);
    return c;
}

/* Runs a command whose reply must be `expected`: a string, a status, or an integer in digits. */
static void expect_reply(redisContext *c, const char *command, const char *expected)
{
    redisReply *reply = cctx_redis_command(cctx_background(), c, command);
    char digits[24];

    if (!reply)
        fail_msg("%s: %s", command, c->errstr);
    snprintf(digits, sizeof digits, "%lld", reply->integer);
    assert_string_equal(reply->type == REDIS_REPLY_INTEGER ? digits : reply->str, expected);
    freeReplyObject(reply);
}

static int err_of(const cctx_t *ctx, redisContext *c, const char *command)
{
    redisReply *reply = cctx_redis_command(ctx, c, command);
    int err = cctx_redis_err(ctx, reply);

    freeReplyObject(reply);
    return err;
}

/* Returns once the server says that as many of its clients sleep in a command. */
static void await_blocked(redisContext *c, int count)
{
    char expected[32];

    snprintf(expected, sizeof expected, "blocked_clients:%d\r", count);
    for (bool found = false; !found;) {
        redisReply *reply = cctx_redis_command(cctx_background(), c, "INFO clients");

        CHECK(reply && reply->str);
        found = strstr(reply->str, expected) != NULL;
        freeReplyObject(reply);
    }
}

/* A thread that cancels ctx, or ends the server, once a client sleeps in its command. */
typedef struct actor {
    cctx_t *ctx; /* NULL: the server is to be ended */
    redisContext *c;
    int64_t at;
} actor_t;

static void *actor_main(void *arg)
{
    actor_t *actor = arg;

    await_blocked(actor->c, 1);
    actor->at = now_ns();
    if (actor->ctx)
        cctx_cancel(actor->ctx);
    else
        kill(server, SIGKILL);
    return NULL;
}

/* ---- tests ---- */

static void a_command_gives_its_reply(void **state)
{
    redisContext *both[] = {connected(), cctx_redis_connect(cctx_background(), "127.0.0.1", port)};
    const char *argv[] = {"STRLEN", "key"};

    (void)state;
    for (int n = 0; n < 2; n++) {
        redisContext *c = both[n];
        redisReply *reply = cctx_redis_command(cctx_background(), c, "SET %s %b", "key", "a\0b", (size_t)3);

        assert_non_null(reply);
        assert_int_equal(c->err, 0);
        assert_string_equal(reply->str, "OK");
        freeReplyObject(reply);
        reply = cctx_redis_command_argv(cctx_background(), c, 2, argv, NULL);
        assert_int_equal(reply->integer, 3);
        freeReplyObject(reply);
        assert_int_equal(err_of(cctx_background(), c, "LPUSH key x"), EIO); /* the server's: a wrong type */
        assert_true(c->flags & REDIS_BLOCK);
        assert_false(fcntl(c->fd, F_GETFL) & O_NONBLOCK);
        reply = redisCommand(c, "DEL key");
        assert_int_equal(reply->integer, 1);
        freeReplyObject(reply);
        redisFree(c);
    }
}

static void a_connection_that_does_not_block_stays_so(void **state)
{
    redisContext *c = redisConnectUnixNonBlock(path);

    (void)state;
    expect_reply(c, "ECHO one", "one");
    assert_false(c->flags & REDIS_BLOCK);
    assert_true(fcntl(c->fd, F_GETFL) & O_NONBLOCK);
    redisFree(c);
}

static void replies_come_in_the_order_of_what_was_appended(void **state)
{
    redisContext *c = connected();

    (void)state;
    for (int n = 0; n < 3; n++)
        assert_int_equal(redisAppendCommand(c, "ECHO %d", n), REDIS_OK);
    for (int n = 0; n < 3; n++) {
        redisReply *reply = cctx_redis_wait(cctx_background(), c);

        assert_int_equal(atoi(reply->str), n);
        freeReplyObject(reply);
    }
    redisFree(c);
}

static void a_deadline_ends_a_command_and_the_connection_is_dead(void **state)
{
    redisContext *c = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));

    (void)state;
    assert_int_equal(err_of(ctx, c, "BLPOP nothing 0"), ETIMEDOUT);
    assert_int_equal(c->err, REDIS_ERR_IO);
    assert_string_equal(c->errstr, "context deadline exceeded");
    assert_int_equal(err_of(cctx_background(), c, "ECHO one"), EIO);
    assert_null(redisCommand(c, "ECHO one"));
    assert_int_equal(redisReconnect(c), REDIS_OK);
    expect_reply(c, "ECHO one", "one");
    cctx_close(ctx);
    redisFree(c);
}

static void a_done_context_sends_nothing_and_the_connection_is_good(void **state)
{
    redisContext *c = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());

    (void)state;
    cctx_cancel(ctx);
    assert_int_equal(err_of(ctx, c, "INCR count"), ECANCELED);
    assert_int_equal(c->err, 0);
    assert_null(cctx_redis_connect(ctx, "127.0.0.1", port));
    expect_reply(c, "INCR count", "1");
    /* Where something may be under way, it is dead. */
    assert_int_equal(redisAppendCommand(c, "INCR count"), REDIS_OK);
    assert_null(cctx_redis_wait(ctx, c));
    assert_int_equal(c->err, REDIS_ERR_IO);
    cctx_close(ctx);
    redisFree(c);
}

static void what_cannot_be_waited_for_is_not_sent(void **state)
{
    redisContext *c = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    struct rlimit before, none;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_null(cctx_redis_command(ctx, c, "INCR other"));
    assert_int_equal(errno, EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(c->err, 0);
    expect_reply(c, "INCR other", "1");
    cctx_close(ctx);
    redisFree(c);
}

/* The server learns of the end at once, before the connection is freed: its BLPOP takes nothing later. */
static void the_server_lets_go_of_a_command_that_was_ended(void **state)
{
    redisContext *c = connected(), *other = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    actor_t actor = {.ctx = ctx, .c = other};
    pthread_t thread = thread_start(actor_main, &actor);

    (void)state;
    assert_int_equal(err_of(ctx, c, "BLPOP list 0"), ECANCELED);
    pthread_join(thread, NULL);
    await_blocked(other, 0);
    expect_reply(other, "RPUSH list one", "1");
    expect_reply(other, "LPOP list", "one");
    cctx_close(ctx);
    redisFree(c);
    redisFree(other);
}

static void a_cancel_from_another_thread_ends_a_command(void **state)
{
    enum { ROUNDS = 300 };
    static int64_t times[ROUNDS];
    redisContext *c = connected(), *other = connected();

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        actor_t actor = {.ctx = ctx, .c = other};
        pthread_t thread = thread_start(actor_main, &actor);

        assert_int_equal(err_of(ctx, c, "BLPOP nothing 0"), ECANCELED);
        times[round] = now_ns();
        pthread_join(thread, NULL);
        times[round] -= actor.at;
        assert_int_equal(redisReconnect(c), REDIS_OK);
        await_blocked(other, 0);
        cctx_close(ctx);
    }
    figure_report("cancel to command stopped", times, ROUNDS);
    redisFree(c);
    redisFree(other);
}

/* A context that ends about when the reply comes: a reply is that of its own command, or there is none. */
static void a_reply_is_never_that_of_another_command(void **state)
{
    const int rounds = SCALED(10000);
    rng_t rng = rng_make(test_seed(), 0);
    redisContext *c = connected();
    int ended = 0;

    (void)state;
    for (int round = 0; round < rounds; round++) {
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_US(1 + rng_below(&rng, 100)));
        redisReply *reply = cctx_redis_command(ctx, c, "ECHO %d", round);

        if (reply)
            assert_int_equal(atoi(reply->str), round);
        else
            assert_int_equal(cctx_redis_err(ctx, reply), ETIMEDOUT);
        ended += c->err != 0;
        freeReplyObject(reply);
        if (c->err)
            assert_int_equal(redisReconnect(c), REDIS_OK);
        cctx_close(ctx);
    }
    print_message("%d rounds: %d commands ended by their context\n", rounds, ended);
    redisFree(c);
}

/* A server that is stopped reads nothing, and a large value does not fit into the sockets. */
static void a_deadline_ends_the_sending_of_a_large_value(void **state)
{
    const size_t size = 64 << 20;
    char *value = malloc(size);
    redisContext *c = connected();
    cctx_t *ctx;

    (void)state;
    assert_non_null(value);
    memset(value, 'x', size);
    assert_int_equal(redisAppendCommand(c, "SET large %b", value, size), REDIS_OK);
    free(value);
    CHECK(kill(server, SIGSTOP) == 0);
    ctx = cctx_with_timeout(cctx_background(), CCTX_MS(200));
    assert_null(cctx_redis_wait(ctx, c));
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    CHECK(kill(server, SIGCONT) == 0);
    assert_int_equal(redisReconnect(c), REDIS_OK);
    expect_reply(c, "EXISTS large", "0");
    cctx_close(ctx);
    redisFree(c);
}

static void a_connect_ends_with_its_context(void **state)
{
    int number, full = port_bound(&number);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));
    redisContext *waiting[3], *c;

    (void)state;
    /* A queue of one place: the third connection is let in by nobody. */
    assert_int_equal(listen(full, 0), 0);
    for (int n = 0; n < 3; n++)
        waiting[n] = redisConnectNonBlock("127.0.0.1", number);
    c = cctx_redis_connect(ctx, "127.0.0.1", number);
    assert_non_null(c);
    assert_string_equal(c->errstr, "context deadline exceeded");
    redisFree(c);
    for (int n = 0; n < 3; n++)
        redisFree(waiting[n]);
    close(full);
    c = cctx_redis_connect(cctx_background(), "127.0.0.1", number); /* nobody listens now */
    assert_string_equal(c->errstr, "Connection refused");
    redisFree(c);
    cctx_close(ctx);
}

static void the_program_takes_jobs_and_ends_with_its_time(void **state)
{
    redisContext *c = connected();
    char command[512], line[64];
    FILE *out;

    (void)state;
    expect_reply(c, "LPUSH jobs first", "1");
    expect_reply(c, "LPUSH jobs second", "2");
    snprintf(command, sizeof command, "%s %s jobs 1 2>&1", PROGRAM, path);
    out = popen(command, "r");
    assert_string_equal(fgets(line, sizeof line, out), "first\n");
    assert_string_equal(fgets(line, sizeof line, out), "second\n");
    assert_string_equal(fgets(line, sizeof line, out), "ended: context deadline exceeded\n");
    assert_int_equal(pclose(out), 0);
    expect_reply(c, "LLEN jobs:taken", "0");
    redisFree(c);
}

static void a_server_that_dies_ends_the_command(void **state)
{
    redisContext *c = connected(), *other = connected();
    actor_t actor = {.c = other};
    pthread_t thread = thread_start(actor_main, &actor);

    (void)state;
    assert_int_equal(err_of(cctx_background(), c, "BLPOP nothing 0"), EIO);
    assert_int_equal(c->err, REDIS_ERR_EOF);
    pthread_join(thread, NULL);
    /* Nothing is written to a connection that the server has closed. */
    waitpid(server, NULL, 0);
    server = 0;
    assert_int_equal(err_of(cctx_background(), other, "ECHO one"), EIO);
    redisFree(c);
    redisFree(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_gives_its_reply),
        cmocka_unit_test(a_connection_that_does_not_block_stays_so),
        cmocka_unit_test(replies_come_in_the_order_of_what_was_appended),
        cmocka_unit_test(a_deadline_ends_a_command_and_the_connection_is_dead),
        cmocka_unit_test(a_done_context_sends_nothing_and_the_connection_is_good),
        cmocka_unit_test(what_cannot_be_waited_for_is_not_sent),
        cmocka_unit_test(the_server_lets_go_of_a_command_that_was_ended),
        cmocka_unit_test(a_cancel_from_another_thread_ends_a_command),
        cmocka_unit_test(a_reply_is_never_that_of_another_command),
        cmocka_unit_test(a_deadline_ends_the_sending_of_a_large_value),
        cmocka_unit_test(a_connect_ends_with_its_context),
        cmocka_unit_test(the_program_takes_jobs_and_ends_with_its_time),
        cmocka_unit_test(a_server_that_dies_ends_the_command),
    };

    watchdog(120);
    return cmocka_run_group_tests(tests, setup, teardown);
}
