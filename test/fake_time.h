/* SPDX-License-Identifier: BSD-2-Clause */
/* fake_time: a machine of one thread whose clock the test moves, in place of the library's clock, futex and service.
 *
 * The library's own threads are fibers. They run when the test lets them (fake_time_settle, fake_time_advance) and
 * when the test's thread sleeps in a wait; time then jumps to the next moment at which anyone wakes. A sleep that
 * nothing can end aborts. Link the library's objects without clock, futex and service. */
#ifndef CCTX_TEST_FAKE_TIME_H
#define CCTX_TEST_FAKE_TIME_H

#include <stdint.h>

int64_t fake_time_now(void);
/* Sets the clock and runs nobody: for a moment before any deadline is armed. */
void fake_time_set(int64_t now);
/* Runs the library's threads until each sleeps, at the present time. */
void fake_time_settle(void);
/* Lets ns pass: each moment at which one of the library's threads wakes is stopped at. */
void fake_time_advance(int64_t ns);

#endif
