/* SPDX-License-Identifier: BSD-2-Clause */
/* Each function does right by its contexts: no tool has anything to say of it. */
#include <cctx/cctx.h>
#include <cctx/group.h>

#include <stdlib.h>

extern int serve(const cctx_t *ctx);
extern void run_later(cctx_t *ctx);
extern const cctx_key_t key;

struct request {
    cctx_t *ctx;
    const cctx_t *user;
};

int closed(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    int err = ctx ? serve(ctx) : ENOMEM;
    cctx_close(ctx);
    return err;
}

int closed_on_each_path(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(5));
    if (!ctx)
        return ENOMEM;
    int err = serve(ctx);
    if (err) {
        cctx_close(ctx);
        return err;
    }
    cctx_cancel(ctx);
    cctx_unref(ctx);
    return 0;
}

int one_way_out(const cctx_t *parent)
{
    int err = ENOMEM;
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        goto out;
    err = serve(ctx);
    if (err)
        goto out;
    err = serve(ctx);
out:
    cctx_close(ctx);
    return err;
}

/* [scoped] */
int scoped(const cctx_t *parent)
{
    CCTX_SCOPED cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(5));
    if (!ctx)
        return ENOMEM;
    int err = serve(ctx);
    if (err)
        return err; /* closed here, */
    return serve(ctx); /* and here */
}
/* [scoped end] */

int scoped_value(const cctx_t *parent, void *value)
{
    CCTX_SCOPED_REF const cctx_t *ctx = cctx_with_value(parent, &key, value);
    return ctx ? serve(ctx) : ENOMEM;
}

cctx_t *returned(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        return NULL;
    serve(ctx);
    return ctx;
}

cctx_t *returned_at_once(const cctx_t *parent)
{
    return cctx_with_timeout(parent, CCTX_S(5));
}

int stored(struct request *request, const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        return ENOMEM;
    request->ctx = ctx;
    return 0;
}

int made_in_place(struct request *request, const cctx_t *parent, void *value)
{
    request->ctx = cctx_with_timeout(parent, CCTX_S(5));
    if (!request->ctx)
        return ENOMEM;
    request->user = cctx_with_value(request->ctx, &key, value);
    if (!request->user) {
        cctx_close(request->ctx);
        return ENOMEM;
    }
    return 0;
}

int given_away(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    if (!ctx)
        return ENOMEM;
    run_later(ctx);
    return 0;
}

int in_a_loop(const cctx_t *parent, int times)
{
    int err = 0;
    for (int i = 0; i < times && !err; i++) {
        cctx_t *ctx = cctx_with_timeout(parent, CCTX_MS(10));
        if (!ctx)
            return ENOMEM;
        err = serve(ctx);
        cctx_close(ctx);
    }
    return err;
}

int the_parent_goes_first(const cctx_t *parent)
{
    cctx_t *outer = cctx_with_cancel(parent);
    cctx_t *inner = cctx_with_timeout(outer, CCTX_S(1));
    cctx_unref(outer);
    int err = inner ? serve(inner) : ENOMEM;
    cctx_close(inner);
    return err;
}

int two_references(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    const cctx_t *held = cctx_ref(ctx);
    cctx_close(ctx);
    int err = serve(held);
    cctx_unref(held);
    return err;
}

int only_if_there(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    int err = ENOMEM;
    if (ctx) {
        err = serve(ctx);
        cctx_close(ctx);
    }
    return err;
}

int a_group(const cctx_t *parent, int (*task)(const cctx_t *ctx, void *arg))
{
    cctx_group_t *group = cctx_group_new(parent, NULL, 0);
    if (!group)
        return ENOMEM;
    int err = cctx_group_go(group, task, NULL);
    if (err == 0)
        err = cctx_group_wait(group);
    cctx_group_free(group);
    return err;
}
