// Host I/O of arenas. Where the host reaches the memory and nothing in flight is in the way, bytes
// are copied between source and place and nowhere else. Otherwise they take part in the order of
// passes: as an upload, or by waiting for those who write what is to be read.
#include "device/arena.h"

#include <string.h>

static weir_status need_session(weir_arena* arena) {
    return arena->session ? WEIR_OK : weir_session_create(arena->device, &arena->session);
}

// A recording that did not come to its commit must not be part of the next one.
static void drop_session(weir_arena* arena) {
    weir_session_destroy(arena->session);
    arena->session = NULL;
}

static weir_status stage_write(weir_arena* arena, const weir_view* view, const void* bytes) {
    const size_t byte_size = (size_t)view->shape.dims[0];
    WEIR_TRY(need_session(arena));
    weir_status status = weir_session_upload(arena->session, bytes, byte_size, view);
    if (status == WEIR_OK) {
        status = weir_session_commit(arena->session, &arena->upload);
    }
    if (status != WEIR_OK) {
        drop_session(arena);
        return status;
    }
    arena->counted.staged_bytes += byte_size;
    return WEIR_OK;
}

// Writes u8 bytes of a block. `direct` tells how; a commit marks shadows by itself, else all but
// `except` are marked.
static weir_status put_bytes(weir_arena* arena, const weir_view* view, const void* bytes,
                             const weir_shadow* except, bool* direct) {
    void* place = weir_view_contents(view);
    bool in_flight = false;
    WEIR_TRY(identity_in_flight(view, WEIR_ACCESS_WRITE, &in_flight));
    *direct = place && !in_flight;
    if (!*direct) {
        return stage_write(arena, view, bytes);
    }
    WEIR_TRY(weir_shadow_note(view, except));
    memcpy(place, bytes, (size_t)view->shape.dims[0]);
    arena->counted.direct_bytes += (uint64_t)view->shape.dims[0];
    return WEIR_OK;
}

weir_status weir_arena_write_bytes(weir_arena* arena, uint32_t node, uint64_t byte_offset,
                                   const void* bytes, uint64_t byte_size) {
    weir_view view;
    WEIR_TRY(weir_arena_bytes(arena, node, byte_offset, byte_size, &view));
    bool direct = false;
    return byte_size > 0 ? put_bytes(arena, &view, bytes, NULL, &direct) : WEIR_OK;
}

static weir_status element_range(weir_dtype dtype, int64_t first, int64_t count,
                                 uint64_t* byte_offset, uint64_t* byte_size) {
    if (first < 0 || count < 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "elements [%lld, +%lld)", (long long)first,
                         (long long)count);
    }
    WEIR_TRY(weir_dtype_byte_size(dtype, first, byte_offset));
    return weir_dtype_byte_size(dtype, count, byte_size);
}

weir_status weir_arena_write(weir_arena* arena, uint32_t node, weir_dtype dtype, int64_t first,
                             const void* elements, int64_t count) {
    uint64_t byte_offset = 0;
    uint64_t byte_size = 0;
    weir_view view;
    bool direct = false;
    WEIR_TRY(element_range(dtype, first, count, &byte_offset, &byte_size));
    WEIR_TRY(weir_arena_bytes(arena, node, byte_offset, byte_size, &view));
    if (byte_size == 0) {
        return WEIR_OK;
    }
    weir_shadow* shadow = dtype == WEIR_DTYPE_F32 ? arena->nodes.items[node].shadow : NULL;
    WEIR_TRY(put_bytes(arena, &view, elements, shadow, &direct));
    if (shadow && direct) {
        weir_shadow_follow(shadow, elements, (size_t)first, (size_t)count);
    }
    return WEIR_OK;
}

static weir_status range_view(const weir_arena* arena, const weir_arena_range* range,
                              weir_view* view) {
    return weir_arena_bytes(arena, range->node, range->byte_offset, range->byte_size, view);
}

static weir_status list_ranges(const weir_arena* arena, const weir_arena_range* ranges,
                               uint32_t count, access_array* list) {
    for (uint32_t i = 0; i < count; i++) {
        weir_view view;
        WEIR_TRY(range_view(arena, &ranges[i], &view));
        WEIR_TRY(array_reserve(&arena->device->allocator, list, list->count + 1));
        list->items[list->count++] = weir_access_from_view(&view, WEIR_ACCESS_READ);
        WEIR_TRY(identity_append_names(view.storage, list->count - 1, list));
    }
    return WEIR_OK;
}

// Waits for whoever writes one of the ranges, for all of them in one wait.
static weir_status wait_for_ranges(weir_arena* arena, const weir_arena_range* ranges,
                                   uint32_t count) {
    if (weir_device_is_idle(arena->device)) {
        return weir_device_check_lost(arena->device);
    }
    access_array list = {0};
    weir_status status = list_ranges(arena, ranges, count, &list);
    if (status == WEIR_OK) {
        const uint32_t listed = (uint32_t)list.count;
        arena->counted.host_waits +=
            weir_device_in_flight(arena->device, list.items, listed, NULL) ? 1 : 0;
        status = weir_device_wait_for(arena->device, list.items, listed);
    }
    array_free(&arena->device->allocator, &list);
    return status;
}

// Lets the device copy ranges that the host cannot reach: one submit and one wait.
static weir_status read_staged(weir_arena* arena, const weir_arena_range* ranges, uint32_t count) {
    uint64_t byte_size = 0;
    WEIR_TRY(need_session(arena));
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < count && status == WEIR_OK; i++) {
        weir_view view;
        status = range_view(arena, &ranges[i], &view);
        if (status == WEIR_OK && ranges[i].byte_size > 0) {
            status = weir_session_download(arena->session, &view, ranges[i].bytes,
                                           (size_t)ranges[i].byte_size);
            byte_size += ranges[i].byte_size;
        }
    }
    if (status != WEIR_OK) {
        drop_session(arena);
        return status;
    }
    arena->counted.host_waits++;
    status = weir_session_finish(arena->session);
    if (status != WEIR_OK) {
        drop_session(arena);
        return status;
    }
    arena->counted.staged_bytes += byte_size;
    return WEIR_OK;
}

weir_status weir_arena_read_many(weir_arena* arena, const weir_arena_range* ranges,
                                 uint32_t count) {
    weir_view view;
    bool reachable = true; // of several blocks each may lie elsewhere
    for (uint32_t i = 0; i < count; i++) {
        WEIR_TRY(range_view(arena, &ranges[i], &view));
        reachable = reachable && weir_view_contents(&view);
    }
    if (!reachable) {
        return read_staged(arena, ranges, count);
    }
    WEIR_TRY(wait_for_ranges(arena, ranges, count));
    for (uint32_t i = 0; i < count; i++) {
        WEIR_TRY(range_view(arena, &ranges[i], &view));
        if (ranges[i].byte_size > 0) {
            memcpy(ranges[i].bytes, weir_view_contents(&view), (size_t)ranges[i].byte_size);
            arena->counted.direct_bytes += ranges[i].byte_size;
        }
    }
    return WEIR_OK;
}

weir_status weir_arena_read_bytes(weir_arena* arena, uint32_t node, uint64_t byte_offset,
                                  void* bytes, uint64_t byte_size) {
    const weir_arena_range range = {
        .node = node, .byte_offset = byte_offset, .byte_size = byte_size, .bytes = bytes};
    return weir_arena_read_many(arena, &range, 1);
}

weir_status weir_arena_read(weir_arena* arena, uint32_t node, weir_dtype dtype, int64_t first,
                            void* elements, int64_t count) {
    uint64_t byte_offset = 0;
    uint64_t byte_size = 0;
    WEIR_TRY(element_range(dtype, first, count, &byte_offset, &byte_size));
    return weir_arena_read_bytes(arena, node, byte_offset, elements, byte_size);
}
