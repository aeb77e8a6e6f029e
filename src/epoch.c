/* Layer 3, mechanism. epoch: the only room that knows ConcurrencyKit.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * ck_epoch as of 0.7.1 reclaims too early unless its user keeps these rules; each is kept here:
 *
 *   1. The unlink is globally visible before the deferral reads the epoch: on x86 the exchange that unlinked is a
 *      full fence; elsewhere epoch_retire has one.
 *   2. The loads of a section come after it has read the epoch: an acquire fence after begin where the machine is
 *      not TSO.
 *   3. A reclamation comes after the readers' last loads: an acquire fence at its head.
 *   4. A record is never unregistered, since that drops its deferrals in silence: it is recycled with its limbo by
 *      a word of our own.
 *   5. Deferrals are polled for outside sections, with the list variant, and never from inside a reclamation.
 *   6. ThreadSanitizer cannot see CK's inline assembly: a release before each leave and an acquire before each
 *      reclamation tell it what the grace period orders. */
#include "epoch.h"
#include "alloc.h"

#include <ck_epoch.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#ifdef SYNC_TSAN
void __tsan_acquire(void *token);
void __tsan_release(void *token);
static char grace;
#define GRACE_RELEASE() __tsan_release(&grace)
#define GRACE_ACQUIRE() __tsan_acquire(&grace)
#else
#define GRACE_RELEASE() ((void)0)
#define GRACE_ACQUIRE() ((void)0)
#endif

#ifdef SYNC_SMALL
enum { RESERVE = 1 };
#else
enum { RESERVE = 8 };           /* records for calls that can get none of their own */
#endif
enum {
    POLL_EVERY_MANY = 8 * EPOCH_HEAVY,  /* in place of EPOCH_HEAVY with more than MANY records: a poll reads them all */
    MANY = 256,
    BATCHES = 4                 /* a grace period takes three polls where nobody is in a section */
};

/* What CK defers: all that a thread retired between two polls, as one chain. */
struct batch {
    ck_epoch_entry_t entry;
    struct epoch_link *first;   /* NULL: not in use */
};

struct record {
    struct thread thread;       /* first: a struct thread is its record */
    sync_u32 limbo;             /* retired and not reclaimed; the owner writes, others read a guess */
    struct epoch_link *chain;   /* retired since the last poll, or since there was a batch free: newest first */
    struct batch batch[BATCHES];
    sync_ptr inbox;             /* of a home: retired and not in its chain; push one, take all */
    sync_u32 polled;            /* of a home: a thread polls for it, and owns all but the inbox */
    bool home;                  /* in use as one */
    ck_epoch_record_t ck;       /* at a line of its own */
    sync_u32 in_use;            /* 1: a thread owns all of this. With next, what other threads read at each poll */
    struct record *next;        /* constant after the push */
};

_Thread_local struct thread *thread_current;
static _Thread_local bool exiting;      /* this thread's destructor ran: no record of its own any more */

static ck_epoch_t epoch;
static sync_ptr records;                /* push-only */
static sync_u32 record_count;
static struct record reserve[RESERVE];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;
static sync_ptr apart[COUNTS];          /* what threads count that have no record */
static unsigned generation;             /* written in the child of a fork alone, while it has one thread */

unsigned thread_generation(void) { return generation; }

static struct record *record_of(struct thread *t) { return (struct record *)(void *)t; }

static void record_push(struct record *r)
{
    r->thread.ordinal = sync_add_relaxed(&record_count, 1u, stat);
    ck_epoch_register(&epoch, &r->ck, NULL);
    uintptr_t head = sync_load_relaxed(&records, cas_seed);
    do r->next = (struct record *)head;
    while (!sync_cas_acqrel(&records, &head, (uintptr_t)r, record, none));
}

static bool record_claim(struct record *r)
{
    uint32_t idle = 0;
    return sync_load_relaxed(&r->in_use, hint) == 0 && sync_cas_acqrel(&r->in_use, &idle, 1u, none, record);
}

static void record_release(struct record *r)
{
    cell_drain(&r->thread.cells);
    sync_store_rel(&r->in_use, 0u, record);
}

static bool is_reserve(struct record *r) { return (uintptr_t)r - (uintptr_t)reserve < sizeof reserve; }

/* A recycled record, a new one, or NULL without memory. */
static struct record *record_take(void)
{
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        if (!is_reserve(r) && record_claim(r)) return r;
    struct record *r = (struct record *)alloc_get_aligned(CACHE_LINE, sizeof *r);
    if (!r) return NULL;
    sync_init(&r->in_use, 1u);
    record_push(r);
    return r;
}

static struct record *reserve_take(void)
{
    for (;;) {                  /* taken for one call each, so one comes free */
        for (unsigned i = 0; i < RESERVE; i++)
            if (record_claim(&reserve[i])) return &reserve[i];
        sched_yield();
    }
}

/* Runs at thread exit, before or after other keys' destructors: a later call of this thread finds exiting set. */
static void thread_exit(void *arg)
{
    struct record *r = (struct record *)arg;
    exiting = true;
    epoch_poll(&r->thread);
    thread_current = NULL;
    record_release(r);
}

/* The child of a fork has one thread: the records of all others are nobody's, and no section of theirs is open. Their
 * magazines and lists may have been in the middle of a change, so what is in them is given up: a constant per thread
 * that died, and what it had retired. */
static void forked(void)
{
    generation++;
    sync_store_relaxed(&apart[COUNT_PARKED], (uintptr_t)0, owned);
    struct record *mine = thread_current ? record_of(thread_current) : NULL;
    for (struct record *r = (struct record *)sync_load_relaxed(&records, owned); r; r = r->next) {
        bool home = r->home;            /* which is the child's, too; whole, unless somebody polled for it */
        if (r == mine || (home && sync_load_relaxed(&r->polled, owned) == 0)) continue;
        r->ck.active = 0;
        for (unsigned i = 0; i < CK_EPOCH_LENGTH; i++) ck_stack_init(&r->ck.pending[i]);
        for (unsigned i = 0; i < BATCHES; i++) r->batch[i].first = NULL;
        r->chain = NULL;
        sync_store_relaxed(&r->limbo, 0u, owned);
        r->thread.cells.count = 0;
        r->thread.retired = 0;
        r->thread.inside = false;
        r->thread.transient = 0;
        sync_store_relaxed(&r->thread.claim, (uintptr_t)0, owned);
        sync_store_relaxed(&r->thread.count[COUNT_PARKED], (uintptr_t)0, owned);
        sync_store_relaxed(&r->polled, 0u, owned);
        sync_store_relaxed(&r->in_use, home ? 1u : 0u, owned);
    }
    epoch_child();
}

static void setup(void)
{
    /* Anew: a fork in the middle of this leaves the child to do it again. */
    sync_init(&records, (uintptr_t)0);
    sync_init(&record_count, 0u);
    ck_epoch_init(&epoch);
    for (unsigned i = 0; i < RESERVE; i++) record_push(&reserve[i]);
    have_key = pthread_key_create(&key, thread_exit) == 0;
    pthread_atfork(NULL, NULL, forked);
}

struct thread *thread_begin_slow(void)
{
    struct thread *t = thread_current;
    if (t) {                    /* a nested call on a transient record */
        t->transient++;
        return t;
    }
    int saved = errno;
    pthread_once(&once, setup);
    struct record *r = record_take();
    if (!r) r = reserve_take();
    if (is_reserve(r) || exiting || !have_key || pthread_setspecific(key, r) != 0) r->thread.transient = 1;
    errno = saved;
    return thread_current = &r->thread;
}

void thread_end_slow(struct thread *t)
{
    if (--t->transient > 0) return;
    epoch_poll(t);
    thread_current = NULL;
    record_release(record_of(t));
}

void thread_claim(struct thread *t, const void *what) { sync_store_rel(&t->claim, (uintptr_t)what, hook_run); }

bool thread_claimed(const void *what)
{
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        if (sync_load_acq(&r->thread.claim, hook_run) == (uintptr_t)what) return true;
    return false;
}

void thread_count_apart(unsigned which, uintptr_t n) { sync_add_relaxed(&apart[which], n, stat); }

uintptr_t thread_counted(unsigned which)
{
    uintptr_t sum = sync_load_relaxed(&apart[which], stat);
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        sum += sync_load_relaxed(&r->thread.count[which], stat);
    return sum;
}

uintptr_t thread_counted_freed(unsigned kind)
{
    uintptr_t sum = 0;
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        sum += sync_load_relaxed(&r->thread.freed[kind], stat);
    return sum;
}

unsigned thread_records(void)
{
    unsigned n = sync_load_relaxed(&record_count, stat);
    return n > RESERVE ? n - RESERVE : 0;
}

void epoch_enter(struct thread *t)
{
    struct record *r = record_of(t);
    if (CCTX_CHECK && t->inside) __builtin_trap();
    t->inside = true;
    ck_epoch_begin(&r->ck, NULL);
#ifndef CK_MD_TSO
    ck_pr_fence_load();
#endif
}

void epoch_leave(struct thread *t)
{
    struct record *r = record_of(t);
    GRACE_RELEASE();
    ck_epoch_end(&r->ck, NULL);
    t->inside = false;
}

void epoch_retire(struct thread *t, struct epoch_link *link, void (*reclaim)(struct epoch_link *link), unsigned weight)
{
    struct record *r = record_of(t);
    sync_store_relaxed(&r->limbo, sync_load_relaxed(&r->limbo, stat) + 1, stat);
    link->next = r->chain;
    link->reclaim = reclaim;
    r->chain = link;
    t->retired += weight;
    if (unlikely(t->retired >= EPOCH_HEAVY) &&
        t->retired >= (sync_load_relaxed(&record_count, stat) > MANY ? POLL_EVERY_MANY : EPOCH_HEAVY))
        epoch_poll(t);
}

/* Returns how many there were. */
static uint32_t batch_reclaim(struct batch *b)
{
    uint32_t count = 0;
    struct epoch_link *link = b->first;
    for (b->first = NULL; link; count++) {
        struct epoch_link *next = link->next;
        link->reclaim(link);
        link = next;
    }
    return count;
}

/* Hands the chain over to CK. With all batches in limbo it stays where it is until a poll finds one free. */
static void chain_defer(struct record *r)
{
    struct batch *b = r->batch;
    while (b->first)
        if (++b == r->batch + BATCHES) return;
    b->first = r->chain;
    r->chain = NULL;
#ifndef CK_MD_TSO
    ck_pr_fence_memory();
#endif
    ck_epoch_call(&r->ck, &b->entry, NULL);        /* no function: record_poll knows what it is */
}

/* The caller owns r. */
static void record_poll(struct record *r)
{
    ck_stack_t ripe = CK_STACK_INITIALIZER;
    if (sync_load_relaxed(&r->limbo, stat) == 0) return;
    if (r->chain) chain_defer(r);
    ck_epoch_poll_deferred(&r->ck, &ripe);
    ck_pr_fence_acquire();
    GRACE_ACQUIRE();
    uint32_t count = 0;
    for (ck_stack_entry_t *e = CK_STACK_FIRST(&ripe), *next; e; e = next) {
        next = CK_STACK_NEXT(e);
        count += batch_reclaim(container_of(e, struct batch, entry.stack_entry));
    }
    sync_store_relaxed(&r->limbo, sync_load_relaxed(&r->limbo, stat) - count, stat);
}

void epoch_poll(struct thread *t)
{
    struct record *mine = record_of(t);
    t->retired = 0;
    record_poll(mine);
    /* One record that a thread left behind with limbo is emptied on the way, so that none waits for ever. */
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        if (sync_load_relaxed(&r->in_use, hint) == 0 && sync_load_relaxed(&r->limbo, hint) > 0 && record_claim(r)) {
            record_poll(r);
            record_release(r);
            return;
        }
}

void epoch_rest(struct thread *t)
{
    struct record *r = record_of(t);
    for (int i = 0; i < BATCHES && sync_load_relaxed(&r->limbo, stat) > 0; i++) epoch_poll(t);
}

/* ------------------------------------------------------------------------------------------------- homes */

static struct record *record_in(struct home *h) { return (struct record *)(void *)h; }

struct home *home_take(void)
{
    struct record *r = record_take();
    if (!r) return NULL;
    sync_init(&r->inbox, (uintptr_t)0);
    sync_init(&r->polled, 0u);
    r->home = true;
    return (struct home *)(void *)r;
}

void home_give(struct home *h)
{
    record_in(h)->home = false;
    record_release(record_in(h));
}

void home_retire(struct home *h, struct epoch_link *link, void (*reclaim)(struct epoch_link *link))
{
    struct record *r = record_in(h);
    link->reclaim = reclaim;
    uintptr_t head = sync_load_relaxed(&r->inbox, cas_seed);
    do link->next = (struct epoch_link *)head;
    while (!sync_cas_acqrel(&r->inbox, &head, (uintptr_t)link, queue, none));
}

bool home_poll(struct home *h)
{
    struct record *r = record_in(h);
    uint32_t idle = 0;
    if (!sync_cas_acqrel(&r->polled, &idle, 1u, none, record)) return false;
    struct epoch_link *link = (struct epoch_link *)sync_swap_acqrel(&r->inbox, (uintptr_t)0, none, queue);
    uint32_t limbo = sync_load_relaxed(&r->limbo, stat);
    for (struct epoch_link *next; link; link = next, limbo++) {
        next = link->next;
        link->next = r->chain;
        r->chain = link;
    }
    sync_store_relaxed(&r->limbo, limbo, stat);
    record_poll(r);
    bool empty = sync_load_relaxed(&r->limbo, stat) == 0 && sync_load_relaxed(&r->inbox, hint) == 0;
    sync_store_rel(&r->polled, 0u, record);
    return empty;
}

unsigned epoch_limbo(void)
{
    unsigned sum = 0;
    for (struct record *r = (struct record *)sync_load_acq(&records, record); r; r = r->next)
        sum += sync_load_relaxed(&r->limbo, stat);
    return sum;
}
