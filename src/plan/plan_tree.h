// Which waiting item has the largest key, of those whose lives lie within a stretch of sections. A
// life is a point of the plane of births and deaths, and the wanted ones lie in a quadrant of it:
//
//     death  .  . |
//       end  -----+        born in `first` or later and dead at `end`: right of and below
//            .  . | *      the corner
//            .    | *  *
//               first  birth
//
// Items follow each other along a Z-order curve (Morton 1966), so that those of a node lie close
// together in both directions. Nodes wholly inside the quadrant give their largest key at once, and
// only those on its border are entered: of the order of sqrt(n), where a tree over births alone
// enters up to n.
#ifndef WEIR_PLAN_TREE_H
#define WEIR_PLAN_TREE_H

#include "plan/plan_sections.h"

#define PLAN_TREE_LEVELS 8 // of 16 nodes each: 2^32 items
#define PLAN_TREE_NONE UINT32_MAX

// Level 0 has one node per item; a node above stands for 16 nodes below it, and knows within which
// borders the lives of their items lie.
typedef struct plan_tree_level {
    int64_t* largest_key; // of the items that wait; INT64_MIN: none does
    uint32_t* first_min;
    uint32_t* first_max;
    uint32_t* end_min;
    uint32_t* end_max;
    uint32_t count;
} plan_tree_level;

typedef struct plan_tree {
    const plan_component* component;
    plan_tree_level levels[PLAN_TREE_LEVELS];
    uint32_t level_count;
    uint32_t* item_at;   // per node of level 0
    uint32_t* node_of;   // per item: its node of level 0
    uint32_t* born_from; // per section and one more: the first item born in it or later
    uint32_t* ends;      // per item that waits: one past its last section; of others UINT32_MAX
    int64_t* keys;       // per item
} plan_tree;

WEIR_MUST_USE weir_status plan_tree_make(plan_scratch* scratch, const plan_component* component,
                                         plan_tree* tree);

// Lets all items wait but the fixed ones, by the keys at hand.
void plan_tree_fill(plan_tree* tree);

// Takes an item that waits out.
void plan_tree_take(plan_tree* tree, uint32_t item);

// Finds the item with the largest key that is born in section `first` or later and dead at `end`;
// PLAN_TREE_NONE where none waits. Which one of several with one key is the same each time.
uint32_t plan_tree_find(const plan_tree* tree, uint32_t first, uint32_t end);

#endif
