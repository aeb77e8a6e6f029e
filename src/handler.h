/* Layer 6, mechanism. handler: one signal handler, and who is told of which signals; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Who is told stands in a record of the handler's own, which is never freed: a handler that is running may look at it
 * at any time. The record is another's only once no handler is at it that could still mean the one before. Nobody
 * waits for a handler, and a handler waits for nobody.
 *
 *   H1  A handler that began after handler_add has returned tells each that asked for its signal.
 *   H2  tell is called with memory that is not given out anew before it has returned.
 *   H3  What tell said yes to is settled once, after it: at the next handler_settle that begins after told.
 *   H4  The action of a signal is this handler from the first that asks for it until the last is removed; then it is
 *       what it was before, unless the program has set another meanwhile.
 *
 * A mutex, taken with the signals blocked, makes one of "who asks" and "what the action is": by handler_add and
 * handler_remove alone. */
#ifndef CCTXI_HANDLER_H
#define CCTXI_HANDLER_H

#include "sync.h"

struct handler_ops {
    bool (*tell)(void *who, int sig);   /* in the handler: true, there is something left to settle */
    void (*told)(void);                 /* in the handler, once any was told that said yes */
};

enum { HANDLER_SIGNALS = 64, HANDLER_ROOM = CCTX_CHECK ? 256 : 64 };

/* Memory for one that will be told: HANDLER_ROOM bytes at a cache line; NULL without memory. */
void *handler_get(const struct handler_ops *ops);
/* Can a handler be set for the signal? */
bool handler_takes(int sig);
/* From now on who is told of these signals (bit i: signal i + 1), all of which handler_takes. */
void handler_add(void *who, uint64_t signals);
uint64_t handler_signals(void *who);
/* It is told no more, but by a handler that has begun. */
void handler_remove(void *who);
/* Nobody looks at the memory any more, but a handler that has begun. */
void handler_put(void *who);

/* Calls settle(who, times) for each that has said yes `times` times since the last time. */
void handler_settle(void (*settle)(void *who, uint32_t times));

#endif
