// What is peculiar to Vulkan: the judge of barriers.
//
// The devices themselves are opened by name (weir/device.h).
//
//     weir_vulkan_verdict verdict;
//     weir_vulkan_judge(NULL, NULL, schedule, &verdict);
//     assert(verdict.hazards == 0 && verdict.needed == verdict.boundaries);
#ifndef WEIR_VULKAN_H
#define WEIR_VULKAN_H

#include <weir/schedule.h>

WEIR_C_BEGIN

// What the synchronisation validation of Khronos says of a schedule.
typedef struct weir_vulkan_verdict {
    uint32_t dispatches;
    uint32_t boundaries;
    uint32_t hazards;  // reported with all boundaries in place: 0 when they are enough
    uint32_t needed;   // boundaries without which at least one hazard is reported
    char message[512]; // the first hazard, or the first boundary that nothing needs; "" for none
} weir_vulkan_verdict;

// Lets the validation layer of Khronos judge the barriers that a program made from a schedule would
// record, with all of them and without each in turn. A hazard is planted first: a layer that does
// not see it judges nothing. Nothing is executed. `device` is as for weir_device_create, NULL is
// "vulkan".
//
// Errors:  WEIR_INVALID_ARGUMENT the schedule is for a target that waits along edges;
//          WEIR_UNSUPPORTED no Vulkan, no layer, or it is not awake; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_judge(const weir_allocator* allocator,
                                                     const char* device,
                                                     const weir_schedule* schedule,
                                                     weir_vulkan_verdict* verdict);

WEIR_C_END

#endif
