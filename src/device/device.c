#include "device/backend.h"

#include <stdio.h>

#include "base/futex.h"
#include "base/log_line.h"

weir_status weir_device_init(weir_device* device, const device_vtable* vtable,
                             const weir_device_desc* desc, const weir_target* target) {
    device->vtable = vtable;
    device->allocator = desc->allocator;
    device->log = desc->log;
    device->target = *target;
    device->thread_count = 1;
    atomic_init(&device->oldest, 1);
    WEIR_TRY(identity_init(&device->names));
    const bool made = pthread_mutex_init(&device->submit_lock, NULL) == 0 &&
                      pthread_mutex_init(&device->lock, NULL) == 0;
    return made ? WEIR_OK : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the locks of a device");
}

void weir_device_finish(weir_device* device) {
    weir_device_reap(device);
    weir_device_drop_spares(device);
    for (size_t i = 0; i < PASSES_IN_FLIGHT; i++) {
        array_free(&device->allocator, &device->timings[i]);
    }
    identity_finish(&device->allocator, &device->names);
    pthread_mutex_destroy(&device->lock);
    pthread_mutex_destroy(&device->submit_lock);
}

void weir_device_destroy(weir_device* device) {
    if (device) {
        device->vtable->destroy(device);
    }
}

weir_device_memory weir_device_memory_now(weir_device* device) {
    return device->vtable->memory(device);
}

const weir_target* weir_device_target(const weir_device* device) {
    return &device->target;
}

uint32_t weir_device_thread_count(const weir_device* device) {
    return device->thread_count;
}

weir_status weir_device_set_tile_hook(weir_device* device, weir_tile_hook_fn hook, void* context) {
    if (!weir_device_is_idle(device)) {
        return WEIR_FAIL(WEIR_BUSY, "the tile hook cannot change while work is in flight");
    }
    device->hook = hook;
    device->hook_context = context;
    return WEIR_OK;
}

bool weir_device_has_done(const weir_device* device, uint64_t sequence) {
    const atomic_uint_least64_t* done = &device->done[sequence % PASSES_IN_FLIGHT];
    return atomic_load_explicit(done, memory_order_acquire) >= sequence;
}

bool weir_device_is_idle(const weir_device* device) {
    return atomic_load(&device->oldest) > atomic_load(&device->submitted);
}

// A commit that the back end refused has given its number back.
bool weir_device_is_past(const weir_device* device, uint64_t sequence) {
    const uint64_t oldest = atomic_load(&device->oldest);
    return oldest > sequence || oldest > atomic_load(&device->submitted);
}

// What is read of `oldest` may have completed meanwhile, but is never a number not given yet.
void weir_device_drain(weir_device* device) {
    uint64_t oldest = atomic_load(&device->oldest);
    while (oldest <= atomic_load(&device->submitted)) {
        weir_device_await(device, oldest, WEIR_WAIT_FOREVER);
        oldest = atomic_load(&device->oldest);
    }
    weir_device_reap(device);
}

weir_status weir_device_check_lost(weir_device* device) {
    return atomic_load(&device->lost) ? WEIR_FAIL(WEIR_DEVICE_LOST, "device %s is lost: %s",
                                                  device->target.name, device->lost_message)
                                      : WEIR_OK;
}

// Marks a pass that is in flight as complete; with the lock held. The order matters: who sees it
// complete finds its entry empty.
static void settle(weir_device* device, uint64_t sequence) {
    flight_remove(&device->flight, sequence);
    atomic_store(&device->done[sequence % PASSES_IN_FLIGHT], sequence);
    uint64_t oldest = atomic_load(&device->oldest);
    while (oldest <= atomic_load(&device->submitted) && weir_device_has_done(device, oldest)) {
        oldest++;
    }
    atomic_store(&device->oldest, oldest);
}

static void wake_waiters(weir_device* device) {
    atomic_fetch_add(&device->completion_epoch, 1);
    if (atomic_load(&device->waiters) > 0) {
        futex_wake(&device->completion_epoch, UINT32_MAX);
    }
}

static void keep_failure(weir_device* device, uint64_t sequence, weir_status status,
                         const char* message) {
    device_failure* failure =
        &device->failures[atomic_load(&device->failure_count) % FAILURES_KEPT];
    failure->sequence = sequence;
    failure->status = status;
    snprintf(failure->message, sizeof failure->message, "%s", message);
    atomic_fetch_add(&device->failure_count, 1);
}

// Keeps the failure of a pass that is in flight, and tells the log while nobody knows yet.
static void report_failure(weir_device* device, uint64_t sequence, weir_status status,
                           const char* message) {
    pthread_mutex_lock(&device->lock);
    const bool in_flight = flight_has(&device->flight, sequence);
    if (in_flight) {
        keep_failure(device, sequence, status, message);
    }
    pthread_mutex_unlock(&device->lock);
    if (in_flight) {
        log_line(&device->log, WEIR_LOG_ERROR, "%s: pass %llu failed: %s", device->target.name,
                 (unsigned long long)sequence, message);
    }
}

void weir_device_complete(weir_device* device, uint64_t sequence, weir_status status,
                          const char* message) {
    if (status != WEIR_OK) {
        report_failure(device, sequence, status, message);
    }
    pthread_mutex_lock(&device->lock);
    const bool in_flight = flight_has(&device->flight, sequence);
    if (in_flight) {
        settle(device, sequence);
    }
    pthread_mutex_unlock(&device->lock);
    if (in_flight) {
        wake_waiters(device);
    }
}

static void settle_lost(weir_device* device) {
    pthread_mutex_lock(&device->lock);
    device->lost_entries = device->flight.used;
    for (uint64_t left = device->lost_entries; left != 0; left &= left - 1) {
        settle(device, device->flight.entries[__builtin_ctzll(left)].sequence);
    }
    pthread_mutex_unlock(&device->lock);
    wake_waiters(device);
}

void weir_device_lose(weir_device* device, const char* message) {
    pthread_mutex_lock(&device->lock);
    const bool first = !atomic_load(&device->lost);
    if (first) {
        snprintf(device->lost_message, sizeof device->lost_message, "%s", message);
        atomic_store(&device->lost, true);
    }
    pthread_mutex_unlock(&device->lock);
    if (first) { // from here on nothing is entered
        log_line(&device->log, WEIR_LOG_ERROR, "%s: device lost: %s", device->target.name, message);
        settle_lost(device);
    }
}

// Enters a commit among the passes in flight and lists those that it must wait for.
static weir_status enter(weir_device* device, const device_commit* commit, uint64_t sequence,
                         uint64_t after[PASSES_IN_FLIGHT], uint32_t* after_count) {
    pthread_mutex_lock(&device->lock);
    const weir_status status = weir_device_check_lost(device);
    if (status == WEIR_OK) {
        const uint64_t conflicts = flight_conflicts(&device->flight, commit->accesses,
                                                    commit->access_count, commit->fence);
        *after_count = flight_list(&device->flight, conflicts, after);
        flight_add(&device->flight, sequence, commit->accesses, commit->access_count,
                   commit->fence);
        shadow_list_note(&device->shadows, commit->accesses, commit->access_count, commit->fence,
                         NULL);
        atomic_store(&device->submitted, sequence);
    }
    pthread_mutex_unlock(&device->lock);
    return status;
}

// Undoes `enter` for a commit that the back end refused. The number of one that was completed all
// the same, since the device was lost meanwhile, is not used again.
static void leave(weir_device* device, uint64_t sequence) {
    pthread_mutex_lock(&device->lock);
    if (flight_remove(&device->flight, sequence)) {
        atomic_store(&device->submitted, sequence - 1);
    }
    pthread_mutex_unlock(&device->lock);
}

// Finds room for the times of a pass, all of them zero; NULL where none are asked for.
static weir_status reserve_timings(weir_device* device, uint64_t sequence, uint32_t count,
                                   weir_timing** timings) {
    device_timings* kept = &device->timings[sequence % PASSES_IN_FLIGHT];
    weir_status status = WEIR_OK;
    pthread_mutex_lock(&device->lock);
    kept->sequence = 0;
    *timings = NULL;
    if (count > 0) {
        status = array_reserve(&device->allocator, kept, count);
    }
    if (count > 0 && status == WEIR_OK) {
        for (uint32_t i = 0; i < count; i++) {
            kept->items[i] = (weir_timing){0};
        }
        kept->count = count;
        kept->sequence = sequence;
        *timings = kept->items;
    }
    pthread_mutex_unlock(&device->lock);
    return status;
}

static weir_status submit(weir_device* device, const device_commit* commit, uint64_t sequence) {
    uint64_t after[PASSES_IN_FLIGHT];
    device_pass_desc pass = {.sequence = sequence,
                             .params = commit->params,
                             .after = after,
                             .attended = commit->attended};
    WEIR_TRY(reserve_timings(device, sequence, commit->timing_count, &pass.timings));
    WEIR_TRY(enter(device, commit, sequence, after, &pass.after_count));
    const weir_status status = commit->work->vtable->submit(commit->work, &pass);
    if (status != WEIR_OK) {
        leave(device, sequence);
        if (status == WEIR_DEVICE_LOST) {
            weir_device_lose(device, weir_last_error());
        }
    }
    return status;
}

weir_status weir_device_submit(weir_device* device, const device_commit* commit,
                               weir_ticket* ticket) {
    WEIR_TRY(weir_shadow_settle(device, commit->accesses, commit->access_count, commit->fence));
    pthread_mutex_lock(&device->submit_lock);
    const uint64_t sequence = atomic_load(&device->submitted) + 1;
    if (sequence > PASSES_IN_FLIGHT) { // its entry is that of an earlier pass
        weir_device_await(device, sequence - PASSES_IN_FLIGHT, WEIR_WAIT_FOREVER);
    }
    const weir_status status = submit(device, commit, sequence);
    pthread_mutex_unlock(&device->submit_lock);
    if (status == WEIR_OK) {
        *ticket = (weir_ticket){.device = device, .sequence = sequence};
    }
    return status;
}

// The passes up to `last` that conflict, in the order of their commits.
static uint32_t list_conflicts(weir_device* device, const weir_access* accesses, uint32_t count,
                               uint64_t last, uint64_t sequences[PASSES_IN_FLIGHT]) {
    uint32_t found = 0;
    if (count == 0 || weir_device_is_idle(device)) {
        return 0;
    }
    pthread_mutex_lock(&device->lock);
    const uint64_t conflicts = flight_conflicts(&device->flight, accesses, count, false);
    found = flight_list(&device->flight, conflicts, sequences);
    pthread_mutex_unlock(&device->lock);
    while (found > 0 && sequences[found - 1] > last) {
        found--;
    }
    return found;
}

bool weir_device_in_flight(weir_device* device, const weir_access* accesses, uint32_t count,
                           weir_ticket* youngest) {
    uint64_t sequences[PASSES_IN_FLIGHT];
    const uint32_t found = list_conflicts(device, accesses, count, UINT64_MAX, sequences);
    if (found > 0 && youngest) {
        *youngest = (weir_ticket){.device = device, .sequence = sequences[found - 1]};
    }
    return found > 0;
}

weir_status weir_device_wait_for(weir_device* device, const weir_access* accesses, uint32_t count) {
    uint64_t sequences[PASSES_IN_FLIGHT];
    const uint64_t last = atomic_load(&device->submitted);
    const uint32_t found = list_conflicts(device, accesses, count, last, sequences);
    for (uint32_t i = found; i-- > 0;) {
        weir_device_await(device, sequences[i], WEIR_WAIT_FOREVER);
    }
    return weir_device_check_lost(device);
}
