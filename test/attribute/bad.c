/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each function misuses the library so that -Wall -Wextra has a warning. Above it stands which, from gcc and from
 * clang, where that compiler has one; test/attribute_check.
 */
#include <cctx/cctx.h>
#include <cctx/executor.h>
#include <cctx/group.h>
#include <cctx/guard.h>
#include <cctx/shared.h>
#include <cctx/wait.h>

#include <stdlib.h>

extern void use(const void *p);
extern void run(void *arg);

/* gcc -Wunused-result, clang -Wunused-result */
void the_context_is_dropped(const cctx_t *parent)
{
    cctx_with_cancel(parent);
}

/* gcc -Wunused-result, clang -Wunused-result */
void the_value_is_dropped(const cctx_t *parent, const cctx_key_t *key)
{
    cctx_with_value(parent, key, NULL);
}

/* gcc -Wunused-result, clang -Wunused-result */
void the_callback_may_not_be_registered(const cctx_t *ctx, cctx_callback_t *callback)
{
    cctx_after_func(ctx, callback, run, NULL);
}

/* gcc -Wunused-result, clang -Wunused-result */
void nor_the_one_on_an_executor(const cctx_t *ctx, cctx_callback_t *callback, cctx_executor_t *executor)
{
    cctx_after_func_on(ctx, callback, executor, run, NULL);
}

/* gcc -Wunused-result, clang -Wunused-result */
void the_storage_may_be_in_use(const cctx_t *ctx)
{
    cctx_callback_t callback;
    if (cctx_after_func(ctx, &callback, run, NULL) == 0)
        cctx_stop(&callback);
}

/* gcc -Wunused-result, clang -Wunused-result */
void it_spins_once_the_context_is_done(const cctx_t *ctx, uint32_t *word)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0)
        cctx_futex_wait(ctx, word, 0);
}

/* gcc -Wunused-result, clang -Wunused-result */
void the_guard_may_not_stand(const cctx_t *ctx, cctx_guard_t *guard)
{
    cctx_guard_arm(guard, ctx, run, NULL);
}

/* gcc -Wformat=, clang -Wformat */
void the_format_is_wrong(cctx_t *ctx, const char *name)
{
    cctx_cancel_causef(ctx, EPIPE, "client %d closed", name);
}

/* gcc -Wformat=, clang -Wformat-insufficient-args */
void an_argument_is_missing(cctx_t *ctx)
{
    cctx_cancel_causef(ctx, EPIPE, "client %d closed");
}

/* gcc -Wdiscarded-qualifiers, clang -Wincompatible-pointer-types-discards-qualifiers */
void the_callers_work_is_canceled(const cctx_t *ctx)
{
    cctx_cancel(ctx);
}

/* gcc -Wuse-after-free */
int used_after_its_close(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    cctx_close(ctx);
    return cctx_wait(ctx);
}

/* gcc -Wuse-after-free */
void closed_twice(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_timeout(parent, CCTX_S(1));
    cctx_cancel(ctx);
    cctx_unref(ctx);
    cctx_close(ctx);
}

/* gcc -Wmismatched-dealloc */
void given_to_free(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    free(ctx);
}

/* gcc -Wmismatched-dealloc */
void a_value_is_closed(const cctx_t *parent, const cctx_key_t *key)
{
    const cctx_t *ctx = cctx_with_value(parent, key, NULL);
    cctx_close((cctx_t *)ctx);
}

/* gcc -Wmismatched-dealloc */
void an_arena_is_given_to_free(void)
{
    cctx_shared_t *arena = cctx_shared_create(8);
    free(arena);
}

/* gcc -Wuse-after-free */
int the_group_is_gone(const cctx_t *parent)
{
    cctx_group_t *group = cctx_group_new(parent, NULL, 0);
    cctx_group_free(group);
    return cctx_group_wait(group);
}

/* gcc -Wstringop-overflow= */
void the_buffer_is_shorter(const cctx_t *ctx)
{
    char text[10];
    cctx_print(ctx, text, 100);
    use(text);
}

/* gcc -Wstringop-overread */
cctx_t *the_array_is_shorter(const cctx_t *left, const cctx_t *right)
{
    const cctx_t *parents[] = {left, right};
    return cctx_with_any(parents, 3);
}

/* gcc -Wstringop-overflow= */
int the_descriptors_are_fewer(const cctx_t *ctx)
{
    struct pollfd fds[1] = {{0, POLLIN, 0}};
    return cctx_poll(ctx, fds, 2, NULL);
}

/* gcc -Wnonnull */
size_t there_is_no_buffer(const cctx_t *ctx)
{
    return cctx_print(ctx, NULL, 100);
}

/* gcc -Wincompatible-pointer-types, clang error */
int a_borrowed_context_is_scoped(const cctx_t *parent)
{
    CCTX_SCOPED const cctx_t *ctx = parent;
    return cctx_err(ctx);
}

/* gcc -Wmaybe-uninitialized */
int scoped_without_a_value(const cctx_t *parent, int early)
{
    CCTX_SCOPED cctx_t *ctx;
    if (early)
        return 0;
    ctx = cctx_with_cancel(parent);
    return cctx_err(ctx);
}

/* gcc -Wuse-after-free */
cctx_t *returned_from_its_scope(const cctx_t *parent)
{
    CCTX_SCOPED cctx_t *ctx = cctx_with_cancel(parent);
    return ctx;
}
