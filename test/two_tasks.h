/* SPDX-License-Identifier: BSD-2-Clause */
/* two_tasks: a group of two tasks for whom tests make run, each on a thread of its choice: what stands before a race, what
 * either side does, what holds after. */
#ifndef CCTX_TEST_TWO_TASKS_H
#define CCTX_TEST_TWO_TASKS_H

#include "support.h"

#include <cctx/group.h>

static cctx_group_t *group;
static struct {
    void (*fn)(void *arg);
    void *arg;
} submitted[2];                 /* what comes after these is refused */
static int results;             /* the sum of what the tasks that have run return */

static int task_submit(cctx_executor_t *self, void (*fn)(void *arg), void *arg)
{
    (void)self;
    int i = submitted[0].fn ? 1 : 0;
    if (submitted[i].fn) return EAGAIN;
    submitted[i].fn = fn;
    submitted[i].arg = arg;
    return 0;
}
static cctx_executor_t task_executor = {task_submit};
static int task(const cctx_t *ctx, void *arg)
{
    (void)ctx;
    results += (int)(intptr_t)arg;
    return (int)(intptr_t)arg;
}
static void go(int number) { CHECK(cctx_group_go(group, task, (void *)(intptr_t)number) == 0); }

static void plant_task(void)
{
    memset(submitted, 0, sizeof submitted);
    results = 0;
    group = cctx_group_new(cctx_background(), &task_executor, 2);
    CHECK(group);
    go(7);
}
static void plant_two_tasks(void)
{
    plant_task();
    go(8);
}

static void end_first(void) { submitted[0].fn(submitted[0].arg); }
static void end_second(void) { submitted[1].fn(submitted[1].arg); }
static void go_third(void) { go(16); }
static void wait_for_group(void)
{
    int first = cctx_group_wait(group);
    CHECK(first == 7 && results == 7 && cctx_cause(cctx_group_context(group))->code == 7);
    cctx_group_free(group);
    group = NULL;
}
static void free_group(void)
{
    cctx_group_free(group);
    group = NULL;
    CHECK(results == 7);
}

static void check_group_gone(void) { CHECK(!group); }
static void check_third(void)
{
    CHECK(results == 7 + 16);
    end_second();
    CHECK(cctx_group_wait(group) == 7 && results == 7 + 8 + 16);
    cctx_group_free(group);
}
static void check_two_ended(void)
{
    int first = cctx_group_wait(group);
    CHECK((first == 7 || first == 8) && results == 7 + 8);
    CHECK(cctx_cause(cctx_group_context(group))->code == first);
    cctx_group_free(group);
}

#endif
