/* SPDX-License-Identifier: BSD-2-Clause */
/* machine: the library's sources on threads that are fibers, with a seeded scheduler that decides at each
 * atomic operation who goes on, and in place of alloc.c, clock.c, futex.c and service.c a machine that looks
 * for faults.
 *
 * All that the machine knows stands in one mapping of its own, so that the program's static data can be put
 * back as a whole between two schedules. */
#define SCHED_MACHINE
#define FIBER_UNORDERED
#include "machine.h"
#include "fiber.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc.h"
#include "clock.h"
#include "futex.h"
#include "service.h"

#if defined(__SANITIZE_ADDRESS__) || defined(FIBER_ASAN)
#define MEMORY_SHOW(p, n) __asan_unpoison_memory_region((p), (n))
#define MEMORY_HIDE(p, n) __asan_poison_memory_region((p), (n))
#else
#define MEMORY_SHOW(p, n) ((void)(p), (void)(n))
#define MEMORY_HIDE(p, n) ((void)(p), (void)(n))
#endif
#if FIBER_TSAN
void __tsan_acquire(void *token);
void __tsan_release(void *token);
void __tsan_write_range(void *p, unsigned long size);
void AnnotateBenignRaceSized(const char *file, int line, const volatile void *p, size_t size,
                             const char *why);
#define ORDER_PUT(token) __tsan_release(token)
#define ORDER_GET(token) __tsan_acquire(token)
#define MEMORY_WRITTEN(p, n) __tsan_write_range((p), (n))
#define MEMORY_OWN(p, n) AnnotateBenignRaceSized(__FILE__, __LINE__, (p), (n), "each fiber has its own")
#else
#define MEMORY_OWN(p, n) ((void)(p), (void)(n))
#define ORDER_PUT(token) ((void)(token))
#define ORDER_GET(token) ((void)(token))
#define MEMORY_WRITTEN(p, n) ((void)(p), (void)(n))
#endif
/* What looks at memory that is not its own: the static data, freed blocks. */
#define UNCHECKED __attribute__((no_sanitize("address"), no_sanitize("undefined"), noinline))

enum {
    ACTORS = 16,
    LOCALS = 64,                /* bytes of thread locals */
    ARENA = 64 << 20,
    BLOCKS = 1 << 16,
    TAIL = 16,                  /* bytes behind a block that nobody may write */
    SIZES = 64,
    HANDLERS = 16,
    FOR_EVER = 1000000,         /* points */
    CHILD_SECONDS = 20
};
static const uint64_t live_magic = 0x11fe11fe11fe11fe, dead_magic = 0xdeaddeaddeaddead;
static const uint64_t poison = 0xdbdbdbdbdbdbdbdb;

enum status { UNUSED, RUNNABLE, ASLEEP, JOINING, SETTLING, ENDED, GONE };

struct actor {
    struct fiber fiber;
    char locals[LOCALS];
    int error;                  /* its errno */
    const char *name;
    void (*fn)(void *arg);
    void *arg;
    struct service *service;    /* NULL: a thread of the test's */
    enum status status;
    bool begun, over, woken, paused;
    sync_u32 *word;
    int64_t until;
    long points, left;
    int64_t priority;
    void *key_value;
    const char *function;       /* its last point */
    int line;
};

struct block {
    uint64_t size, magic;
};

static struct machine {
    struct machine_settings settings;
    struct fiber outside;
    struct actor actor[ACTORS];
    struct actor *current;      /* NULL: outside a schedule */
    unsigned actors;
    uint64_t random;
    int64_t now;
    bool quitting, child, look, calibrated;
    unsigned phase, generation;
    long points, stay_left, hurry_left, change[MACHINE_CHANGES];
    int64_t lowest;             /* priority given out */
    void (*key_destructor)(void *);
    void (*child_handler[HANDLERS])(void);
    unsigned handlers;
    void (*tell)(FILE *out);
    void (*body)(void *arg);
    long plays, forks, all_points;

    char *arena, *top;
    struct block *block[BLOCKS];
    unsigned blocks;
    unsigned char *dead;        /* for each line of the arena: it is of a freed block */
    uint64_t kept_size[SIZES];  /* of what the library keeps for ever */
    unsigned kept_sizes;

    char *image;                /* of the static data */
} *m;

/* ---- failure */

static void report(int sig)
{
    static const char *const state[] = {"unused", "could run", "asleep", "joins", "settles", "ended", "gone"};
    signal(sig, SIG_DFL);
    if (m->tell) m->tell(stderr);
    fprintf(stderr, "at point %ld, time %lld%s (signal %d)\n", m->points, (long long)m->now,
            m->child ? ", in the child of a fork" : "", sig);
    for (unsigned i = 0; i < m->actors; i++) {
        struct actor *a = &m->actor[i];
        fprintf(stderr, "  %s %-12s %-9s after %ld points, last %s:%d\n", a == m->current ? "*" : " ",
                a->name, state[a->status], a->points, a->function ? a->function : "-", a->line);
    }
    raise(sig);
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "machine: %s\n", what);
    abort();
}

void machine_tell(void (*tell)(FILE *out)) { m->tell = tell; }

/* ---- randomness, time */

uint64_t machine_random(void)
{
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static uint64_t below(uint64_t n) { return machine_random() % n; }
static bool one_in(unsigned n) { return n > 0 && below(n) == 0; }

int64_t machine_now(void) { return m->now; }
void machine_set_now(int64_t now) { m->now = now; }

/* ---- the static data */

extern char __data_start[], _end[], __start_fiber_locals[], __stop_fiber_locals[];

static UNCHECKED void copy_words(char *to, const char *from, size_t size)
{
    volatile uint64_t *t = (volatile uint64_t *)(void *)to;
    const volatile uint64_t *f = (const volatile uint64_t *)(const void *)from;
    for (size_t i = 0; i < size / 8; i++) t[i] = f[i];
}

static char *statics(void) { return (char *)(((uintptr_t)__data_start + 7) & ~(uintptr_t)7); }
static size_t statics_size(void) { return (size_t)(_end - statics()); }
static size_t locals_size(void)
{
    size_t size = (size_t)(__stop_fiber_locals - __start_fiber_locals);
    return (size + 7) & ~(size_t)7;
}

/* ---- the scheduler */

static bool asleep_and_ready(struct actor *a)
{
    return a->status == ASLEEP && (a->woken || a->until <= m->now);
}

/* Have all that joiner waits for ended? */
static bool joined(struct actor *joiner)
{
    for (unsigned i = 0; i < m->actors; i++) {
        struct actor *a = &m->actor[i];
        if (a == joiner || a->service || a->status == ENDED || a->status == GONE) continue;
        if (m->settings.watched && (a->paused || (a->status == ASLEEP && !a->woken))) continue;
        return false;
    }
    return true;
}

static bool ready(struct actor *a)
{
    return a->status == RUNNABLE || asleep_and_ready(a) || (a->status == JOINING && joined(a));
}

/* Time goes on to the next moment at which one of them wakes; false if there is none. */
static bool pass_time(bool services_too)
{
    int64_t next = INT64_MAX;
    for (unsigned i = 0; i < m->actors; i++) {
        struct actor *a = &m->actor[i];
        if (a->status == ASLEEP && !a->woken && a->until < next && (services_too || !a->service))
            next = a->until;
    }
    if (next == INT64_MAX) return false;
    if (next > m->now) m->now = next;
    return true;
}

static struct actor *choose_in_sequence(struct actor **list, unsigned count)
{
    if (m->phase < 2 && m->actors > 1) {
        for (; m->phase < 2; m->phase++) {
            struct actor *a = &m->actor[m->phase + 1];
            if (m->phase + 1 < m->actors && ready(a) && !a->paused) return a;
        }
    }
    if (m->settings.watched && ready(&m->actor[0])) return &m->actor[0];
    for (unsigned i = 0; i < count; i++)
        if (list[i] != &m->actor[0]) return list[i];
    return list[0];
}

static struct actor *choose(void)
{
    struct actor *list[ACTORS], *settling;
    unsigned count, others;
    for (;;) {
        count = others = 0;
        settling = NULL;
        for (unsigned i = 0; i < m->actors; i++) {
            struct actor *a = &m->actor[i];
            if (a->status == SETTLING) settling = a;
            if (!ready(a)) continue;
            list[count++] = a;
            others += !a->service;
        }
        if (m->settings.starved && others < count) {
            /* Whoever can go on without a service does, and be it that time passes. */
            if (others > 0) {
                count = 0;
                for (unsigned i = 0; i < m->actors; i++)
                    if (!m->actor[i].service && ready(&m->actor[i])) list[count++] = &m->actor[i];
            } else if (!settling && pass_time(false)) {
                continue;
            }
        }
        if (count > 0) break;
        if (settling) return settling;
        if (!pass_time(true)) fail("all are asleep for ever");
    }
    struct actor *chosen = list[0];
    switch (m->settings.kind) {
    case MACHINE_SEQUENCE: return choose_in_sequence(list, count);
    case MACHINE_WALK: return list[below(count)];
    case MACHINE_PCT:
        for (unsigned i = 1; i < count; i++)
            if (list[i]->priority > chosen->priority) chosen = list[i];
    }
    return chosen;
}

static void go_to(struct actor *next, bool for_good)
{
    struct actor *me = m->current;
    if (m->settings.trace)
        fprintf(stderr, "%6ld %lld %s %s:%d -> %s %s:%d\n", m->points, (long long)m->now, me->name,
                me->function ? me->function : "-", me->line, next->name,
                next->function ? next->function : "-", next->line);
    copy_words(me->locals, __start_fiber_locals, locals_size());
    copy_words(__start_fiber_locals, next->locals, locals_size());
    me->error = errno;
    m->current = next;
    next->status = RUNNABLE;
    next->begun = true;
    ORDER_PUT(&m->generation);          /* in the child of a fork all that was is before */
    if (for_good) fiber_leave(&me->fiber, &next->fiber);
    fiber_switch(&me->fiber, &next->fiber);
    errno = me->error;
    if (m->quitting) {
        ORDER_PUT(m);
        fiber_leave(&me->fiber, &m->outside);
    }
}

/* The current one lets the scheduler decide. */
static void decide(void)
{
    m->look = false;
    struct actor *next = choose();
    if (next != m->current) go_to(next, false);
    else m->current->status = RUNNABLE;
}

static void hurry(void)
{
    m->hurry_left = 1 + (long)below(2 * m->settings.hurry);
    if (below(2)) m->now += 1 + (int64_t)below(60);
    else pass_time(true);
    m->look = true;
}

void sched_point(const char *function, int line)
{
    struct actor *me = m ? m->current : NULL;
    if (!me) return;
    me->function = function;
    me->line = line;
    me->points++;
    if (++m->points > FOR_EVER) fail("it does not end");
    if (m->settings.hurry && --m->hurry_left <= 0) hurry();
    switch (m->settings.kind) {
    case MACHINE_SEQUENCE:
        if (m->phase >= 2 || me->left < 0) return;
        if (me->left-- > 0) return;
        me->left = 0;
        me->paused = true;
        decide();
        return;
    case MACHINE_WALK:
        if (--m->stay_left > 0) return;
        m->stay_left = 1 + (long)below(2 * m->settings.stay);
        decide();
        return;
    case MACHINE_PCT:
        for (unsigned i = 0; i < m->settings.changes; i++)
            if (m->change[i] == m->points) {
                me->priority = --m->lowest;
                m->look = true;
            }
        if (m->look) decide();
    }
}

void sched_touch(const char *function, int line, const volatile void *p)
{
    sched_point(function, line);
    uintptr_t offset = (uintptr_t)p - (uintptr_t)(m ? m->arena : NULL);
    if (m && offset < ARENA && m->dead[offset / CACHE_LINE]) fail("freed memory is used");
}

int sched_gives_way(void)
{
    struct actor *me = m->current, *other = NULL;
    if (!me) return 0;
    if (++m->points > FOR_EVER) fail("it does not end");
    me->priority = --m->lowest;
    if (m->settings.kind == MACHINE_SEQUENCE) {
        for (unsigned i = 1; i < m->actors && !other; i++)
            if (&m->actor[i] != me && ready(&m->actor[i])) other = &m->actor[i];
        if (other) go_to(other, false);
    } else {
        decide();
    }
    return 0;
}

const void *sched_here(void) { return m->current; }
unsigned machine_self(void) { return (unsigned)(m->current - m->actor); }
bool machine_is_service(void) { return m->current->service != NULL; }
bool machine_is_timer(void) { return m->current->service && strcmp(m->current->name, "cctx-timer") == 0; }
bool machine_in_child(void) { return m->child; }

bool machine_asleep_on(const void *word)
{
    for (unsigned i = 0; i < m->actors; i++)
        if (m->actor[i].status == ASLEEP && !m->actor[i].woken && m->actor[i].word == word) return true;
    return false;
}

/* ---- threads */

static void run_destructor(struct actor *a)
{
    void *value = a->key_value;
    a->key_value = NULL;
    if (value && m->key_destructor) m->key_destructor(value);
}

static void actor_main(void *arg)
{
    struct actor *a = (struct actor *)arg;
    ORDER_GET(a);
    a->fn(a->arg);
    run_destructor(a);
    a->status = ENDED;
    a->over = true;
    a->fiber.clean = 1;
    ORDER_PUT(m);
    go_to(choose(), true);
}

static struct actor *actor_new(const char *name, void (*fn)(void *arg), void *arg, struct service *service)
{
    if (m->actors == ACTORS) fail("too many threads");
    struct actor *a = &m->actor[m->actors++];
    struct fiber fiber = a->fiber;
    memset(a, 0, sizeof *a);
    a->fiber = fiber;
    a->name = name;
    a->fn = fn;
    a->arg = arg;
    a->service = service;
    a->status = RUNNABLE;
    a->priority = 1 + (int64_t)below(1 << 30);
    a->left = m->actors >= 2 && m->actors <= 3 ? m->settings.pause[m->actors - 2] : MACHINE_NEVER_PAUSES;
    a->until = INT64_MAX;
    if (a->fiber.stack) fiber_again(&a->fiber, actor_main, a);
    else fiber_make(&a->fiber, actor_main, a);
    ORDER_PUT(a);
    m->look = true;
    return a;
}

unsigned machine_start(const char *name, void (*fn)(void *arg), void *arg)
{
    return (unsigned)(actor_new(name, fn, arg, NULL) - m->actor);
}

void machine_join(void)
{
    if (joined(m->current)) return;
    m->current->status = JOINING;
    decide();
    ORDER_GET(m);
}

void machine_settle(void)
{
    m->current->status = SETTLING;
    decide();
}

void machine_exit_early(void) { run_destructor(m->current); }

void machine_calm(void)
{
    m->settings.no_memory = m->settings.spurious = m->settings.hurry = 0;
    m->settings.starved = false;
}

void machine_allow_memory(void) { m->settings.no_memory = 0; }
void machine_forbid_memory(unsigned one_in_so_many) { m->settings.no_memory = one_in_so_many; }

void machine_let_services(void) { m->settings.no_service = false; }

void machine_end_services(void)
{
    struct actor *me = m->current;
    for (unsigned i = 0; i < m->actors; i++) {
        struct actor *a = &m->actor[i];
        if (!a->service || a->status == ENDED || a->status == GONE) continue;
        a->status = ENDED;
        ORDER_GET(&a->until);
        copy_words(me->locals, __start_fiber_locals, locals_size());
        copy_words(__start_fiber_locals, a->locals, locals_size());
        run_destructor(a);
        copy_words(__start_fiber_locals, me->locals, locals_size());
    }
}

/* ---- what seeded.h puts in place of the system's */

enum { ONCE_IDLE, ONCE_RUNS, ONCE_DONE };

/* In the child of a fork what another thread was in the middle of begins again. */
int sched_once(pthread_once_t *once, void (*fn)(void))
{
    int *state = (int *)once, runs = ONCE_RUNS + 4 * (int)m->generation;
    sched_point("pthread_once", __LINE__);
    while (*state != ONCE_DONE) {
        if (*state == runs) {
            sched_gives_way();
            continue;
        }
        *state = runs;
        fn();
        *state = ONCE_DONE;
        ORDER_PUT(once);
    }
    ORDER_GET(once);
    return 0;
}

int sched_key(pthread_key_t *key, void (*destructor)(void *))
{
    if (one_in(m->settings.no_memory)) return EAGAIN;
    *key = 0;
    m->key_destructor = destructor;
    return 0;
}

int sched_set(pthread_key_t key, const void *value)
{
    (void)key;
    if (one_in(m->settings.no_memory)) return ENOMEM;
    m->current->key_value = (void *)(uintptr_t)value;
    return 0;
}

int sched_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    if (prepare || parent || m->handlers == HANDLERS) fail("unforeseen fork handlers");
    m->child_handler[m->handlers++] = child;
    return 0;
}

/* ---- futex, clock, services */

int64_t clock_now(void)
{
    sched_point(__func__, __LINE__);
    return m->now;
}

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    struct actor *me = m->current;
    sched_point(__func__, __LINE__);
    if (one_in(m->settings.spurious)) return true;
    if (atomic_load_explicit(&word->raw, memory_order_relaxed) != seen) return true;
    me->word = word;
    me->until = until;
    me->woken = one_in(m->settings.spurious);
    me->status = ASLEEP;
    ORDER_PUT(&me->until);
    decide();
    bool in_time = me->woken || m->now < until;
    me->word = NULL;
    me->until = INT64_MAX;
    return in_time;
}

void futex_wake(sync_u32 *word)
{
    sched_point(__func__, __LINE__);
    for (unsigned i = 0; i < m->actors; i++)
        if (m->actor[i].status == ASLEEP && m->actor[i].word == word) m->actor[i].woken = m->look = true;
}

static void service_fiber(void *arg) { ((struct service *)arg)->main(); }

bool service_start(struct service *s)
{
    sched_point(__func__, __LINE__);
    if (m->settings.no_service) return true;
    for (unsigned i = 0; i < m->actors; i++)
        if (m->actor[i].service == s && m->actor[i].status != GONE) return true;
    if (one_in(m->settings.no_memory)) return false;
    actor_new(s->name, service_fiber, s, s);
    return true;
}

/* Nothing to forget: in the child the machine knows that the thread is gone. */
void service_forked(struct service *s) { (void)s; }

int machine_fork(void)
{
    fflush(NULL);
    m->forks++;
    pid_t pid = fork();
    if (pid < 0) fail("fork failed");
    if (pid > 0) return pid;
    alarm(CHILD_SECONDS);
    m->child = true;
    ORDER_GET(&m->generation);
    m->generation++;
    for (unsigned i = 0; i < m->actors; i++)
        if (&m->actor[i] != m->current && m->actor[i].status != ENDED) m->actor[i].status = GONE;
    for (unsigned i = 0; i < m->handlers; i++) m->child_handler[i]();
    return 0;
}

void machine_reap(int child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) fail("the child of a fork is lost");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("the child of a fork failed");
}

/* ---- memory */

static UNCHECKED bool all_poison(const struct block *b)
{
    const uint64_t *word = (const uint64_t *)(const void *)(b + 1);
    for (uint64_t i = 0; i < b->size / 8; i++)
        if (word[i] != poison) return false;
    const unsigned char *rest = (const unsigned char *)(const void *)(word + b->size / 8);
    for (uint64_t i = 0; i < b->size % 8; i++)
        if (rest[i] != 0xdb) return false;
    return true;
}

static UNCHECKED void fill(void *p, uint64_t size, unsigned char byte)
{
    volatile unsigned char *to = (volatile unsigned char *)p;
    for (; size > 0 && ((uintptr_t)to & 7); size--) *to++ = byte;
    for (; size >= 8; size -= 8, to += 8)
        *(volatile uint64_t *)(volatile void *)to = byte * 0x0101010101010101u;
    for (; size > 0; size--) *to++ = byte;
}

/* Blocks begin at a line of their own. */
static void mark(void *p, uint64_t size, bool dead)
{
    size_t line = ((uintptr_t)p - (uintptr_t)m->arena) / CACHE_LINE;
    fill(m->dead + line, (size + CACHE_LINE - 1) / CACHE_LINE, dead);
}

static UNCHECKED bool tail_whole(const struct block *b)
{
    const unsigned char *tail = (const unsigned char *)(b + 1) + b->size;
    for (int i = 0; i < TAIL; i++)
        if (tail[i] != 0xa5) return false;
    return true;
}

static UNCHECKED struct block *block_again(size_t align, size_t size)
{
    for (unsigned i = m->blocks; i-- > 0;) {
        struct block *b = m->block[i];
        if (b->magic != dead_magic || b->size != size || (uintptr_t)(b + 1) % align != 0) continue;
        if (!all_poison(b)) fail("a block was written to after it was freed");
        ORDER_GET(b);
        return b;
    }
    return NULL;
}

UNCHECKED void *alloc_get_aligned(size_t align, size_t size)
{
    if (one_in(m->settings.no_memory)) return NULL;
    if (align < CACHE_LINE) align = CACHE_LINE;
    struct block *b = m->settings.recycle ? block_again(align, size) : NULL;
    if (!b) {
        uintptr_t at = ((uintptr_t)m->top + sizeof *b + align - 1) & ~(uintptr_t)(align - 1);
        if (m->blocks == BLOCKS || at + size + TAIL > (uintptr_t)m->arena + ARENA) fail("the arena is full");
        b = (struct block *)at - 1;
        m->block[m->blocks++] = b;
        m->top = (char *)at + size + TAIL;
    }
    b->size = size;
    b->magic = live_magic;
    fill((char *)(b + 1) + size, TAIL, 0xa5);
    MEMORY_SHOW(b + 1, size);
    mark(b + 1, size, false);
    fill(b + 1, size, 0);
    return b + 1;
}

void *alloc_get(size_t size) { return alloc_get_aligned(CACHE_LINE, size); }

UNCHECKED void alloc_put(void *p)
{
    if (!p) return;
    struct block *b = (struct block *)p - 1;
    if (b->magic == dead_magic) fail("a block is freed twice");
    if (b->magic != live_magic) fail("what is freed is no block");
    if (!tail_whole(b)) fail("a block was written to behind its end");
    MEMORY_WRITTEN(p, b->size);
    ORDER_PUT(b);
    b->magic = dead_magic;
    mark(p, b->size, true);
    fill(p, b->size, 0xdb);
    MEMORY_HIDE(p, b->size);
}

UNCHECKED void *alloc_resize(void *old, size_t size)
{
    char *p = (char *)alloc_get(size);
    if (!old || !p) return p;
    uint64_t before = ((struct block *)old - 1)->size;
    for (uint64_t i = 0; i < before && i < size; i++) p[i] = ((char *)old)[i];
    alloc_put(old);
    return p;
}

void machine_put(void *token) { ORDER_PUT(token); }
void machine_get(void *token) { ORDER_GET(token); }

static UNCHECKED void check_blocks(void)
{
    for (unsigned i = 0; i < m->blocks; i++) {
        if (m->block[i]->magic == dead_magic && !all_poison(m->block[i]))
            fail("a block was written to after it was freed");
        if (!tail_whole(m->block[i])) fail("a block was written to behind its end");
    }
}

void machine_end_child(void)
{
    check_blocks();
    _exit(0);
}

static UNCHECKED bool kept_size(uint64_t size)
{
    for (unsigned i = 0; i < m->kept_sizes; i++)
        if (m->kept_size[i] == size) return true;
    return false;
}

/* The block that p points into, or no block. */
static UNCHECKED unsigned block_at(uintptr_t p)
{
    unsigned low = 0, high = m->blocks;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if ((uintptr_t)(m->block[middle] + 1) <= p) low = middle + 1;
        else high = middle;
    }
    return low > 0 && p < (uintptr_t)(m->block[low - 1] + 1) + m->block[low - 1]->size ? low - 1 : BLOCKS;
}

static UNCHECKED void reach(const char *from, size_t size, unsigned char *seen, unsigned *list,
                            unsigned *count)
{
    const uintptr_t *word = (const uintptr_t *)(const void *)from;
    for (size_t i = 0; i < size / sizeof *word; i++) {
        if (word[i] < (uintptr_t)m->arena || word[i] >= (uintptr_t)m->top) continue;
        unsigned b = block_at(word[i]);
        if (b == BLOCKS || seen[b]) continue;
        seen[b] = 1;
        list[(*count)++] = b;
    }
}

/* What is not freed must be of a kind that the library keeps, by its size but for one block, and be where static data
 * leads to. */
UNCHECKED void machine_check_leaks(const void *any_size)
{
    static const char one_of_a_kind[] = "a block is not freed";
    unsigned char *seen = (unsigned char *)calloc(m->blocks + 1, 1);
    unsigned *list = (unsigned *)calloc(m->blocks + 1, sizeof *list), count = 0;
    if (!seen || !list) abort();
    reach(statics(), statics_size(), seen, list, &count);
    for (unsigned i = 0; i < count; i++)
        reach((const char *)(m->block[list[i]] + 1), (size_t)m->block[list[i]]->size, seen, list, &count);
    for (unsigned i = 0; i < m->blocks; i++) {
        struct block *b = m->block[i];
        if (b->magic != live_magic) continue;
        if (!m->calibrated) {
            if (!kept_size(b->size)) m->kept_size[m->kept_sizes++] = b->size;
            if (m->kept_sizes == SIZES) fail("too many sizes");
            continue;
        }
        if (!kept_size(b->size) && (const void *)(b + 1) != any_size) {
            fprintf(stderr, "machine: block %u of %llu bytes\n", i, (unsigned long long)b->size);
            fail(one_of_a_kind);
        }
        if (!seen[i]) {
            fprintf(stderr, "machine: nothing leads to block %u of %llu bytes\n", i,
                    (unsigned long long)b->size);
            fail(one_of_a_kind);
        }
    }
    m->calibrated = true;
    free(seen);
    free(list);
}

/* ---- a schedule */

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

void machine_open(void)
{
    if (locals_size() > LOCALS) abort();
    m = (struct machine *)map(sizeof *m);
    m->arena = (char *)map(ARENA);
    m->dead = (unsigned char *)map(ARENA / CACHE_LINE);
    m->image = (char *)map(statics_size());
    m->top = m->arena;
    copy_words(m->image, statics(), statics_size());
    MEMORY_OWN(__start_fiber_locals, locals_size());
    MEMORY_OWN(&errno, sizeof errno);
    signal(SIGABRT, report);
    signal(SIGALRM, report);
#if !defined(__SANITIZE_ADDRESS__) && !defined(FIBER_ASAN) && !FIBER_TSAN
    signal(SIGSEGV, report);
    signal(SIGBUS, report);
#endif
}

static void body_main(void *arg)
{
    struct actor *a = (struct actor *)arg;
    ORDER_GET(a);
    m->body(a->arg);
    m->quitting = true;
    m->current = NULL;
    a->fiber.clean = 1;
    ORDER_PUT(m);
    fiber_leave(&a->fiber, &m->outside);
}

void machine_play(const struct machine_settings *settings, void (*body)(void *arg), void *arg)
{
    copy_words(statics(), m->image, statics_size());
    MEMORY_HIDE(m->arena, (size_t)(m->top - m->arena));
    m->settings = *settings;
    m->random = settings->seed;
    m->current = NULL;
    m->actors = m->blocks = m->handlers = m->phase = m->generation = 0;
    m->top = m->arena;
    m->now = 1000000;
    m->points = 0;
    m->lowest = 0;
    m->stay_left = m->hurry_left = 1;
    m->body = body;
    m->quitting = m->child = m->look = false;
    m->key_destructor = NULL;
    m->plays++;
    for (unsigned i = 0; i < settings->changes; i++)
        m->change[i] = 1 + (long)below((uint64_t)(settings->length > 0 ? settings->length : 1));

    struct actor *first = actor_new("main", NULL, arg, NULL);
    fiber_again(&first->fiber, body_main, first);
    ORDER_PUT(first);
    first->begun = true;
    m->current = first;
    fiber_switch(&m->outside, &first->fiber);
    for (unsigned i = 1; i < m->actors; i++)
        if (m->actor[i].begun && !m->actor[i].over) fiber_switch(&m->outside, &m->actor[i].fiber);
    ORDER_GET(m);
    m->quitting = false;
    m->all_points += m->points;
    check_blocks();
}

long machine_points(void) { return m->points; }
long machine_points_of(unsigned thread) { return thread < m->actors ? m->actor[thread].points : 0; }
long machine_plays(void) { return m->plays; }
long machine_forks(void) { return m->forks; }
long machine_all_points(void) { return m->all_points; }
