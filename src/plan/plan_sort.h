// Sorting of plain keys in the caller's memory, in linear time.
#ifndef WEIR_PLAN_SORT_H
#define WEIR_PLAN_SORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct plan_pair {
    uint64_t key;
    uint32_t index;
} plan_pair;

// Sorts `pairs` by rising keys; equal keys keep their order. `spare` has room for as many.
void plan_sort_pairs(plan_pair* pairs, plan_pair* spare, size_t count);

// The bits of a time, such that unsigned order is the order of times.
static inline uint64_t plan_time_key(int64_t time) {
    return (uint64_t)time ^ (uint64_t)1 << 63;
}

#endif
