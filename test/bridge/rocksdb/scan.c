/* SPDX-License-Identifier: BSD-2-Clause */
/* scan - prints the keys of a database that begin with a prefix, until Ctrl-C or until the time is up. */
#include <cctx/bridge/rocksdb.h>
#include <cctx/signal.h>
#include <stdio.h>
#include <stdlib.h>

/* [scan] */
/* The loop ends at the next key once ctx is done; a file is not read after its deadline. */
static int scan(const cctx_t *ctx, rocksdb_t *db, const char *prefix)
{
    size_t length, size = strlen(prefix);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    cctx_rocksdb_limit(options, ctx);
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, options);
    for (rocksdb_iter_seek(it, prefix, size); cctx_rocksdb_valid(it, ctx); rocksdb_iter_next(it)) {
        const char *key = rocksdb_iter_key(it, &length);
        if (length < size || memcmp(key, prefix, size) != 0)
            break;
        printf("%.*s\n", (int)length, key);
    }
    int err = cctx_rocksdb_iter_err(it, ctx);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    return err;
}
/* [scan end] */

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: scan FOLDER SECONDS PREFIX\n");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    cctx_t *interrupted = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = cctx_with_timeout(interrupted, (int64_t)(atof(argv[2]) * 1e9));
    char *why = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_t *db = rocksdb_open_for_read_only(options, argv[1], 0, &why);
    int err = !db ? EIO : !ctx ? ENOMEM : scan(ctx, db, argv[3]);
    if (err)
        fprintf(stderr, "scan: %s\n", why ? why : cctx_is_done(ctx) ? cctx_cause(ctx)->text : strerror(err));
    if (db)
        rocksdb_close(db);
    rocksdb_free(why);
    rocksdb_options_destroy(options);
    cctx_close(ctx);
    cctx_unref(interrupted);
    return err ? 1 : 0;
}
