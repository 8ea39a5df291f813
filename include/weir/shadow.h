// Shadows: 16-bit twins of f32 values, weights above all, which kernels read in half the bytes.
//
// A shadow is a value of its own beside its source. It notes every write to the source that weir
// sees, of passes through their declared accesses and of the host through weir_view_write and
// arenas, and is converted again before the next pass that reads it: never stale, and paid for only
// where it is used. One conversion is in flight at a time: a commit that needs another waits. A
// program reads it where its graph has an f16 weight that is bound to the view of the shadow.
//
// Numbers are rounded to nearest, ties to even (IEEE 754 binary16). Finite values beyond +-65504
// become +-65504 and are counted: an infinity would make every sum that it enters useless.
// Infinities and NaN stay what they are. An odd number of values is padded by a zero half.
//
//     weir_shadow_create(&weight, &shadow);
//     weir_shadow_view(shadow, &binding.view);     // f16, the shape of the weight
//
// On the CPU a shadow changes the bits of results; it exists only where it was asked for.
#ifndef WEIR_SHADOW_H
#define WEIR_SHADOW_H

#include <weir/device.h>
#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_shadow weir_shadow;

// Allocates the shadow of a contiguous f32 view. Nothing is converted yet.
//
// Ownership: the caller destroys it; it retains the storage of the source.
// Aliasing:  aliases of the source are to be declared before.
// Errors:    WEIR_INVALID_ARGUMENT not f32, not contiguous, empty or without storage;
//            WEIR_OUT_OF_RANGE it passes the end of its storage; WEIR_UNSUPPORTED the device binds
//            no so many bytes; WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_shadow_create(const weir_view* source,
                                                      weir_shadow** shadow);

// Waits for its conversion in flight and destroys the shadow; NULL is a no-op. Programs that use
// its view keep the bytes, which follow the source no more.
//
// Threads: thread-compatible; no other thread commits a pass that names the shadow meanwhile.
WEIR_API void weir_shadow_destroy(weir_shadow* shadow);

// Makes the f16 view, with the shape of the source.
//
// Ownership: the view borrows the shadow's storage.
// Threads:   thread-safe.
WEIR_API void weir_shadow_view(const weir_shadow* shadow, weir_view* view);

// Tells whether the source was written since the last conversion.
//
// Threads: thread-safe.
WEIR_API bool weir_shadow_is_dirty(const weir_shadow* shadow);

// Notes a write that weir cannot see: through a pointer of the host, or by another process.
//
// Threads: thread-safe.
WEIR_API void weir_shadow_mark(weir_shadow* shadow);

// Commits the conversion of a dirty shadow now instead of before its next use; the ticket of one
// that is not dirty is complete.
//
// Errors:  as weir_session_commit.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_shadow_refresh(weir_shadow* shadow, weir_ticket* ticket);

typedef struct weir_shadow_counters {
    uint64_t byte_size;   // of the shadow, with its padding
    uint64_t conversions; // since creation
    uint64_t saturated;   // values beyond 65504 that were cut, in all conversions
} weir_shadow_counters;

// Returns the figures of a shadow.
//
// Threads: thread-safe.
WEIR_API weir_shadow_counters weir_shadow_counted(const weir_shadow* shadow);

WEIR_C_END

#endif
