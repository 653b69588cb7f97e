// kept.h: memory for large results, kept for the next one when it is freed. Knows nothing of Python or of arrays.
//
// The operating system clears each page of fresh memory when it is touched, which may take longer than what is written to it.
// A block that is freed here stays with its pages, for the next that asks for about as much. The system may take its pages
// while it waits (MADV_FREE).
#pragma once

#include <stddef.h>

// Kept at most: so many bytes together while nobody uses them; 0: nothing. What is beyond it now is given back. Whether to ask
// for huge pages.
void celoss_keep_blocks(size_t most_bytes, bool huge_pages);

size_t celoss_most_kept_bytes();
size_t celoss_kept_bytes();  // now

// As malloc, calloc, realloc and free, with the arguments of a NumPy handler of data memory: a context, and the size at the
// end of free, are not looked at. By any thread. On Windows, where nothing is kept, there is no memory to be had here.
void* celoss_kept_malloc(void* context, size_t bytes);
void* celoss_kept_calloc(void* context, size_t count, size_t size);
void* celoss_kept_realloc(void* context, void* at, size_t bytes);
void celoss_kept_free(void* context, void* at, size_t bytes);
