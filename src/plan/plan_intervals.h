// The fast path for intervals: placements by several rules, then seeded restarts, until the bound
// is met or the budget is spent.
#ifndef WEIR_PLAN_INTERVALS_H
#define WEIR_PLAN_INTERVALS_H

#include "plan/plan_budget.h"
#include "plan/plan_sections.h"

// The budget that a problem gives, which counts from now.
plan_budget plan_budget_of(const weir_plan_problem* problem);

// Finds offsets for classes [first, first + count), one pool of an instance with spans; `offsets`
// counts from class 0. `goal` is a peak in bytes that will do. The bound is on the peak of any
// placement.
//
// Errors: WEIR_INFEASIBLE fixed classes collide; WEIR_OUT_OF_RANGE no placement found stays below
// 2^63.
WEIR_MUST_USE weir_status plan_intervals_pool(plan_scratch* scratch, const plan_instance* instance,
                                              uint32_t first, uint32_t count, uint64_t goal,
                                              plan_budget* budget, uint64_t* offsets,
                                              uint64_t* peak, uint64_t* bound);

#endif
