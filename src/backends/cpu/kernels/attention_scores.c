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
    return cpu_is_matrix(q) && cpu_is_readable_cache(keys, desc) &&
           cpu_has_scores(scores, keys, desc) && cpu_is_output(scores, scores) &&
           scores->shape.dims[0] == q->shape.dims[0] &&
           q->shape.dims[1] == (int64_t)desc->heads * desc->head_dim &&
           keys->shape.dims[1] == (int64_t)desc->kv_heads * desc->head_dim;
}

uint32_t weir_cpu_attention_scores_tiles(const weir_kernel_use* use) {
    const weir_attention_desc* desc = &use->constants->attention;
    const cpu_attention_cut cut = cpu_plain_cut(desc, use->operands[Q].shape.dims[0]);
    return cpu_attention_tiles(&cut, use->operands[KEYS].shape.dims[0], desc,
                               CPU_ATTENTION_PRODUCTS);
}

// Scores of the keys of a block, for all queries of a unit; the first block of a row clears those
// of the keys that it does not see.
static weir_status score_block(const weir_kernel_call* call, const cpu_attention_unit* unit,
                               int64_t position, cpu_span block, float* decoded) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t keys = call->views[KEYS].shape.dims[0];
    cpu_cache_rows rows;
    WEIR_TRY(weir_cpu_cache_rows(call, KEYS, unit->kv_head, block, decoded, &rows));
    for (int64_t row = unit->rows.begin; row < unit->rows.end; row++) {
        rows.count = cpu_seen_keys(position, row, block);
        for (int64_t head = unit->heads.begin; head < unit->heads.end; head++) {
            float* scores = cpu_output_row(call, row) + head * keys;
            if (block.begin == 0) {
                const int64_t seen = position + row + 1;
                memset(scores + seen, 0, (size_t)(keys - seen) * sizeof *scores);
            }
            weir_cpu_score_keys(&rows, cpu_row_f32(call, Q, row) + head * desc->head_dim,
                                scores + block.begin);
        }
    }
    return WEIR_OK;
}

weir_status weir_cpu_attention_scores_run(const weir_kernel_call* call) {
    return weir_cpu_attention_walk(call, "attention_scores", KEYS, score_block);
}
