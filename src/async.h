/* Layer 8, relations. async: nodes that a signal handler canceled, for the next call that may walk.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A handler may have interrupted anything: the allocator, or this library in the middle of any step. So it flips the
 * node and leaves the rest: the node, pinned and marked as queued, is pushed on a stack by its own link, which takes
 * one compare-and-swap. Whoever may walk takes the stack as a whole, so a node that comes back is no ABA.
 *
 *   A1  What was pushed is taken once, by async_take or by nobody: in the child of a fork by that process's own.
 *   A2  A push waits for nobody. It is repeated only if another push or a take came between: each time one of these
 *       has got through. */
#ifndef CCTXI_ASYNC_H
#define CCTXI_ASYNC_H

#include "node.h"

extern sync_ptr async_stack LOCAL;      /* read-mostly */

/* Is there something to take? A guess, on paths that are hot: gcc makes three instructions of a relaxed load and a
 * test, and two of this. */
static inline bool async_waiting(void)
{
#if defined __x86_64__ && defined __LP64__ && !defined SYNC_RELACY && !defined SYNC_SEEDED && !defined __SANITIZE_THREAD__
    __asm__ goto("cmpq $0, %0\n\tjne %l1" : : "m"(async_stack) : "cc" : some);
    return false;
some:
    return true;
#else
    return sync_load_relaxed(&async_stack, hint) != 0;
#endif
}

/* Async-signal-safe, all. n is done, pinned, and its queued is the caller's. Rings the timer's role, or the host of
 * n's domain. */
void async_push(struct cctx *n);
/* The signal handler has told somebody something: there are debts to settle (handler_settle). */
void async_note(void);
/* The same, without a ring: the next call of the program's has something to do. */
void async_owe(void);

/* Takes all: the nodes, oldest first, linked by family->link; *noted: there are debts. */
struct cctx *async_take(bool *noted);

#endif
