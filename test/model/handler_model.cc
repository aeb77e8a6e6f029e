// handler_model.cc: the signal handler, on threads of its own, against those who ask to be told, and go.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: handler.c, without the actions of signals.
#include "model.h"
#include "handler.c"

/* Who is told: memory is written by whoever has it, and the handler reads it; a handler that looks at one that is given
 * out anew, or not filled in, is a data race. */
static bool yes;                /* tell leaves something to settle */
static sync_plain(int) debt[2]; /* what it leaves, by signal */
static unsigned told, settled;
static bool tell(void *who, int sig)
{
    RL_ASSERT(sync_get(record_of(who)->memory) == sig);
    told++;
    if (yes) sync_set(debt[sig - 1], sig);
    return yes;
}
static sync_u32 note;
static void noted(void) { sync_add_acqrel(&note, 1u, async, none); }
static const struct handler_ops ops = {tell, noted};
static void settle(void *who, uint32_t times)
{
    int sig = sync_get(record_of(who)->memory);
    RL_ASSERT(sync_get(debt[sig - 1]) == sig);
    settled += times;
}

struct asks : scenario {
    void *who, *more;
    asks(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        told = settled = 0;
        yes = false;
        more = NULL;
        who = ask(1);
    }
    static void *ask(int sig)
    {
        void *w = handler_get(&ops);
        sync_set(record_of(w)->memory, sig);
        handler_add(w, bit_of(sig));
        return w;
    }
    static void go(void *w)
    {
        handler_remove(w);
        sync_set(record_of(w)->memory, 0);
        handler_put(w);
    }
    void after()
    {
        handler_settle(settle);
        if (who) go(who);
        if (more) go(more);
        RL_ASSERT(!yes || settled == told);
        for (struct record *r = record_first(), *next; r; r = next) {
            next = r->next;
            RL_ASSERT(sync_load_relaxed(&r->visitors, owned) == 0);
            model_free(r);
        }
    }
};
#define ASKS(name, threads, bound) struct name : asks { name() : asks(#name, threads, bound) {}

// H2: one goes, and another comes, maybe in its place, while a handler runs. (The one that goes writes what it had in the
// end: by then a handler that has begun may look. So here it keeps it.)
ASKS(told_go_ask, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { on_signal(1); return; }
        handler_remove(who);
        handler_put(who);
        who = ask(2);
    }
} told_go_ask;
// ... the same signal: either of the two is told, or none.
ASKS(told_go_ask_again, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { on_signal(2); return; }
        handler_remove(who);
        handler_put(who);
        who = ask(2);
    }
} told_go_ask_again;
// Two handlers, one after the other on one thread: the second is not taken for the first.
ASKS(told_twice_go_ask, 2, 3)
    void thread(unsigned i)
    {
        if (i == 0) { on_signal(1); on_signal(2); return; }
        handler_remove(who);
        handler_put(who);
        who = ask(2);
    }
} told_twice_go_ask;
// ... as record_take asks, of one that is not put back: no other word in between.
ASKS(told_remove, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { on_signal(1); return; }
        handler_remove(who);
        if (sync_load_hs(&record_of(who)->visitors, handler, b, notice) == 0) sync_set(record_of(who)->memory, 2);
    }
    void after() { handler_put(who); who = NULL; asks::after(); }
} told_remove;
// One goes, another thread's comes in its place; or the one that goes has looked at the place first.
ASKS(go_other_asks, 2, 4)
    void thread(unsigned i)
    {
        if (i == 0) { more = ask(2); return; }
        handler_remove(who);
        handler_put(who);
        who = NULL;
    }
} go_other_asks;
ASKS(told_go_ask_other_asks, 3, 2)
    void thread(unsigned i)
    {
        if (i == 0) on_signal(2);
        else if (i == 1) more = ask(2);
        else {
            handler_remove(who);
            handler_put(who);
            who = ask(1);
        }
    }
} told_go_ask_other_asks;
// One takes it, puts it back, since a handler is at it; the other takes it after that.
ASKS(go_put_back_ask, 3, 3)
    struct record *r;
    void before() { asks::before(); r = record_of(who); sync_add_relaxed(&r->visitors, 1u, owned); }
    void thread(unsigned i)
    {
        if (i == 0) {
            handler_remove(who);
            handler_put(who);
            who = NULL;
        } else if (i == 1) {
            handler_put(record_take());
        } else {
            sync_add_relaxed(&r->visitors, UINT32_MAX, owned);
            more = ask(2);
        }
    }
} go_put_back_ask;
// Two who come take no record twice; a third looks.
ASKS(ask_ask, 3, 1)
    void before() { asks::before(); handler_remove(who); handler_put(who); who = NULL; }
    void thread(unsigned i)
    {
        if (i == 0) who = ask(1);
        else if (i == 1) more = ask(2);
        else { on_signal(1); on_signal(2); }
    }
    void after() { RL_ASSERT(who != more); asks::after(); }
} ask_ask;
// H1: who has asked is told.
ASKS(ask_then_told, 2, 4)
    sync_u32 asked;
    bool due;
    void before() { asks::before(); asked.init(0); due = false; }
    void thread(unsigned i)
    {
        if (i == 0) {
            more = ask(2);
            sync_add_acqrel(&asked, 1u, notice, none);
        } else {
            due = sync_load_acq(&asked, notice) == 1;
            on_signal(2);
        }
    }
    void after() { RL_ASSERT(!due || told == 1); asks::after(); }
} ask_then_told;
// H3: what was left is settled once, by one who sees what it is.
ASKS(told_settle, 2, 4)
    void before() { asks::before(); yes = true; }
    void thread(unsigned i)
    {
        if (i == 0) on_signal(1);
        else handler_settle(settle);
    }
} told_settle;
ASKS(told_told_settle, 3, 2)
    void before() { asks::before(); more = ask(2); yes = true; }
    void thread(unsigned i)
    {
        if (i < 2) on_signal((int)i + 1);
        else handler_settle(settle);
    }
    void after() { RL_ASSERT(told == 2); asks::after(); }
} told_told_settle;

int main(int argc, char **argv) { return model_main(argc, argv); }
