#include "base/array.h"

#include <string.h>

weir_status weir_array_grow(const weir_allocator* allocator, void** items, size_t* capacity,
                            size_t count, size_t item_size) {
    if (count <= *capacity) {
        return WEIR_OK;
    }
    size_t wanted = *capacity < 8 ? 8 : *capacity * 2;
    wanted = wanted < count ? count : wanted;
    size_t byte_size = 0;
    if (__builtin_mul_overflow(wanted, item_size, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%zu items of %zu bytes pass the address space",
                         wanted, item_size);
    }
    void* grown = NULL;
    WEIR_TRY(weir_alloc(allocator, byte_size, _Alignof(max_align_t), &grown));
    if (*items) {
        memcpy(grown, *items, *capacity * item_size);
        weir_free(allocator, *items, *capacity * item_size, _Alignof(max_align_t));
    }
    *items = grown;
    *capacity = wanted;
    return WEIR_OK;
}

weir_status weir_alloc_zeroed(const weir_allocator* allocator, size_t byte_size, void** pointer) {
    void* memory = NULL;
    WEIR_TRY(weir_alloc(allocator, byte_size, _Alignof(max_align_t), &memory));
    memset(memory, 0, byte_size);
    *pointer = memory;
    return WEIR_OK;
}
