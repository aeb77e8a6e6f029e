/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to RocksDB, on a database in a temporary folder. No block is cached: each seek reads a file. */
#include "duel.h"
#include "figure.h"

#include <rocksdb/c.h>

/* What the bridge calls when a context ends can be held here, to see that the end of a scope waits for it. */
static void held_disable(rocksdb_t *of);
static void held_cancel(rocksdb_t *of, unsigned char wait);

#define rocksdb_disable_manual_compaction held_disable
#define rocksdb_cancel_all_background_work held_cancel
#include <cctx/bridge/rocksdb.h>
#undef rocksdb_disable_manual_compaction
#undef rocksdb_cancel_all_background_work

#include <spawn.h>

#define KEYS SCALED(400000)

extern char **environ;

static char folder[] = "/tmp/cctx_rocksdb.XXXXXX";
static char large[64]; /* the folder of the database with all the keys */
static rocksdb_t *db;

static rocksdb_t *open_db(const char *path)
{
    char *error = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_no_block_cache(table, 1);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_disable_auto_compactions(options, 1);
    rocksdb_t *opened = rocksdb_open(options, path, &error);
    if (error)
        fprintf(stderr, "%s: %s\n", path, error);
    CHECK(error == NULL);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_destroy(options);
    return opened;
}

static void put(rocksdb_t *to, int i)
{
    char key[32], value[100], *error = NULL;
    memset(value, 'v', sizeof value);
    int length = snprintf(key, sizeof key, "key %08d", i);
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(options, 1);
    rocksdb_put(to, options, key, (size_t)length, value, sizeof value, &error);
    rocksdb_writeoptions_destroy(options);
    CHECK(error == NULL);
}

static char *flush(rocksdb_t *of)
{
    char *error = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flush(of, options, &error);
    rocksdb_flushoptions_destroy(options);
    return error;
}

/* Rewrites the whole database, whatever its shape. */
static void compact(rocksdb_t *of)
{
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_bottommost_level_compaction(options, 2); /* kForce */
    rocksdb_compact_range_opt(of, options, NULL, 0, NULL, 0);
    rocksdb_compactoptions_destroy(options);
}

static uint64_t property(rocksdb_t *of, const char *name)
{
    uint64_t value = 0;
    CHECK(rocksdb_property_int(of, name, &value) == 0);
    return value;
}

static uint64_t files_at_level0(rocksdb_t *of)
{
    char *value = rocksdb_property_value(of, "rocksdb.num-files-at-level0");
    CHECK(value != NULL);
    uint64_t n = strtoull(value, NULL, 10);
    rocksdb_free(value);
    return n;
}

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(ctx != NULL);
    return ctx;
}

static uint64_t wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

typedef struct hold {
    gate_t reached, go;
    bool held, passed;
    cctx_t *ctx;
    pid_t tid; /* the thread whose sleep ends the hold */
} hold_t;

static hold_t hold;

static void pass(void)
{
    if (!hold.held)
        return;
    gate_open(&hold.reached);
    gate_wait(&hold.go);
    hold.passed = true;
}

static void held_disable(rocksdb_t *of)
{
    pass();
    rocksdb_disable_manual_compaction(of);
}

static void held_cancel(rocksdb_t *of, unsigned char wait)
{
    pass();
    rocksdb_cancel_all_background_work(of, wait);
}

static void *hold_cancel(void *arg)
{
    cctx_cancel(hold.ctx);
    return arg;
}

static void *hold_let_go(void *arg)
{
    await_sleep(hold.tid);
    gate_open(&hold.go);
    return arg;
}

/* How many keys a loop sees; its error in *err. cancel_at: the key at which it cancels the context, or 0. */
static int scan(cctx_t *ctx, const rocksdb_readoptions_t *options, int cancel_at, int *err)
{
    int n = 0;
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, options);
    for (rocksdb_iter_seek_to_first(it); cctx_rocksdb_valid(it, ctx); rocksdb_iter_next(it))
        if (++n == cancel_at)
            cctx_cancel(ctx);
    *err = cctx_rocksdb_iter_err(it, ctx);
    rocksdb_iter_destroy(it);
    return n;
}

/* ---- reads ---- */

static void a_deadline_is_the_wall_clocks_and_no_earlier(void **state)
{
    (void)state;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(100));
    for (int i = 0; i < 1000; i++) {
        uint64_t most = (uint64_t)cctx_remaining(ctx) / 1000, before = wall_us();
        uint64_t deadline = cctx_rocksdb_deadline(ctx);
        uint64_t after = wall_us(), least = (uint64_t)cctx_remaining(ctx) / 1000;
        assert_true(deadline >= before + least);
        assert_true(deadline <= after + most + 1);
    }
    cctx_rocksdb_limit(options, ctx);
    assert_true(rocksdb_readoptions_get_deadline(options) >= wall_us() + 90000000);
    cctx_cancel(ctx);
    assert_int_equal(cctx_rocksdb_deadline(ctx), 1);
    cctx_unref(ctx);

    cctx_rocksdb_limit(options, cctx_background());
    assert_int_equal(rocksdb_readoptions_get_deadline(options), 0);
    ctx = cctx_with_timeout(cctx_background(), -1);
    assert_int_equal(cctx_rocksdb_deadline(ctx), 1);
    cctx_unref(ctx);
    ctx = cctx_with_deadline(cctx_background(), CCTX_NEVER - 1);
    assert_true(cctx_rocksdb_deadline(ctx) > wall_us());
    assert_true(cctx_rocksdb_deadline(ctx) < INT64_MAX);
    cctx_unref(ctx);
    rocksdb_readoptions_destroy(options);
}

static void a_read_after_the_deadline_fails(void **state)
{
    (void)state;
    size_t length;
    char *error = NULL;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    cctx_rocksdb_limit(options, ctx);
    cctx_wait(ctx);
    while (wall_us() < rocksdb_readoptions_get_deadline(options)) /* the wall clock may be a little slower */
        usleep(100);
    char *value = rocksdb_get(db, options, "key 00000005", 12, &length, &error);
    assert_null(value);
    assert_non_null(error);
    assert_int_equal(cctx_rocksdb_err(ctx, error), ETIMEDOUT);
    assert_int_equal(cctx_rocksdb_err(cctx_background(), error), ETIMEDOUT);
    rocksdb_free(error);
    int err;
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, options);
    rocksdb_iter_seek(it, "key 00000005", 12);
    assert_false(rocksdb_iter_valid(it));
    assert_int_equal(cctx_rocksdb_iter_err(it, ctx), ETIMEDOUT);
    rocksdb_iter_destroy(it);
    cctx_unref(ctx);

    ctx = live();
    cctx_rocksdb_limit(options, ctx);
    assert_int_equal(scan(ctx, options, 0, &err), KEYS);
    assert_int_equal(err, 0);
    cctx_cancel(ctx);
    cctx_rocksdb_limit(options, ctx);
    error = NULL;
    value = rocksdb_get(db, options, "key 00000005", 12, &length, &error);
    assert_null(value);
    assert_int_equal(cctx_rocksdb_err(ctx, error), ECANCELED);
    rocksdb_free(error);
    cctx_unref(ctx);
    rocksdb_readoptions_destroy(options);
}

static void an_iteration_ends_at_the_next_key(void **state)
{
    (void)state;
    int err;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    cctx_t *ctx = live();
    assert_int_equal(scan(ctx, options, 1000, &err), 1000);
    assert_int_equal(err, ECANCELED);
    cctx_unref(ctx);
    ctx = live();
    assert_int_equal(scan(ctx, options, KEYS, &err), KEYS);
    assert_int_equal(err, 0); /* that was all */
    cctx_unref(ctx);
    ctx = live();
    assert_int_equal(scan(ctx, options, 0, &err), KEYS);
    assert_int_equal(err, 0);
    cctx_unref(ctx);
    rocksdb_readoptions_destroy(options);
}

static void an_iteration_ends_at_the_deadline(void **state)
{
    (void)state;
    int err;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    cctx_time_t begun = cctx_now();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(10));
    cctx_rocksdb_limit(options, ctx);
    do
        scan(ctx, options, 0, &err);
    while (err == 0);
    assert_int_equal(err, ETIMEDOUT);
    assert_true(cctx_now() - begun >= CCTX_MS(9)); /* the two clocks may differ by a little */
    cctx_unref(ctx);
    rocksdb_readoptions_destroy(options);
}

static void texts_are_errors_by_their_kind(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    assert_int_equal(cctx_rocksdb_err(ctx, NULL), 0);
    assert_int_equal(cctx_rocksdb_err(ctx, "Operation timed out: Deadline exceeded"), ETIMEDOUT);
    assert_int_equal(cctx_rocksdb_err(ctx, "Shutdown in progress: "), ESHUTDOWN);
    assert_int_equal(cctx_rocksdb_err(ctx, "Result incomplete: Manual compaction paused"), EIO);
    assert_int_equal(cctx_rocksdb_err(ctx, "Corruption: block"), EIO);
    cctx_cancel(ctx);
    assert_int_equal(cctx_rocksdb_err(ctx, NULL), 0);
    assert_int_equal(cctx_rocksdb_err(ctx, "Operation timed out: Deadline exceeded"), ECANCELED);
    assert_int_equal(cctx_rocksdb_err(ctx, "Shutdown in progress: "), ECANCELED);
    assert_int_equal(cctx_rocksdb_err(ctx, "Result incomplete: Manual compaction paused"), ECANCELED);
    assert_int_equal(cctx_rocksdb_err(ctx, "Corruption: block"), EIO);
    cctx_unref(ctx);
}

/* ---- compactions ---- */

typedef struct compaction {
    const cctx_t *ctx;
    int64_t stopped;
    int err;
} compaction_t;

static void *run_compaction(void *arg)
{
    compaction_t *compaction = arg;
    cctx_rocksdb_t scope;
    CHECK(cctx_rocksdb_compact_begin(&scope, db, compaction->ctx) == 0);
    compact(db);
    compaction->stopped = now_ns();
    compaction->err = cctx_rocksdb_compact_end(&scope);
    return NULL;
}

/* How long a compaction of the large database goes on after the cancel. */
static int64_t cancel_compaction(void)
{
    cctx_t *ctx = live();
    compaction_t compaction = {.ctx = ctx};
    pthread_t thread = thread_start(run_compaction, &compaction);
    while (property(db, "rocksdb.num-running-compactions") == 0)
        usleep(100);
    int64_t canceled = now_ns();
    cctx_cancel(ctx);
    thread_join(thread);
    CHECK(compaction.err == ECANCELED);
    cctx_unref(ctx);
    return compaction.stopped > canceled ? compaction.stopped - canceled : 0;
}

static void a_compaction_ends_with_its_context_and_the_next_one_runs(void **state)
{
    (void)state;
    watchdog(120);
    put(db, 0);
    char *error = flush(db);
    assert_null(error);
    assert_true(files_at_level0(db) > 0);
    uint64_t before = files_at_level0(db);
    cancel_compaction();
    assert_int_equal(files_at_level0(db), before);
    cctx_rocksdb_t scope;
    cctx_t *ctx = live();
    assert_int_equal(cctx_rocksdb_compact_begin(&scope, db, ctx), 0);
    compact(db);
    assert_int_equal(cctx_rocksdb_compact_end(&scope), 0);
    assert_int_equal(files_at_level0(db), 0);
    cctx_cancel(ctx);
    assert_int_equal(cctx_rocksdb_compact_begin(&scope, db, ctx), ECANCELED);
    assert_int_equal(cctx_rocksdb_compact_begin(NULL, db, ctx), EINVAL);
    assert_int_equal(cctx_rocksdb_compact_begin(&scope, NULL, ctx), EINVAL);
    assert_int_equal(cctx_rocksdb_compact_begin(&scope, db, NULL), EINVAL);
    cctx_unref(ctx);
    watchdog(0);
}

static void a_compaction_ends_at_the_deadline(void **state)
{
    (void)state;
    watchdog(120);
    int n = 0, err = 0;
    while (n == 0) { /* unless the time is up before the first one has begun */
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(30));
        for (cctx_rocksdb_t scope; cctx_rocksdb_compact_begin(&scope, db, ctx) == 0; n++) {
            compact(db);
            err = cctx_rocksdb_compact_end(&scope);
        }
        cctx_unref(ctx);
    }
    assert_int_equal(err, ETIMEDOUT);
    watchdog(0);
}

static void the_next_compaction_is_never_refused(void **state)
{
    (void)state;
    enum { ROUNDS = 300 };
    char path[64];
    snprintf(path, sizeof path, "%s/small", folder);
    rocksdb_t *small = open_db(path);
    duel_t duel;
    duel_begin(&duel);
    rng_t rng = rng_make(test_seed(), 1);
    int refused = 0;
    watchdog(240);
    for (int round = 0; round < ROUNDS; round++) {
        put(small, round % 100);
        CHECK(flush(small) == NULL);
        duel.ctx = live();
        duel.steps = (unsigned)rng_below(&rng, 2000000);
        cctx_rocksdb_t scope;
        CHECK(cctx_rocksdb_compact_begin(&scope, small, duel.ctx) == 0);
        pthread_barrier_wait(&duel.barrier);
        compact(small);
        bool done = cctx_is_done(duel.ctx);
        int err = cctx_rocksdb_compact_end(&scope);
        CHECK(err == 0 || err == ECANCELED);
        CHECK(err == ECANCELED || !done);
        CHECK(err == ECANCELED || files_at_level0(small) == 0);
        refused += files_at_level0(small) > 0;
        compact(small);
        CHECK(files_at_level0(small) == 0);
        pthread_barrier_wait(&duel.barrier);
        cctx_unref(duel.ctx);
    }
    duel_end(&duel);
    watchdog(0);
    print_message("of %d compactions %d were cut short\n", ROUNDS, refused);
    rocksdb_close(small);
}

/* ---- shutdown ---- */

static void the_background_work_ends_with_the_context_and_nothing_is_lost(void **state)
{
    (void)state;
    char path[64];
    size_t length;
    snprintf(path, sizeof path, "%s/shut", folder);
    rocksdb_t *shut = open_db(path);
    watchdog(120);
    cctx_t *ctx = live();
    cctx_rocksdb_t scope;
    assert_int_equal(cctx_rocksdb_shutdown_begin(&scope, shut, ctx), 0);
    assert_int_equal(cctx_rocksdb_shutdown_end(&scope), 0);
    assert_int_equal(cctx_rocksdb_shutdown_begin(&scope, shut, ctx), 0);
    put(shut, 1); /* without the log */
    cctx_cancel(ctx);
    char *error = flush(shut);
    if (error) {
        assert_int_equal(cctx_rocksdb_err(ctx, error), ECANCELED);
        rocksdb_free(error);
    }
    uint64_t before = files_at_level0(shut);
    assert_int_equal(before, 1);
    compact(shut);
    assert_int_equal(files_at_level0(shut), before);
    assert_int_equal(cctx_rocksdb_shutdown_end(&scope), ECANCELED);
    assert_int_equal(cctx_rocksdb_shutdown_begin(&scope, shut, ctx), ECANCELED);
    rocksdb_close(shut);
    cctx_unref(ctx);

    shut = open_db(path);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    error = NULL;
    char *value = rocksdb_get(shut, options, "key 00000001", 12, &length, &error);
    assert_null(error);
    assert_non_null(value);
    rocksdb_free(value);
    rocksdb_readoptions_destroy(options);
    compact(shut);
    assert_int_equal(files_at_level0(shut), 0);
    rocksdb_close(shut);
    watchdog(0);
}

static void the_end_of_a_scope_waits_for_what_the_context_has_begun(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/held", folder);
    watchdog(120);
    for (int shutdown = 0; shutdown < 2; shutdown++) {
        rocksdb_t *held = open_db(path);
        cctx_rocksdb_t scope;
        hold = (hold_t){.held = true, .ctx = live(), .tid = gettid()};
        if (shutdown)
            assert_int_equal(cctx_rocksdb_shutdown_begin(&scope, held, hold.ctx), 0);
        else
            assert_int_equal(cctx_rocksdb_compact_begin(&scope, held, hold.ctx), 0);
        pthread_t cancels = thread_start(hold_cancel, NULL);
        gate_wait(&hold.reached);
        pthread_t lets_go = thread_start(hold_let_go, NULL);
        int err = shutdown ? cctx_rocksdb_shutdown_end(&scope) : cctx_rocksdb_compact_end(&scope);
        bool passed = hold.passed;
        assert_true(passed);
        assert_int_equal(err, ECANCELED);
        thread_join(lets_go);
        thread_join(cancels);
        rocksdb_close(held);
        cctx_unref(hold.ctx);
        hold = (hold_t){.held = false};
    }
    watchdog(0);
}

/* ---- the program ---- */

/* Runs it and reads what it says, the last of it. sig, unless 0, is sent once it has printed. */
static int run_scan(const char *path, const char *seconds, const char *prefix, int sig, char *said,
                    size_t size)
{
    int ends[2];
    pid_t pid;
    const char *const arguments[] = {"scan", path, seconds, prefix, NULL};
    posix_spawn_file_actions_t actions;
    CHECK(pipe(ends) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    CHECK(posix_spawn(&pid, SCAN, &actions, NULL, (char *const *)(uintptr_t)arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], said + length, size - 1 - length)) > 0) {
        length += (size_t)n;
        if (sig)
            CHECK(kill(pid, sig) == 0);
        sig = 0;
        if (length > size / 2) { /* the end of it is what matters */
            memmove(said, said + length - size / 4, size / 4);
            length = size / 4;
        }
    }
    said[length] = '\0';
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void the_program_ends_at_its_time_or_on_a_signal(void **state)
{
    (void)state;
    static char said[65536];
    watchdog(120);
    rocksdb_close(db);
    assert_int_equal(run_scan(large, "3600", "key 0000001", 0, said, sizeof said), 0);
    assert_int_equal(strlen(said), 10 * sizeof "key 00000010");
    assert_int_equal(WEXITSTATUS(run_scan(large, "0", "key", 0, said, sizeof said)), 1);
    assert_string_equal(said, "scan: context deadline exceeded\n");
    /* It cannot have printed all: the pipe is read only after the signal. */
    assert_int_equal(WEXITSTATUS(run_scan(large, "3600", "key", SIGINT, said, sizeof said)), 1);
    assert_non_null(strstr(said, "scan: interrupt signal received\n"));
    assert_int_equal(WEXITSTATUS(run_scan("/nowhere", "3600", "", 0, said, sizeof said)), 1);
    db = open_db(large);
    watchdog(0);
}

/* ---- figures ---- */

typedef struct round {
    cctx_t *ctx;
    pthread_barrier_t barrier;
    bool last;
    int64_t stopped;
} round_t;

static void *run_rounds(void *arg)
{
    round_t *round = arg;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    for (;;) {
        pthread_barrier_wait(&round->barrier);
        if (round->last)
            break;
        int err;
        do
            scan(round->ctx, options, 0, &err);
        while (!cctx_is_done(round->ctx));
        round->stopped = now_ns();
        pthread_barrier_wait(&round->barrier);
    }
    rocksdb_readoptions_destroy(options);
    return NULL;
}

static void from_the_cancel_until_the_iteration_has_stopped(void **state)
{
    (void)state;
    enum { ROUNDS = 2000 };
    static int64_t ns[ROUNDS];
    round_t round = {.last = false};
    watchdog(240);
    pthread_barrier_init(&round.barrier, NULL, 2);
    pthread_t thread = thread_start(run_rounds, &round);
    rng_t rng = rng_make(test_seed(), 2);
    for (size_t i = 0; i < SCALED(ROUNDS); i++) {
        round.ctx = live();
        pthread_barrier_wait(&round.barrier);
        usleep(500 + (useconds_t)rng_below(&rng, 1000));
        int64_t canceled = now_ns();
        cctx_cancel(round.ctx);
        pthread_barrier_wait(&round.barrier);
        ns[i] = round.stopped > canceled ? round.stopped - canceled : 0;
        cctx_unref(round.ctx);
    }
    round.last = true;
    pthread_barrier_wait(&round.barrier);
    thread_join(thread);
    pthread_barrier_destroy(&round.barrier);
    figure_report("cancel to an iteration stopped", ns, SCALED(ROUNDS));
    watchdog(0);
}

static void from_the_cancel_until_the_compaction_has_stopped(void **state)
{
    (void)state;
    enum { ROUNDS = 200 };
    static int64_t ns[ROUNDS];
    watchdog(240);
    for (size_t i = 0; i < SCALED(ROUNDS); i++)
        ns[i] = cancel_compaction();
    figure_report("cancel to a compaction stopped", ns, SCALED(ROUNDS));
    watchdog(0);
}

static int make_large(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(large, sizeof large, "%s/large", folder);
    db = open_db(large);
    for (int i = 0; i < KEYS; i++)
        put(db, i);
    CHECK(flush(db) == NULL);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[80];
    rocksdb_close(db);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadline_is_the_wall_clocks_and_no_earlier),
        cmocka_unit_test(a_read_after_the_deadline_fails),
        cmocka_unit_test(an_iteration_ends_at_the_next_key),
        cmocka_unit_test(an_iteration_ends_at_the_deadline),
        cmocka_unit_test(texts_are_errors_by_their_kind),
        cmocka_unit_test(a_compaction_ends_with_its_context_and_the_next_one_runs),
        cmocka_unit_test(a_compaction_ends_at_the_deadline),
        cmocka_unit_test(the_next_compaction_is_never_refused),
        cmocka_unit_test(the_background_work_ends_with_the_context_and_nothing_is_lost),
        cmocka_unit_test(the_end_of_a_scope_waits_for_what_the_context_has_begun),
        cmocka_unit_test(the_program_ends_at_its_time_or_on_a_signal),
        cmocka_unit_test(from_the_cancel_until_the_iteration_has_stopped),
        cmocka_unit_test(from_the_cancel_until_the_compaction_has_stopped),
    };
    return cmocka_run_group_tests(tests, make_large, remove_folder);
}
