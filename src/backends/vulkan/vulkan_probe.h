// What there is: the devices of an instance, and what each of them can do. Nothing is opened on a
// device to find out.
//
// The base that every device must have is Vulkan 1.2 with synchronization2, 16-bit and 8-bit
// storage, workgroups of 256 invocations that share 32 KiB, and 8 storage buffers of a kernel;
// everything else is asked for and used where it is there.
#ifndef WEIR_BACKENDS_VULKAN_PROBE_H
#define WEIR_BACKENDS_VULKAN_PROBE_H

#include <weir/device.h>
#include <weir/target.h>
#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_instance.h"

// X(field, extension): extensions that are enabled where a device lists them.
#define VULKAN_EXTENSION_LIST(X)                                                                   \
    X(synchronization2, "VK_KHR_synchronization2")                                                 \
    X(portability_subset, "VK_KHR_portability_subset")                                             \
    X(external_memory_host, "VK_EXT_external_memory_host")                                         \
    X(external_memory_fd, "VK_KHR_external_memory_fd")                                             \
    X(integer_dot, "VK_KHR_shader_integer_dot_product")                                            \
    X(memory_budget, "VK_EXT_memory_budget")                                                       \
    X(memory_priority, "VK_EXT_memory_priority")                                                   \
    X(pageable_memory, "VK_EXT_pageable_device_local_memory")                                      \
    X(calibrated_ext, "VK_EXT_calibrated_timestamps")                                              \
    X(calibrated_khr, "VK_KHR_calibrated_timestamps")

#define VULKAN_EXTENSIONS_MAX 16
#define VULKAN_NO_QUEUE UINT32_MAX

typedef struct vulkan_probe {
    VkPhysicalDevice handle;
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    VkPhysicalDeviceType type;
    uint32_t api_version, driver_version, vendor_id, device_id;
    uint8_t cache_uuid[VK_UUID_SIZE];
    uint32_t queue_family; // the first that computes; VULKAN_NO_QUEUE
    uint32_t copy_family;  // the first that copies and does nothing else; VULKAN_NO_QUEUE
    uint32_t timestamp_bits;
    float timestamp_period_ns;
    bool calibrated; // timestamps can be placed on the monotonic clock of the host
    VkPhysicalDeviceMemoryProperties memory;
    // Bit i: memory type i is a small window that some cards show the host, or the lesser part of
    // memory that is shared with it.
    uint32_t window_types;
    bool unified;          // the device shares the memory of the host, whatever heaps it shows
    uint64_t memory_bytes; // of all heaps where it does, else of those of the device
    uint64_t binding_bytes_max;
    uint64_t allocation_bytes_max;
    uint64_t offset_alignment; // of a binding
    uint64_t import_alignment; // of host memory
    uint32_t bindings_max;     // storage buffers of one kernel
    uint32_t group_count_max;  // smallest of the three dimensions
    uint32_t push_bytes_max;
    uint32_t shared_bytes_max; // of a workgroup
    uint32_t invocations_max;  // of a workgroup
    uint32_t subgroup_min, subgroup_max;
    bool storage16, storage8, float16, int8, synchronization2_feature;
    bool fast_dots; // of four signed bytes: an instruction of the device
#define VULKAN_EXTENSION_FIELD(field, extension) bool field;
    VULKAN_EXTENSION_LIST(VULKAN_EXTENSION_FIELD)
#undef VULKAN_EXTENSION_FIELD
} vulkan_probe;

// Asks a device what it can do.
WEIR_MUST_USE weir_status vulkan_probe_device(const vulkan_instance* instance,
                                              VkPhysicalDevice device, vulkan_probe* probe);

// Finds what follows from the type of a device and from its heaps: whether it shares the memory of
// the host, how much it has, and which types are windows.
void vulkan_probe_memory(vulkan_probe* probe);

// Takes queue family `family` in place of the first that computes, with its timestamps.
//
// Errors: WEIR_INVALID_ARGUMENT no such family, or it does not compute; WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status vulkan_probe_use_family(const vulkan_instance* instance, uint32_t family,
                                                  vulkan_probe* probe);

// Leaves of what a device can do what a VkDevice of a caller was made with: a chain of structures
// of features, NULL where nobody tells, which is the base alone.
void vulkan_probe_enabled(const void* features, vulkan_probe* probe);

// Says what a device lacks of the base.
//
// Errors: WEIR_UNSUPPORTED, the message names the device and what is missing.
WEIR_MUST_USE weir_status vulkan_probe_check(const vulkan_probe* probe);

// Finds the device that `name` asks for: "vulkan" (the most capable kind that has the base),
// "vulkan:1" (by index) or "vulkan:NAME" (a part of its name).
//
// Errors: WEIR_NOT_FOUND no such device, the message lists those there are; as vulkan_probe_check.
WEIR_MUST_USE weir_status vulkan_probe_find(const vulkan_instance* instance, const char* name,
                                            vulkan_probe* probe);

// Lowers the limits of a device to those of `options`.
void vulkan_probe_limit(vulkan_probe* probe, const weir_vulkan_options* options);

// The target of a device: that of planning with its own limits.
weir_target vulkan_probe_target(const vulkan_probe* probe, const weir_target* target);

#endif
