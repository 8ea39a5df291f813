#include <weir/session.h>

#include <string.h>

#include "device/residency.h"
#include "device/session_pass.h"
#include "device/session_record.h"
#include "tensor/view_check.h"

#define RECENT_BITS 6

struct weir_session {
    weir_device* device;
    weir_tracker* tracker;
    device_pass* pass; // what is recorded and not committed
    bool timing;
    uint32_t recent[1u << RECENT_BITS]; // places among the touched, from 1, found by the range
    weir_counters counters;
};

weir_status weir_session_create(weir_device* device, weir_session** session) {
    weir_session* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    weir_status status = session_pass_create(device, &made->pass);
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
    weir_residency_roll_back(device, session);
    session_pass_destroy(device, session->pass);
    weir_tracker_destroy(session->tracker);
    object_free(&device->allocator, session);
    weir_device_reap(device);
}

void weir_session_reset(weir_session* session) {
    weir_device* device = session->device;
    weir_residency_roll_back(device, session);
    session_pass_empty(device, session->pass);
    weir_tracker_reset(session->tracker);
    weir_device_reap(device);
}

weir_status weir_session_check(const weir_session* session, const char* name, uint32_t index,
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
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "%s: operand %u: %s", name, index, weir_last_error());
    }
    if ((operand->kind & WEIR_ACCESS_WRITE) != 0 && weir_view_repeats(&operand->view)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s: operand %u writes to a view of %s whose indices share bytes", name,
                         index, storage->name);
    }
    return WEIR_OK;
}

// Makes room for everything that one dispatch can add, so that recording cannot fail half-way; one
// more of each, so that lists of none point somewhere too.
static weir_status reserve(weir_session* session, const weir_dispatch_desc* desc) {
    const weir_allocator* allocator = &session->device->allocator;
    device_pass* pass = session->pass;
    const size_t operands_end = pass->views.count + desc->operand_count + 1;
    const size_t accesses_end = pass->accesses.count + desc->operand_count + 1;
    const size_t edges_end = pass->edges.count + pass->recorded.count + 1;
    WEIR_TRY(array_reserve(allocator, &pass->recorded, pass->recorded.count + 1));
    WEIR_TRY(array_reserve(allocator, &pass->views, operands_end));
    WEIR_TRY(array_reserve(allocator, &pass->pointers, operands_end));
    WEIR_TRY(array_reserve(allocator, &pass->accesses, accesses_end));
    return array_reserve(allocator, &pass->edges, edges_end);
}

// Appends the accesses of a dispatch: one for each operand and for the host, for which there is
// room, then the other names of their bytes.
static weir_status append_accesses(device_pass* pass, weir_device* device,
                                   const session_record* record) {
    const weir_dispatch_desc* desc = &record->desc;
    access_array* accesses = &pass->accesses;
    const size_t begin = accesses->count;
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        const weir_operand* operand = &desc->operands[i];
        const weir_storage* storage = operand->view.storage;
        bool widened = false;
        accesses->items[accesses->count++] =
            (weir_access){.range = weir_range_from_view(&operand->view, storage->memory_id,
                                                        storage->memory_offset, &widened),
                          .kind = operand->kind};
        pass->ranges_widened += widened;
    }
    if (record->host) {
        accesses->items[accesses->count++] = *record->host;
    }
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        weir_storage* storage = desc->operands[i].view.storage;
        WEIR_TRY(identity_append_names(storage, begin + i, accesses));
        if (storage->constant) { // by this name: by another somebody may write
            accesses->items[begin + i].kind = WEIR_ACCESS_CONSTANT;
        }
    }
    if (record->host) {
        WEIR_TRY(identity_append_host_names(device, begin + desc->operand_count, accesses));
    }
    return array_reserve(&device->allocator, &pass->touched,
                         pass->touched.count + accesses->count - begin);
}

// Checks the accesses against what is recorded; they become part of the pass when that succeeds.
static weir_status track(weir_session* session, const session_record* record,
                         weir_verdict* verdict) {
    access_array* accesses = &session->pass->accesses;
    const size_t begin = accesses->count;
    const uint64_t widened = session->pass->ranges_widened;
    weir_status status = append_accesses(session->pass, session->device, record);
    if (status == WEIR_OK) {
        const weir_tracker_dispatch declared = {.accesses = accesses->items + begin,
                                                .access_count = (uint32_t)(accesses->count - begin),
                                                .declared = !record->desc.undeclared};
        status = weir_tracker_record(session->tracker, &declared, verdict);
    }
    if (status != WEIR_OK) {
        accesses->count = begin;
        session->pass->ranges_widened = widened;
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
static void touch_all(weir_session* session, const recorded_dispatch* added) {
    const weir_access* accesses = session->pass->accesses.items + added->access_begin;
    for (uint32_t i = 0; i < added->access_count; i++) {
        if (accesses[i].kind != WEIR_ACCESS_CONSTANT) {
            touch(session, &accesses[i]);
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

// The accesses, from `access_begin` on, are part of the pass already.
static void append(weir_session* session, const session_record* record, const void* constants,
                   const weir_verdict* verdict, size_t access_begin) {
    device_pass* pass = session->pass;
    const weir_dispatch_desc* desc = &record->desc;
    recorded_dispatch* added = &pass->recorded.items[pass->recorded.count];
    *added = (recorded_dispatch){
        .name = desc->name,
        .kind = record->kind,
        .fence = desc->undeclared,
        .kernel = desc->kernel,
        .code = desc->code ? *desc->code : (weir_kernel_code){0},
        .constants = constants,
        .constants_size = desc->constants_size,
        .tile_count = desc->tile_count > 0 ? desc->tile_count : 1,
        .operand_begin = pass->views.count,
        .operand_count = desc->operand_count,
        .access_begin = access_begin,
        .access_count = (uint32_t)(pass->accesses.count - access_begin),
        .edge_begin = pass->edges.count,
    };
    append_operands(pass, desc);
    append_edges(pass, verdict, &added->level);
    added->edge_count = (uint32_t)(pass->edges.count - added->edge_begin);
    pass->waits = added->level > pass->waits ? added->level : pass->waits;
    pass->fence |= added->fence;
    touch_all(session, added);
    pass->recorded.count++;
}

weir_status weir_session_keep(weir_session* session, const void* bytes, size_t byte_size,
                              void** kept) {
    WEIR_TRY(session_pass_bytes(session->device, session->pass, byte_size, kept));
    if (byte_size > 0) {
        memcpy(*kept, bytes, byte_size);
    }
    return WEIR_OK;
}

weir_status weir_session_record(weir_session* session, const session_record* record,
                                weir_verdict* verdict) {
    const weir_dispatch_desc* desc = &record->desc;
    void* constants = NULL;
    for (uint32_t i = 0; i < desc->operand_count; i++) {
        WEIR_TRY(weir_session_check(session, desc->name, i, &desc->operands[i]));
    }
    WEIR_TRY(reserve(session, desc));
    WEIR_TRY(weir_session_keep(session, desc->constants, desc->constants_size, &constants));
    const size_t access_begin = session->pass->accesses.count;
    weir_verdict found;
    WEIR_TRY(track(session, record, &found));
    append(session, record, constants, &found, access_begin);
    if (verdict) {
        *verdict = found;
    }
    return WEIR_OK;
}

weir_status weir_session_dispatch(weir_session* session, const weir_dispatch_desc* desc,
                                  weir_verdict* verdict) {
    session_record record = {.desc = *desc, .kind = DEVICE_KERNEL};
    record.desc.name = desc->name ? desc->name : "kernel";
    if (!desc->kernel && !desc->code) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: no kernel", record.desc.name);
    }
    if ((desc->operand_count > 0 && !desc->operands) ||
        (desc->constants_size > 0 && !desc->constants)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %s at NULL", record.desc.name,
                         desc->operands || desc->operand_count == 0 ? "constants" : "operands");
    }
    if (desc->code && (!desc->code->words || desc->code->byte_size == 0)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: code without words", record.desc.name);
    }
    if (session->device->runs_code ? !desc->code : !desc->kernel) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: device %s runs %s", record.desc.name,
                         session->device->target.name,
                         desc->code ? "functions of the host, not code"
                                    : "code, not functions of the host");
    }
    return weir_session_record(session, &record, verdict);
}

static weir_status submit(weir_session* session, bool attended, weir_ticket* ticket) {
    weir_device* device = session->device;
    device_pass* pass = session->pass;
    WEIR_TRY(session_pass_resolve(device, pass));
    device_work* work = NULL;
    WEIR_TRY(device->vtable->prepare(device, pass->dispatches.items,
                                     (uint32_t)pass->dispatches.count, &work));
    weir_residency_commit(device, pass->views.items, pass->views.count, session);
    const device_commit commit = {
        .work = work,
        .accesses = pass->touched.items,
        .access_count = (uint32_t)pass->touched.count,
        .fence = pass->fence,
        .timing_count = session->timing ? (uint32_t)pass->dispatches.count : 0,
        .attended = attended,
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

static weir_status commit(weir_session* session, bool attended, weir_ticket* ticket) {
    device_pass* pass = session->pass;
    const uint64_t count = pass->recorded.count;
    if (count == 0) {
        *ticket = (weir_ticket){0};
        return WEIR_OK;
    }
    weir_device_reap(session->device);
    device_pass* next = NULL;
    WEIR_TRY(session_pass_create(session->device, &next));
    const uint64_t waits = pass->waits;
    const uint64_t bytes_read = pass->bytes_read;
    const uint64_t bytes_written = pass->bytes_written;
    const uint64_t ranges_widened = pass->ranges_widened;
    const weir_status status = submit(session, attended, ticket);
    if (status != WEIR_OK) {
        session_pass_destroy(session->device, next);
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
    session->counters.ranges_widened += ranges_widened;
    return WEIR_OK;
}

weir_status weir_session_commit(weir_session* session, weir_ticket* ticket) {
    return commit(session, false, ticket);
}

weir_status weir_session_finish(weir_session* session) {
    weir_ticket ticket;
    WEIR_TRY(commit(session, true, &ticket));
    session->counters.host_waits += ticket.sequence != 0 ? 1 : 0;
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

void weir_session_set_timing(weir_session* session, bool timing) {
    session->timing = timing;
}

const weir_counters* weir_session_counters(const weir_session* session) {
    return &session->counters;
}
