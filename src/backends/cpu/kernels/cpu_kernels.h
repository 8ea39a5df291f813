// The kernels of the CPU in plain C, and what they share: how rows are addressed and work is cut.
//
// Operands are matrices with contiguous rows at any distance, or one row. A dispatch is cut into
// units that depend on the shapes alone; each tile computes a run of units, and every element is
// computed in an order that depends neither on the unit nor on the tile it falls into. Any number
// of tiles therefore gives the same bits.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_KERNELS_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_KERNELS_H

#include <weir/target.h>

// X(name, operation)
#define CPU_KERNEL_LIST(X)                                                                         \
    X(get_rows, GET_ROWS)                                                                          \
    X(rms_norm, RMS_NORM)                                                                          \
    X(mul, MUL)                                                                                    \
    X(add, ADD)                                                                                    \
    X(matmul, MATMUL)                                                                              \
    X(rope, ROPE)                                                                                  \
    X(attention, ATTENTION)                                                                        \
    X(silu_gate, SILU_GATE)                                                                        \
    X(set_rows, SET_ROWS)                                                                          \
    X(gate_up, GATE_UP)                                                                            \
    X(matmul_add, MATMUL_ADD)                                                                      \
    X(add_rms_norm_mul, ADD_RMS_NORM_MUL)                                                          \
    X(rms_norm_mul, RMS_NORM_MUL)                                                                  \
    X(rope_set_rows, ROPE_SET_ROWS)                                                                \
    X(attention_scores, ATTENTION_SCORES)                                                          \
    X(attention_softmax, ATTENTION_SOFTMAX)                                                        \
    X(attention_sum, ATTENTION_SUM)

#define CPU_KERNEL_DECLARE(name, operation)                                                        \
    bool weir_cpu_##name##_accepts(const weir_kernel_use* use);                                    \
    uint32_t weir_cpu_##name##_tiles(const weir_kernel_use* use);                                  \
    weir_status weir_cpu_##name##_run(const weir_kernel_call* call);
CPU_KERNEL_LIST(CPU_KERNEL_DECLARE)
#undef CPU_KERNEL_DECLARE

#define CPU_TILES_MAX 4096

// Half-open run of units, rows or columns.
typedef struct cpu_span {
    int64_t begin, end;
} cpu_span;

static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t cpu_divide_up(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}

// Tiles for `units` units of `unit_cost` each, so that a tile costs about `tile_cost`.
static inline uint32_t cpu_tiles(int64_t units, double unit_cost, double tile_cost) {
    const double wanted = (double)units * unit_cost / tile_cost;
    const int64_t most = cpu_min(units, CPU_TILES_MAX);
    const int64_t tiles = wanted < (double)most ? (int64_t)wanted : most;
    return tiles < 1 ? 1 : (uint32_t)tiles;
}

// The units of the tile that is called; empty where there are more tiles than units.
static inline cpu_span cpu_tile_units(const weir_kernel_call* call, int64_t units) {
    const int64_t share = units / call->tile_count;
    const int64_t rest = units % call->tile_count;
    const int64_t begin = share * call->tile + cpu_min(call->tile, rest);
    return (cpu_span){begin, begin + share + (call->tile < rest ? 1 : 0)};
}

// The span of unit `index` when `count` items are cut into units of `size`.
static inline cpu_span cpu_unit_items(int64_t index, int64_t size, int64_t count) {
    return (cpu_span){index * size, cpu_min((index + 1) * size, count)};
}

static inline const char* cpu_row(const weir_kernel_call* call, uint32_t operand, int64_t row) {
    return (const char*)call->pointers[operand] + row * call->views[operand].strides[0];
}

static inline const float* cpu_row_f32(const weir_kernel_call* call, uint32_t operand,
                                       int64_t row) {
    return (const float*)(const void*)cpu_row(call, operand, row);
}

// A row of f32 of an operand that is written.
static inline float* cpu_row_at(const weir_kernel_call* call, uint32_t operand, int64_t row) {
    return (float*)((char*)call->pointers[operand] + row * call->views[operand].strides[0]);
}

// A row of the output of whatever type, of a kernel without scratch.
static inline void* cpu_output_bytes(const weir_kernel_call* call, int64_t row) {
    const uint32_t output = call->operand_count - 1;
    return (char*)call->pointers[output] + row * call->views[output].strides[0];
}

static inline float* cpu_output_row(const weir_kernel_call* call, int64_t row) {
    return (float*)cpu_output_bytes(call, row);
}

// Tells whether every row of a view of rank 1 or 2 is contiguous and aligned for its dtype.
static inline bool cpu_has_rows(const weir_view* view, weir_dtype dtype, uint32_t rank) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    return view->dtype == dtype && view->shape.rank == rank && rank >= 1 &&
           view->strides[rank - 1] == (int64_t)info->block_bytes &&
           view->byte_offset % info->alignment == 0 && view->strides[0] % info->alignment == 0;
}

static inline bool cpu_is_matrix(const weir_view* view) {
    return cpu_has_rows(view, WEIR_DTYPE_F32, 2);
}

// A matrix of the same shape as `like` whose rows do not overlap, so that it can be written.
static inline bool cpu_is_output(const weir_view* view, const weir_view* like) {
    return cpu_is_matrix(view) && weir_shape_equal(&view->shape, &like->shape) &&
           (view->shape.dims[0] <= 1 || view->strides[0] / 4 >= view->shape.dims[1]);
}

// A cache of keys or values: contiguous rows of a type that rows of f32 can be stored in.
static inline bool cpu_is_cache(const weir_view* view) {
    return weir_dtype_is_encodable(view->dtype) && cpu_has_rows(view, view->dtype, 2);
}

// A cache whose rows do not overlap, so that it can be written; `x` has the rows for it.
static inline bool cpu_is_cache_for(const weir_view* view, const weir_view* x) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    return cpu_is_cache(view) && x->shape.dims[1] == view->shape.dims[1] &&
           (view->shape.dims[0] <= 1 ||
            view->strides[0] / info->block_bytes >= view->shape.dims[1] / info->block_elements);
}

// Stores rows of f32 in a type, as weir_dtype_from_f32 does.
typedef weir_status (*cpu_encode_fn)(weir_dtype dtype, const float* source, int64_t element_count,
                                     void* target);

// Copies the rows of a tile of set_rows with an encoder.
WEIR_MUST_USE weir_status weir_cpu_set_rows_tile(const weir_kernel_call* call,
                                                 cpu_encode_fn encode);

// Reads a parameter of the pass; `name` is the operation.
static inline weir_status cpu_read_param(const weir_kernel_call* call, const char* name,
                                         weir_param param, uint64_t* number) {
    if (!call->params) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: a session gives no parameters", name);
    }
    *number = call->params[param];
    return WEIR_OK;
}

// Checks that rows [position, position + count) exist in a cache of `rows` rows.
static inline weir_status cpu_check_cache(const char* name, uint64_t position, int64_t count,
                                          int64_t rows) {
    if (position > (uint64_t)rows || (uint64_t)count > (uint64_t)rows - position) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%s: position %llu and %lld rows pass the end of a cache of %lld rows",
                         name, (unsigned long long)position, (long long)count, (long long)rows);
    }
    return WEIR_OK;
}

#endif
