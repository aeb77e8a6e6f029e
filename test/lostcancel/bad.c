/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each function loses a context: on some path nobody closes it. Above it stands who finds that: gcc's -fanalyzer,
 * which follows paths, and src/lostcancel.cocci.
 */
#include <cctx/cctx.h>
#include <cctx/group.h>
#include <cctx/signal.h>

#include <stdlib.h>

extern int serve(const cctx_t *ctx);
extern const cctx_key_t key;

/* analyzer, cocci */
int never_closed(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    return ctx ? serve(ctx) : ENOMEM;
}

/* analyzer, cocci */
int lost_on_an_error(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(5));
    if (!ctx)
        return ENOMEM;
    int err = serve(ctx);
    if (err)
        return err;
    cctx_close(ctx);
    return 0;
}

/* cocci */
void canceled_and_lost(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        return;
    serve(ctx);
    cctx_cancel(ctx);
}

/* analyzer */
int replaced(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(1));
    if (serve(ctx) != 0)
        ctx = cctx_with_timeout(parent, CCTX_S(2));
    int err = serve(ctx);
    cctx_close(ctx);
    return err;
}

/* analyzer, cocci */
int lost_by_a_break(const cctx_t *parent, int times)
{
    int err = 0;
    for (int i = 0; i < times; i++) {
        cctx_t *ctx = cctx_with_deadline(parent, cctx_now() + CCTX_MS(10));
        if (!ctx)
            return ENOMEM;
        err = serve(ctx);
        if (err)
            break;
        cctx_close(ctx);
    }
    return err;
}

/* analyzer, cocci */
int lost_by_a_continue(const cctx_t *parent, int times)
{
    for (int i = 0; i < times; i++) {
        cctx_t *ctx = cctx_with_cancel(parent);
        if (!ctx)
            return ENOMEM;
        if (serve(ctx) == EAGAIN)
            continue;
        cctx_close(ctx);
    }
    return 0;
}

/* analyzer, cocci */
int lost_by_a_goto(const cctx_t *parent)
{
    int err = ENOMEM;
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        goto out;
    err = serve(ctx);
    if (err)
        goto out;
    cctx_close(ctx);
out:
    return err;
}

/* analyzer, cocci */
int a_value_is_lost(const cctx_t *parent, void *value)
{
    const cctx_t *ctx = cctx_with_value(parent, &key, value);
    if (!ctx)
        return ENOMEM;
    return serve(ctx);
}

/* analyzer, cocci */
int the_inner_one_is_lost(const cctx_t *parent)
{
    cctx_t *outer = cctx_with_cancel(parent);
    if (!outer)
        return ENOMEM;
    cctx_t *inner = cctx_with_timeout(outer, CCTX_S(1));
    if (!inner) {
        cctx_close(outer);
        return ENOMEM;
    }
    int err = serve(inner);
    cctx_close(outer);
    return err;
}

/* analyzer, cocci */
int the_outer_one_is_lost(const cctx_t *parent)
{
    cctx_t *outer = cctx_with_cancel(parent);
    if (!outer)
        return ENOMEM;
    cctx_t *inner = cctx_with_timeout(outer, CCTX_S(1));
    if (!inner)
        return ENOMEM;
    int err = serve(inner);
    cctx_close(inner);
    cctx_close(outer);
    return err;
}

/* analyzer */
int a_merge_is_lost(const cctx_t *left, const cctx_t *right)
{
    const cctx_t *parents[] = {left, right};
    cctx_t *ctx = cctx_with_any(parents, 2);
    if (ctx && serve(ctx) == 0) {
        cctx_close(ctx);
        return 0;
    }
    return ENOMEM;
}

/* analyzer, cocci */
int signals_are_lost(const cctx_t *parent, const sigset_t *signals)
{
    cctx_t *ctx = cctx_with_signals(parent, signals);
    if (!ctx)
        return errno;
    return cctx_wait(ctx);
}

/* analyzer, cocci */
int declared_first(const cctx_t *parent)
{
    cctx_t *ctx;
    ctx = cctx_with_timeout_cause(parent, CCTX_S(5), NULL);
    if (ctx == NULL)
        return ENOMEM;
    switch (serve(ctx)) {
    case 0:
        cctx_close(ctx);
        return 0;
    case EAGAIN:
        return EAGAIN;
    default:
        cctx_unref(ctx);
        return EIO;
    }
}

/* analyzer */
int a_group_is_lost(const cctx_t *parent, int (*task)(const cctx_t *ctx, void *arg))
{
    cctx_group_t *group = cctx_group_new(parent, NULL, 0);
    if (!group)
        return ENOMEM;
    if (task == NULL)
        return EINVAL;
    cctx_group_free(group);
    return 0;
}

/* analyzer */
int closed_twice(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    int err = serve(ctx);
    if (err)
        cctx_close(ctx);
    cctx_close(ctx);
    return err;
}
