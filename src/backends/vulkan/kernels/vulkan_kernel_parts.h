// What the encodings share: checks of operands, and the parts of a launch.
#ifndef WEIR_BACKENDS_VULKAN_KERNELS_PARTS_H
#define WEIR_BACKENDS_VULKAN_KERNELS_PARTS_H

#include "backends/vulkan/kernels/vulkan_kernels.h"

#define ELEMENT_BYTES 4
#define WORD_BYTES 2 // what packed weights are counted in

// The numbers that shaders/weights.glsl gives to the types; false for a type that it cannot read.
bool vulkan_weight_type(weir_dtype dtype, uint32_t* type);

// The turns of each pair per position, as sums of two numbers. Factors divide them in the shader:
// they are memory of the device.
void vulkan_find_turns(const weir_rope_desc* rope, float* turns);

// Tells whether the rows of a view of rank 1 or 2 are contiguous and aligned for its dtype.
static inline bool has_rows(const weir_view* view, uint32_t rank) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    return view->shape.rank == rank && view->strides[rank - 1] == (int64_t)info->block_bytes &&
           view->byte_offset % info->alignment == 0 && view->strides[0] >= 0 &&
           view->strides[0] % info->alignment == 0;
}

static inline bool is_matrix(const weir_view* view) {
    return view->dtype == WEIR_DTYPE_F32 && has_rows(view, 2);
}

// A matrix of [rows, width] whose rows do not overlap, so that it can be written.
static inline bool is_output(const weir_view* view, int64_t rows, int64_t width) {
    return is_matrix(view) && view->shape.dims[0] == rows && view->shape.dims[1] == width &&
           (rows <= 1 || view->strides[0] / ELEMENT_BYTES >= width);
}

// The numbers that shaders/cache.glsl gives to the types of caches; false for one that it has not.
static inline bool cache_type(weir_dtype dtype, uint32_t* type) {
    *type = dtype == WEIR_DTYPE_F32 ? 0 : dtype == WEIR_DTYPE_F16 ? 1 : 2;
    return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16;
}

static inline uint32_t cache_unit_bytes(uint32_t type) {
    return type == 0 ? ELEMENT_BYTES : WORD_BYTES;
}

// Rows of keys or values, of any number that fits.
static inline bool is_cache(const weir_view* view) {
    uint32_t type = 0;
    return cache_type(view->dtype, &type) && has_rows(view, 2);
}

// A cache whose rows of `width` do not overlap, so that they can be written.
static inline bool is_state(const weir_view* view, int64_t width) {
    uint32_t type = 0;
    return is_cache(view) && view->shape.dims[1] == width && cache_type(view->dtype, &type) &&
           (view->shape.dims[0] <= 1 || view->strides[0] / cache_unit_bytes(type) >= width);
}

// The numbers that shaders/second.glsl gives to what is combined with every row.
static inline uint32_t kind_of_second(const weir_view* b) {
    if (b->shape.rank == 2) {
        return 1;
    }
    return b->dtype == WEIR_DTYPE_F32 ? 2 : b->dtype == WEIR_DTYPE_F16 ? 3 : 4;
}

static inline uint32_t second_unit_bytes(uint32_t kind) {
    return kind >= 3 ? WORD_BYTES : ELEMENT_BYTES;
}

// A matrix of [rows, width], or one row of f32, f16 or bf16 for all rows.
static inline bool is_second(const weir_view* b, int64_t rows, int64_t width) {
    if (b->shape.rank == 2) {
        return is_matrix(b) && b->shape.dims[0] == rows && b->shape.dims[1] == width;
    }
    return (b->dtype == WEIR_DTYPE_F32 || b->dtype == WEIR_DTYPE_F16 ||
            b->dtype == WEIR_DTYPE_BF16) &&
           has_rows(b, 1) && b->shape.dims[0] == width;
}

// Rows are whole words of 16 bits, which only those of MXFP4, with blocks of 17 bytes, need not be.
static inline bool is_weights(const weir_view* view) {
    uint32_t type = 0;
    if (!vulkan_weight_type(view->dtype, &type) || !has_rows(view, 2)) {
        return false;
    }
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    const int64_t row_bytes = view->shape.dims[1] / info->block_elements * info->block_bytes;
    return row_bytes % WORD_BYTES == 0 && view->byte_offset % WORD_BYTES == 0 &&
           view->strides[0] % WORD_BYTES == 0;
}

// The border that all rows of a view begin on: 2, 4 or 16 bytes.
static inline uint32_t borders_of(const weir_view* view) {
    const uint64_t begin = view->storage->memory_offset + view->byte_offset;
    const uint64_t both = view->shape.dims[0] > 1 ? begin | (uint64_t)view->strides[0] : begin;
    return both % 16 == 0 ? 16 : both % 4 == 0 ? 4 : 2;
}

static inline uint32_t divide_up(int64_t count, int64_t size) {
    return (uint32_t)(count / size + (count % size != 0));
}

static inline uint32_t row_stride(const weir_view* view, uint32_t unit_bytes) {
    return (uint32_t)((uint64_t)view->strides[0] / unit_bytes);
}

// A launch with rows as those of operand `leader`.
static inline vulkan_launch new_launch(const device_dispatch* dispatch, vulkan_shader shader,
                                       uint32_t leader) {
    const weir_view* view = &dispatch->views[leader];
    const weir_param rows = dispatch->rows ? dispatch->rows[leader] : WEIR_PARAM_NONE;
    return (vulkan_launch){
        .shader = shader,
        .push = {.rows = (uint32_t)view->shape.dims[0],
                 .rows_param = rows,
                 .width = (uint32_t)view->shape.dims[view->shape.rank - 1]},
        .groups = {1, 1},
    };
}

// Binds an operand as the next binding; its stride goes to the same slot as its offset.
static inline void bind_operand(vulkan_launch* launch, const device_dispatch* dispatch,
                                uint32_t operand, uint32_t unit_bytes, bool writes) {
    const uint32_t slot = launch->binding_count;
    launch->push.stride[slot] = row_stride(&dispatch->views[operand], unit_bytes);
    launch->bindings[launch->binding_count++] = (vulkan_binding){
        .operand = operand, .slot = slot, .unit_bytes = unit_bytes, .writes = writes};
}

// Binds rows of a type of caches as the next binding and tells the shader which, by a constant.
// Returns its number.
static inline uint32_t bind_cache(vulkan_launch* launch, const device_dispatch* dispatch,
                                  uint32_t operand, uint32_t constant, bool writes) {
    const bool known = cache_type(dispatch->views[operand].dtype, &launch->constants[constant]);
    (void)known; // it was accepted
    bind_operand(launch, dispatch, operand, cache_unit_bytes(launch->constants[constant]), writes);
    return launch->constants[constant];
}

static inline void bind_special(vulkan_launch* launch, uint32_t special, bool writes) {
    const uint32_t slot = launch->binding_count;
    launch->bindings[launch->binding_count++] = (vulkan_binding){
        .operand = special, .slot = slot, .unit_bytes = ELEMENT_BYTES, .writes = writes};
}

// A word that a shader reads as a float.
static inline uint32_t float_bits(float number) {
    union {
        float number;
        uint32_t bits;
    } both = {.number = number};
    return both.bits;
}

#endif
