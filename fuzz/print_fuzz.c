/* SPDX-License-Identifier: BSD-2-Clause */
/* print_fuzz: cctx_print writes a prefix of the whole text and a NUL, and no more; a formatted cause is what
 * printf says.
 *
 * The text of a context is put together from the root down, as the header says it; the library makes it from
 * its end up. The buffers are of their very size, so that a byte beyond one is seen. */
#include "property.h"
#include "scarce.h"

#include "alloc.h"
#include "epoch.h"
#include "fake_time.h"
#include "futex.h"
#include "node.h"
#include <cctx/cctx.h>
#include <errno.h>
#include <string.h>

enum {
    MOST_CONTEXTS = 48,
    MOST_STEPS = 120,
    LONGEST = 1 << 16,
    KEYS = 6,
    LONGEST_NAME = 400,
    OTHER_ERRNO = 4242
};

struct link {
    const cctx_t *real;
    const struct link *parent;          /* NULL: a root */
    enum { BACKGROUND, TODO, CANCEL, DEADLINE, VALUE, WITHOUT, ANY } kind;
    int64_t deadline;
    unsigned number;                    /* of the key, of the parents */
};

static struct link links[MOST_CONTEXTS];
static unsigned count;
static cctx_key_t keys[KEYS];
static char names[KEYS][LONGEST_NAME + 1];
static char text[LONGEST];
static size_t length;

static void put(const char *piece)
{
    size_t n = strlen(piece);
    PROPERTY(length + n < sizeof text);
    memcpy(text + length, piece, n + 1);
    length += n;
}

/* Seconds, digit by digit, without the zeros that say nothing. */
static void put_seconds(int64_t ns)
{
    char digits[32], piece[40];
    unsigned n = 0, end = 0;
    uint64_t left = ns < 0 ? (uint64_t)0 - (uint64_t)ns : (uint64_t)ns;
    for (; n < 10 || left > 0; left /= 10) digits[n++] = (char)('0' + left % 10);
    piece[end++] = ns < 0 ? '-' : '+';
    while (n > 9) piece[end++] = digits[--n];
    unsigned last = 0;
    while (last < 9 && digits[last] == '0') last++;
    if (last < 9) piece[end++] = '.';
    while (n > last) piece[end++] = digits[--n];
    piece[end] = '\0';
    put(piece);
}

static int64_t saturated_left(int64_t deadline, int64_t now)
{
    int64_t left;
    if (!__builtin_sub_overflow(deadline, now, &left)) return left;
    return deadline < 0 ? INT64_MIN : INT64_MAX;
}

static void put_link(const struct link *l)
{
    char piece[64];
    if (l->parent) put_link(l->parent);
    else length = 0;
    switch (l->kind) {
    case BACKGROUND: put("cctx.Background"); break;
    case TODO: put("cctx.TODO"); break;
    case CANCEL: put(".WithCancel"); break;
    case WITHOUT: put(".WithoutCancel"); break;
    case DEADLINE:
        put(".WithDeadline(");
        if (l->deadline == CCTX_NEVER) {
            put("never)");
            break;
        }
        put_seconds(saturated_left(l->deadline, fake_time_now()));
        put("s)");
        break;
    case VALUE:
        put(".WithValue(");
        put(keys[l->number].name ? keys[l->number].name : "?");
        put(")");
        break;
    case ANY:
        snprintf(piece, sizeof piece, ".WithAny(%u)", l->number);
        put(piece);
        break;
    }
}

static void print(const struct link *l, size_t size)
{
    put_link(l);
    char *buf = malloc(size + !size);
    if (!buf) abort();
    memset(buf, 0x5a, size + !size);
    errno = OTHER_ERRNO;
    PROPERTY(cctx_print(l->real, buf, size) == length && errno == OTHER_ERRNO);
    if (size == 0) {
        PROPERTY(buf[0] == 0x5a);
        PROPERTY(cctx_print(l->real, NULL, 0) == length);
    } else {
        size_t kept = length < size ? length : size - 1;
        PROPERTY(memcmp(buf, text, kept) == 0 && buf[kept] == '\0');
        for (size_t i = kept + 1; i < size; i++) PROPERTY(buf[i] == 0x5a);
    }
    free(buf);
}

static struct link *pick(struct input *in)
{
    unsigned b = take(in);
    return &links[b < 128 ? b % count : count - 1 - b % count];
}

static void made(const cctx_t *real, struct link l)
{
    PROPERTY(real != NULL);
    l.real = real;
    links[count++] = l;
}

static void derive(struct input *in)
{
    if (count == MOST_CONTEXTS) return;
    struct link *parent = pick(in);
    struct link l = {.parent = parent, .kind = CANCEL + take_below(in, 5), .deadline = parent->deadline};
    switch (l.kind) {
    case BACKGROUND:
    case TODO:
    case CANCEL: made(cctx_with_cancel(parent->real), l); break;
    case WITHOUT:
        l.deadline = CCTX_NEVER;
        made(cctx_without_cancel(parent->real), l);
        break;
    case DEADLINE: {
        int64_t deadline;
        switch (take_below(in, 3)) {
        case 0: deadline = time_add(fake_time_now(), take_duration(in)); break;
        case 1: deadline = (int64_t)take_u64(in); break;
        default: deadline = CCTX_NEVER;
        }
        l.deadline = time_min(l.deadline, deadline);
        made(cctx_with_deadline(parent->real, deadline), l);
        break;
    }
    case VALUE:
        l.number = take_below(in, KEYS);
        made(cctx_with_value(parent->real, &keys[l.number], text), l);
        break;
    case ANY: {
        const cctx_t *parents[12] = {parent->real};
        l.number = 1 + take_below(in, 12);
        for (unsigned i = 1; i < l.number; i++) {
            struct link *other = pick(in);
            parents[i] = other->real;
            l.deadline = time_min(l.deadline, other->deadline);
        }
        made(cctx_with_any(parents, l.number), l);
        break;
    }
    }
}

/* A format of numbered arguments, so that any order and number of them is a right one; at its end all are
 * named. */
static void make_format(struct input *in, char *format, size_t size)
{
    static const char *const kinds[] = {"1$d", "1$x", "1$o", "1$c",   "2$s",  "3$f",
                                        "3$g", "3$a", "3$e", "4$lld", "4$llx"};
    size_t n = 0;
    for (unsigned pieces = take_below(in, 6); pieces > 0; pieces--) {
        unsigned kind = take_below(in, sizeof kinds / sizeof kinds[0]), how = take(in);
        char conversion[8], number[3] = {kinds[kind][0], '$', '\0'}, width[16] = "", precision[16] = "";
        snprintf(conversion, sizeof conversion, "%s", kinds[kind] + 2);
        if (how & 1) snprintf(width, sizeof width, "%u", take(in) * (how & 2 ? 8 : 1));
        if ((how & 4) && conversion[0] != 'c') snprintf(precision, sizeof precision, ".%u", take(in));
        unsigned letter = take(in);
        n += (size_t)snprintf(format + n, size - n, "%c%%%s%s%s%s%s",
                              letter && letter != '%' ? (int)letter : '_', number, how & 8 ? "-" : "", width,
                              precision, conversion);
    }
    snprintf(format + n, size - n, "%%%%%%1$d%%2$s%%3$.1f%%4$lld");
}

/* A format is not a literal here; that is the point. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void cause(struct input *in)
{
    static char expected[LONGEST];
    char format[512], string[256];
    struct link *l = pick(in);
    cctx_t *x = cctx_with_cancel(l->real);
    PROPERTY(x != NULL);
    const cctx_t *child = cctx_with_value(x, &keys[0], NULL);
    cctx_t *grandchild = cctx_with_cancel(child);
    PROPERTY(child && grandchild);
    make_format(in, format, sizeof format);
    unsigned n = take(in);
    for (unsigned i = 0; i < n && i < sizeof string - 1; i++) string[i] = (char)(1 + take(in) % 255);
    string[n < sizeof string - 1 ? n : sizeof string - 1] = '\0';
    int number = (int)take_u64(in), code = (int)take_u64(in);
    long long big = (long long)take_u64(in);
    uint64_t bits = take_u64(in);
    double real;
    memcpy(&real, &bits, sizeof real);
    int printed = snprintf(expected, sizeof expected, format, number, string, real, big);
    PROPERTY(printed >= 0 && (size_t)printed < sizeof expected);

    bool live = cctx_err(x) == 0, null = take_below(in, 8) == 0;
    if (take_below(in, 4) == 0) scarce_refuse(0, false);
    errno = OTHER_ERRNO;
    bool won = null ? cctx_cancel_causef(x, code, NULL)
                    : cctx_cancel_causef(x, code, format, number, string, real, big);
    PROPERTY(won == live && errno == OTHER_ERRNO);
    bool lacked = scarce_relent();
    const cctx_cause_t *c = cctx_cause(x);
    if (live && lacked) {
        PROPERTY(c->code == ENOMEM && strcmp(c->text, "out of memory") == 0);
    } else if (live) {
        PROPERTY(c->code == code && strcmp(c->text, null ? "" : expected) == 0);
    }
    PROPERTY(cctx_cause(child) == c && cctx_cause(grandchild) == c);
    PROPERTY(!cctx_cancel_causef(x, ~code, "%d", 1) && cctx_cause(x) == c);
    PROPERTY(cctx_err(grandchild) == cctx_err(x) && cctx_err(x) != 0);
    cctx_unref(x);                      /* the text lives as long as what is derived from it */
    cctx_unref(child);
    if (live && !lacked) PROPERTY(strcmp(cctx_cause(grandchild)->text, null ? "" : expected) == 0);
    cctx_unref(grandchild);
}

static void make_name(struct input *in)
{
    unsigned i = take_below(in, KEYS - 1), n = take(in);
    if (n > 200) n = LONGEST_NAME;
    for (unsigned j = 0; j < n; j++) names[i][j] = (char)(1 + (j < 8 ? take(in) : j) % 255);
    names[i][n] = '\0';
}

/* The timer's sets are for ever; here they are for one program, so that the next finds the library as this
 * one did. */
static void timer_anew(void)
{
    if (!node_timer.ops) return;
    for (int i = 0; i < TIMER_TIERS; i++) {
        roster_free((struct roster *)sync_load_acq(&node_timer.tier[i].set, chunk));
        for (uintptr_t g = sync_load_acq(&node_timer.tier[i].directories, directory), next; g; g = next) {
            next = sync_load_acq((sync_ptr *)g, directory);     /* a directory begins with the next one */
            alloc_put((void *)g);
        }
    }
    alloc_put(node_timer.heap);
    timer_init(&node_timer, node_timer.ops);
    futex_wake(&node_timer.bell);
    fake_time_settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t before;
    struct input in = {data, data + size};
    if (!thread_current) {
        thread_begin();
        before = scarce_blocks();
    }
    fake_time_set(take_below(&in, 2) ? 0 : 123456789012345);
    memset(names, 0, sizeof names);
    for (unsigned i = 0; i < KEYS - 1; i++) keys[i].name = names[i];
    keys[KEYS - 1].name = NULL;
    links[0] = (struct link){.real = cctx_background(), .kind = BACKGROUND, .deadline = CCTX_NEVER};
    links[1] = (struct link){.real = cctx_todo(), .kind = TODO, .deadline = CCTX_NEVER};
    count = 2;
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) {
        switch (take_below(&in, 8)) {
        case 0:
        case 1:
        case 2: derive(&in); break;
        case 3: print(pick(&in), take(&in)); break;
        case 4: {                       /* about the very length */
            const struct link *l = pick(&in);
            put_link(l);
            size_t about = length + take_below(&in, 8);
            print(l, about > 3 ? about - 3 : 0);
            break;
        }
        case 5: cause(&in); break;
        case 6: make_name(&in); break;
        default: {
            int64_t ns = take_duration(&in);
            int64_t to = time_min(time_add(fake_time_now(), ns < 0 ? -(ns / 2) : ns), CCTX_NEVER / 2);
            if (to > fake_time_now()) fake_time_advance(to - fake_time_now());
        }
        }
    }
    PROPERTY(cctx_print(NULL, text, 1) == 0 && text[0] == '\0' && cctx_print(NULL, NULL, 0) == 0);
    PROPERTY(strcmp(cctx_strerror(ECANCELED), "context canceled") == 0);
    PROPERTY(strcmp(cctx_strerror(ETIMEDOUT), "context deadline exceeded") == 0);
    int any = (int)size - 40;
    PROPERTY(cctx_strerror(any) != NULL && cctx_strerror(any)[0] != '\0' &&
             cctx_strerror(any) == cctx_strerror(any));
    for (unsigned i = 0; i < count; i++) print(&links[i], 200);
    while (count > 2) cctx_unref(links[--count].real);
    timer_anew();
    for (int i = 0; i < 8 && epoch_limbo() > 0; i++) epoch_poll(thread_current);
    /* A checked build keeps what was freed last. */
    PROPERTY(epoch_limbo() == 0 && scarce_blocks() - before <= (CCTX_CHECK ? 1024 : 0));
    return 0;
}
