/* SPDX-License-Identifier: BSD-2-Clause */
/* arena from inside: tokens in plain memory, each field of it damaged in turn, and places of processes that died. */
#include "support.h"

#include "arena.h"
#include "peer.h"

enum { CAPACITY = 4, STATE = 7, LAST_SHIFT = 3, TOLD = 32, OWNER_SHIFT = 8, GENERATION_SHIFT = 20 };
#define NOBODY (((uint64_t)1 << 22) - 1) /* no process has this number */

static struct arena a;
static struct arena_sight sight;

static int setup(void **state)
{
    (void)state;
    void *memory = NULL;
    CHECK(posix_memalign(&memory, 4096, arena_size(CAPACITY)) == 0);
    arena_make(&a, memset(memory, 0, arena_size(CAPACITY)), CAPACITY);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    free(a.head);
    return 0;
}

static uint64_t claim(uint64_t who, int64_t deadline)
{
    uint64_t token = 0;
    int error = arena_claim(&a, who, deadline, &token);
    CHECK(error == 0 && token != 0);
    return token;
}
static uint64_t claimed(void) { return claim(peer_self(), CCTX_NEVER); }
static uint64_t *word(uint64_t token) { return (uint64_t *)&a.slot[token % ARENA_MOST].word; }
static uint64_t *place(unsigned i) { return (uint64_t *)&a.head->process[i]; }
static uint32_t rung(void) { return *(uint32_t *)&a.head->bell; }

static void a_token_is_live_until_it_is_canceled(void **state)
{
    (void)state;
    uint64_t token = claim(peer_self(), 5 + now_ns() * 2);
    assert_int_equal(arena_look(&a, token, &sight), ARENA_LIVE);
    assert_true(sight.owner == peer_self() && sight.deadline > now_ns());
    uint32_t before = rung();
    assert_true(arena_cancel(&a, token));
    assert_int_equal(rung(), before + 1);
    assert_int_equal(arena_look(&a, token, &sight), ARENA_CANCELED);
    assert_false(arena_cancel(&a, token));
    assert_int_equal(rung(), before + 1);
}

static void a_token_past_its_deadline_cannot_be_canceled(void **state)
{
    (void)state;
    uint64_t token = claim(peer_self(), now_ns());
    uint32_t before = rung();
    assert_false(arena_cancel(&a, token));
    assert_false(arena_cancel(&a, token));
    assert_int_equal(arena_look(&a, token, &sight), ARENA_TIMEDOUT);
    assert_int_equal(rung(), before);
}

/* S4: who was killed before it rang is helped by who loses to it. */
static void an_end_that_was_not_told_is_told_by_the_loser_or_the_next_claimant(void **state)
{
    (void)state;
    enum arena_state ends[] = {ARENA_CANCELED, ARENA_DIED};
    for (int i = 0; i < 2; i++) {
        uint64_t token = claimed(), other = claimed();
        *word(token) = (*word(token) & ~(uint64_t)STATE) | ends[i];
        *word(other) = (*word(other) & ~(uint64_t)STATE) | ends[i];
        uint32_t before = rung();
        assert_false(arena_cancel(&a, token));
        assert_int_equal(rung(), before + 1);
        assert_true((*word(token) & TOLD) != 0);
        assert_false(arena_cancel(&a, token));
        assert_int_equal(rung(), before + 1);
        for (int n = 0; n < CAPACITY; n++) claim(peer_self(), 0);
        assert_int_equal(rung(), before + 2);
    }
}

/* S5 */
static void how_a_token_ended_is_known_for_one_generation_more(void **state)
{
    (void)state;
    enum arena_state ends[] = {ARENA_CANCELED, ARENA_TIMEDOUT, ARENA_DIED};
    for (int i = 0; i < 3; i++) {
        uint64_t token[CAPACITY];
        for (int n = 0; n < CAPACITY; n++) {
            token[n] = claimed();
            *word(token[n]) = (*word(token[n]) & ~(uint64_t)STATE) | ends[i];
        }
        for (int n = 0; n < CAPACITY; n++) {
            assert_int_equal(arena_look(&a, token[n], &sight), ends[i]);
            claim(peer_self(), 0);
            assert_int_equal(arena_look(&a, token[n], &sight), ends[i]);
        }
        for (int n = 0; n < CAPACITY; n++) claim(peer_self(), 0);
        for (int n = 0; n < CAPACITY; n++) assert_int_equal(arena_look(&a, token[n], &sight), ARENA_STALE);
    }
}

/* S1 */
static void a_generation_that_ran_out_is_the_slots_last(void **state)
{
    (void)state;
    uint64_t last = UINT64_MAX >> GENERATION_SHIFT, made = 0;
    for (unsigned i = 0; i < CAPACITY; i++)
        *(uint64_t *)&a.slot[i].word = (last - 1) << GENERATION_SHIFT | 1 << LAST_SHIFT | ARENA_CANCELED | TOLD;
    for (unsigned i = 0; i < CAPACITY; i++) {
        uint64_t token = claimed();
        assert_true(token >> GENERATION_SHIFT == last);
        assert_int_equal(arena_look(&a, token, &sight), ARENA_LIVE);
        assert_true(arena_cancel(&a, token));
    }
    assert_int_equal(arena_claim(&a, peer_self(), CCTX_NEVER, &made), ENOSPC);
    assert_true(made == 0);
}

static void a_token_that_was_not_given_out_is_none(void **state)
{
    (void)state;
    uint64_t token = claimed(), generation = (uint64_t)1 << GENERATION_SHIFT;
    uint64_t none[] = {0, 1, generation | CAPACITY, generation | (ARENA_MOST - 1), CAPACITY};
    for (unsigned i = 0; i < sizeof none / sizeof *none; i++) {
        assert_int_equal(arena_look(&a, none[i], &sight), ARENA_NONE);
        assert_false(arena_cancel(&a, none[i]));
    }
    uint64_t stale[] = {token + generation, token + 2 * generation, generation | 3};
    for (unsigned i = 0; i < sizeof stale / sizeof *stale; i++) {
        assert_int_equal(arena_look(&a, stale[i], &sight), ARENA_STALE);
        assert_false(arena_cancel(&a, stale[i]));
    }
    *word(token) = (*word(token) & ~(uint64_t)STATE) | ARENA_CLAIMED;
    assert_int_equal(arena_look(&a, token, &sight), ARENA_STALE);
    assert_false(arena_cancel(&a, token));
}

/* Each bit of a live token's word: another state, another generation, another owner that is there, or damage. */
static void a_word_that_the_rules_cannot_give_is_corrupt(void **state)
{
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        uint64_t token = claimed(), whole = *word(token);
        *word(token) ^= (uint64_t)1 << bit;
        enum arena_state seen = arena_look(&a, token, &sight);
        /* How the one before ended may be another one of three. */
        bool other_last = (bit == LAST_SHIFT || bit == LAST_SHIFT + 1) && (*word(token) >> LAST_SHIFT & 3) != 0 &&
                          (whole >> LAST_SHIFT & 3) != 0;
        assert_true(seen != ARENA_NONE && (seen == ARENA_LIVE) == other_last);
        if (bit >= 2 && bit < GENERATION_SHIFT && !other_last)
            assert_int_equal(seen, ARENA_CORRUPT);
        /* One whose owner is not there can be ended still. */
        bool other_owner = bit >= OWNER_SHIFT && bit < OWNER_SHIFT + 10;
        assert_true(arena_cancel(&a, token) == (other_owner || other_last));
        *word(token) = whole;
        assert_true(arena_cancel(&a, token));
    }
    uint64_t token = claimed();
    uint64_t odd[] = {7, 6, 1 << GENERATION_SHIFT, ARENA_LIVE, 2 << GENERATION_SHIFT | ARENA_LIVE, UINT64_MAX,
                      1 << GENERATION_SHIFT | 1 << LAST_SHIFT | ARENA_LIVE, 1 << GENERATION_SHIFT | TOLD | ARENA_LIVE,
                      1 << GENERATION_SHIFT | TOLD | ARENA_CLAIMED, TOLD};
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        for (unsigned n = 0; n < CAPACITY; n++) *(uint64_t *)&a.slot[n].word = odd[i];
        assert_int_equal(arena_look(&a, token, &sight), ARENA_CORRUPT);
        assert_false(arena_cancel(&a, token));
        assert_int_equal(arena_claim(&a, peer_self(), CCTX_NEVER, &token), EBADMSG);
        arena_bury(&a, peer_self());
        for (unsigned n = 0; n < CAPACITY; n++) assert_true(*(uint64_t *)&a.slot[n].word == odd[i]);
        token = 1 << GENERATION_SHIFT;
    }
}

static void an_owner_that_no_process_can_be_is_corrupt(void **state)
{
    (void)state;
    uint64_t token = claimed();
    *place(0) = (uint64_t)1 << PEER_BITS | 1;
    assert_int_equal(arena_look(&a, token, &sight), ARENA_CORRUPT);
    *place(0) = 0;
    assert_int_equal(arena_look(&a, token, &sight), ARENA_CORRUPT);
}

/* Each word of the head, at each call. */
static void a_head_that_has_changed_is_corrupt(void **state)
{
    (void)state;
    uint64_t token = claimed(), made;
    unsigned char *bytes = (unsigned char *)a.head;
    for (int i = 0; i < 16; i++) {
        struct arena again;
        bytes[i] ^= 0x80;
        assert_int_equal(arena_look(&a, token, &sight), ARENA_CORRUPT);
        assert_int_equal(arena_claim(&a, peer_self(), CCTX_NEVER, &made), EBADMSG);
        assert_false(arena_cancel(&a, token));
        assert_int_equal(arena_open(&again, bytes, arena_size(CAPACITY)), EBADMSG);
        bytes[i] ^= 0x80;
    }
    assert_int_equal(arena_look(&a, token, &sight), ARENA_LIVE);
}

static void an_arena_is_opened_by_its_size(void **state)
{
    (void)state;
    struct arena again;
    size_t size = arena_size(CAPACITY);
    assert_int_equal(arena_open(&again, a.head, size), 0);
    assert_true(again.capacity == CAPACITY && again.head == a.head && again.slot == a.slot);
    assert_int_equal(arena_open(&again, a.head, 0), EBADMSG);
    assert_int_equal(arena_open(&again, a.head, sizeof(struct arena_head) - 1), EBADMSG);
    assert_int_equal(arena_open(&again, a.head, size - 1), EBADMSG);
    assert_int_equal(arena_open(&again, a.head, size + 16), EBADMSG);
    uint32_t *capacity = (uint32_t *)&a.head->capacity;
    *capacity = 0;
    assert_int_equal(arena_open(&again, a.head, sizeof(struct arena_head)), EBADMSG);
    *capacity = ARENA_MOST + 1;
    assert_int_equal(arena_open(&again, a.head, arena_size(ARENA_MOST + 1)), EBADMSG);
    *capacity = CAPACITY;
    uint64_t *space = (uint64_t *)&a.head->space;
    *space = 0;
    assert_int_equal(arena_open(&again, a.head, size), 0);
    *space = peer_space() ^ 1;
    assert_int_equal(arena_open(&again, a.head, size), peer_space() ? EXDEV : 0);
}

/* S3 */
static void a_dead_process_leaves_its_tokens_and_its_place(void **state)
{
    (void)state;
    uint64_t theirs = claim(NOBODY, CCTX_NEVER), mine = claimed(), half = claim(NOBODY, CCTX_NEVER);
    *word(half) = (*word(half) & ~(uint64_t)STATE) | ARENA_CLAIMED;
    assert_true(*place(0) == NOBODY && *place(1) == peer_self());
    uint32_t before = rung();
    arena_bury(&a, NOBODY);
    assert_true(rung() != before && *place(0) == 0 && *place(1) == peer_self());
    assert_int_equal(arena_look(&a, theirs, &sight), ARENA_DIED);
    assert_int_equal(arena_look(&a, half, &sight), ARENA_DIED);
    assert_int_equal(arena_look(&a, mine, &sight), ARENA_LIVE);
    before = rung();
    arena_bury(&a, NOBODY);
    assert_true(rung() != before);      /* who has ended them may have died before it rang */
}

static void the_dead_are_found_when_there_is_no_room(void **state)
{
    (void)state;
    uint64_t mine = claimed(), made;
    for (int i = 1; i < CAPACITY; i++) claim(NOBODY, CCTX_NEVER);
    for (int i = 1; i < CAPACITY; i++) assert_int_equal(arena_look(&a, claimed(), &sight), ARENA_LIVE);
    assert_int_equal(arena_claim(&a, peer_self(), CCTX_NEVER, &made), ENOSPC);
    assert_int_equal(arena_look(&a, mine, &sight), ARENA_LIVE);
}

static void a_full_process_table_makes_room_or_says_so(void **state)
{
    (void)state;
    uint64_t made;
    for (unsigned i = 0; i < ARENA_PROCESSES; i++) *place(i) = NOBODY;
    assert_int_equal(arena_look(&a, claimed(), &sight), ARENA_LIVE);
    for (unsigned i = 0; i < ARENA_PROCESSES; i++) *place(i) = peer_self();
    assert_int_equal(arena_claim(&a, peer_self() ^ (uint64_t)1 << 40, CCTX_NEVER, &made), ENOSPC);
}

static void a_token_past_its_deadline_makes_room(void **state)
{
    (void)state;
    uint64_t token[CAPACITY], made;
    for (int i = 0; i < CAPACITY; i++) token[i] = claim(peer_self(), i == 2 ? now_ns() : CCTX_NEVER);
    uint64_t next = claimed();
    assert_true(next % ARENA_MOST == token[2] % ARENA_MOST);
    assert_int_equal(arena_look(&a, token[2], &sight), ARENA_TIMEDOUT);
    assert_int_equal(arena_claim(&a, peer_self(), CCTX_NEVER, &made), ENOSPC);
}

static void the_place_that_was_unused_for_longest_is_used_next(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * CAPACITY; i++) assert_true(claim(peer_self(), 0) % ARENA_MOST == (unsigned)i % CAPACITY);
    *(uint32_t *)&a.head->next = UINT32_MAX;    /* a hint, whatever it says */
    assert_int_equal(arena_look(&a, claimed(), &sight), ARENA_LIVE);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(a_token_is_live_until_it_is_canceled),
        ROW(a_token_past_its_deadline_cannot_be_canceled),
        ROW(an_end_that_was_not_told_is_told_by_the_loser_or_the_next_claimant),
        ROW(how_a_token_ended_is_known_for_one_generation_more),
        ROW(a_generation_that_ran_out_is_the_slots_last),
        ROW(a_token_that_was_not_given_out_is_none),
        ROW(a_word_that_the_rules_cannot_give_is_corrupt),
        ROW(an_owner_that_no_process_can_be_is_corrupt),
        ROW(a_head_that_has_changed_is_corrupt),
        ROW(an_arena_is_opened_by_its_size),
        ROW(a_dead_process_leaves_its_tokens_and_its_place),
        ROW(the_dead_are_found_when_there_is_no_room),
        ROW(a_full_process_table_makes_room_or_says_so),
        ROW(a_token_past_its_deadline_makes_room),
        ROW(the_place_that_was_unused_for_longest_is_used_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
