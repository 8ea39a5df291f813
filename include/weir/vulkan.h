// What is peculiar to Vulkan: options, handles of the caller, memory shared by file descriptors,
// and the judge of barriers. Handles are plain numbers and pointers here: no header of Vulkan is
// needed.
//
// Devices of weir's own are opened by name (weir/device.h).
//
//     weir_vulkan_verdict verdict;
//     weir_vulkan_judge(NULL, NULL, schedule, &verdict);
//     assert(verdict.hazards == 0 && verdict.needed == verdict.boundaries);
#ifndef WEIR_VULKAN_H
#define WEIR_VULKAN_H

#include <weir/device.h>
#include <weir/schedule.h>
#include <weir/storage.h>

WEIR_C_BEGIN

// What a device does not decide for itself, in weir_device_desc. The limits let a large device be
// used as a smaller one, to share it or to see what will fit elsewhere; 0 is its own limit.
struct weir_vulkan_options {
    uint64_t memory_bytes_max;     // most that is allocated at once, of each heap of the device
    uint64_t allocation_bytes_max; // of one allocation; files larger than it lie in parts
    uint64_t binding_bytes_max;    // of what one binding reaches: 128 MiB is all that is promised
    bool copies_files;     // copy mapped files, as for a card, where they could be read in place
    bool hides_memory;     // the host maps no memory of the device, as of a card without a large
                           // BAR: what is for kernels is reached by copies alone
    bool without_barriers; // record none between dispatches. Passes compute nonsense: this is for
                           // measuring what the barriers of a schedule cost
};

// Closes what is kept of Vulkan without a device: the loader, the drivers, and the instance that
// all devices of the process share. They are opened with the first device, or the first list of
// devices, and kept from then on, because not every driver can be loaded over and over. What the
// environment says about drivers and layers is read when they are loaded. Devices on handles of the
// caller do not count.
//
// Errors:  WEIR_BUSY a device is open or being listed.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_unload(void);

typedef struct weir_vulkan_handles {
    void* instance;        // VkInstance, of Vulkan 1.2 or later
    void* physical_device; // VkPhysicalDevice
    void* device;          // VkDevice, see below
    void* queue;           // VkQueue, which computes
    uint32_t queue_family;
    void (*get_instance_proc_addr)(void); // PFN_vkGetInstanceProcAddr
    // What the VkDevice was made with: VkDeviceCreateInfo.pNext, or a chain of the same structures
    // of features (VkPhysicalDeviceFeatures2, VkPhysicalDeviceVulkan12Features, ...). NULL: not
    // told, and only the base is used.
    const void* features;
} weir_vulkan_handles;

// Opens a device on handles of the caller. The VkDevice must have been made with
// VK_KHR_synchronization2 and the features synchronization2, storageBuffer16BitAccess and
// storageBuffer8BitAccess. Of other features those are used that `features` has switched on, with
// their extensions (shaderFloat16, shaderIntegerDotProduct, memoryPriority,
// pageableDeviceLocalMemory); extensions for external memory, and for clocks, where their
// functions are found. Of `desc` (may be NULL) allocator, log, cache and options count.
//
// Ownership: the caller destroys the device; the handles stay the caller's and outlive it;
//            `features` is only read.
// Errors:    WEIR_INVALID_ARGUMENT a handle is missing, or no such queue family computes;
//            WEIR_UNSUPPORTED the device lacks the base, or `features` does; WEIR_OUT_OF_MEMORY;
//            WEIR_IO no thread.
// Threads:   thread-safe; nobody else uses the queue while weir does, which is within commits and
//            calls that allocate, fill or map storages.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_device_wrap(const weir_device_desc* desc,
                                                           const weir_vulkan_handles* handles,
                                                           weir_device** device);

typedef struct weir_vulkan_buffer_desc {
    uint64_t buffer; // VkBuffer of the same VkDevice, bound to memory; usable as storage buffer and
                     // for transfers both ways
    uint64_t byte_offset, byte_size; // the part of it that becomes a storage
    uint64_t memory;        // VkDeviceMemory that it is bound to, 0: nothing else lies there
    uint64_t memory_offset; // where in it
    bool sealed;            // refuse write accesses
    weir_storage_release_fn release; // called with NULL; may be NULL
    void* context;                   // handed to `release`
    const char* name;                // for messages; copied (31 bytes), may be NULL
} weir_vulkan_buffer_desc;

// Wraps a buffer of the caller, without a copy. The host reaches it by copies only. The native
// handle of a storage, and of such a wrap, is its VkBuffer.
//
// Ownership: the caller holds one reference; the buffer must hold until `release` is called.
// Aliasing:  wraps of one buffer, of buffers in one `memory`, and of the buffer of a storage are
//            the same memory where they overlap.
// Errors:    WEIR_INVALID_ARGUMENT no buffer, or a device that is not one of Vulkan;
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe for different buffers and memories.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_buffer_wrap(weir_device* device,
                                                           const weir_vulkan_buffer_desc* desc,
                                                           weir_storage** storage);

// Allocates memory of the device that others can import, with an opaque file descriptor for it.
//
// Ownership: the caller holds one reference and closes `fd`, unless it is imported.
// Errors:    WEIR_UNSUPPORTED no VK_KHR_external_memory_fd; WEIR_INVALID_ARGUMENT a device that is
//            not one of Vulkan; WEIR_DEVICE_OUT_OF_MEMORY, WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_storage_export(weir_device* device,
                                                              uint64_t byte_size, const char* name,
                                                              weir_storage** storage, int* fd);

// Makes a storage of `byte_size` bytes, the number that was exported, from an opaque file
// descriptor of the same driver and device.
//
// Ownership: the caller holds one reference; `fd` is the driver's once the call succeeds.
// Aliasing:  that it is the memory of another storage here must be declared: weir_storage_alias.
// Errors:    as weir_vulkan_storage_export; WEIR_INVALID_ARGUMENT the descriptor does not fit.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_storage_import(weir_device* device, int fd,
                                                              uint64_t byte_size, const char* name,
                                                              weir_storage** storage);

// What x is to weights of Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K; to others it is f32.
typedef enum weir_vulkan_x {
    WEIR_VULKAN_X_USUAL = 0,
    WEIR_VULKAN_X_F32 = 1,
    WEIR_VULKAN_X_8_BITS = 2, // rounded, with a scale for each 32 elements; integers are multiplied
    WEIR_VULKAN_X_F16 = 3, // rounded as the weights are, with scales for each 32 elements; sums of
                           // 16 products are f16, those of them f32
} weir_vulkan_x;

// How products are cut into workgroups: of up to 4 rows those with weights of plain types (few) and
// in blocks (unit), or whose workgroups keep a row of x in 8 bits (held), and those of more (tile).
// Columns are rows of weights that a workgroup reads at once, or 32 of its invocations in those
// that keep x: 1 to 32, of two matrices together; threads are its invocations, a multiple of 32, at
// most 256. A tile has 64 rows and 64 or 128 columns of y, 64 where there are two matrices. 0: as
// it is without this, for the kind of the device.
typedef struct weir_vulkan_tuning {
    uint32_t few_columns, few_threads;
    uint32_t unit_columns, unit_threads;
    uint32_t groups_wanted; // workgroups of a product: columns are halved until there are as many
    weir_vulkan_x unit_x;   // f32, or 8 bits with VK_KHR_shader_integer_dot_product
    uint32_t tile_columns;
    uint32_t tiles_wanted; // of a product: with fewer they are made smaller
    weir_vulkan_x tile_x;  // f32, or f16 with shaderFloat16
    uint32_t held_columns, held_threads;
    // Workgroups that keep x. They share the groups of columns of a product that has as many; with
    // fewer, or where x does not fit the shared memory beside them, x is not kept.
    uint32_t held_groups;
} weir_vulkan_tuning;

// Sets the cut for programs made from now on. Other numbers add in another order: results differ in
// their last bits.
//
// Errors:  WEIR_INVALID_ARGUMENT not a Vulkan device, numbers out of bounds; WEIR_UNSUPPORTED no
//          Vulkan, or the device lacks the shared memory.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_tune(weir_device* device,
                                                    const weir_vulkan_tuning* tuning);

// What the synchronisation validation of Khronos says of a schedule.
typedef struct weir_vulkan_verdict {
    uint32_t dispatches;
    uint32_t boundaries;
    uint32_t hazards;  // reported with all boundaries in place: 0 when they are enough
    uint32_t needed;   // boundaries without which at least one hazard is reported
    char message[512]; // the first hazard, or the first boundary that nothing needs; "" for none
} weir_vulkan_verdict;

// Lets the validation layer of Khronos judge the barriers that a program made from a schedule would
// record, with all of them and without each in turn. A hazard is planted first: a layer that does
// not see it judges nothing. Nothing is executed. `device` is as for weir_device_create, NULL is
// "vulkan".
//
// Errors:  WEIR_INVALID_ARGUMENT the schedule is for a target that waits along edges;
//          WEIR_UNSUPPORTED no Vulkan, no layer, or it is not awake; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_vulkan_judge(const weir_allocator* allocator,
                                                     const char* device,
                                                     const weir_schedule* schedule,
                                                     weir_vulkan_verdict* verdict);

WEIR_C_END

#endif
