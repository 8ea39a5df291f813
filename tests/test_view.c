#include "testing.h"

#include <weir/view.h>

#include "tensor/view_check.h"

#define SHAPE(...)                                                                                 \
    weir_shape_make(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

#define SHAPE_OF(...)                                                                              \
    (weir_shape) {                                                                                 \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {                                      \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static weir_view layout(weir_dtype dtype, weir_shape shape) {
    weir_view view = {0};
    assert_ok(weir_view_layout(dtype, &shape, &view));
    return view;
}

static void assert_view(const weir_view* view, uint64_t byte_offset, weir_shape shape,
                        const int64_t* strides) {
    assert_true(weir_shape_equal(&view->shape, &shape));
    assert_int_equal(view->byte_offset, byte_offset);
    for (uint32_t i = 0; i < shape.rank; i++) {
        assert_int_equal(view->strides[i], strides[i]);
    }
    assert_ok(weir_view_check(view));
}

static void a_layout_is_contiguous_and_counts_its_bytes(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4, 2));
    assert_view(&view, 0, SHAPE(6, 4, 2), (int64_t[]){32, 8, 4});
    assert_null(view.storage);
    assert_true(weir_view_is_contiguous(&view));
    assert_int_equal(weir_view_element_count(&view), 48);
    assert_int_equal(weir_view_byte_length(&view), 192);
    assert_int_equal(weir_view_byte_span(&view), 192);
}

static void a_block_layout_strides_by_whole_blocks(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_Q8_0, SHAPE(3, 64));
    assert_view(&view, 0, SHAPE(3, 64), (int64_t[]){68, 34});
    assert_int_equal(weir_view_byte_length(&view), 204);
    assert_int_equal(weir_view_byte_span(&view), 204);
    assert_true(weir_view_is_contiguous(&view));
}

static void a_scalar_is_a_view_of_one_element(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F64, (weir_shape){0});
    assert_int_equal(weir_view_element_count(&view), 1);
    assert_int_equal(weir_view_byte_span(&view), 8);
    assert_true(weir_view_is_contiguous(&view));
}

static void an_empty_layout_is_legal_and_spans_nothing(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(3, 0, 5));
    assert_view(&view, 0, SHAPE(3, 0, 5), (int64_t[]){20, 20, 4});
    assert_int_equal(weir_view_byte_length(&view), 0);
    assert_int_equal(weir_view_byte_span(&view), 0);
    assert_true(weir_view_is_contiguous(&view));
}

static void a_layout_refuses_what_has_no_bytes(void** state) {
    (void)state;
    weir_view view = {.byte_offset = 7};
    const weir_shape split = SHAPE(4, 33);
    const weir_shape scalar = {0};
    const weir_shape negative = SHAPE(-1);
    const weir_shape huge = SHAPE(INT64_C(1) << 31, INT64_C(1) << 30);
    const weir_shape row = SHAPE(32);
    assert_status(weir_view_layout(WEIR_DTYPE_Q4_0, &split, &view), WEIR_INVALID_ARGUMENT);
    assert_message_has("[4, 33] of Q4_0");
    assert_status(weir_view_layout(WEIR_DTYPE_Q4_0, &scalar, &view), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_layout(WEIR_DTYPE_F32, &negative, &view), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_layout(WEIR_DTYPE_F32, &huge, &view), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_layout(WEIR_DTYPE_NONE, &row, &view), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_layout(WEIR_DTYPE_COUNT, &row, &view), WEIR_INVALID_ARGUMENT);
    assert_int_equal(view.byte_offset, 7);
    assert_ok(weir_view_layout(WEIR_DTYPE_I16, &huge, &view));
}

static void slices_compose(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(8, 4));
    view.byte_offset = 64;
    view.storage = (weir_storage*)&view;
    weir_view slice;
    assert_ok(weir_view_slice(&view, 32, 16, &slice));
    assert_view(&slice, 96, SHAPE(16), (int64_t[]){4});
    assert_ok(weir_view_slice(&slice, 8, 14, &slice));
    assert_view(&slice, 104, SHAPE(14), (int64_t[]){4});
    assert_ptr_equal(slice.storage, &view);
    assert_ok(weir_view_slice(&slice, 56, 0, &slice));
    assert_view(&slice, 160, SHAPE(0), (int64_t[]){4});
}

static void a_slice_past_the_end_is_out_of_range(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(16));
    weir_view slice = {.byte_offset = 7};
    assert_status(weir_view_slice(&view, 4, 16, &slice), WEIR_OUT_OF_RANGE);
    assert_message_has("slice [4, +64) of a view of 64 bytes");
    assert_status(weir_view_slice(&view, 68, 0, &slice), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_slice(&view, UINT64_MAX - 3, 1, &slice), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_slice(&view, 0, INT64_MAX, &slice), WEIR_OUT_OF_RANGE);
    assert_int_equal(slice.byte_offset, 7);
}

static void a_slice_needs_whole_aligned_elements_of_a_contiguous_view(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(4, 4));
    const weir_view blocks = layout(WEIR_DTYPE_Q8_0, SHAPE(4, 64));
    weir_view slice = {.byte_offset = 7};
    weir_view columns;
    assert_status(weir_view_slice(&view, 2, 1, &slice), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_slice(&view, 0, -1, &slice), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_slice(&blocks, 32, 32, &slice), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_slice(&blocks, 34, 16, &slice), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_narrow(&view, 1, 0, 2, &columns));
    assert_status(weir_view_slice(&columns, 0, 1, &slice), WEIR_INVALID_ARGUMENT);
    assert_int_equal(slice.byte_offset, 7);
    assert_ok(weir_view_slice(&blocks, 34, 96, &slice));
    assert_view(&slice, 34, SHAPE(96), (int64_t[]){34});
}

static void narrowing_keeps_strides_and_moves_the_offset(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4));
    assert_ok(weir_view_narrow(&view, 0, 1, 4, &view));
    assert_ok(weir_view_narrow(&view, 1, 1, 2, &view));
    assert_view(&view, 20, SHAPE(4, 2), (int64_t[]){16, 4});
    assert_false(weir_view_is_contiguous(&view));
    assert_int_equal(weir_view_byte_length(&view), 32);
    assert_int_equal(weir_view_byte_span(&view), 3 * 16 + 8);
    assert_ok(weir_view_narrow(&view, 0, 2, 1, &view));
    assert_view(&view, 52, SHAPE(1, 2), (int64_t[]){16, 4});
    assert_true(weir_view_is_contiguous(&view));
}

static void narrowing_outside_the_dim_is_refused(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4));
    weir_view narrow = {.byte_offset = 7};
    assert_status(weir_view_narrow(&view, 2, 0, 1, &narrow), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_narrow(&view, 0, 3, 4, &narrow), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_narrow(&view, 0, -1, 2, &narrow), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_narrow(&view, 0, 7, 0, &narrow), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_narrow(&view, 0, INT64_MAX, INT64_MAX, &narrow), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_narrow(&view, 0, 0, INT64_MIN, &narrow), WEIR_OUT_OF_RANGE);
    assert_int_equal(narrow.byte_offset, 7);
}

static void an_empty_narrow_stays_inside_its_view(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4));
    assert_ok(weir_view_narrow(&view, 1, 0, 2, &view));
    assert_ok(weir_view_narrow(&view, 0, 6, 0, &view));
    assert_view(&view, 0, SHAPE(0, 2), (int64_t[]){16, 4});
}

static void narrowing_blocks_goes_by_whole_blocks(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_Q4_0, SHAPE(4, 96));
    weir_view narrow;
    assert_ok(weir_view_narrow(&view, 1, 32, 64, &narrow));
    assert_view(&narrow, 18, SHAPE(4, 64), (int64_t[]){54, 18});
    assert_int_equal(weir_view_byte_span(&narrow), 3 * 54 + 36);
    assert_status(weir_view_narrow(&view, 1, 16, 32, &narrow), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_narrow(&view, 1, 32, 16, &narrow), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_narrow(&view, 0, 3, 1, &narrow));
    assert_view(&narrow, 162, SHAPE(1, 96), (int64_t[]){54, 18});
}

static void permuting_reorders_dims_and_strides(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(2, 3, 4));
    assert_ok(weir_view_permute(&view, (uint32_t[]){2, 0, 1}, &view));
    assert_view(&view, 0, SHAPE(4, 2, 3), (int64_t[]){4, 48, 16});
    assert_false(weir_view_is_contiguous(&view));
    assert_int_equal(weir_view_byte_span(&view), 96);
    const weir_view before = view;
    assert_status(weir_view_permute(&view, (uint32_t[]){0, 1, 1}, &view), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_permute(&view, (uint32_t[]){0, 1, 3}, &view), WEIR_INVALID_ARGUMENT);
    assert_memory_equal(&before, &view, sizeof view);
    const weir_view scalar = layout(WEIR_DTYPE_F32, (weir_shape){0});
    assert_ok(weir_view_permute(&scalar, NULL, &view));
}

static void blocks_stay_along_the_last_axis(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_Q8_0, SHAPE(2, 3, 64));
    assert_status(weir_view_permute(&view, (uint32_t[]){0, 2, 1}, &view), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_permute(&view, (uint32_t[]){1, 0, 2}, &view));
    assert_view(&view, 0, SHAPE(3, 2, 64), (int64_t[]){68, 204, 34});
}

static void reshaping_splits_and_merges_where_strides_allow(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(4, 6));
    weir_view wide;
    const weir_shape split = SHAPE(2, 2, 3, 2);
    const weir_shape flat = SHAPE(8);
    assert_ok(weir_view_reshape(&view, &split, &wide));
    assert_view(&wide, 0, SHAPE(2, 2, 3, 2), (int64_t[]){48, 24, 8, 4});
    assert_ok(weir_view_narrow(&view, 1, 2, 2, &view));
    const weir_shape halves = SHAPE(2, 1, 2, 2);
    assert_ok(weir_view_reshape(&view, &halves, &wide));
    assert_view(&wide, 8, SHAPE(2, 1, 2, 2), (int64_t[]){48, 48, 24, 4});
    const weir_view before = view;
    assert_status(weir_view_reshape(&view, &flat, &view), WEIR_INVALID_ARGUMENT);
    assert_message_has("[4, 2] to [8]: its strides would need a copy");
    assert_memory_equal(&before, &view, sizeof view);
    const weir_shape more = SHAPE(9);
    assert_status(weir_view_reshape(&view, &more, &view), WEIR_INVALID_ARGUMENT);
    assert_message_has("element counts differ");
}

static void scalars_and_empty_views_reshape(void** state) {
    (void)state;
    const weir_shape ones = SHAPE(1, 1);
    const weir_shape scalar = {0};
    weir_view view = layout(WEIR_DTYPE_F32, scalar);
    assert_ok(weir_view_reshape(&view, &ones, &view));
    assert_view(&view, 0, SHAPE(1, 1), (int64_t[]){4, 4});
    assert_ok(weir_view_reshape(&view, &scalar, &view));
    assert_int_equal(view.shape.rank, 0);
    view = layout(WEIR_DTYPE_F32, SHAPE(0, 3));
    const weir_shape other = SHAPE(5, 0, 2);
    assert_ok(weir_view_reshape(&view, &other, &view));
    assert_view(&view, 0, SHAPE(5, 0, 2), (int64_t[]){8, 8, 4});
}

static void reshaping_blocks_keeps_them_whole_and_adjoining(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_Q8_0, SHAPE(4, 64));
    weir_view other;
    const weir_shape rows = SHAPE(8, 32);
    const weir_shape flat = SHAPE(256);
    const weir_shape split = SHAPE(16, 16);
    assert_ok(weir_view_reshape(&view, &rows, &other));
    assert_view(&other, 0, SHAPE(8, 32), (int64_t[]){34, 34});
    assert_ok(weir_view_reshape(&other, &flat, &other));
    assert_view(&other, 0, SHAPE(256), (int64_t[]){34});
    assert_status(weir_view_reshape(&view, &split, &other), WEIR_INVALID_ARGUMENT);

    weir_view column; // one block of each row: a gap follows each
    assert_ok(weir_view_narrow(&view, 1, 32, 32, &column));
    const weir_shape merged = SHAPE(128);
    const weir_shape deeper = SHAPE(2, 2, 1, 32);
    assert_status(weir_view_reshape(&column, &merged, &other), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_reshape(&column, &deeper, &other));
    assert_view(&other, 34, SHAPE(2, 2, 1, 32), (int64_t[]){136, 68, 68, 34});
}

enum { UNITS_MAX = 4096 };

// Lists the offset of every element in index order; returns how many.
static size_t list_offsets(const weir_view* view, int64_t* offsets) {
    size_t count = 1;
    offsets[0] = (int64_t)view->byte_offset;
    for (uint32_t axis = 0; axis < view->shape.rank; axis++) {
        const size_t dim = (size_t)view->shape.dims[axis];
        for (size_t i = count; i > 0; i--) { // backwards: entry i - 1 is read before it is replaced
            const int64_t base = offsets[i - 1];
            for (size_t j = 0; j < dim; j++) {
                offsets[(i - 1) * dim + j] = base + (int64_t)j * view->strides[axis];
            }
        }
        count *= dim;
    }
    return count;
}

// Tells whether any strides give `shape` the offsets; each stride follows from one pair of them.
static bool strides_exist(const int64_t* offsets, size_t count, const weir_shape* shape) {
    weir_view made = {.byte_offset = (uint64_t)offsets[0], .shape = *shape};
    size_t step = 1;
    for (uint32_t i = shape->rank; i > 0; i--) {
        made.strides[i - 1] = shape->dims[i - 1] > 1 ? offsets[step] - offsets[0] : 0;
        step *= (size_t)shape->dims[i - 1];
    }
    static int64_t listed[UNITS_MAX];
    return list_offsets(&made, listed) == count &&
           memcmp(listed, offsets, count * sizeof *offsets) == 0;
}

static weir_view random_view(test_random* random) {
    weir_shape shape = {.rank = (uint32_t)random_below(random, 5)};
    for (uint32_t i = 0; i < shape.rank; i++) {
        shape.dims[i] = 1 + (int64_t)random_below(random, 6);
    }
    weir_view view = layout(WEIR_DTYPE_I16, shape);
    for (uint64_t steps = random_below(random, 3); shape.rank > 0 && steps > 0; steps--) {
        const uint32_t axis = (uint32_t)random_below(random, shape.rank);
        const int64_t dim = view.shape.dims[axis];
        const int64_t length = 1 + (int64_t)random_below(random, (uint64_t)dim);
        const int64_t start = (int64_t)random_below(random, (uint64_t)(dim - length + 1));
        assert_ok(weir_view_narrow(&view, axis, start, length, &view));
    }
    if (shape.rank > 1 && random_below(random, 3) == 0) {
        uint32_t axes[WEIR_RANK_MAX] = {0, 1, 2, 3, 4};
        const uint64_t other = random_below(random, shape.rank);
        axes[0] = (uint32_t)other;
        axes[other] = 0;
        assert_ok(weir_view_permute(&view, axes, &view));
    }
    if (shape.rank > 0 && random_below(random, 8) == 0) {
        view.strides[random_below(random, shape.rank)] = 0; // one row seen again and again
    }
    return view;
}

// A shape of the same number of elements: the prime factors in random groups.
static weir_shape random_shape_of(test_random* random, int64_t element_count) {
    weir_shape shape = {.rank = 1 + (uint32_t)random_below(random, 5)};
    for (uint32_t i = 0; i < shape.rank; i++) {
        shape.dims[i] = 1;
    }
    for (int64_t factor = 2; element_count > 1; factor++) {
        for (; element_count % factor == 0; element_count /= factor) {
            shape.dims[random_below(random, shape.rank)] *= factor;
        }
    }
    return shape;
}

static void reshape_succeeds_exactly_when_strides_exist(void** state) {
    (void)state;
    test_random random = {0x1234567};
    static int64_t before[UNITS_MAX];
    static int64_t after[UNITS_MAX];
    size_t done = 0;
    size_t refused = 0;
    for (int round = 0; round < 20000; round++) {
        const weir_view view = random_view(&random);
        const size_t count = list_offsets(&view, before);
        const weir_shape shape = random_shape_of(&random, weir_view_element_count(&view));
        weir_view reshaped;
        const weir_status status = weir_view_reshape(&view, &shape, &reshaped);
        assert_int_equal(status == WEIR_OK, strides_exist(before, count, &shape));
        if (status == WEIR_OK) {
            assert_ok(weir_view_check(&reshaped));
            assert_true(weir_shape_equal(&reshaped.shape, &shape));
            assert_int_equal(list_offsets(&reshaped, after), count);
            assert_memory_equal(before, after, count * sizeof *before);
            assert_int_equal(weir_view_is_contiguous(&reshaped), weir_view_is_contiguous(&view));
        }
        done += status == WEIR_OK ? 1 : 0;
        refused += status == WEIR_OK ? 0 : 1;
    }
    assert_true(done > 1000 && refused > 1000);
}

static void span_and_contiguity_agree_with_the_listed_bytes(void** state) {
    (void)state;
    test_random random = {0x7654321};
    static int64_t offsets[UNITS_MAX];
    for (int round = 0; round < 5000; round++) {
        const weir_view view = random_view(&random);
        const size_t count = list_offsets(&view, offsets);
        int64_t last = 0;
        bool is_contiguous = true;
        for (size_t i = 0; i < count; i++) {
            last = offsets[i] > last ? offsets[i] : last;
            is_contiguous = is_contiguous && offsets[i] == offsets[0] + 2 * (int64_t)i;
        }
        assert_int_equal(weir_view_byte_span(&view), last + 2 - offsets[0]);
        assert_int_equal(weir_view_byte_length(&view), 2 * count);
        assert_int_equal(weir_view_is_contiguous(&view), is_contiguous);
    }
}

static void bitcast_rescales_the_last_dimension(void** state) {
    (void)state;
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4));
    assert_ok(weir_view_narrow(&view, 1, 2, 2, &view));
    weir_view cast;
    assert_ok(weir_view_bitcast(&view, WEIR_DTYPE_U8, &cast));
    assert_view(&cast, 8, SHAPE(6, 8), (int64_t[]){16, 1});
    assert_ok(weir_view_bitcast(&cast, WEIR_DTYPE_I64, &cast));
    assert_view(&cast, 8, SHAPE(6, 1), (int64_t[]){16, 8});
    assert_int_equal(cast.dtype, WEIR_DTYPE_I64);
    assert_ok(weir_view_permute(&view, (uint32_t[]){1, 0}, &view));
    assert_ok(weir_view_bitcast(&view, WEIR_DTYPE_I32, &cast));
    assert_view(&cast, 8, SHAPE(2, 6), (int64_t[]){4, 16});
}

static void bitcast_refuses_what_it_would_misread(void** state) {
    (void)state;
    const weir_view floats = layout(WEIR_DTYPE_F32, SHAPE(6, 3));
    const weir_view blocks = layout(WEIR_DTYPE_Q8_0, SHAPE(32));
    const weir_view scalar = layout(WEIR_DTYPE_F32, (weir_shape){0});
    weir_view bytes = layout(WEIR_DTYPE_U8, SHAPE(6, 6));
    weir_view cast = {.byte_offset = 7};
    weir_view turned;
    assert_status(weir_view_bitcast(&floats, WEIR_DTYPE_F64, &cast), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_bitcast(&floats, WEIR_DTYPE_Q8_0, &cast), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_bitcast(&floats, WEIR_DTYPE_NONE, &cast), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_bitcast(&blocks, WEIR_DTYPE_U8, &cast), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_bitcast(&scalar, WEIR_DTYPE_U16, &cast), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_bitcast(&scalar, WEIR_DTYPE_U32, &turned));
    assert_ok(weir_view_permute(&floats, (uint32_t[]){1, 0}, &turned));
    assert_status(weir_view_bitcast(&turned, WEIR_DTYPE_U16, &cast), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_narrow(&bytes, 1, 1, 4, &turned));
    assert_status(weir_view_bitcast(&turned, WEIR_DTYPE_F32, &cast), WEIR_INVALID_ARGUMENT);
    assert_message_has("byte offset 1");
    assert_ok(weir_view_narrow(&bytes, 1, 0, 4, &turned));
    assert_status(weir_view_bitcast(&turned, WEIR_DTYPE_F32, &cast), WEIR_INVALID_ARGUMENT);
    assert_message_has("stride 0 is 6");
    assert_int_equal(cast.byte_offset, 7);
}

static void views_filled_in_by_hand_are_checked(void** state) {
    (void)state;
    const weir_view good = layout(WEIR_DTYPE_Q8_0, SHAPE(4, 64));
    const weir_shape flat = SHAPE(256);
    for (int fault = 0; fault < 7; fault++) {
        weir_view bad = good;
        bad.strides[0] = fault == 0 ? -68 : fault == 1 ? INT64_MAX / 2 : 68;
        bad.strides[1] = fault == 2 ? 33 : 34;
        bad.shape.dims[1] = fault == 3 ? 63 : 64;
        bad.shape.rank = fault == 4 ? 9 : 2;
        bad.dtype = fault == 5 ? WEIR_DTYPE_NONE : WEIR_DTYPE_Q8_0;
        bad.byte_offset = fault == 6 ? UINT64_MAX - 100 : 0;
        weir_view out = {.byte_offset = 7};
        assert_int_not_equal(weir_view_check(&bad), WEIR_OK);
        assert_int_not_equal(weir_view_slice(&bad, 0, 0, &out), WEIR_OK);
        assert_int_not_equal(weir_view_narrow(&bad, 0, 0, 0, &out), WEIR_OK);
        assert_int_not_equal(weir_view_reshape(&bad, &flat, &out), WEIR_OK);
        assert_int_not_equal(weir_view_permute(&bad, (uint32_t[]){0, 1}, &out), WEIR_OK);
        assert_int_not_equal(weir_view_bitcast(&bad, WEIR_DTYPE_U8, &out), WEIR_OK);
        assert_int_equal(out.byte_offset, 7);
        if (fault == 0 || fault == 1 || fault == 4 || fault == 5) {
            assert_true(weir_view_byte_span(&bad) == UINT64_MAX);
        }
    }
}

static void text_shows_type_shape_offset_and_bytes(void** state) {
    (void)state;
    char text[64];
    weir_view view = layout(WEIR_DTYPE_F32, SHAPE(6, 4));
    view.byte_offset = 32;
    assert_string_equal(weir_view_format(&view, text, sizeof text), "F32 [6, 4] @32 (96 bytes)");
    assert_string_equal(weir_view_format(&view, text, 8), "F32 [6,");
    assert_string_equal(weir_view_format(&(weir_view){0}, text, sizeof text),
                        "NONE [] @0 (0 bytes)");
}

static void a_broadcast_view_repeats_what_it_has_one_of(void** state) {
    (void)state;
    weir_view row = layout(WEIR_DTYPE_F32, SHAPE(1, 4));
    row.byte_offset = 16;
    weir_view out;
    assert_ok(weir_view_broadcast(&row, &SHAPE_OF(3, 5, 4), &out));
    assert_view(&out, 16, SHAPE(3, 5, 4), (int64_t[]){0, 0, 4});
    assert_int_equal(weir_view_element_count(&out), 60);
    assert_int_equal(weir_view_byte_span(&out), 16);
    assert_false(weir_view_is_contiguous(&out));
    const weir_view column = layout(WEIR_DTYPE_F32, SHAPE(3, 1));
    assert_ok(weir_view_broadcast(&column, &SHAPE_OF(3, 7), &out));
    assert_view(&out, 0, SHAPE(3, 7), (int64_t[]){4, 0});
    assert_true(weir_view_repeats(&out));
    assert_ok(weir_view_reshape(&out, &SHAPE_OF(3, 7, 1), &out));
    assert_status(weir_view_reshape(&out, &SHAPE_OF(21), &out), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_broadcast(&column, &SHAPE_OF(3, 0), &out)); // of one, none
    assert_int_equal(weir_view_byte_span(&out), 0);
    const weir_view scalar = layout(WEIR_DTYPE_F32, (weir_shape){0});
    assert_ok(weir_view_broadcast(&scalar, &SHAPE_OF(2, 2), &out));
    assert_int_equal(weir_view_byte_span(&out), 4);
    assert_ok(weir_view_broadcast(&column, &SHAPE_OF(3, 1), &out));
    assert_true(weir_view_is_contiguous(&out) && !weir_view_repeats(&out));
    const weir_view blocks = layout(WEIR_DTYPE_Q8_0, SHAPE(1, 64));
    assert_ok(weir_view_broadcast(&blocks, &SHAPE_OF(9, 64), &out));
    assert_view(&out, 0, SHAPE(9, 64), (int64_t[]){0, 34});
}

static void broadcasts_that_do_not_match_are_refused(void** state) {
    (void)state;
    const weir_view view = layout(WEIR_DTYPE_F32, SHAPE(3, 4));
    weir_view out = {.byte_offset = 77};
    assert_status(weir_view_broadcast(&view, &SHAPE_OF(3), &out), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_broadcast(&view, &SHAPE_OF(3, 8), &out), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_broadcast(&view, &SHAPE_OF(4, 3), &out), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_broadcast(&view, &SHAPE_OF(-1, 3, 4), &out), WEIR_INVALID_ARGUMENT);
    const weir_view one = layout(WEIR_DTYPE_F32, SHAPE(1));
    assert_status(weir_view_broadcast(&one, &SHAPE_OF(INT64_MAX, 2), &out), WEIR_OUT_OF_RANGE);
    assert_int_equal(out.byte_offset, 77);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broadcast_view_repeats_what_it_has_one_of),
        cmocka_unit_test(broadcasts_that_do_not_match_are_refused),
        cmocka_unit_test(a_layout_is_contiguous_and_counts_its_bytes),
        cmocka_unit_test(a_block_layout_strides_by_whole_blocks),
        cmocka_unit_test(a_scalar_is_a_view_of_one_element),
        cmocka_unit_test(an_empty_layout_is_legal_and_spans_nothing),
        cmocka_unit_test(a_layout_refuses_what_has_no_bytes),
        cmocka_unit_test(slices_compose),
        cmocka_unit_test(a_slice_past_the_end_is_out_of_range),
        cmocka_unit_test(a_slice_needs_whole_aligned_elements_of_a_contiguous_view),
        cmocka_unit_test(narrowing_keeps_strides_and_moves_the_offset),
        cmocka_unit_test(narrowing_outside_the_dim_is_refused),
        cmocka_unit_test(an_empty_narrow_stays_inside_its_view),
        cmocka_unit_test(narrowing_blocks_goes_by_whole_blocks),
        cmocka_unit_test(permuting_reorders_dims_and_strides),
        cmocka_unit_test(blocks_stay_along_the_last_axis),
        cmocka_unit_test(reshaping_splits_and_merges_where_strides_allow),
        cmocka_unit_test(scalars_and_empty_views_reshape),
        cmocka_unit_test(reshaping_blocks_keeps_them_whole_and_adjoining),
        cmocka_unit_test(reshape_succeeds_exactly_when_strides_exist),
        cmocka_unit_test(span_and_contiguity_agree_with_the_listed_bytes),
        cmocka_unit_test(bitcast_rescales_the_last_dimension),
        cmocka_unit_test(bitcast_refuses_what_it_would_misread),
        cmocka_unit_test(views_filled_in_by_hand_are_checked),
        cmocka_unit_test(text_shows_type_shape_offset_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
