// fetcher.hpp: what a pass does for the rows that come after: it has them fetched into the cache.
#pragma once

#include "contract.h"
#include "vector.hpp"

namespace {

// Fetches what comes next into the cache, as much at a time as vectors are worked on meanwhile: a burst would fill the CPU's
// queue of misses, and hold up what is computed.
struct Fetcher {
    Ahead next;
    CELOSS_INLINE void fetch(int vectors) {
        if (next.bytes <= 0) return;
        for (int b = 0; b < vectors * CELOSS_VECTOR_BYTES; b += 64) {
            __builtin_prefetch(next.x + b);
            if (next.g) __builtin_prefetch(next.g + b, 1);
        }
        next.x += vectors * CELOSS_VECTOR_BYTES;
        if (next.g) next.g += vectors * CELOSS_VECTOR_BYTES;
        next.bytes -= vectors * CELOSS_VECTOR_BYTES;
    }
};

}  // namespace
