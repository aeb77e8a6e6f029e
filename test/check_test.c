/* SPDX-License-Identifier: BSD-2-Clause */
/* A build with CCTX_CHECK=1 ends a misuse by one clear line and an abort; each is planted in a child. C32. */
#define CCTX_FREED_BY(call) /* misuse is planted here, */
#define CCTX_MUST_USE       /* and results do not matter */
#include "support.h"

#if defined(CCTX_CHECK) && CCTX_CHECK

static void run(void *arg)
{
    (void)arg;
}

static cctx_t *volatile stale;

/* A context that was freed, as a leaf of a root, a leaf of a parent, or an inner one. */
static void make_stale(int kind)
{
    cctx_t *parent = cctx_with_cancel(cctx_background());
    cctx_t *ctx = kind == 0 ? cctx_with_cancel(cctx_background()) : cctx_with_cancel(parent);
    if (kind == 2) {
        cctx_t *child = cctx_with_cancel(ctx);
        cctx_unref(child);
    }
    stale = ctx;
    cctx_unref(ctx);
}

static void unref_again(int kind)
{
    make_stale(kind);
    cctx_unref(stale);
}

static void cancel_stale(int kind)
{
    make_stale(kind);
    cctx_cancel(stale);
}

static void derive_from_stale(int kind)
{
    make_stale(kind);
    cctx_t *child = cctx_with_cancel(stale);
    (void)child;
}

static void time_from_stale(int kind)
{
    make_stale(kind);
    cctx_t *child = cctx_with_timeout(stale, CCTX_S(3600));
    (void)child;
}

static void value_of_stale(int kind)
{
    static const cctx_key_t key = {"key", NULL};
    make_stale(kind);
    (void)cctx_value(stale, &key);
}

static void cause_of_stale(int kind)
{
    make_stale(kind);
    (void)cctx_cause(stale);
}

static void ref_stale(int kind)
{
    make_stale(kind);
    cctx_ref(stale);
}

static void close_stale(int kind)
{
    make_stale(kind);
    cctx_close(stale);
}

static void wait_for_stale(int kind)
{
    make_stale(kind);
    cctx_wait_for(stale, 1);
}

static void after_stale(int kind)
{
    static cctx_callback_t callback;
    make_stale(kind);
    cctx_after_func(stale, &callback, run, NULL);
}

static void register_twice(int kind)
{
    static cctx_callback_t callback;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_t *other = kind ? cctx_with_cancel(ctx) : ctx;
    cctx_after_func(ctx, &callback, run, NULL);
    cctx_after_func(other, &callback, run, NULL);
}

/* Forks a child that does it; true if it aborted and said one line on stderr. */
static bool aborts_with_one_line(const char *name, void (*misuse)(int kind), int kind)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the tests, in the child */
        signal(SIGBUS, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        misuse(kind);
        _exit(0);
    }
    close(ends[1]);
    char text[4096];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof text - 1 && (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    bool one_line = length > 5 && strchr(text, '\n') == text + length - 1;
    if (!aborted || !one_line)
        print_error("%s, kind %d: ended with status %#x, said: %s\n", name, kind, (unsigned)status, text);
    return aborted && one_line;
}

/* All kinds are tried before the test fails, so that the output names each that does not abort. */
static int passes_unseen(const char *name, void (*misuse)(int kind), int kinds)
{
    int unseen = 0;
    for (int kind = 0; kind < kinds; kind++)
        unseen += !aborts_with_one_line(name, misuse, kind);
    return unseen;
}

#define UNSEEN(misuse, kinds) passes_unseen(#misuse, misuse, kinds)

/* C32 */
static void an_unref_too_many_aborts(void **state)
{
    (void)state;
    int unseen = UNSEEN(unref_again, 3);
    unseen += UNSEEN(close_stale, 3);
    assert_int_equal(unseen, 0);
}

/* C32 */
static void a_use_after_free_aborts(void **state)
{
    (void)state;
    int unseen = UNSEEN(cancel_stale, 3);
    unseen += UNSEEN(derive_from_stale, 3);
    unseen += UNSEEN(time_from_stale, 3);
    unseen += UNSEEN(value_of_stale, 3);
    unseen += UNSEEN(cause_of_stale, 3);
    unseen += UNSEEN(ref_stale, 3);
    unseen += UNSEEN(wait_for_stale, 3);
    unseen += UNSEEN(after_stale, 3);
    assert_int_equal(unseen, 0);
}

/* C32 */
static void a_callback_registered_twice_aborts(void **state)
{
    (void)state;
    assert_int_equal(UNSEEN(register_twice, 2), 0);
}

static void no_misuse(int kind)
{
    static cctx_callback_t callback;
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(3600));
    cctx_t *child = cctx_with_cancel(ctx);
    cctx_after_func(child, &callback, run, NULL);
    if (kind == 0)
        cctx_stop(&callback);
    else
        cctx_cancel(ctx);
    cctx_after_func(child, &callback, run, NULL); /* storage that is free again may be used again */
    cctx_unref(ctx);
    cctx_cancel(child);
    cctx_unref(child);
    cctx_unref(NULL);
    cctx_unref(cctx_background());
}

/* C32: the checker lets right programs pass, or the tests above would show nothing. */
static void a_right_program_does_not_abort(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            no_misuse(kind);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unref_too_many_aborts),
        cmocka_unit_test(a_use_after_free_aborts),
        cmocka_unit_test(a_callback_registered_twice_aborts),
        cmocka_unit_test(a_right_program_does_not_abort),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    puts("check_test: does not apply, this build has no CCTX_CHECK=1: an_unref_too_many_aborts, "
         "a_use_after_free_aborts, a_callback_registered_twice_aborts, a_right_program_does_not_abort");
    return 0;
}

#endif
