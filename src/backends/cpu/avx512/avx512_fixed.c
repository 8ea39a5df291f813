// Many rows of x with weights of F16 and BF16 as 16-bit integers: VPDPWSSD of AVX512_VNNI makes
// twice as many products as an instruction in f32. With normally distributed numbers rounding adds
// errors of 7e-5 of their root mean square to x and of 1e-4 to weights; rounding x to F16 would add
// 2e-4.
#include <string.h>

#include "backends/cpu/avx512/avx512_load.h"
#include "backends/cpu/avx512/avx512_products.h"

#define WORDS (CPU_FIXED_GROUP / 2)  // of two elements
#define INVERSE_MAX 0x1p126f         // its own inverse is a normal number
#define NORM (CPU_FIXED_NORM - 5.0f) // 64 roundings by at most a half add 4

_Static_assert(CPU_FIXED_GROUP == 64, "four registers of f32, two of integers");
_Static_assert(INT64_C(8) * CPU_FIXED_WEIGHT * CPU_FIXED_NORM < INT32_MAX, "no sum overflows");

// 32 numbers as integers. Neighbours stay together in a word; the order of the words does not
// matter, since it is the same for x and weights.
AVX512_INLINE __m512i round_words(__m512 first, __m512 last, __m512 factor) {
    return _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(first, factor)),
                              _mm512_cvtps_epi32(_mm512_mul_ps(last, factor)));
}

// What magnitudes up to `most` are multiplied with to be at most `level`; 0 for zeros, infinity and
// NaN.
AVX512_INLINE __m512 inverse_of(__m512 most, float level) {
    const __mmask16 positive = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 inverse = _mm512_maskz_div_ps(positive, _mm512_set1_ps(level), most);
    return _mm512_min_ps(inverse, _mm512_set1_ps(INVERSE_MAX));
}

// The inverse of that, or what stands for none: 0 where `most` is 0, NaN where it is no number.
AVX512_INLINE __m512 undo(__m512 inverse, __m512 most) {
    const __mmask16 positive = _mm512_cmp_ps_mask(inverse, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_div_ps(_mm512_mul_ps(most, _mm512_setzero_ps()), positive,
                              _mm512_set1_ps(1.0f), inverse);
}

// NaN stays, and stands for all: integers have the same order as magnitudes, and NaN is above all.
AVX512_INLINE float largest_of(const __m512 numbers[4]) {
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        most = _mm512_max_epi32(most, _mm512_castps_si512(_mm512_abs_ps(numbers[i])));
    }
    const int32_t bits = _mm512_reduce_max_epi32(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

// The largest magnitude becomes 1, so that no square overflows, and then the norm NORM.
AVX512_INLINE void quantize_group(const float* x, int64_t count, int16_t* q, float* d) {
    __m512 numbers[4];
    for (int i = 0; i < 4; i++) {
        numbers[i] = _mm512_maskz_loadu_ps(avx512_mask(count - 16 * i), x + 16 * i);
    }
    const __m512 most = _mm512_set1_ps(largest_of(numbers));
    const __m512 inverse = inverse_of(most, 1.0f);
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < 4; i++) {
        numbers[i] = _mm512_mul_ps(numbers[i], inverse);
        squares = _mm512_fmadd_ps(numbers[i], numbers[i], squares);
    }
    squares = _mm512_set1_ps(_mm512_reduce_add_ps(squares));
    const __m512 factor = inverse_of(_mm512_sqrt_ps(squares), NORM);
    _mm512_store_si512(q, round_words(numbers[0], numbers[1], factor));
    _mm512_store_si512(q + 32, round_words(numbers[2], numbers[3], factor));
    const __m512 scale = _mm512_mul_ps(undo(factor, squares), undo(inverse, most));
    *d = _mm512_cvtss_f32(scale);
}

void avx512_quantize_fixed(const float* x, int64_t count, cpu_fixed_chunk* chunk) {
    for (int64_t g = 0; g < CPU_FIXED_GROUPS; g++) {
        quantize_group(x + g * CPU_FIXED_GROUP, count - g * CPU_FIXED_GROUP,
                       chunk->q + g * CPU_FIXED_GROUP, &chunk->d[g]);
    }
}

// Elements e .. e + 31 of a chunk that is whole or has `count`: those that are there.
AVX512_INLINE __mmask32 mask_of(bool whole, int64_t count, int64_t e) {
    return whole || count - e >= 32 ? 0xFFFFFFFF : count <= e ? 0 : (1u << (count - e)) - 1;
}

// The largest magnitude of some weights as they are kept: like integers these have its order.
AVX512_INLINE uint16_t largest_half(const uint8_t* weights, bool whole, int64_t count) {
    __m512i most = _mm512_setzero_si512();
    for (int e = 0; e < CPU_CHUNK; e += 32) {
        const __m512i part = _mm512_maskz_loadu_epi16(mask_of(whole, count, e), weights + 2 * e);
        most = _mm512_max_epu16(most, _mm512_and_si512(part, _mm512_set1_epi16(0x7FFF)));
    }
    const __m256i half =
        _mm256_max_epu16(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1));
    const __m128i quarter =
        _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_extract_epi16(least, 0);
}

// Elements of 16 rows, at most a chunk; the last rows stand in for those that are not there.
AVX512_INLINE void unpack_rows(widen_fn widen, const uint8_t* const rows[CPU_BLOCK_WIDTH],
                               bool whole, int64_t count, cpu_fixed_block* block) {
    _Alignas(32) uint16_t halves[CPU_BLOCK_WIDTH];
    _Alignas(64) float factors[CPU_BLOCK_WIDTH];
    for (int i = 0; i < CPU_BLOCK_WIDTH; i++) {
        halves[i] = largest_half(rows[i], whole, count);
    }
    const __m512 most = widen(_mm256_load_si256((const __m256i*)(const void*)halves));
    const __m512 inverse = inverse_of(most, CPU_FIXED_WEIGHT);
    _mm512_store_ps(factors, inverse);
    _mm512_store_ps(block->scale, undo(inverse, most));
    for (int e = 0; e < CPU_CHUNK; e += 32) {
        __m512i words[CPU_BLOCK_WIDTH];
        for (int i = 0; i < CPU_BLOCK_WIDTH; i++) {
            const __mmask32 mask = mask_of(whole, count, e);
            const uint8_t* from = rows[i] + 2 * e;
            words[i] =
                round_words(widen(_mm256_maskz_loadu_epi16((__mmask16)mask, from)),
                            widen(_mm256_maskz_loadu_epi16((__mmask16)(mask >> 16), from + 32)),
                            _mm512_set1_ps(factors[i]));
        }
        avx512_transpose(words);
        for (int i = 0; i < CPU_BLOCK_WIDTH; i++) {
            _mm512_store_si512(block->u[e / 2 + i], words[i]);
        }
    }
}

AVX512_INLINE void unpack_block(widen_fn widen, const uint8_t* weights, int64_t row_bytes,
                                int64_t rows, int64_t chunk, int64_t elements,
                                cpu_fixed_block* block) {
    const uint8_t* sources[CPU_BLOCK_WIDTH];
    for (int64_t i = 0; i < CPU_BLOCK_WIDTH; i++) {
        sources[i] = weights + (i < rows ? i : rows - 1) * row_bytes + 2 * chunk * CPU_CHUNK;
    }
    const int64_t left = elements - chunk * CPU_CHUNK;
    if (left >= CPU_CHUNK) {
        unpack_rows(widen, sources, true, CPU_CHUNK, block);
    } else {
        unpack_rows(widen, sources, false, left, block);
    }
}

void avx512_unpack_fixed_f16(const uint8_t* weights, int64_t row_bytes, int64_t rows, int64_t chunk,
                             int64_t elements, cpu_fixed_block* block) {
    unpack_block(widen_f16, weights, row_bytes, rows, chunk, elements, block);
}

void avx512_unpack_fixed_bf16(const uint8_t* weights, int64_t row_bytes, int64_t rows,
                              int64_t chunk, int64_t elements, cpu_fixed_block* block) {
    unpack_block(widen_bf16, weights, row_bytes, rows, chunk, elements, block);
}

AVX512_INLINE __m512i broadcast_word(const int16_t* q) {
    int32_t word;
    memcpy(&word, q, sizeof word);
    return _mm512_set1_epi32(word);
}

// Each lane is a weight row: integer sums over a group, scaled by x, and at the end by the weights.
AVX512_INLINE void multiply_rows(const cpu_fixed_block* block, const cpu_fixed_chunk* x, int count,
                                 bool first, float* results, int64_t stride) {
    __m512 sums[CPU_BLOCK_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        sums[i] = _mm512_setzero_ps();
    }
    for (int g = 0; g < CPU_FIXED_GROUPS; g++) {
        __m512i dots[CPU_BLOCK_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            dots[i] = _mm512_setzero_si512();
        }
#pragma GCC unroll 4
        for (int k = g * WORDS; k < (g + 1) * WORDS; k++) {
            const __m512i u = _mm512_load_si512(block->u[k]);
#pragma GCC unroll 8
            for (int i = 0; i < count; i++) {
                dots[i] = _mm512_dpwssd_epi32(dots[i], u, broadcast_word(x[i].q + 2 * k));
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            sums[i] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i]), _mm512_set1_ps(x[i].d[g]), sums[i]);
        }
    }
    const __m512 scale = _mm512_load_ps(block->scale);
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        float* at = results + i * stride;
        const __m512 before = first ? _mm512_setzero_ps() : _mm512_loadu_ps(at);
        _mm512_storeu_ps(at, _mm512_fmadd_ps(sums[i], scale, before));
    }
}

void avx512_multiply_fixed(const cpu_fixed_block* block, const cpu_fixed_chunk* x, int64_t count,
                           bool first, float* sums, int64_t stride) {
    if (count == CPU_BLOCK_ROWS) {
        multiply_rows(block, x, CPU_BLOCK_ROWS, first, sums, stride);
        return;
    }
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        multiply_rows(block, x + i, 2, first, sums + i * stride, stride);
    }
    if (i < count) {
        multiply_rows(block, x + i, 1, first, sums + i * stride, stride);
    }
}
