/* SPDX-License-Identifier: BSD-2-Clause */
/* What cctx/inspect.h promises: the numbers, the dump in its three forms, names, and the report at exit. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

#include <cctx/inspect.h>

#if defined(CCTX_CHECK) && CCTX_CHECK
#define CHECKED 1
#else
#define CHECKED 0
#endif

static const cctx_key_t user = {"user", NULL};
static const cctx_cause_t odd = {-7, "a \"quoted\" \\ back\nslash \x01 \xc3\xa9 \xff\xe2\x82\xac \xed\xa0\x80 \xf0\x9f\x98\x80"};

static cctx_stats_t stats_now(void)
{
    cctx_stats_t stats;
    memset(&stats, 0xee, sizeof stats);
    stats.size = sizeof stats;
    cctx_stats(&stats);
    assert_int_equal(stats.size, sizeof stats);
    return stats;
}

/* The dump as a string, which the caller frees. */
static char *dump_of(const cctx_t *root, cctx_dump_format_t format)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    errno = 4711;
    assert_int_equal(cctx_dump(root, out, format), 0);
    assert_int_equal(errno, 4711);
    fclose(out);
    return text;
}

/* How many lines of text have both words. */
static int lines_with(const char *text, const char *one, const char *two)
{
    int n = 0;
    for (const char *line = text, *end; *line; line = end + 1) {
        char copy[1024];
        end = line;
        while (*end && *end != '\n')
            end++;
        assert_true(*end == '\n');
        size_t length = (size_t)(end - line) < sizeof copy ? (size_t)(end - line) : sizeof copy - 1;
        memcpy(copy, line, length);
        copy[length] = '\0';
        n += strstr(copy, one) != NULL && strstr(copy, two) != NULL;
    }
    return n;
}

static char *id_of(const cctx_t *ctx)
{
    static char id[4][32];
    static int turn;
    char *to = id[turn++ % 4];
    snprintf(to, sizeof id[0], "%p", (const void *)ctx);
    return to;
}

/* ---- a reader of JSON: true if text is one value and nothing else */

/* strspn, which under AddressSanitizer reads each time to the end of all the text. */
static size_t span(const char *s, const char *set)
{
    size_t n = 0;
    while (s[n] && memchr(set, s[n], strlen(set)))
        n++;
    return n;
}

static const char *json_value(const char *s);

static const char *json_string(const char *s)
{
    if (*s++ != '"')
        return NULL;
    for (; *s && *s != '"'; s++) {
        if ((unsigned char)*s < ' ')
            return NULL;
        if (*s != '\\')
            continue;
        s++;
        if (*s == 'u') {
            if (span(s + 1, "0123456789abcdef") < 4)
                return NULL;
            s += 4;
        } else if (!*s || !strchr("\"\\/bfnrt", *s)) {
            return NULL;
        }
    }
    return *s == '"' ? s + 1 : NULL;
}

static const char *json_space(const char *s)
{
    return s + span(s, " \n\t\r");
}

/* Members up to the closing one; the nesting of a dump is three deep. */
static const char *json_members(const char *s, char closing)
{
    s = json_space(s + 1);
    if (*s == closing)
        return s + 1;
    for (;;) {
        if (closing == '}') {
            s = json_string(json_space(s));
            if (!s || *(s = json_space(s)) != ':')
                return NULL;
            s++;
        }
        s = json_value(json_space(s));
        if (!s)
            return NULL;
        s = json_space(s);
        if (*s == closing)
            return s + 1;
        if (*s++ != ',')
            return NULL;
    }
}

static const char *json_value(const char *s)
{
    if (*s == '{')
        return json_members(s, '}');
    if (*s == '[')
        return json_members(s, ']');
    if (*s == '"')
        return json_string(s);
    for (const char *const *w = (const char *const[]){"true", "false", "null", NULL}; *w; w++)
        if (strncmp(s, *w, strlen(*w)) == 0)
            return s + strlen(*w);
    size_t n = span(s + (*s == '-'), "0123456789");
    return n ? s + (*s == '-') + n : NULL;
}

static bool is_json(const char *text)
{
    const char *end = json_value(json_space(text));
    return end && *json_space(end) == '\0';
}

/* A graph: in quotes whatever is escaped; outside of them the few words that there are. */
static bool is_dot(const char *s)
{
    int braces = 0, brackets = 0;
    if (strncmp(s, "digraph cctx {\n", 15) != 0)
        return false;
    for (; *s; s++) {
        if (*s == '"') {
            for (s++; *s && *s != '"'; s++)
                if (*s == '\n' || (*s == '\\' && !*++s))
                    return false;
            if (!*s)
                return false;
        } else {
            braces += (*s == '{') - (*s == '}');
            brackets += (*s == '[') - (*s == ']');
            if (!strchr("abcdefghijklmnopqrstuvwxyz{}[]=;->+ \n", *s) || brackets < 0 || brackets > 1)
                return false;
        }
    }
    return braces == 0 && brackets == 0;
}

static void run(void *arg)
{
    ++*(int *)arg;
}

/* ---- numbers */

/* Each kind is counted while it lives, and everything adds up to what was there before once all is freed. B7 */
static void counts_by_kind_and_none_left(void **state)
{
    (void)state;
    cctx_stats_t before = stats_now();
    cctx_t *cancel = cctx_with_cancel(cctx_background());
    cctx_t *timeout = cctx_with_timeout(cancel, CCTX_S(3600));
    cctx_t *later = cctx_with_timeout(timeout, CCTX_S(7200));
    const cctx_t *value = cctx_with_value(later, &user, NULL);
    const cctx_t *apart = cctx_without_cancel(value);
    cctx_t *any = cctx_with_any((const cctx_t *[]){value, cancel}, 2);
    cctx_t *leaf = cctx_with_cancel(any);
    cctx_stats_t during = stats_now();
    assert_int_equal(during.live - before.live, 7);
    assert_int_equal(during.live_cancel - before.live_cancel, 2);
    assert_int_equal(during.live_deadline - before.live_deadline, 2);
    assert_int_equal(during.live_value - before.live_value, 1);
    assert_int_equal(during.live_without - before.live_without, 1);
    assert_int_equal(during.live_any - before.live_any, 1);
    assert_int_equal(during.derived - before.derived, 7);
    assert_int_equal(during.armed - before.armed, 1); /* the later one is the parent's to fire */
    assert_int_equal(during.done, before.done);
    assert_true(during.threads >= 1);
    cctx_cancel(cancel);
    cctx_cancel(timeout);
    assert_int_equal(stats_now().done - before.done, 5);
    for (const cctx_t **c = (const cctx_t *[]){leaf, any, apart, value, later, timeout, cancel, NULL}; *c; c++)
        cctx_unref(*c);
    cctx_stats_t after = stats_now();
    assert_int_equal(after.live, before.live);
    assert_int_equal(after.live_cancel, before.live_cancel);
    assert_int_equal(after.live_deadline, before.live_deadline);
    assert_int_equal(after.live_value, before.live_value);
    assert_int_equal(after.live_without, before.live_without);
    assert_int_equal(after.live_any, before.live_any);
    assert_int_equal(after.armed, before.armed);
    assert_true(after.limbo > 0);
}

/* No byte is written that the caller has no room for. */
static void a_shorter_struct_is_filled_as_far_as_it_goes(void **state)
{
    (void)state;
    cctx_stats_t stats;
    for (size_t size = 0; size <= sizeof stats + 8; size += 4) {
        unsigned char room[sizeof stats + 16];
        memset(room, 0xaa, sizeof room);
        memcpy(room, &size, sizeof size);
        memcpy(&stats, room, sizeof stats);
        cctx_stats_t *in = (cctx_stats_t *)(void *)room;
        cctx_stats(in);
        size_t told;
        memcpy(&told, room, sizeof told);
        size_t least = size < sizeof size ? sizeof size : size < sizeof stats ? size : sizeof stats;
        assert_int_equal(told, size < sizeof size ? size : least);
        for (size_t i = least; i < sizeof room; i++)
            assert_int_equal(room[i], 0xaa);
    }
    cctx_stats(NULL);
}

static void *park(void *ctx)
{
    cctx_wait(ctx);
    return NULL;
}

/* Who sleeps is counted while it does, and each wake; the ends by a deadline, and callbacks. */
static void waits_wakes_deadlines_and_callbacks_are_counted(void **state)
{
    (void)state;
    cctx_stats_t before = stats_now();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        thread[i] = thread_start(park, ctx);
    while (stats_now().waiters - before.waiters < 3)
        usleep(1000);
    char *text = dump_of(ctx, CCTX_DUMP_TEXT);
    assert_non_null(strstr(text, "live, 3 waiters"));
    free(text);
    int ran = 0;
    cctx_callback_t callback = {{0}}, late = {{0}};
    assert_int_equal(cctx_after_func(ctx, &callback, run, &ran), 0);
    cctx_cancel(ctx);
    for (int i = 0; i < 3; i++)
        thread_join(thread[i]);
    assert_int_equal(cctx_after_func(ctx, &late, run, &ran), 0);
    cctx_stats_t after = stats_now();
    assert_int_equal(after.waiters, before.waiters);
    assert_int_equal(after.wakes - before.wakes, 1);
    assert_int_equal(after.callbacks - before.callbacks, 2);
    assert_int_equal(ran, 2);
    cctx_t *soon = cctx_with_timeout(cctx_background(), CCTX_MS(1)), *past = cctx_with_timeout(cctx_background(), 0);
    assert_int_equal(cctx_wait(soon), ETIMEDOUT);
    assert_int_equal(stats_now().fired - before.fired, 2);
    assert_int_equal(stats_now().done - before.done, 3);
    cctx_unref(past);
    cctx_unref(soon);
    cctx_unref(ctx);
    /* The thread that fired the deadline may be the last to let go of it, behind the wait that it has ended. */
    for (int64_t limit = now_ns() + CCTX_S(20); stats_now().live != before.live && now_ns() < limit;)
        sched_yield();
    assert_int_equal(stats_now().live, before.live);
}

static void *only_cancels(void *ctx)
{
    cctx_cancel(ctx);
    return NULL;
}

/* Threads come and go, and one that has only canceled or waited counts, too. */
static void threads_that_are_gone_have_counted(void **state)
{
    (void)state;
    cctx_stats_t before = stats_now();
    for (int i = 0; i < 8; i++) {
        cctx_t *ctx = cctx_with_cancel(cctx_background());
        thread_join(thread_start(only_cancels, ctx));
        assert_int_equal(stats_now().done - before.done, i + 1);
        cctx_unref(ctx);
    }
    assert_int_equal(stats_now().live, before.live);
}

static void child_counts(void *arg)
{
    cctx_stats_t *before = arg, now = stats_now();
    CHECK(now.live == before->live + 1 && now.waiters == 0);
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    CHECK(stats_now().live == before->live + 2);
    cctx_close(ctx);
    CHECK(stats_now().live == before->live + 1);
}

/* In the child of a fork the numbers go on, but nobody waits there. C23 */
static void a_child_goes_on_counting(void **state)
{
    (void)state;
    cctx_stats_t before = stats_now();
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    pthread_t thread = thread_start(park, ctx);
    while (stats_now().waiters == before.waiters)
        usleep(1000);
    assert_int_equal(run_in_child(child_counts, &before), 0);
    cctx_cancel(ctx);
    thread_join(thread);
    cctx_unref(ctx);
    assert_int_equal(stats_now().live, before.live);
}

/* ---- the dump */

/* What is impossible is told, and nothing is written. C32 */
static void impossible_arguments_are_einval(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(cctx_dump(NULL, out, CCTX_DUMP_TEXT), EINVAL);
    assert_int_equal(cctx_dump(cctx_background(), NULL, CCTX_DUMP_TEXT), EINVAL);
    assert_int_equal(cctx_dump(cctx_background(), out, (cctx_dump_format_t)3), EINVAL);
    fclose(out);
    assert_int_equal(size, 0);
    free(text);
    cctx_name(NULL, "nobody");
    cctx_name(cctx_background(), "root");
}

typedef struct grove {
    cctx_t *top, *timed, *below, *merged, *under, *expired, *canceled, *cut;
    const cctx_t *value, *value2, *apart;
    cctx_callback_t callback[3];
    int ran;
} grove_t;

/* A tree with all kinds in all states. */
static void grove_plant(grove_t *g)
{
    static const cctx_key_t quoted = {"a \"key\"", NULL};
    memset(g, 0, sizeof *g);
    g->top = cctx_with_cancel(cctx_background());
    g->timed = cctx_with_timeout(g->top, CCTX_S(3600));
    g->value = cctx_with_value(g->timed, &user, NULL);
    g->value2 = cctx_with_value(g->value, &quoted, NULL);
    g->below = cctx_with_cancel(g->value2);
    g->apart = cctx_without_cancel(g->below);
    g->expired = cctx_with_timeout(g->top, 0);
    g->merged = cctx_with_any((const cctx_t *[]){g->top, g->below, g->value}, 3);
    g->under = cctx_with_cancel(g->merged);
    g->canceled = cctx_with_cancel(g->timed);
    g->cut = cctx_with_cancel(g->canceled);
    cctx_cancel_cause(g->canceled, &odd);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cctx_after_func(g->under, &g->callback[i], run, &g->ran), 0);
}

static void grove_fell(grove_t *g)
{
    cctx_cancel(g->top);
    assert_int_equal(g->ran, 3);
    for (const cctx_t **c = (const cctx_t *[]){g->cut, g->canceled, g->under, g->merged, g->expired, g->apart, g->below,
                                               g->value2, g->value, g->timed, g->top, NULL};
         *c; c++)
        cctx_unref(*c);
}

/* Each context below the root has one line, with its kind and its state. */
static void text_tells_each_context_once(void **state)
{
    (void)state;
    grove_t g;
    grove_plant(&g);
    char *text = dump_of(g.top, CCTX_DUMP_TEXT);
    assert_int_equal(strncmp(text, "with_cancel ", 12), 0);
    assert_int_equal(lines_with(text, id_of(g.top), "live"), 1);
    assert_int_equal(lines_with(text, id_of(g.timed), "  with_deadline"), 1);
    assert_int_equal(lines_with(text, id_of(g.timed), "live, 3599."), 1);
    assert_int_equal(lines_with(text, id_of(g.below), "through \"a \"key\"\""), 1);
    assert_int_equal(lines_with(text, id_of(g.merged), "with_any"), 3);
    assert_int_equal(lines_with(text, id_of(g.merged), "live"), 1);
    assert_int_equal(lines_with(text, id_of(g.merged), "stands elsewhere"), 2);
    assert_int_equal(lines_with(text, id_of(g.under), "    with_cancel"), 1);
    assert_int_equal(lines_with(text, id_of(g.under), "callback"), 1);
    assert_int_equal(lines_with(text, "callback", ""), 1);
    assert_int_equal(lines_with(text, id_of(g.expired), "deadline exceeded"), 1);
    assert_int_equal(lines_with(text, id_of(g.canceled), "canceled, cause -7 \"a \"quoted\" \\ back?slash ? \xc3\xa9 ?\xe2\x82\xac ??? "), 1);
    assert_int_equal(lines_with(text, id_of(g.cut), "canceled"), 1);
    assert_int_equal(lines_with(text, "cause", ""), 1);
    assert_int_equal(lines_with(text, id_of(g.apart), ""), 0);
    assert_int_equal(lines_with(text, "", ""), 10);
    free(text);
    grove_fell(&g);
}

/* JSON that a parser takes, and a graph, whatever bytes a program puts into its texts. */
static void json_and_dot_are_well_formed(void **state)
{
    (void)state;
    assert_true(is_json("{\"a\":[1,-2,null,{\"b\":\"c\\u0001\"}]}\n"));
    assert_false(is_json("{\"a\":[1,]}"));
    assert_false(is_json("{\"a\":\"\n\"}"));
    assert_false(is_dot("digraph cctx {\n\"}\n"));
    grove_t g;
    grove_plant(&g);
    cctx_name(g.timed, "a \"name\"");
    char *json = dump_of(g.top, CCTX_DUMP_JSON), *dot = dump_of(g.top, CCTX_DUMP_DOT);
    assert_true(is_json(json));
    assert_true(is_dot(dot));
    assert_int_equal(lines_with(json, "\"id\":", ""), 10);
    assert_int_equal(lines_with(json, "\"reference\":true", id_of(g.merged)), 2);
    assert_int_equal(lines_with(json, "\"parent\":null", id_of(g.top)), 1);
    assert_int_equal(lines_with(json, "\"depth\":2", id_of(g.cut)), 0);
    assert_int_equal(lines_with(json, "\"depth\":3", id_of(g.cut)), 1);
    assert_int_equal(lines_with(json, "{\"code\":-7,\"text\":\"a \\\"quoted\\\" \\\\ back\\u000aslash \\u0001 \xc3\xa9 "
                                      "\\ufffd\xe2\x82\xac \\ufffd\\ufffd\\ufffd \xf0\x9f\x98\x80\"}", id_of(g.canceled)), 1);
    assert_int_equal(lines_with(json, "\"state\":\"deadline exceeded\"", id_of(g.expired)), 1);
    assert_int_equal(lines_with(json, "\"key\":\"a \\\"key\\\"\"", id_of(g.below)), 1);
    assert_int_equal(lines_with(dot, "[label=", ""), 9); /* eight contexts, and an edge through a value */
    assert_int_equal(lines_with(dot, " -> ", ""), 9);
    assert_int_equal(lines_with(dot, "style=dashed", id_of(g.merged)), 2);
    if (CHECKED) {
        assert_int_equal(lines_with(json, "\"name\":\"a \\\"name\\\"\",\"call\":\"cctx_with_timeout\"", id_of(g.timed)), 1);
        assert_int_equal(lines_with(json, "\"place\":\"inspect_clause_test+0x", ""), 8);
    } else {
        assert_int_equal(lines_with(json, "\"name\":null,\"call\":null,\"place\":null", ""), 8);
    }
    free(json);
    free(dot);
    grove_fell(&g);
}

/* A value context stands for the context whose word it shares; what can never be done has nothing below it. B7 */
static void a_root_of_any_kind_is_told(void **state)
{
    (void)state;
    cctx_t *top = cctx_with_cancel(cctx_todo());
    const cctx_t *value = cctx_with_value(top, &user, NULL), *apart = cctx_without_cancel(value);
    const cctx_t *deep = cctx_with_value(apart, &user, NULL);
    cctx_t *child = cctx_with_cancel(value);
    char *text = dump_of(value, CCTX_DUMP_TEXT);
    assert_int_equal(lines_with(text, "", ""), 2);
    assert_int_equal(lines_with(text, "with_cancel", id_of(top)), 1);
    free(text);
    text = dump_of(apart, CCTX_DUMP_TEXT);
    assert_int_equal(strncmp(text, "without_cancel ", 15), 0);
    assert_int_equal(lines_with(text, "", ""), 1);
    free(text);
    text = dump_of(deep, CCTX_DUMP_TEXT);
    assert_int_equal(strncmp(text, "with_value ", 11), 0);
    assert_int_equal(lines_with(text, "", ""), 1);
    free(text);
    for (const cctx_t **c = (const cctx_t *[]){child, deep, apart, value, top, NULL}; *c; c++)
        cctx_unref(*c);
}

/* Under the first of its parents that can end it a merged context stands whole. B1 */
static void a_merged_context_stands_under_its_first_parent_that_ends(void **state)
{
    (void)state;
    cctx_t *a = cctx_with_cancel(cctx_background()), *b = cctx_with_cancel(a), *c = cctx_with_cancel(a);
    cctx_t *merged = cctx_with_any((const cctx_t *[]){cctx_background(), cctx_todo(), b, c}, 4);
    cctx_t *x = cctx_with_cancel(merged), *y = cctx_with_cancel(x), *z = cctx_with_cancel(merged);
    for (int round = 0; round < 3; round++) {
        char *text = dump_of(round == 0 ? a : round == 1 ? b : c, CCTX_DUMP_TEXT);
        assert_int_equal(lines_with(text, "with_any", "live"), round < 2);
        assert_int_equal(lines_with(text, "with_any", "stands elsewhere"), round != 1);
        assert_int_equal(lines_with(text, id_of(y), "live"), round < 2);
        assert_int_equal(lines_with(text, id_of(z), "live"), round < 2);
        assert_int_equal(lines_with(text, "", ""), round == 0 ? 8 : round == 1 ? 5 : 2);
        free(text);
    }
    char *text = dump_of(merged, CCTX_DUMP_TEXT);
    assert_int_equal(lines_with(text, "", ""), 4);
    free(text);
    for (cctx_t **n = (cctx_t *[]){z, y, x, merged, c, b, a, NULL}; *n; n++)
        cctx_close(*n);
}

/* Whatever is below a root is registered in a checked build alone. B7 */
static void the_background_lists_all_in_a_checked_build(void **state)
{
    (void)state;
    grove_t g;
    grove_plant(&g);
    cctx_t *below = cctx_with_cancel(g.apart), *other = cctx_with_cancel(cctx_todo());
    cctx_t *born = cctx_with_cancel(g.cut), *late = cctx_with_cancel(born);
    cctx_t *loose = cctx_with_any((const cctx_t *[]){cctx_background(), g.apart}, 2);
    cctx_t *fixed = cctx_with_any((const cctx_t *[]){cctx_background(), g.top}, 2);
    for (int format = CCTX_DUMP_TEXT; format <= (int)CCTX_DUMP_JSON; format++) {
        char *text = dump_of(cctx_background(), (cctx_dump_format_t)format);
        assert_true(format == CCTX_DUMP_TEXT || (format == CCTX_DUMP_DOT ? is_dot : is_json)(text));
        assert_null(strstr(text, id_of(other)));
        if (format == CCTX_DUMP_TEXT) {
            assert_int_equal(strncmp(text, "background ", 11), 0);
            assert_int_equal(lines_with(text, "", ""), CHECKED ? 17 : 1);
            for (const cctx_t **c = (const cctx_t *[]){g.top, below, g.apart, born, late, loose, fixed, NULL}; *c; c++)
                assert_int_equal(lines_with(text, id_of(*c), ""), CHECKED);
        }
        free(text);
    }
    char *text = dump_of(g.apart, CCTX_DUMP_TEXT);
    assert_int_equal(lines_with(text, "", ""), CHECKED ? 2 : 1);
    free(text);
    text = dump_of(cctx_todo(), CCTX_DUMP_TEXT);
    assert_int_equal(lines_with(text, "", ""), CHECKED ? 2 : 1);
    free(text);
    for (cctx_t **c = (cctx_t *[]){fixed, loose, late, born, other, below, NULL}; *c; c++)
        cctx_close(*c);
    grove_fell(&g);
}

enum { DEPTH = 1000000 };
static cctx_t *chain_top;
static size_t chain_lines;

static ssize_t count_lines(void *cookie, const char *data, size_t size)
{
    (void)cookie;
    for (size_t i = 0; i < size; i++)
        chain_lines += data[i] == '\n';
    return (ssize_t)size;
}

static void dump_the_chain(void *arg)
{
    (void)arg;
    FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = count_lines});
    CHECK(out != NULL);
    CHECK(cctx_dump(chain_top, out, CCTX_DUMP_TEXT) == 0);
    fclose(out);
    CHECK(chain_lines == (size_t)SCALED(DEPTH) + 1);
}

/* C7 */
static void a_deep_chain_is_dumped_on_a_small_stack(void **state)
{
    (void)state;
    size_t depth = SCALED(DEPTH);
    cctx_t *last = chain_top = cctx_with_cancel(cctx_background());
    for (size_t i = 0; i < depth; i++) {
        cctx_t *next = cctx_with_cancel(last);
        if (last != chain_top)
            cctx_unref(last);
        last = next;
    }
    run_on_small_stack(dump_the_chain, NULL);
    if (last != chain_top)
        cctx_unref(last);
    cctx_unref(chain_top);
}

typedef struct failing {
    size_t left;
    int error;
} failing_t;

static ssize_t fail_after(void *cookie, const char *data, size_t size)
{
    failing_t *f = cookie;
    (void)data;
    if (size > f->left) {
        errno = f->error;
        f->left = 0;
        return 0;
    }
    f->left -= size;
    return (ssize_t)size;
}

/* A write that fails at any byte ends the dump with its errno, and nothing stays pinned. */
static void a_write_that_fails_is_told(void **state)
{
    (void)state;
    cctx_stats_t before = stats_now();
    grove_t g;
    grove_plant(&g);
    for (int format = 0; format < 3; format++)
        for (size_t room = 0;; room += 1 + room / 64) {
            failing_t f = {room, room % 2 ? EPIPE : 0};
            FILE *out = fopencookie(&f, "w", (cookie_io_functions_t){.write = fail_after});
            setvbuf(out, NULL, room % 3 ? _IONBF : _IOFBF, 0);
            int err = cctx_dump(g.top, out, (cctx_dump_format_t)format);
            fclose(out);
            if (err == 0)
                break;
            assert_int_equal(err, room % 2 ? EPIPE : EIO);
            assert_true(room < 100000);
        }
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(cctx_dump(g.top, full, CCTX_DUMP_JSON), ENOSPC);
    assert_int_equal(cctx_dump(cctx_background(), full, CCTX_DUMP_TEXT), ENOSPC);
    fclose(full);
    grove_fell(&g);
    assert_int_equal(stats_now().live, before.live);
}

/* A wide context, sections cut many times, holes in between: each that lives is told once. */
static void a_wide_context_is_told_in_full(void **state)
{
    (void)state;
    enum { WIDE = 5000 };
    static cctx_t *child[WIDE];
    cctx_stats_t before = stats_now();
    cctx_t *top = cctx_with_cancel(cctx_background());
    for (int i = 0; i < WIDE; i++)
        child[i] = cctx_with_cancel(i > 0 && i % 50 == 0 ? child[i - 1] : top);
    for (int i = 0; i < WIDE; i += 3) {
        cctx_unref(child[i]);
        child[i] = NULL;
    }
    char *text = dump_of(top, CCTX_DUMP_JSON);
    assert_true(is_json(text));
    int lines = 1;
    for (int i = 0; i < WIDE; i++) {
        lines += child[i] != NULL;
        /* One that is dropped stays as long as a child of it does; that one lives on here. */
        if (child[i] == NULL && (i + 1) % 50 == 0 && i + 1 < WIDE && child[i + 1] != NULL)
            lines++;
    }
    assert_int_equal(lines_with(text, "\"id\":", ""), lines);
    free(text);
    for (int i = 0; i < WIDE; i++)
        cctx_unref(child[i]);
    cctx_unref(top);
    assert_int_equal(stats_now().live, before.live);
}

/* ---- the checked build: names, places, the report */

/* Runs this program anew with the argument; what it says on stderr until it exits with 0. */
static char *said_by(const char *argument)
{
    static char text[4096];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "inspect_clause_test", argument, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length < sizeof text - 1 && (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return text;
}

static __attribute__((noinline)) cctx_t *leaks_here(const cctx_t *parent)
{
    cctx_t *ctx = cctx_with_cancel(parent);
    cctx_ref(ctx);
    cctx_unref(ctx);
    return ctx;
}

/* What the program does with an argument. */
static int leak(const char *argument)
{
    if (strcmp(argument, "three") == 0) {
        for (int i = 0; i < 3; i++)
            leaks_here(cctx_background());
    } else if (strcmp(argument, "named") == 0) {
        cctx_t *server = cctx_with_timeout(cctx_background(), CCTX_S(3600));
        cctx_t *closed = cctx_with_cancel(server);
        cctx_name(server, "the server");
        cctx_name(closed, "closed");
        cctx_unref(cctx_with_value(closed, &user, NULL));
        cctx_cancel(server);
        cctx_close(closed);
    } else if (strcmp(argument, "kept") == 0) { /* closed, and kept by its child, which is not */
        cctx_t *parent = cctx_with_cancel(cctx_background());
        leaks_here(parent);
        cctx_close(parent);
        const cctx_t *apart = cctx_without_cancel(cctx_todo());
        (void)apart;
    } else if (strcmp(argument, "child") == 0) { /* what is inherited is the parent's to close */
        cctx_t *ctx = leaks_here(cctx_background());
        pid_t pid = fork();
        if (pid == 0)
            exit(0);
        waitpid(pid, NULL, 0);
        cctx_close(ctx);
    }
    return 0;
}

/* Each place is told once, with how many, and how the call was named. */
static void what_was_never_closed_is_told_at_exit(void **state)
{
    (void)state;
    if (!CHECKED && TEST_ASAN)
        NOT_APPLICABLE("here AddressSanitizer reports what is leaked");
    if (TEST_EMULATED)
        NOT_APPLICABLE("a program run by an emulator is not run by exec");
    if (!CHECKED) {
        for (const char **a = (const char *[]){"three", "named", "kept", "child", NULL}; *a; a++)
            assert_string_equal(said_by(*a), "");
        return;
    }
    char *text = said_by("three");
    unsigned long first = 0, second = 0;
    int end = -1;
    assert_int_equal(sscanf(text, "cctx: 3 contexts derived at inspect_clause_test+0x%lx (cctx_with_cancel) were never "
                                  "closed\n%n", &first, &end), 1);
    assert_int_equal(end, strlen(text));
    text = said_by("named");
    assert_non_null(strstr(text, "cctx: 1 context derived at inspect_clause_test+0x"));
    assert_non_null(strstr(text, " (cctx_with_timeout), \"the server\", was never closed\n"));
    assert_int_equal(lines_with(text, "", ""), 1);
    text = said_by("kept");
    assert_int_equal(lines_with(text, "cctx: 1 context derived at", "(cctx_with_cancel) was never closed"), 1);
    assert_int_equal(lines_with(text, "cctx: 1 context derived at", "(cctx_without_cancel) was never closed"), 1);
    assert_int_equal(lines_with(text, "", ""), 2);
    assert_int_equal(sscanf(text, "cctx: 1 context derived at inspect_clause_test+0x%lx", &second), 1);
    assert_true(first == second); /* the same place in the program */
    assert_string_equal(said_by("child"), "");
}

/* A name is the last one that was given; in a library without checks there is none. */
static void a_context_has_the_last_name(void **state)
{
    (void)state;
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    cctx_name(ctx, "first");
    cctx_name(ctx, "last");
    char *text = dump_of(ctx, CCTX_DUMP_TEXT);
    assert_null(strstr(text, "first"));
    assert_true((strstr(text, "\"last\" live, by cctx_with_cancel at inspect_clause_test+0x") != NULL) == CHECKED);
    free(text);
    cctx_name(ctx, NULL);
    text = dump_of(ctx, CCTX_DUMP_DOT);
    assert_null(strstr(text, "last"));
    free(text);
    cctx_close(ctx);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_kind_and_none_left),
        cmocka_unit_test(a_shorter_struct_is_filled_as_far_as_it_goes),
        cmocka_unit_test(waits_wakes_deadlines_and_callbacks_are_counted),
        cmocka_unit_test(threads_that_are_gone_have_counted),
        cmocka_unit_test(a_child_goes_on_counting),
        cmocka_unit_test(impossible_arguments_are_einval),
        cmocka_unit_test(text_tells_each_context_once),
        cmocka_unit_test(json_and_dot_are_well_formed),
        cmocka_unit_test(a_root_of_any_kind_is_told),
        cmocka_unit_test(a_merged_context_stands_under_its_first_parent_that_ends),
        cmocka_unit_test(the_background_lists_all_in_a_checked_build),
        cmocka_unit_test(a_deep_chain_is_dumped_on_a_small_stack),
        cmocka_unit_test(a_write_that_fails_is_told),
        cmocka_unit_test(a_wide_context_is_told_in_full),
        cmocka_unit_test(what_was_never_closed_is_told_at_exit),
        cmocka_unit_test(a_context_has_the_last_name),
    };
    if (argc > 1)
        return leak(argv[1]);
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
