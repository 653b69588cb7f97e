// pool.cpp: see pool.h. Standard library and pthread_atfork only.
#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace {

struct Job {
    PoolWork work;
    void* context;
    ptrdiff_t blocks;
    size_t scratch_bytes;
    std::atomic<ptrdiff_t> next{0};
    std::atomic<int> active{0};  // helpers inside; changed under the pool's mutex
    int wanted;                  // helpers that may still join
    Job* later = nullptr;

    void take_blocks(void* scratch) {
        for (ptrdiff_t block; (block = next.fetch_add(1, std::memory_order_relaxed)) < blocks;) work(context, block, scratch);
    }
    bool open() const { return wanted > 0 && next.load(std::memory_order_relaxed) < blocks; }
};

struct Pool {
    std::mutex mutex;
    std::condition_variable work_here;
    std::condition_variable helper_left;
    Job* jobs = nullptr;
    int helpers = 0;

    Job* open_job() {
        for (Job* job = jobs; job; job = job->later)
            if (job->open()) return job;
        return nullptr;
    }
};

// Never destroyed: helpers may still wait in it while the process exits.
alignas(Pool) unsigned char storage[sizeof(Pool)];
Pool* pool = nullptr;

#ifndef _WIN32
// The child has no helpers, and the parent's mutex may be locked in it for ever: it begins with a new pool.
void after_fork_in_child() { pool = new (storage) Pool; }
#endif

Pool& the_pool() {
    static Pool* made = [] {
        pool = new (storage) Pool;
#ifndef _WIN32
        pthread_atfork(nullptr, nullptr, after_fork_in_child);
#endif
        return pool;
    }();
    return *made;
}

struct Scratch {
    void* at = nullptr;
    size_t bytes = 0;
    ~Scratch() { release(); }
    void release() {
        std::free(at);
        at = nullptr;
        bytes = 0;
    }
    // Kept by the thread from call to call; grows only. Aligned to a cache line by over-allocation.
    void* at_least(size_t wanted) {
        if (wanted > bytes) {
            release();
            at = std::malloc(wanted + 64);
            if (at) bytes = wanted;
        }
        return at ? (void*)(((size_t)at + 63) & ~(size_t)63) : nullptr;
    }
};
thread_local Scratch scratch_of_thread;

inline void pause() {
#if defined(__SSE2__)
    _mm_pause();
#endif
}

void help() {
    Pool& p = the_pool();
    std::unique_lock<std::mutex> lock(p.mutex);
    for (;;) {
        Job* job;
        p.work_here.wait(lock, [&] { return (job = p.open_job()) != nullptr; });
        --job->wanted;
        job->active.fetch_add(1, std::memory_order_relaxed);
        lock.unlock();
        if (void* scratch = scratch_of_thread.at_least(job->scratch_bytes)) job->take_blocks(scratch);
        lock.lock();
        if (job->active.fetch_sub(1, std::memory_order_release) == 1) p.helper_left.notify_all();
    }
}

void add_helpers(Pool& p, int wanted) {
    while (p.helpers < wanted) {
        try {
            std::thread(help).detach();
        } catch (const std::exception&) {
            return;  // no more threads to be had: the caller works alone
        }
        ++p.helpers;
    }
}

}  // namespace

bool celoss_pool_run(PoolWork work, void* context, ptrdiff_t blocks, int threads, size_t scratch_bytes) {
    void* scratch = scratch_of_thread.at_least(scratch_bytes);
    if (!scratch) return false;
    const int helpers = (int)(threads < blocks ? threads : blocks) - 1;
    if (helpers <= 0) {
        for (ptrdiff_t block = 0; block < blocks; ++block) work(context, block, scratch);
        return true;
    }
    Pool& p = the_pool();
    Job job;
    job.work = work;
    job.context = context;
    job.blocks = blocks;
    job.scratch_bytes = scratch_bytes;
    job.wanted = helpers;
    {
        std::lock_guard<std::mutex> lock(p.mutex);
        add_helpers(p, helpers);
        job.later = p.jobs;
        p.jobs = &job;
    }
    for (int i = 0; i < helpers; ++i) p.work_here.notify_one();
    job.take_blocks(scratch);

    // From here no helper can join: there is no block left. Those inside finish the one they hold.
    for (int spins = 0; spins < 2000 && job.active.load(std::memory_order_acquire); ++spins) pause();
    std::unique_lock<std::mutex> lock(p.mutex);
    for (Job** link = &p.jobs;; link = &(*link)->later)
        if (*link == &job) {
            *link = job.later;
            break;
        }
    p.helper_left.wait(lock, [&] { return job.active.load(std::memory_order_acquire) == 0; });
    return true;
}

int celoss_pool_helpers() {
    Pool& p = the_pool();
    std::lock_guard<std::mutex> lock(p.mutex);
    return p.helpers;
}
