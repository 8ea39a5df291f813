// Devices: something that executes.
//
// "cpu" runs kernels on worker threads of its own. "null" executes nothing and completes at once,
// or when a test says so. A device is shared by threads; storages, arenas, sessions and programs
// made from it must be gone before it is destroyed.
//
//     weir_device* device;
//     weir_device_create(&(weir_device_desc){.name = "cpu"}, &device);
#ifndef WEIR_DEVICE_H
#define WEIR_DEVICE_H

#include <weir/allocator.h>
#include <weir/kernel.h>
#include <weir/log.h>

WEIR_C_BEGIN

typedef struct weir_device weir_device;
typedef struct weir_target weir_target;
typedef struct weir_vulkan_options weir_vulkan_options; // weir/vulkan.h

#define WEIR_THREADS_MAX 1024

typedef struct weir_device_desc {
    const char* name;         // NULL: "cpu"
    uint32_t thread_count;    // cpu: workers, at most WEIR_THREADS_MAX; 0 = one for each core that
                              // this process may use, no more than its control group grants
    bool manual_completion;   // null: work completes by weir_null_complete only
    weir_allocator allocator; // for everything that belongs to the device
    weir_log log;
    const char*
        cache_path; // vulkan: a file to keep compiled pipelines in between runs; one that is
                    // damaged or of another device is ignored and replaced. NULL: none
    const weir_vulkan_options* vulkan; // vulkan: read by the call alone; NULL: the defaults
} weir_device_desc;

// Counted since creation; also kept per session and per program.
typedef struct weir_counters {
    uint64_t dispatches;   // recorded or replayed
    uint64_t waits;        // kept: edges on the longest path of each pass
    uint64_t waits_elided; // what a wait between any two dispatches would have added
    uint64_t submits;      // commits handed to the device
    uint64_t host_waits;   // times that a host thread waited for a ticket
    uint64_t bytes_read;   // declared by the accesses, at the sizes of each pass
    uint64_t bytes_written;
    uint64_t ranges_widened; // accesses that were over-stated: more than four levels of strides
} weir_counters;

// Opens a device.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_NOT_FOUND unknown name (the message lists the names); WEIR_INVALID_ARGUMENT too
//            many threads; WEIR_OUT_OF_MEMORY; WEIR_IO a worker thread could not be started.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_device_create(const weir_device_desc* desc,
                                                      weir_device** device);

// Waits for work in flight and closes the device, lost or not; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_device_destroy(weir_device* device);

// What a device is, as far as that can be told without opening it.
typedef struct weir_device_info {
    char name[32];         // what weir_device_desc takes
    char description[320]; // model and driver, or why it is not available
    bool available;        // weir_device_create can open it
    bool unified;          // the host shares its memory
    uint64_t memory_bytes; // of the device
    uint64_t budget_bytes; // of these for this process, as the system estimates it; 0: no estimate
    uint32_t subgroup_min; // lanes that run in step; 0 where there is no such thing
    uint32_t subgroup_max; // differs from subgroup_min where a kernel may choose
    char features[256];    // what it has beyond the base, separated by spaces
} weir_device_info;

// Lists the devices that can be opened by name, and the kinds that cannot, with the reason.
// `count` receives how many there are; the first `capacity` of them are written to `infos`.
//
// Errors:  WEIR_OUT_OF_MEMORY; a missing driver is no error.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_device_list(weir_device_info* infos, uint32_t capacity,
                                                    uint32_t* count);

// The memory of a device as it stands; 0 where nobody says.
typedef struct weir_device_memory {
    uint64_t total_bytes;  // of the device
    uint64_t budget_bytes; // what this process may have of it before allocations fail or memory is
                           // paged out: an estimate of the system, which changes all the time
    uint64_t used_bytes;   // of the budget, by this process
} weir_device_memory;

// Asks for the memory of a device.
//
// Threads: thread-safe.
WEIR_API weir_device_memory weir_device_memory_now(weir_device* device);

// Return facts of a device.
//
// Threads: thread-safe.
WEIR_API const weir_target* weir_device_target(const weir_device* device);
WEIR_API uint32_t weir_device_thread_count(const weir_device* device);

// Called by a worker before (`begin` true) and after every tile: the one place where tracing,
// delays and assertions attach. `name` is that of the dispatch. A join (weir_kernel.joins) has the
// number after that of the last tile.
typedef void (*weir_tile_hook_fn)(void* context, uint32_t worker, const char* name,
                                  uint32_t dispatch, uint32_t tile, bool begin);

// Sets the hook (NULL: none).
//
// Errors:  WEIR_BUSY work is in flight.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_device_set_tile_hook(weir_device* device,
                                                             weir_tile_hook_fn hook, void* context);

// The completion of one commit. A plain value; it may outlive its session, not its device.
typedef struct weir_ticket {
    weir_device* device;
    uint64_t sequence; // counted from 1; 0 = nothing to wait for
} weir_ticket;

#define WEIR_WAIT_FOREVER UINT64_MAX

// Waits until the work of a ticket is complete and returns its status: that of the first kernel
// that failed, with its message and the name of the dispatch. Of failures the last 64 of a device
// are kept. Tickets are complete in any order; work that fails takes no other with it: passes that
// were to run after it do so. On the CPU the thread that waits may run kernels, which take up to
// 512 KiB of its stack.
//
// Errors:  WEIR_TIMEOUT not complete after `timeout_ns` nanoseconds; WEIR_DEVICE_LOST the device
//          was lost before, with the first cause; the status of the work.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_ticket_wait(weir_ticket ticket, uint64_t timeout_ns);

// Waits until one of several tickets of a device is complete, and returns the status of its work.
// `index` receives the first of those that are, however its work ended.
//
// Errors:  WEIR_TIMEOUT; WEIR_INVALID_ARGUMENT no tickets, or of different devices; as
//          weir_ticket_wait.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_ticket_wait_any(const weir_ticket* tickets, uint32_t count,
                                                        uint64_t timeout_ns, uint32_t* index);

// Tells whether the work of a ticket is complete, without waiting.
//
// Threads: thread-safe.
WEIR_API bool weir_ticket_is_complete(weir_ticket ticket);

// When one dispatch ran: from the start of its first tile to the end of its last, both 0 where it
// did not. Units: nanoseconds of one clock that never goes back.
typedef struct weir_timing {
    uint64_t begin_ns, end_ns;
} weir_timing;

// Copies the times of the dispatches of complete work, in the order of their recording, to
// `timings`, at most `capacity`; `count` receives how many there are. They are there when the
// session or program was told to take times (weir_session_set_timing, weir_program_set_timing)
// before the commit, and are kept for the next 64 commits to the device.
//
// Errors:  WEIR_BUSY not complete; WEIR_NOT_FOUND no times were taken, or they are gone.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_ticket_timings(weir_ticket ticket, weir_timing* timings,
                                                       uint32_t capacity, uint32_t* count);

// Completes the oldest `count` commits of a null device with manual completion, with `status` as
// their outcome; returns how many there were. WEIR_DEVICE_LOST loses the device: weir_null_lose.
// Commits wait while 64 are in flight: whoever completes them must be another thread then.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_null_complete(weir_device* device, uint32_t count, weir_status status);

// Completes one commit of a null device with manual completion. Returns false, and does nothing,
// where it is not in flight, or conflicts with an earlier one that is.
//
// Threads: thread-safe.
WEIR_API bool weir_null_complete_ticket(weir_ticket ticket, weir_status status);

// Loses a null device, as a driver might at any time: work in flight is complete with
// WEIR_DEVICE_LOST, and so end all later commits, with `cause` in their message.
//
// Threads: thread-safe.
WEIR_API void weir_null_lose(weir_device* device, const char* cause);

// Lets call number `call` from now (0: the next) of a null device to allocate, map, wrap, reserve,
// commit memory, make it resident, submit or rebind fail with `status`; WEIR_OK cancels.
//
// Threads: thread-compatible.
WEIR_API void weir_null_fail(weir_device* device, uint32_t call, weir_status status);

WEIR_C_END

#endif
