/* SPDX-License-Identifier: BSD-2-Clause */
/* blocked.h: a thread that blocks, and a process whose library has no thread; for the tests of cctx/wait.h. */
#ifndef CCTX_TEST_BLOCKED_H
#define CCTX_TEST_BLOCKED_H

#include "support.h"

#include <cctx/wait.h>
#include <sched.h>

#define HOUR CCTX_S(3600)

/* Returns once the kernel says that the thread sleeps. */
static inline void await_sleep(pid_t tid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    for (;;) {
        FILE *file = fopen(path, "r");
        CHECK(file != NULL);
        size_t n = fread(line, 1, sizeof line - 1, file);
        fclose(file);
        line[n] = '\0';
        const char *paren = strrchr(line, ')');
        CHECK(paren != NULL && paren[1] == ' ');
        if (paren[2] == 'S')
            return;
        sched_yield();
    }
}

/* A thread that calls fn(arg), which blocks. */
typedef struct blocked {
    int (*fn)(void *arg);
    void *arg;
    pthread_t thread;
    pid_t tid;    /* 0 until it runs */
    int over;     /* 1 once fn has returned */
    int result;
} blocked_t;

static inline void *blocked_main(void *arg)
{
    blocked_t *b = arg;
    __atomic_store_n(&b->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    b->result = b->fn(b->arg);
    __atomic_store_n(&b->over, 1, __ATOMIC_RELEASE);
    return NULL;
}

static inline void blocked_start(blocked_t *b, int (*fn)(void *arg), void *arg)
{
    *b = (blocked_t){.fn = fn, .arg = arg};
    b->thread = thread_start(blocked_main, b);
}

static inline void blocked_await(blocked_t *b)
{
    pid_t tid;
    while ((tid = __atomic_load_n(&b->tid, __ATOMIC_ACQUIRE)) == 0)
        sched_yield();
    await_sleep(tid);
}

static inline int blocked_join(blocked_t *b)
{
    thread_join(b->thread);
    return b->result;
}

/* From here on a system call of this thread, and of those that it makes, is an error. False: there are no filters here. */
static inline bool refuse_call(unsigned number, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* No thread can be made from here on. */
static inline bool refuse_threads(void)
{
    return refuse_call(SYS_clone, EAGAIN) && refuse_call(435 /* clone3 */, EAGAIN);
}

static inline void on_signal(int sig)
{
    (void)sig;
}

/* Sends fn's thread a hundred signals whose handler has no SA_RESTART; the sleep goes on. */
static inline void interrupt_blocked(blocked_t *b)
{
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, &old) == 0);
    for (int i = 0; i < 100; i++) {
        blocked_await(b);
        CHECK(pthread_kill(b->thread, SIGUSR1) == 0);
    }
    blocked_await(b);
    CHECK(__atomic_load_n(&b->over, __ATOMIC_ACQUIRE) == 0);
    sigaction(SIGUSR1, &old, NULL);
}

#endif
