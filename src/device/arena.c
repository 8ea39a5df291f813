#include <weir/arena.h>

#include "device/backend.h"

struct weir_arena {
    weir_device* device;
    weir_storage* storage;
};

weir_status weir_arena_create_sized(weir_device* device, uint64_t byte_size, weir_arena** arena) {
    weir_arena* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    const weir_storage_desc desc = {.byte_size = byte_size, .name = "arena"};
    const weir_status status = weir_storage_allocate(device, &desc, &made->storage);
    if (status != WEIR_OK) {
        weir_arena_destroy(made);
        return status;
    }
    *arena = made;
    return WEIR_OK;
}

weir_status weir_arena_create(weir_device* device, const weir_plan* plan, weir_arena** arena) {
    return weir_arena_create_sized(device, weir_plan_result_of(plan)->peak, arena);
}

void weir_arena_destroy(weir_arena* arena) {
    if (arena) {
        weir_storage_release(arena->storage);
        object_free(&arena->device->allocator, arena);
    }
}

weir_storage* weir_arena_storage(const weir_arena* arena) {
    return arena->storage;
}

uint64_t weir_arena_byte_size(const weir_arena* arena) {
    return weir_storage_byte_size(arena->storage);
}

weir_status weir_arena_view(const weir_arena* arena, const weir_plan* plan, uint32_t index,
                            weir_dtype dtype, const weir_shape* shape, weir_view* view) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    if (index >= count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no entry %u, the plan has %u", index, count);
    }
    weir_view layout;
    WEIR_TRY(weir_view_layout(dtype, shape, &layout));
    if (weir_view_byte_span(&layout) > entries[index].byte_size) {
        char text[128];
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s needs more than the %llu bytes of entry %u",
                         weir_view_format(&layout, text, sizeof text),
                         (unsigned long long)entries[index].byte_size, index);
    }
    return weir_view_make(arena->storage, entries[index].byte_offset, dtype, shape, view);
}
