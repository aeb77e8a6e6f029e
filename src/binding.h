/* Layer 5, relations. binding: the contexts of this process that end with tokens of an arena.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A binding is a hub, a context that the library alone cancels, and below it a value context whose destructor tells
 * that the program has dropped what it derived from there. So the set of bindings keeps no context of the program's
 * alive, and it needs nothing of contexts but what cctx.h has.
 *
 *   N1  A binding is in the set before the token is looked at; whoever ends a token ends it before the bell is rung;
 *       who hears the bell looks at each binding in the set. So no end is missed.
 *   N2  A binding's memory outlives the sections in which it was seen in the set; its hub, its pins. */
#ifndef CCTXI_BINDING_H
#define CCTXI_BINDING_H

#include "arena.h"
#include "roster.h"
#include <cctx/cctx.h>

struct bindings {
    struct arena arena;
    struct roster *roster;
    sync_u32 refs;              /* the arena's handle, and each binding */
    void (*last)(struct bindings *s);   /* what follows when they are gone */
};

/* A context that is done, or will be in the scan that follows the end of the token, or by its deadline. NULL with errno. */
const cctx_t *binding_new(struct bindings *s, uint64_t token, int64_t deadline);
/* A context that is done as the token of that state is. NULL with errno. */
const cctx_t *binding_done(enum arena_state state);

/* Ends each binding whose token has ended. */
void bindings_scan(struct bindings *s);
/* Calls fn with the owner of each live token that is bound. */
void bindings_owners(struct bindings *s, void (*fn)(void *arg, uint64_t who), void *arg);
void bindings_unref(struct bindings *s);

#endif
