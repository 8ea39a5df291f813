#include "plan/plan_list.h"

#include <string.h>

#include "base/checked.h"
#include "plan/plan_sort.h"

#define BLOCK_ITEMS 64
#define LOOK_ITEMS 1024 // placed between two looks at the budget: some ms at most
#define NO_BLOCK UINT32_MAX
#define NO_ITEM UINT32_MAX

// Placed items by offset, in a chain of blocks; a block whose lives do not meet that of an item is
// skipped as a whole.
typedef struct list_block {
    uint32_t count;
    uint32_t next;
    uint32_t first; // section: of the earliest birth in the block
    uint32_t end;   // of the latest death
    uint32_t items[BLOCK_ITEMS];
    uint32_t births[BLOCK_ITEMS];
    uint32_t deaths[BLOCK_ITEMS];
    uint64_t begins[BLOCK_ITEMS];
    uint64_t ends[BLOCK_ITEMS];
} list_block;

struct plan_list {
    const plan_component* component;
    plan_pair* order;
    plan_pair* spare;
    list_block* blocks;
    uint32_t block_count;
    uint64_t limit;
};

// Both lists of spans rise, so one walk along both is enough.
static bool spans_meet(const plan_component* component, const plan_item* a, const plan_item* b) {
    uint32_t i = 0;
    uint32_t j = 0;
    while (i < a->span_count && j < b->span_count) {
        const plan_span x = plan_item_span(component, a, i);
        const plan_span y = plan_item_span(component, b, j);
        if (x.first < y.end && y.first < x.end) {
            return true;
        }
        if (x.end <= y.end) {
            ++i;
        } else {
            ++j;
        }
    }
    return false;
}

// Compares the hulls of two lives first; only where any item has gaps can hulls meet and lives not.
static bool conflicts(const plan_component* component, const plan_item* item,
                      const list_block* block, uint32_t at) {
    if (block->births[at] >= item->end || item->first >= block->deaths[at]) {
        return false;
    }
    const plan_item* other = &component->items[block->items[at]];
    return !component->has_gaps || spans_meet(component, item, other);
}

// Where an item may go, while the placed items are walked by offset.
typedef struct gap_search {
    uint64_t start; // aligned, above all conflicting items seen so far
    uint64_t found; // PLAN_NO_PEAK: nothing yet
    uint64_t room;  // of the gap found
    bool is_over;
} gap_search;

// Walks one block on from where the search stands.
static void search_block(const plan_list* list, const list_block* block, const plan_item* item,
                         plan_fit fit, gap_search* gap) {
    for (uint32_t at = 0; at < block->count && !gap->is_over; ++at) {
        if (block->ends[at] <= gap->start || !conflicts(list->component, item, block, at)) {
            continue;
        }
        const uint64_t room = block->begins[at] > gap->start ? block->begins[at] - gap->start : 0;
        if (room >= item->size && room < gap->room) {
            gap->found = gap->start;
            gap->room = room;
            gap->is_over = fit == PLAN_FIRST_FIT;
        }
        // The list is by begin, not by end, but `start` only ever rises.
        gap->is_over |=
            !align_u64(block->ends[at], item->alignment, &gap->start) || gap->start >= list->limit;
    }
}

// Returns the offset for an item, or PLAN_NO_PEAK when all reach the limit.
static uint64_t find_offset(const plan_list* list, const plan_item* item, plan_fit fit) {
    gap_search gap = {.found = PLAN_NO_PEAK, .room = UINT64_MAX};
    for (uint32_t b = 0; b != NO_BLOCK && !gap.is_over; b = list->blocks[b].next) {
        const list_block* block = &list->blocks[b];
        if (block->first < item->end && item->first < block->end) {
            search_block(list, block, item, fit, &gap);
        }
    }
    const bool is_open = !gap.is_over && gap.found == PLAN_NO_PEAK;
    return is_open && gap.start < list->limit ? gap.start : gap.found;
}

// The hull of a block only grows; splitting computes it anew.
static void widen(list_block* block, uint32_t first, uint32_t end) {
    block->first = first < block->first ? first : block->first;
    block->end = end > block->end ? end : block->end;
}

static void copy_entry(const list_block* from, uint32_t at, list_block* to, uint32_t there) {
    to->items[there] = from->items[at];
    to->births[there] = from->births[at];
    to->deaths[there] = from->deaths[at];
    to->begins[there] = from->begins[at];
    to->ends[there] = from->ends[at];
}

// Moves the upper half of a full block to a new one after it.
static void split_block(plan_list* list, list_block* block) {
    const uint32_t made = list->block_count++;
    list_block* upper = &list->blocks[made];
    const uint32_t half = BLOCK_ITEMS / 2;
    *upper = (list_block){.count = half, .next = block->next, .first = UINT32_MAX};
    block->next = made;
    block->count = half;
    block->first = UINT32_MAX;
    block->end = 0;
    for (uint32_t at = 0; at < half; ++at) {
        copy_entry(block, half + at, upper, at);
        widen(upper, upper->births[at], upper->deaths[at]);
        widen(block, block->births[at], block->deaths[at]);
    }
}

// Finds the last block that begins no higher; equal offsets keep the order of arrival.
static void insert(plan_list* list, uint32_t index, uint64_t offset) {
    const plan_item* item = &list->component->items[index];
    list_block* block = &list->blocks[0];
    while (block->next != NO_BLOCK && list->blocks[block->next].begins[0] <= offset) {
        block = &list->blocks[block->next];
    }
    if (block->count == BLOCK_ITEMS) {
        split_block(list, block);
        list_block* upper = &list->blocks[block->next];
        block = upper->begins[0] <= offset ? upper : block;
    }
    uint32_t at = block->count++;
    for (; at > 0 && block->begins[at - 1] > offset; --at) {
        copy_entry(block, at - 1, block, at);
    }
    block->items[at] = index;
    block->births[at] = item->first;
    block->deaths[at] = item->end;
    block->begins[at] = offset;
    block->ends[at] = offset + item->size;
    widen(block, item->first, item->end);
}

// Starts with the fixed items; returns their peak.
static uint64_t insert_fixed(plan_list* list, uint64_t* offsets) {
    uint64_t peak = 0;
    list->block_count = 1;
    list->blocks[0] = (list_block){.next = NO_BLOCK, .first = UINT32_MAX};
    for (uint32_t i = 0; i < list->component->item_count; ++i) {
        const plan_item* item = &list->component->items[i];
        if (item->fixed) {
            const uint64_t end = item->fixed_offset + item->size;
            insert(list, i, item->fixed_offset);
            offsets[i] = item->fixed_offset;
            peak = end > peak ? end : peak;
        }
    }
    return peak;
}

// Lists the items that are not fixed by falling keys.
static uint32_t sort_by_keys(plan_list* list, const int64_t* keys) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < list->component->item_count; ++i) {
        if (!list->component->items[i].fixed) {
            list->order[count++] = (plan_pair){~plan_time_key(keys[i]), i};
        }
    }
    plan_sort_pairs(list->order, list->spare, count);
    return count;
}

uint64_t plan_list_place(plan_list* list, const int64_t* keys, plan_fit fit, uint64_t limit,
                         plan_budget* budget, uint64_t* offsets, uint32_t* blamed) {
    list->limit = limit;
    *blamed = NO_ITEM;
    uint64_t peak = insert_fixed(list, offsets);
    if (peak >= limit) {
        return PLAN_NO_PEAK;
    }
    const uint32_t count = sort_by_keys(list, keys);
    for (uint32_t i = 0; i < count; ++i) {
        if (budget && (i + 1) % LOOK_ITEMS == 0 && !plan_budget_goes_on(budget)) {
            return PLAN_NO_PEAK;
        }
        const uint32_t index = list->order[i].index;
        const plan_item* item = &list->component->items[index];
        const uint64_t offset = find_offset(list, item, fit);
        // A peak never falls again, so a list that reaches the limit is given up at once.
        if (offset == PLAN_NO_PEAK || offset + item->size >= limit) {
            *blamed = index;
            return PLAN_NO_PEAK;
        }
        peak = offset + item->size > peak ? offset + item->size : peak;
        insert(list, index, offset);
        offsets[index] = offset;
    }
    return peak;
}

weir_status plan_list_make(plan_scratch* scratch, const plan_component* component,
                           plan_list** list) {
    const size_t count = component->item_count;
    plan_list* made = NULL;
    WEIR_TRY(scratch_take(scratch, &made, 1));
    made->component = component;
    WEIR_TRY(scratch_take(scratch, &made->order, count));
    WEIR_TRY(scratch_take(scratch, &made->spare, count));
    // Blocks are split when full, so each but the first holds half its room at least.
    WEIR_TRY(scratch_take(scratch, &made->blocks, count / (BLOCK_ITEMS / 2) + 1));
    *list = made;
    return WEIR_OK;
}
