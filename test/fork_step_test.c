/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fork after each single instruction of the library's in each call of another thread: the child uses,
 * cancels and frees everything, and no stop in it waits for a thread that is not there. C3, C23, C29.
 */
#include "calls.h"

#include <link.h>
#include <ucontext.h>

#if defined(__x86_64__) && !TEST_SANITIZED
static uintptr_t text_begin, text_end; /* of the library: the locks of libc are its own business at a fork */
static uint32_t parked;                /* 1: the victim stands still; 2: its call is over */
static uint32_t told;                  /* how often it was told to go on */
static world_t fork_world;
static const cctx_t *fork_watched[4]; /* top, on, and two children: references of the test's own */
static bool stop_first;
static long forks;

static int find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (!strstr(info->dlpi_name, "libcctx.so"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            text_begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            text_end = text_begin + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

static void tell(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void stand_still(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (at < text_begin || at >= text_end)
        return;
    int saved = errno;
    uint32_t turn = __atomic_load_n(&told, __ATOMIC_ACQUIRE);
    tell(&parked, 1);
    while (__atomic_load_n(&told, __ATOMIC_ACQUIRE) == turn)
        syscall(SYS_futex, &told, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
    errno = saved;
}

/* The processor traps after each instruction between the two; the handler itself runs without. */
static void *step_through(void *arg)
{
    const call_t *call = arg;
    cctx_close(cctx_with_cancel(cctx_background()));
    errno = CALLS_ERRNO;
    __asm__ volatile("subq $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
    int err = call->run(&fork_world);
    __asm__ volatile("subq $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; addq $128, %%rsp" ::
                         : "memory", "cc");
    CHECK(err == 0);
    tell(&parked, 2);
    return NULL;
}

static bool handed_over; /* the call leaves callbacks to the library's thread */

/* All that the contract gives to the child of a fork, whatever another thread was in the middle of. */
static void go_on_after_an_instruction(void *arg)
{
    (void)arg;
    world_t *w = &fork_world;
    watchdog(60);
    int ran = calls_counted(&w->ran[0]);
    if (stop_first) {
        bool stopped = cctx_stop_wait(&w->callback[0]);
        CHECK(!stopped || ran == 0);
    }
    cctx_t *soon = cctx_with_timeout(fork_watched[1], CCTX_US(1)), *fresh = cctx_with_cancel(fork_watched[1]);
    const cctx_t *both = cctx_with_any(fork_watched, 2);
    CHECK(soon && fresh && both);
    CHECK(cctx_wait(soon) != 0);
    cctx_cancel_cause((cctx_t *)(uintptr_t)fork_watched[0], &calls_cause);
    for (int i = 0; i < 4; i++)
        CHECK(cctx_is_done(fork_watched[i]) && cctx_cause(fork_watched[i]) != NULL);
    for (int i = 0; i < w->kids; i++)
        CHECK(cctx_is_done(w->kid[i]));
    CHECK(cctx_is_done(fresh) && cctx_is_done(both));
    if (stop_first)
        CHECK(calls_counted(&w->ran[0]) == ran);
    else /* this cancel has run it, unless somebody had begun to run or to stop it, or it is the runner's */
        CHECK(!cctx_stop_wait(&w->callback[0]) || handed_over);
    ran = calls_counted(&w->ran[0]);
    CHECK(ran <= 1);
    cctx_callback_t again;
    int count = 0, err = cctx_after_func(fresh, &again, calls_count, &count);
    CHECK(err == 0 && count == 1);
    cctx_unref(soon);
    cctx_unref(fresh);
    cctx_unref(both);
    for (int i = 0; i < w->kids; i++)
        cctx_unref(w->kid[i]);
    for (int i = 0; i < 4; i++)
        cctx_unref(fork_watched[i]);
    CHECK(calls_counted(&w->ran[0]) == ran);
}

static void fork_at_each_instruction(const call_t *call, const state_t *at)
{
    world_t *w = &fork_world;
    handed_over = strcmp(call->function, "cctx_cancel_async") == 0;
    watchdog(100);
    world_make(w, at);
    call_prepare(call, w);
    fork_watched[0] = cctx_ref(w->top);
    fork_watched[1] = cctx_ref(w->on);
    fork_watched[2] = cctx_ref(w->kid[0]);
    fork_watched[3] = cctx_ref(w->kid[w->kids - 1]);
    __atomic_store_n(&parked, 0, __ATOMIC_RELEASE);
    pthread_t victim = thread_start(step_through, (void *)(uintptr_t)call);
    for (;;) {
        uint32_t seen;
        while ((seen = __atomic_load_n(&parked, __ATOMIC_ACQUIRE)) == 0)
            syscall(SYS_futex, &parked, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (seen == 2)
            break;
        __atomic_store_n(&parked, 0, __ATOMIC_RELEASE);
        forks++;
        int status = run_in_child(go_on_after_an_instruction, NULL);
        if (status != 0)
            print_error("%s%s on %s, fork %ld, %s: the child: status %#x\n", call->function, call->how,
                        at->name, forks, stop_first ? "stop first" : "cancel first", (unsigned)status);
        CHECK(status == 0);
        tell(&told, told + 1);
    }
    thread_join(victim);
    for (int i = 0; i < 4; i++)
        cctx_unref(fork_watched[i]);
    call->after(w);
    world_end(w);
}
#endif

/* C23, C29, C3: deterministic; another thread stands after each instruction of the library's in turn, and the
 * process forks. Only calls that change something are worth it, and one of those that run the same code. */
static void a_fork_after_each_instruction_of_a_call_leaves_a_child_that_works(void **state)
{
    (void)state;
#if defined(__x86_64__) && !TEST_SANITIZED
    const char *quiet[] = {"cctx_now",          "cctx_background",    "cctx_todo",        "cctx_cause",
                           "cctx_deadline",     "cctx_remaining",     "cctx_value",       "cctx_strerror",
                           "cctx_print",        "cctx_is_done",       "cctx_err",         "cctx_ref",
                           "cctx_cancel_cause", "cctx_with_deadline", "cctx_with_timeout"};
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = stand_still;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, &old);
    dl_iterate_phdr(find_library, NULL);
    CHECK(text_end > text_begin);
    forks = 0;
    for (int c = 0; c < CALLS; c++) {
        bool skipped = strstr(call_table[c].how, "all is canceled") != NULL;
        for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
            skipped = skipped || strcmp(call_table[c].function, quiet[i]) == 0;
        for (int pass = 0; pass < 2 && !skipped; pass++) {
            stop_first = pass == 0;
            fork_at_each_instruction(&call_table[c], state_of(pass ? make_timed : make_orphan));
        }
    }
    sigaction(SIGTRAP, &old, NULL);
    print_message("%ld forks\n", forks);
    assert_true(forks > 2000);
#else
    NOT_APPLICABLE("it needs x86-64's trap flag and no sanitizer");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_after_each_instruction_of_a_call_leaves_a_child_that_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
