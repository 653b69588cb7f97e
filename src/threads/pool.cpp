// pool.cpp: see pool.h. Standard library, and of POSIX pthread_atfork and pthread_sigmask only.
#include "pool.h"

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#include <signal.h>
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
    std::fenv_t arithmetic;      // the caller's rounding mode and treatment of subnormal numbers: helpers compute in it too
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

// Never destroyed: helpers may still wait in it while the process exits. Made when the module is loaded: the guard of a
// static that the first use makes would stay locked for ever in the child of a fork that falls into it.
alignas(Pool) unsigned char storage[sizeof(Pool)];
Pool& pool = *[] {
#ifndef _WIN32
    // The child has no helpers, and the parent's mutex may be locked in it for ever: it begins with a new pool.
    pthread_atfork(nullptr, nullptr, [] { new (storage) Pool; });
#endif
    return new (storage) Pool;
}();

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

inline void wait_a_moment() {
#if defined(__SSE2__)
    _mm_pause();
#endif
}

void help() {
    std::unique_lock<std::mutex> lock(pool.mutex);
    for (;;) {
        Job* job;
        pool.work_here.wait(lock, [&] { return (job = pool.open_job()) != nullptr; });
        --job->wanted;
        job->active.fetch_add(1, std::memory_order_relaxed);
        lock.unlock();
        std::fesetenv(&job->arithmetic);
        if (void* scratch = scratch_of_thread.at_least(job->scratch_bytes)) job->take_blocks(scratch);
        lock.lock();
        if (job->active.fetch_sub(1, std::memory_order_release) == 1) pool.helper_left.notify_all();
    }
}

// While it lives, threads are made that take no signal: the signals of a process are its program's, which may block one
// in all the threads it knows of, to wait for it. Faults are not sent to a process but to the thread that made them.
struct SignalsBlocked {
#ifndef _WIN32
    sigset_t before;
    SignalsBlocked() {
        sigset_t signals;
        sigfillset(&signals);
        for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&signals, fault);
        pthread_sigmask(SIG_BLOCK, &signals, &before);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
#endif
};

void add_helpers(int wanted) {
    if (pool.helpers >= wanted) return;
    [[maybe_unused]] SignalsBlocked blocked;  // nothing on Windows
    while (pool.helpers < wanted) {
        try {
            std::thread(help).detach();
        } catch (const std::exception&) {
            return;  // no more threads to be had: the caller works alone
        }
        ++pool.helpers;
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
    Job job;
    job.work = work;
    job.context = context;
    job.blocks = blocks;
    job.scratch_bytes = scratch_bytes;
    job.wanted = helpers;
    std::fegetenv(&job.arithmetic);
    {
        std::lock_guard<std::mutex> lock(pool.mutex);
        add_helpers(helpers);
        job.later = pool.jobs;
        pool.jobs = &job;
    }
    for (int i = 0; i < helpers; ++i) pool.work_here.notify_one();
    job.take_blocks(scratch);

    // From here no helper can join: there is no block left. Those inside finish the one they hold.
    for (int spins = 0; spins < 2000 && job.active.load(std::memory_order_acquire); ++spins) wait_a_moment();
    std::unique_lock<std::mutex> lock(pool.mutex);
    for (Job** link = &pool.jobs;; link = &(*link)->later)
        if (*link == &job) {
            *link = job.later;
            break;
        }
    pool.helper_left.wait(lock, [&] { return job.active.load(std::memory_order_acquire) == 0; });
    return true;
}

int celoss_pool_helpers() {
    std::lock_guard<std::mutex> lock(pool.mutex);
    return pool.helpers;
}
