// SPDX-License-Identifier: BSD-2-Clause
// What can be counted exactly: allocations, bytes, system calls, instructions.
//
// Each count is taken in a forked child of its own, with a heap that no other count has touched.
#include "counted.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <csignal>

using namespace bench;

namespace
{


// What f returns, computed in a forked child.
template <class F> double in_child(F f)
{
    int ends[2];
    if (pipe(ends) != 0)
        broken("pipe");
    pid_t child = fork();
    if (child < 0)
        broken("fork");
    if (child == 0) {
        double v = f();
        bool sent = write(ends[1], &v, sizeof v) == sizeof v;
        _exit(sent ? 0 : 1);
    }
    close(ends[1]);
    double v = -1;
    if (read(ends[0], &v, sizeof v) != sizeof v)
        broken("a count in a forked child");
    close(ends[0]);
    waitpid(child, nullptr, 0);
    return v;
}

template <class F> void counted(const std::string &name, F f)
{
    once(name, [f](benchmark::State &state) { report(state, {{"value", in_child(f)}}); });
}

const cctx_t *a_parent()
{
    return need(cctx_with_cancel(cctx_background()));
}

// ---- allocations per child

double allocations_of(void (*each)(const cctx_t *parent, cctx_t **kept), bool warm)
{
    const cctx_t *parent = a_parent();
    return allocations_each<cctx_t *>([&](cctx_t *&kept) { each(parent, &kept); }, warm);
}
void keep_one(const cctx_t *parent, cctx_t **kept)
{
    *kept = need(cctx_with_cancel(parent));
}
void live_and_free(const cctx_t *parent, cctx_t **)
{
    cctx_close(need(cctx_with_cancel(parent)));
}
void timed_live_and_free(const cctx_t *parent, cctx_t **)
{
    cctx_close(need(cctx_with_timeout(parent, HOUR)));
}

// ---- bytes per live context

using handle = const cctx_t *;

// derive(above, latest) gives the next context; latest is the one before it, at first above.
template <class Derive> void bytes(const std::string &name, Derive derive)
{
    auto measured = [derive](double (*measure)()) {
        return in_child([&] {
            const cctx_t *above = a_parent(), *latest = above;
            return bytes_each<handle>(measure, [&](handle &h) { h = latest = need(derive(above, latest)); });
        });
    };
    once(name + "/cctx", [measured](benchmark::State &state) {
        report(state, {{"value", measured(in_use)}, {"resident", measured(resident)}});
    });
}

const cctx_t *child(const cctx_t *parent, const cctx_t *)
{
    return cctx_with_cancel(parent);
}
const cctx_t *child_timeout(const cctx_t *parent, const cctx_t *)
{
    return cctx_with_timeout(parent, HOUR);
}
const cctx_t *level(const cctx_t *, const cctx_t *latest)
{
    return cctx_with_cancel(latest);
}
const cctx_t *child_value(const cctx_t *parent, const cctx_t *)
{
    static int value;
    static const cctx_key_t key = {"key", nullptr};
    return cctx_with_value(parent, &key, &value);
}

// ---- system calls and instructions: the traced child stops itself before and after the body

enum class unit { system_call, instruction };

// The units that the calling thread of a traced child spends on body, the two stops included; -1 if tracing
// is forbidden.
template <class Prepare, class Body> long traced(unit what, Prepare prepare, Body body)
{
    pid_t child = fork();
    if (child < 0)
        broken("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0)
            _exit(3);
        auto subject = prepare();
        raise(SIGSTOP);
        body(subject);
        raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    long n = 0;
    if (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
        const auto go_on = what == unit::system_call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP;
        const int tick = what == unit::system_call ? (SIGTRAP | 0x80) : SIGTRAP;
        while (ptrace(go_on, child, nullptr, nullptr) == 0 && waitpid(child, &status, 0) == child &&
               WIFSTOPPED(status) && WSTOPSIG(status) == tick)
            n++;
        ptrace(PTRACE_CONT, child, nullptr, nullptr);
        waitpid(child, &status, 0);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return -1;
    // A system call is reported as it is entered and as it is left.
    return what == unit::system_call ? n / 2 : n;
}

template <class Prepare, class Body, class Nothing>
void counted_by_tracing(const std::string &name, unit what, Prepare prepare, Body body, Nothing nothing,
                        int divisor = 1)
{
    once(name, [=](benchmark::State &state) {
        long with = traced(what, prepare, body), without = traced(what, prepare, nothing);
        if (with < 0 || without < 0)
            state.SkipWithError("ptrace is not permitted here");
        else
            report(state, {{"value", double(with - without) / divisor}});
    });
}

using tree = std::vector<cctx_t *>;

template <class Prepare> void calls_of_cancel(const std::string &name, Prepare prepare)
{
    // What the first cancel of a process sets up once is not counted.
    auto prepared = [prepare] {
        cctx_cancel(prepare().front());
        return prepare();
    };
    counted_by_tracing(
        name, unit::system_call, prepared, [](tree &t) { cctx_cancel(t.front()); }, [](tree &) {});
}

tree a_leaf()
{
    return {need(cctx_with_cancel(cctx_background()))};
}
tree a_child()
{
    cctx_t *parent = need(cctx_with_cancel(cctx_background()));
    return {need(cctx_with_cancel(parent)), parent};
}
tree an_armed_child()
{
    tree t = a_child();
    t.insert(t.begin(), need(cctx_with_timeout(t.back(), HOUR)));
    return t;
}
tree a_fan()
{
    tree t = a_leaf();
    for (int i = 0; i < 10000; i++)
        t.push_back(need(cctx_with_cancel(t.front())));
    return t;
}
tree a_chain()
{
    tree t = a_leaf();
    for (int i = 0; i < 10000; i++)
        t.push_back(need(cctx_with_cancel(t.back())));
    return t;
}

// Called through pointers that the compiler knows nothing about, so that each body is one call of one
// function.
__attribute__((noinline)) int nothing(const void *)
{
    int whatever;
    __asm__ volatile("" : "=r"(whatever));
    return whatever;
}
__attribute__((noinline)) int err(const void *ctx)
{
    return cctx_err(static_cast<const cctx_t *>(ctx));
}
__attribute__((noinline)) int is_done(const void *ctx)
{
    return cctx_is_done(static_cast<const cctx_t *>(ctx));
}
__attribute__((noinline)) int bare(const void *word)
{
    return int(load(static_cast<const uint32_t *>(word)));
}

void instructions_of(const std::string &name, int (*function)(const void *))
{
    auto call = [](int (*f)(const void *)) {
        return [f](tree &t) {
            int (*volatile hidden)(const void *) = f;
            benchmark::DoNotOptimize(hidden(t.front()));
        };
    };
    counted_by_tracing(name, unit::instruction, a_leaf, call(function), call(nothing));
}

} // namespace

void bench::register_all()
{
    counted("allocs_cold/cctx", [] { return allocations_of(keep_one, false); });
    counted("allocs_warm/cctx", [] { return allocations_of(live_and_free, true); });
    counted("allocs_timeout/cctx", [] { return allocations_of(timed_live_and_free, true); });
    bytes("bytes_child", child);
    bytes("bytes_timeout", child_timeout);
    bytes("bytes_level", level);
    bytes("bytes_value", child_value);
    calls_of_cancel("calls_leaf/cctx", a_leaf);
    calls_of_cancel("calls_child/cctx", a_child);
    calls_of_cancel("calls_armed/cctx", an_armed_child);
    calls_of_cancel("calls_fan/cctx", a_fan);
    calls_of_cancel("calls_chain/cctx", a_chain);
    instructions_of("instructions_err/cctx", err);
    instructions_of("instructions_err/floor", bare);
    instructions_of("instructions_is_done/cctx", is_done);
    instructions_of("instructions_is_done/floor", bare);
}
