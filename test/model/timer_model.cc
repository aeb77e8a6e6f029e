// timer_model.cc: the armed set against the thread that sleeps: armed, drained, fired, disarmed, slept.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: roster.c, timer.c, with small occupants of the model's own.
#include "model.h"
#include "roster.c"
#include "timer.c"

struct item {                   /* refers to itself once while it is armed */
    sync_plain(int64_t) key;
    sync_u32 refs;
    sync_plain(sync_ptr *) place;
    sync_plain(int) payload;
    struct epoch_link link;
    int *fired;
};
static struct timer timer;
static int buried;

static void item_reclaim(struct epoch_link *link) { model_free(container_of(link, struct item, link)); }
static void item_unref(struct item *x)
{
    if (sync_add_acqrel(&x->refs, (uint32_t)-1, last_ref, last_ref) != 1) return;
    timer_disarm(sync_get(x->place));
    sync_set(x->payload, 0);
    buried++;
    epoch_retire(thread_current, &x->link, item_reclaim, 1);
}
static int64_t item_key(uintptr_t x) { return sync_get(((struct item *)x)->key); }
static bool item_pin(uintptr_t x)
{
    struct item *i = (struct item *)x;
    uint32_t r = sync_load_relaxed(&i->refs, cas_seed);
    while (r)
        if (sync_cas_relaxed(&i->refs, &r, r + 1, owned)) return true;
    return false;
}
static void item_fire(uintptr_t x)
{
    struct item *i = (struct item *)x;
    RL_ASSERT(sync_get(i->payload) == 7);
    RL_ASSERT(sync_get(i->key) <= model_now);                                   // T2
    ++*i->fired;
    item_unref(i);
}
static const struct timer_ops ops = {item_key, item_pin, item_fire};

enum { NOW = 10 };
static const int64_t FAR = (int64_t)1 << 30;

struct timers : scenario {
    struct item *x[4];
    int fired[4];
    int64_t key[4];
    timers(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        timer_init(&timer, &ops);
        timer.limit = 1;
        buried = 0;
        model_now = NOW;
        for (int i = 0; i < 4; i++) {
            x[i] = NULL;
            fired[i] = 0;
        }
    }
    void arm(int i, int64_t when, int64_t now = NOW)
    {
        key[i] = when;
        x[i] = model_make<struct item>(0, false);
        x[i]->fired = &fired[i];
        sync_init(&x[i]->refs, 1u);
        sync_set(x[i]->key, when);
        sync_set(x[i]->payload, 7);
        RL_ASSERT(timer_arm(&timer, thread_current, (uintptr_t)x[i], now, when, &x[i]->place));
    }
    void drop(int i)
    {
        struct item *gone = x[i];
        x[i] = NULL;
        item_unref(gone);
    }
    size_t work(int64_t now)
    {
        model_now = now;
        return timer_work(&timer, thread_current, now);
    }
    /* The role: works, then goes to sleep: until when it sleeps, unless the bell moves. */
    int64_t till;
    uint32_t bell;
    void role()
    {
        work(NOW);
        bell = sync_load_acq(&timer.bell, bell);
        till = sync_load_acq(&timer.next_wake, bell);
    }
    /* T3, T4: alone from here the role wakes in time for each, and fires it at its time. */
    void after()
    {
        int64_t now = sync_load_relaxed(&timer.bell, stat) != bell ? timer_next(&timer) : till;
        for (int rounds = 0; now != INT64_MAX && rounds < 20; rounds++) {
            for (int i = 0; i < 4; i++) RL_ASSERT(!x[i] || fired[i] || now <= key[i]);
            work(now);
            now = timer_next(&timer);
        }
        done();
    }
    void done()
    {
        for (int i = 0; i < 4; i++)
            if (x[i]) {
                RL_ASSERT(fired[i] == 1);
                drop(i);
            }
        for (unsigned i = 0; i < model_block_count; i++)        /* a set's memory is never freed */
            if (model_blocks[i].alive) model_free(model_blocks[i].memory);
    }
};
#define TIMERS(name, threads, bound) struct name : timers { name() : timers(#name, threads, bound) {}

/* One entry more, so that set, chunk and directory are there; then it is taken out. */
#define WARM(when) do { arm(3, when); drop(3); } while (0)

// T4: an armer against the role that goes to sleep.
TIMERS(arm_doze, 2, 3)
    void before()
    {
        timers::before();
        WARM(NOW + 70);
        work(0);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} arm_doze;
TIMERS(arm_doze_first, 2, 2)
    void before() { timers::before(); sync_init(&timer.next_wake, NOW); }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} arm_doze_first;
// Two armers of one chunk: the dirty bit of the one that is second is the first one's.
TIMERS(two_arm_doze, 3, 1)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;       /* one stripe, so one chunk */
        WARM(NOW + 70);
        work(0);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i == 2) role(); else arm((int)i, i ? NOW + 15 : NOW + 40); }
} two_arm_doze;
// A far tier that the role drains while they arm, and one that is not due.
TIMERS(far_due, 3, 1)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        WARM(NOW + FAR + 70);
        work(0);
        sync_init(&timer.tier[1].next_drain, NOW - 5);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i == 2) role(); else arm((int)i, i ? NOW + FAR + 15 : NOW + FAR + 40); }
} far_due;
TIMERS(far_not_due, 3, 1)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        WARM(NOW + FAR + 70);
        work(0);
        sync_init(&timer.tier[1].next_drain, NOW + FAR + 20);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i == 2) role(); else arm((int)i, i ? NOW + FAR + 15 : NOW + FAR + 40); }
} far_not_due;
// The armer has stopped since it read the clock: its deadline is near by now, in a far tier that the role looks at.
TIMERS(far_stopped, 2, 3)
    void before()
    {
        timers::before();
        WARM(NOW + FAR + 70);
        sync_init(&timer.tier[1].next_drain, 0);
        work(0);                        /* the tier is clean */
        sync_init(&timer.tier[1].next_drain, NOW - 5);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 15, NOW - FAR); }
} far_stopped;
// The first of a far tier: set, chunk and directory are new.
TIMERS(far_first, 2, 3)
    void before() { timers::before(); sync_init(&timer.next_wake, NOW); }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + FAR + 15); }
} far_first;
TIMERS(far_one, 2, 3)
    void before()
    {
        timers::before();
        WARM(NOW + FAR + 70);
        work(0);
        sync_init(&timer.tier[1].next_drain, NOW + FAR + 20);
        sync_init(&timer.next_wake, NOW);
        model_now = NOW;
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + FAR + 15); }
} far_one;
// A sleeper is rung by an armer that lowers next_wake: no lost ring.
TIMERS(ring, 2, 4)
    void before() { timers::before(); WARM(NOW + 70); work(NOW); }
    void thread(unsigned i)
    {
        if (i == 0) { arm(0, NOW + 50); return; }
        for (;;) {
            uint32_t b = timer_bell(&timer);
            if (timer_next(&timer) <= NOW + 50) break;
            timer_sleep(&timer, b, NOW, INT64_MIN);
        }
    }
    void after() { bell = sync_load_relaxed(&timer.bell, stat); till = timer_next(&timer); timers::after(); }
} ring;

// Disarmed by its death while it is drained, or fired, or another takes its slot.
TIMERS(disarm_drain, 2, 3)
    void before() { timers::before(); arm(0, NOW + 50); arm(1, NOW + 50); }
    void thread(unsigned i) { if (i) role(); else drop(0); }
} disarm_drain;
TIMERS(disarm_fire, 2, 3)
    void before() { timers::before(); arm(0, NOW + 50); arm(1, NOW + 60); work(NOW); }
    void thread(unsigned i)
    {
        if (i == 0) drop(0);
        else {
            work(NOW + 50);
            bell = sync_load_acq(&timer.bell, bell);
            till = sync_load_acq(&timer.next_wake, bell);
        }
    }
} disarm_fire;
TIMERS(disarm_fire_fresh, 2, 3)
    void before() { timers::before(); arm(0, NOW + 50); }
    void thread(unsigned i)
    {
        if (i == 0) drop(0);
        else {
            work(NOW + 50);
            bell = sync_load_acq(&timer.bell, bell);
            till = sync_load_acq(&timer.next_wake, bell);
        }
    }
} disarm_fire_fresh;
TIMERS(disarm_arm_drain, 3, 1)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        arm(0, NOW + 50);
        arm(1, NOW + 60);
        sync_init(&timer.next_wake, NOW);
    }
    void thread(unsigned i)
    {
        if (i == 0) drop(0);
        else if (i == 1) arm(2, NOW + 40);
        else role();
    }
} disarm_arm_drain;
// Two armers make the set, the first chunk of a stripe, and the directory.
TIMERS(arm_arm, 2, 2)
    void thread(unsigned i) { arm((int)i, NOW + 40 + (int)i); }
    void after() { bell = sync_load_relaxed(&timer.bell, stat); till = timer_next(&timer); timers::after(); }
} arm_arm;
// ... a directory more: chunks in two directories, for a directory holds two.
TIMERS(arm_arm_directory, 2, 2)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        arm(0, NOW + 50);
        arm(1, NOW + 51);
        model_threads[0].ordinal = model_threads[1].ordinal = 1;
        arm(2, NOW + 52);
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        sync_init(&timer.next_wake, NOW);
    }
    void thread(unsigned i) { if (i) role(); else arm(3, NOW + 40); }
} arm_arm_directory;

// Without memory in the heap: it stays in the set, and is looked at again when it is due.
TIMERS(scarce_arm, 2, 3)
    void before() { timers::before(); arm(1, NOW + 60); model_scarce = true; sync_init(&timer.next_wake, NOW); }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} scarce_arm;
TIMERS(scarce_disarm, 2, 3)
    void before() { timers::before(); arm(0, NOW + 50); arm(1, NOW + 60); model_scarce = true; }
    void thread(unsigned i) { if (i) role(); else drop(0); }
} scarce_disarm;
// In the child of a fork: the role begins anew from the set, while another thread arms.
TIMERS(rebuild_arm, 2, 3)
    void before()
    {
        timers::before();
        arm(1, NOW + 60);
        work(NOW);
        timer_forked(&timer);
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} rebuild_arm;
TIMERS(rebuild_arm_chunk, 2, 3)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        arm(1, NOW + 60);
        arm(2, NOW + 61);
        work(NOW);
        timer_forked(&timer);
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} rebuild_arm_chunk;
TIMERS(rebuild_arm_directory, 2, 3)
    void before()
    {
        timers::before();
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        arm(1, NOW + 60);
        arm(2, NOW + 61);
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 1;
        arm(3, NOW + 62);
        for (int i = 0; i < 3; i++) model_threads[i].ordinal = 0;
        work(NOW);
        timer_forked(&timer);
    }
    void thread(unsigned i) { if (i) role(); else arm(0, NOW + 50); }
} rebuild_arm_directory;
TIMERS(rebuild_disarm, 2, 3)
    void before()
    {
        timers::before();
        arm(0, NOW + 50);
        arm(1, NOW + 60);
        work(NOW);
        timer_forked(&timer);
    }
    void thread(unsigned i) { if (i) role(); else drop(0); }
} rebuild_disarm;

int main(int argc, char **argv) { return model_main(argc, argv); }
