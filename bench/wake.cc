// SPDX-License-Identifier: BSD-2-Clause
// How long after a cancel another thread runs: one that sleeps, one that looks all the time, a thousand that
// sleep. waiters.h says how that is measured.
#include "context.h"
#include "waiters.h"

using namespace bench;

namespace
{

struct bare_looked_at : bare_word {
    void fire() { store(&word, 1u); }
    void wait()
    {
        while (load(&word) == 0)
            relax();
    }
};

} // namespace

void bench::register_all()
{
    register_waiters<parked<context>, looked_at<context>>("cctx");
    register_waiters<bare_parked, bare_looked_at>("floor");
}
