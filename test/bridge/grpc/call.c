/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * call: calls a method of a server, with a time-out, and ends with SIGINT.
 * usage: call ADDRESS METHOD MILLISECONDS, as in call 127.0.0.1:50051 /wait 500
 */
#include "call.h"

#include <cctx/signal.h>
#include <grpc/grpc_security.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    sigset_t signals;
    char text[256] = "";

    if (argc != 4) {
        fputs("usage: call ADDRESS METHOD MILLISECONDS\n", stderr);
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    cctx_t *root = cctx_with_signals(cctx_background(), &signals);
    cctx_t *ctx = root ? cctx_with_timeout(root, CCTX_MS(atol(argv[3]))) : NULL;
    if (!ctx)
        return 2;
    grpc_init();
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(argv[1], credentials, NULL);
    grpc_channel_credentials_release(credentials);
    int err = call(ctx, channel, argv[2], text, sizeof text);
    grpc_channel_destroy(channel);
    grpc_shutdown();
    printf("%s: %s\n", err ? cctx_strerror(err) : "answered", text);
    cctx_close(ctx);
    cctx_close(root);
    return err != 0;
}
