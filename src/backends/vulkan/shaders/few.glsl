// What the products with few rows of x share: a workgroup computes COLUMNS columns of y for all
// rows, so that every weight is read once. Each invocation sums its share of k, and the shares are
// added in an order that does not depend on the device.
//
// With a second matrix y = silu(x * transpose(w)) * (x * transpose(up)).
#ifndef FEW_GLSL
#define FEW_GLSL

#extension GL_EXT_control_flow_attributes : require

#define WEIGHT_BINDING 2
#define UP_BINDING 4
#include "weights.glsl"

#define ROUND 8u // sums that are added up together

layout(constant_id = 2) const uint ROWS = 1u;  // upper bound of the rows of x
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders
layout(constant_id = 7) const uint COLUMNS = 4u;
layout(local_size_x_id = 8) in;

const uint SIZE = gl_WorkGroupSize.x; // a multiple of ROUND
const uint LANES = SIZE / ROUND;
const uint MATRICES = UP_TYPE == UP_NONE ? 1u : 2u;
const uint SUMS = ROWS * COLUMNS * MATRICES;
const uint TURNS = (SUMS + ROUND - 1u) / ROUND; // in which they are added up

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

shared float shares[ROUND][SIZE];
shared float partial[ROUND][LANES];

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

void add_and_store(float sums[SUMS], float addends[TURNS]) {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint turn = 0u; turn < TURNS; turn++) {
        const uint begin = turn * ROUND;
        [[unroll]] for (uint i = 0u; i < ROUND; i++) {
            if (begin + i < SUMS) {
                shares[i][at] = sums[begin + i];
            }
        }
        barrier();
        if (begin + at / LANES < SUMS) {
            float sum = 0.0;
            [[unroll]] for (uint i = 0u; i < ROUND; i++) {
                sum += shares[at / LANES][at % LANES + i * LANES];
            }
            partial[at / LANES][at % LANES] = sum;
        }
        barrier();
        uint row = 0u;
        uint column = 0u;
        if (stores(turn, row, column)) {
            const uint sum_at = at * MATRICES;
            store(row, column, total_of(sum_at), MATRICES == 2u ? total_of(sum_at + 1u) : 0.0,
                  addends[turn]);
        }
    }
}

#endif
