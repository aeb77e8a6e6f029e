/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/inspect.h - what the library holds, and the live tree, of a program that runs. */
#ifndef CCTX_INSPECT_H
#define CCTX_INSPECT_H

/*
 * Three ways to look at a program while it runs: numbers (cctx_stats), the tree below a context (cctx_dump), and
 * tracing: where <sys/sdt.h> was there when the library was built, it has static probes cctx:derive, cancel, fire,
 * done, wake and free, which bpftrace, perf, SystemTap and gdb find. A library built with CCTX_CHECK=1 also knows
 * where in the program each context was made and what it is called (cctx_name), lists what hangs below a root (B7),
 * and says at exit, a line for each place, which contexts were never closed:
 *
 *   cctx: 3 contexts derived at server+0x1234 (cctx_with_cancel) were never closed
 *
 * (addr2line -e server 0x1234 tells the line.) A child that was forked says nothing: what it inherited is its
 * parent's to close.
 *
 * The defaults of cctx.h hold: see its head.
 */

#include <cctx/cctx.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_stats_t - numbers of the whole process; the struct may grow at its end.
 *
 * A context counts as live from its derivation until its last reference, pin of a child or registration is gone.
 * Totals begin with the process; in the child of a fork they go on from its parent's. All are exact while no other
 * thread is inside the library; else each is as of some moment of the call.
 */
typedef struct cctx_numbers {
    size_t size;            /* in: sizeof(cctx_stats_t), set by the caller; out: the bytes that were set */

    uint64_t live;          /* contexts that live, done ones included; the roots do not count */
    uint64_t done;          /* contexts that ended so far, by a cancel, a deadline or an ancestor, however long ago they
                             * were freed. A cctx_close that frees its context at once ends nothing */
    uint64_t waiters;       /* waits of the library's that sleep now, until a context is done */
    uint64_t armed;         /* deadlines armed now */
    uint64_t limbo;         /* contexts freed whose memory waits until no thread can be looking at it */
    uint64_t wakes;         /* system calls to wake who sleeps on a context, so far */

    /* Of the live, by kind: */
    uint64_t live_cancel;   /* cctx_with_cancel */
    uint64_t live_deadline; /* cctx_with_deadline, cctx_with_timeout, also with a cause */
    uint64_t live_value;    /* cctx_with_value */
    uint64_t live_without;  /* cctx_without_cancel */
    uint64_t live_any;      /* cctx_with_any */
    uint64_t live_signals;  /* cctx_with_signals */

    uint64_t derived;       /* contexts derived so far */
    uint64_t fired;         /* of those that ended: the ones whose own deadline came */
    uint64_t callbacks;     /* callbacks begun so far */
    uint64_t pages;         /* pages of 62 cells held; a context is a cell, one with children or callbacks two */
    uint64_t threads;       /* records of threads: the most that used the library at one time */
} cctx_stats_t;

/*
 * cctx_stats - count what the library holds.
 *
 * stats->size says how much room there is: no byte beyond it is written, so a program that was compiled with a
 * shorter struct runs with this library. NULL, or a size too small for the size itself: nothing.
 *
 * Cost       reads a record per thread and a word per deadline of the moment when most were armed. What it reads
 *            is written by one plain instruction each where it happens, and where threads sleep or wake: no
 *            derive, look or cancel has a locked instruction more for it.
 */
CCTX_API void cctx_stats(cctx_stats_t *stats);

/*
 * The form of a dump.
 *
 *   CCTX_DUMP_TEXT  a line a context, indented by its depth (down to 32 levels, then with the depth as a number)
 *   CCTX_DUMP_DOT   a graph for Graphviz: dot -Tsvg
 *   CCTX_DUMP_JSON  {"contexts": [{...}, ...]}, flat: each has its "id", and its "parent"'s or null
 */
typedef enum cctx_dump_format { CCTX_DUMP_TEXT, CCTX_DUMP_DOT, CCTX_DUMP_JSON } cctx_dump_format_t;

/*
 * cctx_dump - print the live tree from root down, while other threads change it.
 *
 * First root, then what hangs below it, each context after its parent. A context that hangs below root from before
 * the call until after it is printed exactly once; one that comes or goes meanwhile at most once. (Its address may
 * be seen again: another context has got it.) What is printed of one is as of one moment, and of two as of two.
 *
 * Of each: its address; its kind; live, canceled or deadline exceeded; how long until its deadline (a deadline of
 * an ancestor's is its own, too); how many sleep on it (255 is 255 or more); whether a callback is registered, or
 * several were; where it is the one that was canceled, the cause; and, under CCTX_CHECK=1, its name and where it was
 * made. Text of causes, keys and names is escaped as the form asks; what is no UTF-8 is replaced.
 *
 * A value context has no state of its own, so it has no line: a child that came through one shows the name of the
 * nearest key. (Keys are static objects, as cctx_key_t asks.) root may be one: then the dump begins at the context
 * whose done word it shares. A merged context (cctx_with_any) stands with all that is below it under the first
 * parent that can end it, and as a reference under each other one: an edge in the graph, "reference" in the JSON.
 *
 * Roots and contexts without cancel can never be done, so what is derived from them is registered nowhere, which is
 * why it costs nothing: below them nothing is listed. Under CCTX_CHECK=1 everything is (B7), and so is what was
 * derived from a context that was done already.
 *
 * out is flushed at the end, so that a failure to write is known.
 *
 * Returns    0, EINVAL (root or out NULL, no such format), or the errno of the write that failed, such as ENOSPC
 *            or EPIPE; what is in out then is of no use.
 * Blocking   as writing to out does; nothing is held meanwhile. Contexts are kept for some moments each, so a
 *            destructor may run here (C17). It ends, unless others add contexts below each other, where it looks,
 *            faster than it prints them.
 * Cost       O(contexts below root and the slots they had at their widest moment), in constant memory.
 */
CCTX_API int cctx_dump(const cctx_t *root, FILE *out, cctx_dump_format_t format);

/*
 * cctx_name - give a context a name, for dumps and the report at exit.
 *
 * The last one counts; NULL takes it away. In a library without CCTX_CHECK=1, and on the roots, it does nothing.
 *
 * Ownership  name is borrowed until the context is freed, and a dump may read it a moment longer: make it static.
 */
CCTX_API void cctx_name(const cctx_t *ctx, const char *name);

#ifdef __cplusplus
}
#endif

#endif
