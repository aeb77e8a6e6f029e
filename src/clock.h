/* Layer 1, machine. clock: the only reader of clocks.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_CLOCK_H
#define CCTXI_CLOCK_H

#include "base.h"

/* Nanoseconds on CLOCK_MONOTONIC, the clock that futexes sleep by: a wall-clock step moves no deadline. */
int64_t clock_now(void);

#endif
