// The CPU device: workers that follow per-dispatch counters, with no barrier between dispatches.
//
// A pass works like this. Every dispatch has a count of predecessors that are not complete. At zero
// it is appended to the ready list of the pass. Each worker walks that list in order, claims tiles
// of the dispatch it stands at until none is left, and goes on; whoever completes the last tile of
// a dispatch lowers the counts of its successors. A worker that finds nothing ready spins shortly,
// then sleeps.
//
// Work is replayed without waiting for slow workers to leave the pass before: claims and list
// entries carry the number of the pass (its sequence), so that a late worker finds nothing that it
// could claim.
//
//     cursor of a dispatch   | sequence : 40 | next tile : 24 |    claimed by compare-and-swap
//     entry of the list      | sequence : 40 | dispatch  : 24 |
#ifndef WEIR_BACKENDS_CPU_DEVICE_H
#define WEIR_BACKENDS_CPU_DEVICE_H

#include "device/backend.h"

#define CPU_INDEX_BITS 24
#define CPU_INDEX_MASK ((UINT64_C(1) << CPU_INDEX_BITS) - 1)
#define CPU_LINE 64 // bytes of a cache line

typedef struct cpu_work cpu_work;
typedef struct cpu_device cpu_device;

typedef struct cpu_worker {
    // The work that this worker may be reading: it is not released meanwhile.
    _Alignas(CPU_LINE) _Atomic(cpu_work*) reading;
    cpu_device* device;
    uint32_t number;
    atomic_uint running; // dispatch whose tile runs, plus 1; kept with WEIR_EXPENSIVE_CHECKS
    uint64_t sequence;   // the pass that `position` belongs to
    uint32_t position;   // in its ready list
    pthread_t thread;
} cpu_worker;

struct cpu_device {
    weir_device base;
    cpu_worker* workers;
    uint32_t worker_count;

    _Alignas(CPU_LINE) _Atomic(cpu_work*) current; // the pass being executed, or the last one
    _Alignas(CPU_LINE) atomic_uint sleepers;
    atomic_uint wake_epoch; // sleepers wait for it to change
    atomic_bool stopping;

    pthread_mutex_t queue_lock; // guards what follows
    struct {
        cpu_work* work;
        const uint64_t* params;
    } queue[PASSES_IN_FLIGHT]; // by sequence
    uint64_t queued;           // last sequence in the queue
    uint64_t started;          // last sequence that was started
    bool executing;
};

// Counters of one dispatch, in a cache line of their own.
typedef struct cpu_slot {
    _Alignas(CPU_LINE) atomic_uint_least64_t cursor;
    atomic_uint tile_count;
    atomic_uint tiles_done;
    atomic_uint pending; // predecessors not complete
} cpu_slot;

struct cpu_work {
    device_work base;
    cpu_device* device;
    const device_dispatch* dispatches;
    uint32_t count;
    uint32_t root_count;        // dispatches without predecessors
    uint32_t* successor_begins; // count + 1
    uint32_t* successors;
    size_t edge_count;
    cpu_slot* slots;
    atomic_uint_least64_t* ready; // the ready list
    const uint64_t* params;
    atomic_uint_least64_t sequence; // of the pass
    atomic_uint remaining;          // dispatches not complete
    atomic_int status;              // of the first tile that failed
    char message[512];              // written by whoever set `status`
};

// cpu_work.c
WEIR_MUST_USE weir_status cpu_work_create(weir_device* device, const device_dispatch* dispatches,
                                          uint32_t count, device_work** work);

// Sets up the dims and counters of pass `sequence`.
void cpu_work_begin(cpu_work* work, const uint64_t* params, uint64_t sequence);

// cpu_check.c
// With WEIR_EXPENSIVE_CHECKS: fails when a tile of `dispatch` starts while another worker runs a
// tile of a dispatch that it conflicts with, which only a wrong schedule lets happen.
//
// Errors: WEIR_INTERNAL, the message names both dispatches and ranges.
WEIR_MUST_USE weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work,
                                          uint32_t dispatch);
void cpu_check_end(cpu_worker* worker);

// cpu_executor.c
WEIR_MUST_USE weir_status cpu_executor_start(cpu_device* device, uint32_t worker_count);
void cpu_executor_stop(cpu_device* device);
WEIR_MUST_USE weir_status cpu_executor_submit(device_work* work, const uint64_t* params,
                                              uint64_t sequence);

// Returns when no worker can be reading `work`, which is not in flight.
void cpu_executor_forget(cpu_device* device, cpu_work* work);

#endif
