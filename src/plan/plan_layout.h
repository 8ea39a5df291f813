// A plan laid out for drawing: what has bytes, in the order of pools, blocks and offsets, and the
// clock of the problem.
#ifndef WEIR_PLAN_LAYOUT_H
#define WEIR_PLAN_LAYOUT_H

#include <weir/plan_report.h>

#include "plan/plan_box.h"

typedef struct plan_layout {
    const weir_plan_report* report;
    weir_allocator allocator;
    plan_box* boxes; // of what has bytes and is no alias
    uint32_t count;
    int64_t clock_begin; // begin < end; [0, 1) where no buffer has an interval
    int64_t clock_end;
} plan_layout;

// Gives back nothing on failure.
WEIR_MUST_USE weir_status plan_layout_make(const weir_allocator* allocator,
                                           const weir_plan_report* report, plan_layout* layout);
void plan_layout_free(plan_layout* layout);

// Returns how many boxes from `first` on lie in its block, and the bytes that the block needs.
uint32_t plan_layout_block(const plan_layout* layout, uint32_t first, uint64_t* byte_size);

// Returns how many lives a buffer has, at least one; `life` gives them, cut to the clock.
uint32_t plan_layout_lives(const plan_layout* layout, uint32_t buffer);
weir_plan_interval plan_layout_life(const plan_layout* layout, uint32_t buffer, uint32_t life);

// Returns a * b / c without overflow on the way; b <= c.
uint64_t plan_layout_scale(uint64_t a, uint64_t b, uint64_t c);

#endif
