/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bridge to SQLite, on real files: one of a million rows, small ones for locks and transactions. The one
 * thing seen from inside is the guard of a scope: without it, the test sees what the progress handler does.
 */
#include "duel.h"
#include "figure.h"

#include <cctx/bridge/sqlite3.h>
#include <spawn.h>
#include <sys/stat.h>

/* Four million million rows, one after the other: it does not end by itself. */
#define ENDLESS "SELECT sum(a.value * b.value) FROM item a, item b, item c WHERE started()"
/* One instruction for all rows. Started is evaluated first. */
#define COUNT "SELECT started() + (SELECT count(*) FROM item)"
#define NUMBERS "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "

extern char **environ;

static char folder[] = "/tmp/cctx_sqlite3.XXXXXX";
static char million[64]; /* the file of a million rows */

/* ---- the connection of a test ---- */


/* Opened by the SQL function started(): a statement runs. Atomic. */
static gate_t *gate_of_started;

static void started(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)n;
    (void)values;
    gate_t *gate = __atomic_exchange_n(&gate_of_started, NULL, __ATOMIC_ACQ_REL);
    if (gate)
        gate_open(gate);
    sqlite3_result_int(context, 1);
}

static void sql(sqlite3 *db, const char *text)
{
    char *error = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK)
        fprintf(stderr, "%s: %s\n", text, error);
    CHECK(error == NULL);
}

static sqlite3 *open_file(const char *file)
{
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(file, &db) == SQLITE_OK);
    CHECK(sqlite3_create_function(db, "started", 0, SQLITE_UTF8, NULL, started, NULL, NULL) == SQLITE_OK);
    sql(db, "PRAGMA synchronous = OFF");
    return db;
}

/* A file of its own for each test, with a table t of one row, 0. */
static sqlite3 *open_new(char file[64])
{
    static int files;
    snprintf(file, 64, "%s/%d.db", folder, files++);
    sqlite3 *db = open_file(file);
    sql(db, "CREATE TABLE t(n INTEGER); INSERT INTO t VALUES (0)");
    return db;
}

static void close_db(sqlite3 *db)
{
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
    sqlite3_stmt *statement = NULL;
    CHECK(sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK);
    return statement;
}

/* The first value of the first row, without a scope. */
static int64_t ask(sqlite3 *db, const char *text)
{
    sqlite3_stmt *statement = prepare(db, text);
    CHECK(sqlite3_step(statement) == SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    CHECK(sqlite3_finalize(statement) == SQLITE_OK);
    return value;
}

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(ctx != NULL);
    return ctx;
}

static int exec(sqlite3 *db, const char *text)
{
    return sqlite3_exec(db, text, NULL, NULL, NULL);
}

/* A statement in a scope of its own. */
static int query(const cctx_t *ctx, sqlite3 *db, const char *text)
{
    cctx_sqlite3_t scope;
    int err = cctx_sqlite3_begin(&scope, db, ctx);
    if (err)
        return err;
    return cctx_sqlite3_end(&scope, exec(db, text));
}

/* The handlers of a connection without a scope: the time-out, and no progress handler that ends a query. */
static void assert_no_handlers(sqlite3 *db, int timeout)
{
    assert_int_equal(ask(db, "PRAGMA busy_timeout"), timeout);
    char text[256];
    snprintf(text, sizeof text, NUMBERS "SELECT count(*) FROM n", 5000);
    assert_int_equal(ask(db, text), 5000);
}

/* ---- a thread that cancels once a statement runs ---- */

typedef struct canceler {
    gate_t gate;
    cctx_t *ctx;
    pthread_t thread;
} canceler_t;

static void *cancel_when_started(void *arg)
{
    canceler_t *canceler = arg;
    gate_wait(&canceler->gate);
    CHECK(cctx_cancel(canceler->ctx));
    return NULL;
}

static void canceler_start(canceler_t *canceler, cctx_t *ctx)
{
    *canceler = (canceler_t){.ctx = ctx};
    __atomic_store_n(&gate_of_started, &canceler->gate, __ATOMIC_RELEASE);
    canceler->thread = thread_start(cancel_when_started, canceler);
}

/* ---- statements ---- */

static void a_statement_ends_with_its_context_and_the_next_one_runs(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    canceler_t canceler;
    canceler_start(&canceler, ctx);
    assert_int_equal(query(ctx, db, ENDLESS), ECANCELED);
    thread_join(canceler.thread);
    assert_int_equal(ask(db, "SELECT count(*) FROM item"), 1000000);
    cctx_unref(ctx);
    close_db(db);
}

static void a_statement_ends_at_the_deadline_and_not_before(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_time_t begun = cctx_now();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    assert_int_equal(query(ctx, db, ENDLESS), ETIMEDOUT);
    assert_true(cctx_now() - begun >= CCTX_MS(20));
    cctx_unref(ctx);
    close_db(db);
}

static void a_scope_does_not_begin_once_the_context_is_done(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    sqlite3_busy_timeout(db, 1234);
    cctx_t *ctx = live();
    cctx_cancel(ctx);
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), ECANCELED);
    assert_no_handlers(db, 1234);
    assert_int_equal(cctx_sqlite3_begin(NULL, db, ctx), EINVAL);
    assert_int_equal(cctx_sqlite3_begin(&scope, NULL, ctx), EINVAL);
    assert_int_equal(cctx_sqlite3_begin(&scope, db, NULL), EINVAL);
    assert_int_equal(cctx_sqlite3_nest(&scope, NULL, ctx), EINVAL);
    cctx_unref(ctx);
    close_db(db);
}

static void the_progress_handler_alone_ends_a_statement(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    assert_true(scope.guarded);
    cctx_guard_disarm(&scope.guard);
    cctx_cancel(ctx);
    assert_int_equal(cctx_sqlite3_end(&scope, exec(db, ENDLESS)), ECANCELED);
    cctx_unref(ctx);
    close_db(db);
}

static void an_interrupt_that_came_before_the_statement_comes_again(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    cctx_cancel(ctx); /* and SQLite drops the first interrupt, since no statement runs */
    assert_int_equal(exec(db, ENDLESS), SQLITE_INTERRUPT);
    assert_int_equal(cctx_sqlite3_end(&scope, SQLITE_INTERRUPT), ECANCELED);
    cctx_unref(ctx);
    close_db(db);
}

static void one_long_instruction_ends_by_the_interrupt(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    sqlite3_stmt *check = prepare(db, "PRAGMA integrity_check");
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    cctx_cancel(ctx); /* the next interrupts come in 1, 3, 7 ms; the check takes hundreds */
    assert_int_equal(sqlite3_step(check), SQLITE_INTERRUPT);
    sqlite3_finalize(check);
    assert_int_equal(cctx_sqlite3_end(&scope, SQLITE_INTERRUPT), ECANCELED);
    cctx_unref(ctx);
    close_db(db);
}

static void rows_come_one_by_one_until_the_context_ends(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    sqlite3_stmt *rows = prepare(db, "SELECT id FROM item ORDER BY id");
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    int result, n = 0;
    while ((result = sqlite3_step(rows)) == SQLITE_ROW)
        if (++n == 1000)
            cctx_cancel(ctx);
    assert_int_equal(result, SQLITE_INTERRUPT);
    assert_in_range(n, 1000, 1000 + CCTX_SQLITE3_STEPS);
    sqlite3_finalize(rows);
    assert_int_equal(cctx_sqlite3_end(&scope, result), ECANCELED);
    cctx_unref(ctx);
    close_db(db);
}

/* ---- after the end ---- */

static void an_interrupt_too_late_for_its_statement_meets_no_checkpoint_and_no_close(void **state)
{
    (void)state;
    char file[64], wal[80];
    sqlite3 *db = open_new(file);
    sql(db, "PRAGMA journal_mode = WAL");
    snprintf(wal, sizeof wal, "%s-wal", file);
    struct stat info;
    for (int round = 0; round < 2; round++) {
        cctx_t *ctx = live();
        cctx_sqlite3_t scope;
        assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
        int result = exec(db, "UPDATE t SET n = n + 1");
        cctx_cancel(ctx);
        assert_int_equal(cctx_sqlite3_end(&scope, result), 0);
        assert_int_equal(stat(wal, &info), 0);
        if (round == 0)
            assert_int_equal(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL), 0);
        cctx_unref(ctx);
    }
    close_db(db);
    assert_int_equal(stat(wal, &info), -1); /* the last to close has written it back */
}

static void the_next_statement_is_never_hit(void **state)
{
    (void)state;
    enum { ROUNDS = 10000 };
    char file[64], text[256];
    sqlite3 *db = open_new(file);
    sql(db, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
    snprintf(text, sizeof text, NUMBERS "SELECT sum(i) FROM n", 300);
    sqlite3_stmt *next = prepare(db, text);
    sqlite3_stmt *update = prepare(db, "UPDATE t SET n = n + 1");
    sqlite3_stmt *first = prepare(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                                      "WHERE i < ?) SELECT sum(i) FROM n");
    duel_t duel;
    duel_begin(&duel);
    rng_t rng = rng_make(test_seed(), 1);
    int stopped = 0, came_late = 0;
    watchdog(240);
    for (int round = 0; round < ROUNDS; round++) {
        duel.ctx = live();
        duel.steps = (unsigned)rng_below(&rng, 100000);
        sqlite3_bind_int(first, 1, (int)rng_below(&rng, 1200));
        cctx_sqlite3_t scope;
        CHECK(cctx_sqlite3_begin(&scope, db, duel.ctx) == 0);
        pthread_barrier_wait(&duel.barrier);
        int result = sqlite3_step(first);
        CHECK(result == SQLITE_ROW || result == SQLITE_INTERRUPT);
        sqlite3_reset(first);
        bool done = cctx_is_done(duel.ctx);
        int err = cctx_sqlite3_end(&scope, result);
        CHECK(err == (result == SQLITE_INTERRUPT ? ECANCELED : 0));
        stopped += err != 0;
        came_late += !err && done;
        /* Without a scope now, on statements that are prepared already: to prepare would clear the mark. */
        if (rng_below(&rng, 4) > 0) {
            CHECK(sqlite3_step(next) == SQLITE_ROW);
            CHECK(sqlite3_column_int(next, 0) == 300 * 301 / 2);
            CHECK(sqlite3_reset(next) == SQLITE_OK);
        } else {
            int left, back;
            CHECK(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_FULL, &left, &back) == SQLITE_OK);
            CHECK(left == back);
            CHECK(sqlite3_step(update) == SQLITE_DONE);
            CHECK(sqlite3_reset(update) == SQLITE_OK);
        }
        pthread_barrier_wait(&duel.barrier);
        cctx_unref(duel.ctx);
    }
    duel_end(&duel);
    watchdog(0);
    print_message("of %d rounds %d were stopped, %d ended before a cancel in their scope\n", ROUNDS, stopped,
                  came_late);
    sqlite3_finalize(first);
    sqlite3_finalize(next);
    sqlite3_finalize(update);
    close_db(db);
}

static void the_busy_timeout_of_before_is_there_again(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    sqlite3_busy_timeout(db, 1234);
    cctx_t *ctx = live();
    cctx_sqlite3_t outer, inner;
    assert_int_equal(cctx_sqlite3_begin(&outer, db, ctx), 0);
    assert_int_equal(ask(db, "PRAGMA busy_timeout"), 0);
    assert_int_equal(cctx_sqlite3_nest(&inner, &outer, ctx), 0);
    assert_int_equal(cctx_sqlite3_end(&inner, SQLITE_OK), 0);
    assert_int_equal(ask(db, "PRAGMA busy_timeout"), 0);
    cctx_cancel(ctx);
    assert_int_equal(cctx_sqlite3_end(&outer, SQLITE_OK), 0);
    assert_no_handlers(db, 1234);
    cctx_unref(ctx);
    close_db(db);
}

/* ---- locks ---- */

typedef struct waiter {
    const char *file;
    const cctx_t *ctx;
    pid_t tid; /* atomic; 0: not yet */
    int err;
} waiter_t;

static void *wait_for_lock(void *arg)
{
    waiter_t *waiter = arg;
    sqlite3 *db = open_file(waiter->file);
    __atomic_store_n(&waiter->tid, gettid(), __ATOMIC_RELEASE);
    waiter->err = query(waiter->ctx, db, "BEGIN IMMEDIATE; UPDATE t SET n = n + 1; COMMIT");
    close_db(db);
    return NULL;
}

/* A thread that sleeps, as soon as it waits for the lock at the latest. It ends only once it is let. */
static pthread_t waiter_start(waiter_t *waiter)
{
    pthread_t thread = thread_start(wait_for_lock, waiter);
    pid_t tid;
    while ((tid = __atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE)) == 0)
        sched_yield();
    await_sleep(tid);
    return thread;
}

static void a_wait_for_a_lock_ends_with_the_lock_or_with_the_context(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    watchdog(60);

    sql(db, "BEGIN IMMEDIATE");
    cctx_time_t begun = cctx_now();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(30));
    waiter_t waiter = {.file = file, .ctx = ctx};
    thread_join(thread_start(wait_for_lock, &waiter));
    assert_int_equal(waiter.err, ETIMEDOUT);
    assert_true(cctx_now() - begun >= CCTX_MS(30));
    cctx_unref(ctx);

    ctx = live();
    waiter = (waiter_t){.file = file, .ctx = ctx};
    pthread_t thread = waiter_start(&waiter);
    cctx_cancel(ctx);
    thread_join(thread);
    assert_int_equal(waiter.err, ECANCELED);
    cctx_unref(ctx);

    ctx = live();
    waiter = (waiter_t){.file = file, .ctx = ctx};
    thread = waiter_start(&waiter);
    sql(db, "UPDATE t SET n = 10; COMMIT");
    thread_join(thread);
    assert_int_equal(waiter.err, 0);
    assert_int_equal(ask(db, "SELECT n FROM t"), 11);
    cctx_unref(ctx);
    watchdog(0);
    close_db(db);
}

static void a_lock_that_must_not_be_waited_for_is_busy_at_once(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file), *other = open_file(file);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    sql(other, "BEGIN IMMEDIATE");
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    assert_int_equal(exec(db, "BEGIN; SELECT * FROM t"), SQLITE_OK);
    int result = exec(db, "UPDATE t SET n = 1"); /* it has read, and would write: the handler is not asked */
    assert_int_equal(result, SQLITE_BUSY);
    assert_int_equal(cctx_sqlite3_end(&scope, result), EBUSY);
    assert_true(sqlite3_get_autocommit(db));
    sql(other, "COMMIT");
    cctx_unref(ctx);
    close_db(other);
    close_db(db);
}

/* ---- transactions ---- */

static void a_transaction_whose_write_is_interrupted_is_as_if_never_begun(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    cctx_t *ctx = live();
    canceler_t canceler;
    canceler_start(&canceler, ctx);
    assert_int_equal(query(ctx, db,
                           "BEGIN IMMEDIATE; UPDATE t SET n = 1; CREATE TABLE u(i);"
                           "INSERT INTO u WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                           "SELECT i FROM n WHERE started(); COMMIT"),
                     ECANCELED);
    thread_join(canceler.thread);
    assert_true(sqlite3_get_autocommit(db));
    assert_int_equal(ask(db, "SELECT n FROM t"), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'u'"), 0);
    assert_int_equal(query(cctx_background(), db, "BEGIN IMMEDIATE; UPDATE t SET n = 2; COMMIT"), 0);
    assert_int_equal(ask(db, "SELECT n FROM t"), 2);
    cctx_unref(ctx);
    close_db(db);
}

static void a_transaction_whose_read_is_interrupted_is_rolled_back_by_the_end(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), 0);
    assert_int_equal(exec(db, "BEGIN IMMEDIATE; UPDATE t SET n = 1"), SQLITE_OK);
    cctx_cancel(ctx);
    char text[256];
    snprintf(text, sizeof text, NUMBERS "SELECT count(*) FROM n", 1000000000);
    int result = exec(db, text);
    assert_int_equal(result, SQLITE_INTERRUPT);
    assert_false(sqlite3_get_autocommit(db)); /* SQLite's part ends here */
    assert_int_equal(cctx_sqlite3_end(&scope, result), ECANCELED);
    assert_true(sqlite3_get_autocommit(db));
    assert_int_equal(ask(db, "SELECT n FROM t"), 0);
    cctx_unref(ctx);
    close_db(db);
}

static void a_transaction_of_before_the_scope_is_left_alone(void **state)
{
    (void)state;
    char file[64], text[256];
    sqlite3 *db = open_new(file);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    snprintf(text, sizeof text, NUMBERS "SELECT count(*) FROM n", 1000000000);
    sql(db, "BEGIN; UPDATE t SET n = 1");
    assert_int_equal(query(ctx, db, text), ETIMEDOUT);
    assert_false(sqlite3_get_autocommit(db));
    sql(db, "COMMIT");
    assert_int_equal(ask(db, "SELECT n FROM t"), 1);
    cctx_unref(ctx);
    close_db(db);
}

static void a_commit_that_waits_for_readers_ends_with_the_context(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file), *reader = open_file(file);
    sqlite3_stmt *reads = prepare(reader, "SELECT n FROM t");
    assert_int_equal(sqlite3_step(reads), SQLITE_ROW);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    assert_int_equal(query(ctx, db, "BEGIN; UPDATE t SET n = 1; COMMIT"), ETIMEDOUT);
    assert_true(sqlite3_get_autocommit(db));
    sqlite3_finalize(reads);
    assert_int_equal(ask(reader, "SELECT n FROM t"), 0);
    sql(reader, "UPDATE t SET n = 2"); /* no lock is left */
    cctx_unref(ctx);
    close_db(reader);
    close_db(db);
}

/* ---- one scope in another, and statements beside it ---- */

static void the_end_of_an_inner_scope_does_not_end_the_outer_ones_rows(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    cctx_sqlite3_t outer;
    assert_int_equal(cctx_sqlite3_begin(&outer, db, ctx), 0);
    sqlite3_stmt *rows = prepare(db, "SELECT id FROM item WHERE id <= 20");
    int n = 0, result;
    while ((result = sqlite3_step(rows)) == SQLITE_ROW) {
        cctx_t *one = cctx_with_cancel(ctx);
        cctx_sqlite3_t inner;
        assert_int_equal(cctx_sqlite3_nest(&inner, &outer, one), 0);
        assert_false(inner.guarded);
        cctx_cancel(one);
        assert_int_equal(cctx_sqlite3_end(&inner, exec(db, ENDLESS)), ECANCELED);
        cctx_unref(one);
        n++;
    }
    assert_int_equal(result, SQLITE_DONE);
    assert_int_equal(n, 20);
    sqlite3_finalize(rows);
    assert_true(outer.guarded);
    cctx_cancel(ctx);
    assert_int_equal(cctx_sqlite3_end(&outer, exec(db, ENDLESS)), ECANCELED);
    cctx_unref(ctx);
    close_db(db);
}

static void clean_up_with_a_context_of_its_own_outlives_the_outer_one(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    cctx_sqlite3_t outer, inner;
    assert_int_equal(cctx_sqlite3_begin(&outer, db, ctx), 0);
    cctx_cancel(ctx);
    assert_int_equal(exec(db, ENDLESS), SQLITE_INTERRUPT);
    const cctx_t *clean = cctx_without_cancel(ctx);
    assert_int_equal(cctx_sqlite3_nest(&inner, &outer, clean), 0);
    sqlite3_stmt *check = prepare(db, "SELECT sum(value) FROM item");
    assert_int_equal(sqlite3_step(check), SQLITE_ROW); /* it outlasts several of the outer's interrupts */
    sqlite3_finalize(check);
    assert_int_equal(cctx_sqlite3_end(&inner, SQLITE_OK), 0);
    assert_int_equal(exec(db, ENDLESS), SQLITE_INTERRUPT); /* the outer's again */
    assert_int_equal(cctx_sqlite3_end(&outer, SQLITE_INTERRUPT), ECANCELED);
    cctx_unref(clean);
    cctx_unref(ctx);
    close_db(db);
}

static void a_scope_amid_another_statements_rows_sends_no_interrupt(void **state)
{
    (void)state;
    sqlite3 *db = open_file(million);
    sqlite3_stmt *rows = prepare(db, "SELECT id FROM item WHERE id <= 100");
    assert_int_equal(sqlite3_step(rows), SQLITE_ROW);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(5));
    assert_int_equal(query(ctx, db, ENDLESS), ETIMEDOUT);
    int n = 1;
    while (sqlite3_step(rows) == SQLITE_ROW)
        n++;
    assert_int_equal(n, 100);
    assert_int_equal(sqlite3_finalize(rows), SQLITE_OK);
    cctx_unref(ctx);
    close_db(db);
}

/* ---- what is refused ---- */

static void without_a_thread_to_guard_it(void *arg)
{
    (void)arg;
    alarm(60);
    CHECK(refuse_call(SYS_clone3, EAGAIN) && refuse_call(SYS_clone, EAGAIN));
    sqlite3 *db = open_file(million);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    CHECK(cctx_sqlite3_begin(&scope, db, ctx) == 0);
    CHECK(!scope.guarded);
    cctx_cancel(ctx);
    CHECK(cctx_sqlite3_end(&scope, exec(db, ENDLESS)) == ECANCELED);
    CHECK(ask(db, "SELECT id FROM item") == 1);
    cctx_unref(ctx);
    close_db(db);
}

static void a_guard_that_is_refused_is_not_missed(void **state)
{
    (void)state;
    if (TEST_TSAN)
        NOT_APPLICABLE("ThreadSanitizer allows no fork in a program with threads");
    assert_int_equal(run_in_child(without_a_thread_to_guard_it, NULL), 0);
}

static void memory_that_sqlite_refuses_leaves_all_as_it_was(void **state)
{
    (void)state;
    char file[64];
    sqlite3 *db = open_new(file);
    sqlite3_busy_timeout(db, 1234);
    cctx_t *ctx = live();
    cctx_sqlite3_t scope;
    sqlite3_hard_heap_limit64(1);
    assert_int_equal(cctx_sqlite3_begin(&scope, db, ctx), ENOMEM);
    sqlite3_hard_heap_limit64(0);
    assert_no_handlers(db, 1234);
    assert_int_equal(query(ctx, db, "UPDATE t SET n = 1"), 0);
    cctx_unref(ctx);
    close_db(db);
}

static void results_are_errors_by_their_kind(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_OK), 0);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_INTERRUPT), EINTR);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_BUSY_SNAPSHOT), EBUSY);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_LOCKED), EBUSY);
    cctx_cancel(ctx);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_ROW), 0);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_DONE), 0);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_INTERRUPT), ECANCELED);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_BUSY_TIMEOUT), ECANCELED);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_ABORT_ROLLBACK), ECANCELED);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_LOCKED), EBUSY);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_NOMEM), ENOMEM);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_FULL), ENOSPC);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_READONLY), EROFS);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_MISUSE), EINVAL);
    assert_int_equal(cctx_sqlite3_err(ctx, SQLITE_CONSTRAINT_UNIQUE), EIO);
    cctx_unref(ctx);
}

/* ---- the program ---- */

/* Runs it and reads what it says; once it has printed a row it gets the signal, unless that is 0. */
static int run_statement(const char *file, const char *seconds, const char *text, int sig, char *said,
                         size_t size)
{
    int ends[2];
    pid_t pid;
    const char *const arguments[] = {"statement", file, seconds, text, NULL};
    posix_spawn_file_actions_t actions;
    CHECK(pipe(ends) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    CHECK(posix_spawn(&pid, STATEMENT, &actions, NULL, (char *const *)(uintptr_t)arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while (length < size - 1 && (n = read(ends[0], said + length, size - 1 - length)) > 0) {
        length += (size_t)n;
        if (sig)
            CHECK(kill(pid, sig) == 0);
        sig = 0;
    }
    said[length] = '\0';
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void the_program_ends_at_its_time_or_on_a_signal_and_changes_nothing(void **state)
{
    (void)state;
    char file[64], said[1024];
    sqlite3 *db = open_new(file);
    const char *text = "UPDATE t SET n = n + 1; SELECT n FROM t;"
                       "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                       "SELECT i FROM n WHERE i < 0";
    watchdog(60);
    assert_int_equal(WEXITSTATUS(run_statement(file, "0.05", text, 0, said, sizeof said)), 1);
    assert_non_null(strstr(said, "statement: context deadline exceeded"));
    assert_int_equal(WEXITSTATUS(run_statement(file, "3600", text, SIGINT, said, sizeof said)), 1);
    assert_string_equal(said, "1\nstatement: interrupt signal received\n");
    assert_int_equal(ask(db, "SELECT sum(n) FROM t"), 0);
    text = "UPDATE t SET n = 3; SELECT n, 'x' FROM t";
    assert_int_equal(run_statement(file, "3600", text, 0, said, sizeof said), 0);
    assert_string_equal(said, "3|x\n");
    text = "UPDATE t SET n = 4; SELECT n FROM nowhere";
    assert_int_equal(WEXITSTATUS(run_statement(file, "3600", text, 0, said, sizeof said)), 1);
    assert_string_equal(said, "statement: no such table: nowhere\n");
    assert_int_equal(ask(db, "SELECT n FROM t"), 3);
    watchdog(0);
    close_db(db);
}

/* ---- figures ---- */

typedef struct round {
    sqlite3_stmt *statement;
    cctx_t *ctx;
    pthread_barrier_t barrier;
    bool guarded, last;
    int64_t stopped;
} round_t;

static void *run_rounds(void *arg)
{
    round_t *round = arg;
    for (;;) {
        pthread_barrier_wait(&round->barrier);
        if (round->last)
            return NULL;
        cctx_sqlite3_t scope;
        CHECK(cctx_sqlite3_begin(&scope, sqlite3_db_handle(round->statement), round->ctx) == 0);
        if (!round->guarded)
            cctx_guard_disarm(&scope.guard);
        int result = sqlite3_step(round->statement);
        round->stopped = now_ns();
        sqlite3_reset(round->statement);
        CHECK(result == SQLITE_INTERRUPT || result == SQLITE_ROW);
        CHECK(cctx_sqlite3_end(&scope, result) == (result == SQLITE_ROW ? 0 : ECANCELED));
        pthread_barrier_wait(&round->barrier);
    }
}

/* From just before the cancel, in the statement's first millisecond, until sqlite3_step has returned. */
static void measure(const char *what, const char *text, bool guarded, size_t rounds)
{
    sqlite3 *db = open_file(million);
    round_t round = {.statement = prepare(db, text), .guarded = guarded};
    int64_t *ns = calloc(rounds, sizeof *ns);
    CHECK(ns != NULL);
    pthread_barrier_init(&round.barrier, NULL, 2);
    pthread_t thread = thread_start(run_rounds, &round);
    rng_t rng = rng_make(test_seed(), 2);
    for (size_t i = 0; i < rounds; i++) {
        gate_t gate = {0};
        round.ctx = live();
        __atomic_store_n(&gate_of_started, &gate, __ATOMIC_RELEASE);
        pthread_barrier_wait(&round.barrier);
        gate_wait(&gate);
        usleep((useconds_t)rng_below(&rng, 1000));
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
    figure_report(what, ns, rounds);
    free(ns);
    sqlite3_finalize(round.statement);
    close_db(db);
}

static void from_the_cancel_until_the_statement_has_stopped(void **state)
{
    (void)state;
    watchdog(240);
    measure("cancel to a join of a million rows stopped", ENDLESS, true, SCALED(2000));
    measure("the same by the progress handler alone", ENDLESS, false, SCALED(2000));
    measure("cancel to count(*) of a million rows stopped", COUNT, true, SCALED(1000));
    measure("the same by the progress handler alone", COUNT, false, SCALED(1000));
    watchdog(0);
}

static void what_a_scope_costs(void **state)
{
    (void)state;
    enum { ROUNDS = 10000 };
    static int64_t ns[ROUNDS];
    char file[64];
    sqlite3 *db = open_new(file);
    cctx_t *ctx = live();
    for (int i = 0; i < ROUNDS; i++) {
        cctx_sqlite3_t scope;
        int64_t begun = now_ns();
        CHECK(cctx_sqlite3_begin(&scope, db, ctx) == 0);
        CHECK(cctx_sqlite3_end(&scope, SQLITE_OK) == 0);
        ns[i] = now_ns() - begun;
    }
    figure_report("a scope begun and ended", ns, ROUNDS);
    cctx_unref(ctx);
    close_db(db);
}

/* ---- the file of a million rows ---- */

static int make_million(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(million, sizeof million, "%s/million.db", folder);
    sqlite3 *db = open_file(million);
    char text[512];
    snprintf(text, sizeof text,
             "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, value INTEGER);"
             "INSERT INTO item " NUMBERS "SELECT i, printf('item %%08d', i), i * 7919 %% 10007 FROM n",
             1000000);
    sql(db, text);
    close_db(db);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_statement_ends_with_its_context_and_the_next_one_runs),
        cmocka_unit_test(a_statement_ends_at_the_deadline_and_not_before),
        cmocka_unit_test(a_scope_does_not_begin_once_the_context_is_done),
        cmocka_unit_test(the_progress_handler_alone_ends_a_statement),
        cmocka_unit_test(an_interrupt_that_came_before_the_statement_comes_again),
        cmocka_unit_test(one_long_instruction_ends_by_the_interrupt),
        cmocka_unit_test(rows_come_one_by_one_until_the_context_ends),
        cmocka_unit_test(an_interrupt_too_late_for_its_statement_meets_no_checkpoint_and_no_close),
        cmocka_unit_test(the_next_statement_is_never_hit),
        cmocka_unit_test(the_busy_timeout_of_before_is_there_again),
        cmocka_unit_test(a_wait_for_a_lock_ends_with_the_lock_or_with_the_context),
        cmocka_unit_test(a_lock_that_must_not_be_waited_for_is_busy_at_once),
        cmocka_unit_test(a_transaction_whose_write_is_interrupted_is_as_if_never_begun),
        cmocka_unit_test(a_transaction_whose_read_is_interrupted_is_rolled_back_by_the_end),
        cmocka_unit_test(a_transaction_of_before_the_scope_is_left_alone),
        cmocka_unit_test(a_commit_that_waits_for_readers_ends_with_the_context),
        cmocka_unit_test(the_end_of_an_inner_scope_does_not_end_the_outer_ones_rows),
        cmocka_unit_test(clean_up_with_a_context_of_its_own_outlives_the_outer_one),
        cmocka_unit_test(a_scope_amid_another_statements_rows_sends_no_interrupt),
        cmocka_unit_test(a_guard_that_is_refused_is_not_missed),
        cmocka_unit_test(memory_that_sqlite_refuses_leaves_all_as_it_was),
        cmocka_unit_test(results_are_errors_by_their_kind),
        cmocka_unit_test(the_program_ends_at_its_time_or_on_a_signal_and_changes_nothing),
        cmocka_unit_test(from_the_cancel_until_the_statement_has_stopped),
        cmocka_unit_test(what_a_scope_costs),
    };
    return cmocka_run_group_tests(tests, make_million, remove_folder);
}
