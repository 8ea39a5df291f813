// The types of caches of keys and values.
#ifndef CACHE_GLSL
#define CACHE_GLSL

#include "half.glsl"

#define CACHE_F32 0u
#define CACHE_F16 1u
#define CACHE_BF16 2u

#ifndef CACHE_CONSTANT
#define CACHE_CONSTANT 4
#endif
layout(constant_id = CACHE_CONSTANT) const uint CACHE = CACHE_F32;

float from_half(uint bits) {
    return CACHE == CACHE_F16 ? half_to_float(bits) : bfloat_to_float(bits);
}

// The 16 bits that are stored for the bits of an f32, as 32: the base has no arithmetic of 16.
uint to_half(uint bits) {
    return CACHE == CACHE_F16 ? f16_narrow(bits) : bf16_narrow(bits);
}

#endif
