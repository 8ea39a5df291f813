// Work of the Vulkan device: launches and copies, recorded once.
//
// What the shaders read besides the operands lies in one block of memory, of the device where the
// host can map that: every workgroup begins with a look at it.
//
//     | parameters of the pass | tables |
//
// Faults, one for each dispatch that can report one, are memory of the host: written only when
// something is wrong, and read after every pass. Copies to and from host bytes go through a third
// piece, the staging.
#ifndef WEIR_BACKENDS_VULKAN_WORK_H
#define WEIR_BACKENDS_VULKAN_WORK_H

#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_groups.h"

typedef struct work_launch {
    uint32_t dispatch;
    VkPipeline pipeline;
    VkPipelineLayout layout;
    VkDescriptorSetLayout set_layout;
    VkDescriptorSet set;
    uint32_t groups[3];
    uint32_t push_bytes;
    uint8_t push[VULKAN_PUSH_BYTES];
    size_t buffer_begin; // in the buffers of the work
    uint32_t buffer_count;
} work_launch;

// A copy between buffers, or a fill with a word where there is no source.
typedef struct work_copy {
    uint32_t dispatch;
    VkBuffer source, target; // VK_NULL_HANDLE: the staging
    bool fills;
    uint32_t word;
    VkBufferCopy region;
} work_copy;

// Host bytes that go to the staging at each submit, or come from it when the pass is over.
typedef struct work_transfer {
    uint8_t* host;
    uint64_t staging_offset, byte_count;
    bool download;
} work_transfer;

struct vulkan_work {
    device_work base;
    vulkan_device* device;
    const device_dispatch* dispatches;
    uint32_t count;
    vulkan_groups groups;
    struct {
        work_launch* items;
        size_t count, capacity;
    } launches; // by dispatch, rising
    struct {
        VkDescriptorBufferInfo* items; // VK_NULL_HANDLE: the block
        size_t count, capacity;
    } buffers;
    struct {
        work_copy* items;
        size_t count, capacity;
    } copies; // by dispatch, rising
    struct {
        work_transfer* items;
        size_t count, capacity;
    } transfers;
    struct {
        uint8_t* items; // what the staging holds from the beginning: patterns of fills
        size_t count, capacity;
    } staged;
    struct {
        float* items;
        size_t count, capacity;
    } tables; // as they are in the block

    uint32_t param_count;
    uint32_t fault_count;
    uint64_t step; // alignment of everything in the block
    uint64_t tables_offset;
    vulkan_memory block, faults, staging;
    VkDescriptorPool descriptors;
    size_t sets_max, buffers_max; // that the pool has room for
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkCommandBuffer timed; // the same with times
    bool timed_recorded;   // which is when they are first asked for
    VkQueryPool queries;
    VkFence fence;
    weir_timing* timings; // of the pass in flight, NULL: none
};

// vulkan_encode.c: fills launches, buffers, copies, transfers and tables.
WEIR_MUST_USE weir_status vulkan_work_encode(vulkan_work* work);

// vulkan_transfer.c: the copies of a dispatch that is no kernel.
WEIR_MUST_USE weir_status vulkan_transfer_encode(vulkan_work* work, uint32_t dispatch);

// vulkan_record.c: records `*commands`, which are allocated where there are none yet.
WEIR_MUST_USE weir_status vulkan_work_record(vulkan_work* work, bool timed,
                                             VkCommandBuffer* commands);
// Reads the times of a finished pass.
void vulkan_work_read_times(vulkan_work* work);

#endif
