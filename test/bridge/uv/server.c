/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server on libuv whose work ends with its request: at a limit of time, when the client hangs up, or when
 * the server is told to stop. It answers each connection with the number of primes below a limit. The loop
 * fires the deadlines; the program has no threads but those of libuv's pool.
 *
 *     usage: uv_server LIMIT MILLISECONDS
 */
#include <cctx/bridge/uv.h>
#include <cctx/bridge/uv_domain.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static cctx_uv_t uv;
static uv_tcp_t listener;
static unsigned long limit;
static int64_t patience;

typedef struct connection {
    uv_tcp_t tcp;
    cctx_t *ctx; /* of what is done for it: in the pool, or anywhere else */
    cctx_uv_work_t work;
    unsigned long primes;
} connection_t;

static void closed(uv_handle_t *tcp)
{
    free(tcp->data);
}

/* [work] */
static int count(const cctx_t *ctx, cctx_uv_work_t *work) /* in the pool */
{
    connection_t *connection = work->data;

    for (unsigned long n = 2; n < limit; n++) {
        unsigned long d = 2;
        if (cctx_is_done(ctx))
            return cctx_uv_status(ctx);
        while (d * d <= n && n % d != 0)
            d++;
        connection->primes += d * d > n;
    }
    return 0;
}

static void answer(cctx_uv_work_t *work, int status) /* on the loop */
{
    connection_t *connection = work->data;
    char text[128];
    int n = status == 0 ? snprintf(text, sizeof text, "%lu primes\n", connection->primes)
                        : snprintf(text, sizeof text, "ended: %s\n", cctx_cause(connection->ctx)->text);
    uv_buf_t buf = uv_buf_init(text, (unsigned)n);

    uv_try_write((uv_stream_t *)&connection->tcp, &buf, 1);
    fputs(text, stdout);
    cctx_close(connection->ctx);
    uv_close((uv_handle_t *)&connection->tcp, closed);
}
/* [work end] */

static void receive(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    static const cctx_cause_t hung_up = {EPIPE, "the client hung up"};
    connection_t *connection = tcp->data;

    (void)buf; /* what clients say is of no interest here */
    if (n < 0)
        cctx_cancel_cause(connection->ctx, &hung_up);
}

static void buffer(uv_handle_t *tcp, size_t size, uv_buf_t *buf)
{
    static char ignored[64];

    (void)tcp, (void)size;
    *buf = uv_buf_init(ignored, sizeof ignored);
}

static void connected(uv_stream_t *server, int status)
{
    connection_t *connection = status == 0 ? calloc(1, sizeof *connection) : NULL;

    if (!connection)
        return;
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection->work.data = connection;
    connection->ctx = cctx_with_timeout(uv.ctx, patience);
    if (!connection->ctx || uv_accept(server, (uv_stream_t *)&connection->tcp) != 0 ||
        cctx_uv_queue_work(&uv, &connection->work, connection->ctx, count, answer) != 0) {
        cctx_close(connection->ctx);
        uv_close((uv_handle_t *)&connection->tcp, closed);
        return;
    }
    uv_read_start((uv_stream_t *)&connection->tcp, buffer, receive);
}

static void stop(uv_signal_t *signal, int number)
{
    (void)number;
    uv_close((uv_handle_t *)&listener, NULL);
    uv_close((uv_handle_t *)signal, NULL);
    cctx_uv_close(&uv, NULL); /* ends what is being done for the connections; they close when it has ended */
}

int main(int argc, char **argv)
{
    uv_loop_t *loop = uv_default_loop();
    cctx_uv_domain_t domain;
    struct sockaddr_in address;
    int size = sizeof address;
    uv_signal_t terminate;

    if (argc != 3)
        return 2;
    limit = strtoul(argv[1], NULL, 0);
    patience = CCTX_MS(strtol(argv[2], NULL, 0));
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);

    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_init(loop, &listener);
    uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
    uv_signal_init(loop, &terminate);
    uv_signal_start(&terminate, stop, SIGTERM);
    /* [main] */
    if (cctx_uv_domain_open(&domain, loop) != 0 ||
        cctx_uv_open(&uv, loop, cctx_domain_background(domain.domain)) != 0 ||
        uv_listen((uv_stream_t *)&listener, 128, connected) != 0)
        return 1;
    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size);
    printf("port %d\n", ntohs(address.sin_port));
    uv_run(loop, UV_RUN_DEFAULT); /* until stop, and the end of all it began */
    if (cctx_uv_domain_close(&domain) != 0)
        return 1;
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 1;
    /* [main end] */
}
