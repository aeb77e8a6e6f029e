// domain_model.cc: a domain's role, and its end after the last of its contexts has gone.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: domain.c, host.c. The timer, the home and the callbacks are each one variable that one thread may use.
#include "model.h"
#include "domain.c"
#include "node.h"
sync_u32 node_never;
static struct cctx_domain *d;
static void give(const struct allocator *, void *p) { if (p == d) model_free(p); }
#define block_give(a, p) give(a, p)
#define pthread_once(once, setup) 0
#include "host.c"
#undef block_give

static sync_plain(int) role_word, context_word;
static unsigned freed, ran;

sync_ptr async_stack;
void cancel_drain(void) {}
void timer_init(struct timer *, const struct timer_ops *) {}
void deadline_host(struct cctx_domain *) {}
size_t timer_work(struct timer *, struct thread *, int64_t)
{
    sync_set(role_word, 1);
    ran++;
    return 0;
}
int64_t timer_next(struct timer *) { return sync_get(role_word); }
void timer_forked(struct timer *) {}
void timer_free(struct timer *) { sync_set(role_word, 2); }
struct cctx *callback_host_take(struct cctx_domain *) { return NULL; }
void callback_host_forked(struct cctx_domain *) {}
void callback_run_list(struct thread *, struct cctx *) {}
struct home *home_take(void) { return NULL; }
bool home_poll(struct home *) { return true; }
void home_retire(struct home *, struct epoch_link *, void (*)(struct epoch_link *)) {}
void home_give(struct home *)
{
    sync_set(context_word, 3);                  /* all that a context ever was is given back */
    freed++;
}

struct domains : scenario {
    domains(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    uint64_t contexts;
    void before()
    {
        d = model_make<struct cctx_domain>();
        d->clock = NULL;
        d->alarm = NULL;
        d->home = (struct home *)&freed;
        d->background = NULL;
        d->index = 1;
        sync_init(&d->role, (uintptr_t)0);
        sync_init(&d->queue, (uintptr_t)0);
        sync_init(&d->live, contexts);
        sync_init(&domain_table[1], (uintptr_t)d);
        sync_set(role_word, 0);
        sync_set(context_word, 0);
        freed = ran = 0;
    }
    void end()
    {
        while (cctx_domain_free(d) == EBUSY) rl::yield(1, RL_INFO);
    }
    void after() { RL_ASSERT(freed == 1); }
};
#define DOMAINS(name, threads, bound) struct name : domains { name() : domains(#name, threads, bound) {}

// M1, M2: the last use of the domain comes before its end, whichever thread finds the count at 0.
DOMAINS(drop_free, 2, 4)
    void before() { contexts = 1; domains::before(); }
    void thread(unsigned i)
    {
        if (i == 0) {
            sync_set(context_word, 1);
            domain_drop(d);
        } else end();
    }
} drop_free;
DOMAINS(drop_drop_free, 3, 2)
    sync_ptr turn;
    void before() { contexts = 2; domains::before(); turn.init(0); }
    void thread(unsigned i)
    {
        if (i < 2) {
            if (turn.fetch_add(1, rl::mo_relaxed, RL_INFO) == 0) sync_set(context_word, 1);
            domain_drop(d);
        } else end();
    }
} drop_drop_free;
// M3: one thread at a time has the role.
DOMAINS(run_run, 2, 4)
    void before() { contexts = 0; domains::before(); }
    void thread(unsigned i)
    {
        if (i == 0) cctx_domain_run(d, 0);
        else cctx_domain_next(d);
    }
    void after() { RL_ASSERT(ran >= 1); end(); domains::after(); }
} run_run;
DOMAINS(run_free, 2, 4)
    sync_ptr over;
    void before() { contexts = 0; domains::before(); over.init(0); }
    void thread(unsigned i)
    {
        if (i == 0) {
            cctx_domain_run(d, 0);
            over.store(1, rl::mo_relaxed, RL_INFO);
        } else {
            while (over.load(rl::mo_relaxed, RL_INFO) == 0) rl::yield(1, RL_INFO);
            end();
        }
    }
} run_free;

int main(int argc, char **argv) { return model_main(argc, argv); }
