// The conflicts found for one dispatch, to be put in the order of the report.
#ifndef WEIR_HAZARD_CONFLICT_H
#define WEIR_HAZARD_CONFLICT_H

#include <weir/tracker.h>

typedef struct conflict {
    uint32_t earlier; // open access
    uint32_t dispatch;
    uint32_t later; // pending access
    weir_hazard_kind kind;
} conflict;

typedef struct conflict_array {
    conflict* items;
    size_t count;
    size_t capacity;
} conflict_array;

// Sorts by dispatch, kind and accesses, and leaves each conflict once.
void conflict_order(conflict_array* conflicts);

#endif
