// SPDX-License-Identifier: BSD-2-Clause
// A thousand sleepers, woken by one cancel while the machine is busy; load.h says how that is measured.
#include "context.h"
#include "load.h"

using namespace bench;

namespace
{

// A word for each sleeper, and workers that meet nobody.
class bare
{
    struct alignas(64) word {
        uint32_t value = 0;
    };
    std::vector<word> words = std::vector<word>(SLEEPERS);

  public:
    void fire()
    {
        for (auto &w : words) {
            store(&w.value, 1u);
            futex_wake(&w.value);
        }
    }
    void wait(size_t sleeper)
    {
        while (load(&words[sleeper].value) == 0)
            futex_wait(&words[sleeper].value, 0);
    }
    void turn(size_t)
    {
        auto *p = static_cast<uint32_t *>(std::malloc(128));
        *p = 0;
        benchmark::DoNotOptimize(p);
        for (int i = 0; i < LOOKS; i++)
            benchmark::DoNotOptimize(load(p));
        std::free(p);
    }
};

} // namespace

void bench::register_all()
{
    register_load<forest<context>>("cctx");
    register_load<bare>("floor");
}
