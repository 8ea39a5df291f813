// Attention with a running softmax (Milakov and Gimelshein 2018): keys are taken in blocks from the
// first, and what has been summed is rescaled when a larger score appears. A unit is one head of a
// few rows, so that a block of keys and values serves all of them. The blocks of a row do not
// depend on the unit.
#include "backends/cpu/kernels/cpu_kernels.h"

#include <math.h>
#include <string.h>

#include "backends/cpu/kernels/cpu_vector.h"

#define Q 0
#define KEYS 1
#define VALUES 2
#define ROWS 4
#define BLOCK 64 // keys
#define HEAD_MAX 512

bool weir_cpu_attention_accepts(const weir_kernel_use* use) {
    return use->operand_count == 4 && cpu_is_matrix(&use->operands[Q]) &&
           cpu_is_matrix(&use->operands[KEYS]) && cpu_is_matrix(&use->operands[VALUES]) &&
           weir_shape_equal(&use->operands[KEYS].shape, &use->operands[VALUES].shape) &&
           cpu_is_output(&use->operands[3], &use->operands[Q]) &&
           use->constants->attention.head_dim <= HEAD_MAX;
}

uint32_t weir_cpu_attention_tiles(const weir_kernel_use* use) {
    const weir_shape* q = &use->operands[Q].shape;
    const weir_attention_desc* desc = &use->constants->attention;
    const int64_t units = cpu_divide_up(q->dims[0], ROWS) * (int64_t)desc->heads;
    const double rows = (double)cpu_min(q->dims[0], ROWS);
    const double products = rows * desc->head_dim * (double)use->operands[KEYS].shape.dims[0];
    return cpu_tiles(units, products, 131072.0);
}

// One row of one head. The query is a copy, because y may lie on q.
typedef struct row_state {
    float query[HEAD_MAX];
    float sum[HEAD_MAX]; // of the values, weighted by exp(score - max)
    float max;           // largest score so far
    float weight;        // sum of the weights
} row_state;

// The scores of keys [begin, begin + count), at most BLOCK.
static void score_keys(const weir_kernel_call* call, const weir_attention_desc* desc,
                       const float* query, int64_t column, int64_t begin, int64_t count,
                       float* scores) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float* keys[4];
        for (int64_t k = 0; k < 4; k++) {
            keys[k] = cpu_row_f32(call, KEYS, begin + i + k) + column;
        }
        cpu_dot4(query, keys, desc->head_dim, scores + i);
    }
    for (; i < count; i++) {
        const float* key = cpu_row_f32(call, KEYS, begin + i) + column;
        scores[i] = cpu_dot(query, key, desc->head_dim);
    }
    for (i = 0; i < count; i++) {
        scores[i] *= desc->scale;
    }
}

static void scale_sum(float* sum, float factor, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        sum[i] *= factor;
    }
}

// Adds the values of keys [begin, begin + count), each times its weight, in the order of the keys.
static void add_values(const weir_kernel_call* call, const weir_attention_desc* desc,
                       int64_t column, int64_t begin, int64_t count, const float* weights,
                       float* restrict sum) {
    const int64_t length = desc->head_dim;
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float* restrict a = cpu_row_f32(call, VALUES, begin + i) + column;
        const float* restrict b = cpu_row_f32(call, VALUES, begin + i + 1) + column;
        const float* restrict c = cpu_row_f32(call, VALUES, begin + i + 2) + column;
        const float* restrict d = cpu_row_f32(call, VALUES, begin + i + 3) + column;
        const float* w = weights + i;
        for (int64_t e = 0; e < length; e++) {
            sum[e] = (((sum[e] + a[e] * w[0]) + b[e] * w[1]) + c[e] * w[2]) + d[e] * w[3];
        }
    }
    for (; i < count; i++) {
        const float* restrict a = cpu_row_f32(call, VALUES, begin + i) + column;
        for (int64_t e = 0; e < length; e++) {
            sum[e] += a[e] * weights[i];
        }
    }
}

// Takes in keys [begin, begin + count) for one row.
static void add_keys(const weir_kernel_call* call, const weir_attention_desc* desc, int64_t column,
                     int64_t begin, int64_t count, row_state* row) {
    float scores[BLOCK];
    score_keys(call, desc, row->query, column, begin, count, scores);
    float max = row->max;
    for (int64_t i = 0; i < count; i++) {
        max = scores[i] > max ? scores[i] : max;
    }
    // The first block rescales zeros by exp(-infinity) = 0.
    if (max > row->max) {
        const float factor = expf(row->max - max);
        scale_sum(row->sum, factor, desc->head_dim);
        row->weight *= factor;
        row->max = max;
    }
    float weight = row->weight;
    for (int64_t i = 0; i < count; i++) {
        scores[i] = expf(scores[i] - max);
        weight += scores[i];
    }
    row->weight = weight;
    add_values(call, desc, column, begin, count, scores, row->sum);
}

static void attend(const weir_kernel_call* call, const weir_attention_desc* desc, int64_t position,
                   cpu_span rows, int64_t head) {
    row_state states[ROWS];
    const int64_t column = head * desc->head_dim;
    const int64_t kv_column = head / (desc->heads / desc->kv_heads) * desc->head_dim;
    const size_t head_bytes = desc->head_dim * sizeof(float);
    for (int64_t i = rows.begin; i < rows.end; i++) {
        row_state* row = &states[i - rows.begin];
        memcpy(row->query, cpu_row_f32(call, Q, i) + column, head_bytes);
        memset(row->sum, 0, head_bytes);
        row->max = -INFINITY;
        row->weight = 0.0f;
    }
    for (int64_t begin = 0; begin < position + rows.end; begin += BLOCK) {
        for (int64_t i = rows.begin; i < rows.end; i++) {
            const int64_t count = cpu_min(BLOCK, position + i + 1 - begin);
            if (count > 0) {
                add_keys(call, desc, kv_column, begin, count, &states[i - rows.begin]);
            }
        }
    }
    for (int64_t i = rows.begin; i < rows.end; i++) {
        row_state* row = &states[i - rows.begin];
        scale_sum(row->sum, 1.0f / row->weight, desc->head_dim);
        memcpy(cpu_output_row(call, i) + column, row->sum, head_bytes);
    }
}

weir_status weir_cpu_attention_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[Q].shape.dims[0];
    uint64_t position = 0;
    WEIR_TRY(cpu_read_param(call, "attention", desc->position, &position));
    WEIR_TRY(cpu_check_cache("attention", position, row_count, call->views[KEYS].shape.dims[0]));
    const cpu_span span =
        cpu_tile_units(call, cpu_divide_up(row_count, ROWS) * (int64_t)desc->heads);
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const cpu_span rows = cpu_unit_items(unit / desc->heads, ROWS, row_count);
        attend(call, desc, (int64_t)position, rows, unit % desc->heads);
    }
    return WEIR_OK;
}
