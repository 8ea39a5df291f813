#include "backends/cpu/kernels/cpu_rope.h"

bool weir_cpu_rope_set_rows_accepts(const weir_kernel_use* use) {
    const weir_view* state = &use->operands[use->operand_count - 1];
    return cpu_rope_takes(use) && cpu_is_cache_for(state, &use->operands[0]) &&
           weir_cpu_rope_fits_cache(&use->constants->rope_rows.rope, state->dtype);
}

uint32_t weir_cpu_rope_set_rows_tiles(const weir_kernel_use* use) {
    return cpu_rope_tiles(use);
}

// All tiles check the whole range, so that either all rows are written or none.
weir_status weir_cpu_rope_set_rows_run(const weir_kernel_call* call) {
    const weir_rope_rows_desc* desc = &((const weir_op_constants*)call->constants)->rope_rows;
    const int64_t state_rows = call->views[call->operand_count - 1].shape.dims[0];
    uint64_t position = 0;
    WEIR_TRY(cpu_read_param(call, "rope_set_rows", desc->position, &position));
    WEIR_TRY(cpu_check_cache("rope_set_rows", position, call->views[0].shape.dims[0], state_rows));
    return weir_cpu_rope_tile(call, "rope_set_rows", &desc->rope, (int64_t)position);
}
