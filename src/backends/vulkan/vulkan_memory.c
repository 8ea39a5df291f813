#include "backends/vulkan/vulkan_device.h"

#include <unistd.h>

#define USAGE                                                                                      \
    (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |                       \
     VK_BUFFER_USAGE_TRANSFER_DST_BIT)
#define WISHES 4

#define VISIBLE (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT

// What to look for, best first; 0 ends the list. Memory that the host maps is coherent: nothing is
// flushed anywhere.
static const VkMemoryPropertyFlags wishes[][WISHES] = {
    [VULKAN_PLACE_HOST] = {VISIBLE | CACHED, VISIBLE},
    [VULKAN_PLACE_SHARED] = {LOCAL | VISIBLE | CACHED, LOCAL | VISIBLE, VISIBLE | CACHED, VISIBLE},
    [VULKAN_PLACE_KERNELS] = {LOCAL | VISIBLE | CACHED, LOCAL | VISIBLE, LOCAL},
    [VULKAN_PLACE_DEVICE] = {LOCAL},
};

// Windows have little memory, which is not for what may be large.
static uint32_t match_type(const vulkan_probe* probe, vulkan_place place, uint32_t allowed) {
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
    return VULKAN_NO_TYPE;
}

// All memory of a device that shares it with the host is as near.
uint32_t vulkan_memory_type(const vulkan_probe* probe, vulkan_place place, uint32_t allowed) {
    const uint32_t type = match_type(probe, place, allowed);
    return type == VULKAN_NO_TYPE && place >= VULKAN_PLACE_KERNELS && probe->unified
               ? match_type(probe, VULKAN_PLACE_SHARED, allowed)
               : type;
}

uint32_t vulkan_memory_heap(const vulkan_probe* probe, vulkan_place place) {
    const uint32_t type = vulkan_memory_type(probe, place, UINT32_MAX);
    return type == VULKAN_NO_TYPE ? 0 : probe->memory.memoryTypes[type].heapIndex;
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
    weir_status status = vulkan_status(result, "vkAllocateMemory");
    if (status == WEIR_OUT_OF_MEMORY || status == WEIR_DEVICE_OUT_OF_MEMORY) {
        status = vulkan_budget_explain(device, made->heap, byte_size, status);
        vulkan_budget_give(device, made->heap, byte_size);
        made->allocated_bytes = 0;
    }
    WEIR_TRY(status);
    return vulkan_status(api->BindBufferMemory(device->handle, made->buffer, made->memory, 0),
                         "vkBindBufferMemory");
}

// Puts the priority of an allocation in front of `next`, where the device knows of any.
static const void* with_priority(const vulkan_device* device, float priority, const void* next,
                                 VkMemoryPriorityAllocateInfoEXT* info) {
    *info = (VkMemoryPriorityAllocateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_MEMORY_PRIORITY_ALLOCATE_INFO_EXT,
        .pNext = next,
        .priority = priority};
    return device->probe.memory_priority ? info : next;
}

// With hidden memory the host maps none of the device.
static vulkan_place place_within(const vulkan_device* device, vulkan_place place) {
    if (!device->options.hides_memory) {
        return place;
    }
    return place == VULKAN_PLACE_KERNELS  ? VULKAN_PLACE_DEVICE
           : place == VULKAN_PLACE_SHARED ? VULKAN_PLACE_HOST
                                          : place;
}

static uint32_t types_of_heap(const vulkan_probe* probe, uint32_t heap) {
    uint32_t types = 0;
    for (uint32_t i = 0; i < probe->memory.memoryTypeCount; i++) {
        types |= (uint32_t)(probe->memory.memoryTypes[i].heapIndex == heap) << i;
    }
    return types;
}

// Allocates memory for a place and binds it; `type` receives which was taken.
static weir_status take_place(vulkan_device* device, vulkan_place place, const void* next,
                              vulkan_memory* made, uint32_t* type) {
    const vulkan_probe* probe = &device->probe;
    VkMemoryRequirements needed;
    device->instance.api.GetBufferMemoryRequirements(device->handle, made->buffer, &needed);
    *type = vulkan_memory_type(probe, place, needed.memoryTypeBits);
    if (*type == VULKAN_NO_TYPE) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s has no memory %s", probe->name,
                         place < VULKAN_PLACE_KERNELS ? "that the host can map" : "of its own");
    }
    const weir_status status = take_memory(device, *type, needed.size, next, made);
    if (status != WEIR_DEVICE_OUT_OF_MEMORY || made->memory || place != VULKAN_PLACE_KERNELS) {
        return status;
    }
    // What the host does not map serves kernels as well, and may have more room.
    const uint32_t others = needed.memoryTypeBits & ~types_of_heap(probe, made->heap);
    const uint32_t other = vulkan_memory_type(probe, place, others);
    if (other == VULKAN_NO_TYPE) {
        return status;
    }
    *type = other;
    return take_memory(device, other, needed.size, next, made);
}

static weir_status allocate(vulkan_device* device, vulkan_place place, int priority,
                            vulkan_memory* made) {
    const float wanted =
        place == VULKAN_PLACE_HOST ? VULKAN_PRIORITY_STAGING : vulkan_priority_of(priority);
    VkMemoryPriorityAllocateInfoEXT info;
    uint32_t type = VULKAN_NO_TYPE;
    WEIR_TRY(take_place(device, place, with_priority(device, wanted, NULL, &info), made, &type));
    const VkMemoryPropertyFlags flags = device->probe.memory.memoryTypes[type].propertyFlags;
    if (place == VULKAN_PLACE_DEVICE || (flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) == 0) {
        return WEIR_OK;
    }
    return vulkan_status(device->instance.api.MapMemory(device->handle, made->memory, 0,
                                                        VK_WHOLE_SIZE, 0, &made->mapped),
                         "vkMapMemory");
}

weir_status vulkan_memory_create(vulkan_device* device, vulkan_place place, int priority,
                                 uint64_t byte_size, vulkan_memory* memory) {
    vulkan_memory made = {.byte_size = byte_size};
    if (byte_size > device->probe.allocation_bytes_max) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                         "vulkan: %llu bytes pass the largest allocation of %s, %llu bytes",
                         (unsigned long long)byte_size, device->probe.name,
                         (unsigned long long)device->probe.allocation_bytes_max);
    }
    WEIR_TRY(create_buffer(device, byte_size, NULL, &made.buffer));
    const weir_status status = allocate(device, place_within(device, place), priority, &made);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &made);
        return status;
    }
    *memory = made;
    return WEIR_OK;
}

// What shares memory outside of Vulkan, in messages.
static const char* name_of(VkExternalMemoryHandleTypeFlagBits kind) {
    return kind == VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT ? "by opaque file descriptors"
                                                                : "of host memory";
}

// Asks whether buffers such as weir's can be exported or imported, and whether their memory must
// then be for one buffer alone.
static weir_status ask_sharing(const vulkan_device* device, VkExternalMemoryHandleTypeFlagBits kind,
                               VkExternalMemoryFeatureFlagBits wanted, bool* is_dedicated) {
    const VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = USAGE,
        .handleType = kind};
    VkExternalBufferProperties found = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
    device->instance.api.GetPhysicalDeviceExternalBufferProperties(device->probe.handle, &info,
                                                                   &found);
    const VkExternalMemoryProperties* can = &found.externalMemoryProperties;
    if ((can->externalMemoryFeatures & (VkFlags)wanted) == 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "vulkan: %s cannot %s buffers %s "
                         "(vkGetPhysicalDeviceExternalBufferProperties: features %#x)",
                         device->probe.name,
                         wanted == VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT ? "export" : "import",
                         name_of(kind), (unsigned)can->externalMemoryFeatures);
    }
    *is_dedicated =
        (can->externalMemoryFeatures & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT) != 0;
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
    uint32_t type = vulkan_memory_type(&device->probe, VULKAN_PLACE_HOST, types);
    type = type == VULKAN_NO_TYPE ? vulkan_memory_type(&device->probe, VULKAN_PLACE_DEVICE, types)
                                  : type;
    if (type == VULKAN_NO_TYPE || needed.size > made->byte_size) {
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
    bool is_dedicated = false; // which no driver may ask of host memory
    WEIR_TRY(ask_sharing(device, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
                         VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT, &is_dedicated));
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

// Memory of the device under a buffer that is exported or imported; `next` goes to the allocation.
// Whoever imports must know whether the memory is for one buffer: both sides ask the same question.
static weir_status allocate_shared(vulkan_device* device, VkExternalMemoryFeatureFlagBits way,
                                   const void* next, vulkan_memory* made) {
    const VkExternalMemoryHandleTypeFlagBits kind = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT;
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = kind};
    VkMemoryDedicatedRequirements alone = {.sType =
                                               VK_STRUCTURE_TYPE_MEMORY_DEDICATED_REQUIREMENTS};
    VkMemoryRequirements2 needed = {.sType = VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2,
                                    .pNext = &alone};
    bool is_dedicated = false;
    WEIR_TRY(ask_sharing(device, kind, way, &is_dedicated));
    WEIR_TRY(create_buffer(device, made->byte_size, &external, &made->buffer));
    const VkBufferMemoryRequirementsInfo2 which = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_REQUIREMENTS_INFO_2, .buffer = made->buffer};
    device->instance.api.GetBufferMemoryRequirements2(device->handle, &which, &needed);
    const VkMemoryDedicatedAllocateInfo dedicated = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
        .pNext = next,
        .buffer = made->buffer};
    const uint32_t type = vulkan_memory_type(&device->probe, VULKAN_PLACE_DEVICE,
                                             needed.memoryRequirements.memoryTypeBits);
    if (type == VULKAN_NO_TYPE) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s shares no memory of its own",
                         device->probe.name);
    }
    return take_memory(device, type, needed.memoryRequirements.size,
                       is_dedicated || alone.requiresDedicatedAllocation ? &dedicated : next, made);
}

weir_status vulkan_memory_export(vulkan_device* device, uint64_t byte_size, vulkan_memory* memory,
                                 int* fd) {
    VkMemoryPriorityAllocateInfoEXT priority;
    const VkExportMemoryAllocateInfo exported = {
        .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
        .pNext = with_priority(device, vulkan_priority_of(0), NULL, &priority),
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    vulkan_memory made = {.byte_size = byte_size > 0 ? byte_size : 1};
    weir_status status =
        allocate_shared(device, VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT, &exported, &made);
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
    const weir_status status =
        allocate_shared(device, VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT, &imported, &made);
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
