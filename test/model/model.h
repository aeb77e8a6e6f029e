/* model.h: what each model is built with: the ideal epoch, the threads, the futex, the allocator, and the explorer.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A model is one program: it includes this file, then the library's own sources, as C++ (SYNC_RELACY), then has
 * scenarios: what stands before, what each thread does, what must hold after. Each scenario is explored twice: by
 * random schedules and stale reads from numbered seeds, and by all schedules of few preemptions in their order.
 *
 * The epoch is an ideal one (but in epoch_model.cc): what is retired is reclaimed at the moment the last section closes that was open then,
 * with no more ordering than a grace period gives: retired -> a section that begins later; each use in a section
 * -> the reclamation. */
#ifndef MODEL_H
#define MODEL_H

/* Every standard header before relacy's, which defines new, delete, free and errno as macros. */
#include <errno.h>
#include <poll.h>
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
#ifdef MODEL_EPOCH              /* the real one: thread_current is assigned to. A declaration of it is one of a function */
#define thread_current (*model_current())
#else
#define thread_current model_thread()
#endif

#include "sync.h"
#undef sync_init
#define sync_init(p, v) ((p)->init(v))          /* no step: nobody else reaches what is initialized */

int sync_weak = -1;
model_site *sync_weak_site;
static const char *const model_half[] = {
#define E(n) #n " rel", #n " acq",
#define H(n) #n " A put", #n " A get", #n " B put", #n " B get",
    SYNC_EDGES(E) SYNC_HANDSHAKES(H)
#undef E
#undef H
};

#include "alloc.h"
#include "block.h"
#include "clock.h"
#include "epoch.h"
#include "futex.h"
#include "service.h"

/* ------------------------------------------------------------------------------------------------ machine */

void *alloc_get(size_t size) { return model_block_new(size)->memory; }
void *alloc_get_aligned(size_t, size_t size) { return alloc_get(size); }
void alloc_put(void *p) { model_free(p); }
static bool model_scarce;       /* no block grows */
void *alloc_resize(void *old, size_t size)
{
    if (model_scarce) return NULL;
    char *p = model_block_new(size)->memory;
    model_block *b = old ? model_block_of(old) : NULL;
    if (b) memcpy(p, old, b->size < size ? b->size : size);
    model_free(old);
    return p;
}

/* The models have the default domain alone. */
void *block_take(const struct allocator *, size_t, size_t) { abort(); }
void block_give(const struct allocator *, void *) { abort(); }
void *block_move(const struct allocator *, void *, size_t, size_t) { abort(); }

static int64_t model_now;
int64_t clock_now(void) { return model_now; }

#ifndef MODEL_SERVICE
bool service_start(struct service *) { return true; }
void service_forked(struct service *) {}
#endif

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
    if (word->at()->wait(c, until != INT64_MAX, false, RL_INFO) != rl::unpark_reason_timeout) return true;
    if (model_now < until) model_now = until;
    return false;
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

#ifdef MODEL_EPOCH
static void model_epoch_begin() {}
static bool model_epoch_idle() { return true; }
#else
enum { MODEL_THREADS = 4, MODEL_GRAVES = 32 };
static struct thread model_threads[MODEL_THREADS];
struct thread *model_thread() { return &model_threads[rl::thread_index()]; }
struct thread *thread_begin_slow(void) { abort(); }
void thread_end_slow(struct thread *) { abort(); }
static unsigned model_generation;
unsigned thread_generation(void) { return model_generation; }
void thread_claim(struct thread *t, const void *what) { sync_store_rel(&t->claim, (uintptr_t)what, hook_run); }
bool thread_claimed(const void *what)
{
    for (unsigned i = 0; i < MODEL_THREADS; i++)
        if (sync_load_acq(&model_threads[i].claim, hook_run) == (uintptr_t)what) return true;
    return false;
}
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
static void model_epoch_begin()
{
    for (unsigned i = 0; i < MODEL_THREADS; i++) {
        struct thread *t = &model_threads[i];
        t->cells.count = t->transient = t->retired = 0;
        t->ordinal = i;
        t->inside = false;
    }
    model_epoch.open = model_epoch.dead = model_generation = 0;
}
static bool model_epoch_idle() { return model_epoch.dead == 0 && model_epoch.open == 0; }
#endif

#ifndef MODEL_EPOCH              /* callback.c's */
static const void *thread_here(void) { return model_thread(); }
static bool runner_start(void) { return true; }
#endif

/* ------------------------------------------------------------------------------------------------ scenarios */

/* The rest of the block is one step: what comes of it is seen by others, or still is not, and a schedule in which all of
 * it comes first is not rare. */
#define MODEL_AT_ONCE rl::preemption_disabler model_off(rl::ctx())

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
        model_epoch_begin();
        model_now = 0;
        model_scarce = false;
        if (model_boot) model_boot();
        model_scenario->before();
    }
    void thread(unsigned i) { model_scenario->thread(i); }
    void after()
    {
        model_scenario->after();
        RL_ASSERT(model_epoch_idle());
        model_end();
    }
};

struct model_result {
    bool failed, full;          /* full: found by the exhaustive search */
    std::string what;
    unsigned long runs;
};

/* Seeds from .. limit of the random search, or the first limit schedules of the exhaustive one. */
template <int N>
static model_result model_search(bool full, unsigned long from, unsigned long limit, std::ostream &history)
{
    static std::ofstream nowhere("/dev/null");
    rl::test_params p;
    model_runs = 0;
    model_limit = full ? limit : 0;
    p.iteration_count = limit;
    if (!full) p.initial_state = (std::to_string(from) + " ").c_str();
    p.search_type = full ? rl::sched_bound : rl::sched_random;
    p.context_bound = model_scenario->bound;
    p.execution_depth_limit = 5000;
    p.output_stream = &history;
    p.progress_stream = &nowhere;
    rl::simulate<play<N> >(p);
    model_total += full ? p.stop_iteration : p.stop_iteration - from + 1;
    bool ended = p.test_result == rl::test_result_success || p.test_result == rl::test_result_until_condition_hit;
    model_result r = {!ended, full, rl::test_result_str(p.test_result), (unsigned long)p.stop_iteration};
    return r;
}

static model_result model_explore(bool full, unsigned long from, unsigned long limit, std::ostream &history)
{
    switch (model_scenario->threads) {
    case 2: return model_search<2>(full, from, limit, history);
    case 3: return model_search<3>(full, from, limit, history);
    case 4: return model_search<4>(full, from, limit, history);
    default: abort();
    }
}

/* The first seed, or step of the exhaustive search, that fails, if any. */
static model_result model_check(unsigned long limit, std::ostream &history)
{
    model_result r = model_explore(false, 1, limit, history);
    if (r.failed) return r;
    model_result b = model_explore(true, 0, limit, history);
    std::string runs = std::to_string(b.runs), bound = std::to_string(model_scenario->bound);
    if (!b.failed)
        b.what = std::to_string(r.runs) + " seeds, " + runs + " schedules of at most " + bound + " preemptions" +
                 (b.runs >= limit ? " (not all)" : "");
    return b;
}

static std::ofstream model_nowhere("/dev/null");

/* ------------------------------------------------------------------------------------------------ ledger */

static const char *model_name;
static std::string model_base(const char *path)
{
    std::string p = path;
    return p.substr(p.rfind('/') + 1);
}

/* What is weakened: a half at all its operations, or at one of those that stand in src. */
struct model_item {
    int half;
    model_site *site;
    std::string name() const
    {
        if (!site) return model_half[half];
        int nth = 1;
        for (model_site *s : model_site::all()) nth += s->file == site->file && s->names(half) && s->number < site->number;
        return model_base(site->path) + " " + model_half[half] + " " + std::to_string(nth);
    }
    const char *where() const { return site ? site->function : "all"; }
    bool used(const std::vector<bool> &by) const
    {
        const std::vector<model_site *> &all = model_site::all();
        for (size_t i = 0; i < all.size(); i++)
            if (by[i] && (site ? all[i] == site : all[i]->names(half))) return true;
        return false;
    }
    void weaken() const
    {
        sync_weak = half;
        sync_weak_site = site;
    }
};
static void model_strengthen()
{
    sync_weak = -1;
    sync_weak_site = NULL;
}

/* An operation of src that names half. In a handshake it is seq_cst for that, which no edge of it can be taken from. */
static bool model_names(const model_site *s, int half)
{
    return s->names(half) && (s->half[2] < 0 || half >= SYNC_hs_attach_a_put) &&
           std::string(s->path).find("src/") != std::string::npos;
}

/* All that the scenarios use; and by which scenario each site is. */
static std::vector<model_item> model_items;
static std::vector<std::vector<bool> > model_uses;
static std::vector<model_item> model_idle;
static bool model_survey()
{
    std::vector<model_site *> &all = model_site::all();
    std::vector<bool> any(all.size());
    for (scenario *s = model_first; s; s = s->next) {
        for (model_site *site : all) site->used = false;
        model_scenario = s;
        if (!s->wrong && model_explore(false, 1, 100, model_nowhere).failed) {
            printf("%s\t(as written)\t%s\n", model_name, s->name);
            return false;
        }
        std::vector<bool> uses(all.size());
        for (size_t i = 0; i < all.size() && !s->wrong; i++)
            if (all[i]->used) uses[i] = any[i] = true;
        model_uses.push_back(uses);
    }
    for (int half = 0; half < SYNC_COUNT; half++) {
        model_item whole = {half, NULL};
        if (!whole.used(any)) continue;
        model_items.push_back(whole);
        for (size_t i = 0; i < all.size(); i++) {
            model_item one = {half, all[i]};
            if (any[i] && model_names(all[i], half)) model_items.push_back(one);
        }
    }
    /* What no scenario executes, in the files of which one executes something. */
    for (model_site *s : all)
        for (model_site *known : all)
            if (!s->path && known->path && known->file == s->file) {
                s->path = known->path;
                s->function = "never executed";
                for (int i = 0; i < 4; i++)
                    if (s->half[i] >= 0 && model_names(s, s->half[i])) {
                        model_item one = {s->half[i], s};
                        model_idle.push_back(one);
                    }
            }
    return true;
}

/* Prints how the item's weakening is found: by the scenario that needs the fewest executions, about. */
static bool model_find(const model_item &item, unsigned long limit)
{
    model_result r = {false, false, "", 0};
    scenario *s = NULL;
    item.weaken();
    for (unsigned long most = 50; !r.failed; most = most * 10 < limit ? most * 10 : limit) {
        for (int full = 0; full < 2 && !r.failed; full++) {
            size_t i = 0;
            for (s = model_first; s; s = s->next, i++) {
                if (!item.used(model_uses[i])) continue;
                model_scenario = s;
                r = model_explore(full, full ? 0 : 1, most, model_nowhere);
                if (r.failed) break;
            }
        }
        if (most == limit) break;
    }
    model_strengthen();
    if (!r.failed) {
        printf("%s\t%s\t-\t-\t-\t-\t%s\n", item.name().c_str(), model_name, item.where());
        return false;
    }
    printf("%s\t%s\t%s\t%s\t%lu\t%s\t%s\n", item.name().c_str(), model_name, s->name, r.full ? "schedule" : "seed",
           r.runs, r.what.c_str(), item.where());
    return true;
}

/* A row of the table: what is weakened, the model, its scenario, "seed" or "schedule", its number, the outcome, the
 * function. Without a scenario: nothing finds it. */
typedef std::vector<std::string> model_row;
static std::vector<model_row> model_table(const char *file)
{
    std::vector<model_row> rows;
    std::ifstream table(file);
    for (std::string line; std::getline(table, line);) {
        model_row row(1);
        for (char c : line) {
            if (c == '\t') row.push_back("");
            else row.back() += c;
        }
        if (line[0] != '#' && row.size() == 7) rows.push_back(row);
    }
    return rows;
}

static int model_ledger(unsigned long limit, const std::string &only, const char *found)
{
    std::vector<model_row> skip;
    if (found) skip = model_table(found);
    if (!model_survey()) return 1;
    for (const model_item &item : model_items) {
        bool past = false;
        for (const model_row &row : skip) past = past || (row[0] == item.name() && row[2] != "-");
        if (past || (!only.empty() && only != model_half[item.half] && only != item.name())) continue;
        model_find(item, limit);
        fflush(stdout);
    }
    if (only.empty())
        for (const model_item &item : model_idle)
            printf("%s\t%s\t-\t-\t-\t-\t%s\n", item.name().c_str(), model_name, item.where());
    printf("# %s: %lu executions\n", model_name, model_total);
    return 0;
}

/* Each row of the table that is this model's is found again: as it was, or else as it can be. What is not in the table
 * is told of. */
static int model_replay(const char *file, unsigned long limit)
{
    std::vector<model_row> table = model_table(file);
    int lost = 0;
    unsigned rows = 0, moved = 0;
    if (!model_survey()) return 1;
    for (const model_row &field : table) {
        if (field[1] != model_name) continue;
        rows++;
        const model_item *item = NULL;
        for (const model_item &i : model_items)
            if (i.name() == field[0]) item = &i;
        scenario *s = model_first;
        while (s && s->name != field[2]) s = s->next;
        if (!item) {
            printf("%s: %s: no such operation is executed any more\n", model_name, field[0].c_str());
            lost++;
            continue;
        }
        bool found = false;
        if (s) {
            bool full = field[3] == "schedule";
            unsigned long n = strtoul(field[4].c_str(), NULL, 10);
            model_scenario = s;
            item->weaken();
            found = model_explore(full, n, n + full, model_nowhere).failed;
            model_strengthen();
            if (model_explore(full, n, n + full, model_nowhere).failed) {
                printf("%s: %s fails as written at %s %lu\n", model_name, s->name, field[3].c_str(), n);
                lost++;
            }
        }
        if (!found) {
            moved++;
            lost += !model_find(*item, limit);
        }
        fflush(stdout);
    }
    model_items.insert(model_items.end(), model_idle.begin(), model_idle.end());
    for (const model_item &i : model_items) {
        bool there = false;
        for (const model_row &row : table)
            if (row[0] == i.name()) {
                there = true;
                if (row[2] == "-") printf("excused: %s\n", row[0].c_str());
            }
        if (there) continue;
        printf("%s: not in the table: %s, line %d, %s\n", model_name, i.name().c_str(), i.site ? i.site->line : 0,
               i.where());
        lost++;
    }
    printf("%s: %u rows, %u found otherwise than recorded, %d lost, %lu executions\n", model_name, rows, moved, lost,
           model_total);
    return lost != 0;
}

/* MODEL [--runs N] [--history] [--weak WHAT] [SCENARIO...]
 * MODEL --ledger [--skip TABLE] [--runs N] [--weak WHAT]
 * MODEL --replay TABLE [--runs N]
 * WHAT is a half ("done rel") or one operation's ("cancel.c done rel 2"). */
static int model_main(int argc, char **argv, unsigned long limit = 8000)
{
    bool history = false, ledger = false;
    const char *table = NULL, *found = NULL;
    std::string weak, names, model = model_base(argv[0]);
    int failures = 0, wanted = 0;
    for (int i = 1; i < argc; i++) {
        std::string a = argv[i];
        if (a == "--runs" && i + 1 < argc) limit = strtoul(argv[++i], NULL, 10);
        else if (a == "--weak" && i + 1 < argc) weak = argv[++i];
        else if (a == "--skip" && i + 1 < argc) found = argv[++i];
        else if (a == "--replay" && i + 1 < argc) table = argv[++i];
        else if (a == "--history") history = true;
        else if (a == "--ledger") ledger = true;
        else if (a[0] == '-') {
            fprintf(stderr, "usage: %s [--runs N] [--history] [--weak WHAT] [SCENARIO...]\n"
                            "       %s --ledger [--skip TABLE] [--runs N] [--weak WHAT]\n"
                            "       %s --replay TABLE [--runs N]\n", argv[0], argv[0], argv[0]);
            return 2;
        } else {
            names += " " + a + " ";
            wanted++;
        }
    }
    model_name = model.c_str();
    if (table) return model_replay(table, limit);
    if (ledger) return model_ledger(limit, weak, found);
    if (!weak.empty()) {
        const model_item *item = NULL;
        if (!model_survey()) return 1;
        for (const model_item &i : model_items)
            if (i.name() == weak) item = &i;
        if (!item) {
            fprintf(stderr, "%s: no such half: %s\n", argv[0], weak.c_str());
            return 2;
        }
        item->weaken();
    }
    for (scenario *s = model_first; s; s = s->next) {
        if (wanted && names.find(std::string(" ") + s->name + " ") == std::string::npos) continue;
        wanted -= wanted > 0;
        model_scenario = s;
        /* A fault that must show is looked for until it does. */
        unsigned long most = s->wrong && limit < 60000 ? 60000 : limit;
        model_result r = model_check(most, history ? std::cout : model_nowhere);
        bool bad = r.failed != s->wrong;
        std::string at = r.failed ? (r.full ? " at schedule " : " at seed ") + std::to_string(r.runs) : "";
        printf("%-6s %-28s %s%s%s\n", bad ? "FAILED" : "ok", s->name, s->wrong ? "must fail: " : "", r.what.c_str(),
               at.c_str());
        fflush(stdout);
        failures += bad;
        if (wanted == 0 && !names.empty()) break;
    }
    printf("%lu executions\n", model_total);
    return failures != 0 || (!names.empty() && wanted > 0);
}

#endif
