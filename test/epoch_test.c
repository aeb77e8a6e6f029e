/* SPDX-License-Identifier: BSD-2-Clause */
/* epoch: nothing is reclaimed under an open section, everything is in the end, and records are recycled. */
#include "support.h"

#include <sched.h>

#include "epoch.h"

struct thing {
    struct epoch_link link;
    bool *gone;
};

static unsigned alive;

static void reclaim(struct epoch_link *link)
{
    struct thing *thing = container_of(link, struct thing, link);
    alive--;
    if (thing->gone) *thing->gone = true;
    free(thing);
}

static void retire(struct thread *t, unsigned count, unsigned weight, bool *gone)
{
    for (; count > 0; count--) {
        struct thing *thing = calloc(1, sizeof *thing);
        assert_non_null(thing);
        thing->gone = gone;
        alive++;
        epoch_retire(t, &thing->link, reclaim, weight);
    }
}

/* More polls than any grace period takes when no section is open. */
static void poll_out(struct thread *t)
{
    for (int i = 0; i < 10; i++) epoch_poll(t);
}

/* Steps between a test and one thread of its own. */
static sync_u32 step;
static void step_to(uint32_t n) { sync_store_rel(&step, n, done); }
static void step_wait(uint32_t n)
{
    while (sync_load_acq(&step, done) != n) sched_yield();
}

static void *hold_a_section(void *arg)
{
    struct thread *t = thread_begin();
    epoch_enter(t);
    step_to(1);
    step_wait(2);
    epoch_leave(t);
    thread_end(t);
    return arg;
}

/* Claim E1: not one poll, and no amount of them, reclaims what a section may still read. */
static void nothing_is_reclaimed_under_an_open_section(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    poll_out(t);
    step_to(0);
    pthread_t reader = thread_start(hold_a_section, NULL);
    step_wait(1);
    bool gone = false;
    retire(t, 1, 1, &gone);
    retire(t, 1000, 1, NULL);
    poll_out(t);
    assert_false(gone);
    assert_true(alive > 0 && epoch_limbo() == alive);
    step_to(2);
    thread_join(reader);
    poll_out(t);
    assert_true(gone);
    assert_int_equal(alive, 0);
    assert_int_equal(epoch_limbo(), 0);
    thread_end(t);
}

/* The thread polls by itself once enough is retired, and one heavy object is enough. */
static void retirements_poll_by_themselves(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    poll_out(t);
    retire(t, 100 * EPOCH_HEAVY, 1, NULL);
    assert_true(alive <= 10 * EPOCH_HEAVY);
    poll_out(t);
    assert_int_equal(alive, 0);
    retire(t, 100, EPOCH_HEAVY, NULL);
    assert_true(alive <= 10);
    poll_out(t);
    assert_int_equal(alive, 0);
    thread_end(t);
}

/* Claim E2: to retire is to link. */
static void retiring_allocates_nothing(void **state)
{
    (void)state;
    enum { N = 1000 };
    static struct thing *things[N];
    struct thread *t = thread_begin();
    for (int i = 0; i < N; i++) assert_non_null(things[i] = calloc(1, sizeof **things));
    step_to(0);
    pthread_t reader = thread_start(hold_a_section, NULL);
    step_wait(1);
    size_t before = memory_in_use();
    for (int i = 0; i < N; i++) {
        alive++;
        epoch_retire(t, &things[i]->link, reclaim, 1);
    }
    assert_true(memory_in_use() <= before);
    step_to(2);
    thread_join(reader);
    poll_out(t);
    assert_int_equal(alive, 0);
    thread_end(t);
}

static void *retire_and_exit(void *arg)
{
    struct thread *t = thread_begin();
    retire(t, 10, 1, arg);
    thread_end(t);
    return NULL;
}

/* Claim E3: what an exited thread could not reclaim passes to one that polls. */
static void limbo_outlives_its_thread(void **state)
{
    (void)state;
    bool gone = false;
    struct thread *t = thread_begin();
    poll_out(t);
    epoch_enter(t);
    thread_join(thread_start(retire_and_exit, &gone));
    assert_int_equal(alive, 10);
    assert_int_equal(epoch_limbo(), 10);
    epoch_leave(t);
    poll_out(t);
    assert_true(gone);
    assert_int_equal(alive, 0);
    assert_int_equal(epoch_limbo(), 0);
    thread_end(t);
}

static void *tell_record(void *arg)
{
    (void)arg;
    struct thread *t = thread_begin();
    thread_end(t);
    return t;
}

static void the_record_of_an_exited_thread_serves_the_next(void **state)
{
    (void)state;
    void *first, *next;
    pthread_join(thread_start(tell_record, NULL), &first);
    for (int i = 0; i < 50; i++) {
        pthread_join(thread_start(tell_record, NULL), &next);
        assert_ptr_equal(next, first);
    }
}

static void calls_nest_on_one_record(void **state)
{
    (void)state;
    struct thread *outer = thread_begin(), *inner = thread_begin();
    assert_ptr_equal(inner, outer);
    thread_end(inner);
    assert_ptr_equal(thread_current, outer);
    thread_end(outer);
    assert_ptr_equal(thread_current, outer);    /* a thread keeps its record until it exits */
}

static pthread_key_t late_key;
static sync_u32 late_rounds, late_lent;

/* Runs again and again, since it sets its key again: at last after the library's own destructor. */
static void call_late(void *arg)
{
    if (sync_add_acqrel(&late_rounds, 1u, done, none) + 1 < PTHREAD_DESTRUCTOR_ITERATIONS)
        pthread_setspecific(late_key, arg);
    struct thread *t = thread_begin(), *nested = thread_begin();
    CHECK(t == nested);
    bool lent = t->transient != 0;
    epoch_enter(t);
    epoch_leave(t);
    thread_end(nested);
    CHECK(thread_current == t);
    thread_end(t);
    CHECK((thread_current == NULL) == lent);
    if (lent) sync_add_acqrel(&late_lent, 1u, done, none);
}

static void *exit_with_late_calls(void *arg)
{
    pthread_setspecific(late_key, arg);
    return tell_record(NULL);
}

/* A call after the thread's own destructor takes a record for its own length and leaves none behind. */
static void calls_after_the_destructor_borrow_a_record(void **state)
{
    (void)state;
    void *record, *next;
    assert_int_equal(pthread_key_create(&late_key, call_late), 0);
    pthread_join(thread_start(exit_with_late_calls, &step), &record);
    assert_int_equal(sync_load_acq(&late_rounds, done), PTHREAD_DESTRUCTOR_ITERATIONS);
    assert_true(sync_load_acq(&late_lent, done) > 0);
    pthread_join(thread_start(tell_record, NULL), &next);
    assert_ptr_equal(next, record);
    pthread_key_delete(late_key);
}

static void reclaim_in_child(void *arg)
{
    unsigned before = *(unsigned *)arg;
    CHECK(thread_generation() == before + 1);
    struct thread *t = thread_begin();
    bool gone = false;
    retire(t, 1, 1, &gone);
    poll_out(t);
    CHECK(gone);
    thread_end(t);
}

/* A section that another thread was in when the process forked is open in the parent alone. */
static void a_fork_leaves_the_sections_of_others_behind(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    step_to(0);
    pthread_t reader = thread_start(hold_a_section, NULL);
    step_wait(1);
    unsigned generation = thread_generation();
    int status = run_in_child(reclaim_in_child, &generation);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(thread_generation(), generation);
    step_to(2);
    thread_join(reader);
    thread_end(t);
}

enum { CROWD = 300 };           /* more records than are looked at in each poll */
static gate_t crowd_gate;
static sync_u32 arrived;
static void *stand_in_the_crowd(void *arg)
{
    struct thread *t = thread_begin();
    sync_add_acqrel(&arrived, 1u, done, none);
    gate_wait(&crowd_gate);
    thread_end(t);
    return arg;
}

/* Among many threads a poll costs more and comes less often, and nothing waits for ever. */
static void among_many_threads_retirements_poll_less_often(void **state)
{
    (void)state;
    struct thread *t = thread_begin();
    poll_out(t);
    unsigned longest[2] = {0, 0};
    static pthread_t crowd[CROWD];
    for (int many = 0; many < 2; many++) {
        for (int i = 0; many && i < CROWD; i++) crowd[i] = thread_start(stand_in_the_crowd, NULL);
        while (many && sync_load_acq(&arrived, done) < CROWD) sched_yield();
        for (unsigned i = 0; i < 5000; i++) {
            retire(t, 1, 1, NULL);
            if (epoch_limbo() > longest[many]) longest[many] = epoch_limbo();
        }
    }
    assert_in_range(longest[0], 1, 4 * EPOCH_HEAVY);
    assert_in_range(longest[1], 4 * EPOCH_HEAVY + 1, 4000);
    gate_open(&crowd_gate);
    for (int i = 0; i < CROWD; i++) thread_join(crowd[i]);
    poll_out(t);
    assert_int_equal(epoch_limbo(), 0);
    thread_end(t);
}

static void nest_sections(void *arg)
{
    (void)arg;
    struct thread *t = thread_begin();
    signal(SIGILL, SIG_DFL);
    signal(SIGTRAP, SIG_DFL);
    epoch_enter(t);
    epoch_enter(t);
    thread_end(t);
}

/* Claim E4: a build that checks traps; in another one nobody looks. */
static void a_section_in_a_section_traps_where_it_is_checked(void **state)
{
    (void)state;
    if (!CCTX_CHECK) {
        print_message("not applicable: nested sections are looked for in builds with CCTX_CHECK=1\n");
        return;
    }
    int status = run_in_child(nest_sections, NULL);
    assert_true(WIFSIGNALED(status));
}

int main(void)
{
    watchdog(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_reclaimed_under_an_open_section),
        cmocka_unit_test(retirements_poll_by_themselves),
        cmocka_unit_test(retiring_allocates_nothing),
        cmocka_unit_test(limbo_outlives_its_thread),
        cmocka_unit_test(the_record_of_an_exited_thread_serves_the_next),
        cmocka_unit_test(calls_nest_on_one_record),
        cmocka_unit_test(calls_after_the_destructor_borrow_a_record),
        cmocka_unit_test(a_fork_leaves_the_sections_of_others_behind),
        cmocka_unit_test(a_section_in_a_section_traps_where_it_is_checked),
        cmocka_unit_test(among_many_threads_retirements_poll_less_often),
    };
    return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
