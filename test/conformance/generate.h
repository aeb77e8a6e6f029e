/* SPDX-License-Identifier: BSD-2-Clause */
/* generate: random programs, each by its seed. */
#ifndef CCTX_CONFORMANCE_GENERATE_H
#define CCTX_CONFORMANCE_GENERATE_H

#include "program.h"

/* The program of this seed; the start moves no step of it. Returns the time at its end, when the next one can
 * begin. */
int64_t generate(struct program *p, uint64_t seed, int64_t start);

#endif
