#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_unpack.h"
#include "backends/cpu/avx512/avx512_vector.h"

typedef avx512_weights (*unpack_fn)(const uint8_t* blocks);

// What the compiler knows of a type where the functions below are expanded for it.
typedef struct traits {
    unpack_fn unpack;
    uint32_t block_elements;
    uint32_t block_bytes;
    bool has_minimum;
    bool groups_of_16; // scales differ every 16 elements; else every 32
    int32_t offset;
} traits;

AVX512_INLINE int64_t chunk_bytes(traits type) {
    return CPU_CHUNK / type.block_elements * type.block_bytes;
}

// The last chunk of a row of 32-element blocks may be short: it is read from a copy that zeros fill
// up. What stands there meets zeros of x.
AVX512_INLINE avx512_weights unpack_chunk(traits type, const uint8_t* row, int64_t chunk,
                                          int64_t elements) {
    const uint8_t* source = row + chunk * chunk_bytes(type);
    const int64_t left = elements - chunk * CPU_CHUNK;
    if (left >= CPU_CHUNK) {
        return type.unpack(source);
    }
    uint8_t copy[CPU_CHUNK * 2];
    memset(copy, 0, sizeof copy);
    memcpy(copy, source, (size_t)(left / type.block_elements * type.block_bytes));
    return type.unpack(copy);
}

// Lane i of part j belongs to group 4 j + i / 4.
AVX512_INLINE __m512 spread_groups(__m512 groups, int part) {
    const __m512i index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(_mm512_add_epi32(index, _mm512_set1_epi32(4 * part)), groups);
}

// What is taken off for each unit of d * sum(q). A type has a minimum, or an offset that counts as
// one of offset * scale.
AVX512_INLINE __m512 floor_of(traits type, const avx512_weights* w) {
    return type.has_minimum ? w->minimum
                            : _mm512_mul_ps(w->scale, _mm512_set1_ps((float)type.offset));
}

AVX512_INLINE void add_chunk(const avx512_weights* w, __m512 floor, const cpu_chunk* x,
                             __m512 sums[2]) {
    const __m512 scale = _mm512_mul_ps(w->scale, _mm512_load_ps(x->d));
    for (int j = 0; j < 4; j++) {
        const __m512i dot =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), w->u[j], _mm512_load_si512(x->q + 64 * j));
        sums[j % 2] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), spread_groups(scale, j), sums[j % 2]);
    }
    sums[0] = _mm512_fnmadd_ps(floor, _mm512_load_ps(x->d_sum), sums[0]);
}

AVX512_INLINE void dot_rows(traits type, const uint8_t* weights, int64_t elements,
                            const cpu_chunk* x, int64_t stride, int count, float* results) {
    __m512 sums[CPU_FEW_ROWS][2];
    for (int i = 0; i < count; i++) {
        sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    }
    const int64_t chunks = (elements + CPU_CHUNK - 1) / CPU_CHUNK;
    for (int64_t c = 0; c < chunks; c++) {
        const avx512_weights w = unpack_chunk(type, weights, c, elements);
        const __m512 floor = floor_of(type, &w);
        for (int i = 0; i < count; i++) {
            add_chunk(&w, floor, x + i * stride + c, sums[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        results[i] = _mm512_reduce_add_ps(_mm512_add_ps(sums[i][0], sums[i][1]));
    }
}

// A constant number of rows keeps all sums in registers. What decoding needs most has functions of
// its own.
AVX512_INLINE void dot_any(traits type, const uint8_t* weights, int64_t elements,
                           const cpu_chunk* x, int64_t stride, int64_t count, float* results) {
    if (type.unpack == unpack_q4_0) {
        avx512_dot_q4_0(weights, elements, x, stride, count, results);
        return;
    }
    if (type.unpack == unpack_q4_k && count == 1) {
        avx512_dot_q4_k(weights, elements, x, results);
        return;
    }
    switch (count) {
    case 1:
        dot_rows(type, weights, elements, x, stride, 1, results);
        break;
    case 2:
        dot_rows(type, weights, elements, x, stride, 2, results);
        break;
    case 3:
        dot_rows(type, weights, elements, x, stride, 3, results);
        break;
    default:
        dot_rows(type, weights, elements, x, stride, 4, results);
    }
}

AVX512_INLINE void transpose_floats(float rows[16][16]) {
    __m512i r[16];
    for (int i = 0; i < 16; i++) {
        r[i] = _mm512_load_si512(rows[i]);
    }
    avx512_transpose(r);
    for (int i = 0; i < 16; i++) {
        _mm512_store_si512(rows[i], r[i]);
    }
}

AVX512_INLINE void unpack_block(traits type, const uint8_t* weights, int64_t row_bytes,
                                int64_t rows, int64_t chunk, int64_t elements, cpu_block* block) {
    _Alignas(64) uint8_t u[4][CPU_BLOCK_WIDTH][64];
    memset(block->scale, 0, sizeof block->scale);
    memset(block->minimum, 0, sizeof block->minimum);
    for (int64_t i = 0; i < CPU_BLOCK_WIDTH; i++) {
        const int64_t row = i < rows ? i : rows - 1; // any: its scales stay 0
        const avx512_weights w = unpack_chunk(type, weights + row * row_bytes, chunk, elements);
        for (int j = 0; j < 4; j++) {
            _mm512_store_si512(u[j][i], w.u[j]);
        }
        if (i < rows) {
            _mm512_store_ps(block->scale[i], w.scale);
            _mm512_store_ps(block->minimum[i], w.minimum);
        }
    }
    for (int j = 0; j < 4; j++) {
        __m512i r[16];
        for (int i = 0; i < 16; i++) {
            r[i] = _mm512_load_si512(u[j][i]);
        }
        avx512_transpose(r);
        for (int i = 0; i < 16; i++) {
            _mm512_store_si512(block->u[16 * j + i], r[i]);
        }
    }
    transpose_floats(block->scale);
    if (type.has_minimum) {
        transpose_floats(block->minimum);
    }
}

AVX512_INLINE __m512i broadcast4(const int8_t* q) {
    int32_t word;
    memcpy(&word, q, sizeof word);
    return _mm512_set1_epi32(word);
}

// Each lane is a weight row: integer sums over a group, then one scaling per group.
AVX512_INLINE void multiply_rows(traits type, const cpu_block* block, const cpu_chunk* x, int count,
                                 bool first, float* results, int64_t stride) {
    const int group = type.groups_of_16 ? 16 : 32;
    __m512 sums[CPU_BLOCK_ROWS];
    for (int i = 0; i < count; i++) {
        sums[i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(results + i * stride);
    }
    for (int g = 0; g < CPU_CHUNK / group; g++) {
        const int sixteenth = g * group / 16;
        __m512i dots[CPU_BLOCK_ROWS];
        for (int i = 0; i < count; i++) {
            const int32_t* sum = x[i].sum + sixteenth;
            const int32_t both = type.groups_of_16 ? sum[0] : sum[0] + sum[1];
            dots[i] = _mm512_set1_epi32(-type.offset * both);
        }
        for (int k = 0; k < group / 4; k++) {
            const __m512i u = _mm512_load_si512(block->u[g * group / 4 + k]);
            for (int i = 0; i < count; i++) {
                dots[i] = _mm512_dpbusd_epi32(dots[i], u, broadcast4(x[i].q + g * group + 4 * k));
            }
        }
        const __m512 scale = _mm512_load_ps(block->scale[sixteenth]);
        for (int i = 0; i < count; i++) {
            const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x[i].d[sixteenth]));
            sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i]), both, sums[i]);
        }
        if (type.has_minimum) {
            const __m512 minimum = _mm512_load_ps(block->minimum[sixteenth]);
            for (int i = 0; i < count; i++) {
                const float* d_sum = x[i].d_sum + sixteenth;
                const float sum = type.groups_of_16 ? d_sum[0] : d_sum[0] + d_sum[1];
                sums[i] = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(sum), sums[i]);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        _mm512_storeu_ps(results + i * stride, sums[i]);
    }
}

AVX512_INLINE void multiply_any(traits type, const cpu_block* block, const cpu_chunk* x,
                                int64_t count, bool first, float* sums, int64_t stride) {
    if (count == CPU_BLOCK_ROWS) {
        multiply_rows(type, block, x, CPU_BLOCK_ROWS, first, sums, stride);
        return;
    }
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        multiply_rows(type, block, x + i, 2, first, sums + i * stride, stride);
    }
    if (i < count) {
        multiply_rows(type, block, x + i, 1, first, sums + i * stride, stride);
    }
}

// X(name, dtype, offset, elements of a block, bytes of a block, has a minimum, groups of 16)
#define TYPE_LIST(X)                                                                               \
    X(q8_0, Q8_0, 128, 32, 34, false, false)                                                       \
    X(q4_0, Q4_0, 8, 32, 18, false, false)                                                         \
    X(q4_1, Q4_1, 0, 32, 20, true, false)                                                          \
    X(q5_0, Q5_0, 16, 32, 22, false, false)                                                        \
    X(q5_1, Q5_1, 0, 32, 24, true, false)                                                          \
    X(q2_k, Q2_K, 0, 256, 84, true, true)                                                          \
    X(q3_k, Q3_K, 4, 256, 110, false, true)                                                        \
    X(q4_k, Q4_K, 0, 256, 144, true, false)                                                        \
    X(q5_k, Q5_K, 0, 256, 176, true, false)                                                        \
    X(q6_k, Q6_K, 32, 256, 210, false, true)                                                       \
    X(iq4_nl, IQ4_NL, IQ4_OFFSET, 32, 18, false, false)                                            \
    X(iq4_xs, IQ4_XS, IQ4_OFFSET, 256, 136, false, false)                                          \
    X(mxfp4, MXFP4, FP4_OFFSET, 32, 17, false, false)

#define TYPE_TRAITS(name, offset, elements, bytes, minimum, sixteen)                               \
    ((traits){unpack_##name, elements, bytes, minimum, sixteen, offset})

#define TYPE_FUNCTIONS(name, dtype, offset, block, bytes, minimum, sixteen)                        \
    static void dot_##name(const uint8_t* weights, int64_t elements, const cpu_chunk* x,           \
                           int64_t stride, int64_t count, float* sums) {                           \
        dot_any(TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen), weights, elements, x,   \
                stride, count, sums);                                                              \
    }                                                                                              \
    static void unpack_block_##name(const uint8_t* weights, int64_t row_bytes, int64_t rows,       \
                                    int64_t chunk, int64_t elements, cpu_block* unpacked) {        \
        unpack_block(TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen), weights,           \
                     row_bytes, rows, chunk, elements, unpacked);                                  \
    }                                                                                              \
    static void multiply_##name(const cpu_block* unpacked, const cpu_chunk* x, int64_t count,      \
                                bool first, float* sums, int64_t stride) {                         \
        multiply_any(TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen), unpacked, x,       \
                     count, first, sums, stride);                                                  \
    }
TYPE_LIST(TYPE_FUNCTIONS)
#undef TYPE_FUNCTIONS

static const cpu_quantized_type quantized_types[] = {
#define TYPE_ROW(name, dtype_, offset, block, bytes, minimum, sixteen)                             \
    {WEIR_DTYPE_##dtype_, CPU_CHUNK / (block) * (bytes), dot_##name, unpack_block_##name,          \
     multiply_##name},
    TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};

const cpu_products avx512_products = {
    .quantized = quantized_types,
    .quantized_count = sizeof quantized_types / sizeof quantized_types[0],
    .floats = avx512_float_types,
    .float_count = AVX512_FLOAT_TYPES,
    .quantize = avx512_quantize,
    .arrange = avx512_arrange,
    .multiply_floats = avx512_multiply_floats,
};
