/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory and threads that cannot be had: in each call on each state of a context each allocation fails, alone
 * or with all that follow, and nothing has changed then. The program is linked with --wrap, so that each call
 * of the library's to the allocator comes here. C10, C32.
 *
 * With OOM_EXACT the library's sources are linked in, each cell an allocation of its own: then each one can
 * fail, and after each call of the table not one allocation more is left than before.
 */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "calls.h"

#include <cctx/shared.h>
#include <sched.h>
#ifdef OOM_EXACT
#include "epoch.h"
#endif

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

static long live;                  /* allocations that were not freed, of all threads */
static _Thread_local long fail_at; /* the how manieth from now fails; 0: none; below: all */
static _Thread_local bool fail_on; /* and all that follow it */
static _Thread_local long failed;  /* how many did */
static bool fail_everywhere;       /* in all threads */
static int threads_left = INT_MAX; /* how many more can be made */

enum { FAIL_ALL = -1 };

static bool fails(void)
{
    if (!__atomic_load_n(&fail_everywhere, __ATOMIC_ACQUIRE)) {
        if (fail_at == 0 || (fail_at > 0 && --fail_at > 0))
            return false;
        if (fail_on)
            fail_at = FAIL_ALL;
    }
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
    if (__atomic_load_n(&threads_left, __ATOMIC_ACQUIRE) <= 0)
        return EAGAIN;
    __atomic_fetch_sub(&threads_left, 1, __ATOMIC_ACQ_REL);
    return __real_pthread_create(thread, attr, fn, arg);
}

static void set_no_threads(bool on)
{
    __atomic_store_n(&threads_left, on ? 0 : INT_MAX, __ATOMIC_RELEASE);
}

/* ---- each allocation of each call on each state ---- */

/* Takes all that the thread and the library have in store, so that the next call must ask the allocator. */
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

enum where { HERE, NEW_THREAD, IN_CALLBACK, WHERES };

typedef struct attempt {
    const call_t *call;
    world_t *world;
    long k;
    bool on;
    int err;
    long failed;
} attempt_t;

static void attempt_run(void *arg)
{
    attempt_t *attempt = arg;
    failed = 0;
    fail_on = attempt->on;
    fail_at = attempt->k;
    attempt->err = call_run(attempt->call, attempt->world);
    fail_at = 0;
    attempt->failed = failed;
}

static void *attempt_main(void *arg)
{
    attempt_run(arg);
    return NULL;
}

static void attempt_at(attempt_t *attempt, enum where where)
{
    cctx_callback_t callback;
    cctx_t *ctx = where == IN_CALLBACK ? cctx_with_cancel(cctx_background()) : NULL;
    int err = where == IN_CALLBACK ? cctx_after_func(ctx, &callback, attempt_run, attempt) : 0;
    CHECK(err == 0);
    int hoarded = hoard_all();
    if (where == IN_CALLBACK)
        cctx_cancel(ctx);
    else if (where == NEW_THREAD)
        thread_join(thread_start(attempt_main, attempt));
    else
        attempt_run(attempt);
    hoard_return(hoarded);
    cctx_unref(ctx);
}

static world_t world;
static long refusals, runs;
static bool refused[CALLS];

/* Fails the k-th allocation for k = 1, 2, ... until the call has what it needs. */
static void fail_each(const call_t *call, const state_t *state, enum where where, bool on)
{
    world_make(&world, state);
    call_prepare(call, &world);
    for (long k = 1;; k++) {
        CHECK(k < 1000);
        attempt_t attempt = {.call = call, .world = &world, .k = k, .on = on};
        attempt_at(&attempt, where);
        runs++;
        if (attempt.err) {
            if (!call_needs(call->needs_memory) || attempt.err != ENOMEM || attempt.failed == 0)
                print_error("%s%s on %s, allocation %ld: error %d, %ld failed\n", call->function, call->how,
                            state->name, k, attempt.err, attempt.failed);
            CHECK(call_needs(call->needs_memory) && attempt.err == ENOMEM && attempt.failed > 0);
            world_same(&world);
            refusals++;
            refused[call - call_table] = true;
            continue;
        }
        call->after(&world);
        world_end(&world);
        if (attempt.failed == 0)
            break;
        /* It did without what it could not get; that is as good. */
        world_make(&world, state);
        call_prepare(call, &world);
    }
}

/* Lets what waits for a grace period go. How many allocations are left is the same each time, if nothing
 * leaks. */
static long settle(void)
{
#ifdef OOM_EXACT
    for (int i = 0; i < 64 && epoch_limbo() > 0;
         i++) { /* one of the library's threads may keep some, asleep */
        struct thread *t = thread_begin();
        epoch_poll(t);
        thread_end(t);
        if (i >= 16)
            sched_yield();
    }
#else
    for (int i = 0; i < 2000; i++) {
        cctx_t *parent = cctx_with_cancel(cctx_background());
        cctx_t *child = cctx_with_cancel(parent);
        cctx_unref(parent);
        cctx_unref(child);
    }
#endif
    return __atomic_load_n(&live, __ATOMIC_RELAXED);
}

#ifdef OOM_EXACT
/* Does it leave as many allocations as there were before? What lasts, a thread's record or the places of the
 * timer, is made once, and one of the library's threads may be about to let go of what it fired. What leaks,
 * leaks each time. */
static void leave_nothing(const call_t *call, const state_t *state, enum where where, bool on)
{
    long before = 0, after = 1;
    for (int turn = 0; turn < 8 && after != before; turn++) {
        before = settle();
        fail_each(call, state, where, on);
        int64_t limit = now_ns() + CCTX_MS(turn ? 500 : 20);
        do
            after = settle();
        while (after != before && now_ns() < limit);
    }
    if (after != before)
        print_error("%s%s on %s: %ld allocations more than before\n", call->function, call->how, state->name,
                    after - before);
    CHECK(after == before);
}
#endif

static void fail_all(enum where where, bool on)
{
    for (int s = 0; s < STATES; s++)
        for (int c = 0; c < CALLS; c++) {
            if (state_table[s].alike && (where != HERE || on || TEST_SANITIZED))
                continue;
#ifdef OOM_EXACT
            leave_nothing(&call_table[c], &state_table[s], where, on);
#else
            fail_each(&call_table[c], &state_table[s], where, on);
#endif
        }
}

/* C32, C10, C22: a call fails as it may, or works; a call that may not fail works. Nothing is left behind: as
 * each one fails some dozen times here, one allocation lost in one of them would be seen, also among what is
 * cached. */
static void each_allocation_of_each_call_on_each_state_may_fail(void **state)
{
    (void)state;
    /* A page for each of the cells that a thread may keep, three threads. */
    enum { CACHES = 3 * 64 };
    long before = 0;
    for (int turn = 0; turn < (TEST_SANITIZED ? 1 : 2); turn++) {
        before = settle();
        refusals = runs = 0;
        fail_all(HERE, false);
        fail_all(HERE, true);
        fail_all(NEW_THREAD, true);
        fail_all(IN_CALLBACK, true);
    }
    long left = settle() - before;
    print_message("%d calls on %d states: %ld runs, %ld refused, %ld allocations left\n", CALLS, STATES, runs,
                  refusals, left);
    assert_true(TEST_SANITIZED || left <= CACHES);
    for (int c = 0; c < CALLS; c++) {
        if (refused[c] != call_needs(call_table[c].needs_memory))
            print_error("%s%s was never refused\n", call_table[c].function, call_table[c].how);
        assert_true(refused[c] == call_needs(call_table[c].needs_memory));
    }
}

/* ---- a process that has none of the library's threads yet ---- */

typedef struct bare {
    const call_t *call;
    const state_t *state;
    int threads;
    long k;
} bare_t;

enum { REFUSED_THREAD = 41, NEVER_FAILED = 42, NOT_THIS = 43 };

static void fail_in_a_bare_process(void *arg)
{
    bare_t *bare = arg;
    alarm(60);
    __atomic_store_n(&threads_left, bare->threads, __ATOMIC_RELEASE);
    world.no_callback = true;
    if (bare->threads == 0 && (bare->state->make == make_timed || bare->state->make == make_many_values ||
                               bare->state->make == make_fired))
        _exit(NOT_THIS);
    world_make(&world, bare->state);
    call_prepare(bare->call, &world);
    attempt_t attempt = {.call = bare->call, .world = &world, .k = bare->k};
    attempt_run(&attempt);
    bool thread = attempt.err == EAGAIN, never = attempt.failed == 0;
    if (attempt.err) {
        CHECK(thread ? call_needs(bare->call->needs_thread) : attempt.err == ENOMEM && attempt.failed > 0);
        world_same(&world);
        set_no_threads(false);
        attempt.k = 0;
        attempt_run(&attempt);
        CHECK(attempt.err == 0);
    }
    set_no_threads(false);
    bare->call->after(&world);
    world_end(&world);
    _exit(thread ? REFUSED_THREAD : never ? NEVER_FAILED : 0);
}

/* C32: ENOMEM, EAGAIN, or it works; nothing has changed by a failure, and once there is a thread it works.
 * Each in a process of its own, in which the library has no thread, or the timer's but no runner, or both. */
static void each_call_may_lack_the_librarys_threads(void **state)
{
    (void)state;
    long refused_threads = 0, children = 0;
    for (int c = 0; c < CALLS; c++) {
        const call_t *call = &call_table[c];
        for (int s = 0; s < STATES; s++) {
            /* The states that need a thread, and each call that makes one on the others. */
            if (state_table[s].alike || !(call_needs(call->needs_thread) || state_table[s].make == make_live))
                continue;
            for (int threads = 0; threads < 2; threads++)
                for (long k = 1; k < 60; k++) {
                    bare_t bare = {call, &state_table[s], threads, k};
                    if (call->prepare == prepare_timed || call->prepare == prepare_wait)
                        bare.threads++; /* what it needs before the call is there */
                    if (call->prepare == prepare_guard)
                        bare.threads += 2;
                    int status = run_in_child(fail_in_a_bare_process, &bare);
                    CHECK(WIFEXITED(status));
                    children++;
                    refused_threads += WEXITSTATUS(status) == REFUSED_THREAD;
                    if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) < REFUSED_THREAD)
                        print_error("%s%s on %s: %d\n", call->function, call->how, state_table[s].name,
                                    status);
                    CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) >= REFUSED_THREAD);
                    if (WEXITSTATUS(status) != 0)
                        break;
                }
        }
    }
    print_message("%ld processes, %ld refused for want of a thread\n", children, refused_threads);
    assert_true(refused_threads >= 20);
}

/* ---- no memory in any thread ---- */

/* C13, C32: the index of the service thread grows as deadlines come; without memory they still fire. */
static void armed_deadlines_fire_though_no_thread_gets_memory(void **state)
{
    (void)state;
    enum { ARMED = 3000 };
    static cctx_t *timed[ARMED];
    int64_t soon = now_ns() + CCTX_MS(50);
    for (int i = 0; i < ARMED; i++) {
        /* Some are armed while memory is short: each either fails, or is armed and fires. */
        if (i == ARMED / 2)
            __atomic_store_n(&fail_everywhere, true, __ATOMIC_RELEASE);
        timed[i] = cctx_with_deadline(cctx_background(), soon + i * (i % 3 ? 20000 : 500));
        CHECK(timed[i] != NULL || (errno == ENOMEM && i >= ARMED / 2));
    }
    for (int i = 0; i < ARMED; i++) {
        if (!timed[i])
            continue;
        const uint32_t *word = cctx_done(timed[i]);
        uint32_t seen;
        while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1) == 0)
            syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        CHECK(cctx_err(timed[i]) == ETIMEDOUT);
    }
    __atomic_store_n(&fail_everywhere, false, __ATOMIC_RELEASE);
    for (int i = 0; i < ARMED; i++)
        cctx_unref(timed[i]);
}

/* ---- what never fails ---- */

enum { KEYS = 100 };
static int ended;

static void note_end(void *value)
{
    (void)value;
    ended++;
}

static cctx_key_t key[KEYS];
static int value[1];

static void note_run(void *arg)
{
    ++*(int *)arg;
}

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
        case 0:
            tree->node[i] = cctx_with_value(parent, &key[i % KEYS], &value[0]);
            break;
        case 1:
            tree->node[i] = cctx_with_timeout(parent, CCTX_S(3600));
            break;
        case 2:
            tree->node[i] = cctx_with_any((const cctx_t *[]){tree->second, parent}, 2);
            break;
        default:
            tree->node[i] = cctx_with_cancel(parent);
            break;
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

static int group_note_thread(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    *(pthread_t *)arg = pthread_self();
    return 6;
}

/* B0: where no thread can be made, or no memory be had for the task, it runs on the thread that starts it. */
static void a_task_without_a_thread_or_memory_runs_at_once(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        pthread_t ran_on = {0};
        cctx_group_t *group = cctx_group_new(cctx_background(), NULL, 1);
        assert_non_null(group);
        set_no_threads(turn == 0);
        fail_at = turn == 1 ? FAIL_ALL : 0;
        errno = E2BIG;
        for (int i = 0; i < 3; i++) {
            ran_on = (pthread_t){0};
            CHECK(cctx_group_go(group, group_note_thread, &ran_on) == 0);
            CHECK(pthread_equal(ran_on, pthread_self()));
        }
        CHECK(errno == E2BIG && cctx_group_wait(group) == 6);
        CHECK(cctx_cause(cctx_group_context(group))->code == (turn ? ENOMEM : 6));
        cctx_group_free(group);
        fail_at = 0;
        set_no_threads(false);
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
    const call_t *call;
    long k;
    bool on;
} first_call_t;

enum { DONE_WITH = 40 };

static void fail_in_the_first_call(void *arg)
{
    first_call_t *first = arg;
    world.no_callback = true;
    world_make(&world, state_of(make_todo)); /* for which nothing is made */
    attempt_t attempt = {.call = first->call, .world = &world, .k = first->k, .on = first->on};
    attempt_run(&attempt);
    long before = attempt.failed;
    CHECK(attempt.err == 0 || (attempt.err == ENOMEM && before > 0));
    if (attempt.err) {
        world_same(&world);
        attempt.k = 0;
        attempt_run(&attempt);
        CHECK(attempt.err == 0);
    }
    first->call->after(&world);
    world_end(&world);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    CHECK(ctx != NULL);
    CHECK(cctx_wait(ctx) == ETIMEDOUT);
    cctx_unref(ctx);
    if (before == 0)
        _exit(DONE_WITH);
}

/* C32: each in a process of its own, in which nothing was ever allocated before. */
static void the_first_call_of_a_process_may_fail_and_be_repeated(void **state)
{
    (void)state;
    for (int c = 0; c < CALLS; c++) {
        if (call_table[c].prepare)
            continue;
        for (int on = 0; on < 2; on++) {
            int status = 0;
            for (long k = 1; k < 100; k++) {
                first_call_t first = {&call_table[c], k, on};
                status = run_in_child(fail_in_the_first_call, &first);
                if (status != 0)
                    break;
            }
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), DONE_WITH);
        }
    }
}

/* ---- threads that cannot be made ---- */

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
        CHECK(cctx_with_deadline_cause(cctx_background(), cctx_now() + CCTX_S(3600), &calls_cause) == NULL);
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

/* ---- arenas ---- */

typedef struct sharing {
    cctx_shared_t *arena, *other;
    cctx_token_t token;
    const cctx_t *made;
} sharing_t;

/* The first of them that fails says why. */
static int share(sharing_t *s)
{
    errno = 0;
    if (!s->arena)
        s->arena = cctx_shared_create(4);
    if (s->arena && !s->token)
        s->token = cctx_shared_token(s->arena, cctx_now() + HOUR);
    if (s->token && !s->other)
        s->other = cctx_shared_attach(cctx_shared_fd(s->arena));
    if (s->other && !s->made)
        s->made = cctx_with_shared(cctx_background(), s->other, s->token);
    return s->made ? 0 : errno;
}

static void unshare_all(sharing_t *s)
{
    CHECK(cctx_err(s->made) == 0);
    CHECK(cctx_shared_cancel(s->arena, s->token));
    CHECK(cctx_wait(s->made) == ECANCELED);
    cctx_unref(s->made);
    for (int stale = 0; stale < 2; stale++) { /* what is born done */
        for (long k = 1; k < 10; k++) {
            int hoarded = hoard_all();
            fail_at = k;
            cctx_t *done = cctx_with_shared(cctx_background(), s->other, s->token);
            int err = errno;
            fail_at = 0;
            hoard_return(hoarded);
            CHECK(done ? cctx_err(done) == ECANCELED : err == ENOMEM);
            cctx_unref(done);
        }
        for (int i = 0; i < 8; i++)
            CHECK(cctx_shared_token(s->arena, cctx_now()) != 0);
    }
    cctx_shared_free(s->other);
    cctx_shared_free(s->arena);
}

/* C32, B5: each allocation of what makes, attaches and binds fails in its turn; then it works. */
static void arenas_and_what_is_bound_may_lack_memory(void **state)
{
    (void)state;
    long before = 0;
    for (int turn = 0; turn < 20; turn++) {
        sharing_t s = {NULL, NULL, 0, NULL};
        int hoarded = hoard_all(), err = ENOMEM;
        for (long k = 1; err != 0; k++) {
            CHECK(k < 100);
            fail_on = turn % 2;
            fail_at = turn % 2 ? 1 + k / 3 : k;
            err = share(&s);
            fail_at = 0;
            CHECK(err == 0 || err == ENOMEM);
        }
        hoard_return(hoarded);
        unshare_all(&s);
        if (turn == 9)
            before = settle();
    }
    /* Those of the arena's threads go a moment later. */
    int64_t limit = now_ns() + CCTX_S(20);
    while (settle() > before + 192 && now_ns() < limit)
        sched_yield();
    assert_true(settle() <= before + 192);
}

static void share_without_threads(void *arg)
{
    (void)arg;
    sharing_t s = {NULL, NULL, 0, NULL};
    cctx_unref(cctx_with_timeout(cctx_background(), HOUR));
    set_no_threads(true);
    for (int i = 0; i < 100; i++)
        CHECK(share(&s) == EAGAIN);
    /* One can be made, which hears the bell, and none that sees the other owner's death. */
    uint64_t *token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2];
    char byte = 0;
    CHECK(pipe(ready) == 0);
    pid_t owner = fork();
    if (owner == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        *token = cctx_shared_token(s.arena, CCTX_NEVER);
        CHECK(write(ready[1], &byte, 1) == 1);
        for (;;)
            pause();
    }
    CHECK(owner > 0 && read(ready[0], &byte, 1) == 1);
    __atomic_store_n(&threads_left, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++) {
        errno = 0;
        CHECK(cctx_with_shared(cctx_background(), s.other, *token) == NULL && errno == EAGAIN);
    }
    set_no_threads(false);
    kill(owner, SIGKILL);
    CHECK(waitpid(owner, NULL, 0) == owner);
    CHECK(share(&s) == 0);
    unshare_all(&s);
}

/* C32, B5 */
static void what_is_bound_without_a_thread_is_eagain(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(share_without_threads, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_call_of_a_process_may_fail_and_be_repeated), /* before this one used it */
        cmocka_unit_test(each_call_may_lack_the_librarys_threads),
        cmocka_unit_test(a_deadline_without_a_thread_is_eagain),
        cmocka_unit_test(a_callback_waits_for_a_thread_that_could_not_be_made),
        cmocka_unit_test(what_is_bound_without_a_thread_is_eagain),
        cmocka_unit_test(arenas_and_what_is_bound_may_lack_memory),
        cmocka_unit_test(each_allocation_of_each_call_on_each_state_may_fail),
        cmocka_unit_test(armed_deadlines_fire_though_no_thread_gets_memory),
        cmocka_unit_test(cancels_releases_looks_and_stops_need_no_memory),
        cmocka_unit_test(a_new_thread_without_memory_can_cancel_and_release_among_others),
        cmocka_unit_test(a_task_without_a_thread_or_memory_runs_at_once),
        cmocka_unit_test(a_text_without_memory_is_the_constant_and_the_cancel_holds),
    };
    for (int i = 0; i < KEYS; i++)
        key[i] = (cctx_key_t){"key", note_end};
    watchdog(280);
    calls_are_complete();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
