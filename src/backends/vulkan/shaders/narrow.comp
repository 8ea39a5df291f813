#version 450
// y[i] = x[i] as f16, rounded to the nearest even, as src/tensor/half.h does it. Finite
// values beyond the largest half become that one, and are counted.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"

layout(local_size_x = 64) in;

layout(set = 0, binding = 1, std430) readonly buffer X { uint x[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y { uint16_t y[]; };
layout(set = 0, binding = 3, std430) buffer Fault { uint saturated; uint unused; };

void main() {
    const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    const uint step = gl_NumWorkGroups.x * gl_NumWorkGroups.y * 64u;
    uint cut = 0u;
    for (uint i = group * 64u + gl_LocalInvocationID.x; i < push.rows; i += step) {
        const uint bits = x[push.offset[0] + i];
        const uint magnitude = bits & 0x7FFFFFFFu;
        const bool large = magnitude > 0x477FE000u && magnitude < 0x7F800000u; // 65504
        const uint half_bits = large ? 0x7BFFu : narrow_magnitude(magnitude);
        y[push.offset[1] + i] = uint16_t(((bits >> 16) & 0x8000u) | half_bits);
        cut += large ? 1u : 0u;
    }
    if (cut > 0u) {
        atomicAdd(saturated, cut);
    }
}
