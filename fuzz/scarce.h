/* SPDX-License-Identifier: BSD-2-Clause */
/* scarce: in place of the library's allocator, one that counts what is out and refuses when it is told to.
 *
 * It is hostile where the library's own is kind: an array that is resized always moves, and a cell, whose
 * bytes are nobody's promise, is full of rubbish. */
#ifndef CCTX_FUZZ_SCARCE_H
#define CCTX_FUZZ_SCARCE_H

#include <stdbool.h>
#include <stddef.h>

/* Refuses the request after the next `after` ones, and, if it stays so, all that follow. */
void scarce_refuse(unsigned after, bool stay);
/* No more refusals. True if there was one since scarce_refuse. */
bool scarce_relent(void);
/* There was one; there was or may still be one. */
bool scarce_refused(void);
bool scarce_refusing(void);
/* Blocks that are out now. */
size_t scarce_blocks(void);

#endif
