// Stands in for the back end where it was built without the headers of Vulkan.
#include <stdio.h>

#include <weir/vulkan.h>

#include "device/backend.h"

weir_status weir_vulkan_device_list(weir_device_info* infos, uint32_t capacity, uint32_t* count) {
    if (*count < capacity) {
        weir_device_info none = {.name = "vulkan"};
        snprintf(none.description, sizeof none.description, "this build of weir has no Vulkan");
        infos[*count] = none;
    }
    ++*count;
    return WEIR_OK;
}

weir_status weir_vulkan_device_create(const weir_device_desc* desc, const weir_target* target,
                                      weir_device** device) {
    (void)desc;
    (void)target;
    (void)device;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_judge(const weir_allocator* allocator, const char* device,
                              const weir_schedule* schedule, weir_vulkan_verdict* verdict) {
    (void)allocator;
    (void)device;
    (void)schedule;
    (void)verdict;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_device_wrap(const weir_device_desc* desc,
                                    const weir_vulkan_handles* handles, weir_device** device) {
    (void)desc;
    (void)handles;
    (void)device;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_buffer_wrap(weir_device* device, const weir_vulkan_buffer_desc* desc,
                                    weir_storage** storage) {
    (void)device;
    (void)desc;
    (void)storage;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_storage_export(weir_device* device, uint64_t byte_size, const char* name,
                                       weir_storage** storage, int* fd) {
    (void)device;
    (void)byte_size;
    (void)name;
    (void)storage;
    (void)fd;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_storage_import(weir_device* device, int fd, uint64_t byte_size,
                                       const char* name, weir_storage** storage) {
    (void)device;
    (void)fd;
    (void)byte_size;
    (void)name;
    (void)storage;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_tune(weir_device* device, const weir_vulkan_tuning* tuning) {
    (void)device;
    (void)tuning;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: this build of weir has no Vulkan");
}

weir_status weir_vulkan_unload(void) {
    return WEIR_OK;
}
