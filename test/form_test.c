/* SPDX-License-Identifier: BSD-2-Clause */
/* The lines of a dump, from inside: which bytes are a character, and the words for each number. */
#include "support.h"

#include "form.h"

/* What is written of a line with this text, in a form. */
static const char *written(enum form form, struct line line)
{
    static char text[1024];
    FILE *out = fmemopen(text, sizeof text, "w");
    struct pen pen = {.out = out, .form = form};
    form_line(&pen, &line);
    assert_int_equal(pen.error, 0);
    fclose(out);
    return text;
}

static void only_characters_of_utf8_pass(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } row[] = {
        {"plain", "plain"}, {"\x7f", "\\u007f"}, {"\x80", "\\ufffd"}, {"\xc1\xbf", "\\ufffd\\ufffd"},
        {"\xc2\x80", "\xc2\x80"}, {"\xc3x", "\\ufffdx"}, {"\xc3", "\\ufffd"}, {"\xe0\x9f\xbf", "\\ufffd\\ufffd\\ufffd"},
        {"\xe0\xa0\x80", "\xe0\xa0\x80"}, {"\xe1\x80\x80", "\xe1\x80\x80"}, {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"}, {"\xf0\x8f\xbf\xbf", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xf0\x90\x80\x80", "\xf0\x90\x80\x80"}, {"\xf1\x80\x80\x80", "\xf1\x80\x80\x80"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"}, {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xf5\x80\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, {"\xe2\x82", "\\ufffd\\ufffd"}, {"\t", "\\u0009"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "\"key\":\"%s\"}", row[i].json);
        const char *got = written(FORM_JSON, (struct line){.kind = "kind", .key = row[i].text});
        if (!strstr(got, expected))
            print_error("row %zu: %s\n", i, got);
        assert_non_null(strstr(got, expected));
    }
}

static void numbers_have_their_words(void **state)
{
    (void)state;
    struct line line = {.kind = "kind", .state = "live", .waiters = 1, .has_deadline = true, .left = 1500000};
    assert_non_null(strstr(written(FORM_TEXT, line), "live, 0.001 s left, 1 waiter\n"));
    line.waiters = 255;
    line.left = -61 * (int64_t)1000000000;
    assert_non_null(strstr(written(FORM_TEXT, line), "live, 61.000 s overdue, 255 or more waiters\n"));
    line.left = INT64_MIN;
    line.depth = 33;
    assert_non_null(strstr(written(FORM_TEXT, line), "[33] kind (nil) live, 9223372036.854 s overdue"));
    assert_non_null(strstr(written(FORM_DOT, line), "live\\n9223372036.854 s overdue\\n255 or more waiters\"];\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_characters_of_utf8_pass),
        cmocka_unit_test(numbers_have_their_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
