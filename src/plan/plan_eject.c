#include "plan/plan_eject.h"

#include "plan/plan_cheapest.h"
#include "plan/plan_columns.h"

// Work is counted in items met: the same on every machine, some 40 ns for four of them.

#define WEIGHT_BITS 36     // of the largest weight; the smallest is 1
#define COST_BITS 41       // costs stop rising there, so that sums of 2^21 stay below 2^63
#define COST_PART 4        // of its cost, added to that of what pushes others away
#define LINE_PART 10       // of all the work, for one line
#define FIRST_STEP 20      // part of the way to the target, for the first line
#define STEP_LEAST 128     // part of it for the shortest steps
#define MISSES_MAX 3       // lines in a row that are not met, before it is given up
#define LOOK_WORK 1000000u // between two looks at the budget
#define WORK_SHARE 4       // looks that are counted as one

struct plan_eject {
    const plan_component* component;
    plan_columns columns;
    int64_t* weights; // per item, as the following
    int64_t* paid;    // what it last cost to push others away for it
    plan_company company;
    plan_cheapest cheapest;
    uint32_t* waiting; // a heap, the heaviest first
    uint32_t waiting_count;
    uint64_t line;
    uint64_t work; // done, over all lines
};

// 2^(key - largest) of the largest weight, but for the line between two powers of two.
static int64_t weight_of(int64_t key, int64_t largest) {
    const int64_t one = (int64_t)1 << PLAN_EJECT_KEY_BITS;
    const int64_t exponent = WEIGHT_BITS * one - (largest - key);
    if (exponent <= 0) {
        return 1;
    }
    const int64_t whole = exponent / one;
    const int64_t scaled = one + exponent % one;
    return whole >= PLAN_EJECT_KEY_BITS ? scaled << (whole - PLAN_EJECT_KEY_BITS)
                                        : scaled >> (PLAN_EJECT_KEY_BITS - whole);
}

// The place below the line of the least cost.
static plan_place best_place(plan_eject* eject, uint32_t put) {
    plan_cheapest* cheapest = &eject->cheapest;
    plan_company* company = &eject->company;
    eject->work += plan_columns_meet(&eject->columns, put, company) / WORK_SHARE;
    plan_cheapest_begin(cheapest, eject->component->items[put].size, eject->line);
    for (uint32_t m = 0; m < company->count; ++m) {
        const plan_spot* other = &eject->columns.spots[company->items[m]];
        plan_cheapest_add(cheapest, other->offset, other->top, other->cost);
    }
    plan_cheapest_set_row(cheapest, company->row_count);
    return plan_cheapest_find(cheapest, eject->paid[put] + eject->paid[put] / 2);
}

static bool is_heavier(const plan_eject* eject, uint32_t a, uint32_t b) {
    const int64_t x = eject->weights[a];
    const int64_t y = eject->weights[b];
    return x != y ? x > y : a < b;
}

// Adds an item to those that wait.
static void wait_for(plan_eject* eject, uint32_t item) {
    uint32_t at = eject->waiting_count++;
    while (at > 0 && is_heavier(eject, item, eject->waiting[(at - 1) / 2])) {
        eject->waiting[at] = eject->waiting[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    eject->waiting[at] = item;
}

// Lays an item that waits where it pushes others away at the least cost.
static void push(plan_eject* eject, uint32_t put) {
    const plan_place best = best_place(eject, put);
    const uint64_t top = best.offset + eject->component->items[put].size;
    const plan_cheapest* cheapest = &eject->cheapest;
    for (uint32_t m = 0; m < cheapest->count && best.cost > 0; ++m) {
        if (cheapest->offsets[m] < top && best.offset < cheapest->tops[m]) {
            plan_columns_take(&eject->columns, eject->company.items[m]);
            wait_for(eject, eject->company.items[m]);
        }
    }
    // By a factor: in a few dozen rounds large items of short lives, which weigh next to nothing,
    // can push away what is small and lives long.
    int64_t* cost = &eject->columns.spots[put].cost;
    eject->paid[put] = best.cost > 0 ? best.cost : eject->paid[put];
    if (best.cost > 0 && *cost >> COST_BITS == 0) {
        *cost += *cost / COST_PART + 1;
    }
    plan_columns_lay(&eject->columns, put, best.offset);
}

// Takes the heaviest from those that wait.
static uint32_t next_waiting(plan_eject* eject) {
    const uint32_t heaviest = eject->waiting[0];
    const uint32_t last = eject->waiting[--eject->waiting_count];
    uint32_t at = 0;
    for (uint32_t child = 1; child < eject->waiting_count; child = 2 * at + 1) {
        if (child + 1 < eject->waiting_count &&
            is_heavier(eject, eject->waiting[child + 1], eject->waiting[child])) {
            ++child;
        }
        if (!is_heavier(eject, eject->waiting[child], last)) {
            break;
        }
        eject->waiting[at] = eject->waiting[child];
        at = child;
    }
    eject->waiting[at] = last;
    return heaviest;
}

// Lays everything that waits; false when the work or the budget is spent before.
static bool lay_waiting(plan_eject* eject, uint64_t work_end, plan_budget* budget) {
    uint64_t look_at = eject->work;
    while (eject->waiting_count > 0) {
        if (eject->work >= look_at) {
            look_at = eject->work + LOOK_WORK;
            if (!plan_budget_goes_on(budget)) {
                return false;
            }
        }
        if (eject->work >= work_end) {
            return false;
        }
        push(eject, next_waiting(eject));
    }
    return true;
}

// Takes out what ends above the line. The heap grows over the list of it, which is read first.
static void take_high(plan_eject* eject) {
    const uint32_t count = plan_columns_take_above(&eject->columns, eject->line, eject->waiting);
    for (uint32_t w = 0; w < count; ++w) {
        wait_for(eject, eject->waiting[w]);
    }
}

// Puts all below the lowest line that was met.
static void go_back(plan_eject* eject) {
    plan_columns_go_back(&eject->columns);
    eject->waiting_count = 0;
}

// Brings all below lines ever lower. Costs stay from line to line, also where one was not met: what
// was hard to lay once is so again, and a line that cost all its work often makes the next ones
// cheap.
static void draw_lines(plan_eject* eject, uint64_t target, uint64_t peak, uint64_t work,
                       plan_budget* budget) {
    const uint64_t least = (peak - target) / STEP_LEAST + 1;
    uint64_t step = (peak - target) / FIRST_STEP + 1;
    uint32_t misses = 0;
    while (peak > target && misses < MISSES_MAX && eject->work < work && !budget->is_stopped) {
        const uint64_t line_end = eject->work + work / LINE_PART;
        step = step < peak - target ? step : peak - target;
        eject->line = peak - step;
        take_high(eject);
        if (lay_waiting(eject, line_end < work ? line_end : work, budget)) {
            plan_columns_keep(&eject->columns);
            peak = eject->line;
            misses = 0;
        } else {
            go_back(eject);
            step = step / 2 > least ? step / 2 : least;
            ++misses;
        }
    }
}

uint64_t plan_eject_lower(plan_eject* eject, uint64_t target, uint64_t* work, plan_budget* budget,
                          uint64_t* offsets) {
    uint64_t peak = 0;
    for (uint32_t i = 0; i < eject->component->item_count; ++i) {
        const uint64_t top = eject->columns.spots[i].top;
        peak = top > peak ? top : peak;
        eject->columns.spots[i].cost = eject->weights[i];
        eject->paid[i] = eject->weights[i];
    }
    eject->work = 0;
    draw_lines(eject, target, peak, *work, budget);
    *work -= eject->work < *work ? eject->work : *work;
    go_back(eject);
    peak = 0;
    for (uint32_t i = 0; i < eject->component->item_count; ++i) {
        const uint64_t top = eject->columns.spots[i].top;
        offsets[i] = eject->columns.spots[i].offset;
        peak = top > peak ? top : peak;
    }
    return peak;
}

static void fill_weights(plan_eject* eject, const int64_t* keys) {
    const uint32_t count = eject->component->item_count;
    int64_t largest = keys[0];
    for (uint32_t i = 0; i < count; ++i) {
        largest = keys[i] > largest ? keys[i] : largest;
    }
    for (uint32_t i = 0; i < count; ++i) {
        eject->weights[i] = weight_of(keys[i], largest);
    }
}

// Returns the most items that live together with any one: those born before it ends, less those
// dead when it begins.
static uint32_t most_met(const plan_eject* eject) {
    const plan_columns* columns = &eject->columns;
    uint32_t most = 0;
    for (uint32_t i = 0; i < eject->component->item_count; ++i) {
        const plan_spot* spot = &columns->spots[i];
        const uint32_t met = columns->born_from[spot->end] - columns->dead_from[spot->first + 1];
        most = met > most ? met : most;
    }
    return most;
}

weir_status plan_eject_make(plan_scratch* scratch, const plan_component* component,
                            const int64_t* keys, const uint64_t* offsets, plan_eject** eject) {
    plan_eject* made = NULL;
    WEIR_TRY(scratch_take(scratch, &made, 1));
    made->component = component;
    WEIR_TRY(plan_columns_make(scratch, component, offsets, &made->columns));
    WEIR_TRY(scratch_take(scratch, &made->weights, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->paid, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->waiting, component->item_count));
    const uint32_t most = most_met(made);
    WEIR_TRY(scratch_take(scratch, &made->company.items, (size_t)most + 1));
    WEIR_TRY(plan_cheapest_make(scratch, most, &made->cheapest));
    fill_weights(made, keys);
    *eject = made;
    return WEIR_OK;
}
