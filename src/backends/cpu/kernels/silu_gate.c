#include "backends/cpu/kernels/elementwise.h"

#include <math.h>

bool weir_cpu_silu_gate_accepts(const weir_kernel_use* use) {
    return cpu_accepts_pair(use->operands, use->operand_count);
}

// Exponentials make an element some ten times as dear as in mul.
uint32_t weir_cpu_silu_gate_tiles(const weir_kernel_use* use) {
    return cpu_elementwise_tiles(&use->operands[0], 2048.0);
}

static void gate_elements(const float* gate, const float* up, int64_t count, float* y) {
    for (int64_t i = 0; i < count; i++) {
        y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}

weir_status weir_cpu_silu_gate_run(const weir_kernel_call* call) {
    return cpu_elementwise_run(call, gate_elements);
}
