// Attention with a running softmax (Milakov and Gimelshein 2018): keys are taken in blocks from the
// first, and what has been summed is rescaled when a larger score appears. A block of keys and
// values serves all queries of a unit. The blocks of a row do not depend on the unit.
#include "backends/cpu/kernels/cpu_attention.h"

#include <math.h>
#include <string.h>

#define Q 0
#define KEYS 1
#define VALUES 2
#define BLOCK CPU_ATTENTION_BLOCK
#define QUERIES CPU_ATTENTION_QUERIES

bool weir_cpu_attention_accepts(const weir_kernel_use* use) {
    return weir_cpu_attention_fits(use, CPU_ATTENTION_HEAD_MAX);
}

uint32_t weir_cpu_attention_tiles(const weir_kernel_use* use) {
    const weir_attention_desc* desc = &use->constants->attention;
    const cpu_attention_cut cut = cpu_plain_cut(desc, use->operands[Q].shape.dims[0]);
    return cpu_attention_tiles(&cut, use->operands[KEYS].shape.dims[0], desc,
                               CPU_ATTENTION_PRODUCTS);
}

// One head of one row. The query is a copy, because y may lie on q.
typedef struct query_state {
    float query[CPU_ATTENTION_HEAD_MAX];
    float sum[CPU_ATTENTION_HEAD_MAX]; // of the values, weighted by exp(score - max)
    float max;                         // largest score so far
    float weight;                      // sum of the weights
    int64_t seen;                      // keys
} query_state;

static void scale_sum(float* sum, float factor, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        sum[i] *= factor;
    }
}

// Turns the scores of a block into weights.
static void weigh(query_state* state, const weir_attention_desc* desc, int64_t count,
                  float* scores) {
    float max = state->max;
    for (int64_t i = 0; i < count; i++) {
        scores[i] *= desc->scale;
        max = scores[i] > max ? scores[i] : max;
    }
    // The first block rescales zeros by exp(-infinity) = 0.
    if (max > state->max) {
        const float factor = expf(state->max - max);
        scale_sum(state->sum, factor, desc->head_dim);
        state->weight *= factor;
        state->max = max;
    }
    float weight = state->weight;
    for (int64_t i = 0; i < count; i++) {
        scores[i] = expf(scores[i] - max);
        weight += scores[i];
    }
    state->weight = weight;
}

// The keys of a block that a query sees.
static int64_t seen_of(const query_state* state, cpu_span block) {
    return state->seen <= block.begin ? 0 : cpu_min(state->seen, block.end) - block.begin;
}

// Takes a block of keys into all queries. `decoded` holds its keys first, then its values.
static weir_status add_block(const weir_kernel_call* call, int64_t kv_head, cpu_span block,
                             int64_t count, query_state* states, float* decoded) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    float scores[QUERIES][BLOCK];
    cpu_cache_rows rows;
    WEIR_TRY(weir_cpu_cache_rows(call, KEYS, kv_head, block, decoded, &rows));
    for (int64_t i = 0; i < count; i++) {
        rows.count = seen_of(&states[i], block);
        if (rows.count > 0) {
            weir_cpu_score_keys(&rows, states[i].query, scores[i]);
            weigh(&states[i], desc, rows.count, scores[i]);
        }
    }
    WEIR_TRY(weir_cpu_cache_rows(call, VALUES, kv_head, block, decoded, &rows));
    for (int64_t i = 0; i < count; i++) {
        rows.count = seen_of(&states[i], block);
        weir_cpu_add_values(&rows, scores[i], states[i].sum);
    }
    return WEIR_OK;
}

static weir_status attend(const weir_kernel_call* call, const cpu_attention_unit* unit,
                          int64_t position) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    query_state states[QUERIES];
    float decoded[CPU_ATTENTION_DECODED];
    const size_t head_bytes = desc->head_dim * sizeof(float);
    int64_t count = 0;
    for (int64_t row = unit->rows.begin; row < unit->rows.end; row++) {
        for (int64_t head = unit->heads.begin; head < unit->heads.end; head++) {
            query_state* state = &states[count++];
            memcpy(state->query, cpu_row_f32(call, Q, row) + head * desc->head_dim, head_bytes);
            memset(state->sum, 0, head_bytes);
            state->max = -INFINITY;
            state->weight = 0.0f;
            state->seen = position + row + 1;
        }
    }
    const int64_t keys = position + unit->rows.end;
    for (int64_t begin = 0; begin < keys; begin += BLOCK) {
        const cpu_span block = {begin, cpu_min(begin + BLOCK, keys)};
        WEIR_TRY(add_block(call, unit->kv_head, block, count, states, decoded));
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t heads = unit->heads.end - unit->heads.begin;
        float* y = cpu_output_row(call, unit->rows.begin + i / heads) +
                   (unit->heads.begin + i % heads) * desc->head_dim;
        scale_sum(states[i].sum, 1.0f / states[i].weight, desc->head_dim);
        memcpy(y, states[i].sum, head_bytes);
    }
    return WEIR_OK;
}

weir_status weir_cpu_attention_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[Q].shape.dims[0];
    const cpu_attention_cut cut = cpu_plain_cut(desc, row_count);
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention", row_count, call->views[KEYS].shape.dims[0],
                                    &position));
    const cpu_span span = cpu_tile_units(call, cut.units);
    for (int64_t i = span.begin; i < span.end; i++) {
        const cpu_attention_unit unit = weir_cpu_attention_unit(&cut, i);
        WEIR_TRY(attend(call, &unit, position));
    }
    return WEIR_OK;
}
