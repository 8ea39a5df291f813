#include "plan/plan_skyline.h"

#include <string.h>

#include "base/checked.h"
#include "plan/plan_fixed.h"
#include "plan/plan_sort.h"

#define FANOUT_BITS 4
#define FANOUT (1u << FANOUT_BITS)
#define LEVELS 8        // FANOUT^8 = 2^32 items
#define FEW_ITEMS 256   // born in a stretch: looked at one by one
#define LOOK_ITEMS 8192 // placed between two looks at the budget: some ms
#define NEED_BLOCK 64   // sections
#define NO_SEGMENT UINT32_MAX
#define NO_ITEM UINT32_MAX
#define PLACED INT64_MIN // key of an item that waits no longer

// One level stretch of the skyline, from section `first` to `end`.
typedef struct segment {
    uint64_t height;
    uint32_t first;
    uint32_t end;
    uint32_t left; // neighbours, or NO_SEGMENT
    uint32_t right;
    uint32_t place; // in the heap
} segment;

// Level 0 has one node per item; a node above stands for FANOUT nodes below it, and knows within
// which borders the lives of their items lie.
typedef struct tree_level {
    int64_t* largest_key; // of the items that wait, or PLACED
    uint32_t* first_min;
    uint32_t* first_max;
    uint32_t* end_min;
    uint32_t* end_max;
    uint32_t count;
} tree_level;

// What a row of NEED_BLOCK sections has in common, so that wide ranges are quick.
typedef struct need_block {
    uint64_t all;  // to be added to the needs of all its sections
    uint64_t most; // the largest of their needs without it
} need_block;

struct plan_skyline {
    const plan_component* component;
    uint32_t* born_from; // per section and one more: the first item born in it or later
    tree_level levels[LEVELS];
    uint32_t level_count;
    uint32_t* item_at; // per node of level 0
    uint32_t* node_of; // per item: its node of level 0
    uint32_t* ends;    // per item that waits: one past its last section; of others UINT32_MAX
    int64_t* keys;
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

// The tree over all items, which finds the largest key among lives within [first, end). A life is a
// point of the plane of births and deaths, and the wanted ones lie in a quadrant of it. Items
// follow each other along a Z-order curve (Morton 1966), so that those of a node lie close together
// in both directions. Nodes wholly inside the quadrant give their largest key at once, and only
// those on its border are entered: of the order of sqrt(n), where a tree over births alone enters
// up to n.

static void fill_levels(plan_skyline* sky) {
    const uint32_t count = sky->component->item_count;
    for (uint32_t i = 0; i < count; ++i) {
        const plan_item* item = &sky->component->items[i];
        sky->ends[i] = item->fixed ? UINT32_MAX : item->end;
    }
    for (uint32_t node = 0; node < count; ++node) {
        const uint32_t item = sky->item_at[node];
        sky->levels[0].largest_key[node] = sky->ends[item] != UINT32_MAX ? sky->keys[item] : PLACED;
    }
    for (uint32_t level = 1; level < sky->level_count; ++level) {
        const tree_level* below = &sky->levels[level - 1];
        tree_level* here = &sky->levels[level];
        for (uint32_t node = 0; node < here->count; ++node) {
            here->largest_key[node] = PLACED;
        }
        for (uint32_t i = 0; i < below->count; ++i) {
            int64_t* key = &here->largest_key[i / FANOUT];
            *key = below->largest_key[i] > *key ? below->largest_key[i] : *key;
        }
    }
}

// Takes an item out of the tree.
static void take_item(plan_skyline* sky, uint32_t item) {
    uint32_t node = sky->node_of[item];
    const int64_t gone = sky->levels[0].largest_key[node];
    sky->levels[0].largest_key[node] = PLACED;
    sky->ends[item] = UINT32_MAX;
    for (uint32_t level = 1; level < sky->level_count; ++level) {
        const tree_level* below = &sky->levels[level - 1];
        node /= FANOUT;
        int64_t* here = &sky->levels[level].largest_key[node];
        if (*here > gone) {
            return; // so nothing above changes either
        }
        const uint32_t first = node * FANOUT;
        const uint32_t end = below->count - first < FANOUT ? below->count : first + FANOUT;
        int64_t key = PLACED;
        for (uint32_t i = first; i < end; ++i) {
            key = below->largest_key[i] > key ? below->largest_key[i] : key;
        }
        *here = key;
    }
}

typedef struct search {
    const plan_skyline* sky;
    uint32_t first; // no item may be born before
    uint32_t end;   // nor live longer
    int64_t key;    // the largest so far, of an item below this node
    uint32_t level;
    uint32_t node;
} search;

static bool is_inside(const search* found, const tree_level* level, uint32_t node) {
    return level->first_min[node] >= found->first && level->end_max[node] <= found->end;
}

static bool is_apart(const search* found, const tree_level* level, uint32_t node) {
    return level->first_max[node] < found->first || level->end_min[node] > found->end;
}

// Looks through nodes [first, end) of a level: of equal keys the one seen first wins. What lies
// inside comes before what must be entered, for its keys spare most entries.
static void search_level(search* found, uint32_t level, uint32_t first, uint32_t end) {
    const tree_level* here = &found->sky->levels[level];
    bool enter = false;
    for (uint32_t node = first; node < end; ++node) {
        if (here->largest_key[node] > found->key) {
            if (is_inside(found, here, node)) {
                found->key = here->largest_key[node];
                found->level = level;
                found->node = node;
            } else {
                enter |= level > 0 && !is_apart(found, here, node);
            }
        }
    }
    for (uint32_t node = first; node < end && enter; ++node) {
        if (here->largest_key[node] > found->key && !is_inside(found, here, node) &&
            !is_apart(found, here, node)) {
            const uint32_t count = found->sky->levels[level - 1].count;
            const uint32_t below = node * FANOUT;
            search_level(found, level - 1, below, count - below < FANOUT ? count : below + FANOUT);
        }
    }
}

// Walks down to the item that has the key of a node.
static uint32_t item_below(const plan_skyline* sky, uint32_t level, uint32_t node) {
    const int64_t key = sky->levels[level].largest_key[node];
    for (; level > 0; --level) {
        node *= FANOUT;
        while (sky->levels[level - 1].largest_key[node] != key) {
            ++node;
        }
    }
    return sky->item_at[node];
}

// Finds the item with the largest key that is born in `first` or later and dead at `end`.
static uint32_t find_item(const plan_skyline* sky, uint32_t first, uint32_t end) {
    const uint32_t from = sky->born_from[first];
    const uint32_t to = sky->born_from[end];
    if (to - from > FEW_ITEMS) {
        search found = {.sky = sky, .first = first, .end = end, .key = PLACED};
        const uint32_t top = sky->level_count - 1;
        search_level(&found, top, 0, sky->levels[top].count);
        return found.key == PLACED ? NO_ITEM : item_below(sky, found.level, found.node);
    }
    int64_t key = PLACED;
    uint32_t item = NO_ITEM;
    for (uint32_t i = from; i < to; ++i) {
        if (sky->ends[i] <= end && sky->keys[i] > key) {
            key = sky->keys[i];
            item = i;
        }
    }
    return item;
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
    take_item(sky, item);
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
    fill_levels(sky);
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
        const uint32_t item = find_item(sky, low->first, low->end);
        if (!(item == NO_ITEM ? lift(sky, lowest) : put_item(sky, lowest, item, offsets))) {
            return PLAN_NO_PEAK;
        }
    }
    return sky->peak;
}

uint32_t plan_skyline_blame(const plan_skyline* sky, uint32_t* items) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < sky->born_from[sky->blamed + 1]; ++i) {
        if (sky->ends[i] > sky->blamed && sky->ends[i] != UINT32_MAX) {
            items[count++] = i;
        }
    }
    return count;
}

int64_t* plan_skyline_keys(plan_skyline* sky) {
    return sky->keys;
}

// Spreads the bits of a number to the even places of a word.
static uint64_t spread_bits(uint32_t number) {
    uint64_t bits = number;
    bits = (bits | bits << 16) & 0x0000FFFF0000FFFFu;
    bits = (bits | bits << 8) & 0x00FF00FF00FF00FFu;
    bits = (bits | bits << 4) & 0x0F0F0F0F0F0F0F0Fu;
    bits = (bits | bits << 2) & 0x3333333333333333u;
    return (bits | bits << 1) & 0x5555555555555555u;
}

// Lists the items along the curve.
static weir_status order_items(plan_scratch* scratch, plan_skyline* sky) {
    const uint32_t count = sky->component->item_count;
    scratch_block* mark = scratch->last;
    plan_pair* pairs = NULL;
    plan_pair* spare = NULL;
    weir_status status = scratch_take(scratch, &pairs, count);
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &spare, count);
    }
    for (uint32_t i = 0; i < count && status == WEIR_OK; ++i) {
        const plan_item* item = &sky->component->items[i];
        pairs[i] = (plan_pair){spread_bits(item->first) << 1 | spread_bits(item->end), i};
    }
    if (status == WEIR_OK) {
        plan_sort_pairs(pairs, spare, count);
    }
    for (uint32_t node = 0; node < count && status == WEIR_OK; ++node) {
        sky->item_at[node] = pairs[node].index;
        sky->node_of[pairs[node].index] = node;
    }
    plan_scratch_release(scratch, mark);
    return status;
}

static weir_status take_level(plan_scratch* scratch, tree_level* level, uint32_t count) {
    level->count = count;
    WEIR_TRY(scratch_take(scratch, &level->largest_key, count));
    WEIR_TRY(scratch_take(scratch, &level->first_min, count));
    WEIR_TRY(scratch_take(scratch, &level->first_max, count));
    WEIR_TRY(scratch_take(scratch, &level->end_min, count));
    return scratch_take(scratch, &level->end_max, count);
}

// An item alone has its birth and death as borders, each of them twice.
static weir_status take_leaves(plan_scratch* scratch, plan_skyline* sky) {
    tree_level* leaves = &sky->levels[0];
    leaves->count = sky->component->item_count;
    WEIR_TRY(scratch_take(scratch, &leaves->largest_key, leaves->count));
    WEIR_TRY(scratch_take(scratch, &leaves->first_min, leaves->count));
    WEIR_TRY(scratch_take(scratch, &leaves->end_min, leaves->count));
    leaves->first_max = leaves->first_min;
    leaves->end_max = leaves->end_min;
    for (uint32_t node = 0; node < leaves->count; ++node) {
        const plan_item* item = &sky->component->items[sky->item_at[node]];
        leaves->first_min[node] = item->first;
        leaves->end_min[node] = item->end;
    }
    return WEIR_OK;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

// Levels up to the first with a single node, or with so many items that there is no next.
static weir_status make_levels(plan_scratch* scratch, plan_skyline* sky) {
    WEIR_TRY(scratch_take(scratch, &sky->item_at, sky->component->item_count));
    WEIR_TRY(scratch_take(scratch, &sky->node_of, sky->component->item_count));
    WEIR_TRY(order_items(scratch, sky));
    WEIR_TRY(take_leaves(scratch, sky));
    sky->level_count = 1;
    for (uint32_t count = sky->component->item_count; count > 1 && sky->level_count < LEVELS;) {
        const tree_level* below = &sky->levels[sky->level_count - 1];
        tree_level* level = &sky->levels[sky->level_count++];
        count = count / FANOUT + (count % FANOUT != 0);
        WEIR_TRY(take_level(scratch, level, count));
        for (uint32_t i = 0; i < below->count; ++i) {
            const uint32_t node = i / FANOUT;
            const bool is_new = i % FANOUT == 0;
            level->first_min[node] =
                is_new ? below->first_min[i] : least(below->first_min[i], level->first_min[node]);
            level->first_max[node] = most(below->first_max[i], level->first_max[node]);
            level->end_min[node] =
                is_new ? below->end_min[i] : least(below->end_min[i], level->end_min[node]);
            level->end_max[node] = most(below->end_max[i], level->end_max[node]);
        }
    }
    return WEIR_OK;
}

weir_status plan_skyline_make(plan_scratch* scratch, const plan_instance* instance,
                              const plan_component* component, plan_skyline** skyline) {
    const size_t sections = component->section_count;
    plan_skyline* sky = NULL;
    WEIR_TRY(scratch_take(scratch, &sky, 1));
    sky->component = component;
    WEIR_TRY(make_levels(scratch, sky));
    WEIR_TRY(scratch_take(scratch, &sky->keys, component->item_count));
    WEIR_TRY(scratch_take(scratch, &sky->ends, component->item_count));
    WEIR_TRY(scratch_take(scratch, &sky->born_from, sections + 1));
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
    uint32_t next = 0;
    for (uint32_t s = 0; s <= sections; ++s) {
        while (next < component->item_count && component->items[next].first < s) {
            ++next;
        }
        sky->born_from[s] = next;
    }
    *skyline = sky;
    return WEIR_OK;
}
