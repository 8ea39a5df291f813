#include "backends/vulkan/vulkan_groups.h"

#include <assert.h>
#include <string.h>

#define COMPUTE VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT
#define TRANSFER VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT

// What a hazard asks of a barrier: two kinds of work before and after, and RAW, WAR or WAW.
#define NEEDS (2 * 2 * 3)

typedef struct boundary_builder {
    vulkan_groups* groups;
    uint32_t last[NEEDS]; // the last boundary that gives this
} boundary_builder;

static size_t bytes_of(uint32_t count, size_t item_size) {
    return ((size_t)count + 1) * item_size;
}

static weir_status allocate(const weir_allocator* allocator, uint32_t count, size_t item_size,
                            void** items) {
    return weir_alloc_zeroed(allocator, bytes_of(count, item_size), items);
}

void vulkan_groups_free(const weir_allocator* allocator, vulkan_groups* groups) {
    const uint32_t count = groups->dispatch_count;
    const size_t alignment = _Alignof(max_align_t);
    weir_free(allocator, groups->order, bytes_of(count, sizeof(uint32_t)), alignment);
    weir_free(allocator, groups->begins, bytes_of(count, sizeof(uint32_t)), alignment);
    weir_free(allocator, groups->boundaries, bytes_of(count, sizeof(vulkan_boundary)), alignment);
    weir_free(allocator, groups->group_of, bytes_of(count, sizeof(uint32_t)), alignment);
    weir_free(allocator, groups->transfers, bytes_of(count, sizeof(bool)), alignment);
    weir_tracker_destroy(groups->tracker);
    *groups = (vulkan_groups){0};
}

// Sorts by groups, which leaves dispatches of one group in their order.
static void sort(const device_dispatch* dispatches, vulkan_groups* groups) {
    const uint32_t count = groups->dispatch_count;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t group = dispatches[i].group;
        assert(group < count); // a group has a dispatch, and so have all before it
        groups->begins[group + 1]++;
        groups->group_count = group >= groups->group_count ? group + 1 : groups->group_count;
    }
    for (uint32_t g = 0; g < groups->group_count; g++) {
        groups->begins[g + 1] += groups->begins[g];
    }
    for (uint32_t i = 0; i < count; i++) {
        groups->order[groups->begins[dispatches[i].group]++] = i;
    }
    memmove(groups->begins + 1, groups->begins, groups->group_count * sizeof(uint32_t));
    groups->begins[0] = 0;
}

static VkAccessFlags2 writes_of(bool transfer) {
    return transfer ? VK_ACCESS_2_TRANSFER_WRITE_BIT : VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT;
}

static VkAccessFlags2 reads_of(bool transfer) {
    return transfer ? VK_ACCESS_2_TRANSFER_READ_BIT : VK_ACCESS_2_SHADER_STORAGE_READ_BIT;
}

// What a hazard between two kinds of work needs. A read that a write follows only has to be over.
static vulkan_boundary need_of(uint32_t need) {
    const bool source = need / 6 == 1;
    const bool target = need / 3 % 2 == 1;
    const weir_hazard_kind kind = (weir_hazard_kind)(need % 3 + WEIR_HAZARD_RAW);
    vulkan_boundary needed = {.source_stages = source ? TRANSFER : COMPUTE,
                              .target_stages = target ? TRANSFER : COMPUTE};
    if (kind != WEIR_HAZARD_WAR) {
        needed.source_accesses = writes_of(source);
        needed.target_accesses = kind == WEIR_HAZARD_RAW ? reads_of(target) : writes_of(target);
    }
    return needed;
}

static bool gives(const vulkan_boundary* boundary, const vulkan_boundary* needed) {
    return (needed->source_stages & ~boundary->source_stages) == 0 &&
           (needed->target_stages & ~boundary->target_stages) == 0 &&
           (needed->source_accesses & ~boundary->source_accesses) == 0 &&
           (needed->target_accesses & ~boundary->target_accesses) == 0;
}

static void widen(vulkan_boundary* boundary, const vulkan_boundary* needed) {
    boundary->source_stages |= needed->source_stages;
    boundary->target_stages |= needed->target_stages;
    boundary->source_accesses |= needed->source_accesses;
    boundary->target_accesses |= needed->target_accesses;
}

// A dispatch that declares nothing may have touched anything by any means.
const vulkan_boundary vulkan_everything = {
    .source_stages = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    .target_stages = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    .source_accesses = VK_ACCESS_2_MEMORY_WRITE_BIT,
    .target_accesses = VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT,
};

static void cover(boundary_builder* builder, const weir_hazard* hazard, uint32_t later) {
    const uint32_t group = builder->groups->group_of[later];
    vulkan_boundary* boundary = &builder->groups->boundaries[group];
    if (hazard->kind == WEIR_HAZARD_FENCE) {
        widen(boundary, &vulkan_everything);
        return;
    }
    const uint32_t need = 6 * (uint32_t)builder->groups->transfers[hazard->earlier] +
                          3 * (uint32_t)builder->groups->transfers[later] +
                          (uint32_t)(hazard->kind - WEIR_HAZARD_RAW);
    if (builder->last[need] > builder->groups->group_of[hazard->earlier]) {
        return;
    }
    const vulkan_boundary needed = need_of(need);
    widen(boundary, &needed);
    for (uint32_t i = 0; i < NEEDS; i++) {
        const vulkan_boundary other = need_of(i);
        if (gives(boundary, &other)) {
            builder->last[i] = group;
        }
    }
}

// Goes through the dispatches in the order of recording: whatever a hazard needs must be given by
// one of the boundaries between the two, and if none does, the last one will.
static weir_status find_boundaries(boundary_builder* builder, const device_dispatch* dispatches) {
    const vulkan_groups* groups = builder->groups;
    for (uint32_t group = 0; group < groups->group_count; group++) {
        for (uint32_t at = groups->begins[group]; at < groups->begins[group + 1]; at++) {
            const device_dispatch* dispatch = &dispatches[groups->order[at]];
            const weir_tracker_dispatch declared = {.accesses = dispatch->accesses,
                                                    .access_count = dispatch->access_count,
                                                    .declared = !dispatch->fence};
            weir_verdict verdict;
            builder->groups->group_of[at] = group;
            builder->groups->transfers[at] = vulkan_is_transfer(dispatch);
            WEIR_TRY(weir_tracker_record(builder->groups->tracker, &declared, &verdict));
            for (uint32_t i = 0; i < verdict.hazard_count; i++) {
                const weir_hazard* hazard = &verdict.hazards[i];
                if (builder->groups->group_of[hazard->earlier] == group) {
                    return WEIR_FAIL(WEIR_INTERNAL, "%s and %s conflict and are not ordered",
                                     dispatches[groups->order[hazard->earlier]].name,
                                     dispatch->name);
                }
                cover(builder, hazard, at);
            }
        }
    }
    return WEIR_OK;
}

// An edge that no declared bytes explain still orders the two: a boundary without any need is a
// wait without visibility.
static void fill_empty(vulkan_groups* groups) {
    for (uint32_t group = 1; group < groups->group_count; group++) {
        if (groups->boundaries[group].source_stages == 0) {
            groups->boundaries[group].source_stages = COMPUTE | TRANSFER;
            groups->boundaries[group].target_stages = COMPUTE | TRANSFER;
        }
    }
}

weir_status vulkan_groups_update(const device_dispatch* dispatches, vulkan_groups* groups) {
    const uint32_t count = groups->dispatch_count;
    boundary_builder builder = {.groups = groups};
    groups->group_count = 0;
    memset(groups->begins, 0, bytes_of(count, sizeof(uint32_t)));
    memset(groups->boundaries, 0, bytes_of(count, sizeof(vulkan_boundary)));
    weir_tracker_reset(groups->tracker);
    sort(dispatches, groups);
    WEIR_TRY(find_boundaries(&builder, dispatches));
    fill_empty(groups);
    return WEIR_OK;
}

weir_status vulkan_groups_make(const weir_allocator* allocator, const device_dispatch* dispatches,
                               uint32_t count, vulkan_groups* groups) {
    *groups = (vulkan_groups){.dispatch_count = count};
    WEIR_TRY(allocate(allocator, count, sizeof(uint32_t), (void**)&groups->order));
    WEIR_TRY(allocate(allocator, count, sizeof(uint32_t), (void**)&groups->begins));
    WEIR_TRY(allocate(allocator, count, sizeof(vulkan_boundary), (void**)&groups->boundaries));
    WEIR_TRY(allocate(allocator, count, sizeof(uint32_t), (void**)&groups->group_of));
    WEIR_TRY(allocate(allocator, count, sizeof(bool), (void**)&groups->transfers));
    WEIR_TRY(weir_tracker_create(allocator, WEIR_TRACKER_DAG, &groups->tracker));
    return vulkan_groups_update(dispatches, groups);
}

void vulkan_boundary_record(const vulkan_api* api, VkCommandBuffer commands,
                            const vulkan_boundary* boundary) {
    const VkMemoryBarrier2 barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
                                      .srcStageMask = boundary->source_stages,
                                      .srcAccessMask = boundary->source_accesses,
                                      .dstStageMask = boundary->target_stages,
                                      .dstAccessMask = boundary->target_accesses};
    const VkDependencyInfo dependency = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO,
                                         .memoryBarrierCount = 1,
                                         .pMemoryBarriers = &barrier};
    api->CmdPipelineBarrier2KHR(commands, &dependency);
}
