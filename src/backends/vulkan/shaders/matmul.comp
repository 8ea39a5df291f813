#version 450
// y = x * transpose(w) for many rows of x: a workgroup computes a tile of y from tiles of x and of
// decoded w in shared memory. An element of y is summed in rising order of k.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#define WEIGHT_BINDING 2
#include "weights.glsl"

#define SIZE 256u
#define TILE_ROWS 32u
#define TILE_COLUMNS 64u
#define DEPTH 32u // elements of k at a time

layout(local_size_x = SIZE) in;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

shared float left[DEPTH][TILE_ROWS + 1u];
shared float right[DEPTH][TILE_COLUMNS + 1u];

void load_left(uint first_row, uint rows, uint begin) {
    for (uint i = gl_LocalInvocationID.x; i < TILE_ROWS * DEPTH; i += SIZE) {
        const uint row = i / DEPTH;
        const uint k = i % DEPTH;
        const bool inside = first_row + row < rows && begin + k < push.width;
        left[k][row] =
            inside ? x[push.offset[0] + (first_row + row) * push.stride[0] + begin + k] : 0.0;
    }
}

// Eight elements for each invocation.
void load_right(uint first_column, uint begin) {
    const uint column = gl_LocalInvocationID.x / (DEPTH / 8u);
    const uint k = gl_LocalInvocationID.x % (DEPTH / 8u) * 8u;
    float v[8];
    if (first_column + column < push.columns && begin + k < push.width) {
        load_weights_within(push.offset[1] + (first_column + column) * push.stride[1], begin + k,
                            push.width, v);
    } else {
        for (uint i = 0u; i < 8u; i++) {
            v[i] = 0.0;
        }
    }
    for (uint i = 0u; i < 8u; i++) {
        right[k + i][column] = v[i];
    }
}

// Two rows and four columns, as far apart as the invocations are many, so that neighbours read
// neighbouring words.
void multiply(inout float sums[8]) {
    const uint row = gl_LocalInvocationID.x / 16u;
    const uint column = gl_LocalInvocationID.x % 16u;
    for (uint k = 0u; k < DEPTH; k++) {
        const float a = left[k][row];
        const float b = left[k][row + 16u];
        for (uint i = 0u; i < 4u; i++) {
            const float w = right[k][column + i * 16u];
            sums[i] += a * w;
            sums[i + 4u] += b * w;
        }
    }
}

void store(uint first_row, uint rows, uint first_column, float sums[8]) {
    for (uint i = 0u; i < 8u; i++) {
        const uint row = first_row + gl_LocalInvocationID.x / 16u + i / 4u * 16u;
        const uint column = first_column + gl_LocalInvocationID.x % 16u + i % 4u * 16u;
        if (row < rows && column < push.columns) {
            const float added = SECOND == SECOND_NONE ? 0.0 : second_at(3u, row, column);
            y[push.offset[2] + row * push.stride[2] + column] = sums[i] + added;
        }
    }
}

void main() {
    const uint rows = row_count();
    const uint first_column = gl_WorkGroupID.x * TILE_COLUMNS;
    for (uint first_row = gl_WorkGroupID.y * TILE_ROWS; first_row < rows;
         first_row += gl_NumWorkGroups.y * TILE_ROWS) {
        float sums[8];
        for (uint i = 0u; i < 8u; i++) {
            sums[i] = 0.0;
        }
        for (uint begin = 0u; begin < push.width; begin += DEPTH) {
            load_left(first_row, rows, begin);
            load_right(first_column, begin);
            barrier();
            multiply(sums);
            barrier();
        }
        store(first_row, rows, first_column, sums);
    }
}
