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
    return cpu_is_readable_cache(values, desc) && cpu_has_scores(weights, values, desc) &&
           cpu_is_output(y, y) && y->shape.dims[0] == weights->shape.dims[0] &&
           y->shape.dims[1] == (int64_t)desc->heads * desc->head_dim &&
           values->shape.dims[1] == (int64_t)desc->kv_heads * desc->head_dim;
}

uint32_t weir_cpu_attention_sum_tiles(const weir_kernel_use* use) {
    const weir_attention_desc* desc = &use->constants->attention;
    const cpu_attention_cut cut = cpu_plain_cut(desc, use->operands[WEIGHTS].shape.dims[0]);
    return cpu_attention_tiles(&cut, use->operands[VALUES].shape.dims[0], desc,
                               CPU_ATTENTION_PRODUCTS);
}

// Adds the values of a block to the sums of all queries of a unit.
static weir_status add_block(const weir_kernel_call* call, const cpu_attention_unit* unit,
                             int64_t position, cpu_span block, float* decoded) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t keys = call->views[VALUES].shape.dims[0];
    cpu_cache_rows rows;
    WEIR_TRY(weir_cpu_cache_rows(call, VALUES, unit->kv_head, block, decoded, &rows));
    for (int64_t row = unit->rows.begin; row < unit->rows.end; row++) {
        rows.count = cpu_seen_keys(position, row, block);
        for (int64_t head = unit->heads.begin; head < unit->heads.end; head++) {
            float* sum = cpu_output_row(call, row) + head * desc->head_dim;
            if (block.begin == 0) {
                memset(sum, 0, desc->head_dim * sizeof *sum);
            }
            weir_cpu_add_values(&rows, cpu_row_f32(call, WEIGHTS, row) + head * keys + block.begin,
                                sum);
        }
    }
    return WEIR_OK;
}

weir_status weir_cpu_attention_sum_run(const weir_kernel_call* call) {
    return weir_cpu_attention_walk(call, "attention_sum", VALUES, add_block);
}
