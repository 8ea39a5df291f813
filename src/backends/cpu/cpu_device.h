// The CPU device: workers that follow per-dispatch counters, with no barrier between dispatches.
//
// Passes that do not conflict run side by side, each in an entry of its own (its number modulo
// PASSES_IN_FLIGHT); one that must come after others waits until they are complete. Workers look
// for tiles in the oldest pass first.
//
// A pass works like this. Every dispatch has a count of predecessors that are not complete. At zero
// it is appended to the ready list of the pass. Each worker walks that list in order, claims tiles
// of the dispatch it stands at until none is left, and goes on; whoever completes the last tile of
// a dispatch lowers the counts of its successors. A worker that finds nothing ready spins shortly,
// then sleeps. A host thread that waits for a pass takes the seat of worker 0, if that is free, and
// runs tiles itself instead of being woken by another thread. A single worker has nobody to share
// with: it, or who has its seat, runs the dispatches of a pass one after another and touches no
// counter.
//
// Work is replayed without waiting for slow workers to leave the pass before: claims and list
// entries carry the number of the pass (its sequence), so that a late worker finds nothing that it
// could claim.
//
//     cursor of a lane       | sequence : 40 | next tile : 24 |    claimed by compare-and-swap
//     entry of the list      | sequence : 40 | dispatch  : 24 |
//
// The tiles of a dispatch lie in lanes, neighbours in one. A worker takes those of its own lane
// first, one after another, so that what it reads goes on where it left off and prefetchers have
// brought it to the right cache; then those that are left in the others.
#ifndef WEIR_BACKENDS_CPU_DEVICE_H
#define WEIR_BACKENDS_CPU_DEVICE_H

#include <fenv.h>

#include "device/backend.h"

#define CPU_INDEX_BITS 24
#define CPU_INDEX_MASK ((UINT64_C(1) << CPU_INDEX_BITS) - 1)
#define CPU_LINE 64             // bytes of a cache line
#define CPU_LANES 4             // of a dispatch: at most; its counters fill a line
#define CPU_LOCAL_BYTES 2097152 // of each worker, for its tiles of a dispatch; taken when touched

typedef struct cpu_work cpu_work;
typedef struct cpu_device cpu_device;

typedef struct cpu_worker {
    // The work that this worker may be reading: it is not released meanwhile.
    _Alignas(CPU_LINE) _Atomic(cpu_work*) reading;
    cpu_device* device;
    uint32_t number;
    uint32_t spins; // before it sleeps
    weir_kernel_local local;
    struct {
        uint64_t sequence;
        uint32_t position; // in the ready list of that pass
    } places[PASSES_IN_FLIGHT];
    struct {
        const cpu_work* work; // NULL: none
        uint32_t dispatch;
    } running; // with WEIR_EXPENSIVE_CHECKS the tile that runs; guarded by check_lock
    pthread_t thread;
} cpu_worker;

// A pass from its submission to its completion.
typedef struct cpu_pass {
    cpu_work* work;
    uint64_t sequence; // 0: none
    const uint64_t* params;
    weir_timing* timings;
    uint64_t after; // bit i: starts after the pass of entry i
    bool attended;
} cpu_pass;

struct cpu_device {
    weir_device base;
    cpu_worker* workers;   // and the guest in the seat of worker 0
    uint32_t worker_count; // threads that were started
    uint8_t* locals;       // memory of the workers

    _Alignas(CPU_LINE) atomic_uint_least64_t active; // bit i: the pass of entry i runs
    _Atomic(cpu_work*) executing[PASSES_IN_FLIGHT];  // its work
    _Alignas(CPU_LINE) atomic_uint sleepers;         // without worker 0
    atomic_uint wake_epoch;                          // they wait for it to change
    atomic_uint seat_sleeps;                         // 1: the thread of worker 0
    atomic_uint seat_epoch;                          // it waits for it to change
    atomic_bool stopping;
    atomic_bool seat_taken; // of worker 0: it runs tiles, or somebody in its place
    atomic_uint_least64_t
        attended;       // bit i: that of entry i is left to the thread that waits for it
    fenv_t environment; // of floating-point arithmetic in the workers

    pthread_mutex_t check_lock;
    pthread_mutex_t queue_lock; // guards what follows
    cpu_pass passes[PASSES_IN_FLIGHT];
    uint64_t waiting; // bit i: the pass of entry i waits for others
};

// Counters of one dispatch, in a cache line of their own.
typedef struct cpu_slot {
    _Alignas(CPU_LINE) atomic_uint_least64_t cursors[CPU_LANES];
    atomic_uint tile_count;
    atomic_uint tiles_done;
    atomic_uint pending;     // predecessors not complete
    atomic_bool has_started; // set where timings are asked for
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
    uint32_t* fixed_tiles; // of dispatches with the same dims in every pass; 0 = others
    cpu_slot* slots;
    atomic_uint_least64_t* ready; // the ready list
    const uint64_t* params;
    weir_timing* timings;           // NULL: nobody asks
    atomic_uint_least64_t sequence; // of the pass
    atomic_uint remaining;          // dispatches not complete
    atomic_int status;              // of the first tile that failed
    char message[512];              // written by whoever set `status`
};

// A single worker shares nothing; known before the first worker starts.
static inline bool cpu_is_alone(const cpu_device* device) {
    return device->base.thread_count == 1;
}

// Lanes of a dispatch; that of a worker is its number modulo this.
static inline uint32_t cpu_lane_count(const cpu_device* device) {
    return device->base.thread_count < CPU_LANES ? device->base.thread_count : CPU_LANES;
}

// Workers, and the guest.
static inline uint32_t cpu_seat_count(const cpu_device* device) {
    return device->base.thread_count + 1;
}

// cpu_work.c
WEIR_MUST_USE weir_status cpu_work_create(weir_device* device, const device_dispatch* dispatches,
                                          uint32_t count, device_work** work);

// Sets up the counters of a pass, unless a single worker runs it.
void cpu_work_begin(cpu_work* work, const cpu_pass* pass);

// Sets the dims of the pass and returns the tiles that a dispatch is cut into.
uint32_t cpu_work_size(const cpu_work* work, uint32_t dispatch);

// cpu_check.c
#ifdef WEIR_EXPENSIVE_CHECKS
// Fails when a tile of `dispatch` starts while another worker runs a tile of a dispatch, of this
// pass or another, that it conflicts with. Only a wrong schedule, or a wrong order of passes, lets
// that happen.
//
// Errors: WEIR_INTERNAL, the message names both dispatches and ranges.
WEIR_MUST_USE weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work,
                                          uint32_t dispatch);
void cpu_check_end(cpu_worker* worker);
#else
static inline weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work,
                                          uint32_t dispatch) {
    (void)worker;
    (void)work;
    (void)dispatch;
    return WEIR_OK;
}

static inline void cpu_check_end(cpu_worker* worker) {
    (void)worker;
}
#endif

// cpu_queue.c
WEIR_MUST_USE weir_status cpu_queue_submit(device_work* work, const device_pass_desc* pass);

// Tells that the pass of a work is complete, and starts those that waited for it. The work may be
// replayed or gone when this returns.
void cpu_queue_complete(cpu_device* device, cpu_work* work);

// cpu_worker.c

// Starts workers; 0: as many as the processors are worth.
WEIR_MUST_USE weir_status cpu_workers_start(cpu_device* device, uint32_t wanted_count);
void cpu_workers_stop(cpu_device* device);

// Wakes up to `count` workers that sleep; worker 0 last, and only `with_seat`.
void cpu_workers_wake(cpu_device* device, uint64_t count, bool with_seat);

// Runs passes until `sequence` is complete, or others have the rest of it.
void cpu_worker_assist(weir_device* base, uint64_t sequence);

// cpu_executor.c: passes as the workers see them

// Lets the workers find a pass whose counters are set up; `attended`: somebody calls
// cpu_worker_assist right after, so worker 0 leaves it alone.
void cpu_executor_open(cpu_device* device, cpu_work* work, bool attended);

// Finds and holds work with something to do, the oldest first; NULL when there is none. A single
// worker finds every pass that was started and is not complete.
cpu_work* cpu_executor_find(cpu_worker* worker);

// Runs what is ready in work that was found, until there is no more, another pass has begun, or
// pass `until` is complete.
void cpu_executor_walk(cpu_worker* worker, cpu_work* work, uint64_t until);

// Runs the dispatches of a pass in their order, as a single worker.
void cpu_executor_run(cpu_worker* worker, cpu_work* work);

// Lets go of what was found.
void cpu_executor_release(cpu_worker* worker);

// Returns when no worker can be reading `work`, which is not in flight.
void cpu_executor_forget(cpu_device* device, cpu_work* work);

#endif
