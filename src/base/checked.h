// Arithmetic on sizes and offsets that says when it overflows: each returns false on overflow.
#ifndef WEIR_BASE_CHECKED_H
#define WEIR_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool add_u64(uint64_t a, uint64_t b, uint64_t* sum) {
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t* product) {
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool mul_i64(int64_t a, int64_t b, int64_t* product) {
    return !__builtin_mul_overflow(a, b, product);
}

// Rounds up to a multiple of `step` (>= 1, any value).
static inline bool align_u64(uint64_t offset, uint64_t step, uint64_t* aligned) {
    const uint64_t rest = offset % step;
    return add_u64(offset, rest == 0 ? 0 : step - rest, aligned);
}

#endif
