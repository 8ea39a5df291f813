#include "backends/cpu/products/product_tile.h"

#include <math.h>

#define X CPU_PRODUCT_X
#define UNIT_COLUMNS 8           // weight rows, for few rows of x
#define TILE_BYTES_MIN 24576.0   // of weights, for few rows of x
#define TILE_BYTES_MAX 98304.0   // of weights, for few rows of x
#define TILES_WANTED 64.0        // for few rows, as far as tiles stay within these bytes
#define TILE_PRODUCTS 33554432.0 // for many
#define UNITS_WANTED 32          // for many, before units get wider

const cpu_quantized_type* cpu_products_quantized(const cpu_products* set, weir_dtype dtype) {
    for (uint32_t i = 0; i < set->quantized_count; i++) {
        if (set->quantized[i].dtype == dtype) {
            return &set->quantized[i];
        }
    }
    return NULL;
}

const cpu_float_type* cpu_products_float(const cpu_products* set, weir_dtype dtype) {
    for (uint32_t i = 0; i < set->float_count; i++) {
        if (set->floats[i].dtype == dtype) {
            return &set->floats[i];
        }
    }
    return NULL;
}

bool cpu_product_fits(const cpu_products* set, const weir_view* operands,
                      const cpu_matrices* matrices) {
    uint32_t quantized = 0;
    uint32_t floats = 0;
    for (uint32_t m = 0; m < matrices->count; m++) {
        const weir_dtype dtype = operands[matrices->operands[m]].dtype;
        quantized += cpu_products_quantized(set, dtype) ? 1 : 0;
        floats += cpu_products_float(set, dtype) ? 1 : 0;
        if (operands[matrices->operands[m]].shape.dims[0] !=
            operands[matrices->operands[0]].shape.dims[0]) {
            return false;
        }
    }
    return quantized == matrices->count || floats == matrices->count;
}

static bool is_few(const weir_view* operands) {
    return operands[X].shape.dims[0] <= CPU_FEW_ROWS;
}

// Wide units share the work of preparing x, narrow ones can be spread over more threads.
static int64_t unit_columns(const weir_view* x, const weir_view* w) {
    int64_t columns = CPU_MANY_COLUMNS;
    while (columns > 4 * CPU_BLOCK_WIDTH && cpu_divide_up(w->shape.dims[0], columns) *
                                                    cpu_divide_up(x->shape.dims[0], CPU_MANY_ROWS) <
                                                UNITS_WANTED) {
        columns /= 2;
    }
    return columns;
}

static int64_t count_units(const weir_view* x, const weir_view* w) {
    return cpu_divide_up(w->shape.dims[0], unit_columns(x, w)) *
           cpu_divide_up(x->shape.dims[0], CPU_MANY_ROWS);
}

uint32_t cpu_product_tiles(const weir_view* operands, const cpu_matrices* matrices) {
    const weir_view* x = &operands[X];
    const weir_view* w = &operands[matrices->operands[0]];
    if (is_few(operands)) {
        double row_bytes = 0.0;
        for (uint32_t m = 0; m < matrices->count; m++) {
            row_bytes += (double)operands[matrices->operands[m]].strides[0];
        }
        const double wanted = row_bytes * (double)w->shape.dims[0] / TILES_WANTED;
        return cpu_tiles(cpu_divide_up(w->shape.dims[0], UNIT_COLUMNS), row_bytes * UNIT_COLUMNS,
                         fmin(fmax(wanted, TILE_BYTES_MIN), TILE_BYTES_MAX));
    }
    const double products = (double)cpu_min(x->shape.dims[0], CPU_MANY_ROWS) *
                            (double)unit_columns(x, w) * (double)w->shape.dims[1] * matrices->count;
    return cpu_tiles(count_units(x, w), products, TILE_PRODUCTS);
}

// What is read after these columns of matrix m: the same of the next matrix, or of the first one
// those that follow, in this tile or in its neighbour, which the worker is likely to run next.
static const char* next_weights(const weir_kernel_call* call, const cpu_matrices* matrices,
                                uint32_t m, cpu_span columns, int64_t width) {
    if (m + 1 < matrices->count) {
        return cpu_row(call, matrices->operands[m + 1], columns.begin);
    }
    return columns.end < width ? cpu_row(call, matrices->operands[0], columns.end) : NULL;
}

static weir_status run_few(const cpu_products* set, const cpu_product_way* way,
                           const weir_kernel_call* call, const cpu_matrices* matrices,
                           cpu_finish_fn finish) {
    _Alignas(64) uint8_t own[CPU_STATE_BYTES];
    weir_kernel_local* local = call->local;
    const bool kept = local && local->byte_size >= CPU_STATE_BYTES;
    void* state = kept ? local->memory : own;
    float sums[CPU_MATRICES_MAX][CPU_FEW_ROWS * CPU_RUN_COLUMNS];
    const cpu_product_sums found = {.of = {sums[0], sums[1]}, .stride = CPU_RUN_COLUMNS};
    const int64_t width = call->views[matrices->operands[0]].shape.dims[0];
    const cpu_span rows = {0, call->views[X].shape.dims[0]};
    const cpu_span units = cpu_tile_units(call, cpu_divide_up(width, UNIT_COLUMNS));
    const int64_t end = cpu_min(units.end * UNIT_COLUMNS, width);
    if (!kept || !local->filled) {
        way->prepare_few(set, call, state);
    }
    if (kept) {
        local->filled = true;
    }
    for (int64_t n = units.begin * UNIT_COLUMNS; n < end; n += CPU_RUN_COLUMNS) {
        const cpu_span columns = {n, cpu_min(n + CPU_RUN_COLUMNS, end)};
        for (uint32_t m = 0; m < matrices->count; m++) {
            way->few(set, call, matrices->operands[m], columns,
                     next_weights(call, matrices, m, columns, width), state, sums[m]);
        }
        WEIR_TRY(finish(set, call, rows, columns, &found));
    }
    return WEIR_OK;
}

static weir_status run_many(const cpu_products* set, const cpu_product_way* way,
                            const weir_kernel_call* call, const cpu_matrices* matrices,
                            cpu_finish_fn finish) {
    _Alignas(64) float sums[CPU_MATRICES_MAX][CPU_MANY_ROWS * CPU_MANY_COLUMNS];
    const cpu_product_sums found = {.of = {sums[0], sums[1]}, .stride = CPU_MANY_COLUMNS};
    const weir_view* x = &call->views[X];
    const weir_view* w = &call->views[matrices->operands[0]];
    const int64_t step = unit_columns(x, w);
    const int64_t column_units = cpu_divide_up(w->shape.dims[0], step);
    const cpu_span units = cpu_tile_units(call, count_units(x, w));
    for (int64_t unit = units.begin; unit < units.end; unit++) {
        const cpu_span rows = cpu_unit_items(unit / column_units, CPU_MANY_ROWS, x->shape.dims[0]);
        const cpu_span columns = cpu_unit_items(unit % column_units, step, w->shape.dims[0]);
        way->many(set, call, matrices, rows, columns, sums);
        WEIR_TRY(finish(set, call, rows, columns, &found));
    }
    return WEIR_OK;
}

weir_status cpu_product_run(const cpu_products* set, const weir_kernel_call* call,
                            const cpu_matrices* matrices, cpu_finish_fn finish) {
    const weir_dtype dtype = call->views[matrices->operands[0]].dtype;
    const cpu_product_way* way =
        cpu_products_float(set, dtype) ? &cpu_product_way_float : &cpu_product_way_quantized;
    return (is_few(call->views) ? run_few : run_many)(set, way, call, matrices, finish);
}
