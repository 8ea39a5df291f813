// The devices of Vulkan, as weir_device_list shows them.
#include <stdio.h>
#include <string.h>

#include "backends/vulkan/vulkan_device.h"

static void append_feature(weir_device_info* info, bool there, const char* name) {
    const size_t used = strlen(info->features);
    if (there) {
        snprintf(info->features + used, sizeof info->features - used, "%s%s", used > 0 ? " " : "",
                 name);
    }
}

static void describe(const vulkan_instance* instance, const vulkan_probe* probe, uint32_t index,
                     weir_device_info* info) {
    vulkan_budget budget;
    vulkan_budget_find(&instance->api, probe, vulkan_memory_heap(probe, VULKAN_PLACE_DEVICE),
                       &budget);
    info->budget_bytes = budget.byte_size;
    snprintf(info->name, sizeof info->name, "vulkan:%u", index);
    snprintf(info->description, sizeof info->description, "%s, Vulkan %u.%u.%u", probe->name,
             VK_API_VERSION_MAJOR(probe->api_version), VK_API_VERSION_MINOR(probe->api_version),
             VK_API_VERSION_PATCH(probe->api_version));
    info->available = vulkan_probe_check(probe) == WEIR_OK;
    if (!info->available) {
        snprintf(info->description, sizeof info->description, "%s", weir_last_error());
    }
    info->unified = probe->unified;
    info->memory_bytes = probe->memory_bytes;
    info->subgroup_min = probe->subgroup_min;
    info->subgroup_max = probe->subgroup_max;
    append_feature(info, probe->float16, "f16");
    append_feature(info, probe->int8, "i8");
    append_feature(info, probe->external_memory_host, "host-import");
    append_feature(info, probe->external_memory_fd, "fd");
    append_feature(info, probe->memory_budget, "budget");
    append_feature(info, probe->memory_priority, "priority");
    append_feature(info, probe->timestamp_bits > 0, "timestamps");
    append_feature(info, probe->calibrated, "host-clock");
}

static void add(weir_device_info* infos, uint32_t capacity, uint32_t* count,
                const weir_device_info* info) {
    if (*count < capacity) {
        infos[*count] = *info;
    }
    ++*count;
}

weir_status weir_vulkan_device_list(weir_device_info* infos, uint32_t capacity, uint32_t* count) {
    static const vulkan_layers layers = {.count = 0};
    vulkan_instance instance;
    weir_device_info none = {.name = "vulkan"};
    if (vulkan_instance_open(NULL, &layers, &instance) != WEIR_OK) {
        snprintf(none.description, sizeof none.description, "%s", weir_last_error());
        add(infos, capacity, count, &none);
        return WEIR_OK;
    }
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < instance.device_count && status == WEIR_OK; i++) {
        vulkan_probe probe;
        weir_device_info info = {0};
        status = vulkan_probe_device(&instance, instance.devices[i], &probe);
        if (status == WEIR_OK) {
            describe(&instance, &probe, i, &info);
            add(infos, capacity, count, &info);
        }
    }
    if (instance.device_count == 0) {
        snprintf(none.description, sizeof none.description,
                 "vulkan: the drivers found no device (vkEnumeratePhysicalDevices: %s)",
                 vulkan_result_name(instance.listed));
        add(infos, capacity, count, &none);
    }
    vulkan_instance_close(&instance);
    return status;
}
