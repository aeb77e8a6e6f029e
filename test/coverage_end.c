/* SPDX-License-Identifier: BSD-2-Clause */
/* coverage_end: what a process of a test has counted is kept also where it ends by _exit, abort or a trap;
 * and one test can be left out. Linked with --wrap into each program of test/coverage.
 *
 * The child of a fork counts from zero. Most outcomes are counted as a difference, and the threads that are
 * gone were between its two counters: with their counts the child would tell of outcomes that nobody saw. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

int __llvm_profile_write_file(void);
void __llvm_profile_reset_counters(void);
void __llvm_profile_set_filename(const char *pattern);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __real_abort(void);
_Noreturn void __wrap_abort(void);
void (*__real_signal(int sig, void (*handler)(int)))(int);
void (*__wrap_signal(int sig, void (*handler)(int)))(int);
int __real_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __wrap_prctl(int option, ...);

static bool sealed;             /* no system call happens any more: the test counts them */

static void keep(void)
{
    if (!sealed) __llvm_profile_write_file();
}

void __wrap__exit(int status)
{
    keep();
    __real__exit(status);
}

void __wrap_abort(void)
{
    keep();
    __real_abort();
}

static void trapped(int sig)
{
    keep();
    __real_signal(sig, SIG_DFL);
    raise(sig);
}

void (*__wrap_signal(int sig, void (*handler)(int)))(int)
{
    return __real_signal(sig, sig == SIGILL && handler == SIG_DFL ? trapped : handler);
}

int __wrap_prctl(int option, ...)
{
    unsigned long a[4];
    va_list args;
    va_start(args, option);
    for (int i = 0; i < 4; i++) a[i] = va_arg(args, unsigned long);
    va_end(args);
    if (option == PR_SET_SECCOMP) sealed = true;
    return __real_prctl(option, a[0], a[1], a[2], a[3]);
}

/* Its own file, too: the parent's has the parent's number, and the last who writes there wins. (A pattern that is set
 * already is not looked at again, so the number is put in here.) */
static void child(void)
{
    static char name[4096];
    const char *pattern = getenv("LLVM_PROFILE_FILE"), *number = pattern ? strstr(pattern, "%p") : NULL;
    __llvm_profile_reset_counters();
    if (!number) return;
    snprintf(name, sizeof name, "%.*s%d%s", (int)(number - pattern), pattern, (int)getpid(), number + 2);
    __llvm_profile_set_filename(name);
}

__attribute__((constructor)) static void begin(void)
{
    /* The first of its kind, so what the library does in the child counts. */
    pthread_atfork(NULL, NULL, child);
    const char *pattern = getenv("COVERAGE_SKIP");
    if (pattern) cmocka_set_skip_filter(pattern);
}
