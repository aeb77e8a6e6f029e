/* SPDX-License-Identifier: BSD-2-Clause */
/* tree: a server in the middle of its work, and what cctx_dump says of it: tree text | dot | json | stats. */
#include <cctx/cctx.h>
#include <cctx/inspect.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const cctx_key_t user = {"user", NULL}, trace = {"trace", NULL};
static const cctx_cause_t hung_up = {104, "the client hung up"};

static void *work(void *ctx)
{
    cctx_wait(ctx);
    return NULL;
}

static void flush(void *arg)
{
    (void)arg;
}

/* Waits until a worker sleeps in its wait, which no call tells but the counters. */
static void until_parked(unsigned n)
{
    cctx_stats_t stats = {.size = sizeof stats};
    for (cctx_stats(&stats); stats.waiters < n; cctx_stats(&stats))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

int main(int argc, char **argv)
{
    const char *form = argc > 1 ? argv[1] : "text";
    cctx_t *server = cctx_with_cancel(cctx_background());
    cctx_t *request1 = cctx_with_timeout(server, CCTX_S(5));
    const cctx_t *ada = cctx_with_value(request1, &user, "ada");
    cctx_t *query = cctx_with_timeout(ada, CCTX_S(1)), *log = cctx_with_cancel(ada);
    cctx_t *request2 = cctx_with_timeout(server, CCTX_S(5));
    const cctx_t *traced = cctx_with_value(request2, &trace, "on");
    cctx_t *upload = cctx_with_cancel(traced);
    cctx_t *cache = cctx_with_cancel(server);
    cctx_t *fill = cctx_with_any((const cctx_t *[]){cache, request1}, 2);
    cctx_callback_t callback = {{0}};
    pthread_t worker;
    int failed;

    cctx_name(server, "server");
    cctx_name(request1, "request 1");
    cctx_name(request2, "request 2");
    cctx_name(cache, "cache");
    if (cctx_after_func(log, &callback, flush, NULL) != 0 || pthread_create(&worker, NULL, work, query) != 0)
        exit(1);
    until_parked(1);
    cctx_cancel_cause(request2, &hung_up);

    if (strcmp(form, "stats") == 0) {
        cctx_stats_t stats = {.size = sizeof stats};
        cctx_stats(&stats);
        failed = printf("%d live, %d done, %d waiting, %d deadlines armed\n", (int)stats.live, (int)stats.done,
                        (int)stats.waiters, (int)stats.armed) < 0;
    } else {
        failed = cctx_dump(server, stdout,
                           strcmp(form, "json") == 0  ? CCTX_DUMP_JSON
                           : strcmp(form, "dot") == 0 ? CCTX_DUMP_DOT
                                                      : CCTX_DUMP_TEXT);
    }

    cctx_close(server);
    pthread_join(worker, NULL);
    const cctx_t *rest[] = {fill, cache, upload, traced, request2, log, query, ada, request1};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        cctx_unref(rest[i]);
    return failed;
}
