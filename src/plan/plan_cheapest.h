// The place for an item among others that may be pushed away: of all offsets in a window, where
// what lies in the way costs least.
//
// Most of the others live at one time and so lie in a row, which is given in its order. Those of
// the row that cost more than a limit are walls, and only between walls is there a place that costs
// no more: runs of offsets, of one cost each as far as the row goes. The first limit is 0: all are
// walls then, and what is left are the gaps of the row that are wide enough. Where none of them is
// free, the limit rises until the best place found costs no more than it: no place elsewhere is
// better.
//
//     row     |##wall##|  |c|   |###wall###|##|
//     others                  |--|                 what c and others cost is swept over between
//     places           ^^^^^^^^^^                  two walls alone
#ifndef WEIR_PLAN_CHEAPEST_H
#define WEIR_PLAN_CHEAPEST_H

#include "plan/plan_scratch.h"

#define PLAN_CHEAPEST_CELLS 8192u

// Offsets [first, last], at which what lies in the row costs the same.
typedef struct plan_run {
    uint64_t first;
    uint64_t last;
    int64_t cost;
} plan_run;

typedef struct plan_event {
    uint64_t offset;
    int64_t change; // of the cost
} plan_event;

typedef struct plan_cheapest {
    uint64_t* offsets; // of the row, and then of the others
    uint64_t* tops;
    int64_t* costs; // > 0
    uint32_t row_count;
    uint32_t count;
    uint64_t size;    // of the item
    uint64_t end;     // of the window
    uint64_t highest; // offset for it
    uint32_t shift;   // 2^shift offsets per cell
    plan_run* runs;   // apart, those that may hold the place
    uint32_t run_count;
    plan_event* events;
    plan_event* spare;
    uint64_t wanted[PLAN_CHEAPEST_CELLS / 64]; // bits: cells with offsets of runs
} plan_cheapest;

typedef struct plan_place {
    int64_t cost;  // of what lies in the way
    uint64_t room; // offsets above it that are as free; only of free ones
    uint64_t offset;
} plan_place;

// Takes room for up to `most` others.
WEIR_MUST_USE weir_status plan_cheapest_make(plan_scratch* scratch, uint32_t most,
                                             plan_cheapest* cheapest);

// Begins a search for an item of `size` in [0, end), end >= size.
void plan_cheapest_begin(plan_cheapest* cheapest, uint64_t size, uint64_t end);

// Adds one that lies at [offset, top), in part at least within the window.
static inline void plan_cheapest_add(plan_cheapest* cheapest, uint64_t offset, uint64_t top,
                                     int64_t cost) {
    const uint32_t index = cheapest->count++;
    cheapest->offsets[index] = offset;
    cheapest->tops[index] = top;
    cheapest->costs[index] = cost;
}

// Says that the first `count` of those added have rising offsets and do not overlap.
static inline void plan_cheapest_set_row(plan_cheapest* cheapest, uint32_t count) {
    cheapest->row_count = count;
}

// Finds the place of the least cost; of free ones that with the least room, so that wide gaps stay;
// of equal ones the lowest. A guess at the cost (>= 0), which may be wrong, spares time.
plan_place plan_cheapest_find(plan_cheapest* cheapest, int64_t guess);

#endif
