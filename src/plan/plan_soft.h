// Soft conflicts: offsets under a limit such that few weighted pairs share bytes.
#ifndef WEIR_PLAN_SOFT_H
#define WEIR_PLAN_SOFT_H

#include "plan/plan_order.h"

#define PLAN_SOFT_CLASSES_MAX 2048 // with more the offsets stay as they are

// Improves the offsets of classes [first, first + count) of one pool, which are a placement below
// `limit` on entry: less penalty of the problem's pairs, and no byte at or above the limit.
// Placements one class after another first, then rounds that take some classes out and put them
// back where they cost least. `offsets` counts from class 0 of the instance.
WEIR_MUST_USE weir_status plan_soft_place(plan_scratch* scratch, const plan_instance* instance,
                                          const weir_plan_problem* problem, uint32_t first,
                                          uint32_t count, uint64_t limit, plan_budget* budget,
                                          uint64_t* offsets);

#endif
