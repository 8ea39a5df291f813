#include "plan/plan_soft.h"

#include <string.h>

#include "base/checked.h"
#include "plan/plan_sort.h"

// A class is put where the pairs that it then shares bytes with weigh least. Between the classes
// that it must keep off, that weight changes only where a class that it should keep off begins or
// ends, and falls only at ends: so gaps begin, and soft neighbours end, at all the places worth
// looking at (the tops of neighbours, after the canonical placements of the dsa-solver project).
// One sweep over the placed classes by begin and by end prices them all. Ruin and recreate
// (Schrimpf et al. 2000) with a falling threshold does the rest.

#define HARD UINT64_MAX // relation of classes that conflict
#define NO_PLACE UINT64_MAX
#define RUIN_MAX 20 // classes taken out in one round
#define STEPS_PER_LOOK 64

typedef struct placed_at {
    uint64_t offset; // begin or end
    uint32_t item;
} placed_at;

typedef struct soft_state {
    uint64_t* offsets; // per item, NO_PLACE: taken out
    placed_at* begins; // of placed items, rising
    placed_at* ends;   // likewise
    uint32_t placed_count;
    uint64_t cost; // weights of all pairs of placed items that share bytes
} soft_state;

typedef struct gap {
    uint64_t begin; // where the item can lie lowest
    uint64_t end;
    uint64_t base; // of its block: what offsets are aligned from
} gap;

// Items are the classes of the pool, counted from its first.
typedef struct softener {
    const plan_class* classes;
    uint32_t count;
    const plan_soft_room* room;
    const uint64_t* given; // offsets on entry; a fixed item stays there
    uint64_t* relations;   // count x count, symmetric: HARD, the weight of the pair, or 0
    soft_state now;
    soft_state best;
    soft_state kept; // before the round
    gap* gaps;
    placed_at* soft_begins; // neighbours of the item at work
    placed_at* soft_ends;
    plan_pair* order;
    plan_pair* spare;
    uint32_t* pool; // items to choose from
    uint64_t random;
} softener;

static uint64_t draw(softener* soft, uint64_t below) {
    soft->random += 0x9E3779B97F4A7C15u; // splitmix64 (Steele et al. 2014)
    uint64_t mixed = soft->random;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return (mixed ^ mixed >> 31) % below;
}

static const uint64_t* relations_of(const softener* soft, uint32_t item) {
    return soft->relations + (size_t)item * soft->count;
}

// Both lists are ordered by offset and then by item, so that each entry has one place and can be
// found again to be taken out.
static uint32_t slot_of(const placed_at* list, uint32_t count, placed_at wanted) {
    uint32_t low = 0;
    for (uint32_t high = count; low < high;) {
        const uint32_t middle = low + (high - low) / 2;
        const placed_at* at = &list[middle];
        if (at->offset < wanted.offset || (at->offset == wanted.offset && at->item < wanted.item)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void insert_at(placed_at* list, uint32_t count, placed_at item) {
    const uint32_t slot = slot_of(list, count, item);
    memmove(list + slot + 1, list + slot, (count - slot) * sizeof *list);
    list[slot] = item;
}

static void remove_at(placed_at* list, uint32_t count, placed_at item) {
    const uint32_t slot = slot_of(list, count, item);
    memmove(list + slot, list + slot + 1, (count - slot - 1) * sizeof *list);
}

// The weight of the placed items that share bytes with [begin, end), were `item` there. No item has
// a relation to itself: one that is placed adds nothing to its own cost.
static uint64_t cost_at(const softener* soft, uint32_t item, uint64_t begin, uint64_t end) {
    const uint64_t* relation = relations_of(soft, item);
    uint64_t cost = 0;
    for (uint32_t i = 0; i < soft->now.placed_count && soft->now.begins[i].offset < end; ++i) {
        const uint32_t other = soft->now.begins[i].item;
        if (relation[other] != 0 && relation[other] != HARD &&
            soft->now.offsets[other] + soft->classes[other].byte_size > begin) {
            cost += relation[other];
        }
    }
    return cost;
}

// The caller has found the cost, which is not counted twice.
static void put_item(softener* soft, uint32_t item, uint64_t offset, uint64_t cost) {
    soft_state* now = &soft->now;
    const uint64_t end = offset + soft->classes[item].byte_size;
    insert_at(now->begins, now->placed_count, (placed_at){offset, item});
    insert_at(now->ends, now->placed_count, (placed_at){end, item});
    ++now->placed_count;
    now->offsets[item] = offset;
    now->cost += cost;
}

static void take_item(softener* soft, uint32_t item) {
    soft_state* now = &soft->now;
    const uint64_t begin = now->offsets[item];
    const uint64_t end = begin + soft->classes[item].byte_size;
    now->cost -= cost_at(soft, item, begin, end);
    remove_at(now->begins, now->placed_count, (placed_at){begin, item});
    remove_at(now->ends, now->placed_count, (placed_at){end, item});
    --now->placed_count;
    now->offsets[item] = NO_PLACE;
}

// Rounds an offset up to the alignment, counted from a base; false past 2^64.
static bool align_from(uint64_t base, uint64_t alignment, uint64_t offset, uint64_t* aligned) {
    uint64_t local = 0;
    return align_u64(offset - base, alignment, &local) && add_u64(base, local, aligned);
}

// Adds what an item can use of free bytes [begin, end): a piece per block that they lie in.
static uint32_t push_gap(const softener* soft, uint32_t count, uint64_t begin, uint64_t end,
                         const plan_class* block) {
    const plan_soft_room* room = soft->room;
    uint32_t number = room->cap > 0 ? (uint32_t)(begin / room->cap) : 0;
    for (; number < room->block_count && number * room->cap < end; ++number) {
        const uint64_t base = number * room->cap;
        const uint64_t top = base + room->tops[number];
        const uint64_t piece_end = end < top ? end : top;
        uint64_t start = 0;
        if (align_from(base, block->alignment, begin > base ? begin : base, &start) &&
            start <= piece_end && piece_end - start >= block->byte_size) {
            soft->gaps[count++] = (gap){start, piece_end, base};
        }
        if (room->cap == 0) {
            break; // one block, which all bytes lie in
        }
    }
    return count;
}

// Lists the gaps that hold an item, and its soft neighbours by begin and by end.
static uint32_t list_gaps(softener* soft, uint32_t item, uint32_t* soft_count) {
    const plan_class* block = &soft->classes[item];
    const uint64_t* relation = relations_of(soft, item);
    const soft_state* now = &soft->now;
    uint32_t gaps = 0;
    uint32_t neighbours = 0;
    uint64_t free_from = 0;
    for (uint32_t i = 0; i < now->placed_count; ++i) {
        const placed_at at = now->begins[i];
        if (relation[at.item] == HARD) {
            if (at.offset > free_from) {
                gaps = push_gap(soft, gaps, free_from, at.offset, block);
            }
            const uint64_t end = at.offset + soft->classes[at.item].byte_size;
            free_from = end > free_from ? end : free_from;
        } else if (relation[at.item] != 0) {
            soft->soft_begins[neighbours++] = at;
        }
    }
    *soft_count = neighbours;
    neighbours = 0;
    for (uint32_t i = 0; i < now->placed_count && neighbours < *soft_count; ++i) {
        const placed_at at = now->ends[i];
        if (relation[at.item] != 0 && relation[at.item] != HARD) {
            soft->soft_ends[neighbours++] = at;
        }
    }
    return push_gap(soft, gaps, free_from, UINT64_MAX, block);
}

// Finds where an item costs least, and lowest among equals; NO_PLACE when it fits nowhere.
static uint64_t find_cheapest(softener* soft, uint32_t item, uint64_t* cost) {
    const plan_class* block = &soft->classes[item];
    const uint64_t* relation = relations_of(soft, item);
    uint32_t soft_count = 0;
    const uint32_t gap_count = list_gaps(soft, item, &soft_count);
    uint64_t found = NO_PLACE;
    // A neighbour shares bytes with the item where it begins below its end and does not end at or
    // below its begin. Whatever has ended has begun, and as `at` only rises, over all gaps, each
    // neighbour is counted once on either side.
    uint64_t begun = 0; // weight of the neighbours that begin below the end of the item
    uint64_t ended = 0; // and of those that end below its begin
    uint32_t next_begin = 0;
    uint32_t next_end = 0;
    *cost = UINT64_MAX;
    for (uint32_t g = 0; g < gap_count; ++g) {
        const uint64_t last = soft->gaps[g].end - block->byte_size;
        uint64_t at = soft->gaps[g].begin;
        while (at <= last) {
            for (; next_end < soft_count && soft->soft_ends[next_end].offset <= at; ++next_end) {
                ended += relation[soft->soft_ends[next_end].item];
            }
            for (; next_begin < soft_count &&
                   soft->soft_begins[next_begin].offset < at + block->byte_size;
                 ++next_begin) {
                begun += relation[soft->soft_begins[next_begin].item];
            }
            if (begun - ended < *cost) {
                *cost = begun - ended;
                found = at;
            }
            if (*cost == 0) {
                return found;
            }
            if (next_end == soft_count || !align_from(soft->gaps[g].base, block->alignment,
                                                      soft->soft_ends[next_end].offset, &at)) {
                break;
            }
        }
    }
    return found;
}

// Whole states are copied rather than changes undone: a round moves up to RUIN_MAX items in lists
// of which most entries then shift.
static void copy_state(const softener* soft, soft_state* to, const soft_state* from) {
    memcpy(to->offsets, from->offsets, soft->count * sizeof *to->offsets);
    memcpy(to->begins, from->begins, soft->count * sizeof *to->begins);
    memcpy(to->ends, from->ends, soft->count * sizeof *to->ends);
    to->placed_count = from->placed_count;
    to->cost = from->cost;
}

// Starts with all items where they were given, or with the fixed ones alone.
static void start(softener* soft, bool with_all) {
    soft->now.placed_count = 0;
    soft->now.cost = 0;
    for (uint32_t i = 0; i < soft->count; ++i) {
        soft->now.offsets[i] = NO_PLACE;
    }
    for (uint32_t i = 0; i < soft->count; ++i) {
        const plan_class* block = &soft->classes[i];
        if (with_all || block->fixed) {
            const uint64_t begin = soft->given[i];
            put_item(soft, i, begin, cost_at(soft, i, begin, begin + block->byte_size));
        }
    }
}

// Puts the first `count` items of the order back; false when one fits nowhere.
static bool put_order(softener* soft, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        uint64_t cost = 0;
        const uint32_t item = soft->order[i].index;
        const uint64_t offset = find_cheapest(soft, item, &cost);
        if (offset == NO_PLACE) {
            return false;
        }
        put_item(soft, item, offset, cost);
    }
    return true;
}

typedef enum soft_key { BY_SIZE, BY_AREA, BY_SPREAD, BY_CHANCE, SOFT_KEYS } soft_key;

// Large and long items first, as ever; or by chance, which is what makes rounds differ.
static uint64_t key_of(softener* soft, uint32_t item, soft_key key) {
    const plan_class* block = &soft->classes[item];
    switch (key) {
    case BY_SIZE:
        return ~block->byte_size;
    case BY_AREA: {
        uint64_t area = 0;
        return mul_u64(block->byte_size, block->spread, &area) ? ~area : 0;
    }
    case BY_SPREAD:
        return ~block->spread;
    case BY_CHANCE:
    case SOFT_KEYS:
        break;
    }
    return draw(soft, UINT32_MAX);
}

static void sort_items(softener* soft, uint32_t count, soft_key key) {
    for (uint32_t i = 0; i < count; ++i) {
        soft->order[i].key = key_of(soft, soft->order[i].index, key);
    }
    plan_sort_pairs(soft->order, soft->spare, count);
}

// One class after another, by several orders: where many pairs have a price the given places, which
// knew of none, are a poor start.
static void place_anew(softener* soft) {
    for (int key = BY_SIZE; key < BY_CHANCE; ++key) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < soft->count; ++i) {
            soft->order[count].index = i;
            count += !soft->classes[i].fixed;
        }
        sort_items(soft, count, (soft_key)key);
        start(soft, false);
        if (put_order(soft, count) && soft->now.cost < soft->best.cost) {
            copy_state(soft, &soft->best, &soft->now);
        }
    }
}

// An item that pays, or now and then any.
static uint32_t choose_seed(softener* soft) {
    for (int tries = 0; tries < 8; ++tries) {
        const uint32_t item = (uint32_t)draw(soft, soft->count);
        const uint64_t begin = soft->now.offsets[item];
        if (!soft->classes[item].fixed &&
            cost_at(soft, item, begin, begin + soft->classes[item].byte_size) > 0) {
            return item;
        }
    }
    return (uint32_t)draw(soft, soft->count);
}

// Takes out a seed and some of what it must or should keep off; returns how many are out.
static uint32_t ruin(softener* soft) {
    const uint32_t seed = choose_seed(soft);
    const uint64_t* relation = relations_of(soft, seed);
    const uint32_t wanted = 2 + (uint32_t)draw(soft, RUIN_MAX - 1);
    uint32_t choice = 0;
    uint32_t out = 0;
    for (uint32_t i = 0; i < soft->count; ++i) {
        if (i != seed && relation[i] != 0 && !soft->classes[i].fixed) {
            soft->pool[choice++] = i;
        }
    }
    if (!soft->classes[seed].fixed) {
        soft->order[out++].index = seed;
    }
    while (out < wanted && choice > 0) {
        const uint32_t chosen = (uint32_t)draw(soft, choice);
        soft->order[out++].index = soft->pool[chosen];
        soft->pool[chosen] = soft->pool[--choice];
    }
    for (uint32_t i = 0; i < out; ++i) {
        take_item(soft, soft->order[i].index);
    }
    return out;
}

// Threshold accepting (Dueck and Scheuer 1990): early on a somewhat worse placement is kept too;
// how much worse it may be falls to nothing with the rounds.
static void improve(softener* soft, plan_budget* budget) {
    const uint64_t rounds = budget->rounds;
    const uint64_t widest = soft->best.cost / 256 + 1;
    copy_state(soft, &soft->now, &soft->best);
    for (uint64_t r = 0; r < rounds && soft->best.cost > 0; ++r) {
        if (r % STEPS_PER_LOOK == 0 ? !plan_budget_goes_on(budget) : !plan_budget_in_time(budget)) {
            break;
        }
        --budget->rounds;
        copy_state(soft, &soft->kept, &soft->now);
        const uint32_t out = ruin(soft);
        sort_items(soft, out, (soft_key)draw(soft, SOFT_KEYS));
        const uint64_t left = (rounds - r) / (rounds / 1024 + 1); // at most 1024
        const uint64_t steps = rounds / (rounds / 1024 + 1) + 1;
        // widest * left / steps, by quotient and remainder: the product may pass 2^64.
        const uint64_t worse =
            draw(soft, widest / steps * left + widest % steps * left / steps + 1);
        if (!put_order(soft, out) || soft->now.cost > soft->kept.cost + worse) {
            copy_state(soft, &soft->now, &soft->kept);
        } else if (soft->now.cost < soft->best.cost) {
            copy_state(soft, &soft->best, &soft->now);
        }
    }
}

static weir_status take_state(plan_scratch* scratch, uint32_t count, soft_state* state) {
    WEIR_TRY(scratch_take(scratch, &state->offsets, count));
    WEIR_TRY(scratch_take(scratch, &state->begins, count));
    return scratch_take(scratch, &state->ends, count);
}

// Sums up to the limit, so that all costs together fit.
static void add_weight(uint64_t* relation, uint64_t weight) {
    const uint64_t most = UINT64_MAX / 2 / PLAN_SOFT_CLASSES_MAX / PLAN_SOFT_CLASSES_MAX;
    *relation = weight < most && *relation < most - weight ? *relation + weight : most;
}

// Pairs are given between buffers and count between their classes. What conflicts is set last: a
// price on top of it has no meaning.
static void fill_relations(softener* soft, const plan_instance* instance,
                           const weir_plan_problem* problem, uint32_t first) {
    for (uint32_t i = 0; i < problem->penalty_count; ++i) {
        const weir_plan_penalty* pair = &problem->penalties[i];
        const uint32_t a = instance->class_of[pair->a] - first;
        const uint32_t b = instance->class_of[pair->b] - first;
        if (instance->class_of[pair->a] != WEIR_PLAN_NONE &&
            instance->class_of[pair->b] != WEIR_PLAN_NONE && a < soft->count && b < soft->count &&
            a != b) {
            add_weight(&soft->relations[(size_t)a * soft->count + b], pair->weight);
            soft->relations[(size_t)b * soft->count + a] =
                soft->relations[(size_t)a * soft->count + b];
        }
    }
    for (uint32_t a = 0; a < soft->count; ++a) {
        for (uint32_t b = 0; b < a; ++b) {
            if (plan_classes_conflict(instance, first + a, first + b)) {
                soft->relations[(size_t)a * soft->count + b] = HARD;
                soft->relations[(size_t)b * soft->count + a] = HARD;
            }
        }
    }
}

static weir_status make(plan_scratch* scratch, softener* soft) {
    const uint32_t count = soft->count;
    WEIR_TRY(plan_scratch_take(scratch, count, count * sizeof *soft->relations,
                               (void**)&soft->relations));
    WEIR_TRY(take_state(scratch, count, &soft->now));
    WEIR_TRY(take_state(scratch, count, &soft->best));
    WEIR_TRY(take_state(scratch, count, &soft->kept));
    // A border may cut each gap, and what lies above all of them is one per block.
    WEIR_TRY(scratch_take(scratch, &soft->gaps, (size_t)count + soft->room->block_count + 1));
    WEIR_TRY(scratch_take(scratch, &soft->soft_begins, count));
    WEIR_TRY(scratch_take(scratch, &soft->soft_ends, count));
    WEIR_TRY(scratch_take(scratch, &soft->order, (size_t)count + 1));
    WEIR_TRY(scratch_take(scratch, &soft->spare, (size_t)count + 1));
    return scratch_take(scratch, &soft->pool, count);
}

weir_status plan_soft_place(plan_scratch* scratch, const plan_instance* instance,
                            const weir_plan_problem* problem, uint32_t first, uint32_t count,
                            const plan_soft_room* room, plan_budget* budget, uint64_t* offsets) {
    if (count > PLAN_SOFT_CLASSES_MAX) {
        return WEIR_OK;
    }
    scratch_block* mark = scratch->last;
    softener soft = {.classes = instance->classes + first,
                     .count = count,
                     .room = room,
                     .given = offsets + first,
                     .random = 1};
    const weir_status status = make(scratch, &soft);
    if (status == WEIR_OK) {
        fill_relations(&soft, instance, problem, first);
        start(&soft, true);
        copy_state(&soft, &soft.best, &soft.now);
        place_anew(&soft);
        improve(&soft, budget);
        memcpy(offsets + first, soft.best.offsets, count * sizeof *offsets);
    }
    plan_scratch_release(scratch, mark);
    return status;
}
