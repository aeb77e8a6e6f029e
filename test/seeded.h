/* SPDX-License-Identifier: BSD-2-Clause */
/* seeded: what a build with SYNC_SEEDED gives the library's sources in place of the system's threads: a point
 * before each atomic operation, and thread locals, keys and once-controls that a scheduler of fibers owns. */
#ifndef CCTX_TEST_SEEDED_H
#define CCTX_TEST_SEEDED_H

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

/* A point without memory: another thread may go on here. */
void sched_point(const char *function, int line);
/* Before an atomic operation at p: likewise, and then p is no freed memory. */
void sched_touch(const char *function, int line, const volatile void *p);
#define SCHED_POINT(function, line, p) sched_touch(function, line, p)
/* A loop that waits for another thread. */
int sched_gives_way(void);
/* The thread that runs. */
const void *sched_here(void);

int sched_once(pthread_once_t *once, void (*fn)(void));
int sched_key(pthread_key_t *key, void (*destructor)(void *));
int sched_set(pthread_key_t key, const void *value);
int sched_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

#ifndef SCHED_MACHINE           /* the machine itself means the system's own */
#define pthread_once sched_once
#define pthread_key_create sched_key
#define pthread_setspecific sched_set
#define pthread_atfork sched_atfork
#define sched_yield sched_gives_way
#define thread_here sched_here
#define prctl(...) ((void)0)
#define sysconf(name) 2L
/* In a section of their own, which is kept per fiber. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define _Thread_local __attribute__((section("fiber_locals")))
#endif

#endif
