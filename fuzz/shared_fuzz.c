/* SPDX-License-Identifier: BSD-2-Clause */
/* shared_fuzz: while nobody damages an arena its tokens are as a list of them says; whatever its bytes become, each
 * call ends, stays inside of them, and answers with what they justify, and what is bound ends.
 *
 * The arena is a block of its very size, the processes are one that lives and some that do not; bells are heard by a
 * call of the scan, so that all is one thread. */
#include "property.h"
#include "scarce.h"

#include "binding.h"
#include "epoch.h"
#include "fake_time.h"
#include "peer.h"
#include <errno.h>
#include <string.h>

enum { MOST_TOKENS = 96, MOST_BOUND = 12, MOST_STEPS = 300, DEAD = 3, MOST_CAPACITY = 6 };

struct token {                  /* what the model knows */
    uint64_t token;
    int64_t deadline;
    unsigned who;
    enum arena_state state;     /* ARENA_LIVE: but for the deadline */
};
static struct token tokens[MOST_TOKENS];
static unsigned token_count;

static struct bindings s;
static size_t size;
static bool damaged;            /* the model knows nothing any more */
static struct {
    const cctx_t *ctx;
    uint64_t token;
    int64_t deadline;
    bool live;                  /* it was, when it was bound */
} bound[MOST_BOUND];

static void last(struct bindings *b) { (void)b; }

/* 0 is this process; the others have a number that no process has. */
static uint64_t who_is(unsigned i)
{
    return i == 0 ? peer_self() : (uint64_t)i << PEER_NUMBER_BITS | (((uint64_t)1 << PEER_NUMBER_BITS) - 1);
}

static bool live(const struct token *t) { return t->state == ARENA_LIVE && t->deadline > fake_time_now(); }
static unsigned live_count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < token_count; i++) n += live(&tokens[i]);
    return n;
}
/* The dead end when somebody looks for room, or buries them. */
static void model_bury(unsigned who)
{
    for (unsigned i = 0; i < token_count; i++)
        if (tokens[i].who == who && tokens[i].state == ARENA_LIVE) tokens[i].state = ARENA_DIED;
}

static uint64_t pick(struct input *in)
{
    unsigned b = take(in);
    if (b >= 240 || token_count == 0) return b % 2 ? take_u64(in) : (uint64_t)take(in) << 20 | take(in);
    return tokens[b % token_count].token;
}
static struct token *known(uint64_t token)
{
    for (unsigned i = 0; i < token_count; i++)
        if (tokens[i].token == token) return &tokens[i];
    return NULL;
}

static void claim(struct input *in)
{
    unsigned who = take_below(in, DEAD + 1), before = live_count();
    int64_t deadline = take_below(in, 2) ? CCTX_NEVER : time_add(fake_time_now(), take_duration(in));
    uint64_t token;
    int error = arena_claim(&s.arena, who_is(who), deadline, &token);
    TRACE("claim by %u until %lld: %d %llx\n", who, (long long)deadline, error, (unsigned long long)token);
    PROPERTY((error == 0) == (token != 0));
    if (damaged) {
        PROPERTY(error == 0 || error == ENOSPC || error == EBADMSG);
        if (error != 0) return;
    } else {
        if (before == s.arena.capacity)                 /* it has looked for the dead */
            for (unsigned i = 1; i <= DEAD; i++) model_bury(i);
        PROPERTY(error == (live_count() < s.arena.capacity ? 0 : ENOSPC));
        if (error != 0) return;
        PROPERTY(!known(token));
    }
    unsigned i = token_count;
    if (i == MOST_TOKENS)               /* forgets one that has ended: no more are live than there are places */
        for (i = 0; i < MOST_TOKENS - 1 && live(&tokens[i]);) i++;
    else token_count++;
    tokens[i] = (struct token){token, deadline, who, ARENA_LIVE};
}

static void cancel(uint64_t token)
{
    bool won = arena_cancel(&s.arena, token);
    struct token *t = known(token);
    TRACE("cancel %llx: %d\n", (unsigned long long)token, won);
    if (damaged) return;
    PROPERTY(won == (t && live(t)));
    if (won) t->state = ARENA_CANCELED;
}

static enum arena_state look(uint64_t token)
{
    struct arena_sight sight;
    enum arena_state state = arena_look(&s.arena, token, &sight);
    struct token *t = known(token);
    PROPERTY(state == ARENA_LIVE || (state >= ARENA_CANCELED && state <= ARENA_CORRUPT));
    TRACE("look %llx: %d\n", (unsigned long long)token, (int)state);
    if (state == ARENA_LIVE) PROPERTY(sight.owner != 0 && sight.owner >> PEER_BITS == 0);
    if (damaged) return state;
    PROPERTY(state != ARENA_CORRUPT && (t || state >= ARENA_CANCELED || sight.deadline <= fake_time_now()));
    if (!t) return state;
    if (live(t)) PROPERTY(state == ARENA_LIVE && sight.deadline == t->deadline && sight.owner == who_is(t->who));
    else
        PROPERTY(state == t->state || state == ARENA_STALE ||
                 (t->deadline <= fake_time_now() && t->state != ARENA_CANCELED && state == ARENA_TIMEDOUT));
    return state;
}

static void drop(unsigned i)
{
    cctx_unref(bound[i].ctx);
    bound[i].ctx = NULL;
}

static void bind_to(unsigned i, uint64_t token)
{
    drop(i);
    struct arena_sight sight = {.deadline = CCTX_NEVER};
    enum arena_state state = arena_look(&s.arena, token, &sight);
    if (state == ARENA_NONE) return;
    const cctx_t *below = state == ARENA_LIVE ? binding_new(&s, token, sight.deadline) : binding_done(state);
    if (!below) {
        PROPERTY(errno == ENOMEM && scarce_refused());
        return;
    }
    PROPERTY(state == ARENA_LIVE || cctx_is_done(below));
    const cctx_t *both[] = {cctx_background(), below};
    bound[i].ctx = cctx_with_any(both, 2);
    bound[i].token = token;
    bound[i].deadline = sight.deadline;
    bound[i].live = state == ARENA_LIVE;
    cctx_unref(below);
}

/* What has ended is seen to have. */
static void scan(void)
{
    bindings_scan(&s);
    fake_time_settle();
    for (unsigned i = 0; i < MOST_BOUND; i++) {
        if (!bound[i].ctx) continue;
        enum arena_state state = look(bound[i].token);
        bool ends = state != ARENA_LIVE || bound[i].deadline <= fake_time_now();
        if (ends) PROPERTY(cctx_is_done(bound[i].ctx));
        else if (!damaged && bound[i].live) PROPERTY(!cctx_is_done(bound[i].ctx));
    }
}

/* Some bytes, or a word of the kind that stands there. */
static void damage(struct input *in)
{
    unsigned char *bytes = (unsigned char *)s.arena.head;
    size_t head = sizeof(struct arena_head), at;
    damaged = true;
    unsigned kind = take_below(in, 6);
    uint64_t word = take_u64(in);
    switch (kind) {
    case 0: at = (size_t)(word % size); bytes[at] = (unsigned char)take(in); return;
    case 1: at = (size_t)(word % 192); bytes[at] ^= (unsigned char)(1u << take_below(in, 8)); return;
    case 2: at = (size_t)(word % size); memset(bytes + at, (int)take(in), size - at); return;
    case 3: at = 192 + 8 * take_below(in, 8); word = take_below(in, 2) ? who_is(take_below(in, DEAD + 1)) : word; break;
    case 4: at = head + 16 * take_below(in, s.arena.capacity); word = word << 20 | take(in) << 8 | take(in); break;
    default: at = head + 16 * take_below(in, s.arena.capacity) + 8 * take_below(in, 2);
    }
    memcpy(bytes + at, &word, 8);
}

static void reopen(void)
{
    struct arena again;
    int error = arena_open(&again, s.arena.head, size);
    PROPERTY(damaged ? error == 0 || error == EBADMSG || error == EXDEV : error == 0);
    if (error == 0) PROPERTY(again.capacity == s.arena.capacity);
}

static void begin(uint32_t capacity)
{
    void *memory;
    size = arena_size(capacity);
    if (posix_memalign(&memory, 64, size) != 0) abort();
    arena_make(&s.arena, memset(memory, 0, size), capacity);
    s.roster = roster_new(NULL, 2, NULL, NULL, NULL);
    s.last = last;
    sync_init(&s.refs, 1u);
    token_count = 0;
    damaged = false;
    memset(bound, 0, sizeof bound);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct input in = {data, data + length};
    begin(1 + take_below(&in, MOST_CAPACITY));
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) {
        switch (take_below(&in, 16)) {
        case 0: case 1: case 2: claim(&in); break;
        case 3: case 4: cancel(pick(&in)); break;
        case 5: look(pick(&in)); break;
        case 6: {
            unsigned who = 1 + take_below(&in, DEAD);
            arena_bury(&s.arena, who_is(who));
            model_bury(who);
            break;
        }
        case 7: case 8: case 9: bind_to(take_below(&in, MOST_BOUND), pick(&in)); break;
        case 10: scan(); break;
        case 11: drop(take_below(&in, MOST_BOUND)); break;
        case 12: fake_time_advance(take_duration(&in) & (((int64_t)1 << 34) - 1)); break;
        case 13:
            scarce_refuse(take_below(&in, 8), true);
            bind_to(take_below(&in, MOST_BOUND), pick(&in));
            scarce_relent();
            break;
        case 14: reopen(); break;
        default:
            if (take_below(&in, 4) == 0) damage(&in);
        }
    }
    scan();
    for (unsigned i = 0; i < MOST_BOUND; i++) drop(i);
    PROPERTY(*(uint32_t *)&s.refs == 1);
    for (sync_ptr *x = roster_first(s.roster); x; x = roster_next(x)) PROPERTY(*(uintptr_t *)x == 0);
    struct thread *t = thread_begin();
    for (int i = 0; i < 20 && epoch_limbo() > 0; i++) epoch_poll(t);
    thread_end(t);
    PROPERTY(epoch_limbo() == 0);
    roster_free(s.roster);
    free(s.arena.head);
    return 0;
}
