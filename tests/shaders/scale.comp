#version 450
// y = factor * x, a caller's kernel of tests/test_vulkan.c.
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Y { float y[]; };
layout(push_constant, std430) uniform Push { float factor; uint count; } push;

void main() {
    const uint i = gl_GlobalInvocationID.x;
    if (i < push.count) {
        y[i] = push.factor * x[i];
    }
}
