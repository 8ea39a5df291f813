#include "plan/plan_exact.h"

#include <stdlib.h>
#include <string.h>

#include "plan/plan_budget.h"
#include "plan/plan_exact_parts.h"

// Lowers the peak component by component. Between the proven bound and the best placement known,
// four capacities are tried in turn: the bound itself, which most often can be met; a quarter of
// the way down to it, again as long as that is met; half way, likewise; and one less than the best.
// Each gets as many nodes, in each of three orders, but no more than half of the work that is left:
// low capacities may take all of it and decide nothing. Every decision moves the bound or the best,
// so both hold whenever the budget ends.

#define FIRST_NODES_PER_CLASS 2
#define CHANGES_PER_CLASS 16 // room to begin with

#define ITERATION_WORK 5000                    // some 40 us
#define SEARCH_WORK ((uint64_t)25000000)       // some 0.2 s, where nothing else is said
#define PROOF_WORK ((uint64_t)20000 * 1000000) // some 3 minutes

// What a round takes off keys at random, in 1024ths, at most: an order that goes wrong early would
// go wrong for ever. Without noise a run gets more nodes, for those that are to prove something.
static const uint16_t noises[] = {0, 32, 100, 300};
#define NOISES (sizeof noises / sizeof noises[0])
#define QUIET_NODES 4 // times as many

__extension__ typedef unsigned __int128 wide; // a length times a size

typedef struct rank_key {
    wide first; // falling
    wide second;
    uint32_t index;
} rank_key;

// By length of life and area, like MiniMalloc: by length first; then twice with what lives in the
// fullest section before all, by area first and by length first.
#define ORDERS 3

// One component on its way from the incumbent to the optimum; all in bytes.
typedef struct descent {
    exact_search search;
    rank_key* keys;
    uint64_t* offsets; // per class of the instance
    uint64_t round;
    uint64_t others; // peak of all other components
    uint64_t least;  // no placement has a lower peak: proven, or of no use as another is as high
    uint64_t best;   // peak of `offsets`
} descent;

static int compare_ranks(const void* a, const void* b) {
    const rank_key* x = a;
    const rank_key* y = b;
    if (x->first != y->first) {
        return x->first > y->first ? -1 : 1;
    }
    if (x->second != y->second) {
        return x->second > y->second ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

// Takes up to `noise` 1024ths off a value, by a seed (the finaliser of splitmix64, Steele et al.
// 2014).
static wide blur(wide value, uint64_t noise, uint64_t seed) {
    seed *= 0x9E3779B97F4A7C15u;
    seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9u;
    seed = (seed ^ seed >> 27) * 0x94D049BB133111EBu;
    const uint64_t factor = 1024 - (seed ^ seed >> 31) % (noise + 1);
    return (value >> 10) * factor + ((value & 1023) * factor >> 10);
}

// Large things first: what is placed early is placed low and tightly. Ranks only break ties between
// classes that can be placed at one offset.
static void rank_classes(descent* down, uint32_t order) {
    exact_search* search = &down->search;
    const uint64_t noise = noises[down->round % NOISES];
    for (uint32_t i = 0; i < search->count; ++i) {
        const plan_class* block = &search->instance->classes[search->component->items[i].index];
        const uint64_t seed = ((down->round * ORDERS + order) * search->count + i) * 2;
        wide length = block->spread;
        wide area = length * block->byte_size;
        if (noise > 0) {
            length = blur(length << 10, noise, seed);
            area = blur(area, noise, seed + 1);
        }
        down->keys[i] = order == 1 ? (rank_key){area, length, i} : (rank_key){length, area, i};
    }
    qsort(down->keys, search->count, sizeof *down->keys, compare_ranks);
    for (uint32_t i = 0; i < search->count; ++i) {
        search->rank[down->keys[i].index] = i;
    }
    search->fullest_first = order > 0;
}

static void set_span(uint64_t* row, uint32_t first, uint32_t end) {
    for (uint32_t bit = first; bit < end; ++bit) {
        row_set(row, bit);
    }
}

// Two classes conflict when one section has both.
static void fill_rows(exact_search* search) {
    const plan_component* component = search->component;
    for (uint32_t i = 0; i < search->count; ++i) {
        const plan_item* item = &component->items[i];
        uint64_t* lives = search->lives + (size_t)i * search->section_words;
        if (item->span_count == 1) {
            set_span(lives, item->first, item->end);
        }
        for (uint32_t k = 0; item->span_count > 1 && k < item->span_count; ++k) {
            const plan_span* span = &component->spans[item->first_span + k];
            set_span(lives, span->first, span->end);
        }
        for (uint32_t s = item->first; s < item->end; ++s) {
            if (row_has(lives, s)) {
                row_set(search->members + (size_t)s * search->class_words, i);
            }
        }
    }
    for (uint32_t i = 0; i < search->count; ++i) {
        const uint64_t* lives = search->lives + (size_t)i * search->section_words;
        uint64_t* conflicts = search->conflicts + (size_t)i * search->class_words;
        for (uint32_t s = component->items[i].first; s < component->items[i].end; ++s) {
            const uint64_t* members = search->members + (size_t)s * search->class_words;
            for (uint32_t w = 0; w < search->class_words && row_has(lives, s); ++w) {
                conflicts[w] |= members[w];
            }
        }
        conflicts[i / 64] &= ~((uint64_t)1 << (i % 64));
    }
}

static void fill_classes(exact_search* search) {
    for (uint32_t i = 0; i < search->count; ++i) {
        const plan_item* item = &search->component->items[i];
        search->size[i] = (int64_t)item->size;
        search->align[i] = (int64_t)item->alignment;
        search->witness[i] = i;
    }
    uint32_t next = 0;
    for (uint32_t s = 0; s <= search->section_count; ++s) {
        while (next < search->count && search->component->items[next].first < s) {
            ++next;
        }
        search->born[s] = next;
    }
}

// Rows take (classes + sections) * classes / 8 bytes, some 2.5 MB at the most; all else but the
// changes is linear.
static weir_status take_rows(exact_search* search, plan_scratch* scratch) {
    const size_t count = search->count;
    const size_t sections = search->section_count;
    const size_t words = search->class_words;
    WEIR_TRY(scratch_take(scratch, &search->lives, count * search->section_words));
    WEIR_TRY(scratch_take(scratch, &search->conflicts, count * words));
    WEIR_TRY(scratch_take(scratch, &search->members, sections * words));
    WEIR_TRY(scratch_take(scratch, &search->unplaced, words));
    WEIR_TRY(scratch_take(scratch, &search->tight, words));
    WEIR_TRY(scratch_take(scratch, &search->stale_classes, words));
    return scratch_take(scratch, &search->stale_sections, search->section_words);
}

static weir_status take_search(exact_search* search, plan_scratch* scratch) {
    const size_t count = search->count;
    const size_t borders = (size_t)search->section_count + 1;
    WEIR_TRY(take_rows(search, scratch));
    WEIR_TRY(scratch_take(scratch, &search->size, count));
    WEIR_TRY(scratch_take(scratch, &search->align, count));
    WEIR_TRY(scratch_take(scratch, &search->rest, count));
    WEIR_TRY(scratch_take(scratch, &search->fullness, count));
    WEIR_TRY(scratch_take(scratch, &search->low, count));
    WEIR_TRY(scratch_take(scratch, &search->high, count));
    WEIR_TRY(scratch_take(scratch, &search->placed, count));
    WEIR_TRY(scratch_take(scratch, &search->lows, count));
    WEIR_TRY(scratch_take(scratch, &search->sizes, count));
    WEIR_TRY(scratch_take(scratch, &search->witness, count));
    WEIR_TRY(scratch_take(scratch, &search->rank, count));
    WEIR_TRY(scratch_take(scratch, &search->load, borders));
    WEIR_TRY(scratch_take(scratch, &search->born, borders));
    WEIR_TRY(scratch_take(scratch, &search->crossing, borders));
    WEIR_TRY(scratch_take(scratch, &search->frames, count + 1));
    WEIR_TRY(scratch_take(scratch, &search->parts, count + 2));
    search->change_capacity = count * CHANGES_PER_CLASS;
    WEIR_TRY(scratch_take(scratch, &search->changes, search->change_capacity));
    return exact_table_take(scratch, search->count, &search->table);
}

static weir_status take_descent(descent* down, plan_scratch* scratch, const plan_instance* instance,
                                const plan_sections* sections, const plan_component* component,
                                plan_exact_budget* budget) {
    exact_search* search = &down->search;
    *search = (exact_search){.scratch = scratch,
                             .instance = instance,
                             .component = component,
                             .budget = budget,
                             .count = component->item_count,
                             .section_count = component->section_count,
                             .class_words = (component->item_count + 63) / 64,
                             .section_words = (component->section_count + 63) / 64,
                             .unit = sections->unit,
                             .slack = sections->slack};
    WEIR_TRY(take_search(search, scratch));
    fill_classes(search);
    fill_rows(search);
    return scratch_take(scratch, &down->keys, search->count);
}

static uint64_t peak_of(const plan_instance* instance, const plan_component* component,
                        const uint64_t* offsets) {
    uint64_t peak = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const uint32_t index = component->items[i].index;
        const uint64_t end = offsets[index] + instance->classes[index].byte_size;
        peak = end > peak ? end : peak;
    }
    return peak;
}

// The search met a capacity; its peak may be lower still.
static void keep(descent* down) {
    const exact_search* search = &down->search;
    for (uint32_t i = 0; i < search->count; ++i) {
        down->offsets[search->component->items[i].index] =
            (uint64_t)search->placed[i] * search->unit;
    }
    down->best = peak_of(search->instance, search->component, down->offsets);
}

// Tries one capacity in every order. Failures noted under one order serve the next, and those at
// one capacity all lower ones.
static weir_status probe(descent* down, uint64_t capacity, uint64_t nodes, bool* decided) {
    exact_search* search = &down->search;
    exact_outcome outcome = EXACT_SPENT;
    const uint64_t limit = noises[down->round % NOISES] > 0 ? nodes : nodes * QUIET_NODES;
    for (uint32_t order = 0; order < ORDERS && outcome == EXACT_SPENT; ++order) {
        rank_classes(down, order);
        WEIR_TRY(exact_run(search, capacity, limit, &outcome));
        if (exact_is_spent(search)) {
            break;
        }
    }
    *decided = outcome != EXACT_SPENT;
    if (outcome == EXACT_FOUND) {
        keep(down);
    } else if (outcome == EXACT_IMPOSSIBLE) {
        // Without rounding, every peak is a multiple of the unit.
        down->least =
            search->slack > 0 ? capacity + 1 : (capacity / search->unit + 1) * search->unit;
    }
    return WEIR_OK;
}

static bool has_ended(const descent* down, uint64_t enough) {
    const plan_exact_budget* budget = down->search.budget;
    return down->best <= down->least || down->best <= enough ||
           (enough > 0 && down->least > enough) || budget->stopped || budget->work == 0;
}

// Many short runs in different orders find more than a long one, but a proof may need a long one:
// runs of 2^k times the nodes come every 2^k turns (after Luby et al. 1993).
static uint64_t nodes_of_round(const descent* down) {
    const uint64_t turn = down->round / NOISES + 1;
    return ((uint64_t)down->search.count * FIRST_NODES_PER_CLASS) << __builtin_ctzll(turn);
}

// The same, with half of the work that is left unless it is the only capacity tried.
static weir_status probe_in_part(descent* down, uint64_t capacity, bool is_alone, uint64_t nodes,
                                 bool* decided) {
    plan_exact_budget* budget = down->search.budget;
    const uint64_t held = is_alone ? 0 : budget->work / 2;
    budget->work -= held;
    const weir_status status = probe(down, capacity, nodes, decided);
    budget->work += held;
    return status;
}

// How far above the bound a step of a round tries, of `gap` that is undecided.
static uint64_t part_of(uint64_t gap, int step) {
    return step == 0 ? 0 : step == 1 ? gap - gap / 4 : step == 2 ? gap / 2 : gap;
}

// A capacity is only ever tried between what is proven and what is known, so no outcome is lost on
// values that another has already decided.
static weir_status descend(descent* down, uint64_t enough) {
    while (!has_ended(down, enough)) {
        const uint64_t nodes = nodes_of_round(down);
        for (int step = 0; step < 4 && !has_ended(down, enough); ++step) {
            const uint64_t gap = down->best - 1 - down->least;
            const uint64_t best = down->best;
            bool decided = false;
            if (step > 0 && (gap == 0 || (step < 3 && gap < 4 * down->search.unit))) {
                continue;
            }
            const uint64_t capacity = enough > 0 ? enough : down->least + part_of(gap, step);
            WEIR_TRY(probe_in_part(down, capacity, enough > 0, nodes, &decided));
            down->search.budget->peak = down->best > down->others ? down->best : down->others;
            down->search.budget->bound = down->least;
            if (enough > 0 || (decided && step == 0)) {
                break;
            }
            // What was met is cheap to go on with.
            step -= step < 3 && down->best < best;
        }
        ++down->round;
    }
    return WEIR_OK;
}

// The bounds, sums and alignments in units fit the search's numbers.
static bool is_searchable(const plan_sections* sections, const plan_component* component,
                          uint64_t peak) {
    if (component->item_count > PLAN_EXACT_ITEMS_MAX ||
        component->section_count > 2 * PLAN_EXACT_ITEMS_MAX ||
        peak / sections->unit > EXACT_UNITS_MAX) {
        return false;
    }
    for (uint32_t s = 0; s < component->section_count; ++s) {
        if (component->totals[s] > EXACT_UNITS_MAX) {
            return false;
        }
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        if (component->items[i].alignment > EXACT_UNITS_MAX) {
            return false;
        }
    }
    return true;
}

// Descends in one component, and adds to the bound what that proves. `others` is the peak of all
// other components.
static weir_status improve(plan_scratch* scratch, const plan_instance* instance,
                           const plan_sections* sections, const plan_component* component,
                           uint64_t enough, uint64_t others, plan_exact_budget* budget,
                           uint64_t* offsets, uint64_t* bound) {
    descent down = {.offsets = offsets, .others = others, .least = *bound};
    down.best = peak_of(instance, component, offsets);
    if (!is_searchable(sections, component, down.best)) {
        return WEIR_OK;
    }
    scratch_block* mark = scratch->last;
    weir_status status = take_descent(&down, scratch, instance, sections, component, budget);
    if (status == WEIR_OK) {
        status = descend(&down, enough);
    }
    plan_scratch_release(scratch, mark);
    // What one component needs, all need.
    *bound = down.least > *bound ? down.least : *bound;
    return status;
}

// The highest component decides: once that cannot be lowered, lowering others is of no use.
static weir_status improve_highest(plan_scratch* scratch, const plan_instance* instance,
                                   const plan_sections* sections, uint64_t enough,
                                   plan_exact_budget* budget, uint64_t* offsets, uint64_t* peak,
                                   uint64_t* bound) {
    const uint32_t count = sections->component_count;
    uint64_t* peaks = NULL;
    bool* done = NULL;
    WEIR_TRY(scratch_take(scratch, &peaks, count));
    WEIR_TRY(scratch_take(scratch, &done, count));
    for (uint32_t c = 0; c < count; ++c) {
        peaks[c] = peak_of(instance, &sections->components[c], offsets);
    }
    for (;;) {
        uint32_t top = 0;
        uint64_t others = 0;
        for (uint32_t c = 1; c < count; ++c) {
            const uint32_t lower = peaks[c] > peaks[top] ? top : c;
            others = peaks[lower] > others ? peaks[lower] : others;
            top = peaks[c] > peaks[top] ? c : top;
        }
        *peak = peaks[top];
        if (done[top] || *peak <= *bound || *peak <= enough || (enough > 0 && *bound > enough)) {
            return WEIR_OK;
        }
        WEIR_TRY(improve(scratch, instance, sections, &sections->components[top], enough, others,
                         budget, offsets, bound));
        done[top] = true;
        peaks[top] = peak_of(instance, &sections->components[top], offsets);
    }
}

weir_status plan_exact_pool(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                            uint32_t count, uint64_t enough, plan_exact_budget* budget,
                            uint64_t* offsets, uint64_t* peak, uint64_t* bound) {
    if (instance->precedes || *peak <= *bound || budget->work == 0 || budget->stopped) {
        return WEIR_OK;
    }
    scratch_block* mark = scratch->last;
    plan_sections sections;
    budget->peak = *peak;
    budget->bound = *bound;
    weir_status status = plan_sections_make(scratch, instance, first, count, &sections);
    if (status == WEIR_OK) {
        status =
            improve_highest(scratch, instance, &sections, enough, budget, offsets, peak, bound);
    }
    plan_scratch_release(scratch, mark);
    return status;
}

// A limit in time alone lifts the one in work; both hold where both are given. Without either the
// work ends a search that might never end, at the same point everywhere.
plan_exact_budget plan_exact_budget_of(const weir_plan_problem* problem) {
    const bool prove = problem->effort == WEIR_PLAN_PROVE;
    plan_exact_budget budget = {.work = prove ? PROOF_WORK : SEARCH_WORK,
                                .progress = problem->progress,
                                .progress_context = problem->progress_context};
    if (problem->iterations > 0) {
        budget.work = problem->iterations < UINT64_MAX / ITERATION_WORK
                          ? problem->iterations * ITERATION_WORK
                          : UINT64_MAX;
    } else if (problem->time_limit_ns > 0) {
        budget.work = UINT64_MAX;
    }
    const bool is_short =
        problem->time_limit_ns > 0 && problem->time_limit_ns < PLAN_EXACT_TIME_MIN;
    if (problem->effort == WEIR_PLAN_PLACE || is_short) {
        budget.work = 0;
    }
    budget.deadline_ns = plan_deadline_of(problem->time_limit_ns);
    return budget;
}
