#version 450
// y = x * transpose(w) for many rows of x: a workgroup computes a tile of y from tiles of x and of
// decoded w in shared memory. What the next step needs is read while this one is multiplied. An
// element of y is summed in rising order of k.
//
// With a second matrix y = silu(x * transpose(w)) * (x * transpose(up)).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#define WEIGHT_BINDING 2
#define UP_BINDING 4
#include "weights.glsl"

#define SIZE 256u
#define EDGE 16u  // invocations of a side of the tile
#define TILE 64u  // rows, and columns of a plane: four for each invocation
#define DEPTH 32u // elements of k at a time
#define QUADS_OF_STEP (DEPTH / 4u)
#define OCTETS_OF_STEP (DEPTH / 8u)
#define X_SHARES (TILE * QUADS_OF_STEP / SIZE)

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

// Of a step, the rows of x and those of the matrices. The quads of a row change places (place_of),
// so that those of eight neighbouring rows lie in different banks.
shared vec4 left[TILE * QUADS_OF_STEP];
shared vec4 right[PLANES * TILE * QUADS_OF_STEP];

// Of a step, what one invocation carries: neighbours read what lies side by side.
struct share {
    vec4 x[X_SHARES];
    float w[2][8]; // of each plane
};

uint place_of(uint line, uint quad_at) {
    return line * QUADS_OF_STEP + (quad_at ^ line % QUADS_OF_STEP);
}

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

share load_share(uint first_row, uint rows, uint first_column, uint begin) {
    const uint at = gl_LocalInvocationID.x;
    share made;
    [[unroll]] for (uint s = 0u; s < X_SHARES; s++) {
        const uint i = at + s * SIZE;
        made.x[s] = load_x(first_row + i / QUADS_OF_STEP, rows, begin + i % QUADS_OF_STEP * 4u);
    }
    [[unroll]] for (uint p = 0u; p < PLANES; p++) {
        const uint column = first_column + (MATRICES == 1u ? p * TILE : 0u) + at / OCTETS_OF_STEP;
        load_w(MATRICES == 1u ? 0u : p, column, begin + at % OCTETS_OF_STEP * 8u, made.w[p]);
    }
    return made;
}

void put_share(share held) {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint s = 0u; s < X_SHARES; s++) {
        const uint i = at + s * SIZE;
        left[place_of(i / QUADS_OF_STEP, i % QUADS_OF_STEP)] = held.x[s];
    }
    [[unroll]] for (uint p = 0u; p < PLANES; p++) {
        const uint line = p * TILE + at / OCTETS_OF_STEP;
        const uint quad_at = at % OCTETS_OF_STEP * 2u;
        const float w[8] = held.w[p];
        right[place_of(line, quad_at)] = vec4(w[0], w[1], w[2], w[3]);
        right[place_of(line, quad_at + 1u)] = vec4(w[4], w[5], w[6], w[7]);
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

// Component j of sums[p][i] is row i and column j of plane p.
void multiply(uvec2 corner, inout vec4 sums[PLANES][4]) {
    [[dont_unroll]] for (uint q = 0u; q < QUADS_OF_STEP; q++) {
        vec4 a[4];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            a[i] = left[place_of(corner.x + i * EDGE, q)];
        }
        [[unroll]] for (uint j = 0u; j < 4u * PLANES; j++) {
            const vec4 b = right[place_of(corner.y + j * EDGE, q)];
            [[unroll]] for (uint i = 0u; i < 4u; i++) {
                float sum = sums[j / 4u][i][j % 4u];
                sum += a[i].x * b.x;
                sum += a[i].y * b.y;
                sum += a[i].z * b.z;
                sum += a[i].w * b.w;
                sums[j / 4u][i][j % 4u] = sum;
            }
        }
    }
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

void main() {
    const uint rows = row_count();
    const uint first_column = gl_WorkGroupID.x * TILE_COLUMNS;
    for (uint first_row = gl_WorkGroupID.y * TILE; first_row < rows;
         first_row += gl_NumWorkGroups.y * TILE) {
        vec4 sums[PLANES][4];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            [[unroll]] for (uint p = 0u; p < PLANES; p++) {
                sums[p][i] = vec4(0.0);
            }
        }
        share held = load_share(first_row, rows, first_column, 0u);
        for (uint begin = 0u; begin < push.width; begin += DEPTH) {
            put_share(held);
            barrier();
            if (begin + DEPTH < push.width) {
                held = load_share(first_row, rows, first_column, begin + DEPTH);
            }
            multiply(corner(), sums);
            barrier(); // the tiles are replaced next
        }
        store_tile(uvec2(first_row, first_column) + corner(), rows, sums);
    }
}
