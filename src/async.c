/* Layer 8, relations. async: nodes that a signal handler canceled, for the next call that may walk.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "async.h"

/* The node pushed last, and beside its address whether there are debts. */
enum { ASYNC_DEBTS = 1 };
sync_ptr async_stack;

void async_push(struct cctx *n)
{
    struct family *f = node_family(n);
    uintptr_t head = sync_load_relaxed(&async_stack, cas_seed);
    do sync_set(f->link, (struct cctx *)(head & ~(uintptr_t)ASYNC_DEBTS));
    while (!sync_cas_acqrel(&async_stack, &head, (uintptr_t)n | (head & ASYNC_DEBTS), async, none));
    if (node_domain(n)) domain_alarm(node_domain(n));
    else timer_ring(&node_timer);
}

void async_owe(void) { sync_or_acqrel(&async_stack, (uintptr_t)ASYNC_DEBTS, async, none); }

void async_note(void)
{
    async_owe();
    timer_ring(&node_timer);
}

struct cctx *async_take(bool *noted)
{
    uintptr_t head = sync_swap_acqrel(&async_stack, (uintptr_t)0, none, async);
    struct cctx *first = NULL;
    *noted = (head & ASYNC_DEBTS) != 0;
    for (struct cctx *n = (struct cctx *)(head & ~(uintptr_t)ASYNC_DEBTS), *next; n; n = next) {
        struct family *f = node_family(n);
        next = sync_get(f->link);
        sync_set(f->link, first);
        first = n;
    }
    return first;
}

#ifndef SYNC_RELACY
/* The stack stands as it was at the fork. Its nodes are marked as this process's, or a walk would take them for ones
 * whose thread is gone, and use the link. What such a thread had taken a walk may have; the debts it had taken note
 * of are noted again. */
void epoch_child(void)
{
    uintptr_t head = sync_load_relaxed(&async_stack, owned);
    for (struct cctx *n = (struct cctx *)(head & ~(uintptr_t)ASYNC_DEBTS); n; n = node_family(n)->link)
        sync_store_relaxed(&node_family(n)->queued, node_mark(), owned);
    sync_or_acqrel(&async_stack, (uintptr_t)ASYNC_DEBTS, none, none);
}
#endif
