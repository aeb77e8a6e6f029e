/* Layer 6, mechanism. domain: a runtime of its own: allocator, clock, timer, and what waits for its host.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "domain.h"
#include <errno.h>

sync_ptr domain_table[DOMAIN_MAX + 1];          /* 0 is the default domain's place */

bool domain_enter(struct cctx_domain *d)
{
    for (unsigned i = 1; i <= DOMAIN_MAX; i++) {
        uintptr_t none = 0;
        d->index = i;
        if (sync_cas_relaxed(&domain_table[i], &none, (uintptr_t)d, unpublished)) return true;
    }
    return false;
}

void domain_leave(struct cctx_domain *d) { sync_store_relaxed(&domain_table[d->index], (uintptr_t)0, owned); }

void *domain_get(struct cctx_domain *d, size_t size)
{
    sync_add_relaxed(&d->live, (uint64_t)1, owned);     /* M1; what the context is derived from keeps d */
    void *p = block_take(&d->memory, CACHE_LINE, size);
    if (!p) domain_drop(d);
    return p;
}

void domain_drop(struct cctx_domain *d) { sync_add_acqrel(&d->live, (uint64_t)-1, last_ref, none); }

void domain_retire(struct cctx_domain *d, struct thread *t, struct epoch_link *link,
                   void (*reclaim)(struct epoch_link *link), unsigned weight)
{
    home_retire(d->home, link, reclaim);
    t->retired += weight;
    bool poll = t->retired >= EPOCH_HEAVY;
    if (poll) home_poll(d->home);
    domain_drop(d);
    if (poll) epoch_poll(t);
}

int64_t domain_now(struct cctx_domain *d)
{
    if (!d->clock) return clock_now();
    int saved = errno;
    int64_t now = d->clock(d->memory.user);
    errno = saved;
    return now;
}

void domain_alarm(struct cctx_domain *d)
{
    if (!d->alarm) return;
    int saved = errno;
    d->alarm(d->memory.user);
    errno = saved;
}

void domain_wake(struct cctx_domain *d)
{
    if (sync_load_relaxed(&d->role, alone) != (uintptr_t)thread_current) domain_alarm(d);
}

bool domain_claim(struct cctx_domain *d, struct thread *t)
{
    uintptr_t none = 0;
    return sync_cas_acqrel(&d->role, &none, (uintptr_t)t, none, record);
}

void domain_unclaim(struct cctx_domain *d) { sync_store_rel(&d->role, (uintptr_t)0, record); }

void domain_forked(struct cctx_domain *d)
{
    uintptr_t role = sync_load_relaxed(&d->role, owned);
    if (role == 0 || role == (uintptr_t)thread_current) return;
    timer_forked(&d->timer);
    sync_store_relaxed(&d->role, (uintptr_t)0, owned);
}
