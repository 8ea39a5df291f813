#include "hazard/memory_map.h"

#include "base/array.h"

// The slot of a memory, or the free one where it belongs: linear probing.
static memory_slot* find_slot(const memory_map* map, uint64_t memory_id) {
    const size_t mask = map->slot_count - 1;
    // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits are well mixed.
    size_t index = (size_t)((memory_id * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (map->slots[index].epoch == map->epoch && map->slots[index].memory_id != memory_id) {
        index = (index + 1) & mask;
    }
    return &map->slots[index];
}

weir_status memory_map_reserve(const weir_allocator* allocator, memory_map* map, size_t count) {
    WEIR_TRY(array_reserve(allocator, map, count));
    if (count * 2 <= map->slot_count) {
        return WEIR_OK;
    }
    size_t slot_count = map->slot_count < 16 ? 16 : map->slot_count;
    while (slot_count < count * 2) {
        slot_count *= 2;
    }
    memory_slot* slots = NULL;
    WEIR_TRY(weir_alloc_zeroed(allocator, slot_count * sizeof *slots, (void**)&slots));
    // Slots of older epochs stay behind; those of this one keep their memories.
    memory_slot* old = map->slots;
    const size_t old_count = map->slot_count;
    map->slots = slots;
    map->slot_count = slot_count;
    for (size_t i = 0; i < old_count; ++i) {
        if (old[i].epoch == map->epoch) {
            *find_slot(map, old[i].memory_id) = old[i];
        }
    }
    weir_free(allocator, old, old_count * sizeof *old, _Alignof(max_align_t));
    return WEIR_OK;
}

void memory_map_clear(memory_map* map) {
    ++map->epoch;
    map->count = 0;
}

void memory_map_free(const weir_allocator* allocator, memory_map* map) {
    weir_free(allocator, map->slots, map->slot_count * sizeof *map->slots, _Alignof(max_align_t));
    map->slots = NULL;
    map->slot_count = 0;
    array_free(allocator, map);
}

uint32_t memory_map_search(const memory_map* map, uint64_t memory_id) {
    if (map->slot_count == 0) {
        return MEMORY_NONE;
    }
    const memory_slot* slot = find_slot(map, memory_id);
    return slot->epoch == map->epoch ? slot->memory : MEMORY_NONE;
}

uint32_t memory_map_open(memory_map* map, uint64_t memory_id) {
    const uint32_t known = memory_map_find(map, memory_id);
    if (known != MEMORY_NONE) {
        return known;
    }
    const uint32_t memory = (uint32_t)map->count++;
    open_memory* opened = &map->items[memory];
    opened->memory_id = memory_id;
    interval_tree_init(&opened->writers);
    interval_tree_init(&opened->readers);
    opened->unsorted = INTERVAL_NONE;
    opened->unsorted_count = 0;
    opened->unsorted_begin = UINT64_MAX;
    opened->unsorted_end = 0;
    *find_slot(map, memory_id) =
        (memory_slot){.memory_id = memory_id, .epoch = map->epoch, .memory = memory};
    return memory;
}
