/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything at once on one shared forest, in the manner of rcutorture: readers hold references and look at
 * canaries that are poisoned when they die, so a reclamation that comes too early is seen, and each claim of
 * the contract that can be checked from outside is checked at each operation.
 *
 *   forest       slots from which any thread takes a reference and into which it puts what it derived
 *   workers      do one operation after another, live for some hundreds of them, and are replaced; some go
 *                on to use the library from the destructor of a thread key, after the library's own one ran
 *   reaper       cancels what waiters without a time limit wait for: a wake that is lost is a stall
 *   forker       forks; the child cancels, derives, waits, frees, and exits
 *   signaler     interrupts workers, by handlers with SA_RESTART and without, that look at a context
 *   allocator    fails by chance for a while each second; poisons what is freed, keeps it, and looks whether
 *                it was written (in the build "direct", where each cell is an allocation of its own)
 *   points       in the build "direct" also before each atomic operation of the library (SYNC_SEEDED, with
 *                points/seeded.h): a spin, or a yield
 *   monitor      the main thread: replaces workers, bounds memory, limbo and progress, and reports
 *
 * A seed replays the choices of each thread, not the order in which the machine runs them.
 */
#include "support.h"

#include <sched.h>
#include <semaphore.h>

#include "epoch.h"

enum {
    SLOTS = 96, /* of the forest; the first ROOTS are derived from roots alone */
    ROOTS = 8,
    CRADLE = 16, /* slots of children without a parent's handle */
    DEPTH_MAX = 10,
    LEGS = 3,  /* parents of a merged context at most */
    KEYS = 20, /* more than an array of values holds */
    CAUSES = 8,
    SPOTS = 48, /* shared storages for callbacks */
    HUBS = 4,   /* contexts that get many callbacks */
    POSTS = 32, /* contexts that wait for the reaper */
    WORKERS_MAX = 64,
    BESIDE = 3, /* threads beside the workers: reaper, forker, signaler */
    CANARIES = 1 << 16,
    ELEMENTS = 4096, /* that pass through epoch sections */
    AGES = 8,
    KEPT = 1 << 14, /* freed blocks that are kept poisoned */
    STALL_S = 30
};

#define ALIVE UINT64_C(0xa11ce0fa11ce0fa1)
#define DEAD UINT64_C(0xdeadbeefdeadbeef)
#define POISON 0xdb

static struct options {
    unsigned workers;
    int64_t end;
    bool forks, cells;
} options;

static uint64_t seed;
static bool stopping;
static bool in_child; /* a forked child, which has one thread and no pools */

/* ---- operations, counted by name ---- */

/* clang-format off */
#define OPERATIONS(O) \
    O(derive) O(derive_wide) O(derive_deep) O(orphans) O(look) O(print) O(cancel) O(cancel_family) O(close) \
    O(wait) O(wait_deadline) O(wait_tick) O(rendezvous) O(callback_renew) O(callback_stop) O(callback_give) \
    O(epoch_read) O(epoch_update) O(replace_root) O(migrate) O(epilogue) O(fork) O(reap) O(signal) O(probe) \
    O(no_memory)
/* clang-format on */
enum operation {
#define O(name) OP_##name,
    OPERATIONS(O)
#undef O
        OP_COUNT
};
static const char *const op_name[] = {
#define O(name) #name,
    OPERATIONS(O)
#undef O
};

struct worker {
    pthread_t thread;
    rng_t rng;
    unsigned index;
    bool running, exited; /* running: the monitor's; exited: set by the thread at its end */
    uint64_t beats;       /* operations begun */
    enum operation op;
    uint64_t beats_seen; /* with since: the monitor's */
    int64_t since;
    uint64_t count[OP_COUNT];
    const cctx_t *held; /* what a signal handler may look at */
    bool calm;          /* it sleeps, and a signal would make up for a wake that is lost */
};
static struct worker workers[WORKERS_MAX + BESIDE];
static _Thread_local struct worker *me;
static pthread_mutex_t workers_mutex = PTHREAD_MUTEX_INITIALIZER; /* to join and to signal a thread */
static uint64_t totals[OP_COUNT];
static uint64_t threads_started;
static pthread_key_t epilogue_key;

static uint64_t below(uint64_t n)
{
    return rng_below(&me->rng, n);
}

static void begin(enum operation op)
{
    __atomic_store_n(&me->op, op, __ATOMIC_RELAXED);
    __atomic_add_fetch(&me->beats, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&me->count[op], 1, __ATOMIC_RELAXED);
}

static void line_out(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ssize_t written = write(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    (void)written;
}

static void crashed(int sig)
{
    line_out("torture: FAILED: signal %d in %s%s (--seed %" PRIu64 ")\n", sig,
             me ? op_name[me->op] : "another thread", in_child ? ", in a forked child" : "", seed);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void spin(uint64_t turns)
{
    for (volatile uint64_t i = 0; i < turns; i++) {
    }
}

static void delay(void)
{
    uint64_t r = rng_next(&me->rng);
    if ((r & 7) == 0)
        sched_yield();
    else
        spin(r >> 8 & 511);
}

#ifdef SYNC_SEEDED
/* Makes the windows between two atomic operations wide, in any thread. */
void sched_point(const char *function, int line)
{
    static _Thread_local uint64_t state;
    (void)function;
    (void)line;
    if (state == 0)
        state = seed ^ (uintptr_t)&state;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    uint64_t r = state * 0x2545f4914f6cdd1du >> 20;
    if (r & 63)
        return;
    r >>= 6;
    if ((r & 127) == 0) {
        /* Long enough for others to free and to poll, and no longer where many programs share the CPUs. */
        for (int64_t until = now_ns() + CCTX_US(200); now_ns() < until;)
            sched_yield();
    } else if ((r & 15) == 0) {
        sched_yield();
    } else {
        spin(r >> 11 & 511);
    }
}
#endif

typedef struct lock {
    uint32_t taken;
} lock_t;
static void lock(lock_t *l)
{
    while (__atomic_exchange_n(&l->taken, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}
static void unlock(lock_t *l)
{
    __atomic_store_n(&l->taken, 0, __ATOMIC_RELEASE);
}

/* ---- the allocator ---- */

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_posix_memalign(void **p, size_t align, size_t size);
void __real_free(void *p);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_posix_memalign(void **p, size_t align, size_t size);
void __wrap_free(void *p);

static uint32_t fail_one_in; /* 0: none */
static uint64_t alloc_turn, alloc_failed;
static size_t bytes_in_use;
static void *kept[KEPT];
static uint64_t kept_turn;

static bool alloc_fails(void)
{
    uint32_t n = __atomic_load_n(&fail_one_in, __ATOMIC_RELAXED);
    if (n == 0)
        return false;
    uint64_t z = __atomic_add_fetch(&alloc_turn, 1, __ATOMIC_RELAXED) * 0x9e3779b97f4a7c15u ^ seed;
    if ((z ^ z >> 29) * 0xbf58476d1ce4e5b9u % 1024 * n >= 1024)
        return false;
    __atomic_add_fetch(&alloc_failed, 1, __ATOMIC_RELAXED);
    return true;
}

static void *alloc_counted(void *p)
{
    if (p)
        __atomic_add_fetch(&bytes_in_use, malloc_usable_size(p), __ATOMIC_RELAXED);
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : alloc_counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
    if (alloc_fails())
        return NULL;
    size_t old = p ? malloc_usable_size(p) : 0;
    void *q = __real_realloc(p, size);
    if (q)
        __atomic_sub_fetch(&bytes_in_use, old, __ATOMIC_RELAXED);
    return alloc_counted(q);
}

int __wrap_posix_memalign(void **p, size_t align, size_t size)
{
    if (alloc_fails())
        return ENOMEM;
    int err = __real_posix_memalign(p, align, size);
    if (err == 0)
        alloc_counted(*p);
    return err;
}

void __wrap_free(void *p)
{
    if (!p)
        return;
    size_t size = malloc_usable_size(p);
    __atomic_sub_fetch(&bytes_in_use, size, __ATOMIC_RELAXED);
    if (TEST_SANITIZED || options.cells) {
        __real_free(p);
        return;
    }
    memset(p, POISON, size);
    uint64_t i = __atomic_fetch_add(&kept_turn, 1, __ATOMIC_RELAXED) % KEPT;
    unsigned char *old = __atomic_exchange_n(&kept[i], p, __ATOMIC_ACQ_REL);
    if (!old)
        return;
    for (size_t k = 0, n = malloc_usable_size(old); k < n; k++)
        CHECK(old[k] == POISON && "written after it was freed");
    __real_free(old);
}

/* ---- canaries: the values ---- */

struct canary {
    volatile uint64_t magic; /* plain for ThreadSanitizer: what orders it is the library */
    volatile unsigned key;
    struct canary *next;
};
static struct canary canaries[CANARIES];
static struct canary *canary_first, *canary_last; /* a queue: who died last is used again last */
static lock_t canary_lock;
static uint64_t canaries_made, canaries_left, canary_ages[2];

static void canary_back(struct canary *c)
{
    if (in_child)
        return;
    lock(&canary_lock);
    c->next = NULL;
    if (canary_last)
        canary_last->next = c;
    else
        canary_first = c;
    canary_last = c;
    unlock(&canary_lock);
}

static void canary_destroy(void *value)
{
    struct canary *c = value;
    CHECK(c >= canaries && c < canaries + CANARIES);
    CHECK(c->magic == ALIVE && "a value is destroyed once");
    c->magic = DEAD;
    c->key = KEYS;
    __atomic_sub_fetch(&canaries_left, 1, __ATOMIC_RELEASE);
    canary_back(c);
}

static struct canary *canary_make(unsigned key)
{
    lock(&canary_lock);
    struct canary *c = canary_first;
    CHECK(c != NULL); /* there are more of them than the forest can hold */
    canary_first = c->next;
    if (!canary_first)
        canary_last = NULL;
    unlock(&canary_lock);
    c->magic = ALIVE;
    c->key = key;
    __atomic_add_fetch(&canaries_made, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&canaries_left, 1, __ATOMIC_RELAXED);
    return c;
}

static void canary_look(const struct canary *c, unsigned key)
{
    if (!c)
        return;
    bool dead = c->magic != ALIVE;
    __atomic_add_fetch(&canary_ages[dead], 1, __ATOMIC_RELAXED);
    CHECK(!dead && "a value is alive while a context is held that has it");
    CHECK(c->key == key);
}

static const cctx_key_t keys[KEYS] = {
#define KEY {"key", canary_destroy}
    KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY,
    KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY
#undef KEY
};

/* ---- what is known of a context ---- */

enum kind { ROOT, CANCEL, DEADLINE, VALUE, WITHOUT, ANY };

struct facts {
    uint64_t magic;
    uint32_t refs; /* of handles, and of the facts of children */
    enum kind kind;
    unsigned depth, legs;
    const cctx_t *ctx; /* valid while a handle of it or of a descendant is held */
    struct facts *parent[LEGS];
    struct facts *owner; /* whose end is its own; NULL: it has none */
    int64_t deadline;    /* effective */
    bool ends_alone;     /* it may end without its parent: by a deadline of its own, or a further parent */
    uint32_t attempts;   /* somebody is about to cancel it */
    uint32_t wins;
    int err;                   /* 0, or as first seen */
    const cctx_cause_t *cause; /* NULL, or as first seen */
};
static struct facts background_facts = {.magic = ALIVE, .kind = ROOT, .deadline = CCTX_NEVER};
static uint64_t facts_alive;

typedef struct handle {
    const cctx_t *ctx;
    struct facts *facts;
} handle_t;
static const handle_t nothing;

static void facts_unref(struct facts *f)
{
    struct facts *todo[64];
    unsigned n = 0;
    todo[n++] = f;
    while (n > 0) {
        f = todo[--n];
        if (f == &background_facts || __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0)
            continue;
        for (unsigned i = 0; i < f->legs; i++)
            todo[n++] = f->parent[i];
        f->magic = DEAD;
        __atomic_sub_fetch(&facts_alive, 1, __ATOMIC_RELAXED);
        __real_free(f);
    }
}

static handle_t hold(handle_t h)
{
    CHECK(h.facts->magic == ALIVE);
    cctx_ref(h.ctx);
    if (h.facts != &background_facts)
        __atomic_add_fetch(&h.facts->refs, 1, __ATOMIC_RELAXED);
    return h;
}

static void drop(handle_t h)
{
    if (!h.ctx)
        return;
    cctx_unref(h.ctx);
    facts_unref(h.facts);
}

static bool can_cancel(handle_t h)
{
    return h.facts->kind == CANCEL || h.facts->kind == DEADLINE || h.facts->kind == ANY;
}

/* Is f x, or derived from it with x's end? */
static bool is_below(const struct facts *f, const struct facts *x)
{
    for (;;) {
        if (f == x)
            return true;
        if (f->kind == ROOT || f->kind == WITHOUT)
            return false;
        for (unsigned i = 1; i < f->legs; i++)
            if (is_below(f->parent[i], x))
                return true;
        f = f->parent[0];
    }
}

/* ---- causes ---- */

static const cctx_cause_t causes[CAUSES] = {{100, "cause 100"}, {101, "cause 101"}, {102, "cause 102"},
                                            {103, "cause 103"}, {104, "cause 104"}, {105, "cause 105"},
                                            {106, "cause 106"}, {107, "cause 107"}};

static void cause_check(const cctx_cause_t *cause)
{
    char text[32];
    CHECK(cause != NULL);
    if (cause == &cctx_canceled || cause == &cctx_deadline_exceeded)
        return;
    if (cause >= causes && cause < causes + CAUSES)
        return;
    if (cause->code == ENOMEM)
        snprintf(text, sizeof text, "out of memory");
    else
        snprintf(text, sizeof text, "formatted %d", cause->code);
    CHECK(strcmp(cause->text, text) == 0);
}

/* The first who sees an end notes it; all others must see the same. */
static void note_end(struct facts *f, int err, const cctx_cause_t *cause)
{
    int no_error = 0;
    const cctx_cause_t *no_cause = NULL;
    CHECK(err == ECANCELED || err == ETIMEDOUT);
    if (!__atomic_compare_exchange_n(&f->err, &no_error, err, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        CHECK(no_error == err && "an error never changes");
    if (!__atomic_compare_exchange_n(&f->cause, &no_cause, cause, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        CHECK(no_cause == cause && "a cause never changes");
    if (err == ETIMEDOUT) {
        CHECK(f->deadline != CCTX_NEVER);
        CHECK(cctx_now() >= f->deadline && "a deadline never fires early");
    }
}

/* Looks at all that can be seen of a context, and of those above it that ended it. */
static void look(handle_t h)
{
    struct facts *f = h.facts;
    CHECK(f->magic == ALIVE);
    me->held = h.ctx;
    int64_t deadline = 0;
    CHECK(cctx_deadline(h.ctx, &deadline) == (f->deadline != CCTX_NEVER));
    CHECK(f->deadline == CCTX_NEVER || deadline == f->deadline);
    unsigned key = (unsigned)below(KEYS);
    canary_look(cctx_value(h.ctx, &keys[key]), key);
    int err = cctx_err(h.ctx);
    const cctx_cause_t *cause = cctx_cause(h.ctx);
    if (!f->owner) {
        CHECK(err == 0 && cause == NULL);
        CHECK(cctx_done(h.ctx) == NULL && cctx_wait(h.ctx) == EDEADLK);
    } else if (err != 0) {
        cause_check(cause);
        note_end(f->owner, err, cause);
        CHECK(cctx_is_done(h.ctx) && cctx_err(h.ctx) == err);
        CHECK(cctx_remaining(h.ctx) == 0 && cctx_wait(h.ctx) == err && cctx_wait_for(h.ctx, 0));
        /* Who nobody tried to cancel, and has no end of its own, ended by its parent, and so on (C4). */
        for (f = f->owner; !f->ends_alone && __atomic_load_n(&f->attempts, __ATOMIC_ACQUIRE) == 0;
             f = f->parent[0]->owner) {
            CHECK(f->parent[0]->owner != NULL && "who has no end of its own and lives below a root is live");
            const cctx_t *up = f->parent[0]->owner->ctx;
            CHECK(cctx_err(up) == err && "who sees a descendant done sees its ancestor done");
            CHECK(cctx_cause(up) == cause);
        }
    }
    me->held = NULL;
}

/* ---- the forest ---- */

static struct slot {
    lock_t lock;
    handle_t handle;
} forest[SLOTS], cradle[CRADLE];

static handle_t take(void)
{
    struct slot *s = &forest[below(SLOTS)];
    handle_t h = {cctx_background(), &background_facts};
    lock(&s->lock);
    if (s->handle.ctx)
        h = hold(s->handle);
    unlock(&s->lock);
    return h;
}

static void dispose(handle_t h)
{
    if (!h.ctx)
        return;
    unsigned how = (unsigned)below(4);
    if (how == 0 && can_cancel(h)) {
        __atomic_add_fetch(&h.facts->attempts, 1, __ATOMIC_RELEASE);
        cctx_close((cctx_t *)(uintptr_t)h.ctx);
        facts_unref(h.facts);
        return;
    }
    drop(h);
}

static void put_into(struct slot *s, handle_t h)
{
    lock(&s->lock);
    handle_t old = s->handle;
    s->handle = h;
    unlock(&s->lock);
    dispose(old);
}
static void put(handle_t h)
{
    put_into(&forest[ROOTS + below(SLOTS - ROOTS)], h);
}

/* ---- derive ---- */

static int64_t some_deadline(int64_t now)
{
    switch (below(16)) {
    case 0:
        return now - (int64_t)below(1000);
    case 1:
        return CCTX_NEVER;
    case 2:
        return now + CCTX_S(3600 + (int64_t)below(100));
    case 3:
    case 4:
        return now + CCTX_MS(10) + (int64_t)below((uint64_t)CCTX_MS(300));
    case 5:
    case 6:
    case 7:
        return (now / CCTX_MS(1) + 1 + (int64_t)below(4)) * CCTX_MS(1); /* the same for many */
    default:
        return now + 1000 + (int64_t)below((uint64_t)CCTX_MS(3));
    }
}

static handle_t derived(const cctx_t *ctx, enum kind kind, const handle_t *parents, unsigned legs,
                        int64_t deadline)
{
    if (!ctx) {
        CHECK(errno == ENOMEM || errno == EAGAIN);
        __atomic_add_fetch(&me->count[OP_no_memory], 1, __ATOMIC_RELAXED);
        return nothing;
    }
    struct facts *f = __real_calloc(1, sizeof *f);
    CHECK(f != NULL);
    *f = (struct facts){
        .magic = ALIVE, .refs = 1, .kind = kind, .legs = legs, .ctx = ctx, .deadline = deadline};
    for (unsigned i = 0; i < legs; i++) {
        f->parent[i] = parents[i].facts;
        if (f->parent[i] != &background_facts)
            __atomic_add_fetch(&f->parent[i]->refs, 1, __ATOMIC_RELAXED);
        if (f->parent[i]->depth >= f->depth)
            f->depth = f->parent[i]->depth + 1;
    }
    f->owner = kind == VALUE ? f->parent[0]->owner : kind == WITHOUT ? NULL : f;
    f->ends_alone = kind == ANY || (kind == DEADLINE && deadline < f->parent[0]->deadline);
    __atomic_add_fetch(&facts_alive, 1, __ATOMIC_RELAXED);
    return (handle_t){ctx, f};
}

static handle_t derive_value(handle_t parent)
{
    unsigned key = (unsigned)below(KEYS), other = (unsigned)below(KEYS);
    struct canary *c = canary_make(key);
    const cctx_t *ctx = cctx_with_value(parent.ctx, &keys[key], c);
    if (!ctx)
        canary_destroy(c); /* still ours */
    handle_t h = derived(ctx, VALUE, &parent, 1, parent.facts->deadline);
    if (ctx) {
        CHECK(cctx_value(ctx, &keys[key]) == c);
        CHECK(other == key || cctx_value(ctx, &keys[other]) == cctx_value(parent.ctx, &keys[other]));
        CHECK(cctx_done(ctx) == cctx_done(parent.ctx));
    }
    return h;
}

static handle_t derive_any(handle_t first)
{
    handle_t parents[LEGS] = {first};
    const cctx_t *list[LEGS] = {first.ctx};
    unsigned n = 1 + (unsigned)below(LEGS);
    int64_t deadline = first.facts->deadline;
    bool done = cctx_is_done(first.ctx);
    for (unsigned i = 1; i < n; i++) {
        handle_t h = take();
        if (h.facts->depth >= DEPTH_MAX) {
            drop(h);
            h = (handle_t){cctx_background(), &background_facts};
        }
        parents[i] = h;
        list[i] = h.ctx;
        done = done || cctx_is_done(h.ctx);
        if (h.facts->deadline < deadline)
            deadline = h.facts->deadline;
    }
    handle_t h = derived(cctx_with_any(list, n), ANY, parents, n, deadline);
    CHECK(!h.ctx || !done || cctx_is_done(h.ctx));
    for (unsigned i = 1; i < n; i++)
        drop(parents[i]);
    return h;
}

static handle_t derive(handle_t parent)
{
    if (parent.facts->depth >= DEPTH_MAX)
        return nothing;
    int err = cctx_err(parent.ctx);
    const cctx_cause_t *cause = cctx_cause(parent.ctx);
    handle_t h;
    switch (below(10)) {
    case 0:
        h = derived(cctx_without_cancel(parent.ctx), WITHOUT, &parent, 1, CCTX_NEVER);
        break;
    case 1:
        return derive_any(parent);
    case 2:
    case 3:
        h = derive_value(parent);
        break;
    case 4:
    case 5:
    case 6: {
        int64_t now = cctx_now(), deadline = some_deadline(now);
        const cctx_cause_t *own = below(3) == 0 ? &causes[below(CAUSES)] : NULL;
        int64_t effective = deadline < parent.facts->deadline ? deadline : parent.facts->deadline;
        h = derived(cctx_with_deadline_cause(parent.ctx, deadline, own), DEADLINE, &parent, 1, effective);
        /* A deadline that has passed ends it alone, even if its parent's is as early (C12). */
        if (h.ctx && deadline <= cctx_now())
            h.facts->ends_alone = true;
        if (h.ctx && deadline <= now)
            CHECK(cctx_is_done(h.ctx));
        if (h.ctx && deadline == effective && deadline != CCTX_NEVER && cctx_err(h.ctx) == ETIMEDOUT &&
            err == 0 && own && !cctx_is_done(parent.ctx))
            CHECK(cctx_cause(h.ctx) == own);
        break;
    }
    default:
        h = derived(cctx_with_cancel(parent.ctx), CANCEL, &parent, 1, parent.facts->deadline);
        break;
    }
    if (h.ctx && err != 0 &&
        h.facts->kind != WITHOUT) { /* born done, with its parent's error and cause (C3) */
        CHECK(cctx_err(h.ctx) == err);
        CHECK(cctx_cause(h.ctx) == cctx_cause(parent.ctx) && (cause == NULL || cctx_cause(h.ctx) == cause));
    }
    return h;
}

/* ---- cancel ---- */

static void cancel(handle_t h)
{
    cctx_t *ctx = (cctx_t *)(uintptr_t)h.ctx;
    const cctx_cause_t *given = NULL;
    int code = 0;
    bool won;
    __atomic_add_fetch(&h.facts->attempts, 1, __ATOMIC_RELEASE);
    switch (below(3)) {
    case 0:
        won = cctx_cancel(ctx);
        given = &cctx_canceled;
        break;
    case 1:
        given = &causes[below(CAUSES)];
        won = cctx_cancel_cause(ctx, given);
        break;
    default:
        code = 200 + (int)below(1000);
        won = cctx_cancel_causef(ctx, code, "formatted %d", code);
        break;
    }
    if (!can_cancel(h)) {
        CHECK(!won);
        return;
    }
    CHECK(cctx_err(ctx) != 0);
    if (!won)
        return;
    const cctx_cause_t *cause = cctx_cause(ctx);
    CHECK(__atomic_add_fetch(&h.facts->wins, 1, __ATOMIC_ACQ_REL) == 1 && "one cancel wins");
    CHECK(cctx_err(ctx) == ECANCELED);
    CHECK(given ? cause == given : cause->code == code || cause->code == ENOMEM);
    cause_check(cause);
    note_end(h.facts, ECANCELED, cause);
}

static handle_t take_cancelable(void)
{
    handle_t h = take();
    while (!can_cancel(h)) {
        drop(h);
        h = take();
        if (h.facts != &background_facts || below(8) != 0)
            continue;
        drop(h);
        return nothing;
    }
    return h;
}

/* When a cancel has returned, whoever was derived before is done (C3), in a forked child, too. */
static void cancel_family(handle_t top, handle_t *family, unsigned n)
{
    delay();
    cancel(top);
    for (unsigned i = 0; i < n; i++)
        if (family[i].ctx && is_below(family[i].facts, top.facts)) {
            CHECK(cctx_is_done(family[i].ctx) &&
                  "when a cancel returns, all that was derived before is done");
            look(family[i]);
        }
}

/* ---- workers' operations ---- */

static void op_derive(void)
{
    handle_t parent = take(), h = derive(parent);
    if (below(4) == 0)
        look(parent);
    drop(parent);
    if (h.ctx)
        put(h);
}

static void op_derive_wide(void)
{
    handle_t parent = take(), h[128];
    unsigned n = 1 + (unsigned)below(128);
    for (unsigned i = 0; i < n; i++)
        h[i] = parent.facts->depth < DEPTH_MAX ? derive(parent) : nothing;
    drop(parent);
    for (unsigned i = 0; i < n; i++)
        dispose(h[i]);
}

static void op_derive_deep(void)
{
    handle_t at = take();
    while (at.facts->depth < DEPTH_MAX) {
        handle_t h = derive(at);
        if (!h.ctx)
            break;
        if (below(4) == 0)
            put(at);
        else
            drop(at);
        at = h;
    }
    look(at);
    put(at);
}

/* A family whose parent has no handle; whoever comes drops its children, and the last one buries it. */
static void op_orphans(void)
{
    handle_t above = take(), parent = above.facts->depth + 1 < DEPTH_MAX ? derive(above) : nothing;
    drop(above);
    if (!parent.ctx)
        return;
    for (uint64_t n = 3 + below(14); n > 0; n--) {
        struct slot *s = &cradle[below(CRADLE)];
        handle_t h = derive(parent);
        lock(&s->lock);
        handle_t old = s->handle;
        s->handle = h;
        unlock(&s->lock);
        drop(old);
    }
    drop(parent);
}

static void op_look(void)
{
    handle_t h = take();
    look(h);
    delay();
    look(h);
    drop(h);
}

static void op_print(void)
{
    char text[1024];
    handle_t h = take();
    size_t n = cctx_print(h.ctx, text, sizeof text);
    CHECK(n < sizeof text && strlen(text) <= n && strncmp(text, "cctx.", 5) == 0);
    drop(h);
}

static void op_cancel(void)
{
    handle_t h = take();
    if (below(3) == 0 || h.facts->depth > 2)
        cancel(h);
    look(h);
    drop(h);
}

static void op_cancel_family(void)
{
    handle_t top = take_cancelable(), family[12];
    if (!top.ctx)
        return;
    unsigned n = 0;
    for (; n < 4; n++)
        family[n] = take();
    for (; n < 12; n++) {
        handle_t parent = below(3) == 0 ? top : family[below(n)];
        family[n] = derive(parent.ctx ? parent : top);
    }
    if (below(4) == 0)
        put(hold(top));
    cancel_family(top, family, n);
    for (unsigned i = 0; i < n; i++)
        drop(family[i]);
    drop(top);
}

static void op_close(void)
{
    handle_t parent = take(), h = derive(parent);
    if (h.ctx && can_cancel(h)) {
        __atomic_add_fetch(&h.facts->attempts, 1, __ATOMIC_RELEASE);
        if (below(2) == 0)
            put(hold(h));
        cctx_close((cctx_t *)(uintptr_t)h.ctx);
        facts_unref(h.facts);
    } else {
        drop(h);
    }
    drop(parent);
}

static long futex_wait_private(const uint32_t *word, uint32_t seen, const struct timespec *relative)
{
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, relative, NULL, 0);
}

static void op_wait(void)
{
    handle_t h = take();
    int64_t time = (int64_t)below((uint64_t)CCTX_US(400)), began = cctx_now();
    const uint32_t *word;
    bool done = false;
    switch (below(3)) {
    case 0:
        done = cctx_wait_for(h.ctx, time);
        break;
    case 1:
        done = cctx_wait_until(h.ctx, time_add(began, time));
        break;
    default:
        if ((word = cctx_done(h.ctx)) != NULL) {
            struct timespec t = {0, (long)time};
            uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            if ((seen & 1) == 0)
                futex_wait_private(word, seen, &t);
            CHECK(cctx_done(h.ctx) == word);
        }
        time = 0;
    }
    if (done)
        CHECK(cctx_is_done(h.ctx));
    else
        CHECK(cctx_now() >= began + time && "a wait is never over early");
    look(h);
    drop(h);
}

static int64_t late_max;

static void note_late(int64_t deadline)
{
    int64_t late = cctx_now() - deadline, seen = __atomic_load_n(&late_max, __ATOMIC_RELAXED);
    while (late > seen &&
           !__atomic_compare_exchange_n(&late_max, &seen, late, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

static void wait_for_ever(const cctx_t *ctx)
{
    const uint32_t *word = NULL;
    /* In a forked child inherited deadlines fire once the library waits, not by a futex of one's own. */
    __atomic_store_n(&me->calm, below(2) == 0, __ATOMIC_RELAXED);
    switch (below(in_child ? 2 : 3)) {
    case 0:
        CHECK(cctx_wait(ctx) == cctx_err(ctx));
        break;
    case 1:
        CHECK(cctx_wait_until(ctx, CCTX_NEVER));
        break;
    default:
        word = cctx_done(ctx);
        for (uint32_t seen; ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1) == 0;)
            futex_wait_private(word, seen, NULL);
    }
    __atomic_store_n(&me->calm, false, __ATOMIC_RELAXED);
    CHECK(cctx_is_done(ctx));
}

static void op_wait_deadline(void)
{
    handle_t parent = take();
    int64_t deadline = cctx_now() + (int64_t)below((uint64_t)CCTX_MS(2));
    int64_t effective = deadline < parent.facts->deadline ? deadline : parent.facts->deadline;
    handle_t h = nothing;
    if (parent.facts->depth < DEPTH_MAX)
        h = derived(cctx_with_deadline(parent.ctx, deadline), DEADLINE, &parent, 1, effective);
    if (h.ctx) {
        h.facts->ends_alone = true;
        wait_for_ever(h.ctx);
        if (cctx_cause(h.ctx) == &cctx_deadline_exceeded)
            note_late(effective);
        look(h);
        drop(h);
    }
    drop(parent);
}

/* Many deadlines at one time, of which some are dropped before. */
static void op_wait_tick(void)
{
    enum { MANY = 100 };
    handle_t parent = take(), h[MANY];
    int64_t at = (cctx_now() / CCTX_MS(1) + 2) * CCTX_MS(1);
    int64_t effective = at < parent.facts->deadline ? at : parent.facts->deadline;
    for (unsigned i = 0; i < MANY; i++) {
        h[i] = nothing;
        if (parent.facts->depth < DEPTH_MAX)
            h[i] = derived(cctx_with_deadline(parent.ctx, at), DEADLINE, &parent, 1, effective);
        if (h[i].ctx)
            h[i].facts->ends_alone = true;
    }
    for (unsigned i = 0; i < MANY; i += 1 + (unsigned)below(4)) {
        dispose(h[i]);
        h[i] = nothing;
    }
    for (unsigned i = 0; i < MANY; i++)
        if (h[i].ctx) {
            wait_for_ever(h[i].ctx);
            look(h[i]);
            drop(h[i]);
        }
    drop(parent);
}

/* ---- the reaper ---- */

static cctx_t *posts[POSTS]; /* each with a reference and, in facts, an attempt */
static sem_t posted;
static bool reaper_stops; /* nobody posts any more */

static void post(cctx_t *ctx)
{
    for (unsigned i = 0; i < POSTS; i++) {
        cctx_t *none = NULL;
        if (__atomic_compare_exchange_n(&posts[i], &none, ctx, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            sem_post(&posted);
            return;
        }
    }
    cctx_close(ctx);
}

static void reap(void)
{
    for (unsigned i = 0; i < POSTS; i++) {
        cctx_t *ctx = __atomic_exchange_n(&posts[i], NULL, __ATOMIC_ACQ_REL);
        if (!ctx)
            continue;
        begin(OP_reap);
        delay();
        if (below(2) == 0)
            cctx_cancel_cause(ctx, &causes[below(CAUSES)]);
        cctx_cancel(ctx);
        cctx_unref(ctx);
        struct thread *t = thread_begin();
        for (int k = 0; k < 4; k++)
            epoch_poll(t); /* memory goes as soon as it may */
        thread_end(t);
    }
}

static void *reaper_main(void *arg)
{
    me = arg;
    while (!__atomic_load_n(&reaper_stops, __ATOMIC_ACQUIRE)) {
        while (sem_wait(&posted) != 0) {
        }
        reap();
    }
    reap();
    return NULL;
}

/* Waits without a limit on a context below one that the reaper ends. */
static void op_rendezvous(void)
{
    handle_t parent = take();
    if (parent.facts->depth + 4 > DEPTH_MAX) {
        drop(parent);
        return;
    }
    handle_t top = derived(cctx_with_cancel(parent.ctx), CANCEL, &parent, 1, parent.facts->deadline),
             at = nothing;
    drop(parent);
    if (!top.ctx)
        return;
    for (at = hold(top); at.facts->owner && at.facts->depth < top.facts->depth + 3 && below(3) != 0;) {
        handle_t h = derive(at);
        if (!h.ctx)
            break;
        drop(at);
        at = h;
    }
    __atomic_add_fetch(&top.facts->attempts, 1, __ATOMIC_RELEASE);
    post((cctx_t *)(uintptr_t)cctx_ref(top.ctx));
    if (at.facts->owner && is_below(at.facts, top.facts))
        wait_for_ever(at.ctx);
    look(at);
    drop(at);
    drop(top);
}

/* ---- callbacks ---- */

static struct spot {
    int32_t users;   /* those who may stop it; -1: one has it alone, to register it or to look at it */
    bool registered; /* changed by who has it alone */
    bool filled;     /* with a pattern that nobody may change */
    cctx_callback_t cb;
    handle_t on, under[2]; /* on: none, if the registration alone keeps it; under: derived from it before */
    uint32_t runs, running, stops;
    pthread_t registrar; /* inside of cctx_after_func; else: in_call is false */
    bool in_call;
} spots[SPOTS];

static void callback_ran(void *arg)
{
    struct spot *s = arg;
    CHECK(__atomic_add_fetch(&s->runs, 1, __ATOMIC_ACQ_REL) == 1 && "a callback runs at most once");
    CHECK(__atomic_load_n(&s->stops, __ATOMIC_ACQUIRE) == 0 && "a callback never runs after a true stop");
    __atomic_store_n(&s->running, 1, __ATOMIC_RELEASE);
    CHECK(!s->on.ctx || cctx_is_done(s->on.ctx));
    bool direct =
        __atomic_load_n(&s->in_call, __ATOMIC_ACQUIRE) && pthread_equal(s->registrar, pthread_self());
    for (int i = 0; i < 2 && !direct; i++)
        if (s->under[i].ctx && is_below(s->under[i].facts, s->on.facts))
            CHECK(cctx_is_done(s->under[i].ctx) && "a callback runs after every descendant is done");
    CHECK(!cctx_stop(&s->cb));
    if (me && !in_child) {
        handle_t h = take(), child = derive(h);
        if (below(4) == 0)
            cancel(h);
        delay();
        drop(h);
        if (child.ctx)
            put(child);
    }
    __atomic_store_n(&s->running, 0, __ATOMIC_RELEASE);
}

static void spot_fill(struct spot *s)
{
    memset(&s->cb, POISON, sizeof s->cb);
    s->filled = true;
}

static void spot_settle(struct spot *s)
{
    if (cctx_stop_wait(&s->cb))
        __atomic_add_fetch(&s->stops, 1, __ATOMIC_ACQ_REL);
    CHECK(__atomic_load_n(&s->running, __ATOMIC_ACQUIRE) == 0 && "a stop_wait waits for fn");
    CHECK(__atomic_load_n(&s->runs, __ATOMIC_ACQUIRE) + __atomic_load_n(&s->stops, __ATOMIC_ACQUIRE) == 1 &&
          "a callback ran once, or was stopped once");
    s->registered = false;
    for (int i = 0; i < 2; i++)
        drop(s->under[i]);
    drop(s->on);
    s->on = s->under[0] = s->under[1] = nothing;
    s->runs = s->stops = 0;
    spot_fill(s);
}

static struct hub {
    lock_t lock;
    cctx_t *ctx;
} hubs[HUBS];

/* A context on which several threads register callbacks, with a reference, or NULL; from time to time the
 * reaper gets it, and another one comes in its place. */
static const cctx_t *hub_take(const cctx_t *parent)
{
    struct hub *hub = &hubs[below(HUBS)];
    cctx_t *made = NULL, *old = NULL;
    bool anew = below(6) == 0;
    if (anew || !__atomic_load_n(&hub->ctx, __ATOMIC_RELAXED))
        made = cctx_with_cancel(parent);
    lock(&hub->lock);
    if (made && (anew || !hub->ctx)) {
        old = hub->ctx;
        __atomic_store_n(&hub->ctx, made, __ATOMIC_RELAXED);
        made = NULL;
    }
    const cctx_t *ctx = hub->ctx ? cctx_ref(hub->ctx) : NULL;
    unlock(&hub->lock);
    if (made)
        cctx_unref(made);
    if (old)
        post(old);
    return ctx;
}

static void op_callback_renew(void)
{
    struct spot *s = &spots[below(SPOTS)];
    int32_t none = 0;
    if (!__atomic_compare_exchange_n(&s->users, &none, -1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    if (s->registered) {
        spot_settle(s);
    } else {
        for (size_t i = 0; s->filled && i < sizeof s->cb; i++)
            CHECK(((unsigned char *)&s->cb)[i] == POISON && "the storage is the caller's again");
        handle_t on = take();
        const cctx_t *ctx = on.ctx;
        if (below(2) == 0) { /* on one that only registrations may keep, when the reaper comes */
            ctx = hub_take(on.ctx);
            drop(on);
            on = nothing;
        }
        s->on = on;
        for (int i = 0; i < 2; i++)
            s->under[i] = on.ctx ? derive(on) : nothing;
        s->registrar = pthread_self();
        s->filled = false;
        __atomic_store_n(&s->in_call, true, __ATOMIC_RELEASE);
        int err = ctx ? cctx_after_func(ctx, &s->cb, callback_ran, s) : ENOMEM;
        __atomic_store_n(&s->in_call, false, __ATOMIC_RELEASE);
        CHECK(err == 0 || err == ENOMEM || err == EAGAIN);
        if (!s->on.ctx)
            cctx_unref(ctx);
        if (err != 0) {
            CHECK(s->runs == 0);
            for (int i = 0; i < 2; i++)
                drop(s->under[i]);
            drop(s->on);
            s->on = s->under[0] = s->under[1] = nothing;
            spot_fill(s);
        }
        s->registered = err == 0;
    }
    __atomic_store_n(&s->users, 0, __ATOMIC_RELEASE);
}

static void op_callback_stop(void)
{
    struct spot *s = &spots[below(SPOTS)];
    int32_t users = __atomic_load_n(&s->users, __ATOMIC_RELAXED);
    do
        if (users < 0)
            return;
    while (
        !__atomic_compare_exchange_n(&s->users, &users, users + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (s->registered) {
        bool wait = below(2) == 0;
        bool prevented = wait ? cctx_stop_wait(&s->cb) : cctx_stop(&s->cb);
        if (prevented) {
            CHECK(__atomic_load_n(&s->runs, __ATOMIC_ACQUIRE) == 0);
            CHECK(__atomic_add_fetch(&s->stops, 1, __ATOMIC_ACQ_REL) == 1 && "one stop prevents it");
        }
        if (wait)
            CHECK(__atomic_load_n(&s->running, __ATOMIC_ACQUIRE) == 0 && "a stop_wait waits for fn");
    }
    __atomic_sub_fetch(&s->users, 1, __ATOMIC_ACQ_REL);
}

/* Storage that fn itself gives away. */
struct given {
    uint64_t magic;
    cctx_callback_t cb;
};
static uint64_t given_alive;

static void callback_gave(void *arg)
{
    struct given *g = arg;
    CHECK(g->magic == ALIVE);
    CHECK(!cctx_stop_wait(&g->cb));
    memset(g, POISON, sizeof *g);
    __real_free(g);
    __atomic_sub_fetch(&given_alive, 1, __ATOMIC_ACQ_REL);
}

static void op_callback_give(void)
{
    handle_t parent = take();
    cctx_t *ctx = cctx_with_cancel(parent.ctx);
    drop(parent);
    if (!ctx)
        return;
    struct given *g = __real_calloc(1, sizeof *g);
    CHECK(g != NULL);
    g->magic = ALIVE;
    __atomic_add_fetch(&given_alive, 1, __ATOMIC_ACQ_REL);
    if (cctx_after_func(ctx, &g->cb, callback_gave, g) != 0) {
        __real_free(g);
        __atomic_sub_fetch(&given_alive, 1, __ATOMIC_ACQ_REL);
    }
    post(ctx);
}

/* ---- sections: what a reader finds in one stays whole until it leaves ---- */

struct element {
    struct epoch_link link; /* first */
    volatile uint64_t age;  /* 0 while it may be found or a section is open that found it; then it grows */
    struct element *next;
};
static struct element elements[ELEMENTS];
static struct element *published[4];
static struct element *pipe_first, *pipe_last; /* reclaimed, oldest first */
static unsigned pipe_length;
static lock_t pipe_lock;
static uint64_t element_ages[AGES];

static void element_reclaim(struct epoch_link *link)
{
    struct element *e = (struct element *)(void *)link;
    e->age = 1;
    if (in_child)
        return;
    lock(&pipe_lock);
    e->next = NULL;
    if (pipe_last)
        pipe_last->next = e;
    else
        pipe_first = e;
    pipe_last = e;
    pipe_length++;
    unlock(&pipe_lock);
}

/* The oldest of the reclaimed, made new; those in the pipe grow older. */
static struct element *element_make(void)
{
    lock(&pipe_lock);
    struct element *e = pipe_length > 16 ? pipe_first : NULL;
    if (e) {
        pipe_first = e->next;
        pipe_length--;
    }
    unsigned i = 0;
    for (struct element *k = pipe_first; k && i < AGES; k = k->next, i++)
        k->age++;
    unlock(&pipe_lock);
    if (e)
        e->age = 0;
    return e;
}

static void op_epoch_read(void)
{
    struct element **place = &published[below(4)];
    struct thread *t = thread_begin();
    epoch_enter(t);
    struct element *e = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    uint64_t age = 0;
    if (e) {
        spin(below(below(16) == 0 ? 20000 : 200));
        age = e->age;
    }
    epoch_leave(t);
    thread_end(t);
    __atomic_add_fetch(&element_ages[age < AGES ? age : AGES - 1], 1, __ATOMIC_RELAXED);
    CHECK(age == 0 && "what was found in a section is whole until it is left");
}

static void op_epoch_update(void)
{
    struct element *e = element_make();
    if (!e)
        return;
    struct element *old = __atomic_exchange_n(&published[below(4)], e, __ATOMIC_ACQ_REL);
    struct thread *t = thread_begin();
    if (old)
        epoch_retire(t, &old->link, element_reclaim, 1);
    if (below(8) == 0)
        epoch_poll(t);
    thread_end(t);
}

/* ---- the rest of what a worker does ---- */

static void op_replace_root(void)
{
    handle_t root = {below(2) == 0 ? cctx_background() : cctx_todo(), &background_facts}, h = derive(root);
    if (h.ctx)
        put_into(&forest[below(ROOTS)], h);
}

static void op_migrate(void)
{
    cpu_set_t all, one;
    if (sched_getaffinity(getpid(), sizeof all, &all) != 0)
        return;
    int n = CPU_COUNT(&all), nth = (int)below((uint64_t)n);
    if (below(2) == 0) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &all) && nth-- == 0) {
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                all = one;
                break;
            }
    }
    sched_setaffinity(0, sizeof all, &all); /* of this thread alone */
}

/* clang-format off */
static const struct {
    void (*fn)(void);
    enum operation op;
    unsigned weight;
} mix[] = {
    {op_derive, OP_derive, 24}, {op_derive_wide, OP_derive_wide, 1}, {op_derive_deep, OP_derive_deep, 3},
    {op_orphans, OP_orphans, 4}, {op_look, OP_look, 12}, {op_print, OP_print, 2},
    {op_cancel, OP_cancel, 5}, {op_cancel_family, OP_cancel_family, 8}, {op_close, OP_close, 6},
    {op_wait, OP_wait, 2}, {op_wait_deadline, OP_wait_deadline, 1}, {op_wait_tick, OP_wait_tick, 1},
    {op_rendezvous, OP_rendezvous, 3}, {op_callback_renew, OP_callback_renew, 14},
    {op_callback_stop, OP_callback_stop, 8}, {op_callback_give, OP_callback_give, 3},
    {op_epoch_read, OP_epoch_read, 8}, {op_epoch_update, OP_epoch_update, 6},
    {op_replace_root, OP_replace_root, 3}, {op_migrate, OP_migrate, 1},
};
/* clang-format on */

static void operate(void)
{
    unsigned sum = 0, i = 0;
    for (i = 0; i < sizeof mix / sizeof mix[0]; i++)
        sum += mix[i].weight;
    unsigned at = (unsigned)below(sum);
    for (i = 0; at >= mix[i].weight; i++)
        at -= mix[i].weight;
    begin(mix[i].op);
    mix[i].fn();
}

/* Runs when the thread ends, again after the library's own destructor: its record is gone by then. */
static void epilogue(void *arg)
{
    uintptr_t left = (uintptr_t)arg;
    begin(OP_epilogue);
    op_derive();
    op_close();
    op_callback_give();
    if (left > 1)
        pthread_setspecific(epilogue_key, (void *)(left - 1));
    else
        __atomic_store_n(&me->exited, true, __ATOMIC_RELEASE);
}

static void *worker_main(void *arg)
{
    me = arg;
    uint64_t left = 50 + below(2000);
    while (left-- > 0 && !__atomic_load_n(&stopping, __ATOMIC_ACQUIRE))
        operate();
    if (below(2) == 0)
        pthread_setspecific(epilogue_key, (void *)(uintptr_t)(1 + below(3)));
    else
        __atomic_store_n(&me->exited, true, __ATOMIC_RELEASE);
    return NULL;
}

/* ---- signals ---- */

static uint64_t signals_handled;

static void signaled(int sig)
{
    int saved = errno;
    (void)sig;
    const cctx_t *ctx = me ? me->held : NULL;
    if (ctx) {
        int err = cctx_err(ctx);
        CHECK(err == 0 || ((err == ECANCELED || err == ETIMEDOUT) && cctx_is_done(ctx)));
    }
    CHECK(cctx_now() > 0);
    __atomic_add_fetch(&signals_handled, 1, __ATOMIC_RELAXED);
    errno = saved;
}

static void *signaler_main(void *arg)
{
    me = arg;
    while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
        begin(OP_signal);
        pthread_mutex_lock(&workers_mutex);
        for (int i = 0; i < 4; i++) {
            struct worker *w = &workers[below(options.workers)];
            if (w->running && !__atomic_load_n(&w->calm, __ATOMIC_RELAXED))
                pthread_kill(w->thread, below(2) == 0 ? SIGUSR1 : SIGUSR2);
        }
        pthread_mutex_unlock(&workers_mutex);
        cctx_wait_for(cctx_background(), CCTX_US(100) + (int64_t)below((uint64_t)CCTX_MS(2)));
    }
    return NULL;
}

/* ---- forks ---- */

static uint32_t child_ran;
static void child_callback(void *arg)
{
    (void)arg;
    child_ran++;
}

static void child_main(handle_t *family, unsigned n)
{
    in_child = true;
    fail_one_in = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the parent watches over its forker */
    for (unsigned i = 0; i < n; i++)
        look(family[i]);
    for (unsigned i = 0; i < n; i++) {
        if (can_cancel(family[i]) && below(2) == 0)
            cancel_family(family[i], family, n);
        /* An inherited deadline fires when the child waits. */
        if (family[i].facts->deadline < cctx_now() + CCTX_MS(50))
            wait_for_ever(family[i].ctx);
    }
    for (unsigned i = 0; i < n; i++) {
        cctx_callback_t cb = {{0}};
        cctx_t *child = cctx_with_cancel(family[i].ctx);
        cctx_t *timed = cctx_with_timeout(family[i].ctx, CCTX_US(300));
        CHECK(child != NULL && timed != NULL);
        child_ran = 0;
        CHECK(cctx_after_func(child, &cb, child_callback, NULL) == 0);
        wait_for_ever(timed);
        cctx_cancel(child);
        /* An inherited deadline may have come first and left it to the runner: then the stop may win. */
        uint32_t prevented = cctx_stop_wait(&cb);
        CHECK(child_ran + prevented == 1);
        cctx_unref(timed);
        cctx_unref(child);
    }
    for (unsigned i = 0; i < n; i++)
        cctx_unref(family[i].ctx);
    _exit(0);
}

static void *forker_main(void *arg)
{
    enum { FAMILY = 6 };
    me = arg;
    while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
        handle_t family[FAMILY];
        begin(OP_fork);
        unsigned n = 0;
        while (n < FAMILY / 2)
            family[n++] = take();
        while (n < FAMILY) {
            handle_t h = derive(family[below(n)]);
            family[n++] = h.ctx ? h : take();
        }
        pid_t pid = fork();
        if (pid == 0)
            child_main(family, FAMILY);
        CHECK(pid > 0 || errno == EAGAIN || errno == ENOMEM);
        if (pid > 0) {
            int status;
            pid_t waited;
            do
                waited = waitpid(pid, &status, 0);
            while (waited < 0 && errno == EINTR);
            CHECK(waited == pid);
            if (WIFSIGNALED(status))
                line_out("torture: a forked child ended by signal %d\n", WTERMSIG(status));
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && "a forked child uses the library");
        }
        for (unsigned i = 0; i < FAMILY; i++)
            drop(family[i]);
        cctx_wait_for(cctx_background(), CCTX_MS(5) + (int64_t)below((uint64_t)CCTX_MS(40)));
    }
    return NULL;
}

/* ---- the monitor ---- */

/* Time as the monitor got it: a nap counts little more than it was asked for, so a machine that is busy with
 * other things makes it patient. */
static int64_t patience;

static void nap(void)
{
    int64_t before = now_ns();
    cctx_wait_for(cctx_background(), CCTX_MS(5));
    int64_t took = now_ns() - before;
    patience += took < CCTX_MS(8) ? took : CCTX_MS(8);
}

static void worker_start(struct worker *w, void *(*fn)(void *), bool anew)
{
    if (anew) {
        w->index = (unsigned)(w - workers);
        w->rng = rng_make(seed, w->index + WORKERS_MAX * 2 * threads_started);
    }
    w->exited = false;
    w->since = patience;
    w->beats_seen = w->beats;
    int err = pthread_create(&w->thread, NULL, fn, w);
    CHECK(err == 0);
    w->running = true;
    threads_started++;
}

static void workers_renew(bool start)
{
    for (unsigned i = 0; i < options.workers; i++) {
        struct worker *w = &workers[i];
        if (w->running && !__atomic_load_n(&w->exited, __ATOMIC_ACQUIRE))
            continue;
        pthread_mutex_lock(&workers_mutex);
        if (w->running)
            thread_join(w->thread);
        w->running = false;
        if (start)
            worker_start(w, worker_main, true);
        pthread_mutex_unlock(&workers_mutex);
    }
}

static void stall_dump(const char *what)
{
    line_out("torture: FAILED: no progress for %d s: %s (--seed %" PRIu64 ")\n", STALL_S, what, seed);
    for (unsigned i = 0; i < WORKERS_MAX + BESIDE; i++)
        if (workers[i].running)
            line_out("  thread %u: %s, %" PRIu64 " operations\n", i, op_name[workers[i].op],
                     workers[i].beats);
    line_out("  limbo %u, library bytes %zu, given callbacks %" PRIu64 "\n", epoch_limbo(), bytes_in_use,
             given_alive);
    abort();
}

static void stall_watch(void)
{
    for (unsigned i = 0; i < WORKERS_MAX + BESIDE; i++) {
        struct worker *w = &workers[i];
        if (!w->running || i == WORKERS_MAX)
            continue; /* the reaper has nothing to do when nobody posts */
        uint64_t beats = __atomic_load_n(&w->beats, __ATOMIC_RELAXED);
        if (beats != w->beats_seen) {
            w->beats_seen = beats;
            w->since = patience;
        } else if (patience - w->since > CCTX_S(STALL_S)) {
            stall_dump(op_name[w->op]);
        }
    }
}

/* A deadline that nobody looks at, and a callback on it: the timer thread and the runner live. */
static struct {
    cctx_t *ctx;
    cctx_callback_t cb;
    uint32_t ran;
    int64_t deadline, since;
} probe;

static void probe_ran(void *arg)
{
    (void)arg;
    CHECK(cctx_now() >= probe.deadline);
    note_late(probe.deadline);
    __atomic_store_n(&probe.ran, 1, __ATOMIC_RELEASE);
}

static void probe_watch(bool renew)
{
    if (probe.ctx && __atomic_load_n(&probe.ran, __ATOMIC_ACQUIRE)) {
        CHECK(!cctx_stop_wait(&probe.cb));
        CHECK(cctx_err(probe.ctx) == ETIMEDOUT);
        cctx_unref(probe.ctx);
        probe.ctx = NULL;
    }
    if (probe.ctx) {
        if (patience - probe.since > CCTX_S(STALL_S))
            stall_dump("a deadline with a callback");
        return;
    }
    if (!renew)
        return;
    begin(OP_probe);
    probe.ran = 0;
    probe.deadline = cctx_now() + CCTX_MS(20);
    probe.since = patience;
    probe.ctx = cctx_with_deadline(cctx_background(), probe.deadline);
    if (probe.ctx && cctx_after_func(probe.ctx, &probe.cb, probe_ran, NULL) != 0) {
        cctx_unref(probe.ctx);
        probe.ctx = NULL;
    }
}

struct figures {
    size_t rss, bytes;
    unsigned limbo;
};

static void figures_raise(struct figures *f)
{
    size_t rss = memory_rss(), bytes = __atomic_load_n(&bytes_in_use, __ATOMIC_RELAXED);
    unsigned limbo = epoch_limbo();
    if (rss > f->rss)
        f->rss = rss;
    if (bytes > f->bytes)
        f->bytes = bytes;
    if (limbo > f->limbo)
        f->limbo = limbo;
}

static uint64_t operations(void)
{
    uint64_t sum = 0;
    memset(totals, 0, sizeof totals);
    for (unsigned i = 0; i < WORKERS_MAX + BESIDE + 1; i++)
        for (unsigned op = 0; op < OP_COUNT; op++) {
            struct worker *w = i < WORKERS_MAX + BESIDE ? &workers[i] : me;
            totals[op] += __atomic_load_n(&w->count[op], __ATOMIC_RELAXED);
        }
    for (unsigned op = 0; op < OP_COUNT; op++)
        if (op != OP_no_memory)
            sum += totals[op];
    return sum;
}

static void status(int64_t began, const struct figures *f)
{
    printf("torture: %" PRId64 " s, %" PRIu64 " operations, %" PRIu64
           " threads, RSS %zu KiB, library %zu KiB, limbo %u, "
           "latest deadline %" PRId64 " us\n",
           (now_ns() - began) / CCTX_S(1), operations(), threads_started, f->rss / 1024, f->bytes / 1024,
           f->limbo, __atomic_load_n(&late_max, __ATOMIC_RELAXED) / 1000);
    fflush(stdout);
}

/* Flat after the warm-up, the first third: memory that grows with time passes any bound in the end; this one
 * leaves room for a wider moment than was seen before. */
static void bounded(const char *what, uint64_t warm, uint64_t most, uint64_t slack)
{
    if (most <= warm * 3 / 2 + slack)
        return;
    line_out("torture: FAILED: %s grew from %" PRIu64 " to %" PRIu64 " after the warm-up (--seed %" PRIu64
             ")\n",
             what, warm, most, seed);
    exit(1);
}

/* What the runner still has in hand ends by itself. */
static void settle(const char *what, const uint64_t *count)
{
    for (int64_t began = patience; __atomic_load_n(count, __ATOMIC_ACQUIRE) != 0; nap())
        if (patience - began > CCTX_S(STALL_S))
            stall_dump(what);
}

static void usage(void)
{
    fputs("usage: torture [--seconds N] [--threads N] [--no-fork] [--cells]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    int64_t seconds = 60;
    options = (struct options){.workers = 8, .forks = !TEST_TSAN};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-fork") == 0)
            options.forks = false;
        else if (strcmp(argv[i], "--cells") == 0)
            options.cells = true;
        else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
            seconds = atoll(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0)
            options.workers = (unsigned)atoi(argv[++i]);
        else
            usage();
    }
    if (seconds < 1 || options.workers < 1 || options.workers > WORKERS_MAX)
        usage();
    seed = test_seed();

    static struct worker monitor;
    me = &monitor;
    me->rng = rng_make(seed, WORKERS_MAX);
    for (unsigned i = 0; i < CANARIES; i++) {
        canaries[i].magic = DEAD;
        canary_back(&canaries[i]);
    }
    for (unsigned i = 0; i < ELEMENTS; i++)
        element_reclaim(&elements[i].link);
    sem_init(&posted, 0, 0);
    pthread_key_create(&epilogue_key, epilogue);
    struct sigaction restart = {.sa_handler = signaled, .sa_flags = SA_RESTART},
                     plain = {.sa_handler = signaled};
    sigaction(SIGUSR1, &restart, NULL);
    sigaction(SIGUSR2, &plain, NULL);
    signal(SIGABRT, crashed);
    if (!TEST_SANITIZED) {
        signal(SIGSEGV, crashed);
        signal(SIGBUS, crashed);
        signal(SIGILL, crashed);
    }

    int64_t began = now_ns(), shown = began, end = began + CCTX_S(seconds),
            warm_until = began + CCTX_S(seconds) / 3;
    struct figures warm = {0}, most = {0}, recent = {0};
    struct worker *beside = &workers[WORKERS_MAX];
    worker_start(&beside[0], reaper_main, true);
    if (options.forks)
        worker_start(&beside[1], forker_main, true);
    worker_start(&beside[2], signaler_main, true);
    printf("torture: %u threads for %" PRId64 " s, %s\n", options.workers, seconds,
           options.forks ? "with forks" : "no forks here");
    for (int64_t now; (now = now_ns()) < end;) {
        workers_renew(true);
        stall_watch();
        probe_watch(true);
        __atomic_store_n(&fail_one_in, now / CCTX_MS(100) % 10 == 7 ? 8u : 0u, __ATOMIC_RELAXED);
        figures_raise(now < warm_until ? &warm : &most);
        figures_raise(&recent);
        if (now - shown > CCTX_S(10)) {
            shown = now;
            status(began, &recent);
            recent = (struct figures){0};
        }
        nap();
    }

    signal(SIGALRM, crashed);
    alarm(20 * STALL_S); /* from here on the monitor waits itself */
    __atomic_store_n(&stopping, true, __ATOMIC_RELEASE);
    __atomic_store_n(&fail_one_in, 0, __ATOMIC_RELAXED);
    for (int64_t stop = patience;; stall_watch()) {
        bool any = false;
        workers_renew(false);
        for (unsigned i = 0; i < options.workers; i++)
            any = any || workers[i].running;
        if (!any)
            break;
        if (patience - stop > 2 * CCTX_S(STALL_S))
            stall_dump("the end");
        nap();
    }
    __atomic_store_n(&reaper_stops, true, __ATOMIC_RELEASE);
    sem_post(&posted);
    for (unsigned i = 0; i < BESIDE; i++) {
        if (beside[i].running)
            thread_join(beside[i].thread);
        beside[i].running = false;
    }
    for (unsigned i = 0; i < HUBS; i++)
        cctx_close(hubs[i].ctx);
    for (unsigned i = 0; i < SPOTS; i++)
        if (spots[i].registered)
            spot_settle(&spots[i]);
    for (; probe.ctx; probe_watch(false))
        nap();
    settle("callbacks that were handed over", &given_alive);
    for (unsigned i = 0; i < SLOTS; i++)
        drop(forest[i].handle);
    for (unsigned i = 0; i < CRADLE; i++)
        drop(cradle[i].handle);
    settle("facts", &facts_alive);
    settle("values that nobody destroys", &canaries_left);
    struct thread *t = thread_begin();
    for (unsigned i = 0; i < WORKERS_MAX * 8; i++)
        epoch_poll(t);
    thread_end(t);
    unsigned limbo_left = epoch_limbo();

    uint64_t sum = operations();
    for (unsigned op = 0; op < OP_COUNT; op++)
        printf("%16s %12" PRIu64 "%s", op_name[op], totals[op],
               op % 3 == 2 || op + 1 == OP_COUNT ? "\n" : "");
    printf("ages seen in sections:");
    for (unsigned i = 0; i < AGES; i++)
        printf(" %u: %" PRIu64, i, element_ages[i]);
    printf("; of values: 0: %" PRIu64 " 1: %" PRIu64 "\n", canary_ages[0], canary_ages[1]);
    printf("%" PRIu64 " values made and destroyed, %" PRIu64 " signals handled, %" PRIu64
           " allocations failed, "
           "%" PRIu64 " threads\n",
           canaries_made, signals_handled, alloc_failed, threads_started);
    printf("RSS %zu then %zu KiB, library %zu then %zu KiB and %zu at the end, limbo %u then %u and %u at "
           "the end, "
           "latest deadline %" PRId64 " us\n",
           warm.rss / 1024, most.rss / 1024, warm.bytes / 1024, most.bytes / 1024, bytes_in_use / 1024,
           warm.limbo, most.limbo, limbo_left, late_max / 1000);
    bounded("the resident set", warm.rss, most.rss, (size_t)32 << 20);
    bounded("the library's memory", warm.bytes, most.bytes, (size_t)4 << 20);
    bounded("limbo", warm.limbo, most.limbo, 8192);
    bounded("limbo at the end", EPOCH_HEAVY * 2, limbo_left, 0);
    printf("torture: ok, %" PRIu64 " operations, %" PRId64 " s, CCTX_SEED=%" PRIu64 "\n", sum,
           (now_ns() - began) / CCTX_S(1), seed);
    return 0;
}
