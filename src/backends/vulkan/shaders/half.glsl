// Rounding to numbers of 16 bits as src/tensor/half.h does it, by integer arithmetic alone.
#ifndef HALF_GLSL
#define HALF_GLSL

// Rounds mantissa * 2^-shift to the nearest even; 1 <= shift <= 31.
uint shift_to_nearest(uint mantissa, uint shift) {
    const uint odd = (mantissa >> shift) & 1u;
    return (mantissa + (1u << (shift - 1u)) - 1u + odd) >> shift;
}

// The f16 of a magnitude in the bits of f32.
uint narrow_magnitude(uint magnitude) {
    if (magnitude > 0x7F800000u) {
        return 0x7E00u | ((magnitude >> 13) & 0x1FFu);
    }
    if (magnitude >= 0x47800000u) { // 65536
        return 0x7C00u;
    }
    if (magnitude >= 0x38800000u) { // 2^-14
        return shift_to_nearest(magnitude - ((127u - 15u) << 23), 13u);
    }
    if (magnitude >= 0x33000000u) { // 2^-25
        return shift_to_nearest((magnitude & 0x007FFFFFu) | 0x00800000u,
                                126u - (magnitude >> 23));
    }
    return 0u;
}

uint f16_narrow(uint bits) {
    return ((bits >> 16) & 0x8000u) | narrow_magnitude(bits & 0x7FFFFFFFu);
}

uint bf16_narrow(uint bits) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return (bits >> 16) | 0x0040u;
    }
    return ((bits >> 16) & 0x8000u) | shift_to_nearest(bits & 0x7FFFFFFFu, 16u);
}

#endif
