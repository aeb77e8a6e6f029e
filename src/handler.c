/* Layer 6, mechanism. handler: one signal handler, and who is told of which signals; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "handler.h"
#include "alloc.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>

enum state {
    FREE,                       /* anybody's, once no handler is at it that might have seen it told */
    HELD,                       /* somebody's, told of nothing */
    FRESH,                      /* told; handler_add has not returned: to the child of a fork it is HELD */
    TOLD
};

struct record {
#ifdef SYNC_RELACY
    sync_plain(int) memory;
#else
    _Alignas(CACHE_LINE) unsigned char memory[HANDLER_ROOM];    /* first: it has the record's address */
#endif
    sync_u32 state;
    sync_u32 visitors;          /* handlers that are at it */
    sync_u32 owed;              /* how often tell said yes and nobody has settled it */
    sync_plain(uint64_t) signals;               /* of one that is told */
    sync_plain(const struct handler_ops *) ops;
    struct record *next;        /* constant after the push */
};

static sync_ptr records;        /* push-only */

#ifdef SYNC_RELACY
#include "handler_model.h"      /* objects with constructors; signals have no actions */
#else
static struct record *record_new(void) { return (struct record *)alloc_get_aligned(CACHE_LINE, sizeof(struct record)); }
#endif
static struct record *record_of(void *who) { return (struct record *)who; }
static struct record *record_first(void) { return (struct record *)sync_load_acq(&records, notice); }
static uint64_t bit_of(int sig) { return (uint64_t)1 << (sig - 1); }

/* -------------------------------------------------------------------------------------------- the handler */

static void on_signal(int sig)
{
    int saved = errno;
    const struct handler_ops *told = NULL;
    for (struct record *r = record_first(); r; r = r->next) {
        if (sync_load_relaxed(&r->state, hint) < FRESH) continue;
        sync_add_hs(&r->visitors, 1u, handler, a, none, none);
        bool asks = sync_load_hs(&r->state, handler, a, notice) >= FRESH && (sync_get(r->signals) & bit_of(sig));
        if (asks && sync_get(r->ops)->tell(r, sig)) {
            told = sync_get(r->ops);
            sync_add_acqrel(&r->owed, 1u, async, none);
        }
        sync_add_acqrel(&r->visitors, UINT32_MAX, notice, none);
    }
    if (told) told->told();
    errno = saved;
}

void handler_settle(void (*settle)(void *who, uint32_t times))
{
    for (struct record *r = record_first(); r; r = r->next) {
        uint32_t times = sync_swap_acqrel(&r->owed, 0u, none, async);
        if (times > 0) settle(r, times);
    }
}

/* -------------------------------------------------------------------------------------------- the records */

static struct record *record_take(void)
{
    for (struct record *r = record_first(); r; r = r->next) {
        uint32_t free = FREE;
        if (sync_load_relaxed(&r->state, hint) != FREE) continue;
        if (!sync_cas_acqrel(&r->state, &free, (uint32_t)HELD, none, notice)) continue;
        /* After it is taken: a handler that comes later finds it told of nothing, and it is nobody else's meanwhile. */
        if (sync_load_hs(&r->visitors, handler, b, notice) == 0) return r;
        sync_store_rel(&r->state, (uint32_t)FREE, notice);
    }
    struct record *r = record_new();
    if (!r) return NULL;
    sync_init(&r->state, (uint32_t)HELD);
    uintptr_t head = sync_load_relaxed(&records, cas_seed);
    do r->next = (struct record *)head;
    while (!sync_cas_acqrel(&records, &head, (uintptr_t)r, notice, none));
    return r;
}

/* -------------------------------------------------------------------------------------------- the actions */

#ifndef SYNC_RELACY
_Static_assert(NSIG - 1 <= HANDLER_SIGNALS, "a bit for each signal");

/* The signals that are asked for, by those whose state is at least `least`. */
static uint64_t wanted(uint32_t least)
{
    uint64_t all = 0;
    for (struct record *r = record_first(); r; r = r->next)
        if (sync_load_acq(&r->state, notice) >= least) all |= sync_get(r->signals);
    return all;
}

/* The actions. In the child of a fork at any instant: `ours` has each signal that has this handler as its action, and
 * each one in it has `before` filled in. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sync_u64 ours;
static struct sigaction before[HANDLER_SIGNALS + 1];

/* All but those that an instruction causes: the kernel ends a process that has one of them blocked. */
static sigset_t most_signals(void)
{
    static const int caused[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof caused / sizeof *caused; i++) sigdelset(&set, caused[i]);
    return set;
}

static bool is_ours(int sig, struct sigaction *now)
{
    sigaction(sig, NULL, now);
    return now->sa_handler == on_signal;
}

static void action_set(int sig)
{
    struct sigaction now, mine = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    mine.sa_mask = most_signals();      /* no handler of the program's comes between and forks: see forked */
    if (is_ours(sig, &now)) return;
    sync_and_acqrel(&ours, ~bit_of(sig), notice, notice);
    before[sig] = now;
    sync_or_acqrel(&ours, bit_of(sig), notice, none);
    sigaction(sig, &mine, NULL);
}

static void actions_restore(uint64_t signals)
{
    struct sigaction now;
    for (uint64_t left = signals & sync_load_relaxed(&ours, owned); left; left &= left - 1) {
        int sig = __builtin_ctzll(left) + 1;
        if (is_ours(sig, &now)) sigaction(sig, &before[sig], NULL);
        sync_and_acqrel(&ours, ~bit_of(sig), none, none);
    }
}

static void enter(sigset_t *mask)
{
    sigset_t all = most_signals();
    pthread_sigmask(SIG_SETMASK, &all, mask);
    pthread_mutex_lock(&lock);
}

static void leave(const sigset_t *mask)
{
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* Whoever had the lock is gone, and what it was about to add, too. What it was about to restore is restored here. */
static void forked(void)
{
    pthread_mutex_init(&lock, NULL);
    for (struct record *r = record_first(); r; r = r->next) {
        sync_store_relaxed(&r->visitors, 0u, owned);
        if (sync_load_relaxed(&r->state, owned) == FRESH) sync_store_relaxed(&r->state, (uint32_t)HELD, owned);
    }
    actions_restore(~wanted(TOLD));
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void setup(void) { pthread_atfork(NULL, NULL, forked); }

bool handler_takes(int sig)
{
    struct sigaction now;
    return sig != SIGKILL && sig != SIGSTOP && sigaction(sig, NULL, &now) == 0;
}

#endif

/* -------------------------------------------------------------------------------------------- who is told */

void *handler_get(const struct handler_ops *ops)
{
    int saved = errno;
    pthread_once(&once, setup);
    errno = saved;
    struct record *r = record_take();
    if (r) sync_set(r->ops, ops);
    return r;
}

uint64_t handler_signals(void *who) { return sync_get(record_of(who)->signals); }

void handler_add(void *who, uint64_t signals)
{
    struct record *r = record_of(who);
    int saved = errno;
    sigset_t mask;
    enter(&mask);
    sync_set(r->signals, signals);
    sync_store_rel(&r->state, (uint32_t)FRESH, notice);         /* first: no signal meets the handler and finds nobody */
    for (uint64_t left = signals; left; left &= left - 1) action_set(__builtin_ctzll(left) + 1);
    sync_add_relaxed(&r->state, (uint32_t)(TOLD - FRESH), owned);
    leave(&mask);
    errno = saved;
}

void handler_remove(void *who)
{
    struct record *r = record_of(who);
    int saved = errno;
    sigset_t mask;
    enter(&mask);
    sync_store_hs(&r->state, (uint32_t)HELD, handler, b, none);
    actions_restore(sync_get(r->signals) & ~wanted(FRESH));
    leave(&mask);
    errno = saved;
}

void handler_put(void *who) { sync_store_rel(&record_of(who)->state, (uint32_t)FREE, notice); }
