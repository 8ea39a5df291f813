#include <string.h>

#include "backends/vulkan/vulkan_work.h"
#include "base/clock.h"

// Commands that are being recorded. A boundary is due until the first command of its group: what a
// launch binds comes before it, so that the device may take that in while it waits.
typedef struct recorder {
    const vulkan_work* work;
    const vulkan_api* api;
    VkCommandBuffer commands;
    const vulkan_boundary* due;
} recorder;

static void record_due(recorder* r) {
    if (r->due) {
        vulkan_boundary_record(r->api, r->commands, r->due);
        r->due = NULL;
    }
}

static void record_launch(recorder* r, const work_launch* launch) {
    r->api->CmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, launch->pipeline);
    r->api->CmdBindDescriptorSets(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, launch->layout, 0, 1,
                                  &launch->set, 0, NULL);
    if (launch->push_bytes > 0) {
        r->api->CmdPushConstants(r->commands, launch->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                 launch->push_bytes, launch->push);
    }
    record_due(r);
    r->api->CmdDispatch(r->commands, launch->groups[0], launch->groups[1], launch->groups[2]);
}

static void record_copy(recorder* r, const work_copy* copy) {
    VkBuffer source = copy->source ? copy->source : r->work->staging.buffer;
    VkBuffer target = copy->target ? copy->target : r->work->staging.buffer;
    record_due(r);
    if (copy->fills) {
        r->api->CmdFillBuffer(r->commands, target, copy->region.dstOffset, copy->region.size,
                              copy->word);
    } else {
        r->api->CmdCopyBuffer(r->commands, source, target, 1, &copy->region);
    }
}

// The first launch and the first copy of a dispatch, by bisection: both lists are sorted.
#define FIRST_OF(list, number, found)                                                              \
    do {                                                                                           \
        size_t high = (list).count;                                                                \
        (found) = 0;                                                                               \
        while ((found) < high) {                                                                   \
            const size_t middle = (found) + (high - (found)) / 2;                                  \
            if ((list).items[middle].dispatch < (number)) {                                        \
                (found) = middle + 1;                                                              \
            } else {                                                                               \
                high = middle;                                                                     \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void record_dispatch(recorder* r, uint32_t number) {
    const vulkan_work* work = r->work;
    size_t at = 0;
    FIRST_OF(work->launches, number, at);
    for (; at < work->launches.count && work->launches.items[at].dispatch == number; at++) {
        record_launch(r, &work->launches.items[at]);
    }
    FIRST_OF(work->copies, number, at);
    for (; at < work->copies.count && work->copies.items[at].dispatch == number; at++) {
        record_copy(r, &work->copies.items[at]);
    }
}

static void record_timed(recorder* r, uint32_t number) {
    record_due(r); // it is no part of the time
    r->api->CmdWriteTimestamp2KHR(r->commands, VK_PIPELINE_STAGE_2_TOP_OF_PIPE_BIT,
                                  r->work->queries, 2 * number);
    record_dispatch(r, number);
    r->api->CmdWriteTimestamp2KHR(r->commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
                                  r->work->queries, 2 * number + 1);
}

static void record_groups(const vulkan_work* work, VkCommandBuffer commands, bool timed) {
    const vulkan_groups* groups = &work->groups;
    recorder r = {.work = work, .api = &work->device->instance.api, .commands = commands};
    for (uint32_t group = 0; group < groups->group_count; group++) {
        record_due(&r); // of a group without commands
        if (group > 0 && !work->device->options.without_barriers) {
            r.due = &groups->boundaries[group];
        }
        for (uint32_t at = groups->begins[group]; at < groups->begins[group + 1]; at++) {
            if (timed) {
                record_timed(&r, groups->order[at]);
            } else {
                record_dispatch(&r, groups->order[at]);
            }
        }
    }
    record_due(&r);
}

// Waiting for a fence makes nothing visible to the host by itself. The device needs no more of what
// this pass has written, not even where later passes read it without a barrier in front of them
// (vulkan_queue_submit): those are submitted after its fence was waited for.
static const vulkan_boundary to_the_host = {
    .source_stages = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
    .source_accesses = VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT,
    .target_stages = VK_PIPELINE_STAGE_2_HOST_BIT,
    .target_accesses = VK_ACCESS_2_HOST_READ_BIT,
};

static weir_status make_queries(vulkan_work* work) {
    const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                        .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                        .queryCount = 2 * work->count};
    if (work->device->probe.timestamp_bits == 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s takes no times", work->device->probe.name);
    }
    return work->queries ? WEIR_OK
                         : vulkan_status(work->device->instance.api.CreateQueryPool(
                                             work->device->handle, &info, NULL, &work->queries),
                                         "vkCreateQueryPool");
}

weir_status vulkan_work_record(vulkan_work* work, bool timed, VkCommandBuffer* commands) {
    const vulkan_api* api = &work->device->instance.api;
    const VkCommandBufferAllocateInfo buffers = {.sType =
                                                     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                 .commandPool = work->pool,
                                                 .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                 .commandBufferCount = 1};
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    if (timed) {
        WEIR_TRY(make_queries(work));
    }
    if (!*commands) {
        VULKAN_TRY("vkAllocateCommandBuffers",
                   api->AllocateCommandBuffers(work->device->handle, &buffers, commands));
    }
    VkCommandBuffer made = *commands;
    VULKAN_TRY("vkBeginCommandBuffer", api->BeginCommandBuffer(made, &begin));
    if (timed) {
        api->CmdResetQueryPool(made, work->queries, 0, 2 * work->count);
    }
    record_groups(work, made, timed);
    vulkan_boundary_record(api, made, &to_the_host);
    return vulkan_status(api->EndCommandBuffer(made), "vkEndCommandBuffer");
}

// A moment on the clock of the device and on that of the host.
typedef struct moment {
    uint64_t ticks, host_ns;
} moment;

// Without VK_EXT_calibrated_timestamps (or the same as KHR) the last tick is taken for now.
static moment find_moment(const vulkan_device* device, uint64_t last) {
    const VkCalibratedTimestampInfoEXT clocks[2] = {
        {.sType = VK_STRUCTURE_TYPE_CALIBRATED_TIMESTAMP_INFO_EXT,
         .timeDomain = VK_TIME_DOMAIN_DEVICE_EXT},
        {.sType = VK_STRUCTURE_TYPE_CALIBRATED_TIMESTAMP_INFO_EXT,
         .timeDomain = VK_TIME_DOMAIN_CLOCK_MONOTONIC_EXT},
    };
    uint64_t times[2];
    uint64_t deviation = 0;
    if (device->probe.calibrated &&
        device->instance.api.GetCalibratedTimestampsEXT(device->handle, 2, clocks, times,
                                                        &deviation) == VK_SUCCESS) {
        return (moment){times[0], times[1]};
    }
    return (moment){last, clock_ns()};
}

// Ticks count modulo 2^bits: the shorter way from the moment counts.
static uint64_t host_time(const vulkan_probe* probe, moment at, uint64_t ticks) {
    const uint32_t unused = 64 - probe->timestamp_bits;
    const int64_t distance = (int64_t)((ticks - at.ticks) << unused) / (INT64_C(1) << unused);
    return at.host_ns + (uint64_t)(int64_t)((double)distance * (double)probe->timestamp_period_ns);
}

void vulkan_work_read_times(vulkan_work* work) {
    const vulkan_api* api = &work->device->instance.api;
    const vulkan_probe* probe = &work->device->probe;
    uint64_t last = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        uint64_t ticks[2] = {0};
        const VkResult result =
            api->GetQueryPoolResults(work->device->handle, work->queries, 2 * i, 2, sizeof ticks,
                                     ticks, sizeof ticks[0], VK_QUERY_RESULT_64_BIT);
        if (result != VK_SUCCESS) { // no times rather than wrong ones
            memset(work->timings, 0, work->count * sizeof *work->timings);
            return;
        }
        work->timings[i] = (weir_timing){ticks[0], ticks[1]};
        last = ticks[1] > last ? ticks[1] : last;
    }
    const moment at = find_moment(work->device, last);
    for (uint32_t i = 0; i < work->count; i++) {
        weir_timing* timing = &work->timings[i];
        *timing = (weir_timing){host_time(probe, at, timing->begin_ns),
                                host_time(probe, at, timing->end_ns)};
    }
}
