#version 450
// y = f(a, b) element by element; b has the shape of a, or is one row for all. y may lie on a or b.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define MUL 0u
#define ADD 1u
#define SILU_GATE 2u

#define B_MATRIX 0u
#define B_ROW_F32 1u
#define B_ROW_F16 2u
#define B_ROW_BF16 3u

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint OPERATION = MUL;
layout(constant_id = 1) const uint B_KIND = B_MATRIX;

layout(set = 0, binding = 1, std430) readonly buffer A { float a[]; };
layout(set = 0, binding = 2, std430) readonly buffer B32 { float b32[]; };
layout(set = 0, binding = 2, std430) readonly buffer B16 { uint16_t b16[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };

float right(uint row, uint column) {
    if (B_KIND == B_MATRIX) {
        return b32[push.offset[1] + row * push.stride[1] + column];
    }
    if (B_KIND == B_ROW_F32) {
        return b32[push.offset[1] + column];
    }
    const uint bits = uint(b16[push.offset[1] + column]);
    return B_KIND == B_ROW_F16 ? half_to_float(bits) : bfloat_to_float(bits);
}

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
        y[push.offset[2] + row * push.stride[2] + column] = combine(left, right(row, column));
    }
}
