/* SPDX-License-Identifier: BSD-2-Clause */
/* drive: runs a program on the library, on a machine of one thread with a fake clock. */
#include "drive.h"

#include <cctx/cctx.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "fake_time.h"

/* ---- counts */

/* Each of these is done once in a thousand programs, or the programs do not show what they are for. */
#define COUNTED(X) \
    X(child, "with_cancel") X(earlier, "with_deadline, earlier than the parent's") \
    X(equal, "with_deadline, equal to the parent's") X(later, "with_deadline, later than the parent's") \
    X(past, "with_deadline, in the past") X(never, "with_deadline, never") \
    X(low, "with_deadline, before time began") X(timeout, "with_timeout") \
    X(timeout_now, "with_timeout of 0") X(timeout_past, "with_timeout, negative") \
    X(timeout_never, "with_timeout, saturating") X(with_cause, "a deadline with a cause") \
    X(fresh, "with_value, a new key") X(shadow, "with_value, over another") X(null, "with_value, of NULL") \
    X(many, "with_value, the ninth key or more") X(detach, "without_cancel") X(any1, "with_any of one") \
    X(any2, "with_any of two") X(any3, "with_any of three") X(any_same, "with_any of equal parents") \
    X(any_done, "with_any, one of them done") X(any_never, "with_any, one of them never done") \
    X(on_live, "derive from a live parent") X(on_done, "derive from a done parent") \
    X(on_never, "derive from a parent that is never done") X(refs, "ref") X(won, "cancel, won") \
    X(lost, "cancel, lost") X(cast, "cancel of what cannot be canceled") \
    X(plain, "cancel without a cause") X(caused, "cancel with a cause") \
    X(formatted, "cancel with a formatted cause") X(close_live, "close, live") \
    X(close_done, "close, done") X(drop_live, "unref, live") X(drop_done, "unref, done") \
    X(fires, "a deadline fires") X(at_once, "advance to the moment of a deadline") \
    X(before, "advance to the moment before a deadline") X(after_live, "after_func, live") \
    X(after_done, "after_func, done") X(after_never, "after_func, never done") X(runs, "a callback runs") \
    X(runs_late, "a callback runs by a deadline") X(does_cancel, "a callback cancels") \
    X(does_derive, "a callback derives") X(does_leave, "a callback leaves another") \
    X(does_stop, "a callback stops itself") X(stopped, "stop, true") \
    X(stop_late, "stop, false after the run") X(stop_zero, "stop of zeroed storage") \
    X(stop_again, "stop, a second time") X(stop_waits, "stop_wait") X(waits_done, "wait, done already") \
    X(waits_end, "wait, until done") X(waits_time, "wait, time over") \
    X(waits_free, "wait without a limit") X(waits_dead, "wait for what is never done") X(look, "look")

#define X(name, text) count_##name,
enum count { COUNTED(X) COUNTS };
#undef X
#define X(name, text) text,
static const char *const count_text[COUNTS] = {COUNTED(X)};
#undef X
static uint64_t counts[COUNTS];

static void count(enum count c) { counts[c]++; }
static void count_if(bool is, enum count c) { counts[c] += is; }

bool drive_counts(FILE *out, uint64_t programs)
{
    bool rare = false;
    for (int i = 0; i < COUNTS; i++) {
        bool is = counts[i] * 1000 < programs;
        fprintf(out, "%10" PRIu64 "  %s%s\n", counts[i], count_text[i], is ? ", which is too rare" : "");
        rare |= is;
    }
    return !rare;
}

/* ---- the state of a program */

struct seen {
    char error, cause;
    int64_t deadline;
    char value[KEYS];
};
struct slot {
    cctx_callback_t storage;
    bool used, left;
    const cctx_t *on, *x;       /* the registration keeps the one, a handle the other, while it is left */
    bool x_never;
    int number, what, runs, told;
    char error, cause;
};
static const cctx_t *held[REGISTERS];
/* It can never be done. cctx_done would tell, and change what a cancel does. */
static bool never[REGISTERS];
static struct seen last[REGISTERS];
static struct slot slots[SLOTS];
static int64_t start;
static int keys, values_alive;
static char line[8192];
static size_t length;

static void value_gone(void *value)
{
    (void)value;
    values_alive--;
}
#define KEY(name) {name, value_gone}
static const cctx_key_t key[KEYS] = {KEY("0"), KEY("1"), KEY("2"), KEY("3"), KEY("4"), KEY("5"),
    KEY("6"), KEY("7"), KEY("8"), KEY("9"), KEY("10"), KEY("11")};
static const cctx_cause_t causes[7] = {
    {0, NULL}, {1, "1"}, {2, "2"}, {3, "3"}, {4, NULL}, {ECANCELED, "5"}, {6, "6"}};

static const cctx_cause_t *cause_of(int64_t n) { return n == 0 ? NULL : &causes[n]; }

static char error_seen(const cctx_t *ctx)
{
    int e = cctx_err(ctx);
    if (cctx_is_done(ctx) != (e != 0)) return '!';
    return e == 0 ? '-' : e == ECANCELED ? 'C' : e == ETIMEDOUT ? 'T' : '!';
}

static char cause_seen(const cctx_t *ctx)
{
    const cctx_cause_t *c = cctx_cause(ctx);
    char text[32];
    if (!c) return '-';
    if (c == &cctx_canceled) return 'c';
    if (c == &cctx_deadline_exceeded) return 'd';
    for (int i = 1; i <= 6; i++)
        if (c == &causes[i]) return (char)('0' + i);
    snprintf(text, sizeof text, "formatted %d", c->code);
    bool right = c->code >= 7 && c->code <= 9 && c->text && strcmp(text, c->text) == 0;
    return right ? (char)('0' + c->code) : '!';
}

/* ---- what a step did */

static void write_char(char c)
{
    if (length + 1 < sizeof line) line[length++] = c;
    line[length] = 0;
}

static void write_text(const char *text)
{
    while (*text) write_char(*text++);
}

static void write_number(int64_t n)
{
    char digits[24];
    int i = (int)sizeof digits - 1;
    uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    digits[i] = 0;
    do digits[--i] = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    if (n < 0) digits[--i] = '-';
    write_text(digits + i);
}

/* A point in time, as an operand would have it. */
static void write_time(int64_t t)
{
    if (t == CCTX_NEVER) write_char('-');
    else write_number(program_operand(start, t));
}

static void register_look(int r)
{
    const cctx_t *ctx = held[r];
    struct seen s;
    memset(&s, 0, sizeof s);
    if (ctx) {
        s.error = error_seen(ctx);
        s.cause = cause_seen(ctx);
        if (!cctx_deadline(ctx, &s.deadline)) s.deadline = CCTX_NEVER;
        for (int k = 0; k < keys; k++) s.value[k] = (char)('0' + (intptr_t)cctx_value(ctx, &key[k]));
    }
    if (memcmp(&s, &last[r], sizeof s) == 0) return;
    count_if(s.error == 'T' && last[r].error == '-', count_fires);
    last[r] = s;
    write_text(" r");
    write_number(r);
    write_char(':');
    if (!ctx) return;
    write_char(s.error);
    write_char(s.cause);
    write_char('@');
    write_time(s.deadline);
    write_char(':');
    for (int k = 0; k < keys; k++) write_char(s.value[k]);
}

static void slot_look(int f)
{
    struct slot *s = &slots[f];
    if (s->runs == s->told) return;
    s->told = s->runs;
    write_text(" f");
    write_number(f);
    write_char(':');
    write_number(s->runs);
    write_char(s->error);
    write_char(s->cause);
}

/* ---- callbacks */

static void leave(int f, const cctx_t *on, bool on_never, int what, const cctx_t *x, bool x_never);

static void let_go(struct slot *s)
{
    const cctx_t *x = s->x;
    s->left = false;
    s->x = s->on = NULL;
    cctx_unref(x);
}

static void callback(void *arg)
{
    struct slot *s = arg;
    s->runs++;
    s->error = error_seen(s->on);
    s->cause = cause_seen(s->on);
    count(count_runs);
    count_if(s->error == 'T', count_runs_late);
    s->left = false;
    switch (s->what) {
    case 1:
        count(count_does_cancel);
        cctx_cancel_cause((cctx_t *)(uintptr_t)s->x, &causes[6]);
        break;
    case 2:
        count(count_does_derive);
        if (!held[NESTED + s->number]) {
            held[NESTED + s->number] = cctx_with_cancel(s->x);
            never[NESTED + s->number] = false;
        }
        break;
    case 3:
        count(count_does_leave);
        if (!slots[FIRST + s->number].used)
            leave(FIRST + s->number, s->x, s->x_never, 0, cctx_background(), true);
        break;
    case 4:
        count(count_does_stop);
        if (cctx_stop(&s->storage) || cctx_stop_wait(&s->storage)) s->error = '!';
        break;
    default:
        break;
    }
    let_go(s);
}

static void leave(int f, const cctx_t *on, bool on_never, int what, const cctx_t *x, bool x_never)
{
    struct slot *s = &slots[f];
    if (s->left) return;
    s->on = on;
    s->x = cctx_ref(x);
    s->x_never = x_never;
    s->number = f;
    s->what = what;
    s->used = s->left = true;
    count(on_never ? count_after_never : cctx_is_done(on) ? count_after_done : count_after_live);
    if (cctx_after_func(on, &s->storage, callback, s) != 0) abort();
}

static bool stop(struct slot *s, bool waits)
{
    count(!s->used ? count_stop_zero : s->left ? count_stopped
        : s->runs > 0 ? count_stop_late : count_stop_again);
    count_if(waits, count_stop_waits);
    bool stopped = waits ? cctx_stop_wait(&s->storage) : cctx_stop(&s->storage);
    if (stopped != s->left) write_char('!');
    if (stopped) let_go(s);
    return stopped;
}

/* ---- steps */

static const cctx_t *derive_deadline(const struct step *s, const cctx_t *parent)
{
    const int64_t *a = s->arg;
    const cctx_cause_t *cause = cause_of(a[3]);
    int64_t d = program_time(start, a[2]), above;
    count_if(cause != NULL, count_with_cause);
    if (s->op == TIMEOUT) {
        count(a[2] == 0 ? count_timeout_now : a[2] < 0 ? count_timeout_past
            : time_add(fake_time_now(), a[2]) == CCTX_NEVER ? count_timeout_never : count_timeout);
        return cause ? cctx_with_timeout_cause(parent, a[2], cause) : cctx_with_timeout(parent, a[2]);
    }
    if (!cctx_deadline(parent, &above)) above = CCTX_NEVER;
    count(d == CCTX_NEVER ? count_never : d == INT64_MIN ? count_low : d <= fake_time_now() ? count_past
        : d == above ? count_equal : d < above ? count_earlier : count_later);
    return cause ? cctx_with_deadline_cause(parent, d, cause) : cctx_with_deadline(parent, d);
}

static const cctx_t *derive_value(const struct step *s, const cctx_t *parent)
{
    const int64_t *a = s->arg;
    int others = 0;
    for (int k = 0; k < KEYS; k++) others += k != a[2] && cctx_value(parent, &key[k]) != NULL;
    count(cctx_value(parent, &key[a[2]]) ? count_shadow : count_fresh);
    count_if(a[3] == 0, count_null);
    count_if(others >= 8, count_many);
    values_alive++;
    return cctx_with_value(parent, &key[a[2]], (void *)(intptr_t)a[3]);
}

static const cctx_t *derive_any(const struct step *s)
{
    const cctx_t *parents[3];
    int n = (int)s->arg[4];
    bool same = false, done = false, free_one = false;
    for (int i = 0; i < n; i++) {
        parents[i] = held[s->arg[1 + i]];
        if (!parents[i]) return NULL;
        for (int j = 0; j < i; j++) same |= parents[j] == parents[i];
        done |= cctx_is_done(parents[i]);
        free_one |= never[s->arg[1 + i]];
    }
    count(n == 1 ? count_any1 : n == 2 ? count_any2 : count_any3);
    count_if(same, count_any_same);
    count_if(done, count_any_done);
    count_if(free_one, count_any_never);
    return cctx_with_any(parents, (size_t)n);
}

static void derive(const struct step *s)
{
    const int64_t *a = s->arg;
    const cctx_t *parent = held[a[1]], *new = NULL;
    if (!held[a[0]] && parent) {
        count(never[a[1]] ? count_on_never : cctx_is_done(parent) ? count_on_done : count_on_live);
        switch (s->op) {
        case CHILD: count(count_child); new = cctx_with_cancel(parent); break;
        case DEADLINE: case TIMEOUT: new = derive_deadline(s, parent); break;
        case VALUE: new = derive_value(s, parent); break;
        case DETACH: count(count_detach); new = cctx_without_cancel(parent); break;
        case ANY: new = derive_any(s); break;
        default: count(count_refs); new = cctx_ref(parent); break;
        }
        held[a[0]] = new;
        never[a[0]] = s->op == DETACH || ((s->op == VALUE || s->op == REF) && never[a[1]]);
    }
    write_text(new ? "ok" : "-");
    if (new) write_char(error_seen(new));       /* before anything else can happen: born done, or not */
}

static void cancel(int64_t r, int64_t cause)
{
    cctx_t *ctx = (cctx_t *)(uintptr_t)held[r];
    bool was = cctx_is_done(ctx), won;
    count(cause == 0 ? count_plain : cause <= 6 ? count_caused : count_formatted);
    if (cause == 0) won = cctx_cancel(ctx);
    else if (cause <= 6) won = cctx_cancel_cause(ctx, &causes[cause]);
    else won = cctx_cancel_causef(ctx, (int)cause, "formatted %d", (int)cause);
    count(won ? count_won : was ? count_lost : count_cast);
    write_char(won ? '1' : '0');
}

static void advance(int64_t t)
{
    for (int r = 0; r < REGISTERS; r++) {
        int64_t left = held[r] ? cctx_remaining(held[r]) : 0;
        count_if(left > 0 && left == t, count_at_once);
        count_if(left > 1 && left - 1 == t, count_before);
    }
    fake_time_advance(t);
    write_text("ok");
}

static void wait_for(int64_t r, int64_t t, bool free_of_limit)
{
    const cctx_t *ctx = held[r];
    int64_t from = fake_time_now(), end = from + t, d;
    if (!ctx) {
        write_char('-');
    } else if (never[r] && free_of_limit) {
        count(count_waits_dead);
        write_text(cctx_wait(ctx) == EDEADLK ? "never" : "!");
    } else {
        bool known = cctx_is_done(ctx) || (cctx_deadline(ctx, &d) && d <= end), done;
        count(cctx_is_done(ctx) ? count_waits_done : known ? count_waits_end : count_waits_time);
        count_if(free_of_limit && known, count_waits_free);
        if (free_of_limit && known) done = cctx_wait(ctx) == cctx_err(ctx) && cctx_is_done(ctx);
        else if (free_of_limit) done = cctx_wait_for(ctx, t);
        else done = cctx_wait_until(ctx, end);
        write_char(done ? '1' : '0');
        write_char('+');
        write_number(fake_time_now() - from);
    }
    fake_time_advance(end - fake_time_now());
}

static void step(const struct step *s)
{
    const int64_t *a = s->arg;
    switch (s->op) {
    case CANCEL:
        if (held[a[0]]) cancel(a[0], a[1]);
        else write_char('-');
        break;
    case CLOSE:
    case DROP:
        if (held[a[0]] && a[0] >= ROOTS) {
            cctx_t *ctx = (cctx_t *)(uintptr_t)held[a[0]];
            bool done = cctx_is_done(ctx);
            held[a[0]] = NULL;
            if (s->op == CLOSE) cctx_close(ctx);
            else cctx_unref(ctx);
            if (s->op == CLOSE) count(done ? count_close_done : count_close_live);
            else count(done ? count_drop_done : count_drop_live);
            write_text("ok");
        } else {
            write_char('-');
        }
        break;
    case ADVANCE: advance(a[0]); break;
    case AFTER:
        write_text(held[a[1]] && held[a[3]] && !slots[a[0]].left ? "ok" : "-");
        if (held[a[1]] && held[a[3]])
            leave((int)a[0], held[a[1]], never[a[1]], (int)a[2], held[a[3]], never[a[3]]);
        break;
    case STOP: write_char(stop(&slots[a[0]], a[1] != 0) ? '1' : '0'); break;
    case WAIT: wait_for(a[0], a[1], a[2] != 0); break;
    case LOOK:
        if (held[a[0]]) {
            int64_t left = cctx_remaining(held[a[0]]);
            if (left == CCTX_NEVER) write_char('-');
            else write_number(left);
            write_text(cctx_done(held[a[0]]) ? " done" : " never");
            count(count_look);
        } else {
            write_char('-');
        }
        break;
    default: derive(s); break;
    }
}

void drive(const struct program *p, struct drive_sink *sink)
{
    if (p->start > fake_time_now()) fake_time_set(p->start);
    if (p->start != fake_time_now()) {
        fprintf(stderr, "conformance: a program begins before the one above it has ended\n");
        exit(2);
    }
    start = p->start;
    keys = p->keys;
    memset(last, 0, sizeof last);
    memset(slots, 0, sizeof slots);
    held[0] = cctx_background();
    held[1] = cctx_todo();
    never[0] = never[1] = true;
    for (int i = 0; i < p->count; i++) {
        length = 0;
        write_text("= ");
        step(&p->step[i]);
        fake_time_settle();
        for (int r = 0; r < REGISTERS; r++) register_look(r);
        for (int f = 0; f < SLOTS; f++) slot_look(f);
        if (i == p->count - 1) {        /* what is left is let go of, and nothing must be left then */
            for (int f = 0; f < SLOTS; f++)
                if (slots[f].left) stop(&slots[f], f % 2 == 0);
            for (int r = 0; r < REGISTERS; r++) {
                cctx_unref(held[r]);
                held[r] = NULL;
            }
            fake_time_settle();
            if (values_alive != 0) write_text(" !values");
            values_alive = 0;
        }
        write_char('\n');
        sink->step(sink, &p->step[i], line);
    }
}
