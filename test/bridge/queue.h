/* SPDX-License-Identifier: BSD-2-Clause */
/* queue: a bounded queue that ends with a context, for threads of any pool. For C and C++. */
#ifndef CCTX_TEST_BRIDGE_QUEUE_H
#define CCTX_TEST_BRIDGE_QUEUE_H

#include <cctx/wait.h>

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* [queue] */
enum { QUEUE_ROOM = 16 };

/* A zeroed queue with holes = QUEUE_ROOM is empty. */
typedef struct queue {
    uint32_t items, holes; /* how many; who finds none sleeps on it */
    pthread_mutex_t lock;  /* for the rest; never held in a sleep */
    unsigned first, used;
    long item[QUEUE_ROOM];
} queue_t;

static inline int queue_take(uint32_t *count, const cctx_t *ctx)
{
    for (;;) {
        uint32_t seen = __atomic_load_n(count, __ATOMIC_RELAXED);
        while (seen > 0)
            if (__atomic_compare_exchange_n(count, &seen, seen - 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return 0;
        int err = cctx_futex_wait(ctx, count, 0);
        if (err != 0)
            return err;
    }
}

static inline void queue_give(uint32_t *count)
{
    __atomic_fetch_add(count, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, count, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* 0, or cctx_err(ctx): then the item is not in the queue. */
static inline int queue_put(queue_t *queue, const cctx_t *ctx, long item)
{
    int err = queue_take(&queue->holes, ctx);
    if (err != 0)
        return err;
    pthread_mutex_lock(&queue->lock);
    queue->item[(queue->first + queue->used++) % QUEUE_ROOM] = item;
    pthread_mutex_unlock(&queue->lock);
    queue_give(&queue->items);
    return 0;
}

/* 0, or cctx_err(ctx): then *item is untouched, and what is in the queue is for others. */
static inline int queue_get(queue_t *queue, const cctx_t *ctx, long *item)
{
    int err = queue_take(&queue->items, ctx);
    if (err != 0)
        return err;
    pthread_mutex_lock(&queue->lock);
    *item = queue->item[queue->first];
    queue->first = (queue->first + 1) % QUEUE_ROOM;
    queue->used--;
    pthread_mutex_unlock(&queue->lock);
    queue_give(&queue->holes);
    return 0;
}
/* [queue end] */

#endif
