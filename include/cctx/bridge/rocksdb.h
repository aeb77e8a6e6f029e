/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/rocksdb.h - reads, compactions and the background work of RocksDB that end with a context. */
#ifndef CCTX_BRIDGE_ROCKSDB_H
#define CCTX_BRIDGE_ROCKSDB_H

#include <cctx/cctx.h>
#include <rocksdb/c.h>
#include <string.h>
#include <sys/time.h>

/*
 * WHAT IT IS FOR
 *
 * RocksDB has no call that ends another. What it has is a deadline for reads, by the wall clock; switches for
 * its compactions; and iterators, which return at every key. A loop over one ends at the next key once ctx is
 * done, and a read of a file that begins after the deadline of ctx fails:
 *
 *     rocksdb_readoptions_t *options = rocksdb_readoptions_create();
 *     cctx_rocksdb_limit(options, ctx);
 *     rocksdb_iterator_t *it = rocksdb_create_iterator(db, options);
 *     for (rocksdb_iter_seek_to_first(it); cctx_rocksdb_valid(it, ctx); rocksdb_iter_next(it))
 *         use(it);
 *     err = cctx_rocksdb_iter_err(it, ctx);
 *
 * WHAT IT SEES TO
 *
 * - RocksDB's deadline is in microseconds since 1970, and 0 is none; one that has passed is not 0.
 * - rocksdb_disable_manual_compaction counts, and stays: it is called once for one scope, and taken back by
 *   the end, so that the next compaction is not refused.
 * - Neither it nor rocksdb_cancel_all_background_work meets a database that is closed: not after the end.
 * - The C interface has texts for errors: they become errno values.
 *
 * WHAT IS LEFT TO THE PROGRAM
 *
 * - The deadline is looked at before a file is read; a block in the cache, or a memtable, is read after it,
 *   too. A cancel, other than the deadline, does not end a single call: a seek over many deleted keys is
 *   bounded by rocksdb_readoptions_set_max_skippable_internal_keys.
 * - The limit is set by the wall clock as it stands: set it anew for the next read, before the iterator is
 *   created, which copies the options. A clock that is set meanwhile moves it.
 * - rocksdb_readoptions_set_io_timeout is the program's: RocksDB gives each read the lesser of it and what is
 *   left to the deadline.
 * - To disable manual compactions ends those of other threads on that database, too. The C interface does not
 *   tell them.
 */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_rocksdb_t - the storage of one scope, the caller's. It stays at its address from begin to end.
 */
typedef struct cctx_rocksdb {
    rocksdb_t *db;
    const cctx_t *ctx;
    cctx_callback_t callback;
} cctx_rocksdb_t;

/* ---- reads ---- */

/*
 * cctx_rocksdb_deadline - the deadline of a context as RocksDB takes it.
 *
 * Returns    microseconds since 1970, rounded up; 0: none. If ctx is done, or its deadline has passed, 1.
 * Cost       two clock reads, with a deadline.
 */
static inline uint64_t cctx_rocksdb_deadline(const cctx_t *ctx)
{
    int64_t left = cctx_remaining(ctx);
    struct timeval now;

    if (left == CCTX_NEVER)
        return 0;
    if (left == 0)
        return 1;
    gettimeofday(&now, NULL);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec + (uint64_t)left / 1000 + 1;
}

/*
 * cctx_rocksdb_limit - reads with these options end at the deadline of the context.
 *
 * It replaces the deadline that the options had; without one in ctx they have none. Options of a context that
 * is done already read no file.
 */
static inline void cctx_rocksdb_limit(rocksdb_readoptions_t *options, const cctx_t *ctx)
{
    rocksdb_readoptions_set_deadline(options, cctx_rocksdb_deadline(ctx));
}

/*
 * cctx_rocksdb_valid - rocksdb_iter_valid, and the context is live: the condition of a loop.
 */
static inline bool cctx_rocksdb_valid(const rocksdb_iterator_t *it, const cctx_t *ctx)
{
    return !cctx_is_done(ctx) && rocksdb_iter_valid(it);
}

/*
 * cctx_rocksdb_err - the text of an error as an errno value.
 *
 * error is what a function of RocksDB's has written to its errptr, and stays the caller's, for rocksdb_free.
 *
 * Returns    0          error is NULL.
 *            ECANCELED, ETIMEDOUT   a time-out, a compaction that was disabled or a shutdown, and ctx is
 *            done: cctx_err(ctx).
 *            ETIMEDOUT  another time-out. ESHUTDOWN: another shutdown.
 *            EIO        anything else; the text says more.
 */
static inline int cctx_rocksdb_err(const cctx_t *ctx, const char *error)
{
    static const char timed_out[] = "Operation timed out", shutdown[] = "Shutdown in progress",
                      disabled[] = "Result incomplete: Manual compaction paused";
    bool late, shut;

    if (!error)
        return 0;
    late = strncmp(error, timed_out, sizeof timed_out - 1) == 0;
    shut = strncmp(error, shutdown, sizeof shutdown - 1) == 0;
    if (cctx_is_done(ctx) && (late || shut || strncmp(error, disabled, sizeof disabled - 1) == 0))
        return cctx_err(ctx);
    return late ? ETIMEDOUT : shut ? ESHUTDOWN : EIO;
}

/*
 * cctx_rocksdb_iter_err - how did a loop over an iterator end?
 *
 * Returns    0          all keys were seen, or the program left the loop while ctx was live.
 *            ECANCELED, ETIMEDOUT   ctx is done, and keys are left.
 *            otherwise  cctx_rocksdb_err of the iterator's error.
 */
static inline int cctx_rocksdb_iter_err(const rocksdb_iterator_t *it, const cctx_t *ctx)
{
    char *error = NULL;
    int err;

    if (rocksdb_iter_valid(it))
        return cctx_err(ctx);
    rocksdb_iter_get_error(it, &error);
    err = cctx_rocksdb_err(ctx, error);
    if (error)
        rocksdb_free(error);
    return err;
}

/* ---- compactions ---- */

/* What the end of the context calls, private to this header. */
static inline void cctx_rocksdb_disable(void *db)
{
    rocksdb_disable_manual_compaction((rocksdb_t *)db);
}

static inline void cctx_rocksdb_shut(void *db)
{
    rocksdb_cancel_all_background_work((rocksdb_t *)db, 0);
}

static inline int cctx_rocksdb_arm(cctx_rocksdb_t *scope, rocksdb_t *db, const cctx_t *ctx,
                                   void (*fn)(void *))
{
    if (!scope || !db || !ctx)
        return EINVAL;
    if (cctx_is_done(ctx))
        return cctx_err(ctx);
    scope->db = db;
    scope->ctx = ctx;
    return cctx_after_func(ctx, &scope->callback, fn, db);
}

/*
 * cctx_rocksdb_compact_begin - from here on rocksdb_compact_range and its kin end with ctx.
 *
 * Whoever cancels the context waits in RocksDB until the compactions that run have ended: for a deadline that
 * is the runner thread.
 *
 * Returns    0; or, with nothing changed, cctx_err(ctx), which is done already.
 * Errors     EINVAL: an argument is NULL. ENOMEM, EAGAIN: as of cctx_after_func.
 * Ownership  scope is the bridge's until the end; ctx and db stay valid until then.
 */
static inline CCTX_MUST_USE int cctx_rocksdb_compact_begin(cctx_rocksdb_t *scope, rocksdb_t *db,
                                                           const cctx_t *ctx)
{
    return cctx_rocksdb_arm(scope, db, ctx, cctx_rocksdb_disable);
}

/*
 * cctx_rocksdb_compact_end - manual compactions go by ctx no longer, and are enabled.
 *
 * Returns    0          ctx did not end in the scope.
 *            ECANCELED, ETIMEDOUT   it did: the compaction was cut short, unless it had come to its end.
 * Blocking   while RocksDB waits for compactions to end.
 */
static inline int cctx_rocksdb_compact_end(cctx_rocksdb_t *scope)
{
    if (cctx_stop_wait(&scope->callback))
        return 0;
    rocksdb_enable_manual_compaction(scope->db);
    return cctx_err(scope->ctx);
}

/* ---- shutdown ---- */

/*
 * cctx_rocksdb_shutdown_begin - when ctx ends, the database gives up its background work, for good.
 *
 * Flushes and compactions that run are abandoned, writers that wait for them get an error, and none is begun
 * any more: what is left is to close the database. Nothing that was written is lost: what was written without
 * the log is flushed first, by whoever cancels the context.
 *
 * As cctx_rocksdb_compact_begin.
 */
static inline CCTX_MUST_USE int cctx_rocksdb_shutdown_begin(cctx_rocksdb_t *scope, rocksdb_t *db,
                                                            const cctx_t *ctx)
{
    return cctx_rocksdb_arm(scope, db, ctx, cctx_rocksdb_shut);
}

/*
 * cctx_rocksdb_shutdown_end - ctx does not touch the database any more: it may be closed.
 *
 * Returns    0, or cctx_err(ctx): ctx has ended, and with it the background work.
 * Blocking   while that is given up.
 */
static inline int cctx_rocksdb_shutdown_end(cctx_rocksdb_t *scope)
{
    return cctx_stop_wait(&scope->callback) ? 0 : cctx_err(scope->ctx);
}

#ifdef __cplusplus
}
#endif

#endif
