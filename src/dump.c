/* Layer 11, face. dump: the live tree, printed while other threads change it.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The walk is the cancel's: down by slot, up by (parent, slot), in sections that are cut with the place where it
 * stands pinned. What a section has seen is kept until it has been left, and printed then.
 *
 *   P1  A slot is looked at once, and a context is in one slot for its life: so each is told at most once, and what
 *       was there from before until after exactly once (R2).
 *   P2  A merged context has one home: the first of its parents in which it has a slot. Which one that is does not change
 *       once any of them shows it. Only there the walk goes down; so no stack tells how to come up again.
 *   P3  Of a context that is not pinned nothing is used but its cell, in the section that saw its slot filled; of the
 *       value context that it came through likewise, which VIA keeps as long. */
#include <cctx/inspect.h>
#include "callback.h"
#include "cancel.h"
#include "form.h"
#include <errno.h>

#ifdef SYNC_SMALL
enum { VISITS = 3, BATCH = 1 };
#else
enum {
    VISITS = 256,               /* slots per section */
    BATCH = 32                  /* contexts that one section tells of */
};
#endif

struct seen {                   /* a context, as a section saw it */
    struct cctx *node, *parent;
    size_t depth;
    uint32_t state;
    enum node_kind kind;
    bool reference, callbacks;
    int64_t deadline;
    struct cctx *pinned;        /* NULL, or node, for its cause */
    const char *key;
    uintptr_t name, call, site; /* of a checked build */
};

struct dump {
    struct thread *t;
    const struct cctx *root;    /* by whose clock it is told */
    struct pen pen;
    size_t depth;
    unsigned visits, count;
    struct cctx *cut;           /* pinned: where the section was cut last */
    struct seen seen[BATCH];
};

static const char *kind_name(enum node_kind kind)
{
    static const char *const name[] = {
        [KIND_BACKGROUND] = "background", [KIND_TODO] = "todo", [KIND_WITHOUT] = "without_cancel",
        [KIND_VALUE] = "with_value", [KIND_CANCEL] = "with_cancel", [KIND_DEADLINE] = "with_deadline",
        [KIND_ANY] = "with_any", [KIND_SIGNALS] = "with_signals"};
    return name[kind];
}

/* ------------------------------------------------------------------------------------------------- a context */

/* In a section, or with a reference to n. */
static void see(struct dump *d, struct cctx *n, struct cctx *parent, struct cctx *via)
{
    struct seen *s = &d->seen[d->count++];
    struct family *f = node_family(n);
    *s = (struct seen){.node = n, .parent = parent, .depth = d->depth, .kind = node_kind(n)};
    s->state = sync_load_acq(&n->state, done);
    s->deadline = sync_get(n->deadline);
    s->callbacks = f && callback_any(f);
    if (via != parent && node_kind(via) == KIND_VALUE) s->key = ((struct value *)(void *)via)->key->name;
    if ((s->state & DONE) && (s->state & CAUSED) && node_try_pin(n)) s->pinned = n;
#if CCTX_CHECK
    s->name = sync_load_relaxed(&n->entry.name, stat);
    s->call = sync_load_relaxed(&n->entry.call, stat);
    s->site = sync_load_relaxed(&n->entry.site, stat);
#endif
}

static void see_reference(struct dump *d, struct cctx *n, struct cctx *parent, struct cctx *via)
{
    struct seen *s = &d->seen[d->count++];
    *s = (struct seen){.node = n, .parent = parent, .depth = d->depth, .kind = node_kind(n), .reference = true};
    if (via != parent) s->key = ((struct value *)(void *)via)->key->name;
}

static void tell(struct dump *d, const struct seen *s, int64_t now)
{
    struct line l = {.id = s->node, .parent = s->parent, .depth = s->depth, .kind = kind_name(s->kind), .key = s->key};
    if (!s->reference) {
        l.done = (s->state & DONE) != 0;
        l.state = !l.done ? "live" : s->state & TIMEDOUT ? "deadline exceeded" : "canceled";
        l.has_deadline = s->deadline != CCTX_NEVER;
        l.deadline = s->deadline;
        l.left = time_add(s->deadline, -now);
        l.waiters = l.done ? 0 : s->state / DONE_WAITER;
        l.callbacks = s->callbacks;
    }
    if (s->pinned) {
        const cctx_cause_t *cause = cancel_cause(s->pinned);
        l.has_cause = true;
        l.code = cause->code;
        l.text = cause->text;
    }
#if CCTX_CHECK
    char place[256];
    l.name = (const char *)s->name;
    l.call = (const char *)s->call;
    if (s->site) registry_place(s->site, place, sizeof place);
    if (s->site) l.place = place;
#endif
    form_line(&d->pen, &l);
}

/* Prints what was seen. In no section. */
static void flush(struct dump *d)
{
    int64_t now = node_now(d->root);
    for (unsigned i = 0; i < d->count; i++) {
        tell(d, &d->seen[i], now);
        if (d->seen[i].pinned) node_unref(d->t, d->seen[i].pinned);
    }
    d->count = d->visits = 0;
}

/* -------------------------------------------------------------------------------------------------- the walk */

/* Leaves the section and enters a new one. n, where the walk stands, is pinned over the gap, and so are its ancestors.
 * False: n is dead, and has no occupant left. */
static bool cut(struct dump *d, struct cctx *n)
{
    if (!node_try_pin(n)) return false;
    epoch_leave(d->t);
    flush(d);
    if (d->cut) node_unref(d->t, d->cut);
    d->cut = n;
    epoch_enter(d->t);
    return true;
}

/* Has n, which is merged, a home before leg? (Or at all: NULL.) All before a leg that is in its slot is as it stays. */
static struct leg *home_leg(struct cctx *n, const struct leg *leg)
{
    struct any *a = (struct any *)(void *)n;
    for (struct leg *l = a->leg; l != leg; l++)
        if (sync_get(l->slot)) return l;
    return NULL;
}

/* The slot by which the walk came to n, and whose it is. */
static sync_ptr *home(struct cctx *n, struct cctx **owner)
{
    sync_ptr *slot = sync_get(n->slot);
    if (slot) {
        *owner = node_up(n);
        return slot;
    }
    struct leg *leg = home_leg(n, NULL);
    *owner = node_owner(leg->parent);
    return sync_get(leg->slot);
}

/* The context that hangs in n by a slot's word is seen; returned if the walk is to go down into it. */
static struct cctx *look(struct dump *d, struct cctx *n, uintptr_t word)
{
    uintptr_t occupant = word & ~(uintptr_t)SLOT_NODE_MASK;
    if (word & SLOT_LEG) {
        struct leg *leg = (struct leg *)occupant;
        if (sync_get(leg->node->slot) || home_leg(leg->node, leg)) {
            see_reference(d, leg->node, n, leg->parent);
            return NULL;
        }
        see(d, leg->node, n, leg->parent);
        return leg->node;
    }
    struct cctx *c = (struct cctx *)occupant;
    see(d, c, n, sync_get(c->parent));
    return c;
}

/* Sees all that hangs below top, of which the caller has a reference. */
static void below(struct dump *d, struct cctx *top)
{
    struct cctx *n = top;
    epoch_enter(d->t);
    struct family *f = node_family(n);
    sync_ptr *x = f ? node_first(f) : NULL;
    d->depth++;
    while (x || n != top) {
        if ((++d->visits >= VISITS || d->count == BATCH) && !cut(d, n)) x = NULL;
        if (d->pen.error) break;
        if (!x) {                       /* all of n's slots are seen: climb */
            d->depth--;
            x = home(n, &n);
            f = node_family(n);
            x = node_next(f, x);
            continue;
        }
        uintptr_t word = sync_load_hs(x, attach, b, slot);
        x = node_next(f, x);
        if ((word & ~(uintptr_t)SLOT_NODE_MASK) == 0) continue;
        struct cctx *c = look(d, n, word);
        struct family *down = c ? node_family(c) : NULL;
        if (!down) continue;
        n = c;
        f = down;
        x = node_first(f);
        d->depth++;
    }
    epoch_leave(d->t);
    flush(d);
    if (d->cut) node_unref(d->t, d->cut);
    d->cut = NULL;
}

#if CCTX_CHECK
/* Is this a context that hangs in no slot, below the one asked for? Then it is pinned. */
static bool loose(void *arg, struct made *e)
{
    struct cctx *n = container_of(e, struct cctx, entry), *root = (struct cctx *)arg;
    enum node_kind kind = node_kind(n);
    if (sync_load_relaxed(node_is_root(root) ? &e->root : &e->top, stat) != (uintptr_t)root) return false;
    if (kind == KIND_VALUE || sync_get(n->slot)) return false;
    if (kind == KIND_ANY && home_leg(n, ((struct any *)(void *)n)->leg + ((struct any *)(void *)n)->legs)) return false;
    return node_try_pin(n);
}

/* What hangs below a context that can never be done, and below what was done when it was derived: each is in no slot. */
static void registered(struct dump *d, struct cctx *root)
{
    uint64_t last = registry_last();
    struct made *e = NULL, *next;
    struct cctx *n = NULL;
    while (!d->pen.error && (next = registry_next(e, last, loose, root)) != NULL) {
        struct cctx *parent;
        if (n) node_unref(d->t, n);
        e = next;
        n = container_of(e, struct cctx, entry);
        parent = node_owner(sync_get(n->parent));
        d->depth = 1;
        see(d, n, parent ? parent : (struct cctx *)sync_load_relaxed(&e->top, stat), sync_get(n->parent));
        below(d, n);
    }
    if (n) node_unref(d->t, n);
}
#else
static void registered(struct dump *d, struct cctx *root) { (void)d, (void)root; }
#endif

int cctx_dump(const cctx_t *root, FILE *out, cctx_dump_format_t format)
{
    static const enum form form[] = {
        [CCTX_DUMP_TEXT] = FORM_TEXT, [CCTX_DUMP_DOT] = FORM_DOT, [CCTX_DUMP_JSON] = FORM_JSON};
    if (!root || !out || (unsigned)format > CCTX_DUMP_JSON) return EINVAL;
    node_check(root, "cctx_dump");
    int saved = errno;
    struct cctx *top = node_owner(root);
    struct dump d;
    d.t = thread_begin();
    d.root = root;
    d.pen = (struct pen){.out = out, .form = form[format]};
    d.depth = 0;
    d.visits = d.count = 0;
    d.cut = NULL;
    form_begin(&d.pen);
    if (top) {
        see(&d, top, NULL, NULL);
        below(&d, top);
    } else {
        see(&d, (struct cctx *)(uintptr_t)root, NULL, NULL);
        flush(&d);
        registered(&d, (struct cctx *)(uintptr_t)root);
    }
    form_end(&d.pen);
    thread_end(d.t);
    errno = saved;
    return d.pen.error;
}
