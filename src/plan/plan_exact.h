// The exact path: branch and bound on the components of an interval problem, for smaller peaks and
// for proofs that there are none. The canonical order and the sections are those of MiniMalloc
// (Moffitt, ASPLOS 2023); the conclusions drawn at each node go further.
#ifndef WEIR_PLAN_EXACT_H
#define WEIR_PLAN_EXACT_H

#include "plan/plan_sections.h"

#define PLAN_EXACT_ITEMS_MAX 2000               // components with more classes are left as they are
#define PLAN_EXACT_TIME_MIN ((uint64_t)6000000) // ns: a shorter limit is better spent on placements

// What a search may spend. The work bounds it alone when it must repeat to the bit.
typedef struct plan_exact_budget {
    uint64_t work;        // classes and sections looked at, some 10^8 in a second; counts down
    uint64_t deadline_ns; // of the monotonic clock; 0: none
    weir_plan_progress_fn progress; // may be NULL
    void* progress_context;
    uint64_t peak;   // what the progress is told
    uint64_t bound;  // likewise
    uint64_t untold; // work since it was told
    bool stopped;    // the deadline has passed or the caller wants no more
} plan_exact_budget;

// The budget that a problem gives; no work: no exact search.
plan_exact_budget plan_exact_budget_of(const weir_plan_problem* problem);

// Improves the offsets of classes [first, first + count), one pool; `offsets` counts from class 0.
//
// On entry the offsets are a placement of that peak and the bound is proven; on return the peak is
// at most and the bound at least that, and where they meet the placement is proven optimal. Ends as
// soon as the peak is at most `enough` (0: never) or the bound passes it. A partial order, and a
// component too large for the search, are left as they are.
WEIR_MUST_USE weir_status plan_exact_pool(plan_scratch* scratch, const plan_instance* instance,
                                          uint32_t first, uint32_t count, uint64_t enough,
                                          plan_exact_budget* budget, uint64_t* offsets,
                                          uint64_t* peak, uint64_t* bound);

#endif
