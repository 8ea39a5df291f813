#include <weir/allocator.h>

#include <stdlib.h>

static void* system_alloc(void* context, size_t byte_size, size_t alignment) {
    (void)context;
    if (alignment <= _Alignof(max_align_t)) {
        return malloc(byte_size);
    }
    void* pointer = NULL;
    return posix_memalign(&pointer, alignment, byte_size) == 0 ? pointer : NULL;
}

weir_status weir_alloc(const weir_allocator* allocator, size_t byte_size, size_t alignment,
                       void** pointer) {
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "alignment %zu is not a power of two", alignment);
    }
    const size_t asked = byte_size > 0 ? byte_size : 1;
    void* memory = allocator && allocator->alloc
                       ? allocator->alloc(allocator->context, asked, alignment)
                       : system_alloc(NULL, asked, alignment);
    if (!memory) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate %zu bytes", byte_size);
    }
    *pointer = memory;
    return WEIR_OK;
}

void weir_free(const weir_allocator* allocator, void* pointer, size_t byte_size, size_t alignment) {
    if (!pointer) {
        return;
    }
    if (allocator && allocator->alloc) {
        allocator->free(allocator->context, pointer, byte_size > 0 ? byte_size : 1, alignment);
    } else {
        free(pointer);
    }
}
