#include "backends/cpu/kernels/elementwise.h"

bool weir_cpu_mul_accepts(const weir_kernel_use* use) {
    return cpu_accepts_pair_or_row(use->operands, use->operand_count);
}

uint32_t weir_cpu_mul_tiles(const weir_kernel_use* use) {
    return cpu_elementwise_tiles(&use->operands[0], 16384.0);
}

static void mul_elements(const float* a, const float* b, int64_t count, float* y) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        cpu_store(y + i, cpu_load(a + i) * cpu_load(b + i));
    }
    for (; i < count; i++) {
        y[i] = a[i] * b[i];
    }
}

weir_status weir_cpu_mul_run(const weir_kernel_call* call) {
    return cpu_elementwise_run(call, mul_elements);
}
