// Products with weights of F32, F16 and BF16 and few rows of x, all in f32 with fused
// multiplication and addition.
#include "backends/cpu/avx512/avx512_load.h"
#include "backends/cpu/avx512/avx512_products.h"

// Bytes of a weight row that are asked for before they are read: a row alone into the second cache;
// rows that share x from there, where a prefetcher has brought them, into the first.
#define AHEAD 1024
#define AHEAD_SHARED 128

AVX512_INLINE void fetch_row(const char* row, int64_t byte_size, bool shared) {
    const uintptr_t source = (uintptr_t)row + (shared ? AHEAD_SHARED : AHEAD);
    for (int64_t k = 0; k < byte_size; k += 64) {
        if (shared) {
            _mm_prefetch((const char*)(source + (uintptr_t)k), _MM_HINT_T0);
        } else {
            _mm_prefetch((const char*)(source + (uintptr_t)k), _MM_HINT_T1);
        }
    }
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
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            fetch_row(w[r] + e * size, 32 * size, rows > 1);
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
#pragma GCC unroll 24
        for (int i = 0; i < rows * count; i++) {
            sums[i / count][i % count][0] = _mm512_fmadd_ps(
                load(w[i / count], e, mask), _mm512_maskz_loadu_ps(mask, x[i % count] + e),
                sums[i / count][i % count][0]);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < rows * count; i++) {
        const __m512* sum = sums[i / count][i % count];
        results[i % count * CPU_FLOAT_ROWS + i / count] =
            _mm512_reduce_add_ps(chains == 2 ? _mm512_add_ps(sum[0], sum[1]) : sum[0]);
    }
}

// With up to two rows of x there are registers for the sums of the most weight rows.
AVX512_INLINE void dot_all(load_fn load, int64_t size, const char* const* w, int64_t rows,
                           int64_t elements, const float* const* x, int count, float* results) {
    if (count <= 2 && rows == CPU_FLOAT_ROWS) {
        dot_rows(load, size, w, CPU_FLOAT_ROWS, elements, x, count, results);
        return;
    }
    int64_t r = 0;
    for (; r + AVX512_FLOAT_ROWS <= rows; r += AVX512_FLOAT_ROWS) {
        dot_rows(load, size, w + r, AVX512_FLOAT_ROWS, elements, x, count, results + r);
    }
    for (; r < rows; r++) {
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

// X(name, dtype, bytes of an element)
#define TYPE_LIST(X)                                                                               \
    X(f32, F32, 4)                                                                                 \
    X(f16, F16, 2)                                                                                 \
    X(bf16, BF16, 2)

#define TYPE_FUNCTIONS(name, dtype, size)                                                          \
    static void dot_##name(const char* const* weights, int64_t rows, int64_t elements,             \
                           const float* const* x, int64_t count, float* sums) {                    \
        dot_any(load_##name, size, weights, rows, elements, x, count, sums);                       \
    }
TYPE_LIST(TYPE_FUNCTIONS)
#undef TYPE_FUNCTIONS

const cpu_float_type avx512_float_types[AVX512_FLOAT_TYPES] = {
    {WEIR_DTYPE_F32, dot_f32, avx512_dot_many_f32, NULL, NULL},
    {WEIR_DTYPE_F16, dot_f16, avx512_dot_many_f16, NULL, avx512_unpack_fixed_f16},
    {WEIR_DTYPE_BF16, dot_bf16, avx512_dot_many_bf16, NULL, avx512_unpack_fixed_bf16},
};

const cpu_float_type avx512_bf16_float_types[AVX512_FLOAT_TYPES] = {
    {WEIR_DTYPE_F32, dot_f32, avx512_dot_many_f32, NULL, NULL},
    {WEIR_DTYPE_F16, dot_f16, avx512_dot_many_f16, NULL, avx512_unpack_fixed_f16},
    {WEIR_DTYPE_BF16, dot_bf16, avx512_dot_many_rounded, NULL, NULL},
};
