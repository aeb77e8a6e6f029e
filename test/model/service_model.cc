// service_model.cc: a thread of the library's own: two that find none make one each, and one of these has the role.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: service.c. Its words carry nothing: pthread_create alone orders what a made thread finds.
#define MODEL_SERVICE
#include "model.h"

/* What is made by pthread_create: the last threads of the scenario, in their order, wait until they are. */
enum { MADE = 2 };
static sync_u32 creations, settled;     /* settled: callers that have returned */
static sync_ptr start[MADE];
static struct service *argument;
static unsigned refused;                /* the creation that fails; else none */
static int model_create(void *(*)(void *), struct service *s)
{
    unsigned i = creations.fetch_add(1, rl::mo_relaxed, RL_INFO);
    if (i == refused) return EAGAIN;
    start[i].store((uintptr_t)s, rl::mo_release, RL_INFO);
    futex_wake(&settled);
    return 0;
}
#define pthread_create(thread, attr, main, arg)  model_create(main, arg)
#define pthread_detach(thread)                   ((void)0)
#define pthread_setname_np(thread, name)         ((void)0)
#define pthread_sigmask(how, set, before)        ((void)0)
#undef sigfillset
#define sigfillset(set)                          ((void)0)
#include "service.c"

static sync_plain(int) role, prepared;
static unsigned mains;
static void service_role(void)
{
    mains++;
    RL_ASSERT(sync_get(prepared) == 1);
    sync_set(role, sync_get(role) + 1);
}

struct services : scenario {
    struct service s;
    bool there[2];
    services(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void begin(unsigned none)
    {
        s.name = "service";
        s.main = service_role;
        s.made.init(0);
        s.taken.init(0);
        refused = none;
        mains = 0;
        there[0] = there[1] = false;
    }
    void before() { begin(MADE); sync_set(prepared, 1); }
    void ask(unsigned i)
    {
        there[i] = service_start(&s);
        settled.fetch_add(1, rl::mo_relaxed, RL_INFO);
        futex_wake(&settled);
    }
    void made(unsigned i)
    {
        for (;;) {
            uint32_t seen = settled.load(rl::mo_acquire, RL_INFO);
            struct service *mine = (struct service *)start[i].load(rl::mo_acquire, RL_INFO);
            if (mine) service_main(mine);
            if (mine || seen == 2) return;
            futex_wait(&settled, seen, INT64_MAX);
        }
    }
    void thread(unsigned i)
    {
        if (i < 2) ask(i);
        else made(i - 2);
    }
    void after()
    {
        RL_ASSERT(mains == (there[0] || there[1]));
        RL_ASSERT(there[0] == there[1] || refused < MADE);
    }
};
#define SERVICES(name, threads, bound) struct name : services { name() : services(#name, threads, bound) {}

// The role is one thread's, whoever is there first.
SERVICES(ask_ask, 4, 2)
} ask_ask;
// One creation fails: who made the other one's thread counts on it, and it has the role.
SERVICES(ask_refused, 4, 2)
    void before() { begin(0); sync_set(prepared, 1); }
} ask_refused;
SERVICES(ask_then_refused, 4, 2)
    void before() { begin(1); sync_set(prepared, 1); }
} ask_then_refused;
// What the one that asks has prepared, its thread finds.
SERVICES(prepared_first, 3, 4)
    void before() { begin(MADE); settled.init(1); }
    void thread(unsigned i)
    {
        if (i == 0) {
            sync_set(prepared, 1);
            ask(0);
        } else made(i - 1);
    }
    void after() { RL_ASSERT(there[0] && mains == 1); }
} prepared_first;

int main(int argc, char **argv) { return model_main(argc, argv); }
