/* SPDX-License-Identifier: BSD-2-Clause */
/* blocked.h: a thread that blocks, and a process whose library has no thread; for the tests of cctx/wait.h. */
#ifndef CCTX_TEST_BLOCKED_H
#define CCTX_TEST_BLOCKED_H

#include "support.h"

#include <cctx/wait.h>
#include <sched.h>

#define HOUR CCTX_S(3600)

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
