/* Layer 4, mechanism. event: a file descriptor, kept in a word, that is readable once it was told; a sleep on such.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The word, the note, has the descriptor and the process that made it: after a fork the number stands for the parent's
 * event, which the child neither writes to nor closes. No call here is a cancellation point of pthreads. */
#ifndef CCTXI_EVENT_H
#define CCTXI_EVENT_H

#include "sync.h"
#include <poll.h>

/* The descriptor of the note, made by the first call in this process; -1 with errno EMFILE, ENFILE or ENOMEM. */
int event_open(sync_u64 *note);
/* Makes the descriptor readable, for ever, if this process has made one; as often as one likes. Async-signal-safe;
 * leaves errno alone. */
void event_tell(sync_u64 *note);
/* Gives the descriptor back, if this process has made one. Nobody tells it any more. Leaves errno alone. */
void event_close(sync_u64 *note);

/* ppoll until the time (ns on CLOCK_MONOTONIC; INT64_MAX: for ever): how many are ready, 0 where it ended by the time
 * or a signal, or an errno value, negated. Leaves errno alone. */
int event_poll(struct pollfd *fds, nfds_t n, int64_t until);

#endif
