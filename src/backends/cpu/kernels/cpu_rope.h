// What rope shares with the kernel that stores the turned rows at once.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_ROPE_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_ROPE_H

#include "backends/cpu/kernels/cpu_kernels.h"

// Whether the inputs are rows to turn and, or not, the factors.
static inline bool cpu_rope_takes(const weir_kernel_use* use) {
    const bool has_factors = use->operand_count == 3;
    return (use->operand_count == 2 || has_factors) && cpu_is_matrix(&use->operands[0]) &&
           (!has_factors || cpu_has_rows(&use->operands[1], WEIR_DTYPE_F32, 1));
}

static inline uint32_t cpu_rope_tiles(const weir_kernel_use* use) {
    const weir_shape* shape = &use->operands[0].shape;
    return cpu_tiles(shape->dims[0], (double)shape->dims[1], 4096.0);
}

// Elements that are turned before they are stored in a type other than F32: at most.
#define CPU_ROPE_PART 1024

// The most elements up to CPU_ROPE_PART that are whole heads and whole blocks of a type; 0 where
// there are none.
int64_t weir_cpu_rope_part(const weir_rope_desc* rope, weir_dtype dtype);

// Whether rows of heads can be turned into a cache of this type: a few heads at a time end in whole
// blocks of it.
bool weir_cpu_rope_fits_cache(const weir_rope_desc* rope, weir_dtype dtype);

// Turns the rows of the tile: row i goes to row `target` + i of the output, in the type that it
// has. `name` is the operation.
weir_status weir_cpu_rope_tile(const weir_kernel_call* call, const char* name,
                               const weir_rope_desc* rope, int64_t target);

// Finds the row of the cache that the first row goes to. All tiles check the whole range, so that
// either all rows are written or none.
static inline weir_status cpu_rope_target(const weir_kernel_call* call, int64_t* target) {
    const weir_rope_rows_desc* desc = &((const weir_op_constants*)call->constants)->rope_rows;
    const int64_t cache_rows = call->views[call->operand_count - 1].shape.dims[0];
    uint64_t position = 0;
    WEIR_TRY(cpu_read_param(call, "rope_set_rows", desc->position, &position));
    WEIR_TRY(cpu_check_cache("rope_set_rows", position, call->views[0].shape.dims[0], cache_rows));
    *target = (int64_t)position;
    return WEIR_OK;
}

#endif
