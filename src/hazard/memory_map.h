// The memories that hold open accesses: from a memory id to the trees of its last writers and of
// the readers since. A hash table with an epoch, so that all is forgotten in constant time.
#ifndef WEIR_HAZARD_MEMORY_MAP_H
#define WEIR_HAZARD_MEMORY_MAP_H

#include "hazard/interval_tree.h"

#define MEMORY_NONE UINT32_MAX
#define MEMORY_FEW 4

typedef struct open_memory {
    uint64_t memory_id;
    interval_tree writers;
    interval_tree readers;
    uint32_t unsorted;       // latest of the readers that are in no tree yet, or INTERVAL_NONE
    uint32_t unsorted_count; // of those; all lie in [unsorted_begin, unsorted_end)
    uint64_t unsorted_begin;
    uint64_t unsorted_end;
} open_memory;

// A slot of an older epoch is free.
typedef struct memory_slot {
    uint64_t memory_id;
    uint64_t epoch;
    uint32_t memory;
} memory_slot;

typedef struct memory_map {
    open_memory* items;
    size_t count;
    size_t capacity;
    memory_slot* slots;
    size_t slot_count; // power of two, at least twice the count; 0 at first
    uint64_t epoch;    // from 1
} memory_map;

// Makes room for `count` memories in all.
WEIR_MUST_USE weir_status memory_map_reserve(const weir_allocator* allocator, memory_map* map,
                                             size_t count);

static inline bool memory_map_has_room(const memory_map* map, size_t count) {
    return count <= map->capacity && count * 2 <= map->slot_count;
}

void memory_map_clear(memory_map* map);
void memory_map_free(const weir_allocator* allocator, memory_map* map);

// Returns MEMORY_NONE when the memory has no open access.
uint32_t memory_map_search(const memory_map* map, uint64_t memory_id);

static inline uint32_t memory_map_find(memory_map* map, uint64_t memory_id) {
    // Most often it is one of a few: looking at each is faster than hashing.
    if (map->count <= MEMORY_FEW) {
        for (uint32_t i = 0; i < map->count; ++i) {
            if (map->items[i].memory_id == memory_id) {
                return i;
            }
        }
        return MEMORY_NONE;
    }
    return memory_map_search(map, memory_id);
}

// Returns the memory, made with empty trees when it is new. There must be room.
uint32_t memory_map_open(memory_map* map, uint64_t memory_id);

#endif
