// What the products with few rows of x share: a workgroup (or a team of invocations in it that keeps
// x, held_products.glsl) computes COLUMNS columns of y for all rows, so that every weight is read
// once. Each invocation sums its share of k, and the shares are added in an order that does not
// depend on the device.
//
// With a second matrix y = silu(x * transpose(w)) * (x * transpose(up)).
//
// With factors x is normalised: what is multiplied is x times its factor, and what was added up is
// divided by sqrt(mean(x^2) + epsilon) in the end. Every workgroup sees all of x, and so finds that
// for itself.
//
// With a rotation pairs of columns are turned (RoPE) before they are stored, and y may be rows of a
// cache.
#ifndef FEW_GLSL
#define FEW_GLSL

#extension GL_EXT_control_flow_attributes : require

#define WEIGHT_BINDING 2
#define UP_BINDING 4
#include "weights.glsl"
#define CACHE_CONSTANT 11
#include "cache.glsl"
#include "turns.glsl"

#define FACTORS_NONE 0u
#define FACTORS_QUADS 1u // of f32, on 16-byte borders
#define FACTORS_F32 2u
#define FACTORS_F16 3u
#define FACTORS_BF16 4u
#define FACTOR_SLOT 4u // of their offset
#define EPSILON push.extra[0]

#define ROTATION_NONE 0u
#define ROTATION_ADJACENT 1u // pairs (2i, 2i + 1) of a head
#define ROTATION_HALVES 2u   // (i, i + PAIRS)
#define PAIRS push.extra[1]  // of a head that turn
#define POSITION push.extra[2] // its parameter
#define HAS_DIVISORS push.extra[3]
#define STATE_POSITION push.extra[4] // parameter: the first row of y; NONE: 0
#define DIVISOR_SLOT 5u

layout(constant_id = 2) const uint ROWS = 1u;  // upper bound of the rows of x
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders
layout(constant_id = 7) const uint COLUMNS = 4u;
layout(local_size_x_id = 8) in;
layout(constant_id = 10) const uint FACTORS = FACTORS_NONE;
layout(constant_id = 12) const uint ROTATION = ROTATION_NONE;
layout(constant_id = 13) const uint HEAD_DIM = 2u; // even

const uint SIZE = gl_WorkGroupSize.x; // a multiple of 32
const uint MATRICES = UP_TYPE == UP_NONE ? 1u : 2u;
const uint SUMS = ROWS * COLUMNS * MATRICES;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y16 { uint16_t half_y[]; };

// Without factors x is bound.
layout(set = 0, binding = 5, std430) readonly buffer Factors4 { vec4 factors4[]; };
layout(set = 0, binding = 5, std430) readonly buffer Factors32 { float factors32[]; };
layout(set = 0, binding = 5, std430) readonly buffer Factors16 { uint16_t factors16[]; };

// Of a rotation: what divides the turns per position of each pair, and these. Otherwise x is bound.
layout(set = 0, binding = 6, std430) readonly buffer Divisors { float divisors[]; };
layout(set = 0, binding = 7, std430) readonly buffer Rates { vec2 rates[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

// The column that a slot stands for: the two of a pair that turns are neighbours, an even slot and
// the odd one behind it.
uint column_of(uint slot) {
    const uint element = ROTATION == ROTATION_HALVES ? slot % HEAD_DIM : 0u;
    return ROTATION == ROTATION_HALVES && element < 2u * PAIRS
               ? slot - element + element / 2u + element % 2u * PAIRS
               : slot;
}

// Where the row of matrix `m` begins that a slot takes. Slots behind the last one take its row and
// are not stored.
uint row_of(uint m, uint slot) {
    const uint operand = m == 0u ? 1u : 3u;
    return push.offset[operand] + column_of(min(slot, push.columns - 1u)) * push.stride[operand];
}

// The number of a sum, those of the two matrices side by side.
uint sum_of(uint row, uint c, uint m) {
    return (row * COLUMNS + c) * MATRICES + m;
}

// The factor of element k of x, and those of a quad of it.
float factor_at(uint k) {
    const uint at = push.offset[FACTOR_SLOT] + k;
    if (FACTORS == FACTORS_QUADS || FACTORS == FACTORS_F32) {
        return factors32[at];
    }
    const uint bits = uint(factors16[at]);
    return FACTORS == FACTORS_F16 ? half_to_float(bits) : bfloat_to_float(bits);
}

vec4 factors_of(uint quad) {
    if (FACTORS == FACTORS_QUADS) {
        return factors4[push.offset[FACTOR_SLOT] / 4u + quad];
    }
    const uint k = quad * 4u;
    return vec4(factor_at(k), factor_at(k + 1u), factor_at(k + 2u), factor_at(k + 3u));
}

// What sums are multiplied by where x is normalised; `total` is the sum of the squares of x.
float scale_of_squares(float total) {
    precise float scale = 1.0 / sqrt(total / float(push.width) + uintBitsToFloat(EPSILON));
    return scale;
}

// What an invocation needs for what it stores in a turn besides the product: what is added, or the
// turns per position of a pair, their divisor and the position; and the first row of y.
struct ending {
    uint first_row;
    float addend;
    float divisor;
    vec2 rate;
    uint position;
};

ending ending_of(uint row, uint slot) {
    ending made = ending(STATE_POSITION == NONE ? 0u : params[STATE_POSITION], 0.0, 1.0, vec2(0.0),
                         0u);
    if (SECOND != SECOND_NONE) {
        made.addend = second_at(3u, row, slot);
    }
    if (ROTATION != ROTATION_NONE && slot % HEAD_DIM < 2u * PAIRS) {
        const uint pair = slot % HEAD_DIM / 2u;
        made.position = params[POSITION] + row;
        made.rate = rates[pair];
        if (HAS_DIVISORS == 1u) {
            made.divisor = divisors[push.offset[DIVISOR_SLOT] + pair];
        }
    }
    return made;
}

// One number of a pair, of which the other is `other`.
float turned(uint slot, float number, float other, ending with) {
    if (slot % HEAD_DIM >= 2u * PAIRS) {
        return number;
    }
    const vec2 rate = HAS_DIVISORS == 1u ? divide(with.rate, with.divisor) : with.rate;
    const vec2 turn = cos_sin(fraction_of(with.position, rate));
    precise float result = slot % 2u == 0u ? number * turn.x - other * turn.y
                                           : other * turn.y + number * turn.x;
    return result;
}

// `other` is the sum of the second matrix, or of the other column of a pair.
void store(uint row, uint slot, float sum, float other, ending with) {
    float number = sum;
    if (MATRICES == 2u) {
        number = sum / (1.0 + exp_exact(-sum)) * other;
    } else if (SECOND != SECOND_NONE) {
        number += with.addend;
    } else if (ROTATION != ROTATION_NONE) {
        number = turned(slot, sum, other, with);
    }
    const uint to = push.offset[2] + (with.first_row + row) * push.stride[2] + column_of(slot);
    if (CACHE == CACHE_F32) {
        y[to] = number;
    } else {
        half_y[to] = uint16_t(to_half(floatBitsToUint(number)));
    }
}

#endif
