#include "backends/cpu/products/product_tile.h"

#include <math.h>

#define X CPU_PRODUCT_X
#define UNIT_COLUMNS 8           // weight rows of all parts, for few rows of x
#define TILE_BYTES_MIN 24576.0   // of weights, for few rows of x
#define TILE_BYTES_SQUARE 1024.0 // the square of a tile's bytes by those of all, for few rows of x
#define TILE_PRODUCTS 1048576.0  // for many
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
    return operands[X].shape.dims[1] > 0 &&
           (quantized == matrices->count || floats == matrices->count);
}

cpu_block_place cpu_next_place(const cpu_matrices* matrices, cpu_span columns, cpu_block_place at) {
    if (at.column + CPU_BLOCK_WIDTH < columns.end) {
        at.column += CPU_BLOCK_WIDTH;
        return at;
    }
    at.column = columns.begin;
    at.matrix = (at.matrix + 1) % matrices->count;
    at.part += at.matrix == 0 ? 1 : 0;
    return at;
}

static bool is_few(const weir_view* operands) {
    return operands[X].shape.dims[0] <= CPU_FEW_ROWS;
}

// Wide units share the work of preparing x, narrow ones can be spread over more threads.
static int64_t unit_columns(const weir_view* x, const weir_view* w) {
    int64_t columns = CPU_MANY_COLUMNS;
    while (columns > CPU_BLOCK_WIDTH && cpu_divide_up(w->shape.dims[0], columns) *
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

static const cpu_product_way* way_of(const cpu_products* set, const weir_view* operands,
                                     const cpu_matrices* matrices) {
    if (!cpu_products_float(set, operands[matrices->operands[0]].dtype)) {
        return &cpu_product_way_quantized;
    }
    return !is_few(operands) && cpu_product_is_fixed(set, operands, matrices)
               ? &cpu_product_way_fixed
               : &cpu_product_way_float;
}

// How few rows of x are cut: a unit is some rows of each part of the matrices. Workers that take
// neighbouring tiles go on in each part where they left off, as prefetchers expect of them.
typedef struct few_cut {
    int64_t part_rows;
    int64_t part_count;
    int64_t unit_rows; // of a part
    int64_t units;
} few_cut;

static few_cut cut_few(const cpu_products* set, const weir_view* operands,
                       const cpu_matrices* matrices) {
    const int64_t width = operands[matrices->operands[0]].shape.dims[0];
    const cpu_product_way* way = way_of(set, operands, matrices);
    few_cut cut;
    cut.part_count = way->parts ? way->parts(set, operands, matrices) : 1;
    cut.part_rows = cpu_divide_up(width, cut.part_count);
    cut.unit_rows = cpu_divide_up(UNIT_COLUMNS, cut.part_count);
    cut.units = cpu_divide_up(cut.part_rows, cut.unit_rows);
    return cut;
}

// Taking a tile costs a worker some hundred nanoseconds, and at the end it waits for half a tile of
// another: the sum of both is least where tiles grow with the root of what there is to read.
static uint32_t count_few_tiles(const cpu_products* set, const weir_view* operands,
                                const cpu_matrices* matrices) {
    double row_bytes = 0.0;
    for (uint32_t m = 0; m < matrices->count; m++) {
        row_bytes += (double)operands[matrices->operands[m]].strides[0];
    }
    const double bytes = row_bytes * (double)operands[matrices->operands[0]].shape.dims[0];
    const few_cut cut = cut_few(set, operands, matrices);
    return cpu_tiles(cut.units, row_bytes * (double)(cut.unit_rows * cut.part_count),
                     fmax(sqrt(bytes * TILE_BYTES_SQUARE), TILE_BYTES_MIN));
}

uint32_t cpu_product_tiles(const cpu_products* set, const weir_view* operands,
                           const cpu_matrices* matrices) {
    if (is_few(operands)) {
        return count_few_tiles(set, operands, matrices);
    }
    const weir_view* x = &operands[X];
    const weir_view* w = &operands[matrices->operands[0]];
    const double products = (double)cpu_min(x->shape.dims[0], CPU_MANY_ROWS) *
                            (double)unit_columns(x, w) * (double)w->shape.dims[1] * matrices->count;
    return cpu_tiles(count_units(x, w), products, TILE_PRODUCTS);
}

const char* cpu_next_weights(const weir_kernel_call* call, const cpu_matrices* matrices, uint32_t m,
                             cpu_span columns) {
    if (m + 1 < matrices->count) {
        return cpu_row(call, matrices->operands[m + 1], columns.begin);
    }
    const uint32_t operand = matrices->operands[0];
    const bool is_end = columns.end >= call->views[operand].shape.dims[0];
    return is_end ? NULL : cpu_row(call, operand, columns.end);
}

// Hands the sums of a run on, part by part.
static weir_status finish_run(const cpu_products* set, const weir_kernel_call* call,
                              const cpu_few_run* run, int64_t width, cpu_finish_fn finish,
                              cpu_few_sums* sums) {
    const cpu_span rows = {0, call->views[X].shape.dims[0]};
    const int64_t length = run->span.end - run->span.begin;
    for (int64_t part = 0; part < run->part_count; part++) {
        const int64_t first = part * run->part_rows;
        const cpu_span columns = {first + run->span.begin, cpu_min(first + run->span.end, width)};
        const cpu_product_sums found = {.of = {sums[0] + part * length, sums[1] + part * length},
                                        .stride = CPU_RUN_COLUMNS};
        if (columns.begin < columns.end) {
            WEIR_TRY(finish(set, call, rows, columns, &found));
        }
    }
    return WEIR_OK;
}

static weir_status run_few(const cpu_products* set, const cpu_product_way* way,
                           const weir_kernel_call* call, const cpu_matrices* matrices,
                           cpu_finish_fn finish) {
    _Alignas(64) uint8_t own[CPU_STATE_BYTES];
    weir_kernel_local* local = call->local;
    const bool kept = local && local->byte_size >= CPU_STATE_BYTES;
    void* state = kept ? local->memory : own;
    cpu_few_sums sums[CPU_MATRICES_MAX];
    const int64_t width = call->views[matrices->operands[0]].shape.dims[0];
    const few_cut cut = cut_few(set, call->views, matrices);
    const cpu_span units = cpu_tile_units(call, cut.units);
    const int64_t end = cpu_min(units.end * cut.unit_rows, cut.part_rows);
    const int64_t step = CPU_RUN_COLUMNS / (cut.part_count * matrices->count);
    if (!kept || !local->filled) {
        way->prepare_few(set, call, matrices, state);
    }
    if (kept) {
        local->filled = true;
    }
    for (int64_t n = units.begin * cut.unit_rows; n < end; n += step) {
        const cpu_few_run run = {.span = {n, cpu_min(n + step, end)},
                                 .part_rows = cut.part_rows,
                                 .part_count = cut.part_count};
        way->few(set, call, matrices, &run, state, sums);
        WEIR_TRY(finish_run(set, call, &run, width, finish, sums));
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
    const cpu_product_way* way = way_of(set, call->views, matrices);
    if (call->views[X].shape.dims[0] == 0) { // a dispatch may have rows up to a bound, and none now
        return WEIR_OK;
    }
    return (is_few(call->views) ? run_few : run_many)(set, way, call, matrices, finish);
}
