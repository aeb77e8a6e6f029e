/* Layer 8, relations. callback: run once or stopped.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "callback.h"
#include "futex.h"
#include "service.h"
#include <cctx/executor.h>
#include <pthread.h>
#if CCTX_CHECK
#include <stdio.h>
#endif

#ifndef SYNC_RELACY
_Static_assert(sizeof(struct callback) <= sizeof(cctx_callback_t), "the storage is the caller's and frozen");
_Static_assert(_Alignof(struct callback) <= _Alignof(cctx_callback_t), "so is its alignment");
_Static_assert(_Alignof(cctx_callback_t) > SLOT_NODE_MASK, "a slot has its address and the tags");
#endif

/* stop_wait parks on one of these, chosen by the callback's address: its own storage may be gone when the waker
 * gets to wake. They are never freed; a wake for another callback is spurious. */
enum { PARKING = 64 };
static sync_u32 parking[PARKING];

static sync_u32 *parking_of(struct callback *cb) { return &parking[(uintptr_t)cb / sizeof *cb % PARKING]; }

#if !defined SYNC_RELACY && !defined SYNC_SEEDED
static _Thread_local char here;
static const void *thread_here(void) { return &here; }
#endif

static struct callback *callback_in(cctx_callback_t *storage) { return (struct callback *)(void *)storage; }

/* ---------------------------------------------------------------------------------------------------- run */

/* The last touch of the storage; then those who wait for it are woken, by a word that is not in it. */
static void callback_end(struct callback *cb, uint32_t state)
{
    sync_u32 *park = parking_of(cb);
    if (!(sync_swap_acqrel(&cb->state, state, hook_end, none) & CALLBACK_WAITED)) return;
    sync_add_acqrel(park, 1u, hook_end, none);
    futex_wake(park);
}

/* Calls fn. The state is from, and nobody but this thread changes that. t claims cb until the state tells; NULL: it never was
 * in a slot, or the state has told. */
static inline __attribute__((always_inline)) void callback_call(struct thread *t, struct callback *cb, uint32_t from)
{
    struct frame frame = {false};
    callback_fn fn = sync_get(cb->fn);
    void *arg = sync_get(cb->arg);
    sync_set(cb->runner, thread_here());
    sync_set(cb->frame, &frame);
    sync_store_relaxed(&cb->generation, thread_generation(), owned);
    sync_xor_acqrel(&cb->state, from | (uint32_t)CALLBACK_RUNNING, hook_run, none);
    if (t) {
        thread_claim(t, NULL);
        thread_count(t, COUNT_CALLBACKS, 1);
    } else {
        thread_count_here(COUNT_CALLBACKS, 1);
    }
    fn(arg);
    if (!frame.gone) callback_end(cb, CALLBACK_FINISHED);
}

/* What an executor runs. What the submitter did before is the executor's to order before it. */
static void callback_task(void *arg)
{
    struct callback *cb = (struct callback *)arg;
    struct cctx *via = sync_get(cb->via);       /* read before fn: the storage may be gone after */
    callback_call(NULL, cb, CALLBACK_SUBMITTED);
    struct thread *t = thread_begin();
    node_unref(t, via);
    thread_end(t);
}

/* cb is not looked at once it is submitted: the task may have run, on another thread or inside of submit. */
static __attribute__((noinline)) void callback_submit(struct thread *t, struct callback *cb)
{
    cctx_executor_t *ex = (cctx_executor_t *)sync_get(cb->frame);
    node_ref(sync_get(cb->via));        /* the task's */
    sync_store_relaxed(&cb->generation, thread_generation(), owned);
    sync_xor_acqrel(&cb->state, (uint32_t)(CALLBACK_REGISTERED | CALLBACK_SUBMITTED), hook_run, none);
    if (t) thread_claim(t, NULL);
    if (ex->submit(ex, callback_task, cb) != 0) callback_task(cb);
}

/* Starts fn, here or by its executor. The caller has emptied the slot and claims cb by its record t, or it never was in
 * one: NULL. */
static __attribute__((noinline)) void callback_start(struct thread *t, struct callback *cb)
{
    if (likely(!sync_get(cb->frame))) callback_call(t, cb, CALLBACK_REGISTERED);
    else callback_submit(t, cb);
}

/* What a stop leaves in the slot until the state tells, so that the node stays pinned until then. */
static int64_t stopped;

/* The callback that a slot's word speaks of, or NULL. */
static struct callback *callback_of(uintptr_t word)
{
    uintptr_t occupant = word & ~(uintptr_t)SLOT_NODE_MASK;
    return occupant == (uintptr_t)&stopped ? NULL : (struct callback *)occupant;
}

/* Takes cb out of its slot, if it is still there; *word becomes what stood there. The claim leaves nothing there, the stop
 * its mark. t claims cb then, until its state tells. */
static bool callback_take(struct thread *t, struct callback *cb, sync_ptr *slot, uintptr_t mark, uintptr_t *word)
{
    uintptr_t w = sync_load_relaxed(slot, cas_seed);
    thread_claim(t, cb);
    while (callback_of(w) == cb)
        if (sync_cas_acqrel(slot, &w, mark ? mark | (w & SLOT_NODE_MASK) : 0, empty, slot)) {
            *word = w;
            return true;
        }
    thread_claim(t, NULL);
    return false;
}

/* What an emptied slot owes: the count of a closed node, the pin of the context it came through. */
static void callback_settle(struct thread *t, uintptr_t word, struct cctx *node, struct cctx *via)
{
    if (word & SLOT_TAG) node_unref(t, node);
    if (via != node) node_unref(t, via);
}

void callback_run_list(struct thread *t, struct cctx *n)
{
    unsigned began = thread_generation();
    for (struct cctx *next; n; n = next) {
        struct family *f = node_family(n);
        next = sync_get(f->link);
        for (sync_ptr *x = &f->hook; x; x = node_next_hook(f, x)) {
            uintptr_t w = sync_load_hs(x, attach, b, none);
            struct callback *cb = callback_of(w);
            if (!cb || !callback_take(t, cb, x, 0, &w)) continue;
            struct cctx *via = sync_get(cb->via);
            callback_start(t, cb);
            callback_settle(t, w, n, via);
        }
        node_unref(t, n);
        if (thread_generation() != began) return;       /* fn forked: in the child the list is the next cancel's */
    }
}

/* ------------------------------------------------------------------------------------------------- runner */

static sync_ptr queue;                  /* nodes whose callbacks wait for the runner: push one, take all */
static sync_u32 queue_bell;

/* All that is in a queue, in its order. */
static struct cctx *queue_take(sync_ptr *from)
{
    struct cctx *n = (struct cctx *)sync_swap_acqrel(from, (uintptr_t)0, none, queue), *first = NULL;
    while (n) {                         /* the last pushed came first */
        struct cctx *next = sync_get(node_family(n)->link);
        sync_set(node_family(n)->link, first);
        first = n;
        n = next;
    }
    return first;
}
static void queue_run(struct thread *t) { callback_run_list(t, queue_take(&queue)); }

struct cctx *callback_host_take(struct cctx_domain *d) { return queue_take(&d->queue); }

void callback_host_forked(struct cctx_domain *d)
{
    struct cctx *n = (struct cctx *)sync_load_relaxed(&d->queue, owned);
    for (; n; n = sync_get(node_family(n)->link)) sync_store_relaxed(&node_family(n)->queued, node_mark(), owned);
}

#ifndef SYNC_RELACY
static void runner_main(void)
{
    for (;;) {
        uint32_t b = sync_load_acq(&queue_bell, queue);
        struct thread *t = thread_begin();
        queue_run(t);
        epoch_rest(t);
        thread_end(t);
        futex_wait(&queue_bell, b, INT64_MAX);
    }
}
static struct service runner = {"cctx-runner", runner_main, {0}, {0}};

/* What the parent had handed over is its runner's to finish; here a cancel runs it again. */
static void runner_forked(void)
{
    service_forked(&runner);
    sync_store_relaxed(&queue, (uintptr_t)0, owned);
}
static pthread_once_t runner_once = PTHREAD_ONCE_INIT;
static void runner_setup(void) { pthread_atfork(NULL, NULL, runner_forked); }
static bool runner_start(void)
{
    pthread_once(&runner_once, runner_setup);
    return service_start(&runner);
}
#endif

bool callback_service(void) { return runner_start(); }

bool callback_hand_over(struct cctx *first)
{
    if (!first) return true;
    struct cctx_domain *d = node_domain(first);
    sync_ptr *to = unlikely(d != NULL) ? &d->queue : &queue;
    for (struct cctx *n = first, *next; n; n = next) {
        struct family *f = node_family(n);
        next = sync_get(f->link);
        uintptr_t head = sync_load_relaxed(to, cas_seed);
        do sync_set(f->link, (struct cctx *)head);
        while (!sync_cas_acqrel(to, &head, (uintptr_t)n, queue, none));
    }
    if (unlikely(d != NULL)) {
        domain_wake(d);
        return true;
    }
    sync_add_acqrel(&queue_bell, 1u, queue, none);
    if (!runner_start()) return false;
    futex_wake(&queue_bell);
    return true;
}

bool callback_stranded(void) { return sync_load_relaxed(&queue, hint) != 0 && !runner_start(); }
void callback_run_stranded(struct thread *t) { queue_run(t); }

/* ------------------------------------------------------------------------------------------------- public */

#if CCTX_CHECK
/* What runner holds until fn runs, so that storage which never was registered does not look like it by chance. */
static const void *callback_cookie(struct callback *cb) { return (const void *)((uintptr_t)cb ^ 0x5ca1ab1eu); }

static void callback_check(struct callback *cb)
{
    uint32_t s = sync_load_relaxed(&cb->state, stat);
    bool ghost = (s & CALLBACK_SUBMITTED) && sync_load_relaxed(&cb->generation, stat) != thread_generation();
    if ((s & (CALLBACK_REGISTERED | CALLBACK_SUBMITTED)) && !(s & CALLBACK_RUNNING) && !ghost &&
        sync_get(cb->runner) == callback_cookie(cb)) {
        fprintf(stderr, "cctx: cctx_after_func: callback %p is registered already\n", (void *)cb);
        abort();
    }
    sync_set(cb->runner, callback_cookie(cb));
}
#else
static void callback_check(struct callback *cb) { (void)cb; }
#endif

/* ex is NULL: fn runs where the cancel does. */
static int callback_register(const cctx_t *ctx, cctx_callback_t *storage, cctx_executor_t *ex, callback_fn fn, void *arg)
{
    struct callback *cb = callback_in(storage);
    struct cctx *via = (struct cctx *)(uintptr_t)ctx;
    if (!ctx || !cb || !fn) return EINVAL;
    node_check(ctx, "cctx_after_func");
    callback_check(cb);
    struct cctx *n = node_owner(via);
    sync_set(cb->fn, fn);
    sync_set(cb->arg, arg);
    sync_set(cb->node, n);
    sync_set(cb->via, via);
    sync_set(cb->slot, (sync_ptr *)NULL);
    sync_set(cb->frame, ex);
    sync_init(&cb->generation, thread_generation());
    sync_init(&cb->state, (uint32_t)CALLBACK_REGISTERED);
    if (!n) {                           /* never done: registered nowhere, but it keeps its context */
        node_ref(via);
        return 0;
    }
    if (sync_load_acq(&n->state, done) & DONE) {
        node_ref(via);                  /* the registration keeps it until fn has returned (contract, C28) */
        callback_start(NULL, cb);
        struct thread *t = thread_begin();
        node_unref(t, via);
        thread_end(t);
        return 0;
    }
    if (sync_get(via->deadline) != CCTX_NEVER && !node_domain(via) && !runner_start()) {
        sync_store_relaxed(&cb->state, (uint32_t)CALLBACK_IDLE, owned);
        return EAGAIN;                  /* before it is needed: a deadline that fires could not tell anybody */
    }
    struct thread *t = thread_begin();
    if (via != n) node_ref(via);        /* before the slot is filled: a claim may come at once, and drops it */
    /* Once it is in its slot a canceler may run it, and fn may give the storage away: cb is not read any more. */
    sync_ptr *slot = node_admit_hook(t, n, (uintptr_t)cb, &cb->slot);
    if (!slot) {
        sync_store_relaxed(&cb->state, (uint32_t)CALLBACK_IDLE, owned);
        if (via != n) node_unref(t, via);
    } else if (sync_load_hs(&n->state, attach, a, done) & DONE) {
        /* The canceler may have looked before the slot was filled: whoever empties it runs it. */
        uintptr_t w;
        node_ref(n);
        if (callback_take(t, cb, slot, 0, &w)) {
            callback_start(t, cb);
            callback_settle(t, w, n, via);
        }
        node_unref(t, n);
    }
    thread_end(t);
    return slot ? 0 : ENOMEM;
}

int cctx_after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg), void *arg)
{
    return callback_register(ctx, cb, NULL, fn, arg);
}

int cctx_after_func_on(const cctx_t *ctx, cctx_callback_t *cb, cctx_executor_t *ex, void (*fn)(void *arg), void *arg)
{
    return ex && ex->submit ? callback_register(ctx, cb, ex, fn, arg) : EINVAL;
}

bool cctx_stop(cctx_callback_t *storage)
{
    struct callback *cb = callback_in(storage);
    if (!cb) return false;
    uint32_t s = sync_load_relaxed(&cb->state, cas_seed);
    if (!(s & CALLBACK_REGISTERED)) return false;
    struct thread *t = thread_begin();
    struct cctx *node = sync_get(cb->node), *via = sync_get(cb->via);
    sync_ptr *slot = sync_get(cb->slot);
    uintptr_t w = 0;
    bool won;
    if (slot) {
        epoch_enter(t);                 /* K3 */
        won = (sync_load_relaxed(&cb->state, alone) & CALLBACK_REGISTERED) &&
              callback_take(t, cb, slot, (uintptr_t)&stopped, &w);
        if (won) node_vacate(node, slot);
        epoch_leave(t);
        if (won) {
            callback_end(cb, CALLBACK_IDLE);
            thread_claim(t, NULL);
            w = sync_swap_acqrel(slot, (uintptr_t)0, empty, none);
        }
    } else {
        won = sync_cas_acqrel(&cb->state, &s, (uint32_t)CALLBACK_IDLE, hook_end, none);
    }
    if (won) callback_settle(t, w, node, via);
    thread_end(t);
    return won;
}

/* Does this thread run cb? (In the child of a fork a new thread may have the address of one that is gone.) */
static bool callback_mine(struct callback *cb)
{
    return sync_load_relaxed(&cb->generation, owned) == thread_generation() && sync_get(cb->runner) == thread_here();
}

bool callback_inside(cctx_callback_t *storage) { return callback_mine(callback_in(storage)); }

/* In the child of a fork: did a thread take cb that is gone? Then fn does not run any more. (A stop failed and cb is
 * registered: so it is in a slot, or was. Without one the stop decides.) */
static bool callback_lost(struct callback *cb)
{
    sync_ptr *slot = sync_get(cb->slot);
    if (sync_load_relaxed(&cb->generation, hint) == thread_generation()) return false;
    struct thread *t = thread_begin();
    epoch_enter(t);                     /* K3 */
    bool lost = (sync_load_relaxed(&cb->state, hint) & CALLBACK_REGISTERED) != 0;
    if (lost) {                         /* K4. The slot is read to see what its last one had claimed before. */
        (void)sync_load_acq(slot, empty);
        lost = !thread_claimed(cb) && (sync_load_relaxed(&cb->state, alone) & CALLBACK_REGISTERED);
    }
    epoch_leave(t);
    thread_end(t);
    return lost;
}

bool cctx_stop_wait(cctx_callback_t *storage)
{
    struct callback *cb = callback_in(storage);
    if (!cb) return false;
    if (cctx_stop(storage)) return true;
    uint32_t s = sync_load_acq(&cb->state, hook_run);
    if ((s & CALLBACK_RUNNING) && callback_mine(cb)) {          /* from inside fn, at any nesting */
        struct frame *frame = (struct frame *)sync_get(cb->frame);
        /* With another thread waiting the storage is not fn's to give away: the end of fn is still told. */
        frame->gone = !(s & CALLBACK_WAITED) && sync_cas_acqrel(&cb->state, &s, (uint32_t)CALLBACK_IDLE, none, none);
        return false;
    }
    sync_u32 *park = parking_of(cb);
    while (s & (CALLBACK_REGISTERED | CALLBACK_STARTED)) {
        uint32_t seen = sync_load_acq(park, hook_end);
        s = sync_or_acqrel(&cb->state, (uint32_t)CALLBACK_WAITED, none, hook_end);
        if (!(s & (CALLBACK_REGISTERED | CALLBACK_STARTED))) break;
        /* In the child of a fork the thread that ran it, or would have, is gone. */
        if ((s & CALLBACK_STARTED) && sync_load_relaxed(&cb->generation, owned) != thread_generation()) break;
        if (unlikely(callback_lost(cb))) break;
        futex_wait(park, seen, INT64_MAX);
    }
    return false;
}
