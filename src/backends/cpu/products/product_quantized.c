// Products with quantised weights. x is quantised by every worker for itself, for few rows once for
// all its tiles: that is quicker than waiting for one who does it for all.
#include "backends/cpu/products/product_tile.h"

#define X CPU_PRODUCT_X
#define FEW_CHUNKS 96 // of a row of x that are held at a time, for few rows

typedef cpu_chunk few_state[CPU_FEW_ROWS][FEW_CHUNKS];
_Static_assert(sizeof(few_state) <= CPU_STATE_BYTES, "the state of few rows");

static int64_t chunk_count(const weir_view* x) {
    return cpu_divide_up(x->shape.dims[1], CPU_CHUNK);
}

static const cpu_quantized_type* type_of(const cpu_products* set, const weir_kernel_call* call,
                                         const cpu_matrices* matrices, uint32_t m) {
    return cpu_products_quantized(set, call->views[matrices->operands[m]].dtype);
}

// Whether the types of the matrices want x quantised in the same way.
static bool share_x(const cpu_products* set, const weir_kernel_call* call,
                    const cpu_matrices* matrices) {
    for (uint32_t m = 1; m < matrices->count; m++) {
        if (type_of(set, call, matrices, m)->quantize !=
            type_of(set, call, matrices, 0)->quantize) {
            return false;
        }
    }
    return true;
}

// Quantises chunks [begin, end) of some rows: chunks[i * stride + chunk - begin].
static void quantize(const cpu_quantized_type* type, const weir_kernel_call* call, cpu_span rows,
                     int64_t begin, int64_t end, int64_t stride, cpu_chunk* chunks) {
    const int64_t elements = call->views[X].shape.dims[1];
    for (int64_t row = rows.begin; row < rows.end; row++) {
        for (int64_t c = begin; c < end; c++) {
            const int64_t first = c * CPU_CHUNK;
            type->quantize(cpu_row_f32(call, X, row) + first, cpu_min(CPU_CHUNK, elements - first),
                           &chunks[(row - rows.begin) * stride + c - begin]);
        }
    }
}

static void quantize_few(const cpu_quantized_type* type, const weir_kernel_call* call,
                         int64_t begin, int64_t end, cpu_chunk* chunks) {
    const cpu_span rows = {0, call->views[X].shape.dims[0]};
    quantize(type, call, rows, begin, end, FEW_CHUNKS, chunks);
}

// Rows of x that do not fit are quantised part by part for each run of columns instead, and so are
// those that the matrices cannot share.
static bool is_held(const cpu_products* set, const weir_kernel_call* call,
                    const cpu_matrices* matrices) {
    return chunk_count(&call->views[X]) <= FEW_CHUNKS && share_x(set, call, matrices);
}

static void prepare_few(const cpu_products* set, const weir_kernel_call* call,
                        const cpu_matrices* matrices, void* state) {
    if (is_held(set, call, matrices)) {
        quantize_few(type_of(set, call, matrices, 0), call, 0, chunk_count(&call->views[X]), state);
    }
}

static void add_sums(const float* products, int64_t rows, int64_t count, bool first, float* sums) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t n = 0; n < count; n++) {
            const int64_t at = i * CPU_RUN_COLUMNS + n;
            sums[at] = first ? products[at] : sums[at] + products[at];
        }
    }
}

static void multiply_few(const weir_kernel_call* call, const cpu_quantized_type* type,
                         cpu_weight_rows weights, bool held, void* state, float* sums) {
    const weir_view* x = &call->views[X];
    const int64_t rows = x->shape.dims[0];
    const int64_t chunks = chunk_count(x);
    for (int64_t begin = 0; begin < chunks; begin += FEW_CHUNKS) {
        const int64_t end = cpu_min(begin + FEW_CHUNKS, chunks);
        const int64_t elements = cpu_min(end * CPU_CHUNK, x->shape.dims[1]) - begin * CPU_CHUNK;
        if (!held) {
            quantize_few(type, call, begin, end, state);
        }
        float products[CPU_FEW_ROWS * CPU_RUN_COLUMNS];
        type->dot(&weights, elements, state, FEW_CHUNKS, rows, products);
        add_sums(products, rows, weights.count, begin == 0, sums);
        weights.first += FEW_CHUNKS * type->chunk_bytes;
    }
}

static void few(const cpu_products* set, const weir_kernel_call* call, const cpu_matrices* matrices,
                const cpu_few_run* run, void* state, cpu_few_sums* sums) {
    const bool held = is_held(set, call, matrices);
    for (uint32_t m = 0; m < matrices->count; m++) {
        const weir_view* w = &call->views[matrices->operands[m]];
        const cpu_weight_rows weights = {
            .first = (const uint8_t*)cpu_row(call, matrices->operands[m], run->span.begin),
            .byte_stride = w->strides[0],
            .count = run->span.end - run->span.begin,
            .next = (const uint8_t*)cpu_next_weights(call, matrices, m, run->span)};
        multiply_few(call, type_of(set, call, matrices, m), weights, held, state, sums[m]);
    }
}

// Asks for rows [begin, end) of a block.
static void fetch_block(const cpu_products* set, const weir_kernel_call* call,
                        const cpu_matrices* matrices, cpu_block_place at, int64_t begin,
                        int64_t end) {
    const uint32_t operand = matrices->operands[at.matrix];
    const weir_view* w = &call->views[operand];
    const int64_t byte_size = type_of(set, call, matrices, at.matrix)->chunk_bytes;
    end = cpu_min(end, w->shape.dims[0] - at.column);
    for (int64_t i = begin; i < end; i++) {
        cpu_fetch(cpu_row(call, operand, at.column + i) + at.part * byte_size, byte_size);
    }
}

// Adds the products of one chunk to the sums of one matrix.
static void multiply_chunk(const cpu_products* set, const weir_kernel_call* call,
                           const cpu_matrices* matrices, cpu_span columns, cpu_block_place at,
                           const cpu_chunk* x, int64_t rows, float* sums) {
    const uint32_t operand = matrices->operands[at.matrix];
    const weir_view* w = &call->views[operand];
    const cpu_quantized_type* type = type_of(set, call, matrices, at.matrix);
    cpu_block block;
    for (; at.column < columns.end; at.column += CPU_BLOCK_WIDTH) {
        const int64_t width = cpu_min(CPU_BLOCK_WIDTH, columns.end - at.column);
        const cpu_block_place next = cpu_next_place(matrices, columns, at);
        type->unpack((const uint8_t*)cpu_row(call, operand, at.column), w->strides[0], width,
                     at.part, w->shape.dims[1], &block);
        for (int64_t i = 0; i < rows; i += CPU_BLOCK_ROWS) {
            const int64_t count = cpu_min(CPU_BLOCK_ROWS, rows - i);
            fetch_block(set, call, matrices, next, i * CPU_BLOCK_WIDTH / rows,
                        (i + count) * CPU_BLOCK_WIDTH / rows);
            type->multiply(&block, x + i, count, at.part == 0,
                           sums + i * CPU_MANY_COLUMNS + at.column - columns.begin,
                           CPU_MANY_COLUMNS);
        }
    }
}

// Rows of x that a worker has quantised, which serve all units that it runs one after another with
// these rows.
typedef struct many_state {
    cpu_span rows;
    cpu_chunk x[];
} many_state;

// Returns the chunks of some rows, chunk by chunk, NULL where there is no room for them.
static const cpu_chunk* hold_rows(const cpu_quantized_type* type, const weir_kernel_call* call,
                                  cpu_span rows) {
    const weir_kernel_local* local = call->local;
    const int64_t chunks = chunk_count(&call->views[X]);
    const int64_t count = rows.end - rows.begin;
    const uint64_t byte_size = sizeof(many_state) + (uint64_t)(chunks * count) * sizeof(cpu_chunk);
    if (!local || local->byte_size < byte_size) {
        return NULL;
    }
    many_state* state = local->memory;
    if (!local->filled || state->rows.begin != rows.begin) {
        for (int64_t c = 0; c < chunks; c++) {
            quantize(type, call, rows, c, c + 1, 1, state->x + c * count);
        }
        state->rows = rows;
        call->local->filled = true;
    }
    return state->x;
}

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    cpu_chunk part[CPU_MANY_ROWS];
    const int64_t chunks = chunk_count(&call->views[X]);
    const int64_t count = rows.end - rows.begin;
    const bool shared = share_x(set, call, matrices);
    const cpu_chunk* held = shared ? hold_rows(type_of(set, call, matrices, 0), call, rows) : NULL;
    for (int64_t c = 0; c < chunks; c++) {
        for (uint32_t m = 0; m < matrices->count; m++) {
            if (!held && (m == 0 || !shared)) {
                quantize(type_of(set, call, matrices, m), call, rows, c, c + 1, 1, part);
            }
            multiply_chunk(set, call, matrices, columns, (cpu_block_place){m, columns.begin, c},
                           held ? held + c * count : part, count, sums[m]);
        }
    }
}

const cpu_product_way cpu_product_way_quantized = {
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
