#include "backends/vulkan/vulkan_device.h"

#include "backends/vulkan/vulkan_groups.h"
#include "base/log_line.h"

#define FOREVER UINT64_MAX

static weir_status make_commands(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = device->probe.queue_family};
    VULKAN_TRY("vkCreateCommandPool",
               api->CreateCommandPool(device->handle, &pool, NULL, &device->pool));
    const VkCommandBufferAllocateInfo buffers = {.sType =
                                                     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                 .commandPool = device->pool,
                                                 .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                 .commandBufferCount = 1};
    VULKAN_TRY("vkAllocateCommandBuffers",
               api->AllocateCommandBuffers(device->handle, &buffers, &device->order));
    VULKAN_TRY("vkAllocateCommandBuffers",
               api->AllocateCommandBuffers(device->handle, &buffers, &device->once));
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    return vulkan_status(api->CreateFence(device->handle, &fence, NULL, &device->once_fence),
                         "vkCreateFence");
}

static void record_barrier(vulkan_device* device, VkCommandBuffer commands, const void* context) {
    (void)context;
    vulkan_boundary_record(&device->instance.api, commands, &vulkan_everything);
}

// The barrier between passes may be in flight any number of times.
static weir_status record_order(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    VULKAN_TRY("vkBeginCommandBuffer", api->BeginCommandBuffer(device->order, &begin));
    record_barrier(device, device->order, NULL);
    return vulkan_status(api->EndCommandBuffer(device->order), "vkEndCommandBuffer");
}

// Where a wait fails, the commands may run on, and what they use is about to go. A device that is
// lost returns at once. Under the lock of the queue.
static void settle(vulkan_device* device) {
    const VkResult result = device->instance.api.DeviceWaitIdle(device->handle);
    if (result != VK_SUCCESS) {
        log_line(&device->base.log, WEIR_LOG_WARNING, "vulkan: vkDeviceWaitIdle: result %d",
                 (int)result);
    }
}

// A wait that failed loses the device: nobody knows what has run.
static void lose(vulkan_device* device, uint64_t sequence) {
    pthread_mutex_lock(&device->queue_lock);
    settle(device);
    pthread_mutex_unlock(&device->queue_lock);
    weir_device_lose(&device->base, weir_last_error());
    weir_device_complete(&device->base, sequence, WEIR_DEVICE_LOST, weir_last_error());
}

// Waits for the passes in the order of their submission and completes them.
static void* wait_for_fences(void* context) {
    vulkan_device* device = context;
    const vulkan_api* api = &device->instance.api;
    pthread_mutex_lock(&device->waiter_lock);
    for (;;) {
        while (device->pending_begin == device->pending_end && !device->stopping) {
            pthread_cond_wait(&device->waiter_wake, &device->waiter_lock);
        }
        if (device->pending_begin == device->pending_end) {
            break;
        }
        const uint64_t entry = device->pending_begin % PASSES_IN_FLIGHT;
        vulkan_work* work = device->pending[entry].work;
        const uint64_t sequence = device->pending[entry].sequence;
        pthread_mutex_unlock(&device->waiter_lock);
        VkFence fence = vulkan_work_fence(work);
        const VkResult result = api->WaitForFences(device->handle, 1, &fence, VK_TRUE, FOREVER);
        if (vulkan_status(result, "vkWaitForFences") == WEIR_OK) {
            vulkan_work_finish(work, sequence);
        } else {
            lose(device, sequence);
        }
        pthread_mutex_lock(&device->waiter_lock);
        device->pending_begin++;
        pthread_cond_broadcast(&device->waiter_wake);
    }
    pthread_mutex_unlock(&device->waiter_lock);
    return NULL;
}

static weir_status start_waiter(vulkan_device* device) {
    if (pthread_create(&device->waiter, NULL, wait_for_fences, device) != 0) {
        return WEIR_FAIL(WEIR_IO, "vulkan: cannot start the thread that waits for fences");
    }
    device->waiter_started = true;
    return WEIR_OK;
}

weir_status vulkan_queue_open(vulkan_device* device) {
    WEIR_TRY(make_commands(device));
    WEIR_TRY(record_order(device));
    return start_waiter(device);
}

void vulkan_queue_close(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    if (device->waiter_started) {
        pthread_mutex_lock(&device->waiter_lock);
        device->stopping = true;
        pthread_cond_broadcast(&device->waiter_wake);
        pthread_mutex_unlock(&device->waiter_lock);
        pthread_join(device->waiter, NULL);
    }
    if (device->once_fence) {
        api->DestroyFence(device->handle, device->once_fence, NULL);
    }
    if (device->pool) {
        api->DestroyCommandPool(device->handle, device->pool, NULL);
    }
}

static weir_status submit(vulkan_device* device, VkQueue queue,
                          const VkCommandBufferSubmitInfo* commands, uint32_t count,
                          VkFence fence) {
    const VkSubmitInfo2 info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                                .commandBufferInfoCount = count,
                                .pCommandBufferInfos = commands};
    return vulkan_status(device->instance.api.QueueSubmit2KHR(queue, 1, &info, fence),
                         "vkQueueSubmit2");
}

static VkCommandBufferSubmitInfo submission(VkCommandBuffer commands) {
    return (VkCommandBufferSubmitInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
                                       .commandBuffer = commands};
}

static weir_status run_once(vulkan_device* device, vulkan_record_fn record, const void* context) {
    const vulkan_api* api = &device->instance.api;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VULKAN_TRY("vkBeginCommandBuffer", api->BeginCommandBuffer(device->once, &begin));
    record(device, device->once, context);
    record_barrier(device, device->once, NULL); // for the host too, to which a fence shows nothing
    VULKAN_TRY("vkEndCommandBuffer", api->EndCommandBuffer(device->once));
    VULKAN_TRY("vkResetFences", api->ResetFences(device->handle, 1, &device->once_fence));
    const VkCommandBufferSubmitInfo commands = submission(device->once);
    WEIR_TRY(submit(device, device->queue, &commands, 1, device->once_fence));
    const VkResult result =
        api->WaitForFences(device->handle, 1, &device->once_fence, VK_TRUE, FOREVER);
    if (result != VK_SUCCESS) {
        settle(device);
    }
    return vulkan_status(result, "vkWaitForFences");
}

weir_status vulkan_queue_once(vulkan_device* device, vulkan_record_fn record, const void* context) {
    pthread_mutex_lock(&device->queue_lock);
    const weir_status status = run_once(device, record, context);
    pthread_mutex_unlock(&device->queue_lock);
    if (status == WEIR_DEVICE_LOST) {
        weir_device_lose(&device->base, weir_last_error());
    }
    return status;
}

weir_status vulkan_queue_copy(vulkan_device* device, VkCommandBuffer commands, VkFence fence) {
    const vulkan_api* api = &device->instance.api;
    const VkCommandBufferSubmitInfo info = submission(commands);
    VULKAN_TRY("vkResetFences", api->ResetFences(device->handle, 1, &fence));
    pthread_mutex_lock(&device->queue_lock);
    const weir_status status = submit(device, device->copy_queue, &info, 1, fence);
    pthread_mutex_unlock(&device->queue_lock);
    WEIR_TRY(status);
    const VkResult result = api->WaitForFences(device->handle, 1, &fence, VK_TRUE, FOREVER);
    if (result != VK_SUCCESS) {
        pthread_mutex_lock(&device->queue_lock);
        settle(device);
        pthread_mutex_unlock(&device->queue_lock);
    }
    return vulkan_status(result, "vkWaitForFences");
}

weir_status vulkan_queue_publish(vulkan_device* device) {
    return vulkan_queue_once(device, record_barrier, NULL);
}

// Passes are listed in the order of their submission, under the lock of the queue; there is room,
// because no more than PASSES_IN_FLIGHT are out.
static void expect(vulkan_device* device, vulkan_work* work, uint64_t sequence) {
    pthread_mutex_lock(&device->waiter_lock);
    const uint64_t entry = device->pending_end % PASSES_IN_FLIGHT;
    device->pending[entry].work = work;
    device->pending[entry].sequence = sequence;
    device->pending_end++;
    pthread_cond_broadcast(&device->waiter_wake);
    pthread_mutex_unlock(&device->waiter_lock);
}

// A pass that is not `ordered` conflicts with nothing in flight; what it reads of passes that are
// over needs no barrier. Their fences have made all writes of the device available (Vulkan 1.3, 7.3
// Fences: the first access scope is all memory access performed by the device), the host has waited
// for them, and vkQueueSubmit is a visibility operation from the domain of the device to all agents
// and references on it (Memory Model, Availability, Visibility, and Domain Operations). A pass in
// flight has not yet signalled its fence: behind it, the barrier does both.
weir_status vulkan_queue_submit(vulkan_device* device, vulkan_work* work, VkCommandBuffer commands,
                                VkFence fence, bool ordered, uint64_t sequence) {
    const VkCommandBufferSubmitInfo infos[2] = {submission(device->order), submission(commands)};
    pthread_mutex_lock(&device->queue_lock);
    const weir_status status = ordered ? submit(device, device->queue, infos, 2, fence)
                                       : submit(device, device->queue, infos + 1, 1, fence);
    if (status == WEIR_OK) {
        expect(device, work, sequence);
    }
    pthread_mutex_unlock(&device->queue_lock);
    return status;
}

void vulkan_queue_forget(vulkan_device* device, const vulkan_work* work) {
    pthread_mutex_lock(&device->waiter_lock);
    for (;;) {
        bool found = false;
        for (uint64_t i = device->pending_begin; i < device->pending_end; i++) {
            found = found || device->pending[i % PASSES_IN_FLIGHT].work == work;
        }
        if (!found) {
            break;
        }
        pthread_cond_wait(&device->waiter_wake, &device->waiter_lock);
    }
    pthread_mutex_unlock(&device->waiter_lock);
}
