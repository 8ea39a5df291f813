#include "backends/cpu/products/product_chunks.h"

#define X CPU_PRODUCT_X

_Static_assert(sizeof(cpu_chunk) <= CPU_CHUNK_X_BYTES, "8 bits");
_Static_assert(sizeof(cpu_fixed_chunk) <= CPU_CHUNK_X_BYTES, "16 bits");

typedef union any_block {
    cpu_block bytes;
    cpu_fixed_block words;
} any_block;

// A unit: some rows of x with some columns of the matrices.
typedef struct many_unit {
    const cpu_products* set;
    const cpu_chunk_functions* functions;
    const weir_kernel_call* call;
    const cpu_matrices* matrices;
    cpu_span rows;
    cpu_span columns;
} many_unit;

static int64_t row_count(const many_unit* unit) {
    return unit->rows.end - unit->rows.begin;
}

static const void* type_of(const many_unit* unit, uint32_t matrix) {
    const uint32_t operand = unit->matrices->operands[matrix];
    return unit->functions->type_of(unit->set, unit->call->views[operand].dtype);
}

bool cpu_matrices_share_x(const cpu_products* set, const cpu_chunk_functions* functions,
                          const weir_kernel_call* call, const cpu_matrices* matrices) {
    const void* first = functions->type_of(set, call->views[matrices->operands[0]].dtype);
    for (uint32_t m = 1; m < matrices->count; m++) {
        const weir_dtype dtype = call->views[matrices->operands[m]].dtype;
        if (!functions->share_x(first, functions->type_of(set, dtype))) {
            return false;
        }
    }
    return true;
}

// Quantises a chunk of all rows as a matrix wants it.
static void quantize(const many_unit* unit, uint32_t matrix, int64_t chunk, uint8_t* chunks) {
    const void* type = type_of(unit, matrix);
    const int64_t first = chunk * CPU_CHUNK;
    const int64_t count = cpu_min(CPU_CHUNK, unit->call->views[X].shape.dims[1] - first);
    for (int64_t row = unit->rows.begin; row < unit->rows.end; row++) {
        unit->functions->quantize(unit->set, type, cpu_row_f32(unit->call, X, row) + first, count,
                                  chunks);
        chunks += unit->functions->x_bytes;
    }
}

// Asks for rows [begin, end) of a block.
static void fetch_block(const many_unit* unit, cpu_block_place at, int64_t begin, int64_t end) {
    const uint32_t operand = unit->matrices->operands[at.matrix];
    const weir_view* w = &unit->call->views[operand];
    const int64_t byte_size = unit->functions->weight_bytes(type_of(unit, at.matrix));
    end = cpu_min(end, w->shape.dims[0] - at.column);
    for (int64_t i = begin; i < end; i++) {
        cpu_fetch(cpu_row(unit->call, operand, at.column + i) + at.part * byte_size, byte_size);
    }
}

// Adds the products of one chunk to the sums of one matrix.
static void multiply_chunk(const many_unit* unit, cpu_block_place at, const uint8_t* x,
                           float* sums) {
    const cpu_chunk_functions* functions = unit->functions;
    const uint32_t operand = unit->matrices->operands[at.matrix];
    const weir_view* w = &unit->call->views[operand];
    const void* type = type_of(unit, at.matrix);
    const int64_t rows = row_count(unit);
    any_block block;
    for (; at.column < unit->columns.end; at.column += CPU_BLOCK_WIDTH) {
        const int64_t width = cpu_min(CPU_BLOCK_WIDTH, unit->columns.end - at.column);
        const cpu_block_place next = cpu_next_place(unit->matrices, unit->columns, at);
        functions->unpack(type, w, (const uint8_t*)cpu_row(unit->call, operand, at.column), width,
                          at.part, &block);
        for (int64_t i = 0; i < rows; i += CPU_BLOCK_ROWS) {
            const int64_t count = cpu_min(CPU_BLOCK_ROWS, rows - i);
            fetch_block(unit, next, i * CPU_BLOCK_WIDTH / rows,
                        (i + count) * CPU_BLOCK_WIDTH / rows);
            functions->multiply(
                unit->set, type, &block, x + (size_t)i * functions->x_bytes, count, at.part == 0,
                sums + i * CPU_MANY_COLUMNS + at.column - unit->columns.begin, CPU_MANY_COLUMNS);
        }
    }
}

// Rows of x that a worker has quantised, which serve all units that it runs one after another with
// these rows.
typedef struct many_state {
    cpu_span rows;
    _Alignas(64) uint8_t x[];
} many_state;

// Returns the chunks of the rows, chunk by chunk, NULL where there is no room for them or where the
// matrices cannot share them.
static const uint8_t* hold_rows(const many_unit* unit, int64_t chunks, bool shared) {
    const weir_kernel_local* local = unit->call->local;
    const size_t chunk_bytes = (size_t)row_count(unit) * unit->functions->x_bytes;
    if (!shared || !local ||
        local->byte_size < sizeof(many_state) + (uint64_t)chunks * chunk_bytes) {
        return NULL;
    }
    many_state* state = local->memory;
    if (!local->filled || state->rows.begin != unit->rows.begin) {
        for (int64_t c = 0; c < chunks; c++) {
            quantize(unit, 0, c, state->x + (size_t)c * chunk_bytes);
        }
        state->rows = unit->rows;
        unit->call->local->filled = true;
    }
    return state->x;
}

void cpu_multiply_chunks(const cpu_products* set, const cpu_chunk_functions* functions,
                         const weir_kernel_call* call, const cpu_matrices* matrices, cpu_span rows,
                         cpu_span columns, cpu_many_sums* sums) {
    const many_unit unit = {set, functions, call, matrices, rows, columns};
    const int64_t chunks = cpu_divide_up(call->views[X].shape.dims[1], CPU_CHUNK);
    const size_t chunk_bytes = (size_t)row_count(&unit) * functions->x_bytes;
    _Alignas(64) uint8_t part[CPU_MANY_ROWS * CPU_CHUNK_X_BYTES];
    const bool shared = cpu_matrices_share_x(set, functions, call, matrices);
    const uint8_t* held = hold_rows(&unit, chunks, shared);
    for (int64_t c = 0; c < chunks; c++) {
        for (uint32_t m = 0; m < matrices->count; m++) {
            if (!held && (m == 0 || !shared)) {
                quantize(&unit, m, c, part);
            }
            multiply_chunk(&unit, (cpu_block_place){m, columns.begin, c},
                           held ? held + (size_t)c * chunk_bytes : part, sums[m]);
        }
    }
}
