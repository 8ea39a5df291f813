// Views: typed, shaped, zero-copy windows on a storage.
//
// A view is a plain value: storage + byte offset + dtype + shape + strides. Every operation makes a
// new view of the same bytes; offsets are relative to the view they are applied to, so a slice of a
// slice composes. A view borrows its storage; `weir_view_retain` makes it an owner, and an owned
// slice outlives the release of its parent.
//
//     storage  |...............................|
//     view         [=================)             byte_offset, 6 x 4 F32
//     slice             [====)                     weir_view_slice(&view, 32, 4, &slice)
//
// Strides are in bytes. For block types the last stride is the size of one block.
//
// This header is arithmetic only. What needs the storage itself (`weir_view_make`,
// `weir_view_retain`, `weir_view_range`) is in weir/storage.h, the bytes that a view touches are in
// weir/range.h.
#ifndef WEIR_VIEW_H
#define WEIR_VIEW_H

#include <weir/dtype.h>
#include <weir/shape.h>

WEIR_C_BEGIN

typedef struct weir_storage weir_storage;

typedef struct weir_view {
    weir_storage* storage; // borrowed unless retained; NULL for a view that only describes a layout
    uint64_t byte_offset;  // of the first element, from the start of the storage
    weir_dtype dtype;
    weir_shape shape;
    int64_t strides[WEIR_RANK_MAX]; // bytes from one index to the next, >= 0; last: one element or
                                    // block
} weir_view;

// Fills dtype, shape and contiguous strides of a view without storage (offset 0): a layout.
//
// Errors:  WEIR_INVALID_ARGUMENT bad shape, or rows of a block type that are not whole blocks;
//          WEIR_OUT_OF_RANGE the size does not fit 63 bits (dims of 0 counted as 1).
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_layout(weir_dtype dtype, const weir_shape* shape,
                                                    weir_view* view);

// Slices `element_count` contiguous elements from `byte_offset` within a contiguous view: shape
// [element_count], same dtype.
//
// Errors:  WEIR_INVALID_ARGUMENT not contiguous, negative count, not whole blocks, or misaligned;
//          WEIR_OUT_OF_RANGE the slice passes the end of the view.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_slice(const weir_view* view, uint64_t byte_offset,
                                                   int64_t element_count, weir_view* slice);

// Narrows dimension `axis` to [start, start + length). An empty result keeps the offset of `view`.
//
// Errors:  WEIR_INVALID_ARGUMENT no such axis, or a block split; WEIR_OUT_OF_RANGE outside the dim.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_narrow(const weir_view* view, uint32_t axis,
                                                    int64_t start, int64_t length,
                                                    weir_view* narrow);

// Gives the same elements another shape, without a copy; splits and merges dimensions where the
// strides allow it.
//
// Errors:  WEIR_INVALID_ARGUMENT the element counts differ, or the strides would need a copy.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_reshape(const weir_view* view, const weir_shape* shape,
                                                     weir_view* reshaped);

// Reorders the dimensions: dimension i of the result is dimension axes[i] of the view.
//
// Errors:  WEIR_INVALID_ARGUMENT axes are not a permutation, or the last axis of a block type
//          moves.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_permute(const weir_view* view, const uint32_t* axes,
                                                     weir_view* permuted);

// Repeats the elements to fill `shape`, without a copy: dimensions are matched from the last on,
// and where the view has 1, or none, the stride is 0 (the broadcasting rule of NumPy).
//
// Aliasing: indices share bytes, so the result is for reading: dispatches that write to it are
//           refused.
// Errors:   WEIR_INVALID_ARGUMENT fewer dimensions than the view, one that is neither 1 nor equal,
//           or a repeated last dimension of a block type; WEIR_OUT_OF_RANGE more than 2^63 - 1
//           elements.
// Threads:  thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_broadcast(const weir_view* view,
                                                       const weir_shape* shape,
                                                       weir_view* repeated);

// Reads the same bytes as another plain dtype; the last dimension is rescaled where sizes differ.
//
// Errors:  WEIR_INVALID_ARGUMENT a block type, last dimension not contiguous, bytes not divisible,
//          or misaligned for the new type.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_bitcast(const weir_view* view, weir_dtype dtype,
                                                     weir_view* cast);

// Returns the number of elements.
//
// Threads: thread-safe.
WEIR_API int64_t weir_view_element_count(const weir_view* view);

// Returns the bytes of the elements (for a contiguous view also the bytes from first to last).
//
// Threads: thread-safe.
WEIR_API uint64_t weir_view_byte_length(const weir_view* view);

// Returns the bytes from the first byte of the view to one past its last; 2^64 - 1 for a view
// filled in by hand that breaks the rules of the fields, so that no check of bounds lets it pass.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_view_byte_span(const weir_view* view);

// Tells whether the elements lie without gaps in index order.
//
// Threads: thread-safe.
WEIR_API bool weir_view_is_contiguous(const weir_view* view);

// Writes "F32 [6, 4] @32 (96 bytes)" to `text`, cut to `capacity`; returns `text`. A view that is
// not contiguous shows its strides: "F32 [4, 6] @32 strides [4, 16] (96 bytes)".
//
// Threads: thread-safe.
WEIR_API char* weir_view_format(const weir_view* view, char* text, size_t capacity);

WEIR_C_END

#endif
