/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker that takes jobs from a list of Redis and prints them, until Ctrl-C or until its time is over.
 *
 *     jobs SOCKET LIST SECONDS
 *
 * A job moves to the list LIST:taken before it is worked on, so none is lost when the worker ends just then.
 */
#include <cctx/bridge/hiredis.h>
#include <cctx/signal.h>
#include <stdlib.h>

/* [jobs] */
static int jobs(const cctx_t *ctx, redisContext *c, const char *list)
{
    int err;

    do {
        redisReply *job = cctx_redis_command(ctx, c, "BRPOPLPUSH %s %s:taken 0", list, list);

        err = cctx_redis_err(ctx, job);
        if (err == 0) {
            printf("%s\n", job->str);
            freeReplyObject(cctx_redis_command(ctx, c, "LREM %s:taken 1 %s", list, job->str));
        }
        if (job)
            freeReplyObject(job);
    } while (err == 0);
    return err;
}
/* [jobs end] */

int main(int argc, char **argv)
{
    redisContext *c;
    sigset_t signals;
    cctx_t *program, *ctx;
    int err = EIO;

    if (argc != 4)
        return 2;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    program = cctx_with_signals(cctx_background(), &signals);
    ctx = program ? cctx_with_timeout(program, CCTX_S(atoi(argv[3]))) : NULL;
    c = cctx_redis_connect_unix(ctx, argv[1]);
    if (c && c->err == 0)
        err = jobs(ctx, c, argv[2]);
    printf("ended: %s\n", err != EIO ? cctx_cause(ctx)->text : c ? c->errstr : "no connection");
    redisFree(c);
    cctx_close(ctx);
    cctx_close(program);
    return err == EIO;
}
