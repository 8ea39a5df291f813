#include "backends/vulkan/vulkan_target.h"

#include "backends/vulkan/kernels/vulkan_kernels.h"

// A dispatch is one command: the device cuts it.
static uint32_t one_tile(const weir_kernel_use* use) {
    (void)use;
    return 1;
}

static const weir_kernel kernels[] = {
#define VULKAN_KERNEL_ROW(kernel, operation, rows, scratch)                                        \
    {.name = #kernel,                                                                              \
     .op = WEIR_OP_##operation,                                                                    \
     .accepts = vulkan_##kernel##_accepts,                                                         \
     .tile_count = one_tile,                                                                       \
     .scratch_bytes = (scratch),                                                                   \
     .by_rows = (rows)},
    VULKAN_KERNEL_LIST(VULKAN_KERNEL_ROW)
#undef VULKAN_KERNEL_ROW
};

// The limits are those that every implementation has (Vulkan 1.2, table of required limits; the
// size of an allocation by VkPhysicalDeviceVulkan11Properties): a plan made for this target runs on
// any device. The alignment is the largest that a device may ask for.
const weir_target weir_vulkan_target = {
    .name = "vulkan",
    .waits = WEIR_WAIT_GROUPS,
    .alignment = 256,
    .binding_bytes_max = UINT64_C(1) << 27,
    .storage_bytes_max = UINT64_C(1) << 30,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof kernels[0],
};

const weir_target* weir_vulkan_target_any(void) {
    return &weir_vulkan_target;
}
