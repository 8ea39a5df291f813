// Products with weights of F32, F16 and BF16: part of lanes_products.h.
#include "backends/cpu/products/products.h"

#define FLOAT_ROWS 6       // of x, summed side by side in registers
#define LANES_FLOAT_ROWS 2 // of weights that share what they read of few rows of x

// Loads eight weights as f32.
typedef lanes_floats (*load_fn)(const void* weights);

LANES_INLINE lanes_floats load_f32(const void* weights) {
    return lanes_load_floats(weights);
}

LANES_INLINE lanes_floats load_f16(const void* weights) {
    return lanes_from_f16(weights);
}

LANES_INLINE lanes_floats load_bf16(const void* weights) {
    return lanes_from_bf16(weights);
}

// Loads the `left` elements that a row has beyond the last eight; zeros follow.
LANES_INLINE lanes_floats load_rest(load_fn load, const char* weights, int64_t left, int64_t size) {
    char copy[8 * sizeof(float)] = {0};
    memcpy(copy, weights, (size_t)(left * size));
    return load(copy);
}

// Dot products of some weight rows with all rows of x, which the weight rows share.
LANES_INLINE void dot_float_rows(load_fn load, int64_t size, const char* const* w, int rows,
                                 int64_t elements, const float* const* x, int count,
                                 float* results) {
    const int chains = count == 1 ? 4 : count == 2 ? 2 : 1; // hide the latency
    lanes_floats sums[LANES_FLOAT_ROWS][CPU_FEW_ROWS][4];
    for (int i = 0; i < rows * count * chains; i++) {
        sums[i / chains / count][i / chains % count][i % chains] = lanes_float(0.0f);
    }
    int64_t e = 0;
    for (; e + 8 * chains <= elements; e += 8 * chains) {
        for (int k = 0; k < chains; k++) {
            for (int r = 0; r < rows; r++) {
                const lanes_floats weights = load(w[r] + (e + 8 * k) * size);
                for (int i = 0; i < count; i++) {
                    sums[r][i][k] =
                        lanes_fma(weights, lanes_load_floats(x[i] + e + 8 * k), sums[r][i][k]);
                }
            }
        }
    }
    for (; e < elements; e += 8) {
        const int64_t left = elements - e < 8 ? elements - e : 8;
        for (int i = 0; i < rows * count; i++) {
            const lanes_floats weights = load_rest(load, w[i / count] + e * size, left, size);
            const lanes_floats numbers =
                load_rest(load_f32, (const char*)(x[i % count] + e), left, sizeof(float));
            sums[i / count][i % count][0] =
                lanes_fma(weights, numbers, sums[i / count][i % count][0]);
        }
    }
    for (int i = 0; i < rows * count; i++) {
        lanes_floats* sum = sums[i / count][i % count];
        for (int k = chains / 2; k > 0; k /= 2) {
            for (int j = 0; j < k; j++) {
                sum[j] = lanes_add(sum[j], sum[j + k]);
            }
        }
        results[i % count * CPU_FLOAT_ROWS + i / count] = lanes_sum(sum[0]);
    }
}

LANES_INLINE void dot_float_all(load_fn load, int64_t size, const char* const* w, int64_t rows,
                                int64_t elements, const float* const* x, int count,
                                float* results) {
    int64_t r = 0;
    for (; r + LANES_FLOAT_ROWS <= rows; r += LANES_FLOAT_ROWS) {
        dot_float_rows(load, size, w + r, LANES_FLOAT_ROWS, elements, x, count, results + r);
    }
    for (; r < rows; r++) {
        dot_float_rows(load, size, w + r, 1, elements, x, count, results + r);
    }
}

// A constant number of rows keeps all sums in registers.
LANES_INLINE void dot_float(load_fn load, int64_t size, const char* const* w, int64_t rows,
                            int64_t elements, const float* const* x, int64_t count,
                            float* results) {
    switch (count) {
    case 1:
        dot_float_all(load, size, w, rows, elements, x, 1, results);
        break;
    case 2:
        dot_float_all(load, size, w, rows, elements, x, 2, results);
        break;
    case 3:
        dot_float_all(load, size, w, rows, elements, x, 3, results);
        break;
    default:
        dot_float_all(load, size, w, rows, elements, x, 4, results);
    }
}

// Transposes eight rows of eight floats; row i goes to target[i * CPU_BLOCK_WIDTH].
LANES_INLINE void transpose_floats(const lanes_floats rows[8], float* target) {
    lanes_bytes square[8];
    memcpy(square, rows, sizeof square);
    lanes_transpose(square);
    for (int k = 0; k < 8; k++) {
        lanes_store(target + k * CPU_BLOCK_WIDTH, square[k]);
    }
}

LANES_INLINE void unpack_floats(load_fn load, int64_t size, const char* weights, int64_t row_bytes,
                                int64_t rows, int64_t count, cpu_float_block* block) {
    for (int64_t e = 0; e < count; e += 8) {
        for (int64_t half = 0; half < CPU_BLOCK_WIDTH; half += 8) {
            lanes_floats square[8];
            for (int64_t i = 0; i < 8; i++) {
                const char* source = weights + (half + i) * row_bytes + e * size;
                square[i] = half + i >= rows ? lanes_float(0.0f)
                            : e + 8 <= count ? load(source)
                                             : load_rest(load, source, count - e, size);
            }
            transpose_floats(square, &block->w[e][half]);
        }
    }
}

LANES_INLINE void multiply_float_rows(const cpu_float_block* block, const float* x,
                                      int64_t x_stride, int count, int64_t length, bool first,
                                      float* results, int64_t stride) {
    lanes_floats sums[FLOAT_ROWS][2];
    for (int i = 0; i < count; i++) {
        for (int h = 0; h < 2; h++) {
            sums[i][h] =
                first ? lanes_float(0.0f) : lanes_load_floats(results + i * stride + 8 * h);
        }
    }
    for (int64_t e = 0; e < length; e++) {
        const lanes_floats w[2] = {lanes_load_floats(block->w[e]),
                                   lanes_load_floats(block->w[e] + 8)};
        for (int i = 0; i < count; i++) {
            const lanes_floats number = lanes_float(x[i * x_stride + e]);
            sums[i][0] = lanes_fma(w[0], number, sums[i][0]);
            sums[i][1] = lanes_fma(w[1], number, sums[i][1]);
        }
    }
    for (int i = 0; i < count; i++) {
        for (int h = 0; h < 2; h++) {
            lanes_store_floats(results + i * stride + 8 * h, sums[i][h]);
        }
    }
}

static void multiply_floats(const cpu_float_block* block, const float* x, int64_t x_stride,
                            int64_t count, int64_t length, bool first, float* sums,
                            int64_t stride) {
    int64_t i = 0;
    for (; i + FLOAT_ROWS <= count; i += FLOAT_ROWS) {
        multiply_float_rows(block, x + i * x_stride, x_stride, FLOAT_ROWS, length, first,
                            sums + i * stride, stride);
    }
    for (; i + 2 <= count; i += 2) {
        multiply_float_rows(block, x + i * x_stride, x_stride, 2, length, first, sums + i * stride,
                            stride);
    }
    if (i < count) {
        multiply_float_rows(block, x + i * x_stride, x_stride, 1, length, first, sums + i * stride,
                            stride);
    }
}

// X(name, dtype, bytes of an element)
#define FLOAT_LIST(X)                                                                              \
    X(f32, F32, 4)                                                                                 \
    X(f16, F16, 2)                                                                                 \
    X(bf16, BF16, 2)

#define FLOAT_FUNCTIONS(name, dtype, size)                                                         \
    static void dot_##name(const char* const* weights, int64_t rows, int64_t elements,             \
                           const float* const* x, int64_t count, float* sums) {                    \
        dot_float(load_##name, size, weights, rows, elements, x, count, sums);                     \
    }                                                                                              \
    static void unpack_##name(const char* weights, int64_t row_bytes, int64_t rows, int64_t count, \
                              cpu_float_block* block) {                                            \
        unpack_floats(load_##name, size, weights, row_bytes, rows, count, block);                  \
    }
FLOAT_LIST(FLOAT_FUNCTIONS)
#undef FLOAT_FUNCTIONS

static const cpu_float_type float_types[] = {
#define FLOAT_ROW(name, dtype, size) {WEIR_DTYPE_##dtype, dot_##name, NULL, unpack_##name, NULL},
    FLOAT_LIST(FLOAT_ROW)
#undef FLOAT_ROW
};
