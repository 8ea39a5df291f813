// What the tests of the Vulkan device share: a device, memory, and a kernel of the caller.
#ifndef WEIR_TESTS_VULKAN_TESTING_H
#define WEIR_TESTS_VULKAN_TESTING_H

#include "testing.h"

#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_storage.h"
#include "testing_allocator.h"

static const uint32_t scale_words[] = {
#include "shaders/scale.inc"
};

static weir_device* gpu; // shared by the tests that leave it as it was

static inline weir_device* open_vulkan(test_allocator* counter) {
    weir_device_desc desc = {.name = "vulkan"};
    if (counter) {
        desc.allocator = test_allocator_of(counter);
    }
    weir_device* device = NULL;
    const weir_status status = weir_device_create(&desc, &device);
    need_test_device(status);
    assert_ok(status);
    return device;
}

static inline weir_device* open_vulkan_with(const weir_vulkan_options* options) {
    weir_device* device = NULL;
    assert_ok(
        weir_device_create(&(weir_device_desc){.name = "vulkan", .vulkan = options}, &device));
    return device;
}

// Stands for vkQueueSubmit2 on a device that is gone.
static inline VkResult VKAPI_PTR lose_submit(VkQueue queue, uint32_t count,
                                             const VkSubmitInfo2* infos, VkFence fence) {
    (void)queue;
    (void)count;
    (void)infos;
    (void)fence;
    return VK_ERROR_DEVICE_LOST;
}

static inline int open_gpu(void** state) {
    (void)state;
    gpu = open_vulkan(NULL);
    return 0;
}

static inline int close_gpu(void** state) {
    (void)state;
    weir_device_destroy(gpu);
    return 0;
}

static inline weir_storage* allocate(weir_device* device, uint64_t byte_size, weir_fill fill,
                                     bool device_only) {
    const weir_storage_desc desc = {
        .byte_size = byte_size, .fill = fill, .name = "memory", .device_only = device_only};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static inline weir_view floats(weir_storage* storage, uint64_t byte_offset, int64_t count) {
    const weir_shape shape = weir_shape_make(1, &count);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_F32, &shape, &view));
    return view;
}

typedef struct scale_constants {
    float factor;
    uint32_t count;
} scale_constants;

// Records y = factor * x.
static inline weir_status scale(weir_session* session, const weir_view* x, const weir_view* y,
                                float factor, weir_verdict* verdict) {
    const uint32_t count = (uint32_t)x->shape.dims[0];
    const scale_constants constants = {factor, count};
    const weir_kernel_code code = {
        .words = scale_words, .byte_size = sizeof scale_words, .groups = {(count + 63) / 64}};
    const weir_operand operands[] = {{*x, WEIR_ACCESS_READ}, {*y, WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {.name = "scale",
                                     .code = &code,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .constants = &constants,
                                     .constants_size = sizeof constants};
    return weir_session_dispatch(session, &desc, verdict);
}

#endif
