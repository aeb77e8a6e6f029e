/* SPDX-License-Identifier: BSD-2-Clause */
/* fake_time: a machine of one thread whose clock the test moves, in place of the library's clock, futex and service. */
#include "fake_time.h"
#include "fiber.h"

#include "clock.h"
#include "futex.h"
#include "service.h"

enum { SERVICES = 4 };

struct sleeper {
    struct fiber fiber;
    struct service *service;    /* NULL: the test's own thread */
    sync_u32 *word;             /* NULL: it can run */
    int64_t until;
};

static int64_t now = 1000000000;
static struct sleeper services[SERVICES], test;
static struct sleeper *current = &test;
static int count;

int64_t clock_now(void) { return now; }
int64_t fake_time_now(void) { return now; }
void fake_time_set(int64_t to) { now = to; }

static void service_main(void *arg) { ((struct sleeper *)arg)->service->main(); }

bool service_start(struct service *s)
{
    for (int i = 0; i < count; i++)
        if (services[i].service == s) return true;
    if (count == SERVICES) abort();
    struct sleeper *new = &services[count++];
    new->service = s;
    fiber_make(&new->fiber, service_main, new);
    return true;
}
void service_forked(struct service *s) { (void)s; }

/* Runs the one until it sleeps. */
static void run(struct sleeper *s)
{
    struct sleeper *before = current;
    current = s;
    fiber_switch(&before->fiber, &s->fiber);
    current = before;
}

static bool awake(struct sleeper *s) { return !s->word || s->until <= now; }

void fake_time_settle(void)
{
    for (bool ran = true; ran;) {
        ran = false;
        for (int i = 0; i < count; i++)
            if (&services[i] != current && awake(&services[i])) {
                ran = true;
                run(&services[i]);
            }
    }
}

/* The next moment at which a service wakes. */
static int64_t next_moment(void)
{
    int64_t next = INT64_MAX;
    for (int i = 0; i < count; i++)
        if (services[i].until < next) next = services[i].until;
    return next;
}

void fake_time_advance(int64_t ns)
{
    int64_t end = time_add(now, ns);
    fake_time_settle();
    for (int64_t next; (next = next_moment()) <= end && next != INT64_MAX;) {
        now = next;
        fake_time_settle();
    }
    now = end;
}

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    struct sleeper *s = current;
    if (atomic_load_explicit(&word->raw, memory_order_relaxed) != seen) return true;
    s->word = word;
    s->until = until;
    if (s != &test) fiber_switch(&s->fiber, s->fiber.from);
    else
        for (;;) {
            fake_time_settle();
            if (!s->word || until <= now) break;
            int64_t next = next_moment();
            if (next > until) next = until;
            if (next == INT64_MAX) abort();     /* nothing can end this sleep */
            now = next;
        }
    bool woken = s->word == NULL;
    s->word = NULL;
    s->until = INT64_MAX;
    return woken || now < until;
}

void futex_wake(sync_u32 *word)
{
    if (test.word == word) test.word = NULL;
    for (int i = 0; i < count; i++)
        if (services[i].word == word) services[i].word = NULL;
}
