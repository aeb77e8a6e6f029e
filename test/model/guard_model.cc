// guard_model.cc: guards: armed, fired, fired again by the runner, disarmed, in storage that is their caller's.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as callback_model.cc, and guard.c. A deadline of the guard's own comes when a scenario says so.
#define TREE_MODEL_TIMER
#include "model.h"
#include "roster.c"
#include "node.c"
#include "done.c"
#include "async.c"
#include "callback.c"
#include "cancel.c"
#include "derive.c"
#undef alloc_get
#undef alloc_get_aligned
#include "handle.c"
#include "tree_model.h"

/* The timer: it holds what it is to fire, and lets go of it when the execution is over. */
enum { TIMERS = 8 };
static sync_ptr armed[TIMERS];
static int timers, refused;     /* no memory for so many */
static cctx_t *timer_context(int64_t until)
{
    if (until < CCTX_NEVER - 1 && refused > 0) {
        refused--;
        return NULL;
    }
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    if (until == CCTX_NEVER - 1) return ctx;
    cctx_ref(ctx);
    armed[timers++].store((uintptr_t)ctx, rl::mo_release, RL_INFO);
    return ctx;
}
#define cctx_with_deadline(parent, until) timer_context(until)
void timer_disarm(sync_ptr *) { abort(); }
void timer_ring(struct timer *) {}
int deadline_arm(struct thread *, struct cctx *, int64_t) { abort(); }
static void timer_fires(int i)
{
    cctx_t *ctx = (cctx_t *)armed[i].load(rl::mo_acquire, RL_INFO);
    if (ctx) cancel_deadline(ctx);
}
#include "guard.c"

struct handle {
    guard storage;
    sync_plain(int) uses;
    cctx_guard_t *at() { return (cctx_guard_t *)(void *)&storage; }
};
static int interrupts, disarm_at;       /* interrupt disarms, and frees all, when it comes so often */
static handle *h;

static void disarm()
{
    cctx_guard_disarm(h->at());
    sync_set(h->uses, -1);
    model_free(h);
    h = NULL;
}
static void interrupt(void *arg)
{
    handle *mine = (handle *)arg;
    sync_set(mine->uses, sync_get(mine->uses) + 1);
    if (++interrupts == disarm_at) disarm();
}

struct guards : scenario {
    cctx_t *root;
    guards(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void arm() { RL_ASSERT(cctx_guard_arm(h->at(), root, interrupt, h) == 0); }
    void run() { queue_run(thread_current); }
    void before()
    {
        timers = refused = interrupts = disarm_at = 0;
        root = cctx_with_cancel(cctx_background());
        h = model_make<handle>();
        sync_set(h->uses, 0);
    }
    /* So far: armed, canceled, interrupted once; the runner has the next in hand. */
    void before_beat()
    {
        guards::before();
        arm();
        cctx_cancel(root);
        run();
        RL_ASSERT(interrupts == 1 && timers == 1);
    }
    void before_due()
    {
        before_beat();
        timer_fires(0);
    }
    void after()
    {
        bool disarmed = !h;
        int before = interrupts;
        refused = 0;
        for (int i = 0; i < TIMERS; i++) {
            run();
            timer_fires(i);
            run();
        }
        RL_ASSERT(!disarmed || interrupts == before);           /* B4: never after the disarm */
        RL_ASSERT(disarmed || !cctx_is_done(root) || interrupts > before);
        if (h) disarm();
        for (int i = 0; i < timers; i++) cctx_unref((cctx_t *)armed[i].load(rl::mo_relaxed, RL_INFO));
        cctx_unref(root);
    }
};
#define GUARDS(name, threads, bound) struct name : guards { name() : guards(#name, threads, bound) {}

GUARDS(disarm_cancel, 2, 3)
    void before() { guards::before(); arm(); }
    void thread(unsigned i) { if (i) disarm(); else cctx_cancel(root); }
} disarm_cancel;
GUARDS(arm_disarm_cancel, 2, 2)
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        arm();
        disarm();
    }
} arm_disarm_cancel;
// The runner takes over while the canceler is on its way out.
GUARDS(disarm_cancel_beat, 3, 1)
    void before() { guards::before(); arm(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) run();
        else disarm();
    }
} disarm_cancel_beat;
GUARDS(disarm_interrupt, 2, 3)
    void before() { before_due(); }
    void thread(unsigned i) { if (i) disarm(); else run(); }
} disarm_interrupt;
GUARDS(disarm_timer_interrupt, 3, 1)
    void before() { before_beat(); }
    void thread(unsigned i)
    {
        if (i == 0) timer_fires(0);
        else if (i == 1) run();
        else disarm();
    }
} disarm_timer_interrupt;
// The next deadline comes while the interrupt before it is on its way out.
GUARDS(disarm_interrupt_interrupt, 3, 1)
    void before() { before_due(); }
    void thread(unsigned i)
    {
        if (i == 0) timer_fires(1);
        else if (i == 1) { run(); run(); }
        else disarm();
    }
} disarm_interrupt_interrupt;
// From inside of interrupt, which frees all: the first, one on the runner.
GUARDS(inside_first, 2, 3)
    void before() { guards::before(); arm(); disarm_at = 1; }
    void thread(unsigned i) { if (i) run(); else cctx_cancel(root); }
} inside_first;
GUARDS(inside_second, 2, 2)
    void before() { before_due(); disarm_at = 2; }
    void thread(unsigned i) { if (i) timer_fires(1); else run(); }
} inside_second;
GUARDS(inside_second_cancel, 3, 1)
    void before() { guards::before(); arm(); disarm_at = 2; refused = 1; }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) run();
        else timer_fires(0);
    }
} inside_second_cancel;
// Without memory the runner waits, and is woken by the disarm.
GUARDS(disarm_rest, 2, 3)
    void before() { before_due(); refused = 1; }
    void thread(unsigned i) { if (i) disarm(); else run(); }
} disarm_rest;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
