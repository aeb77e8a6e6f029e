// SPDX-License-Identifier: BSD-2-Clause
// The peer nsync: notes of Google's synchronization library, with their tree and their deadlines.
//
// A deadline of a note is a field that those who wait or look compare with the clock: it costs nothing to
// arm, and nothing happens at that time where nobody waits. So there is no figure for a storm of deadlines.
#include "../../counted.h"
#include "../../lateness.h"
#include "../../lives.h"
#include "../../load.h"
#include "../../looks.h"
#include "../../trees.h"
#include "../../waiters.h"

#include <nsync.h>

using namespace bench;

namespace
{

nsync::nsync_time in(int64_t ns)
{
    return nsync::nsync_time_add(nsync::nsync_time_now(),
                                 nsync::nsync_time_s_ns(time_t(ns / 1000000000), unsigned(ns % 1000000000)));
}

struct note {
    static constexpr const char *who = "nsync";
    static constexpr bool recurses = true;
    nsync::nsync_note n;

    note() : n(need(nsync::nsync_note_new(nullptr, nsync::nsync_time_no_deadline))) {}
    explicit note(note *parent) : n(need(nsync::nsync_note_new(parent->n, nsync::nsync_time_no_deadline))) {}
    note(note *parent, int64_t timeout) : n(need(nsync::nsync_note_new(parent->n, in(timeout)))) {}
    note(const note &) = delete;
    note &operator=(const note &) = delete;
    ~note() { nsync::nsync_note_free(n); }

    void cancel() { nsync::nsync_note_notify(n); }
    bool done() const { return nsync::nsync_note_is_notified(n) != 0; }
    void wait() { nsync::nsync_note_wait(n, nsync::nsync_time_no_deadline); }
};

void poll_deadline(benchmark::State &state)
{
    note parent, timed(&parent, HOUR);
    poll(state, [&timed] { return int(timed.done()); });
}

// The clock of nsync is read after the other one, so that its deadline is no earlier.
void late_wait(benchmark::State &state)
{
    lateness(state, "late_wait", note::who, [](int64_t deadline) {
        static note root;
        note timed(&root, deadline - now());
        timed.wait();
        return now();
    });
}

} // namespace

void bench::register_all()
{
    register_looks<note>();
    timed("poll_deadline/nsync", poll_deadline, UNROLL);
    register_lives<note>();
    register_timed_lives<note>();
    register_trees<note>();
    register_waiters<parked<note>, looked_at<note>>(note::who);
    register_load<forest<note>>(note::who);
    once("late_wait/nsync", late_wait);
    register_counted<note>();
    register_bytes<note>("bytes_timeout", HOUR);
}
