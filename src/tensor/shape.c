#include <weir/shape.h>

#include "base/checked.h"
#include "tensor/view_check.h"

#include <stdio.h>
#include <string.h>

// A rank that does not fit is kept, so that weir_shape_check can name it; its dims are not read.
weir_shape weir_shape_make(uint32_t rank, const int64_t* dims) {
    weir_shape shape = {.rank = rank};
    if (rank > 0 && rank <= WEIR_RANK_MAX) {
        memcpy(shape.dims, dims, rank * sizeof *dims);
    }
    return shape;
}

// Zeros are looked for first: in [2^62, 2^62, 0] no product may wrap, in whatever order dims come.
bool weir_shape_measure(const weir_shape* shape, int64_t* element_count) {
    if (shape->rank > WEIR_RANK_MAX) {
        return false;
    }
    bool is_empty = false;
    for (uint32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0) {
            return false;
        }
        is_empty = is_empty || shape->dims[i] == 0;
    }
    int64_t count = is_empty ? 0 : 1;
    for (uint32_t i = 0; i < shape->rank && !is_empty; i++) {
        if (!mul_i64(count, shape->dims[i], &count)) {
            return false;
        }
    }
    *element_count = count;
    return true;
}

// Asks for the reason only once it is known that there is one.
weir_status weir_shape_check(const weir_shape* shape, int64_t* element_count) {
    if (weir_shape_measure(shape, element_count)) {
        return WEIR_OK;
    }
    if (shape->rank > WEIR_RANK_MAX) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "shape of rank %u, expected at most %d",
                         shape->rank, WEIR_RANK_MAX);
    }
    char text[256];
    for (uint32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "shape %s: dimension %u is negative",
                             weir_shape_format(shape, text, sizeof text), i);
        }
    }
    return WEIR_FAIL(WEIR_OUT_OF_RANGE, "shape %s: more than 2^63 - 1 elements",
                     weir_shape_format(shape, text, sizeof text));
}

// Reads no dim past WEIR_RANK_MAX, whatever the rank says.
bool weir_shape_equal(const weir_shape* a, const weir_shape* b) {
    if (a->rank != b->rank) {
        return false;
    }
    for (uint32_t i = 0; i < a->rank && i < WEIR_RANK_MAX; i++) {
        if (a->dims[i] != b->dims[i]) {
            return false;
        }
    }
    return true;
}

char* weir_shape_format(const weir_shape* shape, char* text, size_t capacity) {
    if (shape->rank > WEIR_RANK_MAX) {
        snprintf(text, capacity, "[rank %u]", shape->rank);
        return text;
    }
    char full[WEIR_RANK_MAX * 24 + 4] = "["; // 20 characters a dim, and ", "
    size_t length = 1;
    for (uint32_t i = 0; i < shape->rank; i++) {
        length += (size_t)snprintf(full + length, sizeof full - length, "%s%lld", i > 0 ? ", " : "",
                                   (long long)shape->dims[i]);
    }
    snprintf(text, capacity, "%s]", full);
    return text;
}
