// Skyline best fit (Sekiyama et al. 2018): the lowest stretch of the skyline takes, of the items
// that fit between its ends, the one with the largest key; where none fits it is lifted to its
// lower neighbour. One placement of n items takes O(n log n) steps on ordinary inputs, so that it
// can be repeated with other keys, thousands of times for small components.
//
// Any component can be placed: an item with gaps is taken to live in them, and fixed items are the
// ground that everything else lies on. Both waste room, and the list orders do not.
#ifndef WEIR_PLAN_SKYLINE_H
#define WEIR_PLAN_SKYLINE_H

#include "plan/plan_budget.h"
#include "plan/plan_sections.h"

#define PLAN_NO_PEAK UINT64_MAX // of a placement that reaches its limit

typedef struct plan_skyline plan_skyline;

// Errors: WEIR_INFEASIBLE fixed items collide.
WEIR_MUST_USE weir_status plan_skyline_make(plan_scratch* scratch, const plan_instance* instance,
                                            const plan_component* component,
                                            plan_skyline** skyline);

// Where the keys of the next placement are written: one per item, at most PLAN_KEY_MAX away from 0.
// A placement keeps them.
int64_t* plan_skyline_keys(plan_skyline* skyline);

#define PLAN_KEY_MAX ((int64_t)1 << 62)

// Places all items. Returns the peak, or PLAN_NO_PEAK once it is sure to reach `limit` or the
// budget (NULL: none) has stopped; the offsets are then of no use.
uint64_t plan_skyline_place(plan_skyline* skyline, uint64_t limit, plan_budget* budget,
                            uint64_t* offsets);

// After a placement that reached its limit: lists the items that were still waiting and live where
// it did. Had they lain lower, it might not have.
uint32_t plan_skyline_blame(const plan_skyline* skyline, uint32_t* items);

#endif
