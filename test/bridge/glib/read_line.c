/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads lines from the standard input with GIO, one by one, until a limit of time, Ctrl-C or the end.
 *
 *     usage: glib_read_line MILLISECONDS
 */
#include <cctx/bridge/glib.h>
#include <cctx/signal.h>
#include <gio/gunixinputstream.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* [read] */
/* The next line, or NULL with an error that says how the context ended, or NULL at the end of the input. */
static char *read_line(const cctx_t *ctx, GDataInputStream *input, GError **error)
{
    GCancellable *cancellable = cctx_glib_cancellable_new(ctx, error);
    GError *failure = NULL;
    char *line;

    if (!cancellable)
        return NULL;
    line = g_data_input_stream_read_line(input, NULL, cancellable, &failure);
    g_object_unref(cancellable);
    if (failure) {
        cctx_glib_explain(ctx, &failure);
        g_propagate_error(error, failure);
    }
    return line;
}
/* [read end] */

int main(int argc, char **argv)
{
    GInputStream *raw = g_unix_input_stream_new(STDIN_FILENO, FALSE);
    GDataInputStream *input = g_data_input_stream_new(raw);
    GError *error = NULL;
    cctx_t *interrupted, *ctx;
    sigset_t signals;
    char *line;
    int err;

    if (argc != 2)
        return 2;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    interrupted = cctx_with_signals(cctx_background(), &signals);
    ctx = interrupted ? cctx_with_timeout(interrupted, CCTX_MS(strtol(argv[1], NULL, 0))) : NULL;
    if (!ctx)
        return 1;
    while ((line = read_line(ctx, input, &error))) {
        puts(line);
        fflush(stdout);
        g_free(line);
    }
    err = cctx_glib_errno(error);
    if (error)
        printf("stopped: %s\n", error->message);
    g_clear_error(&error);
    cctx_close(ctx);
    cctx_close(interrupted);
    g_object_unref(input);
    g_object_unref(raw);
    return err == 0 ? 0 : 1;
}
