/* SPDX-License-Identifier: BSD-2-Clause */
/* rival: the library's sources in small, with a point before each atomic operation, where another thread does
 * a thing of its own from its beginning to its end; and in place of alloc.c, clock.c, futex.c and service.c a
 * machine that does as the test says.
 *
 * One thread runs at a time. A rival that sleeps in a futex gives way to the thread that it came between, and
 * goes on when that one sleeps or is through. Build with SYNC_SEEDED and SYNC_SMALL. */
#ifndef CCTX_TEST_RIVAL_H
#define CCTX_TEST_RIVAL_H

#include "support.h"

#include <semaphore.h>

#include "alloc.h"
#include "clock.h"
#include "epoch.h"
#include "futex.h"
#include "seeded.h"
#include "service.h"

/* ---- what the test says */

static int64_t fake_now = 1000000000;
static long fail_in;            /* the how manieth allocation from now fails; 0: none; negative: all */
static bool no_service;                 /* the library's threads cannot be made */
static bool runs_ahead;                 /* the kernel's idea of the time: one sleep ends a nanosecond early */
static bool spurious;                   /* one sleep ends by itself */
static int rests = -1;                  /* not negative: a service sleeps out its times, this often; else it ends */
static void (*in_rest)(void);           /* a rival that comes in such a sleep, and ends it */
static void (*in_sleep)(void);          /* a rival that comes when the test's thread sleeps */

/* ---- what it may ask */

enum { SERVICES = 4 };
static struct service *services[SERVICES];     /* those that were asked for, by the order of it */
static long live_blocks;
static long failures;                   /* allocations that failed */
static long wakes;                      /* of words */

/* ---- rivals */

enum { RIVALS = 32, POISON = 0xdb };

struct rival {
    pthread_t thread;
    sem_t go, back;
    void (*fn)(void);
    bool started, over, asleep, yields, service;
    sync_u32 *word;                     /* it sleeps on, until it is woken */
};
static struct rival rivals[RIVALS];
static _Thread_local struct rival *me;  /* NULL: the test's thread */

/* At which point from now on this thread is come between, by whom, and in which function: NULL, in any. */
static _Thread_local long points_left;
static _Thread_local void (*visitor)(void), (*second)(void);
static _Thread_local const char *points_in;
static _Thread_local long second_left;
static _Thread_local bool first_came;
/* At which point from now on this thread, a rival, lets the other go on; 0: at none. */
static _Thread_local long pause_left;
static long rival_pause;                /* and where each rival does, from its beginning */

/* Lets r go on until it sleeps or is through with all that a thread does. */
static void rival_resume(struct rival *r)
{
    r->asleep = r->yields = false;
    sem_post(&r->go);
    while (sem_wait(&r->back) != 0) {}
    if (!r->over) return;
    thread_join(r->thread);
    r->started = false;
}

static void *rival_main(void *arg)
{
    me = arg;
    pause_left = rival_pause;
    while (sem_wait(&me->go) != 0) {}
    me->fn();
    pause_left = 0;                     /* what the thread's end does it does to its end */
    me->over = true;
    sem_post(&me->back);
    return NULL;
}

static void rival_start(void (*fn)(void), bool service)
{
    struct rival *r = rivals;
    while (r < rivals + RIVALS && r->started) r++;
    CHECK(r < rivals + RIVALS);
    *r = (struct rival){.fn = fn, .started = true, .service = service};
    sem_init(&r->go, 0, 0);
    sem_init(&r->back, 0, 0);
    r->thread = thread_start(rival_main, r);
    rival_resume(r);
}

static void rival_comes(void (*fn)(void)) { rival_start(fn, false); }

/* One of the library's threads, until it sleeps. */
static void service_comes(const char *name)
{
    int i = 0;
    while (i < SERVICES && (!services[i] || strcmp(services[i]->name, name) != 0)) i++;
    CHECK(i < SERVICES);
    rival_start(services[i]->main, true);
}

/* The nth point of this thread from now on is where fn comes. */
static void expect(void (*fn)(void), long at)
{
    visitor = fn;
    points_left = at;
    points_in = NULL;
    first_came = false;
}
/* The next point in a function. */
static void expect_in(const char *function, void (*fn)(void))
{
    expect(fn, 1);
    points_in = function;
}
/* Some points after the first has come, another does. */
static void expect_then(void (*fn)(void), long at)
{
    second = fn;
    second_left = at;
}
/* Nobody comes any more; true if the first did. */
static bool met(void)
{
    visitor = second = NULL;
    return first_came;
}

static void rival_yields(void)
{
    me->yields = true;
    sem_post(&me->back);
    while (sem_wait(&me->go) != 0) {}
}

void sched_point(const char *function, int line)
{
    (void)line;
    if (pause_left > 0 && --pause_left == 0) rival_yields();
    if (!visitor || (points_in && strcmp(function, points_in) != 0) || --points_left > 0) return;
    void (*fn)(void) = visitor;
    expect(second, second_left);
    first_came = true;
    second = NULL;
    rival_comes(fn);
}

static void rival_sleeps(sync_u32 *word)
{
    me->word = word;
    me->asleep = true;
    sem_post(&me->back);
    while (sem_wait(&me->go) != 0) {}
    me->word = NULL;
}

/* Some rival that can go on does; false: there is none. */
static bool rival_goes_on(void)
{
    for (struct rival *r = rivals; r < rivals + RIVALS; r++)
        if (r->started && r != me && (r->yields || (r->asleep && !r->word))) {
            rival_resume(r);
            return true;
        }
    return false;
}

/* Each rival that slept goes on to its end: what it waits for has come. */
static void rivals_end(void)
{
    while (rival_goes_on()) {}
    for (int i = 0; i < RIVALS; i++) CHECK(!rivals[i].started);
}

/* ---- the machine */

static bool memory_fails(void)
{
    if (fail_in == 0 || (fail_in > 0 && --fail_in > 0)) return false;
    failures++;
    return true;
}

struct block {
    size_t size;
    void *base;
};

void *alloc_get_aligned(size_t align, size_t size)
{
    if (memory_fails()) return NULL;
    char *base = aligned_alloc(align, (align + size + align - 1) / align * align);
    CHECK(base != NULL);
    *(struct block *)(void *)(base + align - sizeof(struct block)) = (struct block){size, base};
    __atomic_add_fetch(&live_blocks, 1, __ATOMIC_RELAXED);     /* threads of an arena are real ones */
    return memset(base + align, 0, size);
}

void *alloc_get(size_t size) { return alloc_get_aligned(CACHE_LINE, size); }

void alloc_put(void *p)
{
    if (!p) return;
    struct block b = *((struct block *)p - 1);
    __atomic_sub_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
    memset(p, POISON, b.size);
    free(b.base);
}

void *alloc_resize(void *old, size_t size)
{
    void *p = alloc_get(size);
    if (!p || !old) return p;
    size_t before = ((struct block *)old - 1)->size;
    memcpy(p, old, before < size ? before : size);
    alloc_put(old);
    return p;
}

int64_t clock_now(void) { return fake_now; }

static sync_u32 *main_word, *rest_word;

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    if (atomic_load_explicit(&word->raw, memory_order_relaxed) != seen) return true;
    if (spurious) {
        spurious = false;
        return true;
    }
    if (me && me->service && rests >= 0 && until != INT64_MAX) {
        void (*rival)(void) = in_rest;
        in_rest = NULL;
        rests++;
        if (!rival) {
            if (fake_now < until) fake_now = until;
            return false;
        }
        rest_word = word;
        rival_comes(rival);
        CHECK(!rest_word);                  /* else it sleeps on, though what it waited for has come */
        return true;
    }
    if (me && me->service) {
        me->over = true;
        sem_post(&me->back);
        pthread_exit(NULL);
    }
    if (me) {
        rival_sleeps(word);
        return true;
    }
    main_word = word;
    void (*fn)(void) = in_sleep;
    in_sleep = NULL;
    if (fn) rival_comes(fn);
    while (main_word && rival_goes_on()) {}
    if (!main_word) return true;
    main_word = NULL;
    CHECK(until != INT64_MAX);              /* else it sleeps for ever */
    if (fake_now < until) fake_now = until - runs_ahead;
    runs_ahead = false;
    return false;
}

void futex_wake(sync_u32 *word)
{
    wakes++;
    if (main_word == word) main_word = NULL;
    if (rest_word == word) rest_word = NULL;
    for (int i = 0; i < RIVALS; i++)
        if (rivals[i].word == word) rivals[i].word = NULL;
}

/* In place of libc's, by --wrap: a loop that waits for another thread. */
int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    if (me) rival_yields();
    else CHECK(rival_goes_on());
    return 0;
}

bool service_start(struct service *s)
{
    if (no_service) return false;
    for (int i = 0; i < SERVICES; i++) {
        if (services[i] == s) return true;
        if (!services[i]) {
            services[i] = s;
            return true;
        }
    }
    return false;
}
void service_forked(struct service *s) { (void)s; }

/* ---- sweeps */

struct scene {
    const char *name;
    unsigned children;
    void (*plant)(void), (*act)(void), (*rival)(void), (*check)(void);
    /* Comes after the rival, at each of some points; NULL: nobody. With rival_pauses the rival waits there */
    void (*then)(void);
};
enum { THEN = 12, PAUSES = 40 };
static void rival_pauses(void) {}

static const struct scene *scene;
static long nth;

static void scene_tell(int sig)
{
    char line[200];
    const char *name = scene ? scene->name : "-";
    int n = snprintf(line, sizeof line, "rival: %s: at point %ld (signal %d)\n", name, nth, sig);
    ssize_t written = write(STDERR_FILENO, line, (size_t)n);
    (void)written;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Until what was retired is gone: nobody is in a section. */
static void polls(void)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 20 && epoch_limbo() > 0; i++) epoch_poll(t);
    thread_end(t);
}

static bool scene_act(const struct scene *s, long then)
{
    expect(s->rival, nth);
    rival_pause = s->then == rival_pauses ? then : 0;
    if (s->then && s->then != rival_pauses) expect_then(s->then, then);
    s->act();
    bool came = met();
    if (!came) rival_comes(s->rival);
    rival_pause = 0;
    rivals_end();
    return came;
}

static bool scene_once(const struct scene *s, long then)
{
    s->plant();
    bool came = scene_act(s, then);
    s->check();
    polls();
    CHECK(epoch_limbo() == 0);
    cell_drain(&thread_begin()->cells);
    CHECK(cell_pages() == 0);           /* of all threads: no context and no family is left */
    return came;
}

static long thens(const struct scene *s) { return !s->then ? 1 : s->then == rival_pauses ? PAUSES : THEN; }

/* The rival comes between at each point of act in turn, and after the last. */
static void sweep(const struct scene *s)
{
    long before = 0;
    bool came;
    scene = s;
    nth = 0;
    do {
        nth++;
        came = false;
        for (long then = 1; then <= thens(s); then++) came |= scene_once(s, then);
        if (nth == 4) before = __atomic_load_n(&live_blocks, __ATOMIC_RELAXED);
    } while (came);
    CHECK(nth <= 4 || __atomic_load_n(&live_blocks, __ATOMIC_RELAXED) <= before + 4);       /* what is kept for ever is made at first */
    scene = NULL;
}

/* The same on a process as good as new for each point. */
static void scene_in_child(void *arg)
{
    const struct scene *s = arg;
    scene = s;
    if (!scene_once(s, 1)) _exit(1);
}
static void sweep_anew(const struct scene *s)
{
    int status = 0;
    for (nth = 1; status == 0; nth++) {
        status = run_in_child(scene_in_child, (void *)(uintptr_t)s);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    }
    CHECK(nth > 2);
}

/* The same in the child of a fork, on what was planted before it, and is undone in the parent. */
static long then_in_child;
static void act_in_child(void *arg)
{
    const struct scene *s = arg;
    bool came = scene_act(s, then_in_child);
    s->check();
    if (!came) _exit(1);
}
static void sweep_in_forks(const struct scene *s, void (*undo)(void))
{
    bool came = true;
    scene = s;
    for (nth = 1; came; nth++) {
        came = false;
        if (TEST_EMULATED) watchdog(100);       /* an emulator needs a tenth of a second for each fork */
        for (then_in_child = 1; then_in_child <= thens(s); then_in_child++) {
            s->plant();
            int status = run_in_child(act_in_child, (void *)(uintptr_t)s);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            came |= status == 0;
            undo();
        }
    }
    scene = NULL;
}

#endif
