/* SPDX-License-Identifier: BSD-2-Clause */
/* machine: the library's sources on threads that are fibers, with a seeded scheduler that decides at each
 * atomic operation who goes on, and in place of alloc.c, clock.c, futex.c and service.c a machine that looks
 * for faults.
 *
 * machine_play runs one schedule in a process as good as new: all static data of the program, the test's own
 * too, is as it was when machine_open was called, so that a schedule is a function of its settings alone. It
 * begins with one thread, which runs body; that starts others and joins them. The library's own threads are
 * started by the library.
 *
 * A schedule fails, and the process with it, when all sleep for ever, when a freed block is used or freed
 * again, when a point is the millionth, and when a CHECK fails. machine_tell says which schedule it
 * was. */
#ifndef CCTX_TEST_MACHINE_H
#define CCTX_TEST_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sync.h"

enum machine_kind {
    MACHINE_SEQUENCE,           /* the first started for so many points, the second, the first to its end */
    MACHINE_WALK,               /* at random points a random one */
    MACHINE_PCT                 /* the one of the highest priority: random, changed at few points */
};

enum { MACHINE_NEVER_PAUSES = -1, MACHINE_CHANGES = 8 };

struct machine_settings {
    uint64_t seed;
    enum machine_kind kind;
    long pause[2];              /* SEQUENCE: after how many points each of the first two started is left */
    unsigned stay;              /* WALK: points between two decisions, on the average */
    unsigned changes;           /* PCT: change points, at most MACHINE_CHANGES */
    long length;                /* PCT: how many points the schedule is thought to have */
    unsigned spurious;          /* one sleep in so many ends by itself; 0: none */
    unsigned hurry;             /* at one point in so many time goes on though threads could run; 0: none */
    unsigned no_memory;         /* one allocation in so many fails, and one start of a service; 0: none */
    bool starved;               /* a service runs only when all others sleep for ever or have ended */
    bool recycle;               /* freed memory is used again at once; else it is poisoned and kept */
    bool watched;               /* a join ends also when those that are waited for sleep or were paused */
    bool no_service;            /* the library's threads are not started: the test plays them */
    bool trace;                 /* a line for each switch */
};

void machine_open(void);
void machine_play(const struct machine_settings *settings, void (*body)(void *arg), void *arg);
/* What the failure report begins with, and what it does at last. */
void machine_tell(void (*tell)(FILE *out));

/* ---- for the threads of a schedule */

/* Starts a thread; its number counts from 1. */
unsigned machine_start(const char *name, void (*fn)(void *arg), void *arg);
/* Until all that were started have ended. */
void machine_join(void);
/* Until all other threads sleep or have ended, at the present time. */
void machine_settle(void);
/* Ends this thread as pthread_exit does, key destructors first; calls made after are those of other
 * destructors. */
void machine_exit_early(void);
unsigned machine_self(void);
bool machine_is_service(void);
/* Is this the library's timer thread? */
bool machine_is_timer(void);
/* Does somebody sleep on the word who was not woken yet? */
bool machine_asleep_on(const void *word);
/* From now on nothing fails; until it is forbidden again no allocation does. */
void machine_calm(void);
void machine_allow_memory(void);
void machine_forbid_memory(unsigned one_in);
/* From now on the library's threads are started, where they were not. */
void machine_let_services(void);
/* The library's threads are gone as if they had exited. */
void machine_end_services(void);
/* Fails if a block is not freed, but for what the library keeps for ever: what is there when this is first
 * called. */
void machine_check_leaks(const void *any_size);
/* A real fork. In the child, which gets 0, the caller is the one thread; it must end by _exit. */
int machine_fork(void);
/* Waits for it, and fails unless it exits with 0. */
void machine_reap(int child);
bool machine_in_child(void);
/* Ends the child, if its memory is whole. */
_Noreturn void machine_end_child(void);
/* The test hands something from one thread to another, as a program does with a lock of its own: what came
 * before the put is ordered before what follows the get. */
void machine_put(void *token);
void machine_get(void *token);
uint64_t machine_random(void);
int64_t machine_now(void);
void machine_set_now(int64_t now);

/* ---- figures of the last schedule, and of all */
long machine_points(void);
long machine_points_of(unsigned thread);
long machine_plays(void);
long machine_forks(void);
long machine_all_points(void);

#endif
