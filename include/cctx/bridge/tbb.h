/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/tbb.h - an arena of oneTBB as an executor; for C++. */
#ifndef CCTX_BRIDGE_TBB_H
#define CCTX_BRIDGE_TBB_H

#ifndef __cplusplus
#error "cctx/bridge/tbb.h is for C++"
#endif

#include <cctx/executor.h>

#include <mutex>
#include <new>
#include <shared_mutex>
#include <tbb/task_arena.h>

/*
 * cctx_tbb_t - an executor that enqueues in a task_arena of the program's.
 *
 *     tbb::global_control threads(tbb::global_control::max_allowed_parallelism, 9);
 *     tbb::task_arena arena(8, 0);
 *     cctx_tbb_t pool(arena);
 *     cctx_group_t *group = cctx_group_new(ctx, &pool, 0);
 *     ... cctx_group_go, cctx_after_func_on ...
 *
 * TRAPS: an arena has at most as many threads as TBB has workers, one less than processors unless a
 * global_control says more, whatever its own number is. So tasks that wait for each other, or for a context,
 * need such a control. What is enqueued runs in no order. A thread of the arena that sleeps in
 * cctx_group_wait runs no tasks. An exception out of a task ends the program.
 *
 * Ownership  the arena is borrowed. At its end the executor waits for those who are inside submit, as a
 *            function may have run before the submit that enqueued it has returned, on a thread of the
 *            library's. Groups on it are freed before, and callbacks stopped by cctx_stop_wait.
 */
typedef struct cctx_tbb : cctx_executor_t {
    explicit cctx_tbb(tbb::task_arena &borrowed) : cctx_executor_t{cctx_tbb_submit}, arena(borrowed) {}
    ~cctx_tbb() { std::unique_lock<std::shared_mutex> none(inside); }
    cctx_tbb(const cctx_tbb &) = delete;
    cctx_tbb &operator=(const cctx_tbb &) = delete;

    /* Refuses, with ENOMEM, only where TBB gets no memory for the task. */
    static int cctx_tbb_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg) noexcept
    {
        cctx_tbb *pool = static_cast<cctx_tbb *>(self);
        std::shared_lock<std::shared_mutex> one(pool->inside);
        try {
            pool->arena.enqueue([fn, arg] { fn(arg); });
        } catch (const std::bad_alloc &) {
            return ENOMEM;
        }
        return 0;
    }

private:
    tbb::task_arena &arena;
    std::shared_mutex inside;
} cctx_tbb_t;

#endif
