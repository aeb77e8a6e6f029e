/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * coming_from_go - each call of Go's context package, in C. A region is what stands beside the Go in README;
 * the checks after it assert what it did.
 */
#include <cctx/cctx.h>
#include <cctx/group.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(expression)                                                                                   \
    do {                                                                                                    \
        if (!(expression)) {                                                                                \
            fprintf(stderr, "coming_from_go: %s:%d: %s\n", __FILE__, __LINE__, #expression);                 \
            exit(1);                                                                                        \
        }                                                                                                   \
    } while (0)

static int ran;

static void count(void *arg)
{
    ++*(int *)arg;
}

static void background(void)
{
    /* [background] */
    const cctx_t *ctx = cctx_background();
    const cctx_t *later = cctx_todo();
    /* [background end] */
    CHECK(ctx && later && ctx != later);
    CHECK(cctx_err(ctx) == 0 && cctx_done(later) == NULL);
}

static void with_cancel(const cctx_t *parent)
{
    /* [with_cancel] */
    cctx_t *ctx = cctx_with_cancel(parent);
    /* ... */
    cctx_close(ctx); /* on every way out */
    /* [with_cancel end] */

    ctx = cctx_with_cancel(parent);
    CHECK(ctx);
    /* [cancel] */
    bool first = cctx_cancel(ctx);
    /* [cancel end] */
    CHECK(first);
    CHECK(!cctx_cancel(ctx));
    /* [err] */
    int err = cctx_err(ctx); /* 0, ECANCELED or ETIMEDOUT */
    const char *text = cctx_strerror(err);
    /* [err end] */
    CHECK(err == ECANCELED);
    CHECK(strcmp(text, "context canceled") == 0);
    cctx_unref(ctx);
}

static void with_cancel_cause(const cctx_t *parent)
{
    /* [with_cancel_cause] */
    static const cctx_cause_t closed = {EPIPE, "the client closed"};
    cctx_t *ctx = cctx_with_cancel(parent);
    cctx_cancel_cause(ctx, &closed);
    const cctx_cause_t *cause = cctx_cause(ctx);
    /* [with_cancel_cause end] */
    CHECK(cause == &closed);
    CHECK(cctx_err(ctx) == ECANCELED);
    cctx_unref(ctx);

    ctx = cctx_with_cancel(parent);
    /* [causef] */
    cctx_cancel_causef(ctx, EPIPE, "client %d closed", 7);
    /* [causef end] */
    CHECK(cctx_cause(ctx)->code == EPIPE);
    CHECK(strcmp(cctx_cause(ctx)->text, "client 7 closed") == 0);
    cctx_unref(ctx);
}

static void with_deadline(const cctx_t *parent)
{
    static const cctx_cause_t slow = {ETIMEDOUT, "the disk is slow"};
    cctx_t *ctx;

    /* [with_timeout] */
    ctx = cctx_with_timeout(parent, CCTX_S(5));
    /* [with_timeout end] */
    CHECK(cctx_remaining(ctx) > 0 && cctx_remaining(ctx) <= CCTX_S(5));
    cctx_close(ctx);

    cctx_time_t when = cctx_now() + CCTX_S(5);
    /* [with_deadline] */
    ctx = cctx_with_deadline(parent, when);
    /* [with_deadline end] */
    /* [deadline] */
    cctx_time_t deadline;
    bool has_one = cctx_deadline(ctx, &deadline);
    /* [deadline end] */
    CHECK(has_one && deadline == when);
    cctx_close(ctx);
    CHECK(!cctx_deadline(parent, &deadline));

    /* [with_timeout_cause] */
    ctx = cctx_with_timeout_cause(parent, CCTX_MS(5), &slow);
    int err = cctx_wait(ctx);
    /* [with_timeout_cause end] */
    CHECK(err == ETIMEDOUT);
    CHECK(cctx_cause(ctx) == &slow);
    CHECK(cctx_remaining(ctx) == 0);
    cctx_close(ctx);
}

/* [key] */
static const cctx_key_t user_key = {"user", free};
/* [key end] */

static void with_value(const cctx_t *parent)
{
    /* [with_value] */
    const cctx_t *ctx = cctx_with_value(parent, &user_key, strdup("ada"));
    const char *user = cctx_value(ctx, &user_key);
    /* ... */
    cctx_unref(ctx); /* frees the name, when nothing derived needs it */
    /* [with_value end] */

    char text[100];

    ctx = cctx_with_value(parent, &user_key, strdup("ada"));
    CHECK(ctx);
    user = cctx_value(ctx, &user_key);
    CHECK(user && strcmp(user, "ada") == 0);
    CHECK(!cctx_value(parent, &user_key));
    /* [string] */
    cctx_print(ctx, text, sizeof text);
    /* [string end] */
    CHECK(strcmp(text, "cctx.Background.WithCancel.WithValue(user)") == 0);
    cctx_unref(ctx);
}

static void without_cancel(const cctx_t *root)
{
    cctx_t *parent = cctx_with_cancel(root);

    CHECK(parent);
    /* [without_cancel] */
    const cctx_t *ctx = cctx_without_cancel(parent);
    /* [without_cancel end] */
    CHECK(ctx);
    cctx_close(parent);
    CHECK(cctx_err(ctx) == 0);
    CHECK(cctx_wait(ctx) == EDEADLK);
    cctx_unref(ctx);
}

static void after_func(const cctx_t *root)
{
    cctx_t *ctx = cctx_with_cancel(root);

    CHECK(ctx);
    ran = 0;
    /* [after_func] */
    cctx_callback_t callback = {{0}}; /* the storage is the caller's */
    int err = cctx_after_func(ctx, &callback, count, &ran);
    bool stopped = cctx_stop(&callback);
    /* [after_func end] */
    CHECK(err == 0 && stopped);
    CHECK(cctx_after_func(ctx, &callback, count, &ran) == 0);
    CHECK(cctx_cancel(ctx));
    CHECK(ran == 1);
    CHECK(!cctx_stop_wait(&callback));
    cctx_unref(ctx);
}

static void *receive(void *arg)
{
    const cctx_t *ctx = arg;

    /* [done] */
    int err = cctx_wait(ctx);
    /* [done end] */
    CHECK(err == ECANCELED);
    return NULL;
}

static void done(const cctx_t *root)
{
    cctx_t *ctx = cctx_with_cancel(root);
    pthread_t thread;

    CHECK(ctx);
    CHECK(pthread_create(&thread, NULL, receive, ctx) == 0);
    /* [select] */
    if (cctx_wait_for(ctx, CCTX_MS(1)))
        puts("the context is done");
    else
        puts("the time is over");
    /* [select end] */
    CHECK(cctx_cancel(ctx));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(cctx_wait_for(ctx, CCTX_S(1000)));
    cctx_unref(ctx);
}

static void with_any(const cctx_t *root)
{
    cctx_t *request = cctx_with_cancel(root);
    cctx_t *server = cctx_with_cancel(root);

    CHECK(request && server);
    /* [with_any] */
    const cctx_t *parents[] = {request, server};
    cctx_t *ctx = cctx_with_any(parents, 2);
    /* [with_any end] */
    CHECK(ctx && cctx_err(ctx) == 0);
    CHECK(cctx_cancel(server));
    CHECK(cctx_err(ctx) == ECANCELED);
    CHECK(cctx_err(request) == 0);
    cctx_unref(ctx);
    cctx_unref(server);
    cctx_unref(request);
}

static int fetch(const cctx_t *ctx, void *url)
{
    (void)ctx;
    return strcmp(url, "left") == 0 ? EHOSTUNREACH : 0;
}

static void group(const cctx_t *parent)
{
    char *left = strdup("left"), *right = strdup("right");

    CHECK(left && right);
    /* [group] */
    cctx_group_t *group = cctx_group_new(parent, NULL, 8);
    cctx_group_go(group, fetch, left);
    cctx_group_go(group, fetch, right);
    int err = cctx_group_wait(group); /* the first that is not 0 */
    cctx_group_free(group);
    /* [group end] */
    CHECK(err == EHOSTUNREACH && cctx_err(parent) == 0);
    free(left);
    free(right);
}

int main(void)
{
    cctx_t *root = cctx_with_cancel(cctx_background());

    CHECK(root);
    background();
    with_cancel(root);
    with_cancel_cause(root);
    with_deadline(root);
    with_value(root);
    without_cancel(root);
    after_func(root);
    done(root);
    with_any(root);
    group(root);
    cctx_close(root);
    puts("coming_from_go: passed");
    return 0;
}
