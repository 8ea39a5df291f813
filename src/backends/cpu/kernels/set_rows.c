// Copies rows into a cache, in the type that it has.
#include "backends/cpu/kernels/cpu_kernels.h"

bool weir_cpu_set_rows_accepts(const weir_kernel_use* use) {
    return use->operand_count == 2 && cpu_is_matrix(&use->operands[0]) &&
           cpu_is_cache_for(&use->operands[1], &use->operands[0]);
}

uint32_t weir_cpu_set_rows_tiles(const weir_kernel_use* use) {
    const weir_shape* shape = &use->operands[0].shape;
    return cpu_tiles(shape->dims[0], (double)shape->dims[1], 32768.0);
}

// All tiles check the whole range, so that either all rows are written or none.
weir_status weir_cpu_set_rows_tile(const weir_kernel_call* call, cpu_encode_fn encode) {
    const weir_op_constants* constants = call->constants;
    const weir_shape* shape = &call->views[0].shape;
    uint64_t position = 0;
    WEIR_TRY(cpu_read_param(call, "set_rows", constants->position, &position));
    WEIR_TRY(cpu_check_cache("set_rows", position, shape->dims[0], call->views[1].shape.dims[0]));
    const cpu_span span = cpu_tile_units(call, shape->dims[0]);
    for (int64_t i = span.begin; i < span.end; i++) {
        WEIR_TRY(encode(call->views[1].dtype, cpu_row_f32(call, 0, i), shape->dims[1],
                        cpu_output_bytes(call, (int64_t)position + i)));
    }
    return WEIR_OK;
}

weir_status weir_cpu_set_rows_run(const weir_kernel_call* call) {
    return weir_cpu_set_rows_tile(call, weir_dtype_from_f32);
}
