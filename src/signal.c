/* Layer 12, face. signal: contexts that signals end, and cancel from a signal handler.
 * SPDX-License-Identifier: BSD-2-Clause */
#include <cctx/signal.h>

#include "callback.h"
#include "cancel.h"
#include "deadline.h"
#include "derive.h"
#include "handler.h"

bool cctx_cancel_async(cctx_t *ctx)
{
    node_check(ctx, "cctx_cancel_async");
    return ctx && node_kind(ctx) >= KIND_CANCEL && cancel_async(ctx);
}

int cctx_service_start(void) { return deadline_start() && callback_service() ? 0 : EAGAIN; }

/* ------------------------------------------------------------------------------------------------- the causes */

#define CAUSE(sig, text) [sig] = {sig, text " received"}
#define NUMBERED(n) CAUSE(n, "signal " #n)
static const cctx_cause_t cause_of[HANDLER_SIGNALS + 1] = {
    NUMBERED(32), NUMBERED(33), NUMBERED(34), NUMBERED(35), NUMBERED(36), NUMBERED(37), NUMBERED(38), NUMBERED(39),
    NUMBERED(40), NUMBERED(41), NUMBERED(42), NUMBERED(43), NUMBERED(44), NUMBERED(45), NUMBERED(46), NUMBERED(47),
    NUMBERED(48), NUMBERED(49), NUMBERED(50), NUMBERED(51), NUMBERED(52), NUMBERED(53), NUMBERED(54), NUMBERED(55),
    NUMBERED(56), NUMBERED(57), NUMBERED(58), NUMBERED(59), NUMBERED(60), NUMBERED(61), NUMBERED(62), NUMBERED(63),
    NUMBERED(64),
    CAUSE(SIGHUP, "hangup signal"),
    CAUSE(SIGINT, "interrupt signal"),
    CAUSE(SIGQUIT, "quit signal"),
    CAUSE(SIGILL, "illegal instruction signal"),
    CAUSE(SIGTRAP, "trace/breakpoint trap signal"),
    CAUSE(SIGABRT, "aborted signal"),
    CAUSE(SIGBUS, "bus error signal"),
    CAUSE(SIGFPE, "floating point exception signal"),
    CAUSE(SIGUSR1, "user defined signal 1 signal"),
    CAUSE(SIGSEGV, "segmentation fault signal"),
    CAUSE(SIGUSR2, "user defined signal 2 signal"),
    CAUSE(SIGPIPE, "broken pipe signal"),
    CAUSE(SIGALRM, "alarm clock signal"),
    CAUSE(SIGTERM, "terminated signal"),
#ifdef SIGSTKFLT
    CAUSE(SIGSTKFLT, "stack fault signal"),
#endif
    CAUSE(SIGCHLD, "child exited signal"),
    CAUSE(SIGCONT, "continued signal"),
    CAUSE(SIGTSTP, "stopped signal"),
    CAUSE(SIGTTIN, "stopped (tty input) signal"),
    CAUSE(SIGTTOU, "stopped (tty output) signal"),
    CAUSE(SIGURG, "urgent I/O condition signal"),
    CAUSE(SIGXCPU, "CPU time limit exceeded signal"),
    CAUSE(SIGXFSZ, "file size limit exceeded signal"),
    CAUSE(SIGVTALRM, "virtual timer expired signal"),
    CAUSE(SIGPROF, "profiling timer expired signal"),
    CAUSE(SIGWINCH, "window changed signal"),
    CAUSE(SIGIO, "I/O possible signal"),
    CAUSE(SIGPWR, "power failure signal"),
    CAUSE(SIGSYS, "bad system call signal"),
};

/* ------------------------------------------------------------------------------------------------- the context */

static bool tell(void *who, int sig) { return cancel_told((struct cctx *)who, &cause_of[sig]); }
static const struct handler_ops node_ops = {tell, async_note};

_Static_assert(sizeof(struct cctx) <= HANDLER_ROOM, "a context stands in a record of the handler's");

/* The set as bits; 0: it is empty, or has a signal that no handler can be set for. */
static uint64_t bits_of(const sigset_t *signals)
{
    uint64_t bits = 0;
    for (int sig = 1; sig < NSIG; sig++) {
        if (sigismember(signals, sig) != 1) continue;
        if (!handler_takes(sig)) return 0;
        bits |= (uint64_t)1 << (sig - 1);
    }
    return bits;
}

static struct cctx *fail(int error)
{
    errno = error;
    return NULL;
}

cctx_t *cctx_with_signals(const cctx_t *ctx, const sigset_t *signals)
{
    struct cctx *parent = (struct cctx *)(uintptr_t)ctx;
    int saved = errno;
    uint64_t bits = signals ? bits_of(signals) : 0;
    errno = saved;
    if (!parent || bits == 0 || node_domain(parent)) return fail(EINVAL);
    node_check(ctx, "cctx_with_signals");
    cancel_catch_up();
    /* The threads: who sleeps on what is derived from it makes no call that would see to it. */
    if (cctx_service_start() != 0) return fail(EAGAIN);
    struct cctx *n = (struct cctx *)handler_get(&node_ops);
    if (!n) return fail(ENOMEM);
    struct thread *t = thread_begin();
    node_init(n, KIND_SIGNALS, parent, &n->state, 0);
    thread_count(t, COUNT_MADE + (unsigned)KIND_SIGNALS, 1);
    if (derive_attach(t, n, parent)) {
        handler_add(n, bits);
    } else {
        node_discard(t, n);
        n = NULL;
    }
    thread_end(t);
    return n ? node_made(n, __builtin_return_address(0), "cctx_with_signals") : fail(ENOMEM);
}
