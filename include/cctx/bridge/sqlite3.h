/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/sqlite3.h - statements of SQLite that end with a context, their waits for locks too. */
#ifndef CCTX_BRIDGE_SQLITE3_H
#define CCTX_BRIDGE_SQLITE3_H

#include <cctx/cctx.h>
#include <cctx/guard.h>
#include <cctx/wait.h>
#include <sqlite3.h>

/*
 * WHAT IT IS FOR
 *
 * A scope stands around one or more statements on a connection. Within it they end with the context. The
 * progress handler of SQLite looks at it every thousand instructions: this is what a program can rely on.
 * sqlite3_interrupt, by a guard, ends the single instructions that last: count(*) of a large table, an
 * integrity check, a checkpoint. And a busy handler sleeps until the lock may be free or the context is done.
 *
 *     cctx_sqlite3_t scope;
 *     int err = cctx_sqlite3_begin(&scope, db, ctx);
 *     if (err)
 *         return err;
 *     int result = sqlite3_exec(db, sql, row, NULL, &why);
 *     return cctx_sqlite3_end(&scope, result);
 *
 * WHAT IT SEES TO
 *
 * - SQLite drops an interrupt if no statement runs. The guard sends it again, and the progress handler needs
 *   none.
 * - After the end no interrupt comes, so that none meets the next statement, or a connection that is closed.
 *   One that came too late for the last statement leaves a mark in the connection, which would end the next
 *   checkpoint, or that of sqlite3_close: the end takes it away.
 * - An interrupt ends all statements of its connection. So a scope that begins while a statement stands
 *   between two rows sends none, and has the progress handler alone.
 * - A transaction that was begun in the scope and is still open when the result is an error is rolled back by
 *   the end. SQLite itself does so only where it interrupts a write.
 * - The time of sqlite3_busy_timeout is, after the end, what it was before.
 *
 * WHAT IS LEFT TO THE PROGRAM
 *
 * - The statements of the scope are reset or finalized before its end. One that an interrupt has met and that
 *   is still open keeps the mark: all on the connection is SQLITE_INTERRUPT until it is reset.
 * - The connection is the scope's thread's alone, as in a transaction, and nobody else installs handlers
 *   meanwhile. A progress handler, or a busy handler, that was there before is gone after the end: SQLite
 *   does not tell them.
 * - A write that is interrupted in a transaction of before the scope has rolled that back as a whole; what
 *   comes next is outside of any. sqlite3_get_autocommit tells.
 * - Where to wait could be a deadlock, SQLite does not ask the busy handler and returns SQLITE_BUSY at once:
 *   in a transaction that has read and now writes. BEGIN IMMEDIATE waits. SQLITE_LOCKED, of a shared cache,
 *   is not waited for either. A context that never ends waits for a lock as long as it is held.
 * - SQLite tells nobody that a lock is free: it is asked again after 1, 2, 4, ... 64 ms.
 * - A function, a virtual table or a file system of the program's own ends when it returns.
 * - sqlite3_errmsg is read before the end, which may run a statement; what sqlite3_exec gives stays.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* Instructions of SQLite's between two looks at the context, some 10 us. A program may define another. */
#ifndef CCTX_SQLITE3_STEPS
#define CCTX_SQLITE3_STEPS 1000
#endif

/*
 * cctx_sqlite3_t - the storage of one scope, the caller's. It stays at its address from begin to end.
 */
typedef struct cctx_sqlite3 {
    sqlite3 *db;
    const cctx_t *ctx;
    struct cctx_sqlite3 *outer; /* whose handlers the end restores, or NULL */
    int timeout;                /* of sqlite3_busy_timeout before, in milliseconds */
    bool autocommit;            /* no transaction was open at the begin */
    bool guarded;
    cctx_guard_t guard;
} cctx_sqlite3_t;

/*
 * cctx_sqlite3_err - the result of a call of SQLite's as an errno value.
 *
 * Returns    0          SQLITE_OK, SQLITE_ROW or SQLITE_DONE, whatever the context.
 *            ECANCELED, ETIMEDOUT   SQLITE_INTERRUPT, _BUSY or _ABORT, and ctx is done: cctx_err(ctx).
 *            EINTR      SQLITE_INTERRUPT or SQLITE_ABORT, by somebody else.
 *            EBUSY      SQLITE_BUSY or SQLITE_LOCKED.
 *            ENOMEM, ENOSPC, EROFS, EINVAL   SQLITE_NOMEM, _FULL, _READONLY, _MISUSE.
 *            EIO        any other; result says more.
 */
static inline int cctx_sqlite3_err(const cctx_t *ctx, int result)
{
    switch (result & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_INTERRUPT:
    case SQLITE_ABORT:
        return cctx_is_done(ctx) ? cctx_err(ctx) : EINTR;
    case SQLITE_BUSY:
        return cctx_is_done(ctx) ? cctx_err(ctx) : EBUSY;
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_MISUSE:
        return EINVAL;
    default:
        return EIO;
    }
}

/* ---- private to this header ---- */

/* The progress handler: anything but 0 ends the statement. */
static inline int cctx_sqlite3_progress(void *ctx)
{
    return cctx_is_done((const cctx_t *)ctx);
}

/* The busy handler, called for the count-th time for one lock: sleeps 1, 2, 4, ... 64 ms. 0: give up. */
static inline int cctx_sqlite3_busy(void *ctx, int count)
{
    return cctx_sleep((const cctx_t *)ctx, CCTX_MS(1 << (count < 6 ? count : 6))) == 0;
}

/* What the guard calls. */
static inline void cctx_sqlite3_interrupt(void *db)
{
    sqlite3_interrupt((sqlite3 *)db);
}

/* Installs the handlers; with a guard, unless it is refused: the progress handler is enough then. */
static inline void cctx_sqlite3_enter(cctx_sqlite3_t *scope, bool guarded)
{
    void *ctx = (void *)(uintptr_t)scope->ctx;

    sqlite3_progress_handler(scope->db, CCTX_SQLITE3_STEPS, cctx_sqlite3_progress, ctx);
    sqlite3_busy_handler(scope->db, cctx_sqlite3_busy, ctx);
    scope->guarded =
        guarded && cctx_guard_arm(&scope->guard, scope->ctx, cctx_sqlite3_interrupt, scope->db) == 0;
}

/* Takes back what enter has done, and the mark of an interrupt that came too late: parsing clears it. */
static inline void cctx_sqlite3_leave(cctx_sqlite3_t *scope)
{
    sqlite3_stmt *none = NULL;

    if (scope->guarded)
        cctx_guard_disarm(&scope->guard);
    sqlite3_progress_handler(scope->db, 0, NULL, NULL);
    sqlite3_busy_timeout(scope->db, scope->timeout);
    if (scope->guarded && cctx_is_done(scope->ctx))
        (void)sqlite3_prepare_v2(scope->db, "", -1, &none, NULL);
}

/* Does a statement stand between its first row and its last? */
static inline bool cctx_sqlite3_running(sqlite3 *db)
{
    sqlite3_stmt *statement = sqlite3_next_stmt(db, NULL);

    while (statement && !sqlite3_stmt_busy(statement))
        statement = sqlite3_next_stmt(db, statement);
    return statement != NULL;
}

/* ---- the scope ---- */

/*
 * cctx_sqlite3_begin - from here on the statements on db end with ctx.
 *
 * A statement of less than CCTX_SQLITE3_STEPS instructions may end by itself though ctx is done. If the guard
 * is refused, for want of memory or of a thread, the scope has the progress handler alone.
 *
 * Returns    0; or, with nothing changed, cctx_err(ctx), which is done already.
 * Errors     EINVAL: an argument is NULL. ENOMEM: of SQLite's. Nothing has changed.
 * Threads    the one that uses the connection.
 * Ownership  scope is the bridge's until the end; ctx and db stay valid until then.
 * Blocking   never.
 * Cost       a statement that asks for the busy time-out, a guard, and O(prepared statements of db): 2 us in
 *            all. The first call of a process may start the threads of a guard.
 */
static inline CCTX_MUST_USE int cctx_sqlite3_begin(cctx_sqlite3_t *scope, sqlite3 *db, const cctx_t *ctx)
{
    sqlite3_stmt *ask = NULL;
    bool running;
    int result;

    if (!scope || !db || !ctx)
        return EINVAL;
    if (cctx_is_done(ctx))
        return cctx_err(ctx);
    running = cctx_sqlite3_running(db);
    scope->db = db;
    scope->ctx = ctx;
    scope->outer = NULL;
    scope->timeout = 0;
    scope->autocommit = sqlite3_get_autocommit(db) != 0;
    result = sqlite3_prepare_v2(db, "PRAGMA busy_timeout", -1, &ask, NULL);
    if (result == SQLITE_OK && (result = sqlite3_step(ask)) == SQLITE_ROW)
        scope->timeout = sqlite3_column_int(ask, 0);
    sqlite3_finalize(ask);
    if (result == SQLITE_NOMEM)
        return ENOMEM;
    cctx_sqlite3_enter(scope, !running);
    return 0;
}

/*
 * cctx_sqlite3_nest - begin a scope within another one, on its connection.
 *
 * Until it ends, statements end with ctx, and with the outer's context only if ctx is derived from it:
 * clean-up that is done in any case has a context of its own. Scopes end in the opposite order. Else as
 * cctx_sqlite3_begin.
 *
 * Cost       two guards less the statement.
 */
static inline CCTX_MUST_USE int cctx_sqlite3_nest(cctx_sqlite3_t *scope, cctx_sqlite3_t *outer,
                                                  const cctx_t *ctx)
{
    if (!scope || !outer || !ctx)
        return EINVAL;
    if (cctx_is_done(ctx))
        return cctx_err(ctx);
    cctx_sqlite3_leave(outer);
    scope->db = outer->db;
    scope->ctx = ctx;
    scope->outer = outer;
    scope->timeout = outer->timeout;
    scope->autocommit = sqlite3_get_autocommit(scope->db) != 0;
    cctx_sqlite3_enter(scope, !cctx_sqlite3_running(scope->db));
    return 0;
}

/*
 * cctx_sqlite3_end - no interrupt comes any more, and the handlers are those of before, see the head.
 *
 * result is that of the last call in the scope. If it is an error, a transaction that was begun in the scope
 * and is still open is rolled back, whatever the context.
 *
 * Returns    cctx_sqlite3_err(ctx, result).
 * Threads    the one that began the scope.
 * Blocking   as long as the roll-back writes, if there is one.
 * Cost       the disarm of a guard.
 */
static inline int cctx_sqlite3_end(cctx_sqlite3_t *scope, int result)
{
    int err = cctx_sqlite3_err(scope->ctx, result);

    cctx_sqlite3_leave(scope);
    if (err && scope->autocommit && !sqlite3_get_autocommit(scope->db))
        (void)sqlite3_exec(scope->db, "ROLLBACK", NULL, NULL, NULL);
    if (scope->outer)
        cctx_sqlite3_enter(scope->outer, scope->outer->guarded);
    return err;
}

#ifdef __cplusplus
}
#endif

#endif
