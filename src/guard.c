/* Layer 11, face. guard: interrupts somebody else's API, again and again until it is disarmed.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The first interrupt is a callback of the guard's context. The others come by contexts of the guard's own, one after
 * the other, each with a deadline and a callback: so they run where deadlines' callbacks do, on the runner, one at a
 * time, in two storages in turn. The first of those contexts is made when the guard is armed, and what it is waiting
 * for is not its deadline: the first interrupt fires it. So no memory is needed where the context ends, and arming is
 * where it is told that there is none, or no thread. If later there is no memory for the next one, the runner waits
 * out the interval itself.
 *
 *   G1  Who has the guard (FIRING of one callback in its state, by a compare-and-swap from ARMED) alone calls interrupt
 *       and uses the other fields; a disarm does when it has cleared ARMED and the callback that had the guard then
 *       has returned.
 *   G2  ARMED is not set again but by arm: so after a disarm nobody gets the guard.
 *   G3  A callback is registered only by who has the guard: so the disarm finds all that will ever be registered.
 *   G4  A callback that has let go of the guard, or found that it cannot have it, reads it no more; nor after interrupt
 *       has disarmed it: then *gone is set, which stands on the stack. */
#include "callback.h"
#include "cancel.h"
#include "clock.h"
#include "futex.h"
#include <errno.h>
#include <cctx/guard.h>

enum { FIRST, BEAT, BEATS = BEAT + 1, CALLBACKS };
enum {
    ARMED = 1,
    FIRING = 2                  /* shifted by the callback that has the guard */
};
#define LEAST CCTX_MS(1)        /* the first interval; each is twice the one before, to the longest */
#define MOST  CCTX_MS(100)

struct guard {                  /* what cctx_guard_t holds */
    struct callback cb[CALLBACKS];      /* FIRST is the context's */
    sync_plain(callback_fn) interrupt;
    sync_plain(void *) handle;
    sync_plain(cctx_t *) beat;          /* whose callback comes next, or has begun; a reference */
    sync_plain(bool *) gone;            /* set if interrupt disarms the guard */
    sync_plain(int64_t) interval;       /* to the next interrupt; 0 before the first */
    sync_plain(unsigned) turn;          /* BEAT or BEATS: the callback of beat */
    sync_u32 state;
};
#ifndef SYNC_RELACY
_Static_assert(sizeof(struct guard) <= sizeof(cctx_guard_t), "the storage is the caller's and frozen");
_Static_assert(_Alignof(struct guard) <= _Alignof(cctx_guard_t), "so is its alignment");
#endif

static struct guard *guard_in(cctx_guard_t *storage) { return (struct guard *)(void *)storage; }
static cctx_callback_t *guard_callback(struct guard *g, unsigned k) { return (cctx_callback_t *)(void *)&g->cb[k]; }

/* What the guard's own contexts hang below: nothing ends them but their deadlines. They are of the domain of the guard's
 * context: there its host fires them. */
static const cctx_t *guard_root(const cctx_t *ctx)
{
    struct cctx_domain *d = node_domain(ctx);
    return d ? d->background : cctx_background();
}

/* What is read then was ordered by the registration of callback k. Release: which thread it runs on. */
static bool guard_take(struct guard *g, unsigned k)
{
    uint32_t s = ARMED;
    return sync_cas_acqrel(&g->state, &s, (uint32_t)ARMED | (uint32_t)FIRING << k, guard, none);
}

/* If it was disarmed meanwhile, the disarm waits for the end of callback k. */
static void guard_give(struct guard *g, unsigned k)
{
    uint32_t s = (uint32_t)ARMED | (uint32_t)FIRING << k;
    (void)sync_cas_acqrel(&g->state, &s, (uint32_t)ARMED, guard, none);
}

/* False: it disarmed the guard, which is not looked at any more. */
static bool guard_call(struct guard *g)
{
    bool gone = false;
    sync_set(g->gone, &gone);
    callback_fn interrupt = sync_get(g->interrupt);
    interrupt(sync_get(g->handle));
    return !gone;
}

static void guard_first(void *arg)
{
    struct guard *g = (struct guard *)arg;
    if (!guard_take(g, FIRST)) return;
    cctx_t *beat = sync_get(g->beat);
    cctx_ref(beat);                     /* the guard may be gone when it is fired */
    if (guard_call(g)) {
        guard_give(g, FIRST);
        cancel_deadline(beat);
    }
    cctx_unref(beat);
}

/* Sees to it that the next callback comes after the interval. ETIMEDOUT: it is over by now; or without memory. */
static int guard_next(struct guard *g, unsigned k, int64_t interval, callback_fn beat)
{
    unsigned next = k == BEAT ? BEATS : BEAT;
    const cctx_t *root = guard_root(sync_get(g->beat));
    cctx_t *ctx = cctx_with_deadline(root, time_add(node_now(root), interval));
    if (!ctx) return ENOMEM;
    sync_set(g->turn, next);
    int failed = cctx_after_func(ctx, guard_callback(g, next), beat, g);
    if (failed == 0) {
        if (!cctx_is_done(ctx)) {
            cctx_unref(sync_get(g->beat));
            sync_set(g->beat, ctx);
            return 0;
        }
        cctx_stop_wait(guard_callback(g, next));        /* it has run, in vain, since this one has the guard */
        failed = ETIMEDOUT;
    }
    sync_set(g->turn, k);
    cctx_unref(ctx);
    return failed;
}

/* Waits out what is left of the interval, which guard_next could not. False: it is disarmed, or it is a domain, whose
 * host has more to do. */
static bool guard_rest(struct guard *g, int failed, int64_t until)
{
    if (failed == ETIMEDOUT) until = INT64_MIN;
    else if (node_domain(sync_get(g->beat))) return false;
    for (;;) {
        uint32_t s = sync_load_relaxed(&g->state, alone);
        if (!(s & ARMED)) return false;
        if (!futex_wait(&g->state, s, until)) return true;
    }
}

static void guard_beat(void *arg)
{
    struct guard *g = (struct guard *)arg;
    unsigned k = sync_get(g->turn);
    int failed;
    int64_t until;
    if (!guard_take(g, k)) return;
    do {
        int64_t interval = sync_get(g->interval);
        if (interval > 0 && !guard_call(g)) return;
        interval = interval > 0 ? time_min(2 * interval, MOST) : LEAST;
        sync_set(g->interval, interval);
        until = time_add(clock_now(), interval);
        failed = guard_next(g, k, interval, guard_beat);
    } while (failed != 0 && guard_rest(g, failed, until));
    guard_give(g, k);
}

int cctx_guard_arm(cctx_guard_t *storage, const cctx_t *ctx, void (*interrupt)(void *handle), void *handle)
{
    struct guard *g = guard_in(storage);
    if (!g || !ctx || !interrupt) return EINVAL;
    int saved = errno, failed;
    /* The deadline is not to come; with one, the threads that the guard needs are made here. A domain has none. */
    const cctx_t *root = guard_root(ctx);
    cctx_t *beat = node_domain(ctx) ? cctx_with_cancel(root) : cctx_with_deadline(root, CCTX_NEVER - 1);
    if (!beat) {
        failed = errno;
        errno = saved;
        return failed;
    }
    sync_set(g->interrupt, interrupt);
    sync_set(g->handle, handle);
    sync_set(g->beat, beat);
    sync_set(g->interval, (int64_t)0);
    sync_set(g->turn, (unsigned)BEAT);
    sync_init(&g->cb[BEATS].state, (uint32_t)CALLBACK_IDLE);
    sync_init(&g->state, (uint32_t)ARMED);
    failed = cctx_after_func(beat, guard_callback(g, BEAT), guard_beat, g);
    if (failed == 0) {
        failed = cctx_after_func(ctx, guard_callback(g, FIRST), guard_first, g);
        if (failed == 0) return 0;      /* interrupt may have come, and given the guard away */
        cctx_stop_wait(guard_callback(g, BEAT));
    }
    cctx_unref(beat);
    sync_init(&g->state, 0u);
    return failed;
}

void cctx_guard_disarm(cctx_guard_t *storage)
{
    struct guard *g = guard_in(storage);
    if (!g) return;
    uint32_t s = sync_and_acqrel(&g->state, ~(uint32_t)ARMED, none, guard);
    if (!(s & ARMED)) return;
    for (unsigned k = 0; k < CALLBACKS; k++)
        if (s & (uint32_t)FIRING << k) {
            if (callback_inside(guard_callback(g, k))) {        /* from inside interrupt */
                *sync_get(g->gone) = true;
            } else {
                futex_wake(&g->state);
                cctx_stop_wait(guard_callback(g, k));
            }
        }
    for (unsigned k = 0; k < CALLBACKS; k++) cctx_stop_wait(guard_callback(g, k));
    cctx_unref(sync_get(g->beat));
    sync_init(&g->state, 0u);
}
