// Shapes: up to eight dimensions, outermost first. A zero-initialised shape is a scalar.
//
//     weir_shape rows = weir_shape_make(2, (int64_t[]){512, 64});   // [512, 64]
#ifndef WEIR_SHAPE_H
#define WEIR_SHAPE_H

#include <weir/status.h>

WEIR_C_BEGIN

#define WEIR_RANK_MAX 8

typedef struct weir_shape {
    uint32_t rank;               // 0 (scalar) .. WEIR_RANK_MAX
    int64_t dims[WEIR_RANK_MAX]; // elements, outermost first; dims past the rank are 0
} weir_shape;

// Makes a shape of `rank` dimensions copied from `dims`; a rank over WEIR_RANK_MAX gives a shape
// that `weir_shape_check` refuses.
//
// Threads: thread-safe.
WEIR_API weir_shape weir_shape_make(uint32_t rank, const int64_t* dims);

// Checks rank and dims and computes the number of elements (1 for a scalar, 0 if any dim is 0).
//
// Errors:  WEIR_INVALID_ARGUMENT rank too large or a negative dim; WEIR_OUT_OF_RANGE product over
//          2^63 - 1.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_shape_check(const weir_shape* shape,
                                                    int64_t* element_count);

// Tells whether two shapes have the same rank and dims.
//
// Threads: thread-safe.
WEIR_API bool weir_shape_equal(const weir_shape* a, const weir_shape* b);

// Writes "[512, 64]" to `text` (cut to `capacity`, always terminated); returns `text`.
//
// Threads: thread-safe.
WEIR_API char* weir_shape_format(const weir_shape* shape, char* text, size_t capacity);

WEIR_C_END

#endif
