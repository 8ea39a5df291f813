#include "plan/plan_cheapest.h"

#include <string.h>

#define FEW 48           // others: all of them are swept over at once
#define SAMPLE 16        // part of the window that gives the first price
#define CELLS_PER_SIZE 3 // at least so many, unless there would be too many in all
#define DIGIT_BITS 9     // of the sort
#define DIGIT_VALUES (1u << DIGIT_BITS)

weir_status plan_cheapest_make(plan_scratch* scratch, uint32_t most, plan_cheapest* cheapest) {
    WEIR_TRY(scratch_take(scratch, &cheapest->forbidden, (size_t)most + 1));
    WEIR_TRY(scratch_take(scratch, &cheapest->ranges, (size_t)most + 1));
    WEIR_TRY(scratch_take(scratch, &cheapest->events, 2 * (size_t)most));
    return scratch_take(scratch, &cheapest->spare, 2 * (size_t)most);
}

void plan_cheapest_begin(plan_cheapest* cheapest, uint64_t size, uint64_t begin, uint64_t end) {
    cheapest->count = 0;
    cheapest->size = size;
    cheapest->begin = begin;
    cheapest->highest = end - begin - size;
    cheapest->shift = 0;
    while (cheapest->size >> cheapest->shift > CELLS_PER_SIZE ||
           cheapest->highest >> cheapest->shift >= PLAN_CHEAPEST_CELLS - 2) {
        ++cheapest->shift;
    }
    cheapest->cells_end = (uint32_t)(cheapest->highest >> cheapest->shift) + 2;
    memset(cheapest->marked, 0, (cheapest->cells_end / 64 + 1) * sizeof *cheapest->marked);
}

static bool is_better(const plan_place* a, const plan_place* b) {
    if (a->cost != b->cost) {
        return a->cost < b->cost;
    }
    return a->room != b->room ? a->room < b->room : a->offset < b->offset;
}

static uint64_t is_marked(const plan_cheapest* cheapest, uint32_t cell) {
    return cheapest->marked[cell / 64] >> cell % 64 & 1;
}

static void insertion_sort(plan_event* events, uint32_t count) {
    for (uint32_t i = 1; i < count; ++i) {
        const plan_event moved = events[i];
        uint32_t to = i;
        for (; to > 0 && events[to - 1].offset > moved.offset; --to) {
            events[to] = events[to - 1];
        }
        events[to] = moved;
    }
}

static void swap_events(plan_cheapest* cheapest) {
    plan_event* events = cheapest->events;
    cheapest->events = cheapest->spare;
    cheapest->spare = events;
}

// Events up to `last`, least significant digit first. Digits are wider than those of
// plan_sort_pairs, for that makes a pass less.
static void sort_events(plan_cheapest* cheapest, uint32_t count, uint64_t last) {
    if (count <= FEW) {
        insertion_sort(cheapest->events, count);
        return;
    }
    for (unsigned shift = 0; shift < 64 && last >> shift > 0; shift += DIGIT_BITS) {
        uint32_t starts[DIGIT_VALUES + 1] = {0};
        for (uint32_t e = 0; e < count; ++e) {
            ++starts[(cheapest->events[e].offset >> shift) % DIGIT_VALUES + 1];
        }
        for (uint32_t d = 0; d < DIGIT_VALUES; ++d) {
            starts[d + 1] += starts[d];
        }
        for (uint32_t e = 0; e < count; ++e) {
            const plan_event* event = &cheapest->events[e];
            cheapest->spare[starts[(event->offset >> shift) % DIGIT_VALUES]++] = *event;
        }
        swap_events(cheapest);
    }
}

// Sweeps over `count` events up to `last`. Returns the best place that is not marked, or `best`
// where none is better.
static plan_place sweep(plan_cheapest* cheapest, uint32_t count, uint64_t last, plan_place best) {
    int64_t cost = 0;
    uint64_t offset = 0;
    sort_events(cheapest, count, last);
    for (uint32_t e = 0;;) {
        for (; e < count && cheapest->events[e].offset <= offset; ++e) {
            cost += cheapest->events[e].change;
        }
        const uint64_t next = e < count ? cheapest->events[e].offset : last + 1;
        if (cost <= best.cost && !is_marked(cheapest, (uint32_t)(offset >> cheapest->shift) + 1)) {
            const plan_place here = {cost, cost == 0 ? next - 1 - offset : 0, offset};
            best = is_better(&here, &best) ? here : best;
        }
        if (e == count) {
            return best;
        }
        offset = next;
    }
}

// Lists where a range begins and, up to `last`, where it ends; returns the number of events then.
static uint32_t add_events(plan_cheapest* cheapest, uint32_t count, uint32_t index, uint64_t last) {
    const plan_range* range = &cheapest->ranges[index];
    const int64_t cost = cheapest->forbidden[index].cost;
    cheapest->events[count] = (plan_event){range->begin, cost};
    cheapest->events[count + 1] = (plan_event){range->end, -cost};
    return count + 1 + (range->end <= last);
}

// The best place up to `last`, with all ranges that begin there.
static plan_place look_below(plan_cheapest* cheapest, uint64_t last) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < cheapest->count; ++i) {
        if (cheapest->ranges[i].begin <= last) {
            count = add_events(cheapest, count, i, last);
        }
    }
    return sweep(cheapest, count, last, (plan_place){.cost = INT64_MAX});
}

// Marks the cells that ranges dearer than `cost` forbid wholly, and those around the window. Nearly
// all are dearer, but not so surely that a branch would be foreseen.
static void mark(plan_cheapest* cheapest, int64_t cost) {
    cheapest->marked[0] |= 1;
    cheapest->marked[cheapest->cells_end / 64] |= (uint64_t)1 << cheapest->cells_end % 64;
    for (uint32_t i = 0; i < cheapest->count; ++i) {
        const plan_forbidden* range = &cheapest->forbidden[i];
        if (range->first >= range->end) {
            continue;
        }
        const uint64_t all = (uint64_t)0 - (range->cost > cost);
        const uint64_t low = all << range->first % 64;
        const uint64_t high = all >> (63 - (range->end - 1) % 64);
        uint32_t word = range->first / 64;
        const uint32_t last = (range->end - 1) / 64;
        if (word == last) {
            cheapest->marked[word] |= low & high;
            continue;
        }
        cheapest->marked[word] |= low;
        for (++word; word < last; ++word) {
            cheapest->marked[word] |= all;
        }
        cheapest->marked[last] |= high;
    }
}

// Lists the events of the ranges that count in cells that are not marked. Of a dear range the cells
// between its ends are marked by itself, so that only those of its ends matter.
static uint32_t list_unmarked(plan_cheapest* cheapest, int64_t cost) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < cheapest->count; ++i) {
        const plan_forbidden* range = &cheapest->forbidden[i];
        if (range->cost <= cost || !is_marked(cheapest, range->first - 1) ||
            !is_marked(cheapest, range->end)) {
            count = add_events(cheapest, count, i, cheapest->highest);
        }
    }
    return count;
}

plan_place plan_cheapest_find(plan_cheapest* cheapest) {
    const bool is_few = cheapest->count <= FEW;
    plan_place best = look_below(cheapest, cheapest->highest / (is_few ? 1 : SAMPLE));
    if (!is_few) {
        best.room = best.cost == 0 ? UINT64_MAX : 0; // it may end with the sample
        mark(cheapest, best.cost);
        best = sweep(cheapest, list_unmarked(cheapest, best.cost), cheapest->highest, best);
    }
    best.offset += cheapest->begin;
    return best;
}
