/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks against everything at once: stop and stop_wait against cancel, deadline, registration and the
 * last unref, with the storage poisoned and freed the moment it is given back. Each runs or is stopped once.
 */
#include "support.h"

#include <sched.h>

enum { SLOTS = 8 };

#define HOUR CCTX_S(3600)

/* What the test keeps of a callback; the callback itself is freed at any time. */
typedef struct slot {
    struct call *call;
    unsigned ran, stopped; /* atomic */
} slot_t;

typedef struct call {
    cctx_callback_t cb;
    slot_t *slot;
    const cctx_t *ctx;
    unsigned plain;      /* written by fn; whoever sees the end may read it */
    bool frees_itself;
    struct call *victim; /* stopped by fn; its storage lives until the end of the round */
} call_t;

static uint64_t seed;
static slot_t slots[SLOTS];
static pthread_barrier_t barrier;
static cctx_t *root, *top, *middle;
static const cctx_t *leaf;
static unsigned slots_used;
static const cctx_key_t key = {"key", NULL};

static void spin(rng_t *rng, uint64_t most)
{
    for (uint64_t i = rng_below(rng, most + 1); i > 0; i--)
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void call_free(call_t *call)
{
    memset(call, 0xa5, sizeof *call);
    free(call);
}

static void add(unsigned *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
}

static void call_main(void *arg)
{
    call_t *call = arg;
    slot_t *slot = call->slot;
    CHECK(cctx_err(call->ctx) != 0 && cctx_cause(call->ctx) != NULL);
    call->plain = 1;
    add(&slot->ran);
    if (call->victim && cctx_stop(&call->victim->cb))
        add(&call->victim->slot->stopped);
    if (call->frees_itself) {
        CHECK(!cctx_stop_wait(&call->cb));
        call_free(call);
    }
}

static call_t *call_new(slot_t *slot)
{
    call_t *call = malloc(sizeof *call);
    CHECK(call != NULL);
    memset(call, 0xa5, sizeof *call);
    *slot = (slot_t){.call = call};
    call->slot = slot;
    call->plain = 0;
    call->frees_itself = false;
    call->victim = NULL;
    return call;
}

static void call_register(call_t *call, const cctx_t *ctx)
{
    call->ctx = ctx;
    CHECK(cctx_after_func(ctx, &call->cb, call_main, call) == 0);
}

/* Half of the trees hang below a context that lives on; some end by a deadline, or by either. */
static void tree_make(rng_t *rng, int64_t timeout)
{
    const cctx_t *above = rng_below(rng, 2) ? root : cctx_background();
    top = cctx_with_timeout(above, timeout);
    middle = cctx_with_cancel(top);
    leaf = cctx_with_value(middle, &key, NULL);
    slots_used = 1 + (unsigned)rng_below(rng, SLOTS);
}

static const cctx_t *any_of_the_tree(rng_t *rng)
{
    const cctx_t *all[] = {top, middle, leaf};
    return all[rng_below(rng, 3)];
}

static void meet(void)
{
    pthread_barrier_wait(&barrier);
}

static void begin(unsigned threads)
{
    seed = test_seed();
    watchdog(100);
    CHECK(pthread_barrier_init(&barrier, NULL, threads) == 0);
    root = cctx_with_cancel(cctx_background());
}

static void end(void)
{
    pthread_barrier_destroy(&barrier);
    cctx_close(root);
}

static unsigned settled(const slot_t *slot)
{
    return __atomic_load_n(&slot->ran, __ATOMIC_ACQUIRE) + __atomic_load_n(&slot->stopped, __ATOMIC_ACQUIRE);
}

static void each_ran_or_was_stopped(void)
{
    for (unsigned i = 0; i < slots_used; i++)
        CHECK(settled(&slots[i]) == 1);
}

/* ---- stop against cancel, deadline and unref ---- */

static const int stop_rounds = TEST_SANITIZED ? 8000 : 20000;

static void stop_and_free(rng_t *rng, slot_t *slot)
{
    call_t *call = slot->call;
    bool stopped = rng_below(rng, 2) && cctx_stop(&call->cb);
    if (!stopped)
        stopped = cctx_stop_wait(&call->cb);
    CHECK(call->plain == !stopped);
    if (stopped)
        add(&slot->stopped);
    call_free(call);
}

/* Thread 0 makes the tree and cancels it, thread 1 stops the callbacks, thread 2 drops the handles. */
static void stop_race(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, index);
    (void)arg;
    for (int round = 0; round < stop_rounds; round++) {
        if (index == 0) {
            tree_make(&rng, rng_below(&rng, 4) ? HOUR : 1 + (int64_t)rng_below(&rng, CCTX_US(80)));
            for (unsigned i = 0; i < slots_used; i++)
                call_register(call_new(&slots[i]), any_of_the_tree(&rng));
            cctx_ref(top);
            cctx_ref(middle);
        }
        meet();
        spin(&rng, 2000);
        if (index == 0) {
            cctx_cancel(rng_below(&rng, 3) ? top : middle);
            cctx_close(top);
            cctx_unref(middle);
        } else if (index == 1) {
            unsigned first = (unsigned)rng_below(&rng, slots_used);
            for (unsigned i = 0; i < slots_used; i++)
                stop_and_free(&rng, &slots[(first + i) % slots_used]);
        } else {
            cctx_unref(top);
            cctx_unref(leaf);
            spin(&rng, 500);
            cctx_unref(middle);
        }
        meet();
        if (index == 0)
            each_ran_or_was_stopped();
    }
}

/* C28, C29 */
static void stop_wait_races_with_cancel_deadline_and_the_last_unref(void **state)
{
    (void)state;
    begin(3);
    threads_run(3, stop_race, NULL);
    end();
}

/* ---- many stops of one callback ---- */

static const int stops_rounds = TEST_SANITIZED ? 4000 : 10000;

/* Thread 0 cancels, the others all stop the same callbacks: one call in all is told that it prevented fn. */
static void stops_race(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, 10 + index);
    (void)arg;
    for (int round = 0; round < stops_rounds; round++) {
        if (index == 0) {
            tree_make(&rng, HOUR);
            for (unsigned i = 0; i < slots_used; i++)
                call_register(call_new(&slots[i]), any_of_the_tree(&rng));
        }
        meet();
        spin(&rng, 1000);
        if (index == 0) {
            cctx_cancel(top);
        } else {
            unsigned first = (unsigned)rng_below(&rng, slots_used);
            for (unsigned i = 0; i < slots_used; i++) {
                slot_t *slot = &slots[(first + i) % slots_used];
                if (rng_below(&rng, 2)) {
                    if (cctx_stop(&slot->call->cb))
                        add(&slot->stopped);
                } else if (cctx_stop_wait(&slot->call->cb)) {
                    add(&slot->stopped);
                }
            }
        }
        meet();
        if (index == 0) {
            each_ran_or_was_stopped();
            for (unsigned i = 0; i < slots_used; i++) {
                CHECK(slots[i].call->plain == slots[i].ran);
                call_free(slots[i].call);
            }
            cctx_unref(leaf);
            cctx_unref(middle);
            cctx_unref(top);
        }
    }
}

/* C29 */
static void of_many_stops_of_one_callback_one_at_most_is_true(void **state)
{
    (void)state;
    begin(4);
    threads_run(4, stops_race, NULL);
    end();
}

/* ---- registration against cancel ---- */

static const int register_rounds = TEST_SANITIZED ? 8000 : 20000;

static void register_race(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, 20 + index);
    (void)arg;
    for (int round = 0; round < register_rounds; round++) {
        if (index == 0) {
            tree_make(&rng, rng_below(&rng, 4) ? HOUR : 1 + (int64_t)rng_below(&rng, CCTX_US(30)));
            slots_used = SLOTS;
        }
        meet();
        spin(&rng, 1500);
        if (index == 0) {
            cctx_cancel(top);
            cctx_cancel(middle);
        } else {
            /* Threads 1 and 2 share the slots between them. */
            for (unsigned i = index - 1; i < SLOTS; i += 2) {
                call_t *call = call_new(&slots[i]);
                uint64_t kind = rng_below(&rng, 3);
                call->frees_itself = kind == 0;
                call_register(call, any_of_the_tree(&rng));
                if (kind == 1)
                    stop_and_free(&rng, &slots[i]);
                if (kind != 2)
                    slots[i].call = NULL;
            }
        }
        meet();
        if (index == 0) {
            for (unsigned i = 0; i < SLOTS; i++) {
                if (slots[i].call)
                    stop_and_free(&rng, &slots[i]);
                /* What a deadline runs and frees itself may still be on its way on another thread. */
                while (settled(&slots[i]) == 0)
                    sched_yield();
            }
            each_ran_or_was_stopped();
            cctx_unref(leaf);
            cctx_unref(middle);
            cctx_unref(top);
        }
    }
}

/* C28, C29 */
static void registration_races_with_cancel_and_loses_no_callback(void **state)
{
    (void)state;
    begin(3);
    threads_run(3, register_race, NULL);
    end();
}

/* ---- callbacks that stop each other ---- */

static const int rivals_rounds = TEST_SANITIZED ? 8000 : 20000;

/* Two threads cancel two contexts whose callbacks stop each other's; a third stops one of them. */
static void rivals_race(unsigned index, void *arg)
{
    rng_t rng = rng_make(seed, 30 + index);
    cctx_t **rivals = arg;
    for (int round = 0; round < rivals_rounds; round++) {
        if (index == 0) {
            slots_used = SLOTS;
            for (unsigned i = 0; i < 2; i++)
                rivals[i] = cctx_with_cancel(rng_below(&rng, 2) ? root : cctx_background());
            for (unsigned i = 0; i < SLOTS; i++)
                call_new(&slots[i]);
            for (unsigned i = 0; i < SLOTS; i++) {
                unsigned victim = (unsigned)rng_below(&rng, SLOTS);
                slots[i].call->victim = victim == i ? NULL : slots[victim].call;
            }
            for (unsigned i = 0; i < SLOTS; i++) {
                call_register(slots[i].call, rivals[i % 2]);
            }
        }
        meet();
        spin(&rng, 500);
        if (index < 2) {
            cctx_cancel(rivals[index]);
        } else {
            slot_t *slot = &slots[rng_below(&rng, SLOTS)];
            if (cctx_stop_wait(&slot->call->cb))
                add(&slot->stopped);
        }
        meet();
        if (index == 0) {
            each_ran_or_was_stopped();
            for (unsigned i = 0; i < SLOTS; i++)
                call_free(slots[i].call);
            cctx_unref(rivals[0]);
            cctx_unref(rivals[1]);
        }
    }
}

/* C29, C30 */
static void callbacks_of_two_canceled_contexts_stop_each_other(void **state)
{
    (void)state;
    cctx_t *rivals[2];
    begin(3);
    threads_run(3, rivals_race, rivals);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_wait_races_with_cancel_deadline_and_the_last_unref),
        cmocka_unit_test(of_many_stops_of_one_callback_one_at_most_is_true),
        cmocka_unit_test(registration_races_with_cancel_and_loses_no_callback),
        cmocka_unit_test(callbacks_of_two_canceled_contexts_stop_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
