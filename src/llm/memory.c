#include "memory.h"

#include <string.h>

weir_status weir_llm_array_new(const weir_allocator* allocator, size_t count, size_t item_size,
                               void** items) {
    size_t byte_size = 0;
    if (__builtin_mul_overflow(count, item_size, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%zu items of %zu bytes pass the address space", count,
                         item_size);
    }
    return weir_alloc(allocator, byte_size, _Alignof(max_align_t), items);
}

weir_status weir_llm_array_grow(const weir_allocator* allocator, size_t item_size, size_t used,
                                size_t count, void** items, size_t* capacity) {
    if (count <= *capacity) {
        return WEIR_OK;
    }
    size_t wanted = 0;
    if (__builtin_mul_overflow(*capacity, 2, &wanted) || wanted < count) {
        wanted = count;
    }
    wanted = wanted < 16 ? 16 : wanted; // lists of a few items grow once
    void* grown = NULL;
    WEIR_TRY(weir_llm_array_new(allocator, wanted, item_size, &grown));
    if (used > 0) {
        memcpy(grown, *items, used * item_size);
    }
    weir_free(allocator, *items, *capacity * item_size, _Alignof(max_align_t));
    *items = grown;
    *capacity = wanted;
    return WEIR_OK;
}
