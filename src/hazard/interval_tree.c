#include "hazard/interval_tree.h"

#include <assert.h>
#include <string.h>

#include "base/array.h"

void interval_pool_clear(interval_pool* pool) {
    pool->count = 0;
    pool->first_free = INTERVAL_NONE;
    pool->height = 0;
}

// Going down, an insertion splits at most one node of each level, and the root adds one level. Many
// insertions can make the tree higher than it is now, but a node that was just split takes half a
// fanout of them before it is split again: one node more for each of them is room enough.
weir_status interval_pool_reserve(const weir_allocator* allocator, interval_pool* pool,
                                  size_t insertion_count) {
    const size_t needed = pool->count + insertion_count * (pool->height + 3u);
    if (needed <= pool->capacity) {
        return WEIR_OK;
    }
    if (needed >= INTERVAL_NONE) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%zu nodes of open ranges, at most 2^32 - 2", needed);
    }
    return array_reserve(allocator, pool, needed);
}

static uint32_t take_node(interval_pool* pool) {
    uint32_t index = pool->first_free;
    if (index != INTERVAL_NONE) {
        pool->first_free = pool->items[index].next_free;
    } else {
        assert(pool->count < pool->capacity);
        index = (uint32_t)pool->count++;
    }
    pool->items[index].count = 0;
    return index;
}

static void give_node(interval_pool* pool, uint32_t index) {
    pool->items[index].next_free = pool->first_free;
    pool->first_free = index;
}

static bool is_before(const interval_entry* entry, uint64_t begin, uint32_t access) {
    return entry->begin < begin || (entry->begin == begin && entry->access < access);
}

// How many entries come before (begin, access).
static uint32_t find_place(const interval_node* node, uint64_t begin, uint32_t access) {
    const interval_entry* base = node->entries;
    if (node->count > 0 && is_before(base + node->count - 1, begin, access)) {
        return node->count; // rising intervals, the most frequent case
    }
    // Halving without a branch: which half it is cannot be foretold.
    for (uint32_t left = node->count; left > 1;) {
        const uint32_t half = left / 2;
        base += is_before(base + half - 1, begin, access) ? half : 0;
        left -= half;
    }
    return (uint32_t)(base - node->entries) + (node->count > 0 && is_before(base, begin, access));
}

// The child that holds (begin, access), or would: the last that does not begin after it.
static uint32_t find_child(const interval_node* node, uint64_t begin, uint32_t access) {
    const uint32_t place = find_place(node, begin, access);
    const bool exact = place < node->count && node->entries[place].begin == begin &&
                       node->entries[place].access == access;
    return exact || place == 0 ? place : place - 1;
}

static interval_entry summarise(const interval_pool* pool, uint32_t index) {
    const interval_node* node = &pool->items[index];
    interval_entry sum = node->entries[0];
    sum.item = index;
    for (uint32_t i = 1; i < node->count; ++i) {
        sum.end = node->entries[i].end > sum.end ? node->entries[i].end : sum.end;
    }
    return sum;
}

static void insert_at(interval_node* node, uint32_t place, const interval_entry* entry) {
    memmove(&node->entries[place + 1], &node->entries[place],
            (node->count - place) * sizeof *entry);
    node->entries[place] = *entry;
    ++node->count;
}

// Halves a full child; before an insertion at its very end only the last entry leaves, so that
// rising intervals fill their nodes.
static void split_child(interval_pool* pool, interval_node* parent, uint32_t place,
                        const interval_entry* entry) {
    interval_node* left = &pool->items[parent->entries[place].item];
    const uint32_t index = take_node(pool);
    interval_node* right = &pool->items[index];
    const bool appends =
        is_before(&left->entries[INTERVAL_FANOUT - 1], entry->begin, entry->access);
    const uint32_t kept = appends ? INTERVAL_FANOUT - 1 : INTERVAL_FANOUT / 2;
    right->count = INTERVAL_FANOUT - kept;
    left->count = kept;
    memcpy(right->entries, left->entries + kept, right->count * sizeof *right->entries);
    const interval_entry sum = summarise(pool, index);
    insert_at(parent, place + 1, &sum);
    parent->entries[place] = summarise(pool, parent->entries[place].item);
}

static void add_level(interval_pool* pool, interval_tree* tree) {
    const uint32_t root = take_node(pool);
    if (tree->root == INTERVAL_NONE) {
        tree->height = 0;
    } else {
        pool->items[root].entries[0] = summarise(pool, tree->root);
        pool->items[root].count = 1;
    }
    tree->root = root;
    ++tree->height;
    pool->height = pool->height < tree->height ? tree->height : pool->height;
}

void interval_tree_insert(interval_pool* pool, interval_tree* tree, const interval_entry* entry) {
    if (tree->root == INTERVAL_NONE) {
        add_level(pool, tree);
        tree->begin = entry->begin;
        tree->end = entry->end;
    } else if (pool->items[tree->root].count == INTERVAL_FANOUT) {
        const uint32_t full = tree->root;
        add_level(pool, tree);
        assert(pool->items[tree->root].entries[0].item == full);
        (void)full;
        split_child(pool, &pool->items[tree->root], 0, entry);
    }
    interval_node* node = &pool->items[tree->root];
    for (uint32_t level = tree->height; level > 1; --level) {
        uint32_t place = find_child(node, entry->begin, entry->access);
        if (pool->items[node->entries[place].item].count == INTERVAL_FANOUT) {
            split_child(pool, node, place, entry);
            place += is_before(&node->entries[place + 1], entry->begin, entry->access);
        }
        interval_entry* sum = &node->entries[place];
        if (!is_before(sum, entry->begin, entry->access)) {
            sum->begin = entry->begin;
            sum->access = entry->access;
        }
        sum->end = sum->end < entry->end ? entry->end : sum->end;
        node = &pool->items[sum->item];
    }
    insert_at(node, find_place(node, entry->begin, entry->access), entry);
    tree->begin = tree->begin < entry->begin ? tree->begin : entry->begin;
    tree->end = tree->end > entry->end ? tree->end : entry->end;
}

static void remove_below(interval_pool* pool, uint32_t index, uint32_t level, uint64_t begin,
                         uint32_t access) {
    interval_node* node = &pool->items[index];
    const uint32_t place =
        level > 1 ? find_child(node, begin, access) : find_place(node, begin, access);
    assert(place < node->count);
    interval_entry* entry = &node->entries[place];
    if (level > 1) {
        remove_below(pool, entry->item, level - 1, begin, access);
        if (pool->items[entry->item].count > 0) {
            *entry = summarise(pool, entry->item);
            return;
        }
        give_node(pool, entry->item);
    } else {
        assert(entry->begin == begin && entry->access == access);
    }
    --node->count;
    memmove(entry, entry + 1, (node->count - place) * sizeof *entry);
}

// Lowers the root of a tree that entries were removed from, and measures it again.
static void settle_root(interval_pool* pool, interval_tree* tree) {
    if (pool->items[tree->root].count == 0) {
        give_node(pool, tree->root);
        tree->root = INTERVAL_NONE;
        return;
    }
    while (tree->height > 1 && pool->items[tree->root].count == 1) {
        const uint32_t child = pool->items[tree->root].entries[0].item;
        give_node(pool, tree->root);
        tree->root = child;
        --tree->height;
    }
    const interval_entry sum = summarise(pool, tree->root);
    tree->begin = sum.begin;
    tree->end = sum.end;
}

void interval_tree_remove(interval_pool* pool, interval_tree* tree, uint64_t begin,
                          uint32_t access) {
    remove_below(pool, tree->root, tree->height, begin, access);
    settle_root(pool, tree);
}

// Keeps what is outside of [swept->begin, swept->end) or has another item.
static void sweep_below(interval_pool* pool, uint32_t index, uint32_t level,
                        const interval_entry* swept) {
    interval_node* node = &pool->items[index];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < node->count; ++i) {
        interval_entry* entry = &node->entries[i];
        const bool meets = entry->begin < swept->end && swept->begin < entry->end;
        if (meets && level > 1) {
            sweep_below(pool, entry->item, level - 1, swept);
            if (pool->items[entry->item].count == 0) {
                give_node(pool, entry->item);
                continue;
            }
            *entry = summarise(pool, entry->item);
        } else if (meets && entry->begin >= swept->begin && entry->end <= swept->end &&
                   entry->item == swept->item) {
            continue;
        }
        if (kept != i) {
            node->entries[kept] = *entry;
        }
        ++kept;
    }
    node->count = kept;
}

void interval_tree_sweep(interval_pool* pool, interval_tree* tree, uint64_t begin, uint64_t end,
                         uint32_t item) {
    const interval_entry swept = {.begin = begin, .end = end, .item = item};
    if (!interval_tree_misses(tree, begin, end)) {
        sweep_below(pool, tree->root, tree->height, &swept);
        settle_root(pool, tree);
    }
}

static weir_status find_below(const weir_allocator* allocator, const interval_pool* pool,
                              uint32_t index, uint32_t level, const interval_entry* asked,
                              interval_array* hits) {
    const interval_node* node = &pool->items[index];
    for (uint32_t i = 0; i < node->count && node->entries[i].begin < asked->end; ++i) {
        if (node->entries[i].end <= asked->begin) {
            continue;
        }
        if (level > 1) {
            WEIR_TRY(find_below(allocator, pool, node->entries[i].item, level - 1, asked, hits));
        } else {
            if (hits->count == hits->capacity) {
                WEIR_TRY(array_reserve(allocator, hits, hits->count + 1));
            }
            hits->items[hits->count++] = node->entries[i];
        }
    }
    return WEIR_OK;
}

weir_status interval_tree_find(const weir_allocator* allocator, const interval_pool* pool,
                               const interval_tree* tree, uint64_t begin, uint64_t end,
                               interval_array* hits) {
    const interval_entry asked = {.begin = begin, .end = end};
    return interval_tree_misses(tree, begin, end)
               ? WEIR_OK
               : find_below(allocator, pool, tree->root, tree->height, &asked, hits);
}
