// Sorted orders of items that stay where they are: an array of their indices.
//
// Heapsort: O(n log n) for every input, as names and offsets come from untrusted files, and no
// memory of its own.
#ifndef WEIR_FORMATS_ORDER_H
#define WEIR_FORMATS_ORDER_H

#include <stddef.h>
#include <stdint.h>

// Compares items[a] with items[b]: < 0, 0, > 0.
typedef int (*weir_order_compare)(const void* items, uint32_t a, uint32_t b);

// Fills `order` with 0 .. count - 1, sorted by `compare`; equal items come in any order.
void weir_order_sort(uint32_t* order, size_t count, weir_order_compare compare, const void* items);

#endif
