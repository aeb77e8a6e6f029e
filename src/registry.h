/* Layer 3, mechanism. registry: what lives, where it was made and what it is called; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * For a build with CCTX_CHECK=1 alone, which may take a lock: objects hang in one list, the oldest first, each by an
 * entry inside of it, so nothing here can fail for want of memory. At exit those whose user still has a handle are
 * reported, a line for each place in the program that made them.
 *
 *   G1  An entry is in the list from its registration until it is removed; in between the object's memory is there
 *       for whoever has the lock.
 *   G2  A search that began at some moment ends: what is registered later stands behind it.
 *   G3  No user code, no allocation and no output under the lock. Over a fork it is held by the one who forks. */
#ifndef CCTXI_REGISTRY_H
#define CCTXI_REGISTRY_H

#include "sync.h"

#if CCTX_CHECK
struct made {
    struct made *next, *previous;      /* under the lock; NULL: not registered */
    uint64_t serial;            /* 1, 2, …: the order in which they were made */
    bool reported;              /* counted by the report */
    sync_ptr site;              /* the return address of the call that made it. With the rest: written by the maker, read
                                 * by anybody */
    sync_ptr call;              /* the name of the function called */
    sync_ptr name;              /* the user's, or 0 */
    sync_ptr top, root;         /* of whom it is a descendant: see node_made */
    sync_u32 handles;           /* references that the user has */
};

void registry_add(struct made *e);
/* A second removal is none. */
void registry_remove(struct made *e);
/* The oldest entry after `after` (NULL: the very oldest), which is registered, and not after the serial `last`, that
 * take(arg, entry) accepts under the lock; or NULL. */
struct made *registry_next(struct made *after, uint64_t last, bool (*take)(void *arg, struct made *e), void *arg);
/* The serial of the youngest. */
uint64_t registry_last(void);
/* "program+0x1234" for an address of code, as addr2line takes it; at most size bytes with the end. */
void registry_place(uintptr_t site, char *text, size_t size);
#endif

#endif
