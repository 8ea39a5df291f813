#include <fenv.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "backends/cpu/cpu_device.h"
#include "base/bus_fault.h"
#include "base/clock.h"
#include "base/futex.h"

// Some ten microseconds: longer than a hand-over between running threads, far shorter than a time
// slice of a machine that is busy with something else.
#define SPINS_BEFORE_SLEEP 400

static uint64_t sequence_of(uint64_t word) {
    return word >> CPU_INDEX_BITS;
}

static uint32_t index_of(uint64_t word) {
    return (uint32_t)(word & CPU_INDEX_MASK);
}

// A sleeper first adds itself to `sleepers` and then looks at its condition; who makes a condition
// true first does so and then looks at `sleepers`. All four are sequentially consistent, so one of
// the two sees the other.
static void wake(cpu_device* device, uint64_t count) {
    if (count > 0 && atomic_load(&device->sleepers) > 0) {
        atomic_fetch_add(&device->wake_epoch, 1);
        futex_wake(&device->wake_epoch, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX);
    }
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
    if (cpu_is_alone(device)) { // the bit may be left over from the pass before in this entry
        atomic_fetch_and(&device->attended, ~bit);
        atomic_fetch_or(&device->attended, attended ? bit : 0);
    }
    atomic_fetch_or(&device->active, bit);
    if (!cpu_is_alone(device)) {
        wake(device, push_roots(work, sequence));
    } else if (!attended) {
        wake(device, 1);
    }
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
        wake(worker->device, tiles - 1);
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

// Claims and runs tiles of one dispatch until none is left; returns whether the pass is over, and
// the work perhaps gone.
static bool run_dispatch(cpu_worker* worker, cpu_work* work, uint32_t index, uint64_t sequence) {
    cpu_slot* slot = &work->slots[index];
    uint64_t cursor = atomic_load_explicit(&slot->cursor, memory_order_acquire);
    worker->local.filled = false; // what is there is of another dispatch
    while (sequence_of(cursor) == sequence) {
        const uint32_t tile = index_of(cursor);
        const uint32_t tile_count = atomic_load_explicit(&slot->tile_count, memory_order_acquire);
        if (tile >= tile_count) {
            return false;
        }
        if (!atomic_compare_exchange_weak(&slot->cursor, &cursor, cursor + 1)) {
            continue;
        }
        if (tile == 0 && work->timings) {
            work->timings[index].begin_ns = clock_ns();
        }
        weir_kernel_call call = call_of(worker, work, index, tile_count);
        call.tile = tile;
        run_tile(worker, work, index, &call);
        if (atomic_fetch_add(&slot->tiles_done, 1) + 1 == tile_count) {
            if (work->timings) {
                work->timings[index].end_ns = clock_ns();
            }
            return complete_dispatch(worker, work, index, sequence);
        }
        cursor = atomic_load_explicit(&slot->cursor, memory_order_acquire);
    }
    return false;
}

// The dispatches in their order, which no predecessor breaks: all smaller than their successors.
static void run_alone(cpu_worker* worker, cpu_work* work) {
    for (uint32_t i = 0; i < work->count; i++) {
        weir_kernel_call call = call_of(worker, work, i, cpu_work_size(work, i));
        worker->local.filled = false;
        if (work->timings) {
            work->timings[i].begin_ns = clock_ns();
        }
        for (; call.tile < call.tile_count; call.tile++) {
            run_tile(worker, work, i, &call);
        }
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

static void release(cpu_worker* worker) {
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

// Finds and holds work with something to do, the oldest first; NULL when there is none. A single
// worker finds every pass that was started and is not complete.
static cpu_work* find_work(cpu_worker* worker) {
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
    release(worker);
    return NULL;
}

// Runs what is ready in a pass, while it is the only one: an older one might have got work.
static void walk_ready_list(cpu_worker* worker, cpu_work* work) {
    uint64_t ready = next_ready(worker, work);
    while (ready != 0) {
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

static cpu_work* spin_until_ready(cpu_worker* worker) {
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        cpu_work* work = find_work(worker);
        if (work) {
            return work;
        }
        cpu_relax();
    }
    return NULL;
}

// The seat of a single worker: who has it runs passes, the worker or a host thread that waits. It
// is taken before work is looked for, since looking takes the place of the worker as well.
static bool take_seat(cpu_device* device) {
    return !atomic_exchange(&device->seat_taken, true);
}

// Work may have come for somebody who found the seat taken and went to sleep. As for `wake`, the
// seat is free before the look at what is active, and the others do it the other way round.
static void leave_seat(cpu_device* device) {
    release(&device->workers[0]);
    atomic_store(&device->seat_taken, false);
    wake(device, atomic_load(&device->active) != 0 ? 1 : 0);
}

// Whether there is something for the worker, and not for a thread that is about to come.
static bool has_unattended(cpu_device* device) {
    return (atomic_load(&device->active) & ~atomic_load(&device->attended)) != 0;
}

static bool work_alone(cpu_worker* worker) {
    cpu_device* device = worker->device;
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        if (has_unattended(device) && take_seat(device)) {
            for (cpu_work* work = find_work(worker); work; work = find_work(worker)) {
                run_alone(worker, work);
            }
            leave_seat(device);
            return true;
        }
        cpu_relax();
    }
    return false;
}

// In the arithmetic of the workers, whatever rounding the host thread has chosen.
static void run_in_seat(cpu_device* device, uint64_t sequence) {
    cpu_worker* worker = &device->workers[0];
    cpu_work* work = NULL;
    fenv_t own;
    fegetenv(&own);
    fesetenv(&device->environment);
    while (!weir_device_has_done(&device->base, sequence) && (work = find_work(worker)) != NULL) {
        run_alone(worker, work);
    }
    fesetenv(&own);
}

// Workers are sure to have the signal of lost pages unblocked, host threads are not.
void cpu_executor_assist(weir_device* base, uint64_t sequence) {
    cpu_device* device = (cpu_device*)base;
    if (!bus_fault_is_handled() && take_seat(device)) {
        run_in_seat(device, sequence);
        leave_seat(device);
    }
    // Where the pass is not complete by now, it is left to whoever has the seat, or to the worker.
    atomic_fetch_and(&device->attended, ~(UINT64_C(1) << sequence % PASSES_IN_FLIGHT));
    if (!weir_device_has_done(base, sequence)) {
        wake(device, 1);
    }
}

static bool work_together(cpu_worker* worker) {
    cpu_work* work = spin_until_ready(worker);
    if (work) {
        walk_ready_list(worker, work);
    }
    return work != NULL;
}

// Whether a worker that wants to sleep has something to do after all.
static bool is_needed(cpu_worker* worker) {
    cpu_device* device = worker->device;
    if (cpu_is_alone(device)) {
        return has_unattended(device) && !atomic_load(&device->seat_taken);
    }
    const bool found = find_work(worker) != NULL;
    release(worker);
    return found;
}

static void sleep_until_woken(cpu_worker* worker) {
    cpu_device* device = worker->device;
    const unsigned epoch = atomic_load(&device->wake_epoch);
    atomic_fetch_add(&device->sleepers, 1);
    if (!is_needed(worker) && !atomic_load(&device->stopping)) {
        futex_wait(&device->wake_epoch, epoch, FUTEX_FOREVER);
    }
    atomic_fetch_sub(&device->sleepers, 1);
}

static void* work_until_stopped(void* argument) {
    cpu_worker* worker = argument;
    cpu_device* device = worker->device;
    bus_fault_unblock();
    while (!atomic_load(&device->stopping)) {
        const bool worked = cpu_is_alone(device) ? work_alone(worker) : work_together(worker);
        if (!worked) {
            sleep_until_woken(worker);
        }
    }
    return NULL;
}

void cpu_executor_forget(cpu_device* device, cpu_work* work) {
    for (uint32_t i = 0; i < device->worker_count; i++) {
        while (atomic_load(&device->workers[i].reading) == work) {
            sched_yield();
        }
    }
}

weir_status cpu_executor_start(cpu_device* device, uint32_t worker_count) {
    void* memory = NULL;
    WEIR_TRY(
        weir_alloc(&device->base.allocator, worker_count * sizeof(cpu_worker), CPU_LINE, &memory));
    device->workers = memory;
    device->base.thread_count = worker_count;
    WEIR_TRY(weir_alloc(&device->base.allocator, (size_t)worker_count * CPU_LOCAL_BYTES, CPU_LINE,
                        &memory));
    device->locals = memory;
    device->base.assist = worker_count == 1 ? cpu_executor_assist : NULL;
    fegetenv(&device->environment);
    for (uint32_t i = 0; i < worker_count; i++) {
        cpu_worker* worker = &device->workers[i];
        *worker = (cpu_worker){.device = device,
                               .number = i,
                               .local.memory = device->locals + (size_t)i * CPU_LOCAL_BYTES,
                               .local.byte_size = CPU_LOCAL_BYTES};
        const int error = pthread_create(&worker->thread, NULL, work_until_stopped, worker);
        if (error != 0) {
            return WEIR_FAIL(WEIR_IO, "cannot start worker %u of %u: %s", i, worker_count,
                             strerror(error));
        }
        device->worker_count++;
    }
    return WEIR_OK;
}

void cpu_executor_stop(cpu_device* device) {
    atomic_store(&device->stopping, true);
    atomic_fetch_add(&device->wake_epoch, 1);
    futex_wake(&device->wake_epoch, UINT32_MAX);
    for (uint32_t i = 0; i < device->worker_count; i++) {
        pthread_join(device->workers[i].thread, NULL);
    }
    weir_free(&device->base.allocator, device->locals,
              (size_t)device->base.thread_count * CPU_LOCAL_BYTES, CPU_LINE);
    weir_free(&device->base.allocator, device->workers,
              device->base.thread_count * sizeof(cpu_worker), CPU_LINE);
    device->worker_count = 0;
}
