/* Layer 2, machine. futex: park on a word until it changes or a time comes; wake.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "futex.h"
#include "clock.h"
#include <errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A machine of 32 bits has two calls. This one's times have 64 bits whatever the program's time_t has: a deadline may be
 * further off than 2^31 seconds. */
#ifdef SYS_futex_time64
enum { FUTEX_CALL = SYS_futex_time64 };
#else
enum { FUTEX_CALL = SYS_futex };
#endif

/* Private: the words of one process. FUTEX_WAIT_BITSET takes its time as absolute, on CLOCK_MONOTONIC. */
static long futex(sync_u32 *word, int op, uint32_t value, const struct __kernel_timespec *until)
{
    return syscall(FUTEX_CALL, &word->raw, op | FUTEX_PRIVATE_FLAG, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

/* True: the time has not come. Times before 0 have passed; the kernel refuses them. */
static bool futex_wait_until(sync_u32 *word, uint32_t seen, int64_t until)
{
    int64_t at = until > 0 ? until : 0;
    struct __kernel_timespec t = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
    return futex(word, FUTEX_WAIT_BITSET, seen, &t) == 0 || errno != ETIMEDOUT;
}

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    int saved = errno;
    bool in_time = true;
    if (until == INT64_MAX) {
        futex(word, FUTEX_WAIT_BITSET, seen, NULL);
    } else {
        int slack = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
        in_time = futex_wait_until(word, seen, time_add(until, slack > 0 ? -(int64_t)slack : 0)) ||
                  (clock_now() < until && futex_wait_until(word, seen, until));
    }
    errno = saved;
    return in_time;
}

void futex_wake(sync_u32 *word)
{
    int saved = errno;
    futex(word, FUTEX_WAKE, INT_MAX, NULL);
    errno = saved;
}
