// Four floats at a time, in the vector form that gcc and clang share, and dot products on them.
//
// A dot product is always summed in the same order: eight running sums, the element with index i
// in sum i mod 8; these are added pairwise; what is left over at the end follows one by one.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_VECTOR_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

typedef float cpu_f32x4 __attribute__((vector_size(16)));

// Loads and stores need the alignment of a float only.
static inline cpu_f32x4 cpu_load(const float* source) {
    cpu_f32x4 x;
    memcpy(&x, source, sizeof x);
    return x;
}

static inline void cpu_store(float* target, cpu_f32x4 x) {
    memcpy(target, &x, sizeof x);
}

static inline float cpu_finish_dot(cpu_f32x4 low, cpu_f32x4 high, const float* x, const float* w,
                                   int64_t left) {
    const cpu_f32x4 both = low + high;
    float sum = (both[0] + both[2]) + (both[1] + both[3]);
    for (int64_t i = 0; i < left; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

static inline float cpu_dot(const float* x, const float* w, int64_t count) {
    cpu_f32x4 low = {0};
    cpu_f32x4 high = {0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        low += cpu_load(x + i) * cpu_load(w + i);
        high += cpu_load(x + i + 4) * cpu_load(w + i + 4);
    }
    return cpu_finish_dot(low, high, x + i, w + i, count - i);
}

// Four products with one x: eight independent chains of additions hide their latency.
static inline void cpu_dot4(const float* x, const float* const w[4], int64_t count, float sums[4]) {
    const float* const a = w[0];
    const float* const b = w[1];
    const float* const c = w[2];
    const float* const d = w[3];
    cpu_f32x4 a_low = {0}, a_high = {0}, b_low = {0}, b_high = {0};
    cpu_f32x4 c_low = {0}, c_high = {0}, d_low = {0}, d_high = {0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const cpu_f32x4 low = cpu_load(x + i);
        const cpu_f32x4 high = cpu_load(x + i + 4);
        a_low += low * cpu_load(a + i);
        a_high += high * cpu_load(a + i + 4);
        b_low += low * cpu_load(b + i);
        b_high += high * cpu_load(b + i + 4);
        c_low += low * cpu_load(c + i);
        c_high += high * cpu_load(c + i + 4);
        d_low += low * cpu_load(d + i);
        d_high += high * cpu_load(d + i + 4);
    }
    sums[0] = cpu_finish_dot(a_low, a_high, x + i, a + i, count - i);
    sums[1] = cpu_finish_dot(b_low, b_high, x + i, b + i, count - i);
    sums[2] = cpu_finish_dot(c_low, c_high, x + i, c + i, count - i);
    sums[3] = cpu_finish_dot(d_low, d_high, x + i, d + i, count - i);
}

#endif
