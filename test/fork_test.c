/* SPDX-License-Identifier: BSD-2-Clause */
/* After fork the child uses, cancels and frees what it inherited, and its deadlines fire. C23. */
#include "support.h"

#include <sched.h>

static const cctx_cause_t cause = {23, "cause"};
static int ended;

static void note_end(void *value)
{
    (void)value;
    __atomic_fetch_add(&ended, 1, __ATOMIC_RELEASE);
}

static const cctx_key_t key = {"key", note_end};

/* Sleeps on the word itself: nothing of the library's runs here, so only a library thread can end it. */
static void sleep_on_word(const cctx_t *ctx)
{
    const uint32_t *word = cctx_done(ctx);
    uint32_t seen;
    while (((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) & 1) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void expect_success(int status)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        print_error("the child: status %#x (CCTX_SEED=%" PRIu64 ")\n", (unsigned)status, test_seed_value);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

typedef struct inherited {
    cctx_t *top, *mid, *timed;
    const cctx_t *value;
    cctx_t *leaf, *any;
    cctx_callback_t callback;
    int ran;
} inherited_t;

static void note_run(void *arg)
{
    ++*(int *)arg;
}

static void inherited_make(inherited_t *in)
{
    memset(in, 0, sizeof *in);
    ended = 0;
    in->top = cctx_with_cancel(cctx_background());
    in->mid = cctx_with_cancel(in->top);
    in->timed = cctx_with_timeout(in->mid, CCTX_S(3600));
    in->value = cctx_with_value(in->timed, &key, in);
    in->leaf = cctx_with_cancel(in->value);
    in->any = cctx_with_any((const cctx_t *[]){cctx_todo(), in->leaf, in->mid}, 3);
    int err = cctx_after_func(in->leaf, &in->callback, note_run, &in->ran);
    CHECK(err == 0);
}

static void inherited_free(inherited_t *in)
{
    cctx_stop_wait(&in->callback);
    cctx_unref(in->top);
    cctx_unref(in->mid);
    cctx_unref(in->timed);
    cctx_unref(in->value);
    cctx_unref(in->leaf);
    cctx_unref(in->any);
    /* A deadline that has just fired below lets go of what it passed through when it has passed. */
    while (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    CHECK(ended == 1);
}

static void use_all_in_child(void *arg)
{
    inherited_t *in = arg;
    alarm(60);
    CHECK(cctx_err(in->leaf) == 0 && cctx_err(in->any) == 0);
    CHECK(cctx_value(in->leaf, &key) == in);
    CHECK(cctx_remaining(in->leaf) > 0);
    cctx_t *new_one = cctx_with_cancel(in->leaf);
    cctx_t *short_one = cctx_with_timeout(in->any, CCTX_MS(5));
    CHECK(new_one != NULL && short_one != NULL);
    sleep_on_word(short_one);
    CHECK(cctx_err(short_one) == ETIMEDOUT);
    CHECK(cctx_cancel_cause(in->mid, &cause));
    CHECK(cctx_cause(new_one) == &cause && cctx_cause(in->any) == &cause);
    CHECK(cctx_wait(new_one) == ECANCELED);
    CHECK(in->ran == 1);
    CHECK(cctx_err(in->top) == 0);
    CHECK(cctx_cancel_causef(in->top, 1, "child %d", 1));
    cctx_unref(short_one);
    cctx_unref(new_one);
    inherited_free(in);
}

/* C23 */
static void a_child_uses_cancels_and_frees_what_it_inherited(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    inherited_t in;
    for (int round = 0; round < 20; round++) {
        inherited_make(&in);
        expect_success(run_in_child(use_all_in_child, &in));
        /* None of it reached this process. */
        assert_int_equal(cctx_err(in.top), 0);
        assert_int_equal(cctx_err(in.any), 0);
        assert_int_equal(in.ran, 0);
        assert_int_equal(ended, 0);
        if (round % 2) {
            cctx_cancel(in.top);
            assert_int_equal(in.ran, 1);
        }
        inherited_free(&in);
    }
}

static void arm_one_and_sleep_on_the_inherited(void *arg)
{
    alarm(60);
    cctx_t *far = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    CHECK(far != NULL);
    sleep_on_word(arg);
    CHECK(cctx_err(arg) == ETIMEDOUT);
    cctx_unref(far);
}

static void wait_for_the_inherited(void *arg)
{
    alarm(60);
    CHECK(cctx_wait(arg) == ETIMEDOUT);
}

static void wait_below_the_inherited(void *arg)
{
    alarm(60);
    cctx_t *below = cctx_with_cancel(arg);
    CHECK(cctx_wait_until(below, CCTX_NEVER));
    CHECK(cctx_err(below) == ETIMEDOUT && cctx_err(arg) == ETIMEDOUT);
    cctx_unref(below);
}

static void wait_elsewhere_and_sleep_on_the_inherited(void *arg)
{
    alarm(60);
    CHECK(!cctx_wait_for(cctx_background(), CCTX_US(1)));
    sleep_on_word(arg);
    CHECK(cctx_err(arg) == ETIMEDOUT);
}

/* C23, C13, C27: once the child arms one, or waits. */
static void an_inherited_deadline_fires_once_the_child_arms_one_or_waits(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    void (*const child[])(void *) = {arm_one_and_sleep_on_the_inherited, wait_for_the_inherited,
                                     wait_below_the_inherited, wait_elsewhere_and_sleep_on_the_inherited};
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < 4; i++) {
            cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_MS(30));
            expect_success(run_in_child(child[i], timed));
            assert_int_equal(cctx_wait(timed), ETIMEDOUT);
            cctx_unref(timed);
        }
}

static void fire_many_inherited(void *arg)
{
    cctx_t **timed = arg;
    alarm(60);
    cctx_t *own = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    CHECK(own != NULL);
    for (int i = 0; i < 1000; i++) {
        if (i % 3 == 2)
            continue;
        sleep_on_word(timed[i]);
        CHECK(cctx_err(timed[i]) == (i % 3 == 0 ? ETIMEDOUT : ECANCELED));
    }
    for (int i = 0; i < 1000; i++)
        cctx_unref(timed[i]);
    cctx_unref(own);
}

/* C23, C13: a thousand armed ones, near and far, some of them canceled, pass into the child. */
static void many_inherited_deadlines_fire_in_the_child(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    static cctx_t *timed[1000];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1000; i++) {
            timed[i] = cctx_with_timeout(cctx_background(), i % 3 == 2 ? CCTX_S(3600) : CCTX_MS(50) + i);
            if (i % 3 == 1)
                cctx_cancel(timed[i]);
        }
        expect_success(run_in_child(fire_many_inherited, timed));
        for (int i = 0; i < 1000; i++)
            cctx_unref(timed[i]);
    }
}

static gate_t runs_inside, may_end;

static void run_until_told(void *arg)
{
    (void)arg;
    gate_open(&runs_inside);
    gate_wait(&may_end);
}

static void *cancel_it(void *arg)
{
    cctx_cancel(arg);
    return NULL;
}

static cctx_callback_t running_callback;

static void do_not_wait_for_what_never_ends(void *arg)
{
    alarm(60);
    CHECK(cctx_is_done(arg));
    CHECK(!cctx_stop(&running_callback));
    CHECK(!cctx_stop_wait(&running_callback)); /* the thread that ran it is not here */
    CHECK(!cctx_cancel(arg));
    cctx_unref(arg);
}

/* C23, C29: a callback that ran in another thread at the fork is not running in the child. */
static void a_callback_that_ran_at_the_fork_is_not_waited_for_in_the_child(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_after_func(ctx, &running_callback, run_until_told, NULL), 0);
    pthread_t thread = thread_start(cancel_it, ctx);
    gate_wait(&runs_inside);
    expect_success(run_in_child(do_not_wait_for_what_never_ends, ctx));
    gate_open(&may_end);
    assert_false(cctx_stop_wait(&running_callback));
    thread_join(thread);
    cctx_unref(ctx);
}

static void fork_again(void *arg)
{
    inherited_t *in = arg;
    alarm(60);
    int status = run_in_child(use_all_in_child, in);
    CHECK(status == 0);
    cctx_t *mine = cctx_with_timeout(in->leaf, CCTX_MS(30));
    status = run_in_child(wait_for_the_inherited, mine);
    CHECK(status == 0);
    sleep_on_word(mine);
    cctx_unref(mine);
    use_all_in_child(in);
}

/* C23 */
static void a_child_may_fork_again(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    inherited_t in;
    inherited_make(&in);
    expect_success(run_in_child(fork_again, &in));
    inherited_free(&in);
}

/* ---- in the middle of what others do ---- */

/* The sanitizers leave their own locks to the child as they are, so that its malloc may hang. */
static bool may_fork_among_threads(const char *name)
{
    if (TEST_SANITIZED)
        print_message("fork_test: %s: does not apply under a sanitizer: its malloc may hang\n", name);
    return !TEST_SANITIZED;
}

enum { BUSY = 3, SHARED = 6 };

typedef struct busy {
    cctx_t *top;             /* never canceled in the parent process */
    cctx_t *shared[SHARED];  /* inner contexts that the threads derive from */
    cctx_t *passing;         /* replaced and canceled all the time; by exchange */
    bool over;
} busy_t;

/* In the heap: a child has the registrations of the other threads, too, but their stacks are used anew. */
typedef struct box {
    cctx_callback_t callback;
    int ran;
} box_t;

static void churn(rng_t *rng, busy_t *busy, int turns)
{
    for (int i = 0; i < turns; i++) {
        const cctx_t *parent = busy->shared[rng_below(rng, SHARED)];
        cctx_t *child = rng_below(rng, 3) ? cctx_with_cancel(parent)
                                          : cctx_with_timeout(parent, (int64_t)rng_below(rng, CCTX_MS(2)));
        box_t *box = calloc(1, sizeof *box);
        CHECK(child != NULL && box != NULL);
        cctx_t *below[5];
        for (int k = 0; k < 5; k++)
            below[k] = k == 3 ? cctx_with_any((const cctx_t *[]){busy->shared[0], below[2]}, 2)
                              : cctx_with_cancel(k ? below[k - 1] : child);
        int err = cctx_after_func(below[2], &box->callback, note_run, &box->ran);
        CHECK(err == 0);
        if (rng_below(rng, 2))
            cctx_cancel_causef(child, 1, "turn %d", i);
        bool stopped = cctx_stop_wait(&box->callback);
        CHECK(stopped != (box->ran == 1));
        free(box);
        for (int k = 0; k < 5; k++)
            cctx_unref(below[k]);
        child = __atomic_exchange_n(&busy->passing, child, __ATOMIC_ACQ_REL);
        if (child)
            cctx_close(child);
    }
}

static void be_busy(rng_t *rng, busy_t *busy)
{
    while (!__atomic_load_n(&busy->over, __ATOMIC_RELAXED))
        churn(rng, busy, 10);
}

static void go_on_in_child(busy_t *busy, rng_t *rng)
{
    alarm(60);
    CHECK(cctx_err(busy->top) == 0);
    busy->passing = NULL; /* whoever held it may have been anywhere */
    churn(rng, busy, 100);
    cctx_t *timed = cctx_with_timeout(busy->shared[1], CCTX_MS(1));
    CHECK(timed != NULL);
    sleep_on_word(timed);
    CHECK(cctx_err(timed) == ETIMEDOUT);
    CHECK(cctx_cancel_cause(busy->top, &cause));
    for (int i = 0; i < SHARED; i++)
        CHECK(cctx_cause(busy->shared[i]) == &cause);
    CHECK(cctx_err(busy->passing) == ECANCELED || cctx_err(busy->passing) == ETIMEDOUT);
    cctx_close(busy->passing);
    cctx_unref(timed);
    for (int i = 0; i < SHARED; i++)
        cctx_unref(busy->shared[i]);
    cctx_unref(busy->top);
    cctx_close(cctx_with_cancel(cctx_background()));
}

static void fork_or_be_busy(unsigned index, void *arg)
{
    busy_t *busy = arg;
    rng_t rng = rng_make(test_seed_value, index);
    if (index > 0) {
        be_busy(&rng, busy);
        return;
    }
    for (int round = 0; round < 250; round++) {
        for (uint64_t i = rng_below(&rng, 20); i > 0; i--)
            sched_yield();
        churn(&rng, busy, (int)rng_below(&rng, 3));
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            go_on_in_child(busy, &rng);
            _exit(0);
        }
        int status = 0;
        pid_t waited = waitpid(pid, &status, 0);
        if (status != 0)
            fprintf(stderr, "fork_test: round %d: the child: status %#x\n", round, (unsigned)status);
        CHECK(waited == pid && status == 0);
    }
    __atomic_store_n(&busy->over, true, __ATOMIC_RELAXED);
}

/* C23: seeded; the fork comes at any point of what three others derive, cancel, arm and free. */
static void a_fork_in_the_middle_of_everything_leaves_a_child_that_works(void **state)
{
    (void)state;
    if (!threads_after_fork())
        NOT_APPLICABLE("this emulator does not let a forked child make threads");
    if (!may_fork_among_threads(__func__))
        return;
    test_seed();
    busy_t busy = {.top = cctx_with_cancel(cctx_background())};
    for (int i = 0; i < SHARED; i++)
        busy.shared[i] = cctx_with_cancel(i < 2 ? busy.top : busy.shared[i / 2]);
    threads_run(1 + BUSY, fork_or_be_busy, &busy);
    cctx_close(busy.passing);
    for (int i = 0; i < SHARED; i++) {
        assert_int_equal(cctx_err(busy.shared[i]), 0);
        cctx_unref(busy.shared[i]);
    }
    cctx_unref(busy.top);
}

enum { FELLED = 3000 };

typedef struct felled {
    cctx_t *top;
    cctx_t *child[FELLED];
    gate_t begin;
} felled_t;

static void *fell(void *arg)
{
    felled_t *felled = arg;
    gate_wait(&felled->begin);
    cctx_cancel_cause(felled->top, &cause);
    return NULL;
}

static void finish_the_cancel(void *arg)
{
    felled_t *felled = arg;
    alarm(60);
    cctx_cancel(felled->top);
    for (int i = 0; i < FELLED; i++)
        CHECK(cctx_is_done(felled->child[i]));
    for (int i = 0; i < FELLED; i++)
        cctx_unref(felled->child[i]);
    cctx_unref(felled->top);
}

/* C23, C3: a cancel that another thread was in the middle of is finished by a cancel in the child. */
static void a_cancel_in_the_child_finishes_one_that_was_under_way(void **state)
{
    (void)state;
    if (!may_fork_among_threads(__func__))
        return;
    static felled_t felled;
    rng_t rng = rng_make(test_seed(), 77);
    for (int round = 0; round < 300; round++) {
        memset(&felled, 0, sizeof felled);
        felled.top = cctx_with_cancel(cctx_background());
        for (int i = 0; i < FELLED; i++)
            felled.child[i] = cctx_with_cancel(i % 10 ? felled.child[i - 1] : felled.top);
        pthread_t thread = thread_start(fell, &felled);
        gate_open(&felled.begin);
        for (uint64_t i = rng_below(&rng, 30); i > 0; i--)
            sched_yield();
        expect_success(run_in_child(finish_the_cancel, &felled));
        thread_join(thread);
        for (int i = 0; i < FELLED; i++)
            cctx_unref(felled.child[i]);
        cctx_unref(felled.top);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_uses_cancels_and_frees_what_it_inherited),
        cmocka_unit_test(an_inherited_deadline_fires_once_the_child_arms_one_or_waits),
        cmocka_unit_test(many_inherited_deadlines_fire_in_the_child),
        cmocka_unit_test(a_callback_that_ran_at_the_fork_is_not_waited_for_in_the_child),
        cmocka_unit_test(a_child_may_fork_again),
        cmocka_unit_test(a_cancel_in_the_child_finishes_one_that_was_under_way),
        cmocka_unit_test(a_fork_in_the_middle_of_everything_leaves_a_child_that_works),
    };
    watchdog(115);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
