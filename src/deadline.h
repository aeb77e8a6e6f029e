/* Layer 10, relations. deadline: a node's timer, and the thread that fires it.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_DEADLINE_H
#define CCTXI_DEADLINE_H

#include "node.h"

/* Arms n, which is in its slot already and whose handle no other thread has. 0, ENOMEM, or EAGAIN: the timer thread
 * could not be made. */
int deadline_arm(struct thread *t, struct cctx *n, int64_t now);
/* The deadline of n has passed, and nobody has fired it: does so from here (contract, C27). The caller has a
 * reference. Callbacks run on the runner thread. */
void deadline_fire(struct cctx *n);
/* Makes the timer thread now; false if it cannot be made. */
bool deadline_start(void);
/* Makes the timer of a domain that has no thread: its host works it. */
void deadline_host(struct cctx_domain *d);
/* In the child of a fork inherited deadlines need a timer thread again: a wait makes it. */
void deadline_wait(void);

#endif
