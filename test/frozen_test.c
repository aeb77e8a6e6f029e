/* SPDX-License-Identifier: BSD-2-Clause */
/* What never changes: the first word, two bits, the sizes of the caller's structs, looks in handlers. C31. */
#include "support.h"

#include <sched.h>

static const cctx_key_t key = {"key", NULL};

static const uint32_t *first_word(const cctx_t *ctx)
{
    return *(const uint32_t *const *)(const void *)ctx;
}

/* C31 */
static void the_callers_structs_have_their_sizes(void **state)
{
    (void)state;
    assert_int_equal(sizeof(cctx_callback_t), 64);
    assert_int_equal(sizeof(cctx_cause_t), 2 * sizeof(void *));
    assert_int_equal(offsetof(cctx_cause_t, code), 0);
    assert_int_equal(offsetof(cctx_cause_t, text), sizeof(void *));
    assert_int_equal(sizeof(cctx_key_t), 2 * sizeof(void *));
    assert_int_equal(offsetof(cctx_key_t, name), 0);
    assert_int_equal(offsetof(cctx_key_t, destroy), sizeof(void *));
    assert_int_equal(sizeof(cctx_time_t), 8);
    assert_true((cctx_time_t)-1 < 0);
    assert_true(CCTX_NEVER == INT64_MAX);
}

/* C31 */
static void the_storage_of_a_callback_is_all_that_is_written(void **state)
{
    (void)state;
    struct {
        char before[64];
        cctx_callback_t callback;
        char after[64];
    } area;
    memset(&area, '#', sizeof area);
    memset(&area.callback, 0, sizeof area.callback);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_int_equal(cctx_after_func(ctx, &area.callback, (void (*)(void *))abort, NULL), 0);
    assert_true(cctx_stop(&area.callback));
    for (int i = 0; i < 64; i++) {
        assert_int_equal(area.before[i], '#');
        assert_int_equal(area.after[i], '#');
    }
    cctx_unref(ctx);
}

/* C31, C2, C24: the pointer does not change, and bit 0 and bit 1 of what it points to say it all. */
static void the_first_word_points_to_the_done_word(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_background());
    cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_MS(5));
    cctx_t *far = cctx_with_timeout(top, CCTX_S(3600));
    cctx_t *late = cctx_with_timeout(top, 0);
    const cctx_t *value = cctx_with_value(top, &key, NULL);
    cctx_t *any = cctx_with_any((const cctx_t *[]){top, cctx_todo()}, 2);
    cctx_t *under_timed = cctx_with_cancel(timed);
    const cctx_t *all[] = {top, timed, far, late, value, any, under_timed};
    enum { ALL = sizeof all / sizeof *all };
    const uint32_t *word[ALL];
    for (int i = 0; i < ALL; i++) {
        word[i] = first_word(all[i]);
        assert_non_null(word[i]);
        if (all[i] != timed && all[i] != under_timed) /* these may have ended by now */
            assert_int_equal(*word[i] & 1, all[i] == late);
        assert_ptr_equal(cctx_done(all[i]), word[i]);
    }
    assert_int_equal(cctx_wait(timed), ETIMEDOUT);
    assert_int_equal(cctx_wait(under_timed), ETIMEDOUT);
    cctx_cancel(top);
    for (int i = 0; i < ALL; i++) {
        bool by_deadline = all[i] == timed || all[i] == late || all[i] == under_timed;
        assert_ptr_equal(first_word(all[i]), word[i]);
        assert_int_equal(__atomic_load_n(word[i], __ATOMIC_ACQUIRE) & 3, by_deadline ? 3 : 1);
        cctx_unref(all[i]);
    }
}

/* C31: what never ends has a word, too, so that a look needs no test for it. */
static void contexts_that_never_end_have_a_word_that_stays_live(void **state)
{
    (void)state;
    const cctx_t *value = cctx_with_value(cctx_background(), &key, NULL);
    cctx_t *canceled = cctx_with_cancel(cctx_background());
    const cctx_t *apart = cctx_without_cancel(canceled);
    cctx_cancel(canceled);
    const cctx_t *all[] = {cctx_background(), cctx_todo(), value, apart};
    for (int i = 0; i < 4; i++) {
        assert_non_null(first_word(all[i]));
        assert_int_equal(*first_word(all[i]) & 1, 0);
        assert_null(cctx_done(all[i]));
    }
    cctx_unref(value);
    cctx_unref(apart);
    cctx_unref(canceled);
}

/* ---- looks in a signal handler ---- */

enum { SIGNALS = SCALED(500) };

static const cctx_t *volatile looked_at[4];
static int handled; /* atomic: it tells the sender that it may go on */
static volatile int wrong;

static void look(int sig)
{
    (void)sig;
    int before = errno;
    wrong += cctx_err(looked_at[0]) != 0 || cctx_is_done(looked_at[0]);
    wrong += cctx_err(looked_at[1]) != ECANCELED || !cctx_is_done(looked_at[1]);
    wrong += cctx_err(looked_at[2]) != ETIMEDOUT;
    /* This one is in the middle of its life: its two looks may differ in one direction only. */
    bool done = cctx_is_done(looked_at[3]);
    int err = cctx_err(looked_at[3]);
    wrong += done && err != ECANCELED;
    wrong += errno != before;
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELEASE);
}

static void *send_signals(void *arg)
{
    pthread_t thread = *(pthread_t *)arg;
    for (int sent = 0; sent < SIGNALS; sent++) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        while (__atomic_load_n(&handled, __ATOMIC_ACQUIRE) == sent)
            sched_yield();
    }
    return NULL;
}

/* C31: the handler interrupts a thread that is inside derive, cancel and unref most of the time. */
static void looks_are_safe_in_a_signal_handler(void **state)
{
    (void)state;
    cctx_t *live = cctx_with_cancel(cctx_background());
    cctx_t *canceled = cctx_with_cancel(cctx_background());
    cctx_t *late = cctx_with_timeout(cctx_background(), 0);
    cctx_t *current = cctx_with_cancel(live);
    cctx_cancel(canceled);
    looked_at[0] = live;
    looked_at[1] = canceled;
    looked_at[2] = late;
    looked_at[3] = current;
    struct sigaction action = {.sa_handler = look, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t self = pthread_self();
    pthread_t sender = thread_start(send_signals, &self);
    while (__atomic_load_n(&handled, __ATOMIC_ACQUIRE) < SIGNALS) {
        cctx_t *next = cctx_with_cancel(live);
        cctx_t *below = cctx_with_timeout(next, CCTX_S(3600));
        cctx_t *last = current;
        current = next;
        looked_at[3] = next;
        cctx_unref(last);
        cctx_cancel(next);
        cctx_unref(below);
    }
    thread_join(sender);
    signal(SIGUSR1, SIG_DFL);
    assert_int_equal(wrong, 0);
    cctx_unref(current);
    cctx_unref(late);
    cctx_unref(canceled);
    cctx_unref(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_callers_structs_have_their_sizes),
        cmocka_unit_test(the_storage_of_a_callback_is_all_that_is_written),
        cmocka_unit_test(the_first_word_points_to_the_done_word),
        cmocka_unit_test(contexts_that_never_end_have_a_word_that_stays_live),
        cmocka_unit_test(looks_are_safe_in_a_signal_handler),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
