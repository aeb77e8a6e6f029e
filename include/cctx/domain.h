/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/domain.h - a runtime of one's own: allocator, clock, and deadlines driven by any event loop. */
#ifndef CCTX_DOMAIN_H
#define CCTX_DOMAIN_H

#include <cctx/cctx.h>

/*
 * WHAT IT IS
 *
 * A domain is where contexts live: what their memory comes from, what clock their deadlines go by, and who
 * fires them. cctx_background() and cctx_todo() are of the default domain, which has the C library's
 * allocator, CLOCK_MONOTONIC, and threads of the library that fire deadlines. A domain of one's own has the
 * allocator and the clock that it is given, and no thread: the host, an event loop, a scheduler or a test,
 * calls cctx_domain_run when cctx_domain_next says so (B6).
 *
 * Contexts are derived from cctx_domain_background with the functions of <cctx/cctx.h>, and live in the
 * domain of what they are derived from. Two domains share nothing but the library's records of threads (a few
 * KiB for each thread, from the C library's allocator): cctx_with_any answers EINVAL where two parents are of
 * two domains.
 *
 * DEADLINES fire in cctx_domain_run. In a domain without a clock of its own they fire in a wait of a thread,
 * too, when their time has come (C27).
 *
 * TIMED WAITS in a domain with a clock of its own end in cctx_domain_run only, for nobody can sleep by that
 * clock: cctx_wait_until stands in the domain as a deadline, which cctx_domain_next tells of like any other.
 * Without memory for that it returns false at once, with errno ENOMEM. cctx_wait needs no memory.
 *
 * CALLBACKS run, as ever, on the thread that cancels. Those of a context that was ended by a deadline, or by
 * cctx_cancel_async, run in cctx_domain_run (C28), after it has fired what was due. No runner thread is
 * needed, and cctx_after_func does not answer EAGAIN. The interrupts of a guard after the first come in
 * cctx_domain_run as well, at intervals of the domain's clock.
 *
 * COST: a domain counts its contexts in one word that its threads share, and each context, and each first
 * child or callback of one, is an allocation of 64 bytes.
 *
 * FORK: a domain works in the child as it does in the parent. The hooks must not fork.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* A domain. Opaque. */
typedef struct cctx_domain cctx_domain_t;

/*
 * cctx_domain_options_t - what a domain is made of.
 *
 * size       sizeof(cctx_domain_options_t). Fields beyond a smaller size count as 0; beyond what this release
 *            knows all must be 0.
 * user       is passed to each hook.
 * allocate   size bytes at a multiple of align, a power of two; they need not be set. NULL: there are none,
 *            and what the library was doing fails with ENOMEM.
 * release    takes back what allocate gave; p is never NULL. Both hooks, or NULL for both: the C library's.
 *            They are called by whichever thread uses a context of the domain, by several at one time, and
 *            for the memory of contexts that other threads have freed.
 * now        the domain's clock: any number that never falls, CCTX_NEVER excepted. NULL: cctx_now().
 * wake       tells the host to call cctx_domain_next again: a deadline was armed that is earlier than what
 *            cctx_domain_next would have said before, or callbacks or an asynchronous cancel wait for
 *            cctx_domain_run. It is called by the thread that did that, with nothing held, in the middle of
 *            its call; in a signal handler where cctx_cancel_async is called in one. So it is to be
 *            async-signal-safe then, and short: a write to an eventfd. A call too many is possible. NULL: the
 *            host looks by itself.
 * flags      0.
 *
 * Hooks may look at contexts and keep errno as they like; they derive, cancel and free none, and do not
 * call cctx_domain_run.
 */
typedef struct cctx_domain_options {
    size_t size;
    void *user;
    void *(*allocate)(void *user, size_t size, size_t align);
    void (*release)(void *user, void *p);
    cctx_time_t (*now)(void *user);
    void (*wake)(void *user);
    unsigned flags;
} cctx_domain_options_t;

/*
 * cctx_domain_new - make a domain.
 *
 * options    NULL: the default for each.
 * Returns    the domain. It has no context but its background.
 * Errors     EINVAL  a size of 0, a field set that this release does not know, one of allocate and release
 *                    alone. ENOMEM. EAGAIN: 255 domains live already.
 * Ownership  the options are copied. The domain is the caller's, until cctx_domain_free.
 */
CCTX_API CCTX_MUST_USE cctx_domain_t *cctx_domain_new(const cctx_domain_options_t *options);

/*
 * cctx_domain_background - the root of a domain: never canceled, no deadline, no values.
 *
 * Returns    the same at each call; valid until the domain is freed. NULL for NULL.
 * Ownership  cctx_ref and cctx_unref of it do nothing, as of cctx_background().
 */
CCTX_API const cctx_t *cctx_domain_background(cctx_domain_t *domain);

/*
 * cctx_domain_next - when the host is to call cctx_domain_run.
 *
 * Returns    the earliest deadline of a live context, exactly; CCTX_NEVER without one, or for NULL. The time
 *            now if callbacks or an asynchronous cancel wait, or if another thread is in the middle of
 *            cctx_domain_run or _next: ask again.
 * Ordering   an earlier deadline that is armed after the return is told by the hook wake.
 * Cost       O(log n) for each deadline that was armed since the last call.
 */
CCTX_API cctx_time_t cctx_domain_next(cctx_domain_t *domain);

/*
 * cctx_domain_run - fire what is due.
 *
 * Ends each context whose deadline is `now` or earlier, in the order of the deadlines, finishes asynchronous
 * cancels, then runs the callbacks of both. now is the host's business: the clock's time; one that is ahead
 * of the clock fires early.
 *
 * Returns    how many contexts it ended by their own deadline (those that are derived from them not counted).
 *            0, too, if another thread is in the middle of it, or for NULL.
 * Threads    any thread, one at a time: a second call at one time does nothing. While callbacks run,
 *            another thread's call does its work.
 * Blocking   as long as callbacks do.
 * Cost       O(log n) for each deadline that was armed since the last call or fires; the cancels.
 */
CCTX_API size_t cctx_domain_run(cctx_domain_t *domain, cctx_time_t now);

/*
 * cctx_domain_free - free a domain in which no context lives.
 *
 * When it returns 0, all that allocate ever gave has been released. No other call on the domain, or on its
 * background, is in progress or follows, and no callback is registered on the background; the last cctx_unref of
 * a context by another thread may just be returning.
 *
 * Returns    0; EINVAL for NULL; EBUSY, and nothing has changed: a context lives or is held by a callback (or
 *            was, and cctx_domain_run has not come by since), a cctx_domain_run is in progress, or a thread of
 *            the program was stopped in the middle of a call for so long (a second) that what it may look at
 *            could not be released.
 * Blocking   until other threads have left the calls in which they may look at what was freed (a grace
 *            period), a second at most.
 */
CCTX_API int cctx_domain_free(cctx_domain_t *domain);

#ifdef __cplusplus
}
#endif

#endif
