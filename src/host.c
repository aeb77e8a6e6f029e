/* Layer 11, face. host: a domain's public functions, by which its host drives it.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "callback.h"
#include "cancel.h"
#include "deadline.h"
#include "futex.h"
#include <cctx/domain.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { GRACE_LOOKS = 16, GRACE_NAP = 50000, GRACE_MOST = 1000000000 }; /* ns: between two looks; in all */

static void forked(void)
{
    for (unsigned i = 1; i <= DOMAIN_MAX; i++) {
        struct cctx_domain *d = domain_at(i);
        if (!d) continue;
        domain_forked(d);
        callback_host_forked(d);
    }
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void setup(void) { pthread_atfork(NULL, NULL, forked); }

static void *library_allocate(void *user, size_t size, size_t align)
{
    (void)user;
    return alloc_get_aligned(align, size);
}
static void library_release(void *user, void *p)
{
    (void)user;
    alloc_put(p);
}

/* Copies what the caller's release knows of the options; false if it asks for what this one does not know. */
static bool options_read(const cctx_domain_options_t *from, cctx_domain_options_t *o)
{
    memset(o, 0, sizeof *o);
    if (!from) return true;
    if (from->size < sizeof from->size) return false;
    for (size_t i = sizeof *o; i < from->size; i++)
        if (((const char *)from)[i] != 0) return false;
    memcpy(o, from, from->size < sizeof *o ? from->size : sizeof *o);
    return o->flags == 0 && !o->allocate == !o->release;
}

static struct cctx *background_new(const struct allocator *a, unsigned domain)
{
    struct cctx *n = (struct cctx *)block_take(a, CACHE_LINE, NODE_SIZE);
    if (!n) return NULL;
    sync_set(n->done, &node_never);
    sync_init(&n->state, (uint32_t)KIND_BACKGROUND << KIND_SHIFT | domain << DOMAIN_SHIFT);
    sync_init(&n->refs, 1u);
    sync_set(n->deadline, CCTX_NEVER);
    return n;
}

/* Gives back all of a domain, or what of it there is. */
static void domain_delete(struct cctx_domain *d)
{
    struct allocator a = d->memory;
    if (d->home) home_give(d->home);
    block_give(&a, d->background);
    timer_free(&d->timer);
    block_give(&a, d);
}

/* Fills d in; 0, or why not. */
static int domain_make(struct cctx_domain *d, const struct allocator *a, const cctx_domain_options_t *o)
{
    d->memory = *a;
    d->clock = o->now;
    d->alarm = o->wake;
    deadline_host(d);
    if (!(d->home = home_take())) return ENOMEM;
    if (!domain_enter(d)) return EAGAIN;
    if ((d->background = background_new(a, d->index)) != NULL) return 0;
    domain_leave(d);
    return ENOMEM;
}

cctx_domain_t *cctx_domain_new(const cctx_domain_options_t *options)
{
    cctx_domain_options_t o;
    int error = EINVAL;
    struct cctx_domain *d = NULL;
    if (options_read(options, &o)) {
        struct allocator a = {o.user, library_allocate, library_release};
        if (o.allocate) {
            a.allocate = o.allocate;
            a.release = o.release;
        }
        struct thread *t = thread_begin();
        pthread_once(&once, setup);     /* after the record's own: its handler comes first */
        error = ENOMEM;
        d = (struct cctx_domain *)block_take(&a, CACHE_LINE, sizeof *d);
        if (d && (error = domain_make(d, &a, &o)) != 0) {
            domain_delete(d);
            d = NULL;
        }
        thread_end(t);
    }
    if (!d) errno = error;
    return d;
}

const cctx_t *cctx_domain_background(cctx_domain_t *d) { return d ? d->background : NULL; }

cctx_time_t cctx_domain_next(cctx_domain_t *d)
{
    if (!d) return CCTX_NEVER;
    cancel_catch_up();
    int64_t next = INT64_MIN;
    struct thread *t = thread_begin();
    if (domain_claim(d, t)) {
        timer_work(&d->timer, t, INT64_MIN);    /* nothing is due: all that is armed gets its place in the order */
        next = timer_next(&d->timer);
        domain_unclaim(d);
    }
    thread_end(t);
    bool now = next == INT64_MIN || sync_load_relaxed(&d->queue, hint) != 0;
    return now ? domain_now(d) : next;
}

size_t cctx_domain_run(cctx_domain_t *d, cctx_time_t now)
{
    if (!d) return 0;
    size_t fired = 0;
    struct thread *t = thread_begin();
    if (domain_claim(d, t)) {
        timer_work(&d->timer, t, INT64_MIN);    /* what fires without a place in the order fires out of it */
        fired = timer_work(&d->timer, t, now);
        cancel_catch_up();
        struct cctx *list = callback_host_take(d);
        home_poll(d->home);
        domain_unclaim(d);
        callback_run_list(t, list);             /* d is not touched any more: fn may free it */
    }
    thread_end(t);
    return fired;
}

/* Waits until all that was retired has been given back; false if it takes too long. */
static bool domain_empty(struct cctx_domain *d)
{
    sync_u32 nothing = {0};
    for (int looks = 0; looks < GRACE_LOOKS; looks++)   /* three, where nobody is in a section */
        if (home_poll(d->home)) return true;
    for (int64_t now = clock_now(), end = now + GRACE_MOST; now < end; now = clock_now()) {
        futex_wait(&nothing, 0, now + GRACE_NAP);
        if (home_poll(d->home)) return true;
    }
    return false;
}

int cctx_domain_free(cctx_domain_t *d)
{
    if (!d) return EINVAL;
    cancel_catch_up();                  /* which may have the last of its contexts */
    struct thread *t = thread_begin();
    bool idle = domain_claim(d, t);
    if (idle && (sync_load_acq(&d->live, last_ref) != 0 || !domain_empty(d))) {
        domain_unclaim(d);
        idle = false;
    }
    if (idle) {
        domain_leave(d);
        domain_delete(d);
    }
    thread_end(t);
    return idle ? 0 : EBUSY;
}
