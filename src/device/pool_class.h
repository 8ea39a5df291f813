// Size classes of a pool: the sizes (8 + k) * 2^e bytes for k of 0..7, and 1..7 bytes.
//
// A request of s bytes with (8 + k - 1) * 2^e < s <= (8 + k) * 2^e gets at most 2^e - 1 bytes too
// many and has more than 8 * 2^e of its own, hence
//
//     class - s < s / 8
#ifndef WEIR_DEVICE_POOL_CLASS_H
#define WEIR_DEVICE_POOL_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#define POOL_CLASS_COUNT 496 // the last holds 15 * 2^60 bytes

// Returns the bytes of a class.
static inline uint64_t pool_class_bytes(uint32_t index) {
    return index < 8 ? index : (uint64_t)(8 + index % 8) << (index / 8 - 1);
}

// Finds the smallest class that holds `byte_size` bytes; false when there is none.
static inline bool pool_class_of(uint64_t byte_size, uint32_t* index) {
    const uint64_t size = byte_size > 0 ? byte_size : 1;
    if (size > (uint64_t)15 << 60) {
        return false;
    }
    // size / 2^exponent lies in [8, 16), or below 8 for the smallest sizes.
    const uint32_t exponent = size < 16 ? 0 : 60 - (uint32_t)__builtin_clzll(size);
    // Rounding up may give 16: that is 8 of the next exponent, and the same number.
    const bool rounded = (size & (((uint64_t)1 << exponent) - 1)) != 0;
    *index = 8 * exponent + (uint32_t)(size >> exponent) + (rounded ? 1 : 0);
    return true;
}

#endif
