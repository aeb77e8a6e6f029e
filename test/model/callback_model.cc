// callback_model.cc: callbacks: registered, run once or stopped, in storage that is their caller's.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as tree_model.cc. What is freed is freed as soon as the contract allows.
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

static int ran, stopped_inside;
static bool give_away;          /* fn stops itself and frees its storage */

static void call(void *arg);
struct hook : callback {        /* what the caller owns: the storage, and something that fn uses */
    hook *other;                /* which fn stops; NULL: none */
    bool waits;                 /* by stop_wait */
    sync_plain(int) payload;
    cctx_callback_t *storage() { return (cctx_callback_t *)(void *)static_cast<callback *>(this); }
    int on(const cctx_t *ctx)
    {
        sync_set(payload, 7);
        return cctx_after_func(ctx, storage(), call, this);
    }
    bool stop() { return cctx_stop(storage()); }
    bool stop_wait() { return cctx_stop_wait(storage()); }
    void release() { sync_set(payload, 0); model_free(this); }
};
static void call(void *arg)
{
    hook *h = (hook *)arg;
    RL_ASSERT(sync_get(h->payload) == 7);
    sync_set(h->payload, 8);
    ran++;
    if (h->other) stopped_inside += h->waits ? h->other->stop_wait() : h->other->stop();
    if (!give_away) return;
    RL_ASSERT(!h->stop_wait());
    h->release();
}

struct hooks : scenario {
    cctx_t *root, *kid;
    hook *h, *h2;
    int stopped;
    hooks(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        ran = stopped = stopped_inside = 0;
        give_away = false;
        root = cctx_with_cancel(cctx_background());
        kid = cctx_with_cancel(root);
        h = model_make<hook>();
        h2 = NULL;
    }
    void after()
    {
        RL_ASSERT(ran + stopped + stopped_inside == (h2 ? 2 : 1));
        if (h) h->release();
        if (h2) h2->release();
        cctx_unref(kid);
        cctx_unref(root);
    }
};
#define HOOKS(name, threads, bound) struct name : hooks { name() : hooks(#name, threads, bound) {}

// C28: register against cancel: it has run, once, when both have returned.
HOOKS(register_cancel, 2, 3)
    void thread(unsigned i) { if (i) h->on(kid); else cctx_cancel(root); }
} register_cancel;
HOOKS(register_second, 2, 2)
    void before() { hooks::before(); h2 = model_make<hook>(); h2->on(kid); }
    void thread(unsigned i) { if (i) h->on(kid); else cctx_cancel(root); }
} register_second;
// ... where the walk has all but the slot.
HOOKS(register_third, 2, 3)
    hook *h3;
    void before()
    {
        hooks::before();
        h2 = model_make<hook>();
        h3 = model_make<hook>();
        h2->on(kid);
        h3->on(kid);
    }
    void thread(unsigned i) { if (i) h->on(kid); else cctx_cancel(root); }
    void after() { RL_ASSERT(ran-- == 3); h3->release(); hooks::after(); }
} register_third;
// The first slot is empty again when the walk looks: the second callback is all there is.
HOOKS(register_second_stop_first, 3, 2)
    void before() { hooks::before(); h2 = model_make<hook>(); h2->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else {
            MODEL_AT_ONCE;
            if (i == 1) h->on(kid);
            else stopped += h2->stop();
        }
    }
} register_second_stop_first;
HOOKS(register_two_cancels, 3, 1)
    void thread(unsigned i) { if (i == 0) h->on(kid); else cctx_cancel(i == 1 ? root : kid); }
} register_two_cancels;

// Two cancelers, two callbacks: each callback has run once when both have returned.
HOOKS(cancel_cancel, 2, 3)
    void before() { hooks::before(); h->on(kid); h2 = model_make<hook>(); h2->on(root); }
    void thread(unsigned) { cctx_cancel(root); }
} cancel_cancel;

// C29: a stop that wins gives the storage back at once; one that loses does not.
HOOKS(stop_cancel, 2, 4)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (h->stop()) {
            stopped++;
            h->release();
            h = NULL;
        }
    }
} stop_cancel;
// C29, C30: after stop_wait the storage is the caller's, whatever was.
HOOKS(stop_wait_cancel, 2, 4)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (h->stop_wait()) stopped++;
        h->release();
        h = NULL;
    }
} stop_wait_cancel;
// The same with the last handle going at the same time, and the registration in between.
HOOKS(stop_wait_unref, 3, 1)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) cctx_unref(kid);
        else {
            if (h->stop_wait()) stopped++;
            h->release();
            h = NULL;
        }
    }
    void after() { kid = NULL; hooks::after(); }
} stop_wait_unref;
HOOKS(register_stop_wait_unref, 3, 1)
    void before() { hooks::before(); cctx_ref(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) cctx_unref(kid);
        else {
            h->on(kid);
            cctx_unref(kid);
            if (h->stop_wait()) stopped++;
            h->release();
            h = NULL;
        }
    }
    void after() { kid = NULL; hooks::after(); }
} register_stop_wait_unref;

// A closed node: the registration is counted; a stop uncounts it.
HOOKS(stop_close, 2, 4)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i) stopped += h->stop();
        else cctx_unref(kid);
    }
    void after() { kid = NULL; hooks::after(); }
} stop_close;
HOOKS(stop_second_close, 2, 3)
    void before() { hooks::before(); h2 = model_make<hook>(); h2->on(kid); h->on(kid); }
    void thread(unsigned i)
    {
        if (i) stopped += h->stop();
        else cctx_unref(kid);
    }
    void after() { kid = NULL; stopped += h2->stop(); hooks::after(); }
} stop_second_close;

// Two stops: one wins. With a cancel: one of the three has it.
HOOKS(stop_stop, 2, 4)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned) { stopped += h->stop(); }
} stop_stop;
// Where nothing runs, a stop_wait that returns false says that the other stop has won, and is through with the storage.
HOOKS(stop_stop_never, 2, 4)
    void before() { hooks::before(); h->on(cctx_background()); }
    void thread(unsigned i)
    {
        if (i == 0 ? h->stop() : h->stop_wait()) stopped++;
        else if (i) {
            h->release();
            h = NULL;
        }
    }
} stop_stop_never;
HOOKS(stop_stop_wait, 2, 4)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0 ? h->stop() : h->stop_wait()) stopped++;
        else if (i) {
            h->release();
            h = NULL;
        }
    }
} stop_stop_wait;
HOOKS(stop_stop_cancel, 3, 1)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i) { if (i) stopped += h->stop_wait(); else cctx_cancel(root); }
} stop_stop_cancel;

// A winning stop, and the storage is registered anew, in the same slot or another.
HOOKS(register_again, 2, 3)
    void before() { hooks::before(); h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (h->stop()) h->on(kid);
    }
} register_again;

// From inside fn: the storage is freed by fn itself.
HOOKS(give_it_away, 2, 3)
    void before() { hooks::before(); give_away = true; h->on(kid); }
    void thread(unsigned) { cctx_cancel(root); }
    void after() { h = NULL; hooks::after(); }
} give_it_away;

// C29, C30: fn stops itself: that prevents nothing. Another thread's stop may come meanwhile.
HOOKS(stop_self, 2, 3)
    void before() { hooks::before(); h->other = h; h->on(kid); }
    void thread(unsigned i) { if (i) stopped += h->stop(); else cctx_cancel(root); }
} stop_self;
HOOKS(stop_self_stop_wait, 2, 3)
    void before() { hooks::before(); h->other = h; h->on(kid); }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (h->stop_wait()) stopped++;
        h->release();
        h = NULL;
    }
} stop_self_stop_wait;
// Two callbacks stop each other, on one thread or on two: each runs or is stopped, once.
struct each_other : hooks {
    each_other(const char *name, unsigned threads, unsigned bound) : hooks(name, threads, bound) {}
    void before()
    {
        hooks::before();
        h2 = model_make<hook>();
        h->other = h2;
        h2->other = h;
        h->on(kid);
    }
};
struct stop_each_other : each_other {
    stop_each_other() : each_other("stop_each_other", 2, 3) {}
    void before() { each_other::before(); h2->on(root); }
    void thread(unsigned i) { cctx_cancel(i ? kid : root); }
} stop_each_other;
struct stop_each_other_same : each_other {
    stop_each_other_same() : each_other("stop_each_other_same", 2, 3) {}
    void before() { each_other::before(); h2->on(kid); }
    void thread(unsigned) { cctx_cancel(root); }
} stop_each_other_same;
// One waits for the other, which has begun on another thread or never will; it is the caller's then.
struct stop_wait_other : each_other {
    stop_wait_other() : each_other("stop_wait_other", 2, 3) {}
    void before() { each_other::before(); h2->other = NULL; h->waits = true; h2->on(root); }
    void thread(unsigned i) { cctx_cancel(i ? kid : root); }
} stop_wait_other;

// In the child of a fork: registered before it, taken by a canceler or a stop of the child's own: nobody takes that for
// lost.
HOOKS(forked_cancel_stop_wait, 2, 3)
    void before() { hooks::before(); h->on(kid); model_generation = 1; }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        stopped += h->stop_wait();
        h->release();
        h = NULL;
    }
} forked_cancel_stop_wait;
HOOKS(forked_stop_stop_wait, 2, 3)
    void before() { hooks::before(); h->on(kid); model_generation = 1; }
    void thread(unsigned i)
    {
        if (i == 0 ? h->stop() : h->stop_wait()) stopped++;
        else if (i) {
            h->release();
            h = NULL;
        }
    }
} forked_stop_stop_wait;

// A registration through a value context pins that context.
static const cctx_key_t key = {};
HOOKS(stop_via, 3, 1)
    const cctx_t *value;
    void before()
    {
        hooks::before();
        value = cctx_with_value(kid, &key, NULL);
        cctx_unref(kid);
        kid = NULL;
        h->on(value);
    }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) cctx_unref(value);
        else stopped += h->stop_wait();
    }
} stop_via;

// Handed over to the runner.
HOOKS(hand_over, 3, 1)
    bool over;
    void before() { hooks::before(); h->on(kid); over = false; }
    void thread(unsigned i)
    {
        if (i == 0) {
            cancel_deadline(root);
            over = true;
            sync_add_acqrel(&queue_bell, 1u, queue, none);
            futex_wake(&queue_bell);
        } else if (i == 2) {
            stopped += h->stop_wait();
        } else for (bool last = false; !last;) {        /* as runner_main, which never ends */
            uint32_t b = sync_load_acq(&queue_bell, queue);
            last = over;
            queue_run(thread_current);
            if (!last) futex_wait(&queue_bell, b, INT64_MAX);
        }
    }
} hand_over;
HOOKS(hand_over_two, 3, 1)
    cctx_t *other;
    void before()
    {
        hooks::before();
        other = cctx_with_cancel(root);
        h->on(kid);
        h2 = model_make<hook>();
        h2->on(other);
    }
    void thread(unsigned i)
    {
        if (i < 2) {
            cancel_deadline(i ? other : kid);
            cctx_unref(i ? other : kid);
        } else while (ran < 2) {
            uint32_t b = sync_load_acq(&queue_bell, queue);
            queue_run(thread_current);
            if (ran < 2) futex_wait(&queue_bell, b, INT64_MAX);
        }
    }
    void after() { kid = NULL; hooks::after(); }
} hand_over_two;

// B0: by an executor, whose queue has one place, and orders what is put there before what is taken out of it.
enum { QUEUED, REFUSED, INSIDE };
static int executor_mode;
static void (*executor_fn)(void *);
static void *executor_arg;
static sync_u32 executor_full;
static int executor_submit(cctx_executor_t *, void (*fn)(void *), void *arg)
{
    if (executor_mode == REFUSED) return EAGAIN;
    if (executor_mode == INSIDE) {
        fn(arg);
        return 0;
    }
    executor_fn = fn;
    executor_arg = arg;
    executor_full.store(1u, rl::mo_release, RL_INFO);
    futex_wake(&executor_full);
    return 0;
}
static cctx_executor_t executor = {executor_submit};
static bool executor_run()
{
    uint32_t full = executor_full.load(rl::mo_acquire, RL_INFO);
    if (full) executor_full.store(0u, rl::mo_relaxed, RL_INFO);
    if (full == 1) executor_fn(executor_arg);
    return full;
}
static void executor_wait()
{
    while (!executor_run()) futex_wait(&executor_full, 0u, INT64_MAX);
}

struct submits : hooks {
    int mode;
    submits(const char *name, unsigned threads, unsigned bound, int m) : hooks(name, threads, bound), mode(m) {}
    void before()
    {
        hooks::before();
        executor_mode = mode;
        on(h, kid);
    }
    static int on(hook *x, const cctx_t *ctx)
    {
        sync_set(x->payload, 7);
        return cctx_after_func_on(ctx, x->storage(), &executor, call, x);
    }
    void after() { executor_run(); hooks::after(); }
};
#define SUBMITS(name, threads, bound, mode) struct name : submits { name() : submits(#name, threads, bound, mode) {}

// The storage is the caller's when stop_wait returns, wherever fn runs.
SUBMITS(submit_stop_wait, 3, 1, QUEUED)
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (i == 1) { executor_wait(); return; }
        if (h->stop_wait()) {
            stopped++;
            executor_full.store(2u, rl::mo_relaxed, RL_INFO);           /* nothing will come */
            futex_wake(&executor_full);
        }
        h->release();
        h = NULL;
    }
} submit_stop_wait;
SUBMITS(refused_stop_wait, 2, 3, REFUSED)
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (h->stop_wait()) stopped++;
        h->release();
        h = NULL;
    }
} refused_stop_wait;
SUBMITS(inside_stop_wait, 2, 3, INSIDE)
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (h->stop_wait()) stopped++;
        h->release();
        h = NULL;
    }
} inside_stop_wait;
// In the child of a fork: registered before it, submitted in the child: nobody takes that for lost.
SUBMITS(forked_submit_stop_wait, 2, 1, INSIDE)
    void before() { submits::before(); model_generation = 1; }
    void thread(unsigned i)
    {
        if (i == 0) { cctx_cancel(root); return; }
        if (h->stop_wait()) stopped++;
        h->release();
        h = NULL;
    }
} forked_submit_stop_wait;
// It has been submitted: one runs the queue, one waits for that, and the last handle goes.
SUBMITS(queue_stop_wait_unref, 3, 2, QUEUED)
    void before() { submits::before(); cctx_cancel(root); }
    void thread(unsigned i)
    {
        if (i == 0) executor_wait();
        else if (i == 1) cctx_unref(kid);
        else {
            RL_ASSERT(!h->stop_wait());
            h->release();
            h = NULL;
        }
    }
    void after() { kid = NULL; submits::after(); }
} queue_stop_wait_unref;
// The task runs while the canceler is still in the middle, and gives the storage away.
SUBMITS(submit_give_it_away, 2, 3, QUEUED)
    void before() { submits::before(); give_away = true; }
    void thread(unsigned i)
    {
        if (i == 0) {
            cctx_cancel(root);
            cctx_unref(root);
            root = NULL;
        } else executor_wait();
    }
    void after() { h = NULL; submits::after(); }
} submit_give_it_away;
// Registered while it is canceled: submitted once, by one of the two.
SUBMITS(register_submit, 3, 1, QUEUED)
    void before()
    {
        submits::before();
        h2 = h;
        h = model_make<hook>();
        executor_mode = REFUSED;
        cctx_cancel(kid);
        executor_mode = QUEUED;
        cctx_unref(kid);
        kid = cctx_with_cancel(root);
    }
    void thread(unsigned i)
    {
        if (i == 0) cctx_cancel(root);
        else if (i == 1) on(h, kid);
        else executor_wait();
    }
} register_submit;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
