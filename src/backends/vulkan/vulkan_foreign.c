// Handles of a caller: devices, buffers and file descriptors.
#include <string.h>

#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_storage.h"
#include "backends/vulkan/vulkan_target.h"

static weir_status adopt(vulkan_device* device, const weir_device_desc* desc,
                         const weir_vulkan_handles* handles) {
    vulkan_instance* instance = &device->instance;
    instance->allocator = desc->allocator;
    instance->handle = handles->instance;
    instance->owner = VULKAN_OWNER_CALLER;
    instance->api.GetInstanceProcAddr = (PFN_vkGetInstanceProcAddr)handles->get_instance_proc_addr;
    WEIR_TRY(vulkan_api_instance(&instance->api, instance->handle));
    WEIR_TRY(vulkan_probe_device(instance, handles->physical_device, &device->probe));
    WEIR_TRY(vulkan_probe_use_family(instance, handles->queue_family, &device->probe));
    vulkan_probe_enabled(handles->features, &device->probe);
    WEIR_TRY(vulkan_probe_check(&device->probe));
    device->handle = handles->device;
    device->queue = handles->queue;
    device->borrowed = true;
    WEIR_TRY(vulkan_api_device(&instance->api, device->handle));
    // Extensions with functions of their own are switched on where these are found.
    device->probe.external_memory_host = instance->api.GetMemoryHostPointerPropertiesEXT != NULL;
    device->probe.external_memory_fd = instance->api.GetMemoryFdKHR != NULL;
    device->probe.calibrated =
        device->probe.calibrated && instance->api.GetCalibratedTimestampsEXT != NULL;
    device->probe.pageable_memory =
        device->probe.pageable_memory && instance->api.SetDeviceMemoryPriorityEXT != NULL;
    return WEIR_OK;
}

weir_status weir_vulkan_device_wrap(const weir_device_desc* desc,
                                    const weir_vulkan_handles* handles, weir_device** device) {
    static const weir_device_desc defaults = {.name = "vulkan"};
    desc = desc ? desc : &defaults;
    if (!handles->instance || !handles->physical_device || !handles->device || !handles->queue ||
        !handles->get_instance_proc_addr) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "vulkan: a handle of the device is missing");
    }
    weir_target target = weir_vulkan_target;
    target.waits = WEIR_WAIT_GROUPS;
    vulkan_device* made = NULL;
    WEIR_TRY(vulkan_device_new(desc, &target, &made));
    weir_status status = adopt(made, desc, handles);
    if (status == WEIR_OK) {
        status = vulkan_device_start(made, desc);
    }
    if (status != WEIR_OK) {
        vulkan_device_close(made);
        return status;
    }
    *device = &made->base;
    return WEIR_OK;
}

static weir_status need_vulkan(const weir_device* device) {
    return vulkan_is_device(device)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "device %s is not one of Vulkan",
                           device->target.name);
}

// Finds the byte of a storage that byte 0 of a buffer is, where the buffer is one of its parts.
static bool find_part(const vulkan_storage* other, uint64_t buffer, uint64_t* byte_offset) {
    const uint32_t count = atomic_load(&other->buffer) ? other->part_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        if ((uint64_t)(uintptr_t)other->parts[i].buffer == buffer) {
            *byte_offset = (i > 0 ? other->stride * i : 0) - other->lead; // modulo 2^64
            return true;
        }
    }
    return false;
}

// Finds bytes that are known already, by their buffer or by the memory that it lies in.
static bool find_name(weir_device* device, const weir_vulkan_buffer_desc* desc, uint64_t* memory_id,
                      uint64_t* memory_offset) {
    bool found = false;
    pthread_mutex_lock(&device->names.lock);
    for (weir_storage* item = device->names.storages; item && !found; item = item->next) {
        const vulkan_storage* other = (const vulkan_storage*)item;
        uint64_t begin = 0;
        if (find_part(other, desc->buffer, &begin)) {
            *memory_id = item->memory_id;
            *memory_offset = item->memory_offset + begin + desc->byte_offset;
            found = true;
        } else if (desc->memory != 0 && other->foreign_memory == desc->memory) {
            *memory_id = item->memory_id;
            *memory_offset = item->memory_offset - other->foreign_offset + desc->memory_offset +
                             desc->byte_offset;
            found = true;
        }
    }
    pthread_mutex_unlock(&device->names.lock);
    return found;
}

static void make_known(vulkan_storage* made, bool sealed) {
    atomic_store(&made->base.sealed, sealed);
    made->base.is_foreign = true;
    identity_join(&made->base);
}

weir_status weir_vulkan_buffer_wrap(weir_device* device, const weir_vulkan_buffer_desc* desc,
                                    weir_storage** storage) {
    uint64_t end = 0;
    WEIR_TRY(need_vulkan(device));
    if (desc->buffer == 0 || __builtin_add_overflow(desc->byte_offset, desc->byte_size, &end)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "cannot wrap %llu bytes of buffer %#llx",
                         (unsigned long long)desc->byte_size, (unsigned long long)desc->buffer);
    }
    vulkan_storage* made = NULL;
    WEIR_TRY(vulkan_storage_new(device, desc->name, 1, &made));
    made->parts[0].buffer = (VkBuffer)(uintptr_t)desc->buffer;
    made->parts[0].byte_size = end;
    made->borrowed = true;
    made->lead = desc->byte_offset;
    made->foreign_memory = desc->memory;
    made->foreign_offset = desc->memory_offset + desc->byte_offset;
    made->release = desc->release;
    made->release_context = desc->context;
    made->base.byte_size = desc->byte_size;
    atomic_store(&made->buffer, made->parts[0].buffer);
    made->base.device_only = true;
    if (!find_name(device, desc, &made->base.memory_id, &made->base.memory_offset)) {
        made->base.memory_id = identity_new_id(device);
        // Buffers that lie before this one in the same memory may follow.
        made->base.memory_offset = desc->memory != 0 ? made->foreign_offset : desc->byte_offset;
    }
    make_known(made, desc->sealed);
    *storage = &made->base;
    return WEIR_OK;
}

// Storage over memory that came with or goes to a file descriptor.
static weir_status shared_storage(weir_device* device, const char* name, uint64_t byte_size,
                                  const vulkan_memory* memory, weir_storage** storage) {
    vulkan_storage* made = NULL;
    WEIR_TRY(vulkan_storage_new(device, name, 1, &made));
    made->parts[0] = *memory;
    made->base.byte_size = byte_size;
    atomic_store(&made->buffer, memory->buffer);
    made->base.device_only = true;
    made->base.in_budget = true;
    made->base.memory_id = identity_new_id(device);
    make_known(made, false);
    *storage = &made->base;
    return WEIR_OK;
}

static weir_status need_fds(weir_device* device) {
    WEIR_TRY(need_vulkan(device));
    return vulkan_device_of(device)->probe.external_memory_fd
               ? WEIR_OK
               : WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s shares no memory by file descriptors",
                           vulkan_device_of(device)->probe.name);
}

weir_status weir_vulkan_storage_export(weir_device* device, uint64_t byte_size, const char* name,
                                       weir_storage** storage, int* fd) {
    vulkan_memory memory;
    WEIR_TRY(need_fds(device));
    WEIR_TRY(vulkan_memory_export(vulkan_device_of(device), byte_size, &memory, fd));
    const weir_status status = shared_storage(device, name, byte_size, &memory, storage);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(vulkan_device_of(device), &memory);
        vulkan_fd_close(*fd);
        *fd = -1;
    }
    return status;
}

weir_status weir_vulkan_storage_import(weir_device* device, int fd, uint64_t byte_size,
                                       const char* name, weir_storage** storage) {
    vulkan_memory memory;
    WEIR_TRY(need_fds(device));
    WEIR_TRY(vulkan_memory_import_fd(vulkan_device_of(device), fd, byte_size, &memory));
    const weir_status status = shared_storage(device, name, byte_size, &memory, storage);
    if (status != WEIR_OK) { // the descriptor is gone with the memory
        vulkan_memory_destroy(vulkan_device_of(device), &memory);
    }
    return status;
}
