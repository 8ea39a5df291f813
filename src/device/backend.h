// What a back end implements, and what the front end keeps for it.
//
// The front end checks arguments, tracks hazards, retains storages, counts tickets, and then makes
// one indirect call; back ends trust what they are given. Three vtables, every entry required:
//   device   memory of the device, and work prepared for it
//   storage  one piece of memory
//   work     dispatches with their predecessors, prepared once, submitted any number of times
// Each structure of a back end begins with the base given here.
//
// Passes are ordered by conflict. At a commit the front end compares the bytes that the pass
// touches with those of all passes in flight and names the ones that must be complete before it;
// the back end may run it beside all others. Passes are completed in any order, from any thread,
// each once:
//
//     weir_device_submit -> work->submit(work, pass) -> ... -> weir_device_complete(sequence)
//                                \-> fails: the number is given to the next pass
//     weir_device_lose: everything in flight is completed by the front end, nothing is submitted
#ifndef WEIR_DEVICE_BACKEND_H
#define WEIR_DEVICE_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <weir/residency.h>
#include <weir/session.h>
#include <weir/target.h>

#include "base/array.h"
#include "device/flight.h"
#include "device/identity.h"
#include "device/shadow.h"

// Memory that has an address when its storage is made has one id for all of it, and its addresses
// are the offsets: wraps that overlap, and storages inside wraps, are then the same bytes by
// construction. A device whose memory the host cannot address gives ids of its own
// (identity_new_id), and this one to host memory that it imports.
#define HOST_MEMORY_ID 1

#define FAILURES_KEPT 64

typedef struct device_vtable device_vtable;
typedef struct storage_vtable storage_vtable;
typedef struct work_vtable work_vtable;

typedef enum residency_state {
    RESIDENCY_NONE = 0, // no member
    RESIDENCY_STAGED,   // the next flush makes it resident
    RESIDENCY_RESIDENT,
    RESIDENCY_AWAY,    // evicted or refused; its next use stages it again
    RESIDENCY_COVERED, // its bytes are those of another member
    RESIDENCY_LEAVING, // the next flush lets it go
    RESIDENCY_STATES,
} residency_state;

// What the residency set keeps of a storage; guarded by the lock of the set.
typedef struct storage_residency {
    residency_state state;
    int priority;
    bool released;                 // leaving: nobody holds a reference
    uint64_t last_use;             // the commit of the set that named it last
    uint64_t refused;              // room of the set when it was refused
    const weir_session* session;   // staged: whose commit applies it; NULL: any
    weir_storage *next, *previous; // in the list of its state
    bool in_tree;                  // of addresses: the bytes [begin, end) of the host
    weir_storage *left, *right;
    uint64_t begin, end;
    uint64_t last_end; // of the subtree
} storage_residency;

struct weir_storage {
    const storage_vtable* vtable;
    weir_device* device;
    atomic_uint references;
    atomic_bool sealed;
    bool constant; // nobody can write there, by whatever handle: no pass waits for its readers
    uint64_t byte_size;
    uint64_t memory_id; // identity of the memory, and where in it the storage begins
    uint64_t memory_offset;
    _Atomic(void*) host;    // first byte where host code (kernels, too) addresses it, else NULL
    bool lazy;              // takes its memory, or its copy of a file, at the first touch
    atomic_bool touched;    // a lazy one that has its memory
    bool device_only;       // `host` is for kernels alone
    atomic_bool is_copied;  // the device reads a copy of the file that is mapped
    bool is_foreign;        // mapped or wrapped: not the device's own
    bool in_budget;         // once it has memory: counts as the device's (weir_device_memory)
    atomic_bool huge_pages; // asked for and granted
    char name[32];          // for messages; cut to fit

    // Of a state: of every slot_stride bytes the first slot_bytes may be touched. 0: any other
    // storage, all of which may.
    uint64_t slot_stride;
    atomic_uint_least64_t slot_bytes;

    bool joined;                       // in the list of the device
    weir_storage *next, *previous;     // in it
    atomic_uint_least64_t plain_epoch; // of identity: when it was seen that there is one name only
    storage_residency residency;
};

struct storage_vtable {
    // Takes the memory of a lazy storage, once, by however many threads it is called.
    weir_status (*touch)(weir_storage* storage);

    // As weir_storage_advise, for a range that lies in the storage.
    weir_status (*advise)(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_advice advice);

    // As weir_view_native, for bytes of a storage that has been touched.
    weir_status (*native)(const weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_native* native);

    // As weir_storage_check.
    weir_status (*check)(const weir_storage* storage);

    // Releases memory and object; no work in flight names it.
    void (*destroy)(weir_storage* storage);
};

// What a dispatch does. `run` is always there and does it on memory that the host can reach; other
// devices use commands and kernels of their own for all but DEVICE_KERNEL. Operands have any
// strides; where one is written no two of its elements share a byte.
typedef enum device_dispatch_kind {
    DEVICE_KERNEL = 0, // code of the caller, or of the target
    DEVICE_COPY,       // operand 0 to operand 1, of the same dtype and dims
    DEVICE_FILL,       // one value to every element of operand 0; dispatch_fill
    DEVICE_UPLOAD,     // dense host bytes to operand 0; dispatch_transfer
    DEVICE_DOWNLOAD,   // operand 0 to dense host bytes; dispatch_transfer
    DEVICE_NARROW,     // operand 0, f32, to operand 1, f16, both contiguous; dispatch_narrow
} device_dispatch_kind;

// The constants of a fill: bytes that are repeated from the first of each element on.
typedef struct dispatch_fill {
    uint8_t bytes[8];
    uint32_t byte_count; // 1, 2, 4 or 8; divides the bytes of an element (of a block)
} dispatch_fill;

// The constants of an upload or download: where in host memory, which holds until completion.
typedef struct dispatch_transfer {
    uint8_t* host;
    uint64_t byte_length; // = that of operand 0
} dispatch_transfer;

// The constants of a conversion to 16-bit floats (weir/shadow.h): finite values beyond the largest
// half become that one and are counted.
typedef struct dispatch_narrow {
    atomic_uint_least64_t* saturated; // holds until completion
} dispatch_narrow;

// One dispatch, resolved to memory. All pointers hold as long as the work.
typedef struct device_dispatch {
    const char* name;
    device_dispatch_kind kind;
    bool fence; // touches more than it declares; its predecessors and successors say so
    weir_kernel_fn run;
    const weir_kernel_code* code; // of the caller; NULL: none
    const weir_kernel* kernel;    // cuts the tiles for the dims of a pass; NULL: tile_count holds
    uint32_t tile_count;
    const void* constants;
    size_t constants_size;
    weir_view* views;       // operands; dims[0] is set at the start of each pass where
    const weir_param* rows; // rows[i] names a parameter (NULL: none does)
    void** pointers;        // host address of each operand
    uint32_t operand_count;
    const weir_access* accesses; // every byte that may be touched, under any parameters
    uint32_t access_count;
    uint32_t group;               // where boundaries wait: those before it; else the level
    const uint32_t* predecessors; // all smaller than the dispatch's own number
    uint32_t predecessor_count;
} device_dispatch;

typedef struct device_work {
    const work_vtable* vtable;
} device_work;

// One pass of a work, on its way to the device.
typedef struct device_pass_desc {
    uint64_t sequence;
    const uint64_t* params; // hold until completion
    const uint64_t* after;  // the passes that must be complete before this one starts, rising; some
    uint32_t after_count;   // may be complete by now. Holds for the call only
    weir_timing* timings;   // to be filled, one per dispatch; NULL: nobody asks
    bool attended;          // the thread of this call waits for the pass next: see `assist`
} device_pass_desc;

struct work_vtable {
    // Starts one pass as soon as those before it are complete; calls come one after another, in the
    // order of the sequences. The same work is not in flight. The back end tells the completion by
    // weir_device_complete, which may come before this returns. WEIR_DEVICE_LOST poisons the
    // device.
    weir_status (*submit)(device_work* work, const device_pass_desc* pass);

    // Takes over views, pointers and accesses of its dispatches, which have changed; all else is as
    // it was prepared. The work is not in flight. On failure it is not submitted until a later call
    // succeeds.
    weir_status (*rebind)(device_work* work);

    // Releases work that is not in flight, or whose device is lost.
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

    // Reserves addresses whose bytes are committed by parts of whole pages; a device without pages
    // takes weir_reserve_whole and the two functions below it.
    weir_status (*reserve)(weir_device* device, uint64_t byte_size, const char* name,
                           weir_storage** storage);
    weir_status (*commit)(weir_storage* storage, uint64_t begin, uint64_t end);
    void (*decommit)(weir_storage* storage, uint64_t begin, uint64_t end);

    // Tells how much memory there is, and how much of it this process may have.
    weir_device_memory (*memory)(weir_device* device);

    // Keeps a storage resident, again where its priority has changed, or lets it go: the whole
    // pages given, on devices that have pages (else NULL and all its bytes).
    weir_status (*hold)(const weir_storage* storage, weir_residency_mode mode, int priority);
    void (*let_go)(const weir_storage* storage, void* pages, uint64_t byte_size,
                   weir_residency_mode mode);

    // Prepares dispatches, which hold as long as the work.
    weir_status (*prepare)(weir_device* device, const device_dispatch* dispatches, uint32_t count,
                           device_work** work);
};

typedef struct device_failure {
    uint64_t sequence;
    weir_status status;
    char message[512];
} device_failure;

// The times of a pass that was committed with timing, kept until the entry is used again.
typedef struct device_timings {
    uint64_t sequence; // 0: none
    weir_timing* items;
    size_t count, capacity;
} device_timings;

// What one commit of a session keeps until it is complete.
typedef struct device_pass device_pass;

// Invariants:
//
//     done[s % PASSES_IN_FLIGHT] >= s    pass s is complete
//     oldest <= s                        for every s in flight; all passes before it are complete
struct weir_device {
    const device_vtable* vtable;
    weir_allocator allocator;
    weir_log log;
    weir_target target;
    uint32_t thread_count;
    bool budgets_kernels; // memory for kernels comes out of the budget of the device
    bool runs_code;       // kernels of the caller are code, not functions of the host
    uint64_t page_bytes;  // of commit and hold; 0: memory has no pages
    _Atomic(weir_residency*) residency;
    weir_tile_hook_fn hook;
    void* hook_context;

    // Called by a host thread that is about to wait for pass `sequence`, however long: it may run
    // work instead. NULL: nothing for it to do.
    void (*assist)(weir_device* device, uint64_t sequence);

    identity names; // of the bytes in its memories

    atomic_uint_least64_t submitted; // sequence of the last commit
    atomic_uint_least64_t done[PASSES_IN_FLIGHT];
    atomic_uint_least64_t oldest;
    atomic_uint completion_epoch; // changes with every completion; waiters sleep on it
    atomic_uint waiters;
    atomic_uint failure_count;
    atomic_bool lost;

    pthread_mutex_t submit_lock; // orders commits
    pthread_mutex_t lock;        // guards what follows
    flight flight;
    shadow_list shadows;
    device_timings timings[PASSES_IN_FLIGHT]; // the items are the back end's until completion
    device_failure failures[FAILURES_KEPT];
    char lost_message[512]; // the first cause; does not change once `lost` is set
    uint64_t lost_entries;  // of the passes that were completed by the loss
    device_pass* passes;    // of sessions, in flight or not yet reaped
    device_pass* spare_passes;
    uint32_t spare_pass_count;
};

// Fills the base of a device; undone by weir_device_finish.
WEIR_MUST_USE weir_status weir_device_init(weir_device* device, const device_vtable* vtable,
                                           const weir_device_desc* desc, const weir_target* target);
void weir_device_finish(weir_device* device);

// One commit: prepared work, and the bytes that it touches.
typedef struct device_commit {
    device_work* work;
    const uint64_t* params;
    weir_access* accesses; // of all dispatches together, without constant memory; held until
    uint32_t access_count; // completion, and perhaps reduced meanwhile (flight_reduce)
    bool fence;            // touches more than that: follows and precedes every other pass
    uint32_t timing_count; // dispatches of the work, to be timed; 0 = no times
    bool attended;         // this thread waits for the ticket next (weir_ticket_wait), without end
} device_commit;

// Gives the next sequence number to a commit and hands it over, to run after the passes in flight
// that it conflicts with; shadows that it reads are converted before, where they are dirty. Waits
// while PASSES_IN_FLIGHT passes are in flight.
//
// Errors:  WEIR_DEVICE_LOST with the first cause; WEIR_OUT_OF_MEMORY; what the back end says.
// Threads: thread-safe.
WEIR_MUST_USE weir_status weir_device_submit(weir_device* device, const device_commit* commit,
                                             weir_ticket* ticket);

// Tells whether a pass in flight conflicts with these accesses, given in any order; `youngest` (may
// be NULL) receives the last one of those.
//
// Threads: thread-safe.
bool weir_device_in_flight(weir_device* device, const weir_access* accesses, uint32_t count,
                           weir_ticket* youngest);

// Waits for the passes that are in flight now and conflict with these accesses. How they end is
// the affair of those who hold their tickets.
//
// Errors:  WEIR_DEVICE_LOST with the first cause.
// Threads: thread-safe.
WEIR_MUST_USE weir_status weir_device_wait_for(weir_device* device, const weir_access* accesses,
                                               uint32_t count);

// Waits until pass `sequence` is complete; false when it is not after `timeout_ns`.
//
// Threads: thread-safe.
bool weir_device_await(weir_device* device, uint64_t sequence, uint64_t timeout_ns);

// Waits until nothing is in flight, and lets go of what sessions left behind: their work must be
// gone before the back end closes its device.
//
// Threads: thread-safe.
void weir_device_drain(weir_device* device);

// Tell whether nothing is in flight, whether pass `sequence` is complete, and whether every pass up
// to it is.
//
// Threads: thread-safe.
bool weir_device_is_idle(const weir_device* device);
bool weir_device_has_done(const weir_device* device, uint64_t sequence);
bool weir_device_is_past(const weir_device* device, uint64_t sequence);

// Called by the back end, once for each pass, in any order. `message` may be NULL for WEIR_OK. Does
// nothing for a pass that is complete.
//
// Threads: thread-safe.
void weir_device_complete(weir_device* device, uint64_t sequence, weir_status status,
                          const char* message);

// Poisons the device: completes everything in flight with WEIR_DEVICE_LOST and `message`, and lets
// every later commit fail with the same. Only the first call counts.
//
// Threads: thread-safe.
void weir_device_lose(weir_device* device, const char* message);

// Fails with the first cause when the device is lost.
//
// Threads: thread-safe.
WEIR_MUST_USE weir_status weir_device_check_lost(weir_device* device);

// Releases what completed passes of sessions kept; and the memory that is kept for others.
void weir_device_reap(weir_device* device);
void weir_device_drop_spares(weir_device* device);

// Checks a view that the caller filled in: the bytes lie in its storage, aligned for the dtype.
WEIR_MUST_USE weir_status weir_view_check_memory(const weir_view* view);

// Finds the address that kernels on the host use for the first element of a view, NULL where they
// have none; a lazy storage is touched.
WEIR_MUST_USE weir_status weir_view_resolve(const weir_view* view, void** pointer);

// Fails when a mapping that dispatches read has lost bytes of its file. Asked by back ends at the
// end of each pass, whatever else came of it; says WEIR_OK unless the fault handler is installed.
WEIR_MUST_USE weir_status device_check_mappings(const device_dispatch* dispatches, uint32_t count);

// Entries of a storage vtable for memory that is never lazy, and never a mapping.
WEIR_MUST_USE weir_status storage_touch_nothing(weir_storage* storage);
WEIR_MUST_USE weir_status storage_advise_nothing(weir_storage* storage, uint64_t byte_offset,
                                                 uint64_t byte_size, weir_advice advice);
WEIR_MUST_USE weir_status storage_check_nothing(const weir_storage* storage);

// The entry of memory whose handle is its address.
WEIR_MUST_USE weir_status storage_native_host(const weir_storage* storage, uint64_t byte_offset,
                                              uint64_t byte_size, weir_native* native);

// Fills the base of a storage; `name` may be NULL.
void weir_storage_init(weir_storage* storage, const storage_vtable* vtable, weir_device* device,
                       const char* name);

// Fails when bytes [begin, end) of a storage are not all there: rows that a state has not grown to.
//
// Errors: WEIR_OUT_OF_RANGE.
WEIR_MUST_USE weir_status weir_state_check_bytes(const weir_storage* storage, uint64_t begin,
                                                 uint64_t end);

// Entries of a device vtable for devices without pages: memory is taken in full, and stays.
WEIR_MUST_USE weir_status weir_reserve_whole(weir_device* device, uint64_t byte_size,
                                             const char* name, weir_storage** storage);
WEIR_MUST_USE weir_status weir_commit_nothing(weir_storage* storage, uint64_t begin, uint64_t end);
void weir_decommit_nothing(weir_storage* storage, uint64_t begin, uint64_t end);

// The devices that registry.c knows.
WEIR_MUST_USE weir_status weir_cpu_device_create(const weir_device_desc* desc,
                                                 const weir_target* target, weir_device** device);
WEIR_MUST_USE weir_status weir_vulkan_device_create(const weir_device_desc* desc,
                                                    const weir_target* target,
                                                    weir_device** device);
WEIR_MUST_USE weir_status weir_null_device_create(const weir_device_desc* desc,
                                                  const weir_target* target, weir_device** device);

// Adds the devices of a kind to a list that has `*count` already, of which `capacity` fit.
WEIR_MUST_USE weir_status weir_cpu_device_list(weir_device_info* infos, uint32_t capacity,
                                               uint32_t* count);
WEIR_MUST_USE weir_status weir_vulkan_device_list(weir_device_info* infos, uint32_t capacity,
                                                  uint32_t* count);

#endif
