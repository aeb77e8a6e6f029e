/* Layer 7, node. node: the context: its fields, its state word, its references, how it hangs in the tree and dies.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "node.h"
#include "alloc.h"
#include "handler.h"
#if CCTX_CHECK
#include <stdio.h>
#endif

sync_u32 node_never;
struct timer node_timer;

#ifdef SYNC_RELACY
#include "node_model.h"         /* new and delete of objects with constructors; slot_is_inline by search */
#else
_Static_assert(sizeof(struct cctx) == CELL_SIZE || sizeof(void *) != 8 || CCTX_CHECK, "a context is one line");
_Static_assert(sizeof(struct cctx) <= CELL_SIZE || CCTX_CHECK, "it is a cell");
_Static_assert(sizeof(struct family) <= CELL_SIZE, "it is a cell");
_Static_assert(offsetof(struct cctx, done) == 0, "the first word is frozen");
_Static_assert(_Alignof(struct leg) > SLOT_NODE_MASK && _Alignof(cctx_cause_t) > CAUSE_TAG, "tags have room in addresses");

#if CCTX_CHECK
struct cctx *core_new(struct thread *t)
{
    (void)t;
    return (struct cctx *)alloc_get_aligned(CACHE_LINE, sizeof(struct cctx));
}
/* What was freed last keeps its words for a while, so that node_check knows it: refs reads 0. */
enum { QUARANTINE = 1024 };
static void core_free(struct thread *t, struct cctx *n)
{
    static sync_ptr kept[QUARANTINE];
    static sync_u32 turn;
    uint32_t i = sync_add_relaxed(&turn, 1u, stat) % QUARANTINE;
    (void)t;
    alloc_put((void *)sync_swap_acqrel(&kept[i], (uintptr_t)n, page, page));
}
#else
static void core_free(struct thread *t, struct cctx *n) { cell_put(&t->cells, n); }
#endif
static struct family *family_new(struct thread *t, struct cctx_domain *d)
{
    struct family *f = (struct family *)(d ? block_take(&d->memory, CELL_SIZE, CELL_SIZE) : cell_get(&t->cells));
    if (!f) return NULL;
    sync_init(&f->roster, (uintptr_t)0);
    sync_init(&f->kid[0], (uintptr_t)0);
    sync_init(&f->kid[1], (uintptr_t)0);
    sync_init(&f->hook, (uintptr_t)0);
    sync_init(&f->hooks, (uintptr_t)0);
    f->link = NULL;
    f->tslot = NULL;
    sync_init(&f->swept, (uint16_t)0);
    sync_init(&f->queued, (uint16_t)0);
    sync_init(&f->turns, 0u);
    return f;
}
static void family_free(struct thread *t, struct cctx_domain *d, struct family *f)
{
    if (d) block_give(&d->memory, f);
    else cell_put(&t->cells, f);
}
static bool slot_is_inline(struct family *f, sync_ptr *slot) { return (uintptr_t)slot - (uintptr_t)f < sizeof *f; }
#endif

/* A dead node's cause word links those that are still to be buried. */
struct graves { struct cctx *first; };

struct cctx *node_new_in(struct cctx_domain *d, enum node_kind kind, struct cctx *parent)
{
    struct cctx *n = (struct cctx *)domain_get(d, NODE_SIZE);
    if (!n) return NULL;
    node_init(n, kind, parent, &n->state, node_domain_bits(parent));
    thread_count_here(COUNT_MADE + (unsigned)kind, 1);
    return n;
}

/* ------------------------------------------------------------------------------------------------- slots */

sync_ptr *node_tslot(struct cctx *n)
{
    uintptr_t f = sync_load_acq(&n->family, family);
    if (f & FAMILY_TIMER) return (sync_ptr *)(f & ~(uintptr_t)FAMILY_TIMER);
    return f ? sync_get(((struct family *)f)->tslot) : NULL;
}

static __attribute__((noinline)) struct family *family_make(struct thread *t, struct cctx *p, uintptr_t old)
{
    sync_or_acqrel(&p->state, (uint32_t)INNER, none, none);
    struct family *f = family_new(t, node_domain(p));
    if (!f) return NULL;
    if (old) sync_set(f->tslot, (sync_ptr *)(old & ~(uintptr_t)FAMILY_TIMER));
    if (sync_cas_hs(&p->family, &old, (uintptr_t)f, attach, a, family, family)) return f;
    family_free(t, node_domain(p), f);
    return (struct family *)old;
}

/* p's family: where it has one, it is INNER. */
static inline struct family *family_enter(struct thread *t, struct cctx *p)
{
    uintptr_t f = sync_load_acq(&p->family, family);
    return likely(f && !(f & FAMILY_TIMER)) ? (struct family *)f : family_make(t, p, f);
}

/* The node that a child slot's word speaks of. */
static struct cctx *child_of(uintptr_t word)
{
    uintptr_t occupant = word & ~(uintptr_t)SLOT_NODE_MASK;
    return word & SLOT_LEG ? ((struct leg *)occupant)->node : (struct cctx *)occupant;
}

/* Makes the first roster in word, or for a crowd a wide one in place of r, in p's domain. Out of line: with it the
 * registers that it needs. */
static __attribute__((noinline)) struct roster *roster_make(struct cctx *p, sync_ptr *word, struct roster *r, bool crowd)
{
    uintptr_t first = (uintptr_t)r;
    struct roster *made = roster_new(node_memory(p), crowd ? roster_width() : 1, NULL, NULL, r);
    if (!made) return r;                /* the narrow one serves, too */
    if (sync_cas_hs(word, &first, (uintptr_t)made, attach, a, chunk, chunk)) return made;
    sync_set(made->narrower, (struct roster *)NULL);
    roster_free(made);
    return (struct roster *)first;
}

/* Do many threads fill the slots of f? Threads that take turns lose few races and yet write one line by turns, so it is
 * the turns that are counted. A thread alone writes nothing here. */
static inline bool family_crowd(struct family *f, unsigned ordinal)
{
    uint32_t turns = sync_load_relaxed(&f->turns, hint), me = ordinal << 8;
    if ((turns & FAMILY_TURNS) >= FAMILY_CROWD) return true;
    if (unlikely((turns & ~(uint32_t)FAMILY_TURNS) != me))
        sync_store_relaxed(&f->turns, me | ((turns & FAMILY_TURNS) + 1), hint);
    return false;
}

/* Fills a slot of the roster in `roster`, made on first use; for a crowd a wide one. */
static inline sync_ptr *roster_fill(struct thread *t, struct cctx *p, sync_ptr *roster, bool crowd, uintptr_t word,
                                    sync_plain(sync_ptr *) *place)
{
    unsigned misses = 0;
    struct roster *r = (struct roster *)sync_load_acq(roster, chunk);
    if (unlikely(!r || (crowd && sync_get(r->stripes) == 1))) r = roster_make(p ? p : child_of(word), roster, r, crowd);
    sync_ptr *x = likely(r != NULL) ? roster_add(r, t->ordinal, word, place, &misses) : NULL;
    if (unlikely(misses > 0 && crowd)) t->ordinal++;    /* another thread takes from the same stripe: move on */
    return x;
}

/* With p NULL word is a child's, which is of p's domain: p would be one register more to keep.
 * Fills one of the inline slots, or one of the roster's; a crowd leaves the inline ones, which are one line, alone. */
static inline __attribute__((always_inline)) sync_ptr *
slot_fill(struct thread *t, struct cctx *p, struct family *f, sync_ptr *slot, unsigned slots, sync_ptr *roster, uintptr_t word,
          sync_plain(sync_ptr *) *place)
{
    bool crowd = family_crowd(f, t->ordinal);
    for (unsigned i = 0; i < slots && !crowd; i++) {
        uintptr_t none = 0;
        if (sync_load_relaxed(&slot[i], hint) != 0) continue;
        sync_set(*place, &slot[i]);
        if (likely(sync_cas_hs(&slot[i], &none, word, attach, a, slot, empty))) return &slot[i];
    }
    return roster_fill(t, p, roster, crowd, word, place);
}

sync_ptr *node_admit(struct thread *t, struct cctx *p, uintptr_t word, sync_plain(sync_ptr *) *place)
{
    struct family *f = family_enter(t, p);
    return f ? slot_fill(t, NULL, f, f->kid, 2, &f->roster, word, place) : NULL;
}

sync_ptr *node_admit_hook(struct thread *t, struct cctx *p, uintptr_t word, sync_plain(sync_ptr *) *place)
{
    struct family *f = family_enter(t, p);
    return f ? slot_fill(t, p, f, &f->hook, 1, &f->hooks, word, place) : NULL;
}

void node_vacate(struct cctx *p, sync_ptr *slot)
{
    if (!slot_is_inline(node_family(p), slot)) roster_vacate(slot);
}

static sync_u64 *roster_note(struct roster *r)
{
    while (sync_get(r->narrower)) r = sync_get(r->narrower);
    return &r->note;
}

sync_u64 *node_note(struct cctx *n)
{
    return roster_note((struct roster *)sync_load_relaxed(&node_family(n)->hooks, owned));
}

sync_u64 *node_note_make(struct thread *t, struct cctx *n)
{
    struct family *f = family_enter(t, n);
    if (!f) return NULL;
    struct roster *r = (struct roster *)sync_load_acq(&f->hooks, chunk);
    if (!r) r = roster_make(n, &f->hooks, NULL, false);
    return r ? roster_note(r) : NULL;
}

void node_wake(struct cctx *n)
{
    probe1(wake, n);
    if (unlikely(sync_load_acq(&n->state, done) & NOTED)) event_tell(node_note(n));
    done_wake(&n->state);
}

static sync_ptr *slots_of(sync_ptr *roster)
{
    struct roster *r = (struct roster *)sync_load_hs(roster, attach, b, chunk);
    return r ? roster_first(r) : NULL;
}

sync_ptr *node_next(struct family *f, sync_ptr *slot)
{
    if (slot == &f->kid[0]) return &f->kid[1];
    if (slot == &f->kid[1]) return slots_of(&f->roster);
    return roster_next(slot);
}

sync_ptr *node_next_hook(struct family *f, sync_ptr *slot)
{
    return slot == &f->hook ? slots_of(&f->hooks) : roster_next(slot);
}

/* -------------------------------------------------------------------------------------------- references */

void node_ref(struct cctx *n)
{
    if (!node_is_root(n)) sync_add_relaxed(&n->refs, 1u, owned);
}

bool node_try_pin(struct cctx *n)
{
    uint32_t r = sync_load_relaxed(&n->refs, cas_seed);
    while (r & ~REFS_CLOSED)
        if (sync_cas_relaxed(&n->refs, &r, r + 1, owned)) return true;
    return false;
}

bool node_unpin_sig(struct cctx *n)
{
    uint32_t r = sync_load_relaxed(&n->refs, cas_seed);
    while ((r & ~REFS_CLOSED) > 1)
        if (sync_cas_acqrel(&n->refs, &r, r - 1, last_ref, none)) return true;
    return false;
}

/* Tags an occupant so that it uncounts n when it leaves; 1 if it is still there. */
static uint32_t slot_close(sync_ptr *slot)
{
    if (sync_load_acq(slot, empty) == 0) return 0;
    return (sync_or_acqrel(slot, (uintptr_t)SLOT_TAG, none, empty) & ~(uintptr_t)SLOT_NODE_MASK) != 0;
}

/* The last handle is gone: counts the occupants. True if there are none: n is dead. */
static bool node_close(struct cctx *n)
{
    uint32_t left = 0;
    struct family *f = node_family(n);
    for (sync_ptr *x = f ? node_first(f) : NULL; x; x = node_next(f, x)) left += slot_close(x);
    for (sync_ptr *x = f ? &f->hook : NULL; x; x = node_next_hook(f, x)) left += slot_close(x);
    uint32_t change = left - REFS_BIAS;
    return sync_add_acqrel(&n->refs, change, last_ref, last_ref) + change == REFS_CLOSED;
}

/* Can anybody without a reference look at n: a walker, the timer, a stop? */
static bool node_published(struct cctx *n, enum node_kind kind, uint32_t state)
{
    return sync_get(n->slot) != NULL || (state & (INNER | VIA)) != 0 || sync_load_relaxed(&n->family, owned) != 0 ||
           kind >= KIND_ANY;
}

/* Could a thread without a reference pin n, whose last handle the caller has? A walker pins where it stands (INNER),
 * a merged node, and whom it wakes: then the state that it saw had sleepers, and after DONE nobody counts them down.
 * The timer pins what is armed, a signal handler what is told of signals. A dump pins whose cause it reads (CAUSED), and
 * in a checked build anybody. */
static bool node_pinnable(struct cctx *n, uint32_t state)
{
    return CCTX_CHECK || (state & (INNER | EXPOSED | CAUSED)) != 0 || state >= DONE_WAITER ||
           sync_load_relaxed(&n->family, owned) != 0 || node_kind(n) >= KIND_ANY;
}

/* Drops one; true if n is dead of it. */
static bool node_drop(struct cctx *n)
{
    uint32_t r = sync_load_acq(&n->refs, last_ref);
    for (;;) {
        if (r == 1) {
            uint32_t state = sync_load_relaxed(&n->state, owned);
            if (!node_pinnable(n, state)) return true;  /* no one to race with: what is left is reads in sections */
            if (state & INNER) {
                /* Orders nothing: what made r 1 was seen, and node_close ends with the drop that counts. */
                if (sync_cas_relaxed(&n->refs, &r, REFS_CLOSED | REFS_BIAS, owned))
                    return node_close(n);
                continue;
            }
        }
        if (sync_cas_acqrel(&n->refs, &r, r - 1, last_ref, last_ref))
            return ((r - 1) & ~REFS_CLOSED) == 0;
    }
}

/* -------------------------------------------------------------------------------------------------- death */

static void node_drop_onto(struct graves *g, struct cctx *n)
{
    if (node_is_root(n) || !node_drop(n)) return;
    uintptr_t cause = sync_load_relaxed(&n->cause, owned);
    if ((cause & CAUSE_TAG) == CAUSE_OWNED) block_put(node_memory(n), (void *)(cause - CAUSE_OWNED));
    sync_store_relaxed(&n->cause, (uintptr_t)g->first, owned);
    g->first = n;
}

/* Leaves a slot of parent's owner, or the reference to parent. */
static void node_detach(struct graves *g, struct cctx *parent, sync_ptr *slot)
{
    struct cctx *owner = node_owner(parent);
    if (slot) {
        node_vacate(owner, slot);
        uintptr_t w = sync_swap_acqrel(slot, (uintptr_t)0, empty, none);        /* the last touch of owner */
        if (w & SLOT_TAG) node_drop_onto(g, owner);
    }
    if (!slot || owner != parent) node_drop_onto(g, parent);
}

/* n, of a kind, is dead. In a checked build its refs tell, also where the last drop was no write (see node_drop). */
static inline void node_ended(struct thread *t, struct cctx *n, size_t kind)
{
    thread_count_freed(t, kind);
    probe1(free, n);
#if CCTX_CHECK
    sync_store_relaxed(&n->refs, 0u, owned);
    registry_remove(&n->entry);
#else
    (void)n;
#endif
}

static void node_memory_free(struct thread *t, struct cctx *n)
{
    uint32_t what = sync_load_relaxed(&n->state, owned) & (KIND_MASK | DOMAIN_BITS);
    if ((what & KIND_MASK) == (uint32_t)KIND_SIGNALS << KIND_SHIFT) handler_put(n);
    else if (unlikely(what > KIND_MASK)) domain_put(node_domain(n), n);
    else if (!CCTX_CHECK && (what == (uint32_t)KIND_ANY << KIND_SHIFT || what == (uint32_t)KIND_VALUE << KIND_SHIFT)) alloc_put(n);
    else core_free(t, n);
}

#ifndef SYNC_RELACY
static struct cctx *node_of(struct epoch_link *link) { return container_of(link, struct cctx, values); }
static struct epoch_link *link_of(struct cctx *n) { return (struct epoch_link *)(void *)&n->values; }
#endif

/* A leaf is a cell alone. */
static void node_reclaim_leaf(struct epoch_link *link)
{
    core_free(thread_current, node_of(link));
}

/* Frees the memory of a dead node that nobody reaches any more. */
static void node_reclaim(struct epoch_link *link)
{
    struct cctx *n = node_of(link);
    struct family *f = node_family(n);
    if (f) {
        roster_free((struct roster *)sync_load_relaxed(&f->roster, unpublished));
        roster_free((struct roster *)sync_load_relaxed(&f->hooks, unpublished));
        family_free(thread_current, node_domain(n), f);
    }
    node_memory_free(thread_current, n);
}

/* For how many small objects it counts. */
static unsigned node_weight(struct cctx *n)
{
    struct family *f = node_family(n);
    bool heavy = f && (sync_load_relaxed(&f->roster, owned) || sync_load_relaxed(&f->hooks, owned));
    return heavy ? EPOCH_HEAVY : 1;
}

static __attribute__((noinline)) void node_free_in(struct cctx_domain *d, struct thread *t, struct cctx *n, bool published)
{
    if (published) {
        domain_retire(d, t, link_of(n), node_reclaim, node_weight(n));
        return;
    }
    node_reclaim(link_of(n));
    domain_drop(d);
}

static void node_free(struct thread *t, struct cctx *n, enum node_kind kind)
{
    uint32_t state = sync_load_relaxed(&n->state, owned);
    bool published = node_published(n, kind, state);
    node_ended(t, n, kind);
    if (unlikely(state & DOMAIN_BITS)) node_free_in(node_domain(n), t, n, published);
    else if (published) epoch_retire(t, link_of(n), node_reclaim, node_weight(n));
    else node_reclaim(link_of(n));
}

static void node_bury(struct thread *t, struct graves *g)
{
    for (struct cctx *n; (n = g->first) != NULL;) {
        g->first = (struct cctx *)sync_load_relaxed(&n->cause, owned);
        struct cctx *parent = sync_get(n->parent);
        sync_ptr *slot = sync_get(n->slot), *tslot = node_tslot(n);
        enum node_kind kind = node_kind(n);
        if (kind == KIND_VALUE) {
            struct value *v = (struct value *)(void *)n;
            if (v->key->destroy) v->key->destroy(v->table->own.value);
            if (v->table->path) table_drop(node_memory(n), v->table);
        }
        if (tslot) timer_disarm(tslot);
        if (unlikely(sync_load_relaxed(&n->state, owned) & NOTED)) event_close(node_note(n));
        if (kind == KIND_SIGNALS) handler_remove(n);
        if (kind == KIND_ANY) {
            struct any *a = (struct any *)(void *)n;
            for (unsigned i = 0; i < a->legs; i++) node_detach(g, a->leg[i].parent, sync_get(a->leg[i].slot));
        }
        /* The slot before the parent's pin, and both before n: what is retired is unreachable by then. */
        node_detach(g, parent, slot);
        node_free(t, n, kind);
    }
}

/* The common death, all at once: the last handle of a leaf goes that nobody could pin but the timer, that has nothing to be
 * freed with it, and that is in a slot of its own parent or below a root. False: it is another death, or none. */
static inline bool node_drop_leaf(struct thread *t, struct cctx *n)
{
    uint32_t last = sync_load_acq(&n->refs, last_ref);
    if (last != 1 || (sync_load_relaxed(&n->state, owned) & ~LEAF_MAY) != LEAF_MUST) return false;
    if ((sync_load_relaxed(&n->cause, owned) & CAUSE_TAG) == CAUSE_OWNED) return false;
    struct cctx *parent = sync_get(n->parent);
    sync_ptr *slot = sync_get(n->slot);
    if (slot ? node_owner(parent) != parent : !node_is_root(parent)) return false;
    uintptr_t timer = sync_load_relaxed(&n->family, owned);
    if ((timer || CCTX_CHECK) && !sync_cas_acqrel(&n->refs, &last, 0u, none, last_ref)) return false;
    if (!slot && !timer) {              /* nobody else has ever seen it */
        node_ended(t, n, sync_load_relaxed(&n->state, owned) >> KIND_SHIFT);
        core_free(t, n);
        return true;
    }
    if (timer) timer_disarm((sync_ptr *)(timer & ~(uintptr_t)FAMILY_TIMER));     /* not INNER: it is its timer's slot */
    if (slot) {
        node_vacate(parent, slot);
        uintptr_t w = sync_swap_acqrel(slot, (uintptr_t)0, empty, none);    /* the last touch of parent */
        if (unlikely(w & SLOT_TAG)) node_unref(t, parent);
    }
    node_ended(t, n, sync_load_relaxed(&n->state, owned) >> KIND_SHIFT);
    epoch_retire(t, link_of(n), node_reclaim_leaf, 1);
    return true;
}

/* Out of line: with it the registers that it needs. */
static __attribute__((noinline)) void node_drop_any(struct thread *t, struct cctx *n)
{
    struct graves g = {NULL};
    node_drop_onto(&g, n);
    if (unlikely(g.first != NULL)) node_bury(t, &g);
}

void node_unref(struct thread *t, struct cctx *n)
{
    if (!node_drop_leaf(t, n)) node_drop_any(t, n);
}

void node_discard(struct thread *t, struct cctx *n)
{
    struct cctx_domain *d = node_domain(n);
    thread_count_freed(t, node_kind(n));
    node_memory_free(t, n);
    if (d) domain_drop(d);
}

#if CCTX_CHECK
void node_check(const struct cctx *n, const char *call)
{
    struct cctx *m = (struct cctx *)(uintptr_t)n;
    if (!m || node_is_root(m) || (sync_load_relaxed(&m->refs, stat) & ~REFS_CLOSED) != 0) return;
    fprintf(stderr, "cctx: %s: context %p has been freed\n", call, (const void *)n);
    abort();
}

struct cctx *node_made(struct cctx *n, const void *site, const char *call)
{
    if (!n) return NULL;
    struct cctx *p = sync_get(n->parent);
    bool top = node_is_root(p);
    struct made *e = &n->entry;
    sync_store_relaxed(&e->root, top ? (uintptr_t)p : sync_load_relaxed(&p->entry.root, stat), stat);
    top = top || node_kind(p) == KIND_WITHOUT;
    sync_store_relaxed(&e->top, top ? (uintptr_t)p : sync_load_relaxed(&p->entry.top, stat), stat);
    sync_store_relaxed(&e->site, (uintptr_t)site, stat);
    sync_store_relaxed(&e->call, (uintptr_t)call, stat);
    sync_store_relaxed(&e->handles, 1u, stat);
    registry_add(e);
    probe2(derive, n, p);
    return n;
}

void node_handle(const struct cctx *n, uint32_t change)
{
    struct cctx *m = (struct cctx *)(uintptr_t)n;
    if (!node_is_root(m)) sync_add_relaxed(&m->entry.handles, change, stat);
}
#endif
