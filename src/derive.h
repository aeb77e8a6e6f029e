/* Layer 11, face. derive: the public functions that make contexts, and the roots.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_DERIVE_H
#define CCTXI_DERIVE_H

#include "node.h"

/* Hangs n below parent: in a slot of its owner, or by a reference if the owner is done already (then n is born done)
 * or can never be. False without memory. */
bool derive_attach(struct thread *t, struct cctx *n, struct cctx *parent);

#endif
