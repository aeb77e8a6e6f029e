/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A statement of PostgreSQL that ends with Ctrl-C or when its time is over, whichever is first, and leaves
 * the connection good for the next one.
 *
 *     query CONNECTION SECONDS STATEMENT [PARAMETER...]
 */
#include <cctx/bridge/libpq.h>
#include <cctx/signal.h>
#include <stdio.h>
#include <stdlib.h>

/* [query] */
/* Prints the rows, a line each. Returns 0, ECANCELED, ETIMEDOUT or EIO. */
static int query(const cctx_t *ctx, PGconn *conn, const char *statement, int n, const char *const *values)
{
    PGresult *result = cctx_pq_exec(ctx, conn, statement, n, values);
    int err = cctx_pq_err(ctx, result);

    for (int row = 0; err == 0 && row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++)
            printf("%s%c", PQgetvalue(result, row, column), column + 1 < PQnfields(result) ? '\t' : '\n');
    if (err == EIO)
        fputs(PQresultErrorMessage(result), stderr);
    PQclear(result);
    return err;
}
/* [query end] */

int main(int argc, char **argv)
{
    PGconn *conn;
    sigset_t signals;
    cctx_t *program, *ctx;
    int err = EIO;

    if (argc < 4)
        return 2;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    program = cctx_with_signals(cctx_background(), &signals);
    ctx = program ? cctx_with_timeout(program, CCTX_S(atoi(argv[2]))) : NULL;
    conn = cctx_pq_connect(ctx, argv[1]);
    if (conn && PQstatus(conn) == CONNECTION_OK)
        err = query(ctx, conn, argv[3], argc - 4, (const char *const *)(argv + 4));
    else if (conn)
        fputs(PQerrorMessage(conn), stderr);
    else
        err = cctx_pq_err(ctx, NULL);
    if (err == ECANCELED || err == ETIMEDOUT)
        fprintf(stderr, "query: %s\n", cctx_cause(ctx)->text);
    PQfinish(conn);
    cctx_close(ctx);
    cctx_close(program);
    return err != 0;
}
