/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test support: what several tests need and neither cmocka nor libc gives. Include it first.
 *
 *   CHECK(expression)            an assertion for threads and forked children, where cmocka's is not caught
 *   TEST_SANITIZED, TEST_EMULATED    whether a sanitizer, or an emulated processor, is at work
 *   SCALED(n)                    n, or a tenth of it under one of them
 *   NOT_APPLICABLE(why)          ends a test that has no meaning here, and says so by its name
 *   test_seed(), rng_t           a seed that is printed and that CCTX_SEED repeats; a small generator
 *   gate_t                       threads wait at a gate and start at one moment
 *   threads_run(), thread_start  threads by index; the first one joins, too
 *   run_on_small_stack()         a function on a thread of 64 KiB of stack
 *   syscalls_of()                how many system calls a function makes
 *   memory_in_use(), memory_rss  bytes handed out by the allocator; bytes resident
 *   threads_after_fork()         whether the child of a process with threads may make threads
 *   threads_now()                how many threads the process has
 *   await_sleep(), await_rest()  a thread that sleeps, by the kernel; all others do, before a fork
 *   refuse_call()                a system call that is an error from here on
 *   now_ns(), watchdog()         the monotonic clock; an end, with the seed printed, for a test that hangs
 */
#ifndef CCTX_TEST_SUPPORT_H
#define CCTX_TEST_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <cctx/cctx.h>

#if defined(__has_feature)
#define TEST_HAS_FEATURE(feature) __has_feature(feature)
#else
#define TEST_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define TEST_TSAN 1
#else
#define TEST_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define TEST_ASAN 1
#else
#define TEST_ASAN 0
#endif
#define TEST_SANITIZED (TEST_TSAN || TEST_ASAN)
/* A build for a processor that is emulated defines it as 1: there a step takes ten times as long. */
#ifndef TEST_EMULATED
#define TEST_EMULATED 0
#endif
#define SCALED(n) (TEST_SANITIZED || TEST_EMULATED ? ((n) + 9) / 10 : (n))

#define NOT_APPLICABLE(why)                                                                                  \
    do {                                                                                                     \
        print_message("not applicable: %s: %s\n", __func__, (why));                                          \
        skip();                                                                                              \
    } while (0)

/* The number by which a sleep and a wake of the library's are seen: on 32 bits the call with times of 64. */
#ifdef SYS_futex_time64
#define TEST_SYS_FUTEX SYS_futex_time64
#else
#define TEST_SYS_FUTEX SYS_futex
#endif

/* The seed of this run, 0 before test_seed() was called. It is printed with every failed CHECK. */
static uint64_t test_seed_value;

/* Ends the process: cmocka catches failures only on the thread that runs the test. */
#define CHECK(expression)                                                                                    \
    do {                                                                                                     \
        if (!(expression)) {                                                                                 \
            fprintf(stderr, "%s:%d: %s: failed: %s (CCTX_SEED=%" PRIu64 ")\n", __FILE__, __LINE__, __func__, \
                    #expression, test_seed_value);                                                           \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#if TEST_TSAN
/* A child of a process with threads may make threads, and its exit need not wait for late reports. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0:atexit_sleep_ms=0";
}
#endif

/* ---- time ---- */

static inline int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline void watchdog_bark(int sig)
{
    char line[96];
    int n = snprintf(line, sizeof line, "watchdog: it hangs (CCTX_SEED=%" PRIu64 ")\n", test_seed_value);
    ssize_t written = write(STDERR_FILENO, line, (size_t)n);
    (void)written;
    (void)sig;
    abort();
}

/* Aborts with the seed unless it is called again within `seconds`; 0 ends it. */
static inline void watchdog(unsigned seconds)
{
    signal(SIGALRM, watchdog_bark);
    alarm(TEST_EMULATED ? 2 * seconds : seconds);
}

/* ---- randomness ---- */

/* CCTX_SEED from the environment, else the clock. It is printed once, so that a failure can be repeated. */
static inline uint64_t test_seed(void)
{
    if (test_seed_value == 0) {
        const char *given = getenv("CCTX_SEED");
        test_seed_value = given ? strtoull(given, NULL, 0) : (uint64_t)now_ns() * 0x9e3779b97f4a7c15u >> 16;
        if (test_seed_value == 0)
            test_seed_value = 1;
        fprintf(stderr, "seed: CCTX_SEED=%" PRIu64 "\n", test_seed_value);
    }
    return test_seed_value;
}

typedef struct rng {
    uint64_t state;
} rng_t;

/* Streams of one seed are independent: a thread takes its index, a round its number. */
static inline rng_t rng_make(uint64_t seed, uint64_t stream)
{
    return (rng_t){seed ^ (stream + 1) * 0xd1342543de82ef95u};
}

static inline uint64_t rng_next(rng_t *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 … n - 1. */
static inline uint64_t rng_below(rng_t *rng, uint64_t n)
{
    return rng_next(rng) % n;
}

/* ---- threads ---- */

typedef struct gate {
    uint32_t open;
} gate_t;

static inline void gate_wait(gate_t *gate)
{
    while (__atomic_load_n(&gate->open, __ATOMIC_ACQUIRE) == 0)
        syscall(SYS_futex, &gate->open, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static inline void gate_open(gate_t *gate)
{
    __atomic_store_n(&gate->open, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &gate->open, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static inline pthread_t thread_start(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    int err = pthread_create(&thread, NULL, fn, arg);
    CHECK(err == 0);
    return thread;
}

static inline void thread_join(pthread_t thread)
{
    int err = pthread_join(thread, NULL);
    CHECK(err == 0);
}

typedef struct threads_slot {
    void (*fn)(unsigned index, void *arg);
    void *arg;
    gate_t *gate;
    unsigned index;
    pthread_t thread;
} threads_slot_t;

static inline void *threads_main(void *arg)
{
    threads_slot_t *slot = arg;
    gate_wait(slot->gate);
    slot->fn(slot->index, slot->arg);
    return NULL;
}

/* Runs fn(0, arg) … fn(n - 1, arg) at once, each on a thread of its own, and returns when all have. */
static inline void threads_run(unsigned n, void (*fn)(unsigned index, void *arg), void *arg)
{
    gate_t gate = {0};
    threads_slot_t *slots = calloc(n, sizeof *slots);
    CHECK(slots != NULL);
    for (unsigned i = 0; i < n; i++) {
        slots[i] = (threads_slot_t){.fn = fn, .arg = arg, .gate = &gate, .index = i};
        slots[i].thread = thread_start(threads_main, &slots[i]);
    }
    gate_open(&gate);
    for (unsigned i = 0; i < n; i++)
        thread_join(slots[i].thread);
    free(slots);
}

/*
 * The stack is mapped here, between guard pages, so that 64 KiB means 64 KiB: an overflow faults. Sanitizers
 * keep tables of their own on it and pad each frame, so they get 1 MiB; a walk that recurses over the 50,000
 * contexts of a test under them overflows that, too.
 */
#define SMALL_STACK ((size_t)65536 * (TEST_SANITIZED ? 16 : 1))

typedef struct small_stack_call {
    void (*fn)(void *arg);
    void *arg;
} small_stack_call_t;

static inline void *small_stack_main(void *arg)
{
    small_stack_call_t *call = arg;
    call->fn(call->arg);
    return NULL;
}

static inline void run_on_small_stack(void (*fn)(void *arg), void *arg)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE), least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    /* Where pthreads ask for more, as on aarch64, they get it, and no access below the 64 KiB at its upper end. */
    size_t size = least > SMALL_STACK ? least : SMALL_STACK;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
    char *map = mmap(NULL, size + 2 * guard, PROT_NONE, flags, -1, 0);
    CHECK(map != MAP_FAILED);
    int err = mprotect(map + guard + size - SMALL_STACK, SMALL_STACK, PROT_READ | PROT_WRITE);
    CHECK(err == 0);
    pthread_attr_t attr;
    pthread_t thread;
    small_stack_call_t call = {fn, arg};
    pthread_attr_init(&attr);
    err = pthread_attr_setstack(&attr, map + guard, size);
    CHECK(err == 0);
    err = pthread_create(&thread, &attr, small_stack_main, &call);
    CHECK(err == 0);
    pthread_attr_destroy(&attr);
    thread_join(thread);
    munmap(map, size + 2 * guard);
}

/* ---- memory ---- */

#if TEST_SANITIZED
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

/* Bytes handed out and not freed. glibc counts what its thread caches hold as handed out: allow for it. */
static inline size_t memory_in_use(void)
{
#if TEST_SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

static inline size_t memory_rss(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    int fields = fscanf(file, "%lu %lu", &pages, &resident);
    CHECK(fields == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- threads that sleep ---- */

/* Does the kernel say that the thread sleeps? Not of one that is gone. */
static inline bool thread_sleeps(const char *tid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%.10s/stat", tid);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    size_t n = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[n] = '\0';
    const char *paren = strrchr(line, ')');
    return paren && paren[1] == ' ' && paren[2] == 'S';
}

/* How many threads the process has. */
static inline unsigned threads_now(void)
{
    unsigned n = 0;
    DIR *threads = opendir("/proc/self/task");
    CHECK(threads != NULL);
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(threads);
    return n;
}

/* Returns once the kernel says that the thread sleeps. */
static inline void await_sleep(pid_t tid)
{
    char name[16];
    snprintf(name, sizeof name, "%d", (int)tid);
    while (!thread_sleeps(name))
        sched_yield();
}

/*
 * Under AddressSanitizer: returns once all other threads of the process sleep, or some have been busy for a while. A
 * thread that begins holds the locks of its allocator for a moment, which gcc 12's leaves to the child of a fork as they
 * are: then the child's threads never begin.
 */
static inline void await_rest(void)
{
    char me[16];
    snprintf(me, sizeof me, "%d", (int)syscall(SYS_gettid));
    int64_t busy = now_ns() + 200 * 1000000;
    for (int rests = TEST_ASAN ? 0 : 2; rests < 2 && now_ns() < busy;) {        /* twice: one may be woken behind the look */
        DIR *threads = opendir("/proc/self/task");
        CHECK(threads != NULL);
        bool all = true;
        for (struct dirent *entry; all && (entry = readdir(threads)) != NULL;)
            all = entry->d_name[0] == '.' || strcmp(entry->d_name, me) == 0 || thread_sleeps(entry->d_name);
        closedir(threads);
        rests = all ? rests + 1 : 0;
        if (!all)
            sched_yield();
    }
}

/* ---- children ---- */

/* Runs fn(arg) in a forked child. Returns its wait status; a child whose CHECKs all hold exits with 0. */
static inline int run_in_child(void (*fn)(void *arg), void *arg)
{
    fflush(NULL);
    await_rest();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fn(arg);
        fflush(NULL);
        _exit(0);
    }
    int status = 0;
    pid_t waited;
    do
        waited = waitpid(pid, &status, 0);
    while (waited < 0 && errno == EINTR);
    CHECK(waited == pid);
    return status;
}

static inline void *threads_stay(void *gate)
{
    gate_wait(gate);
    return NULL;
}

static inline void threads_make_some(void *arg)
{
    gate_t gate = {0};
    pthread_t thread[32];
    (void)arg;
    alarm(20);
    for (size_t i = 0; i < sizeof thread / sizeof *thread; i++)
        thread[i] = thread_start(threads_stay, &gate);
    gate_open(&gate);
    for (size_t i = 0; i < sizeof thread / sizeof *thread; i++)
        thread_join(thread[i]);
}

/*
 * May the child of a process with threads make threads? On qemu-user 7 it dies of an assertion of the emulator's as soon
 * as a thread gets the number of one that was left behind in the parent: so many at once that one does.
 */
static inline bool threads_after_fork(void)
{
    static int known;
    if (known == 0) {
        gate_t gate = {0};
        pthread_t thread = thread_start(threads_stay, &gate);
        known = run_in_child(threads_make_some, NULL) == 0 ? 1 : -1;
        gate_open(&gate);
        thread_join(thread);
    }
    return known > 0;
}

/* ---- system calls ---- */

/*
 * From here on a system call of this thread, and of those that it makes, is an error. False: there are no filters
 * here. (By the call's own number: test/coverage takes prctl's form of it for the end of all calls.)
 */
static inline bool refuse_call_by(unsigned flags, unsigned number, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0;
}
static inline bool refuse_call(unsigned number, unsigned error)
{
    return refuse_call_by(0, number, error);
}
/* And of all threads of the process. */
static inline bool refuse_call_to_all(unsigned number, unsigned error)
{
    return refuse_call_by(SECCOMP_FILTER_FLAG_TSYNC, number, error);
}

typedef struct syscall_log {
    long count; /* -1: there is no seccomp here, or a sanitizer, whose runtime makes calls of its own */
    int first;  /* the number of the first one */
} syscall_log_t;

static syscall_log_t *syscall_log_shared;

static inline void syscall_trapped(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (syscall_log_shared->count++ == 0)
        syscall_log_shared->first = info->si_syscall;
    if (syscall_log_shared->count == 1000) /* a call that is repeated until it happens never does */
        _exit(0);
}

/*
 * Forks a child that runs warm(arg) freely and then work(arg) under a filter by which each system call of
 * this thread traps, is counted, and does not happen. A work that calls none is not disturbed at all. warm
 * and work may be the same function. The filter lets the return from the handler and the exit pass.
 */
static inline syscall_log_t syscalls_of(void (*warm)(void *arg), void (*work)(void *arg), void *arg)
{
    syscall_log_t *log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(log != MAP_FAILED);
    *log = (syscall_log_t){-1, -1};
    if (TEST_SANITIZED) {
        munmap(log, sizeof *log);
        return (syscall_log_t){-1, -1};
    }
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {sizeof code / sizeof *code, code};
        struct sigaction action = {.sa_sigaction = syscall_trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
        syscall_log_shared = log;
        if (warm)
            warm(arg);
        sigaction(SIGSYS, &action, NULL);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
            _exit(0);
        log->count = 0;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
            log->count = -1;
            _exit(0);
        }
        work(arg);
        _exit(0);
    }
    int status = 0;
    pid_t waited;
    do
        waited = waitpid(pid, &status, 0);
    while (waited < 0 && errno == EINTR);
    CHECK(waited == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    syscall_log_t result = *log;
    munmap(log, sizeof *log);
    return result;
}

#endif
