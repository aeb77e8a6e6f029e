/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/wait.h - blocking that a context can end: a sleep, a futex, poll; one of many contexts. */
#ifndef CCTX_WAIT_H
#define CCTX_WAIT_H

/*
 * WHAT IT IS
 *
 * cctx_wait sleeps until a context is done. These functions sleep until something else happens, or a context
 * is done, whichever is first. The defaults are those of cctx.h. For all of them:
 *
 *   Returns    0 where what they wait for has come; else an error, which is cctx_err(ctx) if the context
 *              ended the wait.
 *   Errors     EINVAL: a NULL argument that is not said to be allowed.
 *   Ordering   an error of the context: acquire, as cctx_err.
 *   Signals    a handler that runs meanwhile does not end the wait. Not async-signal-safe.
 *   Blocking   until what is said. Not a cancellation point of pthreads. The deadline of a context ends its
 *              wait even if the timer thread is starved (C27).
 */

#include <cctx/cctx.h>
#include <poll.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_sleep - sleep for a duration, unless the context ends.
 *
 * duration is in nanoseconds; 0 or less only looks. On a context that can never be done it is a plain sleep.
 *
 * Returns    0          the duration is over.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx).
 */
CCTX_API int cctx_sleep(const cctx_t *ctx, int64_t duration);

/*
 * cctx_futex_wait - FUTEX_WAIT that a context ends.
 *
 * Sleeps while *word is expected, until a FUTEX_WAKE of word or until ctx is done. The word is one of this
 * process: it is woken by FUTEX_WAKE | FUTEX_PRIVATE_FLAG. It is the building block by which a mutex, a semaphore
 * or a queue that is made of futexes ends with a context (B3): in such code it takes the place of FUTEX_WAIT,
 * and a result other than 0 ends the loop around it.
 *
 *     while (!take(&semaphore->count))
 *         if ((err = cctx_futex_wait(ctx, &semaphore->count, 0)) != 0) return err;
 *
 * The word is looked at first: if it is not expected, the result is 0 even if ctx is done. And a call that
 * took a wake from the word never reports the end of the context instead: a FUTEX_WAKE of one is not lost to the
 * other sleepers because the one that it woke was canceled at that moment.
 *
 * Returns    0          *word was not expected, or was woken. As of any futex wait this says nothing: look again.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx), which is done.
 * Errors     EINVAL: also a word at an address that is no multiple of 4.
 * Ordering   0: none; read the word again, with acquire.
 * Ownership  word is the program's, and stays there as long as threads sleep on it. If it is given back by a
 *            thread that another one has just woken, a late wake may reach that address, as with any futex.
 * Cost       one system call, futex_waitv. On kernels before 5.16, or where a sandbox refuses it, FUTEX_WAIT and
 *            a callback on ctx: then ENOMEM and EAGAIN are possible, as of cctx_after_func; the end of ctx wakes all
 *            who sleep on the word, some for nothing; the sleep is cut into pieces, each as long as all before it,
 *            a second at most; and in the rare case that the end of ctx falls between a look and a sleep, it
 *            is seen when the piece is over.
 */
CCTX_API CCTX_MUST_USE int cctx_futex_wait(const cctx_t *ctx, const uint32_t *word, uint32_t expected);

/*
 * cctx_wait_any - sleep until one of several contexts is done, or a point in time has come.
 *
 * until is on the clock of cctx_now; one that has passed only looks, CCTX_NEVER is never. Contexts that can never
 * be done, and one context several times, are fine.
 *
 * Returns    0          one is done; *which, unless which is NULL, is the index of the first in ctxs that is.
 *            ETIMEDOUT  the time has come.
 *            EDEADLK    none can ever be done, and until is CCTX_NEVER.
 *            In these last two cases *which is untouched.
 * Errors     EINVAL: ctxs is NULL, n is 0, or one of the contexts is NULL. ENOMEM, with more than 128.
 * Ordering   0: acquire, as cctx_err of that context.
 * Cost       O(n). No memory for up to 128 contexts. For more, or without futex_waitv, it waits for a
 *            cctx_with_any of them, which is made and dropped here.
 */
CCTX_API CCTX_MUST_USE CCTX_ARRAY(__read_only__, 1, 2) int cctx_wait_any(const cctx_t *const ctxs[], size_t n,
                                                                     cctx_time_t until, size_t *which);

/*
 * cctx_fd - a file descriptor that is readable once the context is done: for poll, epoll and event loops.
 *
 * It is an eventfd, made by the first call, and the same number at each later one; a value context has that of the
 * context it shares the done word with. The program only polls it: it does not read, write or close it.
 *
 * In the child of a fork the number stands for the parent's descriptor, as it was: the child asks again and gets one of
 * its own.
 *
 * Returns    the descriptor, or -1.
 * Errors     in errno: EINVAL; EDEADLK: ctx can never be done; EMFILE, ENFILE, ENOMEM: none can be made now, and nothing
 *            has changed: a later call may succeed.
 * Ownership  the context's: closed when the context is freed, so not before the last reference is dropped.
 *            Close-on-exec.
 * Blocking   never. A deadline makes it readable when the library fires it.
 * Cost       a descriptor and a system call, the first time, and some memory of the context's; from then on the
 *            end of ctx costs a write and a futex wake.
 */
CCTX_API CCTX_MUST_USE int cctx_fd(const cctx_t *ctx);

/*
 * cctx_poll - poll(2) that a context ends.
 *
 * Sleeps until one of the n descriptors in fds is ready, as poll without a time-out, or until ctx is done. If both
 * are so, the context wins: readiness is a level, and is not lost. With n = 0, where fds may be NULL, it only waits for
 * the context.
 *
 * Returns    0          *ready, unless ready is NULL, is how many of fds have revents.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx). fds is as it was, and so is *ready.
 *            EDEADLK    n is 0 and ctx can never be done.
 * Errors     EINVAL: fds is NULL and n is not 0, or n reaches the limit of open files. As of cctx_fd: EMFILE, ENFILE,
 *            ENOMEM.
 * Cost       one system call; the first on a context as cctx_fd, and memory for 16 descriptors or more.
 */
CCTX_API CCTX_MUST_USE CCTX_ARRAY(__read_write__, 2, 3) int cctx_poll(const cctx_t *ctx, struct pollfd *fds, nfds_t n,
                                                                      int *ready);

#ifdef __cplusplus
}
#endif

#endif
