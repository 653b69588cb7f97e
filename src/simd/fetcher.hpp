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
        const int bytes = vectors * CELOSS_VECTOR_BYTES;
        for (int b = 0; b < bytes; b += 64) {
            __builtin_prefetch(next.x + b);
            if (next.v) __builtin_prefetch(next.v + b);
            if (next.g) __builtin_prefetch(next.g + b, 1);
            if (next.h) __builtin_prefetch(next.h + b, 1);
        }
        next.x += bytes;
        if (next.v) next.v += bytes;
        if (next.g) next.g += bytes;
        if (next.h) next.h += bytes;
        next.bytes -= bytes;
    }
};

}  // namespace
