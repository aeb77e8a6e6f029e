/* Layer 11, face. blocking: a sleep, a futex and a choice of contexts that a context ends.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Whoever sleeps on several words is counted in at each context's, as in cctx_wait, and wakes at the earliest deadline
 * to fire it itself. Without futex_waitv a futex is slept on alone, and a callback wakes it; contexts are merged. */
#include <cctx/wait.h>
#include "clock.h"
#include "deadline.h"
#include "futex.h"
#include "waitv.h"
#include <errno.h>

int cctx_sleep(const cctx_t *ctx, int64_t duration)
{
    if (!ctx) return EINVAL;
    return cctx_wait_for(ctx, duration) ? cctx_err(ctx) : 0;
}

/* ------------------------------------------------------------------------------------------------- a futex */

/* A value of the program's word: what follows of it the program orders, when it reads it again. */
static bool changed(sync_u32 *word, uint32_t expected) { return sync_load_relaxed(word, alone) != expected; }

/* The deadline passed: fires it. */
static bool fired(struct cctx *n, int64_t deadline, int64_t now)
{
    if (now < deadline) return false;
    deadline_fire(n);
    return true;
}

static void wake(void *word) { futex_wake((sync_u32 *)word); }

/* The sleep on the program's word alone. The wake by the callback may come between this thread's last look at the context
 * and its sleep, and the word is still what was expected; nor may a canceler wait for a sleeper that is stopped. So
 * the sleep is cut, first after the least time and then after as long again as it has lasted: a wake that comes to nothing
 * makes it at most twice as long, or MOST longer. */
enum { CUT_LEAST = 1000000, CUT_MOST = 1000000000 };
static int wait_by_callback(const cctx_t *ctx, struct cctx *n, sync_u32 *word, uint32_t expected)
{
    cctx_callback_t cb = {{0}};
    struct waitv_word alone = {word, expected};
    int64_t deadline = node_alarm(n), now, cut = CUT_LEAST;
    int end, r = cctx_after_func(ctx, &cb, wake, word);
    if (r != 0) return r;
    do {
        if (changed(word, expected)) goto out;
        if ((r = cctx_err(ctx)) != 0) goto out;
        now = clock_now();
        end = WAITV_LOOK;
        if (!fired(n, deadline, now)) end = waitv(&alone, 1, time_min(deadline, time_add(now, cut)));
        cut = time_min(2 * cut, CUT_MOST);
    } while (end != 0);
    /* Of a context that is done meanwhile too, the wake may have been its callback's, or the only one that the program
     * had for one of several sleepers: it is passed on, so that none is lost. */
    if ((r = cctx_err(ctx)) != 0) futex_wake(word);
out:
    cctx_stop_wait(&cb);
    return r;
}

/* Of two that were woken waitv tells the last: so it is the program's word, and no wake of it is lost to the other. */
enum { CONTEXT, WORD, WORDS };

/* WAITV_NONE, or the result. n counts the caller. The state is only compared here: cctx_err orders what is told of it. */
static int wait_for_both(const cctx_t *ctx, struct cctx *n, sync_u32 *word, uint32_t expected)
{
    int64_t deadline = node_alarm(n);
    for (;;) {
        struct waitv_word w[WORDS] = {{&n->state, sync_load_relaxed(&n->state, alone)}, {word, expected}};
        if (changed(word, expected)) return 0;
        if (w[CONTEXT].seen & DONE) return cctx_err(ctx);
        int end = waitv(w, WORDS, deadline);
        if (end == WORD) return 0;
        if (end == WAITV_NONE) return end;
        if (end == WAITV_TIME) fired(n, deadline, clock_now());
    }
}

int cctx_futex_wait(const cctx_t *ctx, const uint32_t *user, uint32_t expected)
{
    sync_u32 *word = (sync_u32 *)(uintptr_t)user;
    if (!ctx || !word || (uintptr_t)word % sizeof *user != 0) return EINVAL;
    node_check(ctx, "cctx_futex_wait");
    struct cctx *n = node_owner(ctx);
    struct waitv_word alone = {word, expected};
    if (changed(word, expected)) return 0;
    deadline_wait();
    while (!n) {
        if (waitv(&alone, 1, INT64_MAX) == 0 || changed(word, expected)) return 0;
    }
    if (!done_enter(&n->state)) return cctx_err(ctx);
    thread_count_here(COUNT_PARKED, 1);
    int r = wait_for_both(ctx, n, word, expected);
    thread_count_here(COUNT_PARKED, (uintptr_t)-1);
    done_leave(&n->state);
    return r == WAITV_NONE ? wait_by_callback(ctx, n, word, expected) : r;
}

/* ----------------------------------------------------------------------------------------------- contexts */

/* The first that is done, or count. */
static size_t first_done(const cctx_t *const ctxs[], size_t count)
{
    size_t i = 0;
    while (i < count && !cctx_is_done(ctxs[i])) i++;
    return i;
}

/* The earliest deadline. Those that have come by now are fired. */
static int64_t earliest(const cctx_t *const ctxs[], size_t count, int64_t now)
{
    int64_t least = CCTX_NEVER;
    for (size_t i = 0; i < count; i++) {
        int64_t deadline = node_alarm(ctxs[i]);
        if (deadline < least) least = deadline;
        if (deadline <= now) deadline_fire(node_owner(ctxs[i]));
    }
    return least;
}

/* The words of those that can be done; more than WAITV_MOST if there are too many. */
static unsigned words_of(struct waitv_word *w, const cctx_t *const ctxs[], size_t count)
{
    unsigned n = 0;
    for (size_t i = 0; i < count; i++) {
        struct cctx *owner = node_owner(ctxs[i]);
        if (!owner) continue;
        if (n == WAITV_MOST) return WAITV_MOST + 1;
        w[n++].word = &owner->state;
    }
    return n;
}

/* Reads the words; true if one is done. (What comes of it is for first_done to order.) */
static bool words_look(struct waitv_word *w, unsigned n)
{
    uint32_t all = 0;
    for (unsigned i = 0; i < n; i++) all |= w[i].seen = sync_load_relaxed(w[i].word, alone);
    return (all & DONE) != 0;
}

/* 0: one is done; ETIMEDOUT; or WAITV_NONE. */
static int wait_for_words(struct waitv_word *w, unsigned n, const cctx_t *const ctxs[], size_t count, int64_t until)
{
    unsigned counted = 0;
    int r = 0;
    while (counted < n && done_enter(w[counted].word)) counted++;
    thread_count_here(COUNT_PARKED, 1);
    while (!words_look(w, n) && r == 0) {
        int64_t now = clock_now(), next = earliest(ctxs, count, now);
        if (next <= now) continue;
        if (until <= now) r = ETIMEDOUT;
        else if (waitv(w, n, time_min(until, next)) == WAITV_NONE) r = WAITV_NONE;
    }
    thread_count_here(COUNT_PARKED, (uintptr_t)-1);
    while (counted > 0) done_leave(w[--counted].word);
    return r;
}

/* Does the time of one pass by a clock of its own? Then `until` is a time of that clock. */
static bool some_own_clock(const cctx_t *const ctxs[], size_t count)
{
    size_t i = 0;
    while (i < count && !node_own_clock(ctxs[i])) i++;
    return i < count;
}

/* The same for any number: a context that ends with the first of them is waited for. */
static int wait_for_merge(const cctx_t *const ctxs[], size_t count, int64_t until)
{
    int saved = errno;
    cctx_t *any = cctx_with_any(ctxs, count);
    int error = any ? 0 : errno;
    errno = saved;
    if (!any) return error;
    bool done = cctx_wait_until(any, until);
    cctx_unref(any);
    return done ? 0 : ETIMEDOUT;
}

int cctx_wait_any(const cctx_t *const ctxs[], size_t count, cctx_time_t until, size_t *which)
{
    struct waitv_word w[WAITV_MOST];
    if (!ctxs || count == 0 || count > PTRDIFF_MAX / sizeof *ctxs) return EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (!ctxs[i]) return EINVAL;
        node_check(ctxs[i], "cctx_wait_any");
    }
    int r = 0;
    size_t first = first_done(ctxs, count);
    if (first == count) {
        unsigned n = words_of(w, ctxs, count);
        if (n == 0) return until == CCTX_NEVER ? EDEADLK : (cctx_wait_until(ctxs[0], until), ETIMEDOUT);
        deadline_wait();
        bool by_run = until != CCTX_NEVER && some_own_clock(ctxs, count);
        r = n > WAITV_MOST || by_run ? WAITV_NONE : wait_for_words(w, n, ctxs, count, until);
        if (r == WAITV_NONE) r = wait_for_merge(ctxs, count, until);
        first = first_done(ctxs, count);
    }
    if (r == 0 && which) *which = first;
    return r;
}
