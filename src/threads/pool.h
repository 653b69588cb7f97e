// pool.h: the caller-works thread pool. Knows nothing of Python or of cross-entropy.
//
// The caller publishes blocks behind a counter, wakes helpers and takes blocks itself; it returns when the last block is
// done, and never waits for a helper that has not begun one. Helpers block while there is nothing to do.
#pragma once

#include <stddef.h>

// Called for every block in [0, blocks), by any thread, in any order. `scratch` is the thread's own memory.
typedef void (*PoolWork)(void* context, ptrdiff_t block, void* scratch);

// Runs the blocks on at most `threads` threads, the caller's among them. False, with nothing run, where the caller's
// scratch cannot be had.
bool celoss_pool_run(PoolWork work, void* context, ptrdiff_t blocks, int threads, size_t scratch_bytes);

// Helpers that exist now.
int celoss_pool_helpers();
