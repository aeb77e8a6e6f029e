/* SPDX-License-Identifier: BSD-2-Clause */
/* instructions: each operation of one thread so many times, for callgrind, which counts what the library
 * executes.
 *
 * Nothing here depends on the machine or on time: the clock is a counter, the library's own threads are not
 * started, the processors are always eight. So a count is the same in every run, and one that grows has
 * grown. */
#include "surroundings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

/* ---- the machine: these take the place of the C library's for the whole process */

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
    (void)attr, (void)start, (void)arg;
    *thread = pthread_self();
    return 0;
}
int pthread_detach(pthread_t thread)
{
    (void)thread;
    return 0;
}
long sysconf(int name)
{
    (void)name;
    return 8;
}
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long us;
    (void)clock;
    us++;
    now->tv_sec = 1000000 + us / 1000000;
    now->tv_nsec = us % 1000000 * 1000;
    return 0;
}

/* ---- the operations */

enum { LEVELS = 1000, CALLBACKS = 1000, KEYS = 1000 };
enum { TIMES = 1000, WARM = 300 };
static const cctx_t *leaf;
static cctx_key_t key[KEYS];
static cctx_callback_t callback[CALLBACKS];

static void make_timed(void) { parent = need(cctx_with_timeout(cctx_background(), HOUR)); }
static void create_root(void) { life(cctx_with_cancel(cctx_background())); }
static void create_child(void) { life(cctx_with_cancel(parent)); }
static void create_close(void) { cctx_close(need(cctx_with_cancel(parent))); }
static void create_timeout(void) { life(cctx_with_timeout(parent, HOUR)); }
static void create_value(void) { cctx_unref(need(cctx_with_value(parent, &key[0], parent))); }
static void create_any(void)
{
    const cctx_t *parents[] = {parent, elsewhere};
    life(cctx_with_any(parents, 2));
}
static void make_two(void)
{
    make_parent();
    elsewhere = need(cctx_with_cancel(cctx_background()));
}
static void free_two(void)
{
    cctx_close(elsewhere);
    free_parent();
}
static void ref_unref(void) { cctx_unref(cctx_ref(parent)); }
static void poll_err(void) { look_err(parent); }
static void poll_is_done(void) { look_is_done(parent); }
static void cause_done(void)
{
    if (!cctx_cause(parent)) broken("no cause");
}
static void wait_done(void)
{
    if (cctx_wait(parent) == 0) broken("a wait");
}
static void after_stop(void)
{
    if (cctx_after_func(parent, &callback[0], nothing, NULL) != 0 || !cctx_stop(&callback[0])) broken("a stop");
}

/* A value, and above it depth - 1 contexts that have none. */
static void make_depth(int depth)
{
    leaf = need(cctx_with_value(cctx_background(), &key[0], &key[0]));
    for (int i = 1; i < depth; i++) {
        const cctx_t *next = need(cctx_with_cancel(leaf));
        cctx_unref(leaf);
        leaf = next;
    }
}
/* The key asked for is the oldest of n. */
static void make_keys(int n)
{
    leaf = cctx_background();
    for (int i = 0; i < n; i++) {
        const cctx_t *next = need(cctx_with_value(leaf, &key[i], &key[i]));
        cctx_unref(leaf);
        leaf = next;
    }
}
static void make_depth_1(void) { make_depth(1); }
static void make_depth_16(void) { make_depth(16); }
static void make_depth_64(void) { make_depth(64); }
static void make_keys_8(void) { make_keys(8); }
static void make_keys_64(void) { make_keys(64); }
static void make_keys_1000(void) { make_keys(KEYS); }
static void free_leaf(void) { cctx_unref(leaf); }
static void value(void)
{
    if (cctx_value(leaf, &key[0]) != &key[0]) broken("a value is not found");
}

/* The cancels that end many; the tree of each is made and freed uncounted. */
static void make_chain(void)
{
    make_parent();
    for (int i = 0; i < LEVELS; i++) many[i] = need(cctx_with_cancel(i ? many[i - 1] : parent));
}
static void free_tree(void)
{
    for (int i = SIBLINGS; i-- > 0;) cctx_unref(many[i]);
    cctx_unref(parent);
}
static void make_callbacks(void)
{
    make_parent();
    for (int i = 0; i < CALLBACKS; i++)
        if (cctx_after_func(parent, &callback[i], nothing, NULL) != 0) broken("cctx_after_func");
}
static void cancel(void)
{
    if (!cctx_cancel(parent)) broken("a cancel lost");
}

static const struct row {
    const char *name;
    void (*make)(void), (*run)(void), (*clean)(void);
    int ended;                  /* contexts that one run ends, where each run has a tree of its own; else 0 */
} rows[] = {
    {"create_root", make_parent, create_root, free_parent, 0},
    {"create_child", make_parent, create_child, free_parent, 0},
    {"create_close", make_parent, create_close, free_parent, 0},
    {"create_siblings", make_siblings, create_child, free_siblings, 0},
    {"create_timeout", make_parent, create_timeout, free_parent, 0},
    {"create_timeouts", make_armed, create_timeout, free_armed, 0},
    {"create_value", make_parent, create_value, free_parent, 0},
    {"create_any", make_two, create_any, free_two, 0},
    {"ref_unref", make_parent, ref_unref, free_parent, 0},
    {"poll_err", make_parent, poll_err, free_parent, 0},
    {"poll_deadline", make_timed, poll_err, free_parent, 0},
    {"poll_done_err", make_ended, poll_err, free_parent, 0},
    {"poll_is_done", make_parent, poll_is_done, free_parent, 0},
    {"poll_done_is_done", make_ended, poll_is_done, free_parent, 0},
    {"cause_done", make_ended, cause_done, free_parent, 0},
    {"wait_done", make_ended, wait_done, free_parent, 0},
    {"value_depth_1", make_depth_1, value, free_leaf, 0},
    {"value_depth_16", make_depth_16, value, free_leaf, 0},
    {"value_depth_64", make_depth_64, value, free_leaf, 0},
    {"value_keys_8", make_keys_8, value, free_leaf, 0},
    {"value_keys_64", make_keys_64, value, free_leaf, 0},
    {"value_keys_1000", make_keys_1000, value, free_leaf, 0},
    {"after_stop", make_parent, after_stop, free_parent, 0},
    {"fanout_1000", make_siblings, cancel, free_tree, SIBLINGS},
    {"chain_1000", make_chain, cancel, free_tree, LEVELS},
    {"callbacks", make_callbacks, cancel, free_parent, CALLBACKS},
};

static void count(const struct row *row)
{
    int runs = row->ended ? 5 : TIMES;
    CALLGRIND_ZERO_STATS;
    if (row->ended) {
        for (int i = 0; i < runs; i++) {
            row->make();
            if (i == 0) {
                CALLGRIND_ZERO_STATS;
            }
            CALLGRIND_TOGGLE_COLLECT;
            row->run();
            CALLGRIND_TOGGLE_COLLECT;
            row->clean();
        }
    } else {
        row->make();
        for (int i = 0; i < WARM; i++) row->run();
        CALLGRIND_TOGGLE_COLLECT;
        for (int i = 0; i < runs; i++) row->run();
        CALLGRIND_TOGGLE_COLLECT;
        row->clean();
    }
    /* The name of the dump: "ROW OPERATIONS". */
    char text[64];
    snprintf(text, sizeof text, "%s %d", row->name, row->ended ? runs * row->ended : runs);
    CALLGRIND_DUMP_STATS_AT(text);
}

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) count(&rows[i]);
    return 0;
}
