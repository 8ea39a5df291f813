// Packing where all that is known is which classes conflict: classes are taken in some order, and
// each gets a gap between the conflicting ones already placed. Taking the classes of any plan by
// rising offsets gives a plan that is no higher, so some order is optimal, and searching plans is
// searching orders.
//
// Under a cap the offsets are those of a line of blocks, one after another from 0 up:
//
//     line        0          cap        2 cap
//     block       |    0     |    1     |    2 ...      offset in block = line % cap
//
// and no class lies across a border.
#ifndef WEIR_PLAN_PACK_H
#define WEIR_PLAN_PACK_H

#include "plan/plan_internal.h"

#define PACK_NO_PEAK UINT64_MAX // of an order that reaches its limit or passes PLAN_LIMIT

typedef enum pack_rule {
    PACK_FIRST,  // the lowest gap
    PACK_BEST,   // the smallest gap
    PACK_GROWTH, // the gap that raises the height of its block least
    PACK_RULES
} pack_rule;

typedef struct pack_range {
    uint64_t begin; // on the line
    uint64_t end;
    uint32_t index; // class
} pack_range;

typedef struct plan_pack {
    const plan_instance* instance;
    uint32_t first; // class; offsets and orders count from it
    uint32_t count;
    uint64_t cap;      // bytes of a block; 0: one block without end
    uint64_t* offsets; // on the line
    uint32_t* order;   // classes that are not fixed, in the order they are placed
    uint32_t free_count;
    uint64_t* placed;   // bits: classes placed so far
    pack_range* ranges; // those, by begin
    uint32_t range_count;
    pack_range* near;  // those of them that conflict with the class at work, by begin
    uint64_t* heights; // per block
    uint32_t block_count;
    uint32_t heights_count; // room for
} plan_pack;

// Takes room for packing classes [first, first + count) of one pool.
WEIR_MUST_USE weir_status plan_pack_make(plan_scratch* scratch, const plan_instance* instance,
                                         uint32_t first, uint32_t count, uint64_t cap,
                                         plan_pack* pack);

// Places the fixed classes and then those of the order. Returns the sum of the heights of all
// blocks, or PACK_NO_PEAK once it is sure to reach `limit`.
uint64_t plan_pack_place(plan_pack* pack, pack_rule rule, uint64_t limit);

// Checks that no class is larger than a block and that the fixed ones can be placed.
//
// Errors: WEIR_INFEASIBLE.
WEIR_MUST_USE weir_status plan_pack_check_fixed(plan_pack* pack);

#endif
