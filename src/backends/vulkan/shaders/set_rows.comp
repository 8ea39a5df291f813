#version 450
// Copies x into rows [position, position + m) of a state, rounded to its type.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "cache.glsl"

layout(local_size_x = 128) in;

layout(set = 0, binding = 1, std430) readonly buffer X { uint x[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y { uint y[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y16 { uint16_t half_y[]; };

void main() {
    const uint column = gl_GlobalInvocationID.x;
    const uint rows = row_count();
    const uint position = params[push.extra[0]];
    for (uint row = gl_WorkGroupID.y; row < rows && column < push.width;
         row += gl_NumWorkGroups.y) {
        const uint to = push.offset[1] + (position + row) * push.stride[1] + column;
        const uint bits = x[push.offset[0] + row * push.stride[0] + column];
        if (CACHE == CACHE_F32) {
            y[to] = bits;
        } else {
            half_y[to] = uint16_t(to_half(bits));
        }
    }
}
