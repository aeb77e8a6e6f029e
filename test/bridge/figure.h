/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the bridges measure: how long after a cancel something has stopped, of many rounds. */
#ifndef CCTX_TEST_BRIDGE_FIGURE_H
#define CCTX_TEST_BRIDGE_FIGURE_H

#include "support.h"

static int figure_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the n times, in nanoseconds, and prints the line that test/bridge/run shows: "WHAT: p50 ..., p99 ...". */
static inline void figure_report(const char *what, int64_t *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, figure_compare);
    double p50 = (double)ns[n / 2] / 1e3, p99 = (double)ns[n - 1 - n / 100] / 1e3;
    print_message("figure: %s: p50 %.*f us, p99 %.*f us (%zu rounds)\n", what, p50 < 10, p50, p99 < 10, p99, n);
}

/* From here on this thread runs on another CPU than that one, if there is one. */
static inline void leave_cpu(int cpu)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1) {
        CPU_CLR((size_t)cpu, &cpus);
        CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
    }
}

#endif
