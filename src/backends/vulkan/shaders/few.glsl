// What the products with few rows of x share: a workgroup computes COLUMNS columns of y for all
// rows, so that every weight is read once. Each invocation sums its share of k, and the shares are
// added in an order that does not depend on the device.
//
// With a second matrix y = silu(x * transpose(w)) * (x * transpose(up)).
//
// With factors x is normalised: what is multiplied is x times its factor, and what was added up is
// divided by sqrt(mean(x^2) + epsilon) in the end. Every workgroup sees all of x, and so finds that
// for itself.
#ifndef FEW_GLSL
#define FEW_GLSL

#extension GL_EXT_control_flow_attributes : require

#define WEIGHT_BINDING 2
#define UP_BINDING 4
#include "weights.glsl"

#define ROUND 8u // sums that are added up together

#define FACTORS_NONE 0u
#define FACTORS_QUADS 1u // of f32, on 16-byte borders
#define FACTORS_F32 2u
#define FACTORS_F16 3u
#define FACTORS_BF16 4u
#define FACTOR_SLOT 4u // of their offset
#define EPSILON push.extra[0]

layout(constant_id = 2) const uint ROWS = 1u;  // upper bound of the rows of x
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders
layout(constant_id = 7) const uint COLUMNS = 4u;
layout(local_size_x_id = 8) in;
layout(constant_id = 10) const uint FACTORS = FACTORS_NONE;

const uint SIZE = gl_WorkGroupSize.x; // a multiple of ROUND
const uint LANES = SIZE / ROUND;
const uint MATRICES = UP_TYPE == UP_NONE ? 1u : 2u;
const uint SUMS = ROWS * COLUMNS * MATRICES;
const uint TURNS = (SUMS + ROUND - 1u) / ROUND; // in which they are added up

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// Without factors x is bound.
layout(set = 0, binding = 5, std430) readonly buffer Factors4 { vec4 factors4[]; };
layout(set = 0, binding = 5, std430) readonly buffer Factors32 { float factors32[]; };
layout(set = 0, binding = 5, std430) readonly buffer Factors16 { uint16_t factors16[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

shared float shares[ROUND][SIZE];
shared float partial[ROUND][LANES];

// Of the squares of x, added up beside the first sums.
shared float square_shares[ROWS][FACTORS == FACTORS_NONE ? 1u : SIZE];
shared float square_partial[ROWS][FACTORS == FACTORS_NONE ? 1u : LANES];

uint first_column() {
    return (gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x) * COLUMNS;
}

// Where the row of matrix `m` begins that column `c` of this workgroup takes. Columns behind the
// last one take its row and are not stored.
uint row_at(uint m, uint c) {
    const uint slot = m == 0u ? 1u : 3u;
    return push.offset[slot] + min(first_column() + c, push.columns - 1u) * push.stride[slot];
}

// The number of a sum, those of the two matrices side by side.
uint sum_of(uint row, uint c, uint m) {
    return (row * COLUMNS + c) * MATRICES + m;
}

// The row of x and the column of y that an invocation stores in a turn; false for none.
bool stores(uint turn, out uint row, out uint column) {
    const uint begins_at = gl_LocalInvocationID.x * MATRICES;
    const uint element = (turn * ROUND + begins_at) / MATRICES;
    row = element / COLUMNS;
    column = first_column() + element % COLUMNS;
    return begins_at < ROUND && turn * ROUND + begins_at < SUMS && row < row_count() &&
           column < push.columns;
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

// What an invocation will add to what it stores: read first, since it arrives while the product is
// computed. y may lie on it: only what an invocation has read itself is written.
void load_addends(out float addends[TURNS]) {
    [[unroll]] for (uint turn = 0u; turn < TURNS; turn++) {
        uint row = 0u;
        uint column = 0u;
        addends[turn] = 0.0;
        if (SECOND != SECOND_NONE && stores(turn, row, column)) {
            addends[turn] = second_at(3u, row, column);
        }
    }
}

void store(uint row, uint column, float sum, float up, float addend) {
    float number = sum;
    if (MATRICES == 2u) {
        number = sum / (1.0 + exp_exact(-sum)) * up;
    } else if (SECOND != SECOND_NONE) {
        number += addend;
    }
    y[push.offset[2] + row * push.stride[2] + column] = number;
}

float total_of(uint at) {
    float total = 0.0;
    for (uint i = 0u; i < LANES; i++) {
        total += partial[at][i];
    }
    return total;
}

// The number that the sums of a row are multiplied by; `square_partial` is complete.
float scale_of(uint row) {
    if (FACTORS == FACTORS_NONE) {
        return 1.0;
    }
    precise float total = 0.0;
    for (uint i = 0u; i < LANES; i++) {
        total += square_partial[row][i];
    }
    precise float scale = 1.0 / sqrt(total / float(push.width) + uintBitsToFloat(EPSILON));
    return scale;
}

void share_squares(float squares[ROWS]) {
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        square_shares[row][gl_LocalInvocationID.x] = squares[row];
    }
}

void add_squares() {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        if (at / LANES == row) { // there are at least as many lanes eight times as rows
            float sum = 0.0;
            [[unroll]] for (uint i = 0u; i < ROUND; i++) {
                sum += square_shares[row][at % LANES + i * LANES];
            }
            square_partial[row][at % LANES] = sum;
        }
    }
}

// `squares` are the shares of the sums of the squares of x.
void add_and_store(float sums[SUMS], float squares[ROWS], float addends[TURNS]) {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint turn = 0u; turn < TURNS; turn++) {
        const uint begin = turn * ROUND;
        [[unroll]] for (uint i = 0u; i < ROUND; i++) {
            if (begin + i < SUMS) {
                shares[i][at] = sums[begin + i];
            }
        }
        if (FACTORS != FACTORS_NONE && turn == 0u) {
            share_squares(squares);
        }
        barrier();
        if (begin + at / LANES < SUMS) {
            float sum = 0.0;
            [[unroll]] for (uint i = 0u; i < ROUND; i++) {
                sum += shares[at / LANES][at % LANES + i * LANES];
            }
            partial[at / LANES][at % LANES] = sum;
        }
        if (FACTORS != FACTORS_NONE && turn == 0u) {
            add_squares();
        }
        barrier();
        uint row = 0u;
        uint column = 0u;
        if (stores(turn, row, column)) {
            const uint sum_at = at * MATRICES;
            const float scale = scale_of(row);
            store(row, column, total_of(sum_at) * scale,
                  MATRICES == 2u ? total_of(sum_at + 1u) * scale : 0.0, addends[turn]);
        }
    }
}

#endif
