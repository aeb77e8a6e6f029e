/* SPDX-License-Identifier: BSD-2-Clause */
/* programs: random programs of two to five threads over the whole public API, on the machine that decides at
 * each atomic operation who goes on. A seed is a program, a scheduler and its faults; what the contract
 * promises is checked at each step against what the test knows of the tree, and at the end.
 *
 * Between two points the test's own code is one step: what it knows needs no lock. What a thread is in the
 * middle of counts as begun, and as not yet returned. */
#include "../support.h"
#include "machine.h"

#include "epoch.h"
#include "futex.h"
#include "node.h"
#include <cctx/signal.h>

enum {
    CONTEXTS = 96,
    HANDS = 6,                  /* handles that one thread holds */
    THREADS = 5,
    BOX = 4,                    /* handles on their way to another thread */
    HOOKS = 8,
    ATTEMPTS = 160,
    SPARE = 80,                 /* attempts that are left for closes */
    KEYS = 3,
    PARENTS = 3,
    FIRST_CODE = 1000           /* of a cause; its attempt's number on top */
};

/* ---- settings */

enum fault { FAULT_NONE, FAULT_SPURIOUS, FAULT_MEMORY, FAULT_STARVED, FAULT_FORK, FAULTS };
static const char *const fault_name[] = {"none", "spurious", "memory", "starved", "fork"};
static const char *const kind_name[] = {"sequence", "walk", "pct"};

struct run {
    uint64_t seed;
    enum fault fault;
    struct machine_settings settings;
    unsigned threads, operations;
};
static struct run *run;         /* outlives the schedules: in memory of its own */

/* ---- what the test knows */

enum kind { CANCEL, DEADLINE, VALUE, WITHOUT, ANY };

struct context {
    const cctx_t *ctx;
    enum kind kind;
    int parent[PARENTS], parents;       /* -1: the background */
    int refs;                   /* that the test holds, or is about to drop: not counted */
    int64_t own, deadline;      /* as asked for; effective (C11) */
    bool has_cause;             /* the deadline brings deadline_cause */
    long live;                  /* the step at which it was last seen live */
    long born;                  /* the step at which its derivation had returned */
    int err;                    /* as first seen */
    const cctx_cause_t *cause;  /* likewise */
    bool attempted;             /* its own cancel was called */
    int won;                    /* the attempt that won, or -1 */
    int key, destroyed;
};

struct attempt {
    int context;
    enum { PLAIN, CAUSE, FORMAT, ASYNC } how;
    bool returned, won;
    long since;
};

struct hook {
    cctx_callback_t storage;
    enum { UNUSED, REGISTERING, REGISTERED, OVER } state;
    int context;
    unsigned registrar;
    int ran, stopped;           /* of this registration */
    bool running;
    int users;                  /* stops in progress */
    int what;                   /* fn does */
    int hand;                   /* a handle that fn lets go, or -1 */
    uint64_t random;
};

static struct context context[CONTEXTS];
static int contexts;
static struct attempt attempt[ATTEMPTS];
static cctx_cause_t cause[ATTEMPTS];
static int attempts;
static struct hook hook[HOOKS];
static int box[BOX];
static long step;
static bool waits[16];          /* the thread is in a wait */
static int threads_left;        /* that may be started still */

static const cctx_cause_t late = {77, "late"};
static void destroy(void *value) { ((struct context *)value)->destroyed++; }
static const cctx_key_t key[KEYS] = {{"a", destroy}, {"b", destroy}, {NULL, destroy}};

struct hands {
    int held[HANDS];            /* contexts, one reference each; -1: none */
    uint64_t random;
    bool ends;                  /* it is the one that cancels the root in the end */
};
static struct hands hands[THREADS + 1];

static uint64_t draw(uint64_t *random, uint64_t n)
{
    rng_t rng = {*random};
    uint64_t x = rng_next(&rng);
    *random = rng.state;
    return x % n;
}

/* ---- the tree as the test knows it */

/* The context whose done word x has: itself, the one above, or none (-1). */
static int owner(int x)
{
    while (x >= 0 && context[x].kind == VALUE) x = context[x].parent[0];
    return x >= 0 && context[x].kind == WITHOUT ? -1 : x;
}

/* Does the end of top end x? */
static bool below(int x, int top)
{
    x = owner(x);
    if (x < 0) return false;
    if (x == top) return true;
    for (int i = 0; i < context[x].parents; i++)
        if (below(context[x].parent[i], top)) return true;
    return false;
}

static bool own_deadline_passed(const struct context *c)
{
    return c->kind == DEADLINE && c->own <= machine_now();
}

/* Could x have ended with this error and cause? */
static bool explained(int x, int err, const cctx_cause_t *why)
{
    x = owner(x);
    if (x < 0) return false;
    struct context *c = &context[x];
    for (int i = 0; i < attempts; i++) {
        struct attempt *a = &attempt[i];
        if (a->context != x || err != ECANCELED || (a->returned && !a->won)) continue;
        if (a->how == PLAIN || a->how == ASYNC ? why == &cctx_canceled : why->code == FIRST_CODE + i) return true;
        if (a->how == FORMAT && run->settings.no_memory && why->code == ENOMEM) return true;
    }
    if (err == ETIMEDOUT && own_deadline_passed(c) && why == (c->has_cause ? &late : &cctx_deadline_exceeded))
        return true;
    for (int i = 0; i < c->parents; i++)
        if (explained(c->parent[i], err, why)) return true;
    return false;
}

/* A look that takes no point: at any context that is kept alive. C1, C2, C4, C13. */
static void glance(int x)
{
    struct context *c = &context[x];
    int err = cctx_err(c->ctx), o = owner(x);
    CHECK((err != 0) == cctx_is_done(c->ctx));
    if (err == 0) {
        CHECK(c->err == 0);
        c->live = step;
        return;
    }
    CHECK(err == ECANCELED || err == ETIMEDOUT);
    CHECK(c->err == 0 || c->err == err);
    c->err = err;
    CHECK(o >= 0);
    CHECK(err != ETIMEDOUT || context[o].deadline <= machine_now() || own_deadline_passed(&context[o]));
    if (context[o].attempted || own_deadline_passed(&context[o])) return;
    bool above = false;
    for (int i = 0; i < context[o].parents; i++) {
        int p = owner(context[o].parent[i]);
        above |= p >= 0 && cctx_err(context[p].ctx) != 0;
    }
    CHECK(above);
}

static void glance_at_all(void)
{
    step++;
    for (int x = 0; x < contexts; x++) {
        if (context[x].refs > 0) {
            glance(x);
            CHECK(context[x].destroyed == 0);
        }
        CHECK(context[x].destroyed <= 1);
    }
}

/* All looks, by a thread with a reference. C2, C9, C11, C16, C19, C24. */
static void look(int x)
{
    struct context *c = &context[x];
    int before = cctx_err(c->ctx);
    const cctx_cause_t *why = cctx_cause(c->ctx);
    int after = cctx_err(c->ctx);
    CHECK(!before || (why && before == after));
    CHECK(after || !why);
    if (why) {
        CHECK(!c->cause || c->cause == why);
        c->cause = why;
        CHECK(why->text != NULL);
        CHECK(explained(x, after, why));
        int o = owner(x);
        if (context[o].won >= 0) CHECK(explained(o, after, why) && after == ECANCELED);
    }
    cctx_time_t at = CCTX_NEVER;
    CHECK(cctx_deadline(c->ctx, &at) == (c->deadline != CCTX_NEVER) && at == c->deadline);
    int64_t left = cctx_remaining(c->ctx);
    CHECK(left >= 0 && (left < CCTX_NEVER || c->deadline == CCTX_NEVER));
    const uint32_t *word = cctx_done(c->ctx);
    CHECK((word == NULL) == (owner(x) < 0) && word == cctx_done(c->ctx));
    for (int k = 0; k < KEYS; k++) {
        int y = x;
        while (y >= 0 && !(context[y].kind == VALUE && context[y].key == k)) y = context[y].parent[0];
        CHECK(cctx_value(c->ctx, &key[k]) == (y >= 0 ? (void *)&context[y] : NULL));
    }
}

/* What a cancel of x promises when it returns: whatever was derived below it before is done. C3 */
static void check_swept(int x, long since)
{
    for (int y = 0; y < contexts; y++)
        if (context[y].refs > 0 && context[y].born <= since && below(y, x))
            CHECK(cctx_err(context[y].ctx) != 0);
}

/* The first word of a context leads to it (C31); cctx_done would tell the library that somebody may wait. */
static const void *done_word(int x) { return *(const void *const *)(const void *)context[x].ctx; }

/* ---- handles */

static int free_hand(struct hands *h)
{
    for (int i = 0; i < HANDS; i++)
        if (h->held[i] < 0) return i;
    return -1;
}

static int any_hand(struct hands *h)
{
    int from = (int)draw(&h->random, HANDS);
    for (int i = 0; i < HANDS; i++)
        if (h->held[(from + i) % HANDS] >= 0) return (from + i) % HANDS;
    return -1;
}

static void let_go(int x)
{
    context[x].refs--;
    cctx_unref(context[x].ctx);
}

static void close_it(int x)
{
    long since = step;
    context[x].refs--;
    context[x].attempted = true;
    int number = attempts++;
    attempt[number] = (struct attempt){x, PLAIN, false, true, since};
    cctx_close((cctx_t *)(uintptr_t)context[x].ctx);
    check_swept(x, since);
}

/* A context that was derived; the caller has its reference. */
static int new_context(const cctx_t *ctx, enum kind kind, const int *parent, int parents, int64_t own)
{
    if (!ctx) {
        CHECK(run->settings.no_memory);
        CHECK(errno == ENOMEM || errno == EAGAIN);
        return -1;
    }
    CHECK(contexts < CONTEXTS);
    int x = contexts++;
    struct context *c = &context[x];
    c->ctx = ctx;
    c->kind = kind;
    c->parents = parents;
    c->own = own;
    c->deadline = own;
    c->won = -1;
    for (int i = 0; i < parents; i++) {
        c->parent[i] = parent[i];
        if (parent[i] >= 0 && kind != WITHOUT && context[parent[i]].deadline < c->deadline)
            c->deadline = context[parent[i]].deadline;
    }
    c->refs = 1;
    c->born = ++step;
    c->live = -1;
    return x;
}

static const cctx_t *ctx_of(int x) { return x >= 0 ? context[x].ctx : cctx_background(); }

static int derive(enum kind kind, const int *parent, int parents, uint64_t *random)
{
    const cctx_t *up = ctx_of(parent[0]), *list[PARENTS], *ctx = NULL;
    if (contexts >= CONTEXTS - THREADS - 2) return -2;
    bool ended = false;         /* before the derivation began */
    for (int i = 0; i < parents; i++) ended |= parent[i] >= 0 && cctx_err(ctx_of(parent[i])) != 0;
    int x;
    switch (kind) {
    case CANCEL: x = new_context(cctx_with_cancel(up), kind, parent, 1, CCTX_NEVER); break;
    case WITHOUT: x = new_context(cctx_without_cancel(up), kind, parent, 1, CCTX_NEVER); break;
    case ANY:
        for (int i = 0; i < parents; i++) list[i] = ctx_of(parent[i]);
        x = new_context(cctx_with_any(list, (size_t)parents), kind, parent, parents, CCTX_NEVER);
        break;
    case VALUE: {
        /* The value is known before the context is. */
        int k = (int)draw(random, KEYS), reserved = contexts++;
        context[reserved] = (struct context){.kind = VALUE, .key = k, .born = LONG_MAX, .won = -1};
        ctx = cctx_with_value(up, &key[k], &context[reserved]);
        context[reserved].parent[0] = parent[0];
        context[reserved].parents = 1;
        if (!ctx) {
            CHECK(run->settings.no_memory && errno == ENOMEM);
            context[reserved].kind = WITHOUT;
            return -1;
        }
        struct context *c = &context[reserved];
        c->ctx = ctx;
        c->own = CCTX_NEVER;
        c->deadline = parent[0] >= 0 ? context[parent[0]].deadline : CCTX_NEVER;
        c->refs = 1;
        c->born = ++step;
        return reserved;
    }
    case DEADLINE:
    default: {
        static const int64_t distance[] = {-5, 0, 1, 20, 60, 150, 400, 3000, 2000000000, 70000000000};
        int64_t off = distance[draw(random, 10)];
        bool with_cause = draw(random, 3) == 0;
        int64_t own = machine_now() + off;
        ctx = with_cause ? cctx_with_deadline_cause(up, own, &late) : cctx_with_deadline(up, own);
        x = new_context(ctx, kind, parent, 1, own);
        if (x >= 0) context[x].has_cause = with_cause;
        if (x >= 0 && off <= 0) CHECK(cctx_err(ctx) != 0);
    }
    }
    /* Born done below what is done. C3 */
    if (x >= 0 && kind != WITHOUT && ended) CHECK(cctx_err(context[x].ctx) != 0);
    return x;
}

/* ---- cancel */

/* last: the one that others may be waiting for. Of a cancel as from a handler x itself is done when it returns; what is
 * below follows (B2): see finish. */
static void cancel(int x, uint64_t *random, bool last)
{
    struct context *c = &context[x];
    cctx_t *ctx = (cctx_t *)(uintptr_t)c->ctx;
    if (attempts >= ATTEMPTS - SPARE && !last) return;
    int number = attempts++, how = (int)draw(random, last ? 3 : 4);
    bool can = c->kind == CANCEL || c->kind == DEADLINE || c->kind == ANY, won;
    attempt[number].context = can ? x : -1;
    attempt[number].how = how;
    cause[number] = (cctx_cause_t){FIRST_CODE + number, "because"};
    if (can) c->attempted = true;
    long since = attempt[number].since = step;
    if (how == PLAIN) won = cctx_cancel(ctx);
    else if (how == ASYNC) won = cctx_cancel_async(ctx);
    else if (how == CAUSE) won = cctx_cancel_cause(ctx, &cause[number]);
    else won = cctx_cancel_causef(ctx, FIRST_CODE + number, "number %d", number);
    attempt[number].won = won;
    attempt[number].returned = true;
    if (!can) {
        CHECK(!won);
        return;
    }
    CHECK(cctx_err(ctx) != 0);
    if (won) {
        CHECK(c->won < 0);
        c->won = number;
    }
    if (how != ASYNC) check_swept(x, since);
    glance_at_all();
    look(x);
}

/* ---- callbacks */

static void fork_here(struct hands *me);

static void fn(void *arg)
{
    struct hook *h = arg;
    int x = h->context, o = owner(x);
    glance_at_all();
    CHECK(h->state == REGISTERED || h->state == REGISTERING);
    CHECK(h->ran == 0 && h->stopped == 0);
    CHECK(!machine_is_timer());
    /* B2: where no thread can be made for it, what an asynchronous cancel leaves runs in the next call. */
    CHECK(!waits[machine_self()] || run->settings.no_memory);
    h->ran++;
    h->running = true;
    CHECK(o >= 0 && cctx_err(context[o].ctx) != 0);
    if (!(h->state == REGISTERING && h->registrar == machine_self() && !machine_in_child())) {
        /* C28: every descendant is done, every waiter is woken. What was derived after the end began may lag.
         * */
        for (int y = 0; y < contexts; y++) {
            if (context[y].refs <= 0 || context[y].born > context[o].live || !below(y, o)) continue;
            CHECK(cctx_err(context[y].ctx) != 0);
            int w = owner(y);
            CHECK(!machine_asleep_on(done_word(w)));
        }
    }
    int held = h->hand;
    h->hand = -1;
    switch (h->what) {
    case 1: CHECK(!cctx_stop(&h->storage)); break;
    case 2:
        if (held >= 0) cancel(held, &h->random, false);
        break;
    case 3:
        if (held >= 0) {
            int y = derive(CANCEL, &held, 1, &h->random);
            if (y >= 0) close_it(y);
        }
        break;
    case 5:
        if (run->fault == FAULT_FORK) {
            struct hands few = {{held, -1, -1, -1, -1, -1}, h->random, false};
            fork_here(&few);
        }
        break;
    default: break;
    }
    if (held >= 0) let_go(held);
    h->running = false;
    if (h->what == 4) CHECK(!cctx_stop_wait(&h->storage));
}

static void attach(struct hands *me)
{
    int hand = any_hand(me), i = (int)draw(&me->random, HOOKS);
    struct hook *h = &hook[i];
    if (hand < 0 || h->users > 0 || (h->state != UNUSED && h->state != OVER)) return;
    int x = me->held[hand];
    machine_get(h);
    memset(&h->storage, h->state == OVER ? 0xdb : 0, sizeof h->storage);
    *h = (struct hook){
        .storage = h->storage, .state = REGISTERING, .context = x, .registrar = machine_self()};
    h->what = (int)draw(&me->random, 6);
    h->random = draw(&me->random, UINT64_MAX);
    h->hand = -1;
    int other = any_hand(me);
    if (other >= 0 && draw(&me->random, 2)) {
        h->hand = me->held[other];
        cctx_ref(context[h->hand].ctx);
        context[h->hand].refs++;
    }
    int result = cctx_after_func(context[x].ctx, &h->storage, fn, h);
    if (result == 0) {
        h->state = REGISTERED;
        machine_put(h);
        return;
    }
    CHECK((result == ENOMEM || result == EAGAIN) && run->settings.no_memory);
    CHECK(h->ran == 0);
    if (h->hand >= 0) let_go(h->hand);
    machine_put(h);
    h->state = UNUSED;
}

/* A registration is over: its storage is the caller's. */
static void over(struct hook *h)
{
    int held = h->hand;
    h->hand = -1;
    h->state = OVER;
    if (held >= 0 && h->stopped) let_go(held);
}

static void stop(struct hook *h, bool waiting)
{
    if (h->state != REGISTERED) return;
    h->users++;
    unsigned me = machine_self();
    machine_get(h);
    bool won = waiting ? cctx_stop_wait(&h->storage) : cctx_stop(&h->storage);
    h->users--;
    machine_put(h);
    if (won) {
        CHECK(h->stopped == 0 && h->ran == 0);
        h->stopped++;
    }
    if (waiting) CHECK(!h->running);
    /* With users another stop that won has yet to return. */
    if (waiting && !machine_in_child()) CHECK(h->ran + h->stopped == 1 || h->users > 0);
    CHECK(me == machine_self());
    if ((won || waiting) && h->users == 0 && h->state == REGISTERED) over(h);
}

/* ---- waits */

/* Will x end, if nobody else does anything? */
static bool ends_by_itself(int x)
{
    return owner(x) >= 0 && (context[x].deadline != CCTX_NEVER || below(x, 0));
}

static void wait_for(int x, struct hands *by)
{
    struct context *c = &context[x];
    unsigned me = machine_self();
    int64_t until = machine_now() + (int64_t)draw(&by->random, 200) - 3;
    int how = (int)draw(&by->random, 3);
    waits[me] = true;
    if (how == 0 && owner(x) < 0) {
        CHECK(cctx_wait(c->ctx) == EDEADLK);
    } else if (how == 0 && !by->ends && ends_by_itself(x)) {
        int err = cctx_wait(c->ctx);
        CHECK(err != 0 && err == cctx_err(c->ctx));
    } else if (how == 1) {
        const uint32_t *word = cctx_done(c->ctx);
        while (word) {
            uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            if (seen & 1) {
                CHECK(cctx_err(c->ctx) != 0);
                break;
            }
            if (!futex_wait((sync_u32 *)(uintptr_t)word, seen, until)) break;
        }
    } else {
        bool done = cctx_wait_until(c->ctx, until);
        if (done) CHECK(cctx_err(c->ctx) != 0);
        else CHECK(machine_now() >= until);
    }
    waits[me] = false;
    /* C27: a wait that has passed a deadline has seen it fire. */
    if (how != 1 && owner(x) >= 0 && c->deadline <= until && machine_now() >= until)
        CHECK(cctx_err(c->ctx) != 0);
}

static void polls(void)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 3; i++) epoch_poll(t);
    thread_end(t);
}

/* ---- fork */

/* In the child: what is in this thread's hands works, ends, and goes. C23 */
static void live_as_child(struct hands *me)
{
    int own[CONTEXTS];
    bool untouched[HOOKS];
    machine_calm();
    run->settings.no_memory = 0;
    for (int i = 0; i < HOOKS; i++) {
        struct hook *h = &hook[i];
        int o = owner(h->context);
        untouched[i] = h->state == REGISTERED && h->users == 0 && h->ran + h->stopped == 0 && o >= 0 &&
                       cctx_err(context[o].ctx) == 0;
        for (int a = 0; a < attempts; a++)
            if (attempt[a].context >= 0 && below(h->context, attempt[a].context)) untouched[i] = false;
        if (o >= 0 && context[o].deadline <= machine_now()) untouched[i] = false;
    }
    glance_at_all();
    for (int i = 0; i < HANDS; i++) {
        int x = me->held[i];
        own[i] = -1;
        if (x < 0) continue;
        look(x);
        own[i] = derive(CANCEL, &x, 1, &me->random);
        CHECK(own[i] >= 0 || own[i] == -2);
        CHECK(!cctx_wait_until(context[x].ctx, machine_now()) || cctx_err(context[x].ctx) != 0);
    }
    /* Inherited deadlines fire once the child waits. */
    cctx_wait_until(cctx_background(), machine_now() + 100);
    cctx_wait_until(cctx_background(), machine_now() + 10);
    for (int i = 0; i < HANDS; i++)
        if (me->held[i] >= 0 && owner(me->held[i]) >= 0 &&
            context[me->held[i]].deadline <= machine_now() - 10)
            CHECK(cctx_err(context[me->held[i]].ctx) != 0);
    for (int i = 0; i < HANDS; i++)
        if (me->held[i] >= 0) cancel(me->held[i], &me->random, true);
    for (int i = 0; i < HOOKS; i++) {
        struct hook *h = &hook[i];
        if (h->state != REGISTERED) continue;
        for (int k = 0; k < HANDS; k++)
            if (untouched[i] && me->held[k] >= 0 && context[me->held[k]].won >= 0 &&
                below(h->context, me->held[k]))
                CHECK(h->ran == 1);
        bool ran = h->ran > 0, won = cctx_stop_wait(&h->storage);
        CHECK(!won || !ran);
    }
    glance_at_all();
    /* A tree of its own. */
    int root = -1, top = derive(CANCEL, &root, 1, &me->random);
    if (top >= 0) {
        int64_t due = machine_now() + 50;
        int leaf = new_context(cctx_with_deadline(context[top].ctx, due), DEADLINE, &top, 1, due);
        CHECK(leaf >= 0);
        cctx_callback_t mine = {0};
        static struct hook last;
        last = (struct hook){.state = REGISTERED, .context = leaf, .hand = -1};
        CHECK(cctx_after_func(context[leaf].ctx, &mine, fn, &last) == 0);
        CHECK(cctx_wait(context[leaf].ctx) == ETIMEDOUT);
        CHECK(!cctx_stop_wait(&mine) || last.ran == 0);
        let_go(leaf);
        close_it(top);
    }
    for (int i = 0; i < HANDS; i++) {
        if (own[i] >= 0) close_it(own[i]);
        if (me->held[i] >= 0) close_it(me->held[i]);
    }
    polls();
    machine_end_child();
}

static void fork_here(struct hands *me)
{
    int child = machine_fork();
    if (child == 0) live_as_child(me);
    machine_reap(child);
}

/* ---- programs */

static void thread(void *arg);

static void operate(struct hands *me)
{
    uint64_t *r = &me->random;
    int hand = any_hand(me), empty = free_hand(me), x = hand >= 0 ? me->held[hand] : -1, y = -1;
    switch (draw(r, 30)) {
    case 0: case 1: case 2: case 3: case 4: case 5: case 6: case 7:
        if (x < 0 || empty < 0) return;
        {
            static const enum kind kinds[] = {CANCEL, CANCEL,  CANCEL, DEADLINE, DEADLINE,
                                              VALUE,  WITHOUT, ANY,    ANY};
            enum kind kind = kinds[draw(r, 9)];
            int parent[PARENTS] = {x}, parents = 1;
            if (kind == ANY)
                for (; parents < PARENTS && draw(r, 3); parents++) parent[parents] = me->held[any_hand(me)];
            y = derive(kind, parent, parents, r);
            if (y >= 0) me->held[empty] = y;
        }
        return;
    case 8: case 9: case 10:
        if (x > 0 || (x == 0 && draw(r, 3) == 0)) cancel(x, r, false);
        return;
    case 11: case 12:
        if (x < 0 || attempts >= ATTEMPTS - SPARE) return;
        me->held[hand] = -1;
        close_it(x);
        return;
    case 13: case 14: case 15:
        if (x < 0) return;
        me->held[hand] = -1;
        let_go(x);
        return;
    case 16:
        if (x < 0 || empty < 0) return;
        CHECK(cctx_ref(context[x].ctx) == context[x].ctx);
        context[x].refs++;
        me->held[empty] = x;
        return;
    case 17: case 18: case 19: attach(me); return;
    case 20: stop(&hook[draw(r, HOOKS)], false); return;
    case 21: stop(&hook[draw(r, HOOKS)], true); return;
    case 22:
        if (x >= 0) look(x);
        return;
    case 23: case 24:
        if (x >= 0) wait_for(x, me);
        return;
    case 25: case 26: {
        /* A handle goes to whoever takes it. */
        int *place = &box[draw(r, BOX)], swapped = *place;
        if (hand >= 0) {
            machine_get(place);
            *place = x;
            me->held[hand] = swapped;
            machine_put(place);
        }
        return;
    }
    case 27: polls(); return;
    case 28:
        if (x >= 0) {
            char text[200];
            size_t length = cctx_print(context[x].ctx, text, sizeof text);
            CHECK(length > 0 && (length >= sizeof text || strlen(text) == length));
        }
        return;
    default:
        if (run->fault == FAULT_FORK) {
            fork_here(me);
        } else if (threads_left > 0) {
            /* A new thread takes what this one holds. */
            int number = THREADS - --threads_left;
            struct hands *heir = &hands[number];
            for (int i = 0; i < HANDS; i++) heir->held[i] = -1;
            heir->random = draw(r, UINT64_MAX);
            if (hand >= 0) {
                heir->held[0] = x;
                me->held[hand] = -1;
            }
            machine_start("heir", thread, heir);
        }
    }
}

static void thread(void *arg)
{
    struct hands *me = arg;
    unsigned operations = 1 + (unsigned)draw(&me->random, run->operations);
    for (unsigned i = 0; i < operations; i++) {
        operate(me);
        glance_at_all();
    }
    if (me->ends) cancel(0, &me->random, true);
    if (draw(&me->random, 4) == 0) {
        /* Its destructor has run; what other destructors call still works. */
        machine_exit_early();
        operate(me);
        glance_at_all();
    }
    if (draw(&me->random, 2) == 0) return;      /* what it holds is left to others */
    for (int i = 0; i < HANDS; i++) {
        int x = me->held[i];
        if (x < 0) continue;
        me->held[i] = -1;
        if (draw(&me->random, 2)) let_go(x);
        else close_it(x);
    }
}

/* ---- a schedule */

static void give(int i, int x)
{
    int place = free_hand(&hands[i]);
    if (x < 0 || place < 0) return;
    cctx_ref(context[x].ctx);
    context[x].refs++;
    hands[i].held[place] = x;
}

/* A close does not tell whether it won. */
static bool won(int i) { return attempt[i].returned && attempt[i].won; }

static void finish(struct hands *me)
{
    machine_calm();
    /* Whatever deadline the threads could see within their time passes, and nobody looks. C13 */
    int64_t last = machine_now();
    for (int x = 0; x < contexts; x++)
        if (context[x].refs > 0 && context[x].deadline != CCTX_NEVER && context[x].deadline > last)
            last = context[x].deadline;
    cctx_wait_until(cctx_background(), last);
    cctx_wait_until(cctx_background(), last + 1000);
    machine_settle();
    for (int i = 0; i < attempts; i++)
        if (attempt[i].how == ASYNC && attempt[i].context >= 0) check_swept(attempt[i].context, attempt[i].since);
    for (int x = 0; x < contexts; x++)
        if (context[x].refs > 0 && owner(x) >= 0 && context[x].deadline <= last)
            CHECK(cctx_err(context[x].ctx) != 0);
    glance_at_all();
    for (int i = 0; i < HOOKS; i++) {
        struct hook *h = &hook[i];
        if (h->state != REGISTERED) continue;
        int o = owner(h->context);
        if (o >= 0 && h->ran + h->stopped == 0) CHECK(cctx_err(context[o].ctx) == 0);
        stop(h, true);
        CHECK(h->ran + h->stopped == 1);
    }
    for (int i = 0; i <= THREADS; i++)
        for (int k = 0; k < HANDS; k++) {
            int x = hands[i].held[k];
            if (x < 0) continue;
            look(x);
            if (draw(&me->random, 2)) let_go(x);
            else close_it(x);
            hands[i].held[k] = -1;
        }
    for (int i = 0; i < BOX; i++)
        if (box[i] >= 0) let_go(box[i]);
    let_go(0);
    for (int i = 0; i < attempts; i++)
        for (int j = i + 1; j < attempts; j++)
            CHECK(attempt[i].context < 0 || attempt[i].context != attempt[j].context || !won(i) || !won(j));
    machine_end_services();
    for (int i = 0; i < 20 && epoch_limbo() > 0; i++) polls();
    CHECK(epoch_limbo() == 0);
    for (int x = 0; x < contexts; x++) {
        CHECK(context[x].refs == 0);
        if (context[x].kind == VALUE) CHECK(context[x].destroyed == 1);
    }
    machine_check_leaks(node_timer.heap);
}

static void play(void *arg)
{
    (void)arg;
    struct hands *me = &hands[0];
    int root = -1;
    me->random = run->seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < BOX; i++) box[i] = -1;
    for (int i = 0; i <= THREADS; i++)
        for (int k = 0; k < HANDS; k++) hands[i].held[k] = -1;
    unsigned no_memory = run->settings.no_memory;
    machine_allow_memory();
    /* The shared tree: a root that ends, and some below it. */
    int x = derive(CANCEL, &root, 1, &me->random);
    CHECK(x == 0);
    int shared[4] = {0};
    for (int i = 1; i < 4; i++) {
        int parent = shared[draw(&me->random, (uint64_t)i)];
        enum kind kind = draw(&me->random, 4) == 0 ? VALUE : draw(&me->random, 3) == 0 ? DEADLINE : CANCEL;
        shared[i] = derive(kind, &parent, 1, &me->random);
    }
    for (unsigned i = 1; i <= run->threads; i++) {
        hands[i].random = draw(&me->random, UINT64_MAX);
        hands[i].ends = i == 1;
        for (int k = 0; k < 4; k++)
            if (k == 0 || draw(&me->random, 2)) give((int)i, shared[k]);
    }
    for (int i = 1; i < 4; i++) let_go(shared[i]);
    threads_left = THREADS - (int)run->threads;
    machine_forbid_memory(no_memory);
    static const char *const name[] = {"", "one", "two", "three", "four", "five"};
    for (unsigned i = 1; i <= run->threads; i++) machine_start(name[i], thread, &hands[i]);
    machine_join();
    finish(me);
}

static void keep(void *arg)
{
    (void)arg;
    cctx_t *p = cctx_with_cancel(cctx_background()), *few[16];
    static const int64_t distance[] = {100, 200, 2000000000, 70000000000};
    for (int i = 0; i < 16; i++) few[i] = cctx_with_timeout(p, distance[i % 4]);
    cctx_wait_until(cctx_background(), machine_now() + 150);
    for (int i = 0; i < 16; i++) cctx_unref(few[i]);
    cctx_close(p);
    machine_end_services();
    for (int i = 0; i < 20 && epoch_limbo() > 0; i++) polls();
    machine_check_leaks(node_timer.heap);
}

/* ---- the command */

static void tell(FILE *out)
{
    fprintf(out, "programs: schedule %ld, %u threads\n", machine_plays() - 1, run->threads);
    fprintf(out, "again: programs --seed %" PRIu64 " --scheduler %s --fault %s --trace\n", run->seed,
            kind_name[run->settings.kind], fault_name[run->fault]);
}

/* All that a seed stands for. */
static void choose(uint64_t seed, int only_fault, int only_kind, bool trace)
{
    static const unsigned stays[] = {1, 2, 4, 10, 30};
    rng_t rng = rng_make(seed, 7);
    *run = (struct run){.seed = seed};
    uint64_t fault = rng_below(&rng, 40);
    run->fault = fault == 0   ? FAULT_FORK
                 : fault < 14 ? FAULT_NONE
                 : fault < 23 ? FAULT_SPURIOUS
                 : fault < 32 ? FAULT_MEMORY
                              : FAULT_STARVED;
#ifdef FIBER_TSAN
    /* In the child of a fork it takes no more note of what orders what. */
    if (run->fault == FAULT_FORK) run->fault = FAULT_NONE;
#endif
    if (only_fault >= 0) run->fault = (enum fault)only_fault;
    run->threads = 2 + (unsigned)rng_below(&rng, 3);
    run->operations = 3 + (unsigned)rng_below(&rng, 8);
    struct machine_settings *s = &run->settings;
    s->seed = rng_next(&rng);
    s->kind = rng_below(&rng, 2) ? MACHINE_WALK : MACHINE_PCT;
    if (only_kind >= 0) s->kind = (enum machine_kind)only_kind;
    s->stay = stays[rng_below(&rng, 5)];
    s->changes = 1 + (unsigned)rng_below(&rng, 4);
    s->length = 100 + (long)rng_below(&rng, 400) * (long)run->threads;
    s->hurry = rng_below(&rng, 2) ? 20 + (unsigned)rng_below(&rng, 100) : 0;
    s->recycle = rng_below(&rng, 3) == 0;
    s->spurious = run->fault == FAULT_SPURIOUS ? 2 : 0;
    s->no_memory = run->fault == FAULT_MEMORY ? 3 + (unsigned)rng_below(&rng, 20) : 0;
    s->starved = run->fault == FAULT_STARVED;
    s->trace = trace;
}

static int usage(const char *self)
{
    fprintf(stderr,
            "usage: %s [--runs N] [--seed S] [--trace] [--fault none|spurious|memory|starved|fork] "
            "[--scheduler walk|pct]\n"
            "  --seed S   one schedule, that of S; otherwise N of them (20,000) from CCTX_SEED on\n",
            self);
    return 2;
}

static int index_of(const char *word, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (word && strcmp(word, list[i]) == 0) return i;
    return -2;
}

int main(int argc, char **argv)
{
    bool trace = false, one = false;
    long runs = 20000;
    uint64_t seed = 0;
    int fault = -1, kind = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) trace = true;
        else if (i + 1 == argc) return usage(argv[0]);
        else if (strcmp(argv[i], "--runs") == 0) runs = strtol(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[++i], NULL, 0), one = true, runs = 1;
        else if (strcmp(argv[i], "--fault") == 0) fault = index_of(argv[++i], fault_name, FAULTS);
        else if (strcmp(argv[i], "--scheduler") == 0) kind = index_of(argv[++i], kind_name, 3);
        else return usage(argv[0]);
    }
    if (fault == -2 || kind == -2 || kind == 0 || runs < 1) return usage(argv[0]);
    if (!one) seed = test_seed() << 16;
    run = mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(run != MAP_FAILED);
    machine_open();
    choose(0, FAULT_NONE, -1, false);
    machine_play(&run->settings, keep, NULL);
    machine_tell(tell);
    for (long i = 0; i < runs; i++) {
        choose(seed + (uint64_t)i, fault, kind, trace);
        machine_play(&run->settings, play, NULL);
    }
    printf("%ld schedules, %ld points, %ld forks\n", machine_plays() - 1, machine_all_points(),
           machine_forks());
    return 0;
}
