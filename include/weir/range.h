// Ranges: the exact bytes that one access touches.
//
// A range names a memory (an identity, not a handle), an offset in it, and a pattern: `byte_length`
// contiguous bytes, repeated by up to four levels of (count, stride). All intervals are half-open:
// ranges that only touch do not overlap, and empty ranges overlap nothing.
//
//     rows 0..2 of a column slice:    byte_offset
//                                         v
//     memory   |......[====).........[====).........[====)....|
//                     <-len->  <-- levels[0] = {3, stride} -->
//
// Two handles on the same bytes have the same memory id, so they conflict. Memory ids are given by
// storages (weir/storage.h), or by the caller: any numbers, 0 too, will do for ranges and a tracker
// of one's own. What would pass 2^64 - 1 ends there.
#ifndef WEIR_RANGE_H
#define WEIR_RANGE_H

#include <weir/view.h>

WEIR_C_BEGIN

#define WEIR_RANGE_LEVELS 4

typedef struct weir_range_level {
    uint64_t count;  // repetitions, >= 1
    uint64_t stride; // bytes between two
} weir_range_level;

typedef struct weir_range {
    uint64_t memory_id;   // identity of the memory; ranges in different memories never overlap
    uint64_t byte_offset; // first byte
    uint64_t byte_length; // contiguous bytes of one run; 0 = empty
    uint32_t level_count; // 0: one run
    weir_range_level levels[WEIR_RANGE_LEVELS]; // strides falling: levels[0] is the outermost
} weir_range;

// Makes a contiguous range.
//
// Threads: thread-safe.
WEIR_API weir_range weir_range_make(uint64_t memory_id, uint64_t byte_offset, uint64_t byte_length);

// Makes the normal form of a strided pattern of any depth: `runs` of `run_bytes`, repeated by
// `level_count` levels in any order. Levels of one repetition or stride 0 vanish, adjoining runs
// merge, and levels that do not fit are widened to the tightest enclosing pattern. `widened` (may
// be NULL) tells whether that was necessary.
//
// Errors:  WEIR_OUT_OF_RANGE the pattern passes 2^64 - 1.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_range_pattern(uint64_t memory_id, uint64_t byte_offset,
                                                      uint64_t run_bytes,
                                                      const weir_range_level* levels,
                                                      uint32_t level_count, weir_range* range,
                                                      bool* widened);

// Returns the exact bytes that a kernel can touch through `view`, whose storage begins at
// `memory_offset` of memory `memory_id`: not the parent, not the padded slot. Views that need more
// than four levels are widened (`widened`, may be NULL, tells).
//
// Threads: thread-safe.
WEIR_API weir_range weir_range_from_view(const weir_view* view, uint64_t memory_id,
                                         uint64_t memory_offset, bool* widened);

// Returns one past the last byte of the range (its offset when it is empty).
//
// Threads: thread-safe.
WEIR_API uint64_t weir_range_end(const weir_range* range);

// Tells whether two ranges share a byte; exact for the patterns, symmetric.
//
// Threads: thread-safe.
WEIR_API bool weir_range_overlaps(const weir_range* a, const weir_range* b);

// Tells whether every byte of `inner` surely lies in `outer`. Exact when `outer` is contiguous; for
// a strided `outer` it is true only for the same pattern.
//
// Threads: thread-safe.
WEIR_API bool weir_range_contains(const weir_range* outer, const weir_range* inner);

// Writes "m3 [64, 96)" or "m3 [64, 90) 3 x 6 +10" to `text`, cut to `capacity`; returns `text`.
// Offsets that must be addresses look like "m1 [0x55d0c0a1f2a0, +32)".
//
// Threads: thread-safe.
WEIR_API char* weir_range_format(const weir_range* range, char* text, size_t capacity);

WEIR_C_END

#endif
