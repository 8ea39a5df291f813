// One function per operation: its shape and type rules. Each checks everything first and then adds
// the operation and its result in one step, so that a refused operation leaves the graph as it was.
#include "graph/graph.h"

#include <math.h>
#include <stdio.h>

// An input while its operation is checked. `info` holds until a value is added.
typedef struct operand {
    const char* role; // what messages call it
    weir_value value;
    const weir_value_info* info;
} operand;

static const weir_shape* shape_of(const operand* x) {
    return &x->info->layout.shape;
}

static weir_status refuse(weir_op_kind op, const operand* x, const char* expected) {
    char text[128];
    return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %s is %s %s; expected %s", weir_op_name(op),
                     x->role, weir_dtype_describe(x->info->layout.dtype)->name,
                     weir_shape_format(shape_of(x), text, sizeof text), expected);
}

static weir_status refuse_pair(weir_op_kind op, const operand* a, const operand* b,
                               const char* reason) {
    char a_text[128];
    char b_text[128];
    return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %s %s and %s %s: %s", weir_op_name(op), a->role,
                     weir_shape_format(shape_of(a), a_text, sizeof a_text), b->role,
                     weir_shape_format(shape_of(b), b_text, sizeof b_text), reason);
}

static weir_status find_operand(const weir_graph* graph, weir_op_kind op, const char* role,
                                weir_value value, operand* found) {
    *found = (operand){role, value, weir_graph_value_info(graph, value)};
    if (!found->info) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %s is value %u; the graph has %u",
                         weir_op_name(op), role, value, weir_graph_value_count(graph));
    }
    return WEIR_OK;
}

static weir_status find_activation(const weir_graph* graph, weir_op_kind op, const char* role,
                                   weir_value value, operand* found) {
    WEIR_TRY(find_operand(graph, op, role, value, found));
    if (found->info->layout.dtype != WEIR_DTYPE_F32 || shape_of(found)->rank != 2) {
        return refuse(op, found, "F32 [rows, width]");
    }
    return WEIR_OK;
}

// Kernels decode what they read, so the type is free as long as a decoder exists.
static weir_status find_matrix(const weir_graph* graph, weir_op_kind op, const char* role,
                               weir_value value, operand* found) {
    WEIR_TRY(find_operand(graph, op, role, value, found));
    if (!weir_dtype_is_decodable(found->info->layout.dtype) || shape_of(found)->rank != 2) {
        return refuse(op, found, "a type that can be decoded to F32, of two dimensions");
    }
    return WEIR_OK;
}

// Caches are stored in a type that rows of F32 can be encoded to.
static weir_status find_cache(const weir_graph* graph, weir_op_kind op, const char* role,
                              weir_value value, operand* found) {
    WEIR_TRY(find_operand(graph, op, role, value, found));
    if (!weir_dtype_is_encodable(found->info->layout.dtype) || shape_of(found)->rank != 2) {
        return refuse(op, found, "F32, F16, BF16 or Q8_0 [rows, width]");
    }
    return WEIR_OK;
}

// Equal upper bounds are not enough: in a pass the rows of two parameters may differ.
static weir_status check_same(weir_op_kind op, const operand* a, const operand* b) {
    if (!weir_shape_equal(shape_of(a), shape_of(b))) {
        return refuse_pair(op, a, b, "the shapes differ");
    }
    if (a->info->rows != b->info->rows) {
        return refuse_pair(op, a, b, "the rows are not given by the same parameter");
    }
    return WEIR_OK;
}

static weir_status check_position(const weir_graph* graph, weir_op_kind op, weir_param position) {
    if (!weir_graph_param_info(graph, position)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: position is parameter %u; the graph has %u",
                         weir_op_name(op), position, weir_graph_param_count(graph));
    }
    return WEIR_OK;
}

// Position and rows must each fit the cache by themselves. Their sum may pass it at the upper
// bounds (the last position with the longest batch): the kernel refuses a pass where it does.
static weir_status check_cache(const weir_graph* graph, weir_op_kind op, const operand* x,
                               const operand* cache, weir_param position) {
    WEIR_TRY(check_position(graph, op, position));
    const int64_t rows = shape_of(cache)->dims[0];
    const weir_param_info* bounds = weir_graph_param_info(graph, position);
    if (bounds->upper >= (uint64_t)rows) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s: parameter \"%s\" may be %llu and %s has %lld rows", weir_op_name(op),
                         bounds->name, (unsigned long long)bounds->upper, cache->role,
                         (long long)rows);
    }
    if (shape_of(x)->dims[0] > rows) {
        return refuse_pair(op, x, cache, "more rows than there is room for");
    }
    return WEIR_OK;
}

// The rows of the result follow the indices. Those of the table may follow another parameter:
// indices are checked in each pass.
weir_status weir_graph_get_rows(weir_graph* graph, weir_value table, weir_value indices,
                                weir_value* y) {
    const weir_op_kind op = WEIR_OP_GET_ROWS;
    operand from;
    operand at;
    WEIR_TRY(find_matrix(graph, op, "table", table, &from));
    WEIR_TRY(find_operand(graph, op, "indices", indices, &at));
    if (at.info->layout.dtype != WEIR_DTYPE_I32 || shape_of(&at)->rank != 1) {
        return refuse(op, &at, "I32 [rows]");
    }
    const graph_op added = {.kind = op, .inputs = {table, indices}, .input_count = 2};
    return weir_graph_add_op(graph, &added, indices, shape_of(&from)->dims[1], y);
}

weir_status weir_graph_rms_norm(weir_graph* graph, weir_value x, float epsilon, weir_value* y) {
    const weir_op_kind op = WEIR_OP_RMS_NORM;
    operand rows;
    WEIR_TRY(find_activation(graph, op, "x", x, &rows));
    if (!(epsilon >= 0.0f) || isinf(epsilon)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "rms_norm: epsilon is %g; expected a finite number, 0 or more",
                         (double)epsilon);
    }
    const graph_op added = {
        .kind = op, .inputs = {x}, .input_count = 1, .constants.epsilon = epsilon};
    return weir_graph_add_op(graph, &added, x, shape_of(&rows)->dims[1], y);
}

// A row b is a weight as a rule, hence the 16-bit types; a whole b is an activation.
static weir_status add_elementwise(weir_graph* graph, weir_op_kind op, weir_value a, weir_value b,
                                   weir_value* y) {
    operand left;
    operand right;
    WEIR_TRY(find_activation(graph, op, "a", a, &left));
    WEIR_TRY(find_operand(graph, op, "b", b, &right));
    if (shape_of(&right)->rank == 1) {
        const weir_dtype dtype = right.info->layout.dtype;
        if (dtype != WEIR_DTYPE_F32 && dtype != WEIR_DTYPE_F16 && dtype != WEIR_DTYPE_BF16) {
            return refuse(op, &right, "a row of F32, F16 or BF16");
        }
        if (right.info->rows != WEIR_PARAM_NONE ||
            shape_of(&right)->dims[0] != shape_of(&left)->dims[1]) {
            return refuse_pair(op, &left, &right, "b is not one row of a");
        }
    } else {
        WEIR_TRY(find_activation(graph, op, "b", b, &right));
        WEIR_TRY(check_same(op, &left, &right));
    }
    const graph_op added = {.kind = op, .inputs = {a, b}, .input_count = 2};
    return weir_graph_add_op(graph, &added, a, shape_of(&left)->dims[1], y);
}

weir_status weir_graph_mul(weir_graph* graph, weir_value a, weir_value b, weir_value* y) {
    return add_elementwise(graph, WEIR_OP_MUL, a, b, y);
}

weir_status weir_graph_add(weir_graph* graph, weir_value a, weir_value b, weir_value* y) {
    return add_elementwise(graph, WEIR_OP_ADD, a, b, y);
}

// The rows of w become the width of the result, which cannot be a parameter. Whole blocks in each
// row of w follow from its layout.
weir_status weir_graph_matmul(weir_graph* graph, weir_value x, weir_value w, weir_value* y) {
    const weir_op_kind op = WEIR_OP_MATMUL;
    operand rows;
    operand matrix;
    WEIR_TRY(find_activation(graph, op, "x", x, &rows));
    WEIR_TRY(find_matrix(graph, op, "w", w, &matrix));
    if (matrix.info->rows != WEIR_PARAM_NONE) {
        return refuse_pair(op, &rows, &matrix, "the rows of w follow a parameter");
    }
    if (shape_of(&rows)->dims[1] != shape_of(&matrix)->dims[1]) {
        return refuse_pair(op, &rows, &matrix, "the last dimensions differ");
    }
    const graph_op added = {.kind = op, .inputs = {x, w}, .input_count = 2};
    return weir_graph_add_op(graph, &added, x, shape_of(&matrix)->dims[0], y);
}

static weir_status check_rope(const weir_rope_desc* desc, const operand* x) {
    if (desc->head_dim == 0 || shape_of(x)->dims[1] % desc->head_dim != 0) {
        char text[128];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "rope: x %s is not cut into heads of %u",
                         weir_shape_format(shape_of(x), text, sizeof text), desc->head_dim);
    }
    if (desc->rotated % 2 != 0 || desc->rotated > desc->head_dim) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "rope: %u of %u elements of a head are rotated; expected an even number "
                         "up to the whole head",
                         desc->rotated, desc->head_dim);
    }
    if (desc->pairing != WEIR_ROPE_ADJACENT && desc->pairing != WEIR_ROPE_HALVES) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "rope: unknown pairing %d", (int)desc->pairing);
    }
    if (!(desc->base > 0.0f) || isinf(desc->base) || !isfinite(desc->scale)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "rope: base is %g and scale %g; expected finite numbers, the base over 0",
                         (double)desc->base, (double)desc->scale);
    }
    return WEIR_OK;
}

// The zeros of the description that mean a default are replaced: kernels see no special values.
weir_status weir_graph_rope(weir_graph* graph, weir_value x, weir_value factors,
                            const weir_rope_desc* desc, weir_value* y) {
    const weir_op_kind op = WEIR_OP_ROPE;
    operand rows;
    WEIR_TRY(find_activation(graph, op, "x", x, &rows));
    graph_op added = {.kind = op, .inputs = {x}, .input_count = 1, .constants.rope = *desc};
    weir_rope_desc* rope = &added.constants.rope;
    rope->rotated = rope->rotated == 0 ? rope->head_dim : rope->rotated;
    rope->scale = rope->scale == 0.0f ? 1.0f : rope->scale;
    WEIR_TRY(check_rope(rope, &rows));
    WEIR_TRY(check_position(graph, op, rope->position));
    if (factors != WEIR_VALUE_NONE) {
        operand divisors;
        WEIR_TRY(find_operand(graph, op, "factors", factors, &divisors));
        if (divisors.info->layout.dtype != WEIR_DTYPE_F32 || shape_of(&divisors)->rank != 1 ||
            divisors.info->rows != WEIR_PARAM_NONE) {
            return refuse(op, &divisors, "a row of F32");
        }
        if (shape_of(&divisors)->dims[0] != rope->rotated / 2) {
            return refuse_pair(op, &rows, &divisors, "factors must be one for each rotated pair");
        }
        added.inputs[added.input_count++] = factors;
    }
    return weir_graph_add_op(graph, &added, x, shape_of(&rows)->dims[1], y);
}

static weir_status check_attention(weir_op_kind op, const weir_attention_desc* desc) {
    if (desc->heads == 0 || desc->kv_heads == 0 || desc->head_dim == 0 ||
        desc->heads % desc->kv_heads != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s: %u heads on %u key heads of %u elements; expected the key heads to "
                         "divide the heads",
                         weir_op_name(op), desc->heads, desc->kv_heads, desc->head_dim);
    }
    if (!isfinite(desc->scale)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: the scale is not a finite number",
                         weir_op_name(op));
    }
    return WEIR_OK;
}

// The products of two 32-bit numbers cannot overflow in 64 bits.
static weir_status check_widths(weir_op_kind op, const weir_attention_desc* desc,
                                const operand* rows, uint64_t rows_width, const operand* cache) {
    const uint64_t cache_width = (uint64_t)desc->kv_heads * desc->head_dim;
    if ((uint64_t)shape_of(rows)->dims[1] != rows_width ||
        (uint64_t)shape_of(cache)->dims[1] != cache_width) {
        char reason[128];
        snprintf(reason, sizeof reason,
                 "%u heads on %u key heads of %u elements need %llu and %llu", desc->heads,
                 desc->kv_heads, desc->head_dim, (unsigned long long)rows_width,
                 (unsigned long long)cache_width);
        return refuse_pair(op, rows, cache, reason);
    }
    return WEIR_OK;
}

// The zero that means a default is replaced: kernels see no special values.
static graph_op attention_op(weir_op_kind op, const weir_attention_desc* desc) {
    graph_op made = {.kind = op, .constants.attention = *desc};
    if (desc->scale == 0.0f) {
        made.constants.attention.scale = (float)(1.0 / sqrt((double)desc->head_dim));
    }
    return made;
}

// Keys and values are states as a rule, but any two values of one shape serve.
weir_status weir_graph_attention(weir_graph* graph, weir_value q, weir_value keys,
                                 weir_value values, const weir_attention_desc* desc,
                                 weir_value* y) {
    const weir_op_kind op = WEIR_OP_ATTENTION;
    operand query;
    operand key_cache;
    operand value_cache;
    WEIR_TRY(find_activation(graph, op, "q", q, &query));
    WEIR_TRY(find_cache(graph, op, "keys", keys, &key_cache));
    WEIR_TRY(find_cache(graph, op, "values", values, &value_cache));
    WEIR_TRY(check_same(op, &key_cache, &value_cache));
    WEIR_TRY(check_attention(op, desc));
    WEIR_TRY(check_widths(op, desc, &query, (uint64_t)desc->heads * desc->head_dim, &key_cache));
    WEIR_TRY(check_cache(graph, op, &query, &key_cache, desc->position));
    graph_op added = attention_op(op, desc);
    added.inputs[0] = q;
    added.inputs[1] = keys;
    added.inputs[2] = values;
    added.input_count = 3;
    return weir_graph_add_op(graph, &added, q, shape_of(&query)->dims[1], y);
}

weir_status weir_graph_attention_scores(weir_graph* graph, weir_value q, weir_value keys,
                                        const weir_attention_desc* desc, weir_value* scores) {
    const weir_op_kind op = WEIR_OP_ATTENTION_SCORES;
    operand query;
    operand cache;
    int64_t width = 0;
    WEIR_TRY(find_activation(graph, op, "q", q, &query));
    WEIR_TRY(find_cache(graph, op, "keys", keys, &cache));
    WEIR_TRY(check_attention(op, desc));
    WEIR_TRY(check_widths(op, desc, &query, (uint64_t)desc->heads * desc->head_dim, &cache));
    WEIR_TRY(check_cache(graph, op, &query, &cache, desc->position));
    if (__builtin_mul_overflow((int64_t)desc->heads, shape_of(&cache)->dims[0], &width)) {
        return refuse_pair(op, &query, &cache, "the scores of a row are too many");
    }
    graph_op added = attention_op(op, desc);
    added.inputs[0] = q;
    added.inputs[1] = keys;
    added.input_count = 2;
    return weir_graph_add_op(graph, &added, q, width, scores);
}

weir_status weir_graph_attention_softmax(weir_graph* graph, weir_value scores,
                                         const weir_attention_desc* desc, weir_value* weights) {
    const weir_op_kind op = WEIR_OP_ATTENTION_SOFTMAX;
    operand rows;
    WEIR_TRY(find_activation(graph, op, "scores", scores, &rows));
    WEIR_TRY(check_attention(op, desc));
    WEIR_TRY(check_position(graph, op, desc->position));
    if (shape_of(&rows)->dims[1] % desc->heads != 0) {
        return refuse(op, &rows, "as many columns for each head");
    }
    graph_op added = attention_op(op, desc);
    added.inputs[0] = scores;
    added.input_count = 1;
    return weir_graph_add_op(graph, &added, scores, shape_of(&rows)->dims[1], weights);
}

weir_status weir_graph_attention_sum(weir_graph* graph, weir_value weights, weir_value values,
                                     const weir_attention_desc* desc, weir_value* y) {
    const weir_op_kind op = WEIR_OP_ATTENTION_SUM;
    operand rows;
    operand cache;
    WEIR_TRY(find_activation(graph, op, "weights", weights, &rows));
    WEIR_TRY(find_cache(graph, op, "values", values, &cache));
    WEIR_TRY(check_attention(op, desc));
    const uint64_t keys = (uint64_t)shape_of(&cache)->dims[0];
    uint64_t width = 0;
    if (__builtin_mul_overflow((uint64_t)desc->heads, keys, &width)) {
        return refuse_pair(op, &rows, &cache, "the weights of a row are too many");
    }
    WEIR_TRY(check_widths(op, desc, &rows, width, &cache));
    WEIR_TRY(check_cache(graph, op, &rows, &cache, desc->position));
    graph_op added = attention_op(op, desc);
    added.inputs[0] = weights;
    added.inputs[1] = values;
    added.input_count = 2;
    return weir_graph_add_op(graph, &added, weights, (int64_t)desc->heads * desc->head_dim, y);
}

weir_status weir_graph_silu_gate(weir_graph* graph, weir_value gate, weir_value up, weir_value* y) {
    const weir_op_kind op = WEIR_OP_SILU_GATE;
    operand left;
    operand right;
    WEIR_TRY(find_activation(graph, op, "gate", gate, &left));
    WEIR_TRY(find_activation(graph, op, "up", up, &right));
    WEIR_TRY(check_same(op, &left, &right));
    const graph_op added = {.kind = op, .inputs = {gate, up}, .input_count = 2};
    return weir_graph_add_op(graph, &added, gate, shape_of(&left)->dims[1], y);
}

// The only operation without a result: it writes a state, which later operations then see. Tiles
// run in any order, so x must not be rows of the same state.
weir_status weir_graph_set_rows(weir_graph* graph, weir_value x, weir_value state,
                                weir_param position) {
    const weir_op_kind op = WEIR_OP_SET_ROWS;
    operand rows;
    operand cache;
    WEIR_TRY(find_activation(graph, op, "x", x, &rows));
    WEIR_TRY(find_cache(graph, op, "state", state, &cache));
    if (weir_graph_value_info(graph, cache.info->root)->kind != WEIR_VALUE_STATE) {
        return refuse(op, &cache, "a state or a view of one");
    }
    if (rows.info->root == cache.info->root) {
        return refuse_pair(op, &rows, &cache, "x is a view of the state that it would overwrite");
    }
    if (shape_of(&rows)->dims[1] != shape_of(&cache)->dims[1]) {
        return refuse_pair(op, &rows, &cache, "the last dimensions differ");
    }
    WEIR_TRY(check_cache(graph, op, &rows, &cache, position));
    const graph_op added = {.kind = op,
                            .inputs = {x},
                            .input_count = 1,
                            .output = state,
                            .constants.position = position};
    return weir_graph_add_op(graph, &added, WEIR_VALUE_NONE, 0, NULL);
}
