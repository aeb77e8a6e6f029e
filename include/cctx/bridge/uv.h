/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/uv.h - libuv: contexts that end on the loop, and work in its pool that ends with a context. */
#ifndef CCTX_BRIDGE_UV_H
#define CCTX_BRIDGE_UV_H

#include <cctx/cctx.h>
#include <uv.h>

/*
 * WHAT IT IS FOR
 *
 * A loop of libuv is one thread; a context is ended by any. A cctx_uv_t stands between them, one for each
 * loop: whoever ends a context, what waits for it on the loop is called there, in a turn of its own. It has a
 * context for the loop's work, from which connections and requests derive theirs, and which ends when it is
 * closed.
 *
 *     cctx_uv_open(&uv, loop, cctx_background());
 *     request = cctx_with_timeout(uv.ctx, CCTX_S(5));
 *     cctx_uv_watch(&uv, &watcher, request, give_up); // on the loop, with UV_ETIMEDOUT
 *     cctx_uv_queue_work(&uv, &work, request, compute, answer); // in the pool; then on the loop
 *     ...
 *     cctx_uv_close(&uv, NULL); // ends all that, and lets uv_run return
 *
 * A request that libuv itself can cancel (uv_getaddrinfo, uv_fs_read, uv_random) ends with a context by a
 * watcher that calls uv_cancel; a connection by one that calls uv_close. For a loop that fires the deadlines
 * itself, in a program without a thread of the library, see <cctx/bridge/uv_domain.h>.
 *
 * The defaults are those of cctx.h, and for all that follows:
 *
 *   Returns    int: 0, or a code of libuv's such as UV_ENOMEM, and then nothing has changed.
 *   Threads    the loop's own, as for nearly all of libuv. (Any thread ends contexts.)
 *   Ownership  the structures are the caller's, at an address that does not change. The field data is the
 *              program's; it reads ctx of cctx_uv_t; the other fields are private.
 *
 * TRAPS OF LIBUV. uv_async_send, the one function for other threads, must not meet a handle that is being
 * closed: here there is one handle, however many watchers, and it is closed when nothing can send to it any
 * more. (So who closes all handles of a loop by uv_walk leaves out uv.async.) uv_cancel says UV_EBUSY of work
 * that has started: such work looks at its context. The pool has four threads (UV_THREADPOOL_SIZE) for all
 * loops, files and names: work that does not look keeps others waiting, which no bridge can help.
 *
 * libuv 1.10 or later.
 */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cctx_uv cctx_uv_t;
typedef struct cctx_uv_watcher cctx_uv_watcher_t;
typedef struct cctx_uv_work cctx_uv_work_t;

/* The bridge of one loop. */
struct cctx_uv {
    cctx_t *ctx;
    void *data;
    uv_async_t async;
    cctx_uv_watcher_t *fired; /* a stack: any thread pushes, the loop takes all of it */
    cctx_uv_watcher_t *taken; /* taken and not called yet */
    size_t held;              /* by watchers and works: keeps uv_run from returning, and async open */
    bool closing;
    void (*closed)(cctx_uv_t *uv);
};

/* One watcher. Storage that an unwatch may reach before it was first watched is zeroed by the caller. */
struct cctx_uv_watcher {
    void *data;
    cctx_callback_t callback;
    cctx_uv_t *uv; /* NULL: not registered */
    const cctx_t *ctx;
    void (*fn)(cctx_uv_watcher_t *watcher, int status);
    cctx_uv_watcher_t *next, **link;
};

/* One piece of work. */
struct cctx_uv_work {
    void *data;
    uv_work_t req;
    cctx_uv_watcher_t watcher;
    cctx_uv_t *uv;
    const cctx_t *ctx;
    int (*fn)(const cctx_t *ctx, cctx_uv_work_t *work);
    void (*after)(cctx_uv_work_t *work, int status);
    int status;
};

/*
 * cctx_uv_status - has the context ended? In libuv's terms.
 *
 * Returns    0, UV_ECANCELED or UV_ETIMEDOUT; UV_EINVAL for NULL.
 * Threads    any.
 */
static inline int cctx_uv_status(const cctx_t *ctx)
{
    return uv_translate_sys_error(cctx_err(ctx));
}

/* ---- private ----------------------------------------------------------------------------------- */

static inline void cctx_uv_closed(uv_handle_t *async)
{
    cctx_uv_t *uv = (cctx_uv_t *)async->data;

    cctx_unref(uv->ctx);
    uv->ctx = NULL;
    if (uv->closed)
        uv->closed(uv);
}

static inline void cctx_uv_hold(cctx_uv_t *uv)
{
    if (uv->held++ == 0)
        uv_ref((uv_handle_t *)&uv->async);
}

static inline void cctx_uv_release(cctx_uv_t *uv)
{
    if (--uv->held != 0)
        return;
    if (uv->closing)
        uv_close((uv_handle_t *)&uv->async, cctx_uv_closed);
    else
        uv_unref((uv_handle_t *)&uv->async);
}

/* The callback of a context, on any thread: it touches nothing that is the loop's. */
static inline void cctx_uv_fire(void *arg)
{
    cctx_uv_watcher_t *watcher = (cctx_uv_watcher_t *)arg;
    cctx_uv_t *uv = watcher->uv;

    watcher->next = __atomic_load_n(&uv->fired, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&uv->fired, &watcher->next, watcher, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
    uv_async_send(&uv->async);
}

/* Takes the stack; what fired first comes first. */
static inline void cctx_uv_take(cctx_uv_t *uv)
{
    cctx_uv_watcher_t *next, *watcher = __atomic_exchange_n(&uv->fired, NULL, __ATOMIC_ACQUIRE);

    for (; watcher; watcher = next) {
        next = watcher->next;
        watcher->next = uv->taken;
        watcher->link = &uv->taken;
        if (uv->taken)
            uv->taken->link = &watcher->next;
        uv->taken = watcher;
    }
}

/* The one way out of a registration. When it returns, the thread that fired it has left it and uv->async. */
static inline int cctx_uv_retire(cctx_uv_watcher_t *watcher)
{
    cctx_uv_t *uv = watcher->uv;
    int status;

    if (!cctx_stop_wait(&watcher->callback)) {
        cctx_uv_take(uv);
        *watcher->link = watcher->next;
        if (watcher->next)
            watcher->next->link = watcher->link;
    }
    status = cctx_uv_status(watcher->ctx);
    cctx_unref(watcher->ctx);
    watcher->uv = NULL;
    cctx_uv_release(uv);
    return status;
}

static inline void cctx_uv_deliver(uv_async_t *async)
{
    cctx_uv_t *uv = (cctx_uv_t *)async->data;

    cctx_uv_take(uv);
    while (uv->taken) {
        cctx_uv_watcher_t *watcher = uv->taken;
        int status = cctx_uv_retire(watcher);
        watcher->fn(watcher, status);
    }
}

/* ---- a loop ------------------------------------------------------------------------------------ */

/*
 * cctx_uv_open - make the bridge of a loop, and in uv->ctx a context for the loop's work, derived from
 * parent.
 *
 * The bridge alone does not keep uv_run from returning; a watcher or a work does.
 *
 * Errors     UV_EINVAL, UV_ENOMEM, and what uv_async_init says.
 * Ownership  uv is the loop's until closed was called: see cctx_uv_close.
 */
static inline int cctx_uv_open(cctx_uv_t *uv, uv_loop_t *loop, const cctx_t *parent)
{
    int err;

    if (!uv || !loop)
        return UV_EINVAL;
    uv->ctx = cctx_with_cancel(parent);
    if (!uv->ctx)
        return uv_translate_sys_error(errno);
    err = uv_async_init(loop, &uv->async, cctx_uv_deliver);
    if (err != 0) {
        cctx_unref(uv->ctx);
        return err;
    }
    uv->async.data = uv;
    uv_unref((uv_handle_t *)&uv->async);
    uv->fired = uv->taken = NULL;
    uv->held = 0;
    uv->closing = false;
    uv->closed = NULL;
    return 0;
}

/*
 * cctx_uv_close - end uv->ctx, and close the bridge when the last watcher is called and the last work over.
 *
 * The cause is {ECANCELED, "the loop is closed"}. From here on cctx_uv_watch and cctx_uv_queue_work say
 * UV_ECANCELED. At the end closed(uv), unless NULL, is called on the loop, and the storage is the caller's. A
 * watcher of a context that is not derived from uv->ctx delays that until it is called or taken back. A
 * second call does nothing.
 *
 * Blocking   never; callbacks of the contexts below uv->ctx run here.
 */
static inline void cctx_uv_close(cctx_uv_t *uv, void (*closed)(cctx_uv_t *uv))
{
    static const cctx_cause_t cause = {ECANCELED, "the loop is closed"};

    if (!uv || uv->closing)
        return;
    uv->closing = true;
    uv->closed = closed;
    cctx_uv_hold(uv);
    cctx_cancel_cause(uv->ctx, &cause);
    cctx_uv_release(uv);
}

/* ---- a context's end on the loop --------------------------------------------------------------- */

/*
 * cctx_uv_watch - call fn(watcher, status) on the loop, once, when the context is done.
 *
 * status is what cctx_uv_status says of ctx. fn is called in a turn of the loop, never inside of this call or
 * of the cancel, also where ctx is done already. Until then the watcher keeps uv_run from returning, as an
 * active handle does. fn may watch and unwatch this and others, close uv, and free the watcher.
 *
 * Errors     UV_EINVAL: a NULL argument. UV_ENOMEM, UV_EAGAIN: as of cctx_after_func. UV_ECANCELED: uv is
 *            closed.
 * Ordering   the end of ctx happens-before fn.
 * Ownership  watcher is the bridge's until fn is called or cctx_uv_unwatch has returned; so is a reference to
 *            ctx.
 * Cost       as cctx_after_func. The ends of contexts that the loop has not yet seen share one write to its
 *            eventfd.
 */
static inline int cctx_uv_watch(cctx_uv_t *uv, cctx_uv_watcher_t *watcher, const cctx_t *ctx,
                                void (*fn)(cctx_uv_watcher_t *watcher, int status))
{
    int err;

    if (!uv || !watcher || !ctx || !fn)
        return UV_EINVAL;
    if (uv->closing)
        return UV_ECANCELED;
    watcher->uv = uv;
    watcher->ctx = cctx_ref(ctx);
    watcher->fn = fn;
    cctx_uv_hold(uv);
    err = cctx_after_func(ctx, &watcher->callback, cctx_uv_fire, watcher);
    if (err != 0) {
        watcher->uv = NULL;
        cctx_unref(ctx);
        cctx_uv_release(uv);
    }
    return uv_translate_sys_error(err);
}

/*
 * cctx_uv_unwatch - take a watcher back: fn will not be called, and the storage is the caller's.
 *
 * Returns    true   this call prevented fn.
 *            false  it was called, or taken back; or watcher is NULL or zeroed storage.
 * Blocking   while another thread, that ends the context, is inside of uv_async_send.
 */
static inline bool cctx_uv_unwatch(cctx_uv_watcher_t *watcher)
{
    if (!watcher || !watcher->uv)
        return false;
    cctx_uv_retire(watcher);
    return true;
}

/* ---- work in the pool -------------------------------------------------------------------------- */

/* UV_EBUSY: the work has started, and sees for itself that its context is done; or it is over. */
static inline void cctx_uv_work_cancel(cctx_uv_watcher_t *watcher, int status)
{
    cctx_uv_work_t *work = (cctx_uv_work_t *)watcher->data;

    (void)uv_cancel((uv_req_t *)&work->req);
    (void)status;
}

static inline void cctx_uv_work_run(uv_work_t *req)
{
    cctx_uv_work_t *work = (cctx_uv_work_t *)req->data;

    work->status = cctx_uv_status(work->ctx);
    if (work->status == 0)
        work->status = work->fn(work->ctx, work);
}

static inline void cctx_uv_work_over(uv_work_t *req, int canceled)
{
    cctx_uv_work_t *work = (cctx_uv_work_t *)req->data;
    cctx_uv_t *uv = work->uv;
    int status = canceled != 0 ? cctx_uv_status(work->ctx) : work->status;

    if (canceled != 0 && status == 0)
        status = canceled; /* by a uv_cancel of the program's own */
    cctx_uv_unwatch(&work->watcher);
    cctx_unref(work->ctx);
    work->after(work, status);
    cctx_uv_release(uv);
}

/*
 * cctx_uv_queue_work - run fn(ctx, work) in libuv's pool, unless the context ends before; then after(work,
 *                      status) on the loop.
 *
 * While it stands in the queue, the end of ctx takes it out: uv_cancel. Once fn runs, it looks (cctx_err) or
 * sleeps (cctx_sleep, cctx_poll) with ctx, and returns when that is done. On a context that is done fn does
 * not start. Where the result is 0, after is called once, in a turn of the loop; until then the work keeps
 * uv_run from returning.
 *
 * status is what fn returned, or cctx_uv_status(ctx) if fn did not run. Where these two must be told apart,
 * fn notes in data that it has started.
 *
 * Errors     as cctx_uv_watch.
 * Ordering   what the caller did before happens-before fn; the end of fn happens-before after.
 * Ownership  work is the bridge's until after is called, which may free it; so is a reference to ctx.
 */
static inline int cctx_uv_queue_work(cctx_uv_t *uv, cctx_uv_work_t *work, const cctx_t *ctx,
                                     int (*fn)(const cctx_t *ctx, cctx_uv_work_t *work),
                                     void (*after)(cctx_uv_work_t *work, int status))
{
    int err;

    if (!uv || !work || !ctx || !fn || !after)
        return UV_EINVAL;
    work->req.data = work->watcher.data = work;
    err = cctx_uv_watch(uv, &work->watcher, ctx, cctx_uv_work_cancel);
    if (err != 0)
        return err;
    work->uv = uv;
    work->ctx = cctx_ref(ctx);
    work->fn = fn;
    work->after = after;
    cctx_uv_hold(uv);
    err = uv_queue_work(uv->async.loop, &work->req, cctx_uv_work_run, cctx_uv_work_over);
    if (err != 0) {
        cctx_uv_unwatch(&work->watcher);
        cctx_unref(ctx);
        cctx_uv_release(uv);
    }
    return err;
}

#ifdef __cplusplus
}
#endif

#endif
