/* Layer 10, relations. deadline: a node's timer, and the thread that fires it.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "deadline.h"
#include "cancel.h"
#include "clock.h"
#include "service.h"
#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>

static int64_t node_key(uintptr_t occupant) { return sync_get(((struct cctx *)occupant)->deadline); }
static bool node_pin(uintptr_t occupant) { return node_try_pin((struct cctx *)occupant); }
static void node_fire(uintptr_t occupant)
{
    struct thread *t = thread_begin();
    cancel_deadline((struct cctx *)occupant);
    node_unref(t, (struct cctx *)occupant);
    thread_end(t);
}
static const struct timer_ops node_ops = {node_key, node_pin, node_fire};

/* A sleep and a wake cost as much as a hundred deadlines that are fired in a row. So the thread wakes for deadlines
 * five hundred times a second at most, but for a burst: those that come microseconds after one another are fired
 * together. (The generic cell rate algorithm: PACE is the interval, BURST the tolerance.) */
#ifndef TIMER_PACE
#define TIMER_PACE 2000000      /* 0, none, in builds whose clock is a test's and may run back */
#endif
enum { PACE = TIMER_PACE, BURST = 64 };
static int64_t pace_next(int64_t pace, int64_t now)
{
    int64_t least = time_add(now, -(int64_t)BURST * PACE);
    return PACE > 0 ? time_min(pace > least ? pace : least, now) + PACE : INT64_MIN;
}

static void timer_main(void)
{
    int64_t pace = INT64_MIN;           /* sleep until then at least */
    /* On this thread alone: a timed futex wait is late by the slack, 50 us unless told. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    for (bool slept = false;;) {
        uint32_t bell = timer_bell(&node_timer);        /* before it looks */
        cancel_serve();
        int64_t now = clock_now();
        if (now >= timer_next(&node_timer)) {
            if (slept) pace = pace_next(pace, now);
            slept = false;
            struct thread *t = thread_begin();
            timer_work(&node_timer, t, now);
            thread_end(t);
        } else {
            timer_sleep(&node_timer, bell, now, pace);
            slept = true;
        }
    }
}
static struct service timer_thread = {"cctx-timer", timer_main, {0}, {0}};

static sync_u32 orphaned;       /* this process was forked off one that had deadlines armed */

static void forked(void)
{
    service_forked(&timer_thread);
    timer_forked(&node_timer);
    sync_store_relaxed(&orphaned, 1u, owned);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void setup(void)
{
    timer_init(&node_timer, &node_ops);
    pthread_atfork(NULL, NULL, forked);
}

bool deadline_start(void)
{
    pthread_once(&once, setup);
    return service_start(&timer_thread);
}

/* A host is told of no deadline that is nobody's any more. (An entry whose key is another than the slot's is dropped.) */
static int64_t host_key(uintptr_t occupant)
{
    struct cctx *n = (struct cctx *)occupant;
    return sync_load_relaxed(&n->state, hint) & DONE ? INT64_MAX : sync_get(n->deadline);
}
static void host_ring(struct timer *t) { domain_wake(container_of(t, struct cctx_domain, timer)); }
static const struct timer_ops host_ops = {host_key, node_pin, node_fire};

void deadline_host(struct cctx_domain *d)
{
    timer_init(&d->timer, &host_ops);
    d->timer.ring = host_ring;
    d->timer.memory = &d->memory;
}

int deadline_arm(struct thread *t, struct cctx *n, int64_t now)
{
    sync_plain(sync_ptr *) tslot;
    struct cctx_domain *d = node_domain(n);
    if (unlikely(d != NULL)) {
        now = sync_get(n->deadline);    /* in the near tier, so that cctx_domain_next is exact */
    } else {
        if (!deadline_start()) return EAGAIN;
        if (unlikely(sync_load_relaxed(&orphaned, hint))) sync_store_relaxed(&orphaned, 0u, hint);
    }
    struct timer *timer = d ? &d->timer : &node_timer;
    if (!timer_arm(timer, t, (uintptr_t)n, now, sync_get(n->deadline), &tslot)) return ENOMEM;
    sync_store_relaxed(&n->family, (uintptr_t)sync_get(tslot) | FAMILY_TIMER, owned);
    return 0;
}

void deadline_wait(void)
{
    if (likely(!sync_load_relaxed(&orphaned, hint))) return;
    if (service_start(&timer_thread)) sync_store_relaxed(&orphaned, 0u, hint);
}

/* The ancestor whose own deadline n's is, or n: n is live, or was when it was waited for, and keeps its ancestors. */
static struct cctx *deadline_origin(struct cctx *n)
{
    int64_t d = sync_get(n->deadline);
    while (!node_tslot(n)) {
        struct cctx *up = node_owner(sync_get(n->parent));
        if (node_kind(n) == KIND_ANY) {         /* by the first parent that has the deadline */
            struct any *a = (struct any *)(void *)n;
            for (unsigned i = 0; i < a->legs && (!up || sync_get(up->deadline) != d); i++) {
                struct cctx *p = node_owner(a->leg[i].parent);
                if (p && sync_get(p->deadline) == d) up = p;
            }
        }
        n = up;
    }
    return n;
}

void deadline_fire(struct cctx *n) { cancel_deadline(deadline_origin(n)); }
