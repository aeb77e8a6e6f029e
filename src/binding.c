/* Layer 5, relations. binding: the contexts of this process that end with tokens of an arena.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "binding.h"
#include "alloc.h"
#include "epoch.h"
#include <errno.h>

struct binding {
    struct epoch_link link;
    struct bindings *home;
    cctx_t *hub;
    uint64_t token;
    sync_plain(sync_ptr *) slot;        /* in the roster; NULL: none yet */
    sync_u32 refs;              /* the value context's, and the pins of scans */
    sync_u32 ended;             /* its hub was canceled: a hint for scans */
};
/* How many slots a scan looks at in a section. */
enum { SECTION_SLOTS = 64 };

#ifdef SYNC_RELACY
#include "binding_model.h"      /* new and delete of objects with constructors */
#else
static struct binding *binding_alloc(void) { return (struct binding *)alloc_get(sizeof(struct binding)); }
static void binding_free(struct epoch_link *link) { alloc_put(container_of(link, struct binding, link)); }
#endif

static const cctx_cause_t died = {ECANCELED, "owner died"};
static const cctx_cause_t stale = {ESTALE, "stale token"};
static const cctx_cause_t corrupt = {EBADMSG, "shared arena corrupt"};

void bindings_unref(struct bindings *s)
{
    if (sync_add_acqrel(&s->refs, (uint32_t)-1, last_ref, last_ref) == 1) s->last(s);
}

/* In a section: a pin, or false, the binding is gone. */
static bool binding_pin(struct binding *b)
{
    uint32_t refs = sync_load_relaxed(&b->refs, cas_seed);
    while (refs != 0)
        if (sync_cas_relaxed(&b->refs, &refs, refs + 1, alone)) return true;
    return false;
}

static void binding_unref(struct thread *t, struct binding *b)
{
    if (sync_add_acqrel(&b->refs, (uint32_t)-1, last_ref, last_ref) != 1) return;
    struct bindings *home = b->home;
    cctx_unref(b->hub);
    epoch_retire(t, &b->link, binding_free, 1);
    bindings_unref(home);
}

/* The program has dropped the last context below. */
static void binding_dropped(void *value)
{
    struct binding *b = (struct binding *)value;
    struct thread *t = thread_begin();
    if (sync_get(b->slot)) {
        roster_vacate(sync_get(b->slot));
        sync_swap_acqrel(sync_get(b->slot), (uintptr_t)0, none, none);
    }
    binding_unref(t, b);
    thread_end(t);
}
static const cctx_key_t key = {"shared", binding_dropped};

static void hub_end(cctx_t *hub, enum arena_state state)
{
    switch (state) {
    case ARENA_CANCELED: cctx_cancel(hub); break;
    case ARENA_DIED: cctx_cancel_cause(hub, &died); break;
    case ARENA_STALE: cctx_cancel_cause(hub, &stale); break;
    case ARENA_TIMEDOUT:        /* its own deadline is the token's */
        if (cctx_remaining(hub) == 0) break;
        /* fall through */
    default: cctx_cancel_cause(hub, &corrupt);
    }
}

const cctx_t *binding_done(enum arena_state state)
{
    if (state == ARENA_TIMEDOUT) return cctx_with_deadline(cctx_background(), INT64_MIN);
    cctx_t *hub = cctx_with_cancel(cctx_background());
    if (hub) hub_end(hub, state);
    return hub;
}

/* Puts b into the set, then looks at its token (N1). False without memory. */
static bool binding_enter(struct binding *b)
{
    struct bindings *s = b->home;
    struct thread *t = thread_begin();
    struct arena_sight sight;
    unsigned misses = 0;
    bool there = roster_add(s->roster, t->ordinal, (uintptr_t)b, &b->slot, &misses) != NULL;
    if (!there) sync_set(b->slot, (sync_ptr *)NULL);
    thread_end(t);
    enum arena_state state = there ? arena_look(&s->arena, b->token, &sight) : ARENA_LIVE;
    if (state != ARENA_LIVE) hub_end(b->hub, state);
    return there;
}

const cctx_t *binding_new(struct bindings *s, uint64_t token, int64_t deadline)
{
    struct binding *b = binding_alloc();
    if (!b) {
        errno = ENOMEM;
        return NULL;
    }
    b->home = s;
    b->token = token;
    sync_init(&b->refs, 1u);
    b->hub = cctx_with_deadline(cctx_background(), deadline);
    const cctx_t *below = b->hub ? cctx_with_value(b->hub, &key, b) : NULL;
    if (!below) {
        cctx_unref(b->hub);
        binding_free(&b->link);
        return NULL;
    }
    sync_add_relaxed(&s->refs, 1u, alone);
    if (binding_enter(b)) return below;
    cctx_unref(below);
    errno = ENOMEM;
    return NULL;
}

/* In a section: the bindings of some slots from *slot on that are to be ended, pinned. */
static unsigned scan_some(struct bindings *s, sync_ptr **slot, struct binding *found[])
{
    struct arena_sight sight;
    unsigned n = 0;
    for (unsigned left = SECTION_SLOTS; *slot && left > 0; left--, *slot = roster_next(*slot)) {
        struct binding *b = (struct binding *)sync_load_hs(*slot, attach, b, slot);
        if (b && sync_load_relaxed(&b->ended, hint) == 0 && arena_look(&s->arena, b->token, &sight) != ARENA_LIVE &&
            binding_pin(b))
            found[n++] = b;
    }
    return n;
}

void bindings_scan(struct bindings *s)
{
    struct binding *found[SECTION_SLOTS];
    struct arena_sight sight;
    struct thread *t = thread_begin();
    for (sync_ptr *slot = roster_first(s->roster); slot;) {
        epoch_enter(t);
        unsigned n = scan_some(s, &slot, found);
        epoch_leave(t);
        for (unsigned i = 0; i < n; i++) {
            sync_store_relaxed(&found[i]->ended, 1u, hint);
            hub_end(found[i]->hub, arena_look(&s->arena, found[i]->token, &sight));
            binding_unref(t, found[i]);
        }
    }
    thread_end(t);
}

void bindings_owners(struct bindings *s, void (*fn)(void *arg, uint64_t who), void *arg)
{
    struct thread *t = thread_begin();
    for (sync_ptr *slot = roster_first(s->roster); slot; slot = roster_next(slot)) {
        struct arena_sight sight;
        epoch_enter(t);
        struct binding *b = (struct binding *)sync_load_acq(slot, slot);
        bool live = b && arena_look(&s->arena, b->token, &sight) == ARENA_LIVE;
        epoch_leave(t);
        if (live) fn(arg, sight.owner);
    }
    thread_end(t);
}
