// Vulkan as planning sees it: no device and no driver is needed for it.
#ifndef WEIR_BACKENDS_VULKAN_TARGET_H
#define WEIR_BACKENDS_VULKAN_TARGET_H

#include <weir/target.h>

extern const weir_target weir_vulkan_target;

const weir_target* weir_vulkan_target_any(void);

#endif
