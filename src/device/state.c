#include <weir/state.h>

#include "base/checked.h"
#include "device/backend.h"

// Least bytes to commit at a time: each commit is a call of the system.
#define STEP_BYTES 65536

typedef struct state_part {
    weir_storage* storage;
} state_part;

// Invariants: row_count * row_bytes <= committed <= slot_stride; slot_stride and committed are
// whole granules of the device. Part i has slots [i * share, (i + 1) * share), the last one what
// is left: none passes the largest storage of the device, and no slot lies in two.
struct weir_state {
    weir_device* device;
    state_part* parts;
    uint32_t part_count;
    uint32_t share; // slots of a storage
    weir_dtype dtype;
    weir_shape shape; // of a slot
    uint64_t row_bytes;
    uint64_t slot_stride;
    uint64_t slot_count;
    uint64_t committed; // bytes from the beginning of each slot
    int64_t row_count;
};

// Where a slot lies.
typedef struct slot_place {
    weir_storage* storage;
    uint64_t byte_offset;
} slot_place;

static slot_place place_of(const weir_state* state, uint64_t slot) {
    return (slot_place){state->parts[slot / state->share].storage,
                        slot % state->share * state->slot_stride};
}

static uint64_t slots_of(const weir_state* state, uint32_t part) {
    const uint64_t begin = (uint64_t)part * state->share;
    return state->slot_count - begin < state->share ? state->slot_count - begin : state->share;
}

static const char* name_of(const weir_state* state) {
    return state->parts[0].storage->name;
}

weir_status weir_reserve_whole(weir_device* device, uint64_t byte_size, const char* name,
                               weir_storage** storage) {
    const weir_storage_desc desc = {.byte_size = byte_size, .name = name, .for_kernels = true};
    return device->vtable->allocate(device, &desc, storage);
}

weir_status weir_commit_nothing(weir_storage* storage, uint64_t begin, uint64_t end) {
    (void)storage;
    (void)begin;
    (void)end;
    return WEIR_OK;
}

void weir_decommit_nothing(weir_storage* storage, uint64_t begin, uint64_t end) {
    (void)storage;
    (void)begin;
    (void)end;
}

weir_status weir_state_check_bytes(const weir_storage* storage, uint64_t begin, uint64_t end) {
    const uint64_t stride = storage->slot_stride;
    const uint64_t there = stride > 0 ? atomic_load(&storage->slot_bytes) : 0;
    if (stride == 0 || begin >= end || there == stride || end <= begin / stride * stride + there) {
        return WEIR_OK;
    }
    return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                     "bytes [%llu, %llu) of %s are not all there: it has grown to %llu of %llu "
                     "bytes of each slot",
                     (unsigned long long)begin, (unsigned long long)end, storage->name,
                     (unsigned long long)there, (unsigned long long)stride);
}

static uint64_t granule_of(const weir_device* device) {
    const uint64_t alignment = device->target.alignment > 0 ? device->target.alignment : 1;
    return device->page_bytes > alignment ? device->page_bytes : alignment;
}

static weir_status shape_slot(const weir_state_desc* desc, weir_state* state) {
    if (desc->row.rank >= WEIR_RANK_MAX || desc->row_count_max <= 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "a state of %lld rows of rank %u; expected at least 1 and less than %d",
                         (long long)desc->row_count_max, desc->row.rank, WEIR_RANK_MAX);
    }
    int64_t row_elements = 0;
    WEIR_TRY(weir_shape_check(&desc->row, &row_elements));
    WEIR_TRY(weir_dtype_byte_size(desc->dtype, row_elements, &state->row_bytes));
    if (state->row_bytes == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a state whose rows have no bytes");
    }
    state->dtype = desc->dtype;
    state->shape.rank = desc->row.rank + 1;
    state->shape.dims[0] = desc->row_count_max;
    for (uint32_t i = 0; i < desc->row.rank; i++) {
        state->shape.dims[i + 1] = desc->row.dims[i];
    }
    weir_view layout;
    return weir_view_layout(state->dtype, &state->shape, &layout); // rows of whole blocks
}

// Finds the bytes of a slot and of all.
static weir_status size_slots(const weir_state_desc* desc, weir_state* state) {
    uint64_t slot_bytes = 0;
    uint64_t byte_size = 0;
    state->slot_count = desc->slot_count > 0 ? desc->slot_count : 1;
    if (!mul_u64(state->row_bytes, (uint64_t)desc->row_count_max, &slot_bytes) ||
        !align_u64(slot_bytes, granule_of(state->device), &state->slot_stride) ||
        !mul_u64(state->slot_stride, state->slot_count, &byte_size) || byte_size > INT64_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a state of %llu slots passes 2^63 - 1 bytes",
                         (unsigned long long)state->slot_count);
    }
    return WEIR_OK;
}

// Shares the slots out to as few storages as the device allows, each about as large.
static weir_status share_slots(const weir_state_desc* desc, weir_state* state) {
    const weir_target* target = &state->device->target;
    const uint64_t limit = target->storage_bytes_max > 0 ? target->storage_bytes_max : UINT64_MAX;
    const uint64_t fit = limit / state->slot_stride;
    if (fit == 0) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                         "a slot of %s takes %llu bytes, the largest storage of %s has %llu",
                         desc->name ? desc->name : "a state",
                         (unsigned long long)state->slot_stride, target->name,
                         (unsigned long long)limit);
    }
    const uint64_t count = (state->slot_count - 1) / fit + 1;
    state->share = (uint32_t)((state->slot_count - 1) / count + 1);
    state->part_count = (uint32_t)((state->slot_count - 1) / state->share + 1);
    return weir_alloc_zeroed(&state->device->allocator, state->part_count * sizeof *state->parts,
                             (void**)&state->parts);
}

static weir_status reserve(const weir_state_desc* desc, weir_state* state) {
    weir_device* device = state->device;
    const char* name = desc->name ? desc->name : "state";
    WEIR_TRY(shape_slot(desc, state));
    WEIR_TRY(size_slots(desc, state));
    WEIR_TRY(share_slots(desc, state));
    for (uint32_t i = 0; i < state->part_count; i++) {
        const uint64_t byte_size = slots_of(state, i) * state->slot_stride;
        WEIR_TRY(device->vtable->reserve(device, byte_size, name, &state->parts[i].storage));
        state->parts[i].storage->slot_stride = state->slot_stride;
        identity_join(state->parts[i].storage);
    }
    return WEIR_OK;
}

weir_status weir_state_create(weir_device* device, const weir_state_desc* desc,
                              weir_state** state) {
    weir_state* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    const weir_status status = reserve(desc, made);
    if (status != WEIR_OK) {
        weir_state_destroy(made);
        return status;
    }
    if (device->page_bytes == 0) { // there from the beginning
        made->committed = made->slot_stride;
    }
    *state = made;
    return WEIR_OK;
}

void weir_state_destroy(weir_state* state) {
    if (!state) {
        return;
    }
    const weir_allocator* allocator = &state->device->allocator;
    for (uint32_t i = 0; state->parts && i < state->part_count; i++) {
        weir_storage_release(state->parts[i].storage);
    }
    weir_free(allocator, state->parts, state->part_count * sizeof *state->parts,
              _Alignof(max_align_t));
    object_free(allocator, state);
}

weir_status weir_state_view(const weir_state* state, uint32_t slot, weir_view* view) {
    if (slot >= state->slot_count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: no slot %u, there are %llu", name_of(state), slot,
                         (unsigned long long)state->slot_count);
    }
    const slot_place place = place_of(state, slot);
    return weir_view_make(place.storage, place.byte_offset, state->dtype, &state->shape, view);
}

weir_status weir_state_rows(const weir_state* state, uint32_t slot, int64_t first, int64_t count,
                            weir_view* view) {
    weir_view whole;
    WEIR_TRY(weir_state_view(state, slot, &whole));
    if (first < 0 || count < 0 || count > state->row_count - first) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: rows [%lld, +%lld), there are %lld",
                         name_of(state), (long long)first, (long long)count,
                         (long long)state->row_count);
    }
    return weir_view_narrow(&whole, 0, first, count, view);
}

// What growth to `row_count` commits in each slot: neither product nor sum can overflow, since the
// whole slot has less than 2^63 bytes.
static uint64_t bytes_ahead(const weir_state* state, int64_t row_count) {
    const uint64_t bytes = (uint64_t)row_count * state->row_bytes;
    const uint64_t eighth = bytes / 8;
    uint64_t wanted = bytes + (eighth > STEP_BYTES ? eighth : STEP_BYTES);
    if (row_count == 0 || !align_u64(wanted, granule_of(state->device), &wanted)) {
        wanted = 0;
    }
    return wanted < state->slot_stride ? wanted : state->slot_stride;
}

static void decommit(weir_state* state, uint64_t slots, uint64_t begin, uint64_t end) {
    for (uint64_t slot = 0; slot < slots; slot++) {
        const slot_place place = place_of(state, slot);
        state->device->vtable->decommit(place.storage, place.byte_offset + begin,
                                        place.byte_offset + end);
    }
}

// Says how many rows there are; with all of them the padding of a slot is, too.
static void set_rows(weir_state* state, int64_t row_count) {
    const bool all = row_count == state->shape.dims[0];
    state->row_count = row_count;
    for (uint32_t i = 0; i < state->part_count; i++) {
        atomic_store(&state->parts[i].storage->slot_bytes,
                     all ? state->slot_stride : (uint64_t)row_count * state->row_bytes);
    }
}

weir_status weir_state_grow(weir_state* state, int64_t row_count) {
    if (row_count > state->shape.dims[0]) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %lld rows, the limit is %lld", name_of(state),
                         (long long)row_count, (long long)state->shape.dims[0]);
    }
    if (row_count <= state->row_count) {
        return WEIR_OK;
    }
    if ((uint64_t)row_count * state->row_bytes > state->committed) {
        const uint64_t end = bytes_ahead(state, row_count);
        for (uint64_t slot = 0; slot < state->slot_count; slot++) {
            const slot_place place = place_of(state, slot);
            const weir_status status = state->device->vtable->commit(
                place.storage, place.byte_offset + state->committed, place.byte_offset + end);
            if (status != WEIR_OK) {
                decommit(state, slot, state->committed, end);
                return status;
            }
        }
        state->committed = end;
    }
    set_rows(state, row_count);
    return WEIR_OK;
}

// Lists bytes [begin, end) of every slot of a storage, by every name.
static weir_status list_bytes(const weir_state* state, uint32_t index, uint64_t begin, uint64_t end,
                              access_array* list) {
    weir_storage* storage = state->parts[index].storage;
    const weir_range_level slots = {.count = slots_of(state, index), .stride = state->slot_stride};
    const size_t position = list->count;
    WEIR_TRY(array_reserve(&state->device->allocator, list, position + 1));
    weir_access* access = &list->items[list->count++];
    access->kind = WEIR_ACCESS_READ_WRITE;
    WEIR_TRY(weir_range_pattern(storage->memory_id, storage->memory_offset + begin, end - begin,
                                &slots, 1, &access->range, NULL));
    return identity_append_names(storage, position, list);
}

// Tells whether a pass in flight touches a row from `row_count` on, of any slot.
static weir_status check_idle(const weir_state* state, int64_t row_count) {
    weir_device* device = state->device;
    const uint64_t begin = (uint64_t)row_count * state->row_bytes;
    const uint64_t end = (uint64_t)state->row_count * state->row_bytes;
    access_array list = {0};
    weir_status status = WEIR_OK;
    if (weir_device_is_idle(device)) {
        return WEIR_OK;
    }
    for (uint32_t i = 0; i < state->part_count && status == WEIR_OK; i++) {
        status = list_bytes(state, i, begin, end, &list);
    }
    const bool busy =
        status == WEIR_OK && weir_device_in_flight(device, list.items, (uint32_t)list.count, NULL);
    array_free(&device->allocator, &list);
    return busy ? WEIR_FAIL(WEIR_BUSY, "%s: a pass in flight touches rows from %lld on",
                            name_of(state), (long long)row_count)
                : status;
}

weir_status weir_state_truncate(weir_state* state, int64_t row_count) {
    if (row_count < 0 || row_count > state->row_count) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: cannot be cut to %lld rows, there are %lld",
                         name_of(state), (long long)row_count, (long long)state->row_count);
    }
    if (row_count == state->row_count) {
        return WEIR_OK;
    }
    WEIR_TRY(check_idle(state, row_count));
    set_rows(state, row_count); // before their memory goes: commits are refused from now on
    const uint64_t kept = bytes_ahead(state, row_count);
    if (state->device->page_bytes > 0 && kept < state->committed) {
        decommit(state, state->slot_count, kept, state->committed);
        state->committed = kept;
    }
    return WEIR_OK;
}

uint32_t weir_state_storage_count(const weir_state* state) {
    return state->part_count;
}

weir_storage* weir_state_storage(const weir_state* state, uint32_t slot) {
    return slot < state->slot_count ? place_of(state, slot).storage : NULL;
}

int64_t weir_state_row_count(const weir_state* state) {
    return state->row_count;
}

uint64_t weir_state_committed_bytes(const weir_state* state) {
    return state->committed * state->slot_count;
}

uint64_t weir_state_reserved_bytes(const weir_state* state) {
    return state->slot_stride * state->slot_count;
}
