#include "device/backend.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/log_line.h"

#define SPINS_BEFORE_SLEEP 400

weir_status weir_device_init(weir_device* device, const device_vtable* vtable,
                             const weir_device_desc* desc, const weir_target* target) {
    device->vtable = vtable;
    device->allocator = desc->allocator;
    device->log = desc->log;
    device->target = *target;
    device->thread_count = 1;
    atomic_init(&device->memory_ids, HOST_MEMORY_ID);
    const bool made = pthread_mutex_init(&device->submit_lock, NULL) == 0 &&
                      pthread_mutex_init(&device->lock, NULL) == 0;
    return made ? WEIR_OK : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the locks of a device");
}

uint64_t weir_device_new_memory_id(weir_device* device) {
    return atomic_fetch_add_explicit(&device->memory_ids, 1, memory_order_relaxed) + 1;
}

void weir_device_finish(weir_device* device) {
    weir_device_reap(device);
    pthread_mutex_destroy(&device->lock);
    pthread_mutex_destroy(&device->submit_lock);
}

void weir_device_destroy(weir_device* device) {
    if (device) {
        device->vtable->destroy(device);
    }
}

const weir_target* weir_device_target(const weir_device* device) {
    return &device->target;
}

uint32_t weir_device_thread_count(const weir_device* device) {
    return device->thread_count;
}

weir_status weir_device_set_tile_hook(weir_device* device, weir_tile_hook_fn hook, void* context) {
    if (atomic_load(&device->completed) != atomic_load(&device->submitted)) {
        return WEIR_FAIL(WEIR_BUSY, "the tile hook cannot change while work is in flight");
    }
    device->hook = hook;
    device->hook_context = context;
    return WEIR_OK;
}

static void wait_for(weir_device* device, uint64_t sequence, uint64_t timeout_ns) {
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        if (atomic_load_explicit(&device->completed, memory_order_acquire) >= sequence) {
            return;
        }
        cpu_relax();
    }
    const uint64_t start = timeout_ns == WEIR_WAIT_FOREVER ? 0 : clock_ns();
    atomic_fetch_add(&device->waiters, 1);
    for (;;) {
        const unsigned epoch = atomic_load(&device->completion_epoch);
        if (atomic_load(&device->completed) >= sequence) {
            break;
        }
        uint64_t left_ns = FUTEX_FOREVER;
        if (timeout_ns != WEIR_WAIT_FOREVER) {
            const uint64_t spent_ns = clock_ns() - start;
            if (spent_ns >= timeout_ns) {
                break;
            }
            left_ns = timeout_ns - spent_ns;
        }
        futex_wait(&device->completion_epoch, epoch, left_ns);
    }
    atomic_fetch_sub(&device->waiters, 1);
}

void weir_device_complete(weir_device* device, uint64_t sequence, weir_status status,
                          const char* message) {
    if (status != WEIR_OK) {
        pthread_mutex_lock(&device->lock);
        const unsigned slot = atomic_load(&device->failure_count) % FAILURES_KEPT;
        device_failure* failure = &device->failures[slot];
        failure->sequence = sequence;
        failure->status = status;
        snprintf(failure->message, sizeof failure->message, "%s", message);
        atomic_fetch_add(&device->failure_count, 1);
        pthread_mutex_unlock(&device->lock);
        log_line(&device->log, WEIR_LOG_ERROR, "%s: pass %llu failed: %s", device->target.name,
                 (unsigned long long)sequence, message);
    }
    atomic_store(&device->completed, sequence);
    atomic_fetch_add(&device->completion_epoch, 1);
    if (atomic_load(&device->waiters) > 0) {
        futex_wake(&device->completion_epoch, UINT32_MAX);
    }
}

static weir_status outcome_of(weir_device* device, uint64_t sequence) {
    if (atomic_load(&device->failure_count) == 0) {
        return WEIR_OK;
    }
    device_failure found = {.status = WEIR_OK};
    pthread_mutex_lock(&device->lock);
    for (size_t i = 0; i < FAILURES_KEPT; i++) {
        if (device->failures[i].sequence == sequence && sequence != 0) {
            found = device->failures[i];
        }
    }
    pthread_mutex_unlock(&device->lock);
    return found.status == WEIR_OK ? WEIR_OK : WEIR_FAIL(found.status, "%s", found.message);
}

weir_status weir_ticket_wait(weir_ticket ticket, uint64_t timeout_ns) {
    if (ticket.sequence == 0) {
        return WEIR_OK;
    }
    wait_for(ticket.device, ticket.sequence, timeout_ns);
    if (!weir_ticket_is_complete(ticket)) {
        return WEIR_FAIL(WEIR_TIMEOUT, "the work is not complete after %llu ns",
                         (unsigned long long)timeout_ns);
    }
    weir_device_reap(ticket.device);
    return outcome_of(ticket.device, ticket.sequence);
}

bool weir_ticket_is_complete(weir_ticket ticket) {
    return ticket.sequence == 0 ||
           atomic_load_explicit(&ticket.device->completed, memory_order_acquire) >= ticket.sequence;
}

weir_status weir_device_submit(weir_device* device, device_work* work, const uint64_t* params,
                               weir_ticket* ticket) {
    pthread_mutex_lock(&device->submit_lock);
    const uint64_t sequence = atomic_load(&device->submitted) + 1;
    if (sequence > PASSES_IN_FLIGHT) {
        wait_for(device, sequence - PASSES_IN_FLIGHT, WEIR_WAIT_FOREVER);
    }
    atomic_store(&device->submitted, sequence);
    const weir_status status = work->vtable->submit(work, params, sequence);
    if (status != WEIR_OK) {
        atomic_store(&device->submitted, sequence - 1);
    } else {
        *ticket = (weir_ticket){.device = device, .sequence = sequence};
    }
    pthread_mutex_unlock(&device->submit_lock);
    return status;
}
