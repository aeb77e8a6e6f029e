/* SPDX-License-Identifier: BSD-2-Clause */
/* program: the text of programs, and when their deadlines are due. */
#include "program.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

const struct op_word op_words[OPS] = {
    [CHILD] = {"child", 2}, [DEADLINE] = {"deadline", 4}, [TIMEOUT] = {"timeout", 4}, [VALUE] = {"value", 4},
    [DETACH] = {"detach", 2}, [ANY] = {"any", 5}, [REF] = {"ref", 2}, [CANCEL] = {"cancel", 2},
    [CLOSE] = {"close", 1}, [DROP] = {"drop", 1}, [ADVANCE] = {"advance", 1}, [AFTER] = {"after", 4},
    [STOP] = {"stop", 2}, [WAIT] = {"wait", 3}, [LOOK] = {"look", 1},
};

static void bad(const char *line)
{
    fprintf(stderr, "conformance: this is no line of a program: %.*s\n", (int)strcspn(line, "\n"), line);
    exit(2);
}

static const char *line_next(const char *line)
{
    line += strcspn(line, "\n");
    return *line ? line + 1 : line;
}

/* A number up to the end of its word, of which a copy is read: strtoll may look for the end of all programs. */
static int64_t number(const char *at, const char **end)
{
    char word[24], *stop;
    size_t blank = strspn(at, " "), length = strcspn(at + blank, " \n");
    *end = at;
    if (length == 0 || length >= sizeof word) return 0;
    memcpy(word, at + blank, length);
    word[length] = 0;
    int64_t value = strtoll(word, &stop, 10);
    if (*stop == 0) *end = at + blank + length;
    return value;
}

static void step_read(struct step *s, const char *line)
{
    size_t length = strcspn(line, " \n");
    for (int op = 0; op < OPS; op++) {
        if (strlen(op_words[op].word) != length || strncmp(op_words[op].word, line, length) != 0) continue;
        const char *at = line + length, *end;
        s->op = (enum op)op;
        for (int i = 0; i < op_words[op].operands; i++) {
            s->arg[i] = number(at, &end);
            if (end == at) bad(line);
            at = end;
        }
        if (*at == '\n') return;
    }
    bad(line);
}

bool program_read(struct program *p, const char **text)
{
    const char *line = *text;
    while (*line == '=') line = line_next(line);
    if (!*line) return false;
    if (*line != '@') bad(line);
    const char *at;
    p->seed = (uint64_t)number(line + 1, &at);
    p->start = number(at, &at);
    p->keys = (int)number(at, &at);
    if (*at != '\n' || p->keys < 0 || p->keys > KEYS) bad(line);
    p->count = 0;
    for (line = line_next(line); *line && *line != '@'; line = line_next(line)) {
        if (*line == '=') continue;
        if (p->count == STEPS) bad(line);
        step_read(&p->step[p->count++], line);
    }
    *text = line;
    return true;
}

void step_write(const struct step *s, FILE *out)
{
    fputs(op_words[s->op].word, out);
    for (int i = 0; i < op_words[s->op].operands; i++) fprintf(out, " %" PRId64, s->arg[i]);
    putc('\n', out);
}

void program_write(const struct program *p, FILE *out)
{
    fprintf(out, "@ %" PRIu64 " %" PRId64 " %d\n", p->seed, p->start, p->keys);
    for (int i = 0; i < p->count; i++) step_write(&p->step[i], out);
}

static bool absolute(int64_t t) { return t >= (int64_t)1 << 62 || t <= -((int64_t)1 << 62); }

int64_t program_time(int64_t start, int64_t operand) { return absolute(operand) ? operand : start + operand; }
int64_t program_operand(int64_t start, int64_t time) { return absolute(time) ? time : time - start; }

/* ---- when things are due */

void schedule_begin(struct schedule *s, int64_t start)
{
    memset(s, 0, sizeof *s);
    s->start = s->now = start;
    for (int r = 0; r < REGISTERS; r++) {
        s->deadline[r] = INT64_MAX;
        /* A callback may have filled its register or not: steps that name it are taken to be done. */
        s->held[r] = r < ROOTS || r >= NESTED;
    }
}

static bool schedule_due(struct schedule *s, int64_t when)
{
    for (int i = 0; i < s->count; i++)
        if (s->due[i] == when) return false;
    s->due[s->count++] = when;
    return true;
}

bool schedule_step(struct schedule *s, const struct step *step)
{
    const int64_t *a = step->arg, r = a[0];
    int64_t d = INT64_MAX;
    switch (step->op) {
    case ADVANCE:
        s->now = time_add(s->now, r);
        return true;
    case WAIT:
        if (!schedule_due(s, s->now + a[1])) return false;
        s->now += a[1];
        return true;
    case CLOSE:
    case DROP:
        if (r >= ROOTS && r < NESTED) s->held[r] = false;
        return true;
    case CHILD:
    case VALUE:
    case DETACH:
    case REF:
    case ANY:
    case DEADLINE:
    case TIMEOUT:
        break;
    default:
        return true;
    }
    int parents = step->op == ANY ? (int)a[4] : 1;
    for (int i = 0; i < parents; i++)
        if (!s->held[a[1 + i]]) return true;
    if (s->held[r]) return true;
    if (step->op != DETACH)
        for (int i = 0; i < parents; i++) d = time_min(d, s->deadline[a[1 + i]]);
    if (step->op == DEADLINE || step->op == TIMEOUT) {
        int64_t own = step->op == DEADLINE ? program_time(s->start, a[2]) : time_add(s->now, a[2]);
        if (own < d && own > s->now && own != INT64_MAX && !schedule_due(s, own)) return false;
        d = time_min(d, own);
    }
    s->deadline[r] = d;
    s->held[r] = true;
    return true;
}
