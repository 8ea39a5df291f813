#include <weir/session.h>

#include <string.h>

#include "device/backend.h"

#define RECENT_BITS 6

// A dispatch as recorded: positions in the arrays of its pass, which move while they grow.
typedef struct recorded_dispatch {
    const char* name;
    weir_kernel_fn kernel;
    bool fence;
    uint32_t tile_count;
    uint32_t level; // edges on the longest path that ends here
    size_t operand_begin, operand_count;
    size_t access_begin, access_count; // one for each operand first
    size_t edge_begin, edge_count;
    size_t constants_begin;
} recorded_dispatch;

struct device_pass {
    device_pass* next;
    uint64_t sequence;
    device_work* work;
    uint32_t waits; // edges on the longest path
    bool fence;     // one of the dispatches is
    uint64_t bytes_read, bytes_written;
    struct {
        recorded_dispatch* items;
        size_t count, capacity;
    } recorded;
    struct {
        weir_view* items; // operands; each retains its storage
        size_t count, capacity;
    } views;
    struct {
        void** items; // one per operand, filled at commit
        size_t count, capacity;
    } pointers;
    access_array accesses;
    struct {
        weir_access* items; // of all dispatches, for other passes to be compared with
        size_t count, capacity;
    } touched;
    struct {
        uint32_t* items;
        size_t count, capacity;
    } edges;
    struct {
        uint8_t* items;
        size_t count, capacity;
    } constants;
    struct {
        device_dispatch* items; // resolved at commit
        size_t count, capacity;
    } dispatches;
};

struct weir_session {
    weir_device* device;
    weir_tracker* tracker;
    device_pass* pass; // what is recorded and not committed
    bool timing;
    uint32_t
        recent[1u << RECENT_BITS]; // accesses among those touched, found by their range, from 1
    weir_counters counters;
};

// Forgets what is recorded and keeps the memory.
static void empty_pass(device_pass* pass) {
    for (size_t i = 0; i < pass->views.count; i++) {
        weir_view_release(&pass->views.items[i]);
    }
    pass->recorded.count = pass->views.count = 0;
    pass->pointers.count = pass->accesses.count = pass->touched.count = 0;
    pass->edges.count = pass->constants.count = pass->dispatches.count = 0;
    pass->waits = 0;
    pass->fence = false;
    pass->bytes_read = pass->bytes_written = 0;
}

static void destroy_pass(weir_device* device, device_pass* pass) {
    const weir_allocator* allocator = &device->allocator;
    if (!pass) {
        return;
    }
    if (pass->work) {
        pass->work->vtable->destroy(pass->work);
    }
    empty_pass(pass);
    array_free(allocator, &pass->recorded);
    array_free(allocator, &pass->views);
    array_free(allocator, &pass->pointers);
    array_free(allocator, &pass->accesses);
    array_free(allocator, &pass->touched);
    array_free(allocator, &pass->edges);
    array_free(allocator, &pass->constants);
    array_free(allocator, &pass->dispatches);
    object_free(allocator, pass);
}

void weir_device_reap(weir_device* device) {
    device_pass* done = NULL;
    pthread_mutex_lock(&device->lock);
    for (device_pass** link = &device->passes; *link;) {
        device_pass* pass = *link;
        if (weir_device_has_done(device, pass->sequence)) {
            *link = pass->next;
            pass->next = done;
            done = pass;
        } else {
            link = &pass->next;
        }
    }
    pthread_mutex_unlock(&device->lock);
    while (done) { // release callbacks run without the lock
        device_pass* next = done->next;
        destroy_pass(device, done);
        done = next;
    }
}

weir_status weir_session_create(weir_device* device, weir_session** session) {
    weir_session* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    weir_status status = object_new(&device->allocator, &made->pass);
    if (status == WEIR_OK) {
        status = weir_tracker_create(&device->allocator, WEIR_TRACKER_DAG, &made->tracker);
    }
    if (status != WEIR_OK) {
        weir_session_destroy(made);
        return status;
    }
    *session = made;
    return WEIR_OK;
}

void weir_session_destroy(weir_session* session) {
    if (!session) {
        return;
    }
    weir_device* device = session->device;
    destroy_pass(device, session->pass);
    weir_tracker_destroy(session->tracker);
    object_free(&device->allocator, session);
    weir_device_reap(device);
}

static weir_status check_operand(const weir_session* session, const char* name, uint32_t index,
                                 const weir_operand* operand) {
    const weir_storage* storage = operand->view.storage;
    if (!storage || storage->device != session->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: operand %u %s", name, index,
                         storage ? "lies on another device" : "has no storage");
    }
    if (operand->kind < WEIR_ACCESS_READ || operand->kind > WEIR_ACCESS_READ_WRITE) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: operand %u has no kind of access", name,
                         index);
    }
    if ((operand->kind & WEIR_ACCESS_WRITE) != 0 && weir_storage_is_sealed(storage)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s: operand %u writes to storage %s, which is sealed", name, index,
                         storage->name);
    }
    const weir_status status = weir_view_check_memory(&operand->view);
    return status == WEIR_OK
               ? WEIR_OK
               : WEIR_FAIL(status, "%s: operand %u: %s", name, index, weir_last_error());
}

// Makes room for everything that one dispatch can add, so that recording cannot fail half-way; one
// more of each, so that lists of none point somewhere too.
static weir_status reserve(weir_session* session, const weir_dispatch_desc* desc) {
    const weir_allocator* allocator = &session->device->allocator;
    device_pass* pass = session->pass;
    const size_t constants_end = (pass->constants.count + 15) / 16 * 16 + desc->constants_size + 1;
    const size_t operands_end = pass->views.count + desc->operand_count + 1;
    const size_t edges_end = pass->edges.count + pass->recorded.count + 1;
    WEIR_TRY(array_reserve(allocator, &pass->recorded, pass->recorded.count + 1));
    WEIR_TRY(array_reserve(allocator, &pass->views, operands_end));
    WEIR_TRY(array_reserve(allocator, &pass->pointers, operands_end));
    WEIR_TRY(
        array_reserve(allocator, &pass->accesses, pass->accesses.count + desc->operand_count + 1));
    WEIR_TRY(array_reserve(allocator, &pass->edges, edges_end));
    return array_reserve(allocator, &pass->constants, constants_end);
}

// Appends the accesses of a dispatch: one for each operand, for which there is room, then the other
// names of their bytes.
static weir_status append_accesses(device_pass* pass, const weir_allocator* allocator,
                                   const weir_dispatch_desc* desc) {
    access_array* accesses = &pass->accesses;
    const size_t begin = accesses->count;
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        const weir_operand* operand = &desc->operands[i];
        accesses->items[accesses->count++] = weir_access_from_view(&operand->view, operand->kind);
    }
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        WEIR_TRY(identity_append_names(desc->operands[i].view.storage, begin + i, accesses));
    }
    return array_reserve(allocator, &pass->touched, pass->touched.count + accesses->count - begin);
}

// Checks the accesses against what is recorded; they become part of the pass when that succeeds.
static weir_status track(weir_session* session, const weir_dispatch_desc* desc,
                         weir_verdict* verdict) {
    access_array* accesses = &session->pass->accesses;
    const size_t begin = accesses->count;
    weir_status status = append_accesses(session->pass, &session->device->allocator, desc);
    if (status == WEIR_OK) {
        const weir_tracker_dispatch declared = {.accesses = accesses->items + begin,
                                                .access_count = (uint32_t)(accesses->count - begin),
                                                .declared = !desc->undeclared};
        status = weir_tracker_record(session->tracker, &declared, verdict);
    }
    if (status != WEIR_OK) {
        accesses->count = begin;
    }
    return status;
}

static void append_operands(device_pass* pass, const weir_dispatch_desc* desc) {
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        const weir_operand* operand = &desc->operands[i];
        const uint64_t byte_length = weir_view_byte_length(&operand->view);
        weir_view_retain(&operand->view);
        pass->views.items[pass->views.count++] = operand->view;
        pass->bytes_read += (operand->kind & WEIR_ACCESS_READ) != 0 ? byte_length : 0;
        pass->bytes_written += (operand->kind & WEIR_ACCESS_WRITE) != 0 ? byte_length : 0;
    }
}

static bool same_access(const weir_access* a, const weir_access* b) {
    bool same = a->range.memory_id == b->range.memory_id &&
                a->range.byte_offset == b->range.byte_offset &&
                a->range.byte_length == b->range.byte_length && a->kind == b->kind &&
                a->range.level_count == b->range.level_count;
    for (uint32_t i = 0; same && i < a->range.level_count; i++) {
        same = a->range.levels[i].count == b->range.levels[i].count &&
               a->range.levels[i].stride == b->range.levels[i].stride;
    }
    return same;
}

// Passes mostly touch the same bytes again and again: what was met lately is not listed twice.
static void touch(weir_session* session, const weir_access* access) {
    device_pass* pass = session->pass;
    const uint64_t place =
        access->range.byte_offset ^ access->range.byte_length << 32 ^ (uint64_t)access->kind << 60;
    uint32_t* recent = &session->recent[place * UINT64_C(0x9E3779B97F4A7C15) >> (64 - RECENT_BITS)];
    // Left over from a pass before, it may name any access of this one.
    if (*recent == 0 || *recent > pass->touched.count ||
        !same_access(&pass->touched.items[*recent - 1], access)) {
        pass->touched.items[pass->touched.count++] = *access;
        *recent = (uint32_t)pass->touched.count;
    }
}

// Nobody writes to constant memory: no pass waits for one that reads it.
static void touch_operands(weir_session* session, const weir_dispatch_desc* desc,
                           size_t access_begin) {
    const access_array* accesses = &session->pass->accesses;
    for (size_t i = access_begin; i < accesses->count; i++) {
        const size_t operand = i - access_begin;
        // Behind the operands come other names, by which somebody may write.
        if (operand >= desc->operand_count || !desc->operands[operand].view.storage->constant) {
            touch(session, &accesses->items[i]);
        }
    }
}

static void append_edges(device_pass* pass, const weir_verdict* verdict, uint32_t* level) {
    uint32_t last = UINT32_MAX;
    for (uint32_t i = 0; i < verdict->hazard_count; i++) {
        const uint32_t earlier = verdict->hazards[i].earlier;
        if (earlier != last) {
            const uint32_t above = pass->recorded.items[earlier].level + 1;
            *level = above > *level ? above : *level;
            pass->edges.items[pass->edges.count++] = earlier;
            last = earlier;
        }
    }
}

static void append(device_pass* pass, const weir_dispatch_desc* desc, const weir_verdict* verdict,
                   size_t access_begin) {
    recorded_dispatch* record = &pass->recorded.items[pass->recorded.count];
    *record = (recorded_dispatch){
        .name = desc->name ? desc->name : "kernel",
        .kernel = desc->kernel,
        .fence = desc->undeclared,
        .tile_count = desc->tile_count > 0 ? desc->tile_count : 1,
        .operand_begin = pass->views.count,
        .operand_count = desc->operand_count,
        .access_begin = access_begin,
        .access_count = pass->accesses.count - access_begin,
        .edge_begin = pass->edges.count,
        .constants_begin = (pass->constants.count + 15) / 16 * 16,
    };
    append_operands(pass, desc);
    append_edges(pass, verdict, &record->level);
    record->edge_count = pass->edges.count - record->edge_begin;
    pass->waits = record->level > pass->waits ? record->level : pass->waits;
    pass->fence |= record->fence;
    if (desc->constants_size > 0) {
        memcpy(pass->constants.items + record->constants_begin, desc->constants,
               desc->constants_size);
        pass->constants.count = record->constants_begin + desc->constants_size;
    }
    pass->recorded.count++;
}

weir_status weir_session_dispatch(weir_session* session, const weir_dispatch_desc* desc,
                                  weir_verdict* verdict) {
    const char* name = desc->name ? desc->name : "kernel";
    if (!desc->kernel) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: no kernel", name);
    }
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        WEIR_TRY(check_operand(session, name, i, &desc->operands[i]));
    }
    WEIR_TRY(reserve(session, desc));
    const size_t access_begin = session->pass->accesses.count;
    weir_verdict found;
    WEIR_TRY(track(session, desc, &found));
    append(session->pass, desc, &found, access_begin);
    touch_operands(session, desc, access_begin);
    if (verdict) {
        *verdict = found;
    }
    return WEIR_OK;
}

// Storage may have been sealed after the recording.
static weir_status check_sealed(const device_pass* pass, const recorded_dispatch* record) {
    for (size_t i = 0; i < record->operand_count; i++) {
        const weir_storage* storage = pass->views.items[record->operand_begin + i].storage;
        const weir_access* access = &pass->accesses.items[record->access_begin + i];
        if ((access->kind & WEIR_ACCESS_WRITE) != 0 && weir_storage_is_sealed(storage)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: operand %zu writes to storage %s, which was sealed since",
                             record->name, i, storage->name);
        }
    }
    return WEIR_OK;
}

// Turns positions into addresses, now that the arrays of the pass no longer move.
static weir_status resolve(const weir_device* device, device_pass* pass) {
    const size_t count = pass->recorded.count;
    WEIR_TRY(array_reserve(&device->allocator, &pass->dispatches, count));
    // Lazy storages take their memory here: before anything is handed to the device.
    for (size_t i = 0; i < pass->views.count; i++) {
        WEIR_TRY(weir_view_resolve(&pass->views.items[i], &pass->pointers.items[i]));
    }
    pass->pointers.count = pass->views.count;
    for (size_t i = 0; i < count; i++) {
        const recorded_dispatch* record = &pass->recorded.items[i];
        WEIR_TRY(check_sealed(pass, record));
        pass->dispatches.items[i] = (device_dispatch){
            .name = record->name,
            .fence = record->fence,
            .run = record->kernel,
            .tile_count = record->tile_count,
            .constants = pass->constants.items + record->constants_begin,
            .views = pass->views.items + record->operand_begin,
            .pointers = pass->pointers.items + record->operand_begin,
            .accesses = pass->accesses.items + record->access_begin,
            .access_count = (uint32_t)record->access_count,
            .operand_count = (uint32_t)record->operand_count,
            .predecessors = pass->edges.items + record->edge_begin,
            .predecessor_count = (uint32_t)record->edge_count,
        };
    }
    pass->dispatches.count = count;
    return WEIR_OK;
}

static weir_status submit(weir_session* session, weir_ticket* ticket) {
    weir_device* device = session->device;
    device_pass* pass = session->pass;
    WEIR_TRY(resolve(device, pass));
    device_work* work = NULL;
    WEIR_TRY(device->vtable->prepare(device, pass->dispatches.items,
                                     (uint32_t)pass->dispatches.count, &work));
    const device_commit commit = {
        .work = work,
        .accesses = pass->touched.items,
        .access_count = (uint32_t)pass->touched.count,
        .fence = pass->fence,
        .timing_count = session->timing ? (uint32_t)pass->dispatches.count : 0,
    };
    const weir_status status = weir_device_submit(device, &commit, ticket);
    if (status != WEIR_OK) {
        work->vtable->destroy(work);
        return status;
    }
    pass->work = work;
    pass->sequence = ticket->sequence;
    pthread_mutex_lock(&device->lock);
    pass->next = device->passes;
    device->passes = pass;
    pthread_mutex_unlock(&device->lock);
    return WEIR_OK;
}

weir_status weir_session_commit(weir_session* session, weir_ticket* ticket) {
    device_pass* pass = session->pass;
    const uint64_t count = pass->recorded.count;
    if (count == 0) {
        *ticket = (weir_ticket){0};
        return WEIR_OK;
    }
    weir_device_reap(session->device);
    device_pass* next = NULL;
    WEIR_TRY(object_new(&session->device->allocator, &next));
    const uint64_t waits = pass->waits;
    const uint64_t bytes_read = pass->bytes_read;
    const uint64_t bytes_written = pass->bytes_written;
    const weir_status status = submit(session, ticket);
    if (status != WEIR_OK) {
        destroy_pass(session->device, next);
        return status;
    }
    session->pass = next; // the device owns the committed one from here on
    weir_tracker_reset(session->tracker);
    session->counters.dispatches += count;
    session->counters.waits += waits;
    session->counters.waits_elided += count - 1 - waits;
    session->counters.submits++;
    session->counters.bytes_read += bytes_read;
    session->counters.bytes_written += bytes_written;
    return WEIR_OK;
}

weir_status weir_session_finish(weir_session* session) {
    weir_ticket ticket;
    WEIR_TRY(weir_session_commit(session, &ticket));
    session->counters.host_waits += ticket.sequence != 0 ? 1 : 0;
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

void weir_session_set_timing(weir_session* session, bool timing) {
    session->timing = timing;
}

const weir_counters* weir_session_counters(const weir_session* session) {
    return &session->counters;
}
