// The 16-bit floats, converted with integer arithmetic alone, so that neither rounding mode nor
// flush-to-zero changes a bit. All four are branch-free or nearly so: loops over them vectorise.
#ifndef WEIR_TENSOR_HALF_H
#define WEIR_TENSOR_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static inline uint32_t float_to_bits(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

// Picks one of two numbers by masks: compilers do not vectorise a choice that they see as a branch
// round floating-point arithmetic.
static inline uint32_t pick_bits(bool first, uint32_t a, uint32_t b) {
    const uint32_t mask = 0u - (uint32_t)first;
    return (a & mask) | (b & ~mask);
}

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. Exact; a NaN comes out quiet.
static inline float f16_widen(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t magnitude = half & 0x7FFFu;
    const uint32_t fraction = magnitude & 0x3FFu;
    // Subnormals count units of 2^-24, which an f32 holds as a normal number.
    const uint32_t subnormal = float_to_bits((float)(int32_t)fraction * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + ((127u - 15u) << 23);
    const uint32_t quiet = pick_bits(fraction != 0, 0x00400000u, 0);
    const uint32_t special = 0x7F800000u | (fraction << 13) | quiet;
    const uint32_t finite = pick_bits(magnitude < 0x0400u, subnormal, normal);
    return float_from_bits(sign | pick_bits(magnitude >= 0x7C00u, special, finite));
}

// Rounds `mantissa` * 2^-shift to nearest even; 1 <= shift <= 31.
static inline uint32_t shift_to_nearest(uint32_t mantissa, uint32_t shift) {
    const uint32_t odd = (mantissa >> shift) & 1u;
    return (mantissa + (1u << (shift - 1)) - 1u + odd) >> shift;
}

static inline uint16_t f16_narrow(float number) {
    const uint32_t bits = float_to_bits(number);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t half = 0;
    if (magnitude > 0x7F800000u) {
        half = 0x7E00u | ((magnitude >> 13) & 0x1FFu);
    } else if (magnitude >= 0x47800000u) { // 65536
        half = 0x7C00u;
    } else if (magnitude >= 0x38800000u) { // 2^-14; a carry out of the fraction may reach infinity
        half = shift_to_nearest(magnitude - ((127u - 15u) << 23), 13);
    } else if (magnitude >= 0x33000000u) { // 2^-25, half of the smallest subnormal
        const uint32_t exponent = magnitude >> 23;
        half = shift_to_nearest((magnitude & 0x007FFFFFu) | 0x00800000u, 126u - exponent);
    }
    return (uint16_t)(sign | half);
}

// bfloat16 is the upper half of an f32.
static inline float bf16_widen(uint16_t half) {
    return float_from_bits((uint32_t)half << 16);
}

static inline uint16_t bf16_narrow(float number) {
    const uint32_t bits = float_to_bits(number);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return (uint16_t)((bits >> 16) | 0x0040u);
    }
    // The magnitude stays below 2^31, and a carry may reach infinity, as it should.
    const uint32_t rounded = shift_to_nearest(bits & 0x7FFFFFFFu, 16);
    return (uint16_t)(((bits >> 16) & 0x8000u) | rounded);
}

#endif
