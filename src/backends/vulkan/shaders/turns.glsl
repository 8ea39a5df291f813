// Cosine and sine of position * frequency. An angle may be thousands of turns, so its fraction is
// computed with 48 bits (sums and products of Dekker 1971) and its sine and cosine by series: drivers
// promise far less than f32 for both.
#ifndef TURNS_GLSL
#define TURNS_GLSL

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

#endif
