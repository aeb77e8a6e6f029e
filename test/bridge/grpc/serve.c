/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve: a server whose calls each have a context. /wait works for a minute, or has another server do it; every
 * other method answers at once. SIGTERM ends all calls, with a cause that their clients get. It prints its port,
 * and a line where a call begins and ends.
 * usage: serve [ADDRESS], that of the other server
 */
#include "call.h"

#include <cctx/group.h>
#include <cctx/signal.h>
#include <cctx/wait.h>

#include <grpc/grpc_security.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct served;

/* The tag of an event of the completion queue. */
typedef struct event {
    void (*run)(struct served *served, int ok);
    struct served *served;
} event_t;

typedef struct served {
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    cctx_grpc_peer_t peer;
    cctx_t *ctx;
    event_t began, closed, sent;
    int left; /* of the last two */
} served_t;

static grpc_server *server;
static grpc_completion_queue *cq;
static grpc_channel *next;
static cctx_t *root;
static cctx_group_t *group;

static void next_call(void);

static void served_free(served_t *served)
{
    if (served->call)
        grpc_call_unref(served->call);
    grpc_call_details_destroy(&served->details);
    grpc_metadata_array_destroy(&served->metadata);
    cctx_close(served->ctx);
    free(served);
}

/* [handle] */
/* A task of the group: the work of one call, on a thread of its own. */
static int handle(const cctx_t *unused, void *arg)
{
    served_t *served = arg;
    grpc_slice text;
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};
    (void)unused;
    bool wait = grpc_slice_str_cmp(served->details.method, "/wait") == 0;
    char answer[128];
    if (wait && next)
        call(served->ctx, next, "/wait", answer, sizeof answer); /* the deadline and the end go on */
    else if (wait)
        cctx_sleep(served->ctx, CCTX_S(60)); /* the work, which ends with the context */
    int err = cctx_err(served->ctx);
    printf("ended %" PRId64 " %d %s\n", cctx_now(), err, err ? cctx_cause(served->ctx)->text : "answered");
    ops[1].data.send_status_from_server.status = cctx_grpc_status(served->ctx, &text);
    ops[1].data.send_status_from_server.status_details = &text;
    grpc_call_start_batch(served->call, ops, 2, &served->sent, NULL);
    grpc_slice_unref(text);
    return 0;
}

/* The thread of the completion queue: a call has come. */
static void began(served_t *served, int ok)
{
    if (ok) {
        next_call();
        served->ctx = cctx_grpc_accept(&served->peer, root, served->call, served->details.deadline,
                                       &served->closed);
    }
    if (!served->ctx) { /* the server ends, or there is no memory */
        if (served->call)
            grpc_call_cancel(served->call, NULL);
        served_free(served);
        return;
    }
    printf("began %" PRId64 "\n", cctx_remaining(served->ctx));
    served->left = 2;
    cctx_group_go(group, handle, served);
}

/* Its client has the status, or is gone. */
static void closed(served_t *served, int ok)
{
    (void)ok;
    cctx_grpc_closed(&served->peer);
    if (--served->left == 0)
        served_free(served);
}
/* [handle end] */

static void sent(served_t *served, int ok)
{
    (void)ok;
    if (--served->left == 0)
        served_free(served);
}

static void next_call(void)
{
    served_t *served = calloc(1, sizeof *served);
    if (!served)
        abort();
    served->began = (event_t){began, served};
    served->closed = (event_t){closed, served};
    served->sent = (event_t){sent, served};
    grpc_call_details_init(&served->details);
    grpc_metadata_array_init(&served->metadata);
    grpc_server_request_call(server, &served->call, &served->details, &served->metadata, cq, cq,
                             &served->began);
}

/* All calls have ended after the shutdown: no handler starts a batch any more. */
static void drained(served_t *unused, int ok)
{
    (void)unused;
    (void)ok;
    cctx_group_wait(group);
    grpc_completion_queue_shutdown(cq);
}

/* A callback of the root: SIGTERM has come. */
static void stop(void *arg)
{
    grpc_server_shutdown_and_notify(server, cq, arg);
}

int main(int argc, char **argv)
{
    sigset_t signals;
    cctx_callback_t callback = {{0}};
    event_t end = {drained, NULL}, *event;
    grpc_event got;

    setvbuf(stdout, NULL, _IOLBF, 0);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    root = cctx_with_signals(cctx_background(), &signals);
    group = root ? cctx_group_new(root, NULL, 0) : NULL;
    if (!group)
        return 1;
    grpc_init();
    cq = grpc_completion_queue_create_for_next(NULL);
    server = grpc_server_create(NULL, NULL);
    grpc_server_register_completion_queue(server, cq, NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server, "127.0.0.1:0", credentials);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server);
    if (argc > 1) {
        grpc_channel_credentials *insecure = grpc_insecure_credentials_create();
        next = grpc_channel_create(argv[1], insecure, NULL);
        grpc_channel_credentials_release(insecure);
    }
    next_call();
    if (port == 0 || cctx_after_func(root, &callback, stop, &end) != 0)
        return 1;
    printf("port %d\n", port);
    for (;;) {
        got = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (got.type == GRPC_QUEUE_SHUTDOWN)
            break;
        event = got.tag;
        event->run(event->served, got.success);
    }
    cctx_stop_wait(&callback);
    if (next)
        grpc_channel_destroy(next);
    grpc_server_destroy(server);
    grpc_completion_queue_destroy(cq);
    grpc_shutdown();
    cctx_group_free(group);
    cctx_close(root);
    return 0;
}
