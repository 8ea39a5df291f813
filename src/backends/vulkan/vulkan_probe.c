#include "backends/vulkan/vulkan_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/array.h"

#define INVOCATIONS_MIN 256
#define SHARED_BYTES_MIN (32u << 10)
#define STORAGE_STEP (64u << 10) // drivers round sizes up to no more, and some limits are one short
#define BINDINGS_MIN 8           // Vulkan promises 4, cards have far more

static weir_status probe_extensions(const vulkan_instance* instance, vulkan_probe* probe) {
    vulkan_extensions list;
    WEIR_TRY(vulkan_extensions_list(instance, probe->handle, &list));
#define VULKAN_EXTENSION_FIND(field, extension)                                                    \
    probe->field = vulkan_extensions_have(&list, extension);
    VULKAN_EXTENSION_LIST(VULKAN_EXTENSION_FIND)
#undef VULKAN_EXTENSION_FIND
    probe->calibrated_khr = probe->calibrated_khr && !probe->calibrated_ext; // they are the same
    vulkan_extensions_free(&instance->allocator, &list);
    return WEIR_OK;
}

static void limit(uint64_t* value, uint64_t most) {
    *value = most > 0 && most < *value ? most : *value;
}

static void probe_limits(const vulkan_instance* instance, vulkan_probe* probe) {
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceMaintenance4Properties buffers = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES, .pNext = &import};
    VkPhysicalDeviceShaderIntegerDotProductProperties dots = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES,
        .pNext = &buffers};
    VkPhysicalDeviceSubgroupSizeControlProperties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES,
        .pNext = &dots};
    VkPhysicalDeviceVulkan11Properties core = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &sizes};
    VkPhysicalDeviceProperties2 found = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                         .pNext = &core};
    instance->api.GetPhysicalDeviceProperties2(probe->handle, &found);
    const VkPhysicalDeviceProperties* device = &found.properties;
    const VkPhysicalDeviceLimits* limits = &device->limits;
    snprintf(probe->name, sizeof probe->name, "%s", device->deviceName);
    memcpy(probe->cache_uuid, device->pipelineCacheUUID, sizeof probe->cache_uuid);
    probe->type = device->deviceType;
    probe->api_version = device->apiVersion;
    probe->driver_version = device->driverVersion;
    probe->vendor_id = device->vendorID;
    probe->device_id = device->deviceID;
    probe->binding_bytes_max = limits->maxStorageBufferRange;
    probe->allocation_bytes_max = core.maxMemoryAllocationSize;
    limit(&probe->allocation_bytes_max, buffers.maxBufferSize); // one buffer lies over all of it
    probe->offset_alignment = limits->minStorageBufferOffsetAlignment;
    probe->import_alignment = import.minImportedHostPointerAlignment;
    probe->bindings_max = limits->maxPerStageDescriptorStorageBuffers;
    probe->push_bytes_max = limits->maxPushConstantsSize;
    probe->shared_bytes_max = limits->maxComputeSharedMemorySize;
    probe->invocations_max = limits->maxComputeWorkGroupInvocations;
    probe->fast_dots = dots.integerDotProduct4x8BitPackedSignedAccelerated;
    probe->timestamp_period_ns = limits->timestampPeriod;
    probe->group_count_max = limits->maxComputeWorkGroupCount[0];
    for (int i = 1; i < 3; i++) {
        const uint32_t count = limits->maxComputeWorkGroupCount[i];
        probe->group_count_max = count < probe->group_count_max ? count : probe->group_count_max;
    }
    const bool ranged = sizes.minSubgroupSize > 0;
    probe->subgroup_min = ranged ? sizes.minSubgroupSize : core.subgroupSize;
    probe->subgroup_max = ranged ? sizes.maxSubgroupSize : core.subgroupSize;
}

static void probe_features(const vulkan_instance* instance, vulkan_probe* probe) {
    VkPhysicalDeviceShaderIntegerDotProductFeatures dots = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES};
    VkPhysicalDeviceSynchronization2Features synchronization = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES, .pNext = &dots};
    VkPhysicalDeviceVulkan12Features core12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &synchronization};
    VkPhysicalDeviceVulkan11Features core11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &core12};
    VkPhysicalDeviceFeatures2 found = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                       .pNext = &core11};
    instance->api.GetPhysicalDeviceFeatures2(probe->handle, &found);
    probe->storage16 = core11.storageBuffer16BitAccess;
    probe->storage8 = core12.storageBuffer8BitAccess;
    probe->float16 = core12.shaderFloat16;
    probe->int8 = core12.shaderInt8;
    probe->integer_dot = probe->integer_dot && dots.shaderIntegerDotProduct;
    probe->synchronization2_feature = synchronization.synchronization2;
}

static bool is_local(const VkPhysicalDeviceMemoryProperties* memory, uint32_t heap) {
    return (memory->memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0;
}

// What shares the memory of the host may show it as two heaps, one of them its own by name alone.
static void find_unified(vulkan_probe* probe) {
    bool local = true;
    for (uint32_t i = 0; i < probe->memory.memoryHeapCount; i++) {
        local = local && is_local(&probe->memory, i);
    }
    probe->unified = local || probe->type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU ||
                     probe->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
}

static void count_memory(vulkan_probe* probe) {
    probe->memory_bytes = 0;
    for (uint32_t i = 0; i < probe->memory.memoryHeapCount; i++) {
        const bool counts = probe->unified || is_local(&probe->memory, i);
        probe->memory_bytes += counts ? probe->memory.memoryHeaps[i].size : 0;
    }
}

static void find_windows(vulkan_probe* probe) {
    probe->window_types = 0;
    const VkPhysicalDeviceMemoryProperties* memory = &probe->memory;
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
        const VkMemoryType* type = &memory->memoryTypes[i];
        const bool visible = (type->propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) != 0;
        if ((visible || probe->unified) && is_local(memory, type->heapIndex) &&
            memory->memoryHeaps[type->heapIndex].size < probe->memory_bytes / 2) {
            probe->window_types |= UINT32_C(1) << i;
        }
    }
}

static void probe_memory(const vulkan_instance* instance, vulkan_probe* probe) {
    VkPhysicalDeviceMemoryProperties2 found = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    instance->api.GetPhysicalDeviceMemoryProperties2(probe->handle, &found);
    probe->memory = found.memoryProperties;
    vulkan_probe_memory(probe);
}

void vulkan_probe_memory(vulkan_probe* probe) {
    find_unified(probe);
    count_memory(probe);
    find_windows(probe);
}

typedef struct queue_families {
    VkQueueFamilyProperties* items; // freed by free_families
    uint32_t count, room;
} queue_families;

static weir_status list_families(const vulkan_instance* instance, VkPhysicalDevice device,
                                 queue_families* families) {
    uint32_t count = 0;
    instance->api.GetPhysicalDeviceQueueFamilyProperties(device, &count, NULL);
    void* memory = NULL;
    WEIR_TRY(
        weir_alloc_zeroed(&instance->allocator, count * sizeof(VkQueueFamilyProperties), &memory));
    *families = (queue_families){.items = memory, .count = count, .room = count};
    instance->api.GetPhysicalDeviceQueueFamilyProperties(device, &families->count, memory);
    return WEIR_OK;
}

static void free_families(const vulkan_instance* instance, queue_families* families) {
    weir_free(&instance->allocator, families->items, families->room * sizeof *families->items,
              _Alignof(max_align_t));
}

// Of the families that compute the first: it is the one that every driver schedules well. One that
// only copies has engines of its own, and what is copied there does not stand in the way of passes.
static weir_status probe_queues(const vulkan_instance* instance, vulkan_probe* probe) {
    const VkQueueFlags kinds = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_TRANSFER_BIT;
    queue_families families;
    WEIR_TRY(list_families(instance, probe->handle, &families));
    probe->queue_family = probe->copy_family = VULKAN_NO_QUEUE;
    for (uint32_t i = families.count; i > 0; i--) {
        const VkQueueFamilyProperties* family = &families.items[i - 1];
        if ((family->queueFlags & VK_QUEUE_COMPUTE_BIT) != 0) {
            probe->queue_family = i - 1;
            probe->timestamp_bits = family->timestampValidBits;
        } else if ((family->queueFlags & kinds) == VK_QUEUE_TRANSFER_BIT) {
            probe->copy_family = i - 1;
        }
    }
    free_families(instance, &families);
    return WEIR_OK;
}

#define DOMAINS_MAX 16

static void probe_clocks(const vulkan_instance* instance, vulkan_probe* probe) {
    VkTimeDomainEXT domains[DOMAINS_MAX];
    uint32_t count = DOMAINS_MAX;
    bool device = false;
    bool host = false;
    probe->calibrated = false;
    if (!(probe->calibrated_ext || probe->calibrated_khr) ||
        !instance->api.GetPhysicalDeviceCalibrateableTimeDomainsEXT ||
        instance->api.GetPhysicalDeviceCalibrateableTimeDomainsEXT(probe->handle, &count, domains) <
            0) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        device = device || domains[i] == VK_TIME_DOMAIN_DEVICE_EXT;
        host = host || domains[i] == VK_TIME_DOMAIN_CLOCK_MONOTONIC_EXT;
    }
    probe->calibrated = device && host && probe->timestamp_bits > 0;
}

weir_status vulkan_probe_device(const vulkan_instance* instance, VkPhysicalDevice device,
                                vulkan_probe* probe) {
    vulkan_probe made = {.handle = device};
    probe_limits(instance, &made);
    WEIR_TRY(probe_extensions(instance, &made));
    if (made.api_version >= VULKAN_VERSION) { // older ones may not be asked in this way
        probe_features(instance, &made);
    }
    probe_memory(instance, &made);
    WEIR_TRY(probe_queues(instance, &made));
    probe_clocks(instance, &made);
    *probe = made;
    return WEIR_OK;
}

weir_status vulkan_probe_use_family(const vulkan_instance* instance, uint32_t family,
                                    vulkan_probe* probe) {
    queue_families families;
    WEIR_TRY(list_families(instance, probe->handle, &families));
    const uint32_t count = families.count;
    const bool computes =
        family < count && (families.items[family].queueFlags & VK_QUEUE_COMPUTE_BIT) != 0;
    if (computes) {
        probe->queue_family = family;
        probe->timestamp_bits = families.items[family].timestampValidBits;
        probe_clocks(instance, probe);
    }
    free_families(instance, &families);
    return computes ? WEIR_OK
                    : WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                                "vulkan: queue family %u of %s, which has %u, does not compute",
                                family, probe->name, count);
}

typedef struct vulkan_features {
    bool storage16, storage8, float16, int8, synchronization2;
    bool integer_dot, memory_priority, pageable_memory;
} vulkan_features;

// X(structure, type, member, feature): where a feature is switched on. Later versions of Vulkan
// have those of extensions in structures of their own.
#define FEATURE_PLACES(X)                                                                          \
    X(VULKAN_1_1_FEATURES, Vulkan11Features, storageBuffer16BitAccess, storage16)                  \
    X(16BIT_STORAGE_FEATURES, 16BitStorageFeatures, storageBuffer16BitAccess, storage16)           \
    X(VULKAN_1_2_FEATURES, Vulkan12Features, storageBuffer8BitAccess, storage8)                    \
    X(8BIT_STORAGE_FEATURES, 8BitStorageFeatures, storageBuffer8BitAccess, storage8)               \
    X(VULKAN_1_2_FEATURES, Vulkan12Features, shaderFloat16, float16)                               \
    X(SHADER_FLOAT16_INT8_FEATURES, ShaderFloat16Int8Features, shaderFloat16, float16)             \
    X(VULKAN_1_2_FEATURES, Vulkan12Features, shaderInt8, int8)                                     \
    X(SHADER_FLOAT16_INT8_FEATURES, ShaderFloat16Int8Features, shaderInt8, int8)                   \
    X(VULKAN_1_3_FEATURES, Vulkan13Features, synchronization2, synchronization2)                   \
    X(SYNCHRONIZATION_2_FEATURES, Synchronization2Features, synchronization2, synchronization2)    \
    X(VULKAN_1_3_FEATURES, Vulkan13Features, shaderIntegerDotProduct, integer_dot)                 \
    X(SHADER_INTEGER_DOT_PRODUCT_FEATURES, ShaderIntegerDotProductFeatures,                        \
      shaderIntegerDotProduct, integer_dot)                                                        \
    X(MEMORY_PRIORITY_FEATURES_EXT, MemoryPriorityFeaturesEXT, memoryPriority, memory_priority)    \
    X(PAGEABLE_DEVICE_LOCAL_MEMORY_FEATURES_EXT, PageableDeviceLocalMemoryFeaturesEXT,             \
      pageableDeviceLocalMemory, pageable_memory)

// Adds what one structure of a chain switches on.
static void add_features(const VkBaseInStructure* item, vulkan_features* on) {
    const void* any = item;
#define FEATURE_ADD(structure, type, member, feature)                                              \
    if (item->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##structure &&                            \
        ((const VkPhysicalDevice##type*)any)->member) {                                            \
        on->feature = true;                                                                        \
    }
    FEATURE_PLACES(FEATURE_ADD)
#undef FEATURE_ADD
}

void vulkan_probe_enabled(const void* features, vulkan_probe* probe) {
    // Where nobody tells, the base is switched on, as was demanded, and nothing else.
    vulkan_features on = {
        .storage16 = !features, .storage8 = !features, .synchronization2 = !features};
    for (const VkBaseInStructure* item = features; item; item = item->pNext) {
        add_features(item, &on);
    }
    probe->storage16 = probe->storage16 && on.storage16;
    probe->storage8 = probe->storage8 && on.storage8;
    probe->synchronization2_feature = probe->synchronization2_feature && on.synchronization2;
    probe->float16 = probe->float16 && on.float16;
    probe->int8 = probe->int8 && on.int8;
    probe->integer_dot = probe->integer_dot && on.integer_dot;
    probe->memory_priority = probe->memory_priority && on.memory_priority;
    probe->pageable_memory = probe->pageable_memory && probe->memory_priority && on.pageable_memory;
}

static weir_status check_features(const vulkan_probe* probe) {
    const struct {
        bool there;
        const char* what;
    } base[] = {
        {probe->api_version >= VULKAN_VERSION, "Vulkan 1.2"},
        {probe->synchronization2 && probe->synchronization2_feature, "synchronization2"},
        {probe->storage16, "16-bit storage"},
        {probe->storage8, "8-bit storage"},
        {probe->queue_family != VULKAN_NO_QUEUE, "a queue that computes"},
        {probe->memory_bytes > 0, "memory of its own"},
    };
    for (size_t i = 0; i < sizeof base / sizeof base[0]; i++) {
        if (!base[i].there) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s lacks %s", probe->name, base[i].what);
        }
    }
    return WEIR_OK;
}

weir_status vulkan_probe_check(const vulkan_probe* probe) {
    WEIR_TRY(check_features(probe));
    const struct {
        uint32_t has, least;
        const char* limit;
        const char* what;
    } limits[] = {
        {probe->invocations_max, INVOCATIONS_MIN, "maxComputeWorkGroupInvocations",
         "workgroups of 256 invocations"},
        {probe->shared_bytes_max, SHARED_BYTES_MIN, "maxComputeSharedMemorySize",
         "32 KiB of shared memory"},
        {probe->bindings_max, BINDINGS_MIN, "maxPerStageDescriptorStorageBuffers",
         "8 storage buffers of a kernel"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].has < limits[i].least) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s lacks %s: %s is %u, expected %u or more",
                             probe->name, limits[i].what, limits[i].limit, limits[i].has,
                             limits[i].least);
        }
    }
    return WEIR_OK;
}

// Discrete cards first, then what shares the memory of the host, then what emulates.
static int rank_of(VkPhysicalDeviceType type) {
    switch ((int)type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 4;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 3;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 1;
    default:
        return 0;
    }
}

static bool is_number(const char* text) {
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static bool contains(const char* text, const char* part) {
    const size_t length = strlen(part);
    for (; *text; text++) {
        if (strncasecmp(text, part, length) == 0) {
            return true;
        }
    }
    return false;
}

static weir_status not_found(const vulkan_instance* instance, const char* name) {
    char names[512] = "";
    for (uint32_t i = 0; i < instance->device_count; i++) {
        vulkan_probe probe;
        WEIR_TRY(vulkan_probe_device(instance, instance->devices[i], &probe));
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%u %s", i == 0 ? "" : ", ", i, probe.name);
    }
    return instance->device_count == 0
               ? WEIR_FAIL(WEIR_NOT_FOUND,
                           "no device \"%s\": the drivers of Vulkan found none "
                           "(vkEnumeratePhysicalDevices: %s)",
                           name, vulkan_result_name(instance->listed))
               : WEIR_FAIL(WEIR_NOT_FOUND, "no device \"%s\"; there are: %s", name, names);
}

weir_status vulkan_probe_find(const vulkan_instance* instance, const char* name,
                              vulkan_probe* probe) {
    const char* colon = strchr(name, ':');
    const char* wanted = colon ? colon + 1 : NULL;
    const unsigned long index = wanted && is_number(wanted) ? strtoul(wanted, NULL, 10) : 0;
    vulkan_probe best = {0};
    int best_rank = -1;
    for (uint32_t i = 0; i < instance->device_count; i++) {
        vulkan_probe found;
        WEIR_TRY(vulkan_probe_device(instance, instance->devices[i], &found));
        if (wanted && (is_number(wanted) ? index != i : !contains(found.name, wanted))) {
            continue;
        }
        // One that lacks the base is taken only where there is no other, to say what it lacks.
        const int rank = vulkan_probe_check(&found) == WEIR_OK ? 1 + rank_of(found.type) : 0;
        if (rank > best_rank) {
            best = found;
            best_rank = rank;
        }
    }
    if (best_rank < 0) {
        return not_found(instance, name);
    }
    WEIR_TRY(vulkan_probe_check(&best));
    *probe = best;
    return WEIR_OK;
}

void vulkan_probe_limit(vulkan_probe* probe, const weir_vulkan_options* options) {
    limit(&probe->binding_bytes_max, options->binding_bytes_max);
    limit(&probe->allocation_bytes_max, options->allocation_bytes_max);
    for (uint32_t i = 0; i < probe->memory.memoryHeapCount; i++) {
        limit(&probe->memory.memoryHeaps[i].size, options->memory_bytes_max);
    }
    count_memory(probe);
}

weir_target vulkan_probe_target(const vulkan_probe* probe, const weir_target* target) {
    weir_target made = *target;
    made.binding_bytes_max = probe->binding_bytes_max;
    made.storage_bytes_max = probe->allocation_bytes_max;
    if (made.storage_bytes_max > STORAGE_STEP) {
        made.storage_bytes_max -= made.storage_bytes_max % STORAGE_STEP;
    }
    made.native_f16 = probe->float16;
    return made;
}
