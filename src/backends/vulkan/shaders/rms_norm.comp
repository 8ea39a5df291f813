#version 450
// y = s / sqrt(mean(s^2) + epsilon), and times a second operand where there is one; s is x, or x and
// an addend, and may be wanted too. One workgroup for a row. y and the sum may lie on x, on the
// addend or on the second operand: the element that an invocation writes is one that it alone has
// read.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"

#define SIZE 256u
#define LANES 16u

layout(local_size_x = SIZE) in;
layout(constant_id = 1) const uint ADDEND = 0u;   // kind, as that of the second operand
layout(constant_id = 2) const uint KEEPS_SUM = 0u;
layout(constant_id = 3) const uint HELD = 0u;     // elements that an invocation keeps; 0: none

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Y { float y[]; };

#define SECOND_CONSTANT 0
#define SECOND_BINDING 3
#include "second.glsl"

// Without them x stands in for the addend and y for the sum.
layout(set = 0, binding = 4, std430) readonly buffer Addend32 { float addend32[]; };
layout(set = 0, binding = 4, std430) readonly buffer Addend16 { uint16_t addend16[]; };
layout(set = 0, binding = 5, std430) writeonly buffer Sum { float sums[]; };

shared float shares[SIZE];
shared vec4 lanes[LANES / 4u];

// Adds in a fixed order: the same bits on every device and for every size of subgroups.
float sum_of_group(float mine) {
    const uint at = gl_LocalInvocationID.x;
    shares[at] = mine;
    barrier();
    if (at < LANES) {
        float sum = 0.0;
        [[unroll]] for (uint i = 0u; i < SIZE / LANES; i++) {
            sum += shares[at + i * LANES];
        }
        lanes[at / 4u][at % 4u] = sum;
    }
    barrier();
    const vec4 sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    return (sum.x + sum.y) + (sum.z + sum.w);
}

float element(uint row, uint i) {
    const float first = x[push.offset[0] + row * push.stride[0] + i];
    if (ADDEND == SECOND_NONE) {
        return first;
    }
    if (ADDEND == SECOND_MATRIX) {
        return first + addend32[push.offset[3] + row * push.stride[3] + i];
    }
    if (ADDEND == SECOND_ROW_F32) {
        return first + addend32[push.offset[3] + i];
    }
    const uint bits = uint(addend16[push.offset[3] + i]);
    return first + (ADDEND == SECOND_ROW_F16 ? half_to_float(bits) : bfloat_to_float(bits));
}

// What a number is multiplied by; 1 without a second operand.
float factor(uint row, uint i) {
    return SECOND == SECOND_NONE ? 1.0 : second_at(2u, row, i);
}

void store(uint row, uint i, float number, float scale, float times) {
    if (KEEPS_SUM == 1u) {
        sums[push.offset[4] + row * push.stride[4] + i] = number;
    }
    precise float scaled = number * scale;
    y[push.offset[1] + row * push.stride[1] + i] = SECOND == SECOND_NONE ? scaled : scaled * times;
}

// What is held is read before anything is written, the factors too: what is written might lie where
// they are, so that each read behind a write would wait for memory by itself.
void main() {
    const uint at = gl_LocalInvocationID.x;
    const uint rows = row_count();
    const float epsilon = uintBitsToFloat(push.extra[0]);
    for (uint row = gl_WorkGroupID.x; row < rows; row += gl_NumWorkGroups.x) {
        float held[HELD + 1u];
        float times[HELD + 1u];
        precise float mine = 0.0;
        [[unroll]] for (uint j = 0u; j < HELD; j++) {
            const uint i = at + j * SIZE;
            held[j] = i < push.width ? element(row, i) : 0.0;
            times[j] = i < push.width ? factor(row, i) : 0.0;
        }
        [[unroll]] for (uint j = 0u; j < HELD; j++) {
            mine = mine + held[j] * held[j];
        }
        for (uint i = at + HELD * SIZE; i < push.width; i += SIZE) {
            const float number = element(row, i);
            mine = mine + number * number;
        }
        precise float mean = sum_of_group(mine) / float(push.width);
        precise float scale = 1.0 / sqrt(mean + epsilon);
        [[unroll]] for (uint j = 0u; j < HELD; j++) {
            const uint i = at + j * SIZE;
            if (i < push.width) {
                store(row, i, held[j], scale, times[j]);
            }
        }
        for (uint i = at + HELD * SIZE; i < push.width; i += SIZE) {
            const float number = element(row, i);
            store(row, i, number, scale, factor(row, i));
        }
    }
}
