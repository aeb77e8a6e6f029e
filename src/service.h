/* Layer 6, mechanism. service: a thread of the library's own, made when it is first needed.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * All signals are blocked in it, so that a host's handlers run on the host's threads. It is never joined: it lives
 * as long as the process. */
#ifndef CCTXI_SERVICE_H
#define CCTXI_SERVICE_H

#include "sync.h"

struct service {
    const char *name;           /* as ps shows it; at most 15 bytes */
    void (*main)(void);         /* does not return */
    sync_u32 made, taken;       /* a thread was made; the role is a thread's */
};

/* True if the thread runs or is being made; false if it could not be made. Lock-free but for pthread_create. */
bool service_start(struct service *s);
/* In the child of a fork: no such thread. */
void service_forked(struct service *s);

#endif
