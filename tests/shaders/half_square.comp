#version 450
// y = x * x in arithmetic of 16 bits, a caller's kernel of tests/test_vulkan.c.
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer X { f16vec2 x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Y { f16vec2 y[]; };
layout(push_constant, std430) uniform Push { uint pairs; } push;

void main() {
    const uint i = gl_GlobalInvocationID.x;
    if (i < push.pairs) {
        y[i] = x[i] * x[i];
    }
}
