/* model.h: what each model is built with: the ideal epoch, the threads, the futex, the allocator, and the explorer.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A model is one program: it includes this file, then the library's own sources, as C++ (SYNC_RELACY), then has
 * scenarios: what stands before, what each thread does, what must hold after. Each scenario is explored twice: by
 * random schedules and stale reads from numbered seeds, and by all schedules of few preemptions in their order.
 *
 * The epoch is an ideal one: what is retired is reclaimed at the moment the last section closes that was open then,
 * with no more ordering than a grace period gives: retired -> a section that begins later; each use in a section
 * -> the reclamation. */
#ifndef MODEL_H
#define MODEL_H

/* Every standard header before relacy's, which defines new, delete, free and errno as macros. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#define SYNC_RELACY
#define _Static_assert static_assert
#define _Thread_local
#define thread_current model_thread()

#include "sync.h"
#undef sync_init
#define sync_init(p, v) ((p)->init(v))          /* no step: nobody else reaches what is initialized */

int sync_weak = -1;
bool sync_used[SYNC_COUNT];
static const char *const model_half[] = {
#define E(n) #n " rel", #n " acq",
#define H(n) #n " A put", #n " A get", #n " B put", #n " B get",
    SYNC_EDGES(E) SYNC_HANDSHAKES(H)
#undef E
#undef H
};

#include "alloc.h"
#include "clock.h"
#include "epoch.h"
#include "futex.h"
#include "service.h"

/* ------------------------------------------------------------------------------------------------ machine */

void *alloc_get(size_t size) { return model_block_new(size)->memory; }
void *alloc_get_aligned(size_t, size_t size) { return alloc_get(size); }
void alloc_put(void *p) { model_free(p); }
void *alloc_resize(void *old, size_t size)
{
    char *p = model_block_new(size)->memory;
    model_block *b = old ? model_block_of(old) : NULL;
    if (b) memcpy(p, old, b->size < size ? b->size : size);
    model_free(old);
    return p;
}

static int64_t model_now;
int64_t clock_now(void) { return model_now; }

bool service_start(struct service *) { return true; }
void service_forked(struct service *) {}

/* Compare and queue are one step, after a full fence on both sides: the kernel's own. */
bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    rl::context &c = rl::ctx();
    uint32_t now;
    c.sched();
    c.atomic_thread_fence_seq_cst();
    {
        rl::preemption_disabler off(c);
        now = word->load(rl::mo_relaxed, RL_INFO);
    }
    if (now != seen) return true;
    return word->at()->wait(c, until != INT64_MAX, false, RL_INFO) != rl::unpark_reason_timeout;
}
void futex_wake(sync_u32 *word)
{
    rl::context &c = rl::ctx();
    c.sched();
    c.atomic_thread_fence_seq_cst();
    word->touch(RL_INFO);
    word->at()->wake(c, 1 << 20, RL_INFO);
}

/* ------------------------------------------------------------------------------------------------ threads, epoch */

enum { MODEL_THREADS = 4, MODEL_GRAVES = 32 };
static struct thread model_threads[MODEL_THREADS];
struct thread *model_thread() { return &model_threads[rl::thread_index()]; }
struct thread *thread_begin_slow(void) { abort(); }
void thread_end_slow(struct thread *) { abort(); }
unsigned thread_generation(void) { return 0; }
void thread_claim(struct thread *, const void *) {}
bool thread_claimed(const void *) { return false; }
/* callback.c's: */
static const void *thread_here(void) { return model_thread(); }
static bool runner_start(void) { return true; }

struct model_grave {
    struct epoch_link *link;
    void (*reclaim)(struct epoch_link *);
    unsigned waits;             /* the sections that keep it, by thread */
};
static struct {
    unsigned open, dead;        /* sections, by thread; graves in use */
    struct model_grave grave[MODEL_GRAVES];
    sync_u32 retired, left;     /* carry the order of a grace period */
} model_epoch;

static void model_reclaim()
{
    for (unsigned i = 0; i < model_epoch.dead;) {
        if (model_epoch.grave[i].waits) {
            i++;
            continue;
        }
        model_grave g = model_epoch.grave[i];
        model_epoch.grave[i] = model_epoch.grave[--model_epoch.dead];
        model_epoch.retired.fetch_add(0, rl::mo_acquire, RL_INFO);
        model_epoch.left.fetch_add(0, rl::mo_acquire, RL_INFO);
        g.reclaim(g.link);
        i = 0;
    }
}
void epoch_enter(struct thread *t)
{
    RL_ASSERT(!t->inside);
    t->inside = true;
    model_epoch.retired.fetch_add(0, rl::mo_acquire, RL_INFO);
    model_epoch.open |= 1u << (t - model_threads);
}
void epoch_leave(struct thread *t)
{
    RL_ASSERT(t->inside);
    model_epoch.left.fetch_add(1, rl::mo_release, RL_INFO);
    t->inside = false;
    model_epoch.open &= ~(1u << (t - model_threads));
    for (unsigned i = 0; i < model_epoch.dead; i++) model_epoch.grave[i].waits &= model_epoch.open;
    model_reclaim();
}
void epoch_retire(struct thread *t, struct epoch_link *link, void (*reclaim)(struct epoch_link *), unsigned)
{
    RL_ASSERT(!t->inside);
    RL_VERIFY(model_epoch.dead < MODEL_GRAVES);
    model_epoch.retired.fetch_add(1, rl::mo_release, RL_INFO);
    model_grave g = {link, reclaim, model_epoch.open};
    model_epoch.grave[model_epoch.dead++] = g;
    model_reclaim();
}
void epoch_poll(struct thread *) {}

/* ------------------------------------------------------------------------------------------------ scenarios */

struct scenario;
static scenario *model_first, **model_last = &model_first;
struct scenario {
    scenario *next;
    const char *name;
    unsigned threads, bound;    /* bound: how many preemptions the exhaustive search allows */
    bool wrong;                 /* it shows a fault: some execution must fail */
    scenario(const char *n, unsigned t, unsigned b, bool w = false)
        : next(NULL), name(n), threads(t), bound(b), wrong(w)
    {
        *model_last = this;
        model_last = &next;
    }
    virtual void before() {}
    virtual void thread(unsigned i) = 0;
    virtual void after() {}
};

static scenario *model_scenario;
static unsigned long model_runs, model_limit, model_total;
static void (*model_boot)();    /* what a model needs before each execution, beside its statics */

template <int N> struct play : rl::test_suite<play<N>, N> {
    void before()
    {
        if (model_limit) RL_UNTIL(model_runs >= model_limit);
        model_runs++;
        model_begin();
        memset(model_threads, 0, sizeof model_threads);
        for (unsigned i = 0; i < MODEL_THREADS; i++) model_threads[i].ordinal = i;
        model_epoch.open = model_epoch.dead = 0;
        model_now = 0;
        if (model_boot) model_boot();
        model_scenario->before();
    }
    void thread(unsigned i) { model_scenario->thread(i); }
    void after()
    {
        model_scenario->after();
        RL_ASSERT(model_epoch.dead == 0 && model_epoch.open == 0);
        model_end();
    }
};

struct model_result {
    bool failed;
    std::string what;
    unsigned long runs;
};

template <int N> static model_result model_search(bool full, unsigned long limit, std::ostream &history)
{
    static std::ofstream nowhere("/dev/null");
    rl::test_params p;
    model_runs = 0;
    model_limit = full ? limit : 0;
    p.iteration_count = limit;
    p.search_type = full ? rl::sched_bound : rl::sched_random;
    p.context_bound = model_scenario->bound;
    p.execution_depth_limit = 5000;
    p.output_stream = &history;
    p.progress_stream = &nowhere;
    rl::simulate<play<N> >(p);
    model_total += p.stop_iteration;
    bool ended = p.test_result == rl::test_result_success || p.test_result == rl::test_result_until_condition_hit;
    model_result r = {!ended, rl::test_result_str(p.test_result), (unsigned long)p.stop_iteration};
    return r;
}

static model_result model_explore(bool full, unsigned long limit, std::ostream &history)
{
    switch (model_scenario->threads) {
    case 2: return model_search<2>(full, limit, history);
    case 3: return model_search<3>(full, limit, history);
    default: abort();
    }
}

/* The first seed, or step of the exhaustive search, that fails, if any. */
static model_result model_check(unsigned long limit, std::ostream &history)
{
    model_result r = model_explore(false, limit, history);
    if (r.failed) {
        r.what = r.what + " at seed " + std::to_string(r.runs);
        return r;
    }
    model_result b = model_explore(true, limit, history);
    std::string runs = std::to_string(b.runs), bound = std::to_string(model_scenario->bound);
    if (b.failed) b.what += " at schedule " + runs;
    else b.what = std::to_string(r.runs) + " seeds, " + runs + " schedules of at most " + bound + " preemptions" +
                  (b.runs >= limit ? " (not all)" : "");
    return b;
}

/* The ledger: each half that a scenario names is weakened in turn, and some scenario should fail. */
static int model_ledger(const char *model, unsigned long limit, const std::string &only)
{
    static std::ofstream nowhere("/dev/null");
    enum { MANY = 64 };
    static bool uses[MANY][SYNC_COUNT];
    unsigned i = 0;
    for (scenario *s = model_first; s; s = s->next, i++) {
        memset(sync_used, 0, sizeof sync_used);
        model_scenario = s;
        if (s->wrong) continue;
        if (model_explore(false, limit < 300 ? limit : 300, nowhere).failed) {
            printf("%s\t(as written)\t%s\n", model, s->name);
            return 1;
        }
        memcpy(uses[i], sync_used, sizeof sync_used);
    }
    for (int half = 0; half < SYNC_COUNT; half++) {
        std::string caught;
        bool used = false;
        if (!only.empty() && only != model_half[half]) continue;
        sync_weak = half;
        i = 0;
        for (scenario *s = model_first; s && caught.empty(); s = s->next, i++) {
            if (!uses[i][half]) continue;
            used = true;
            model_scenario = s;
            model_result r = model_check(limit, nowhere);
            if (r.failed) caught = std::string(s->name) + ": " + r.what;
        }
        sync_weak = -1;
        if (used) printf("%s\t%s\t%s\n", model_half[half], model, caught.empty() ? "-" : caught.c_str());
        fflush(stdout);
    }
    return 0;
}

/* MODEL [--runs N] [--history] [--weak HALF] [--ledger] [SCENARIO...] */
static int model_main(int argc, char **argv, unsigned long limit = 8000)
{
    static std::ofstream nowhere("/dev/null");
    bool history = false, ledger = false;
    std::string weak, names;
    int failures = 0, wanted = 0;
    for (int i = 1; i < argc; i++) {
        std::string a = argv[i];
        if (a == "--runs" && i + 1 < argc) limit = strtoul(argv[++i], NULL, 10);
        else if (a == "--weak" && i + 1 < argc) weak = argv[++i];
        else if (a == "--history") history = true;
        else if (a == "--ledger") ledger = true;
        else if (a[0] == '-') {
            fprintf(stderr, "usage: %s [--runs N] [--history] [--weak HALF] [--ledger] [SCENARIO...]\n", argv[0]);
            return 2;
        } else {
            names += " " + a + " ";
            wanted++;
        }
    }
    std::string model = argv[0];
    model = model.substr(model.rfind('/') + 1);
    if (ledger) return model_ledger(model.c_str(), limit, weak);
    for (int half = 0; half < SYNC_COUNT; half++)
        if (weak == model_half[half]) sync_weak = half;
    if (!weak.empty() && sync_weak < 0) {
        fprintf(stderr, "%s: no such half: %s\n", argv[0], weak.c_str());
        return 2;
    }
    for (scenario *s = model_first; s; s = s->next) {
        if (wanted && names.find(std::string(" ") + s->name + " ") == std::string::npos) continue;
        wanted -= wanted > 0;
        model_scenario = s;
        /* A fault that must show is looked for until it does. */
        unsigned long most = s->wrong && limit < 60000 ? 60000 : limit;
        model_result r = model_check(most, history ? std::cout : nowhere);
        bool bad = r.failed != s->wrong;
        printf("%-6s %-28s %s%s\n", bad ? "FAILED" : "ok", s->name, s->wrong ? "must fail: " : "",
               r.what.c_str());
        fflush(stdout);
        failures += bad;
        if (wanted == 0 && !names.empty()) break;
    }
    printf("%lu executions\n", model_total);
    return failures != 0 || (!names.empty() && wanted > 0);
}

#endif
