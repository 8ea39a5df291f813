#include "plan/plan_fill.h"

#include "plan/plan_sort.h"

// Nodes are the live items, by rising offsets, in a ring through one more node that is both the
// floor and the ceiling. The hole of a node is what is free above it.

#define CLASS_BITS 2  // sizes of a class of holes differ by less than a quarter
#define CLASSES 256   // of 64-bit sizes
#define NO_CLASS 0    // a node without a hole
#define CLASS_TRIES 4 // holes tried of one class,
#define TRIES 24      // and of all of them
#define NONE UINT32_MAX
#define RANK_LEVELS 6 // of 64 each
#define WORK 256      // steps per item, before the rest is left

// An item that lay before, in the order of births.
typedef struct kept_item {
    uint64_t offset;
    uint64_t top;
    uint32_t first; // section
    uint32_t item;
} kept_item;

typedef struct fill_state {
    const plan_component* component;
    uint64_t* offsets;
    uint64_t begin;
    uint64_t end;
    uint32_t floor; // the node that is no item
    uint32_t* below;
    uint32_t* above;
    uint32_t* hole_before; // in the list of its class
    uint32_t* hole_after;
    uint8_t* hole_class;
    uint32_t class_first[CLASSES];
    uint64_t class_used[CLASSES / 64];
    uint32_t* dead_first; // per section: what dies where it begins,
    uint32_t* dead_next;  // and the next of that
    kept_item* kept;
    uint32_t kept_count;
    uint32_t kept_next;           // the first that is not born yet
    uint32_t* rank_of;            // per item: place in the order of offsets, or NONE
    uint32_t* item_at;            // the other way round
    uint64_t* ranks[RANK_LEVELS]; // bits: a kept item of the rank lives, below the bit
    uint32_t rank_levels;
    uint64_t work;
} fill_state;

static uint32_t class_of(uint64_t size) {
    if (size >> CLASS_BITS == 0) {
        return (uint32_t)size;
    }
    const uint32_t whole = 63 - (uint32_t)__builtin_clzll(size);
    const uint32_t part = (uint32_t)(size >> (whole - CLASS_BITS)) & ((1u << CLASS_BITS) - 1);
    return ((whole - 1) << CLASS_BITS) + part;
}

static uint64_t top_of(const fill_state* fill, uint32_t node) {
    return node == fill->floor ? fill->begin
                               : fill->offsets[node] + fill->component->items[node].size;
}

static uint64_t hole_end(const fill_state* fill, uint32_t node) {
    const uint32_t above = fill->above[node];
    return above == fill->floor ? fill->end : fill->offsets[above];
}

static void drop_hole(fill_state* fill, uint32_t node) {
    const uint32_t class = fill->hole_class[node];
    if (class == NO_CLASS) {
        return;
    }
    const uint32_t before = fill->hole_before[node];
    const uint32_t after = fill->hole_after[node];
    if (before == NONE) {
        fill->class_first[class] = after;
        fill->class_used[class / 64] &= ~((uint64_t)(after == NONE) << class % 64);
    } else {
        fill->hole_after[before] = after;
    }
    if (after != NONE) {
        fill->hole_before[after] = before;
    }
    fill->hole_class[node] = NO_CLASS;
}

static void list_hole(fill_state* fill, uint32_t node) {
    const uint64_t begin = top_of(fill, node);
    const uint64_t end = hole_end(fill, node);
    if (begin >= end) {
        return;
    }
    const uint32_t class = class_of(end - begin);
    const uint32_t after = fill->class_first[class];
    fill->hole_class[node] = (uint8_t) class;
    fill->hole_before[node] = NONE;
    fill->hole_after[node] = after;
    fill->class_first[class] = node;
    fill->class_used[class / 64] |= (uint64_t)1 << class % 64;
    if (after != NONE) {
        fill->hole_before[after] = node;
    }
}

// Puts an item that lies in the hole of `below` into the ring, until it dies.
static void be_born(fill_state* fill, uint32_t item, uint32_t below) {
    const uint32_t end = fill->component->items[item].end;
    const uint32_t above = fill->above[below];
    drop_hole(fill, below);
    fill->below[item] = below;
    fill->above[item] = above;
    fill->above[below] = item;
    fill->below[above] = item;
    list_hole(fill, below);
    list_hole(fill, item);
    fill->dead_next[item] = fill->dead_first[end];
    fill->dead_first[end] = item;
}

static void die(fill_state* fill, uint32_t item) {
    const uint32_t below = fill->below[item];
    const uint32_t above = fill->above[item];
    drop_hole(fill, item);
    drop_hole(fill, below);
    fill->above[below] = above;
    fill->below[above] = below;
    list_hole(fill, below);
}

// Sets of ranks.

static void add_rank(fill_state* fill, uint32_t rank) {
    for (uint32_t level = 0; level < fill->rank_levels; ++level, rank /= 64) {
        fill->ranks[level][rank / 64] |= (uint64_t)1 << rank % 64;
    }
}

static void remove_rank(fill_state* fill, uint32_t rank) {
    for (uint32_t level = 0; level < fill->rank_levels; ++level, rank /= 64) {
        uint64_t* word = &fill->ranks[level][rank / 64];
        *word &= ~((uint64_t)1 << rank % 64);
        if (*word != 0) {
            return;
        }
    }
}

// The largest rank in the set below `rank`, or NONE.
static uint32_t rank_before(const fill_state* fill, uint32_t rank) {
    for (uint32_t level = 0; level < fill->rank_levels; ++level, rank /= 64) {
        const uint64_t lower = ((uint64_t)1 << rank % 64) - 1;
        const uint64_t word = fill->ranks[level][rank / 64] & lower;
        if (word == 0) {
            continue;
        }
        rank = rank / 64 * 64 + 63 - (uint32_t)__builtin_clzll(word);
        for (; level > 0; --level) {
            rank = rank * 64 + 63 - (uint32_t)__builtin_clzll(fill->ranks[level - 1][rank]);
        }
        return rank;
    }
    return NONE;
}

// Lets the kept item that is next be born, above the last live one that lies lower.
static void next_kept(fill_state* fill) {
    const kept_item* kept = &fill->kept[fill->kept_next++];
    const uint32_t rank = fill->rank_of[kept->item];
    const uint32_t before = rank_before(fill, rank);
    uint32_t below = before == NONE ? fill->floor : fill->item_at[before];
    while (fill->above[below] != fill->floor && fill->offsets[fill->above[below]] < kept->offset) {
        below = fill->above[below];
        ++fill->work;
    }
    add_rank(fill, rank);
    be_born(fill, kept->item, below);
}

// The lowest offset of [begin, end) at which `size` is free of all that is born until `until`, or
// AWAY.
static uint64_t free_offset(fill_state* fill, uint64_t begin, uint64_t end, uint64_t size,
                            uint32_t until) {
    for (bool moved = true; moved && begin + size <= end;) {
        moved = false;
        for (uint32_t k = fill->kept_next; k < fill->kept_count; ++k) {
            const kept_item* kept = &fill->kept[k];
            if (kept->first >= until) {
                break;
            }
            if (kept->offset < begin + size && kept->top > begin) {
                begin = kept->top;
                moved = true;
            }
            ++fill->work;
        }
    }
    return begin + size <= end ? begin : PLAN_FILL_AWAY;
}

// The first class from `class` on that has a hole, or CLASSES.
static uint32_t next_class(const fill_state* fill, uint32_t class) {
    for (uint32_t word = class / 64; word < CLASSES / 64; ++word) {
        const uint64_t from = word == class / 64 ? ~(uint64_t)0 << class % 64 : ~(uint64_t)0;
        const uint64_t used = fill->class_used[word] & from;
        if (used != 0) {
            return word * 64 + (uint32_t)__builtin_ctzll(used);
        }
    }
    return CLASSES;
}

// Lays an item in a hole; false when none of those tried will do.
static bool lay(fill_state* fill, uint32_t index) {
    const plan_item* item = &fill->component->items[index];
    uint32_t tries = 0;
    for (uint32_t class = next_class(fill, class_of(item->size)); class < CLASSES && tries < TRIES;
         class = next_class(fill, class + 1)) {
        uint32_t node = fill->class_first[class];
        for (uint32_t t = 0; t < CLASS_TRIES && node != NONE; ++t, ++tries) {
            const uint64_t offset =
                free_offset(fill, top_of(fill, node), hole_end(fill, node), item->size, item->end);
            if (offset != PLAN_FILL_AWAY) {
                fill->offsets[index] = offset;
                be_born(fill, index, node);
                return true;
            }
            node = fill->hole_after[node];
        }
    }
    return false;
}

// Lets what dies where a section begins go.
static void bury(fill_state* fill, uint32_t section) {
    for (uint32_t dead = fill->dead_first[section]; dead != NONE; dead = fill->dead_next[dead]) {
        if (fill->rank_of[dead] != NONE) {
            remove_rank(fill, fill->rank_of[dead]);
        }
        die(fill, dead);
    }
}

// Lets time pass, up to where the work is spent; returns how many items found no place.
static uint32_t walk(fill_state* fill) {
    const plan_component* component = fill->component;
    const uint64_t work_end = (uint64_t)WORK * component->item_count;
    uint32_t left = 0;
    uint32_t next = 0;
    for (uint32_t s = 0; s < component->section_count; ++s) {
        bury(fill, s);
        while (fill->kept_next < fill->kept_count && fill->kept[fill->kept_next].first == s) {
            next_kept(fill);
        }
        for (; next < component->item_count && component->items[next].first == s; ++next) {
            if (fill->offsets[next] == PLAN_FILL_AWAY) {
                left += fill->work >= work_end || !lay(fill, next);
            }
        }
    }
    return left;
}

// Lists what lies in the window already, by birth as the items are, and ranks it by offset.
static weir_status list_kept(plan_scratch* scratch, fill_state* fill) {
    const plan_component* component = fill->component;
    plan_pair* pairs = NULL;
    plan_pair* spare = NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        count += fill->offsets[i] != PLAN_FILL_AWAY;
    }
    WEIR_TRY(scratch_take(scratch, &fill->kept, count));
    WEIR_TRY(scratch_take(scratch, &fill->item_at, count));
    uint32_t words = count;
    for (fill->rank_levels = 0; fill->rank_levels == 0 || words > 1; ++fill->rank_levels) {
        words = words / 64 + 1;
        WEIR_TRY(scratch_take(scratch, &fill->ranks[fill->rank_levels], words));
    }
    WEIR_TRY(scratch_take(scratch, &pairs, count));
    WEIR_TRY(scratch_take(scratch, &spare, count));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const uint64_t offset = fill->offsets[i];
        fill->rank_of[i] = NONE;
        if (offset != PLAN_FILL_AWAY && offset < fill->end && offset + item->size > fill->begin) {
            pairs[fill->kept_count] = (plan_pair){offset, i};
            fill->kept[fill->kept_count++] =
                (kept_item){offset, offset + item->size, item->first, i};
        }
    }
    plan_sort_pairs(pairs, spare, fill->kept_count);
    for (uint32_t rank = 0; rank < fill->kept_count; ++rank) {
        fill->rank_of[pairs[rank].index] = rank;
        fill->item_at[rank] = pairs[rank].index;
    }
    return WEIR_OK;
}

static weir_status fill_make(plan_scratch* scratch, fill_state* fill) {
    const size_t nodes = (size_t)fill->component->item_count + 1;
    const size_t borders = (size_t)fill->component->section_count + 1;
    fill->floor = fill->component->item_count;
    WEIR_TRY(scratch_take(scratch, &fill->below, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->above, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->hole_before, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->hole_after, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->hole_class, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->dead_next, nodes));
    WEIR_TRY(scratch_take(scratch, &fill->dead_first, borders));
    WEIR_TRY(scratch_take(scratch, &fill->rank_of, nodes));
    WEIR_TRY(list_kept(scratch, fill));
    for (size_t s = 0; s < borders; ++s) {
        fill->dead_first[s] = NONE;
    }
    for (uint32_t class = 0; class < CLASSES; ++class) {
        fill->class_first[class] = NONE;
    }
    fill->below[fill->floor] = fill->floor;
    fill->above[fill->floor] = fill->floor;
    list_hole(fill, fill->floor);
    return WEIR_OK;
}

weir_status plan_fill_lay(plan_scratch* scratch, const plan_component* component, uint64_t begin,
                          uint64_t end, uint64_t* offsets, uint32_t* left) {
    scratch_block* mark = scratch->last;
    fill_state fill = {.component = component, .offsets = offsets, .begin = begin, .end = end};
    const weir_status status = fill_make(scratch, &fill);
    *left = status == WEIR_OK ? walk(&fill) : 0;
    plan_scratch_release(scratch, mark);
    return status;
}
