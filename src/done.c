/* Layer 4, mechanism. done: a one-shot event word with waiters; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "done.h"
#include "clock.h"
#include "epoch.h"
#include "futex.h"

#ifdef SYNC_SMALL
enum { SPINS = 0 };
#define spin_pause() ((void)0)
#else
enum { SPINS = 16 };            /* of about 40 ns: a tenth of what a park and a wake cost */
static inline void spin_pause(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__ || defined __arm__
    __asm__ volatile("yield" ::: "memory");
#endif
}
#endif

void done_wake(sync_u32 *word)
{
    thread_count_here(COUNT_WAKES, 1);
    futex_wake(word);
    sync_or_acqrel(word, (uint32_t)WOKEN, none, none);
}

bool done_enter(sync_u32 *word)
{
    uint32_t s = sync_load_acq(word, done);
    while (!(s & DONE) && s < DONE_MANY)
        if (sync_cas_acqrel(word, &s, s + DONE_WAITER, none, done)) return true;
    return !(s & DONE);
}

/* Many is for ever, since nobody knows how many. */
void done_leave(sync_u32 *word)
{
    uint32_t s = sync_load_relaxed(word, cas_seed);
    while (!(s & DONE) && s < DONE_MANY)
        if (sync_cas_relaxed(word, &s, s - DONE_WAITER, stat)) return;
}

/* Sleeps until word is done (true) or the time has come. The caller is counted in. */
static bool done_sleep(sync_u32 *word, int64_t until)
{
    for (;;) {
        uint32_t s = sync_load_acq(word, done);
        if (s & DONE) return true;
        if (!futex_wait(word, s, until)) {
            if (sync_load_acq(word, done) & DONE) return true;
            done_leave(word);
            return (sync_load_acq(word, done) & DONE) != 0;
        }
    }
}

bool done_wait(sync_u32 *word, int64_t until)
{
    if (until != INT64_MAX && clock_now() >= until) return (sync_load_acq(word, done) & DONE) != 0;
    for (int i = 0; i < SPINS; i++) {
        if (sync_load_acq(word, done) & DONE) return true;
        spin_pause();
    }
    if (!done_enter(word)) return true;
    thread_count_here(COUNT_PARKED, 1);
    bool done = done_sleep(word, until);
    thread_count_here(COUNT_PARKED, (uintptr_t)-1);
    return done;
}

void done_expose(sync_u32 *word)
{
    if (!(sync_load_relaxed(word, hint) & EXPOSED)) sync_or_acqrel(word, (uint32_t)EXPOSED, none, none);
}
