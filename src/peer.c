/* Layer 2, machine. peer: other processes of this machine: who they are, whether they live, and a futex shared with them.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "peer.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_futex
enum { FUTEX_CALL = SYS_futex };
#else
enum { FUTEX_CALL = SYS_futex_time64 };
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434      /* one number on each processor, as of all calls since Linux 5.1 */
#endif

#define NUMBER_MASK (((uint64_t)1 << PEER_NUMBER_BITS) - 1)
#define START_MASK  (((uint64_t)1 << (PEER_BITS - PEER_NUMBER_BITS)) - 1)

/* The 22nd word of a process's line in /proc, in ticks since the boot; the second, its name, may have blanks and
 * parentheses in it, so the words are counted from its end. 0: there is none. */
static uint64_t start_parse(const char *line)
{
    const char *p = strrchr(line, ')');
    if (!p) return 0;
    for (int word = 2; word < 22; word++) {
        p += strcspn(p, " ");
        p += *p != '\0';
    }
    return strtoull(p, NULL, 10) & START_MASK;
}

/* By the line of the first thread, which is the process's own in all but an emulator's idea of "self". */
static uint64_t start_read(const char *process, unsigned number)
{
    char text[1024];
    snprintf(text, sizeof text, "/proc/%s/task/%u/stat", process, number);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return start_parse(text);
}

/* Is /proc one of this process's namespace? Else its numbers are of other processes. */
static uint64_t start_self(void) { return start_read("self", (unsigned)getpid()); }

static uint64_t start_of(unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "%u", number);
    return start_self() ? start_read(name, number) : 0;
}

static sync_u64 self;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void forked(void) { sync_store_relaxed(&self, 0u, alone); }
static void setup(void) { pthread_atfork(NULL, NULL, forked); }

uint64_t peer_self(void)
{
    pthread_once(&once, setup);
    uint64_t who = sync_load_relaxed(&self, alone);
    if (likely(who != 0)) return who;
    int saved = errno;
    who = start_self() << PEER_NUMBER_BITS | ((unsigned)getpid() & NUMBER_MASK);
    errno = saved;
    sync_store_relaxed(&self, who, alone);
    return who;
}

int peer_open(uint64_t who)
{
    unsigned number = (unsigned)(who & NUMBER_MASK);
    int fd = (int)syscall(SYS_pidfd_open, number, 0);
    if (fd < 0) {
        if (errno == EINVAL || errno == ENOENT) errno = ESRCH;  /* no number, or one that a thread has by now */
        return -1;
    }
    /* The descriptor keeps the number from being used again: whose start is read now is who was opened. */
    uint64_t start = who >> PEER_NUMBER_BITS, seen = start ? start_of(number) : 0;
    struct pollfd death = {fd, POLLIN, 0};
    if ((seen && seen != start) || poll(&death, 1, 0) > 0) {
        close(fd);
        errno = ESRCH;
        return -1;
    }
    return fd;
}

bool peer_dead(uint64_t who)
{
    int saved = errno;
    int fd = peer_open(who);
    bool dead = fd < 0 && errno == ESRCH;
    if (fd >= 0) close(fd);
    errno = saved;
    return dead;
}

static uint64_t inode(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 ? (uint64_t)file.st_ino : 0;
}

uint64_t peer_space(void)
{
    int saved = errno;
    uint64_t space = inode("/proc/self/ns/pid") << 32 ^ inode("/proc/self/ns/time");
    errno = saved;
    return space;
}

void peer_wait(sync_u32 *bell, uint32_t seen)
{
    int saved = errno;
    syscall(FUTEX_CALL, &bell->raw, FUTEX_WAIT, seen, NULL, NULL, 0);
    errno = saved;
}

void peer_wake(sync_u32 *bell)
{
    int saved = errno;
    syscall(FUTEX_CALL, &bell->raw, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    errno = saved;
}
