/* SPDX-License-Identifier: BSD-2-Clause */
/* generate: random programs, each by its seed. */
#include "generate.h"

#include <string.h>

#include "base.h"

static uint64_t state;

static uint64_t next(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t below(int64_t n) { return (int64_t)(next() % (uint64_t)n); }
static bool in_hundred(int n) { return below(100) < n; }

/* How often each operation is tried, by what a program is about. */
static const unsigned char weights[][OPS] = {
    /* child deadline timeout value detach any ref cancel close drop advance after stop wait look */
    {10, 8, 8, 6, 3, 5, 3, 8, 4, 4, 12, 10, 6, 3, 3},          /* all of it */
    {16, 2, 2, 2, 1, 2, 2, 8, 5, 5, 3, 10, 5, 1, 1},           /* the tree */
    {4, 1, 1, 30, 3, 3, 1, 3, 2, 3, 1, 1, 1, 0, 1},            /* values */
    {4, 14, 14, 2, 2, 3, 1, 4, 3, 3, 20, 8, 3, 5, 4},          /* time */
    {6, 5, 5, 2, 1, 3, 2, 10, 3, 3, 10, 24, 14, 2, 1},         /* callbacks */
    {8, 6, 6, 3, 2, 20, 3, 8, 3, 4, 12, 6, 3, 2, 2},           /* merges */
};

static struct schedule schedule;
static int newest, hub;
static bool about_width, about_values;
static unsigned used_slots;

static int free_register(void)
{
    for (int r = ROOTS; r < NESTED; r++)
        if (!schedule.held[r]) return r;
    return -1;
}

/* A register to work on: mostly one that is in use, and the newest, so that trees grow deep. */
static int some_register(void)
{
    if (about_width && in_hundred(60) && schedule.held[hub]) return hub;
    if (in_hundred(about_values ? 85 : 40) && schedule.held[newest]) return newest;
    for (int tries = 0; tries < 8; tries++) {
        int r = (int)below(in_hundred(95) ? NESTED : REGISTERS);
        if (schedule.held[r] && (r >= ROOTS || in_hundred(30))) return r;
    }
    return newest;
}

static int some_cause(void) { return in_hundred(40) ? 0 : (int)(1 + below(5)); }

/* A duration of any order of magnitude up to some hours, the far ones seldom. */
static int64_t some_time(void)
{
    int bits = (int)(in_hundred(2) ? below(44) : below(34));
    return 1 + below((int64_t)1 << bits);
}

/* Wraps: any time will do. */
static int64_t less(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }

/* One of the moments at which something is due, if one comes soon enough. */
static int64_t some_due(void)
{
    for (int tries = 0; schedule.count > 0 && tries < 4; tries++) {
        int64_t due = schedule.due[below(schedule.count)];
        if (due > schedule.now && due - schedule.now < (int64_t)1 << 44) return due;
    }
    return schedule.now + some_time();
}

static int64_t some_deadline(int parent)
{
    int64_t above = schedule.deadline[parent], t = schedule.now + some_time();
    const int64_t near = 5, min = INT64_MIN;
    switch (below(20)) {
    case 0: return INT64_MAX - (in_hundred(50) ? 0 : below(near));
    case 1: return in_hundred(50) ? min : min + 1 + below(near);
    case 2: return schedule.now - schedule.start - (in_hundred(50) ? 0 : some_time());
    case 3: case 4: case 5: if (above != INT64_MAX) t = above; break;
    case 6: t = time_add(above, 1 + below(1000)); break;
    case 7: t = time_add(above, -1 - below(1000)); break;
    default: break;
    }
    return t > (int64_t)1 << 61 ? t : less(t, schedule.start);
}

static int64_t some_timeout(int parent)
{
    int64_t above = schedule.deadline[parent];
    switch (below(16)) {
    case 0: return 0;
    case 1: return in_hundred(70) ? -some_time() : INT64_MIN;
    case 2: return INT64_MAX - (in_hundred(50) ? 0 : below(2) * schedule.now + below(5));
    case 3: case 4:
        if (above == INT64_MAX) return some_time();
        return less(above, schedule.now + 1 - below(3));
    default: return some_time();
    }
}

static enum op some_op(const unsigned char *weight)
{
    int total = 0, op = 0;
    for (int i = 0; i < OPS; i++) total += weight[i];
    int64_t at = below(total);
    while (at >= weight[op]) at -= weight[op++];
    return (enum op)op;
}

/* Fills in the operands; false if there is no register for what it makes. */
static bool operands(struct step *s, int keys)
{
    int64_t *a = s->arg;
    memset(a, 0, sizeof s->arg);
    switch (s->op) {
    case CANCEL:
        a[0] = some_register();
        if (a[0] < ROOTS) a[0] = some_register();
        a[1] = in_hundred(30) ? 0 : 1 + below(9);
        return true;
    case CLOSE: case DROP: a[0] = some_register(); return true;
    case ADVANCE:
        a[0] = in_hundred(5) ? 0 : in_hundred(70) ? some_due() - schedule.now + below(3) - 1 : some_time();
        if (a[0] < 0) a[0] = 0;
        return true;
    case AFTER:
        a[0] = below(FIRST);
        a[1] = some_register();
        a[2] = below(5);
        a[3] = some_register();
        used_slots |= 1u << a[0] | (a[2] == 3 ? 1u << (FIRST + a[0]) : 0);
        return true;
    case STOP:
        do a[0] = below(SLOTS);
        while (!(used_slots >> a[0] & 1) && in_hundred(95));
        a[1] = below(2);
        return true;
    case WAIT:
        a[0] = some_register();
        a[1] = (in_hundred(60) ? some_due() - schedule.now : some_time()) + below(100);
        a[2] = below(2);
        return true;
    case LOOK: a[0] = some_register(); return true;
    default: break;
    }
    a[0] = free_register();
    if (a[0] < 0) return false;
    a[1] = some_register();
    switch (s->op) {
    case DEADLINE: a[2] = some_deadline((int)a[1]); a[3] = some_cause(); break;
    case TIMEOUT: a[2] = some_timeout((int)a[1]); a[3] = some_cause(); break;
    case VALUE: a[2] = below(keys); a[3] = below(10); break;
    case ANY: a[2] = some_register(); a[3] = some_register(); a[4] = 1 + below(3); break;
    default: break;
    }
    return true;
}

int64_t generate(struct program *p, uint64_t seed, int64_t start)
{
    state = seed * 0xd1342543de82ef95u + 1;
    next();
    const unsigned char *weight = weights[below(sizeof weights / sizeof weights[0])];
    p->seed = seed;
    p->start = start;
    about_width = in_hundred(15);
    about_values = weight == weights[2];
    p->keys = about_values ? KEYS : in_hundred(10) ? KEYS : (int)(2 + below(2));
    p->count = 0;
    int steps = (int)(10 + below(31));
    used_slots = 0;
    newest = 0;
    hub = ROOTS + (int)below(2);
    schedule_begin(&schedule, start);
    while (p->count < steps) {
        struct step s;
        do s.op = some_op(weight);
        while (p->count < 3 && s.op >= CANCEL);         /* something to work on */
        if (!operands(&s, p->keys) || !schedule_step(&schedule, &s)) continue;
        p->step[p->count++] = s;
        if (s.op < CANCEL) newest = (int)s.arg[0];
    }
    return schedule.now;
}
