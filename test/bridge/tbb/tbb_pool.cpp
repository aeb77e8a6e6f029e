// SPDX-License-Identifier: BSD-2-Clause
// A pool of oneTBB's threads for the tests.
#include "tbb_pool.h"

#include <cctx/bridge/tbb.h>

#include <tbb/global_control.h>

extern "C" {
bool refuse_memory;
void (*after_enqueue)(void);
void (*after_executor)(void);

// TBB's own functions for memory and for a task that is enqueued, by their names in the library.
void *__real__ZN3tbb6detail2r18allocateERPNS0_2d117small_object_poolEm(void **pool, std::size_t size);
void *__wrap__ZN3tbb6detail2r18allocateERPNS0_2d117small_object_poolEm(void **pool, std::size_t size)
{
    if (refuse_memory)
        throw std::bad_alloc();
    return __real__ZN3tbb6detail2r18allocateERPNS0_2d117small_object_poolEm(pool, size);
}

void __real__ZN3tbb6detail2r17enqueueERNS0_2d14taskEPNS2_15task_arena_baseE(void *task, void *arena);
void __wrap__ZN3tbb6detail2r17enqueueERNS0_2d14taskEPNS2_15task_arena_baseE(void *task, void *arena)
{
    __real__ZN3tbb6detail2r17enqueueERNS0_2d14taskEPNS2_15task_arena_baseE(task, arena);
    if (after_enqueue)
        after_enqueue();
}
}

namespace
{
struct farewell {
    ~farewell()
    {
        if (after_executor)
            after_executor();
    }
};
} // namespace

void tbb_with(void (*body)(cctx_executor_t *executor, void *arg), void *arg)
{
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, POOL_THREADS + 1);
    tbb::task_arena arena(POOL_THREADS, 0);
    farewell last;
    cctx_tbb_t pool(arena);
    body(&pool, arg);
}

void pool_bare(unsigned n, void (*fn)(void *arg), void (*wait)(void *arg), void *arg)
{
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, POOL_THREADS + 1);
    tbb::task_arena arena(POOL_THREADS, 0);
    for (unsigned i = 0; i < n; i++)
        arena.enqueue([fn, arg] { fn(arg); });
    wait(arg);
}
