// SPDX-License-Identifier: BSD-2-Clause
// The peer glib: GCancellable of GIO.
//
// It has no tree: a child is a GCancellable of its own that g_cancellable_connect links to its parent, as a
// user writes it. It has no deadlines. A thread sleeps in poll() on the descriptor that it offers for that.
#include "../../counted.h"
#include "../../lives.h"
#include "../../load.h"
#include "../../looks.h"
#include "../../trees.h"
#include "../../waiters.h"

#include <gio/gio.h>
#include <sys/resource.h>

using namespace bench;

namespace
{

void cancel_child(GCancellable *, gpointer child)
{
    g_cancellable_cancel(static_cast<GCancellable *>(child));
}

struct cancellable {
    static constexpr const char *who = "glib";
    static constexpr bool recurses = true;
    GCancellable *c = need(g_cancellable_new());
    GCancellable *above = nullptr;
    gulong link = 0;

    cancellable() = default;
    explicit cancellable(cancellable *parent)
        : above(parent->c), link(g_cancellable_connect(above, G_CALLBACK(cancel_child), c, nullptr))
    {
    }
    cancellable(const cancellable &) = delete;
    cancellable &operator=(const cancellable &) = delete;
    ~cancellable()
    {
        if (above != nullptr)
            g_cancellable_disconnect(above, link);
        g_object_unref(c);
    }

    void cancel() { g_cancellable_cancel(c); }
    bool done() const { return g_cancellable_is_cancelled(c) != 0; }
    void wait()
    {
        GPollFD event;
        if (!g_cancellable_make_pollfd(c, &event))
            broken("g_cancellable_make_pollfd");
        while (!done())
            g_poll(&event, 1, -1);
        g_cancellable_release_fd(c);
    }
};

// ---- callbacks

long called;
void call(GCancellable *, gpointer)
{
    called++;
}

void callbacks(benchmark::State &state)
{
    const size_t n = 1000;
    std::vector<gulong> id(n);
    each(state, long(n), trials(1000), [&] {
        cancellable ctx;
        called = 0;
        for (auto &i : id)
            i = g_cancellable_connect(ctx.c, G_CALLBACK(call), nullptr, nullptr);
        int64_t t0 = now();
        ctx.cancel();
        int64_t t1 = now();
        if (called != long(n))
            broken("a callback has not run when its cancel returned");
        for (auto i : id)
            g_cancellable_disconnect(ctx.c, i);
        return t1 - t0;
    });
}

void after_stop(benchmark::State &state)
{
    cancellable ctx;
    for (auto _ : state)
        g_cancellable_disconnect(ctx.c, g_cancellable_connect(ctx.c, G_CALLBACK(call), nullptr, nullptr));
}

} // namespace

void bench::register_all()
{
    // A thousand waiters on a thousand of them need as many descriptors.
    rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    register_looks<cancellable>();
    register_lives<cancellable>();
    register_trees<cancellable>();
    register_waiters<parked<cancellable>, looked_at<cancellable>>(cancellable::who);
    register_load<forest<cancellable>>(cancellable::who);
    register_counted<cancellable>();
    once("callbacks/glib", callbacks);
    timed("after_stop/glib", after_stop);
}
