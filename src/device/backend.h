// What a back end implements, and what the front end keeps for it.
//
// The front end checks arguments, tracks hazards, retains storages, counts tickets, and then makes
// one indirect call; back ends trust what they are given. Three vtables, every entry required:
//   device   memory of the device, and work prepared for it
//   storage  one piece of memory
//   work     dispatches with their predecessors, prepared once, submitted any number of times
// Each structure of a back end begins with the base given here.
#ifndef WEIR_DEVICE_BACKEND_H
#define WEIR_DEVICE_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <weir/session.h>
#include <weir/target.h>

#include "base/array.h"

// Memory that the host can address has one id for all of it, and its addresses are the offsets:
// wraps that overlap, and storages inside wraps, are then the same bytes by construction.
#define HOST_MEMORY_ID 1

#define FAILURES_KEPT 64
#define PASSES_IN_FLIGHT 64

typedef struct device_vtable device_vtable;
typedef struct storage_vtable storage_vtable;
typedef struct work_vtable work_vtable;

struct weir_storage {
    const storage_vtable* vtable;
    weir_device* device;
    atomic_uint references;
    atomic_bool sealed;
    uint64_t byte_size;
    uint64_t memory_id; // identity of the memory, and where in it the storage begins
    uint64_t memory_offset;
    uint64_t native;        // handle of the memory in the interface of the device; 0: `host`
    _Atomic(void*) host;    // first byte where host code (kernels, too) addresses it, else NULL
    bool lazy;              // takes its memory at the first touch
    bool device_only;       // `host` is for kernels alone
    atomic_bool huge_pages; // asked for and granted
    char name[32];          // for messages; cut to fit
};

struct storage_vtable {
    // Allocates the memory of a lazy storage, once, by however many threads it is called.
    weir_status (*touch)(weir_storage* storage);

    // As weir_storage_advise, for a range that lies in the storage.
    weir_status (*advise)(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_advice advice);

    // Releases memory and object; no work in flight names it.
    void (*destroy)(weir_storage* storage);
};

// One dispatch, resolved to memory. All pointers hold as long as the work.
typedef struct device_dispatch {
    const char* name;
    weir_kernel_fn run;
    const weir_kernel* kernel; // cuts the tiles for the dims of a pass; NULL: tile_count holds
    uint32_t tile_count;
    const void* constants;
    weir_view* views;            // operands; dims[0] is set at the start of each pass where
    const weir_param* rows;      // rows[i] names a parameter (NULL: none does)
    void** pointers;             // host address of each operand
    const weir_access* accesses; // what each operand may touch under any parameters
    uint32_t operand_count;
    const uint32_t* predecessors; // all smaller than the dispatch's own number
    uint32_t predecessor_count;
} device_dispatch;

typedef struct device_work {
    const work_vtable* vtable;
} device_work;

struct work_vtable {
    // Starts one pass as number `sequence` of the device, after all passes before it. The same work
    // is not in flight. `params` hold until completion, which the back end tells by
    // weir_device_complete.
    weir_status (*submit)(device_work* work, const uint64_t* params, uint64_t sequence);

    // Releases work that is not in flight.
    void (*destroy)(device_work* work);
};

struct device_vtable {
    void (*destroy)(weir_device* device);
    weir_status (*allocate)(weir_device* device, const weir_storage_desc* desc,
                            weir_storage** storage);
    weir_status (*map)(weir_device* device, const weir_storage_map_desc* desc,
                       weir_storage** storage);
    weir_status (*wrap)(weir_device* device, const weir_storage_wrap_desc* desc,
                        weir_storage** storage);

    // Prepares dispatches, which hold as long as the work.
    weir_status (*prepare)(weir_device* device, const device_dispatch* dispatches, uint32_t count,
                           device_work** work);
};

typedef struct device_failure {
    uint64_t sequence;
    weir_status status;
    char message[512];
} device_failure;

// What one commit of a session keeps until it is complete.
typedef struct device_pass device_pass;

struct weir_device {
    const device_vtable* vtable;
    weir_allocator allocator;
    weir_log log;
    weir_target target;
    uint32_t thread_count;
    weir_tile_hook_fn hook;
    void* hook_context;

    atomic_uint_least64_t memory_ids; // the last one given to memory of its own identity
    atomic_uint_least64_t submitted;  // sequence of the last commit
    atomic_uint_least64_t completed;  // all up to this one are complete
    atomic_uint completion_epoch;     // changes with every completion; waiters sleep on it
    atomic_uint waiters;
    atomic_uint failure_count;

    pthread_mutex_t submit_lock; // orders commits
    pthread_mutex_t lock;        // guards what follows
    device_failure failures[FAILURES_KEPT];
    device_pass* passes; // in flight or not yet reaped
};

// Fills the base of a device; undone by weir_device_finish.
WEIR_MUST_USE weir_status weir_device_init(weir_device* device, const device_vtable* vtable,
                                           const weir_device_desc* desc, const weir_target* target);
void weir_device_finish(weir_device* device);

// Gives the next sequence number to `work` and submits it; waits while too many passes are in
// flight.
WEIR_MUST_USE weir_status weir_device_submit(weir_device* device, device_work* work,
                                             const uint64_t* params, weir_ticket* ticket);

// Called by the back end, in the order of the sequence numbers. `message` may be NULL for WEIR_OK.
void weir_device_complete(weir_device* device, uint64_t sequence, weir_status status,
                          const char* message);

// Releases what completed passes of sessions kept.
void weir_device_reap(weir_device* device);

// Checks a view that the caller filled in: the bytes lie in its storage, aligned for the dtype.
WEIR_MUST_USE weir_status weir_view_check_memory(const weir_view* view);

// Finds the address that kernels on the host use for the first element of a view, NULL where they
// have none; a lazy storage is touched.
WEIR_MUST_USE weir_status weir_view_resolve(const weir_view* view, void** pointer);

// Entries of a storage vtable for memory that is never lazy, and never a mapping.
WEIR_MUST_USE weir_status storage_touch_nothing(weir_storage* storage);
WEIR_MUST_USE weir_status storage_advise_nothing(weir_storage* storage, uint64_t byte_offset,
                                                 uint64_t byte_size, weir_advice advice);

// Returns a memory id that the device has never given before.
uint64_t weir_device_new_memory_id(weir_device* device);

// Fills the base of a storage; `name` may be NULL.
void weir_storage_init(weir_storage* storage, const storage_vtable* vtable, weir_device* device,
                       const char* name);

// The devices that registry.c knows.
WEIR_MUST_USE weir_status weir_cpu_device_create(const weir_device_desc* desc,
                                                 const weir_target* target, weir_device** device);
WEIR_MUST_USE weir_status weir_null_device_create(const weir_device_desc* desc,
                                                  const weir_target* target, weir_device** device);

// Adds the devices of a kind to a list that has `*count` already, of which `capacity` fit.
WEIR_MUST_USE weir_status weir_cpu_device_list(weir_device_info* infos, uint32_t capacity,
                                               uint32_t* count);
WEIR_MUST_USE weir_status weir_vulkan_device_list(weir_device_info* infos, uint32_t capacity,
                                                  uint32_t* count);

#endif
