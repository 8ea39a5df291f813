// Exponentials of four numbers at a time, and the gate that is made of them.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_EXP_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_EXP_H

#include <math.h>

#include "backends/cpu/kernels/cpu_vector.h"

typedef int32_t cpu_i32x4 __attribute__((vector_size(16)));
typedef uint32_t cpu_u32x4 __attribute__((vector_size(16)));

static inline cpu_f32x4 cpu_all(float number) {
    return (cpu_f32x4){number, number, number, number};
}

// `a` where the mask is set, `b` elsewhere.
static inline cpu_f32x4 cpu_pick(cpu_i32x4 mask, cpu_f32x4 a, cpu_f32x4 b) {
    cpu_i32x4 x;
    cpu_i32x4 y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x = (x & mask) | (y & ~mask);
    memcpy(&a, &x, sizeof a);
    return a;
}

// e^x with an error of at most 2 units in the last place (held by test_cpu_vector) for x from -87
// to 88; what lies outside gives the number at that end, a NaN a NaN.
//
// x = n ln 2 + r, |r| <= ln 2 / 2: e^x = 2^n e^r (Cody and Waite 1980). e^r is 1 + r + r^2 p(r),
// where p interpolates (e^r - 1 - r) / r^2 at the Chebyshev nodes of the interval: the error of
// that alone is 1e-8.
static inline cpu_f32x4 cpu_exp(cpu_f32x4 x) {
    const cpu_f32x4 magic = cpu_all(0x1.8p23f); // added, it leaves the nearest whole number
    x = cpu_pick(x < cpu_all(-87.0f), cpu_all(-87.0f), x);
    x = cpu_pick(x > cpu_all(88.0f), cpu_all(88.0f), x);
    const cpu_f32x4 shifted = x * cpu_all(0x1.715476p+0f) + magic;
    const cpu_f32x4 n = shifted - magic;
    const cpu_f32x4 r = (x - n * cpu_all(0x1.62e4p-1f)) - n * cpu_all(0x1.7f7d1cp-20f);
    cpu_f32x4 p = cpu_all(0x1.6d10fcp-10f);
    p = p * r + cpu_all(0x1.120b62p-7f);
    p = p * r + cpu_all(0x1.55551ap-5f);
    p = p * r + cpu_all(0x1.5554dep-3f);
    p = p * r + cpu_all(0.5f);
    p = (p * (r * r) + r) + cpu_all(1.0f);
    // The low bits of `shifted` are n; as an exponent they are 2^n, n from -126 to 127.
    cpu_u32x4 bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127u << 23);
    cpu_f32x4 power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// y = silu(gate) * up = gate / (1 + e^-gate) * up; y may be gate or up.
static inline void cpu_silu_gate(const float* gate, const float* up, int64_t count, float* y) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const cpu_f32x4 z = cpu_load(gate + i);
        // e^-z is without end where cpu_exp stops: the gate is then -0, however large z is.
        const cpu_f32x4 e = cpu_pick(z < cpu_all(-88.0f), cpu_all(INFINITY), cpu_exp(-z));
        cpu_store(y + i, z / (cpu_all(1.0f) + e) * cpu_load(up + i));
    }
    if (i < count) { // the same arithmetic for what is left
        float z[4] = {0};
        float v[4] = {0};
        memcpy(z, gate + i, (size_t)(count - i) * sizeof(float));
        memcpy(v, up + i, (size_t)(count - i) * sizeof(float));
        cpu_silu_gate(z, v, 4, z);
        memcpy(y + i, z, (size_t)(count - i) * sizeof(float));
    }
}

#endif
