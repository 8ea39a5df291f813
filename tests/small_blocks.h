// Arenas in blocks that are as small as their values let them be.
#ifndef WEIR_TESTS_SMALL_BLOCKS_H
#define WEIR_TESTS_SMALL_BLOCKS_H

#include "testing.h"

#include <weir/schedule.h>

// A target of which a storage has room for the largest value of a graph, and no more.
static inline weir_target with_small_blocks(const weir_target* target, const weir_graph* graph,
                                            weir_schedule_options options) {
    weir_target small = *target;
    weir_schedule* schedule = NULL;
    uint64_t largest = 1;
    uint32_t count = 0;
    assert_ok(weir_schedule_create(NULL, graph, target, &options, &schedule));
    const weir_plan_entry* entries = weir_plan_entries(weir_schedule_plan(schedule), &count);
    for (uint32_t i = 0; i < count; i++) {
        largest = entries[i].byte_size > largest ? entries[i].byte_size : largest;
    }
    weir_schedule_destroy(schedule);
    small.storage_bytes_max =
        (largest + target->alignment - 1) / target->alignment * target->alignment;
    return small;
}

#endif
