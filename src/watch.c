/* Layer 11, face. watch: the threads that watch an arena: one hears its bell, one sees its owners die.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "watch.h"
#include "alloc.h"
#include "epoch.h"
#include "peer.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

struct role {                   /* what one thread has; see service.h, whose services have no memory that ends */
    struct eyes *eyes;
    void (*main)(struct eyes *e);
    const char *name;
    sync_u32 made, taken;
};

/* A process whose death is watched for: 0, none; with SEEN_NEW the descriptor is not in the epoll yet. */
struct seen {
    sync_u64 who;
    sync_u32 fd;                /* and 1; 0: none */
};
#define SEEN_NEW ((uint64_t)1 << PEER_BITS)
enum { SEEN_STOP = ARENA_PROCESSES };   /* no number of a seen one: what ends the thread */

struct eyes {
    struct cctx_shared *shared;
    struct eyes *older;         /* of the process that this one was forked off */
    unsigned generation;        /* see thread_generation */
    int events, stop;           /* an epoll, and an eventfd in it */
    sync_u32 refs;              /* the arena's, and each thread's */
    sync_u32 stopping;
    struct role bell, deaths;
    struct seen seen[ARENA_PROCESSES];
};

/* ------------------------------------------------------------------------------------------------ the end */

/* Nobody uses e any more, in this process. Its fork's parent has descriptors of its own. */
static void eyes_close(struct eyes *e)
{
    for (unsigned i = 0; i < ARENA_PROCESSES; i++) {
        uint32_t fd = sync_load_relaxed(&e->seen[i].fd, owned);
        if (fd != 0) close((int)fd - 1);
        sync_store_relaxed(&e->seen[i].fd, 0u, owned);
    }
    if (e->stop >= 0) close(e->stop);
    if (e->events >= 0) close(e->events);
    e->stop = e->events = -1;
}

static void shared_free(struct cctx_shared *s)
{
    for (struct eyes *e = (struct eyes *)sync_load_relaxed(&s->eyes, unpublished), *older; e; e = older) {
        older = e->older;
        eyes_close(e);
        alloc_put(e);
    }
    roster_free(s->bindings.roster);
    munmap(s->bindings.arena.head, s->size);
    close(s->fd);
    alloc_put(s);
}

static void eyes_unref(struct eyes *e)
{
    if (sync_add_acqrel(&e->refs, (uint32_t)-1, last_ref, last_ref) == 1) shared_free(e->shared);
}

void watch_end(struct bindings *bindings)
{
    int saved = errno;
    struct cctx_shared *s = container_of(bindings, struct cctx_shared, bindings);
    struct eyes *e = (struct eyes *)sync_load_relaxed(&s->eyes, unpublished);
    if (!e || e->generation != thread_generation()) {
        shared_free(s);                 /* no thread of this process has seen it */
    } else {
        sync_store_relaxed(&e->stopping, 1u, alone);
        eventfd_write(e->stop, 1);
        arena_ring(&bindings->arena);   /* the bell's order is that of stopping, too */
        eyes_unref(e);
    }
    errno = saved;
}

/* ------------------------------------------------------------------------------------------------ the threads */

static void *role_main(void *arg)
{
    struct role *r = (struct role *)arg;
    struct eyes *e = r->eyes;
    uint32_t none = 0;
    if (sync_cas_relaxed(&r->taken, &none, 1u, alone)) {
        pthread_setname_np(pthread_self(), r->name);
        r->main(e);
    }
    eyes_unref(e);
    return NULL;
}

/* False: the thread could not be made. Several that find none make one each, of which one has the role. */
static bool role_start(struct role *r)
{
    if (likely(sync_load_relaxed(&r->made, alone) != 0)) return true;
    sigset_t all, before;
    pthread_t thread;
    sync_add_relaxed(&r->eyes->refs, 1u, alone);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, role_main, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        eyes_unref(r->eyes);
        return false;
    }
    pthread_detach(thread);
    sync_store_relaxed(&r->made, 1u, alone);
    return true;
}

/* The bell is read before the bindings are looked at, so what is rung meanwhile ends the sleep. */
static void bell_main(struct eyes *e)
{
    struct bindings *s = &e->shared->bindings;
    for (;;) {
        uint32_t heard = sync_load_acq(&s->arena.head->bell, bell);
        if (sync_load_relaxed(&e->stopping, alone) != 0) return;
        bindings_scan(s);
        peer_wait(&s->arena.head->bell, heard);
    }
}

static void deaths_one(struct eyes *e, struct seen *seen)
{
    int fd = (int)sync_load_relaxed(&seen->fd, owned) - 1;
    arena_bury(&e->shared->bindings.arena, sync_load_relaxed(&seen->who, owned) & ~SEEN_NEW);
    epoll_ctl(e->events, EPOLL_CTL_DEL, fd, NULL);      /* a fork's child may have the same description open */
    sync_store_relaxed(&seen->fd, 0u, owned);
    close(fd);
    sync_store_rel(&seen->who, (uint64_t)0, record);
}

static void deaths_main(struct eyes *e)
{
    struct epoll_event event;
    while (sync_load_relaxed(&e->stopping, alone) == 0) {
        int n = epoll_wait(e->events, &event, 1, -1);
        if (n < 0 && errno != EINTR) return;    /* the program has closed the library's descriptors */
        if (n > 0 && event.data.u32 < ARENA_PROCESSES) deaths_one(e, &e->seen[event.data.u32]);
    }
}

/* ------------------------------------------------------------------------------------------------ the beginning */

static struct eyes *eyes_new(struct cctx_shared *s, struct eyes *older)
{
    struct eyes *e = (struct eyes *)alloc_get(sizeof *e);
    if (!e) {
        errno = ENOMEM;
        return NULL;
    }
    e->shared = s;
    e->older = older;
    e->generation = thread_generation();
    sync_init(&e->refs, 1u);
    e->bell = (struct role){.eyes = e, .main = bell_main, .name = "cctx-bell"};
    e->deaths = (struct role){.eyes = e, .main = deaths_main, .name = "cctx-deaths"};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = SEEN_STOP};
    e->events = epoll_create1(EPOLL_CLOEXEC);
    e->stop = e->events < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->stop >= 0 && epoll_ctl(e->events, EPOLL_CTL_ADD, e->stop, &event) == 0) return e;
    int error = errno;
    eyes_close(e);
    alloc_put(e);
    errno = error;
    return NULL;
}

static int owner_add(struct eyes *e, uint64_t who);
static void owner_again(void *arg, uint64_t who)
{
    struct eyes *e = (struct eyes *)arg;
    if (owner_add(e, who) == ESRCH) arena_bury(&e->shared->bindings.arena, who);
}

/* This process's eyes. In the child of a fork they are new, and what is bound already is watched anew. */
static struct eyes *eyes_get(struct cctx_shared *s)
{
    uintptr_t old = sync_load_acq(&s->eyes, chunk);
    for (;;) {
        struct eyes *older = (struct eyes *)old;
        if (older && older->generation == thread_generation()) return older;
        struct eyes *e = eyes_new(s, older);
        if (!e) return NULL;
        if (sync_cas_acqrel(&s->eyes, &old, (uintptr_t)e, chunk, chunk)) {
            if (older) {
                eyes_close(older);
                bindings_owners(&s->bindings, owner_again, e);
            }
            return e;
        }
        eyes_close(e);
        alloc_put(e);
    }
}

int watch_bell(struct cctx_shared *s)
{
    struct eyes *e = eyes_get(s);
    if (!e) return errno;
    return role_start(&e->bell) ? 0 : EAGAIN;
}

/* Makes the descriptor one of e's; *fd is -1 then. 0, or the error. */
static int owner_enter(struct eyes *e, unsigned i, uint64_t who, int *fd)
{
    struct seen *seen = &e->seen[i];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    sync_store_relaxed(&seen->fd, (uint32_t)*fd + 1, owned);
    if (epoll_ctl(e->events, EPOLL_CTL_ADD, *fd, &event) != 0) {
        sync_store_relaxed(&seen->fd, 0u, owned);
        sync_store_rel(&seen->who, (uint64_t)0, record);
        return errno;
    }
    *fd = -1;
    uint64_t new = who | SEEN_NEW;
    sync_cas_relaxed(&seen->who, &new, who, alone);     /* unless it has died by now */
    return 0;
}

static int owner_add(struct eyes *e, uint64_t who)
{
    int fd = -1, error = EMFILE;
    for (unsigned n = 0; n < ARENA_PROCESSES && error == EMFILE; n++) {
        unsigned i = ((unsigned)who + n) % ARENA_PROCESSES;
        uint64_t seen = sync_load_relaxed(&e->seen[i].who, alone);
        if (seen == who) error = 0;
        if (seen != 0) continue;
        if (fd < 0) fd = peer_open(who);
        if (fd < 0) return errno;
        if (!role_start(&e->deaths)) error = EAGAIN;
        else if (sync_cas_acqrel(&e->seen[i].who, &seen, who | SEEN_NEW, none, record)) error = owner_enter(e, i, who, &fd);
    }
    if (fd >= 0) close(fd);
    return error;
}

int watch_owner(struct cctx_shared *s, uint64_t who) { return owner_add(eyes_get(s), who); }
