/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * search - look for a fixed string in files, until enough is found, the time is up or a signal comes.
 *
 * One context stands for the whole search, and every way in which the search can end is an end of it: the
 * match that makes the number full, the deadline, Ctrl-C, and the last file that was read. The workers are
 * the tasks of a group below it. Each takes the next path from one walk through the folders and searches
 * that file; an error of one of them ends the others.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cctx/group.h>

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 1 << 16,    /* bytes that a worker reads between two looks at the context */
    LINE = 1 << 20,     /* a longer line is searched in pieces */
    PATTERN = 4096,     /* the longest pattern */
    SHOWN = 160         /* bytes shown of a line */
};

struct search {
    cctx_t *ctx;
    const char *pattern;
    size_t pattern_size;
    uint64_t wanted;                /* matches */
    pthread_mutex_t walking;        /* for the next two */
    FTS *tree;
    bool astray;                    /* a folder that was asked for could not be read */
    sigset_t signals;               /* that end it */
    unsigned threads;               /* workers */
    _Atomic uint64_t found, files, bytes, unreadable;
    _Atomic cctx_time_t ended;      /* when the cancel that won began */
};

static const cctx_cause_t enough = {0, "enough matches"};
static const cctx_cause_t searched = {0, "everything searched"};
static const cctx_cause_t time_is_up = {0, "the time is up"};

static void show(struct search *s, const char *path, const char *line, size_t size)
{
    char text[SHOWN + 1];
    uint64_t number = atomic_fetch_add(&s->found, 1) + 1;

    if (number > s->wanted) {
        atomic_fetch_sub(&s->found, 1);
        return;
    }
    size = size < SHOWN ? size : SHOWN;
    for (size_t i = 0; i < size; i++)
        text[i] = (line[i] >= ' ' && line[i] <= '~') || line[i] == '\t' ? line[i] : '?';
    text[size] = '\0';
    printf("%s: %s\n", path, text);
    if (number == s->wanted) {
        cctx_time_t now = cctx_now();

        if (cctx_cancel_cause(s->ctx, &enough))
            atomic_store(&s->ended, now);
    }
}

/* Shows each matching line of the text, and returns how much of the text has been dealt with. */
static size_t search_text(const cctx_t *ctx, struct search *s, const char *path, const char *text,
                          size_t size, bool last)
{
    const char *newline = last ? NULL : memrchr(text, '\n', size);
    const char *all = newline ? newline + 1 : text + size;
    const char *at = text;

    if (!last && !newline && size < LINE)
        return 0;
    while (!cctx_is_done(ctx)) {
        const char *hit = memmem(at, (size_t)(all - at), s->pattern, s->pattern_size);
        const char *line, *stop;

        if (!hit)
            break;
        line = memrchr(at, '\n', (size_t)(hit - at));
        line = line ? line + 1 : at;
        stop = memchr(hit, '\n', (size_t)(all - hit));
        stop = stop ? stop : all;
        show(s, path, line, (size_t)(stop - line));
        at = stop;
    }
    /* A piece of an endless line may end inside the pattern: that much of it is looked at again. */
    if (!last && !newline)
        all -= (size_t)(all - at) < s->pattern_size ? (size_t)(all - at) : s->pattern_size - 1;
    return (size_t)(all - text);
}

static void search_file(const cctx_t *ctx, struct search *s, const char *path, char *buffer)
{
    struct stat status;
    size_t kept = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &status) != 0) {
        atomic_fetch_add(&s->unreadable, 1);
    } else if (S_ISREG(status.st_mode)) {
        atomic_fetch_add(&s->files, 1);
        while (!cctx_is_done(ctx)) {
            ssize_t got = read(fd, buffer + kept, BLOCK);
            size_t used;

            if (got < 0) {
                atomic_fetch_add(&s->unreadable, 1);
                break;
            }
            atomic_fetch_add(&s->bytes, (uint64_t)got);
            kept += (size_t)got;
            used = search_text(ctx, s, path, buffer, kept, got == 0);
            if (got == 0)
                break;
            kept -= used;
            memmove(buffer, buffer + used, kept);
        }
    }
    if (fd >= 0)
        close(fd);
}

/* The next regular file below the folders, to be freed, or NULL: there is none, or no memory. No links. */
static char *next_path(struct search *s)
{
    char *path = NULL;
    FTSENT *entry;

    pthread_mutex_lock(&s->walking);
    errno = 0;
    while (!path && (entry = fts_read(s->tree)) != NULL) {
        if (entry->fts_info == FTS_F) {
            path = strdup(entry->fts_path);
            if (!path)
                break;
        } else if (entry->fts_level == 0 && entry->fts_info == FTS_SL) {
            fprintf(stderr, "search: %s: a symbolic link, not followed\n", entry->fts_path);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            atomic_fetch_add(&s->unreadable, 1);
            if (entry->fts_level == 0) {
                fprintf(stderr, "search: %s: %s\n", entry->fts_path, strerror(entry->fts_errno));
                s->astray = true;
            }
        }
    }
    pthread_mutex_unlock(&s->walking);
    return path;
}

/* A worker. */
static int work(const cctx_t *ctx, void *arg)
{
    struct search *s = arg;
    char *buffer = malloc(LINE + BLOCK), *path;
    int error = buffer ? 0 : ENOMEM;

    while (error == 0 && !cctx_is_done(ctx)) {
        path = next_path(s);
        if (!path) {
            error = errno;
            break;
        }
        search_file(ctx, s, path, buffer);
        free(path);
    }
    free(buffer);
    return error;
}

/* Waits for a signal. The end of the search sends one, too, which then has nothing left to end. */
static void *heed_signals(void *arg)
{
    struct search *s = arg;
    cctx_time_t now;
    int number;

    sigwait(&s->signals, &number);
    now = cctx_now();
    if (cctx_cancel_causef(s->ctx, 0, "signal: %s", strsignal(number)))
        atomic_store(&s->ended, now);
    return NULL;
}

/* Starts the workers and waits for them. Returns when the last one had ended, or 0: the search could not begin. */
static cctx_time_t run(struct search *s)
{
    cctx_group_t *workers = cctx_group_new(s->ctx, NULL, 0);
    cctx_time_t stopped = 0;
    pthread_t heeder;
    int error;

    errno = EAGAIN;
    if (workers && pthread_create(&heeder, NULL, heed_signals, s) == 0) {
        for (unsigned i = 0; i < s->threads; i++)
            cctx_group_go(workers, work, s);
        error = cctx_group_wait(workers);
        stopped = cctx_now();
        if (error == 0 ? cctx_cancel_cause(s->ctx, &searched)
                       : cctx_cancel_causef(s->ctx, error, "%s", strerror(error)))
            atomic_store(&s->ended, stopped);
        pthread_kill(heeder, SIGTERM);  /* it sleeps, or has ended: then nobody takes the signal */
        pthread_join(heeder, NULL);
    }
    cctx_group_free(workers);
    return stopped;
}

static void report(struct search *s, cctx_time_t stopped)
{
    cctx_time_t ended = atomic_load(&s->ended);

    if (cctx_err(s->ctx) == ETIMEDOUT)
        cctx_deadline(s->ctx, &ended);
    fprintf(stderr, "search: %" PRIu64 " found; %" PRIu64 " files, %" PRIu64 " bytes read",
            atomic_load(&s->found), atomic_load(&s->files), atomic_load(&s->bytes));
    if (atomic_load(&s->unreadable) > 0)
        fprintf(stderr, ", %" PRIu64 " unreadable", atomic_load(&s->unreadable));
    fprintf(stderr, "\nsearch: ended: %s; the last of %u threads had stopped %" PRId64 " us later\n",
            cctx_cause(s->ctx)->text, s->threads, (stopped - ended) / 1000);
}

static bool number(const char *text, long long least, long long most, long long *value)
{
    char *rest;

    errno = 0;
    *value = strtoll(text, &rest, 10);
    return errno == 0 && rest != text && *rest == '\0' && *value >= least && *value <= most;
}

static int usage(void)
{
    fputs("usage: search [-n MATCHES] [-t MILLISECONDS] [-j THREADS] PATTERN PATH...\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static struct search s;
    long long wanted = INT64_MAX, milliseconds = -1, threads = sysconf(_SC_NPROCESSORS_ONLN);
    cctx_time_t stopped;
    bool good = true;
    int option;

    while ((option = getopt(argc, argv, "n:t:j:")) != -1) {
        if (option == 'n')
            good = good && number(optarg, 1, INT64_MAX, &wanted);
        else if (option == 't')
            good = good && number(optarg, 0, 1000000000, &milliseconds);
        else if (option == 'j')
            good = good && number(optarg, 1, 1024, &threads);
        else
            good = false;
    }
    if (!good || argc - optind < 2)
        return usage();
    s.pattern = argv[optind];
    s.pattern_size = strlen(s.pattern);
    if (s.pattern_size == 0 || s.pattern_size > PATTERN || strchr(s.pattern, '\n'))
        return usage();
    s.wanted = (uint64_t)wanted;
    s.threads = threads < 1 ? 1 : (unsigned)threads;
    pthread_mutex_init(&s.walking, NULL);
    s.tree = fts_open(argv + optind + 1, FTS_PHYSICAL | FTS_NOCHDIR, NULL);

    /* Blocked before any thread exists, the signals are for the one that waits for them. */
    sigemptyset(&s.signals);
    sigaddset(&s.signals, SIGINT);
    sigaddset(&s.signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &s.signals, NULL);

    if (milliseconds < 0)
        s.ctx = cctx_with_cancel(cctx_background());
    else
        s.ctx = cctx_with_timeout_cause(cctx_background(), CCTX_MS(milliseconds), &time_is_up);
    stopped = s.ctx && s.tree ? run(&s) : 0;
    if (stopped == 0) {
        perror("search");
        return 2;
    }
    report(&s, stopped);
    good = !s.astray && cctx_cause(s.ctx)->code == 0;
    cctx_unref(s.ctx);
    fts_close(s.tree);
    pthread_mutex_destroy(&s.walking);
    if (fflush(stdout) != 0)
        good = false;
    return !good ? 2 : atomic_load(&s.found) > 0 ? 0 : 1;
}
