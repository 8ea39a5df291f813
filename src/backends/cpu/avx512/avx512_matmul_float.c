// Products with weights of F32, F16 and BF16, all in f32 with fused multiplication and addition.
#include <string.h>

#include "backends/cpu/avx512/avx512_tile.h"
#include "backends/cpu/avx512/avx512_vector.h"

#define X 0
#define BLOCK_ROWS 12 // of x, summed side by side in registers
#define CHUNK 128     // elements

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

// Dot products of one weight row with all rows of x. Four running sums hide the latency.
AVX512_INLINE void dot_rows(const weir_kernel_call* call, load_fn load, const char* w, int count,
                            float* results) {
    const int64_t elements = call->views[X].shape.dims[1];
    const float* x[AVX512_FEW_ROWS];
    __m512 sums[AVX512_FEW_ROWS][4];
    for (int i = 0; i < count; i++) {
        x[i] = cpu_row_f32(call, X, i);
        for (int k = 0; k < 4; k++) {
            sums[i][k] = _mm512_setzero_ps();
        }
    }
    int64_t e = 0;
    for (; e + 64 <= elements; e += 64) {
        for (int k = 0; k < 4; k++) {
            const __m512 weights = load(w, e + 16 * k, (__mmask16)0xFFFF);
            for (int i = 0; i < count; i++) {
                sums[i][k] =
                    _mm512_fmadd_ps(weights, _mm512_loadu_ps(x[i] + e + 16 * k), sums[i][k]);
            }
        }
    }
    for (; e < elements; e += 16) {
        const __mmask16 mask = avx512_mask(elements - e);
        const __m512 weights = load(w, e, mask);
        for (int i = 0; i < count; i++) {
            sums[i][0] =
                _mm512_fmadd_ps(weights, _mm512_maskz_loadu_ps(mask, x[i] + e), sums[i][0]);
        }
    }
    for (int i = 0; i < count; i++) {
        const __m512 low = _mm512_add_ps(sums[i][0], sums[i][1]);
        const __m512 high = _mm512_add_ps(sums[i][2], sums[i][3]);
        results[i] = _mm512_reduce_add_ps(_mm512_add_ps(low, high));
    }
}

// A constant number of rows keeps all sums in registers.
AVX512_INLINE void run_few(const weir_kernel_call* call, load_fn load, uint32_t operand,
                           cpu_span columns, float* sums) {
    const int64_t rows = call->views[X].shape.dims[0];
    for (int64_t n = columns.begin; n < columns.end; n++) {
        const char* w = cpu_row(call, operand, n);
        float results[AVX512_FEW_ROWS];
        switch (rows) {
        case 1:
            dot_rows(call, load, w, 1, results);
            break;
        case 2:
            dot_rows(call, load, w, 2, results);
            break;
        case 3:
            dot_rows(call, load, w, 3, results);
            break;
        default:
            dot_rows(call, load, w, 4, results);
        }
        for (int64_t i = 0; i < rows; i++) {
            sums[i * AVX512_FEW_COLUMNS + n - columns.begin] = results[i];
        }
    }
}

typedef struct float_block {
    _Alignas(64) float w[CHUNK][AVX512_BLOCK_WIDTH];
} float_block;

// Rows that are not there are zeros.
AVX512_INLINE void unpack_block(const weir_kernel_call* call, uint32_t operand, load_fn load,
                                int64_t n, int64_t rows, int64_t begin, int64_t count,
                                float_block* block) {
    for (int64_t e = 0; e < count; e += 16) {
        __m512i square[16];
        for (int64_t i = 0; i < AVX512_BLOCK_WIDTH; i++) {
            const __mmask16 mask = i < rows ? avx512_mask(count - e) : 0;
            const char* row = cpu_row(call, operand, n + (i < rows ? i : 0));
            square[i] = _mm512_castps_si512(load(row, begin + e, mask));
        }
        avx512_transpose(square);
        for (int k = 0; k < 16; k++) {
            _mm512_store_si512(block->w[e + k], square[k]);
        }
    }
}

AVX512_INLINE void multiply_rows(const float_block* block, const float* x, int64_t x_stride,
                                 int count, int64_t length, bool first, float* results) {
    __m512 sums[BLOCK_ROWS];
    for (int i = 0; i < count; i++) {
        sums[i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(results + i * AVX512_COLUMNS);
    }
    for (int64_t e = 0; e < length; e++) {
        const __m512 w = _mm512_load_ps(block->w[e]);
        for (int i = 0; i < count; i++) {
            sums[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i * x_stride + e]), sums[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        _mm512_storeu_ps(results + i * AVX512_COLUMNS, sums[i]);
    }
}

// Adds the products of `count` rows of x to the sums; all 16 columns are written.
static void multiply_block(const float_block* block, const float* x, int64_t x_stride,
                           int64_t count, int64_t length, bool first, float* sums) {
    int64_t i = 0;
    for (; i + BLOCK_ROWS <= count; i += BLOCK_ROWS) {
        multiply_rows(block, x + i * x_stride, x_stride, BLOCK_ROWS, length, first,
                      sums + i * AVX512_COLUMNS);
    }
    for (; i + 4 <= count; i += 4) {
        multiply_rows(block, x + i * x_stride, x_stride, 4, length, first,
                      sums + i * AVX512_COLUMNS);
    }
    for (; i < count; i++) {
        multiply_rows(block, x + i * x_stride, x_stride, 1, length, first,
                      sums + i * AVX512_COLUMNS);
    }
}

AVX512_INLINE void run_many(const weir_kernel_call* call, load_fn load, uint32_t operand,
                            cpu_span rows, cpu_span columns, float* sums) {
    const int64_t elements = call->views[X].shape.dims[1];
    const int64_t x_stride = call->views[X].strides[0] / (int64_t)sizeof(float);
    float_block block;
    for (int64_t n = columns.begin; n < columns.end; n += AVX512_BLOCK_WIDTH) {
        const int64_t width = cpu_min(AVX512_BLOCK_WIDTH, columns.end - n);
        for (int64_t begin = 0; begin < elements; begin += CHUNK) {
            const int64_t length = cpu_min(CHUNK, elements - begin);
            unpack_block(call, operand, load, n, width, begin, length, &block);
            multiply_block(&block, cpu_row_f32(call, X, rows.begin) + begin, x_stride,
                           rows.end - rows.begin, length, begin == 0, sums + n - columns.begin);
        }
    }
}

static void prepare_few(const weir_kernel_call* call, void* state) {
    (void)call; // x is used as it is
    (void)state;
}

static void few(const weir_kernel_call* call, uint32_t operand, cpu_span columns, void* state,
                float* sums) {
    (void)state;
    switch (call->views[operand].dtype) {
    case WEIR_DTYPE_F32:
        run_few(call, load_f32, operand, columns, sums);
        break;
    case WEIR_DTYPE_F16:
        run_few(call, load_f16, operand, columns, sums);
        break;
    default:
        run_few(call, load_bf16, operand, columns, sums);
    }
}

static void many(const weir_kernel_call* call, const avx512_matrices* matrices, cpu_span rows,
                 cpu_span columns, float (*sums)[AVX512_ROWS * AVX512_COLUMNS]) {
    for (uint32_t m = 0; m < matrices->count; m++) {
        const uint32_t operand = matrices->operands[m];
        switch (call->views[operand].dtype) {
        case WEIR_DTYPE_F32:
            run_many(call, load_f32, operand, rows, columns, sums[m]);
            break;
        case WEIR_DTYPE_F16:
            run_many(call, load_f16, operand, rows, columns, sums[m]);
            break;
        default:
            run_many(call, load_bf16, operand, rows, columns, sums[m]);
        }
    }
}

const avx512_way avx512_way_float = {
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
