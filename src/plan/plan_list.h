// Placement by a list: items are taken by falling keys, and each gets the lowest or the tightest
// gap between the placed ones that it conflicts with. Knows gaps of lives and fixed items exactly,
// at a cost that grows with the square of the items: for some thousands of them.
#ifndef WEIR_PLAN_LIST_H
#define WEIR_PLAN_LIST_H

#include "plan/plan_skyline.h"

typedef enum plan_fit { PLAN_FIRST_FIT, PLAN_BEST_FIT } plan_fit;

typedef struct plan_list plan_list;

WEIR_MUST_USE weir_status plan_list_make(plan_scratch* scratch, const plan_component* component,
                                         plan_list** list);

// Places all items; equal keys go by item. Returns the peak, or PLAN_NO_PEAK once it is sure to
// reach `limit`; the offsets are then of no use, and `blamed` becomes the item that did reach it,
// or UINT32_MAX where a fixed one did or the budget (NULL: none) has stopped.
uint64_t plan_list_place(plan_list* list, const int64_t* keys, plan_fit fit, uint64_t limit,
                         plan_budget* budget, uint64_t* offsets, uint32_t* blamed);

#endif
