// epoch_model.cc: sections, retirement and the records of threads: what ConcurrencyKit's user owes it, and keeps.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: epoch.c, over the retelling of CK in ck_epoch.h.
#define MODEL_EPOCH
#include "model.h"

enum { THREADS = 4 };           /* the last one comes when the others have gone */
static int model_as;            /* before and after: who acts; else -1 */
static struct thread *current[THREADS];
static bool gone[THREADS];
static void *specific[THREADS];
static bool starved;            /* no memory for a record */
static unsigned self() { return model_as >= 0 ? (unsigned)model_as : rl::thread_index(); }
struct thread **model_current() { return &current[self()]; }
static bool *model_exiting() { return &gone[self()]; }
#define exiting (*model_exiting())
#define pthread_once(once, setup)         0
#define pthread_key_create(key, exit)     0
#define pthread_setspecific(key, value)   (specific[self()] = (value), 0)
#define pthread_atfork(before, here, there) ((void)0)
#define sched_yield()                     rl::yield(1, RL_INFO)
#define alloc_get_aligned(align, size)    (starved ? NULL : model_make<struct record>())
void epoch_child(void) {}
#include "epoch.c"
#undef alloc_get_aligned
#undef exiting

/* What a thread's record holds beside the limbo: two owners at a time, or one too early, are a data race. */
static struct content {
    struct thread *t;
    sync_plain(int) word;
} content[THREADS + RESERVE];
static void use(struct thread *t)
{
    for (unsigned i = 0;; i++) {
        RL_VERIFY(i < THREADS + RESERVE);
        if (content[i].t && content[i].t != t) continue;
        content[i].t = t;
        sync_set(content[i].word, 1);
        return;
    }
}
void cell_drain(struct magazine *m) { use(container_of(m, struct thread, cells)); }

struct object {
    struct epoch_link link;
    sync_plain(int) data;
};
static sync_ptr slot;
static unsigned reclaimed;
static void reclaim(struct epoch_link *link)
{
    reclaimed++;
    model_free(container_of(link, struct object, link));
}

struct epochs : scenario {
    unsigned objects;
    epochs(const char *name, unsigned threads, unsigned bound, bool wrong = false)
        : scenario(name, threads, bound, wrong) {}
    void as(int i) { model_as = i; }
    static struct object *object_new()
    {
        struct object *x = model_make<struct object>();
        sync_set(x->data, 1);
        return x;
    }
    /* The first `with` threads have their record already. */
    void begin(unsigned with)
    {
        memset(current, 0, sizeof current);
        memset(gone, 0, sizeof gone);
        memset(specific, 0, sizeof specific);
        reserve[0].thread.transient = reserve[0].thread.retired = 0;
        reserve[0].thread.inside = false;
        for (content_i = 0; content_i < THREADS + RESERVE; content_i++) content[content_i].t = NULL;
        ck_variant = CK_AS_WRITTEN;
        starved = false;
        reclaimed = 0;
        objects = 1;
        as(0);
        setup();
        slot.init((uintptr_t)object_new());
        for (unsigned i = 0; i < with; i++) {
            as((int)i);
            thread_begin();
        }
        as(-1);
    }
    unsigned content_i;
    void before() { begin(threads); }
    void read()
    {
        struct thread *t = thread_begin();
        epoch_enter(t);
        struct object *x = (struct object *)sync_load_acq(&slot, slot);
        if (x) RL_ASSERT(sync_get(x->data) == 1);
        epoch_leave(t);
        thread_end(t);
    }
    /* Unlinks what is in the slot, and retires it. */
    void retire(bool inside = false)
    {
        struct thread *t = thread_begin();
        use(t);
        if (inside) epoch_enter(t);
        struct object *x = (struct object *)sync_swap_acqrel(&slot, (uintptr_t)0, none, slot);
        if (x) epoch_retire(t, &x->link, reclaim, 1);
        if (inside) epoch_leave(t);
        thread_end(t);
    }
    void retire_own()
    {
        struct thread *t = thread_begin();
        use(t);
        epoch_retire(t, &object_new()->link, reclaim, 1);
        thread_end(t);
    }
    void poll(int times)
    {
        struct thread *t = thread_begin();
        while (times-- > 0) epoch_poll(t);
        use(t);
        thread_end(t);
    }
    void exit()
    {
        if (specific[self()]) thread_exit(specific[self()]);
        specific[self()] = NULL;
    }
    /* E1, E3: whoever comes last reclaims all that is left, once no section is open. */
    void after()
    {
        for (int i = 0; i < THREADS - 1; i++) {
            as(i);
            exit();
        }
        starved = false;
        as(THREADS - 1);
        for (int k = 0; k < 12 && epoch_limbo() > 0; k++) poll(1);
        RL_ASSERT(epoch_limbo() == 0);
        struct object *x = (struct object *)sync_load_acq(&slot, slot);
        RL_ASSERT(reclaimed + (x != NULL) == objects);
        model_free(x);
        for (struct record *r = (struct record *)sync_load_acq(&records, record), *next; r; r = next) {
            RL_ASSERT((sync_load_relaxed(&r->in_use, stat) == 1) == (&r->thread == current[THREADS - 1]));
            next = r->next;
            if (!is_reserve(r)) model_free(r);
        }
        as(-1);
    }
};
#define EPOCHS(name, threads, bound) struct name : epochs { name() : epochs(#name, threads, bound) {}

// ---- E1: a reader, twice; one that unlinks and retires; one that moves the epoch too, since it has limbo of its own.
struct grace : epochs {
    int variant;
    bool inside;
    grace(const char *name, bool wrong, int v, bool in = false) : epochs(name, 3, 1, wrong), variant(v), inside(in) {}
    void before()
    {
        epochs::before();
        objects = 2;
        as(2);
        retire_own();
        as(-1);
        ck_variant = (decltype(ck_variant))variant;
    }
    void thread(unsigned i)
    {
        if (i == 0) {
            read();
            read();
            return;
        }
        if (i == 1) retire(inside);
        poll(3);
    }
};
static grace as_written("as_written", false, CK_AS_WRITTEN);
static grace as_written_inside("as_written_inside", false, CK_AS_WRITTEN, true);
// Nothing orders the unlink before the deferral, and a section around both does not.
static grace no_fence_before_deferral("no_fence_before_deferral", true, CK_NO_FENCE_MEMORY);
static grace section_is_no_fence("section_is_no_fence", true, CK_NO_FENCE_MEMORY, true);
// The free is not ordered after the reader's last load.
static grace no_fence_in_reclaim("no_fence_in_reclaim", true, CK_NO_FENCE_ACQUIRE);
// Loads of the section run before the epoch is read.
static grace no_fence_after_begin("no_fence_after_begin", true, CK_NO_FENCE_LOAD);
// C11 lets a reader learn the new epoch from a third thread and still read the old slot. Machines on which a store is
// seen by all other threads at once do not; src/epoch.c relies on that. With a full fence on both sides C11 does not.
static grace three_fences_in_c11("three_fences_in_c11", true, CK_C11_ALONE);
static grace full_fences_in_c11("full_fences_in_c11", false, CK_C11_FULL_LOAD);

// A reader that is in its section all the while, two that retire.
EPOCHS(retire_retire, 3, 1)
    void before() { epochs::before(); objects = 2; }
    void thread(unsigned i)
    {
        if (i == 0) { read(); return; }
        if (i == 1) retire(); else retire_own();
        poll(2);
    }
} retire_retire;

// ---- E3: records are given back, taken, and emptied by others.
// A thread goes with limbo, another comes: it takes the record that is left, or a new one.
EPOCHS(exit_begin, 2, 3)
    void before() { begin(1); objects = 2; }
    void thread(unsigned i)
    {
        if (i == 0) {
            retire();
            exit();
        } else {
            retire_own();
            poll(1);
        }
    }
} exit_begin;
EPOCHS(exit_exit_begin, 3, 1)
    void before() { begin(2); objects = 3; }
    void thread(unsigned i)
    {
        if (i == 0) retire();
        else retire_own();
        if (i < 2) exit();
    }
} exit_exit_begin;
// What it leaves behind is reclaimed by another's poll, while a reader is in its section.
EPOCHS(exit_adopt, 3, 1)
    void thread(unsigned i)
    {
        if (i == 0) read();
        else if (i == 1) {
            retire();
            exit();
        } else poll(3);
    }
} exit_adopt;
// One adopts it while another takes the record.
EPOCHS(adopt_begin, 2, 3)
    void before()
    {
        begin(1);
        objects = 2;
        as(2);
        struct thread *t = thread_begin();
        as(0);
        epoch_enter(current[0]);
        as(2);
        retire();
        exit();                         /* with limbo: a section is open */
        as(0);
        epoch_leave(current[0]);
        as(-1);
    }
    void thread(unsigned i)
    {
        if (i == 0) poll(2);
        else {
            retire_own();
            poll(1);
        }
    }
} adopt_begin;
EPOCHS(adopt_adopt, 3, 1)
    void before()
    {
        begin(2);
        objects = 2;
        as(0);
        epoch_enter(current[0]);
        as(2);
        retire();
        exit();
        as(0);
        epoch_leave(current[0]);
        as(-1);
    }
    void thread(unsigned i)
    {
        if (i < 2) poll(2);
        else retire_own();
    }
} adopt_adopt;
// Two records are pushed while a third thread looks at all of them.
EPOCHS(begin_begin, 3, 1)
    void before() { begin(1); objects = 2; }
    void thread(unsigned i)
    {
        if (i == 0) {
            retire();
            poll(2);
        } else if (i == 1) read();
        else retire_own();
    }
} begin_begin;
// ... at what waits in them.
EPOCHS(begin_limbo, 2, 4)
    void before() { begin(1); objects = 2; }
    void thread(unsigned i)
    {
        if (i) retire_own();
        else RL_ASSERT(epoch_limbo() <= 1);
    }
} begin_limbo;
// A claim that is off: what came before is seen.
EPOCHS(claim_off, 2, 4)
    void before() { begin(2); as(0); thread_claim(current[0], &slot); as(-1); }
    void thread(unsigned i)
    {
        if (i == 0) {
            use(current[0]);
            thread_claim(current[0], NULL);
        } else if (!thread_claimed(&slot)) use(current[0]);
    }
} claim_off;
EPOCHS(begin_claimed, 2, 4)
    void before() { begin(1); objects = 2; }
    void thread(unsigned i)
    {
        if (i) retire_own();
        else RL_ASSERT(!thread_claimed(&slot));
    }
} begin_claimed;
// Without memory: a reserve record serves for one call at a time, and keeps its limbo between.
EPOCHS(reserve_taken, 2, 3)
    void before() { begin(0); objects = 2; starved = true; }
    void thread(unsigned i)
    {
        if (i == 0) retire();
        else retire_own();
    }
} reserve_taken;
EPOCHS(reserve_read, 3, 1)
    void before() { begin(1); starved = true; }
    void thread(unsigned i)
    {
        if (i == 0) poll(3);
        else if (i == 1) retire();
        else read();
    }
} reserve_read;
// After its destructor ran a thread takes a record for each call, also in the destructors of others.
EPOCHS(after_exit, 2, 2)
    void before() { begin(2); objects = 3; }
    void thread(unsigned i)
    {
        if (i == 0) {
            exit();
            retire();
            retire_own();
        } else {
            retire_own();
            exit();
        }
    }
} after_exit;

// ---- a home: many retire to it, whoever claims it polls for it. All is reclaimed when the poll says so.
struct homes : epochs {
    static struct home *h;
    homes(const char *name, unsigned threads, unsigned bound) : epochs(name, threads, bound) {}
    void before()
    {
        begin(threads);
        as(0);
        h = home_take();
        as(-1);
    }
    void retire_home()
    {
        struct object *x = (struct object *)sync_swap_acqrel(&slot, (uintptr_t)0, none, slot);
        if (x) home_retire(h, &x->link, reclaim);
    }
    void retire_own_home() { home_retire(h, &object_new()->link, reclaim); }
    void use_home() { use(&record_in(h)->thread); }
    void poll_home(int times)
    {
        while (times-- > 0) home_poll(h);
    }
    void after()
    {
        as(0);
        for (int k = 0; k < 12 && !home_poll(h); k++) {}
        RL_ASSERT(home_poll(h));
        struct object *x = (struct object *)sync_load_acq(&slot, slot);
        RL_ASSERT(reclaimed + (x != NULL) == objects);
        home_give(h);
        as(-1);
        epochs::after();
    }
};
struct home *homes::h;
#define HOMES(name, threads, bound) struct name : homes { name() : homes(#name, threads, bound) {}

// A reader, one that unlinks and retires, one that polls: E1 as ever.
HOMES(home_read, 3, 1)
    void thread(unsigned i)
    {
        if (i == 0) read();
        else if (i == 1) retire_home();
        else poll_home(4);
    }
} home_read;
HOMES(home_retire_retire, 3, 1)
    void before() { homes::before(); objects = 3; }
    void thread(unsigned i)
    {
        if (i == 0) retire_home();
        else retire_own_home();
        if (i == 1) poll_home(2);
        if (i == 2) retire_own_home();
    }
    void after() { objects = 4; homes::after(); }
} home_retire_retire;
HOMES(home_poll_poll, 2, 3)
    void before() { homes::before(); objects = 2; as(0); retire_own_home(); as(-1); }
    void thread(unsigned i)
    {
        if (i == 0) retire_home();
        poll_home(3);
    }
} home_poll_poll;

int main(int argc, char **argv) { return model_main(argc, argv); }
