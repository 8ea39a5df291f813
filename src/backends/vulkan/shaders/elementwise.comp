#version 450
// y = f(a, b) element by element; b has the shape of a, or is one row for all. y may lie on a or b.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define MUL 0u
#define ADD 1u
#define SILU_GATE 2u

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint OPERATION = MUL;

#define SECOND_CONSTANT 1
#define SECOND_BINDING 2
#include "second.glsl"

layout(set = 0, binding = 1, std430) readonly buffer A { float a[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

float combine(float left, float other) {
    if (OPERATION == MUL) {
        return left * other;
    }
    if (OPERATION == ADD) {
        return left + other;
    }
    return left / (1.0 + exp_exact(-left)) * other;
}

void main() {
    const uint column = gl_GlobalInvocationID.x;
    const uint rows = row_count();
    for (uint row = gl_WorkGroupID.y; row < rows && column < push.width;
         row += gl_NumWorkGroups.y) {
        const float left = a[push.offset[0] + row * push.stride[0] + column];
        y[push.offset[2] + row * push.stride[2] + column] = combine(left, second_at(1u, row, column));
    }
}
