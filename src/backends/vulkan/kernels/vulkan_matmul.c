// The kernels that read weights in the type of their file. A table of weights may be larger than a
// binding, or lie in two allocations: it is then taken in runs of rows, each with a launch of its
// own.
#include "backends/vulkan/kernels/vulkan_kernel_parts.h"

// Of the shaders
#define FEW_ROWS 4
#define ROUND 8
#define UNIT 32
#define UNIT_TYPE_LAST 10 // Q6_K
#define TEAM 32
#define HELD_QUADS 8 // of x that an invocation brings at once
#define FEW_UNROLL 4
#define PLAIN_TYPES 3 // the first types: their loads are worth having under way together
#define UP_NONE UINT32_MAX
#define FACTORS 10 // the constant: 0 none, 1 f32 in quads, or the kind of a row
#define FACTORS_QUADS 1
#define CACHE 11
#define ROTATION 12 // 0 none, 1 neighbours, 2 halves of a head
#define HEAD_DIM 13
#define GET_ROWS_SIZE 64
#define HEAD_BYTES_MAX                                                                             \
    (INT64_C(32) << 20) // of weights; any binding and any part of a file has them
#define VECTOR 8

// In shaders/few.glsl 8 shares and those of the squares of each row, which are added up to an
// eighth, in shaders/unit_products.glsl 9 quads.
uint32_t vulkan_tuning_bytes(const weir_vulkan_tuning* tuning) {
    const uint32_t shares = (ROUND + FEW_ROWS) * (ROUND + 1) * ELEMENT_BYTES / ROUND;
    const uint32_t few = tuning->few_threads * shares;
    const uint32_t units = tuning->unit_threads * (shares + 9 * 4 * ELEMENT_BYTES);
    return few > units ? few : units;
}

bool vulkan_weight_type(weir_dtype dtype, uint32_t* type) {
    static const weir_dtype types[] = {
        WEIR_DTYPE_F32,  WEIR_DTYPE_F16,    WEIR_DTYPE_BF16,   WEIR_DTYPE_Q8_0,
        WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_1,   WEIR_DTYPE_Q5_0,   WEIR_DTYPE_Q5_1,
        WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q5_K,   WEIR_DTYPE_Q6_K,   WEIR_DTYPE_Q2_K,
        WEIR_DTYPE_Q3_K, WEIR_DTYPE_IQ4_NL, WEIR_DTYPE_IQ4_XS, WEIR_DTYPE_MXFP4,
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

bool vulkan_gate_up_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 4 && is_matrix(&v[0]) && is_weights(&v[1]) && is_weights(&v[2]) &&
           weir_shape_equal(&v[1].shape, &v[2].shape) && v[0].shape.dims[1] == v[1].shape.dims[1] &&
           is_output(&v[3], v[0].shape.dims[0], v[1].shape.dims[0]);
}

// A norm is taken in where x is few rows, and the factors are one row for all of them.
static bool accepts_norm(const weir_kernel_use* use, uint32_t factors,
                         bool (*product_accepts)(const weir_kernel_use* use)) {
    const weir_view* v = use->operands;
    weir_view rest[4];
    if (use->operand_count != factors + 2 || v[0].shape.dims[0] > FEW_ROWS ||
        v[factors].shape.rank != 1) {
        return false;
    }
    for (uint32_t i = 0; i < factors; i++) {
        rest[i] = v[i];
    }
    rest[factors] = v[factors + 1];
    const weir_kernel_use product = {
        .operands = rest, .operand_count = factors + 1, .constants = use->constants};
    return product_accepts(&product) &&
           is_second(&v[factors], v[0].shape.dims[0], v[0].shape.dims[1]);
}

bool vulkan_rms_norm_matmul_accepts(const weir_kernel_use* use) {
    return accepts_norm(use, 2, vulkan_matmul_accepts);
}

bool vulkan_rms_norm_gate_up_accepts(const weir_kernel_use* use) {
    return accepts_norm(use, 3, vulkan_gate_up_accepts);
}

// The operands of a projection are x, w, the factors of a norm, the divisors of a rotation, y.
typedef struct projection_operands {
    uint32_t factors, divisors, y; // 0: none
} projection_operands;

static projection_operands operands_of(const weir_projection_desc* desc, uint32_t operand_count) {
    const uint32_t inputs = 2 + (desc->normalises ? 1 : 0);
    return (projection_operands){.factors = desc->normalises ? 2 : 0,
                                 .divisors = operand_count > inputs + 1 ? inputs : 0,
                                 .y = operand_count - 1};
}

// A head is not cut into launches, because pairs turn within it.
static bool accepts_rotation(const weir_rope_desc* rope, const weir_view* divisors,
                             const weir_view* w) {
    return rope->head_dim > 0 && rope->head_dim % 2 == 0 &&
           w->shape.dims[0] % rope->head_dim == 0 &&
           w->strides[0] <= HEAD_BYTES_MAX / rope->head_dim &&
           (!divisors || (divisors->dtype == WEIR_DTYPE_F32 && has_rows(divisors, 1) &&
                          divisors->shape.dims[0] == rope->rotated / 2));
}

// Few rows, as those of a norm.
static bool accepts_projection(const weir_kernel_use* use) {
    const weir_projection_desc* desc = &use->constants->projection;
    const weir_view* v = use->operands;
    const uint32_t least = 3 + (desc->normalises ? 1 : 0);
    if (use->operand_count < least || use->operand_count > least + (desc->turns ? 1 : 0)) {
        return false;
    }
    const projection_operands p = operands_of(desc, use->operand_count);
    const weir_view* divisors = p.divisors > 0 ? &v[p.divisors] : NULL;
    return is_matrix(&v[0]) && is_weights(&v[1]) && v[0].shape.dims[1] == v[1].shape.dims[1] &&
           v[0].shape.dims[0] <= FEW_ROWS &&
           (p.factors == 0 ||
            (v[p.factors].shape.rank == 1 && is_second(&v[p.factors], 0, v[0].shape.dims[1]))) &&
           (!desc->turns || accepts_rotation(&desc->rope, divisors, &v[1]));
}

bool vulkan_matmul_rope_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return accepts_projection(use) &&
           is_output(&v[use->operand_count - 1], v[0].shape.dims[0], v[1].shape.dims[0]);
}

bool vulkan_matmul_set_rows_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return accepts_projection(use) && is_state(&v[use->operand_count - 1], v[1].shape.dims[0]);
}

// Whether shaders/units.glsl reads the rows: blocks of types that it knows, whose 32-bit words are
// whole in every row.
static bool is_in_units(const weir_view* w) {
    const weir_dtype_info* info = weir_dtype_describe(w->dtype);
    uint32_t type = 0;
    if (!vulkan_weight_type(w->dtype, &type) || type > UNIT_TYPE_LAST) {
        return false;
    }
    const int64_t row_bytes = w->shape.dims[1] / info->block_elements * (int64_t)info->block_bytes;
    return info->block_elements % UNIT == 0 && borders_of(w) >= 4 && row_bytes % 4 == 0 &&
           w->shape.dims[1] > 0;
}

// Blocks are taken many columns at a time, so that what it costs to bring x is shared by many;
// plain types, whose bytes are many, few at a time, which leaves more workgroups.
static void size_few(const vulkan_encoder* encoder, bool in_units, vulkan_launch* launch) {
    const weir_vulkan_tuning* tuning = encoder->tuning;
    const uint32_t matrices = launch->constants[5] != UP_NONE ? 2 : 1;
    const uint32_t wanted = in_units ? tuning->unit_columns : tuning->few_columns;
    const uint32_t least = launch->constants[ROTATION] != 0 ? 2 : 1; // pairs stay together
    uint32_t columns = wanted > matrices ? wanted / matrices : 1;
    while (columns > 1 && divide_up(launch->push.columns, columns) < tuning->groups_wanted) {
        columns = (columns + 1) / 2;
    }
    columns = divide_up(columns, least) * least;
    const uint32_t groups = divide_up(launch->push.columns, columns);
    const vulkan_shader units = tuning->unit_x == WEIR_VULKAN_X_8_BITS ? VULKAN_SHADER_matmul_dots
                                                                       : VULKAN_SHADER_matmul_units;
    launch->shader = in_units ? units : VULKAN_SHADER_matmul_few;
    launch->constants[2] = launch->push.rows;
    launch->constants[7] = columns;
    launch->constants[8] = in_units ? tuning->unit_threads : tuning->few_threads;
    launch->constants[9] = launch->constants[0] < PLAIN_TYPES ? FEW_UNROLL : 1;
    if (in_units) {
        launch->constants[9] = columns % 4 == 0 ? 4 : columns % 2 == 0 ? 2 : 1;
    }
    launch->groups[0] = groups < encoder->group_count_max ? groups : encoder->group_count_max;
    launch->groups[1] = divide_up(groups, launch->groups[0]);
}

// Bytes of shared memory that shaders/held_products.glsl takes: x, twice what is added up, and
// parts of the sum of the squares.
static uint64_t held_bytes(uint64_t units, uint32_t threads, uint32_t sums) {
    const uint32_t shares = threads / TEAM * sums * (TEAM / 4 + 1);
    const uint32_t magnitudes = HELD_QUADS * threads / 4;
    const uint32_t half = shares > magnitudes ? shares : magnitudes;
    return (units * 3 + 2 * half) * 4 * ELEMENT_BYTES + threads / TEAM * ELEMENT_BYTES;
}

uint64_t vulkan_held_bytes(const weir_vulkan_tuning* tuning) {
    return held_bytes(1, tuning->held_threads, tuning->held_columns);
}

// Workgroups that keep a row of x, each of which takes as many groups of columns. False where the
// product, of `all` columns in all its launches, has fewer groups than workgroups, for which x need
// not be kept, or x does not fit.
static bool size_held(const vulkan_encoder* encoder, uint32_t all, vulkan_launch* launch) {
    const weir_vulkan_tuning* tuning = encoder->tuning;
    const uint32_t matrices = launch->constants[5] != UP_NONE ? 2 : 1;
    const uint32_t least = launch->constants[ROTATION] != 0 ? 2 : 1; // pairs stay together
    const uint32_t wanted = tuning->held_columns > matrices ? tuning->held_columns / matrices : 1;
    const uint32_t columns = divide_up(wanted, least) * least;
    const uint32_t together = tuning->held_threads / TEAM * columns;
    const uint32_t groups = divide_up(launch->push.columns, together);
    const uint32_t units = launch->push.width / UNIT;
    if (tuning->unit_x != WEIR_VULKAN_X_8_BITS || launch->push.rows != 1 ||
        divide_up(all, together) < tuning->held_groups ||
        tuning->held_groups > encoder->group_count_max ||
        held_bytes(units, tuning->held_threads, columns * matrices) > encoder->shared_bytes_max) {
        return false;
    }
    launch->shader = VULKAN_SHADER_matmul_held;
    launch->constants[2] = 1;
    launch->constants[7] = columns;
    launch->constants[8] = tuning->held_threads;
    launch->constants[9] = units;
    launch->groups[0] = divide_up(groups, divide_up(groups, tuning->held_groups));
    launch->groups[1] = 1;
    return true;
}

// The types that shaders/matmul_half.comp rounds: x is rounded for them in products of few rows.
static bool is_rounded(uint32_t type) {
    return type >= PLAIN_TYPES && type <= UNIT_TYPE_LAST;
}

// The wider tile where there are enough of them: less is read for a product then.
static void size_tiles(const vulkan_encoder* encoder, vulkan_launch* launch) {
    const weir_vulkan_tuning* tuning = encoder->tuning;
    const bool gated = launch->constants[5] != UP_NONE;
    const uint32_t rows = divide_up(launch->push.rows, VULKAN_TILE);
    uint32_t columns = gated ? VULKAN_TILE : tuning->tile_columns;
    if (launch->push.columns <= VULKAN_TILE ||
        rows * divide_up(launch->push.columns, columns) < tuning->tiles_wanted) {
        columns = VULKAN_TILE;
    }
    if (tuning->tile_x == WEIR_VULKAN_X_F16 && is_rounded(launch->constants[0]) &&
        (!gated || is_rounded(launch->constants[5]))) {
        launch->shader = VULKAN_SHADER_matmul_half;
    }
    launch->constants[7] = columns / VULKAN_TILE;
    launch->groups[0] = divide_up(launch->push.columns, columns);
    launch->groups[1] = rows;
}

// The operands of a product: x, w, then `up` or what is added or neither, the factors of a norm
// where there is one, and y as the last.
typedef struct product {
    const device_dispatch* dispatch;
    uint32_t last;
    bool gated;                             // operand 2 is a second matrix
    bool adds;                              // operand 2 is added
    uint32_t factors;                       // 0: none
    uint32_t divisors;                      // of the rotation, 0: none
    float epsilon;                          // of the norm
    const weir_projection_desc* projection; // NULL: y is the product
    const float* turns;                     // of the rotation
} product;

// Types and borders of the weights, as constants; false where a shader without units is needed.
static bool describe_weights(const product* p, vulkan_launch* launch) {
    const weir_view* views = p->dispatch->views;
    const bool x_in_quads = borders_of(&views[0]) == 16;
    bool known = vulkan_weight_type(views[1].dtype, &launch->constants[0]);
    launch->constants[1] = borders_of(&views[1]);
    launch->constants[4] = x_in_quads;
    launch->constants[5] = UP_NONE;
    if (p->gated) {
        known = vulkan_weight_type(views[2].dtype, &launch->constants[5]) && known;
        launch->constants[6] = borders_of(&views[2]);
    }
    (void)known; // they were accepted
    return x_in_quads && is_in_units(&views[1]) && (!p->gated || is_in_units(&views[2]));
}

// The factors, or x in their place, as the last binding of a product with few rows.
static void bind_factors(const product* p, vulkan_launch* launch) {
    const weir_view* factors = &p->dispatch->views[p->factors];
    const uint32_t kind = p->factors > 0 ? kind_of_second(factors) : 0;
    const uint64_t begin = factors->storage->memory_offset + factors->byte_offset;
    const bool in_quads = factors->dtype == WEIR_DTYPE_F32 && begin % 16 == 0;
    bind_operand(launch, p->dispatch, p->factors, second_unit_bytes(kind), false);
    if (p->factors > 0) {
        launch->constants[FACTORS] = in_quads ? FACTORS_QUADS : kind;
        launch->push.extra[0] = float_bits(p->epsilon);
    }
}

// What a rotation needs, or x in its place; and where the rows of y begin.
static void bind_projection(const product* p, vulkan_launch* launch) {
    const weir_projection_desc* desc = p->projection;
    bind_operand(launch, p->dispatch, p->divisors, ELEMENT_BYTES, false);
    launch->push.extra[4] = desc ? desc->position : WEIR_PARAM_NONE;
    launch->constants[HEAD_DIM] = 2;
    if (!desc || !desc->turns) {
        bind_operand(launch, p->dispatch, 0, ELEMENT_BYTES, false);
        return;
    }
    const weir_rope_desc* rope = &desc->rope;
    launch->constants[ROTATION] = rope->pairing == WEIR_ROPE_ADJACENT ? 1 : 2;
    launch->constants[HEAD_DIM] = rope->head_dim;
    launch->push.extra[1] = rope->rotated / 2;
    launch->push.extra[2] = rope->position;
    launch->push.extra[3] = p->divisors > 0;
    launch->table = p->turns;
    launch->table_floats = rope->rotated > 0 ? rope->rotated : 2;
    bind_special(launch, VULKAN_TABLE, false);
}

// Binding 4 is the second matrix or what is added; where there is neither, x stands in.
static void bind_product(const product* p, int64_t first, vulkan_launch* launch) {
    const device_dispatch* dispatch = p->dispatch;
    const uint32_t kind = p->adds ? kind_of_second(&dispatch->views[2]) : 0;
    const uint32_t unit_bytes = p->gated ? WORD_BYTES : second_unit_bytes(kind);
    launch->constants[3] = kind;
    bind_operand(launch, dispatch, 0, ELEMENT_BYTES, false);
    bind_operand(launch, dispatch, 1, WORD_BYTES, false);
    bind_cache(launch, dispatch, p->last, CACHE, true);
    bind_operand(launch, dispatch, p->gated || p->adds ? 2 : 0, unit_bytes, false);
    launch->bindings[1].first_row = first;
    launch->bindings[1].row_count = launch->push.columns;
    // Columns of y and of what is added; the bindings add where these begin.
    launch->push.offset[2] = (uint32_t)first;
    if (p->gated) {
        launch->bindings[3].first_row = first;
        launch->bindings[3].row_count = launch->push.columns;
    } else {
        launch->push.offset[3] = (uint32_t)first;
    }
}

static weir_status encode_product(vulkan_encoder* encoder, const product* p) {
    const weir_view* w = &p->dispatch->views[1];
    int64_t step = rows_per_launch(encoder, w);
    if (p->gated) {
        const int64_t up_step = rows_per_launch(encoder, &p->dispatch->views[2]);
        step = up_step < step ? up_step : step;
    }
    if (p->turns) { // heads are not cut
        const int64_t head = p->projection->rope.head_dim;
        step = step > head ? step / head * head : head;
    }
    for (int64_t first = 0; first < w->shape.dims[0]; first += step) {
        const int64_t left = w->shape.dims[0] - first;
        vulkan_launch launch = new_launch(p->dispatch, VULKAN_SHADER_matmul, 0);
        launch.push.columns = (uint32_t)(left < step ? left : step);
        const bool in_units = describe_weights(p, &launch);
        bind_product(p, first, &launch);
        if (launch.push.rows <= FEW_ROWS) {
            bind_factors(p, &launch);
            bind_projection(p, &launch);
            const uint32_t all = (uint32_t)w->shape.dims[0];
            if (!in_units || !size_held(encoder, all, &launch)) {
                size_few(encoder, in_units, &launch);
            }
        } else {
            size_tiles(encoder, &launch);
        }
        WEIR_TRY(encoder->launch(encoder, &launch));
    }
    return WEIR_OK;
}

weir_status vulkan_matmul_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_product(encoder, &(product){.dispatch = dispatch, .last = 2});
}

weir_status vulkan_gate_up_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_product(encoder, &(product){.dispatch = dispatch, .last = 3, .gated = true});
}

weir_status vulkan_matmul_add_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_product(encoder, &(product){.dispatch = dispatch, .last = 3, .adds = true});
}

static float epsilon_of(const device_dispatch* dispatch) {
    return ((const weir_op_constants*)dispatch->constants)->epsilon;
}

weir_status vulkan_rms_norm_matmul_encode(vulkan_encoder* encoder,
                                          const device_dispatch* dispatch) {
    const product made = {
        .dispatch = dispatch, .last = 3, .factors = 2, .epsilon = epsilon_of(dispatch)};
    return encode_product(encoder, &made);
}

weir_status vulkan_rms_norm_gate_up_encode(vulkan_encoder* encoder,
                                           const device_dispatch* dispatch) {
    const product made = {.dispatch = dispatch,
                          .last = 4,
                          .gated = true,
                          .factors = 3,
                          .epsilon = epsilon_of(dispatch)};
    return encode_product(encoder, &made);
}

static weir_status encode_projection(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_projection_desc* desc = &((const weir_op_constants*)dispatch->constants)->projection;
    const projection_operands operands = operands_of(desc, dispatch->operand_count);
    product made = {.dispatch = dispatch,
                    .last = operands.y,
                    .factors = operands.factors,
                    .divisors = operands.divisors,
                    .epsilon = desc->epsilon,
                    .projection = desc};
    if (!desc->turns) {
        return encode_product(encoder, &made);
    }
    void* memory = NULL;
    const size_t byte_size = ((size_t)desc->rope.rotated + 2) * sizeof(float);
    WEIR_TRY(weir_alloc_zeroed(encoder->allocator, byte_size, &memory));
    vulkan_find_turns(&desc->rope, memory);
    made.turns = memory;
    const weir_status status = encode_product(encoder, &made);
    weir_free(encoder->allocator, memory, byte_size, _Alignof(max_align_t));
    return status;
}

weir_status vulkan_matmul_rope_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_projection(encoder, dispatch);
}

weir_status vulkan_matmul_set_rows_encode(vulkan_encoder* encoder,
                                          const device_dispatch* dispatch) {
    return encode_projection(encoder, dispatch);
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
