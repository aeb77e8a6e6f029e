/* SPDX-License-Identifier: BSD-2-Clause */
/* roster_fuzz: a roster is a set: it has what was added and not removed, each in its one slot, and no more
 * slots than its claim R3 allows.
 *
 * After each step the set is walked and the counters are counted anew: with one thread the hints are exact.
 */
#include "property.h"
#include "scarce.h"

#include "roster.h"
#include <string.h>

enum { MOST = 4000, MOST_STEPS = 200, WIDTHS = 3 };

static sync_ptr *place[MOST];           /* where word_of(i) stands, or NULL */
static unsigned present, widest_moment;
static struct roster *rosters[WIDTHS];  /* the first one and those that follow it */
static unsigned width;
static bool enter_refuses;
static bool lacked; /* an add has failed: a stripe may go on with a chunk that counts as a hole */
static unsigned entered;

static uintptr_t word_of(unsigned i) { return (uintptr_t)(i + 1) * 8; }

static bool enter(void *arg, struct chunk *k)
{
    PROPERTY(arg == &entered);
    PROPERTY(((uintptr_t)k & (CHUNK_ALIGN - 1)) == 0);
    if (enter_refuses) return false;
    entered++;
    return true;
}

static unsigned stripes_until(unsigned w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w; i++) n += rosters[i]->stripes;
    return n;
}

/* Is k what some stripe takes slots from? */
static bool is_live(const struct chunk *k)
{
    for (unsigned w = 0; w < width; w++)
        for (unsigned i = 0; i < rosters[w]->stripes; i++)
            if (sync_load_acq(&rosters[w]->stripe[i].live, chunk) == (uintptr_t)k) return true;
    return false;
}

static unsigned stripe_check(struct stripe *s)
{
    unsigned chunks = 0, holes = 0;
    for (struct chunk *k = (struct chunk *)sync_load_acq(&s->head, chunk); k;
         k = (struct chunk *)sync_load_acq(&k->next, chunk)) {
        uint32_t fill = sync_load_relaxed(&k->fill, hint);
        unsigned empty = 0;
        for (unsigned i = 0; i < CHUNK_SLOTS; i++) empty += sync_load_acq(&k->slot[i], slot) == 0;
        PROPERTY(k->stripe == s);
        PROPERTY(fill == CHUNK_LIVE || fill == CHUNK_FULL || fill == CHUNK_HOLE);
        PROPERTY(fill != CHUNK_FULL || empty == 0);     /* else no search would find its empty slots */
        PROPERTY(fill != CHUNK_LIVE || is_live(k));     /* likewise */
        chunks++;
        holes += fill == CHUNK_HOLE;
    }
    PROPERTY(sync_load_relaxed(&s->chunks, stat) == chunks);
    PROPERTY(sync_load_relaxed(&s->holes, stat) == holes);
    return chunks;
}

static void compare(void)
{
    unsigned met = 0, slots = 0, chunks = 0;
    for (sync_ptr *x = roster_first(rosters[width - 1]); x; x = roster_next(x)) {
        uintptr_t w = sync_load_acq(x, slot) & ~(uintptr_t)SLOT_MASK;
        slots++;
        if (!w) continue;
        PROPERTY(w / 8 - 1 < MOST && place[w / 8 - 1] == x);    /* once, and where it was put */
        met++;
    }
    PROPERTY(met == present);
    for (unsigned w = 0; w < width; w++)
        for (unsigned i = 0; i < rosters[w]->stripes; i++) chunks += stripe_check(&rosters[w]->stripe[i]);
    PROPERTY(slots == chunks * CHUNK_SLOTS && chunks == entered);
    /* Before the last chunk was added all but one in eight were full, or some stripe's. */
    unsigned full = widest_moment / CHUNK_SLOTS;
    PROPERTY(chunks <= (full + stripes_until(width)) * 8 / 7 + 1);
}

static void add(unsigned i, unsigned ordinal)
{
    if (place[i]) return;
    unsigned misses = 0, chunks = 0, holes = 0, entered_before = entered;
    for (unsigned w = 0; w < width; w++)
        for (unsigned s = 0; s < rosters[w]->stripes; s++) {
            chunks += sync_load_relaxed(&rosters[w]->stripe[s].chunks, stat);
            holes += sync_load_relaxed(&rosters[w]->stripe[s].holes, stat);
        }
    struct roster *widest = rosters[width - 1];
    bool first = sync_load_acq(&widest->stripe[ordinal & (widest->stripes - 1)].live, chunk) == 0;
    sync_ptr *told = NULL, *x = roster_add(widest, ordinal, word_of(i), &told, &misses);
    PROPERTY(misses == 0);
    PROPERTY(entered == entered_before || first || lacked || holes == 0 || 8 * holes < chunks); /* claim R3 */
    if (!x) {
        PROPERTY(enter_refuses || scarce_refused());
        lacked = true;
        return;
    }
    PROPERTY(told == x && sync_load_acq(x, slot) == word_of(i));
    place[i] = x;
    if (++present > widest_moment) widest_moment = present;
}

static void leave(unsigned i)
{
    if (!place[i]) return;
    roster_vacate(place[i]);
    PROPERTY((sync_swap_acqrel(place[i], (uintptr_t)0, empty, slot) & ~(uintptr_t)SLOT_MASK) == word_of(i));
    place[i] = NULL;
    present--;
}

static void widen(unsigned stripes)
{
    if (width == WIDTHS) return;
    struct roster *wider = roster_new(NULL, stripes, enter, &entered, rosters[width - 1]);
    if (!wider) {
        PROPERTY(scarce_refused());
        return;
    }
    rosters[width++] = wider;
}

static void step(struct input *in)
{
    unsigned op = take_below(in, 8), from = take(in) * 16 % MOST, n = take(in),
             stride = 1 + take_below(in, 60);
    switch (op) {
    case 0:
    case 1:                     /* by one thread, or by many */
        for (unsigned i = 0; i < n; i++) add((from + i * (op ? 1 : stride)) % MOST, op ? stride : i);
        break;
    case 2:
        for (unsigned i = 0; i < n; i++) leave((from + i * stride) % MOST);
        break;
    case 3:                     /* all but a few: many holes at once */
        for (unsigned i = 0; i < MOST; i++)
            if (i % stride != 0) leave(i);
        break;
    case 4:
        if (n < 16) widen(1u << n % 5);
        break;
    case 5:
        scarce_refuse(n % 4, (n & 4) != 0);
        for (unsigned i = 0; i < 200; i++) add((from + i) % MOST, stride);
        if (n & 8) widen(2);
        scarce_relent();
        break;
    case 6:
        enter_refuses = true;
        for (unsigned i = 0; i < n; i++) add((from + i) % MOST, stride);
        enter_refuses = false;
        break;
    default:                    /* a tag on a slot is nobody's business */
        if (place[from]) sync_or_acqrel(place[from], (uintptr_t)(n & SLOT_MASK), none, slot);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    size_t before = scarce_blocks();
    memset(place, 0, sizeof place);
    present = widest_moment = entered = 0;
    lacked = false;
    width = 1;
    rosters[0] = roster_new(NULL, 1u << take_below(&in, 5), enter, &entered, NULL);
    PROPERTY(roster_first(rosters[0]) == NULL);
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) {
        step(&in);
        compare();
    }
    roster_free(rosters[width - 1]);    /* and those before it */
    PROPERTY(scarce_blocks() == before);
    return 0;
}
