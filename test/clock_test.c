/* SPDX-License-Identifier: BSD-2-Clause */
/* clock: it is CLOCK_MONOTONIC, and no thread sees it go back. */
#include "support.h"

#include "clock.h"
#include "sync.h"

static void it_is_the_monotonic_clock(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        int64_t before = now_ns(), now = clock_now(), after = now_ns();
        assert_true(before <= now && now <= after);
    }
}

static sync_i64 latest;

/* Each reading is told to the others; whoever hears of one reads no earlier time. */
static void tell_the_time(unsigned index, void *arg)
{
    (void)index;
    (void)arg;
    for (int i = 0; i < SCALED(100000); i++) {
        int64_t told = sync_load_acq(&latest, done), now = clock_now();
        CHECK(now >= told);
        while (now > told && !sync_cas_acqrel(&latest, &told, now, done, done)) {}
    }
}

static void no_thread_sees_it_go_back(void **state)
{
    (void)state;
    threads_run(3, tell_the_time, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_monotonic_clock),
        cmocka_unit_test(no_thread_sees_it_go_back),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
