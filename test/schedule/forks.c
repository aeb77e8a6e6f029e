/* SPDX-License-Identifier: BSD-2-Clause */
/* forks: a fork at every point of every scenario. One thread is stopped after so many points of its side (or
 * each of two after so many of theirs) and a third one really forks; in the child, where that one alone goes
 * on, all that is in its hands must still work, end and go, and a new tree with deadlines and callbacks must
 * too (contract, C23). The child must exit with 0 before an alarm; one that sleeps for ever is found at once.
 * usage: forks [SCENARIO-NUMBER POINTS-OF-ONE POINTS-OF-OTHER]     one fork; for the numbers see a failure */
#include "scenarios.h"

enum { BOTH = 40 };             /* forks with two threads in the middle of something, for each scenario */

struct play {
    unsigned number;
    bool swapped, both;
    long first, second;
};
static struct play *now_playing;

static void tell(FILE *out)
{
    fprintf(out, "forks: %s%s; again: forks %u %ld %ld (CCTX_SEED=%" PRIu64 ")\n",
            scenarios[now_playing->number].name, now_playing->swapped ? ", swapped" : "",
            2 * now_playing->number + now_playing->swapped, now_playing->first, now_playing->second,
            test_seed_value);
}

static void side(void *arg) { ((void (*)(void))(uintptr_t)arg)(); }
static void count(void *arg) { ++*(int *)arg; }

static void look(const cctx_t *ctx)
{
    int err = cctx_err(ctx);
    const cctx_cause_t *why = cctx_cause(ctx);
    char text[200];
    CHECK((err != 0) == (why != NULL));
    CHECK(cctx_done(ctx) == cctx_done(ctx));
    CHECK(cctx_remaining(ctx) >= 0);
    CHECK(cctx_value(ctx, &key) == NULL || cctx_value(ctx, &key) == &destroyed);
    CHECK(cctx_print(ctx, text, sizeof text) > 0);
}

/* Derives, cancels and closes below ctx. */
static void use(const cctx_t *ctx)
{
    int calls = 0;
    cctx_callback_t mine = {0};
    cctx_t *child = cctx_with_cancel(ctx), *timed = cctx_with_timeout(child, 30);
    CHECK(child && timed);
    CHECK(!cctx_is_done(ctx) || (cctx_is_done(child) && cctx_is_done(timed)));
    CHECK(cctx_after_func(timed, &mine, count, &calls) == 0);
    CHECK(cctx_wait(timed) != 0);
    cctx_cancel(child);
    CHECK(cctx_is_done(timed));
    bool stopped = cctx_stop_wait(&mine);       /* where the runner has not come to it yet */
    CHECK(calls == !stopped);
    cctx_close(timed);
    cctx_close(child);
}

/* Is cb in its slot, where whoever comes first may run it or stop it? */
static bool in_slot(void)
{
    struct callback *in = (struct callback *)(void *)&cb;
    return registered && ran == 0 && in->slot && (in->slot->raw & ~(uintptr_t)SLOT_MASK) == (uintptr_t)in;
}

static void live_as_child(bool stops_first)
{
    machine_let_services();
    cctx_time_t at;
    queued.fn = NULL;                   /* what was submitted before is not run here */
    if (d) look(d);
    if (v) look(v);
    if (p) look(p);
    for (unsigned i = 0; i < children; i++)
        if (c[i]) look(c[i]);
    if (p) use(p);
    if (v) use(v);
    if (d) use(d);
    if (children > 0 && c[0]) use(c[0]);
    const cctx_t *timed[] = {d, v};
    for (int i = 0; i < 2; i++)
        if (timed[i] && cctx_deadline(timed[i], &at)) {
            /* Nobody waits on it. C13 */
            cctx_wait_until(cctx_background(), at + 10);
            cctx_wait_until(cctx_background(), at + 20);
            CHECK(cctx_is_done(timed[i]));
        }
    if (stops_first && registered) {
        bool whole = in_slot(), stopped = cctx_stop_wait(&cb);
        registered = false;
        CHECK(!whole || (stopped && ran == 0));
        memset(&cb, POISON, sizeof cb);
    }
    if (p) {
        bool whole = in_slot();
        cctx_cancel(p);
        run_queue();
        all_done();
        CHECK(!whole || ran == 1 || handed_over);
        CHECK(!d || cctx_is_done(d));
        CHECK(!v || cctx_is_done(v));
        CHECK(cctx_wait(p) != 0);
    }
    if (registered) {
        cctx_stop_wait(&cb);
        CHECK(ran <= 1);
        memset(&cb, POISON, sizeof cb);
    }
    drop_all();
    drop(&again);
    polls();
    use(cctx_background());
    machine_end_services();
    for (int i = 0; i < 8 && epoch_limbo() > 0; i++) polls();
    CHECK(epoch_limbo() == 0);
    machine_end_child();
}

static void race(void *arg)
{
    const struct play *play = arg;
    const struct scenario *s = &scenarios[play->number];
    children = s->children;
    far = s->far;
    s->plant();
    machine_start("one", side, (void *)(uintptr_t)(play->swapped ? s->b : s->a));
    if (play->both) machine_start("other", side, (void *)(uintptr_t)(play->swapped ? s->a : s->b));
    machine_join();
    if (play->first < 0) return;
    int child = machine_fork();
    if (child == 0) live_as_child(play->first % 2 != 0);
    machine_reap(child);
}

static void run_once(struct play *play, bool both, long first, long second)
{
    struct machine_settings settings = {
        .seed = test_seed_value, .no_service = true, .watched = true, .pause = {first, second}};
    play->both = both;
    play->first = first;
    play->second = second;
    machine_play(&settings, race, play);
}

static void run_scenario(struct play *play, rng_t *rng)
{
    run_once(play, true, MACHINE_NEVER_PAUSES, MACHINE_NEVER_PAUSES);
    long first = machine_points_of(1), second = machine_points_of(2);
    for (long i = 0; i < first; i++) run_once(play, false, i, MACHINE_NEVER_PAUSES);
    if (play->swapped) return;
    for (int n = 0; n < BOTH && first > 0 && second > 0; n++)
        run_once(play, true, (long)rng_below(rng, (uint64_t)first), (long)rng_below(rng, (uint64_t)second));
}

int main(int argc, char **argv)
{
    enum { COUNT = sizeof scenarios / sizeof *scenarios - OF_DOMAINS };
    struct play *play = mmap(NULL, sizeof *play, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(play != MAP_FAILED);
    rng_t rng = rng_make(test_seed(), 0);
    now_playing = play;
    machine_open();
    machine_tell(tell);
    unsigned long only = argc == 4 ? strtoul(argv[1], NULL, 0) : 0;
    if ((argc != 1 && argc != 4) || only >= 2 * COUNT) {
        fprintf(stderr, "usage: %s [SCENARIO-NUMBER POINTS-OF-ONE POINTS-OF-OTHER]\n", argv[0]);
        return 2;
    }
    if (argc == 4) {
        long other = strtol(argv[3], NULL, 0);
        play->number = (unsigned)only / 2;
        play->swapped = only % 2;
        run_once(play, other >= 0, strtol(argv[2], NULL, 0), other);
    } else {
        for (unsigned i = 0; i < 2 * COUNT; i++) {
            play->number = i / 2;
            play->swapped = i % 2;
            run_scenario(play, &rng);
        }
    }
    printf("%ld forks, %d scenarios\n", machine_forks(), COUNT);
    return 0;
}
