/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guards as a caller sees them, on a fake API with the awkward rule of SQLite and DuckDB: an interrupt that comes before
 * the statement has started is dropped.
 */
#include "support.h"

#include <cctx/guard.h>
#include <sched.h>

#define HOUR CCTX_S(3600)

/* ---- the fake API: one handle, one statement on it at a time ---- */

typedef struct db {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stepping;    /* a statement runs */
    bool interrupted; /* of the statement that runs */
    unsigned statement;
    unsigned dropped; /* interrupts that came while no statement ran */
    unsigned came;
} db_t;

static void db_open(db_t *db)
{
    memset(db, 0, sizeof *db);
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->changed, NULL);
}

static void db_close(db_t *db)
{
    pthread_mutex_destroy(&db->lock);
    pthread_cond_destroy(&db->changed);
    memset(db, 0xa5, sizeof *db);
}

/* Ends the statement that runs; without one it is dropped. */
static void db_interrupt(void *handle)
{
    db_t *db = handle;
    pthread_mutex_lock(&db->lock);
    db->came++;
    if (db->stepping)
        db->interrupted = true;
    else
        db->dropped++;
    pthread_cond_broadcast(&db->changed);
    pthread_mutex_unlock(&db->lock);
}

/* A statement that does not end by itself. */
static int db_step(db_t *db)
{
    pthread_mutex_lock(&db->lock);
    db->statement++;
    db->stepping = true;
    db->interrupted = false;
    while (!db->interrupted)
        pthread_cond_wait(&db->changed, &db->lock);
    db->stepping = false;
    pthread_mutex_unlock(&db->lock);
    return EINTR;
}

/* A statement of so many steps. EINTR: it was interrupted. */
static int db_run(db_t *db, unsigned steps)
{
    int result = 0;
    pthread_mutex_lock(&db->lock);
    db->statement++;
    db->stepping = true;
    db->interrupted = false;
    for (unsigned i = 0; i < steps && !result; i++) {
        pthread_mutex_unlock(&db->lock);
        sched_yield();
        pthread_mutex_lock(&db->lock);
        if (db->interrupted)
            result = EINTR;
    }
    db->stepping = false;
    pthread_mutex_unlock(&db->lock);
    return result;
}

static unsigned db_came(db_t *db)
{
    pthread_mutex_lock(&db->lock);
    unsigned came = db->came;
    pthread_mutex_unlock(&db->lock);
    return came;
}

static void db_wait_for(db_t *db, unsigned came)
{
    pthread_mutex_lock(&db->lock);
    while (db->came < came)
        pthread_cond_wait(&db->changed, &db->lock);
    pthread_mutex_unlock(&db->lock);
}

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_non_null(ctx);
    return ctx;
}

static void *cancel_it(void *arg)
{
    CHECK(cctx_cancel(arg));
    return NULL;
}
static void *do_nothing(void *arg)
{
    return arg;
}

/* ---- interrupts ---- */

/* [guard] */
/* A query that ends with its context. */
static int query(const cctx_t *ctx, db_t *db)
{
    cctx_guard_t guard;
    int err = cctx_guard_arm(&guard, ctx, db_interrupt, db);
    if (err)
        return err;
    int result = db_step(db);
    cctx_guard_disarm(&guard);
    return result == EINTR && cctx_err(ctx) ? cctx_err(ctx) : result;
}
/* [guard end] */

/* B4 */
static void a_statement_that_runs_is_interrupted_by_a_cancel_and_by_a_deadline(void **state)
{
    (void)state;
    db_t db;
    db_open(&db);
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = i % 2 ? live() : cctx_with_timeout(cctx_background(), CCTX_MS(1));
        pthread_t thread = thread_start(i % 2 ? cancel_it : do_nothing, ctx);
        assert_int_equal(query(ctx, &db), i % 2 ? ECANCELED : ETIMEDOUT);
        thread_join(thread);
        cctx_unref(ctx);
    }
    db_close(&db);
}

/* The first interrupt comes before the statement and is dropped: the statement would never end. B4 */
static void an_interrupt_that_is_dropped_is_followed_by_another(void **state)
{
    (void)state;
    db_t db;
    cctx_guard_t guard;
    db_open(&db);
    for (int i = 0; i < 5; i++) {
        cctx_t *ctx = live();
        unsigned dropped = db.dropped;
        assert_int_equal(cctx_guard_arm(&guard, ctx, db_interrupt, &db), 0);
        assert_true(cctx_cancel(ctx)); /* interrupts here, before the return */
        assert_true(db.dropped > dropped);
        if (i > 2)
            db_wait_for(&db, db_came(&db) + 3); /* as long as it takes: they go on */
        assert_int_equal(db_step(&db), EINTR);
        cctx_guard_disarm(&guard);
        cctx_unref(ctx);
    }
    db_close(&db);
}

typedef struct seen {
    pthread_t thread;
    unsigned calls;
    int err;
    const cctx_t *ctx;
    gate_t second;
    char name[16];
} seen_t;

static void see(void *handle)
{
    seen_t *seen = handle;
    if (seen->calls++ == 0) {
        seen->thread = pthread_self();
        seen->err = cctx_err(seen->ctx);
    } else if (seen->calls == 2) {
        pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
        gate_open(&seen->second);
    }
}

/* B4 */
static void the_first_comes_where_the_cancel_does_and_the_others_on_the_runner(void **state)
{
    (void)state;
    for (int done = 0; done < 2; done++) {
        cctx_t *parent = live(), *ctx = cctx_with_cancel(parent);
        cctx_guard_t guard;
        seen_t seen = {.ctx = ctx};
        if (done)
            assert_true(cctx_cancel(parent));
        assert_int_equal(cctx_guard_arm(&guard, ctx, see, &seen), 0);
        if (!done)
            assert_true(cctx_cancel(parent));
        gate_wait(&seen.second);
        cctx_guard_disarm(&guard);
        assert_true(pthread_equal(seen.thread, pthread_self()));
        assert_int_equal(seen.err, ECANCELED);
        assert_string_equal(seen.name, "cctx-runner");
        assert_true(seen.calls >= 2);
        cctx_unref(ctx);
        cctx_unref(parent);
    }
}

typedef struct pace {
    cctx_time_t at[12];
    unsigned calls;
    gate_t last;
} pace_t;

static void note_time(void *handle)
{
    pace_t *pace = handle;
    if (pace->calls < 12)
        pace->at[pace->calls] = cctx_now();
    if (++pace->calls == 12)
        gate_open(&pace->last);
}

/* 1 ms, then twice as long each time, to 100 ms: never sooner. B4 */
static void the_intervals_grow(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    cctx_guard_t guard;
    pace_t pace = {.calls = 0};
    assert_int_equal(cctx_guard_arm(&guard, ctx, note_time, &pace), 0);
    assert_true(cctx_cancel(ctx));
    gate_wait(&pace.last);
    cctx_guard_disarm(&guard);
    int64_t interval = CCTX_MS(1);
    for (int i = 1; i < 12; i++) {
        assert_true(pace.at[i] - pace.at[i - 1] >= interval);
        interval = 2 * interval < CCTX_MS(100) ? 2 * interval : CCTX_MS(100);
    }
    cctx_unref(ctx);
}

static void never_called(void *handle)
{
    (void)handle;
    abort();
}

/* B4 */
static void without_an_end_of_the_context_nothing_is_interrupted(void **state)
{
    (void)state;
    cctx_t *ctx = live(), *timed = cctx_with_timeout(cctx_background(), HOUR);
    const cctx_t *contexts[] = {ctx, timed, cctx_background()};
    cctx_guard_t guard;
    for (int i = 0; i < 300; i++) {
        assert_int_equal(cctx_guard_arm(&guard, contexts[i % 3], never_called, NULL), 0);
        cctx_guard_disarm(&guard);
        cctx_guard_disarm(&guard);
    }
    assert_true(cctx_cancel(ctx));
    assert_true(cctx_cancel(timed));
    cctx_unref(ctx);
    cctx_unref(timed);
}

/* ---- disarm ---- */

static void *cancel_soon(void *arg)
{
    sched_yield();
    cctx_cancel(arg);
    return NULL;
}

/* The next statement on the handle belongs to somebody else: whatever the race, it is never hit. B4 */
static void the_next_statement_on_the_handle_is_never_hit(void **state)
{
    (void)state;
    db_t db;
    unsigned hit = 0;
    rng_t rng = rng_make(test_seed(), 1);
    db_open(&db);
    for (int i = 0; i < SCALED(3000); i++) {
        cctx_guard_t *guard = malloc(sizeof *guard);
        assert_non_null(guard);
        cctx_t *ctx = i % 3 ? live() : cctx_with_timeout(cctx_background(), (int64_t)rng_below(&rng, 60000));
        pthread_t thread = thread_start(cancel_soon, ctx);
        assert_int_equal(cctx_guard_arm(guard, ctx, db_interrupt, &db), 0);
        hit += db_run(&db, (unsigned)rng_below(&rng, 40)) == EINTR;
        cctx_guard_disarm(guard);
        memset(guard, 0xa5, sizeof *guard);
        free(guard);
        unsigned came = db_came(&db);
        assert_int_equal(db_run(&db, 3), 0);
        thread_join(thread);
        assert_int_equal(db_came(&db), came);
        cctx_unref(ctx);
    }
    print_message("%u of %d statements were interrupted\n", hit, SCALED(3000));
    db_close(&db);
}

typedef struct held {
    gate_t started, release;
    cctx_guard_t *guard;
    bool ended;
    unsigned calls, hold_at;
} held_t;

static void hold(void *handle)
{
    held_t *held = handle;
    if (++held->calls < held->hold_at)
        return;
    gate_open(&held->started);
    gate_wait(&held->release);
    held->ended = true;
}

static void *disarm_it(void *arg)
{
    held_t *held = arg;
    cctx_guard_disarm(held->guard);
    CHECK(held->ended);
    memset(held->guard, 0xa5, sizeof *held->guard);
    return NULL;
}

/* The first one, the second, the third, each in the middle. B4 */
static void disarm_waits_for_an_interrupt_that_runs(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        cctx_guard_t guard;
        held_t held = {.guard = &guard, .hold_at = 1 + (unsigned)i % 3};
        cctx_t *ctx = live();
        assert_int_equal(cctx_guard_arm(&guard, ctx, hold, &held), 0);
        pthread_t canceler = thread_start(cancel_it, ctx);
        gate_wait(&held.started);
        pthread_t thread = thread_start(disarm_it, &held);
        for (int k = 0; k < i; k++)
            sched_yield();
        gate_open(&held.release);
        thread_join(thread);
        thread_join(canceler);
        assert_true(held.calls >= held.hold_at); /* more, if the disarm was late */
        cctx_unref(ctx);
    }
}

typedef struct inside {
    cctx_guard_t *guard;
    unsigned calls, at;
    bool again;
    cctx_t *ctx;
    gate_t over;
} inside_t;

static void disarm_inside(void *handle)
{
    inside_t *inside = handle;
    if (++inside->calls < inside->at)
        return;
    cctx_guard_disarm(inside->guard);
    cctx_guard_disarm(inside->guard);
    memset(inside->guard, 0xa5, sizeof *inside->guard);
    if (inside->again) { /* the storage is free for anything */
        inside->again = false;
        inside->calls = 0;
        CHECK(cctx_guard_arm(inside->guard, inside->ctx, disarm_inside, inside) == 0);
    } else {
        free(inside->guard);
        gate_open(&inside->over);
    }
}

/* B4 */
static void interrupt_may_disarm_its_guard_and_free_it_or_arm_it_again(void **state)
{
    (void)state;
    for (int i = 0; i < 48; i++) {
        cctx_t *ctx = live();
        inside_t inside = {.ctx = ctx, .at = 1 + (unsigned)i % 3, .again = i % 4 > 1, .guard = malloc(sizeof(cctx_guard_t))};
        assert_non_null(inside.guard);
        if (i % 2)
            assert_true(cctx_cancel(ctx));
        assert_int_equal(cctx_guard_arm(inside.guard, ctx, disarm_inside, &inside), 0);
        if (!(i % 2))
            assert_true(cctx_cancel(ctx));
        gate_wait(&inside.over);
        assert_int_equal(inside.calls, inside.at);
        cctx_unref(ctx);
    }
}

static void disarm_other(void *handle)
{
    inside_t *inside = handle;
    if (++inside->calls == inside->at) {
        cctx_guard_disarm(inside->guard);
        gate_open(&inside->over);
    }
}

/* The other one belongs to the same context, and may be interrupting or not. B4, C30 */
static void interrupt_may_disarm_another_guard(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = live();
        cctx_guard_t one, other;
        inside_t inside = {.guard = &other, .at = 1 + (unsigned)i % 4};
        db_t db;
        db_open(&db);
        assert_int_equal(cctx_guard_arm(&one, ctx, disarm_other, &inside), 0);
        assert_int_equal(cctx_guard_arm(&other, ctx, db_interrupt, &db), 0);
        assert_true(cctx_cancel(ctx));
        gate_wait(&inside.over);
        db_close(&db); /* nobody uses it any more */
        cctx_guard_disarm(&other);
        cctx_guard_disarm(&one);
        cctx_unref(ctx);
    }
}

/* B4, C32 */
static void disarming_what_is_not_armed_does_nothing(void **state)
{
    (void)state;
    static cctx_guard_t zeroed;
    cctx_guard_t local = {{0}};
    cctx_guard_disarm(NULL);
    cctx_guard_disarm(&zeroed);
    cctx_guard_disarm(&local);
    for (int i = 0; i < 3; i++) {
        cctx_t *ctx = live();
        db_t db;
        db_open(&db);
        assert_int_equal(cctx_guard_arm(&local, ctx, db_interrupt, &db), 0);
        assert_true(cctx_cancel(ctx));
        assert_int_equal(db_step(&db), EINTR);
        cctx_guard_disarm(&local);
        cctx_guard_disarm(&local);
        db_close(&db);
        cctx_unref(ctx);
    }
}

/* C32 */
static void odd_arguments_are_einval(void **state)
{
    (void)state;
    cctx_t *ctx = live();
    cctx_guard_t guard = {{0}};
    errno = E2BIG;
    assert_int_equal(cctx_guard_arm(NULL, ctx, never_called, NULL), EINVAL);
    assert_int_equal(cctx_guard_arm(&guard, NULL, never_called, NULL), EINVAL);
    assert_int_equal(cctx_guard_arm(&guard, ctx, NULL, NULL), EINVAL);
    assert_int_equal(errno, E2BIG);
    cctx_guard_disarm(&guard);
    assert_true(cctx_cancel(ctx));
    cctx_unref(ctx);
}

/* ---- lifetime ---- */

static void count_freed(void *value)
{
    ++*(int *)value;
}
static const cctx_key_t counted_key = {"counted", count_freed};

/* B4, C28 */
static void a_guard_keeps_its_context_until_the_first_interrupt_or_the_disarm(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        int freed = 0;
        cctx_t *top = live();
        const cctx_t *ctx = cctx_with_value(top, &counted_key, &freed);
        cctx_guard_t guard;
        db_t db;
        db_open(&db);
        assert_int_equal(cctx_guard_arm(&guard, ctx, db_interrupt, &db), 0);
        cctx_unref(ctx);
        assert_int_equal(freed, 0);
        if (i) {
            assert_true(cctx_cancel(top));
            assert_int_equal(freed, 1);
            db_wait_for(&db, 4); /* it goes on all the same */
        }
        cctx_guard_disarm(&guard);
        assert_int_equal(freed, 1);
        cctx_unref(top);
        db_close(&db);
    }
}

typedef struct forked {
    cctx_guard_t guard;
    cctx_t *ctx;
    db_t db;
    held_t held;
} forked_t;

static void go_on_in_the_child(void *arg)
{
    forked_t *forked = arg;
    alarm(20);
    CHECK(cctx_cancel(forked->ctx));
    if (threads_after_fork())
        CHECK(db_step(&forked->db) == EINTR);
    cctx_guard_disarm(&forked->guard);
    unsigned came = forked->db.came;
    CHECK(cctx_guard_arm(&forked->guard, forked->ctx, db_interrupt, &forked->db) == 0);
    cctx_guard_disarm(&forked->guard);
    CHECK(forked->db.came > came);
}

/* C23 */
static void a_guard_armed_before_a_fork_works_in_the_child(void **state)
{
    (void)state;
    forked_t forked = {.ctx = live()};
    db_open(&forked.db);
    assert_int_equal(cctx_guard_arm(&forked.guard, forked.ctx, db_interrupt, &forked.db), 0);
    if (threads_after_fork())
        assert_int_equal(run_in_child(go_on_in_the_child, &forked), 0);
    assert_int_equal(forked.db.came, 0);
    cctx_guard_disarm(&forked.guard);
    db_close(&forked.db);
    cctx_unref(forked.ctx);
}

static void disarm_in_the_child(void *arg)
{
    forked_t *forked = arg;
    alarm(20);
    cctx_guard_disarm(&forked->guard); /* who interrupts is not here: were it waited for, it would be for ever */
    CHECK(!forked->held.ended);
}

/* C23 */
static void an_interrupt_that_runs_in_the_parent_is_not_waited_for_in_the_child(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 4; i++) {
        forked_t forked = {.ctx = live(), .held = {.hold_at = i}};
        assert_int_equal(cctx_guard_arm(&forked.guard, forked.ctx, hold, &forked.held), 0);
        pthread_t canceler = thread_start(cancel_it, forked.ctx);
        gate_wait(&forked.held.started);
        assert_int_equal(run_in_child(disarm_in_the_child, &forked), 0);
        gate_open(&forked.held.release);
        cctx_guard_disarm(&forked.guard);
        thread_join(canceler);
        cctx_unref(forked.ctx);
    }
}

static int guard_setup(void **state)
{
    (void)state;
    watchdog(100);
    return 0;
}

static int guard_teardown(void **state)
{
    (void)state;
    watchdog(0);
    return 0;
}

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, guard_setup, guard_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHED(a_statement_that_runs_is_interrupted_by_a_cancel_and_by_a_deadline),
        WATCHED(an_interrupt_that_is_dropped_is_followed_by_another),
        WATCHED(the_first_comes_where_the_cancel_does_and_the_others_on_the_runner),
        WATCHED(the_intervals_grow),
        WATCHED(without_an_end_of_the_context_nothing_is_interrupted),
        WATCHED(the_next_statement_on_the_handle_is_never_hit),
        WATCHED(disarm_waits_for_an_interrupt_that_runs),
        WATCHED(interrupt_may_disarm_its_guard_and_free_it_or_arm_it_again),
        WATCHED(interrupt_may_disarm_another_guard),
        WATCHED(disarming_what_is_not_armed_does_nothing),
        WATCHED(odd_arguments_are_einval),
        WATCHED(a_guard_keeps_its_context_until_the_first_interrupt_or_the_disarm),
        WATCHED(a_guard_armed_before_a_fork_works_in_the_child),
        WATCHED(an_interrupt_that_runs_in_the_parent_is_not_waited_for_in_the_child),
    };
    return cmocka_run_group_tests_name("guard_clause", tests, NULL, NULL);
}
