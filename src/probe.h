/* Layer 0, words. probe.h: places where a tracer may look on.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Static probes of the provider cctx, in the form that SystemTap, bpftrace, perf and gdb read: one instruction that
 * does nothing, and a note in the library that says where it stands and where its arguments are. They come with
 * <sys/sdt.h> where the machine that builds the library has it (Debian: systemtap-sdt-dev); without it there is
 * nothing.
 *
 *   derive(ctx, parent)     a public function has made ctx
 *   cancel(ctx)             a program cancels ctx, which may be done already
 *   fire(ctx)               the deadline of ctx has come
 *   done(ctx, state)        ctx becomes done: bit 1 of the state is set for a deadline
 *   wake(ctx)               who sleeps on ctx is being woken
 *   free(ctx)               the last reference of ctx is gone
 *
 * bench/latency.bt makes a histogram of them. */
#ifndef CCTXI_PROBE_H
#define CCTXI_PROBE_H

#if defined __has_include && !defined SYNC_RELACY && !defined SYNC_SEEDED && !defined CCTX_NO_PROBES
#if __has_include(<sys/sdt.h>)
#define PROBES 1
#endif
#endif
#ifndef PROBES
#define PROBES 0
#endif

#if PROBES
#include <sys/sdt.h>
#define probe1(name, a)    DTRACE_PROBE1(cctx, name, a)
#define probe2(name, a, b) DTRACE_PROBE2(cctx, name, a, b)
#else
#define probe1(name, a)    ((void)0)
#define probe2(name, a, b) ((void)0)
#endif

#endif
