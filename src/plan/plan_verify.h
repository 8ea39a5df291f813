// What the parts of the verifier share. It takes nothing from the planner.
#ifndef WEIR_PLAN_VERIFY_H
#define WEIR_PLAN_VERIFY_H

#include <weir/plan.h>

// One buffer with bytes, where the plan puts it.
typedef struct verify_region {
    uint64_t begin;
    uint64_t end;
    uint32_t pool;
    uint32_t block;
    uint32_t buffer;
    uint32_t root; // buffers of one root are one memory
} verify_region;

typedef struct verifier {
    const weir_allocator* allocator;
    const weir_plan_problem* problem;
    const weir_plan_entry* entries;
    weir_plan_in_place* pairs; // those of the problem, sorted
    verify_region* regions;    // by pool, by block, by begin, by buffer
    uint32_t region_count;
    uint32_t* taken_by; // per buffer: the one that takes its bytes in place, or WEIR_PLAN_NONE
} verifier;

// Judges two regions that share a byte and conflict: they must be one memory, or the one pair that
// takes these bytes in place.
WEIR_MUST_USE weir_status plan_verify_pair(verifier* check, const verify_region* a,
                                           const verify_region* b);

// Judges every two regions of one block, [first, first + count), that share a byte and are live at
// the same time.
WEIR_MUST_USE weir_status plan_verify_sweep(verifier* check, uint32_t first, uint32_t count);

#endif
