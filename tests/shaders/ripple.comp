#version 450
// y[i] = x[n - 1 - i] + 1: every element comes from another workgroup. The conformance suite.
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Y { float y[]; };
layout(push_constant, std430) uniform Push { uint count; } push;

void main() {
    const uint i = gl_GlobalInvocationID.x;
    if (i < push.count) {
        y[i] = x[push.count - 1u - i] + 1.0;
    }
}
