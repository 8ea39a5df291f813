#version 450
// y[0] = x[0] after a long walk that nothing can shorten. The conformance suite.
layout(local_size_x = 1) in;
layout(set = 0, binding = 0, std430) readonly buffer X { uint x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Y { uint y[]; };
layout(push_constant, std430) uniform Push { uint steps; } push;

void main() {
    uint state = x[0] | 1u;
    for (uint i = 0u; i < push.steps; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
    }
    y[0] = state != 0u ? x[0] : 0u; // xorshift32 (Marsaglia 2003) never comes to 0
}
