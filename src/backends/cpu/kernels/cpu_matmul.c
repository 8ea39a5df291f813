#include "backends/cpu/kernels/cpu_matmul.h"

#include <string.h>

#include "backends/cpu/kernels/cpu_vector.h"

#define X 0
#define CHUNK 256 // elements; whole blocks of every type
#define COLUMNS CPU_MATMUL_COLUMNS
#define ROWS CPU_MATMUL_ROWS
#define MANY_ROWS 8 // from here on x, not w, decides which data is kept close

bool weir_cpu_matmul_fits(const weir_view* x, const weir_view* w, const weir_view* y) {
    const weir_view like = {.shape = {.rank = 2, .dims = {x->shape.dims[0], w->shape.dims[0]}}};
    return cpu_is_matrix(x) && weir_dtype_is_decodable(w->dtype) &&
           CHUNK % weir_dtype_describe(w->dtype)->block_elements == 0 &&
           cpu_has_rows(w, w->dtype, 2) && x->shape.dims[1] == w->shape.dims[1] &&
           cpu_is_output(y, &like);
}

static int64_t count_units(const weir_view* y) {
    return cpu_divide_up(y->shape.dims[1], COLUMNS) * cpu_divide_up(y->shape.dims[0], ROWS);
}

// A tile reads some 48 KiB of weights, less when every byte is used for many rows.
uint32_t weir_cpu_matmul_cut(const weir_view* y, int64_t row_bytes) {
    const double rows = (double)cpu_min(y->shape.dims[0], ROWS);
    const double unit_bytes = (double)row_bytes * COLUMNS;
    return cpu_tiles(count_units(y), unit_bytes * (1.0 + rows / MANY_ROWS), 49152.0);
}

// Finds elements [begin, begin + length) of weight row `row` as f32: where they are, or decoded.
// For many rows of x f32 is copied too: weight rows a power of two apart evict each other from the
// cache before they have served all of them.
static weir_status read_weights(const weir_kernel_call* call, uint32_t w, int64_t row,
                                int64_t begin, int64_t length, float* decoded,
                                const float** weights) {
    const weir_dtype dtype = call->views[w].dtype;
    if (dtype == WEIR_DTYPE_F32 && call->views[X].shape.dims[0] < MANY_ROWS) {
        *weights = cpu_row_f32(call, w, row) + begin;
        return WEIR_OK;
    }
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const char* source = cpu_row(call, w, row) + begin / info->block_elements * info->block_bytes;
    WEIR_TRY(weir_dtype_to_f32(dtype, source, length, decoded));
    *weights = decoded;
    return WEIR_OK;
}

// Adds the products of one row of x with the chunks of `count` weight rows to their sums.
static void add_products(const float* x, const float* const* weights, int64_t count, int64_t length,
                         float* sums) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        float products[4];
        cpu_dot4(x, weights + i, length, products);
        cpu_store(sums + i, cpu_load(sums + i) + cpu_load(products));
    }
    for (; i < count; i++) {
        sums[i] += cpu_dot(x, weights[i], length);
    }
}

weir_status weir_cpu_matmul_block(const weir_kernel_call* call, uint32_t w, cpu_span rows,
                                  cpu_span columns, cpu_matmul_sums sums) {
    _Alignas(64) float decoded[COLUMNS][CHUNK];
    const float* weights[COLUMNS];
    const int64_t width = call->views[X].shape.dims[1];
    const int64_t count = columns.end - columns.begin;
    memset(sums, 0, (size_t)(rows.end - rows.begin) * sizeof sums[0]);
    for (int64_t begin = 0; begin < width; begin += CHUNK) {
        const int64_t length = cpu_min(CHUNK, width - begin);
        for (int64_t i = 0; i < count; i++) {
            WEIR_TRY(
                read_weights(call, w, columns.begin + i, begin, length, decoded[i], &weights[i]));
        }
        for (int64_t row = rows.begin; row < rows.end; row++) {
            add_products(cpu_row_f32(call, X, row) + begin, weights, count, length,
                         sums[row - rows.begin]);
        }
    }
    return WEIR_OK;
}

// Few rows: fewer weight rows side by side, so that memory is read in longer runs.
weir_status weir_cpu_matmul_tile(const weir_kernel_call* call, cpu_matmul_store_fn store) {
    const weir_view* y = &call->views[call->operand_count - 1];
    const int64_t row_count = y->shape.dims[0];
    const int64_t row_blocks = cpu_divide_up(row_count, ROWS);
    const cpu_span span = cpu_tile_units(call, count_units(y));
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const cpu_span rows = cpu_unit_items(unit % row_blocks, ROWS, row_count);
        const cpu_span columns = cpu_unit_items(unit / row_blocks, COLUMNS, y->shape.dims[1]);
        const int64_t step = rows.end - rows.begin < MANY_ROWS ? 4 : COLUMNS;
        for (int64_t begin = columns.begin; begin < columns.end; begin += step) {
            const cpu_span some = {begin, cpu_min(begin + step, columns.end)};
            WEIR_TRY(store(call, rows, some));
        }
    }
    return WEIR_OK;
}
