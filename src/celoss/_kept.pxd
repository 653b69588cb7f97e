# Kept blocks of memory, as their header says it.
cdef extern from "memory/kept.h" nogil:
    void celoss_keep_blocks(size_t, bint)
    size_t celoss_most_kept_bytes()
    size_t celoss_kept_bytes()
    void* celoss_kept_malloc(void*, size_t) noexcept
    void* celoss_kept_calloc(void*, size_t, size_t) noexcept
    void* celoss_kept_realloc(void*, void*, size_t) noexcept
    void celoss_kept_free(void*, void*, size_t) noexcept
