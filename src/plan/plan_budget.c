#include "plan/plan_budget.h"

#include "base/clock.h"

// Once stopped, a budget stays so: whoever shares it ends too, without asking again. A caller that
// has said no is not asked a second time.

bool plan_budget_in_time(plan_budget* budget) {
    if (budget->deadline_ns > 0 && !budget->is_stopped) {
        budget->is_stopped = clock_ns() >= budget->deadline_ns;
    }
    return !budget->is_stopped;
}

bool plan_budget_goes_on(plan_budget* budget) {
    if (plan_budget_in_time(budget) && budget->progress) {
        budget->is_stopped =
            !budget->progress(budget->progress_context, budget->peak, budget->bound);
    }
    return !budget->is_stopped;
}

uint64_t plan_deadline_of(uint64_t time_limit_ns) {
    const uint64_t now = clock_ns();
    return time_limit_ns > 0 && time_limit_ns < UINT64_MAX - now ? now + time_limit_ns : 0;
}
