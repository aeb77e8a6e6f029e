/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory and threads that cannot be had: each allocation of each call fails once, and nothing has changed
 * then. The program is linked with --wrap, so that each call of the library's to the allocator comes here.
 * C10, C32.
 */
#include "support.h"

/* ---- the allocator that fails ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **p, size_t alignment, size_t size);
void __real_free(void *p);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **p, size_t alignment, size_t size);
void __wrap_free(void *p);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

static long live;                       /* allocations that were not freed, of all threads */
static _Thread_local long fail_at;      /* the how manieth from now fails; 0: none; below: all */
static _Thread_local long failed;       /* how many did */
static bool no_threads;

enum { FAIL_ALL = -1 };

static bool fails(void)
{
    if (fail_at == 0)
        return false;
    if (fail_at > 0 && --fail_at > 0)
        return false;
    failed++;
    errno = ENOMEM;
    return true;
}

static void *count(void *p)
{
    if (p)
        __atomic_fetch_add(&live, 1, __ATOMIC_RELAXED);
    return p;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : count(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
    if (fails())
        return NULL;
    void *moved = __real_realloc(p, size);
    if (!p)
        count(moved);
    return moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : count(__real_aligned_alloc(alignment, size));
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fails())
        return ENOMEM;
    int err = __real_posix_memalign(p, alignment, size);
    if (err == 0)
        count(*p);
    return err;
}

void __wrap_free(void *p)
{
    if (p)
        __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    __real_free(p);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    if (__atomic_load_n(&no_threads, __ATOMIC_ACQUIRE))
        return EAGAIN;
    return __real_pthread_create(thread, attr, fn, arg);
}

/* ---- a tree to work in, and what must not change in it ---- */

enum { MOST = 200, KEYS = 100 };

typedef struct fixture {
    cctx_t *parent;
    const cctx_t *on;              /* what the call is made on: the parent, or a value context of it */
    cctx_t *kid[MOST];
    int kids;
    cctx_callback_t callback[MOST];
    int callbacks;
    int ran;
    const cctx_t *made;
} fixture_t;

static int ended;

static void note_end(void *value)
{
    (void)value;
    ended++;
}

static cctx_key_t key[KEYS + 1];
static int value[KEYS + 1];
static const cctx_cause_t cause = {5, "cause"};

static void note_run(void *arg)
{
    ++*(int *)arg;
}

typedef struct oom_case {
    const char *name;
    int (*call)(fixture_t *fixture); /* 0, or the error */
    int kids, callbacks, values;     /* what is there before */
    bool through_value, done;
    int least;                       /* how many failures there must be at least, or the case shows nothing */
} oom_case_t;

static int made_or_errno(fixture_t *fixture, const cctx_t *made)
{
    fixture->made = made;
    return made ? 0 : errno;
}

static int call_cancel(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_cancel(fixture->on));
}

static int call_timeout(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_timeout(fixture->on, CCTX_S(3600)));
}

static int call_deadline(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_deadline(fixture->on, cctx_now() + CCTX_S(3600)));
}

static int call_deadline_cause(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_deadline_cause(fixture->on, cctx_now() + CCTX_S(3000), &cause));
}

static int call_late(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_timeout_cause(fixture->on, 0, &cause));
}

static int call_value(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_value(fixture->on, &key[KEYS], &value[KEYS]));
}

static int call_without(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_without_cancel(fixture->on));
}

static int call_any_one(fixture_t *fixture)
{
    return made_or_errno(fixture, cctx_with_any(&fixture->on, 1));
}

static int call_any_two(fixture_t *fixture)
{
    const cctx_t *parents[] = {fixture->on, fixture->kid[0]};
    return made_or_errno(fixture, cctx_with_any(parents, 2));
}

static int call_any_all(fixture_t *fixture)
{
    const cctx_t *parents[MOST + 2];
    for (int i = 0; i < fixture->kids; i++)
        parents[i] = fixture->kid[i];
    parents[fixture->kids] = fixture->on;
    parents[fixture->kids + 1] = cctx_background();
    return made_or_errno(fixture, cctx_with_any(parents, (size_t)fixture->kids + 2));
}

static int call_after(fixture_t *fixture)
{
    errno = E2BIG;
    int err = cctx_after_func(fixture->on, &fixture->callback[fixture->callbacks], note_run, &fixture->ran);
    CHECK(errno == E2BIG);
    fixture->callbacks += err == 0;
    return err;
}

static const oom_case_t oom_case[] = {
    {"with_cancel, first child", call_cancel, 0, 0, 0, false, false, 1},
    {"with_cancel, third child", call_cancel, 2, 0, 0, false, false, 1},
    {"with_cancel, many children", call_cancel, 58, 0, 0, false, false, 1},
    {"with_cancel, more children", call_cancel, 150, 0, 0, false, false, 1},
    {"with_cancel through a value", call_cancel, 1, 0, 3, true, false, 1},
    {"with_cancel of a done parent", call_cancel, 2, 0, 0, false, true, 1},
    {"with_timeout", call_timeout, 0, 0, 0, false, false, 1},
    {"with_timeout, many children", call_timeout, 58, 0, 0, false, false, 1},
    {"with_deadline", call_deadline, 2, 0, 0, false, false, 1},
    {"with_deadline_cause", call_deadline_cause, 3, 1, 1, true, false, 1},
    {"with_timeout_cause, born done", call_late, 0, 0, 0, false, false, 1},
    {"with_value, the first", call_value, 0, 0, 0, false, false, 1},
    {"with_value, the ninth", call_value, 0, 0, 8, true, false, 1},
    {"with_value, the tenth", call_value, 0, 0, 9, true, false, 1},
    {"with_value, the last of many", call_value, 1, 1, KEYS, true, false, 1},
    {"with_value of a done parent", call_value, 0, 0, 0, false, true, 1},
    {"without_cancel", call_without, 0, 0, 0, false, false, 1},
    {"without_cancel, many values", call_without, 0, 0, KEYS, true, false, 1},
    {"with_any of one", call_any_one, 0, 0, 0, false, false, 1},
    {"with_any of two", call_any_two, 1, 0, 0, false, false, 1},
    {"with_any of many", call_any_all, 100, 0, 0, false, false, 2},
    {"with_any of a done parent", call_any_all, 20, 0, 0, false, true, 1},
    {"after_func, the first", call_after, 0, 0, 0, false, false, 1},
    {"after_func, the second", call_after, 0, 1, 0, false, false, 1},
    {"after_func, many", call_after, 2, 57, 0, false, false, 0},
    {"after_func through a value", call_after, 0, 0, 2, true, false, 1},
};

enum { CASES = sizeof oom_case / sizeof *oom_case };

static void fixture_make(fixture_t *fixture, const oom_case_t *c)
{
    memset(fixture, 0, sizeof *fixture);
    ended = 0;
    fixture->parent = cctx_with_cancel(cctx_background());
    fixture->on = cctx_ref(fixture->parent);
    for (int i = 0; i < c->values; i++) {
        const cctx_t *next = cctx_with_value(fixture->on, &key[i], &value[i]);
        cctx_unref(fixture->on);
        fixture->on = next;
    }
    if (!c->through_value) {
        cctx_unref(fixture->on);
        fixture->on = cctx_ref(fixture->parent);
        ended = 0;
    }
    for (fixture->kids = 0; fixture->kids < c->kids; fixture->kids++)
        fixture->kid[fixture->kids] = cctx_with_cancel(fixture->parent);
    for (fixture->callbacks = 0; fixture->callbacks < c->callbacks; fixture->callbacks++) {
        cctx_callback_t *callback = &fixture->callback[fixture->callbacks];
        int err = cctx_after_func(fixture->parent, callback, note_run, &fixture->ran);
        CHECK(err == 0);
    }
    if (c->done)
        cctx_cancel_cause(fixture->parent, &cause);
}

/* A call that failed has left all of this as it was. */
static void fixture_check(const fixture_t *fixture, const oom_case_t *c, size_t printed)
{
    CHECK(cctx_err(fixture->parent) == (c->done ? ECANCELED : 0));
    CHECK(cctx_err(fixture->on) == cctx_err(fixture->parent));
    for (int i = 0; i < fixture->kids; i++)
        CHECK(cctx_err(fixture->kid[i]) == (c->done ? ECANCELED : 0));
    CHECK(fixture->ran == (c->done ? fixture->callbacks : 0));
    CHECK(ended == 0);
    CHECK(cctx_value(fixture->on, &key[KEYS]) == NULL);
    if (c->through_value)
        for (int i = 0; i < c->values; i++)
            CHECK(cctx_value(fixture->on, &key[i]) == &value[i]);
    CHECK(cctx_print(fixture->on, NULL, 0) == printed);
}

/* What was made at last works, and all of it ends and goes. */
static void fixture_end(fixture_t *fixture, const oom_case_t *c)
{
    const cctx_t *made = fixture->made;
    if (made) {
        CHECK((cctx_err(made) == 0) == ((!c->done && c->call != call_late) || c->call == call_without));
        CHECK(c->call != call_value || cctx_value(made, &key[KEYS]) == &value[KEYS]);
        if (c->through_value && c->values)
            CHECK(cctx_value(made, &key[0]) == &value[0]);
    }
    cctx_cancel_cause(fixture->parent, &cause);
    if (made && c->call != call_late) {
        CHECK(cctx_err(made) == (c->call == call_without ? 0 : ECANCELED));
        CHECK(cctx_cause(made) == (c->call == call_without ? NULL : &cause));
    }
    CHECK(fixture->ran == fixture->callbacks);
    for (int i = 0; i < fixture->kids; i++) {
        CHECK(cctx_err(fixture->kid[i]) == ECANCELED);
        cctx_unref(fixture->kid[i]);
    }
    cctx_unref(made);
    cctx_unref(fixture->on);
    cctx_unref(fixture->parent);
    CHECK(ended == (c->through_value ? c->values : 0) + (c->call == call_value));
}

/* ---- each allocation of each call ---- */

/* Takes all that the thread has in store, so that the next call must ask the allocator. */
enum { HOARD = 20000 };
static cctx_t *hoard[HOARD];

static int hoard_all(void)
{
    int n = 0;
    fail_at = FAIL_ALL;
    while ((hoard[n] = cctx_with_cancel(cctx_background())) != NULL) {
        n++;
        CHECK(n < HOARD);
    }
    fail_at = 0;
    return n;
}

static void hoard_return(int n)
{
    while (n > 0)
        cctx_unref(hoard[--n]);
}

/* Fails the k-th allocation for k = 1, 2, … until the call has what it needs. Returns how many failed. */
static int fail_each(const oom_case_t *c)
{
    static fixture_t fixture;
    int refused = 0;
    fixture_make(&fixture, c);
    size_t printed = cctx_print(fixture.on, NULL, 0);
    for (long k = 1;; k++) {
        CHECK(k < 1000);
        int hoarded = hoard_all();
        failed = 0;
        fail_at = k;
        errno = 0;
        int err = c->call(&fixture);
        fail_at = 0;
        hoard_return(hoarded);
        if (err) {
            if (err != ENOMEM || failed == 0)
                print_error("%s: allocation %ld of it: error %d, %ld failed\n", c->name, k, err, failed);
            CHECK(err == ENOMEM && failed > 0);
            CHECK(fixture.made == NULL);
            fixture_check(&fixture, c, printed);
            refused++;
            continue;
        }
        if (failed == 0)
            break;
        /* It did without what it could not get; that is as good. Undone, it goes on. */
        fixture_end(&fixture, c);
        fixture_make(&fixture, c);
    }
    fixture_end(&fixture, c);
    return refused;
}

/* C32 */
static void a_call_without_memory_fails_and_changes_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        int refused = fail_each(&oom_case[i]);
        print_message("%-34s %d allocations failed\n", oom_case[i].name, refused);
        assert_true(refused >= oom_case[i].least);
    }
}

#if TEST_SANITIZED || (defined(CCTX_CHECK) && CCTX_CHECK)
#define SINGLE_CELLS 1
#else
#define SINGLE_CELLS 0
#endif

/* Lets what waits for a grace period go. */
static void settle(void)
{
    for (int i = 0; i < 2000; i++) {
        cctx_t *parent = cctx_with_cancel(cctx_background());
        cctx_t *child = cctx_with_cancel(parent);
        cctx_unref(parent);
        cctx_unref(child);
    }
}

/* C32, C22: a failed call leaks nothing; one allocation lost in each round would be seen. */
static void failed_calls_leak_nothing(void **state)
{
    (void)state;
    /* The constant per thread is 64 cells, each at worst in a page of its own; a sanitized or checking library
     * allocates single cells, so that its caches count more. */
    enum { ROUNDS = SINGLE_CELLS ? 500 : 200, CACHES = SINGLE_CELLS ? 300 : 64 };
    for (int i = 0; i < CASES; i++) {
        long before = 0;
        for (int round = 0; round < ROUNDS; round++) {
            fail_each(&oom_case[i]);
            if (round == 10) {
                settle();
                before = live;
            }
        }
        settle();
        if (live - before > CACHES)
            print_error("%s: %ld allocations more than before\n", oom_case[i].name, live - before);
        assert_true(live - before <= CACHES);
    }
}

/* ---- what never fails ---- */

enum { TREE = 400 };

typedef struct tree {
    cctx_t *top, *second;
    const cctx_t *node[TREE];
    cctx_callback_t callback[TREE];
    int ran;
    bool plain, texts;
} tree_t;

static void tree_make(tree_t *tree)
{
    tree->top = cctx_with_cancel(cctx_background());
    tree->second = cctx_with_cancel(cctx_background());
    for (int i = 0; i < TREE; i++) {
        const cctx_t *parent = i < 80 ? tree->top : tree->node[i % 7 ? i - 1 : i / 2];
        switch (i % 6) {
        case 0: tree->node[i] = cctx_with_value(parent, &key[i % KEYS], &value[0]); break;
        case 1: tree->node[i] = cctx_with_timeout(parent, CCTX_S(3600)); break;
        case 2: tree->node[i] = cctx_with_any((const cctx_t *[]){tree->second, parent}, 2); break;
        default: tree->node[i] = cctx_with_cancel(parent); break;
        }
        CHECK(tree->node[i] != NULL);
        int err = cctx_after_func(tree->node[i], &tree->callback[i], note_run, &tree->ran);
        CHECK(err == 0);
    }
}

/* All of it without a byte: what is not a derivation has no way to fail. */
static void use_without_memory(unsigned index, void *arg)
{
    (void)index;
    tree_t *tree = arg;
    int stopped = 0;
    fail_at = FAIL_ALL;
    errno = E2BIG;
    for (int i = 0; i < TREE; i++) {
        const cctx_t *ctx = tree->node[i];
        CHECK(cctx_err(ctx) == 0 && cctx_cause(ctx) == NULL);
        CHECK(cctx_ref(ctx) == ctx);
        cctx_unref(ctx);
        CHECK(!cctx_wait_for(ctx, 1000));
        CHECK(cctx_print(ctx, NULL, 0) > 0);
        (void)cctx_value(ctx, &key[0]);
        (void)cctx_remaining(ctx);
        if (i % 3 == 0)
            stopped += cctx_stop(&tree->callback[i]);
        if (i % 3 == 1)
            stopped += cctx_stop_wait(&tree->callback[i]);
    }
    CHECK(stopped == TREE - TREE / 3);
    if (tree->plain) {
        CHECK(cctx_cancel(tree->top));
    } else {
        CHECK(cctx_cancel_causef(tree->top, 77, "never %s", "seen"));
        CHECK(cctx_cause(tree->top)->code == ENOMEM);
        CHECK(strcmp(cctx_cause(tree->top)->text, "out of memory") == 0);
    }
    for (int i = 0; i < TREE; i++) {
        CHECK(cctx_err(tree->node[i]) == ECANCELED);
        CHECK(cctx_cause(tree->node[i]) == cctx_cause(tree->top));
        CHECK(cctx_wait(tree->node[i]) == ECANCELED);
    }
    CHECK(tree->ran == TREE / 3);
    for (int i = 0; i < TREE; i++)
        cctx_unref(tree->node[tree->plain ? i : TREE - 1 - i]);
    cctx_unref(tree->top);
    cctx_close(tree->second);
    fail_at = 0;
}

/* C32, C10, C29 */
static void cancels_releases_looks_and_stops_need_no_memory(void **state)
{
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        static tree_t tree;
        memset(&tree, 0, sizeof tree);
        tree.plain = turn % 2;
        ended = 0;
        tree_make(&tree);
        int hoarded = hoard_all();
        if (turn < 2)
            use_without_memory(0, &tree);
        else
            threads_run(1, use_without_memory, &tree); /* a thread that was never in the library before */
        hoard_return(hoarded);
        assert_int_equal(ended, (TREE + 5) / 6);
    }
}

typedef struct crowd {
    tree_t tree;
} crowd_t;

static void stay(unsigned index, void *arg)
{
    crowd_t *crowd = arg;
    if (index == 0)
        use_without_memory(0, &crowd->tree);
    else
        cctx_close(cctx_with_cancel(cctx_background()));
}

/* C32: also while other threads are in the library, so that nothing of theirs can be taken over. */
static void a_new_thread_without_memory_can_cancel_and_release_among_others(void **state)
{
    (void)state;
    for (int turn = 0; turn < 20; turn++) {
        static crowd_t crowd;
        memset(&crowd, 0, sizeof crowd);
        crowd.tree.plain = turn % 2;
        tree_make(&crowd.tree);
        threads_run(3, stay, &crowd);
    }
}

/* C10 */
static void a_text_without_memory_is_the_constant_and_the_cancel_holds(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *child = cctx_with_cancel(ctx);
    fail_at = FAIL_ALL;
    bool won = cctx_cancel_causef(ctx, 3, "%d%0200d", 1, 2);
    bool again = cctx_cancel_causef(child, 3, "%d%0200d", 1, 2);
    fail_at = 0;
    assert_true(won);
    assert_false(again);
    assert_int_equal(cctx_err(child), ECANCELED);
    assert_int_equal(cctx_cause(child)->code, ENOMEM);
    assert_string_equal(cctx_cause(child)->text, "out of memory");
    cctx_unref(child);
    cctx_unref(ctx);
}

/* ---- the first call of a process ---- */

typedef struct first_call {
    int (*call)(fixture_t *fixture);
    long k;
} first_call_t;

enum { DONE_WITH = 40 };

static void fail_in_the_first_call(void *arg)
{
    first_call_t *first = arg;
    static fixture_t fixture;
    fixture.on = cctx_background();
    fixture.kid[0] = NULL;
    fail_at = first->k;
    failed = 0;
    errno = 0;
    int err = first->call(&fixture);
    fail_at = 0;
    CHECK(err == 0 || (err == ENOMEM && failed > 0));
    if (err) {
        CHECK(fixture.made == NULL);
        err = first->call(&fixture);
        CHECK(err == 0);
    }
    cctx_unref(fixture.made);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    CHECK(ctx != NULL);
    CHECK(cctx_wait(ctx) == ETIMEDOUT);
    cctx_unref(ctx);
    if (failed == 0)
        _exit(DONE_WITH);
}

/* C32: each in a process of its own, in which nothing was ever allocated before. */
static void the_first_call_of_a_process_may_fail_and_be_repeated(void **state)
{
    (void)state;
    int (*const call[])(fixture_t *) = {call_cancel, call_timeout, call_deadline_cause, call_late,
                                        call_value,  call_without, call_any_one,        call_after};
    for (size_t i = 0; i < sizeof call / sizeof *call; i++) {
        int status = 0;
        for (long k = 1; k < 100; k++) {
            first_call_t first = {call[i], k};
            status = run_in_child(fail_in_the_first_call, &first);
            if (status != 0)
                break;
        }
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), DONE_WITH);
    }
}

/* ---- threads that cannot be made ---- */

static void set_no_threads(bool on)
{
    __atomic_store_n(&no_threads, on, __ATOMIC_RELEASE);
}

static void arm_without_threads(void *arg)
{
    (void)arg;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    long before = 0;
    set_no_threads(true);
    for (int i = 0; i < 1000; i++) {
        errno = 0;
        CHECK(cctx_with_timeout(parent, CCTX_S(3600)) == NULL);
        CHECK(errno == EAGAIN);
        errno = 0;
        CHECK(cctx_with_deadline_cause(cctx_background(), cctx_now() + CCTX_S(3600), &cause) == NULL);
        CHECK(errno == EAGAIN);
        if (i == 100)
            before = live;
    }
    CHECK(live - before <= 100);
    /* What arms no timer needs no thread. */
    cctx_t *late = cctx_with_timeout(parent, 0);
    cctx_t *endless = cctx_with_timeout(parent, CCTX_NEVER);
    CHECK(cctx_err(late) == ETIMEDOUT && cctx_err(endless) == 0);
    CHECK(cctx_err(parent) == 0);
    cctx_unref(late);
    set_no_threads(false);
    /* Afterwards it works, and without anybody waiting: the word is slept on directly. */
    cctx_t *timed = cctx_with_timeout(parent, CCTX_MS(2));
    CHECK(timed != NULL);
    const uint32_t *word = cctx_done(timed);
    uint32_t seen;
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    CHECK(cctx_err(timed) == ETIMEDOUT);
    CHECK(cctx_cancel(parent));
    CHECK(cctx_err(endless) == ECANCELED);
    cctx_unref(endless);
    cctx_unref(timed);
    cctx_unref(parent);
}

/* C32: EAGAIN where the timer thread could not be made, and no harm done. */
static void a_deadline_without_a_thread_is_eagain(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(arm_without_threads, NULL), 0);
}

static void post(void *arg)
{
    gate_open(arg);
}

static void fire_without_runner(void *arg)
{
    (void)arg;
    static cctx_callback_t first_callback, second_callback;
    static gate_t first_ran, second_ran;
    alarm(60);
    cctx_t *keep = cctx_with_timeout(cctx_background(), CCTX_S(3600)); /* the timer thread is there */
    CHECK(keep != NULL);
    set_no_threads(true);
    cctx_t *first = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    CHECK(first != NULL);
    int err = cctx_after_func(first, &first_callback, post, &first_ran);
    CHECK(err == 0 || err == EAGAIN);
    CHECK(cctx_wait(first) == ETIMEDOUT);
    set_no_threads(false);
    cctx_t *second = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    int second_err = cctx_after_func(second, &second_callback, post, &second_ran);
    CHECK(second_err == 0);
    gate_wait(&second_ran);
    if (err == 0)
        gate_wait(&first_ran);
    cctx_stop_wait(&first_callback);
    cctx_stop_wait(&second_callback);
    cctx_unref(first);
    cctx_unref(second);
    cctx_unref(keep);
}

/* C28, C32: a callback that was accepted runs, also if the thread for it could be made only later. */
static void a_callback_waits_for_a_thread_that_could_not_be_made(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(fire_without_runner, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_call_of_a_process_may_fail_and_be_repeated), /* before this one used it */
        cmocka_unit_test(a_deadline_without_a_thread_is_eagain),
        cmocka_unit_test(a_callback_waits_for_a_thread_that_could_not_be_made),
        cmocka_unit_test(a_call_without_memory_fails_and_changes_nothing),
        cmocka_unit_test(failed_calls_leak_nothing),
        cmocka_unit_test(cancels_releases_looks_and_stops_need_no_memory),
        cmocka_unit_test(a_new_thread_without_memory_can_cancel_and_release_among_others),
        cmocka_unit_test(a_text_without_memory_is_the_constant_and_the_cancel_holds),
    };
    for (int i = 0; i <= KEYS; i++)
        key[i] = (cctx_key_t){"key", note_end};
    watchdog(115);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
