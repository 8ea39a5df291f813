// matmul, matmul_add and gate_up: what they do with the sums of a unit. The elements of the output
// that a unit reads (matmul_add in place) are those that it writes.
#include <math.h>
#include <string.h>

#include "backends/cpu/avx512/avx512_kernels.h"
#include "backends/cpu/avx512/avx512_tile.h"
#include "backends/cpu/kernels/elementwise.h"

#define C 2 // operand of matmul_add

static const avx512_matrices one_matrix = {.operands = {1}, .count = 1};
static const avx512_matrices two_matrices = {.operands = {1, 2}, .count = 2};

static const float* row_of(const avx512_sums* sums, uint32_t matrix, int64_t row) {
    return sums->of[matrix] + row * sums->stride;
}

bool avx512_matmul_accepts(const weir_kernel_use* use) {
    return weir_cpu_matmul_accepts(use) && avx512_fits(use->operands, &one_matrix);
}

uint32_t avx512_matmul_tiles(const weir_kernel_use* use) {
    return avx512_tiles(use->operands, &one_matrix);
}

static weir_status store(const weir_kernel_call* call, cpu_span rows, cpu_span columns,
                         const avx512_sums* sums) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        memcpy(cpu_output_row(call, row) + columns.begin, row_of(sums, 0, row - rows.begin),
               (size_t)(columns.end - columns.begin) * sizeof(float));
    }
    return WEIR_OK;
}

weir_status avx512_matmul_run(const weir_kernel_call* call) {
    return avx512_run_tile(call, &one_matrix, store);
}

bool avx512_matmul_add_accepts(const weir_kernel_use* use) {
    return weir_cpu_matmul_add_accepts(use) && avx512_fits(use->operands, &one_matrix);
}

uint32_t avx512_matmul_add_tiles(const weir_kernel_use* use) {
    return avx512_tiles(use->operands, &one_matrix);
}

static weir_status store_sum(const weir_kernel_call* call, cpu_span rows, cpu_span columns,
                             const avx512_sums* sums) {
    float decoded[AVX512_COLUMNS];
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const float* c = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, C, row, columns, decoded, &c));
        const float* products = row_of(sums, 0, row - rows.begin);
        float* y = cpu_output_row(call, row) + columns.begin;
        for (int64_t i = 0; i < columns.end - columns.begin; i++) {
            y[i] = products[i] + c[i];
        }
    }
    return WEIR_OK;
}

weir_status avx512_matmul_add_run(const weir_kernel_call* call) {
    return avx512_run_tile(call, &one_matrix, store_sum);
}

bool avx512_gate_up_accepts(const weir_kernel_use* use) {
    return weir_cpu_gate_up_accepts(use) && avx512_fits(use->operands, &two_matrices) &&
           use->operands[1].shape.dims[0] == use->operands[2].shape.dims[0];
}

uint32_t avx512_gate_up_tiles(const weir_kernel_use* use) {
    return avx512_tiles(use->operands, &two_matrices);
}

static weir_status store_gated(const weir_kernel_call* call, cpu_span rows, cpu_span columns,
                               const avx512_sums* sums) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const float* gate = row_of(sums, 0, row - rows.begin);
        const float* up = row_of(sums, 1, row - rows.begin);
        float* y = cpu_output_row(call, row) + columns.begin;
        for (int64_t i = 0; i < columns.end - columns.begin; i++) {
            y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
        }
    }
    return WEIR_OK;
}

weir_status avx512_gate_up_run(const weir_kernel_call* call) {
    return avx512_run_tile(call, &two_matrices, store_gated);
}
