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
