/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a program on a kernel that lacks what older kernels lack: each of these system calls answers ENOSYS,
 * in the program and in all that it starts. Those that may be refused by a sandbox, and that the library has
 * no right to depend on, answer EPERM with --strict.
 * usage: without_syscalls [--strict] PROGRAM [ARGUMENT...]
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* By number, since the headers may be older than the kernel. The same on every architecture, but for the
 * first. */
static const unsigned missing[] = {
    SYS_membarrier,
    SYS_rseq,
    435, /* clone3 */
    441, /* epoll_pwait2 */
    449, /* futex_waitv */
    454, /* futex_wake */
    455, /* futex_wait */
    456, /* futex_requeue */
};
/* By which the library asks for the exactness of its sleeps and the names of its threads. */
static const unsigned refused[] = {SYS_prctl};

enum { MISSING = sizeof missing / sizeof *missing, REFUSED = sizeof refused / sizeof *refused };

static struct sock_filter code[8 + 2 * (MISSING + REFUSED)];
static unsigned short length;

static void emit(struct sock_filter instruction)
{
    code[length++] = instruction;
}

static void answer(unsigned number, unsigned error)
{
    emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
}

int main(int argc, char **argv)
{
    int first = argc > 1 && strcmp(argv[1], "--strict") == 0 ? 2 : 1;
    if (argc <= first) {
        fprintf(stderr, "usage: without_syscalls [--strict] PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    for (int i = 0; i < MISSING; i++)
        answer(missing[i], ENOSYS);
    for (int i = 0; i < REFUSED && first == 2; i++)
        answer(refused[i], EPERM);
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {length, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
        printf("not applicable: without_syscalls: %s: no seccomp filters here: %s\n", argv[first],
               strerror(errno));
        return 0;
    }
    errno = 0;
    if (syscall(449, NULL, 0, 0, NULL, 0) != -1 || errno != ENOSYS) { /* the filter works */
        fprintf(stderr, "without_syscalls: futex_waitv is still there\n");
        return 1;
    }
    execv(argv[first], argv + first);
    fprintf(stderr, "without_syscalls: %s: %s\n", argv[first], strerror(errno));
    return 2;
}
