// Products with weights of F32, F16 and BF16, all in f32 with fused multiplication and addition.
#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_vector.h"

#define BLOCK_ROWS 12 // of x, summed side by side in registers
#define AHEAD 128     // bytes of a weight row that are asked for before they are read

// Loads up to 16 weights of a row as f32; what the mask leaves out is zero and not touched.
typedef __m512 (*load_fn)(const char* row, int64_t index, __mmask16 mask);

AVX512_INLINE __m512 load_f32(const char* row, int64_t index, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, row + 4 * index);
}

AVX512_INLINE __m512 load_f16(const char* row, int64_t index, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row + 2 * index));
}

AVX512_INLINE __m512 load_bf16(const char* row, int64_t index, __mmask16 mask) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + 2 * index));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

// Dot products of some weight rows with all rows of x, which the weight rows share: reading x for
// each of them costs as much as reading the weights. Two running sums hide the latency where there
// is one row of x. Loops that are not expanded would keep the sums in memory.
AVX512_INLINE void dot_rows(load_fn load, int64_t size, const char* const* w, int rows,
                            int64_t elements, const float* const* x, int count, float* results) {
    const int chains = count == 1 ? 2 : 1;
    __m512 sums[CPU_FLOAT_ROWS][CPU_FEW_ROWS][2];
#pragma GCC unroll 32
    for (int i = 0; i < rows * count * chains; i++) {
        sums[i / chains / count][i / chains % count][i % chains] = _mm512_setzero_ps();
    }
    int64_t e = 0;
    for (; e + 32 <= elements; e += 32) {
        __m512 numbers[2][CPU_FEW_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < 2 * count; i++) {
            numbers[i % 2][i / 2] = _mm512_loadu_ps(x[i / 2] + e + 16 * (i % 2));
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            for (int64_t k = 0; k < 32 * size; k += 64) {
                _mm_prefetch((const char*)((uintptr_t)(w[r] + e * size) + AHEAD + (uintptr_t)k),
                             _MM_HINT_T0);
            }
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
                const __m512 weights = load(w[r], e + 16 * k, (__mmask16)0xFFFF);
#pragma GCC unroll 4
                for (int i = 0; i < count; i++) {
                    sums[r][i][k % chains] =
                        _mm512_fmadd_ps(weights, numbers[k][i], sums[r][i][k % chains]);
                }
            }
        }
    }
    for (; e < elements; e += 16) {
        const __mmask16 mask = avx512_mask(elements - e);
#pragma GCC unroll 16
        for (int i = 0; i < rows * count; i++) {
            sums[i / count][i % count][0] = _mm512_fmadd_ps(
                load(w[i / count], e, mask), _mm512_maskz_loadu_ps(mask, x[i % count] + e),
                sums[i / count][i % count][0]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * count; i++) {
        const __m512* sum = sums[i / count][i % count];
        results[i % count * CPU_FLOAT_ROWS + i / count] =
            _mm512_reduce_add_ps(chains == 2 ? _mm512_add_ps(sum[0], sum[1]) : sum[0]);
    }
}

AVX512_INLINE void dot_all(load_fn load, int64_t size, const char* const* w, int64_t rows,
                           int64_t elements, const float* const* x, int count, float* results) {
    if (rows == CPU_FLOAT_ROWS) {
        dot_rows(load, size, w, CPU_FLOAT_ROWS, elements, x, count, results);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        dot_rows(load, size, w + r, 1, elements, x, count, results + r);
    }
}

// A constant number of rows keeps all sums in registers.
AVX512_INLINE void dot_any(load_fn load, int64_t size, const char* const* w, int64_t rows,
                           int64_t elements, const float* const* x, int64_t count, float* results) {
    switch (count) {
    case 1:
        dot_all(load, size, w, rows, elements, x, 1, results);
        break;
    case 2:
        dot_all(load, size, w, rows, elements, x, 2, results);
        break;
    case 3:
        dot_all(load, size, w, rows, elements, x, 3, results);
        break;
    default:
        dot_all(load, size, w, rows, elements, x, 4, results);
    }
}

// Rows that are not there are zeros.
AVX512_INLINE void unpack_block(load_fn load, const char* weights, int64_t row_bytes, int64_t rows,
                                int64_t count, cpu_float_block* block) {
    for (int64_t e = 0; e < count; e += 16) {
        __m512i square[16];
        for (int64_t i = 0; i < CPU_BLOCK_WIDTH; i++) {
            const __mmask16 mask = i < rows ? avx512_mask(count - e) : 0;
            const char* row = weights + (i < rows ? i : 0) * row_bytes;
            square[i] = _mm512_castps_si512(load(row, e, mask));
        }
        avx512_transpose(square);
        for (int k = 0; k < 16; k++) {
            _mm512_store_si512(block->w[e + k], square[k]);
        }
    }
}

AVX512_INLINE void multiply_rows(const cpu_float_block* block, const float* x, int64_t x_stride,
                                 int count, int64_t length, bool first, float* results,
                                 int64_t stride) {
    __m512 sums[BLOCK_ROWS];
    for (int i = 0; i < count; i++) {
        sums[i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(results + i * stride);
    }
    for (int64_t e = 0; e < length; e++) {
        const __m512 w = _mm512_load_ps(block->w[e]);
        for (int i = 0; i < count; i++) {
            sums[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i * x_stride + e]), sums[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        _mm512_storeu_ps(results + i * stride, sums[i]);
    }
}

// Adds the products of `count` rows of x to the sums; all 16 columns are written.
void avx512_multiply_floats(const cpu_float_block* block, const float* x, int64_t x_stride,
                            int64_t count, int64_t length, bool first, float* sums,
                            int64_t stride) {
    int64_t i = 0;
    for (; i + BLOCK_ROWS <= count; i += BLOCK_ROWS) {
        multiply_rows(block, x + i * x_stride, x_stride, BLOCK_ROWS, length, first,
                      sums + i * stride, stride);
    }
    for (; i + 4 <= count; i += 4) {
        multiply_rows(block, x + i * x_stride, x_stride, 4, length, first, sums + i * stride,
                      stride);
    }
    for (; i < count; i++) {
        multiply_rows(block, x + i * x_stride, x_stride, 1, length, first, sums + i * stride,
                      stride);
    }
}

// X(name, dtype, bytes of an element)
#define TYPE_LIST(X)                                                                               \
    X(f32, F32, 4)                                                                                 \
    X(f16, F16, 2)                                                                                 \
    X(bf16, BF16, 2)

#define TYPE_FUNCTIONS(name, dtype, size)                                                          \
    static void dot_##name(const char* const* weights, int64_t rows, int64_t elements,             \
                           const float* const* x, int64_t count, float* sums) {                    \
        dot_any(load_##name, size, weights, rows, elements, x, count, sums);                       \
    }                                                                                              \
    static void unpack_##name(const char* weights, int64_t row_bytes, int64_t rows, int64_t count, \
                              cpu_float_block* block) {                                            \
        unpack_block(load_##name, weights, row_bytes, rows, count, block);                         \
    }
TYPE_LIST(TYPE_FUNCTIONS)
#undef TYPE_FUNCTIONS

const cpu_float_type avx512_float_types[AVX512_FLOAT_TYPES] = {
#define TYPE_ROW(name, dtype, size) {WEIR_DTYPE_##dtype, dot_##name, unpack_##name},
    TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};
