/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four threads derive, cancel, release, look, wait and register at random on one shared random tree, and
 * check after each step what must hold whatever the others do: C1-C5, C9, C13, C16, C17, C20, C21, C28.
 *
 * Contexts pass between the threads through slots, by exchange: who takes a handle out of a slot owns that
 * reference. A handle is wrapped in an entry that knows its line: the contexts above it, nearest first, which
 * it keeps alive. CCTX_STRESS multiplies the number of steps, CCTX_SEED repeats a run's choices.
 */
#include "support.h"

#include <sched.h>

enum { THREADS = 4, SLOTS = 96, LINE = 10, VALUE_KEYS = 3, CAUSES = 4096 };

typedef enum { CANCEL, TIMED, VALUE, APART, ANY } kind_t;

typedef struct entry {
    const cctx_t *ctx;
    cctx_t *handle;              /* NULL where it cannot be canceled */
    kind_t kind;
    int above;                   /* how many of line are known */
    const cctx_t *line[LINE];    /* line[0] is the parent; it ends where cancellation is cut off or merges */
    void *value[VALUE_KEYS];     /* what a lookup must find */
} entry_t;

typedef struct payload {
    int live;  /* 1 until it is destroyed, once */
    int owner;
} payload_t;

static entry_t *slot[SLOTS];
static uint64_t seed;
static int steps;
static int payloads_live;
static int callbacks_open;

/* Every cancel with a cause takes a fresh one, and notes whom it canceled before it does. */
static struct {
    cctx_cause_t cause;
    const cctx_t *target;
    int written; /* plain: ordered by the cancel alone */
} why[THREADS][CAUSES];
static _Thread_local int why_next;

static void destroy_payload(void *value)
{
    payload_t *payload = value;
    CHECK(payload->live == 1);
    payload->live = 0;
    __atomic_fetch_sub(&payloads_live, 1, __ATOMIC_RELAXED);
    free(payload);
}

static const cctx_key_t key[VALUE_KEYS] = {
    {"a", destroy_payload}, {"b", destroy_payload}, {NULL, destroy_payload}};

static entry_t *entry_make(const cctx_t *ctx, cctx_t *handle, kind_t kind)
{
    CHECK(ctx != NULL);
    entry_t *entry = calloc(1, sizeof *entry);
    CHECK(entry != NULL);
    entry->ctx = ctx;
    entry->handle = handle;
    entry->kind = kind;
    return entry;
}

static void entry_inherit(entry_t *child, const entry_t *parent, bool line)
{
    memcpy(child->value, parent->value, sizeof child->value);
    if (!line)
        return;
    child->line[0] = parent->ctx;
    child->above = 1;
    for (int i = 0; i < parent->above && child->above < LINE; i++)
        child->line[child->above++] = parent->line[i];
}

static void entry_drop(entry_t *entry, bool close_it)
{
    if (!entry)
        return;
    if (close_it && entry->handle)
        cctx_close(entry->handle);
    else
        cctx_unref(entry->ctx);
    free(entry);
}

/* What must hold for any context at any time. */
static void check(const entry_t *entry)
{
    const cctx_t *ctx = entry->ctx;
    for (int i = 0; i < VALUE_KEYS; i++) {
        payload_t *payload = cctx_value(ctx, &key[i]);
        CHECK(payload == entry->value[i]); /* C16 */
        if (payload)
            CHECK(payload->live == 1); /* C17, C20 */
    }
    cctx_time_t deadline;
    bool has_deadline = cctx_deadline(ctx, &deadline);
    int err = cctx_err(ctx);
    const cctx_cause_t *cause = cctx_cause(ctx);
    if (err == 0)
        return;
    CHECK(err == ECANCELED || err == ETIMEDOUT); /* C2 */
    CHECK(cause != NULL && cause == cctx_cause(ctx)); /* C9 */
    CHECK(cctx_err(ctx) == err && cctx_is_done(ctx)); /* C1 */
    CHECK(cctx_remaining(ctx) == 0);
    if (err == ETIMEDOUT) {
        CHECK(has_deadline);
        CHECK(cause == &cctx_deadline_exceeded || (cause >= &why[0][0].cause && cause->code >= 0));
        CHECK(cctx_now() >= deadline); /* C13 */
        return;
    }
    if (cause == &cctx_canceled)
        return;
    CHECK(cause->code >= 0 && cause->code < THREADS * CAUSES);
    int t = cause->code / CAUSES, c = cause->code % CAUSES;
    if (cause == &why[t][c].cause) {
        CHECK(why[t][c].written == cause->code); /* C5 */
        for (int i = 0; i < entry->above; i++)
            if (entry->line[i] == why[t][c].target)
                for (int k = 0; k <= i; k++)
                    CHECK(cctx_is_done(entry->line[k])); /* C4 */
    } else {
        char text[32];
        snprintf(text, sizeof text, "text %d", cause->code); /* a formatted one: C10 */
        CHECK(strcmp(cause->text, text) == 0);
    }
}

static int next_code(unsigned me)
{
    int c = why_next++ % CAUSES;
    return (int)me * CAUSES + c;
}

static bool cancel(unsigned me, rng_t *rng, const entry_t *entry)
{
    int code = next_code(me);
    int c = code % CAUSES;
    switch (rng_below(rng, 3)) {
    case 0:
        return cctx_cancel(entry->handle);
    case 1:
        return cctx_cancel_causef(entry->handle, code, "text %d", code);
    default:
        /* A cause is used once, until the supply is out: then the target of an old one would be wrong. */
        if (why_next > CAUSES)
            return cctx_cancel(entry->handle);
        why[me][c].cause = (cctx_cause_t){code, "static"};
        why[me][c].target = entry->ctx;
        why[me][c].written = code;
        return cctx_cancel_cause(entry->handle, &why[me][c].cause);
    }
}

static entry_t *derive(rng_t *rng, const entry_t *parent, const entry_t *second)
{
    entry_t *child;
    switch (rng_below(rng, 8)) {
    case 0: {
        unsigned k = (unsigned)rng_below(rng, VALUE_KEYS);
        payload_t *payload = malloc(sizeof *payload);
        CHECK(payload != NULL);
        *payload = (payload_t){1, 0};
        __atomic_fetch_add(&payloads_live, 1, __ATOMIC_RELAXED);
        child = entry_make(cctx_with_value(parent->ctx, &key[k], payload), NULL, VALUE);
        entry_inherit(child, parent, true);
        child->value[k] = payload;
        return child;
    }
    case 1: {
        cctx_t *ctx = cctx_with_timeout(parent->ctx, (int64_t)rng_below(rng, CCTX_MS(3)) - CCTX_US(50));
        child = entry_make(ctx, ctx, TIMED);
        entry_inherit(child, parent, true);
        return child;
    }
    case 2: {
        cctx_t *ctx = cctx_with_timeout(parent->ctx, CCTX_S(3600) + (int64_t)rng_below(rng, 100));
        child = entry_make(ctx, ctx, TIMED);
        entry_inherit(child, parent, true);
        return child;
    }
    case 3: {
        if (!second)
            second = parent;
        const cctx_t *parents[] = {parent->ctx, second->ctx, parent->ctx};
        bool was_done = cctx_is_done(parent->ctx) || cctx_is_done(second->ctx);
        cctx_t *ctx = cctx_with_any(parents, 2 + (size_t)rng_below(rng, 2));
        child = entry_make(ctx, ctx, ANY);
        entry_inherit(child, parent, false);
        CHECK(!was_done || cctx_is_done(ctx)); /* C3, B1 */
        return child;
    }
    case 4:
        child = entry_make(cctx_without_cancel(parent->ctx), NULL, APART);
        entry_inherit(child, parent, false);
        CHECK(cctx_err(child->ctx) == 0);
        return child;
    default: {
        int err = cctx_err(parent->ctx);
        const cctx_cause_t *cause = cctx_cause(parent->ctx);
        cctx_t *ctx = cctx_with_cancel(parent->ctx);
        child = entry_make(ctx, ctx, CANCEL);
        entry_inherit(child, parent, true);
        if (err)
            CHECK(cctx_err(ctx) == err && cctx_cause(ctx) == cause); /* C3 */
        return child;
    }
    }
}

static void note_run(void *arg)
{
    int *ran = arg;
    CHECK(__atomic_fetch_add(ran, 1, __ATOMIC_RELAXED) == 0); /* C28: once */
}

/* A registration that ends before the function does: it ran, or was stopped, never both, never neither. */
static void register_and_stop(const entry_t *entry, bool cancel_it, unsigned me, rng_t *rng)
{
    struct {
        cctx_callback_t callback;
        int ran;
    } *box = calloc(1, sizeof *box);
    CHECK(box != NULL);
    __atomic_fetch_add(&callbacks_open, 1, __ATOMIC_RELAXED);
    int err = cctx_after_func(entry->ctx, &box->callback, note_run, &box->ran);
    CHECK(err == 0);
    if (cancel_it && entry->handle)
        cancel(me, rng, entry);
    bool stopped = cctx_stop_wait(&box->callback);
    int ran = __atomic_load_n(&box->ran, __ATOMIC_RELAXED);
    CHECK(ran == (stopped ? 0 : 1));
    __atomic_fetch_sub(&callbacks_open, 1, __ATOMIC_RELAXED);
    memset(box, 0xff, sizeof *box);
    free(box);
}

/* Derives a small subtree, cancels its top or something above it, and sees all of it done: C3. */
static void grow_and_fell(unsigned me, rng_t *rng, const entry_t *entry)
{
    entry_t *grown[12];
    for (int i = 0; i < 12; i++) {
        grown[i] = derive(rng, i == 0 ? entry : grown[rng_below(rng, (uint64_t)i)], entry);
        check(grown[i]);
    }
    if (entry->handle) {
        cancel(me, rng, entry);
        CHECK(cctx_is_done(entry->ctx));
        for (int i = 0; i < 12; i++)
            for (int k = 0; k < grown[i]->above; k++)
                if (grown[i]->line[k] == entry->ctx)
                    CHECK(cctx_is_done(grown[i]->ctx));
    }
    bool forward = rng_below(rng, 2);
    for (int i = 0; i < 12; i++) {
        check(grown[forward ? i : 11 - i]);
        entry_drop(grown[forward ? i : 11 - i], rng_below(rng, 4) == 0);
    }
}

static void play(unsigned me, void *arg)
{
    (void)arg;
    rng_t rng = rng_make(seed, me);
    for (int step = 0; step < steps; step++) {
        entry_t **place = &slot[rng_below(&rng, SLOTS)];
        entry_t *mine = __atomic_exchange_n(place, NULL, __ATOMIC_ACQ_REL);
        if (!mine) {
            cctx_t *root = cctx_with_cancel(cctx_background());
            mine = entry_make(root, root, CANCEL);
        }
        check(mine);
        entry_t *other = NULL;
        switch (rng_below(&rng, 12)) {
        case 0:
        case 1:
        case 2:
            other = derive(&rng, mine, NULL);
            break;
        case 3: {
            entry_t *second = __atomic_exchange_n(&slot[rng_below(&rng, SLOTS)], NULL, __ATOMIC_ACQ_REL);
            other = derive(&rng, mine, second);
            entry_drop(second, false);
            break;
        }
        case 4: /* a second handle on the same context: operations on it from several threads at once */
            other = entry_make(cctx_ref(mine->ctx), mine->handle, mine->kind);
            memcpy(other->value, mine->value, sizeof other->value);
            memcpy(other->line, mine->line, sizeof other->line);
            other->above = mine->above;
            break;
        case 5:
            if (mine->handle) {
                int before = cctx_err(mine->ctx);
                bool won = cancel(me, &rng, mine);
                CHECK(!(won && before) && cctx_is_done(mine->ctx)); /* C1 */
                CHECK(!won || cctx_err(mine->ctx) == ECANCELED);
            }
            break;
        case 6:
            register_and_stop(mine, rng_below(&rng, 2), me, &rng);
            break;
        case 7:
            grow_and_fell(me, &rng, mine);
            break;
        case 8:
            if (cctx_wait_for(mine->ctx, (int64_t)rng_below(&rng, CCTX_US(100))))
                CHECK(cctx_is_done(mine->ctx));
            break;
        case 9: {
            char text[64];
            size_t length = cctx_print(mine->ctx, text, sizeof text);
            CHECK(length >= strlen(text) && memcmp(text, "cctx.Background", 15) == 0);
            break;
        }
        case 10:
            entry_drop(mine, true);
            mine = NULL;
            break;
        default:
            entry_drop(mine, false);
            mine = NULL;
            break;
        }
        if (mine)
            check(mine);
        entry_drop(__atomic_exchange_n(place, mine, __ATOMIC_ACQ_REL), rng_below(&rng, 8) == 0);
        if (other)
            entry_drop(__atomic_exchange_n(&slot[rng_below(&rng, SLOTS)], other, __ATOMIC_ACQ_REL), false);
    }
}

/* C1, C2, C3, C4, C5, C9, C10, C13, C16, C17, C20, C21, C28 */
static void whatever_four_threads_do_to_a_tree_its_promises_hold(void **state)
{
    (void)state;
    seed = test_seed();
    const char *factor = getenv("CCTX_STRESS");
    steps = (TEST_SANITIZED ? 150000 : 400000) * (factor ? atoi(factor) : 1);
    threads_run(THREADS, play, NULL);
    for (int i = 0; i < SLOTS; i++)
        if (slot[i]) {
            check(slot[i]);
            entry_drop(slot[i], false);
        }
    assert_int_equal(callbacks_open, 0);
    /* A deadline that was passing through a context may have had the last hold of it: it lets go itself. */
    int64_t end = now_ns() + CCTX_S(60);
    while (__atomic_load_n(&payloads_live, __ATOMIC_ACQUIRE) != 0 && now_ns() < end)
        sched_yield();
    assert_int_equal(payloads_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_four_threads_do_to_a_tree_its_promises_hold),
    };
    watchdog(280);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
