// Inside an arena: what placing nodes and host I/O share.
#ifndef WEIR_DEVICE_ARENA_IMPL_H
#define WEIR_DEVICE_ARENA_IMPL_H

#include <weir/arena.h>
#include <weir/session.h>

#include "device/backend.h"
#include "device/shadow.h"

// Invariants: byte_length <= extent <= slot_bytes, and the slot lies in its block.
typedef struct arena_node {
    uint32_t block;
    uint64_t byte_offset, slot_bytes, extent, byte_length;
    const char* name;    // in arena.names; NULL: none
    weir_shadow* shadow; // of the slot, in the twin; NULL until a view of it is asked for
} arena_node;

// A block of the plan, as the arena has it.
typedef struct arena_block {
    uint32_t pool, block; // of the plan
    uint64_t byte_size;
    weir_storage* storage;
    weir_storage* twin; // NULL: none
} arena_block;

struct weir_arena {
    weir_device* device;
    struct {
        arena_block* items; // by pool and block
        size_t count, capacity;
    } blocks;
    struct {
        arena_node* items;
        size_t count, capacity;
    } nodes;
    struct {
        char* items;
        size_t count, capacity;
    } names;
    uint64_t byte_size; // of all blocks
    uint64_t twin_bytes;
    weir_session* session; // of transfers through the device; NULL until one is needed
    weir_ticket upload;    // the last write through the device
    weir_arena_counters counted;
};

// Finds bytes [byte_offset, + byte_size) of a node.
WEIR_MUST_USE weir_status weir_arena_bytes(const weir_arena* arena, uint32_t node,
                                           uint64_t byte_offset, uint64_t byte_size,
                                           weir_view* view);

#endif
