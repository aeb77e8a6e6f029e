/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/guard.h - interrupting somebody else's API: fires again until disarmed, gone when disarm returns. */
#ifndef CCTX_GUARD_H
#define CCTX_GUARD_H

#include <cctx/cctx.h>

/*
 * WHAT IT IS FOR
 *
 * Many libraries have a call that ends what another thread does with a handle: sqlite3_interrupt, duckdb_interrupt,
 * PQcancel, uv_async_send. To call it once, when a context ends, goes wrong in two ways. It may come too early: some
 * drop an interrupt that comes before the statement has started, and then the statement runs to its end. And it may come
 * too late: what it ends is the next statement on that handle, or a handle that is closed.
 *
 * A guard stands around the statement. While it is armed and its context has ended, interrupt is called again and
 * again; after cctx_guard_disarm it is not called any more, and the handle may be used anew, or closed.
 *
 *     cctx_guard_t guard;
 *     int err = cctx_guard_arm(&guard, ctx, interrupt, db);
 *     if (err == 0) {
 *         result = step(db);
 *         cctx_guard_disarm(&guard);
 *     }
 */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_guard_t - the storage of one guard: 256 bytes, the caller's, private to the library while armed.
 *
 * Its size is frozen, as that of a cctx_callback_t (C31). It stays at its address while armed. Storage that a disarm may
 * reach before it was first armed is zeroed by the caller.
 */
typedef struct cctx_guard {
    uint64_t cctx_private[32];
} cctx_guard_t;

/*
 * cctx_guard_arm - call interrupt(handle) when the context is done, and again until the guard is disarmed.
 *
 * The first call comes where a callback of cctx_after_func does: on the thread that cancels, for a deadline on the
 * runner thread, and if ctx is done already here, before the return. The others come on the runner thread, a
 * millisecond after the first has returned, then after intervals that grow to a tenth of a second (B4). Two calls for
 * one guard never overlap. In a domain of one's own (<cctx/domain.h>) they come in cctx_domain_run, by the domain's
 * clock: no thread is made, and the host goes on driving it while another thread is in the guarded call. Without memory
 * for the next one none comes any more there.
 *
 * interrupt may do what a callback may, and disarm its own guard. It returns normally. While it blocks on the runner
 * thread it delays other callbacks and guards, never a deadline.
 *
 * Errors     EINVAL: guard, ctx or interrupt is NULL. ENOMEM; EAGAIN: a library thread could not be made. Then interrupt
 *            is not called, and a disarm does nothing. Once the guard is armed, memory that runs out does not keep the
 *            calls from coming.
 * Threads    the guard is not armed, and nobody else uses it during the call.
 * Ordering   what the caller did before happens-before each call of interrupt; so does the end of the context. The end
 *            of a call happens-before the next one.
 * Ownership  guard is the library's until cctx_guard_disarm has returned; guard and handle stay valid until then. The
 *            guard keeps ctx alive until the first call has returned or the guard was disarmed, no longer.
 * Blocking   as long as interrupt does, if ctx is done already.
 * Cost       O(1): about that of a context with a deadline and of two callbacks. The first call of a process starts
 *            threads.
 */
CCTX_API CCTX_MUST_USE int cctx_guard_arm(cctx_guard_t *guard, const cctx_t *ctx, void (*interrupt)(void *handle),
                                          void *handle);

/*
 * cctx_guard_disarm - no more interrupts.
 *
 * When it returns, interrupt is not running for this guard and never will again: the handle may be used for the next
 * statement, or closed, and the storage armed anew, or freed (B4). Called from inside of interrupt it returns at once;
 * then interrupt does not touch the handle after, and the guard is gone or armed anew as the program likes.
 *
 * NULL, zeroed storage and a guard that is not armed are no-ops.
 *
 * Threads    arm and disarm of one guard are ordered by the program, but for a disarm from inside of interrupt.
 * Ordering   the end of each call of interrupt happens-before the return, except in interrupt itself.
 * Blocking   while interrupt runs in another thread. An interrupt that waits for the thread that disarms waits for
 *            ever.
 * Cost       O(1); no system call, unless interrupt runs just then.
 */
CCTX_API void cctx_guard_disarm(cctx_guard_t *guard);

#ifdef __cplusplus
}
#endif

#endif
