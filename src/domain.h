/* Layer 6, mechanism. domain: a runtime of its own: allocator, clock, timer, and what waits for its host.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A context knows its domain by a number, constant bits of its state; the number of the default domain is 0, and NULL
 * stands for it here. All that a domain's contexts need comes from its allocator and has gone back to it when the
 * domain is freed:
 *
 *   M1  A context is counted in `live` from before it is made until its memory has been given back, or is in the home.
 *   M2  Whoever has found `live` 0 and has the role is the last: it empties the home, and frees.
 *   M3  role: one thread works the timer. It holds nothing that another one waits for: who finds it taken goes on. */
#ifndef CCTXI_DOMAIN_H
#define CCTXI_DOMAIN_H

#include "block.h"
#include "clock.h"
#include "epoch.h"
#include "timer.h"

enum { DOMAIN_MAX = 255 };      /* beside the default one: what eight bits can tell apart */

struct cctx;

struct cctx_domain {            /* all but the words of the second part constant */
    struct allocator memory;
    int64_t (*clock)(void *user);       /* NULL: the library's */
    void (*alarm)(void *user);          /* the hook `wake`, or NULL */
    unsigned index;
    struct home *home;
    struct cctx *background;
    struct timer timer;
    sync_ptr role;              /* the record of the thread that works the timer, or 0 */
    sync_ptr queue;             /* nodes whose callbacks wait for cctx_domain_run: push one, take all */
    sync_u64 live;              /* M1 */
};

#ifdef SYNC_RELACY              /* a model has the default domain alone */
static inline struct cctx_domain *domain_at(unsigned index) { (void)index; return NULL; }
#else
extern sync_ptr domain_table[DOMAIN_MAX + 1];
/* Whoever has a context of the domain was given it after the domain was made. */
static inline struct cctx_domain *domain_at(unsigned index)
{
    return (struct cctx_domain *)sync_load_relaxed(&domain_table[index], owned);
}
#endif

/* Gives d a number and its place in the table; false: there are too many. */
bool domain_enter(struct cctx_domain *d);
void domain_leave(struct cctx_domain *d);

/* A context's memory, aligned to a line and zeroed, and counted; NULL without memory. */
void *domain_get(struct cctx_domain *d, size_t size);
/* Gives it back; the count is dropped by the caller. */
static inline void domain_put(struct cctx_domain *d, void *p) { block_give(&d->memory, p); }
/* One context less: the caller's last touch of d. */
void domain_drop(struct cctx_domain *d);
/* As epoch_retire, for a context of the domain, which is one less then. */
void domain_retire(struct cctx_domain *d, struct thread *t, struct epoch_link *link,
                   void (*reclaim)(struct epoch_link *link), unsigned weight);

int64_t domain_now(struct cctx_domain *d);
/* Tells the host that it has something to do now: the one from anywhere, also from a signal handler, the other unless
 * the caller is at it. */
void domain_alarm(struct cctx_domain *d);
void domain_wake(struct cctx_domain *d);

/* The role: false if another thread has it. */
bool domain_claim(struct cctx_domain *d, struct thread *t);
void domain_unclaim(struct cctx_domain *d);
/* In the child of a fork: a role that another thread had is free, and the heap that it was working on is made anew. */
void domain_forked(struct cctx_domain *d);

#endif
