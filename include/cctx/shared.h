/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/shared.h - contexts that several processes see, in shared memory. */
#ifndef CCTX_SHARED_H
#define CCTX_SHARED_H

/*
 * WHAT IT IS
 *
 * An arena is a piece of memory that processes share, and in it are tokens. A token is live, then done, for
 * ever, as a context is: any process cancels it, its deadline passes, or the process that made it dies. A
 * process that has the arena binds a context of its own to a token, and that one ends when the token does,
 * whoever ended it. A token is a number: it goes from process to process in a message, in shared memory, on
 * a command line.
 *
 * One process makes the arena (cctx_shared_create); the others inherit it by fork, or get its descriptor
 * (cctx_shared_fd), as over a Unix socket or by exec, and attach it (cctx_shared_attach).
 *
 * Go has nothing of this. The defaults at the head of cctx.h hold here, too.
 *
 * TRUST: a process that has the arena may end each token in it, and may destroy its bytes. It cannot make
 * another process crash, hang or read outside of the arena: of what is in the arena each number is checked
 * before it is used, and none is an address. Bytes that no process can have written by these functions are
 * answered with EBADMSG; a bound context whose token's bytes are such ends with the cause
 * {EBADMSG, "shared arena corrupt"} when the arena's bell is next rung (B5).
 *
 * DEATH: nothing in the arena is a lock. A process that is killed, wherever it was, holds up no other; the
 * tokens that it made end with the cause {ECANCELED, "owner died"}, and their places are used again (B5). If
 * it is killed in the middle of canceling somebody else's token, that token may be done without the others
 * having been told; the next cancel of that token, by anyone, tells them, though it returns false, and so
 * does each end of another token of the arena. exec is no death; the end of a thread is none.
 *
 * PLACES: a token that is done is not freed by anybody. Its place is used for a new token when it is its
 * turn, the longest unused first, so who has an old token still learns how it ended for a while; then it is
 * stale: it reads as done, with the cause {ESTALE, "stale token"}, and cancels nothing. A token is never
 * given out again.
 *
 * THREADS OF THE LIBRARY: for an arena of which a token is bound, one that sleeps until one ends; and from
 * the first token on that another process made, one that sleeps until an owner dies. All signals are blocked
 * in both. They end with the arena.
 *
 * FORK: the child may go on with an arena that it inherited. Tokens that its parent process made stay its
 * parent's. Contexts that were bound before the fork follow their deadlines; they follow their tokens once
 * the child binds one in that arena.
 *
 * MACHINE: Linux 5.3 or later, and all processes in one namespace of processes and of time: deadlines are by
 * CLOCK_MONOTONIC, which is one for the machine.
 */

#include <cctx/cctx.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An arena, as this process has it. Opaque. */
typedef struct cctx_shared cctx_shared_t;

/* A token: the number of a place, and how often that was used. 0 is no token. */
typedef uint64_t cctx_token_t;

/* The most tokens that an arena holds. */
#define CCTX_SHARED_MAX 1048576

/*
 * cctx_shared_create - make an arena.
 *
 * capacity is how many tokens can be live in it at one time, of at most 1024 processes.
 *
 * Returns    the arena, to be freed by cctx_shared_free; or NULL.
 * Errors     EINVAL: capacity is 0 or beyond CCTX_SHARED_MAX. ENOMEM; EMFILE, ENFILE.
 * Cost       a few system calls; 8 KiB and 16 bytes for each token, all of it at once.
 */
CCTX_API CCTX_MUST_USE cctx_shared_t *cctx_shared_create(size_t capacity);

/*
 * cctx_shared_attach - get an arena that another process has made.
 *
 * fd is what cctx_shared_fd gave there, under whatever number it came here. It is duplicated: it stays the
 * caller's.
 *
 * Returns    the arena, to be freed by cctx_shared_free; or NULL.
 * Errors     EBADF: no descriptor. EINVAL: not sealed memory of memfd_create(2), so it is not safe to touch.
 *            EBADMSG: no arena, or a corrupt one. EXDEV: one of another namespace. EPERM, EACCES: it cannot
 *            be written to. ENOMEM; EMFILE, ENFILE.
 * Cost       a few system calls.
 */
CCTX_API CCTX_MUST_USE cctx_shared_t *cctx_shared_attach(int fd);

/*
 * cctx_shared_fd - the descriptor to attach it by.
 *
 * Returns    the descriptor, which is closed on exec unless the program dups it; -1 with EINVAL for NULL.
 * Ownership  the arena's: closed when that is freed.
 */
CCTX_API int cctx_shared_fd(const cctx_shared_t *arena);

/*
 * cctx_shared_free - let go of an arena, in this process. NULL is fine.
 *
 * Contexts that are bound to its tokens go on, and keep the memory mapped until they are freed. The tokens
 * that this process has made stay as they are.
 *
 * Threads    nobody uses the handle during the call or after it.
 * Blocking   never. The threads of the arena end a moment later.
 */
CCTX_API void cctx_shared_free(cctx_shared_t *arena);
CCTX_API CCTX_FREED_BY(cctx_shared_free) cctx_shared_t *cctx_shared_create(size_t capacity);
CCTX_API CCTX_FREED_BY(cctx_shared_free) cctx_shared_t *cctx_shared_attach(int fd);

/*
 * cctx_shared_token - make a token: live until somebody cancels it, its deadline passes, or this process dies.
 *
 * deadline is on the clock of cctx_now; CCTX_NEVER is none. One that has passed makes a token that is done.
 *
 * Returns    the token; 0 with errno.
 * Errors     EINVAL: arena is NULL. ENOSPC: capacity tokens are live, or 1024 living processes have made
 *            tokens. EBADMSG: the arena is corrupt.
 * Ordering   none; how the token gets to another process orders.
 * Blocking   never; lock-free, whatever other processes do.
 * Cost       some hundred nanoseconds and no system call, while there is room; O(capacity) if there is not: then the
 *            processes that have made tokens are asked whether they live. The first call of a process reads
 *            /proc.
 */
CCTX_API CCTX_MUST_USE cctx_token_t cctx_shared_token(cctx_shared_t *arena, cctx_time_t deadline);

/*
 * cctx_shared_cancel - end a token, in all processes.
 *
 * Contexts that are bound to it, in whatever process, are done soon after: the thread of the arena does it
 * there.
 *
 * Returns    true   this call ended it.
 *            false  it was done already, or stale, or no token; or the arena is NULL or corrupt.
 * Ordering   true: release. What the caller did before happens-before whatever follows a look, wait or
 *            callback that reports it, in whatever process.
 * Signals    async-signal-safe.
 * Cost       O(1), one clock read and one system call where it wins.
 */
CCTX_API bool cctx_shared_cancel(cctx_shared_t *arena, cctx_token_t token);

/*
 * cctx_with_shared - derive a context that ends when its parent does or when a token does.
 *
 * Its deadline is the earlier of the parent's and the token's, its values are the parent's. When the token is
 * canceled it ends with ECANCELED; at the token's deadline with ETIMEDOUT; when the token's owner dies with
 * ECANCELED and the cause {ECANCELED, "owner died"} (B5). Of a token that is done already, or stale, it is
 * born done.
 *
 * Canceling the context does not end the token: it is the token's child. cctx_shared_cancel ends the token.
 * Callbacks on it run, where the token ends it, on the thread that watches the arena: one that blocks delays
 * the ends of other contexts bound in that arena, in this process, but for their deadlines.
 *
 * Returns    the child, with one reference for the caller; or NULL.
 * Errors     EINVAL: an argument is NULL or 0, or there is no such place. EBADMSG: the arena is corrupt.
 *            ENOMEM; EAGAIN: a library thread could not be made; EMFILE, ENFILE: no descriptor is left; ENOSYS:
 *            this kernel cannot tell of the owner's death. On failure nothing has changed.
 * Ownership  the child keeps the arena's memory mapped. Dropping the child leaves nothing behind.
 * Cost       O(1) and some allocations; for each process that owns a token bound here, one descriptor, which
 *            lasts as long as that process and the arena, and a few system calls at the first. The end of a
 *            token costs each process O(its bound contexts of that arena).
 */
CCTX_API CCTX_OWNED cctx_t *cctx_with_shared(const cctx_t *parent, cctx_shared_t *arena, cctx_token_t token);

#ifdef __cplusplus
}
#endif

#endif
