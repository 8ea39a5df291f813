// What the kernels of attention share: a unit is one head of a few rows, so that keys and values
// that were read serve all of them.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_ATTENTION_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_ATTENTION_H

#include "backends/cpu/kernels/cpu_kernels.h"
#include "backends/cpu/kernels/cpu_vector.h"

#define CPU_ATTENTION_ROWS 4 // of a unit

static inline int64_t cpu_attention_units(int64_t row_count, const weir_attention_desc* desc) {
    return cpu_divide_up(row_count, CPU_ATTENTION_ROWS) * (int64_t)desc->heads;
}

// Tiles of units that each multiply a head of its rows with `keys` keys.
static inline uint32_t cpu_attention_tiles(int64_t row_count, int64_t keys,
                                           const weir_attention_desc* desc) {
    const double rows = (double)cpu_min(row_count, CPU_ATTENTION_ROWS);
    return cpu_tiles(cpu_attention_units(row_count, desc), rows * desc->head_dim * (double)keys,
                     131072.0);
}

// The first column of the keys and values that serve a head.
static inline int64_t cpu_attention_column(const weir_attention_desc* desc, int64_t head) {
    return head / (desc->heads / desc->kv_heads) * desc->head_dim;
}

// Whether a view has a column for each head and key of a cache.
static inline bool cpu_has_scores(const weir_view* view, const weir_view* cache,
                                  const weir_attention_desc* desc) {
    int64_t width = 0;
    return cpu_is_matrix(view) &&
           !__builtin_mul_overflow((int64_t)desc->heads, cache->shape.dims[0], &width) &&
           view->shape.dims[1] == width;
}

// Reads the position of a pass whose rows must fit a cache of `keys` rows.
static inline weir_status cpu_attention_position(const weir_kernel_call* call, const char* name,
                                                 int64_t row_count, int64_t keys,
                                                 int64_t* position) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    uint64_t number = 0;
    WEIR_TRY(cpu_read_param(call, name, desc->position, &number));
    WEIR_TRY(cpu_check_cache(name, number, row_count, keys));
    *position = (int64_t)number;
    return WEIR_OK;
}

// The products of a query with keys [begin, begin + count) of operand `keys`.
static inline void cpu_score_keys(const weir_kernel_call* call, uint32_t keys, const float* query,
                                  int64_t column, int64_t length, int64_t begin, int64_t count,
                                  float* scores) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float* four[4];
        for (int64_t k = 0; k < 4; k++) {
            four[k] = cpu_row_f32(call, keys, begin + i + k) + column;
        }
        cpu_dot4(query, four, length, scores + i);
    }
    for (; i < count; i++) {
        const float* key = cpu_row_f32(call, keys, begin + i) + column;
        scores[i] = cpu_dot(query, key, length);
    }
}

// Adds rows [begin, begin + count) of operand `values`, each times its weight, in their order.
static inline void cpu_add_values(const weir_kernel_call* call, uint32_t values, int64_t column,
                                  int64_t length, int64_t begin, int64_t count,
                                  const float* weights, float* restrict sum) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float* restrict a = cpu_row_f32(call, values, begin + i) + column;
        const float* restrict b = cpu_row_f32(call, values, begin + i + 1) + column;
        const float* restrict c = cpu_row_f32(call, values, begin + i + 2) + column;
        const float* restrict d = cpu_row_f32(call, values, begin + i + 3) + column;
        const float* w = weights + i;
        for (int64_t e = 0; e < length; e++) {
            sum[e] = (((sum[e] + a[e] * w[0]) + b[e] * w[1]) + c[e] * w[2]) + d[e] * w[3];
        }
    }
    for (; i < count; i++) {
        const float* restrict a = cpu_row_f32(call, values, begin + i) + column;
        for (int64_t e = 0; e < length; e++) {
            sum[e] += a[e] * weights[i];
        }
    }
}

#endif
