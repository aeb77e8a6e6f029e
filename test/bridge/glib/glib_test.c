/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge to GLib: real reads, signals and main loops. */
#include "figure.h"

#include <cctx/bridge/glib.h>

#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/socket.h>

static int test_begin(void **state)
{
    (void)state;
    watchdog(120);
    return 0;
}

static int test_end(void **state)
{
    (void)state;
    watchdog(0);
    return 0;
}

static void *cancel_context(void *ctx)
{
    cctx_cancel(ctx);
    return NULL;
}

static void *cancel_cancellable(void *cancellable)
{
    g_cancellable_cancel(cancellable);
    return NULL;
}

static GCancellable *cancellable_of(const cctx_t *ctx)
{
    GError *error = NULL;
    GCancellable *cancellable = cctx_glib_cancellable_new(ctx, &error);
    CHECK(cancellable && !error);
    return cancellable;
}

static cctx_glib_link_t *connect_to(GCancellable *cancellable, cctx_t *ctx)
{
    GError *error = NULL;
    cctx_glib_link_t *link = cctx_glib_connect(cancellable, ctx, &error);
    CHECK(link && !error);
    return link;
}

static void mark(GCancellable *cancellable, gpointer marked)
{
    (void)cancellable;
    ++*(unsigned *)marked;
}

/* ---- a cancellable from a context ---- */

static void a_cancellable_is_cancelled_with_its_context(void **state)
{
    (void)state;
    unsigned marked = 0;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    GCancellable *cancellable = cancellable_of(ctx);
    g_signal_connect(cancellable, "cancelled", G_CALLBACK(mark), &marked);
    assert_false(g_cancellable_is_cancelled(cancellable));
    cctx_cancel(ctx);
    assert_true(g_cancellable_is_cancelled(cancellable));
    assert_int_equal(marked, 1);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void of_a_done_context_it_is_born_cancelled(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), 0);
    GCancellable *cancellable = cancellable_of(ctx);
    assert_true(g_cancellable_is_cancelled(cancellable));
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void of_the_background_it_is_never_cancelled_and_can_be_freed(void **state)
{
    (void)state;
    GCancellable *cancellable = cancellable_of(cctx_background());
    assert_false(g_cancellable_is_cancelled(cancellable));
    g_object_unref(cancellable);
}

static void a_cancellable_that_is_freed_hears_nothing_and_keeps_nothing(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    size_t before = 0;
    for (int i = 0; i < SCALED(10000); i++) {
        g_object_unref(cancellable_of(ctx));
        if (i == SCALED(10000) / 2)
            before = memory_in_use();
    }
    assert_true(memory_in_use() < before + 65536);
    cctx_cancel(ctx);
    cctx_unref(ctx);
}

static void a_cancellable_that_is_cancelled_by_others_leaves_the_context_alone(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    GCancellable *cancellable = cancellable_of(ctx);
    g_cancellable_cancel(cancellable);
    assert_int_equal(cctx_err(ctx), 0);
    cctx_cancel(ctx);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void unref_it(GCancellable *cancellable, gpointer ignored)
{
    (void)ignored;
    g_object_unref(cancellable);
}

static void its_last_reference_may_go_in_its_own_handler(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    g_signal_connect(cancellable_of(ctx), "cancelled", G_CALLBACK(unref_it), NULL);
    cctx_cancel(ctx);
    cctx_unref(ctx);
}

static void its_last_reference_may_go_while_a_thread_cancels(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(3000); i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        GCancellable *cancellable = cancellable_of(ctx);
        pthread_t thread = thread_start(cancel_context, ctx);
        if (i % 2 == 0)
            sched_yield();
        g_object_unref(cancellable);
        thread_join(thread);
        cctx_unref(ctx);
    }
}

static void no_context_is_an_error_and_no_cancellable(void **state)
{
    (void)state;
    GError *error = NULL;
    assert_null(cctx_glib_cancellable_new(NULL, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT));
    g_clear_error(&error);
    assert_null(cctx_glib_cancellable_new(NULL, NULL));
}

/* ---- real reads ---- */

typedef struct reader {
    int fd, tid;
    const cctx_t *ctx;
    GError *error;
    gssize n;
    int64_t stopped;
    sem_t begins;
} reader_t;

static void *read_it(void *arg)
{
    reader_t *reader = arg;
    char byte;
    GInputStream *stream = g_unix_input_stream_new(reader->fd, FALSE);
    GCancellable *cancellable = cancellable_of(reader->ctx);
    reader->tid = gettid();
    sem_post(&reader->begins);
    reader->n = g_input_stream_read(stream, &byte, 1, cancellable, &reader->error);
    reader->stopped = now_ns();
    g_object_unref(cancellable);
    g_object_unref(stream);
    return NULL;
}

static void reader_begin(reader_t *reader, int fd, const cctx_t *ctx, pthread_t *thread)
{
    *reader = (reader_t){.fd = fd, .ctx = ctx};
    sem_init(&reader->begins, 0, 0);
    *thread = thread_start(read_it, reader);
    CHECK(sem_wait(&reader->begins) == 0);
}

static void a_read_of_a_pipe_stops_with_the_context(void **state)
{
    (void)state;
    int ends[2];
    reader_t reader;
    pthread_t thread;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(pipe(ends), 0);
    reader_begin(&reader, ends[0], ctx, &thread);
    await_sleep(reader.tid);
    cctx_cancel_causef(ctx, 0, "enough of this");
    thread_join(thread);
    assert_int_equal(reader.n, -1);
    assert_true(g_error_matches(reader.error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    cctx_glib_explain(ctx, &reader.error);
    assert_string_equal(reader.error->message, "enough of this");
    assert_int_equal(cctx_glib_errno(reader.error), ECANCELED);
    g_clear_error(&reader.error);
    close(ends[0]);
    close(ends[1]);
    cctx_unref(ctx);
}

static void a_read_of_a_socket_ends_at_the_deadline_and_is_timed_out(void **state)
{
    (void)state;
    int ends[2];
    char byte;
    GError *error = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    GSocket *socket = g_socket_new_from_fd(ends[0], &error);
    assert_non_null(socket);
    cctx_time_t deadline = cctx_now() + CCTX_MS(30);
    cctx_t *ctx = cctx_with_deadline(cctx_background(), deadline);
    GCancellable *cancellable = cancellable_of(ctx);
    assert_int_equal(g_socket_receive(socket, &byte, 1, cancellable, &error), -1);
    assert_true(cctx_now() >= deadline);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)); /* GIO knows no better */
    cctx_glib_explain(ctx, &error);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
    assert_string_equal(error->message, "context deadline exceeded");
    assert_int_equal(cctx_glib_errno(error), ETIMEDOUT);
    g_clear_error(&error);
    g_object_unref(cancellable);
    g_object_unref(socket);
    close(ends[1]);
    cctx_unref(ctx);
}

typedef struct waited {
    GMainLoop *loop;
    GError *error;
    unsigned calls;
    GThread *thread;
    int err;
} waited_t;

static void read_ready(GObject *stream, GAsyncResult *result, gpointer arg)
{
    waited_t *waited = arg;
    waited->calls++;
    CHECK(g_input_stream_read_finish(G_INPUT_STREAM(stream), result, &waited->error) == -1);
    g_main_loop_quit(waited->loop);
}

/* The operation holds the cancellable, and by it the registration, after the caller has let go. */
static void an_asynchronous_read_stops_with_the_context_though_the_caller_let_go(void **state)
{
    (void)state;
    int ends[2];
    static char byte;
    waited_t waited = {.loop = g_main_loop_new(NULL, FALSE)};
    assert_int_equal(pipe(ends), 0);
    GInputStream *stream = g_unix_input_stream_new(ends[0], TRUE);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    GCancellable *cancellable = cancellable_of(ctx);
    g_input_stream_read_async(stream, &byte, 1, G_PRIORITY_DEFAULT, cancellable, read_ready, &waited);
    g_object_unref(cancellable);
    g_main_loop_run(waited.loop);
    assert_int_equal(waited.calls, 1);
    cctx_glib_explain(ctx, &waited.error);
    assert_int_equal(cctx_glib_errno(waited.error), ETIMEDOUT);
    g_clear_error(&waited.error);
    g_object_unref(stream);
    g_main_loop_unref(waited.loop);
    close(ends[1]);
    cctx_unref(ctx);
}

/* ---- errors ---- */

static void errors_say_how_the_context_ended(void **state)
{
    (void)state;
    static const cctx_cause_t silent = {7, NULL};
    GError *error = NULL;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_false(cctx_glib_set_error(ctx, &error));
    assert_false(cctx_glib_set_error(NULL, &error));
    assert_null(error);
    assert_int_equal(cctx_glib_errno(NULL), 0);
    cctx_cancel_cause(ctx, &silent);
    assert_true(cctx_glib_set_error(ctx, NULL));
    assert_true(cctx_glib_set_error(ctx, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    assert_true(error->message[0] != '\0');
    g_clear_error(&error);
    cctx_unref(ctx);
}

static void other_errors_and_live_contexts_are_left_alone(void **state)
{
    (void)state;
    GError *error = NULL;
    cctx_t *live = cctx_with_cancel(cctx_background()), *done = cctx_with_timeout(cctx_background(), 0);
    cctx_glib_explain(done, &error);
    cctx_glib_explain(done, NULL);
    assert_null(error);
    g_set_error_literal(&error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "not there");
    cctx_glib_explain(done, &error);
    assert_string_equal(error->message, "not there");
    assert_int_equal(cctx_glib_errno(error), EIO);
    g_clear_error(&error);
    g_set_error_literal(&error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "by others");
    cctx_glib_explain(live, &error);
    assert_string_equal(error->message, "by others");
    g_clear_error(&error);
    cctx_unref(live);
    cctx_unref(done);
}

/* ---- a context from a cancellable ---- */

static void a_context_ends_with_a_cancellable(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    const cctx_t *child = cctx_with_cancel(ctx);
    cctx_glib_link_t *link = connect_to(cancellable, ctx);
    assert_int_equal(cctx_err(ctx), 0);
    thread_join(thread_start(cancel_cancellable, cancellable));
    assert_int_equal(cctx_err(child), ECANCELED);
    assert_string_equal(cctx_cause(ctx)->text, "the GCancellable was cancelled");
    cctx_glib_disconnect(link);
    g_object_unref(cancellable);
    cctx_unref(child);
    cctx_unref(ctx);
}

static void a_cancellable_that_is_cancelled_already_ends_it_at_once(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    g_cancellable_cancel(cancellable);
    cctx_glib_link_t *link = connect_to(cancellable, ctx);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    cctx_glib_disconnect(link);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void a_reset_does_not_revive_the_context(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_glib_link_t *link = connect_to(cancellable, ctx);
    g_cancellable_cancel(cancellable);
    g_cancellable_reset(cancellable);
    assert_int_equal(cctx_err(ctx), ECANCELED);
    g_cancellable_cancel(cancellable); /* a second signal finds all done */
    cctx_glib_disconnect(link);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void after_a_disconnect_the_cancellable_is_not_heard_and_not_held(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_glib_disconnect(connect_to(cancellable, ctx));
    cctx_glib_disconnect(NULL);
    g_cancellable_cancel(cancellable);
    assert_int_equal(cctx_err(ctx), 0);
    assert_int_equal(G_OBJECT(cancellable)->ref_count, 1);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void disconnect_in_callback(void *link)
{
    cctx_glib_disconnect(*(cctx_glib_link_t **)link);
    *(cctx_glib_link_t **)link = NULL;
}

/* Here g_cancellable_disconnect would wait for itself: the callback runs within the signal. */
static void a_callback_of_the_context_may_disconnect_it(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_callback_t callback = {{0}};
    cctx_glib_link_t *link = connect_to(cancellable, ctx);
    assert_int_equal(cctx_after_func(ctx, &callback, disconnect_in_callback, &link), 0);
    cctx_unref(ctx); /* the link's is the last then */
    g_cancellable_cancel(cancellable);
    assert_null(link);
    g_object_unref(cancellable);
}

static void disconnect_in_handler(GCancellable *cancellable, gpointer link)
{
    (void)cancellable;
    disconnect_in_callback(link);
}

static void another_handler_of_the_cancellable_may_disconnect_it(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_glib_link_t *link = NULL;
    g_signal_connect(cancellable, "cancelled", G_CALLBACK(disconnect_in_handler), &link);
    link = connect_to(cancellable, ctx); /* its handler would be the second */
    g_cancellable_cancel(cancellable);
    assert_null(link);
    assert_int_equal(cctx_err(ctx), 0);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

typedef struct slow {
    gate_t inside, leave;
    bool left;
} slow_t;

static void slow_callback(void *arg)
{
    slow_t *slow = arg;
    gate_open(&slow->inside);
    gate_wait(&slow->leave);
    __atomic_store_n(&slow->left, true, __ATOMIC_RELAXED);
}

static void *let_it_leave(void *arg)
{
    slow_t *slow = arg;
    await_sleep(getpid());
    gate_open(&slow->leave);
    return NULL;
}

static void a_disconnect_waits_for_a_cancel_that_runs_in_another_thread(void **state)
{
    (void)state;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_callback_t callback = {{0}};
    slow_t slow = {{0}, {0}, false};
    cctx_glib_link_t *link = connect_to(cancellable, ctx);
    assert_int_equal(cctx_after_func(ctx, &callback, slow_callback, &slow), 0);
    pthread_t cancels = thread_start(cancel_cancellable, cancellable);
    gate_wait(&slow.inside);
    pthread_t lets = thread_start(let_it_leave, &slow);
    cctx_glib_disconnect(link);
    assert_true(__atomic_load_n(&slow.left, __ATOMIC_RELAXED));
    thread_join(cancels);
    thread_join(lets);
    cctx_stop_wait(&callback);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

static void a_disconnect_may_meet_a_cancel(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(3000); i++) {
        GCancellable *cancellable = g_cancellable_new();
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        cctx_glib_link_t *link = connect_to(cancellable, ctx);
        pthread_t thread = thread_start(cancel_cancellable, cancellable);
        if (i % 2 == 0)
            sched_yield();
        cctx_glib_disconnect(link);
        int err = cctx_err(ctx);
        thread_join(thread);
        assert_int_equal(cctx_err(ctx), err); /* nothing came later */
        g_object_unref(cancellable);
        cctx_unref(ctx);
    }
}

static void what_cannot_be_connected_is_an_error(void **state)
{
    (void)state;
    GError *error = NULL;
    GCancellable *cancellable = g_cancellable_new();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_null(cctx_glib_connect(NULL, ctx, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT));
    g_clear_error(&error);
    assert_null(cctx_glib_connect(cancellable, NULL, NULL));
    assert_int_equal(G_OBJECT(cancellable)->ref_count, 1);
    g_object_unref(cancellable);
    cctx_unref(ctx);
}

/* ---- both ways ---- */

static void both_ways_between_the_same_two_nothing_goes_in_a_circle(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        unsigned marked = 0;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        GCancellable *cancellable = cancellable_of(ctx);
        cctx_glib_link_t *link = connect_to(cancellable, ctx);
        g_signal_connect(cancellable, "cancelled", G_CALLBACK(mark), &marked);
        if (first == 0)
            cctx_cancel(ctx);
        else
            g_cancellable_cancel(cancellable);
        assert_int_equal(cctx_err(ctx), ECANCELED);
        assert_string_equal(cctx_cause(ctx)->text,
                            first == 0 ? "context canceled" : "the GCancellable was cancelled");
        assert_true(g_cancellable_is_cancelled(cancellable));
        assert_int_equal(marked, 1);
        cctx_glib_disconnect(link);
        g_object_unref(cancellable);
        cctx_unref(ctx);
    }
}

static void both_ways_both_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(2000); i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        GCancellable *cancellable = cancellable_of(ctx);
        cctx_glib_link_t *link = connect_to(cancellable, ctx);
        pthread_t thread = thread_start(cancel_cancellable, cancellable);
        cctx_cancel(ctx);
        cctx_glib_disconnect(link);
        g_object_unref(cancellable);
        thread_join(thread);
        cctx_unref(ctx);
    }
}

/* ---- a main loop ---- */

static void note_done(const cctx_t *ctx, gpointer arg)
{
    waited_t *waited = arg;
    waited->calls++;
    waited->thread = g_thread_self();
    waited->err = cctx_err(ctx);
    g_main_loop_quit(waited->loop);
}

static GSource *attach(const cctx_t *ctx, waited_t *waited)
{
    GError *error = NULL;
    GSource *source = cctx_glib_source_new(ctx, &error);
    CHECK(source && !error);
    g_source_set_callback(source, G_SOURCE_FUNC(note_done), waited, NULL);
    g_source_attach(source, NULL);
    return source;
}

static void a_source_is_dispatched_once_in_its_loop(void **state)
{
    (void)state;
    waited_t waited = {.loop = g_main_loop_new(NULL, FALSE)};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    GSource *source = attach(ctx, &waited);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_int_equal(waited.calls, 0);
    pthread_t thread = thread_start(cancel_context, ctx);
    g_main_loop_run(waited.loop);
    thread_join(thread);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_int_equal(waited.calls, 1);
    assert_ptr_equal(waited.thread, g_thread_self());
    assert_int_equal(waited.err, ECANCELED);
    assert_true(g_source_is_destroyed(source));
    g_source_unref(source);
    g_main_loop_unref(waited.loop);
    cctx_unref(ctx);
}

static void a_source_keeps_its_context_and_hears_a_deadline(void **state)
{
    (void)state;
    waited_t waited = {.loop = g_main_loop_new(NULL, FALSE)};
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    g_source_unref(attach(ctx, &waited));
    cctx_unref(ctx);
    g_main_loop_run(waited.loop);
    assert_int_equal(waited.err, ETIMEDOUT);
    g_main_loop_unref(waited.loop);
}

static void a_source_without_a_callback_does_not_spin(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    GSource *source = cctx_glib_source_new(ctx, NULL);
    g_source_attach(source, NULL);
    cctx_cancel(ctx);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_true(g_source_is_destroyed(source));
    g_source_unref(source);
    cctx_unref(ctx);
}

static void a_source_that_is_destroyed_is_not_dispatched(void **state)
{
    (void)state;
    waited_t waited = {.loop = NULL};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    GSource *source = attach(ctx, &waited);
    cctx_cancel(ctx);
    g_source_destroy(source);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    assert_int_equal(waited.calls, 0);
    g_source_unref(source);
    cctx_unref(ctx);
}

static void a_source_of_the_background_is_never_dispatched(void **state)
{
    (void)state;
    waited_t waited = {.loop = NULL};
    GSource *source = attach(cctx_background(), &waited);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_source_destroy(source);
    g_source_unref(source);
    assert_int_equal(waited.calls, 0);
}

static void a_source_without_a_descriptor_is_an_error(void **state)
{
    (void)state;
    struct rlimit files, none;
    GError *error = NULL;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_null(cctx_glib_source_new(NULL, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT));
    g_clear_error(&error);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    none = files;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    GSource *source = cctx_glib_source_new(ctx, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    assert_null(source);
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES));
    g_clear_error(&error);
    cctx_unref(ctx);
}

/* ---- the program ---- */

/* Runs it until it closes its output. Its input ends, or stays open. Returns its exit status. */
static int run_program(const char *milliseconds, const char *input, bool ends, int signal, char *text,
                       size_t size)
{
    int in[2], out[2], status = -1;
    size_t used = 0;
    ssize_t n;
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("./glib_read_line", "glib_read_line", milliseconds, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    CHECK(write(in[1], input, strlen(input)) == (ssize_t)strlen(input));
    if (ends)
        close(in[1]);
    while (used < size - 1 && (n = read(out[0], text + used, size - 1 - used)) > 0) {
        used += (size_t)n;
        if (signal) { /* it has answered, so its handler is there */
            kill(pid, signal);
            signal = 0;
        }
    }
    text[used] = '\0';
    if (!ends)
        close(in[1]);
    close(out[0]);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_program_reads_until_the_end_the_time_or_ctrl_c(void **state)
{
    (void)state;
    char text[256];
    assert_int_equal(run_program("60000", "one\ntwo\n", true, 0, text, sizeof text), 0);
    assert_string_equal(text, "one\ntwo\n");
    assert_int_equal(run_program("50", "", false, 0, text, sizeof text), 1);
    assert_string_equal(text, "stopped: context deadline exceeded\n");
    assert_int_equal(run_program("60000", "one\n", false, SIGINT, text, sizeof text), 1);
    assert_string_equal(text, "one\nstopped: interrupt signal received\n");
}

/* ---- the figure ---- */

enum { ROUNDS = 1000 };

static void a_sleeping_read_of_gio_stops(void **state)
{
    (void)state;
    static int64_t ns[ROUNDS];
    int ends[2], rounds = SCALED(ROUNDS);
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < rounds; i++) {
        reader_t reader;
        pthread_t thread;
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        reader_begin(&reader, ends[0], ctx, &thread);
        await_sleep(reader.tid);
        int64_t canceled = now_ns();
        cctx_cancel(ctx);
        thread_join(thread);
        assert_int_equal(reader.n, -1);
        g_clear_error(&reader.error);
        ns[i] = reader.stopped - canceled;
        cctx_unref(ctx);
    }
    figure_report("cancel to a sleeping GIO read stopped", ns, (size_t)rounds);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cancellable_is_cancelled_with_its_context),
        cmocka_unit_test(of_a_done_context_it_is_born_cancelled),
        cmocka_unit_test(of_the_background_it_is_never_cancelled_and_can_be_freed),
        cmocka_unit_test(a_cancellable_that_is_freed_hears_nothing_and_keeps_nothing),
        cmocka_unit_test(a_cancellable_that_is_cancelled_by_others_leaves_the_context_alone),
        cmocka_unit_test(its_last_reference_may_go_in_its_own_handler),
        cmocka_unit_test(its_last_reference_may_go_while_a_thread_cancels),
        cmocka_unit_test(no_context_is_an_error_and_no_cancellable),
        cmocka_unit_test(a_read_of_a_pipe_stops_with_the_context),
        cmocka_unit_test(a_read_of_a_socket_ends_at_the_deadline_and_is_timed_out),
        cmocka_unit_test(an_asynchronous_read_stops_with_the_context_though_the_caller_let_go),
        cmocka_unit_test(errors_say_how_the_context_ended),
        cmocka_unit_test(other_errors_and_live_contexts_are_left_alone),
        cmocka_unit_test(a_context_ends_with_a_cancellable),
        cmocka_unit_test(a_cancellable_that_is_cancelled_already_ends_it_at_once),
        cmocka_unit_test(a_reset_does_not_revive_the_context),
        cmocka_unit_test(after_a_disconnect_the_cancellable_is_not_heard_and_not_held),
        cmocka_unit_test(a_callback_of_the_context_may_disconnect_it),
        cmocka_unit_test(another_handler_of_the_cancellable_may_disconnect_it),
        cmocka_unit_test(a_disconnect_waits_for_a_cancel_that_runs_in_another_thread),
        cmocka_unit_test(a_disconnect_may_meet_a_cancel),
        cmocka_unit_test(what_cannot_be_connected_is_an_error),
        cmocka_unit_test(both_ways_between_the_same_two_nothing_goes_in_a_circle),
        cmocka_unit_test(both_ways_both_at_once),
        cmocka_unit_test(a_source_is_dispatched_once_in_its_loop),
        cmocka_unit_test(a_source_keeps_its_context_and_hears_a_deadline),
        cmocka_unit_test(a_source_without_a_callback_does_not_spin),
        cmocka_unit_test(a_source_that_is_destroyed_is_not_dispatched),
        cmocka_unit_test(a_source_of_the_background_is_never_dispatched),
        cmocka_unit_test(a_source_without_a_descriptor_is_an_error),
        cmocka_unit_test(the_program_reads_until_the_end_the_time_or_ctrl_c),
        cmocka_unit_test(a_sleeping_read_of_gio_stops),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
