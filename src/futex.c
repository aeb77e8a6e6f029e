/* Layer 1, machine. futex: park on a word until it changes or a time comes; wake.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "futex.h"
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Private: the words of one process. FUTEX_WAIT_BITSET takes its time as absolute, on CLOCK_MONOTONIC. */
static long futex(sync_u32 *word, int op, uint32_t value, const struct timespec *until)
{
    return syscall(SYS_futex, &word->raw, op | FUTEX_PRIVATE_FLAG, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

bool futex_wait(sync_u32 *word, uint32_t seen, int64_t until)
{
    int saved = errno;
    bool in_time = true;
    if (until == INT64_MAX) {
        futex(word, FUTEX_WAIT_BITSET, seen, NULL);
    } else {
        /* The kernel refuses negative times; what is negative has passed. */
        int64_t at = until > 0 ? until : 0;
        struct timespec t = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
        in_time = futex(word, FUTEX_WAIT_BITSET, seen, &t) == 0 || errno != ETIMEDOUT;
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
