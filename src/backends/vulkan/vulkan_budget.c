// How much memory of the device there is, who has it, and which of it the driver should keep.
//
// VK_EXT_memory_budget estimates what this process may have of a heap. It is told to whoever asks
// and bounds the residency set; an allocation that passes it is up to the driver. A limit of the
// caller's (weir_vulkan_options) bounds every allocation, and is counted here.
#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_storage.h"

typedef unsigned long long ull; // for messages

void vulkan_budget_find(const vulkan_api* api, const vulkan_probe* probe, uint32_t heap,
                        vulkan_budget* budget) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT estimate = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 found = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &estimate};
    *budget = (vulkan_budget){0};
    if (probe->memory_budget) {
        api->GetPhysicalDeviceMemoryProperties2(probe->handle, &found);
        *budget = (vulkan_budget){estimate.heapBudget[heap], estimate.heapUsage[heap]};
    }
}

static uint64_t left_of(const vulkan_budget* budget) {
    return budget->used_bytes < budget->byte_size ? budget->byte_size - budget->used_bytes : 0;
}

// The estimate of the driver, or the limit of the caller where that leaves less.
static vulkan_budget ask(vulkan_device* device, uint32_t heap) {
    vulkan_budget budget;
    vulkan_budget_find(&device->instance.api, &device->probe, heap, &budget);
    const vulkan_budget limit = {
        device->options.memory_bytes_max > 0 ? device->probe.memory.memoryHeaps[heap].size : 0,
        atomic_load(&device->used[heap])};
    if (budget.byte_size == 0 || (limit.byte_size > 0 && left_of(&limit) < left_of(&budget))) {
        return limit;
    }
    return budget;
}

// What passes the heap cannot come, and some drivers try for long: it is not asked for.
weir_status vulkan_budget_take(vulkan_device* device, uint32_t heap, uint64_t byte_size) {
    const uint64_t heap_bytes = device->probe.memory.memoryHeaps[heap].size;
    if (byte_size > heap_bytes) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                         "vulkan: %llu bytes pass the heap of %s, %llu bytes", (ull)byte_size,
                         device->probe.name, (ull)heap_bytes);
    }
    const uint64_t used = atomic_fetch_add(&device->used[heap], byte_size);
    const uint64_t left = used < heap_bytes ? heap_bytes - used : 0;
    if (device->options.memory_bytes_max > 0 && byte_size > left) {
        atomic_fetch_sub(&device->used[heap], byte_size);
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                         "vulkan: %llu bytes, with %llu in use, pass the limit of %llu by %llu",
                         (ull)byte_size, (ull)used, (ull)heap_bytes, (ull)(byte_size - left));
    }
    return WEIR_OK;
}

void vulkan_budget_give(vulkan_device* device, uint32_t heap, uint64_t byte_size) {
    atomic_fetch_sub(&device->used[heap], byte_size);
}

weir_status vulkan_budget_explain(vulkan_device* device, uint32_t heap, uint64_t byte_size,
                                  weir_status status) {
    const vulkan_budget budget = ask(device, heap);
    return WEIR_FAIL(status, "vulkan: vkAllocateMemory: no %llu bytes: %s has %llu, %llu in use",
                     (ull)byte_size, device->probe.name,
                     (ull)device->probe.memory.memoryHeaps[heap].size, (ull)budget.used_bytes);
}

weir_device_memory vulkan_device_memory(weir_device* base) {
    vulkan_device* device = vulkan_device_of(base);
    const vulkan_budget budget = ask(device, device->heap);
    return (weir_device_memory){.total_bytes = device->probe.memory_bytes,
                                .budget_bytes = budget.byte_size,
                                .used_bytes = budget.used_bytes};
}

static void set_priority(const weir_storage* storage, float priority) {
    const vulkan_storage* made = (const vulkan_storage*)storage;
    vulkan_device* device = vulkan_device_of(storage->device);
    const vulkan_api* api = &device->instance.api;
    for (uint32_t i = 0; i < made->part_count && api->SetDeviceMemoryPriorityEXT; i++) {
        if (made->parts[i].memory && made->parts[i].heap == device->heap) {
            api->SetDeviceMemoryPriorityEXT(device->handle, made->parts[i].memory, priority);
        }
    }
}

float vulkan_priority_of(int priority) {
    const float above = 1.0f - VULKAN_PRIORITY_USUAL;
    return priority >= 0 ? 1.0f - above / (1.0f + (float)priority)
                         : VULKAN_PRIORITY_USUAL / (1.0f - (float)priority);
}

weir_status vulkan_storage_hold(const weir_storage* storage, weir_residency_mode mode,
                                int priority) {
    (void)mode;
    set_priority(storage, vulkan_priority_of(priority));
    return WEIR_OK;
}

void vulkan_storage_let_go(const weir_storage* storage, void* pages, uint64_t byte_size,
                           weir_residency_mode mode) {
    (void)pages;
    (void)byte_size;
    (void)mode;
    set_priority(storage, 0.0f);
}
