/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/libpq.h - PostgreSQL by libpq: statements and connects that end with their context. */
#ifndef CCTX_BRIDGE_LIBPQ_H
#define CCTX_BRIDGE_LIBPQ_H

/*
 * WHAT IT IS FOR
 *
 * PQexec sleeps until the server has answered, whatever becomes of the program that waits. These functions
 * take a context first, sleep on the connection's socket and on the context at once, and where the context
 * ends they ask the server to cancel the statement and read its answer to the end: the connection is then
 * idle and good for the next statement.
 *
 *     const char *values[] = {"ada"};
 *     PGresult *result = cctx_pq_exec(ctx, conn, "SELECT id FROM users WHERE name = $1", 1, values);
 *     int err = cctx_pq_err(ctx, result);
 *     if (err == 0) printf("%s\n", PQgetvalue(result, 0, 0));
 *     PQclear(result);
 *
 * A CANCEL NEVER HITS THE NEXT STATEMENT
 *
 * PQcancel opens a connection of its own and returns when the server has closed it, which is after the signal
 * to the session's process was sent. It is called here, on the thread that waits for the statement, and
 * nowhere else; so each signal is pending before the call returns, and the process has it when it reads what
 * is sent next: the kernel delivers it on the way out of that read. There the server drops it, since a
 * session that reads a command has none to cancel.
 *
 * For the same reason a cancel that comes before the statement was read, or between two of its messages, is
 * lost, and PostgreSQL 15 loses those that come while it compiles a statement (jit). So the cancel is sent
 * again, after 10 ms, 20 ms, ... 640 ms, until the answer is there.
 *
 * TRAPS
 *
 * - What the server does not end CCTX_PQ_GRACE after the end of the context, it will not: the socket is shut
 *   down, the call returns, and PQstatus is CONNECTION_BAD. Then PQreset or PQfinish.
 * - PQcancel itself waits for the server without a limit. Where a network may be cut, put tcp_user_timeout
 *   into the connection string; it holds for PQcancel too (libpq 15). A server that is stopped, but alive,
 *   holds it up. It is not encrypted, even if the connection is.
 * - Through a pooler the argument above is the pooler's to keep: PgBouncer does since 1.18.
 * - A statement that is canceled inside a transaction block fails it, as any error: ROLLBACK is due. One that
 *   changed something and was just done when the context ended has succeeded: its result says so, not the
 *   context.
 * - A COPY returns as from PQexec once it has begun, and the data is the program's business.
 * - Not in pipeline mode: there one answer is not one statement's.
 * - To restore the blocking mode clears PQerrorMessage(conn): PQresultErrorMessage(result) has it.
 *
 * For all functions:
 *
 *   Returns    a PGresult, to be freed with PQclear, as of PQexec: the last one, or PGRES_FATAL_ERROR. NULL:
 *              nothing was sent, since ctx was done already, its descriptor could not be made (cctx_fd),
 *              conn is in pipeline mode or NULL, or memory ran out. cctx_pq_err tells.
 *   Threads    one at a time for one connection, as for all of libpq. Any thread may cancel ctx.
 *   Ownership  conn is the caller's before and after; its blocking mode is as it was.
 *   Blocking   until the server has answered; after the end of ctx as long as said above. A handler that runs
 *              meanwhile ends nothing.
 *   Cost       one ppoll for each piece of an answer. A cancel is a connection and a process of the server.
 *              No thread.
 */

#include <cctx/wait.h>
#include <libpq-fe.h>
#include <string.h>
#include <sys/socket.h>

/* How long the server may take to end a statement after the end of its context: nanoseconds. */
#ifndef CCTX_PQ_GRACE
#define CCTX_PQ_GRACE CCTX_S(10)
#endif

/* Whether ctx is live and can be polled, so that nothing is sent which could not be waited for. */
static inline bool cctx_pq_private_live(const cctx_t *ctx)
{
    return cctx_err(ctx) == 0 && (cctx_fd(ctx) >= 0 || errno == EDEADLK);
}

/* Whether a statement may be sent; then conn does not block. Where conn is lost, the send says so. */
static inline bool cctx_pq_private_ready(const cctx_t *ctx, PGconn *conn)
{
    if (!conn || !cctx_pq_private_live(ctx) || PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return false;
    PQsetnonblocking(conn, 1);
    return true;
}

/*
 * cctx_pq_wait - wait for the end of what PQsendQuery and its kind have sent.
 *
 * It reads all answers, to NULL, and returns the last; those before it are dropped. What was sent is canceled
 * if ctx is done, even if it was when this was called. In blocking mode the send itself is not ended by a
 * context; cctx_pq_exec does it without.
 *
 * Returns    NULL: nothing was sent, or conn is NULL.
 * Errors     a wait that cannot be made (cctx_fd: EMFILE, ENOMEM) ends the statement as the end of ctx does.
 */
static inline PGresult *cctx_pq_wait(const cctx_t *ctx, PGconn *conn)
{
    PGresult *last = NULL, *next;
    PGcancel *cancel = NULL;
    cctx_time_t ended = 0, again = 0, now;
    int64_t pause = CCTX_MS(10);
    char text[256];

    do {
        while (PQisBusy(conn)) { /* until PQgetResult has an answer, or an error, without sleeping */
            struct pollfd fd = {PQsocket(conn), POLLIN, 0};

            if (PQflush(conn) == 1)
                fd.events = POLLIN | POLLOUT;
            if (ended == 0 && cctx_poll(ctx, &fd, 1, NULL) != 0) {
                ended = again = cctx_now();
                cancel = PQgetCancel(conn);
            }
            if (ended != 0) {
                if ((now = cctx_now()) - ended >= CCTX_PQ_GRACE) {
                    shutdown(fd.fd, SHUT_RDWR);
                } else if (now >= again) {
                    PQcancel(cancel, text, (int)sizeof text);
                    now = cctx_now();
                    again = now + pause;
                    pause = pause < CCTX_MS(640) ? 2 * pause : pause;
                }
                poll(&fd, 1, again > now ? (int)((again - now) / CCTX_MS(1)) + 1 : 0);
            }
            if (!PQconsumeInput(conn))
                break;
        }
        if ((next = PQgetResult(conn)) != NULL) {
            PQclear(last);
            last = next;
        }
    } while (next && PQresultStatus(next) != PGRES_COPY_IN && PQresultStatus(next) != PGRES_COPY_OUT &&
             PQresultStatus(next) != PGRES_COPY_BOTH);
    PQfreeCancel(cancel);
    return last;
}

/*
 * cctx_pq_exec          - PQexecParams that a context ends: n parameters as text, or NULL for a null.
 * cctx_pq_exec_params   - with all that PQexecParams takes.
 * cctx_pq_exec_prepared - PQexecPrepared that a context ends.
 *
 * One statement, unlike PQexec. A large parameter is sent without blocking: the context ends that, too. conn
 * has no statement under way.
 */
static inline PGresult *cctx_pq_private_sent(const cctx_t *ctx, PGconn *conn, int sent, int was)
{
    /* What libpq said of a send that it refused is kept by the result: the change of mode clears it. */
    PGresult *result = sent ? cctx_pq_wait(ctx, conn) : PQmakeEmptyPGresult(conn, PGRES_FATAL_ERROR);

    PQsetnonblocking(conn, was);
    return result;
}

static inline PGresult *cctx_pq_exec_params(const cctx_t *ctx, PGconn *conn, const char *statement, int n,
                                            const Oid *types, const char *const *values, const int *lengths,
                                            const int *formats, int result_format)
{
    int was = PQisnonblocking(conn), sent;

    if (!cctx_pq_private_ready(ctx, conn))
        return NULL;
    sent = PQsendQueryParams(conn, statement, n, types, values, lengths, formats, result_format);
    return cctx_pq_private_sent(ctx, conn, sent, was);
}

static inline PGresult *cctx_pq_exec(const cctx_t *ctx, PGconn *conn, const char *statement, int n,
                                     const char *const *values)
{
    return cctx_pq_exec_params(ctx, conn, statement, n, NULL, values, NULL, NULL, 0);
}

static inline PGresult *cctx_pq_exec_prepared(const cctx_t *ctx, PGconn *conn, const char *name, int n,
                                              const char *const *values, const int *lengths,
                                              const int *formats, int result_format)
{
    int was = PQisnonblocking(conn), sent;

    if (!cctx_pq_private_ready(ctx, conn))
        return NULL;
    sent = PQsendQueryPrepared(conn, name, n, values, lengths, formats, result_format);
    return cctx_pq_private_sent(ctx, conn, sent, was);
}

/*
 * cctx_pq_err - what a result means, as an errno value.
 *
 * Returns    0          the server has done it.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx), since ctx was done: the server says that it canceled the
 *                       statement (57014), or nothing was executed, or the connection was lost.
 *            EIO        another error, also if ctx is done: PQresultErrorMessage has it.
 */
static inline int cctx_pq_err(const cctx_t *ctx, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (status != PGRES_FATAL_ERROR && status != PGRES_BAD_RESPONSE)
        return 0;
    return cctx_err(ctx) && (!code || strcmp(code, "57014") == 0) ? cctx_err(ctx) : EIO;
}

/*
 * cctx_pq_connect - PQconnectdb that a context ends.
 *
 * connect_timeout is not heeded; ctx has the time. The lookup of a host's name blocks, so hostaddr is better.
 *
 * Returns    a connection, to be closed with PQfinish, whose PQstatus tells whether it is one, as of
 * PQconnectdb.
 *            NULL: ctx ended it, or memory or descriptors ran out.
 */
static inline PGconn *cctx_pq_connect(const cctx_t *ctx, const char *conninfo)
{
    PGconn *conn = cctx_pq_private_live(ctx) ? PQconnectStart(conninfo) : NULL;
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;

    while (conn && PQstatus(conn) != CONNECTION_BAD && next != PGRES_POLLING_OK &&
           next != PGRES_POLLING_FAILED) {
        struct pollfd fd = {PQsocket(conn), POLLIN, 0};

        if (next == PGRES_POLLING_WRITING)
            fd.events = POLLOUT;
        if (cctx_poll(ctx, &fd, 1, NULL) != 0) {
            PQfinish(conn);
            return NULL;
        }
        next = PQconnectPoll(conn);
    }
    return conn;
}

/*
 * cctx_pq_limit - a second line: let the server itself end what outlasts the context's deadline.
 *
 * For the rest of the transaction block it sets statement_timeout to the time that is left, rounded up: the
 * server then stops even if this program, or the network, is gone. Outside of a block it does nothing.
 *
 * Returns    as cctx_pq_exec. Without a deadline the limit is lifted.
 */
static inline PGresult *cctx_pq_limit(const cctx_t *ctx, PGconn *conn)
{
    int64_t left = cctx_remaining(ctx) / CCTX_MS(1) + 1;
    char digits[12];
    const char *values[1];

    values[0] = digits;
    snprintf(digits, sizeof digits, "%d", left <= INT32_MAX ? (int)left : 0);
    return cctx_pq_exec(ctx, conn, "SELECT set_config('statement_timeout', $1, true)", 1, values);
}

#endif
