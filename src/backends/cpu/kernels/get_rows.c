#include "backends/cpu/kernels/cpu_kernels.h"

#define TABLE 0
#define INDICES 1

bool weir_cpu_get_rows_accepts(const weir_kernel_use* use) {
    if (use->operand_count != 3) {
        return false;
    }
    const weir_view* table = &use->operands[TABLE];
    const weir_view* indices = &use->operands[INDICES];
    weir_view like = {.shape = {.rank = 2, .dims = {indices->shape.dims[0], table->shape.dims[1]}}};
    return weir_dtype_is_decodable(table->dtype) && cpu_has_rows(table, table->dtype, 2) &&
           cpu_has_rows(indices, WEIR_DTYPE_I32, 1) && cpu_is_output(&use->operands[2], &like);
}

uint32_t weir_cpu_get_rows_tiles(const weir_kernel_use* use) {
    const int64_t width = use->operands[TABLE].shape.dims[1];
    return cpu_tiles(use->operands[INDICES].shape.dims[0], (double)width, 16384.0);
}

weir_status weir_cpu_get_rows_run(const weir_kernel_call* call) {
    const weir_view* table = &call->views[TABLE];
    const int32_t* indices = call->pointers[INDICES];
    const int64_t rows = table->shape.dims[0];
    // Every index is checked where it is used: indices are data of the pass, not of the graph.
    const cpu_span span = cpu_tile_units(call, call->views[INDICES].shape.dims[0]);
    for (int64_t i = span.begin; i < span.end; i++) {
        if (indices[i] < 0 || indices[i] >= rows) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "get_rows: index %d (row %lld) is outside [0, %lld)", (int)indices[i],
                             (long long)i, (long long)rows);
        }
        WEIR_TRY(weir_dtype_to_f32(table->dtype, cpu_row(call, TABLE, indices[i]),
                                   table->shape.dims[1], cpu_output_row(call, i)));
    }
    return WEIR_OK;
}
