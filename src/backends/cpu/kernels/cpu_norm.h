// What the kernels share that normalise rows.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_NORM_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_NORM_H

#include <math.h>

#include "backends/cpu/kernels/cpu_kernels.h"
#include "backends/cpu/kernels/elementwise.h"

#define NORM_CHUNK 256

// In f32 within a chunk, in f64 across chunks: long rows lose no more than short ones.
static inline double cpu_sum_squares(const float* x, int64_t count) {
    double sum = 0.0;
    for (int64_t begin = 0; begin < count; begin += NORM_CHUNK) {
        sum += (double)cpu_dot(x + begin, x + begin, cpu_min(NORM_CHUNK, count - begin));
    }
    return sum;
}

// What brings a row to a mean square of 1.
static inline float cpu_norm_scale(const float* x, int64_t count, float epsilon) {
    const double mean = cpu_sum_squares(x, count) / (double)count;
    return (float)(1.0 / sqrt(mean + (double)epsilon));
}

static inline uint32_t cpu_norm_tiles(const weir_view* x) {
    return cpu_tiles(x->shape.dims[0], (double)x->shape.dims[1], 8192.0);
}

// y = x * scale * w for one row; w is a matrix or one row for all, y may be x or w.
static inline weir_status cpu_scale_row(const weir_kernel_call* call, const float* x, float scale,
                                        uint32_t w, int64_t row) {
    const int64_t width = call->views[call->operand_count - 1].shape.dims[1];
    float decoded[ELEMENTWISE_COLUMNS];
    for (int64_t begin = 0; begin < width; begin += ELEMENTWISE_COLUMNS) {
        const cpu_span columns = {begin, cpu_min(begin + ELEMENTWISE_COLUMNS, width)};
        const float* weights = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, w, row, columns, decoded, &weights));
        float* y = cpu_output_row(call, row) + begin;
        const float* from = x + begin;
        const int64_t count = columns.end - columns.begin;
        int64_t i = 0;
        for (; i + 4 <= count; i += 4) {
            cpu_store(y + i, cpu_load(from + i) * scale * cpu_load(weights + i));
        }
        for (; i < count; i++) {
            y[i] = from[i] * scale * weights[i];
        }
    }
    return WEIR_OK;
}

#endif
