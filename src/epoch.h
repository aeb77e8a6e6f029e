/* Layer 3, mechanism. epoch: sections that keep memory, retirement, and a record per thread.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Epoch-based reclamation is Keir Fraser's (Practical Lock-Freedom, 2004), here ConcurrencyKit's ck_epoch behind
 * an adapter of four verbs. Claims:
 *
 *   E1  What is retired is reclaimed after each section that was open at the retirement has been left.
 *   E2  Retiring allocates nothing and cannot fail.
 *   E3  Nothing retired is lost when its thread exits: the record and its limbo pass to the next thread that polls.
 *       (In the child of a fork, what the parent's other threads had retired is given up.)
 *   E4  Sections do not nest, and hold no system call, no user code and no allocation. */
#ifndef CCTXI_EPOCH_H
#define CCTXI_EPOCH_H

#include "cell.h"
#include "sync.h"

/* Two words inside what is retired, unused by readers from then on. */
struct epoch_link {
    struct epoch_link *next;
    void (*reclaim)(struct epoch_link *link);
};

/* Numbers for people. Each thread writes its own, in its record; what they say is a sum over all records. Of a context
 * one thread counts the making and another one the end, so a single record's numbers mean nothing. */
enum thread_count {
    COUNT_DONE,                 /* flips that were won */
    COUNT_FIRED,                /* those by a deadline */
    COUNT_CALLBACKS,            /* callbacks begun */
    COUNT_WAKES,
    COUNT_PARKED,               /* waits that sleep now */
    COUNT_MADE,                 /* by the kind of the context */
    COUNT_KINDS = 16,
    COUNTS = COUNT_MADE + COUNT_KINDS
};

struct thread {                 /* what the library keeps per thread; recycled, never freed */
    struct magazine cells;
    unsigned ordinal;           /* 0, 1, …: picks a stripe. Its thread may move on to the next */
    unsigned transient;         /* calls in progress on a record that is taken for one call; else 0 */
    unsigned retired;           /* since the last poll */
    bool inside;                /* in a section */
    sync_ptr claim;             /* see thread_claim; the owner writes, others read */
    sync_ptr count[COUNTS];     /* the owner writes, others read; kept when the record is recycled */
    sync_ptr freed[COUNT_KINDS];        /* likewise */
};

extern _Thread_local struct thread *thread_current;
struct thread *thread_begin_slow(void);
void thread_end_slow(struct thread *t);

/* Each public call that needs the record takes it first and lets go of it last; calls may nest. Never NULL: without
 * memory, and after the thread's own destructor ran, a reserve record serves for the one call. */
static inline struct thread *thread_begin(void)
{
    struct thread *t = thread_current;
    if (likely(t != NULL && t->transient == 0)) return t;
    return thread_begin_slow();
}

static inline void thread_end(struct thread *t)
{
    if (unlikely(t->transient != 0)) thread_end_slow(t);
}

static inline void thread_count(struct thread *t, unsigned which, uintptr_t n) { sync_count(&t->count[which], n); }
static inline void thread_count_freed(struct thread *t, size_t kind) 
{
    sync_count((sync_ptr *)(void *)((char *)t->freed + kind * sizeof(sync_ptr)), 1);
}
/* The same for the calling thread, which need not have a record. Async-signal-safe. */
#ifdef SYNC_RELACY
#define thread_count_here(which, n) ((void)(which), (void)(n))
#else
void thread_count_apart(unsigned which, uintptr_t n);
static inline void thread_count_here(unsigned which, uintptr_t n)
{
    struct thread *t = thread_current;
    if (likely(t != NULL)) thread_count(t, which, n);
    else thread_count_apart(which, n);
}
#endif
/* The sum over all threads, those that are gone included. */
uintptr_t thread_counted(unsigned which);
uintptr_t thread_counted_freed(unsigned kind);
/* How many records there are: the most threads that had one at a time. */
unsigned thread_records(void);

/* How often this process image is the child of a fork: tells what died with the parent's other threads. */
unsigned thread_generation(void);

/* What the rooms above have to do in the child of a fork, before any call of the program's there; defined by them. */
void epoch_child(void);

/* Tells what t's thread is taking over, until it tells of nothing (NULL); in the child of a fork the claims of threads
 * that are gone are off. Ordering: what came before a claim went off is seen by who sees it off (edge hook_run). */
void thread_claim(struct thread *t, const void *what);
bool thread_claimed(const void *what);

void epoch_enter(struct thread *t);
void epoch_leave(struct thread *t);

/* Hands link's object to reclaim(link) after a grace period, on whatever thread polls then, outside sections.
 * The object is unreachable for new sections: the last unlink was a locked read-modify-write. weight is how many
 * small objects it counts for: once EPOCH_HEAVY is retired, the thread polls. Outside sections. */
#ifdef SYNC_SMALL
enum { EPOCH_HEAVY = 3 };
#else
enum { EPOCH_HEAVY = 128 };     /* half a magazine: what a poll brings back finds room there */
#endif
void epoch_retire(struct thread *t, struct epoch_link *link, void (*reclaim)(struct epoch_link *link), unsigned weight);

/* Reclaims what can be reclaimed now; else it happens once in EPOCH_HEAVY retirements. Outside sections. */
void epoch_poll(struct thread *t);

/* A home takes what many threads retire for one owner, who can so wait until all of it is reclaimed: it is a record
 * that no thread has, with a list to which anybody adds. */
struct home;
/* NULL without memory. */
struct home *home_take(void);
/* As epoch_retire, but for the poll, which is the caller's: after EPOCH_HEAVY retirements, say. */
void home_retire(struct home *h, struct epoch_link *link, void (*reclaim)(struct epoch_link *link));
/* As epoch_poll, for what is in h; one thread at a time. True: nothing was left. */
bool home_poll(struct home *h);
/* Nothing is left in h, and nobody uses it any more. */
void home_give(struct home *h);

/* The same for a thread that will sleep for long: as often as a grace period takes where nobody is in a section. */
void epoch_rest(struct thread *t);

/* What waits for reclamation in all records: for tests and statistics. */
unsigned epoch_limbo(void);

#endif
