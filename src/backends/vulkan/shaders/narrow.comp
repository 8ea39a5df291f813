#version 450
// y[i] = x[i] as f16, rounded to the nearest even, as src/tensor/half.h does it: by integer
// arithmetic alone. Finite values beyond the largest half become that one, and are counted.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;

layout(set = 0, binding = 1, std430) readonly buffer X { uint x[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y { uint16_t y[]; };
layout(set = 0, binding = 3, std430) buffer Fault { uint saturated; uint unused; };

// Rounds mantissa * 2^-shift to the nearest even; 1 <= shift <= 31.
uint shift_to_nearest(uint mantissa, uint shift) {
    const uint odd = (mantissa >> shift) & 1u;
    return (mantissa + (1u << (shift - 1u)) - 1u + odd) >> shift;
}

uint narrow(uint magnitude) {
    if (magnitude > 0x7F800000u) {
        return 0x7E00u | ((magnitude >> 13) & 0x1FFu);
    }
    if (magnitude >= 0x47800000u) { // 65536
        return 0x7C00u;
    }
    if (magnitude >= 0x38800000u) { // 2^-14
        return shift_to_nearest(magnitude - ((127u - 15u) << 23), 13u);
    }
    if (magnitude >= 0x33000000u) { // 2^-25
        return shift_to_nearest((magnitude & 0x007FFFFFu) | 0x00800000u,
                                126u - (magnitude >> 23));
    }
    return 0u;
}

void main() {
    const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    const uint step = gl_NumWorkGroups.x * gl_NumWorkGroups.y * 64u;
    uint cut = 0u;
    for (uint i = group * 64u + gl_LocalInvocationID.x; i < push.rows; i += step) {
        const uint bits = x[push.offset[0] + i];
        const uint magnitude = bits & 0x7FFFFFFFu;
        const bool large = magnitude > 0x477FE000u && magnitude < 0x7F800000u; // 65504
        const uint half_bits = large ? 0x7BFFu : narrow(magnitude);
        y[push.offset[1] + i] = uint16_t(((bits >> 16) & 0x8000u) | half_bits);
        cut += large ? 1u : 0u;
    }
    if (cut > 0u) {
        atomicAdd(saturated, cut);
    }
}
