// The host allocator: a plain value given at creation and stored by the object that uses it.
//
// A zero-initialised `weir_allocator` means the C library. Every byte of host memory that weir asks
// for goes through it, with its size and alignment, also on release, so that a caller can count,
// cap, pool or refuse.
//
//     weir_allocator counting = {.context = &counter, .alloc = my_alloc, .free = my_free};
#ifndef WEIR_ALLOCATOR_H
#define WEIR_ALLOCATOR_H

#include <weir/status.h>

WEIR_C_BEGIN

typedef struct weir_allocator {
    void* context; // handed to both functions

    // Returns `byte_size` bytes aligned to `alignment` (a power of two), or NULL.
    void* (*alloc)(void* context, size_t byte_size, size_t alignment);

    // Releases what `alloc` returned, with the same size and alignment. Never called with NULL.
    void (*free)(void* context, void* pointer, size_t byte_size, size_t alignment);
} weir_allocator;

// Allocates through `allocator` (NULL or zero-initialised: the C library); the bytes are not set.
// A size of 0 gives a non-NULL pointer to nothing.
//
// Errors:  WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT alignment not a power of two.
// Threads: as the allocator's functions; the default is thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_alloc(const weir_allocator* allocator, size_t byte_size,
                                              size_t alignment, void** pointer);

// Releases memory from `weir_alloc` with the same allocator, size and alignment; NULL is a no-op.
//
// Threads: as `weir_alloc`.
WEIR_API void weir_free(const weir_allocator* allocator, void* pointer, size_t byte_size,
                        size_t alignment);

WEIR_C_END

#endif
