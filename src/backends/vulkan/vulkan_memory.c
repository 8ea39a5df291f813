#include "backends/vulkan/vulkan_device.h"

#include <unistd.h>

#define USAGE                                                                                      \
    (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |                       \
     VK_BUFFER_USAGE_TRANSFER_DST_BIT)
#define NO_TYPE UINT32_MAX
#define WISHES 4

#define VISIBLE (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT

// What to look for, best first; 0 ends the list. Memory that the host maps is coherent: nothing is
// flushed anywhere.
static const VkMemoryPropertyFlags wishes[][WISHES] = {
    [VULKAN_PLACE_HOST] = {VISIBLE | CACHED, VISIBLE},
    [VULKAN_PLACE_SHARED] = {LOCAL | VISIBLE | CACHED, LOCAL | VISIBLE, VISIBLE | CACHED, VISIBLE},
    [VULKAN_PLACE_DEVICE] = {LOCAL},
};

// Some cards show the host a window of little memory, which is not for what may be large.
static uint32_t find_type(const vulkan_probe* probe, vulkan_place place, uint32_t allowed) {
    const VkPhysicalDeviceMemoryProperties* memory = &probe->memory;
    allowed &= ~probe->window_types;
    for (int wish = 0; wish < WISHES && wishes[place][wish] != 0; wish++) {
        for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
            const VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;
            if ((allowed >> i & 1) != 0 && (flags & wishes[place][wish]) == wishes[place][wish]) {
                return i;
            }
        }
    }
    return NO_TYPE;
}

uint32_t vulkan_memory_heap(const vulkan_probe* probe, vulkan_place place) {
    const uint32_t type = find_type(probe, place, UINT32_MAX);
    return type == NO_TYPE ? 0 : probe->memory.memoryTypes[type].heapIndex;
}

static weir_status create_buffer(vulkan_device* device, uint64_t byte_size, const void* next,
                                 VkBuffer* buffer) {
    const uint32_t families[] = {device->probe.queue_family, device->copy_family};
    const bool both = families[0] != families[1]; // files are copied on the second
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .pNext = next,
                                     .size = byte_size,
                                     .usage = USAGE,
                                     .sharingMode = both ? VK_SHARING_MODE_CONCURRENT
                                                         : VK_SHARING_MODE_EXCLUSIVE,
                                     .queueFamilyIndexCount = both ? 2 : 0,
                                     .pQueueFamilyIndices = families};
    return vulkan_status(device->instance.api.CreateBuffer(device->handle, &info, NULL, buffer),
                         "vkCreateBuffer");
}

// Allocates memory of a type for a buffer and binds it; `next` goes to the allocation.
static weir_status take_memory(vulkan_device* device, uint32_t type, uint64_t byte_size,
                               const void* next, vulkan_memory* made) {
    const vulkan_api* api = &device->instance.api;
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = next,
                                       .allocationSize = byte_size,
                                       .memoryTypeIndex = type};
    made->heap = device->probe.memory.memoryTypes[type].heapIndex;
    WEIR_TRY(vulkan_budget_take(device, made->heap, byte_size));
    made->allocated_bytes = byte_size;
    const VkResult result = api->AllocateMemory(device->handle, &info, NULL, &made->memory);
    const weir_status status = vulkan_status(result, "vkAllocateMemory");
    if (status == WEIR_OUT_OF_MEMORY || status == WEIR_DEVICE_OUT_OF_MEMORY) {
        return vulkan_budget_explain(device, made->heap, byte_size, status);
    }
    WEIR_TRY(status);
    return vulkan_status(api->BindBufferMemory(device->handle, made->buffer, made->memory, 0),
                         "vkBindBufferMemory");
}

static weir_status allocate(vulkan_device* device, vulkan_place place, vulkan_memory* made) {
    const vulkan_api* api = &device->instance.api;
    VkMemoryRequirements needed;
    api->GetBufferMemoryRequirements(device->handle, made->buffer, &needed);
    const uint32_t type = find_type(&device->probe, place, needed.memoryTypeBits);
    if (type == NO_TYPE) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s has no memory %s", device->probe.name,
                         place == VULKAN_PLACE_DEVICE ? "of its own" : "that the host can map");
    }
    WEIR_TRY(take_memory(device, type, needed.size, NULL, made));
    const VkMemoryPropertyFlags flags = device->probe.memory.memoryTypes[type].propertyFlags;
    if (place == VULKAN_PLACE_DEVICE || (flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) == 0) {
        return WEIR_OK;
    }
    return vulkan_status(
        api->MapMemory(device->handle, made->memory, 0, VK_WHOLE_SIZE, 0, &made->mapped),
        "vkMapMemory");
}

weir_status vulkan_memory_create(vulkan_device* device, vulkan_place place, uint64_t byte_size,
                                 vulkan_memory* memory) {
    vulkan_memory made = {.byte_size = byte_size};
    if (byte_size > device->probe.allocation_bytes_max) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                         "vulkan: %llu bytes pass the largest allocation of %s, %llu bytes",
                         (unsigned long long)byte_size, device->probe.name,
                         (unsigned long long)device->probe.allocation_bytes_max);
    }
    WEIR_TRY(create_buffer(device, byte_size, NULL, &made.buffer));
    const weir_status status = allocate(device, place, &made);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &made);
        return status;
    }
    *memory = made;
    return WEIR_OK;
}

static weir_status import(vulkan_device* device, void* pointer, vulkan_memory* made) {
    const vulkan_api* api = &device->instance.api;
    const VkExternalMemoryHandleTypeFlagBits kind =
        VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    VkMemoryHostPointerPropertiesEXT allowed = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VULKAN_TRY("vkGetMemoryHostPointerPropertiesEXT",
               api->GetMemoryHostPointerPropertiesEXT(device->handle, kind, pointer, &allowed));
    VkMemoryRequirements needed;
    api->GetBufferMemoryRequirements(device->handle, made->buffer, &needed);
    const uint32_t types = needed.memoryTypeBits & allowed.memoryTypeBits;
    uint32_t type = find_type(&device->probe, VULKAN_PLACE_HOST, types);
    type = type == NO_TYPE ? find_type(&device->probe, VULKAN_PLACE_DEVICE, types) : type;
    if (type == NO_TYPE || needed.size > made->byte_size) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s cannot take host memory for its own",
                         device->probe.name);
    }
    const VkImportMemoryHostPointerInfoEXT from = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = kind,
        .pHostPointer = pointer};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = &from,
                                       .allocationSize = made->byte_size,
                                       .memoryTypeIndex = type};
    VULKAN_TRY("vkAllocateMemory", api->AllocateMemory(device->handle, &info, NULL, &made->memory));
    return vulkan_status(api->BindBufferMemory(device->handle, made->buffer, made->memory, 0),
                         "vkBindBufferMemory");
}

weir_status vulkan_memory_import(vulkan_device* device, void* pointer, uint64_t byte_size,
                                 vulkan_memory* memory) {
    if (!device->probe.external_memory_host ||
        !device->instance.api.GetMemoryHostPointerPropertiesEXT) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s cannot import host memory",
                         device->probe.name);
    }
    vulkan_memory made = {.byte_size = byte_size};
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    WEIR_TRY(create_buffer(device, byte_size, &external, &made.buffer));
    const weir_status status = import(device, pointer, &made);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &made);
        return status;
    }
    made.mapped = pointer;
    *memory = made;
    return WEIR_OK;
}

// Memory of the device under a buffer that may be shared; `next` goes to the allocation.
static weir_status allocate_shared(vulkan_device* device, const void* next, vulkan_memory* made) {
    const vulkan_api* api = &device->instance.api;
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    VkMemoryRequirements needed;
    WEIR_TRY(create_buffer(device, made->byte_size, &external, &made->buffer));
    api->GetBufferMemoryRequirements(device->handle, made->buffer, &needed);
    const uint32_t type = find_type(&device->probe, VULKAN_PLACE_DEVICE, needed.memoryTypeBits);
    if (type == NO_TYPE) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s shares no memory of its own",
                         device->probe.name);
    }
    return take_memory(device, type, needed.size, next, made);
}

weir_status vulkan_memory_export(vulkan_device* device, uint64_t byte_size, vulkan_memory* memory,
                                 int* fd) {
    const VkExportMemoryAllocateInfo exported = {
        .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    vulkan_memory made = {.byte_size = byte_size > 0 ? byte_size : 1};
    weir_status status = allocate_shared(device, &exported, &made);
    if (status == WEIR_OK) {
        const VkMemoryGetFdInfoKHR wanted = {.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
                                             .memory = made.memory,
                                             .handleType =
                                                 VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
        status = vulkan_status(device->instance.api.GetMemoryFdKHR(device->handle, &wanted, fd),
                               "vkGetMemoryFdKHR");
    }
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &made);
        return status;
    }
    *memory = made;
    return WEIR_OK;
}

weir_status vulkan_memory_import_fd(vulkan_device* device, int fd, uint64_t byte_size,
                                    vulkan_memory* memory) {
    const VkImportMemoryFdInfoKHR imported = {.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
                                              .handleType =
                                                  VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
                                              .fd = fd};
    vulkan_memory made = {.byte_size = byte_size > 0 ? byte_size : 1};
    const weir_status status = allocate_shared(device, &imported, &made);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &made);
        return status;
    }
    *memory = made;
    return WEIR_OK;
}

void vulkan_fd_close(int fd) {
    close(fd);
}

// Freeing memory unmaps it; memory of the host stays where it is.
void vulkan_memory_destroy(vulkan_device* device, vulkan_memory* memory) {
    const vulkan_api* api = &device->instance.api;
    if (memory->buffer) {
        api->DestroyBuffer(device->handle, memory->buffer, NULL);
    }
    if (memory->memory) {
        api->FreeMemory(device->handle, memory->memory, NULL);
    }
    if (memory->allocated_bytes > 0) {
        vulkan_budget_give(device, memory->heap, memory->allocated_bytes);
    }
    *memory = (vulkan_memory){0};
}
