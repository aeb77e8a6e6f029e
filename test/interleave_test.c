/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's own sources, with a scheduling point before each atomic operation and a machine of the
 * test's own: of two threads one runs at a time, and it is decided here after how many points the other one
 * goes on. Each scenario is run with every switch from one thread to the other, from either side, and with a
 * seeded choice of two switches. A freed block is poisoned and kept; a sleeper that nobody wakes, a block
 * that is not freed or is written after it was, and any broken promise end the test with the schedule that
 * led there.
 */
#include "support.h"

#include <semaphore.h>

#include "alloc.h"
#include "callback.h"
#include "cancel.h"
#include "clock.h"
#include "deadline.h"
#include "futex.h"
#include "seeded.h"
#include "service.h"

/* ---- the scheduler ---- */

enum status { RUNNABLE, ASLEEP, FINISHED };

struct side {
    sem_t go, back;
    void (*fn)(void);
    long left;                  /* points until it pauses; negative: it does not */
    long points;
    enum status status;
    sync_u32 *word;             /* it sleeps on */
    int64_t until;
    bool woken, late;
};

static struct side sides[2];
static _Thread_local struct side *me;
static int64_t fake_now = 1000000;
static const char *scenario_name = "none";
static long first_points, second_points;
static bool swapped;

static void give_back(struct side *s)
{
    sem_post(&s->back);
    while (sem_wait(&s->go) != 0) {}
}

void sched_point(const char *function, int line)
{
    struct side *s = me;
    (void)function;
    (void)line;
    if (!s) return;
    s->points++;
    if (s->left < 0 || s->left-- > 0) return;
    give_back(s);
}

static void *side_main(void *arg)
{
    struct side *s = arg;
    while (sem_wait(&s->go) != 0) {}
    for (;;) {
        me = s;
        s->fn();
        me = NULL;
        s->status = FINISHED;
        give_back(s);
    }
    return NULL;
}

/* Lets s run on until it pauses, sleeps or ends. */
static void resume(struct side *s, long points)
{
    if (s->status == FINISHED) return;
    s->status = RUNNABLE;
    s->left = points;
    sem_post(&s->go);
    while (sem_wait(&s->back) != 0) {}
}

static bool can_run(struct side *s)
{
    return s->status == RUNNABLE || (s->status == ASLEEP && s->woken);
}

/* a runs for i points, b for j; then a to its end, then b. A sleep with an end times out when nothing else
 * goes on. */
static void run_sides(void (*a)(void), void (*b)(void), long i, long j)
{
    struct side *s = sides;
    s[0].fn = a;
    s[1].fn = b;
    for (int k = 0; k < 2; k++) {
        s[k].status = RUNNABLE;
        s[k].points = 0;
        s[k].late = false;
    }
    resume(&s[0], i);
    resume(&s[1], j);
    for (;;) {
        if (can_run(&s[0])) resume(&s[0], -1);
        else if (can_run(&s[1])) resume(&s[1], -1);
        else if (s[0].status == FINISHED && s[1].status == FINISHED) return;
        else {
            struct side *end = s[0].status == ASLEEP && s[0].until != INT64_MAX ? &s[0] : &s[1];
            bool asleep_for_ever = end->status != ASLEEP || end->until == INT64_MAX;
            CHECK(!asleep_for_ever);
            if (fake_now < end->until) fake_now = end->until;
            end->late = true;
            resume(end, -1);
        }
    }
}

static void report(int sig)
{
    char line[256];
    int n = snprintf(line, sizeof line, "interleave: %s%s: %ld points of one, %ld of the other (signal %d)\n",
                     scenario_name, swapped ? ", swapped" : "", first_points, second_points, sig);
    ssize_t written = write(STDERR_FILENO, line, (size_t)n);
    (void)written;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* ---- the machine: what alloc.c, clock.c, futex.c and service.c are otherwise ---- */

struct block {
    size_t size;
    void *base;
    struct block *next;         /* in the list of what was freed */
    uint64_t magic;
};
#define LIVE ((uint64_t)0x11fe11fe11fe11fe)
#define DEAD ((uint64_t)0xdeaddeaddeaddead)
enum { POISON = 0xdb };

static long live_blocks;
static struct block *freed;

void *alloc_get_aligned(size_t align, size_t size)
{
    if (align < CACHE_LINE) align = CACHE_LINE;
    char *base = aligned_alloc(align, (align + size + align - 1) / align * align);
    CHECK(base != NULL);
    struct block *b = (struct block *)(void *)(base + align - sizeof *b);
    *b = (struct block){size, base, NULL, LIVE};
    live_blocks++;
    return memset(base + align, 0, size);
}

void *alloc_get(size_t size) { return alloc_get_aligned(CACHE_LINE, size); }

void alloc_put(void *p)
{
    if (!p) return;
    struct block *b = (struct block *)p - 1;
    CHECK(b->magic == LIVE);            /* else it is freed twice */
    live_blocks--;
    b->magic = DEAD;
    if (TEST_ASAN) {
        free(b->base);
        return;
    }
    memset(p, POISON, b->size);
    b->next = freed;
    freed = b;
}

void *alloc_resize(void *old, size_t size)
{
    void *p = alloc_get(size);
    if (!old) return p;
    size_t before = ((struct block *)old - 1)->size;
    memcpy(p, old, before < size ? before : size);
    alloc_put(old);
    return p;
}

static void bury_freed(void)
{
    for (struct block *b, *next = freed; (b = next) != NULL;) {
        next = b->next;
        const unsigned char *byte = (const unsigned char *)(b + 1);
        for (size_t i = 0; i < b->size; i++)
            CHECK(byte[i] == POISON);     /* else it was written after it was freed */
        free(b->base);
    }
    freed = NULL;
}

int64_t clock_now(void) { return fake_now; }

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    struct side *s = me;
    CHECK(s != NULL);
    if (atomic_load_explicit(&word->raw, memory_order_relaxed) != seen) return true;
    s->word = word;
    s->until = until;
    s->status = ASLEEP;
    s->woken = s->late = false;
    give_back(s);
    s->word = NULL;
    return !s->late;
}

void futex_wake(sync_u32 *word)
{
    for (int i = 0; i < 2; i++)
        if (sides[i].word == word) sides[i].woken = true;
}

/* The library's threads are played by the scenarios. */
bool service_start(struct service *s) { return s != NULL; }
void service_forked(struct service *s) { (void)s; }

/* ---- the scenarios' ground ---- */

enum { MANY = 70 };             /* children: more than stand inline and in one chunk */
static cctx_t *p, *c[MANY], *d;
static const cctx_t *v;
static unsigned children;       /* before the race; a parameter of the scenarios */
static bool a_won, b_won;
static cctx_callback_t cb;
static int ran, destroyed;
static const cctx_cause_t cause_a = {1, "a"}, cause_b = {2, "b"};

static void destroy(void *value) { ++*(int *)value; }
static const cctx_key_t key = {"key", destroy};

/* fn sees what its context promises: everything below is done. */
static void call(void *arg)
{
    (void)arg;
    ran++;
    CHECK(cctx_is_done(p));
    for (unsigned i = 0; i < children; i++) CHECK(!c[i] || cctx_is_done(c[i]));
}

static void call_alone(void *arg)
{
    (void)arg;
    ran++;
}

static void polls(void)
{
    struct thread *t = thread_begin();
    for (int i = 0; i < 4; i++) epoch_poll(t);
    thread_end(t);
}

static void plant_parent(void)
{
    p = cctx_with_cancel(cctx_background());
    for (unsigned i = 0; i < children; i++) c[i] = cctx_with_cancel(p);
    d = NULL;
    v = NULL;
    a_won = b_won = false;
    ran = destroyed = 0;
    memset(&cb, 0, sizeof cb);
}

static void plant_grandchildren(void)
{
    plant_parent();
    for (unsigned i = 0; i + 1 < children; i += 2) {
        cctx_unref(c[i + 1]);
        c[i + 1] = cctx_with_cancel(c[i]);
    }
}

static void drop_children(void)
{
    for (unsigned i = 0; i < children; i++) {
        cctx_unref(c[i]);
        c[i] = NULL;
    }
}

static void drop_all(void)
{
    drop_children();
    cctx_unref(d);
    cctx_unref(v);
    cctx_unref(p);
}

static void all_done(void)
{
    CHECK(cctx_is_done(p));
    for (unsigned i = 0; i < children; i++) CHECK(!c[i] || cctx_is_done(c[i]));
}

/* ---- derive against cancel. C3, I9 ---- */

static void derive(void) { d = cctx_with_cancel(p); }
static void cancel_all(void)
{
    a_won = cctx_cancel(p);
    all_done();
}
static void check_derived(void)
{
    CHECK(a_won);
    all_done();
    CHECK(cctx_err(d) == ECANCELED && cctx_cause(d) == &cctx_canceled);
    drop_all();
}

/* ---- two derivations: each child has a slot of its own. R1, I4 ---- */

static void derive_other(void) { v = cctx_with_cancel(p); }
static void check_two_derived(void)
{
    CHECK(v->slot != d->slot);
    cctx_cancel(p);
    CHECK(cctx_is_done(v) && cctx_is_done(d));
    drop_all();
}

/* ---- two cancels: when either returns, all is done; one has won. C1, C3, I8 ---- */

static void cancel_as_a(void)
{
    a_won = cctx_cancel_cause(p, &cause_a);
    all_done();
}
static void cancel_as_b(void)
{
    b_won = cctx_cancel_cause(p, &cause_b);
    all_done();
}
static void cancel_plainly(void)
{
    b_won = cctx_cancel(p);
    all_done();
}
static void check_one_won(void)
{
    const cctx_cause_t *cause = cctx_cause(p);
    CHECK(a_won != b_won);
    CHECK((cause == &cause_a) == a_won);
    for (unsigned i = 0; i < children; i++) CHECK(cctx_cause(c[i]) == cause);
    drop_all();
}

/* ---- cancel from above while one below cancels its own. C4 ---- */

static void cancel_below(void)
{
    cctx_cancel(c[0]);
    CHECK(cctx_is_done(c[0]) && cctx_is_done(c[1]));
}

static void check_all_done(void)
{
    all_done();
    drop_all();
}

/* ---- cancel while what it walks dies. I5, I10 ---- */

static void drop_as_b(void)
{
    drop_children();
    polls();
}
static void cancel_only(void) { a_won = cctx_cancel(p); }
static void check_canceled(void)
{
    CHECK(a_won && cctx_err(p) == ECANCELED);
    drop_all();
}

/* ---- the last handles of parent and children at once. I5, I6 ---- */

static void drop_parent(void)
{
    cctx_unref(p);
    p = NULL;
    polls();
}
static void check_nothing(void) { drop_all(); }

/* ---- derive through a value context while the owner is closed; the value goes once. C17, I6 ---- */

static void plant_value(void)
{
    plant_parent();
    v = cctx_with_value(p, &key, &destroyed);
}
static void derive_through_value(void)
{
    d = cctx_with_cancel(v);
    cctx_unref(v);
    v = NULL;
    cctx_unref(d);
    d = NULL;
    polls();
}
static void check_destroyed(void)
{
    drop_all();
    CHECK(destroyed == 1);
}
static void drop_value(void)
{
    cctx_unref(d);
    d = NULL;
    cctx_unref(v);
    v = NULL;
    polls();
}
static void plant_value_with_child(void)
{
    plant_value();
    d = cctx_with_cancel(v);
}

/* ---- a close of one handle while the other one derives, and lets go. C3 ---- */

static void plant_two_handles(void)
{
    plant_parent();
    cctx_ref(p);
}
static void close_one(void) { cctx_close(p); }
static void derive_and_let_go(void)
{
    d = cctx_with_cancel(p);
    cctx_unref(p);
}
static void check_closed(void)
{
    CHECK(cctx_err(d) == ECANCELED);
    p = NULL;
    drop_all();
}

/* ---- callbacks: register, stop, stop and wait, against cancel. C28, C29, K1, K2, K3 ---- */

static void plant_callback(void)
{
    plant_parent();
    CHECK(cctx_after_func(p, &cb, call, NULL) == 0);
}
/* On a context that was done by then it runs at once, whatever its cancel has still to do. */
static void register_it(void) { CHECK(cctx_after_func(p, &cb, call_alone, NULL) == 0); }
static void check_ran_once(void)
{
    CHECK(ran == 1);
    CHECK(!cctx_stop_wait(&cb));
    drop_all();
}
static void stop_a(void) { a_won = cctx_stop(&cb); }
static void stop_b(void) { b_won = cctx_stop(&cb); }
static void cancel_b(void) { cctx_cancel(p); }
static void check_ran_or_stopped(void)
{
    CHECK(ran == !a_won);
    drop_all();
}
static void check_one_stopped(void)
{
    CHECK(a_won != b_won && ran == 0);
    drop_all();
}
/* The storage is the caller's when stop_wait returns: what the library writes there later is seen. */
static void stop_wait_and_poison(void)
{
    a_won = cctx_stop_wait(&cb);
    CHECK(ran == !a_won);
    memset(&cb, 0, sizeof cb);
    memset(&cb, POISON, sizeof cb);
}
static void check_poisoned(void)
{
    const unsigned char *byte = (const unsigned char *)&cb;
    for (size_t i = 0; i < sizeof cb; i++) CHECK(byte[i] == POISON);
    CHECK(ran == !a_won);
    drop_all();
}
static void cancel_and_drop(void)
{
    cctx_cancel(p);
    drop_children();
    cctx_unref(p);
    p = NULL;
    polls();
}
static void plant_callback_alone(void)
{
    plant_parent();
    CHECK(cctx_after_func(p, &cb, call_alone, NULL) == 0);
}
static void cancel_in_part(void)
{
    b_won = cctx_cancel(p);
}
/* Two cancels and a callback: both return, the callback has run or is being run by the other one. */
static void check_ran_once_by_either(void)
{
    CHECK(ran == 1 && a_won != b_won);
    drop_all();
}

/* ---- waits. C24, D1, I11 ---- */

static void wait_a(void) { CHECK(cctx_wait(p) == ECANCELED); }
static void wait_below(void) { CHECK(cctx_wait(c[0]) == ECANCELED); }
/* One who was stopped after its flip left the sleepers to whoever comes next. */
static void flip_and_cancel(void)
{
    done_flip(&p->state, 0);
    CHECK(!cctx_cancel(p));
}
static void wait_in_time(void) { a_won = cctx_wait_until(p, fake_now + 50); }
static void check_waited(void)
{
    CHECK(cctx_is_done(p));
    drop_all();
}
static void nothing(void) {}
static void check_timed_out(void)
{
    CHECK(!a_won && sync_load_acq(&p->state, done) >> 24 == 0);
    drop_all();
}

/* ---- deadlines: arm against the role; the role against the last reference. T2, T3, T4 ---- */

static void role(void)
{
    struct thread *t = thread_begin();
    if (fake_now >= timer_next(&node_timer)) timer_work(&node_timer, t, fake_now);
    thread_end(t);
}
/* Works until the time given, as the timer thread would: no oftener than it must. */
static void role_until(int64_t end)
{
    while (timer_next(&node_timer) <= end) {
        if (timer_next(&node_timer) > fake_now) fake_now = timer_next(&node_timer);
        role();
    }
    fake_now = end;
}
static void plant_timed(void)
{
    plant_parent();
    d = cctx_with_timeout(p, 1000);
}
static int64_t far;
static void arm(void) { v = cctx_with_timeout(p, far); }
static void role_now(void)
{
    role();
    CHECK(cctx_err(d) == 0);
}
static void role_due(void)
{
    fake_now = d->deadline;
    role();
    CHECK(cctx_err(d) == ETIMEDOUT);
}
static void check_fires(void)
{
    role_until(v->deadline - 1);
    CHECK(cctx_err(v) == 0);
    role_until(v->deadline);
    CHECK(cctx_err(v) == ETIMEDOUT);
    drop_all();
}
static void plant_due(void)
{
    plant_timed();
    role();
    fake_now += 1000;
}
static void drop_timed(void)
{
    cctx_unref(d);
    d = NULL;
    polls();
}
static void role_of_the_dying(void) { role(); }

/* ---- a merge: two parents end at once; it dies while one ends. B1 ---- */

static void plant_merge(void)
{
    plant_parent();
    d = cctx_with_any((const cctx_t *[]){c[0], c[1], c[2]}, 3);
    v = cctx_with_cancel(d);
}
static void cancel_second(void)
{
    a_won = cctx_cancel_cause(c[1], &cause_a);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void cancel_third(void)
{
    b_won = cctx_cancel_cause(c[2], &cause_b);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void cancel_first(void)
{
    b_won = cctx_cancel_cause(c[0], &cause_b);
    CHECK(cctx_is_done(d) && cctx_is_done(v));
}
static void check_merged(void)
{
    const cctx_cause_t *cause = cctx_cause(d);
    CHECK(a_won && b_won);
    CHECK(cause == &cause_a || cause == &cause_b);
    CHECK(cctx_cause(v) == cause);
    drop_all();
}
static void drop_merge(void)
{
    cctx_unref(v);
    cctx_unref(d);
    v = d = NULL;
    polls();
}
static void cancel_second_only(void) { a_won = cctx_cancel(c[1]); }
static void merge(void) { d = cctx_with_any((const cctx_t *[]){c[0], c[1]}, 2); }
static void check_merge_done(void)
{
    CHECK(a_won && cctx_err(d) == ECANCELED && cctx_err(c[0]) == 0);
    drop_all();
}

/* ---- the engine ---- */

enum { TWO_SWITCHES = TEST_TSAN ? 30 : 300 };    /* how many of them, for each scenario and side */
static long baseline, points[2], schedules;

struct scenario {
    const char *name;
    unsigned children;
    int64_t far;
    void (*plant)(void), (*a)(void), (*b)(void), (*check)(void);
};

static const struct scenario scenarios[] = {
    {"derive the first child, cancel", 0, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the second child, cancel", 1, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the child that needs a roster, cancel", 2, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive the child that needs a chunk, cancel", 58, 0, plant_parent, derive, cancel_all, check_derived},
    {"derive, derive", 2, 0, plant_parent, derive, derive_other, check_two_derived},
    {"cancel, cancel, two causes", 3, 0, plant_grandchildren, cancel_as_a, cancel_as_b, check_one_won},
    {"cancel, cancel, one cause", 4, 0, plant_grandchildren, cancel_as_a, cancel_plainly, check_one_won},
    {"cancel, cancel below", 4, 0, plant_grandchildren, cancel_all, cancel_below, check_all_done},
    {"cancel, the children go", 4, 0, plant_grandchildren, cancel_only, drop_as_b, check_canceled},
    {"cancel, many children go", 12, 0, plant_parent, cancel_only, drop_as_b, check_canceled},
    {"the parent goes, the child goes", 1, 0, plant_parent, drop_parent, drop_as_b, check_nothing},
    {"the parent goes, the children go", 6, 0, plant_grandchildren, drop_parent, drop_as_b, check_nothing},
    {"the owner goes, derive", 1, 0, plant_value, drop_parent, derive_through_value, check_destroyed},
    {"cancel, derive by a value", 1, 0, plant_value, cancel_only, derive_through_value, check_destroyed},
    {"cancel, a value goes", 1, 0, plant_value_with_child, cancel_only, drop_value, check_destroyed},
    {"close, derive by another handle", 0, 0, plant_two_handles, close_one, derive_and_let_go, check_closed},
    {"register, cancel", 1, 0, plant_parent, register_it, cancel_b, check_ran_once},
    {"stop, cancel", 1, 0, plant_callback, stop_a, cancel_b, check_ran_or_stopped},
    {"stop, stop", 0, 0, plant_callback, stop_a, stop_b, check_one_stopped},
    {"stop and wait, cancel", 1, 0, plant_callback, stop_wait_and_poison, cancel_b, check_poisoned},
    {"stop, cancel, go", 1, 0, plant_callback_alone, stop_wait_and_poison, cancel_and_drop, check_poisoned},
    {"two cancels, a callback", 2, 0, plant_callback, cancel_only, cancel_in_part, check_ran_once_by_either},
    {"wait, cancel", 0, 0, plant_parent, wait_a, cancel_b, check_waited},
    {"wait, cancel after one that was stopped", 0, 0, plant_parent, wait_a, flip_and_cancel, check_waited},
    {"wait below, cancel", 1, 0, plant_parent, wait_below, cancel_b, check_waited},
    {"wait in time, cancel", 0, 0, plant_parent, wait_in_time, cancel_b, check_waited},
    {"wait in time, nothing", 0, 0, plant_parent, wait_in_time, nothing, check_timed_out},
    {"arm near, the role", 0, 500, plant_timed, arm, role_now, check_fires},
    {"arm near, the role with one due", 0, 1500, plant_timed, arm, role_due, check_fires},
    {"arm far, the role", 0, CCTX_S(2), plant_timed, arm, role_now, check_fires},
    {"arm farther, the role", 0, CCTX_S(60), plant_timed, arm, role_now, check_fires},
    {"a deadline comes, its context goes", 0, 0, plant_due, role_of_the_dying, drop_timed, check_nothing},
    {"two parents of a merge end", 3, 0, plant_merge, cancel_second, cancel_third, check_merged},
    {"the first of a merge ends, and another", 3, 0, plant_merge, cancel_second, cancel_first, check_merged},
    {"one of a merge ends, the merge goes", 3, 0, plant_merge, cancel_second_only, drop_merge, check_nothing},
    {"merge, a parent ends", 2, 0, plant_parent, merge, cancel_second_only, check_merge_done},
};

/* Both sides and this thread poll until nothing is in limbo: then nothing may be left. */
static void settle(void)
{
    for (int i = 0; i < 8 && epoch_limbo() > 0; i++) {
        run_sides(polls, polls, -1, -1);
        polls();
    }
    CHECK(epoch_limbo() == 0);
}

static void run_once(const struct scenario *s, long i, long j)
{
    first_points = i;
    second_points = j;
    schedules++;
    s->plant();
    if (swapped) run_sides(s->b, s->a, i, j);
    else run_sides(s->a, s->b, i, j);
    points[0] = sides[0].points;
    points[1] = sides[1].points;
    s->check();
    settle();
    bury_freed();
    CHECK(live_blocks == baseline || baseline < 0);
}

static void run_scenario(const struct scenario *s, rng_t *rng)
{
    scenario_name = s->name;
    children = s->children;
    far = s->far;
    for (int k = 0; k < 2; k++) {
        swapped = k == 1;
        baseline = -1;
        for (int i = 0; i < 2; i++) run_once(s, -1, -1);        /* what is made once and kept is made now */
        baseline = live_blocks;
        long first = points[0], second = points[1];
        for (long i = 0; i < first; i += 1 + (long)rng_below(rng, TEST_TSAN ? 8 : 1)) {
            run_once(s, i, -1);
            if (points[0] > first) first = points[0];
            if (points[1] > second) second = points[1];
        }
        for (int n = 0; n < TWO_SWITCHES && first > 0 && second > 0; n++)
            run_once(s, (long)rng_below(rng, (uint64_t)first), (long)rng_below(rng, (uint64_t)second));
    }
}

static void every_switch_between_two_threads_keeps_the_promises(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 0);
    signal(SIGABRT, report);
    if (!TEST_SANITIZED) signal(SIGSEGV, report);
    for (int i = 0; i < 2; i++) {
        sem_init(&sides[i].go, 0, 0);
        sem_init(&sides[i].back, 0, 0);
        thread_start(side_main, &sides[i]);
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) run_scenario(&scenarios[i], &rng);
    print_message("%ld schedules\n", schedules);
}

int main(void)
{
    watchdog(250);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_switch_between_two_threads_keeps_the_promises)};
    return cmocka_run_group_tests_name("interleave", tests, NULL, NULL);
}
