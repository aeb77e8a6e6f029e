/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/hiredis.h - Redis by hiredis: commands and connects that end with their context. */
#ifndef CCTX_BRIDGE_HIREDIS_H
#define CCTX_BRIDGE_HIREDIS_H

/*
 * WHAT IT IS FOR
 *
 * redisCommand sleeps in read until the server answers; a BLPOP may take for ever. redisSetTimeout bounds
 * each read, not the command, and a time of 0 is no time-out. These functions take a context first and sleep
 * on the connection's socket and on the context at once.
 *
 *     redisReply *reply = cctx_redis_command(ctx, c, "BLPOP %s 0", "jobs");
 *     if (reply && reply->type == REDIS_REPLY_ARRAY) work(reply->element[1]->str);
 *     err = cctx_redis_err(ctx, reply);
 *     freeReplyObject(reply);
 *
 * WHAT THE END OF A CONTEXT LEAVES
 *
 * Redis cannot be asked to drop a command. Its answer would be taken for that of the next one, so a
 * connection whose command was ended by its context is dead: c->err is REDIS_ERR_IO, c->errstr says "context
 * canceled" or "context deadline exceeded", and hiredis refuses further commands until redisReconnect. The
 * socket is shut down at once, so that the server lets go of a BLPOP; its descriptor stays until redisFree or
 * redisReconnect. The thread that sleeps does this itself. No other one touches the descriptor: none can be
 * hit that was closed and opened anew, and no write runs into a socket that somebody else has shut down,
 * which would be a SIGPIPE.
 *
 * TRAPS
 *
 * - What BLPOP has popped when its context ends is lost with the connection. BLMOVE to a list of one's own
 *   keeps it.
 * - The command may be done, or be done later, though its answer never comes.
 * - A time-out of redisSetTimeout is not heeded here; the context has the time.
 * - The server may close the connection while hiredis writes: SIGPIPE, which the program ignores as with
 *   hiredis alone.
 * - For connections of the blocking API, plain or not blocking; not for redisAsyncContext, and not for TLS.
 *
 * For all functions that give a reply:
 *
 *   Returns    a reply, to be freed with freeReplyObject, REDIS_REPLY_ERROR included. NULL with c->err 0:
 *              nothing was sent, since ctx was done already or its descriptor could not be made (errno, as of
 *              cctx_fd); c is good. NULL with c->err: as of hiredis, or ctx ended it. cctx_redis_err tells.
 *   Threads    one at a time for one connection, as for all of hiredis. Any thread may cancel ctx.
 *   Ownership  c is the caller's before and after; its blocking mode is as it was.
 *   Blocking   until the reply is there or ctx is done; a large command is sent without blocking, too.
 *   Cost       beside hiredis's own: one ppoll for each piece, and three fcntl if c is in blocking mode. No
 *              thread.
 */

#include <cctx/wait.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

/* Whether ctx is live and can be polled, so that nothing is sent which could not be waited for. */
static inline bool cctx_redis_private_ready(const cctx_t *ctx)
{
    int err = cctx_err(ctx);

    if (err == 0 && (cctx_fd(ctx) >= 0 || errno == EDEADLK))
        return true;
    if (err)
        errno = err;
    return false;
}

/* Sleeps until c's socket is ready for one of events, and says for which; 0: c is given up. */
static inline int cctx_redis_private_poll(const cctx_t *ctx, redisContext *c, int events)
{
    struct pollfd fd = {c->fd, (short)events, 0};
    int err = cctx_poll(ctx, &fd, 1, NULL);

    if (err == 0)
        return fd.revents;
    shutdown(c->fd, SHUT_RDWR);
    c->err = REDIS_ERR_IO;
    snprintf(c->errstr, sizeof c->errstr, "%s", cctx_strerror(err));
    errno = err;
    return 0;
}

/*
 * cctx_redis_wait - send what redisAppendCommand has put into the buffer, and wait for one reply.
 *
 * Once for each command that was appended; also for the next message of a subscription. If ctx is done, even
 * before the call, c is dead: answers may be under way.
 */
static inline redisReply *cctx_redis_wait(const cctx_t *ctx, redisContext *c)
{
    void *reply = NULL;
    int sent = 0, flags = 0, blocking, ready;

    if (!c || c->err)
        return NULL;
    blocking = c->flags & REDIS_BLOCK;
    if (blocking) {
        flags = fcntl(c->fd, F_GETFL);
        fcntl(c->fd, F_SETFL, flags | O_NONBLOCK);
        c->flags &= ~REDIS_BLOCK;
    }
    while (redisGetReplyFromReader(c, &reply) == REDIS_OK && !reply) {
        ready = cctx_redis_private_poll(ctx, c, sent ? POLLIN : POLLIN | POLLOUT);
        /* Reading comes first: where the server has closed, it says so, and a write would be a SIGPIPE. */
        if (!ready || ((ready & ~POLLOUT) && redisBufferRead(c) != REDIS_OK) ||
            ((ready & POLLOUT) && redisBufferWrite(c, &sent) != REDIS_OK))
            break;
    }
    if (blocking) {
        c->flags |= REDIS_BLOCK;
        fcntl(c->fd, F_SETFL, flags);
    }
    return (redisReply *)reply;
}

/*
 * cctx_redis_command      - redisCommand that a context ends.
 * cctx_redis_vcommand     - redisvCommand.
 * cctx_redis_command_argv - redisCommandArgv.
 *
 * The formats are those of hiredis: %s, %b and the numbers.
 */
static inline redisReply *cctx_redis_vcommand(const cctx_t *ctx, redisContext *c, const char *format,
                                              va_list args)
{
    if (!c || c->err || !cctx_redis_private_ready(ctx) || redisvAppendCommand(c, format, args) != REDIS_OK)
        return NULL;
    return cctx_redis_wait(ctx, c);
}

static inline redisReply *cctx_redis_command(const cctx_t *ctx, redisContext *c, const char *format, ...)
{
    redisReply *reply;
    va_list args;

    va_start(args, format);
    reply = cctx_redis_vcommand(ctx, c, format, args);
    va_end(args);
    return reply;
}

static inline redisReply *cctx_redis_command_argv(const cctx_t *ctx, redisContext *c, int argc,
                                                  const char **argv, const size_t *lengths)
{
    if (!c || c->err || !cctx_redis_private_ready(ctx) ||
        redisAppendCommandArgv(c, argc, argv, lengths) != REDIS_OK)
        return NULL;
    return cctx_redis_wait(ctx, c);
}

/*
 * cctx_redis_err - what a reply means, as an errno value.
 *
 * Returns    0          a reply that is no error.
 *            ECANCELED  or ETIMEDOUT: cctx_err(ctx): there is no reply, and ctx is done.
 *            EIO        another failure: reply->str, or c->errstr, has it.
 */
static inline int cctx_redis_err(const cctx_t *ctx, const redisReply *reply)
{
    if (reply)
        return reply->type == REDIS_REPLY_ERROR ? EIO : 0;
    return cctx_err(ctx) ? cctx_err(ctx) : EIO;
}

/*
 * cctx_redis_connect      - redisConnect that a context ends.
 * cctx_redis_connect_unix - redisConnectUnix.
 *
 * The lookup of a host's name blocks, so give an address; of several only the first is tried.
 *
 * Returns    a connection in blocking mode, to be closed with redisFree, whose err tells whether it is one,
 * as of
 *            redisConnect. NULL: nothing was tried, as above, or memory ran out.
 */
static inline redisContext *cctx_redis_private_connected(const cctx_t *ctx, redisContext *c)
{
    int ready = c && !c->err ? cctx_redis_private_poll(ctx, c, POLLOUT) : 0;

    /* A connect that has failed is readable, and hiredis reads the error. */
    if (!ready || ((ready & ~POLLOUT) && redisBufferRead(c) != REDIS_OK))
        return c;
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) & ~O_NONBLOCK);
    c->flags |= REDIS_BLOCK;
    return c;
}

static inline redisContext *cctx_redis_connect(const cctx_t *ctx, const char *host, int port)
{
    return cctx_redis_private_ready(ctx)
               ? cctx_redis_private_connected(ctx, redisConnectNonBlock(host, port))
               : NULL;
}

static inline redisContext *cctx_redis_connect_unix(const cctx_t *ctx, const char *path)
{
    return cctx_redis_private_ready(ctx)
               ? cctx_redis_private_connected(ctx, redisConnectUnixNonBlock(path))
               : NULL;
}

#endif
