// SPDX-License-Identifier: BSD-2-Clause
// Prints how many whole CPUs the host gives two threads just now: 2.00 if each has its own.
//
// A virtual machine's host at times runs both CPUs on one core for some seconds, which no counter of the
// guest shows. Wakes, scaling and cache misses are then those of another machine, so bench/run gauges before
// and after every program.
#include "harness.h"

int main()
{
    int cpu[2];
    if (bench::two_cpus(cpu) < 2) {
        std::puts("1.00");
        return 0;
    }
    auto work = [] {
        uint64_t x = 1;
        for (int i = 0; i < 700000; i++) {
            x = x * 6364136223846793005u + 1;
            __asm__ volatile("" : "+r"(x));
        }
    };
    double sum = 0;
    const int WINDOWS = 8;
    for (int i = 0; i < WINDOWS; i++)
        sum += bench::two_over_one(work, 3);
    std::printf("%.2f\n", sum / WINDOWS);
    return 0;
}
