// y = x / sqrt(mean(x^2) + epsilon) * w. A row is summed before any of it is written: y may be x.
#include "backends/cpu/kernels/cpu_norm.h"

#define X 0
#define W 1
#define Y 2

bool weir_cpu_rms_norm_mul_accepts(const weir_kernel_use* use) {
    return cpu_accepts_pair_or_row(use->operands, use->operand_count);
}

uint32_t weir_cpu_rms_norm_mul_tiles(const weir_kernel_use* use) {
    return cpu_norm_tiles(&use->operands[X]);
}

weir_status weir_cpu_rms_norm_mul_run(const weir_kernel_call* call) {
    const weir_op_constants* constants = call->constants;
    const weir_shape* shape = &call->views[X].shape;
    const cpu_span span = cpu_tile_units(call, shape->dims[0]);
    for (int64_t row = span.begin; row < span.end; row++) {
        const float* x = cpu_row_f32(call, X, row);
        const float scale = cpu_norm_scale(x, shape->dims[1], constants->epsilon);
        WEIR_TRY(cpu_scale_row(call, x, scale, W, row));
    }
    return WEIR_OK;
}
