#include "plan/plan_eject.h"

#include "plan/plan_cheapest.h"

__extension__ typedef unsigned __int128 u128;

// Slots stand for items, by classes of lives and then by birth. A class holds lives of [2^c,
// 2^(c + 1)) sections, so that what meets a stretch of sections was born less than 2^(c + 1) before
// it: one row of slots per class, much of which does meet it. Nothing needs to follow the items as
// they move.
//
// Most items may live so shortly that they hold next to no room. Those that are small beside what
// is free around them stand aside: the others are moved as if they were not there, and those that
// are then in the way find another place with ease. They have classes of their own.
//
// Work is counted in slots met: the same on every machine, some 10 to 15 ns each.

#define LIVES 32
#define CLASSES (2 * LIVES) // of what stands aside, then of the others
#define AWAY UINT64_MAX     // offset of a slot that waits
#define ASIDE_AREA 64       // part of sizes times lives that short lives may hold to stand aside
#define ASIDE_SIZE 16       // sizes that must be free, at the bound, around what stands aside
#define ASIDE_LOOKS 64 // sections looked at for each item and section, before no more stands aside
#define ASIDE_WINDOWS 16   // parts of the height, of which the
#define ASIDE_TRIES 2      // lowest are searched for a free place first
#define WEIGHT_BITS 36     // of the largest weight; the smallest is 1
#define SCAN_PART 8        // looks that cost as much as sorting what is met in
#define COST_BITS 41       // costs stop rising there, so that sums of 2^21 stay below 2^63
#define COST_PART 4        // of its cost, added to that of what pushes others away
#define LINES_WORK 300     // per item, over all lines
#define LINE_WORK 30       // per item, for one line
#define ASIDE_WORK 240     // per item, to lay what stands aside
#define ASIDE_LINES 8      // tried for it, each with so much less work than the first
#define FIRST_STEP 8       // part of the way to the target, for the first line
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
    uint64_t* lowest; // offsets below the lowest line met, of what does not stand aside
    uint32_t class_begin[CLASSES + 1];
    uint32_t first_class; // LIVES while what stands aside does not count
    uint32_t* met;        // slots whose lives meet that of the one to be laid
    uint32_t met_count;
    plan_cheapest cheapest;
    uint32_t* waiting; // a heap, the heaviest first
    uint32_t waiting_count;
    uint64_t line;
    uint64_t work; // done, over all lines
};

// A stretch of bytes, in units.
typedef struct window {
    uint64_t begin;
    uint64_t end;
} window;

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

// Lists the slots of classes [first, end) that live together with one, also those that wait.
static void list_living(plan_eject* eject, uint32_t put, uint32_t first, uint32_t end) {
    const uint32_t birth = eject->births[put];
    const uint32_t* deaths = eject->deaths;
    uint32_t* met = eject->met;
    uint32_t count = 0;
    for (uint32_t c = first; c < end; ++c) {
        const uint64_t longest = (uint64_t)2 << c % LIVES;
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

// Lists those of them that lie in a window.
static void meet(plan_eject* eject, uint32_t put, uint32_t first, uint32_t end, window seen) {
    list_living(eject, put, first, end);
    uint32_t kept = 0;
    for (uint32_t m = 0; m < eject->met_count; ++m) {
        const uint32_t index = eject->met[m];
        const spot* other = &eject->spots[index];
        eject->met[kept] = index;
        kept += other->offset < seen.end && other->top > seen.begin;
    }
    eject->met_count = kept;
    eject->work += kept;
}

// The place in a window, wide enough, of the least cost.
static plan_place best_place(plan_eject* eject, uint32_t put, window seen) {
    plan_cheapest* cheapest = &eject->cheapest;
    meet(eject, put, eject->first_class, CLASSES, seen);
    plan_cheapest_begin(cheapest, eject->slots[put].size, seen.begin, seen.end);
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
    const plan_place best = best_place(eject, put, (window){0, eject->line});
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

// Lays a slot that stands aside, in the first window that has a free place for it.
static bool slip_in(plan_eject* eject, uint32_t put) {
    const uint64_t step = eject->line / ASIDE_WINDOWS;
    for (uint64_t w = 0; w < ASIDE_TRIES && eject->slots[put].size <= step; ++w) {
        const plan_place best = best_place(eject, put, (window){w * step, (w + 1) * step});
        if (best.cost == 0) {
            lay(eject, put, best.offset);
            return true;
        }
    }
    return false;
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
        const uint32_t index = next_waiting(eject);
        const bool is_aside = index < eject->class_begin[LIVES];
        if (!is_aside || !slip_in(eject, index)) {
            push(eject, index);
        }
    }
    return true;
}

// Takes out slots of [first, end) that end above the line.
static void take_high(plan_eject* eject, uint32_t first, uint32_t end) {
    for (uint32_t s = first; s < end; ++s) {
        if (eject->spots[s].offset != AWAY && eject->spots[s].top > eject->line) {
            take_out(eject, s);
        }
    }
}

// Puts all that does not stand aside below the lowest line that was met.
static void go_back(plan_eject* eject) {
    for (uint32_t s = eject->class_begin[LIVES]; s < eject->component->item_count; ++s) {
        lay(eject, s, eject->lowest[s - eject->class_begin[LIVES]]);
    }
    eject->waiting_count = 0;
}

static void remember(plan_eject* eject) {
    for (uint32_t s = eject->class_begin[LIVES]; s < eject->component->item_count; ++s) {
        eject->lowest[s - eject->class_begin[LIVES]] = eject->spots[s].offset;
    }
}

// Brings all that does not stand aside below lines ever lower. Costs stay from line to line, also
// where one was not met: what was hard to lay once is so again, and a line that cost all its work
// often makes the next ones cheap. Returns the lowest line that was met.
static uint64_t draw_lines(plan_eject* eject, uint64_t target, uint64_t peak, plan_budget* budget) {
    const uint64_t count = eject->component->item_count;
    const uint64_t work_end = eject->work + LINES_WORK * count;
    const uint64_t least = (peak - target) / STEP_LEAST + 1;
    uint64_t step = (peak - target) / FIRST_STEP + 1;
    eject->first_class = LIVES;
    uint32_t misses = 0;
    while (peak > target && misses < MISSES_MAX && eject->work < work_end && !budget->is_stopped) {
        const uint64_t line_end = eject->work + LINE_WORK * count;
        step = step < peak - target ? step : peak - target;
        eject->line = peak - step;
        take_high(eject, eject->class_begin[LIVES], eject->component->item_count);
        if (lay_waiting(eject, line_end < work_end ? line_end : work_end, budget)) {
            remember(eject);
            peak = eject->line;
            step += step / 2;
            misses = 0;
        } else {
            go_back(eject);
            step = step / 4 > least ? step / 4 : least;
            ++misses;
        }
    }
    return peak;
}

// Takes out of what stands aside whatever lies where other slots have moved; false when the work is
// spent before.
static bool make_way(plan_eject* eject, uint64_t work_end, const uint64_t* offsets) {
    for (uint32_t s = eject->class_begin[LIVES]; s < eject->component->item_count; ++s) {
        const spot* moved = &eject->spots[s];
        if (eject->work >= work_end) {
            return false;
        }
        if (moved->offset != offsets[eject->slots[s].item]) {
            meet(eject, s, 0, LIVES, (window){moved->offset, moved->top});
            for (uint32_t m = 0; m < eject->met_count; ++m) {
                take_out(eject, eject->met[m]);
            }
        }
    }
    return true;
}

// Lays what stands aside again, below the line that all others have met. Where that takes long, a
// part of what was gained is given up at a time. Returns whether all is laid before the work or the
// budget is spent.
static bool lay_aside(plan_eject* eject, uint64_t line, uint64_t peak, plan_budget* budget,
                      const uint64_t* offsets) {
    const uint32_t aside = eject->class_begin[LIVES];
    const uint64_t share = (uint64_t)ASIDE_WORK * eject->component->item_count;
    uint64_t work_end = eject->work + share;
    eject->line = line;
    eject->first_class = 0;
    go_back(eject);
    take_high(eject, 0, aside);
    if (!make_way(eject, work_end, offsets)) {
        return false;
    }
    for (uint32_t part = 0; part < ASIDE_LINES && !budget->is_stopped; ++part) {
        eject->line = line + (peak - line) / ASIDE_LINES * part;
        if (lay_waiting(eject, work_end, budget)) {
            return true;
        }
        work_end = eject->work + share / ASIDE_LINES;
    }
    return false;
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

uint64_t plan_eject_lower(plan_eject* eject, uint64_t target, uint64_t peak, plan_budget* budget,
                          uint64_t* offsets) {
    eject->work = 0;
    eject->waiting_count = 0;
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        lay(eject, s, offsets[eject->slots[s].item]);
        eject->spots[s].cost = eject->slots[s].weight;
    }
    remember(eject);
    const uint64_t line = draw_lines(eject, target, peak, budget);
    return line < peak && !budget->is_stopped && lay_aside(eject, line, peak, budget, offsets)
               ? keep(eject, offsets)
               : peak;
}

// The first class of lives that is too long to stand aside.
static uint32_t first_long_class(const plan_component* component) {
    u128 areas[LIVES] = {0};
    u128 all = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const u128 area = (u128)item->size * (item->end - item->first);
        areas[class_of(item)] += area;
        all += area;
    }
    uint32_t life = 0;
    u128 sum = areas[0];
    while (life + 1 < LIVES && sum * ASIDE_AREA <= all) {
        sum += areas[++life];
    }
    return life;
}

// `looks` are those that are left for all items.
static bool stands_aside(const plan_component* component, const plan_item* item, uint64_t* looks) {
    for (uint32_t s = item->first; s < item->end; ++s) {
        if (*looks == 0 || (component->bound - component->totals[s]) / ASIDE_SIZE < item->size) {
            return false;
        }
        --*looks;
    }
    return true;
}

// Lists the slots by classes, and then by birth, as the items are. `classes` has room for each.
static void fill_slots(plan_eject* eject, const int64_t* keys, uint8_t* classes) {
    const plan_component* component = eject->component;
    const uint32_t long_class = first_long_class(component);
    uint64_t looks = (uint64_t)ASIDE_LOOKS * (component->item_count + component->section_count);
    uint32_t next[CLASSES];
    int64_t largest = keys[0];
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const uint32_t life = class_of(item);
        const bool is_aside = life < long_class && stands_aside(component, item, &looks);
        classes[i] = (uint8_t)(is_aside ? life : LIVES + life);
        ++eject->class_begin[classes[i] + 1];
        largest = keys[i] > largest ? keys[i] : largest;
    }
    for (uint32_t c = 0; c < CLASSES; ++c) {
        next[c] = eject->class_begin[c]; // a sum by now
        eject->class_begin[c + 1] += eject->class_begin[c];
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const uint32_t at = next[classes[i]]++;
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
    uint8_t* classes = NULL;
    WEIR_TRY(scratch_take(scratch, &born, borders));
    WEIR_TRY(scratch_take(scratch, &dead, borders));
    WEIR_TRY(scratch_take(scratch, &classes, made->component->item_count));
    fill_slots(made, keys, classes);
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
    WEIR_TRY(
        scratch_take(scratch, &made->lowest, component->item_count - made->class_begin[LIVES]));
    WEIR_TRY(scratch_take(scratch, &made->met, (size_t)most + 1));
    WEIR_TRY(plan_cheapest_make(scratch, most, &made->cheapest));
    *eject = made;
    return WEIR_OK;
}
