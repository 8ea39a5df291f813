// The largest total of any range of sections, in constant time: rows of sections, and rows of 1, 2,
// 4, ... of these from each on (Bender and Farach-Colton 2000).
#ifndef WEIR_PLAN_LOAD_H
#define WEIR_PLAN_LOAD_H

#include "plan/plan_sections.h"

#define PLAN_LOAD_ROW 32u
#define PLAN_LOAD_LEVELS 28

typedef struct plan_load {
    const uint64_t* totals;
    uint64_t* most[PLAN_LOAD_LEVELS]; // of 2^level rows, from each one on
} plan_load;

WEIR_MUST_USE weir_status plan_load_make(plan_scratch* scratch, const plan_component* component,
                                         plan_load* load);

// The largest total of sections [first, end), first < end.
uint64_t plan_load_of(const plan_load* load, uint32_t first, uint32_t end);

#endif
