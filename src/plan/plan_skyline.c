#include "plan/plan_skyline.h"

#include <string.h>

#include "base/checked.h"
#include "plan/plan_fixed.h"
#include "plan/plan_tree.h"

#define LOOK_ITEMS 8192 // placed between two looks at the budget: some ms
#define NEED_BLOCK 64   // sections
#define NO_SEGMENT UINT32_MAX

// One level stretch of the skyline, from section `first` to `end`.
typedef struct segment {
    uint64_t height;
    uint32_t first;
    uint32_t end;
    uint32_t left; // neighbours, or NO_SEGMENT
    uint32_t right;
    uint32_t place; // in the heap
} segment;

// What a row of NEED_BLOCK sections has in common, so that wide ranges are quick.
typedef struct need_block {
    uint64_t all;  // to be added to the needs of all its sections
    uint64_t most; // the largest of their needs without it
} need_block;

struct plan_skyline {
    const plan_component* component;
    plan_tree tree;    // of the items that wait, by key
    segment* segments; // linked from left to right, without two neighbours of one height
    uint32_t segment_count;
    uint32_t free_segment; // chained by `right`
    uint32_t* heap;        // of segments, the lowest first
    uint32_t heap_count;
    uint64_t* ground; // per section; NULL: all 0
    uint64_t* needs;  // per section: no peak is lower than its total and what was wasted in it
    need_block* need_blocks;
    need_block* first_need_blocks; // before anything is wasted
    uint32_t blamed;               // section in which the limit was reached
    uint32_t waiting;              // how many
    uint64_t peak;
    uint64_t limit;
};

// The heap: indexed, since segments are also removed and raised from within.

// Of two at one height the one further left goes first, so that a row is filled from its left end.
static bool is_lower(const plan_skyline* sky, uint32_t a, uint32_t b) {
    const segment* x = &sky->segments[a];
    const segment* y = &sky->segments[b];
    return x->height != y->height ? x->height < y->height : x->first < y->first;
}

// Invariant: heap[segments[i].place] == i for every segment in use.
static void set_place(plan_skyline* sky, uint32_t place, uint32_t index) {
    sky->heap[place] = index;
    sky->segments[index].place = place;
}

static void sift_up(plan_skyline* sky, uint32_t place, uint32_t index) {
    while (place > 0) {
        const uint32_t parent = (place - 1) / 2;
        if (!is_lower(sky, index, sky->heap[parent])) {
            break;
        }
        set_place(sky, place, sky->heap[parent]);
        place = parent;
    }
    set_place(sky, place, index);
}

static void sift_down(plan_skyline* sky, uint32_t place, uint32_t index) {
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= sky->heap_count) {
            break;
        }
        if (child + 1 < sky->heap_count && is_lower(sky, sky->heap[child + 1], sky->heap[child])) {
            ++child;
        }
        if (!is_lower(sky, sky->heap[child], index)) {
            break;
        }
        set_place(sky, place, sky->heap[child]);
        place = child;
    }
    set_place(sky, place, index);
}

static void heap_remove(plan_skyline* sky, uint32_t index) {
    const uint32_t place = sky->segments[index].place;
    const uint32_t last = sky->heap[--sky->heap_count];
    if (last == index) {
        return;
    }
    if (place > 0 && is_lower(sky, last, sky->heap[(place - 1) / 2])) {
        sift_up(sky, place, last);
    } else {
        sift_down(sky, place, last);
    }
}

// The list of segments.

// Puts a segment between two neighbours, and into the heap.
static uint32_t add_segment(plan_skyline* sky, uint32_t left, uint32_t right, segment made) {
    uint32_t index = sky->free_segment;
    if (index != NO_SEGMENT) {
        sky->free_segment = sky->segments[index].right;
    } else {
        index = sky->segment_count++;
    }
    made.left = left;
    made.right = right;
    sky->segments[index] = made;
    if (left != NO_SEGMENT) {
        sky->segments[left].right = index;
    }
    if (right != NO_SEGMENT) {
        sky->segments[right].left = index;
    }
    sift_up(sky, sky->heap_count++, index);
    return index;
}

// Unlinks a segment; its slot is used again.
static void remove_segment(plan_skyline* sky, uint32_t index) {
    segment* gone = &sky->segments[index];
    heap_remove(sky, index);
    if (gone->left != NO_SEGMENT) {
        sky->segments[gone->left].right = gone->right;
    }
    if (gone->right != NO_SEGMENT) {
        sky->segments[gone->right].left = gone->left;
    }
    gone->right = sky->free_segment;
    sky->free_segment = index;
}

// Joins a segment with neighbours of its height.
static void join(plan_skyline* sky, uint32_t index) {
    const uint32_t right = sky->segments[index].right;
    if (right != NO_SEGMENT && sky->segments[right].height == sky->segments[index].height) {
        sky->segments[index].end = sky->segments[right].end;
        remove_segment(sky, right);
    }
    const uint32_t left = sky->segments[index].left;
    if (left != NO_SEGMENT && sky->segments[left].height == sky->segments[index].height) {
        sky->segments[left].end = sky->segments[index].end;
        remove_segment(sky, index);
    }
}

// Adds wasted units to sections of one block; returns the largest need of them.
static uint64_t waste_in_block(plan_skyline* sky, uint32_t first, uint32_t end, uint64_t units) {
    need_block* block = &sky->need_blocks[first / NEED_BLOCK];
    uint64_t most = 0;
    for (uint32_t s = first; s < end; ++s) {
        sky->needs[s] += units;
        most = sky->needs[s] > most ? sky->needs[s] : most;
    }
    block->most = most > block->most ? most : block->most; // needs only rise
    return most + block->all;
}

// Remembers a section of the range whose need is the largest.
static void blame(plan_skyline* sky, uint32_t first, uint32_t end) {
    uint64_t most = 0;
    for (uint32_t s = first; s < end; ++s) {
        const uint64_t need = sky->needs[s] + sky->need_blocks[s / NEED_BLOCK].all;
        if (need > most) {
            most = need;
            sky->blamed = s;
        }
    }
}

// Adds wasted units to sections; false when the peak is then sure to reach the limit.
static bool waste(plan_skyline* sky, uint32_t first, uint32_t end, uint64_t units) {
    uint64_t most = 0;
    for (uint32_t from = first; from < end;) {
        const uint32_t next = from - from % NEED_BLOCK + NEED_BLOCK;
        const uint32_t to = next < end ? next : end;
        uint64_t got = 0;
        if (to - from == NEED_BLOCK) {
            need_block* block = &sky->need_blocks[from / NEED_BLOCK];
            block->all += units;
            got = block->most + block->all;
        } else {
            got = waste_in_block(sky, from, to, units);
        }
        most = got > most ? got : most;
        from = to;
    }
    if (most < sky->limit) {
        return true;
    }
    blame(sky, first, end);
    return false;
}

// Raises a segment that nothing fits into to its lower neighbour.
static bool lift(plan_skyline* sky, uint32_t index) {
    segment* low = &sky->segments[index];
    const uint64_t left = low->left != NO_SEGMENT ? sky->segments[low->left].height : PLAN_NO_PEAK;
    const uint64_t right =
        low->right != NO_SEGMENT ? sky->segments[low->right].height : PLAN_NO_PEAK;
    const uint64_t height = left < right ? left : right;
    if (!waste(sky, low->first, low->end, height - low->height)) {
        return false;
    }
    low->height = height;
    sift_down(sky, low->place, index);
    join(sky, index);
    return true;
}

// Placement.

// Lays an item on a segment that it fits into; false when the peak then reaches the limit.
static bool put_item(plan_skyline* sky, uint32_t index, uint32_t item, uint64_t* offsets) {
    const plan_item* put = &sky->component->items[item];
    const segment low = sky->segments[index];
    uint64_t offset = low.height;
    // What alignment skips is wasted under the whole item.
    if (put->alignment > 1 && (!align_u64(low.height, put->alignment, &offset) ||
                               !waste(sky, put->first, put->end, offset - low.height))) {
        return false;
    }
    const uint64_t top = offset + put->size;
    if (offset >= sky->limit || top >= sky->limit) {
        sky->blamed = put->first;
        return false;
    }
    offsets[item] = offset;
    sky->peak = top > sky->peak ? top : sky->peak;
    // The part under the item keeps the slot; what is left and right of it are new.
    segment* under = &sky->segments[index];
    under->height = top;
    under->first = put->first;
    under->end = put->end;
    sift_down(sky, under->place, index);
    if (put->first > low.first) {
        add_segment(sky, low.left, index,
                    (segment){.height = low.height, .first = low.first, .end = put->first});
    }
    if (put->end < low.end) {
        add_segment(sky, index, low.right,
                    (segment){.height = low.height, .first = put->end, .end = low.end});
    }
    join(sky, index);
    plan_tree_take(&sky->tree, item);
    --sky->waiting;
    return true;
}

// What each section needs at least. Of the totals nobody knows how much lies below the ground.
static const uint64_t* first_needs(const plan_skyline* sky) {
    return sky->ground ? sky->ground : sky->component->totals;
}

// The ground: flat, or the ends of the fixed items.
static void lay_ground(plan_skyline* sky, uint64_t* offsets) {
    const plan_component* component = sky->component;
    sky->segment_count = 0;
    sky->heap_count = 0;
    sky->free_segment = NO_SEGMENT;
    sky->peak = 0;
    sky->waiting = component->item_count;
    const size_t blocks = component->section_count / NEED_BLOCK + 1;
    memcpy(sky->need_blocks, sky->first_need_blocks, blocks * sizeof *sky->need_blocks);
    memcpy(sky->needs, first_needs(sky), component->section_count * sizeof *sky->needs);
    if (!sky->ground) {
        add_segment(sky, NO_SEGMENT, NO_SEGMENT,
                    (segment){.first = 0, .end = component->section_count});
        return;
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        if (item->fixed) {
            const uint64_t end = item->fixed_offset + item->size;
            offsets[i] = item->fixed_offset;
            sky->peak = end > sky->peak ? end : sky->peak;
            --sky->waiting;
        }
    }
    uint32_t last = NO_SEGMENT;
    for (uint32_t s = 0; s < component->section_count; ++s) {
        if (last != NO_SEGMENT && sky->segments[last].height == sky->ground[s]) {
            sky->segments[last].end = s + 1;
        } else {
            last = add_segment(sky, last, NO_SEGMENT,
                               (segment){.height = sky->ground[s], .first = s, .end = s + 1});
        }
    }
}

uint64_t plan_skyline_place(plan_skyline* sky, uint64_t limit, plan_budget* budget,
                            uint64_t* offsets) {
    sky->limit = limit;
    sky->blamed = 0; // in case the ground alone reaches the limit
    lay_ground(sky, offsets);
    if (sky->peak >= limit) {
        return PLAN_NO_PEAK;
    }
    plan_tree_fill(&sky->tree);
    uint32_t look_at = sky->waiting > LOOK_ITEMS ? sky->waiting - LOOK_ITEMS : 0;
    while (sky->waiting > 0) {
        if (budget && sky->waiting < look_at) {
            look_at = sky->waiting > LOOK_ITEMS ? sky->waiting - LOOK_ITEMS : 0;
            if (!plan_budget_goes_on(budget)) {
                return PLAN_NO_PEAK;
            }
        }
        const uint32_t lowest = sky->heap[0];
        const segment* low = &sky->segments[lowest];
        const uint32_t item = plan_tree_find(&sky->tree, low->first, low->end);
        if (!(item == PLAN_TREE_NONE ? lift(sky, lowest) : put_item(sky, lowest, item, offsets))) {
            return PLAN_NO_PEAK;
        }
    }
    return sky->peak;
}

uint32_t plan_skyline_blame(const plan_skyline* sky, uint32_t* items) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < sky->tree.born_from[sky->blamed + 1]; ++i) {
        if (sky->tree.ends[i] > sky->blamed && sky->tree.ends[i] != UINT32_MAX) {
            items[count++] = i;
        }
    }
    return count;
}

int64_t* plan_skyline_keys(plan_skyline* sky) {
    return sky->tree.keys;
}

weir_status plan_skyline_make(plan_scratch* scratch, const plan_instance* instance,
                              const plan_component* component, plan_skyline** skyline) {
    const size_t sections = component->section_count;
    plan_skyline* sky = NULL;
    WEIR_TRY(scratch_take(scratch, &sky, 1));
    sky->component = component;
    WEIR_TRY(plan_tree_make(scratch, component, &sky->tree));
    // A split makes two before any is joined.
    WEIR_TRY(scratch_take(scratch, &sky->segments, sections + 2));
    WEIR_TRY(scratch_take(scratch, &sky->heap, sections + 2));
    WEIR_TRY(scratch_take(scratch, &sky->needs, sections));
    WEIR_TRY(scratch_take(scratch, &sky->need_blocks, sections / NEED_BLOCK + 1));
    WEIR_TRY(scratch_take(scratch, &sky->first_need_blocks, sections / NEED_BLOCK + 1));
    if (component->has_fixed) {
        WEIR_TRY(scratch_take(scratch, &sky->ground, sections));
        WEIR_TRY(plan_fixed_ground(scratch, instance, component, sky->ground));
    }
    const uint64_t* needs = first_needs(sky);
    for (uint32_t s = 0; s < sections; ++s) {
        need_block* block = &sky->first_need_blocks[s / NEED_BLOCK];
        block->most = needs[s] > block->most ? needs[s] : block->most;
    }
    *skyline = sky;
    return WEIR_OK;
}
