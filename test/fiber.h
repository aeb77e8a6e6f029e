/* SPDX-License-Identifier: BSD-2-Clause */
/* fiber: functions with a stack of their own that take turns on one thread, for machines that a test
 * schedules. */
#ifndef CCTX_TEST_FIBER_H
#define CCTX_TEST_FIBER_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(FIBER_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVES(keep, to) __sanitizer_start_switch_fiber((keep), (to)->stack, (to)->size)
#define FIBER_ENTERED(kept, left) __sanitizer_finish_switch_fiber((kept), &(left)->stack, &(left)->size)
#define FIBER_FRESH(f) __asan_unpoison_memory_region((f)->stack, (f)->size)
#else
#define FIBER_LEAVES(keep, to) ((void)(keep))
#define FIBER_ENTERED(kept, left) ((void)(kept), (void)(left))
#define FIBER_FRESH(f) ((void)(f))
#endif
/* To ThreadSanitizer fibers are threads. A switch orders what comes before it with what comes after, as it
 * does in truth, unless the file defines FIBER_UNORDERED: then its fibers race as if they ran at one time. */
#if defined(__SANITIZE_THREAD__) || defined(FIBER_TSAN)
#undef FIBER_TSAN
#define FIBER_TSAN 1
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#ifdef FIBER_UNORDERED
#define FIBER_TSAN_FLAGS 1u
#else
#define FIBER_TSAN_FLAGS 0u
#endif
#else
#define FIBER_TSAN 0
#endif

enum { FIBER_STACK = 256 * 1024 };
/* What runs in the middle of a switch keeps nothing in a frame that the address sanitizer has moved. */
#define FIBER_BARE __attribute__((no_sanitize("address"), noinline, unused)) static

struct fiber {                  /* zeroed: the thread itself, once it has switched away */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    void (*fn)(void *arg);      /* does not return */
    void *arg;
    const void *stack;
    size_t size;
    struct fiber *from;         /* who switched here last */
    void *tsan;
    int clean;                  /* fn had returned from all that it called when it was left for good */
};

FIBER_BARE void fiber_enter(struct fiber *f)
{
    FIBER_ENTERED(NULL, f->from);
    f->fn(f->arg);
    abort();
}

#if defined(__x86_64__)
/* By hand, since swapcontext makes a system call each time. The label is where a fiber that was left goes on;
 * a new one begins in fiber_enter. */
FIBER_BARE void fiber_jump(struct fiber *from, struct fiber *to)
{
    void **save = &from->sp, *sp = to->sp;
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"      /* a leaf function keeps things there */
                     "pushq %%rbp\n\t"
                     "pushq %%rbx\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "movq %%rsp, (%%rsi)\n\t"
                     "movq %%rdx, %%rsp\n\t"
                     "popq %%rax\n\t"
                     "jmp *%%rax\n"
                     "1:\n\t"
                     "popq %%rbx\n\t"
                     "popq %%rbp\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     : "+D"(to), "+S"(save), "+d"(sp)
                     :
                     : "rax", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
}
static inline void fiber_set(struct fiber *f)
{
    uintptr_t *top = (uintptr_t *)((uintptr_t)f->stack + f->size) - 2;
    top[0] = (uintptr_t)fiber_enter;
    top[1] = 0;
    f->sp = top;
}
#else
static inline void fiber_main(unsigned low, unsigned high)
{
    fiber_enter((struct fiber *)(((uintptr_t)high << 16 << 16) | low));
}
FIBER_BARE void fiber_jump(struct fiber *from, struct fiber *to)
{
    if (swapcontext(&from->context, &to->context) != 0) abort();
}
static inline void fiber_set(struct fiber *f)
{
    uintptr_t self = (uintptr_t)f;
    if (getcontext(&f->context) != 0) abort();
    f->context.uc_stack.ss_sp = (void *)(uintptr_t)f->stack;
    f->context.uc_stack.ss_size = f->size;
    makecontext(&f->context, (void (*)(void))fiber_main, 2, (unsigned)self, (unsigned)(self >> 16 >> 16));
}
#endif

/* The same stack for another function: a fiber that is not the one that runs. */
static inline void fiber_again(struct fiber *f, void (*fn)(void *arg), void *arg)
{
    f->fn = fn;
    f->arg = arg;
    FIBER_FRESH(f);
    fiber_set(f);
#if FIBER_TSAN
    if (f->tsan && !f->clean) {
        __tsan_destroy_fiber(f->tsan);
        f->tsan = NULL;
    }
    if (!f->tsan) f->tsan = __tsan_create_fiber(0);
    f->clean = 0;
#endif
}

static inline void fiber_make(struct fiber *f, void (*fn)(void *arg), void *arg)
{
    void *stack = mmap(NULL, FIBER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) abort();
    f->stack = stack;
    f->size = FIBER_STACK;
    f->tsan = NULL;
    fiber_again(f, fn, arg);
}

/* A fiber that is not the one that runs, and that is not run again unless it is made anew. */
static inline void fiber_drop(struct fiber *f)
{
#if FIBER_TSAN
    if (f->tsan) __tsan_destroy_fiber(f->tsan);
    f->tsan = NULL;
#endif
    if (f->stack) munmap((void *)(uintptr_t)f->stack, f->size);
    f->stack = NULL;
}

/* keep: NULL where the fiber that is left is not gone on with. */
FIBER_BARE void fiber_go(struct fiber *from, struct fiber *to, void **keep)
{
    to->from = from;
#if FIBER_TSAN
    if (!from->tsan) from->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan, FIBER_TSAN_FLAGS);
#endif
    /* A compiler that saw the assembler would take it that nothing else of the file runs meanwhile, and keep
     * the file's static variables in registers. */
    void (*volatile jump)(struct fiber *from, struct fiber *to) = fiber_jump;
    FIBER_LEAVES(keep, to);
    jump(from, to);
}

FIBER_BARE void fiber_switch(struct fiber *from, struct fiber *to)
{
    void *kept = NULL;
    fiber_go(from, to, &kept);
    FIBER_ENTERED(kept, from->from);
}

/* The last switch of a fiber. */
FIBER_BARE void fiber_leave(struct fiber *from, struct fiber *to)
{
    fiber_go(from, to, NULL);
    abort();
}

#endif
