/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads work in one domain that another thread drives by the hook alone, and make domains and free them. The numbered
 * claims of src/domain.h: M1 (nothing of a domain is used once it was freed, all has gone back), M2, M3.
 */
#include "support.h"

#include <cctx/domain.h>

enum { WORKERS = 3, ROUNDS = 4000, KEPT = 16 };

struct host {
    cctx_domain_t *domain;
    const cctx_t *root;
    long live;
    uint32_t rung;
    bool stop;
    unsigned ran, registered;
};

static void *host_allocate(void *user, size_t size, size_t align)
{
    struct host *h = user;
    void *p = NULL;
    if (posix_memalign(&p, align, size) != 0) return NULL;
    __atomic_add_fetch(&h->live, 1, __ATOMIC_RELAXED);
    memset(p, 0xa5, size);
    return p;
}
static void host_release(void *user, void *p)
{
    struct host *h = user;
    __atomic_sub_fetch(&h->live, 1, __ATOMIC_RELAXED);
    free(p);
}
static void host_wake(void *user)
{
    struct host *h = user;
    __atomic_add_fetch(&h->rung, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &h->rung, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *host_main(void *arg)
{
    struct host *h = arg;
    while (!__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE)) {
        uint32_t rung = __atomic_load_n(&h->rung, __ATOMIC_ACQUIRE);
        cctx_time_t next = cctx_domain_next(h->domain), left = next - cctx_now();
        struct timespec t = {(time_t)(left / CCTX_S(1)), (long)(left % CCTX_S(1))};
        if (left > 0) syscall(SYS_futex, &h->rung, FUTEX_WAIT_PRIVATE, rung, next == CCTX_NEVER ? NULL : &t, NULL, 0);
        cctx_domain_run(h->domain, cctx_now());
    }
    return NULL;
}

static void host_make(struct host *h)
{
    cctx_domain_options_t o = {sizeof o, h, host_allocate, host_release, NULL, host_wake, 0};
    h->domain = cctx_domain_new(&o);
    CHECK(h->domain != NULL);
    h->root = cctx_domain_background(h->domain);
}

struct kept {
    cctx_t *ctx;
    cctx_callback_t cb;
    bool registered;
};

static void count_run(void *arg) { __atomic_add_fetch(&((struct host *)arg)->ran, 1, __ATOMIC_RELAXED); }

static const cctx_key_t key;

static void let_go(struct host *h, struct kept *k)
{
    if (k->registered && cctx_stop_wait(&k->cb)) __atomic_sub_fetch(&h->registered, 1, __ATOMIC_RELAXED);
    cctx_unref(k->ctx);
    k->ctx = NULL;
    k->registered = false;
}

static cctx_t *make(struct host *h, rng_t *rng, const cctx_t *parent)
{
    switch (rng_below(rng, 5)) {
    case 0: return cctx_with_timeout(parent, CCTX_US(50 + rng_below(rng, 1500)));
    case 1: return cctx_with_timeout(parent, CCTX_S(1000));
    case 2: {
        const cctx_t *both[] = {parent, h->root};
        return cctx_with_any(both, 2);
    }
    case 3: {
        const cctx_t *value = cctx_with_value(parent, &key, h);
        cctx_t *c = cctx_with_cancel(value);
        cctx_unref(value);
        return c;
    }
    default: return cctx_with_cancel(parent);
    }
}

static cctx_t *shared;

static void work(unsigned index, void *arg)
{
    struct host *h = arg;
    rng_t rng = rng_make(test_seed_value, index);
    struct kept kept[KEPT] = {{0}};
    for (int i = 0; i < SCALED(ROUNDS); i++) {
        struct kept *k = &kept[rng_below(&rng, KEPT)], *other = &kept[rng_below(&rng, KEPT)];
        if (!k->ctx) {
            k->ctx = make(h, &rng, other->ctx ? other->ctx : rng_below(&rng, 2) ? shared : h->root);
            CHECK(k->ctx != NULL);
            k->registered = rng_below(&rng, 2) && cctx_after_func(k->ctx, &k->cb, count_run, h) == 0;
            if (k->registered) __atomic_add_fetch(&h->registered, 1, __ATOMIC_RELAXED);
            continue;
        }
        switch (rng_below(&rng, 4)) {
        case 0: cctx_cancel_causef(k->ctx, 1, "%d", i); break;
        case 1: cctx_wait_for(k->ctx, CCTX_US(100)); break;
        default: let_go(h, k);
        }
    }
    for (int i = 0; i < KEPT; i++)
        if (kept[i].ctx) let_go(h, &kept[i]);
}

static void threads_work_in_a_domain_that_another_one_drives(void **state)
{
    (void)state;
    struct host h = {0};
    test_seed();
    watchdog(60);
    host_make(&h);
    shared = cctx_with_cancel(h.root);
    pthread_t thread = thread_start(host_main, &h);
    threads_run(WORKERS, work, &h);
    cctx_close(shared);
    __atomic_store_n(&h.stop, true, __ATOMIC_RELEASE);
    host_wake(&h);
    thread_join(thread);
    while (cctx_domain_run(h.domain, CCTX_NEVER - 1) > 0) {}
    assert_int_equal(h.ran, h.registered);
    assert_int_equal(cctx_domain_free(h.domain), 0);
    assert_int_equal(h.live, 0);
    watchdog(0);
}

/* M1: the last handles go on several threads, and a free at the same moment is EBUSY or the end. */
struct last {
    struct host h;
    cctx_t *handle[WORKERS];
    uint32_t freed;
};
static void drop_last(unsigned index, void *arg)
{
    struct last *l = arg;
    if (index < WORKERS) {
        cctx_close(l->handle[index]);
        return;
    }
    while (cctx_domain_free(l->h.domain) == EBUSY) sched_yield();
    __atomic_store_n(&l->freed, 1, __ATOMIC_RELEASE);
}

static void a_domain_is_freed_when_the_last_thread_has_let_go(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 99);
    watchdog(60);
    for (int i = 0; i < SCALED(1000); i++) {
        struct last l = {.freed = 0};
        host_make(&l.h);
        cctx_t *top = cctx_with_timeout(l.h.root, CCTX_S(10));
        for (int k = 0; k < WORKERS; k++) l.handle[k] = make(&l.h, &rng, k ? l.handle[rng_below(&rng, (unsigned)k)] : top);
        cctx_unref(top);
        threads_run(WORKERS + 1, drop_last, &l);
        assert_int_equal(l.freed, 1);
        assert_int_equal(l.h.live, 0);
    }
    watchdog(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_work_in_a_domain_that_another_one_drives),
        cmocka_unit_test(a_domain_is_freed_when_the_last_thread_has_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
