#include "plan/plan_eject.h"

#include "plan/plan_cheapest.h"

// Slots stand for items, by classes of lives and then by birth. A class holds lives of [2^c,
// 2^(c + 1)) sections, so that what meets a stretch of sections was born less than 2^(c + 1) before
// it: one row of slots per class, much of which does meet it. Nothing needs to follow the items as
// they move.
//
// Work is counted in slots met: the same on every machine, some 10 to 15 ns each.

#define CLASSES 32
#define AWAY UINT64_MAX    // offset of a slot that waits
#define WEIGHT_BITS 36     // of the largest weight; the smallest is 1
#define SCAN_PART 8        // looks that cost as much as sorting what is met in
#define COST_BITS 41       // costs stop rising there, so that sums of 2^21 stay below 2^63
#define COST_PART 4        // of its cost, added to that of what pushes others away
#define LINE_PART 10       // of all the work, for one line
#define FIRST_STEP 20      // part of the way to the target, for the first line
#define STEP_LEAST 128     // part of it for the shortest steps
#define MISSES_MAX 3       // lines in a row that are not met, before it is given up
#define LOOK_WORK 1000000u // between two looks at the budget

// What is looked at of slots that others meet.
typedef struct spot {
    uint64_t offset; // AWAY: it waits
    uint64_t top;    // 0: it waits
    int64_t cost;    // its weight, and what was added for what it pushed away
} spot;

typedef struct slot {
    uint64_t size;
    int64_t weight;
    uint32_t item;
} slot;

struct plan_eject {
    const plan_component* component;
    slot* slots;
    spot* spots;      // per slot, as the following
    uint32_t* births; // section
    uint32_t* deaths; // one past the last section
    uint64_t* lowest; // offsets below the lowest line met
    uint32_t class_begin[CLASSES + 1];
    uint32_t* met; // slots whose lives meet that of the one to be laid
    uint32_t met_count;
    plan_cheapest cheapest;
    uint32_t* waiting; // a heap, the heaviest first
    uint32_t waiting_count;
    uint64_t line;
    uint64_t work; // done, over all lines
};

static uint32_t class_of(const plan_item* item) {
    return 31 - (uint32_t)__builtin_clz(item->end - item->first);
}

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

// The first slot of [first, end), all of one class, that is born in `section` or later.
static uint32_t born_from(const plan_eject* eject, uint32_t first, uint32_t end, uint32_t section) {
    while (first < end) {
        const uint32_t middle = first + (end - first) / 2;
        if (eject->births[middle] < section) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

// Lists the slots that live together with one, also those that wait.
static void list_living(plan_eject* eject, uint32_t put) {
    const uint32_t birth = eject->births[put];
    const uint32_t* deaths = eject->deaths;
    uint32_t* met = eject->met;
    uint32_t count = 0;
    for (uint32_t c = 0; c < CLASSES; ++c) {
        const uint64_t longest = (uint64_t)2 << c;
        const uint32_t since = birth >= longest ? birth - (uint32_t)longest : 0;
        const uint32_t class_end = eject->class_begin[c + 1];
        const uint32_t from = born_from(eject, eject->class_begin[c], class_end, since);
        const uint32_t to = born_from(eject, from, class_end, eject->deaths[put]);
        for (uint32_t s = from; s < to; ++s) {
            met[count] = s; // there is room for one too many
            count += deaths[s] > birth;
        }
        eject->work += (to - from) / SCAN_PART;
    }
    eject->met_count = count;
}

// Lists those of them that lie below the line.
static void meet(plan_eject* eject, uint32_t put) {
    list_living(eject, put);
    uint32_t kept = 0;
    for (uint32_t m = 0; m < eject->met_count; ++m) {
        const uint32_t index = eject->met[m];
        eject->met[kept] = index;
        kept += eject->spots[index].offset < eject->line;
    }
    eject->met_count = kept;
    eject->work += kept;
}

// The place below the line, which is above it, of the least cost.
static plan_place best_place(plan_eject* eject, uint32_t put) {
    plan_cheapest* cheapest = &eject->cheapest;
    meet(eject, put);
    plan_cheapest_begin(cheapest, eject->slots[put].size, 0, eject->line);
    for (uint32_t m = 0; m < eject->met_count; ++m) {
        const spot* other = &eject->spots[eject->met[m]];
        plan_cheapest_add(cheapest, other->offset, other->top, other->cost);
    }
    return plan_cheapest_find(cheapest);
}

static bool is_heavier(const plan_eject* eject, uint32_t a, uint32_t b) {
    const int64_t x = eject->slots[a].weight;
    const int64_t y = eject->slots[b].weight;
    return x != y ? x > y : a < b;
}

static void lay(plan_eject* eject, uint32_t index, uint64_t offset) {
    eject->spots[index].offset = offset;
    eject->spots[index].top = offset + eject->slots[index].size;
}

static void take_out(plan_eject* eject, uint32_t index) {
    uint32_t at = eject->waiting_count++;
    eject->spots[index].offset = AWAY;
    eject->spots[index].top = 0;
    while (at > 0 && is_heavier(eject, index, eject->waiting[(at - 1) / 2])) {
        eject->waiting[at] = eject->waiting[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    eject->waiting[at] = index;
}

// Lays a slot that waits where it pushes others away at the least cost.
static void push(plan_eject* eject, uint32_t put) {
    const plan_place best = best_place(eject, put);
    const uint64_t top = best.offset + eject->slots[put].size;
    for (uint32_t m = 0; m < eject->met_count && best.cost > 0; ++m) {
        const spot* other = &eject->spots[eject->met[m]];
        if (other->offset < top && best.offset < other->top) {
            take_out(eject, eject->met[m]);
        }
    }
    // By a factor: in a few dozen rounds large items of short lives, which weigh next to nothing,
    // can push away what is small and lives long.
    int64_t* cost = &eject->spots[put].cost;
    if (best.cost > 0 && *cost >> COST_BITS == 0) {
        *cost += *cost / COST_PART + 1;
    }
    lay(eject, put, best.offset);
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

// Takes out what ends above the line.
static void take_high(plan_eject* eject) {
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        if (eject->spots[s].offset != AWAY && eject->spots[s].top > eject->line) {
            take_out(eject, s);
        }
    }
}

// Puts all below the lowest line that was met.
static void go_back(plan_eject* eject) {
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        lay(eject, s, eject->lowest[s]);
    }
    eject->waiting_count = 0;
}

static void remember(plan_eject* eject) {
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        eject->lowest[s] = eject->spots[s].offset;
    }
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
            remember(eject);
            peak = eject->line;
            misses = 0;
        } else {
            go_back(eject);
            step = step / 2 > least ? step / 2 : least;
            ++misses;
        }
    }
}

// Keeps the placement at hand; returns its peak.
static uint64_t keep(const plan_eject* eject, uint64_t* offsets) {
    uint64_t peak = 0;
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        const uint64_t top = eject->spots[s].top;
        offsets[eject->slots[s].item] = eject->spots[s].offset;
        peak = top > peak ? top : peak;
    }
    return peak;
}

uint64_t plan_eject_lower(plan_eject* eject, uint64_t target, uint64_t peak, uint64_t* work,
                          plan_budget* budget, uint64_t* offsets) {
    eject->work = 0;
    eject->waiting_count = 0;
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        lay(eject, s, offsets[eject->slots[s].item]);
        eject->spots[s].cost = eject->slots[s].weight;
    }
    remember(eject);
    draw_lines(eject, target, peak, *work, budget);
    *work -= eject->work < *work ? eject->work : *work;
    go_back(eject);
    return keep(eject, offsets);
}

// Lists the slots by classes, and then by birth, as the items are.
static void fill_slots(plan_eject* eject, const int64_t* keys) {
    const plan_component* component = eject->component;
    uint32_t next[CLASSES];
    int64_t largest = keys[0];
    for (uint32_t i = 0; i < component->item_count; ++i) {
        ++eject->class_begin[class_of(&component->items[i]) + 1];
        largest = keys[i] > largest ? keys[i] : largest;
    }
    for (uint32_t c = 0; c < CLASSES; ++c) {
        next[c] = eject->class_begin[c]; // a sum by now
        eject->class_begin[c + 1] += eject->class_begin[c];
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const uint32_t at = next[class_of(item)]++;
        eject->births[at] = item->first;
        eject->deaths[at] = item->end;
        eject->slots[at] = (slot){item->size, weight_of(keys[i], largest), i};
    }
}

// Counts the most items that live together with any one: those born before it ends, less those dead
// when it begins. `dead` has room for one per section and one more, all 0.
static uint32_t most_met(const plan_component* component, uint32_t* born, uint32_t* dead) {
    for (uint32_t i = 0; i < component->item_count; ++i) {
        ++born[component->items[i].first + 1];
        ++dead[component->items[i].end];
    }
    for (uint32_t s = 0; s < component->section_count; ++s) {
        born[s + 1] += born[s];
        dead[s + 1] += dead[s];
    }
    uint32_t most = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const uint32_t met = born[item->end] - dead[item->first];
        most = met > most ? met : most;
    }
    return most;
}

// Takes what `made` needs only while it is filled.
static weir_status fill(plan_scratch* scratch, plan_eject* made, const int64_t* keys,
                        uint32_t* most) {
    const size_t borders = (size_t)made->component->section_count + 1;
    uint32_t* born = NULL;
    uint32_t* dead = NULL;
    WEIR_TRY(scratch_take(scratch, &born, borders));
    WEIR_TRY(scratch_take(scratch, &dead, borders));
    fill_slots(made, keys);
    *most = most_met(made->component, born, dead);
    return WEIR_OK;
}

weir_status plan_eject_make(plan_scratch* scratch, const plan_component* component,
                            const int64_t* keys, plan_eject** eject) {
    plan_eject* made = NULL;
    uint32_t most = 0;
    WEIR_TRY(scratch_take(scratch, &made, 1));
    made->component = component;
    WEIR_TRY(scratch_take(scratch, &made->slots, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->spots, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->births, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->deaths, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->waiting, component->item_count));
    scratch_block* mark = scratch->last;
    const weir_status status = fill(scratch, made, keys, &most);
    plan_scratch_release(scratch, mark);
    WEIR_TRY(status);
    WEIR_TRY(scratch_take(scratch, &made->lowest, component->item_count));
    WEIR_TRY(scratch_take(scratch, &made->met, (size_t)most + 1));
    WEIR_TRY(plan_cheapest_make(scratch, most, &made->cheapest));
    *eject = made;
    return WEIR_OK;
}
