// note_model.cc: the descriptor of a context: asked for by several, told by whoever cancels, closed with it.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: as tree_model.cc, and event.c and descriptor.c over a kernel of two calls. What is written to and closed
// is open then; and each context's descriptor is told by the time that a cancel which follows the call, or the call
// which follows a cancel, has returned.
#include <linux/time_types.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#define TREE_MODEL_EVENT
#include "model.h"

enum { FILES = 8, FIRST = 3 };
static struct { bool open, told; } files[FILES];
static int files_made, files_open;
static int model_eventfd()
{
    RL_VERIFY(files_made < FILES);
    files[files_made].open = true;
    files[files_made].told = false;
    files_open++;
    return FIRST + files_made++;
}
static long model_syscall(long number, long fd, ...)
{
    rl::ctx().sched();
    if (number == SYS_eventfd2) return model_eventfd();
    RL_ASSERT(fd >= FIRST && fd < FIRST + files_made && files[fd - FIRST].open);
    if (number == SYS_write) {
        files[fd - FIRST].told = true;
    } else {
        RL_ASSERT(number == SYS_close);
        files[fd - FIRST].open = false;
        files_open--;
    }
    return 0;
}
static bool readable(int fd) { return files[fd - FIRST].told; }

#include "roster.c"
#include "node.c"
#include "done.c"
#include "async.c"
#include "callback.c"
#include "cancel.c"
#include "derive.c"
#undef alloc_get
#undef alloc_get_aligned
#include "handle.c"
#include "tree_model.h"
#include "wait.c"
#define syscall(number, fd, ...) model_syscall(number, (long)(fd))
#include "event.c"
#include "descriptor.c"

static int ran;
static void call(void *) { ran++; }

struct notes : scenario {
    cctx_t *root, *kid;
    int fd[3];
    callback *cb[2];
    notes(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    void before()
    {
        files_made = files_open = ran = 0;
        root = cctx_with_cancel(cctx_background());
        kid = cctx_with_cancel(root);
        fd[0] = fd[1] = fd[2] = 0;
        cb[0] = model_make<callback>();
        cb[1] = model_make<callback>();
    }
    void hook(int i) { RL_ASSERT(cctx_after_func(kid, (cctx_callback_t *)(void *)cb[i], call, NULL) == 0); }
    void ask(int i)
    {
        fd[i] = cctx_fd(kid);
        RL_ASSERT(fd[i] >= FIRST);
    }
    /* What has come by now is told, whoever is stopped meanwhile. */
    void ask_and_end(int i)
    {
        ask(i);
        cctx_cancel(kid);
        RL_ASSERT(readable(fd[i]));
    }
    void after()
    {
        for (int i = 0; i < 3; i++) RL_ASSERT(fd[i] == 0 || readable(fd[i]));
        RL_ASSERT(fd[0] == 0 || fd[1] == 0 || fd[0] == fd[1]);
        cctx_unref(kid);
        cctx_unref(root);
        RL_ASSERT(files_open == 0);
        model_free(cb[0]);
        model_free(cb[1]);
    }
};
#define NOTES(name, threads, bound) struct name : notes { name() : notes(#name, threads, bound) {}

// The flip sees the bit, or who sets it sees the flip.
NOTES(ask_cancel, 2, 3)
    void thread(unsigned i) { if (i) ask(0); else cctx_cancel(kid); }
} ask_cancel;
// ... by the walk.
NOTES(ask_cancel_above, 2, 3)
    void thread(unsigned i) { if (i) ask(0); else cctx_cancel(root); }
} ask_cancel_above;
// The waker comes because of another sleeper, and meets the bit that was set meanwhile.
NOTES(ask_exposed_cancel, 2, 3)
    void before() { notes::before(); cctx_done(kid); }
    void thread(unsigned i) { if (i) ask(0); else cctx_cancel(kid); }
} ask_exposed_cancel;
// Two ask at once: there is one, and it needs nobody else's next step.
NOTES(ask_ask, 2, 2)
    void thread(unsigned i) { ask_and_end((int)i); }
} ask_ask;
NOTES(ask_ask_cancel, 3, 1)
    void thread(unsigned i) { if (i < 2) ask((int)i); else cctx_cancel(kid); }
} ask_ask_cancel;
// One has asked and the other cancels by what it was handed: all is there that leads to the descriptor.
NOTES(cancel_after_ask, 2, 3)
    void thread(unsigned i)
    {
        if (i) ask(0);
        else if (sync_load_relaxed(&kid->state, alone) & NOTED) cctx_cancel(kid);
    }
    void after() { cctx_cancel(kid); notes::after(); }
} cancel_after_ask;
// The first roster is made by either, and both find it.
NOTES(ask_register, 2, 2)
    void before() { notes::before(); hook(0); }
    void thread(unsigned i) { if (i) ask(0); else hook(1); }
    void after() { cctx_cancel(kid); RL_ASSERT(ran == 2); notes::after(); }
} ask_register;
// A roster without slots is no callback, until one is registered there.
NOTES(register_cancel_beside_a_note, 2, 3)
    void before() { notes::before(); ask(0); hook(0); }
    void thread(unsigned i) { if (i) hook(1); else cctx_cancel(root); }
    void after() { RL_ASSERT(ran == 2); notes::after(); }
} register_cancel_beside_a_note;
NOTES(ask_cancel_drop, 2, 3)
    void before() { notes::before(); cctx_ref(kid); }
    void thread(unsigned i)
    {
        if (i) {
            ask(0);
            cctx_unref(kid);
        } else cctx_close(kid);
    }
    void after()
    {
        RL_ASSERT(files_open == 0);
        cctx_unref(root);
        model_free(cb[0]);
        model_free(cb[1]);
    }
} ask_cancel_drop;
// A walker tells it, and the last handle goes meanwhile: it is closed after that, once.
NOTES(drop_cancel_above, 2, 3)
    void before() { notes::before(); ask(0); }
    void thread(unsigned i) { if (i) cctx_unref(kid); else cctx_cancel(root); }
    void after()
    {
        RL_ASSERT(files_open == 0);
        cctx_unref(root);
        model_free(cb[0]);
        model_free(cb[1]);
    }
} drop_cancel_above;

int main(int argc, char **argv)
{
    model_boot = derive_boot;
    return model_main(argc, argv);
}
