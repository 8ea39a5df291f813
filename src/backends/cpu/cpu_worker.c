// Workers between passes: how they wait, who wakes them, and the host threads that sit in for one.
//
// A worker that finds nothing spins and then sleeps. How long it spins follows what it saw: after a
// short sleep it spins longer, which is quicker than being woken; after a long one it leaves the
// core to somebody else.
//
// Worker 0 has a seat. Who sits there runs tiles in its name: its own thread, or a host thread that
// waits for a pass. A pass that is attended begins in the thread that committed it and ends there,
// and nobody has to be woken for either.
#include <fenv.h>
#include <string.h>

#include "backends/cpu/cpu_device.h"
#include "backends/cpu/cpu_topology.h"
#include "backends/cpu/products/product_tile.h"
#include "base/bus_fault.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/last_error.h"

// Looks for work before sleeping: some ten microseconds, longer than a hand-over between running
// threads, or some fifty, as long as it takes to be woken.
#define SPINS_SHORT 400
#define SPINS_LONG 2000
#define SHORT_SLEEP_NS 100000

// Kernels take up to 512 KiB; what the system gives a thread by default may be far less.
#define STACK_BYTES_MIN ((size_t)1 << 20)

// A sleeper first adds itself to `sleepers`, or sets `seat_sleeps`, and then looks at its
// condition; who makes a condition true first does so and then looks at these. All are sequentially
// consistent, so one of the two sees the other.
static void wake_seat(cpu_device* device) {
    if (atomic_load(&device->seat_sleeps)) {
        atomic_fetch_add(&device->seat_epoch, 1);
        futex_wake(&device->seat_epoch, 1);
    }
}

void cpu_workers_wake(cpu_device* device, uint64_t count, bool with_seat) {
    const unsigned sleepers = count > 0 ? atomic_load(&device->sleepers) : 0;
    if (sleepers > 0) {
        atomic_fetch_add(&device->wake_epoch, 1);
        futex_wake(&device->wake_epoch, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX);
    }
    if (with_seat && count > sleepers && !atomic_load(&device->seat_taken)) {
        wake_seat(device);
    }
}

static bool take_seat(cpu_device* device) {
    return !atomic_load(&device->seat_taken) && !atomic_exchange(&device->seat_taken, true);
}

// Work may have come for a thread that found the seat taken and went to sleep. The seat is free
// before the look at what is active, and that thread does it the other way round.
static void leave_seat(cpu_device* device) {
    atomic_store(&device->seat_taken, false);
    if (atomic_load(&device->active) != 0) {
        wake_seat(device);
    }
}

// Runs what there is; false where there is nothing. `until` as of cpu_executor_walk.
static bool work_on(cpu_worker* worker, uint64_t until) {
    cpu_work* work = cpu_executor_find(worker);
    if (work && cpu_is_alone(worker->device)) {
        cpu_executor_run(worker, work);
    } else if (work) {
        cpu_executor_walk(worker, work, until);
    }
    return work != NULL;
}

// Whether there is something for a worker. Passes whose host thread is about to come are not for
// worker 0.
static bool is_needed(cpu_worker* worker) {
    cpu_device* device = worker->device;
    if (worker->number == 0 &&
        (atomic_load(&device->seat_taken) ||
         (atomic_load(&device->active) & ~atomic_load(&device->attended)) == 0)) {
        return false;
    }
    const bool found = cpu_executor_find(worker) != NULL;
    cpu_executor_release(worker);
    return found;
}

// Runs what there is for a worker with a thread of its own.
static bool work_here(cpu_worker* worker) {
    if (worker->number > 0) {
        return work_on(worker, UINT64_MAX);
    }
    if (!is_needed(worker) || !take_seat(worker->device)) {
        return false;
    }
    while (work_on(worker, UINT64_MAX)) {
    }
    leave_seat(worker->device);
    return true;
}

static bool spin(cpu_worker* worker) {
    for (uint32_t i = 0; i < worker->spins; i++) {
        if (work_here(worker)) {
            return true;
        }
        cpu_relax();
    }
    return false;
}

static void sleep_on(cpu_worker* worker, atomic_uint* epoch) {
    const unsigned seen = atomic_load(epoch);
    const uint64_t begin = clock_ns();
    atomic_uint* sleepers =
        worker->number > 0 ? &worker->device->sleepers : &worker->device->seat_sleeps;
    atomic_fetch_add(sleepers, 1);
    if (!is_needed(worker) && !atomic_load(&worker->device->stopping)) {
        futex_wait(epoch, seen, FUTEX_FOREVER);
    }
    atomic_fetch_sub(sleepers, 1);
    worker->spins = clock_ns() - begin < SHORT_SLEEP_NS ? SPINS_LONG : SPINS_SHORT;
}

static void* work_until_stopped(void* argument) {
    cpu_worker* worker = argument;
    cpu_device* device = worker->device;
    bus_fault_unblock();
    while (!atomic_load(&device->stopping)) {
        if (!spin(worker)) {
            sleep_on(worker, worker->number > 0 ? &device->wake_epoch : &device->seat_epoch);
        }
    }
    return NULL;
}

// Where others have the rest of the pass, the thread looks for more as long as they might leave
// something to it.
static void run_as_guest(cpu_device* device, uint64_t sequence) {
    cpu_worker* guest = &device->workers[device->base.thread_count];
    for (uint32_t i = 0; i < SPINS_SHORT; i++) {
        if (weir_device_has_done(&device->base, sequence)) {
            break;
        }
        if (work_on(guest, sequence)) {
            i = 0;
        } else {
            cpu_relax();
        }
    }
    cpu_executor_release(guest);
}

// In the arithmetic of the workers, whatever rounding the host thread has chosen, and without its
// last error, which a kernel that fails without a word would be given.
static void run_in_seat(cpu_device* device, uint64_t sequence) {
    last_error error;
    fenv_t own;
    last_error_take(&error);
    fegetenv(&own);
    fesetenv(&device->environment);
    run_as_guest(device, sequence);
    fesetenv(&own);
    last_error_put(&error);
}

// Workers are sure to have the signal of lost pages unblocked, host threads are not.
void cpu_worker_assist(weir_device* base, uint64_t sequence) {
    cpu_device* device = (cpu_device*)base;
    if (bus_fault_is_safe_here() && take_seat(device)) {
        run_in_seat(device, sequence);
        leave_seat(device);
    }
    // Where the pass is not complete by now, it is left to whoever has the seat, or to the worker.
    atomic_fetch_and(&device->attended, ~(UINT64_C(1) << sequence % PASSES_IN_FLIGHT));
    if (!weir_device_has_done(base, sequence)) {
        wake_seat(device);
    }
}

_Static_assert(CPU_LOCAL_BYTES >= CPU_STATE_BYTES, "what a tile of few rows keeps");

// One more than there are threads: the last is the guest in the seat of worker 0. The two never run
// at a time, and share its memory.
static weir_status make_workers(cpu_device* device) {
    const uint32_t threads = device->base.thread_count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&device->base.allocator, cpu_seat_count(device) * sizeof(cpu_worker),
                        CPU_LINE, &memory));
    device->workers = memory;
    WEIR_TRY(
        weir_alloc(&device->base.allocator, (size_t)threads * CPU_LOCAL_BYTES, CPU_LINE, &memory));
    device->locals = memory;
    for (uint32_t i = 0; i < cpu_seat_count(device); i++) {
        const uint32_t number = i < threads ? i : 0;
        device->workers[i] =
            (cpu_worker){.device = device,
                         .number = number,
                         .spins = SPINS_SHORT,
                         .local.memory = device->locals + (size_t)number * CPU_LOCAL_BYTES,
                         .local.byte_size = CPU_LOCAL_BYTES};
    }
    return WEIR_OK;
}

// With no more workers than cores they keep to one hardware thread of each; which of these a worker
// runs on is up to the system, which knows what else does.
static int start_thread(cpu_worker* worker, const cpu_topology* topology) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    size_t stack_bytes = 0;
    error = pthread_attr_getstacksize(&attributes, &stack_bytes);
    if (error == 0 && stack_bytes < STACK_BYTES_MIN) {
        error = pthread_attr_setstacksize(&attributes, STACK_BYTES_MIN);
    }
    if (error == 0 && worker->device->base.thread_count <= topology->core_count &&
        topology->core_count < topology->thread_count) {
        error = pthread_attr_setaffinity_np(&attributes, topology->set_bytes, topology->first);
    }
    if (error == 0) {
        error = pthread_create(&worker->thread, &attributes, work_until_stopped, worker);
    }
    pthread_attr_destroy(&attributes);
    return error;
}

static weir_status start_workers(cpu_device* device, const cpu_topology* topology) {
    const uint32_t worker_count = device->base.thread_count;
    WEIR_TRY(make_workers(device));
    for (uint32_t i = 0; i < worker_count; i++) {
        const int error = start_thread(&device->workers[i], topology);
        if (error != 0) {
            return WEIR_FAIL(WEIR_IO, "cannot start worker %u of %u: %s", i, worker_count,
                             strerror(error));
        }
        device->worker_count++;
    }
    return WEIR_OK;
}

weir_status cpu_workers_start(cpu_device* device, uint32_t wanted_count) {
    const weir_allocator* allocator = &device->base.allocator;
    cpu_topology topology;
    WEIR_TRY(cpu_topology_read_own(allocator, &topology));
    device->base.thread_count = wanted_count > 0 ? wanted_count : cpu_topology_workers(&topology);
    device->base.assist = cpu_worker_assist;
    fegetenv(&device->environment);
    const weir_status status = start_workers(device, &topology);
    cpu_topology_free(allocator, &topology);
    return status;
}

void cpu_workers_stop(cpu_device* device) {
    atomic_store(&device->stopping, true);
    atomic_fetch_add(&device->wake_epoch, 1);
    atomic_fetch_add(&device->seat_epoch, 1);
    futex_wake(&device->wake_epoch, UINT32_MAX);
    futex_wake(&device->seat_epoch, UINT32_MAX);
    for (uint32_t i = 0; i < device->worker_count; i++) {
        pthread_join(device->workers[i].thread, NULL);
    }
    weir_free(&device->base.allocator, device->locals,
              (size_t)device->base.thread_count * CPU_LOCAL_BYTES, CPU_LINE);
    weir_free(&device->base.allocator, device->workers, cpu_seat_count(device) * sizeof(cpu_worker),
              CPU_LINE);
    device->workers = NULL; // work that is destroyed from now on is read by nobody
    device->worker_count = 0;
}
