// The kernels that read weights in the type of their file. A table of weights may be larger than a
// binding, or lie in two allocations: it is then taken in runs of rows, each with a launch of its
// own.
#include "backends/vulkan/kernels/vulkan_kernel_parts.h"

// Of the shaders
#define FEW_ROWS 4
#define FEW_COLUMNS 4
#define TILE_ROWS 32
#define TILE_COLUMNS 64
#define GET_ROWS_SIZE 64
#define VECTOR 8

bool vulkan_weight_type(weir_dtype dtype, uint32_t* type) {
    static const weir_dtype types[] = {
        WEIR_DTYPE_F32,  WEIR_DTYPE_F16,  WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0,
        WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_1, WEIR_DTYPE_Q5_0, WEIR_DTYPE_Q5_1,
        WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q5_K, WEIR_DTYPE_Q6_K,
    };
    for (uint32_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i] == dtype) {
            *type = i;
            return true;
        }
    }
    return false;
}

// Runs of rows that fit one binding, with room for what aligning its begin adds.
static int64_t rows_per_launch(const vulkan_encoder* encoder, const weir_view* table) {
    const uint64_t row_bytes = (uint64_t)table->strides[0] > 0 ? (uint64_t)table->strides[0] : 1;
    const uint64_t binding = encoder->binding_bytes_max - encoder->binding_bytes_max / 64;
    const uint64_t run = encoder->run_bytes_max(table);
    const uint64_t room = binding < run ? binding : run;
    const uint64_t rows = room / row_bytes;
    const uint64_t all = (uint64_t)table->shape.dims[0];
    return (int64_t)(rows == 0 ? 1 : rows < all ? rows : all);
}

// The border that all rows of a view begin on: 2, 4 or 16 bytes.
static uint32_t borders_of(const weir_view* view) {
    const uint64_t begin = view->storage->memory_offset + view->byte_offset;
    const uint64_t both = begin | (uint64_t)view->strides[0];
    return both % 16 == 0 ? 16 : both % 4 == 0 ? 4 : 2;
}

bool vulkan_matmul_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 3 && is_matrix(&v[0]) && is_weights(&v[1]) &&
           v[0].shape.dims[1] == v[1].shape.dims[1] &&
           is_output(&v[2], v[0].shape.dims[0], v[1].shape.dims[0]);
}

bool vulkan_matmul_add_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 4 && is_matrix(&v[0]) && is_weights(&v[1]) &&
           v[0].shape.dims[1] == v[1].shape.dims[1] &&
           is_second(&v[2], v[0].shape.dims[0], v[1].shape.dims[0]) &&
           is_output(&v[3], v[0].shape.dims[0], v[1].shape.dims[0]);
}

static void size_few(const vulkan_encoder* encoder, vulkan_launch* launch) {
    const uint32_t groups = divide_up(launch->push.columns, FEW_COLUMNS);
    launch->shader = VULKAN_SHADER_matmul_few;
    launch->constants[2] = launch->push.rows;
    launch->groups[0] = groups < encoder->group_count_max ? groups : encoder->group_count_max;
    launch->groups[1] = divide_up(groups, launch->groups[0]);
}

static void size_tiles(vulkan_launch* launch) {
    launch->groups[0] = divide_up(launch->push.columns, TILE_COLUMNS);
    launch->groups[1] = divide_up(launch->push.rows, TILE_ROWS);
}

// Where nothing is added x stands in for it.
weir_status vulkan_matmul_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_view* w = &dispatch->views[1];
    const uint32_t last = dispatch->operand_count - 1;
    const uint32_t added = last == 3 ? 2 : 0;
    const int64_t step = rows_per_launch(encoder, w);
    for (int64_t first = 0; first < w->shape.dims[0]; first += step) {
        const int64_t left = w->shape.dims[0] - first;
        vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_matmul, 0);
        const bool known = vulkan_weight_type(w->dtype, &launch.constants[0]);
        (void)known; // it was accepted
        launch.constants[1] = borders_of(w);
        launch.constants[3] = last == 3 ? kind_of_second(&dispatch->views[2]) : 0;
        launch.push.columns = (uint32_t)(left < step ? left : step);
        bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
        bind_operand(&launch, dispatch, 1, WORD_BYTES, false);
        bind_operand(&launch, dispatch, last, ELEMENT_BYTES, true);
        bind_operand(&launch, dispatch, added, second_unit_bytes(launch.constants[3]), false);
        launch.bindings[1].first_row = first;
        launch.bindings[1].row_count = launch.push.columns;
        // Columns of y and of what is added; the bindings add where these begin.
        launch.push.offset[2] = launch.push.offset[3] = (uint32_t)first;
        if (launch.push.rows <= FEW_ROWS) {
            launch.constants[4] = borders_of(&dispatch->views[0]) == 16;
            size_few(encoder, &launch);
        } else {
            size_tiles(&launch);
        }
        WEIR_TRY(encoder->launch(encoder, &launch));
    }
    return WEIR_OK;
}

weir_status vulkan_matmul_add_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return vulkan_matmul_encode(encoder, dispatch);
}

bool vulkan_get_rows_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 3 && is_weights(&v[0]) && v[1].dtype == WEIR_DTYPE_I32 &&
           has_rows(&v[1], 1) && is_output(&v[2], v[1].shape.dims[0], v[0].shape.dims[1]);
}

weir_status vulkan_get_rows_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_view* table = &dispatch->views[0];
    const int64_t step = rows_per_launch(encoder, table);
    for (int64_t first = 0; first < table->shape.dims[0]; first += step) {
        const int64_t left = table->shape.dims[0] - first;
        vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_get_rows, 1);
        const bool known = vulkan_weight_type(table->dtype, &launch.constants[0]);
        (void)known; // it was accepted
        launch.constants[1] = borders_of(table);
        launch.push.width = (uint32_t)table->shape.dims[1];
        bind_operand(&launch, dispatch, 0, WORD_BYTES, false);
        bind_operand(&launch, dispatch, 1, ELEMENT_BYTES, false);
        bind_operand(&launch, dispatch, 2, ELEMENT_BYTES, true);
        bind_special(&launch, VULKAN_FAULT, true);
        launch.bindings[0].first_row = first;
        launch.bindings[0].row_count = left < step ? left : step;
        launch.push.extra[0] = (uint32_t)first;
        launch.push.extra[1] = (uint32_t)launch.bindings[0].row_count;
        launch.push.extra[2] = (uint32_t)table->shape.dims[0];
        launch.groups[0] = divide_up(launch.push.width, GET_ROWS_SIZE * VECTOR);
        launch.groups[1] = launch.push.rows;
        WEIR_TRY(encoder->launch(encoder, &launch));
    }
    return WEIR_OK;
}
