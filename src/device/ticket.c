#include "device/backend.h"

#include "base/clock.h"
#include "base/futex.h"

#define SPINS_BEFORE_SLEEP 400
#define NONE UINT32_MAX

bool weir_ticket_is_complete(weir_ticket ticket) {
    return ticket.sequence == 0 || weir_device_has_done(ticket.device, ticket.sequence);
}

static uint32_t find_complete(const weir_ticket* tickets, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (weir_ticket_is_complete(tickets[i])) {
            return i;
        }
    }
    return NONE;
}

// Sleeps until one of the tickets is complete or the time is over. A waiter first adds itself to
// `waiters` and reads the epoch, and then looks at the tickets; who completes a pass first marks it
// and changes the epoch, and then looks at `waiters`. So either the waiter sees the pass complete,
// or its sleep ends at once because the epoch has changed, or it is seen and woken.
static uint32_t sleep_until_complete(weir_device* device, const weir_ticket* tickets,
                                     uint32_t count, uint64_t timeout_ns) {
    const uint64_t start = timeout_ns == WEIR_WAIT_FOREVER ? 0 : clock_ns();
    uint32_t found = NONE;
    atomic_fetch_add(&device->waiters, 1);
    for (;;) {
        const unsigned epoch = atomic_load(&device->completion_epoch);
        found = find_complete(tickets, count);
        if (found != NONE) {
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
    return found;
}

static uint32_t await_any(weir_device* device, const weir_ticket* tickets, uint32_t count,
                          uint64_t timeout_ns) {
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        const uint32_t found = find_complete(tickets, count);
        if (found != NONE || timeout_ns == 0) {
            return found;
        }
        cpu_relax();
    }
    return sleep_until_complete(device, tickets, count, timeout_ns);
}

bool weir_device_await(weir_device* device, uint64_t sequence, uint64_t timeout_ns) {
    const weir_ticket ticket = {.device = device, .sequence = sequence};
    return await_any(device, &ticket, 1, timeout_ns) == 0;
}

// Returns how a complete pass ended.
static weir_status outcome_of(weir_device* device, uint64_t sequence) {
    if (atomic_load(&device->failure_count) == 0 && !atomic_load(&device->lost)) {
        return WEIR_OK;
    }
    device_failure found = {.status = WEIR_OK};
    pthread_mutex_lock(&device->lock);
    for (size_t i = 0; i < FAILURES_KEPT; i++) {
        if (device->failures[i].sequence == sequence) {
            found = device->failures[i];
        }
    }
    // Nothing is submitted after the loss, so the last pass of an entry is the one that was lost.
    const uint64_t entry = sequence % PASSES_IN_FLIGHT;
    const bool lost =
        (device->lost_entries >> entry & 1) != 0 && atomic_load(&device->done[entry]) == sequence;
    pthread_mutex_unlock(&device->lock);
    if (lost) {
        return weir_device_check_lost(device);
    }
    return found.status == WEIR_OK ? WEIR_OK : WEIR_FAIL(found.status, "%s", found.message);
}

static weir_status fail_timeout(uint64_t timeout_ns) {
    return WEIR_FAIL(WEIR_TIMEOUT, "the work is not complete after %llu ns",
                     (unsigned long long)timeout_ns);
}

weir_status weir_ticket_wait(weir_ticket ticket, uint64_t timeout_ns) {
    if (ticket.sequence == 0) {
        return WEIR_OK;
    }
    weir_device* device = ticket.device;
    if (timeout_ns == WEIR_WAIT_FOREVER && device->assist && !weir_ticket_is_complete(ticket)) {
        device->assist(device, ticket.sequence);
    }
    if (!weir_device_await(device, ticket.sequence, timeout_ns)) {
        return fail_timeout(timeout_ns);
    }
    weir_device_reap(device);
    return outcome_of(device, ticket.sequence);
}

weir_status weir_ticket_wait_any(const weir_ticket* tickets, uint32_t count, uint64_t timeout_ns,
                                 uint32_t* index) {
    weir_device* device = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (tickets[i].sequence != 0 && device && device != tickets[i].device) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "ticket %u is of another device", i);
        }
        device = tickets[i].sequence != 0 ? tickets[i].device : device;
    }
    if (count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no ticket to wait for");
    }
    const uint32_t found =
        device ? await_any(device, tickets, count, timeout_ns) : find_complete(tickets, count);
    if (found == NONE) {
        return fail_timeout(timeout_ns);
    }
    *index = found;
    return weir_ticket_wait(tickets[found], 0);
}

weir_status weir_ticket_timings(weir_ticket ticket, weir_timing* timings, uint32_t capacity,
                                uint32_t* count) {
    if (!weir_ticket_is_complete(ticket)) {
        return WEIR_FAIL(WEIR_BUSY, "the work is not complete: its times are not known");
    }
    uint32_t found = 0;
    bool kept = false;
    if (ticket.sequence != 0) {
        pthread_mutex_lock(&ticket.device->lock);
        const device_timings* entry = &ticket.device->timings[ticket.sequence % PASSES_IN_FLIGHT];
        kept = entry->sequence == ticket.sequence;
        found = kept ? (uint32_t)entry->count : 0;
        for (uint32_t i = 0; i < found && i < capacity; i++) {
            timings[i] = entry->items[i];
        }
        pthread_mutex_unlock(&ticket.device->lock);
    }
    if (!kept) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no times of pass %llu: not asked for, or too long ago",
                         (unsigned long long)ticket.sequence);
    }
    *count = found;
    return WEIR_OK;
}
