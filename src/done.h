/* Layer 4, mechanism. done: a one-shot event word with waiters; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The word is live, then done, for ever: one compare-and-swap (done_flip) decides. The waiters are counted in the
 * same word, so the winner learns from the old value whether anybody sleeps, and there is no second location to
 * race with. The rules of each bit are one-sided:
 *
 *   DONE      never cleared; set by done_flip and done_flip_sig alone.
 *   TIMEDOUT  final once DONE is set; set by the same compare-and-swap. With DONE it is the frozen ABI.
 *   EXPOSED   legal with nobody waiting; illegal to be clear once the word's address was given out.
 *   WOKEN     legal to be clear after a wake; illegal to be set before FUTEX_WAKE has returned.
 *   waiters   threads between done_enter and done_leave; 255 is "many" and sticks; meaningless once DONE is set.
 *   the rest  belong to the word's owner; done_flip may set some of them with DONE.
 *
 *   D1  A thread in done_wait returns once the word is done: its count came before the flip, which then wakes, or
 *       after, and then it sees DONE.
 *   D2  A flip of a word with no waiters that is not EXPOSED makes no system call. */
#ifndef CCTXI_DONE_H
#define CCTXI_DONE_H

#include "sync.h"

enum {
    DONE = 1u << 0,
    TIMEDOUT = 1u << 1,
    EXPOSED = 1u << 4,
    WOKEN = 1u << 7
};
#define DONE_WAITER     (1u << 24)
#define DONE_MANY       (255u << 24)

/* Flips word to done with bits; true: the caller won. *old is the old word, with DONE clear in it if so. Lock-free.
 * Ordering: release and acquire (edge done), and side B of the handshake attach. */
static inline bool done_win(sync_u32 *word, uint32_t bits, uint32_t *old)
{
    uint32_t s = sync_load_acq(word, done);
    while (!(s & DONE))
        if (sync_cas_hs(word, &s, s | DONE | bits, attach, b, done, done)) {
            *old = s;
            return true;
        }
    *old = s;
    return false;
}
static inline uint32_t done_flip(sync_u32 *word, uint32_t bits)
{
    uint32_t old;
    done_win(word, bits, &old);
    return old;
}

/* The same for a signal handler: one step, and no bit but DONE. */
static inline uint32_t done_flip_sig(sync_u32 *word)
{
    return sync_or_hs(word, (uint32_t)DONE, attach, b, done, done);
}

/* Does a thread that saw old have somebody to wake? */
static inline bool done_sleepers(uint32_t old)
{
    return (old >= DONE_WAITER || (old & EXPOSED)) && !(old & WOKEN);
}

/* Wakes all that sleep on word, which is done. The caller keeps the word's memory alive. */
void done_wake(sync_u32 *word);

/* Parks until word is done (true), or until the time has come (false). Spins a few hundred nanoseconds first. */
bool done_wait(sync_u32 *word, int64_t until);

/* For who sleeps on several words: counts the caller in, false if word is done; counts it out, where its sleep ended by
 * something else. In between it sleeps by a value of the word that it has read since. */
bool done_enter(sync_u32 *word);
void done_leave(sync_u32 *word);

/* From now on somebody the library cannot know of may sleep on word. */
void done_expose(sync_u32 *word);

#endif
