// Graphs: what each builder function makes, what it refuses, and with which message.
#include "testing.h"

#include <math.h>
#include <weir/graph.h>

#include "graph/graph.h"

#define ROWS_MAX 16

typedef struct fixture {
    weir_graph* graph;
    weir_param rows;     // [1, 16]
    weir_param other;    // [1, 16] too
    weir_param position; // [0, 31]
    weir_value x;        // input f32 [rows, 64]
    weir_value fixed;    // input f32 [16, 64]
    weir_value ids;      // input i32 [rows]
} fixture;

static weir_shape shape1(int64_t a) {
    return weir_shape_make(1, (int64_t[]){a});
}

static weir_shape shape2(int64_t a, int64_t b) {
    return weir_shape_make(2, (int64_t[]){a, b});
}

static weir_value new_weight(weir_graph* graph, weir_dtype dtype, weir_shape shape) {
    weir_value weight = WEIR_VALUE_NONE;
    assert_ok(weir_graph_weight(graph, "w", dtype, &shape, &weight));
    return weight;
}

static weir_value new_state(weir_graph* graph, weir_dtype dtype, weir_shape shape) {
    weir_value state = WEIR_VALUE_NONE;
    assert_ok(weir_graph_state(graph, "cache", dtype, &shape, &state));
    return state;
}

static weir_value new_input(weir_graph* graph, weir_dtype dtype, weir_shape shape,
                            weir_param rows) {
    weir_value input = WEIR_VALUE_NONE;
    assert_ok(weir_graph_input(graph, "in", dtype, &shape, rows, &input));
    return input;
}

static int make_graph(void** state) {
    static fixture f;
    assert_ok(weir_graph_create(NULL, &f.graph));
    assert_ok(weir_graph_param(f.graph, "rows", 1, ROWS_MAX, &f.rows));
    assert_ok(weir_graph_param(f.graph, "other", 1, ROWS_MAX, &f.other));
    assert_ok(weir_graph_param(f.graph, "position", 0, 31, &f.position));
    f.x = new_input(f.graph, WEIR_DTYPE_F32, shape2(ROWS_MAX, 64), f.rows);
    f.fixed = new_input(f.graph, WEIR_DTYPE_F32, shape2(ROWS_MAX, 64), WEIR_PARAM_NONE);
    f.ids = new_input(f.graph, WEIR_DTYPE_I32, shape1(ROWS_MAX), f.rows);
    *state = &f;
    return 0;
}

static int drop_graph(void** state) {
    weir_graph_destroy(((fixture*)*state)->graph);
    return 0;
}

// The last value is a result f32 [rows, width] of operation `op`.
static void assert_result(const fixture* f, weir_value y, weir_op_kind op, weir_param rows,
                          int64_t width) {
    const weir_value_info* info = weir_graph_value_info(f->graph, y);
    assert_non_null(info);
    assert_int_equal(y, weir_graph_value_count(f->graph) - 1);
    assert_int_equal(info->kind, WEIR_VALUE_RESULT);
    assert_int_equal(info->root, y);
    assert_int_equal(info->rows, rows);
    assert_int_equal(info->layout.dtype, WEIR_DTYPE_F32);
    assert_int_equal(info->layout.shape.rank, 2);
    assert_int_equal(info->layout.shape.dims[0], ROWS_MAX);
    assert_int_equal(info->layout.shape.dims[1], width);
    assert_true(weir_view_is_contiguous(&info->layout));
    assert_null(info->layout.storage);
    assert_string_equal(info->name, "");
    assert_false(info->is_output);
    const graph_op* added = &f->graph->ops.items[f->graph->ops.count - 1];
    assert_int_equal(added->kind, op);
    assert_int_equal(added->output, y);
    for (uint32_t i = 0; i < GRAPH_OP_INPUTS; i++) {
        assert_int_equal(added->inputs[i] == WEIR_VALUE_NONE, i >= added->input_count);
    }
}

// Refusals leave the graph as it was and do not write the result.
#define assert_refused(f, call, part)                                                              \
    do {                                                                                           \
        const uint32_t values_before = weir_graph_value_count((f)->graph);                         \
        const uint32_t ops_before = weir_graph_op_count((f)->graph);                               \
        weir_value y = 12345;                                                                      \
        assert_status((call), WEIR_INVALID_ARGUMENT);                                              \
        assert_message_has(part);                                                                  \
        assert_int_equal(y, 12345);                                                                \
        assert_int_equal(weir_graph_value_count((f)->graph), values_before);                       \
        assert_int_equal(weir_graph_op_count((f)->graph), ops_before);                             \
    } while (0)

static void operations_have_names(void** state) {
    (void)state;
    assert_string_equal(weir_op_name(WEIR_OP_GET_ROWS), "get_rows");
    assert_string_equal(weir_op_name(WEIR_OP_SET_ROWS), "set_rows");
    assert_string_equal(weir_op_name(WEIR_OP_COUNT), "unknown");
    assert_null(weir_graph_op_info(WEIR_OP_COUNT));
    for (uint32_t op = 0; op < WEIR_OP_COUNT; op++) {
        assert_non_null(weir_graph_op_info((weir_op_kind)op)->name);
    }
}

static void only_rows_that_are_set_go_to_a_state_and_matmul_is_never_in_place(void** state) {
    (void)state;
    for (uint32_t op = 0; op < WEIR_OP_COUNT; op++) {
        const graph_op_info* info = weir_graph_op_info((weir_op_kind)op);
        assert_int_equal(info->writes_state, op == WEIR_OP_SET_ROWS ||
                                                 op == WEIR_OP_ROPE_SET_ROWS ||
                                                 op == WEIR_OP_MATMUL_SET_ROWS);
    }
    assert_int_equal(weir_graph_op_info(WEIR_OP_MATMUL)->in_place, 0);
    assert_int_equal(weir_graph_op_info(WEIR_OP_GET_ROWS)->in_place, 0);
    assert_int_equal(weir_graph_op_info(WEIR_OP_SET_ROWS)->in_place, 0);
    assert_int_equal(weir_graph_op_info(WEIR_OP_ATTENTION)->in_place, 1);
    assert_int_equal(weir_graph_op_info(WEIR_OP_ADD)->in_place, 3);
}

static void leaves_keep_what_they_were_given(void** state) {
    fixture* f = *state;
    char name[] = "blk.0.attn_q.weight";
    const weir_shape shape = shape2(48, 64);
    weir_value w = WEIR_VALUE_NONE;
    assert_ok(weir_graph_weight(f->graph, name, WEIR_DTYPE_Q8_0, &shape, &w));
    name[0] = '?';
    const weir_value_info* info = weir_graph_value_info(f->graph, w);
    assert_string_equal(info->name, "blk.0.attn_q.weight");
    assert_int_equal(info->kind, WEIR_VALUE_WEIGHT);
    assert_int_equal(info->root, w);
    assert_int_equal(info->rows, WEIR_PARAM_NONE);
    assert_int_equal(info->layout.strides[0], 68);
    assert_int_equal(weir_graph_value_info(f->graph, f->x)->rows, f->rows);
    assert_int_equal(weir_graph_value_info(f->graph, f->x)->kind, WEIR_VALUE_INPUT);
    weir_value unnamed = WEIR_VALUE_NONE;
    assert_ok(weir_graph_state(f->graph, NULL, WEIR_DTYPE_F32, &shape, &unnamed));
    assert_string_equal(weir_graph_value_info(f->graph, unnamed)->name, "");
}

static void params_keep_their_bounds(void** state) {
    fixture* f = *state;
    assert_int_equal(weir_graph_param_count(f->graph), 3);
    const weir_param_info* info = weir_graph_param_info(f->graph, f->position);
    assert_string_equal(info->name, "position");
    assert_int_equal(info->lower, 0);
    assert_int_equal(info->upper, 31);
    assert_null(weir_graph_param_info(f->graph, 3));
    assert_null(weir_graph_param_info(f->graph, WEIR_PARAM_NONE));
    assert_null(weir_graph_value_info(f->graph, WEIR_VALUE_NONE));
    weir_param param = 77;
    assert_status(weir_graph_param(f->graph, "wrong", 2, 1, &param), WEIR_INVALID_ARGUMENT);
    assert_message_has("wrong");
    assert_int_equal(param, 77);
    assert_int_equal(weir_graph_param_count(f->graph), 3);
}

static void bad_leaves_are_refused(void** state) {
    fixture* f = *state;
    const weir_shape good = shape2(ROWS_MAX, 64);
    const weir_shape short_rows = shape2(ROWS_MAX - 1, 64);
    const weir_shape empty = shape2(ROWS_MAX, 0);
    const weir_shape negative = shape2(ROWS_MAX, -1);
    const weir_shape odd = shape2(2, 33);
    const weir_shape scalar = {0};
    weir_graph* g = f->graph;
    assert_refused(f, weir_graph_input(g, "in", WEIR_DTYPE_F32, &short_rows, f->rows, &y), "[15,");
    assert_refused(f, weir_graph_input(g, "in", WEIR_DTYPE_F32, &scalar, f->rows, &y), "\"rows\"");
    assert_refused(f, weir_graph_input(g, "in", WEIR_DTYPE_F32, &good, 9, &y), "parameter 9");
    assert_refused(f, weir_graph_input(g, "in", WEIR_DTYPE_F32, &empty, f->rows, &y),
                   "no elements");
    assert_refused(f, weir_graph_weight(g, "w1", WEIR_DTYPE_F32, &negative, &y), "weight \"w1\"");
    assert_refused(f, weir_graph_weight(g, "w1", WEIR_DTYPE_NONE, &good, &y), "w1");
    assert_refused(f, weir_graph_weight(g, "w1", WEIR_DTYPE_Q8_0, &odd, &y), "w1");
    assert_refused(f, weir_graph_state(g, "s", WEIR_DTYPE_Q8_0, &odd, &y), "state \"s\"");
    const weir_shape huge = shape2(INT64_MAX / 2, 64);
    weir_value w = 5;
    assert_status(weir_graph_weight(g, "w2", WEIR_DTYPE_F32, &huge, &w), WEIR_OUT_OF_RANGE);
    assert_int_equal(w, 5);
}

static void only_results_can_be_outputs(void** state) {
    fixture* f = *state;
    weir_value y = WEIR_VALUE_NONE;
    weir_value view = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, f->x, 1e-5f, &y));
    assert_ok(weir_graph_narrow(f->graph, y, 1, 0, 8, &view));
    const weir_value cache = new_state(f->graph, WEIR_DTYPE_F32, shape2(32, 64));
    const weir_value refused[] = {
        view, cache, f->x, new_weight(f->graph, WEIR_DTYPE_F32, shape1(4)), 99, WEIR_VALUE_NONE};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_status(weir_graph_output(f->graph, refused[i]), WEIR_INVALID_ARGUMENT);
        assert_message_has("output");
    }
    assert_ok(weir_graph_output(f->graph, y));
    assert_true(weir_graph_value_info(f->graph, y)->is_output);
}

static void a_name_is_copied_and_replaced(void** state) {
    fixture* f = *state;
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, f->x, 1e-5f, &y));
    char name[] = "norm";
    assert_ok(weir_graph_name(f->graph, y, name));
    name[0] = 'X';
    assert_string_equal(weir_graph_value_info(f->graph, y)->name, "norm");
    assert_ok(weir_graph_name(f->graph, y, "other"));
    assert_string_equal(weir_graph_value_info(f->graph, y)->name, "other");
    assert_ok(weir_graph_name(f->graph, y, ""));
    assert_string_equal(weir_graph_value_info(f->graph, y)->name, "");
    assert_status(weir_graph_name(f->graph, 999, "x"), WEIR_INVALID_ARGUMENT);
}

static void values_are_found_by_the_first_of_their_names(void** state) {
    fixture* f = *state;
    weir_value y[2];
    weir_value found = 77;
    for (int i = 0; i < 2; i++) {
        assert_ok(weir_graph_rms_norm(f->graph, f->x, 1e-5f, &y[i]));
        assert_status(weir_graph_find(f->graph, "norm", &found), WEIR_NOT_FOUND);
        assert_message_has("\"norm\"");
    }
    assert_status(weir_graph_find(f->graph, "", &found), WEIR_NOT_FOUND); // y has no name
    assert_int_equal(found, 77);
    assert_ok(weir_graph_name(f->graph, y[1], "norm"));
    assert_ok(weir_graph_find(f->graph, "norm", &found));
    assert_int_equal(found, y[1]);
    assert_ok(weir_graph_name(f->graph, y[0], "norm"));
    assert_ok(weir_graph_find(f->graph, "norm", &found));
    assert_int_equal(found, y[0]);
    assert_ok(weir_graph_find(f->graph, weir_graph_value_info(f->graph, f->x)->name, &found));
    assert_int_equal(found, f->x);
}

static void views_of_views_point_at_the_root(void** state) {
    fixture* f = *state;
    const weir_shape cut = weir_shape_make(3, (int64_t[]){ROWS_MAX, 8, 8});
    const weir_shape flat = shape2(ROWS_MAX, 32);
    weir_value narrow = WEIR_VALUE_NONE;
    weir_value heads = WEIR_VALUE_NONE;
    weir_value some = WEIR_VALUE_NONE;
    weir_value joined = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, f->x, 1e-5f, &y));
    assert_ok(weir_graph_reshape(f->graph, y, &cut, &heads));
    assert_ok(weir_graph_narrow(f->graph, heads, 1, 2, 4, &some));
    assert_ok(weir_graph_reshape(f->graph, some, &flat, &joined));
    assert_ok(weir_graph_narrow(f->graph, joined, 1, 8, 16, &narrow));
    const weir_value_info* info = weir_graph_value_info(f->graph, narrow);
    assert_int_equal(info->kind, WEIR_VALUE_VIEW);
    assert_int_equal(info->root, y);
    assert_int_equal(info->rows, f->rows);
    assert_int_equal(info->layout.byte_offset, (2 * 8 + 8) * 4);
    assert_int_equal(info->layout.shape.dims[0], ROWS_MAX);
    assert_int_equal(info->layout.shape.dims[1], 16);
    assert_int_equal(info->layout.strides[0], 64 * 4);
    assert_null(info->layout.storage);
    weir_value result = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, narrow, 0.0f, &result));
    assert_result(f, result, WEIR_OP_RMS_NORM, f->rows, 16);
}

static void a_parameter_dimension_is_neither_narrowed_nor_reshaped(void** state) {
    fixture* f = *state;
    const weir_shape flat = shape1(ROWS_MAX * 64);
    const weir_shape split = shape2(ROWS_MAX / 2, 128);
    const weir_shape scalar = {0};
    weir_graph* g = f->graph;
    assert_refused(f, weir_graph_narrow(g, f->x, 0, 0, ROWS_MAX, &y), "parameter \"rows\"");
    assert_refused(f, weir_graph_reshape(g, f->x, &flat, &y), "parameter \"rows\"");
    assert_refused(f, weir_graph_reshape(g, f->x, &split, &y), "[8, 128]");
    assert_refused(f, weir_graph_reshape(g, f->x, &scalar, &y), "parameter \"rows\"");
    assert_refused(f, weir_graph_reshape(g, 99, &split, &y), "no value 99");
    assert_refused(f, weir_graph_narrow(g, 99, 0, 0, 1, &y), "no value 99");
    assert_refused(f, weir_graph_narrow(g, f->x, 2, 0, 1, &y), "narrow");
    assert_refused(f, weir_graph_narrow(g, f->x, 1, 3, 0, &y), "no elements");
    weir_value view = WEIR_VALUE_NONE;
    assert_status(weir_graph_narrow(g, f->x, 1, 60, 5, &view), WEIR_OUT_OF_RANGE);
    assert_ok(weir_graph_narrow(g, f->fixed, 0, 3, 4, &view));
    assert_ok(weir_graph_reshape(g, f->fixed, &flat, &view));
}

static void get_rows_takes_its_rows_from_the_indices(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    weir_value done = WEIR_VALUE_NONE;
    const weir_value q8 = new_weight(g, WEIR_DTYPE_Q8_0, shape2(100, 96));
    assert_ok(weir_graph_get_rows(g, q8, f->ids, &done));
    assert_result(f, done, WEIR_OP_GET_ROWS, f->rows, 96);
    const weir_value one = new_input(g, WEIR_DTYPE_I32, shape1(1), WEIR_PARAM_NONE);
    assert_ok(weir_graph_get_rows(g, done, one, &done));
    assert_int_equal(weir_graph_value_info(g, done)->rows, WEIR_PARAM_NONE);
    assert_int_equal(weir_graph_value_info(g, done)->layout.shape.dims[0], 1);
    const weir_value packed = new_weight(g, WEIR_DTYPE_IQ3_S, shape2(4, 256));
    const weir_value row = new_weight(g, WEIR_DTYPE_F32, shape1(64));
    assert_refused(f, weir_graph_get_rows(g, packed, f->ids, &y), "IQ3_S [4, 256]");
    assert_refused(f, weir_graph_get_rows(g, row, f->ids, &y), "table");
    assert_refused(f, weir_graph_get_rows(g, q8, f->x, &y), "indices is F32");
    assert_refused(f, weir_graph_get_rows(g, 99, f->ids, &y), "table is value 99");
    assert_refused(f, weir_graph_get_rows(g, q8, 99, &y), "indices is value 99");
}

static void rms_norm_takes_rows_and_a_sane_epsilon(void** state) {
    fixture* f = *state;
    weir_value norm = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, f->x, 1e-6f, &norm));
    assert_result(f, norm, WEIR_OP_RMS_NORM, f->rows, 64);
    assert_true(f->graph->ops.items[0].constants.epsilon == 1e-6f);
    assert_refused(f, weir_graph_rms_norm(f->graph, f->ids, 1e-6f, &y), "rms_norm: x is I32 [16]");
    assert_refused(f, weir_graph_rms_norm(f->graph, f->x, -1e-6f, &y), "epsilon");
    assert_refused(f, weir_graph_rms_norm(f->graph, f->x, NAN, &y), "epsilon");
    assert_refused(f, weir_graph_rms_norm(f->graph, f->x, INFINITY, &y), "epsilon");
}

typedef weir_status (*elementwise_fn)(weir_graph*, weir_value, weir_value, weir_value*);

static void mul_and_add_take_equal_shapes_or_one_row(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const elementwise_fn functions[] = {weir_graph_mul, weir_graph_add};
    const weir_op_kind kinds[] = {WEIR_OP_MUL, WEIR_OP_ADD};
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16};
    const weir_value q8 = new_weight(g, WEIR_DTYPE_Q8_0, shape1(64));
    const weir_value half = new_weight(g, WEIR_DTYPE_F16, shape2(ROWS_MAX, 64));
    const weir_value wide = new_weight(g, WEIR_DTYPE_F32, shape1(65));
    const weir_value tall = new_input(g, WEIR_DTYPE_F32, shape2(ROWS_MAX + 1, 64), WEIR_PARAM_NONE);
    const weir_value moving = new_input(g, WEIR_DTYPE_F32, shape1(ROWS_MAX), f->rows);
    const weir_value square = new_input(g, WEIR_DTYPE_F32, shape2(ROWS_MAX, ROWS_MAX), f->rows);
    const weir_value others = new_input(g, WEIR_DTYPE_F32, shape2(ROWS_MAX, 64), f->other);
    for (size_t i = 0; i < 2; i++) {
        const elementwise_fn call = functions[i];
        weir_value done = WEIR_VALUE_NONE;
        assert_ok(call(g, f->x, f->x, &done));
        assert_result(f, done, kinds[i], f->rows, 64);
        for (size_t d = 0; d < 3; d++) {
            assert_ok(call(g, f->x, new_weight(g, dtypes[d], shape1(64)), &done));
            assert_result(f, done, kinds[i], f->rows, 64);
        }
        assert_refused(f, call(g, f->x, q8, &y), "Q8_0 [64]");
        assert_refused(f, call(g, f->x, half, &y), "b is F16 [16, 64]");
        assert_refused(f, call(g, f->x, wide, &y), "a [16, 64] and b [65]");
        assert_refused(f, call(g, f->fixed, tall, &y), "a [16, 64] and b [17, 64]");
        assert_refused(f, call(g, square, moving, &y), "a [16, 16] and b [16]");
        assert_refused(f, call(g, f->x, f->fixed, &y), "same parameter");
        assert_refused(f, call(g, f->x, others, &y), "same parameter");
        assert_refused(f, call(g, f->ids, f->x, &y), "a is I32");
        assert_refused(f, call(g, f->x, 99, &y), "b is value 99");
    }
}

static void matmul_takes_every_type_that_can_be_decoded(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_value x = new_input(g, WEIR_DTYPE_F32, shape2(ROWS_MAX, 256), f->rows);
    for (uint32_t dtype = 1; dtype < WEIR_DTYPE_COUNT; dtype++) {
        const weir_value w = new_weight(g, (weir_dtype)dtype, shape2(48, 256));
        if (weir_dtype_is_decodable((weir_dtype)dtype)) {
            weir_value done = WEIR_VALUE_NONE;
            assert_ok(weir_graph_matmul(g, x, w, &done));
            assert_result(f, done, WEIR_OP_MATMUL, f->rows, 48);
        } else {
            assert_refused(f, weir_graph_matmul(g, x, w, &y), "matmul: w is ");
        }
    }
    const weir_value narrow = new_weight(g, WEIR_DTYPE_F32, shape2(32, 48));
    const weir_value row = new_weight(g, WEIR_DTYPE_F32, shape1(64));
    assert_refused(f, weir_graph_matmul(g, f->x, narrow, &y),
                   "matmul: x [16, 64] and w [32, 48]: the last dimensions differ");
    assert_refused(f, weir_graph_matmul(g, f->x, row, &y), "w is F32 [64]");
    assert_refused(f, weir_graph_matmul(g, f->x, f->x, &y), "w follow a parameter");
    assert_refused(f, weir_graph_matmul(g, f->ids, narrow, &y), "x is I32");
}

static void rope_replaces_zeros_by_defaults(void** state) {
    fixture* f = *state;
    const weir_rope_desc desc = {.head_dim = 16, .base = 10000.0f, .position = f->position};
    weir_value done = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rope(f->graph, f->x, WEIR_VALUE_NONE, &desc, &done));
    assert_result(f, done, WEIR_OP_ROPE, f->rows, 64);
    const weir_rope_desc* kept = &f->graph->ops.items[0].constants.rope;
    assert_int_equal(kept->rotated, 16);
    assert_true(kept->scale == 1.0f);
    const weir_value factors = new_weight(f->graph, WEIR_DTYPE_F32, shape1(8));
    assert_ok(weir_graph_rope(f->graph, f->x, factors, &desc, &done));
    assert_int_equal(f->graph->ops.items[1].input_count, 2);
    assert_int_equal(f->graph->ops.items[1].inputs[1], factors);
}

static void rope_refuses_heads_that_do_not_fit(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_rope_desc good = {.head_dim = 16, .base = 10000.0f, .position = f->position};
    const weir_value half = new_weight(g, WEIR_DTYPE_F16, shape1(8));
    const weir_value seven = new_weight(g, WEIR_DTYPE_F32, shape1(7));
    weir_rope_desc bad[9];
    for (size_t i = 0; i < 9; i++) {
        bad[i] = good;
    }
    bad[0].head_dim = 0;
    bad[1].head_dim = 24;
    bad[2].rotated = 7;
    bad[3].rotated = 18;
    bad[4].base = 0.0f;
    bad[5].base = INFINITY;
    bad[6].scale = NAN;
    bad[7].position = 9;
    bad[8].pairing = (weir_rope_pairing)2;
    for (size_t i = 0; i < 9; i++) {
        assert_refused(f, weir_graph_rope(g, f->x, WEIR_VALUE_NONE, &bad[i], &y), "rope: ");
    }
    weir_rope_desc odd = good;
    odd.head_dim = 1;
    assert_refused(f, weir_graph_rope(g, f->x, WEIR_VALUE_NONE, &odd, &y), "even");
    assert_refused(f, weir_graph_rope(g, f->x, half, &good, &y), "factors is F16");
    assert_refused(f, weir_graph_rope(g, f->x, seven, &good, &y), "factors [7]");
    assert_refused(f, weir_graph_rope(g, f->ids, WEIR_VALUE_NONE, &good, &y), "x is I32");
    assert_refused(f, weir_graph_rope(g, f->x, 99, &good, &y), "factors is value 99");
}

static void attention_takes_grouped_heads(void** state) {
    fixture* f = *state;
    const weir_value keys = new_state(f->graph, WEIR_DTYPE_F32, shape2(32, 32));
    const weir_value values = new_state(f->graph, WEIR_DTYPE_F32, shape2(32, 32));
    const weir_attention_desc desc = {
        .heads = 4, .kv_heads = 2, .head_dim = 16, .position = f->position};
    weir_value done = WEIR_VALUE_NONE;
    assert_ok(weir_graph_attention(f->graph, f->x, keys, values, &desc, &done));
    assert_result(f, done, WEIR_OP_ATTENTION, f->rows, 64);
    assert_true(f->graph->ops.items[0].constants.attention.scale == 0.25f);
    assert_int_equal(f->graph->ops.items[0].inputs[2], values);
}

static void attention_in_parts_has_a_column_for_each_head_and_key(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_value cache = new_state(g, WEIR_DTYPE_F32, shape2(32, 32));
    weir_attention_desc desc = {.heads = 4, .kv_heads = 2, .head_dim = 16, .position = f->position};
    weir_value scores = WEIR_VALUE_NONE;
    weir_value weights = WEIR_VALUE_NONE;
    weir_value done = WEIR_VALUE_NONE;
    assert_ok(weir_graph_attention_scores(g, f->x, cache, &desc, &scores));
    assert_result(f, scores, WEIR_OP_ATTENTION_SCORES, f->rows, 4 * 32);
    assert_ok(weir_graph_attention_softmax(g, scores, &desc, &weights));
    assert_result(f, weights, WEIR_OP_ATTENTION_SOFTMAX, f->rows, 4 * 32);
    assert_true(g->ops.items[1].constants.attention.scale == 0.25f);
    assert_ok(weir_graph_attention_sum(g, weights, cache, &desc, &done));
    assert_result(f, done, WEIR_OP_ATTENTION_SUM, f->rows, 64);
    assert_int_equal(weir_graph_op_info(WEIR_OP_ATTENTION_SOFTMAX)->in_place, 1);
    assert_refused(f, weir_graph_attention_scores(g, scores, cache, &desc, &y), "attention_scores");
    assert_refused(f, weir_graph_attention_sum(g, f->x, cache, &desc, &y), "attention_sum");
    desc.heads = 6;
    assert_refused(f, weir_graph_attention_softmax(g, scores, &desc, &y), "attention_softmax");
    desc.heads = 4;
    desc.position = WEIR_PARAM_NONE;
    assert_refused(f, weir_graph_attention_scores(g, f->x, cache, &desc, &y), "attention_scores");
    assert_refused(f, weir_graph_attention_softmax(g, scores, &desc, &y), "attention_softmax");
    assert_refused(f, weir_graph_attention_sum(g, weights, cache, &desc, &y), "attention_sum");
}

static void caches_may_have_fewer_bits(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    for (int i = 0; i < 16; i++) {
        const weir_attention_desc desc = {
            .heads = 8, .kv_heads = 4, .head_dim = 8, .position = f->position};
        const weir_value keys = new_state(g, dtypes[i % 4], shape2(32, 32));
        const weir_value values = new_state(g, dtypes[i / 4], shape2(32, 32));
        const weir_value rows = new_input(g, WEIR_DTYPE_F32, shape2(16, 32), WEIR_PARAM_NONE);
        weir_value y = WEIR_VALUE_NONE;
        assert_ok(weir_graph_set_rows(g, rows, keys, f->position));
        assert_ok(weir_graph_set_rows(g, rows, values, f->position));
        assert_ok(weir_graph_attention(g, f->x, keys, values, &desc, &y));
        assert_int_equal(weir_graph_value_info(g, y)->layout.dtype, WEIR_DTYPE_F32);
    }
}

static void attention_refuses_heads_and_caches_that_do_not_fit(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_value cache = new_state(g, WEIR_DTYPE_F32, shape2(32, 32));
    const weir_value longer = new_state(g, WEIR_DTYPE_F32, shape2(33, 32));
    const weir_value small = new_state(g, WEIR_DTYPE_F32, shape2(31, 32));
    const weir_value packed = new_state(g, WEIR_DTYPE_Q4_0, shape2(32, 32));
    const weir_attention_desc good = {
        .heads = 4, .kv_heads = 2, .head_dim = 16, .position = f->position};
    weir_attention_desc bad[7];
    for (size_t i = 0; i < 7; i++) {
        bad[i] = good;
    }
    bad[0].heads = 0;
    bad[1].kv_heads = 0;
    bad[2].kv_heads = 3;
    bad[3].head_dim = 8;
    bad[4].scale = INFINITY;
    bad[5].position = WEIR_PARAM_NONE;
    bad[6].kv_heads = 4;
    for (size_t i = 0; i < 7; i++) {
        assert_refused(f, weir_graph_attention(g, f->x, cache, cache, &bad[i], &y), "attention: ");
    }
    assert_refused(f, weir_graph_attention(g, f->x, cache, longer, &good, &y),
                   "keys [32, 32] and values [33, 32]");
    assert_refused(f, weir_graph_attention(g, f->x, small, small, &good, &y),
                   "\"position\" may be 31 and keys has 31 rows");
    assert_refused(f, weir_graph_attention(g, f->x, packed, packed, &good, &y), "keys is Q4_0");
    assert_refused(f, weir_graph_attention(g, f->ids, cache, cache, &good, &y), "q is I32");
}

static void silu_gate_takes_equal_shapes(void** state) {
    fixture* f = *state;
    weir_value done = WEIR_VALUE_NONE;
    assert_ok(weir_graph_silu_gate(f->graph, f->x, f->x, &done));
    assert_result(f, done, WEIR_OP_SILU_GATE, f->rows, 64);
    const weir_value wide = new_input(f->graph, WEIR_DTYPE_F32, shape2(ROWS_MAX, 65), f->rows);
    assert_refused(f, weir_graph_silu_gate(f->graph, f->x, wide, &y),
                   "gate [16, 64] and up [16, 65]");
    assert_refused(f, weir_graph_silu_gate(f->graph, f->x, f->fixed, &y), "same parameter");
    assert_refused(f, weir_graph_silu_gate(f->graph, f->x, f->ids, &y), "up is I32");
}

static void set_rows_writes_a_state_or_a_view_of_one(void** state) {
    fixture* f = *state;
    const weir_value layers =
        new_state(f->graph, WEIR_DTYPE_F32, weir_shape_make(3, (int64_t[]){2, 32, 64}));
    const weir_shape flat = shape2(32, 64);
    weir_value layer = WEIR_VALUE_NONE;
    assert_ok(weir_graph_narrow(f->graph, layers, 0, 1, 1, &layer));
    assert_ok(weir_graph_reshape(f->graph, layer, &flat, &layer));
    const uint32_t values = weir_graph_value_count(f->graph);
    assert_ok(weir_graph_set_rows(f->graph, f->x, layer, f->position));
    assert_int_equal(weir_graph_value_count(f->graph), values);
    const graph_op* op = &f->graph->ops.items[0];
    assert_int_equal(op->kind, WEIR_OP_SET_ROWS);
    assert_int_equal(op->output, layer);
    assert_int_equal(op->input_count, 1);
    assert_int_equal(op->constants.position, f->position);
}

static void set_rows_refuses_what_it_cannot_write(void** state) {
    fixture* f = *state;
    weir_graph* g = f->graph;
    const weir_value cache = new_state(g, WEIR_DTYPE_F32, shape2(32, 64));
    const weir_value small = new_state(g, WEIR_DTYPE_F32, shape2(31, 64));
    const weir_value narrow = new_state(g, WEIR_DTYPE_F32, shape2(32, 63));
    const weir_value packed = new_state(g, WEIR_DTYPE_Q4_0, shape2(32, 64));
    const weir_value weight = new_weight(g, WEIR_DTYPE_F32, shape2(32, 64));
    const weir_value many = new_input(g, WEIR_DTYPE_F32, shape2(33, 64), WEIR_PARAM_NONE);
    weir_value part = WEIR_VALUE_NONE;
    assert_ok(weir_graph_narrow(g, cache, 0, 0, 4, &part));
    const struct {
        weir_value x, state;
        const char* part;
    } cases[] = {
        {f->x, weight, "expected a state"},
        {f->x, f->x, "expected a state"},
        {f->x, packed, "state is Q4_0"},
        {f->x, narrow, "x [16, 64] and state [32, 63]"},
        {f->x, small, "\"position\" may be 31 and state has 31 rows"},
        {many, cache, "x [33, 64] and state [32, 64]: more rows"},
        {part, cache, "x is a view of the state"},
        {f->ids, cache, "x is I32"},
        {f->x, 99, "state is value 99"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_refused(f,
                       ((void)y, weir_graph_set_rows(g, cases[i].x, cases[i].state, f->position)),
                       cases[i].part);
    }
    assert_refused(f, ((void)y, weir_graph_set_rows(g, f->x, cache, 9)), "position is parameter 9");
}

// Counts down to one failing allocation; checks sizes on release through the balance.
typedef struct counter {
    int64_t left; // allocations that still succeed; negative: all
    int64_t bytes;
} counter;

static void* counted_alloc(void* context, size_t byte_size, size_t alignment) {
    counter* c = context;
    (void)alignment;
    if (c->left == 0) {
        return NULL;
    }
    c->left--;
    c->bytes += (int64_t)byte_size;
    return malloc(byte_size);
}

static void counted_free(void* context, void* pointer, size_t byte_size, size_t alignment) {
    (void)alignment;
    ((counter*)context)->bytes -= (int64_t)byte_size;
    free(pointer);
}

static weir_status build_all(weir_graph* graph) {
    const weir_shape x_shape = shape2(4, 8);
    const weir_shape w_shape = shape2(8, 8);
    weir_param rows = 0;
    weir_param position = 0;
    weir_value x = 0;
    weir_value w = 0;
    weir_value cache = 0;
    weir_value y = 0;
    WEIR_TRY(weir_graph_param(graph, "rows", 1, 4, &rows));
    WEIR_TRY(weir_graph_param(graph, "position", 0, 7, &position));
    WEIR_TRY(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &x_shape, rows, &x));
    WEIR_TRY(weir_graph_weight(graph, "w", WEIR_DTYPE_F32, &w_shape, &w));
    WEIR_TRY(weir_graph_state(graph, "cache", WEIR_DTYPE_F32, &w_shape, &cache));
    for (int i = 0; i < 12; i++) {
        WEIR_TRY(weir_graph_matmul(graph, x, w, &y));
        WEIR_TRY(weir_graph_name(graph, y, "y"));
        WEIR_TRY(weir_graph_set_rows(graph, y, cache, position));
        WEIR_TRY(weir_graph_narrow(graph, y, 1, 0, 4, &y));
    }
    return WEIR_OK;
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    weir_status status = WEIR_OUT_OF_MEMORY;
    int64_t allowed = 0;
    for (; status != WEIR_OK; allowed++) {
        assert_true(allowed < 1000);
        counter c = {.left = allowed};
        const weir_allocator allocator = {&c, counted_alloc, counted_free};
        weir_graph* graph = NULL;
        status = weir_graph_create(&allocator, &graph);
        if (status == WEIR_OK) {
            status = build_all(graph);
        }
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        weir_graph_destroy(graph);
        assert_int_equal(c.bytes, 0);
    }
    assert_true(allowed > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_have_names),
        cmocka_unit_test(only_rows_that_are_set_go_to_a_state_and_matmul_is_never_in_place),
        cmocka_unit_test_setup_teardown(leaves_keep_what_they_were_given, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(params_keep_their_bounds, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(bad_leaves_are_refused, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(only_results_can_be_outputs, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(a_name_is_copied_and_replaced, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(values_are_found_by_the_first_of_their_names, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(views_of_views_point_at_the_root, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(a_parameter_dimension_is_neither_narrowed_nor_reshaped,
                                        make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(get_rows_takes_its_rows_from_the_indices, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(rms_norm_takes_rows_and_a_sane_epsilon, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(mul_and_add_take_equal_shapes_or_one_row, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(matmul_takes_every_type_that_can_be_decoded, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(rope_replaces_zeros_by_defaults, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(rope_refuses_heads_that_do_not_fit, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(attention_takes_grouped_heads, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(caches_may_have_fewer_bits, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(attention_refuses_heads_and_caches_that_do_not_fit,
                                        make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(attention_in_parts_has_a_column_for_each_head_and_key,
                                        make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(silu_gate_takes_equal_shapes, make_graph, drop_graph),
        cmocka_unit_test_setup_teardown(set_rows_writes_a_state_or_a_view_of_one, make_graph,
                                        drop_graph),
        cmocka_unit_test_setup_teardown(set_rows_refuses_what_it_cannot_write, make_graph,
                                        drop_graph),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
