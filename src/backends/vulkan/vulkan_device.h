// The Vulkan device: one queue, work recorded once, a thread that waits for fences.
//
// A pass is one vkQueueSubmit2 and one fence. Its commands were recorded when the work was
// prepared; a barrier stands between two groups of dispatches, and those of one group may overlap:
//
//     | group 0: launches | barrier | group 1: launches | ... | barrier to the host |
//
// Passes that must wait for others begin with a barrier of their own, a command buffer that is
// submitted in front; all others may overlap with what runs. The waiter completes passes in the
// order of their submission.
#ifndef WEIR_BACKENDS_VULKAN_DEVICE_H
#define WEIR_BACKENDS_VULKAN_DEVICE_H

#include "backends/vulkan/kernels/vulkan_kernels.h"
#include "backends/vulkan/vulkan_probe.h"
#include "device/backend.h"

#define VULKAN_BINDINGS_MAX 32 // storage buffers of one shader; the base has 8

typedef struct vulkan_device vulkan_device;
typedef struct vulkan_work vulkan_work;

#define VULKAN_PUSH_BYTES 128 // every device takes as many

// Memory with one buffer over all of it.
typedef struct vulkan_memory {
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint64_t byte_size;
    void* mapped;             // where the host can reach it, else NULL
    uint32_t heap;            // that it comes from
    uint64_t allocated_bytes; // of the heap; 0: memory of others
} vulkan_memory;

typedef enum vulkan_place {
    VULKAN_PLACE_HOST,    // cached for the host
    VULKAN_PLACE_SHARED,  // of the device where the host can map it, else of the host
    VULKAN_PLACE_KERNELS, // of the device, mapped where the host can map all of it
    VULKAN_PLACE_DEVICE,  // of the device, never mapped
} vulkan_place;

// A pipeline, for a shader with constants or for code of the caller.
typedef struct vulkan_pipeline {
    VkPipeline handle;
    uint32_t binding_count;
    vulkan_shader shader; // VULKAN_SHADER_COUNT: code of the caller
    uint32_t constants[VULKAN_CONSTANTS];
    uint32_t* code; // a copy of that of the caller
    size_t code_bytes;
    char* entry; // owned
} vulkan_pipeline;

struct vulkan_device {
    weir_device base;
    vulkan_instance instance;
    vulkan_probe probe;
    VkDevice handle;
    VkQueue queue;
    VkQueue copy_queue; // for files; `queue` where there is no other
    uint32_t copy_family;
    bool borrowed; // handle and instance belong to the caller
    weir_vulkan_options options;
    uint32_t heap;                                   // of VULKAN_PLACE_DEVICE
    atomic_uint_least64_t used[VK_MAX_MEMORY_HEAPS]; // bytes that were allocated of each heap
    weir_vulkan_tuning tuning;

    pthread_mutex_t pipeline_lock;                              // guards what follows
    VkDescriptorSetLayout set_layouts[VULKAN_BINDINGS_MAX + 1]; // by number of bindings
    VkPipelineLayout pipeline_layouts[VULKAN_BINDINGS_MAX + 1];
    VkPipelineCache cache;
    char* cache_path;     // owned; NULL: none
    bool cache_is_behind; // a pipeline was compiled since the file was read
    struct {
        vulkan_pipeline* items;
        size_t count, capacity;
    } pipelines;

    pthread_mutex_t queue_lock; // guards the queues, the pool and its command buffers
    VkCommandPool pool;
    VkCommandBuffer order; // everything before it, then everything after it
    VkCommandBuffer once;  // recorded, run and waited for under the lock
    VkFence once_fence;

    pthread_t waiter;
    bool waiter_started;
    pthread_mutex_t waiter_lock; // guards what follows
    pthread_cond_t waiter_wake;
    struct {
        vulkan_work* work;
        uint64_t sequence;
    } pending[PASSES_IN_FLIGHT]; // a ring
    uint64_t pending_begin, pending_end;
    bool stopping;
};

static inline vulkan_device* vulkan_device_of(weir_device* device) {
    return (vulkan_device*)device;
}

// vulkan_device.c
bool vulkan_is_device(const weir_device* device);
// The steps of opening: an empty device, then, with handles, what it needs to work. Any device that
// was made is closed again.
WEIR_MUST_USE weir_status vulkan_device_new(const weir_device_desc* desc, const weir_target* target,
                                            vulkan_device** device);
WEIR_MUST_USE weir_status vulkan_device_make(vulkan_device* device); // of what was probed
WEIR_MUST_USE weir_status vulkan_device_start(vulkan_device* device, const weir_device_desc* desc);
void vulkan_device_close(vulkan_device* device);
WEIR_MUST_USE weir_status vulkan_device_open(const weir_device_desc* desc,
                                             const weir_target* target, const vulkan_layers* layers,
                                             vulkan_device** device);

// vulkan_budget.c
typedef struct vulkan_budget {
    uint64_t byte_size;  // what this process may have of a heap; 0: nobody says
    uint64_t used_bytes; // of it
} vulkan_budget;
// Asks the driver about a heap; nothing need be opened for it.
void vulkan_budget_find(const vulkan_api* api, const vulkan_probe* probe, uint32_t heap,
                        vulkan_budget* budget);
// Count what is allocated and freed. What passes heap or limit is refused, with what is missing.
WEIR_MUST_USE weir_status vulkan_budget_take(vulkan_device* device, uint32_t heap,
                                             uint64_t byte_size);
void vulkan_budget_give(vulkan_device* device, uint32_t heap, uint64_t byte_size);
// Fails with `status` and the figures of a heap that had no room.
WEIR_MUST_USE weir_status vulkan_budget_explain(vulkan_device* device, uint32_t heap,
                                                uint64_t byte_size, weir_status status);
// Which memory the driver pages out first, from 0 to 1, as VK_EXT_memory_priority has it: what only
// goes to or comes from the host before what the passes use. Memory of others has 0.5.
#define VULKAN_PRIORITY_STAGING 0.25f
#define VULKAN_PRIORITY_USUAL 0.75f
// Maps the priority of a member of the residency set to that range, rising: 0 is the usual one.
float vulkan_priority_of(int priority);
// Entries of the device vtable.
weir_device_memory vulkan_device_memory(weir_device* base);
WEIR_MUST_USE weir_status vulkan_storage_hold(const weir_storage* storage, weir_residency_mode mode,
                                              int priority);
void vulkan_storage_let_go(const weir_storage* storage, void* pages, uint64_t byte_size,
                           weir_residency_mode mode);

// vulkan_memory.c
#define VULKAN_NO_TYPE UINT32_MAX

// The type of memory for a place, among those of which the bit is set in `allowed`, and the heap
// from which memory of a place comes.
uint32_t vulkan_memory_type(const vulkan_probe* probe, vulkan_place place, uint32_t allowed);
uint32_t vulkan_memory_heap(const vulkan_probe* probe, vulkan_place place);
// `priority` is that of the residency set, 0 where there is none; memory for the host is staging.
WEIR_MUST_USE weir_status vulkan_memory_create(vulkan_device* device, vulkan_place place,
                                               int priority, uint64_t byte_size,
                                               vulkan_memory* memory);
// Makes memory of the device out of host memory, without a copy. `pointer` and `byte_size` are
// multiples of the device's import alignment.
WEIR_MUST_USE weir_status vulkan_memory_import(vulkan_device* device, void* pointer,
                                               uint64_t byte_size, vulkan_memory* memory);
// Make memory that others reach by a file descriptor, which the caller closes, and memory from such
// a descriptor, which is the driver's afterwards if the call succeeds.
WEIR_MUST_USE weir_status vulkan_memory_export(vulkan_device* device, uint64_t byte_size,
                                               vulkan_memory* memory, int* fd);
WEIR_MUST_USE weir_status vulkan_memory_import_fd(vulkan_device* device, int fd, uint64_t byte_size,
                                                  vulkan_memory* memory);
void vulkan_fd_close(int fd);
void vulkan_memory_destroy(vulkan_device* device, vulkan_memory* memory);

// vulkan_storage.c: entries of the device vtable, and where bytes of a storage lie.
WEIR_MUST_USE weir_status vulkan_storage_allocate(weir_device* device,
                                                  const weir_storage_desc* desc,
                                                  weir_storage** storage);
WEIR_MUST_USE weir_status vulkan_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                                             weir_storage** storage);
WEIR_MUST_USE weir_status vulkan_storage_wrap(weir_device* device,
                                              const weir_storage_wrap_desc* desc,
                                              weir_storage** storage);
// Finds the buffer that holds bytes [byte_offset, +byte_size) of a storage, and where in it.
//
// Errors: WEIR_UNSUPPORTED they lie in more than one.
WEIR_MUST_USE weir_status vulkan_storage_locate(const weir_storage* storage, uint64_t byte_offset,
                                                uint64_t byte_size, VkBuffer* buffer,
                                                uint64_t* buffer_offset);
// Returns the most bytes of a run of rows of a view, so that every such run lies in one buffer.
uint64_t vulkan_storage_run_bytes(const weir_view* view);

// vulkan_pipeline.c
// `cache_path` may be NULL.
WEIR_MUST_USE weir_status vulkan_pipelines_open(vulkan_device* device, const char* cache_path);
void vulkan_pipelines_close(vulkan_device* device);
WEIR_MUST_USE weir_status vulkan_layout_find(vulkan_device* device, uint32_t binding_count,
                                             VkDescriptorSetLayout* set_layout,
                                             VkPipelineLayout* pipeline_layout);
WEIR_MUST_USE weir_status vulkan_pipeline_find(vulkan_device* device, const vulkan_launch* launch,
                                               VkPipeline* pipeline);
// The same for code of the caller, which is kept: equal code is compiled once.
WEIR_MUST_USE weir_status vulkan_pipeline_find_code(vulkan_device* device,
                                                    const weir_kernel_code* code,
                                                    uint32_t binding_count, VkPipeline* pipeline);

// vulkan_queue.c
WEIR_MUST_USE weir_status vulkan_queue_open(vulkan_device* device);
void vulkan_queue_close(vulkan_device* device);
// Records one command and waits for it.
typedef void (*vulkan_record_fn)(vulkan_device* device, VkCommandBuffer commands,
                                 const void* context);
WEIR_MUST_USE weir_status vulkan_queue_once(vulkan_device* device, vulkan_record_fn record,
                                            const void* context);
// Submits commands to the queue for copies and waits for them, while others use the queues.
WEIR_MUST_USE weir_status vulkan_queue_copy(vulkan_device* device, VkCommandBuffer commands,
                                            VkFence fence);
// Lets all work to come see what was written before, on whichever queue.
WEIR_MUST_USE weir_status vulkan_queue_publish(vulkan_device* device);
// Submits recorded commands as pass `sequence`, behind everything before it where `ordered` is set.
WEIR_MUST_USE weir_status vulkan_queue_submit(vulkan_device* device, vulkan_work* work,
                                              VkCommandBuffer commands, VkFence fence, bool ordered,
                                              uint64_t sequence);
// Returns when the waiter does not know `work` any more.
void vulkan_queue_forget(vulkan_device* device, const vulkan_work* work);

// vulkan_work.c
WEIR_MUST_USE weir_status vulkan_work_create(weir_device* device, const device_dispatch* dispatches,
                                             uint32_t count, device_work** work);
VkFence vulkan_work_fence(const vulkan_work* work);
// Reads what the shaders of a finished pass report and completes it.
void vulkan_work_finish(vulkan_work* work, uint64_t sequence);

#endif
