// What the search for placements may spend, and who is told how far it is.
#ifndef WEIR_PLAN_BUDGET_H
#define WEIR_PLAN_BUDGET_H

#include <weir/plan.h>

typedef struct plan_budget {
    uint64_t rounds;                // placements left beyond the first ones; UINT64_MAX: no limit
    uint64_t deadline_ns;           // of the monotonic clock; 0: none
    weir_plan_progress_fn progress; // may be NULL
    void* progress_context;
    uint64_t peak;   // what `progress` is told: bytes, UINT64_MAX while there is no plan
    uint64_t bound;  // likewise
    bool is_stopped; // the deadline has passed, or `progress` said so
} plan_budget;

// Looks at the clock and tells the caller how far the search is; false when it is to end. Neither
// changes what a search does before that, so that plans repeat whoever watches.
bool plan_budget_goes_on(plan_budget* budget);

// The same without telling: false once the time is over.
bool plan_budget_in_time(plan_budget* budget);

// Returns the time of the monotonic clock at which a limit that counts from now ends; 0 without a
// limit, or with one that no clock reaches.
uint64_t plan_deadline_of(uint64_t time_limit_ns);

#endif
