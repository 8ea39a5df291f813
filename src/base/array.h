// Growing arrays of plain values: a struct {items, count, capacity}, filled through these
// functions.
//
//     typedef struct { uint32_t* items; size_t count, capacity; } u32_array;
//     WEIR_TRY(array_reserve(&allocator, &list, list.count + 1));
//     list.items[list.count++] = 7;
#ifndef WEIR_BASE_ARRAY_H
#define WEIR_BASE_ARRAY_H

#include <weir/allocator.h>

// Makes room for `count` items in all; grows by doubling. Keeps the items.
#define array_reserve(allocator, array, count)                                                     \
    weir_array_grow((allocator), (void**)&(array)->items, &(array)->capacity, (count),             \
                    sizeof *(array)->items)

// Releases the items and empties the array.
#define array_free(allocator, array)                                                               \
    do {                                                                                           \
        weir_free((allocator), (array)->items, (array)->capacity * sizeof *(array)->items,         \
                  _Alignof(max_align_t));                                                          \
        (array)->items = NULL;                                                                     \
        (array)->count = (array)->capacity = 0;                                                    \
    } while (0)

WEIR_MUST_USE weir_status weir_array_grow(const weir_allocator* allocator, void** items,
                                          size_t* capacity, size_t count, size_t item_size);

// Allocates one zeroed object; release it with object_free.
#define object_new(allocator, pointer)                                                             \
    weir_alloc_zeroed((allocator), sizeof **(pointer), (void**)(pointer))
#define object_free(allocator, pointer)                                                            \
    weir_free((allocator), (pointer), sizeof *(pointer), _Alignof(max_align_t))

WEIR_MUST_USE weir_status weir_alloc_zeroed(const weir_allocator* allocator, size_t byte_size,
                                            void** pointer);

#endif
