// y = silu(x * transpose(w)) * (x * transpose(v)), silu(z) = z / (1 + exp(-z)) (SwiGLU, Shazeer
// 2020). Both products of a block are made before the next block is looked at.
#include "backends/cpu/kernels/cpu_exp.h"
#include "backends/cpu/kernels/cpu_matmul.h"

#define X 0
#define GATE 1
#define UP 2
#define Y 3

bool weir_cpu_gate_up_accepts(const weir_kernel_use* use) {
    return use->operand_count == 4 &&
           weir_cpu_matmul_fits(&use->operands[X], &use->operands[GATE], &use->operands[Y]) &&
           weir_cpu_matmul_fits(&use->operands[X], &use->operands[UP], &use->operands[Y]);
}

uint32_t weir_cpu_gate_up_tiles(const weir_kernel_use* use) {
    return weir_cpu_matmul_cut(&use->operands[Y],
                               use->operands[GATE].strides[0] + use->operands[UP].strides[0]);
}

static weir_status store_gated(const weir_kernel_call* call, cpu_span rows, cpu_span columns) {
    cpu_matmul_sums gates;
    cpu_matmul_sums ups;
    WEIR_TRY(weir_cpu_matmul_block(call, GATE, rows, columns, gates));
    WEIR_TRY(weir_cpu_matmul_block(call, UP, rows, columns, ups));
    for (int64_t row = rows.begin; row < rows.end; row++) {
        cpu_silu_gate(gates[row - rows.begin], ups[row - rows.begin], columns.end - columns.begin,
                      cpu_output_row(call, row) + columns.begin);
    }
    return WEIR_OK;
}

weir_status weir_cpu_gate_up_run(const weir_kernel_call* call) {
    return weir_cpu_matmul_tile(call, store_gated);
}
