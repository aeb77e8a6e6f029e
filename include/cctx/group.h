/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/group.h - tasks that share a context: golang.org/x/sync/errgroup. The first error cancels the rest. */
#ifndef CCTX_GROUP_H
#define CCTX_GROUP_H

#include <cctx/cctx.h>
#include <cctx/executor.h>

/*
 * A group is work that is done in parts. Each part is a task, a function that gets the group's context and
 * returns 0 or an error. The first error is the group's: it cancels the context, so that the other tasks
 * can stop, and cctx_group_wait returns it when all have.
 *
 *     cctx_group_t *group = cctx_group_new(ctx, NULL, 8);     at most 8 threads at a time
 *     for (size_t i = 0; i < n; i++)
 *         cctx_group_go(group, fetch, &urls[i]);
 *     int err = cctx_group_wait(group);
 *     cctx_group_free(group);
 *
 * The defaults at the head of cctx.h hold here, for groups as for contexts; and
 *
 *   Threads    any number of threads may start tasks and wait, tasks of the group among them. As with Go's
 *              groups it is best to wait in one place: a wait that comes before the first task was started
 *              waits for nothing. cctx_group_free comes after all other calls, as for any object.
 *   Ordering   cctx_group_go happens-before the start of its task; the end of a task happens-before the
 *              return of each cctx_group_wait that waited for it, and before the start of the task that
 *              takes its place where a limit holds that one up.
 *   fork       in the child the group has no tasks: those that ran are the parent's, what they hold is
 *              lost, and nobody waits for them. Otherwise it may be used there like a new one. A task that
 *              forks itself is no task of the child's group; there, fn's result is dropped.
 */
typedef struct cctx_group cctx_group_t;

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_group_new - make a group, and a context for it that is derived from parent. Go's WithContext.
 *
 * With an executor each task is submitted to it; with NULL each gets a thread of its own, which has the
 * signal mask of the thread that started it and is detached: a wait waits for fn, not for what the thread
 * does at its end. Of limit tasks, submitted ones included, none more is started before one has ended; 0
 * is no limit (Go's zero Group). Below a parent that is done the tasks run all the same, with a context
 * that is done.
 *
 * Returns    the group; free it with cctx_group_free. Or NULL.
 * Errors     EINVAL: parent, or the executor's submit, is NULL. ENOMEM.
 * Ownership  the executor is borrowed until the group is freed. The context keeps parent alive.
 * Cost       one allocation and a derivation.
 */
CCTX_API CCTX_MUST_USE cctx_group_t *cctx_group_new(const cctx_t *parent, cctx_executor_t *executor, size_t limit);

/*
 * cctx_group_context - the context that the tasks get.
 *
 * It ends with the first error, and then its cause has that error for its code; or else with the parent,
 * at the end of a cctx_group_wait, or with cctx_group_free.
 *
 * Returns    the same context each time; NULL, with errno EINVAL, for NULL.
 * Ownership  the group's, valid until that is freed. With a reference of its own it stays for longer.
 */
CCTX_API const cctx_t *cctx_group_context(cctx_group_t *group);

/*
 * cctx_group_go - start a task: fn(ctx, arg), ctx the group's context.
 *
 * The first task that returns something else than 0 cancels the context; what others return then is
 * dropped. A task that is started after that runs all the same: it finds ctx done.
 *
 * If the executor refuses the task, or no thread or no memory for it can be had, fn runs here, before the
 * return, and counts as any task does (B0).
 *
 * fn may start further tasks; while it runs the group is not at its end, so those are waited for too. It
 * returns normally, on the thread on which it began: no longjmp, exception or pthread_exit out of it.
 *
 * Returns    0: fn runs, will run, or has run. It fails for no other reason than
 * Errors     EINVAL: group or fn is NULL.
 * Blocking   with a limit, while so many tasks have not ended. So a task that starts others may wait for
 *            ever where all that could end do the same, as in Go; with a limit of 1, or on an executor that
 *            runs tasks in submit, it does. Where fn runs here, until it returns.
 * Cost       one allocation, and the submit; a thread's making without an executor.
 */
CCTX_API int cctx_group_go(cctx_group_t *group, int (*fn)(const cctx_t *ctx, void *arg), void *arg);

/*
 * cctx_group_wait - sleep until all tasks have ended, cancel the context, and return the first error.
 *
 * It may be called again, also after further tasks were started; the error stays.
 *
 * Returns    0, or what the first task returned that did not return 0; EINVAL for NULL.
 *            EDEADLK, at once: the caller is a task of the group and would wait for itself.
 * Signals    a handler that runs meanwhile does not end the wait.
 * Blocking   until the last task has ended. Callbacks of the context run here, before the return.
 *            Not a cancellation point of pthreads.
 */
CCTX_API int cctx_group_wait(cctx_group_t *group);

/*
 * cctx_group_free - cancel the context, sleep until all tasks have ended, and free the group.
 *
 * So it is right on every way out, as cctx_close is for a context. NULL is a no-op. Called from a task of
 * the group it cancels and frees nothing, and the group is still to be freed.
 *
 * Blocking   as cctx_group_wait.
 */
CCTX_API void cctx_group_free(cctx_group_t *group);
CCTX_API CCTX_FREED_BY(cctx_group_free) cctx_group_t *cctx_group_new(const cctx_t *parent, cctx_executor_t *executor,
                                                                     size_t limit);

#ifdef __cplusplus
}
#endif

#endif
