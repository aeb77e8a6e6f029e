/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mutex, a semaphore and a bounded queue that end with a context, made of cctx_futex_wait and nothing else of the
 * library's, and raced to death: threads wait with contexts that are canceled by another thread or end by a deadline
 * at any moment, beside threads that wait for ever. At the end no token and no item is lost or made: a
 * wake that went to one who was canceled would leave the others asleep, and the watchdog ends the test. B3.
 */
#include "support.h"

#include <cctx/wait.h>
#include <sched.h>

/* ---- the primitives ---- */

static void futex_wake(uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* [mutex] */
/* 0: free; 1: held; 2: held, and somebody may sleep. */
typedef struct mutex {
    uint32_t word;
} mutex_t;

static int mutex_lock(mutex_t *mutex, const cctx_t *ctx)
{
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n(&mutex->word, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return 0;
    while (__atomic_exchange_n(&mutex->word, 2, __ATOMIC_ACQUIRE) != 0) {
        int err = cctx_futex_wait(ctx, &mutex->word, 2);
        if (err != 0)
            return err;
    }
    return 0;
}

static void mutex_unlock(mutex_t *mutex)
{
    if (__atomic_exchange_n(&mutex->word, 0, __ATOMIC_RELEASE) == 2)
        futex_wake(&mutex->word, 1);
}
/* [mutex] */

typedef struct semaphore {
    uint32_t count;
} semaphore_t;

static int semaphore_take(semaphore_t *semaphore, const cctx_t *ctx)
{
    uint32_t count = __atomic_load_n(&semaphore->count, __ATOMIC_RELAXED);
    for (;;) {
        while (count > 0)
            if (__atomic_compare_exchange_n(&semaphore->count, &count, count - 1, true, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED))
                return 0;
        int err = cctx_futex_wait(ctx, &semaphore->count, 0);
        if (err != 0)
            return err;
        count = __atomic_load_n(&semaphore->count, __ATOMIC_RELAXED);
    }
}

static void semaphore_give(semaphore_t *semaphore)
{
    __atomic_fetch_add(&semaphore->count, 1, __ATOMIC_RELEASE);
    futex_wake(&semaphore->count, 1);
}

enum { ROOM = 3 };
typedef struct queue {
    semaphore_t items, holes;
    mutex_t mutex;
    unsigned first, used;
    uint64_t item[ROOM];
} queue_t;

/* Takes one of `from` and the lock, or neither. */
static int queue_enter(queue_t *queue, semaphore_t *from, const cctx_t *ctx)
{
    int err = semaphore_take(from, ctx);
    if (err == 0 && (err = mutex_lock(&queue->mutex, ctx)) != 0)
        semaphore_give(from);
    return err;
}

static int queue_put(queue_t *queue, uint64_t item, const cctx_t *ctx)
{
    int err = queue_enter(queue, &queue->holes, ctx);
    if (err != 0)
        return err;
    CHECK(queue->used < ROOM);
    queue->item[(queue->first + queue->used++) % ROOM] = item;
    mutex_unlock(&queue->mutex);
    semaphore_give(&queue->items);
    return 0;
}

static int queue_get(queue_t *queue, uint64_t *item, const cctx_t *ctx)
{
    int err = queue_enter(queue, &queue->items, ctx);
    if (err != 0)
        return err;
    CHECK(queue->used > 0);
    *item = queue->item[queue->first];
    queue->first = (queue->first + 1) % ROOM;
    queue->used--;
    mutex_unlock(&queue->mutex);
    semaphore_give(&queue->holes);
    return 0;
}

/* ---- contexts that end at any moment ---- */

enum { WORKERS = 6, ROUNDS = 6000 };

static cctx_t *victim[WORKERS];
static uint32_t over;
static uint64_t ended[3]; /* attempts that were not ended, that were canceled, whose deadline came */

static void *canceler(void *arg)
{
    rng_t rng = rng_make(test_seed(), 1000);
    (void)arg;
    for (unsigned i = 0; !__atomic_load_n(&over, __ATOMIC_ACQUIRE); i++) {
        cctx_t *ctx = __atomic_exchange_n(&victim[i % WORKERS], NULL, __ATOMIC_ACQ_REL);
        if (!ctx) {
            if (i % WORKERS == 0)
                sched_yield();
            continue;
        }
        for (uint64_t spin = rng_below(&rng, 2000); spin > 0; spin--)
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        cctx_cancel(ctx);
        cctx_unref(ctx);
    }
    return NULL;
}

/* One attempt's context: for ever, until a deadline of some microseconds, or until the canceler comes. */
static const cctx_t *attempt_begin(rng_t *rng, unsigned index)
{
    switch (rng_below(rng, 4)) {
    case 0: return cctx_background();
    case 1: return cctx_with_timeout(cctx_background(), (int64_t)rng_below(rng, 60000));
    default: break;
    }
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_ref(ctx);
    cctx_unref(__atomic_exchange_n(&victim[index], ctx, __ATOMIC_ACQ_REL));
    return ctx;
}

static void attempt_end(const cctx_t *ctx, int err)
{
    CHECK(err == 0 || err == cctx_err(ctx));
    __atomic_fetch_add(&ended[err == 0 ? 0 : err == ECANCELED ? 1 : 2], 1, __ATOMIC_RELAXED);
    cctx_unref(ctx);
}

static void run(void (*work)(unsigned index, void *arg), const char *what)
{
    memset(ended, 0, sizeof ended);
    over = 0;
    pthread_t thread = thread_start(canceler, NULL);
    threads_run(WORKERS, work, NULL);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    thread_join(thread);
    for (int i = 0; i < WORKERS; i++) {
        cctx_unref(victim[i]);
        victim[i] = NULL;
    }
    print_message("%s: %" PRIu64 " went on, %" PRIu64 " were canceled, of %" PRIu64 " the deadline came\n", what,
                  ended[0], ended[1], ended[2]);
}

/* ---- the races ---- */

static mutex_t mutex;
static uint64_t guarded; /* by mutex; without an atomic, for ThreadSanitizer */

static void locks(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed(), index);
    (void)arg;
    for (int i = 0; i < SCALED(ROUNDS); i++) {
        const cctx_t *ctx = attempt_begin(&rng, index);
        int err = mutex_lock(&mutex, ctx);
        if (err == 0) {
            guarded++;
            if (rng_below(&rng, 8) == 0)
                sched_yield();
            mutex_unlock(&mutex);
        }
        attempt_end(ctx, err);
    }
}

static void a_mutex_excludes_and_loses_no_wake(void **state)
{
    (void)state;
    guarded = 0;
    run(locks, "mutex");
    assert_int_equal(guarded, ended[0]);
    assert_int_equal(mutex_lock(&mutex, cctx_background()), 0);
    mutex_unlock(&mutex);
    assert_int_equal(mutex.word, 0);
}

enum { TOKENS = 2 };
static semaphore_t semaphore;
static uint32_t holders;

static void takes(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed(), 100 + index);
    (void)arg;
    for (int i = 0; i < SCALED(ROUNDS); i++) {
        const cctx_t *ctx = attempt_begin(&rng, index);
        int err = semaphore_take(&semaphore, ctx);
        if (err == 0) {
            CHECK(__atomic_add_fetch(&holders, 1, __ATOMIC_SEQ_CST) <= TOKENS);
            if (rng_below(&rng, 8) == 0)
                sched_yield();
            __atomic_fetch_sub(&holders, 1, __ATOMIC_SEQ_CST);
            semaphore_give(&semaphore);
        }
        attempt_end(ctx, err);
    }
}

static void a_semaphore_keeps_its_tokens(void **state)
{
    (void)state;
    semaphore.count = TOKENS;
    run(takes, "semaphore");
    assert_int_equal(semaphore.count, TOKENS);
}

static queue_t queue;
static uint64_t put_sum, got_sum;

/* Half of them put, half get, the same number of each; whoever is ended tries again. */
static void puts_or_gets(unsigned index, void *arg)
{
    rng_t rng = rng_make(test_seed(), 200 + index);
    (void)arg;
    for (int i = 0; i < SCALED(ROUNDS);) {
        const cctx_t *ctx = attempt_begin(&rng, index);
        uint64_t item = rng_next(&rng) >> 20;
        int err = index % 2 ? queue_put(&queue, item, ctx) : queue_get(&queue, &item, ctx);
        if (err == 0) {
            __atomic_fetch_add(index % 2 ? &put_sum : &got_sum, item, __ATOMIC_RELAXED);
            i++;
        }
        attempt_end(ctx, err);
    }
}

static void a_queue_hands_on_each_item_once(void **state)
{
    (void)state;
    queue.holes.count = ROOM;
    run(puts_or_gets, "queue");
    assert_int_equal(put_sum, got_sum);
    assert_int_equal(queue.used, 0);
    assert_int_equal(queue.items.count, 0);
    assert_int_equal(queue.holes.count, ROOM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutex_excludes_and_loses_no_wake),
        cmocka_unit_test(a_semaphore_keeps_its_tokens),
        cmocka_unit_test(a_queue_hands_on_each_item_once),
    };
    test_seed();
    watchdog(200);
    return cmocka_run_group_tests_name("primitives_stress", tests, NULL, NULL);
}
