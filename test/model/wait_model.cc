// wait_model.cc: wait, wake and timeout on the one word of done.c.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: done.c. A lost wake shows as a deadlock; what was written before the flip is seen after the wait.
#include "model.h"
#include "done.c"

static sync_u32 word;
static sync_plain(int) payload;

struct waits : scenario {
    waits(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void flip()
    {
        if (!(sync_load_acq(&word, done) & DONE)) sync_set(payload, 7);
        wake(done_flip(&word, 0));
    }
    void wake(uint32_t old) { if (done_sleepers(old)) done_wake(&word); }
    void wait(int64_t until)
    {
        bool done = done_wait(&word, until);
        RL_ASSERT(done || until != INT64_MAX);
        if (done) RL_ASSERT(sync_get(payload) == 7);
    }
    void after() { RL_ASSERT(sync_load_relaxed(&word, stat) & DONE); }
};
#define WAITS(name, threads, bound) struct name : waits { name() : waits(#name, threads, bound) {}

// D1: the wait ends, and sees what was before the flip.
WAITS(wait_flip, 2, 6)
    void thread(unsigned i) { if (i) wait(INT64_MAX); else flip(); }
} wait_flip;
WAITS(wait_wait_flip, 3, 2)
    void thread(unsigned i) { if (i) wait(INT64_MAX); else flip(); }
} wait_wait_flip;
WAITS(timed_flip, 2, 6)
    void thread(unsigned i) { if (i) wait(5); else flip(); }
} timed_flip;
WAITS(too_late_flip, 2, 6)
    void before() { model_now = 5; }
    void thread(unsigned i) { if (i) wait(5); else flip(); }
} too_late_flip;
// A waiter whose time comes leaves; the other one is still counted.
WAITS(timed_wait_flip, 3, 2)
    void thread(unsigned i)
    {
        if (i == 0) flip();
        else wait(i == 1 ? 5 : INT64_MAX);
    }
} timed_wait_flip;
// With 254 counted already the next ones make it many, which sticks.
WAITS(many_flip, 3, 2)
    void before() { sync_init(&word, 254 * DONE_WAITER); }
    void thread(unsigned i)
    {
        if (i == 0) flip();
        else wait(i == 1 ? 5 : INT64_MAX);
    }
} many_flip;
// The winner wakes, or the loser who finds it unwoken: whoever gets on.
WAITS(wait_flip_flip, 3, 2)
    void before() { sync_set(payload, 7); }
    void thread(unsigned i) { if (i) wake(done_flip(&word, 0)); else wait(INT64_MAX); }
} wait_flip_flip;
// C25: one that sleeps by the address that cctx_done gave out.
WAITS(exposed_flip, 2, 6)
    void thread(unsigned i)
    {
        if (i == 0) {
            flip();
            return;
        }
        done_expose(&word);
        for (uint32_t s; !((s = sync_load_acq(&word, done)) & DONE);) futex_wait(&word, s, INT64_MAX);
        RL_ASSERT(sync_get(payload) == 7);
    }
} exposed_flip;
// D2: no waiter, no system call: the flip's old word says so.
WAITS(nobody, 2, 6)
    bool told;
    void thread(unsigned i)
    {
        if (i == 0) {
            sync_set(payload, 7);
            told = done_sleepers(done_flip(&word, 0));
        } else if (sync_load_acq(&word, done) & DONE) RL_ASSERT(sync_get(payload) == 7);
    }
    void after() { RL_ASSERT(!told); waits::after(); }
} nobody;

int main(int argc, char **argv) { return model_main(argc, argv); }
