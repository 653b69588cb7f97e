// kept_driver.cpp: the kept blocks of src/memory under many threads at once, for ThreadSanitizer. No Python.
//
// Built by tests/test_sanitizers.py. Threads ask for memory of any size, write to both its ends, change its size, and leave it
// for another thread to check and to free, while one thread changes how much is kept. Prints how many blocks went through.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "memory/kept.h"

namespace {

constexpr size_t MOST = (size_t)24 << 20;

struct Filled {
    unsigned char* at;
    size_t bytes;
    unsigned char mark;
};

std::mutex mutex;
std::vector<Filled> left;  // for any thread

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "%s\n", what);
    abort();
}

void fill(const Filled& a) {
    for (size_t i = 0; i < 64; ++i) a.at[i] = a.at[a.bytes - 1 - i] = a.mark;
}

void check(const Filled& a, size_t bytes) {
    for (size_t i = 0; i < 64; ++i)
        if (a.at[i] != a.mark || a.at[bytes - 1 - i] != a.mark) fail("memory that two have");
}

void exchange(int thread, int rounds) {
    uint64_t state = (uint64_t)thread + 1;
    const auto random = [&](uint64_t below) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % below;
    };
    for (int n = 0; n < rounds; ++n) {
        Filled a = {nullptr, 4096 + (size_t)random((uint64_t)1 << (14 + random(9))), (unsigned char)(1 + random(255))};
        if (n % 5 == 0) {
            a.at = (unsigned char*)celoss_kept_calloc(nullptr, a.bytes / 4 + 1, 4);
            for (size_t i = 0; i < a.bytes; i += 509)
                if (a.at[i]) fail("calloc's memory is not cleared");
        } else {
            a.at =
                (unsigned char*)(n % 7 ? celoss_kept_malloc(nullptr, a.bytes) : celoss_kept_realloc(nullptr, nullptr, a.bytes));
        }
        if (!a.at || (uintptr_t)a.at % 4096) fail("no memory, or not at a page");
        fill(a);
        if (n % 3 == 0) {
            const size_t before = a.bytes;
            a.bytes = n % 2 ? before / 5 + 128 : 3 * before;
            a.at = (unsigned char*)celoss_kept_realloc(nullptr, a.at, a.bytes);
            for (size_t i = 0; i < 64; ++i)
                if (a.at[i] != a.mark || (a.bytes > before && a.at[before - 1 - i] != a.mark)) fail("realloc lost data");
            fill(a);
        }
        Filled other = {nullptr, 0, 0};
        {
            std::lock_guard<std::mutex> lock(mutex);
            left.push_back(a);
            if (left.size() > 12) {
                const size_t i = (size_t)random(left.size());
                other = left[i];
                left[i] = left.back();
                left.pop_back();
            }
        }
        if (other.at) {
            check(other, other.bytes);
            celoss_kept_free(nullptr, other.at, other.bytes);
        }
    }
}

}  // namespace

// driver [ROUNDS]: by each of 8 threads
int main(int argc, char** argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    celoss_keep_blocks(MOST, true);
    if (celoss_kept_malloc(nullptr, SIZE_MAX - 100) || celoss_kept_calloc(nullptr, SIZE_MAX / 2, 3)) fail("more than there is");
    celoss_kept_free(nullptr, nullptr, 0);
    std::atomic<bool> stop{false};
    std::thread changer([&] {
        for (size_t n = 0; !stop.load(); ++n) {
            celoss_keep_blocks(n % 8 ? MOST : 0, n % 2);
            if (celoss_kept_bytes() > MOST) fail("more than the most");
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    });
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; ++thread) threads.emplace_back(exchange, thread, rounds);
    for (std::thread& thread : threads) thread.join();
    stop.store(true);
    changer.join();
    for (const Filled& a : left) {
        check(a, a.bytes);
        celoss_kept_free(nullptr, a.at, a.bytes);
    }
    celoss_keep_blocks(0, true);
    if (celoss_kept_bytes()) fail("blocks are kept where none may be");
    printf("kept %d\n", 8 * rounds);
    return 0;
}
