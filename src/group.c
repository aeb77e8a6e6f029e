/* Layer 11, face. group: tasks that share a context; the first error cancels the rest.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * One word has all that decides: the number of tasks, who sleeps because of it, and the generation of the process to
 * which the tasks belong.
 *
 *   G1  A task is counted from before its submission until fn has returned and its error has canceled the context.
 *   G2  The step that counts it out is the last touch of the group: with the count at 0 the group may be freed.
 *       So who sleeps on account of a group sleeps on a word that is never freed.
 *   G3  Who sleeps has set its mark while the count was in its way, and the step that ends that takes the mark along and
 *       wakes.
 *   G4  A word of another generation counts no task: in the child of a fork those of the parent never end. */
#include "alloc.h"
#include "epoch.h"
#include "futex.h"
#include <cctx/group.h>
#include <errno.h>
#include <pthread.h>

typedef int (*task_fn)(const cctx_t *ctx, void *arg);

struct cctx_group {
    cctx_t *ctx;                /* these three do not change */
    cctx_executor_t *executor;
    uint64_t limit;
    sync_u64 word;              /* tasks, marks, generation */
    sync_u32 error;             /* the first result that is not 0; final then */
};

enum { GENERATION_SHIFT = 42 };
#define TASKS     (((uint64_t)1 << 40) - 1)     /* more blocks of tasks than there is memory for */
#define WAITED    ((uint64_t)1 << 40)           /* somebody sleeps until there is no task */
#define CROWDED   ((uint64_t)1 << 41)           /* somebody sleeps until there is one less */

struct task {
    struct cctx_group *group;
    task_fn fn;
    void *arg;
};

/* The tasks that this thread is in the middle of, the innermost first: fn may start one that runs inside of it. A thread
 * of fibers may end them in another order. */
struct frame {
    struct frame *next, **place;
    struct cctx_group *group;
    unsigned generation;        /* in which it is counted */
};
#ifndef SYNC_RELACY
static _Thread_local struct frame *frames;
#endif

static bool frame_within(const struct cctx_group *g)
{
    unsigned now = thread_generation();
    for (struct frame *f = frames; f; f = f->next)
        if (f->group == g && f->generation == now) return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------- the word */

/* Those who sleep do it here; two for a group, so that who makes room does not wake who waits for the end. A wake for
 * another group is spurious. */
enum { PARKING = 64 };
static sync_u32 parking[PARKING];

static sync_u32 *parking_of(struct cctx_group *g, uint64_t mark)
{
    return &parking[((uintptr_t)g / 32 + (mark == WAITED)) % PARKING];
}

/* The word as this process has to read it (G4). */
static uint64_t word_now(uint64_t w)
{
    uint64_t generation = (uint64_t)thread_generation() << GENERATION_SHIFT;
    return (w ^ generation) >> GENERATION_SHIFT ? generation : w;
}

/* Sleeps, about until fewer than enough tasks are left: look again. */
static void group_sleep(struct cctx_group *g, uint64_t mark, uint64_t enough)
{
    sync_u32 *park = parking_of(g, mark);
    uint32_t seen = sync_load_acq(park, task_end);
    if ((word_now(sync_or_acqrel(&g->word, mark, none, none)) & TASKS) >= enough) futex_wait(park, seen, INT64_MAX);
}

/* Counts a task in, as soon as there is room. */
static void group_enter(struct cctx_group *g)
{
    uint64_t w;
    do {
        while (((w = sync_load_relaxed(&g->word, cas_seed), word_now(w)) & TASKS) >= g->limit)
            group_sleep(g, CROWDED, g->limit);
    } while (!sync_cas_acqrel(&g->word, &w, word_now(w) + 1, none, task_end));
}

/* Wakes all that sleep there; the group may be gone by now. */
static void group_wake(sync_u32 *park)
{
    sync_add_acqrel(park, 1u, task_end, none);
    futex_wake(park);
}

/* Counts a task out (G2, G3). */
static void group_leave(struct cctx_group *g)
{
    sync_u32 *room = parking_of(g, CROWDED), *end = parking_of(g, WAITED);
    uint64_t w = sync_load_relaxed(&g->word, cas_seed), to;
    do to = (w - 1) & ((w & TASKS) == 1 ? ~(CROWDED | WAITED) : ~CROWDED);
    while (!sync_cas_acqrel(&g->word, &w, to, task_end, none));
    if (w & ~to & CROWDED) group_wake(room);
    if (w & ~to & WAITED) group_wake(end);
}

/* Until no task is left. */
static void group_drain(struct cctx_group *g)
{
    while (word_now(sync_load_acq(&g->word, task_end)) & TASKS) group_sleep(g, WAITED, 1);
}

/* ------------------------------------------------------------------------------------------------- tasks */

/* The first error is the group's, and cancels. */
static void group_fail(struct cctx_group *g, int error)
{
    uint32_t none_yet = 0;
    if (sync_cas_relaxed(&g->error, &none_yet, (uint32_t)error, alone))
        cctx_cancel_causef(g->ctx, error, "a task of the group returned %d", error);
}

static void task_call(const struct task *task)
{
    struct cctx_group *g = task->group;
    struct frame f = {frames, &frames, g, thread_generation()};
    if (f.next) f.next->place = &f.next;
    frames = &f;
    int error = task->fn(g->ctx, task->arg);
    *f.place = f.next;
    if (f.next) f.next->place = f.place;
    if (f.generation != thread_generation()) return;    /* fn forked: this is the child, and the task the parent's */
    if (error != 0) group_fail(g, error);
    group_leave(g);
}

/* What an executor gets. */
static void task_main(void *arg)
{
    struct task task = *(struct task *)arg;
    alloc_put(arg);
    task_call(&task);
}

/* ------------------------------------------------------------------------------------------------- threads */

static void *thread_main(void *task)
{
    task_main(task);
    return NULL;
}

/* Without an executor: fn is task_main. */
static int thread_submit(cctx_executor_t *self, void (*fn)(void *arg), void *task)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, thread_main, task);
    (void)self, (void)fn;
    if (failed == 0) pthread_detach(thread);
    return failed;
}
static cctx_executor_t threads = {thread_submit};

/* ------------------------------------------------------------------------------------------------- public */

cctx_group_t *cctx_group_new(const cctx_t *parent, cctx_executor_t *executor, size_t limit)
{
    struct cctx_group *g = NULL;
    int error = EINVAL;
    if (parent && (!executor || executor->submit)) {
        error = ENOMEM;
        g = (struct cctx_group *)alloc_get(sizeof *g);
    }
    if (g && !(g->ctx = cctx_with_cancel(parent))) {
        alloc_put(g);
        g = NULL;
    }
    if (!g) {
        errno = error;
        return NULL;
    }
    g->executor = executor ? executor : &threads;
    g->limit = limit ? limit : UINT64_MAX;
    return g;
}

const cctx_t *cctx_group_context(cctx_group_t *group)
{
    if (!group) errno = EINVAL;
    return group ? group->ctx : NULL;
}

int cctx_group_go(cctx_group_t *group, task_fn fn, void *arg)
{
    if (!group || !fn) return EINVAL;
    int saved = errno;
    struct task task = {group, fn, arg}, *copy = (struct task *)alloc_get(sizeof *copy);
    if (copy) *copy = task;
    group_enter(group);
    /* Once it is submitted it may have ended, and the group be gone. */
    if (!copy || group->executor->submit(group->executor, task_main, copy) != 0) {
        alloc_put(copy);
        task_call(&task);
    }
    errno = saved;
    return 0;
}

int cctx_group_wait(cctx_group_t *group)
{
    if (!group) return EINVAL;
    if (frame_within(group)) return EDEADLK;
    group_drain(group);
    cctx_cancel(group->ctx);
    return (int)sync_load_relaxed(&group->error, alone);
}

void cctx_group_free(cctx_group_t *group)
{
    if (!group) return;
    cctx_cancel(group->ctx);
    if (frame_within(group)) return;
    group_drain(group);
    cctx_unref(group->ctx);
    alloc_put(group);
}
