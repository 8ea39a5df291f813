// Products with quantised weights. x is quantised by every worker for itself, for few rows once for
// all its tiles: that is quicker than waiting for one who does it for all.
#include "backends/cpu/products/product_chunks.h"

#define X CPU_PRODUCT_X
#define FEW_CHUNKS 96 // of a row of x that are held at a time, for few rows

typedef cpu_chunk few_state[CPU_FEW_ROWS][FEW_CHUNKS];
_Static_assert(sizeof(few_state) <= CPU_STATE_BYTES, "the state of few rows");

static const void* functions_of(const cpu_products* set, weir_dtype dtype) {
    return cpu_products_quantized(set, dtype);
}

static int64_t weight_bytes(const void* type) {
    return ((const cpu_quantized_type*)type)->chunk_bytes;
}

static bool share_x(const void* type, const void* other) {
    return ((const cpu_quantized_type*)type)->quantize ==
           ((const cpu_quantized_type*)other)->quantize;
}

static void quantize(const cpu_products* set, const void* type, const float* x, int64_t count,
                     void* chunk) {
    (void)set;
    ((const cpu_quantized_type*)type)->quantize(x, count, chunk);
}

static void unpack(const void* type, const weir_view* w, const uint8_t* first, int64_t rows,
                   int64_t chunk, void* block) {
    ((const cpu_quantized_type*)type)
        ->unpack(first, w->strides[0], rows, chunk, w->shape.dims[1], block);
}

static void multiply(const cpu_products* set, const void* type, const void* block, const void* x,
                     int64_t count, bool first, float* sums, int64_t stride) {
    (void)set;
    ((const cpu_quantized_type*)type)->multiply(block, x, count, first, sums, stride);
}

static const cpu_chunk_functions functions = {
    .x_bytes = sizeof(cpu_chunk),
    .type_of = functions_of,
    .weight_bytes = weight_bytes,
    .share_x = share_x,
    .quantize = quantize,
    .unpack = unpack,
    .multiply = multiply,
};

static int64_t chunk_count(const weir_view* x) {
    return cpu_divide_up(x->shape.dims[1], CPU_CHUNK);
}

static const cpu_quantized_type* type_of(const cpu_products* set, const weir_kernel_call* call,
                                         const cpu_matrices* matrices, uint32_t m) {
    return cpu_products_quantized(set, call->views[matrices->operands[m]].dtype);
}

// Quantises chunks [begin, end) of all rows: chunks[row * FEW_CHUNKS + chunk - begin].
static void quantize_few(const cpu_quantized_type* type, const weir_kernel_call* call,
                         int64_t begin, int64_t end, cpu_chunk* chunks) {
    const weir_shape* shape = &call->views[X].shape;
    for (int64_t row = 0; row < shape->dims[0]; row++) {
        for (int64_t c = begin; c < end; c++) {
            const int64_t first = c * CPU_CHUNK;
            type->quantize(cpu_row_f32(call, X, row) + first,
                           cpu_min(CPU_CHUNK, shape->dims[1] - first),
                           &chunks[row * FEW_CHUNKS + c - begin]);
        }
    }
}

// Rows of x that do not fit are quantised part by part for each run of columns instead, and so are
// those that the matrices cannot share.
static bool is_held(const cpu_products* set, const weir_kernel_call* call,
                    const cpu_matrices* matrices) {
    return chunk_count(&call->views[X]) <= FEW_CHUNKS &&
           cpu_matrices_share_x(set, &functions, call, matrices);
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

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    cpu_multiply_chunks(set, &functions, call, matrices, rows, columns, sums);
}

const cpu_product_way cpu_product_way_quantized = {
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
