// The passes of the CPU device between submission and completion: what waits, what may start.
#include <stdio.h>

#include "backends/cpu/cpu_device.h"

static uint64_t bit_of(uint64_t sequence) {
    return UINT64_C(1) << sequence % PASSES_IN_FLIGHT;
}

// The pass can be complete, and the work gone, before this returns.
static void start_pass(cpu_device* device, const cpu_pass* pass) {
    cpu_work_begin(pass->work, pass);
    if (pass->work->count > 0) {
        cpu_executor_open(device, pass->work, pass->attended);
    } else {
        cpu_queue_complete(device, pass->work);
    }
}

// Takes a pass out of its entry and those that waited for nothing else with it: `started` receives
// them, and their number is returned. With the lock held.
static uint32_t retire(cpu_device* device, uint64_t sequence, cpu_pass started[PASSES_IN_FLIGHT]) {
    uint32_t count = 0;
    cpu_pass* entry = &device->passes[sequence % PASSES_IN_FLIGHT];
    if (entry->sequence != sequence) {
        return 0; // the next pass of the entry was quicker
    }
    entry->sequence = 0;
    for (uint64_t left = device->waiting; left != 0; left &= left - 1) {
        cpu_pass* pass = &device->passes[__builtin_ctzll(left)];
        pass->after &= ~bit_of(sequence);
        if (pass->after == 0) {
            device->waiting &= ~bit_of(pass->sequence);
            started[count++] = *pass;
        }
    }
    return count;
}

static void start_passes(cpu_device* device, const cpu_pass* passes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        start_pass(device, &passes[i]);
    }
}

// An entry can still hold the pass of 64 numbers before: its completion was told a moment ago.
weir_status cpu_queue_submit(device_work* base, const device_pass_desc* desc) {
    cpu_work* work = (cpu_work*)base;
    cpu_device* device = work->device;
    cpu_pass started[PASSES_IN_FLIGHT];
    cpu_pass pass = {
        .work = work, .sequence = desc->sequence, .params = desc->params, .timings = desc->timings};
    pthread_mutex_lock(&device->queue_lock);
    cpu_pass* entry = &device->passes[pass.sequence % PASSES_IN_FLIGHT];
    uint32_t count = entry->sequence != 0 ? retire(device, entry->sequence, started) : 0;
    for (uint32_t i = 0; i < desc->after_count; i++) {
        const cpu_pass* other = &device->passes[desc->after[i] % PASSES_IN_FLIGHT];
        pass.after |= other->sequence == desc->after[i] ? bit_of(other->sequence) : 0;
    }
    pass.attended =
        desc->attended && pass.after == 0; // one that waits is started by another thread
    *entry = pass;
    device->waiting |= pass.after != 0 ? bit_of(pass.sequence) : 0;
    if (pass.after == 0) {
        started[count++] = pass;
    }
    pthread_mutex_unlock(&device->queue_lock);
    start_passes(device, started, count);
    return WEIR_OK;
}

// A pass is told complete before what waited for it starts, so that a complete pass has only
// complete ones before it. The work may be gone then.
void cpu_queue_complete(cpu_device* device, cpu_work* work) {
    cpu_pass started[PASSES_IN_FLIGHT];
    const uint64_t sequence = atomic_load(&work->sequence);
    weir_status status = (weir_status)atomic_load(&work->status);
    const weir_status mappings = device_check_mappings(work->dispatches, work->count);
    if (mappings != WEIR_OK) { // what a kernel made of zeros is not the cause
        status = mappings;
        snprintf(work->message, sizeof work->message, "%s", weir_last_error());
    }
    weir_device_complete(&device->base, sequence, status, work->message);
    pthread_mutex_lock(&device->queue_lock);
    const uint32_t count = retire(device, sequence, started);
    pthread_mutex_unlock(&device->queue_lock);
    start_passes(device, started, count);
}
