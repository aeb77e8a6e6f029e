/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bridge to libpq against a PostgreSQL server that this program makes in a temporary folder, starts on a
 * free port of the loopback and stops. The server's processes run as postgres where the test runs as root.
 */
#include "figure.h"
#include "server.h"

#include <libpq-fe.h>

static int64_t grace = CCTX_S(60);
#define CCTX_PQ_GRACE grace

/* Every PQcancel is counted, and the first ones may be lost on the way, as those are that come too early. */
static int cancels, cancels_to_lose;
static int counted_cancel(PGcancel *cancel, char *text, int size)
{
    cancels++;
    if (cancels_to_lose > 0) {
        cancels_to_lose--;
        return 1;
    }
    return PQcancel(cancel, text, size);
}

/* Whether the memory for a cancel is refused. */
static bool no_memory;
static PGcancel *scarce_cancel(PGconn *conn)
{
    return no_memory ? NULL : PQgetCancel(conn);
}
#define PQcancel counted_cancel
#define PQgetCancel scarce_cancel
#include <cctx/bridge/libpq.h>
#undef PQcancel
#undef PQgetCancel

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- the server ---- */

static char folder[64], conninfo[128];
static pid_t server;

/* Becomes the user that owns the server: PostgreSQL refuses to run as root. */
static void drop_root(void)
{
    const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;

    if (geteuid() == 0)
        CHECK(user && setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0);
    CHECK(chdir(folder) == 0);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
}

static pid_t spawn(int out, const char *const argv[])
{
    pid_t pid = fork();

    if (pid == 0) {
        drop_root();
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    CHECK(pid > 0);
    return pid;
}

static FILE *says; /* the server's log, which is a few lines: its pipe never fills */

static bool server_start(void)
{
    char port[16];
    const char *const argv[] = {POSTGRES_FOLDER "/postgres", "-D", "data", "-F", "-p", port, "-c",
                                "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c",
                                "log_min_messages=log", "-c", "shared_buffers=16MB", "-c", "autovacuum=off",
                                NULL};
    int ends[2];

    snprintf(port, sizeof port, "%d", port_free());
    snprintf(conninfo, sizeof conninfo,
             "hostaddr=127.0.0.1 port=%s user=test dbname=postgres sslmode=disable", port);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    server = spawn(ends[1], argv);
    close(ends[1]);
    says = fdopen(ends[0], "r");
    return await_line(says, "ready to accept connections", "");
}

static void server_stop(void)
{
    if (server) {
        kill(server, SIGQUIT);
        waitpid(server, NULL, 0);
    }
    fclose(says);
}

static int setup(void **state)
{
    const char *const argv[] = {POSTGRES_FOLDER "/initdb", "-D", "data", "-U", "test", "-A", "trust",
                                "--no-sync", "--no-locale", "-E", "UTF8", NULL};
    const struct passwd *user = getpwnam("postgres");
    int status, null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cctx_libpq.XXXXXX");
    assert_non_null(mkdtemp(folder));
    if (geteuid() == 0)
        assert_true(user && chown(folder, user->pw_uid, user->pw_gid) == 0);
    assert_int_equal(waitpid(spawn(null, argv), &status, 0) > 0 ? status : -1, 0);
    close(null);
    for (int attempt = 1; !server_start(); attempt++) { /* somebody else took the port meanwhile */
        assert_true(attempt < 5);
        waitpid(server, NULL, 0);
        fclose(says);
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

static PGconn *connected(void)
{
    PGconn *conn = cctx_pq_connect(cctx_background(), conninfo);

    assert_non_null(conn);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

/* Runs a statement that must succeed and have `expected` as its first value, unless that is NULL. */
static void expect_first(PGconn *conn, const char *statement, const char *expected)
{
    PGresult *result = cctx_pq_exec(cctx_background(), conn, statement, 0, NULL);

    if (cctx_pq_err(cctx_background(), result) != 0)
        fail_msg("%s: %s", statement, PQresultErrorMessage(result));
    if (expected)
        assert_string_equal(PQgetvalue(result, 0, 0), expected);
    PQclear(result);
}

/* Runs a statement to its end and says how it ended. */
static int err_of(const cctx_t *ctx, PGconn *conn, const char *statement)
{
    PGresult *result = cctx_pq_exec(ctx, conn, statement, 0, NULL);
    int err = cctx_pq_err(ctx, result);

    PQclear(result);
    return err;
}

/* A statement that says when it runs, and then runs for a minute. */
#define LONG_STATEMENT "DO $$ BEGIN RAISE NOTICE 'running'; PERFORM pg_sleep(60); END $$"

/* A thread that cancels ctx, or ends a process, once the gate is open. */
typedef struct actor {
    gate_t gate;
    pthread_t thread;
    cctx_t *ctx;
    pid_t pid;
    int64_t at; /* the time of the cancel */
} actor_t;

static void *actor_main(void *arg)
{
    actor_t *actor = arg;

    gate_wait(&actor->gate);
    actor->at = now_ns();
    if (actor->pid)
        kill(actor->pid, SIGKILL);
    else
        cctx_cancel(actor->ctx);
    return NULL;
}

static void notice_opens_gate(void *arg, const char *text)
{
    if (strstr(text, "running"))
        gate_open(arg);
}

/* Has the actor act as soon as the server says that the statement on conn runs. */
static void actor_start(actor_t *actor, PGconn *conn)
{
    actor->gate.open = 0;
    PQsetNoticeProcessor(conn, notice_opens_gate, &actor->gate);
    actor->thread = thread_start(actor_main, actor);
}

/* ---- tests ---- */

static void a_statement_gives_its_rows(void **state)
{
    PGconn *conn = connected();
    const char *values[] = {"20", NULL};
    const char *blob[] = {"\0\1\2"};
    const int lengths[] = {3}, formats[] = {1};
    PGresult *result =
        cctx_pq_exec(cctx_background(), conn, "SELECT $1::int + 1, $2::text IS NULL", 2, values);

    (void)state;
    assert_int_equal(cctx_pq_err(cctx_background(), result), 0);
    assert_string_equal(PQgetvalue(result, 0, 0), "21");
    assert_string_equal(PQgetvalue(result, 0, 1), "t");
    PQclear(result);

    PQclear(PQprepare(conn, "length", "SELECT length($1::bytea)", 1, NULL));
    result = cctx_pq_exec_prepared(cctx_background(), conn, "length", 1, blob, lengths, formats, 0);
    assert_string_equal(PQgetvalue(result, 0, 0), "3");
    PQclear(result);
    result = cctx_pq_exec_params(cctx_background(), conn, "SELECT 7::int8", 0, NULL, NULL, NULL, NULL, 1);
    assert_int_equal(PQgetlength(result, 0, 0), 8);
    PQclear(result);
    assert_false(PQisnonblocking(conn));
    PQfinish(conn);
}

static void a_deadline_ends_a_statement_and_the_connection_is_good(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));
    PGresult *result = cctx_pq_exec(ctx, conn, "SELECT pg_sleep(60)", 0, NULL);

    (void)state;
    assert_int_equal(cctx_pq_err(ctx, result), ETIMEDOUT);
    assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
    PQclear(result);
    expect_first(conn, "SELECT 1", "1");
    cctx_close(ctx);
    PQfinish(conn);
}

/* The server compiles this one first, and loses the cancels that come meanwhile. */
static void a_deadline_ends_a_flood_of_rows(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));

    (void)state;
    assert_int_equal(err_of(ctx, conn, "SELECT generate_series(1, 1000000000)"), ETIMEDOUT);
    expect_first(conn, "SELECT 1", "1");
    cctx_close(ctx);
    PQfinish(conn);
}

static void a_done_context_executes_nothing(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());

    (void)state;
    expect_first(conn, "CREATE TEMP TABLE t (n int)", NULL);
    cctx_cancel(ctx);
    assert_null(cctx_pq_exec(ctx, conn, "INSERT INTO t VALUES (1)", 0, NULL));
    assert_int_equal(cctx_pq_err(ctx, NULL), ECANCELED);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_IDLE);
    expect_first(conn, "SELECT count(*) FROM t", "0");
    assert_null(cctx_pq_connect(ctx, conninfo));
    cctx_close(ctx);
    PQfinish(conn);
}

static void an_error_of_the_statement_is_not_taken_for_the_context_s(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    PGresult *result = cctx_pq_exec(ctx, conn, "SELECT 1/0", 0, NULL);

    (void)state;
    cctx_cancel(ctx);
    assert_int_equal(cctx_pq_err(ctx, result), EIO);
    PQclear(result);
    expect_first(conn, "SELECT 1", "1");
    /* A cancel that somebody else has sent is an error, too. */
    assert_int_equal(err_of(cctx_background(), conn, "SELECT pg_cancel_backend(pg_backend_pid())"), EIO);
    cctx_close(ctx);
    PQfinish(conn);
}

static void a_cancel_that_the_server_drops_is_sent_again(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));

    (void)state;
    cancels = 0;
    cancels_to_lose = 3;
    assert_int_equal(err_of(ctx, conn, "SELECT pg_sleep(60)"), ETIMEDOUT);
    assert_true(cancels >= 4);
    cctx_close(ctx);
    PQfinish(conn);
}

static void a_transaction_that_was_canceled_is_rolled_back(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx;

    (void)state;
    expect_first(conn, "BEGIN", NULL);
    ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));
    assert_int_equal(err_of(ctx, conn, "SELECT pg_sleep(60)"), ETIMEDOUT);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INERROR);
    expect_first(conn, "ROLLBACK", NULL);
    expect_first(conn, "SELECT 1", "1");
    cctx_close(ctx);
    PQfinish(conn);
}

static void what_pqsendquery_has_sent_ends_with_the_context(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    PGresult *result;

    (void)state;
    assert_null(cctx_pq_wait(ctx, conn));
    assert_int_equal(PQsendQuery(conn, "SELECT 1; SELECT 2"), 1);
    result = cctx_pq_wait(ctx, conn);
    assert_string_equal(PQgetvalue(result, 0, 0), "2");
    PQclear(result);
    cctx_cancel(ctx);
    assert_int_equal(PQsendQuery(conn, "SELECT 1; SELECT pg_sleep(60)"), 1);
    result = cctx_pq_wait(ctx, conn);
    assert_int_equal(cctx_pq_err(ctx, result), ECANCELED);
    PQclear(result);
    expect_first(conn, "SELECT 1", "1");
    cctx_close(ctx);
    PQfinish(conn);
}

static void a_copy_returns_when_it_has_begun(void **state)
{
    PGconn *conn = connected();
    PGresult *result;

    (void)state;
    expect_first(conn, "CREATE TEMP TABLE t (n int)", NULL);
    result = cctx_pq_exec(cctx_background(), conn, "COPY t FROM STDIN", 0, NULL);
    assert_int_equal(PQresultStatus(result), PGRES_COPY_IN);
    PQclear(result);
    assert_int_equal(PQputCopyData(conn, "7\n", 2), 1);
    assert_int_equal(PQputCopyEnd(conn, NULL), 1);
    result = cctx_pq_wait(cctx_background(), conn);
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    expect_first(conn, "SELECT n FROM t", "7");
    PQfinish(conn);
}

static void what_cannot_be_waited_for_is_not_sent(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    struct rlimit before, none;

    (void)state;
    expect_first(conn, "CREATE TEMP TABLE t (n int)", NULL);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(err_of(ctx, conn, "INSERT INTO t VALUES (1)"), EIO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_first(conn, "SELECT count(*) FROM t", "0");
    PQenterPipelineMode(conn);
    assert_int_equal(err_of(ctx, conn, "INSERT INTO t VALUES (1)"), EIO);
    PQexitPipelineMode(conn);
    cctx_close(ctx);
    PQfinish(conn);
}

static void a_connect_ends_with_its_context(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* it takes connections and says nothing */
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    char text[64];
    PGconn *conn;

    (void)state;
    assert_int_equal(bind(silent, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(silent, 1), 0);
    getsockname(silent, (struct sockaddr *)&address, &size);
    snprintf(text, sizeof text, "hostaddr=127.0.0.1 port=%d", ntohs(address.sin_port));
    assert_null(cctx_pq_connect(ctx, text));
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    close(silent);
    /* Nobody listens now: an answer, and not the context's. */
    conn = cctx_pq_connect(cctx_background(), text);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
    PQfinish(conn);
    cctx_close(ctx);
}

static void the_server_itself_ends_what_outlasts_the_deadline(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    cctx_t *soon = cctx_with_timeout(cctx_background(), CCTX_MS(300));
    PGresult *result;

    (void)state;
    expect_first(conn, "BEGIN", NULL);
    result = cctx_pq_limit(ctx, conn);
    assert_int_equal(cctx_pq_err(ctx, result), 0);
    PQclear(result);
    result = PQexec(conn, "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'");
    assert_in_range(atoi(PQgetvalue(result, 0, 0)), 1, 100001);
    PQclear(result);
    PQclear(cctx_pq_limit(cctx_background(), conn));
    expect_first(conn, "SHOW statement_timeout", "0");
    if (cctx_remaining(soon) > 0) {
        PQclear(cctx_pq_limit(soon, conn));
        result = PQexec(conn, "SELECT pg_sleep(60)"); /* no context looks after it */
        assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014");
        PQclear(result);
    }
    expect_first(conn, "ROLLBACK", NULL);
    expect_first(conn, "SHOW statement_timeout", "0");
    cctx_close(soon);
    cctx_close(ctx);
    PQfinish(conn);
}

/* A server process that is stopped takes no cancel and reads no parameter. */
static void a_server_that_does_not_obey_is_given_up_after_the_grace(void **state)
{
    static const char *const statements[] = {"SELECT 1", "SELECT length($1)"};
    const size_t size = 64 << 20; /* more than the sockets hold */
    char *large = malloc(size);
    const char *values[] = {large};

    (void)state;
    assert_non_null(large);
    memset(large, 'x', size - 1);
    large[size - 1] = '\0';
    for (int n = 0; n < 2; n++) {
        PGconn *conn = connected();
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));
        pid_t pid = PQbackendPID(conn);
        PGresult *result;

        grace = CCTX_MS(100);
        CHECK(kill(pid, SIGSTOP) == 0);
        result = cctx_pq_exec(ctx, conn, statements[n], n, values);
        assert_int_equal(cctx_pq_err(ctx, result), ETIMEDOUT);
        assert_int_equal(PQstatus(conn), CONNECTION_BAD);
        CHECK(kill(pid, SIGCONT) == 0);
        grace = CCTX_S(60);
        PQclear(result);
        PQreset(conn);
        expect_first(conn, "SELECT 1", "1");
        assert_false(PQisnonblocking(conn));
        PQfinish(conn);
        cctx_close(ctx);
    }
    free(large);
}

static void a_statement_that_cannot_be_canceled_is_given_up_after_the_grace(void **state)
{
    PGconn *conn = connected();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(100));

    (void)state;
    grace = CCTX_MS(100);
    no_memory = true;
    assert_int_equal(err_of(ctx, conn, "SELECT pg_sleep(60)"), ETIMEDOUT);
    no_memory = false;
    grace = CCTX_S(60);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
    PQfinish(conn);
    cctx_close(ctx);
}

static void a_cancel_from_another_thread_ends_a_statement_that_runs(void **state)
{
    enum { ROUNDS = 300 };
    static int64_t times[ROUNDS];
    PGconn *conn = connected();

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        actor_t actor = {.ctx = ctx};

        actor_start(&actor, conn);
        assert_int_equal(err_of(ctx, conn, LONG_STATEMENT), ECANCELED);
        times[round] = now_ns();
        pthread_join(actor.thread, NULL);
        times[round] -= actor.at;
        cctx_close(ctx);
    }
    figure_report("cancel to statement stopped", times, ROUNDS);
    PQfinish(conn);
}

/*
 * Runs `statement`, with a number up to `most` in it, as often as said, under a context that lasts up to
 * `longest`, so that the cancel and the end of the statement are about the same moment. Whichever is first,
 * the one that follows on the connection at once is never canceled.
 */
static void race(PGconn *conn, int rounds, const char *statement, uint64_t most, int64_t longest)
{
    rng_t rng = rng_make(test_seed(), 0);
    int canceled = 0, late = 0;

    for (int round = 0; round < rounds; round++) {
        cctx_t *ctx = cctx_with_timeout(cctx_background(), (int64_t)rng_below(&rng, (uint64_t)longest));
        char text[128], number[16], expected[16];
        const char *values[] = {number};
        PGresult *result;
        int err, before = cancels;

        snprintf(text, sizeof text, "%s%" PRIu64 ")", statement, rng_below(&rng, most));
        snprintf(number, sizeof number, "%d", round);
        snprintf(expected, sizeof expected, "%d", round + 1);
        result = cctx_pq_exec(ctx, conn, text, 0, NULL);
        err = cctx_pq_err(ctx, result);
        if (err != 0 && err != ETIMEDOUT)
            fail_msg("round %d: %s", round, PQresultErrorMessage(result));
        PQclear(result);
        canceled += err != 0;
        late += err == 0 && cancels != before;
        if (round % 2) /* one message, and five in a row */
            result = PQexec(conn, "SHOW server_encoding");
        else
            result = cctx_pq_exec_prepared(cctx_background(), conn, "next", 1, values, NULL, NULL, 0);
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            fail_msg("round %d: %s", round, PQresultErrorMessage(result));
        assert_string_equal(PQgetvalue(result, 0, 0), round % 2 ? "UTF8" : expected);
        PQclear(result);
        cctx_close(ctx);
    }
    print_message("%d rounds: %d statements canceled, %d ended before their cancel came\n", rounds, canceled,
                  late);
    assert_true(rounds < 1000 || (canceled > 0 && late > 0));
}

static void a_cancel_never_hits_the_next_statement(void **state)
{
    PGconn *conn = connected();

    (void)state;
    PQclear(PQprepare(conn, "next", "SELECT $1::int + 1", 1, NULL));
    race(conn, SCALED(10000), "SELECT pg_sleep(1e-6 * ", 3000, CCTX_MS(2));
    /* While the server compiles a statement it loses cancels. They do not turn up in the next one. */
    PQclear(PQexec(conn, "SET jit_above_cost = 0.5"));
    race(conn, SCALED(400), "SELECT sum(generate_series) FROM generate_series(1, ", 100000, CCTX_MS(60));
    PQfinish(conn);
}

static void the_program_prints_rows_and_ends_with_its_time(void **state)
{
    char command[512], line[64];
    FILE *out;

    (void)state;
    snprintf(command, sizeof command, "%s '%s' 60 'SELECT $1::int * 2, $2' 21 x 2>&1", PROGRAM, conninfo);
    out = popen(command, "r");
    assert_string_equal(fgets(line, sizeof line, out), "42\tx\n");
    assert_int_equal(pclose(out), 0);
    snprintf(command, sizeof command, "%s '%s' 1 'SELECT pg_sleep(60)' 2>&1", PROGRAM, conninfo);
    out = popen(command, "r");
    assert_string_equal(fgets(line, sizeof line, out), "query: context deadline exceeded\n");
    assert_int_not_equal(pclose(out), 0);
}

static void a_server_process_that_dies_ends_the_statement(void **state)
{
    PGconn *conn = connected(), *other = connected();
    char statement[64];
    actor_t actor = {.pid = PQbackendPID(conn)};
    PGresult *result;

    (void)state;
    snprintf(statement, sizeof statement, "SELECT pg_terminate_backend(%d)", PQbackendPID(other));
    expect_first(conn, statement, "t");
    assert_int_equal(err_of(cctx_background(), other, "SELECT 1"), EIO);
    assert_int_equal(PQstatus(other), CONNECTION_BAD);
    PQfinish(other);

    actor_start(&actor, conn);
    result = cctx_pq_exec(cctx_background(), conn, LONG_STATEMENT, 0, NULL);
    assert_int_equal(cctx_pq_err(cctx_background(), result), EIO);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
    PQclear(result);
    pthread_join(actor.thread, NULL);
    result = cctx_pq_exec(cctx_background(), conn, "SELECT 1", 0, NULL);
    assert_string_equal(PQresultErrorMessage(result), "no connection to the server\n");
    PQclear(result);
    PQfinish(conn);
    assert_true(await_line(says, "ready to accept connections", "")); /* all of it starts anew */
}

static void a_server_that_dies_ends_the_statement(void **state)
{
    PGconn *conn = connected();
    actor_t actor = {.pid = server};

    (void)state;
    actor_start(&actor, conn);
    assert_int_equal(err_of(cctx_background(), conn, LONG_STATEMENT), EIO);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
    pthread_join(actor.thread, NULL);
    waitpid(server, NULL, 0);
    server = 0;
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_statement_gives_its_rows),
        cmocka_unit_test(a_deadline_ends_a_statement_and_the_connection_is_good),
        cmocka_unit_test(a_deadline_ends_a_flood_of_rows),
        cmocka_unit_test(a_done_context_executes_nothing),
        cmocka_unit_test(an_error_of_the_statement_is_not_taken_for_the_context_s),
        cmocka_unit_test(a_cancel_that_the_server_drops_is_sent_again),
        cmocka_unit_test(a_transaction_that_was_canceled_is_rolled_back),
        cmocka_unit_test(what_pqsendquery_has_sent_ends_with_the_context),
        cmocka_unit_test(a_copy_returns_when_it_has_begun),
        cmocka_unit_test(what_cannot_be_waited_for_is_not_sent),
        cmocka_unit_test(a_connect_ends_with_its_context),
        cmocka_unit_test(the_server_itself_ends_what_outlasts_the_deadline),
        cmocka_unit_test(a_server_that_does_not_obey_is_given_up_after_the_grace),
        cmocka_unit_test(a_statement_that_cannot_be_canceled_is_given_up_after_the_grace),
        cmocka_unit_test(a_cancel_from_another_thread_ends_a_statement_that_runs),
        cmocka_unit_test(a_cancel_never_hits_the_next_statement),
        cmocka_unit_test(the_program_prints_rows_and_ends_with_its_time),
        cmocka_unit_test(a_server_process_that_dies_ends_the_statement),
        cmocka_unit_test(a_server_that_dies_ends_the_statement),
    };

    watchdog(280);
    return cmocka_run_group_tests(tests, setup, teardown);
}
