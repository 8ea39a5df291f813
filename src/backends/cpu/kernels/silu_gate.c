#include "backends/cpu/kernels/cpu_exp.h"
#include "backends/cpu/kernels/elementwise.h"

bool weir_cpu_silu_gate_accepts(const weir_kernel_use* use) {
    return cpu_accepts_pair(use->operands, use->operand_count);
}

// Exponentials make an element several times as dear as in mul.
uint32_t weir_cpu_silu_gate_tiles(const weir_kernel_use* use) {
    return cpu_elementwise_tiles(&use->operands[0], 2048.0);
}

weir_status weir_cpu_silu_gate_run(const weir_kernel_call* call) {
    return cpu_elementwise_run(call, cpu_silu_gate);
}
