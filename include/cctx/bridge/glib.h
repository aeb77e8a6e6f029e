/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/glib.h - GLib: GCancellable and context, each from the other; a GSource; GErrors. */
#ifndef CCTX_BRIDGE_GLIB_H
#define CCTX_BRIDGE_GLIB_H

#include <cctx/cctx.h>
#include <cctx/wait.h>
#include <gio/gio.h>

/*
 * WHAT IT IS FOR
 *
 * GIO's calls end with a GCancellable. cctx_glib_cancellable_new makes one that ends with a context, for a
 * call or an operation; a context below a GCancellable that somebody else holds is canceled by
 * cctx_glib_connect.
 *
 *     GCancellable *cancellable = cctx_glib_cancellable_new(ctx, &error);
 *     if (cancellable) {
 *         n = g_input_stream_read(stream, buffer, size, cancellable, &error);
 *         g_object_unref(cancellable);
 *     }
 *     if (n < 0)
 *         cctx_glib_explain(ctx, &error); // a deadline is G_IO_ERROR_TIMED_OUT, and the message is the cause
 *
 * Both ways at once, between one context and one cancellable, are fine: who is canceled already is left
 * alone, so nothing goes in a circle.
 *
 * TRAPS OF GLIB. g_cancellable_disconnect from a "cancelled" handler, anybody's on that cancellable, waits
 * for itself: it is not used here, so both directions may be ended from wherever one likes.
 * g_cancellable_reset is not honoured: a context that is done stays done, and a cancellable that was reset
 * does not hear from its context again. A NULL cancellable means to GIO that nothing cancels: a failure is
 * not to be passed on as one. And GIO itself does not look everywhere: a read of a regular file, or with no
 * file descriptor left for the cancellable, runs on.
 *
 * Memory is GLib's where it is its structures' (then the program ends where there is none, as GLib's programs
 * do); the rest is reported. All may be called on any thread. GLib 2.36 or later.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ------------------------------------------------------------------------------------ */

/* private: an errno value as a GError */
static inline void cctx_glib_fail(GError **error, int err, const char *text)
{
    g_set_error_literal(error, G_IO_ERROR, (gint)g_io_error_from_errno(err), text ? text : g_strerror(err));
}

/*
 * cctx_glib_set_error - has the context ended? As g_cancellable_set_error_if_cancelled.
 *
 * Returns    FALSE while ctx is live, and for NULL, with *error untouched. TRUE: *error, unless error is
 *            NULL, is G_IO_ERROR_CANCELLED or G_IO_ERROR_TIMED_OUT; the message is the cause.
 */
static inline gboolean cctx_glib_set_error(const cctx_t *ctx, GError **error)
{
    if (!cctx_is_done(ctx))
        return FALSE;
    cctx_glib_fail(error, cctx_err(ctx), cctx_cause(ctx)->text);
    return TRUE;
}

/*
 * cctx_glib_explain - say in an error of GIO how the context ended.
 *
 * GIO reports G_IO_ERROR_CANCELLED whatever it was. Where *error is that and ctx is done, it becomes the
 * error of cctx_glib_set_error. Any other error, NULL, and a live context stay as they are.
 */
static inline void cctx_glib_explain(const cctx_t *ctx, GError **error)
{
    if (error && g_error_matches(*error, G_IO_ERROR, G_IO_ERROR_CANCELLED) && cctx_is_done(ctx)) {
        g_clear_error(error);
        cctx_glib_set_error(ctx, error);
    }
}

/*
 * cctx_glib_errno - an error in the terms of cctx_err.
 *
 * Returns    0 for NULL; ECANCELED and ETIMEDOUT for those two of GIO's errors; EIO for all others.
 */
static inline int cctx_glib_errno(const GError *error)
{
    if (!error)
        return 0;
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return ECANCELED;
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ? ETIMEDOUT : EIO;
}

/* ---- a cancellable from a context -------------------------------------------------------------- */

/* What a cancellable has of its context. Its reference is weak: the last unref ends the registration. */
typedef struct cctx_glib_follower {
    cctx_callback_t callback;
    GWeakRef cancellable;
} cctx_glib_follower_t;

static inline void cctx_glib_cancel(void *arg)
{
    GCancellable *cancellable = (GCancellable *)g_weak_ref_get(&((cctx_glib_follower_t *)arg)->cancellable);

    if (cancellable) {
        g_cancellable_cancel(cancellable);
        g_object_unref(cancellable); /* it may be the last: then the follower is freed in here */
    }
}

static inline void cctx_glib_forget(gpointer arg)
{
    cctx_glib_follower_t *follower = (cctx_glib_follower_t *)arg;

    cctx_stop_wait(&follower->callback);
    g_weak_ref_clear(&follower->cancellable);
    g_free(follower);
}

/*
 * cctx_glib_cancellable_new - make a GCancellable that is cancelled when the context is done.
 *
 * Its "cancelled" handlers run where a callback of cctx_after_func does: on the thread that cancels, for a
 * deadline on the runner thread, and nowhere if ctx is done already: then it is born cancelled.
 *
 * Returns    the cancellable, the caller's; or NULL, with *error set unless error is NULL.
 * Errors     as of cctx_after_func, by g_io_error_from_errno.
 * Ownership  it keeps ctx alive until it is cancelled or freed: operations that hold it may outlive the
 *            caller's reference.
 * Blocking   the last g_object_unref waits while another thread is just finding that there is nothing to
 *            cancel.
 */
static inline GCancellable *cctx_glib_cancellable_new(const cctx_t *ctx, GError **error)
{
    GCancellable *cancellable = g_cancellable_new();
    cctx_glib_follower_t *follower = g_new0(cctx_glib_follower_t, 1);
    int err;

    g_weak_ref_init(&follower->cancellable, cancellable);
    g_object_set_data_full(G_OBJECT(cancellable), "cctx-follower", follower, cctx_glib_forget);
    err = cctx_after_func(ctx, &follower->callback, cctx_glib_cancel, follower);
    if (err != 0) {
        cctx_glib_fail(error, err, NULL);
        g_clear_object(&cancellable);
    }
    return cancellable;
}

/* ---- a context from a cancellable -------------------------------------------------------------- */

/*
 * cctx_glib_link_t - a context that ends with a GCancellable, from cctx_glib_connect to cctx_glib_disconnect.
 * Opaque.
 *
 * The signal's handler cancels `hook`, whose one callback cancels ctx. To stop that callback is all that a
 * disconnect waits for, and it may be called from within; a handler that is late meets a hook that is done.
 * The handler's closure and the program each have a reference to the link.
 */
typedef struct cctx_glib_link {
    cctx_callback_t callback;
    cctx_t *hook, *ctx;
    GCancellable *cancellable;
    gulong handler;
    unsigned owners;
} cctx_glib_link_t;

static inline void cctx_glib_link_unref(gpointer arg, GClosure *closure)
{
    cctx_glib_link_t *link = (cctx_glib_link_t *)arg;

    (void)closure;
    if (__atomic_sub_fetch(&link->owners, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    cctx_unref(link->hook);
    g_free(link);
}

static inline void cctx_glib_cancelled(GCancellable *cancellable, gpointer link)
{
    (void)cancellable;
    cctx_cancel(((cctx_glib_link_t *)link)->hook);
}

static inline void cctx_glib_cancel_context(void *arg)
{
    static const cctx_cause_t cause = {ECANCELED, "the GCancellable was cancelled"};

    cctx_cancel_cause(((cctx_glib_link_t *)arg)->ctx, &cause);
}

/*
 * cctx_glib_connect - cancel a context when a GCancellable is cancelled; at once if it is already.
 *
 * The cause is {ECANCELED, "the GCancellable was cancelled"}. ctx is canceled, and its callbacks run, on the
 * thread that calls g_cancellable_cancel, within the signal.
 *
 * Returns    what cctx_glib_disconnect is given, once; or NULL, with *error set unless error is NULL: a NULL
 *            argument, or no memory.
 * Ownership  it keeps ctx and the cancellable alive until then.
 */
static inline cctx_glib_link_t *cctx_glib_connect(GCancellable *cancellable, cctx_t *ctx, GError **error)
{
    cctx_glib_link_t *link = g_new0(cctx_glib_link_t, 1);
    int err = cancellable && ctx ? 0 : EINVAL;

    link->owners = 1;
    if (err == 0 && !(link->hook = cctx_with_cancel(cctx_background())))
        err = errno;
    if (err == 0)
        err = cctx_after_func(link->hook, &link->callback, cctx_glib_cancel_context, link);
    if (err != 0) {
        cctx_glib_fail(error, err, NULL);
        cctx_glib_link_unref(link, NULL);
        return NULL;
    }
    (void)cctx_ref(ctx);
    link->ctx = ctx;
    link->cancellable = G_CANCELLABLE(g_object_ref(cancellable));
    link->owners = 2;
    link->handler = g_signal_connect_data(cancellable, "cancelled", G_CALLBACK(cctx_glib_cancelled), link,
                                          cctx_glib_link_unref, (GConnectFlags)0);
    /* Connected first and looked at second: a cancel between the two is seen twice, not never. */
    if (g_cancellable_is_cancelled(cancellable))
        cctx_cancel(link->hook);
    return link;
}

/*
 * cctx_glib_disconnect - the context no longer ends with the cancellable. It is not canceled.
 *
 * When it returns, the cancellable does not cancel ctx and never will. NULL is a no-op. It may be called from
 * a callback of ctx, and from a handler of the cancellable.
 *
 * Blocking   while another thread, in g_cancellable_cancel, is canceling ctx: for its callbacks.
 */
static inline void cctx_glib_disconnect(cctx_glib_link_t *link)
{
    if (!link)
        return;
    cctx_stop_wait(&link->callback);
    g_signal_handler_disconnect(link->cancellable, link->handler);
    g_object_unref(link->cancellable);
    cctx_unref(link->ctx);
    cctx_glib_link_unref(link, NULL);
}

/* ---- a context in a main loop ------------------------------------------------------------------ */

/*
 * cctx_glib_func_t - what a source calls, in the thread of its GMainContext. The source is removed after it.
 */
typedef void (*cctx_glib_func_t)(const cctx_t *ctx, gpointer data);

typedef struct cctx_glib_source {
    GSource source;
    const cctx_t *ctx;
} cctx_glib_source_t;

static inline gboolean cctx_glib_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    /* The descriptor stays readable, so the source is over, whatever the callback is. */
    if (callback)
        ((cctx_glib_func_t)(void (*)(void))callback)(((cctx_glib_source_t *)(void *)source)->ctx, data);
    return G_SOURCE_REMOVE;
}

static inline void cctx_glib_finalize(GSource *source)
{
    cctx_unref(((cctx_glib_source_t *)(void *)source)->ctx);
}

/*
 * cctx_glib_source_new - a GSource that is dispatched once, when the context is done. As
 * g_cancellable_source_new.
 *
 *     GSource *source = cctx_glib_source_new(ctx, &error);
 *     g_source_set_callback(source, G_SOURCE_FUNC(give_up), data, NULL); // a cctx_glib_func_t
 *     g_source_attach(source, context);
 *     g_source_unref(source);
 *
 * Of a context that can never be done it is a source that never is.
 *
 * Returns    the source, the caller's; or NULL, with *error set unless error is NULL.
 * Errors     as of cctx_fd, by g_io_error_from_errno.
 * Ownership  it keeps ctx alive until it is freed.
 * Cost       the descriptor of ctx, which all its sources share.
 */
static inline GSource *cctx_glib_source_new(const cctx_t *ctx, GError **error)
{
    static GSourceFuncs funcs = {NULL, NULL, cctx_glib_dispatch, cctx_glib_finalize, NULL, NULL};
    int fd = cctx_fd(ctx), err = errno;
    GSource *source;

    if (fd < 0 && err != EDEADLK) {
        cctx_glib_fail(error, err, NULL);
        return NULL;
    }
    source = g_source_new(&funcs, sizeof(cctx_glib_source_t));
    ((cctx_glib_source_t *)(void *)source)->ctx = cctx_ref(ctx);
    g_source_set_name(source, "cctx");
    if (fd >= 0)
        g_source_add_unix_fd(source, fd, G_IO_IN);
    return source;
}

#ifdef __cplusplus
}
#endif

#endif
