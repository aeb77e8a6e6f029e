/* Layer 11, face. descriptor: a context as a file descriptor, and poll that a context ends.
 * SPDX-License-Identifier: BSD-2-Clause */
#include <cctx/wait.h>
#include "clock.h"
#include "deadline.h"
#include <errno.h>
#include <string.h>

/* n's descriptor, or an errno value, negated. */
static int descriptor(struct cctx *n)
{
    struct thread *t = thread_begin();
    sync_u64 *note = node_note_make(t, n);
    thread_end(t);
    int saved = errno, fd = note ? event_open(note) : -1, error = note ? errno : ENOMEM;
    errno = saved;
    if (fd < 0) return -error;
    /* One word with the flip, which tells the note if this comes first. Each caller sets the bit, since the one who made the
     * note may be stopped before it does. */
    if (sync_or_acqrel(&n->state, (uint32_t)(NOTED | EXPOSED), done, none) & DONE) event_tell(note);
    return fd;
}

int cctx_fd(const cctx_t *ctx)
{
    node_check(ctx, "cctx_fd");
    struct cctx *n = ctx ? node_owner(ctx) : NULL;
    deadline_wait();
    int fd = n ? descriptor(n) : ctx ? -EDEADLK : -EINVAL;
    if (fd >= 0) return fd;
    errno = -fd;
    return -1;
}

/* The outcome of a poll that was not ended by a context. */
static int outcome(int polled, int *ready)
{
    if (polled < 0) return -polled;
    if (ready) *ready = polled;
    return 0;
}

/* fds[n] is the context's own. */
static int poll_with(const cctx_t *ctx, struct cctx *owner, struct pollfd *fds, nfds_t n, int *ready)
{
    int64_t deadline = node_alarm(owner);
    for (;;) {
        int polled = event_poll(fds, n + 1, deadline);
        int err = cctx_err(ctx);
        if (err != 0) return err;
        if (polled != 0) return outcome(polled, ready);
        if (clock_now() >= deadline) deadline_fire(owner);
    }
}

enum { FEW = 16 };

int cctx_poll(const cctx_t *ctx, struct pollfd *fds, nfds_t n, int *ready)
{
    struct pollfd few[FEW], *all = few;
    if (!ctx || (!fds && n > 0) || n >= SIZE_MAX / sizeof *fds) return EINVAL;
    node_check(ctx, "cctx_poll");
    struct cctx *owner = node_owner(ctx);
    deadline_wait();
    if (!owner) {
        int polled = 0;
        if (n == 0) return EDEADLK;
        while (polled == 0) polled = event_poll(fds, n, INT64_MAX);
        return outcome(polled, ready);
    }
    int err = cctx_err(ctx);
    if (err != 0) return err;
    int fd = descriptor(owner);
    if (fd < 0) return -fd;
    if (n >= FEW) all = (struct pollfd *)block_get(node_memory(ctx), (n + 1) * sizeof *all);
    if (!all) return ENOMEM;
    if (n > 0) memcpy(all, fds, n * sizeof *all);
    all[n] = (struct pollfd){.fd = fd, .events = POLLIN};
    err = poll_with(ctx, owner, all, n, ready);
    if (err == 0) memcpy(fds, all, n * sizeof *all);
    if (all != few) block_put(node_memory(ctx), all);
    return err;
}
