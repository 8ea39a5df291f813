// Fixed items: whether they can lie where they are fixed, and the ground that they make.
#ifndef WEIR_PLAN_FIXED_H
#define WEIR_PLAN_FIXED_H

#include "plan/plan_sections.h"

// Writes, per section of a component, the end of the highest fixed item in it.
//
// Errors: WEIR_INFEASIBLE two that conflict are fixed to a shared byte.
WEIR_MUST_USE weir_status plan_fixed_ground(plan_scratch* scratch, const plan_instance* instance,
                                            const plan_component* component, uint64_t* ground);

#endif
