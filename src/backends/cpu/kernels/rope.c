// Angles are computed in f64 and the same for all heads, so a unit is a whole row; a block of pairs
// is rotated at a time, in all rows of the tile, before the next block is looked at.
#include "backends/cpu/kernels/cpu_rope.h"

#include <math.h>
#include <string.h>

#define PAIRS 256 // of one block
#define PART CPU_ROPE_PART

bool weir_cpu_rope_accepts(const weir_kernel_use* use) {
    return cpu_rope_takes(use) &&
           cpu_is_output(&use->operands[use->operand_count - 1], &use->operands[0]);
}

uint32_t weir_cpu_rope_tiles(const weir_kernel_use* use) {
    return cpu_rope_tiles(use);
}

typedef struct rotation {
    float cosine[PAIRS];
    float sine[PAIRS];
} rotation;

// Angle per position of each pair in [pairs.begin, pairs.end).
static void find_frequencies(const weir_rope_desc* rope, const float* factors, cpu_span pairs,
                             double* frequencies) {
    for (int64_t i = pairs.begin; i < pairs.end; i++) {
        const double exponent = -2.0 * (double)i / (double)rope->rotated;
        const double frequency = (double)rope->scale * pow((double)rope->base, exponent);
        frequencies[i - pairs.begin] = factors ? frequency / (double)factors[i] : frequency;
    }
}

// Both elements of a pair are read before either is written: y may be x.
static void rotate_pairs(const weir_rope_desc* rope, const rotation* turn, cpu_span pairs,
                         const float* x, float* y) {
    const bool adjacent = rope->pairing == WEIR_ROPE_ADJACENT;
    const int64_t step = adjacent ? 2 : 1;
    const int64_t partner = adjacent ? 1 : rope->rotated / 2;
    for (int64_t i = pairs.begin; i < pairs.end; i++) {
        const float cosine = turn->cosine[i - pairs.begin];
        const float sine = turn->sine[i - pairs.begin];
        const float first = x[i * step];
        const float second = x[i * step + partner];
        y[i * step] = first * cosine - second * sine;
        y[i * step + partner] = first * sine + second * cosine;
    }
}

// Finds the turn of each pair in [0, count) of a row.
static void find_turn(const double* frequencies, int64_t count, double position, rotation* turn) {
    for (int64_t i = 0; i < count; i++) {
        const double angle = position * frequencies[i];
        turn->cosine[i] = (float)cos(angle);
        turn->sine[i] = (float)sin(angle);
    }
}

static void rotate_rows(const weir_kernel_call* call, const weir_rope_desc* rope, uint64_t position,
                        int64_t target, cpu_span rows, cpu_span pairs) {
    const float* factors = call->operand_count == 3 ? call->pointers[1] : NULL;
    const int64_t width = call->views[0].shape.dims[1];
    double frequencies[PAIRS];
    find_frequencies(rope, factors, pairs, frequencies);
    for (int64_t row = rows.begin; row < rows.end; row++) {
        rotation turn;
        find_turn(frequencies, pairs.end - pairs.begin, (double)position + (double)row, &turn);
        const float* x = cpu_row_f32(call, 0, row);
        float* y = cpu_output_row(call, target + row);
        for (int64_t head = 0; head < width; head += rope->head_dim) {
            rotate_pairs(rope, &turn, pairs, x + head, y + head);
        }
    }
}

static void copy_the_rest(const weir_rope_desc* rope, const float* x, int64_t width, float* y) {
    const size_t rest = (size_t)(rope->head_dim - rope->rotated) * sizeof(float);
    for (int64_t head = rope->rotated; head < width && x != y; head += rope->head_dim) {
        memcpy(y + head, x + head, rest);
    }
}

// The fewest elements that are whole heads and whole blocks of a type.
static int64_t shared_multiple(int64_t head_dim, int64_t block) {
    int64_t a = head_dim;
    int64_t b = block;
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return head_dim / a * block;
}

int64_t weir_cpu_rope_part(const weir_rope_desc* rope, weir_dtype dtype) {
    const int64_t least =
        shared_multiple(rope->head_dim, weir_dtype_describe(dtype)->block_elements);
    return PART / least * least;
}

bool weir_cpu_rope_fits_cache(const weir_rope_desc* rope, weir_dtype dtype) {
    return dtype == WEIR_DTYPE_F32 ||
           (rope->rotated / 2 <= PAIRS && weir_cpu_rope_part(rope, dtype) > 0);
}

// Turns part after part of the rows, and stores each in the type of the output.
static weir_status encode_rows(const weir_kernel_call* call, const weir_rope_desc* rope,
                               uint64_t position, int64_t target, cpu_span rows) {
    const weir_dtype dtype = call->views[call->operand_count - 1].dtype;
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const float* factors = call->operand_count == 3 ? call->pointers[1] : NULL;
    const int64_t width = call->views[0].shape.dims[1];
    const int64_t part = weir_cpu_rope_part(rope, dtype);
    const cpu_span pairs = {0, rope->rotated / 2};
    double frequencies[PAIRS];
    find_frequencies(rope, factors, pairs, frequencies);
    for (int64_t row = rows.begin; row < rows.end; row++) {
        rotation turn;
        find_turn(frequencies, pairs.end, (double)position + (double)row, &turn);
        const float* x = cpu_row_f32(call, 0, row);
        uint8_t* y = cpu_output_bytes(call, target + row);
        for (int64_t begin = 0; begin < width; begin += part) {
            const int64_t length = cpu_min(part, width - begin);
            float turned[PART];
            for (int64_t head = 0; head < length; head += rope->head_dim) {
                rotate_pairs(rope, &turn, pairs, x + begin + head, turned + head);
            }
            copy_the_rest(rope, x + begin, length, turned);
            WEIR_TRY(weir_dtype_from_f32(dtype, turned, length,
                                         y + begin / info->block_elements * info->block_bytes));
        }
    }
    return WEIR_OK;
}

weir_status weir_cpu_rope_tile(const weir_kernel_call* call, const char* name,
                               const weir_rope_desc* rope, int64_t target) {
    uint64_t position = 0;
    WEIR_TRY(cpu_read_param(call, name, rope->position, &position));
    const cpu_span rows = cpu_tile_units(call, call->views[0].shape.dims[0]);
    if (call->views[call->operand_count - 1].dtype != WEIR_DTYPE_F32) {
        return encode_rows(call, rope, position, target, rows);
    }
    const int64_t pair_count = rope->rotated / 2;
    for (int64_t block = 0; block * PAIRS < pair_count && rows.begin < rows.end; block++) {
        rotate_rows(call, rope, position, target, rows, cpu_unit_items(block, PAIRS, pair_count));
    }
    for (int64_t row = rows.begin; row < rows.end; row++) {
        copy_the_rest(rope, cpu_row_f32(call, 0, row), call->views[0].shape.dims[1],
                      cpu_output_row(call, target + row));
    }
    return WEIR_OK;
}

weir_status weir_cpu_rope_run(const weir_kernel_call* call) {
    return weir_cpu_rope_tile(call, "rope", &((const weir_op_constants*)call->constants)->rope, 0);
}
