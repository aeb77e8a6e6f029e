/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/signal.h - contexts that signals end, and cancel from a signal handler. */
#ifndef CCTX_SIGNAL_H
#define CCTX_SIGNAL_H

/*
 * A signal handler may have interrupted anything: the allocator, or a call of this library in the middle of
 * any step. So what it may do is little: cctx_cancel_async ends the one context that it is called on, and
 * leaves the rest - the contexts derived from it, the callbacks - to be done elsewhere.
 *
 * THE REST is done by the library's timer thread, if it runs: it does once a deadline was armed or
 * cctx_service_start was called, and always with cctx_with_signals. In any case it is done in the next call,
 * by whatever thread, that derives, cancels or waits (B2); a look, which stays two loads, is none of these.
 * In a program without the timer thread a thread that sleeps already in a wait on a descendant makes no such
 * call: cctx_service_start is for programs that cancel from handlers and wait.
 *
 * Callbacks run on the runner thread (C28). If it cannot be made they run in the next call that derives, cancels or
 * waits, there; cctx_service_start makes it beforehand.
 *
 * A cctx_cancel on a context that cctx_cancel_async has ended returns false, and when it returns every
 * descendant is done: the promises of cctx_cancel hold whatever came before (C3).
 *
 * FORK: what a handler left to be done is done in the child, too, by the next such call there. Handlers and
 * contexts of cctx_with_signals are inherited and work in the child (C23).
 */

#include <cctx/cctx.h>

#include <signal.h>
#include <sys/select.h> /* sigset_t, where a strict C has none in <signal.h> */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_cancel_async - cancel a context from a signal handler.
 *
 * ctx itself is done when the call returns, with the cause cctx_canceled; its waiters are woken. Contexts
 * derived from it and callbacks follow, see the head (B2). May be called anywhere, not in handlers only.
 * The handler's thread has a reference to ctx, or the program sees to it that another one keeps it: a handler
 * that finds ctx in a variable must not find one whose last reference is just being dropped.
 *
 * Returns    as cctx_cancel: true, this call ended ctx; false, ctx was done already, or is none that can be
 *            canceled.
 * Ordering   as cctx_cancel.
 * Signals    async-signal-safe, whatever was interrupted: no allocation, no lock, no reclamation section, no
 *            thread-local that is not there yet. It keeps errno.
 * Blocking   never. ctx is ended by one step, wait-free. With children or callbacks it is handed on by a
 *            compare-and-swap, which is repeated only if another handler's, or the drain's, got through in
 *            between: lock-free.
 * Cost       O(1). One futex wake if a thread waits on ctx; another one for the timer thread if ctx has, or
 *            had, children or callbacks.
 */
CCTX_API bool cctx_cancel_async(cctx_t *ctx);

/*
 * cctx_service_start - make the library's threads now, not when they are first needed.
 *
 * Returns    0: both run. EAGAIN: one could not be made; call it again.
 * Cost       a look, if they run. In the child of a fork they are made anew.
 */
CCTX_API int cctx_service_start(void);

/*
 * cctx_with_signals - derive a context that ends when one of several signals arrives: Go's
 *                     signal.NotifyContext.
 *
 * The context can be canceled, waited on and derived from like any other. The first signal of the set that
 * the process gets while the context lives ends it: cctx_err is ECANCELED, and cctx_cause has the signal's
 * number as its code and a text such as "interrupt signal received", "terminated signal received", "signal 40
 * received", which is static. A context that is canceled by the program before has that cause; the signal
 * then does nothing. So does a second signal, for as long as the context lives: to get the signal's usual
 * action back, drop the context's last reference.
 *
 * The handler is the library's, with SA_RESTART and SA_ONSTACK. It is set when the first context asks for the
 * signal; when the last one that asks is freed, the action that was there before is there again, unless the
 * program has set another in the meantime. (Freed: with its last reference, or, if the signal's cancel is just
 * passing through it and its children, when that has passed (C21).) The handler ends the context itself, on whatever thread the signal
 * arrives: who looks after it sees it done. What is derived from it follows as by cctx_cancel_async. One
 * signal ends all contexts that ask for it.
 *
 * A signal that is blocked in every thread does not arrive. Signals that an instruction of the program causes,
 * such as SIGSEGV, can be asked for, but returning from their handler repeats the instruction.
 *
 * Returns    the child, with one reference for the caller; or NULL.
 * Errors     EINVAL: parent or signals is NULL; the set is empty, or has SIGKILL, SIGSTOP or another signal
 *            that no handler can be set for. ENOMEM. EAGAIN: a thread of the library's could not be made. On
 *            failure nothing has changed.
 * Blocking   this call, and the one that frees such a context, take a lock that serializes them with each
 *            other and with nothing else; signals are blocked in the thread meanwhile. They are the only
 *            calls of the library that do.
 * Cost       O(signals in the set + such contexts alive), a system call or two for each signal. The memory of
 *            such a context (128 bytes) is kept for the next one, and not given back to the allocator.
 */
CCTX_API CCTX_OWNED cctx_t *cctx_with_signals(const cctx_t *parent, const sigset_t *signals);

#ifdef __cplusplus
}
#endif

#endif
