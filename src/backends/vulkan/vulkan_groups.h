// The order in which dispatches are recorded, and the barriers between them.
//
// Groups come from the schedule, or are the levels of the DAG: there are as many barriers as it is
// deep. They are recorded one after another, with one barrier before each but the first. It orders
// everything before it with everything after it; what it makes visible is what the hazards that
// cross it need and no more.
#ifndef WEIR_BACKENDS_VULKAN_GROUPS_H
#define WEIR_BACKENDS_VULKAN_GROUPS_H

#include "backends/vulkan/vulkan_api.h"
#include "device/backend.h"

typedef struct vulkan_boundary {
    VkPipelineStageFlags2 source_stages, target_stages;
    VkAccessFlags2 source_accesses, target_accesses;
} vulkan_boundary;

typedef struct vulkan_groups {
    uint32_t* order;             // the dispatches, group by group
    uint32_t* begins;            // group g is order[begins[g]] .. order[begins[g + 1] - 1]
    vulkan_boundary* boundaries; // boundaries[g] stands before group g; that of group 0 is empty
    uint32_t group_count;
    uint32_t dispatch_count;
    uint32_t* group_of;    // per dispatch, in the order of recording
    bool* transfers;       // the same
    weir_tracker* tracker; // kept, so that new bindings cost no memory
} vulkan_groups;

// Tells whether a dispatch is commands that move bytes, and no shader.
static inline bool vulkan_is_transfer(const device_dispatch* dispatch) {
    return dispatch->kind != DEVICE_KERNEL && dispatch->kind != DEVICE_NARROW;
}

// Finds groups and barriers; undone by vulkan_groups_free, also after a failure.
//
// Errors: WEIR_OUT_OF_MEMORY; WEIR_INTERNAL a hazard that the predecessors do not order.
WEIR_MUST_USE weir_status vulkan_groups_make(const weir_allocator* allocator,
                                             const device_dispatch* dispatches, uint32_t count,
                                             vulkan_groups* groups);
// Finds them anew for as many dispatches, whose accesses have changed.
WEIR_MUST_USE weir_status vulkan_groups_update(const device_dispatch* dispatches,
                                               vulkan_groups* groups);
void vulkan_groups_free(const weir_allocator* allocator, vulkan_groups* groups);

// Whatever came before, by any means, then whatever comes after.
extern const vulkan_boundary vulkan_everything;

// Records a barrier.
void vulkan_boundary_record(const vulkan_api* api, VkCommandBuffer commands,
                            const vulkan_boundary* boundary);

#endif
