// Schedules before the oracle: what a program made from one would record, without a program.
#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_oracle.h"
#include "schedule/schedule.h"

typedef struct judged_schedule {
    weir_allocator allocator;
    const weir_schedule* schedule;
    device_dispatch* dispatches;
    weir_access* accesses; // where values were placed; none for what nothing writes
    vulkan_groups groups;
} judged_schedule;

static weir_status list_dispatches(judged_schedule* judged) {
    const weir_schedule* schedule = judged->schedule;
    const size_t count = schedule->dispatches.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(&judged->allocator, count * sizeof(device_dispatch), &memory));
    judged->dispatches = memory;
    WEIR_TRY(weir_alloc_zeroed(&judged->allocator, schedule->operands.count * sizeof(weir_access),
                               &memory));
    judged->accesses = memory;
    for (size_t i = 0; i < count; i++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
        weir_access* accesses = judged->accesses + dispatch->operand_begin;
        uint32_t access_count = 0;
        for (uint32_t k = 0; k < dispatch->operand_count; k++) {
            const schedule_operand* operand =
                &schedule->operands.items[dispatch->operand_begin + k];
            const weir_range range = weir_schedule_placed_range(schedule, operand);
            if (range.byte_length > 0) {
                accesses[access_count++] = (weir_access){.range = range, .kind = operand->kind};
            }
        }
        judged->dispatches[i] = (device_dispatch){.name = dispatch->name,
                                                  .group = dispatch->group,
                                                  .accesses = accesses,
                                                  .access_count = access_count};
    }
    return WEIR_OK;
}

static weir_status judge(judged_schedule* judged, const char* device,
                         weir_vulkan_verdict* verdict) {
    const uint32_t count = (uint32_t)judged->schedule->dispatches.count;
    vulkan_oracle* oracle = NULL;
    WEIR_TRY(list_dispatches(judged));
    WEIR_TRY(vulkan_groups_make(&judged->allocator, judged->dispatches, count, &judged->groups));
    WEIR_TRY(vulkan_oracle_open(&judged->allocator, device, &oracle));
    const weir_status status =
        vulkan_oracle_judge(oracle, judged->dispatches, count, &judged->groups, verdict);
    vulkan_oracle_close(oracle);
    return status;
}

weir_status weir_vulkan_judge(const weir_allocator* allocator, const char* device,
                              const weir_schedule* schedule, weir_vulkan_verdict* verdict) {
    judged_schedule judged = {.allocator = allocator ? *allocator : (weir_allocator){0},
                              .schedule = schedule};
    if (schedule->target.waits != WEIR_WAIT_GROUPS) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "a schedule for target %s has edges to wait for, not boundaries",
                         schedule->target.name);
    }
    const weir_status status = judge(&judged, device, verdict);
    const size_t alignment = _Alignof(max_align_t);
    vulkan_groups_free(&judged.allocator, &judged.groups);
    weir_free(&judged.allocator, judged.dispatches,
              schedule->dispatches.count * sizeof(device_dispatch), alignment);
    weir_free(&judged.allocator, judged.accesses, schedule->operands.count * sizeof(weir_access),
              alignment);
    return status;
}
