/* SPDX-License-Identifier: BSD-2-Clause */
/* lines: which cache lines two threads both touch when each works on a context of its own below one parent.
 *
 * The library's own sources are compiled with -fsanitize=thread, so that the compiler puts a call before each
 * access to memory that is not a local variable, atomic or not; the calls come here instead of to the
 * sanitizer. Two threads do one operation each by turns, so a run is the same every time. A write counts as
 * shared if its line is one that the other thread reads or writes in its own operations: in parallel, each
 * such write takes the line away from the other processor. What is not seen is ConcurrencyKit's own code:
 * it writes the thread's own record; in each poll, which is counted by itself, it reads all records and
 * writes at most one word that all share. */
#include "surroundings.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is written down */

enum kind { READ, LOAD, WRITE, STORE, RMW, KINDS };     /* plain, atomic, plain, atomic, atomic */
static bool writes(enum kind k) { return k >= WRITE; }

struct access {
    uintptr_t line, pc;
    enum kind kind;
};
struct journal {
    struct access *access;
    size_t count, room;
    long polls;
};
static struct journal journal[2];
static _Thread_local struct journal *mine;      /* NULL while nothing is written down */

static void note(const volatile void *p, enum kind kind, void *pc)
{
    struct journal *j = mine;
    if (!j) return;
    if (j->count == j->room) {
        j->room = j->room ? 2 * j->room : 1 << 16;
        j->access = realloc(j->access, j->room * sizeof *j->access);
        if (!j->access) abort();
    }
    j->access[j->count++] = (struct access){(uintptr_t)p / 64, (uintptr_t)pc - 1, kind};
}
#define NOTE(p, kind) note(p, kind, __builtin_return_address(0))

#define PLAIN(n) \
    void __tsan_read##n(void *p); \
    void __tsan_read##n(void *p) { NOTE(p, READ); } \
    void __tsan_write##n(void *p); \
    void __tsan_write##n(void *p) { NOTE(p, WRITE); } \
    void __tsan_unaligned_read##n(void *p); \
    void __tsan_unaligned_read##n(void *p) { NOTE(p, READ); } \
    void __tsan_unaligned_write##n(void *p); \
    void __tsan_unaligned_write##n(void *p) { NOTE(p, WRITE); }
PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)

void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_read_range(void *p, size_t n);
void __tsan_read_range(void *p, size_t n)
{
    for (size_t i = 0; i < n; i += 64) NOTE((char *)p + i, READ);
}
void __tsan_write_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n)
{
    for (size_t i = 0; i < n; i += 64) NOTE((char *)p + i, WRITE);
}

/* Two threads run by turns, with a semaphore between: the order of an operation does not matter here. */
#define CHANGE(n, T, what, does) \
    T __tsan_atomic##n##_##what(volatile T *p, T v, int order); \
    T __tsan_atomic##n##_##what(volatile T *p, T v, int order) \
    { \
        (void)order; \
        NOTE(p, RMW); \
        return does(p, v, __ATOMIC_SEQ_CST); \
    }
#define ATOMIC(n, T) \
    T __tsan_atomic##n##_load(const volatile T *p, int order); \
    T __tsan_atomic##n##_load(const volatile T *p, int order) \
    { \
        (void)order; \
        NOTE(p, LOAD); \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST); \
    } \
    void __tsan_atomic##n##_store(volatile T *p, T v, int order); \
    void __tsan_atomic##n##_store(volatile T *p, T v, int order) \
    { \
        (void)order; \
        NOTE(p, STORE); \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST); \
    } \
    int __tsan_atomic##n##_compare_exchange_strong(volatile T *p, T *e, T v, int order, int fail); \
    int __tsan_atomic##n##_compare_exchange_strong(volatile T *p, T *e, T v, int order, int fail) \
    { \
        (void)order, (void)fail; \
        NOTE(p, RMW); \
        return __atomic_compare_exchange_n(p, e, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    } \
    T __tsan_atomic##n##_compare_exchange_val(volatile T *p, T e, T v, int order, int fail); \
    T __tsan_atomic##n##_compare_exchange_val(volatile T *p, T e, T v, int order, int fail) \
    { \
        (void)order, (void)fail; \
        NOTE(p, RMW); \
        __atomic_compare_exchange_n(p, &e, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return e; \
    } \
    CHANGE(n, T, exchange, __atomic_exchange_n) CHANGE(n, T, fetch_add, __atomic_fetch_add) \
    CHANGE(n, T, fetch_sub, __atomic_fetch_sub) CHANGE(n, T, fetch_and, __atomic_fetch_and) \
    CHANGE(n, T, fetch_or, __atomic_fetch_or) CHANGE(n, T, fetch_xor, __atomic_fetch_xor)
ATOMIC(8, uint8_t) ATOMIC(16, uint16_t) ATOMIC(32, uint32_t) ATOMIC(64, uint64_t)
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order) { (void)order; }

/* ConcurrencyKit's poll, by the linker's --wrap. */
bool __real_ck_epoch_poll_deferred(void *record, void *ripe);
bool __wrap_ck_epoch_poll_deferred(void *record, void *ripe);
bool __wrap_ck_epoch_poll_deferred(void *record, void *ripe)
{
    if (mine) mine->polls++;
    return __real_ck_epoch_poll_deferred(record, ripe);
}

/* ---- the operations: me is 0 or 1 */

static const cctx_key_t key = {"key", NULL};
static cctx_t *child[2][SIBLINGS];
static cctx_callback_t callback[2] __attribute__((aligned(64)));

static bool warm;               /* what is done from now on is written down */
static void recording(int me, bool on) { mine = on && warm ? &journal[me] : NULL; }

static void create_root(int me) { (void)me, life(cctx_with_cancel(cctx_background())); }
static void create_child(int me) { (void)me, life(cctx_with_cancel(parent)); }
static void create_close(int me) { (void)me, cctx_close(need(cctx_with_cancel(parent))); }
static void create_timeout(int me) { (void)me, life(cctx_with_timeout(parent, HOUR)); }
static void create_value(int me) { (void)me, cctx_unref(need(cctx_with_value(parent, &key, parent))); }
static void ref_unref(int me) { (void)me, cctx_unref(cctx_ref(parent)); }
static void poll_err(int me) { (void)me, look_err(parent); }
static void wait_done(int me) { (void)me, cctx_wait(parent); }
static void after_stop(int me)
{
    if (cctx_after_func(parent, &callback[me], nothing, NULL) != 0 || !cctx_stop(&callback[me])) abort();
}
/* Only the cancel is looked at: each thread ends 1,000 children of a child of the one parent. What one frees
 * the other may get, so a tree is freed only by the run after. */
static cctx_t *top[2];
static void free_tree(int me)
{
    for (int i = SIBLINGS; top[me] && i-- > 0;) cctx_unref(child[me][i]);
    cctx_unref(top[me]);
    top[me] = NULL;
}
static void fanout_1000(int me)
{
    recording(me, false);
    free_tree(me);
    top[me] = need(cctx_with_cancel(parent));
    for (int i = 0; i < SIBLINGS; i++) child[me][i] = need(cctx_with_cancel(top[me]));
    recording(me, true);
    cctx_cancel(top[me]);
}
static void free_trees(void)
{
    free_tree(0);
    free_tree(1);
    free_parent();
}

#define ONCE(name, what, make, run, clean, ...) {name, what, make, run, clean, 512, 1, __VA_ARGS__},
static const struct row {
    const char *name, *what;
    void (*make)(void), (*run)(int me), (*clean)(void);
    int times, each;            /* runs that are written down; contexts per run */
    bool claimed;               /* nothing that is shared is written */
    bool one_stripe;            /* as where there are more threads than stripes: the two fill slots of one */
} rows[] = {
    ONCE("create_root", "a root: derive, cancel, free", make_parent, create_root, free_parent, true, false)
    ONCE("create_child", "... below one live parent", make_parent, create_child, free_parent, true, false)
    ONCE("create_close", "... ended by cctx_close", make_parent, create_close, free_parent, true, false)
    ONCE("create_siblings", "... among 1,000", make_siblings, create_child, free_siblings, true, false)
    ONCE("create_timeout", "... with a timeout of 1 h", make_parent, create_timeout, free_parent, true, false)
    ONCE("create_timeouts", "... with 100,000 armed", make_armed, create_timeout, free_armed, true, false)
    ONCE("create_value", "a value below one parent", make_parent, create_value, free_parent, false, false)
    ONCE("after_stop", "a callback on one, and a stop", make_parent, after_stop, free_parent, true, false)
    ONCE("ref_unref", "a reference to one, and back", make_parent, ref_unref, free_parent, false, false)
    ONCE("poll_err", "cctx_err of one live context", make_parent, poll_err, free_parent, true, false)
    ONCE("wait_done", "cctx_wait on one that is done", make_ended, wait_done, free_parent, true, false)
    {"fanout_1000", "cancel 1,000, each", make_parent, fanout_1000, free_trees, 1, SIBLINGS, true, false},
    ONCE("stripe_child", "create_child on one stripe", make_parent, create_child, free_parent, false, true)
    ONCE("stripe_timeout", "create_timeout, likewise", make_parent, create_timeout, free_parent, false, true)
};
enum { ROWS = sizeof rows / sizeof rows[0] };
enum { WARM = 300 };            /* runs before: by then the roster knows that two threads fill it */

/* ---- two threads by turns */

/* A thread's number picks its stripe: of the threads that follow each other, the first and the second are on
 * stripes of their own, the first and the last on one. */
enum { STRIPES = 16, FIRST = 0, SECOND = 1, LAST = STRIPES, THREADS };
long sysconf(int name)          /* in place of the C library's, for the whole process */
{
    (void)name;
    return STRIPES;
}

static struct worker {
    pthread_t thread;
    sem_t turn;
} workers[THREADS];
static sem_t over;
static void (*job)(int me);     /* NULL: the end */

static void await(sem_t *s)
{
    while (sem_wait(s) != 0) {}
}
static void *work(void *arg)
{
    struct worker *w = arg;
    int me = w != &workers[FIRST];
    for (;;) {
        await(&w->turn);
        if (!job) return NULL;
        recording(me, true);
        job(me);
        recording(me, false);
        sem_post(&over);
    }
}
static void go(int which)
{
    sem_post(&workers[which].turn);
    await(&over);
}
static void by_turns(int second, int times)
{
    for (int i = 0; i < times; i++) {
        go(FIRST);
        go(second);
    }
}

/* ---- what it tells */

struct line {                   /* of one row */
    uintptr_t line;
    unsigned reads[2], writes[2];
};
static struct line *table;
static size_t table_room;

static struct line *line_of(uintptr_t line)
{
    size_t i = line * 0x9e3779b97f4a7c15u % table_room;
    while (table[i].line != 0 && table[i].line != line) i = (i + 1) % table_room;
    table[i].line = line;
    return &table[i];
}

struct site {
    uintptr_t pc;
    enum kind kind;
    long count;
};

static void print_site(const char *self, const struct site *s, double per)
{
    static const char *const names[KINDS] = {"plain read", "load", "plain write", "store", "locked write"};
    char command[4200], function[200] = "?", place[400] = "?";
    snprintf(command, sizeof command, "addr2line -f -s -e '%s' 0x%lx", self, (unsigned long)s->pc);
    FILE *f = popen(command, "r");
    if (f) {
        if (fscanf(f, "%199s %399s", function, place) != 2) strcpy(place, "?");
        pclose(f);
    }
    printf("    %8.2f  %s, %s %s\n", (double)s->count / per, names[s->kind], function, place);
}

static int more_first(const void *a, const void *b)
{
    long x = ((const struct site *)a)->count, y = ((const struct site *)b)->count;
    return (x < y) - (x > y);
}

/* True: as claimed. */
static bool tell(const char *self, const struct row *r, FILE *tsv)
{
    double per = 2.0 * r->times * r->each;
    long sum[KINDS] = {0}, shared_writes = 0, shared_reads = 0, polls = journal[0].polls + journal[1].polls;
    size_t all = journal[0].count + journal[1].count, sites = 0;
    struct site site[64];       /* a run that has more is told by those */
    enum { SHOWN = 8 };

    table_room = 2 * all + 16;
    table = calloc(table_room, sizeof *table);
    if (!table) abort();
    for (int me = 0; me < 2; me++)
        for (size_t i = 0; i < journal[me].count; i++) {
            const struct access *a = &journal[me].access[i];
            struct line *l = line_of(a->line);
            if (writes(a->kind)) l->writes[me]++;
            else l->reads[me]++;
        }
    for (int me = 0; me < 2; me++)
        for (size_t i = 0; i < journal[me].count; i++) {
            const struct access *a = &journal[me].access[i];
            const struct line *l = line_of(a->line);
            sum[a->kind]++;
            if (!writes(a->kind)) {
                shared_reads += l->writes[1 - me] > 0;
            } else if (l->writes[1 - me] + l->reads[1 - me] > 0) {
                size_t k = 0;
                shared_writes++;
                while (k < sites && (site[k].pc != a->pc || site[k].kind != a->kind)) k++;
                if (k == sites && sites < 64) site[sites++] = (struct site){a->pc, a->kind, 0};
                if (k < sites) site[k].count++;
            }
        }
    free(table);

    bool good = !r->claimed || shared_writes == 0;
    double each[KINDS];
    for (int k = 0; k < KINDS; k++) each[k] = (double)sum[k] / per;
    printf("%-16s %6.2f %6.2f %6.2f %7.2f %7.2f %7.3f %8.3f %8.3f  %s\n", r->name, each[RMW], each[STORE],
           each[LOAD], each[WRITE], each[READ], (double)polls / per, (double)shared_reads / per,
           (double)shared_writes / per, good ? r->what : "CLAIMED: writes nothing that is shared");
    qsort(site, sites, sizeof site[0], more_first);
    for (size_t k = 0; k < sites && k < SHOWN; k++) print_site(self, &site[k], per);
    if (sites > SHOWN) printf("              and %zu places with less\n", sites - SHOWN);
    if (tsv)
        fprintf(tsv, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.4f\t%.4f\t%.4f\n", r->name, each[RMW], each[STORE],
                each[LOAD], each[WRITE], each[READ], (double)polls / per, (double)shared_reads / per,
                (double)shared_writes / per);
    return good;
}

int main(int argc, char **argv)
{
    FILE *tsv = argc > 1 ? fopen(argv[1], "w") : NULL;
    int bad = 0, claims = 0;
    if (argc > 1 && !tsv) {
        perror(argv[1]);
        return 1;
    }
    if (tsv)
        fputs("operation\tlocked\tstores\tloads\tplain_writes\tplain_reads\tpolls\tshared_reads\t"
              "shared_writes\n", tsv);
    puts("                 locked                 plain   plain           shared   SHARED\n"
         "per operation    writes stores  loads  writes   reads   polls    reads   WRITES");
    sem_init(&over, 0, 0);
    job = create_root;          /* each gets its number, in this order */
    for (int i = 0; i < THREADS; i++) {
        sem_init(&workers[i].turn, 0, 0);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
        go(i);
    }
    for (int i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        int second = row->one_stripe ? LAST : SECOND;
        row->make();
        job = row->run;
        warm = false;
        by_turns(second, row->each > 1 ? 8 : WARM);
        for (int me = 0; me < 2; me++) journal[me].count = 0, journal[me].polls = 0;
        warm = true;
        by_turns(second, row->times);
        warm = false;
        row->clean();
        claims += row->claimed;
        bad |= !tell(argv[0], row, tsv);
    }
    job = NULL;
    for (int i = 0; i < THREADS; i++) {
        sem_post(&workers[i].turn);
        pthread_join(workers[i].thread, NULL);
    }
    if (tsv && fclose(tsv) != 0) bad = 1;
    printf("%d operations, of which %d are claimed to write nothing that is shared: %s\n", ROWS, claims,
           bad ? "NOT SO" : "so it is");
    return bad;
}
