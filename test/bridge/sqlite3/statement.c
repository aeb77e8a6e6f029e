/* SPDX-License-Identifier: BSD-2-Clause */
/* statement - SQL on a file, in one transaction: on Ctrl-C, or when the time is up, nothing has changed. */
#include <cctx/bridge/sqlite3.h>
#include <cctx/signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_row(void *arg, int columns, char **values, char **names)
{
    (void)arg;
    (void)names;
    for (int i = 0; i < columns; i++)
        printf("%s%c", values[i] ? values[i] : "NULL", i + 1 < columns ? '|' : '\n');
    return fflush(stdout);
}

/* [statement] */
/* All of it; or, if the context ends or anything fails, nothing. *why is for sqlite3_free. */
static int run(const cctx_t *ctx, sqlite3 *db, const char *sql, char **why)
{
    cctx_sqlite3_t scope;
    int err = cctx_sqlite3_begin(&scope, db, ctx);
    if (err)
        return err;
    int result = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, why); /* waits for the lock until ctx ends */
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, sql, print_row, NULL, why);
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, "COMMIT", NULL, NULL, why);
    return cctx_sqlite3_end(&scope, result); /* rolls back what is not committed */
}
/* [statement end] */

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: statement FILE SECONDS SQL\n");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    cctx_t *interrupted = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = cctx_with_timeout(interrupted, (int64_t)(atof(argv[2]) * 1e9));
    sqlite3 *db = NULL;
    char *why = NULL;
    int err = !ctx || sqlite3_open(argv[1], &db) != SQLITE_OK ? EIO : run(ctx, db, argv[3], &why);
    if (err && cctx_is_done(ctx))
        fprintf(stderr, "statement: %s\n", cctx_cause(ctx)->text);
    else if (err)
        fprintf(stderr, "statement: %s\n", why ? why : strerror(err));
    sqlite3_free(why);
    sqlite3_close(db);
    cctx_close(ctx);
    cctx_unref(interrupted);
    return err ? 1 : 0;
}
