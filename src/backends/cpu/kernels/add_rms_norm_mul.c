// s = a + b; y = s / sqrt(mean(s^2) + epsilon) * w. The sum is an output of its own where anything
// else reads it, and otherwise made in the row of y. Either may lie on a or on b: both are read to
// the end of the row before y is written for good.
#include "backends/cpu/kernels/cpu_norm.h"

#define A 0
#define B 1
#define W 2

bool weir_cpu_add_rms_norm_mul_accepts(const weir_kernel_use* use) {
    const uint32_t count = use->operand_count;
    const weir_view* a = &use->operands[A];
    return (count == 4 || count == 5) && cpu_is_matrix(a) &&
           cpu_fits_pair_or_row(&use->operands[B], a) &&
           cpu_fits_pair_or_row(&use->operands[W], a) &&
           (count == 4 || cpu_is_output(&use->operands[3], a)) &&
           cpu_is_output(&use->operands[count - 1], a);
}

uint32_t weir_cpu_add_rms_norm_mul_tiles(const weir_kernel_use* use) {
    return cpu_norm_tiles(&use->operands[A]);
}

// The row of the sum, in the output before the last one if there are two.
static float* find_sum(const weir_kernel_call* call, int64_t row) {
    const uint32_t sum = call->operand_count == 5 ? 3 : call->operand_count - 1;
    return (float*)(void*)((char*)call->pointers[sum] + row * call->views[sum].strides[0]);
}

static weir_status add_row(const weir_kernel_call* call, int64_t row, float* sum) {
    const int64_t width = call->views[A].shape.dims[1];
    float decoded[ELEMENTWISE_COLUMNS];
    for (int64_t begin = 0; begin < width; begin += ELEMENTWISE_COLUMNS) {
        const cpu_span columns = {begin, cpu_min(begin + ELEMENTWISE_COLUMNS, width)};
        const float* a = cpu_row_f32(call, A, row) + begin;
        const float* b = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, B, row, columns, decoded, &b));
        for (int64_t i = 0; i < columns.end - begin; i++) {
            sum[begin + i] = a[i] + b[i];
        }
    }
    return WEIR_OK;
}

weir_status weir_cpu_add_rms_norm_mul_run(const weir_kernel_call* call) {
    const weir_op_constants* constants = call->constants;
    const weir_shape* shape = &call->views[A].shape;
    const cpu_span span = cpu_tile_units(call, shape->dims[0]);
    for (int64_t row = span.begin; row < span.end; row++) {
        float* sum = find_sum(call, row);
        WEIR_TRY(add_row(call, row, sum));
        const float scale = cpu_norm_scale(sum, shape->dims[1], constants->epsilon);
        WEIR_TRY(cpu_scale_row(call, sum, scale, W, row));
    }
    return WEIR_OK;
}
