#include "hazard/conflict.h"

#define FEW 12

// Pieces of one access compare equal.
static int compare(const conflict* a, const conflict* b) {
    if (a->dispatch != b->dispatch) {
        return a->dispatch < b->dispatch ? -1 : 1;
    }
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    if (a->earlier != b->earlier) {
        return a->earlier < b->earlier ? -1 : 1;
    }
    return a->later < b->later ? -1 : a->later > b->later;
}

static void sift_down(conflict* items, size_t root, size_t count) {
    const conflict moved = items[root];
    for (size_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && compare(&items[child], &items[child + 1]) < 0) {
            ++child;
        }
        if (compare(&moved, &items[child]) >= 0) {
            break;
        }
        items[root] = items[child];
        root = child;
    }
    items[root] = moved;
}

// Insertion for the few that there are as a rule, heapsort for more: qsort may allocate behind the
// back of the allocator.
static void sort(conflict* items, size_t count) {
    if (count <= FEW) {
        for (size_t i = 1; i < count; ++i) {
            const conflict moved = items[i];
            size_t slot = i;
            for (; slot > 0 && compare(&moved, &items[slot - 1]) < 0; --slot) {
                items[slot] = items[slot - 1];
            }
            items[slot] = moved;
        }
        return;
    }
    for (size_t root = count / 2; root-- > 0;) {
        sift_down(items, root, count);
    }
    for (size_t last = count; last-- > 1;) {
        const conflict largest = items[0];
        items[0] = items[last];
        items[last] = largest;
        sift_down(items, 0, last);
    }
}

void conflict_order(conflict_array* conflicts) {
    conflict* items = conflicts->items;
    if (conflicts->count < 2) {
        return;
    }
    sort(items, conflicts->count);
    size_t kept = 1;
    for (size_t i = 1; i < conflicts->count; ++i) {
        if (compare(&items[kept - 1], &items[i]) != 0) {
            items[kept++] = items[i];
        }
    }
    conflicts->count = kept;
}
