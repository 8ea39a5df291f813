// Soft conflicts: offsets under a limit such that few weighted pairs share bytes.
#ifndef WEIR_PLAN_SOFT_H
#define WEIR_PLAN_SOFT_H

#include "plan/plan_order.h"

#define PLAN_SOFT_CLASSES_MAX 2048 // with more the offsets stay as they are

// The bytes that may be used: in each block those below its top. Offsets are those of the line of
// blocks (plan/plan_pack.h).
typedef struct plan_soft_room {
    uint64_t cap;   // bytes of a block; 0: one block without end
    uint64_t* tops; // per block, at most `cap`
    uint32_t block_count;
} plan_soft_room;

// Improves the offsets of classes [first, first + count) of one pool, which are a placement within
// the room on entry: less penalty of the problem's pairs, and no byte outside of the room.
// Placements one class after another first, then rounds that take some classes out and put them
// back where they cost least. `offsets` counts from class 0 of the instance.
WEIR_MUST_USE weir_status plan_soft_place(plan_scratch* scratch, const plan_instance* instance,
                                          const weir_plan_problem* problem, uint32_t first,
                                          uint32_t count, const plan_soft_room* room,
                                          plan_budget* budget, uint64_t* offsets);

// The same for all pools, each within the heights that its blocks have and `slack` bytes more over
// all pools. `peak` becomes the sum of all heights.
WEIR_MUST_USE weir_status plan_soften(plan_scratch* scratch, const plan_instance* instance,
                                      const weir_plan_problem* problem, uint64_t slack,
                                      plan_budget* budget, uint64_t* offsets, uint64_t* peak);

#endif
