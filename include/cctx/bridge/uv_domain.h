/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/uv_domain.h - libuv: deadlines that the loop fires, without a thread of the library. */
#ifndef CCTX_BRIDGE_UV_DOMAIN_H
#define CCTX_BRIDGE_UV_DOMAIN_H

#include <cctx/cctx.h>
#include <cctx/domain.h>
#include <uv.h>

/*
 * WHAT IT IS FOR
 *
 * Deadlines of the default domain are fired by a thread of the library. A server with a loop can do without:
 * in a domain of its own (<cctx/domain.h>) a timer of the loop fires them, and callbacks of what a deadline
 * ended run on the loop.
 *
 *     cctx_uv_domain_open(&domain, loop);
 *     cctx_uv_open(&uv, loop, cctx_domain_background(domain.domain)); // <cctx/bridge/uv.h>
 *     uv_run(loop, UV_RUN_DEFAULT);                                   // until cctx_uv_close
 *     cctx_uv_domain_close(&domain);
 *     uv_run(loop, UV_RUN_DEFAULT);                                   // the handles are closed now
 *
 * Deadlines are as exact as libuv's timers: never early, a millisecond or two late, and later where a
 * callback keeps the loop. (Who sleeps in cctx_wait or cctx_sleep, in the pool, is not held up by the loop.)
 * The functions are called on the loop's thread; contexts are used by all. Who closes all handles of a loop
 * by uv_walk leaves out the two of a domain.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* A domain and its loop. The program reads domain; the other fields are private. */
typedef struct cctx_uv_domain {
    cctx_domain_t *domain;
    uv_async_t async; /* something earlier was armed, or waits for the loop */
    uv_timer_t timer; /* until the earliest deadline */
} cctx_uv_domain_t;

static inline void cctx_uv_domain_run(uv_timer_t *timer)
{
    cctx_uv_domain_t *domain = (cctx_uv_domain_t *)timer->data;
    cctx_time_t next;
    int64_t left;

    cctx_domain_run(domain->domain, cctx_now());
    next = cctx_domain_next(domain->domain);
    if (next == CCTX_NEVER) {
        uv_timer_stop(timer);
        return;
    }
    /* A timer counts whole milliseconds from the loop's idea of now, which stands still during callbacks. */
    uv_update_time(timer->loop);
    left = next - cctx_now();
    uv_timer_start(timer, cctx_uv_domain_run, left > 0 ? (uint64_t)left / 1000000 + 1 : 0, 0);
}

static inline void cctx_uv_domain_woken(uv_async_t *async)
{
    cctx_uv_domain_run(&((cctx_uv_domain_t *)async->data)->timer);
}

/* The hook of the domain: uv_async_send is async-signal-safe, as that has to be. */
static inline void cctx_uv_domain_wake(void *user)
{
    uv_async_send(&((cctx_uv_domain_t *)user)->async);
}

/*
 * cctx_uv_domain_open - make a domain that a loop drives.
 *
 * The domain alone does not keep uv_run from returning.
 *
 * Returns    0, or a code of libuv's, and then nothing has changed.
 * Errors     UV_EINVAL, and those of cctx_domain_new and uv_async_init.
 * Ownership  domain is the loop's until cctx_uv_domain_close has returned 0 and the loop has run once more.
 */
static inline int cctx_uv_domain_open(cctx_uv_domain_t *domain, uv_loop_t *loop)
{
    cctx_domain_options_t options = {sizeof options, domain, NULL, NULL, NULL, cctx_uv_domain_wake, 0};
    int err;

    if (!domain || !loop)
        return UV_EINVAL;
    domain->domain = cctx_domain_new(&options);
    if (!domain->domain)
        return uv_translate_sys_error(errno);
    err = uv_async_init(loop, &domain->async, cctx_uv_domain_woken);
    if (err != 0) {
        cctx_domain_free(domain->domain);
        return err;
    }
    uv_timer_init(loop, &domain->timer);
    domain->async.data = domain->timer.data = domain;
    uv_unref((uv_handle_t *)&domain->async);
    uv_unref((uv_handle_t *)&domain->timer);
    return 0;
}

/*
 * cctx_uv_domain_close - free the domain, in which no context lives, and close its handles.
 *
 * Since no context lives, none can wake the loop any more: the handles close safely.
 *
 * Returns    0; UV_EINVAL for NULL; UV_EBUSY, and nothing has changed, where cctx_domain_free says so: also
 *            as long as a cctx_uv_t below the domain is open.
 * Blocking   as cctx_domain_free: a second at most, for threads that still look at what was freed.
 */
static inline int cctx_uv_domain_close(cctx_uv_domain_t *domain)
{
    int err = domain ? cctx_domain_free(domain->domain) : EINVAL;

    if (err == 0) {
        domain->domain = NULL;
        uv_close((uv_handle_t *)&domain->async, NULL);
        uv_close((uv_handle_t *)&domain->timer, NULL);
    }
    return uv_translate_sys_error(err);
}

#ifdef __cplusplus
}
#endif

#endif
