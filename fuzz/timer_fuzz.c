/* SPDX-License-Identifier: BSD-2-Clause */
/* timer_fuzz: whatever is armed and not disarmed fires once, at its time: not before, and when the timer asks
 * for work.
 *
 * The model is a list of items. The clock is the program's own and stops at each moment that the timer asks
 * for, unless the program lets it jump; then what has passed meanwhile fires at once. What was disarmed is
 * freed memory. An item may fire once more for each one of the same deadline that was in its slot before it:
 * the timer's entry of that one looks like its own. */
#include "property.h"
#include "scarce.h"

#include "alloc.h"
#include "timer.h"
#include <string.h>

enum { MOST = 2048, MOST_STEPS = 160, PLACES = 1 << 14 };

struct item {
    int64_t deadline;
    sync_ptr *slot;
    unsigned number, at;        /* in items, in live */
    bool fired;
    unsigned twins;             /* how often it may fire again */
    unsigned pins;
    bool going;                 /* it will be disarmed: nobody gets a pin */
    bool dies;                  /* with the last pin */
    unsigned acts;              /* what it does when it fires */
};

static struct item *items[MOST];        /* NULL: not armed */
static struct item *live[MOST];         /* those that are armed, in no order */
static unsigned present;
static struct timer timer;
static struct thread *self;
static int64_t now;
static size_t fired, again;
static uint16_t armed_here[PLACES];     /* how many were armed at a slot for a deadline, by a hash of both */
static struct input *program;
static bool armed_inside;               /* while the timer works */
static size_t most_present;

static int64_t item_key(uintptr_t occupant)
{
    PROPERTY(self->inside && (occupant & SLOT_MASK) == 0);
    return ((struct item *)occupant)->deadline;
}

static bool item_pin(uintptr_t occupant)
{
    PROPERTY(self->inside);
    struct item *item = (struct item *)occupant;
    if (item->going) return false;
    item->pins++;
    return true;
}

static void arm(unsigned i, int64_t deadline, unsigned acts);
static void disarm(unsigned i);

static void item_fire(uintptr_t occupant)
{
    struct item *item = (struct item *)occupant;
    PROPERTY(!self->inside);
    PROPERTY(item->deadline <= now && item->pins > 0);
    PROPERTY(!item->fired || item->twins-- > 0);
    unsigned number = item->number, acts = item->fired ? 0 : item->acts;
    fired++;
    again += item->fired;
    item->fired = true;
    if (--item->pins == 0 && item->dies) disarm(number);
    switch (acts) {
    case 0: break;
    case 1: disarm(number); break;      /* as a context does that dies of it */
    case 2:                             /* and another is armed, perhaps in its slot */
        disarm(number);
        armed_inside = true;
        arm((number + 7) % MOST, time_add(now, 1 + (int64_t)number * 1000), 0);
        break;
    default:
        armed_inside = true;
        arm((number + 1) % MOST, time_add(now, (int64_t)1 << number % 60), 1);
        break;
    }
}

static const struct timer_ops ops = {item_key, item_pin, item_fire};

/* The earliest that has not fired and can. */
static int64_t earliest(void)
{
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < present; i++)
        if (!live[i]->fired && !live[i]->going && live[i]->deadline < least) least = live[i]->deadline;
    return least;
}

static void arm(unsigned i, int64_t deadline, unsigned acts)
{
    if (items[i] || deadline <= now || deadline == INT64_MAX) return;
    struct item *item = malloc(sizeof *item);
    if (!item) abort();
    *item = (struct item){.deadline = deadline, .number = i, .at = present, .acts = acts};
    if (!timer_arm(&timer, self, (uintptr_t)item, now, deadline, &item->slot)) {
        PROPERTY(scarce_refused());
        free(item);
        return;
    }
    PROPERTY((sync_load_acq(item->slot, slot) & ~(uintptr_t)SLOT_MASK) == (uintptr_t)item);
    PROPERTY(timer_next(&timer) <= deadline);
    uint64_t hash = ((uint64_t)deadline ^ (uintptr_t)item->slot) * 0x9e3779b97f4a7c15u;
    item->twins = armed_here[hash >> 50]++;
    items[i] = live[present] = item;
    if (++present > most_present) most_present = present;
}

static void disarm(unsigned i)
{
    if (!items[i]) return;
    items[i]->dies = true;
    if (items[i]->pins > 0) return;
    timer_disarm(items[i]->slot);
    live[items[i]->at] = live[--present];
    live[items[i]->at]->at = items[i]->at;
    free(items[i]);
    items[i] = NULL;
}

/* The role's turn. */
static void work(void)
{
    for (unsigned turns = 0;; turns++) {
        PROPERTY(turns < 20);           /* it does not ask for work for ever at one moment */
        size_t due = 0, before = fired, before_again = again;
        for (unsigned i = 0; i < present; i++)
            due += !live[i]->fired && !live[i]->going && live[i]->deadline <= now;
        armed_inside = false;
        size_t told = timer_work(&timer, self, now);
        PROPERTY(told == fired - before && told - (again - before_again) == due);
        PROPERTY(timer.count <= 4 * most_present + 1024);
        if (timer_next(&timer) > now) break;
    }
    PROPERTY(timer_next(&timer) <= earliest());
}

/* Works at each moment the timer asks for, up to the end. */
static void advance(int64_t end)
{
    int64_t next;
    for (unsigned turns = 0; (next = timer_next(&timer)) <= end && next < INT64_MAX; turns++) {
        PROPERTY(turns < 100000);
        if (next > now) now = next;
        PROPERTY(earliest() >= now);    /* it did not sleep through one */
        work();
    }
    if (end > now) now = end;
    PROPERTY(earliest() > now);
}

static int64_t later(int64_t duration)
{
    if (duration < 0) duration = duration == INT64_MIN ? INT64_MAX : -duration;
    int64_t at = time_add(now, duration);
    return at < INT64_MAX / 2 ? at : INT64_MAX / 2;
}

static void step(struct input *in)
{
    unsigned op = take_below(in, 9);
    switch (op) {
    case 0: {
        unsigned i = take(in) * 8u % MOST;
        arm(i, time_add(now, take_duration(in)), take_below(in, 4));
        break;
    }
    case 1: {                           /* many, at a distance from each other */
        unsigned i = take(in) * 8u % MOST, n = take(in);
        int64_t at = time_add(now, take_duration(in)), apart = take_duration(in);
        for (; n > 0; n--, i++, at = time_add(at, apart)) arm(i % MOST, at, 0);
        break;
    }
    case 2:
        disarm(take(in) * 8u % MOST);
        break;
    case 3: {
        unsigned i = take(in) * 8u, n = take(in) * 4u, stride = 1 + take_below(in, 8);
        for (; n > 0; n--, i += stride) disarm(i % MOST);
        break;
    }
    case 4: advance(later(take_duration(in))); break;
    case 5:                             /* the role did not run for a while */
        now = later(take_duration(in));
        work();
        break;
    case 6: {                           /* churn: what is armed and disarmed before its time leaves nothing */
        unsigned i = take(in) * 8u % MOST, n = take(in) * 4u;
        int64_t at = time_add(now, take_duration(in));
        bool works = take_below(in, 2) != 0;
        for (; n > 0 && !items[i]; n--) {
            arm(i, at, 0);
            if (works && n % 64 == 0) advance(now);
            disarm(i);
        }
        break;
    }
    case 7: {                           /* no memory for some of it */
        unsigned how = take(in);
        scarce_refuse(how % 8, (how & 8) != 0);
        unsigned next = take_below(in, 7);
        /* Not far: while there is none the timer tries again every half second. */
        if (next == 5 || next == 4) advance(later(take_duration(in) % ((int64_t)1 << 36)));
        else
            for (unsigned i = how * 8, n = 80; n > 0; n--, i++)
                arm(i % MOST, time_add(now, take_duration(in)), next);
        if (how & 16) advance(later((int64_t)1 << how % 36));
        scarce_relent();
        break;
    }
    default: {
        struct item *item = items[take(in) * 8u % MOST];
        if (item) item->going = true;
    }
    }
}

/* Nothing of the disarmed is in the slots; then the timer is as if it were new. */
static void timer_away(void)
{
    for (int i = 0; i < TIMER_TIERS; i++) {
        struct roster *set = (struct roster *)sync_load_acq(&timer.tier[i].set, chunk);
        for (sync_ptr *x = set ? roster_first(set) : NULL; x; x = roster_next(x))
            PROPERTY(sync_load_acq(x, slot) == 0);
        roster_free(set);
        for (uintptr_t g = sync_load_acq(&timer.tier[i].directories, directory), next; g; g = next) {
            next = sync_load_acq((sync_ptr *)g, directory);     /* a directory begins with the next one */
            alloc_put((void *)g);
        }
    }
    alloc_put(timer.heap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    program = &in;
    self = thread_begin();
    self->ordinal = 0;
    size_t before = scarce_blocks();
    timer_init(&timer, &ops);
    now = take_below(&in, 2) ? INT64_MAX / 4 : 1000;
    fired = again = 0;
    memset(armed_here, 0, sizeof armed_here);
    most_present = 0;
    for (property_step = 1; property_step <= MOST_STEPS && take_more(&in); property_step++) step(&in);

    /* All that is still armed fires in its time, and is disarmed. */
    advance(INT64_MAX - 1);
    for (unsigned i = 0; i < MOST; i++) {
        PROPERTY(!items[i] || items[i]->fired || items[i]->going);
        disarm(i);
    }
    work();
    PROPERTY(present == 0 && timer_next(&timer) == INT64_MAX);
    timer_away();
    PROPERTY(scarce_blocks() == before);
    thread_end(self);
    return 0;
}
