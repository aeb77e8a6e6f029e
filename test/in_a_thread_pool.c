/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * in_a_thread_pool - workers take requests from a queue, each with a deadline of its own, until the server stops.
 *
 * One context is the server's; each request's is derived from it. A worker that has nothing to do sleeps on a word of
 * the queue, and the server's end ends that sleep, too: no flag, no condition variable, no message to wake it. Its
 * output is checked by the program itself, in main.
 */
#include <cctx/cctx.h>
#include <cctx/wait.h>

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORKERS = 4, REQUESTS = 1000 };

typedef struct request {
    struct request *next;
    cctx_t *ctx; /* derived from the server's when the request came: its time runs while it stands in the queue */
    int work, result;
} request_t;

typedef struct queue {
    pthread_mutex_t lock;
    request_t *first, **end;
    uint32_t pushed; /* the futex: how many have come */
} queue_t;

static void queue_push(queue_t *queue, request_t *request)
{
    pthread_mutex_lock(&queue->lock);
    *queue->end = request;
    queue->end = &request->next;
    __atomic_add_fetch(&queue->pushed, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&queue->lock);
    syscall(SYS_futex, &queue->pushed, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* [pop] */
/* Takes a request, or returns cctx_err(ctx) once ctx is done and the queue is empty. */
static int queue_pop(queue_t *queue, const cctx_t *ctx, request_t **request)
{
    for (;;) {
        uint32_t seen = __atomic_load_n(&queue->pushed, __ATOMIC_ACQUIRE);
        pthread_mutex_lock(&queue->lock);
        if ((*request = queue->first) && !(queue->first = (*request)->next))
            queue->end = &queue->first;
        pthread_mutex_unlock(&queue->lock);
        if (*request)
            return 0;
        int err = cctx_futex_wait(ctx, &queue->pushed, seen); /* 0: look again */
        if (err)
            return err;
    }
}
/* [pop end] */

static queue_t queue = {PTHREAD_MUTEX_INITIALIZER, NULL, &queue.first, 0};
static uint32_t begun, finished; /* what main waits for */

static void count(uint32_t *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, counter, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void answer(request_t *request, int result)
{
    request->result = result;
    cctx_close(request->ctx);
    count(&finished);
}

/* What takes time asks its context, or sleeps on it: then it ends with the request and with the server. */
static int serve(const cctx_t *ctx, int work)
{
    int err = cctx_err(ctx);
    count(&begun);
    for (int i = 0; i < work && !err; i++)
        err = cctx_sleep(ctx, work == REQUESTS ? CCTX_S(3600) : CCTX_US(1));
    return err;
}

/* [worker] */
static void *worker(void *arg)
{
    const cctx_t *server = arg;
    request_t *request;
    while (queue_pop(&queue, server, &request) == 0)
        answer(request, serve(request->ctx, request->work));
    return NULL;
}
/* [worker end] */

#define CHECK(expression)                                                                                              \
    do {                                                                                                               \
        if (!(expression)) {                                                                                           \
            fprintf(stderr, "in_a_thread_pool: %s:%d: %s\n", __FILE__, __LINE__, #expression);                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void until(const uint32_t *counter, uint32_t least)
{
    uint32_t seen;
    while ((seen = __atomic_load_n(counter, __ATOMIC_ACQUIRE)) < least)
        CHECK(cctx_futex_wait(cctx_background(), counter, seen) == 0);
}

int main(void)
{
    static request_t requests[REQUESTS];
    pthread_t threads[WORKERS];
    cctx_t *server = cctx_with_cancel(cctx_background());
    CHECK(server);
    for (int i = 0; i < WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, worker, server) == 0);

    /* Every third request has no time left when it comes; the others are done at once. */
    for (int i = 0; i < REQUESTS; i++) {
        requests[i].work = i % 3;
        requests[i].ctx = cctx_with_timeout(server, i % 3 ? CCTX_S(3600) : 0);
        CHECK(requests[i].ctx);
        queue_push(&queue, &requests[i]);
    }
    until(&finished, REQUESTS);
    for (int i = 0; i < REQUESTS; i++)
        CHECK(requests[i].result == (i % 3 ? 0 : ETIMEDOUT));

    /* Twice as many that would take hours as there are workers: half of them stand in the queue. */
    enum { LONG = 2 * WORKERS };
    begun = finished = 0;
    for (int i = 0; i < LONG; i++) {
        requests[i] = (request_t){.work = REQUESTS, .ctx = cctx_with_timeout(server, CCTX_S(3600))};
        CHECK(requests[i].ctx);
        queue_push(&queue, &requests[i]);
    }
    until(&begun, WORKERS); /* they sleep, or are about to */
    /* [stop] */
    cctx_cancel_causef(server, 0, "%s", "the server stops"); /* ends each request, each sleep and each worker */
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    cctx_unref(server);
    /* [stop end] */
    CHECK(finished == LONG && !queue.first);
    for (int i = 0; i < LONG; i++)
        CHECK(requests[i].result == ECANCELED);
    puts("in_a_thread_pool: passed");
    return 0;
}
