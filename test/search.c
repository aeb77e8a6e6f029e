/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * search - look for a fixed string in files, until enough is found, the time is up or a signal comes.
 *
 * One context stands for the whole search, and every way in which the search can end is an end of it: the
 * match that makes the number full, the deadline, Ctrl-C, and the last file that was read. Whoever sleeps is
 * woken through the context: its callback gives tokens to both semaphores and makes the event descriptor
 * readable.
 *
 *     walker (main) --> ring of paths --> workers   a token of `items` is a path in the ring, one of `room` a
 *                                                   free slot in it; once the context is done, "go home"
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cctx/cctx.h>

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ck_ring.h>

enum {
    SLOTS = 1024,       /* of the ring, which holds one path less */
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
    ck_ring_t ring;
    ck_ring_buffer_t slots[SLOTS];
    sem_t items, room;
    int woken;                      /* event descriptor: readable once the context is done */
    int signals;                    /* signal descriptor */
    unsigned threads;               /* workers */
    _Atomic uint64_t pending;       /* paths not yet searched, and one for the walker */
    _Atomic uint64_t found, files, bytes, unreadable;
    _Atomic cctx_time_t ended;      /* when the cancel that won began */
    _Atomic cctx_time_t stopped;    /* when the last worker left */
};

static const cctx_cause_t enough = {0, "enough matches"};
static const cctx_cause_t searched = {0, "everything searched"};
static const cctx_cause_t time_is_up = {0, "the time is up"};
static const cctx_cause_t no_memory = {ENOMEM, "out of memory"};
static const cctx_cause_t no_thread = {EAGAIN, "a thread could not be made"};

static void end(struct search *s, const cctx_cause_t *cause)
{
    cctx_time_t now = cctx_now();

    if (cctx_cancel_cause(s->ctx, cause))
        atomic_store(&s->ended, now);
}

/* The callback of the context: wakes every sleeper, each of which then sees that the context is done. */
static void wake_all(void *arg)
{
    struct search *s = arg;
    uint64_t one = 1;

    for (unsigned i = 0; i < s->threads; i++)
        sem_post(&s->items);
    sem_post(&s->room);
    if (write(s->woken, &one, sizeof one) != (ssize_t)sizeof one)
        abort();
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#else
#define AnnotateIgnoreReadsBegin(file, line) ((void)0)
#define AnnotateIgnoreReadsEnd(file, line) ((void)0)
#endif

/*
 * The ring reads a slot before the compare-and-swap that says whose it is, and forgets what it read if that
 * fails. ThreadSanitizer sees the read that loses beside the slot's next writer. What a path points to is
 * handed over by the semaphore, which it knows.
 */
static bool get(struct search *s, void **path)
{
    bool got;

    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    got = ck_ring_dequeue_mpmc(&s->ring, s->slots, path);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    return got;
}

static void take(sem_t *tokens)
{
    while (sem_wait(tokens) != 0)
        if (errno != EINTR)
            abort();
}

/* Whoever settles the last debt of the search, a path or the walk, ends it. */
static void settle(struct search *s)
{
    if (atomic_fetch_sub(&s->pending, 1) == 1)
        end(s, &searched);
}

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
    if (number == s->wanted)
        end(s, &enough);
}

/* Shows each matching line of the text, and returns how much of the text has been dealt with. */
static size_t search_text(struct search *s, const char *path, const char *text, size_t size, bool last)
{
    const char *newline = last ? NULL : memrchr(text, '\n', size);
    const char *all = newline ? newline + 1 : text + size;
    const char *at = text;

    if (!last && !newline && size < LINE)
        return 0;
    while (!cctx_is_done(s->ctx)) {
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

static void search_file(struct search *s, const char *path, char *buffer)
{
    struct stat status;
    size_t kept = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &status) != 0) {
        atomic_fetch_add(&s->unreadable, 1);
    } else if (S_ISREG(status.st_mode)) {
        atomic_fetch_add(&s->files, 1);
        while (!cctx_is_done(s->ctx)) {
            ssize_t got = read(fd, buffer + kept, BLOCK);
            size_t used;

            if (got < 0) {
                atomic_fetch_add(&s->unreadable, 1);
                break;
            }
            atomic_fetch_add(&s->bytes, (uint64_t)got);
            kept += (size_t)got;
            used = search_text(s, path, buffer, kept, got == 0);
            if (got == 0)
                break;
            kept -= used;
            memmove(buffer, buffer + used, kept);
        }
    }
    if (fd >= 0)
        close(fd);
}

static void *work(void *arg)
{
    struct search *s = arg;
    char *buffer = malloc(LINE + BLOCK);
    cctx_time_t now, seen;

    if (!buffer)
        end(s, &no_memory);
    for (;;) {
        void *path;

        take(&s->items);
        if (cctx_is_done(s->ctx))
            break;
        if (!get(s, &path))
            abort();
        sem_post(&s->room);
        search_file(s, path, buffer);
        free(path);
        settle(s);
    }
    free(buffer);
    now = cctx_now();
    seen = atomic_load(&s->stopped);
    while (seen < now && !atomic_compare_exchange_weak(&s->stopped, &seen, now)) {
    }
    return NULL;
}

static void *heed_signals(void *arg)
{
    struct search *s = arg;
    struct pollfd fds[2] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->woken, .events = POLLIN}};
    struct signalfd_siginfo info;

    while (!cctx_is_done(s->ctx)) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            abort();
        if ((fds[0].revents & POLLIN) != 0 && read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
            cctx_time_t now = cctx_now();

            if (cctx_cancel_causef(s->ctx, 0, "signal: %s", strsignal((int)info.ssi_signo)))
                atomic_store(&s->ended, now);
        }
    }
    return NULL;
}

/* Hands the regular files below the folders to the workers; no links. False: a folder could not be read. */
static bool walk(struct search *s, char *const *folders)
{
    FTS *tree = fts_open(folders, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    bool good = tree != NULL;
    FTSENT *entry;

    while (tree && !cctx_is_done(s->ctx) && (entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_F) {
            char *path = strdup(entry->fts_path);

            take(&s->room);
            if (!path)
                end(s, &no_memory);
            if (cctx_is_done(s->ctx)) {
                free(path);
                break;
            }
            atomic_fetch_add(&s->pending, 1);
            if (!ck_ring_enqueue_mpmc(&s->ring, s->slots, path))
                abort();
            sem_post(&s->items);
        } else if (entry->fts_level == 0 && entry->fts_info == FTS_SL) {
            fprintf(stderr, "search: %s: a symbolic link, not followed\n", entry->fts_path);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            atomic_fetch_add(&s->unreadable, 1);
            if (entry->fts_level == 0) {
                fprintf(stderr, "search: %s: %s\n", entry->fts_path, strerror(entry->fts_errno));
                good = false;
            }
        }
    }
    if (tree)
        fts_close(tree);
    settle(s);
    return good;
}

/* Makes the threads, walks, and comes back when the context is done and every thread has left. */
static bool run(struct search *s, char *const *folders)
{
    pthread_t *workers = calloc(s->threads, sizeof *workers), heeder;
    cctx_callback_t on_end = {{0}};
    unsigned made = 0;
    bool heeded = false, good = false;
    void *path;

    if (workers && cctx_after_func(s->ctx, &on_end, wake_all, s) == 0) {
        heeded = pthread_create(&heeder, NULL, heed_signals, s) == 0;
        while (made < s->threads && pthread_create(&workers[made], NULL, work, s) == 0)
            made++;
        good = heeded && made == s->threads;
        if (good)
            good = walk(s, folders);
        else
            end(s, &no_thread);
        while (made > 0)
            pthread_join(workers[--made], NULL);
        if (heeded)
            pthread_join(heeder, NULL);
        cctx_stop_wait(&on_end);
    }
    while (get(s, &path))
        free(path);
    free(workers);
    return good;
}

static void report(struct search *s)
{
    cctx_time_t ended = atomic_load(&s->ended);

    if (cctx_err(s->ctx) == ETIMEDOUT)
        cctx_deadline(s->ctx, &ended);
    fprintf(stderr, "search: %" PRIu64 " found; %" PRIu64 " files, %" PRIu64 " bytes read",
            atomic_load(&s->found), atomic_load(&s->files), atomic_load(&s->bytes));
    if (atomic_load(&s->unreadable) > 0)
        fprintf(stderr, ", %" PRIu64 " unreadable", atomic_load(&s->unreadable));
    fprintf(stderr, "\nsearch: ended: %s; the last of %u threads had stopped %" PRId64 " us later\n",
            cctx_cause(s->ctx)->text, s->threads, (atomic_load(&s->stopped) - ended) / 1000);
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
    sigset_t set;
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
    atomic_init(&s.pending, 1);

    /* Blocked before any thread exists, the signals reach the process through the descriptor alone. */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s.woken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_ring_init(&s.ring, SLOTS);
    sem_init(&s.items, 0, 0);
    sem_init(&s.room, 0, SLOTS - 1);

    if (milliseconds < 0)
        s.ctx = cctx_with_cancel(cctx_background());
    else
        s.ctx = cctx_with_timeout_cause(cctx_background(), CCTX_MS(milliseconds), &time_is_up);
    if (!s.ctx || s.signals < 0 || s.woken < 0) {
        perror("search");
        return 2;
    }
    good = run(&s, argv + optind + 1);
    if (cctx_is_done(s.ctx)) {
        report(&s);
        good = good && cctx_cause(s.ctx)->code == 0;
    }
    cctx_unref(s.ctx);
    sem_destroy(&s.items);
    sem_destroy(&s.room);
    close(s.woken);
    close(s.signals);
    if (fflush(stdout) != 0)
        good = false;
    return !good ? 2 : atomic_load(&s.found) > 0 ? 0 : 1;
}
