#include "backends/cpu/avx512/avx512_tile.h"

#include "backends/cpu/avx512/avx512_quantized.h"

#define X 0
#define TILE_BYTES 98304.0       // of weights, for few rows of x
#define TILE_PRODUCTS 33554432.0 // for many
#define UNITS_WANTED 32          // for many, before units get wider

static bool is_float(weir_dtype dtype) {
    return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16;
}

bool avx512_fits(const weir_view* operands, const avx512_matrices* matrices) {
    uint32_t quantized = 0;
    uint32_t floats = 0;
    for (uint32_t m = 0; m < matrices->count; m++) {
        const weir_dtype dtype = operands[matrices->operands[m]].dtype;
        quantized += avx512_quantized_find(dtype) ? 1 : 0;
        floats += is_float(dtype) ? 1 : 0;
    }
    return quantized == matrices->count || floats == matrices->count;
}

static bool is_few(const weir_view* operands) {
    return operands[X].shape.dims[0] <= AVX512_FEW_ROWS;
}

// Wide units share the work of preparing x, narrow ones can be spread over more threads.
static int64_t unit_columns(const weir_view* x, const weir_view* w) {
    int64_t columns = AVX512_COLUMNS;
    while (columns > 4 * AVX512_BLOCK_WIDTH &&
           cpu_divide_up(w->shape.dims[0], columns) * cpu_divide_up(x->shape.dims[0], AVX512_ROWS) <
               UNITS_WANTED) {
        columns /= 2;
    }
    return columns;
}

static int64_t count_units(const weir_view* x, const weir_view* w) {
    return cpu_divide_up(w->shape.dims[0], unit_columns(x, w)) *
           cpu_divide_up(x->shape.dims[0], AVX512_ROWS);
}

uint32_t avx512_tiles(const weir_view* operands, const avx512_matrices* matrices) {
    const weir_view* x = &operands[X];
    const weir_view* w = &operands[matrices->operands[0]];
    if (is_few(operands)) {
        double row_bytes = 0.0;
        for (uint32_t m = 0; m < matrices->count; m++) {
            row_bytes += (double)operands[matrices->operands[m]].strides[0];
        }
        return cpu_tiles(cpu_divide_up(w->shape.dims[0], AVX512_FEW_COLUMNS),
                         row_bytes * AVX512_FEW_COLUMNS, TILE_BYTES);
    }
    const double products = (double)cpu_min(x->shape.dims[0], AVX512_ROWS) *
                            (double)unit_columns(x, w) * (double)w->shape.dims[1] * matrices->count;
    return cpu_tiles(count_units(x, w), products, TILE_PRODUCTS);
}

static weir_status run_few(const weir_kernel_call* call, const avx512_way* way,
                           const avx512_matrices* matrices, avx512_finish_fn finish) {
    _Alignas(64) uint8_t state[AVX512_STATE_BYTES];
    float sums[AVX512_MATRICES_MAX][AVX512_FEW_ROWS * AVX512_FEW_COLUMNS];
    const avx512_sums found = {.of = {sums[0], sums[1]}, .stride = AVX512_FEW_COLUMNS};
    const int64_t width = call->views[matrices->operands[0]].shape.dims[0];
    const cpu_span rows = {0, call->views[X].shape.dims[0]};
    const cpu_span units = cpu_tile_units(call, cpu_divide_up(width, AVX512_FEW_COLUMNS));
    way->prepare_few(call, state);
    for (int64_t unit = units.begin; unit < units.end; unit++) {
        const cpu_span columns = cpu_unit_items(unit, AVX512_FEW_COLUMNS, width);
        for (uint32_t m = 0; m < matrices->count; m++) {
            way->few(call, matrices->operands[m], columns, state, sums[m]);
        }
        WEIR_TRY(finish(call, rows, columns, &found));
    }
    return WEIR_OK;
}

static weir_status run_many(const weir_kernel_call* call, const avx512_way* way,
                            const avx512_matrices* matrices, avx512_finish_fn finish) {
    _Alignas(64) float sums[AVX512_MATRICES_MAX][AVX512_ROWS * AVX512_COLUMNS];
    const avx512_sums found = {.of = {sums[0], sums[1]}, .stride = AVX512_COLUMNS};
    const weir_view* x = &call->views[X];
    const weir_view* w = &call->views[matrices->operands[0]];
    const int64_t step = unit_columns(x, w);
    const int64_t column_units = cpu_divide_up(w->shape.dims[0], step);
    const cpu_span units = cpu_tile_units(call, count_units(x, w));
    for (int64_t unit = units.begin; unit < units.end; unit++) {
        const cpu_span rows = cpu_unit_items(unit / column_units, AVX512_ROWS, x->shape.dims[0]);
        const cpu_span columns = cpu_unit_items(unit % column_units, step, w->shape.dims[0]);
        way->many(call, matrices, rows, columns, sums);
        WEIR_TRY(finish(call, rows, columns, &found));
    }
    return WEIR_OK;
}

weir_status avx512_run_tile(const weir_kernel_call* call, const avx512_matrices* matrices,
                            avx512_finish_fn finish) {
    const avx512_way* way = is_float(call->views[matrices->operands[0]].dtype)
                                ? &avx512_way_float
                                : &avx512_way_quantized;
    return (is_few(call->views) ? run_few : run_many)(call, way, matrices, finish);
}
