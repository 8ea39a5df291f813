// Plans made elsewhere: what a file says is proven before it becomes a plan.
#ifndef WEIR_PLAN_ADOPT_H
#define WEIR_PLAN_ADOPT_H

#include <weir/plan.h>

// What only a planner can know of a plan, and nothing but planning again could check.
typedef struct plan_claims {
    uint64_t lower_bound;
    uint32_t block_bound;
} plan_claims;

// Makes a plan of given entries, one per buffer, once weir_plan_verify has proven them. All figures
// are computed again but for the claims, which may not exceed what the entries need.
//
// Errors: those of weir_plan_verify; WEIR_INFEASIBLE a claim above the plan; WEIR_OUT_OF_RANGE the
//         peaks of all pools sum to more than 2^63 - 1.
WEIR_MUST_USE weir_status weir_plan_adopt(const weir_allocator* allocator,
                                          const weir_plan_problem* problem,
                                          const weir_plan_entry* entries, const plan_claims* claims,
                                          weir_plan** plan);

#endif
