#include "plan/plan_order.h"

#include <string.h>

#include "plan/plan_sort.h"

// A few orders that are known to do well, then a search from the best: what stands out over the
// bound is moved before something that it conflicts with, or changes places with it. Pulling down
// the classes at the peak that way mends most plans within some dozen steps.

__extension__ typedef unsigned __int128 wide;

#define STEPS_PER_LOOK 32 // between two reports of progress

typedef enum list_order { BY_SIZE, BY_AREA, BY_SPREAD, BY_BIRTH, LIST_ORDERS } list_order;

typedef struct searcher {
    plan_pack pack;
    plan_pair* pairs;
    plan_pair* spare;
    uint32_t* order; // of the best plan
    uint64_t* offsets;
    uint64_t peak; // PACK_NO_PEAK: none yet
    pack_rule rule;
    uint64_t goal; // peak that ends the search
    uint64_t bound;
    uint64_t random;
    plan_budget* budget;
} searcher;

// Complements make the sort rise where the order falls. Areas past 64 bits are as good as each
// other.
static uint64_t key_of(const plan_class* block, list_order order, bool is_second) {
    const wide area = (wide)block->byte_size * block->spread;
    switch (order) {
    case BY_SIZE:
        return ~(is_second ? block->spread : block->byte_size);
    case BY_AREA:
        return ~(is_second ? block->byte_size : area > UINT64_MAX ? UINT64_MAX : (uint64_t)area);
    case BY_SPREAD:
        return ~(is_second ? block->byte_size : block->spread);
    case BY_BIRTH:
    case LIST_ORDERS:
        break;
    }
    return is_second ? ~block->byte_size : plan_time_key(block->birth);
}

// Sorting is stable, so the second key is sorted by first.
static void sort_order(searcher* search, list_order order) {
    plan_pack* pack = &search->pack;
    const uint32_t count = pack->free_count;
    for (uint32_t i = 0, n = 0; i < pack->count; ++i) {
        if (!pack->instance->classes[pack->first + i].fixed) {
            search->pairs[n++].index = pack->first + i;
        }
    }
    for (int pass = 0; pass < 2; ++pass) {
        for (uint32_t i = 0; i < count; ++i) {
            const uint32_t index = search->pairs[i].index;
            search->pairs[i].key = key_of(&pack->instance->classes[index], order, pass == 0);
        }
        plan_sort_pairs(search->pairs, search->spare, count);
    }
    for (uint32_t i = 0; i < count; ++i) {
        pack->order[i] = search->pairs[i].index;
    }
}

// Order and rule are kept beside the offsets: the search starts from the order, and what comes of
// it is judged under the same rule.
static void keep(searcher* search, uint64_t peak, pack_rule rule) {
    search->peak = peak;
    search->rule = rule;
    memcpy(search->order, search->pack.order, search->pack.count * sizeof *search->order);
    memcpy(search->offsets, search->pack.offsets, search->pack.count * sizeof *search->offsets);
}

// Each order ends as soon as it reaches the best peak so far, so that poor ones cost little.
static void try_list_orders(searcher* search) {
    for (int order = BY_SIZE; order < LIST_ORDERS; ++order) {
        sort_order(search, (list_order)order);
        for (int rule = PACK_FIRST; rule < PACK_RULES; ++rule) {
            // Only under a cap is there more than one height.
            if (rule == PACK_GROWTH && search->pack.cap == 0) {
                continue;
            }
            const uint64_t peak = plan_pack_place(&search->pack, (pack_rule)rule, search->peak);
            if (peak < search->peak) {
                keep(search, peak, (pack_rule)rule);
            }
            if (search->peak <= search->goal ||
                (search->peak != PACK_NO_PEAK && !plan_budget_in_time(search->budget))) {
                return;
            }
        }
    }
}

// A fixed sequence (splitmix64, Steele et al. 2014): the same problem always gives the same plan.
static uint64_t draw(searcher* search, uint64_t below) {
    search->random += 0x9E3779B97F4A7C15u;
    uint64_t mixed = search->random;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return (mixed ^ mixed >> 31) % below;
}

// Bytes by which a class stands out over the goal, on the line.
static uint64_t excess_of(const searcher* search, const uint64_t* offsets, uint32_t index) {
    const plan_pack* pack = &search->pack;
    const uint64_t end = offsets[index - pack->first] + pack->instance->classes[index].byte_size;
    return end > search->goal ? end - search->goal : 0;
}

static wide total_excess(const searcher* search, const uint64_t* offsets) {
    wide bytes = 0;
    for (uint32_t i = 0; i < search->pack.count; ++i) {
        bytes += excess_of(search, offsets, search->pack.first + i);
    }
    return bytes;
}

// Mostly one of those that stand out, each as likely as the next, in one pass (reservoir sampling,
// Vitter 1985); one in eight times any, for what stands out may be kept up by what does not.
static uint32_t choose_class(searcher* search, const uint64_t* offsets) {
    plan_pack* pack = &search->pack;
    uint32_t chosen = (uint32_t)draw(search, pack->free_count);
    if (draw(search, 8) != 0) {
        uint32_t standing_out = 0;
        for (uint32_t i = 0; i < pack->free_count; ++i) {
            if (excess_of(search, offsets, pack->order[i]) > 0 &&
                draw(search, ++standing_out) == 0) {
                chosen = i;
            }
        }
    }
    return chosen;
}

// Changes the order at work in one place: the chosen class goes before one that it conflicts with,
// for only those can give it another offset.
static void perturb(searcher* search, const uint64_t* offsets) {
    uint32_t* order = search->pack.order;
    const uint32_t chosen = choose_class(search, offsets);
    uint32_t before = chosen;
    uint32_t conflicting = 0;
    for (uint32_t i = 0; i < chosen; ++i) {
        if (plan_classes_conflict(search->pack.instance, order[chosen], order[i]) &&
            draw(search, ++conflicting) == 0) {
            before = i;
        }
    }
    const uint32_t moved = order[chosen];
    if (draw(search, 2) == 0) {
        order[chosen] = order[before];
    } else {
        memmove(order + before + 1, order + before, (chosen - before) * sizeof *order);
    }
    order[before] = moved;
}

// The clock is asked at each step, the caller now and then.
static bool goes_on(const searcher* search, uint64_t step) {
    plan_budget* budget = search->budget;
    budget->peak = search->peak;
    budget->bound = search->bound;
    return step % STEPS_PER_LOOK == 0 ? plan_budget_goes_on(budget) : plan_budget_in_time(budget);
}

// A change is kept unless it raises the peak, or what stands out below it.
static weir_status improve(plan_scratch* scratch, searcher* search) {
    plan_pack* pack = &search->pack;
    uint32_t* kept = NULL;
    uint64_t* kept_offsets = NULL;
    WEIR_TRY(scratch_take(scratch, &kept, pack->count));
    WEIR_TRY(scratch_take(scratch, &kept_offsets, pack->count));
    const size_t order_bytes = pack->free_count * sizeof *kept;
    const size_t offset_bytes = pack->count * sizeof *kept_offsets;
    memcpy(kept, search->order, order_bytes);
    memcpy(kept_offsets, search->offsets, offset_bytes);
    wide excess = total_excess(search, kept_offsets);
    uint64_t step = 0;
    for (; step < search->budget->rounds && search->peak > search->goal; ++step) {
        if (!goes_on(search, step)) {
            break;
        }
        memcpy(pack->order, kept, order_bytes);
        perturb(search, kept_offsets);
        const uint64_t peak = plan_pack_place(pack, search->rule, search->peak + 1);
        if (peak == PACK_NO_PEAK) {
            continue;
        }
        const wide got = total_excess(search, pack->offsets);
        if (peak == search->peak && got > excess) {
            continue;
        }
        if (peak < search->peak) {
            keep(search, peak, search->rule);
        }
        excess = got;
        memcpy(kept, pack->order, order_bytes);
        memcpy(kept_offsets, pack->offsets, offset_bytes);
    }
    search->budget->rounds -= step;
    return WEIR_OK;
}

static weir_status run(plan_scratch* scratch, searcher* search, uint64_t enough) {
    plan_pack* pack = &search->pack;
    const plan_instance* instance = pack->instance;
    WEIR_TRY(plan_pack_check_fixed(pack));
    uint64_t quick = search->bound;
    // Of blocks the caller knows the bound.
    const bool find_bound = instance->precedes && pack->cap == 0;
    if (find_bound) {
        WEIR_TRY(plan_bound_quick(scratch, instance, pack->first, pack->count, &quick));
    }
    search->bound = quick > search->bound ? quick : search->bound;
    search->goal = enough > search->bound ? enough : search->bound;
    try_list_orders(search);
    if (search->peak == PACK_NO_PEAK) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the offsets of %u buffers pass 2^63 - 1", pack->count);
    }
    if (find_bound && search->peak > search->bound) {
        uint64_t exact = 0;
        WEIR_TRY(plan_bound(scratch, instance, pack->first, pack->count, &exact));
        search->bound = exact > search->bound ? exact : search->bound;
        search->goal = enough > search->bound ? enough : search->bound;
    }
    return pack->free_count > 1 ? improve(scratch, search) : WEIR_OK;
}

weir_status plan_order_place(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                             uint32_t count, uint64_t cap, uint64_t enough, plan_budget* budget,
                             uint64_t* offsets, uint64_t* peak, uint64_t* bound) {
    scratch_block* mark = scratch->last;
    searcher search = {.offsets = offsets + first,
                       .peak = PACK_NO_PEAK,
                       .bound = *bound,
                       .random = 1,
                       .budget = budget};
    weir_status status = plan_pack_make(scratch, instance, first, count, cap, &search.pack);
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &search.pairs, count);
    }
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &search.spare, count);
    }
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &search.order, count);
    }
    if (status == WEIR_OK) {
        status = run(scratch, &search, enough);
    }
    plan_scratch_release(scratch, mark);
    if (status == WEIR_OK) {
        *peak = search.peak;
        *bound = search.bound;
    }
    return status;
}
