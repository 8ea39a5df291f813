// Offsets where only conflicts are known: partial orders, and classes spread over blocks.
#ifndef WEIR_PLAN_ORDER_H
#define WEIR_PLAN_ORDER_H

#include "plan/plan_budget.h"
#include "plan/plan_pack.h"

// Finds offsets on the line of blocks of `cap` bytes (0: one without end) for classes
// [first, first + count) of one pool, and the sum of the heights of all blocks: list orders first,
// then changes of the best. Ends as soon as the peak is at most `enough` or at the bound. `offsets`
// counts from class 0 of the instance; `bound` holds a bound on entry (under a cap the best there
// is) and the proven one on return.
//
// Errors: WEIR_INFEASIBLE fixed classes collide, or a class is larger than a block;
// WEIR_OUT_OF_RANGE no order stays below 2^63.
WEIR_MUST_USE weir_status plan_order_place(plan_scratch* scratch, const plan_instance* instance,
                                           uint32_t first, uint32_t count, uint64_t cap,
                                           uint64_t enough, plan_budget* budget, uint64_t* offsets,
                                           uint64_t* peak, uint64_t* bound);

#endif
