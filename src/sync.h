/* Layer 0, words. sync.h: the only file that names a memory order, and the ledger of ordering edges.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * One source, three backends:
 *   (default)     C11 atomics: what ships.
 *   SYNC_RELACY   the sources are compiled as C++ against relacy; each operation is a scheduling point of the
 *                 model checker, stale reads included.
 *   SYNC_SEEDED   C11 atomics on threads of which one runs at a time; a seeded scheduler decides at each operation
 *                 who goes on.
 * With SYNC_SMALL, as always with relacy, batches and chunks are so small that short programs reach every path.
 *
 * An ordered operation names its edge (release half, acquire half) or its handshake (side, and put or get). The
 * names are enumerators, so a misspelled one does not compile, and the model build can weaken one half of one
 * edge by its number (sync_weak): each half, weakened, must make some model fail. A relaxed operation names its
 * reason from a closed list:
 *   hint         a guess that is checked by the operation that matters
 *   stat         a number for people or for sizing
 *   cas_seed     the first value of a compare-and-swap loop, which reads again
 *   unpublished  nobody else can reach the object yet, or any more
 *   owned        the thread owns the right to write it, or it does not change while this thread may read it
 *   alone        the word itself is all that is told: nothing else is read because of it */
#ifndef CCTXI_SYNC_H
#define CCTXI_SYNC_H

#include "base.h"
#include <stdlib.h>

/* Edges: release half -> acquire half.
 *
 * claim     a CAS on a node's cause word -> who finds it claimed, and flips for the claimant
 *           carries    what the cause points to, and the claimant's past
 *           if weaker  a helper publishes a cause that is not written yet
 * done      the flip of a state word; the bit there that tells of a note -> look, wait, walk, the second look of an
 *           attach; who wakes
 *           carries    the cause word, the canceler's past, DONE of the ancestors; the note
 *           if weaker  an error without a cause; a child seen done under a parent seen live; a descriptor that
 *                      nobody writes to
 * slot      the CAS that fills a slot -> the walk's load, the drain of the timer, the CAS that claims or stops
 *           a callback
 *           carries    the fields of the occupant
 *           if weaker  the walk climbs by a wild pointer; the wrong fn is called
 * swept     the store after a subtree was walked -> a losing canceler's load
 *           carries    the flip of each descendant
 *           if weaker  a cancel returns while a descendant reads live
 * empty     the exchange or CAS that empties a slot -> close's load and fetch_or; who finds it empty after a fork
 *           carries    the last touch of the slot's owner, the claim of the callback
 *           if weaker  the owner is freed under the one that leaves
 * last_ref  each drop of a reference, close's count -> the drop that reaches zero
 *           carries    each use of the node
 *           if weaker  it is freed in use
 * family    the CAS that gives a node its family -> walk, attach, stop
 *           carries    the zeroed slots
 *           if weaker  slots are read before they were zeroed
 * chunk     the CAS that pushes a chunk or a roster, or that gives an arena its eyes -> walk, attach; who binds
 *           carries    the zeroed slots, the chunk's stripe
 *           if weaker  as family
 * hook_run  the state's change to SUBMITTED or RUNNING -> the load of a stop_wait; a claim's end -> who looks for it after a fork
 *           carries    runner, frame, generation
 *           if weaker  a call from inside fn is not recognized
 * hook_end  the exchange to FINISHED -> the fetch_or of a stop_wait
 *           carries    all that fn did, the last touch of the callback
 *           if weaker  the caller frees the storage under the runner
 * guard     a guard taken by a callback, or let go of -> its disarm
 *           carries    on which thread it runs; the interrupt's end, the callback that was registered next, its context
 *           if weaker  a disarm from inside of interrupt is not recognized; the handle is reused under the interrupt
 * directory the CAS that pushes a directory, the store that enters a chunk, the dirty bit -> the drain
 *           carries    the zeroed slots
 *           if weaker  as chunk
 * bell      the bell's increment -> the sleeper's load of the bell
 *           carries    the lowered next_wake; the push of a node that a handler canceled; the end of a token
 *           if weaker  the role sleeps by the old one, or with a node left to walk; a token's end is slept through
 * queue     the push of a node on the runner's queue, of a retired object on a home's -> the exchange that takes the queue
 *           carries    link, the pin; the unlink of the object
 *           if weaker  the runner follows a stale link; a reader that begins after the deferral finds the object
 * async     the push of a node that a handler canceled, the note of a debt -> the exchange that takes them
 *           carries    link, the pin, the flip
 *           if weaker  the drain follows a stale link, and misses slots that were filled before the flip
 * notice    a record of the signal handler pushed, filled in, left by a handler, or given back -> the handler's
 *           look at it; who takes it for another
 *           carries    the set of signals, the context; the handler's last touch
 *           if weaker  the handler ends what is not made yet; a context is made under a handler that ends another
 * record    a thread record given back -> the CAS that takes it; a dead process's place in an arena given up ->
 *           who finds it empty
 *           carries    limbo, magazine; the ends of the process's tokens
 *           if weaker  two owners of a single-producer stack; a live token without an owner
 * page      a cell given back to its page -> the exchange that takes the page's cells; the last one back
 *           carries    the last touch of the cell
 *           if weaker  a cell is handed out, or its page freed, under its last user
 * shelf     a page put on its shelf -> the claim of that page
 *           carries    the page's place
 *           if weaker  a page is entered that is not filled in
 * mark      a claim on a shelf that found nothing -> the holder that puts the page there
 *           carries    the mark that the page is whole
 *           if weaker  a page with nothing in use that nobody frees
 * task_end  the step that counts a task out of its group, and the bump of a parking word after it -> who waits for
 *           the end of all, who finds room for one more; their loads of the parking word
 *           carries    all that the task did, the group's error, the last touch of the group
 *           if weaker  the group is freed under a task; a task's results are not seen
 * token     each CAS on the word of an arena's slot -> who looks at it; the store of its deadline -> who reads that and
 *           then looks at the word again
 *           carries    the deadline, the owner's place; the canceler's past; TOLD: the bell was rung; the claim of the
 *           slot's next generation
 *           if weaker  a token without its deadline, or with its successor's; a live process's token taken for a dead
 *           one's */
#define SYNC_EDGES(E) \
    E(claim) E(done) E(slot) E(swept) E(empty) E(last_ref) E(family) E(chunk) E(hook_run) \
    E(hook_end) E(guard) E(directory) E(bell) E(queue) E(async) E(notice) E(record) E(page) E(shelf) E(mark) \
    E(task_end) E(token)

/* Handshakes: two sides, each puts one thing and then gets the other's; seq_cst on all four, so that not both
 * get the old value.
 *
 * attach    A put  the CAS that fills a slot (and before it family, chunk, roster: each a put)
 *           A get  the owner's state; the word of the token that a context is bound to
 *           B put  the flip of the owner's state; the end of a token, before its bell is rung
 *           B get  family, roster, chunks, slots
 *           both old: a live child under a swept parent; a callback that never runs; a token's end that a
 *           context bound to it misses
 * arm       A put  the CAS that fills a timer slot (the roster's, as attach)
 *           A get  the directory's dirty word
 *           B put  the drain's clearing of dirty
 *           B get  the drain's look at the slots
 *           both old: an armed deadline without a dirty bit
 * doze      A put  the dirty bit (or the load that found it set), a lowered next_drain, a new directory
 *           A get  next_wake, next_drain
 *           B put  the raised next_wake, the raised next_drain
 *           B get  the second look at directories, dirty and next_drain; the look at dirty after next_drain is raised
 *           both old: an earlier deadline is slept through
 * handler   A put  a record's count of handlers that are at it
 *           A get  the handler's look at a record's state
 *           B put  the state of a record whose context has died
 *           B get  the count, before the record is another's
 *           both old: a context is made in the memory of another that a handler is about to end
 * No handshakes, since both sides are one word: waiter count, EXPOSED, INNER and DONE; claim and stop of a
 * callback. */
#define SYNC_HANDSHAKES(H) H(attach) H(arm) H(doze) H(handler)

#if defined SYNC_RELACY && !defined SYNC_SMALL
#define SYNC_SMALL
#endif

enum sync_half {
#define E(n) SYNC_rel_##n, SYNC_acq_##n,
#define H(n) SYNC_hs_##n##_a_put, SYNC_hs_##n##_a_get, SYNC_hs_##n##_b_put, SYNC_hs_##n##_b_get,
    SYNC_EDGES(E) SYNC_HANDSHAKES(H) SYNC_COUNT,
#undef E
#undef H
    SYNC_rel_none = -1,
    SYNC_acq_none = -2,
    SYNC_hs_none = -3
};
enum sync_reason {
    SYNC_relaxed_hint, SYNC_relaxed_stat, SYNC_relaxed_cas_seed, SYNC_relaxed_unpublished, SYNC_relaxed_owned,
    SYNC_relaxed_alone
};
/* A relaxed operation is one with no half; the reason is there to be read and to be spelled right. */
#define SYNC_WHY(why) (SYNC_acq_none + 0 * (int)SYNC_relaxed_##why)

#if defined __SANITIZE_THREAD__
#define SYNC_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define SYNC_TSAN 1
#endif
#endif

#if defined SYNC_RELACY /* ------------------------------------------------------------------------ relacy */
#include "sync_model.h"         /* sync_u32 and the others, and sync_order, over relacy */
#define SYNC_LOAD(p, a, h, g)         ((p)->load(sync_order(-1, a, h, g), RL_INFO))
#define SYNC_STORE(p, v, r, h)        ((p)->store((v), sync_order(r, -2, h, -3), RL_INFO))
#define SYNC_SWAP(p, v, r, a, h, g)   ((p)->exchange((v), sync_order(r, a, h, g), RL_INFO))
#define SYNC_ADD(p, v, r, a, h, g)    ((p)->fetch_add((v), sync_order(r, a, h, g), RL_INFO))
#define SYNC_OR(p, v, r, a, h, g)     ((p)->fetch_or((v), sync_order(r, a, h, g), RL_INFO))
#define SYNC_AND(p, v, r, a, h, g)    ((p)->fetch_and((v), sync_order(r, a, h, g), RL_INFO))
#define SYNC_XOR(p, v, r, a, h, g)    ((p)->fetch_xor((v), sync_order(r, a, h, g), RL_INFO))
#define SYNC_CAS(p, e, v, r, a, h, g) ((p)->compare_exchange_strong(*(e), (v), sync_order(r, a, h, g), RL_INFO))
#define sync_plain(T)                 model_var<T>
#define sync_get(x)                   ((x)(RL_INFO).load())
#define sync_set(x, v)                ((x)(RL_INFO).store(v))
#else /* --------------------------------------------------------------------------------------------- C11 */
#include <stdatomic.h>
typedef struct { _Atomic uint16_t raw; } sync_u16;
typedef struct { _Atomic uint32_t raw; } sync_u32;
typedef struct { _Alignas(8) _Atomic uint64_t raw; } sync_u64;      /* gcc for i386 aligns it to 4, where a load may tear */
typedef struct { _Alignas(8) _Atomic int64_t raw; } sync_i64;
typedef struct { _Atomic uintptr_t raw; } sync_ptr;
/* Instructions, never the locks of libatomic. */
__extension__ _Static_assert(__atomic_always_lock_free(2, 0), "sync_u16 is lock-free");
__extension__ _Static_assert(__atomic_always_lock_free(4, 0), "sync_u32 is lock-free");
__extension__ _Static_assert(__atomic_always_lock_free(8, 0), "sync_u64 is lock-free: on i386 that takes an i586");
#ifdef SYNC_SEEDED
#include "seeded.h"
#ifndef SCHED_POINT
#define SCHED_POINT(function, line, p) sched_point(function, line)
#endif
#define SYNC_POINT(p) SCHED_POINT(__func__, __LINE__, p),
#else
#define SYNC_POINT(p)
#endif
#define SYNC_RMW(r, a, h) \
    ((h) >= 0 ? memory_order_seq_cst : (r) >= 0 ? ((a) >= 0 ? memory_order_acq_rel : memory_order_release) \
     : (a) >= 0 ? memory_order_acquire : memory_order_relaxed)
#define SYNC_GET(a, h) ((h) >= 0 ? memory_order_seq_cst : (a) >= 0 ? memory_order_acquire : memory_order_relaxed)
#define SYNC_PUT(r, h) ((h) >= 0 ? memory_order_seq_cst : (r) >= 0 ? memory_order_release : memory_order_relaxed)
#define SYNC_LOAD(p, a, h, g)         (SYNC_POINT(p) atomic_load_explicit(&(p)->raw, SYNC_GET(a, h)))
#define SYNC_STORE(p, v, r, h)        (SYNC_POINT(p) atomic_store_explicit(&(p)->raw, (v), SYNC_PUT(r, h)))
#define SYNC_SWAP(p, v, r, a, h, g)   (SYNC_POINT(p) atomic_exchange_explicit(&(p)->raw, (v), SYNC_RMW(r, a, h)))
#define SYNC_ADD(p, v, r, a, h, g)    (SYNC_POINT(p) atomic_fetch_add_explicit(&(p)->raw, (v), SYNC_RMW(r, a, h)))
#define SYNC_OR(p, v, r, a, h, g)     (SYNC_POINT(p) atomic_fetch_or_explicit(&(p)->raw, (v), SYNC_RMW(r, a, h)))
#define SYNC_AND(p, v, r, a, h, g)    (SYNC_POINT(p) atomic_fetch_and_explicit(&(p)->raw, (v), SYNC_RMW(r, a, h)))
#define SYNC_XOR(p, v, r, a, h, g)    (SYNC_POINT(p) atomic_fetch_xor_explicit(&(p)->raw, (v), SYNC_RMW(r, a, h)))
#define SYNC_CAS(p, e, v, r, a, h, g) \
    (SYNC_POINT(p) atomic_compare_exchange_strong_explicit(&(p)->raw, (e), (v), SYNC_RMW(r, a, h), SYNC_GET(a, h)))
#define sync_plain(T)                 T
#define sync_get(x)                   (x)
#define sync_set(x, v)                ((void)((x) = (v)))
#endif

/* ------------------------------------------------------------------- what the library's sources use
 * sync_plain(T) is a field that threads share without an atomic, under some edge: nothing in C, a variable that
 * is checked for races in the model. */
#define sync_init(p, v)                      SYNC_STORE(p, v, SYNC_rel_none, SYNC_hs_none)
#define sync_load_relaxed(p, why)            SYNC_LOAD(p, SYNC_WHY(why), SYNC_hs_none, SYNC_hs_none)
#define sync_store_relaxed(p, v, why)        SYNC_STORE(p, v, SYNC_rel_none + 0 * SYNC_WHY(why), SYNC_hs_none)
#define sync_add_relaxed(p, v, why)          SYNC_ADD(p, v, SYNC_rel_none, SYNC_WHY(why), SYNC_hs_none, SYNC_hs_none)
#define sync_cas_relaxed(p, e, v, why)       SYNC_CAS(p, e, v, SYNC_rel_none, SYNC_WHY(why), SYNC_hs_none, SYNC_hs_none)
#define sync_load_acq(p, acq)                SYNC_LOAD(p, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_store_rel(p, v, rel)            SYNC_STORE(p, v, SYNC_rel_##rel, SYNC_hs_none)
#define sync_add_acqrel(p, v, rel, acq)      SYNC_ADD(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_or_acqrel(p, v, rel, acq)       SYNC_OR(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_and_acqrel(p, v, rel, acq)      SYNC_AND(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_xor_acqrel(p, v, rel, acq)      SYNC_XOR(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_swap_acqrel(p, v, rel, acq)     SYNC_SWAP(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
#define sync_cas_acqrel(p, e, v, rel, acq)   SYNC_CAS(p, e, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_none, SYNC_hs_none)
/* Adds to a number for people that this thread alone writes: one plain instruction where the machine has one. No point
 * for a scheduler, and nothing in the model. */
#if defined SYNC_RELACY
#define sync_count(p, n) ((void)(p), (void)(n))
#elif defined __x86_64__ && defined __LP64__ && !defined SYNC_TSAN
static inline void sync_count(sync_ptr *p, uintptr_t n)
{
    __asm__ volatile("addq %1, %0" : "+m"(*(uintptr_t *)(void *)p) : "er"(n) : "cc");
}
#else
static inline void sync_count(sync_ptr *p, uintptr_t n)
{
    atomic_store_explicit(&p->raw, atomic_load_explicit(&p->raw, memory_order_relaxed) + n, memory_order_relaxed);
}
#endif
/* The four positions of a handshake; they may serve edges too. sync_…_hs2 serves two handshakes at once. */
#define sync_load_hs(p, hs, side, acq)              SYNC_LOAD(p, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_get, SYNC_hs_none)
#define sync_load_hs2(p, get, put, side, acq)       SYNC_LOAD(p, SYNC_acq_##acq, SYNC_hs_##get##_##side##_get, SYNC_hs_##put##_##side##_put)
#define sync_store_hs(p, v, hs, side, rel)          SYNC_STORE(p, v, SYNC_rel_##rel, SYNC_hs_##hs##_##side##_put)
#define sync_cas_hs(p, e, v, hs, side, rel, acq)    SYNC_CAS(p, e, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_put, SYNC_hs_none)
#define sync_cas_hs2(p, e, v, hs, also, side, rel, acq) \
    SYNC_CAS(p, e, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_put, SYNC_hs_##also##_##side##_put)
#define sync_add_hs(p, v, hs, side, rel, acq)       SYNC_ADD(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_put, SYNC_hs_none)
#define sync_or_hs(p, v, hs, side, rel, acq)        SYNC_OR(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_put, SYNC_hs_none)
#define sync_or_hs2(p, v, get, put, side, rel, acq) SYNC_OR(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##get##_##side##_get, SYNC_hs_##put##_##side##_put)
#define sync_and_hs(p, v, hs, side, rel, acq)       SYNC_AND(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##hs##_##side##_get, SYNC_hs_none)
#define sync_swap_hs2(p, v, put, get, side, rel, acq) SYNC_SWAP(p, v, SYNC_rel_##rel, SYNC_acq_##acq, SYNC_hs_##put##_##side##_put, SYNC_hs_##get##_##side##_get)

#endif
