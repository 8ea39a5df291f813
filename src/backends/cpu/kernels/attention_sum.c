// The sum of the values that a row sees, by the weights of each head, in the order of the keys.
#include "backends/cpu/kernels/cpu_attention.h"

#include <string.h>

#define WEIGHTS 0
#define VALUES 1

bool weir_cpu_attention_sum_accepts(const weir_kernel_use* use) {
    if (use->operand_count != 3) {
        return false;
    }
    const weir_attention_desc* desc = &use->constants->attention;
    const weir_view* weights = &use->operands[WEIGHTS];
    const weir_view* values = &use->operands[VALUES];
    const weir_view* y = &use->operands[2];
    return cpu_is_matrix(values) && cpu_has_scores(weights, values, desc) && cpu_is_output(y, y) &&
           y->shape.dims[0] == weights->shape.dims[0] &&
           y->shape.dims[1] == (int64_t)desc->heads * desc->head_dim &&
           values->shape.dims[1] == (int64_t)desc->kv_heads * desc->head_dim;
}

uint32_t weir_cpu_attention_sum_tiles(const weir_kernel_use* use) {
    return cpu_attention_tiles(use->operands[WEIGHTS].shape.dims[0],
                               use->operands[VALUES].shape.dims[0], &use->constants->attention);
}

weir_status weir_cpu_attention_sum_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[WEIGHTS].shape.dims[0];
    const int64_t keys = call->views[VALUES].shape.dims[0];
    const int64_t length = desc->head_dim;
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention_sum", row_count, keys, &position));
    const cpu_span span = cpu_tile_units(call, cpu_attention_units(row_count, desc));
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const int64_t head = unit % desc->heads;
        const cpu_span rows = cpu_unit_items(unit / desc->heads, CPU_ATTENTION_ROWS, row_count);
        for (int64_t i = rows.begin; i < rows.end; i++) {
            float* sum = cpu_output_row(call, i) + head * length;
            memset(sum, 0, (size_t)length * sizeof *sum);
            cpu_add_values(call, VALUES, cpu_attention_column(desc, head), length, 0,
                           position + i + 1, cpu_row_f32(call, WEIGHTS, i) + head * keys, sum);
        }
    }
    return WEIR_OK;
}
