// Ordered intervals that may overlap: a B+-tree by begin whose inner entries also carry the
// greatest end below them, so that a question for the intervals that meet [begin, end) visits only
// paths that may lead to one. Up to INTERVAL_FANOUT intervals are one sorted array.
//
// Nodes come from a pool that all trees of a tracker share, and are named by index. Emptying the
// pool empties all trees in constant time; its memory stays.
//
//     inner entry:  begin  = least begin below it      leaf entry:  begin, end of an interval
//                   access = that interval's                        access = whose it is
//                   end    = greatest end below it                  item   = the owner's
//                   item   = child
//
// Removing rebalances nothing: nodes vanish when they are empty. The height then still is at most
// logarithmic in the number of insertions (Sen and Tarjan 2014, "Deletion without rebalancing in
// multiway search trees").
#ifndef WEIR_HAZARD_INTERVAL_TREE_H
#define WEIR_HAZARD_INTERVAL_TREE_H

#include <weir/allocator.h>

#define INTERVAL_FANOUT 32
#define INTERVAL_NONE UINT32_MAX

// Entries of one tree are ordered by (begin, access), which no two of them share.
typedef struct interval_entry {
    uint64_t begin;
    uint64_t end;
    uint32_t access;
    uint32_t item;
} interval_entry;

typedef struct interval_node {
    uint32_t count;
    uint32_t next_free;
    interval_entry entries[INTERVAL_FANOUT];
} interval_node;

typedef struct interval_pool {
    interval_node* items;
    size_t count; // handed out or in the free list
    size_t capacity;
    uint32_t first_free;
    uint32_t height; // of the highest tree since the pool was emptied
} interval_pool;

// All intervals lie in [begin, end); the tree is empty when root is INTERVAL_NONE.
typedef struct interval_tree {
    uint64_t begin;
    uint64_t end;
    uint32_t root;
    uint32_t height;
} interval_tree;

typedef struct interval_array {
    interval_entry* items;
    size_t count;
    size_t capacity;
} interval_array;

void interval_pool_clear(interval_pool* pool);

// Makes room for `insertion_count` insertions, which then cannot fail.
WEIR_MUST_USE weir_status interval_pool_reserve(const weir_allocator* allocator,
                                                interval_pool* pool, size_t insertion_count);

static inline void interval_tree_init(interval_tree* tree) {
    tree->root = INTERVAL_NONE;
}

// Tells whether no interval can meet [begin, end), without looking at any.
static inline bool interval_tree_misses(const interval_tree* tree, uint64_t begin, uint64_t end) {
    return tree->root == INTERVAL_NONE || begin >= tree->end || end <= tree->begin;
}

// Appends the entries that meet [begin, end) to `hits`, in order.
WEIR_MUST_USE weir_status interval_tree_find(const weir_allocator* allocator,
                                             const interval_pool* pool, const interval_tree* tree,
                                             uint64_t begin, uint64_t end, interval_array* hits);

void interval_tree_insert(interval_pool* pool, interval_tree* tree, const interval_entry* entry);

// Removes an entry that is in the tree.
void interval_tree_remove(interval_pool* pool, interval_tree* tree, uint64_t begin,
                          uint32_t access);

// Removes all entries with this item that lie in [begin, end).
void interval_tree_sweep(interval_pool* pool, interval_tree* tree, uint64_t begin, uint64_t end,
                         uint32_t item);

#endif
