// How commits and host writes tell the shadows of a device what happens. Without shadows each of
// these is one load.
#ifndef WEIR_DEVICE_SHADOW_H
#define WEIR_DEVICE_SHADOW_H

#include <stdatomic.h>
#include <weir/shadow.h>
#include <weir/tracker.h>

// The shadows of a device: a list, and what lets most writes be passed over.
typedef struct shadow_list {
    atomic_uint count; // of the list
    weir_shadow* first;
    uint64_t begin, end; // offsets that all sources lie between, whatever their memory
} shadow_list;

// Commits the conversion of each dirty shadow that these accesses read, or of all (`fence`).
WEIR_MUST_USE weir_status weir_shadow_settle(weir_device* device, const weir_access* accesses,
                                             uint32_t count, bool fence);

// Marks the shadows whose source these accesses write, or all (`fence`), but for `except`. The
// caller holds the lock of the device: a commit marks as it enters, so that a conversion either
// comes after it or is made again.
void shadow_list_note(shadow_list* list, const weir_access* accesses, uint32_t count, bool fence,
                      const weir_shadow* except);

// Marks the shadows of a view that the host writes, but for `except`.
//
// Errors: WEIR_OUT_OF_MEMORY; nothing may be written then.
WEIR_MUST_USE weir_status weir_shadow_note(const weir_view* view, const weir_shadow* except);

// Tells whether a dirty shadow lies in the bytes of a view.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status weir_shadow_is_stale(const weir_view* view, bool* stale);

// As weir_shadow_create, in bytes of another storage; `source` is whole pairs of values or the
// storage has room for one more half.
WEIR_MUST_USE weir_status weir_shadow_create_at(const weir_view* source, weir_storage* storage,
                                                uint64_t byte_offset, weir_shadow** shadow);

// Converts values that the host has just written to the source, from element `first` on, so that a
// shadow that is not dirty stays so; marks it where passes in flight forbid that.
void weir_shadow_follow(weir_shadow* shadow, const float* numbers, size_t first, size_t count);

#endif
