/* SPDX-License-Identifier: BSD-2-Clause */
/* drive: runs a program on the library, writes what each step was seen to do, counts what was done. */
#ifndef CCTX_CONFORMANCE_DRIVE_H
#define CCTX_CONFORMANCE_DRIVE_H

#include "program.h"

/* What comes of each step goes to the sink as a line that begins with '=': the step's own result; then each
 * register that is not as it was, as rNUMBER:ERROR CAUSE@DEADLINE:VALUES; each callback that ran, as
 * fNUMBER:TIMES ERROR CAUSE. Lines are told of at once when they are whole. */
struct drive_sink {
    void (*step)(struct drive_sink *sink, const struct step *step, const char *line);
};
void drive(const struct program *p, struct drive_sink *sink);

/* Prints how often each kind of thing was done in programs; false if one of them is rare. */
bool drive_counts(FILE *out, uint64_t programs);

#endif
