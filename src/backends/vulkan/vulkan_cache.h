// Compiled pipelines kept in a file between runs.
//
// The file is one header, which says for whom it was made, and the data of the driver behind it:
//
//     | magic, version | device, driver, cache id | bytes | checksum | data ... |
//
// Drivers promise to survive foreign data but not damaged data, so both are found out here: such a
// file is ignored, and replaced when the device is closed.
#ifndef WEIR_BACKENDS_VULKAN_CACHE_H
#define WEIR_BACKENDS_VULKAN_CACHE_H

#include "backends/vulkan/vulkan_probe.h"

// Reads the data of a file that was made for this device and driver; *data stays NULL where there
// is none. The caller frees `byte_size` bytes.
void vulkan_cache_read(const weir_allocator* allocator, const char* path, const vulkan_probe* probe,
                       void** data, size_t* byte_size);

// Replaces a file at once: whoever reads it meanwhile sees the old one or the new one.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status vulkan_cache_write(const char* path, const vulkan_probe* probe,
                                             const void* data, size_t byte_size);

#endif
