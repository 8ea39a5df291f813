// What products in tiles share: how they are cut, what they read and store. Whoever includes this
// has share, load_share, put_share, multiply and free_tiles, and then main from tile_main.glsl.
#ifndef TILES_GLSL
#define TILES_GLSL

#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#define WEIGHT_BINDING 2
#define UP_BINDING 4
#include "weights.glsl"

#define SIZE 256u
#define EDGE 16u  // invocations of a side of the tile
#define TILE 64u  // rows, and columns of a plane: four for each invocation
#define DEPTH 32u // elements of k at a time
#define OCTETS_OF_STEP (DEPTH / 8u)

layout(local_size_x = SIZE) in;
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders
// Fours of columns of each matrix, for each invocation. There are as many planes of a tile as
// matrices times fours: two at most.
layout(constant_id = 7) const uint FOURS = 1u;

const uint MATRICES = UP_TYPE == UP_NONE ? 1u : 2u;
const uint PLANES = MATRICES * FOURS;
const uint TILE_COLUMNS = TILE * FOURS;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

vec4 load_x(uint row, uint rows, uint k) {
    const uint from = push.offset[0] + row * push.stride[0] + k;
    if (row >= rows) {
        return vec4(0.0);
    }
    if (QUADS == 1u && k + 4u <= push.width) {
        return x4[from / 4u];
    }
    vec4 four = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        if (k + i < push.width) {
            four[i] = x[from + i];
        }
    }
    return four;
}

// Eight elements of a row of matrix `m`, which is a constant.
void load_w(uint m, uint column, uint k, out float v[8]) {
    const uint operand = m == 0u ? 1u : 3u;
    if (column < push.columns && k < push.width) {
        load_weights_within(m, push.offset[operand] + column * push.stride[operand], k, push.width,
                            v);
        return;
    }
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        v[i] = 0.0;
    }
}

// The first row and column of the tile that are for this invocation; it has every sixteenth. 32
// neighbours have 4 rows and 8 columns, and two that differ in one of the lowest bits of their
// number have the same row or the same column: so they share what they read.
uvec2 corner() {
    const uint at = gl_LocalInvocationID.x;
    const uint row = (at >> 1 & 1u) | (at >> 4 & 1u) << 1 | (at >> 6) << 2;
    const uint column = (at & 1u) | (at >> 2 & 3u) << 1 | (at >> 5 & 1u) << 3;
    return uvec2(row, column);
}

// `gated` is the sum of the second matrix.
void store(uint row, uint column, float sum, float gated) {
    float number = sum;
    if (MATRICES == 2u) {
        number = sum / (1.0 + exp_exact(-sum)) * gated;
    } else if (SECOND != SECOND_NONE) {
        number += second_at(3u, row, column);
    }
    y[push.offset[2] + row * push.stride[2] + column] = number;
}

// `corner` is that of y.
void store_tile(uvec2 corner, uint rows, vec4 sums[PLANES][4]) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        const uint row = corner.x + i * EDGE;
        [[unroll]] for (uint j = 0u; j < 4u * FOURS; j++) {
            const uint column = corner.y + j * EDGE;
            if (row < rows && column < push.columns) {
                store(row, column, sums[j / 4u][i][j % 4u], sums[PLANES - 1u][i][j % 4u]);
            }
        }
    }
}

#endif
