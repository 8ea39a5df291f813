#include "backends/vulkan/vulkan_upload.h"

#include <stdio.h>
#include <unistd.h>

#define CHUNK_BYTES (UINT64_C(16) << 20)
#define LANES_MIN 2 // while the device copies for one, the other reads
#define LANES_MAX 4

typedef struct chunk {
    const vulkan_upload_part* part;
    uint64_t byte_offset, byte_size; // within the part
} chunk;

typedef struct upload {
    vulkan_device* device;
    const vulkan_upload_desc* desc;
    uint64_t total_bytes;
    uint64_t chunk_bytes; // at most
    pthread_mutex_t lock; // guards what follows
    chunk next;
    uint64_t done_bytes;
    weir_status status; // of the first lane that failed
    char message[512];
} upload;

// A thread with a staging buffer of its own. Lanes take chunks as they come:
//
//     lane 0   | read 0 | copy 0 | read 2 | copy 2 | ...
//     lane 1   | read 1    | copy 1 | read 3    | ...
typedef struct lane {
    upload* job;
    bool reports; // the caller's thread
    pthread_t thread;
    vulkan_memory staging;
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkFence fence;
} lane;

static bool claim(upload* job, chunk* claimed) {
    const vulkan_upload_part* end = job->desc->parts + job->desc->part_count;
    bool found = false;
    pthread_mutex_lock(&job->lock);
    if (job->status == WEIR_OK && job->next.part < end) {
        const uint64_t left = job->next.part->target->byte_size - job->next.byte_offset;
        job->next.byte_size = left < job->chunk_bytes ? left : job->chunk_bytes;
        *claimed = job->next;
        found = true;
        job->next.byte_offset += job->next.byte_size;
        if (job->next.byte_size == left) {
            job->next = (chunk){.part = job->next.part + 1};
        }
    }
    pthread_mutex_unlock(&job->lock);
    return found;
}

static weir_status record(const lane* l, const chunk* c) {
    const vulkan_api* api = &l->job->device->instance.api;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    const VkBufferCopy region = {.dstOffset = c->byte_offset, .size = c->byte_size};
    VULKAN_TRY("vkBeginCommandBuffer", api->BeginCommandBuffer(l->commands, &begin));
    api->CmdCopyBuffer(l->commands, l->staging.buffer, c->part->target->buffer, 1, &region);
    return vulkan_status(api->EndCommandBuffer(l->commands), "vkEndCommandBuffer");
}

static weir_status copy_chunk(const lane* l, const chunk* c) {
    WEIR_TRY(file_map_read(l->job->desc->map, c->part->byte_offset + c->byte_offset,
                           l->staging.mapped, (size_t)c->byte_size));
    WEIR_TRY(record(l, c));
    return vulkan_queue_copy(l->job->device, l->commands, l->fence);
}

// In bytes of the file: parts may have some of them twice.
static weir_status report(const upload* job, uint64_t done_bytes) {
    const vulkan_upload_desc* desc = job->desc;
    if (desc->progress &&
        !desc->progress(desc->progress_context, done_bytes, desc->map->byte_size)) {
        return WEIR_FAIL(WEIR_CANCELLED, "given up after %llu of %llu bytes",
                         (unsigned long long)done_bytes, (unsigned long long)desc->map->byte_size);
    }
    return WEIR_OK;
}

static weir_status finish_chunk(const lane* l, uint64_t byte_size) {
    upload* job = l->job;
    pthread_mutex_lock(&job->lock);
    job->done_bytes += byte_size;
    const double share = (double)job->done_bytes / (double)job->total_bytes;
    pthread_mutex_unlock(&job->lock);
    return l->reports ? report(job, (uint64_t)(share * (double)job->desc->map->byte_size))
                      : WEIR_OK;
}

static weir_status make_lane(lane* l) {
    vulkan_device* device = l->job->device;
    const vulkan_api* api = &device->instance.api;
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = device->copy_family};
    WEIR_TRY(vulkan_memory_create(device, VULKAN_PLACE_HOST, 0, l->job->chunk_bytes, &l->staging));
    VULKAN_TRY("vkCreateCommandPool",
               api->CreateCommandPool(device->handle, &pool, NULL, &l->pool));
    const VkCommandBufferAllocateInfo buffers = {.sType =
                                                     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                 .commandPool = l->pool,
                                                 .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                 .commandBufferCount = 1};
    VULKAN_TRY("vkAllocateCommandBuffers",
               api->AllocateCommandBuffers(device->handle, &buffers, &l->commands));
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    return vulkan_status(api->CreateFence(device->handle, &fence, NULL, &l->fence),
                         "vkCreateFence");
}

static void destroy_lane(lane* l) {
    vulkan_device* device = l->job->device;
    const vulkan_api* api = &device->instance.api;
    if (l->fence) {
        api->DestroyFence(device->handle, l->fence, NULL);
    }
    if (l->pool) {
        api->DestroyCommandPool(device->handle, l->pool, NULL);
    }
    vulkan_memory_destroy(device, &l->staging);
}

static weir_status copy_chunks(lane* l) {
    chunk c;
    WEIR_TRY(make_lane(l));
    while (claim(l->job, &c)) {
        WEIR_TRY(copy_chunk(l, &c));
        WEIR_TRY(finish_chunk(l, c.byte_size));
    }
    return WEIR_OK;
}

// The first failure ends all lanes, and its message is that of the upload.
static void* run_lane(void* context) {
    lane* l = context;
    upload* job = l->job;
    const weir_status status = copy_chunks(l);
    pthread_mutex_lock(&job->lock);
    if (status != WEIR_OK && job->status == WEIR_OK) {
        job->status = status;
        snprintf(job->message, sizeof job->message, "%s", weir_last_error());
    }
    pthread_mutex_unlock(&job->lock);
    destroy_lane(l);
    return NULL;
}

static uint32_t count_lanes(const upload* job) {
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const uint64_t chunks = (job->total_bytes + job->chunk_bytes - 1) / job->chunk_bytes;
    const uint64_t most = cores < LANES_MIN   ? LANES_MIN
                          : cores > LANES_MAX ? LANES_MAX
                                              : (uint64_t)cores;
    return (uint32_t)(chunks < most ? chunks : most);
}

// A thread that cannot be started leaves its share to the others; the caller's is always there.
static void run_lanes(upload* job) {
    lane lanes[LANES_MAX] = {{.job = job, .reports = true}};
    const uint32_t wanted = count_lanes(job);
    uint32_t count = 1;
    for (; count < wanted; count++) {
        lanes[count].job = job;
        if (pthread_create(&lanes[count].thread, NULL, run_lane, &lanes[count]) != 0) {
            break;
        }
    }
    run_lane(&lanes[0]);
    for (uint32_t i = 1; i < count; i++) {
        pthread_join(lanes[i].thread, NULL);
    }
}

weir_status vulkan_upload(vulkan_device* device, const vulkan_upload_desc* desc) {
    const uint64_t limit = device->probe.allocation_bytes_max;
    upload job = {.device = device,
                  .desc = desc,
                  .chunk_bytes = limit < CHUNK_BYTES ? limit : CHUNK_BYTES,
                  .next = {.part = desc->parts}};
    for (uint32_t i = 0; i < desc->part_count; i++) {
        job.total_bytes += desc->parts[i].target->byte_size;
    }
    job.chunk_bytes = job.total_bytes < job.chunk_bytes ? job.total_bytes : job.chunk_bytes;
    if (pthread_mutex_init(&job.lock, NULL) != 0) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of an upload");
    }
    run_lanes(&job);
    pthread_mutex_destroy(&job.lock);
    if (job.status == WEIR_DEVICE_LOST) {
        weir_device_lose(&device->base, job.message);
    }
    if (job.status != WEIR_OK) {
        return WEIR_FAIL(job.status, "%s", job.message);
    }
    WEIR_TRY(report(&job, desc->map->byte_size));
    return vulkan_queue_publish(device);
}
