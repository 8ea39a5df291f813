#include "backends/cpu/kernels/cpu_rope.h"

bool weir_cpu_rope_set_rows_accepts(const weir_kernel_use* use) {
    const weir_view* state = &use->operands[use->operand_count - 1];
    return cpu_rope_takes(use) && cpu_is_cache_for(state, &use->operands[0]) &&
           weir_cpu_rope_fits_cache(&use->constants->rope_rows.rope, state->dtype);
}

uint32_t weir_cpu_rope_set_rows_tiles(const weir_kernel_use* use) {
    return cpu_rope_tiles(use);
}

weir_status weir_cpu_rope_set_rows_run(const weir_kernel_call* call) {
    const weir_rope_rows_desc* desc = &((const weir_op_constants*)call->constants)->rope_rows;
    int64_t target = 0;
    WEIR_TRY(cpu_rope_target(call, &target));
    return weir_cpu_rope_tile(call, "rope_set_rows", &desc->rope, target);
}
