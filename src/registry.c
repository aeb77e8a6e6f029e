/* Layer 3, mechanism. registry: what lives, where it was made and what it is called; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "registry.h"

#if CCTX_CHECK
#include <dlfcn.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct made ring = {.next = &ring, .previous = &ring};
static uint64_t serial;
static bool child;              /* of a fork: what it inherited is its parent's to close */

static void forks(void) { pthread_mutex_lock(&lock); }
static void forked(void) { pthread_mutex_unlock(&lock); }
static void forked_child(void)
{
    child = true;
    pthread_mutex_unlock(&lock);
}
static void report(void);
/* With the first context, so that the report comes after the exit handlers that a program has registered since. */
static void setup(void)
{
    pthread_atfork(forks, forked, forked_child);
    atexit(report);
}

void registry_add(struct made *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, setup);
    pthread_mutex_lock(&lock);
    e->serial = ++serial;
    e->next = &ring;
    e->previous = ring.previous;
    e->previous->next = e;
    ring.previous = e;
    pthread_mutex_unlock(&lock);
}

void registry_remove(struct made *e)
{
    if (!e->next) return;
    pthread_mutex_lock(&lock);
    e->previous->next = e->next;
    e->next->previous = e->previous;
    pthread_mutex_unlock(&lock);
    e->next = NULL;
}

uint64_t registry_last(void)
{
    pthread_mutex_lock(&lock);
    uint64_t last = serial;
    pthread_mutex_unlock(&lock);
    return last;
}

struct made *registry_next(struct made *after, uint64_t last, bool (*take)(void *arg, struct made *e), void *arg)
{
    struct made *e, *found = NULL;
    pthread_mutex_lock(&lock);
    for (e = (after ? after : &ring)->next; e != &ring && e->serial <= last && !found; e = e->next)
        if (take(arg, e)) found = e;
    pthread_mutex_unlock(&lock);
    return found;
}

/* The address after the call lies behind it: one less is inside. The offset is from where the file's own addresses
 * begin, which for a program that is not position independent is 0. */
void registry_place(uintptr_t site, char *text, size_t size)
{
    Dl_info info;
    struct link_map *map = NULL;
    if (!dladdr1((void *)site, &info, (void **)&map, RTLD_DL_LINKMAP) || !map || !info.dli_fname) {
        snprintf(text, size, "0x%" PRIxPTR, site);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(text, size, "%s+0x%" PRIxPTR, slash ? slash + 1 : info.dli_fname, site - 1 - (uintptr_t)map->l_addr);
}

/* --------------------------------------------------------------------------------------------------- the report */

struct group {                  /* what one place made and nobody closed */
    uintptr_t site;
    uint64_t count;
    const char *call, *name;    /* name: the oldest one's */
};

/* Counts those of one more place; false: there is none. */
static bool group_next(struct group *g)
{
    g->count = 0;
    pthread_mutex_lock(&lock);
    for (struct made *e = ring.next; e != &ring; e = e->next) {
        uintptr_t site = sync_load_relaxed(&e->site, stat);
        if (e->reported || sync_load_relaxed(&e->handles, stat) == 0 || (g->count > 0 && site != g->site))
            continue;
        e->reported = true;
        if (g->count++ > 0) continue;
        g->site = site;
        g->call = (const char *)sync_load_relaxed(&e->call, stat);
        g->name = (const char *)sync_load_relaxed(&e->name, stat);
    }
    pthread_mutex_unlock(&lock);
    return g->count > 0;
}

static void report(void)
{
    struct group g;
    char place[256];
    while (!child && group_next(&g)) {
        bool one = g.count == 1;
        registry_place(g.site, place, sizeof place);
        fprintf(stderr, "cctx: %" PRIu64 " context%s derived at %s (%s)%s%s%s %s never closed\n", g.count, one ? "" : "s",
                place, g.call, g.name ? (one ? ", \"" : ", one of them \"") : "", g.name ? g.name : "",
                g.name ? "\"," : "", one ? "was" : "were");
    }
}
#endif
