// FNV-1a with 64 bits (Fowler, Noll and Vo; IETF draft-eastlake-fnv), the same on every machine.
// One step is a bijection of the state, so two inputs that differ in one byte never have the same
// hash. It guards against damage, not against an adversary.
#ifndef WEIR_BASE_HASH_H
#define WEIR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BEGIN UINT64_C(0xCBF29CE484222325)
#define HASH_PRIME UINT64_C(0x00000100000001B3)

static inline uint64_t hash_bytes(uint64_t hash, const void* bytes, size_t byte_size) {
    const uint8_t* at = bytes;
    for (size_t i = 0; i < byte_size; i++) {
        hash = (hash ^ at[i]) * HASH_PRIME;
    }
    return hash;
}

// A number counts as its eight bytes, the lowest first.
static inline uint64_t hash_u64(uint64_t hash, uint64_t number) {
    for (unsigned i = 0; i < 8; i++) {
        hash = (hash ^ ((number >> (8 * i)) & 0xFF)) * HASH_PRIME;
    }
    return hash;
}

#endif
