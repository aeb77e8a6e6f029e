/* Layer 11, face. inspect: numbers and names, for people.
 * SPDX-License-Identifier: BSD-2-Clause */
#include <cctx/inspect.h>
#include "node.h"
#include <string.h>

/* Frees are read before derivations: nothing is seen to end that was not seen to begin, but for what two threads do
 * in the middle of it. */
static uint64_t live_of(uint64_t *derived, enum node_kind kind)
{
    uintptr_t freed = thread_counted_freed(kind), made = thread_counted(COUNT_MADE + (unsigned)kind);
    *derived += made;
    return (intptr_t)(made - freed) > 0 ? made - freed : 0;
}

void cctx_stats(cctx_stats_t *stats)
{
    cctx_stats_t s = {0};
    uint64_t live[COUNT_KINDS];
    if (!stats || stats->size < sizeof stats->size) return;
    for (unsigned kind = 0; kind < COUNT_KINDS; kind++) {
        live[kind] = live_of(&s.derived, (enum node_kind)kind);
        s.live += live[kind];
    }
    s.size = stats->size < sizeof s ? stats->size : sizeof s;
    s.done = thread_counted(COUNT_DONE);
    s.waiters = thread_counted(COUNT_PARKED);
    s.armed = timer_armed(&node_timer);
    s.limbo = epoch_limbo();
    s.wakes = thread_counted(COUNT_WAKES);
    s.live_cancel = live[KIND_CANCEL];
    s.live_deadline = live[KIND_DEADLINE];
    s.live_value = live[KIND_VALUE];
    s.live_without = live[KIND_WITHOUT];
    s.live_any = live[KIND_ANY];
    s.live_signals = live[KIND_SIGNALS];
    s.fired = thread_counted(COUNT_FIRED);
    s.callbacks = thread_counted(COUNT_CALLBACKS);
    s.pages = cell_pages();
    s.threads = thread_records();
    memcpy(stats, &s, s.size);
}

void cctx_name(const cctx_t *ctx, const char *name)
{
    node_check(ctx, "cctx_name");
#if CCTX_CHECK
    struct cctx *n = (struct cctx *)(uintptr_t)ctx;
    if (n && !node_is_root(n)) sync_store_relaxed(&n->entry.name, (uintptr_t)name, stat);
#else
    (void)name;
#endif
}
