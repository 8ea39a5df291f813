// Arenas: one planned storage, alive as long as the programs that share it.
//
// Placing a value is arithmetic, never an allocation: the arena is as large as the largest of its
// plans and a value lies where its plan says. Programs that never run together share one arena.
//
//     weir_arena_create(device, plan, &arena);
//     weir_arena_view(arena, plan, 2, WEIR_DTYPE_F32, &shape, &view);
#ifndef WEIR_ARENA_H
#define WEIR_ARENA_H

#include <weir/plan.h>
#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_arena weir_arena;

// Allocates one storage that fits every entry of `plan`.
//
// Ownership: the caller destroys it; the plan is not kept.
// Errors:    WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_create(weir_device* device, const weir_plan* plan,
                                                     weir_arena** arena);

// Allocates one storage of `byte_size` bytes, for several plans.
//
// Ownership: the caller destroys it.
// Errors:    as weir_arena_create.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_create_sized(weir_device* device, uint64_t byte_size,
                                                           weir_arena** arena);

// Drops the arena's reference to its storage; NULL is a no-op. Programs that use it keep theirs.
//
// Threads: thread-compatible.
WEIR_API void weir_arena_destroy(weir_arena* arena);

// Return the storage (borrowed) and its size.
//
// Threads: thread-safe.
WEIR_API weir_storage* weir_arena_storage(const weir_arena* arena);
WEIR_API uint64_t weir_arena_byte_size(const weir_arena* arena);

// Makes a view of entry `index` of `plan`.
//
// Ownership: the view borrows the arena's storage.
// Errors:    WEIR_NOT_FOUND no such entry; WEIR_OUT_OF_RANGE the shape needs more than the entry
//            has; WEIR_INVALID_ARGUMENT shape or alignment.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_arena_view(const weir_arena* arena, const weir_plan* plan,
                                                   uint32_t index, weir_dtype dtype,
                                                   const weir_shape* shape, weir_view* view);

WEIR_C_END

#endif
