#version 450
// y = x * transpose(w) for few rows of x: a workgroup computes COLUMNS columns of y for all rows, so
// that every weight is read once. Each invocation sums its share of k in rising order, and the
// shares are added in halves: the order does not depend on the device.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#define WEIGHT_BINDING 2
#include "weights.glsl"

#define SIZE 64u
#define COLUMNS 4u
#define ROWS_MAX 4u

layout(local_size_x = SIZE) in;
layout(constant_id = 2) const uint ROWS = 1u;  // upper bound of the rows of x
layout(constant_id = 4) const uint QUADS = 0u; // rows of x begin on 16-byte borders

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer X4 { vec4 x4[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

// What is added to the product; y may lie on it.
#define SECOND_CONSTANT 3
#define SECOND_BINDING 4
#include "second.glsl"

shared float shares[COLUMNS * ROWS_MAX][SIZE];

void add_share(uint k, uint first, inout float sums[COLUMNS * ROWS_MAX]) {
    float left[ROWS_MAX][8];
    for (uint r = 0u; r < ROWS; r++) {
        const uint from = push.offset[0] + r * push.stride[0] + k;
        if (QUADS == 1u && k + 8u <= push.width) {
            const vec4 low = x4[from / 4u];
            const vec4 high = x4[from / 4u + 1u];
            left[r] = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
        } else {
            for (uint i = 0u; i < 8u; i++) {
                left[r][i] = k + i < push.width ? x[from + i] : 0.0;
            }
        }
    }
    for (uint c = 0u; c < COLUMNS; c++) {
        if (first + c < push.columns) {
            float v[8];
            load_weights_within(push.offset[1] + (first + c) * push.stride[1], k, push.width, v);
            for (uint r = 0u; r < ROWS; r++) {
                float sum = 0.0;
                for (uint i = 0u; i < 8u; i++) {
                    sum += left[r][i] * v[i];
                }
                sums[r * COLUMNS + c] += sum;
            }
        }
    }
}

void main() {
    const uint at = gl_LocalInvocationID.x;
    const uint rows = min(row_count(), ROWS);
    const uint first = (gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x) * COLUMNS;
    float sums[COLUMNS * ROWS_MAX];
    for (uint i = 0u; i < COLUMNS * ROWS; i++) {
        sums[i] = 0.0;
    }
    for (uint k = at * 8u; k < push.width; k += SIZE * 8u) {
        add_share(k, first, sums);
    }
    for (uint i = 0u; i < COLUMNS * ROWS; i++) {
        shares[i][at] = sums[i];
    }
    barrier();
    for (uint step = SIZE / 2u; step > 0u; step /= 2u) {
        if (at < step) {
            for (uint i = 0u; i < COLUMNS * ROWS; i++) {
                shares[i][at] += shares[i][at + step];
            }
        }
        barrier();
    }
    const uint row = at / COLUMNS;
    const uint column = first + at % COLUMNS;
    if (row < rows && column < push.columns) {
        const float added = SECOND == SECOND_NONE ? 0.0 : second_at(3u, row, column);
        y[push.offset[2] + row * push.stride[2] + column] = shares[at][0] + added;
    }
}
