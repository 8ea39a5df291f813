// An allocator that counts, and fails where a test wants it to.
#ifndef WEIR_TESTS_TESTING_ALLOCATOR_H
#define WEIR_TESTS_TESTING_ALLOCATOR_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <weir/allocator.h>

typedef struct test_allocator {
    atomic_size_t calls;       // allocations asked for
    atomic_size_t live_blocks; // not given back yet
    atomic_size_t live_bytes;  // in these
    atomic_size_t asked_bytes; // in all allocations, failed ones too
    size_t fail_at;            // this call gets nothing, counted from 0; SIZE_MAX: none
} test_allocator;

static inline void* test_allocate(void* context, size_t byte_size, size_t alignment) {
    test_allocator* counter = context;
    void* pointer = NULL;
    atomic_fetch_add(&counter->asked_bytes, byte_size);
    const size_t least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    if (atomic_fetch_add(&counter->calls, 1) == counter->fail_at ||
        posix_memalign(&pointer, least, byte_size) != 0) {
        return NULL;
    }
    atomic_fetch_add(&counter->live_blocks, 1);
    atomic_fetch_add(&counter->live_bytes, byte_size);
    return pointer;
}

static inline void test_release(void* context, void* pointer, size_t byte_size, size_t alignment) {
    test_allocator* counter = context;
    (void)alignment;
    atomic_fetch_sub(&counter->live_blocks, 1);
    atomic_fetch_sub(&counter->live_bytes, byte_size);
    free(pointer);
}

// Zero-initialised but for `fail_at`, a counter never fails.
static inline weir_allocator test_allocator_of(test_allocator* counter) {
    return (weir_allocator){.context = counter, .alloc = test_allocate, .free = test_release};
}

#endif
