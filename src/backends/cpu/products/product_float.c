// Products with weights of F32, F16 and BF16.
#include <string.h>

#include "backends/cpu/products/product_tile.h"

#define X CPU_PRODUCT_X
#define SHARED_ELEMENTS 2048 // of a row of x that several weight rows share
#define LONG_ELEMENTS 2816   // of a row of x that leaves the first cache before it is read again
#define LONG_PART_ROWS 16    // of a matrix, at least, to be read as parts in that case

static void prepare_few(const cpu_products* set, const weir_kernel_call* call,
                        const cpu_matrices* matrices, void* state) {
    (void)set;
    (void)call;
    (void)matrices;
    (void)state;
}

// A short row of x stays in the first cache beside the weights, and is read again and again there
// at less cost than that of several weight rows at a time. A long one comes from the second cache
// each time: the more weight rows share it, the less is read of it.
static int64_t rows_together(const cpu_products* set, const weir_view* operands,
                             const cpu_matrices* matrices) {
    const int64_t elements = operands[X].shape.dims[1];
    const int64_t width = operands[matrices->operands[0]].shape.dims[0];
    const int64_t most = set->float_rows_long;
    if (elements >= LONG_ELEMENTS && width * matrices->count >= most * LONG_PART_ROWS) {
        return most;
    }
    return elements >= SHARED_ELEMENTS ? set->float_rows : 1;
}

// Rows from far apart, each read on from call to call: rows that lie side by side in memory would
// take turns in what a prefetcher takes for one stream.
static int64_t parts(const cpu_products* set, const weir_view* operands,
                     const cpu_matrices* matrices) {
    const int64_t rows = rows_together(set, operands, matrices);
    return rows > matrices->count ? rows / matrices->count : 1;
}

// Weight rows that share what they read of x, where the sums of each go, and how many there are
// like it, one after another: never more than of the row before it here.
typedef struct few_bundle {
    const char* weights[CPU_FLOAT_ROWS];
    int64_t strides[CPU_FLOAT_ROWS];
    int64_t lengths[CPU_FLOAT_ROWS];
    float* sums[CPU_FLOAT_ROWS];
    int64_t count;
} few_bundle;

// Collects the rows of each part of matrices [m, m + count).
static few_bundle collect_rows(const weir_kernel_call* call, const cpu_matrices* matrices,
                               uint32_t m, uint32_t count, const cpu_few_run* run,
                               cpu_few_sums* sums) {
    const int64_t length = run->span.end - run->span.begin;
    few_bundle bundle = {.count = 0};
    for (int64_t part = 0; part < run->part_count; part++) {
        const int64_t n = part * run->part_rows + run->span.begin;
        for (uint32_t i = m; i < m + count; i++) {
            const weir_view* w = &call->views[matrices->operands[i]];
            if (n < w->shape.dims[0]) {
                const int64_t at = bundle.count++;
                bundle.weights[at] = cpu_row(call, matrices->operands[i], n);
                bundle.strides[at] = w->strides[0];
                bundle.lengths[at] = cpu_min(length, w->shape.dims[0] - n);
                bundle.sums[at] = sums[i] + part * length;
            }
        }
    }
    return bundle;
}

static void multiply_bundle(const cpu_float_type* type, int64_t elements, const float* const* x,
                            int64_t rows, int64_t length, few_bundle* bundle) {
    float products[CPU_FEW_ROWS * CPU_FLOAT_ROWS];
    for (int64_t j = 0; j < length; j++) {
        while (bundle->lengths[bundle->count - 1] == j) {
            bundle->count--;
        }
        type->dot(bundle->weights, bundle->count, elements, x, rows, products);
        for (int64_t r = 0; r < bundle->count; r++) {
            for (int64_t i = 0; i < rows; i++) {
                bundle->sums[r][i * CPU_RUN_COLUMNS + j] = products[i * CPU_FLOAT_ROWS + r];
            }
            bundle->weights[r] += bundle->strides[r];
        }
    }
}

// How many matrices from m on are multiplied together: they have one type, and there is room.
static uint32_t count_together(const cpu_products* set, const weir_kernel_call* call,
                               const cpu_matrices* matrices, uint32_t m, int64_t part_count) {
    uint32_t count = 1;
    while (m + count < matrices->count &&
           (count + 1) * part_count <= rows_together(set, call->views, matrices) &&
           call->views[matrices->operands[m + count]].dtype ==
               call->views[matrices->operands[m]].dtype) {
        count++;
    }
    return count;
}

static void few(const cpu_products* set, const weir_kernel_call* call, const cpu_matrices* matrices,
                const cpu_few_run* run, void* state, cpu_few_sums* sums) {
    (void)state;
    const weir_shape* shape = &call->views[X].shape;
    const float* x[CPU_FEW_ROWS];
    for (int64_t i = 0; i < shape->dims[0]; i++) {
        x[i] = cpu_row_f32(call, X, i);
    }
    for (uint32_t m = 0; m < matrices->count;) {
        const uint32_t count = count_together(set, call, matrices, m, run->part_count);
        few_bundle bundle = collect_rows(call, matrices, m, count, run, sums);
        multiply_bundle(cpu_products_float(set, call->views[matrices->operands[m]].dtype),
                        shape->dims[1], x, shape->dims[0], run->span.end - run->span.begin,
                        &bundle);
        m += count;
    }
}

// Rows of x are packed, one part of all rows after another: where they lie a power of two apart,
// their elements of one index would drive each other out of the cache. The gap keeps lines of rows
// in sets of their own.
#define PART 512 // elements
#define PART_STRIDE (PART + 16)

typedef struct part_of_rows {
    _Alignas(64) float x[CPU_MANY_ROWS * PART_STRIDE];
} part_of_rows;

static void pack(const weir_kernel_call* call, cpu_span rows, cpu_span elements, float* part) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        memcpy(part + (row - rows.begin) * PART_STRIDE, cpu_row_f32(call, X, row) + elements.begin,
               (size_t)(elements.end - elements.begin) * sizeof(float));
    }
}

static cpu_span part_elements(const weir_view* x, int64_t part) {
    return cpu_unit_items(part, PART, x->shape.dims[1]);
}

// Rows that a worker has packed, which serve all units that it runs one after another with them.
typedef struct many_state {
    cpu_span rows;
    _Alignas(64) float x[];
} many_state;

// Returns the parts of some rows, NULL where there is no room for them.
static const float* hold_rows(const weir_kernel_call* call, cpu_span rows) {
    weir_kernel_local* local = call->local;
    const weir_view* x = &call->views[X];
    const int64_t parts = cpu_divide_up(x->shape.dims[1], PART);
    const int64_t part_size = (rows.end - rows.begin) * PART_STRIDE;
    if (!local || local->byte_size < sizeof(many_state) + (uint64_t)(parts * part_size) * 4) {
        return NULL;
    }
    many_state* state = local->memory;
    if (!local->filled || state->rows.begin != rows.begin) {
        for (int64_t i = 0; i < parts; i++) {
            pack(call, rows, part_elements(x, i), state->x + i * part_size);
        }
        state->rows = rows;
        local->filled = true;
    }
    return state->x;
}

// Asks for elements [begin, begin + count) of a part of a block.
static void fetch_block(const weir_kernel_call* call, const cpu_matrices* matrices,
                        cpu_block_place at, int64_t begin, int64_t count) {
    const uint32_t operand = matrices->operands[at.matrix];
    const weir_view* w = &call->views[operand];
    const int64_t element_bytes = weir_dtype_describe(w->dtype)->block_bytes;
    const int64_t end = cpu_min(at.column + CPU_BLOCK_WIDTH, w->shape.dims[0]);
    for (int64_t n = at.column; n < end; n++) {
        cpu_fetch(cpu_row(call, operand, n) + (at.part * PART + begin) * element_bytes,
                  count * element_bytes);
    }
}

// Adds the products of a part of the rows of x to the sums of one matrix.
static void multiply_part(const cpu_products* set, const weir_kernel_call* call,
                          const cpu_matrices* matrices, cpu_span columns, cpu_block_place at,
                          const float* part, int64_t rows, float* sums) {
    const uint32_t operand = matrices->operands[at.matrix];
    const weir_view* w = &call->views[operand];
    const cpu_float_type* type = cpu_products_float(set, w->dtype);
    const int64_t element_bytes = weir_dtype_describe(w->dtype)->block_bytes;
    const cpu_span elements = part_elements(&call->views[X], at.part);
    cpu_float_block block;
    for (; at.column < columns.end; at.column += CPU_BLOCK_WIDTH) {
        const int64_t width = cpu_min(CPU_BLOCK_WIDTH, columns.end - at.column);
        const cpu_block_place next = cpu_next_place(matrices, columns, at);
        for (int64_t e = elements.begin; e < elements.end; e += CPU_FLOAT_CHUNK) {
            const int64_t length = cpu_min(CPU_FLOAT_CHUNK, elements.end - e);
            fetch_block(call, matrices, next, e - elements.begin, length);
            type->unpack(cpu_row(call, operand, at.column) + e * element_bytes, w->strides[0],
                         width, length, &block);
            set->multiply_floats(&block, part + e - elements.begin, PART_STRIDE, rows, length,
                                 e == 0, sums + at.column - columns.begin, CPU_MANY_COLUMNS);
        }
    }
}

static void unpack_many(const cpu_products* set, const weir_kernel_call* call,
                        const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                        cpu_many_sums* sums) {
    const weir_view* x = &call->views[X];
    const int64_t count = rows.end - rows.begin;
    const float* held = hold_rows(call, rows);
    part_of_rows own;
    for (int64_t i = 0; i * PART < x->shape.dims[1]; i++) {
        if (!held) {
            pack(call, rows, part_elements(x, i), own.x);
        }
        for (uint32_t m = 0; m < matrices->count; m++) {
            multiply_part(set, call, matrices, columns, (cpu_block_place){m, columns.begin, i},
                          held ? held + i * count * PART_STRIDE : own.x, count, sums[m]);
        }
    }
}

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    if (!set->floats[0].dot_many) {
        unpack_many(set, call, matrices, rows, columns, sums);
        return;
    }
    const float* x[CPU_MANY_ROWS];
    for (int64_t row = rows.begin; row < rows.end; row++) {
        x[row - rows.begin] = cpu_row_f32(call, X, row);
    }
    for (uint32_t m = 0; m < matrices->count; m++) {
        const uint32_t operand = matrices->operands[m];
        const cpu_weight_rows weights = {
            .first = (const uint8_t*)cpu_row(call, operand, columns.begin),
            .byte_stride = call->views[operand].strides[0],
            .count = columns.end - columns.begin,
            .next = (const uint8_t*)cpu_next_weights(call, matrices, m, columns),
        };
        const cpu_float_type* type = cpu_products_float(set, call->views[operand].dtype);
        type->dot_many(&weights, call->views[X].shape.dims[1], x, rows.end - rows.begin, sums[m],
                       CPU_MANY_COLUMNS);
    }
}

const cpu_product_way cpu_product_way_float = {
    .parts = parts,
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
