// Attention with a running softmax (Milakov and Gimelshein 2018): keys are taken in blocks from the
// first, and what has been summed is rescaled when a larger score appears. A unit is one head of a
// few rows, so that a block of keys and values serves all of them. The blocks of a row do not
// depend on the unit.
#include "backends/cpu/kernels/cpu_attention.h"

#include <math.h>
#include <string.h>

#define Q 0
#define KEYS 1
#define VALUES 2
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
    return cpu_attention_tiles(use->operands[Q].shape.dims[0], use->operands[KEYS].shape.dims[0],
                               &use->constants->attention);
}

// One row of one head. The query is a copy, because y may lie on q.
typedef struct row_state {
    float query[HEAD_MAX];
    float sum[HEAD_MAX]; // of the values, weighted by exp(score - max)
    float max;           // largest score so far
    float weight;        // sum of the weights
} row_state;

static void scale_sum(float* sum, float factor, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        sum[i] *= factor;
    }
}

// Takes in keys [begin, begin + count) for one row.
static void add_keys(const weir_kernel_call* call, const weir_attention_desc* desc, int64_t column,
                     int64_t begin, int64_t count, row_state* row) {
    float scores[BLOCK];
    cpu_score_keys(call, KEYS, row->query, column, desc->head_dim, begin, count, scores);
    float max = row->max;
    for (int64_t i = 0; i < count; i++) {
        scores[i] *= desc->scale;
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
    cpu_add_values(call, VALUES, column, desc->head_dim, begin, count, scores, row->sum);
}

static void attend(const weir_kernel_call* call, const weir_attention_desc* desc, int64_t position,
                   cpu_span rows, int64_t head) {
    row_state states[CPU_ATTENTION_ROWS];
    const int64_t column = head * desc->head_dim;
    const int64_t kv_column = cpu_attention_column(desc, head);
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
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention", row_count, call->views[KEYS].shape.dims[0],
                                    &position));
    const cpu_span span = cpu_tile_units(call, cpu_attention_units(row_count, desc));
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const cpu_span rows = cpu_unit_items(unit / desc->heads, CPU_ATTENTION_ROWS, row_count);
        attend(call, desc, position, rows, unit % desc->heads);
    }
    return WEIR_OK;
}
