#version 450
// Rotates pairs of each head by position * frequency. An invocation takes one pair. y may lie on x:
// both elements of a pair are read before either is written. Or the rows go into those of a state,
// rounded to its type.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "cache.glsl"
#include "turns.glsl"

#define PAIRS push.extra[0]      // of a head that turn
#define HEADS push.extra[1]
#define HEAD_DIM push.extra[2]
#define ADJACENT push.extra[3]   // 1: pairs (2i, 2i + 1); 0: (i, i + PAIRS)
#define POSITION push.extra[4]   // its parameter
#define HAS_FACTORS push.extra[5]
#define STATE_POSITION push.extra[6] // parameter: the first row of y; NONE: 0

layout(local_size_x = 64) in;

layout(set = 0, binding = 1, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 2, std430) readonly buffer Factors { float factors[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y16 { uint16_t half_y[]; };
layout(set = 0, binding = 4, std430) readonly buffer Turns { vec2 turns[]; }; // per position

void store(uint to, float number) {
    if (CACHE == CACHE_F32) {
        y[to] = number;
    } else {
        half_y[to] = uint16_t(to_half(floatBitsToUint(number)));
    }
}

void main() {
    const uint rows = row_count();
    const uint slots = HEAD_DIM - PAIRS; // of a head: its pairs, then elements that stay as they are
    const uint head = gl_GlobalInvocationID.x / slots;
    const uint i = gl_GlobalInvocationID.x % slots;
    const uint first_row = STATE_POSITION == NONE ? 0u : params[STATE_POSITION];
    for (uint row = gl_WorkGroupID.y; row < rows && head < HEADS; row += gl_NumWorkGroups.y) {
        const uint from = push.offset[0] + row * push.stride[0] + head * HEAD_DIM;
        const uint to = push.offset[2] + (first_row + row) * push.stride[2] + head * HEAD_DIM;
        if (i >= PAIRS) {
            store(to + i + PAIRS, x[from + i + PAIRS]);
            continue;
        }
        const uint first = ADJACENT == 1u ? 2u * i : i;
        const uint second = ADJACENT == 1u ? 2u * i + 1u : i + PAIRS;
        const float a = x[from + first];
        const float b = x[from + second];
        vec2 turn = turns[i];
        if (HAS_FACTORS == 1u) {
            turn = divide(turn, factors[push.offset[1] + i]);
        }
        const vec2 turned = cos_sin(fraction_of(params[POSITION] + row, turn));
        precise float turned_first = a * turned.x - b * turned.y;
        precise float turned_second = a * turned.y + b * turned.x;
        store(to + first, turned_first);
        store(to + second, turned_second);
    }
}
