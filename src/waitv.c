/* Layer 3, mechanism. waitv: park on one of several words, and learn which one was woken.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "waitv.h"

#ifdef SYNC_SEEDED
/* The machines of the tests have futex_wait alone, and so a kernel from before 5.16. */
#include "futex.h"
int waitv(const struct waitv_word *words, unsigned n, int64_t until)
{
    if (n > 1) return WAITV_NONE;
    return futex_wait(words->word, words->seen, until) ? 0 : WAITV_TIME;
}
#else
#include "clock.h"
#include <errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* As in futex.c. */
#ifdef SYS_futex_time64
enum { FUTEX_CALL = SYS_futex_time64 };
#else
enum { FUTEX_CALL = SYS_futex };
#endif

static long call(const struct waitv_word *words, unsigned n, const struct __kernel_timespec *until)
{
    if (n == 1)
        return syscall(FUTEX_CALL, &words->word->raw, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, words->seen,
                       until, NULL, FUTEX_BITSET_MATCH_ANY);
#if defined SYS_futex_waitv && defined FUTEX_32
    static sync_u32 refused;            /* a kernel that has refused it once always does */
    if (sync_load_relaxed(&refused, alone) == 0) {
        struct futex_waitv v[WAITV_MOST];
        for (unsigned i = 0; i < n; i++)
            v[i] = (struct futex_waitv){
                .val = words[i].seen, .uaddr = (uintptr_t)words[i].word, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
        long woken = syscall(SYS_futex_waitv, v, n, 0, until, CLOCK_MONOTONIC);
        if (woken < 0 && (errno == ENOSYS || errno == EPERM)) sync_store_relaxed(&refused, 1u, alone);
        return woken;
    }
#endif
    errno = ENOSYS;
    return -1;
}

static int sleep_until(const struct waitv_word *words, unsigned n, int64_t until)
{
    struct __kernel_timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    long woken = call(words, n, until == INT64_MAX ? NULL : &t);
    if (woken >= 0) return (int)woken;
    switch (errno) {
    case ETIMEDOUT: return WAITV_TIME;
    case EAGAIN:
    case EINTR: return WAITV_LOOK;
    default: return WAITV_NONE;
    }
}

int waitv(const struct waitv_word *words, unsigned n, int64_t until)
{
    int saved = errno, slack = until == INT64_MAX ? 0 : prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    /* Asked for so much shorter, since the kernel lets it run over by as much; then for the rest. */
    int end = sleep_until(words, n, time_add(until, slack > 0 ? -(int64_t)slack : 0));
    while (end == WAITV_TIME && clock_now() < until) end = sleep_until(words, n, until);
    errno = saved;
    return end;
}
#endif
