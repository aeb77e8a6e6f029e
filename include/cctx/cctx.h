/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx - Go's context package for C: a lock-free tree that carries cancellation, deadlines and values. */
#ifndef CCTX_CCTX_H
#define CCTX_CCTX_H

/*
 * WHAT IT IS
 *
 * A context stands for one piece of work. Work that is part of other work derives its context from the
 * other's, so the contexts form a tree, and what happens to a context happens to all below it: a cancel,
 * a deadline. On the way down it carries request-scoped values. Functions take the context as their first
 * parameter and ask it (cctx_err), wait on it (cctx_wait, cctx_done) or leave a callback with it
 * (cctx_after_func).
 *
 * A `const cctx_t *` is a context: who has one may look, wait, derive and hold a reference. A `cctx_t *`
 * may also be canceled. A function that must not cancel its caller's work takes a `const cctx_t *`. This
 * is Go's split of `ctx` and `cancel`, made by the type.
 *
 * Marks such as (C3) number the promises of this page; the tests cite them.
 *
 * DEFAULTS: unless a function says otherwise,
 *
 *   Returns    a function that returns a pointer returns NULL on failure and sets errno; one that returns
 *              int returns 0 or an errno value and leaves errno alone.
 *   Errors     a NULL or impossible argument is answered with EINVAL, or by the no-op that the function
 *              states; it never crashes. A derivation that fails leaves everything as it was: ENOMEM, or
 *              EAGAIN where a library thread could not be made (C32).
 *   Threads    any thread may call it at any time on a context to which it holds a reference. No thread
 *              has to register, and threads come and go as they like.
 *   Ordering   none beyond the table below.
 *   Signals    not async-signal-safe. (cctx_err and cctx_is_done are.)
 *   Ownership  arguments are borrowed for the time of the call.
 *   Blocking   never; apart from the allocator no operation takes a lock, so a thread that is stopped
 *              inside of one keeps no other from going on. Nothing is held while a callback or a
 *              destructor runs (C6).
 *   Cost       O(1), no system call. No walk recurses, whatever the depth or the width of the tree: a
 *              chain of 1,000,000 contexts is canceled, freed and printed on a 64 KiB stack (C7).
 *
 * WHAT IS ORDERED WITH WHAT: all on the left, and what its thread did before it, happens-before the right.
 *
 *   the cancel or deadline that ended ctx   cctx_err, cctx_is_done, cctx_cause, a wait, bit 0 of the done
 *                                           word read with acquire, or a callback, that report it on ctx
 *                                           or on any descendant (C5)
 *   the derivation of a child that the      the return of that cancel, won or lost: the child is done (C3)
 *   program orders before a cancel
 *   the end of ctx                          the end of a descendant by it: who sees the descendant done
 *                                           sees ctx, and every context between, done too (C4)
 *   cctx_after_func                         the start of fn
 *   the end of fn                           the return of cctx_stop_wait (C29)
 *   cctx_unref, and every use before it     the destructor of the value, and the reuse of the memory
 *   cctx_cancel that returns false          orders as a look that finds ctx done
 *   cctx_err that returns 0                 nothing: the context may be done an instant later
 *   cctx_stop that returns false            nothing: fn may run just now, or may have run
 *
 * A context's own fields never change after its derivation, the state apart. Handing a context to another
 * thread is the program's business, as with any pointer. Any two functions may run on one context at one
 * time; only the cctx_after_func of a cctx_callback_t must be ordered by the program with other calls on
 * the same storage.
 *
 * AWKWARD TRUTHS
 *
 * - Canceling is not one instant. During the call one child may be seen done and its sibling live. It
 *   runs downward, though, and when the call returns all are done (C3, C4).
 * - A deadline never fires early, but it may be seen late: the operating system decides when the timer
 *   thread runs, and where more than five hundred a second fire, a sleep of it lasts 2 ms, so that they are
 *   fired together (who waits in cctx_wait is not held up). On a suspended machine CLOCK_MONOTONIC stands still, and deadlines stretch, as in Go
 *   (C13, C15).
 * - When cctx_stop returns false the callback may be running. cctx_stop_wait is the one that waits.
 * - Dropping the last reference of a live context is not a cancel: what is derived from it stays live
 *   (C21).
 * - A reference counted up and down on one shared context by many threads shares one cache line. Deriving
 *   from that context does not: a child per request scales better than a reference per request.
 * - A canceled thread is not interrupted. It ends when it looks, or wakes from a wait on its context.
 *
 * THREADS OF THE LIBRARY: none until the first deadline is armed, which makes the timer thread; the first
 * callback on a context with a deadline makes a second, the runner. <cctx/signal.h> makes both: there a
 * cancel from a signal handler is spread by the first. So does the first guard. <cctx/shared.h> has two of
 * its own. All signals are blocked in them. There are no others, and none in a domain (<cctx/domain.h>).
 *
 * FORK: the child process may use, cancel and free the contexts it inherited, derive new ones and get
 * their deadlines. Inherited deadlines fire once the child arms one or waits. A cancel or a callback that
 * another thread of the parent process was in the middle of is not finished in the child until somebody
 * there cancels again (C23).
 *
 * MEMORY: bounded by the live contexts, the child slots of the widest moment of each live parent and of
 * the armed deadlines, and a constant per thread. A parent that lives for ever under a churn of children
 * does not grow. Contexts stand in pages of 62, and a page goes back to the allocator with its last one.
 * While a thread is stopped inside a call, memory that others free may wait for it (C22).
 *
 * ABI: struct cctx is opaque. Its first word is a pointer to its done word, in which bit 0 is "done" and
 * bit 1 "by a deadline"; that and the sizes of the structs below are frozen, all else may change (C31).
 *
 * CHECKING: a library built with CCTX_CHECK=1 aborts with one line on stderr at a use after free, an
 * unref too many or a callback that is registered twice, and tells at exit where in the program contexts
 * were made that were never closed; see cctx/inspect.h.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header. Releases with the same major number, once it is 1 or more, keep the ABI. */
#define CCTX_VERSION_MAJOR 0
#define CCTX_VERSION_MINOR 1
#define CCTX_VERSION_PATCH 0
#define CCTX_VERSION "0.1.0"

/*
 * WHAT A COMPILER IS TOLD, so that misuse is a warning of gcc or clang and an editor's underline. Each macro but
 * CCTX_API may be defined empty before this header, by a program that means it. The attributes are spelled with
 * underscores, since a program may have a macro malloc.
 *
 *   CCTX_MUST_USE   a result that must not be dropped: a reference, or the only sign that something did not happen
 *                   or is still in use. A (void) does not silence gcc: test the result.
 *   CCTX_FREED_BY   gcc 11 on: what call takes back. -Wall finds a context that is used after its cctx_close or
 *                   cctx_unref, or given to free(); gcc -fanalyzer finds the path on which one is lost, as go vet's
 *                   lostcancel does. Who counts one context up and down in one function goes on with the pointer
 *                   that cctx_ref returned. It is not the plain attribute malloc: a context's first word points to
 *                   memory that others have, which that one denies.
 *   CCTX_NOT_NULL   the result is never NULL.
 *   CCTX_PRINTF     a format, checked against its arguments.
 *   CCTX_ARRAY      gcc 10 on: the array that is one argument has as many elements as another one says; a shorter
 *                   array is a warning.
 *
 * No argument is marked nonnull: NULL is answered (C32), and the mark would have the compiler delete the look at it.
 */
#if defined(__GNUC__)
#define CCTX_API __attribute__((__visibility__("default")))
#else
#define CCTX_API
#endif
#if defined(__GNUC__) && !defined(CCTX_MUST_USE)
#define CCTX_MUST_USE __attribute__((__warn_unused_result__))
#elif !defined(CCTX_MUST_USE)
#define CCTX_MUST_USE
#endif
#if defined(__GNUC__) && !defined(CCTX_NOT_NULL)
#define CCTX_NOT_NULL __attribute__((__returns_nonnull__))
#elif !defined(CCTX_NOT_NULL)
#define CCTX_NOT_NULL
#endif
#if defined(__GNUC__) && !defined(CCTX_PRINTF)
#define CCTX_PRINTF(string, first) __attribute__((__format__(__printf__, string, first)))
#elif !defined(CCTX_PRINTF)
#define CCTX_PRINTF(string, first)
#endif
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && !defined(CCTX_FREED_BY)
#define CCTX_FREED_BY(call) __attribute__((__malloc__(call, 1)))
#elif !defined(CCTX_FREED_BY)
#define CCTX_FREED_BY(call)
#endif
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10 && !defined(CCTX_ARRAY)
#define CCTX_ARRAY(access_mode, array, count) __attribute__((__access__(access_mode, array, count)))
#elif !defined(CCTX_ARRAY)
#define CCTX_ARRAY(access_mode, array, count)
#endif

/* A new reference to a context that its owner may cancel, and to one that he may not. */
#define CCTX_OWNED CCTX_MUST_USE CCTX_FREED_BY(cctx_close) CCTX_FREED_BY(cctx_unref)
#define CCTX_OWNED_CONST CCTX_MUST_USE CCTX_FREED_BY(cctx_unref)

#ifdef __cplusplus
extern "C" {
#endif

/* A context. Opaque; see the head for what `const` means. */
typedef struct cctx cctx_t;

/* A point in time: nanoseconds on CLOCK_MONOTONIC. A duration is an int64_t of nanoseconds. */
typedef int64_t cctx_time_t;

/*
 * cctx_cause_t - why a context was canceled: Go's `cause`.
 *
 * code is the program's own, often an errno value; text is a string for people, or NULL. A cause that is
 * passed by pointer is borrowed until the context and all that is derived from it are freed: make it
 * static (C10).
 */
typedef struct cctx_cause {
    int code;
    const char *text;
} cctx_cause_t;

/*
 * cctx_key_t - the identity of a value: one static object per key.
 *
 * The address is the key; two keys of one name are two keys. name is for cctx_print and may be NULL.
 * destroy, unless NULL, runs once on the value when its context is freed, on the thread that drops the
 * last reference (or, if a cancel is just passing through the context, on that thread) (C17).
 */
typedef struct cctx_key {
    const char *name;
    void (*destroy)(void *value);
} cctx_key_t;

/*
 * cctx_callback_t - the storage of one callback: 64 bytes, the caller's, private to the library while
 *                   registered.
 *
 * Storage that a stop may reach before its first registration is zeroed by the caller.
 */
typedef struct cctx_callback {
    uint64_t cctx_private[8];
} cctx_callback_t;

/* ---- time -------------------------------------------------------------------------------------- */

/* No deadline: the point in time, or the duration, that never ends. */
#define CCTX_NEVER INT64_MAX

/*
 * Durations in nanoseconds, from an integer of microseconds, milliseconds, seconds. They are constant
 * expressions if n is one, evaluate n once, and do not saturate: CCTX_S reaches 292 years.
 */
#define CCTX_US(n) ((int64_t)(n) * 1000)
#define CCTX_MS(n) ((int64_t)(n) * 1000000)
#define CCTX_S(n) ((int64_t)(n) * 1000000000)

/*
 * cctx_now - the time by the clock of all deadlines: CLOCK_MONOTONIC, in nanoseconds.
 *
 * Signals    async-signal-safe.
 * Cost       one clock read, by the vDSO.
 */
CCTX_API cctx_time_t cctx_now(void);

/* ---- roots ------------------------------------------------------------------------------------- */

/*
 * cctx_background - the root of a tree: never canceled, without deadline or value.
 * cctx_todo       - the same, for code that does not know yet which context to use.
 *
 * Returns    always the same static context. cctx_ref and cctx_unref of it do nothing.
 * Signals    async-signal-safe.
 */
CCTX_API CCTX_NOT_NULL const cctx_t *cctx_background(void);
CCTX_API CCTX_NOT_NULL const cctx_t *cctx_todo(void);

/* ---- references -------------------------------------------------------------------------------- */

/*
 * cctx_ref - take one more reference.
 *
 * Returns    ctx; NULL for NULL.
 */
CCTX_API const cctx_t *cctx_ref(const cctx_t *ctx);

/*
 * cctx_unref - drop one reference.
 *
 * With the last one the context is detached from its parent and its deadline disarmed at once (if a
 * cancel or a deadline is just passing through it, when that has passed). This is not a cancel: contexts
 * derived from it stay live and keep its memory (C21). Nothing in the timer keeps memory of a dropped
 * context, however far off its deadline was (C14).
 *
 * NULL and the roots are no-ops. The call cannot fail and keeps errno.
 *
 * Threads    ctx is no longer the caller's after the call.
 * Ordering   release; the last one: acquire. Every use of ctx by any thread happens-before its value's
 *            destructor.
 * Blocking   never; a value's destructor runs here.
 * Cost       O(1), amortized; dropping the last reference of a chain frees the chain, in a loop.
 */
CCTX_API void cctx_unref(const cctx_t *ctx);

/*
 * cctx_close - cancel, then unref: Go's `defer cancel()`.
 *
 * The same as cctx_cancel(ctx); cctx_unref(ctx), and cheaper where the caller has the only reference.
 * NULL is a no-op.
 *
 * Ordering   as cctx_cancel and cctx_unref.
 * Blocking   never; callbacks and a value's destructor run here.
 */
CCTX_API void cctx_close(cctx_t *ctx);

/*
 * CCTX_SCOPED     - a variable whose context is closed at the end of its scope: Go's `defer cancel()`.
 * CCTX_SCOPED_REF - the same for a `const cctx_t *`, which is unreffed and not canceled.
 *
 *     CCTX_SCOPED cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(5));
 *     CCTX_SCOPED_REF const cctx_t *user = cctx_with_value(ctx, &user_key, name);
 *
 * On every way out: the end of the block, return, break, continue, goto, and a C++ exception; not by longjmp or
 * exit(). The last variable of a scope goes first. It is closed whatever it holds by then: NULL is fine, so to hand
 * the context on is to copy the pointer and set the variable to NULL. A variable without a value is closed, too:
 * initialize it.
 *
 * An extension of gcc and clang: other compilers do not have these two.
 */
#if defined(__GNUC__)
#define CCTX_SCOPED __attribute__((__cleanup__(cctx_scoped_close)))
#define CCTX_SCOPED_REF __attribute__((__cleanup__(cctx_scoped_unref)))

static inline void cctx_scoped_close(cctx_t **variable)
{
    cctx_close(*variable);
}

static inline void cctx_scoped_unref(const cctx_t **variable)
{
    cctx_unref(*variable);
}
#endif

/* ---- derive ------------------------------------------------------------------------------------ */

/*
 * The functions of this section have in common:
 *
 * The child is live, then done for ever: by its own cancel, by its deadline or because its parent was,
 * whichever is first; the others change nothing (C1). Derived from a parent that is done it is born done,
 * with its parent's error and cause (C3).
 *
 * Returns    the child, with one reference for the caller; or NULL.
 * Errors     EINVAL (a NULL parent), ENOMEM. On failure nothing has changed.
 * Ownership  the child keeps its ancestors alive: the caller's reference to parent may be dropped before
 *            the child's (C20). Drop the child's with cctx_unref or cctx_close.
 * Cost       O(1). Contexts share pages of memory, so the allocator is asked once for many of them.
 */

/*
 * cctx_with_cancel - derive a context that the caller can cancel.
 */
CCTX_API CCTX_OWNED cctx_t *cctx_with_cancel(const cctx_t *parent);

/*
 * cctx_with_deadline       - derive a context that ends at a point in time.
 * cctx_with_timeout        - derive a context that ends after a duration from now.
 * cctx_with_deadline_cause - the same, with the cause that the deadline gives.
 * cctx_with_timeout_cause
 *
 * deadline is on the clock of cctx_now; timeout is in nanoseconds, and now + timeout saturates at
 * CCTX_NEVER, which is no deadline. The effective deadline is the earlier of the parent's and this one;
 * one that is no earlier than the parent's arms no timer (C11). A deadline that has passed, or a timeout
 * of 0 or less, gives a context born done with ETIMEDOUT (C12). At its deadline the context becomes done,
 * never early, without any thread looking at it or waiting on it (C13). The clock is read once per
 * derivation (C15).
 *
 * cause is what cctx_cause reports if this very deadline ends the context; NULL is
 * cctx_deadline_exceeded. It is borrowed until the context and all that is derived from it are freed.
 *
 * Errors     EINVAL, ENOMEM; EAGAIN: the timer thread could not be made.
 * Cost       O(1) to arm and to disarm, at any number of armed deadlines (C14); one clock read. The first
 *            call of a process starts a thread.
 */
CCTX_API CCTX_OWNED cctx_t *cctx_with_deadline(const cctx_t *parent, cctx_time_t deadline);
CCTX_API CCTX_OWNED cctx_t *cctx_with_timeout(const cctx_t *parent, int64_t timeout);
CCTX_API CCTX_OWNED cctx_t *cctx_with_deadline_cause(const cctx_t *parent, cctx_time_t deadline,
                                                        const cctx_cause_t *cause);
CCTX_API CCTX_OWNED cctx_t *cctx_with_timeout_cause(const cctx_t *parent, int64_t timeout,
                                                       const cctx_cause_t *cause);

/*
 * cctx_with_value - derive a context that carries a value.
 *
 * cctx_value(child, key) is value from here down, until a descendant sets the key anew. A NULL value is a
 * value: it hides an ancestor's. The child has no end of its own: it shares its parent's done word and
 * costs nothing when the tree is canceled (C18).
 *
 * Errors     EINVAL (also: a NULL key), ENOMEM. On failure the value stays the caller's: key->destroy
 *            does not run.
 * Ownership  key is static. value is the context's from here on: key->destroy, if set, gets it when the
 *            context is freed.
 * Cost       one allocation; O(1) up to 8 keys in force, O(log keys) beyond.
 */
CCTX_API CCTX_OWNED_CONST const cctx_t *cctx_with_value(const cctx_t *parent, const cctx_key_t *key,
                                                     void *value);

/*
 * cctx_without_cancel - derive a context that has the values of its parent and nothing else of it.
 *
 * It is never done: cancellation, deadline, error and cause of the ancestors do not reach it, nor what is
 * derived from it (C19).
 */
CCTX_API CCTX_OWNED_CONST const cctx_t *cctx_without_cancel(const cctx_t *parent);

/*
 * cctx_with_any - derive a context that ends when any of several parents does. Go has no such function.
 *
 * Of the n contexts in parents, the first to be done gives its error and cause. The deadline is the
 * earliest of theirs; the values are those of parents[0]. The array may be reused after the return; equal
 * parents and parents that can never be done are fine. The caller may cancel the child too. Releasing it
 * leaves nothing behind in any parent (B1).
 *
 * Errors     EINVAL: parents is NULL, n is 0, or one of the parents is NULL. ENOMEM.
 * Cost       O(n), and no thread.
 */
CCTX_API CCTX_OWNED CCTX_ARRAY(__read_only__, 1, 2) cctx_t *cctx_with_any(const cctx_t *const parents[], size_t n);

/* ---- cancel ------------------------------------------------------------------------------------ */

/*
 * The causes of those who give none: {ECANCELED, "context canceled"} and {ETIMEDOUT, "context deadline
 * exceeded"} (C9). Compare with their addresses.
 */
extern CCTX_API const cctx_cause_t cctx_canceled, cctx_deadline_exceeded;

/*
 * cctx_cancel - cancel a context and everything derived from it.
 *
 * The first caller to end ctx wins: its cause and cctx_err(ctx) never change again. A call that loses, to
 * another caller, to a deadline or to an ancestor, changes nothing (C1). Descendants do not end at one
 * instant, but when this call returns, won or lost, all whose derivation happens-before the call are
 * done, also when another thread is in the middle of canceling the same tree (C3). A thread that has seen
 * a descendant done by it sees ctx, and every context between, done too (C4).
 *
 * Returns    true   this call ended ctx.
 *            false  ctx was done already, or is NULL (C8), a root, or a value or without_cancel context
 *                   whose const was cast away: those cancel nothing (C32).
 * Ordering   true: release. What the caller did before happens-before whatever follows a look, a wait or
 *            a callback that reports this cancellation, on any descendant (C5). false: acquire;
 *            cctx_cause is the winner's.
 * Signals    not async-signal-safe: see cctx_cancel_async in <cctx/signal.h>.
 * Blocking   never; lock-free. Callbacks run here, before the return, with nothing held.
 * Cost       O(1), one load, if done and every descendant too; else O(descendants still live). No system
 *            call, but one futex wake for each context that a thread waits on or whose cctx_done was
 *            taken (C25).
 */
CCTX_API bool cctx_cancel(cctx_t *ctx);

/*
 * cctx_cancel_cause - cctx_cancel, with the cause that cctx_cause reports on ctx and all that is derived
 *                     from it.
 *
 * A NULL cause is cctx_canceled. cctx_err is ECANCELED whatever the cause (C9).
 *
 * Ownership  cause is borrowed until ctx and all that is derived from it are freed: make it static (C10).
 */
CCTX_API bool cctx_cancel_cause(cctx_t *ctx, const cctx_cause_t *cause);

/*
 * cctx_cancel_causef - cctx_cancel, with a cause whose text is formatted, as by printf, into memory of
 *                      the context.
 *
 * code becomes the code of the cause. If the memory for the text cannot be had, it cancels all the same,
 * with the constant cause {ENOMEM, "out of memory"} (C10). A NULL format cancels with an empty text.
 *
 * Cost       as cctx_cancel, and one allocation unless ctx is done already.
 */
CCTX_API CCTX_PRINTF(3, 4) bool cctx_cancel_causef(cctx_t *ctx, int code, const char *format, ...);

/* ---- look -------------------------------------------------------------------------------------- */

/*
 * cctx_is_done - has the context ended?
 *
 * Returns    false while live, and for NULL; true ever after.
 * Ordering   true: acquire, see the table at the head. false: none.
 * Signals    async-signal-safe.
 * Cost       two loads: the pointer to the done word, and the word.
 */
static inline bool cctx_is_done(const cctx_t *ctx)
{
    const uint32_t *word;

    if (!ctx)
        return false;
    word = *(const uint32_t *const *)(const void *)ctx;
    return (__atomic_load_n(word, __ATOMIC_ACQUIRE) & 1u) != 0;
}

/*
 * cctx_err - has the context ended, and how? Go's ctx.Err().
 *
 * Returns    0          exactly while the context is live (C2).
 *            ECANCELED  it was canceled, or an ancestor was.
 *            ETIMEDOUT  a deadline, its own or an ancestor's, ended it.
 *            EINVAL     ctx is NULL.
 *            Once it is not 0 it never changes.
 * Ordering   not 0: acquire, see the table at the head. 0: none.
 * Signals    async-signal-safe.
 * Cost       two loads, as cctx_is_done.
 */
static inline int cctx_err(const cctx_t *ctx)
{
    const uint32_t *word;
    uint32_t seen;

    if (!ctx)
        return EINVAL;
    word = *(const uint32_t *const *)(const void *)ctx;
    seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    /* Bit 0: done; bit 1: by the deadline. Linux's error codes fit a byte each: no branch, no load from a table. */
    return (int)(((uint32_t)ETIMEDOUT << 24 | (uint32_t)ECANCELED << 8) >> (seen % 4u * 8u) & 255u);
}

/* g++ -Wshadow warns of a function and a struct tag of one name, though C++ keeps them apart as C does. */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

/*
 * cctx_cause - why the context ended. Go's context.Cause(ctx).
 *
 * Returns    NULL while live, and for NULL; then the cause given by whoever ended it or the ancestor that
 *            it ended with, or one of cctx_canceled and cctx_deadline_exceeded where none was given (C9).
 *            It never changes.
 * Ordering   not NULL: acquire, as cctx_err.
 * Ownership  a formatted cause lives as long as ctx.
 * Cost       O(levels between ctx and the ancestor that ended it).
 */
CCTX_API const cctx_cause_t *cctx_cause(const cctx_t *ctx);

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/*
 * cctx_deadline - when will the context end at the latest?
 *
 * Writes the effective deadline, the earliest of its own and its ancestors', to *deadline, unless
 * deadline is NULL.
 *
 * Returns    true; or false, with *deadline untouched, if there is no deadline or ctx is NULL.
 */
CCTX_API bool cctx_deadline(const cctx_t *ctx, cctx_time_t *deadline);

/*
 * cctx_remaining - how much time is left?
 *
 * Returns    nanoseconds to the effective deadline; 0 if that has passed, or ctx is done or NULL;
 *            CCTX_NEVER without a deadline.
 * Cost       one clock read, with a deadline.
 */
CCTX_API int64_t cctx_remaining(const cctx_t *ctx);

/*
 * cctx_value - the value for a key.
 *
 * Returns    the value of the nearest ancestor, or ctx itself, that has the key (C16); NULL without one.
 * Ownership  the value is its context's and lives as long as ctx does.
 * Cost       a few loads; it does not grow with the number of contexts between, and is bounded by a small
 *            constant whatever the number of values.
 */
CCTX_API void *cctx_value(const cctx_t *ctx, const cctx_key_t *key);

/*
 * cctx_strerror - the text of what cctx_err returns.
 *
 * Returns    "context canceled" for ECANCELED, "context deadline exceeded" for ETIMEDOUT, another
 *            constant string for any other number; never NULL.
 * Signals    async-signal-safe.
 */
CCTX_API CCTX_NOT_NULL const char *cctx_strerror(int err);

/*
 * cctx_print - write how a context was derived, for people: Go's String().
 *
 * From the root down, as in
 *
 *     cctx.Background.WithCancel.WithDeadline(+1.5s).WithValue(user).WithoutCancel
 *
 * The roots are cctx.Background and cctx.TODO. WithDeadline has the seconds left, negative once they are
 * over. WithValue has the name of the key, or ? without one; values are not printed. A merge prints as
 * WithAny(n), n the number of its parents, below its first. A context that signals end has their numbers, as in
 * WithSignals(2,15), as far as there is room. At most size bytes are written to buf, the
 * last of them a NUL; with size 0 buf may be NULL.
 *
 * Returns    the length of the whole text, without the NUL; at least size if it was cut short. 0 for a
 *            NULL ctx, which prints as the empty text.
 * Cost       O(depth) steps, no memory.
 */
CCTX_API CCTX_ARRAY(__write_only__, 2, 3) size_t cctx_print(const cctx_t *ctx, char *buf, size_t size);

/* ---- wait -------------------------------------------------------------------------------------- */

/*
 * cctx_done - the word to wait on: Go's ctx.Done().
 *
 * Bit 0 of the word is 0 while the context is live and 1 after; the other bits are the library's and may
 * change at any time. A program may FUTEX_WAIT on it (private), put it in futex_waitv or in an io_uring
 * futex request, and a cancel wakes it: read the word with acquire, stop if bit 0 is set, wait with the
 * value just read, and loop (C24).
 *
 * Returns    the same pointer every time; NULL if ctx can never be done, or is NULL.
 * Ownership  valid as long as ctx.
 * Cost       O(1); from the first call on, ending the context costs one futex wake, since the library
 *            cannot know who waits (C25).
 */
CCTX_API const uint32_t *cctx_done(const cctx_t *ctx);

/*
 * cctx_wait - sleep until the context is done.
 *
 * A waiter on a context whose deadline passes returns even if the timer thread is starved (C27). It runs
 * no callback.
 *
 * Returns    cctx_err(ctx), which is not 0; EDEADLK if ctx can never be done (C26); EINVAL for NULL.
 * Ordering   acquire, as cctx_err, unless EDEADLK or EINVAL.
 * Signals    a handler that runs meanwhile does not end the wait.
 * Blocking   until done. Not a cancellation point of pthreads.
 * Cost       no system call if done already, or soon: it spins for a fraction of a microsecond before it
 *            sleeps.
 */
CCTX_API int cctx_wait(const cctx_t *ctx);

/*
 * cctx_wait_until - sleep until the context is done or a point in time has come.
 * cctx_wait_for   - sleep until the context is done or a duration is over.
 *
 * until is on the clock of cctx_now; timeout is in nanoseconds. A time that has passed, or a timeout of 0
 * or less, only looks. With CCTX_NEVER the only end is that of the context. On a context that can never
 * be done they wait out their time (C26).
 *
 * Returns    true: done. false: the time is over, or ctx is NULL.
 * Ordering   true: acquire, as cctx_err. false: none.
 * Signals    as cctx_wait.
 * Blocking   until done, or until the time.
 */
CCTX_API bool cctx_wait_until(const cctx_t *ctx, cctx_time_t until);
CCTX_API bool cctx_wait_for(const cctx_t *ctx, int64_t timeout);

/* ---- callbacks --------------------------------------------------------------------------------- */

/*
 * cctx_after_func - run fn(arg) once the context is done. Go's context.AfterFunc.
 *
 * fn runs exactly once, unless a stop wins before it has started. If ctx is done already, fn runs here,
 * before the return. Otherwise it runs after every descendant of the context that ended is done and every
 * waiter is woken: on the thread that cancels, or, for a deadline, on the runner thread, which fires no
 * deadlines. A waiter never runs one (C28). The callbacks of one context run in no particular order.
 *
 * fn may cancel, derive, wait, stop itself or another, drop the last reference of any context including
 * the one that is being canceled, and block: that delays other callbacks of its thread, never a deadline
 * (C30). It returns normally: no longjmp, exception or pthread_exit out of it.
 *
 * cb is 64 bytes of the caller's, in any kind of memory, at an address that does not change; it is not
 * copied.
 *
 * Errors     EINVAL: ctx, cb or fn is NULL. ENOMEM; EAGAIN: ctx has a deadline and the runner thread could
 *            not be made. Then fn does not run.
 * Threads    cb is not registered already, and nobody else uses it during the call.
 * Ordering   what the caller did before happens-before fn; the end of the context does, too.
 * Ownership  cb is the library's until a stop returned true, or cctx_stop_wait returned, or, in the
 *            thread that ran it, fn has returned. The registration keeps ctx alive until fn has run or
 *            was stopped (C28). On a context that can never be done, that is until it is stopped.
 * Cost       O(1). The storage is cb; the list of a context's callbacks grows by many places at a time.
 */
CCTX_API CCTX_MUST_USE int cctx_after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg),
                                           void *arg);

/*
 * cctx_stop - take a callback back, without waiting.
 *
 * Returns    true   this call prevented fn: it will never run, and cb is the caller's again.
 *            false  fn runs, has run, or was prevented by another call; or cb is NULL or zeroed storage.
 *                   cb may still be in use (C29).
 * Ordering   false: none.
 * Cost       O(1).
 */
CCTX_API CCTX_MUST_USE bool cctx_stop(cctx_callback_t *cb);

/*
 * cctx_stop_wait - take a callback back; if it runs, wait for its end.
 *
 * When it returns, fn is not running and never will, and cb is the caller's again. It waits for nothing
 * but an fn that has started (C30). Called from inside fn it returns at once; an fn that frees its own
 * storage, or gives it away, calls this first (C29).
 *
 * Returns    true   this call prevented fn.
 *            false  fn has run, or was prevented by another call; or cb is NULL or zeroed storage.
 * Ordering   false: acquire; the end of fn happens-before the return, except in fn itself.
 * Blocking   while fn runs in another thread. Two callbacks that wait for each other wait for ever.
 * Cost       O(1), as cctx_stop, where fn does not run.
 */
CCTX_API bool cctx_stop_wait(cctx_callback_t *cb);

#ifdef __cplusplus
}
#endif

#endif
