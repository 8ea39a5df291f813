#include "backends/cpu/kernels/cpu_norm.h"

bool weir_cpu_rms_norm_accepts(const weir_kernel_use* use) {
    return use->operand_count == 2 && cpu_is_matrix(&use->operands[0]) &&
           cpu_is_output(&use->operands[1], &use->operands[0]);
}

uint32_t weir_cpu_rms_norm_tiles(const weir_kernel_use* use) {
    return cpu_norm_tiles(&use->operands[0]);
}

static void scale_row(const float* x, float scale, int64_t count, float* y) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        cpu_store(y + i, cpu_load(x + i) * scale);
    }
    for (; i < count; i++) {
        y[i] = x[i] * scale;
    }
}

weir_status weir_cpu_rms_norm_run(const weir_kernel_call* call) {
    const weir_op_constants* constants = call->constants;
    const weir_shape* shape = &call->views[0].shape;
    const int64_t width = shape->dims[1];
    const cpu_span span = cpu_tile_units(call, shape->dims[0]);
    for (int64_t i = span.begin; i < span.end; i++) {
        const float* x = cpu_row_f32(call, 0, i);
        scale_row(x, cpu_norm_scale(x, width, constants->epsilon), width, cpu_output_row(call, i));
    }
    return WEIR_OK;
}
