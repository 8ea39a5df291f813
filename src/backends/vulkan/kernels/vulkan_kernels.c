// The kernels that work row by row; those of weights are in vulkan_matmul.c.
#include "backends/vulkan/kernels/vulkan_kernels.h"

#include <assert.h>
#include <math.h>

#include "backends/vulkan/kernels/vulkan_kernel_parts.h"
#include "backends/vulkan/vulkan_target.h"

#define HEAD_MAX 512
#define TWO_PI 6.283185307179586476925286766559

// Of the shaders
#define ELEMENTWISE_SIZE 128
#define ROPE_SIZE 64
#define NORM_SIZE 256
#define NORM_HELD_MAX 64 // elements that an invocation keeps of a row
#define ATTENTION_LANES 32
#define SPLITS_MAX 16
#define SPLIT_KEYS 256   // keys that a part should have, of the longest text
#define SPLIT_GROUPS 512 // workgroups that occupy a device
#define CACHE_TYPE 4     // the constant of shaders/cache.glsl

static_assert(sizeof(vulkan_push) <= 128, "every device takes 128 bytes");

static bool has_shape_of(const weir_view* view, const weir_view* like) {
    return is_matrix(view) && weir_shape_equal(&view->shape, &like->shape);
}

static bool is_output_like(const weir_view* view, const weir_view* like) {
    return is_output(view, like->shape.dims[0], like->shape.dims[1]);
}

static bool accepts_pair(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 3 && is_matrix(&v[0]) && has_shape_of(&v[1], &v[0]) &&
           is_output_like(&v[2], &v[0]);
}

static bool accepts_pair_or_row(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 3 && is_matrix(&v[0]) &&
           is_second(&v[1], v[0].shape.dims[0], v[0].shape.dims[1]) && is_output_like(&v[2], &v[0]);
}

bool vulkan_mul_accepts(const weir_kernel_use* use) {
    return accepts_pair_or_row(use);
}

bool vulkan_add_accepts(const weir_kernel_use* use) {
    return accepts_pair_or_row(use);
}

bool vulkan_silu_gate_accepts(const weir_kernel_use* use) {
    return accepts_pair(use);
}

static weir_status encode_elementwise(vulkan_encoder* encoder, const device_dispatch* dispatch,
                                      uint32_t operation) {
    vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_elementwise, 0);
    launch.constants[0] = operation;
    launch.constants[1] = kind_of_second(&dispatch->views[1]);
    bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
    bind_operand(&launch, dispatch, 1, second_unit_bytes(launch.constants[1]), false);
    bind_operand(&launch, dispatch, 2, ELEMENT_BYTES, true);
    launch.groups[0] = divide_up(launch.push.width, ELEMENTWISE_SIZE);
    launch.groups[1] = launch.push.rows;
    return encoder->launch(encoder, &launch);
}

weir_status vulkan_mul_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_elementwise(encoder, dispatch, 0);
}

weir_status vulkan_add_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_elementwise(encoder, dispatch, 1);
}

weir_status vulkan_silu_gate_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_elementwise(encoder, dispatch, 2);
}

bool vulkan_rms_norm_accepts(const weir_kernel_use* use) {
    return use->operand_count == 2 && is_matrix(&use->operands[0]) &&
           is_output_like(&use->operands[1], &use->operands[0]);
}

bool vulkan_rms_norm_mul_accepts(const weir_kernel_use* use) {
    return accepts_pair_or_row(use);
}

bool vulkan_add_rms_norm_mul_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    const uint32_t last = use->operand_count - 1;
    if ((last != 3 && last != 4) || !is_matrix(&v[0])) {
        return false;
    }
    const int64_t rows = v[0].shape.dims[0];
    const int64_t width = v[0].shape.dims[1];
    return is_second(&v[1], rows, width) && is_second(&v[2], rows, width) &&
           (last == 3 || is_output_like(&v[3], &v[0])) && is_output_like(&v[last], &v[0]) &&
           width <= NORM_HELD_MAX * NORM_SIZE;
}

// The operands of a norm; those that it lacks are 0.
typedef struct norm {
    uint32_t addend, factor, sum, y;
} norm;

// What is not there is stood in for: x for the addend and the second operand, y for the sum.
static weir_status encode_norm(vulkan_encoder* encoder, const device_dispatch* dispatch,
                               const norm* n) {
    const weir_op_constants* constants = dispatch->constants;
    const weir_view* views = dispatch->views;
    vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_rms_norm, 0);
    const uint32_t held = divide_up(launch.push.width, NORM_SIZE);
    launch.constants[0] = n->factor > 0 ? kind_of_second(&views[n->factor]) : 0;
    launch.constants[1] = n->addend > 0 ? kind_of_second(&views[n->addend]) : 0;
    launch.constants[2] = n->sum > 0;
    launch.constants[3] = held <= NORM_HELD_MAX ? held : 0;
    bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
    bind_operand(&launch, dispatch, n->y, ELEMENT_BYTES, true);
    bind_operand(&launch, dispatch, n->factor, second_unit_bytes(launch.constants[0]), false);
    bind_operand(&launch, dispatch, n->addend, second_unit_bytes(launch.constants[1]), false);
    bind_operand(&launch, dispatch, n->sum > 0 ? n->sum : n->y, ELEMENT_BYTES, true);
    launch.push.extra[0] = float_bits(constants->epsilon);
    launch.groups[0] =
        launch.push.rows < encoder->group_count_max ? launch.push.rows : encoder->group_count_max;
    return encoder->launch(encoder, &launch);
}

weir_status vulkan_rms_norm_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_norm(encoder, dispatch, &(norm){.y = 1});
}

weir_status vulkan_rms_norm_mul_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    return encode_norm(encoder, dispatch, &(norm){.factor = 1, .y = 2});
}

weir_status vulkan_add_rms_norm_mul_encode(vulkan_encoder* encoder,
                                           const device_dispatch* dispatch) {
    const uint32_t last = dispatch->operand_count - 1;
    const norm n = {.addend = 1, .factor = 2, .sum = last == 4 ? 3 : 0, .y = last};
    return encode_norm(encoder, dispatch, &n);
}

bool vulkan_set_rows_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return use->operand_count == 2 && is_matrix(&v[0]) && is_state(&v[1], v[0].shape.dims[1]);
}

weir_status vulkan_set_rows_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_op_constants* constants = dispatch->constants;
    vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_set_rows, 0);
    bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
    bind_cache(&launch, dispatch, 1, CACHE_TYPE, true);
    launch.push.extra[0] = constants->position;
    launch.groups[0] = divide_up(launch.push.width, ELEMENTWISE_SIZE);
    launch.groups[1] = launch.push.rows;
    return encoder->launch(encoder, &launch);
}

static bool turns_rows(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    const bool has_factors = use->operand_count == 3;
    return (use->operand_count == 2 || has_factors) && is_matrix(&v[0]) &&
           (!has_factors || (v[1].dtype == WEIR_DTYPE_F32 && has_rows(&v[1], 1)));
}

bool vulkan_rope_accepts(const weir_kernel_use* use) {
    return turns_rows(use) &&
           is_output_like(&use->operands[use->operand_count - 1], &use->operands[0]);
}

bool vulkan_rope_set_rows_accepts(const weir_kernel_use* use) {
    return turns_rows(use) &&
           is_state(&use->operands[use->operand_count - 1], use->operands[0].shape.dims[1]);
}

void vulkan_find_turns(const weir_rope_desc* rope, float* turns) {
    const uint32_t pairs = rope->rotated / 2;
    for (uint32_t i = 0; i < pairs; i++) {
        const double exponent = -2.0 * (double)i / (double)rope->rotated;
        const double turn = (double)rope->scale * pow((double)rope->base, exponent) / TWO_PI;
        turns[2 * i] = (float)turn;
        turns[2 * i + 1] = (float)(turn - (double)turns[2 * i]);
    }
}

// `state_position` is the parameter that names the first row of the result, WEIR_PARAM_NONE: row 0.
static weir_status encode_rope(vulkan_encoder* encoder, const device_dispatch* dispatch,
                               const weir_rope_desc* rope, weir_param state_position) {
    const uint32_t last = dispatch->operand_count - 1;
    const uint32_t pairs = rope->rotated / 2;
    vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_rope, 0);
    void* memory = NULL;
    launch.table_floats = 2 * (size_t)(pairs > 0 ? pairs : 1);
    const size_t byte_size = launch.table_floats * sizeof(float);
    WEIR_TRY(weir_alloc_zeroed(encoder->allocator, byte_size, &memory));
    vulkan_find_turns(rope, memory);
    launch.table = memory;
    bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
    if (last == 2) {
        bind_operand(&launch, dispatch, 1, ELEMENT_BYTES, false);
    } else {
        bind_special(&launch, VULKAN_TABLE, false); // not read
    }
    bind_cache(&launch, dispatch, last, CACHE_TYPE, true);
    bind_special(&launch, VULKAN_TABLE, false);
    launch.push.extra[0] = pairs;
    launch.push.extra[1] = launch.push.width / rope->head_dim;
    launch.push.extra[2] = rope->head_dim;
    launch.push.extra[3] = rope->pairing == WEIR_ROPE_ADJACENT;
    launch.push.extra[4] = rope->position;
    launch.push.extra[5] = last == 2;
    launch.push.extra[6] = state_position;
    launch.groups[0] =
        divide_up((int64_t)launch.push.extra[1] * (rope->head_dim - pairs), ROPE_SIZE);
    launch.groups[1] = launch.push.rows;
    const weir_status status = encoder->launch(encoder, &launch);
    weir_free(encoder->allocator, memory, byte_size, _Alignof(max_align_t));
    return status;
}

weir_status vulkan_rope_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_op_constants* constants = dispatch->constants;
    return encode_rope(encoder, dispatch, &constants->rope, WEIR_PARAM_NONE);
}

weir_status vulkan_rope_set_rows_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_rope_rows_desc* desc = &((const weir_op_constants*)dispatch->constants)->rope_rows;
    return encode_rope(encoder, dispatch, &desc->rope, desc->position);
}

bool vulkan_attention_accepts(const weir_kernel_use* use) {
    const weir_view* v = use->operands;
    return (use->operand_count == 4 || use->operand_count == 5) && is_matrix(&v[0]) &&
           is_cache(&v[1]) && is_cache(&v[2]) && v[1].dtype == v[2].dtype &&
           weir_shape_equal(&v[1].shape, &v[2].shape) && is_output_like(&v[3], &v[0]) &&
           use->constants->attention.head_dim <= HEAD_MAX;
}

uint64_t vulkan_no_scratch(const weir_kernel_use* use) {
    (void)use;
    return 0;
}

static int64_t units_of(const weir_view* q, const weir_attention_desc* desc) {
    return q->shape.dims[0] * desc->heads;
}

// The weighted values, the largest score, and the sum of weights.
static uint64_t part_bytes(const weir_attention_desc* desc) {
    return ((uint64_t)desc->head_dim + 2) * ELEMENT_BYTES;
}

// Into how many parts the keys of a head of a row are cut at most: few rows alone do not occupy a
// device, and a long cache is worth it. By bounds alone, so that results depend on nothing else.
static uint32_t splits_of(const weir_view* q, const weir_view* keys,
                          const weir_attention_desc* desc) {
    const int64_t units = units_of(q, desc);
    const int64_t most = keys->shape.dims[0] / SPLIT_KEYS;
    if (units <= 0 || units > SPLIT_GROUPS / 2 || most < 2) {
        return 1;
    }
    const int64_t wanted = SPLIT_GROUPS / units;
    const int64_t splits = wanted < most ? wanted : most;
    return (uint32_t)(splits < SPLITS_MAX ? splits : SPLITS_MAX);
}

uint64_t vulkan_attention_scratch(const weir_kernel_use* use) {
    const weir_attention_desc* desc = &use->constants->attention;
    const uint64_t splits = splits_of(&use->operands[0], &use->operands[1], desc);
    const uint64_t units = (uint64_t)units_of(&use->operands[0], desc);
    return splits > 1 ? units * splits * part_bytes(desc) : 0;
}

static void bind_attention(vulkan_launch* launch, const device_dispatch* dispatch,
                           const weir_attention_desc* desc) {
    bind_operand(launch, dispatch, 0, ELEMENT_BYTES, false);
    const bool narrow = bind_cache(launch, dispatch, 1, CACHE_TYPE, false) != 0;
    bind_cache(launch, dispatch, 2, CACHE_TYPE, false);
    bind_operand(launch, dispatch, 3, ELEMENT_BYTES, true);
    const bool in_pairs = narrow && desc->head_dim % 2 == 0 &&
                          borders_of(&dispatch->views[1]) >= 4 &&
                          borders_of(&dispatch->views[2]) >= 4;
    const uint32_t step = in_pairs ? 2 : 1;
    const uint32_t share = step * divide_up(desc->head_dim, ATTENTION_LANES * step);
    launch->constants[0] = share;
    launch->constants[1] = share * ATTENTION_LANES == desc->head_dim;
    launch->constants[2] = share <= 8 ? 128 : 64; // shared memory of 32 KiB holds it
    launch->constants[3] = step;
    launch->push.extra[0] = desc->heads;
    launch->push.extra[1] = desc->heads / desc->kv_heads;
    launch->push.extra[2] = desc->head_dim;
    launch->push.extra[3] = float_bits(desc->scale);
    launch->push.extra[4] = desc->position;
}

// Parts go to the scratch, and a table counts those that are there: it begins with 0, and ends so.
static weir_status launch_parts(vulkan_encoder* encoder, const device_dispatch* dispatch,
                                vulkan_launch* launch, uint64_t units) {
    void* memory = NULL;
    const size_t byte_size = (size_t)units * sizeof(float);
    WEIR_TRY(weir_alloc_zeroed(encoder->allocator, byte_size, &memory));
    launch->table = memory;
    launch->table_floats = (size_t)units;
    bind_operand(launch, dispatch, 4, ELEMENT_BYTES, true);
    bind_special(launch, VULKAN_TABLE, true);
    const weir_status status = encoder->launch(encoder, launch);
    weir_free(encoder->allocator, memory, byte_size, _Alignof(max_align_t));
    return status;
}

weir_status vulkan_attention_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const weir_attention_desc* desc = &((const weir_op_constants*)dispatch->constants)->attention;
    const bool in_parts = dispatch->operand_count == 5;
    const uint64_t units = (uint64_t)units_of(&dispatch->views[0], desc);
    vulkan_launch launch =
        new_launch(dispatch, in_parts ? VULKAN_SHADER_attention_split : VULKAN_SHADER_attention, 0);
    bind_attention(&launch, dispatch, desc);
    const uint64_t splits =
        in_parts ? (uint64_t)dispatch->views[4].shape.dims[0] / (units * part_bytes(desc)) : 1;
    launch.constants[5] = (uint32_t)splits; // for which there is scratch
    const uint64_t groups = units * splits;
    launch.groups[0] =
        groups < encoder->group_count_max ? (uint32_t)groups : encoder->group_count_max;
    return in_parts ? launch_parts(encoder, dispatch, &launch, units)
                    : encoder->launch(encoder, &launch);
}

static const struct {
    weir_status (*encode)(vulkan_encoder* encoder, const device_dispatch* dispatch);
} encodings[] = {
#define VULKAN_ENCODING(name, operation, rows, scratch) {vulkan_##name##_encode},
    VULKAN_KERNEL_LIST(VULKAN_ENCODING)
#undef VULKAN_ENCODING
};

weir_status vulkan_encode(vulkan_encoder* encoder, const device_dispatch* dispatch) {
    const ptrdiff_t index = dispatch->kernel - weir_vulkan_target.kernels;
    assert(index >= 0 && index < (ptrdiff_t)(sizeof encodings / sizeof encodings[0]));
    return encodings[index].encode(encoder, dispatch);
}

// The parameter that places rows in a cache; WEIR_PARAM_NONE where the operation has none to check.
static weir_param cache_position(const device_dispatch* dispatch) {
    const weir_op_constants* constants = dispatch->constants;
    switch ((int)dispatch->kernel->op) {
    case WEIR_OP_SET_ROWS:
        return constants->position;
    case WEIR_OP_ROPE_SET_ROWS:
        return constants->rope_rows.position;
    case WEIR_OP_MATMUL_SET_ROWS:
        return constants->projection.position;
    case WEIR_OP_ATTENTION:
        return constants->attention.position;
    default:
        return WEIR_PARAM_NONE;
    }
}

weir_status vulkan_check_params(const device_dispatch* dispatch, const uint64_t* params) {
    const weir_param place = cache_position(dispatch);
    if (place == WEIR_PARAM_NONE) {
        return WEIR_OK;
    }
    // The cache: the keys, or the state that is the last operand.
    const uint32_t cache =
        dispatch->kernel->op == WEIR_OP_ATTENTION ? 1 : dispatch->operand_count - 1;
    const uint64_t position = params[place];
    const weir_param param = dispatch->rows ? dispatch->rows[0] : WEIR_PARAM_NONE;
    const uint64_t rows =
        param == WEIR_PARAM_NONE ? (uint64_t)dispatch->views[0].shape.dims[0] : params[param];
    const uint64_t room = (uint64_t)dispatch->views[cache].shape.dims[0];
    if (position > room || rows > room - position) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%s: position %llu and %llu rows pass the end of a cache of %llu rows",
                         weir_op_name(dispatch->kernel->op), (unsigned long long)position,
                         (unsigned long long)rows, (unsigned long long)room);
    }
    return WEIR_OK;
}
