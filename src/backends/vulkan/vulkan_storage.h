// A storage of a Vulkan device, for vulkan_storage.c and vulkan_foreign.c.
#ifndef WEIR_BACKENDS_VULKAN_STORAGE_H
#define WEIR_BACKENDS_VULKAN_STORAGE_H

#include "backends/vulkan/vulkan_device.h"
#include "base/file_map.h"

typedef struct vulkan_storage {
    weir_storage base;
    vulkan_memory* parts;
    uint32_t part_count;
    _Atomic(VkBuffer) buffer;                // of part 0, once the parts are there to be looked at
    uint64_t stride;                         // from the begin of a part to that of the next
    uint64_t overlap;                        // bytes that a part shares with the next
    uint64_t lead;                           // bytes of part 0 before the first byte of the storage
    bool borrowed;                           // the buffer belongs to the caller
    uint64_t foreign_memory, foreign_offset; // of the caller: where the first byte lies; 0: unknown
    weir_fill fill;
    bool for_kernels, host_reads;
    pthread_mutex_t touch_lock; // of a lazy storage
    file_map map;
    weir_progress_fn progress; // of the copy of a file
    void* progress_context;
    weir_storage_release_fn release;
    void* release_context;
} vulkan_storage;

// Makes the object with room for `part_count` parts; destroyed by its vtable.
WEIR_MUST_USE weir_status vulkan_storage_new(weir_device* device, const char* name,
                                             uint32_t part_count, vulkan_storage** storage);

#endif
