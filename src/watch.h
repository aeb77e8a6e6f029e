/* Layer 11, face. watch: the threads that watch an arena: one hears its bell, one sees its owners die.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Neither polls: one sleeps in a futex that all processes share, the other in epoll on a descriptor for each process
 * that owns a token bound here. Both are made when they are first needed, end with the arena, and are made anew in the
 * child of a fork. */
#ifndef CCTXI_WATCH_H
#define CCTXI_WATCH_H

#include "binding.h"

struct eyes;
struct cctx_shared {
    struct bindings bindings;   /* first: what watch_end is given */
    int fd;
    size_t size;
    sync_ptr eyes;              /* a struct eyes, or 0: nothing was bound yet */
};

/* The bell is heard from now on. 0, ENOMEM, EMFILE, …; EAGAIN: the thread could not be made. */
int watch_bell(struct cctx_shared *s);
/* The death of that process is seen from now on; after watch_bell. Besides these, ESRCH: it is dead. */
int watch_owner(struct cctx_shared *s, uint64_t who);
/* The handle and all bindings are gone: frees the arena, once its threads have ended. */
void watch_end(struct bindings *s);

#endif
