// What the 4-bit codes of types with a table of values stand for.
#ifndef WEIR_TENSOR_DTYPE_VALUES_H
#define WEIR_TENSOR_DTYPE_VALUES_H

#include <stdint.h>

#include "tensor/half.h"

// IQ4_NL and IQ4_XS: closer together where weights are frequent.
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

// MXFP4: twice the E2M1 numbers, which makes them integers; minus zero is plain zero.
static const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Half of the power of two that an E8M0 exponent stands for (OCP Microscaling Formats v1.0, 5.4.1):
// 2^(exponent - 127) / 2, and NaN for 255. The two smallest are subnormal numbers.
static inline float e8m0_half(uint8_t exponent) {
    const uint32_t small = 0x00200000u << (exponent & 1);
    const uint32_t normal = (uint32_t)(exponent - 1) << 23;
    return float_from_bits(exponent == 255 ? 0x7FC00000u : exponent < 2 ? small : normal);
}

#endif
