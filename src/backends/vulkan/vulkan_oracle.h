// The judge of barriers: the synchronisation validation of the Khronos layers, which shares nothing
// with the tracker that placed them.
//
// The layer keeps quiet about some hazards of real dispatches: two writes without a read between
// them, and reads through bindings that are written too. So it is also shown a shadow of the
// program: a kernel that does nothing, with what a dispatch reads or writes bound as read, and what
// it writes bound as written. Every hazard then has a read in it. It judges when commands are
// recorded; nothing is executed.
#ifndef WEIR_BACKENDS_VULKAN_ORACLE_H
#define WEIR_BACKENDS_VULKAN_ORACLE_H

#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_device.h"
#include "backends/vulkan/vulkan_groups.h"

typedef struct vulkan_oracle vulkan_oracle;

// Opens a device under the layer and plants a hazard, to see that the judge is awake.
//
// Errors: WEIR_UNSUPPORTED no layer, or it reports nothing; as weir_device_create.
WEIR_MUST_USE weir_status vulkan_oracle_open(const weir_allocator* allocator, const char* device,
                                             vulkan_oracle** oracle);
void vulkan_oracle_close(vulkan_oracle* oracle);

// Judges dispatches as the device would record them, with `groups`, then without each of the
// barriers in turn.
//
// Errors: WEIR_UNSUPPORTED accesses of more gaps than the shadow has bindings; WEIR_OUT_OF_MEMORY;
//         what the layer says besides hazards.
WEIR_MUST_USE weir_status vulkan_oracle_judge(vulkan_oracle* oracle,
                                              const device_dispatch* dispatches, uint32_t count,
                                              const vulkan_groups* groups,
                                              weir_vulkan_verdict* verdict);

#endif
