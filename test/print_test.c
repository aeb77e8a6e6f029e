/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx_print: how a context was derived, from the root down, under the rules of snprintf. */
#include "support.h"

static const cctx_key_t user = {"user", NULL};
static const cctx_key_t nameless = {NULL, NULL};
static const cctx_key_t percent = {"%s%n 100%", NULL};
static const cctx_key_t empty = {"", NULL};

static void expect_print(const cctx_t *ctx, const char *expected)
{
    char text[512];
    assert_int_equal(cctx_print(ctx, text, sizeof text), strlen(expected));
    assert_string_equal(text, expected);
}

/* Every kind but those with a deadline prints exactly. C16, C19, B1 */
static void each_kind_has_its_word(void **state)
{
    (void)state;
    expect_print(cctx_background(), "cctx.Background");
    expect_print(cctx_todo(), "cctx.TODO");
    cctx_t *cancel = cctx_with_cancel(cctx_background());
    expect_print(cancel, "cctx.Background.WithCancel");
    const cctx_t *value = cctx_with_value(cancel, &user, NULL);
    expect_print(value, "cctx.Background.WithCancel.WithValue(user)");
    const cctx_t *apart = cctx_without_cancel(value);
    expect_print(apart, "cctx.Background.WithCancel.WithValue(user).WithoutCancel");
    cctx_t *other = cctx_with_cancel(cctx_todo());
    cctx_t *any = cctx_with_any((const cctx_t *[]){other, apart, cancel}, 3);
    expect_print(any, "cctx.TODO.WithCancel.WithAny(3)");
    cctx_t *below = cctx_with_cancel(any);
    expect_print(below, "cctx.TODO.WithCancel.WithAny(3).WithCancel");
    cctx_cancel(other);
    expect_print(below, "cctx.TODO.WithCancel.WithAny(3).WithCancel");
    cctx_unref(below);
    cctx_unref(any);
    cctx_unref(other);
    cctx_unref(apart);
    cctx_unref(value);
    cctx_unref(cancel);
}

/* Names are text, not formats; values are never printed. C16 */
static void keys_print_by_name(void **state)
{
    (void)state;
    char secret[] = "secret";
    const cctx_t *a = cctx_with_value(cctx_background(), &nameless, secret);
    const cctx_t *b = cctx_with_value(a, &percent, secret);
    const cctx_t *c = cctx_with_value(b, &empty, secret);
    expect_print(c, "cctx.Background.WithValue(?).WithValue(%s%n 100%).WithValue()");
    cctx_unref(c);
    cctx_unref(b);
    cctx_unref(a);

    enum { LENGTH = 10000 };
    char *name = malloc(LENGTH + 1);
    memset(name, 'k', LENGTH);
    name[LENGTH] = '\0';
    cctx_key_t key = {name, NULL};
    const cctx_t *ctx = cctx_with_value(cctx_background(), &key, NULL);
    char *text = malloc(LENGTH + 100);
    size_t length = strlen("cctx.Background.WithValue()") + LENGTH;
    assert_int_equal(cctx_print(ctx, text, LENGTH + 100), length);
    assert_int_equal(strlen(text), length);
    assert_non_null(strstr(text, name));
    cctx_unref(ctx);
    free(text);
    free(name);
}

/* Reads the seconds of the last WithDeadline and checks them against the remaining time around the print. */
static void expect_deadline(const cctx_t *ctx, cctx_time_t deadline)
{
    static const char head[] = "cctx.Background.WithDeadline(";
    char text[200], *end;
    int64_t before = deadline - cctx_now();
    size_t length = cctx_print(ctx, text, sizeof text);
    int64_t after = deadline - cctx_now();
    assert_int_equal(length, strlen(text));
    assert_memory_equal(text, head, sizeof head - 1);
    double seconds = strtod(text + sizeof head - 1, &end);
    assert_ptr_not_equal(end, text + sizeof head - 1);
    assert_string_equal(end, "s)");
    assert_true(seconds <= (double)before * 1e-9 + 0.5);
    assert_true(seconds >= (double)after * 1e-9 - 0.5);
    char sign = text[sizeof head - 1];
    assert_true(after <= 0 || sign == '+');
    assert_true(before >= 0 || sign == '-');
}

/* The seconds left, with a sign: + while they last, - once they are over. C11 */
static void a_deadline_prints_the_seconds_left(void **state)
{
    (void)state;
    const int64_t timeout[] = {CCTX_S(3600), CCTX_MS(1500), CCTX_S(1000000000), CCTX_S(-7), CCTX_S(-100000)};
    for (size_t i = 0; i < sizeof timeout / sizeof *timeout; i++) {
        cctx_time_t deadline = cctx_now() + timeout[i];
        cctx_t *ctx = cctx_with_deadline(cctx_background(), deadline);
        expect_deadline(ctx, deadline);
        cctx_unref(ctx);
    }
    cctx_t *timed = cctx_with_timeout(cctx_background(), CCTX_S(50));
    cctx_time_t deadline;
    assert_true(cctx_deadline(timed, &deadline));
    expect_deadline(timed, deadline);
    cctx_t *below = cctx_with_cancel(timed);
    char text[200];
    size_t length = cctx_print(below, text, sizeof text);
    assert_string_equal(text + length - strlen("s).WithCancel"), "s).WithCancel");
    cctx_unref(below);
    cctx_unref(timed);
}

/* The extremes of time print as a number of seconds, too. C32 */
static void a_deadline_that_is_none_prints_as_never(void **state)
{
    (void)state;
    cctx_t *never = cctx_with_deadline(cctx_background(), CCTX_NEVER);
    expect_print(never, "cctx.Background.WithDeadline(never)");
    cctx_unref(never);
}

static void the_extremes_of_time_print(void **state)
{
    (void)state;
    const cctx_time_t deadline[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1};
    for (size_t i = 0; i < sizeof deadline / sizeof *deadline; i++) {
        static const char head[] = "cctx.Background.WithDeadline(";
        cctx_t *ctx = cctx_with_deadline(cctx_background(), deadline[i]);
        char text[200], *end;
        size_t length = cctx_print(ctx, text, sizeof text);
        assert_int_equal(length, strlen(text));
        assert_memory_equal(text, head, sizeof head - 1);
        double seconds = strtod(text + sizeof head - 1, &end);
        assert_string_equal(end, "s)");
        assert_true(deadline[i] <= 1 ? seconds < 0 : seconds > 1e8);
        cctx_unref(ctx);
    }
}

/* snprintf's rules: what fits, a NUL, nothing beyond, and the length of the whole. C32 */
static void each_size_is_respected(void **state)
{
    (void)state;
    static const char whole[] = "cctx.Background.WithCancel.WithValue(user).WithoutCancel.WithCancel";
    enum { WHOLE = sizeof whole - 1 };
    cctx_t *cancel = cctx_with_cancel(cctx_background());
    const cctx_t *value = cctx_with_value(cancel, &user, NULL);
    const cctx_t *apart = cctx_without_cancel(value);
    cctx_t *ctx = cctx_with_cancel(apart);
    for (size_t size = 0; size <= WHOLE + 3; size++) {
        char text[WHOLE + 10];
        memset(text, '#', sizeof text);
        assert_int_equal(cctx_print(ctx, text, size), WHOLE);
        size_t fits = size == 0 ? 0 : size - 1 < WHOLE ? size - 1 : WHOLE;
        assert_memory_equal(text, whole, fits);
        size_t used = size == 0 ? 0 : fits + 1;
        if (used)
            assert_int_equal(text[fits], '\0');
        for (size_t i = used; i < sizeof text; i++)
            assert_int_equal(text[i], '#');
    }
    assert_int_equal(cctx_print(ctx, NULL, 0), WHOLE);
    cctx_unref(ctx);
    cctx_unref(apart);
    cctx_unref(value);
    cctx_unref(cancel);
}

/* NULL prints as the empty text. C32 */
static void null_prints_as_nothing(void **state)
{
    (void)state;
    char text[4] = "###";
    assert_int_equal(cctx_print(NULL, NULL, 0), 0);
    assert_int_equal(cctx_print(NULL, text, 0), 0);
    assert_string_equal(text, "###");
    assert_int_equal(cctx_print(NULL, text, sizeof text), 0);
    assert_string_equal(text, "");
}

/* A deep chain prints its beginning into a small buffer, and its length is right. C7 */
static void a_deep_chain_prints_into_a_small_buffer(void **state)
{
    (void)state;
    enum { DEPTH = 20000 };
    const cctx_t *ctx = cctx_background();
    for (int i = 0; i < DEPTH; i++) {
        const cctx_t *value = cctx_with_value(ctx, &user, NULL);
        const cctx_t *next = i % 2 ? (const cctx_t *)cctx_with_cancel(ctx) : cctx_ref(value);
        cctx_unref(value);
        cctx_unref(ctx);
        ctx = next;
    }
    char text[50];
    size_t length = strlen("cctx.Background") + DEPTH / 2 * strlen(".WithValue(user).WithCancel");
    assert_int_equal(cctx_print(ctx, text, sizeof text), length);
    assert_string_equal(text, "cctx.Background.WithValue(user).WithCancel.WithVa");
    cctx_unref(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_word),
        cmocka_unit_test(keys_print_by_name),
        cmocka_unit_test(a_deadline_prints_the_seconds_left),
        cmocka_unit_test(a_deadline_that_is_none_prints_as_never),
        cmocka_unit_test(the_extremes_of_time_print),
        cmocka_unit_test(each_size_is_respected),
        cmocka_unit_test(null_prints_as_nothing),
        cmocka_unit_test(a_deep_chain_prints_into_a_small_buffer),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
