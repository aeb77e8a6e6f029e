/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/openmp.h - OpenMP's tasks as an executor, inside of a parallel region. */
#ifndef CCTX_BRIDGE_OPENMP_H
#define CCTX_BRIDGE_OPENMP_H

#include <cctx/executor.h>

#ifndef _OPENMP
#error "cctx/bridge/openmp.h needs OpenMP: -fopenmp"
#endif
#include <omp.h>

/*
 * The tasks of a group become OpenMP's tasks, and the threads of the region run them:
 *
 *     #pragma omp parallel
 *     #pragma omp single
 *     {
 *         cctx_group_t *group = cctx_group_new(ctx, cctx_openmp(), 0);
 *         #pragma omp taskgroup
 *         for (int i = 0; i < n; i++)
 *             cctx_group_go(group, work, &part[i]);
 *         err = cctx_group_wait(group);
 *         cctx_group_free(group);
 *     }
 *
 * WHAT OPENMP CAN: a task is made by a thread of the region, and only by one. What is submitted elsewhere -
 * by a thread that cancels from outside, by the runner thread at a deadline - is refused, so the library runs
 * it there. So it is in a region of one thread, which would run it at once.
 *
 * WHAT IT CANNOT: nothing ends a task, a loop or a region from outside. `omp cancel` is for threads of the
 * region, where OMP_CANCELLATION is set. A loop looks: `if (cctx_is_done(ctx)) continue;`.
 *
 * TRAPS: OpenMP does not know that a thread sleeps. One in cctx_group_wait runs no tasks; the end of a
 * taskgroup does, those that tasks have started, too, so it comes first, and the wait finds all done. A task
 * that waits for its context keeps a thread; tasks that wait for each other are no more than the region has
 * threads. A callback that was submitted may not begin before its thread comes to the end of a taskgroup or
 * to a barrier: no cctx_stop_wait for it before.
 */

/* Refuses, with EAGAIN, outside of a region with several threads. */
static inline int cctx_openmp_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    if (!omp_in_parallel())
        return EAGAIN;
#pragma omp task firstprivate(fn, arg)
    fn(arg);
    return 0;
}

/*
 * cctx_openmp - the executor: the threads of the region in which submit is called.
 *
 * Returns    always the same static structure, of this translation unit; there is nothing to close.
 */
static inline cctx_executor_t *cctx_openmp(void)
{
    static cctx_executor_t executor = {cctx_openmp_submit};

    return &executor;
}

#endif
