/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test cases of Go's context package, one C test for each. The table at the end names every test and
 * example of Go 1.26 with its counterpart or the reason why it has none, and the tests that run are those of
 * the table; where Go is installed, the table is compared with the files of the toolchain.
 */
#include "support.h"

#include <dirent.h>
#include <sys/socket.h>

#define SHORT CCTX_MS(1)
#define VERY_LONG (CCTX_S(3600) * 1000)

static void assert_err(const cctx_t *ctx, int err)
{
    assert_int_equal(cctx_err(ctx), err);
    assert_int_equal(cctx_is_done(ctx), err != 0);
    if (cctx_done(ctx))
        assert_int_equal(__atomic_load_n(cctx_done(ctx), __ATOMIC_ACQUIRE) & 1u, err != 0);
    else
        assert_int_equal(err, 0);
}

static void assert_printed(const cctx_t *ctx, const char *want)
{
    char text[512];
    assert_int_equal(cctx_print(ctx, text, sizeof text), strlen(want));
    assert_string_equal(text, want);
}

static void assert_printed_prefix(const cctx_t *ctx, const char *prefix)
{
    char text[4096];
    assert_true(cctx_print(ctx, text, sizeof text) > strlen(prefix));
    assert_memory_equal(text, prefix, strlen(prefix));
}

static void count(void *arg)
{
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
}

static void open_gate(void *arg)
{
    gate_open(arg);
}

/* Go: TestBackground. C2, C24 */
static void test_background(void **state)
{
    (void)state;
    assert_non_null(cctx_background());
    assert_err(cctx_background(), 0);
    assert_null(cctx_done(cctx_background()));
    assert_printed(cctx_background(), "cctx.Background");
}

/* Go: TestTODO. C2, C24 */
static void test_todo(void **state)
{
    (void)state;
    assert_non_null(cctx_todo());
    assert_ptr_not_equal(cctx_todo(), cctx_background());
    assert_err(cctx_todo(), 0);
    assert_null(cctx_done(cctx_todo()));
    assert_printed(cctx_todo(), "cctx.TODO");
}

/* Go: TestWithCancel. C1, C3 */
static void test_with_cancel(void **state)
{
    (void)state;
    static const cctx_key_t key = {"other", NULL};
    cctx_t *c1 = cctx_with_cancel(cctx_background());
    assert_printed(c1, "cctx.Background.WithCancel");
    const cctx_t *other = cctx_with_value(c1, &key, NULL);
    cctx_t *c2 = cctx_with_cancel(other);
    const cctx_t *contexts[] = {c1, other, c2};
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(cctx_done(contexts[i]));
        assert_err(contexts[i], 0);
    }
    assert_true(cctx_cancel(c1));
    for (size_t i = 0; i < 3; i++)
        assert_err(contexts[i], ECANCELED);
    cctx_unref(c2);
    cctx_unref(other);
    cctx_unref(c1);
}

/* Go: TestParentFinishesChild. C1, C3, C18, C28 */
static void test_parent_finishes_child(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    char value[] = "value";
    int ran = 0;
    cctx_callback_t cb = {0};
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *cancel_child = cctx_with_cancel(parent);
    const cctx_t *value_child = cctx_with_value(parent, &key, value);
    cctx_t *timer_child = cctx_with_timeout(value_child, VERY_LONG);
    assert_int_equal(cctx_after_func(parent, &cb, count, &ran), 0);
    const cctx_t *all[] = {parent, cancel_child, value_child, timer_child};
    for (size_t i = 0; i < 4; i++)
        assert_err(all[i], 0);
    assert_int_equal(ran, 0);

    assert_true(cctx_cancel(parent));
    for (size_t i = 0; i < 4; i++)
        assert_err(all[i], ECANCELED);
    assert_int_equal(ran, 1);

    const cctx_t *born_done = cctx_with_value(parent, &key, value);
    assert_err(born_done, ECANCELED);
    cctx_unref(born_done);
    for (size_t i = 0; i < 4; i++)
        cctx_unref(all[i]);
}

/* Go: TestChildFinishesFirst. C1, C21 */
static void test_child_finishes_first(void **state)
{
    (void)state;
    cctx_t *cancelable = cctx_with_cancel(cctx_background());
    const cctx_t *parents[] = {cctx_background(), cancelable};
    for (size_t i = 0; i < 2; i++) {
        cctx_t *child = cctx_with_cancel(parents[i]);
        assert_err(parents[i], 0);
        assert_err(child, 0);
        assert_true(cctx_cancel(child));
        assert_err(child, ECANCELED);
        assert_err(parents[i], 0);
        cctx_unref(child);
    }
    cctx_close(cancelable);
}

/* Go: TestCancelRemoves. Go counts the children of a parent; here what each would leave behind is counted in
   bytes, with less than one word allowed for each of 100,000. C21, C22 */
static void test_cancel_removes(void **state)
{
    (void)state;
    enum { CHILDREN = 100000 };
    int ran = 0;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    for (int kind = 0; kind < 3; kind++) {
        size_t before = 0;
        for (int i = -1000; i < CHILDREN; i++) {
            cctx_callback_t cb = {0};
            if (i == 0)
                before = memory_in_use();
            if (kind == 0) {
                cctx_close(cctx_with_cancel(ctx));
            } else if (kind == 1) {
                cctx_close(cctx_with_timeout(ctx, CCTX_S(3600)));
            } else {
                assert_int_equal(cctx_after_func(ctx, &cb, count, &ran), 0);
                assert_true(cctx_stop(&cb));
            }
        }
        size_t after = memory_in_use();
        assert_true(after < before + (size_t)CHILDREN * 4);
    }
    cctx_close(ctx);
    assert_int_equal(ran, 0);
}

static void wait_for_deadline(cctx_t *ctx)
{
    cctx_time_t deadline = 0;
    assert_true(cctx_deadline(ctx, &deadline));
    assert_int_equal(cctx_wait(ctx), ETIMEDOUT);
    assert_err(ctx, ETIMEDOUT);
    assert_true(cctx_now() >= deadline);
    cctx_unref(ctx);
}

/* Go: TestDeadline. C11, C12, C13 */
static void test_deadline(void **state)
{
    (void)state;
    static const cctx_key_t key = {"other", NULL};
    cctx_t *c = cctx_with_deadline(cctx_background(), cctx_now() + SHORT);
    assert_printed_prefix(c, "cctx.Background.WithDeadline(");
    wait_for_deadline(c);

    c = cctx_with_deadline(cctx_background(), cctx_now() + SHORT);
    const cctx_t *other = cctx_with_value(c, &key, NULL);
    cctx_unref(c);
    assert_int_equal(cctx_wait(other), ETIMEDOUT);
    cctx_unref(other);

    c = cctx_with_deadline(cctx_background(), cctx_now() + SHORT);
    other = cctx_with_value(c, &key, NULL);
    cctx_t *later = cctx_with_deadline(other, cctx_now() + VERY_LONG);
    wait_for_deadline(later);
    cctx_unref(other);
    cctx_unref(c);

    wait_for_deadline(cctx_with_deadline(cctx_background(), cctx_now() - SHORT));
    wait_for_deadline(cctx_with_deadline(cctx_background(), cctx_now()));
}

/* Go: TestTimeout. C11, C13 */
static void test_timeout(void **state)
{
    (void)state;
    static const cctx_key_t key = {"other", NULL};
    cctx_t *c = cctx_with_timeout(cctx_background(), SHORT);
    assert_printed_prefix(c, "cctx.Background.WithDeadline(");
    wait_for_deadline(c);

    c = cctx_with_timeout(cctx_background(), SHORT);
    const cctx_t *other = cctx_with_value(c, &key, NULL);
    assert_int_equal(cctx_wait(other), ETIMEDOUT);
    cctx_unref(other);
    cctx_unref(c);

    c = cctx_with_timeout(cctx_background(), SHORT);
    other = cctx_with_value(c, &key, NULL);
    wait_for_deadline(cctx_with_timeout(other, VERY_LONG));
    cctx_unref(other);
    cctx_unref(c);
}

/* Go: TestCanceledTimeout. C1, C3 */
static void test_canceled_timeout(void **state)
{
    (void)state;
    static const cctx_key_t key = {"other", NULL};
    cctx_t *outer = cctx_with_timeout(cctx_background(), VERY_LONG);
    const cctx_t *other = cctx_with_value(outer, &key, NULL);
    cctx_t *c = cctx_with_timeout(other, 2 * VERY_LONG);
    assert_true(cctx_cancel(c));
    assert_err(c, ECANCELED);
    assert_err(outer, 0);
    cctx_unref(c);
    cctx_unref(other);
    cctx_unref(outer);
}

/* Go: TestValues. C16, C18 */
static void test_values(void **state)
{
    (void)state;
    static const cctx_key_t k1 = {"key", NULL}, k2 = {"key", NULL}, k3 = {"key3", NULL};
    char v1[] = "c1k1", v2[] = "c2k2", v3[] = "c3k3", o2k2[] = "o2k2";
    const cctx_t *c0 = cctx_background();
    const cctx_t *c1 = cctx_with_value(c0, &k1, v1);
    const cctx_t *c2 = cctx_with_value(c1, &k2, v2);
    const cctx_t *c3 = cctx_with_value(c2, &k3, v3);
    const cctx_t *c4 = cctx_with_value(c3, &k1, NULL);
    cctx_t *o1 = cctx_with_cancel(c1);
    const cctx_t *o2 = cctx_with_value(o1, &k2, o2k2);
    cctx_t *o3 = cctx_with_cancel(c4);
    const cctx_t *o4 = cctx_with_value(o3, &k3, NULL);
    const struct {
        const cctx_t *ctx;
        const char *v1, *v2, *v3;
    } rows[] = {
        {c0, NULL, NULL, NULL}, {c1, v1, NULL, NULL},   {c2, v1, v2, NULL},
        {c3, v1, v2, v3},       {c4, NULL, v2, v3},     {o1, v1, NULL, NULL},
        {o2, v1, o2k2, NULL},   {o3, NULL, v2, v3},     {o4, NULL, v2, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_ptr_equal(cctx_value(rows[i].ctx, &k1), rows[i].v1);
        assert_ptr_equal(cctx_value(rows[i].ctx, &k2), rows[i].v2);
        assert_ptr_equal(cctx_value(rows[i].ctx, &k3), rows[i].v3);
    }
    assert_printed(c1, "cctx.Background.WithValue(key)");
    assert_printed(c2, "cctx.Background.WithValue(key).WithValue(key)");
    assert_printed(c4, "cctx.Background.WithValue(key).WithValue(key).WithValue(key3).WithValue(key)");
    const cctx_t *all[] = {o4, o3, o2, o1, c4, c3, c2, c1};
    for (size_t i = 0; i < 8; i++)
        cctx_unref(all[i]);
}

static void cancel_one(unsigned index, void *arg)
{
    cctx_t **contexts = arg;
    cctx_cancel(contexts[index]);
    CHECK(cctx_err(contexts[index]) == ECANCELED);
}

/* Go: TestSimultaneousCancels. C1, C3 */
static void test_simultaneous_cancels(void **state)
{
    (void)state;
    enum { N = 101 };
    cctx_t *contexts[N], *shuffled[N];
    rng_t rng = rng_make(test_seed(), 1);
    contexts[0] = cctx_with_cancel(cctx_background());
    for (size_t i = 1; i < N; i++)
        contexts[i] = cctx_with_cancel(contexts[(i - 1) / 4]);
    memcpy(shuffled, contexts, sizeof contexts);
    for (size_t i = N - 1; i > 0; i--) {
        size_t j = (size_t)rng_below(&rng, i + 1);
        cctx_t *swap = shuffled[i];
        shuffled[i] = shuffled[j];
        shuffled[j] = swap;
    }
    threads_run(N, cancel_one, shuffled);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(cctx_wait(shuffled[i]), ECANCELED);
        assert_err(shuffled[i], ECANCELED);
    }
    for (size_t i = 0; i < N; i++)
        cctx_unref(shuffled[i]);
}

typedef struct pair {
    cctx_t *parent, *child;
} pair_t;

static void *cancel_child_when_parent_is_done(void *arg)
{
    pair_t *pair = arg;
    CHECK(cctx_wait(pair->parent) == ECANCELED);
    cctx_cancel(pair->child);
    return NULL;
}

/* Go: TestInterlockedCancels. C1, C3 */
static void test_interlocked_cancels(void **state)
{
    (void)state;
    pair_t pair;
    pair.parent = cctx_with_cancel(cctx_background());
    pair.child = cctx_with_cancel(pair.parent);
    pthread_t thread = thread_start(cancel_child_when_parent_is_done, &pair);
    assert_true(cctx_cancel(pair.parent));
    assert_int_equal(cctx_wait(pair.child), ECANCELED);
    thread_join(thread);
    cctx_unref(pair.child);
    cctx_unref(pair.parent);
}

static void layers(uint64_t stream, bool timeouts)
{
    enum { LAYERS = 60 };
    static cctx_key_t keys[LAYERS];
    rng_t rng = rng_make(test_seed(), stream);
    const cctx_t *chain[LAYERS + 1] = {cctx_background()};
    cctx_t *cancels[LAYERS];
    size_t cancelables = 0;
    bool is_value[LAYERS] = {false};
    for (size_t i = 0; i < LAYERS; i++) {
        size_t kind = i < 3 ? i : (size_t)rng_below(&rng, 3);
        if (kind == 0) {
            is_value[i] = true;
            chain[i + 1] = cctx_with_value(chain[i], &keys[i], &keys[i]);
        } else {
            cctx_t *c = kind == 1 ? cctx_with_cancel(chain[i])
                                  : cctx_with_timeout(chain[i], timeouts ? SHORT : VERY_LONG);
            cancels[cancelables++] = c;
            chain[i + 1] = c;
        }
        assert_non_null(chain[i + 1]);
    }
    const cctx_t *last = chain[LAYERS];
    assert_printed_prefix(last, "cctx.Background.");
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < LAYERS; i++)
            assert_ptr_equal(cctx_value(last, &keys[i]), is_value[i] ? &keys[i] : NULL);
        if (turn == 0 && timeouts) {
            assert_int_equal(cctx_wait(last), ETIMEDOUT);
        } else if (turn == 0) {
            assert_err(last, 0);
            assert_true(cctx_cancel(cancels[rng_below(&rng, cancelables)]));
            assert_err(last, ECANCELED);
        }
    }
    for (size_t i = LAYERS; i > 0; i--)
        cctx_unref(chain[i]);
}

/* Go: TestLayersCancel. C3, C16 */
static void test_layers_cancel(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 200; round++)
        layers(round, false);
}

/* Go: TestLayersTimeout. C3, C13, C16 */
static void test_layers_timeout(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 20; round++)
        layers(1000 + round, true);
}

static const cctx_cause_t because = {7, "Because!"};

/* Go: TestWithCancelCanceledParent. C3, C9 */
static void test_with_cancel_canceled_parent(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel_cause(parent, &because));
    cctx_t *c = cctx_with_cancel(parent);
    assert_err(c, ECANCELED);
    assert_ptr_equal(cctx_cause(c), &because);
    cctx_unref(c);
    cctx_unref(parent);
}

static void *cancel_because(void *arg)
{
    CHECK(cctx_cancel_cause(arg, &because));
    return NULL;
}

/* Go: TestWithCancelSimultaneouslyCanceledParent. C3, C9 */
static void test_with_cancel_simultaneously_canceled_parent(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        cctx_t *parent = cctx_with_cancel(cctx_background());
        pthread_t thread = thread_start(cancel_because, parent);
        cctx_t *c = cctx_with_cancel(parent);
        assert_int_equal(cctx_wait(c), ECANCELED);
        assert_ptr_equal(cctx_cause(c), &because);
        thread_join(thread);
        cctx_unref(c);
        cctx_unref(parent);
    }
}

/* Go: TestWithValueChecksKey. Every pointer compares, so that the missing key is the one mistake left. C32 */
static void test_with_value_checks_key(void **state)
{
    (void)state;
    char bar[] = "bar";
    errno = 0;
    assert_null(cctx_with_value(cctx_background(), NULL, bar));
    assert_int_equal(errno, EINVAL);
}

/* Go: TestInvalidDerivedFail. C32 */
static void test_invalid_derived_fail(void **state)
{
    (void)state;
    static const cctx_key_t foo = {"foo", NULL};
    errno = 0;
    assert_null(cctx_with_cancel(NULL));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_deadline(NULL, cctx_now() + SHORT));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(cctx_with_value(NULL, &foo, NULL));
    assert_int_equal(errno, EINVAL);
}

/* Go: TestDeadlineExceededSupportsTimeout. C9 */
static void test_deadline_exceeded_supports_timeout(void **state)
{
    (void)state;
    assert_int_equal(cctx_deadline_exceeded.code, ETIMEDOUT);
    assert_string_equal(cctx_deadline_exceeded.text, "context deadline exceeded");
    assert_string_equal(cctx_strerror(ETIMEDOUT), "context deadline exceeded");
    assert_string_equal(cctx_strerror(ECANCELED), "context canceled");
}

static const cctx_cause_t parent_cause = {101, "parentCause"}, child_cause = {102, "childCause"},
                          too_slow = {103, "tooSlow"}, finished_early = {104, "finishedEarly"};

/* What a row of test_cause does to a fresh parent and its child, step by step. */
typedef enum step {
    END,
    CANCEL_PARENT,
    CANCEL_PARENT_CAUSE,
    CANCEL_PARENT_EARLY,
    CANCEL_PARENT_NO_CAUSE,
    CANCEL_CHILD,
    CANCEL_CHILD_CAUSE,
} step_t;

typedef enum shape {
    ONE,                  /* the parent is looked at */
    CHILD,                /* WithCancel below the parent */
    TIMEOUT_0,            /* WithTimeout(0) below the parent */
    TIMEOUT_0_CAUSE,      /* WithTimeoutCause(0, tooSlow) */
    TIMEOUT_LONG,         /* WithTimeout(forever) */
    TIMEOUT_LONG_CAUSE,   /* WithTimeoutCause(forever, tooSlow) */
    WITHOUT,              /* WithoutCancel */
    WITHOUT_TIMEOUT_0,    /* WithoutCancel below a WithTimeoutCause(0) */
} shape_t;

/* Go: TestCause, but for its three rows with a Context of the program's own making, which C has none of.
   C1, C9, C12, C19 */
static void test_cause(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        shape_t shape;
        step_t steps[3];
        int err;
        const cctx_cause_t *cause;
    } rows[] = {
        {"WithCancel", ONE, {CANCEL_PARENT}, ECANCELED, &cctx_canceled},
        {"WithCancelCause", ONE, {CANCEL_PARENT_CAUSE}, ECANCELED, &parent_cause},
        {"WithCancelCause nil", ONE, {CANCEL_PARENT_NO_CAUSE}, ECANCELED, &cctx_canceled},
        {"parent before child", CHILD, {CANCEL_PARENT_CAUSE, CANCEL_CHILD_CAUSE}, ECANCELED, &parent_cause},
        {"parent after child", CHILD, {CANCEL_CHILD_CAUSE, CANCEL_PARENT_CAUSE}, ECANCELED, &child_cause},
        {"parent cause before nil", CHILD, {CANCEL_PARENT_CAUSE, CANCEL_CHILD}, ECANCELED, &parent_cause},
        {"parent cause after nil", CHILD, {CANCEL_CHILD, CANCEL_PARENT_CAUSE}, ECANCELED, &cctx_canceled},
        {"child cause after nil", CHILD, {CANCEL_PARENT, CANCEL_CHILD_CAUSE}, ECANCELED, &cctx_canceled},
        {"child cause before nil", CHILD, {CANCEL_CHILD_CAUSE, CANCEL_PARENT}, ECANCELED, &child_cause},
        {"WithTimeout", TIMEOUT_0, {CANCEL_CHILD}, ETIMEDOUT, &cctx_deadline_exceeded},
        {"WithTimeout canceled", TIMEOUT_LONG, {CANCEL_CHILD}, ECANCELED, &cctx_canceled},
        {"WithTimeoutCause", TIMEOUT_0_CAUSE, {CANCEL_CHILD}, ETIMEDOUT, &too_slow},
        {"WithTimeoutCause canceled", TIMEOUT_LONG_CAUSE, {CANCEL_CHILD}, ECANCELED, &cctx_canceled},
        {"WithTimeoutCause stacked", TIMEOUT_0_CAUSE, {CANCEL_PARENT_EARLY}, ETIMEDOUT, &too_slow},
        {"stacked canceled", TIMEOUT_LONG_CAUSE, {CANCEL_PARENT_EARLY}, ECANCELED, &finished_early},
        {"WithoutCancel canceled", WITHOUT, {CANCEL_PARENT_EARLY}, 0, NULL},
        {"WithoutCancel timeout", WITHOUT_TIMEOUT_0, {END}, 0, NULL},
    };
    assert_null(cctx_cause(cctx_background()));
    assert_null(cctx_cause(cctx_todo()));
    const cctx_t *without = cctx_without_cancel(cctx_background());
    assert_err(without, 0);
    assert_null(cctx_cause(without));
    cctx_unref(without);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cctx_t *parent = cctx_with_cancel(cctx_background()), *child = NULL;
        const cctx_t *look = parent;
        switch (rows[i].shape) {
        case ONE: break;
        case CHILD: look = child = cctx_with_cancel(parent); break;
        case TIMEOUT_0: look = child = cctx_with_timeout(parent, 0); break;
        case TIMEOUT_0_CAUSE: look = child = cctx_with_timeout_cause(parent, 0, &too_slow); break;
        case TIMEOUT_LONG: look = child = cctx_with_timeout(parent, VERY_LONG); break;
        case TIMEOUT_LONG_CAUSE: look = child = cctx_with_timeout_cause(parent, VERY_LONG, &too_slow); break;
        case WITHOUT: look = cctx_without_cancel(parent); break;
        case WITHOUT_TIMEOUT_0:
            child = cctx_with_timeout_cause(parent, 0, &too_slow);
            look = cctx_without_cancel(child);
            break;
        }
        for (const step_t *step = rows[i].steps; *step != END; step++) {
            switch (*step) {
            case CANCEL_PARENT: cctx_cancel(parent); break;
            case CANCEL_PARENT_CAUSE: cctx_cancel_cause(parent, &parent_cause); break;
            case CANCEL_PARENT_EARLY: cctx_cancel_cause(parent, &finished_early); break;
            case CANCEL_PARENT_NO_CAUSE: cctx_cancel_cause(parent, NULL); break;
            case CANCEL_CHILD: cctx_cancel(child); break;
            case CANCEL_CHILD_CAUSE: cctx_cancel_cause(child, &child_cause); break;
            case END: break;
            }
        }
        if (cctx_err(look) != rows[i].err || cctx_cause(look) != rows[i].cause)
            print_error("%s: err %d, want %d\n", rows[i].name, cctx_err(look), rows[i].err);
        assert_err(look, rows[i].err);
        assert_ptr_equal(cctx_cause(look), rows[i].cause);
        if (look != child && look != parent)
            cctx_unref(look);
        cctx_unref(child);
        cctx_unref(parent);
    }
}

/* Go: TestCauseRace. C5, C9 */
static void test_cause_race(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    pthread_t thread = thread_start(cancel_because, ctx);
    const cctx_cause_t *cause;
    while (!(cause = cctx_cause(ctx)))
        sched_yield();
    assert_ptr_equal(cause, &because);
    thread_join(thread);
    cctx_unref(ctx);
}

/* Go: TestWithoutCancel. C19, C24 */
static void test_without_cancel(void **state)
{
    (void)state;
    static const cctx_key_t key = {"key", NULL};
    char value[] = "value";
    const cctx_t *with = cctx_with_value(cctx_background(), &key, value);
    const cctx_t *ctx = cctx_without_cancel(with);
    cctx_time_t deadline = 0;
    assert_false(cctx_deadline(ctx, &deadline));
    assert_null(cctx_done(ctx));
    assert_err(ctx, 0);
    assert_ptr_equal(cctx_value(ctx, &key), value);
    cctx_unref(ctx);
    cctx_unref(with);
}

/* Go: TestAfterFuncCalledAfterCancel. C28 */
static void test_after_func_called_after_cancel(void **state)
{
    (void)state;
    int ran = 0;
    cctx_callback_t cb = {0};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_after_func(ctx, &cb, count, &ran), 0);
    assert_false(cctx_wait_for(ctx, SHORT));
    assert_int_equal(__atomic_load_n(&ran, __ATOMIC_SEQ_CST), 0);
    assert_true(cctx_cancel(ctx));
    assert_int_equal(ran, 1);
    assert_false(cctx_stop(&cb));
    cctx_unref(ctx);
}

/* Go: TestAfterFuncCalledAfterTimeout. C13, C28 */
static void test_after_func_called_after_timeout(void **state)
{
    (void)state;
    gate_t ran = {0};
    cctx_callback_t cb = {0};
    cctx_t *ctx = cctx_with_timeout(cctx_background(), SHORT);
    assert_int_equal(cctx_after_func(ctx, &cb, open_gate, &ran), 0);
    gate_wait(&ran);
    assert_err(ctx, ETIMEDOUT);
    assert_false(cctx_stop_wait(&cb));
    cctx_unref(ctx);
}

/* Go: TestAfterFuncCalledImmediately. C28 */
static void test_after_func_called_immediately(void **state)
{
    (void)state;
    int ran = 0;
    cctx_callback_t cb = {0};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_true(cctx_cancel(ctx));
    assert_int_equal(cctx_after_func(ctx, &cb, count, &ran), 0);
    assert_int_equal(ran, 1);
    cctx_unref(ctx);
}

/* Go: TestAfterFuncNotCalledAfterStop. C28, C29 */
static void test_after_func_not_called_after_stop(void **state)
{
    (void)state;
    int ran = 0;
    cctx_callback_t cb = {0};
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_after_func(ctx, &cb, count, &ran), 0);
    assert_true(cctx_stop(&cb));
    assert_true(cctx_cancel(ctx));
    assert_int_equal(ran, 0);
    assert_false(cctx_stop(&cb));
    cctx_unref(ctx);
}

typedef struct rendezvous {
    pthread_t registrar;
    gate_t started, release;
    bool ran_here; /* in after_func: the deadline had passed */
    int finished;
} rendezvous_t;

static void meet(void *arg)
{
    rendezvous_t *r = arg;
    gate_open(&r->started);
    if (pthread_equal(pthread_self(), r->registrar))
        r->ran_here = true;
    else
        gate_wait(&r->release);
    r->finished = 1;
}

/* Go: TestAfterFuncCalledAsynchronously. In Go nobody who ends a context waits for a function. Here the
   thread that cancels runs it; a deadline and a waiter do not wait for it. C28, C30 */
static void test_after_func_called_asynchronously(void **state)
{
    (void)state;
    for (int64_t timeout = SHORT;; timeout *= 2) {
        rendezvous_t r = {.registrar = pthread_self()};
        cctx_callback_t cb = {0};
        cctx_t *ctx = cctx_with_timeout(cctx_background(), timeout);
        assert_int_equal(cctx_after_func(ctx, &cb, meet, &r), 0);
        bool ran_here = r.ran_here;
        assert_int_equal(cctx_wait(ctx), ETIMEDOUT);
        gate_wait(&r.started);
        assert_false(cctx_stop(&cb));
        gate_open(&r.release);
        assert_false(cctx_stop_wait(&cb));
        assert_int_equal(r.finished, 1);
        cctx_unref(ctx);
        if (!ran_here)
            break;
    }
}

static void *cancel_it(void *arg)
{
    CHECK(cctx_cancel(arg));
    return NULL;
}

/* Go: TestContextErrDoneRace. C2, C24 */
static void test_context_err_done_race(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        const uint32_t *done = cctx_done(ctx);
        pthread_t thread = thread_start(cancel_it, ctx);
        while (cctx_err(ctx) == 0)
            continue;
        assert_int_equal(__atomic_load_n(done, __ATOMIC_ACQUIRE) & 1u, 1u);
        thread_join(thread);
        cctx_unref(ctx);
    }
}

/* ---- the examples ---- */

typedef struct channel {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int value; /* 0: empty */
} channel_t;

typedef struct generator {
    const cctx_t *ctx;
    channel_t channel;
} generator_t;

static void channel_broadcast(void *arg)
{
    channel_t *channel = arg;
    pthread_mutex_lock(&channel->lock);
    pthread_cond_broadcast(&channel->changed);
    pthread_mutex_unlock(&channel->lock);
}

static void *generate(void *arg)
{
    generator_t *generator = arg;
    channel_t *channel = &generator->channel;
    cctx_callback_t cb;
    CHECK(cctx_after_func(generator->ctx, &cb, channel_broadcast, channel) == 0);
    pthread_mutex_lock(&channel->lock);
    for (int n = 1; !cctx_is_done(generator->ctx); n++) {
        while (channel->value != 0 && !cctx_is_done(generator->ctx))
            pthread_cond_wait(&channel->changed, &channel->lock);
        channel->value = n;
        pthread_cond_broadcast(&channel->changed);
    }
    pthread_mutex_unlock(&channel->lock);
    cctx_stop_wait(&cb);
    return NULL;
}

/* Go: ExampleWithCancel. C3, C28 */
static void example_with_cancel(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    generator_t generator = {ctx, {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}};
    channel_t *channel = &generator.channel;
    pthread_t thread = thread_start(generate, &generator);
    for (int n = 1; n <= 5; n++) {
        pthread_mutex_lock(&channel->lock);
        while (channel->value == 0)
            pthread_cond_wait(&channel->changed, &channel->lock);
        assert_int_equal(channel->value, n);
        channel->value = 0;
        pthread_cond_broadcast(&channel->changed);
        pthread_mutex_unlock(&channel->lock);
    }
    assert_true(cctx_cancel(ctx));
    thread_join(thread);
    cctx_unref(ctx);
}

/* Go: ExampleWithDeadline. C13 */
static void example_with_deadline(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_deadline(cctx_background(), cctx_now() + SHORT);
    assert_string_equal(cctx_strerror(cctx_wait(ctx)), "context deadline exceeded");
    cctx_close(ctx);
}

/* Go: ExampleWithTimeout. C13 */
static void example_with_timeout(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), SHORT);
    assert_string_equal(cctx_strerror(cctx_wait(ctx)), "context deadline exceeded");
    assert_string_equal(cctx_cause(ctx)->text, "context deadline exceeded");
    cctx_close(ctx);
}

/* Go: ExampleWithValue. C16 */
static void example_with_value(void **state)
{
    (void)state;
    static const cctx_key_t language = {"language", NULL}, color = {"color", NULL};
    char go[] = "Go";
    const cctx_t *ctx = cctx_with_value(cctx_background(), &language, go);
    assert_string_equal(cctx_value(ctx, &language), "Go");
    assert_null(cctx_value(ctx, &color));
    cctx_unref(ctx);
}

static void wait_on_cond(unsigned index, void *arg)
{
    (void)index;
    channel_t *channel = arg;
    cctx_callback_t cb;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    /* Registered before the lock is taken: on a context that is done already, fn runs here and takes it. */
    CHECK(cctx_after_func(ctx, &cb, channel_broadcast, channel) == 0);
    pthread_mutex_lock(&channel->lock);
    while (channel->value == 0 && !cctx_is_done(ctx))
        pthread_cond_wait(&channel->changed, &channel->lock);
    CHECK(channel->value == 0);
    pthread_mutex_unlock(&channel->lock);
    cctx_stop_wait(&cb);
    CHECK(strcmp(cctx_strerror(cctx_err(ctx)), "context deadline exceeded") == 0);
    cctx_close(ctx);
}

/* Go: ExampleAfterFunc_cond. C28, C29 */
static void example_after_func_cond(void **state)
{
    (void)state;
    channel_t channel = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    threads_run(4, wait_on_cond, &channel);
}

static void end_reading(void *arg)
{
    shutdown(*(int *)arg, SHUT_RD);
}

/* Go: ExampleAfterFunc_connection. C28, C29 */
static void example_after_func_connection(void **state)
{
    (void)state;
    int pair[2];
    char buffer[64];
    cctx_callback_t cb;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), SHORT);
    assert_int_equal(cctx_after_func(ctx, &cb, end_reading, &pair[0]), 0);
    assert_int_equal(read(pair[0], buffer, sizeof buffer), 0);
    assert_false(cctx_stop_wait(&cb));
    assert_int_equal(cctx_err(ctx), ETIMEDOUT);
    cctx_close(ctx);
    close(pair[0]);
    close(pair[1]);
}

typedef struct merge {
    cctx_t *merged;
    const cctx_t *other;
} merge_t;

static void merge_cancel(void *arg)
{
    merge_t *merge = arg;
    cctx_cancel_cause(merge->merged, cctx_cause(merge->other));
}

/* Go: ExampleAfterFunc_merge, as Go does it and by the merge that the library has. C9, C28, B1 */
static void example_after_func_merge(void **state)
{
    (void)state;
    static const cctx_cause_t ctx2_canceled = {2, "ctx2 canceled"};
    cctx_t *ctx1 = cctx_with_cancel(cctx_background()), *ctx2 = cctx_with_cancel(cctx_background());
    cctx_callback_t cb;
    merge_t merge = {cctx_with_cancel(ctx1), ctx2};
    const cctx_t *both[] = {ctx1, ctx2};
    cctx_t *any = cctx_with_any(both, 2);
    assert_int_equal(cctx_after_func(ctx2, &cb, merge_cancel, &merge), 0);
    assert_true(cctx_cancel_cause(ctx2, &ctx2_canceled));
    assert_int_equal(cctx_wait(merge.merged), ECANCELED);
    assert_ptr_equal(cctx_cause(merge.merged), &ctx2_canceled);
    assert_err(any, ECANCELED);
    assert_ptr_equal(cctx_cause(any), &ctx2_canceled);
    assert_err(ctx1, 0);
    assert_false(cctx_stop_wait(&cb));
    cctx_unref(any);
    cctx_close(merge.merged);
    cctx_unref(ctx2);
    cctx_close(ctx1);
}

/* ---- the table ---- */

#define OWN_CONTEXT "a struct cctx is opaque: a program makes no context type of its own"
#define MEASURES "it measures; the benchmarks do"

typedef struct counterpart {
    const char *go;
    CMUnitTestFunction test; /* NULL: none */
    const char *name;        /* the counterpart's name, or the reason why there is none */
} counterpart_t;

#define ROW(go, test) {go, test, #test}
#define NONE(go, reason) {go, NULL, reason}

static const counterpart_t counterparts[] = {
    ROW("TestBackground", test_background),
    ROW("TestTODO", test_todo),
    ROW("TestWithCancel", test_with_cancel),
    ROW("TestParentFinishesChild", test_parent_finishes_child),
    ROW("TestChildFinishesFirst", test_child_finishes_first),
    ROW("TestCancelRemoves", test_cancel_removes),
    NONE("TestCustomContextGoroutines", OWN_CONTEXT),
    ROW("TestDeadline", test_deadline),
    ROW("TestTimeout", test_timeout),
    ROW("TestCanceledTimeout", test_canceled_timeout),
    ROW("TestValues", test_values),
    NONE("TestAllocs", "it bounds the allocations of Go's own compiler and runtime"),
    ROW("TestSimultaneousCancels", test_simultaneous_cancels),
    ROW("TestInterlockedCancels", test_interlocked_cancels),
    ROW("TestLayersCancel", test_layers_cancel),
    ROW("TestLayersTimeout", test_layers_timeout),
    ROW("TestWithCancelCanceledParent", test_with_cancel_canceled_parent),
    ROW("TestWithCancelSimultaneouslyCanceledParent", test_with_cancel_simultaneously_canceled_parent),
    ROW("TestWithValueChecksKey", test_with_value_checks_key),
    ROW("TestInvalidDerivedFail", test_invalid_derived_fail),
    ROW("TestDeadlineExceededSupportsTimeout", test_deadline_exceeded_supports_timeout),
    NONE("TestDeadlineExceededIsNetError", "C has no net.Error; the code is ETIMEDOUT, see above"),
    ROW("TestCause", test_cause),
    ROW("TestCauseRace", test_cause_race),
    ROW("TestWithoutCancel", test_without_cancel),
    NONE("TestCustomContextPropagation", OWN_CONTEXT),
    NONE("TestCustomContextCause", OWN_CONTEXT),
    ROW("TestAfterFuncCalledAfterCancel", test_after_func_called_after_cancel),
    ROW("TestAfterFuncCalledAfterTimeout", test_after_func_called_after_timeout),
    ROW("TestAfterFuncCalledImmediately", test_after_func_called_immediately),
    ROW("TestAfterFuncNotCalledAfterStop", test_after_func_not_called_after_stop),
    ROW("TestAfterFuncCalledAsynchronously", test_after_func_called_asynchronously),
    ROW("TestContextErrDoneRace", test_context_err_done_race),
    NONE("TestCustomContextAfterFuncCancel", OWN_CONTEXT),
    NONE("TestCustomContextAfterFuncTimeout", OWN_CONTEXT),
    NONE("TestCustomContextAfterFuncAfterFunc", OWN_CONTEXT),
    NONE("TestCustomContextAfterFuncUnregisterCancel", OWN_CONTEXT),
    NONE("TestCustomContextAfterFuncUnregisterTimeout", OWN_CONTEXT),
    NONE("TestCustomContextAfterFuncUnregisterAfterFunc", OWN_CONTEXT),
    ROW("ExampleWithCancel", example_with_cancel),
    ROW("ExampleWithDeadline", example_with_deadline),
    ROW("ExampleWithTimeout", example_with_timeout),
    ROW("ExampleWithValue", example_with_value),
    ROW("ExampleAfterFunc_cond", example_after_func_cond),
    ROW("ExampleAfterFunc_connection", example_after_func_connection),
    ROW("ExampleAfterFunc_merge", example_after_func_merge),
    NONE("BenchmarkCommonParentCancel", MEASURES),
    NONE("BenchmarkWithTimeout", MEASURES),
    NONE("BenchmarkCancelTree", MEASURES),
    NONE("BenchmarkCheckCanceled", MEASURES),
    NONE("BenchmarkContextCancelDone", MEASURES),
    NONE("BenchmarkDeepValueNewGoRoutine", MEASURES),
    NONE("BenchmarkDeepValueSameGoRoutine", MEASURES),
    NONE("BenchmarkErrOK", MEASURES),
    NONE("BenchmarkErrCanceled", MEASURES),
};

enum { COUNTERPARTS = sizeof counterparts / sizeof *counterparts };

static bool line_of(const char *command, char *line, size_t size)
{
    FILE *pipe = popen(command, "r");
    bool got = pipe && fgets(line, (int)size, pipe);
    if (got)
        line[strcspn(line, "\n")] = '\0';
    return (!pipe || pclose(pipe) == 0) && got && line[0] != '\0';
}

/* The name of the test, example or benchmark that a line of Go defines; an XTestX is run by its TestX. */
static bool name_of(const char *line, char name[128])
{
    static const char *const kinds[] = {"func Test", "func XTest", "func Example", "func Benchmark"};
    for (size_t i = 0; i < 4; i++) {
        if (strncmp(line, kinds[i], strlen(kinds[i])) == 0) {
            const char *begin = line + 5 + (line[5] == 'X');
            size_t length = strcspn(begin, "(");
            if (length < 128) {
                memcpy(name, begin, length);
                name[length] = '\0';
                return true;
            }
        }
    }
    return false;
}

/* The table has the names of the toolchain's files, all of them and no others. */
static void the_table_names_what_the_toolchain_has(void **state)
{
    (void)state;
    char root[4000], version[64], path[4096], file_name[8192], line[1024], name[128];
    bool seen[COUNTERPARTS] = {false};
    if (!line_of("go env GOROOT 2>/dev/null", root, sizeof root) ||
        !line_of("go env GOVERSION 2>/dev/null", version, sizeof version)) {
        print_message("Go is not installed here: the table was not compared with its files\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/src/context", root);
    DIR *dir = opendir(path);
    if (!dir) {
        print_message("%s has no sources of its context package: the table was not compared\n", version);
        skip();
    }
    /* Other versions may have other tests: those are named, and only 1.26 must agree with the table. */
    bool exact = strncmp(version, "go1.26", 6) == 0;
    unsigned unknown = 0, missing = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        if (length < 8 || strcmp(entry->d_name + length - 8, "_test.go") != 0)
            continue;
        snprintf(file_name, sizeof file_name, "%s/%s", path, entry->d_name);
        FILE *file = fopen(file_name, "r");
        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
            if (!name_of(line, name))
                continue;
            size_t i = 0;
            while (i < COUNTERPARTS && strcmp(counterparts[i].go, name) != 0)
                i++;
            if (i < COUNTERPARTS) {
                seen[i] = true;
            } else {
                unknown++;
                print_message("%s of %s is not in the table\n", name, version);
            }
        }
        fclose(file);
    }
    closedir(dir);
    for (size_t i = 0; i < COUNTERPARTS; i++) {
        if (!seen[i]) {
            missing++;
            print_message("%s of the table is not in %s\n", counterparts[i].go, version);
        }
    }
    if (exact) {
        assert_int_equal(unknown, 0);
        assert_int_equal(missing, 0);
    } else {
        print_message("the table is Go 1.26's; %s is installed and was compared for information\n", version);
    }
}

int main(void)
{
    struct CMUnitTest tests[COUNTERPARTS + 1] = {
        cmocka_unit_test(the_table_names_what_the_toolchain_has),
    };
    size_t n = 1;
    for (size_t i = 0; i < COUNTERPARTS; i++) {
        if (counterparts[i].test)
            tests[n++] = (struct CMUnitTest){counterparts[i].name, counterparts[i].test, NULL, NULL, NULL};
        else
            print_message("%s has no counterpart: %s\n", counterparts[i].go, counterparts[i].name);
    }
    return _cmocka_run_group_tests("go_context_test", tests, n, NULL, NULL);
}
