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
#define TILE 64u  // rows and columns
#define DEPTH 32u // elements of k at a time

layout(local_size_x = SIZE) in;
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders

const uint MATRICES = UP_TYPE == UP_NONE ? 1u : 2u;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

shared vec4 left[DEPTH][TILE / 4u];
shared vec4 right[MATRICES][DEPTH][TILE / 4u];

// Of a step, what one invocation carries: eight elements of a row of x and of each matrix.
struct share {
    float x[8];
    float w[2][8];
};

void load_left(uint row, uint rows, uint k, out float v[8]) {
    const uint from = push.offset[0] + row * push.stride[0] + k;
    if (QUADS == 1u && row < rows && k + 8u <= push.width) {
        const vec4 low = x4[from / 4u];
        const vec4 high = x4[from / 4u + 1u];
        v = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
        return;
    }
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        v[i] = row < rows && k + i < push.width ? x[from + i] : 0.0;
    }
}

share load_share(uint first_row, uint rows, uint first_column, uint begin) {
    const uint line = gl_LocalInvocationID.x % TILE;
    const uint k = begin + gl_LocalInvocationID.x / TILE * 8u;
    share made;
    load_left(first_row + line, rows, k, made.x);
    [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
        const uint slot = m == 0u ? 1u : 3u;
        if (first_column + line < push.columns && k < push.width) {
            load_weights_within(m, push.offset[slot] + (first_column + line) * push.stride[slot], k,
                                push.width, made.w[m]);
        } else {
            [[unroll]] for (uint i = 0u; i < 8u; i++) {
                made.w[m][i] = 0.0;
            }
        }
    }
    return made;
}

void put_share(share held) {
    const uint line = gl_LocalInvocationID.x % TILE;
    const uint k = gl_LocalInvocationID.x / TILE * 8u;
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        left[k + i][line / 4u][line % 4u] = held.x[i];
        [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
            right[m][k + i][line / 4u][line % 4u] = held.w[m][i];
        }
    }
}

// Four rows and four columns for each invocation.
void multiply(inout vec4 sums[MATRICES][4]) {
    const uint row = gl_LocalInvocationID.x / 16u;
    const uint column = gl_LocalInvocationID.x % 16u;
    for (uint k = 0u; k < DEPTH; k++) {
        const vec4 a = left[k][row];
        [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
            const vec4 b = right[m][k][column];
            [[unroll]] for (uint i = 0u; i < 4u; i++) {
                sums[m][i] += a[i] * b;
            }
        }
    }
}

void store(uint first_row, uint rows, uint first_column, vec4 sums[MATRICES][4]) {
    [[unroll]] for (uint i = 0u; i < 16u; i++) {
        const uint row = first_row + gl_LocalInvocationID.x / 16u * 4u + i / 4u;
        const uint column = first_column + gl_LocalInvocationID.x % 16u * 4u + i % 4u;
        if (row < rows && column < push.columns) {
            float number = sums[0][i / 4u][i % 4u];
            if (MATRICES == 2u) {
                number = number / (1.0 + exp_exact(-number)) * sums[MATRICES - 1u][i / 4u][i % 4u];
            } else if (SECOND != SECOND_NONE) {
                number += second_at(3u, row, column);
            }
            y[push.offset[2] + row * push.stride[2] + column] = number;
        }
    }
}

void main() {
    const uint rows = row_count();
    const uint first_column = gl_WorkGroupID.x * TILE;
    for (uint first_row = gl_WorkGroupID.y * TILE; first_row < rows;
         first_row += gl_NumWorkGroups.y * TILE) {
        vec4 sums[MATRICES][4];
        [[unroll]] for (uint i = 0u; i < 4u * MATRICES; i++) {
            sums[i / 4u][i % 4u] = vec4(0.0);
        }
        share held = load_share(first_row, rows, first_column, 0u);
        for (uint begin = 0u; begin < push.width; begin += DEPTH) {
            put_share(held);
            barrier();
            if (begin + DEPTH < push.width) {
                held = load_share(first_row, rows, first_column, begin + DEPTH);
            }
            multiply(sums);
            barrier(); // the tiles are replaced next
        }
        store(first_row, rows, first_column, sums);
    }
}
