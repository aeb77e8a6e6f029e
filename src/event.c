/* Layer 4, mechanism. event: a file descriptor, kept in a word, that is readable once it was told; a sleep on such.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "event.h"
#include "clock.h"
#include "epoch.h"
#include <errno.h>
#include <linux/time_types.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As in futex.c: times of 64 bits on every machine. */
#ifdef SYS_ppoll_time64
enum { POLL_CALL = SYS_ppoll_time64 };
#else
enum { POLL_CALL = SYS_ppoll };
#endif

/* The note of a descriptor of this process: the process in the upper half, the number and 1 in the lower. */
static uint64_t note_of(int fd) { return (uint64_t)thread_generation() << 32 | (uint32_t)(fd + 1); }

/* The descriptor, or -1: none, or another process's. */
static int note_fd(uint64_t note) { return note >> 32 == thread_generation() ? (int)(uint32_t)note - 1 : -1; }

static void fd_close(int fd)
{
    int saved = errno;
    syscall(SYS_close, fd);             /* not the function, which is a cancellation point */
    errno = saved;
}

int event_open(sync_u64 *note)
{
    uint64_t old = sync_load_relaxed(note, cas_seed);
    if (note_fd(old) >= 0) return note_fd(old);
    int fd = (int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);     /* as it is closed: see fd_close */
    if (fd < 0 || sync_cas_relaxed(note, &old, note_of(fd), alone)) return fd;
    fd_close(fd);                       /* another thread was first */
    return note_fd(old);
}

void event_tell(sync_u64 *note)
{
    int fd = note_fd(sync_load_relaxed(note, alone)), saved = errno;
    uint64_t one = 1;
    if (fd >= 0) syscall(SYS_write, fd, &one, sizeof one);
    errno = saved;
}

void event_close(sync_u64 *note)
{
    int fd = note_fd(sync_load_relaxed(note, alone));
    if (fd >= 0) fd_close(fd);
}

int event_poll(struct pollfd *fds, nfds_t n, int64_t until)
{
    int saved = errno;
    int64_t left = until == INT64_MAX ? 0 : time_add(until, -clock_now());
    if (left < 0) left = 0;
    struct __kernel_timespec t = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    long r = syscall(POLL_CALL, fds, n, until == INT64_MAX ? NULL : &t, NULL, 0);
    if (r < 0) r = errno == EINTR ? 0 : -errno;
    errno = saved;
    return (int)r;
}
