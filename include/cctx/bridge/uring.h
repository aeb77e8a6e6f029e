/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/uring.h - io_uring: a request, or a loop of many, that ends with a context. */
#ifndef CCTX_BRIDGE_URING_H
#define CCTX_BRIDGE_URING_H

/*
 * WHAT IT IS FOR
 *
 * A request of io_uring owns its buffers until it completes, and a ring has one submitter: so who cancels a
 * context must neither submit anything nor free anything. The owner of the ring sleeps for a completion, and
 * the end of a context is made one: a request for the futex word of the context (Linux 6.7), or a poll of its
 * descriptor. The owner then cancels what is in flight, and waits for its completions as well.
 *
 * cctx_uring_perform does this for one request:
 *
 *     cctx_uring_t uring;
 *     struct io_uring_sqe request;
 *     int got, err;
 *
 *     cctx_uring_init(&uring, &ring);
 *     memset(&request, 0, sizeof request);
 *     io_uring_prep_recv(&request, fd, buf, sizeof buf, 0);
 *     err = cctx_uring_perform(ctx, &uring, &request, &got);       0, ECANCELED, ETIMEDOUT, ...
 *
 * A loop with many requests in flight has one of cctx_uring_prep_done beside them, and may give each the
 * context's deadline by cctx_uring_prep_deadline.
 *
 * Rings of any setup will do but those of IORING_SETUP_IOPOLL and IORING_SETUP_SQE128. Link with liburing 2.3
 * or newer, which wants _GNU_SOURCE, and with cctx. The defaults are those of cctx.h; but all that takes a
 * ring, or an entry of one, is called by the ring's one submitter.
 */

#include <cctx/wait.h>
#include <liburing.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_uring_t - a ring, and what its kernel can. The fields are the program's to read.
 */
typedef struct cctx_uring {
    struct io_uring *ring;
    bool futex; /* it has requests that wait for a futex; else a context is watched by its descriptor */
} cctx_uring_t;

/* Of the kernel's interface, for which older headers have no names. */
enum {
    CCTX_URING_PRIVATE_FUTEX_WAIT = 51,       /* IORING_OP_FUTEX_WAIT */
    CCTX_URING_PRIVATE_FUTEX_FLAGS = 2 | 128, /* FUTEX2_SIZE_U32 | FUTEX2_PRIVATE */
    CCTX_URING_PRIVATE_REQUEST = 1, /* user data */
    CCTX_URING_PRIVATE_DONE = 2,
    CCTX_URING_PRIVATE_CANCEL = 3, /* of the request */
    CCTX_URING_PRIVATE_OTHER = 4
};

/*
 * cctx_uring_init - ask the kernel of a ring what it can.
 *
 * Ownership  ring is the program's and outlives uring, which needs no end of its own.
 * Cost       a system call and an allocation. Without memory, or where the call is refused, the answer is "no
 *            futexes", with which all works.
 */
static inline void cctx_uring_init(cctx_uring_t *uring, struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);

    uring->ring = ring;
    uring->futex = probe && io_uring_opcode_supported(probe, CCTX_URING_PRIVATE_FUTEX_WAIT);
    if (probe)
        io_uring_free_probe(probe);
}

/*
 * cctx_uring_prep_done - prepare a request that completes when the context is done.
 *
 * As of io_uring_prep_poll_add: the program sets the user data afterwards, and submits. The completion says
 * nothing but that it is time to look: if cctx_err(ctx) is still 0, the program prepares the request anew. At
 * the end of its loop it cancels the request, and waits for its completion before it drops its reference to
 * ctx.
 *
 * A cancel that is answered with -EALREADY may have been lost: of a request with IOSQE_ASYNC, or on a file,
 * that a thread of the kernel was just busy with. The program repeats it, after a while, until the request
 * has completed.
 *
 * Errors     EINVAL; EDEADLK: ctx can never be done; without futexes those of cctx_fd. Then sqe is a request
 *            that does nothing and completes at once, as it is for a context that is done.
 * Ownership  ctx lives until the request has completed.
 */
static inline int cctx_uring_prep_done(const cctx_uring_t *uring, struct io_uring_sqe *sqe, const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    int fd;

    io_uring_prep_nop(sqe);
    if (!word)
        return ctx ? EDEADLK : EINVAL;
    seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    if (seen & 1u)
        return 0;
    if (uring->futex) {
        /* The kernel compares the word with what was seen when it takes the request: no end is missed. */
        io_uring_prep_rw(CCTX_URING_PRIVATE_FUTEX_WAIT, sqe, CCTX_URING_PRIVATE_FUTEX_FLAGS, word, 0, seen);
        sqe->addr3 = UINT32_MAX; /* FUTEX_BITSET_MATCH_ANY */
        return 0;
    }
    fd = cctx_fd(ctx);
    if (fd < 0)
        return errno;
    io_uring_prep_poll_add(sqe, fd, POLLIN);
    return 0;
}

/*
 * cctx_uring_prep_deadline - give a request the context's deadline, by a linked timeout.
 *
 * request is prepared already; timeout is the entry that was taken right after it, and time is read when both
 * are submitted, as one. The kernel then ends the request with -ECANCELED at the deadline, whatever the
 * program and the threads of the library do; a cancel it does not see. The timeout completes, too: with
 * -ETIME, or -ECANCELED where the request was first.
 *
 * Returns    true; or false, with request as it was, and in timeout a request that does nothing, if there is
 *            no deadline, or it goes by a clock of the context's domain.
 */
static inline bool cctx_uring_prep_deadline(struct io_uring_sqe *request, struct io_uring_sqe *timeout,
                                            const cctx_t *ctx, struct __kernel_timespec *time)
{
    cctx_time_t deadline, before = cctx_now(), clock;
    int64_t left = cctx_remaining(ctx);

    io_uring_prep_nop(timeout);
    if (!cctx_deadline(ctx, &deadline))
        return false;
    /* What is left is the deadline less the time: if by this clock, that was read between these two looks. */
    clock = deadline - left;
    if (left > 0 && (clock < before || clock > cctx_now()))
        return false;
    time->tv_sec = left > 0 ? deadline / CCTX_S(1) : 0;
    time->tv_nsec = left > 0 ? deadline % CCTX_S(1) : 0;
    io_uring_prep_link_timeout(timeout, time, IORING_TIMEOUT_ABS);
    request->flags = (__u8)(request->flags | IOSQE_IO_LINK);
    return true;
}

/*
 * cctx_uring_errno - what the result of a request means to who started it for a context.
 *
 * Returns    0 for a result that is not negative; cctx_err(ctx) for -ECANCELED and -EINTR, by which a request
 *            ends that is canceled, if ctx is done or its deadline has passed; else the error, as a positive
 *            number.
 */
static inline int cctx_uring_errno(const cctx_t *ctx, int result)
{
    if (result >= 0)
        return 0;
    /* The kernel's timer may be ahead of the library's: this look fires a deadline that has passed. */
    return (result == -ECANCELED || result == -EINTR) && cctx_wait_for(ctx, 0) ? cctx_err(ctx) : -result;
}

/* The submitter asks for the end of the request that has this user data; own is that of the asking. */
static inline void cctx_uring_private_cancel(struct io_uring *ring, __u64 data, __u64 own)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    io_uring_prep_cancel64(sqe, data, 0);
    sqe->user_data = own;
}

/*
 * Submits, and waits for a completion, or for so many nanoseconds where that is not 0. 0, EBADR, or ETIME:
 * the time is over.
 */
static inline int cctx_uring_private_wait(struct io_uring *ring, unsigned wait, int64_t most)
{
    struct __kernel_timespec time;
    struct io_uring_cqe *cqe;
    int submitted;

    time.tv_sec = 0;
    time.tv_nsec = most;
    submitted = most == 0 ? io_uring_submit_and_wait(ring, wait)
                          : io_uring_submit_and_wait_timeout(ring, &cqe, wait, &time, NULL);
    return submitted == -ETIME ? ETIME : submitted < 0 && submitted != -EINTR ? EBADR : 0;
}

/*
 * cctx_uring_perform - submit one request, and wait until it has completed, which the end of the context
 * hastens.
 *
 * request is prepared, by any io_uring_prep function, in memory of the caller's that was zeroed; it is
 * copied. Its user data does not matter; of flags it may have IOSQE_FIXED_FILE and IOSQE_ASYNC; it is none
 * that completes again and again (multishot). While the call lasts the ring is its own: nothing else is in
 * flight or waits to be submitted.
 *
 * When it returns the kernel has done with the request: its buffers are the caller's again, and may be on its
 * stack. A request that is complete when the context ends is told as such: what it has read is not lost. One
 * that the kernel cannot interrupt, such as a read of a disk under way, is waited for; it is asked again
 * after 1 ms, 2 ms, ... 100 ms.
 *
 * Returns    0          *result, unless NULL, is that of the completion, not negative.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx). If ctx was done before, nothing was submitted.
 *            Any other  the request's own error, as a positive number.
 * Errors     EINVAL: a NULL argument, or a flag that is not allowed. ENOBUFS: the ring has fewer than five
 *            free entries. As of cctx_fd, without futexes: EMFILE, ENFILE, ENOMEM; the request is ended then.
 *            EBADR: the ring takes no requests, or cannot be waited on; the buffers are free after
 *            io_uring_queue_exit only.
 * Signals    a handler that runs meanwhile does not end it.
 * Blocking   until the request has completed.
 * Cost       a request that completes at once: one system call. Else three, and two or three requests beside
 *            it.
 */
static inline int cctx_uring_perform(const cctx_t *ctx, const cctx_uring_t *uring,
                                     const struct io_uring_sqe *request, int *result)
{
    struct io_uring *ring;
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
    struct __kernel_timespec time;
    unsigned pending = 1, wait = 0;
    bool over = false, watched = false, unwatched = false, canceling = false;
    int64_t again = 0; /* how long a cancel is given */
    int stop = 0, res = 0, waited;

    if (!ctx || !uring || !request || (request->flags & ~(IOSQE_FIXED_FILE | IOSQE_ASYNC)) != 0)
        return EINVAL;
    if (cctx_wait_for(ctx, 0))
        return cctx_err(ctx);
    ring = uring->ring;
    if (io_uring_sq_space_left(ring) < 5)
        return ENOBUFS;
    sqe = io_uring_get_sqe(ring);
    *sqe = *request;
    sqe->user_data = CCTX_URING_PRIVATE_REQUEST;
    if (cctx_deadline(ctx, NULL)) {
        struct io_uring_sqe *timeout = io_uring_get_sqe(ring);
        (void)cctx_uring_prep_deadline(sqe, timeout, ctx, &time);
        timeout->user_data = CCTX_URING_PRIVATE_OTHER;
        pending++;
    }
    for (;;) {
        waited = cctx_uring_private_wait(ring, wait, over ? 0 : again);
        if (waited == EBADR)
            return EBADR;
        while (io_uring_peek_cqe(ring, &cqe) == 0) {
            bool last = !(cqe->flags & IORING_CQE_F_MORE); /* a send without copying completes twice */
            if (cqe->user_data == CCTX_URING_PRIVATE_REQUEST) {
                if (!(cqe->flags & IORING_CQE_F_NOTIF))
                    res = cqe->res;
                over = last;
            }
            if (cqe->user_data == CCTX_URING_PRIVATE_DONE)
                watched = false;
            if (cqe->user_data == CCTX_URING_PRIVATE_CANCEL)
                canceling = false;
            pending -= last;
            io_uring_cqe_seen(ring, cqe);
        }
        if (pending == 0)
            break;
        wait = 1;
        if (!over && !watched && stop == 0) {
            stop = cctx_err(ctx);
            if (stop == 0) {
                sqe = io_uring_get_sqe(ring);
                stop = cctx_uring_prep_done(uring, sqe, ctx);
                sqe->user_data = CCTX_URING_PRIVATE_DONE;
                watched = true;
                pending++;
            }
        }
        if (over && watched && !unwatched) {
            cctx_uring_private_cancel(ring, CCTX_URING_PRIVATE_DONE, CCTX_URING_PRIVATE_OTHER);
            unwatched = true;
            pending++;
        }
        /* A cancel that meets the request on its way out of a kernel's thread is lost: it comes again. */
        if (!over && stop != 0 && stop != EDEADLK && !canceling && (again == 0 || waited == ETIME)) {
            cctx_uring_private_cancel(ring, CCTX_URING_PRIVATE_REQUEST, CCTX_URING_PRIVATE_CANCEL);
            again = again == 0 ? CCTX_MS(1) : again < CCTX_MS(50) ? 2 * again : CCTX_MS(100);
            canceling = true;
            pending++;
        }
    }
    if (res >= 0) {
        if (result)
            *result = res;
        return 0;
    }
    if ((res == -ECANCELED || res == -EINTR) && stop != 0 && stop != EDEADLK)
        return stop;
    return cctx_uring_errno(ctx, res);
}

#ifdef __cplusplus
}
#endif

#endif
