// The softmax of the scaled scores of each head, over the keys that its row sees; others weigh 0.
#include "backends/cpu/kernels/cpu_attention.h"

#include <math.h>
#include <string.h>

bool weir_cpu_attention_softmax_accepts(const weir_kernel_use* use) {
    return use->operand_count == 2 && cpu_is_matrix(&use->operands[0]) &&
           use->operands[0].shape.dims[1] % use->constants->attention.heads == 0 &&
           cpu_is_output(&use->operands[1], &use->operands[0]);
}

// A unit is one head of one row.
uint32_t weir_cpu_attention_softmax_tiles(const weir_kernel_use* use) {
    const weir_shape* shape = &use->operands[0].shape;
    const int64_t heads = use->constants->attention.heads;
    const int64_t keys = shape->dims[1] / heads;
    return cpu_tiles(shape->dims[0] * heads, (double)keys, 4096.0);
}

// The weights may lie on the scores. The sum is in f64: long rows lose no more than short ones.
static void weigh(const float* scores, float scale, int64_t seen, int64_t keys, float* weights) {
    float max = -INFINITY;
    double sum = 0.0;
    for (int64_t i = 0; i < seen; i++) {
        const float score = scores[i] * scale;
        max = score > max ? score : max;
    }
    for (int64_t i = 0; i < seen; i++) {
        weights[i] = expf(scores[i] * scale - max);
        sum += (double)weights[i];
    }
    const float share = (float)(1.0 / sum);
    for (int64_t i = 0; i < seen; i++) {
        weights[i] *= share;
    }
    memset(weights + seen, 0, (size_t)(keys - seen) * sizeof *weights);
}

weir_status weir_cpu_attention_softmax_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const weir_shape* shape = &call->views[0].shape;
    const int64_t keys = shape->dims[1] / desc->heads;
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention_softmax", shape->dims[0], keys, &position));
    const cpu_span span = cpu_tile_units(call, shape->dims[0] * desc->heads);
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const int64_t row = unit / desc->heads;
        const int64_t column = unit % desc->heads * keys;
        weigh(cpu_row_f32(call, 0, row) + column, desc->scale, position + row + 1, keys,
              cpu_output_row(call, row) + column);
    }
    return WEIR_OK;
}
