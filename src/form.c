/* Layer 1, machine. form: a line of a dump in each of its forms; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "form.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

enum { INDENT_MAX = 32 };

static void failed(struct pen *p) { p->error = errno ? errno : EIO; }

__attribute__((format(printf, 2, 3))) static void put(struct pen *p, const char *format, ...)
{
    va_list args;
    if (p->error) return;
    errno = 0;
    va_start(args, format);
    if (vfprintf(p->out, format, args) < 0) failed(p);
    va_end(args);
}

/* The bytes of the character of UTF-8 that s begins with; 0: it is none. (RFC 3629: no surrogates, nothing longer
 * than need be.) */
static unsigned utf8_length(const unsigned char *s)
{
    unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (unsigned i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && (s[0] & 15) == 0 && s[1] < 0xa0) return 0;
    if (n == 3 && s[0] == 0xed && s[1] >= 0xa0) return 0;
    if (n == 4 && s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (n == 4 && s[0] == 0xf4 && s[1] >= 0x90) return 0;
    return n;
}

/* Text between quotes. */
static void put_text(struct pen *p, const char *text)
{
    put(p, "\"");
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        unsigned n = utf8_length(s);
        if (n == 0 || *s < ' ' || *s == 0x7f) {
            if (p->form == FORM_JSON) put(p, "\\u%04x", n == 0 ? 0xfffdu : *s);
            else put(p, "?");
            s++;
            continue;
        }
        bool special = (*s == '"' || *s == '\\') && p->form != FORM_TEXT;
        put(p, "%s%.*s", special ? "\\" : "", (int)n, (const char *)s);
        s += n;
    }
    put(p, "\"");
}

/* "4.982 s": three digits after the point, towards zero. */
static void put_seconds(struct pen *p, int64_t ns)
{
    uint64_t u = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    put(p, "%" PRIu64 ".%03" PRIu64 " s %s", u / 1000000000, u / 1000000 % 1000, ns < 0 ? "overdue" : "left");
}

/* What is no text of the program's, for people: from the state on, with sep between. */
static void put_words(struct pen *p, const struct line *l, const char *sep)
{
    put(p, "%s", l->state);
    if (l->has_deadline && !l->done) {
        put(p, "%s", sep);
        put_seconds(p, l->left);
    }
    if (l->waiters > 0)
        put(p, "%s%u%s waiter%s", sep, l->waiters, l->waiters == 255 ? " or more" : "", l->waiters == 1 ? "" : "s");
    if (l->callbacks) put(p, "%scallback", sep);
    if (l->has_cause) put(p, "%scause %d", sep, l->code);
}

static void put_text_line(struct pen *p, const struct line *l)
{
    bool deep = l->depth > INDENT_MAX;
    put(p, "%*s", 2 * (int)(deep ? INDENT_MAX : l->depth), "");
    if (deep) put(p, "[%zu] ", l->depth);
    put(p, "%s %p ", l->kind, l->id);
    if (!l->state) {
        put(p, "stands elsewhere\n");
        return;
    }
    if (l->name) {
        put_text(p, l->name);
        put(p, " ");
    }
    put_words(p, l, ", ");
    if (l->text) {
        put(p, " ");
        put_text(p, l->text);
    }
    if (l->key) {
        put(p, ", through ");
        put_text(p, l->key);
    }
    if (l->place) put(p, ", by %s at %s", l->call, l->place);
    put(p, "\n");
}

/* The label is one string or several that + joins: what comes from the program is escaped by itself. */
static void put_dot_line(struct pen *p, const struct line *l)
{
    if (l->state) {
        put(p, "  \"%p\" [label=", l->id);
        if (l->name) {
            put_text(p, l->name);
            put(p, " + \"\\n\" + ");
        }
        put(p, "\"%s\\n%p\\n", l->kind, l->id);
        put_words(p, l, "\\n");
        put(p, "\"");
        if (l->text) {
            put(p, " + \"\\n\" + ");
            put_text(p, l->text);
        }
        if (l->place) {
            put(p, " + \"\\n%s\\n\" + ", l->call);
            put_text(p, l->place);
        }
        put(p, "%s];\n", l->done ? " style=filled" : "");
    }
    if (!l->parent) return;
    put(p, "  \"%p\" -> \"%p\" [%s", l->parent, l->id, l->state ? "" : "style=dashed");
    if (l->key) {
        put(p, l->state ? "label=" : " label=");
        put_text(p, l->key);
    }
    put(p, "];\n");
}

/* ,"name":"text" or ,"name":null */
static void put_member(struct pen *p, const char *name, const char *text)
{
    put(p, ",\"%s\":", name);
    if (text) put_text(p, text);
    else put(p, "null");
}

static void put_json_line(struct pen *p, const struct line *l)
{
    put(p, "%s{\"id\":\"%p\",\"parent\":", p->began ? ",\n" : "\n", l->id);
    if (l->parent) put(p, "\"%p\"", l->parent);
    else put(p, "null");
    put(p, ",\"depth\":%zu,\"kind\":\"%s\",\"reference\":%s", l->depth, l->kind, l->state ? "false" : "true");
    put_member(p, "key", l->key);
    if (l->state) {
        put_member(p, "state", l->state);
        if (l->has_deadline) put(p, ",\"deadline\":%" PRId64 ",\"left\":%" PRId64, l->deadline, l->left);
        else put(p, ",\"deadline\":null,\"left\":null");
        put(p, ",\"waiters\":%u,\"callbacks\":%s,\"cause\":", l->waiters, l->callbacks ? "true" : "false");
        if (l->has_cause) {
            put(p, "{\"code\":%d", l->code);
            put_member(p, "text", l->text);
            put(p, "}");
        } else {
            put(p, "null");
        }
        put_member(p, "name", l->name);
        put_member(p, "call", l->call);
        put_member(p, "place", l->place);
    }
    put(p, "}");
}

void form_begin(struct pen *p)
{
    static const char *const head[FORMS] = {"", "digraph cctx {\n  node [shape=box];\n", "{\"contexts\":["};
    put(p, "%s", head[p->form]);
}

void form_line(struct pen *p, const struct line *line)
{
    if (p->form == FORM_TEXT) put_text_line(p, line);
    else if (p->form == FORM_DOT) put_dot_line(p, line);
    else put_json_line(p, line);
    p->began = true;
}

void form_end(struct pen *p)
{
    static const char *const tail[FORMS] = {"", "}\n", "\n]}\n"};
    put(p, "%s", tail[p->form]);
    errno = 0;
    if (!p->error && fflush(p->out) != 0) failed(p);
}
