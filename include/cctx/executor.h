/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/executor.h - where callbacks and tasks run: an interface to the program's own pool of threads. */
#ifndef CCTX_EXECUTOR_H
#define CCTX_EXECUTOR_H

#include <cctx/cctx.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_executor_t - somebody who runs functions: a pool of threads, an event loop. The program implements it.
 *
 * submit(self, fn, arg) is called by the library, with nothing held, on whatever thread has something to run. It
 * returns 0 if fn(arg) will be called, once: on any thread, at any time, also before submit returns, and also by
 * submit itself. Any other value, such as EAGAIN, says that it will not be: then the library calls it there and then
 * (B0). What was done before submit was called must happen-before fn(arg), as the mutex of a queue sees to.
 *
 * A pool puts this structure into its own and gets from self to itself.
 *
 * Ownership  the library borrows it until the last submit has returned, which may be after fn(arg) has, on another
 *            thread. So it is static, or its owner counts those who are inside submit before he frees it.
 * Blocking   where submit blocks, it delays whoever cancels.
 * Fork       in the child process what was submitted by the parent is not run (C23).
 */
typedef struct cctx_executor {
    int (*submit)(struct cctx_executor *self, void (*fn)(void *arg), void *arg);
} cctx_executor_t;

/*
 * cctx_after_func_on - run fn(arg) by an executor once the context is done.
 *
 * As cctx_after_func, but what runs where fn would is ex->submit: on the thread that cancels, after every descendant
 * is done and every waiter is woken; for a deadline on the runner thread; if ctx is done already here, before the
 * return. The thread that cancels neither runs fn nor waits for it, unless submit fails: then fn runs on that thread
 * (B0).
 *
 * To be submitted counts as to have started (B0): no stop prevents fn from then on, cctx_stop returns false, and
 * cctx_stop_wait waits until the executor has run it, and so for what stands before it in the executor's queue. A
 * thread of the executor's own that waits for what stands behind in its queue waits for ever.
 *
 * fn may do all that a callback of cctx_after_func may.
 *
 * Errors     EINVAL: ctx, cb, ex, ex->submit or fn is NULL. ENOMEM; EAGAIN: ctx has a deadline and the runner thread
 *            could not be made. Then fn does not run. A submit that fails is no error of this call.
 * Threads    cb is not registered already, and nobody else uses it during the call.
 * Ordering   what the caller did before happens-before fn; the end of the context does, too.
 * Ownership  cb as in cctx_after_func: the library's until a stop returned true, or cctx_stop_wait returned, or, in
 *            the thread that ran it, fn has returned. The registration keeps ctx alive until fn has run or was
 *            stopped, wherever it runs (C28).
 * Blocking   as long as submit does, if ctx is done already.
 * Cost       as cctx_after_func, and one reference to ctx more where fn is submitted.
 */
CCTX_API CCTX_MUST_USE int cctx_after_func_on(const cctx_t *ctx, cctx_callback_t *cb, cctx_executor_t *ex,
                                              void (*fn)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
