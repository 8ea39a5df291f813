#include "backends/cpu/kernels/cpu_matmul.h"

#include <string.h>

#define X 0
#define W 1

bool weir_cpu_matmul_accepts(const weir_kernel_use* use) {
    return use->operand_count == 3 &&
           weir_cpu_matmul_fits(&use->operands[X], &use->operands[W], &use->operands[2]);
}

uint32_t weir_cpu_matmul_tiles(const weir_kernel_use* use) {
    return weir_cpu_matmul_cut(&use->operands[2], use->operands[W].strides[0]);
}

static weir_status store_product(const weir_kernel_call* call, cpu_span rows, cpu_span columns) {
    cpu_matmul_sums sums;
    WEIR_TRY(weir_cpu_matmul_block(call, W, rows, columns, sums));
    for (int64_t row = rows.begin; row < rows.end; row++) {
        memcpy(cpu_output_row(call, row) + columns.begin, sums[row - rows.begin],
               (size_t)(columns.end - columns.begin) * sizeof(float));
    }
    return WEIR_OK;
}

weir_status weir_cpu_matmul_run(const weir_kernel_call* call) {
    return weir_cpu_matmul_tile(call, store_product);
}
