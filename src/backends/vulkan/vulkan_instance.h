// Instances of Vulkan, and the one that all devices of the process share.
//
// The loader loads the drivers with the first instance and unloads them with the last. Not every
// driver stands being unloaded and loaded again: that of NVIDIA refuses after some thirty rounds,
// for the rest of the process. The shared instance is therefore made once and kept, without a
// device too, until weir_vulkan_unload; an instance of its own, as layers need it, lives beside
// it. A child that was forked shares nothing with its parent and makes another.
#ifndef WEIR_BACKENDS_VULKAN_INSTANCE_H
#define WEIR_BACKENDS_VULKAN_INSTANCE_H

#include <sys/types.h>

#include <weir/allocator.h>

#include "backends/vulkan/vulkan_api.h"

typedef enum vulkan_owner {
    VULKAN_OWNER_CALLER = 0, // who brought the handle
    VULKAN_OWNER_PROCESS,    // it is shared
    VULKAN_OWNER_SELF,       // it goes when it is closed
} vulkan_owner;

typedef struct vulkan_instance {
    weir_allocator allocator;
    vulkan_api api;
    VkInstance handle;
    vulkan_owner owner;
    pid_t process; // that the shared instance belongs to; 0: it is not held
    VkPhysicalDevice* devices;
    uint32_t device_count;
    VkResult listed; // what listing them gave: some failures mean that there is none
} vulkan_instance;

// Layers to open an instance under, and what to tell them.
typedef struct vulkan_layers {
    const char* const* names;
    uint32_t count;
    const void* next; // of VkInstanceCreateInfo; with it VK_EXT_debug_utils is enabled
} vulkan_layers;

// Opens the loader, an instance and the list of its devices; undone by vulkan_instance_close. With
// layers it is an instance of its own, else that of the process.
//
// Errors:  WEIR_UNSUPPORTED no loader, no driver, or one below Vulkan 1.2; the message has the
//          result and, for a driver, what the loader says. WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_MUST_USE weir_status vulkan_instance_open(const weir_allocator* allocator,
                                               const vulkan_layers* layers,
                                               vulkan_instance* instance);
void vulkan_instance_close(vulkan_instance* instance);

// The names of extensions, those of an instance (`device` NULL) or of a device; freed by
// vulkan_extensions_free.
typedef struct vulkan_extensions {
    VkExtensionProperties* items;
    uint32_t count, room;
} vulkan_extensions;

WEIR_MUST_USE weir_status vulkan_extensions_list(const vulkan_instance* instance,
                                                 VkPhysicalDevice device, vulkan_extensions* list);
bool vulkan_extensions_have(const vulkan_extensions* list, const char* name);
void vulkan_extensions_free(const weir_allocator* allocator, vulkan_extensions* list);

#endif
