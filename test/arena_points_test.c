/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena's own source, where a process is killed before each of its atomic operations in turn, or another one does
 * something of its own there from its beginning to its end. The processes are numbers here, and the bell is counted.
 */
#include "support.h"

#define SYNC_SEEDED
#include "clock.h"
#include "peer.h"
#include "arena.c"

enum { A = 11, B = 22, C = 33, CAPACITY = 2 };

/* ---- the machine ---- */

static int64_t fake_now = 1000;
static bool dead[64];
static long points;             /* to the point at which it happens; 0: never */
static bool happened;
static jmp_buf killed;
static void (*rival)(void);     /* NULL: it is killed */

int64_t clock_now(void) { return fake_now; }
uint64_t peer_space(void) { return 5; }
bool peer_dead(uint64_t who) { return dead[who % 64]; }
void peer_wake(sync_u32 *bell)
{
    (void)bell;
    sched_point(__func__, __LINE__);
}
void sched_point(const char *function, int line)
{
    (void)function;
    (void)line;
    if (points == 0 || --points > 0)
        return;
    happened = true;
    if (!rival)
        longjmp(killed, 1);
    rival();
}
void sched_touch(const char *function, int line, const volatile void *p)
{
    (void)p;
    sched_point(function, line);
}

/* ---- an arena with something in it, and what is done at each point ---- */

static struct arena a;
static struct arena_sight sight;
static uint64_t theirs, ours, made, rivals;
static bool canceled, rival_canceled;

static uint64_t claim(uint64_t who)
{
    uint64_t token;
    return arena_claim(&a, who, CCTX_NEVER, &token) == 0 ? token : 0;
}

static void begin(bool full)
{
    static uint64_t memory[(sizeof(struct arena_head) + CAPACITY * sizeof(struct arena_slot)) / 8]
        __attribute__((aligned(64)));
    points = 0;
    memset(memory, 0, sizeof memory);
    memset(dead, 0, sizeof dead);
    arena_make(&a, memory, CAPACITY);
    ours = claim(A);
    theirs = full ? claim(B) : 0;
    made = rivals = 0;
    canceled = rival_canceled = happened = false;
}

/* Runs act, where it happens at the nth point; true if it got as far. */
static bool at_point(long nth, void (*act)(void), void (*comes)(void))
{
    rival = comes;
    points = nth;
    if (setjmp(killed) == 0)
        act();
    points = 0;
    return happened;
}

static void act_claim(void) { made = claim(B); }
static void act_cancel(void) { canceled = arena_cancel(&a, ours); }
static void act_bury(void) { arena_bury(&a, A); }
static void rival_claim(void) { rivals = claim(C); }
static void rival_cancel(void) { rival_canceled = arena_cancel(&a, ours); }

static uint32_t rung(void) { return *(uint32_t *)&a.head->bell; }

/* All slots can be had by the process C. */
static void check_capacity(void)
{
    for (int i = 0; i < CAPACITY; i++) assert_true(claim(C) != 0);
    assert_true(claim(C) == 0);
}

/* B5: a claim, then the death. The slot comes back. */
static void a_process_killed_in_a_claim_leaves_nothing(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(false);
        came = at_point(n, act_claim, NULL);
        assert_int_equal(arena_look(&a, ours, &sight), ARENA_LIVE);
        assert_true(arena_cancel(&a, ours));
        dead[B] = true;
        check_capacity();
    }
    assert_true(n > 5);
}

/* B5: a claim in a full arena, which ends what the dead left. */
static void a_process_killed_in_the_search_for_room_leaves_nothing(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        dead[A] = true;
        came = at_point(n, act_claim, NULL);
        dead[B] = true;
        check_capacity();
        enum arena_state end = arena_look(&a, ours, &sight);
        assert_true(end == ARENA_DIED || end == ARENA_STALE);   /* used again once, or twice */
    }
    assert_true(n > 20);
}

/* S4: a cancel, then the death. Either it was not, or the next cancel finds it done and has told. */
static void a_process_killed_in_a_cancel_has_canceled_or_not(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        uint32_t before = rung();
        came = at_point(n, act_cancel, NULL);
        enum arena_state seen = arena_look(&a, ours, &sight);
        assert_true(seen == ARENA_LIVE || seen == ARENA_CANCELED);
        assert_true(arena_cancel(&a, ours) == (seen == ARENA_LIVE));
        assert_true(rung() != before);
        before = rung();
        assert_false(arena_cancel(&a, ours));
        assert_int_equal(rung(), before);
    }
    assert_true(n > 4);
}

/* A burial, then the death of who buries: the next one ends it, and rings. */
static void a_process_killed_in_a_burial_leaves_it_to_another(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        dead[A] = true;
        came = at_point(n, act_bury, NULL);
        assert_int_equal(arena_look(&a, theirs, &sight), ARENA_LIVE);
        uint32_t before = rung();
        arena_bury(&a, A);
        assert_true(rung() != before);
        assert_int_equal(arena_look(&a, ours, &sight), ARENA_DIED);
        dead[B] = true;
        check_capacity();
    }
    assert_true(n > 10);
}

/* S1: of two that claim one slot each gets one of its own, or one gets none. */
static void two_that_claim_get_two_slots(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(false);
        came = at_point(n, act_claim, rival_claim);
        assert_true(!came || (made == 0) != (rivals == 0));     /* there was room for one */
        uint64_t got = made ? made : rivals;
        assert_int_equal(arena_look(&a, got, &sight), ARENA_LIVE);
        assert_true(sight.owner == (made ? B : C) && sight.deadline == CCTX_NEVER);
        assert_int_equal(arena_look(&a, ours, &sight), ARENA_LIVE);
    }
}

/* S1: of two that cancel one wins. */
static void two_that_cancel_win_once(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        uint32_t before = rung();
        came = at_point(n, act_cancel, rival_cancel);
        assert_true(canceled + rival_canceled == 1);
        assert_true(rung() != before);
        assert_int_equal(arena_look(&a, ours, &sight), ARENA_CANCELED);
    }
}

/* S3: whoever buries A while another has done so, and a third has got its place and its slot, leaves those alone. */
static void rival_bury_and_claim(void)
{
    arena_bury(&a, A);
    rivals = claim(C);
}
static void a_late_burial_ends_nothing_of_who_came_after(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        dead[A] = true;
        came = at_point(n, act_bury, rival_bury_and_claim);
        if (came) {
            assert_int_equal(arena_look(&a, rivals, &sight), ARENA_LIVE);
            assert_true(sight.owner == C);
        }
        assert_int_equal(arena_look(&a, ours, &sight), ARENA_DIED);
        assert_int_equal(arena_look(&a, theirs, &sight), ARENA_LIVE);
    }
}

/* S2, S3: what is seen of a token is that token's, or that it has ended. */
static enum arena_state seen;
static void act_look(void) { seen = arena_look(&a, ours, &sight); }
static void rival_reuses(void)
{
    uint64_t other;
    arena_bury(&a, A);
    CHECK(arena_claim(&a, C, 7777, &other) == 0 && other != ours);
}
static void a_look_at_a_slot_that_is_used_again_tells_of_no_other_token(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(true);
        came = at_point(n, act_look, rival_reuses);
        assert_true(seen == ARENA_LIVE ? sight.owner == A && sight.deadline == CCTX_NEVER : seen == ARENA_DIED);
    }
    assert_true(n > 4);
}

/* A deadline passes while it is canceled, and its slot is used again. */
static void rival_later(void)
{
    fake_now = 5000;
    rivals = claim(C);
    fake_now = 1000;
}
static void act_cancel_timed(void) { canceled = arena_cancel(&a, made); }
static void a_cancel_that_meets_the_deadline_ends_no_other_token(void **state)
{
    (void)state;
    long n = 1;
    for (bool came = true; came; n++) {
        begin(false);
        CHECK(arena_claim(&a, B, 3000, &made) == 0);
        came = at_point(n, act_cancel_timed, rival_later);
        enum arena_state end = arena_look(&a, made, &sight);
        assert_true(end == (canceled ? ARENA_CANCELED : ARENA_TIMEDOUT));
        if (rivals)
            assert_int_equal(arena_look(&a, rivals, &sight), ARENA_LIVE);
    }
}

/* A claim that a damaged word takes the slot from, in the midst, fails over. */
static void rival_damages(void)
{
    for (int i = 0; i < CAPACITY; i++)
        *(uint64_t *)&a.slot[i].word = UINT64_MAX;
}
static void damage_in_the_midst_is_answered(void **state)
{
    (void)state;
    void (*acts[])(void) = {act_claim, act_cancel, act_bury, act_look};
    for (int i = 0; i < 4; i++)
        for (long n = 1, came = 1; came; n++) {
            begin(i != 0);
            came = at_point(n, acts[i], rival_damages);
            if (came) {
                assert_int_equal(arena_look(&a, ours, &sight), ARENA_CORRUPT);
                assert_false(arena_cancel(&a, ours));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_killed_in_a_claim_leaves_nothing),
        cmocka_unit_test(a_process_killed_in_the_search_for_room_leaves_nothing),
        cmocka_unit_test(a_process_killed_in_a_cancel_has_canceled_or_not),
        cmocka_unit_test(a_process_killed_in_a_burial_leaves_it_to_another),
        cmocka_unit_test(two_that_claim_get_two_slots),
        cmocka_unit_test(two_that_cancel_win_once),
        cmocka_unit_test(a_late_burial_ends_nothing_of_who_came_after),
        cmocka_unit_test(a_look_at_a_slot_that_is_used_again_tells_of_no_other_token),
        cmocka_unit_test(a_cancel_that_meets_the_deadline_ends_no_other_token),
        cmocka_unit_test(damage_in_the_midst_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
