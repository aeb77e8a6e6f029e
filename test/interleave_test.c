/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's own sources, with a scheduling point before each atomic operation: of two threads one runs at
 * a time, and it is decided here after how many points the other one goes on. Each scenario is run with every
 * switch from one thread to the other, from either side, and with a seeded choice of two switches.
 */
#include "schedule/scenarios.h"

#ifdef FIBER_TSAN
enum { TWO_SWITCHES = 20, STEP = 16 };
#else
enum {
    TWO_SWITCHES = 1000,        /* how many of them, for each scenario and side */
    STEP = 1
};
#endif

struct play {
    const struct scenario *scenario;
    bool swapped;
    long first, second;         /* after so many points the one and the other is left */
};
static struct play *now_playing;

static void tell(FILE *out)
{
    fprintf(out, "interleave: %s%s: %ld points of one, %ld of the other (CCTX_SEED=%" PRIu64 ")\n",
            now_playing->scenario->name, now_playing->swapped ? ", swapped" : "", now_playing->first,
            now_playing->second, test_seed_value);
}

static void side(void *arg) { ((void (*)(void))(uintptr_t)arg)(); }

static void race(void *arg)
{
    const struct play *play = arg;
    const struct scenario *s = play->scenario;
    children = s->children;
    far = s->far;
    s->plant();
    machine_start("one", side, (void *)(uintptr_t)(play->swapped ? s->b : s->a));
    machine_start("other", side, (void *)(uintptr_t)(play->swapped ? s->a : s->b));
    machine_join();
    s->check();
    for (int i = 0; i < 8 && epoch_limbo() > 0; i++) polls();
    CHECK(epoch_limbo() == 0);
    machine_check_leaks(node_timer.heap);
}

static void run_once(struct play *play, long first, long second)
{
    struct machine_settings settings = {
        .seed = test_seed_value, .no_service = true, .pause = {first, second}};
    play->first = first;
    play->second = second;
    machine_play(&settings, race, play);
}

static void run_scenario(struct play *play, rng_t *rng)
{
    run_once(play, MACHINE_NEVER_PAUSES, MACHINE_NEVER_PAUSES);
    long first = machine_points_of(1), second = machine_points_of(2);
    for (long i = 0; i < first; i += 1 + (long)rng_below(rng, STEP)) {
        run_once(play, i, MACHINE_NEVER_PAUSES);
        if (machine_points_of(1) > first) first = machine_points_of(1);
        if (machine_points_of(2) > second) second = machine_points_of(2);
    }
    for (int n = 0; n < TWO_SWITCHES && first > 0 && second > 0; n++)
        run_once(play, (long)rng_below(rng, (uint64_t)first), (long)rng_below(rng, (uint64_t)second));
}

/* What the library keeps for ever. */
static void keep(void *arg)
{
    (void)arg;
    p = cctx_with_cancel(cctx_background());
    c[0] = cctx_with_timeout(p, 1000);
    c[1] = cctx_with_timeout(p, 1500);
    c[2] = cctx_with_timeout(p, CCTX_S(2));
    c[3] = cctx_with_timeout(p, CCTX_S(60));
    children = 4;
    cctx_domain_t *domains[2] = {cctx_domain_new(NULL), cctx_domain_new(NULL)};         /* their records */
    for (int i = 0; i < 2; i++) CHECK(cctx_domain_free(domains[i]) == 0);
    role_until(c[0]->deadline);
    drop_all();
    polls();
    machine_check_leaks(node_timer.heap);
}

static void every_switch_between_two_threads_keeps_the_promises(void **state)
{
    (void)state;
    rng_t rng = rng_make(test_seed(), 0);
    struct play *play = mmap(NULL, sizeof *play, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(play != MAP_FAILED);
    now_playing = play;
    play->scenario = &scenarios[0];
    machine_open();
    machine_tell(tell);
    machine_play(&(struct machine_settings){.no_service = true}, keep, NULL);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        for (int k = 0; k < 2; k++) {
            play->scenario = &scenarios[i];
            play->swapped = k == 1;
            run_scenario(play, &rng);
        }
    print_message("%ld schedules, %ld points\n", machine_plays(), machine_all_points());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_switch_between_two_threads_keeps_the_promises)};
    return cmocka_run_group_tests_name("interleave", tests, NULL, NULL);
}
