#include "plan/plan_eject.h"

#include "plan/plan_sort.h"

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
// Work is counted in slots met: the same on every machine, some 10 to 20 ns each.

#define LIVES 32
#define CLASSES (2 * LIVES) // of what stands aside, then of the others
#define AWAY UINT64_MAX     // offset of a slot that waits
#define ASIDE_AREA 64       // part of sizes times lives that short lives may hold to stand aside
#define ASIDE_SIZE 8        // sizes that must be free, at the bound, around what stands aside
#define ASIDE_LOOKS 64 // sections looked at for each item and section, before no more stands aside
#define ASIDE_WINDOWS 16   // parts of the height in which it looks for a free place
#define WEIGHT_BITS 36     // of the largest weight; the smallest is 1
#define SCAN_PART 8        // looks that cost as much as sorting what is met in
#define COST_BITS 41       // costs stop rising there, so that sums of 2^21 stay below 2^63
#define COST_PART 4        // of its cost, added to that of what pushes others away
#define WORK_PER_ITEM 256  // over all lines
#define ATTEMPT_SHARE 4    // part of it for one line
#define LEAST_GAIN 2048    // part of the peak: lines closer than that are not tried
#define LOOK_WORK 1000000u // between two looks at the budget

typedef struct slot {
    uint64_t offset; // AWAY: it waits
    uint64_t size;
    int64_t weight;
    int64_t cost; // its weight, and what was added since the line was drawn
    uint32_t first;
    uint32_t end;
    uint32_t item;
} slot;

struct plan_eject {
    const plan_component* component;
    slot* slots;
    uint32_t class_begin[CLASSES + 1];
    uint32_t first_class; // LIVES while what stands aside does not count
    uint32_t* met;        // slots whose lives meet that of the one to be laid
    uint32_t met_count;
    plan_pair* events; // lowest and highest places that a met slot forbids: index 2 * met + end
    plan_pair* spare;
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
        if (eject->slots[middle].first < section) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

// Lists the slots of classes [first, end) that live together with one and lie in a window.
static void meet(plan_eject* eject, const slot* put, uint32_t first, uint32_t end, window seen) {
    eject->met_count = 0;
    for (uint32_t c = first; c < end; ++c) {
        const uint64_t longest = (uint64_t)2 << c % LIVES;
        const uint32_t since = put->first >= longest ? put->first - (uint32_t)longest : 0;
        const uint32_t class_end = eject->class_begin[c + 1];
        const uint32_t from = born_from(eject, eject->class_begin[c], class_end, since);
        const uint32_t to = born_from(eject, from, class_end, put->end);
        for (uint32_t s = from; s < to; ++s) {
            const slot* other = &eject->slots[s];
            if (other->offset < seen.end && other->end > put->first &&
                other->offset + other->size > seen.begin) {
                eject->met[eject->met_count++] = s;
            }
        }
        eject->work += (to - from) / SCAN_PART;
    }
    eject->work += eject->met_count;
}

// Makes the sorted list of where places that what was met forbids begin and end, up to `highest`.
static uint32_t list_events(plan_eject* eject, const slot* put, uint64_t highest) {
    uint32_t count = 0;
    for (uint32_t m = 0; m < eject->met_count; ++m) {
        const slot* other = &eject->slots[eject->met[m]];
        const uint64_t begin = other->offset >= put->size ? other->offset - put->size + 1 : 0;
        if (begin <= highest) {
            eject->events[count++] = (plan_pair){begin, 2 * m};
            eject->events[count++] = (plan_pair){other->offset + other->size, 2 * m + 1};
        }
    }
    plan_sort_pairs(eject->events, eject->spare, count);
    return count;
}

typedef struct place {
    uint64_t offset;
    uint64_t room; // places above it that cost as much
    int64_t cost;  // of what lies in the way
} place;

// The place in a window, wide enough, of the least cost; of free ones that with the least room, so
// that wide gaps stay.
static place best_place(plan_eject* eject, const slot* put, window seen) {
    meet(eject, put, eject->first_class, CLASSES, seen);
    const uint64_t highest = seen.end - put->size;
    const uint32_t count = list_events(eject, put, highest);
    place best = {.cost = INT64_MAX};
    place here = {.offset = seen.begin};
    for (uint32_t next = 0;;) {
        for (; next < count && eject->events[next].key <= here.offset; ++next) {
            const uint32_t index = eject->events[next].index;
            const int64_t cost = eject->slots[eject->met[index / 2]].cost;
            here.cost += index % 2 == 0 ? cost : -cost;
        }
        const bool is_last = next == count || eject->events[next].key > highest;
        here.room = (is_last ? highest : eject->events[next].key - 1) - here.offset;
        if (here.cost < best.cost || (here.cost == 0 && best.cost == 0 && here.room < best.room)) {
            best = here;
        }
        if (is_last) {
            return best;
        }
        here.offset = eject->events[next].key;
    }
}

static bool is_heavier(const plan_eject* eject, uint32_t a, uint32_t b) {
    const int64_t x = eject->slots[a].weight;
    const int64_t y = eject->slots[b].weight;
    return x != y ? x > y : a < b;
}

static void take_out(plan_eject* eject, uint32_t index) {
    uint32_t at = eject->waiting_count++;
    eject->slots[index].offset = AWAY;
    while (at > 0 && is_heavier(eject, index, eject->waiting[(at - 1) / 2])) {
        eject->waiting[at] = eject->waiting[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    eject->waiting[at] = index;
}

// Lays a slot that waits where it pushes others away at the least cost.
static void push(plan_eject* eject, slot* put) {
    const place best = best_place(eject, put, (window){0, eject->line});
    for (uint32_t m = 0; m < eject->met_count && best.cost > 0; ++m) {
        const slot* other = &eject->slots[eject->met[m]];
        if (other->offset < best.offset + put->size && best.offset < other->offset + other->size) {
            take_out(eject, eject->met[m]);
        }
    }
    // By a factor: in a few dozen rounds large items of short lives, which weigh next to nothing,
    // can push away what is small and lives long.
    if (best.cost > 0 && put->cost >> COST_BITS == 0) {
        put->cost += put->cost / COST_PART + 1;
    }
    put->offset = best.offset;
}

// Lays a slot that stands aside, in the first window that has a free place for it.
static bool slip_in(plan_eject* eject, slot* put) {
    const uint64_t step = eject->line / ASIDE_WINDOWS;
    for (uint64_t w = 0; w < ASIDE_WINDOWS && put->size <= step; ++w) {
        const place best = best_place(eject, put, (window){w * step, (w + 1) * step});
        if (best.cost == 0) {
            put->offset = best.offset;
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
        slot* put = &eject->slots[index];
        const bool is_aside = index < eject->class_begin[LIVES];
        if (!is_aside || !slip_in(eject, put)) {
            push(eject, put);
        }
    }
    return true;
}

// Puts slots where they were; those above the line wait.
static void put_back(plan_eject* eject, uint32_t first, uint32_t end, const uint64_t* offsets) {
    for (uint32_t s = first; s < end; ++s) {
        slot* placed = &eject->slots[s];
        placed->offset = offsets[placed->item];
        placed->cost = placed->weight;
        if (placed->offset + placed->size > eject->line) {
            take_out(eject, s);
        }
    }
}

// Takes out of what stands aside whatever lies where other slots have moved; false when the work is
// spent before.
static bool make_way(plan_eject* eject, uint64_t work_end, const uint64_t* offsets) {
    for (uint32_t s = eject->class_begin[LIVES]; s < eject->component->item_count; ++s) {
        const slot* moved = &eject->slots[s];
        if (eject->work >= work_end) {
            return false;
        }
        if (moved->offset != offsets[moved->item]) {
            meet(eject, moved, 0, LIVES, (window){moved->offset, moved->offset + moved->size});
            for (uint32_t m = 0; m < eject->met_count; ++m) {
                take_out(eject, eject->met[m]);
            }
        }
    }
    return true;
}

// Brings all items below the line; false when the work or the budget is spent before.
static bool attempt(plan_eject* eject, uint64_t line, uint64_t work_end, plan_budget* budget,
                    const uint64_t* offsets) {
    const uint32_t aside = eject->class_begin[LIVES];
    eject->line = line;
    eject->waiting_count = 0;
    put_back(eject, aside, eject->component->item_count, offsets);
    eject->first_class = LIVES;
    if (!lay_waiting(eject, work_end, budget)) {
        return false;
    }
    put_back(eject, 0, aside, offsets);
    eject->first_class = 0;
    return make_way(eject, work_end, offsets) && lay_waiting(eject, work_end, budget);
}

// Keeps the placement at hand; returns its peak.
static uint64_t keep(const plan_eject* eject, uint64_t* offsets) {
    uint64_t peak = 0;
    for (uint32_t s = 0; s < eject->component->item_count; ++s) {
        const slot* placed = &eject->slots[s];
        const uint64_t top = placed->offset + placed->size;
        offsets[placed->item] = placed->offset;
        peak = top > peak ? top : peak;
    }
    return peak;
}

uint64_t plan_eject_lower(plan_eject* eject, uint64_t target, uint64_t peak, plan_budget* budget,
                          uint64_t* offsets) {
    const uint64_t work = (uint64_t)WORK_PER_ITEM * eject->component->item_count;
    eject->work = 0;
    while (peak > target && eject->work < work && !budget->is_stopped) {
        const uint64_t line = target + (peak - target) / 2;
        if (attempt(eject, line, eject->work + work / ATTEMPT_SHARE, budget, offsets)) {
            peak = keep(eject, offsets);
        } else {
            target = line + 1;
        }
        if (peak < target || peak - target < peak / LEAST_GAIN) {
            break;
        }
    }
    return peak;
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
        eject->slots[next[classes[i]]++] = (slot){.size = item->size,
                                                  .weight = weight_of(keys[i], largest),
                                                  .first = item->first,
                                                  .end = item->end,
                                                  .item = i};
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
    WEIR_TRY(scratch_take(scratch, &made->waiting, component->item_count));
    scratch_block* mark = scratch->last;
    const weir_status status = fill(scratch, made, keys, &most);
    plan_scratch_release(scratch, mark);
    WEIR_TRY(status);
    WEIR_TRY(scratch_take(scratch, &made->met, most));
    WEIR_TRY(scratch_take(scratch, &made->events, 2 * (size_t)most));
    WEIR_TRY(scratch_take(scratch, &made->spare, 2 * (size_t)most));
    *eject = made;
    return WEIR_OK;
}
