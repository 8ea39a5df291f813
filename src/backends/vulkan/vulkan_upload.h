// Copies of mapped files to memory of the device.
#ifndef WEIR_BACKENDS_VULKAN_UPLOAD_H
#define WEIR_BACKENDS_VULKAN_UPLOAD_H

#include "backends/vulkan/vulkan_device.h"
#include "base/file_map.h"

// Bytes [byte_offset, + target->byte_size) of the mapping, and where they go.
typedef struct vulkan_upload_part {
    uint64_t byte_offset;
    const vulkan_memory* target;
} vulkan_upload_part;

typedef struct vulkan_upload_desc {
    const file_map* map;
    const vulkan_upload_part* parts;
    uint32_t part_count;
    weir_progress_fn progress; // may be NULL
    void* progress_context;
} vulkan_upload_desc;

// Copies the parts, and returns when all work to come sees them.
//
// Errors: WEIR_IO the file cannot be read, or was cut short; WEIR_CANCELLED `progress` said so;
//         WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY, WEIR_DEVICE_LOST.
WEIR_MUST_USE weir_status vulkan_upload(vulkan_device* device, const vulkan_upload_desc* desc);

#endif
