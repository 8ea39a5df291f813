// Passes as the workers see them: what is ready, whose tile is next, what a tile leads to.
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "backends/cpu/cpu_device.h"
#include "base/clock.h"

static uint64_t sequence_of(uint64_t word) {
    return word >> CPU_INDEX_BITS;
}

static uint32_t index_of(uint64_t word) {
    return (uint32_t)(word & CPU_INDEX_MASK);
}

// Appends to the ready list, of which `taken` entries or more are in use, and returns how many are
// after it. The list never has a gap: a worker that stands at one would sleep before the entries
// behind it, and nobody would wake it for those.
static uint32_t push_ready(cpu_work* work, uint32_t taken, uint32_t dispatch, uint64_t sequence) {
    const uint64_t entry = sequence << CPU_INDEX_BITS | dispatch;
    uint64_t seen = atomic_load(&work->ready[taken]);
    while (sequence_of(seen) == sequence ||
           !atomic_compare_exchange_weak(&work->ready[taken], &seen, entry)) {
        if (sequence_of(seen) == sequence) {
            seen = atomic_load(&work->ready[++taken]);
        }
    }
    return taken + 1;
}

// The pass can be complete, and the work gone, as soon as its last root is pushed: the work is not
// touched after.
static uint64_t push_roots(cpu_work* work, uint64_t sequence) {
    uint64_t tiles = 0;
    uint32_t taken = 0;
    uint32_t roots = work->root_count;
    for (uint32_t i = 0; roots > 0; i++) {
        if (work->dispatches[i].predecessor_count == 0) {
            roots--;
            tiles += atomic_load_explicit(&work->slots[i].tile_count, memory_order_relaxed);
            taken = push_ready(work, taken, i, sequence);
        }
    }
    return tiles;
}

void cpu_executor_open(cpu_device* device, cpu_work* work, bool attended) {
    const uint64_t sequence = atomic_load(&work->sequence);
    const uint32_t entry = sequence % PASSES_IN_FLIGHT;
    const uint64_t bit = UINT64_C(1) << entry;
    atomic_store(&device->executing[entry], work);
    atomic_fetch_and(&device->attended, ~bit); // left over from the pass before in this entry
    atomic_fetch_or(&device->attended, attended ? bit : 0);
    atomic_fetch_or(&device->active, bit);
    const uint64_t tiles = cpu_is_alone(device) ? 1 : push_roots(work, sequence);
    cpu_workers_wake(device, attended ? tiles - 1 : tiles, !attended);
}

// Nobody finds the pass any more, and this worker does not touch it after.
static void close_pass(cpu_worker* worker, cpu_work* work, uint64_t sequence) {
    cpu_device* device = worker->device;
    const uint32_t entry = sequence % PASSES_IN_FLIGHT;
    atomic_fetch_and(&device->active, ~(UINT64_C(1) << entry));
    atomic_store(&device->executing[entry], NULL);
    atomic_store(&worker->reading, NULL); // it is not released before the completion is told
    cpu_queue_complete(device, work);
}

// Returns whether the pass is over.
static bool complete_dispatch(cpu_worker* worker, cpu_work* work, uint32_t dispatch,
                              uint64_t sequence) {
    uint64_t tiles = 0;
    uint32_t taken = worker->places[sequence % PASSES_IN_FLIGHT].position; // past this dispatch
    const uint32_t end = work->successor_begins[dispatch + 1];
    for (uint32_t e = work->successor_begins[dispatch]; e < end; e++) {
        const uint32_t successor = work->successors[e];
        if (atomic_fetch_sub(&work->slots[successor].pending, 1) == 1) {
            tiles += atomic_load_explicit(&work->slots[successor].tile_count, memory_order_relaxed);
            taken = push_ready(work, taken, successor, sequence);
        }
    }
    if (tiles > 1) { // this worker takes one itself
        cpu_workers_wake(worker->device, tiles - 1, true);
    }
    if (atomic_fetch_sub(&work->remaining, 1) != 1) {
        return false;
    }
    close_pass(worker, work, sequence);
    return true;
}

// Keeps the first failure of a pass; the tiles that are left are claimed and skipped. The text is
// taken away from the worker, so that a later kernel that leaves none is not given this one.
static void fail_pass(cpu_work* work, const device_dispatch* dispatch, weir_status status) {
    char message[sizeof work->message];
    const char* text = weir_last_error();
    snprintf(message, sizeof message, "%.100s: %.400s", dispatch->name,
             text[0] != '\0' ? text : weir_status_text(status));
    weir_status_fail(status, NULL, 0, "%s", "");
    int expected = WEIR_OK;
    if (atomic_compare_exchange_strong(&work->status, &expected, (int)status)) {
        memcpy(work->message, message, sizeof message);
    }
}

static weir_kernel_call call_of(cpu_worker* worker, const cpu_work* work, uint32_t index,
                                uint32_t tile_count) {
    const device_dispatch* dispatch = &work->dispatches[index];
    return (weir_kernel_call){.views = dispatch->views,
                              .pointers = dispatch->pointers,
                              .operand_count = dispatch->operand_count,
                              .tile_count = tile_count,
                              .constants = dispatch->constants,
                              .params = work->params,
                              .local = &worker->local};
}

static void run_tile(cpu_worker* worker, cpu_work* work, uint32_t index,
                     const weir_kernel_call* call) {
    const device_dispatch* dispatch = &work->dispatches[index];
    const weir_device* device = &worker->device->base;
    if (atomic_load_explicit(&work->status, memory_order_relaxed) != WEIR_OK) {
        return;
    }
    if (device->hook) {
        device->hook(device->hook_context, worker->number, dispatch->name, index, call->tile, true);
    }
    weir_status status = cpu_check_start(worker, work, index);
    if (status == WEIR_OK) {
        status = dispatch->run(call);
    }
    cpu_check_end(worker);
    if (device->hook) {
        device->hook(device->hook_context, worker->number, dispatch->name, index, call->tile,
                     false);
    }
    if (status != WEIR_OK) {
        fail_pass(work, dispatch, status);
    }
}

// After the last tile: the call of a kernel that joins what they left.
static void run_join(cpu_worker* worker, cpu_work* work, uint32_t index, weir_kernel_call* call) {
    const weir_kernel* kernel = work->dispatches[index].kernel;
    if (kernel && kernel->joins) {
        call->tile = call->tile_count;
        run_tile(worker, work, index, call);
    }
}

typedef struct share {
    uint32_t begin;
    uint32_t count;
} share;

// One of `shares` shares of `count` neighbours; the first are one larger where there is a rest.
static share share_of(uint32_t count, uint32_t shares, uint32_t index) {
    const uint32_t each = count / shares;
    const uint32_t rest = count % shares;
    return (share){index * each + (index < rest ? index : rest), each + (index < rest ? 1 : 0)};
}

// The tile of a claim in a lane. Several workers of a lane that take turns each get neighbours.
static uint32_t tile_of(uint32_t claim, share lane, uint32_t workers) {
    return lane.begin + share_of(lane.count, workers, claim % workers).begin + claim / workers;
}

// Claims and runs tiles of one lane of a dispatch until none is left; returns whether the pass is
// over, and the work perhaps gone.
static bool run_lane(cpu_worker* worker, cpu_work* work, uint32_t index, uint64_t sequence,
                     uint32_t lane) {
    const uint32_t lanes = cpu_lane_count(worker->device);
    const uint32_t workers = share_of(worker->device->base.thread_count, lanes, lane).count;
    cpu_slot* slot = &work->slots[index];
    uint64_t cursor = atomic_load_explicit(&slot->cursors[lane], memory_order_acquire);
    while (sequence_of(cursor) == sequence) {
        const uint32_t claim = index_of(cursor);
        const uint32_t tile_count = atomic_load_explicit(&slot->tile_count, memory_order_acquire);
        const share tiles = share_of(tile_count, lanes, lane);
        if (claim >= tiles.count) {
            return false;
        }
        if (!atomic_compare_exchange_weak(&slot->cursors[lane], &cursor, cursor + 1)) {
            continue;
        }
        if (work->timings && claim == 0 && !atomic_exchange(&slot->has_started, true)) {
            work->timings[index].begin_ns = clock_ns();
        }
        weir_kernel_call call = call_of(worker, work, index, tile_count);
        call.tile = tile_of(claim, tiles, workers);
        run_tile(worker, work, index, &call);
        if (atomic_fetch_add(&slot->tiles_done, 1) + 1 == tile_count) {
            run_join(worker, work, index, &call);
            if (work->timings) {
                work->timings[index].end_ns = clock_ns();
            }
            return complete_dispatch(worker, work, index, sequence);
        }
        cursor = atomic_load_explicit(&slot->cursors[lane], memory_order_acquire);
    }
    return false;
}

// Runs tiles of one dispatch until none is left, beginning with the worker's own lane; returns
// whether the pass is over, and the work perhaps gone.
static bool run_dispatch(cpu_worker* worker, cpu_work* work, uint32_t index, uint64_t sequence) {
    const uint32_t lanes = cpu_lane_count(worker->device);
    worker->local.filled = false; // what is there is of another dispatch
    for (uint32_t i = 0; i < lanes; i++) {
        if (run_lane(worker, work, index, sequence, (worker->number + i) % lanes)) {
            return true;
        }
    }
    return false;
}

// No predecessor breaks the order: all are smaller than their successors.
void cpu_executor_run(cpu_worker* worker, cpu_work* work) {
    for (uint32_t i = 0; i < work->count; i++) {
        weir_kernel_call call = call_of(worker, work, i, cpu_work_size(work, i));
        worker->local.filled = false;
        if (work->timings) {
            work->timings[i].begin_ns = clock_ns();
        }
        for (; call.tile < call.tile_count; call.tile++) {
            run_tile(worker, work, i, &call);
        }
        run_join(worker, work, i, &call);
        if (work->timings) {
            work->timings[i].end_ns = clock_ns();
        }
    }
    close_pass(worker, work, atomic_load(&work->sequence));
}

// Publishes that this worker reads the work of an entry, so that it is not released (hazard
// pointer, Michael 2004). NULL when there is none.
static cpu_work* hold(cpu_worker* worker, uint32_t entry) {
    _Atomic(cpu_work*)* executing = &worker->device->executing[entry];
    for (;;) {
        cpu_work* work = atomic_load(executing);
        atomic_store(&worker->reading, work);
        if (atomic_load(executing) == work) {
            return work;
        }
    }
}

void cpu_executor_release(cpu_worker* worker) {
    if (atomic_load_explicit(&worker->reading, memory_order_relaxed)) {
        atomic_store(&worker->reading, NULL);
    }
}

// Takes up the pass of `work` and returns the next entry of its ready list; 0 when there is nothing
// in it for this worker at the moment.
static uint64_t next_ready(cpu_worker* worker, cpu_work* work) {
    const uint64_t sequence = atomic_load(&work->sequence);
    const uint32_t place = sequence % PASSES_IN_FLIGHT;
    if (worker->places[place].sequence != sequence) {
        worker->places[place].sequence = sequence;
        worker->places[place].position = 0;
    }
    const uint32_t position = worker->places[place].position;
    const uint64_t found = position < work->count ? atomic_load(&work->ready[position]) : 0;
    return sequence_of(found) == sequence ? found : 0;
}

cpu_work* cpu_executor_find(cpu_worker* worker) {
    cpu_device* device = worker->device;
    const uint32_t oldest = atomic_load(&device->base.oldest) % PASSES_IN_FLIGHT;
    const uint64_t active = atomic_load(&device->active);
    uint64_t left = active >> oldest | active << (PASSES_IN_FLIGHT - oldest) % PASSES_IN_FLIGHT;
    for (; left != 0; left &= left - 1) {
        const uint32_t entry = ((uint32_t)__builtin_ctzll(left) + oldest) % PASSES_IN_FLIGHT;
        cpu_work* work = hold(worker, entry);
        if (work && (cpu_is_alone(device) || next_ready(worker, work) != 0)) {
            return work;
        }
    }
    cpu_executor_release(worker);
    return NULL;
}

// An older pass might have got work where there are several.
void cpu_executor_walk(cpu_worker* worker, cpu_work* work, uint64_t until) {
    uint64_t ready = next_ready(worker, work);
    while (ready != 0 && !weir_device_has_done(&worker->device->base, until)) {
        const uint64_t sequence = sequence_of(ready);
        const uint32_t entry = sequence % PASSES_IN_FLIGHT;
        worker->places[entry].position++;
        if (run_dispatch(worker, work, index_of(ready), sequence) ||
            atomic_load(&worker->device->active) != UINT64_C(1) << entry) {
            return;
        }
        ready = next_ready(worker, work);
    }
}

void cpu_executor_forget(cpu_device* device, cpu_work* work) {
    for (uint32_t i = 0; device->workers && i < cpu_seat_count(device); i++) {
        while (atomic_load(&device->workers[i].reading) == work) {
            sched_yield();
        }
    }
}
