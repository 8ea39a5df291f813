// Most items of a large component may live so shortly that they hold next to no room. Those that
// are small beside what is free around them stand aside: the others are placed as if they were not
// there, and those then find a place with ease.
#ifndef WEIR_PLAN_ASIDE_H
#define WEIR_PLAN_ASIDE_H

#include "plan/plan_sections.h"

// Marks what stands aside in a component without gaps, fixed items and alignments: many items or
// none. Returns in `count` how many.
WEIR_MUST_USE weir_status plan_aside_mark(plan_scratch* scratch, const plan_component* component,
                                          bool* stands_aside, uint32_t* count);

typedef struct plan_kept {
    plan_component component; // what does not stand aside, with the totals and the bound of all
    uint32_t* item_of;        // per item of it: that of the whole component
} plan_kept;

// Makes a component of what does not stand aside.
WEIR_MUST_USE weir_status plan_kept_make(plan_scratch* scratch, const plan_component* component,
                                         const bool* stands_aside, plan_kept* kept);

#endif
