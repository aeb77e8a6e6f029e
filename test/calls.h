/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * calls: every public function, and every state of a context that it can be called on, as two tables. A test
 * of faults makes the fault happen in each call on each state, and then asks whether all is as it was, or as
 * it should be.
 *
 *   world_make(w, state)     a tree around w->on, which is in that state
 *   call->prepare(w)         what the call needs; may be NULL
 *   call->run(w)             the call, and no other: 0, or the error it reported; then it can be repeated
 *   call->after(w)           it succeeded: what holds now. Releases what it made
 *   world_same(w)            nothing can be seen to have changed since world_make
 *   world_end(w)             ends and frees everything, and checks that everything ended
 *   calls_are_complete()     each function of the header has a row
 */
#ifndef CCTX_TEST_CALLS_H
#define CCTX_TEST_CALLS_H

#include "support.h"

#include <cctx/executor.h>
#include <cctx/group.h>
#include <cctx/guard.h>
#include <cctx/signal.h>
#include <cctx/wait.h>
#include <fcntl.h>

enum { MOST = 1000, VALUES = 12, HOOKS = 60, LEGS = 8 };
#define HOUR CCTX_S(3600)

struct state;

typedef struct look { /* what can be seen of a context */
    int err;
    const cctx_cause_t *cause;
    cctx_time_t deadline;
    void *value[2];
    char text[160];
} look_t;

typedef struct world {
    const struct state *state;
    cctx_t *top;       /* canceled, it ends all that can end */
    const cctx_t *on;  /* what the call is made on; NULL once the call took the reference */
    cctx_t *kid[MOST]; /* below on */
    int kids;
    cctx_t *spare;               /* what prepare made */
    cctx_group_t *group;         /* the same, or the call */
    const cctx_t *made;          /* what the call made */
    cctx_callback_t callback[2]; /* the first is on w->on from the start; the other is the call's */
    cctx_callback_t hook[HOOKS];
    cctx_guard_t guard; /* the call's */
    int interrupts;
    int ran[2], hooks_ran, hooks;
    int destroyed;    /* values */
    bool stopped;     /* the first callback was */
    bool no_callback; /* set before world_make: no callback, hence no runner thread */
    look_t on_look, top_look, first_look, last_look;
} world_t;

typedef struct state {
    const char *name;
    void (*make)(world_t *w);
    int err;    /* of w->on */
    bool never; /* it can never be done */
    bool fixed; /* w->on is no context of its own: a cancel of it does nothing */
    int kids;
    bool alike; /* it runs no code that another state does not: not for what takes long */
} state_t;

typedef struct call {
    const char *function;
    const char *how;
    void (*prepare)(world_t *w);
    int (*run)(world_t *w);
    void (*after)(world_t *w);
    unsigned char needs_memory; /* may report ENOMEM; the others cannot fail */
    unsigned char needs_thread; /* may report EAGAIN, if its thread is not there */
} call_t;

/* What a call needs only on a kernel without futex_waitv, where a callback or a merge stands in for it. */
enum { WITHOUT_WAITV = 2 };

static inline bool call_needs(unsigned char need)
{
#ifdef SYS_futex_waitv
    static int waitv; /* no words at all are invalid where there is the call */
    int saved = errno;
    if (waitv == 0)
        waitv = syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno == EINVAL ? 1 : -1;
    errno = saved;
    return need == WITHOUT_WAITV ? waitv < 0 : need;
#else
    return need != 0;
#endif
}

static const cctx_cause_t calls_cause = {5, "cause"};
/* The value of the call's key is the world. */
static void calls_destroy(void *value)
{
    __atomic_fetch_add(&((world_t *)value)->destroyed, 1, __ATOMIC_RELAXED);
}

static const cctx_key_t calls_key[VALUES + 1] = {{"a", NULL},
                                                 {"b", NULL},
                                                 {"c", NULL},
                                                 {"d", NULL},
                                                 {"e", NULL},
                                                 {"f", NULL},
                                                 {"g", NULL},
                                                 {"h", NULL},
                                                 {"i", NULL},
                                                 {"j", NULL},
                                                 {"k", NULL},
                                                 {"l", NULL},
                                                 {"call's", calls_destroy}};
static int calls_value[VALUES];

static void calls_count(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_RELEASE);
}

static int calls_counted(int *count)
{
    return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

/* ---- the states ---- */

static void make_live(world_t *w)
{
    w->top = cctx_with_cancel(cctx_background());
    w->on = cctx_with_cancel(w->top);
}

static void make_canceled(world_t *w)
{
    make_live(w);
    cctx_cancel((cctx_t *)(uintptr_t)w->on);
}

static void make_caused(world_t *w)
{
    make_live(w);
    cctx_cancel_cause((cctx_t *)(uintptr_t)w->on, &calls_cause);
}

static void make_texted(world_t *w)
{
    make_live(w);
    cctx_cancel_causef((cctx_t *)(uintptr_t)w->on, 7, "text %d", 7);
}

static void make_inherited(world_t *w)
{
    make_live(w);
    cctx_cancel_causef(w->top, 7, "text %d", 7);
}

static void make_timed(world_t *w)
{
    w->top = cctx_with_cancel(cctx_background());
    w->on = cctx_with_timeout_cause(w->top, HOUR, &calls_cause);
}

static void make_late(world_t *w)
{
    w->top = cctx_with_cancel(cctx_background());
    w->on = cctx_with_timeout_cause(w->top, -1, &calls_cause);
}

static void make_fired(world_t *w)
{
    w->top = cctx_with_cancel(cctx_background());
    w->on = cctx_with_timeout(w->top, CCTX_US(30));
    cctx_wait(w->on);
}

static void make_values(world_t *w, int n)
{
    for (int i = 0; i < n; i++) {
        const cctx_t *above = w->on;
        w->on = cctx_with_value(above, &calls_key[i], &calls_value[i]);
        cctx_unref(above);
    }
}

static void make_value(world_t *w)
{
    make_live(w);
    make_values(w, 1);
}

static void make_many_values(world_t *w)
{
    make_timed(w);
    make_values(w, VALUES);
}

static void make_done_value(world_t *w)
{
    make_caused(w);
    make_values(w, 9);
}

static void make_orphan(world_t *w)
{
    cctx_t *above = cctx_with_cancel(cctx_background());
    w->on = cctx_with_cancel(above);
    w->top = (cctx_t *)(uintptr_t)cctx_ref(w->on);
    cctx_unref(above);
}

static void make_hooked(world_t *w)
{
    make_live(w);
    while (w->hooks < HOOKS) {
        int err = cctx_after_func(w->on, &w->hook[w->hooks++], calls_count, &w->hooks_ran);
        CHECK(err == 0);
    }
}

/* Two threads that take turns make a crowd, whose children stand in a wider roster. */
static void *make_kid(void *arg)
{
    world_t *w = arg;
    w->kid[w->kids] = cctx_with_cancel(w->on);
    return NULL;
}

static void make_wide(world_t *w)
{
    make_live(w);
    for (; w->kids < 160; w->kids++)
        if (w->kids % 2)
            make_kid(w);
        else
            thread_join(thread_start(make_kid, w));
}

static void make_background(world_t *w)
{
    w->on = cctx_background();
}

static void make_todo(world_t *w)
{
    w->on = cctx_todo();
}

static void make_without(world_t *w)
{
    make_done_value(w);
    const cctx_t *above = w->on;
    w->on = cctx_without_cancel(above);
    cctx_unref(above);
}

static void make_any(world_t *w)
{
    w->top = cctx_with_cancel(cctx_background());
    const cctx_t *parents[20] = {cctx_todo(), w->top, cctx_background(), w->top};
    for (int i = 4; i < 20; i++)
        parents[i] = i % 2 ? cctx_with_cancel(cctx_background()) : cctx_with_cancel(w->top);
    w->on = cctx_with_any(parents, 20);
    for (int i = 4; i < 20; i++)
        cctx_unref(parents[i]);
}

static void make_done_any(world_t *w)
{
    make_any(w);
    cctx_cancel_cause((cctx_t *)(uintptr_t)w->on, &calls_cause);
}

static const state_t state_table[] = {
    {"live", make_live, 0, false, false, 0, false},
    {"with 1 child", make_live, 0, false, false, 1, false},
    {"with 6 children", make_live, 0, false, false, 6, true},
    {"with 7 children", make_live, 0, false, false, 7, false},
    {"with 58 children", make_live, 0, false, false, 58, true},
    {"with 1000 children", make_live, 0, false, false, MOST, true},
    {"with children of two threads", make_wide, 0, false, false, 0, true},
    {"with 60 callbacks", make_hooked, 0, false, false, 2, true},
    {"below a parent without a handle", make_orphan, 0, false, false, 3, false},
    {"canceled", make_canceled, ECANCELED, false, false, 2, true},
    {"canceled with a cause", make_caused, ECANCELED, false, false, 0, false},
    {"canceled with a text", make_texted, ECANCELED, false, false, 1, true},
    {"canceled by its parent", make_inherited, ECANCELED, false, false, 3, false},
    {"with a deadline", make_timed, 0, false, false, 4, false},
    {"born late", make_late, ETIMEDOUT, false, false, 1, false},
    {"whose deadline fired", make_fired, ETIMEDOUT, false, false, 0, false},
    {"a value", make_value, 0, false, true, 2, false},
    {"twelve values below a deadline", make_many_values, 0, false, true, 3, false},
    {"nine values of a done one", make_done_value, ECANCELED, false, true, 1, false},
    {"background", make_background, 0, true, true, 2, false},
    {"todo", make_todo, 0, true, true, 0, true},
    {"without_cancel", make_without, 0, true, true, 2, false},
    {"a merge of twenty", make_any, 0, false, false, 3, false},
    {"a merge that is done", make_done_any, ECANCELED, false, false, 0, false},
};
enum { STATES = sizeof state_table / sizeof *state_table };

/* ---- what can be seen ---- */

/* The text of cctx_print without the time that is left, which changes. */
static void look_text(const cctx_t *ctx, char *text, size_t size)
{
    char all[1024];
    size_t length = cctx_print(ctx, all, sizeof all), n = 0;
    CHECK(length < sizeof all);
    for (size_t i = 0; i < length && n + 1 < size; i++)
        if (!strchr("0123456789.+-", all[i]))
            text[n++] = all[i];
    text[n] = '\0';
}

static look_t look_at(const cctx_t *ctx)
{
    look_t look;
    memset(&look, 0, sizeof look);
    if (!ctx)
        return look;
    look.err = cctx_err(ctx);
    CHECK(cctx_is_done(ctx) == (look.err != 0));
    look.cause = cctx_cause(ctx);
    look.deadline = CCTX_NEVER;
    cctx_deadline(ctx, &look.deadline);
    look.value[0] = cctx_value(ctx, &calls_key[0]);
    look.value[1] = cctx_value(ctx, &calls_key[VALUES]);
    look_text(ctx, look.text, sizeof look.text);
    return look;
}

static bool look_same(const look_t *look, const cctx_t *ctx)
{
    look_t now = look_at(ctx);
    return memcmp(look, &now, sizeof now) == 0;
}

static void world_make(world_t *w, const state_t *state)
{
    bool no_callback = w->no_callback;
    memset(w, 0, sizeof *w);
    w->no_callback = no_callback;
    w->state = state;
    state->make(w);
    CHECK(w->on != NULL && cctx_err(w->on) == state->err);
    for (; w->kids < state->kids; w->kids++) {
        w->kid[w->kids] = cctx_with_cancel(w->on);
        CHECK(w->kid[w->kids] != NULL);
    }
    if (!no_callback) {
        int err = cctx_after_func(w->on, &w->callback[0], calls_count, &w->ran[0]);
        CHECK(err == 0 && calls_counted(&w->ran[0]) == (state->err != 0));
    }
    w->on_look = look_at(w->on);
    w->top_look = look_at(w->top);
    w->first_look = look_at(w->kids ? w->kid[0] : NULL);
    w->last_look = look_at(w->kids ? w->kid[w->kids - 1] : NULL);
}

static void world_same(world_t *w)
{
    CHECK(look_same(&w->on_look, w->on));
    CHECK(look_same(&w->top_look, w->top));
    CHECK(look_same(&w->first_look, w->kids ? w->kid[0] : NULL));
    CHECK(look_same(&w->last_look, w->kids ? w->kid[w->kids - 1] : NULL));
    for (int i = 0; i < w->kids; i++)
        CHECK(cctx_err(w->kid[i]) == w->state->err);
    CHECK(calls_counted(&w->ran[0]) == (w->state->err && !w->no_callback) && calls_counted(&w->ran[1]) == 0);
    CHECK(calls_counted(&w->hooks_ran) == 0 && w->destroyed == 0);
    CHECK(w->made == NULL);
}

/* All but what can never end has ended, each callback that was not stopped has run once, and all of it
 * goes. */
static void world_end(world_t *w)
{
    const state_t *state = w->state;
    cctx_cancel(w->top);
    if (w->on && !state->never)
        CHECK(cctx_is_done(w->on) || state->make == make_any);
    if (w->on && !state->never && !cctx_is_done(w->on))
        cctx_cancel((cctx_t *)(uintptr_t)w->on);
    for (int i = 0; i < w->kids; i++) {
        CHECK(state->never || cctx_is_done(w->kid[i]) || !w->on);
        cctx_unref(w->kid[i]);
    }
    if (w->no_callback || w->stopped) {
        CHECK(calls_counted(&w->ran[0]) == 0);
    } else if (state->never) {
        CHECK(cctx_stop_wait(&w->callback[0]));
    } else {
        CHECK(!cctx_stop_wait(&w->callback[0]));
        CHECK(calls_counted(&w->ran[0]) == 1);
    }
    for (int i = 0; i < w->hooks; i++)
        cctx_stop_wait(&w->hook[i]);
    CHECK(calls_counted(&w->hooks_ran) == w->hooks);
    cctx_unref(w->spare);
    cctx_unref(w->made);
    cctx_unref(w->on);
    cctx_unref(w->top);
}

/* The state of a name, that is of the function that makes it. */
static inline const state_t *state_of(void (*make)(world_t *w))
{
    for (int i = 0; i < STATES; i++)
        if (state_table[i].make == make)
            return &state_table[i];
    abort();
}

/* ---- the calls ---- */

/* errno before each call: what is not a failed derivation leaves it alone. */
enum { CALLS_ERRNO = E2BIG };

static int run_made(world_t *w, const cctx_t *made)
{
    w->made = made;
    CHECK(made == NULL || errno == CALLS_ERRNO);
    return made ? 0 : errno;
}

static int run_kept(int result)
{
    CHECK(errno == CALLS_ERRNO);
    return result;
}

static cctx_t *on_handle(world_t *w)
{
    return (cctx_t *)(uintptr_t)w->on;
}

/* The new context has the state and the values of what it was derived from; a cancel of that ends it, too. */
static void after_made(world_t *w, int err_if_live)
{
    const cctx_t *made = w->made;
    look_t look = look_at(made);
    CHECK(look.err == (w->state->err ? w->state->err : err_if_live));
    if (w->state->err)
        CHECK(look.cause == w->on_look.cause);
    CHECK(look.value[0] == w->on_look.value[0]);
    cctx_unref(made);
    w->made = NULL;
    world_same(w);
}

static int run_with_cancel(world_t *w)
{
    return run_made(w, cctx_with_cancel(w->on));
}

static void after_with_cancel(world_t *w)
{
    CHECK(cctx_cancel((cctx_t *)(uintptr_t)w->made) == (w->state->err == 0));
    after_made(w, ECANCELED);
}

/* It hangs in the tree as it should: the cancel of what it was derived from ends it. */
static void after_with_cancel_of_all(world_t *w)
{
    if (w->state->never) {
        after_made(w, 0);
        return;
    }
    cctx_cancel_cause(w->top, &calls_cause);
    cctx_cancel_cause(on_handle(w), &calls_cause);
    if (w->state->fixed && w->state->err == 0)
        CHECK(cctx_is_done(w->made));
    CHECK(cctx_err(w->made) == (w->state->err ? w->state->err : ECANCELED));
    CHECK(cctx_cause(w->made) == cctx_cause(w->on));
}

static int run_with_deadline(world_t *w)
{
    return run_made(w, cctx_with_deadline(w->on, cctx_now() + HOUR / 2));
}
static int run_with_late_deadline(world_t *w)
{
    return run_made(w, cctx_with_deadline(w->on, cctx_now() - 1));
}
static int run_with_timeout(world_t *w)
{
    return run_made(w, cctx_with_timeout(w->on, HOUR / 3));
}
static int run_with_longer_timeout(world_t *w)
{
    return run_made(w, cctx_with_timeout(w->on, CCTX_NEVER));
}

static int run_with_deadline_cause(world_t *w)
{
    return run_made(w, cctx_with_deadline_cause(w->on, cctx_now() + HOUR / 4, &calls_cause));
}

static int run_with_timeout_cause(world_t *w)
{
    return run_made(w, cctx_with_timeout_cause(w->on, CCTX_US(100), &calls_cause));
}

static void after_timed(world_t *w)
{
    cctx_time_t deadline = 0;
    CHECK(cctx_deadline(w->made, &deadline) && (deadline > cctx_now() || w->state->err));
    CHECK(deadline <= w->on_look.deadline);
    after_made(w, 0);
}

static void after_untimed(world_t *w)
{
    after_made(w, 0);
}
static void after_late(world_t *w)
{
    after_made(w, ETIMEDOUT);
}

static void after_fires(world_t *w)
{
    int err = w->state->err ? w->state->err : ETIMEDOUT;
    CHECK(cctx_wait(w->made) == err);
    CHECK(cctx_cause(w->made) == (w->state->err ? w->on_look.cause : &calls_cause));
    after_made(w, ETIMEDOUT);
}

static int run_with_value(world_t *w)
{
    return run_made(w, cctx_with_value(w->on, &calls_key[VALUES], w));
}

static void after_value(world_t *w)
{
    CHECK(cctx_value(w->made, &calls_key[VALUES]) == w);
    CHECK(w->destroyed == 0);
    CHECK(cctx_err(w->made) == w->state->err && cctx_value(w->made, &calls_key[0]) == w->on_look.value[0]);
    cctx_unref(w->made);
    w->made = NULL;
    CHECK(w->destroyed == 1);
    w->destroyed = 0;
    world_same(w);
}

static int run_without_cancel(world_t *w)
{
    return run_made(w, cctx_without_cancel(w->on));
}

static void after_without(world_t *w)
{
    CHECK(cctx_err(w->made) == 0 && cctx_done(w->made) == NULL && cctx_cause(w->made) == NULL);
    CHECK(cctx_value(w->made, &calls_key[0]) == w->on_look.value[0]);
    cctx_unref(w->made);
    w->made = NULL;
    world_same(w);
}

static void prepare_any(world_t *w)
{
    w->spare = cctx_with_cancel(cctx_background());
}

static int run_with_any_of_one(world_t *w)
{
    return run_made(w, cctx_with_any(&w->on, 1));
}

static int run_with_any_of_many(world_t *w)
{
    const cctx_t *parents[LEGS];
    for (int i = 0; i < LEGS; i++)
        parents[i] = i % 5 == 4 ? cctx_todo() : i % 2 ? w->spare : w->kids ? w->kid[i % w->kids] : w->on;
    parents[0] = w->on;
    return run_made(w, cctx_with_any(parents, LEGS));
}

static void after_any(world_t *w)
{
    cctx_cancel(w->spare);
    after_made(w, cctx_err(w->made));
}

static int run_ref(world_t *w)
{
    CHECK(cctx_ref(w->on) == w->on);
    return run_kept(0);
}

static void after_ref(world_t *w)
{
    cctx_unref(w->on);
    world_same(w);
}

/* The last handle of what has children, a callback, or nothing. */
static int run_unref(world_t *w)
{
    const cctx_t *on = w->on;
    w->on = NULL;
    cctx_unref(on);
    return run_kept(0);
}

static void prepare_child(world_t *w)
{
    w->spare = cctx_with_cancel(w->on);
}
static void prepare_timed(world_t *w)
{
    w->spare = cctx_with_timeout(w->on, CCTX_S(40));
}
static void prepare_child_value(world_t *w)
{
    w->spare = (cctx_t *)(uintptr_t)cctx_with_value(w->on, &calls_key[VALUES], w);
}

static int run_unref_child(world_t *w)
{
    cctx_t *spare = w->spare;
    w->spare = NULL;
    cctx_unref(spare);
    return run_kept(0);
}

static int run_close_child(world_t *w)
{
    cctx_t *spare = w->spare;
    w->spare = NULL;
    cctx_close(spare);
    return run_kept(0);
}

static void after_nothing(world_t *w)
{
    world_same(w);
}

static void after_destroyed(world_t *w)
{
    CHECK(w->destroyed == 1);
    w->destroyed = 0;
    world_same(w);
}

static void after_unref(world_t *w)
{
    for (int i = 0; i < w->kids; i++)
        CHECK(cctx_err(w->kid[i]) == w->state->err);
    CHECK(calls_counted(&w->ran[0]) == (w->state->err && !w->no_callback));
    if (w->state->err == 0 && !w->state->never && !w->no_callback)
        w->stopped = cctx_stop_wait(&w->callback[0]);
    for (int i = 0; i < w->hooks; i++)
        if (cctx_stop_wait(&w->hook[i]))
            w->hooks_ran++;
}

/* Whoever has a reference to on still sees the end of it. */
static int run_close(world_t *w)
{
    cctx_t *on = on_handle(w);
    w->on = NULL;
    cctx_close(on);
    return run_kept(0);
}

static void after_close(world_t *w)
{
    bool ends = !w->state->fixed;
    for (int i = 0; i < w->kids; i++)
        CHECK((cctx_err(w->kid[i]) != 0) == (ends || w->state->err));
    if (!ends)
        after_unref(w);
}

static int run_cancel(world_t *w)
{
    CHECK(cctx_cancel(on_handle(w)) == (w->state->err == 0 && !w->state->fixed));
    return run_kept(0);
}

static int run_cancel_cause(world_t *w)
{
    CHECK(cctx_cancel_cause(on_handle(w), &calls_cause) == (w->state->err == 0 && !w->state->fixed));
    return run_kept(0);
}

static int run_cancel_causef(world_t *w)
{
    CHECK(cctx_cancel_causef(on_handle(w), 77, "%s %d", "number", 9) ==
          (w->state->err == 0 && !w->state->fixed));
    return run_kept(0);
}

static void after_ended(world_t *w, const cctx_cause_t *cause)
{
    if (w->state->err || w->state->fixed) {
        world_same(w);
        return;
    }
    CHECK(cctx_err(w->on) == ECANCELED && cctx_cause(w->on) == cause);
    for (int i = 0; i < w->kids; i++)
        CHECK(cctx_err(w->kid[i]) == ECANCELED && cctx_cause(w->kid[i]) == cause);
    CHECK(calls_counted(&w->ran[0]) == !w->no_callback && calls_counted(&w->hooks_ran) == w->hooks);
}

static void after_cancel(world_t *w)
{
    after_ended(w, &cctx_canceled);
}
static void after_cancel_cause(world_t *w)
{
    after_ended(w, &calls_cause);
}

static void after_cancel_causef(world_t *w)
{
    const cctx_cause_t *cause = cctx_cause(w->on);
    after_ended(w, cause);
    if (!w->state->err && !w->state->fixed)
        CHECK((cause->code == 77 && strcmp(cause->text, "number 9") == 0) ||
              (cause->code == ENOMEM && strcmp(cause->text, "out of memory") == 0));
}

static int run_is_done(world_t *w)
{
    CHECK(cctx_is_done(w->on) == (w->state->err != 0));
    return run_kept(0);
}

static int run_err(world_t *w)
{
    CHECK(cctx_err(w->on) == w->state->err);
    return run_kept(0);
}

static int run_cause(world_t *w)
{
    CHECK(cctx_cause(w->on) == w->on_look.cause);
    return run_kept(0);
}

static int run_deadline(world_t *w)
{
    cctx_time_t deadline = CCTX_NEVER;
    CHECK(cctx_deadline(w->on, &deadline) == (w->on_look.deadline != CCTX_NEVER));
    CHECK(deadline == w->on_look.deadline);
    return run_kept(0);
}

static int run_remaining(world_t *w)
{
    int64_t left = cctx_remaining(w->on);
    CHECK(w->state->err ? left == 0 : w->on_look.deadline == CCTX_NEVER ? left == CCTX_NEVER : left > 0);
    return run_kept(0);
}

static int run_value(world_t *w)
{
    CHECK(cctx_value(w->on, &calls_key[0]) == w->on_look.value[0]);
    CHECK(cctx_value(w->on, &calls_key[VALUES]) == NULL);
    return run_kept(0);
}

static int run_strerror(world_t *w)
{
    CHECK(cctx_strerror(w->state->err) != NULL);
    return run_kept(0);
}

static int run_print(world_t *w)
{
    char text[300];
    CHECK(cctx_print(w->on, text, sizeof text) == strlen(text));
    return run_kept(0);
}

static int run_done(world_t *w)
{
    CHECK((cctx_done(w->on) == NULL) == w->state->never);
    return run_kept(0);
}

/* On what is live, cctx_wait is called on a child with a deadline; that is what ends it. */
static void prepare_wait(world_t *w)
{
    w->spare = cctx_with_timeout_cause(w->on, CCTX_US(150), &calls_cause);
}

static int run_wait(world_t *w)
{
    CHECK(cctx_wait(w->spare) == (w->state->err ? w->state->err : ETIMEDOUT));
    CHECK(w->state->err || cctx_now() >= w->on_look.deadline || cctx_remaining(w->spare) == 0);
    return run_kept(0);
}

static int run_wait_on(world_t *w)
{
    if (w->state->err || w->state->never)
        CHECK(cctx_wait(w->on) == (w->state->never ? EDEADLK : w->state->err));
    return run_kept(0);
}

static int run_wait_until(world_t *w)
{
    cctx_time_t until = cctx_now() + CCTX_US(60);
    CHECK(cctx_wait_until(w->on, until) == (w->state->err != 0));
    CHECK(w->state->err || cctx_now() >= until);
    return run_kept(0);
}

static int run_wait_for(world_t *w)
{
    cctx_time_t until = cctx_now() + CCTX_US(60);
    CHECK(cctx_wait_for(w->on, CCTX_US(60)) == (w->state->err != 0));
    CHECK(w->state->err || cctx_now() >= until);
    return run_kept(0);
}

static int run_sleep(world_t *w)
{
    cctx_time_t until = cctx_now() + CCTX_US(60);
    CHECK(cctx_sleep(w->on, CCTX_US(60)) == w->state->err);
    CHECK(w->state->err || cctx_now() >= until);
    return run_kept(0);
}

static int run_futex_wait(world_t *w)
{
    uint32_t word = 5;
    CHECK(cctx_futex_wait(w->on, &word, 4) == 0);
    if (w->state->err)
        CHECK(cctx_futex_wait(w->on, &word, 5) == w->state->err);
    return run_kept(0);
}

static int run_futex_wait_for_deadline(world_t *w)
{
    uint32_t word = 5;
    int err = cctx_futex_wait(w->spare, &word, 5);
    if ((err == ENOMEM || err == EAGAIN) && call_needs(WITHOUT_WAITV))
        return run_kept(err);
    CHECK(err == (w->state->err ? w->state->err : ETIMEDOUT));
    return run_kept(0);
}

static int run_wait_any(world_t *w)
{
    const cctx_t *ctxs[] = {cctx_background(), w->on};
    size_t which = 7;
    CHECK(cctx_wait_any(ctxs, 2, cctx_now() + CCTX_US(60), &which) == (w->state->err ? 0 : ETIMEDOUT));
    CHECK(which == (w->state->err ? 1 : 7));
    return run_kept(0);
}

static int run_wait_any_for_deadline(world_t *w)
{
    const cctx_t *ctxs[] = {w->spare, w->on};
    int err = cctx_wait_any(ctxs, 2, CCTX_NEVER, NULL);
    CHECK(err == 0 || (err == ENOMEM && call_needs(WITHOUT_WAITV)));
    return run_kept(err);
}

/* Of what can never be done there is nothing to merge. */
static int run_wait_any_of_many(world_t *w)
{
    const cctx_t *ctxs[130];
    for (size_t i = 0; i < 130; i++)
        ctxs[i] = w->on;
    int err = cctx_wait_any(ctxs, 130, cctx_now() + CCTX_US(60), NULL);
    CHECK(err == ENOMEM || err == (w->state->err ? 0 : ETIMEDOUT));
    return run_kept(err == ETIMEDOUT ? 0 : err);
}

static int run_fd(world_t *w)
{
    int fd = cctx_fd(w->on), err = fd < 0 ? errno : 0;
    errno = err && errno == err ? CALLS_ERRNO : errno;
    if (w->state->never) {
        CHECK(err == EDEADLK);
        return run_kept(0);
    }
    CHECK(err == 0 || err == ENOMEM);
    return run_kept(err);
}

static void after_fd(world_t *w)
{
    struct pollfd one = {.fd = cctx_fd(w->on), .events = POLLIN};
    int n;
    do
        n = poll(&one, 1, 0);
    while (n < 0 && errno == EINTR); /* a signal is under way */
    CHECK(n == (w->state->err != 0) || w->state->never);
    world_same(w);
}

/* More than stand on the stack, of which one is ready. */
static int run_poll(world_t *w)
{
    static _Thread_local int null = -1;
    struct pollfd fds[20];
    int ready = 0;
    if (null < 0)
        null = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC); /* no cancellation point */
    for (int i = 0; i < 20; i++)
        fds[i] = (struct pollfd){.fd = i ? -1 : null, .events = POLLIN};
    int err = cctx_poll(w->on, fds, 20, &ready);
    CHECK(err == ENOMEM || err == w->state->err);
    CHECK(ready == (err == 0));
    return run_kept(err == ENOMEM ? err : 0);
}

static int run_poll_for_deadline(world_t *w)
{
    int err = cctx_poll(w->spare, NULL, 0, NULL);
    CHECK(err == ENOMEM || err == (w->state->err ? w->state->err : ETIMEDOUT));
    return run_kept(err == ENOMEM ? err : 0);
}

static int run_after_func(world_t *w)
{
    return run_kept(cctx_after_func(w->on, &w->callback[1], calls_count, &w->ran[1]));
}

static void after_after_func(world_t *w)
{
    CHECK(calls_counted(&w->ran[1]) == (w->state->err != 0));
    CHECK(cctx_stop_wait(&w->callback[1]) == (w->state->err == 0));
    w->ran[1] = 0;
    world_same(w);
}

static void after_after_func_of_all(world_t *w)
{
    if (!w->state->never) {
        cctx_cancel(w->top);
        cctx_cancel(on_handle(w));
        CHECK(!cctx_stop_wait(&w->callback[1]) && w->ran[1] == 1);
    } else {
        CHECK(cctx_stop(&w->callback[1]) && w->ran[1] == 0);
    }
}

static int submit_inline(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    fn(arg);
    return 0;
}
static cctx_executor_t calls_executor = {submit_inline};

static int run_after_func_on(world_t *w)
{
    return run_kept(cctx_after_func_on(w->on, &w->callback[1], &calls_executor, calls_count, &w->ran[1]));
}

static int run_guard_arm(world_t *w)
{
    return run_kept(cctx_guard_arm(&w->guard, w->on, calls_count, &w->interrupts));
}

static void after_guard_arm(world_t *w)
{
    CHECK((calls_counted(&w->interrupts) > 0) == (w->state->err != 0));
    cctx_guard_disarm(&w->guard);
    int interrupts = calls_counted(&w->interrupts);
    world_same(w);
    cctx_guard_disarm(&w->guard);
    CHECK(calls_counted(&w->interrupts) == interrupts);
    w->interrupts = 0;
}

static void prepare_guard(world_t *w)
{
    w->spare = cctx_with_cancel(w->on);
    int err = cctx_guard_arm(&w->guard, w->spare, calls_count, &w->interrupts);
    CHECK(err == 0);
}

static int run_guard_disarm(world_t *w)
{
    cctx_guard_disarm(&w->guard);
    return run_kept(0);
}

static void after_guard_disarm(world_t *w)
{
    cctx_cancel(w->spare);
    CHECK((calls_counted(&w->interrupts) > 0) == (w->state->err != 0));
    cctx_unref(w->spare);
    w->spare = NULL;
    w->interrupts = 0;
    world_same(w);
}

static int run_stop(world_t *w)
{
    if (!w->stopped)
        w->stopped = cctx_stop(&w->callback[0]);
    CHECK(w->stopped == (w->state->err == 0 && !w->no_callback));
    return run_kept(0);
}

static int run_stop_wait(world_t *w)
{
    if (!w->stopped)
        w->stopped = cctx_stop_wait(&w->callback[0]);
    CHECK(w->stopped == (w->state->err == 0 && !w->no_callback));
    return run_kept(0);
}

static void after_stop(world_t *w)
{
    world_same(w);
    if (w->stopped && w->state->never) { /* as world_end wants it */
        int err = cctx_after_func(w->on, &w->callback[0], calls_count, &w->ran[0]);
        CHECK(err == 0);
        w->stopped = false;
    }
}

static int run_now(world_t *w)
{
    (void)w;
    cctx_time_t before = cctx_now();
    CHECK(cctx_now() >= before && before > 0);
    return run_kept(0);
}

static int run_roots(world_t *w)
{
    (void)w;
    CHECK(cctx_background() != cctx_todo() && cctx_background() == cctx_background());
    return run_kept(0);
}

static int run_cancel_async(world_t *w)
{
    CHECK(cctx_cancel_async(on_handle(w)) == (w->state->err == 0 && !w->state->fixed));
    CHECK(w->state->fixed || cctx_is_done(w->on));
    return run_kept(0);
}

/* The rest follows in the next cancel, the callbacks on the library's thread, unless they are stopped before. */
static void after_cancel_async(world_t *w)
{
    if (w->state->err || w->state->fixed) {
        world_same(w);
        return;
    }
    CHECK(!cctx_cancel(on_handle(w)));
    CHECK(cctx_err(w->on) == ECANCELED && cctx_cause(w->on) == &cctx_canceled);
    for (int i = 0; i < w->kids; i++)
        CHECK(cctx_err(w->kid[i]) == ECANCELED && cctx_cause(w->kid[i]) == &cctx_canceled);
    w->stopped = !w->no_callback && cctx_stop_wait(&w->callback[0]);
    for (int i = 0; i < w->hooks; i++)
        if (cctx_stop_wait(&w->hook[i]))
            calls_count(&w->hooks_ran);
}

static int run_service_start(world_t *w)
{
    (void)w;
    return run_kept(cctx_service_start());
}

static int run_with_signals(world_t *w)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return run_made(w, cctx_with_signals(w->on, &set));
}

static void after_with_signals(world_t *w)
{
    raise(SIGUSR2);
    CHECK(cctx_cause(w->made)->code == (w->state->err ? w->on_look.cause->code : SIGUSR2));
    after_made(w, ECANCELED);
}

/* A task sees the world's context through its group's. It returns 9 if that is live. */
static int group_task(const cctx_t *ctx, void *arg)
{
    world_t *w = arg;
    int err = cctx_err(ctx);
    calls_count(&w->ran[1]);
    CHECK(err == w->state->err);
    CHECK(cctx_value(ctx, &calls_key[0]) == w->on_look.value[0]);
    return err ? err : 9;
}

static int run_group_new(world_t *w)
{
    w->group = cctx_group_new(w->on, NULL, 1);
    CHECK(w->group == NULL || errno == CALLS_ERRNO);
    return w->group ? 0 : errno;
}

static void after_group(world_t *w)
{
    CHECK(cctx_err(cctx_group_context(w->group)) == w->state->err);
    cctx_group_free(w->group);
    w->group = NULL;
    world_same(w);
}

static void prepare_group(world_t *w)
{
    w->group = cctx_group_new(w->on, &calls_executor, 1);
    w->spare = (cctx_t *)(uintptr_t)cctx_ref(cctx_group_context(w->group));
}

static void prepare_task(world_t *w)
{
    prepare_group(w);
    int err = cctx_group_go(w->group, group_task, w);
    CHECK(err == 0 && calls_counted(&w->ran[1]) == 1);
}

static int run_group_go(world_t *w)
{
    return run_kept(cctx_group_go(w->group, group_task, w));
}

static void after_task(world_t *w)
{
    CHECK(calls_counted(&w->ran[1]) == 1);
    CHECK(cctx_group_wait(w->group) == (w->state->err ? w->state->err : 9));
    CHECK(cctx_err(w->spare) == (w->state->err ? w->state->err : ECANCELED));
    w->ran[1] = 0;
    cctx_group_free(w->group);
    w->group = NULL;
    world_same(w);
}

static int run_group_wait(world_t *w)
{
    CHECK(cctx_group_wait(w->group) == (w->state->err ? w->state->err : 9));
    return run_kept(0);
}

static int run_group_context(world_t *w)
{
    CHECK(cctx_group_context(w->group) == w->spare);
    return run_kept(0);
}

static int run_group_free(world_t *w)
{
    cctx_group_free(w->group);
    w->group = NULL;
    return run_kept(0);
}

static void after_group_free(world_t *w)
{
    CHECK(cctx_err(w->spare) == (w->state->err ? w->state->err : ECANCELED));
    world_same(w);
}

static const call_t call_table[] = {
    {"cctx_now", "", NULL, run_now, after_nothing, false, false},
    {"cctx_background", "", NULL, run_roots, after_nothing, false, false},
    {"cctx_todo", "", NULL, run_roots, after_nothing, false, false},
    {"cctx_with_cancel", "", NULL, run_with_cancel, after_with_cancel, true, false},
    {"cctx_with_cancel", ", and all is canceled", NULL, run_with_cancel, after_with_cancel_of_all, true,
     false},
    {"cctx_with_deadline", "", NULL, run_with_deadline, after_timed, true, true},
    {"cctx_with_deadline", ", passed", NULL, run_with_late_deadline, after_late, true, false},
    {"cctx_with_timeout", "", NULL, run_with_timeout, after_timed, true, true},
    {"cctx_with_timeout", ", never", NULL, run_with_longer_timeout, after_untimed, true, false},
    {"cctx_with_deadline_cause", "", NULL, run_with_deadline_cause, after_timed, true, true},
    {"cctx_with_timeout_cause", ", and it fires", NULL, run_with_timeout_cause, after_fires, true, true},
    {"cctx_with_value", "", NULL, run_with_value, after_value, true, false},
    {"cctx_without_cancel", "", NULL, run_without_cancel, after_without, true, false},
    {"cctx_with_any", " of one", NULL, run_with_any_of_one, after_untimed, true, false},
    {"cctx_with_any", " of eight", prepare_any, run_with_any_of_many, after_any, true, false},
    {"cctx_ref", "", NULL, run_ref, after_ref, false, false},
    {"cctx_unref", "", NULL, run_unref, after_unref, false, false},
    {"cctx_unref", " of a leaf", prepare_child, run_unref_child, after_nothing, false, false},
    {"cctx_unref", " of a timed leaf", prepare_timed, run_unref_child, after_nothing, false, false},
    {"cctx_unref", " of a value", prepare_child_value, run_unref_child, after_destroyed, false, false},
    {"cctx_close", "", NULL, run_close, after_close, false, false},
    {"cctx_close", " of a leaf", prepare_child, run_close_child, after_nothing, false, false},
    {"cctx_close", " of a timed leaf", prepare_timed, run_close_child, after_nothing, false, false},
    {"cctx_cancel", "", NULL, run_cancel, after_cancel, false, false},
    {"cctx_cancel_cause", "", NULL, run_cancel_cause, after_cancel_cause, false, false},
    {"cctx_cancel_causef", "", NULL, run_cancel_causef, after_cancel_causef, false, false},
    {"cctx_cancel_async", "", NULL, run_cancel_async, after_cancel_async, false, false},
    {"cctx_service_start", "", NULL, run_service_start, after_nothing, false, true},
    {"cctx_with_signals", "", NULL, run_with_signals, after_with_signals, true, true},
    {"cctx_is_done", "", NULL, run_is_done, after_nothing, false, false},
    {"cctx_err", "", NULL, run_err, after_nothing, false, false},
    {"cctx_cause", "", NULL, run_cause, after_nothing, false, false},
    {"cctx_deadline", "", NULL, run_deadline, after_nothing, false, false},
    {"cctx_remaining", "", NULL, run_remaining, after_nothing, false, false},
    {"cctx_value", "", NULL, run_value, after_nothing, false, false},
    {"cctx_strerror", "", NULL, run_strerror, after_nothing, false, false},
    {"cctx_print", "", NULL, run_print, after_nothing, false, false},
    {"cctx_done", "", NULL, run_done, after_nothing, false, false},
    {"cctx_wait", " for a deadline", prepare_wait, run_wait, after_nothing, false, false},
    {"cctx_wait", "", NULL, run_wait_on, after_nothing, false, false},
    {"cctx_wait_until", "", NULL, run_wait_until, after_nothing, false, false},
    {"cctx_wait_for", "", NULL, run_wait_for, after_nothing, false, false},
    {"cctx_after_func", "", NULL, run_after_func, after_after_func, true, true},
    {"cctx_after_func", ", and all is canceled", NULL, run_after_func, after_after_func_of_all, true, true},
    {"cctx_after_func_on", "", NULL, run_after_func_on, after_after_func, true, true},
    {"cctx_guard_arm", "", NULL, run_guard_arm, after_guard_arm, true, true},
    {"cctx_guard_disarm", "", prepare_guard, run_guard_disarm, after_guard_disarm, false, false},
    {"cctx_stop", "", NULL, run_stop, after_stop, false, false},
    {"cctx_stop_wait", "", NULL, run_stop_wait, after_stop, false, false},
    {"cctx_sleep", "", NULL, run_sleep, after_nothing, false, false},
    {"cctx_futex_wait", "", NULL, run_futex_wait, after_nothing, false, false},
    {"cctx_futex_wait", " for a deadline", prepare_wait, run_futex_wait_for_deadline, after_nothing,
     WITHOUT_WAITV, WITHOUT_WAITV},
    {"cctx_wait_any", "", NULL, run_wait_any, after_nothing, false, false},
    {"cctx_wait_any", " for a deadline", prepare_wait, run_wait_any_for_deadline, after_nothing,
     WITHOUT_WAITV, false},
    {"cctx_wait_any", " of 130", NULL, run_wait_any_of_many, after_nothing, true, false},
    {"cctx_fd", "", NULL, run_fd, after_fd, true, false},
    {"cctx_poll", "", NULL, run_poll, after_nothing, true, false},
    {"cctx_poll", " for a deadline", prepare_wait, run_poll_for_deadline, after_nothing, true, false},
    {"cctx_group_new", "", NULL, run_group_new, after_group, true, false},
    {"cctx_group_context", "", prepare_group, run_group_context, after_group, false, false},
    {"cctx_group_go", "", prepare_group, run_group_go, after_task, false, false},
    {"cctx_group_wait", "", prepare_task, run_group_wait, after_task, false, false},
    {"cctx_group_free", "", prepare_group, run_group_free, after_group_free, false, false},
};
enum { CALLS = sizeof call_table / sizeof *call_table };

/* The world was made and what the call needs; the call ran, and said err. Those that release on stay without
 * it. */
static int call_run(const call_t *call, world_t *w)
{
    errno = CALLS_ERRNO;
    return call->run(w);
}

static void call_prepare(const call_t *call, world_t *w)
{
    if (call->prepare)
        call->prepare(w);
    CHECK(!call->prepare || w->spare);
}

/* One world for one call, from beginning to end, with nothing in its way. */
static inline void call_in_world(const call_t *call, world_t *w, const state_t *state)
{
    world_make(w, state);
    call_prepare(call, w);
    int err = call_run(call, w);
    CHECK(err == 0);
    call->after(w);
    world_end(w);
}

/* Each function that a header declares has a row: a line that begins with its mark and has its name. How many. */
static inline int calls_of_header(const char *name_of_header)
{
    char path[1024], line[512];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    CHECK(slash != NULL);
    snprintf(slash, sizeof path - (size_t)(slash - path), "/../include/cctx/%s", name_of_header);
    FILE *header = fopen(path, "r");
    CHECK(header != NULL);
    int found = 0;
    while (fgets(line, sizeof line, header)) {
        if (strncmp(line, "CCTX_API", 8) != 0 && strncmp(line, "static inline", 13) != 0)
            continue;
        if (strstr(line, " cctx_scoped_")) /* what the compiler calls for CCTX_SCOPED: cctx_close, cctx_unref */
            continue;
        char *open = strchr(strstr(line, " cctx_") ? strstr(line, "cctx_") : line, '(');
        if (!open)
            continue;
        *open = '\0';
        char *name = open;
        while (name > line && (name[-1] == '_' || (name[-1] >= 'a' && name[-1] <= 'z')))
            name--;
        bool known = false;
        for (int i = 0; i < CALLS; i++)
            known = known || strcmp(call_table[i].function, name) == 0;
        if (!known)
            print_error("%s: no row in call_table of test/calls.h\n", name);
        CHECK(known);
        found++;
    }
    fclose(header);
    return found;
}

static inline void calls_are_complete(void)
{
    CHECK(calls_of_header("cctx.h") >= 32);
    CHECK(calls_of_header("signal.h") == 3);
    CHECK(calls_of_header("wait.h") == 5);
}

#endif
