// pool_driver.cpp: the thread pool of src/threads under many callers at once, for ThreadSanitizer. No Python.
//
// Built by tests/test_sanitizers.py. Each caller checks that every block of its calls was done once, by the time the call
// returned. Prints how many calls were made.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "threads/pool.h"

namespace {

// What a call works on: not atomic, so that a missing order between helper and caller is a race that the sanitizer sees.
struct Work {
    std::vector<int> done;
    std::vector<double> result;
};

void work(void* context, ptrdiff_t block, void* scratch) {
    Work* w = (Work*)context;
    double* mine = (double*)scratch;
    for (int i = 0; i < 64; ++i) mine[i] = (double)(block + i);
    // Longer than a caller spins, so that it has to wait for its helpers.
    if (block % 16 == 7) std::this_thread::sleep_for(std::chrono::microseconds(200));
    double sum = 0;
    for (int i = 0; i < 64; ++i) sum += mine[i];
    w->done[(size_t)block] += 1;
    w->result[(size_t)block] = sum;
}

std::atomic<int> limit{4};

void call_often(int caller, int calls) {
    for (int n = 0; n < calls; ++n) {
        const ptrdiff_t blocks = 1 + (caller * 31 + n * 7) % 40;
        Work w = {std::vector<int>((size_t)blocks), std::vector<double>((size_t)blocks)};
        if (!celoss_pool_run(work, &w, blocks, limit.load(), 64 * sizeof(double) * (size_t)(1 + n % 5))) abort();
        for (ptrdiff_t block = 0; block < blocks; ++block)
            if (w.done[(size_t)block] != 1 || w.result[(size_t)block] != 64.0 * (double)block + 2016.0) {
                fprintf(stderr, "caller %d, call %d: block %td done %d times\n", caller, n, block, w.done[(size_t)block]);
                abort();
            }
    }
}

}  // namespace

// driver [CALLS]: by each of 16 callers, while another thread changes the number of threads
int main(int argc, char** argv) {
    const int calls = argc > 1 ? atoi(argv[1]) : 300;
    std::atomic<bool> stop{false};
    std::thread changer([&] {
        for (int n = 0; !stop.load(); ++n) {
            limit.store(1 + n % 7);
            if (celoss_pool_helpers() > 6) abort();
            std::this_thread::yield();
        }
    });
    for (int round = 0; round < 3; ++round) {  // threads that end give their scratch back
        std::vector<std::thread> callers;
        for (int caller = 0; caller < 16; ++caller) callers.emplace_back(call_often, caller, calls);
        for (std::thread& caller : callers) caller.join();
    }
    stop.store(true);
    changer.join();
    printf("pool %d\n", 3 * 16 * calls);
    return 0;
}
