// Pools: scratch storages of a device, taken and given back instead of allocated and released.
//
// A pool keeps what is returned and hands it out again to requests of the same size class. There
// are eight classes from one power of two to the next, so what is handed out exceeds what was
// asked for by less than 12.5 %.
//
//     classes   1 2 3 .. 15 | 16 18 20 .. 30 | 32 36 40 .. 60 | 64 72 80 ..     bytes
//
// A storage may be returned while work that names it is in flight. It is handed out again when
//
//     1. every commit that the device had been given before the return is complete, and
//     2. only the pool still refers to it: no session holds a dispatch on it, committed or not, and
//        no view of it is retained.
//
// Returning ends an acquisition, not a storage: each has a number of its own, so that a second
// return is recognised even after somebody else was given the same storage.
//
//     weir_pool_create(device, &(weir_pool_desc){.byte_cap = 1 << 30}, &pool);
//     weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 5000}, &scratch, NULL);
//     weir_view_make(scratch.storage, 0, WEIR_DTYPE_F32, &shape, &view);
//     ... record and commit dispatches on the view ...
//     weir_pool_return(pool, &scratch); // need not wait for them
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_pool weir_pool;

typedef struct weir_pool_desc {
    uint64_t byte_cap; // most bytes that the pool may hold, in use and cached; 0 = no cap
} weir_pool_desc;

typedef struct weir_scratch_desc {
    uint64_t byte_size; // at least so many; 0 counts as 1
    weir_fill fill;     // of this acquisition, whether the storage is new or not: all of its bytes
} weir_scratch_desc;

// One acquisition. A plain value, good for one return.
typedef struct weir_scratch {
    weir_storage* storage; // borrowed until the return, of the bytes of its size class
    uint64_t lease;        // number of the acquisition in its pool, from 1
    uint32_t slot;         // of the pool
} weir_scratch;

// What a request under a cap lacked, in bytes:
//
//     missing = byte_size + in_use + waiting - byte_cap
typedef struct weir_pool_deficit {
    uint64_t byte_size; // of the size class that was asked for
    uint64_t byte_cap;
    uint64_t in_use;  // acquired and not returned
    uint64_t waiting; // returned, and held by work in flight, a session or a view
    uint64_t missing; // > 0; none can be found by dropping what is cached and idle
} weir_pool_deficit;

typedef struct weir_pool_usage {
    uint64_t byte_cap;      // UINT64_MAX where there is none
    uint64_t bytes_asked;   // of what is in use, as asked for
    uint64_t bytes_in_use;  // the same, as handed out
    uint64_t bytes_cached;  // returned and kept; in_use + cached <= byte_cap
    uint64_t bytes_waiting; // of those cached, not to be handed out yet
    uint64_t peak_in_use;   // largest bytes_in_use so far
    uint64_t peak_held;     // largest bytes_in_use + bytes_cached so far
    uint64_t storages_in_use;
    uint64_t storages_cached;
    uint64_t hits;     // acquisitions that found a cached storage
    uint64_t misses;   // acquisitions that allocated one
    uint64_t drops;    // cached storages released by the cap, by trimming or for lack of memory
    uint64_t refusals; // requests refused by the cap
} weir_pool_usage;

// Makes an empty pool. It must be gone before its device.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_pool_create(weir_device* device, const weir_pool_desc* desc,
                                                    weir_pool** pool);

// Drops the pool's references to all of its storages, also to those not returned; NULL is a no-op.
// What sessions and retained views hold lives on.
//
// Threads: thread-compatible.
WEIR_API void weir_pool_destroy(weir_pool* pool);

// Hands out a storage of the size class of the request: a cached one, the last returned first, or a
// new one. Cached storages are dropped, the first returned first, where the cap or the device has
// no room for a new one otherwise.
//
// Ownership: the pool keeps the storage; the caller may use it until the return.
// Errors:    WEIR_DEVICE_OUT_OF_MEMORY the cap leaves no room: the message and `deficit` (may be
//            NULL; written in this case only) have the figures; WEIR_OUT_OF_RANGE no size class
//            below 2^64 bytes; WEIR_INVALID_ARGUMENT unknown fill; as weir_storage_allocate.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_pool_acquire(weir_pool* pool, const weir_scratch_desc* desc,
                                                     weir_scratch* scratch,
                                                     weir_pool_deficit* deficit);

// Returns what was acquired. Views on it, unless retained, are dead from here on; dispatches that
// were recorded keep it. A storage that was sealed meanwhile is dropped, not handed out again.
//
// Errors:  WEIR_INVALID_ARGUMENT returned before; WEIR_NOT_FOUND not an acquisition of this pool,
//          or of a storage that the pool has dropped since. The pool is as before.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_pool_return(weir_pool* pool, const weir_scratch* scratch);

// Drops cached storages, the first returned first, until at most `byte_size` bytes are cached, and
// returns how many are: more than asked for where work still holds them.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_pool_trim(weir_pool* pool, uint64_t byte_size);

// Returns what the pool holds and has done.
//
// Threads: thread-safe.
WEIR_API weir_pool_usage weir_pool_usage_of(weir_pool* pool);

WEIR_C_END

#endif
