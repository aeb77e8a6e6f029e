/* SPDX-License-Identifier: BSD-2-Clause */
/* call: a call of gRPC's C core that takes the deadline of a context and ends with it. */
#ifndef CCTX_TEST_BRIDGE_GRPC_CALL_H
#define CCTX_TEST_BRIDGE_GRPC_CALL_H

#include <cctx/bridge/grpc.h>

#include <grpc/support/alloc.h>
#include <stdio.h>

/* [call] */
/* Calls a method that takes and gives no message. text gets what the status says beside its code. */
static inline int call(const cctx_t *ctx, grpc_channel *channel, const char *method, char *text, size_t size)
{
    grpc_completion_queue *cq = grpc_completion_queue_create_for_pluck(NULL);
    grpc_call *rpc = grpc_channel_create_call(channel, NULL, 0, cq, grpc_slice_from_static_string(method),
                                              NULL, cctx_grpc_deadline(ctx), NULL);
    cctx_grpc_t armed;
    int err = cctx_grpc_arm(&armed, ctx, rpc);
    if (err == 0) {
        grpc_status_code status;
        grpc_slice details = grpc_empty_slice();
        grpc_metadata_array headers, trailers;
        grpc_metadata_array_init(&headers);
        grpc_metadata_array_init(&trailers);
        grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                          {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                          {.op = GRPC_OP_RECV_INITIAL_METADATA},
                          {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
        ops[2].data.recv_initial_metadata.recv_initial_metadata = &headers;
        ops[3].data.recv_status_on_client.trailing_metadata = &trailers;
        ops[3].data.recv_status_on_client.status = &status;
        ops[3].data.recv_status_on_client.status_details = &details;
        grpc_call_start_batch(rpc, ops, 4, &armed, NULL);
        /* No deadline here: the call has one, and ends with the context. */
        grpc_completion_queue_pluck(cq, &armed, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        cctx_grpc_disarm(&armed);
        err = cctx_grpc_err(ctx, status);
        char *copy = grpc_slice_to_c_string(details);
        snprintf(text, size, "%s", copy);
        gpr_free(copy);
        grpc_slice_unref(details);
        grpc_metadata_array_destroy(&headers);
        grpc_metadata_array_destroy(&trailers);
    }
    grpc_call_unref(rpc);
    grpc_completion_queue_shutdown(cq);
    grpc_completion_queue_destroy(cq);
    return err;
}
/* [call end] */

#endif
