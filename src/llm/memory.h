// Arrays of the language-model library, through the caller's allocator and with checked sizes.
#ifndef WEIR_LLM_MEMORY_H
#define WEIR_LLM_MEMORY_H

#include <weir/allocator.h>

// Allocates room for `count` items of `item_size` bytes, unset; release it with llm_array_free and
// the same count.
WEIR_MUST_USE weir_status weir_llm_array_new(const weir_allocator* allocator, size_t count,
                                             size_t item_size, void** items);

// Grows an array to at least `count` items by doubling; the first `used` items are kept.
WEIR_MUST_USE weir_status weir_llm_array_grow(const weir_allocator* allocator, size_t item_size,
                                              size_t used, size_t count, void** items,
                                              size_t* capacity);

#define llm_array_new(allocator, count, items)                                                     \
    weir_llm_array_new((allocator), (count), sizeof **(items), (void**)(items))
#define llm_array_free(allocator, items, count)                                                    \
    weir_free((allocator), (items), (count) * sizeof *(items), _Alignof(max_align_t))

#endif
