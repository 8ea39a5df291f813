// The place for an item among others that may be pushed away: of all offsets in a window, where
// what lies in the way costs least.
//
// Each of the others forbids a range of offsets, at a price. A part of the window gives a first
// price. What costs more is then marked in a map of cells, and only the ranges with an end in a
// cell that is not wholly forbidden are sorted and swept over: with cells of half the item's size
// that is a small part of them, for what two dear neighbours forbid overlaps.
//
//     dear       |----------|  |------|
//     cheap                  ||
//     forbidden  |------------|                 the item is 3 wide: beginnings from 2 before
//                          |---------|          a neighbour up to its end
#ifndef WEIR_PLAN_CHEAPEST_H
#define WEIR_PLAN_CHEAPEST_H

#include "plan/plan_scratch.h"

#define PLAN_CHEAPEST_CELLS (1u << 16)

// A range of offsets that one other item forbids.
typedef struct plan_forbidden {
    int64_t cost;   // > 0
    uint32_t first; // cell, of those that it forbids wholly; the range begins in the one before
    uint32_t end;   // the cell in which it ends; one past the last where it ends above the window
} plan_forbidden;

// Its borders, from the beginning of the window.
typedef struct plan_range {
    uint64_t begin;
    uint64_t end;
} plan_range;

typedef struct plan_event {
    uint64_t offset;
    int64_t change; // of the cost
} plan_event;

typedef struct plan_cheapest {
    plan_forbidden* forbidden;
    plan_range* ranges;
    uint32_t count;
    uint64_t size;      // of the item
    uint64_t begin;     // of the window
    uint64_t highest;   // offset, from there
    uint32_t shift;     // 2^shift offsets per cell
    uint32_t cells_end; // cells count from 1
    plan_event* events;
    plan_event* spare;
    uint64_t marked[PLAN_CHEAPEST_CELLS / 64 + 1]; // bits: no offset of the cell can be the best
} plan_cheapest;

typedef struct plan_place {
    int64_t cost;  // of what lies in the way
    uint64_t room; // offsets above it that are as free; only of free ones
    uint64_t offset;
} plan_place;

// Takes room for up to `most` others.
WEIR_MUST_USE weir_status plan_cheapest_make(plan_scratch* scratch, uint32_t most,
                                             plan_cheapest* cheapest);

// Begins a search for an item of `size` in [begin, end), end - begin >= size.
void plan_cheapest_begin(plan_cheapest* cheapest, uint64_t size, uint64_t begin, uint64_t end);

// Adds one that lies at [offset, top), in part at least within the window.
static inline void plan_cheapest_add(plan_cheapest* cheapest, uint64_t offset, uint64_t top,
                                     int64_t cost) {
    const uint64_t reach = cheapest->begin + cheapest->size - 1;
    const uint64_t begin = offset > reach ? offset - reach : 0;
    const uint64_t end = top - cheapest->begin;
    const uint64_t inside = ((uint64_t)1 << cheapest->shift) - 1;
    const uint32_t last =
        end > cheapest->highest ? cheapest->cells_end : (uint32_t)(end >> cheapest->shift) + 1;
    const uint32_t index = cheapest->count;
    cheapest->ranges[index] = (plan_range){begin, end};
    cheapest->forbidden[index] =
        (plan_forbidden){cost, (uint32_t)((begin + inside) >> cheapest->shift) + 1, last};
    cheapest->count += begin <= cheapest->highest;
}

// Finds the place of the least cost; of free ones that with the least room, so that wide gaps stay;
// of equal ones the lowest.
plan_place plan_cheapest_find(plan_cheapest* cheapest);

#endif
