#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "backends/cpu/cpu_device.h"
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
static void start_pass(cpu_device* device, cpu_work* work, const uint64_t* params,
                       uint64_t sequence) {
    cpu_work_begin(work, params, sequence);
    atomic_store(&device->current, work);
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
    wake(device, tiles);
}

// Takes the next pass from the queue, if there is one and none is being executed.
static bool take_next(cpu_device* device, cpu_work** work, const uint64_t** params,
                      uint64_t* sequence) {
    pthread_mutex_lock(&device->queue_lock);
    const bool found = !device->executing && device->started < device->queued;
    if (found) {
        device->executing = true;
        *sequence = ++device->started;
        *work = device->queue[*sequence % PASSES_IN_FLIGHT].work;
        *params = device->queue[*sequence % PASSES_IN_FLIGHT].params;
    }
    pthread_mutex_unlock(&device->queue_lock);
    return found;
}

static void start_next(cpu_device* device) {
    cpu_work* work = NULL;
    const uint64_t* params = NULL;
    uint64_t sequence = 0;
    if (take_next(device, &work, &params, &sequence)) {
        start_pass(device, work, params, sequence);
    }
}

weir_status cpu_executor_submit(device_work* base, const uint64_t* params, uint64_t sequence) {
    cpu_work* work = (cpu_work*)base;
    cpu_device* device = work->device;
    pthread_mutex_lock(&device->queue_lock);
    device->queue[sequence % PASSES_IN_FLIGHT].work = work;
    device->queue[sequence % PASSES_IN_FLIGHT].params = params;
    device->queued = sequence;
    pthread_mutex_unlock(&device->queue_lock);
    start_next(device);
    return WEIR_OK;
}

// The work may be replayed or released as soon as the completion is known: it is not touched after.
static void complete_pass(cpu_device* device, cpu_work* work, uint64_t sequence) {
    const weir_status status = (weir_status)atomic_load(&work->status);
    weir_device_complete(&device->base, sequence, status, work->message);
    pthread_mutex_lock(&device->queue_lock);
    device->executing = false; // only now: completions are told in order
    pthread_mutex_unlock(&device->queue_lock);
    start_next(device);
}

static void complete_dispatch(cpu_worker* worker, cpu_work* work, uint32_t dispatch,
                              uint64_t sequence) {
    uint64_t tiles = 0;
    uint32_t taken = worker->position; // past the entry of this dispatch
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
    if (atomic_fetch_sub(&work->remaining, 1) == 1) {
        complete_pass(worker->device, work, sequence);
    }
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

static void run_tile(cpu_worker* worker, cpu_work* work, uint32_t index, uint32_t tile,
                     uint32_t tile_count) {
    const device_dispatch* dispatch = &work->dispatches[index];
    const weir_device* device = &worker->device->base;
    if (atomic_load_explicit(&work->status, memory_order_relaxed) != WEIR_OK) {
        return;
    }
    const weir_kernel_call call = {.views = dispatch->views,
                                   .pointers = dispatch->pointers,
                                   .operand_count = dispatch->operand_count,
                                   .tile = tile,
                                   .tile_count = tile_count,
                                   .constants = dispatch->constants,
                                   .params = work->params};
    if (device->hook) {
        device->hook(device->hook_context, worker->number, dispatch->name, index, tile, true);
    }
    weir_status status = cpu_check_start(worker, work, index);
    if (status == WEIR_OK) {
        status = dispatch->run(&call);
    }
    cpu_check_end(worker);
    if (device->hook) {
        device->hook(device->hook_context, worker->number, dispatch->name, index, tile, false);
    }
    if (status != WEIR_OK) {
        fail_pass(work, dispatch, status);
    }
}

// Claims and runs tiles of one dispatch until none is left or the pass is over.
static void run_dispatch(cpu_worker* worker, cpu_work* work, uint32_t index, uint64_t sequence) {
    cpu_slot* slot = &work->slots[index];
    uint64_t cursor = atomic_load_explicit(&slot->cursor, memory_order_acquire);
    while (sequence_of(cursor) == sequence) {
        const uint32_t tile = index_of(cursor);
        const uint32_t tile_count = atomic_load_explicit(&slot->tile_count, memory_order_acquire);
        if (tile >= tile_count) {
            return;
        }
        if (!atomic_compare_exchange_weak(&slot->cursor, &cursor, cursor + 1)) {
            continue;
        }
        run_tile(worker, work, index, tile, tile_count);
        if (atomic_fetch_add(&slot->tiles_done, 1) + 1 == tile_count) {
            complete_dispatch(worker, work, index, sequence);
            return; // the pass may be over, and the work gone
        }
        cursor = atomic_load_explicit(&slot->cursor, memory_order_acquire);
    }
}

// Publishes that this worker reads the current work, so that it is not released (hazard pointer,
// Michael 2004). NULL when there is none.
static cpu_work* hold_current(cpu_worker* worker) {
    cpu_device* device = worker->device;
    for (;;) {
        cpu_work* work = atomic_load(&device->current);
        atomic_store(&worker->reading, work);
        if (atomic_load(&device->current) == work) {
            return work;
        }
    }
}

// Takes up the pass of `work`; false when there is nothing in it for this worker at the moment.
static bool is_ready(cpu_worker* worker, cpu_work* work) {
    if (!work) {
        return false;
    }
    const uint64_t sequence = atomic_load(&work->sequence);
    if (worker->sequence != sequence) {
        worker->sequence = sequence;
        worker->position = 0;
    }
    return worker->position < work->count &&
           sequence_of(atomic_load(&work->ready[worker->position])) == sequence;
}

static void walk_ready_list(cpu_worker* worker, cpu_work* work) {
    while (is_ready(worker, work)) {
        const uint64_t entry = atomic_load(&work->ready[worker->position]);
        worker->position++;
        run_dispatch(worker, work, index_of(entry), sequence_of(entry));
    }
}

static bool spin_until_ready(cpu_worker* worker) {
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        if (is_ready(worker, hold_current(worker))) {
            return true;
        }
        cpu_relax();
    }
    return false;
}

static void sleep_until_woken(cpu_worker* worker) {
    cpu_device* device = worker->device;
    const unsigned epoch = atomic_load(&device->wake_epoch);
    atomic_fetch_add(&device->sleepers, 1);
    const bool ready = is_ready(worker, hold_current(worker)) || atomic_load(&device->stopping);
    atomic_store(&worker->reading, NULL);
    if (!ready) {
        futex_wait(&device->wake_epoch, epoch, FUTEX_FOREVER);
    }
    atomic_fetch_sub(&device->sleepers, 1);
}

static void* work_until_stopped(void* argument) {
    cpu_worker* worker = argument;
    while (!atomic_load(&worker->device->stopping)) {
        if (spin_until_ready(worker)) {
            walk_ready_list(worker, atomic_load(&worker->reading));
        } else {
            sleep_until_woken(worker);
        }
    }
    atomic_store(&worker->reading, NULL);
    return NULL;
}

void cpu_executor_forget(cpu_device* device, cpu_work* work) {
    cpu_work* expected = work;
    atomic_compare_exchange_strong(&device->current, &expected, NULL);
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
    for (uint32_t i = 0; i < worker_count; i++) {
        cpu_worker* worker = &device->workers[i];
        *worker = (cpu_worker){.device = device, .number = i};
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
    weir_free(&device->base.allocator, device->workers,
              device->base.thread_count * sizeof(cpu_worker), CPU_LINE);
    device->worker_count = 0;
}
