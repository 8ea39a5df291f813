// The products of each head of q with the keys that its row sees; 0 for those that it does not see.
#include "backends/cpu/kernels/cpu_attention.h"

#include <string.h>

#define Q 0
#define KEYS 1

bool weir_cpu_attention_scores_accepts(const weir_kernel_use* use) {
    if (use->operand_count != 3) {
        return false;
    }
    const weir_attention_desc* desc = &use->constants->attention;
    const weir_view* q = &use->operands[Q];
    const weir_view* keys = &use->operands[KEYS];
    const weir_view* scores = &use->operands[2];
    return cpu_is_matrix(q) && cpu_is_matrix(keys) && cpu_has_scores(scores, keys, desc) &&
           cpu_is_output(scores, scores) && scores->shape.dims[0] == q->shape.dims[0] &&
           q->shape.dims[1] == (int64_t)desc->heads * desc->head_dim &&
           keys->shape.dims[1] == (int64_t)desc->kv_heads * desc->head_dim;
}

uint32_t weir_cpu_attention_scores_tiles(const weir_kernel_use* use) {
    return cpu_attention_tiles(use->operands[Q].shape.dims[0], use->operands[KEYS].shape.dims[0],
                               &use->constants->attention);
}

weir_status weir_cpu_attention_scores_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[Q].shape.dims[0];
    const int64_t keys = call->views[KEYS].shape.dims[0];
    const int64_t length = desc->head_dim;
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention_scores", row_count, keys, &position));
    const cpu_span span = cpu_tile_units(call, cpu_attention_units(row_count, desc));
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const int64_t head = unit % desc->heads;
        const int64_t column = cpu_attention_column(desc, head);
        const cpu_span rows = cpu_unit_items(unit / desc->heads, CPU_ATTENTION_ROWS, row_count);
        for (int64_t i = rows.begin; i < rows.end; i++) {
            const int64_t seen = position + i + 1;
            float* scores = cpu_output_row(call, i) + head * keys;
            cpu_score_keys(call, KEYS, cpu_row_f32(call, Q, i) + head * length, column, length, 0,
                           seen, scores);
            memset(scores + seen, 0, (size_t)(keys - seen) * sizeof *scores);
        }
    }
    return WEIR_OK;
}
