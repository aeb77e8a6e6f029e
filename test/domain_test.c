/* SPDX-License-Identifier: BSD-2-Clause */
/* domain: a home gives back what many threads retired, after each section that was open; a domain waits for that. */
#include "support.h"

#include "callback.h"
#include <cctx/domain.h>

struct object {
    struct epoch_link link;
    int *reclaimed;
};

static void reclaim(struct epoch_link *link)
{
    struct object *o = container_of(link, struct object, link);
    __atomic_add_fetch(o->reclaimed, 1, __ATOMIC_RELAXED);
    free(o);
}

static void retire(struct home *h, int *reclaimed)
{
    struct object *o = malloc(sizeof *o);
    CHECK(o != NULL);
    o->reclaimed = reclaimed;
    home_retire(h, &o->link, reclaim);
}

struct section {
    gate_t entered, leave;
};

static void *section_main(void *arg)
{
    struct section *s = arg;
    struct thread *t = thread_begin();
    epoch_enter(t);
    gate_open(&s->entered);
    gate_wait(&s->leave);
    epoch_leave(t);
    thread_end(t);
    return NULL;
}

static void what_is_retired_to_a_home_is_kept_while_a_section_is_open(void **state)
{
    (void)state;
    struct section s = {{0}, {0}};
    int reclaimed = 0;
    thread_begin();
    struct home *h = home_take();
    assert_non_null(h);
    assert_true(home_poll(h));
    pthread_t thread = thread_start(section_main, &s);
    gate_wait(&s.entered);
    for (int i = 0; i < 1000; i++) {
        retire(h, &reclaimed);
        if (i % 7 == 0) assert_false(home_poll(h));
    }
    assert_int_equal(reclaimed, 0);
    gate_open(&s.leave);
    thread_join(thread);
    for (int i = 0; i < 16 && !home_poll(h); i++) {}
    assert_int_equal(reclaimed, 1000);
    assert_true(home_poll(h));
    home_give(h);
    h = home_take();                    /* recycled */
    assert_non_null(h);
    assert_true(home_poll(h));
    home_give(h);
}

static struct home *polled_in_reclaim;
static void reclaim_and_poll(struct epoch_link *link)
{
    struct object *o = container_of(link, struct object, link);
    ++*o->reclaimed;
    retire(polled_in_reclaim, o->reclaimed);
    for (int i = 0; i < 16; i++) assert_false(home_poll(polled_in_reclaim));    /* one poll at a time */
    assert_int_equal(*o->reclaimed, 1);
    free(o);
}

static void a_poll_in_a_poll_does_nothing(void **state)
{
    (void)state;
    int reclaimed = 0;
    thread_begin();
    struct home *h = polled_in_reclaim = home_take();
    struct object *o = malloc(sizeof *o);
    assert_non_null(o);
    o->reclaimed = &reclaimed;
    home_retire(h, &o->link, reclaim_and_poll);
    for (int i = 0; i < 16 && reclaimed == 0; i++) assert_false(home_poll(h));
    assert_int_equal(reclaimed, 1);
    for (int i = 0; i < 16 && !home_poll(h); i++) {}
    assert_int_equal(reclaimed, 2);
    home_give(h);
}

/* E3: what a home had is the child's, too. */
static void a_home_is_whole_in_the_child_of_a_fork(void **state)
{
    (void)state;
    int reclaimed = 0;
    thread_begin();
    struct home *h = home_take();
    retire(h, &reclaimed);
    home_poll(h);                       /* in limbo */
    retire(h, &reclaimed);              /* not yet */
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 16 && !home_poll(h); i++) {}
        _exit(reclaimed == 2 && home_poll(h) ? 0 : 1);
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < 16 && !home_poll(h); i++) {}
    assert_int_equal(reclaimed, 2);
    home_give(h);
}

static gate_t reclaiming, go_on;
static void reclaim_slowly(struct epoch_link *link)
{
    gate_open(&reclaiming);
    gate_wait(&go_on);
    reclaim(link);
}
static void *poll_main(void *arg)
{
    thread_end(thread_begin());
    for (int i = 0; i < 16; i++) home_poll(arg);
    return NULL;
}

static void a_home_that_was_polled_by_a_thread_that_is_gone_is_the_childs_without_what_that_had(void **state)
{
    (void)state;
    int reclaimed = 0;
    thread_begin();
    struct home *h = home_take();
    struct object *o = malloc(sizeof *o);
    assert_non_null(o);
    o->reclaimed = &reclaimed;
    home_retire(h, &o->link, reclaim_slowly);
    pthread_t thread = thread_start(poll_main, h);
    gate_wait(&reclaiming);
    retire(h, &reclaimed);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 16 && !home_poll(h); i++) {}
        _exit(reclaimed == 1 && home_poll(h) ? 0 : 1);
    }
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    gate_open(&go_on);
    thread_join(thread);
    assert_int_equal(status, 0);
    for (int i = 0; i < 16 && !home_poll(h); i++) {}
    assert_int_equal(reclaimed, 2);
    home_give(h);
}

/* A domain whose contexts a thread may still look at is freed when that thread has left its section, or not at all. */
static void freeing_a_domain_waits_for_a_grace_period(void **state)
{
    (void)state;
    struct section s = {{0}, {0}};
    cctx_domain_t *d = cctx_domain_new(NULL);
    assert_non_null(d);
    cctx_t *parent = cctx_with_cancel(cctx_domain_background(d));
    cctx_t *child = cctx_with_cancel(parent);
    pthread_t thread = thread_start(section_main, &s);
    gate_wait(&s.entered);
    cctx_unref(child);
    cctx_unref(parent);
    int64_t before = now_ns();
    assert_int_equal(cctx_domain_free(d), EBUSY);
    assert_true(now_ns() - before >= CCTX_MS(900));
    child = cctx_with_timeout(cctx_domain_background(d), CCTX_S(9));    /* it is as it was */
    assert_non_null(child);
    assert_true(cctx_domain_next(d) != CCTX_NEVER);
    cctx_unref(child);
    gate_open(&s.leave);
    assert_int_equal(cctx_domain_free(d), 0);
    thread_join(thread);
}

static void a_context_knows_its_domain_by_a_number(void **state)
{
    (void)state;
    cctx_domain_t *d = cctx_domain_new(NULL);
    assert_non_null(d);
    const cctx_t *c = cctx_with_cancel(cctx_domain_background(d)), *v = cctx_without_cancel(c);
    assert_ptr_equal(node_domain(c), d);
    assert_ptr_equal(node_domain(v), d);
    assert_null(node_domain(cctx_background()));
    assert_ptr_equal(domain_at(d->index), d);
    unsigned index = d->index;
    cctx_unref(v);
    cctx_unref(c);
    assert_int_equal(cctx_domain_free(d), 0);
    assert_null(domain_at(index));
}

static cctx_domain_t *forked_in;
static pid_t forked_pid;
static void *allocate_and_fork(void *user, size_t size, size_t align)
{
    void *p = NULL;
    (void)user;
    if (posix_memalign(&p, align, size) != 0) return NULL;
    if (forked_in && sync_load_relaxed(&forked_in->role, owned) != 0) {
        forked_pid = fork();
        CHECK(forked_pid >= 0);
        forked_in = forked_pid == 0 ? forked_in : NULL;
        if (forked_pid == 0) _exit(sync_load_relaxed(&forked_in->role, owned) == (uintptr_t)thread_current ? 0 : 1);
    }
    return p;
}
static void release(void *user, void *p)
{
    (void)user;
    free(p);
}

/* Its run goes on in the child. */
static void a_role_of_the_thread_that_forks_is_still_its_own(void **state)
{
    (void)state;
    cctx_domain_options_t o = {sizeof o, NULL, allocate_and_fork, release, NULL, NULL, 0};
    cctx_domain_t *d = cctx_domain_new(&o);
    assert_non_null(d);
    cctx_t *c = cctx_with_timeout(cctx_domain_background(d), CCTX_S(1000));
    forked_in = d;
    assert_true(cctx_domain_next(d) != CCTX_NEVER);     /* takes memory for the order */
    assert_null(forked_in);
    int status = -1;
    assert_true(waitpid(forked_pid, &status, 0) == forked_pid);
    assert_int_equal(status, 0);
    cctx_unref(c);
    assert_int_equal(cctx_domain_free(d), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_retired_to_a_home_is_kept_while_a_section_is_open),
        cmocka_unit_test(a_poll_in_a_poll_does_nothing),
        cmocka_unit_test(a_home_is_whole_in_the_child_of_a_fork),
        cmocka_unit_test(a_home_that_was_polled_by_a_thread_that_is_gone_is_the_childs_without_what_that_had),
        cmocka_unit_test(freeing_a_domain_waits_for_a_grace_period),
        cmocka_unit_test(a_context_knows_its_domain_by_a_number),
        cmocka_unit_test(a_role_of_the_thread_that_forks_is_still_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
