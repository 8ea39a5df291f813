#version 450
// y = x / sqrt(mean(x^2) + epsilon), and times a second operand where there is one; one workgroup
// for a row. y may lie on x or on that: the element that an invocation writes is one that it alone
// reads again.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define SIZE 256u

layout(local_size_x = SIZE) in;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y { float y[]; };

#define SECOND_CONSTANT 0
#define SECOND_BINDING 3
#include "second.glsl"

shared float sums[SIZE];

// Halves of fixed order: the same bits on every device and for every size of subgroups.
float sum_of_group(float mine) {
    const uint at = gl_LocalInvocationID.x;
    sums[at] = mine;
    barrier();
    for (uint step = SIZE / 2u; step > 0u; step /= 2u) {
        if (at < step) {
            sums[at] += sums[at + step];
        }
        barrier();
    }
    const float sum = sums[0];
    barrier();
    return sum;
}

void main() {
    const uint rows = row_count();
    const float epsilon = uintBitsToFloat(push.extra[0]);
    for (uint row = gl_WorkGroupID.x; row < rows; row += gl_NumWorkGroups.x) {
        const uint from = push.offset[0] + row * push.stride[0];
        const uint to = push.offset[1] + row * push.stride[1];
        precise float mine = 0.0;
        for (uint i = gl_LocalInvocationID.x; i < push.width; i += SIZE) {
            mine = mine + x[from + i] * x[from + i];
        }
        precise float mean = sum_of_group(mine) / float(push.width);
        precise float scale = 1.0 / sqrt(mean + epsilon);
        for (uint i = gl_LocalInvocationID.x; i < push.width; i += SIZE) {
            precise float scaled = x[from + i] * scale;
            y[to + i] = SECOND == SECOND_NONE ? scaled : scaled * second_at(2u, row, i);
        }
    }
}
