/* SPDX-License-Identifier: BSD-2-Clause */
/* Right use of what is watched, for C and for C++: no compiler has a warning, test/attribute_check. */
#define malloc(size) counted_malloc(size, __FILE__, __LINE__) /* as a program may that counts its allocations */
#include <cctx/cctx.h>
#include <cctx/executor.h>
#include <cctx/group.h>
#include <cctx/shared.h>
#include <cctx/wait.h>

extern void use(const void *p);
extern void run(void *arg);
extern void keep(cctx_t *ctx);
extern int serve(const cctx_t *ctx);

size_t a_look_for_the_length(const cctx_t *ctx)
{
    return cctx_print(ctx, NULL, 0);
}

size_t a_whole_buffer(const cctx_t *ctx)
{
    char text[100];
    size_t length = cctx_print(ctx, text, sizeof text);
    use(text);
    return length;
}

int an_empty_poll(const cctx_t *ctx)
{
    return cctx_poll(ctx, NULL, 0, NULL);
}

int nobody_asks_which(const cctx_t *left, const cctx_t *right)
{
    const cctx_t *both[] = {left, right};
    return cctx_wait_any(both, 2, CCTX_NEVER, NULL);
}

bool looks_at_nothing(void)
{
    return cctx_err(NULL) == EINVAL && !cctx_is_done(NULL) && !cctx_cause(NULL) && cctx_remaining(NULL) == 0 &&
           !cctx_value(NULL, NULL) && !cctx_cancel(NULL) && !cctx_deadline(NULL, NULL);
}

void nothing_is_let_go(void)
{
    cctx_unref(NULL);
    cctx_close(NULL);
    cctx_group_free(NULL);
    cctx_shared_free(NULL);
}

void a_root_is_let_go(void)
{
    cctx_unref(cctx_background());
}

void a_format_without_arguments(cctx_t *ctx)
{
    cctx_cancel_causef(ctx, EPIPE, "the client closed");
}

void a_cancel_that_may_lose(cctx_t *ctx)
{
    cctx_cancel(ctx);
}

void a_callback(const cctx_t *ctx)
{
    cctx_callback_t callback;
    if (cctx_after_func(ctx, &callback, run, NULL) == 0 && !cctx_stop(&callback))
        cctx_stop_wait(&callback);
}

void dropped_while_another_reference_is_held(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    const cctx_t *held = cctx_ref(ctx);
    cctx_close(ctx);
    serve(held);
    cctx_unref(held);
}

void canceled_and_dropped(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    cctx_cancel(ctx);
    cctx_unref(ctx);
}

void a_child_outlives_its_parent(const cctx_t *parent, const cctx_key_t *key)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    const cctx_t *value = cctx_with_value(ctx, key, NULL);
    cctx_close(ctx);
    serve(value);
    cctx_unref(value);
}

int scoped(const cctx_t *parent, const cctx_key_t *key)
{
    CCTX_SCOPED cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(5));
    CCTX_SCOPED_REF const cctx_t *user = cctx_with_value(ctx, key, NULL);
    if (!user)
        return ENOMEM;
    return serve(user);
}

cctx_t *handed_on_from_a_scope(const cctx_t *parent)
{
    CCTX_SCOPED cctx_t *ctx = cctx_with_cancel(parent);
    if (serve(ctx) != 0)
        return NULL;
    cctx_t *made = ctx;
    ctx = NULL;
    return made;
}
