#include "plan/plan_tree.h"

#include "plan/plan_sort.h"

// Keys change with every placement, lives never do: the borders of nodes are found once, and only
// the largest keys are filled in anew. A node all of whose items are taken has no key, so that its
// borders need not follow.

#define FANOUT 16u
#define FEW_ITEMS 256   // born in a stretch: looked at one by one, for the rows of births are short
#define TAKEN INT64_MIN // key of an item that does not wait

// Each level has a sixteenth of the nodes of the one below: all of them together cost little more
// than the leaves.
void plan_tree_fill(plan_tree* tree) {
    const uint32_t count = tree->component->item_count;
    for (uint32_t i = 0; i < count; ++i) {
        const plan_item* item = &tree->component->items[i];
        tree->ends[i] = item->fixed ? UINT32_MAX : item->end;
    }
    for (uint32_t node = 0; node < count; ++node) {
        const uint32_t item = tree->item_at[node];
        tree->levels[0].largest_key[node] =
            tree->ends[item] != UINT32_MAX ? tree->keys[item] : TAKEN;
    }
    for (uint32_t level = 1; level < tree->level_count; ++level) {
        const plan_tree_level* below = &tree->levels[level - 1];
        plan_tree_level* here = &tree->levels[level];
        for (uint32_t node = 0; node < here->count; ++node) {
            here->largest_key[node] = TAKEN;
        }
        for (uint32_t i = 0; i < below->count; ++i) {
            int64_t* key = &here->largest_key[i / FANOUT];
            *key = below->largest_key[i] > *key ? below->largest_key[i] : *key;
        }
    }
}

// A node that has a larger key stays as it is, and so does all above it; others look at their
// sixteen children again.
void plan_tree_take(plan_tree* tree, uint32_t item) {
    uint32_t node = tree->node_of[item];
    const int64_t gone = tree->levels[0].largest_key[node];
    tree->levels[0].largest_key[node] = TAKEN;
    tree->ends[item] = UINT32_MAX;
    for (uint32_t level = 1; level < tree->level_count; ++level) {
        const plan_tree_level* below = &tree->levels[level - 1];
        node /= FANOUT;
        int64_t* here = &tree->levels[level].largest_key[node];
        if (*here > gone) {
            return; // so nothing above changes either
        }
        const uint32_t first = node * FANOUT;
        const uint32_t end = below->count - first < FANOUT ? below->count : first + FANOUT;
        int64_t key = TAKEN;
        for (uint32_t i = first; i < end; ++i) {
            key = below->largest_key[i] > key ? below->largest_key[i] : key;
        }
        *here = key;
    }
}

typedef struct tree_search {
    const plan_tree* tree;
    uint32_t first; // no item may be born before
    uint32_t end;   // nor live longer
    int64_t key;    // the largest so far, of an item below this node
    uint32_t level;
    uint32_t node;
} tree_search;

static bool is_inside(const tree_search* found, const plan_tree_level* level, uint32_t node) {
    return level->first_min[node] >= found->first && level->end_max[node] <= found->end;
}

static bool is_apart(const tree_search* found, const plan_tree_level* level, uint32_t node) {
    return level->first_max[node] < found->first || level->end_min[node] > found->end;
}

// Looks through nodes [first, end) of a level: of equal keys the one seen first wins. What lies
// inside comes before what must be entered, for its keys spare most entries.
static void search_level(tree_search* found, uint32_t level, uint32_t first, uint32_t end) {
    const plan_tree_level* here = &found->tree->levels[level];
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
            const uint32_t count = found->tree->levels[level - 1].count;
            const uint32_t below = node * FANOUT;
            search_level(found, level - 1, below, count - below < FANOUT ? count : below + FANOUT);
        }
    }
}

// Walks down to the item that has the key of a node.
static uint32_t item_below(const plan_tree* tree, uint32_t level, uint32_t node) {
    const int64_t key = tree->levels[level].largest_key[node];
    for (; level > 0; --level) {
        node *= FANOUT;
        while (tree->levels[level - 1].largest_key[node] != key) {
            ++node;
        }
    }
    return tree->item_at[node];
}

uint32_t plan_tree_find(const plan_tree* tree, uint32_t first, uint32_t end) {
    const uint32_t from = tree->born_from[first];
    const uint32_t to = tree->born_from[end];
    if (to - from > FEW_ITEMS) {
        tree_search found = {.tree = tree, .first = first, .end = end, .key = TAKEN};
        const uint32_t top = tree->level_count - 1;
        search_level(&found, top, 0, tree->levels[top].count);
        return found.key == TAKEN ? PLAN_TREE_NONE : item_below(tree, found.level, found.node);
    }
    int64_t key = TAKEN;
    uint32_t item = PLAN_TREE_NONE;
    for (uint32_t i = from; i < to; ++i) {
        if (tree->ends[i] <= end && tree->keys[i] > key) {
            key = tree->keys[i];
            item = i;
        }
    }
    return item;
}

// Spreads the bits of a number to the even places of a word, by halves (Warren, Hacker's Delight,
// section 7-2).
static uint64_t spread_bits(uint32_t number) {
    uint64_t bits = number;
    bits = (bits | bits << 16) & 0x0000FFFF0000FFFFu;
    bits = (bits | bits << 8) & 0x00FF00FF00FF00FFu;
    bits = (bits | bits << 4) & 0x0F0F0F0F0F0F0F0Fu;
    bits = (bits | bits << 2) & 0x3333333333333333u;
    return (bits | bits << 1) & 0x5555555555555555u;
}

// Lists the items along the curve: the bits of birth and death take turns in the key, from the
// highest on, so that the items of a node lie in few small rectangles.
static weir_status order_items(plan_scratch* scratch, plan_tree* tree) {
    const uint32_t count = tree->component->item_count;
    scratch_block* mark = scratch->last;
    plan_pair* pairs = NULL;
    plan_pair* spare = NULL;
    weir_status status = scratch_take(scratch, &pairs, count);
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &spare, count);
    }
    for (uint32_t i = 0; i < count && status == WEIR_OK; ++i) {
        const plan_item* item = &tree->component->items[i];
        pairs[i] = (plan_pair){spread_bits(item->first) << 1 | spread_bits(item->end), i};
    }
    if (status == WEIR_OK) {
        plan_sort_pairs(pairs, spare, count);
    }
    for (uint32_t node = 0; node < count && status == WEIR_OK; ++node) {
        tree->item_at[node] = pairs[node].index;
        tree->node_of[pairs[node].index] = node;
    }
    plan_scratch_release(scratch, mark);
    return status;
}

static weir_status take_level(plan_scratch* scratch, plan_tree_level* level, uint32_t count) {
    level->count = count;
    WEIR_TRY(scratch_take(scratch, &level->largest_key, count));
    WEIR_TRY(scratch_take(scratch, &level->first_min, count));
    WEIR_TRY(scratch_take(scratch, &level->first_max, count));
    WEIR_TRY(scratch_take(scratch, &level->end_min, count));
    return scratch_take(scratch, &level->end_max, count);
}

// An item alone has its birth and death as borders, each of them twice.
static weir_status take_leaves(plan_scratch* scratch, plan_tree* tree) {
    plan_tree_level* leaves = &tree->levels[0];
    leaves->count = tree->component->item_count;
    WEIR_TRY(scratch_take(scratch, &leaves->largest_key, leaves->count));
    WEIR_TRY(scratch_take(scratch, &leaves->first_min, leaves->count));
    WEIR_TRY(scratch_take(scratch, &leaves->end_min, leaves->count));
    leaves->first_max = leaves->first_min;
    leaves->end_max = leaves->end_min;
    for (uint32_t node = 0; node < leaves->count; ++node) {
        const plan_item* item = &tree->component->items[tree->item_at[node]];
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
static weir_status make_levels(plan_scratch* scratch, plan_tree* tree) {
    WEIR_TRY(scratch_take(scratch, &tree->item_at, tree->component->item_count));
    WEIR_TRY(scratch_take(scratch, &tree->node_of, tree->component->item_count));
    WEIR_TRY(order_items(scratch, tree));
    WEIR_TRY(take_leaves(scratch, tree));
    tree->level_count = 1;
    for (uint32_t count = tree->component->item_count;
         count > 1 && tree->level_count < PLAN_TREE_LEVELS;) {
        const plan_tree_level* below = &tree->levels[tree->level_count - 1];
        plan_tree_level* level = &tree->levels[tree->level_count++];
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

weir_status plan_tree_make(plan_scratch* scratch, const plan_component* component,
                           plan_tree* tree) {
    *tree = (plan_tree){.component = component};
    WEIR_TRY(make_levels(scratch, tree));
    WEIR_TRY(scratch_take(scratch, &tree->keys, component->item_count));
    WEIR_TRY(scratch_take(scratch, &tree->ends, component->item_count));
    WEIR_TRY(scratch_take(scratch, &tree->born_from, (size_t)component->section_count + 1));
    uint32_t next = 0;
    for (uint32_t s = 0; s <= component->section_count; ++s) {
        while (next < component->item_count && component->items[next].first < s) {
            ++next;
        }
        tree->born_from[s] = next;
    }
    return WEIR_OK;
}
