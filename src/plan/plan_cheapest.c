#include "plan/plan_cheapest.h"

#include <string.h>

#define FEW 48       // events: sorted by insertion
#define DIGIT_BITS 9 // of the sort
#define DIGIT_VALUES (1u << DIGIT_BITS)
#define RISE_BITS 6 // of a limit at which no place was found

weir_status plan_cheapest_make(plan_scratch* scratch, uint32_t most, plan_cheapest* cheapest) {
    const size_t room = (size_t)most + 1;
    WEIR_TRY(scratch_take(scratch, &cheapest->offsets, room));
    WEIR_TRY(scratch_take(scratch, &cheapest->tops, room));
    WEIR_TRY(scratch_take(scratch, &cheapest->costs, room));
    WEIR_TRY(scratch_take(scratch, &cheapest->runs, 2 * room));
    WEIR_TRY(scratch_take(scratch, &cheapest->events, 2 * room));
    return scratch_take(scratch, &cheapest->spare, 2 * room);
}

void plan_cheapest_begin(plan_cheapest* cheapest, uint64_t size, uint64_t end) {
    cheapest->row_count = 0;
    cheapest->count = 0;
    cheapest->size = size;
    cheapest->end = end;
    cheapest->highest = end - size;
    cheapest->shift = 0;
    while (cheapest->highest >> cheapest->shift >= PLAN_CHEAPEST_CELLS) {
        ++cheapest->shift;
    }
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

// Marks the cells of offsets [first, last].
static void want(plan_cheapest* cheapest, uint64_t first, uint64_t last) {
    const uint32_t first_cell = (uint32_t)(first >> cheapest->shift);
    const uint32_t last_cell = (uint32_t)(last >> cheapest->shift);
    for (uint32_t cell = first_cell; cell <= last_cell;) {
        const uint32_t bit = cell % 64;
        const uint32_t left = last_cell - cell;
        const uint32_t bits = left >= 63 - bit ? 64 - bit : left + 1;
        cheapest->wanted[cell / 64] |= ~(uint64_t)0 >> (64 - bits) << bit;
        cell += bits;
    }
}

// Whether a cell of offsets [first, last] is marked. Most ranges lie in one word or two.
static bool is_wanted(const plan_cheapest* cheapest, uint64_t first, uint64_t last) {
    const uint32_t first_cell = (uint32_t)(first >> cheapest->shift);
    const uint32_t last_cell = (uint32_t)(last >> cheapest->shift);
    const uint64_t* word = &cheapest->wanted[first_cell / 64];
    const uint64_t* const last_word = &cheapest->wanted[last_cell / 64];
    const uint64_t after = ~(uint64_t)0 << first_cell % 64;
    const uint64_t before = ~(uint64_t)0 >> (63 - last_cell % 64);
    if (word == last_word) {
        return (*word & after & before) != 0;
    }
    uint64_t bits = (*word & after) | (*last_word & before);
    for (++word; word < last_word; ++word) {
        bits |= *word;
    }
    return bits != 0;
}

static void add_run(plan_cheapest* cheapest, uint64_t first, uint64_t last, int64_t cost) {
    cheapest->runs[cheapest->run_count++] = (plan_run){first, last, cost};
    want(cheapest, first, last);
}

// Lists the runs between two walls, where rows [index, index_end) lie; [begin, end) has room.
static void add_runs(plan_cheapest* cheapest, uint64_t begin, uint64_t end, uint32_t index,
                     uint32_t index_end, int64_t limit) {
    const uint64_t size = cheapest->size;
    const uint64_t last = end - size;
    uint32_t leaving = index;
    int64_t cost = 0;
    for (uint64_t offset = begin; offset <= last;) {
        while (index < index_end && cheapest->offsets[index] < offset + size) {
            cost += cheapest->costs[index++];
        }
        for (; leaving < index && cheapest->tops[leaving] <= offset; ++leaving) {
            cost -= cheapest->costs[leaving];
        }
        const uint64_t enters = index < index_end ? cheapest->offsets[index] - size + 1 : last + 1;
        const uint64_t leaves = leaving < index ? cheapest->tops[leaving] : last + 1;
        uint64_t next = enters < leaves ? enters : leaves;
        next = next <= last ? next : last + 1;
        if (cost <= limit) {
            add_run(cheapest, offset, next - 1, cost);
        }
        offset = next;
    }
}

// Lists the runs in which what lies in the row costs no more than the limit.
static void find_runs(plan_cheapest* cheapest, int64_t limit) {
    const size_t words = (size_t)(cheapest->highest >> cheapest->shift) / 64 + 1;
    uint64_t begin = 0;
    uint32_t first = 0;
    cheapest->run_count = 0;
    memset(cheapest->wanted, 0, words * sizeof *cheapest->wanted);
    for (uint32_t i = 0; i < cheapest->row_count; ++i) {
        if (cheapest->costs[i] > limit) {
            if (cheapest->offsets[i] >= begin + cheapest->size) {
                add_runs(cheapest, begin, cheapest->offsets[i], first, i, limit);
            }
            begin = cheapest->tops[i];
            first = i + 1;
        }
    }
    if (cheapest->end >= begin + cheapest->size) {
        add_runs(cheapest, begin, cheapest->end, first, cheapest->row_count, limit);
    }
}

// Lists where others begin and end to cost, of those that do in cells with runs.
static uint32_t list_events(plan_cheapest* cheapest) {
    const uint64_t reach = cheapest->size - 1;
    uint32_t count = 0;
    for (uint32_t i = cheapest->row_count; i < cheapest->count; ++i) {
        const uint64_t offset = cheapest->offsets[i];
        const uint64_t from = offset > reach ? offset - reach : 0;
        const uint64_t to = cheapest->tops[i];
        const uint64_t last = to <= cheapest->highest ? to - 1 : cheapest->highest;
        if (from <= last && is_wanted(cheapest, from, last)) {
            cheapest->events[count++] = (plan_event){from, cheapest->costs[i]};
            cheapest->events[count] = (plan_event){to, -cheapest->costs[i]};
            count += to <= cheapest->highest;
        }
    }
    return count;
}

static void try_place(plan_place* best, int64_t cost, uint64_t offset, uint64_t room) {
    if (cost < best->cost || (cost == 0 && room < best->room)) {
        *best = (plan_place){cost, room, offset};
    }
}

// The best place in the runs.
static plan_place sweep(plan_cheapest* cheapest) {
    plan_place best = {.cost = INT64_MAX};
    const uint32_t count = cheapest->run_count > 0 ? list_events(cheapest) : 0;
    int64_t cost = 0; // of the others
    uint32_t e = 0;
    sort_events(cheapest, count, cheapest->highest);
    const plan_event* events = cheapest->events;
    for (uint32_t r = 0; r < cheapest->run_count; ++r) {
        const plan_run* run = &cheapest->runs[r];
        for (uint64_t offset = run->first; offset <= run->last;) {
            for (; e < count && events[e].offset <= offset; ++e) {
                cost += events[e].change;
            }
            const uint64_t next =
                e < count && events[e].offset <= run->last ? events[e].offset : run->last + 1;
            try_place(&best, run->cost + cost, offset, next - 1 - offset);
            offset = next;
        }
    }
    return best;
}

plan_place plan_cheapest_find(plan_cheapest* cheapest, int64_t guess) {
    find_runs(cheapest, 0);
    plan_place best = sweep(cheapest);
    for (int64_t limit = guess > 0 ? guess : 1; best.cost > 0;) {
        find_runs(cheapest, limit);
        best = sweep(cheapest);
        if (best.cost <= limit) {
            break;
        }
        const int64_t risen = limit < INT64_MAX >> RISE_BITS ? limit << RISE_BITS : INT64_MAX;
        limit = best.cost < INT64_MAX ? best.cost : risen;
    }
    return best;
}
