/* Layer 9, relations. deadline: a node's timer, and the thread that fires it.
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

static void timer_main(void)
{
    /* On this thread alone: a timed futex wait is late by the slack, 50 us unless told. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    for (;;) {
        int64_t now = clock_now();
        if (now >= timer_next(&node_timer)) {
            struct thread *t = thread_begin();
            timer_work(&node_timer, t, now);
            thread_end(t);
        } else {
            timer_sleep(&node_timer, now);
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

int deadline_arm(struct thread *t, struct cctx *n, int64_t now)
{
    sync_plain(sync_ptr *) tslot;
    pthread_once(&once, setup);
    if (!service_start(&timer_thread)) return EAGAIN;
    if (unlikely(sync_load_relaxed(&orphaned, hint))) sync_store_relaxed(&orphaned, 0u, hint);
    if (!timer_arm(&node_timer, t, (uintptr_t)n, now, sync_get(n->deadline), &tslot)) return ENOMEM;
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
