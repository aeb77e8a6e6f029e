/* SPDX-License-Identifier: BSD-2-Clause */
/* api_fuzz: any program of calls, callbacks and destructors included, shows what a naive model of the
 * contract says.
 *
 * The model is written from the contract: contexts are structs with pointers to their parents, an event is
 * what ended some of them, and whatever is asked is found by going through all of them. The machine has one
 * thread and a clock that the program moves (test/fake_time.c), and an allocator that refuses now and then
 * (scarce.c). The model makes each step before the library does, so that callbacks find it as the contract
 * says they should. */
#define CCTX_ARRAY(access_mode, array, count) /* arrays and counts that do not match are passed on purpose */
#include "property.h"
#include "scarce.h"

#include "alloc.h"
#include "callback.h"
#include "cell.h"
#include "clock.h"
#include "fake_time.h"
#include "futex.h"
#include "node.h"
#include <cctx/cctx.h>
#include <errno.h>
#include <string.h>

enum {
    MOST_CONTEXTS = 320,
    MOST_PARENTS = 5,
    MOST_CALLBACKS = 80,
    MOST_STEPS = 160,
    MOST_EVENTS = 4 * MOST_CONTEXTS,
    KEYS = 12,
    CAUSES = 4,
    DEEPEST = 3,                /* callbacks in callbacks that act */
    KEPT = CCTX_CHECK && CELL_DIRECT ? 1024 : 0,        /* a checked build keeps what was freed last */
    OTHER_ERRNO = 4242          /* what errno is before each call */
};

/* ---- the model's world ---- */

enum kind { ROOT, CANCEL, DEADLINE, VALUE, WITHOUT, ANY };

struct event {                  /* what ended contexts: a cancel or a deadline */
    int err, code;
    const cctx_cause_t *cause;  /* NULL: a formatted one, with code and text */
    const cctx_cause_t *seen;   /* where the formatted one was found */
    bool scarce;                /* there may have been no memory for its text */
    char text[32];
};

struct context {
    const cctx_t *real;
    enum kind kind;
    unsigned handles, refs;     /* refs: handles, children and registrations. 0: freed */
    struct context *parent[MOST_PARENTS];
    unsigned parents;
    int64_t deadline;           /* the effective one */
    int64_t own;                /* its own, if it is earlier than the parent's; else CCTX_NEVER */
    const cctx_cause_t *own_cause;
    unsigned key, value;        /* value 0: NULL */
    bool done;
    int err;
    struct event *event;        /* NULL though done: one of several that came at the same time */
    int64_t done_at;
    const uint32_t *word;       /* what cctx_done said */
};

struct callback_model {
    cctx_callback_t storage;
    enum { FREE, REGISTERED, DUE, RUNNING } state;
    struct context *context;
    unsigned turn;              /* how often it was registered */
    unsigned acts;
};

static struct context contexts[MOST_CONTEXTS];
static unsigned context_count;
static struct callback_model callbacks[MOST_CALLBACKS];
static struct event events[MOST_EVENTS];
static unsigned event_count;
static int64_t model_now;
static struct input *program;
static unsigned depth;

/* Value v is &values[v]; 0 stands for NULL. */
static char values[MOST_CONTEXTS + 1];
static unsigned destroyed[MOST_CONTEXTS + 1], to_be_destroyed[MOST_CONTEXTS + 1];
static bool value_acts[MOST_CONTEXTS + 1];
static unsigned value_count;

static void value_destroy(void *value);
static const cctx_key_t keys[KEYS] = {
    {"a", value_destroy}, {"b", NULL},          {"c", value_destroy}, {NULL, value_destroy},
    {"e", NULL},          {"f", value_destroy}, {"a", value_destroy}, {"h", NULL},
    {"i", value_destroy}, {"j", value_destroy}, {"k", NULL},          {"l", value_destroy},
};
static const cctx_cause_t causes[CAUSES] = {{1, "one"}, {0, NULL}, {ECANCELED, "three"}, {ETIMEDOUT, "four"}};

static void act(void);

static unsigned number(const struct context *c) { return (unsigned)(c - contexts); }

/* ---- the model's verbs ---- */

static struct event *event_new(int err, const cctx_cause_t *cause)
{
    PROPERTY(event_count < MOST_EVENTS);
    struct event *e = &events[event_count++];
    *e = (struct event){.err = err, .cause = cause};
    return e;
}

static bool is_never(const struct context *c)
{
    while (c->kind == VALUE) c = c->parent[0];
    return c->kind == ROOT || c->kind == WITHOUT;
}

static void end(struct context *c, struct event *event, int err)
{
    c->done = true;
    c->event = event;
    c->err = err;
    c->done_at = model_now;
}

/* The event that ended c's parents; NULL if they had several. */
static struct event *parents_event(const struct context *c)
{
    struct event *event = NULL;
    for (unsigned i = 0; i < c->parents; i++) {
        const struct context *p = c->parent[i];
        if (!p->done) continue;
        if (!p->event || (event && event != p->event)) return NULL;
        event = p->event;
    }
    return event;
}

static int parents_err(const struct context *c)
{
    for (unsigned i = 0; i < c->parents; i++)
        if (c->parent[i]->done) return c->parent[i]->err;
    return 0;
}

/* A context ends if it is live and one of its parents is done. */
static void inherit(struct context *c)
{
    if (c->refs == 0 || c->done || c->kind == ROOT || c->kind == WITHOUT) return;
    int err = parents_err(c);
    if (err != 0) end(c, parents_event(c), err);
}

/* Parents come before their children, so one pass reaches all. */
static void spread_all(void)
{
    for (unsigned i = 0; i < context_count; i++) inherit(&contexts[i]);
    for (unsigned i = 0; i < MOST_CALLBACKS; i++)
        if (callbacks[i].state == REGISTERED && callbacks[i].context->done) callbacks[i].state = DUE;
}

/* Lets the deadlines up to the present moment pass, in their order. */
static void catch_up(void)
{
    int64_t now = fake_time_now();
    for (;;) {
        int64_t next = CCTX_NEVER;
        for (unsigned i = 0; i < context_count; i++) {
            struct context *c = &contexts[i];
            if (c->refs > 0 && !c->done && c->own < next) next = c->own;
        }
        if (next == CCTX_NEVER || next > now) break;
        model_now = next;
        for (unsigned i = 0; i < context_count; i++) {
            struct context *c = &contexts[i];
            if (c->refs > 0 && !c->done && c->own == next)
                end(c, event_new(ETIMEDOUT, c->own_cause ? c->own_cause : &cctx_deadline_exceeded),
                    ETIMEDOUT);
        }
        spread_all();
    }
    model_now = now;
}

static void drop(struct context *c)
{
    if (c->kind == ROOT || --c->refs > 0) return;
    if (c->kind == VALUE && keys[c->key].destroy) to_be_destroyed[c->value]++;
    for (unsigned i = 0; i < c->parents; i++) drop(c->parent[i]);
}

static void *model_value(const struct context *c, unsigned key)
{
    for (; c->kind != ROOT; c = c->parent[0])
        if (c->kind == VALUE && c->key == key) return c->value ? &values[c->value] : NULL;
    return NULL;
}

static bool model_cancel(struct context *c, struct event *event)
{
    if (c->done || c->kind == ROOT || c->kind == VALUE || c->kind == WITHOUT) return false;
    end(c, event, ECANCELED);
    spread_all();
    return true;
}

/* ---- the model and the library side by side ---- */

static bool cause_is(struct event *e, const cctx_cause_t *cause)
{
    if (e->cause) return cause == e->cause;
    if (e->seen) return cause == e->seen;
    if (!cause) return false;
    bool lacks = e->scarce && cause->code == ENOMEM && strcmp(cause->text, "out of memory") == 0;
    if (!lacks && (cause->code != e->code || strcmp(cause->text, e->text) != 0)) return false;
    e->seen = cause;
    return true;
}

/* Which of several events of one moment ended c? The library says; it must be one that ended a parent. */
static void resolve(struct context *c)
{
    if (!c->done || c->event) return;
    c->event = parents_event(c);
    for (unsigned i = 0; i < c->parents && !c->event; i++) {
        struct context *p = c->parent[i];
        if (p->done && p->event->err == cctx_err(c->real) && cause_is(p->event, cctx_cause(c->real)))
            c->event = p->event;
    }
    PROPERTY(c->event != NULL);
    c->err = c->event->err;
}

static void compare_context(struct context *c, bool all)
{
    const cctx_t *x = c->real;
    PROPERTY(cctx_err(x) == c->err);
    PROPERTY(cctx_is_done(x) == c->done);
    const cctx_cause_t *cause = cctx_cause(x);
    PROPERTY(c->done ? cause_is(c->event, cause) : cause == NULL);
    int64_t deadline = 77, left = c->done                     ? 0
                                  : c->deadline == CCTX_NEVER ? CCTX_NEVER
                                                              : c->deadline - model_now;
    PROPERTY(cctx_deadline(x, &deadline) == (c->deadline != CCTX_NEVER));
    PROPERTY(deadline == (c->deadline != CCTX_NEVER ? c->deadline : 77));
    PROPERTY(cctx_remaining(x) == left);
    if (c->word) PROPERTY((__atomic_load_n(c->word, __ATOMIC_ACQUIRE) & 1u) == c->done);
    for (unsigned k = all ? 0 : property_step % KEYS; k < KEYS; k += all ? 1 : KEYS)
        PROPERTY(cctx_value(x, &keys[k]) == model_value(c, k));
}

/* When nothing runs. */
static void compare(bool all)
{
    fake_time_settle();
    catch_up();
    for (unsigned i = 0; i < context_count; i++)
        if (contexts[i].refs > 0) resolve(&contexts[i]);
    for (unsigned i = 0; i < context_count; i++) {
        struct context *c = &contexts[i];
        if (c->handles == 0) continue;
        if (all || i % 8 == property_step % 8 || i + 4 > context_count) compare_context(c, all);
        else PROPERTY(cctx_err(c->real) == c->err);
    }
    for (unsigned i = 0; i < MOST_CALLBACKS; i++)
        PROPERTY(callbacks[i].state == FREE || callbacks[i].state == REGISTERED);
    PROPERTY(memcmp(destroyed, to_be_destroyed, sizeof destroyed) == 0);
}

/* In the midst of things: whatever the model says is done is done. */
static void compare_running(void)
{
    for (unsigned i = 0; i < context_count; i++)
        if (contexts[i].handles > 0) PROPERTY(cctx_is_done(contexts[i].real) == contexts[i].done);
}

static void value_destroy(void *value)
{
    size_t v = value ? (size_t)((char *)value - values) : 0;
    PROPERTY(v <= value_count);
    TRACE("%*sdestroy(value %zu)\n", 4 * (int)depth, "", v);
    destroyed[v]++;
    PROPERTY(destroyed[v] <= to_be_destroyed[v]);
    if (v > 0 && value_acts[v]) {
        int saved = errno;
        act();
        errno = saved;
    }
}

static void callback_run(void *arg)
{
    struct callback_model *m = arg;
    int saved = errno;
    catch_up();
    TRACE("%*scallback %u runs\n", 4 * (int)depth, "", (unsigned)(m - callbacks));
    PROPERTY(m->state == DUE);
    compare_running();
    struct context *c = m->context;
    unsigned turn = m->turn;
    m->state = RUNNING;
    for (unsigned i = 0; i < m->acts; i++) act();
    if (m->state == RUNNING && m->turn == turn) m->state = FREE;
    drop(c);
    errno = saved;
}

/* ---- the program's choices ---- */

/* A context with a handle: counted from the first, or from the last. */
static struct context *pick(void)
{
    unsigned b = take(program),
             i = b < 128 ? b % context_count : context_count - 1 - (b - 128) % context_count;
    while (contexts[i].handles == 0) i = i > 0 ? i - 1 : context_count - 1;
    return &contexts[i];
}

static struct callback_model *pick_callback(void) { return &callbacks[take_below(program, MOST_CALLBACKS)]; }

static int64_t pick_deadline(struct context *parent)
{
    switch (take_below(program, 8)) {
    case 0: return time_add(model_now, take_duration(program));
    case 1: return parent->deadline;
    case 2: return time_add(parent->deadline, -1);
    case 3: return pick()->deadline;
    case 4: return CCTX_NEVER;
    case 5: return INT64_MIN + (int64_t)take(program);
    case 6: return model_now;
    default: return model_now + 1 + (int64_t)take(program);
    }
}

static const cctx_cause_t *pick_cause(void)
{
    unsigned i = take_below(program, CAUSES + 1);
    return i < CAUSES ? &causes[i] : NULL;
}

/* ---- derive ---- */

/* The context that the library made, or failed to make. */
static struct context *made(const cctx_t *real, struct context c)
{
    static const char *const names[] = {"root",       "with_cancel",    "with_deadline",
                                        "with_value", "without_cancel", "with_any"};
    TRACE("%*s%u = %s(", 4 * (int)depth, "", real ? context_count : 0, names[c.kind]);
    for (unsigned i = 0; i < c.parents; i++) TRACE("%s%u", i ? ", " : "", number(c.parent[i]));
    if (c.kind == DEADLINE) TRACE(", at %lld", (long long)c.own);
    if (c.kind == VALUE) TRACE(", key %u, value %u", c.key, c.value);
    TRACE(")%s\n", real ? "" : ": no memory");
    if (!real) {
        PROPERTY(errno == ENOMEM && scarce_refused());
        return NULL;
    }
    struct context *n = &contexts[context_count++];
    c.real = real;
    c.handles = c.refs = 1;
    for (unsigned i = 0; i < c.parents; i++) c.parent[i]->refs++;
    *n = c;
    inherit(n);
    if (!n->done && c.kind == DEADLINE && c.own <= model_now)
        end(n, event_new(ETIMEDOUT, c.own_cause ? c.own_cause : &cctx_deadline_exceeded), ETIMEDOUT);
    resolve(n);
    return n;
}

static bool room(void)
{
    return context_count < MOST_CONTEXTS && event_count < MOST_EVENTS - 2 * MOST_CONTEXTS;
}

static struct context *derive(enum kind kind, struct context *parent)
{
    if (!room()) return NULL;
    struct context c = {.kind = kind, .parent = {parent}, .parents = 1, .deadline = parent->deadline,
                        .own = CCTX_NEVER};
    errno = OTHER_ERRNO;
    switch (kind) {
    case ROOT:
    case CANCEL: return made(cctx_with_cancel(parent->real), c);
    case WITHOUT:
        c.deadline = CCTX_NEVER;
        return made(cctx_without_cancel(parent->real), c);
    case VALUE: {
        c.key = take_below(program, KEYS);
        unsigned how = take_below(program, 8), value = how == 0 ? 0 : value_count + 1;
        if (value > MOST_CONTEXTS) value = 0;
        c.value = value;
        if (value > 0) {
            value_count++;
            value_acts[value] = how == 1;
        }
        return made(cctx_with_value(parent->real, &keys[c.key], value ? &values[value] : NULL), c);
    }
    case DEADLINE: {
        int64_t deadline = pick_deadline(parent);
        c.own_cause = pick_cause();
        if (deadline < c.deadline || deadline <= model_now) c.own = deadline;
        if (deadline < c.deadline) c.deadline = deadline;
        errno = OTHER_ERRNO;
        switch (take_below(program, 2)) {
        case 0:
            return made(c.own_cause ? cctx_with_deadline_cause(parent->real, deadline, c.own_cause)
                                    : cctx_with_deadline(parent->real, deadline), c);
        default: {
            /* As a timeout, where that says the same. */
            int64_t timeout = deadline == CCTX_NEVER ? CCTX_NEVER : time_add(deadline, -model_now);
            if (time_add(model_now, timeout) != deadline)
                return made(cctx_with_deadline_cause(parent->real, deadline, c.own_cause), c);
            return made(c.own_cause ? cctx_with_timeout_cause(parent->real, timeout, c.own_cause)
                                    : cctx_with_timeout(parent->real, timeout), c);
        }
        }
    }
    case ANY: {
        const cctx_t *parents[MOST_PARENTS] = {parent->real};
        for (unsigned n = 1 + take_below(program, MOST_PARENTS); c.parents < n; c.parents++) {
            struct context *p = pick();
            c.parent[c.parents] = p;
            parents[c.parents] = p->real;
            if (p->deadline < c.deadline) c.deadline = p->deadline;
        }
        errno = OTHER_ERRNO;
        return made(cctx_with_any(parents, c.parents), c);
    }
    }
    return NULL;
}

/* ---- the other verbs ---- */

static void unref(struct context *c)
{
    TRACE("%*sunref(%u)\n", 4 * (int)depth, "", number(c));
    if (c->kind != ROOT) c->handles--;
    const cctx_t *real = c->real;
    errno = OTHER_ERRNO;
    drop(c);
    cctx_unref(real);
    PROPERTY(errno == OTHER_ERRNO);
}

/* The const is cast away: what cannot be canceled is to say so. */
static cctx_t *writable(const cctx_t *x) { return (cctx_t *)(uintptr_t)x; }

/* The callbacks that this call made due have run, or were stopped, when it returns. */
static void none_due(const bool *before)
{
    for (unsigned i = 0; i < MOST_CALLBACKS; i++) PROPERTY(callbacks[i].state != DUE || before[i]);
}

static void cancel(struct context *c, unsigned how)
{
    if (event_count >= MOST_EVENTS - MOST_CONTEXTS) return;
    bool due[MOST_CALLBACKS];
    for (unsigned i = 0; i < MOST_CALLBACKS; i++) due[i] = callbacks[i].state == DUE;
    const cctx_cause_t *cause = how == 1 ? pick_cause() : NULL;
    struct event *event = event_new(ECANCELED, cause ? cause : &cctx_canceled);
    const cctx_t *real = c->real;
    bool first, closes = how == 3;
    TRACE("%*s%s(%u)\n", 4 * (int)depth, "", closes ? "close" : "cancel", number(c));
    if (how == 2) {
        event->cause = NULL;
        event->scarce = scarce_refusing();
        event->code = (int)take(program);
        snprintf(event->text, sizeof event->text, "no %d of %s", event->code, "many");
    }
    if (closes && c->kind != ROOT) c->handles--;
    first = model_cancel(c, event);
    if (closes) drop(c);
    errno = OTHER_ERRNO;
    switch (how) {
    case 0: PROPERTY(cctx_cancel(writable(real)) == first); break;
    case 1: PROPERTY(cctx_cancel_cause(writable(real), cause) == first); break;
    case 2: {
        int code = event->code;
        bool won = cctx_cancel_causef(writable(real), code, "no %d of %s", code, "many");
        PROPERTY(won == first);
        break;
    }
    default: cctx_close(writable(real)); break;
    }
    PROPERTY(errno == OTHER_ERRNO);
    event->scarce = event->scarce && scarce_refused();
    none_due(due);
}

static void after_func(struct context *c, struct callback_model *m)
{
    if (m->state != FREE) return;
    m->acts = depth < DEEPEST ? take_below(program, 3) : 0;
    TRACE("%*safter_func(%u, callback %u)\n", 4 * (int)depth, "", number(c), (unsigned)(m - callbacks));
    m->context = c;
    m->turn++;
    m->state = c->done ? DUE : REGISTERED;
    unsigned turn = m->turn;
    bool born_due = c->done;
    c->refs++;
    errno = OTHER_ERRNO;
    int result = cctx_after_func(c->real, &m->storage, callback_run, m);
    PROPERTY(errno == OTHER_ERRNO);
    if (born_due) PROPERTY(result == 0 && (m->turn != turn || m->state == FREE));
    if (result == 0) return;
    PROPERTY(result == ENOMEM && scarce_refused() && m->turn == turn && m->state == REGISTERED);
    m->state = FREE;
    drop(c);
}

static void stop(struct callback_model *m, bool wait)
{
    bool wins = m->state == REGISTERED || m->state == DUE;
    struct context *c = m->context;
    TRACE("%*sstop%s(callback %u)\n", 4 * (int)depth, "", wait ? "_wait" : "", (unsigned)(m - callbacks));
    errno = OTHER_ERRNO;
    if (wins) m->state = FREE;
    if (wins) drop(c);
    PROPERTY((wait ? cctx_stop_wait(&m->storage) : cctx_stop(&m->storage)) == wins);
    PROPERTY(errno == OTHER_ERRNO);
    if (wait && m->state == RUNNING) m->state = FREE;   /* from inside fn: the storage is given away */
}

static void done_word(struct context *c)
{
    const uint32_t *word = cctx_done(c->real);
    PROPERTY((word == NULL) == is_never(c));
    PROPERTY(c->word == NULL || c->word == word);
    c->word = word;
}

static void wait_on(struct context *c, unsigned how)
{
    int64_t start = model_now, timeout = how == 1 ? take_duration(program) : 0;
    int64_t until = how == 0 ? CCTX_NEVER : how == 1 ? time_add(start, timeout) : pick()->deadline;
    bool never = is_never(c), result;
    if ((how != 0 || !never) && !c->done && time_min(c->deadline, until) > CCTX_NEVER / 2)
        return; /* nothing ends it */
    TRACE("wait(%u) until %lld\n", number(c), (long long)until);
    cctx_ref(c->real); /* a callback may drop the others, and who waits has a reference of his own */
    if (c->kind != ROOT) c->refs++;
    errno = OTHER_ERRNO;
    if (how == 0) {
        int err = cctx_wait(c->real);
        PROPERTY(err == (never ? EDEADLK : cctx_err(c->real)));
        result = !never;
        if (never) until = start;
    } else {
        result = how == 1 ? cctx_wait_for(c->real, timeout) : cctx_wait_until(c->real, until);
    }
    PROPERTY(errno == OTHER_ERRNO);
    catch_up();
    int64_t over = until > start ? until : start, done_at = c->done ? c->done_at : CCTX_NEVER;
    if (done_at < start) done_at = start;
    if (done_at != over) PROPERTY(result == (done_at < over));
    PROPERTY(model_now == time_min(done_at, over));
    drop(c);
    cctx_unref(c->real);
}

/* Nothing happens before its time, whatever the next deadline is. */
static void advance(int64_t ns)
{
    if (ns < 0) ns = ns == INT64_MIN ? INT64_MAX : -ns;
    int64_t to = time_add(model_now, ns);
    if (to > CCTX_NEVER / 2) to = CCTX_NEVER / 2;
    TRACE("advance to %lld\n", (long long)to);
    for (unsigned moments = 0; model_now < to; moments++) {
        int64_t next = to;
        for (unsigned i = 0; i < context_count; i++)
            if (contexts[i].refs > 0 && !contexts[i].done && contexts[i].own < next) next = contexts[i].own;
        if (moments > 20) next = to;
        if (next - 1 > model_now) {
            fake_time_advance(next - 1 - model_now);
            compare(false);
        }
        if (next > model_now) fake_time_advance(next - model_now);
        compare(false);
    }
}

static void bulk(void)
{
    struct context *parent = pick();
    enum kind kind = CANCEL + take_below(program, 5);
    bool chain = take_below(program, 2) != 0;
    for (unsigned n = take_below(program, 80); n > 0 && room(); n--) {
        struct context *c = derive(kind, parent);
        if (!c) break;
        if (chain) parent = c;
    }
}

static void bulk_unref(void)
{
    unsigned from = take(program), n = take_below(program, 80);
    for (unsigned i = from; i < from + n && i < context_count; i++)
        if (contexts[i].handles > 0) unref(&contexts[i]);
}

static void bulk_callbacks(void)
{
    struct context *c = pick();
    unsigned from = take_below(program, MOST_CALLBACKS), n = take_below(program, MOST_CALLBACKS);
    for (unsigned i = from; i < from + n && i < MOST_CALLBACKS && c->handles > 0; i++)
        after_func(c, &callbacks[i]);
}

/* NULL and nothing are answered, not followed. */
static void nothing(void)
{
    const cctx_t *none[2] = {cctx_background(), NULL};
    int64_t deadline = 5;
    errno = 0;
    switch (take_below(program, 4)) {
    case 0:
        PROPERTY(!cctx_with_cancel(NULL) && errno == EINVAL);
        PROPERTY(!cctx_with_any(none, 2) && !cctx_with_any(none, 0) && !cctx_with_any(NULL, 1));
        PROPERTY(!cctx_with_value(cctx_background(), NULL, NULL) && !cctx_with_value(NULL, &keys[0], NULL));
        break;
    case 1:
        PROPERTY(cctx_err(NULL) == EINVAL && cctx_wait(NULL) == EINVAL && !cctx_is_done(NULL) &&
                 !cctx_cause(NULL));
        PROPERTY(!cctx_deadline(NULL, &deadline) && deadline == 5 && cctx_remaining(NULL) == 0 &&
                 !cctx_done(NULL));
        PROPERTY(!cctx_wait_for(NULL, 5) && !cctx_wait_until(NULL, 5) && !cctx_value(NULL, &keys[0]));
        break;
    case 2:
        PROPERTY(!cctx_cancel(NULL) && !cctx_cancel_cause(NULL, NULL) && !cctx_cancel_causef(NULL, 1, "x"));
        cctx_unref(NULL);
        cctx_close(NULL);
        PROPERTY(!cctx_ref(NULL));
        break;
    default:
        PROPERTY(cctx_after_func(NULL, &callbacks[0].storage, callback_run, NULL) == EINVAL);
        PROPERTY(cctx_after_func(cctx_todo(), NULL, callback_run, NULL) == EINVAL);
        PROPERTY(!cctx_stop(NULL) && !cctx_stop_wait(NULL));
    }
}

/* One step from inside a callback or a destructor: anything that does not sleep. */
static void act(void)
{
    if (depth >= DEEPEST || !take_more(program)) return;
    depth++;
    switch (take_below(program, 12)) {
    case 0: derive(CANCEL + take_below(program, 5), pick()); break;
    case 1: unref(pick()); break;
    case 2: cancel(pick(), 0); break;
    case 3: cancel(pick(), 1); break;
    case 4: cancel(pick(), 2); break;
    case 5: cancel(pick(), 3); break;
    case 6: stop(pick_callback(), false); break;
    case 7: stop(pick_callback(), true); break;
    case 8: {
        struct context *c = pick();
        after_func(c, pick_callback());
        break;
    }
    case 9: done_word(pick()); break;
    case 10: compare_running(); break;
    default: nothing(); break;
    }
    depth--;
}

static void step(void)
{
    unsigned op = take_below(program, 22);
    bool scarce = op == 21;
    if (scarce) {
        unsigned how = take(program);
        scarce_refuse(how % 64, (how & 64) != 0);
        TRACE("no memory after %u more\n", how % 64);
        op = take_below(program, 21);
    }
    switch (op) {
    case 0: derive(CANCEL, pick()); break;
    case 1: derive(DEADLINE, pick()); break;
    case 2: derive(VALUE, pick()); break;
    case 3: derive(WITHOUT, pick()); break;
    case 4: derive(ANY, pick()); break;
    case 5: {
        struct context *c = pick();
        TRACE("ref(%u)\n", number(c));
        PROPERTY(cctx_ref(c->real) == c->real);
        if (c->kind != ROOT) c->handles++, c->refs++;
        break;
    }
    case 6: unref(pick()); break;
    case 7:
    case 8:
    case 9:
    case 10: cancel(pick(), op - 7); break;
    case 11: {
        struct context *c = pick();
        after_func(c, pick_callback());
        break;
    }
    case 12: stop(pick_callback(), false); break;
    case 13: stop(pick_callback(), true); break;
    case 14: advance(take_duration(program)); break;
    case 15: {
        struct context *c = pick();
        wait_on(c, take_below(program, 3));
        break;
    }
    case 16: done_word(pick()); break;
    case 17: bulk(); break;
    case 18: bulk_unref(); break;
    case 19: bulk_callbacks(); break;
    case 20:
        /* Another thread takes from another stripe; here one thread says that it is another. */
        if (take_below(program, 8) == 0) nothing();
        else thread_current->ordinal = take(program);
        break;
    }
    if (scarce) scarce_relent();
}

/* ---- the beginning and the end ---- */

/* The timer's sets are for ever; here they are for one program, so that the next finds the library as this
 * one did. */
static void timer_anew(void)
{
    if (!node_timer.ops) return;
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct timer_tier *tier = &node_timer.tier[i];
        struct roster *set = (struct roster *)sync_load_acq(&tier->set, chunk);
        for (sync_ptr *x = set ? roster_first(set) : NULL; x; x = roster_next(x))
            PROPERTY(sync_load_acq(x, slot) == 0);      /* nothing of a dropped context is left (C14) */
        roster_free(set);
        for (uintptr_t g = sync_load_acq(&tier->directories, directory), next; g; g = next) {
            next = sync_load_acq((sync_ptr *)g, directory);     /* a directory begins with the next one */
            alloc_put((void *)g);
        }
    }
    alloc_put(node_timer.heap);
    timer_init(&node_timer, node_timer.ops);
    futex_wake(&node_timer.bell);
    fake_time_settle();
}

static void begin(struct input *in)
{
    static const int64_t starts[] = {1000000000, 0, CCTX_NEVER / 4};
    program = in;
    depth = 0;
    context_count = event_count = value_count = 0;
    memset(callbacks, 0, sizeof callbacks);
    memset(destroyed, 0, sizeof destroyed);
    memset(to_be_destroyed, 0, sizeof to_be_destroyed);
    fake_time_set(starts[take_below(in, 3)]);
    model_now = fake_time_now();
    contexts[context_count++] = (struct context){
        .real = cctx_background(), .handles = 1, .refs = 1, .deadline = CCTX_NEVER, .own = CCTX_NEVER};
    contexts[context_count++] = (struct context){
        .real = cctx_todo(), .handles = 1, .refs = 1, .deadline = CCTX_NEVER, .own = CCTX_NEVER};
    thread_current->ordinal = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t blocks_before;
    struct input in = {data, data + size};
    if (!thread_current) {
        thread_begin();
        blocks_before = scarce_blocks();
    }
    begin(&in);
    bool forward = take_below(&in, 2) != 0;
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) {
        catch_up();
        step();
        compare(property_step % 16 == 0);
    }
    compare(true);

    /* All is given back, in either order, and nothing is left. */
    in.at = in.end;
    for (unsigned i = 0; i < MOST_CALLBACKS; i++) stop(&callbacks[i], i % 2 == 0);
    for (unsigned i = 0; i < context_count; i++) {
        struct context *c = &contexts[forward ? i : context_count - 1 - i];
        while (c->kind != ROOT && c->handles > 0) unref(c);
    }
    compare(true);
    for (unsigned i = 2; i < context_count; i++) PROPERTY(contexts[i].refs == 0);
    timer_anew();
    for (int i = 0; i < 8 && epoch_limbo() > 0; i++) epoch_poll(thread_current);
    PROPERTY(epoch_limbo() == 0);
    if (CELL_DIRECT) {
        PROPERTY(scarce_blocks() - blocks_before <= KEPT);
    } else {
        cell_drain(&thread_current->cells);
        PROPERTY(cell_pages() == 0);
        PROPERTY(scarce_blocks() <= blocks_before + 1); /* one shelf has room for all pages of a program */
    }
    return 0;
}
