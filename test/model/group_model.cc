// group_model.cc: tasks counted in and out of a group; who waits for the end, for room, and frees.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: group.c. The context is a stub that knows how often it was canceled. What is submitted is run by the
// scenario's other threads; the group is freed as soon as the contract allows.
#include "model.h"
#include <cctx/group.h>

static sync_plain(int) worked[4];       /* by task; plain: who learns of the end of the task may read it */
struct cctx {
    sync_u32 canceled;
};
cctx_t *cctx_with_cancel(const cctx_t *) { return model_make<struct cctx>(); }
bool cctx_cancel(cctx_t *ctx) { return ctx->canceled.fetch_add(1, rl::mo_acq_rel, RL_INFO) == 0; }
bool cctx_cancel_causef(cctx_t *ctx, int, const char *, ...) { return cctx_cancel(ctx); }
void cctx_unref(const cctx_t *ctx) { model_free((void *)ctx); }

static void *group_block(size_t size);
static struct frame *model_frames[MODEL_THREADS];
#define frames model_frames[rl::thread_index()]
#define alloc_get group_block
#define pthread_create(thread, attr, main, arg) (abort(), 0)
#define pthread_detach(thread) ((void)0)
#include "group.c"
#undef frames
#undef alloc_get

static bool no_memory;          /* for tasks */
static void *group_block(size_t size)
{
    if (size == sizeof(struct cctx_group)) return model_make<struct cctx_group>();
    return no_memory ? NULL : alloc_get(size);
}

// An executor: a place for each task; the scenario says which thread takes which.
enum { PLACES = 3 };
static sync_ptr place[PLACES];
static sync_u32 submitted, bell;
static unsigned refused;        /* the first that is, with all after it */
static int submit(cctx_executor_t *, void (*fn)(void *), void *arg)
{
    unsigned i = submitted.fetch_add(1, rl::mo_relaxed, RL_INFO);
    RL_ASSERT(fn == task_main);
    if (i >= refused) return EAGAIN;
    place[i].store((uintptr_t)arg, rl::mo_release, RL_INFO);
    bell.fetch_add(1, rl::mo_release, RL_INFO);
    futex_wake(&bell);
    return 0;
}
static cctx_executor_t executor = {submit};
/* Runs the i-th that is submitted. */
static void take(unsigned i)
{
    uintptr_t task;
    for (;;) {
        uint32_t seen = bell.load(rl::mo_acquire, RL_INFO);
        if ((task = place[i].load(rl::mo_acquire, RL_INFO)) != 0) break;
        futex_wait(&bell, seen, INT64_MAX);
    }
    task_main((void *)task);
}

static int work(const cctx_t *, void *arg)
{
    sync_set(worked[(uintptr_t)arg], 1);
    return 0;
}
static int fail(const cctx_t *ctx, void *arg)
{
    work(ctx, arg);
    return 20 + (int)(uintptr_t)arg;
}

/* In the place of the first task: it sees what that one did. (Where it is submitted a wake orders all.) */
static int follow(const cctx_t *ctx, void *arg)
{
    RL_ASSERT(sync_get(worked[0]) == 1);
    return work(ctx, arg);
}

struct groups : scenario {
    cctx_group_t *g;
    groups(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void begin(size_t limit)
    {
        refused = PLACES;
        no_memory = false;
        for (unsigned i = 0; i < MODEL_THREADS; i++) model_frames[i] = NULL;
        g = cctx_group_new((const cctx_t *)this, &executor, limit);
    }
    void before() { begin(0); }
    void go(int (*fn)(const cctx_t *, void *), unsigned i) { RL_ASSERT(cctx_group_go(g, fn, (void *)(uintptr_t)i) == 0); }
    bool has(unsigned i) { return sync_get(worked[i]) == 1; }
    void release()
    {
        cctx_group_free(g);
        g = NULL;
    }
    void after() { if (g) release(); }
};
#define GROUPS(name, threads, bound) struct name : groups { name() : groups(#name, threads, bound) {}

// G1, G2: the wait sees what the task did, and the group is freed at once.
GROUPS(wait_end, 2, 5)
    void before() { groups::before(); go(work, 0); }
    void thread(unsigned i)
    {
        if (i) { take(0); return; }
        RL_ASSERT(cctx_group_wait(g) == 0 && has(0));
        release();
    }
} wait_end;
GROUPS(free_end, 2, 5)
    void before() { groups::before(); go(work, 0); }
    void thread(unsigned i)
    {
        if (i) take(0);
        else release();
    }
    void after() { RL_ASSERT(has(0)); }
} free_end;
// Of two tasks each may be the last; the context was canceled, by the first that failed, before the wait is over.
GROUPS(wait_two_ends, 3, 2)
    void before() { groups::before(); go(fail, 0); go(fail, 1); }
    void thread(unsigned i)
    {
        if (i) { take(i - 1); return; }
        int error = cctx_group_wait(g);
        RL_ASSERT(error == 20 || error == 21);
        RL_ASSERT(has(0) && has(1));
        RL_ASSERT(g->ctx->canceled.load(rl::mo_relaxed, RL_INFO) == 2);
        release();
    }
} wait_two_ends;
// Two who wait.
GROUPS(two_waits_end, 3, 2)
    void before() { groups::before(); go(work, 0); }
    void thread(unsigned i)
    {
        if (i == 2) { take(0); return; }
        RL_ASSERT(cctx_group_wait(g) == 0 && has(0));
    }
} two_waits_end;
// The error of a task that has ended, where another one has not.
GROUPS(error_end, 3, 2)
    void before() { groups::before(); go(fail, 0); go(work, 1); }
    void thread(unsigned i)
    {
        if (i) { take(i - 1); return; }
        RL_ASSERT(cctx_group_wait(g) == 20);
        release();
    }
} error_end;

// The limit: go sleeps until there is room, and what it starts sees what the task before it did.
GROUPS(go_at_limit, 2, 5)
    void before() { begin(1); go(work, 0); refused = 1; }
    void thread(unsigned i)
    {
        if (i) take(0);
        else go(follow, 1);
    }
    void after() { RL_ASSERT(has(1)); release(); }
} go_at_limit;
GROUPS(two_gos_at_limit, 3, 2)
    void before() { begin(1); go(work, 0); }
    void thread(unsigned i)
    {
        if (i == 0) {
            take(0);
            take(1);
        } else {
            go(follow, i);
        }
    }
    void after() { take(2); release(); }
} two_gos_at_limit;
GROUPS(two_ends_two_gos, 4, 1)
    void before() { begin(2); go(work, 0); go(work, 1); refused = 2; }
    void thread(unsigned i)
    {
        if (i < 2) take(i);
        else go(work, i);
    }
    void after() { RL_ASSERT(has(0) && has(1) && has(2) && has(3)); release(); }
} two_ends_two_gos;
// One who waits for room, one for the end: the task that makes room is not the last.
GROUPS(wait_go_at_limit, 3, 2)
    void before() { begin(1); go(work, 0); refused = 1; }
    void thread(unsigned i)
    {
        if (i == 0) take(0);
        else if (i == 1) go(work, 1);
        else RL_ASSERT(cctx_group_wait(g) == 0 && has(0));
    }
    void after() { RL_ASSERT(has(1)); groups::after(); }
} wait_go_at_limit;

// What runs in go, for want of memory or of an executor, counts as well.
GROUPS(wait_refused, 3, 2)
    void before() { begin(1); go(work, 0); no_memory = true; }
    void thread(unsigned i)
    {
        if (i == 0) take(0);
        else if (i == 1) go(fail, 1);
        else cctx_group_wait(g);
    }
    void after() { RL_ASSERT(cctx_group_wait(g) == 21); groups::after(); }
} wait_refused;

// A task starts another one, which the wait waits for too.
static cctx_group_t *mother_of;
static int mother(const cctx_t *ctx, void *arg)
{
    RL_ASSERT(cctx_group_go(mother_of, work, (void *)1) == 0);
    return work(ctx, arg);
}
GROUPS(wait_grandchild, 3, 2)
    void before() { groups::before(); mother_of = g; go(mother, 0); }
    void thread(unsigned i)
    {
        if (i) { take(i - 1); return; }
        RL_ASSERT(cctx_group_wait(g) == 0 && has(0) && has(1));
        release();
    }
} wait_grandchild;

// G4: in the child of a fork the parent's task does not count, nor the marks.
GROUPS(forked, 2, 4)
    void before()
    {
        begin(1);
        go(work, 0);
        sync_or_acqrel(&g->word, CROWDED | WAITED, none, none);
        model_generation = 1;
        refused = 1;
    }
    void thread(unsigned i)
    {
        if (i) go(work, 1);
        else RL_ASSERT(cctx_group_wait(g) == 0);
    }
    void after() { RL_ASSERT(has(1)); alloc_put((void *)place[0].load(rl::mo_relaxed, RL_INFO)); groups::after(); }
} forked;

int main(int argc, char **argv) { return model_main(argc, argv); }
