// Attention with a running softmax (Milakov and Gimelshein 2018), as the plain kernel: blocks of
// keys from the first, for all queries of a unit.
#include "backends/cpu/avx512/avx512_attention.h"

#include <math.h>
#include <string.h>

#include "backends/cpu/avx512/avx512_kernels.h"
#include "backends/cpu/avx512/avx512_math.h"
#include "backends/cpu/kernels/cpu_attention.h"

#define Q 0
#define KEYS 1
#define VALUES 2
#define Y 3
#define HEADS_MAX 16 // of a unit
#define TILE_PRODUCTS 524288.0

static bool has_whole_vectors(const weir_view* cache, uint32_t head_dim) {
    return head_dim % (cache->dtype == WEIR_DTYPE_Q8_0 ? 32 : 16) == 0;
}

bool avx512_attention_accepts(const weir_kernel_use* use) {
    const uint32_t head_dim = use->constants->attention.head_dim;
    return weir_cpu_attention_fits(use, AVX512_HEAD_MAX) &&
           has_whole_vectors(&use->operands[KEYS], head_dim) &&
           has_whole_vectors(&use->operands[VALUES], head_dim);
}

static cpu_attention_cut find_cut(const weir_attention_desc* desc, int64_t row_count) {
    return weir_cpu_attention_cut(desc, row_count, HEADS_MAX, AVX512_QUERIES);
}

uint32_t avx512_attention_tiles(const weir_kernel_use* use) {
    const weir_attention_desc* desc = &use->constants->attention;
    const int64_t row_count = use->operands[Q].shape.dims[0];
    if (avx512_attention_is_few(desc, row_count)) {
        return avx512_attention_few_tiles(use->operands, desc);
    }
    const cpu_attention_cut cut = find_cut(desc, row_count);
    return cpu_attention_tiles(&cut, use->operands[KEYS].shape.dims[0], desc, TILE_PRODUCTS);
}

uint64_t avx512_attention_scratch(const weir_kernel_use* use) {
    return avx512_attention_few_scratch(use->operands, &use->constants->attention);
}

static void start(const weir_kernel_call* call, const cpu_attention_unit* unit, int64_t position,
                  avx512_queries* queries) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const __m512 scale = _mm512_set1_ps(desc->scale);
    int64_t i = 0;
    queries->length = desc->head_dim;
    for (int64_t row = unit->rows.begin; row < unit->rows.end; row++) {
        for (int64_t head = unit->heads.begin; head < unit->heads.end; head++, i++) {
            const float* query = cpu_row_f32(call, Q, row) + head * desc->head_dim;
            for (int64_t e = 0; e < queries->length; e += 16) {
                _mm512_store_ps(queries->query + i * queries->length + e,
                                _mm512_mul_ps(_mm512_loadu_ps(query + e), scale));
            }
            queries->max[i] = -INFINITY;
            queries->weight[i] = 0.0f;
            queries->seen[i] = position + row + 1;
        }
    }
    queries->count = i;
    memset(queries->sum, 0, (size_t)(i * queries->length) * sizeof(float));
}

// Turns the scores of a query into weights; keys from `seen` on weigh 0.
static void weigh(avx512_queries* queries, int64_t i, int64_t seen) {
    const float before = queries->max[i];
    const float sum = avx512_weigh(queries->scores[i], AVX512_KEYS / 16, seen, &queries->max[i]);
    // The first block rescales zeros by exp(-infinity) = 0.
    const float factor =
        before == queries->max[i]
            ? 1.0f
            : _mm512_cvtss_f32(avx512_exp(_mm512_set1_ps(before - queries->max[i])));
    queries->factor[i] = factor;
    queries->weight[i] = queries->weight[i] * factor + sum;
}

// A query that sees nothing of the block stays as it is.
static void weigh_all(avx512_queries* queries, cpu_span keys) {
    for (int64_t i = 0; i < queries->count; i++) {
        const int64_t seen = queries->seen[i] - keys.begin;
        if (seen > 0) {
            weigh(queries, i, cpu_min(seen, keys.end - keys.begin));
        } else {
            queries->factor[i] = 1.0f;
            memset(queries->scores[i], 0, sizeof queries->scores[i]);
        }
    }
}

static avx512_rows rows_of(const weir_kernel_call* call, uint32_t operand, int64_t kv_head,
                           cpu_span keys) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    return (avx512_rows){.first = cpu_row(call, operand, keys.begin),
                         .stride = call->views[operand].strides[0],
                         .column = kv_head * desc->head_dim,
                         .length = desc->head_dim,
                         .count = keys.end - keys.begin,
                         .dtype = call->views[operand].dtype};
}

static void finish(const weir_kernel_call* call, const cpu_attention_unit* unit,
                   const avx512_queries* queries) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t heads = unit->heads.end - unit->heads.begin;
    for (int64_t i = 0; i < queries->count; i++) {
        const __m512 share = _mm512_set1_ps(1.0f / queries->weight[i]);
        float* y = cpu_row_at(call, Y, unit->rows.begin + i / heads) +
                   (unit->heads.begin + i % heads) * desc->head_dim;
        const float* sum = queries->sum + i * queries->length;
        for (int64_t e = 0; e < queries->length; e += 16) {
            _mm512_storeu_ps(y + e, _mm512_mul_ps(_mm512_load_ps(sum + e), share));
        }
    }
}

// The queries are copies: y may lie on q.
static void attend(const weir_kernel_call* call, const cpu_attention_unit* unit, int64_t position) {
    avx512_queries queries;
    avx512_key_block block;
    const int64_t seen = position + unit->rows.end;
    start(call, unit, position, &queries);
    for (int64_t begin = 0; begin < seen; begin += AVX512_KEYS) {
        const cpu_span span = {begin, cpu_min(begin + AVX512_KEYS, seen)};
        const avx512_rows keys = rows_of(call, KEYS, unit->kv_head, span);
        const avx512_rows values = rows_of(call, VALUES, unit->kv_head, span);
        avx512_score_many(&keys, &block, &queries);
        weigh_all(&queries, span);
        avx512_sum_many(&values, &block, &queries);
    }
    finish(call, unit, &queries);
}

// Later rows see more keys: in the share of each worker the longest units are taken first, so that
// threads end together. There is nothing to join where there are many queries.
weir_status avx512_attention_run(const weir_kernel_call* call) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[Q].shape.dims[0];
    int64_t position = 0;
    WEIR_TRY(cpu_attention_position(call, "attention", row_count, call->views[KEYS].shape.dims[0],
                                    &position));
    if (avx512_attention_is_few(desc, row_count)) {
        avx512_attention_few(call, position);
        return WEIR_OK;
    }
    const cpu_attention_cut cut = find_cut(desc, row_count);
    if (call->tile == call->tile_count) {
        return WEIR_OK;
    }
    const cpu_span span = cpu_tile_units(call, cut.units);
    for (int64_t i = span.begin; i < span.end; i++) {
        const cpu_attention_unit unit = weir_cpu_attention_unit(&cut, cut.units - 1 - i);
        attend(call, &unit, position);
    }
    return WEIR_OK;
}
