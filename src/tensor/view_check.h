// Checks of shapes and views that callers filled in by hand; for the front ends above.
#ifndef WEIR_TENSOR_VIEW_CHECK_H
#define WEIR_TENSOR_VIEW_CHECK_H

#include <weir/view.h>

// Computes the number of elements; false when rank, a dim or the product is out of bounds. Leaves
// the error message alone.
bool weir_shape_measure(const weir_shape* shape, int64_t* element_count);

// Checks everything that operations on views rely on:
//
//     rank, dims, dtype valid; strides >= 0; byte_offset + span < 2^64, span < 2^63
//     block types: last dim in whole blocks, last stride = the bytes of one block
//
// Errors: WEIR_INVALID_ARGUMENT, WEIR_OUT_OF_RANGE.
WEIR_MUST_USE weir_status weir_view_check(const weir_view* view);

// Tells whether indices of a checked view share bytes by a stride of 0.
bool weir_view_repeats(const weir_view* view);

#endif
