// Arenas: planned memory, alive as long as the programs that share it.
//
// Placing a value is arithmetic, never an allocation: the arena is as large as the largest of its
// plans and a value lies where its plan says. Programs that never run together share one arena.
// Where a device caps the size of a storage the plan has several blocks, and so has the arena: one
// storage each, as large as the largest of its plans makes it, and no value crosses from one into
// the next.
//
// An arena made from a plan knows its nodes, the buffers of the plan by their numbers. A node has a
// slot, the bytes that the plan gave it, and a length, the bytes of it that count: at first all.
// The length bounds what the host reads and writes and the views that kernels get.
//
//     block 0  |..[node 0 =======~~~~]..[node 1 ====]..|     = length   ~ rest of the slot
//     block 1  |..[node 2 ====]........................|
//
// Host I/O is ordered with passes by what both touch: passes committed later see the bytes written,
// those committed before do not, and the source may be reused at once. Nothing is staged where the
// host reaches the memory and no pass in flight touches it.
//
//     weir_arena_create(device, plan, &arena);
//     weir_arena_write(arena, 2, WEIR_DTYPE_F32, 0, numbers, 100);
//     weir_arena_node_view(arena, 2, WEIR_DTYPE_F32, &shape, &view);
#ifndef WEIR_ARENA_H
#define WEIR_ARENA_H

#include <weir/plan.h>
#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_arena weir_arena;

// What an arena would take, and what of it is missing.
typedef struct weir_arena_deficit {
    uint64_t needed_bytes;    // = planned_bytes + twin_bytes
    uint64_t planned_bytes;   // of all blocks
    uint64_t twin_bytes;      // of the f16 twin
    uint64_t available_bytes; // the budget; for a block that the device cannot have, its limit;
                              // 0: nobody says
    uint64_t deficit_bytes;   // more than is available; 0: it fits
    uint64_t block_bytes;     // of the largest block
    uint32_t blocks;
} weir_arena_deficit;

// Whether an arena has a twin of 16-bit floats: half its size, with the f16 value of the f32 at
// byte b at byte b / 2. The part of a node is filled before the first pass that reads it; from then
// on weir_arena_write writes both. See weir/shadow.h.
typedef enum weir_twin {
    WEIR_TWIN_NONE = 0,
    WEIR_TWIN_NATIVE = 1, // where the device computes on 16-bit floats
    WEIR_TWIN_ALWAYS = 2, // also where that only saves bytes and changes bits
} weir_twin;

typedef struct weir_arena_desc {
    const weir_plan* plan;         // whose buffers are nodes; NULL: none are
    uint64_t byte_size;            // least size of block 0
    const weir_plan* const* plans; // that fit, too: those of programs which share the arena
    uint32_t plan_count;
    const char* const* names; // of the nodes; copied; NULL, or NULL for some: no name
    const uint64_t* extents;  // of the nodes: most bytes that recorded work touches, at most the
                              // slot; NULL: all slots
    weir_twin twin;
    bool device_only;            // no host pointer: host I/O goes through the device
    uint64_t byte_budget;        // 0 = what the device has left, where it knows
    weir_arena_deficit* deficit; // receives the figures, also on failure; may be NULL
    const char* name;            // for messages; copied (31 bytes); NULL = "arena"
} weir_arena_desc;

// Allocates the blocks of an arena, where kernels are fastest: the host has pointers only where it
// maps that memory. The budget and the limits of the device are checked before the first
// allocation.
//
// Ownership: the caller destroys it; the plan is not kept.
// Errors:    WEIR_OUT_OF_MEMORY over the budget, or the system has no more;
//            WEIR_DEVICE_OUT_OF_MEMORY a block is larger than the device allows, or all of them
//            than what it has left (weir_device_memory_now);
//            WEIR_INVALID_ARGUMENT no plan and no size, a plan with several pools, an extent larger
//            than its slot, a name given twice.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_create_with(weir_device* device,
                                                          const weir_arena_desc* desc,
                                                          weir_arena** arena);

// Allocates an arena that fits every entry of `plan`; the nodes have no names.
//
// Ownership: the caller destroys it; the plan is not kept.
// Errors:    as weir_arena_create_with.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_create(weir_device* device, const weir_plan* plan,
                                                     weir_arena** arena);

// Computes what an arena would take, without taking it: the figures of weir_arena_desc.deficit. The
// allocator is for the call; NULL is the default one.
//
// Errors:  WEIR_OUT_OF_RANGE sizes; WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT as
//          weir_arena_create_with. That it does not fit is none.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_measure(const weir_allocator* allocator,
                                                      weir_device* device,
                                                      const weir_arena_desc* desc,
                                                      weir_arena_deficit* figures);

// Allocates one storage of `byte_size` bytes, for several plans of one block.
//
// Ownership: the caller destroys it.
// Errors:    as weir_arena_create_with.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_create_sized(weir_device* device, uint64_t byte_size,
                                                           weir_arena** arena);

// Drops the arena's references to its storages; NULL is a no-op. Programs that use it keep theirs.
//
// Threads: thread-compatible.
WEIR_API void weir_arena_destroy(weir_arena* arena);

// Return the number of blocks, the storage of a block (borrowed; NULL: no such block) and of block
// 0, and the bytes of all blocks, without the twin.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_arena_block_count(const weir_arena* arena);
WEIR_API weir_storage* weir_arena_block(const weir_arena* arena, uint32_t block);
WEIR_API weir_storage* weir_arena_storage(const weir_arena* arena);
WEIR_API uint64_t weir_arena_byte_size(const weir_arena* arena);

// Makes a view of all bytes of a block, u8 [bytes]: one binding for every kernel, in which offsets
// tell the nodes apart.
//
// Ownership: the view borrows the arena's storage.
// Errors:    WEIR_NOT_FOUND no such block.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_whole(const weir_arena* arena, uint32_t block,
                                                    weir_view* view);

// Makes a view of entry `index` of `plan`.
//
// Ownership: the view borrows the arena's storage.
// Errors:    WEIR_NOT_FOUND no such entry or block; WEIR_OUT_OF_RANGE the shape needs more than the
//            entry has; WEIR_INVALID_ARGUMENT shape or alignment.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_view(const weir_arena* arena, const weir_plan* plan,
                                                   uint32_t index, weir_dtype dtype,
                                                   const weir_shape* shape, weir_view* view);

typedef struct weir_arena_node {
    const char* name;     // belongs to the arena; NULL: none
    uint32_t block;       // where it lies
    uint64_t byte_offset; // within the block
    uint64_t slot_bytes;  // that the plan gave it
    uint64_t byte_length; // that count; at most slot_bytes
} weir_arena_node;

// Returns the number of nodes; 0 for an arena without a plan. They are numbered from 0.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_arena_node_count(const weir_arena* arena);

// Tells whether there is a node of this number.
//
// Threads: thread-safe.
WEIR_API bool weir_arena_has(const weir_arena* arena, uint32_t node);

// Finds a node by number, or the number of a node by name.
//
// Errors:  WEIR_NOT_FOUND.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_get(const weir_arena* arena, uint32_t node,
                                                  weir_arena_node* info);
WEIR_API WEIR_MUST_USE weir_status weir_arena_find(const weir_arena* arena, const char* name,
                                                   uint32_t* node);

// Sets the length of a node, between passes. Where the host writes through the device, it waits for
// what it wrote.
//
// Errors:  WEIR_NOT_FOUND; WEIR_OUT_OF_RANGE longer than the slot or the extent that was recorded;
//          WEIR_BUSY a pass in flight touches the slot.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_set_length(weir_arena* arena, uint32_t node,
                                                         uint64_t byte_length);

// Makes a view of a node; without a shape (NULL) one of its whole length, [elements].
//
// Ownership: the view borrows the arena's storage.
// Errors:    WEIR_NOT_FOUND; WEIR_OUT_OF_RANGE the shape needs more than the length of the node;
//            WEIR_INVALID_ARGUMENT shape, alignment, or a length of no whole elements.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_node_view(const weir_arena* arena, uint32_t node,
                                                        weir_dtype dtype, const weir_shape* shape,
                                                        weir_view* view);

// Makes a view of the f16 twin of a node, of `shape`: what a program binds in place of the f32
// node. It is never stale: the part that others wrote since is converted before a pass reads it.
//
// Ownership: the view borrows the arena's twin.
// Errors:    WEIR_NOT_FOUND no such node, or the arena has no twin; WEIR_OUT_OF_RANGE the shape
//            needs more than the node has; WEIR_INVALID_ARGUMENT shape, or a slot that does not
//            begin at a whole f32; WEIR_UNSUPPORTED, WEIR_OUT_OF_MEMORY as weir_shadow_create.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_twin_view(weir_arena* arena, uint32_t node,
                                                        const weir_shape* shape, weir_view* view);

// Returns the bytes of the twin; 0 without one.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_arena_twin_bytes(const weir_arena* arena);

// Writes `count` elements from element `first` of a node on. An f32 write goes to the f16 twin too,
// where there is one (values beyond 65504 become 65504, see weir/shadow.h).
//
// Errors:  WEIR_NOT_FOUND; WEIR_OUT_OF_RANGE past the length of the node; WEIR_INVALID_ARGUMENT a
//          negative count, or no whole blocks; WEIR_OUT_OF_MEMORY; what the device says.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_write(weir_arena* arena, uint32_t node,
                                                    weir_dtype dtype, int64_t first,
                                                    const void* elements, int64_t count);

// Reads `count` elements from element `first` of a node on: waits for the passes that write them,
// and for no other.
//
// Errors:  as weir_arena_write.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_read(weir_arena* arena, uint32_t node,
                                                   weir_dtype dtype, int64_t first, void* elements,
                                                   int64_t count);

// As weir_arena_write and weir_arena_read, in raw bytes from byte `byte_offset` of the node on:
// packed weights, for instance.
//
// Errors:  as weir_arena_write.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_write_bytes(weir_arena* arena, uint32_t node,
                                                          uint64_t byte_offset, const void* bytes,
                                                          uint64_t byte_size);
WEIR_API WEIR_MUST_USE weir_status weir_arena_read_bytes(weir_arena* arena, uint32_t node,
                                                         uint64_t byte_offset, void* bytes,
                                                         uint64_t byte_size);

typedef struct weir_arena_range {
    uint32_t node;
    uint64_t byte_offset; // within the node
    uint64_t byte_size;
    void* bytes; // receives them
} weir_arena_range;

// Reads any number of ranges, all outputs of a pass for instance, with one wait at most. On failure
// what was received is not said.
//
// Errors:  as weir_arena_write.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_arena_read_many(weir_arena* arena,
                                                        const weir_arena_range* ranges,
                                                        uint32_t count);

typedef struct weir_arena_counters {
    uint64_t direct_bytes; // copied between source and place
    uint64_t staged_bytes; // copied once more, or by the device
    uint64_t host_waits;   // for passes that write what was to be read
} weir_arena_counters;

// Returns what the host has read and written since creation.
//
// Threads: thread-compatible.
WEIR_API weir_arena_counters weir_arena_counted(const weir_arena* arena);

WEIR_C_END

#endif
