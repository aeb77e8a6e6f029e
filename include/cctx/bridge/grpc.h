/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/grpc.h - gRPC's C core: calls that end with a context, a context for each call served. */
#ifndef CCTX_BRIDGE_GRPC_H
#define CCTX_BRIDGE_GRPC_H

#include <cctx/cctx.h>

#include <grpc/grpc.h>
#include <grpc/support/time.h>

/*
 * WHAT IT IS FOR
 *
 * This is how a tree of contexts goes on in another process, or on another machine. The client's call takes
 * the deadline of its context and ends with it; the server derives a context for each call, which has that
 * deadline and ends when the client cancels, goes away or dies. A handler that calls further servers with
 * that context hands both on.
 *
 *     the client                                          the server
 *     call = grpc_channel_create_call(channel, NULL, 0,   ctx = cctx_grpc_accept(&peer, root, call,
 *         cq, method, NULL, cctx_grpc_deadline(ctx),                             details.deadline, tag);
 *         NULL);                                          ... the event of tag: cctx_grpc_closed(&peer);
 *     err = cctx_grpc_arm(&armed, ctx, call);             ... the handler works with ctx, then
 *     ... start a batch, pluck its event ...              op.data.send_status_from_server.status =
 *     cctx_grpc_disarm(&armed);                               cctx_grpc_status(ctx, &details);
 *     grpc_call_unref(call);                              cctx_close(ctx);
 *     return cctx_grpc_err(ctx, status);
 *
 * WHAT CROSSES THE WIRE
 *
 *   deadline  client to server, as the time that is left: the clocks of two machines need not agree. The
 *             server's is a little later, by the time on the way and as gRPC rounds up.
 *   cancel    client to server, as HTTP/2's RST_STREAM, which has no room for a text: the server's cause says
 *             that the client is gone. gRPC sends one at the client's deadline, too: a server sees ECANCELED
 *             or ETIMEDOUT then, whichever is there first.
 *   cause     server to client: cctx_grpc_status gives the status and the text, which the client finds in its
 *             status_details.
 *
 * TRAPS: the event of the batch is still to be taken from the completion queue after a cancel; to give up
 * waiting for it at a deadline instead leaves gRPC writing into memory that is no more. A process that forks
 * makes its children before grpc_init. gRPC aborts where the allocator fails.
 *
 * The defaults at the head of cctx.h hold here. There is no thread but those of the two libraries.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* cctx_grpc_t - the storage of one call that is armed: it stays where it is; its fields are private. */
typedef struct cctx_grpc {
    cctx_callback_t callback;
    const cctx_t *ctx;
    grpc_call *call;
} cctx_grpc_t;

/* cctx_grpc_peer_t - the storage of one call that is served: it stays where it is until its event comes. */
typedef struct cctx_grpc_peer {
    cctx_t *ctx;
    gpr_timespec deadline;
    int gone;
} cctx_grpc_peer_t;

/* ---- both sides -------------------------------------------------------------------------------- */

/*
 * cctx_grpc_status - a context's end as a gRPC status, and the text of its cause.
 *
 * Writes the text to *details, unless details is NULL; it is empty while ctx is live.
 *
 * Returns    GRPC_STATUS_OK while ctx is live, GRPC_STATUS_CANCELLED, or GRPC_STATUS_DEADLINE_EXCEEDED.
 * Ownership  the slice is a copy, the caller's: grpc_slice_unref.
 */
static inline grpc_status_code cctx_grpc_status(const cctx_t *ctx, grpc_slice *details)
{
    const cctx_cause_t *cause = cctx_cause(ctx);

    if (details)
        *details = cause && cause->text ? grpc_slice_from_copied_string(cause->text) : grpc_empty_slice();
    if (!cctx_is_done(ctx))
        return GRPC_STATUS_OK;
    return cctx_err(ctx) == ETIMEDOUT ? GRPC_STATUS_DEADLINE_EXCEEDED : GRPC_STATUS_CANCELLED;
}

/*
 * cctx_grpc_err - the status of a call that has ended as an errno value.
 *
 * Returns    0          GRPC_STATUS_OK: the answer is there, whatever has become of ctx since. ECANCELED  or
 *            ETIMEDOUT: ctx has ended the call, cctx_err(ctx) says how; or, with ctx live, the server has,
 *                       by that status.
 *            EIO        any other status, which says more.
 */
static inline int cctx_grpc_err(const cctx_t *ctx, grpc_status_code status)
{
    switch (status) {
    case GRPC_STATUS_OK: return 0;
    case GRPC_STATUS_CANCELLED: return cctx_is_done(ctx) ? cctx_err(ctx) : ECANCELED;
    case GRPC_STATUS_DEADLINE_EXCEEDED: return cctx_is_done(ctx) ? cctx_err(ctx) : ETIMEDOUT;
    default: return EIO;
    }
}

/* ---- the client -------------------------------------------------------------------------------- */

/*
 * cctx_grpc_deadline - a context's deadline, for grpc_channel_create_call.
 *
 * It is counted from now on gRPC's monotonic clock: never before the context's own, and not moved where
 * somebody sets the wall clock. A context that was canceled keeps the deadline it had: its call ends as
 * canceled.
 *
 * Returns    the point in time; gpr_inf_future without a deadline.
 */
static inline gpr_timespec cctx_grpc_deadline(const cctx_t *ctx)
{
    cctx_time_t deadline, now;

    if (!cctx_deadline(ctx, &deadline))
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    now = cctx_now();
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(deadline > now ? deadline - now : 0, GPR_TIMESPAN));
}

/* gRPC keeps a cancel, also one that comes before the first batch: once is enough. */
static inline void cctx_grpc_interrupt(void *arg)
{
    cctx_grpc_t *armed = (cctx_grpc_t *)arg;
    const cctx_cause_t *cause = cctx_cause(armed->ctx);
    const char *text = cause && cause->text ? cause->text : cctx_strerror(cctx_err(armed->ctx));

    grpc_call_cancel_with_status(armed->call, cctx_grpc_status(armed->ctx, NULL), text, NULL);
}

/*
 * cctx_grpc_arm - cancel a call when the context ends.
 *
 * The status of the call is then that of cctx_grpc_status, with the text of the cause in status_details,
 * unless it has one already. If ctx is done, the call is canceled here. A server may arm the calls that it
 * serves, too; it would rather send the status itself.
 *
 * Errors     EINVAL: an argument is NULL. ENOMEM, EAGAIN: as of cctx_after_func. Then the call is not armed,
 *            a disarm does nothing, and the caller cancels the call or goes on without.
 * Threads    armed is not armed, and nobody else uses it during the call. The cancel runs on the thread that
 *            cancels the context, for a deadline on the runner thread, so gRPC's locks and a write to a
 *            socket do, too.
 * Ownership  armed is the library's until cctx_grpc_disarm has returned; so call keeps its reference until
 *            then.
 * Cost       as cctx_after_func.
 */
static inline CCTX_MUST_USE int cctx_grpc_arm(cctx_grpc_t *armed, const cctx_t *ctx, grpc_call *call)
{
    static const cctx_callback_t unused = {{0}};

    if (!armed || !call)
        return EINVAL;
    armed->callback = unused;
    armed->ctx = ctx;
    armed->call = call;
    return cctx_after_func(ctx, &armed->callback, cctx_grpc_interrupt, armed);
}

/*
 * cctx_grpc_disarm - no more cancel: what comes before the last grpc_call_unref.
 *
 * gRPC allows a cancel at any time before that, and none after; when this returns none runs and none will.
 *
 * Blocking   while the cancel runs in another thread, which waits for nothing.
 */
static inline void cctx_grpc_disarm(cctx_grpc_t *armed)
{
    cctx_stop_wait(&armed->callback);
}

/* ---- the server -------------------------------------------------------------------------------- */

/*
 * cctx_grpc_time - a deadline of gRPC's, such as that of the call details, on the clock of cctx_now.
 *
 * Returns    the point in time, now for one that has passed; CCTX_NEVER for gpr_inf_future.
 */
static inline cctx_time_t cctx_grpc_time(gpr_timespec deadline)
{
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    cctx_time_t now = cctx_now();

    if (left.tv_sec < 0)
        return now;
    if (left.tv_sec >= (CCTX_NEVER - now) / GPR_NS_PER_SEC)
        return CCTX_NEVER;
    return now + left.tv_sec * GPR_NS_PER_SEC + left.tv_nsec;
}

/*
 * cctx_grpc_accept - derive a context for a call that the server has got, and watch for the end of its
 * client.
 *
 * It comes once for each call that an event of grpc_server_request_call has delivered; deadline is that of
 * its details. It starts a batch of one operation, GRPC_OP_RECV_CLOSE_ON_SERVER, whose event has tag. The
 * program takes it from the call's completion queue and calls cctx_grpc_closed. It comes once, also after the
 * handler has sent a status.
 *
 * Returns    the context, with a reference for the handler: cctx_close it at the end. Or NULL; then no event
 *            comes, and the caller cancels the call and drops it.
 * Errors     as of cctx_with_deadline; EINVAL also where gRPC refuses the batch.
 * Ownership  peer is the bridge's until cctx_grpc_closed has returned, and the call keeps its reference until
 *            then.
 */
static inline CCTX_MUST_USE cctx_t *cctx_grpc_accept(cctx_grpc_peer_t *peer, const cctx_t *parent,
                                                     grpc_call *call, gpr_timespec deadline, void *tag)
{
    static const grpc_op none = {GRPC_OP_RECV_CLOSE_ON_SERVER, 0, NULL, {{{NULL}}}};
    grpc_op op = none;

    peer->ctx = cctx_with_deadline(parent, cctx_grpc_time(deadline));
    if (!peer->ctx)
        return NULL;
    peer->deadline = deadline;
    peer->gone = 0;
    op.data.recv_close_on_server.cancelled = &peer->gone;
    cctx_ref(peer->ctx);
    if (grpc_call_start_batch(call, &op, 1, tag, NULL) != GRPC_CALL_OK) {
        cctx_unref(peer->ctx);
        cctx_close(peer->ctx);
        errno = EINVAL;
        return NULL;
    }
    return peer->ctx;
}

/*
 * cctx_grpc_closed - the event of cctx_grpc_accept has come: the client has its status, or is gone.
 *
 * If it is gone, the context is canceled, with the code ECANCELED and a text that says so. But where the
 * deadline has passed, gRPC itself ends the call; then the context ends by its own deadline, and its error is
 * ETIMEDOUT.
 *
 * Blocking   as cctx_cancel: callbacks run here.
 */
static inline void cctx_grpc_closed(cctx_grpc_peer_t *peer)
{
    static const cctx_cause_t gone = {ECANCELED, "the client canceled the call, or is gone"};

    if (peer->gone && gpr_time_cmp(gpr_now(peer->deadline.clock_type), peer->deadline) < 0)
        cctx_cancel_cause(peer->ctx, &gone);
    cctx_unref(peer->ctx);
}

#ifdef __cplusplus
}
#endif

#endif
