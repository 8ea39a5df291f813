#include "backends/cpu/avx512/avx512_fetch.h"
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
    bool times_16;  // the bytes of the second half of each group are 16 times what they stand for
    bool by_parity; // x is in the order of even and odd groups
} traits;

AVX512_INLINE int64_t chunk_bytes(traits type) {
    return CPU_CHUNK / type.block_elements * type.block_bytes;
}

#define PADDED_BYTES (CPU_CHUNK * 2)

// The last chunk of a row of 32-element blocks may be short: it is read from a copy that zeros fill
// up. What stands there meets zeros of x.
static const uint8_t* pad_chunk(traits type, const uint8_t* source, int64_t elements,
                                uint8_t copy[PADDED_BYTES]) {
    memset(copy, 0, PADDED_BYTES);
    memcpy(copy, source, (size_t)(elements / type.block_elements * type.block_bytes));
    return copy;
}

AVX512_INLINE avx512_weights unpack_chunk(traits type, const uint8_t* row, int64_t chunk,
                                          int64_t elements) {
    uint8_t copy[PADDED_BYTES];
    const uint8_t* source = row + chunk * chunk_bytes(type);
    const int64_t left = elements - chunk * CPU_CHUNK;
    return type.unpack(left >= CPU_CHUNK ? source : pad_chunk(type, source, left, copy));
}

// What the integer sums of a chunk of x begin with: -offset * sum(q), for the first and the second
// half of each group.
AVX512_INLINE void begin_chunk(traits type, const cpu_chunk* x, __m512i begin[2]) {
    begin[0] = begin[1] = _mm512_setzero_si512();
    if (type.offset != 0) {
        const __m512i sums =
            _mm512_mullo_epi32(_mm512_load_si512(x->sum), _mm512_set1_epi32(-type.offset));
        begin[0] = type.groups_of_16 ? _mm512_maskz_mov_epi32(0x5555, sums) : sums;
        begin[1] = _mm512_maskz_mov_epi32(type.groups_of_16 ? 0xAAAA : 0, sums);
    }
}

// Lanes 2 i and 2 i + 1 of products belong to group i of 32; those with the first two registers to
// its first half. A type has an offset or minima.
AVX512_INLINE __m512 add_chunk(traits type, const avx512_weights* w, const __m512i begin[2],
                               const cpu_chunk* x, __m512 sum) {
    const __m512 scale = _mm512_mul_ps(w->scale, _mm512_load_ps(x->d));
    const __m512i first =
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(begin[0], w->u[0], _mm512_load_si512(x->q)),
                            w->u[1], _mm512_load_si512(x->q + 64));
    const __m512i last =
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(begin[1], w->u[2], _mm512_load_si512(x->q + 128)),
                            w->u[3], _mm512_load_si512(x->q + 192));
    if (type.groups_of_16) {
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_moveldup_ps(scale), sum);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), _mm512_movehdup_ps(scale), sum);
    } else {
        const __m512i half = type.times_16 ? _mm512_srai_epi32(last, 4) : last;
        const __m512i both = _mm512_add_epi32(first, half);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(both), scale, sum);
    }
    return type.has_minimum ? _mm512_fnmadd_ps(w->minimum, _mm512_load_ps(x->d_sum), sum) : sum;
}

// `rows` weight rows from row n on and `count` rows of x, whose sums stay in registers.
AVX512_INLINE void dot_rows(traits type, const cpu_weight_rows* weights, int64_t n, int rows,
                            int64_t elements, const cpu_chunk* x, int64_t stride, int count,
                            float* results) {
    __m512 sums[2][CPU_FEW_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < rows * count; i++) {
        sums[i / count][i % count] = _mm512_setzero_ps();
    }
    const uint8_t* const first = weights->first + n * weights->byte_stride;
    const int64_t chunks = (elements + CPU_CHUNK - 1) / CPU_CHUNK;
    for (int64_t c = 0; c < chunks; c++) {
        avx512_fetch_ahead(weights, n, rows, 2, chunk_bytes(type), c);
        __m512i begin[CPU_FEW_ROWS][2];
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            begin_chunk(type, x + i * stride + c, begin[i]);
        }
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            const avx512_weights w =
                unpack_chunk(type, first + r * weights->byte_stride, c, elements);
#pragma GCC unroll 4
            for (int i = 0; i < count; i++) {
                sums[r][i] = add_chunk(type, &w, begin[i], x + i * stride + c, sums[r][i]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows * count; i++) {
        results[n + i / count + i % count * CPU_RUN_COLUMNS] =
            _mm512_reduce_add_ps(sums[i / count][i % count]);
    }
}

// Two weight rows and one row of x. While the sums of a chunk of one row are computed, that of the
// other is unpacked: the processor has other units for it, and finds the work within its reach.
AVX512_INLINE void dot_two(traits type, const cpu_weight_rows* weights, int64_t n, int64_t elements,
                           const cpu_chunk* x, float* results) {
    const uint8_t* const first = weights->first + n * weights->byte_stride;
    const uint8_t* const second = first + weights->byte_stride;
    const int64_t last = (elements + CPU_CHUNK - 1) / CPU_CHUNK - 1;
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512i begin[2];
    avx512_weights a = unpack_chunk(type, first, 0, elements);
    for (int64_t c = 0;; c++) {
        avx512_fetch_ahead(weights, n, 2, 2, chunk_bytes(type), c);
        begin_chunk(type, x + c, begin);
        const avx512_weights b = unpack_chunk(type, second, c, elements);
        sums[0] = add_chunk(type, &a, begin, x + c, sums[0]);
        if (c == last) {
            sums[1] = add_chunk(type, &b, begin, x + c, sums[1]);
            break;
        }
        a = unpack_chunk(type, first, c + 1, elements);
        sums[1] = add_chunk(type, &b, begin, x + c, sums[1]);
    }
    results[n] = _mm512_reduce_add_ps(sums[0]);
    results[n + 1] = _mm512_reduce_add_ps(sums[1]);
}

AVX512_INLINE void dot_pairs(traits type, const cpu_weight_rows* weights, int64_t elements,
                             const cpu_chunk* x, int64_t stride, int count, float* results) {
    int64_t n = 0;
    for (; n + 2 <= weights->count; n += 2) {
        if (count == 1) {
            dot_two(type, weights, n, elements, x, results);
        } else {
            dot_rows(type, weights, n, 2, elements, x, stride, count, results);
        }
    }
    if (n < weights->count) {
        dot_rows(type, weights, n, 1, elements, x, stride, count, results);
    }
}

// A constant number of rows keeps all sums in registers.
AVX512_INLINE void dot_any(traits type, const cpu_weight_rows* weights, int64_t elements,
                           const cpu_chunk* x, int64_t stride, int64_t count, float* results) {
    switch (count) {
    case 1:
        dot_pairs(type, weights, elements, x, stride, 1, results);
        break;
    case 2:
        dot_pairs(type, weights, elements, x, stride, 2, results);
        break;
    case 3:
        dot_pairs(type, weights, elements, x, stride, 3, results);
        break;
    default:
        dot_pairs(type, weights, elements, x, stride, 4, results);
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
    if (type.has_minimum) {
        memset(block->minimum, 0, sizeof block->minimum);
    }
    for (int64_t i = 0; i < CPU_BLOCK_WIDTH; i++) {
        const int64_t row = i < rows ? i : rows - 1; // any: its scales stay 0
        avx512_weights w = unpack_chunk(type, weights + row * row_bytes, chunk, elements);
        if (type.times_16) {
            w.u[2] = _mm512_srli_epi16(w.u[2], 4);
            w.u[3] = _mm512_srli_epi16(w.u[3], 4);
        }
        for (int j = 0; j < 4; j++) {
            _mm512_store_si512(u[j][i], w.u[j]);
        }
        if (i < rows) {
            _mm512_store_ps(block->scale[i], w.scale);
        }
        if (i < rows && type.has_minimum) {
            _mm512_store_ps(block->minimum[i], w.minimum);
        }
    }
    for (int j = 0; j < 4; j++) {
        __m512i r[16];
        for (int i = 0; i < 16; i++) {
            r[i] = _mm512_load_si512(u[j][i]);
        }
        avx512_transpose(r);
        // Words 2 i and 2 i + 1 of the register hold elements 8 j .. 8 j + 7 of group i.
        for (int i = 0; i < 16; i++) {
            _mm512_store_si512(block->u[8 * (i / 2) + 2 * j + i % 2], r[i]);
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

// Where elements 4 k .. 4 k + 3 of a chunk of x lie.
AVX512_INLINE int place_of(bool by_parity, int k) {
    const int group = k / 8;
    const int word = k % 8 / 2; // of 64 bits
    const int place = by_parity ? 64 * (group % 2 * 2 + word % 2) + 32 * (group / 2 % 2) +
                                      16 * (word / 2) + 8 * (group / 4)
                                : 64 * word + 8 * group;
    return place + 4 * (k % 2);
}

// What the sums of the groups of a row of x begin with, or what a minimum is multiplied with: for
// groups of 32 both lanes of a group hold it.
typedef struct group_starts {
    _Alignas(64) int32_t offset[CPU_BLOCK_ROWS][CPU_GROUPS]; // -offset * sum(q)
    _Alignas(64) float d_sum[CPU_BLOCK_ROWS][CPU_GROUPS];
} group_starts;

AVX512_INLINE void make_starts(traits type, const cpu_chunk* x, int count, group_starts* starts) {
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        if (type.has_minimum) {
            __m512 sum = _mm512_load_ps(x[i].d_sum);
            sum = type.groups_of_16 ? sum : _mm512_add_ps(sum, _mm512_permute_ps(sum, 0xB1));
            _mm512_store_ps(starts->d_sum[i], sum);
        } else {
            __m512i sum = _mm512_load_si512(x[i].sum);
            sum = type.groups_of_16 ? sum : _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, 0xB1));
            _mm512_store_si512(starts->offset[i],
                               _mm512_mullo_epi32(sum, _mm512_set1_epi32(-type.offset)));
        }
    }
}

// Each lane is a weight row: integer sums over a group, then one scaling per group.
AVX512_INLINE void multiply_rows(traits type, const cpu_block* block, const cpu_chunk* x, int count,
                                 bool first, float* results, int64_t stride) {
    const int words = type.groups_of_16 ? 4 : 8; // of a group
    group_starts starts;
    make_starts(type, x, count, &starts);
    __m512 sums[CPU_BLOCK_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        sums[i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(results + i * stride);
    }
    for (int g = 0; g < CPU_CHUNK / 4 / words; g++) {
        const int sixteenth = g * words / 4;
        __m512i dots[CPU_BLOCK_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            dots[i] = type.has_minimum ? _mm512_setzero_si512()
                                       : _mm512_set1_epi32(starts.offset[i][sixteenth]);
        }
        const int8_t* q = x[0].q + place_of(type.by_parity, g * words);
#pragma GCC unroll 8
        for (int k = 0; k < words; k++) {
            const __m512i u = _mm512_load_si512(block->u[g * words + k]);
#pragma GCC unroll 8
            for (int i = 0; i < count; i++) {
                const int8_t* word = q + i * (int)sizeof *x + place_of(type.by_parity, k);
                dots[i] = _mm512_dpbusd_epi32(dots[i], u, broadcast4(word));
            }
        }
        const __m512 scale = _mm512_load_ps(block->scale[sixteenth]);
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x[i].d[sixteenth]));
            sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i]), both, sums[i]);
            if (type.has_minimum) {
                const __m512 minimum = _mm512_load_ps(block->minimum[sixteenth]);
                sums[i] =
                    _mm512_fnmadd_ps(minimum, _mm512_set1_ps(starts.d_sum[i][sixteenth]), sums[i]);
            }
        }
    }
#pragma GCC unroll 8
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

// X(name, dtype, offset, elements of a block, bytes of a block, has a minimum, groups of 16,
//   times 16)
#define TYPE_LIST(X)                                                                               \
    X(q8_0, Q8_0, 128, 32, 34, false, false, false)                                                \
    X(q4_0, Q4_0, 8, 32, 18, false, false, true)                                                   \
    X(q4_1, Q4_1, 0, 32, 20, true, false, false)                                                   \
    X(q5_0, Q5_0, 16, 32, 22, false, false, false)                                                 \
    X(q5_1, Q5_1, 0, 32, 24, true, false, false)                                                   \
    X(q2_k, Q2_K, 0, 256, 84, true, true, false)                                                   \
    X(q3_k, Q3_K, 4, 256, 110, false, true, false)                                                 \
    X(q6_k, Q6_K, 32, 256, 210, false, true, false)                                                \
    X(iq4_nl, IQ4_NL, IQ4_OFFSET, 32, 18, false, false, false)                                     \
    X(iq4_xs, IQ4_XS, IQ4_OFFSET, 256, 136, false, false, false)                                   \
    X(mxfp4, MXFP4, FP4_OFFSET, 32, 17, false, false, false)

// Types with integers for scales: few rows of x meet them in avx512_k_few.c.
#define K_TYPE_LIST(X)                                                                             \
    X(q4_k, Q4_K, 0, 256, 144, true, false, false)                                                 \
    X(q5_k, Q5_K, 0, 256, 176, true, false, false)

#define TYPE_TRAITS(name, offset, elements, bytes, minimum, sixteen, times_16, by_parity)          \
    ((traits){unpack_##name, elements, bytes, minimum, sixteen, offset, times_16, by_parity})

#define DOT_FUNCTION(name, dtype, offset, block, bytes, minimum, sixteen, times_16)                \
    static void dot_##name(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,   \
                           int64_t stride, int64_t count, float* sums) {                           \
        dot_any(TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen, times_16, false),        \
                weights, elements, x, stride, count, sums);                                        \
    }
TYPE_LIST(DOT_FUNCTION)
#undef DOT_FUNCTION

#define BLOCK_FUNCTIONS(by_parity, name, offset, block, bytes, minimum, sixteen, times_16)         \
    static void unpack_block_##name(const uint8_t* weights, int64_t row_bytes, int64_t rows,       \
                                    int64_t chunk, int64_t elements, cpu_block* unpacked) {        \
        unpack_block(                                                                              \
            TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen, times_16, by_parity),        \
            weights, row_bytes, rows, chunk, elements, unpacked);                                  \
    }                                                                                              \
    static void multiply_##name(const cpu_block* unpacked, const cpu_chunk* x, int64_t count,      \
                                bool first, float* sums, int64_t stride) {                         \
        multiply_any(                                                                              \
            TYPE_TRAITS(name, offset, block, bytes, minimum, sixteen, times_16, by_parity),        \
            unpacked, x, count, first, sums, stride);                                              \
    }
#define TYPE_BLOCKS(name, dtype, ...) BLOCK_FUNCTIONS(false, name, __VA_ARGS__)
#define K_TYPE_BLOCKS(name, dtype, ...) BLOCK_FUNCTIONS(true, name, __VA_ARGS__)
TYPE_LIST(TYPE_BLOCKS)
K_TYPE_LIST(K_TYPE_BLOCKS)
#undef K_TYPE_BLOCKS
#undef TYPE_BLOCKS
#undef BLOCK_FUNCTIONS

static const cpu_quantized_type quantized_types[] = {
#define TYPE_ROW(name, dtype_, offset, block, bytes, minimum, sixteen, times_16)                   \
    {WEIR_DTYPE_##dtype_, CPU_CHUNK / (block) * (bytes), avx512_quantize,                          \
     dot_##name,          unpack_block_##name,           multiply_##name},
#define K_TYPE_ROW(name, dtype_, offset, block, bytes, minimum, sixteen, times_16)                 \
    {WEIR_DTYPE_##dtype_, CPU_CHUNK / (block) * (bytes), avx512_quantize_k,                        \
     avx512_dot_##name,   unpack_block_##name,           multiply_##name},
    TYPE_LIST(TYPE_ROW) K_TYPE_LIST(K_TYPE_ROW)
#undef TYPE_ROW
#undef K_TYPE_ROW
};

const cpu_products avx512_products = {
    .quantized = quantized_types,
    .quantized_count = sizeof quantized_types / sizeof quantized_types[0],
    .floats = avx512_float_types,
    .float_count = AVX512_FLOAT_TYPES,
    .float_rows = AVX512_FLOAT_ROWS,
    .float_rows_long = CPU_FLOAT_ROWS,
    .quantize_fixed = avx512_quantize_fixed,
    .multiply_fixed = avx512_multiply_fixed,
    .silu_gate = avx512_silu_gate,
};

const cpu_products avx512_bf16_products = {
    .quantized = quantized_types,
    .quantized_count = sizeof quantized_types / sizeof quantized_types[0],
    .floats = avx512_bf16_float_types,
    .float_count = AVX512_FLOAT_TYPES,
    .float_rows = AVX512_FLOAT_ROWS,
    .float_rows_long = CPU_FLOAT_ROWS,
    .quantize_fixed = avx512_quantize_fixed,
    .multiply_fixed = avx512_multiply_fixed,
    .silu_gate = avx512_silu_gate,
};
