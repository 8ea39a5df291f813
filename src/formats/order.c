#include "formats/order.h"

// Moves order[root] down until no child in order[0, count) is larger.
static void sift_down(uint32_t* order, size_t root, size_t count, weir_order_compare compare,
                      const void* items) {
    const uint32_t moved = order[root];
    for (size_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && compare(items, order[child], order[child + 1]) < 0) {
            child++;
        }
        if (compare(items, moved, order[child]) >= 0) {
            break;
        }
        order[root] = order[child];
        root = child;
    }
    order[root] = moved;
}

// Builds a heap with the largest item on top, then moves the top behind the shrinking heap.
void weir_order_sort(uint32_t* order, size_t count, weir_order_compare compare, const void* items) {
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t root = count / 2; root > 0; root--) {
        sift_down(order, root - 1, count, compare, items);
    }
    for (size_t end = count; end > 1; end--) {
        const uint32_t largest = order[0];
        order[0] = order[end - 1];
        order[end - 1] = largest;
        sift_down(order, 0, end - 1, compare, items);
    }
}
