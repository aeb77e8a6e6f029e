/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy - copy the standard input to the standard output by io_uring, until its end, or the time is up, or
 * Ctrl-C comes.
 *
 * usage: copy MILLISECONDS
 */
#include <cctx/bridge/uring.h>
#include <cctx/signal.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* [copy] */
/* 0 at the end of the input, or an errno value: ECANCELED and ETIMEDOUT are the context's. */
static int copy(const cctx_t *ctx, const cctx_uring_t *uring, int from, int to)
{
    char buffer[4096]; /* on the stack: the kernel has done with it when a call returns */

    for (;;) {
        struct io_uring_sqe request = {0};
        int size = 0, sent = 0, put = 0, err;

        io_uring_prep_read(&request, from, buffer, sizeof buffer, (__u64)-1);
        err = cctx_uring_perform(ctx, uring, &request, &size);
        if (err != 0 || size == 0)
            return err;
        for (; sent < size; sent += put) {
            io_uring_prep_write(&request, to, buffer + sent, (unsigned)(size - sent), (__u64)-1);
            err = cctx_uring_perform(ctx, uring, &request, &put);
            if (err != 0)
                return err;
        }
    }
}
/* [copy end] */

int main(int argc, char **argv)
{
    struct io_uring ring;
    cctx_uring_t uring;
    sigset_t signals;
    cctx_t *stop, *ctx;
    int err;

    if (argc != 2) {
        fputs("usage: copy MILLISECONDS\n", stderr);
        return 2;
    }
    err = -io_uring_queue_init(8, &ring, 0);
    if (err != 0) {
        fprintf(stderr, "copy: no ring: %s\n", strerror(err));
        return 2;
    }
    cctx_uring_init(&uring, &ring);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    stop = cctx_with_signals(cctx_background(), &signals);
    ctx = cctx_with_timeout(stop, CCTX_MS(atol(argv[1])));
    err = ctx ? copy(ctx, &uring, 0, 1) : ENOMEM;
    if (err != 0)
        fprintf(stderr, "copy: %s\n", cctx_err(ctx) == err ? cctx_cause(ctx)->text : strerror(err));
    cctx_close(ctx);
    cctx_close(stop);
    io_uring_queue_exit(&ring);
    return err != 0;
}
