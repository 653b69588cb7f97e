// kept.cpp: see kept.h. Standard library, and of POSIX mmap, madvise and pthread_atfork only.
#include "kept.h"

#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>

#ifndef _WIN32
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace {

// Where the last result lives until the next is made, one block waits; the others are for further results of a loop.
constexpr int MOST_BLOCKS = 4;
// A block that so many requests have passed over is given back: the program has gone on to other sizes.
constexpr int MOST_PASSES = 64;
constexpr size_t HUGE_PAGE = (size_t)1 << 21;
constexpr size_t LARGEST_PAGE = (size_t)1 << 16;  // of those that are not huge: sizes of blocks are multiples

// A block begins with a Header; an array's data begin where its first page ends: aligned to what any vector needs, and as
// arrays of the system's large blocks, a few bytes aside, lie in their pages (stores that seem to fall on loads to come wait).
constexpr size_t DATA_OFFSET = 4096;

struct Block {
    char* at;
    size_t bytes;
};

struct Header {
    size_t bytes;
    uint64_t born;  // in this process: see Kept::forks
};

Header* header_of(Block block) { return (Header*)block.at; }

// ---- of the operating system ----------------------------------------------------------------------------------------------

#ifdef _WIN32

// Pages that are kept count against what all processes may commit, even if offered: nothing is kept.
Block map(size_t, bool) { return {nullptr, 0}; }
bool unmap(char*, size_t) { return false; }
void leave_to_system(Block) {}

#else

bool unmap(char* at, size_t bytes) { return munmap(at, bytes) == 0; }

// Cleared memory; at is null where there is none. Blocks that can have huge pages begin at one; what is left over at their end
// takes small ones, so that no block takes more memory than it has.
Block map(size_t bytes, bool huge_pages) {
    const size_t room = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    void* found = mmap(nullptr, bytes + room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) return {nullptr, 0};
    char* at = (char*)found;
    if (room) {
        const size_t before = (HUGE_PAGE - (uintptr_t)at % HUGE_PAGE) % HUGE_PAGE;
        if (before) unmap(at, before);
        at += before;
        unmap(at + bytes, room - before);
    }
#ifdef MADV_HUGEPAGE
    if (room && huge_pages) madvise(at, bytes, MADV_HUGEPAGE);
#else
    (void)huge_pages;
#endif
    return {at, bytes};
}

// The system may take the huge pages until they are written to again. What stands in them is gone, the header too. Small pages
// stay: they are few, and the first write to each would take a third of the time of a new one.
void leave_to_system(Block block) {
#ifdef MADV_FREE
    const size_t bytes = block.bytes / HUGE_PAGE * HUGE_PAGE;
    if (bytes) madvise(block.at, bytes, MADV_FREE);
#else
    (void)block;
#endif
}

#endif

// Blocks on their way back to the system, which takes them when this is left: declared before a lock, it is left behind it.
struct Leaving {
    Block blocks[MOST_BLOCKS + 1];
    int count = 0;
    ~Leaving() {
        while (count > 0) {
            --count;
            unmap(blocks[count].at, blocks[count].bytes);
        }
    }
    void add(Block block) { blocks[count++] = block; }
};

// ---- the blocks that are kept ---------------------------------------------------------------------------------------------

struct Kept {
    std::mutex mutex;
    Block blocks[MOST_BLOCKS];  // the one freed last at the end. Their headers are not to be read
    int passes[MOST_BLOCKS];    // requests that each has not served
    int count = 0;
    size_t bytes = 0;
    size_t most_bytes = 0;
    bool huge_pages = false;
    uint64_t forks = 0;  // a block that a fork has shared with another process would be copied page by page

    Block remove(int i) {
        const Block block = blocks[i];
        bytes -= block.bytes;
        --count;
        for (; i < count; ++i) {
            blocks[i] = blocks[i + 1];
            passes[i] = passes[i + 1];
        }
        return block;
    }

    void remove_beyond(size_t most, Leaving* leaving) {
        while (count > 0 && bytes > most) leaving->add(remove(0));
    }

    bool wants(size_t block_bytes, uint64_t born) const { return block_bytes <= most_bytes && born == forks; }
};

// Never destroyed: the last arrays may be freed while the process exits. Made when the module is loaded, with its handlers.
alignas(Kept) unsigned char storage[sizeof(Kept)];
Kept& kept = *[] {
#ifndef _WIN32
    // No other thread is inside when a process forks, so that the child can go on. Nothing is kept across a fork: neither
    // process would use the pages before they are copied for it.
    pthread_atfork(
        [] {
            kept.mutex.lock();
            ++kept.forks;
            Leaving leaving;
            kept.remove_beyond(0, &leaving);
        },
        [] { kept.mutex.unlock(); }, [] { kept.mutex.unlock(); });
#endif
    return new (storage) Kept;
}();

// A kept block of at least so many bytes, and of at most twice as many: the smallest, and of such the one freed last.
Block take(size_t bytes) {
    Leaving leaving;
    Block found = {nullptr, 0};
    uint64_t forks;
    {
        std::lock_guard<std::mutex> lock(kept.mutex);
        int best = -1;
        for (int i = 0; i < kept.count; ++i) {
            const size_t size = kept.blocks[i].bytes;
            if (size >= bytes && size / 2 <= bytes && (best < 0 || size <= kept.blocks[best].bytes)) best = i;
        }
        if (best >= 0) found = kept.remove(best);
        for (int i = kept.count - 1; i >= 0; --i)
            if (++kept.passes[i] >= MOST_PASSES) leaving.add(kept.remove(i));
        forks = kept.forks;
    }
    if (found.at) *header_of(found) = {found.bytes, forks};
    return found;
}

void give_back_all() {
    Leaving leaving;
    std::lock_guard<std::mutex> lock(kept.mutex);
    kept.remove_beyond(0, &leaving);
}

Block fresh(size_t bytes) {
    bool huge_pages;
    uint64_t forks;
    {
        std::lock_guard<std::mutex> lock(kept.mutex);
        huge_pages = kept.huge_pages;
        forks = kept.forks;
    }
    Block block = map(bytes, huge_pages);
    if (!block.at) {
        give_back_all();
        block = map(bytes, huge_pages);
    }
    if (block.at) *header_of(block) = {bytes, forks};
    return block;
}

void keep(Block block) {
    const uint64_t born = header_of(block)->born;
    Leaving leaving;
    {
        std::lock_guard<std::mutex> lock(kept.mutex);
        if (!kept.wants(block.bytes, born)) {
            leaving.add(block);
            return;
        }
    }
    leave_to_system(block);  // before another thread can have it
    std::lock_guard<std::mutex> lock(kept.mutex);
    if (!kept.wants(block.bytes, born)) {
        leaving.add(block);
        return;
    }
    kept.remove_beyond(kept.most_bytes - block.bytes, &leaving);
    if (kept.count == MOST_BLOCKS) leaving.add(kept.remove(0));
    kept.blocks[kept.count] = block;
    kept.passes[kept.count] = 0;
    ++kept.count;
    kept.bytes += block.bytes;
}

// The size of a block for so many bytes of data; 0: there is none.
size_t block_bytes(size_t bytes) {
    if (bytes > PTRDIFF_MAX - 2 * HUGE_PAGE) return 0;
    return (bytes + DATA_OFFSET + LARGEST_PAGE - 1) / LARGEST_PAGE * LARGEST_PAGE;
}

Block block_of(void* at) {
    Header* header = (Header*)((char*)at - DATA_OFFSET);
    return {(char*)header, header->bytes};
}

void* data_of(Block block) { return block.at ? block.at + DATA_OFFSET : nullptr; }

}  // namespace

void celoss_keep_blocks(size_t most_bytes, bool huge_pages) {
    Leaving leaving;
    std::lock_guard<std::mutex> lock(kept.mutex);
    kept.most_bytes = most_bytes;
    kept.huge_pages = huge_pages;
    kept.remove_beyond(most_bytes, &leaving);
}

size_t celoss_most_kept_bytes() {
    std::lock_guard<std::mutex> lock(kept.mutex);
    return kept.most_bytes;
}

size_t celoss_kept_bytes() {
    std::lock_guard<std::mutex> lock(kept.mutex);
    return kept.bytes;
}

void* celoss_kept_malloc(void*, size_t bytes) {
    const size_t size = block_bytes(bytes);
    if (!size) return nullptr;
    Block block = take(size);
    if (!block.at) block = fresh(size);
    return data_of(block);
}

void* celoss_kept_calloc(void*, size_t count, size_t size) {
    if (size && count > PTRDIFF_MAX / size) return nullptr;
    const size_t bytes = block_bytes(count * size);
    return bytes ? data_of(fresh(bytes)) : nullptr;
}

void* celoss_kept_realloc(void* context, void* at, size_t bytes) {
    if (!at) return celoss_kept_malloc(context, bytes);
    const size_t size = block_bytes(bytes);
    if (!size) return nullptr;
    const Block old = block_of(at);
    if (size <= old.bytes) {
        if (size <= old.bytes / 2 && unmap(old.at + size, old.bytes - size)) header_of(old)->bytes = size;
        return at;
    }
    void* moved = celoss_kept_malloc(context, bytes);
    if (!moved) return nullptr;
    memcpy(moved, at, old.bytes - DATA_OFFSET);
    keep(old);
    return moved;
}

void celoss_kept_free(void*, void* at, size_t) {
    if (at) keep(block_of(at));
}
