#include <weir/view.h>

#include "base/checked.h"
#include "tensor/view_check.h"

#include <stdio.h>
#include <string.h>

// Functions that can fail check the whole view first (weir_view_check), then compute with plain
// arithmetic where the check bounds the result. They build the result in a local, as the output may
// be the input, and an output is written only on success.

// Shapes count elements; memory is laid out in units: one block, or one element of a plain type.
// Along the last axis a unit is `block_elements` elements, along the others one index.
typedef struct unit_dims {
    uint32_t rank;
    int64_t dims[WEIR_RANK_MAX];
} unit_dims;

// The last dimension is in whole blocks; a scalar has rank 0 and no last one.
static unit_dims units_of(const weir_shape* shape, const weir_dtype_info* info) {
    unit_dims units = {.rank = shape->rank};
    memcpy(units.dims, shape->dims, sizeof units.dims);
    if (units.rank > 0) {
        units.dims[units.rank - 1] /= info->block_elements;
    }
    return units;
}

// One of them, where a copy of all would cost more than what is done with it.
static int64_t unit_dim(const weir_shape* shape, const weir_dtype_info* info, uint32_t index) {
    const bool blocks = info->block_elements > 1 && index + 1 == shape->rank;
    return blocks ? shape->dims[index] / info->block_elements : shape->dims[index];
}

// Block types have rank >= 1 and whole blocks along the last dimension.
static weir_status check_blocks(const weir_shape* shape, const weir_dtype_info* info) {
    if (info->block_elements == 1 ||
        (shape->rank > 0 && shape->dims[shape->rank - 1] % info->block_elements == 0)) {
        return WEIR_OK;
    }
    char text[256];
    return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                     "shape %s of %s, expected a last dimension of whole blocks of %u",
                     weir_shape_format(shape, text, sizeof text), info->name, info->block_elements);
}

// Also keeps block_elements, by which everything below divides, above 0.
static weir_status check_type(weir_dtype dtype) {
    if (weir_dtype_describe(dtype)->block_elements == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "view of dtype %d, which is none", (int)dtype);
    }
    return WEIR_OK;
}

// Computes the bytes from the first to one past the last; false when that passes 2^63 - 1 or a
// stride is negative. Shape and dtype are sound.
static bool measure_span(const weir_view* view, int64_t* span) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    int64_t bytes = info->block_bytes;
    bool fits = true;
    for (uint32_t i = 0; i < view->shape.rank; i++) {
        const int64_t dim = unit_dim(&view->shape, info, i);
        if (dim == 0) {
            *span = 0;
            return true;
        }
        int64_t reach = 0;
        fits = fits && view->strides[i] >= 0 && mul_i64(dim - 1, view->strides[i], &reach) &&
               !__builtin_add_overflow(bytes, reach, &bytes);
    }
    *span = bytes;
    return fits;
}

// Negative strides would put the first byte of the view elsewhere than at its offset. Block types
// have a last dimension here (check_blocks).
static weir_status check_strides(const weir_view* view, const weir_dtype_info* info) {
    const uint32_t rank = view->shape.rank;
    for (uint32_t i = 0; i < rank; i++) {
        if (view->strides[i] < 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "stride %u is %lld, expected at least 0", i,
                             (long long)view->strides[i]);
        }
    }
    if (info->block_elements > 1 && view->strides[rank - 1] != info->block_bytes) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "last stride of a view of %s is %lld, expected its block of %u bytes",
                         info->name, (long long)view->strides[rank - 1], info->block_bytes);
    }
    return WEIR_OK;
}

weir_status weir_view_check(const weir_view* view) {
    WEIR_TRY(check_type(view->dtype));
    int64_t element_count = 0;
    WEIR_TRY(weir_shape_check(&view->shape, &element_count));
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    WEIR_TRY(check_blocks(&view->shape, info));
    WEIR_TRY(check_strides(view, info));
    int64_t span = 0;
    uint64_t end = 0;
    if (!measure_span(view, &span) || !add_u64(view->byte_offset, (uint64_t)span, &end)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the bytes of a view at %llu do not fit 63 bits",
                         (unsigned long long)view->byte_offset);
    }
    return WEIR_OK;
}

// Sets the strides of a contiguous layout. A dimension of 0 counts as 1, so that strides do not
// collapse in a view that is empty.
static weir_status set_contiguous(weir_view* view) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    memset(view->strides, 0, sizeof view->strides);
    int64_t stride = info->block_bytes;
    for (uint32_t i = view->shape.rank; i > 0; i--) {
        const int64_t dim = unit_dim(&view->shape, info, i - 1);
        view->strides[i - 1] = stride;
        if (!mul_i64(stride, dim > 0 ? dim : 1, &stride)) {
            char text[256];
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the bytes of shape %s of %s do not fit 63 bits",
                             weir_shape_format(&view->shape, text, sizeof text), info->name);
        }
    }
    return WEIR_OK;
}

weir_status weir_view_layout(weir_dtype dtype, const weir_shape* shape, weir_view* view) {
    WEIR_TRY(check_type(dtype));
    int64_t element_count = 0;
    WEIR_TRY(weir_shape_check(shape, &element_count));
    WEIR_TRY(check_blocks(shape, weir_dtype_describe(dtype)));
    weir_view made = {.dtype = dtype, .shape = weir_shape_make(shape->rank, shape->dims)};
    WEIR_TRY(set_contiguous(&made));
    *view = made;
    return WEIR_OK;
}

// The contiguous case of narrowing, counted in bytes; `weir_view_narrow` is the one for strides.
weir_status weir_view_slice(const weir_view* view, uint64_t byte_offset, int64_t element_count,
                            weir_view* slice) {
    WEIR_TRY(weir_view_check(view));
    if (!weir_view_is_contiguous(view)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "slice of a view that is not contiguous");
    }
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    // A plain type is aligned to its size, so this covers alignment as well as split blocks.
    if (byte_offset % info->block_bytes != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "slice at byte %llu of a view of %s, expected a multiple of %u",
                         (unsigned long long)byte_offset, info->name, info->block_bytes);
    }
    uint64_t asked = 0;
    WEIR_TRY(weir_dtype_byte_size(view->dtype, element_count, &asked));
    const uint64_t length = weir_view_byte_length(view);
    if (byte_offset > length || asked > length - byte_offset) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "slice [%llu, +%llu) of a view of %llu bytes",
                         (unsigned long long)byte_offset, (unsigned long long)asked,
                         (unsigned long long)length);
    }
    // No wrap: the offset is within the view, whose end was checked to fit.
    weir_view made = {.storage = view->storage,
                      .byte_offset = view->byte_offset + byte_offset,
                      .dtype = view->dtype,
                      .shape = weir_shape_make(1, &element_count)};
    made.strides[0] = info->block_bytes;
    *slice = made;
    return WEIR_OK;
}

weir_status weir_view_narrow(const weir_view* view, uint32_t axis, int64_t start, int64_t length,
                             weir_view* narrow) {
    WEIR_TRY(weir_view_check(view));
    const uint32_t rank = view->shape.rank;
    if (axis >= rank) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "narrow of axis %u in a view of rank %u", axis,
                         rank);
    }
    const int64_t dim = view->shape.dims[axis];
    if (start < 0 || start > dim || length < 0 || length > dim - start) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "narrow of axis %u to [%lld, +%lld), expected in %lld",
                         axis, (long long)start, (long long)length, (long long)dim);
    }
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    const int64_t step = axis == rank - 1 ? info->block_elements : 1;
    if (start % step != 0 || length % step != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "narrow to [%lld, +%lld) splits a block of %s, expected multiples of %lld",
                         (long long)start, (long long)length, info->name, (long long)step);
    }
    weir_view made = *view;
    made.shape.dims[axis] = length;
    // An empty view stays where it is: one past a strided view there may be no storage any more.
    int64_t element_count = 0;
    if (weir_shape_measure(&made.shape, &element_count) && element_count > 0) {
        made.byte_offset += (uint64_t)(start / step) * (uint64_t)view->strides[axis];
    }
    *narrow = made;
    return WEIR_OK;
}

// Runs of evenly spaced units: the fewest dimensions that address the same bytes in the same order.
typedef struct unit_runs {
    uint32_t count;
    int64_t lengths[WEIR_RANK_MAX];
    int64_t strides[WEIR_RANK_MAX];
} unit_runs;

// Joins neighbours where stride[i] = length[i + 1] * stride[i + 1]; drops dimensions of 1.
static unit_runs merge_dims(const weir_view* view) {
    const unit_dims units = units_of(&view->shape, weir_dtype_describe(view->dtype));
    unit_runs runs = {0};
    for (uint32_t i = 0; i < units.rank; i++) {
        if (units.dims[i] == 1) {
            continue;
        }
        const uint32_t last = runs.count - 1;
        int64_t pitch = 0;
        if (runs.count > 0 && mul_i64(units.dims[i], view->strides[i], &pitch) &&
            runs.strides[last] == pitch) {
            runs.lengths[last] *= units.dims[i];
            runs.strides[last] = view->strides[i];
        } else {
            runs.lengths[runs.count] = units.dims[i];
            runs.strides[runs.count++] = view->strides[i];
        }
    }
    return runs;
}

// Cuts the runs into `units`, innermost first, and writes the strides; false where a dimension
// would span two runs. Both hold the same number of units, at least one.
static bool split_runs(const unit_runs* runs, const unit_dims* units, int64_t unit_bytes,
                       int64_t* strides) {
    uint32_t run = runs->count;
    int64_t left = 1; // units of the current run that are not yet given to a dimension
    int64_t stride = run > 0 ? runs->strides[run - 1] : unit_bytes;
    for (uint32_t i = units->rank; i > 0; i--) {
        const int64_t dim = units->dims[i - 1];
        // There is a run left: as many units are still to be given as the shape asks for.
        if (dim > 1 && left == 1) {
            run--;
            left = runs->lengths[run];
            stride = runs->strides[run];
        }
        if (left % dim != 0) {
            return false;
        }
        strides[i - 1] = stride;
        left /= dim;
        // A pitch past 63 bits would be that of the whole view: only dimensions of 1 follow.
        int64_t pitch = 0;
        stride = mul_i64(stride, dim, &pitch) ? pitch : stride;
    }
    return true;
}

// Blocks must stay adjoining along the last dimension; where that holds one block its stride is
// free.
static bool settle_last_stride(weir_view* view, const unit_dims* units) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    if (info->block_elements == 1) {
        return true;
    }
    const uint32_t last = units->rank - 1;
    if (units->dims[last] == 1) {
        view->strides[last] = info->block_bytes;
    }
    return view->strides[last] == info->block_bytes;
}

weir_status weir_view_reshape(const weir_view* view, const weir_shape* shape, weir_view* reshaped) {
    WEIR_TRY(weir_view_check(view));
    int64_t element_count = 0;
    WEIR_TRY(weir_shape_check(shape, &element_count));
    char from[256];
    char to[256];
    if (element_count != weir_view_element_count(view)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "reshape of %s to %s: the element counts differ",
                         weir_shape_format(&view->shape, from, sizeof from),
                         weir_shape_format(shape, to, sizeof to));
    }
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    WEIR_TRY(check_blocks(shape, info));
    weir_view made = {.storage = view->storage,
                      .byte_offset = view->byte_offset,
                      .dtype = view->dtype,
                      .shape = weir_shape_make(shape->rank, shape->dims)};
    // Without elements every layout addresses the same: none.
    if (element_count == 0) {
        WEIR_TRY(set_contiguous(&made));
    } else {
        const unit_dims units = units_of(&made.shape, info);
        const unit_runs runs = merge_dims(view);
        if (!split_runs(&runs, &units, info->block_bytes, made.strides) ||
            !settle_last_stride(&made, &units)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "reshape of %s to %s: its strides would need a copy",
                             weir_shape_format(&view->shape, from, sizeof from),
                             weir_shape_format(shape, to, sizeof to));
        }
    }
    *reshaped = made;
    return WEIR_OK;
}

weir_status weir_view_permute(const weir_view* view, const uint32_t* axes, weir_view* permuted) {
    WEIR_TRY(weir_view_check(view));
    const uint32_t rank = view->shape.rank;
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    weir_view made = *view;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < rank; i++) {
        if (axes[i] >= rank || (seen & (1u << axes[i])) != 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "axis %u is given as %u, expected a permutation of 0..%u", i, axes[i],
                             rank - 1);
        }
        seen |= 1u << axes[i];
        made.shape.dims[i] = view->shape.dims[axes[i]];
        made.strides[i] = view->strides[axes[i]];
    }
    if (info->block_elements > 1 && axes[rank - 1] != rank - 1) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "permute moves the last axis of %s, whose blocks lie along it",
                         info->name);
    }
    *permuted = made;
    return WEIR_OK;
}

weir_status weir_view_broadcast(const weir_view* view, const weir_shape* shape,
                                weir_view* repeated) {
    WEIR_TRY(weir_view_check(view));
    int64_t element_count = 0;
    WEIR_TRY(weir_shape_check(shape, &element_count));
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    weir_view made = *view;
    made.shape = weir_shape_make(shape->rank, shape->dims);
    memset(made.strides, 0, sizeof made.strides);
    bool fits = shape->rank >= view->shape.rank;
    for (uint32_t i = 0; fits && i < view->shape.rank; i++) {
        const uint32_t to = shape->rank - view->shape.rank + i;
        const bool is_last_of_blocks = info->block_elements > 1 && i + 1 == view->shape.rank;
        if (shape->dims[to] == view->shape.dims[i]) {
            made.strides[to] = view->strides[i];
        } else {
            fits = view->shape.dims[i] == 1 && !is_last_of_blocks;
        }
    }
    if (!fits) {
        char from[256];
        char to[256];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "broadcast of %s to %s: expected 1 or the same dim",
                         weir_shape_format(&view->shape, from, sizeof from),
                         weir_shape_format(shape, to, sizeof to));
    }
    *repeated = made;
    return WEIR_OK;
}

bool weir_view_repeats(const weir_view* view) {
    bool repeats = false;
    for (uint32_t i = 0; i < view->shape.rank; i++) {
        repeats = repeats || (view->shape.dims[i] > 1 && view->strides[i] == 0);
    }
    return repeats;
}

// Every address that the view forms must suit the new type, as far as offsets tell; the base is
// checked where the storage is known.
static weir_status check_alignment(const weir_view* view, uint32_t axis_count, uint32_t alignment) {
    if (view->byte_offset % alignment != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "byte offset %llu, expected a multiple of %u",
                         (unsigned long long)view->byte_offset, alignment);
    }
    for (uint32_t i = 0; i < axis_count; i++) {
        if (view->shape.dims[i] > 1 && view->strides[i] % alignment != 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "stride %u is %lld bytes, expected a multiple of %u", i,
                             (long long)view->strides[i], alignment);
        }
    }
    return WEIR_OK;
}

// Rescales the last dimension from elements of `old_bytes` to `new_bytes`.
static weir_status rescale_last(weir_view* view, uint32_t old_bytes, uint32_t new_bytes) {
    if (view->shape.rank == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "bitcast of a scalar from %u to %u bytes, expected the same size",
                         old_bytes, new_bytes);
    }
    int64_t* dim = &view->shape.dims[view->shape.rank - 1];
    int64_t* stride = &view->strides[view->shape.rank - 1];
    int64_t byte_length = 0;
    if (*dim > 1 && *stride != old_bytes) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "bitcast with a last stride of %lld, expected contiguous elements of %u",
                         (long long)*stride, old_bytes);
    }
    if (!mul_i64(*dim, old_bytes, &byte_length) || byte_length % new_bytes != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "bitcast of rows of %lld elements of %u bytes, expected whole ones of %u",
                         (long long)*dim, old_bytes, new_bytes);
    }
    *dim = byte_length / new_bytes;
    *stride = new_bytes;
    return WEIR_OK;
}

weir_status weir_view_bitcast(const weir_view* view, weir_dtype dtype, weir_view* cast) {
    WEIR_TRY(weir_view_check(view));
    WEIR_TRY(check_type(dtype));
    const weir_dtype_info* from = weir_dtype_describe(view->dtype);
    const weir_dtype_info* to = weir_dtype_describe(dtype);
    if (from->block_elements > 1 || to->block_elements > 1) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "bitcast of %s to %s, expected two plain types",
                         from->name, to->name);
    }
    weir_view made = *view;
    made.dtype = dtype;
    uint32_t strided_axes = made.shape.rank;
    if (from->block_bytes != to->block_bytes) {
        WEIR_TRY(rescale_last(&made, from->block_bytes, to->block_bytes));
        strided_axes--;
    }
    // The view is aligned for its own type already, so only a larger alignment asks a question.
    if (to->alignment > from->alignment) {
        WEIR_TRY(check_alignment(&made, strided_axes, to->alignment));
    }
    // Smaller elements are more of them: with strides of 0 their count may pass 63 bits.
    int64_t element_count = 0;
    WEIR_TRY(weir_shape_check(&made.shape, &element_count));
    *cast = made;
    return WEIR_OK;
}

// The queries have no status to return, so they must hold for any fields: no read past the rank
// limit, no wrap.

int64_t weir_view_element_count(const weir_view* view) {
    int64_t element_count = 0;
    return weir_shape_measure(&view->shape, &element_count) ? element_count : 0;
}

uint64_t weir_view_byte_length(const weir_view* view) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    uint64_t byte_length = 0;
    if (info->block_elements == 0) {
        return 0;
    }
    // Strides of 0 allow more elements than memory has bytes.
    const uint64_t unit_count = (uint64_t)weir_view_element_count(view) / info->block_elements;
    return mul_u64(unit_count, info->block_bytes, &byte_length) ? byte_length : UINT64_MAX;
}

uint64_t weir_view_byte_span(const weir_view* view) {
    int64_t element_count = 0;
    int64_t span = 0;
    const bool is_sound = weir_dtype_describe(view->dtype)->block_elements > 0 &&
                          weir_shape_measure(&view->shape, &element_count) &&
                          measure_span(view, &span);
    return is_sound ? (uint64_t)span : UINT64_MAX;
}

bool weir_view_is_contiguous(const weir_view* view) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    int64_t element_count = 0;
    if (info->block_elements == 0 || !weir_shape_measure(&view->shape, &element_count)) {
        return false;
    }
    if (element_count == 0) {
        return true;
    }
    int64_t stride = info->block_bytes;
    for (uint32_t i = view->shape.rank; i > 0; i--) {
        const int64_t dim = unit_dim(&view->shape, info, i - 1);
        if (dim != 1 && view->strides[i - 1] != stride) {
            return false;
        }
        if (!mul_i64(stride, dim, &stride)) {
            return false;
        }
    }
    return true;
}

// "strides [4, 16] " for a view that is not contiguous, else "".
static const char* format_strides(const weir_view* view, char* text, size_t capacity) {
    size_t used = 0;
    text[0] = '\0';
    const uint32_t rank = view->shape.rank <= WEIR_RANK_MAX ? view->shape.rank : 0;
    for (uint32_t i = 0; !weir_view_is_contiguous(view) && i < rank && used < capacity; i++) {
        used +=
            (size_t)snprintf(text + used, capacity - used, "%s%lld%s", i == 0 ? "strides [" : ", ",
                             (long long)view->strides[i], i + 1 == rank ? "] " : "");
    }
    return text;
}

char* weir_view_format(const weir_view* view, char* text, size_t capacity) {
    char shape[256];
    char strides[256];
    snprintf(text, capacity, "%s %s @%llu %s(%llu bytes)", weir_dtype_describe(view->dtype)->name,
             weir_shape_format(&view->shape, shape, sizeof shape),
             (unsigned long long)view->byte_offset, format_strides(view, strides, sizeof strides),
             (unsigned long long)weir_view_byte_length(view));
    return text;
}
