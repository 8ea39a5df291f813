// y = x * transpose(w) + c. An element of c is read where the same element of y is written, by the
// tile that writes it: y may be c.
#include "backends/cpu/kernels/cpu_matmul.h"
#include "backends/cpu/kernels/elementwise.h"

#define X 0
#define W 1
#define C 2
#define Y 3

bool weir_cpu_matmul_add_accepts(const weir_kernel_use* use) {
    if (use->operand_count != 4) {
        return false;
    }
    const weir_view* y = &use->operands[Y];
    return weir_cpu_matmul_fits(&use->operands[X], &use->operands[W], y) &&
           cpu_fits_pair_or_row(&use->operands[C], y);
}

uint32_t weir_cpu_matmul_add_tiles(const weir_kernel_use* use) {
    return weir_cpu_matmul_cut(&use->operands[Y], use->operands[W].strides[0]);
}

static weir_status store_sum(const weir_kernel_call* call, cpu_span rows, cpu_span columns) {
    cpu_matmul_sums sums;
    float decoded[CPU_MATMUL_COLUMNS];
    const int64_t count = columns.end - columns.begin;
    WEIR_TRY(weir_cpu_matmul_block(call, W, rows, columns, sums));
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const float* c = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, C, row, columns, decoded, &c));
        float* y = cpu_output_row(call, row) + columns.begin;
        for (int64_t i = 0; i < count; i++) {
            y[i] = sums[row - rows.begin][i] + c[i];
        }
    }
    return WEIR_OK;
}

weir_status weir_cpu_matmul_add_run(const weir_kernel_call* call) {
    return weir_cpu_matmul_tile(call, store_sum);
}
