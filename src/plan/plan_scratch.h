// Memory of one planning call: taken block by block, given back down to a mark, all at once.
#ifndef WEIR_PLAN_SCRATCH_H
#define WEIR_PLAN_SCRATCH_H

#include <weir/allocator.h>

typedef struct scratch_block scratch_block;

typedef struct plan_scratch {
    weir_allocator allocator;
    scratch_block* last; // newest block; NULL when there is none
} plan_scratch;

// Takes zeroed memory for `count` items of the pointer's type.
#define scratch_take(scratch, pointer, count)                                                      \
    plan_scratch_take((scratch), (count), sizeof **(pointer), (void**)(pointer))

WEIR_MUST_USE weir_status plan_scratch_take(plan_scratch* scratch, size_t count, size_t item_size,
                                            void** pointer);

// Gives back every block newer than `mark` (a former value of `last`; NULL: all).
void plan_scratch_release(plan_scratch* scratch, scratch_block* mark);

#endif
