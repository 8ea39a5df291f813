#include "plan/plan_intervals.h"

#include <string.h>

#include "plan/plan_aside.h"
#include "plan/plan_eject.h"
#include "plan/plan_exact.h"
#include "plan/plan_fill.h"
#include "plan/plan_list.h"
#include "plan/plan_load.h"
#include "plan/plan_skyline.h"

// Placements follow keys: per item a sum of logarithms, so that a * log(life) + b * log(size)
// orders items by life^a * size^b. All in integers, so that every machine draws the same keys.
//
// A search wants a peak below the best. A placement that fails to give one names the items that
// were too late; their keys rise by random amounts, and the next placement follows ("squeaky
// wheel", Joslin and Clements 1999). After some failures in a row it starts afresh, from the best
// keys or from new weights.

#define LOG_BITS 20                              // of the fraction of a logarithm
#define ONE 256                                  // a weight of 1
#define RAISE_MAX ((int64_t)ONE * 4 << LOG_BITS) // of a key: 4 powers of two
#define NOISE_MAX ((int64_t)ONE * 3 << LOG_BITS >> 2)
#define FRESH_ROUNDS 40 // with new weights, before any failure is learned from
#define PLAIN_ROUNDS 20 // of these without noise
#define FAILURES_MAX 200
#define DEFAULT_ITEMS 65536        // placed by the search, in all, where the problem sets no budget
#define DEFAULT_ITEMS_MANY 1048576 // the same without an exact search: some 1 s
#define DEFAULT_ROUNDS_MAX 256
#define MANY_ITEMS 262144 // with more only the first rules are tried
#define MANY_RULES 4
#define MANY_RULES_EJECT 1 // where ejection goes on from there
#define RULE_BY_LOAD 2
#define EXACT_SHARE 8         // of a time limit the part spent here, where the exact search follows
#define LOOK_ITEMS 16384      // placed by rounds between two reports of progress
#define LIST_ITEMS_MAX 32768  // with more items lists take too long, and
#define LIST_RULES_MAX 2048   // with more only the first ones are placed
#define EJECT_ITEMS_MIN 32768 // of fewer, searches by keys make more of the time
#define EJECT_ITEMS_MAX (1u << 21) // so that no sum of costs overflows
#define EJECT_WORK 96ull           // per item,
#define EJECT_WORK_ASIDE 144ull    // or per item that stands aside, for that makes placements cheap
#define AGAIN_ROUNDS 64            // of the budget, each time that placements are lowered once more
#define EFFORT_MAX 65536u          // times the work, where lowering once more does not help
#define JOIN_WORK 100ull           // per item, to lower what found no place while it stood aside
#define JOIN_ROUNDS 4              // in which that is done

// What a key weighs, in parts of ONE.
typedef struct weights {
    int64_t life;     // in time units
    int64_t sections; // in sections
    int64_t size;
    int64_t load; // the largest total of a section it lives in
    int64_t noise;
} weights;

typedef struct item_logs {
    int32_t life;
    int32_t sections;
    int32_t size;
    int32_t load;
} item_logs;

typedef struct searcher {
    const plan_component* component;
    plan_skyline* skyline;
    plan_list* list; // NULL: the skyline alone
    int64_t* keys;   // the skyline's, and the list's
    item_logs* logs;
    int64_t* best_keys;
    uint32_t* blamed;
    uint32_t blamed_count;
    uint64_t* offsets;      // of the placement at work
    uint64_t* best_offsets; // units
    uint64_t best_peak;     // units
    plan_fit best_fit;      // of the list
    bool is_list;           // the list gave the best placement
    bool may_eject;
    uint32_t all_items; // also those that stand aside
    uint64_t limit;     // no offset may pass it
    uint64_t unit;      // bytes
    uint64_t told_peak; // bytes: of the best
    uint64_t unseen;    // items placed since progress was told
    uint64_t random;
    uint64_t rounds;
    uint32_t failures;
} searcher;

// Close to the logarithm to base 2, and rising as strictly: f * (1.3465 - 0.3465 f) stands for
// log2(1 + f).
static int32_t log_of(uint64_t value) {
    if (value == 0) {
        return 0;
    }
    const int32_t whole = 63 - __builtin_clzll(value);
    const uint64_t fraction = whole == 0 ? 0 : value << (64 - whole) >> 32;
    const uint64_t slope = 1411908 - (363332 * fraction >> 32);
    return (whole << LOG_BITS) + (int32_t)(fraction * slope >> 32);
}

// splitmix64 (Steele et al. 2014).
static uint64_t draw(uint64_t* state) {
    *state += 0x9E3779B97F4A7C15u;
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
}

// Uniform but for the bias of the remainder, which is far below what matters here.
static int64_t draw_between(searcher* search, int64_t low, int64_t high) {
    return low + (int64_t)(draw(&search->random) % (uint64_t)(high - low + 1));
}

static void set_keys(searcher* search, const weights* weight) {
    for (uint32_t i = 0; i < search->component->item_count; ++i) {
        const item_logs* logs = &search->logs[i];
        search->keys[i] = weight->life * logs->life + weight->sections * logs->sections +
                          weight->size * logs->size + weight->load * logs->load;
        if (weight->noise > 0) {
            search->keys[i] += draw_between(search, -weight->noise, weight->noise);
        }
    }
}

// The ranges in which the first rules and what was found by search lie.
static void draw_weights(searcher* search) {
    weights drawn = {.life = draw_between(search, ONE * 3 / 10, ONE * 5 / 2),
                     .size = draw_between(search, ONE * 3 / 10, ONE * 2),
                     .load = draw_between(search, -3 * ONE, 3 * ONE)};
    drawn.load = drawn.load > 0 ? drawn.load : 0;
    if (draw(&search->random) % 2 == 0) {
        drawn.sections = drawn.life;
        drawn.life = 0;
    }
    if (search->rounds >= PLAIN_ROUNDS) {
        drawn.noise = draw_between(search, 0, NOISE_MAX);
    }
    set_keys(search, &drawn);
}

// Places once by the keys at hand. Only what is lower than the best replaces it.
static void place_once(searcher* search, bool is_list, plan_fit fit, plan_budget* budget) {
    const uint64_t limit = search->best_peak < search->limit ? search->best_peak : search->limit;
    uint64_t peak = 0;
    // The first placement is made whatever it takes: there must be a plan.
    budget = search->best_peak == PLAN_NO_PEAK ? NULL : budget;
    if (is_list) {
        peak = plan_list_place(search->list, search->keys, fit, limit, budget, search->offsets,
                               search->blamed);
        search->blamed_count = peak == PLAN_NO_PEAK && search->blamed[0] != UINT32_MAX;
    } else {
        peak = plan_skyline_place(search->skyline, limit, budget, search->offsets);
        search->blamed_count =
            peak == PLAN_NO_PEAK ? plan_skyline_blame(search->skyline, search->blamed) : 0;
    }
    ++search->failures;
    if (peak == PLAN_NO_PEAK) {
        return;
    }
    search->failures = 0;
    search->is_list = is_list;
    search->best_fit = fit;
    search->best_peak = peak;
    search->told_peak = peak * search->unit;
    memcpy(search->best_keys, search->keys, search->component->item_count * sizeof *search->keys);
    memcpy(search->best_offsets, search->offsets,
           search->component->item_count * sizeof *search->offsets);
}

// Whether there is time left. Progress is told once every LOOK_ITEMS items, whatever a placement
// costs; the clock is asked each time.
static bool goes_on(searcher* search, plan_budget* budget) {
    // What others stand aside of is no plan of all.
    budget->peak =
        search->all_items == search->component->item_count ? search->told_peak : budget->peak;
    search->unseen += search->component->item_count;
    if (search->unseen < LOOK_ITEMS) {
        return plan_budget_in_time(budget);
    }
    search->unseen = 0;
    return plan_budget_goes_on(budget);
}

// Whether another rule is to be tried.
static bool is_wanting(searcher* search, uint64_t target, plan_budget* budget) {
    return search->best_peak == PLAN_NO_PEAK ||
           (search->best_peak > target && goes_on(search, budget));
}

static bool may_eject(const plan_component* component) {
    return component->item_count >= EJECT_ITEMS_MIN && component->item_count <= EJECT_ITEMS_MAX &&
           !component->has_gaps && !component->has_fixed && !component->has_alignment;
}

// The first placements: rules that are known to do well.
static void place_by_rules(searcher* search, uint64_t target, plan_budget* budget) {
    static const weights rules[] = {{.life = ONE, .size = ONE},
                                    {.sections = 4 * ONE, .size = ONE},
                                    {.sections = 16 * ONE, .size = ONE, .load = 500 * ONE},
                                    {.life = 4 * ONE, .size = ONE, .load = 125 * ONE},
                                    {.sections = ONE, .size = ONE},
                                    {.sections = 1000 * ONE, .size = ONE},
                                    {.life = ONE, .size = 1000 * ONE}};
    const size_t count = sizeof rules / sizeof *rules;
    const uint32_t items = search->all_items;
    const size_t many = search->may_eject ? MANY_RULES_EJECT : MANY_RULES;
    const size_t used = items > MANY_ITEMS ? many : count;
    // Of few any rule may meet the bound, the first ones most often; of many the one by load does
    // best, and whoever has little time gets that.
    const size_t first = items > MANY_ITEMS ? RULE_BY_LOAD : 0;
    for (size_t i = 0; i < used && is_wanting(search, target, budget); ++i) {
        set_keys(search, &rules[(first + i) % count]);
        place_once(search, false, PLAN_FIRST_FIT, budget);
    }
    const size_t lists = !search->list ? 0 : items > LIST_RULES_MAX ? 2 : 2 * count;
    for (size_t i = 0; i < lists && is_wanting(search, target, budget); ++i) {
        set_keys(search, &rules[count - 1 - i / 2]);
        place_once(search, true, i % 2 == 0 ? PLAN_FIRST_FIT : PLAN_BEST_FIT, budget);
    }
}

// Lowers the best placement by ejection. What is large, lives long, and lives where much lives is
// hard to place again: of two items of one size and life, one at nine tenths of the largest total
// weighs 2^-15 of one at the total itself.
static weir_status lower(plan_scratch* scratch, searcher* search, uint64_t target, uint64_t* work,
                         plan_budget* budget) {
    static const weights hardness = {.sections = 2 * ONE, .size = ONE, .load = 100 * ONE};
    const plan_component* component = search->component;
    plan_eject* eject = NULL;
    if (!search->may_eject || search->best_peak == PLAN_NO_PEAK ||
        !is_wanting(search, target, budget)) {
        return WEIR_OK;
    }
    scratch_block* mark = scratch->last;
    set_keys(search, &hardness);
    weir_status status =
        plan_eject_make(scratch, component, search->keys, search->best_offsets, &eject);
    if (status == WEIR_OK) {
        search->best_peak = plan_eject_lower(eject, target, work, budget, search->best_offsets);
        search->told_peak = search->best_peak * search->unit;
    }
    plan_scratch_release(scratch, mark);
    return status;
}

// Whatever was still waiting where the limit was reached should have been placed before.
static void raise_blamed(searcher* search) {
    for (uint32_t i = 0; i < search->blamed_count; ++i) {
        search->keys[search->blamed[i]] += draw_between(search, 0, RAISE_MAX);
    }
    if (search->blamed_count == 0) {
        // It was the best: any step may lead on from it.
        const uint64_t any = draw(&search->random) % search->component->item_count;
        search->keys[any] += draw_between(search, -RAISE_MAX, RAISE_MAX);
    }
}

// Makes the keys of the next placement of a search.
static void change_keys(searcher* search) {
    const bool is_fresh = search->rounds < FRESH_ROUNDS || search->failures >= FAILURES_MAX;
    if (!is_fresh) {
        raise_blamed(search);
    } else if (search->rounds < FRESH_ROUNDS || search->best_peak == PLAN_NO_PEAK ||
               draw(&search->random) % 4 == 0) {
        draw_weights(search);
    } else {
        memcpy(search->keys, search->best_keys,
               search->component->item_count * sizeof *search->keys);
    }
    search->failures = is_fresh ? 0 : search->failures;
    ++search->rounds;
}

// Spends one round; false when there is none left.
static bool take_round(searcher* search, plan_budget* budget) {
    if (budget->is_stopped || budget->rounds == 0) {
        return false;
    }
    budget->rounds -= budget->rounds != UINT64_MAX;
    return goes_on(search, budget);
}

// Searches until the target is met or the budget is spent.
static void improve(searcher* search, uint64_t target, plan_budget* budget) {
    search->unseen = LOOK_ITEMS; // whoever watches hears of the search at once
    while (search->best_peak > target && take_round(search, budget)) {
        change_keys(search);
        place_once(search, search->is_list, search->best_fit, budget);
    }
}

static weir_status take_logs(plan_scratch* scratch, const plan_instance* instance,
                             searcher* search) {
    const plan_component* component = search->component;
    plan_load load;
    WEIR_TRY(scratch_take(scratch, &search->logs, component->item_count));
    WEIR_TRY(plan_load_make(scratch, component, &load));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        search->logs[i] = (item_logs){.life = log_of(instance->classes[item->index].spread),
                                      .sections = log_of(item->end - item->first),
                                      .size = log_of(item->size),
                                      .load = log_of(plan_load_of(&load, item->first, item->end))};
    }
    return WEIR_OK;
}

static weir_status make_searcher(plan_scratch* scratch, const plan_instance* instance,
                                 const plan_sections* sections, const plan_component* component,
                                 searcher* search) {
    const uint32_t count = component->item_count;
    *search = (searcher){.component = component,
                         .best_peak = PLAN_NO_PEAK,
                         .unit = sections->unit,
                         .told_peak = UINT64_MAX,
                         .limit = PLAN_LIMIT / sections->unit + 1};
    WEIR_TRY(plan_skyline_make(scratch, instance, component, &search->skyline));
    // What the skyline wastes room on, lists do not.
    if ((component->has_gaps || component->has_fixed || component->has_alignment) &&
        count <= LIST_ITEMS_MAX) {
        WEIR_TRY(plan_list_make(scratch, component, &search->list));
    }
    WEIR_TRY(take_logs(scratch, instance, search));
    WEIR_TRY(scratch_take(scratch, &search->best_keys, count));
    WEIR_TRY(scratch_take(scratch, &search->blamed, count));
    WEIR_TRY(scratch_take(scratch, &search->offsets, count));
    WEIR_TRY(scratch_take(scratch, &search->best_offsets, count));
    search->keys = plan_skyline_keys(search->skyline);
    return WEIR_OK;
}

// What placing one component needs and gives.
typedef struct task {
    plan_scratch* scratch;
    const plan_instance* instance;
    const plan_sections* sections;
    const plan_component* component;
    plan_budget* budget;
    bool may_search;
    uint64_t target; // units: a peak that will do
    uint64_t random;
    uint64_t* offsets; // per class, bytes
    uint64_t peak;     // units: of the offsets, and then of better ones
} task;

// Keeps a placement if it is the best. Returns its peak.
static uint64_t keep(task* work, const uint64_t* offsets) {
    const plan_component* component = work->component;
    uint64_t peak = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const uint64_t top = offsets[i] + component->items[i].size;
        peak = top > peak ? top : peak;
    }
    for (uint32_t i = 0; i < component->item_count && peak < work->peak; ++i) {
        work->offsets[component->items[i].index] = offsets[i] * work->sections->unit;
    }
    work->peak = peak < work->peak ? peak : work->peak;
    return peak;
}

static weir_status start_search(task* work, const plan_component* component, searcher* search) {
    WEIR_TRY(make_searcher(work->scratch, work->instance, work->sections, component, search));
    search->random = work->random;
    search->may_eject = may_eject(work->component);
    search->all_items = work->component->item_count;
    return WEIR_OK;
}

static weir_status place_whole(task* work) {
    uint64_t eject_work = EJECT_WORK * work->component->item_count;
    searcher search;
    WEIR_TRY(start_search(work, work->component, &search));
    place_by_rules(&search, work->target, work->budget);
    WEIR_TRY(lower(work->scratch, &search, work->target, &eject_work, work->budget));
    if (work->may_search) {
        improve(&search, work->target, work->budget);
    }
    if (search.best_peak < work->peak) {
        keep(work, search.best_offsets);
    }
    return WEIR_OK;
}

// What stands aside in a component, and the placement of all.
typedef struct beside {
    bool* stands_aside;
    uint64_t* offsets;
    uint64_t peak;
    uint64_t line;   // the peak of what does not stand aside
    uint64_t work;   // left for ejection
    uint32_t left;   // how many of the others lie above the line
    uint32_t effort; // times the work that is spent by default
} beside;

// Places what does not stand aside: anew where nothing is placed, or down to a target.
static weir_status place_kept(task* work, beside* all, uint64_t target) {
    const uint32_t count = work->component->item_count;
    plan_kept kept;
    searcher search;
    WEIR_TRY(plan_kept_make(work->scratch, work->component, all->stands_aside, &kept));
    WEIR_TRY(start_search(work, &kept.component, &search));
    if (all->peak == PLAN_NO_PEAK) {
        place_by_rules(&search, target, work->budget);
    } else {
        search.best_peak = all->peak;
        for (uint32_t i = 0; i < kept.component.item_count; ++i) {
            search.best_offsets[i] = all->offsets[kept.item_of[i]];
        }
    }
    if (search.best_peak == PLAN_NO_PEAK) {
        return WEIR_OK;
    }
    WEIR_TRY(lower(work->scratch, &search, target, &all->work, work->budget));
    all->line = search.best_peak;
    memset(all->offsets, 0xFF, count * sizeof *all->offsets);
    for (uint32_t i = 0; i < kept.component.item_count; ++i) {
        all->offsets[kept.item_of[i]] = search.best_offsets[i];
    }
    return WEIR_OK;
}

// Lays what stands aside below the line, and what finds no place there above it.
static weir_status lay_aside(task* work, beside* all) {
    const uint64_t end = PLAN_LIMIT / work->sections->unit;
    uint32_t none = 0;
    WEIR_TRY(plan_fill_lay(work->scratch, work->component, 0, all->line, all->offsets, &all->left));
    if (all->left > 0) {
        WEIR_TRY(
            plan_fill_lay(work->scratch, work->component, all->line, end, all->offsets, &none));
    }
    if (none > 0) {
        all->left = 0;
        return WEIR_OK;
    }
    for (uint32_t i = 0; i < work->component->item_count; ++i) {
        all->stands_aside[i] = all->stands_aside[i] && all->offsets[i] < all->line;
    }
    all->peak = keep(work, all->offsets);
    work->budget->peak = work->peak * work->sections->unit;
    return WEIR_OK;
}

// Places what does not stand aside, and the rest around it.
static weir_status place_around(task* work, beside* all, uint64_t target) {
    scratch_block* mark = work->scratch->last;
    all->line = PLAN_NO_PEAK;
    all->left = 0;
    const weir_status status = place_kept(work, all, target);
    plan_scratch_release(work->scratch, mark);
    WEIR_TRY(status);
    return all->line == PLAN_NO_PEAK ? WEIR_OK : lay_aside(work, all);
}

// The same; what then finds no place joins the others and is brought below their line, as long as
// it grows less.
static weir_status place_and_join(task* work, beside* all) {
    const uint64_t count = work->component->item_count;
    uint32_t left = UINT32_MAX;
    all->work = EJECT_WORK * count;
    for (uint32_t i = 0; i < count; ++i) {
        all->work += all->stands_aside[i] ? EJECT_WORK_ASIDE - EJECT_WORK : 0;
    }
    all->work *= all->effort;
    WEIR_TRY(place_around(work, all, work->target));
    all->work = JOIN_WORK * count;
    for (uint32_t round = 0;
         round < JOIN_ROUNDS && all->left > 0 && all->left < left && !work->budget->is_stopped;
         ++round) {
        left = all->left;
        WEIR_TRY(place_around(work, all, all->line));
    }
    return WEIR_OK;
}

// Takes what a long search may spend on lowering once more; leaves nothing that is too little.
static bool take_rounds(plan_budget* budget, uint32_t effort) {
    const uint64_t rounds = (uint64_t)AGAIN_ROUNDS * effort;
    if (budget->is_stopped || budget->rounds < rounds) {
        budget->rounds = 0;
        return false;
    }
    budget->rounds -= budget->rounds == UINT64_MAX ? 0 : rounds;
    return plan_budget_goes_on(budget);
}

// Places all but what stands aside, and that around it; then lowers what is best so far. Where that
// does not help, twice the work may.
static weir_status place_beside(task* work, beside* all) {
    WEIR_TRY(scratch_take(work->scratch, &all->offsets, work->component->item_count));
    all->peak = PLAN_NO_PEAK;
    all->effort = 1;
    if (work->peak == PLAN_NO_PEAK) {
        WEIR_TRY(place_and_join(work, all));
    }
    while (work->may_search && work->peak > work->target &&
           take_rounds(work->budget, all->effort)) {
        const uint64_t before = work->peak;
        for (uint32_t i = 0; i < work->component->item_count; ++i) {
            const uint32_t index = work->component->items[i].index;
            all->offsets[i] = work->offsets[index] / work->sections->unit;
        }
        all->peak = before;
        WEIR_TRY(place_and_join(work, all));
        if (work->peak == before && all->effort < EFFORT_MAX) {
            all->effort *= 2;
        }
    }
    return WEIR_OK;
}

// Of fewer buffers further rounds make more than others that stand aside.
static weir_status place_component(task* work) {
    beside all = {0};
    uint32_t count = 0;
    if (work->component->item_count <= MANY_ITEMS || !may_eject(work->component)) {
        return place_whole(work);
    }
    WEIR_TRY(scratch_take(work->scratch, &all.stands_aside, work->component->item_count));
    WEIR_TRY(plan_aside_mark(work->scratch, work->component, all.stands_aside, &count));
    if (count == 0) {
        return place_whole(work);
    }
    return place_beside(work, &all);
}

// Places one component in scratch memory of its own.
static weir_status run_task(task* work, uint32_t component, uint64_t* peak) {
    scratch_block* mark = work->scratch->last;
    work->component = &work->sections->components[component];
    work->peak = *peak;
    work->budget->peak =
        *peak == PLAN_NO_PEAK ? UINT64_MAX : *peak * work->sections->unit; // of this one so far
    const weir_status status = place_component(work);
    plan_scratch_release(work->scratch, mark);
    *peak = work->peak;
    return status;
}

// A component of one item needs no search, and there may be very many of them.
static uint64_t place_single(const task* work, const plan_component* component) {
    const plan_item* item = component->items;
    const uint64_t offset = item->fixed ? item->fixed_offset : 0;
    work->offsets[item->index] = offset * work->sections->unit;
    return offset + item->size;
}

// First placements for all; a component that stands alone is searched at once.
static weir_status place_all(task* work, uint64_t* peaks) {
    for (uint32_t c = 0; c < work->sections->component_count; ++c) {
        const plan_component* component = &work->sections->components[c];
        peaks[c] = PLAN_NO_PEAK;
        if (component->item_count == 1) {
            peaks[c] = place_single(work, component);
        } else {
            WEIR_TRY(run_task(work, c, &peaks[c]));
        }
    }
    return WEIR_OK;
}

// Searches where the peak is, until it is no more or the budget is spent.
static weir_status improve_highest(task* work, uint64_t target, uint64_t* peaks) {
    for (;;) {
        uint32_t highest = 0;
        uint64_t second = 0;
        for (uint32_t c = 1; c < work->sections->component_count; ++c) {
            const bool is_higher = peaks[c] > peaks[highest];
            const uint64_t lower = is_higher ? peaks[highest] : peaks[c];
            second = lower > second ? lower : second;
            highest = is_higher ? c : highest;
        }
        // Down to the next lower component it alone counts; when two are equally high, one step
        // lower is enough to turn to the other.
        const uint64_t before = peaks[highest];
        if (before <= target || work->budget->is_stopped || work->budget->rounds == 0) {
            return WEIR_OK;
        }
        work->target = second > target ? second : target;
        work->target -= work->target == before;
        ++work->random;
        WEIR_TRY(run_task(work, highest, &peaks[highest]));
    }
}

static weir_status place_sections(plan_scratch* scratch, const plan_instance* instance,
                                  const plan_sections* sections, uint64_t goal, plan_budget* budget,
                                  uint64_t* offsets, uint64_t* peak) {
    // Rounded down: a placement of so many units certainly has so few bytes.
    const uint64_t enough = goal / sections->unit;
    const uint64_t target = enough > sections->bound ? enough : sections->bound;
    task work = {.scratch = scratch,
                 .instance = instance,
                 .sections = sections,
                 .budget = budget,
                 .may_search = sections->component_count == 1,
                 .target = target,
                 .random = 2,
                 .offsets = offsets};
    uint64_t* peaks = NULL;
    WEIR_TRY(scratch_take(scratch, &peaks, sections->component_count));
    WEIR_TRY(place_all(&work, peaks));
    work.may_search = true;
    WEIR_TRY(improve_highest(&work, target, peaks));
    uint64_t highest = 0;
    for (uint32_t c = 0; c < sections->component_count; ++c) {
        const plan_component* component = &sections->components[c];
        if (peaks[c] == PLAN_NO_PEAK) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the offsets of %u buffers pass 2^63 - 1",
                             component->item_count);
        }
        for (uint32_t i = 0; i < component->item_count; ++i) {
            const uint32_t index = component->items[i].index;
            const uint64_t end = offsets[index] + instance->classes[index].byte_size;
            highest = end > highest ? end : highest;
        }
    }
    *peak = highest;
    return WEIR_OK;
}

plan_budget plan_budget_of(const weir_plan_problem* problem) {
    const uint64_t count = problem->buffer_count > 0 ? problem->buffer_count : 1;
    plan_budget budget = {.progress = problem->progress,
                          .progress_context = problem->progress_context,
                          .peak = UINT64_MAX};
    if (problem->effort == WEIR_PLAN_PLACE) {
        return budget;
    }
    // Of a few buffers the exact search makes more than further rounds would.
    const uint64_t items = count > PLAN_EXACT_ITEMS_MAX ? DEFAULT_ITEMS_MANY : DEFAULT_ITEMS;
    const uint64_t rounds = items / count;
    budget.rounds = rounds < DEFAULT_ROUNDS_MAX ? rounds : DEFAULT_ROUNDS_MAX;
    if (problem->iterations > 0) {
        budget.rounds = problem->iterations;
    } else if (problem->time_limit_ns > 0) {
        budget.rounds = UINT64_MAX;
    }
    // Where the exact search follows, it makes more of the time.
    const bool is_exact = count <= PLAN_EXACT_ITEMS_MAX && !problem->precedes &&
                          problem->time_limit_ns >= PLAN_EXACT_TIME_MIN;
    const uint64_t share = is_exact ? EXACT_SHARE : 1;
    budget.deadline_ns = plan_deadline_of(problem->time_limit_ns / share);
    return budget;
}

weir_status plan_intervals_pool(plan_scratch* scratch, const plan_instance* instance,
                                uint32_t first, uint32_t count, uint64_t goal, plan_budget* budget,
                                uint64_t* offsets, uint64_t* peak, uint64_t* bound) {
    scratch_block* mark = scratch->last;
    plan_sections sections;
    weir_status status = plan_sections_make(scratch, instance, first, count, &sections);
    if (status == WEIR_OK) {
        *bound = sections.byte_bound;
        budget->bound = sections.byte_bound;
        status = place_sections(scratch, instance, &sections, goal, budget, offsets, peak);
    }
    plan_scratch_release(scratch, mark);
    return status;
}
