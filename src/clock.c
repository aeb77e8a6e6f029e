/* Layer 1, machine. clock: the only reader of clocks.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "clock.h"
#include <time.h>

int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
