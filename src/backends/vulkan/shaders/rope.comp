#version 450
// Rotates pairs of each head by position * frequency. An angle may be thousands of turns, so its
// fraction is computed with 48 bits (sums and products of Dekker 1971) and its sine and cosine by
// series: drivers promise far less than f32 for both. An invocation takes one pair. y may lie on x:
// both elements of a pair are read before either is written. Or the rows go into those of a state,
// rounded to its type.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "cache.glsl"

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

// The exact product of two numbers as the sum of two.
vec2 two_product(float a, float b) {
    precise float a_scaled = 4097.0 * a;
    precise float a_high = a_scaled - (a_scaled - a);
    precise float a_low = a - a_high;
    precise float b_scaled = 4097.0 * b;
    precise float b_high = b_scaled - (b_scaled - b);
    precise float b_low = b - b_high;
    precise float product = a * b;
    precise float error =
        ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    return vec2(product, error);
}

// (high + low) / divisor
vec2 divide(vec2 number, float divisor) {
    precise float quotient = number.x / divisor;
    const vec2 back = two_product(quotient, divisor);
    precise float rest = ((number.x - back.x) - back.y) + number.y;
    precise float correction = rest / divisor;
    return vec2(quotient, correction);
}

// The fraction of position * turn as the sum of two numbers, the first in [-0.5, 0.5]. The position is
// cut so that both parts have fewer than 24 bits; what is taken off is a whole number, exactly.
vec2 fraction_of(uint position, vec2 turn) {
    const float low = float(position & 0xFFFu);
    const float high = float(position & ~0xFFFu);
    const vec2 a = two_product(high, turn.x);
    const vec2 b = two_product(low, turn.x);
    precise float a_part = a.x - floor(a.x + 0.5);
    precise float b_part = b.x - floor(b.x + 0.5);
    precise float sum = a_part + b_part;
    precise float b_seen = sum - a_part;
    precise float error = (a_part - (sum - b_seen)) + (b_part - b_seen);
    precise float c = float(position) * turn.y;
    precise float rest = a.y + b.y + (c - floor(c + 0.5)) + error;
    precise float part = sum - floor(sum + 0.5);
    return vec2(part, rest);
}

// Cosine and sine of an angle in turns: series within an eighth of a turn.
vec2 cos_sin(vec2 fraction) {
    precise float quarter = floor(fraction.x * 4.0 + 0.5);
    precise float angle = ((fraction.x - quarter * 0.25) + fraction.y) * 6.28318531;
    precise float square = angle * angle;
    precise float sine = 1.0 / 362880.0;
    sine = sine * square - 1.0 / 5040.0;
    sine = sine * square + 1.0 / 120.0;
    sine = sine * square - 1.0 / 6.0;
    sine = sine * square * angle + angle;
    precise float cosine = -1.0 / 3628800.0;
    cosine = cosine * square + 1.0 / 40320.0;
    cosine = cosine * square - 1.0 / 720.0;
    cosine = cosine * square + 1.0 / 24.0;
    cosine = cosine * square - 0.5;
    cosine = cosine * square + 1.0;
    const int turn = int(quarter) & 3;
    const vec2 even = vec2(cosine, sine);
    const vec2 odd = vec2(-sine, cosine);
    const vec2 found = (turn & 1) == 0 ? even : odd;
    return (turn & 2) == 0 ? found : -found;
}

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
