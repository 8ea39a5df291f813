#include "device/arena.h"

#include <string.h>

#include "base/checked.h"

// Bytes of the twin of a block: half of every f32, and an odd number of halves padded by one.
static uint64_t twin_size(uint64_t byte_size) {
    const uint64_t numbers = byte_size / 4 + (byte_size % 4 != 0 ? 1 : 0);
    return (numbers + numbers % 2) * 2;
}

static bool wants_twin(const weir_device* device, const weir_arena_desc* desc) {
    return desc->twin == WEIR_TWIN_ALWAYS ||
           (desc->twin == WEIR_TWIN_NATIVE && device->target.native_f16);
}

static arena_block* find_block(const weir_arena* arena, uint32_t pool, uint32_t block) {
    for (size_t i = 0; i < arena->blocks.count; i++) {
        if (arena->blocks.items[i].pool == pool && arena->blocks.items[i].block == block) {
            return &arena->blocks.items[i];
        }
    }
    return NULL;
}

// Lets the block of an entry reach to the end of it. Blocks are few: each is a storage.
static weir_status extend_block(weir_arena* arena, const weir_allocator* allocator,
                                const weir_plan_entry* entry) {
    uint64_t end = 0;
    if (!add_u64(entry->byte_offset, entry->byte_size, &end)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "an entry of the plan passes 2^64 - 1");
    }
    arena_block* found = find_block(arena, entry->pool, entry->block);
    if (!found) {
        WEIR_TRY(array_reserve(allocator, &arena->blocks, arena->blocks.count + 1));
        size_t at = arena->blocks.count++;
        arena_block* blocks = arena->blocks.items;
        for (; at > 0 &&
               (blocks[at - 1].pool > entry->pool ||
                (blocks[at - 1].pool == entry->pool && blocks[at - 1].block > entry->block));
             at--) {
            blocks[at] = blocks[at - 1];
        }
        blocks[at] = (arena_block){.pool = entry->pool, .block = entry->block};
        found = &blocks[at];
    }
    found->byte_size = end > found->byte_size ? end : found->byte_size;
    return WEIR_OK;
}

// A block of which nothing is used has its place among the others all the same.
static weir_status extend_blocks(weir_arena* arena, const weir_allocator* allocator,
                                 const weir_plan* plan) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    for (uint32_t i = 0; i < count; i++) {
        weir_plan_entry before = {.pool = entries[i].pool};
        if (entries[i].block >= count) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "entry %u of a plan of %u lies in block %u", i,
                             count, entries[i].block);
        }
        for (; before.block < entries[i].block; before.block++) {
            WEIR_TRY(extend_block(arena, allocator, &before));
        }
        WEIR_TRY(extend_block(arena, allocator, &entries[i]));
    }
    return WEIR_OK;
}

static weir_status size_blocks(weir_arena* arena, const weir_allocator* allocator,
                               const weir_arena_desc* desc) {
    WEIR_TRY(desc->plan ? extend_blocks(arena, allocator, desc->plan) : WEIR_OK);
    for (uint32_t i = 0; i < desc->plan_count; i++) {
        WEIR_TRY(extend_blocks(arena, allocator, desc->plans[i]));
    }
    if (arena->blocks.count == 0 || desc->byte_size > 0) {
        const weir_plan_entry least = {.byte_size = desc->byte_size};
        WEIR_TRY(extend_block(arena, allocator, &least));
    }
    return WEIR_OK;
}

// What the caller allows, else what the device has left, where it says so.
static uint64_t find_budget(weir_device* device, const weir_arena_desc* desc) {
    const weir_device_memory memory = device->vtable->memory(device);
    if (desc->byte_budget > 0) {
        return desc->byte_budget;
    }
    if (memory.budget_bytes == 0 || !(desc->device_only || device->budgets_kernels)) {
        return UINT64_MAX;
    }
    return memory.used_bytes < memory.budget_bytes ? memory.budget_bytes - memory.used_bytes : 0;
}

static bool is_large(const weir_device* device, const weir_arena_deficit* figures) {
    const uint64_t limit = device->target.storage_bytes_max;
    return limit > 0 && figures->block_bytes > limit;
}

// Adds up what the arena takes, and what of it there is not.
static weir_status measure(weir_arena* arena, const weir_arena_desc* desc,
                           weir_arena_deficit* result) {
    weir_device* device = arena->device;
    uint64_t limit = find_budget(device, desc);
    weir_arena_deficit figures = {.blocks = (uint32_t)arena->blocks.count,
                                  .available_bytes = limit < UINT64_MAX ? limit : 0};
    for (size_t i = 0; i < arena->blocks.count; i++) {
        const uint64_t byte_size = arena->blocks.items[i].byte_size;
        if (!add_u64(figures.planned_bytes, byte_size, &figures.planned_bytes) ||
            figures.planned_bytes > INT64_MAX) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the blocks of an arena pass 2^63 - 1 bytes");
        }
        figures.twin_bytes += wants_twin(device, desc) ? twin_size(byte_size) : 0;
        figures.block_bytes = byte_size > figures.block_bytes ? byte_size : figures.block_bytes;
    }
    figures.needed_bytes = figures.planned_bytes + figures.twin_bytes;
    arena->byte_size = figures.planned_bytes;
    arena->twin_bytes = figures.twin_bytes;
    uint64_t wanted = figures.needed_bytes;
    if (is_large(device, &figures)) {
        wanted = figures.block_bytes;
        limit = figures.available_bytes = device->target.storage_bytes_max;
    }
    figures.deficit_bytes = wanted > limit ? wanted - limit : 0;
    *result = figures;
    return WEIR_OK;
}

// Compares what the arena takes with what there may be, before anything is allocated.
static weir_status admit(weir_arena* arena, const weir_arena_desc* desc) {
    weir_arena_deficit figures;
    WEIR_TRY(measure(arena, desc, &figures));
    if (desc->deficit) {
        *desc->deficit = figures;
    }
    if (figures.deficit_bytes == 0) {
        return WEIR_OK;
    }
    const bool large = is_large(arena->device, &figures);
    const uint64_t wanted = large ? figures.block_bytes : figures.needed_bytes;
    return WEIR_FAIL(
        large || desc->byte_budget == 0 ? WEIR_DEVICE_OUT_OF_MEMORY : WEIR_OUT_OF_MEMORY,
        "%s of an arena takes %llu bytes of %llu, %llu too many", large ? "a block" : "the whole",
        (unsigned long long)wanted, (unsigned long long)(wanted - figures.deficit_bytes),
        (unsigned long long)figures.deficit_bytes);
}

static weir_status allocate_blocks(weir_arena* arena, const weir_arena_desc* desc) {
    for (size_t i = 0; i < arena->blocks.count; i++) {
        arena_block* block = &arena->blocks.items[i];
        const weir_storage_desc memory = {.byte_size = block->byte_size,
                                          .device_only = desc->device_only,
                                          .for_kernels = true,
                                          .name = desc->name ? desc->name : "arena"};
        WEIR_TRY(weir_storage_allocate(arena->device, &memory, &block->storage));
        if (wants_twin(arena->device, desc)) {
            const weir_storage_desc twin = {.byte_size = twin_size(block->byte_size),
                                            .fill = WEIR_FILL_ZERO, // the padding
                                            .device_only = desc->device_only,
                                            .for_kernels = true,
                                            .name = "f16 twin"};
            WEIR_TRY(weir_storage_allocate(arena->device, &twin, &block->twin));
        }
    }
    return WEIR_OK;
}

static weir_status copy_names(weir_arena* arena, const char* const* names) {
    size_t length = 0;
    for (size_t i = 0; names && i < arena->nodes.count; i++) {
        length += names[i] ? strlen(names[i]) + 1 : 0;
    }
    WEIR_TRY(array_reserve(&arena->device->allocator, &arena->names, length));
    for (size_t i = 0; names && i < arena->nodes.count; i++) {
        if (names[i]) {
            const size_t size = strlen(names[i]) + 1;
            arena->nodes.items[i].name = arena->names.items + arena->names.count;
            memcpy(arena->names.items + arena->names.count, names[i], size);
            arena->names.count += size;
        }
    }
    return WEIR_OK;
}

static weir_status list_nodes(weir_arena* arena, const weir_arena_desc* desc) {
    uint32_t count = 0;
    const weir_plan_entry* entries = desc->plan ? weir_plan_entries(desc->plan, &count) : NULL;
    WEIR_TRY(array_reserve(&arena->device->allocator, &arena->nodes, count));
    for (uint32_t i = 0; i < count; i++) {
        const arena_block* block = find_block(arena, entries[i].pool, entries[i].block);
        const uint64_t extent = desc->extents ? desc->extents[i] : entries[i].byte_size;
        if (extent > entries[i].byte_size) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "the extent of node %u is %llu bytes, its slot has %llu", i,
                             (unsigned long long)extent, (unsigned long long)entries[i].byte_size);
        }
        arena->nodes.items[i] = (arena_node){.block = (uint32_t)(block - arena->blocks.items),
                                             .byte_offset = entries[i].byte_offset,
                                             .slot_bytes = entries[i].byte_size,
                                             .extent = extent,
                                             .byte_length = extent};
    }
    arena->nodes.count = count;
    return copy_names(arena, desc->names);
}

static weir_status fill_in(weir_arena* arena, const weir_arena_desc* desc) {
    if (!desc->plan && desc->byte_size == 0 && desc->names) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "an arena with names and without a plan");
    }
    WEIR_TRY(size_blocks(arena, &arena->device->allocator, desc));
    WEIR_TRY(admit(arena, desc));
    WEIR_TRY(list_nodes(arena, desc));
    return allocate_blocks(arena, desc);
}

weir_status weir_arena_create_with(weir_device* device, const weir_arena_desc* desc,
                                   weir_arena** arena) {
    weir_arena* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    const weir_status status = fill_in(made, desc);
    if (status != WEIR_OK) {
        weir_arena_destroy(made);
        return status;
    }
    *arena = made;
    return WEIR_OK;
}

weir_status weir_arena_measure(const weir_allocator* allocator, weir_device* device,
                               const weir_arena_desc* desc, weir_arena_deficit* figures) {
    weir_arena empty = {.device = device};
    weir_status status = size_blocks(&empty, allocator, desc);
    if (status == WEIR_OK) {
        status = measure(&empty, desc, figures);
    }
    array_free(allocator, &empty.blocks);
    return status;
}

weir_status weir_arena_create(weir_device* device, const weir_plan* plan, weir_arena** arena) {
    return weir_arena_create_with(device, &(weir_arena_desc){.plan = plan}, arena);
}

weir_status weir_arena_create_sized(weir_device* device, uint64_t byte_size, weir_arena** arena) {
    return weir_arena_create_with(device, &(weir_arena_desc){.byte_size = byte_size}, arena);
}

void weir_arena_destroy(weir_arena* arena) {
    if (!arena) {
        return;
    }
    const weir_allocator* allocator = &arena->device->allocator;
    for (size_t i = 0; i < arena->nodes.count; i++) {
        weir_shadow_destroy(arena->nodes.items[i].shadow);
    }
    weir_session_destroy(arena->session);
    for (size_t i = 0; i < arena->blocks.count; i++) {
        weir_storage_release(arena->blocks.items[i].storage);
        weir_storage_release(arena->blocks.items[i].twin);
    }
    array_free(allocator, &arena->blocks);
    array_free(allocator, &arena->nodes);
    array_free(allocator, &arena->names);
    object_free(allocator, arena);
}

uint32_t weir_arena_block_count(const weir_arena* arena) {
    return (uint32_t)arena->blocks.count;
}

weir_storage* weir_arena_block(const weir_arena* arena, uint32_t block) {
    return block < arena->blocks.count ? arena->blocks.items[block].storage : NULL;
}

weir_storage* weir_arena_storage(const weir_arena* arena) {
    return arena->blocks.items[0].storage;
}

uint64_t weir_arena_byte_size(const weir_arena* arena) {
    return arena->byte_size;
}

weir_status weir_arena_whole(const weir_arena* arena, uint32_t block, weir_view* view) {
    if (block >= arena->blocks.count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no block %u, the arena has %zu", block,
                         arena->blocks.count);
    }
    const arena_block* found = &arena->blocks.items[block];
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){(int64_t)found->byte_size});
    return weir_view_make(found->storage, 0, WEIR_DTYPE_U8, &shape, view);
}

// Makes a view that begins at an offset of a storage and needs at most `room` bytes.
static weir_status view_within(weir_storage* storage, uint64_t byte_offset, uint64_t room,
                               uint32_t entry, weir_dtype dtype, const weir_shape* shape,
                               weir_view* view) {
    weir_view layout;
    WEIR_TRY(weir_view_layout(dtype, shape, &layout));
    if (weir_view_byte_span(&layout) > room) {
        char text[512];
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s needs more than the %llu bytes of entry %u",
                         weir_view_format(&layout, text, sizeof text), (unsigned long long)room,
                         entry);
    }
    return weir_view_make(storage, byte_offset, dtype, shape, view);
}

weir_status weir_arena_view(const weir_arena* arena, const weir_plan* plan, uint32_t index,
                            weir_dtype dtype, const weir_shape* shape, weir_view* view) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    if (index >= count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no entry %u, the plan has %u", index, count);
    }
    const weir_plan_entry* entry = &entries[index];
    const arena_block* block = find_block(arena, entry->pool, entry->block);
    if (!block) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "entry %u lies in block %u, the arena has %zu", index,
                         entry->block, arena->blocks.count);
    }
    return view_within(block->storage, entry->byte_offset, entry->byte_size, index, dtype, shape,
                       view);
}

uint32_t weir_arena_node_count(const weir_arena* arena) {
    return (uint32_t)arena->nodes.count;
}

bool weir_arena_has(const weir_arena* arena, uint32_t node) {
    return node < arena->nodes.count;
}

static weir_status check_node(const weir_arena* arena, uint32_t node) {
    return node < arena->nodes.count ? WEIR_OK
                                     : WEIR_FAIL(WEIR_NOT_FOUND, "no node %u, the arena has %zu",
                                                 node, arena->nodes.count);
}

weir_status weir_arena_get(const weir_arena* arena, uint32_t node, weir_arena_node* info) {
    WEIR_TRY(check_node(arena, node));
    const arena_node* found = &arena->nodes.items[node];
    *info = (weir_arena_node){.name = found->name,
                              .block = found->block,
                              .byte_offset = found->byte_offset,
                              .slot_bytes = found->slot_bytes,
                              .byte_length = found->byte_length};
    return WEIR_OK;
}

weir_status weir_arena_find(const weir_arena* arena, const char* name, uint32_t* node) {
    for (uint32_t i = 0; i < arena->nodes.count; i++) {
        if (arena->nodes.items[i].name && strcmp(arena->nodes.items[i].name, name) == 0) {
            *node = i;
            return WEIR_OK;
        }
    }
    return WEIR_FAIL(WEIR_NOT_FOUND, "no node named \"%s\" among %zu", name, arena->nodes.count);
}

static weir_status slot_view(const weir_arena* arena, const arena_node* node, uint64_t byte_offset,
                             uint64_t byte_size, weir_view* view) {
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){(int64_t)byte_size});
    return weir_view_make(arena->blocks.items[node->block].storage, node->byte_offset + byte_offset,
                          WEIR_DTYPE_U8, &shape, view);
}

weir_status weir_arena_bytes(const weir_arena* arena, uint32_t node, uint64_t byte_offset,
                             uint64_t byte_size, weir_view* view) {
    WEIR_TRY(check_node(arena, node));
    const arena_node* found = &arena->nodes.items[node];
    if (byte_offset > found->byte_length || byte_size > found->byte_length - byte_offset) {
        return WEIR_FAIL(
            WEIR_OUT_OF_RANGE, "bytes [%llu, +%llu) pass the end of node %u (%s) at %llu",
            (unsigned long long)byte_offset, (unsigned long long)byte_size, node,
            found->name ? found->name : "no name", (unsigned long long)found->byte_length);
    }
    return slot_view(arena, found, byte_offset, byte_size, view);
}

weir_status weir_arena_set_length(weir_arena* arena, uint32_t node, uint64_t byte_length) {
    WEIR_TRY(check_node(arena, node));
    arena_node* found = &arena->nodes.items[node];
    if (byte_length > found->extent) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "node %u can have %llu bytes, %llu are too many", node,
                         (unsigned long long)found->extent, (unsigned long long)byte_length);
    }
    weir_view slot;
    WEIR_TRY(slot_view(arena, found, 0, found->slot_bytes, &slot));
    bool in_flight = false;
    if (!weir_view_contents(&slot)) { // what the host writes goes through the device: not a pass
        WEIR_TRY(weir_ticket_wait(arena->upload, WEIR_WAIT_FOREVER));
    }
    WEIR_TRY(identity_in_flight(&slot, WEIR_ACCESS_READ_WRITE, &in_flight));
    if (in_flight) {
        return WEIR_FAIL(WEIR_BUSY, "a pass in flight touches node %u", node);
    }
    found->byte_length = byte_length;
    return WEIR_OK;
}

weir_status weir_arena_node_view(const weir_arena* arena, uint32_t node, weir_dtype dtype,
                                 const weir_shape* shape, weir_view* view) {
    WEIR_TRY(check_node(arena, node));
    const arena_node* found = &arena->nodes.items[node];
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    weir_shape whole = {.rank = 1};
    if (!shape) {
        if (info->block_bytes == 0 || found->byte_length % info->block_bytes != 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the %llu bytes of node %u are no whole %s",
                             (unsigned long long)found->byte_length, node, info->name);
        }
        whole.dims[0] = (int64_t)(found->byte_length / info->block_bytes) * info->block_elements;
        shape = &whole;
    }
    return view_within(arena->blocks.items[found->block].storage, found->byte_offset,
                       found->byte_length, node, dtype, shape, view);
}

// The shadow of a node covers the whole slot; the twin keeps it at half the offset.
static weir_status make_shadow(weir_arena* arena, arena_node* node) {
    if (node->slot_bytes < 4) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a slot of %llu bytes has no f32 to shadow",
                         (unsigned long long)node->slot_bytes);
    }
    const arena_block* block = &arena->blocks.items[node->block];
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){(int64_t)(node->slot_bytes / 4)});
    weir_view source;
    WEIR_TRY(weir_view_make(block->storage, node->byte_offset, WEIR_DTYPE_F32, &shape, &source));
    return weir_shadow_create_at(&source, block->twin, node->byte_offset / 2, &node->shadow);
}

weir_status weir_arena_twin_view(weir_arena* arena, uint32_t node, const weir_shape* shape,
                                 weir_view* view) {
    WEIR_TRY(check_node(arena, node));
    arena_node* found = &arena->nodes.items[node];
    weir_storage* twin = arena->blocks.items[found->block].twin;
    if (!twin) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "the arena has no f16 twin");
    }
    weir_view made;
    WEIR_TRY(view_within(twin, found->byte_offset / 2, found->byte_length / 2, node, WEIR_DTYPE_F16,
                         shape, &made));
    if (!found->shadow) {
        WEIR_TRY(make_shadow(arena, found));
    }
    *view = made;
    return WEIR_OK;
}

uint64_t weir_arena_twin_bytes(const weir_arena* arena) {
    return arena->twin_bytes;
}

weir_arena_counters weir_arena_counted(const weir_arena* arena) {
    return arena->counted;
}
