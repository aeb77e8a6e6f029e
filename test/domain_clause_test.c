/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Domains as their host sees them: an allocator that counts and fails at will, a clock that the test moves, no
 * thread, and deadlines that an event loop drives.
 */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include <cctx/domain.h>
#include <cctx/guard.h>
#include <cctx/signal.h>
#include <cctx/wait.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#define YEAR (CCTX_S(86400) * 365)

/* What the C library's allocator is asked for on this thread: none of it is a context's. */
static __thread long outside;
static __thread bool outside_counts;
#if !TEST_SANITIZED
void *__libc_malloc(size_t size);
void *__libc_memalign(size_t align, size_t size);
int posix_memalign(void **p, size_t align, size_t size);
void *malloc(size_t size)
{
    outside += outside_counts;
    return __libc_malloc(size);
}
int posix_memalign(void **p, size_t align, size_t size)
{
    outside += outside_counts;
    *p = __libc_memalign(align, size);
    return *p ? 0 : ENOMEM;
}
#endif

/* A host: what its hooks keep. */
struct host {
    cctx_domain_t *domain;
    const cctx_t *root;
    cctx_time_t now, step;      /* the clock goes on by step each time it is read */
    long live, calls, fail_at;  /* blocks; calls of allocate; the number of the one that fails, 0: none */
    bool fail_after;            /* and all that come later */
    size_t bytes;
    unsigned wakes;
    int wake_fd;
    gate_t *entered, *leave;    /* allocate waits between them */
};

struct block {                  /* before what is given out */
    size_t size;
    void *memory;
    struct host *of;
};

static void *host_allocate(void *user, size_t size, size_t align)
{
    struct host *h = user;
    CHECK(align >= sizeof(void *) && (align & (align - 1)) == 0 && size > 0);
    long call = __atomic_add_fetch(&h->calls, 1, __ATOMIC_RELAXED);
    if (h->fail_at && (call == h->fail_at || (h->fail_after && call > h->fail_at))) {
        errno = ERANGE;
        return NULL;
    }
    if (h->entered) {
        gate_t *entered = h->entered;
        h->entered = NULL;
        gate_open(entered);
        gate_wait(h->leave);
    }
    bool counted = outside_counts;
    outside_counts = false;
    __asm__ volatile("" ::: "memory");          /* a compiler knows that malloc reads no variable */
    char *memory = malloc(sizeof(struct block) + align + size);
    __asm__ volatile("" ::: "memory");
    outside_counts = counted;
    CHECK(memory != NULL);
    char *p = (char *)(((uintptr_t)memory + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1));
    struct block b = {size, memory, h};
    memcpy(p - sizeof b, &b, sizeof b);
    memset(p, 0xa5, size);
    __atomic_add_fetch(&h->live, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&h->bytes, size, __ATOMIC_RELAXED);
    return p;
}

static void host_release(void *user, void *p)
{
    struct host *h = user;
    struct block b;
    CHECK(p != NULL);
    memcpy(&b, (char *)p - sizeof b, sizeof b);
    CHECK(b.of == h);
    __atomic_sub_fetch(&h->live, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&h->bytes, b.size, __ATOMIC_RELAXED);
    memset(p, 0x5a, b.size);
    errno = ERANGE;
    free(b.memory);
}

static cctx_time_t host_now(void *user)
{
    struct host *h = user;
    return __atomic_fetch_add(&h->now, h->step, __ATOMIC_RELAXED);
}

static void host_wake(void *user)
{
    struct host *h = user;
    uint64_t one = 1;
    __atomic_add_fetch(&h->wakes, 1, __ATOMIC_RELAXED);
    if (h->wake_fd > 0) {
        ssize_t n = write(h->wake_fd, &one, sizeof one);
        (void)n;
    }
    errno = ERANGE;
}

enum { OWN_CLOCK = 1 };

static void host_make(struct host *h, int how)
{
    memset(h, 0, sizeof *h);
    cctx_domain_options_t o = {sizeof o, h, host_allocate, host_release, how & OWN_CLOCK ? host_now : NULL, host_wake, 0};
    h->domain = cctx_domain_new(&o);
    CHECK(h->domain != NULL);
    h->root = cctx_domain_background(h->domain);
    CHECK(h->root != NULL);
}

/* All that was allocated has been released. */
static void host_end(struct host *h)
{
    CHECK(cctx_domain_free(h->domain) == 0);
    CHECK(h->live == 0 && h->bytes == 0);
}

static void add_one(void *arg) { __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED); }

/* ---- what it is made of ---- */

static void without_options_all_is_the_default(void **state)
{
    (void)state;
    cctx_domain_t *d = cctx_domain_new(NULL);
    assert_non_null(d);
    const cctx_t *root = cctx_domain_background(d);
    assert_non_null(root);
    assert_ptr_equal(root, cctx_domain_background(d));
    assert_ptr_not_equal(root, cctx_background());
    assert_int_equal(cctx_err(root), 0);
    assert_null(cctx_done(root));
    assert_int_equal(cctx_wait(root), EDEADLK);
    assert_false(cctx_cancel((cctx_t *)(uintptr_t)root));
    assert_ptr_equal(cctx_ref(root), root);
    cctx_unref(root);
    cctx_unref(root);
    cctx_close((cctx_t *)(uintptr_t)root);
    char text[32];
    cctx_print(root, text, sizeof text);
    assert_string_equal(text, "cctx.Background");
    cctx_t *c = cctx_with_cancel(root);
    assert_non_null(c);
    assert_true(cctx_cancel(c));
    assert_int_equal(cctx_err(c), ECANCELED);
    cctx_unref(c);
    assert_int_equal(cctx_domain_free(d), 0);
}

static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    struct {
        cctx_domain_options_t o;
        char more[24];
    } large = {{sizeof large, NULL, NULL, NULL, NULL, NULL, 0}, {0}};
    cctx_domain_options_t o = {sizeof o, NULL, host_allocate, NULL, NULL, NULL, 0};
    errno = 0;
    assert_null(cctx_domain_new(&o));
    assert_int_equal(errno, EINVAL);
    o.allocate = NULL;
    o.release = host_release;
    assert_null(cctx_domain_new(&o));
    o.release = NULL;
    o.flags = 1u << 31;
    assert_null(cctx_domain_new(&o));
    o.flags = 0;
    o.size = 0;
    assert_null(cctx_domain_new(&o));
    o.size = sizeof o.size - 1;
    assert_null(cctx_domain_new(&o));
    o.size = offsetof(cctx_domain_options_t, allocate);         /* an older caller's */
    o.allocate = host_allocate;
    cctx_domain_t *d = cctx_domain_new(&o);
    assert_non_null(d);
    assert_int_equal(cctx_domain_free(d), 0);
    d = cctx_domain_new(&large.o);
    assert_non_null(d);
    assert_int_equal(cctx_domain_free(d), 0);
    large.more[23] = 1;
    errno = 0;
    assert_null(cctx_domain_new(&large.o));
    assert_int_equal(errno, EINVAL);
    assert_null(cctx_domain_background(NULL));
    assert_true(cctx_domain_next(NULL) == CCTX_NEVER);
    assert_int_equal(cctx_domain_run(NULL, 5), 0);
    assert_int_equal(cctx_domain_free(NULL), EINVAL);
}

static void there_are_255_domains_at_most(void **state)
{
    (void)state;
    enum { MOST = 255 };
    static cctx_domain_t *d[MOST];
    cctx_t *c[MOST];
    for (int i = 0; i < MOST; i++) {
        d[i] = cctx_domain_new(NULL);
        assert_non_null(d[i]);
        c[i] = cctx_with_cancel(cctx_domain_background(d[i]));
        assert_non_null(c[i]);
    }
    errno = 0;
    assert_null(cctx_domain_new(NULL));
    assert_int_equal(errno, EAGAIN);
    cctx_unref(c[77]);
    assert_int_equal(cctx_domain_free(d[77]), 0);
    d[77] = cctx_domain_new(NULL);
    assert_non_null(d[77]);
    c[77] = cctx_with_cancel(cctx_domain_background(d[77]));
    for (int i = 0; i < MOST; i++) {
        cctx_close(c[i]);
        assert_int_equal(cctx_domain_free(d[i]), 0);
    }
}

/* ---- its allocator ---- */

static const cctx_key_t keys[12];
static const cctx_cause_t own_cause = {7, "own"};

/* Each way to have memory of a domain. Returns how many calls failed, each with ENOMEM. */
static int use_all(struct host *h)
{
    int failed = 0, ran = 0;
    const cctx_t *kept[64];
    unsigned n = 0;
#define MADE(call)                                                                                           \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        const cctx_t *made = (call);                                                                         \
        CHECK(made ? errno == 0 : errno == ENOMEM);                                                          \
        failed += !made;                                                                                     \
        if (made) kept[n++] = made;                                                                          \
    } while (0)
#define OF(i) ((i) < n ? kept[i] : h->root)
    MADE(cctx_with_cancel(h->root));
    for (int i = 0; i < 5; i++) MADE(cctx_with_cancel(OF(0)));          /* a family, a roster, a chunk */
    MADE(cctx_with_timeout(OF(0), CCTX_S(100)));
    MADE(cctx_with_timeout_cause(h->root, CCTX_S(50), &own_cause));
    MADE(cctx_with_deadline(OF(0), 0));
    MADE(cctx_without_cancel(OF(2)));
    for (int i = 0; i < 12; i++) MADE(cctx_with_value(i ? OF(n - 1) : OF(0), &keys[i], &ran));
    MADE(cctx_with_cancel(OF(n - 1)));
    const cctx_t *both[] = {OF(0), OF(1), OF(2), h->root};
    MADE(cctx_with_any(both, 4));
    cctx_callback_t cb[4] = {{{0}}};
    for (int i = 0; i < 4; i++) {
        int err = cctx_after_func(OF(6), &cb[i], add_one, &ran);
        CHECK(err == 0 || err == ENOMEM);
        failed += err != 0;
    }
    cctx_guard_t guard = {{0}};
    int armed = cctx_guard_arm(&guard, OF(6), add_one, &ran);
    CHECK(armed == 0 || armed == ENOMEM);
    failed += armed != 0;
    cctx_time_t before = cctx_domain_next(h->domain);
    CHECK(before != 0);
    size_t fired = cctx_domain_run(h->domain, h->now + CCTX_S(60));
    CHECK(fired <= 1);
    for (int i = 0; i < 4; i++) cctx_stop_wait(&cb[i]);
    cctx_guard_disarm(&guard);
    if (n > 1) {
        cctx_t *c = (cctx_t *)(uintptr_t)kept[1];
        if (cctx_cancel_causef(c, 9, "%s of %d", "one", 9)) {
            CHECK(cctx_cause(c)->code == 9 || cctx_cause(c)->code == ENOMEM);
            failed += cctx_cause(c)->code == ENOMEM;
        }
        CHECK(!cctx_cancel_causef(c, 9, "once more"));
        cctx_cancel((cctx_t *)(uintptr_t)kept[0]);
    }
    errno = 0;
    if (!cctx_wait_until(h->root, h->now) && errno == ENOMEM) failed++;
    while (n > 0) cctx_unref(kept[--n]);
    cctx_domain_run(h->domain, h->now);         /* lets go of what the guard has left to it */
    return failed;
#undef MADE
#undef OF
}

/* B6 */
static void all_memory_is_the_hosts_and_goes_back_to_it(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    assert_int_equal(use_all(&h), 0);           /* the thread's own record is made by now */
    long before = h.calls;
    outside = 0;
    outside_counts = true;
    int failed = use_all(&h);
    outside_counts = false;
    assert_int_equal(failed, 0);
    assert_int_equal(outside, 0);
    assert_true(h.calls > before + 20);
    host_end(&h);
}

/* C32 */
static void each_allocation_may_fail_and_nothing_is_lost(void **state)
{
    (void)state;
    bool some = true;
    for (long at = 1; some; at++)
        for (int after = 0; after < 2; after++) {
            struct host h = {.fail_at = at, .fail_after = after};
            cctx_domain_options_t o = {sizeof o, &h, host_allocate, host_release, host_now, host_wake, 0};
            errno = 0;
            h.domain = cctx_domain_new(&o);
            if (!h.domain) {
                assert_int_equal(errno, ENOMEM);
                assert_int_equal(h.live, 0);
                continue;
            }
            h.root = cctx_domain_background(h.domain);
            int failed = use_all(&h);
            some = h.calls >= at;
            assert_true(failed > 0 || !some || !after || at > 30);
            host_end(&h);
        }
}

/* The walk of a cancel takes memory of its own for a deep ladder of merged contexts. */
static void a_ladder_of_merges_is_canceled_by_the_hosts_memory(void **state)
{
    (void)state;
    enum { RUNGS = 100 };
    for (int fail = 0; fail < 2; fail++) {
        struct host h;
        host_make(&h, OWN_CLOCK);
        cctx_t *top = cctx_with_cancel(h.root), *side = cctx_with_cancel(h.root);
        const cctx_t *rung[RUNGS];
        for (int i = 0; i < RUNGS; i++) {
            const cctx_t *both[] = {side, i ? rung[i - 1] : top};
            rung[i] = cctx_with_any(both, 2);
            assert_non_null(rung[i]);
        }
        long before = h.live;
        h.fail_at = fail ? h.calls + 1 : 0;
        h.fail_after = true;
        assert_true(cctx_cancel(top));
        assert_int_equal(cctx_err(rung[RUNGS - 1]), ECANCELED);
        assert_int_equal(cctx_err(side), 0);
        assert_int_equal(h.live, before);
        for (int i = 0; i < RUNGS; i++) cctx_unref(rung[i]);
        cctx_unref(top);
        cctx_unref(side);
        host_end(&h);
    }
}

/* C22 */
static void a_churn_does_not_grow_a_domain(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    cctx_t *parent = cctx_with_cancel(h.root);
    long most = 0;
    for (int i = 0; i < SCALED(100000); i++) {
        cctx_t *c = cctx_with_timeout(parent, CCTX_S(1000) + i);
        cctx_t *below = cctx_with_cancel(c);
        assert_non_null(below);
        cctx_unref(c);
        cctx_close(below);
        if (h.live > most) most = h.live;
    }
    assert_true(most < 4000);
    cctx_unref(parent);
    host_end(&h);
}

/* ---- its clock, and its deadlines ---- */

/* B6, C13 */
static void a_hundred_years_of_deadlines_fire_in_order_and_none_early(void **state)
{
    (void)state;
    size_t count = (size_t)SCALED(200000);
    struct host h;
    host_make(&h, OWN_CLOCK);
    rng_t rng = rng_make(test_seed(), 1);
    cctx_t **c = calloc(count, sizeof *c);
    assert_non_null(c);
    for (size_t i = 0; i < count; i++) {
        c[i] = cctx_with_deadline(h.root, (cctx_time_t)rng_below(&rng, 100 * (uint64_t)(YEAR / 1000)) * 1000 + 1);
        assert_non_null(c[i]);
    }
    size_t ended = 0;
    for (cctx_time_t next; (next = cctx_domain_next(h.domain)) != CCTX_NEVER;) {
        assert_true(next > h.now);
        assert_int_equal(cctx_domain_run(h.domain, next - 1), 0);
        h.now = next;
        size_t n = cctx_domain_run(h.domain, next);
        assert_true(n > 0);
        ended += n;
    }
    assert_int_equal(ended, count);
    assert_true(h.now > 99 * YEAR);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(cctx_err(c[i]), ETIMEDOUT);
        cctx_unref(c[i]);
    }
    free(c);
    host_end(&h);
}

static int order[64], ordered;
struct ordered {
    cctx_callback_t cb;
    int number;
};
static void note_order(void *arg) { order[ordered++] = ((struct ordered *)arg)->number; }

static void one_late_run_fires_in_the_order_of_the_deadlines(void **state)
{
    (void)state;
    enum { N = 64 };
    struct host h;
    host_make(&h, OWN_CLOCK);
    static struct ordered o[N];
    cctx_t *c[N];
    for (int i = 0; i < N; i++) {
        o[i].number = (i * 37 + 11) % N;
        c[i] = cctx_with_deadline(h.root, CCTX_S(1 + o[i].number));
        assert_int_equal(cctx_after_func(c[i], &o[i].cb, note_order, &o[i]), 0);
    }
    ordered = 0;
    assert_int_equal(cctx_domain_run(h.domain, CCTX_S(1000)), N);
    assert_int_equal(ordered, N);
    for (int i = 0; i < N; i++) assert_int_equal(order[i], i);
    for (int i = 0; i < N; i++) cctx_unref(c[i]);
    host_end(&h);
}

/* C12, C15 */
static void the_domains_clock_is_the_one_that_counts(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    h.now = CCTX_S(1000);
    cctx_t *c = cctx_with_timeout(h.root, CCTX_S(5));
    cctx_time_t d = 0;
    assert_true(cctx_deadline(c, &d));
    assert_true(d == CCTX_S(1005));
    assert_true(cctx_remaining(c) == CCTX_S(5));
    h.now += CCTX_S(2);
    assert_true(cctx_remaining(c) == CCTX_S(3));
    char text[64];
    cctx_print(c, text, sizeof text);
    assert_string_equal(text, "cctx.Background.WithDeadline(+3s)");
    cctx_t *born_done = cctx_with_deadline(h.root, CCTX_S(1002));
    assert_int_equal(cctx_err(born_done), ETIMEDOUT);
    h.now = CCTX_S(2000);               /* passed, and nobody has run the domain */
    assert_true(cctx_remaining(c) == 0);
    assert_int_equal(cctx_err(c), 0);
    assert_int_equal(cctx_domain_run(h.domain, h.now), 1);
    assert_int_equal(cctx_err(c), ETIMEDOUT);
    assert_int_equal(cctx_domain_run(h.domain, h.now), 0);
    cctx_unref(born_done);
    cctx_unref(c);
    host_end(&h);
}

static void next_is_the_earliest_of_what_lives(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    assert_true(cctx_domain_next(h.domain) == CCTX_NEVER);
    cctx_t *far = cctx_with_deadline(h.root, 90 * YEAR), *near = cctx_with_deadline(h.root, CCTX_MS(3));
    cctx_t *mid = cctx_with_deadline(far, CCTX_S(3));
    cctx_t *not_armed = cctx_with_deadline(near, CCTX_S(2));
    assert_true(cctx_domain_next(h.domain) == CCTX_MS(3));
    cctx_cancel(near);                  /* done, if not yet freed */
    assert_true(cctx_domain_next(h.domain) == CCTX_S(3));
    cctx_unref(mid);
    assert_true(cctx_domain_next(h.domain) == 90 * YEAR);
    cctx_t *again = cctx_with_deadline(h.root, CCTX_S(2));
    cctx_cancel(again);                 /* before it was ever looked at */
    assert_true(cctx_domain_next(h.domain) == 90 * YEAR);
    cctx_unref(far);
    assert_true(cctx_domain_next(h.domain) == CCTX_NEVER);
    assert_int_equal(cctx_domain_run(h.domain, CCTX_NEVER - 1), 0);
    cctx_unref(near);
    cctx_unref(again);
    cctx_unref(not_armed);
    host_end(&h);
}

/* B6 */
static void the_hook_tells_of_an_earlier_deadline_and_of_no_later_one(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    cctx_t *c[40];
    unsigned n = 0;
    c[n++] = cctx_with_deadline(h.root, CCTX_S(10));
    assert_int_equal(h.wakes, 1);
    assert_true(cctx_domain_next(h.domain) == CCTX_S(10));
    c[n++] = cctx_with_deadline(h.root, CCTX_S(11));
    c[n++] = cctx_with_deadline(h.root, CCTX_S(10));
    c[n++] = cctx_with_cancel(c[0]);
    assert_int_equal(h.wakes, 1);
    c[n++] = cctx_with_deadline(h.root, CCTX_S(9));
    assert_int_equal(h.wakes, 2);
    assert_true(cctx_domain_next(h.domain) == CCTX_S(9));
    h.now = CCTX_S(9);
    assert_int_equal(cctx_domain_run(h.domain, h.now), 1);
    assert_int_equal(h.wakes, 2);       /* what it fires itself is no news */
    c[n++] = cctx_with_deadline(h.root, CCTX_S(10));
    assert_int_equal(h.wakes, 2);
    while (n > 0) cctx_unref(c[--n]);
    host_end(&h);

    /* However many are armed. */
    host_make(&h, OWN_CLOCK);
    static cctx_t *many[5000];
    for (int i = 0; i < 5000; i++) many[i] = cctx_with_deadline(h.root, CCTX_S(10) + i);
    assert_int_equal(h.wakes, 1);
    for (int i = 0; i < 5000; i++) cctx_unref(many[i]);
    host_end(&h);
}

/* ---- an event loop ---- */

struct loop {
    struct host h;
    bool stop;
    cctx_time_t slept_over;
    unsigned ended;
};

/* A host that sleeps until cctx_domain_next and is woken by the hook alone. */
static void *loop_main(void *arg)
{
    struct loop *l = arg;
    while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
        cctx_time_t next = cctx_domain_next(l->h.domain), now = cctx_now(), left = next - now;
        struct timespec t = {(time_t)(left / CCTX_S(1)), (long)(left % CCTX_S(1))};
        struct pollfd p = {.fd = l->h.wake_fd, .events = POLLIN};
        if (left > 0 && ppoll(&p, 1, next == CCTX_NEVER ? NULL : &t, NULL) > 0) {
            uint64_t n;
            CHECK(read(l->h.wake_fd, &n, sizeof n) == sizeof n);
        }
        size_t n = cctx_domain_run(l->h.domain, cctx_now());
        __atomic_add_fetch(&l->ended, (unsigned)n, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void wait_raw(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    for (uint32_t seen; ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1u) == 0;)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

/* B6, C28: the host sleeps for ever, or for an hour, until the hook tells it. */
static void a_host_on_ppoll_and_an_eventfd_oversleeps_nothing(void **state)
{
    (void)state;
    struct loop l = {.stop = false};
    host_make(&l.h, 0);
    l.h.wake_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(l.h.wake_fd > 0);
    watchdog(20);
    pthread_t thread = thread_start(loop_main, &l);
    cctx_t *hour = cctx_with_timeout(l.h.root, CCTX_S(3600));
    int ran = 0;
    for (int i = 0; i < 50; i++) {
        cctx_callback_t cb;
        cctx_t *c = cctx_with_timeout(hour, CCTX_MS(1));
        assert_int_equal(cctx_after_func(c, &cb, add_one, &ran), 0);
        wait_raw(c);
        assert_int_equal(cctx_err(c), ETIMEDOUT);
        assert_true(cctx_remaining(c) == 0);
        while (__atomic_load_n(&ran, __ATOMIC_RELAXED) != i + 1) usleep(100);
        cctx_stop_wait(&cb);
        cctx_unref(c);
    }
    __atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
    host_wake(&l.h);
    thread_join(thread);
    assert_int_equal(l.ended, 50);
    cctx_unref(hour);
    close(l.h.wake_fd);
    host_end(&l.h);
    watchdog(0);
}

/* ---- waits and callbacks ---- */

/* C27: a wait fires by itself; C28: the callback is the host's to run. */
static void a_wait_fires_what_is_due_and_the_host_runs_the_callback(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, 0);
    cctx_callback_t cb;
    int ran = 0;
    cctx_t *c = cctx_with_timeout(h.root, CCTX_MS(5));
    cctx_t *below = cctx_with_cancel(c);
    assert_int_equal(cctx_after_func(below, &cb, add_one, &ran), 0);
    unsigned wakes = h.wakes;
    assert_int_equal(cctx_wait(below), ETIMEDOUT);
    assert_true(cctx_remaining(c) == 0);
    assert_int_equal(ran, 0);
    assert_true(h.wakes > wakes);
    cctx_time_t next = cctx_domain_next(h.domain);
    assert_true(next <= cctx_now());            /* now */
    assert_int_equal(cctx_domain_run(h.domain, cctx_now()), 0);
    assert_int_equal(ran, 1);
    assert_true(cctx_domain_next(h.domain) == CCTX_NEVER);
    cctx_time_t before = cctx_now();
    assert_false(cctx_wait_for(h.root, CCTX_MS(2)));
    assert_true(cctx_now() - before >= CCTX_MS(2));
    assert_true(cctx_wait_for(c, CCTX_MS(2)));
    cctx_unref(below);
    cctx_unref(c);
    host_end(&h);
}

static void callbacks_of_a_cancel_run_where_it_is_canceled(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    cctx_callback_t cb, never;
    int ran = 0;
    cctx_t *c = cctx_with_timeout(h.root, CCTX_S(5));
    assert_int_equal(cctx_after_func(c, &cb, add_one, &ran), 0);
    assert_true(cctx_cancel(c));
    assert_int_equal(ran, 1);
    assert_int_equal(cctx_after_func(c, &cb, add_one, &ran), 0);
    assert_int_equal(ran, 2);
    assert_int_equal(cctx_after_func(h.root, &never, add_one, &ran), 0);
    assert_true(cctx_stop(&never));
    cctx_unref(c);
    host_end(&h);
}

struct waiter {
    struct host *h;
    const cctx_t *ctx;
    cctx_time_t until;
    bool done;
    int err;
};
static void *wait_main(void *arg)
{
    struct waiter *w = arg;
    if (w->until == 0) w->err = cctx_wait(w->ctx);
    else w->done = cctx_wait_until(w->ctx, w->until);
    return NULL;
}

/* B6: with a clock of its own, timed waits end in cctx_domain_run only. */
static void with_a_clock_of_its_own_a_timed_wait_ends_in_a_run(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    watchdog(20);
    cctx_t *c = cctx_with_deadline(h.root, CCTX_S(50));
    struct waiter w[] = {{&h, c, CCTX_S(10), true, 0}, {&h, h.root, CCTX_S(20), true, 0}, {&h, c, 0, false, 0},
                         {&h, c, CCTX_S(60), false, 0}, {&h, c, CCTX_NEVER, false, 0}};
    pthread_t thread[5];
    for (int i = 0; i < 5; i++) {
        thread[i] = thread_start(wait_main, &w[i]);
        cctx_time_t first = i == 0 ? CCTX_S(10) : 0;
        while (first && cctx_domain_next(h.domain) != first) usleep(100);
    }
    for (cctx_time_t at = 0; at < CCTX_S(50);) {
        cctx_time_t next = cctx_domain_next(h.domain);
        if (next == at || next > CCTX_S(50)) continue;          /* the next waiter has not come yet */
        if (at == CCTX_S(10) && next == CCTX_S(50)) {           /* 20 is armed by a thread that may be late */
            usleep(100);
            continue;
        }
        __atomic_store_n(&h.now, next, __ATOMIC_RELAXED);
        cctx_domain_run(h.domain, next);
        if (next == CCTX_S(10)) thread_join(thread[0]);
        if (next == CCTX_S(20)) thread_join(thread[1]);
        at = next;
    }
    for (int i = 2; i < 5; i++) thread_join(thread[i]);
    assert_false(w[0].done);
    assert_false(w[1].done);
    assert_int_equal(w[2].err, ETIMEDOUT);
    assert_true(w[3].done && w[4].done);
    assert_false(cctx_wait_until(h.root, CCTX_S(50)));          /* its time has come: no run is needed */
    assert_true(cctx_wait_until(c, 1));
    assert_int_equal(cctx_wait(c), ETIMEDOUT);
    h.fail_at = h.calls + 1;
    errno = 0;
    assert_false(cctx_wait_for(h.root, CCTX_S(1)));
    assert_int_equal(errno, ENOMEM);
    cctx_unref(c);
    host_end(&h);
    watchdog(0);
}

static void derive_in_callback(void *arg)
{
    struct host *h = arg;
    CHECK(cctx_domain_free(h->domain) == EBUSY);
    CHECK(cctx_domain_run(h->domain, h->now) == 1);             /* nothing is held: the other one fires here */
    cctx_t *c = cctx_with_deadline(h->root, h->now + 1);
    CHECK(c != NULL);
    CHECK(cctx_domain_next(h->domain) == h->now + 1);
    cctx_close(c);
}

/* C6, C30 */
static void a_callback_may_do_all_that_a_host_may(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    cctx_callback_t cb;
    cctx_t *c = cctx_with_deadline(h.root, 5), *other = cctx_with_deadline(h.root, 7);
    assert_int_equal(cctx_after_func(c, &cb, derive_in_callback, &h), 0);
    h.now = 10;
    assert_int_equal(cctx_domain_run(h.domain, 6), 1);
    assert_int_equal(cctx_err(other), ETIMEDOUT);
    cctx_unref(c);
    cctx_unref(other);
    host_end(&h);
}

static void free_in_destructor(void *value)
{
    struct host *h = value;
    CHECK(cctx_domain_run(h->domain, h->now) == 0);
    CHECK(cctx_domain_free(h->domain) == EBUSY);
}
static const cctx_key_t destroyed = {"destroyed", free_in_destructor};

struct dropped {
    cctx_callback_t cb;
    const cctx_t *ctx;
};
static void drop_it(void *arg) { cctx_unref(((struct dropped *)arg)->ctx); }

/* ---- its end ---- */

static void a_domain_in_which_something_lives_is_busy(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, OWN_CLOCK);
    const cctx_t *c = cctx_with_cancel(h.root);
    assert_int_equal(cctx_domain_free(h.domain), EBUSY);
    const cctx_t *v = cctx_with_value(c, &keys[0], &h), *w = cctx_without_cancel(v);
    cctx_unref(c);
    assert_int_equal(cctx_domain_free(h.domain), EBUSY);
    cctx_unref(v);
    assert_int_equal(cctx_domain_free(h.domain), EBUSY);
    assert_ptr_equal(cctx_value(w, &keys[0]), &h);
    cctx_unref(w);
    cctx_callback_t cb;
    int ran = 0;
    cctx_t *held = cctx_with_cancel(h.root);
    assert_int_equal(cctx_after_func(held, &cb, add_one, &ran), 0);
    cctx_unref(held);
    assert_int_equal(cctx_domain_free(h.domain), EBUSY);        /* C28: a registration keeps its context */
    assert_true(cctx_stop(&cb));
    const cctx_t *value = cctx_with_value(h.root, &destroyed, &h);
    struct dropped last = {.ctx = cctx_with_deadline(value, 3)};
    assert_int_equal(cctx_after_func(last.ctx, &last.cb, drop_it, &last), 0);
    cctx_unref(value);
    assert_int_equal(cctx_domain_run(h.domain, 3), 1);
    host_end(&h);
}

static void two_domains_share_nothing(void **state)
{
    (void)state;
    struct host a, b;
    host_make(&a, OWN_CLOCK);
    host_make(&b, OWN_CLOCK);
    a.now = 100;
    cctx_t *in_a = cctx_with_timeout(a.root, 10), *in_b = cctx_with_timeout(b.root, 10);
    assert_true(cctx_domain_next(a.domain) == 110);
    assert_true(cctx_domain_next(b.domain) == 10);
    assert_int_equal(cctx_domain_run(b.domain, 1000), 1);
    assert_int_equal(cctx_err(in_a), 0);
    assert_int_equal(cctx_err(in_b), ETIMEDOUT);
    const cctx_t *pairs[][2] = {{in_a, in_b}, {in_b, in_a}, {in_a, cctx_background()}, {cctx_todo(), in_b}};
    for (int i = 0; i < 4; i++) {
        long before = a.calls + b.calls;
        errno = 0;
        assert_null(cctx_with_any(pairs[i], 2));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(a.calls + b.calls, before);
    }
    cctx_t *other_a = cctx_with_cancel(a.root);
    const cctx_t *both[] = {in_a, other_a};
    cctx_t *any = cctx_with_any(both, 2);
    assert_non_null(any);
    cctx_cancel(other_a);
    assert_int_equal(cctx_err(any), ECANCELED);
    cctx_unref(any);
    cctx_unref(other_a);
    cctx_unref(in_b);
    host_end(&b);
    assert_int_equal(cctx_domain_run(a.domain, 110), 1);
    cctx_unref(in_a);
    host_end(&a);
}

struct alone {
    unsigned before, after;
};
static void use_without_threads(void *arg)
{
    (void)arg;
    unsigned before = threads_now();
    struct host h;
    host_make(&h, 0);
    cctx_callback_t cb;
    int ran = 0;
    cctx_t *c = cctx_with_timeout(h.root, CCTX_MS(1)), *far = cctx_with_timeout(h.root, YEAR);
    CHECK(cctx_after_func(c, &cb, add_one, &ran) == 0);
    CHECK(cctx_wait(c) == ETIMEDOUT);
    cctx_domain_run(h.domain, cctx_now());
    CHECK(ran == 1);
    cctx_unref(c);
    cctx_close(far);
    host_end(&h);
    CHECK(threads_now() == before);
}

/* B6: in a process of its own, where nothing else made a thread. */
static void a_domain_makes_no_thread(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(use_without_threads, NULL), 0);
}

/* B4, B6: the interrupts of a guard come in runs, by the domain's clock, and it makes no thread either. */
static void guard_without_threads(void *arg)
{
    (void)arg;
    unsigned before = threads_now();
    struct host h;
    host_make(&h, OWN_CLOCK);
    cctx_t *ctx = cctx_with_timeout(h.root, CCTX_S(1));
    for (int round = 0; round < 2; round++) {
        cctx_guard_t guard;
        int came = 0;
        CHECK(cctx_guard_arm(&guard, ctx, add_one, &came) == 0);
        if (round == 0) {
            CHECK(came == 0 && cctx_domain_next(h.domain) == CCTX_S(1));
            h.now = CCTX_S(1);
            CHECK(cctx_domain_run(h.domain, h.now) == 1 && came == 1);
        }
        CHECK(came == 1 && cctx_domain_next(h.domain) == h.now);        /* what sees to the next one waits */
        cctx_domain_run(h.domain, h.now);
        cctx_time_t interval = CCTX_MS(1);
        for (int i = 2; i < 12; i++) {
            CHECK(cctx_domain_next(h.domain) == h.now + interval);
            cctx_domain_run(h.domain, h.now + interval - 1);
            CHECK(came == i - 1);
            h.now += interval;
            cctx_domain_run(h.domain, h.now);
            CHECK(came == i);
            interval = 2 * interval < CCTX_MS(100) ? 2 * interval : CCTX_MS(100);
        }
        cctx_guard_disarm(&guard);
        CHECK(cctx_domain_next(h.domain) == CCTX_NEVER);
        cctx_domain_run(h.domain, h.now + YEAR);
        CHECK(came == 11);
    }
    cctx_unref(ctx);
    host_end(&h);
    CHECK(threads_now() == before);
}

/* A host with a clock of its own, and in its domain a context that is done, with an armed guard. */
static cctx_t *done_with_guard(struct host *h, cctx_guard_t *guard, int *came)
{
    host_make(h, OWN_CLOCK);
    cctx_t *ctx = cctx_with_cancel(h->root);
    *came = 0;
    assert_int_equal(cctx_guard_arm(guard, ctx, add_one, came), 0);
    assert_true(cctx_cancel(ctx));
    return ctx;
}

/* B4: without memory for the next one the host is not held up, and none comes any more. */
static void a_guard_in_a_domain_without_memory_rests(void **state)
{
    (void)state;
    struct host h;
    cctx_guard_t guard;
    int came;
    cctx_t *ctx = done_with_guard(&h, &guard, &came);
    assert_int_equal(came, 1);
    h.fail_at = h.calls + 1;
    h.fail_after = true;
    cctx_domain_run(h.domain, h.now);
    h.fail_at = 0;
    h.fail_after = false;
    for (int i = 0; i < 3; i++)
        cctx_domain_run(h.domain, h.now += CCTX_S(1));
    assert_int_equal(came, 1);
    assert_true(cctx_domain_next(h.domain) == CCTX_NEVER);
    cctx_guard_disarm(&guard);
    cctx_unref(ctx);
    host_end(&h);
}

/* B4: an interval that is over before it has begun is not waited for, and the next one is longer. */
static void a_guard_goes_on_though_time_leaps(void **state)
{
    (void)state;
    struct host h;
    cctx_guard_t guard;
    int came;
    cctx_t *ctx = done_with_guard(&h, &guard, &came);
    h.step = CCTX_MS(10);
    cctx_domain_run(h.domain, h.now);
    h.step = 0;
    assert_int_equal(came, 5);                  /* after 1, 2, 4 and 8 ms; then in 16 ms */
    h.now += CCTX_MS(16);
    cctx_domain_run(h.domain, h.now);
    assert_int_equal(came, 6);
    cctx_guard_disarm(&guard);
    cctx_unref(ctx);
    host_end(&h);
}

static void a_guard_in_a_domain_makes_no_thread_and_comes_in_runs(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(guard_without_threads, NULL), 0);
}

/* ---- the child of a fork ---- */

struct forked {
    struct host *h;
    cctx_t *c, *late;
    int ran;
};
static void use_in_child(void *arg)
{
    struct forked *f = arg;
    alarm(20);
    CHECK(cctx_domain_next(f->h->domain) <= cctx_now());        /* a callback waits */
    CHECK(!cctx_cancel(f->c));                                  /* and nobody puts it in line twice */
    CHECK(f->ran == 0);
    cctx_time_t at = cctx_now() + CCTX_S(20);
    cctx_t *more = cctx_with_deadline(f->h->root, at);
    CHECK(more != NULL);
    CHECK(cctx_domain_run(f->h->domain, cctx_now()) == 0);
    CHECK(f->ran == 1);
    CHECK(cctx_domain_next(f->h->domain) == at);
    CHECK(cctx_domain_run(f->h->domain, at + CCTX_S(3600)) == 2);
    cctx_unref(more);
    cctx_unref(f->c);
    cctx_unref(f->late);
    host_end(f->h);
}

/* C23 */
static void a_domain_works_in_the_child_of_a_fork(void **state)
{
    (void)state;
    struct host h;
    host_make(&h, 0);
    cctx_callback_t cb;
    struct forked f = {&h, cctx_with_timeout(h.root, CCTX_MS(1)), cctx_with_timeout(h.root, CCTX_S(3600)), 0};
    assert_int_equal(cctx_after_func(f.c, &cb, add_one, &f.ran), 0);
    assert_int_equal(cctx_wait(f.c), ETIMEDOUT);
    assert_int_equal(run_in_child(use_in_child, &f), 0);
    assert_int_equal(f.ran, 0);
    cctx_domain_run(h.domain, cctx_now());
    assert_int_equal(f.ran, 1);
    cctx_unref(f.c);
    cctx_unref(f.late);
    host_end(&h);
}

static void *run_main(void *arg)
{
    struct host *h = arg;
    cctx_domain_run(h->domain, 10);
    return NULL;
}
static void run_anew(void *arg)
{
    struct forked *f = arg;
    alarm(20);
    CHECK(cctx_domain_next(f->h->domain) == 30);
    CHECK(cctx_domain_run(f->h->domain, 30) == 1);
    CHECK(cctx_err(f->c) == ETIMEDOUT && cctx_err(f->late) == 0);
    cctx_unref(f->c);
    cctx_unref(f->late);
    CHECK(cctx_domain_free(f->h->domain) == 0);
}

/* C23: another thread is in the middle of a run, which is given up in the child: there is a run of its own there. */
static void a_run_in_the_middle_of_a_fork_is_the_childs_to_begin_anew(void **state)
{
    (void)state;
    struct host h;
    gate_t entered = {0}, leave = {0};
    host_make(&h, OWN_CLOCK);
    struct forked f = {&h, cctx_with_deadline(h.root, 30), cctx_with_deadline(h.root, 90), 0};
    h.leave = &leave;
    h.entered = &entered;
    pthread_t thread = thread_start(run_main, &h);              /* which takes memory for the order */
    gate_wait(&entered);
    assert_int_equal(cctx_domain_free(h.domain), EBUSY);
    assert_int_equal(cctx_domain_run(h.domain, 100), 0);        /* a second run at one time does nothing */
    assert_true(cctx_domain_next(h.domain) == h.now);           /* ask again */
    assert_int_equal(run_in_child(run_anew, &f), 0);
    gate_open(&leave);
    thread_join(thread);
    assert_true(cctx_domain_next(h.domain) == 30);
    cctx_unref(f.c);
    cctx_unref(f.late);
    host_end(&h);
}

/* B2, B6: what a signal handler may do is told to the host, whose run does the rest. */
static void a_cancel_from_a_handler_is_told_to_the_host(void **state)
{
    (void)state;
    struct host h;
    int ran = 0;
    cctx_callback_t cb;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    host_make(&h, OWN_CLOCK);
    cctx_t *p = cctx_with_cancel(h.root), *kid = cctx_with_cancel(p);
    errno = 0;
    assert_null(cctx_with_signals(p, &set));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(cctx_after_func(p, &cb, add_one, &ran), 0);
    unsigned wakes = h.wakes;
    assert_true(cctx_cancel_async(p));
    assert_true(cctx_is_done(p));
    assert_true(h.wakes > wakes);
    assert_int_equal(cctx_domain_next(h.domain), h.now);
    assert_int_equal(ran, 0);
    cctx_domain_run(h.domain, h.now);
    assert_true(cctx_is_done(kid));
    assert_int_equal(ran, 1);
    cctx_unref(kid);
    cctx_unref(p);
    host_end(&h);
}

static bool run_is_over;
static void *run_until_over(void *arg)
{
    struct host *h = arg;
    for (cctx_time_t now = 0; !__atomic_load_n(&run_is_over, __ATOMIC_ACQUIRE); now++) {
        __atomic_store_n(&h->now, now, __ATOMIC_RELAXED);
        cctx_domain_run(h->domain, now);
        sched_yield();
    }
    return NULL;
}

/* B3, B6: by a clock of its own each sleep on a domain's context ends in a run alone. */
static void what_sleeps_by_a_clock_of_its_own_ends_in_a_run(void **state)
{
    (void)state;
    struct host h;
    uint32_t word = 0;
    int ready;
    host_make(&h, OWN_CLOCK);
    cctx_t *late = cctx_with_deadline(h.root, CCTX_S(1)), *any[2] = {cctx_with_cancel(h.root), late};
    cctx_t *due = cctx_with_deadline(h.root, 50);
    pthread_t host = thread_start(run_until_over, &h);
    assert_int_equal(cctx_futex_wait(due, &word, 0), ETIMEDOUT);
    assert_int_equal(cctx_poll(due, NULL, 0, &ready), ETIMEDOUT);
    assert_int_equal(cctx_sleep(late, 10), 0);
    assert_int_equal(cctx_wait_any((const cctx_t *const *)any, 2, 70, NULL), ETIMEDOUT);
    assert_int_equal(cctx_wait_any((const cctx_t *const[]){late, due}, 2, CCTX_NEVER, NULL), 0);
    const cctx_t *mixed[2] = {cctx_with_cancel(cctx_background()), late};
    assert_int_equal(cctx_wait_any(mixed, 2, 80, NULL), EINVAL);        /* whose time is it? */
    cctx_unref(mixed[0]);
    __atomic_store_n(&run_is_over, true, __ATOMIC_RELEASE);
    thread_join(host);
    cctx_unref(due);
    cctx_unref(any[0]);
    cctx_unref(late);
    host_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_all_is_the_default),
        cmocka_unit_test(a_cancel_from_a_handler_is_told_to_the_host),
        cmocka_unit_test(what_sleeps_by_a_clock_of_its_own_ends_in_a_run),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(there_are_255_domains_at_most),
        cmocka_unit_test(all_memory_is_the_hosts_and_goes_back_to_it),
        cmocka_unit_test(each_allocation_may_fail_and_nothing_is_lost),
        cmocka_unit_test(a_ladder_of_merges_is_canceled_by_the_hosts_memory),
        cmocka_unit_test(a_churn_does_not_grow_a_domain),
        cmocka_unit_test(a_hundred_years_of_deadlines_fire_in_order_and_none_early),
        cmocka_unit_test(one_late_run_fires_in_the_order_of_the_deadlines),
        cmocka_unit_test(the_domains_clock_is_the_one_that_counts),
        cmocka_unit_test(next_is_the_earliest_of_what_lives),
        cmocka_unit_test(the_hook_tells_of_an_earlier_deadline_and_of_no_later_one),
        cmocka_unit_test(a_host_on_ppoll_and_an_eventfd_oversleeps_nothing),
        cmocka_unit_test(a_wait_fires_what_is_due_and_the_host_runs_the_callback),
        cmocka_unit_test(callbacks_of_a_cancel_run_where_it_is_canceled),
        cmocka_unit_test(with_a_clock_of_its_own_a_timed_wait_ends_in_a_run),
        cmocka_unit_test(a_callback_may_do_all_that_a_host_may),
        cmocka_unit_test(a_domain_in_which_something_lives_is_busy),
        cmocka_unit_test(two_domains_share_nothing),
        cmocka_unit_test(a_domain_makes_no_thread),
        cmocka_unit_test(a_guard_in_a_domain_makes_no_thread_and_comes_in_runs),
        cmocka_unit_test(a_guard_in_a_domain_without_memory_rests),
        cmocka_unit_test(a_guard_goes_on_though_time_leaps),
        cmocka_unit_test(a_domain_works_in_the_child_of_a_fork),
        cmocka_unit_test(a_run_in_the_middle_of_a_fork_is_the_childs_to_begin_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
