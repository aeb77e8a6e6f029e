// SPDX-License-Identifier: BSD-2-Clause
// The main function of every benchmark program.
#include "harness.h"

int main(int argc, char **argv)
{
    // glibc leaves the atomics out of its locks until a process has had a second thread. Programs that need a
    // tree of contexts have threads, so nothing is measured in a process that never had one.
    std::thread([] {}).join();

    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    bench::register_all();
    bench::register_entries();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
